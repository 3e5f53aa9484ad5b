//! A failure in plain text, for the formats whose readers have neither a terminal nor its colours.
//!
//! JUnit's text nodes, GitHub's annotations and its job summaries say the same few things of a failure; they
//! differ in how they quote them, and that alone is left to them.

use std::fmt::Write as _;

use super::ExampleResult;
use super::human::{self, visible};
use crate::compare::Aspect;
use crate::diff::{self, Kind as DiffKind};
use crate::interpreter::Interpreter;
use crate::legible::one_line;
use crate::outcome::Resource;
use crate::verdict::{Failure, Verdict};

/// In which way a verdict is a failure, as one word that programs can rely on; `None` if it is none.
pub(super) fn kind(verdict: &Verdict) -> Option<&'static str> {
    let failure = match verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Unrecorded => return Some("unrecorded"),
        Verdict::Blocked { .. } => return Some("blocked"),
        Verdict::Verified
        | Verdict::Ran
        | Verdict::Skipped { .. }
        | Verdict::Illustrative { .. } => return None,
    };
    Some(match failure {
        Failure::Differs(_) => "differs",
        Failure::Steps(_) => "steps",
        Failure::Raised(_) => "raised",
        Failure::RaisedOther { .. } => "raised_other",
        Failure::DidNotRaise { .. } => "did_not_raise",
        Failure::Exited { .. } => "exited",
        Failure::DidNotExit { .. } => "did_not_exit",
        Failure::DidNotMake { .. } => "did_not_make",
        Failure::Killed { .. } => "killed",
        Failure::TimedOut { .. } => "timed_out",
        Failure::TooMuch { of, .. } => match of {
            Resource::Output => "too_much_output",
            Resource::Memory => "too_much_memory",
            Resource::Processes => "too_many_processes",
            Resource::Scratch => "too_much_scratch",
        },
        Failure::Lost { .. } => "lost",
        Failure::DoesNotParse(_) => "does_not_parse",
        Failure::PageOutdated { .. } => "page_outdated",
        Failure::ByLuck { .. } => "by_luck",
        Failure::NotNeeded { .. } => "not_needed",
        Failure::Unmet { .. } => "unmet",
    })
}

/// The interpreters of a run, in the order in which they ran.
#[derive(Debug, Default)]
pub(super) struct Pythons {
    /// Version and path of each.
    all: Vec<(String, String)>,
}

impl Pythons {
    pub(super) fn add(&mut self, interpreter: &Interpreter) {
        let path = interpreter.executable.display().to_string();
        self.all.push((interpreter.full_version.clone(), path));
    }

    /// Number of the one that runs.
    pub(super) fn last(&self) -> usize {
        self.all.len().saturating_sub(1)
    }

    pub(super) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// The version, or the path where others have the same one.
    pub(super) fn name(&self, number: usize) -> &str {
        let (version, path) = &self.all[number];
        let same = self.all.iter().filter(|(other, _)| other == version);
        if same.count() > 1 { path } else { version }
    }
}

/// What went wrong. One line without control characters, whatever an exception's message holds.
pub(super) fn headline(verdict: &Verdict) -> String {
    visible(&human::headline(verdict))
}

