//! The report for programs: one JSON object a line, each with a `type`, so that a reader can act on a line as
//! soon as it stands there and a run that is cut short leaves nothing broken behind.
//!
//! `docs/report.schema.json` describes every field; a test holds the two together.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{Event, ExampleResult, Finished, Reporter, Rerun, Shard, Started, plain};
use crate::compare::{Aspect, lossy};
use crate::example::Kind;
use crate::interpreter::Interpreter;
use crate::outcome::{Ending, Exception, Outcome, Resource};
use crate::verdict::{Failure, Verdict};

/// Counted up when a field changes its meaning or goes; new fields don't count.
pub const FORMAT: u32 = 1;

#[derive(Debug, Default)]
pub struct Json;

impl Reporter for Json {
    fn event(&mut self, event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Problems(problems) => {
                for problem in *problems {
                    let (page, message) = (&problem.page, &problem.message);
                    write_line(
                        &Line::Problem {
                            format: FORMAT,
                            page,
                            line: problem.line,
                            message,
                        },
                        out,
                    )?;
                }
                Ok(())
            }
            Event::Started(started) => write_line(&run(started), out),
            Event::Unchanged(..) => Ok(()),
            Event::Example(python, result) => write_line(&example(result, python), out),
            Event::Page(page) => {
                for result in &page.examples {
                    write_line(&example(result, page.interpreter), out)?;
                }
                let Some(Rerun { ran, of, reason }) = &page.rerun else {
                    return Ok(());
                };
                write_line(
                    &Line::Rerun {
                        page: &page.page.name,
                        ran: *ran,
                        of: *of,
                        reason: reason.as_deref(),
                    },
                    out,
                )
            }
            Event::Finished(finished) => write_line(&summary(finished), out),
        }
    }
}

fn write_line(line: &Line<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Problem {
        format: u32,
        page: &'a str,
        line: Option<usize>,
        message: &'a str,
    },
    Run {
        format: u32,
        verify: &'static str,
        python: &'a str,
        executable: String,
        pages: usize,
        examples: usize,
        network_isolated: bool,
        sandbox: Option<BTreeMap<&'static str, ProtectionObject<'a>>>,
        chosen_by: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        asked: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        shard: Option<&'a Shard>,
    },
    Example(Box<ExampleObject<'a>>),
    Rerun {
        page: &'a str,
        ran: usize,
        of: usize,
        reason: Option<&'a str>,
    },
    Summary {
        python: &'a str,
        counts: Counts,
        orphans: Vec<Orphan<'a>>,
        stopped_early: bool,
        sessions: usize,
        sessions_from_cache: usize,
        seconds: f64,
    },
}

#[derive(Serialize)]
struct ProtectionObject<'a> {
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a str>,
}

#[derive(Serialize)]
struct ExampleObject<'a> {
    page: &'a str,
    line: usize,
    id: &'a str,
    kind: &'static str,
    heading: &'a str,
    section: Option<&'a str>,
    python: &'a str,
    verdict: &'static str,
    from_cache: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unmet: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceback: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
}

#[derive(Serialize)]
struct FailureObject<'a> {
    kind: &'static str,
    line: usize,
    message: String,
    differences: Vec<DifferenceObject<'a>>,
}

#[derive(Serialize)]
struct DifferenceObject<'a> {
    of: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    expected: Option<&'a str>,
    actual: Option<&'a str>,
}

#[derive(Serialize)]
struct OutcomeObject<'a> {
    #[serde(flatten)]
    ending: EndingFields<'a>,
    stdout: String,
    stderr: String,
    seconds: f64,
}

#[derive(Serialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
enum EndingFields<'a> {
    Completed,
    Raised { exception: ExceptionObject<'a> },
    Exited { status: i32 },
    Killed { signal: i32 },
    TimedOut { limit_seconds: f64 },
    TooMuchOutput { limit_bytes: u64 },
    TooMuchMemory { limit_bytes: u64 },
    TooManyProcesses { limit: u64 },
    TooMuchScratch { limit_bytes: u64 },
    Lost { reason: &'a str },
}

#[derive(Serialize)]
struct ExceptionObject<'a> {
    #[serde(rename = "type")]
    type_name: &'a str,
    message: &'a str,
    notes: &'a [String],
    text: String,
}

#[derive(Serialize)]
struct Counts {
    verified: usize,
    ran: usize,
    failed: usize,
    unrecorded: usize,
    blocked: usize,
    skipped: usize,
    illustrative: usize,
}

#[derive(Serialize)]
struct Orphan<'a> {
    file: &'a str,
    id: Option<&'a str>,
}

