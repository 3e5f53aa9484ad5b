//! Which Python: finds the interpreter that the examples run on, and the shared library that the
//! host preloads to become that interpreter.
//!
//! The order is the one that uv and ruff taught their users: what was asked for, the active
//! environment, a `.venv` near the project, `python3` on `PATH`. File names only ever rule a
//! candidate out; what a Python is, it says itself, because a shim, a link or a copy can carry any
//! name. Asking costs 20 ms and more through pyenv's shims, so answers are kept on disk for as long
//! as the file that gave them stays the same.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pep440_rs::Version;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// The oldest Python whose stable ABI the host is built for.
const OLDEST: (u8, u8) = (3, 10);

/// How long a candidate may take to say what it is. A healthy one needs 20 ms; a loaded machine or
/// a cold network drive can need seconds, and giving up on those would refuse a good Python.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// As much of a candidate's output as is read, in bytes: an answer has less than 4 kB, and rubbish has no end.
const PROBE_OUTPUT: u64 = 256 * 1024;

/// Begins the line that carries the answer. `sitecustomize` and `.pth` files may print before it.
const PROBE_MARK: &str = "verify-probe:";

/// Asks a Python what it is. Written for every version from 2.7 on, so that an old one is refused
/// by its name rather than by a syntax error. Paths travel as their bytes, one character each:
/// what Python would otherwise print depends on the locale.
const PROBE: &str = r#"
import json, os, sys, sysconfig

def raw(path):
    path = path or ""
    return (os.fsencode(path) if hasattr(os, "fsencode") else path).decode("latin-1")

version = sys.version_info
full = "%d.%d.%d" % version[:3]
if version[3] != "final":
    full += {"alpha": "a", "beta": "b", "candidate": "rc"}.get(version[3], "a") + str(version[4])
name = "pypy" if "__pypy__" in sys.builtin_module_names else "cpython"
name = getattr(getattr(sys, "implementation", None), "name", name)
get = sysconfig.get_config_var
print("\nverify-probe:" + json.dumps({
    "implementation": name,
    "version": version[:3],
    "full_version": full,
    "executable": raw(sys.executable),
    "base_executable": raw(getattr(sys, "_base_executable", None)),
    "prefix": raw(sys.prefix),
    "base_prefix": raw(getattr(sys, "base_prefix", sys.prefix)),
    "purelib": raw(sysconfig.get_path("purelib")),
    "library": [raw(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")],
    "path": [raw(path) for path in sys.path],
    "free_threaded": bool(get("Py_GIL_DISABLED")),
    "abi_flags": getattr(sys, "abiflags", ""),
    "multiarch": get("MULTIARCH") or "",
    "library_names": [name for name in (get("INSTSONAME"), get("LDLIBRARY")) if name],
    "library_folders": [raw(get(name)) for name in ("LIBDIR", "LIBPL", "PYTHONFRAMEWORKPREFIX") if get(name)],
}))
"#;

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
    pub source: Source,
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

/// What `--python` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Version(VersionRequest),
    /// A Python's file, an environment's folder, or a bare name to look up on `PATH`.
    Path(PathBuf),
}

/// `3`, `3.12`, `3.12.1` or `3.15.0a2`: the parts that are left out may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRequest(Version);

impl Request {
    /// Never fails: what is no version is a path, and whether that exists is for [`discover`] to say.
    /// A file that is named like a version is meant by `./3.12`.
    pub fn parse(text: &str) -> Self {
        VersionRequest::parse(text).map_or_else(|| Self::Path(PathBuf::from(text)), Self::Version)
    }
}

impl FromStr for Request {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(out),
            Self::Path(path) => path.display().fmt(out),
        }
    }
}

impl VersionRequest {
    fn parse(text: &str) -> Option<Self> {
        // PEP 440 reads `v3.12` and ` 3.12` too, which nobody writes for a Python.
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let version = Version::from_str(text).ok()?;
        let plain =
            !version.is_post() && !version.is_dev() && !version.is_local() && version.epoch() == 0;
        let parts = version.release();
        let small = parts.len() <= 3 && parts.iter().all(|&part| u8::try_from(part).is_ok());
        (plain && small).then_some(Self(version))
    }

    fn accepts(&self, facts: &Facts) -> bool {
        if self.is_exact() {
            return facts.ordered_version() == self.0;
        }
        let (major, minor, _) = facts.version;
        self.may_be((major, minor))
    }

    /// Whether a Python of this minor version is worth asking.
    fn may_be(&self, minor_version: (u8, u8)) -> bool {
        let has = [u64::from(minor_version.0), u64::from(minor_version.1)];
        self.0
            .release()
            .iter()
            .take(2)
            .zip(has)
            .all(|(&wanted, has)| wanted == has)
    }

    fn is_exact(&self) -> bool {
        self.0.release().len() == 3 || self.0.is_pre()
    }

    fn is_too_old(&self) -> bool {
        match *self.0.release() {
            [major] => major < u64::from(OLDEST.0),
            [major, minor, ..] => (major, minor) < (u64::from(OLDEST.0), u64::from(OLDEST.1)),
            [] => false,
        }
    }
}

impl fmt::Display for VersionRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Why there is no Python to run on.
#[derive(Debug)]
pub enum Error {
    /// Nothing answers to what was asked for.
    NotFound { wanted: String, others: Others },
    /// Older than the stable ABI that the host is built for.
    TooOld {
        version: String,
        executable: Option<PathBuf>,
        others: Others,
    },
    /// PyPy, GraalPy and their like: they have no libpython to embed.
    NotCPython {
        implementation: String,
        executable: PathBuf,
        others: Others,
    },
    /// A static build: nothing to preload.
    NoSharedLibrary {
        version: String,
        executable: PathBuf,
    },
    /// A build without the GIL, whose ABI is another one.
    FreeThreaded { wanted: String, others: Others },
    /// Started, and did not say what it is.
    ProbeFailed {
        executable: PathBuf,
        how: String,
        printed: String,
    },
    /// Could not be started at all.
    NotExecutable { executable: PathBuf, reason: String },
}

/// The usable Pythons of this machine, as an error offers them: version and file.
#[derive(Debug, Default)]
pub struct Others(pub Vec<(String, PathBuf)>);

