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
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{CStr, CString, OsString};
use std::mem::MaybeUninit;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::code::PyCodeInput;
use pyo3::types::{PyCFunction, PyCode, PyCodeMethods, PyDict, PyList, PyString, PyTuple};

use rustc_hash::{FxHashMap, FxHashSet};
use rustix::fs::{Mode, OFlags, RawDir};

use crate::heap::Heap;
use crate::observe;

const TRACER: &str = include_str!("preload.py");
const SNAPSHOT: &str = include_str!("snapshot.py");

/// What every way to import ends in.
const FIND_AND_LOAD: &str = "_find_and_load";

/// Modules in store, and what it takes to hand them out.
pub(crate) struct Preloaded {
    modules: FxHashMap<String, Stored>,
    /// Directories on `sys.path` below which the standard library begins; what stands before can shadow.
    library: Vec<String>,
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

/// As `snapshot.py` gives them: by module the registry, the order, whether it is appended, and the item.
type TracedEffects = HashMap<String, Vec<(String, i64, bool, Py<PyAny>)>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Registry {
    /// `warnings.filters`
    Filters,
    /// `sys.meta_path`
    Finders,
}

/// What can be done for an import.
enum HandOver {
    Given(Py<PyAny>),
    /// Python's own way.
    Plain,
    /// What this process holds of the package is not what a plain import would make of it now.
    Untrue(String),
}

/// A module in store, with its name: a package brings hundreds, of which each session asks for every one.
type Entry = (&'static str, &'static Stored);

/// What importing a module brings along, itself included, where nothing of it was imported before.
#[derive(Default)]
struct Reach {
    /// In the order in which a plain import would: a module takes its place when its code has run to the end.
    order: Vec<Entry>,
    /// Packages of these that are not in store, and so have to be there.
    outside: FxHashSet<&'static str>,
    needs_package: bool,
}

/// Code that brings a module's import-time state up to date, run in its namespace.
const REFRESH: &[(&str, When, &CStr)] = &[
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
enum When {
    /// What it depends on is another thing each time.
    Imported,
    /// By the host before each fork, since it does not matter when, and a session would have to copy all that it needs.
    Forked,
}

fn compiled(py: Python<'_>, code: &CStr) -> PyResult<Py<PyCode>> {
    PyCode::compile(py, code, c"<refresh>", PyCodeInput::File).map(Bound::unbind)
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

/// What importing a package in a host has shown.
pub(crate) struct Imported {
    pub(crate) preloaded: &'static Preloaded,
    /// Top-level modules outside the standard library that are in store now.
    pub(crate) packages: Vec<String>,
    /// What a session that is given the package would miss, or would find before.
    pub(crate) fault: Option<String>,
}

/// The functions of `preload.py`.
fn tracer(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let namespace = PyDict::new(py);
    let source = CString::new(TRACER).expect("our source holds no NUL");
    py.run(&source, Some(&namespace), None)?;
    Ok(namespace)
}

/// Of these modules, those that an `import` would find. Nothing is imported but packages of dotted names.
pub(crate) fn probe(py: Python<'_>, names: &[String]) -> PyResult<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    tracer(py)?
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
fn finders(sys: &Bound<'_, PyModule>) -> PyResult<Vec<usize>> {
    let finders: Bound<'_, PyList> = sys.getattr("meta_path")?.cast_into()?;
    Ok(finders
        .iter()
        .map(|finder| finder.as_ptr() as usize)
        .collect())
}

impl Preloaded {
    /// Takes in what the tracer has found.
    fn store(&mut self, traced: &Bound<'_, PyDict>) -> PyResult<()> {
        for (name, entry) in traced {
            let key = name.cast_into::<PyString>()?.unbind();
            let name = key.to_str(traced.py())?.to_owned();
            let (module, imports, in_package, at_fork) = entry.extract()?;
            let refresh = REFRESH.iter().find(|(module, ..)| *module == name);
            let refresh = refresh
                .map(|(_, when, code)| Ok::<_, PyErr>((*when, compiled(traced.py(), code)?)));
            let refresh = refresh.transpose()?;
            if let Some((When::Forked, _)) = refresh {
                self.renewed.push(name.clone());
            }
            self.modules.insert(
                name,
                Stored {
                    key,
                    module,
                    imports,
                    in_package,
                    effects: Vec::new(),
                    at_fork,
                    refresh,
                    is_package: false,
                },
            );
        }
        Ok(())
    }

    /// Imports one more package into the store.
    /// Code that is not below `trusted` is not run.
    pub(crate) fn import(
        &'static self,
        py: Python<'_>,
        name: &str,
        trusted: Option<Vec<String>>,
    ) -> PyResult<Imported> {
        let variables = environment();
        let namespace = tracer(py)?;
        let source = CString::new(SNAPSHOT).expect("our source holds no NUL");
        py.run(&source, Some(&namespace), None)?;
        importlib(py)?.setattr(FIND_AND_LOAD, &self.find_and_load)?;
        let store = PyDict::new(py);
        for (name, stored) in &self.modules {
            store.set_item(name, (&stored.module, &stored.in_package))?;
        }
        let give = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            let py = arguments.py();
            let name: String = arguments.get_item(0)?.extract()?;
            let modules: Bound<'_, PyDict> = py.import("sys")?.getattr("modules")?.cast_into()?;
            let missing = self.missing(&modules, &self.reach(&name))?;
            self.give(py, &modules, &missing.unwrap_or_default())
        })?;
        let (traced, effects, faults): (
            Bound<'_, PyDict>,
            TracedEffects,
            BTreeMap<String, String>,
        ) = namespace
            .get_item("snapshot")?
            .expect("snapshot.py defines it")
            .call1((
                name,
                store,
                give,
                namespace.get_item("preload")?,
                self.heap.count_handlers(py),
                trusted,
            ))?
            .extract()?;
        let mut preloaded = self.copy(py);
        preloaded.generation += 1;
        preloaded.asked.push(name.to_owned());
        let generation = preloaded.generation;
        let modules = py.import("sys")?.getattr("modules")?;
        for name in &preloaded.at_start {
            let module = modules.get_item(name)?.unbind();
            preloaded.below.push((name.clone(), module));
        }
        preloaded.environment = Some(environment());
        preloaded.store(&traced)?;
        for (module, effects) in effects {
            if let Some(stored) = preloaded.modules.get_mut(&module) {
                stored.effects.extend(effects.into_iter().map(
                    |(kind, order, is_appended, item)| Effect {
                        registry: match kind.as_str() {
                            "filter" => Registry::Filters,
                            _ => Registry::Finders,
                        },
                        order: (generation, order),
                        is_appended,
                        item,
                    },
                ));
            }
        }
        let library: HashSet<String> = py
            .import("sys")?
            .getattr("stdlib_module_names")?
            .extract()?;
        let top = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        let mut packages = BTreeSet::new();
        for (name, stored) in &mut preloaded.modules {
            let top = top(name);
            if !library.contains(&top) {
                stored.is_package = true;
                packages.insert(top);
            }
        }
        let own = top(name);
        let fault = match faults.get(&own) {
            Some(fault) => Some(fault.clone()),
            None => faults
                .iter()
                .next()
                .map(|(other, fault)| format!("it imports `{other}`: {fault}")),
        };
        let is_changed = environment() != variables;
        Ok(Imported {
            preloaded: preloaded.leak(),
            packages: packages.into_iter().collect(),
            fault: fault.or(is_changed.then(|| "it changes environment variables".to_owned())),
        })
    }

    /// Sessions have one interpreter and are left, like it, to the end of the process.
    fn leak(self) -> &'static Preloaded {
        let preloaded: &'static Preloaded = Box::leak(Box::new(self));
        for name in &preloaded.asked {
            preloaded.reach(name);
        }
        preloaded
    }

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

    /// Puts the hand-over in place.
    pub(crate) fn install(
        &'static self,
        py: Python<'_>,
        session_file: &Rc<RefCell<Option<String>>>,
    ) -> PyResult<()> {
        unload_others(py, &self.at_start)?;
        let modules: Bound<'_, PyDict> = self.sys.bind(py).getattr("modules")?.cast_into()?;
        let modules = modules.unbind();
        let shared = Shared(session_file.clone());
        let hook =
            PyCFunction::new_closure(py, Some(c"_find_and_load"), None, move |arguments, _| {
                let py = arguments.py();
                let shared = &shared;
                let name: String = arguments.get_item(0)?.extract()?;
                match self.hand_over(py, modules.bind(py), &name)? {
                    HandOver::Given(module) => return Ok::<Py<PyAny>, PyErr>(module),
                    HandOver::Untrue(reason) => observe::give_up(reason),
                    HandOver::Plain => {}
                }
                if name == "gc" {
                    self.heap.unfreeze(py)?;
                }
                let module = self.find_and_load.bind(py).call1(arguments.clone())?;
                if name == "multiprocessing.spawn" {
                    point_spawn_at_the_session(&module, &shared.0)?;
                }
                Ok(module.unbind())
            })?;
        importlib(py)?.setattr(FIND_AND_LOAD, hook)
    }

    fn hand_over(
        &'static self,
        py: Python<'_>,
        modules: &Bound<'_, PyDict>,
        name: &str,
    ) -> PyResult<HandOver> {
        if !self.modules.contains_key(name) || self.was_given(name) {
            return Ok(HandOver::Plain);
        }
        let reach = self.reach(name);
        let needs_package = reach.needs_package;
        let missing = self.missing(modules, &reach)?;
        let obstacle = match &missing {
            Ok(missing) => self.what_interferes(py, modules, missing, needs_package)?,
            Err(replaced) => Some(format!("`{replaced}` was replaced")),
        };
        match obstacle {
            None => {
                self.give(py, modules, &missing.unwrap_or_default())?;
                let module = self.modules[name].module.clone_ref(py);
                Ok(HandOver::Given(module))
            }
            Some(obstacle) if needs_package => {
                Ok(HandOver::Untrue(format!("`import {name}`: {obstacle}")))
            }
            Some(_) => Ok(HandOver::Plain),
        }
    }

    /// Puts modules in place as if they had been imported one after the other.
    fn give(&self, py: Python<'_>, modules: &Bound<'_, PyDict>, wanted: &[Entry]) -> PyResult<()> {
        for &(name, stored) in wanted {
            modules.set_item(&stored.key, &stored.module)?;
            lock(&self.given).insert(name);
            if name == "gc" {
                self.heap.unfreeze(py)?;
            }
            if let Some((package, attribute)) = &stored.in_package {
                // The package may be among those that are yet to come.
                let package = match self.modules.get(package) {
                    Some(package) => package.module.bind(py).clone(),
                    None => present(modules, package)?,
                };
                package.setattr(attribute.as_str(), &stored.module)?;
            }
            for handlers in &stored.at_fork {
                let register = self.register_at_fork.bind(py);
                register.call((), Some(handlers.bind(py)))?;
            }
            if let Some((When::Imported, code)) = &stored.refresh {
                stored.run(py, code)?;
            }
        }
        self.replay(py, modules, wanted)
    }

    /// Puts into Python's registries what these modules put there.
    fn replay(
        &self,
        py: Python<'_>,
        modules: &Bound<'_, PyDict>,
        wanted: &[Entry],
    ) -> PyResult<()> {
        let effects = wanted.iter().flat_map(|(_, stored)| &stored.effects);
        let mut effects: Vec<&Effect> = effects.collect();
        effects.sort_by_key(|effect| effect.order);
        for effect in effects {
            let list = match effect.registry {
                Registry::Filters => present(modules, "warnings")?.getattr("filters")?,
                Registry::Finders => {
                    let finders = self.sys.bind(py).getattr("meta_path")?;
                    let mut expected = lock(&self.finders);
                    let place = if effect.is_appended {
                        expected.len()
                    } else {
                        0
                    };
                    expected.insert(place, effect.item.as_ptr() as usize);
                    finders
                }
            };
            let list: Bound<'_, PyList> = list.cast_into()?;
            if effect.is_appended {
                list.append(&effect.item)?;
            } else {
                list.insert(0, &effect.item)?;
            }
            if effect.registry == Registry::Filters {
                let warnings = present(modules, "warnings")?;
                warnings.call_method0("_filters_mutated")?;
            }
        }
        Ok(())
    }

    fn was_given(&self, name: &str) -> bool {
        lock(&self.given).contains(name)
    }

    /// What importing this brings along. It is asked for in the host first, lest each session walks through all
    /// that a package imports.
    fn reach(&'static self, name: &str) -> Rc<Reach> {
        let mut known = self.reached.0.borrow_mut();
        if let Some(reach) = known.get(name) {
            return reach.clone();
        }
        let mut reach = Reach::default();
        self.walk(name, &mut reach, &mut FxHashSet::default());
        reach.needs_package = reach.order.iter().any(|(_, stored)| stored.is_package);
        let reach = Rc::new(reach);
        known.insert(name.to_owned(), reach.clone());
        reach
    }

    fn walk(&'static self, name: &str, reach: &mut Reach, seen: &mut FxHashSet<&'static str>) {
        let Some((name, stored)) = self.modules.get_key_value(name) else {
            return;
        };
        let name = name.as_str();
        if seen.contains(name) {
            return;
        }
        // A package comes before what is in it, whoever imported it when the module was loaded.
        if let Some((package, _)) = name.rsplit_once('.') {
            self.walk(package, reach, seen);
            if !self.modules.contains_key(package) {
                reach.outside.insert(package);
            }
        }
        // The package may have imported it.
        if !seen.insert(name) {
            return;
        }
        for import in &stored.imports {
            self.walk(import, reach, seen);
        }
        reach.order.push((name, stored));
    }

    /// Which of these are yet to be given; or one that they are built on and that is another one now.
    fn missing(
        &self,
        modules: &Bound<'_, PyDict>,
        reach: &Reach,
    ) -> PyResult<Result<Vec<Entry>, &'static str>> {
        let mut missing = Vec::new();
        for &(name, stored) in &reach.order {
            // Not by an exception: the first that pyo3 takes makes a class of its own.
            match modules.get_item(&stored.key)? {
                Some(present) if !present.is(&stored.module) => return Ok(Err(name)),
                Some(_) => {}
                None if self.was_given(name) => return Ok(Err(name)),
                None => missing.push((name, stored)),
            }
        }
        for package in &reach.outside {
            if !modules.contains(package)? {
                return Ok(Err(package));
            }
        }
        Ok(Ok(missing))
    }

