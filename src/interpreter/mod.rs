//! Which Python: finds the interpreter that the examples run on, and the shared library that the
//! host preloads to become that interpreter.
//!
//! The order is the one that uv and ruff taught their users: what was asked for, the active
//! environment, a `.venv` near the project, `python3` on `PATH`. File names only ever rule a
//! candidate out; what a Python is, it says itself, because a shim, a link or a copy can carry any
//! name. Asking costs 20 ms and more through pyenv's shims, so answers are kept on disk for as long
//! as the file that gave them stays the same.

mod cache;
mod candidates;
mod error;
mod facts;
mod probe;
mod request;

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use pep440_rs::Version;

use candidates::{Surroundings, candidates};
use facts::admit;
use probe::Prober;

pub use error::{Error, Others};
pub use request::{Request, VersionRequest};

/// The oldest Python whose stable ABI the host is built for.
const OLDEST: (u8, u8) = (3, 10);

/// A CPython that examples can run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The `bin/python` that was chosen. Links stay unresolved: an environment's Python is a link,
    /// and only when started by that name does it find its packages.
    pub executable: PathBuf,
    pub version: (u8, u8, u8),
    /// As Python's own version text has it: `3.12.1`, `3.15.0a2`.
    pub full_version: String,
    /// `sys.implementation.name`; always `cpython` for now.
    pub implementation: String,
    /// The real file of the shared library that makes a process this Python.
    pub libpython: PathBuf,
    pub prefix: PathBuf,
    /// The Python that an environment was made from; the executable itself outside of one.
    pub base_executable: PathBuf,
    /// Where pure Python packages are installed.
    pub purelib: PathBuf,
    /// The directories of the standard library.
    pub library: Vec<PathBuf>,
    /// The directories on `sys.path` that packages are installed in.
    pub packages: Vec<PathBuf>,
    /// All of `sys.path`, apart from what a program brings.
    pub path: Vec<PathBuf>,
    pub source: Source,
    /// The version or path that somebody asked for; `None` where any was right.
    pub asked: Option<String>,
}

impl Interpreter {
    /// The directories whose contents come with this Python and its packages.
    pub fn known_directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.library.iter().chain(&self.packages)
    }

    /// The directories that path files have added, which are a project's own.
    pub fn added_directories(&self) -> impl Iterator<Item = &PathBuf> {
        let is_known = |path: &&PathBuf| self.known_directories().any(|one| path.starts_with(one));
        let path = self.path.iter().filter(move |path| !is_known(path));
        // The archive that comes first on it is mostly not there.
        path.filter(|path| path.is_dir())
    }

    /// Whether both are one, under whatever names: an environment's Python leads to the one that it was made from, and
    /// is another.
    fn is(&self, other: &Interpreter) -> bool {
        let prefix = |python: &Interpreter| python.prefix.canonicalize().ok();
        self.libpython == other.libpython && prefix(self) == prefix(other)
    }

    /// This one, for whoever asked for the other.
    pub(crate) fn asked_as(self, other: &Interpreter) -> Interpreter {
        Interpreter {
            asked: other.asked.clone(),
            ..self
        }
    }

    /// From the oldest to the newest, a pre-release before its release.
    pub fn by_version(&self, other: &Self) -> Ordering {
        ordered(&self.full_version, self.version).cmp(&ordered(&other.full_version, other.version))
    }

    /// Which of two a request means that both satisfy: the newer one, but a release before any
    /// pre-release, and among equals the one that was found first.
    fn or_preferred(self, found_before: Option<Self>) -> Self {
        let rank = |python: &Self| {
            let version = ordered(&python.full_version, python.version);
            (!version.is_pre(), version)
        };
        match found_before {
            Some(other) if rank(&other) >= rank(&self) => other,
            _ => self,
        }
    }
}

/// How an interpreter came to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Asked for: `--python`, or one of all that are installed.
    Flag,
    /// `$VIRTUAL_ENV`.
    VirtualEnv,
    /// A `.venv` in the project's folder or one above it.
    DotVenv,
    /// `python3` on `PATH`.
    Path,
    /// The environment that `verify` itself provides with the book's packages.
    Managed,
}

