//! Provides the book's packages: an environment for each interpreter, filled from a requirements
//! file once and taken as it is until the pins change.
//!
//! An environment cannot be built aside and moved into place: its scripts and its `pyvenv.cfg` hold
//! absolute paths. So its folder is named for its contents and built where it will stay. What makes
//! it whole is the stamp, which is written last; a folder without one is the remains of a run that
//! was interrupted, and the environment of the former pins stands in another folder, untouched. uv does
//! the installing, because it needs a second where pip needs a minute, and is brought if it is missing.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::str::FromStr;
use std::time::{Instant, SystemTime};

use pep440_rs::Version;

use crate::interpreter::{self, Interpreter, Source, fingerprint};

/// The uv that is brought where there is none.
const UV: &str = "0.13.8";

/// The oldest uv of somebody's own that knows all options and variables used here.
const OLDEST_UV: [u64; 3] = [0, 5, 0];

/// Counted up when environments are made in another way, so that those made before are made again.
const RECIPE: u32 = 1;

const STAMP: &str = "verify-stamp.txt";

/// What takes time while an environment is provided. Nothing is reported where nothing changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Another run is at it.
    Waiting,
    FetchingUv,
    Creating,
    /// As many packages as the requirements name; more may come with them.
    Installing {
        packages: usize,
    },
    Done {
        seconds: f64,
    },
}

/// Why the book's packages could not be provided.
#[derive(Debug)]
pub enum Error {
    /// A requirements or constraints file; `named_at` is the line of the file that asks for it.
    Unreadable {
        file: PathBuf,
        named_at: Option<(PathBuf, usize)>,
        error: io::Error,
    },
    /// Something below `.verify`.
    Unwritable { path: PathBuf, error: io::Error },
    /// There is no uv, and neither pip nor `venv` of this Python could bring it.
    NoUv { python: PathBuf, printed: String },
    /// uv could not make the empty environment.
    NotCreated { folder: PathBuf, printed: String },
    /// uv could not install what the requirements name.
    NotInstalled {
        requirements: PathBuf,
        printed: String,
    },
    /// The environment was made, and its Python does not work.
    Unusable(interpreter::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable {
                file,
                named_at,
                error,
            } => {
                write!(
                    out,
                    "`{}` cannot be read, the system says `{error}`: ",
                    file.display()
                )?;
                match named_at {
                    Some((by, line)) => {
                        write!(out, "write it, or correct `{}`:{line}", by.display())
                    }
                    None => out.write_str("write it, or correct `requirements` in `verify.toml`"),
                }
            }
            Self::Unwritable { path, error } => write!(
                out,
                "`{}` cannot be written, the system says `{error}`: make the folder writable, or delete it if it is in the way",
                path.display()
            ),
            Self::NoUv { python, printed } => write!(
                out,
                "no `uv` on `PATH`, and `{}` could not bring one:\n{printed}\n\
                 install uv (https://docs.astral.sh/uv/), or give this python its pip, \
                 by `apt install python3-pip` or `python -m ensurepip`, and a package index that it reaches",
                python.display()
            ),
            Self::NotCreated { folder, printed } => write!(
                out,
                "the environment `{}` could not be made:\n{printed}\n\
                 see that the package index is reachable (`UV_DEFAULT_INDEX` sets another), and try again",
                folder.display()
            ),
            Self::NotInstalled {
                requirements,
                printed,
            } => write!(
                out,
                "the packages of `{}` could not be installed:\n{printed}\n\
                 correct the pins, or see that the package index is reachable (`UV_DEFAULT_INDEX` sets another); \
                 environments made before are as they were",
                requirements.display()
            ),
            Self::Unusable(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unusable(error) => error.source(),
            // What the system or the installer said is part of the message.
            Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::NoUv { .. }
            | Self::NotCreated { .. }
            | Self::NotInstalled { .. } => None,
        }
    }
}