    /// What could let a plain import end in anything but just these modules.
    fn what_interferes(
        &self,
        py: Python<'_>,
        modules: &Bound<'_, PyDict>,
        wanted: &[Entry],
        needs_package: bool,
    ) -> PyResult<Option<String>> {
        let found = |what: &str| Ok(Some(what.to_owned()));
        let sys = self.sys.bind(py);
        if finders(sys).ok().as_ref() != Some(&*lock(&self.finders)) {
            return found("`sys.meta_path` was changed");
        }
        let changed = "`sys.path` was changed";
        let Ok(path) = sys.getattr("path")?.cast_into::<PyList>() else {
            return found(changed);
        };
        let mut entries = Vec::with_capacity(path.len());
        for entry in path.iter() {
            let Ok(entry) = entry.cast_into::<PyString>() else {
                return found(changed);
            };
            entries.push(entry);
        }
        let entries: Vec<&str> = entries
            .iter()
            .map(|it| it.to_str())
            .collect::<PyResult<_>>()?;
        // The usual case is one directory, the session's own, before those of the interpreter.
        let is_own = |entry: &&&str| !self.library.iter().any(|known| known == *entry);
        let own = entries.iter().take_while(is_own).count();
        let (own, rest) = entries.split_at(own);
        if !rest.iter().zip(&self.library).all(|(is, was)| is == was)
            || rest.len() < self.library.len()
        {
            return found(changed);
        }
        if own
            .iter()
            .any(|directory| shadows(Path::new(directory), wanted))
        {
            return found(
                "a file of the session has its name, or that of a module that it imports",
            );
        }
        for (name, module) in self.below.iter().filter(|_| needs_package) {
            let present = modules.get_item(name)?;
            if !present.is_some_and(|present| present.is(module)) {
                return Ok(Some(format!("`{name}` was replaced")));
            }
        }
        if needs_package && self.environment.as_ref() != Some(&environment()) {
            return found("environment variables were changed");
        }
        Ok(None)
    }
}

