//! Nothing fools the verdict: each example here does its worst to the process that runs it, and is judged by name.
//!
//! All of them run as pages of one book, at the same time. Each has a quiet example before it and one behind it
//! in its session, so that one run shows for every case that the attack is told on the example that made it,
//! that what was printed before is kept, that what follows is `blocked` (or goes on, where nothing broke), and
//! that no other page notices.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::project::{Project, wait_for};

/// What an attack should come to.
#[derive(Clone, Copy)]
enum End {
    /// Nothing is wrong with it: `python file.py` would not complain either.
    Passes,
    /// Fails in this way, with this in the message; what follows in its session is blocked.
    Fails(&'static str, &'static str),
    /// Fails in a way that differs between versions of Python.
    FailsSomehow,
}
use End::{Fails, FailsSomehow, Passes};

struct Case {
    name: &'static str,
    attributes: &'static str,
    end: End,
    code: &'static str,
    /// Nothing follows it: what happens when the interpreter shuts down is part of it.
    is_last: bool,
    /// What it prints behind the line that all print.
    prints: &'static str,
}

const fn case(name: &'static str, end: End, code: &'static str) -> Case {
    Case {
        name,
        attributes: "",
        end,
        code,
        is_last: false,
        prints: "",
    }
}

impl Case {
    const fn with(self, attributes: &'static str) -> Case {
        Case { attributes, ..self }
    }

    const fn last(self) -> Case {
        Case {
            is_last: true,
            ..self
        }
    }

    const fn prints(self, prints: &'static str) -> Case {
        Case { prints, ..self }
    }

    /// With so much more source that a host compiles it.
    fn page(&self, padding: usize) -> String {
        let padding = "# \n".repeat(padding / 3);
        let Case {
            name,
            attributes,
            code,
            ..
        } = self;
        let mut page = format!(
            "# {name}\n\n```python id={name}-before\n{padding}kept = 'kept'\n```\n\n\
             ```python id={name} {attributes}\nprint(kept, flush=True)\n{code}\n```\n"
        );
        if !self.is_last {
            let _ = write!(
                page,
                "\n```python id={name}-after\nassert kept == 'kept'\n```\n"
            );
        }
        page
    }
}

/// How a process can end, or be ended.
const ENDINGS: &[Case] = &[
    case(
        "os-exit",
        Fails(
            "exited",
            "its process ended with status 0 before the example did",
        ),
        "import os; os._exit(0)",
    ),
    case(
        "os-exit-in-a-thread",
        Fails("exited", "its process ended with status 0"),
        "import os, threading\nthread = threading.Thread(target=os._exit, args=(0,))\nthread.start()\nthread.join()",
    ),
    case(
        "sys-exit",
        Fails("exited", "exited with status 0; write `exits=0`"),
        "import sys; sys.exit(0)",
    ),
    case(
        "sys-exit-with-text",
        Fails("exited", "exited with status 1"),
        "import sys; sys.exit('text')",
    ),
    case(
        "system-exit",
        Fails("exited", "exited with status 3"),
        "raise SystemExit(3)",
    ),
    case("system-exit-announced", Passes, "raise SystemExit(3)").with("exits=3"),
    case(
        "another-system-exit-announced",
        Fails(
            "exited",
            "exited with status 3 where `exits=4` was announced",
        ),
        "raise SystemExit(3)",
    )
    .with("exits=4"),
    case(
        "abort",
        Fails("killed", "killed by SIGABRT"),
        "import os; os.abort()",
    ),
    case(
        "segmentation-fault",
        Fails("killed", "killed by SIGSEGV"),
        "import ctypes; ctypes.string_at(0)",
    ),
    case(
        "stack-overflow",
        FailsSomehow,
        "import sys\nsys.setrecursionlimit(10**9)\nnested = []\nfor _ in range(10**6):\n    nested = [nested]\nrepr(nested)",
    ),
    case(
        "kills-itself",
        Fails("killed", "killed by SIGKILL"),
        "import os; os.kill(os.getpid(), 9)",
    ),
    case(
        "kills-its-parent",
        FailsSomehow,
        "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(3)\nos._exit(1)",
    ),
    case(
        "kills-its-parent-with-orphans-left",
        FailsSomehow,
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\nos.kill(os.getppid(), 9)\ntime.sleep(3)\nos._exit(1)",
    ),
    case(
        "stops-its-parent",
        Passes,
        "import os, signal\nif os.getppid():\n    try:\n        os.kill(os.getppid(), signal.SIGSTOP)\n    except PermissionError:\n        pass",
    ),
    case(
        "interrupts-its-group",
        Fails("raised", "raised KeyboardInterrupt"),
        "import os, signal\nos.killpg(0, signal.SIGINT)",
    ),
    case(
        "terminates-its-group",
        Fails("killed", "killed by SIGTERM"),
        "import os, signal\nos.killpg(0, signal.SIGTERM)",
    ),
    case(
        "hangs-up-on-its-group",
        Fails("killed", "killed by SIGHUP"),
        "import os, signal\nos.killpg(0, signal.SIGHUP)",
    ),
    case(
        "keyboard-interrupt",
        Fails("raised", "raised KeyboardInterrupt"),
        "raise KeyboardInterrupt",
    ),
    case(
        "replaces-its-process",
        Fails("exited", "its process ended with status 0"),
        "import os; os.execv('/bin/true', ['true'])",
    ),
    case(
        "raises-from-an-exit-handler",
        Passes,
        "import atexit\natexit.register(lambda: 1 / 0)",
    )
    .last(),
    case(
        "exits-from-an-exit-handler",
        Fails("exited", "status 3"),
        "import atexit, os\natexit.register(os._exit, 3)",
    )
    .last(),
    case(
        "hangs-in-an-exit-handler",
        Fails("timed_out", "still running after"),
        "import atexit, time\natexit.register(time.sleep, 1000)",
    )
    .last()
    .with("timeout=3s"),
];

