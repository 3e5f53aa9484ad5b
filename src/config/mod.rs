//! `verify.toml`: what a project says once for all its pages. Every key has a default; an unknown key is an error.

mod mistake;
mod place;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use pep440_rs::Version;
use serde::{Deserialize, Serialize};

use crate::attributes::{self, OwnLimits};
use crate::conditions;
use crate::digest::Digest;
use crate::doctest::Flags;
use mistake::Mistake;

pub use place::{Place, absolute, is_project};

/// The name of the file, looked for in the current directory and above.
pub const FILE_NAME: &str = "verify.toml";

/// A project's settings, checked and with defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory that holds `verify.toml`; without one, the current directory. Its real path, see [`Place`].
    pub root: PathBuf,
    /// Whether there is a `verify.toml`: without one nothing has to be recorded.
    pub is_project: bool,
    /// Directories or files with pages, below `root`.
    pub pages: Vec<PathBuf>,
    /// Names or paths below `root` that are not pages.
    pub exclude: Vec<String>,
    /// Where recordings lie, below `root`.
    pub expected: PathBuf,
    pub session: SessionScope,
    /// Whether pages show the recorded output below each example.
    pub output: Output,
    /// The versions that recordings are made for, the first of them the base.
    pub python: Vec<String>,
    pub requirements: Option<PathBuf>,
    pub limits: Limits,
    pub doctest: Flags,
    pub environment: BTreeMap<String, String>,
    pub sandbox: Sandbox,
    /// More files and directories below `root` that examples may read.
    pub readable: Vec<PathBuf>,
    /// Whether the commands of console blocks are run.
    pub console: bool,
    /// Packages that are imported once for all sessions that use them.
    pub preload: Preload,
    /// How often a new output is run before it is believed.
    pub proof_runs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionScope {
    /// All examples of a page share one session.
    #[default]
    Page,
    /// Each heading of level 2 starts a fresh one.
    Heading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// Output stands in `expected/` only.
    #[default]
    Recording,
    /// Each page carries it below the example that printed it.
    Page,
}

/// How examples are kept from what is not theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// By every means that this machine offers
    #[default]
    On,
    /// By all of them: where one is missing, nothing runs
    Strict,
    /// Not at all: they can do what you can
    Off,
}

/// Which packages are imported once for all sessions that use them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "WrittenPreload")]
pub enum Preload {
    /// Those that several sessions import.
    #[default]
    Auto,
    /// Of these, those that several sessions import.
    Packages(Vec<String>),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`preload` is \"auto\" or a list of packages such as `[\"numpy\"]`"
)]
enum WrittenPreload {
    Word(String),
    Packages(Vec<String>),
}

impl TryFrom<WrittenPreload> for Preload {
    type Error = String;

    fn try_from(written: WrittenPreload) -> std::result::Result<Preload, String> {
        match written {
            WrittenPreload::Word(word) if word == "auto" => Ok(Preload::Auto),
            WrittenPreload::Word(word) => Err(format!(
                "`preload` is `{word}`: write \"auto\" or a list of packages such as `[\"numpy\"]`"
            )),
            WrittenPreload::Packages(names) => {
                match names.iter().find(|name| !is_module_name(name)) {
                    None => Ok(Preload::Packages(names)),
                    Some(name) => Err(format!(
                        "`preload` names `{name}`: write what stands behind `import`, up to the first dot"
                    )),
                }
            }
        }
    }
}

/// Whether a relative path leads to something below where it starts.
fn is_below(path: &Path) -> bool {
    let mut depth = 0;
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    depth > 0
}

fn is_module_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// What an example may use up. An attribute of the same name sets each of them for one example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub timeout: Duration,
    /// Bytes of memory of all processes of a session; `None` is unlimited.
    pub memory: Option<u64>,
    /// Processes of a session at once.
    pub processes: u64,
    /// Bytes in a session's directory.
    pub scratch: u64,
    /// Bytes that one example may print.
    pub output: u64,
    /// Bytes of any one file.
    pub file_size: u64,
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            timeout: Duration::from_secs(30),
            memory: Some(4 << 30),
            processes: 256,
            scratch: 2 << 30,
            output: 10 << 20,
            file_size: 1 << 30,
            open_files: 1024,
        }
    }
}

