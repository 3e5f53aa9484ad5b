//! What a session reads from outside its own directory, by CPython's audit events.
//!
//! `verify` keeps the results of a session only if it knows all that they came from. What the session is
//! given, `verify` knows; what it takes by itself shows in audit events: files that Python code opens,
//! directories that it lists. What leaves Python's sight (a process, a library called by `ctypes`, a
//! connection) is noted once, and the session's results are then not kept; of processes the kernel is asked
//! as well. CPython has no event for `os.stat` and its kin, for the clock, or for files that an extension
//! module opens in C.
//!
//! The host observes itself as well, from its start: a forked session inherits what was read for it.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pyo3::ffi;
use rustc_hash::FxHashSet;
use rustix::process::{WaitId, WaitIdOptions};
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
    (
        c"sqlite3.enable_load_extension",
        "it loads extensions of SQLite",
    ),
    (c"socket.gethostname", "it asks for the machine's name"),
];

/// By what the C library knows names of machines and services, where no network tells it.
const NAMES: &[&str] = &["/etc/hosts", "/etc/services", "/etc/nsswitch.conf"];

/// Events of changes to the places that their first arguments name.
const CHANGES: &[(&CStr, isize)] = &[
    (c"os.remove", 1),
    (c"os.rename", 2),
    (c"os.mkdir", 1),
    (c"os.rmdir", 1),
    (c"os.truncate", 1),
    (c"os.chmod", 1),
    (c"os.chown", 1),
    (c"os.utime", 1),
    (c"os.setxattr", 1),
    (c"os.removexattr", 1),
    (c"os.link", 2),
];

static OBSERVER: Mutex<Option<Observer>> = Mutex::new(None);

struct Observer {
    /// Directories whose contents `verify` knows by other means: the standard library and the packages.
    known: Vec<PathBuf>,
    /// Directories below these that are no links.
    plain: FxHashSet<PathBuf>,
    /// The session's own; in the host, that of all sessions.
    scratch: PathBuf,
    /// In a host that imports a package: where `scratch` was.
    root: Option<PathBuf>,
    network_isolated: bool,
    seen: Observed,
    /// How much of it was told while the session goes on.
    told: usize,
    /// Where to tell it at the end: the process of the session, its control socket, and its seal.
    teller: Option<(u32, RawFd, Seal)>,
}

