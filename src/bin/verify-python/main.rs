//! `verify-python`: the host. It embeds CPython, warms it up, and forks a child for each session.
//!
//! This is the only program that knows of Python; `verify` starts it and talks to it through
//! [`verify::protocol`]. It is linked against no libpython: `verify` starts it with the chosen one
//! preloaded, and `Py_BytesMain` gets the chosen environment's `python` as `argv[0]`, so that
//! `sys.executable`, `sys.prefix`, the environment's packages and Python's own start-up are exactly
//! what that `python` has.
//!
//! | module | holds |
//! |---|---|
//! | [`serve`] | the host's loop: fork, reap, kill |
//! | [`isolation`] | what is done to a process before Python code runs in it: limits, groups |
//! | [`sandbox`] | what keeps a session from everything that is not its own |
//! | [`heap`] | what sessions share of the host's objects, and how they end without touching them |
//! | [`observe`] | what a session reads from outside its own directory |
//! | [`preload`] | modules imported once and handed to sessions when they import them |
//! | [`session`] | a forked child: takes units, runs them, reports |
//! | [`snapshot`] | a session that imports a package and becomes a host itself |
//! | [`checkpoint`] | a session that stays where it is, so that copies of it go on from there |
//! | [`copy`] | copies of this process |
//! | [`compile`] | text to code, and code that a host has made for its sessions |
//! | [`unit`] | running one example |
//! | [`exception`] | an exception as data |
//!
//! Examples have to run without a Python frame of ours below them (`sys._getframe().f_back` is `None`
//! in a script), so the host is entered from an audit hook: CPython raises `cpython.run_command` from C
//! just before it would run the text of `-c`. Everything happens inside that call. In the host it never
//! returns; in a child it returns after the last example, the empty `-c ""` runs, and Python shuts
//! down as it does at the end of any script.
#![allow(
    unsafe_code,
    reason = "Python's C interface, and system calls between fork and the first line of Python"
)]

mod checkpoint;
mod compile;
mod copy;
mod exception;
mod heap;
mod isolation;
mod observe;
mod preload;
mod sandbox;
mod serve;
mod session;
mod snapshot;
mod unit;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use pyo3::ffi;
use verify::protocol::{self, HostAnswer, HostSetup};
use verify::scratch::{self, Held};

use crate::sandbox::Sandbox;

// Both are exported by every libpython since 3.8, but stand outside the limited API that pyo3 declares.
unsafe extern "C" {
    fn PySys_AddAuditHook(hook: AuditHook, data: *mut c_void) -> c_int;
    fn Py_BytesMain(argc: c_int, argv: *mut *mut c_char) -> c_int;
}

type AuditHook = extern "C" fn(*const c_char, *mut ffi::PyObject, *mut c_void) -> c_int;

/// What the hook needs; `None` once the host has been entered.
type Entry = Option<(UnixStream, HostSetup, Option<Sandbox>, Held)>;

fn main() -> ExitCode {
    // Whoever started `verify` may not care what becomes of its children. Here somebody waits for each.
    // SAFETY: the default action needs no memory of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let Some(python) = std::env::args_os().nth(1) else {
        return refuse("this program is started by `verify`; run that instead");
    };
    if !libpython_is_loaded() {
        return refuse("no libpython is loaded; `verify` starts this program with one");
    }
    let channel = match take_channel() {
        Ok(channel) => channel,
        Err(error) => return refuse(&format!("no channel on standard input: {error}")),
    };
    let setup: HostSetup = match protocol::receive(&channel) {
        Ok(Some(setup)) => setup,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return refuse(&format!("cannot read the setup: {error}")),
    };

    // Examples start `python` and other programs; none of them may get this process's libpython.
    for variable in [protocol::PRELOAD_VARIABLE, protocol::BIND_VARIABLE] {
        // SAFETY: no other thread exists yet.
        unsafe { std::env::remove_var(variable) };
    }

    if let Some(number) = setup.processor {
        verify::conditions::keep_to_processor(number);
    }
    if setup.sandbox.is_some() {
        // Whoever started `verify` may have left something open: a descriptor leads past every list of paths.
        isolation::close_others([channel.as_fd()]);
    }
    let root = &setup.scratch_root;
    let made = scratch::make_root(root, &setup.stand_ins);
    let held = match made.and_then(|held| std::env::set_current_dir(root).map(|()| held)) {
        Ok(held) => held,
        Err(error) => {
            let answer = HostAnswer::NoRoot(error.to_string());
            // Who does not hear it sees this process end.
            let _ = protocol::send(&channel, &answer);
            return ExitCode::from(2);
        }
    };
    observe::start(root, &setup.known);
    let (channel, sandbox) = match &setup.sandbox {
        None => (channel, None),
        Some(wanted) => {
            let (channel, sandbox) = Sandbox::enter(channel, wanted, &setup.scratch_root);
            (channel, Some(sandbox))
        }
    };
    let mut entry: Entry = Some((channel, setup, sandbox, held));
    let options = std::env::args_os().skip(2).map(OsStringExt::into_vec);
    let arguments: Vec<CString> = std::iter::once(python.into_vec())
        .chain(options)
        .chain([b"-c".to_vec(), Vec::new()])
        .map(|argument| CString::new(argument).expect("arguments hold no NUL"))
        .collect();
    let mut argv: Vec<*mut c_char> = arguments
        .iter()
        .map(|argument| argument.as_ptr().cast_mut())
        .chain([std::ptr::null_mut()])
        .collect();
    let status = unsafe {
        // SAFETY: `entry` outlives the interpreter, which ends with `Py_BytesMain`.
        PySys_AddAuditHook(enter, (&raw mut entry).cast());
        let count = c_int::try_from(arguments.len()).expect("few arguments");
        Py_BytesMain(count, argv.as_mut_ptr())
    };
    observe::tell();
    // `Py_BytesMain` returns in sessions only; the status is what `python file.py` would exit with.
    std::process::exit(status)
}

/// The audit hook: enters the host when CPython is about to run `-c`; what else happens is observed.
extern "C" fn enter(
    event: *const c_char,
    arguments: *mut ffi::PyObject,
    data: *mut c_void,
) -> c_int {
    // SAFETY: this is CPython's audit machinery.
    unsafe { observe::audit(event, arguments) };
    // SAFETY: `data` is the `entry` of `main`; hooks run on the main thread until it has been taken.
    let entry = unsafe { &mut *data.cast::<Entry>() };
    if entry.is_none() {
        return 0;
    }
    // SAFETY: CPython passes a C string.
    if unsafe { CStr::from_ptr(event) } != c"cpython.run_command" {
        return 0;
    }
    let (channel, setup, sandbox, held) = entry.take().expect("checked above");
    serve::serve(channel, &setup, sandbox, held)
}

fn libpython_is_loaded() -> bool {
    // SAFETY: looks a name up, calls nothing.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"Py_BytesMain".as_ptr()) };
    !symbol.is_null()
}

/// The socket that came as standard input, moved out of the way; descriptor 0 becomes `/dev/null`.
fn take_channel() -> io::Result<UnixStream> {
    rustix::net::sockopt::socket_type(io::stdin().as_fd())?;
    let channel: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(channel))
}

#[allow(
    clippy::print_stderr,
    reason = "the one message of a program that was started wrongly"
)]
fn refuse(message: &str) -> ExitCode {
    eprintln!("verify-python: {message}");
    ExitCode::from(2)
}
