//! An exception as data: what a recording keeps of it, and the traceback for a person.

use pyo3::exceptions::PySyntaxError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyType};
use verify::outcome::{Exception, Link, LinkKind};

/// Chains and groups are followed this deep; Python itself prints no deeper ones in full either.
const DEEPEST: usize = 32;

/// Describes an exception. `traceback` is left empty; see [`format_traceback`].
pub(crate) fn describe(error: &Bound<'_, PyAny>) -> Exception {
    let mut seen = Vec::new();
    describe_within(error, &mut seen)
}

fn describe_within(error: &Bound<'_, PyAny>, seen: &mut Vec<usize>) -> Exception {
    seen.push(error.as_ptr() as usize);
    let class = error.get_type();
    Exception {
        type_name: printed_name(&class),
        bases: class.mro().iter().flat_map(|base| names(&base)).collect(),
        message: message(error),
        notes: notes(error),
        chain: before(error, seen),
        members: members(error, seen),
        traceback: String::new(),
    }
}

/// The class's name as tracebacks print it: qualified, unless it is built in or the script's own.
fn printed_name(class: &Bound<'_, PyType>) -> String {
    let name = text(class.getattr("__qualname__"));
    let module = text(class.getattr("__module__"));
    if matches!(module.as_str(), "" | "builtins" | "__main__") {
        name
    } else {
        format!("{module}.{name}")
    }
}

fn names(class: &Bound<'_, PyAny>) -> Vec<String> {
    let name = text(class.getattr("__name__"));
    let qualified = class
        .cast::<PyType>()
        .map(|class| printed_name(class))
        .unwrap_or_default();
    if qualified == name {
        vec![name]
    } else {
        vec![name, qualified]
    }
}

fn message(error: &Bound<'_, PyAny>) -> String {
    // `str()` of a SyntaxError names the file and line, which a recording leaves out.
    if error.is_instance_of::<PySyntaxError>() {
        return text(error.getattr("msg"));
    }
    match error.str() {
        Ok(message) => printed(&message),
        Err(_) => "<exception str() failed>".to_owned(),
    }
}

fn notes(error: &Bound<'_, PyAny>) -> Vec<String> {
    let Ok(notes) = error.getattr("__notes__") else {
        return Vec::new();
    };
    let Ok(notes) = notes.try_iter() else {
        return Vec::new();
    };
    notes
        .flatten()
        .map(|note| text(note.str().map(Bound::into_any)))
        .collect()
}

fn before(error: &Bound<'_, PyAny>, seen: &mut Vec<usize>) -> Option<Box<Link>> {
    let cause = error
        .getattr("__cause__")
        .ok()
        .filter(|cause| !cause.is_none());
    let (kind, other) = match cause {
        Some(cause) => (LinkKind::Cause, cause),
        None => {
            let suppressed = error
                .getattr("__suppress_context__")
                .and_then(|flag| flag.is_truthy());
            let context = error
                .getattr("__context__")
                .ok()
                .filter(|context| !context.is_none())?;
            if suppressed.unwrap_or(false) {
                return None;
            }
            (LinkKind::Context, context)
        }
    };
    if seen.len() >= DEEPEST || seen.contains(&(other.as_ptr() as usize)) {
        return None;
    }
    Some(Box::new(Link {
        kind,
        exception: describe_within(&other, seen),
    }))
}

fn members(error: &Bound<'_, PyAny>, seen: &mut Vec<usize>) -> Vec<Exception> {
    let is_group = error
        .py()
        .import("builtins")
        .and_then(|builtins| builtins.getattr("BaseExceptionGroup"))
        .and_then(|class| error.is_instance(&class))
        .unwrap_or(false);
    if !is_group || seen.len() >= DEEPEST {
        return Vec::new();
    }
    let Ok(members) = error
        .getattr("exceptions")
        .and_then(|members| members.try_iter())
    else {
        return Vec::new();
    };
    members
        .flatten()
        .map(|member| describe_within(&member, seen))
        .collect()
}

fn text(value: PyResult<Bound<'_, PyAny>>) -> String {
    let Ok(value) = value else {
        return String::new();
    };
    match value.cast::<PyString>() {
        Ok(text) => printed(text),
        Err(_) => value.str().map(|text| printed(&text)).unwrap_or_default(),
    }
}

/// As Python prints it on stderr: half of a pair of surrogates is escaped.
fn printed(text: &Bound<'_, PyString>) -> String {
    if let Ok(text) = text.to_cow() {
        return text.into_owned();
    }
    // SAFETY: a string and two C strings; the result is owned or null. The method of that name could be an example's own.
    let bytes = unsafe {
        let encoded = ffi::PyUnicode_AsEncodedString(
            text.as_ptr(),
            c"utf-8".as_ptr(),
            c"backslashreplace".as_ptr(),
        );
        Bound::from_owned_ptr_or_err(text.py(), encoded)
    };
    match bytes.map(Bound::cast_into::<PyBytes>) {
        Ok(Ok(bytes)) => String::from_utf8_lossy(bytes.as_bytes()).into_owned(),
        _ => text.to_string_lossy().into_owned(),
    }
}

/// The traceback as Python formats it; empty if the example has broken the means to do so.
///
/// Modules that formatting brings in are taken out of `sys.modules` again: the examples that follow
/// must find it as they left it.
pub(crate) fn format_traceback(error: &Bound<'_, PyAny>) -> String {
    let py = error.py();
    let formatted = || -> PyResult<String> {
        let modules = py.import("sys")?.getattr("modules")?;
        let before: Vec<String> = modules
            .call_method0("copy")?
            .try_iter()?
            .map(|name| name?.extract())
            .collect::<PyResult<_>>()?;
        let lines = py.import("traceback")?.call_method1(
            "format_exception",
            (error.get_type(), error, error.getattr("__traceback__")?),
        )?;
        let text = PyString::new(py, "").call_method1("join", (lines,))?;
        let text = printed(&text.cast_into::<PyString>()?);
        let known: std::collections::HashSet<&str> = before.iter().map(String::as_str).collect();
        for name in modules.call_method0("copy")?.try_iter()? {
            let name: String = name?.extract()?;
            if !known.contains(name.as_str()) {
                modules.del_item(name)?;
            }
        }
        Ok(text)
    };
    formatted().unwrap_or_default()
}
