//! A session that imports a package and becomes a host: sessions that import it themselves are forked from there.
//!
//! Such a host is a child of the one that it was forked from, or of another one that has imported what the
//! package builds on, and shares what that has in memory. Like that one it runs no example. Unlike a session
//! it is not shut in, since it has to shut in what it forks: what it imports is trusted as far as the
//! interpreter is. So it refuses what does not belong to the installed packages.
//!
//! What a fork does not copy must not be there: a package that starts a thread or opens a file is
//! imported by each session itself, and so is one whose import does what a session would miss or would find
//! before its own import. See `preload/snapshot.py` for what is looked at.

use std::ffi::c_int;
use std::os::unix::net::UnixStream;

use pyo3::prelude::*;
use verify::protocol::{self, Report, Snapshot};

use crate::checkpoint::State;
use crate::observe;
use crate::preload::Imported;
use crate::serve::{Forked, Warm};
use crate::unit::Interpreter;

/// Imports the package, if there is one, says what came of it, and serves; returns in sessions only.
pub(crate) fn become_host(
    py: Python<'_>,
    forked: Forked,
    warm: Warm,
    package: Option<&str>,
) -> c_int {
    let seal = forked.setup.seal;
    let ready = forked
        .take_over_streams()
        .and_then(|()| std::env::set_current_dir(&forked.setup.scratch));
    let control = UnixStream::from(forked.control);
    drop((forked.stdout, forked.stderr, forked.passing));
    let imported = ready.map_err(PyErr::from).and_then(|()| match package {
        Some(package) => import(py, warm, package),
        None => Ok((warm, Ok(Vec::new()))),
    });
    let (warm, answer) = match imported {
        Ok((warm, Ok(packages))) => (Some(warm), Snapshot::Ready { packages }),
        Ok((_, Err(reason))) => (None, Snapshot::Unfit { reason }),
        Err(error) => {
            let reason = format!("it cannot be imported ({error})");
            (None, Snapshot::Unfit { reason })
        }
    };
    let told = protocol::send_sealed(&control, seal, &Report::Snapshot(answer));
    match warm {
        Some(warm) if told.is_ok() => warm.serve(py, control, |_| ()),
        // SAFETY: ends the process, and with it whatever the package has begun.
        _ => unsafe { libc::_exit(0) },
    }
}

/// The packages that are in store now, or why this process cannot serve.
fn import(
    py: Python<'_>,
    warm: Warm,
    package: &str,
) -> PyResult<(Warm, Result<Vec<String>, String>)> {
    // Its directories are the only ones that code may come from; without a sandbox, any.
    let trusted = warm.sandbox.is_some().then(observe::known_directories);
    let path = py.import("sys")?.getattr("path")?;
    if path.get_item(0)?.eq("")? {
        // Where each session has its own directory.
        path.del_item(0)?;
    }
    observe::begin_host();
    let state = State::now();
    let Imported {
        preloaded,
        packages,
        fault,
    } = warm.interpreter.preloaded.import(py, package, trusted)?;
    let fault = fault
        .or_else(|| Some(format!("behind its import {}", state.what_a_fork_lacks()?)))
        .or_else(observe::traces);
    let warm = Warm {
        interpreter: Interpreter::new(py, preloaded)?,
        ..warm
    };
    warm.heap.freeze(py)?;
    Ok((warm, fault.map_or(Ok(packages), Err)))
}
