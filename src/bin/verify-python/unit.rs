//! Running one example: as a file, as a transcript, or only as far as the compiler.

use std::cell::RefCell;
use std::ffi::{OsString, c_int};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use pyo3::BoundObject;
use pyo3::exceptions::{PySystemExit, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use verify::outcome::Exception;
use verify::protocol::{Form, Mode, SessionSetup, Statement, StepReport, TYPED, Unit, UnitEnd};

use crate::compile::{self, Compiled};
use crate::exception::{describe, format_traceback};
use crate::preload::Preloaded;

/// `compile()` flags and code flags that the `ast` and `inspect` modules document.
const ONLY_AST: c_int = 0x400;
const CO_COROUTINE: c_int = 0x80;
/// The bits of `co_flags` that stand for `from __future__` imports.
const FUTURE_FLAGS: c_int = 0x1ff_0000;

/// Reports a step and waits until its output has been read; false when nobody answers.
pub(crate) type OnStep<'a> = dyn FnMut(Python<'_>, &Interpreter, StepReport) -> bool + 'a;

/// What the session keeps of the interpreter. Everything is looked up before the first example runs,
/// so that one which patches `compile`, `sys` or `os` changes its own world and not ours.
pub(crate) struct Interpreter {
    pub(crate) preloaded: &'static Preloaded,
    /// What the host has compiled of what will run.
    pub(crate) compiled: Compiled,
    compile: Py<PyAny>,
    stdout: Py<PyAny>,
    stderr: Py<PyAny>,
    main: Py<PyDict>,
    sys: Py<PyModule>,
    environ: Py<PyAny>,
    /// What `environ` keeps itself in, where that is as it has long been.
    variables: Option<Py<PyDict>>,
    io: Py<PyModule>,
    source_loader: Py<PyAny>,
    sets_cached: bool,
    names: Names,
    future_flags: c_int,
    event_loop: Option<Py<PyAny>>,
    /// `sys.gettrace` with `sys.settrace`, and the same for profilers.
    tracers: [(Py<PyAny>, Py<PyAny>); 2],
    /// Where spawned children find the session's code; shared with the import hook.
    session_file: Rc<RefCell<Option<String>>>,
}

/// Names that are asked for in every session. Made in the host: there they are made once, and a session would first
/// copy what making one writes to.
struct Names {
    argv: Py<PyString>,
    cached: Py<PyString>,
    executable: Py<PyString>,
    file: Py<PyString>,
    flush: Py<PyString>,
    loader: Py<PyString>,
    main: Py<PyString>,
    orig_argv: Py<PyString>,
    stderr: Py<PyString>,
    stdout: Py<PyString>,
}

impl Names {
    fn new(py: Python<'_>) -> Names {
        let name = |text| PyString::intern(py, text).unbind();
        Names {
            argv: name("argv"),
            cached: name("__cached__"),
            executable: name("executable"),
            file: name("__file__"),
            flush: name("flush"),
            loader: name("__loader__"),
            main: name("__main__"),
            orig_argv: name("orig_argv"),
            stderr: name("stderr"),
            stdout: name("stdout"),
        }
    }
}

/// What a run left: the exception that ended it, and the values asked for.
pub(crate) struct Run {
    pub(crate) error: Option<PyErr>,
    values: Vec<(usize, String)>,
}

type Values = Vec<(usize, String)>;

/// Code of a source.
struct Code<'py> {
    object: Bound<'py, PyAny>,
    /// It lies in memory that the host has made.
    is_hosts: bool,
}

