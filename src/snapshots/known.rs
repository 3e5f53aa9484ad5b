//! What earlier runs found out about packages, for as long as the interpreter, the packages and this program stay
//! what they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Fitness;
use crate::config::Config;
use crate::digest::{self, Digest};
use crate::host::{self, Host};
use crate::interpreter::Interpreter;
use crate::kept;

const FILE: &str = "packages.json";

/// Of one interpreter.
#[derive(Debug)]
pub struct Known {
    directory: PathBuf,
    key: String,
    of_all: BTreeMap<String, BTreeMap<String, Entry>>,
    roots: Vec<PathBuf>,
    is_changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// Of the file that its import begins with.
    appearance: Option<String>,
    fitness: Fitness,
}

impl Known {
    pub fn read(interpreter: &Interpreter, config: &Config, host: &Host) -> Known {
        let is_shut_in = host.ready.protections.is_some();
        let directory = config.cache_directory();
        Known {
            key: key(interpreter, config, is_shut_in).short(),
            of_all: kept::read(&directory, FILE),
            roots: interpreter.packages.clone(),
            directory,
            is_changed: false,
        }
    }

    pub fn of(&self, package: &str) -> Option<&Fitness> {
        let entry = self.of_all.get(&self.key)?.get(package)?;
        (entry.appearance == self.appearance(package)).then_some(&entry.fitness)
    }

    pub fn learn(&mut self, package: &str, fitness: Fitness) {
        if self.of(package) == Some(&fitness) {
            return;
        }
        let entry = Entry {
            appearance: self.appearance(package),
            fitness,
        };
        let known = self.of_all.entry(self.key.clone()).or_default();
        known.insert(package.to_owned(), entry);
        self.is_changed = true;
    }

    pub fn write(&mut self) {
        /// Interpreters and states of their packages; the oldest has no mark, so that any may go.
        const MOST: usize = 20;
        if !self.is_changed {
            return;
        }
        while self.of_all.len() > MOST {
            let Some(other) = self.of_all.keys().find(|key| **key != self.key).cloned() else {
                break;
            };
            self.of_all.remove(&other);
        }
        kept::write(&self.directory, FILE, &self.of_all);
        self.is_changed = false;
    }

    fn appearance(&self, package: &str) -> Option<String> {
        let file = self.roots.iter().find_map(|root| {
            let module = [format!("{package}/__init__.py"), format!("{package}.py")];
            let mut files = module.iter().map(|name| root.join(name));
            files.find(|file| file.is_file())
        })?;
        Some(digest::appearance(&file).ok()?.short())
    }
}

/// Everything that what a package does when it is imported may depend on, but its own code: that is told by
/// versions, as installers leave them.
fn key(interpreter: &Interpreter, config: &Config, is_shut_in: bool) -> Digest {
    let look = |file: &Path| digest::appearance(file).ok();
    let tool = std::env::current_exe().ok();
    let tools = tool.map(|own| (look(&own), look(&own.with_file_name(host::HOST_PROGRAM))));
    let installed: Vec<Vec<(PathBuf, Option<Digest>)>> = interpreter
        .packages
        .iter()
        .map(|directory| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut entries: Vec<_> = entries
                .map(|entry| entry.path())
                .filter(|path| path.file_name().is_some_and(|name| name != "__pycache__"))
                .map(|path| {
                    let list = look(&path.join("RECORD"));
                    (path, list)
                })
                .collect();
            entries.sort();
            entries
        })
        .collect();
    Digest::of_debug(&(
        tools,
        &interpreter.full_version,
        &interpreter.executable,
        look(&interpreter.libpython),
        installed,
        &config.environment,
        is_shut_in,
    ))
}