impl Source {
    /// The source whose text this is.
    pub fn named(text: &str) -> Option<Source> {
        let all = [
            Self::Flag,
            Self::VirtualEnv,
            Self::DotVenv,
            Self::Path,
            Self::Managed,
        ];
        all.into_iter().find(|source| source.to_string() == text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Flag => "`--python`",
            Self::VirtualEnv => "`$VIRTUAL_ENV`",
            Self::DotVenv => "`.venv`",
            Self::Path => "`PATH`",
            Self::Managed => "`.verify/environments`",
        })
    }
}

/// The Python for this project: as `request` asks, else the active environment's, else that of a
/// `.venv` in `project_root` or above, else `python3` on `PATH`.
///
/// `env` answers for the environment variables; `cache` is a folder for what Pythons said of themselves.
pub fn discover(
    request: Option<&Request>,
    project_root: &Path,
    env: &dyn Fn(&str) -> Option<OsString>,
    cache: &Path,
) -> Result<Interpreter, Error> {
    let surroundings = Surroundings::new(project_root, env);
    let mut prober = Prober::new(&surroundings, cache);
    let mut choice = match request {
        Some(Request::Version(version)) => by_version(version, &mut prober),
        Some(Request::Path(path)) => by_path(path, &mut prober),
        None => by_default(&mut prober),
    };
    if let Some(others) = choice.as_mut().err().and_then(Error::others) {
        let installed = installations(&mut prober).into_iter();
        others.0 = installed
            .map(|python| (python.full_version, python.executable))
            .collect();
    }
    prober.cache.save();
    choice.map(|python| Interpreter {
        asked: request.map(Request::to_string),
        ..python
    })
}

/// These, each once, however often and by whichever path it was named.
pub fn each_once(named: Vec<Interpreter>) -> Vec<Interpreter> {
    let mut all: Vec<Interpreter> = Vec::new();
    for python in named {
        if !all.iter().any(|other| other.is(&python)) {
            all.push(python);
        }
    }
    all
}

/// Every usable CPython of this machine, once for each real installation, oldest first.
/// Environments count as the Python that they were made from; what cannot be used is left out.
pub fn all_installed(
    project_root: &Path,
    env: &dyn Fn(&str) -> Option<OsString>,
    cache: &Path,
) -> Vec<Interpreter> {
    let surroundings = Surroundings::new(project_root, env);
    let mut prober = Prober::new(&surroundings, cache);
    let all = installations(&mut prober);
    prober.cache.save();
    all
}

/// The interpreter that this very file is: no search, the same questions.
pub fn at(
    executable: &Path,
    source: Source,
    project_root: &Path,
    env: &dyn Fn(&str) -> Option<OsString>,
    cache: &Path,
) -> Result<Interpreter, Error> {
    let surroundings = Surroundings::new(project_root, env);
    let mut prober = Prober::new(&surroundings, cache);
    let answer = prober.interpreter(executable, source);
    prober.cache.save();
    answer
}

fn by_default(prober: &mut Prober) -> Result<Interpreter, Error> {
    let surroundings = prober.surroundings;
    if let Some(folder) = &surroundings.virtual_env {
        return prober.interpreter(
            &environment_python(folder, Source::VirtualEnv)?,
            Source::VirtualEnv,
        );
    }
    let near = surroundings
        .project_root
        .ancestors()
        .map(|folder| folder.join(".venv"));
    // Some keep a file of that name, or an empty folder, for tools that are not meant here.
    if let Some(folder) = near.into_iter().find(|folder| {
        folder.join("pyvenv.cfg").is_file() || folder.join("bin/python").symlink_metadata().is_ok()
    }) {
        return prober.interpreter(
            &environment_python(&folder, Source::DotVenv)?,
            Source::DotVenv,
        );
    }
    let executable = ["python3", "python"]
        .iter()
        .find_map(|name| surroundings.on_path(OsStr::new(name)));
    match executable {
        Some(executable) => prober.interpreter(&executable, Source::Path),
        None => Err(not_found("`python3` on `PATH`".to_owned())),
    }
}