/// The environment of `base` with all that `requirements` names, below `project_root`'s `.verify`.
///
/// It is made when the text of the requirements (files that they name included), the interpreter or
/// the folder is another than before. What a local path in them leads to is not looked into. `cache`
/// is the folder of [`interpreter::discover`]. Installers inherit this process's environment, where
/// indexes, proxies and certificates are set. Two runs at once make one environment.
pub fn provide(
    base: &Interpreter,
    requirements: &Path,
    project_root: &Path,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Interpreter, Error> {
    let root = fs::canonicalize(project_root).map_err(unwritable(project_root))?;
    let pins = Pins::read(&root.join(requirements), &root)?;
    let plan = Plan::new(base, pins, &root);
    let probe = || {
        let python = plan.python();
        interpreter::at(
            &python,
            Source::Managed,
            &root,
            &|name| std::env::var_os(name),
            cache,
        )
        .map_err(Error::Unusable)
    };
    if plan.is_made() {
        return probe();
    }
    fs::create_dir_all(&plan.group).map_err(unwritable(&plan.group))?;
    ignore(&root.join(".verify"))?;
    let lock = lock(&plan.group.join("lock"), progress)?;
    if plan.is_made() {
        return probe();
    }
    let start = Instant::now();
    discard(&plan.folder)?;
    let made = make(&plan, base, &lock, progress).and_then(|()| probe());
    match made {
        Ok(_) => write_stamp(&plan)?,
        // What is left of a failed try is of no use; a folder that cannot be deleted has no stamp either.
        Err(_) => drop(discard(&plan.folder)),
    }
    if made.is_ok() {
        tidy(&plan);
        progress(Progress::Done {
            seconds: start.elapsed().as_secs_f64(),
        });
    }
    made
}

/// The environment that [`provide`] would give, if it is there already; makes nothing.
pub fn made(
    base: &Interpreter,
    requirements: &Path,
    project_root: &Path,
    cache: &Path,
) -> Option<Interpreter> {
    let root = fs::canonicalize(project_root).ok()?;
    let pins = Pins::read(&root.join(requirements), &root).ok()?;
    let plan = Plan::new(base, pins, &root);
    let environment = |name: &str| std::env::var_os(name);
    let made = plan
        .is_made()
        .then(|| interpreter::at(&plan.python(), Source::Managed, &root, &environment, cache));
    made?.ok()
}

/// Name and version of each distribution that is installed for an interpreter, by name.
/// Names are normalised as on PyPI: `typing_extensions` is `typing-extensions`.
pub fn installed(interpreter: &Interpreter) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(&interpreter.purelib) else {
        return Vec::new();
    };
    let mut distributions: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // The version has no dash in it, which old names may have.
            let (name, version) = name.strip_suffix(".dist-info")?.rsplit_once('-')?;
            Some((normalised(name), version.to_owned()))
        })
        .collect();
    distributions.sort();
    distributions
}

/// <https://packaging.python.org/en/latest/specifications/name-normalization/>
fn normalised(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

/// What the requirements say, with all files that they take in.
#[derive(Debug)]
struct Pins {
    requirements: PathBuf,
    /// Name and text of each, in order of appearance.
    files: Vec<(String, String)>,
    packages: usize,
}

/// How one requirements file takes in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inclusion {
    Requirements,
    /// Limits versions and installs nothing.
    Constraints,
}

impl Pins {
    fn read(requirements: &Path, root: &Path) -> Result<Self, Error> {
        let mut pins = Self {
            requirements: requirements.to_path_buf(),
            files: Vec::new(),
            packages: 0,
        };
        pins.take_in(
            requirements,
            Inclusion::Requirements,
            None,
            root,
            &mut BTreeSet::new(),
        )?;
        Ok(pins)
    }

    fn take_in(
        &mut self,
        file: &Path,
        inclusion: Inclusion,
        named_at: Option<(PathBuf, usize)>,
        root: &Path,
        seen: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        // Files may name each other in a circle, by a longer path each time.
        if !seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf())) {
            return Ok(());
        }
        let bytes = fs::read(file).map_err(|error| Error::Unreadable {
            file: file.to_path_buf(),
            named_at,
            error,
        })?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let name = file
            .strip_prefix(root)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned();
        // `pyproject.toml` and `pylock.toml` are uv's to read: they take nothing in by lines.
        let is_lines = file.extension() != Some(OsStr::new("toml"));
        self.files.push((name, text.clone()));
        for (line, text) in logical_lines(&text).into_iter().filter(|_| is_lines) {
            if let Some((kind, path)) = included(&text) {
                if is_local(path) {
                    let path = file.parent().unwrap_or(root).join(path);
                    let kind = if inclusion == Inclusion::Constraints {
                        inclusion
                    } else {
                        kind
                    };
                    self.take_in(&path, kind, Some((file.to_path_buf(), line)), root, seen)?;
                }
            } else if inclusion == Inclusion::Requirements && is_package(&text) {
                self.packages += 1;
            }
        }
        Ok(())
    }
}

