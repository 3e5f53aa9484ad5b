//! A session while it runs: saves its examples as files, has them run, and judges what comes back.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::SessionPlan;
use super::runner::{Again, Runner};
use crate::attributes::OwnLimits;
use crate::book::{self, Page};
use crate::compare;
use crate::config::{Limits, Output};
use crate::console;
use crate::doctest::{self, Flags};
use crate::example::{Example, Kind};
use crate::host::{Host, Running, Snapshot, Start, UnitOutcome};
use crate::normalize::Context;
use crate::outcome::{Ending, Outcome};
use crate::protocol::{
    self, Form, Mode, Observed, ProcessLimits, Program, Source, Statement, TYPED, Unit,
};
use crate::recording::{Recorded, Recording};
use crate::report::ExampleResult;
use crate::sandbox;
use crate::scratch::Scratch;
use crate::verdict::{self, Failure, Terms, Verdict};

/// Bytes of a session's source that are compiled before it starts. What a person writes on a page is less, and the
/// compiler's time and memory are nobody's limit there.
const MOST_COMPILED: usize = 256 * 1024;

/// How many examples a session is given at once: about what it gets through before it has to wait. What it does not
/// get to is sent again.
const MOST_AT_ONCE: usize = 32;

/// Bytes of source that it is given at once.
const MOST_SENT: usize = 64 * 1024;

/// A session while it runs.
pub(super) struct Session<'r, 'a> {
    runner: &'r Runner<'r, 'a>,
    host: &'r Host,
    snapshot: Option<&'r Snapshot>,
    page: &'a Page,
    recording: &'a Recording,
    /// Behind the last entry of it that was looked for: entries follow their page.
    next_recorded: usize,
    /// In page order.
    examples: Vec<&'a Example>,
    /// The last of them that runs in the interpreter.
    last: Option<usize>,
    /// What holds for all of its examples, which share processes and a directory.
    limits: Limits,
    /// Names of files that examples of the page are written to.
    taken: HashSet<&'a str>,
    pub(super) scratch: PathBuf,
    directory: &'r Path,
    tenant: u64,
    /// The files in `directory`; what an example did to it is no error of ours.
    files: Scratch,
    /// Whether an example of it looks as if it used the network.
    own_network: bool,
    stage: Stage,
    running: Option<Running>,
    /// Why the next example cannot be run.
    fault: Option<String>,
    /// What examples behind the last one that was asked for have done already.
    ahead: VecDeque<UnitOutcome>,
    saved: Saved<'a>,
    /// Nothing is written: it is only asked what would be run.
    rehearses: bool,
    pub(super) context: Context,
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// None of its processes was started yet.
    New,
    Begun,
    /// The last example has been sent, with which the interpreter ends.
    Finished,
}

/// Files that examples were saved as, with the examples.
#[derive(Default)]
struct Saved<'a> {
    files: Vec<(PathBuf, &'a Example)>,
    /// How many of them run by themselves.
    modules: usize,
    /// Whether one of those looks as if it started processes that read it again.
    spawns: bool,
}

impl<'a> Saved<'a> {
    fn add(&mut self, path: PathBuf, example: &'a Example) {
        if is_module(example) {
            self.modules += 1;
            self.spawns |= spawns_processes(example);
        }
        self.files.push((path, example));
    }

    fn truncate(&mut self, count: usize) {
        let mut files = std::mem::take(&mut self.files);
        files.truncate(count);
        *self = Saved::default();
        for (path, example) in files {
            self.add(path, example);
        }
    }

    /// The examples that were saved as files and run, so far.
    fn modules(&self) -> impl Iterator<Item = &'a Example> {
        let examples = self.files.iter().map(|(_, example)| *example);
        examples.filter(|example| is_module(example))
    }
}

/// Whether an example looks as if it started processes that read it again.
fn spawns_processes(example: &Example) -> bool {
    ["multiprocessing", "concurrent.futures", "ProcessPool"]
        .iter()
        .any(|word| example.source().contains(word))
}

