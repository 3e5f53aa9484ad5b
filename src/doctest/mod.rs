//! Transcripts (`>>>` and `...`) read and judged as Python's `doctest` reads and judges them.
//!
//! Pages full of transcripts were written against `doctest`, by hand or with pytest. They must get the
//! verdict they always got, or nobody can trust the verdicts that differ. So this module follows
//! `Lib/doctest.py` of CPython 3.13 (`DocTestParser`, `OutputChecker`, the decision in
//! `DocTestRunner.__run`) down to its oddities, and `_pytest/doctest.py` for the flags that pytest
//! adds. `tests/doctest_agreement.rs` holds it to the `doctest` of whichever Python is installed.
//!
//! Three things differ on purpose. `doctest` raises at the first mistake in a transcript; here every
//! mistake is a [`Problem`]. `doctest` reports a bad option at its statement's prompt; here it is
//! reported at its own line. And with `NUMBER` a digit is 0 to 9, where pytest takes any script's.

mod compare;
mod flags;
mod parse;

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;

use compare::without_location;

pub use compare::{exception_matches, matches};
pub use flags::{Flags, Options, UnknownFlag};
pub use parse::{Problem, parse};

/// One prompt with its continuation lines, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Python source without prompts and indentation; ends in a newline.
    pub source: String,
    /// The expected output or traceback without indentation; empty, or ends in a newline.
    pub want: String,
    /// From the exception's type on, if `want` is a traceback; ends in a newline.
    pub exception_message: Option<String>,
    /// What the directives in `source` switch on and off.
    pub options: Options,
    /// The 1-based line of the block with the `>>>`.
    pub line: usize,
    /// The 1-based lines of the block that hold `want`; if there are none, empty at the line before
    /// which they would be inserted.
    pub want_lines: Range<usize>,
    /// Columns before the `>>>`, tabs counted as `doctest` expands them (to multiples of 8).
    pub indent: usize,
}

/// What running a statement gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got<'a> {
    /// It ended normally, having printed this.
    Output(&'a str),
    /// An exception ended it.
    Raised {
        stdout: &'a str,
        /// `traceback.format_exception_only()` joined: type, message and notes, with a final newline.
        message: &'a str,
    },
}

/// Whether `doctest` would call this statement a success under the flags `base` and its own.
pub fn judge(statement: &Statement, got: &Got, base: Flags) -> bool {
    let flags = statement.options.apply(base);
    if flags.contains(Flags::SKIP) {
        return true;
    }
    match (got, &statement.exception_message) {
        // An expected exception that does not come is a difference in output like any other, and
        // a program that prints a traceback may even match.
        (Got::Output(stdout), _) => matches(&statement.want, &terminated(stdout), flags),
        (Got::Raised { .. }, None) => false,
        // What was printed before an exception is not compared: a want cannot hold both.
        (Got::Raised { message, .. }, Some(want)) => {
            exception_matches(want, &terminated(message), flags)
        }
    }
}

/// How a want for an exception begins; what follows is its type and message.
pub const RAISED: &str = "Traceback (most recent call last):\n    ...\n";

/// The want that a recorder writes for this result, before it is indented; empty, or ends in a newline.
///
/// Some results no want can express: a tab, a first line that begins with `...`, a line that begins
/// with `>>>`, `<BLANKLINE>` printed next to a blank line, output before an exception. A recorder
/// therefore has to [`parse`] and [`judge`] what it wrote before it may call it recorded.
pub fn want_for(got: &Got) -> String {
    let mut want = String::new();
    let text = match got {
        Got::Output(stdout) => terminated(stdout),
        Got::Raised { message, .. } => {
            want.push_str(RAISED);
            terminated(without_location(message))
        }
    };
    for line in text.split_terminator('\n') {
        // A line of mere spaces would end the want just as an empty one does.
        let blank = line.chars().all(|c| c.is_ascii() && is_space(c));
        want.push_str(if blank { BLANKLINE } else { line });
        want.push('\n');
    }
    want
}

const BLANKLINE: &str = "<BLANKLINE>";

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns of this module are constants that compile")
}

/// Adds the final newline that neither a want nor a source can be written without.
fn terminated(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.ends_with('\n') {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{text}\n"))
    }
}