/// Lines with their numbers, those that end in a backslash joined, without comments and empty ones.
/// <https://pip.pypa.io/en/stable/reference/requirements-file-format/>
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut is_continued = false;
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, goes_on) = line
            .strip_suffix('\\')
            .map_or((line, false), |line| (line, true));
        match lines.last_mut() {
            Some((_, last)) if is_continued => last.push_str(line),
            _ => lines.push((at + 1, line.to_owned())),
        }
        is_continued = goes_on;
    }
    for (_, line) in &mut lines {
        // A `#` inside a word belongs to a URL.
        let comment = line
            .match_indices('#')
            .find(|(at, _)| line[..*at].chars().last().is_none_or(char::is_whitespace));
        let end = comment.map_or(line.len(), |(at, _)| at);
        *line = line[..end].trim().to_owned();
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

/// What a line takes in: `-r other.txt`, `-rother.txt`, `--requirement=other.txt`; `-c` likewise.
fn included(line: &str) -> Option<(Inclusion, &str)> {
    let forms = [
        ("--requirement", Inclusion::Requirements),
        ("-r", Inclusion::Requirements),
        ("--constraint", Inclusion::Constraints),
        ("-c", Inclusion::Constraints),
    ];
    forms.into_iter().find_map(|(option, inclusion)| {
        let rest = line.strip_prefix(option)?;
        let is_long = option.starts_with("--");
        if is_long && !rest.starts_with(|next: char| next == '=' || next.is_whitespace()) {
            return None;
        }
        let path = rest.trim_start().trim_start_matches('=').trim();
        Some((inclusion, path.trim_matches(['"', '\''])))
    })
}

/// Whether it can be read without the network and without pip's own expansion of variables.
fn is_local(path: &str) -> bool {
    !path.is_empty() && !path.contains("://") && !path.contains("${")
}

fn is_package(line: &str) -> bool {
    !line.starts_with('-') || line.starts_with("-e") || line.starts_with("--editable")
}

/// Which environment is wanted, and where it stands.
struct Plan {
    pins: Pins,
    /// The project's.
    root: PathBuf,
    /// Holds the environments of one interpreter.
    group: PathBuf,
    folder: PathBuf,
    stamp: String,
}

impl Plan {
    fn new(base: &Interpreter, pins: Pins, root: &Path) -> Self {
        // One installation has many names, `python` and `python3.12` among them.
        let real = fs::canonicalize(&base.base_executable)
            .unwrap_or_else(|_| base.base_executable.clone());
        let (major, minor, _) = base.version;
        let short = fingerprint(real.as_os_str().as_bytes()) & 0xffff_ffff;
        let group = root.join(".verify/environments").join(format!(
            "{}-{major}.{minor}-{short:08x}",
            base.implementation
        ));

        let python = format!(
            "{} {} {}",
            base.implementation,
            base.full_version,
            real.display()
        );
        // The length keeps two files apart from one that quotes the next one's heading.
        let files = pins
            .files
            .iter()
            .map(|(name, text)| format!("file {name} {}\n{text}\n", text.len()));
        let contents = format!(
            "recipe {RECIPE}\npython {python}\n{}",
            files.collect::<String>()
        );
        let folder = group.join(format!("{:016x}", fingerprint(contents.as_bytes())));
        // A project that was moved has scripts that start a Python which is not there any more.
        let stamp = format!("folder {}\n{contents}uv exit 0\n", folder.display());
        Self {
            pins,
            root: root.to_path_buf(),
            group,
            folder,
            stamp,
        }
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    fn is_made(&self) -> bool {
        fs::read(self.folder.join(STAMP)).is_ok_and(|stamp| stamp == self.stamp.as_bytes())
            && self.python().is_file()
    }
}

fn make(
    plan: &Plan,
    base: &Interpreter,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let uv = find_uv(base, plan, progress)?;
    progress(Progress::Creating);
    // `--seed` puts pip there, which pages show and a reader's environment has.
    let mut create = uv_command(&uv, plan);
    create
        .args(["venv", "--seed", "--no-project", "--python"])
        .arg(&base.base_executable)
        .arg(&plan.folder);
    run(create, lock).map_err(|printed| Error::NotCreated {
        folder: plan.folder.clone(),
        printed,
    })?;

    progress(Progress::Installing {
        packages: plan.pins.packages,
    });
    // Compiled now, once, as pip does it: sessions would each compile for themselves and throw it away.
    let mut install = uv_command(&uv, plan);
    install
        .args(["pip", "install", "--compile-bytecode", "--python"])
        .arg(plan.python());
    install.arg("-r").arg(&plan.pins.requirements);
    run(install, lock).map_err(|printed| Error::NotInstalled {
        requirements: plan.pins.requirements.clone(),
        printed,
    })
}

fn write_stamp(plan: &Plan) -> Result<(), Error> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(&plan.folder)?;
        file.write_all(plan.stamp.as_bytes())?;
        file.persist(plan.folder.join(STAMP))?;
        Ok(())
    };
    write().map_err(unwritable(&plan.folder))
}

