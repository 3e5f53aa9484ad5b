//! Modules that the host imports once and hands to a session when an example imports them.
//!
//! Importing costs more than most examples. So modules that several sessions will want are imported
//! before the first fork, and then **taken out of `sys.modules` again**: an example sees them only once
//! it has imported them itself, together with just the modules that they bring along. For that the
//! tracer in `preload.py` notes what each one imported while it was loaded.
//!
//! | module | holds |
//! |---|---|
//! | [`import`] | importing modules into the store, traced |
//! | [`refresh`] | state that a module computes at its import, computed again |
//! | [`reach`] | what importing a module brings along |
//! | [`hand_over`] | the hand-over in place of a plain import |
//! | [`interference`] | what could make a plain import do something else |

mod hand_over;
mod import;
mod interference;
mod reach;
mod refresh;

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyCode, PyCodeMethods, PyDict, PyList, PyString};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::heap::Heap;
use import::tracer;
use interference::{finders, library};
use reach::Reached;
use refresh::{REFRESH, When, compiled};

pub(crate) use import::{Imported, probe};

/// What every way to import ends in.
const FIND_AND_LOAD: &str = "_find_and_load";

/// Modules in store, and what it takes to hand them out.
pub(crate) struct Preloaded {
    modules: FxHashMap<String, Stored>,
    /// Directories on `sys.path` below which the standard library begins; what stands before can shadow.
    library: Vec<OsString>,
    /// The finders that are expected, those included that handed over packages have brought.
    finders: Mutex<Vec<usize>>,
    /// Modules that packages may have imported and that were there before.
    below: Vec<(String, Py<PyAny>)>,
    /// How many packages were imported one by one.
    generation: usize,
    /// The variables under which that was done.
    environment: Option<Vec<(OsString, OsString)>>,
    /// Whoever imports `gc` is to see all objects.
    pub(crate) heap: &'static Heap,
    /// Looked up once: to import it again is many steps, and each import that is looked into would do so.
    sys: Py<PyModule>,
    register_at_fork: Py<PyAny>,
    /// Python's own way to import.
    find_and_load: Py<PyAny>,
    /// What was asked for by name so far.
    asked: Vec<String>,
    reached: Reached,
    /// Modules with something to do before each fork.
    renewed: Vec<String>,
    /// What is to be done in each session for modules that Python itself had loaded: code, and whose.
    loaded_early: Vec<(Py<PyCode>, Py<PyDict>)>,
    /// Modules that the session has been given; taken out of `sys.modules`, they are imported afresh.
    given: Mutex<FxHashSet<&'static str>>,
    /// Modules that Python itself had loaded when the host began.
    at_start: HashSet<String>,
}

struct Stored {
    /// Its name, as the key of `sys.modules` that it is.
    key: Py<PyString>,
    module: Py<PyAny>,
    /// What it imported while it was loaded, in that order.
    imports: Vec<String>,
    /// An attribute of its package that importing it sets.
    in_package: Option<(String, String)>,
    /// What its code put into registries of Python's.
    effects: Vec<Effect>,
    /// Arguments with which it called `os.register_at_fork`.
    at_fork: Vec<Py<PyDict>>,
    /// State that the module computes when it is imported, to be computed again.
    refresh: Option<(When, Py<PyCode>)>,
    /// Whether it is in the process for good: a package's extension modules cannot be loaded twice.
    is_package: bool,
}

impl Stored {
    /// Runs code in the module's namespace.
    fn run(&self, py: Python<'_>, code: &Py<PyCode>) -> PyResult<()> {
        let namespace: Bound<'_, PyDict> = self.module.bind(py).getattr("__dict__")?.cast_into()?;
        code.bind(py).run(Some(&namespace), None).map(drop)
    }
}