/// Ways to go on for ever.
const HANGS: &[Case] = &[
    case("swallows-every-exception", Fails("timed_out", "its time limit; raise it with `timeout=`"), "while True:\n    try:\n        raise ValueError\n    except BaseException:\n        pass").with("timeout=3s"),
    case("loops", Fails("timed_out", "still running after 3s"), "while True: pass").with("timeout=3s"),
    case("loops-in-c", Fails("timed_out", "still running"), "import collections, itertools\ncollections.deque(itertools.repeat(0), maxlen=0)").with("timeout=3s"),
    case("ignores-signals", Fails("timed_out", "still running"), "import signal\nfor number in signal.valid_signals() - {9, 19}:\n    try:\n        signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass").with("timeout=3s"),
    case("stops-itself", Fails("timed_out", "still running"), "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)").with("timeout=3s"),
    case("deadlock", Fails("timed_out", "still running"), "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()").with("timeout=3s"),
    case("sleeping-thread", Fails("timed_out", "still running"), "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()").with("timeout=3s").last(),
    case("waits-for-input", Passes, "import sys\nassert sys.stdin.read() == ''"),
];

/// Processes and threads that go on when the example has ended.
const LEFT_BEHIND: &[Case] = &[
    case("daemon-thread-that-prints", Passes, "import threading, time\n\n\ndef talk():\n    time.sleep(1000)\n    print('never')\n\n\nthreading.Thread(target=talk, daemon=True).start()").last(),
    case("fork-that-returns", Passes, "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nprint('parent' if pid else 'child', flush=True)").prints("child\nparent\n"),
    case("fork-that-raises", Passes, "import os\npid = os.fork()\nif not pid:\n    raise ValueError('in the child')\nassert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1"),
    case("orphan", Passes, "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)\nos.wait()"),
    case("orphan-in-silence", Passes, "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.closerange(0, 1024)\n        time.sleep(1000)\n    os._exit(0)\nos.wait()").last(),
    case("orphan-that-prints-for-ever", Fails("too_much_output", "printed more than"), "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True:\n            print('x' * 10000, flush=True)\n    os._exit(0)\nos.wait()").last(),
];

/// Floods, and bytes that are no text.
const OUTPUT: &[Case] = &[
    case(
        "fifty-megabytes-in-a-line",
        Fails(
            "too_much_output",
            "printed more than 10485760 bytes, its limit; raise it with `max-output=`",
        ),
        "print('x' * 50_000_000)",
    ),
    case(
        "a-million-lines",
        Passes,
        "for number in range(1_000_000):\n    print(number)",
    ),
    case(
        "twelve-megabytes-as-announced",
        Passes,
        "print('x' * 12_000_000)",
    )
    .with("max-output=20MB"),
    case(
        "endless-output",
        Fails("too_much_output", "raise it with `max-output=`"),
        "while True: print('more')",
    ),
    case(
        "endless-errors",
        Fails("too_much_output", "raise it with `max-output=`"),
        "import sys\nwhile True: print('more', file=sys.stderr)",
    ),
    case(
        "invalid-utf-8",
        Passes,
        "import os; os.write(1, b'\\xff\\xfe\\n')",
    )
    .prints("\\xff\\xfe\n"),
    case(
        "lone-surrogate",
        Fails("raised", "raised UnicodeEncodeError"),
        "print('\\ud800')",
    ),
    case("nul-bytes", Passes, "print('a\\0b')").prints("a\0b\n"),
    case(
        "terminal-escapes",
        Fails("raised", "raised ValueError: \\u{1b}[2J"),
        "print('\\x1b]0;owned\\x07\\x1b[2J\\x9b31m', flush=True)\nraise ValueError('\\x1b[2J')",
    )
    .prints("\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\n"),
    case("no-final-newline", Passes, "print('end', end='')").prints("end"),
];