impl Interpreter {
    pub(crate) fn new(py: Python<'_>, preloaded: &'static Preloaded) -> PyResult<Interpreter> {
        let sys = py.import("sys")?;
        let session_file = Rc::new(RefCell::new(None));
        preloaded.install(py, &session_file)?;
        let environ = py.import("os")?.getattr("environ")?;
        let variables = environ
            .getattr("_data")
            .and_then(|data| Ok(data.cast_into()?));
        let variables = variables.ok().map(Bound::unbind);
        let function = |name| sys.getattr(name).map(Bound::unbind);
        Ok(Interpreter {
            tracers: [
                (function("gettrace")?, function("settrace")?),
                (function("getprofile")?, function("setprofile")?),
            ],
            preloaded,
            compiled: Compiled::default(),
            compile: py.import("builtins")?.getattr("compile")?.unbind(),
            stdout: sys.getattr("stdout")?.unbind(),
            stderr: sys.getattr("stderr")?.unbind(),
            main: py.import("__main__")?.dict().unbind(),
            environ: environ.unbind(),
            variables,
            io: py.import("io")?.unbind(),
            source_loader: py
                .import("_frozen_importlib_external")?
                .getattr("SourceFileLoader")?
                .unbind(),
            sets_cached: py.version_info() < (3, 15),
            names: Names::new(py),
            sys: sys.unbind(),
            future_flags: 0,
            event_loop: None,
            session_file,
        })
    }

    /// Makes the interpreter look as `python file.py` finds it, but for what each example has of its own.
    pub(crate) fn begin_session(
        &mut self,
        py: Python<'_>,
        setup: &SessionSetup,
        compiled: Compiled,
    ) -> PyResult<()> {
        self.preloaded.begin_session(py)?;
        let path: Bound<'_, PyList> = self.sys.bind(py).getattr("path")?.cast_into()?;
        let scratch = setup.scratch.to_string_lossy();
        // `-c` put an empty string where a script's directory stands.
        if path.get_item(0)?.is_truthy()? {
            path.insert(0, scratch.as_ref())?;
        } else {
            path.set_item(0, scratch.as_ref())?;
        }
        self.compiled = compiled;
        Ok(())
    }

    /// As items of `os.environ`, whose own way to set one is many lines of Python. Done before a session is forked:
    /// most are the same for the next one.
    pub(crate) fn set_variables(
        &self,
        py: Python<'_>,
        variables: &[(String, OsString)],
    ) -> PyResult<()> {
        for (name, value) in variables {
            if std::env::var_os(name).is_some_and(|now| now == *value) {
                continue;
            }
            match &self.variables {
                Some(kept) => {
                    // SAFETY: a host has one thread.
                    unsafe { std::env::set_var(name, value) };
                    let bytes = |bytes| PyBytes::new(py, bytes);
                    let (name, value) = (name.as_bytes(), value.as_bytes());
                    kept.bind(py).set_item(bytes(name), bytes(value))?;
                }
                None => self.environ.bind(py).set_item(name, value)?,
            }
        }
        Ok(())
    }

    pub(crate) fn run(&mut self, py: Python<'_>, unit: &Unit, on_step: &mut OnStep<'_>) -> Run {
        let mut values = Vec::new();
        let prepared = self.untraced(py, |interpreter| interpreter.prepare(py, unit));
        let result = prepared.and_then(|restore| {
            let result = match &unit.mode {
                Mode::Module {
                    boundaries,
                    values: wanted,
                } => self.run_module(py, unit, boundaries, wanted, &mut values, on_step),
                Mode::Interactive { statements } => {
                    self.run_statements(py, statements, on_step);
                    Ok(())
                }
                Mode::Parse => self
                    .compile(py, &unit.source, &unit.path, Form::Module)
                    .map(drop),
            };
            self.untraced(py, |interpreter| interpreter.restore(py, restore));
            result
        });
        Run {
            error: result.err(),
            values,
        }
    }

    /// Does something of our own where a tracer that an example has set does not see it.
    fn untraced<T>(&mut self, py: Python<'_>, work: impl FnOnce(&mut Self) -> T) -> T {
        let silence = |(get, set): &(Py<PyAny>, Py<PyAny>)| {
            let tracer = get.call0(py).ok().filter(|tracer| !tracer.is_none(py))?;
            set.call1(py, (py.None(),)).ok()?;
            Some((set.clone_ref(py), tracer))
        };
        let silenced: Vec<_> = self.tracers.iter().filter_map(silence).collect();
        let done = work(self);
        for (set, tracer) in silenced {
            let _ = set.call1(py, (tracer,));
        }
        done
    }

