//! Our side of the process boundary: starts a host, asks it for sessions, and takes its death for a value.
//!
//! `verify` itself never runs an example. It holds one end of a few pipes; whatever happens at the other
//! end arrives here as bytes, as a [`protocol::ProcessEnd`], or as the end of a stream.

mod checkpoint;
mod directories;
mod hosts;
mod origin;
mod running;
mod snapshot;
mod stop;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
pub use checkpoint::{Checkpoint, Untrue};
pub use directories::is_filled;
pub use hosts::Hosts;
pub use running::{Running, UnitOutcome};
use rustix::process::{Pid, WaitOptions};
pub use snapshot::{Importing, Snapshot};
pub use stop::Stop;

use self::directories::Directories;
use self::origin::Origin;
use crate::conditions::Conditions;
use crate::config;
use crate::interpreter::Interpreter;
use crate::processes;
use crate::protocol::{
    self, HostAnswer, HostSetup, ProcessLimits, Program, Protections, SandboxSetup, Seal,
    SessionSetup, Source, StandIn,
};
use crate::scratch::{self, Held};

/// How long a host may take to start: Python, its `site`, and the modules it preloads.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The program that embeds Python; it lies beside this one.
pub(crate) const HOST_PROGRAM: &str = "verify-python";

/// Directories of programs that every session finds, behind those of its Python.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// The variables that every example sees, besides its directories and `PATH`: nothing of the user's own,
/// and everything that output would otherwise depend on.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("LC_ALL", "C.UTF-8"),
    ("PYTHONUTF8", "1"),
    ("TZ", "UTC"),
    ("COLUMNS", "80"),
    ("LINES", "24"),
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("PYTHON_COLORS", "0"),
    ("PYTHON_BASIC_REPL", "1"),
    ("MPLBACKEND", "Agg"),
    ("SOURCE_DATE_EPOCH", "1577836800"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),
];

/// How much more address space a process may reserve than its session may use memory: stacks of threads and
/// maps of files are mostly never touched. Beyond it `MemoryError` comes at once.
const RESERVED: u64 = 4;

/// What a host is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub conditions: Conditions,
    /// Modules to import before the first session.
    pub preload: Vec<String>,
    /// Modules whose presence matters.
    pub probe: Vec<String>,
    /// Programs that examples say they need.
    pub programs: Vec<String>,
    /// Variables from the project's configuration.
    pub environment: Vec<(String, String)>,
    /// Bytes that a session may fill its directory with.
    pub most_scratch: u64,
    /// What sessions may see; `None` leaves them as they are.
    pub sandbox: Option<SandboxSetup>,
}

/// What a session is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// The session's own; must exist, with `scratch` in it.
    pub directory: &'a Path,
    /// A number that only this session's processes have.
    pub tenant: u64,
    /// Whether no process of the session was started before.
    pub is_first: bool,
    /// Where it runs.
    pub scratch: &'a Path,
    pub limits: ProcessLimits,
    pub program: Program,
    /// Whether it needs a loopback that it shares with no other session.
    pub own_network: bool,
    /// Whether it may be asked to become a checkpoint.
    pub may_stay: bool,
    /// Where packages were imported for it; without, it is forked from the host itself.
    pub snapshot: Option<&'a Snapshot>,
    /// What it will run, to be compiled before it starts.
    pub sources: Vec<Source>,
}

impl Options {
    /// A book names the programs that it needs, so naming one opens nothing: `--readable` does.
    fn may_read(&self, program: &Path) -> bool {
        let Some(sandbox) = &self.sandbox else {
            return true;
        };
        let real = program.canonicalize();
        real.is_ok_and(|real| sandbox.readable.iter().any(|path| real.starts_with(path)))
    }
}

/// A warm interpreter that forks sessions. Dropping it ends them all.
#[derive(Debug)]
pub struct Host {
    origin: Arc<Origin>,
    process: Child,
    environment: Vec<(String, OsString)>,
    root: Root,
    directories: Directories,
    /// Nothing that its sessions know was read before.
    pub started: SystemTime,
    pub ready: Ready,
    _stdout: io::PipeReader,
}

