//! What running one example did: plain data that the host's side fills in and the comparer reads.
//!
//! An outcome is complete however the example ended. Whatever it had printed is kept, and every way
//! to end is a variant of [`Ending`], so that no crash can pass for a success.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One run of one example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The bytes that arrived on file descriptor 1, from whichever process wrote them.
    pub stdout: Vec<u8>,
    /// The bytes that arrived on file descriptor 2. An uncaught exception is in `ending`, not here.
    pub stderr: Vec<u8>,
    pub ending: Ending,
    /// Transcript statements, console commands, or what stands before `#>` lines and `# value` comments, in order.
    pub steps: Vec<StepOutcome>,
    /// Files that the example declared with `artifact=`; `None` where it did not make one.
    pub artifacts: Vec<(String, Option<Vec<u8>>)>,
    /// Wall time from the request to the completion record.
    pub duration: Duration,
}

impl Outcome {
    /// What one of its steps printed.
    pub fn printed_by(&self, step: &StepOutcome) -> &[u8] {
        self.stdout.get(step.stdout.clone()).unwrap_or_default()
    }
}

/// One step of an example: what can be told apart because the runner waited at its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepOutcome {
    /// Where in the example's stdout it is what this step printed.
    pub stdout: Range<usize>,
    pub exception: Option<Exception>,
    /// `repr()` of the expressions that carry a `# value` comment: (line of the example, text).
    pub values: Vec<(usize, String)>,
    /// Exit status of a console command.
    pub status: Option<i32>,
}

/// How an example ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Ran to its last line.
    Completed,
    /// An exception reached the top.
    Raised(Exception),
    /// `SystemExit`, `sys.exit` or `os._exit` with this status.
    Exited {
        status: i32,
        /// The interpreter shut down in order (`SystemExit`): the session could go on afterwards.
        orderly: bool,
    },
    /// The process was killed by this signal (its number).
    Killed { signal: i32 },
    /// Still running at its limit.
    TimedOut { limit: Duration },
    /// Used more than its limit of something.
    TooMuch { of: Resource, limit: u64 },
    /// The process or its host vanished without saying how.
    Lost { reason: String },
}

/// What all processes of a session together may use up; counts and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// Bytes on stdout and stderr.
    Output,
    /// Bytes of memory.
    Memory,
    /// Processes at once.
    Processes,
    /// Bytes in the session's directory.
    Scratch,
}

/// An exception as a recording keeps it: no frames, carets or suggestions, which differ between versions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exception {
    /// As tracebacks print it: `ValueError`, `json.decoder.JSONDecodeError`.
    pub type_name: String,
    /// Names of the class and its bases, unqualified and qualified, so that `raises=OSError` accepts a subclass.
    pub bases: Vec<String>,
    /// `str()` of the exception; empty where it has none.
    pub message: String,
    pub notes: Vec<String>,
    /// What it was raised from or while handling, outermost last as Python prints it.
    pub chain: Option<Box<Link>>,
    /// Members of an exception group.
    pub members: Vec<Exception>,
    /// The whole traceback as Python formats it, for a person; never recorded or compared.
    pub traceback: String,
}

/// What stood before an exception in its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub kind: LinkKind,
    pub exception: Exception,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkKind {
    /// `raise … from …`
    Cause,
    /// Raised while another was being handled.
    Context,
}

impl Exception {
    /// Type, message, notes, chain and group as text: what recordings and pages show, without a final newline.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, "");
        out
    }

    /// `Type: message`, or the type alone.
    pub fn headline(&self) -> String {
        if self.message.is_empty() {
            self.type_name.clone()
        } else {
            format!("{}: {}", self.type_name, self.message)
        }
    }

    /// Whether `raises=name` accepts this exception: its own class or a base of it. A class may be named
    /// by the package that passes it on: `json.JSONDecodeError` is defined in `json.decoder`.
    pub fn is_a(&self, name: &str) -> bool {
        let passed_on = |base: &str| match (name.rsplit_once('.'), base.rsplit_once('.')) {
            (Some((package, class)), Some((module, other))) => {
                class == other
                    && module
                        .strip_prefix(package)
                        .is_some_and(|rest| rest.starts_with('.'))
            }
            _ => false,
        };
        self.type_name == name
            || self
                .bases
                .iter()
                .any(|base| base == name || passed_on(base))
    }

    fn write(&self, out: &mut String, indent: &str) {
        if let Some(link) = &self.chain {
            link.exception.write(out, indent);
            let sentence = match link.kind {
                LinkKind::Cause => {
                    "The above exception was the direct cause of the following exception:"
                }
                LinkKind::Context => {
                    "During handling of the above exception, another exception occurred:"
                }
            };
            let _ = write!(out, "\n\n{indent}{sentence}\n\n");
        }
        let headline = self.headline();
        let lines = headline
            .split('\n')
            .chain(self.notes.iter().flat_map(|note| note.split('\n')));
        for (number, line) in lines.enumerate() {
            if number > 0 {
                out.push('\n');
            }
            out.push_str(indent);
            out.push_str(line);
        }
        for member in &self.members {
            out.push('\n');
            member.write(out, &format!("{indent}    "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(type_name: &str, message: &str) -> Exception {
        Exception {
            type_name: type_name.into(),
            message: message.into(),
            ..Exception::default()
        }
    }

    #[test]
    fn text_of_a_bare_exception_is_its_type() {
        assert_eq!(
            exception("KeyboardInterrupt", "").text(),
            "KeyboardInterrupt"
        );
    }

    #[test]
    fn a_class_is_known_by_its_names_and_those_of_its_bases() {
        let mut e = exception("json.decoder.JSONDecodeError", "");
        e.bases = [
            "JSONDecodeError",
            "json.decoder.JSONDecodeError",
            "ValueError",
        ]
        .map(String::from)
        .into();
        for name in [
            "JSONDecodeError",
            "json.JSONDecodeError",
            "json.decoder.JSONDecodeError",
            "ValueError",
        ] {
            assert!(e.is_a(name), "{name}");
        }
        for name in ["KeyError", "js.JSONDecodeError", "decoder.JSONDecodeError"] {
            assert!(!e.is_a(name), "{name}");
        }
    }

    #[test]
    fn text_has_notes_below_the_message() {
        let mut e = exception("ValueError", "bad");
        e.notes = vec!["first".into(), "second\nline".into()];
        assert_eq!(e.text(), "ValueError: bad\nfirst\nsecond\nline");
    }

    #[test]
    fn text_prints_the_chain_first() {
        let mut e = exception("ValueError", "bad");
        e.chain = Some(Box::new(Link {
            kind: LinkKind::Cause,
            exception: exception("KeyError", "'x'"),
        }));
        assert_eq!(
            e.text(),
            "KeyError: 'x'\n\nThe above exception was the direct cause of the following exception:\n\nValueError: bad"
        );
    }

    #[test]
    fn text_indents_the_members_of_a_group() {
        let mut inner = exception("ExceptionGroup", "inner (1 sub-exception)");
        inner.members = vec![exception("TypeError", "b")];
        let mut e = exception("ExceptionGroup", "two (2 sub-exceptions)");
        e.members = vec![exception("ValueError", "a"), inner];
        assert_eq!(
            e.text(),
            "ExceptionGroup: two (2 sub-exceptions)\n    ValueError: a\n    ExceptionGroup: inner (1 sub-exception)\n        TypeError: b"
        );
    }
}
