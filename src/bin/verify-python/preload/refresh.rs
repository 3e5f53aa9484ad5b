//! State that a module computes when it is imported, and that no two sessions may share, such as the time that logging
//! began or a seed: it is computed again for each.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::code::PyCodeInput;
use pyo3::types::{PyCode, PyCodeMethods, PyDict};

use super::Preloaded;

/// Code that brings a module's import-time state up to date, run in its namespace.
pub(super) const REFRESH: &[(&str, When, &CStr)] = &[
    (
        "logging",
        When::Imported,
        c"_startTime = time.time_ns() if isinstance(_startTime, int) else time.time()",
    ),
    // Its main thread is the session's.
    (
        "threading",
        When::Imported,
        c"_after_fork()\nif _HAVE_THREAD_NATIVE_ID: _main_thread._set_native_id()",
    ),
    // The generators behind `random.random()` and `numpy.random.rand()`, seeded by the operating system.
    ("random", When::Forked, c"_inst.seed()"),
    ("numpy.random.mtrand", When::Forked, c"_rand.__init__()"),
];

/// When that is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// What it depends on is another thing each time.
    Imported,
    /// By the host before each fork, since it does not matter when, and a session would have to copy all that it needs.
    Forked,
}

pub(super) fn compiled(py: Python<'_>, code: &CStr) -> PyResult<Py<PyCode>> {
    PyCode::compile(py, code, c"<refresh>", PyCodeInput::File).map(Bound::unbind)
}

impl Preloaded {
    /// What is to be done in a session before its first example.
    pub(crate) fn begin_session(&self, py: Python<'_>) -> PyResult<()> {
        let run = |(code, module): &(Py<PyCode>, Py<PyDict>)| {
            code.bind(py).run(Some(module.bind(py)), None).map(drop)
        };
        self.loaded_early.iter().try_for_each(run)
    }

    /// What is to be done in the host before a fork.
    pub(crate) fn renew(&self, py: Python<'_>) -> PyResult<()> {
        for name in &self.renewed {
            let stored = &self.modules[name];
            if let Some((_, code)) = &stored.refresh {
                stored.run(py, code)?;
            }
        }
        Ok(())
    }
}
