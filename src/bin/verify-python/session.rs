//! A forked child: sets itself up as the process of one session, then runs what it is told.

use std::ffi::{CString, OsString, c_int};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use rustix::fd::RawFd;
use verify::protocol::{self, Command, Program, Report, Seal, SessionSetup, StepReport};

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
        let control = out_of_reach(forked.control, forked.setup.limits.open_files)?;
        isolation::limit(&forked.setup.limits);
        Ok(UnixStream::from(control))
    });
    let Ok(control) = ready else {
        // Without its directory or descriptors the session has no way to say more; `verify` sees its end.
        return fail_silently();
    };
    isolation::close_others(control.as_fd());
    // To free what is the host's, the session would have to copy it first.
    std::mem::forget((others, sandbox, forked.stdout, forked.stderr));
    let own = forked.setup.scratch.parent();
    observe::begin_session(
        own.unwrap_or(&forked.setup.scratch),
        network_isolated,
        control.as_raw_fd(),
        forked.setup.seal,
    );
    match &forked.setup.program {
        Program::Shell { program, script } => {
            become_shell(&control, program, script, &forked.setup.environment)
        }
        Program::Host { .. } => unreachable!("it became one above"),
        Program::Python => {
            match interpreter.begin_session(py, &forked.setup, forked.compiled) {
                Ok(()) => {
                    let result = go_on(py, control, forked.setup, interpreter);
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
    mut control: UnixStream,
    mut setup: SessionSetup,
    mut interpreter: Interpreter,
) -> c_int {
    loop {
        let state = setup.may_stay.then(State::now);
        match obey(py, &control, setup.seal, &mut interpreter, state.as_ref()) {
            Next::End(result) => {
                // Open to the end of the process, for what is to be told then.
                std::mem::forget(control);
                return result;
            }
            Next::Checkpoint => {}
        }
        let Ok(forked) = checkpoint::wait(py, control) else {
            return fail_silently();
        };
        isolation::become_session_head();
        let ready = forked
            .take_over_streams()
            .and_then(|()| Ok(out_of_reach(forked.control, setup.limits.open_files)?));
        isolation::limit(&setup.limits);
        let Ok(next) = ready else {
            return fail_silently();
        };
        control = UnixStream::from(next);
        setup.seal = forked.setup.seal;
        observe::go_on_session(control.as_raw_fd(), setup.seal);
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
    control: &UnixStream,
    seal: Seal,
    interpreter: &mut Interpreter,
    state: Option<&State>,
) -> Next {
    let stdout = Stdout::now();
    loop {
        let (unit, reads_from) = match protocol::receive(control) {
            Ok(Some(Command::Run { unit, reads_from })) => (unit, reads_from),
            Ok(Some(Command::Continue)) => continue,
            Ok(Some(Command::Checkpoint)) => {
                let untrue = match state {
                    Some(state) => state.what_a_copy_lacks(),
                    None => Some("nobody knows what it began with".to_owned()),
                };
                let stays = untrue.is_none();
                if protocol::send_sealed(control, seal, &Report::Checkpoint { untrue }).is_err() {
                    return Next::End(0);
                }
                if stays {
                    return Next::Checkpoint;
                }
                continue;
            }
            Ok(Some(Command::Finish) | None) | Err(_) => return Next::End(0),
        };
        let mut untold = Untold::new(&stdout, (!unit.may_end_early).then_some(reads_from));
        let run = interpreter.run(py, &unit, &mut |py, interpreter, step| {
            interpreter.flush(py);
            let Some(steps) = untold.add(step) else {
                return true;
            };
            protocol::send_sealed(control, seal, &Report::Steps(steps)).is_ok()
                && matches!(protocol::receive(control), Ok(Some(Command::Continue)))
        });
        if !isolation::is_session_head() {
            // A fork that the example made has run off its end: it finishes as the script's copy would.
            return Next::End(leave_as_script(py, run));
        }
        interpreter.flush(py);
        let ended = Report::Ended {
            end: run.into_report(py, &unit),
            steps: untold.steps,
            read: state.and_then(|_| observe::news()),
        };
        if protocol::send_sealed(control, seal, &ended).is_err() || unit.last {
            return Next::End(0);
        }
    }
}

/// Steps that have ended and that `verify` has not been told of. To wait until it has read what each printed costs
/// more than most steps; as long as it reads nothing, it is enough to count what the pipe holds.
struct Untold<'a> {
    stdout: &'a Stdout,
    /// `None` where each step has to wait.
    reads_from: Option<u64>,
    steps: Vec<StepReport>,
}

impl<'a> Untold<'a> {
    fn new(stdout: &'a Stdout, reads_from: Option<u64>) -> Untold<'a> {
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

/// The session's stdout as it was before its first example: device and inode.
struct Stdout(Option<(u64, u64)>);

impl Stdout {
    fn now() -> Stdout {
        let stdout = rustix::fs::fstat(rustix::stdio::stdout());
        Stdout(stdout.ok().map(|file| (file.st_dev, file.st_ino)))
    }

    /// Bytes that its pipe holds; `None` if descriptor 1 is another's now, or does not tell.
    fn held(&self) -> Option<u64> {
        // Elsewhere only the reading end tells.
        if cfg!(not(target_os = "linux")) || self.0.is_none() || self.0 != Stdout::now().0 {
            return None;
        }
        rustix::io::ioctl_fionread(rustix::stdio::stdout()).ok()
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
