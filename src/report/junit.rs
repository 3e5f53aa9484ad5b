//! The report for CI servers that read JUnit's XML: Jenkins, GitLab, CircleCI, Azure and others.
//!
//! The format has no specification. This writes what the parsers of those servers agree on: one `testsuite`
//! per page and interpreter, and a `classname` and `name` that together stay the same from run to run, because
//! histories hang on them. `file` and `line` are for GitLab, CircleCI and the actions that link a case to its
//! source; of all readers only Jenkins' xUnit plugin refuses them (its usual JUnit step does not).
//!
//! Counts stand before the elements that they count, so the document is written when all runs are over; a run
//! that came to no end leaves none.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::plain::Pythons;
use super::{Event, ExampleResult, PageResult, Reporter, plain};
use crate::book::Problem;
use crate::compare::lossy;
use crate::interpreter::Interpreter;
use crate::verdict::{Failure, Verdict};

/// As many bytes of an example's output are kept at most; servers load whole documents into memory.
const MOST_OUTPUT: usize = 100_000;

#[derive(Debug, Default)]
pub struct Junit {
    suites: Vec<Suite>,
    pythons: Pythons,
    orphans: Vec<String>,
    duration: Duration,
}

/// A suite whose names wait for whether there is more than one interpreter to tell apart.
#[derive(Debug)]
struct Suite {
    page: String,
    /// Number of the interpreter; `None` for what does not depend on one.
    python: Option<usize>,
    results: TestSuite,
}

