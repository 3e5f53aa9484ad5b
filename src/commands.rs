//! One function per subcommand: from what was typed to an exit status.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};

use crate::attributes::Need;
use crate::book::{Book, Keyword, Page, Problem, Selection, Source};
use crate::cache::{self, Cache, Terms, Unchanged};
use crate::check::{self, Recordings, Results, SessionPlan, Settings};
use crate::cli;
use crate::compare;
use crate::conditions::{Conditions, Factor};
use crate::config::{self, Config, Sandbox};
use crate::diagnose::Reason;
use crate::digest::Digest;
use crate::environment::{self, Progress};
use crate::example::{Example, Kind};
use crate::interpreter::{self, Interpreter, Request};
use crate::merge;
use crate::outcome::Ending;
use crate::proof::{self, Proof};
use crate::protocol::Protections;
use crate::record::{self, Draft, PassedOver};
use crate::recording::{self, Recording};
use crate::report::human::{Human, count};
use crate::report::{Event, Finished, Listener, Reporter as _, Shard, Started, Summary};
use crate::schedule;
use crate::shard;
use crate::sinks::{Sinks, stdout};
use crate::state::{self, Durations, LastRun};
use crate::unchanged::{self, Shortcut};
use crate::verdict::{Failure, Verdict};

/// How a command ended, where nothing kept it from doing its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Good,
    /// An example is not as expected.
    Failed,
    /// Pages, recordings or their configuration have mistakes.
    Problems,
    NothingToRun,
}

/// `verify [PATH…]`
pub fn check(arguments: cli::Check) -> Result<Status> {
    schedule::watch_signals()?;
    let mut arguments = arguments;
    if arguments.run.shard.is_none() {
        arguments.run.shard = shard::from_environment(&|name| std::env::var_os(name))?;
    }
    let arguments = &arguments;
    let pythons = interpreters(&arguments.run.python);
    let config = Project::config(&arguments.selection)?;
    let settings = settings(&arguments.run, &config);
    let open = |interpreter: &Interpreter| {
        unchanged::open(&Terms {
            config: &config,
            interpreter,
            strict: settings.strict,
            timeout: settings.timeout,
            sandbox: (settings.sandbox, &settings.readable),
        })
    };
    let mut shortcut = may_pass_over(arguments, &settings)
        .then(|| Shortcut::open(&config, &pythons, !arguments.run.no_sync, &open))
        .flatten();
    let mut project = Project::load_where(config.clone(), &arguments.selection, &mut |source| {
        shortcut.as_mut().is_none_or(|known| !known.takes(source))
    })?;
    if let Some(target) = &arguments.explain {
        project.select(target);
    }
    let explains = arguments.explain.is_some();
    let mut sinks = Sinks::new(&arguments.report, pythons.len() > 1, explains)?;
    if !project.problems.is_empty() {
        sinks.event(&Event::Problems(&project.problems))?;
        sinks.finish()?;
        return Ok(Status::Problems);
    }
    let (plans, shard) = project.plans(&arguments.run)?;
    // A shard without a session has a report as well, or it would be taken for missing.
    let is_part = shard.is_some() && arguments.report.format == cli::Format::Json;
    if plans.is_empty() && project.book.unread.is_empty() && !is_part {
        return Ok(nothing_to_check(&project, &arguments.run));
    }
    let mut total = Summary::default();
    let mut orphaned = false;
    for (number, request) in pythons.iter().enumerate() {
        let (interpreter, cache) = match &mut shortcut {
            Some(shortcut) => {
                let (interpreter, cache) = &shortcut.interpreters[number];
                (interpreter.clone(), Some(cache.clone()))
            }
            None => {
                let interpreter = project.interpreter(request.as_ref(), &arguments.run)?;
                let cache = (!everything_runs(arguments, &settings))
                    .then(|| open(&interpreter))
                    .flatten();
                (interpreter, cache)
            }
        };
        let unchanged = shortcut
            .as_ref()
            .map_or_else(Vec::new, |shortcut| shortcut.said_of(&project.book, number));
        let on = On {
            interpreter: &interpreter,
            cache: cache.as_ref(),
            unchanged: &unchanged,
            shard: shard.as_ref(),
        };
        let finished = if arguments.doubt.probe_skips {
            project.probe_on(&on, &plans, &settings, &mut sinks)?
        } else if let Some(runs) = arguments.doubt.shake {
            let shaking = (runs, arguments.doubt.portable);
            project.shake_on(&on, &plans, &settings, shaking, &mut sinks)?
        } else {
            project.check_on(&on, &plans, &settings, &mut sinks)?
        };
        total.add(&finished.summary);
        orphaned |= finished.orphaned;
        if settings.fail_fast && total.failures() > 0 {
            break;
        }
    }
    sinks.finish()?;
    let failed = total.failures() > 0 || (orphaned && arguments.run.strict);
    if plans.is_empty() && total.total() == 0 {
        return Ok(nothing_to_check(&project, &arguments.run));
    }
    Ok(if failed { Status::Failed } else { Status::Good })
}

