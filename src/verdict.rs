//! Outcome × expectation → verdict. Every way in which an example is not as expected is a variant here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compare::{self, Aspect, Difference};
use crate::console;
use crate::diagnose::Reason;
use crate::doctest::{self, Flags, Got};
use crate::example::{Comments, Example, Kind};
use crate::matching::Matching;
use crate::normalize::{Context, apply, apply_bytes, float_digits};
use crate::outcome::{Ending, Exception, Outcome, Resource};
use crate::recording::Expected;

/// What is to be said of one example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// It did what is expected of it.
    Verified,
    /// It ran to its end; nothing says what it should have done.
    Ran,
    /// It is not as expected.
    Failed(Failure),
    /// Its output should be recorded and is not.
    Unrecorded,
    /// An earlier example of its session failed, so that it was not run.
    Blocked { by: String },
    Skipped {
        reason: String,
        /// Something was missing that it `requires`: a failure under `--strict`.
        unmet: bool,
    },
    /// Python that is not meant to run.
    Illustrative { reason: String },
}

/// In which way an example is not as expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Failure {
    /// Its output is not the expected one.
    Differs(Vec<Difference>),
    /// Statements of a transcript or commands of a console block that did not do what stands below them.
    Steps(Vec<StepFailure>),
    /// An exception that nobody announced.
    Raised(Exception),
    /// Another exception than the announced one.
    RaisedOther {
        announced: String,
        exception: Exception,
    },
    /// The announced exception did not come.
    DidNotRaise {
        announced: String,
    },
    /// It ended the interpreter, which nobody announced, or with another status.
    Exited {
        status: i32,
        announced: Option<i32>,
        orderly: bool,
    },
    DidNotExit {
        announced: i32,
    },
    /// The announced file is not there.
    DidNotMake {
        announced: String,
    },
    Killed {
        signal: i32,
    },
    TimedOut {
        limit: Duration,
    },
    TooMuch {
        of: Resource,
        limit: u64,
    },
    Lost {
        reason: String,
    },
    /// It is not meant to run, and is not Python either.
    DoesNotParse(Exception),
    /// The recording holds, but the page shows something else.
    PageOutdated {
        shown: Option<String>,
        recorded: Option<String>,
    },
    /// It passed its first run, and failed a later one under other conditions.
    ByLuck {
        run: u32,
        runs: u32,
        reason: Reason,
    },
    /// It does what it should although it is not run, or not on this version.
    NotNeeded {
        what: String,
        reason: String,
    },
    /// It needs something that this machine lacks, and `--strict` was given.
    Unmet {
        reason: String,
    },
}

/// One step of an example that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// Line within the example, from 1.
    pub line: usize,
    pub source: String,
    pub expected: String,
    pub actual: String,
}

/// Stands for the output of commands that a shell did not finish.
const SHELL_ENDED: &str = "(the shell has ended)\n";

impl StepFailure {
    /// Whether a recorder could write down what came.
    pub fn may_be_recorded(&self) -> bool {
        !self.raised_unannounced() && !self.actual.ends_with(SHELL_ENDED)
    }

    /// Whether a statement of a transcript raised an exception where the page shows none.
    pub fn raised_unannounced(&self) -> bool {
        let announced = self.expected.trim_start().starts_with("Traceback (");
        !announced && self.actual.starts_with(doctest::RAISED)
    }
}

/// What an example is compared with, besides what stands in its own block.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub recorded: Option<&'a Expected>,
    /// The base of the recording, whatever version runs now: a page shows one output for all.
    pub base: Option<&'a Expected>,
    /// Whether output without a recording or an inline expectation is a fault.
    pub must_be_recorded: bool,
    /// Whether the page is one that shows below each example what is recorded of it.
    pub carries_output: bool,
    pub doctest: Flags,
    pub context: &'a Context,
}

impl Verdict {
    /// Whether a run with this verdict fails.
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Verdict::Failed(_) | Verdict::Unrecorded | Verdict::Blocked { .. }
        )
    }

    /// The word that counts it.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Ran => "ran",
            Verdict::Failed(_) => "failed",
            Verdict::Unrecorded => "unrecorded",
            Verdict::Blocked { .. } => "blocked",
            Verdict::Skipped { .. } => "skipped",
            Verdict::Illustrative { .. } => "illustrative",
        }
    }
}

