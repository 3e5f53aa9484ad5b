//! A file under `expected/`: what is expected of the examples of one page.
//!
//! These files are read by people more often than by this program: in a review, a changed output is a
//! changed line. So every text is written the way it was printed wherever TOML can hold it that way, one
//! content has one form, and reading what was printed gives the same value to the byte.
//!
//! [`parse`] and [`print`] are the two ways between file and value, [`update`] is what recording does to one.

mod parse;
mod print;
mod update;
mod version;

use std::str::FromStr;

use pep440_rs::Version;

use crate::matching::has_wildcards;
use crate::normalize::Rule;

pub use parse::{Problem, parse};
pub use print::{is_recording, print};
pub use update::{Observed, update};
pub use version::VersionSelector;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: i64 = 1;

/// One file: the examples of a page, in page order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    pub examples: Vec<Recorded>,
}

/// What is expected of one example.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    pub id: String,
    /// Rules that both sides go through before they are compared.
    pub normalize: Vec<Rule>,
    /// Lines of stdout and stderr may come in any order.
    pub unordered: bool,
    /// What holds on every version that no variant is for.
    pub expected: Expected,
    /// Each selector at most once.
    pub variants: Vec<Variant>,
}

/// What one run of an example should do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// [`crate::outcome::Exception::text`]; never empty.
    pub exception: Option<String>,
    /// Exit status of an example that leaves by `SystemExit` or `os._exit`.
    pub exit: Option<i32>,
    /// Names of the files that it makes. Their bytes are kept beside the recording.
    pub artifacts: Vec<String>,
    /// The output itself has `...` lines or `[..]`: they are text, not wildcards. Without this an example
    /// that prints a line of three dots would pass whatever it printed instead, and nobody would have
    /// asked for that.
    pub literal: bool,
}

/// What differs on some versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub versions: VersionSelector,
    pub expected: Overlay,
}

/// The parts of an [`Expected`] that differ from the base; `None` where it is as the base.
///
/// An overlay with nothing in it is meaningful: it says that its version is as the base although a broader
/// selector matches as well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::option_option)] // The outer says whether it differs, the inner is the value: an exit may differ by being none.
pub struct Overlay {
    pub stdout: Option<Vec<u8>>,
    pub stderr: Option<Vec<u8>>,
    pub exception: Option<Option<String>>,
    pub exit: Option<Option<i32>>,
    pub artifacts: Option<Vec<String>>,
    pub literal: Option<bool>,
}

impl Expected {
    /// Whether somebody left something open in it, by hand.
    pub fn has_wildcards(&self) -> bool {
        let exception = self.exception.as_deref().unwrap_or_default().as_bytes();
        !self.literal
            && [&self.stdout, &self.stderr, exception]
                .into_iter()
                .any(has_wildcards)
    }
}

impl Recording {
    pub fn entry(&self, id: &str) -> Option<&Recorded> {
        self.examples.iter().find(|recorded| recorded.id == id)
    }

    /// Names of the files that its examples make, on any version.
    pub fn artifacts(&self) -> impl Iterator<Item = &String> {
        self.examples.iter().flat_map(|recorded| {
            let variants = recorded.variants.iter();
            let own = variants.filter_map(|variant| variant.expected.artifacts.as_ref());
            own.flatten().chain(&recorded.expected.artifacts)
        })
    }
}

impl Recorded {
    /// As [`Expected::has_wildcards`], for any version.
    pub fn has_wildcards(&self) -> bool {
        let variants = self.variants.iter();
        let mut all = variants.map(|variant| variant.expected.over(&self.expected));
        self.expected.has_wildcards() || all.any(|expected| expected.has_wildcards())
    }

    /// What is expected on `version`: the base, with the overlay of the most specific variant that matches.
    ///
    /// Most specific is the selector that matches the fewest versions of Python: `==3.13.2` before `3.13`,
    /// `3.13` before `>=3.13`, `>=3.13` before `>=3.12`. If two match equally many, a bare version goes
    /// before a specifier, and then the one further down in the file. Only one overlay is applied, never
    /// one on top of another, so that a variant can be read without the others.
    pub fn expected_for(&self, version: &Version) -> Expected {
        match self.winner(version) {
            Some(index) => self.variants[index].expected.over(&self.expected),
            None => self.expected.clone(),
        }
    }

