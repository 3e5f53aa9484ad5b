//! A small project in a directory of its own, and the built program run in it.
//!
//! Everything that differs between machines and runs is removed here and nowhere else: see [`redacted`].

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::process::Pid;
use snapbox::assert::DEFAULT_ACTION_ENV;
use snapbox::{Assert, IntoData};
use tempfile::TempDir;
use verify::interpreter::{self, Interpreter};

/// The program under test.
pub(crate) const VERIFY: &str = env!("CARGO_BIN_EXE_verify");

const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The Python that a person who types `python3` here gets, which is the one that all tests run on.
pub(crate) static PYTHON: LazyLock<Interpreter> = LazyLock::new(|| {
    let cache = tempfile::tempdir().unwrap();
    let environment = |name: &str| std::env::var_os(name);
    match interpreter::discover(None, cache.path(), &environment, cache.path()) {
        Ok(python) => python,
        Err(error) => panic!("these tests need a Python with a shared libpython: {error}"),
    }
});

/// Another minor version than that of [`PYTHON`], where the machine has one.
pub(crate) static OTHER_PYTHON: LazyLock<Option<Interpreter>> = LazyLock::new(|| {
    let cache = tempfile::tempdir().unwrap();
    let environment = |name: &str| std::env::var_os(name);
    interpreter::all_installed(cache.path(), &environment, cache.path())
        .into_iter()
        .find(|python| python.version.1 != PYTHON.version.1)
});

/// `major.minor` of an interpreter.
pub(crate) fn minor(python: &Interpreter) -> String {
    format!("{}.{}", python.version.0, python.version.1)
}

/// Says aloud that a test found this machine unfit for it; what tests print is hidden while they pass.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Waits until something holds, for longer than it takes on a busy machine.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes an environment without pip; returns its directory of packages.
pub(crate) fn make_environment(directory: &Path) -> PathBuf {
    let made = Command::new(&PYTHON.executable)
        .args(["-m", "venv", "--without-pip"])
        .arg(directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    packages_of(directory)
}

pub(crate) fn packages_of(environment: &Path) -> PathBuf {
    environment.join(format!("lib/python{}/site-packages", minor(&PYTHON)))
}

/// A directory with pages in it.
pub(crate) struct Project {
    root: PathBuf,
    /// For scratch directories; empty whenever nothing runs.
    scratch: PathBuf,
    _directory: TempDir,
}

impl Project {
    /// Somebody's pages: no `verify.toml`, so nothing has to be recorded.
    pub(crate) fn new() -> Project {
        let directory = tempfile::Builder::new()
            .prefix("project-")
            .tempdir()
            .unwrap();
        let top = directory.path().canonicalize().unwrap();
        let root = top.join("book");
        let scratch = top.join("tmp");
        for folder in [&root, &scratch, &top.join("home")] {
            fs::create_dir(folder).unwrap();
        }
        Project {
            root,
            scratch,
            _directory: directory,
        }
    }

    /// A project of its own, with a `verify.toml`: what prints has to be recorded.
    pub(crate) fn book() -> Project {
        Project::new().with("verify.toml", "")
    }

    /// Adds a file; missing directories are made.
    pub(crate) fn with(self, name: &str, text: impl AsRef<[u8]>) -> Project {
        self.write(name, text);
        self
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A program that can be started by its path.
    pub(crate) fn write_program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the runs make their scratch directories.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A file has exactly this text.
    #[track_caller]
    pub(crate) fn file_is(&self, name: &str, expected: impl IntoData) {
        same(self.read(name), expected);
    }

    /// Every file with its bytes, apart from what can be made again.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        walkdir::WalkDir::new(&self.root)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| entry.file_name() != ".verify" && entry.file_name() != ".git")
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| !path.is_dir())
            .map(|path| {
                let name = path.strip_prefix(&self.root).unwrap();
                let bytes = fs::read(&path).unwrap_or_default();
                (name.to_string_lossy().into_owned(), bytes)
            })
            .collect()
    }

    /// The program, ready to be started in the project with these words, in an environment that no
    /// person and no CI has a part in.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(VERIFY);
        command.args(words.split_whitespace());
        self.surround(&mut command);
        command
    }

    /// The same surroundings for another program that starts ours.
    pub(crate) fn surround(&self, command: &mut Command) {
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", self.root.with_file_name("home"))
            .env("TMPDIR", &self.scratch)
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
    }

    /// Runs git with these words, in the same surroundings.
    pub(crate) fn git(&self, words: &str) {
        let mut command = Command::new("git");
        command.args(words.split_whitespace());
        self.surround(&mut command);
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.output().expect("git starts");
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs `then` in a shell that has a mount namespace of its own, after `prepare`: what it says. `None`, with a word
    /// about it, where this machine does not permit that.
    pub(crate) fn in_own_mounts(&self, prepare: &str, then: &str) -> Option<String> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        unshare.arg(format!("set -e\n{prepare}\necho ready\n{then}"));
        self.surround(&mut unshare);
        unshare.env("VERIFY", VERIFY).env("ROOT", self.root());
        let output = unshare.output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        match said.split_once("ready\n") {
            Some((_, said)) => Some(said.to_owned()),
            None => {
                skipped(&format!("no mounts of one's own here: {said}"));
                None
            }
        }
    }

    /// Runs the program with these words.
    #[track_caller]
    pub(crate) fn verify(&self, words: &str) -> Ran {
        self.verify_with(words, |_| {})
    }

    /// Runs the program with these words after `prepare` has changed how.
    #[track_caller]
    pub(crate) fn verify_with(&self, words: &str, prepare: impl FnOnce(&mut Command)) -> Ran {
        let mut command = self.command(words);
        prepare(&mut command);
        let output = command.output().expect("the program starts");
        self.ran(output)
    }

    /// What each example printed, in the order of the pages.
    #[track_caller]
    pub(crate) fn printed(&self, words: &str) -> Vec<String> {
        let ran = self.verify(&format!("--no-cache --format json {words}"));
        let lines = ran.stdout.lines();
        let lines: Vec<serde_json::Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let found: Vec<String> = lines
            .iter()
            .filter(|line| line["type"] == "example")
            .map(|line| {
                let stdout = line["outcome"]["stdout"].as_str();
                stdout.unwrap_or_else(|| panic!("{line}")).to_owned()
            })
            .collect();
        assert!(!found.is_empty(), "{}", ran.text());
        found
    }

    /// What a run left, which is neither a scratch directory nor a process.
    #[track_caller]
    pub(crate) fn ran(&self, output: Output) -> Ran {
        assert_eq!(
            self.scratch_files(),
            [""; 0],
            "left in the scratch directory"
        );
        assert_eq!(self.processes(), [""; 0], "left running");
        Ran {
            status: output
                .status
                .code()
                .unwrap_or_else(|| panic!("{:?}", output.status)),
            stdout: redacted(&output.stdout, self),
            stderr: redacted(&output.stderr, self),
        }
    }

    /// Processes that run in a scratch directory or have one in their environment, by their command lines.
    pub(crate) fn processes(&self) -> Vec<String> {
        let scratch = self.scratch.as_os_str().as_bytes();
        let of_ours = |process: &Path| {
            let directory = fs::read_link(process.join("cwd")).unwrap_or_default();
            let variables = fs::read(process.join("environ")).unwrap_or_default();
            directory.starts_with(&self.scratch)
                || variables.windows(scratch.len()).any(|part| part == scratch)
        };
        fs::read_dir("/proc")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|process| of_ours(process))
            .map(|process| {
                let command = fs::read(process.join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&command).replace('\0', " ")
            })
            .collect()
    }

    /// Processes that run in the directory of a session, each with its parent.
    pub(crate) fn sessions(&self) -> Vec<(Pid, Pid)> {
        let parent = |process: &Path| {
            let status = fs::read_to_string(process.join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Pid::from_raw(line.trim().parse().ok()?)
        };
        let session = |process: PathBuf| {
            let directory = fs::read_link(process.join("cwd")).ok()?;
            if !directory.starts_with(&self.scratch) || !directory.ends_with("project") {
                return None;
            }
            let own = process.file_name()?.to_str()?.parse().ok()?;
            Some((Pid::from_raw(own)?, parent(&process)?))
        };
        let processes = fs::read_dir("/proc").unwrap();
        let processes = processes.map(|entry| entry.unwrap().path());
        processes.filter_map(session).collect()
    }

    pub(crate) fn scratch_files(&self) -> Vec<String> {
        fs::read_dir(&self.scratch)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Records everything, and shows that it settles: the pages are green afterwards and a second recording
    /// changes nothing.
    #[track_caller]
    pub(crate) fn record_and_settle(&self) {
        let recorded = self.verify("record");
        assert_eq!(recorded.status, 0, "{}", recorded.text());
        let checked = self.verify("");
        assert_eq!(checked.status, 0, "{}", checked.text());
        let before = self.files();
        let again = self.verify("record");
        assert_eq!(again.status, 0, "{}", again.text());
        assert!(before == self.files(), "a second recording changed files");
    }
}

/// How a run ended and what it said, without what differs between machines.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Compares all of it, to the character.
    #[track_caller]
    pub(crate) fn is(&self, expected: impl IntoData) {
        same(self.text(), expected);
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("exit status {}\n", self.status);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text.push_str(&format!("--- {name}\n{stream}"));
            }
        }
        text
    }
}