impl Failure {
    /// Whether the session's state is what its author meant it to be, so that later examples can still run.
    pub fn leaves_session_intact(&self) -> bool {
        matches!(
            self,
            Failure::Differs(_)
                | Failure::Steps(_)
                | Failure::PageOutdated { .. }
                | Failure::DidNotMake { .. }
                | Failure::DoesNotParse(_)
        )
    }
}

/// Judges one run.
pub fn judge(example: &Example, outcome: &Outcome, terms: &Terms<'_>) -> Verdict {
    if let Some(reason) = &example.attributes.norun {
        return match &outcome.ending {
            Ending::Raised(exception) => Verdict::Failed(Failure::DoesNotParse(exception.clone())),
            _ => Verdict::Illustrative {
                reason: reason.clone(),
            },
        };
    }
    if let Some(failure) = ended_wrongly(example, &outcome.ending) {
        return Verdict::Failed(failure);
    }
    if let Some((name, _)) = outcome.artifacts.iter().find(|(_, made)| made.is_none()) {
        let announced = name.clone();
        return Verdict::Failed(Failure::DidNotMake { announced });
    }
    let mut compared = false;
    match &example.kind {
        Kind::Transcript(statements) => {
            let failures = transcript_failures(statements, outcome, terms.doctest);
            if !failures.is_empty() {
                return Verdict::Failed(Failure::Steps(failures));
            }
            compared |= !statements.is_empty();
        }
        Kind::Console(commands) => {
            // Commands alone claim nothing, unless the page is one that carries its outputs.
            let claims = terms.carries_output
                || commands
                    .iter()
                    .any(|command| !command.expected.is_empty() || command.status != 0);
            if claims {
                let failures = console_failures(example, commands, outcome, terms.context);
                if !failures.is_empty() {
                    return Verdict::Failed(Failure::Steps(failures));
                }
                compared = true;
            }
        }
        Kind::Module(comments) => {
            let (claimed, failures) = comment_failures(comments, outcome);
            if !failures.is_empty() {
                return Verdict::Failed(Failure::Steps(failures));
            }
            compared |= claimed;
            match judge_module(example, outcome, terms, compared) {
                Some(verdict) => return verdict,
                None => compared |= terms.recorded.is_some() || example.output.is_some(),
            }
        }
        Kind::File(_) => {}
    }
    // An announced end that came is an expectation that was met.
    let announced = example.attributes.raises.is_some() || example.attributes.exits.is_some();
    if compared || announced {
        Verdict::Verified
    } else {
        Verdict::Ran
    }
}

/// Compares a file's output with the recording or the page; `None` where nothing is wrong.
fn judge_module(
    example: &Example,
    outcome: &Outcome,
    terms: &Terms<'_>,
    claims_in_comments: bool,
) -> Option<Verdict> {
    let rules = compare::Options {
        rules: &example.attributes.normalize,
        unordered: example.attributes.unordered,
        context: terms.context,
    };
    if let Some(recorded) = terms.recorded {
        let differences = compare::compare(outcome, recorded, &rules);
        if !differences.is_empty() {
            return Some(Verdict::Failed(Failure::Differs(differences)));
        }
    } else if !terms.carries_output
        && let Some(shown) = &example.output
    {
        // On other people's pages the block below an example is what it prints. No block can show that
        // the last newline is missing.
        let mut stdout = shown.code.clone().into_bytes();
        if !outcome.stdout.ends_with(b"\n") {
            stdout.pop();
        }
        let expected = Expected {
            stdout,
            ..Expected::default()
        };
        let differences: Vec<Difference> = compare::compare(outcome, &expected, &rules)
            .into_iter()
            .filter(|difference| difference.aspect == Aspect::Stdout)
            .collect();
        return (!differences.is_empty()).then_some(Verdict::Failed(Failure::Differs(differences)));
    } else if terms.must_be_recorded && !claims_in_comments && !is_silent(outcome) {
        return Some(Verdict::Unrecorded);
    }
    let shown = example.output.as_ref().map(|block| block.code.clone());
    let recorded = if terms.carries_output {
        let recorded = terms.base.and_then(page_text);
        if shown == recorded || (example.attributes.hidden && shown.is_none()) {
            return None;
        }
        recorded
    } else {
        // Nobody has to show an output, but what stands on the page is what readers see.
        let base = terms.base.filter(|base| !shows(example, base))?;
        block_text(base)
    };
    Some(Verdict::Failed(Failure::PageOutdated { shown, recorded }))
}

