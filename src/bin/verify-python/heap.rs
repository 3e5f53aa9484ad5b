//! The objects of the host's heap, which sessions share, and the end of a session, which leaves them alone.
//!
//! A forked child shares the host's memory until it writes to it, and whoever visits an object writes to
//! it. Two things visit all of them: the garbage collector, and the shutdown of an interpreter, which
//! empties every module and costs more than most examples. So what the host has made stays frozen, out of
//! the collector's sight, until a session imports `gc`; and a session whose shutdown nobody could observe
//! ends without one.
//!
//! What can be observed of a shutdown, apart from exit handlers and threads, are finalizers: `__del__`,
//! generators that are closed, files that are flushed, callbacks of weak references. The last exit handler
//! to run is ours. It looks through what the session has made, which is little, and ends the process if it
//! finds nothing of the kind. Otherwise, and whenever it is in doubt, Python gets all of its objects back,
//! the standard streams among them, and shuts down as ever.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyList, PyType};
use rustc_hash::FxHashMap;

use crate::isolation;

/// Python's collector and exit handlers, held without leaving a trace in `sys.modules`. All is looked up before
/// an example can change what a name means.
pub(crate) struct Heap {
    sys: Py<PyModule>,
    collect: Py<PyAny>,
    freeze: Py<PyAny>,
    unfreeze: Py<PyAny>,
    get_objects: Py<PyAny>,
    register: Py<PyAny>,
    count_handlers: Py<PyAny>,
    count_threads: Py<PyAny>,
    weak_reference: Py<PyType>,
    count_weak_references: Py<PyAny>,
    /// Code that has run and that the host had made: to free it, a session would have to copy it first.
    spent: Mutex<Vec<Py<PyAny>>>,
}

impl Heap {
    /// Lives as long as the process: an `atexit` module that is freed takes all handlers with it.
    pub(crate) fn new(py: Python<'_>) -> PyResult<&'static Heap> {
        let gc = import_unseen(py, "gc")?;
        let atexit = import_unseen(py, "atexit")?;
        let function = |name: &str| Ok::<_, PyErr>(gc.getattr(name)?.unbind());
        let weakref = import_unseen(py, "_weakref")?;
        let weak_reference = weakref.getattr("ReferenceType")?;
        Ok(Box::leak(Box::new(Heap {
            sys: py.import("sys")?.unbind(),
            collect: function("collect")?,
            freeze: function("freeze")?,
            unfreeze: function("unfreeze")?,
            get_objects: function("get_objects")?,
            register: atexit.getattr("register")?.unbind(),
            count_handlers: atexit.getattr("_ncallbacks")?.unbind(),
            count_threads: import_unseen(py, "_thread")?.getattr("_count")?.unbind(),
            weak_reference: weak_reference.cast_into()?.unbind(),
            count_weak_references: weakref.getattr("getweakrefcount")?.unbind(),
            spent: Mutex::default(),
        })))
    }

    /// A function that says how many exit handlers there are.
    pub(crate) fn count_handlers(&self, py: Python<'_>) -> Py<PyAny> {
        self.count_handlers.clone_ref(py)
    }

    /// Sets apart what is alive now: it lives as long as the host.
    pub(crate) fn freeze(&self, py: Python<'_>) -> PyResult<()> {
        self.collect.call0(py)?;
        self.freeze.call0(py).map(drop)
    }

    /// Gives the host's objects back to the collector, and frees what was kept from being freed.
    pub(crate) fn unfreeze(&self, py: Python<'_>) -> PyResult<()> {
        let spent = std::mem::take(&mut *self.spent());
        // Unlocked: who watches a part of it may run code, and come here again.
        drop(spent);
        self.unfreeze.call0(py).map(drop)
    }

    /// Keeps code that has run from being freed, unless that is watched.
    pub(crate) fn keep(&self, code: Bound<'_, PyAny>) -> PyResult<()> {
        let watchers = self.count_weak_references.bind(code.py()).call1((&code,))?;
        if watchers.extract::<usize>()? == 0 {
            self.spent().push(code.unbind());
        }
        Ok(())
    }

    fn spent(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before any package or example: puts our exit handler in place, behind all that follow.
    pub(crate) fn end_quietly(&'static self, py: Python<'_>) -> PyResult<()> {
        let sys = self.sys.bind(py);
        // Their addresses, not the streams: a closure would keep them alive, and what is printed while Python
        // shuts down is flushed when they are freed.
        let streams =
            [sys.getattr("stdout")?, sys.getattr("stderr")?].map(|stream| stream.as_ptr() as usize);
        let loaded = count_libraries();
        let handler = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            let py = arguments.py();
            // A copy that the example forked ends with a status of its own.
            if isolation::is_session_head()
                && let Ok(true) = self.is_unobservable(py, streams)
            {
                crate::observe::tell();
                end_process(loaded);
            }
            self.unfreeze(py)
        })?;
        self.register.call1(py, (handler,)).map(drop)
    }

