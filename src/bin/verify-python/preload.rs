//! Modules that the host imports once and hands to a session when an example imports them.
//!
//! Importing costs more than most examples. So modules that several sessions will want are imported
//! before the first fork, and then **taken out of `sys.modules` again**: an example sees them only once
//! it has imported them itself, together with just the modules that they bring along. For that the
//! tracer in `preload.py` notes what each one imported while it was loaded.
//!
//! The hand-over happens in place of importlib's own `_find_and_load`, which every way to import ends
//! in, by a built-in function that leaves no frame. It steps aside wherever a plain import might do
//! something else: a file in the session's directory that shadows a module, finders that the example put
//! in, a dependency that was replaced.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyList, PyTuple};

use crate::heap::Heap;

const TRACER: &str = include_str!("preload.py");

/// Modules in store, and what it takes to hand them out.
pub(crate) struct Preloaded {
    modules: HashMap<String, Stored>,
    /// Directories on `sys.path` below which the standard library begins; what stands before can shadow.
    library: Vec<String>,
    finders: Vec<usize>,
    /// Whoever imports `gc` is to see all objects.
    heap: &'static Heap,
    /// Modules that the session has been given; taken out of `sys.modules`, they are imported afresh.
    given: Mutex<HashSet<String>>,
    /// Modules that Python itself had loaded when the host began.
    at_start: HashSet<String>,
}

struct Stored {
    module: Py<PyAny>,
    /// What it imported while it was loaded, in that order.
    imports: Vec<String>,
    /// An attribute of its package that importing it sets.
    in_package: Option<(String, String)>,
    /// State that the module computes when it is imported, to be computed again.
    refresh: Option<&'static str>,
}

/// Code that brings a module's import-time state up to date, run in its namespace.
const REFRESH: &[(&str, &str)] = &[(
    "logging",
    "_startTime = time.time_ns() if isinstance(_startTime, int) else time.time()",
)];

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
) -> PyResult<Preloaded> {
    unload_others(py, &at_start)?;
    let mut preloaded = Preloaded {
        modules: HashMap::new(),
        library: library(py)?,
        finders: finders(py)?,
        heap,
        given: Mutex::default(),
        at_start,
    };
    if names.is_empty() {
        return Ok(preloaded);
    }
    let namespace = PyDict::new(py);
    let source = CString::new(TRACER).expect("our source holds no NUL");
    py.run(&source, Some(&namespace), None)?;
    let traced: Bound<'_, PyDict> = namespace
        .get_item("preload")?
        .expect("preload.py defines it")
        .call1((PyList::new(py, names)?,))?
        .cast_into()?;
    for (name, entry) in &traced {
        let name: String = name.extract()?;
        let (module, imports, in_package): (Py<PyAny>, Vec<String>, Option<(String, String)>) =
            entry.extract()?;
        let refresh = REFRESH
            .iter()
            .find(|(module, _)| *module == name)
            .map(|(_, code)| *code);
        preloaded.modules.insert(
            name,
            Stored {
                module,
                imports,
                in_package,
                refresh,
            },
        );
    }
    Ok(preloaded)
}

/// Of these modules, those that an `import` would find. Nothing is imported but packages of dotted names.
pub(crate) fn probe(py: Python<'_>, names: &[String]) -> PyResult<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let namespace = PyDict::new(py);
    let source = CString::new(TRACER).expect("our source holds no NUL");
    py.run(&source, Some(&namespace), None)?;
    namespace
        .get_item("probe")?
        .expect("preload.py defines it")
        .call1((PyList::new(py, names)?,))?
        .extract()
}

fn library(py: Python<'_>) -> PyResult<Vec<String>> {
    let sys = py.import("sys")?;
    let path: Vec<String> = sys.getattr("path")?.extract()?;
    Ok(path.into_iter().filter(|entry| !entry.is_empty()).collect())
}

/// Each finder by its address. Not by pyo3's iterator: asked for its length, that imports `operator`.
fn finders(py: Python<'_>) -> PyResult<Vec<usize>> {
    let finders: Bound<'_, PyList> = py.import("sys")?.getattr("meta_path")?.cast_into()?;
    Ok(finders
        .iter()
        .map(|finder| finder.as_ptr() as usize)
        .collect())
}

impl Preloaded {
    /// Puts the hand-over in place, in a forked child.
    pub(crate) fn install(
        self,
        py: Python<'_>,
        session_file: &Rc<RefCell<Option<String>>>,
    ) -> PyResult<()> {
        unload_others(py, &self.at_start)?;
        let importlib = py.import("_frozen_importlib")?;
        let find_and_load = importlib.getattr("_find_and_load")?.unbind();
        let modules: Py<PyAny> = py.import("sys")?.getattr("modules")?.unbind();
        // Sessions have one interpreter and are left, like it, to the end of the process.
        let shared = Shared(session_file.clone());
        let hook =
            PyCFunction::new_closure(py, Some(c"_find_and_load"), None, move |arguments, _| {
                let py = arguments.py();
                let shared = &shared;
                let name: String = arguments.get_item(0)?.extract()?;
                if let Some(module) = self.hand_over(py, modules.bind(py), &name)? {
                    return Ok::<Py<PyAny>, PyErr>(module);
                }
                if name == "gc" {
                    self.heap.unfreeze(py)?;
                }
                let module = find_and_load.bind(py).call1(arguments.clone())?;
                if name == "multiprocessing.spawn" {
                    point_spawn_at_the_session(&module, &shared.0)?;
                }
                Ok(module.unbind())
            })?;
        importlib.setattr("_find_and_load", hook)
    }

