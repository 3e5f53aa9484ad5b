//! What a session takes from outside of its directory counts, by whichever way it takes it; where nobody can tell, the
//! session runs every time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::project::{PYTHON, Project, VERIFY, skipped};

/// A book with one example, in which `DATA` is a directory beside the page.
fn book(code: &str) -> Project {
    let project = Project::book();
    let data = project.path("data");
    fs::create_dir(&data).unwrap();
    let code = code.replace("DATA", data.to_str().unwrap());
    project.with("page.md", format!("# One\n\n```python\n{code}\n```\n"))
}

/// How many sessions of a run were not run, and how it ended.
#[track_caller]
fn kept(project: &Project) -> (i64, i32) {
    let ran = project.verify("--format json");
    let line = ran.stdout.lines().last().unwrap_or_default();
    let summary: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", ran.text()));
    let kept = summary["sessions_from_cache"].as_i64().unwrap();
    (kept, ran.status)
}

/// The example passes, and is believed; it fails after the change.
#[track_caller]
fn counts(project: &Project, change: impl FnOnce(&Path)) {
    let first = project.verify("");
    assert_eq!(first.status, 0, "{}", first.text());
    assert_eq!(kept(project), (1, 0), "{}", why(project));
    change(&project.path("data"));
    assert_eq!(kept(project), (0, 1), "{}", why(project));
}

/// The example passes, and is run each time, for this reason.
#[track_caller]
fn is_beyond(project: &Project, reason: &str) {
    let first = project.verify("");
    assert_eq!(first.status, 0, "{}", first.text());
    assert_eq!(kept(project), (0, 0));
    let why = why(project);
    assert!(why.contains(reason), "{why}");
}

fn why(project: &Project) -> String {
    project.verify("--explain one/1").text()
}

#[test]
fn processes_that_no_event_tells_of() {
    for method in ["spawn", "forkserver"] {
        let code = format!(
            "import multiprocessing, pathlib\n\
             if __name__ == '__main__':\n    \
                 with multiprocessing.get_context('{method}').Pool(1) as pool:\n        \
                     assert pool.apply(pathlib.Path.read_text, [pathlib.Path('DATA/file')]) == '1'"
        );
        let project = book(&code).with("data/file", "1");
        is_beyond(&project, "not kept: it starts a process");
    }
    // One that has ended, and one of which the kernel tells nothing.
    for before in ["", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"] {
        let project = book(&format!(
            "import os, signal\nfrom multiprocessing import util\n{before}\n\
             pid = util.spawnv_passfds(b'/bin/true', [b'true'], [])\n\
             try:\n    os.waitpid(pid, 0)\nexcept ChildProcessError:\n    pass"
        ));
        is_beyond(&project, "not kept: it starts a process");
    }
}

#[test]
fn databases_outside() {
    let python = Command::new(&PYTHON.executable)
        .args(["-c", "import sqlite3"])
        .stderr(Stdio::null())
        .status();
    if !python.unwrap().success() {
        return skipped("this Python has no SQLite");
    }
    for place in [
        "'file:DATA/file?mode=ro&immutable=1', uri=True",
        "pathlib.Path('file:DATA/file?mode=ro&immutable=1'), uri=True",
        "pathlib.Path('DATA/file')",
        "'DATA/file'",
        "b'DATA/file'",
    ] {
        let project = book(&format!(
            "import pathlib, sqlite3\nsqlite3.connect({place}).close()"
        ))
        .with("data/file", "");
        is_beyond(&project, "not kept: it opens ");
    }
    let project = book(
        "import sqlite3\nfor place in ':memory:', '', 'own.db', b'own.db':\n    sqlite3.connect(place).close()",
    );
    project.verify("");
    assert_eq!(kept(&project), (1, 0), "{}", why(&project));
}

#[test]
fn extensions_of_sqlite() {
    // As SQLite raises it, which most Pythons cannot be asked for.
    let project = book("import sys\nsys.audit('sqlite3.enable_load_extension', None, True)");
    is_beyond(&project, "not kept: it loads extensions of SQLite");
}

