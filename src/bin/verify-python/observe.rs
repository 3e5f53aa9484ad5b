//! What a session reads from outside its own directory, by CPython's audit events.
//!
//! `verify` keeps the results of a session only if it knows all that they came from. What the session is
//! given, `verify` knows; what it takes by itself shows in audit events: files that Python code opens,
//! directories that it lists. What leaves Python's sight (a process, a library called by `ctypes`, a
//! connection) is noted once, and the session's results are then not kept. CPython has no event for
//! `os.stat` and its kin, for the clock, or for files that an extension module opens in C.
//!
//! The host observes itself as well, from its start: a forked session inherits what was read for it.

use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pyo3::ffi;
use verify::protocol::{self, Observed, Report, Seal};

/// More than that nobody checks in less time than running takes.
const MOST_FILES: usize = 200;

/// Events of what goes on where no audit event tells what was read.
const BEYOND: &[(&CStr, &str)] = &[
    (c"subprocess.Popen", "it starts a process"),
    (c"os.system", "it starts a process"),
    (c"os.exec", "it starts a process"),
    (c"os.posix_spawn", "it starts a process"),
    (c"os.spawn", "it starts a process"),
    (c"os.fork", "it forks"),
    (c"os.forkpty", "it forks"),
    (c"ctypes.dlsym", "it calls C by `ctypes`"),
    (c"ctypes.dlsym/handle", "it calls C by `ctypes`"),
];

/// Events of changes to the places that their first arguments name.
const CHANGES: &[(&CStr, isize)] = &[
    (c"os.remove", 1),
    (c"os.rename", 2),
    (c"os.mkdir", 1),
    (c"os.rmdir", 1),
    (c"os.truncate", 1),
    (c"os.chmod", 1),
    (c"os.link", 2),
    (c"sqlite3.connect", 1),
];

static OBSERVER: Mutex<Option<Observer>> = Mutex::new(None);

struct Observer {
    /// Directories whose contents `verify` knows by other means: the standard library and the packages.
    known: Vec<PathBuf>,
    /// The session's own; in the host, that of all sessions.
    scratch: PathBuf,
    /// In a host that imports a package: where `scratch` was.
    root: Option<PathBuf>,
    network_isolated: bool,
    seen: Observed,
    /// Where to tell it at the end: the process of the session, its control socket, and its seal.
    teller: Option<(u32, RawFd, Seal)>,
}

/// From now on, what this process reads is noted.
pub(crate) fn start(scratch: &Path, known: &[PathBuf]) {
    *lock() = Some(Observer {
        known: known.to_vec(),
        scratch: scratch.to_owned(),
        root: None,
        network_isolated: false,
        seen: Observed::default(),
        teller: None,
    });
}

/// A session begins in this process.
pub(crate) fn begin_session(scratch: &Path, network_isolated: bool, control: RawFd, seal: Seal) {
    if let Some(observer) = lock().as_mut() {
        scratch.clone_into(&mut observer.scratch);
        observer.network_isolated = network_isolated;
        observer.teller = Some((std::process::id(), control, seal));
    }
}

/// A host imports a package from here on: no directory is its own.
pub(crate) fn begin_host() {
    if let Some(observer) = lock().as_mut() {
        observer.root = Some(std::mem::take(&mut observer.scratch));
        observer.scratch = PathBuf::from("/nowhere");
    }
}

/// What that import did which another session's would do in another place, or nobody can tell.
pub(crate) fn traces() -> Option<String> {
    let guard = lock();
    let observer = guard.as_ref()?;
    let root = observer.root.as_ref()?;
    let seen = &observer.seen;
    let mut places = seen.files.iter().chain(&seen.directories);
    match places.find(|place| place.starts_with(root)) {
        Some(_) => Some("it looks for files in the working or home directory".to_owned()),
        None => seen.beyond.clone(),
    }
}

/// Where Python and its packages are; as text, since pyo3 imports `pathlib` for a path.
pub(crate) fn known_directories() -> Vec<String> {
    let guard = lock();
    let known = guard.iter().flat_map(|observer| &observer.known);
    known.map(|path| path.display().to_string()).collect()
}

/// Ends the session, which is to run where nothing was imported for it: told by any of its processes.
pub(crate) fn give_up(reason: String) -> ! {
    if let Some((_, control, seal)) = lock().take().and_then(|observer| observer.teller) {
        send(control, seal, &Report::Untrue { reason });
    }
    // SAFETY: ends the process; whatever it has done is done again elsewhere.
    unsafe { libc::_exit(1) }
}