/// Whether what stands on a page and in its recording decides, together with what holds for all pages.
fn depends_on_its_text(page: &Page) -> bool {
    let needs_more = |example: &Example| {
        let attributes = &example.attributes;
        let is_module = |need: &Need| matches!(need, Need::Module(_));
        !attributes.artifacts.is_empty() || !attributes.requires.iter().all(is_module)
    };
    !page.examples.iter().any(needs_more)
}

/// Whether results of earlier runs are neither taken nor kept: a doubt is about what passes, and `strict`
/// asks for protections that hold, of which only a session that is started is proof.
fn everything_runs(arguments: &cli::Check, settings: &Settings) -> bool {
    let doubt = &arguments.doubt;
    let doubts = doubt.shake.is_some() || doubt.probe_skips;
    arguments.no_cache || doubts || settings.sandbox == Sandbox::Strict
}

/// Whether pages that are known may stay unread: everything is asked for, and the report tells of a page
/// that passed no more than its counts.
fn may_pass_over(arguments: &cli::Check, settings: &Settings) -> bool {
    let selection = &arguments.selection;
    let is_everything = selection.chapter.is_empty()
        && selection.section.is_empty()
        && selection.example.is_empty()
        && selection.keyword.is_none()
        && selection.changed.is_none()
        && !selection.failed
        && arguments.explain.is_none()
        && arguments.run.shard.is_none();
    let tells_counts = matches!(
        arguments.report.format,
        cli::Format::Human | cli::Format::Github
    ) && !arguments.report.verbose;
    !everything_runs(arguments, settings) && is_everything && tells_counts
}

/// `verify record`
pub fn record(arguments: &cli::Record) -> Result<Status> {
    schedule::watch_signals()?;
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
        && !arguments.in_ci
    {
        bail!(
            "`CI` is set, where recording would hide what a check is for; pass `--in-ci` to record all the same"
        );
    }
    let mut project = Project::load(&arguments.selection)?;
    let (_lock, waited) = project.lock_recording()?;
    if waited {
        // What the other one has written is news to us.
        project = Project::load(&arguments.selection)?;
    }
    let mut sinks = Sinks::new(&arguments.report, false, false)?;
    if !project.problems.is_empty() {
        sinks.event(&Event::Problems(&project.problems))?;
        sinks.finish()?;
        return Ok(Status::Problems);
    }
    let (plans, _) = project.plans(&arguments.run)?;
    if plans.is_empty() && !project.selection.is_everything() {
        return Ok(nothing_to_run(&project));
    }
    // Without `--python` the versions that the project records for; the first of them is the base.
    let mut requests = interpreters(&arguments.run.python);
    if arguments.run.python.is_empty() && !project.config.python.is_empty() {
        requests = project
            .config
            .python
            .iter()
            .map(|version| Some(Request::parse(version)))
            .collect();
    }
    let mut draft = Draft::new(project.recordings.clone());
    let mut failed = 0;
    for request in &requests {
        let interpreter = project.interpreter(request.as_ref(), &arguments.run)?;
        failed += project.record_on(
            &interpreter,
            &plans,
            (&arguments.run, arguments.portable),
            &mut draft,
            &mut sinks,
        )?;
    }
    sinks.finish()?;
    if schedule::interrupted() {
        bail!(schedule::Interrupted);
    }
    let mut out = stdout(arguments.report.color);
    let refused = std::mem::take(&mut draft.refused);
    for refusal in &refused {
        refuse(refusal, &mut out)?;
    }
    let changed = draft.changed.len();
    let whole = project.whole_pages();
    let prune = project.is_whole();
    let written = draft.write(
        &project.book,
        &project.config,
        &project.recordings,
        &whole,
        prune,
    )?;
    for file in &written.removed {
        writeln!(out, "removed {}", file.display())?;
    }
    for (page, reason) in &written.passed_over {
        let reason = match reason {
            PassedOver::ChangedMeanwhile => {
                "was changed meanwhile and is left alone; record it again"
            }
            PassedOver::CannotShow => {
                "cannot show its outputs where its examples stand and is left alone; move them out of lists and quotes, or print something else"
            }
        };
        writeln!(out, "{page} {reason}")?;
    }
    writeln!(
        out,
        "recorded {}: {} and {} written, {} refused, {failed} failed",
        count(changed, "example"),
        count(written.recordings, "recording"),
        count(written.pages, "page"),
        refused.len()
    )?;
    Ok(
        if refused.is_empty() && failed == 0 && written.passed_over.is_empty() {
            Status::Good
        } else {
            Status::Failed
        },
    )
}

