//! Packages that are imported once: which ones are, what sessions see of it, and what makes them import for themselves.

use crate::project::{PYTHON, Project, make_environment, minor};

/// A project with an environment of its own, in which these modules are installed.
fn with_packages(packages: &[(&str, &str)]) -> Project {
    let mut project = Project::new().with("verify.toml", "pages = [\"pages\"]\n");
    make_environment(&project.path(".venv"));
    for (name, text) in packages {
        project = project.with(&installed(name), text);
    }
    project
}

fn installed(name: &str) -> String {
    format!(".venv/lib/python{}/site-packages/{name}", minor(&PYTHON))
}

/// The same examples on several pages.
fn pages(project: &Project, names: &[&str], examples: &[&str]) {
    for name in names {
        let mut text = format!("# {name}\n");
        for example in examples {
            text.push_str(&format!("\n```python\n{example}\n```\n"));
        }
        project.write(&format!("pages/{name}.md"), text);
    }
}

/// What the doctor says of packages.
#[track_caller]
fn doctor(project: &Project) -> String {
    let ran = project.verify("doctor");
    assert_eq!(ran.status, 0, "{}", ran.text());
    let (_, packages) = ran.stdout.split_once("\nPackages\n").unwrap();
    packages.to_owned()
}

/// Which process a session was forked from shows where its package was imported.
const PARENT: &str = "import os\nprint(os.getppid())";