/// The interpreter has shut down: exit handlers and threads have read what they wanted, too.
pub(crate) fn tell() {
    let Some(observer) = lock().take() else {
        return;
    };
    let Some((process, control, seal)) = observer.teller else {
        return;
    };
    if process == std::process::id() {
        let report = Report::Observed(observer.seen);
        send(control, seal, &report);
        // The process ends; most of it is the host's memory, which would be copied to be freed.
        std::mem::forget(report);
    }
}

fn send(control: RawFd, seal: Seal, report: &Report) {
    // SAFETY: opened by this process and never closed by it; if an example did so, this fails.
    let control = unsafe { BorrowedFd::borrow_raw(control) };
    let mut frame = Vec::new();
    if protocol::send_sealed(&mut frame, seal, report).is_err() {
        return;
    }
    let mut rest = frame.as_slice();
    while let Ok(sent @ 1..) = rustix::net::send(control, rest, rustix::net::SendFlags::NOSIGNAL) {
        rest = &rest[sent..];
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Observer>> {
    OBSERVER
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Takes an audit event.
///
/// # Safety
/// Called by CPython's audit machinery, on a thread that holds the GIL.
pub(crate) unsafe fn audit(event: *const c_char, arguments: *mut ffi::PyObject) {
    // SAFETY: CPython passes a C string.
    let event = unsafe { CStr::from_ptr(event) };
    let name = event.to_bytes();
    // Most events are of compiling and attribute access; they are passed over by their first letters.
    let may_matter = [
        b"open".as_slice(),
        b"os.",
        b"sub",
        b"ctypes.dls",
        b"soc",
        b"sql",
    ]
    .iter()
    .any(|start| name.starts_with(start));
    if !may_matter || arguments.is_null() {
        return;
    }
    // A hook that is re-entered on this thread would wait for itself.
    let Ok(mut guard) = OBSERVER.try_lock() else {
        return;
    };
    let Some(observer) = guard.as_mut() else {
        return;
    };
    // SAFETY: the caller's promise.
    let argument = |index| unsafe { text(arguments, index) };
    match name {
        b"open" => {
            // SAFETY: the caller's promise.
            let flags = unsafe { number(arguments, 2) };
            observer.opened(argument(0), flags);
        }
        b"os.listdir" | b"os.scandir" => observer.listed(argument(0)),
        b"socket.connect" | b"socket.sendto" | b"socket.sendmsg" => {
            observer.connected(argument(1));
        }
        // The host's own, of a session.
        b"os.fork" if observer.teller.is_none() => {}
        _ => {
            if let Some((_, what)) = BEYOND.iter().find(|(known, _)| *known == event) {
                observer.beyond(format!("{what} (`{}`)", event.to_string_lossy()));
            } else if let Some((_, count)) = CHANGES.iter().find(|(known, _)| *known == event) {
                for index in 0..*count {
                    observer.changed(argument(index));
                }
            }
        }
    }
}

/// An argument that may be a path.
enum Argument {
    Path(PathBuf),
    /// `None`, a descriptor, an address: no path.
    Other,
    Unreadable,
}

impl Observer {
    fn beyond(&mut self, what: String) {
        self.seen.beyond.get_or_insert(what);
    }

    fn opened(&mut self, path: Argument, flags: c_int) {
        let path = match path {
            Argument::Path(path) => path,
            Argument::Other => return,
            Argument::Unreadable => return self.beyond("it opens a file of no name".to_owned()),
        };
        if matches!(
            path.as_os_str().as_bytes(),
            b"/dev/null" | b"/dev/zero" | b"/dev/urandom" | b"/dev/random"
        ) {
            return;
        }
        let Some(path) = self.outside(&path) else {
            return;
        };
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0;
        if path
            .components()
            .any(|part| part.as_os_str() == "__pycache__")
        {
            // Bytecode stands for its source, which Python looks at without opening it.
            if let (false, Some(source)) = (writes, source_of(&path)) {
                self.read(source);
            }
        } else if writes {
            self.beyond(format!("it writes to `{}`", path.display()));
        } else if ["/proc", "/sys", "/dev"]
            .iter()
            .any(|root| path.starts_with(root))
        {
            self.beyond(format!("it reads `{}`", path.display()));
        } else if path.is_dir() {
            // By its descriptor, everything below can be opened by names that are relative to it.
            self.beyond(format!("it opens the directory `{}`", path.display()));
        } else {
            self.read(path);
        }
    }

    fn read(&mut self, path: PathBuf) {
        if !self.seen.files.contains(&path) {
            self.seen.files.push(path);
        }
        self.limit();
    }

    fn listed(&mut self, path: Argument) {
        let path = match path {
            Argument::Path(path) => path,
            Argument::Other => PathBuf::from("."),
            Argument::Unreadable => return self.beyond("it lists a directory".to_owned()),
        };
        if let Some(path) = self.outside(&path) {
            if ["/proc", "/sys", "/dev"]
                .iter()
                .any(|root| path.starts_with(root))
            {
                self.beyond(format!("it lists `{}`", path.display()));
            } else if !self.seen.directories.contains(&path) {
                self.seen.directories.push(path);
            }
            self.limit();
        }
    }

    fn limit(&mut self) {
        if self.seen.files.len() + self.seen.directories.len() > MOST_FILES {
            self.beyond(format!("it reads more than {MOST_FILES} files"));
        }
    }

    fn changed(&mut self, path: Argument) {
        if let Argument::Path(path) = path
            && path.as_os_str() != ":memory:"
            && let Some(path) = self.outside(&path)
            && !path
                .components()
                .any(|part| part.as_os_str() == "__pycache__")
        {
            self.beyond(format!("it changes `{}`", path.display()));
        }
    }

    /// A path is the address of a Unix socket; everything else is one of a network.
    fn connected(&mut self, address: Argument) {
        match address {
            Argument::Path(path) => {
                if let Some(path) = self.outside(&path) {
                    self.beyond(format!("it connects to `{}`", path.display()));
                }
            }
            Argument::Other | Argument::Unreadable if !self.network_isolated => {
                self.beyond("it connects to a network that is not cut off".to_owned());
            }
            Argument::Other | Argument::Unreadable => {}
        }
    }

    /// The absolute path of what is neither the session's own nor Python's.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if self.known.iter().any(|known| path.starts_with(known))
            && !path.components().any(|part| part.as_os_str() == "..")
        {
            return None;
        }
        // Links lead out of the directory, and into it.
        let real = path.canonicalize().or_else(|_| {
            let parent = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
            Ok::<_, std::io::Error>(parent.join(path.file_name().unwrap_or_default()))
        });
        let real = real.unwrap_or(path);
        let is_inside = real.starts_with(&self.scratch)
            || self.known.iter().any(|known| real.starts_with(known));
        (!is_inside).then_some(real)
    }
}

/// `a/__pycache__/b.cpython-312.pyc` → `a/b.py`
fn source_of(bytecode: &Path) -> Option<PathBuf> {
    let name = bytecode.file_name()?.to_str()?;
    let module = name.split('.').next()?;
    let folder = bytecode.parent()?.parent()?;
    Some(folder.join(format!("{module}.py")))
}

/// # Safety
/// `arguments` is the tuple of an audit event, and the GIL is held.
unsafe fn text(arguments: *mut ffi::PyObject, index: isize) -> Argument {
    // SAFETY: borrowed references that live as long as the tuple; errors are cleared.
    unsafe {
        let item = ffi::PyTuple_GetItem(arguments, index);
        if item.is_null() {
            ffi::PyErr_Clear();
            return Argument::Other;
        }
        if ffi::PyUnicode_Check(item) != 0 {
            let mut length = 0;
            let bytes = ffi::PyUnicode_AsUTF8AndSize(item, &raw mut length);
            if bytes.is_null() {
                ffi::PyErr_Clear();
                return Argument::Unreadable;
            }
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length.cast_unsigned());
            return Argument::Path(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)));
        }
        if ffi::PyBytes_Check(item) != 0 {
            let bytes = ffi::PyBytes_AsString(item).cast::<u8>();
            let length = ffi::PyBytes_Size(item).cast_unsigned();
            let bytes = std::slice::from_raw_parts(bytes, length);
            return Argument::Path(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)));
        }
        let is_plain =
            item == ffi::Py_None() || ffi::PyLong_Check(item) != 0 || ffi::PyTuple_Check(item) != 0;
        if is_plain {
            Argument::Other
        } else {
            Argument::Unreadable
        }
    }
}

/// # Safety
/// As [`text`].
unsafe fn number(arguments: *mut ffi::PyObject, index: isize) -> c_int {
    // SAFETY: as above.
    unsafe {
        let item = ffi::PyTuple_GetItem(arguments, index);
        let value = if item.is_null() {
            0
        } else {
            ffi::PyLong_AsLong(item)
        };
        if !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
        }
        c_int::try_from(value).unwrap_or(0)
    }
}
