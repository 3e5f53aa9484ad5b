//! What crosses the boundary between `verify` and `verify-python`: the only module that both programs share.
//!
//! Three channels that carry frames (a length as 4 bytes, little endian, then postcard):
//!
//! - **host**: `verify` asks the warm host to fork sessions. A [`HostRequest::Fork`] brings [`FORK_DESCRIPTORS`]
//!   along: the session's control socket, the write ends of its stdout and stderr, its socket for what it passes, and
//!   the pipe on which the host reports how the process ended.
//! - **control**: `verify` drives one session. It waits for an answer before it sends the next units, so
//!   whatever is readable on the session's stdout by then belongs to the unit that ended. What comes back
//!   is sealed (see [`Seal`]), since an example may write to every descriptor that it finds. A session that has
//!   become a checkpoint is a host on its control socket.
//! - **passing**: of units that it is given at once, the session runs one after the other by itself, as long as
//!   `verify` reads no output, and says how much each has printed. Nobody is waked up for that: it is read when the
//!   session waits, or is no more. Sealed as well.
//!
//! All are Unix stream sockets. What a session has said on one it cannot read again, as it could what is in a pipe that
//! it opens anew.
//!
//! Examples print what they like on descriptors 1 and 2; nothing of ours ever travels there.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::outcome::Exception;

/// A frame above this size is a corrupt stream, not a message.
const LARGEST_FRAME: usize = 1 << 28;

/// The variable by which the dynamic loader gives the host its libpython.
pub const PRELOAD_VARIABLE: &str = if cfg!(target_os = "macos") {
    "DYLD_INSERT_LIBRARIES"
} else {
    "LD_PRELOAD"
};

/// The variable by which the dynamic loader looks every function up at once, and not again in each session.
pub const BIND_VARIABLE: &str = if cfg!(target_os = "macos") {
    "DYLD_BIND_AT_LAUNCH"
} else {
    "LD_BIND_NOW"
};

/// Descriptors that come with a [`HostRequest::Fork`].
pub const FORK_DESCRIPTORS: usize = 5;

/// The first thing `verify` tells a host that has started.
#[derive(Debug, Serialize, Deserialize)]
pub struct HostSetup {
    /// Standard library modules to import once, before the first fork.
    pub preload: Vec<String>,
    /// Modules whose presence examples depend on (`requires=`).
    pub probe: Vec<String>,
    /// Keep sessions from everything that is not theirs; `None` lets them do what the user can.
    pub sandbox: Option<SandboxSetup>,
    /// The directory below which every scratch directory lies. The host makes it and removes it, so that there
    /// is no moment at which `verify` could be killed and leave it behind.
    #[serde(with = "raw")]
    pub scratch_root: PathBuf,
    /// Scripts to put into `bin` of that directory.
    pub stand_ins: Vec<StandIn>,
    /// What to allocate before the first session, so that objects lie elsewhere: a seed, 0 for nothing.
    pub layout: u32,
    /// The one processor that sessions may use; `None` for all.
    pub processor: Option<usize>,
    /// Directories of the standard library and of packages: what is read there is not reported.
    #[serde(with = "raw")]
    pub known: Vec<PathBuf>,
}

/// A program of the sessions' that is a script.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StandIn {
    pub name: String,
    /// Bytes, since it names paths.
    pub script: Vec<u8>,
}

/// The host's answer to its setup.
#[derive(Debug, Serialize, Deserialize)]
pub enum HostAnswer {
    Ready(HostReady),
    /// The scratch root cannot be made; why.
    NoRoot(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct HostReady {
    /// Of the probed modules, those that can be imported.
    pub found: Vec<String>,
    /// What keeps sessions from doing harm; `None` if nothing was asked for.
    pub protections: Option<Protections>,
}

/// What sessions may see of the file system. They write in their own directories only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxSetup {
    /// Files and directories with all below them; absolute, and in order.
    #[serde(with = "raw")]
    pub readable: Vec<PathBuf>,
    /// What lies in a readable directory and stays out of sight all the same.
    #[serde(with = "raw")]
    pub hidden: Vec<PathBuf>,
}

/// What sessions are kept from, as far as this machine allows: each is `None` where it holds, else what is
/// missing of it and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protections {
    /// Reading what is not on the list, changing anything outside the scratch directory.
    pub files: Option<String>,
    /// Reaching any address but those of a loopback of their own.
    pub network: Option<String>,
    /// Signalling, tracing or looking into processes of others.
    pub processes: Option<String>,
    /// Asking the kernel for what only administrators and exploits need.
    pub kernel: Option<String>,
}

