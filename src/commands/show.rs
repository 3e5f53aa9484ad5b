//! `verify show TARGET`: all that an example does, beside all that is recorded of it.

use std::io::{self, Write};

use anyhow::Result;

use super::{Project, Status, interpreters, nothing_to_run, settings};
use crate::check;
use crate::cli;
use crate::compare;
use crate::interpreter::Interpreter;
use crate::outcome::Ending;
use crate::recording;
use crate::report::human::Human;
use crate::report::{Event, Reporter as _};
use crate::schedule;
use crate::sinks::stdout;
use crate::state::LastRun;

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
