//! Holds the handbook to its table of contents, `handbook/outline.toml`, and its pages to their own claims:
//! headings, front matter, links, pictures. What the examples do is for `verify` itself to prove.
//!
//! `handbook/README.md` and the figures of page 1.1 are generated here:
//! `UPDATE_CONTENTS=1 cargo test --test handbook` writes them.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a failure is told"
)]

mod broken;
mod checks;
mod contents;
mod handbook;

use std::fs;
use std::path::Path;

use handbook::Handbook;

fn ours() -> Handbook {
    Handbook::load(Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn pages_are_free_of_authoring_mistakes() {
    none(&checks::authoring(&ours()));
}

#[test]
fn every_entry_that_is_due_has_its_heading_and_its_examples() {
    none(&checks::entries(&ours()));
}

#[test]
fn every_numbered_heading_is_in_the_outline() {
    none(&checks::headings(&ours()));
}

#[test]
fn front_matter_is_complete_and_known() {
    none(&checks::front_matter(&ours()));
}

#[test]
fn links_and_pictures_lead_somewhere() {
    none(&checks::links(&ours()));
}

#[test]
fn every_page_has_examples() {
    none(&checks::examples(&ours()));
}

#[test]
fn what_is_generated_is_up_to_date() {
    let handbook = ours();
    let mut stale = Vec::new();
    for (file, text) in contents::generated(&handbook) {
        if std::env::var_os("UPDATE_CONTENTS").is_some() {
            fs::write(&file, &text).unwrap();
        }
        if fs::read_to_string(&file).unwrap_or_default() != text {
            stale.push(format!(
                "{}:1: is not what the outline and the pages say: write it with `UPDATE_CONTENTS=1 cargo test --test handbook`",
                handbook.name_of(&file)
            ));
        }
    }
    none(&stale);
}