fn run<'a>(started: &Started<'a>) -> Line<'a> {
    Line::Run {
        format: FORMAT,
        verify: env!("CARGO_PKG_VERSION"),
        python: &started.interpreter.full_version,
        executable: started
            .interpreter
            .executable
            .to_string_lossy()
            .into_owned(),
        pages: started.pages,
        examples: started.examples,
        network_isolated: started
            .protections
            .is_some_and(|protections| protections.network.is_none()),
        sandbox: started.protections.map(|protections| {
            let object = |(name, missing): (_, Option<&'a str>)| {
                let holds = missing.is_none();
                (name, ProtectionObject { holds, missing })
            };
            protections.all().map(object).into_iter().collect()
        }),
        chosen_by: started.interpreter.source.to_string(),
        asked: started.interpreter.asked.as_deref(),
        shard: started.shard,
    }
}

fn summary<'a>(finished: &Finished<'a>) -> Line<'a> {
    let summary = &finished.summary;
    Line::Summary {
        python: &finished.interpreter.full_version,
        counts: Counts {
            verified: summary.verified,
            ran: summary.ran,
            failed: summary.failed,
            unrecorded: summary.unrecorded,
            blocked: summary.blocked,
            skipped: summary.skipped,
            illustrative: summary.illustrative,
        },
        orphans: finished
            .orphans
            .iter()
            .map(|orphan| {
                let (file, id) = plain::orphan(orphan);
                Orphan { file, id }
            })
            .collect(),
        stopped_early: finished.stopped_early,
        sessions: finished.sessions,
        sessions_from_cache: finished.kept,
        seconds: finished.duration.as_secs_f64(),
    }
}

fn example<'a>(result: &'a ExampleResult<'a>, python: &'a Interpreter) -> Line<'a> {
    let example = result.example;
    let (mut reason, mut unmet, mut blocked_by) = (None, None, None);
    match &result.verdict {
        Verdict::Skipped {
            reason: given,
            unmet: missing,
        } => {
            reason = Some(given.as_str());
            unmet = Some(*missing);
        }
        Verdict::Illustrative { reason: given } => reason = Some(given.as_str()),
        Verdict::Blocked { by } => blocked_by = Some(by.as_str()),
        Verdict::Verified | Verdict::Ran | Verdict::Failed(_) | Verdict::Unrecorded => {}
    }
    Line::Example(Box::new(ExampleObject {
        page: &result.page.name,
        line: example.block.line,
        id: &example.id,
        kind: match example.kind {
            Kind::Module(_) => "module",
            Kind::Transcript(_) => "transcript",
            Kind::Console(_) => "console",
            Kind::File(_) => "file",
        },
        heading: &example.heading,
        section: example.section.as_deref(),
        python: &python.full_version,
        verdict: result.verdict.word(),
        from_cache: result.from_cache,
        reason,
        unmet,
        blocked_by,
        failure: plain::kind(&result.verdict).map(|kind| FailureObject {
            kind,
            line: result.line(),
            message: plain::headline(&result.verdict),
            differences: differences(result),
        }),
        outcome: result.outcome.as_ref().map(outcome),
        traceback: result.traceback.as_deref(),
        exact: exact(result),
    }))
}

/// What the other fields say in part, in whole.
fn exact(result: &ExampleResult<'_>) -> Option<String> {
    let ending = result.outcome.as_ref().map(|outcome| &outcome.ending);
    let is_plain = !matches!(result.verdict, Verdict::Failed(_))
        && ending.is_none_or(|ending| *ending == Ending::Completed);
    if is_plain {
        return None;
    }
    serde_json::to_string(&(&result.verdict, ending)).ok()
}

fn differences<'a>(result: &'a ExampleResult<'a>) -> Vec<DifferenceObject<'a>> {
    let difference = |of, expected, actual| DifferenceObject {
        of,
        file: None,
        line: None,
        source: None,
        expected,
        actual,
    };
    match &result.verdict {
        Verdict::Failed(Failure::Differs(differences)) => differences
            .iter()
            .map(|found| {
                let (of, file) = match &found.aspect {
                    Aspect::Stdout => ("stdout", None),
                    Aspect::Stderr => ("stderr", None),
                    Aspect::Exception => ("exception", None),
                    Aspect::Exit => ("exit", None),
                    Aspect::Artifact(name) => ("artifact", Some(name.as_str())),
                };
                DifferenceObject {
                    file,
                    ..difference(of, Some(&found.expected), Some(&found.actual))
                }
            })
            .collect(),
        Verdict::Failed(Failure::Steps(steps)) => steps
            .iter()
            .map(|step| DifferenceObject {
                line: Some(result.example.block.code_line + step.line - 1),
                source: (!step.source.is_empty()).then_some(&step.source),
                ..difference("step", Some(&step.expected), Some(&step.actual))
            })
            .collect(),
        Verdict::Failed(Failure::PageOutdated { shown, recorded }) => {
            vec![difference("page", recorded.as_deref(), shown.as_deref())]
        }
        _ => Vec::new(),
    }
}

