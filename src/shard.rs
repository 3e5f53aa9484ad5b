//! One part of a book's sessions for each of several machines.
//!
//! Every machine works out all parts for itself, and must come to the same: an example that each leaves to
//! the others would never be run. So the parts depend on the book, on the selection and on one file of
//! durations that all are given, or on the numbers of examples; never on what a machine remembers. A
//! digest of all that goes into each report, by which `verify merge` knows that they belong together.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::book::Book;
use crate::check::SessionPlan;
use crate::digest::{Digest, Digester};
use crate::report::{PageText, Shard};
use crate::state::Durations;

/// What a session costs besides its examples, in microseconds: a fork and a directory.
const SESSION_COST: u64 = 2_000;

/// The sessions of one part. Without durations all parts have about as many examples, with them they
/// take about as long.
pub fn split(
    book: &Book,
    plans: Vec<SessionPlan>,
    durations: Option<&Durations>,
    (part, of): (usize, usize),
) -> (Vec<SessionPlan>, Shard) {
    let weights = weights(book, &plans, durations);
    let parts = parts(&weights, of);
    let plan = digest(book, &plans, &parts).short();
    let mine = plans.into_iter().zip(parts);
    let mine = mine.filter(|(_, of_plan)| of_plan + 1 == part);
    let mine: Vec<SessionPlan> = mine.map(|(plan, _)| plan).collect();
    let pages: BTreeSet<usize> = mine.iter().map(|plan| plan.page).collect();
    let pages = pages
        .into_iter()
        .map(|page| PageText::of(&book.pages[page]));
    let shard = Shard {
        part,
        of,
        plan,
        pages: pages.collect(),
    };
    (mine, shard)
}