impl fmt::Display for Others {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("install one, such as with `uv python install 3.13`");
        }
        out.write_str("pass one that is here, such as ")?;
        for (at, (version, executable)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(
                out,
                "{comma}`--python {version}` (`{}`)",
                executable.display()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = OLDEST;
        match self {
            Self::NotFound { wanted, others } => {
                write!(out, "no python found for {wanted}: {others}")?;
                if others.0.is_empty() {
                    return Ok(());
                }
                out.write_str(", or install another with `uv python install`")
            }
            Self::TooOld {
                version,
                executable,
                others,
            } => {
                write!(out, "python `{version}`")?;
                if let Some(executable) = executable {
                    write!(out, " (`{}`)", executable.display())?;
                }
                write!(
                    out,
                    " is too old, examples need {major}.{minor} or newer: {others}"
                )
            }
            Self::NotCPython {
                implementation,
                executable,
                others,
            } => write!(
                out,
                "`{}` is `{implementation}`, and only `cpython` can be embedded: {others}",
                executable.display()
            ),
            Self::NoSharedLibrary {
                version,
                executable,
            } => {
                let short = version
                    .rsplit_once('.')
                    .map_or(version.as_str(), |(short, _)| short);
                write!(
                    out,
                    "python `{version}` (`{}`) has no shared `libpython{short}` to embed: \
                     with pyenv, build it again by `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {version}`; \
                     on Debian, `apt install libpython{short}`; \
                     or take one that always has it, by `uv python install {short}`",
                    executable.display()
                )
            }
            Self::FreeThreaded { wanted, others } => write!(
                out,
                "python `{wanted}` is a free-threaded build, which does not load the stable ABI (abi3) that examples run on: {others}"
            ),
            Self::ProbeFailed {
                executable,
                how,
                printed,
            } => {
                write!(
                    out,
                    "`{}` does not answer as a python does, it {how}",
                    executable.display()
                )?;
                if printed.is_empty() {
                    out.write_str(" and printed nothing")?;
                } else {
                    write!(out, " and printed `{printed}`")?;
                }
                out.write_str(": repair it, or name another with `--python`")
            }
            Self::NotExecutable { executable, reason } => write!(
                out,
                "`{}` cannot be started, {reason}: make the environment again, or name another python with `--python`",
                executable.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether the message gains by naming the Pythons that would do; finding those takes time.
    fn others(&mut self) -> Option<&mut Others> {
        match self {
            Self::NotFound { others, .. }
            | Self::TooOld { others, .. }
            | Self::NotCPython { others, .. }
            | Self::FreeThreaded { others, .. } => Some(others),
            Self::NoSharedLibrary { .. }
            | Self::ProbeFailed { .. }
            | Self::NotExecutable { .. } => None,
        }
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
    choice
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

/// A number that stands for a text in file names. FNV-1a, because it is the same on every build of
/// every Rust; whoever uses it compares the whole text as well.
pub(crate) fn fingerprint(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What the search depends on besides files, read once so that probes can run on several threads.
struct Surroundings {
    /// Resolved: pyenv looks for `.python-version` from here upwards.
    project_root: PathBuf,
    path: Vec<PathBuf>,
    virtual_env: Option<PathBuf>,
    pyenv_root: Option<PathBuf>,
    uv_pythons: Option<PathBuf>,
    /// Variables that decide which Python a shim stands for, as a probe must see them.
    passed_on: Vec<(&'static str, Option<OsString>)>,
}

impl Surroundings {
    fn new(project_root: &Path, env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let absolute =
            |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Self {
            project_root: fs::canonicalize(project_root).unwrap_or_else(|_| absolute(project_root)),
            path: set("PATH")
                .map(|path| {
                    std::env::split_paths(&path)
                        .filter(|entry| entry.is_absolute())
                        .collect()
                })
                .unwrap_or_default(),
            virtual_env: set("VIRTUAL_ENV").map(|path| absolute(Path::new(&path))),
            pyenv_root: set("PYENV_ROOT")
                .map(PathBuf::from)
                .or_else(|| below_home(".pyenv")),
            uv_pythons: set("UV_PYTHON_INSTALL_DIR")
                .map(PathBuf::from)
                .or_else(|| set("XDG_DATA_HOME").map(|data| Path::new(&data).join("uv/python")))
                .or_else(|| below_home(".local/share/uv/python")),
            passed_on: ["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION"]
                .map(|name| (name, env(name)))
                .into(),
        }
    }

    /// The folders where Pythons are looked for by version, first come first.
    fn folders(&self) -> Vec<PathBuf> {
        let shims = self.pyenv_root.as_ref().map(|root| root.join("shims"));
        // Shims stand for the installations that come next, and each costs a shell to ask.
        let mut folders: Vec<_> = self
            .path
            .iter()
            .filter(|entry| Some(*entry) != shims.as_ref())
            .cloned()
            .collect();
        if let Some(root) = &self.pyenv_root {
            folders.extend(each_bin(&root.join("versions")));
        }
        if let Some(root) = &self.uv_pythons {
            folders.extend(each_bin(root));
        }
        folders.extend(
            [
                "/usr/bin",
                "/usr/local/bin",
                "/opt/homebrew/bin",
                "/opt/python/bin",
            ]
            .map(PathBuf::from),
        );
        folders.extend(each_bin(Path::new("/opt/python")));
        folders.extend(each_bin(Path::new(
            "/Library/Frameworks/Python.framework/Versions",
        )));
        folders
    }

    fn on_path(&self, name: &OsStr) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| is_executable(file))
    }

    /// What decides, besides its own file, which Python a pyenv shim starts; `None` for any other file.
    /// <https://github.com/pyenv/pyenv#understanding-python-version-selection>
    fn shim_context(&self, executable: &Path) -> Option<String> {
        let root = self
            .pyenv_root
            .as_ref()
            .filter(|root| executable.parent() == Some(&root.join("shims")))?;
        let local = self
            .project_root
            .ancestors()
            .find_map(|folder| fs::read(folder.join(".python-version")).ok());
        let shared = fs::read(root.join("version")).ok();
        // `3.12` stands for the newest 3.12 that is installed, and installing one changes this folder.
        let installed = fs::metadata(root.join("versions"))
            .ok()
            .map(|folder| (folder.mtime(), folder.mtime_nsec()));
        Some(format!(
            "{:?} {local:?} {shared:?} {installed:?}",
            self.passed_on
        ))
    }
}

fn each_bin(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut folders: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    folders
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
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

impl Interpreter {
    /// The directories whose contents come with this Python and its packages.
    pub fn known_directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.library.iter().chain(&self.packages)
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

fn ordered(full_version: &str, (major, minor, patch): (u8, u8, u8)) -> Version {
    let numbers = || Version::new([major, minor, patch].map(u64::from));
    Version::from_str(full_version).unwrap_or_else(|_| numbers())
}

/// A file that may be a Python.
struct Candidate {
    executable: PathBuf,
    /// The minor version in the name of the file that it resolves to. Only good for leaving a file
    /// out: installing a CPython always makes `pythonX.Y`, and asking thirty others takes a second.
    hint: Option<(u8, u8)>,
}

fn candidates(
    surroundings: &Surroundings,
    worth_asking: impl Fn((u8, u8)) -> bool,
) -> Vec<Candidate> {
    let mut seen = Vec::new();
    let mut candidates = Vec::new();
    for folder in surroundings.folders() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut names: Vec<_> = entries
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| is_python_name(name))
            .collect();
        // `python3.12` before `python3` before `python`: the name that says most is the one to show.
        names.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        for name in names {
            let executable = folder.join(&name);
            let Ok(real) = fs::canonicalize(&executable) else {
                continue;
            };
            if seen.contains(&real) || !is_executable(&real) {
                continue;
            }
            let hint = real.file_name().and_then(minor_version_in);
            seen.push(real);
            if hint.is_none_or(&worth_asking) {
                candidates.push(Candidate { executable, hint });
            }
        }
    }
    candidates
}

/// `python`, `python3` and `python3.12`; nothing of what comes with them, such as `python3-config`.
fn is_python_name(name: &OsStr) -> bool {
    let version = name.to_str().and_then(|name| name.strip_prefix("python"));
    version.is_some_and(|version| version.is_empty() || version.parse::<u8>().is_ok())
        || minor_version_in(name).is_some()
}

fn minor_version_in(name: &OsStr) -> Option<(u8, u8)> {
    let (major, minor) = name.to_str()?.strip_prefix("python")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What a Python says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    implementation: String,
    version: (u8, u8, u8),
    full_version: String,
    executable: Wire,
    base_executable: Wire,
    prefix: Wire,
    base_prefix: Wire,
    purelib: Wire,
    library: Vec<Wire>,
    path: Vec<Wire>,
    free_threaded: bool,
    abi_flags: String,
    multiarch: String,
    library_names: Vec<String>,
    library_folders: Vec<Wire>,
}

/// A path in JSON: each byte is the character of the same number, so that a path in any encoding survives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct Wire(PathBuf);

impl From<String> for Wire {
    fn from(text: String) -> Self {
        let bytes = text
            .chars()
            .map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?'))
            .collect();
        Self(PathBuf::from(OsString::from_vec(bytes)))
    }
}

impl From<Wire> for String {
    fn from(path: Wire) -> Self {
        path.0
            .as_os_str()
            .as_bytes()
            .iter()
            .map(|&byte| char::from(byte))
            .collect()
    }
}

impl Facts {
    fn ordered_version(&self) -> Version {
        ordered(&self.full_version, self.version)
    }

    /// Of `sys.path`, what installers fill. Other places on it are a project's own, put there by a
    /// `.pth` file: an editable installation.
    fn packages(&self) -> Vec<PathBuf> {
        let is_installers = |path: &Path| {
            path == self.purelib.0
                || path
                    .file_name()
                    .is_some_and(|name| name == "site-packages" || name == "dist-packages")
        };
        let path = self.path.iter().map(|wire| &wire.0);
        path.filter(|path| is_installers(path)).cloned().collect()
    }
}

/// Turns what a Python said into an interpreter, or into the reason why it is none for us.
fn admit(candidate: &Path, facts: &Facts, source: Source) -> Result<Interpreter, Error> {
    // A shim is left behind for what it stands for; an environment's link names itself here.
    let named = &facts.executable.0;
    let executable = if named.is_file() {
        named.clone()
    } else {
        candidate.to_path_buf()
    };
    let others = Others::default();
    if facts.implementation != "cpython" {
        return Err(Error::NotCPython {
            implementation: facts.implementation.clone(),
            executable,
            others,
        });
    }
    let (major, minor, _) = facts.version;
    let version = facts.full_version.clone();
    if (major, minor) < OLDEST {
        return Err(Error::TooOld {
            version,
            executable: Some(executable),
            others,
        });
    }
    if facts.free_threaded {
        return Err(Error::FreeThreaded {
            wanted: executable.display().to_string(),
            others,
        });
    }
    // Up to 3.10, `sys._base_executable` is a guess that can name a file which Debian does not have.
    let base = &facts.base_executable.0;
    let base_executable = if base.is_file() {
        base.clone()
    } else {
        fs::canonicalize(&executable).unwrap_or_else(|_| executable.clone())
    };
    let Some(libpython) = shared_library(facts, &base_executable) else {
        return Err(Error::NoSharedLibrary {
            version,
            executable,
        });
    };
    Ok(Interpreter {
        executable,
        version: facts.version,
        full_version: version,
        implementation: facts.implementation.clone(),
        libpython,
        prefix: facts.prefix.0.clone(),
        base_executable,
        purelib: facts.purelib.0.clone(),
        library: facts.library.iter().map(|wire| wire.0.clone()).collect(),
        packages: facts.packages(),
        source,
    })
}

/// The real file of a Python's shared library.
///
/// The installation's own folders come before `LIBDIR`, which is wrong in relocated builds (uv's
/// says `/install/lib`); the loader's own path is not searched at all, because a library of the same
/// name from another installation would load and then run the wrong standard library.
fn shared_library(facts: &Facts, base_executable: &Path) -> Option<PathBuf> {
    let (major, minor, _) = facts.version;
    let stem = format!("libpython{major}.{minor}{}", facts.abi_flags);
    let usual = [".so.1.0", ".so.1", ".so", ".dylib"].map(|end| format!("{stem}{end}"));
    let said = facts
        .library_names
        .iter()
        .filter(|name| Path::new(name).extension().is_none_or(|end| end != "a"));
    let names: Vec<_> = said.cloned().chain(usual).collect();

    let prefix = &facts.base_prefix.0;
    let mut folders = vec![
        prefix.join("lib"),
        prefix.join("lib").join(&facts.multiarch),
        prefix.join("lib64"),
    ];
    let real = fs::canonicalize(base_executable).ok();
    folders.extend(
        real.as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent)
            .map(|root| root.join("lib")),
    );
    for folder in &facts.library_folders {
        folders.push(folder.0.clone());
        folders.push(folder.0.join(&facts.multiarch));
    }
    let mut files = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    files.find_map(|file| fs::canonicalize(file).ok().filter(|real| real.is_file()))
}

/// Asks Pythons what they are, and remembers what they said.
struct Prober<'a> {
    surroundings: &'a Surroundings,
    cache: Cache,
}

impl<'a> Prober<'a> {
    fn new(surroundings: &'a Surroundings, cache: &Path) -> Self {
        Self {
            surroundings,
            cache: Cache::open(cache),
        }
    }

    fn interpreter(&mut self, executable: &Path, source: Source) -> Result<Interpreter, Error> {
        let (key, answer) = self.ask(executable);
        self.remember(key, &answer);
        admit(executable, &answer?, source)
    }

    /// In the order given. Those that have to be started are so at the same time, on threads of their
    /// own: rayon's pool is not this module's to start, the number of its threads is set by `-j`.
    fn ask_all<'b>(
        &mut self,
        candidates: &'b [Candidate],
    ) -> Vec<(&'b Candidate, Result<Facts, Error>)> {
        let this = &*self;
        let answers: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = candidates
                .iter()
                .map(|candidate| scope.spawn(|| this.ask(&candidate.executable)))
                .collect();
            asked
                .into_iter()
                .map(|thread| thread.join().expect("asking a Python does not panic"))
                .collect()
        });
        let mut out = Vec::with_capacity(answers.len());
        for (candidate, (key, answer)) in candidates.iter().zip(answers) {
            self.remember(key, &answer);
            out.push((candidate, answer));
        }
        out
    }

    /// The key is there where the answer is new and may be kept.
    fn ask(&self, executable: &Path) -> (Option<Key>, Result<Facts, Error>) {
        let key = Key::of(executable, self.surroundings);
        if let Some(facts) = key.as_ref().and_then(|key| self.cache.find(key)) {
            return (None, Ok(facts.clone()));
        }
        (key, probe(executable, self.surroundings, PROBE_LIMIT))
    }

    fn remember(&mut self, key: Option<Key>, answer: &Result<Facts, Error>) {
        if let (Some(key), Ok(facts)) = (key, answer) {
            self.cache.remember(key, facts.clone());
        }
    }
}

