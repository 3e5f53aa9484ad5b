//! The report for programs: one JSON object a line, each with a `type`. `docs/report.schema.json` describes it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::human::headline;
use super::{Event, ExampleResult, Reporter};
use crate::compare::lossy;
use crate::outcome::{Ending, Outcome};
use crate::verdict::{Failure, Verdict};

/// Counted up when a field changes its meaning or goes; new fields don't count.
pub const FORMAT: u32 = 1;

#[derive(Debug, Default)]
pub struct Json;

impl Reporter for Json {
    fn event(&mut self, event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
        let object = match event {
            Event::Problems(problems) => {
                for problem in *problems {
                    let object = json!({
                        "type": "problem",
                        "page": problem.page,
                        "line": problem.line,
                        "message": problem.message,
                    });
                    writeln!(out, "{object}")?;
                }
                return Ok(());
            }
            Event::Started(started) => json!({
                "type": "run",
                "format": FORMAT,
                "verify": env!("CARGO_PKG_VERSION"),
                "python": started.interpreter.full_version,
                "executable": started.interpreter.executable,
                "pages": started.pages,
                "examples": started.examples,
                "network_isolated": started.network_isolated,
            }),
            Event::Progress { .. } => return Ok(()),
            Event::Page(page) => {
                for result in &page.examples {
                    writeln!(out, "{}", example(result, &page.interpreter.full_version))?;
                }
                return Ok(());
            }
            Event::Finished(finished) => {
                let mut object = json!({
                    "type": "summary",
                    "python": finished.interpreter.full_version,
                    "orphans": finished.orphans,
                    "stopped_early": finished.stopped_early,
                    "seconds": finished.duration.as_secs_f64(),
                });
                for (word, count) in finished.summary.all() {
                    object[word] = count.into();
                }
                object
            }
        };
        writeln!(out, "{object}")
    }
}

fn example(result: &ExampleResult<'_>, python: &str) -> Value {
    let mut object = json!({
        "type": "example",
        "page": result.page.name,
        "line": result.example.block.line,
        "id": result.example.id,
        "section": result.example.section,
        "python": python,
        "verdict": result.verdict.word(),
    });
    match &result.verdict {
        Verdict::Skipped { reason, .. } | Verdict::Illustrative { reason } => {
            object["reason"] = reason.as_str().into();
        }
        Verdict::Blocked { by } => object["blocked_by"] = by.as_str().into(),
        Verdict::Unrecorded => object["message"] = headline(&result.verdict).into(),
        Verdict::Failed(failure) => {
            object["message"] = headline(&result.verdict).into();
            object["failure_line"] = result.line().into();
            object["differences"] = differences(failure);
        }
        Verdict::Verified | Verdict::Ran => {}
    }
    if let Some(outcome) = &result.outcome {
        object["outcome"] = self::outcome(outcome);
    }
    if let Some(traceback) = &result.traceback {
        object["traceback"] = traceback.as_str().into();
    }
    object
}

fn differences(failure: &Failure) -> Value {
    match failure {
        Failure::Differs(differences) => differences
            .iter()
            .map(|difference| {
                json!({
                    "aspect": format!("{:?}", difference.aspect).to_lowercase(),
                    "expected": difference.expected,
                    "actual": difference.actual,
                })
            })
            .collect(),
        Failure::Steps(steps) => steps
            .iter()
            .map(|step| {
                json!({
                    "aspect": "step",
                    "line": step.line,
                    "expected": step.expected,
                    "actual": step.actual,
                })
            })
            .collect(),
        Failure::PageOutdated { shown, recorded } => {
            json!([{ "aspect": "page", "expected": recorded, "actual": shown }])
        }
        _ => json!([]),
    }
}

fn outcome(outcome: &Outcome) -> Value {
    let mut object = json!({
        "stdout": lossy(&outcome.stdout),
        "stderr": lossy(&outcome.stderr),
        "seconds": outcome.duration.as_secs_f64(),
    });
    let (ending, detail): (&str, Value) = match &outcome.ending {
        Ending::Completed => ("completed", Value::Null),
        Ending::Raised(exception) => ("raised", exception.text().into()),
        Ending::Exited { status, .. } => ("exited", (*status).into()),
        Ending::Killed { signal } => ("killed", (*signal).into()),
        Ending::TimedOut { limit } => ("timed_out", limit.as_secs_f64().into()),
        Ending::TooMuchOutput { limit } => ("too_much_output", (*limit).into()),
        Ending::Lost { reason } => ("lost", reason.as_str().into()),
    };
    object["ending"] = ending.into();
    if !detail.is_null() {
        object["detail"] = detail;
    }
    object
}
