//! The formats for machines, read by those whom they are for: a schema's validator, two XML parsers that
//! share no code with the writer, and the grammar of workflow commands as GitHub's runner reads it.
//!
//! One small project has every verdict in it, and output that wants to break out of each format.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use junit_parser::{TestStatus, TestSuites};
use serde_json::Value;
use tempfile::TempDir;
use verify::interpreter;

const GOOD: &str = r#"# Good

```python
print("recorded")
```

```python
x = 1
```

```python skip="needs a <printer>"
print("skipped")
```

```python requires="no_such_module_anywhere"
print("unmet")
```

```python norun="a sketch"
launch()
```

```python file=helper.py
answer = 42
```

```pycon
>>> 1 + 1
2
```
"#;

const BAD: &str = r###"# Differs

```python
print("new\ttab")
print("::error file=x::pwned")
print("  ::stop-commands::x")
print("##[error]pwned \x1b[31mred\x1b[0m \r::add-mask::x")
print("]]> </system-out> &amp; </details> \0 \x08 \ufffe")
print("```")
```

# Unrecorded

```python
print("nobody recorded this")
```

# Steps

```pycon
>>> 1 + 1
2
>>> 2 + 2
5
```

# Raised

```python fresh
def fail():
    raise ValueError("first\n::error::pwned\n##[error]pwned")


print("before ]]> </system-out> \0 \x08 \ufffe")
fail()
```

```python
print("never")
```

# Announced

```python fresh raises=KeyError
raise IndexError("x")
```

```python fresh raises=KeyError
1 + 1
```

```python fresh exits=3
2 + 2
```

```python fresh artifact=plot.png
3 + 3
```

# Exits

```python fresh
import os; os._exit(4)
```

# Crashes

```python fresh
import os

os.abort()
```

# Hangs

```python fresh timeout=300ms
while True:
    pass
```

# Floods

```python fresh
while "flood":
    print("x" * 1000)
