//! The end of a session, which is cut short where nobody can see it: whatever plain Python does there is done.

use std::process::Command;

use snapbox::assert_data_eq;

use crate::project::{PYTHON, Project};

/// Programs whose last words come from the shutdown of the interpreter, or just do not.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "a finalizer",
        r#"
class Noisy:
    def __del__(self):
        print("deleted")


noisy = Noisy()
"#,
    ),
    (
        "a finalizer of an object that the collector does not know",
        r#"
class Noisy:
    __slots__ = ()

    def __del__(self):
        print("deleted")


noisy = Noisy()
"#,
    ),
    (
        "a finalizer in a cycle",
        r#"
class Noisy:
    def __init__(self):
        self.me = self

    def __del__(self):
        print("deleted")


Noisy()
"#,
    ),
    (
        "a finalizer kept by the standard library",
        r#"
import logging


class Noisy(logging.NullHandler):
    def __del__(self):
        print("deleted")


logging.getLogger("till").addHandler(Noisy())
"#,
    ),
    (
        "a generator that is not done",
        r#"
def lines():
    try:
        yield 1
    finally:
        print("closed")


running = lines()
next(running)
"#,
    ),
    (
        "a file that is not closed",
        r#"
import os

file = open("left.txt", "w")
file.write("flushed at the end")
other = os.fork()
"#,
    ),
    (
        "a weak reference with a callback",
        r#"
import weakref


class Thing:
    pass


holder = {"thing": Thing()}
reference = weakref.ref(holder["thing"], lambda _: print("called back"))
"#,
    ),
    (
        "exit handlers taken away",
        r#"
import atexit


class Noisy:
    def __del__(self):
        print("deleted")


noisy = Noisy()
atexit.register(print, "never called")
atexit._clear()
"#,
    ),
    (
        "an exit handler that makes something to finalize",
        r#"
import atexit


class Noisy:
    def __del__(self):
        print("deleted")


kept = []
atexit.register(lambda: kept.append(Noisy()))
"#,
    ),
    (
        "a collector that was watched",
        r#"
import gc


class Noisy:
    def __del__(self):
        print("deleted")


print(gc.isenabled())
noisy = Noisy()
"#,
    ),
    (
        "a stream that was replaced",
        r#"
import sys


class Loud:
    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        self.stream.write(text.upper())

    def flush(self):
        self.stream.write("flushed\n")
        self.stream.flush()


sys.stdout = Loud(sys.stdout)
print("hello")
"#,
    ),
    (
        "a copy of the process that runs off its end",
        r#"
import os


class Noisy:
    def __del__(self):
        print("deleted", flush=True)


noisy = Noisy()
if os.fork():
    os.wait()
"#,
    ),
    (
        "classes of modules that only other sessions import",
        r#"
print([c for c in object.__subclasses__() if c.__module__.startswith("json")])
"#,
    ),
    (
        "a module that was imported twice",
        r#"
import json
import sys

first = json
del sys.modules["json"]
import json

print(first is json, "gc" in sys.modules, "operator" in sys.modules)
"#,
    ),
];

#[test]
fn what_shows_when_python_shuts_down_shows() {
    // Two sessions that import the same, so that it is worth preloading.
    let mut page = "```python\nimport json, logging\n```\n".to_owned();
    let mut project = Project::new();
    for (number, (_, source)) in PROGRAMS.iter().enumerate() {
        page.push_str(&format!(
            "\n## Program {number}\n\n```python fresh\n{source}```\n"
        ));
        project = project.with(&format!("plain_{number}.py"), source);
    }
    let project = project.with("page.md", page);
    let ran = project.verify("page.md --format json");
    for (number, (what, _)) in PROGRAMS.iter().enumerate() {
        let plain = Command::new(&PYTHON.executable)
            .arg(format!("plain_{number}.py"))
            .current_dir(project.root())
            .output()
            .unwrap();
        let id = format!(r#""id":"program-{number}/1""#);
        let line = ran.stdout.lines().find(|line| line.contains(&id));
        let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
        let ours = line["outcome"]["stdout"].as_str().unwrap_or_default();
        let plain = String::from_utf8_lossy(&plain.stdout);
        assert_data_eq!(format!("{what}:\n{ours}"), format!("{what}:\n{plain}"));
    }
}