/// What Bazel says of sharding, and other runners like it: `TEST_TOTAL_SHARDS` and, counted from 0,
/// `TEST_SHARD_INDEX`. Touching `TEST_SHARD_STATUS_FILE` tells it that it is heard.
/// <https://bazel.build/reference/test-encyclopedia#test-sharding>
pub fn from_environment(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<(usize, usize)>> {
    let number = |name: &str| -> Result<Option<usize>> {
        let Some(value) = env(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let number = value.to_str().and_then(|value| value.parse().ok());
        match number {
            Some(number) => Ok(Some(number)),
            None => bail!(
                "`{name}` is `{}`, which is no number: correct or unset it",
                value.display()
            ),
        }
    };
    let total = number("TEST_TOTAL_SHARDS")?;
    let index = number("TEST_SHARD_INDEX")?;
    if let Some(file) = env("TEST_SHARD_STATUS_FILE").filter(|file| !file.is_empty()) {
        fs::write(&file, "").with_context(|| {
            format!(
                "cannot touch `{}`, which `TEST_SHARD_STATUS_FILE` names",
                file.display()
            )
        })?;
    }
    match (total, index) {
        (None, None) => Ok(None),
        (Some(total), Some(index)) if index < total => Ok(Some((index + 1, total))),
        (Some(_), None) => bail!("`TEST_TOTAL_SHARDS` is set without `TEST_SHARD_INDEX`: set both"),
        (None, Some(_)) => bail!("`TEST_SHARD_INDEX` is set without `TEST_TOTAL_SHARDS`: set both"),
        (Some(total), Some(index)) => bail!(
            "`TEST_SHARD_INDEX` is {index} and `TEST_TOTAL_SHARDS` {total}: the index goes from 0 to one less than the total"
        ),
    }
}

/// How long each session will take, in microseconds, or how many examples it has.
fn weights(book: &Book, plans: &[SessionPlan], durations: Option<&Durations>) -> Vec<u64> {
    let Some(durations) = durations else {
        return plans
            .iter()
            .map(|plan| plan.examples.len() as u64)
            .collect();
    };
    let of = |plan: &SessionPlan, position: usize| {
        let page = &book.pages[plan.page];
        let example = &page.examples[position];
        if example.attributes.skip.is_some() {
            return Some(0);
        }
        let known = durations.of(&page.key, &example.id);
        known.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    };
    let known: Vec<u64> = plans
        .iter()
        .flat_map(|plan| plan.examples.iter().filter_map(|&at| of(plan, at)))
        .collect();
    // A new example takes as long as they do on average.
    let sum: u128 = known.iter().map(|&duration| u128::from(duration)).sum();
    let usual = sum.checked_div(known.len() as u128).unwrap_or(1);
    let usual = u64::try_from(usual).unwrap_or(u64::MAX);
    plans
        .iter()
        .map(|plan| {
            let examples = plan.examples.iter();
            examples
                .map(|&position| of(plan, position).unwrap_or(usual))
                .fold(SESSION_COST, u64::saturating_add)
        })
        .collect()
}

/// The part of each session, from 0: the heaviest first, each to the part that has least so far.
/// (Graham, *Bounds on multiprocessing timing anomalies*, 1969: at most 4/3 of the best.)
fn parts(weights: &[u64], of: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&at| (Reverse(weights[at]), at));
    // Where there are more parts than sessions, the last ones get none.
    let mut loads = vec![0_u64; of.min(weights.len())];
    let mut parts = vec![0; weights.len()];
    for at in order {
        let lightest = (0..loads.len())
            .min_by_key(|&part| (loads[part], part))
            .unwrap_or(0);
        loads[lightest] = loads[lightest].saturating_add(weights[at]);
        parts[at] = lightest;
    }
    parts
}

fn digest(book: &Book, plans: &[SessionPlan], parts: &[usize]) -> Digest {
    let mut digester = Digester::default();
    for (plan, part) in plans.iter().zip(parts) {
        let page = &book.pages[plan.page];
        digester.add(page.key.as_bytes());
        for &position in &plan.examples {
            let example = &page.examples[position];
            digester.add(example.id.as_bytes());
            digester.add(example.source().as_bytes());
            digester.add(&[u8::from(plan.selected.contains(&position))]);
        }
        digester.add(&part.to_le_bytes());
    }
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn loads(weights: &[u64], of: usize) -> Vec<u64> {
        let mut loads = vec![0; of];
        for (part, weight) in parts(weights, of).into_iter().zip(weights) {
            loads[part] += weight;
        }
        loads
    }

    #[test]
    fn parts_end_together() {
        assert_eq!(loads(&[1; 9], 3), [3, 3, 3]);
        assert_eq!(loads(&[10, 1, 1, 1, 1, 6], 2), [10, 10]);
        assert_eq!(loads(&[7, 6, 5, 4, 3, 2, 1], 3), [10, 9, 9]);
        assert_eq!(loads(&[5], 3), [5, 0, 0]);
        assert_eq!(loads(&[], 2), [0, 0]);
        assert_eq!(parts(&[u64::MAX, 1], 1), [0, 0]);
        assert_eq!(parts(&[1, 2, 0], usize::MAX), [1, 0, 2]);
    }

    #[track_caller]
    fn bazel(total: &str, index: &str) -> Result<Option<(usize, usize)>, String> {
        let env = |name: &str| match name {
            "TEST_TOTAL_SHARDS" => Some(OsString::from(total)),
            "TEST_SHARD_INDEX" => Some(OsString::from(index)),
            _ => None,
        };
        from_environment(&env).map_err(|error| error.to_string())
    }

    #[test]
    fn a_runner_may_say_the_shard() {
        assert_eq!(bazel("", ""), Ok(None));
        assert_eq!(bazel("3", "0"), Ok(Some((1, 3))));
        assert_eq!(bazel("3", "2"), Ok(Some((3, 3))));
        for (total, index, message) in [
            ("3", "3", "the index goes from 0"),
            ("3", "", "set both"),
            ("", "1", "set both"),
            (
                "three",
                "1",
                "`TEST_TOTAL_SHARDS` is `three`, which is no number",
            ),
        ] {
            let error = bazel(total, index).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
