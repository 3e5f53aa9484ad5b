//! Source text to code, as CPython compiles a file; and the code that a session finds compiled.
//!
//! Compiling takes a process that has just been forked nearly twice as long as one that has compiled before: nothing
//! that the compiler touches is in its caches. So a host that is told what a session will run compiles it before it
//! forks the session, which finds the code in its memory. It is only what the session would have made itself: of a
//! source that is wrong, or that the compiler warns of, nothing is kept, and the session compiles that, and says so, at
//! its time.
//!
//! A source may make the compiler crash, or take for ever. A host to which that happens is lost, and its sessions run
//! again where each compiles for itself; so the first host, on which all others depend, is told nothing.

use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_int};
use std::path::Path;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};
use verify::protocol::{Form, Source};

// Exported by every libpython since 3.4, but outside the limited API that pyo3 declares.
unsafe extern "C" {
    fn Py_CompileStringObject(
        source: *const c_char,
        filename: *mut ffi::PyObject,
        start: c_int,
        flags: *mut CompilerFlags,
        optimize: c_int,
    ) -> *mut ffi::PyObject;
}

/// CPython's `PyCompilerFlags`.
#[repr(C)]
struct CompilerFlags {
    flags: c_int,
    feature_version: c_int,
}

/// CPython's `Py_single_input` and `Py_file_input`, from `compile.h`.
const SINGLE: c_int = 256;
const FILE: c_int = 257;

/// The source is text, in UTF-8 whatever it says of itself: flags of CPython's, from `compile.h`.
const IS_UTF8: c_int = 0x100;
const IGNORE_COOKIE: c_int = 0x800;
/// A flag that the `ast` module documents.
const ALLOW_TOP_LEVEL_AWAIT: c_int = 0x2000;

/// Compiles text as CPython compiles a file. `compile()` would tell audit hooks, and before its first code it
/// makes the classes of all syntax nodes, which takes longer than most examples. `None` for what C cannot read.
pub(crate) fn compile<'py>(
    py: Python<'py>,
    text: &str,
    path: &Path,
    form: Form,
    future_flags: c_int,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Ok(text) = CString::new(text) else {
        return Ok(None);
    };
    let path = PyString::new(py, &path.to_string_lossy());
    let (start, allowed) = match form {
        Form::Module => (FILE, 0),
        Form::Statement => (SINGLE, ALLOW_TOP_LEVEL_AWAIT),
    };
    let mut flags = CompilerFlags {
        flags: future_flags | allowed | IS_UTF8 | IGNORE_COOKIE,
        feature_version: 0,
    };
    let as_started = -1;
    // SAFETY: all are live for the call, which keeps only references of its own.
    unsafe {
        let code = Py_CompileStringObject(
            text.as_ptr(),
            path.as_ptr(),
            start,
            &raw mut flags,
            as_started,
        );
        Bound::from_owned_ptr_or_err(py, code).map(Some)
    }
}

/// The list that the compiler's warnings go by. `warnings` itself may not have been imported yet.
fn filters(py: Python<'_>) -> PyResult<&Bound<'_, PyList>> {
    static FILTERS: PyOnceLock<Py<PyList>> = PyOnceLock::new();
    let look_up = || -> PyResult<Py<PyList>> {
        Ok(py
            .import("_warnings")?
            .getattr("filters")?
            .cast_into()?
            .unbind())
    };
    Ok(FILTERS.get_or_try_init(py, look_up)?.bind(py))
}

/// Code of a session's examples, in their order.
#[derive(Default)]
pub(crate) struct Compiled(VecDeque<(Source, Py<PyAny>)>);

impl Compiled {
    /// Compiles what can be compiled without a word.
    pub(crate) fn of(py: Python<'_>, sources: Vec<Source>) -> Compiled {
        if sources.is_empty() {
            return Compiled::default();
        }
        let strictly = || -> PyResult<Compiled> {
            let filters = filters(py)?;
            let warning = py.get_type::<pyo3::exceptions::PyWarning>();
            filters.insert(0, ("error", py.None(), warning, py.None(), 0))?;
            let code = |source: Source| {
                let code = compile(py, &source.text, &source.path, source.form, 0);
                Some((source, code.ok()??.unbind()))
            };
            let compiled = sources.into_iter().filter_map(code).collect();
            filters.del_item(0)?;
            Ok(Compiled(compiled))
        };
        strictly().unwrap_or_default()
    }

    /// The code of this source, if it is there: what stands before it is not asked for any more. What was the host's
    /// is not freed, since the session would have to copy it first.
    pub(crate) fn take<'py>(
        &mut self,
        py: Python<'py>,
        text: &str,
        path: &Path,
        form: Form,
    ) -> Option<Bound<'py, PyAny>> {
        let is_it = |(source, _): &(Source, Py<PyAny>)| {
            source.form == form && source.text == text && source.path == path
        };
        let at = self.0.iter().position(is_it)?;
        let (source, code) = self.0.drain(..=at).next_back()?;
        std::mem::forget(source);
        Some(code.into_bound(py))
    }
}
