//! What an example does under `verify` is what it does under plain `python`: every session of the handbook and
//! of `tests/fidelity/pages/` is run both ways, under each CPython found, and the two are compared.
//!
//! `verify` tells what it captured in its `json` report. A session of one example is then written to
//! `example.py` and run as `python example.py`, as a reader would. In a session of several, the examples have to
//! share an interpreter although the first of them may end in an exception: there `tests/fidelity/session.py`
//! takes each file in turn and hands it to `exec`, still in a fresh `python` that knows nothing of us.
//!
//! Standard output, standard error and the way it ended have to be the same to the character, after the rules
//! that the example itself names. What the two can't have in common is taken out by name: the scratch directory,
//! and of an uncaught exception its frames and suggestions, which no recording has either. Any other difference
//! stands with its reason in `tests/fidelity/differences.toml`; an entry that no longer differs fails.
//!
//! `FIDELITY_PYTHON=3.12 cargo test --test fidelity` compares under that version alone.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, a panic is how a failure is told, and what was compared is worth a line"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use pep440_rs::{Version, VersionSpecifiers};
use rayon::prelude::*;
use regex::Regex;
use rustix::process::Pid;
use serde::Deserialize;
use serde_json::{Value, json};
use verify::attributes::Attributes;
use verify::book::{Book, Page};
use verify::compare;
use verify::conditions::Conditions;
use verify::config::{Config, Limits};
use verify::example::{Example, Kind};
use verify::host;
use verify::interpreter::{self, Interpreter, Source};
use verify::normalize::{Context, apply};
use verify::processes;
use verify::scratch;
use verify::session;

const SESSION: &str = include_str!("fidelity/session.py");

/// Stands around the ending of an example, on both streams, in a session of several.
const MARK: char = '\x1e';

/// Longer than any example takes, on a machine that does other things as well.
const LIMIT: &str = "300";

#[test]
fn the_handbook_does_under_verify_what_it_does_under_python() {
    compare_everywhere(Path::new(env!("CARGO_MANIFEST_DIR")), "handbook");
}

#[test]
fn what_a_runner_could_get_wrong_is_as_under_python() {
    let project = tempfile::tempdir().unwrap();
    let pages = directory().join("pages");
    for entry in fs::read_dir(pages).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), project.path().join(entry.file_name())).unwrap();
    }
    // Each page's headings are sessions of their own, which costs a heading and saves a file per case.
    fs::write(
        project.path().join("verify.toml"),
        "session = \"heading\"\n",
    )
    .unwrap();
    compare_everywhere(project.path(), "pages");
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fidelity")
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// One respect in which the two are known to differ.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// `handbook` or `pages`.
    book: String,
    page: String,
    id: String,
    of: String,
    /// Everywhere, if it is not given.
    python: Option<VersionSpecifiers>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    difference: Vec<Known>,
}