/// An extension module, or a library, by the name of `extension.so`.
fn compile(directory: &Path, value: &str) -> bool {
    let source = format!(
        "typedef struct {{ long count; void *class; }} Object;
typedef struct {{ Object object; void *init; long index; void *copy; const char *name, *doc; long size;
    void *methods, *slots, *traverse, *clear, *free; }} Definition;
extern void *PyModule_Create2(Definition *, int);
extern int PyModule_AddIntConstant(void *, const char *, long);
static Definition definition = {{ .object = {{ 1 }}, .name = \"extension\", .size = -1 }};
void *PyInit_extension(void) {{
    void *module = PyModule_Create2(&definition, 1013);
    PyModule_AddIntConstant(module, \"value\", {value});
    return module;
}}
"
    );
    fs::write(directory.join("extension.c"), source).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "extension.so", "extension.c"])
        .current_dir(directory)
        .status();
    let made = compiled.is_ok_and(|status| status.success());
    if !made {
        skipped("no C compiler here");
    }
    made
}

#[test]
fn extension_modules_count_by_what_they_hold() {
    let project = book(
        "import sys\nsys.path.insert(0, 'DATA')\nimport extension\nassert extension.value == 1",
    );
    if compile(&project.path("data"), "1") {
        counts(&project, |data| assert!(compile(data, "2")));
    }
}

#[test]
fn libraries_count_whether_anything_is_called_or_not() {
    let project = book("import ctypes\nctypes.CDLL('DATA/extension.so')");
    if compile(&project.path("data"), "1") {
        counts(&project, |data| {
            fs::write(data.join("extension.so"), "no library").unwrap();
        });
    }
}

#[test]
fn nobody_waits_for_a_pipe() {
    let project = book(
        "import os, stat\nopen('DATA/file').read()\nassert stat.S_ISREG(os.stat('DATA/file').st_mode)",
    )
    .with("data/file", "");
    // That the example itself would wait for it is not what is asked here.
    let page = project.read("page.md");
    let (before, open) = page.split_once("open(").unwrap();
    let (open, after) = open.split_once('\n').unwrap();
    let (test, end) = after.split_once("\n```").unwrap();
    project.write("page.md", format!("{before}{test}\nopen({open}\n```{end}"));
    counts(&project, |data| {
        fs::remove_file(data.join("file")).unwrap();
        make_pipe(&data.join("file"));
    });
    // What is kept can be in nobody's way either.
    let entries = walkdir::WalkDir::new(project.path(".verify/cache"));
    for entry in entries.into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() && entry.file_name() != "ground" {
            fs::remove_file(entry.path()).unwrap();
            make_pipe(entry.path());
        }
    }
    fs::remove_file(project.path("data/file")).unwrap();
    project.write("data/file", "");
    assert_eq!(kept(&project), (0, 0));
    assert_eq!(kept(&project), (1, 0));
}

fn make_pipe(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
}

#[test]
fn what_comes_through_a_pipe_comes_once() {
    let project = book("import os\nos.close(os.open('DATA/pipe', os.O_RDONLY | os.O_NONBLOCK))");
    make_pipe(&project.path("data/pipe"));
    let pipe = project.path("data/pipe");
    is_beyond(
        &project,
        &format!("not kept: it opens `{}`, which is no file", pipe.display())
            .replace(project.root().to_str().unwrap(), "[ROOT]"),
    );
}

#[test]
fn a_file_that_is_larger_than_memory_counts() {
    const SIZE: u64 = 1 << 30;
    let project = book("assert open('DATA/file', 'rb').read(1) == b'1'").with("data/file", "1");
    let grow = |data: &Path| {
        let file = fs::File::options().write(true).open(data.join("file"));
        file.unwrap().set_len(SIZE).unwrap();
    };
    grow(&project.path("data"));
    let within_limits = || {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!(
            "ulimit -v {}; exec {VERIFY} -j 1 --format json",
            (SIZE - (256 << 20)) >> 10
        ));
        project.surround(&mut shell);
        project.ran(shell.output().unwrap())
    };
    let first = within_limits();
    assert_eq!(first.status, 0, "{}", first.text());
    let again = within_limits();
    assert!(
        again.stdout.contains(r#""sessions_from_cache":1"#),
        "{}",
        again.text()
    );
    project.write("data/file", "2");
    grow(&project.path("data"));
    let changed = within_limits();
    assert_eq!(changed.status, 1, "{}", changed.text());
}

