//! The check that lets a package into a host: a session that is given it must see what a plain one sees.
//!
//! The host that imports it looks at what else the import does, and refuses what a fork does not copy or what a
//! session would find before its own import (`snapshot.py` in `bin/verify-python/preload/`). What the package made of
//! itself is compared here: an example of our own (`look.py`) prints all that can be reached from its modules,
//! once in a plain session and once in one that is given the package. Whatever depends on the moment, the
//! process, the directory or chance then differs, and is named.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::make;
use crate::config::Limits;
use crate::host::{Host, Snapshot, Start};
use crate::outcome::Ending;
use crate::protocol::{Mode, ProcessLimits, Program, Unit};

/// Printed by a session; see there.
const LOOK: &str = include_str!("look.py");

/// What a session printed before, while and after it imported the package.
type Seen = [String; 3];

/// Imports a package on top of what `below` has, if a session cannot tell; else says what it could tell by.
/// What is known to be so is not tried again.
pub(super) fn import(
    host: &Host,
    below: Option<&Snapshot>,
    package: &str,
    directory: &Path,
    limits: Limits,
    is_known: bool,
) -> Result<Result<Snapshot, String>> {
    let own = directory.join("own");
    make(&own)?;
    let importing = Snapshot::begin(host, below, Some(package), &own)?;
    // Both processes work while the first is waited for.
    let plain = (!is_known).then(|| look(host, None, package, directory, limits));
    let snapshot = match importing.finish() {
        Ok(snapshot) => snapshot,
        Err(reason) => return Ok(Err(reason)),
    };
    let Some(plain) = plain else {
        return Ok(Ok(snapshot));
    };
    let given = look(host, Some(&snapshot), package, directory, limits)?;
    Ok(match (plain?, given) {
        (Ok(plain), Ok(given)) => match difference(&plain, &given) {
            None => Ok(snapshot),
            Some(difference) => Err(difference),
        },
        (Err(reason), _) | (_, Err(reason)) => Err(reason),
    })
}

/// What a session sees that imports the package; both look from the same directory.
fn look(
    host: &Host,
    snapshot: Option<&Snapshot>,
    package: &str,
    directory: &Path,
    limits: Limits,
) -> Result<Result<Seen, String>> {
    let limits = Limits {
        timeout: Duration::from_secs(60),
        // It prints a line for each name of the package.
        output: 1 << 30,
        ..limits
    };
    let scratch = directory.join("project");
    make(&scratch)?;
    let mut session = host.session(Start {
        directory,
        tenant: host.new_number(),
        is_first: true,
        scratch: &scratch,
        limits: ProcessLimits::of(&limits),
        program: Program::Python,
        own_network: false,
        may_stay: false,
        snapshot,
        sources: Vec::new(),
    })?;
    let sources = [
        format!("{LOOK}\n\n_verify_look()\n"),
        format!("import {package}\n"),
        "_verify_look()\n".to_owned(),
    ];
    let mut seen = Seen::default();
    for (source, seen) in sources.into_iter().zip(&mut seen) {
        let unit = Unit {
            path: scratch.join("example.py"),
            argv: vec!["example.py".to_owned()],
            environment: Vec::new(),
            stdin: None,
            source,
            mode: Mode::Module {
                boundaries: Vec::new(),
                values: Vec::new(),
            },
            raises: None,
            may_end_early: false,
            last: false,
            session_file: None,
        };
        let done = session.run(vec![unit], limits, None).swap_remove(0);
        if let Some(reason) = session.untrue() {
            return Ok(Err(reason.to_owned()));
        }
        match done.ending {
            Ending::Completed => {}
            Ending::Raised(exception) => {
                return Ok(Err(format!(
                    "it cannot be imported (`{}`)",
                    exception.type_name
                )));
            }
            _ => return Ok(Err("its import ends the process".to_owned())),
        }
        *seen = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    }
    if seen[0].is_empty() || seen[2].is_empty() {
        bail!("a session printed nothing of what it sees");
    }
    Ok(Ok(seen))
}

/// The first thing in which two sessions differ, in words.
fn difference(plain: &Seen, given: &Seen) -> Option<String> {
    if plain[1] != given[1] {
        return Some("it prints".to_owned());
    }
    for (plain, given, when) in [
        (&plain[0], &given[0], "before it is imported"),
        (&plain[2], &given[2], "at every import"),
    ] {
        let (mut plain, mut given) = (plain.lines(), given.lines());
        loop {
            let (one, other) = (plain.next(), given.next());
            if one == other {
                if one.is_none() {
                    break;
                }
                continue;
            }
            let label = |line: &str| line.split('\t').next().unwrap_or(line).to_owned();
            let what = label(one.or(other).unwrap_or_default());
            return Some(format!("{what} is another {when}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let seen = |before: &str, import: &str, after: &str| {
            [before.to_owned(), import.to_owned(), after.to_owned()]
        };
        let plain = seen("a\t1\n", "", "a\t1\n`p.x`\t2\n`p.y`\t3\n");
        assert_eq!(difference(&plain, &plain), None);
        let other = seen("a\t1\n", "", "a\t1\n`p.x`\t2\n`p.y`\t4\n");
        let said = difference(&plain, &other).unwrap();
        assert_eq!(said, "`p.y` is another at every import");
        let shorter = seen("a\t1\n", "", "a\t1\n");
        let said = difference(&plain, &shorter).unwrap();
        assert_eq!(said, "`p.x` is another at every import");
        let loud = seen("a\t1\n", "hello\n", "a\t1\n`p.x`\t2\n`p.y`\t3\n");
        assert_eq!(difference(&loud, &plain).unwrap(), "it prints");
        let early = seen("a\t2\n", "", "");
        let said = difference(&plain, &early).unwrap();
        assert_eq!(said, "a is another before it is imported");
    }
}