/// Something that a module puts into a registry of Python's when it is imported.
struct Effect {
    registry: Registry,
    /// Which of the imports that packages were put in store by did so, and its place among all that this put there.
    order: (usize, i64),
    /// At the end, not in front.
    is_appended: bool,
    item: Py<PyAny>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Registry {
    /// `warnings.filters`
    Filters,
    /// `sys.meta_path`
    Finders,
}

/// Names of the modules that are loaded.
pub(crate) fn loaded(py: Python<'_>) -> PyResult<HashSet<String>> {
    let modules = py.import("sys")?.getattr("modules")?;
    // A copy, since asking pyo3 for an iterator may itself import.
    let names = modules.call_method0("copy")?;
    names.try_iter()?.map(|name| name?.extract()).collect()
}

/// Takes out of `sys.modules` what our own work has brought in: no script would find it there.
fn unload_others(py: Python<'_>, at_start: &HashSet<String>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    for name in loaded(py)?.difference(at_start) {
        modules.del_item(name)?;
    }
    Ok(())
}

/// Imports what is asked for and puts it in store.
pub(crate) fn preload(
    py: Python<'_>,
    names: &[String],
    heap: &'static Heap,
    at_start: HashSet<String>,
) -> PyResult<&'static Preloaded> {
    unload_others(py, &at_start)?;
    let sys = py.import("sys")?;
    let mut loaded_early = Vec::new();
    for (module, _, code) in REFRESH
        .iter()
        .filter(|(_, when, _)| *when == When::Imported)
    {
        if at_start.contains(*module) {
            let module = py.import(*module)?.dict().unbind();
            loaded_early.push((compiled(py, code)?, module));
        }
    }
    let mut preloaded = Preloaded {
        modules: FxHashMap::default(),
        library: library(py)?,
        finders: Mutex::new(finders(&sys)?),
        below: Vec::new(),
        generation: 0,
        environment: None,
        heap,
        sys: sys.clone().unbind(),
        register_at_fork: py.import("posix")?.getattr("register_at_fork")?.unbind(),
        find_and_load: importlib(py)?.getattr(FIND_AND_LOAD)?.unbind(),
        asked: names.to_owned(),
        reached: Reached::default(),
        renewed: Vec::new(),
        loaded_early,
        given: Mutex::default(),
        at_start,
    };
    if !names.is_empty() {
        let namespace = tracer(py)?;
        let preload = namespace.get_item("preload")?;
        let (traced, _): (Bound<'_, PyDict>, Bound<'_, PyDict>) = preload
            .expect("preload.py defines it")
            .call1((PyList::new(py, names)?,))?
            .extract()?;
        preloaded.store(&traced)?;
    }
    Ok(preloaded.leak())
}

fn importlib(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("_frozen_importlib")
}

impl Preloaded {
    /// Sessions have one interpreter and are left, like it, to the end of the process.
    fn leak(self) -> &'static Preloaded {
        let preloaded: &'static Preloaded = Box::leak(Box::new(self));
        for name in &preloaded.asked {
            preloaded.reach(name);
        }
        preloaded
    }

    /// The same store, of which nothing has been given.
    fn copy(&self, py: Python<'_>) -> Preloaded {
        let copy = |(name, stored): (&String, &Stored)| {
            let effects = stored.effects.iter().map(|effect| Effect {
                item: effect.item.clone_ref(py),
                ..*effect
            });
            let stored = Stored {
                key: stored.key.clone_ref(py),
                module: stored.module.clone_ref(py),
                imports: stored.imports.clone(),
                in_package: stored.in_package.clone(),
                effects: effects.collect(),
                at_fork: (stored.at_fork.iter())
                    .map(|handlers| handlers.clone_ref(py))
                    .collect(),
                refresh: (stored.refresh.as_ref()).map(|(when, code)| (*when, code.clone_ref(py))),
                is_package: stored.is_package,
            };
            (name.clone(), stored)
        };
        Preloaded {
            modules: self.modules.iter().map(copy).collect(),
            library: self.library.clone(),
            finders: Mutex::new(lock(&self.finders).clone()),
            below: Vec::new(),
            generation: self.generation,
            environment: self.environment.clone(),
            heap: self.heap,
            sys: self.sys.clone_ref(py),
            register_at_fork: self.register_at_fork.clone_ref(py),
            find_and_load: self.find_and_load.clone_ref(py),
            asked: self.asked.clone(),
            reached: Reached::default(),
            renewed: self.renewed.clone(),
            loaded_early: (self.loaded_early.iter())
                .map(|(code, module)| (code.clone_ref(py), module.clone_ref(py)))
                .collect(),
            given: Mutex::default(),
            at_start: self.at_start.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