    /// Sends on what Python and C hold back, as the end of a process does.
    pub(crate) fn flush(&self, py: Python<'_>) {
        let sys = self.sys.bind(py);
        // A stream that the example closed or replaced by something else is its own business.
        let names = &self.names;
        let flush = |stream: &Bound<'_, PyAny>| drop(stream.call_method0(&names.flush));
        let streams = [(&names.stdout, &self.stdout), (&names.stderr, &self.stderr)];
        for (name, original) in streams {
            // What the example put in its place may hold back what goes there.
            if let Ok(current) = sys.getattr(name)
                && !current.is(original)
            {
                flush(&current);
            }
            flush(original.bind(py));
        }
        // SAFETY: flushes every C stream.
        unsafe { libc::fflush(std::ptr::null_mut()) };
    }

    /// Sets up what the unit sees of itself; returns what to put back after it.
    fn prepare(
        &mut self,
        py: Python<'_>,
        unit: &Unit,
    ) -> PyResult<Vec<(String, Option<Py<PyAny>>)>> {
        let sys = self.sys.bind(py);
        let main = self.main.bind(py);
        let names = &self.names;
        let path = unit.path.to_string_lossy();
        if matches!(unit.mode, Mode::Module { .. }) {
            let path = PyString::new(py, &path);
            main.set_item(&names.file, &path)?;
            if self.sets_cached {
                main.set_item(&names.cached, py.None())?;
            }
            let loader = self.source_loader.bind(py).call1((&names.main, path))?;
            main.set_item(&names.loader, loader)?;
        }
        let argv = PyList::new(py, &unit.argv)?;
        let original = PyList::new(py, [sys.getattr(&names.executable)?])?;
        for argument in &argv {
            original.append(argument)?;
        }
        sys.setattr(&names.argv, argv)?;
        sys.setattr(&names.orig_argv, original)?;
        *self.session_file.borrow_mut() = unit
            .session_file
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned());
        self.open_stdin(py, unit.stdin.as_deref())?;
        let environ = self.environ.bind(py);
        let mut restore = Vec::new();
        for (name, value) in &unit.environment {
            let before = environ.call_method1("get", (name,))?;
            restore.push((name.clone(), (!before.is_none()).then(|| before.unbind())));
            environ.set_item(name, value)?;
        }
        Ok(restore)
    }

    fn restore(&self, py: Python<'_>, variables: Vec<(String, Option<Py<PyAny>>)>) {
        let environ = self.environ.bind(py);
        for (name, before) in variables {
            let _ = match before {
                Some(value) => environ.set_item(name, value),
                None => environ.call_method1("pop", (name, py.None())).map(drop),
            };
        }
    }

    /// Points standard input at the unit's file, with a `sys.stdin` that has read nothing yet.
    fn open_stdin(&self, py: Python<'_>, file: Option<&Path>) -> PyResult<()> {
        let Some(file) = file else {
            return Ok(());
        };
        rustix::stdio::dup2_stdin(File::open(file)?).map_err(std::io::Error::from)?;
        let io = self.io.bind(py);
        let options = PyDict::new(py);
        options.set_item("closefd", false)?;
        let buffer = io.call_method("open", (0, "rb"), Some(&options))?;
        buffer.getattr("raw")?.setattr("name", "<stdin>")?;
        let options = PyDict::new(py);
        options.set_item("encoding", "utf-8")?;
        options.set_item(
            "errors",
            self.sys.bind(py).getattr("__stdin__")?.getattr("errors")?,
        )?;
        options.set_item("newline", "\n")?;
        let stdin = io.call_method("TextIOWrapper", (buffer,), Some(&options))?;
        stdin.setattr("mode", "r")?;
        let sys = self.sys.bind(py);
        sys.setattr("stdin", &stdin)?;
        sys.setattr("__stdin__", stdin)
    }

    fn run_module(
        &mut self,
        py: Python<'_>,
        unit: &Unit,
        boundaries: &[usize],
        wanted: &[usize],
        values: &mut Values,
        on_step: &mut OnStep<'_>,
    ) -> PyResult<()> {
        if boundaries.is_empty() && wanted.is_empty() {
            let code = self.code(py, &unit.source, &unit.path, Form::Module)?;
            return self.spend(code).map(drop);
        }
        let tree = self.compile_by_name(py, &unit.source, &unit.path, "exec", ONLY_AST)?;
        // A mistake that only the later stages of the compiler find must stop the file before it starts.
        self.compile(py, &unit.source, &unit.path, Form::Module)?;
        let body: Bound<'_, PyList> = tree.getattr("body")?.cast_into()?;
        let mut flags = 0;
        let mut pending = Vec::new();
        let mut boundaries = boundaries.iter().peekable();
        for statement in body {
            let line: usize = statement.getattr("lineno")?.extract()?;
            while boundaries.next_if(|&&boundary| boundary < line).is_some() {
                self.run_statement_nodes(py, unit, &tree, &mut pending, &mut flags)?;
                let report = StepReport {
                    values: std::mem::take(values),
                    ..StepReport::default()
                };
                if !on_step(py, self, report) {
                    return Ok(());
                }
            }
            let end: usize = statement.getattr("end_lineno")?.extract()?;
            if wanted.contains(&end) && statement.get_type().name()? == "Expr" {
                self.run_statement_nodes(py, unit, &tree, &mut pending, &mut flags)?;
                let expression = py.import("_ast")?.getattr("Expression")?;
                let node = expression.call1((statement.getattr("value")?,))?;
                let code = self.compile_by_name(py, node, &unit.path, "eval", flags)?;
                let value = self.evaluate(py, &code)?;
                values.push((end, value.repr()?.to_string_lossy().into_owned()));
            } else {
                pending.push(statement);
            }
        }
        self.run_statement_nodes(py, unit, &tree, &mut pending, &mut flags)?;
        for _ in boundaries {
            if !on_step(
                py,
                self,
                StepReport {
                    values: std::mem::take(values),
                    ..StepReport::default()
                },
            ) {
                break;
            }
        }
        Ok(())
    }

    fn run_statement_nodes<'py>(
        &self,
        py: Python<'py>,
        unit: &Unit,
        tree: &Bound<'py, PyAny>,
        pending: &mut Vec<Bound<'py, PyAny>>,
        flags: &mut c_int,
    ) -> PyResult<()> {
        if pending.is_empty() {
            return Ok(());
        }
        tree.setattr("body", PyList::new(py, pending.drain(..))?)?;
        let code = self.compile_by_name(py, tree, &unit.path, "exec", *flags)?;
        *flags |= code.getattr("co_flags")?.extract::<c_int>()? & FUTURE_FLAGS;
        self.evaluate(py, &code).map(drop)
    }

    fn run_statements(
        &mut self,
        py: Python<'_>,
        statements: &[Statement],
        on_step: &mut OnStep<'_>,
    ) {
        for statement in statements {
            let result = self.run_statement(py, statement);
            let exception = result.err().map(|error| {
                let error = error.into_value(py).into_bound(py).into_any();
                Exception {
                    traceback: format_traceback(&error),
                    ..describe(&error)
                }
            });
            if !on_step(
                py,
                self,
                StepReport {
                    exception,
                    ..StepReport::default()
                },
            ) {
                break;
            }
        }
    }

    fn run_statement(&mut self, py: Python<'_>, statement: &Statement) -> PyResult<()> {
        let path = Path::new(TYPED);
        let code = self.code(py, &statement.source, path, Form::Statement)?;
        let code_flags: c_int = code.object.getattr("co_flags")?.extract()?;
        self.future_flags |= code_flags & FUTURE_FLAGS;
        let result = self.spend(code)?;
        if code_flags & CO_COROUTINE != 0 {
            self.event_loop(py)?
                .call_method1("run_until_complete", (result,))?;
        }
        Ok(())
    }

    /// The loop on which the session's top-level `await`s run: one for all, as in `python -m asyncio`.
    fn event_loop<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(event_loop) = &self.event_loop {
            return Ok(event_loop.bind(py).clone());
        }
        let asyncio = py.import("asyncio")?;
        let event_loop = asyncio.call_method0("new_event_loop")?;
        asyncio.call_method1("set_event_loop", (&event_loop,))?;
        self.event_loop = Some(event_loop.clone().unbind());
        Ok(event_loop)
    }

    /// The code of a source, compiled now if it was not before.
    fn code<'py>(
        &mut self,
        py: Python<'py>,
        text: &str,
        path: &Path,
        form: Form,
    ) -> PyResult<Code<'py>> {
        // What an earlier statement took from the future holds for this one, and was not known.
        if self.future_flags == 0
            && let Some(object) = self.compiled.take(py, text, path, form)
        {
            let is_hosts = true;
            return Ok(Code { object, is_hosts });
        }
        Ok(Code {
            object: self.compile(py, text, path, form)?,
            is_hosts: false,
        })
    }

    /// Runs code that is not needed again.
    fn spend<'py>(&self, code: Code<'py>) -> PyResult<Bound<'py, PyAny>> {
        let result = self.evaluate(code.object.py(), &code.object);
        if code.is_hosts {
            self.preloaded.heap.keep(code.object)?;
        }
        result
    }

    fn compile<'py>(
        &self,
        py: Python<'py>,
        text: &str,
        path: &Path,
        form: Form,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (mode, flags) = match form {
            Form::Statement => ("single", self.future_flags),
            Form::Module => ("exec", 0),
        };
        match compile::compile(py, text, path, form, flags)? {
            Some(code) => Ok(code),
            // It says what is wrong.
            None => self.compile_by_name(py, text, path, mode, flags),
        }
    }

    /// Compiles by `compile()`, which takes and gives syntax trees too.
    fn compile_by_name<'py>(
        &self,
        py: Python<'py>,
        source: impl IntoPyObject<'py>,
        path: &Path,
        mode: &str,
        flags: c_int,
    ) -> PyResult<Bound<'py, PyAny>> {
        let source = source
            .into_pyobject(py)
            .map_err(Into::into)?
            .into_any()
            .into_bound();
        let dont_inherit = true;
        self.compile.bind(py).call1((
            source,
            path.to_string_lossy().as_ref(),
            mode,
            flags,
            dont_inherit,
        ))
    }

    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        code: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let main = self.main.as_ptr();
        // SAFETY: both are live objects of the right kind. Called from C with no frame below, which is
        // what makes the example's module frame the outermost one.
        unsafe {
            let result = ffi::PyEval_EvalCode(code.as_ptr(), main, main);
            Bound::from_owned_ptr_or_err(py, result)
        }
    }
}

