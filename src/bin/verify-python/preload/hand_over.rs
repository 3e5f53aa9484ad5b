//! Handing modules over. It happens in place of importlib's own `_find_and_load`, which every way to import ends
//! in, by a built-in function that leaves no frame. It steps aside wherever a plain import might do
//! something else: a file in the session's directory that shadows a module, finders that the example put
//! in, a dependency that was replaced.

use std::cell::RefCell;
use std::rc::Rc;

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyList, PyTuple};

use super::reach::{Entry, Reach};
use super::refresh::When;
use super::{Effect, FIND_AND_LOAD, Preloaded, Registry, importlib, lock, unload_others};
use crate::observe;

/// What can be done for an import.
enum HandOver {
    Given(Py<PyAny>),
    /// Python's own way.
    Plain,
    /// What this process holds of the package is not what a plain import would make of it now.
    Untrue(String),
}

/// A cell that only the session's one interpreter touches, and only while it holds the GIL.
struct Shared(Rc<RefCell<Option<String>>>);
// SAFETY: see above; pyo3 asks for `Send` since a built-in function could be called from any thread,
// and every such call holds the GIL.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Preloaded {
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

    /// Which of these are yet to be given; or one that they are built on and that is another one now.
    pub(super) fn missing(
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

    fn was_given(&self, name: &str) -> bool {
        lock(&self.given).contains(name)
    }

    /// Puts modules in place as if they had been imported one after the other.
    pub(super) fn give(
        &self,
        py: Python<'_>,
        modules: &Bound<'_, PyDict>,
        wanted: &[Entry],
    ) -> PyResult<()> {
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
}

fn present<'py>(modules: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let missing = || PyKeyError::new_err(name.to_owned());
    modules.get_item(name)?.ok_or_else(missing)
}

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
