//! What could let a plain import end in anything but the modules in store: each session's state, compared with that of
//! the host when it imported them.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use rustix::fs::{Mode, OFlags, RawDir};

use super::reach::Entry;
use super::{Preloaded, lock};

impl Preloaded {
    /// What could let a plain import end in anything but just these modules.
    pub(super) fn what_interferes(
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
        let entries: Vec<Cow<'_, OsStr>> = entries
            .iter()
            .map(|it| it.extract())
            .collect::<PyResult<_>>()?;
        // The usual case is one directory, the session's own, before those of the interpreter.
        let is_own = |entry: &&Cow<'_, OsStr>| !self.library.iter().any(|known| known == *entry);
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

pub(super) fn library(py: Python<'_>) -> PyResult<Vec<OsString>> {
    let sys = py.import("sys")?;
    let path: Vec<OsString> = sys.getattr("path")?.extract()?;
    Ok(path.into_iter().filter(|entry| !entry.is_empty()).collect())
}

/// Each finder by its address. Not by pyo3's iterator: asked for its length, that imports `operator`.
pub(super) fn finders(sys: &Bound<'_, PyModule>) -> PyResult<Vec<usize>> {
    let finders: Bound<'_, PyList> = sys.getattr("meta_path")?.cast_into()?;
    Ok(finders
        .iter()
        .map(|finder| finder.as_ptr() as usize)
        .collect())
}

/// The variables of this process, without those that each session has its own values of.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| name != "HOME" && name != "TMPDIR")
        .collect();
    variables.sort();
    variables
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