/// Whether the block that somebody put below an example, if there is one, shows what is recorded of it: what it
/// prints, or all that a page could carry. Either side may describe the other by wildcards.
pub fn shows(example: &Example, recorded: &Expected) -> bool {
    let Some(block) = &example.output else {
        return true;
    };
    let rules = &example.attributes.normalize;
    let settled = |text: &str| apply(rules, text, &Context::default()).into_bytes();
    let matching = |wildcards| Matching {
        wildcards,
        digits: float_digits(rules),
        unordered: example.attributes.unordered,
    };
    let shown = settled(&block.code);
    [printed_text(recorded), page_text(recorded)]
        .into_iter()
        .any(|text| {
            let text = settled(&text.unwrap_or_default());
            matching(true).matches(&shown, &text)
                || matching(!recorded.literal).matches(&text, &shown)
        })
}

/// What the block that somebody put below an example is to show of a recording: what it prints or, if that is
/// nothing, what else it leaves on a screen.
pub fn block_text(recorded: &Expected) -> Option<String> {
    printed_text(recorded).or_else(|| page_text(recorded))
}

fn printed_text(recorded: &Expected) -> Option<String> {
    page_text(&Expected {
        stdout: recorded.stdout.clone(),
        ..Expected::default()
    })
}

/// What the page shows of a recording: what stdout, stderr and the exception leave on a screen, with `\r`
/// and NUL as a Markdown page has them. `None` if that is nothing.
pub fn page_text(expected: &Expected) -> Option<String> {
    let mut text = String::new();
    let exception = expected.exception.as_deref().unwrap_or_default();
    for part in [
        compare::lossy(&expected.stdout),
        compare::lossy(&expected.stderr),
        exception.to_owned(),
    ] {
        if !text.is_empty() && !text.ends_with('\n') && !part.is_empty() {
            text.push('\n');
        }
        text.push_str(&part);
    }
    if text.is_empty() {
        return None;
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    Some(text.replace('\0', "\u{fffd}"))
}

/// Whether there is nothing to record.
pub fn is_silent(outcome: &Outcome) -> bool {
    outcome.stdout.is_empty()
        && outcome.stderr.is_empty()
        && outcome.artifacts.is_empty()
        && outcome.ending == Ending::Completed
}

fn ended_wrongly(example: &Example, ending: &Ending) -> Option<Failure> {
    let attributes = &example.attributes;
    Some(match ending {
        Ending::Completed => match (&attributes.raises, attributes.exits) {
            (Some(announced), _) => Failure::DidNotRaise {
                announced: announced.clone(),
            },
            (None, Some(announced)) => Failure::DidNotExit { announced },
            (None, None) => return None,
        },
        Ending::Raised(exception) => match &attributes.raises {
            Some(announced) if exception.is_a(announced) => return None,
            Some(announced) => Failure::RaisedOther {
                announced: announced.clone(),
                exception: exception.clone(),
            },
            None => Failure::Raised(exception.clone()),
        },
        Ending::Exited { status, .. } if attributes.exits == Some(*status) => return None,
        Ending::Exited { status, orderly } => Failure::Exited {
            status: *status,
            announced: attributes.exits,
            orderly: *orderly,
        },
        Ending::Killed { signal } => Failure::Killed { signal: *signal },
        Ending::TimedOut { limit } => Failure::TimedOut { limit: *limit },
        Ending::TooMuch { of, limit } => Failure::TooMuch {
            of: *of,
            limit: *limit,
        },
        Ending::Lost { reason } => Failure::Lost {
            reason: reason.clone(),
        },
    })
}

/// What a statement of a transcript did, in doctest's terms.
pub fn got<'a>(stdout: &'a str, message: Option<&'a str>) -> Got<'a> {
    match message {
        Some(message) => Got::Raised { stdout, message },
        None => Got::Output(stdout),
    }
}

/// The last lines of a traceback: type, message and notes.
pub fn exception_message(exception: &Exception) -> String {
    let mut message = exception.headline();
    for note in &exception.notes {
        message.push('\n');
        message.push_str(note);
    }
    message.push('\n');
    message
}

fn transcript_failures(
    statements: &[doctest::Statement],
    outcome: &Outcome,
    flags: Flags,
) -> Vec<StepFailure> {
    let mut failures = Vec::new();
    let mut steps = outcome.steps.iter();
    for statement in statements {
        if statement.options.apply(flags).contains(Flags::SKIP) {
            continue;
        }
        let Some(step) = steps.next() else {
            break;
        };
        let stdout = compare::lossy(outcome.printed_by(step));
        let message = step.exception.as_ref().map(exception_message);
        let got = got(&stdout, message.as_deref());
        if !doctest::judge(statement, &got, flags) {
            failures.push(StepFailure {
                line: statement.line,
                source: statement.source.clone(),
                expected: statement.want.clone(),
                actual: doctest::want_for(&got),
            });
        }
    }
    failures
}

fn console_failures(
    example: &Example,
    commands: &[console::Command],
    outcome: &Outcome,
    context: &Context,
) -> Vec<StepFailure> {
    let rules = &example.attributes.normalize;
    let mut failures = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let expected = console::expected_text(&command.expected, command.status);
        let (actual, status) = if let Some(step) = outcome.steps.get(index) {
            (
                compare::lossy(&apply_bytes(rules, outcome.printed_by(step), context)),
                step.status.unwrap_or(0),
            )
        } else {
            let mut actual = SHELL_ENDED.to_owned();
            if index == outcome.steps.len() {
                // Its last words, such as a syntax error, are no command's output.
                let heard = outcome.steps.last().map_or(0, |step| step.stdout.end);
                let rest = outcome.stdout.get(heard..).unwrap_or_default();
                actual.insert_str(0, &console::expected_text(&compare::lossy(rest), 0));
            }
            failures.push(StepFailure {
                line: command.line,
                source: command.text.clone(),
                expected,
                actual,
            });
            continue;
        };
        let actual = console::expected_text(&actual, status);
        if !compare::text_matches(&expected, &actual) {
            failures.push(StepFailure {
                line: command.line,
                source: command.text.clone(),
                expected,
                actual,
            });
        }
    }
    failures
}