    /// After the last example: an example that has cleared all exit handlers has cleared ours.
    pub(crate) fn before_shutdown(&self, py: Python<'_>) -> PyResult<()> {
        if self.count_handlers.call0(py)?.extract::<usize>(py)? == 0 {
            self.unfreeze(py)?;
        }
        Ok(())
    }

    /// Whether nothing but time would be seen of the rest of the shutdown. Flushes the standard streams.
    fn is_unobservable(&self, py: Python<'_>, streams: [usize; 2]) -> PyResult<bool> {
        let sys = self.sys.bind(py);
        let modules = sys.getattr("modules")?;
        for name in ["gc", "_interpreters", "_xxsubinterpreters"] {
            // The session may have hidden objects from us, or has other interpreters that end first.
            if modules.contains(name)? {
                return Ok(false);
            }
        }
        let is_watched = !sys.call_method0("gettrace")?.is_none()
            || !sys.call_method0("getprofile")?.is_none()
            || self.count_threads.call0(py)?.extract::<usize>(py)? > 0;
        let current = [sys.getattr("stdout")?, sys.getattr("stderr")?];
        if is_watched || current.each_ref().map(|stream| stream.as_ptr() as usize) != streams {
            return Ok(false);
        }
        let objects: Bound<'_, PyList> = self.get_objects.bind(py).call0()?.cast_into()?;
        let mut kinds: FxHashMap<*mut ffi::PyTypeObject, Kind> = FxHashMap::default();
        for object in objects.iter() {
            let class = object.get_type_ptr();
            let kind = match kinds.get(&class) {
                Some(&kind) => kind,
                None => {
                    let kind = self.kind(&object.get_type())?;
                    kinds.insert(class, kind);
                    kind
                }
            };
            let is_quiet = match kind {
                Kind::Plain => true,
                Kind::Finalized => is_spent(&object)?,
                // Objects without a place for attributes are unknown to the collector; their class is not.
                Kind::Class => !has_finalizer(object.cast()?),
                Kind::WeakReference => is_without_effect(&object.getattr("__callback__")?)?,
            };
            if !is_quiet {
                return Ok(false);
            }
        }
        for stream in current {
            stream.call_method0("flush")?;
        }
        Ok(true)
    }

    fn kind(&self, class: &Bound<'_, PyType>) -> PyResult<Kind> {
        Ok(if has_finalizer(class) {
            Kind::Finalized
        } else if class.is_subclass_of::<PyType>()? {
            Kind::Class
        } else if class.is_subclass(self.weak_reference.bind(class.py()))? {
            Kind::WeakReference
        } else {
            Kind::Plain
        })
    }
}

/// A module that the interpreter has built in, without its entry in `sys.modules`.
fn import_unseen<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let was_there = modules.contains(name)?;
    let module = py.import(name)?;
    if !was_there {
        modules.del_item(name)?;
    }
    Ok(module)
}

/// Ends the process as `main` would, with C's own exit handlers; without them where they are the host's alone, which
/// only give back what the process has. So many libraries had been loaded in the host.
fn end_process(loaded: u64) -> ! {
    // SAFETY: both end the process, with what C's streams hold written.
    unsafe {
        if count_libraries() != loaded {
            libc::exit(0);
        }
        libc::fflush(std::ptr::null_mut());
        libc::_exit(0)
    }
}

/// How many libraries have been loaded into this process so far. Only one that is loaded later, or that is called by
/// `ctypes`, which is one itself, can have registered something for the end of the process since.
fn count_libraries() -> u64 {
    unsafe extern "C" fn look(
        object: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        count: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: both are live for the call; `count` is the number below.
        unsafe { *count.cast::<u64>() = (*object).dlpi_adds };
        // The first one tells of all.
        1
    }
    let mut count: u64 = 0;
    // SAFETY: calls `look` once.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut count).cast()) };
    count
}

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Finalized,
    Class,
    WeakReference,
}

fn has_finalizer(class: &Bound<'_, PyType>) -> bool {
    let class = class.as_type_ptr();
    // SAFETY: a live class; slots of classes that C code defines can be asked for since 3.10.
    unsafe {
        !ffi::PyType_GetSlot(class, ffi::Py_tp_finalize).is_null()
            || !ffi::PyType_GetSlot(class, ffi::Py_tp_del).is_null()
    }
}

/// What has a finalizer that has nothing left to do: a generator that has run to its end, a file that is closed
/// or only in memory.
fn is_spent(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = object.get_type();
    if class.module()? == "_io" {
        let name = class.name()?;
        return Ok(name == "StringIO"
            || name == "BytesIO"
            || object.getattr("closed")?.is_truthy()?);
    }
    Ok(class.name()? == "generator" && object.getattr("gi_frame")?.is_none())
}

/// Callbacks that only keep the books of a registry: those of C code, and those of weak dictionaries and sets.
fn is_without_effect(callback: &Bound<'_, PyAny>) -> PyResult<bool> {
    if callback.is_none() || callback.is_instance_of::<PyCFunction>() {
        return Ok(true);
    }
    if callback.get_type().name()? != "function" {
        return Ok(false);
    }
    let module = callback.getattr("__module__")?;
    Ok(module.eq("weakref")? || module.eq("_weakrefset")?)
}