/// Deletes the environments of this interpreter that nobody will ask for again. The newest of them
/// stays: a run of a minute ago may still be using it, and switching branches back is common.
fn tidy(plan: &Plan) {
    let Ok(entries) = fs::read_dir(&plan.group) else {
        return;
    };
    let folders = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && *path != plan.folder);
    let made_at =
        |folder: &Path| fs::metadata(folder.join(STAMP)).and_then(|stamp| stamp.modified());
    let mut others: Vec<(Option<SystemTime>, PathBuf)> = folders
        .map(|folder| (made_at(&folder).ok(), folder))
        .collect();
    others.sort();
    if others.last().is_some_and(|(made_at, _)| made_at.is_some()) {
        others.pop();
    }
    for (_, folder) in others {
        // Tried again after the next change; meanwhile it costs space and nothing else.
        let _ = discard(&folder);
    }
}

/// The stamp goes first, so that an interrupt cannot leave half an environment that looks whole.
fn discard(folder: &Path) -> Result<(), Error> {
    for step in [
        fs::remove_file(folder.join(STAMP)),
        fs::remove_dir_all(folder),
    ] {
        match step {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritable(folder)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Keeps all below `.verify` out of version control without a line in the project's own file.
fn ignore(folder: &Path) -> Result<(), Error> {
    let file = folder.join(".gitignore");
    if file.exists() {
        return Ok(());
    }
    fs::write(&file, "*\n").map_err(unwritable(&file))
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    |error| Error::Unwritable { path, error }
}

/// Held as long as the file, or a duplicate of it in an installer, is open.
fn lock(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<File, Error> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path);
    let file = file.map_err(unwritable(path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress(Progress::Waiting),
        Err(TryLockError::Error(error)) => return Err(unwritable(path)(error)),
    }
    file.lock().map_err(unwritable(path))?;
    Ok(file)
}

/// A uv that works: the one on `PATH`, the one brought before, or one brought now.
fn find_uv(
    base: &Interpreter,
    plan: &Plan,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    let tools = plan.root.join(".verify/tools");
    let own = tools.join("uv/bin/uv");
    for uv in [Path::new("uv"), &own] {
        if is_usable_uv(uv) {
            return Ok(uv.to_path_buf());
        }
    }
    fs::create_dir_all(&tools).map_err(unwritable(&tools))?;
    let lock = lock(&tools.join("lock"), progress)?;
    if !is_usable_uv(&own) {
        progress(Progress::FetchingUv);
        fetch_uv(&base.base_executable, &tools, &lock)?;
    }
    Ok(own)
}

/// A pyenv shim of that name may stand for no uv at all, so it is asked.
fn is_usable_uv(uv: &Path) -> bool {
    let Ok(output) = Command::new(uv)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
    else {
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said
        .strip_prefix("uv ")
        .and_then(|said| said.split_whitespace().next());
    let version = version.and_then(|version| Version::from_str(version).ok());
    output.status.success() && version.is_some_and(|version| version >= Version::new(OLDEST_UV))
}

/// Brings uv by this Python's pip, or by the pip that comes with its `venv`, into `tools/uv`.
fn fetch_uv(python: &Path, tools: &Path, lock: &File) -> Result<(), Error> {
    const ASIDE: &str = "fetching-";
    // Under the lock, such a folder can only be left over from a run that was killed.
    for entry in fs::read_dir(tools).map_err(unwritable(tools))?.flatten() {
        if entry.file_name().as_bytes().starts_with(ASIDE.as_bytes()) {
            fs::remove_dir_all(entry.path()).map_err(unwritable(&entry.path()))?;
        }
    }
    let aside = tempfile::Builder::new()
        .prefix(ASIDE)
        .tempdir_in(tools)
        .map_err(unwritable(tools))?;
    let target = aside.path().join("uv");
    let no_uv = |printed| Error::NoUv {
        python: python.to_path_buf(),
        printed,
    };

    let by_pip = run(pip_command(python, aside.path(), &target), lock);
    if let Err(printed) = by_pip {
        if !printed.contains("No module named pip") {
            return Err(no_uv(printed));
        }
        let seed = aside.path().join("seed");
        let mut venv = Command::new(python);
        venv.args(["-m", "venv"])
            .arg(&seed)
            .current_dir(aside.path());
        let seeded = run(venv, lock).and_then(|()| {
            run(
                pip_command(&seed.join("bin/python"), aside.path(), &target),
                lock,
            )
        });
        seeded.map_err(no_uv)?;
    }
    let own = tools.join("uv");
    if own.exists() {
        fs::remove_dir_all(&own).map_err(unwritable(&own))?;
    }
    fs::rename(&target, &own).map_err(unwritable(&own))
}

fn pip_command(python: &Path, empty_folder: &Path, target: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--progress-bar",
        "off",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
    ]);
    // Compiling uv takes a Rust toolchain and many minutes: better to be told that there is no wheel.
    pip.args(["--only-binary", ":all:", "--target"])
        .arg(target)
        .arg(format!("uv=={UV}"));
    // `-m` looks for pip in the current folder first, where a project may have anything.
    pip.current_dir(empty_folder);
    // Settings for other installations, which contradict `--target`.
    pip.env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0");
    for name in [
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_CONSTRAINT",
        "PIP_DRY_RUN",
    ] {
        pip.env_remove(name);
    }
    pip
}

fn uv_command(uv: &Path, plan: &Plan) -> Command {
    let mut command = Command::new(uv);
    // As pip does, uv reads local paths in requirements from the current folder: the project's.
    command.current_dir(&plan.root);
    // The Python is there and named; no other may be brought or chosen in its place.
    command
        .env("UV_PYTHON_DOWNLOADS", "never")
        .env("UV_NO_PROGRESS", "1");
    for name in [
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_PROJECT_ENVIRONMENT",
        "CONDA_PREFIX",
    ] {
        command.env_remove(name);
    }
    command.envs(as_uv_variables(&|name| std::env::var_os(name)));
    command
}

/// uv reads none of pip's variables, and a machine that only reaches its company's index often says
/// so in those alone. What is set for uv itself wins.
fn as_uv_variables(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
    let table: [(&str, &'static str, &str); 6] = [
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"),
        ("PIP_NO_INDEX", "UV_NO_INDEX", ""),
        ("PIP_FIND_LINKS", "UV_FIND_LINKS", ""),
        ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", ""),
        ("PIP_CERT", "SSL_CERT_FILE", ""),
    ];
    let is_set = |name: &str| !name.is_empty() && env(name).is_some_and(|value| !value.is_empty());
    let wanted = table
        .into_iter()
        .filter(|(pip, uv, older)| is_set(pip) && !is_set(uv) && !is_set(older));
    wanted
        .filter_map(|(pip, uv, _)| {
            let value = env(pip)?;
            if pip != "PIP_FIND_LINKS" {
                return Some((uv, value));
            }
            // Separated by spaces there and by commas here; uv stops at a folder that is not there.
            let places = value.to_str()?.split_whitespace();
            let places = places.filter(|place| place.contains("://") || Path::new(place).exists());
            Some((uv, places.collect::<Vec<_>>().join(",").into()))
        })
        .collect()
}

/// Runs an installer to its end; an error is what it printed.
///
/// The lock is its standard input, which is as empty as `/dev/null` and makes the installer a holder
/// of the lock: when this process alone is killed, the next run waits until the installer is gone.
fn run(mut command: Command, lock: &File) -> Result<(), String> {
    for name in [
        "VIRTUAL_ENV",
        "PYTHONHOME",
        "PYTHONPATH",
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    let started = lock
        .try_clone()
        .and_then(|lock| command.stdin(Stdio::from(lock)).output());
    match started {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(output) => Err(printed(&output)),
        Err(error) => Err(format!(
            "`{}` cannot be started, the system says `{error}`",
            command.get_program().display()
        )),
    }
}

/// The end of what an installer printed, where it says what was wrong.
fn printed(output: &Output) -> String {
    const LINES: usize = 40;
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let lines: Vec<_> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return format!("it printed nothing, {}", output.status);
    }
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    struct Project {
        folder: tempfile::TempDir,
    }

    impl Project {
        fn new(files: &[(&str, &str)]) -> Self {
            let project = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            for (name, text) in files {
                project.put(name, text);
            }
            project
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

        fn pins(&self) -> Result<Pins, Error> {
            Pins::read(&self.root().join("requirements.txt"), &self.root())
        }

        fn python(&self) -> Interpreter {
            Interpreter {
                executable: self.root().join("bin/python"),
                version: (3, 12, 9),
                full_version: "3.12.9".to_owned(),
                implementation: "cpython".to_owned(),
                libpython: self.root().join("lib/libpython3.12.so.1.0"),
                prefix: self.root(),
                base_executable: self.root().join("bin/python"),
                purelib: self.root().join("site"),
                library: Vec::new(),
                packages: Vec::new(),
                source: Source::Flag,
            }
        }

        fn plan(&self) -> Plan {
            Plan::new(&self.python(), self.pins().unwrap(), &self.root())
        }

        /// What uv would leave, whole or not.
        fn made(plan: &Plan) {
            fs::create_dir_all(plan.folder.join("bin")).unwrap();
            fs::write(plan.python(), "").unwrap();
        }
    }

    #[test]
    fn lines_of_a_requirements_file() {
        #[track_caller]
        fn check(text: &str, expected: &[(usize, &str)]) {
            let expected: Vec<_> = expected
                .iter()
                .map(|(at, line)| (*at, (*line).to_owned()))
                .collect();
            assert_eq!(logical_lines(text), expected);
        }
        check("six\n", &[(1, "six")]);
        check("\u{feff}six\r\n\r\nattrs\r\n", &[(1, "six"), (3, "attrs")]);
        check("# nothing\nsix # why\n  # more\n", &[(2, "six")]);
        check(
            "six==1 \\\n  --hash=sha256:1 \\\n  --hash=sha256:2\nattrs",
            &[
                (1, "six==1   --hash=sha256:1   --hash=sha256:2"),
                (4, "attrs"),
            ],
        );
        check(
            "pkg @ https://host/x.whl#sha256=1 # why",
            &[(1, "pkg @ https://host/x.whl#sha256=1")],
        );
        check("", &[]);
    }

    #[test]
    fn what_a_line_takes_in() {
        #[track_caller]
        fn check(line: &str, expected: Option<(Inclusion, &str)>) {
            assert_eq!(included(line), expected, "{line}");
        }
        check("-r base.txt", Some((Inclusion::Requirements, "base.txt")));
        check("-rbase.txt", Some((Inclusion::Requirements, "base.txt")));
        check(
            "-r 'my base.txt'",
            Some((Inclusion::Requirements, "my base.txt")),
        );
        check(
            "--requirement base.txt",
            Some((Inclusion::Requirements, "base.txt")),
        );
        check(
            "--requirement=base.txt",
            Some((Inclusion::Requirements, "base.txt")),
        );
        check(
            "-c limits.txt",
            Some((Inclusion::Constraints, "limits.txt")),
        );
        check(
            "--constraint limits.txt",
            Some((Inclusion::Constraints, "limits.txt")),
        );
        check("requests", None);
        check("--require-hashes", None);
        check("-e .", None);
    }

    #[test]
    fn all_files_are_read_once_and_their_packages_counted() {
        let project = Project::new(&[
            (
                "requirements.txt",
                "-r sub/more.txt\n-c limits.txt\n-r https://host/far.txt\n-r ${HERE}/x.txt\nsix\n-i https://host\n-e .\n",
            ),
            (
                "sub/more.txt",
                "attrs; python_version >= '3.11'\n-r ../requirements.txt\n-r last.txt\n",
            ),
            ("sub/last.txt", "idna\n"),
            ("limits.txt", "six<2\nattrs<99\n-r limits2.txt\n"),
            ("limits2.txt", "idna<99\n"),
        ]);
        let pins = project.pins().unwrap();
        assert_eq!(pins.packages, 4);
        let names: Vec<_> = pins.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "requirements.txt",
                "sub/more.txt",
                "sub/last.txt",
                "limits.txt",
                "limits2.txt"
            ]
        );
    }

    #[test]
    fn a_missing_file_is_named_with_the_line_that_asks_for_it() {
        let project = Project::new(&[("requirements.txt", "six\n-r gone.txt\n")]);
        let root = project.root();
        let message = project
            .pins()
            .unwrap_err()
            .to_string()
            .replace(root.to_str().unwrap(), "ROOT");
        let system = "the system says `No such file or directory (os error 2)`";
        assert_eq!(
            message,
            format!(
                "`ROOT/gone.txt` cannot be read, {system}: write it, or correct `ROOT/requirements.txt`:2"
            )
        );
        fs::remove_file(root.join("requirements.txt")).unwrap();
        let message = project
            .pins()
            .unwrap_err()
            .to_string()
            .replace(root.to_str().unwrap(), "ROOT");
        assert_eq!(
            message,
            format!(
                "`ROOT/requirements.txt` cannot be read, {system}: write it, or correct `requirements` in `verify.toml`"
            )
        );
    }

    #[test]
    fn only_a_stamp_of_the_same_contents_makes_an_environment_whole() {
        let project = Project::new(&[("requirements.txt", "six==1.17.0\n")]);
        let plan = project.plan();
        assert!(!plan.is_made());
        Project::made(&plan);
        assert!(!plan.is_made(), "interrupted before the stamp");
        write_stamp(&plan).unwrap();
        assert!(plan.is_made() && project.plan().is_made());
        assert_eq!(
            fs::read_dir(&plan.folder).unwrap().count(),
            2,
            "nothing temporary is left"
        );

        let stamp = plan.folder.join(STAMP);
        let whole = fs::read(&stamp).unwrap();
        for other in [&whole[..whole.len() - 1], b"", &[&whole[..], b"x"].concat()] {
            fs::write(&stamp, other).unwrap();
            assert!(!plan.is_made(), "{}", String::from_utf8_lossy(other));
        }
        fs::write(&stamp, &whole).unwrap();
        assert!(plan.is_made());
        fs::remove_file(plan.python()).unwrap();
        assert!(!plan.is_made(), "its python is gone");
    }

    #[test]
    fn what_makes_another_environment() {
        let project = Project::new(&[
            ("requirements.txt", "six\n-c limits.txt\n"),
            ("limits.txt", "six<2\n"),
        ]);
        let plan = project.plan();
        let folder_of =
            |base: &Interpreter| Plan::new(base, project.pins().unwrap(), &project.root()).folder;
        assert_eq!(folder_of(&project.python()), plan.folder);
        let patched = Interpreter {
            full_version: "3.12.10".to_owned(),
            ..project.python()
        };
        assert_ne!(folder_of(&patched), plan.folder);
        assert_eq!(folder_of(&patched).parent(), plan.folder.parent());
        let another = Interpreter {
            base_executable: PathBuf::from("/usr/bin/python3.12"),
            ..project.python()
        };
        assert_ne!(folder_of(&another).parent(), plan.folder.parent());
        let chosen_otherwise = Interpreter {
            source: Source::Path,
            executable: PathBuf::from("/venv"),
            ..project.python()
        };
        assert_eq!(folder_of(&chosen_otherwise), plan.folder);

        project.put("limits.txt", "six<3\n");
        assert_ne!(project.plan().folder, plan.folder);
        project.put("limits.txt", "six<2\n");
        assert_eq!(project.plan().folder, plan.folder);
    }

    #[test]
    fn a_project_that_was_moved_needs_its_environment_again() {
        let project = Project::new(&[("old/requirements.txt", "six\n")]);
        let plan = |name: &str| {
            let root = project.root().join(name);
            Plan::new(
                &project.python(),
                Pins::read(&root.join("requirements.txt"), &root).unwrap(),
                &root,
            )
        };
        let old = plan("old");
        Project::made(&old);
        write_stamp(&old).unwrap();
        assert!(old.is_made());
        fs::rename(project.root().join("old"), project.root().join("new")).unwrap();
        let new = plan("new");
        assert!(new.folder.join(STAMP).is_file() && !new.is_made());
    }

    #[test]
    fn what_stays_beside_a_new_environment() {
        let project = Project::new(&[]);
        let plan_for = |pins: &str| {
            project.put("requirements.txt", pins);
            let plan = project.plan();
            Project::made(&plan);
            plan
        };
        let mut made = Vec::new();
        for (age, pins) in [(300, "one"), (200, "two"), (100, "three")] {
            let plan = plan_for(pins);
            write_stamp(&plan).unwrap();
            let stamp = File::options()
                .write(true)
                .open(plan.folder.join(STAMP))
                .unwrap();
            stamp
                .set_modified(SystemTime::now() - Duration::from_secs(age))
                .unwrap();
            made.push(plan);
        }
        let interrupted = plan_for("interrupted");
        let new = plan_for("new");
        write_stamp(&new).unwrap();
        fs::write(new.group.join("lock"), "").unwrap();
        tidy(&new);
        assert!(new.is_made() && made[2].is_made());
        assert!(
            !made[0].folder.exists() && !made[1].folder.exists() && !interrupted.folder.exists()
        );
        assert!(new.group.join("lock").is_file());
    }

    #[test]
    fn a_second_run_waits_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path, &mut |progress| panic!("{progress:?}")).unwrap();
        // As an installer would hold it after its parent was killed.
        let inherited = held.try_clone().unwrap();
        let (sender, events) = mpsc::channel();
        let second = thread::spawn(move || {
            lock(&path, &mut |progress| sender.send(progress).unwrap()).map(drop)
        });
        assert_eq!(events.recv().unwrap(), Progress::Waiting);
        drop(held);
        assert!(!second.is_finished());
        drop(inherited);
        second.join().unwrap().unwrap();
    }

    #[test]
    fn pips_variables_in_uvs_words() {
        #[track_caller]
        fn check(set: &[(&str, &str)], expected: &[(&str, &str)]) {
            let env = |name: &str| {
                set.iter()
                    .find(|(one, _)| *one == name)
                    .map(|(_, value)| OsString::from(value))
            };
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| (*name, OsString::from(value)))
                .collect();
            assert_eq!(as_uv_variables(&env), expected);
        }
        check(&[], &[]);
        check(
            &[("PIP_INDEX_URL", "https://host/simple")],
            &[("UV_DEFAULT_INDEX", "https://host/simple")],
        );
        check(
            &[
                ("PIP_INDEX_URL", "https://host/simple"),
                ("UV_INDEX_URL", "https://other"),
            ],
            &[],
        );
        check(
            &[
                ("PIP_INDEX_URL", "https://host/simple"),
                ("UV_DEFAULT_INDEX", "https://other"),
            ],
            &[],
        );
        check(&[("PIP_INDEX_URL", "")], &[]);
        check(
            &[("PIP_FIND_LINKS", "https://host/x /usr /not/there")],
            &[("UV_FIND_LINKS", "https://host/x,/usr")],
        );
        check(&[("PIP_CERT", "/a.pem"), ("SSL_CERT_FILE", "/b.pem")], &[]);
    }

    #[test]
    fn distributions_are_read_from_folder_names() {
        let project = Project::new(&[
            ("site/six-1.17.0.dist-info/METADATA", ""),
            ("site/typing_extensions-4.12.2.dist-info/METADATA", ""),
            ("site/Jaraco.Text-1.0rc1.dist-info/METADATA", ""),
            ("site/old-name-2.0.dist-info/METADATA", ""),
            ("site/six.py", ""),
            ("site/broken.dist-info/METADATA", ""),
            ("site/legacy-1.0.egg-info/PKG-INFO", ""),
        ]);
        let expected = [
            ("jaraco-text", "1.0rc1"),
            ("old-name", "2.0"),
            ("six", "1.17.0"),
            ("typing-extensions", "4.12.2"),
        ];
        let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(installed(&project.python()), expected);
        let nowhere = Interpreter {
            purelib: PathBuf::from("/nowhere"),
            library: Vec::new(),
            packages: Vec::new(),
            ..project.python()
        };
        assert_eq!(installed(&nowhere), []);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_installer_holds_the_lock_itself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"test /proc/self/fd/0 -ef "$0""#])
            .arg(file.path());
        assert_eq!(run(command, file.as_file()), Ok(()));
    }

    #[test]
    fn a_failed_installer_is_quoted() {
        let file = tempfile::tempfile().unwrap();
        let sh = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            run(command, &file)
        };
        assert_eq!(sh("cat"), Ok(()), "its input is empty");
        assert_eq!(
            sh("echo out; echo; echo no such version >&2; exit 2"),
            Err("out\nno such version".to_owned())
        );
        assert_eq!(
            sh("exit 2"),
            Err("it printed nothing, exit status: 2".to_owned())
        );
        let long = sh("seq 1000; exit 1").unwrap_err();
        assert!(
            long.starts_with("961\n") && long.ends_with("\n1000"),
            "{long}"
        );
        let missing = run(Command::new("/not/there/uv"), &file).unwrap_err();
        assert!(
            missing.starts_with("`/not/there/uv` cannot be started, the system says `No such file"),
            "{missing}"
        );
    }
}
