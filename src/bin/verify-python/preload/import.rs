//! Importing modules into the store: `preload.py` notes what each one imports, and `snapshot.py`, where a package is
//! imported that sessions are to share, what else that does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::CString;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyList, PyString};

use super::interference::environment;
use super::refresh::{REFRESH, When, compiled};
use super::{Effect, FIND_AND_LOAD, Preloaded, Registry, Stored, importlib};

const TRACER: &str = include_str!("preload.py");
const SNAPSHOT: &str = include_str!("snapshot.py");

/// What importing a package in a host has shown.
pub(crate) struct Imported {
    pub(crate) preloaded: &'static Preloaded,
    /// Top-level modules outside the standard library that are in store now.
    pub(crate) packages: Vec<String>,
    /// What a session that is given the package would miss, or would find before.
    pub(crate) fault: Option<String>,
}

/// As `snapshot.py` gives them: by module the registry, the order, whether it is appended, and the item.
type TracedEffects = HashMap<String, Vec<(String, i64, bool, Py<PyAny>)>>;

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

/// The functions of `preload.py`.
pub(super) fn tracer(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let namespace = PyDict::new(py);
    let source = CString::new(TRACER).expect("our source holds no NUL");
    py.run(&source, Some(&namespace), None)?;
    Ok(namespace)
}

impl Preloaded {
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

    /// Takes in what the tracer has found.
    pub(super) fn store(&mut self, traced: &Bound<'_, PyDict>) -> PyResult<()> {
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
}