impl Limits {
    /// These, where an example or its session has none of its own.
    #[must_use]
    pub fn with(self, own: OwnLimits) -> Limits {
        Limits {
            timeout: own.timeout.unwrap_or(self.timeout),
            memory: own
                .memory
                .or(self.memory)
                .filter(|&bytes| bytes != attributes::UNLIMITED),
            processes: own.processes.unwrap_or(self.processes),
            scratch: own.scratch.unwrap_or(self.scratch),
            output: own.output.unwrap_or(self.output),
            file_size: own.file_size.unwrap_or(self.file_size),
            open_files: own.open_files.unwrap_or(self.open_files),
        }
    }
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Written {
    pages: Option<Vec<PathBuf>>,
    exclude: Vec<String>,
    expected: Option<PathBuf>,
    session: SessionScope,
    output: Output,
    python: Vec<String>,
    requirements: Option<PathBuf>,
    timeout: Option<String>,
    memory: Option<String>,
    max_output: Option<String>,
    max_file_size: Option<String>,
    max_scratch: Option<String>,
    open_files: Option<u64>,
    processes: Option<u64>,
    doctest: Vec<String>,
    environment: BTreeMap<String, String>,
    sandbox: Sandbox,
    readable: Vec<PathBuf>,
    console: Option<bool>,
    preload: Preload,
    proof_runs: Option<u32>,
}

impl Config {
    /// The configuration that holds for `start`: from the nearest `verify.toml` at or above it.
    pub fn find(start: &Path) -> Result<Config> {
        Ok(Place::of(start)?.config)
    }

    /// Reads one file.
    pub fn read(file: &Path) -> Result<Config> {
        let name = name_here(file);
        let text = fs::read_to_string(file).with_context(|| format!("cannot read `{name}`"))?;
        let root = file.parent().unwrap_or(Path::new(".")).to_owned();
        let written: Written = match toml::from_str(&text) {
            Ok(written) => written,
            Err(error) => bail!("{name}:{}", mistake::told(&error, &text)),
        };
        match written.check(root, true) {
            Ok(config) => Ok(config),
            Err(mistake) => bail!("{name}:{}", mistake.told(&text)),
        }
    }

    fn without_file(start: &Path) -> Config {
        let root = if start.is_dir() {
            start
        } else {
            start.parent().unwrap_or(start)
        };
        Written::default()
            .check(root.to_owned(), false)
            .expect("the defaults are valid")
    }

    /// Where the search for pages starts. Links are not followed: a page goes by the name that leads to it from here.
    pub fn starts(&self) -> impl Iterator<Item = PathBuf> {
        self.pages.iter().map(|pages| {
            let start = self.root.join(pages);
            absolute(&start).unwrap_or(start)
        })
    }