/// The descriptors that an example finds.
const DESCRIPTORS: &[Case] = &[
    case(
        "closes-the-standard-streams",
        Passes,
        "import os\nfor fd in range(3): os.close(fd)",
    ),
    case(
        "replaces-the-standard-streams",
        Passes,
        "import os\nfd = os.open('elsewhere', os.O_CREAT | os.O_RDWR)\nfor target in range(3): os.dup2(fd, target)\nprint('gone')",
    ),
    case(
        "closes-what-it-may-have",
        Passes,
        "import os\nos.closerange(3, os.sysconf('SC_OPEN_MAX'))",
    ),
    case(
        "closes-every-descriptor",
        FailsSomehow,
        "import os\nfor fd in os.listdir('/proc/self/fd'):\n    try:\n        os.close(int(fd))\n    except OSError:\n        pass",
    ),
    case(
        "closes-every-descriptor-and-goes-on",
        FailsSomehow,
        "import os, time\nos.closerange(0, 1 << 16)\ntime.sleep(0.5)",
    ),
    case(
        "writes-to-every-descriptor",
        Fails("lost", "wrote to the descriptor"),
        "import os\nfor fd in os.listdir('/proc/self/fd'):\n    if int(fd) > 2:\n        try:\n            os.write(int(fd), b'x')\n        except OSError:\n            pass",
    ),
    case(
        "reads-what-its-session-has-said",
        Passes,
        "import os, select\nfor fd in os.listdir('/proc/self/fd'):\n    if int(fd) > 2:\n        try:\n            anew = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY | os.O_NONBLOCK)\n            assert not os.read(anew, 1000), fd\n        except OSError:\n            pass\n        try:\n            asked = select.poll()\n            asked.register(int(fd), select.POLLIN)\n            if asked.poll(0):\n                assert not os.read(int(fd), 1000), fd\n        except OSError:\n            pass",
    ),
    case(
        "forges-its-completion-record",
        Fails("lost", "wrote to the descriptor"),
        "import os\nrecord = b'{\"Ended\":{\"Completed\":{\"values\":[]}}}'\nframe = len(record).to_bytes(4, 'little') + record\nfor fd in os.listdir('/proc/self/fd'):\n    if int(fd) > 2:\n        try:\n            os.write(int(fd), frame)\n        except OSError:\n            pass\nos._exit(0)",
    ),
];