/// Whether an example is a file that runs from its first line to its last, with nothing to do for it before or behind.
fn is_plain(example: &Example) -> bool {
    let attributes = &example.attributes;
    let runs_whole = match &example.kind {
        Kind::Module(comments) => comments.are_none(),
        Kind::Transcript(_) | Kind::Console(_) | Kind::File(_) => false,
    };
    runs_whole
        && attributes.norun.is_none()
        && attributes.stdin.is_none()
        && attributes.env.is_empty()
        && attributes.artifacts.is_empty()
        && attributes.raises.is_none()
        && attributes.exits.is_none()
}

/// What of an example's unit does not depend on the session.
fn unit(example: &Example, mode: Mode, path: PathBuf, last: bool) -> Unit {
    let attributes = &example.attributes;
    let name = match mode {
        Mode::Interactive { .. } => "".into(),
        Mode::Module { .. } | Mode::Parse => path.file_name().unwrap_or_default().to_string_lossy(),
    };
    Unit {
        argv: std::iter::once(name.into_owned())
            .chain(attributes.args.iter().cloned())
            .collect(),
        environment: attributes.env.clone(),
        stdin: None,
        source: example.source().to_owned(),
        mode,
        raises: attributes.raises.clone(),
        may_end_early: attributes.exits.is_some(),
        last,
        session_file: None,
        path,
    }
}

fn is_module(example: &Example) -> bool {
    matches!(example.kind, Kind::Module(_)) && example.attributes.norun.is_none()
}

impl<'r, 'a> Session<'r, 'a> {
    pub(super) fn open(
        runner: &'r Runner<'r, 'a>,
        (host, snapshot): (&'r Host, Option<&'r Snapshot>),
        plan: &SessionPlan,
        directory: &'r Path,
    ) -> Result<Session<'r, 'a>> {
        let page = &runner.run.book.pages[plan.page];
        let scratch = directory.join("project");
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make `{}`", scratch.display()))?;
        let context = Context {
            scratch: scratch.to_string_lossy().into_owned(),
            ..Context::default()
        };
        Ok(Session {
            runner,
            host,
            snapshot,
            page,
            recording: &runner.run.recordings[plan.page],
            next_recorded: 0,
            last: plan.examples.iter().rposition(|&at| {
                runner.runs_in_python(&page.examples[at], runner.is_probe(plan, at))
            }),
            limits: runner.run.config.limits.with(
                plan.all()
                    .iter()
                    .map(|&at| page.examples[at].attributes.limits)
                    .fold(OwnLimits::default(), OwnLimits::shared),
            ),
            taken: page
                .examples
                .iter()
                .filter_map(|example| example.attributes.file.as_deref())
                .collect(),
            examples: plan.examples.iter().map(|&at| &page.examples[at]).collect(),
            files: Scratch::open(directory)
                .with_context(|| format!("cannot open `{}`", directory.display()))?,
            scratch,
            directory,
            tenant: host.new_number(),
            own_network: plan
                .examples
                .iter()
                .any(|&at| sandbox::uses_network(page.examples[at].source())),
            stage: Stage::New,
            running: None,
            fault: None,
            ahead: VecDeque::new(),
            saved: Saved::default(),
            rehearses: false,
            context,
        })
    }