impl Protections {
    /// What holds of both; for folding.
    pub fn weaker(one: Option<Protections>, other: &Protections) -> Option<Protections> {
        let Some(one) = one else {
            return Some(other.clone());
        };
        Some(Protections {
            files: one.files.or_else(|| other.files.clone()),
            network: one.network.or_else(|| other.network.clone()),
            processes: one.processes.or_else(|| other.processes.clone()),
            kernel: one.kernel.or_else(|| other.kernel.clone()),
        })
    }

    /// Each with its name, in the order in which they are shown.
    pub fn all(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("files", self.files.as_deref()),
            ("network", self.network.as_deref()),
            ("processes", self.processes.as_deref()),
            ("kernel", self.kernel.as_deref()),
        ]
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub enum HostRequest {
    /// Start a session; descriptors come with it (control, stdout, stderr, passing, status).
    Fork {
        setup: Box<SessionSetup>,
        /// What it will run as far as that can be told: the host may compile it before.
        sources: Vec<Source>,
    },
    /// Let this session go on, if it was stopped.
    Wake { session: u64 },
    /// End this session now, with everything it started.
    Kill { session: u64 },
}

/// How a session's process is set up before anything runs in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionSetup {
    pub session: u64,
    pub seal: Seal,
    /// What is the session's of the file system; `scratch` lies in it.
    #[serde(with = "raw")]
    pub directory: PathBuf,
    /// Whose the directory is now: the same for all processes of a session, and for no other session.
    pub tenant: u64,
    /// Whether no other process of the session was started before: what lies beside `scratch` is an earlier
    /// session's.
    pub is_first: bool,
    /// Working directory, `HOME`, `TMPDIR` and `sys.path[0]` of the session.
    #[serde(with = "raw")]
    pub scratch: PathBuf,
    /// Whether the session needs a loopback that it shares with no other session.
    pub own_network: bool,
    /// Whether it may be told to become a checkpoint.
    pub may_stay: bool,
    /// Variables that are added to the host's own environment.
    pub environment: Vec<(String, OsString)>,
    pub limits: ProcessLimits,
    pub program: Program,
}

/// Limits that the kernel keeps for every process of the session. `None` leaves the user's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Address space, in bytes.
    pub memory: Option<u64>,
    /// Size of any one file, in bytes.
    pub file_size: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Program {
    /// Stay in this interpreter and run the units that come on the control socket.
    Python,
    /// Become a shell that runs this script, with the control socket as descriptor 9.
    Shell {
        #[serde(with = "raw")]
        program: PathBuf,
        script: String,
    },
    /// Import this package, if one is named, answer with a [`Snapshot`], and take [`HostRequest`]s on the control
    /// socket.
    Host { package: Option<String> },
}

/// What became of a session that was to be a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Snapshot {
    /// It serves. Modules of these names, with all below them, are imported in it once and for all.
    Ready { packages: Vec<String> },
    /// It has ended: a session would not find what its own import makes.
    Unfit { reason: String },
}

/// On the status pipe, from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The session's first process runs and has this number.
    Started { process: i32 },
    /// It ended; nothing follows.
    Ended(ProcessEnd),
}

/// How a session's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessEnd {
    Exited {
        status: i32,
        leftovers: u32,
    },
    Signaled {
        signal: i32,
        leftovers: u32,
    },
    /// The host could not fork (`errno`).
    NotStarted {
        errno: i32,
    },
}

/// To a session.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    Run {
        /// One or more. Behind one that has come to its end with nothing to say about it, the session may go on with
        /// the next, which it saves as the file that it is.
        units: Vec<Unit>,
        /// When `verify` begins to read output, in nanoseconds of the [`clock`]. Until then neither steps nor units
        /// need wait.
        reads_from: u64,
    },
    /// The last step's output has been read: go on.
    Continue,
    /// Stay as you are from here on, and take [`HostRequest`]s on this socket: each fork of them is a session that
    /// has all examples so far behind it.
    Checkpoint,
    /// No more units: shut the interpreter down as Python does at the end of a file.
    Finish,
}