/// What shows the failure: differences as unified diffs, the traceback with lines of the page. Empty where
/// the headline has said it all.
pub(super) fn details(result: &ExampleResult<'_>) -> String {
    let mut text = String::new();
    let Verdict::Failed(failure) = &result.verdict else {
        return text;
    };
    match failure {
        Failure::Differs(differences) => {
            for difference in differences {
                let aspect = aspect(&difference.aspect);
                let sides = [format!("expected {aspect}"), format!("actual {aspect}")];
                unified(&sides, &difference.expected, &difference.actual, &mut text);
            }
        }
        Failure::Steps(steps) => {
            for step in steps {
                let line = result.example.block.code_line + step.line - 1;
                let _ = write!(text, "{}:{line}", one_line(&result.page.name));
                if let Some(first) = step.source.lines().next() {
                    let _ = write!(text, ": {}", visible(first));
                }
                text.push('\n');
                unified(
                    &["expected".to_owned(), "actual".to_owned()],
                    &step.expected,
                    &step.actual,
                    &mut text,
                );
            }
        }
        Failure::PageOutdated { shown, recorded } => {
            let sides = ["the recording".to_owned(), "the page".to_owned()];
            let side = |side: &Option<String>| side.clone().unwrap_or_default();
            unified(&sides, &side(recorded), &side(shown), &mut text);
        }
        Failure::ByLuck { reason, .. } => {
            for line in human::luck(reason) {
                let _ = writeln!(text, "{line}");
            }
        }
        Failure::Raised(exception)
        | Failure::RaisedOther { exception, .. }
        | Failure::DoesNotParse(exception)
            if result.traceback.is_none() =>
        {
            push_lines(&exception.text(), &mut text);
        }
        _ => {}
    }
    if let Some(traceback) = result
        .traceback
        .as_ref()
        .filter(|_| !matches!(failure, Failure::PageOutdated { .. }))
    {
        push_lines(traceback, &mut text);
    }
    text
}

/// How to see it again on another machine.
pub(super) fn again(result: &ExampleResult<'_>, interpreter: &Interpreter) -> String {
    let command = match result.verdict {
        Verdict::Unrecorded | Verdict::Failed(Failure::PageOutdated { .. }) => "verify record",
        _ => "verify",
    };
    format!(
        "{command} {}{}",
        human::chosen(result, interpreter),
        human::doubt(&result.verdict)
    )
}

/// An orphan's file, and the entry in it if only that is meant.
pub(super) fn orphan(orphan: &str) -> (&str, Option<&str>) {
    const END: &str = ".toml";
    match orphan.split_once(".toml: ") {
        Some((file, id)) => (&orphan[..file.len() + END.len()], Some(id)),
        None => (orphan, None),
    }
}

fn aspect(aspect: &Aspect) -> String {
    match aspect {
        Aspect::Stdout => "stdout".to_owned(),
        Aspect::Stderr => "stderr".to_owned(),
        Aspect::Exception => "exception".to_owned(),
        Aspect::Exit => "exit status".to_owned(),
        Aspect::Artifact(name) => format!("file {}", visible(name)),
    }
}

fn unified(sides: &[String; 2], expected: &str, actual: &str, text: &mut String) {
    let _ = writeln!(text, "--- {}\n+++ {}", sides[0], sides[1]);
    for line in diff::lines(expected, actual) {
        let content: String = line
            .segments
            .iter()
            .map(|(_, segment)| segment.as_str())
            .collect();
        let written = match line.kind {
            DiffKind::Same => format!(" {content}\n"),
            DiffKind::Removed => format!("-{content}\n"),
            DiffKind::Added => format!("+{content}\n"),
            DiffKind::Gap => format!("@@ {content} @@\n"),
        };
        text.push_str(&written);
        if line.no_newline && line.kind != DiffKind::Gap {
            text.push_str("\\ No newline at end of file\n");
        }
    }
}