/// Python's `str.isspace()`: Unicode's white space and four control characters besides.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `"ELLIPSIS NUMBER"` as a set.
    pub(super) fn flags(names: &str) -> Flags {
        names
            .split_whitespace()
            .map(|name| Flags::parse(name).unwrap())
            .fold(Flags::default(), |all, flag| all | flag)
    }

    pub(super) fn parse_clean(block: &str) -> Vec<Statement> {
        let (statements, problems) = parse(block);
        assert_eq!(problems, [], "{block}");
        statements
    }

    mod judging {
        use super::*;

        fn raised(message: &str) -> Got<'_> {
            Got::Raised {
                stdout: "printed\n",
                message,
            }
        }

        fn check(block: &str, got: Got, base: &str, expected: bool) {
            let statement = &parse_clean(block)[0];
            let verdict = judge(statement, &got, flags(base));
            assert_eq!(verdict, expected, "{block:?} against {got:?} with {base}");
        }

        const EXPECTS: &str = ">>> f()\nTraceback (most recent call last):\nE: x\n";

        #[test]
        fn output() {
            check(">>> f()\n", Got::Output(""), "", true);
            check(">>> f()\n", Got::Output("a\n"), "", false);
            check(">>> f()\na\n", Got::Output("a\n"), "", true);
            check(">>> f()\na\n", Got::Output("a"), "", true);
            check(">>> f()\na\n", Got::Output(""), "", false);
        }

        #[test]
        fn exceptions() {
            check(EXPECTS, raised("E: x\n"), "", true);
            check(EXPECTS, raised("E: x"), "", true);
            check(EXPECTS, raised("E: y\n"), "", false);
            check(EXPECTS, raised("E: y\n"), "IGNORE_EXCEPTION_DETAIL", true);
            check(">>> f()\nprinted\n", raised("E: x\n"), "", false);
            check(">>> f()\nx...\n", raised("x\n"), "ELLIPSIS", false);
            check(EXPECTS, Got::Output(""), "", false);
            check(
                EXPECTS,
                Got::Output("Traceback (most recent call last):\nE: x\n"),
                "",
                true,
            );
        }

        #[test]
        fn skipped() {
            check(
                ">>> f() # doctest: +SKIP\na\n",
                Got::Output("b\n"),
                "",
                true,
            );
            check(">>> f()\na\n", Got::Output("b\n"), "SKIP", true);
            check(">>> f()\n", raised("E: x\n"), "SKIP", true);
            check(
                ">>> f() # doctest: -SKIP\na\n",
                Got::Output("b\n"),
                "SKIP",
                false,
            );
        }

        #[test]
        fn own_options_come_last() {
            check(
                ">>> f() # doctest: +ELLIPSIS\na...\n",
                Got::Output("ab\n"),
                "",
                true,
            );
            check(
                ">>> f() # doctest: -ELLIPSIS\na...\n",
                Got::Output("ab\n"),
                "ELLIPSIS",
                false,
            );
        }
    }

    mod recording {
        use super::*;

        fn check(got: Got, expected: &str) {
            assert_eq!(want_for(&got), expected);
        }

        #[test]
        fn output() {
            check(Got::Output(""), "");
            check(Got::Output("a\n"), "a\n");
            check(Got::Output("a"), "a\n");
            check(
                Got::Output("a \n\n  \nb\n"),
                "a \n<BLANKLINE>\n<BLANKLINE>\nb\n",
            );
            check(Got::Output("\n"), "<BLANKLINE>\n");
            check(Got::Output("\u{a0}\n"), "\u{a0}\n");
        }

        #[test]
        fn exceptions() {
            let raised = |message| Got::Raised {
                stdout: "lost\n",
                message,
            };
            let header = "Traceback (most recent call last):\n    ...\n";
            check(raised("E: x\n"), &format!("{header}E: x\n"));
            check(
                raised("E: x\n\ny\n"),
                &format!("{header}E: x\n<BLANKLINE>\ny\n"),
            );
            check(
                raised("  File \"f\", line 1\n    x\n    ^\nSyntaxError: bad\n"),
                &format!("{header}SyntaxError: bad\n"),
            );
        }

        /// What a recorder does: write the want below its prompt, read the page again, judge.
        fn comes_back(got: Got, indent: &str) -> bool {
            let mut block = format!("{indent}>>> f()\n");
            for line in want_for(&got).split_terminator('\n') {
                block.extend([indent, line, "\n"]);
            }
            judge(&parse_clean(&block)[0], &got, Flags::default())
        }

        #[test]
        fn some_results_cannot_be_recorded() {
            assert!(!comes_back(Got::Output("a\tb\n"), ""));
            assert!(!comes_back(Got::Output("... a\n"), ""));
            assert!(!comes_back(Got::Output("a\n>>> b\n"), ""));
            assert!(!comes_back(Got::Output("\n<BLANKLINE>\n"), ""));
        }

        proptest! {
            #[test]
            fn recorded_output_matches(x in r"(\PC|[ \n]){0,40}", indent in " {0,9}") {
                prop_assume!(!x.contains(">>>") && !x.contains("..."));
                prop_assert!(comes_back(Got::Output(&x), &indent));
            }

            #[test]
            fn recorded_exceptions_match(x in r"(\PC|[ \n]){0,40}", indent in " {0,9}") {
                prop_assume!(!x.contains(">>>"));
                let message = format!("m.Error: {x}\n");
                let got = Got::Raised { stdout: "", message: &message };
                prop_assert!(comes_back(got, &indent));
            }
        }
    }
}