/// `verify list`
pub fn list(arguments: &cli::List) -> Result<Status> {
    let project = Project::load(&arguments.selection)?;
    let mut out = io::stdout().lock();
    let mut listed_any = false;
    for page in &project.book.pages {
        let mut entries: Vec<(usize, serde_json::Value)> = Vec::new();
        for example in &page.examples {
            if project.selection.contains(page, example) {
                let entry = listed(page, example, project.config.console);
                entries.push((example.block.line, entry));
            }
        }
        // The blocks that are no examples belong to no section or id; they are shown with whole pages.
        if entries.len() == page.examples.len() {
            for other in &page.others {
                let becomes = match other.output_of {
                    Some(line) => format!("output of line {line}"),
                    None if other.language.is_empty() => "not Python".to_owned(),
                    None => format!("not Python: {}", other.language),
                };
                entries.push((
                    other.line,
                    serde_json::json!({
                        "page": page.name, "line": other.line, "language": other.language, "becomes": becomes,
                    }),
                ));
            }
        }
        entries.sort_by_key(|(line, _)| *line);
        listed_any |= !entries.is_empty();
        for (line, entry) in entries {
            if arguments.format == cli::ListFormat::Json {
                writeln!(out, "{entry}")?;
                continue;
            }
            let id = entry["id"].as_str().unwrap_or("-");
            writeln!(
                out,
                "{}:{line}  {id}  {}",
                page.name,
                entry["becomes"].as_str().unwrap_or_default()
            )?;
        }
    }
    for problem in &project.problems {
        writeln!(anstream::stderr(), "error: {problem}")?;
    }
    if !project.problems.is_empty() {
        return Ok(Status::Problems);
    }
    Ok(if listed_any {
        Status::Good
    } else {
        nothing_to_run(&project)
    })
}

/// `verify show TARGET`
pub fn show(arguments: &cli::Show) -> Result<Status> {
    schedule::watch_signals()?;
    let mut project = Project::load_all()?;
    project.select(&arguments.target);
    let mut out = stdout(arguments.color);
    if !project.problems.is_empty() {
        Human::default().event(&Event::Problems(&project.problems), &mut out)?;
        return Ok(Status::Problems);
    }
    let (plans, _) = project.plans(&arguments.run)?;
    if plans.is_empty() {
        return Ok(nothing_to_run(&project));
    }
    let settings = settings(&arguments.run, &project.config);
    let last_run = LastRun::default();
    let mut status = Status::Good;
    for request in interpreters(&arguments.run.python) {
        let interpreter = project.interpreter(request.as_ref(), &arguments.run)?;
        let results = project.run(&interpreter, &plans, &settings, &last_run, &mut |_| Ok(()))?;
        let version = check::version(&interpreter);
        for page in &results.pages {
            for result in &page.examples {
                if result.verdict.is_failure() {
                    status = Status::Failed;
                }
                let recorded = project.recordings[page.number]
                    .examples
                    .iter()
                    .find(|recorded| recorded.id == result.example.id);
                shown(
                    result,
                    &interpreter,
                    recorded
                        .map(|recorded| recorded.expected_for(&version))
                        .as_ref(),
                    &mut out,
                )?;
            }
        }
    }
    Ok(status)
}

/// `verify init`
pub fn init(arguments: &cli::Init) -> Result<Status> {
    let file = arguments.directory.join(config::FILE_NAME);
    let mut options = fs::OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .open(&file)
        .and_then(|mut new| new.write_all(config::TEMPLATE.as_bytes()));
    match written {
        Ok(()) => {
            writeln!(
                io::stdout(),
                "wrote {}; now `verify record` records what your examples print",
                file.display()
            )?;
            Ok(Status::Good)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!(
                "`{}` exists already; edit it, or remove it first",
                file.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot write `{}`", file.display())),
    }
}

/// `verify merge FILE…`
pub fn merge(arguments: &cli::Merge) -> Result<Status> {
    let reports = arguments
        .reports
        .iter()
        .map(|file| {
            let name = file.display().to_string();
            let text = fs::read_to_string(file).with_context(|| format!("cannot read `{name}`"))?;
            Ok((name, text))
        })
        .collect::<Result<Vec<_>>>()?;
    let merged = merge::read(&reports)?;
    let mut sinks = Sinks::new(&arguments.report, merged.has_several_runs(), false)?;
    let total = merged.tell(&mut |event| sinks.event(event))?;
    sinks.finish()?;
    if let Some(file) = &arguments.durations {
        total.durations.save(file)?;
    }
    if total.summary.total() == 0 {
        writeln!(anstream::stderr(), "error: nothing was run in any shard")?;
        return Ok(Status::NothingToRun);
    }
    let failed = total.summary.failures() > 0 || (total.orphaned && arguments.strict);
    Ok(if failed { Status::Failed } else { Status::Good })
}

/// `verify clean`
pub fn clean(arguments: &cli::Clean) -> Result<Status> {
    let config = Config::find(&arguments.directory)?;
    let directory = cache::directory(&config.cache_directory());
    match fs::remove_dir_all(&directory) {
        Ok(()) => writeln!(io::stdout(), "removed {}", directory.display())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(io::stdout(), "nothing was kept in {}", directory.display())?;
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot remove `{}`", directory.display()));
        }
    }
    Ok(Status::Good)
}

/// A book with everything that is known of it before anything runs.
pub(crate) struct Project {
    pub(crate) config: Config,
    pub(crate) book: Book,
    pub(crate) recordings: Recordings,
    /// Of each page with its recording, as the cache knows it.
    texts: Vec<Digest>,
    pub(crate) selection: Selection,
    pub(crate) problems: Vec<Problem>,
    /// Paths were typed, so that pages may be missing from `book`.
    partial: bool,
}

/// What a check runs on.
struct On<'a> {
    interpreter: &'a Interpreter,
    cache: Option<&'a Cache>,
    /// What is to be said of the unread pages.
    unchanged: &'a [Unchanged],
    shard: Option<&'a Shard>,
}