    fn hand_over(
        &self,
        py: Python<'_>,
        modules: &Bound<'_, PyAny>,
        name: &str,
    ) -> PyResult<Option<Py<PyAny>>> {
        if !self.modules.contains_key(name) || self.was_given(name) {
            return Ok(None);
        }
        let mut wanted = Vec::new();
        let mut seen = HashSet::new();
        if !self.collect(modules, name, &mut wanted, &mut seen)?
            || !self.nothing_interferes(py, &wanted)?
        {
            return Ok(None);
        }
        for name in &wanted {
            let stored = &self.modules[*name];
            modules.set_item(name, &stored.module)?;
            self.given
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((*name).to_owned());
            if *name == "gc" {
                self.heap.unfreeze(py)?;
            }
            if let Some((package, attribute)) = &stored.in_package {
                modules
                    .get_item(package)?
                    .setattr(attribute.as_str(), &stored.module)?;
            }
            if let Some(code) = stored.refresh {
                let namespace: Bound<'_, PyDict> =
                    stored.module.bind(py).getattr("__dict__")?.cast_into()?;
                let code = CString::new(code).expect("our source holds no NUL");
                py.run(&code, Some(&namespace), None)?;
            }
        }
        Ok(Some(self.modules[name].module.clone_ref(py)))
    }

    fn was_given(&self, name: &str) -> bool {
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(name)
    }

    /// Lists what importing `name` adds, in the order in which a plain import would. False if a module
    /// that it was built on has been replaced.
    fn collect<'a>(
        &'a self,
        modules: &Bound<'_, PyAny>,
        name: &'a str,
        wanted: &mut Vec<&'a str>,
        seen: &mut HashSet<&'a str>,
    ) -> PyResult<bool> {
        let Some(stored) = self.modules.get(name) else {
            return Ok(true);
        };
        if !seen.insert(name) {
            return Ok(true);
        }
        // A package comes before what is in it, whoever imported it when the module was loaded.
        if let Some((package, _)) = name.rsplit_once('.') {
            let stands = self.collect(modules, package, wanted, seen)?;
            if !stands || !(wanted.contains(&package) || modules.contains(package)?) {
                return Ok(false);
            }
        }
        match modules.get_item(name) {
            Ok(present) if !present.is(&stored.module) => return Ok(false),
            Ok(_) => {}
            Err(_) if self.was_given(name) => return Ok(false),
            Err(_) => wanted.push(name),
        }
        for import in &stored.imports {
            if !self.collect(modules, import, wanted, seen)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a plain import would find just these modules where they were found before.
    fn nothing_interferes(&self, py: Python<'_>, wanted: &[&str]) -> PyResult<bool> {
        if finders(py).ok().as_ref() != Some(&self.finders) {
            return Ok(false);
        }
        let path: Vec<String> = match py.import("sys")?.getattr("path")?.extract() {
            Ok(path) => path,
            Err(_) => return Ok(false),
        };
        // The usual case is one directory, the session's own, before those of the interpreter.
        let own: Vec<&String> = path
            .iter()
            .take_while(|entry| !self.library.contains(entry))
            .collect();
        let rest = &path[own.len()..];
        if rest.len() < self.library.len() || rest[..self.library.len()] != self.library[..] {
            return Ok(false);
        }
        let names: HashSet<&str> = wanted
            .iter()
            .map(|name| name.split('.').next().unwrap_or(name))
            .collect();
        Ok(!own
            .iter()
            .any(|directory| shadows(Path::new(directory), &names)))
    }
}

/// Whether a file or directory there could be found in place of one of these modules.
fn shadows(directory: &Path, names: &HashSet<&str>) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        // A zip file or a relative path after a change of directory: leave it to Python.
        return directory.exists();
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        names.contains(name.split('.').next().unwrap_or(&name))
    })
}

/// A cell that only the session's one interpreter touches, and only while it holds the GIL.
struct Shared(Rc<RefCell<Option<String>>>);
// SAFETY: see above; pyo3 asks for `Send` since a built-in function could be called from any thread,
// and every such call holds the GIL.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

/// Spawned children run the parent's main file again to find its functions. For them that is all of
/// the session so far, not just the example that started them.
fn point_spawn_at_the_session(
    spawn: &Bound<'_, PyAny>,
    session_file: &Rc<RefCell<Option<String>>>,
) -> PyResult<()> {
    const WHAT: &str = "get_preparation_data";
    let py = spawn.py();
    let original = spawn.getattr(WHAT)?.unbind();
    let shared = Shared(session_file.clone());
    let wrapper = PyCFunction::new_closure(
        py,
        Some(c"get_preparation_data"),
        None,
        move |arguments: &Bound<'_, PyTuple>, keywords: Option<&Bound<'_, PyDict>>| {
            let py = arguments.py();
            let shared = &shared;
            let data = original.bind(py).call(arguments.clone(), keywords)?;
            if let Some(path) = shared.0.borrow().as_ref()
                && data.contains("init_main_from_path")?
            {
                data.set_item("init_main_from_path", path)?;
            }
            Ok::<Py<PyAny>, PyErr>(data.unbind())
        },
    )?;
    spawn.setattr(WHAT, wrapper)
}
