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
        ("the limits and processors that sessions get", inherited()),
        ("`VERIFY_CACHE_KEY`", files.seal.mark()),
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

/// What is installed, by the lists of files and hashes that installers leave; of the standard library, which
/// modules there are. What an editable installation points at is seen when a session imports it.
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
    let is_library = |path: &&PathBuf| {
        let mut library = python.library.iter();
        library.any(|one| path.starts_with(one)) && !python.packages.contains(path)
    };
    for directory in python.path.iter().filter(is_library) {
        let names = files.names(directory).ok();
        digester.add(names.as_ref().map_or(&[], |digest| digest.bytes()));
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

/// What sessions have from the process that started this one, and an example can meet or look at. Of the limits that
/// every session gets from us, that is how high they may be.
///
/// How many processes a user may have is left out: the kernel makes that of the memory it finds, so that hardly two
/// machines would share results.
fn inherited() -> Digest {
    use rustix::process::{Resource, getpriority_process, getrlimit};
    let limits = [Resource::As, Resource::Cpu, Resource::Data, Resource::Stack].map(getrlimit);
    let highest = [Resource::Fsize, Resource::Nofile].map(|limit| getrlimit(limit).maximum);
    #[cfg(target_os = "linux")]
    let processors = rustix::thread::sched_getaffinity(None)
        .map(|usable| usable.count())
        .ok();
    #[cfg(not(target_os = "linux"))]
    let processors = std::thread::available_parallelism().ok();
    Digest::of_debug(&(limits, highest, processors, getpriority_process(None).ok()))
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
        self.known(file, Digest::of_file)
    }

    /// Of a directory, which looks different when a name comes or goes.
    fn names(&mut self, directory: &Path) -> io::Result<Digest> {
        self.known(directory, |directory| {
            let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.retain(|name| name != "__pycache__");
            names.sort();
            Ok(Digest::of_debug(&names))
        })
    }

    fn known(&mut self, path: &Path, look: fn(&Path) -> io::Result<Digest>) -> io::Result<Digest> {
        let appearance = digest::appearance(path)?;
        let digest = match self.known.get(&appearance) {
            Some(digest) => *digest,
            None => {
                self.is_changed = true;
                look(path)?
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::Source;

    #[test]
    fn modules_that_come_into_the_standard_library_count() {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("lib");
        let packages = library.join("site-packages");
        let kept = directory.path().join("kept");
        fs::create_dir_all(library.join("lib-dynload")).unwrap();
        fs::create_dir(&packages).unwrap();
        let python = Interpreter {
            executable: PathBuf::new(),
            version: (3, 12, 1),
            full_version: "3.12.1".to_owned(),
            implementation: "cpython".to_owned(),
            libpython: PathBuf::new(),
            prefix: PathBuf::new(),
            base_executable: PathBuf::new(),
            purelib: packages.clone(),
            library: vec![library.clone()],
            path: ["python.zip", "lib", "lib/lib-dynload", "lib/site-packages"]
                .map(|name| directory.path().join(name))
                .into(),
            packages: vec![packages],
            source: Source::Flag,
            asked: None,
        };
        let look = || {
            let mut files = Files::open(&kept, Seal::new(b""));
            let digest = super::packages(&python, &mut files).unwrap();
            files.save();
            digest
        };
        let mut before = look();
        for name in ["tkinter", "lib-dynload/_tkinter.so"] {
            assert_eq!(look(), before);
            fs::create_dir(library.join(name)).unwrap();
            assert_ne!(look(), before, "{name}");
            before = look();
        }
        fs::create_dir(library.join("__pycache__")).unwrap();
        assert_eq!(look(), before);
    }
}