/// A respect in which an example did something else: page, id, aspect.
type Place = (String, String, &'static str);

fn compare_everywhere(root: &Path, name: &str) {
    let list = fs::read_to_string(directory().join("differences.toml")).unwrap();
    let list: List = toml::from_str(&list).unwrap();
    let known: Vec<Known> = list
        .difference
        .into_iter()
        .filter(|known| known.book == name)
        .collect();
    let cache = tempfile::tempdir().unwrap();
    let mut pythons = interpreter::all_installed(root, &variable, cache.path());
    if let Some(only) = variable("FIDELITY_PYTHON").and_then(|only| only.into_string().ok()) {
        pythons.retain(|python| python.full_version.starts_with(&only));
    }
    assert!(
        !pythons.is_empty(),
        "this test needs a Python with a shared libpython"
    );
    let config = Config::find(root).unwrap();
    let book = Book::read(&config, &[]).unwrap();
    assert!(book.problems.is_empty(), "{:?}", book.problems);
    let mut faults = String::new();
    for Known { page, id, .. } in &known {
        let is_there = book.pages.iter().any(|found| {
            found.key == *page && found.examples.iter().any(|example| example.id == *id)
        });
        if !is_there {
            let _ = write!(
                faults,
                "\n{page} {id}: there is no such example, although `differences.toml` names it\n"
            );
        }
    }
    for python in pythons {
        let compared = compare_under(&python, root, &config, &book, cache.path());
        let version: Version = python.full_version.parse().unwrap();
        let mut unseen: BTreeSet<Place> = BTreeSet::new();
        for known in known.iter().filter(|known| {
            let holds = known
                .python
                .as_ref()
                .is_none_or(|python| python.contains(&version));
            holds
                && compared
                    .examples
                    .contains(&(known.page.clone(), known.id.clone()))
        }) {
            assert!(!known.reason.is_empty(), "{known:?} needs a reason");
            let of = ASPECTS
                .into_iter()
                .find(|aspect| *aspect == known.of)
                .unwrap();
            unseen.insert((known.page.clone(), known.id.clone(), of));
        }
        let mut count = 0;
        for (place, difference) in &compared.differences {
            if !unseen.remove(place) {
                count += 1;
                let (page, id, of) = place;
                let _ = write!(
                    faults,
                    "\n{page} {id}: {of} differs on Python {version}\n{difference}"
                );
            }
        }
        for (page, id, of) in &unseen {
            let _ = write!(
                faults,
                "\n{page} {id}: {of} does not differ on Python {version}, although `differences.toml` says so\n"
            );
        }
        println!(
            "Python {version} ({}): {} examples in {} plain runs, {} known differences, {count} others",
            python.executable.display(),
            compared.examples.len(),
            compared.runs,
            compared.differences.len() - count,
        );
    }
    assert!(faults.is_empty(), "{faults}");
}

struct Compared {
    examples: BTreeSet<(String, String)>,
    runs: usize,
    differences: BTreeMap<Place, String>,
}

fn compare_under(
    python: &Interpreter,
    root: &Path,
    config: &Config,
    book: &Book,
    cache: &Path,
) -> Compared {
    let report = report(python, root);
    let executable = report
        .iter()
        .find_map(|line| line["executable"].as_str())
        .unwrap();
    // With the book's packages, which `verify` has provided by now.
    let provided =
        interpreter::at(Path::new(executable), Source::Flag, root, &variable, cache).unwrap();
    let captured: HashMap<(&str, &str), &Value> = report
        .iter()
        .filter(|line| line["type"] == "example" && !line["outcome"].is_null())
        .filter(|line| line["verdict"] != "illustrative")
        .map(|line| {
            (
                (line["page"].as_str().unwrap(), line["id"].as_str().unwrap()),
                line,
            )
        })
        .collect();
    let mut sessions = Vec::new();
    for page in &book.pages {
        for positions in session::group(&page.examples, config.session) {
            let examples: Vec<(&Example, Option<&Value>)> = positions
                .iter()
                .map(|&at| &page.examples[at])
                .map(|example| {
                    let key = (page.key.as_str(), example.id.as_str());
                    (example, captured.get(&key).copied())
                })
                .filter(|(example, outcome)| {
                    outcome.is_some() || is_file(example) && example.attributes.skip.is_none()
                })
                .collect();
            if examples.iter().any(|(_, outcome)| outcome.is_some()) {
                sessions.push(Session { page, examples });
            }
        }
    }
    let differences = sessions
        .par_iter()
        .flat_map(|session| {
            // An example that measures may measure wrongly once, on a machine that does other things as well.
            let first = session.differences(&provided, config);
            if first.is_empty() {
                first
            } else {
                session.differences(&provided, config)
            }
        })
        .collect();
    Compared {
        examples: captured
            .keys()
            .map(|&(page, id)| (page.to_owned(), id.to_owned()))
            .collect(),
        runs: sessions.len(),
        differences,
    }
}

/// The report of a whole run.
fn report(python: &Interpreter, root: &Path) -> Vec<Value> {
    let ran = Command::new(env!("CARGO_BIN_EXE_verify"))
        .args(["--no-cache", "--format", "json", "--python"])
        .arg(&python.executable)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let lines: Vec<Value> = String::from_utf8(ran.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.last().is_some_and(|line| line["type"] == "summary"),
        "no whole report: {}",
        ran.status
    );
    lines
}

fn is_file(example: &Example) -> bool {
    matches!(example.kind, Kind::File(_))
}

/// The examples of a session that ran, each with its line of the report; files have none.
struct Session<'a> {
    page: &'a Page,
    examples: Vec<(&'a Example, Option<&'a Value>)>,
}

/// What one example did under plain Python.
struct Plain {
    stdout: String,
    stderr: String,
    /// In the words of the report, with the status behind `exited` and the signal behind `killed`.
    ending: String,
}

const ASPECTS: [&str; 3] = ["stdout", "stderr", "ending"];

