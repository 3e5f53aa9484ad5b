//! What a run leaves for the next one: how long sessions took, and what failed.
//!
//! Losing it costs nothing but time, so a file that is missing or damaged is an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::PageResult;

const FILE_NAME: &str = "last-run.json";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LastRun {
    /// By page, below the project's root, then by id of the example: seconds.
    durations: BTreeMap<String, BTreeMap<String, f64>>,
    /// Page and id.
    failed: BTreeSet<(String, String)>,
}

impl LastRun {
    pub fn read(directory: &Path) -> LastRun {
        fs::read(path(directory))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Writes it for the next run; a failure to do so is nobody's failure.
    pub fn write(&self, directory: &Path) {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(directory)?;
            let ignore = directory.join(".gitignore");
            if !ignore.exists() {
                fs::write(&ignore, "*\n")?;
            }
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.persist(path(directory))?;
            Ok(())
        };
        let _ = write();
    }

    /// How long the session took that this example began.
    pub fn duration(&self, page: &str, id: &str) -> Option<Duration> {
        let seconds = *self.durations.get(page)?.get(id)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    pub fn failed(&self) -> Vec<(String, String)> {
        self.failed.iter().cloned().collect()
    }

    /// Takes in what a run found. Examples that it did not run keep what is known of them.
    pub fn update(&mut self, pages: &[PageResult<'_>]) {
        for page in pages {
            let durations = self.durations.entry(page.page.key.clone()).or_default();
            for result in &page.examples {
                let key = (page.page.key.clone(), result.example.id.clone());
                if result.verdict.is_failure() {
                    self.failed.insert(key);
                } else {
                    self.failed.remove(&key);
                }
                if let Some(outcome) = &result.outcome {
                    durations.insert(result.example.id.clone(), outcome.duration.as_secs_f64());
                }
            }
        }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}