/// One example, as the interpreter gets it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unit {
    /// The file that holds `source`: `__file__`, and the name in tracebacks.
    #[serde(with = "raw")]
    pub path: PathBuf,
    /// `sys.argv`.
    pub argv: Vec<String>,
    /// Variables set for this unit and taken back after it.
    pub environment: Vec<(String, String)>,
    /// A file to read standard input from; without it, standard input is empty.
    #[serde(with = "raw")]
    pub stdin: Option<PathBuf>,
    pub source: String,
    pub mode: Mode,
    /// An exception of this class is what the author announced: no traceback is needed.
    pub raises: Option<String>,
    /// Its process may end in its middle and that may be right: what its steps did has to be known by then.
    pub may_end_early: bool,
    /// Nothing follows in this session: shut down without waiting for a word.
    pub last: bool,
    /// Where `multiprocessing` finds the session as one file: earlier examples, then this one.
    #[serde(with = "raw")]
    pub session_file: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Mode {
    /// A file: all of it at once, or up to each boundary in turn.
    Module {
        /// Lines after which the output so far is reported as a step.
        boundaries: Vec<usize>,
        /// Lines at whose end an expression statement's `repr()` is reported.
        values: Vec<usize>,
    },
    /// A transcript: statements as typed at the prompt, each a step, values echoed.
    Interactive { statements: Vec<Statement> },
    /// Compile, don't run.
    Parse,
}

/// The file that statements typed at the prompt are in.
pub const TYPED: &str = "<stdin>";

/// Text that Python compiles.
#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    #[serde(with = "raw")]
    pub path: PathBuf,
    pub text: String,
    pub form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    Module,
    /// As typed at the prompt: its value is echoed, and it may `await`.
    Statement,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Statement {
    pub source: String,
    /// Line of the example on which the statement starts, 1-based.
    pub line: usize,
}

/// From a session.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The last of these steps ended and the session waits for [`Command::Continue`].
    Steps(Vec<StepReport>),
    /// The unit ended: its completion record, with the steps that nobody has been told of.
    Ended {
        steps: Vec<StepReport>,
        end: UnitEnd,
        /// All that the session has read, where it may have copies and has read more than they were told of.
        read: Option<Observed>,
    },
    /// The answer to [`Command::Checkpoint`]: what a copy of this process would not be true to; `None` if it
    /// has become one.
    Checkpoint { untrue: Option<String> },
    /// The answer of a [`Program::Host`].
    Snapshot(Snapshot),
    /// An import would not be here what it is in a plain run: the session is to run again where nothing was
    /// imported for it. It has ended.
    Untrue { reason: String },
    /// The interpreter has shut down in order: what it read while it ran.
    Observed(Observed),
}

/// A unit has come to its end, and the next one begins.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Passed {
    /// Bytes that the session had on its streams by then, from the first of the units that it was given at once.
    /// `verify` had read none of them.
    pub stdout: u64,
    pub stderr: u64,
    /// When that was, in nanoseconds of the [`clock`].
    pub at: u64,
}

/// What a session took from outside its own directory, as far as Python's audit events tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Files that were opened, whether they exist or not.
    #[serde(with = "raw")]
    pub files: Vec<PathBuf>,
    /// Directories that were listed.
    #[serde(with = "raw")]
    pub directories: Vec<PathBuf>,
    /// The first thing it did whose sources nobody can tell, in words.
    pub beyond: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StepReport {
    pub exception: Option<Exception>,
    pub values: Vec<(usize, String)>,
    /// Bytes that the unit had on its stdout by then, none of which `verify` had read. `None` if the session waits.
    pub printed: Option<u64>,
}

/// Nanoseconds on a clock that both sides of a session read alike.
pub fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(0)
}

#[derive(Debug, Serialize, Deserialize)]
pub enum UnitEnd {
    Completed {
        values: Vec<(usize, String)>,
    },
    Raised(Exception),
    /// `SystemExit`; its message, if any, has gone to stderr.
    Exited {
        status: i32,
    },
}