/// Checks `#>` lines and `# value` comments; the first result says whether there were any.
fn comment_failures(comments: &Comments, outcome: &Outcome) -> (bool, Vec<StepFailure>) {
    let mut failures = Vec::new();
    let mut compared = false;
    if let Some(first) = comments.printed.first() {
        compared = true;
        let expected: String = comments
            .printed
            .iter()
            .map(|run| run.text.as_str())
            .collect();
        let actual = compare::lossy(&outcome.stdout);
        // The comment lines of a run cannot show that the last line end is missing.
        if expected.trim_end_matches('\n') != actual.trim_end_matches('\n') {
            failures.push(StepFailure {
                line: first.lines.start,
                source: String::new(),
                expected,
                actual,
            });
        }
    }
    for step in &outcome.steps {
        for (line, value) in &step.values {
            let Some((_, claimed)) = comments
                .values
                .iter()
                .find(|(claimed_line, _)| claimed_line == line)
            else {
                continue;
            };
            let printed = compare::lossy(outcome.printed_by(step));
            let actual = match (value.as_str(), printed.trim_end_matches('\n')) {
                // A call that returns and prints nothing: the comment explains something else.
                ("None", "") if claimed != "None" => continue,
                ("None", printed) if claimed != "None" => printed,
                (value, _) => value,
            };
            compared = true;
            if !same_value(claimed, actual) {
                failures.push(StepFailure {
                    line: *line,
                    source: String::new(),
                    expected: format!("{claimed}\n"),
                    actual: format!("{actual}\n"),
                });
            }
        }
    }
    (compared, failures)
}

/// Whether a comment's literal and a `repr()` say the same; the kind of quotes is a matter of taste.
fn same_value(claimed: &str, actual: &str) -> bool {
    let unquoted = claimed
        .strip_prefix(['\'', '"'])
        .and_then(|rest| rest.strip_suffix(['\'', '"']))
        .unwrap_or(claimed);
    claimed == actual || claimed.replace('"', "'") == actual.replace('"', "'") || unquoted == actual
}
