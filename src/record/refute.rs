//! What another run of an example says against recording it.

use std::collections::HashMap;
use std::fs;

use super::Candidate;
use crate::book::Page;
use crate::compare;
use crate::diagnose::Reason;
use crate::example::Example;
use crate::matching::Matching;
use crate::normalize::float_digits;
use crate::outcome::{Ending, Outcome};
use crate::proof::{self, Seen};
use crate::recording::Recorded;

/// Words of examples that ask for the machine's name.
const ASKING_FOR_NAME: [&str; 4] = ["hostname", "getfqdn", "uname", "node("];

/// Why another run forbids recording this, if it does.
pub(super) fn refuted(
    page: &Page,
    position: usize,
    candidate: &Candidate,
    again: Option<&Seen>,
) -> Option<Reason> {
    let Some(again) = again else {
        return Some(Reason::FailedAgain(
            "it was not reached when its session was run again".to_owned(),
        ));
    };
    let example = &page.examples[position];
    let rules = &example.attributes.normalize;
    let matching = Matching {
        wildcards: false,
        digits: float_digits(rules),
        unordered: example.attributes.unordered,
    };
    // What comments, prompts and wildcards leave open is for the first run's comparison to say.
    let same = |first: &[u8], second: &[u8]| {
        matching.matches(first, second)
            || excused_by_hand(example, candidate.recorded.as_ref(), second)
    };
    let first = (&candidate.outcome, &candidate.context);
    let second = (&again.outcome, &again.context);
    if let Some(diagnosis) = proof::difference(rules, first, second, &same) {
        let diagnosis = diagnosis.in_words_of(proof::sources(page, position));
        return Some(Reason::Unstable(Box::new(diagnosis)));
    }
    ended_otherwise(&first.0.ending, &second.0.ending)
        .or_else(|| varying_file(first.0, second.0))
        .map(Reason::FailedAgain)
}

/// Whether the machine's name would be written, asked for by the example or one before it: it is the same in every run
/// here, and another elsewhere.
pub(super) fn names_machine(page: &Page, position: usize, candidate: &Candidate) -> Option<Reason> {
    let asks = |source: &str| ASKING_FOR_NAME.iter().any(|word| source.contains(word));
    if !proof::sources(page, position).any(asks) {
        return None;
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    // Every machine goes by this one.
    if name.is_empty() || name == "localhost" {
        return None;
    }
    let expected = candidate.recorded.iter().map(|recorded| &recorded.expected);
    let recorded = expected.flat_map(|expected| {
        let exception = expected.exception.clone().unwrap_or_default();
        [
            compare::lossy(&expected.stdout),
            compare::lossy(&expected.stderr),
            exception,
        ]
    });
    let edits = candidate.edits.iter().flatten();
    let mut written = recorded.chain(edits.map(|(_, text)| text.clone()));
    written.any(|text| has_word(&text, name)).then(|| {
        Reason::FailedAgain(format!(
            "it prints `{name}`, which is this machine's name and no other's: do not print it, or write `[..]` in the recording for it"
        ))
    })
}

/// Whether a name stands in a text, and is no part of another one.
fn has_word(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    text.match_indices(name).any(|(start, _)| {
        let (before, after) = (&text[..start], &text[start + name.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

fn ended_otherwise(first: &Ending, second: &Ending) -> Option<String> {
    match (first, second) {
        (Ending::Exited { status: one, .. }, Ending::Exited { status: other, .. }) => {
            (one != other).then(|| {
                format!("its exit status varies from run to run: {one}, then {other}; make it the same each time")
            })
        }
        _ => (std::mem::discriminant(first) != std::mem::discriminant(second))
            .then(|| "it ended in another way when it was run again".to_owned()),
    }
}

/// Files are compared as a check does it.
fn varying_file(first: &Outcome, second: &Outcome) -> Option<String> {
    let again: HashMap<_, _> = second
        .artifacts
        .iter()
        .map(|(name, bytes)| (name, bytes))
        .collect();
    let varies = |(name, bytes): &&(String, Option<Vec<u8>>)| match (bytes, again.get(name)) {
        (Some(one), Some(Some(other))) => compare::artifact_matches(name, one, other).is_some(),
        (one, other) => one.is_some() != other.is_some_and(|other| other.is_some()),
    };
    let (name, _) = first.artifacts.iter().find(varies)?;
    Some(format!(
        "the file `{name}` varies from run to run; write the same each time, such as by a seed or a fixed date"
    ))
}

/// Wildcards that somebody wrote by hand hold for every run.
fn excused_by_hand(example: &Example, recorded: Option<&Recorded>, text: &[u8]) -> bool {
    let Some(recorded) = recorded else {
        return false;
    };
    let expected = &recorded.expected;
    let matching = Matching {
        wildcards: !expected.literal,
        digits: float_digits(&example.attributes.normalize),
        unordered: example.attributes.unordered,
    };
    compare::has_wildcards(&expected.stdout) && matching.matches(&expected.stdout, text)
        || compare::has_wildcards(&expected.stderr) && matching.matches(&expected.stderr, text)
}