```

# Not Python

```python fresh norun="a sketch"
def (:
```
"###;

const RECORDED_GOOD: &str =
    "format = 1\n\n[[example]]\nid = \"good/1\"\nstdout = '''\nrecorded\n'''\n";
const RECORDED_BAD: &str = "format = 1\n\n[[example]]\nid = \"differs/1\"\nstdout = '''\nold\n'''\n\n\
    [[example]]\nid = \"gone/1\"\nstdout = '''\ngone\n'''\n";

/// What is to be said of each example: its id, verdict, kind of failure, and text of the line to point at.
const EXPECTED: &[(&str, &str, Option<&str>, &str)] = &[
    ("good/1", "verified", None, ""),
    ("good/2", "ran", None, ""),
    ("good/3", "skipped", None, ""),
    ("good/4", "skipped", None, ""),
    ("good/5", "illustrative", None, ""),
    ("good/7", "verified", None, ""),
    (
        "differs/1",
        "failed",
        Some("differs"),
        r#"print("new\ttab")"#,
    ),
    (
        "unrecorded/1",
        "unrecorded",
        Some("unrecorded"),
        r#"print("nobody recorded this")"#,
    ),
    ("steps/1", "failed", Some("steps"), ">>> 2 + 2"),
    (
        "raised/1",
        "failed",
        Some("raised"),
        r#"    raise ValueError("first\n::error::pwned\n##[error]pwned")"#,
    ),
    ("raised/2", "blocked", Some("blocked"), r#"print("never")"#),
    (
        "announced/1",
        "failed",
        Some("raised_other"),
        r#"raise IndexError("x")"#,
    ),
    ("announced/2", "failed", Some("did_not_raise"), "1 + 1"),
    ("announced/3", "failed", Some("did_not_exit"), "2 + 2"),
    ("announced/4", "failed", Some("did_not_make"), "3 + 3"),
    (
        "exits/1",
        "failed",
        Some("exited"),
        "import os; os._exit(4)",
    ),
    ("crashes/1", "failed", Some("killed"), "import os"),
    ("hangs/1", "failed", Some("timed_out"), "while True:"),
    (
        "floods/1",
        "failed",
        Some("too_much_output"),
        r#"while "flood":"#,
    ),
    ("not-python/1", "failed", Some("does_not_parse"), "def (:"),
];

/// Kinds of failure that did not come to their end: errors in JUnit's terms.
const ERRORS: &[&str] = &[
    "blocked",
    "killed",
    "timed_out",
    "too_much_output",
    "lost",
    "unmet",
];

struct Project {
    directory: TempDir,
}

impl Project {
    fn new() -> Project {
        let project = Project {
            directory: tempfile::tempdir().unwrap(),
        };
        project.write("verify.toml", "pages = [\"docs\"]\nmax-output = \"2KiB\"\n");
        project.write("docs/01-good.md", GOOD);
        project.write("docs/02-bad.md", BAD);
        project.write("expected/01-good.toml", RECORDED_GOOD);
        project.write("expected/02-bad.toml", RECORDED_BAD);
        project.write("expected/99-gone.toml", RECORDED_GOOD);
        project
    }

    fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs `verify` here, with nothing of the machine's CI about it.
    fn verify(&self, arguments: &[&str], environment: &[(&str, &Path)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_verify"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_remove("GITHUB_STEP_SUMMARY")
            .env_remove("CI");
        command
            .envs(environment.iter().copied())
            .output()
            .expect("verify starts")
    }

    /// The report of a run that fails, as text.
    fn report(&self, format: &str, more: &[&str], environment: &[(&str, &Path)]) -> String {
        let arguments = [&["--format", format], more].concat();
        let output = self.verify(&arguments, environment);
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
        assert_eq!(stderr, "");
        stdout.into_owned()
    }

    fn line(&self, file: &str, number: u64) -> String {
        let text = fs::read_to_string(self.path().join(file)).unwrap();
        text.lines()
            .nth(usize::try_from(number).unwrap() - 1)
            .unwrap_or("past the end")
            .to_owned()
    }
}

/// Up to two interpreters of this machine, as `--python` arguments.
fn pythons() -> Vec<String> {
    let cache = tempfile::tempdir().unwrap();
    let environment = |name: &str| std::env::var_os(name);
    let mut seen = BTreeSet::new();
    interpreter::all_installed(cache.path(), &environment, cache.path())
        .into_iter()
        .filter(|python| seen.insert(python.full_version.clone()))
        .take(2)
        .map(|python| python.executable.to_str().unwrap().to_owned())
        .collect()
}

fn arguments(pythons: &[String]) -> Vec<&str> {
    pythons
        .iter()
        .flat_map(|python| ["--python", python])
        .collect()
}

fn lines(report: &str) -> Vec<Value> {
    let parsed =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    report.lines().map(parsed).collect()
}

#[track_caller]
fn assert_valid(lines: &[Value]) {
    let schema: Value = serde_json::from_str(include_str!("../docs/report.schema.json")).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for line in lines {
        let errors: Vec<String> = validator
            .iter_errors(line)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}: {line}");
    }
}

fn of_type<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == name).collect()
}

#[test]
fn no_byte_is_lost_on_the_way() {
    let project = Project::new();
    project.write("docs/01-good.md", "```python\nprint('a\\x7fb')\n```\n");
    let report = project.report("json", &[], &[]);
    project.report("json", &["--output", "report.json"], &[]);
    let written = fs::read_to_string(project.path().join("report.json")).unwrap();
    for report in [report, written] {
        assert_eq!(lines(&report)[1]["outcome"]["stdout"], "a\u{7f}b\n");
    }
}

#[test]
fn whoever_reads_may_have_seen_enough() {
    let project = Project::new();
    for format in ["human", "json", "junit", "github"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_verify"));
        command.args(["--format", format]);
        command.current_dir(project.path()).stdout(writer);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*stderr),
            (Some(141), ""),
            "{format}"
        );
    }
}

#[test]
fn json_says_all_and_is_as_its_schema_says() {
    let (project, pythons) = (Project::new(), pythons());
    let lines = lines(&project.report("json", &arguments(&pythons), &[]));
    assert_valid(&lines);
    let examples = of_type(&lines, "example");
    assert_eq!(examples.len(), EXPECTED.len() * pythons.len());
    for (example, (id, verdict, kind, points_at)) in examples.iter().zip(EXPECTED.iter().cycle()) {
        assert_eq!(
            (example["id"].as_str(), example["verdict"].as_str()),
            (Some(*id), Some(*verdict)),
            "{example}"
        );
        assert_eq!(example["failure"]["kind"].as_str(), *kind, "{example}");
        if let Some(line) = example["failure"]["line"].as_u64() {
            assert_eq!(
                project.line(example["page"].as_str().unwrap(), line),
                *points_at,
                "{example}"
            );
        }
    }
    let ending =
        |id: &str| &examples.iter().find(|example| example["id"] == id).unwrap()["outcome"];
    assert_eq!(
        (&ending("crashes/1")["signal"], &ending("exits/1")["status"]),
        (&6.into(), &4.into())
    );
    assert_eq!(ending("hangs/1")["limit_seconds"], 0.3);
    assert_eq!(ending("raised/1")["exception"]["type"], "ValueError");
    assert_eq!(
        ending("raised/1")["stdout"],
        "before ]]> </system-out> \0 \u{8} \u{fffe}\n"
    );
    for summary in of_type(&lines, "summary") {
        let mut counts = BTreeMap::new();
        for (_, verdict, ..) in EXPECTED {
            *counts.entry((*verdict).to_owned()).or_insert(0) += 1;
        }
        assert_eq!(summary["counts"], serde_json::to_value(counts).unwrap());
        let orphans = serde_json::json!([
            { "file": "expected/99-gone.toml", "id": null }, { "file": "expected/02-bad.toml", "id": "gone/1" },
        ]);
        assert_eq!(summary["orphans"], orphans);
    }
}

#[test]
fn strict_makes_what_is_missing_a_failure() {
    let lines = lines(&Project::new().report("json", &["--strict", "docs/01-good.md"], &[]));
    assert_valid(&lines);
    let examples = of_type(&lines, "example");
    let unmet = examples
        .iter()
        .find(|example| example["id"] == "good/4")
        .unwrap();
    assert_eq!(unmet["failure"]["kind"], "unmet", "{unmet}");
}

/// What a JUnit document says of its cases, by suite.
type Suites<T> = Vec<(String, Vec<T>)>;

/// How a case ended, as both parsers have it: its name, what it is, and of which type.
type Ending = (String, String, String);

/// The same with its message and text, and what it printed. Only expat has these right: junit-parser leaves
/// out the characters that are escaped.
type Case = (String, String, String, String, String);

fn endings(report: &TestSuites) -> Suites<Ending> {
    let ending = |case: &junit_parser::TestCase| {
        let (status, kind) = match &case.status {
            TestStatus::Success => ("passed", ""),
            TestStatus::Failure(failure) => ("failure", failure.failure_type.as_str()),
            TestStatus::Error(error) => ("error", error.error_type.as_str()),
            TestStatus::Skipped(skipped) => ("skipped", skipped.skipped_type.as_str()),
        };
        (
            case.original_name.clone(),
            status.to_owned(),
            kind.to_owned(),
        )
    };
    report
        .suites
        .iter()
        .map(|suite| (suite.name.clone(), suite.cases.iter().map(ending).collect()))
        .collect()
}

/// Reads a document by expat, through Python's standard library, and checks that all counts are right.
const EXPAT: &str = r#"
import json, sys
import xml.etree.ElementTree as ElementTree

root = ElementTree.parse(sys.argv[1]).getroot()
assert root.tag == "testsuites"
suites = []
for suite in root:
    cases = []
    for case in suite.iter("testcase"):
        status = [child for child in case if child.tag in ("failure", "error", "skipped")]
        assert len(status) <= 1 and case.get("classname") == suite.get("name")
        cases.append([
            case.get("name"),
            status[0].tag if status else "passed",
            status[0].get("type") if status else "",
            (status[0].get("message") or "") + "\n" + (status[0].text or "") if status else "",
            case.findtext("system-out") or "",
        ])
    suites.append([suite.get("name"), cases])
    for word in ("failure", "error"):
        assert int(suite.get(word + "s")) == len(list(suite.iter(word)))
    assert int(suite.get("skipped")) == len(list(suite.iter("skipped")))
    assert int(suite.get("tests")) == len(cases)
for word in ("tests", "failures", "errors", "skipped"):
    assert int(root.get(word)) == sum(int(suite.get(word)) for suite in root)
print(json.dumps(suites))
"#;

fn read_by_expat(python: &str, document: &Path) -> Suites<Case> {
    let output = Command::new(python)
        .args(["-I", "-c", EXPAT])
        .arg(document)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn junit_is_read_alike_by_strangers() {
    let (project, pythons) = (Project::new(), pythons());
    let file = project.path().join("junit.xml");
    let more = [arguments(&pythons), vec!["--output", "junit.xml"]].concat();
    project.report("junit", &more, &[]);
    let report = junit_parser::from_reader(fs::read(&file).unwrap().as_slice()).unwrap();
    let found = endings(&report);
    let full = read_by_expat(&pythons[0], &file);
    let ending = |case: &Case| (case.0.clone(), case.1.clone(), case.2.clone());
    let by_expat: Suites<Ending> = full
        .iter()
        .map(|(suite, cases)| (suite.clone(), cases.iter().map(ending).collect()))
        .collect();
    assert_eq!(found, by_expat);

    let by_id: BTreeMap<_, _> = EXPECTED
        .iter()
        .map(|(id, verdict, kind, _)| (*id, (*verdict, kind.unwrap_or_default())))
        .collect();
    let (of_pages, of_orphans) = found.split_at(2 * pythons.len());
    for (suite, cases) in of_pages {
        assert_eq!(suite.contains("(Python 3."), pythons.len() > 1, "{suite}");
        for (name, status, kind) in cases {
            let (verdict, failure) = by_id[name.as_str()];
            let expected = match verdict {
                "verified" | "ran" => ("passed", ""),
                "skipped" | "illustrative" => ("skipped", verdict),
                _ if ERRORS.contains(&failure) => ("error", failure),
                _ => ("failure", failure),
            };
            assert_eq!((status.as_str(), kind.as_str()), expected, "{name}");
        }
    }
    let cases: usize = of_pages.iter().map(|(_, cases)| cases.len()).sum();
    assert_eq!(cases, EXPECTED.len() * pythons.len());
    assert_eq!(of_orphans.len(), 1);
    let orphan = ["expected/99-gone.toml", "skipped", "orphan"].map(str::to_owned);
    assert_eq!(of_orphans[0].1[0], orphan.into());

    let case = |id: &str| {
        full.iter()
            .flat_map(|suite| &suite.1)
            .find(|case| case.0 == id)
            .unwrap()
    };
    let (_, _, _, raised, printed) = case("raised/1");
    assert_eq!(printed, "before ]]> </system-out> ␀ ␈ \\u{fffe}\n");
    assert!(raised.starts_with("raised ValueError: first"), "{raised}");
    assert!(
        raised.contains("File \"docs/02-bad.md\", line 31, in fail"),
        "{raised}"
    );
    let (_, _, _, differs, printed) = case("differs/1");
    assert!(
        differs.contains("--- expected stdout\n+++ actual stdout\n-old\n+new␉tab\n"),
        "{differs}"
    );
    assert!(
        printed.ends_with("]]> </system-out> &amp; </details> ␀ ␈ \\u{fffe}\n```\n"),
        "{printed}"
    );
    assert_eq!(case("good/3").3, "needs a <printer>\n");
}