fn outcome(outcome: &Outcome) -> OutcomeObject<'_> {
    OutcomeObject {
        ending: match &outcome.ending {
            Ending::Completed => EndingFields::Completed,
            Ending::Raised(raised) => EndingFields::Raised {
                exception: exception(raised),
            },
            Ending::Exited { status, .. } => EndingFields::Exited { status: *status },
            Ending::Killed { signal } => EndingFields::Killed { signal: *signal },
            Ending::TimedOut { limit } => EndingFields::TimedOut {
                limit_seconds: limit.as_secs_f64(),
            },
            Ending::TooMuch { of, limit } => {
                let limit_bytes = *limit;
                match of {
                    Resource::Output => EndingFields::TooMuchOutput { limit_bytes },
                    Resource::Memory => EndingFields::TooMuchMemory { limit_bytes },
                    Resource::Processes => EndingFields::TooManyProcesses { limit: *limit },
                    Resource::Scratch => EndingFields::TooMuchScratch { limit_bytes },
                }
            }
            Ending::Lost { reason } => EndingFields::Lost { reason },
        },
        stdout: lossy(&outcome.stdout),
        stderr: lossy(&outcome.stderr),
        seconds: outcome.duration.as_secs_f64(),
    }
}

fn exception(exception: &Exception) -> ExceptionObject<'_> {
    ExceptionObject {
        type_name: &exception.type_name,
        message: &exception.message,
        notes: &exception.notes,
        text: exception.text(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::PageResult;
    use super::super::plain::sample;
    use super::*;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../docs/report.schema.json")).unwrap()
    }

    fn lines() -> Vec<Value> {
        let text = sample::told(&mut Json, &sample::verdicts(), &["3.12.1", "3.13.0"])
            + &sample::told_problems(&mut Json)
            + &rerun();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn rerun() -> String {
        let page = sample::page("docs/page.md", 1);
        let result = PageResult {
            page: &page,
            number: 0,
            interpreter: &sample::python("3.12.1"),
            examples: Vec::new(),
            sessions: Vec::new(),
            rerun: Some(Rerun {
                ran: 2,
                of: 3,
                reason: Some("a thread is running".to_owned()),
            }),
        };
        let mut out = Vec::new();
        Json.event(&Event::Page(&result), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Each place in a value where an object has a member, array positions left out.
    fn members(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                for (name, member) in object {
                    let at = format!("{at}/{name}");
                    members(member, &at, found);
                    found.insert(at);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| members(item, at, found)),
            _ => {}
        }
    }

    /// The same places as the schema describes them.
    fn described(schema: &Value, part: &Value, at: &str, found: &mut BTreeSet<String>) {
        if let Some(name) = part["$ref"].as_str() {
            described(
                schema,
                schema
                    .pointer(&name[1..])
                    .expect("a reference leads somewhere"),
                at,
                found,
            );
        }
        for branch in ["oneOf", "allOf", "anyOf"]
            .iter()
            .filter_map(|word| part[word].as_array())
            .flatten()
        {
            described(schema, branch, at, found);
        }
        for (name, property) in part["properties"].as_object().into_iter().flatten() {
            assert!(
                property["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 10),
                "{at}/{name} needs a description"
            );
            let at = format!("{at}/{name}");
            described(schema, property, &at, found);
            found.insert(at);
        }
        described_items(schema, &part["items"], at, found);
    }

    fn described_items(schema: &Value, items: &Value, at: &str, found: &mut BTreeSet<String>) {
        if !items.is_null() {
            described(schema, items, at, found);
        }
    }

    #[test]
    fn lines_are_as_the_schema_says() {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        assert!(jsonschema::draft202012::meta::is_valid(&schema()));
        for line in lines() {
            let errors: Vec<String> = validator
                .iter_errors(&line)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{errors:?}: {line}");
        }
    }

    #[test]
    fn the_schema_knows_every_field_and_no_other() {
        let (mut written, mut known) = (BTreeSet::new(), BTreeSet::new());
        for line in lines() {
            members(&line, "", &mut written);
        }
        described(&schema(), &schema(), "", &mut known);
        assert_eq!(written, known);
    }

    #[test]
    fn the_schema_knows_every_way_to_fail_and_no_other() {
        let written: BTreeSet<String> = lines()
            .iter()
            .filter_map(|line| Some(line["failure"]["kind"].as_str()?.to_owned()))
            .collect();
        let schema = schema();
        let known = &schema["$defs"]["failure"]["properties"]["kind"]["enum"];
        let known: BTreeSet<String> = serde_json::from_value(known.clone()).unwrap();
        assert_eq!(written, known);
    }

    #[test]
    fn a_line_of_the_wrong_form_is_refused() {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        for line in lines() {
            for name in ["type", "format", "verdict", "counts", "message"] {
                let mut broken = line.clone();
                if broken.as_object_mut().unwrap().remove(name).is_some() {
                    assert!(!validator.is_valid(&broken), "without {name}: {broken}");
                }
            }
        }
    }

    #[test]
    fn the_type_comes_first() {
        let text = sample::told(&mut Json, &[Verdict::Ran], &["3.12.1"]);
        assert!(
            text.lines().all(|line| line.starts_with(r#"{"type":""#)),
            "{text}"
        );
    }
}