    fn winner(&self, version: &Version) -> Option<usize> {
        let matching: Vec<usize> = (0..self.variants.len())
            .filter(|index| self.variants[*index].versions.matches(version))
            .collect();
        match matching.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => several
                .iter()
                .copied()
                .min_by_key(|index| self.rank(*index)),
        }
    }

    /// Smaller is more specific.
    fn rank(&self, index: usize) -> (usize, bool, std::cmp::Reverse<usize>) {
        let versions = &self.variants[index].versions;
        (
            versions.width(),
            !versions.is_bare(),
            std::cmp::Reverse(index),
        )
    }

    /// Drops the variants that say nothing, except where they keep a broader one from being applied.
    fn drop_idle_variants(&mut self) {
        let mut index = self.variants.len();
        while index > 0 {
            index -= 1;
            let shields = |other: usize| {
                other != index
                    && !self.variants[other].expected.is_empty()
                    && self.rank(other) > self.rank(index)
                    && self.variants[other]
                        .versions
                        .overlaps(&self.variants[index].versions)
            };
            if self.variants[index].expected.is_empty() && !(0..self.variants.len()).any(shields) {
                self.variants.remove(index);
            }
        }
    }

    /// Keeps the exact versions in ascending order; ranges stay where their author put them.
    fn insert(&mut self, variant: Variant) {
        let number = |selector: &VersionSelector| {
            selector
                .is_bare()
                .then(|| Version::from_str(&selector.to_string()).ok())
                .flatten()
        };
        let new = number(&variant.versions);
        let later = self
            .variants
            .iter()
            .position(|other| number(&other.versions).is_some_and(|other| Some(other) > new));
        self.variants
            .insert(later.unwrap_or(self.variants.len()), variant);
    }
}

impl Overlay {
    /// What has to be said of `new` where `base` is known.
    fn between(base: &Expected, new: &Expected) -> Overlay {
        Overlay {
            stdout: (base.stdout != new.stdout).then(|| new.stdout.clone()),
            stderr: (base.stderr != new.stderr).then(|| new.stderr.clone()),
            exception: (base.exception != new.exception).then(|| new.exception.clone()),
            exit: (base.exit != new.exit).then_some(new.exit),
            artifacts: (base.artifacts != new.artifacts).then(|| new.artifacts.clone()),
            literal: (base.literal != new.literal).then_some(new.literal),
        }
    }

