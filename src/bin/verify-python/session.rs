//! A forked child: sets itself up as the process of one session, then runs what it is told.

use std::ffi::{CString, OsString, c_int};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use rustix::fd::RawFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use verify::protocol::{
    self, Command, Passed, Program, Report, Seal, SessionSetup, StepReport, Unit, UnitEnd,
};

use crate::checkpoint::{self, State};
use crate::isolation;
use crate::observe;
use crate::sandbox::Sandbox;
use crate::serve::{Forked, Warm};
use crate::snapshot;
use crate::unit::{Interpreter, Run};

/// The descriptor on which a shell's script finds the control socket: shells address single digits only.
const SHELL_CONTROL: RawFd = 9;

/// Runs the session, to which `others` of the host is not to be open. Returns what the audit hook hands to CPython,
/// which then shuts down.
pub(crate) fn run(py: Python<'_>, forked: Forked, warm: Warm, others: impl Sized) -> c_int {
    isolation::become_session_head();
    if let Program::Host { package } = &forked.setup.program {
        drop(others);
        let package = package.clone();
        return snapshot::become_host(py, forked, warm, package.as_deref());
    }
    let Warm {
        sandbox,
        mut interpreter,
        heap,
    } = warm;
    let network_isolated = sandbox.as_ref().is_some_and(Sandbox::cuts_network_off);
    let ready = forked.take_over_streams().and_then(|()| {
        if let Some(sandbox) = &sandbox
            && let Err(error) = sandbox.shut_in(&forked.setup)
        {
            let _ = writeln!(
                io::stderr(),
                "verify: this session could not be shut in: {error}; `--sandbox=off` runs it without"
            );
            return Err(error);
        }
        if let Err(error) = std::env::set_current_dir(&forked.setup.scratch) {
            let _ = writeln!(
                io::stderr(),
                "verify: this session cannot enter its directory: {error}"
            );
            return Err(error);
        }
        let channels = Channels::new(forked.control, forked.passing, &forked.setup)?;
        isolation::limit(&forked.setup.limits);
        Ok(channels)
    });
    let Ok(channels) = ready else {
        // Without its directory or descriptors the session has no way to say more; `verify` sees its end.
        return fail_silently();
    };
    isolation::close_others([channels.control.as_fd(), channels.passing.as_fd()]);
    // To free what is the host's, the session would have to copy it first.
    std::mem::forget((others, sandbox, forked.stdout, forked.stderr));
    let own = forked.setup.scratch.parent();
    observe::begin_session(
        own.unwrap_or(&forked.setup.scratch),
        network_isolated,
        channels.control.as_raw_fd(),
        channels.seal,
    );
    match &forked.setup.program {
        Program::Shell { program, script } => become_shell(
            &channels.control,
            program,
            script,
            &forked.setup.environment,
        ),
        Program::Host { .. } => unreachable!("it became one above"),
        Program::Python => {
            match interpreter.begin_session(py, &forked.setup, forked.compiled) {
                Ok(()) => {
                    let result = go_on(py, channels, &forked.setup, interpreter);
                    // What is wrong here is wrong with an `atexit` that the example has taken apart.
                    let _ = heap.before_shutdown(py);
                    result
                }
                Err(error) => {
                    error.restore(py);
                    -1
                }
            }
        }
    }
}

/// Takes units until there are no more, in this process and then in copies of it if it becomes a checkpoint.
fn go_on(
    py: Python<'_>,
    mut channels: Channels,
    setup: &SessionSetup,
    mut interpreter: Interpreter,
) -> c_int {
    loop {
        let state = setup.may_stay.then(State::now);
        match obey(py, &channels, &mut interpreter, state.as_ref()) {
            Next::End(result) => {
                // Open to the end of the process, for what is to be told then.
                std::mem::forget(channels);
                return result;
            }
            Next::Checkpoint => {}
        }
        let Ok(forked) = checkpoint::wait(py, channels.control) else {
            return fail_silently();
        };
        isolation::become_session_head();
        let ready = forked
            .take_over_streams()
            .and_then(|()| Channels::new(forked.control, forked.passing, &forked.setup));
        isolation::limit(&setup.limits);
        let Ok(next) = ready else {
            return fail_silently();
        };
        channels = next;
        observe::go_on_session(channels.control.as_raw_fd(), channels.seal);
    }
}