    pub(super) fn example(&self, step: usize) -> &'a Example {
        self.examples[step]
    }

    /// What running each of its examples would depend on, and how many files they are saved as by then. Leaves behind
    /// the names of those files.
    pub(super) fn rehearse(&mut self) -> (Vec<Vec<u8>>, Vec<usize>) {
        self.rehearses = true;
        let rehearsed = (0..self.examples.len())
            .map(|step| (self.input(step), self.saved.files.len()))
            .unzip();
        self.rehearses = false;
        rehearsed
    }

    /// All that running an example depends on besides those before it; empty where it is not run.
    fn input(&mut self, step: usize) -> Vec<u8> {
        let example = self.examples[step];
        // Probes leave no traces.
        let is_probe = false;
        if self.runner.reason_to_skip(example, is_probe).is_some() {
            return Vec::new();
        }
        let runs = match &example.kind {
            Kind::File(path) => {
                self.write_file(example, path);
                protocol::encode(&("file", path, example.source()))
            }
            Kind::Console(_) if self.why_not_run(example).is_some() => return Vec::new(),
            Kind::Console(_) => {
                protocol::encode(&("console", &example.attributes.env, example.source()))
            }
            Kind::Module(_) | Kind::Transcript(_) => {
                protocol::encode(&("python", self.unit(example, self.last == Some(step))))
            }
        };
        let limits = (self.own_network, self.limits, self.limits(example));
        protocol::encode(&(runs, &example.attributes.artifacts, limits))
    }

    /// Goes on at a step, in the process that has run the examples before it, if one has, with so many files that they
    /// are saved as. The directory is as it was then.
    pub(super) fn go_on(
        &mut self,
        running: Option<Running>,
        step: usize,
        saved: usize,
    ) -> Result<()> {
        self.stage = if step == 0 { Stage::New } else { Stage::Begun };
        self.running = running;
        self.saved.truncate(saved);
        fs::create_dir_all(&self.scratch)?;
        self.files = Scratch::open(self.directory)?;
        Ok(())
    }

    /// Its process, if another example can run in it.
    pub(super) fn lend(&mut self) -> Option<Running> {
        self.running
            .take_if(|running| self.fault.is_none() && running.is_alive())
    }

    pub(super) fn take_back(&mut self, running: Running) {
        self.running = Some(running);
    }

    /// The text of what it has run.
    pub(super) fn sources(&self) -> impl Iterator<Item = &'a str> {
        let files = self.saved.files.iter();
        files.map(|(_, example)| example.source())
    }

    pub(super) fn files_saved(&self) -> usize {
        self.saved.files.len()
    }

    /// Whether somebody stopped the run, so that what the last example did may not be its own doing.
    pub(super) fn was_stopped(&self) -> bool {
        self.runner.run.is_stopped()
    }

    /// Why it has to run again, if it does.
    pub(super) fn again(&self) -> Option<Again> {
        let running = self.running.as_ref()?;
        if running.died_idle() {
            return Some(Again::NeverBegan);
        }
        running.untrue().map(|_| Again::Untrue)
    }

    /// Whether no process of it can live any more.
    pub(super) fn is_gone(&self) -> bool {
        let is_console = |example: &&Example| matches!(example.kind, Kind::Console(_));
        match &self.running {
            Some(running) => running.is_gone() && !self.examples.iter().any(is_console),
            None => self.stage == Stage::New,
        }
    }

    /// What its process has read, as far as that has said so.
    pub(super) fn read_so_far(&self) -> Option<&Observed> {
        self.running.as_ref()?.read_so_far()
    }

    /// What it read, or why that is not known.
    pub(super) fn watched(
        &self,
        results: &[ExampleResult<'_>],
    ) -> std::result::Result<Observed, String> {
        let is_console = |result: &ExampleResult<'_>| {
            matches!(result.example.kind, Kind::Console(_)) && result.outcome.is_some()
        };
        // Of a shell nobody knows what it read.
        if results.iter().any(is_console) {
            return Err("it has a console block".to_owned());
        }
        let Some(running) = &self.running else {
            return Ok(Observed::default());
        };
        let observed = running.observed().cloned();
        observed.ok_or_else(|| "its interpreter did not shut down in order".to_owned())
    }

    /// Whether the interpreter is gone although examples were to follow.
    pub(super) fn is_cut_off(&self) -> bool {
        self.stage != Stage::Finished
            && self.ahead.is_empty()
            && self
                .running
                .as_ref()
                .is_some_and(|running| !running.is_alive())
    }

    pub(super) fn run(&mut self, step: usize) -> Result<Option<Outcome>> {
        let example = self.examples[step];
        Ok(match &example.kind {
            Kind::File(path) => {
                self.write_file(example, path);
                None
            }
            Kind::Console(_) if self.why_not_run(example).is_some() => None,
            Kind::Console(commands) => Some(self.run_console(example, commands)?),
            Kind::Module(_) | Kind::Transcript(_) => Some(self.run_python(step)?),
        })
    }

    /// Why the commands of a console block are only shown.
    fn why_not_run<'e>(&self, example: &'e Example) -> Option<&'e str> {
        if !self.runner.run.config.console {
            return Some("console blocks run only where `verify.toml` says `console = true`");
        }
        example.attributes.norun.as_deref()
    }

    /// What is to be said of an example that was not skipped.
    pub(super) fn judge(
        &mut self,
        example: &Example,
        outcome: Option<Outcome>,
    ) -> (Verdict, Option<Outcome>) {
        let Some(outcome) = outcome else {
            let verdict = match &example.kind {
                Kind::Console(_) => Verdict::Illustrative {
                    reason: self.why_not_run(example).unwrap_or_default().to_owned(),
                },
                _ => Verdict::Ran,
            };
            return (verdict, None);
        };
        let recorded = self.recorded(&example.id);
        let expected = recorded.map(|recorded| recorded.expected_for(&self.runner.version));
        let config = self.runner.run.config;
        let must_be_recorded = self.page.recording.is_some();
        let terms = Terms {
            recorded: expected.as_ref(),
            base: recorded.map(|recorded| &recorded.expected),
            must_be_recorded,
            carries_output: config.output == Output::Page && must_be_recorded,
            doctest: config.doctest,
            context: &self.context,
        };
        let mut verdict = verdict::judge(example, &outcome, &terms);
        if matches!(verdict, Verdict::Verified | Verdict::Ran)
            && let Some(other) = self.judge_artifacts(&outcome)
        {
            verdict = other;
        }
        (verdict, Some(outcome))
    }

    fn recorded(&mut self, id: &str) -> Option<&'a Recorded> {
        let entries = &self.recording.examples;
        let (before, behind) = entries.split_at(self.next_recorded);
        let found = behind
            .iter()
            .chain(before)
            .position(|entry| entry.id == id)?;
        let at = (self.next_recorded + found) % entries.len();
        self.next_recorded = at + 1;
        entries.get(at)
    }

    /// Its process, if it begins with an example that runs in one.
    pub(super) fn begun(&self) -> Result<Option<Running>> {
        let first = self.examples.first();
        let runs = |example: &&&Example| self.runner.runs_in_python(example, false);
        first.filter(runs).map(|_| self.begin(0)).transpose()
    }

    /// Has its process already.
    pub(super) fn go_on_in(&mut self, running: Running) {
        self.stage = Stage::Begun;
        self.running = Some(running);
    }

    /// Starts the process that runs its examples from this step on.
    fn begin(&self, step: usize) -> Result<Running> {
        self.host.session(Start {
            directory: self.directory,
            tenant: self.tenant,
            is_first: self.stage == Stage::New,
            scratch: &self.scratch,
            limits: ProcessLimits::of(&self.limits),
            program: Program::Python,
            own_network: self.own_network,
            may_stay: self.runner.traces.is_some(),
            snapshot: self.snapshot,
            sources: self.forecast(step),
        })
    }

    fn run_python(&mut self, step: usize) -> Result<Outcome> {
        let example = self.examples[step];
        if let Some(done) = self.ahead.pop_front() {
            let path = self.file(self.saved.modules);
            self.saved.add(path, example);
            return Ok(outcome(done, Vec::new()));
        }
        if self.running.is_none() {
            self.running = Some(self.begin(step)?);
            self.stage = Stage::Begun;
        }
        let mut units = vec![self.unit(example, self.last == Some(step))];
        if let Some(reason) = self.fault.take() {
            return Ok(lost(reason));
        }
        units.extend(self.units_behind(step));
        let (all, limits) = (units.len(), self.limits(example));
        let ends = units.last().is_some_and(|unit| unit.last);
        let running = self.running.as_mut().expect("started above");
        let done = running.run(units, limits, self.runner.run.stop);
        if ends && done.len() == all {
            self.stage = Stage::Finished;
        }
        self.ahead = done.into();
        let first = self.ahead.pop_front().expect("it has begun");
        Ok(outcome(first, self.artifacts(example)))
    }

    /// What the session can go on with by itself behind this step: examples that nothing is to be done for, or looked
    /// at, before the next one.
    fn units_behind(&self, step: usize) -> Vec<Unit> {
        let first = self.examples[step];
        let limits = self.limits(first);
        // A checkpoint is taken behind any of them.
        let waits = self.runner.traces.is_some();
        if waits || !is_plain(first) || self.saved.spawns || !Running::may_go_on_under(&limits) {
            return Vec::new();
        }
        let goes_on = |example: &&&Example| {
            is_plain(example)
                && !spawns_processes(example)
                && self.limits(example) == limits
                && self.runner.reason_to_skip(example, false).is_none()
        };
        let mut bytes = first.source().len();
        let fits = |example: &&&Example| {
            bytes += example.source().len();
            bytes <= MOST_SENT
        };
        let behind = self.examples[step + 1..].iter().take(MOST_AT_ONCE - 1);
        let behind = behind.take_while(goes_on).take_while(fits);
        let unit = |(offset, example): (usize, &&Example)| {
            let path = self.file(self.saved.modules + offset);
            let mode = Mode::Module {
                boundaries: Vec::new(),
                values: Vec::new(),
            };
            unit(example, mode, path, self.last == Some(step + 1 + offset))
        };
        behind.enumerate().map(unit).collect()
    }

    fn not_skipped<'s>(
        &self,
        statements: &'s [doctest::Statement],
    ) -> impl Iterator<Item = &'s doctest::Statement> {
        let flags = self.runner.run.config.doctest;
        statements
            .iter()
            .filter(move |statement| !statement.options.apply(flags).contains(Flags::SKIP))
    }

    /// What the interpreter will be given from this step on, for a host that compiles it. It is only a forecast.
    fn forecast(&self, step: usize) -> Vec<Source> {
        if self.snapshot.is_none() || self.rehearses {
            return Vec::new();
        }
        let mut sources = Vec::new();
        let mut add = |path: PathBuf, text: &str, form| {
            let text = text.to_owned();
            sources.push(Source { path, text, form });
        };
        let mut modules = self.saved.modules;
        let mut bytes = 0;
        for example in &self.examples[step..] {
            let attributes = &example.attributes;
            bytes += example.source().len();
            if bytes > MOST_COMPILED {
                break;
            }
            if attributes.norun.is_some() || self.runner.reason_to_skip(example, false).is_some() {
                continue;
            }
            match &example.kind {
                Kind::Module(comments) => {
                    // Others are taken to pieces, which starts from the text.
                    if comments.are_none() {
                        let path = self.file(modules);
                        add(path, example.source(), Form::Module);
                    }
                    modules += 1;
                }
                Kind::Transcript(statements) => {
                    for statement in self.not_skipped(statements) {
                        add(TYPED.into(), &statement.source, Form::Statement);
                    }
                }
                Kind::Console(_) | Kind::File(_) => {}
            }
        }
        sources
    }

    fn unit(&mut self, example: &'a Example, last: bool) -> Unit {
        let attributes = &example.attributes;
        let mode = match &example.kind {
            _ if attributes.norun.is_some() => Mode::Parse,
            Kind::Transcript(statements) => Mode::Interactive {
                statements: self
                    .not_skipped(statements)
                    .map(|statement| Statement {
                        source: statement.source.clone(),
                        line: statement.line,
                    })
                    .collect(),
            },
            Kind::Module(comments) => Mode::Module {
                boundaries: comments
                    .printed
                    .iter()
                    .map(|run| run.lines.end - 1)
                    .collect(),
                values: comments.values.iter().map(|(line, _)| *line).collect(),
            },
            Kind::Console(_) | Kind::File(_) => unreachable!("these do not run in the interpreter"),
        };
        let mut path = self.file(self.saved.modules);
        let mut session_file = None;
        match mode {
            Mode::Module { .. } => {
                self.write(&path, example.source().as_bytes());
                self.saved.add(path.clone(), example);
                session_file = self.session_file();
            }
            Mode::Parse => {
                // A name of its own, by which a syntax error is traced to the page.
                path = self
                    .scratch
                    .join(format!("norun_{}.py", self.saved.files.len()));
                self.saved.add(path.clone(), example);
            }
            Mode::Interactive { .. } => {}
        }
        let stdin = match &attributes.stdin {
            None => None,
            Some(text) => {
                let path = self.directory.join("stdin");
                self.write(&path, text.as_bytes());
                Some(path)
            }
        };
        Unit {
            stdin,
            session_file,
            ..unit(example, mode, path, last)
        }
    }

    /// The file of an example that so many others run before: `example.py` for the first of a session, then
    /// `example_2.py` and so on; never a name that a `file=` block has.
    fn file(&self, modules: usize) -> PathBuf {
        let mut name = if modules == 0 {
            "example.py".to_owned()
        } else {
            format!("example_{}.py", modules + 1)
        };
        while self.taken.contains(name.as_str()) {
            name.insert(0, '_');
        }
        self.scratch.join(name)
    }

    /// Children that `multiprocessing` spawns run the main file again. From the second example on that
    /// has to be the session so far, or they would miss what earlier examples defined.
    fn session_file(&mut self) -> Option<PathBuf> {
        if self.saved.modules < 2 || !self.saved.spawns {
            return None;
        }
        let modules: Vec<&Example> = self.saved.modules().collect();
        // A name of its own for each: `forkserver` keeps the first one it has seen.
        let path = self.directory.join(format!("session_{}.py", modules.len()));
        let (current, earlier) = modules.split_last().expect("there are two");
        let mut text = String::new();
        for example in earlier
            .iter()
            .filter(|e| e.attributes.raises.is_none() && e.attributes.exits.is_none())
        {
            text.push_str(example.source());
            text.push('\n');
        }
        text.push_str(current.source());
        self.write(&path, text.as_bytes());
        Some(path)
    }

    fn run_console(&mut self, example: &Example, commands: &[console::Command]) -> Result<Outcome> {
        if let Some(reason) = self.fault.take() {
            return Ok(lost(reason));
        }
        let host = self.host;
        let program = host
            .find_program("bash")
            .or_else(|| host.find_program("sh"))
            .context("no `bash` or `sh` was found for console blocks; install one")?;
        let mut script = String::new();
        for (name, value) in &example.attributes.env {
            script.push_str(&format!(
                "export {name}='{}'\n",
                value.replace('\'', "'\\''")
            ));
        }
        script.push_str(&console::script(commands));
        let mut shell = host.session(Start {
            directory: self.directory,
            tenant: self.tenant,
            is_first: self.stage == Stage::New,
            scratch: &self.scratch,
            limits: ProcessLimits::of(&self.limits),
            program: Program::Shell { program, script },
            own_network: self.own_network,
            may_stay: false,
            snapshot: None,
            sources: Vec::new(),
        })?;
        self.stage = self.stage.max(Stage::Begun);
        let done = shell.run_shell(commands.len(), self.limits(example), self.runner.run.stop);
        Ok(outcome(done, self.artifacts(example)))
    }

    fn limits(&self, example: &Example) -> Limits {
        let own = example.attributes.limits;
        self.limits.with(OwnLimits {
            timeout: own.timeout.or(self.runner.run.settings.timeout),
            output: own.output,
            ..OwnLimits::default()
        })
    }

    fn write_file(&mut self, example: &'a Example, name: &str) {
        let path = self.scratch.join(name);
        if path.exists() && !self.rehearses {
            // Python takes cached bytecode for current when size and second of a file are the same.
            if let Some(parent) = path.parent() {
                let _ = fs::remove_dir_all(parent.join("__pycache__"));
            }
        }
        let before = self.fault.take();
        self.write(&path, example.source().as_bytes());
        // A file has no verdict. The example that comes next has one, and has to say where the fault is.
        let place = format!("{}:{}", self.page.name, example.block.line);
        let fault = self.fault.take().map(|fault| format!("{place}: {fault}"));
        self.fault = before.or(fault);
        self.saved.add(path, example);
    }

    /// Writes a file below the session's directory. If an earlier example made that impossible, the next one
    /// fails, and says so.
    fn write(&mut self, path: &Path, bytes: &[u8]) {
        if self.rehearses {
            return;
        }
        let name = path.strip_prefix(self.directory).unwrap_or(path);
        if let Err(error) = self.files.write(name, bytes) {
            let name = path.strip_prefix(&self.scratch).unwrap_or(name).display();
            self.fault = Some(format!(
                "`{name}` cannot be written to the session's directory: {error}"
            ));
        }
    }

    fn artifacts(&self, example: &Example) -> Vec<(String, Option<Vec<u8>>)> {
        example
            .attributes
            .artifacts
            .iter()
            .map(|name| {
                let path = self.scratch.join(name);
                let path = path.strip_prefix(self.directory).unwrap_or(&path);
                (name.clone(), self.files.read(path).ok())
            })
            .collect()
    }

    fn judge_artifacts(&self, outcome: &Outcome) -> Option<Verdict> {
        let recording = self.page.recording.as_ref()?;
        for (name, bytes) in &outcome.artifacts {
            let Some(bytes) = bytes else {
                continue;
            };
            let Ok(expected) = fs::read(book::artifact_path(recording, name)) else {
                return Some(Verdict::Unrecorded);
            };
            if let Some(difference) = compare::artifact_matches(name, &expected, bytes) {
                return Some(Verdict::Failed(Failure::Differs(vec![difference])));
            }
        }
        None
    }

    /// The traceback of an exception, with the example's files and lines replaced by those of the page.
    pub(super) fn traceback(&self, outcome: &Outcome) -> Option<String> {
        let exception = match &outcome.ending {
            Ending::Raised(exception) => exception,
            _ => outcome
                .steps
                .iter()
                .find_map(|step| step.exception.as_ref())?,
        };
        if exception.traceback.is_empty() {
            return None;
        }
        Some(self.with_page_lines(&exception.traceback))
    }

    fn with_page_lines(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, example) in &self.saved.files {
            let frame = format!("File \"{}\", line ", path.display());
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(at) = rest.find(&frame) {
                let (before, behind) = (&rest[..at], &rest[at + frame.len()..]);
                let digits = behind.len()
                    - behind
                        .trim_start_matches(|c: char| c.is_ascii_digit())
                        .len();
                let line = behind[..digits].parse::<usize>().unwrap_or(1);
                out.push_str(before);
                let page_line = example.block.code_line + line.max(1) - 1;
                out.push_str(&format!("File \"{}\", line {page_line}", self.page.name));
                rest = &behind[digits..];
            }
            out.push_str(rest);
            text = out;
        }
        text
    }
}

/// What an example did: what its unit did, and the files that it made.
fn outcome(done: UnitOutcome, artifacts: Vec<(String, Option<Vec<u8>>)>) -> Outcome {
    Outcome {
        stdout: done.stdout,
        stderr: done.stderr,
        ending: done.ending,
        steps: done.steps,
        artifacts,
        duration: done.duration,
    }
}

/// The outcome of an example that could not be run.
fn lost(reason: String) -> Outcome {
    Outcome {
        stdout: Vec::new(),
        stderr: Vec::new(),
        ending: Ending::Lost { reason },
        steps: Vec::new(),
        artifacts: Vec::new(),
        duration: Duration::ZERO,
    }
}
