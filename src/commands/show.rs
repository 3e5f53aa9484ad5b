//! `verify show TARGET`: all that an example does, beside all that is recorded of it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};

use anyhow::Result;

use super::list::becomes;
use super::{Project, Status, interpreters, nothing_to_run, settings};
use crate::book::{self, At, Page};
use crate::check;
use crate::cli;
use crate::compare;
use crate::config::Config;
use crate::example::Example;
use crate::interpreter::Interpreter;
use crate::legible::one_line;
use crate::outcome::{Ending, Resource};
use crate::recording::Expected;
use crate::report::human::{self, Human};
use crate::report::{Event, ExampleResult, Reporter as _};
use crate::schedule;
use crate::sinks::stdout;
use crate::state::LastRun;
use crate::verdict::Verdict;

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
    let plans = check::plan(&project.book, &project.config, &project.selection);
    if project.selected().next().is_none() {
        return Ok(nothing_to_run(&project));
    }
    let settings = settings(&arguments.run, &project.config);
    let last_run = LastRun::default();
    let mut status = Status::Good;
    let requests = interpreters(&arguments.run.python);
    for interpreter in project.interpreters(&requests, &arguments.run)? {
        let results = project.run(&interpreter, &plans, &settings, &last_run, &mut |_| Ok(()))?;
        let version = check::version(&interpreter);
        let results = results.pages.iter().flat_map(|page| &page.examples);
        let results: HashMap<At, &ExampleResult<'_>> =
            results.map(|result| (result.at, result)).collect();
        for at in project.selected() {
            let page = &project.book.pages[at.0];
            let example = &page.examples[at.1];
            if !check::is_judged(example) {
                not_judged(page, example, &project.config, &mut out)?;
                continue;
            }
            let Some(result) = results.get(&at) else {
                // Another one failed before it, and that was to be enough.
                continue;
            };
            if result.verdict.is_failure() {
                status = Status::Failed;
            }
            shown(result, &interpreter, &mut out)?;
            if let Some(recorded) = project.recordings[at.0].entry(&example.id) {
                self::recorded(&recorded.expected_for(&version), page, &mut out)?;
            }
            writeln!(out)?;
        }
    }
    Ok(status)
}

/// An example without a verdict: it is there for others.
fn not_judged(
    page: &Page,
    example: &Example,
    config: &Config,
    out: &mut dyn Write,
) -> io::Result<()> {
    let becomes = becomes(example, config.console);
    head(page, example, &becomes, out)?;
    section(out, "source", example.source())?;
    writeln!(out)
}

fn shown(
    result: &ExampleResult<'_>,
    interpreter: &Interpreter,
    out: &mut dyn Write,
) -> io::Result<()> {
    let verdict = &result.verdict;
    let why = match verdict {
        Verdict::Failed(_) | Verdict::Unrecorded => format!(": {}", human::headline(verdict)),
        other => human::why(other),
    };
    let (word, version) = (verdict.word(), &interpreter.full_version);
    let becomes = format!("{word} on Python {version}{why}");
    head(result.page, result.example, &becomes, out)?;
    section(out, "source", result.example.source())?;
    human::differences(result, out)?;
    let Some(outcome) = &result.outcome else {
        return Ok(());
    };
    if let Ending::TooMuch {
        of: Resource::Output,
        ..
    } = outcome.ending
    {
        human::streams(outcome, out)?;
    } else {
        section(out, "stdout", &compare::lossy(&outcome.stdout))?;
        section(out, "stderr", &compare::lossy(&outcome.stderr))?;
    }
    match &outcome.ending {
        Ending::Raised(exception) => section(out, "exception", &exception.text())?,
        Ending::Exited { status, .. } => section(out, "exit status", &status.to_string())?,
        // Where it was not to end so, the reason has said how it did.
        Ending::Completed
        | Ending::Killed { .. }
        | Ending::TimedOut { .. }
        | Ending::TooMuch { .. }
        | Ending::Lost { .. } => {}
    }
    for (name, bytes) in &outcome.artifacts {
        if let Some(bytes) = bytes {
            section(out, &format!("file `{name}`"), &compare::readable(bytes))?;
        }
    }
    Ok(())
}

fn recorded(expected: &Expected, page: &Page, out: &mut dyn Write) -> io::Result<()> {
    section(out, "recorded stdout", &compare::lossy(&expected.stdout))?;
    section(out, "recorded stderr", &compare::lossy(&expected.stderr))?;
    let exception = expected.exception.as_deref().unwrap_or_default();
    section(out, "recorded exception", exception)?;
    let exit = expected.exit.map(|status| status.to_string());
    section(out, "recorded exit status", &exit.unwrap_or_default())?;
    for name in &expected.artifacts {
        let recording = page.recording.as_deref();
        let kept = recording.map(|file| fs::read(book::artifact_path(file, name)));
        let text = match kept {
            Some(Ok(bytes)) => compare::readable(&bytes),
            _ => "not kept".to_owned(),
        };
        section(out, &format!("recorded file `{name}`"), &text)?;
    }
    Ok(())
}

fn head(page: &Page, example: &Example, becomes: &str, out: &mut dyn Write) -> io::Result<()> {
    let strong = anstyle::Style::new().bold();
    let (name, line, id) = (
        one_line(&page.name),
        example.block.line,
        one_line(&example.id),
    );
    let becomes = human::visible(becomes);
    writeln!(out, "{strong}{name}:{line}  {id}{strong:#}  {becomes}")
}

fn section(out: &mut dyn Write, name: &str, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {}:", one_line(name))?;
    for line in text.lines() {
        writeln!(out, "    {}", human::visible(line))?;
    }
    Ok(())
}