/// Runs one Python with one question, in isolated mode, so that neither the project's files nor
/// `PYTHON…` variables answer in its place.
fn probe(executable: &Path, surroundings: &Surroundings, limit: Duration) -> Result<Facts, Error> {
    let answer = run_probe(executable, &["-I"], surroundings, limit)?;
    // Python 2.7 has no `-I`; it has to answer all the same to be called too old.
    if !answer.stderr.starts_with(b"Unknown option: -I") {
        return answer.facts(executable);
    }
    run_probe(executable, &["-E", "-s"], surroundings, limit)?.facts(executable)
}

fn run_probe(
    executable: &Path,
    isolation: &[&str],
    surroundings: &Surroundings,
    limit: Duration,
) -> Result<Answer, Error> {
    let mut command = Command::new(executable);
    command.args(isolation).args(["-B", "-c", PROBE]);
    command.current_dir(&surroundings.project_root);
    for (name, value) in &surroundings.passed_on {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // Both would make another Python, or another folder, speak than the one that is asked.
    command
        .env_remove("__PYVENV_LAUNCHER__")
        .env_remove("PYENV_DIR");
    // Its own process group: a shim's children have to go with it when time is up.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| not_executable(executable, &error))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);

    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(collect(child)));
    if let Ok(answer) = receiver.recv_timeout(limit) {
        return Ok(answer);
    }
    if let Some(group) = group {
        // Fails only where the group is gone already, which is what is wanted.
        let _ = kill_process_group(group, Signal::KILL);
    }
    // Long enough for a dead process's output to arrive. A process that left the group may keep the
    // pipes open for ever: its thread is given up.
    let partial = receiver
        .recv_timeout(Duration::from_secs(1))
        .unwrap_or_default();
    Err(Error::ProbeFailed {
        executable: executable.to_path_buf(),
        how: format!("gave no answer in {} s", limit.as_secs_f32()),
        printed: partial.printed(),
    })
}