/// What an example takes from the machine.
const RESOURCES: &[Case] = &[
    case(
        "memory",
        Fails("raised", "raised MemoryError; if that is its limit, raise it with `memory=` here or in `verify.toml`"),
        "block = b'x' * (2 << 30)",
    ),
    case("memory-as-announced", Passes, "block = b'x' * (350 << 20)").with("memory=1GiB"),
    case(
        "memory-in-children",
        Fails("too_much_memory", "used more than 314572800 bytes of memory, its limit; raise it with `memory=` here or in `verify.toml`"),
        "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        block = b'x' * (100 << 20)\n        time.sleep(1000)\ntime.sleep(1000)",
    ),
    case(
        "memory-that-is-shared",
        Passes,
        "import os, time\nblock = b'x' * (100 << 20)\nchildren = []\nfor _ in range(4):\n    child = os.fork()\n    if child == 0:\n        sum(block[::4096])\n        time.sleep(0.3)\n        os._exit(0)\n    children.append(child)\nfor child in children:\n    os.waitpid(child, 0)",
    ),
    // Doubles eight times and stops, where a fork bomb would go on.
    case(
        "fork-bomb",
        Fails("too_many_processes", "had more than 20 processes at once, its limit; raise it with `processes=` here or in `verify.toml`"),
        "import os, time\nfor _ in range(8):\n    os.fork()\ntime.sleep(1000)",
    ),
    case(
        "fork-bomb-of-orphans",
        Fails("too_many_processes", "raise it with `processes=`"),
        "import os, time\nfor _ in range(100):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            time.sleep(1000)\n        os._exit(0)\n    os.wait()\ntime.sleep(1000)",
    ),
    case(
        "processes-as-announced",
        Passes,
        "import os, time\nfor _ in range(30):\n    if os.fork() == 0:\n        time.sleep(0.3)\n        os._exit(0)\nfor _ in range(30):\n    os.wait()",
    )
    .with("processes=40"),
    case(
        "a-thousand-threads",
        Passes,
        "import threading\nevent = threading.Event()\nthreads = [threading.Thread(target=event.wait) for _ in range(1000)]\nfor thread in threads:\n    thread.start()\nevent.set()\nfor thread in threads:\n    thread.join()",
    )
    .with("memory=4GiB"),
    case(
        "too-many-threads",
        Fails("raised", "raised RuntimeError: can't start new thread; if that is its limit, raise it with `memory=`"),
        "import threading\nevent = threading.Event()\nfor _ in range(1000):\n    threading.Thread(target=event.wait, daemon=True).start()",
    ),
    case(
        "ten-thousand-open-files",
        Fails("raised", "raised OSError: [Errno 24] Too many open files: '/dev/null'; if that is its limit, raise it with `open-files=` here or in `verify.toml`"),
        "files = [open('/dev/null') for _ in range(10_000)]",
    ),
    case(
        "open-files-as-announced",
        Passes,
        "files = [open('/dev/null') for _ in range(300)]",
    )
    .with("open-files=400"),
    case(
        "large-file-as-announced",
        Passes,
        "with open('large', 'wb', buffering=0) as file:\n    for _ in range(30):\n        file.write(bytes(1_000_000))",
    )
    .with("max-file-size=40MB max-scratch=40MB"),
    case(
        "large-file",
        Fails("raised", "raised OSError: [Errno 27] File too large; if that is its limit, raise it with `max-file-size=` here or in `verify.toml`"),
        "with open('large', 'wb', buffering=0) as file:\n    while True:\n        file.write(bytes(1_000_000))",
    ),
    case(
        "full-directory",
        Fails("too_much_scratch", "filled its directory with more than 20000000 bytes, its limit; raise it with `max-scratch=` here or in `verify.toml`"),
        "import time\nfor number in range(3):\n    with open(f'file{number}', 'wb') as file:\n        file.write(bytes(10_000_000))\ntime.sleep(1000)",
    ),
    case(
        "full-directory-at-its-end",
        Fails("too_much_scratch", "raise it with `max-scratch=`"),
        "for number in range(3):\n    with open(f'file{number}', 'wb') as file:\n        file.write(bytes(10_000_000))",
    ),
    case(
        "full-directory-at-the-end-of-its-session",
        Fails("too_much_scratch", "raise it with `max-scratch=`"),
        "for number in range(3):\n    with open(f'file{number}', 'wb') as file:\n        file.write(bytes(10_000_000))",
    )
    .last(),
    case(
        "many-small-files",
        Fails("too_much_scratch", "raise it with `max-scratch=`"),
        "for number in range(25_000):\n    open(str(number), 'w').close()",
    ),
    case(
        "files-without-names",
        Fails("too_much_scratch", "raise it with `max-scratch=`"),
        "import tempfile, time\nfiles = [tempfile.TemporaryFile() for _ in range(3)]\nfor file in files:\n    file.write(bytes(10_000_000))\n    file.flush()\ntime.sleep(1000)",
    ),
    case(
        "memory-as-a-file",
        Fails("too_much_scratch", "raise it with `max-scratch=`"),
        "import os, time\nfor _ in range(3):\n    os.write(os.memfd_create('x'), bytes(10_000_000))\ntime.sleep(1000)",
    ),
    case(
        "raises-its-own-limits",
        Passes,
        "import resource\nfor limit in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):\n    resource.setrlimit(limit, (resource.getrlimit(limit)[1],) * 2)",
    ),
];