/// A command as the runner takes it.
#[derive(Debug, PartialEq, Eq)]
struct WorkflowCommand {
    name: String,
    properties: BTreeMap<String, String>,
    data: String,
}

/// All that the runner knows.
const COMMANDS: &[&str] = &[
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "stop-commands",
    "warning",
];

impl WorkflowCommand {
    /// `ActionCommand.TryParseV2` of actions/runner, then `TryParse`, which looks for `##[` anywhere.
    fn parse(line: &str) -> Option<WorkflowCommand> {
        WorkflowCommand::new_form(line).or_else(|| {
            let (_, rest) = line.split_once("##[")?;
            let (info, data) = rest.split_once(']')?;
            WorkflowCommand::of(info, data, ';')
        })
    }

    fn new_form(line: &str) -> Option<WorkflowCommand> {
        let (info, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
        WorkflowCommand::of(info, data, ',')
    }

    fn of(info: &str, data: &str, separator: char) -> Option<WorkflowCommand> {
        let (name, properties) = info.split_once(' ').unwrap_or((info, ""));
        let name = name.to_lowercase();
        COMMANDS.contains(&name.as_str()).then(|| WorkflowCommand {
            name,
            properties: properties
                .split(separator)
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| {
                    (
                        key.to_owned(),
                        unescaped(&value.replace("%3A", ":").replace("%2C", ",")),
                    )
                })
                .collect(),
            data: unescaped(data),
        })
    }