struct Checked {
    summary: Summary,
    orphaned: bool,
}

impl On<'_> {
    /// Tells what a run starts with, the unread pages included.
    fn start(&self, started: &Started<'_>, sinks: &mut Sinks) -> io::Result<()> {
        let held = self.unchanged.iter();
        let held = held.filter_map(|page| page.protections.as_ref());
        let held = held.chain(started.protections);
        let protections = held.fold(None, Protections::weaker);
        sinks.event(&Event::Started(&Started {
            pages: started.pages + self.pages_with_examples(),
            examples: started.examples + self.summary().total(),
            protections: protections.as_ref(),
            interpreter: started.interpreter,
            shard: self.shard,
        }))
    }

    /// As [`Sinks::before_pages`].
    fn before_pages(&self, event: &Event<'_>, sinks: &mut Sinks) -> io::Result<()> {
        match event {
            Event::Started(started) => self.start(started, sinks),
            _ => sinks.before_pages(event),
        }
    }

    fn pages_with_examples(&self) -> usize {
        let pages = self.unchanged.iter();
        pages.filter(|page| page.summary.total() > 0).count()
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for page in self.unchanged {
            summary.add(&page.summary);
        }
        summary
    }
}

impl Project {
    pub(crate) fn load_all() -> Result<Project> {
        Project::load(&cli::Selection {
            paths: Vec::new(),
            chapter: Vec::new(),
            section: Vec::new(),
            example: Vec::new(),
            keyword: None,
            changed: None,
            failed: false,
        })
    }

    pub(crate) fn load(arguments: &cli::Selection) -> Result<Project> {
        let config = Project::config(arguments)?;
        Project::load_where(config, arguments, &mut |_| true)
    }

    fn config(arguments: &cli::Selection) -> Result<Config> {
        let missing: Vec<String> = arguments
            .paths
            .iter()
            .filter(|path| !path.exists())
            .map(|path| format!("`{}`", path.display()))
            .collect();
        match missing.as_slice() {
            [] => {}
            [one] => bail!("{one} does not exist"),
            several => bail!("{} do not exist", several.join(", ")),
        }
        let start = arguments
            .paths
            .first()
            .cloned()
            .unwrap_or_else(|| PathBuf::from("."));
        Config::find(&start)
    }

    fn load_where(
        config: Config,
        arguments: &cli::Selection,
        is_wanted: &mut dyn FnMut(&Source) -> bool,
    ) -> Result<Project> {
        let book = Book::read_where(&config, &arguments.paths, is_wanted)?;
        let keyword = arguments
            .keyword
            .as_deref()
            .map(Keyword::parse)
            .transpose()
            .map_err(anyhow::Error::msg)?;
        let mut selection = Selection {
            chapters: arguments.chapter.clone(),
            sections: arguments.section.clone(),
            examples: arguments.example.clone(),
            keyword,
            pages: None,
            failed: None,
        };
        if let Some(revision) = &arguments.changed {
            selection.pages = Some(changed_pages(&config, &book, revision)?);
        }
        if arguments.failed {
            selection.failed = Some(LastRun::failed(&config.cache_directory()));
        }
        let mut problems = book.problems.clone();
        let (mut recordings, mut texts) = (Vec::new(), Vec::new());
        for page in &book.pages {
            let (bytes, recording, problem) = read_recording(page);
            texts.push(Cache::text_of(page.text.as_bytes(), bytes.as_deref()));
            recordings.push(recording);
            problems.extend(problem);
        }
        let partial = !arguments.paths.is_empty();
        Ok(Project {
            config,
            book,
            recordings,
            texts,
            selection,
            problems,
            partial,
        })
    }

    /// Selects a section by its number, or an example.
    fn select(&mut self, target: &str) {
        let is_section = target
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_section {
            self.selection.sections.push(target.to_owned());
        } else {
            self.selection.examples.push(target.to_owned());
        }
    }

    /// The sessions to run, and which shard of them that is.
    pub(crate) fn plans(&self, run: &cli::Run) -> Result<(Vec<SessionPlan>, Option<Shard>)> {
        let plans = check::plan(&self.book, &self.config, &self.selection);
        let Some(part) = run.shard else {
            return Ok((plans, None));
        };
        let durations = run.durations.as_deref().map(Durations::load).transpose()?;
        let (plans, shard) = shard::split(&self.book, plans, durations.as_ref(), part);
        Ok((plans, Some(shard)))
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.selection.is_everything() && !self.partial
    }

    /// For each page, whether all of it is selected.
    fn whole_pages(&self) -> Vec<bool> {
        self.book
            .pages
            .iter()
            .map(|page| {
                page.examples
                    .iter()
                    .all(|example| self.selection.contains(page, example))
            })
            .collect()
    }

