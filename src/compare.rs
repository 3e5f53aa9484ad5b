//! What an example did against what is expected of it.
//!
//! Exact unless the recording says otherwise: every character counts, trailing spaces and the final newline
//! included. Each respect in which they differ is a [`Difference`] that holds both texts; nothing here
//! decides how one is shown.

use std::io::Cursor;

use serde::{Deserialize, Serialize};

use crate::matching::Matching;
pub use crate::matching::{has_wildcards, lossy, text_matches};
use crate::normalize::{Context, Rule, apply, apply_bytes, float_digits};
use crate::outcome::{Ending, Outcome, Resource};
use crate::recording::Expected;

/// In which respect an outcome is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Aspect {
    Stdout,
    Stderr,
    Exception,
    Exit,
    /// The file of this name.
    Artifact(String),
}

/// One respect, with both sides as a diff should show them: after the rules, what matches a wildcard
/// written as the wildcard, and bytes that are not UTF-8 as `\xNN`. Empty where one side has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub aspect: Aspect,
    pub expected: String,
    pub actual: String,
}

/// How to compare, besides what the expectation itself says.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub rules: &'a [Rule],
    /// Lines of stdout and stderr may come in any order.
    pub unordered: bool,
    /// Of the run that is compared.
    pub context: &'a Context,
}

/// Every respect in which `outcome` is not as expected, in the order of [`Aspect`]; none if it is.
///
/// An example that was killed, ran out of time or printed too much always differs: no expectation can be
/// met by one that did not come to its end.
pub fn compare(outcome: &Outcome, expected: &Expected, options: &Options) -> Vec<Difference> {
    let in_order = Matching {
        wildcards: !expected.literal,
        digits: float_digits(options.rules),
        unordered: false,
    };
    let lines = Matching {
        unordered: options.unordered,
        ..in_order
    };
    let raised = match &outcome.ending {
        Ending::Raised(exception) => Some(exception.text()),
        _ => None,
    };
    let streams = [
        (
            Aspect::Stdout,
            lines,
            &expected.stdout[..],
            &outcome.stdout[..],
        ),
        (
            Aspect::Stderr,
            lines,
            &expected.stderr[..],
            &outcome.stderr[..],
        ),
        (
            Aspect::Exception,
            in_order,
            expected.exception.as_deref().unwrap_or_default().as_bytes(),
            raised.as_deref().unwrap_or_default().as_bytes(),
        ),
    ];
    let mut differences: Vec<Difference> = streams
        .into_iter()
        .filter_map(|(aspect, matching, wanted, got)| {
            difference(aspect, matching, wanted, got, options)
        })
        .collect();
    differences.extend(exit_difference(&outcome.ending, expected.exit));
    differences.extend(missing_and_extra_artifacts(outcome, expected));
    differences
}

/// What recording writes for `outcome`: its output after the rules. How it ended is taken as it is; whether
/// an exception or an exit may be recorded at all is for the caller to say.
pub fn observed(outcome: &Outcome, rules: &[Rule], context: &Context) -> Expected {
    let mut expected = Expected {
        stdout: apply_bytes(rules, &outcome.stdout, context),
        stderr: apply_bytes(rules, &outcome.stderr, context),
        ..Expected::default()
    };
    match &outcome.ending {
        Ending::Raised(exception) => {
            expected.exception = Some(apply(rules, &exception.text(), context));
        }
        Ending::Exited { status, .. } => expected.exit = Some(*status),
        Ending::Completed
        | Ending::Killed { .. }
        | Ending::TimedOut { .. }
        | Ending::TooMuch { .. }
        | Ending::Lost { .. } => {}
    }
    let made = outcome
        .artifacts
        .iter()
        .filter(|(_, bytes)| bytes.is_some());
    expected.artifacts = made.map(|(name, _)| name.clone()).collect();
    let exception = expected.exception.as_deref().unwrap_or_default();
    expected.literal = has_wildcards(&expected.stdout)
        || has_wildcards(&expected.stderr)
        || has_wildcards(exception.as_bytes());
    expected
}