    /// `base` with this overlay.
    pub fn over(&self, base: &Expected) -> Expected {
        Expected {
            stdout: self.stdout.as_ref().unwrap_or(&base.stdout).clone(),
            stderr: self.stderr.as_ref().unwrap_or(&base.stderr).clone(),
            exception: self.exception.as_ref().unwrap_or(&base.exception).clone(),
            exit: self.exit.unwrap_or(base.exit),
            artifacts: self.artifacts.as_ref().unwrap_or(&base.artifacts).clone(),
            literal: self.literal.unwrap_or(base.literal),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Overlay::default()
    }

    /// Leaves out what is as in `base` anyway.
    fn without_what_equals(&self, base: &Expected) -> Overlay {
        let differs = Overlay::between(base, &self.over(base));
        Overlay {
            stdout: differs.stdout.and(self.stdout.clone()),
            stderr: differs.stderr.and(self.stderr.clone()),
            exception: differs.exception.and(self.exception.clone()),
            exit: differs.exit.and(self.exit),
            artifacts: differs.artifacts.and(self.artifacts.clone()),
            literal: differs.literal.and(self.literal),
        }
    }

    fn has_wildcards(&self) -> bool {
        let exception = self.exception.iter().flatten().map(String::as_bytes);
        let streams = self.stdout.iter().chain(&self.stderr).map(Vec::as_slice);
        streams.chain(exception).any(has_wildcards)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matching::Matching;

    fn version(text: &str) -> Version {
        text.parse().expect(text)
    }

    fn selector(text: &str) -> VersionSelector {
        text.parse().expect(text)
    }

    fn stdout(text: &str) -> Expected {
        Expected {
            stdout: text.into(),
            ..Expected::default()
        }
    }

    fn overlay(text: &str) -> Overlay {
        Overlay {
            stdout: Some(text.into()),
            ..Overlay::default()
        }
    }

    fn recorded(base: &str, variants: &[(&str, &str)]) -> Recorded {
        let variant = |(versions, text): &(&str, &str)| Variant {
            versions: selector(versions),
            expected: if *text == base {
                Overlay::default()
            } else {
                overlay(text)
            },
        };
        Recorded {
            id: "a/1".into(),
            expected: stdout(base),
            variants: variants.iter().map(variant).collect(),
            ..Recorded::default()
        }
    }

    #[test]
    fn a_file_reads_like_the_output() {
        let mut example = recorded("one\ntwo\n", &[("3.13", "one\n")]);
        example.normalize = vec![Rule::Address, Rule::Float(3)];
        example.unordered = true;
        example.expected.exception = Some("KeyError: 'x'".into());
        example.expected.artifacts = vec!["plot.png".into()];
        example.variants.push(Variant {
            versions: selector(">=3.14"),
            expected: Overlay {
                exception: Some(None),
                exit: Some(Some(3)),
                artifacts: Some(vec![]),
                ..Overlay::default()
            },
        });
        let mut second = Recorded {
            id: "a/2".into(),
            ..Recorded::default()
        };
        second.expected.stderr = b"caf\xe9".to_vec();
        second.expected.exit = Some(0);
        second.variants.push(Variant {
            versions: selector("<3.11"),
            expected: Overlay {
                exit: Some(None),
                ..Overlay::default()
            },
        });
        let recording = Recording {
            examples: vec![example, second],
        };
        let text = r#"# verify recording, format 1
format = 1

[[example]]
id = "a/1"
normalize = ["address", "float=3"]
unordered = true
stdout = '''
one
two
'''
exception = "KeyError: 'x'"
artifacts = ["plot.png"]

[example.python."3.13"]
stdout = '''
one
'''

[example.python.">=3.14"]
exception = ""
exit = 3
artifacts = []

[[example]]
id = "a/2"
stderr-bytes = "636166e9"
exit = 0

[example.python."<3.11"]
exit = ""
"#;
        assert_eq!(print(&recording), text);
        assert_eq!(parse(text), Ok(recording.clone()));
        assert_eq!(parse(&text.replace('\n', "\r\n")), Ok(recording));
    }

    #[test]
    fn an_empty_recording() {
        let text = "# verify recording, format 1\nformat = 1\n";
        assert_eq!(print(&Recording::default()), text);
        assert_eq!(parse(text), Ok(Recording::default()));
    }

    #[test]
    fn long_bytes_take_several_lines() {
        let bytes = vec![0xff; 33];
        let digits = print::hexadecimal(&bytes);
        assert_eq!(digits.lines().count(), 2);
        assert_eq!(parse::bytes(&digits), Some(bytes));
    }

    fn problem(body: &str, line: usize, message: &str) {
        let text = format!("# verify recording, format 1\nformat = 1\n{body}");
        let got = parse(&text).expect_err(body);
        assert_eq!((got.line, got.message.as_str()), (line, message), "{body}");
    }

    #[test]
    fn files_that_are_no_recording() {
        let message = |text: &str| parse(text).expect_err(text).to_string();
        assert_eq!(
            message(""),
            "line 1: no recording: `format = 1` is missing; delete the file and run `verify record`"
        );
        assert_eq!(
            message("# x\nformat = 2\nnew = 1\n"),
            "line 2: was written by a newer `verify` (format 2, this one reads 1); update `verify`"
        );
        assert_eq!(
            message("formt = 1\n"),
            "line 1: unknown key `formt`; did you mean `format`?"
        );
        assert_eq!(
            message("format = 0"),
            "line 1: there is no format 0; delete the file and run `verify record`"
        );
        assert_eq!(
            message("format = '1'"),
            "line 1: `format` must be a whole number, not string"
        );
        let text = message("format = 1\n\n[[example]]\nid = \n");
        assert!(text.starts_with("line 4: not TOML: "), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn conflict_markers_are_named() {
        let conflict =
            "[[example]]\nid = 'a'\n<<<<<<< HEAD\nexit = 1\n=======\nexit = 2\n>>>>>>> x\n";
        problem(
            conflict,
            5,
            "merge conflict markers in a recording; resolve them, or delete the file and run `verify record`",
        );
    }

    #[test]
    fn conflict_markers_that_an_example_prints_are_text() {
        let output = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> x\n";
        let recording = Recording {
            examples: vec![recorded(output, &[])],
        };
        assert_eq!(parse(&print(&recording)), Ok(recording));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        problem(
            "[[example]]\nid = 'a'\nstdot = ''\n",
            5,
            "unknown key `stdot`; did you mean `stdout`?",
        );
        problem(
            "[[example]]\nstdout = ''\n",
            3,
            "an example has no `id`; give it one",
        );
        problem(
            "[[example]]\nid = 'a'\n[[example]]\nid = 'a'\n",
            6,
            "a second example `a` (the first is on line 4); remove one of them and run `verify record`",
        );
        problem(
            "[[example]]\nid = 1\n",
            4,
            "`id` must be a string, not integer",
        );
        problem(
            "[example]\nid = ''\n",
            3,
            "`example` must be `[[example]]` tables, not table",
        );
        problem(
            "[[example]]\nid = 'a'\nnormalize = [\n  'time',\n  'adress',\n]\n",
            7,
            "unknown rule `adress`; did you mean `address`?",
        );
        problem(
            "[[example]]\nid = 'a'\nexit = 'x'\n",
            5,
            "`exit` must be a whole number, not string",
        );
        problem(
            "[[example]]\nid = 'a'\nexit = 9999999999\n",
            5,
            "`exit` is no exit status: 9999999999",
        );
        problem(
            "[[example]]\nid = 'a'\nunordered = 1\n",
            5,
            "`unordered` must be `true` or `false`, not integer",
        );
        problem(
            "[[example]]\nid = 'a'\nstdout-bytes = 'f'\n",
            5,
            "`stdout-bytes` must be hexadecimal, two digits a byte",
        );
        problem(
            "[[example]]\nid = 'a'\nstdout = ''\nstdout-bytes = ''\n",
            6,
            "both `stdout` and `stdout-bytes`; remove one of them",
        );
    }

    #[test]
    fn bad_selectors_are_named() {
        let body = |key: &str| format!("[[example]]\nid = 'a'\n[example.python.{key}]\nexit = 1\n");
        problem(
            &body("'x'"),
            5,
            "`x` selects no versions; write one such as `3.13`, or a PEP 440 specifier such as `>=3.13`",
        );
        problem(
            &body("3.13"),
            5,
            "a version with a point needs quotes; write `[example.python.\"3.13\"]`",
        );
        problem(
            &(body("'3.13'") + "[example.python.'==3.13.*']\n"),
            7,
            "a second variant for `3.13`; remove one of them",
        );
        problem(
            "[[example]]\nid = 'a'\n[example.python.'3.13']\nid = 'b'\n",
            6,
            "unknown key `id`; the keys here are `literal`, `stdout`, `stdout-bytes`, `stderr`, `stderr-bytes`, `exception`, `exit`, `artifacts`",
        );
    }

    #[test]
    fn selectors_that_are_none() {
        for text in ["", "3.x", "3.13rc1", ">3.", "python3", "~=3"] {
            assert!(text.parse::<VersionSelector>().is_err(), "{text}");
        }
    }

    fn expect(variants: &[(&str, &str)], python: &str, wanted: &str) {
        let got = recorded("base", variants).expected_for(&version(python));
        assert_eq!(
            String::from_utf8_lossy(&got.stdout),
            wanted,
            "{variants:?} on {python}"
        );
    }

    #[test]
    fn the_most_specific_variant_holds() {
        expect(&[], "3.13.1", "base");
        expect(&[("3.13", "a")], "3.13.1", "a");
        expect(&[("3.1", "a")], "3.13.1", "base");
        expect(&[("3.13", "a"), (">=3.13", "b")], "3.13.1", "a");
        expect(&[(">=3.13", "b"), ("3.13", "a")], "3.14.0", "b");
        expect(&[(">=3.12", "a"), (">=3.13", "b")], "3.14.0", "b");
        expect(&[(">=3.13", "b"), (">=3.12", "a")], "3.14.0", "b");
        expect(&[(">=3.13", "b"), ("<3.12", "a")], "3.12.0", "base");
        expect(&[("3.13", "a"), ("==3.13.2", "b")], "3.13.2", "b");
        expect(&[("3.13.2", "b"), ("3.13", "a")], "3.13.2", "b");
        expect(&[("3.13", "a"), (">=3.13, <3.14", "b")], "3.13.2", "a");
        expect(&[(">=3.13, <3.14", "b"), ("~=3.13.0", "a")], "3.13.2", "a");
        expect(&[(">=3.12", "a"), ("3.13", "base")], "3.13.2", "base");
    }

    #[test]
    fn a_release_candidate_is_of_its_version() {
        expect(&[(">=3.15", "a")], "3.15.0rc1", "a");
        expect(&[("3.15", "a")], "3.15.0a2", "a");
        expect(&[("<3.15", "a")], "3.15.0b1", "base");
        expect(&[(">=3.13", "a")], "3.13.0+local", "a");
    }

    fn run_on(old: &Recorded, python: &str, is_base: bool, output: &Expected) -> Recorded {
        let observed = Observed {
            id: &old.id,
            normalize: &old.normalize,
            unordered: old.unordered,
            expected: output,
            version: &version(python),
            is_base,
        };
        update(Some(old), &observed)
    }

    fn base(old: &Recorded, output: &str, wanted: &Recorded) {
        assert_eq!(&run_on(old, "3.11.2", true, &stdout(output)), wanted);
    }

    fn other(old: &Recorded, output: &str, wanted: &Recorded) {
        assert_eq!(&run_on(old, "3.13.1", false, &stdout(output)), wanted);
    }

    #[test]
    fn the_base_version_records_the_base() {
        base(&recorded("a", &[]), "b", &recorded("b", &[]));
        base(
            &recorded("a", &[("3.13", "c")]),
            "b",
            &recorded("b", &[("3.13", "c")]),
        );
        base(&recorded("a", &[("3.13", "b")]), "b", &recorded("b", &[]));
        base(&recorded("a", &[("3.11", "c")]), "b", &recorded("b", &[]));
        base(&recorded("a", &[("<3.12", "b")]), "b", &recorded("b", &[]));
        base(
            &recorded("a", &[("<3.12", "c")]),
            "b",
            &recorded("b", &[("<3.12", "c"), ("3.11", "b")]),
        );
    }

    #[test]
    fn a_variant_that_says_nothing_goes_unless_it_shields() {
        base(
            &recorded("a", &[(">=3.12", "b"), ("3.13", "c")]),
            "b",
            &recorded("b", &[("3.13", "c")]),
        );
        base(
            &recorded("a", &[(">=3.12", "c"), ("3.13", "b")]),
            "b",
            &recorded("b", &[(">=3.12", "c"), ("3.13", "b")]),
        );
    }

    #[test]
    fn another_version_records_what_differs() {
        other(&recorded("a", &[]), "a", &recorded("a", &[]));
        other(&recorded("a", &[]), "b", &recorded("a", &[("3.13", "b")]));
        other(&recorded("a", &[("3.13", "b")]), "a", &recorded("a", &[]));
        other(
            &recorded("a", &[("3.13", "b")]),
            "c",
            &recorded("a", &[("3.13", "c")]),
        );
        other(
            &recorded("a", &[("3.12", "x"), ("3.14", "y")]),
            "b",
            &recorded("a", &[("3.12", "x"), ("3.13", "b"), ("3.14", "y")]),
        );
    }

    #[test]
    fn a_range_that_is_right_is_left_alone() {
        other(
            &recorded("a", &[(">=3.12", "b")]),
            "b",
            &recorded("a", &[(">=3.12", "b")]),
        );
        other(
            &recorded("a", &[(">=3.12", "b"), ("3.13", "c")]),
            "b",
            &recorded("a", &[(">=3.12", "b")]),
        );
        other(
            &recorded("a", &[(">=3.12", "b")]),
            "c",
            &recorded("a", &[(">=3.12", "b"), ("3.13", "c")]),
        );
        other(
            &recorded("a", &[(">=3.12", "b")]),
            "a",
            &recorded("a", &[(">=3.12", "b"), ("3.13", "a")]),
        );
    }

    #[test]
    fn a_variant_for_the_patch_version_is_the_one_to_change() {
        other(
            &recorded("a", &[("3.13.1", "b"), ("3.13", "x")]),
            "c",
            &recorded("a", &[("3.13.1", "c")]),
        );
    }

    #[test]
    fn the_first_run_gives_the_base_on_any_version() {
        let output = stdout("b");
        let observed = Observed {
            id: "a/1",
            normalize: &[],
            unordered: false,
            expected: &output,
            version: &version("3.13.1"),
            is_base: false,
        };
        assert_eq!(update(None, &observed), recorded("b", &[]));
    }

    #[test]
    fn wildcards_that_match_are_kept() {
        base(
            &recorded("took [..]s\n", &[]),
            "took 3s\n",
            &recorded("took [..]s\n", &[]),
        );
        base(
            &recorded("took [..]s\n", &[]),
            "lasted 3s\n",
            &recorded("lasted 3s\n", &[]),
        );
        other(
            &recorded("a\n...\n", &[]),
            "a\nb\n",
            &recorded("a\n...\n", &[]),
        );
        other(
            &recorded("a", &[("3.13", "b[..]")]),
            "bc",
            &recorded("a", &[("3.13", "b[..]")]),
        );
    }

    #[test]
    fn only_the_stream_that_matches_is_kept() {
        let mut old = recorded("took [..]s\n", &[]);
        old.expected.stderr = b"x".to_vec();
        old.expected.exception = Some("E: [..]".into());
        let new = Expected {
            stderr: b"y".to_vec(),
            exception: Some("E: 12".into()),
            ..stdout("took 3s\n")
        };
        let mut wanted = old.clone();
        wanted.expected.stderr = b"y".to_vec();
        assert_eq!(run_on(&old, "3.11.2", true, &new), wanted);
    }

    #[test]
    fn output_that_looks_like_wildcards_is_literal() {
        let literal = Expected {
            literal: true,
            ..stdout("a\n...\n")
        };
        let got = run_on(&recorded("x", &[]), "3.11.2", true, &literal);
        assert_eq!(got.expected, literal);
        // So it is no wildcard on the next run.
        let got = run_on(&got, "3.11.2", true, &stdout("a\nb\n"));
        assert_eq!(got.expected, stdout("a\nb\n"));
    }

    #[test]
    fn a_variant_keeps_its_wildcards_when_the_base_becomes_literal() {
        let old = recorded("x", &[("3.13", "b[..]")]);
        let literal = Expected {
            literal: true,
            ..stdout("...\n")
        };
        let got = run_on(&old, "3.11.2", true, &literal);
        assert!(!got.expected_for(&version("3.13.0")).literal);
        assert!(got.expected_for(&version("3.12.0")).literal);
    }

    #[test]
    fn floats_and_line_order_do_not_churn() {
        let mut old = recorded("0.3\n", &[]);
        old.normalize = vec![Rule::Float(6)];
        assert_eq!(
            run_on(&old, "3.11.2", true, &stdout("0.30000000000000004\n")),
            old
        );
        let mut old = recorded("a\nb\n", &[]);
        old.unordered = true;
        assert_eq!(run_on(&old, "3.11.2", true, &stdout("b\na\n")), old);
    }

    #[test]
    fn a_new_rule_rewrites_the_old_text() {
        let mut old = recorded("took 1 ms, [..]\n", &[]);
        old.normalize = vec![Rule::Time];
        let got = run_on(&old, "3.11.2", true, &stdout("took [TIME], x\n"));
        assert_eq!(got.expected, stdout("took [TIME], [..]\n"));
    }

    fn text() -> impl Strategy<Value = String> {
        let fragment = prop_oneof![
            Just("'"),
            Just("\""),
            Just("\\"),
            Just("\n"),
            Just("\r"),
            Just("\t"),
            Just(" "),
            Just("a"),
            Just("é"),
            Just("\0"),
            Just("\x1b"),
            Just("\u{7f}"),
            Just("\u{85}"),
            Just("\u{2028}"),
            Just("\u{feff}"),
            Just("'''"),
            Just("\"\"\""),
            Just("..."),
            Just("[..]"),
            Just("#"),
            Just("="),
            Just("[x]"),
            Just("😀"),
        ];
        proptest::collection::vec(fragment, 0..10).prop_map(|parts| parts.concat())
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => text().prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..70),
        ]
    }

    fn exception() -> impl Strategy<Value = Option<String>> {
        text().prop_map(|text| (!text.is_empty()).then_some(text))
    }

    prop_compose! {
        fn any_expected()(
            stdout in stream(), stderr in stream(), exception in exception(), exit: Option<i32>,
            artifacts in proptest::collection::vec(text(), 0..3), literal: bool,
        ) -> Expected {
            Expected { stdout, stderr, exception, exit, artifacts, literal }
        }
    }

    prop_compose! {
        fn any_overlay()(
            stdout in proptest::option::of(stream()), stderr in proptest::option::of(stream()),
            exception in proptest::option::of(exception()), exit: Option<Option<i32>>,
            artifacts in proptest::option::of(proptest::collection::vec(text(), 0..3)), literal: Option<bool>,
        ) -> Overlay {
            Overlay { stdout, stderr, exception, exit, artifacts, literal }
        }
    }

    const SELECTORS: [&str; 9] = [
        "3.10",
        "3.11",
        "3.13",
        "3.13.1",
        ">=3.12",
        "<3.12",
        ">=3.11, <3.14",
        "!=3.11.*",
        "==3.13.1",
    ];

    prop_compose! {
        fn any_recorded()(
            id in text(),
            normalize in proptest::sample::subsequence(Rule::ALL.to_vec(), 0..3),
            unordered: bool,
            expected in any_expected(),
            selectors in proptest::sample::subsequence(SELECTORS.to_vec(), 0..4).prop_shuffle(),
            overlays in proptest::collection::vec(any_overlay(), 4),
        ) -> Recorded {
            let variant = |(versions, expected): (&str, Overlay)| Variant { versions: selector(versions), expected };
            let variants = selectors.into_iter().zip(overlays).map(variant).collect();
            Recorded { id, normalize, unordered, expected, variants }
        }
    }

    prop_compose! {
        fn any_recording()(mut examples in proptest::collection::vec(any_recorded(), 0..4)) -> Recording {
            for (number, example) in examples.iter_mut().enumerate() {
                example.id.push_str(&number.to_string());
            }
            Recording { examples }
        }
    }

    /// Few different texts, so that they often coincide.
    fn few() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "a\n", "b\n", "a\nb\n", "[..]\n", "a\n...\n", "c 1\n", "",
        ])
    }

    prop_compose! {
        fn small_recorded()(
            base in few(), error in few(),
            selectors in proptest::sample::subsequence(SELECTORS.to_vec(), 0..4).prop_shuffle(),
            overlays in proptest::collection::vec((proptest::option::of(few()), proptest::option::of(few())), 4),
            unordered: bool, literal: bool,
        ) -> Recorded {
            let mut recorded = Recorded { id: "x".into(), expected: stdout(base), unordered, ..Recorded::default() };
            recorded.expected.stderr = error.into();
            recorded.expected.literal = literal;
            for (versions, (out, err)) in selectors.into_iter().zip(overlays) {
                let expected = Overlay {
                    stdout: out.map(Into::into), stderr: err.map(Into::into), ..Overlay::default()
                };
                recorded.variants.push(Variant { versions: selector(versions), expected });
            }
            recorded
        }
    }

    fn accepts(recorded: &Recorded, python: &str, output: &Expected) -> bool {
        let expected = recorded.expected_for(&version(python));
        let matching = Matching {
            wildcards: !expected.literal,
            digits: None,
            unordered: recorded.unordered,
        };
        matching.matches(&expected.stdout, &output.stdout)
            && matching.matches(&expected.stderr, &output.stderr)
            && (expected.exception.clone(), expected.exit)
                == (output.exception.clone(), output.exit)
    }

    proptest! {
        #[test]
        fn reading_what_was_printed_gives_the_same(recording in any_recording()) {
            let printed = print(&recording);
            let parsed = parse(&printed);
            prop_assert_eq!(parsed.as_ref(), Ok(&recording), "{}", printed);
            prop_assert_eq!(print(&parsed.expect("just read")), printed);
        }

        #[test]
        fn reading_any_text_does_not_panic(text in text()) {
            let _ = parse(&text);
            let _ = parse(&format!("format = 1\n[[example]]\n{text}"));
        }

        #[test]
        fn a_check_after_recording_is_green(
            old in small_recorded(), out in few(), err in few(), python in 0..6_usize, is_base: bool,
        ) {
            let python = ["3.10.0", "3.11.2", "3.12.1", "3.13.0", "3.13.1", "3.14.0"][python];
            let output = Expected { stderr: err.into(), ..stdout(out) };
            let once = run_on(&old, python, is_base, &output);
            prop_assert!(accepts(&once, python, &output), "{:#?}", once);
            prop_assert_eq!(&run_on(&once, python, is_base, &output), &once);
        }

        #[test]
        fn recording_one_version_leaves_the_others(
            old in small_recorded(), out in few(), python in 0..6_usize,
        ) {
            let versions = ["3.10.0", "3.11.2", "3.12.1", "3.13.4", "3.14.0", "3.15.0rc1"];
            let new = run_on(&old, versions[python], false, &stdout(out));
            for (index, other) in versions.iter().enumerate() {
                if index != python {
                    prop_assert_eq!(new.expected_for(&version(other)), old.expected_for(&version(other)));
                }
            }
        }
    }
}