/// What the session hears and says things by.
struct Channels {
    control: UnixStream,
    passing: UnixStream,
    seal: Seal,
}

impl Channels {
    fn new(control: OwnedFd, passing: OwnedFd, setup: &SessionSetup) -> io::Result<Channels> {
        let open_files = setup.limits.open_files;
        Ok(Channels {
            control: out_of_reach(control, open_files)?.into(),
            passing: out_of_reach(passing, open_files)?.into(),
            seal: setup.seal,
        })
    }

    fn say(&self, report: &Report) -> io::Result<()> {
        protocol::send_sealed(&self.control, self.seal, report)
    }
}

/// What follows when the units so far have run.
enum Next {
    /// What the audit hook hands to CPython.
    End(c_int),
    Checkpoint,
}

/// Takes units until something else is asked for.
fn obey(
    py: Python<'_>,
    channels: &Channels,
    interpreter: &mut Interpreter,
    state: Option<&State>,
) -> Next {
    let streams = Streams::now();
    loop {
        let (units, reads_from) = match protocol::receive(&channels.control) {
            Ok(Some(Command::Run { units, reads_from })) => (units, reads_from),
            Ok(Some(Command::Continue)) => continue,
            Ok(Some(Command::Checkpoint)) => {
                let untrue = match state {
                    Some(state) => state.what_a_copy_lacks(),
                    None => Some("nobody knows what it began with".to_owned()),
                };
                let stays = untrue.is_none();
                if channels.say(&Report::Checkpoint { untrue }).is_err() {
                    return Next::End(0);
                }
                if stays {
                    return Next::Checkpoint;
                }
                continue;
            }
            Ok(Some(Command::Finish) | None) | Err(_) => return Next::End(0),
        };
        let mut behind = units.as_slice();
        while let Some((unit, rest)) = behind.split_first() {
            let mut untold =
                Untold::new(&streams.stdout, (!unit.may_end_early).then_some(reads_from));
            let run = interpreter.run(py, unit, &mut |py, interpreter, step| {
                interpreter.flush(py);
                let Some(steps) = untold.add(step) else {
                    return true;
                };
                channels.say(&Report::Steps(steps)).is_ok()
                    && matches!(
                        protocol::receive(&channels.control),
                        Ok(Some(Command::Continue))
                    )
            });
            if !isolation::is_session_head() {
                // A fork that the example made has run off its end: it finishes as the script's copy would.
                return Next::End(leave_as_script(py, run));
            }
            interpreter.flush(py);
            let end = run.into_report(py, unit);
            if matches!(end, UnitEnd::Completed { .. })
                && let Some(next) = rest.first()
                && pass(channels, &streams, reads_from, next).is_some()
            {
                behind = rest;
                continue;
            }
            let ended = Report::Ended {
                end,
                steps: untold.steps,
                read: state.and_then(|_| observe::news()),
            };
            if channels.say(&ended).is_err() || unit.last {
                return Next::End(0);
            }
            break;
        }
    }
}

/// Goes on with the next unit as `verify` would. `None` if that has to: it reads output by now, or the unit cannot be
/// saved just so.
fn pass(channels: &Channels, streams: &Streams, reads_from: u64, next: &Unit) -> Option<()> {
    // Asked in this order: a count that was read too late counts what is left.
    let (stdout, stderr) = (streams.stdout.held()?, streams.stderr.held()?);
    let at = protocol::clock();
    if at >= reads_from {
        return None;
    }
    save(next).ok()?;
    let passed = Passed { stdout, stderr, at };
    protocol::send_sealed(&channels.passing, channels.seal, &passed).ok()
}

/// Saves a unit as the file that it is, if there is nothing in the way.
fn save(unit: &Unit) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let open = || rustix::fs::openat2(CWD, &unit.path, flags, mode, ResolveFlags::NO_SYMLINKS);
    let mut file = File::from(isolation::as_the_user(open)?);
    let saved = file.write_all(unit.source.as_bytes());
    if saved.is_err() {
        let _ = std::fs::remove_file(&unit.path);
    }
    saved
}

