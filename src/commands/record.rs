//! `verify record`: runs on each interpreter that the project records for, and says what was written and what was
//! refused.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
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
use crate::legible::one_line;
use crate::record::{self, Draft, Kept, PassedOver, Written};
use crate::report::Event;
use crate::report::human::{count, visible};
use crate::schedule;
use crate::sinks::{self, Sinks, stdout};
use crate::state::{self, LastRun};

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
    let (plans, _) = project.plans(&arguments.part)?;
    if plans.is_empty() && !project.selection.is_everything() {
        return Ok(nothing_to_run(&project));
    }
    // Recordings of examples that are gone can be removed without a Python.
    let requests = if plans.is_empty() {
        Vec::new()
    } else {
        requests(arguments, &project)
    };
    let mut interpreters = project.interpreters(&requests, &arguments.run)?;
    // The others are recorded as what differs from the base.
    interpreters.sort_by_key(|interpreter| !project.can_be_base(interpreter));
    let prune = project.is_whole();
    let orphaned = if prune {
        record::orphaned_files(&project.book, &project.config)
    } else {
        Vec::new()
    };
    let mut draft = Draft::new(project.recordings.clone(), orphaned);
    let mut failed = 0;
    for (number, interpreter) in interpreters.iter().enumerate() {
        let is_base = number == 0 && project.can_be_base(interpreter);
        failed += project.record_on(
            (interpreter, is_base),
            &plans,
            (&arguments.run, arguments.portable),
            &mut draft,
            &mut sinks,
        )?;
    }
    unless_unheard(sinks.finish())?;
    if schedule::interrupted() {
        bail!(schedule::Interrupted);
    }
    let whole = project.whole_pages();
    let written = draft.write(
        &project.book,
        &project.config,
        &project.recordings,
        &whole,
        prune,
    )?;
    state::forget_failed(
        &project.config.cache_directory(),
        &draft.settled(&project.book, &written),
    );
    if plans.is_empty() && written.is_nothing() && arguments.part.shard.is_none() {
        return Ok(nothing_to_run(&project));
    }
    let is_good = draft.refused.is_empty() && failed == 0 && written.passed_over.is_empty();
    tell(
        &project,
        &draft,
        &written,
        &whole,
        failed,
        &mut stdout(arguments.report.color),
    )?;
    Ok(if is_good {
        Status::Good
    } else {
        Status::Failed
    })
}

/// Whoever read our output may have seen enough, which is no reason to record less. What is said at the end finds it
/// out.
fn unless_unheard(told: io::Result<()>) -> io::Result<()> {
    match told {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told,
    }
}

/// Says what was refused and what was written.
fn tell(
    project: &Project,
    draft: &Draft,
    written: &Written,
    whole: &[bool],
    failed: usize,
    out: &mut dyn Write,
) -> Result<()> {
    for refusal in &draft.refused {
        refuse(project, refusal, out)?;
    }
    for (at, (_, id)) in &draft.heirs {
        let page = &project.book.pages[at.0];
        let example = &page.examples[at.1];
        writeln!(
            out,
            "{}:{} ({}) takes over the wildcards of {}",
            one_line(&page.name),
            example.block.line,
            one_line(&example.id),
            one_line(id)
        )?;
    }
    tell_removed(project, draft, written, whole, out)?;
    for (page, line) in &written.without_output {
        writeln!(
            out,
            "removed the output below {}:{line}, which prints nothing",
            one_line(page)
        )?;
    }
    for (page, reason) in &written.passed_over {
        let reason = match reason {
            PassedOver::ChangedMeanwhile => {
                "was changed meanwhile and is left alone; record it again"
            }
            PassedOver::RecordedMeanwhile => {
                "has a recording that was changed meanwhile and is left alone with it; record it again"
            }
            PassedOver::ReadOnly => {
                "is left alone: it or its recording is read-only; make both writable and record it again"
            }
            PassedOver::CannotShow => {
                "cannot show its outputs where its examples stand and is left alone; move them out of lists and quotes, or print something else"
            }
        };
        writeln!(out, "{} {reason}", one_line(page))?;
    }
    let recorded = draft
        .changed
        .iter()
        .filter(|at| !written.has_passed_over(&project.book.pages[at.0]));
    let (recordings, pages) = (
        count(written.recordings, "recording"),
        count(written.pages, "page"),
    );
    let what = match written.files {
        0 => format!("{recordings} and {pages}"),
        files => format!("{recordings}, {pages} and {}", count(files, "file")),
    };
    writeln!(
        out,
        "recorded {}: {what} written, {} refused, {failed} failed",
        count(recorded.count(), "example"),
        draft.refused.len()
    )?;
    Ok(())
}