#[test]
fn what_keeps_a_file_from_being_read_counts() {
    let project = book(
        "try:\n    open('DATA/conf')\nexcept OSError as error:\n    assert type(error) is FileNotFoundError",
    );
    counts(&project, |data| {
        fs::create_dir(data.join("conf")).unwrap();
    });
    let project = book(
        "import os\ntry:\n    os.listdir('DATA/conf')\nexcept OSError as error:\n    assert type(error) is FileNotFoundError",
    );
    counts(&project, |data| fs::write(data.join("conf"), "").unwrap());
}

#[test]
fn listings_count_by_what_their_entries_are() {
    let is_file = "import os\nassert [entry.is_file() for entry in os.scandir('DATA')] == [True]";
    let project = book(is_file).with("data/entry", "");
    counts(&project, |data| {
        fs::remove_file(data.join("entry")).unwrap();
        fs::create_dir(data.join("entry")).unwrap();
    });
    let project = book(is_file).with("one", "").with("two/file", "");
    symlink("../one", project.path("data/link")).unwrap();
    counts(&project, |data| {
        fs::remove_file(data.join("link")).unwrap();
        symlink("../two", data.join("link")).unwrap();
    });
    let project = book(is_file).with("one", "");
    symlink("../one", project.path("data/link")).unwrap();
    counts(&project, |data| {
        let one = data.with_file_name("one");
        fs::remove_file(&one).unwrap();
        fs::create_dir(&one).unwrap();
    });
}

#[test]
fn names_of_machines() {
    let lookups = [
        "gethostbyname('localhost')",
        "gethostbyaddr('127.0.0.1')",
        "getaddrinfo('localhost', 80)",
        "getnameinfo(('127.0.0.1', 80), 0)",
    ];
    for lookup in lookups {
        let project = book(&format!("import socket\nsocket.{lookup}"));
        project.write("verify.toml", "sandbox = \"off\"\n");
        is_beyond(
            &project,
            "not kept: it connects to a network that is not cut off",
        );
    }
    let project = book("import socket\nassert socket.gethostname()");
    is_beyond(&project, "not kept: it asks for the machine's name");
}

#[test]
fn names_of_machines_count_by_the_files_that_tell_them() {
    let project = book("import socket\nassert socket.gethostbyname('star.example') == '10.0.0.1'")
        .with("data/hosts", "10.0.0.1 star.example\n");
    let Some(said) = project.in_own_mounts(
        r#"mount --bind "$ROOT/data/hosts" /etc/hosts"#,
        r#""$VERIFY"
        "$VERIFY" --explain one/1
        echo changed
        echo 10.0.0.2 star.example > data/hosts
        "$VERIFY" || true"#,
    ) else {
        return;
    };
    let (before, after) = said
        .split_once("changed\n")
        .unwrap_or_else(|| panic!("{said}"));
    assert!(
        before.contains("from the cache: nothing")
            || before.contains("a network that is not cut off"),
        "{said}"
    );
    assert!(after.contains("1 failed"), "{said}");
}

#[test]
fn changes_elsewhere() {
    for change in [
        "chmod('DATA/file', 0o600)",
        "chown('DATA/file', os.getuid(), os.getgid())",
        "utime('DATA/file', (1, 1))",
        "symlink('file', 'DATA/link')",
        "link('DATA/file', 'DATA/link')",
    ] {
        let code = format!(
            "import os\nif os.path.lexists('DATA/link'):\n    os.remove('DATA/link')\nelse:\n    os.{change}"
        );
        let project = book(&code).with("data/file", "");
        project.write("verify.toml", "sandbox = \"off\"\n");
        is_beyond(&project, "not kept: it changes");
    }
    // What a link leads to is as it was.
    let project = book("import os\nos.symlink('DATA/file', 'link')").with("data/file", "");
    project.verify("");
    assert_eq!(kept(&project), (1, 0), "{}", why(&project));
}