fn not_executable(executable: &Path, error: &io::Error) -> Error {
    let reason = match (error.kind(), fs::read_link(executable)) {
        (io::ErrorKind::NotFound, Ok(target)) => {
            format!("it is a link to `{}`, which is not there", target.display())
        }
        (io::ErrorKind::NotFound, Err(_)) if executable.exists() => {
            "the program that its first line names is not there".to_owned()
        }
        (io::ErrorKind::NotFound, Err(_)) => "there is no such file".to_owned(),
        (io::ErrorKind::PermissionDenied, _) => "it may not be executed".to_owned(),
        _ => format!("the system says `{error}`"),
    };
    Error::NotExecutable {
        executable: executable.to_path_buf(),
        reason,
    }
}

/// All that a probed program did.
#[derive(Default)]
struct Answer {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<ExitStatus>,
}

fn collect(mut child: Child) -> Answer {
    fn some(pipe: Option<impl Read>) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // An error ends the output as its end does; what came before it is judged.
            let _ = pipe.take(PROBE_OUTPUT).read_to_end(&mut bytes);
        }
        bytes
    }
    let stderr = child.stderr.take();
    let stderr = thread::spawn(move || some(stderr));
    let stdout = some(child.stdout.take());
    let stderr = stderr.join().unwrap_or_default();
    Answer {
        stdout,
        stderr,
        status: child.wait().ok(),
    }
}

impl Answer {
    fn facts(&self, executable: &Path) -> Result<Facts, Error> {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let answer = stdout
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(PROBE_MARK));
        // Having answered is what counts: some sitecustomize make a Python exit with a failure.
        if let Some(facts) = answer.and_then(|json| serde_json::from_str(json).ok()) {
            return Ok(facts);
        }
        let how = match self.status {
            Some(status) if status.success() => "said nothing of itself".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended in an unknown way".to_owned(),
            },
            None => "ended in an unknown way".to_owned(),
        };
        Err(Error::ProbeFailed {
            executable: executable.to_path_buf(),
            how,
            printed: self.printed(),
        })
    }

    /// What a person should see of the output: on one line, and not all of a megabyte.
    fn printed(&self) -> String {
        const ENDS: usize = 200;
        let text: Vec<_> = [&self.stderr, &self.stdout]
            .map(|bytes| String::from_utf8_lossy(bytes))
            .into();
        let lines = text
            .iter()
            .flat_map(|text| text.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let letters: Vec<char> = lines.collect::<Vec<_>>().join(" / ").chars().collect();
        if letters.len() <= 2 * ENDS {
            return letters.into_iter().collect();
        }
        let head = letters[..ENDS].iter();
        head.chain(&[' ', '…', ' '])
            .chain(&letters[letters.len() - ENDS..])
            .collect()
    }
}