    /// The interpreter to run on, with the book's packages.
    pub(crate) fn interpreter(
        &self,
        request: Option<&Request>,
        run: &cli::Run,
    ) -> Result<Interpreter> {
        let cache = self.config.cache_directory();
        let environment = |name: &str| std::env::var_os(name);
        let interpreter = interpreter::discover(request, &self.config.root, &environment, &cache)?;
        let Some(requirements) = self.config.requirements.as_ref().filter(|_| !run.no_sync) else {
            return Ok(interpreter);
        };
        let mut progress = |progress: Progress| {
            let version = &interpreter.full_version;
            let _ = match progress {
                Progress::Waiting => writeln!(
                    io::stderr(),
                    "waiting for another run to provide the packages"
                ),
                Progress::FetchingUv => writeln!(io::stderr(), "fetching uv"),
                Progress::Creating => {
                    writeln!(io::stderr(), "making an environment for Python {version}")
                }
                Progress::Installing { packages } => {
                    writeln!(
                        io::stderr(),
                        "installing {packages} packages for Python {version}"
                    )
                }
                Progress::Done { seconds } => {
                    writeln!(io::stderr(), "environment ready in {seconds:.1}s")
                }
            };
        };
        Ok(environment::provide(
            &interpreter,
            requirements,
            &self.config.root,
            &cache,
            &mut progress,
        )?)
    }