/// From now on, what this process reads is noted.
pub(crate) fn start(scratch: &Path, known: &[PathBuf]) {
    *lock() = Some(Observer {
        known: known.to_vec(),
        plain: FxHashSet::default(),
        scratch: scratch.to_owned(),
        root: None,
        network_isolated: false,
        seen: Observed::default(),
        told: 0,
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

/// A copy of this session goes on with it, and is the one to tell what both have read.
pub(crate) fn go_on_session(control: RawFd, seal: Seal) {
    if let Some(observer) = lock().as_mut() {
        observer.teller = Some((std::process::id(), control, seal));
    }
}

/// What the session has read so far, if that is more than was told.
pub(crate) fn news() -> Option<Observed> {
    let mut guard = lock();
    let observer = guard.as_mut()?;
    let count = observer.seen.files.len() + observer.seen.directories.len();
    let is_more = count > observer.told;
    observer.told = count;
    is_more.then(|| observer.seen.clone())
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
        None => {
            let unseen = || has_had_children().then(|| "it starts a process".to_owned());
            seen.beyond.clone().or_else(unseen)
        }
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
    let Some(mut observer) = lock().take() else {
        return;
    };
    let Some((process, control, seal)) = observer.teller.take() else {
        return;
    };
    if process == std::process::id() {
        if has_had_children() {
            observer.beyond("it starts a process".to_owned());
        }
        let report = Report::Observed(observer.seen);
        send(control, seal, &report);
        // The process ends; most of it is the host's memory, which would be copied to be freed.
        std::mem::forget(report);
    }
}

/// Whether this process has started one since it was forked, as the kernel knows: `multiprocessing` does it by a function
/// that has no audit event.
fn has_had_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(
        rustix::process::waitid(WaitId::All, look),
        Err(rustix::io::Errno::CHILD)
    ) {
        return true;
    }
    // SAFETY: both structures are plain numbers and are written by the calls, the second of which changes nothing.
    unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        let mut at_their_end: libc::sigaction = std::mem::zeroed();
        let is_told = libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut used) == 0
            && libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut at_their_end) == 0;
        // Those whose ends are ignored are not counted.
        !is_told
            || used.ru_maxrss + used.ru_minflt != 0
            || at_their_end.sa_sigaction == libc::SIG_IGN
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
        b"ctypes.dl",
        b"import",
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
        // Of modules, only those in C are told with a path.
        b"import" => observer.loaded(argument(1)),
        b"ctypes.dlopen" => observer.loaded(argument(0)),
        // What the link leads to is not touched.
        b"os.symlink" => observer.changed(argument(1)),
        b"sqlite3.connect" => observer.opened_database(argument(0)),
        b"socket.connect" | b"socket.sendto" | b"socket.sendmsg" => {
            observer.connected(argument(1));
        }
        b"socket.gethostbyname"
        | b"socket.gethostbyaddr"
        | b"socket.getaddrinfo"
        | b"socket.getnameinfo" => observer.asked_network(),
        b"socket.getservbyname" | b"socket.getservbyport" => observer.looked_up_name(),
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
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0;
        // Bytecode stands for its source, which Python looks at without opening it.
        if is_bytecode(&path) {
            let source = source_of(&path).filter(|_| !writes);
            if let Some(found) = source.and_then(|source| self.outside(&source)) {
                self.read(found);
            }
            return;
        }
        let Some(found) = self.outside(&path) else {
            return;
        };
        let real = &found.real;
        if writes {
            self.beyond(format!("it writes to `{}`", real.display()));
        } else if is_of_the_kernel(real) {
            self.beyond(format!("it reads `{}`", real.display()));
        } else if real.is_dir() {
            // By its descriptor, everything below can be opened by names that are relative to it.
            self.beyond(format!("it opens the directory `{}`", real.display()));
        } else if real.exists() && !real.is_file() {
            // What came through a pipe comes to nobody again.
            self.beyond(format!("it opens `{}`, which is no file", real.display()));
        } else {
            self.read(found);
        }
    }

    fn read(&mut self, found: Outside) {
        found.note(&mut self.seen.files);
        self.limit();
    }

    /// A library, which the C library opens.
    fn loaded(&mut self, path: Argument) {
        let path = match path {
            Argument::Path(path) => path,
            Argument::Other => return,
            Argument::Unreadable => return self.beyond("it loads a library of no name".to_owned()),
        };
        // A bare name is one of the system's.
        if path.as_os_str().as_bytes().contains(&b'/')
            && let Some(found) = self.outside(&path)
        {
            self.read(found);
        }
    }

    fn listed(&mut self, path: Argument) {
        let path = match path {
            Argument::Path(path) => path,
            Argument::Other => PathBuf::from("."),
            Argument::Unreadable => return self.beyond("it lists a directory".to_owned()),
        };
        if let Some(found) = self.outside(&path) {
            if is_of_the_kernel(&found.real) {
                self.beyond(format!("it lists `{}`", found.real.display()));
            } else {
                found.note(&mut self.seen.directories);
            }
            self.limit();
        }
    }

    fn limit(&mut self) {
        if self.seen.files.len() + self.seen.directories.len() > MOST_FILES {
            self.beyond(format!("it reads more than {MOST_FILES} files"));
        }
    }

    /// SQLite takes addresses for paths, too, and only SQLite knows where they lead.
    fn opened_database(&mut self, place: Argument) {
        let Argument::Path(path) = place else {
            return self.beyond("it opens a database by what is no text".to_owned());
        };
        let name = path.as_os_str().as_bytes();
        let is_in_memory = matches!(name, b"" | b":memory:");
        if !is_in_memory && (name.starts_with(b"file:") || self.outside(&path).is_some()) {
            self.beyond(format!("it opens the database `{}`", path.display()));
        }
    }

    fn changed(&mut self, path: Argument) {
        let path = match path {
            Argument::Path(path) => path,
            Argument::Other => return,
            Argument::Unreadable => return self.beyond("it changes a file of no name".to_owned()),
        };
        if let Some(found) = self.outside(&path)
            && !is_bytecode(&found.real)
        {
            self.beyond(format!("it changes `{}`", found.real.display()));
        }
    }

    /// A path is the address of a Unix socket; everything else is one of a network.
    fn connected(&mut self, address: Argument) {
        match address {
            Argument::Path(path) => {
                if let Some(found) = self.outside(&path) {
                    self.beyond(format!("it connects to `{}`", found.real.display()));
                }
            }
            Argument::Other | Argument::Unreadable => self.asked_network(),
        }
    }

    fn asked_network(&mut self) {
        if !self.network_isolated {
            self.beyond("it connects to a network that is not cut off".to_owned());
        }
        self.looked_up_name();
    }

    fn looked_up_name(&mut self) {
        for file in NAMES {
            if let Some(found) = self.outside(Path::new(file)) {
                self.read(found);
            }
        }
    }

    /// What is neither the session's own nor Python's.
    fn outside(&mut self, path: &Path) -> Option<Outside> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if self.is_known(&path) {
            return None;
        }
        // Links lead out of the directory, and into it.
        let real = path.canonicalize().or_else(|_| {
            let parent = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
            Ok::<_, std::io::Error>(parent.join(path.file_name().unwrap_or_default()))
        });
        let real = real.unwrap_or_else(|_| path.clone());
        let is_inside = real.starts_with(&self.scratch)
            || self.known.iter().any(|known| real.starts_with(known));
        if is_inside {
            return None;
        }
        let by_link = (path != real && !path.starts_with(&self.scratch)).then_some(path);
        Some(Outside { real, by_link })
    }

    /// Whether a path is one of Python's own, and no link on its way leads out.
    fn is_known(&mut self, path: &Path) -> bool {
        let Some(known) = self.known.iter().find(|known| path.starts_with(known)) else {
            return false;
        };
        if path.components().any(|part| part.as_os_str() == "..") || path.is_symlink() {
            return false;
        }
        let above = path.ancestors().skip(1);
        for directory in above.take_while(|directory| *directory != known) {
            if self.plain.contains(directory) {
                break;
            }
            if directory.is_symlink() {
                return false;
            }
            self.plain.insert(directory.to_owned());
        }
        true
    }
}