/// What an example does to Python itself.
const PATCHED: &[Case] = &[
    case("no-stdout", Passes, "import sys\nsys.stdout = None\nprint('nobody hears')"),
    case("broken-stdout", Fails("exited", "status 120"), "import sys\n\n\nclass Broken:\n    def __getattr__(self, name):\n        raise RuntimeError\n\n\nsys.stdout = sys.stderr = Broken()").last(),
    case("traces", Passes, "import sys\nsys.settrace(lambda frame, event, argument: print(frame.f_code.co_filename.rpartition('/')[2]))\n(lambda: 0)()").prints("example_2.py\n"),
    case("profiles", Passes, "import sys\nsys.setprofile(lambda *arguments: None)"),
    case("hardly-any-recursion", Passes, "import sys\nsys.setrecursionlimit(30)"),
    case("patches-print", Passes, "import builtins\nbuiltins.print = None"),
    case("patches-open-and-json", Passes, "import builtins, json\nbuiltins.open = json.dumps = json.loads = None"),
    case("patches-exit-and-fork", Passes, "import os, sys\nsys.exit = os._exit = os.fork = None"),
    case("patches-compile-and-exec", Passes, "import builtins\nbuiltins.compile = builtins.exec = builtins.eval = None"),
    case("patches-import", Passes, "import builtins\nbuiltins.__import__ = None"),
    case("no-builtins", Fails("raised", "raised NameError"), "import builtins\nvars(builtins).clear()\nprint('gone')"),
    case("breaks-import-and-raises", Fails("raised", "raised ValueError: told"), "import builtins, sys\nbuiltins.__import__ = None\nsys.modules.clear()\nraise ValueError('told')"),
    case("no-modules", Passes, "import sys\nsys.modules.clear()"),
    case("no-path", Passes, "import sys\nsys.path = sys.meta_path = None"),
    case("hooks-that-raise", Fails("raised", "raised ValueError: told"), "import sys\n\n\ndef hook(*arguments):\n    raise RuntimeError\n\n\nsys.excepthook = sys.unraisablehook = sys.displayhook = hook\nraise ValueError('told')"),
    case("exception-that-cannot-be-shown", Fails("raised", "raised Evil"), "class Evil(Exception):\n    def __str__(self):\n        raise SystemExit(0)\n    __repr__ = __str__\n\n\nraise Evil"),
    case("exception-that-exits", Fails("exited", "its process ended with status 0"), "import os\n\n\nclass Evil(Exception):\n    def __str__(self):\n        os._exit(0)\n\n\nraise Evil"),
    case("claims-to-be-another", Fails("raised", "raised Evil"), "class Meta(type):\n    def __instancecheck__(cls, other):\n        return True\n\n    def __subclasscheck__(cls, other):\n        return True\n\n\nclass Evil(Exception, metaclass=Meta):\n    pass\n\n\nraise Evil"),
    case("no-main", Passes, "import sys\ndel sys.modules['__main__']"),
    case("removes-its-directory", Passes, "import os, shutil\nshutil.rmtree(os.getcwd())"),
    case("puts-a-pipe-in-the-way", Passes, "import os; os.mkfifo('example_3.py')"),
    case("puts-a-link-in-the-way", Passes, "import os; os.symlink('/dev/full', 'example_3.py')"),
];

const ALL: [&[Case]; 6] = [ENDINGS, HANGS, LEFT_BEHIND, OUTPUT, DESCRIPTORS, PATCHED];

#[test]
fn each_attack_is_judged_by_name_and_disturbs_no_other() {
    judge_all(&ALL, 0, "timeout = \"60s\"\n", "");
}

/// No verdict leans on the sandbox.
#[test]
fn each_attack_is_judged_by_name_without_the_sandbox_too() {
    judge_all(&ALL, 0, "timeout = \"60s\"\n", "--sandbox=off");
}

/// Sessions that are forked from a host that they may do what they like to, and that is not the first.
#[test]
fn each_attack_is_judged_by_name_where_another_host_has_compiled_it() {
    judge_all(&ALL, 3000, "timeout = \"60s\"\n", "--sandbox=off");
}

/// Limits are low, so that a test which fails does no harm to the machine.
const LOW: &str = "timeout = \"60s\"\nmemory = \"300MiB\"\nprocesses = 20\nmax-scratch = \"20MB\"\n\
                   max-file-size = \"15MB\"\nopen-files = 200\n";

#[test]
fn each_limit_is_kept_and_named() {
    judge_all(&[RESOURCES], 0, LOW, "");
}

#[test]
fn each_limit_is_kept_and_named_without_the_sandbox_too() {
    judge_all(&[RESOURCES], 0, LOW, "--sandbox=off");
}

/// Runs all cases as one book, and judges each.
#[track_caller]
fn judge_all(groups: &[&[Case]], padding: usize, config: &str, words: &str) {
    let mut project = Project::new().with("verify.toml", config);
    for case in groups.iter().copied().flatten() {
        project = project.with(&format!("{}.md", case.name), case.page(padding));
    }
    let ran = project.verify(&format!(
        "--format json --output report.json -j 2 -q {words}"
    ));
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(
        !ran.text().contains('\u{1b}'),
        "a raw escape reached the terminal"
    );

    let report = project.read("report.json");
    let examples: BTreeMap<String, Value> = report
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["type"] == "example")
        .map(|line| (line["id"].as_str().unwrap().to_owned(), line))
        .collect();
    let mut faults = String::new();
    for case in groups.iter().copied().flatten() {
        if let Err(fault) = judge(case, &examples) {
            let _ = writeln!(faults, "{}: {fault}", case.name);
        }
    }
    assert!(faults.is_empty(), "{faults}");
    for report in ran.stdout.split("\nerror: ").skip(1) {
        let shown = report.contains("  stdout:\n    kept\n") || report.contains(" lines before\n");
        assert!(shown || report.contains("-after, Python"), "{report}");
    }
}