    /// The directory for everything that can be made again: environments, the last run's results.
    pub fn cache_directory(&self) -> PathBuf {
        if self.is_project {
            return self.root.join(".verify");
        }
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .unwrap_or_else(conditions::temporary_directory);
        base.join("verify").join(name_of(&self.root))
    }
}

/// A path as the name of one file, which has its limits: where it is too long, or no text, its end and a digest.
fn name_of(path: &Path) -> String {
    const MOST: usize = 255;
    let name = path.to_string_lossy().replace('/', "%");
    if name.len() <= MOST && path.to_str().is_some() {
        return name;
    }
    let digest = Digest::of(path.as_os_str().as_bytes()).short();
    let room = MOST - "-".len() - digest.len();
    let start = name.char_indices().find(|(at, _)| name.len() - at <= room);
    let end = start.map_or("", |(at, _)| &name[at..]);
    format!("{end}-{digest}")
}

/// A path as a person would type it here.
fn name_here(file: &Path) -> String {
    let here = std::env::current_dir().and_then(|path| path.canonicalize());
    let below = here.ok().and_then(|here| file.strip_prefix(here).ok());
    below.unwrap_or(file).display().to_string()
}

impl Written {
    fn check(self, root: PathBuf, is_project: bool) -> Result<Config, Mistake> {
        let limits = self.limits()?;
        let doctest = flags(&self.doctest)?;
        check_variables(&self.environment)?;
        let is_version = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_digit()) && Version::from_str(text).is_ok()
        };
        if let Some(other) = self.python.iter().find(|text| !is_version(text)) {
            return Err(Mistake::of(
                "python",
                format!("`python` names `{other}`, which is no version: write one such as `3.13`"),
            ));
        }
        if let Some(runs @ 0..2) = self.proof_runs {
            return Err(Mistake::of(
                "proof-runs",
                format!("`proof-runs = {runs}` proves nothing: write 2 or more"),
            ));
        }
        let expected = self.expected.unwrap_or_else(|| PathBuf::from("expected"));
        if !is_below(expected.strip_prefix(&root).unwrap_or(&expected)) {
            return Err(Mistake::of(
                "expected",
                format!(
                    "`expected` names `{}`: recordings need a directory of their own below `verify.toml`",
                    expected.display()
                ),
            ));
        }
        let pages = self.pages.unwrap_or_else(|| vec![PathBuf::from(".")]);
        check_places(&pages, &root)?;
        Ok(Config {
            pages,
            exclude: self.exclude,
            expected,
            session: self.session,
            output: self.output,
            python: self.python,
            requirements: self.requirements,
            limits,
            doctest,
            environment: self.environment,
            sandbox: self.sandbox,
            readable: self.readable,
            console: self.console.unwrap_or(is_project),
            preload: self.preload,
            proof_runs: self.proof_runs.unwrap_or(3),
            root,
            is_project,
        })
    }

    fn limits(&self) -> Result<Limits, Mistake> {
        let defaults = Limits::default();
        let size = |key: &str, text: &Option<String>, default| match text {
            None => Ok(default),
            Some(text) => attributes::size(text)
                .map_err(|problem| Mistake::of(key, format!("`{key}`: {problem}"))),
        };
        let count = |key: &str, number: Option<u64>, default| match number {
            None => Ok(default),
            Some(0) => Err(Mistake::of(
                key,
                format!("`{key} = 0` is not a number from 1 on: write one such as `{key} = 500`"),
            )),
            Some(number) => Ok(number),
        };
        Ok(Limits {
            timeout: match &self.timeout {
                None => defaults.timeout,
                Some(text) => attributes::duration(text)
                    .map_err(|problem| Mistake::of("timeout", format!("`timeout`: {problem}")))?,
            },
            memory: match self.memory.as_deref() {
                None => defaults.memory,
                Some("unlimited") => None,
                Some(_) => Some(size("memory", &self.memory, 0)?),
            },
            output: size("max-output", &self.max_output, defaults.output)?,
            file_size: size("max-file-size", &self.max_file_size, defaults.file_size)?,
            scratch: size("max-scratch", &self.max_scratch, defaults.scratch)?,
            open_files: count("open-files", self.open_files, defaults.open_files)?,
            processes: count("processes", self.processes, defaults.processes)?,
        })
    }
}

fn flags(names: &[String]) -> Result<Flags, Mistake> {
    names.iter().try_fold(Flags::default(), |flags, name| {
        let unknown = match Flags::parse(name) {
            Ok(flag) => return Ok(flags | flag),
            Err(unknown) => unknown,
        };
        let hint = unknown.nearest;
        let hint = hint.map(|near| format!(": did you mean `{near}`?"));
        let (name, hint) = (unknown.name, hint.unwrap_or_default());
        let message = format!("`doctest` has no flag `{name}`{hint}");
        Err(Mistake::of("doctest", message))
    })
}

/// No process starts with a variable that the system cannot tell from others.
fn check_variables(environment: &BTreeMap<String, String>) -> Result<(), Mistake> {
    for (name, value) in environment {
        let message = if name.is_empty() || name.contains(['=', '\0']) {
            format!(
                "`environment` sets {name:?}, which no variable can be called: write letters, digits and `_`"
            )
        } else if value.contains('\0') {
            format!(
                "`{name}` in `environment` has a NUL in its value, which no variable can have: remove it"
            )
        } else {
            continue;
        };
        return Err(Mistake::within("environment", name, message));
    }
    Ok(())
}