/// Whether a file that an example made is the one that was kept: text line by line, a PNG by its pixels,
/// anything else byte by byte. `None` if it is.
pub fn artifact_matches(name: &str, expected: &[u8], actual: &[u8]) -> Option<Difference> {
    if expected == actual {
        return None;
    }
    let difference = |expected: String, actual: String| {
        Some(Difference {
            aspect: Aspect::Artifact(name.to_owned()),
            expected,
            actual,
        })
    };
    if let (Some(wanted), Some(got)) = (Picture::decode(expected), Picture::decode(actual)) {
        return match wanted.differing_pixels(&got) {
            Some((0, _)) => None,
            pixels => difference(wanted.describe(None), got.describe(pixels)),
        };
    }
    if let (Some(wanted), Some(got)) = (as_text(expected), as_text(actual)) {
        return difference(wanted.to_owned(), got.to_owned());
    }
    let at = expected
        .iter()
        .zip(actual)
        .take_while(|(a, b)| a == b)
        .count();
    difference(describe_bytes(expected, at), describe_bytes(actual, at))
}

fn difference(
    aspect: Aspect,
    matching: Matching,
    expected: &[u8],
    actual: &[u8],
    options: &Options,
) -> Option<Difference> {
    // Before the rules too: equal outputs must match whatever the rules make of them.
    if expected == actual {
        return None;
    }
    let wanted = apply_bytes(options.rules, expected, options.context);
    let got = apply_bytes(options.rules, actual, options.context);
    if matching.matches(&wanted, &got) {
        return None;
    }
    let (wanted, got) = matching.shown(&wanted, &got);
    Some(Difference {
        aspect,
        expected: lossy(&wanted),
        actual: lossy(&got),
    })
}

fn exit_difference(ending: &Ending, expected: Option<i32>) -> Option<Difference> {
    let actual = match ending {
        Ending::Completed | Ending::Raised(_) => String::new(),
        Ending::Exited { status, .. } if Some(*status) == expected => return None,
        Ending::Exited { status, .. } => format!("exit status {status}"),
        Ending::Killed { signal } => format!("killed by signal {signal}"),
        Ending::TimedOut { limit } => format!("still running after {} s", limit.as_secs_f64()),
        Ending::TooMuch { of, limit } => match of {
            Resource::Output => format!("printed more than {limit} bytes"),
            Resource::Memory => format!("used more than {limit} bytes of memory"),
            Resource::Processes => format!("had more than {limit} processes"),
            Resource::Scratch => format!("filled its directory with more than {limit} bytes"),
        },
        Ending::Lost { reason } => format!("lost: {reason}"),
    };
    let expected = expected.map_or(String::new(), |status| format!("exit status {status}"));
    (expected != actual).then_some(Difference {
        aspect: Aspect::Exit,
        expected,
        actual,
    })
}

fn missing_and_extra_artifacts(outcome: &Outcome, expected: &Expected) -> Vec<Difference> {
    let made = |name: &String| {
        outcome
            .artifacts
            .iter()
            .any(|(made, bytes)| made == name && bytes.is_some())
    };
    let missing = expected
        .artifacts
        .iter()
        .filter(|name| !made(name))
        .map(|name| Difference {
            aspect: Aspect::Artifact(name.clone()),
            expected: format!("a file `{name}`"),
            actual: String::new(),
        });
    let extra = outcome
        .artifacts
        .iter()
        .filter(|(name, bytes)| bytes.is_some() && !expected.artifacts.contains(name))
        .map(|(name, _)| Difference {
            aspect: Aspect::Artifact(name.clone()),
            expected: String::new(),
            actual: format!("a file `{name}`, which is not recorded"),
        });
    missing.chain(extra).collect()
}

/// Text that a person would read as lines. A NUL is valid UTF-8, but no text file has one.
fn as_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

/// A file that an example made, for a person: text as it is, of anything else what can be said of it.
pub fn readable(file: &[u8]) -> String {
    let picture = || Some(Picture::decode(file)?.describe(None));
    let text = || Some(as_text(file).filter(|text| !text.is_empty())?.to_owned());
    picture()
        .or_else(text)
        .unwrap_or_else(|| format!("{} bytes", file.len()))
}

fn describe_bytes(bytes: &[u8], at: usize) -> String {
    let there: Vec<String> = bytes
        .iter()
        .skip(at)
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let there = if there.is_empty() {
        "the end".to_owned()
    } else {
        there.join(" ")
    };
    format!("{} bytes, at offset {at}: {there}", bytes.len())
}

/// A decoded PNG. Its compression, and metadata such as the program that wrote it, are gone.
struct Picture {
    width: usize,
    height: usize,
    /// Red, green, blue, alpha, widened to 16 bits, row by row.
    pixels: Vec<[u16; 4]>,
}