/// Where something lies that is read, listed or changed.
struct Outside {
    real: PathBuf,
    /// By which path, if there are links on it: they can come to lead elsewhere.
    by_link: Option<PathBuf>,
}

impl Outside {
    fn note(self, places: &mut Vec<PathBuf>) {
        for path in self.by_link.into_iter().chain([self.real]) {
            if !places.contains(&path) {
                places.push(path);
            }
        }
    }
}

fn is_of_the_kernel(path: &Path) -> bool {
    let roots = ["/proc", "/sys", "/dev"];
    roots.iter().any(|root| path.starts_with(root))
}

fn is_bytecode(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "__pycache__")
}

/// `a/__pycache__/b.cpython-312.pyc` → `a/b.py`
fn source_of(bytecode: &Path) -> Option<PathBuf> {
    let name = bytecode.file_name()?.to_str()?;
    let module = name.split('.').next()?;
    let folder = bytecode.parent()?.parent()?;
    Some(folder.join(format!("{module}.py")))
}

/// # Safety
/// This is a `bytes`, and the GIL is held.
unsafe fn path(bytes: *mut ffi::PyObject) -> PathBuf {
    // SAFETY: the slice lives as long as the object, and is copied.
    let bytes = unsafe {
        let start = ffi::PyBytes_AsString(bytes).cast::<u8>();
        std::slice::from_raw_parts(start, ffi::PyBytes_Size(bytes).cast_unsigned())
    };
    PathBuf::from(OsStr::from_bytes(bytes))
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
            // Plain UTF-8 would fail for what is no text, and while Python starts that costs it all its codecs.
            let encoded = ffi::PyUnicode_EncodeFSDefault(item);
            if encoded.is_null() {
                ffi::PyErr_Clear();
                return Argument::Unreadable;
            }
            let path = path(encoded);
            ffi::Py_DECREF(encoded);
            return Argument::Path(path);
        }
        if ffi::PyBytes_Check(item) != 0 {
            return Argument::Path(path(item));
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