impl Session<'_> {
    fn differences(&self, python: &Interpreter, config: &Config) -> Vec<(Place, String)> {
        // As deep as `verify` has it, since some examples print how long a path is.
        let root = tempfile::Builder::new()
            .prefix("verify-")
            .tempdir_in(scratch_place())
            .unwrap();
        let root = root.path().canonicalize().unwrap();
        let scratch = root.join("0/project");
        fs::create_dir_all(&scratch).unwrap();
        let output = self.run(python, config, &root, &scratch);
        end_what_runs_in(&root);
        let context = Context {
            scratch: scratch.display().to_string(),
            ..Context::default()
        };
        let mut differences = Vec::new();
        let ran = self
            .examples
            .iter()
            .filter_map(|&(example, line)| Some((example, line?)));
        let mut plain = segments(&output, &scratch).into_iter();
        for (example, line) in ran {
            let Some(plain) = plain.next() else {
                let place = (self.page.key.clone(), example.id.clone(), "ending");
                differences.push((
                    place,
                    "  it was not reached under plain Python\n".to_owned(),
                ));
                continue;
            };
            for (of, expected, actual) in compared(example, line, &plain, &context) {
                let place = (self.page.key.clone(), example.id.clone(), of);
                differences.push((place, shown(&expected, &actual)));
            }
        }
        differences
    }

    fn run(&self, python: &Interpreter, config: &Config, root: &Path, scratch: &Path) -> Output {
        let options = host::Options {
            environment: config.environment.clone().into_iter().collect(),
            ..host::Options::default()
        };
        let (variables, stand_ins) = host::environment(python, root, &options);
        scratch::write_stand_ins(root, &stand_ins).unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", LIMIT])
            .arg(&python.executable)
            .current_dir(scratch)
            .env_clear()
            .envs(variables)
            .env("HOME", scratch)
            .env("TMPDIR", scratch)
            .stdin(Stdio::null());
        let runs: Vec<&Example> = self
            .examples
            .iter()
            .map(|(example, _)| *example)
            .filter(|example| !is_file(example))
            .collect();
        let is_last = |example: &Example| {
            self.examples
                .last()
                .is_some_and(|(last, _)| last.id == example.id)
        };
        if let [only] = runs.as_slice()
            && matches!(only.kind, Kind::Module(_))
            && is_last(only)
        {
            for (example, _) in &self.examples {
                if let Kind::File(name) = &example.kind {
                    let path = scratch.join(name);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, example.source()).unwrap();
                }
            }
            let name = self.file_name(1);
            fs::write(scratch.join(&name), only.source()).unwrap();
            command
                .arg(name)
                .args(&only.attributes.args)
                .envs(only.attributes.env.clone());
            if let Some(text) = &only.attributes.stdin {
                fs::write(root.join("stdin"), text).unwrap();
                command.stdin(fs::File::open(root.join("stdin")).unwrap());
            }
        } else {
            let steps = self.steps(root, scratch);
            fs::write(root.join("session.py"), SESSION).unwrap();
            let start = format!(
                "exec(compile(open({session}).read(), 'session.py', 'exec'), {{'steps': {steps}, 'scratch': {scratch}}})\n",
                session = python_literal(&json!(root.join("session.py"))),
                steps = python_literal(&json!(steps)),
                scratch = python_literal(&json!(scratch)),
            );
            let script = root.join("start.py");
            fs::write(&script, start).unwrap();
            command.arg(script);
        }
        command.output().unwrap()
    }

    /// `example.py`, `example_2.py` and so on; never a name that a `file=` block has.
    fn file_name(&self, number: usize) -> String {
        let mut name = if number == 1 {
            "example.py".to_owned()
        } else {
            format!("example_{number}.py")
        };
        let is_taken = |name: &str| {
            self.page
                .examples
                .iter()
                .any(|example| example.attributes.file.as_deref() == Some(name))
        };
        while is_taken(&name) {
            name.insert(0, '_');
        }
        name
    }

    fn steps(&self, root: &Path, scratch: &Path) -> Vec<Value> {
        let mut steps = Vec::new();
        let mut modules = 0;
        // What a process that `multiprocessing` spawns has to find in its main file.
        let mut so_far = String::new();
        for (number, (example, _)) in self.examples.iter().enumerate() {
            let aside = root.join(format!("step_{number}"));
            let Attributes {
                stdin, args, env, ..
            } = &*example.attributes;
            let stdin = stdin.as_ref().map(|text| {
                let path = root.join(format!("stdin_{number}"));
                fs::write(&path, text).unwrap();
                path
            });
            let argv = |name: &str| -> Vec<String> {
                std::iter::once(name.to_owned())
                    .chain(args.iter().cloned())
                    .collect()
            };
            let environment: BTreeMap<_, _> = env.iter().cloned().collect();
            steps.push(match &example.kind {
                Kind::File(name) => {
                    fs::write(&aside, example.source()).unwrap();
                    // Python takes cached bytecode for current when size and second of a file are the same.
                    let age = Duration::from_secs(1000 - number as u64);
                    let file = fs::File::options().append(true).open(&aside).unwrap();
                    file.set_modified(SystemTime::now() - age).unwrap();
                    json!({"kind": "file", "from": aside, "to": scratch.join(name)})
                }
                Kind::Console(commands) => {
                    let commands: Vec<&str> = commands
                        .iter()
                        .map(|command| command.text.as_str())
                        .collect();
                    fs::write(&aside, commands.join("\n") + "\n").unwrap();
                    let command = format!("exec bash '{}' 2>&1", aside.display());
                    json!({"kind": "console", "command": command, "stdin": stdin, "environment": environment})
                }
                Kind::Module(_) => {
                    modules += 1;
                    let name = self.file_name(modules);
                    let path = scratch.join(&name);
                    fs::write(&path, example.source()).unwrap();
                    let attributes = &example.attributes;
                    so_far.push_str(example.source());
                    so_far.push('\n');
                    let whole = root.join(format!("session_{number}.py"));
                    fs::write(&whole, &so_far).unwrap();
                    if attributes.raises.is_some() || attributes.exits.is_some() {
                        so_far.truncate(so_far.len() - example.source().len() - 1);
                    }
                    let starts_processes = ["multiprocessing", "ProcessPool"]
                        .iter()
                        .any(|word| so_far.contains(word));
                    let file = if modules > 1 && starts_processes {
                        &whole
                    } else {
                        &path
                    };
                    json!({
                        "kind": "module", "source": example.source(), "path": path, "file": file, "argv": argv(&name),
                        "stdin": stdin, "environment": environment,
                    })
                }
                Kind::Transcript(statements) => {
                    let statements: Vec<&str> = statements
                        .iter()
                        .map(|statement| statement.source.as_str())
                        .collect();
                    json!({
                        "kind": "transcript", "statements": statements, "argv": argv(""),
                        "stdin": stdin, "environment": environment,
                    })
                }
            });
        }
        steps
    }
}