    fn property(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }
}

fn unescaped(text: &str) -> String {
    text.replace("%0D", "\r")
        .replace("%0A", "\n")
        .replace("%25", "%")
}

/// What the runner would do with a step's output; it ends lines at either character.
fn commands(output: &str) -> Vec<WorkflowCommand> {
    output
        .split(['\n', '\r'])
        .filter_map(WorkflowCommand::parse)
        .collect()
}

#[test]
fn the_test_reads_commands_as_the_runner_does() {
    let parsed = WorkflowCommand::parse("  ::Error file=a%2Cb,line=1::50%25%0A::x").unwrap();
    assert_eq!(
        (
            parsed.name.as_str(),
            parsed.property("file"),
            parsed.data.as_str()
        ),
        ("error", "a,b", "50%\n::x")
    );
    assert_eq!(WorkflowCommand::parse("say ##[error]x").unwrap().data, "x");
    for text in [
        "a ::error::x",
        "::nothing::x",
        "::error",
        "##[nothing]x",
        "## [error]x",
    ] {
        assert_eq!(WorkflowCommand::parse(text), None, "{text}");
    }
}

#[test]
fn github_annotates_the_lines_and_obeys_no_example() {
    let (project, pythons) = (Project::new(), pythons());
    let summary = project.path().join("summary.md");
    fs::write(&summary, "of a command before\n").unwrap();
    let environment = [("GITHUB_STEP_SUMMARY", summary.as_path())];
    let more = [arguments(&pythons), vec!["--verbose"]].concat();
    let output = project.report("github", &more, &environment);

    let commands = commands(&output);
    let of = |name: &str| {
        commands
            .iter()
            .filter(|command| command.name == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("error").len(), of("warning").len(), of("notice").len()),
        (10, 2, 1),
        "{commands:#?}"
    );
    assert_eq!(commands.len(), 13, "{commands:#?}");
    let page = project
        .path()
        .join("docs/02-bad.md")
        .to_str()
        .unwrap()
        .to_owned();
    for error in of("error") {
        assert_eq!(error.property("file"), page);
        let id = error.property("title").split(' ').next().unwrap();
        let (_, verdict, _, points_at) = EXPECTED
            .iter()
            .find(|(expected, ..)| *expected == id)
            .unwrap();
        assert_eq!(*verdict, "failed", "causes come first");
        let (line, last) = (
            error.property("line").parse().unwrap(),
            error.property("endLine").parse().unwrap(),
        );
        assert_eq!(project.line("docs/02-bad.md", line), *points_at, "{id}");
        let is_exact = matches!(id, "steps/1" | "raised/1" | "announced/1");
        assert!(line <= last && (!is_exact || line == last), "{error:?}");
        assert_ne!(project.line("docs/02-bad.md", last), "```");
        assert!(error.data.encode_utf16().count() <= 4096);
        assert_eq!(
            error.property("title").contains(" on Python "),
            pythons.len() > 1,
            "{error:?}"
        );
    }
    assert_eq!(
        of("warning")[0].property("file"),
        project
            .path()
            .join("expected/99-gone.toml")
            .to_str()
            .unwrap()
    );
    let failures = EXPECTED
        .iter()
        .filter(|(_, _, kind, _)| kind.is_some())
        .count();
    assert_eq!(
        of("notice")[0].data,
        format!(
            "{} more failures in the log and the job summary",
            failures - 10
        )
    );

    let summary = fs::read_to_string(&summary).unwrap();
    let wrong = failures * pythons.len();
    let head = format!(
        "of a command before\n### ❌ verify: {wrong} of {} results not as expected\n",
        EXPECTED.len() * pythons.len()
    );
    assert!(summary.starts_with(&head), "{summary}");
    assert_eq!(
        summary.matches("\n| 3.").count(),
        pythons.len(),
        "{summary}"
    );
    assert_eq!(
        summary.matches("\n<details><summary>").count(),
        failures + 1,
        "{summary}"
    );
    assert_eq!(
        summary.matches("\n````diff\n").count(),
        1,
        "a fence longer than the one in the output"
    );
}

#[test]
fn mistakes_are_in_every_format() {
    let project = Project::new();
    project.write("docs/03-open.md", "# Open\n\n```python\nprint(1)\n");
    let run = |format: &str| {
        let output = project.verify(&["--format", format], &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json = lines(&run("json"));
    assert_valid(&json);
    let problem = (json.len(), &json[0]["type"], &json[0]["line"]);
    assert_eq!(problem, (1, &"problem".into(), &3.into()), "{json:?}");
    let junit = junit_parser::from_reader(run("junit").as_bytes()).unwrap();
    assert_eq!(
        (junit.tests, junit.errors, junit.suites[0].name.as_str()),
        (1, 1, "docs/03-open.md")
    );
    let github = commands(&run("github"));
    assert_eq!(
        (
            github.len(),
            github[0].name.as_str(),
            github[0].property("line")
        ),
        (1, "error", "3")
    );
}
