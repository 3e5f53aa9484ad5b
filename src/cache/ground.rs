//! What all sessions of a run stand on: this program, the interpreter, its packages, the settings, and what
//! they are kept from.
//!
//! Starting Python to ask would cost more than a cached check may. So files are told by what they hold,
//! and what a file held last time is looked up by its appearance.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::entry::{self, Seal};
use crate::config::{Config, Sandbox};
use crate::digest::{self, Digest, Digester};
use crate::interpreter::Interpreter;
use crate::sandbox;

/// The settings of one run that change what examples do or what is said of them.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub config: &'a Config,
    pub interpreter: &'a Interpreter,
    pub strict: bool,
    pub timeout: Option<std::time::Duration>,
    /// How examples are shut in, and what else they may read.
    pub sandbox: (Sandbox, &'a [PathBuf]),
}

/// Each part with its name, as `--explain` says it.
pub(super) fn parts(terms: &Terms<'_>, files: &mut Files) -> io::Result<Vec<(String, Digest)>> {
    Ok([
        ("`verify` itself", tool(files)?),
        ("the interpreter", interpreter(terms.interpreter, files)?),
        (
            "the installed packages",
            packages(terms.interpreter, files)?,
        ),
        ("the settings", settings(terms)),
        (
            "what examples can be kept from on this machine",
            machine(terms),
        ),
    ]
    .map(|(name, digest)| (name.to_owned(), digest))
    .into())
}

fn tool(files: &mut Files) -> io::Result<Digest> {
    let own = std::env::current_exe()?;
    let host = own.with_file_name(crate::host::HOST_PROGRAM);
    let own = files.digest(&own)?;
    Ok(Digester::default()
        .with(own.bytes())
        .with(files.digest(&host)?.bytes())
        .finish())
}

fn interpreter(python: &Interpreter, files: &mut Files) -> io::Result<Digest> {
    let mut digester = Digester::default()
        .with(python.full_version.as_bytes())
        .with(python.executable.as_os_str().as_bytes())
        .with(python.prefix.as_os_str().as_bytes())
        .with(files.digest(&python.executable)?.bytes())
        .with(files.digest(&python.libpython)?.bytes());
    let marker = python.prefix.join("pyvenv.cfg");
    digester.add(&fs::read(marker).unwrap_or_default());
    Ok(digester.finish())
}

/// What is installed, by the lists of files and hashes that installers leave. What an editable
/// installation points at is seen when a session imports it.
fn packages(python: &Interpreter, files: &mut Files) -> io::Result<Digest> {
    let mut digester = Digester::default();
    for directory in &python.packages {
        digester.add(directory.as_os_str().as_bytes());
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if name == "__pycache__" {
                continue;
            }
            digester.add(name.as_bytes());
            let path = entry.path();
            let is_list = [b".dist-info".as_slice(), b".egg-info"]
                .iter()
                .any(|end| name.as_bytes().ends_with(end));
            if is_list && path.is_dir() {
                let lists = ["RECORD", "METADATA", "PKG-INFO"].map(|list| path.join(list));
                let list = lists.iter().find_map(|list| files.digest(list).ok());
                digester.add(list.as_ref().map_or(&[], |digest| digest.bytes()));
            } else if entry.file_type()?.is_file() {
                digester.add(files.digest(&path)?.bytes());
            }
        }
    }
    Ok(digester.finish())
}

fn settings(terms: &Terms<'_>) -> Digest {
    let config = terms.config;
    let (sandbox, more) = terms.sandbox;
    Digest::of_debug(&(
        (&config.limits, &config.environment, config.doctest),
        // Which examples share a session is not looked into where a page is not.
        (
            config.session,
            config.output,
            config.console,
            config.is_project,
        ),
        (terms.strict, terms.timeout),
        (sandbox, sandbox::asked_for(config, more)),
    ))
}

/// An example that looks for its limits does something else within others.
fn machine(terms: &Terms<'_>) -> Digest {
    let told = (terms.sandbox.0 != Sandbox::Off).then(sandbox::machine);
    Digest::of_debug(&told)
}

/// Digests of files' contents, remembered by the files' appearance.
pub(super) struct Files {
    file: PathBuf,
    seal: Seal,
    known: HashMap<Digest, Digest>,
    used: HashMap<Digest, Digest>,
    is_changed: bool,
}

impl Files {
    pub(super) fn open(directory: &Path, seal: Seal) -> Files {
        let file = directory.join("files");
        let known = entry::read(&file, &seal, "files")
            .and_then(|bytes| postcard::from_bytes(&bytes).ok())
            .unwrap_or_default();
        Files {
            file,
            seal,
            known,
            used: HashMap::new(),
            is_changed: false,
        }
    }

    fn digest(&mut self, file: &Path) -> io::Result<Digest> {
        let appearance = digest::appearance(file)?;
        let digest = match self.known.get(&appearance) {
            Some(digest) => *digest,
            None => {
                self.is_changed = true;
                Digest::of_file(file)?
            }
        };
        self.used.insert(appearance, digest);
        Ok(digest)
    }

    /// Keeps what was asked for now; of what earlier runs asked for, as much as is no burden.
    pub(super) fn save(mut self) {
        const MOST: usize = 5000;
        if !self.is_changed {
            return;
        }
        if self.known.len() < MOST {
            self.used.extend(self.known);
        }
        if let Ok(bytes) = postcard::to_stdvec(&self.used) {
            let _ = entry::write(&self.file, &self.seal, "files", &bytes);
        }
    }
}