/// The directory of a host's sessions. The host makes it and removes it when it ends; we do if it could not.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// From when the host has made it.
    held: Option<Held>,
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = scratch::remove(&self.path);
    }
}

/// What the host found out about itself.
#[derive(Debug, Default, Clone)]
pub struct Ready {
    pub modules: Vec<String>,
    /// `None` without a sandbox.
    pub protections: Option<Protections>,
}

impl Host {
    /// Starts a host that keeps its scratch directories in a directory of its own in `place`.
    pub fn start(interpreter: &Interpreter, place: &Path, options: &Options) -> Result<Host> {
        let no_root = |why: String| {
            format!(
                "cannot make a scratch directory in `{}`: {why}; set `TMPDIR` to another place",
                place.display()
            )
        };
        let path = scratch::new_root(place).map_err(|error| anyhow!(no_root(error.to_string())))?;
        let root = Root { path, held: None };
        let started = SystemTime::now();
        let program = host_program()?;
        let (environment, stand_ins) = environment(interpreter, &root.path, options);
        let processors = options.conditions.processors();
        // What a killed host leaves behind comes to us; see `end_orphans`.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_child_subreaper(Pid::from_raw(1));
        let (channel, theirs) = UnixStream::pair()?;
        let (stdout, stdout_writer) = io::pipe()?;
        let (mut errors, stderr_writer) = io::pipe()?;
        let process = Command::new(&program)
            .arg(&interpreter.executable)
            .args(processors.map(|(_, told)| format!("-Xcpu_count={told}")))
            .env_clear()
            .envs(
                environment
                    .iter()
                    .filter(|(name, _)| is_read_at_start(name))
                    .map(|(name, value)| (name, value)),
            )
            .env(protocol::PRELOAD_VARIABLE, &interpreter.libpython)
            .env(protocol::BIND_VARIABLE, "1")
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(stdout_writer)
            .stderr(stderr_writer)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        let setup = HostSetup {
            preload: options.preload.clone(),
            probe: options.probe.clone(),
            sandbox: options.sandbox.clone(),
            scratch_root: root.path.clone(),
            stand_ins,
            layout: options.conditions.layout(),
            processor: processors.map(|(used, _)| used),
            known: interpreter.known_directories().cloned().collect(),
        };
        channel.set_read_timeout(Some(START_LIMIT))?;
        let answer: io::Result<Option<HostAnswer>> =
            protocol::send(&channel, &setup).and_then(|()| protocol::receive(&channel));
        let mut host = Host {
            origin: Arc::new(Origin::new(channel, Pid::from_child(&process))),
            process,
            environment,
            directories: Directories::new(place),
            started,
            root,
            ready: Ready::default(),
            _stdout: stdout,
        };
        match answer {
            Ok(Some(HostAnswer::NoRoot(why))) => bail!(no_root(why)),
            Ok(Some(HostAnswer::Ready(ready))) => {
                // Besides the host, which an example may end.
                host.root.held = scratch::hold(&host.root.path).unwrap_or_default();
                host.ready = Ready {
                    modules: ready.found,
                    protections: ready.protections,
                };
                Ok(host)
            }
            Ok(None) | Err(_) => {
                // A host that hung up is about to say why; one that does not answer has nothing to say.
                if answer.is_err() {
                    let _ = host.process.kill();
                }
                let mut said = Vec::new();
                let _ = errors.read_to_end(&mut said);
                let status = host.process.wait()?;
                let said = String::from_utf8_lossy(&said);
                bail!(
                    "`{}` died at start ({status}){}{}; check that this Python starts, or pass another with `--python`",
                    interpreter.executable.display(),
                    if said.trim().is_empty() { "" } else { ":\n" },
                    said.trim_end()
                )
            }
        }
    }