    fn run<'a>(
        &'a self,
        interpreter: &'a Interpreter,
        plans: &'a [SessionPlan],
        settings: &'a Settings,
        last_run: &'a LastRun,
        listener: &mut Listener<'_>,
    ) -> Result<Results<'a>> {
        let run = check::Run {
            book: &self.book,
            config: &self.config,
            interpreter,
            recordings: &self.recordings,
            settings,
            last_run,
            keeping: None,
            stop: None,
        };
        check::run(&run, plans, listener)
    }

    fn check_on(
        &self,
        on: &On<'_>,
        plans: &[SessionPlan],
        settings: &Settings,
        sinks: &mut Sinks,
    ) -> Result<Checked> {
        let start = Instant::now();
        let state = self.config.cache_directory();
        // Long, and of no use where nothing runs.
        let last_run = if plans.is_empty() {
            LastRun::default()
        } else {
            LastRun::read(&state)
        };
        let whole: Vec<bool> = self
            .book
            .pages
            .iter()
            .zip(&self.recordings)
            .map(|(page, recording)| {
                self.selection.is_everything()
                    && on.shard.is_none()
                    && depends_on_its_text(page)
                    && record::orphaned_entries(page, recording).is_empty()
            })
            .collect();
        let run = check::Run {
            book: &self.book,
            config: &self.config,
            interpreter: on.interpreter,
            recordings: &self.recordings,
            settings,
            last_run: &last_run,
            keeping: on.cache.map(|cache| check::Keeping {
                cache,
                texts: &self.texts,
                whole: &whole,
            }),
            stop: None,
        };
        let mut unread = self.book.unread.iter().zip(on.unchanged).peekable();
        let results = check::run(&run, plans, &mut |event| match event {
            Event::Started(started) => on.start(started, sinks),
            Event::Page(page) => {
                while let Some((unread, unchanged)) =
                    unread.next_if(|(unread, _)| unread.before <= page.number)
                {
                    sinks.event(&Event::Unchanged(&unread.name, &unchanged.summary))?;
                }
                sinks.event(event)
            }
            _ => sinks.event(event),
        })?;
        for (page, unchanged) in unread {
            sinks.event(&Event::Unchanged(&page.name, &unchanged.summary))?;
        }
        self.conclude(on, &results, start, sinks)
    }

    /// Checks, then runs everything that passed again and again under other conditions.
    fn shake_on(
        &self,
        on: &On<'_>,
        plans: &[SessionPlan],
        settings: &Settings,
        (runs, portable): (u32, bool),
        sinks: &mut Sinks,
    ) -> Result<Checked> {
        let start = Instant::now();
        let last_run = LastRun::read(&self.config.cache_directory());
        let mut results = self.run(on.interpreter, plans, settings, &last_run, &mut |event| {
            on.before_pages(event, sinks)
        })?;
        let first = Proof::of(&results);
        let mut again = |plans: &[SessionPlan], conditions: &Conditions| {
            self.again(
                on.interpreter,
                plans,
                conditions,
                settings,
                &last_run,
                &first.span,
            )
        };
        let mut unlucky = proof::shake(runs, portable, &self.book, plans, &first, &mut again)?;
        for result in results.pages.iter_mut().flat_map(|page| &mut page.examples) {
            if let Some((run, reason)) = unlucky.remove(&result.at) {
                result.verdict = Verdict::Failed(Failure::ByLuck { run, runs, reason });
            }
        }
        for page in &results.pages {
            sinks.event(&Event::Page(page))?;
        }
        self.conclude(on, &results, start, sinks)
    }

    /// Runs what is skipped here, each example at the end of a session of its own.
    fn probe_on(
        &self,
        on: &On<'_>,
        plans: &[SessionPlan],
        settings: &Settings,
        sinks: &mut Sinks,
    ) -> Result<Checked> {
        let start = Instant::now();
        let last_run = LastRun::default();
        let plans = check::probes(&self.book, plans, &check::version(on.interpreter));
        let settings = Settings {
            probe: true,
            ..settings.clone()
        };
        let mut results = self.run(on.interpreter, &plans, &settings, &last_run, &mut |event| {
            on.before_pages(event, sinks)
        })?;
        for result in results.pages.iter_mut().flat_map(|page| &mut page.examples) {
            result.verdict = check::probed(result.example, &result.verdict);
        }
        for page in &results.pages {
            sinks.event(&Event::Page(page))?;
        }
        let summary = summary(&results);
        sinks.event(&Event::Finished(&Finished {
            interpreter: on.interpreter,
            summary,
            orphans: &[],
            stopped_early: results.stopped_early,
            sessions: results.sessions,
            kept: 0,
            duration: start.elapsed(),
        }))?;
        Ok(Checked {
            summary,
            orphaned: false,
        })
    }

    /// The end of a check: orphans, the summary, and what the next run may know.
    fn conclude(
        &self,
        on: &On<'_>,
        results: &Results<'_>,
        start: Instant,
        sinks: &mut Sinks,
    ) -> Result<Checked> {
        let mut summary = on.summary();
        summary.add(&self::summary(results));
        let state = self.config.cache_directory();
        let orphans = if self.is_whole() {
            self.orphans()
        } else {
            Vec::new()
        };
        let sessions: usize = on.unchanged.iter().map(|page| page.sessions).sum();
        sinks.event(&Event::Finished(&Finished {
            interpreter: on.interpreter,
            summary,
            orphans: &orphans,
            stopped_early: results.stopped_early,
            sessions: sessions + results.sessions,
            kept: sessions + results.kept,
            duration: start.elapsed(),
        }))?;
        state::forget_failures(&state, self.book.unread.iter().map(|page| &page.key));
        if !results.pages.is_empty() {
            let mut next = LastRun::read(&state);
            next.update(&results.pages);
            next.write(&state);
        }
        Ok(Checked {
            summary,
            orphaned: !orphans.is_empty(),
        })
    }

    /// Runs on one interpreter and drafts what to record; returns how many examples failed for good.
    fn record_on(
        &self,
        interpreter: &Interpreter,
        plans: &[SessionPlan],
        (run, portable): (&cli::Run, bool),
        draft: &mut Draft,
        sinks: &mut Sinks,
    ) -> Result<usize> {
        let settings = settings(run, &self.config);
        let last_run = LastRun::read(&self.config.cache_directory());
        let mut hopeless = 0;
        let results = {
            // What recording will settle is not news; what it can't settle is.
            let mut on_event = |event: &Event<'_>| sinks.before_pages(event);
            self.run(interpreter, plans, &settings, &last_run, &mut on_event)?
        };
        for page in &results.pages {
            let failed: Vec<_> = page
                .examples
                .iter()
                .filter(|result| {
                    result.verdict.is_failure() && !record::may_be_recorded(&result.verdict)
                })
                .collect();
            hopeless += failed.len();
            sinks.failures(page, &failed)?;
        }
        let first = results.span.clone();
        let mut again = |plans: &[SessionPlan], conditions: &Conditions| {
            self.again(interpreter, plans, conditions, &settings, &last_run, &first)
        };
        let is_base = self.is_base(interpreter);
        let recorder = record::Recorder {
            book: &self.book,
            config: &self.config,
            interpreter,
            is_base,
            portable,
        };
        draft.take(&recorder, plans, &results, &mut again)?;
        Ok(hopeless)
    }

    /// Runs sessions once more, under other conditions than in the run that took place at `first`.
    fn again(
        &self,
        interpreter: &Interpreter,
        plans: &[SessionPlan],
        conditions: &Conditions,
        settings: &Settings,
        last_run: &LastRun,
        first: &Range<SystemTime>,
    ) -> Result<Proof> {
        if conditions.varies(Factor::Clock) && self.speaks_of_time(plans) {
            wait_for_another_second(first.end);
        }
        let settings = Settings {
            conditions: conditions.clone(),
            fail_fast: false,
            ..settings.clone()
        };
        let results = self.run(interpreter, plans, &settings, last_run, &mut |_| Ok(()))?;
        Ok(Proof::of(&results))
    }

    /// Whether a clock that is read in whole seconds could be in these sessions' outputs.
    fn speaks_of_time(&self, plans: &[SessionPlan]) -> bool {
        plans.iter().any(|plan| {
            let examples = &self.book.pages[plan.page].examples;
            plan.examples.iter().any(|&at| {
                let source = examples[at].source();
                source.contains("time") || source.contains("date")
            })
        })
    }

    /// Whether recordings made with this interpreter are the base: the first configured version, or any.
    fn is_base(&self, interpreter: &Interpreter) -> bool {
        let Some(base) = self.config.python.first() else {
            return true;
        };
        let version = &interpreter.full_version;
        version
            .strip_prefix(base.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    pub(crate) fn orphans(&self) -> Vec<String> {
        let here = std::env::current_dir()
            .and_then(|path| path.canonicalize())
            .unwrap_or_default();
        let name = |file: &Path| crate::book::display_name(file, &here);
        let mut orphans: Vec<String> = record::orphaned_files(&self.book, &self.config)
            .iter()
            .map(|file| name(file))
            .collect();
        for (page, recording) in self.book.pages.iter().zip(&self.recordings) {
            if let Some(file) = &page.recording {
                let entries = record::orphaned_entries(page, recording);
                orphans.extend(entries.iter().map(|id| format!("{}: {id}", name(file))));
            }
        }
        orphans
    }

    /// Two recorders at once would each write what the other has not seen. Says as well whether it had to
    /// wait for another one.
    fn lock_recording(&self) -> Result<(fs::File, bool)> {
        let directory = self.config.cache_directory();
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make `{}`", directory.display()))?;
        let ignore = directory.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n")?;
        }
        let file = fs::File::create(directory.join("record.lock"))
            .with_context(|| format!("cannot write in `{}`", directory.display()))?;
        let mut waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok((file, waited)),
                Err(fs::TryLockError::WouldBlock) if schedule::interrupted() => {
                    bail!(schedule::Interrupted)
                }
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("cannot lock `{}`", directory.display()));
                }
            }
            if !waited {
                writeln!(
                    io::stderr(),
                    "waiting for another `verify record` to finish"
                )?;
            }
            waited = true;
            // Blocking would keep Ctrl-C waiting as well.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub(crate) fn interpreters(typed: &[String]) -> Vec<Option<Request>> {
    if typed.is_empty() {
        return vec![None];
    }
    typed
        .iter()
        .map(|text| Some(Request::parse(text)))
        .collect()
}