fn judge(case: &Case, examples: &BTreeMap<String, Value>) -> Result<(), String> {
    let find = |suffix: &str| {
        examples
            .get(&format!("{}{suffix}", case.name))
            .ok_or(format!("`{}{suffix}` has no verdict", case.name))
    };
    let is_good = |verdict: &Value| {
        ["ran", "verified", "unrecorded"]
            .iter()
            .any(|good| verdict == good)
    };
    let (before, own) = (find("-before")?, find("")?);
    if !is_good(&before["verdict"]) {
        return Err(format!("the example before it: {before}"));
    }
    let (kind, message) = (
        own["failure"]["kind"].as_str().unwrap_or_default(),
        own["failure"]["message"].as_str().unwrap_or_default(),
    );
    let as_expected = match case.end {
        Passes => is_good(&own["verdict"]),
        Fails(way, part) => own["verdict"] == "failed" && kind == way && message.contains(part),
        FailsSomehow => own["verdict"] == "failed",
    };
    let stdout = own["outcome"]["stdout"].as_str().unwrap_or_default();
    if !as_expected || !stdout.starts_with(&format!("kept\n{}", case.prints)) {
        let shown: String = own.to_string().chars().take(1000).collect();
        return Err(shown);
    }
    if case.is_last {
        return Ok(());
    }
    let after = find("-after")?;
    match case.end {
        Passes if is_good(&after["verdict"]) => Ok(()),
        Fails(..) | FailsSomehow if after["verdict"] == "blocked" => Ok(()),
        _ => Err(format!("the example behind it: {after}")),
    }
}

/// The same in the other kinds of block.
const BLOCKS: &str = r#"# Page

```python id=transcript-that-exits fresh
>>> print('kept')
kept
>>> import os; os._exit(0)
>>> 1 + 1
2
```

```python id=transcript-that-crashes fresh
>>> import os, signal
>>> os.kill(os.getpid(), signal.SIGSEGV)
>>> 1 + 1
2
```

```python id=transcript-that-hangs timeout=2s fresh
>>> print('kept')
kept
>>> while True: pass
```

```console id=shell-that-ends fresh
$ echo kept
kept
$ exit 0
$ echo more
more
```

```console id=shell-that-is-killed fresh
$ echo kept
kept
$ kill -9 $$
```

```console id=shell-that-hangs fresh timeout=2s
$ echo kept
kept
$ sleep 1000
```

```console id=shell-that-floods fresh
$ yes
```

```console id=shell-that-reports-too-much fresh
$ echo 0 >&9
$ true
```

```console id=shell-that-forges-a-status fresh
$ echo kept
kept
$ echo 0 >&9; read -r _ <&9; exit 0
```

```console id=program-that-forges-a-status fresh
$ python -c "import os; os.write(9, b'0\n'); os.read(9, 1); os._exit(1)"
```

```console id=programs-are-not-told-the-seal fresh
$ env | grep -c seal
0
? 1
```

```console id=shell-with-orphans fresh
$ (setsid sleep 1000 &) > /dev/null 2>&1
$ echo kept
kept
```

```python id=bystander fresh
assert 1 + 1 == 2
```
"#;

#[test]
fn other_kinds_of_block_are_no_weaker() {
    let project = Project::new()
        .with("verify.toml", "timeout = \"60s\"\n")
        .with("page.md", BLOCKS);
    project.verify("--format json --output report.json -q");
    let told: Vec<String> = project
        .read("report.json")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["type"] == "example")
        .map(|line| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let kind = text(&line["failure"]["kind"]);
            format!("{} {} {kind}", text(&line["id"]), text(&line["verdict"]))
        })
        .collect();
    assert_eq!(
        told,
        [
            "transcript-that-exits failed exited",
            "transcript-that-crashes failed killed",
            "transcript-that-hangs failed timed_out",
            "shell-that-ends failed steps",
            "shell-that-is-killed failed killed",
            "shell-that-hangs failed timed_out",
            "shell-that-floods failed too_much_output",
            "shell-that-reports-too-much failed lost",
            "shell-that-forges-a-status failed lost",
            "program-that-forges-a-status failed lost",
            "programs-are-not-told-the-seal verified ",
            "shell-with-orphans verified ",
            "bystander ran ",
        ]
    );
}

/// Bytes that are no text, or that a terminal obeys, and what else is hard to keep.
const BYTES: &[(&str, &str)] = &[
    ("invalid-utf-8", "sys.stdout.buffer.write(b'\\xff\\xfe\\n')"),
    ("surrogate-escapes", "print('\\udc80')"),
    ("nul-bytes", "print('a\\0b')"),
    ("terminal-escapes", "print('\\x1b]0;owned\\x07\\x1b[2J')"),
    ("carriage-returns", "print('a\\rb\\r\\n', end='')"),
    ("no-final-newline", "print('end', end='')"),
    ("spaces-at-the-end", "print('end  \\n\\t\\n')"),
    (
        "quotes-of-the-recording",
        "print(3 * chr(39), 2 * chr(34), chr(92))",
    ),
    (
        "separators-of-lines",
        "print('a\\x0b\\x0c\\x1c\\x85\\u2028b')",
    ),
];

