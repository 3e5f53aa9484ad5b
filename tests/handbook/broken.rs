//! The checks find what they are for: each test breaks a small, sound book (`tests/handbook/sound`) in one
//! place and sees the one message, with page and line.
//!
//! Outputs are the gate's own business, so the last test asks `verify` itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::checks;
use crate::handbook::Handbook;

const RECEIPTS: &str = "handbook/01-tills/01-receipts.md";
const TILLS: &str = "handbook/01-tills/README.md";
const NOT_DUE: &str = "handbook/not-due.txt";

/// A copy of the sound book, to be broken.
struct Copy(TempDir);

impl Copy {
    fn new() -> Copy {
        let sound = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handbook/sound");
        let directory = tempfile::tempdir().unwrap();
        for entry in walkdir::WalkDir::new(&sound).min_depth(1) {
            let entry = entry.unwrap();
            let target = directory
                .path()
                .join(entry.path().strip_prefix(&sound).unwrap());
            if entry.file_type().is_dir() {
                fs::create_dir(target).unwrap();
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
        Copy(directory)
    }

    /// Replaces what stands in a file once.
    #[track_caller]
    fn with(self, file: &str, old: &str, new: &str) -> Copy {
        let path = self.0.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(old).count(), 1, "`{old}` in {file}");
        fs::write(path, text.replace(old, new)).unwrap();
        self
    }

    fn without(self, file: &str) -> Copy {
        fs::remove_file(self.0.path().join(file)).unwrap();
        self
    }

    /// What all checks together find.
    #[track_caller]
    fn has(&self, faults: &[&str]) {
        let handbook = Handbook::load(&self.0.path().canonicalize().unwrap());
        let checks = [
            checks::authoring,
            checks::entries,
            checks::headings,
            checks::front_matter,
            checks::links,
            checks::examples,
        ];
        let found: Vec<String> = checks.iter().flat_map(|check| check(&handbook)).collect();
        assert_eq!(found, faults);
    }
}

#[test]
fn a_sound_book_has_no_faults() {
    Copy::new().has(&[]);
}

#[test]
fn a_dead_link() {
    Copy::new()
        .with(TILLS, "01-receipts.md#111-totals", "01-receipt.md")
        .has(&["handbook/01-tills/README.md:12: `01-receipt.md` leads nowhere"]);
}

#[test]
fn a_link_to_no_heading() {
    Copy::new().with(TILLS, "#111-totals", "#112-totals").has(&[
        "handbook/01-tills/README.md:12: `01-receipts.md#112-totals` names no heading there",
    ]);
}

#[test]
fn a_missing_picture() {
    Copy::new()
        .without("handbook/01-tills/till.png")
        .has(&["handbook/01-tills/01-receipts.md:12: `till.png` leads nowhere"]);
}

#[test]
fn a_picture_that_nobody_would_check() {
    Copy::new()
        .with(RECEIPTS, "![A till](till.png)", "<img src=\"tills.png\">")
        .has(&["handbook/01-tills/01-receipts.md:12: write links and pictures in Markdown: only those are checked"]);
}

#[test]
fn a_heading_that_is_not_in_the_outline() {
    Copy::new()
        .with(TILLS, "# 1 Tills\n", "# 1 Tills\n\n## 1.4 Coins\n")
        .has(&["handbook/01-tills/README.md:12: `1.4 Coins` is not the outline's 1.4"]);
}

#[test]
fn a_heading_that_is_missing() {
    Copy::new()
        .with(RECEIPTS, "## 1.1.1 Totals", "## Totals")
        .with(TILLS, "#111-totals", "#totals")
        .has(&["handbook/01-tills/01-receipts.md:1: no heading `1.1.1 Totals`"]);
}

#[test]
fn an_unknown_key_in_front_matter() {
    Copy::new().with(RECEIPTS, "summary:", "sumary:").has(&[
        "handbook/01-tills/01-receipts.md:3: unknown key `sumary`",
        "handbook/01-tills/01-receipts.md:1: front matter lacks `summary`",
    ]);
}

#[test]
fn values_of_front_matter() {
    Copy::new()
        .with(RECEIPTS, "title: \"Receipts\"", "title: \"Receipt\"")
        .with(RECEIPTS, "[\"g1\"]", "[\"g2\"]")
        .with(RECEIPTS, "[\"1\"]", "[\"7\"]")
        .has(&[
            "handbook/01-tills/01-receipts.md:2: the heading says `Receipts`",
            "handbook/01-tills/01-receipts.md:4: `g2` is not an entry of the guide",
            "handbook/01-tills/01-receipts.md:5: `7` is not an entry of the outline",
        ]);
}

#[test]
fn a_page_without_examples() {
    Copy::new()
        .with(TILLS, "```python\ntotal = 250\n```\n", "")
        .has(&["handbook/01-tills/README.md:10: no example on this page"]);
}

#[test]
fn too_few_examples_are_verified() {
    let too_few = "handbook/01-tills/01-receipts.md:14: 1.1.1 has 2 verified examples that run on a plain machine; 3 are needed";
    let section = too_few.replace("14: 1.1.1", "10: 1.1");
    for (old, new) in [
        // Not run at all, not on a plain machine, on no version of this book, not recorded.
        ("```console\n", "```console skip=\"no till\"\n"),
        ("```console\n", "```console requires=program:till\n"),
        ("```console\n", "```console python=\">=3.14\"\n"),
        (
            "```console\n$ echo 649\n649\n```",
            "```python\nprint(649)\n```",
        ),
    ] {
        Copy::new()
            .with(RECEIPTS, old, new)
            .has(&[&section, too_few]);
    }
}

#[test]
fn the_list_of_what_is_owed_only_shrinks() {
    Copy::new().with(NOT_DUE, "1.2\n", "1.2\n1.1.1\n9\n").has(&[
        "handbook/not-due.txt:2: `1.1.1` is written: take it off",
        "handbook/not-due.txt:3: `9` is not in the outline",
    ]);
    Copy::new()
        .with(NOT_DUE, "1.2\n", "1.2\n1.1.1\n")
        .with(RECEIPTS, "```console\n", "```console skip=\"no till\"\n")
        .has(&[
            "handbook/01-tills/01-receipts.md:10: 1.1 has 2 verified examples that run on a plain machine; 3 are needed",
            "handbook/not-due.txt:2: `1.1.1` is due, since `handbook/01-tills/01-receipts.md` exists: take it off",
        ]);
    Copy::new()
        .with(NOT_DUE, "1.3\n", "")
        .has(&["handbook/01-tills/03-vouchers.md:1: no heading `1.3 Vouchers`"]);
}

#[test]
fn a_mistake_in_an_attribute() {
    Copy::new()
        .with(TILLS, "```python\n", "```python raise=ValueError\n")
        .has(&[
            "handbook/01-tills/README.md:14: unknown attribute `raise`: did you mean `raises`?",
        ]);
}

#[test]
fn an_output_that_was_typed() {
    let copy = Copy::new().with(RECEIPTS, "```output\n399\n", "```output\n400\n");
    let done = Command::new(env!("CARGO_BIN_EXE_verify"))
        .current_dir(copy.0.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("--> handbook/01-tills/01-receipts.md:26"),
        "{said}"
    );
}