/// Compares without any wildcard: what varies has been removed by name before.
#[track_caller]
fn same(actual: String, expected: impl IntoData) {
    Assert::new()
        .action_env(DEFAULT_ACTION_ENV)
        .eq(actual.into_data().raw(), expected.into_data().raw());
}

/// `PATH` with [`PYTHON`] as its `python3`.
pub(crate) fn search_path() -> String {
    let own = PYTHON.executable.parent().unwrap().display();
    format!("{own}:{SYSTEM_PATH}")
}

/// Text without temporary directories, durations, and the version and place of the interpreters.
fn redacted(bytes: &[u8], project: &Project) -> String {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            // The directory of a run, and a session's in it.
            (r"\[TMP\]/verify-[A-Za-z0-9]{6}(/[0-9]+)?", "[RUN]"),
            (r"\bin [0-9]+\.[0-9]{2}s\b", "in [TIME]"),
            // What this machine offers to keep examples in.
            ("; (not )?sandboxed.*", ""),
            // Which part of a line a frame points at differs between versions.
            (r"(?m)^[ |]*[~^]+[~^ ]*\n", ""),
        ]
        .map(|(pattern, name)| (Regex::new(pattern).unwrap(), name))
        .into()
    });
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let mut names: Vec<(String, &str)> = vec![
        (project.scratch.display().to_string(), "[TMP]"),
        (project.root.display().to_string(), "[ROOT]"),
    ];
    for (python, executable, version) in [
        (Some(&*PYTHON), "[PYTHON]", "[VERSION]"),
        (OTHER_PYTHON.as_ref(), "[OTHER PYTHON]", "[OTHER VERSION]"),
    ] {
        if let Some(python) = python {
            names.push((python.executable.display().to_string(), executable));
            names.push((python.full_version.clone(), version));
        }
    }
    for (value, name) in names {
        text = text.replace(&value, name);
    }
    for (pattern, name) in &*PATTERNS {
        text = pattern.replace_all(&text, *name).into_owned();
    }
    text
}

/// A path for file names that are no UTF-8.
pub(crate) fn raw_name(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
