//! Attacks on the machine by examples of a page: each succeeds with `--sandbox=off`, or it would prove nothing,
//! and fails with the sandbox. The victims are set up here, outside; whether they came to harm is looked up
//! here as well, never believed of what an example says.
//!
//! What this machine or this user cannot try is told, by name, on standard error.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test, a panic is how a failure is told, and what was not tried is told besides"
)]

mod table;
mod victims;

use std::collections::{BTreeMap, BTreeSet};

use table::{ATTACKS, Attack};
use victims::Victims;

/// What an example prints when it has done what it must not be able to do.
const SUCCESS: &str = "the attack succeeded";

#[test]
fn every_attack_succeeds_without_the_sandbox_and_fails_with_it() {
    let mut names = BTreeSet::new();
    assert!(ATTACKS.iter().all(|attack| names.insert(attack.name)));
    let is_root = rustix::process::geteuid().is_root();
    let (mut tried, mut untried) = (Vec::new(), Vec::new());
    for attack in ATTACKS {
        if attack.root && !is_root {
            untried.push(format!("{}: needs root", attack.name));
        } else {
            tried.push(attack);
        }
    }

    let mut toothless: Vec<String> = Vec::new();
    let off = Victims::new(&tried);
    let without = off.run("off", Scratch::Chosen);
    tried.retain(|attack| {
        let works = off.harmed(attack, &without.said[attack.name]);
        if !works {
            let said = without.said[attack.name].trim();
            let last = said.lines().last().unwrap_or_default();
            if attack.everywhere {
                toothless.push(format!("{}: {said}", attack.name));
            }
            untried.push(format!("{}: not possible here: {last}", attack.name));
        }
        works
    });
    assert!(
        toothless.is_empty(),
        "even without the sandbox:\n{}",
        toothless.join("\n")
    );
    drop(off);

    for scratch in [Scratch::Usual, Scratch::Chosen] {
        keeps_off(&tried, &untried, scratch);
    }
}

/// Tries them with the sandbox.
fn keeps_off(possible: &[&Attack], impossible: &[String], scratch: Scratch) {
    let (mut tried, mut untried) = (possible.to_vec(), impossible.to_vec());
    let on = Victims::new(&tried);
    let with = on.run("on", scratch);
    tried.retain(|attack| {
        let missing = with.missing.get(attack.kept_off_by);
        if let Some(missing) = missing {
            untried.push(format!("{}: {missing}", attack.name));
        }
        missing.is_none()
    });
    let successful: Vec<&str> = tried
        .iter()
        .filter(|attack| on.harmed(attack, &with.said[attack.name]))
        .map(|attack| attack.name)
        .collect();

    eprintln!(
        "{scratch:?} scratch: {} attacks tried, {} not",
        tried.len(),
        untried.len()
    );
    for reason in &untried {
        eprintln!("not tried: {reason}");
    }
    assert!(
        successful.is_empty(),
        "succeeded: {}",
        successful.join(", ")
    );
    let whole = with.missing.is_empty();
    assert!(
        !whole || tried.len() >= 40,
        "only {} attacks were tried",
        tried.len()
    );
}

/// Where sessions have their directories.
#[derive(Debug, Clone, Copy)]
enum Scratch {
    /// Where they are if nothing is said.
    Usual,
    /// Where the user wants them.
    Chosen,
}

/// What a run said.
struct Ran {
    /// By attack: everything that its example printed or raised.
    said: BTreeMap<String, String>,
    /// By protection: why it is not whole here.
    missing: BTreeMap<String, String>,
}