fn summary(results: &Results<'_>) -> Summary {
    let mut summary = Summary::default();
    for result in results.pages.iter().flat_map(|page| &page.examples) {
        summary.count(&result.verdict);
    }
    summary
}

fn wait_for_another_second(first: SystemTime) {
    let second = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    let now = SystemTime::now();
    if second(now) == second(first) {
        let next = SystemTime::UNIX_EPOCH + Duration::from_secs(second(first) + 1);
        std::thread::sleep(next.duration_since(now).unwrap_or_default());
    }
}

pub(crate) fn settings(run: &cli::Run, config: &Config) -> Settings {
    Settings {
        jobs: run.jobs.map(usize::from),
        fail_fast: run.fail_fast,
        strict: run.strict,
        timeout: run.timeout,
        conditions: Conditions::default(),
        probe: false,
        sandbox: run.sandbox.unwrap_or(config.sandbox),
        readable: run.readable.clone(),
    }
}

/// Where there are more shards than sessions, the last ones have nothing to do, which is nobody's mistake.
fn nothing_to_check(project: &Project, run: &cli::Run) -> Status {
    let sessions = check::plan(&project.book, &project.config, &project.selection).len();
    match run.shard {
        Some((part, of)) if sessions > 0 => {
            let sessions = count(sessions, "session");
            let _ = writeln!(
                anstream::stderr(),
                "nothing to run in shard {part}/{of}: {sessions} in all"
            );
            Status::Good
        }
        _ => nothing_to_run(project),
    }
}

pub(crate) fn nothing_to_run(project: &Project) -> Status {
    let examples: usize = project
        .book
        .pages
        .iter()
        .map(|page| page.examples.len())
        .sum();
    let message = if project.book.pages.is_empty() {
        format!(
            "no Markdown page was found in `{}`",
            project.config.root.display()
        )
    } else if examples == 0 {
        let pages = count(project.book.pages.len(), "page");
        format!("{pages} without a Python example")
    } else if project.selection.failed.as_ref().is_some_and(Vec::is_empty) {
        "no example failed in the last run".to_owned()
    } else {
        format!(
            "none of {} is selected; `verify list` shows them",
            count(examples, "example")
        )
    };
    let _ = writeln!(anstream::stderr(), "error: nothing to run: {message}");
    Status::NothingToRun
}

pub(crate) fn read_recording(page: &Page) -> (Option<Vec<u8>>, Recording, Option<Problem>) {
    let Some(file) = &page.recording else {
        return (None, Recording::default(), None);
    };
    let problem = |line, message| {
        let here = std::env::current_dir()
            .and_then(|path| path.canonicalize())
            .unwrap_or_default();
        Some(Problem {
            page: crate::book::display_name(file, &here),
            line,
            message,
        })
    };
    let unreadable = |why: &str| {
        problem(
            None,
            format!(
                "cannot be read: {why}; make it readable, or delete it and run `verify record`"
            ),
        )
    };
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return (None, Recording::default(), None);
        }
        Err(error) => {
            return (None, Recording::default(), unreadable(&error.to_string()));
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        let problem = unreadable("stream did not contain valid UTF-8");
        return (None, Recording::default(), problem);
    };
    match recording::parse(text) {
        Ok(recording) => (Some(bytes), recording, None),
        Err(found) => {
            let problem = problem(Some(found.line), found.message);
            (None, Recording::default(), problem)
        }
    }
}