#[test]
fn any_bytes_are_recorded_and_compared_as_they_are() {
    let page = |tail: &str| {
        let mut page = String::from("# Page\n");
        for (name, code) in BYTES {
            let _ = write!(
                page,
                "\n```python id={name}\nimport sys\n{code}\nsys.stdout.write({tail:?})\n```\n"
            );
        }
        page
    };
    for config in ["", "output = \"page\"\n"] {
        let project = Project::new()
            .with("verify.toml", config)
            .with("page.md", page(""));
        project.record_and_settle();
        project.write("page.md", page(" "));
        let ran = project.verify("");
        let all = format!("0 verified, 0 ran, {} failed", BYTES.len());
        assert!(ran.stdout.contains(&all), "{}", ran.text());
        assert!(!ran.stdout.contains(|c: char| c.is_control() && c != '\n'));
    }
}

/// Changes of the process, each with what the rest of its session must still see, and no other session may.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "working-directory",
        "os.mkdir('sub'); os.chdir('sub')",
        "os.getcwd().endswith('/sub')",
    ),
    (
        "environment",
        "os.environ['CHANGED'] = 'yes'",
        "os.environ.get('CHANGED') == 'yes'",
    ),
    (
        "environment-of-c",
        "os.putenv('CHANGED', 'yes')",
        "subprocess.run(['printenv', 'CHANGED'], stdout=subprocess.PIPE).stdout == b'yes\\n'",
    ),
    (
        "umask",
        "os.umask(0o077)",
        "(lambda mask: (os.umask(mask), mask)[1])(os.umask(0)) == 0o077",
    ),
    (
        "locale",
        "locale.setlocale(locale.LC_ALL, 'C')",
        "locale.setlocale(locale.LC_CTYPE) == 'C'",
    ),
    (
        "limits",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (77, 77))",
        "resource.getrlimit(resource.RLIMIT_NOFILE) == (77, 77)",
    ),
    ("niceness", "os.nice(3)", "os.nice(0) >= base_niceness + 3"),
    (
        "signal-handlers",
        "signal.signal(signal.SIGUSR1, print)",
        "signal.getsignal(signal.SIGUSR1) is print",
    ),
    (
        "signal-mask",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])",
        "signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])",
    ),
    (
        "alarm",
        "signal.setitimer(signal.ITIMER_REAL, 1000)",
        "signal.getitimer(signal.ITIMER_REAL)[0] > 0",
    ),
    (
        "warnings",
        "warnings.simplefilter('error', BytesWarning)",
        "('error', None, BytesWarning, None, 0) in warnings.filters",
    ),
    (
        "decimals",
        "decimal.getcontext().prec = 3",
        "decimal.getcontext().prec == 3",
    ),
    (
        "logging",
        "logging.basicConfig(level=5)",
        "logging.getLogger().level == 5 and len(logging.getLogger().handlers) == 1",
    ),
    (
        "path",
        "sys.path.append('/nowhere')",
        "'/nowhere' in sys.path",
    ),
    (
        "modules",
        "sys.modules['json'] = 'mine'; import json",
        "sys.modules.get('json') == 'mine'",
    ),
    ("module", "math.pi = 3", "math.pi == 3"),
    (
        "builtins",
        "import builtins; builtins.extra = 1",
        "hasattr(builtins, 'extra')",
    ),
    (
        "collector",
        "gc.disable(); gc.set_threshold(9)",
        "not gc.isenabled() and gc.get_threshold()[0] == 9",
    ),
    (
        "recursion",
        "sys.setrecursionlimit(777)",
        "sys.getrecursionlimit() == 777",
    ),
    (
        "switching",
        "sys.setswitchinterval(0.5)",
        "sys.getswitchinterval() == 0.5",
    ),
    (
        "random-numbers",
        "random.seed(1)",
        "random.getstate() == random.Random(1).getstate()",
    ),
    ("hooks", "sys.excepthook = print", "sys.excepthook is print"),
    (
        "traces",
        "sys.setprofile(lambda *arguments: None)",
        "sys.getprofile() is not None",
    ),
    (
        "streams",
        "sys.stderr = sys.stdout",
        "sys.stderr is sys.stdout",
    ),
    (
        "descriptors",
        "os.dup2(1, 50)",
        "os.path.exists('/proc/self/fd/50')",
    ),
    (
        "files",
        "open('left', 'w').close()",
        "os.path.exists('left')",
    ),
    (
        "threads",
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "threading.active_count() > 1",
    ),
];