impl Run {
    /// The completion record of this run.
    pub(crate) fn into_report(self, py: Python<'_>, unit: &Unit) -> UnitEnd {
        let Some(error) = self.error else {
            return UnitEnd::Completed {
                values: self.values,
            };
        };
        if error.is_instance_of::<PySystemExit>(py) {
            return UnitEnd::Exited {
                status: exit_status(py, &error),
            };
        }
        call_own_hook(py, &error);
        // Unlike a mere look at the value, this puts its traceback into it.
        let value = error.into_value(py).into_bound(py).into_any();
        let mut exception = describe(&value);
        if !unit
            .raises
            .as_deref()
            .is_some_and(|name| exception.is_a(name))
        {
            exception.traceback = format_traceback(&value);
        }
        UnitEnd::Raised(exception)
    }
}

/// Calls an excepthook that the example put in; the ordinary one would only print what is reported anyway.
fn call_own_hook(py: Python<'_>, error: &PyErr) {
    let call = || -> PyResult<()> {
        let sys = py.import("sys")?;
        let hook = sys.getattr("excepthook")?;
        if !hook.is(sys.getattr("__excepthook__")?) {
            hook.call1((error.get_type(py), error.value(py), error.traceback(py)))?;
        }
        Ok(())
    };
    let _ = call();
}

/// What `SystemExit` means to the shell; a message goes to stderr as Python prints it.
fn exit_status(py: Python<'_>, error: &PyErr) -> i32 {
    let Ok(code) = error.value(py).getattr("code") else {
        return 1;
    };
    if code.is_none() {
        return 0;
    }
    if let Ok(status) = code.extract::<i64>() {
        return i32::try_from(status & 0xff).expect("eight bits");
    }
    if code.is_instance_of::<pyo3::types::PyInt>() {
        // Too large for C: Python exits with -1.
        return 255;
    }
    let print = || -> PyResult<()> {
        let text = code.str()?;
        let stderr = py.import("sys")?.getattr("stderr")?;
        if stderr.is_none() {
            return Err(PyTypeError::new_err("no stderr"));
        }
        stderr.call_method1("write", (text,))?;
        stderr.call_method1("write", ("\n",))?;
        stderr.call_method0("flush").map(drop)
    };
    let _ = print();
    1
}
