//! `verify record`: runs on each interpreter that the project records for, and says what was written and what was
//! refused.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Project, Status, interpreters, nothing_to_run, settings};
use crate::book;
use crate::check::SessionPlan;
use crate::cli;
use crate::conditions::Conditions;
use crate::diagnose::Reason;
use crate::interpreter::{Interpreter, Request};
use crate::kept;
use crate::record::{self, Draft, PassedOver, Written};
use crate::report::Event;
use crate::report::human::count;
use crate::schedule;
use crate::sinks::{Sinks, stdout};
use crate::state::LastRun;

/// `verify record`
pub fn record(arguments: &cli::Record) -> Result<Status> {
    schedule::watch_signals()?;
    if arguments.report.format != cli::Format::Human || arguments.report.output.is_some() {
        bail!(
            "`verify record` tells people what it wrote, and has no `--format` or `--output`: for a report, run `verify` with them afterwards"
        );
    }
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
    // Recordings of examples that are gone can be removed without a Python.
    let requests = if plans.is_empty() {
        Vec::new()
    } else {
        requests(arguments, &project)
    };
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
    let changed = std::mem::take(&mut draft.changed);
    let whole = project.whole_pages();
    let prune = project.is_whole();
    let written = draft.write(
        &project.book,
        &project.config,
        &project.recordings,
        &whole,
        prune,
    )?;
    if plans.is_empty() && written.is_nothing() && arguments.run.shard.is_none() {
        return Ok(nothing_to_run(&project));
    }
    tell_removed(&project, &written, &whole, &mut out)?;
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
    let recorded = changed
        .iter()
        .filter(|at| !written.has_passed_over(&project.book.pages[at.0]));
    writeln!(
        out,
        "recorded {}: {} and {} written, {} refused, {failed} failed",
        count(recorded.count(), "example"),
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

/// Without `--python` the versions that the project records for; the first of them is the base.
fn requests(arguments: &cli::Record, project: &Project) -> Vec<Option<Request>> {
    if !arguments.run.python.is_empty() || project.config.python.is_empty() {
        return interpreters(&arguments.run.python);
    }
    let versions = project.config.python.iter();
    versions
        .map(|version| Some(Request::parse(version)))
        .collect()
}

impl Project {
    /// Two recorders at once would each write what the other has not seen. Says as well whether it had to
    /// wait for another one.
    fn lock_recording(&self) -> Result<(fs::File, bool)> {
        let directory = self.config.cache_directory();
        kept::make(&directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
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
}

/// Names the files and, where a recording stays, the entries of it that belong to no example any more.
fn tell_removed(
    project: &Project,
    written: &Written,
    whole: &[bool],
    out: &mut dyn Write,
) -> io::Result<()> {
    let here = std::env::current_dir()
        .and_then(|path| path.canonicalize())
        .unwrap_or_default();
    for file in &written.removed {
        writeln!(out, "removed {}", book::display_name(file, &here))?;
    }
    for ((page, recording), is_whole) in project
        .book
        .pages
        .iter()
        .zip(&project.recordings)
        .zip(whole)
    {
        let Some(file) = &page.recording else {
            continue;
        };
        if !is_whole || written.has_passed_over(page) || written.removed.contains(file) {
            continue;
        }
        for id in record::orphaned_entries(page, recording) {
            writeln!(out, "removed {}: {id}", book::display_name(file, &here))?;
        }
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