const CHANGES_IMPORT: &str = "import builtins, decimal, gc, locale, logging, math, os, random, resource, signal\n\
    import subprocess, sys, threading, time, warnings\n";

#[test]
fn a_change_of_the_process_lasts_as_long_as_its_session() {
    // One after the other, so that each session has one before it which could have left something.
    let mut page = String::from("# Page\n");
    for (name, change, seen) in CHANGES {
        let mut others = String::new();
        for (other, _, seen) in CHANGES {
            let _ = writeln!(others, "assert not ({seen}), {other:?}");
        }
        let _ = write!(
            page,
            "\n```python id={name}-untouched fresh\n{CHANGES_IMPORT}base_niceness = os.nice(0)\n{others}```\n\
             \n```python id={name}\n{change}\n```\n\
             \n```python id={name}-seen\nassert {seen}\n```\n"
        );
    }
    let project = Project::new().with("page.md", page);
    let ran = project.verify("-j 1");
    assert_eq!(ran.status, 0, "{}", ran.text());
    let all = format!("0 verified, {} ran, 0 failed", CHANGES.len() * 3);
    assert!(ran.stdout.contains(&all), "{}", ran.text());
}

/// A page whose example starts processes of every kind and then waits.
const RESTLESS: &str = "```python
import os, subprocess, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    time.sleep(1000)
subprocess.Popen(['sleep', '1000'], env={})
subprocess.Popen(['sleep', '1000'], start_new_session=True)
open('ready', 'w').close()
time.sleep(1000)
```
";

#[test]
fn a_run_that_is_ended_leaves_no_process_and_no_directory() {
    for (signal, status) in [
        (Signal::KILL, None),
        (Signal::TERM, Some(130)),
        (Signal::INT, Some(130)),
        (Signal::HUP, Some(130)),
    ] {
        let project = Project::new()
            .with("one.md", RESTLESS)
            .with("two.md", RESTLESS);
        let mut run = project.command("-j 2 -q").spawn().unwrap();
        let ready = || {
            walkdir::WalkDir::new(project.scratch())
                .into_iter()
                .flatten()
                .filter(|file| file.file_name() == "ready")
                .count()
        };
        wait_for("both examples to run", || ready() == 2);
        assert!(project.processes().len() > 8, "{:?}", project.processes());
        rustix::process::kill_process(Pid::from_child(&run), signal).unwrap();
        assert_eq!(run.wait().unwrap().code(), status, "{signal:?}");
        wait_for("all processes to be gone", || {
            project.processes().is_empty()
        });
        wait_for("all directories to be gone", || {
            project.scratch_files().is_empty()
        });
    }
}

/// At the moment when its first directory appears, and at others while it starts.
#[test]
fn a_run_that_is_killed_as_it_starts_leaves_no_process_and_no_directory() {
    let page = "```python\nopen('file', 'w').close()\n```\n";
    for sandbox in ["on", "off"] {
        let project = Project::new().with("page.md", page);
        let words = format!("-q --no-cache --sandbox={sandbox}");
        let start = Instant::now();
        project.verify(&words);
        let whole = start.elapsed();
        for kill in 0..30 {
            let mut run = project
                .command(&words)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let moment = Instant::now() + whole * (kill / 2) / 15;
            let is_time = || match kill % 2 {
                0 => Instant::now() > moment,
                _ => !project.scratch_files().is_empty(),
            };
            while !is_time() && run.try_wait().unwrap().is_none() {}
            run.kill().unwrap();
            run.wait().unwrap();
            // In this order, since looking for processes goes through all of the machine's.
            wait_for("all directories to be gone", || {
                project.scratch_files().is_empty()
            });
            wait_for("all processes to be gone", || {
                project.processes().is_empty()
            });
        }
    }
}

/// What a thorough `rm` needs several tries for.
const STUBBORN: &str = "```python
import os
os.makedirs('locked/inner')
open('locked/inner/file', 'w').close()
os.chmod('locked/inner', 0)
os.chmod('locked', 0)
for _ in range(3000):
    os.mkdir('deep')
    os.chdir('deep')
```
";

#[test]
fn a_directory_goes_whatever_is_in_it() {
    for end in ["", "os._exit(1)", "os.kill(os.getppid(), 9)"] {
        for sandbox in ["on", "off"] {
            let page = STUBBORN.replace("```\n", &format!("{end}\n```\n"));
            let project = Project::new().with("page.md", page);
            project.verify(&format!("-q --sandbox={sandbox}"));
        }
    }
}
