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

mod lacking;
mod nobody;
mod table;
mod victims;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use lacking::{LANDLOCK, Lacking, NAMESPACES};
use nobody::Nobody;
use table::{ATTACKS, Attack};
use victims::Victims;

/// What an example prints when it has done what it must not be able to do.
const SUCCESS: &str = "the attack succeeded";

/// The program under test, if it is not where it was built.
const PROGRAM: &str = "VERIFY_UNDER_ATTACK";

/// Machines that lack a layer, each with the attacks that get through there: the header has to say of each of their
/// protections that it does not hold.
const MACHINES: &[(&str, Lacking, &[&str])] = &[
    (
        "without namespaces",
        NAMESPACES,
        &[
            "change-mode",
            "change-mode-of-directory",
            "change-time",
            "change-owner",
            "set-extended-attribute",
            "write-to-shared-memory",
            "read-shared-memory",
            "read-command-lines",
            "slow-down",
            "limit-process",
            "pin-process",
            "attach-shared-memory",
            "connect-to-loopback",
            "connect-by-program",
            "connect-in-disguise",
            "ask-by-datagram",
            "connect-to-local-service",
            "connect-to-local-service-by-link",
        ],
    ),
    ("without Landlock", LANDLOCK, &[]),
];

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
    let without = off.run("off", Scratch::Chosen, None);
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
    let faults: Vec<String> = MACHINES
        .iter()
        .flat_map(|machine| what_gets_through(&tried, machine))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Tries them with the sandbox.
fn keeps_off(possible: &[&Attack], impossible: &[String], scratch: Scratch) {
    let (mut tried, mut untried) = (possible.to_vec(), impossible.to_vec());
    let on = Victims::new(&tried);
    let with = on.run("on", scratch, None);
    tried.retain(|attack| {
        let missing = with.missing.get(attack.kept_off_by);
        if let Some(missing) = missing {
            untried.push(format!("{}: {missing}", attack.name));
        }
        missing.is_none()
    });
    let successful = on.successful(&tried, &with);
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

/// Tries them where a layer is missing, also those whose protection is not whole: most of it holds all the same.
/// Returns what should have held.
fn what_gets_through(
    tried: &[&Attack],
    &(name, lacking, get_through): &(&str, Lacking, &[&str]),
) -> Vec<String> {
    let on = Victims::new(tried);
    let with = on.run("on", Scratch::Chosen, Some(lacking));
    let successful = on.successful(tried, &with);
    eprintln!(
        "{name}: {} attacks tried, got through: {}",
        tried.len(),
        successful.join(", ")
    );
    let mut faults = Vec::new();
    for attack in tried {
        let protection = attack.kept_off_by;
        if !successful.contains(&attack.name) {
            continue;
        }
        if !get_through.contains(&attack.name) {
            faults.push(format!("{} succeeded {name}", attack.name));
        }
        if !with.missing.contains_key(protection) {
            faults.push(format!(
                "{} succeeded {name}, and the header says that `{protection}` holds",
                attack.name
            ));
        }
    }
    faults
}

#[test]
fn the_same_as_an_ordinary_user() {
    let Some(nobody) = Nobody::with(Path::new(&program())) else {
        return;
    };
    nobody.give(&std::env::current_exe().unwrap(), "attacks");
    let test = "every_attack_succeeds_without_the_sandbox_and_fails_with_it";
    let output = nobody
        .command("attacks")
        .args(["--exact", test, "--nocapture"])
        .env(PROGRAM, nobody.at("verify"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success(), "as an ordinary user: {said}");
    assert!(said.contains("1 passed"), "{said}");
}

/// Where it lies.
fn program() -> OsString {
    std::env::var_os(PROGRAM).unwrap_or_else(|| env!("CARGO_BIN_EXE_verify").into())
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
