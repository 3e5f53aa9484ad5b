//! `verify watch`: what is saved runs again, and of it only what has to; and nothing is left of it at the end.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::project::Project;

/// No test waits so long unless it fails.
const LIMIT: Duration = Duration::from_secs(60);

/// A watch that runs in a project.
struct Watch<'p> {
    project: &'p Project,
    process: Child,
    lines: Receiver<String>,
}

impl<'p> Watch<'p> {
    /// Starts it and waits for the first report, which is the second value.
    fn start(project: &'p Project, words: &str) -> (Watch<'p>, String) {
        let watch = Watch::spawn(project, &format!("watch {words}"));
        let first = watch.report();
        (watch, first)
    }

    fn spawn(project: &'p Project, words: &str) -> Watch<'p> {
        let mut process = project
            .command(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(process.stdout.take().unwrap()),
            Box::new(process.stderr.take().unwrap()),
        ];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Watch {
            project,
            process,
            lines,
        }
    }

    /// How it ended by itself.
    fn status(mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// What it says up to the next summary.
    fn report(&self) -> String {
        self.until(|line| {
            line.contains(" illustrative in ") || line.contains(r#""type":"summary""#)
        })
    }

    fn until(&self, is_last: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        loop {
            let line = self
                .lines
                .recv_timeout(LIMIT)
                .unwrap_or_else(|_| panic!("no more lines after:\n{text}"));
            text.push_str(&line);
            text.push('\n');
            if is_last(&line) {
                return text;
            }
        }
    }

    fn save(&self, name: &str, text: &str) -> String {
        self.project.write(name, text);
        self.report()
    }

    /// Waits until the session's directory is as it was before the example that is saved as this file: from then on the
    /// watch is ready for the next edit of that one.
    fn wait_until_ready(&self, file: &str) {
        let limit = Instant::now() + LIMIT;
        let is_there = || {
            let all = walkdir::WalkDir::new(self.project.scratch());
            all.into_iter()
                .flatten()
                .any(|entry| entry.file_name() == file)
        };
        while is_there() {
            assert!(Instant::now() < limit, "`{file}` stays");
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Ends it as Ctrl-C does; nothing may be left.
    #[track_caller]
    fn end(mut self) {
        self.signal(Signal::INT);
        assert_eq!(self.process.wait().unwrap().code(), Some(130));
        assert_eq!(self.project.processes(), [""; 0]);
        assert_eq!(self.project.scratch_files(), [""; 0]);
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A page with these blocks.
fn page(blocks: &[&str]) -> String {
    let blocks = blocks
        .iter()
        .map(|block| format!("Text.\n\n```python\n{block}\n```\n"));
    blocks.collect()
}

/// The line of the page in a report.
#[track_caller]
fn line_of<'t>(page: &str, report: &'t str) -> &'t str {
    let mut lines = report.lines();
    lines
        .find(|line| line.contains(page) && line.contains("(ran "))
        .unwrap_or_else(|| panic!("nothing about `{page}` in:\n{report}"))
}

/// What the examples of a page print, from a report as JSON. An edited one is told twice: at once, and with its page.
fn printed(report: &str) -> Vec<String> {
    let examples: BTreeMap<u64, String> = report
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["type"] == "example")
        .map(|line| {
            let stdout = line["outcome"]["stdout"].as_str().unwrap_or_default();
            (line["line"].as_u64().unwrap(), stdout.to_owned())
        })
        .collect();
    examples.into_values().collect()
}

fn ran(report: &str) -> (u64, u64, Option<String>) {
    let line = report
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|line| line["type"] == "rerun")
        .unwrap();
    let number = |name: &str| line[name].as_u64().unwrap();
    (
        number("ran"),
        number("of"),
        line["reason"].as_str().map(str::to_owned),
    )
}

#[test]
fn a_session_goes_on_before_the_first_changed_example() {
    let blocks = |last: &str| {
        page(&[
            "import random\ntoken = random.random()\nprint(token)",
            "with open('log', 'a') as log:\n    _ = log.write('two ')",
            &format!(
                "with open('log', 'a') as log:\n    _ = log.write('{last}')\nprint(token, open('log').read())"
            ),
            "print('four')",
        ])
    };
    let project = Project::new().with("page.md", blocks("a"));
    let (watch, first) = Watch::start(&project, "--format json");
    assert_eq!(ran(&first), (4, 4, None));

    // How much runs now depends on how slow this machine is: what takes its time has copies behind it.
    let second = watch.save("page.md", &blocks("b"));
    let token = printed(&second)[0].trim().to_owned();

    for word in ["c", "d", "longer", "e"] {
        if word != "d" {
            watch.wait_until_ready("example_3.py");
        }
        let report = watch.save("page.md", &blocks(word));
        assert_eq!(ran(&report), (2, 4, None));
        let expected = [
            format!("{token}\n"),
            String::new(),
            format!("{token} two {word}\n"),
            "four\n".to_owned(),
        ];
        assert_eq!(printed(&report), expected);
    }

    let report = watch.save("page.md", &format!("Prose.\n\n{}", blocks("e")));
    assert_eq!(ran(&report), (0, 4, None), "prose runs nothing");
    watch.end();
}

#[test]
fn what_takes_its_time_is_not_run_again() {
    let blocks = |second: &str, last: &str| {
        page(&[
            "import time\ntime.sleep(0.1)",
            &format!("x = {second}"),
            &format!("print(x, '{last}')"),
        ])
    };
    let project = Project::new().with("page.md", blocks("1", "a"));
    let (watch, _) = Watch::start(&project, "--format json");
    let report = watch.save("page.md", &blocks("1", "b"));
    assert!(
        ran(&report).0 < 3,
        "so few sessions keep copies from the start: {report}"
    );
    let report = watch.save("page.md", &blocks("2", "b"));
    assert_eq!(
        ran(&report),
        (2, 3, None),
        "behind the first, though nobody has edited the second yet"
    );
    assert_eq!(printed(&report)[2], "2 b\n");
    watch.end();
}

#[test]
fn being_ready_for_one_example_leaves_the_others_their_copies() {
    let blocks = |second: &str, last: &str| {
        page(&[
            "import os, time",
            &format!("x = '{second}'"),
            "os.mkdir('sub')\nos.chmod('.', 0o755)\nos.chdir('sub')\ntime.sleep(0.1)",
            &format!(
                "print(x, '{last}', os.path.basename(os.getcwd()), sorted(os.listdir('..')), os.listdir())\n\
                print(os.stat('..').st_mode & 0o777 == 0o755)\n\
                os.chmod('..', 0o700)\n_ = open('new', 'w').write('new')"
            ),
        ])
    };
    let project = Project::new().with("page.md", blocks("a", "a"));
    let (watch, _) = Watch::start(&project, "--format json");
    for word in ["b", "c", "d"] {
        let report = watch.save("page.md", &blocks(word, "a"));
        assert!(ran(&report).0 >= 3);
        watch.wait_until_ready("example_2.py");
    }
    for word in ["b", "c", "d"] {
        let report = watch.save("page.md", &blocks("d", word));
        assert_eq!(ran(&report), (1, 4, None));
        let files = "['example.py', 'example_2.py', 'example_3.py', 'example_4.py', 'sub']";
        let expected = format!("d {word} sub {files} []\nTrue\n");
        assert_eq!(printed(&report)[3], expected);
        watch.wait_until_ready("example_4.py");
    }
    watch.end();
}

#[test]
fn a_copy_that_was_ready_and_has_died_is_made_again() {
    let blocks = |word: &str| {
        page(&[
            "import random\nx = random.random()\nprint(x)",
            &format!("print('{word}')"),
        ])
    };
    let project = Project::new().with("page.md", blocks("a"));
    let (watch, _) = Watch::start(&project, "--format json");
    let before = watch.save("page.md", &blocks("b"));
    let limit = Instant::now() + LIMIT;
    // The checkpoint and its copy.
    let copy = loop {
        let processes = project.sessions();
        let is_child = |(_, parent): &&(Pid, Pid)| processes.iter().any(|(own, _)| own == parent);
        match processes.iter().find(is_child) {
            Some((copy, _)) => break *copy,
            None => assert!(Instant::now() < limit, "no copy is there"),
        }
        std::thread::yield_now();
    };
    rustix::process::kill_process(copy, Signal::KILL).unwrap();
    while fs::exists(format!("/proc/{copy}")).unwrap() {
        assert!(Instant::now() < limit, "it is still there");
        std::thread::yield_now();
    }
    let report = watch.save("page.md", &format!("Prose.\n\n{}", blocks("b")));
    assert_eq!(ran(&report), (0, 2, None));
    let again = watch.save("page.md", &blocks("c"));
    assert_eq!(ran(&again), (1, 2, None));
    assert_eq!(printed(&again), [&printed(&before)[0], "c\n"]);
    watch.end();
}

#[test]
fn the_edited_example_is_told_before_those_behind_it_have_run() {
    for words in ["--sandbox=off", "--sandbox=off --format json"] {
        let project = Project::new();
        let go = project.path("go");
        let waits = format!(
            "import os, time\nwhile not os.path.exists('{}'):\n    time.sleep(0.01)\nprint('went')",
            go.display()
        );
        let blocks = |word: &str| {
            page(&["print('before')", &format!("print('{word}')")])
                + &page(&[&waits]).replace("```python", "```python timeout=600s")
        };
        project.write("go", "");
        project.write("page.md", blocks("first"));
        let (watch, _) = Watch::start(&project, words);
        fs::remove_file(&go).unwrap();
        project.write("page.md", blocks("second"));
        let said = watch.until(|line| line.contains("second"));
        if words == "--sandbox=off" {
            assert_eq!(said, "ran page.md:8 page/2\n  stdout:\n    second\n");
        } else {
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains(r#""id":"page/2""#), "{said}");
        }
        project.write("go", "");
        let report = watch.report();
        assert!(!report.contains("page.md:3"), "{report}");
        watch.end();
    }
}

#[test]
fn a_failure_that_was_told_is_not_told_again() {
    let project = Project::new().with("page.md", page(&["x = 1", "print(x)"]));
    let (watch, _) = Watch::start(&project, "");
    let report = watch.save("page.md", &page(&["x = 1", "1 / 0"]));
    assert_eq!(report.matches("error: raised ZeroDivisionError").count(), 1);
    let (error, page_line) = (report.find("error: "), report.find("✗ page.md"));
    assert!(error < page_line, "{report}");
    let report = watch.save("page.md", &(page(&["x = 1", "1 / 0"]) + "\nProse.\n"));
    assert_eq!(report.matches("error: raised ZeroDivisionError").count(), 1);
    watch.end();
}

#[test]
fn a_newer_save_ends_a_run() {
    let endless = "import time\nwhile True:\n    time.sleep(0.01)";
    let waiting = |word: &str| {
        page(&[&format!("print('{word}')")])
            + &page(&[endless]).replace("```python", "```python timeout=600s")
    };
    let project = Project::new()
        .with("page.md", page(&["print('first')", "print('end')"]))
        .with("other.md", page(&["print('other')"]));
    let (watch, _) = Watch::start(&project, "");
    for word in ["second", "third"] {
        project.write("page.md", waiting(word));
        watch.until(|line| line.contains(word));
    }
    // Another page does not wait for one that takes its time, which runs when nothing newer is to be done.
    project.write("other.md", page(&["print('another')"]));
    let said = watch.until(|line| line.contains("✓ other.md"));
    assert!(said.contains("    another\n"), "{said}");
    assert!(!said.contains(" illustrative in "), "{said}");
    let report = watch.save("page.md", &page(&["print('third')", "print('fifth')"]));
    assert!(report.contains("✓ page.md  2 ran"), "{report}");
    assert!(report.contains("\n0 verified, 3 ran, 0 failed"), "{report}");
    // And it does not wait for what a signal ends.
    project.write("page.md", waiting("sixth"));
    watch.until(|line| line.contains("sixth"));
    watch.end();
}

#[test]
fn needs_that_come_later_are_looked_for() {
    let project = Project::new().with("page.md", page(&["print(1)"]));
    let (watch, _) = Watch::start(&project, "");
    let text = "```python requires=\"json\"\nprint(2)\n```\n\n```python requires=\"no_such_module\"\nprint(3)\n```\n";
    let report = watch.save("page.md", text);
    assert!(
        report.contains("\n0 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 1 skipped"),
        "{report}"
    );
    watch.end();
}

#[test]
fn a_copy_is_what_the_process_was() {
    let blocks = |last: &str| {
        page(&[
            "import os, random, sys\nrandom.seed(1)\nos.register_at_fork(after_in_child=lambda: print('seen'))",
            "import atexit\natexit.register(print, 'the end')\nvalue = random.random()",
            &format!(
                "print('{last}', value, random.random(), os.path.basename(__file__), sys.argv)"
            ),
        ])
    };
    let project = Project::new().with("page.md", blocks("same"));
    let (watch, first) = Watch::start(&project, "--format json");
    watch.save("page.md", &blocks("other"));
    for word in ["another", "same"] {
        let report = watch.save("page.md", &blocks(word));
        assert_eq!(ran(&report), (1, 3, None));
        if word == "same" {
            assert_eq!(printed(&report), printed(&first));
        }
    }
    watch.end();
}

#[test]
fn what_a_copy_would_lack_is_run_again() {
    let cases = [
        (
            "import threading, time\nstop = threading.Event()\nthread = threading.Thread(target=stop.wait, daemon=True)\nthread.start()",
            "print(thread.is_alive())",
            "a thread is running",
        ),
        (
            "import subprocess\nchild = subprocess.Popen(['sleep', '100'])",
            "print(child.poll())",
            "a process that it started is running",
        ),
        (
            "file = open('file', 'w+')\n_ = file.write('abc')",
            "_ = file.seek(1)\nprint(file.read())",
            "a file or socket is open, or a standard stream was changed",
        ),
        (
            "import signal\nsignal.signal(signal.SIGALRM, print)\n_ = signal.alarm(1000)",
            "print(signal.alarm(0) > 0)",
            "a timer is running",
        ),
        (
            "import os\nown = os.getpid()",
            "print(own == os.getpid())",
            "a copy would have another answer to `getpid`",
        ),
        (
            "import os\nown = os.getpgrp()",
            "print(own == os.getpgrp())",
            "a copy would have another answer to `getpgrp`",
        ),
        (
            "import signal\n_ = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nsignal.raise_signal(signal.SIGUSR1)",
            "print(signal.sigpending())",
            "a signal that it holds back waits for it",
        ),
        (
            "import mmap\nshared = mmap.mmap(-1, 10)",
            "shared[0] += 1\nprint(shared[0])",
            "memory is shared with other processes",
        ),
    ];
    for (leaves, uses, reason) in cases {
        let blocks = |word: &str| page(&["1", leaves, &format!("{uses}\nprint('{word}')")]);
        let project = Project::new().with("page.md", blocks("a"));
        let (watch, first) = Watch::start(&project, "--format json");
        watch.save("page.md", &blocks("b"));
        watch.save("page.md", &blocks("c"));
        let report = watch.save("page.md", &blocks("a"));
        let why = format!("no checkpoint behind `page/2`: {reason}");
        assert_eq!(ran(&report), (2, 3, Some(why)));
        assert_eq!(printed(&report), printed(&first));
        watch.end();
    }
}

#[test]
fn the_line_of_a_page_says_what_ran() {
    let project = Project::new()
        .with(
            "page.md",
            page(&["1", "import os\nprint(os.getpid() > 0)", "print(3)"]),
        )
        .with("other.md", page(&["print('other')"]));
    let (watch, first) = Watch::start(&project, "");
    assert_eq!(
        line_of("other.md", &first),
        "✓ other.md  1 ran  (ran 1 of 1)"
    );
    let saved = page(&["1", "import os\nprint(os.getpid() > 0)", "print(4)"]);
    let report = watch.save("page.md", &saved);
    assert!(!report.contains("other.md"), "{report}");
    assert!(report.contains("\n0 verified, 4 ran, "), "{report}");
    watch.save("page.md", &saved.replace("print(4)", "print(5)"));
    let report = watch.save("page.md", &saved.replace("print(4)", "print(6)"));
    assert_eq!(
        line_of("page.md", &report),
        "✓ page.md  3 ran  (ran 2 of 3: no checkpoint behind `page/2`: a copy would have another answer to `getpid`)"
    );
    watch.end();
}

#[test]
fn failures_come_and_go() {
    let project = Project::new().with("page.md", page(&["x = 1", "print(x)", "print(x + 1)"]));
    let (watch, _) = Watch::start(&project, "");
    for block in ["1 / 0", "import os; os._exit(3)", "import os; os.abort()"] {
        let report = watch.save("page.md", &page(&["x = 1", block, "print(x + 1)"]));
        assert!(
            report.contains("0 verified, 1 ran, 1 failed, 0 unrecorded, 1 blocked"),
            "{report}"
        );
        let report = watch.save("page.md", &page(&["x = 1", "print(x)", "print(x + 1)"]));
        assert!(report.contains("0 verified, 3 ran, 0 failed"), "{report}");
    }
    // One that ends the interpreter as it should ends it also where it does not run again.
    let ends = page(&["x = 1", "import os; os._exit(3)", "print(x + 1)"]);
    let ends = ends.replace("```python\nimport", "```python exits=3\nimport");
    for text in [ends.clone(), format!("Prose.\n\n{ends}")] {
        let report = watch.save("page.md", &text);
        assert!(
            report.contains("1 verified, 1 ran, 0 failed, 0 unrecorded, 1 blocked"),
            "{report}"
        );
    }
    watch.end();
}

#[test]
fn a_mistake_in_a_page_does_not_end_it() {
    let project = Project::new()
        .with("page.md", page(&["print(1)"]))
        .with("other.md", page(&["print(2)"]));
    let (watch, _) = Watch::start(&project, "");
    let mistaken = page(&["print(1)"]) + "\n```python tiemout=3s\nprint(2)\n```\n";
    project.write("page.md", mistaken);
    let said = watch.until(|line| line.contains("nothing was run"));
    assert!(said.contains("error: page.md:7: "), "{said}");
    let report = watch.save("other.md", &page(&["print(3)"]));
    assert!(report.contains("✓ other.md  1 ran"), "{report}");
    assert!(!report.contains("page.md"), "{report}");
    let report = watch.save("page.md", &page(&["print(4)"]));
    assert!(report.contains("✓ page.md  1 ran"), "{report}");
    watch.end();
}

#[test]
fn pages_come_and_go_and_are_renamed_into_place() {
    let project = Project::new().with("page.md", page(&["print(1)"]));
    let (watch, _) = Watch::start(&project, "");
    project.write(".page.md.swp", page(&["print(2)"]));
    fs::rename(project.path(".page.md.swp"), project.path("page.md")).unwrap();
    assert!(watch.report().contains("✓ page.md  1 ran"));
    let report = watch.save("new.md", &page(&["print(2)", "print(3)"]));
    assert!(report.contains("✓ new.md  2 ran"), "{report}");
    assert!(report.contains("\n0 verified, 3 ran"), "{report}");
    fs::remove_file(project.path("new.md")).unwrap();
    let report = watch.report();
    assert!(report.starts_with("0 verified, 1 ran"), "{report}");
    // A directory is seen before what is written to it.
    project.write("part/new.md", page(&["print(4)"]));
    while !watch.report().contains("✓ part/new.md  1 ran") {}
    watch.end();
}

#[test]
fn a_page_that_is_moved_away_and_written_anew_was_saved() {
    let blocks = |word: &str| page(&["x = 1", &format!("print('{word}')")]);
    for words in ["page.md", ""] {
        let project = Project::new().with("page.md", blocks("first"));
        let (watch, _) = Watch::start(&project, words);
        watch.save("page.md", &blocks("second"));
        watch.save("page.md", &blocks("third"));
        for word in ["fourth", "fifth"] {
            fs::rename(project.path("page.md"), project.path("page.md~")).unwrap();
            project.write("page.md", blocks(word));
            fs::remove_file(project.path("page.md~")).unwrap();
            let report = watch.report();
            let told = format!("ran page.md:8 page/2\n  stdout:\n    {word}\n");
            assert!(report.starts_with(&told), "{report}");
            let line = line_of("page.md", &report);
            assert_eq!(line, "✓ page.md  2 ran  (ran 1 of 2)");
        }
        watch.end();
    }
}

#[test]
fn directories_come_back_and_are_empty_at_first() {
    let project = Project::new()
        .with("page.md", page(&["print(1)"]))
        .with("docs/part.md", page(&["print(1)"]));
    fs::create_dir_all(project.path("empty/deep")).unwrap();
    let (watch, _) = Watch::start(&project, "");
    let report = watch.save("empty/deep/new.md", &page(&["1", "2"]));
    assert!(report.contains("✓ empty/deep/new.md  2 ran"), "{report}");

    let until_ran = |name: &str, count: usize| {
        let line = format!("✓ {name}  {count} ran");
        while !watch.report().contains(&line) {}
    };
    fs::remove_dir_all(project.path("docs")).unwrap();
    let report = watch.report();
    assert!(report.starts_with("0 verified, 3 ran"), "{report}");
    project.write("docs/part.md", page(&["1", "2"]));
    until_ran("docs/part.md", 2);
    project.write("docs/part.md", page(&["1", "2", "3"]));
    until_ran("docs/part.md", 3);

    fs::rename(project.path("docs"), project.path("other")).unwrap();
    until_ran("other/part.md", 3);
    fs::rename(project.path("other"), project.path("docs")).unwrap();
    until_ran("docs/part.md", 3);
    project.write("docs/part.md", page(&["1"]));
    until_ran("docs/part.md", 1);
    watch.end();
}

#[test]
fn a_failure_that_a_newer_save_changed_is_told() {
    let project = Project::book();
    let go = project.path("go");
    let waits = format!(
        "import os, time\nwhile not os.path.exists('{}'):\n    time.sleep(0.01)",
        go.display()
    );
    let blocks = |first: &str, second: &str| {
        page(&[first, second]) + &page(&[&waits]).replace("```python", "```python timeout=600s")
    };
    project.write("go", "");
    project.write("page.md", blocks("x = 1", "print(x)"));
    let recorded = project.command("record --sandbox=off").output().unwrap();
    assert!(recorded.status.success());
    let (watch, _) = Watch::start(&project, "--sandbox=off");
    fs::remove_file(&go).unwrap();
    project.write("page.md", blocks("x = 1", "print(x + 1)"));
    watch.until(|line| line.trim() == "+ 2");
    project.write("page.md", blocks("x = 10", "print(x + 1)"));
    watch.until(|line| line.contains("page/1"));
    project.write("go", "");
    let report = watch.report();
    assert!(report.contains("+ 11"), "{report}");
    watch.end();
}

#[test]
fn a_page_that_is_saved_while_it_runs_is_told_once() {
    let project = Project::new();
    let go = project.path("go");
    let blocks = |word: &str| {
        let waits = format!(
            "import os, time\nwhile not os.path.exists('{}'):\n    time.sleep(0.01)",
            go.display()
        );
        page(&[&format!("print('{word}')")])
            + &page(&[&waits]).replace("```python", "```python timeout=600s")
    };
    project.write("go", "");
    project.write("page.md", blocks("first"));
    let (watch, _) = Watch::start(&project, "--sandbox=off");
    fs::remove_file(&go).unwrap();
    for word in ["second", "third"] {
        project.write("page.md", blocks(word));
        watch.until(|line| line.contains(word));
    }
    project.write("go", "");
    let report = watch.report();
    assert_eq!(report.matches("✓ page.md").count(), 1, "{report}");
    watch.end();
}

#[test]
fn a_page_that_could_not_be_read_lives_again() {
    let text = page(&["print(1)"]);
    let project = Project::new().with("page.md", &text);
    let (watch, _) = Watch::start(&project, "");
    project.write("page.md", b"\xff");
    watch.until(|line| line.contains("nothing was run"));
    let report = watch.save("page.md", &text);
    assert!(report.contains("✓ page.md  1 ran"), "{report}");
    watch.end();
}

#[test]
fn a_page_with_a_bad_recording_is_not_run() {
    let project = Project::book()
        .with("page.md", page(&["print(1)"]))
        .with("expected/page.toml", "nonsense");
    let (watch, first) = Watch::start(&project, "");
    assert!(first.contains("1 problem; nothing was run"), "{first}");
    assert!(!first.contains("(ran "), "{first}");
    watch.end();
}

#[test]
fn a_watch_ends_with_who_reads_it() {
    let project = Project::new().with("page.md", page(&["print(1)"]));
    let mut process = project
        .command("watch")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let summary = lines.find(|line| line.as_ref().unwrap().contains(" illustrative in "));
    assert!(summary.is_some());
    drop(lines);
    project.write("page.md", page(&["print(2)"]));
    let limit = Instant::now() + LIMIT;
    while process.try_wait().unwrap().is_none() {
        if Instant::now() > limit {
            process.kill().unwrap();
            panic!("it goes on");
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_a_session_has_read_ends_what_holds() {
    let project = Project::book().with("data/x.txt", "old");
    project.write("verify.toml", "readable = ['data']\n");
    let data = project.path("data/x.txt");
    let blocks = |word: &str| {
        page(&[
            "x = 1",
            &format!("print(open('{}').read())", data.display()),
            &format!("print('{word}')"),
        ])
    };
    project.write("page.md", blocks("a"));
    let (watch, _) = Watch::start(&project, "--format json");
    watch.save("page.md", &blocks("b"));
    let report = watch.save("page.md", &blocks("c"));
    assert_eq!(ran(&report), (1, 3, None));
    project.write("data/x.txt", "new");
    let report = watch.save("page.md", &blocks("d"));
    let why = format!("`{}` has changed", data.display());
    assert_eq!(ran(&report), (3, 3, Some(why)));
    assert_eq!(printed(&report), ["", "new\n", "d\n"]);
    // Also what did not run to its end has read it.
    fs::remove_file(&data).unwrap();
    for word in ["e", "f"] {
        let report = watch.save("page.md", &blocks(word));
        assert!(report.contains("FileNotFoundError"), "{report}");
    }
    project.write("data/x.txt", "newer");
    let report = watch.save("page.md", &blocks("g"));
    assert_eq!(printed(&report), ["", "newer\n", "g\n"]);
    watch.end();
}

#[test]
fn what_a_page_leads_to_is_watched() {
    let project = Project::new()
        .with("docs/plain.md", page(&["print(1)"]))
        .with("shared/real.md", page(&["print(1)"]));
    symlink("../shared/real.md", project.path("docs/link.md")).unwrap();
    let (watch, _) = Watch::start(&project, "docs/link.md");
    let report = watch.save("shared/real.md", &page(&["print(2)", "print(3)"]));
    assert!(report.contains("✓ docs/link.md  2 ran"), "{report}");
    watch.end();
    let (watch, _) = Watch::start(&project, "");
    let report = watch.save("shared/real.md", &page(&["print(2)"]));
    assert!(report.contains("✓ docs/link.md  1 ran"), "{report}");
    assert!(report.contains("✓ shared/real.md  1 ran"), "{report}");
    watch.end();
}

#[test]
fn recordings_and_the_configuration_are_watched() {
    let project = Project::book().with("page.md", page(&["print(1)", "print(2)"]));
    project.record_and_settle();
    let (watch, first) = Watch::start(&project, "");
    assert!(first.contains("✓ page.md  2 verified"), "{first}");
    let good = project.read("expected/page.toml");
    let report = watch.save("expected/page.toml", &good.replace('2', "3"));
    let line = line_of("page.md", &report);
    assert!(
        line.starts_with("✗ page.md") && line.ends_with("(ran 0 of 2)"),
        "{report}"
    );
    let report = watch.save("expected/page.toml", &good);
    assert_eq!(
        line_of("page.md", &report),
        "✓ page.md  2 verified  (ran 0 of 2)"
    );

    let report = watch.save("verify.toml", "timeout = '20s'\n");
    assert!(
        report.contains("`verify.toml` has changed: starting over"),
        "{report}"
    );
    assert!(report.contains("✓ page.md  2 verified"), "{report}");
    project.write("verify.toml", "nonsense = 1\n");
    let said = watch.until(|line| line.starts_with("error: "));
    assert!(said.contains("nonsense"), "{said}");
    let report = watch.save("verify.toml", "");
    assert!(report.contains("✓ page.md  2 verified"), "{report}");
    watch.end();
}

#[test]
fn the_first_recording_is_seen() {
    let project = Project::book().with("part/page.md", page(&["print(1)", "print(2)"]));
    let (watch, first) = Watch::start(&project, "");
    assert!(
        first.contains("\n0 verified, 0 ran, 0 failed, 2 unrecorded"),
        "{first}"
    );
    let recorded = project.command("record").output().unwrap();
    assert!(recorded.status.success());
    while !watch.report().contains("\n2 verified, ") {}
    watch.end();
}

#[test]
fn nothing_is_left_after_a_kill() {
    let blocks = |last: &str| page(&["x = 1", "open('file', 'w').write('x')", "print(x)", last]);
    let project = Project::new().with("page.md", blocks("print(1)"));
    let (mut watch, _) = Watch::start(&project, "");
    watch.save("page.md", &blocks("print(2)"));
    let report = watch.save("page.md", &blocks("print(3)"));
    assert!(
        line_of("page.md", &report).ends_with("(ran 1 of 4)"),
        "{report}"
    );
    assert!(project.processes().len() > 4, "the checkpoints are there");
    watch.signal(Signal::KILL);
    watch.process.wait().unwrap();
    let limit = Instant::now() + LIMIT;
    while !(project.processes().is_empty() && project.scratch_files().is_empty()) {
        assert!(
            Instant::now() < limit,
            "left: {:?}, {:?}",
            project.processes(),
            project.scratch_files()
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let project = Project::new().with("page.md", page(&["print(1)"]));
    for (words, message) in [
        ("watch --format junit", "reports as `human` or `json`"),
        ("watch --python 3.11 --python 3.12", "runs on one Python"),
        ("watch missing.md", "`missing.md` does not exist"),
        ("watch --python /no/such/python", "/no/such/python"),
    ] {
        // A watch that is not refused does not end.
        let watch = Watch::spawn(&project, words);
        let said = watch.until(|line| line.contains("error: ") || line.contains("illustrative"));
        assert!(said.contains(message), "{words}: {said}");
        assert_eq!(watch.status(), Some(2), "{words}");
    }
}