/// Pages that git says differ from a revision, or whose recordings do; untracked files differ too.
fn changed_pages(config: &Config, book: &Book, revision: &str) -> Result<Vec<PathBuf>> {
    let git = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Process::new("git")
            .current_dir(&config.root)
            .args(arguments)
            .output()
            .context("`--changed` asks git, which cannot be started")?;
        if !output.status.success() {
            bail!(
                "`--changed={revision}`: git says: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let top = PathBuf::from(String::from_utf8_lossy(&top).trim());
    let mut names = git(&["diff", "--name-only", "-z", revision, "--"])?;
    names.extend(git(&[
        "ls-files",
        "--others",
        "--exclude-standard",
        "--full-name",
        "-z",
    ])?);
    let changed: Vec<PathBuf> = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| top.join(String::from_utf8_lossy(name).as_ref()))
        .collect();
    let is_changed = |file: &PathBuf| changed.contains(file);
    Ok(book
        .pages
        .iter()
        .filter(|page| is_changed(&page.file) || page.recording.as_ref().is_some_and(is_changed))
        .map(|page| page.file.clone())
        .collect())
}

fn listed(page: &Page, example: &Example, runs_consoles: bool) -> serde_json::Value {
    let attributes = &example.attributes;
    let kind = match &example.kind {
        Kind::Module(_) => "module",
        Kind::Transcript(_) => "transcript",
        Kind::Console(_) => "console",
        Kind::File(_) => "file",
    };
    let mut becomes = match (&attributes.skip, &attributes.norun, &example.kind) {
        (Some(reason), _, _) => format!("skipped: {reason}"),
        (None, Some(reason), _) => format!("not run: {reason}"),
        (None, None, Kind::Module(_)) => "runs".to_owned(),
        (None, None, Kind::Transcript(statements)) => {
            let statements = count(statements.len(), "statement");
            format!("runs as a transcript of {statements}")
        }
        (None, None, Kind::Console(commands)) if runs_consoles => {
            format!("runs {}", count(commands.len(), "command"))
        }
        (None, None, Kind::Console(_)) => {
            "not run: console blocks need `console = true` in `verify.toml`".to_owned()
        }
        (None, None, Kind::File(path)) => format!("is written to {path}"),
    };
    if let Some(name) = &attributes.raises {
        becomes.push_str(&format!(", raises {name}"));
    }
    if let Some(status) = attributes.exits {
        becomes.push_str(&format!(", exits with {status}"));
    }
    if let Some(python) = &attributes.python {
        becomes.push_str(&format!(", on Python {python}"));
    }
    for need in &attributes.requires {
        becomes.push_str(&format!(", needs {need}"));
    }
    serde_json::json!({
        "page": page.name,
        "line": example.block.line,
        "id": example.id,
        "section": example.section,
        "heading": example.heading,
        "kind": kind,
        "becomes": becomes,
        "source": example.source(),
    })
}

fn shown(
    result: &crate::report::ExampleResult<'_>,
    interpreter: &Interpreter,
    recorded: Option<&recording::Expected>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let strong = anstyle::Style::new().bold();
    writeln!(
        out,
        "{strong}{}:{}  {}{strong:#}  {} on Python {}",
        result.page.name,
        result.example.block.line,
        result.example.id,
        result.verdict.word(),
        interpreter.full_version
    )?;
    section(out, "source", result.example.source())?;
    if let Some(outcome) = &result.outcome {
        section(out, "stdout", &compare::lossy(&outcome.stdout))?;
        section(out, "stderr", &compare::lossy(&outcome.stderr))?;
        match &outcome.ending {
            Ending::Raised(exception) => section(out, "exception", &exception.text())?,
            Ending::Exited { status, .. } => section(out, "exit status", &status.to_string())?,
            _ => {}
        }
    }
    if let Some(recorded) = recorded {
        section(out, "recorded stdout", &compare::lossy(&recorded.stdout))?;
        section(out, "recorded stderr", &compare::lossy(&recorded.stderr))?;
        section(
            out,
            "recorded exception",
            recorded.exception.as_deref().unwrap_or_default(),
        )?;
    }
    writeln!(out)
}

fn section(out: &mut dyn Write, name: &str, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {name}:")?;
    for line in text.lines() {
        writeln!(out, "    {}", crate::report::human::visible(line))?;
    }
    Ok(())
}

fn refuse(refusal: &record::Refusal, out: &mut dyn Write) -> io::Result<()> {
    let bad = anstyle::AnsiColor::Red.on_default().bold();
    writeln!(
        out,
        "{bad}refused{bad:#}: {}:{} ({})",
        refusal.page, refusal.line, refusal.id
    )?;
    match &refusal.reason {
        Reason::FailedAgain(what) => writeln!(out, "  {what}\n"),
        Reason::Unstable(diagnosis) => {
            writeln!(
                out,
                "  its output varies from run to run: {}",
                diagnosis.cause.words()
            )?;
            for (first, second) in diagnosis.lines.iter().take(5) {
                writeln!(out, "  - {}", crate::report::human::visible(first))?;
                writeln!(out, "  + {}", crate::report::human::visible(second))?;
            }
            writeln!(out, "  {}\n", diagnosis.advice)
        }
    }
}