impl Reporter for Junit {
    fn event(&mut self, event: &Event<'_>, _out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Problems(problems) => self.problems(problems),
            Event::Started(started) => self.pythons.add(started.interpreter),
            Event::Example(..) | Event::Unchanged(..) => {}
            Event::Page(page) => self.page(page),
            Event::Finished(finished) => {
                self.duration += finished.duration;
                for orphan in finished.orphans {
                    if !self.orphans.contains(orphan) {
                        self.orphans.push(orphan.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut report = Report::new("verify");
        report.set_time(self.duration);
        for Suite {
            page,
            python,
            mut results,
        } in self.suites.drain(..)
        {
            let name = match python {
                Some(python) if self.pythons.are_several() => {
                    format!("{page} (Python {})", self.pythons.name(python))
                }
                _ => page,
            };
            for case in &mut results.test_cases {
                case.set_classname(legal(&name));
            }
            results.name = legal(&name).into();
            report.add_test_suite(results);
        }
        if !self.orphans.is_empty() {
            report.add_test_suite(orphans(&self.orphans));
        }
        // The serializer's error would hide what kind of error writing met.
        let document = report.to_string().map_err(io::Error::other)?;
        out.write_all(document.as_bytes())
    }
}

impl Junit {
    fn page(&mut self, page: &PageResult<'_>) {
        let python = &page.interpreter.full_version;
        let mut suite = TestSuite::new("");
        let executable = legal(&page.interpreter.executable.to_string_lossy());
        suite.add_properties([
            Property::new("python", python),
            Property::new("executable", executable),
        ]);
        let mut total = Duration::ZERO;
        for result in &page.examples {
            let case = case(result, page.interpreter);
            total += case.time.unwrap_or_default();
            suite.add_test_case(case);
        }
        suite.set_time(total);
        self.suites.push(Suite {
            page: page.page.name.clone(),
            python: Some(self.pythons.last()),
            results: suite,
        });
    }

    /// Nothing was run. A server that found no document, or one without failures, would show a success.
    fn problems(&mut self, problems: &[Problem]) {
        for (number, problem) in problems.iter().enumerate() {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status
                .set_type("problem")
                .set_message(legal(&problem.message));
            status.set_description(legal(&problem.to_string()));
            let place = problem
                .line
                .map_or_else(|| "page".to_owned(), |line| format!("line {line}"));
            let before = problems[..number].iter();
            let same =
                |other: &&Problem| (&other.page, other.line) == (&problem.page, problem.line);
            let name = match before.filter(same).count() {
                0 => place,
                more => format!("{place} ({})", more + 1),
            };
            let mut case = TestCase::new(name, status);
            case.extra
                .insert("file".into(), legal(&problem.page).into());
            if let Some(line) = problem.line {
                case.extra.insert("line".into(), line.to_string().into());
            }
            let suites = &mut self.suites;
            let known = suites.iter().position(|suite| suite.page == problem.page);
            let of_page = known.unwrap_or_else(|| {
                suites.push(Suite {
                    page: problem.page.clone(),
                    python: None,
                    results: TestSuite::new(""),
                });
                suites.len() - 1
            });
            suites[of_page].results.add_test_case(case);
        }
    }
}

fn case(result: &ExampleResult<'_>, interpreter: &Interpreter) -> TestCase {
    let status = status(result, interpreter);
    let mut case = TestCase::new(legal(&result.example.id), status);
    if let Some(outcome) = &result.outcome {
        case.set_time(outcome.duration);
        if result.verdict.is_failure() {
            if !outcome.stdout.is_empty() {
                case.set_system_out(end_of(&outcome.stdout));
            }
            if !outcome.stderr.is_empty() {
                case.set_system_err(end_of(&outcome.stderr));
            }
        }
    } else {
        case.set_time(Duration::ZERO);
    }
    let line = if result.verdict.is_failure() {
        result.line()
    } else {
        result.example.block.line
    };
    case.extra
        .insert("file".into(), legal(&result.page.name).into());
    case.extra.insert("line".into(), line.to_string().into());
    if result.from_cache {
        case.extra.insert("from_cache".into(), "true".into());
    }
    case
}

fn status(result: &ExampleResult<'_>, interpreter: &Interpreter) -> TestCaseStatus {
    let verdict = &result.verdict;
    let kind = match verdict {
        Verdict::Verified | Verdict::Ran => return TestCaseStatus::success(),
        Verdict::Skipped { reason, .. } | Verdict::Illustrative { reason } => {
            let mut status = TestCaseStatus::skipped();
            status.set_type(verdict.word()).set_message(legal(reason));
            return status;
        }
        // As everywhere in JUnit: a failure did what it should not, an error never came to its end.
        Verdict::Blocked { .. }
        | Verdict::Failed(
            Failure::Killed { .. }
            | Failure::TimedOut { .. }
            | Failure::TooMuch { .. }
            | Failure::Lost { .. }
            | Failure::Unmet { .. },
        ) => NonSuccessKind::Error,
        Verdict::Unrecorded | Verdict::Failed(_) => NonSuccessKind::Failure,
    };
    let headline = plain::headline(verdict);
    let place = format!("{}:{}", result.page.name, result.line());
    let text = format!(
        "{place}: {headline}\n{}again: {}\n",
        plain::details(result),
        plain::again(result, interpreter)
    );
    let mut status = TestCaseStatus::non_success(kind);
    status
        .set_type(plain::kind(verdict).unwrap_or_default())
        .set_message(legal(&headline));
    status.set_description(legal(&text));
    status
}

/// Orphans fail nothing by themselves, but a report that does not name them hides them.
fn orphans(orphans: &[String]) -> TestSuite {
    let mut suite = TestSuite::new("orphans");
    for orphan in orphans {
        let mut status = TestCaseStatus::skipped();
        status
            .set_type("orphan")
            .set_message("belongs to no example; `verify record` removes it");
        let mut case = TestCase::new(legal(orphan), status);
        case.set_classname("orphans").set_time(Duration::ZERO);
        case.extra
            .insert("file".into(), legal(plain::orphan(orphan).0).into());
        suite.add_test_case(case);
    }
    suite.set_time(Duration::ZERO);
    suite
}

/// What was printed last is nearest to what went wrong.
fn end_of(bytes: &[u8]) -> String {
    let text = lossy(bytes);
    let from = (text.len().saturating_sub(MOST_OUTPUT)..text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    let cut = if from == 0 {
        String::new()
    } else {
        format!("… {from} bytes before\n")
    };
    cut + &legal(&text[from..])
}

/// Text that XML 1.0 can hold, with the rest made visible. The writer would drop controls without a trace,
/// tabs and carriage returns among them, and let the two forbidden noncharacters through.
fn legal(text: &str) -> String {
    let mut legal = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => legal.push(c),
            '\x7f' => legal.push('␡'),
            c if c < ' ' => legal.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('�')),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                legal.extend(c.escape_unicode());
            }
            c => legal.push(c),
        }
    }
    legal
}

#[cfg(test)]
mod tests {
    use junit_parser::{TestStatus, TestSuites};
    use proptest::prelude::*;