/// Nobody else ends what a plain run leaves behind, which would go on making files.
fn end_what_runs_in(directory: &Path) {
    let name = directory.as_os_str().as_bytes();
    let is_of_it = |process: &Path| {
        let variables = fs::read(process.join("environ")).unwrap_or_default();
        fs::read_link(process.join("cwd")).is_ok_and(|place| place.starts_with(directory))
            || variables.windows(name.len()).any(|part| part == name)
    };
    loop {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
        let left: Vec<Pid> = processes
            .filter(|process| is_of_it(&process.path()))
            .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
            .collect();
        if left.is_empty() {
            return;
        }
        processes::end_families(&left);
    }
}

/// JSON as Python reads it.
fn python_literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(python_literal).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name:?}: {}", python_literal(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        // JSON knows no escape that Python doesn't.
        Value::String(_) | Value::Number(_) => value.to_string(),
        Value::Bool(_) => unreachable!("no step has one"),
    }
}

/// The output of each example, in order.
fn segments(output: &Output, scratch: &Path) -> Vec<Plain> {
    let scratch = scratch.display().to_string();
    let text = |bytes: &[u8]| compare::lossy(bytes).replace(&scratch, "[SCRATCH]");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let split = |text: &str| -> Vec<String> {
        let mut parts: Vec<String> = text.split(MARK).map(str::to_owned).collect();
        // Every second part is an ending.
        let endings = parts.len() / 2;
        for at in (0..endings).rev() {
            parts.remove(2 * at + 1);
        }
        parts
    };
    let endings = stdout.split(MARK).skip(1).step_by(2);
    let last = match (output.status.code(), output.status.signal()) {
        (Some(0), _) => "completed".to_owned(),
        (Some(status), _) => format!("exited {status}"),
        (None, signal) => format!("killed {}", signal.unwrap_or_default()),
    };
    split(&stdout)
        .into_iter()
        .zip(split(&stderr))
        .zip(endings.map(str::to_owned).chain([last]))
        .map(|((stdout, stderr), ending)| Plain {
            stdout,
            stderr,
            ending,
        })
        .collect()
}

/// Where `verify` has its scratch directories.
fn scratch_place() -> PathBuf {
    Conditions::default().scratch(Limits::default().scratch)
}