/// Pages that run have to have recordings.
fn check_places(pages: &[PathBuf], root: &Path) -> Result<(), Mistake> {
    if pages.is_empty() {
        return Err(Mistake::of(
            "pages",
            "`pages` names nothing: name directories or pages, such as `pages = [\".\"]`",
        ));
    }
    let is_recorded = |place: &PathBuf| {
        let start = root.join(place);
        let start = absolute(&start).unwrap_or(start);
        // One directory alone has a tree that recordings can mirror, wherever it lies.
        start.starts_with(root) || (pages.len() == 1 && !start.is_file())
    };
    match pages.iter().find(|place| !is_recorded(place)) {
        None => Ok(()),
        Some(outside) => Err(Mistake::of(
            "pages",
            format!(
                "`pages` names `{}`, which is not below `verify.toml`, so that its pages would have no recordings: put `verify.toml` above all pages",
                outside.display()
            ),
        )),
    }
}

/// What `verify init` writes.
pub const TEMPLATE: &str = r#"# Configuration of `verify`. Every key is optional; the values shown are the defaults.

# Where the pages are: directories or Markdown files, below this file.
# pages = ["."]

# Names or paths that are not pages.
# exclude = ["CHANGELOG.md"]

# Where recordings are kept: a directory below this file.
# expected = "expected"

# Which examples of a page share an interpreter: "page" (all) or "heading" (each H2 starts fresh).
# session = "page"

# "page": below each example that prints, the page shows the output, written by `verify record`.
# "recording": outputs stand under `expected` only.
# output = "recording"

# The versions that recordings are made for; the first is the base, the others add what differs.
# python = ["3.13", "3.12"]

# Packages that the examples need, as pip reads them; provided in an environment under `.verify/`.
# requirements = "requirements.txt"

# Limits. An attribute of the same name sets each of them for one example, such as `memory=8GiB`.
# timeout = "30s"
# memory = "4GiB"          # of all its processes, or "unlimited"; each may reserve four times as much
# processes = 256          # at once
# max-output = "10MiB"
# max-scratch = "2GiB"     # all files in its directory
# max-file-size = "1GiB"
# open-files = 1024

# doctest option flags that hold for every transcript.
# doctest = ["ELLIPSIS"]

# "on": examples are kept from everything that is not theirs, as far as this machine allows.
# "strict": where it does not allow all of it, nothing runs. "off": examples can do what you can.
# sandbox = "on"

# Files and directories that examples may read, besides the directories of the pages.
# readable = ["data"]

# Run the commands of console blocks.
# console = true

# Packages that are imported once for all sessions that use them: "auto" (those that several sessions import)
# or a list; `[]` for none. Those whose import a session could tell from its own are left out; `verify doctor`
# says which.
# preload = "auto"

# How many runs, each under other conditions, prove an output before it is recorded.
# proof-runs = 3

