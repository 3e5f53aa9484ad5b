//! Copies of this process.

use std::io;

use pyo3::ffi;
use pyo3::prelude::*;
use rustix::process::Pid;

/// What became of a copy: `None` in it, its process elsewhere.
pub(crate) type Copied = io::Result<Option<Pid>>;

/// Without a word to Python.
pub(crate) fn fork() -> Copied {
    // SAFETY: the process has one thread, so its child is as good as itself.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// With what `os.fork` does around it, so that Python's locks and thread state are right in the copy, and what
/// modules have registered for a fork is done. `os.fork` itself looks through `/proc` for other threads as well.
pub(crate) fn fork_python(_: Python<'_>) -> Copied {
    // SAFETY: the interpreter is attached, and `fork` is called between these as they demand.
    unsafe {
        ffi::PyOS_BeforeFork();
        let copied = fork();
        match copied {
            Ok(None) => ffi::PyOS_AfterFork_Child(),
            Ok(Some(_)) | Err(_) => ffi::PyOS_AfterFork_Parent(),
        }
        copied
    }
}
