//! Packages that are imported once, and which sessions start from there.
//!
//! Importing numpy and pandas takes longer than most pages that use them. So a host is told to import a package,
//! and sessions that import it are forked from that host; hosts form a tree, in which pandas is imported on top
//! of numpy. Nothing may be seen of it: each package is tried first (see [`check`]), and one whose import
//! a session could tell from a plain one is imported by each session itself.

mod check;
mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

pub use known::Known;

use crate::config::{Config, Limits, Preload};
use crate::demand::Demand;
use crate::host::{Host, Importing, Snapshot};
use crate::interpreter::Interpreter;

/// Hosts that keep packages cost memory.
const MOST_HOSTS: usize = 16;

/// A host that compiles costs as much as it saves two sessions.
const FEWEST_COMPILED: usize = 4;

/// What is known of a package on an interpreter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Fitness {
    /// Sessions cannot tell that it was imported before; with what it imports outside of the standard library.
    Fit { with: Vec<String> },
    /// Each session imports it itself, for this reason.
    Unfit(String),
}

/// The hosts of a run that have imported packages, and some that have not. All of them compile for their sessions,
/// which the host that they come from cannot risk.
#[derive(Debug, Default)]
pub struct Snapshots {
    roots: Vec<Node>,
    /// Each thread has its own, where it pays: most of what a session waits for is that it is compiled.
    plain: Vec<Snapshot>,
    /// Sessions that turned out to do what an import depends on, by page and place.
    refused: Mutex<BTreeSet<(String, usize)>>,
}

#[derive(Debug)]
struct Node {
    package: String,
    /// Dropped before the host that they were forked from.
    children: Vec<Node>,
    snapshot: Snapshot,
}

impl Snapshots {
    /// Makes the hosts that pay for these sessions, so many of which run at once.
    pub fn prepare(
        host: &Host,
        interpreter: &Interpreter,
        config: &Config,
        demands: &[Demand<'_>],
        threads: usize,
    ) -> Result<Snapshots> {
        let wanted = candidates(&config.preload, interpreter, demands);
        let roots = if wanted.is_empty() {
            Vec::new()
        } else {
            Snapshots::import(host, interpreter, config, demands, &wanted)?
        };
        let compiled = demands.iter().filter(|demand| is_compiled(demand)).count();
        let begun: Vec<Importing> = (0..threads.min(compiled / FEWEST_COMPILED))
            .map(|_| Snapshot::begin(host, None, None, host.root()))
            .collect::<Result<_>>()?;
        let plain = begun.into_iter().filter_map(|host| host.finish().ok());
        Ok(Snapshots {
            roots,
            plain: plain.collect(),
            refused: Mutex::default(),
        })
    }

    /// Imports what several of these sessions use.
    fn import(
        host: &Host,
        interpreter: &Interpreter,
        config: &Config,
        demands: &[Demand<'_>],
        wanted: &BTreeMap<String, usize>,
    ) -> Result<Vec<Node>> {
        let mut builder = Builder {
            host,
            known: Known::read(interpreter, config, host),
            limits: config.limits,
            hosts: 0,
        };
        let order = builder.in_order(wanted);
        let sessions: Vec<BTreeSet<&str>> = demands
            .iter()
            .map(|demand| {
                packages(demand)
                    .filter(|name| wanted.contains_key(*name))
                    .collect()
            })
            .collect();
        let sessions: Vec<&BTreeSet<&str>> = sessions.iter().collect();
        let roots = builder.grow(None, &order, &sessions)?;
        builder.known.write();
        Ok(roots)
    }

    /// Where a session starts: with the packages that it will import, and no others. `None` is the host itself.
    pub fn of(&self, demand: &Demand<'_>, session: &(String, usize)) -> Option<&Snapshot> {
        let plain = || {
            let thread = rayon::current_thread_index().unwrap_or(0);
            let own = self.plain.get(thread % self.plain.len().max(1))?;
            (is_compiled(demand) && !own.is_lost()).then_some(own)
        };
        self.with_packages(demand, session).or_else(plain)
    }

    fn with_packages(&self, demand: &Demand<'_>, session: &(String, usize)) -> Option<&Snapshot> {
        if !may_share(demand) || self.refused().contains(session) {
            return None;
        }
        let packages: BTreeSet<&str> = packages(demand).collect();
        let mut nodes = &self.roots;
        let mut found = None;
        while let Some(node) = nodes
            .iter()
            .find(|node| packages.contains(node.package.as_str()) && !node.snapshot.is_lost())
        {
            found = Some(&node.snapshot);
            nodes = &node.children;
        }
        // A package that came along with another one was not tried for itself.
        let is_tried = |snapshot: &&Snapshot| {
            let brought = snapshot.packages.iter().map(String::as_str);
            brought
                .filter(|name| packages.contains(name))
                .all(|name| self.is_imported(name))
        };
        found.filter(is_tried)
    }

    /// Whether there are sessions that it gives packages.
    pub fn has_packages(&self) -> bool {
        !self.roots.is_empty()
    }

    /// From now on nothing is imported for this session.
    pub fn refuse(&self, session: (String, usize)) {
        self.refused().insert(session);
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeSet<(String, usize)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_imported(&self, package: &str) -> bool {
        fn any(nodes: &[Node], package: &str) -> bool {
            nodes
                .iter()
                .any(|node| node.package == package || any(&node.children, package))
        }
        any(&self.roots, package)
    }
}

/// Packages that sessions import, with the number of sessions that do.
pub fn candidates(
    preload: &Preload,
    interpreter: &Interpreter,
    demands: &[Demand<'_>],
) -> BTreeMap<String, usize> {
    let mut importers: BTreeMap<String, usize> = BTreeMap::new();
    for demand in demands.iter().filter(|demand| may_share(demand)) {
        let names: BTreeSet<&str> = packages(demand).collect();
        for name in names {
            *importers.entry(name.to_owned()).or_default() += 1;
        }
    }
    // What one session alone imports costs the same wherever it is imported.
    importers.retain(|name, sessions| {
        *sessions > 1
            && match preload {
                Preload::Auto => is_installed(interpreter, name),
                Preload::Packages(names) => names.contains(name),
            }
    });
    importers
}

/// A short session costs less to compile than to fork from a host that has just compiled for another.
fn is_compiled(demand: &Demand<'_>) -> bool {
    !demand.is_bare && !demand.is_short
}

fn may_share(demand: &Demand<'_>) -> bool {
    !demand.is_bare && !demand.is_particular
}

fn packages<'a>(demand: &Demand<'a>) -> impl Iterator<Item = &'a str> {
    demand
        .imports
        .iter()
        .filter_map(|name| name.split('.').next())
        .filter(|name| !name.is_empty())
}

/// Whether it lies where packages are installed: a file of the book's or of the standard library does not.
fn is_installed(interpreter: &Interpreter, name: &str) -> bool {
    interpreter.packages.iter().any(|directory| {
        directory.join(name).join("__init__.py").is_file()
            || directory.join(format!("{name}.py")).is_file()
    })
}

/// Makes the hosts of a run.
struct Builder<'h> {
    host: &'h Host,
    known: Known,
    limits: Limits,
    hosts: usize,
}

impl Builder<'_> {
    /// First what others are built on, as far as that is known, then what most sessions import.
    fn in_order(&self, wanted: &BTreeMap<String, usize>) -> Vec<String> {
        let mut order: Vec<&String> = wanted.keys().collect();
        let dependencies = |name: &String| match self.known.of(name) {
            Some(Fitness::Fit { with }) => with
                .iter()
                .filter(|name| wanted.contains_key(*name))
                .count(),
            _ => 0,
        };
        order.sort_by_key(|name| (dependencies(name), std::cmp::Reverse(wanted[*name]), *name));
        order.into_iter().cloned().collect()
    }