    /// Starts a session.
    pub fn session(&self, start: Start<'_>) -> Result<Running> {
        let Start {
            directory: own,
            tenant,
            is_first,
            scratch,
            limits,
            program,
            own_network,
            may_stay,
            snapshot,
            sources,
        } = start;
        let mut environment = ["HOME", "TMPDIR"]
            .map(|name| (name.to_owned(), scratch.into()))
            .to_vec();
        // A shell replaces the process, and with it what the host's environment gave Python.
        let merged = matches!(program, Program::Shell { .. });
        let is_own = |name: &str| matches!(name, "HOME" | "TMPDIR");
        environment.extend(
            self.environment
                .iter()
                .filter(|(name, _)| !is_own(name) && (merged || !is_read_at_start(name)))
                .cloned(),
        );
        let setup = SessionSetup {
            session: 0,
            seal: Seal::new()?,
            directory: own.to_owned(),
            tenant,
            is_first,
            scratch: scratch.to_owned(),
            own_network,
            may_stay,
            environment,
            limits,
            program,
        };
        let origin = snapshot.map_or(&self.origin, Snapshot::origin);
        Running::start(origin, setup, sources).map(|running| running.in_directory_with(0))
    }

    /// The directory that the sessions' scratch directories are made in.
    pub fn root(&self) -> &Path {
        &self.root.path
    }

    /// Finds a program as a session would.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.environment.iter().rfind(|(name, _)| name == "PATH");
        let (_, path) = path?;
        find_in(std::env::split_paths(path), name)
    }

    /// Whether the host has died, which only its sessions and requests to it notice.
    pub fn is_lost(&self) -> bool {
        self.origin.is_lost()
    }

    /// Hangs up: the host ends all sessions and itself. Whoever waits for a session is told so.
    pub fn close(&self) {
        self.origin.close();
    }

    /// Ends what came to us because the host had been killed: children of ours that live in its directory.
    fn end_orphans(&self) {
        let root = self.root.path.as_os_str().as_bytes();
        let is_ours = |process: &Pid| {
            let directory = fs::read_link(format!("/proc/{process}/cwd"));
            let variables = fs::read(format!("/proc/{process}/environ"));
            directory.is_ok_and(|path| path.starts_with(&self.root.path))
                || variables.is_ok_and(|text| text.windows(root.len()).any(|part| part == root))
        };
        let children = || processes::children(rustix::process::getpid());
        loop {
            let found = children();
            let (orphans, others): (Vec<Pid>, Vec<Pid>) =
                found.iter().partition(|pid| is_ours(pid));
            processes::end_families(&orphans);
            for orphan in &orphans {
                let _ = rustix::process::waitpid(Some(*orphan), WaitOptions::empty());
            }
            let may_leave_more = |process: &Pid| processes::is_exiting(*process);
            if others.iter().any(may_leave_more) {
                std::thread::sleep(Duration::from_millis(1));
            } else if orphans.is_empty() && children() == found {
                // One that has ended since it was found would have left us its children by now.
                return;
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.close();
        self.origin.wake();
        let _ = self.process.wait();
        self.end_orphans();
    }
}

/// Where a session on this interpreter may find a program, apart from `python` and `pip`.
pub fn find_program(interpreter: &Interpreter, name: &str) -> Option<PathBuf> {
    let own = interpreter.executable.parent().unwrap_or(Path::new("/"));
    let path = before(own, SYSTEM_PATH);
    find_in(std::env::split_paths(&path).chain(user_path()), name)
}

/// Whether a variable has to be there when Python starts. Everything else that a project sets is for its
/// sessions alone: the dynamic loader's variables, say, would run the book's code in the host.
fn is_read_at_start(name: &str) -> bool {
    matches!(name, "PATH" | "HOME" | "TMPDIR")
        || name.starts_with("PYTHON")
        || ENVIRONMENT.iter().any(|(own, _)| *own == name)
}

fn host_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where `verify` lies")?;
    let beside = own.with_file_name(HOST_PROGRAM);
    if beside.is_file() {
        return Ok(beside);
    }
    bail!(
        "`{}` is missing: `{HOST_PROGRAM}` belongs beside `verify`; install both with `cargo install`",
        beside.display()
    )
}