# More environment variables for every example.
# [environment]
# REGION = "eu"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE_NAME);
        fs::write(&file, text).unwrap();
        Config::read(&file)
    }

    #[track_caller]
    fn rejects(text: &str, expected: &str) {
        let message = format!("{:#}", read(text).unwrap_err());
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = read("").unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.session, SessionScope::Page);
        assert!(config.console);
    }

    #[test]
    fn the_template_is_the_defaults_too() {
        let uncommented: String = TEMPLATE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(code) if code.contains(" = ") || code.starts_with('[') => format!("{code}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = read(&uncommented).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.proof_runs, 3);
        assert_eq!(config.environment["REGION"], "eu");
        assert!(read(TEMPLATE).is_ok());
    }

    #[test]
    fn every_path_makes_a_name_of_its_own() {
        use std::ffi::OsStr;
        let long = |name: &str| format!("/{}/ä{name}/{}", "a".repeat(250), "ä".repeat(110));
        let names = [
            name_of(Path::new("/home/me/book")),
            name_of(Path::new(&long("one"))),
            name_of(Path::new(&long("other"))),
            name_of(Path::new(OsStr::from_bytes(b"/caf\xe8"))),
            name_of(Path::new(OsStr::from_bytes(b"/caf\xe9"))),
        ];
        assert_eq!(names[0], "%home%me%book");
        for (at, name) in names.iter().enumerate() {
            assert!(name.len() <= 255, "{name}");
            assert!(!names[..at].contains(name), "{name}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        rejects(
            "pagse = []",
            "verify.toml:1: unknown key `pagse`: did you mean `pages`?",
        );
        for place in ["", ".", "..", "../rec", "a/..", "a/../../rec", "/", "/rec"] {
            rejects(
                &format!("expected = \"{place}\""),
                "recordings need a directory of their own below `verify.toml`",
            );
        }
        rejects("colour = 1", "unknown key `colour`: known are `pages`, ");
        rejects(
            "python = [\"new\"]",
            "`python` names `new`, which is no version: write one such as `3.13`",
        );
        rejects(
            "proof-runs = 1",
            "`proof-runs = 1` proves nothing: write 2 or more",
        );
        rejects(
            "\n\nsession = \"file\"",
            "verify.toml:3: `session`: unknown variant `file`",
        );
        rejects("timeout = \"soon\"", "`timeout`: `soon` is not a duration");
        rejects(
            "doctest = [\"ELIPSIS\"]",
            "`doctest` has no flag `ELIPSIS`: did you mean `ELLIPSIS`?",
        );
        rejects(
            "preload = \"all\"",
            "`preload` is `all`: write \"auto\" or a list of packages",
        );
        rejects(
            "preload = [\"numpy.random\"]",
            "`preload` names `numpy.random`: write what stands behind `import`, up to the first dot",
        );
        rejects("preload = 1", "`preload` is \"auto\" or a list of packages");
        rejects("x = ", "verify.toml:1");
    }

    #[test]
    fn mistakes_have_their_line_and_key() {
        rejects(
            "pages = [\".\"]\ntimout = \"3s\"\n",
            "verify.toml:2: unknown key `timout`: did you mean `timeout`?",
        );
        rejects(
            "\n# A comment\nexclude = 3",
            "verify.toml:3: `exclude`: invalid type: integer `3`, expected a sequence",
        );
        rejects(
            "exclude = [\n\n3]",
            "verify.toml:3: `exclude`: invalid type: integer `3`, expected a string",
        );
        rejects(
            "\nsandbox = true",
            "verify.toml:2: `sandbox`: expected a string",
        );
        rejects(
            "[environment]\nA = \"1\"\nB = 3",
            "verify.toml:3: `environment.B`: invalid type",
        );
        rejects(
            "[environment]\nA = \"1\"\n\"\" = \"x\"",
            "verify.toml:3: `environment` sets \"\", which no variable can be called",
        );
        rejects(
            "[environment]\nA = \"1\"\n\"A=B\" = \"x\"",
            "verify.toml:3: `environment` sets \"A=B\", which no variable can be called",
        );
        rejects(
            "[environment]\nA = \"x\\u0000y\"",
            "verify.toml:2: `A` in `environment` has a NUL in its value",
        );
        rejects(
            "\nprocesses = 0",
            "verify.toml:2: `processes = 0` is not a number from 1 on: write one such as `processes = 500`",
        );
        rejects("open-files = 0", "verify.toml:1: `open-files = 0` is not");
        for (text, key) in [
            ("timeout = \"1d\"", "timeout"),
            ("memory = \"much\"", "memory"),
            ("max-scratch = \"much\"", "max-scratch"),
            ("python = [\"banana\"]", "python"),
            ("doctest = [\"X\"]", "doctest"),
            ("expected = \"..\"", "expected"),
            ("proof-runs = 1", "proof-runs"),
            ("preload = \"all\"", "preload"),
        ] {
            rejects(&format!("\n\n{text}\n"), &format!("verify.toml:3: `{key}"));
        }
    }
}