#[test]
fn what_shows_of_an_import_is_named_and_keeps_the_package_out() {
    let project = with_packages(&[
        ("quiet.py", "ANSWER = 42\n"),
        ("says.py", "print('hello')\n"),
        (
            "warns.py",
            "import warnings\nwarnings.warn('old', DeprecationWarning)\n",
        ),
        ("draws.py", "import random\nrandom.random()\n"),
        (
            "keeps.py",
            "import random\nTOKEN = random.SystemRandom().random()\n",
        ),
        (
            "counts.py",
            "import itertools, os\nclass Ids:\n    pid = os.getpid()\n",
        ),
        ("clocks.py", "import time\nSTART = {'at': [time.time()]}\n"),
        (
            "homes.py",
            "import os.path\nPLACE = os.path.expanduser('~/.homes')\n",
        ),
        (
            "threads.py",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        ),
        ("opens.py", "FILE = open(__file__)\n"),
        ("exits.py", "import atexit\natexit.register(print, 'bye')\n"),
        (
            "forks.py",
            "import os\nos.register_at_fork(after_in_child=print)\n",
        ),
        ("sets.py", "import os\nos.environ['SETS'] = '1'\n"),
        (
            "signals.py",
            "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\n",
        ),
        ("patches.py", "import json\njson.dumps = repr\n"),
        ("starts.py", "import subprocess\nsubprocess.run(['true'])\n"),
        ("looks.py", "import os\nNAMES = os.listdir('.')\n"),
        ("fails.py", "1 / 0\n"),
        // It puts modules in place that it never imports, and then imports one that is there.
        ("finds.py", "import importlib.machinery\n"),
        ("leaves.py", "import os\nos._exit(3)\n"),
        ("uses/__init__.py", "import threads\n"),
    ]);
    let names = [
        "clocks", "counts", "draws", "exits", "fails", "finds", "forks", "homes", "keeps",
        "leaves", "looks", "opens", "patches", "quiet", "says", "sets", "signals", "starts",
        "threads", "uses", "warns",
    ];
    let imports: Vec<String> = names.iter().map(|name| format!("import {name}")).collect();
    pages(&project, &["one", "two", "three"], &[&imports.join("\n")]);
    snapbox::assert_data_eq!(
        doctor(&project),
        snapbox::str![[r#"
  ✗ clocks       imported by each session itself: `clocks.START` is another at every import
  ✗ counts       imported by each session itself: `counts.Ids` is another at every import
  ✗ draws        imported by each session itself: it changes the state of `random`
  ✗ exits        imported by each session itself: it registers an exit handler
  ✗ fails        imported by each session itself: it cannot be imported (`ZeroDivisionError: division by zero`)
  ✓ finds        imported once for 3 sessions
  ✗ forks        imported by each session itself: it registers what is to be done at a fork
  ✗ homes        imported by each session itself: `homes.PLACE` is another at every import
  ✗ keeps        imported by each session itself: `keeps.TOKEN` is another at every import
  ✗ leaves       imported by each session itself: its import ends the process
  ✗ looks        imported by each session itself: it looks for files in the working or home directory
  ✗ opens        imported by each session itself: behind its import a file or socket is open, or a standard stream was changed
  ✗ patches      imported by each session itself: it changes `json.dumps`
  ✓ quiet        imported once for 3 sessions
  ✗ says         imported by each session itself: it prints
  ✗ sets         imported by each session itself: it changes `os.environ`
  ✗ signals      imported by each session itself: it changes a signal handler
  ✗ starts       imported by each session itself: it starts a process (`subprocess.Popen`)
  ✗ threads      imported by each session itself: behind its import a thread is running
  ✗ uses         imported by each session itself: behind its import a thread is running
  ✗ warns        imported by each session itself: it warns (`DeprecationWarning: old`)

"#]]
    );
}

#[test]
fn a_session_finds_what_its_own_import_would_make() {
    let project = with_packages(&[
        (
            "quiet/__init__.py",
            "import json, warnings, sys\nfrom . import inner\nwarnings.filterwarnings('ignore', message='quiet')\n\
             class Finder:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n        return None\n\
             sys.meta_path.append(Finder)\nsys.modules['quiet.made'] = type(sys)('quiet.made')\n",
        ),
        (
            "quiet/inner.py",
            "import decimal\nVALUE = decimal.Decimal('1.10')\n",
        ),
        ("quiet/later.py", "import quiet.inner\n"),
    ]);
    let look = "\
import sys, warnings
before = list(sys.modules)
import quiet
print([name for name in sys.modules if name not in before])
print(sorted(vars(quiet)), hasattr(quiet, 'later'))
print(warnings.filters[0][:2], [str(finder) for finder in getattr(sys, 'meta_path')])
warnings.warn('quiet, please')
import quiet.later
print(quiet.later.quiet is quiet, quiet.inner.VALUE, list(sys.modules)[-1])";
    pages(&project, &["one", "two"], &[look, PARENT]);
    pages(&project, &["other"], &[PARENT]);
    assert_eq!(
        doctor(&project),
        "  ✓ quiet        imported once for 2 sessions\n"
    );
    let once = project.printed("");
    assert_eq!(once[1], once[4], "both pages start where the package is");
    assert_ne!(once[1], once[2], "the other page does not");
    project.write("verify.toml", "pages = [\"pages\"]\npreload = []\n");
    let each = project.printed("");
    assert_eq!(each[1], each[2], "all pages start from one host");
    assert_eq!((&once[0], &once[3]), (&each[0], &each[3]));

    // Recordings of one are those of the other.
    pages(&project, &["one", "two"], &[look]);
    project.write("pages/other.md", "# Nothing\n");
    assert_eq!(project.verify("record").status, 0);
    project.write(
        "verify.toml",
        "pages = [\"pages\"]\npreload = [\"quiet\"]\n",
    );
    let ran = project.verify("--no-cache");
    assert_eq!(ran.status, 0, "{}", ran.text());
}

#[test]
fn a_fork_of_a_session_is_as_the_modules_want_it() {
    let project = Project::new().with("verify.toml", "pages = [\"pages\"]\n");
    let example = "import logging, os, random, threading
print(random.random())
print(threading.main_thread().native_id == os.getpid())
state = random.getstate()
logging.getLogger().handlers or logging.basicConfig()
logging.root.handlers[0].acquire()
child = os.fork()
if child == 0:
    logging.warning('not held in the child')
    os._exit(random.getstate() == state)
print(os.waitpid(child, 0)[1], random.getstate() == state)";
    pages(&project, &["a", "b", "c"], &[example]);
    let found = project.printed("");
    let numbers: std::collections::HashSet<&str> = found
        .iter()
        .map(|text| text.split('\n').next().unwrap())
        .collect();
    assert_eq!(numbers.len(), 3, "{found:?}");
    for text in &found {
        let (_, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, "True\n0 True\n", "{found:?}");
    }
}

#[test]
fn hosts_form_a_tree() {
    let project = with_packages(&[
        ("base.py", "USERS = []\n"),
        ("top.py", "import base\nbase_of_top = base\n"),
    ]);
    let both = "import base\nimport top\nassert top.base_of_top is base";
    pages(&project, &["a1", "a2"], &["import base", PARENT]);
    pages(&project, &["b1", "b2"], &[both, PARENT]);
    pages(&project, &["c"], &["1", PARENT]);
    let of = |printed: &[String]| -> Vec<String> {
        printed.iter().skip(1).step_by(2).cloned().collect()
    };
    let first = of(&project.printed(""));
    assert_eq!((&first[0], &first[2]), (&first[1], &first[3]));
    assert!(first[0] != first[2] && first[0] != first[4] && first[2] != first[4]);
    // What was tried is known from now on, and changes nothing.
    let again = of(&project.printed(""));
    assert!(again[0] == again[1] && again[0] != again[2] && again[2] != again[4]);
}

#[test]
fn where_an_import_would_be_another_the_session_imports_for_itself() {
    let project = with_packages(&[("quiet.py", "import os\nWHO = os.environ.get('WHO')\n")]);
    pages(
        &project,
        &["one", "two"],
        &["import quiet\nprint(quiet.WHO)", PARENT],
    );
    // None of these is seen in the source.
    let shadowed = "with open('quiet.py', 'w') as file:\n    print('WHO = \"me\"', file=file)";
    pages(
        &project,
        &["shadow"],
        &[shadowed, "import quiet\nprint(quiet.WHO)", PARENT],
    );
    let set = "import os\nos.environ.update(WHO='you')";
    pages(
        &project,
        &["variable"],
        &[set, "import quiet\nprint(quiet.WHO)", PARENT],
    );
    let replaced =
        "import sys, types\nsys.modules['os'] = types.SimpleNamespace(environ={'WHO': 'they'})";
    pages(
        &project,
        &["module"],
        &[
            replaced,
            "import quiet\nprint(quiet.WHO)\ndel sys.modules['os']",
            PARENT,
        ],
    );
    let finder = "\
import sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'quiet':
            print('asked')
getattr(sys, 'meta_path').insert(0, Finder)";
    pages(
        &project,
        &["finder"],
        &[finder, "import quiet\nprint(quiet.WHO)", PARENT],
    );
    let all = project.printed("");
    let pages: Vec<&[String]> = [
        &all[0..3],
        &all[3..6],
        &all[6..8],
        &all[8..11],
        &all[11..13],
        &all[13..16],
    ]
    .to_vec();
    assert_eq!(pages[0][1], "asked\nNone\n");
    assert_eq!(pages[1][1], "they\n");
    assert_eq!(pages[2][0], "None\n");
    assert_eq!(pages[3][1], "me\n");
    assert_eq!(pages[4][0], "None\n");
    assert_eq!(pages[5][1], "you\n");
    let parent = |page: usize| pages[page].last().unwrap();
    assert_eq!(parent(2), parent(4), "these two share the package");
    for page in [0, 1, 3, 5] {
        assert_ne!(parent(page), parent(2), "page {page}");
    }
}

#[test]
fn what_is_not_installed_is_not_run_outside_of_the_sandbox() {
    let project = with_packages(&[]).with("src/mine.py", "import os\nPARENT = os.getppid()\n");
    let link = project.path("src").display().to_string();
    project.write(&installed("mine.pth"), link);
    project.write(
        "verify.toml",
        "pages = [\"pages\"]\nreadable = [\"src\"]\npreload = [\"mine\"]\n",
    );
    pages(
        &project,
        &["one", "two"],
        &["import mine\nprint(mine.PARENT)"],
    );
    let said = doctor(&project);
    assert!(said.contains("mine"), "{said}");
    assert!(said.contains("outside of the installed packages"), "{said}");
    let printed = project.printed("");
    assert_eq!(printed[0], printed[1]);
}

#[test]
fn a_host_that_is_killed_takes_only_its_sessions_along_and_they_run_again() {
    let project = with_packages(&[("quiet.py", "ANSWER = 42\n")]);
    project.write("verify.toml", "pages = [\"pages\"]\nsandbox = \"off\"\n");
    let kill =
        "import os, signal, quiet\nos.kill(os.getppid(), signal.SIGKILL)\nwhile True:\n    pass";
    pages(&project, &["kills"], &[kill]);
    pages(
        &project,
        &["one", "two"],
        &[
            "import quiet",
            "import time\ntime.sleep(0.01)\nassert quiet.ANSWER == 42",
        ],
    );
    let ran = project.verify("--no-cache --timeout 10s -j1");
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(ran.stdout.contains("1 failed, "), "{}", ran.text());
    assert!(ran.stdout.contains("4 ran, 1 failed"), "{}", ran.text());
}

#[test]
fn a_package_that_ends_other_processes_does_not_end_the_run() {
    let text = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos._exit(1)\n";
    let project = with_packages(&[("kills.py", text)]);
    project.write("verify.toml", "pages = [\"pages\"]\nsandbox = \"off\"\n");
    pages(&project, &["one", "two"], &["if False:\n    import kills"]);
    let ran = project.verify("--no-cache");
    assert_eq!(ran.status, 0, "{}", ran.text());
    let known = project.read(".verify/packages.json");
    assert!(known.contains("its import ends"), "{known}");
}

#[test]
fn a_session_that_starts_with_packages_is_shut_in_and_limited_like_any_other() {
    let project = with_packages(&[("quiet.py", "ANSWER = 42\n")]);
    let secret = project.root().with_file_name("secret");
    std::fs::write(&secret, "secret").unwrap();
    let read = format!("import quiet\nopen({:?})", secret.to_str().unwrap());
    let orphan = "import os, quiet\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: pass\n    os._exit(0)";
    let hungry = "import quiet\nkept = [bytearray(b'x' * 1_000_000) for _ in range(1000)]";
    pages(&project, &["read"], &[&read]);
    pages(&project, &["orphan"], &[orphan]);
    pages(&project, &["hungry"], &[hungry]);
    project.write("verify.toml", "pages = [\"pages\"]\nmemory = \"300MiB\"\n");
    let ran = project.verify("--no-cache");
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(ran.stdout.contains("Error: "), "{}", ran.text());
    assert!(ran.stdout.contains("1 ran, 2 failed"), "{}", ran.text());
}