/// What each report of a session begins with: a random number that crosses before the first example runs, and
/// never again towards the session. An example that finds the control socket can neither read it there
/// nor write a frame that passes for a report. A shell gets it as a word for its variable, which its programs do
/// not inherit.
///
/// What remains is an example that goes through the memory of its own process, and no protocol helps against
/// that. Whatever the process does to get or use a secret when an example has ended, the example can make it do
/// before; and whatever of it could be checked from outside is the process's own doing as well. It gains
/// little: who can write such an example can write one that prints what is expected and nothing else. What it
/// says, it says of its own session alone, since every process has another seal.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal([u8; 16]);

impl Seal {
    pub fn new() -> io::Result<Seal> {
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Seal(bytes))
    }
}

/// As one word.
impl std::fmt::Display for Seal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Seal")
    }
}

/// Paths as their bytes, for `#[serde(with = "raw")]`: serde's own form is text, and not every path is.
pub mod raw {
    use std::ffi::{OsStr, OsString};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Raw, S: Serializer>(paths: &T, to: S) -> Result<S::Ok, S::Error> {
        paths.write(to)
    }

    pub fn deserialize<'de, T: Raw, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::read(from)
    }

    /// What holds paths.
    pub trait Raw: Sized {
        fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
        fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
    }

    impl Raw for PathBuf {
        fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            self.as_os_str().serialize(to)
        }

        fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            OsString::deserialize(from).map(PathBuf::from)
        }
    }

    impl Raw for Option<PathBuf> {
        fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            self.as_deref().map(Path::as_os_str).serialize(to)
        }

        fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let path = Option::<OsString>::deserialize(from)?;
            Ok(path.map(PathBuf::from))
        }
    }

    impl Raw for Vec<PathBuf> {
        fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let paths: Vec<&OsStr> = self.iter().map(|path| path.as_os_str()).collect();
            paths.serialize(to)
        }

        fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let paths = Vec::<OsString>::deserialize(from)?;
            Ok(paths.into_iter().map(PathBuf::from).collect())
        }
    }
}

/// Writes one sealed frame.
pub fn send_sealed<T: Serialize>(
    mut channel: impl Write,
    seal: Seal,
    message: &T,
) -> io::Result<()> {
    let mut frame = seal.0.to_vec();
    frame.extend(encode(message));
    channel.write_all(&frame)
}

/// As [`take_frame`], for sealed frames. The first byte that is not ours is an error.
pub fn take_sealed<T: DeserializeOwned>(buffer: &mut Vec<u8>, seal: Seal) -> io::Result<Option<T>> {
    let begun = buffer.len().min(seal.0.len());
    if buffer[..begun] != seal.0[..begun] {
        return Err(io::Error::other("a message without the session's seal"));
    }
    if begun < seal.0.len() {
        return Ok(None);
    }
    let mut rest = buffer.split_off(begun);
    let message = take_frame(&mut rest)?;
    if message.is_some() {
        buffer.clear();
    }
    buffer.append(&mut rest);
    Ok(message)
}

/// Writes one frame.
pub fn send<T: Serialize>(mut channel: impl Write, message: &T) -> io::Result<()> {
    channel.write_all(&encode(message))
}

/// One frame as bytes.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let frame = vec![0; 4];
    let mut frame = postcard::to_extend(message, frame).expect("protocol messages serialize");
    let length = u32::try_from(frame.len() - 4).expect("a frame is below 4 GiB");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame
}

/// Reads one frame; `None` at the end of the stream.
pub fn receive<T: DeserializeOwned>(mut channel: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match channel.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = frame_length(length)?;
    let mut frame = vec![0; length];
    channel.read_exact(&mut frame)?;
    postcard::from_bytes(&frame)
        .map(Some)
        .map_err(io::Error::other)
}

/// Takes the first whole frame out of a buffer that is filled as bytes arrive.
pub fn take_frame<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(length) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let end = 4 + frame_length(*length)?;
    if buffer.len() < end {
        return Ok(None);
    }
    let message = postcard::from_bytes(&buffer[4..end]).map_err(io::Error::other)?;
    buffer.drain(..end);
    Ok(Some(message))
}