    /// The hosts that are forked from `below`, for sessions that are known by the packages that they import.
    fn grow(
        &mut self,
        below: Option<&Snapshot>,
        order: &[String],
        sessions: &[&BTreeSet<&str>],
    ) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        let mut rest: Vec<&BTreeSet<&str>> = sessions.to_vec();
        for (index, package) in order.iter().enumerate() {
            let (with, without): (Vec<_>, Vec<_>) = rest
                .iter()
                .partition(|packages| packages.contains(package.as_str()));
            if with.len() < 2 || self.hosts == MOST_HOSTS {
                continue;
            }
            let Some(snapshot) = self.import(below, package)? else {
                continue;
            };
            rest = without;
            let children = self.grow(Some(&snapshot), &order[index + 1..], &with)?;
            nodes.push(Node {
                package: package.clone(),
                children,
                snapshot,
            });
        }
        Ok(nodes)
    }

    /// A host that has imported this package; `None` if sessions have to do so themselves.
    fn import(&mut self, below: Option<&Snapshot>, package: &str) -> Result<Option<Snapshot>> {
        if let Some(Fitness::Unfit(_)) = self.known.of(package) {
            return Ok(None);
        }
        self.hosts += 1;
        let directory = self.host.root().join(format!("packages-{}", self.hosts));
        let is_known = self.known.of(package).is_some();
        let tried = check::import(self.host, below, package, &directory, self.limits, is_known);
        let tried = match tried {
            // The run gets another one.
            Err(_) if self.host.is_lost() => Err("its import ends other processes".to_owned()),
            other => other.with_context(|| format!("cannot try to import `{package}`"))?,
        };
        Ok(match tried {
            Ok(snapshot) => {
                let others = snapshot.packages.iter().filter(|name| *name != package);
                let with = others.cloned().collect();
                self.known.learn(package, Fitness::Fit { with });
                Some(snapshot)
            }
            // What was tried once and fails now has met something of the moment.
            Err(_) if is_known => None,
            Err(reason) => {
                self.known.learn(package, Fitness::Unfit(reason));
                None
            }
        })
    }
}

/// Tries packages for themselves, whoever imports them, and says what came of it.
pub fn try_all<'p>(
    host: &Host,
    interpreter: &Interpreter,
    config: &Config,
    packages: impl Iterator<Item = &'p str>,
) -> Result<Vec<(&'p str, Fitness)>> {
    let mut builder = Builder {
        host,
        known: Known::read(interpreter, config, host),
        limits: config.limits,
        hosts: 0,
    };
    let mut found = Vec::new();
    for package in packages {
        if builder.known.of(package).is_none() {
            builder.import(None, package)?;
        }
        if let Some(fitness) = builder.known.of(package) {
            found.push((package, fitness.clone()));
        }
    }
    builder.known.write();
    Ok(found)
}

/// Where the hosts' directories are made is the host's own; nothing is written outside of it.
fn make(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make `{}`", directory.display()))
}