/// Without `--python` the versions that the project records for.
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
        let file = directory.join("record.lock");
        // Another user's can be locked as well.
        let file = fs::File::create(&file)
            .or_else(|error| fs::File::open(&file).map_err(|_| error))
            .with_context(|| {
                format!(
                    "cannot write in `{}`; make it yours, or remove it",
                    directory.display()
                )
            })?;
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
                    sinks::stderr(),
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
        (interpreter, is_base): (&Interpreter, bool),
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
            let mut on_event = |event: &Event<'_>| unless_unheard(sinks.before_pages(event));
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
            unless_unheard(sinks.failures(page, &failed))?;
        }
        let first = results.span.clone();
        let mut again = |plans: &[SessionPlan], conditions: &Conditions| {
            self.again(interpreter, plans, conditions, &settings, &last_run, &first)
        };
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

    /// Whether recordings made with this interpreter can be the base: it has the first configured version, or any does.
    fn can_be_base(&self, interpreter: &Interpreter) -> bool {
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

/// Names the files that stay or go though no page has them and, where a recording stays, the entries of it that belong
/// to no example any more.
fn tell_removed(
    project: &Project,
    draft: &Draft,
    written: &Written,
    whole: &[bool],
    out: &mut dyn Write,
) -> io::Result<()> {
    let here = std::env::current_dir()
        .and_then(|path| path.canonicalize())
        .unwrap_or_default();
    let name = |file: &Path| one_line(&book::display_name(file, &here));
    for (file, reason) in &written.kept {
        let file = name(file);
        match reason {
            Kept::MayBeNeeded => writeln!(
                out,
                "kept {file}, whose wildcards may be those of an example that is not recorded yet"
            )?,
            Kept::Unfilled(directory) => {
                let directory = name(directory);
                writeln!(
                    out,
                    "kept {file}, since no page at all is in `{directory}`, which may still have to be checked out or generated; remove it by hand if its page is gone for good"
                )?;
            }
        }
    }
    for file in &written.removed {
        writeln!(out, "removed {}", name(file))?;
    }
    for (number, page) in project.book.pages.iter().enumerate() {
        let (recording, now) = (&project.recordings[number], &draft.recordings[number]);
        let Some(file) = &page.recording else {
            continue;
        };
        if !whole[number] || written.has_passed_over(page) || written.removed.contains(file) {
            continue;
        }
        let orphaned = record::orphaned_entries(page, recording);
        for id in orphaned.iter().filter(|id| now.entry(id).is_none()) {
            writeln!(out, "removed {}: {}", name(file), one_line(id))?;
        }
    }
    Ok(())
}

fn refuse(project: &Project, refusal: &record::Refusal, out: &mut dyn Write) -> io::Result<()> {
    let page = &project.book.pages[refusal.at.0];
    let example = &page.examples[refusal.at.1];
    let bad = anstyle::AnsiColor::Red.on_default().bold();
    writeln!(
        out,
        "{bad}refused{bad:#}: {}:{} ({})",
        one_line(&page.name),
        example.block.line,
        one_line(&example.id)
    )?;
    match &refusal.reason {
        Reason::FailedAgain(what) => writeln!(out, "  {}\n", visible(what)),
        Reason::Unstable(diagnosis) => {
            writeln!(
                out,
                "  its output varies from run to run: {}",
                diagnosis.cause.words()
            )?;
            for (first, second) in diagnosis.lines.iter().take(5) {
                writeln!(out, "  - {}", visible(first))?;
                writeln!(out, "  + {}", visible(second))?;
            }
            writeln!(out, "  {}\n", diagnosis.advice)
        }
    }
}
