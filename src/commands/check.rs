//! `verify [PATH…]`: a check on each interpreter, and the two that doubt it, `--shake` and `--probe-skips`.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Result, bail};

use super::{Project, Status, interpreters, nothing_to_run, settings};
use crate::attributes::Need;
use crate::book::Page;
use crate::cache::{Cache, Terms, Unchanged};
use crate::check::{self, Results, SessionPlan, Settings};
use crate::cli;
use crate::conditions::Conditions;
use crate::config::Sandbox;
use crate::example::Example;
use crate::interpreter::Interpreter;
use crate::proof::{self, Proof};
use crate::protocol::Protections;
use crate::record;
use crate::report::human::count;
use crate::report::{Event, Finished, Shard, Started, Summary};
use crate::schedule;
use crate::shard;
use crate::sinks::{self, Sinks};
use crate::state::{self, LastRun, Passed};
use crate::unchanged::{self, Shortcut};
use crate::verdict::{Failure, Verdict};

/// `verify [PATH…]`
pub fn check(arguments: cli::Check) -> Result<Status> {
    schedule::watch_signals()?;
    let mut arguments = arguments;
    if arguments.part.shard.is_none() {
        arguments.part.shard = shard::from_environment(&|name| std::env::var_os(name))?;
    }
    let arguments = &arguments;
    let pythons = interpreters(&arguments.run.python);
    if let Some(word) = arguments.selection.paths.first()
        && !word.exists()
        && let Some(command) = cli::nearest_command(&word.to_string_lossy())
    {
        bail!(
            "`{}` does not exist; did you mean `verify {command}`?",
            word.display()
        );
    }
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
    let open_sinks = |has_several| Sinks::new(&arguments.report, has_several, explains);
    if !project.problems.is_empty() {
        let mut sinks = open_sinks(false)?;
        sinks.event(&Event::Problems(&project.problems))?;
        sinks.finish()?;
        return Ok(Status::Problems);
    }
    let (plans, shard) = project.plans(&arguments.part)?;
    // A shard without a session has a report as well, or it would be taken for missing.
    if plans.is_empty() && project.book.unread.is_empty() && shard.is_none() {
        return Ok(nothing_to_check(&project, &arguments.part));
    }
    let interpreters = match &shortcut {
        Some(shortcut) => {
            let known = shortcut.interpreters.iter().cloned();
            known.map(|(python, cache)| (python, Some(cache))).collect()
        }
        None => project
            .interpreters(&pythons, &arguments.run)?
            .into_iter()
            .map(|interpreter| {
                let cache = (!everything_runs(arguments, &settings))
                    .then(|| open(&interpreter))
                    .flatten();
                (interpreter, cache)
            })
            .collect::<Vec<_>>(),
    };
    // Not before it is known that something will be reported: an earlier report would be lost for nothing.
    let mut sinks = open_sinks(interpreters.len() > 1)?;
    let mut total = Summary::default();
    let mut orphaned = false;
    let mut passed = Passed::of(interpreters.len());
    for (number, (interpreter, cache)) in interpreters.iter().enumerate() {
        let unchanged = shortcut
            .as_ref()
            .map_or_else(Vec::new, |shortcut| shortcut.said_of(&project.book, number));
        let on = On {
            interpreter,
            cache: cache.as_ref(),
            unchanged: &unchanged,
            shard: shard.as_ref(),
            is_left_out: settings.fail_fast && total.failures() > 0,
        };
        let plans: &[SessionPlan] = if on.is_left_out { &[] } else { &plans };
        let finished = if arguments.doubt.probe_skips {
            project.probe_on(&on, plans, &settings, &mut sinks)?
        } else if let Some(runs) = arguments.doubt.shake {
            let shaking = (runs, arguments.doubt.portable);
            project.shake_on(&on, plans, &settings, shaking, &mut passed, &mut sinks)?
        } else {
            project.check_on(&on, plans, &settings, &mut passed, &mut sinks)?
        };
        total.add(&finished.summary);
        orphaned |= finished.orphaned;
    }
    sinks.finish()?;
    let failed = total.failures() > 0 || (orphaned && arguments.run.strict);
    if plans.is_empty() && total.total() == 0 {
        return Ok(nothing_to_check(&project, &arguments.part));
    }
    Ok(if failed { Status::Failed } else { Status::Good })
}

/// What a check runs on.
struct On<'a> {
    interpreter: &'a Interpreter,
    cache: Option<&'a Cache>,
    /// What is to be said of the unread pages.
    unchanged: &'a [Unchanged],
    shard: Option<&'a Shard>,
    /// Something failed on an interpreter before it, and that was to be enough.
    is_left_out: bool,
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
    fn check_on(
        &self,
        on: &On<'_>,
        plans: &[SessionPlan],
        settings: &Settings,
        passed: &mut Passed,
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
                    && depends_on_its_text(page, on.interpreter)
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
        self.conclude(on, &results, start, passed, sinks)
    }

    /// Checks, then runs everything that passed again and again under other conditions.
    fn shake_on(
        &self,
        on: &On<'_>,
        plans: &[SessionPlan],
        settings: &Settings,
        (runs, portable): (u32, bool),
        passed: &mut Passed,
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
        self.conclude(on, &results, start, passed, sinks)
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
            stopped_early: results.stopped_early || on.is_left_out,
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
        passed: &mut Passed,
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
            stopped_early: results.stopped_early || on.is_left_out,
            sessions: sessions + results.sessions,
            kept: sessions + results.kept,
            duration: start.elapsed(),
        }))?;
        state::forget_failures(&state, self.book.unread.iter().map(|page| &page.key));
        if !results.pages.is_empty() {
            let mut next = LastRun::read(&state);
            next.update(&results.pages, passed);
            next.write(&state);
        }
        Ok(Checked {
            summary,
            orphaned: !orphans.is_empty(),
        })
    }
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
        && arguments.part.shard.is_none();
    let tells_counts = matches!(
        arguments.report.format,
        cli::Format::Human | cli::Format::Github
    ) && !arguments.report.verbose;
    !everything_runs(arguments, settings) && is_everything && tells_counts
}

/// Whether what stands on a page and in its recording decides, together with what holds for all pages.
fn depends_on_its_text(page: &Page, interpreter: &Interpreter) -> bool {
    let is_known = |need: &Need| {
        matches!(need, Need::Module(_)) && interpreter.added_directories().next().is_none()
    };
    let needs_more = |example: &Example| {
        let attributes = &example.attributes;
        !attributes.artifacts.is_empty() || !attributes.requires.iter().all(is_known)
    };
    !page.examples.iter().any(needs_more)
}

fn summary(results: &Results<'_>) -> Summary {
    let mut summary = Summary::default();
    for result in results.pages.iter().flat_map(|page| &page.examples) {
        summary.count(&result.verdict);
    }
    summary
}

/// Where there are more shards than sessions, the last ones have nothing to do, which is nobody's mistake.
fn nothing_to_check(project: &Project, part: &cli::Part) -> Status {
    let sessions = check::plan(&project.book, &project.config, &project.selection).len();
    match part.shard {
        Some((part, of)) if sessions > 0 => {
            let sessions = count(sessions, "session");
            let _ = writeln!(
                sinks::stderr(),
                "nothing to run in shard {part}/{of}: {sessions} in all"
            );
            Status::Good
        }
        _ => nothing_to_run(project),
    }
}