/// What Pythons said of themselves in earlier runs. It saves time and nothing else: a file that
/// cannot be read is an empty one, and one that cannot be written is left alone.
struct Cache {
    file: PathBuf,
    entries: Vec<Entry>,
    is_changed: bool,
}

#[derive(Serialize, Deserialize)]
struct CacheFile {
    /// The question that the answers belong to: another release of this program may ask another.
    question: u64,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: Key,
    facts: Facts,
}

/// What makes a file the same Python as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    path: Wire,
    resolved: Wire,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    size: u64,
    inode: u64,
    /// For a pyenv shim: all that it goes by.
    context: String,
}

impl Key {
    /// `None` where a file's own state does not decide which Python it starts: a script can go by anything.
    fn of(executable: &Path, surroundings: &Surroundings) -> Option<Self> {
        let context = surroundings.shim_context(executable);
        if context.is_none() && is_script(executable)? {
            return None;
        }
        let metadata = fs::metadata(executable).ok()?;
        Some(Self {
            path: Wire(executable.to_path_buf()),
            resolved: Wire(fs::canonicalize(executable).ok()?),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
            inode: metadata.ino(),
            context: context.unwrap_or_default(),
        })
    }
}

fn is_script(executable: &Path) -> Option<bool> {
    let mut start = [0; 2];
    fs::File::open(executable)
        .ok()?
        .read_exact(&mut start)
        .ok()?;
    Some(start == *b"#!")
}

impl Cache {
    fn open(folder: &Path) -> Self {
        let file = folder.join("interpreters.json");
        let kept = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<CacheFile>(&bytes).ok());
        let kept = kept.filter(|kept| kept.question == fingerprint(PROBE.as_bytes()));
        Self {
            file,
            entries: kept.map(|kept| kept.entries).unwrap_or_default(),
            is_changed: false,
        }
    }

    /// The interpreter that an entry speaks of has to be there still: behind a shim it is another file.
    fn find(&self, key: &Key) -> Option<&Facts> {
        let entry = self.entries.iter().find(|entry| entry.key == *key)?;
        entry.facts.executable.0.is_file().then_some(&entry.facts)
    }

    fn remember(&mut self, key: Key, facts: Facts) {
        self.entries
            .retain(|entry| entry.key.path != key.path && entry.key.path.0.exists());
        self.entries.push(Entry { key, facts });
        self.is_changed = true;
    }

    fn save(self) {
        if !self.is_changed {
            return;
        }
        let contents = CacheFile {
            question: fingerprint(PROBE.as_bytes()),
            entries: self.entries,
        };
        // A read-only folder costs the next run some milliseconds, and is no reason to stop this one.
        let _ = write_atomically(&self.file, &contents);
    }
}