/// Steps that have ended and that `verify` has not been told of. To wait until it has read what each printed costs
/// more than most steps; as long as it reads nothing, it is enough to count what the pipe holds.
struct Untold<'a> {
    stdout: &'a Stream,
    /// `None` where each step has to wait.
    reads_from: Option<u64>,
    steps: Vec<StepReport>,
}

impl<'a> Untold<'a> {
    fn new(stdout: &'a Stream, reads_from: Option<u64>) -> Untold<'a> {
        Untold {
            stdout,
            reads_from,
            steps: Vec::new(),
        }
    }

    /// Takes a step; gives all that are to be told now, after which this one has to wait.
    fn add(&mut self, step: StepReport) -> Option<Vec<StepReport>> {
        let printed = self.reads_from.and_then(|reads_from| {
            let printed = self.stdout.held()?;
            // Asked in this order: a count that was read too late counts what is left.
            (protocol::clock() < reads_from).then_some(printed)
        });
        self.steps.push(StepReport { printed, ..step });
        if printed.is_some() {
            return None;
        }
        // From here on the pipe holds only a part.
        self.reads_from = None;
        Some(std::mem::take(&mut self.steps))
    }
}

/// The session's streams as they were before its first example.
struct Streams {
    stdout: Stream,
    stderr: Stream,
}

impl Streams {
    fn now() -> Streams {
        Streams {
            stdout: Stream::now(rustix::stdio::stdout()),
            stderr: Stream::now(rustix::stdio::stderr()),
        }
    }
}

struct Stream {
    descriptor: BorrowedFd<'static>,
    /// Device and inode.
    file: Option<(u64, u64)>,
}

impl Stream {
    fn now(descriptor: BorrowedFd<'static>) -> Stream {
        let file = rustix::fs::fstat(descriptor).ok();
        Stream {
            descriptor,
            file: file.map(|file| (file.st_dev, file.st_ino)),
        }
    }

    /// Bytes that its pipe holds; `None` if the descriptor is another's now, or does not tell.
    fn held(&self) -> Option<u64> {
        // Elsewhere only the reading end tells.
        let tells = cfg!(target_os = "linux") && self.file.is_some();
        if !tells || self.file != Stream::now(self.descriptor).file {
            return None;
        }
        rustix::io::ioctl_fionread(self.descriptor).ok()
    }
}

/// Ends this process as `python file.py` would after this run: by its exception, if any.
fn leave_as_script(py: Python<'_>, run: Run) -> c_int {
    match run.error {
        None => 0,
        Some(error) => {
            error.restore(py);
            -1
        }
    }
}

fn fail_silently() -> c_int {
    Python::attach(|py| PySystemExit::new_err(1).restore(py));
    -1
}

/// Moves the control socket above the limit on descriptors where the user's hard limit allows that: an
/// example that closes or writes to every descriptor it can have does not hit it.
fn out_of_reach(control: OwnedFd, open_files: Option<u64>) -> rustix::io::Result<OwnedFd> {
    let Some(limit) = open_files.and_then(|limit| RawFd::try_from(limit).ok()) else {
        return Ok(control);
    };
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let raised = rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: hard,
            maximum: hard,
        },
    );
    let beyond = if raised.is_ok() { limit } else { limit - 1 };
    rustix::io::fcntl_dupfd_cloexec(control.as_fd(), beyond).or(Ok(control))
}

/// Replaces this process by a shell; returns only if that fails.
fn become_shell(
    control: &UnixStream,
    program: &Path,
    script: &str,
    environment: &[(String, OsString)],
) -> c_int {
    let arguments = [program.as_os_str().as_bytes(), b"-c", script.as_bytes()]
        .map(|argument| CString::new(argument).unwrap_or_default());
    let variables: Vec<CString> = environment
        .iter()
        .filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(&arguments), pointers(&variables));
    // SAFETY: both arrays are terminated and outlive the call; descriptor 9 is nobody's in this child.
    unsafe {
        libc::dup2(control.as_raw_fd(), SHELL_CONTROL);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}