fn frame_length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(bytes) as usize;
    if length > LARGEST_FRAME {
        return Err(io::Error::other(format!(
            "a frame of {length} bytes is not ours"
        )));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn paths_of_any_bytes_survive() {
        #[track_caller]
        fn survives<T: Serialize + DeserializeOwned + std::fmt::Debug>(message: &T) {
            let back: Option<T> = receive(encode(message).as_slice()).unwrap();
            assert_eq!(format!("{:?}", back.unwrap()), format!("{message:?}"));
        }
        let odd = || OsString::from_vec(b"/caf\xe9".to_vec());
        let path = || PathBuf::from(odd());
        let paths = || vec![path(), PathBuf::from("/")];
        survives(&HostSetup {
            preload: Vec::new(),
            probe: Vec::new(),
            sandbox: Some(SandboxSetup {
                readable: paths(),
                hidden: paths(),
            }),
            scratch_root: path(),
            stand_ins: Vec::new(),
            layout: 0,
            processor: None,
            known: paths(),
        });
        survives(&SessionSetup {
            session: 1,
            seal: Seal::new().unwrap(),
            directory: path(),
            tenant: 1,
            is_first: true,
            scratch: path(),
            own_network: false,
            may_stay: false,
            environment: vec![("PATH".to_owned(), odd())],
            limits: ProcessLimits::default(),
            program: Program::Shell {
                program: path(),
                script: String::new(),
            },
        });
        survives(&Unit {
            path: path(),
            argv: Vec::new(),
            environment: Vec::new(),
            stdin: Some(path()),
            source: String::new(),
            mode: Mode::Parse,
            raises: None,
            may_end_early: false,
            last: true,
            session_file: None,
        });
        survives(&Source {
            path: path(),
            text: String::new(),
            form: Form::Module,
        });
        survives(&Observed {
            files: paths(),
            directories: paths(),
            beyond: None,
        });
    }

    #[test]
    fn a_frame_survives_the_way() {
        let mut wire = Vec::new();
        send(&mut wire, &HostRequest::Kill { session: 7 }).unwrap();
        let back: Option<HostRequest> = receive(wire.as_slice()).unwrap();
        assert!(matches!(back, Some(HostRequest::Kill { session: 7 })));
    }

    #[test]
    fn frames_are_taken_one_by_one_as_bytes_arrive() {
        let mut wire = Vec::new();
        send(&mut wire, &Command::Continue).unwrap();
        send(&mut wire, &Command::Finish).unwrap();
        let rest = wire.split_off(wire.len() - 1);
        assert!(matches!(
            take_frame(&mut wire).unwrap(),
            Some(Command::Continue)
        ));
        assert!(take_frame::<Command>(&mut wire).unwrap().is_none());
        wire.extend(rest);
        assert!(matches!(
            take_frame(&mut wire).unwrap(),
            Some(Command::Finish)
        ));
    }

    #[test]
    fn only_sealed_frames_are_reports() {
        let (seal, other) = (Seal::new().unwrap(), Seal::new().unwrap());
        let mut wire = Vec::new();
        send_sealed(&mut wire, seal, &Command::Continue).unwrap();
        send_sealed(&mut wire, seal, &Command::Finish).unwrap();
        let mut arrived = Vec::new();
        let mut taken = 0;
        for byte in wire {
            arrived.push(byte);
            while take_sealed::<Command>(&mut arrived, seal)
                .unwrap()
                .is_some()
            {
                taken += 1;
            }
        }
        assert_eq!((taken, arrived.len()), (2, 0));

        let mut forged = Vec::new();
        send_sealed(&mut forged, other, &Command::Finish).unwrap();
        assert!(take_sealed::<Command>(&mut forged, seal).is_err());
        let mut unsealed = encode(&Command::Finish);
        assert!(take_sealed::<Command>(&mut unsealed, seal).is_err());
        assert!(take_sealed::<Command>(&mut vec![!seal.0[0]], seal).is_err());
    }

    #[test]
    fn a_foreign_stream_is_an_error() {
        let mut wire = b"GET / HTTP/1.1\r\n".to_vec();
        assert!(take_frame::<Command>(&mut wire).is_err());
    }

    #[test]
    fn the_end_of_the_stream_is_not_an_error() {
        assert!(receive::<Command>(&[][..]).unwrap().is_none());
    }
}