fn write_atomically(file: &Path, contents: &CacheFile) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(serde_json::to_string(contents)?.as_bytes())?;
    temporary.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THE_ANSWER: &str = r#"{"implementation": "cpython", "version": [3, 12, 9], "full_version": "3.12.9",
        "executable": "ROOT/bin/python", "base_executable": "ROOT/bin/python", "prefix": "ROOT", "base_prefix": "ROOT",
        "purelib": "ROOT/site", "library": ["ROOT/lib"], "path": ["ROOT/lib", "ROOT/site", "ROOT/own"], "free_threaded": false, "abi_flags": "", "multiarch": "x86_64-linux-gnu",
        "library_names": ["libpython3.12.so.1.0"], "library_folders": ["/install/lib"]}"#;

    /// A folder with `bin/python`, a script that answers as told, and whatever else a test puts there.
    struct Fake {
        folder: tempfile::TempDir,
    }

    impl Fake {
        fn new() -> Self {
            let fake = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            fake.put("lib/libpython3.12.so.1.0", "");
            fake.answers(&[]);
            fake
        }

        fn root(&self) -> PathBuf {
            self.folder.path().canonicalize().unwrap()
        }

        fn put(&self, name: &str, text: &str) -> PathBuf {
            let file = self.root().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            file
        }

        /// Written by another process: a file that this one holds open for writing, even in a child
        /// that another test's thread is just starting, does not execute ("text file busy").
        fn script(&self, name: &str, text: &str) -> PathBuf {
            let file = self.root().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
            let status = Command::new("/bin/sh")
                .args(["-c", write])
                .arg(&file)
                .arg(text)
                .status();
            assert!(status.unwrap().success());
            file
        }

        fn answer(&self, changes: &[(&str, &str)]) -> String {
            let mut answer = THE_ANSWER
                .replace('\n', " ")
                .replace("ROOT", self.root().to_str().unwrap());
            for (old, new) in changes {
                assert!(answer.contains(old), "{old}");
                answer = answer.replace(old, new);
            }
            answer
        }

        fn answers(&self, changes: &[(&str, &str)]) -> PathBuf {
            self.script(
                "bin/python",
                &format!("echo '{PROBE_MARK}{}'", self.answer(changes)),
            )
        }

        fn discover(&self, request: &str, env: &[(&str, &str)]) -> Result<Interpreter, Error> {
            let env = |name: &str| {
                env.iter()
                    .find(|(one, _)| *one == name)
                    .map(|(_, value)| OsString::from(value))
            };
            let request = (!request.is_empty()).then(|| Request::parse(request));
            discover(
                request.as_ref(),
                &self.root(),
                &env,
                &self.root().join("cache"),
            )
        }

        fn refusal(&self, request: &str) -> String {
            let error = self.discover(request, &[]).unwrap_err().to_string();
            error.replace(self.root().to_str().unwrap(), "ROOT")
        }

        fn surroundings(&self) -> Surroundings {
            Surroundings::new(&self.root(), &|_| None)
        }

        fn facts(&self) -> Facts {
            serde_json::from_str(&self.answer(&[])).unwrap()
        }
    }

    #[test]
    fn requests() {
        fn check(text: &str, expected: Option<&str>) {
            match (Request::parse(text), expected) {
                (Request::Version(version), Some(expected)) => {
                    assert_eq!(version.to_string(), expected, "{text}");
                }
                (Request::Path(path), None) => assert_eq!(path, Path::new(text)),
                (request, _) => panic!("{text} is {request:?}"),
            }
        }
        check("3", Some("3"));
        check("3.12", Some("3.12"));
        check("3.12.1", Some("3.12.1"));
        check("3.15.0a2", Some("3.15.0a2"));
        check("3.15.0rc1", Some("3.15.0rc1"));
        check("3.13t", None);
        check("3.x", None);
        check("3.12.1.1", None);
        check("3.1200", None);
        check("", None);
        check("v3.12", None);
        check("./3.12", None);
        check("python3.12", None);
        check(".venv", None);
        check("/usr/bin/python3", None);
    }

    #[test]
    fn what_a_version_request_accepts() {
        #[track_caller]
        fn check(request: &str, version: (u8, u8, u8), full: &str, expected: bool) {
            let Request::Version(request) = Request::parse(request) else {
                panic!("{request}")
            };
            let facts = Facts {
                version,
                full_version: full.to_owned(),
                ..Fake::new().facts()
            };
            assert_eq!(request.accepts(&facts), expected);
        }
        check("3", (3, 12, 1), "3.12.1", true);
        check("2", (3, 12, 1), "3.12.1", false);
        check("3.1", (3, 12, 1), "3.12.1", false);
        check("3.12", (3, 12, 1), "3.12.1", true);
        check("3.12.1", (3, 12, 1), "3.12.1", true);
        check("3.12.1", (3, 12, 10), "3.12.10", false);
        check("3.15", (3, 15, 0), "3.15.0a2", true);
        check("3.15.0", (3, 15, 0), "3.15.0a2", false);
        check("3.15.0a2", (3, 15, 0), "3.15.0a2", true);
        check("3.15.0a2", (3, 15, 0), "3.15.0b1", false);
    }

    #[test]
    fn names_that_may_be_a_python() {
        for name in ["python", "python3", "python3.12", "python2.7"] {
            assert!(is_python_name(OsStr::new(name)), "{name}");
        }
        for name in [
            "python3.12-config",
            "python3-config",
            "pythonw",
            "ipython",
            "python3.",
            "py",
        ] {
            assert!(!is_python_name(OsStr::new(name)), "{name}");
        }
        assert_eq!(minor_version_in(OsStr::new("python3.12")), Some((3, 12)));
        assert_eq!(minor_version_in(OsStr::new("python3")), None);
    }

    #[test]
    fn a_release_is_preferred_to_a_newer_pre_release() {
        let fake = Fake::new();
        let python = |version, full: &str| {
            let facts = Facts {
                version,
                full_version: full.to_owned(),
                ..fake.facts()
            };
            let facts = Facts {
                library_names: vec!["libpython3.12.so.1.0".to_owned()],
                ..facts
            };
            admit(Path::new("python"), &facts, Source::Flag).unwrap()
        };
        let (old, new) = (
            python((3, 9 + 1, 2), "3.10.2"),
            python((3, 10, 13), "3.10.13"),
        );
        let (release, alpha) = (python((3, 14, 0), "3.14.0"), python((3, 15, 0), "3.15.0a2"));
        let preferred =
            |one: &Interpreter, two: &Interpreter| one.clone().or_preferred(Some(two.clone()));
        assert_eq!(preferred(&new, &old), new);
        assert_eq!(preferred(&old, &new), new);
        assert_eq!(preferred(&release, &alpha), release);
        assert_eq!(preferred(&alpha, &release), release);
        let again = Interpreter {
            prefix: PathBuf::from("/again"),
            ..new.clone()
        };
        assert_eq!(preferred(&again, &new), new);
        assert_eq!(alpha.by_version(&release), Ordering::Greater);
    }

    #[test]
    fn a_path_of_any_bytes_survives_json() {
        let path = Wire(PathBuf::from(OsStr::from_bytes(b"/caf\xc3\xa9/\xff\"x")));
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Wire>(&json).unwrap(), path);
    }

    #[test]
    fn everything_that_was_said_arrives() {
        let fake = Fake::new();
        let root = fake.root();
        let python = fake.discover(root.to_str().unwrap(), &[]).unwrap();
        let expected = Interpreter {
            executable: root.join("bin/python"),
            version: (3, 12, 9),
            full_version: "3.12.9".to_owned(),
            implementation: "cpython".to_owned(),
            libpython: root.join("lib/libpython3.12.so.1.0"),
            prefix: root.clone(),
            base_executable: root.join("bin/python"),
            purelib: root.join("site"),
            library: vec![root.join("lib")],
            packages: vec![root.join("site")],
            source: Source::Flag,
        };
        assert_eq!(python, expected);
    }

    #[test]
    fn the_order_of_choice() {
        let fake = Fake::new();
        let root = fake.root();
        let at = |name: &str| {
            let python = root
                .join(name)
                .join("bin/python")
                .to_str()
                .unwrap()
                .to_owned();
            let own = format!("\"executable\": \"{}/bin/python\"", root.display());
            let answer = fake.answer(&[(&own, &format!("\"executable\": \"{python}\""))]);
            fake.script(
                &format!("{name}/bin/python"),
                &format!("echo '{PROBE_MARK}{answer}'"),
            )
        };
        let active = at("active");
        let near = at(".venv");
        let on_path = at("usual");
        let path = root.join("usual/bin").to_str().unwrap().to_owned();
        let virtual_env = root.join("active").to_str().unwrap().to_owned();
        let choose = |env: &[(&str, &str)]| {
            let python = fake.discover("", env).unwrap();
            (python.executable, python.source)
        };
        let both = [("PATH", &*path), ("VIRTUAL_ENV", &*virtual_env)];
        assert_eq!(choose(&both), (active, Source::VirtualEnv));
        assert_eq!(
            choose(&[("PATH", &*path), ("VIRTUAL_ENV", "")]),
            (near, Source::DotVenv)
        );
        fs::remove_dir_all(root.join(".venv")).unwrap();
        assert_eq!(choose(&both[..1]), (on_path, Source::Path));
        assert!(matches!(
            fake.discover("", &[("PATH", "/nowhere")]),
            Err(Error::NotFound { .. })
        ));
    }

    #[test]
    fn a_venv_above_the_project_and_a_broken_one() {
        let fake = Fake::new();
        let root = fake.root();
        std::os::unix::fs::symlink(&root, root.join(".venv")).unwrap();
        fs::create_dir_all(root.join("docs/book")).unwrap();
        let discover = || {
            discover(
                None,
                &root.join("docs/book"),
                &|_| None,
                &root.join("cache"),
            )
        };
        assert_eq!(discover().unwrap().source, Source::DotVenv);
        fs::remove_file(root.join(".venv")).unwrap();
        fake.put(".venv/pyvenv.cfg", "home = /gone");
        let broken = discover().unwrap_err().to_string();
        assert!(
            broken.contains("no such file in the environment that `.venv` names"),
            "{broken}"
        );
        fs::create_dir_all(root.join(".venv/bin")).unwrap();
        std::os::unix::fs::symlink("/gone/python3", root.join(".venv/bin/python")).unwrap();
        let broken = discover().unwrap_err().to_string();
        assert!(
            broken.contains("it is a link to `/gone/python3`, which is not there"),
            "{broken}"
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        #[track_caller]
        fn check(changes: &[(&str, &str)], start: &str, way_out: &str) {
            let fake = Fake::new();
            fake.answers(changes);
            let message = fake.refusal(fake.root().to_str().unwrap());
            assert!(message.starts_with(start), "{message}");
            assert!(message.contains(way_out), "{message}");
            assert!(!message.ends_with('.'), "{message}");
        }
        let install = "one";
        check(
            &[("\"cpython\"", "\"pypy\"")],
            "`ROOT/bin/python` is `pypy`, and only `cpython` can be embedded: ",
            install,
        );
        check(
            &[("[3, 12, 9]", "[3, 9, 9]")],
            "python `3.12.9` (`ROOT/bin/python`) is too old, examples need 3.10 or newer: ",
            install,
        );
        check(
            &[("\"free_threaded\": false", "\"free_threaded\": true")],
            "python `ROOT/bin/python` is a free-threaded build",
            "(abi3)",
        );
        check(
            &[
                ("[3, 12, 9]", "[3, 14, 9]"),
                ("[\"libpython3.12.so.1.0\"]", "[\"libpython3.14.a\"]"),
            ],
            "python `3.12.9` (`ROOT/bin/python`) has no shared `libpython3.12` to embed: ",
            "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force 3.12.9",
        );
    }

    #[test]
    fn what_is_asked_for_and_not_there() {
        let fake = Fake::new();
        let message = fake.refusal("3.77");
        assert!(
            message.starts_with("no python found for version `3.77`: "),
            "{message}"
        );
        let message = fake.refusal("./nothing");
        assert!(
            message.starts_with("no python found for `./nothing`, which is not there: "),
            "{message}"
        );
        let message = fake.refusal("phyton");
        assert!(
            message.starts_with("no python found for `phyton`, which is no version such as `3.12`"),
            "{message}"
        );
        let message = fake.refusal("3.13t");
        assert!(
            message.starts_with("python `3.13t` is a free-threaded build"),
            "{message}"
        );
        let message = fake.refusal("2.6");
        assert!(message.starts_with("python `2.6` is too old"), "{message}");
    }

    #[test]
    fn the_newest_patch_wins_among_all_folders() {
        let fake = Fake::new();
        let root = fake.root();
        for (folder, patch) in [
            ("one/bin", 7),
            ("pyenv/versions/3.88.10/bin", 10),
            ("pyenv/versions/3.88.9/bin", 9),
        ] {
            let file = root.join(folder).join("python3.88");
            let own = format!("\"executable\": \"{}/bin/python\"", root.display());
            let answer = fake.answer(&[
                ("[3, 12, 9]", &format!("[3, 88, {patch}]")),
                ("\"3.12.9\"", &format!("\"3.88.{patch}\"")),
                (&own, &format!("\"executable\": \"{}\"", file.display())),
            ]);
            fake.script(
                file.strip_prefix(&root).unwrap().to_str().unwrap(),
                &format!("echo '{PROBE_MARK}{answer}'"),
            );
        }
        // A broken one of the same version is no hindrance where another works.
        fake.script("two/bin/python3.88", "exit 3");
        let path = format!("{0}/two/bin:{0}/one/bin", root.display());
        let pyenv = root.join("pyenv").to_str().unwrap().to_owned();
        let env = [("PATH", &*path), ("PYENV_ROOT", &*pyenv)];
        assert_eq!(fake.discover("3.88", &env).unwrap().full_version, "3.88.10");
        assert_eq!(
            fake.discover("3.88.9", &env).unwrap().full_version,
            "3.88.9"
        );
        assert_eq!(
            fake.discover("3.88", &env[..1]).unwrap().full_version,
            "3.88.7"
        );
        let only_broken = format!("{}/two/bin", root.display());
        let error = fake
            .discover("3.88", &[("PATH", &only_broken)])
            .unwrap_err();
        assert!(matches!(error, Error::ProbeFailed { .. }), "{error}");
    }

    #[test]
    fn candidates_that_misbehave() {
        #[track_caller]
        fn check(script: &str, expected: &str) {
            let fake = Fake::new();
            let python = fake.script("bin/python", script);
            let error = probe(&python, &fake.surroundings(), PROBE_LIMIT)
                .unwrap_err()
                .to_string();
            let error = error.replace(fake.root().to_str().unwrap(), "ROOT");
            assert_eq!(error, format!("`ROOT/bin/python` {expected}"));
        }
        let repair = "repair it, or name another with `--python`";
        check(
            "echo hello",
            &format!(
                "does not answer as a python does, it said nothing of itself and printed `hello`: {repair}"
            ),
        );
        check(
            "echo one >&2; echo; echo two >&2; exit 3",
            &format!(
                "does not answer as a python does, it exited with status 3 and printed `one / two`: {repair}"
            ),
        );
        check(
            "kill -SEGV $$",
            &format!(
                "does not answer as a python does, it was killed by signal 11 and printed nothing: {repair}"
            ),
        );
        check(
            &format!("echo '{PROBE_MARK}{{}}'"),
            &format!(
                "does not answer as a python does, it said nothing of itself and printed `{PROBE_MARK}{{}}`: {repair}"
            ),
        );
    }

    #[test]
    fn endless_output_is_cut() {
        let fake = Fake::new();
        let python = fake.script("bin/python", "exec yes rubbish");
        let error = probe(&python, &fake.surroundings(), PROBE_LIMIT)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("rubbish / rubbish") && error.contains(" … ") && error.len() < 800,
            "{error}"
        );
    }

    #[test]
    fn a_hanging_candidate_is_killed_with_its_children() {
        let fake = Fake::new();
        // The sleeping child holds the pipes: only killing the whole group ends the reading.
        let python = fake.script("bin/python", "echo started >&2; sleep 1000; echo never");
        let error = probe(&python, &fake.surroundings(), Duration::from_millis(300))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("it gave no answer in 0.3 s and printed `started`: repair it"),
            "{error}"
        );
    }

    #[test]
    fn candidates_that_do_not_start() {
        let fake = Fake::new();
        let file = fake.put("bin/other", "#!/gone/sh\n");
        let say = || {
            probe(&file, &fake.surroundings(), PROBE_LIMIT)
                .unwrap_err()
                .to_string()
        };
        assert!(say().contains("it may not be executed"), "{}", say());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(
            say().contains("the program that its first line names is not there"),
            "{}",
            say()
        );
        fs::remove_file(&file).unwrap();
        assert!(say().contains("there is no such file"), "{}", say());
    }

    #[test]
    fn noise_before_the_answer_and_a_failure_after_it_do_no_harm() {
        let fake = Fake::new();
        let answer = fake.answer(&[]);
        let python = fake.script(
            "bin/python",
            &format!("echo noise; echo '{PROBE_MARK}{answer}'; exit 1"),
        );
        assert_eq!(
            probe(&python, &fake.surroundings(), PROBE_LIMIT).unwrap(),
            fake.facts()
        );
    }

    #[test]
    fn where_the_library_may_be() {
        #[track_caller]
        fn check(file: &str, names: &[&str], expected: Option<&str>) {
            let fake = Fake::new();
            let root = fake.root();
            fs::remove_file(root.join("lib/libpython3.12.so.1.0")).unwrap();
            fake.put(file, "");
            let facts = Facts {
                library_names: names.iter().map(ToString::to_string).collect(),
                library_folders: vec![Wire(root.join("libdir")), Wire(root.join("frameworks"))],
                ..fake.facts()
            };
            let found = shared_library(&facts, &root.join("bin/python"));
            assert_eq!(found, expected.map(|file| root.join(file)));
        }
        let usual = &["libpython3.12.so.1.0", "libpython3.12.so"];
        for place in [
            "lib",
            "lib64",
            "lib/x86_64-linux-gnu",
            "libdir",
            "libdir/x86_64-linux-gnu",
        ] {
            let file = format!("{place}/libpython3.12.so.1.0");
            check(&file, usual, Some(&file));
            check(&file, &["libpython3.12.a"], Some(&file));
        }
        check(
            "lib/libpython3.12.dylib",
            &["libpython3.12.a"],
            Some("lib/libpython3.12.dylib"),
        );
        let framework = "Python.framework/Versions/3.12/Python";
        check(
            &format!("frameworks/{framework}"),
            &[framework],
            Some(&format!("frameworks/{framework}")),
        );
        check("lib/libpython3.12.a", &["libpython3.12.a"], None);
        check("lib/libpython3.11.so.1.0", usual, None);
        check("lib/libpython3.so", usual, None);
    }

    #[test]
    fn the_library_is_named_by_its_real_file() {
        let fake = Fake::new();
        let root = fake.root();
        fs::rename(
            root.join("lib/libpython3.12.so.1.0"),
            root.join("lib/real.so"),
        )
        .unwrap();
        std::os::unix::fs::symlink("real.so", root.join("lib/libpython3.12.so.1.0")).unwrap();
        assert_eq!(
            shared_library(&fake.facts(), &root.join("bin/python")),
            Some(root.join("lib/real.so"))
        );
    }

    /// A program that is no script and stays as it is: its answers may be kept.
    fn program(fake: &Fake) -> PathBuf {
        fake.put("bin/program", "\x7fELF")
    }

    #[test]
    fn the_cache_keeps_and_forgets() {
        let fake = Fake::new();
        let folder = fake.root().join("deep/cache");
        let key = || Key::of(&program(&fake), &fake.surroundings()).unwrap();
        let first = key();
        let mut cache = Cache::open(&folder);
        assert_eq!(cache.find(&first), None);
        cache.remember(first.clone(), fake.facts());
        cache.save();
        assert_eq!(Cache::open(&folder).find(&first), Some(&fake.facts()));

        let touched = Key {
            modified: (first.modified.0 + 1, 0),
            ..first.clone()
        };
        let grown = Key {
            size: first.size + 1,
            ..first.clone()
        };
        let replaced = Key {
            inode: first.inode + 1,
            ..first.clone()
        };
        let linked = Key {
            resolved: Wire(PathBuf::from("/other")),
            ..first.clone()
        };
        let elsewhere = Key {
            context: "3.12".to_owned(),
            ..first.clone()
        };
        for other in [touched, grown, replaced, linked, elsewhere] {
            assert_eq!(Cache::open(&folder).find(&other), None, "{other:?}");
        }
        fs::remove_file(fake.root().join("bin/python")).unwrap();
        assert_eq!(
            Cache::open(&folder).find(&first),
            None,
            "the interpreter is gone"
        );
    }

    #[test]
    fn a_corrupt_cache_is_ignored_and_written_anew() {
        let fake = Fake::new();
        let folder = fake.root().join("cache");
        let key = Key::of(&program(&fake), &fake.surroundings()).unwrap();
        for rubbish in [
            "",
            "{",
            "null",
            r#"{"question": 1, "entries": []}"#,
            r#"{"question": 1, "entries": [{}]}"#,
        ] {
            let file = fake.put("cache/interpreters.json", rubbish);
            let mut cache = Cache::open(&folder);
            assert_eq!(cache.find(&key), None);
            cache.remember(key.clone(), fake.facts());
            cache.save();
            assert_ne!(fs::read_to_string(file).unwrap(), rubbish);
            assert!(Cache::open(&folder).find(&key).is_some());
        }
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "nothing temporary is left"
        );
    }

    #[test]
    fn scripts_are_asked_each_time_but_shims_only_when_their_choice_may_differ() {
        let fake = Fake::new();
        let root = fake.root();
        let counting = |name: &str| {
            let answer = fake.answer(&[]);
            fake.script(
                name,
                &format!(
                    "echo x >>{}/starts; echo '{PROBE_MARK}{answer}'",
                    root.display()
                ),
            )
        };
        let starts = || {
            fs::read_to_string(root.join("starts"))
                .unwrap_or_default()
                .lines()
                .count()
        };
        fake.put("pyenv/versions/3.12.9/empty", "");
        let shim = counting("pyenv/shims/python3");
        let pyenv = root.join("pyenv").to_str().unwrap().to_owned();
        let path = shim.parent().unwrap().to_str().unwrap().to_owned();
        let usual = [("PATH", &*path), ("PYENV_ROOT", &*pyenv)];
        let chosen = |env: &[(&str, &str)]| fake.discover("", env).unwrap();
        assert_eq!(chosen(&usual).executable, root.join("bin/python"));
        chosen(&usual);
        assert_eq!(starts(), 1);
        fake.put(".python-version", "3.12.9");
        chosen(&usual);
        chosen(&usual);
        assert_eq!(starts(), 2);
        chosen(&[usual[0], usual[1], ("PYENV_VERSION", "3.12.9")]);
        assert_eq!(starts(), 3);

        let wrapper = counting("wrapper/python3");
        for _ in 0..2 {
            fake.discover(wrapper.to_str().unwrap(), &[]).unwrap();
        }
        assert_eq!(starts(), 5);
    }
}