fn by_path(path: &Path, prober: &mut Prober) -> Result<Interpreter, Error> {
    let is_bare = path.components().count() == 1 && path.file_name() == Some(path.as_os_str());
    if is_bare && path.symlink_metadata().is_err() {
        if let Some(executable) = prober.surroundings.on_path(path.as_os_str()) {
            return prober.interpreter(&executable, Source::Flag);
        }
        let text = path.to_string_lossy();
        // `3.13t` is how uv and pyenv name such a build.
        if text
            .strip_suffix('t')
            .and_then(VersionRequest::parse)
            .is_some()
        {
            return Err(Error::FreeThreaded {
                wanted: text.into_owned(),
                others: Others::default(),
            });
        }
        return Err(not_found(format!(
            "`{text}`, which is no version such as `3.12`, no file or folder, and no program on `PATH`"
        )));
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    if absolute.is_dir() {
        return prober.interpreter(&environment_python(&absolute, Source::Flag)?, Source::Flag);
    }
    if absolute.symlink_metadata().is_err() {
        return Err(not_found(format!(
            "`{}`, which is not there",
            path.display()
        )));
    }
    prober.interpreter(&absolute, Source::Flag)
}

fn not_found(wanted: String) -> Error {
    Error::NotFound {
        wanted,
        others: Others::default(),
    }
}

/// The Python of an environment's folder, or of an installation's: both keep it in `bin`.
fn environment_python(folder: &Path, source: Source) -> Result<PathBuf, Error> {
    let names = ["bin/python", "bin/python3"].map(|name| folder.join(name));
    let Some(executable) = names.iter().find(|name| name.symlink_metadata().is_ok()) else {
        return Err(Error::NotExecutable {
            executable: names[0].clone(),
            reason: format!("there is no such file in the environment that {source} names"),
        });
    };
    Ok(executable.clone())
}

/// The newest Python that the request allows; among equals the first in order of search.
fn by_version(request: &VersionRequest, prober: &mut Prober) -> Result<Interpreter, Error> {
    let candidates = candidates(prober.surroundings, |minor_version| {
        request.may_be(minor_version)
    });
    let mut best: Option<Interpreter> = None;
    let mut refusal = None;
    for (candidate, answer) in prober.ask_all(&candidates) {
        let answer = match answer {
            Ok(facts) if !request.accepts(&facts) => continue,
            Ok(facts) => admit(&candidate.executable, &facts, Source::Flag),
            // One that may be of any version is no answer to the question why this version is missing.
            Err(_) if candidate.hint.is_none() => continue,
            Err(error) => Err(error),
        };
        match answer {
            Ok(python) => best = Some(python.or_preferred(best)),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    best.ok_or_else(|| match refusal {
        Some(error) => error,
        None if request.is_too_old() => Error::TooOld {
            version: request.to_string(),
            executable: None,
            others: Others::default(),
        },
        None => not_found(format!("version `{request}`")),
    })
}

fn installations(prober: &mut Prober) -> Vec<Interpreter> {
    let candidates = candidates(prober.surroundings, |minor_version| minor_version >= OLDEST);
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for (candidate, answer) in prober.ask_all(&candidates) {
        let Ok(facts) = answer else { continue };
        let python = if facts.prefix == facts.base_prefix {
            admit(&candidate.executable, &facts, Source::Flag)
        } else {
            prober.interpreter(&facts.base_executable.0, Source::Flag)
        };
        let Ok(python) = python else { continue };
        let real = fs::canonicalize(&python.base_executable)
            .unwrap_or_else(|_| python.base_executable.clone());
        if !seen.contains(&real) {
            seen.push(real);
            all.push(python);
        }
    }
    all.sort_by(Interpreter::by_version);
    all
}

fn ordered(full_version: &str, (major, minor, patch): (u8, u8, u8)) -> Version {
    let numbers = || Version::new([major, minor, patch].map(u64::from));
    Version::from_str(full_version).unwrap_or_else(|_| numbers())
}

/// A number that stands for a text in file names. FNV-1a, because it is the same on every build of
/// every Rust; whoever uses it compares the whole text as well.
pub(crate) fn fingerprint(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