impl Picture {
    /// `None` for what is no PNG, is damaged, or has more than one frame: such a file is compared by bytes.
    fn decode(bytes: &[u8]) -> Option<Picture> {
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().ok()?;
        if reader.info().is_animated() {
            return None;
        }
        let mut buffer = vec![0; reader.output_buffer_size()?];
        let frame = reader.next_frame(&mut buffer).ok()?;
        let samples: Vec<u16> = match frame.bit_depth {
            png::BitDepth::Sixteen => buffer
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect(),
            // 255 becomes 65535, so that the same colour in either depth is equal.
            _ => buffer
                .iter()
                .map(|sample| u16::from(*sample) * 257)
                .collect(),
        };
        let pixels = match frame.color_type {
            png::ColorType::GrayscaleAlpha => samples
                .chunks_exact(2)
                .map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]])
                .collect(),
            png::ColorType::Rgba => samples
                .chunks_exact(4)
                .map(|pixel| [pixel[0], pixel[1], pixel[2], pixel[3]])
                .collect(),
            _ => return None,
        };
        let (width, height) = (
            usize::try_from(frame.width).ok()?,
            usize::try_from(frame.height).ok()?,
        );
        Some(Picture {
            width,
            height,
            pixels,
        })
    }

    /// How many pixels differ and the first of them (column, row); `None` if the sizes do.
    fn differing_pixels(&self, other: &Picture) -> Option<(usize, (usize, usize))> {
        if (self.width, self.height) != (other.width, other.height) {
            return None;
        }
        let mut differing = self
            .pixels
            .iter()
            .zip(&other.pixels)
            .enumerate()
            .filter(|(_, (a, b))| a != b)
            .map(|(index, _)| (index % self.width.max(1), index / self.width.max(1)));
        let first = differing.next();
        Some((
            differing.count() + usize::from(first.is_some()),
            first.unwrap_or_default(),
        ))
    }

    fn describe(&self, pixels: Option<(usize, (usize, usize))>) -> String {
        let size = format!("PNG, {} by {} pixels", self.width, self.height);
        match pixels {
            Some((count, (column, row))) => {
                let total = self.pixels.len();
                format!(
                    "{size}; {count} of {total} differ, the first in column {column} of row {row}"
                )
            }
            None => size,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::Exception;

    fn outcome(stdout: &str, ending: Ending) -> Outcome {
        Outcome {
            stdout: stdout.into(),
            stderr: Vec::new(),
            ending,
            steps: Vec::new(),
            artifacts: Vec::new(),
            duration: Duration::ZERO,
        }
    }

    fn raised(type_name: &str, message: &str) -> Ending {
        Ending::Raised(Exception {
            type_name: type_name.into(),
            message: message.into(),
            ..Exception::default()
        })
    }

    fn with(
        expected: &Expected,
        outcome: &Outcome,
        rules: &[Rule],
        unordered: bool,
    ) -> Vec<Difference> {
        let context = Context {
            scratch: "/s/1".into(),
            pids: vec![4242],
        };
        compare(
            outcome,
            expected,
            &Options {
                rules,
                unordered,
                context: &context,
            },
        )
    }

    fn check(expected: &Expected, outcome: &Outcome, wanted: &[(Aspect, &str, &str)]) {
        let got = with(expected, outcome, &[], false);
        let got: Vec<_> = got
            .iter()
            .map(|found| {
                (
                    found.aspect.clone(),
                    found.expected.as_str(),
                    found.actual.as_str(),
                )
            })
            .collect();
        assert_eq!(got, wanted);
    }

    fn prints(text: &str) -> Expected {
        Expected {
            stdout: text.into(),
            ..Expected::default()
        }
    }

    #[test]
    fn output_is_compared_exactly() {
        check(&prints("a\n"), &outcome("a\n", Ending::Completed), &[]);
        check(
            &prints("a\n"),
            &outcome("a", Ending::Completed),
            &[(Aspect::Stdout, "a\n", "a")],
        );
        check(
            &prints("a\n"),
            &outcome("a \n", Ending::Completed),
            &[(Aspect::Stdout, "a\n", "a \n")],
        );
        check(
            &prints("a\n"),
            &outcome("a\r\n", Ending::Completed),
            &[(Aspect::Stdout, "a\n", "a\r\n")],
        );
        check(
            &prints(""),
            &outcome("a\n", Ending::Completed),
            &[(Aspect::Stdout, "", "a\n")],
        );
    }

    #[test]
    fn wildcards_hold_unless_literal() {
        let mut expected = prints("a [..]\n");
        check(&expected, &outcome("a b\n", Ending::Completed), &[]);
        check(
            &expected,
            &outcome("b\n", Ending::Completed),
            &[(Aspect::Stdout, "a [..]\n", "b\n")],
        );
        expected.literal = true;
        check(
            &expected,
            &outcome("a b\n", Ending::Completed),
            &[(Aspect::Stdout, "a [..]\n", "a b\n")],
        );
        check(&expected, &outcome("a [..]\n", Ending::Completed), &[]);
    }

    #[test]
    fn bytes_are_not_confused_with_their_escapes() {
        let mut expected = prints("\\xff");
        let mut got = outcome("", Ending::Completed);
        got.stdout = vec![0xff];
        check(&expected, &got, &[(Aspect::Stdout, "\\xff", "\\xff")]);
        expected.stdout = vec![0xff];
        check(&expected, &got, &[]);
    }

    #[test]
    fn rules_apply_to_both_sides() {
        let got = outcome("in /s/1 took 0.12s\n", Ending::Completed);
        let rules = [Rule::Path, Rule::Time];
        assert_eq!(
            with(&prints("in [PATH] took [TIME]\n"), &got, &rules, false),
            []
        );
        assert_eq!(
            with(&prints("in [PATH] took 3 s\n"), &got, &rules, false),
            []
        );
        assert_eq!(
            with(&prints("in [PATH] took [TIME]\n"), &got, &rules[..1], false).len(),
            1
        );
        assert_eq!(
            with(
                &prints("0.3\n"),
                &outcome("0.30000001\n", Ending::Completed),
                &[Rule::Float(6)],
                false
            ),
            []
        );
    }

    #[test]
    fn order_of_lines() {
        let got = outcome("b\na\n", Ending::Completed);
        assert_eq!(with(&prints("a\nb\n"), &got, &[], true), []);
        assert_eq!(with(&prints("a\nb\n"), &got, &[], false).len(), 1);
        let differences = with(&prints("a\nc\n"), &got, &[], true);
        assert_eq!(
            (
                differences[0].expected.as_str(),
                differences[0].actual.as_str()
            ),
            ("a\nc\n", "a\nb\n")
        );
    }

    #[test]
    fn exceptions_are_compared_as_text() {
        let expected = Expected {
            exception: Some("ValueError: bad".into()),
            ..Expected::default()
        };
        check(&expected, &outcome("", raised("ValueError", "bad")), &[]);
        check(
            &expected,
            &outcome("", raised("ValueError", "good")),
            &[(Aspect::Exception, "ValueError: bad", "ValueError: good")],
        );
        check(
            &expected,
            &outcome("", Ending::Completed),
            &[(Aspect::Exception, "ValueError: bad", "")],
        );
        check(
            &prints(""),
            &outcome("", raised("KeyError", "'x'")),
            &[(Aspect::Exception, "", "KeyError: 'x'")],
        );
        let expected = Expected {
            exception: Some("ValueError: [..]".into()),
            ..Expected::default()
        };
        check(&expected, &outcome("", raised("ValueError", "bad")), &[]);
    }

    #[test]
    fn exits_are_compared_by_status() {
        let expected = Expected {
            exit: Some(3),
            ..Expected::default()
        };
        let exited = |status| {
            outcome(
                "",
                Ending::Exited {
                    status,
                    orderly: true,
                },
            )
        };
        check(&expected, &exited(3), &[]);
        check(
            &expected,
            &exited(0),
            &[(Aspect::Exit, "exit status 3", "exit status 0")],
        );
        check(
            &expected,
            &outcome("", Ending::Completed),
            &[(Aspect::Exit, "exit status 3", "")],
        );
        check(
            &prints(""),
            &exited(0),
            &[(Aspect::Exit, "", "exit status 0")],
        );
    }

    #[test]
    fn no_crash_passes_for_success() {
        let limit = Duration::from_secs(30);
        let exit = |actual| [(Aspect::Exit, "", actual)];
        check(
            &prints(""),
            &outcome("", Ending::Killed { signal: 11 }),
            &exit("killed by signal 11"),
        );
        check(
            &prints(""),
            &outcome("", Ending::TimedOut { limit }),
            &exit("still running after 30 s"),
        );
        check(
            &prints(""),
            &outcome(
                "",
                Ending::TooMuch {
                    of: Resource::Output,
                    limit: 9,
                },
            ),
            &exit("printed more than 9 bytes"),
        );
        check(
            &prints(""),
            &outcome("", Ending::Lost { reason: "x".into() }),
            &exit("lost: x"),
        );
    }

    #[test]
    fn artifacts_are_missing_or_extra() {
        let mut got = outcome("", Ending::Completed);
        got.artifacts = vec![("b.txt".into(), Some(vec![])), ("a.txt".into(), None)];
        let expected = Expected {
            artifacts: vec!["a.txt".into()],
            ..Expected::default()
        };
        check(
            &expected,
            &got,
            &[
                (Aspect::Artifact("a.txt".into()), "a file `a.txt`", ""),
                (
                    Aspect::Artifact("b.txt".into()),
                    "",
                    "a file `b.txt`, which is not recorded",
                ),
            ],
        );
    }

    #[test]
    fn what_is_observed_meets_itself() {
        let context = Context {
            scratch: "/s/1".into(),
            pids: vec![],
        };
        let mut got = outcome("in /s/1\n...\n", raised("E", "x"));
        got.stderr = b"\xff".to_vec();
        got.artifacts = vec![("a.txt".into(), Some(vec![1]))];
        let rules = [Rule::Path];
        let expected = observed(&got, &rules, &context);
        assert_eq!(expected.stdout, b"in [PATH]\n...\n");
        assert!(expected.literal);
        assert_eq!(with(&expected, &got, &rules, false), []);
        got.stdout = b"in /s/1\nx\n".to_vec();
        assert_eq!(with(&expected, &got, &rules, false).len(), 1);
    }

    fn png(
        width: u32,
        color: png::ColorType,
        depth: png::BitDepth,
        data: &[u8],
        note: &str,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let height = 1;
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder
            .add_text_chunk("Software".into(), note.into())
            .expect("latin-1");
        let mut writer = encoder.write_header().expect("header");
        writer.write_image_data(data).expect("pixels");
        drop(writer);
        bytes
    }

    fn artifact(expected: &[u8], actual: &[u8], wanted: Option<(&str, &str)>) {
        let got = artifact_matches("x", expected, actual);
        let got = got
            .as_ref()
            .map(|found| (found.expected.as_str(), found.actual.as_str()));
        assert_eq!(got, wanted);
    }

    #[test]
    fn pictures_are_compared_by_pixels() {
        use png::{BitDepth::Eight, BitDepth::Sixteen, ColorType::Grayscale, ColorType::Rgb};
        let gray = png(2, Grayscale, Eight, &[0, 255], "a");
        artifact(&gray, &png(2, Grayscale, Eight, &[0, 255], "b"), None);
        artifact(
            &gray,
            &png(2, Rgb, Eight, &[0, 0, 0, 255, 255, 255], "a"),
            None,
        );
        artifact(
            &gray,
            &png(2, Grayscale, Sixteen, &[0, 0, 255, 255], "a"),
            None,
        );
        artifact(
            &gray,
            &png(2, Grayscale, Sixteen, &[0, 0, 255, 254], "a"),
            Some((
                "PNG, 2 by 1 pixels",
                "PNG, 2 by 1 pixels; 1 of 2 differ, the first in column 1 of row 0",
            )),
        );
        artifact(
            &gray,
            &png(1, Grayscale, Eight, &[0], "a"),
            Some(("PNG, 2 by 1 pixels", "PNG, 1 by 1 pixels")),
        );
    }

    #[test]
    fn a_damaged_picture_is_bytes() {
        let whole = png(
            2,
            png::ColorType::Grayscale,
            png::BitDepth::Eight,
            &[0, 255],
            "a",
        );
        let found = artifact_matches("x", &whole, &whole[..whole.len() - 20]);
        assert!(found.is_some_and(|found| found.expected.contains(" bytes, at offset ")));
    }

    #[test]
    fn other_files_are_text_or_bytes() {
        artifact(b"a\n", b"a\n", None);
        artifact(b"a\n", b"b\n", Some(("a\n", "b\n")));
        artifact(b"a [..]\n", b"a b\n", Some(("a [..]\n", "a b\n")));
        artifact(
            b"\xff\x01",
            b"\xff",
            Some(("2 bytes, at offset 1: 01", "1 bytes, at offset 1: the end")),
        );
        artifact(
            b"a\0b",
            b"a\0c",
            Some(("3 bytes, at offset 2: 62", "3 bytes, at offset 2: 63")),
        );
    }
}