    use super::super::plain::sample;
    use super::*;

    fn parsed(document: &str) -> TestSuites {
        junit_parser::from_reader(document.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {document}"))
    }

    #[test]
    fn every_verdict_has_its_place() {
        let verdicts = sample::verdicts();
        let report = parsed(&sample::told(&mut Junit::default(), &verdicts, &["3.12.1"]));
        assert_eq!(
            (report.tests, report.failures, report.errors, report.skipped),
            (29, 13, 9, 5)
        );
        let suite = &report.suites[0];
        assert_eq!(
            (suite.name.as_str(), suite.cases.len()),
            ("docs/page.md", verdicts.len())
        );
        for (case, verdict) in suite.cases.iter().zip(&verdicts) {
            let (word, expected) = match &case.status {
                TestStatus::Success => ("success", None),
                TestStatus::Error(error) => (error.error_type.as_str(), plain::kind(verdict)),
                TestStatus::Failure(failure) => {
                    (failure.failure_type.as_str(), plain::kind(verdict))
                }
                TestStatus::Skipped(skipped) => {
                    (skipped.skipped_type.as_str(), Some(verdict.word()))
                }
            };
            assert_eq!(word, expected.unwrap_or("success"), "{verdict:?}");
            assert_eq!(case.classname.as_deref(), Some("docs/page.md"));
            assert_eq!(
                case.system_out.is_some(),
                verdict.is_failure()
                    && !matches!(
                        verdict,
                        Verdict::Blocked { .. } | Verdict::Failed(Failure::Unmet { .. })
                    ),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn several_interpreters_are_told_apart() {
        let report = parsed(&sample::told(
            &mut Junit::default(),
            &[Verdict::Ran],
            &["3.12.1", "3.13.0"],
        ));
        let names: Vec<_> = report
            .suites
            .iter()
            .map(|suite| suite.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "docs/page.md (Python 3.12.1)",
                "docs/page.md (Python 3.13.0)",
                "orphans"
            ]
        );
        assert_eq!(
            report.suites[1].cases[0].classname.as_deref(),
            Some("docs/page.md (Python 3.13.0)")
        );
    }

    #[test]
    fn problems_are_errors() {
        let report = parsed(&sample::told_problems(&mut Junit::default()));
        assert_eq!((report.tests, report.errors), (3, 3));
        let cases = report.suites.iter().flat_map(|suite| &suite.cases);
        let names: Vec<_> = cases
            .map(|case| (case.original_name.as_str(), case.line))
            .collect();
        let expected = [("line 3", Some(3)), ("line 3 (2)", Some(3)), ("page", None)];
        assert_eq!(names, expected);
        assert_eq!(report.suites.len(), 2);
    }

    #[test]
    fn long_output_keeps_its_end() {
        let text = "é".repeat(MOST_OUTPUT);
        let kept = end_of(text.as_bytes());
        assert!(
            kept.starts_with("… 100000 bytes before\né") && kept.ends_with('é'),
            "{kept:.40}"
        );
        assert_eq!(end_of(b"short\n"), "short\n");
    }

    fn character() -> impl Strategy<Value = char> {
        prop_oneof![
            any::<char>(),
            proptest::char::range('\0', '\u{a0}'),
            Just('\u{fffe}'),
            Just('\u{ffff}')
        ]
    }

    proptest! {
        /// Production [2] of XML 1.0, and nothing that the writer would take out.
        #[test]
        fn legal_text_is_legal_and_complete(text in proptest::collection::vec(character(), 0..40)) {
            let text: String = text.into_iter().collect();
            let legal = legal(&text);
            let allowed = |c| c == '\n' || (c >= ' ' && !matches!(c, '\x7f'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'));
            prop_assert!(legal.chars().all(allowed), "{:?}", legal);
            prop_assert_eq!(String::from(quick_junit::XmlString::new(&legal)), legal.as_str());
            prop_assert!(legal.chars().count() >= text.chars().count());
        }
    }
}
