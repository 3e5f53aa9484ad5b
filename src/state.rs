//! What a run leaves for the next one: how long examples took, and what failed.
//!
//! Losing it costs nothing but time, so a file that is missing or damaged is an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::kept;
use crate::report::PageResult;

const DURATIONS: &str = "durations.json";
/// Apart, since a run in which nothing ran reads this one alone.
const FAILED: &str = "failed.json";

/// Page and id of an example.
type Key = (String, String);
type Failed = BTreeSet<Key>;

#[derive(Debug, Clone, Default)]
pub struct LastRun {
    durations: Durations,
    failed: Failed,
}

/// On how many interpreters of a run each example that is known to have failed has passed since.
#[derive(Debug)]
pub struct Passed {
    interpreters: usize,
    counts: BTreeMap<Key, usize>,
}

/// How long examples took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Durations {
    /// By page, below the project's root, then by id: seconds.
    pages: BTreeMap<String, BTreeMap<String, f64>>,
}

impl LastRun {
    pub fn read(directory: &Path) -> LastRun {
        LastRun {
            durations: kept::read(directory, DURATIONS),
            failed: kept::read(directory, FAILED),
        }
    }

    /// Writes it for the next run; a failure to do so is nobody's failure.
    pub fn write(&self, directory: &Path) {
        kept::write(directory, DURATIONS, &self.durations);
        kept::write(directory, FAILED, &self.failed);
    }

    /// How long an example took.
    pub fn duration(&self, page: &str, id: &str) -> Option<Duration> {
        self.durations.of(page, id)
    }

    pub fn failed(directory: &Path) -> Vec<(String, String)> {
        kept::read::<Failed>(directory, FAILED)
            .into_iter()
            .collect()
    }

    /// Takes in what a run found on one interpreter. Examples that it did not run keep what is known of them, and what
    /// failed is forgotten once it has passed on all.
    pub fn update(&mut self, pages: &[PageResult<'_>], passed: &mut Passed) {
        for page in pages {
            let durations = self.durations.pages.entry(page.page.key.clone());
            let durations = durations.or_default();
            for result in &page.examples {
                let key = (page.page.key.clone(), result.example.id.clone());
                if result.verdict.is_failure() {
                    self.failed.insert(key);
                } else if self.failed.contains(&key) && passed.is_on_all(&key) {
                    self.failed.remove(&key);
                }
                if let Some(outcome) = &result.outcome {
                    durations.insert(result.example.id.clone(), outcome.duration.as_secs_f64());
                }
            }
        }
    }
}

impl Passed {
    pub fn of(interpreters: usize) -> Passed {
        Passed {
            interpreters,
            counts: BTreeMap::new(),
        }
    }

    /// Counts that an example passed: whether it has done so on each interpreter.
    fn is_on_all(&mut self, key: &Key) -> bool {
        let count = self.counts.entry(key.clone()).or_default();
        *count += 1;
        *count == self.interpreters
    }
}

impl Durations {
    /// Reads a file that somebody named. It may be missing: the first run has none.
    pub fn load(file: &Path) -> Result<Option<Durations>> {
        let name = file.display();
        match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!("`{name}` holds no durations: write it by `verify merge --durations`")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{name}`")),
        }
    }

    pub fn save(&self, file: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self)?;
        fs::write(file, bytes).with_context(|| format!("cannot write `{}`", file.display()))
    }

    /// Takes in how long the examples of a page took. What ran on several interpreters counts in sum.
    pub fn add(&mut self, page: &PageResult<'_>) {
        let of_page = self.pages.entry(page.page.key.clone()).or_default();
        for result in &page.examples {
            if let Some(outcome) = &result.outcome {
                let known = of_page.entry(result.example.id.clone()).or_default();
                *known += outcome.duration.as_secs_f64();
            }
        }
    }

    pub fn of(&self, page: &str, id: &str) -> Option<Duration> {
        let seconds = *self.pages.get(page)?.get(id)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// These pages passed, whatever was known of them before.
pub fn forget_failures<'a>(directory: &Path, pages: impl Iterator<Item = &'a String>) {
    let pages: BTreeSet<&String> = pages.collect();
    forget(directory, |(page, _)| pages.contains(page));
}

/// These examples are as they should be, whatever was known of them before.
pub fn forget_failed(directory: &Path, examples: &BTreeSet<(String, String)>) {
    forget(directory, |example| examples.contains(example));
}

fn forget(directory: &Path, is_good: impl Fn(&Key) -> bool) {
    let mut failed: Failed = kept::read(directory, FAILED);
    let before = failed.len();
    failed.retain(|example| !is_good(example));
    if failed.len() < before {
        kept::write(directory, FAILED, &failed);
    }
}