/// The respects in which they differ, each with what `verify` captured and what plain Python did.
fn compared(
    example: &Example,
    line: &Value,
    plain: &Plain,
    context: &Context,
) -> Vec<(&'static str, String, String)> {
    static SCRATCH: LazyLock<Regex> = LazyLock::new(|| {
        let root = scratch_place().canonicalize().unwrap();
        let root = regex::escape(&root.to_string_lossy());
        Regex::new(&format!("{root}/verify-[A-Za-z0-9]{{6}}/[0-9]+/project")).unwrap()
    });
    let attributes = &example.attributes;
    let normal = |text: &str| {
        let text = SCRATCH.replace_all(text, "[SCRATCH]");
        let text = apply(&attributes.normalize, &text, context);
        if !attributes.unordered {
            return text;
        }
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.sort_unstable();
        lines.concat()
    };
    let outcome = &line["outcome"];
    let stdout = normal(outcome["stdout"].as_str().unwrap());
    let stderr = normal(outcome["stderr"].as_str().unwrap());
    let ending = match outcome["ending"].as_str().unwrap() {
        "exited" => match outcome["status"].as_i64().unwrap() {
            0 => "completed".to_owned(),
            status => format!("exited {status}"),
        },
        "killed" => format!("killed {}", outcome["signal"]),
        word => word.to_owned(),
    };
    let exception = outcome["exception"]["text"].as_str().map(normal);
    let mut plain_ending = plain.ending.clone();
    let mut plain_stderr = normal(&plain.stderr);
    if let Some(exception) = &exception
        && (["raised", "exited 1"].contains(&plain.ending.as_str())
            // Python passes an uncaught Ctrl-C on to whoever waits for it.
            || plain.ending == "killed 2" && exception.starts_with("KeyboardInterrupt"))
    {
        "raised".clone_into(&mut plain_ending);
        if let Some(rest) = without_exception(&plain_stderr, exception) {
            plain_stderr = rest;
        } else if !example.source().contains("excepthook") {
            return vec![("stderr", format!("{stderr}{exception}\n"), plain_stderr)];
        }
    }
    let plain_stdout = normal(&plain.stdout);
    [
        ("stdout", stdout, plain_stdout),
        ("stderr", stderr, plain_stderr),
        ("ending", ending, plain_ending),
    ]
    .into_iter()
    .filter(|(_, captured, plain)| captured != plain)
    .collect()
}

/// Standard error without the traceback that Python printed for this exception; `None` if there is none.
fn without_exception(stderr: &str, exception: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.split_inclusive('\n').collect();
    (0..lines.len()).find_map(|at| {
        let end = at + lines_of_exception(&lines[at..], exception)?;
        Some(lines[..at].concat() + &lines[end..].concat())
    })
}

/// How many lines at the start are this exception, which is given as recordings have it: type, message, notes,
/// chain and group. A traceback has frames, headers, rulers, margins and suggestions besides.
fn lines_of_exception(lines: &[&str], exception: &str) -> Option<usize> {
    static MARGIN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^( +)\| ?").unwrap());
    static RULER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^ +\+(-\+)?-+( [0-9]+ -+)?$").unwrap());
    static SUGGESTION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\. Did you (mean: |forget to import ).*\?$").unwrap());
    let mut rest = exception;
    let mut among_frames = true;
    for (number, line) in lines.iter().enumerate() {
        let line = line.trim_end_matches('\n');
        if RULER.is_match(line) {
            among_frames = true;
            if rest.is_empty() {
                // The last ruler of a group is below its last member.
                return Some(number + 1);
            }
            continue;
        }
        let (depth, content) = match MARGIN.find(line) {
            Some(margin) => {
                let spaces = line.len() - line.trim_start().len();
                ((spaces / 2).saturating_sub(1), &line[margin.end()..])
            }
            None => (0, line),
        };
        if content.ends_with("Traceback (most recent call last):") {
            among_frames = true;
            continue;
        }
        if among_frames && content.starts_with("  ") {
            continue;
        }
        among_frames = false;
        // Python 3.10 alone names the module of a script's own classes.
        let content = content.strip_prefix("__main__.").unwrap_or(content);
        let content = SUGGESTION.replace(content, "");
        let indent = " ".repeat(if content.is_empty() { 0 } else { 4 * depth });
        rest = rest.strip_prefix(&format!("{indent}{content}"))?;
        let in_group = depth > 0 || line.starts_with("  |");
        match rest.strip_prefix('\n') {
            Some(more) => rest = more,
            None if rest.is_empty() && in_group => {}
            None => return rest.is_empty().then_some(number + 1),
        }
    }
    None
}

fn shown(captured: &str, plain: &str) -> String {
    let mut text = String::new();
    for (name, side) in [("verify", captured), ("python", plain)] {
        for line in side.split_inclusive('\n').take(30) {
            let _ = writeln!(text, "  {name}: {line:?}");
        }
    }
    text
}