/// The variables that Python is started with. Each session has its own directory as `HOME` and `TMPDIR`; `bin`
/// in `root` takes stand-ins for programs that the interpreter's directory lacks, which are returned besides.
pub fn environment(
    interpreter: &Interpreter,
    root: &Path,
    options: &Options,
) -> (Vec<(String, OsString)>, Vec<StandIn>) {
    let (path, stand_ins) = search_path(interpreter, root, options);
    let hash_seed = options.conditions.hash_seed().to_string();
    let own = [
        ("PATH", path),
        ("HOME", root.into()),
        ("TMPDIR", root.into()),
        ("PYTHONHASHSEED", hash_seed.into()),
    ];
    let fixed = ENVIRONMENT
        .iter()
        .map(|&(name, value)| (name, value.into()));
    let ours = own.into_iter().chain(fixed);
    let text = |(name, value): &(String, String)| (name.clone(), value.into());
    let varied = options.conditions.environment();
    let variables = ours
        .map(|(name, value)| (name.to_owned(), value))
        .chain(options.environment.iter().map(text))
        .filter(|(name, _)| !varied.iter().any(|(other, _)| other == name))
        .chain(varied.iter().map(text))
        .collect();
    (variables, stand_ins)
}

/// The session's `PATH`. `python`, `python3` and `pip` come first on it and are those of the chosen
/// interpreter; where its directory lacks one of the names or cannot stand there, a script in `root` stands in. So does
/// one for a needed program that only the user's own `PATH` leads to, such as a pyenv below the home directory.
fn search_path(
    interpreter: &Interpreter,
    root: &Path,
    options: &Options,
) -> (OsString, Vec<StandIn>) {
    let own = interpreter
        .executable
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned();
    let path = before(&own, SYSTEM_PATH);
    let stand_in = |name: &str, target: &Path, arguments: &str| {
        // Within quotes a shell takes all for itself but the quote.
        let target = target.as_os_str().as_bytes().split(|byte| *byte == b'\'');
        let target = target.collect::<Vec<_>>().join(&br"'\''"[..]);
        StandIn {
            name: name.to_owned(),
            script: [
                b"#!/bin/sh\nexec '",
                &target[..],
                format!("'{arguments} \"$@\"\n").as_bytes(),
            ]
            .concat(),
        }
    };
    let finds = |name: &str| find_in(std::env::split_paths(&path), name);
    let mut stand_ins = Vec::new();
    for (name, arguments) in [("python", ""), ("python3", ""), ("pip", " -m pip")] {
        // Debian keeps its `python3` among all the system's programs, where `pip` may be another's.
        if finds(name) != Some(own.join(name)) || own == Path::new("/usr/bin") {
            stand_ins.push(stand_in(name, &interpreter.executable, arguments));
        }
    }
    for name in &options.programs {
        if finds(name).is_none()
            && let Some(program) = find_in(user_path(), name)
            && options.may_read(&program)
        {
            stand_ins.push(stand_in(name, &program, ""));
        }
    }
    if stand_ins.is_empty() {
        return (path, stand_ins);
    }
    (before(&root.join("bin"), path), stand_ins)
}

/// A `PATH` that leads to this directory first. One with a `:` in its path cannot stand on it.
fn before(directory: &Path, path: impl AsRef<OsStr>) -> OsString {
    let others = std::env::split_paths(&path);
    let all = std::iter::once(directory.to_owned()).chain(others);
    std::env::join_paths(all).unwrap_or_else(|_| path.as_ref().to_owned())
}

/// The directories of this process's own `PATH`. A version manager's shims are left out: the name of a
/// program stands there whether or not the version that is chosen has it.
fn user_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories
        .into_iter()
        .filter(|directory| directory.is_absolute() && !directory.ends_with("shims"))
}

fn find_in(mut directories: impl Iterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    directories
        .find_map(|directory| Some(directory.join(name)).filter(|program| is_executable(program)))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

impl ProcessLimits {
    pub fn of(limits: &config::Limits) -> ProcessLimits {
        ProcessLimits {
            memory: limits.memory.map(|bytes| bytes.saturating_mul(RESERVED)),
            file_size: Some(limits.file_size),
            open_files: Some(limits.open_files),
        }
    }
}