fn push_lines(lines: &str, text: &mut String) {
    for line in lines.lines() {
        text.push_str(&visible(line));
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Difference;
    use crate::outcome::Exception;
    use crate::verdict::StepFailure;

    #[track_caller]
    fn check(failure: Failure, expected: &str) {
        let page = sample::page("docs/page.md", 1);
        let mut result = sample::result(&page, 0, Verdict::Failed(failure));
        result.traceback = None;
        assert_eq!(details(&result), expected);
    }

    #[test]
    fn differences_are_unified_diffs() {
        let difference = |aspect, expected: &str, actual: &str| Difference {
            aspect,
            expected: expected.to_owned(),
            actual: actual.to_owned(),
        };
        check(
            Failure::Differs(vec![
                difference(Aspect::Stdout, "1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\nsix"),
                difference(Aspect::Artifact("plot.png".to_owned()), "a\x1b\n", "a\n"),
            ]),
            "--- expected stdout\n+++ actual stdout\n@@ 2 lines @@\n 3\n 4\n 5\n-6\n+six\n\
             \\ No newline at end of file\n--- expected file plot.png\n+++ actual file plot.png\n-a␛\n+a\n",
        );
    }

    #[test]
    fn steps_name_their_line_of_the_page() {
        let step = StepFailure {
            line: 2,
            source: "x\n".to_owned(),
            expected: "1\n".to_owned(),
            actual: "2\n".to_owned(),
        };
        let line = sample::page("docs/page.md", 1).examples[0].block.code_line + 1;
        check(
            Failure::Steps(vec![step]),
            &format!("docs/page.md:{line}: x\n--- expected\n+++ actual\n-1\n+2\n"),
        );
    }

    #[test]
    fn a_headline_is_one_line() {
        let exception = Exception {
            type_name: "ValueError".to_owned(),
            message: "first\nsecond\x1b[1m".to_owned(),
            ..Exception::default()
        };
        assert_eq!(
            headline(&Verdict::Failed(Failure::Raised(exception))),
            "raised ValueError: first\\nsecond\\u{1b}[1m"
        );
    }

    #[test]
    fn orphans() {
        assert_eq!(orphan("expected/a.toml"), ("expected/a.toml", None));
        assert_eq!(
            orphan("expected/a.toml: x/1"),
            ("expected/a.toml", Some("x/1"))
        );
        assert_eq!(
            orphan("expected/a/plot: 1.png"),
            ("expected/a/plot: 1.png", None)
        );
    }
}

#[cfg(test)]
pub(super) mod sample {
    //! A run made by hand, with every verdict and every way to fail in it, for the tests of the formats: what no
    //! test book could bring about on every machine, a lost host for one, stands here as data.

    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::{
        Event, ExampleResult, Finished, PageResult, PageText, Reporter, Shard, Started, Summary,
    };
    use crate::book::{Page, Problem};
    use crate::compare::{Aspect, Difference};
    use crate::diagnose::Reason;
    use crate::example;
    use crate::interpreter::{Interpreter, Source};
    use crate::markdown;
    use crate::outcome::{Ending, Exception, Link, LinkKind, Outcome, Resource};
    use crate::protocol::Protections;
    use crate::verdict::{Failure, StepFailure, Verdict};

    /// What an example prints that wants to break the formats: controls, ends of CDATA, fences, commands.
    pub(crate) const NASTY: &str = "tab\there \x1b[31mred\x1b[0m \0 \u{8} ]]> </system-out> & \u{ffff} \u{85}\r\n\
        ::error file=a::pwned\n  ::add-mask::x\n##[error]pwned\n\u{feff}::stop-commands::x\n```\n</details>\r::set-env name=A::b\n";

    /// A page of `count` examples of one line.
    pub(crate) fn page(name: &str, count: usize) -> Page {
        let mut text = "# 7.3 Closures\n".to_owned();
        for _ in 0..count {
            text.push_str("\n```python\nprint(1)\n```\n");
        }
        let document = markdown::parse(&text);
        let (found, problems) = example::find(&document, &text, "page");
        assert_eq!((found.examples.len(), problems), (count, Vec::new()));
        Page {
            name: name.to_owned(),
            key: name.to_owned(),
            file: PathBuf::from("/work").join(name),
            recording: None,
            examples: found.examples,
            others: found.others,
            headings: document.headings,
            front_matter: None,
            chapter: None,
            text,
        }
    }

    pub(crate) fn python(version: &str) -> Interpreter {
        Interpreter {
            executable: PathBuf::from(format!("/python/{version}/bin/python")),
            version: (3, 12, 1),
            full_version: version.to_owned(),
            implementation: "cpython".to_owned(),
            libpython: PathBuf::from("/python/libpython.so"),
            prefix: PathBuf::from("/python"),
            base_executable: PathBuf::from("/python/bin/python"),
            purelib: PathBuf::from("/python/lib"),
            library: Vec::new(),
            packages: Vec::new(),
            path: Vec::new(),
            source: Source::Flag,
            asked: Some(version.to_owned()),
        }
    }

    pub(crate) fn exception() -> Exception {
        Exception {
            type_name: "ValueError".to_owned(),
            bases: vec!["ValueError".to_owned(), "Exception".to_owned()],
            message: "first\n::error::pwned".to_owned(),
            notes: vec!["a note".to_owned()],
            chain: Some(Box::new(Link {
                kind: LinkKind::Cause,
                exception: Exception {
                    type_name: "KeyError".to_owned(),
                    ..Exception::default()
                },
            })),
            members: Vec::new(),
            traceback: String::new(),
        }
    }

    /// Every verdict, and every way to fail, once.
    pub(crate) fn verdicts() -> Vec<Verdict> {
        let difference = |aspect| Difference {
            aspect,
            expected: "1\n".to_owned(),
            actual: NASTY.to_owned(),
        };
        let failures = [
            Failure::Differs(vec![
                difference(Aspect::Stdout),
                difference(Aspect::Stderr),
                difference(Aspect::Exception),
                difference(Aspect::Exit),
                difference(Aspect::Artifact("plot.png".to_owned())),
            ]),
            Failure::Steps(vec![StepFailure {
                line: 1,
                source: "print(1)\n".to_owned(),
                expected: "2\n".to_owned(),
                actual: "1\n".to_owned(),
            }]),
            Failure::Raised(exception()),
            Failure::RaisedOther {
                announced: "KeyError".to_owned(),
                exception: exception(),
            },
            Failure::DidNotRaise {
                announced: "KeyError".to_owned(),
            },
            Failure::Exited {
                status: 3,
                announced: None,
                orderly: true,
            },
            Failure::DidNotExit { announced: 3 },
            Failure::DidNotMake {
                announced: "plot.png".to_owned(),
            },
            Failure::Killed { signal: 11 },
            Failure::TimedOut {
                limit: Duration::from_secs(10),
            },
            Failure::TooMuch {
                of: Resource::Output,
                limit: 1000,
            },
            Failure::TooMuch {
                of: Resource::Memory,
                limit: 1000,
            },
            Failure::TooMuch {
                of: Resource::Processes,
                limit: 10,
            },
            Failure::TooMuch {
                of: Resource::Scratch,
                limit: 1000,
            },
            Failure::Lost {
                reason: "the host ended".to_owned(),
            },
            Failure::DoesNotParse(exception()),
            Failure::PageOutdated {
                shown: Some("1\n".to_owned()),
                recorded: None,
            },
            Failure::ByLuck {
                run: 7,
                runs: 50,
                reason: Reason::FailedAgain("it failed when it was run again".to_owned()),
            },
            Failure::NotNeeded {
                what: "skip".to_owned(),
                reason: "slow".to_owned(),
            },
            Failure::Unmet {
                reason: "needs numpy".to_owned(),
            },
        ];
        let mut verdicts = vec![
            Verdict::Verified,
            Verdict::Ran,
            Verdict::Unrecorded,
            Verdict::Blocked {
                by: "7-3-closures/1".to_owned(),
            },
            Verdict::Skipped {
                reason: "needs <root>".to_owned(),
                unmet: true,
            },
            Verdict::Skipped {
                reason: "later".to_owned(),
                unmet: false,
            },
            Verdict::Illustrative {
                reason: "a sketch".to_owned(),
            },
        ];
        verdicts.extend(failures.map(Verdict::Failed));
        verdicts
    }

    /// The example at `position` with a verdict, and what goes with it.
    pub(crate) fn result(page: &Page, position: usize, verdict: Verdict) -> ExampleResult<'_> {
        let ending = match &verdict {
            Verdict::Blocked { .. }
            | Verdict::Skipped { .. }
            | Verdict::Illustrative { .. }
            | Verdict::Failed(Failure::Unmet { .. }) => None,
            Verdict::Failed(
                Failure::Raised(exception)
                | Failure::RaisedOther { exception, .. }
                | Failure::DoesNotParse(exception),
            ) => Some(Ending::Raised(exception.clone())),
            Verdict::Failed(Failure::Exited {
                status, orderly, ..
            }) => Some(Ending::Exited {
                status: *status,
                orderly: *orderly,
            }),
            Verdict::Failed(Failure::Killed { signal }) => Some(Ending::Killed { signal: *signal }),
            Verdict::Failed(Failure::TimedOut { limit }) => {
                Some(Ending::TimedOut { limit: *limit })
            }
            Verdict::Failed(Failure::TooMuch { of, limit }) => Some(Ending::TooMuch {
                of: *of,
                limit: *limit,
            }),
            Verdict::Failed(Failure::Lost { reason }) => Some(Ending::Lost {
                reason: reason.clone(),
            }),
            _ => Some(Ending::Completed),
        };
        let example = &page.examples[position];
        let traceback = matches!(ending, Some(Ending::Raised(_))).then(|| {
            format!(
                "Traceback (most recent call last):\n  File \"{}\", line {}, in <module>\nValueError: first\n::error::pwned\n",
                page.name, example.block.code_line
            )
        });
        let outcome = ending.map(|ending| Outcome {
            stdout: NASTY.as_bytes().to_vec(),
            stderr: b"not \xff UTF-8\n".to_vec(),
            ending,
            steps: Vec::new(),
            artifacts: Vec::new(),
            duration: Duration::from_millis(1500),
        });
        ExampleResult {
            at: (0, position),
            page,
            example,
            verdict,
            outcome,
            traceback,
            from_cache: false,
        }
    }

    /// Tells a reporter of a run over a page with these verdicts on each of these Pythons, and returns all that
    /// it wrote.
    pub(crate) fn told(
        reporter: &mut dyn Reporter,
        verdicts: &[Verdict],
        pythons: &[&str],
    ) -> String {
        let page = page("docs/page.md", verdicts.len());
        let refused = Some("refused".to_owned());
        let protections = Protections {
            files: refused.clone(),
            network: refused.clone(),
            processes: refused.clone(),
            kernel: refused,
        };
        let mut out = Vec::new();
        let shard = Shard {
            part: 1,
            of: 2,
            plan: "0123abcd".to_owned(),
            pages: vec![PageText::of(&page)],
        };
        for version in pythons {
            let interpreter = python(version);
            let started = Started {
                interpreter: &interpreter,
                pages: 1,
                examples: verdicts.len(),
                protections: Some(&protections),
                shard: Some(&shard),
            };
            reporter.event(&Event::Started(&started), &mut out).unwrap();
            let mut summary = Summary::default();
            let examples: Vec<_> = verdicts
                .iter()
                .enumerate()
                .map(|(position, verdict)| {
                    summary.count(verdict);
                    result(&page, position, verdict.clone())
                })
                .collect();
            let result = PageResult {
                rerun: None,
                page: &page,
                number: 0,
                interpreter: &interpreter,
                examples,
                sessions: Vec::new(),
            };
            reporter.event(&Event::Page(&result), &mut out).unwrap();
            let orphans = [
                "expected/gone.toml".to_owned(),
                "expected/page.toml: gone/1".to_owned(),
            ];
            let finished = Finished {
                interpreter: &interpreter,
                summary,
                orphans: &orphans,
                stopped_early: false,
                sessions: 1,
                kept: 0,
                duration: Duration::from_secs(2),
            };
            reporter
                .event(&Event::Finished(&finished), &mut out)
                .unwrap();
        }
        reporter.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Tells a reporter of authors' mistakes, and returns all that it wrote.
    pub(crate) fn told_problems(reporter: &mut dyn Reporter) -> String {
        let problems = [
            Problem {
                page: "docs/a,b.md".to_owned(),
                line: Some(3),
                message: "unknown word `<x>`".to_owned(),
            },
            Problem {
                page: "docs/c.md".to_owned(),
                line: None,
                message: "cannot be read: ]]>".to_owned(),
            },
            Problem {
                page: "docs/a,b.md".to_owned(),
                line: Some(3),
                message: "unknown word `<y>`".to_owned(),
            },
        ];
        let mut out = Vec::new();
        reporter
            .event(&Event::Problems(&problems), &mut out)
            .unwrap();
        reporter.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}