/// The variables of this process, without those that each session has its own values of.
fn environment() -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| name != "HOME" && name != "TMPDIR")
        .collect();
    variables.sort();
    variables
}

fn present<'py>(modules: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let missing = || PyKeyError::new_err(name.to_owned());
    modules.get_item(name)?.ok_or_else(missing)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file or directory there could be found in place of one of these modules. Asked with every import, so by
/// a buffer of our own: the library's would be made anew each time, of memory that nobody has used yet.
fn shadows(directory: &Path, modules: &[Entry]) -> bool {
    const BUFFER: usize = 4096;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(opened) = rustix::fs::open(directory, flags, Mode::empty()) else {
        // A zip file or a relative path after a change of directory: leave it to Python.
        return directory.exists();
    };
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(opened, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        let stem = name.split(|&byte| byte == b'.').next();
        let is_found =
            |(module, _): &Entry| module.as_bytes().split(|&byte| byte == b'.').next() == stem;
        if modules.iter().any(is_found) {
            return true;
        }
    }
    false
}

/// What is known of [`Preloaded::reach`].
#[derive(Default)]
struct Reached(RefCell<FxHashMap<String, Rc<Reach>>>);
// SAFETY: as for `Shared`.
unsafe impl Send for Reached {}
unsafe impl Sync for Reached {}

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
