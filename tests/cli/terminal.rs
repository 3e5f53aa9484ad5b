//! `verify watch` on a terminal: its keys, and that the terminal is afterwards what it was before.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use pty_process::blocking::{Command, Pty};
use rustix::process::{Pid, Signal};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use crate::project::{Project, wait_for};

/// No test waits so long unless it fails.
const LIMIT: Duration = Duration::from_secs(60);

/// A watch on a terminal of its own.
struct Watch {
    process: Child,
    terminal: Pty,
    before: Termios,
    shown: Receiver<Vec<u8>>,
    /// What was shown and not looked at.
    unread: Vec<u8>,
}

impl Watch {
    /// Starts it, and waits until it says what its keys are.
    fn start(project: &Project) -> Watch {
        Watch::start_with(project, "")
    }

    fn start_with(project: &Project, words: &str) -> Watch {
        let (terminal, theirs) = pty_process::blocking::open().unwrap();
        let before = tcgetattr(terminal.as_fd()).unwrap();
        let plain = project.command(&format!("watch {words}"));
        let environment: BTreeMap<_, _> = plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let process = Command::new(plain.get_program())
            .args(plain.get_args())
            .current_dir(project.root())
            .env_clear()
            .envs(environment)
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .spawn(theirs)
            .unwrap();
        let (sender, shown) = mpsc::channel();
        let mut reader = std::fs::File::from(terminal.as_fd().try_clone_to_owned().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of the other side is an error here.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut watch = Watch {
            process,
            terminal,
            before,
            shown,
            unread: Vec::new(),
        };
        watch.prompt();
        watch
    }

    /// What is shown next, up to these words.
    #[track_caller]
    fn until(&mut self, words: &str) -> String {
        loop {
            let so_far = String::from_utf8_lossy(&self.unread);
            if let Some(at) = so_far.find(words) {
                let (text, unread) = so_far.split_at(at + words.len());
                let (text, unread) = (text.to_owned(), unread.as_bytes().to_vec());
                self.unread = unread;
                return text;
            }
            match self.shown.recv_timeout(LIMIT) {
                Ok(bytes) => self.unread.extend(bytes),
                Err(error) => panic!("{error}: `{words}` is not in:\n{so_far}"),
            }
        }
    }

    #[track_caller]
    fn prompt(&mut self) -> String {
        self.until("a: run all, f: filter, r: record, q: quit")
    }

    fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(self.terminal.as_fd()).unwrap().local_modes
    }

    /// Waits for its end: the terminal has to be as it was, and nothing may be left.
    #[track_caller]
    fn ends_with(mut self, project: &Project, status: i32) {
        assert_eq!(self.process.wait().unwrap().code(), Some(status));
        assert_eq!(self.modes(), self.before.local_modes);
        assert_eq!(project.processes(), [""; 0]);
        assert_eq!(project.scratch_files(), [""; 0]);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn project() -> Project {
    let page = "# Page\n\n```python id=one\nprint(1)\n```\n\n```python id=two\nprint(2)\n```\n";
    Project::book().with("page.md", page)
}

#[test]
fn keys_filter_run_record_and_quit() {
    let project = project();
    let mut watch = Watch::start(&project);
    assert!(
        !watch
            .modes()
            .intersects(LocalModes::ICANON | LocalModes::ECHO)
    );

    watch.press("f");
    watch.until("filter: ");
    // What is taken back, letter by letter, was never typed.
    watch.press("onx\x7fe\r");
    let shown = watch.prompt();
    assert!(shown.contains("✗ page.md  1 unrecorded"), "{shown}");

    // Given up, it stays as it was.
    watch.press("f");
    watch.until("filter: ");
    watch.press("two\x1b");
    watch.prompt();
    watch.press("a");
    let shown = watch.prompt();
    assert!(shown.contains("✗ page.md  1 unrecorded"), "{shown}");

    watch.press("f");
    watch.until("filter: ");
    watch.press("\r");
    let shown = watch.prompt();
    assert!(shown.contains("✗ page.md  2 unrecorded"), "{shown}");

    watch.press("r");
    watch.until("recorded 2 examples: 1 recording and 0 pages written");
    watch.until("2 verified, 0 ran");
    watch.prompt();
    assert!(project.read("expected/page.toml").contains("id = \"two\""));

    watch.press("a");
    let shown = watch.prompt();
    assert!(
        shown.contains("✓ page.md  2 verified  (ran 2 of 2)"),
        "{shown}"
    );

    watch.press("q");
    watch.ends_with(&project, 0);
}

#[test]
fn a_key_does_not_wait_for_what_runs() {
    let project = project();
    let mut watch = Watch::start(&project);
    let endless =
        "```python id=one timeout=600s\nprint('here', flush=True)\nwhile True: pass\n```\n";
    project.write(
        "page.md",
        format!("```python id=zero\nprint('zero')\n```\n\n{endless}"),
    );
    watch.until("zero");
    watch.press("q");
    watch.ends_with(&project, 0);
}

#[test]
fn ctrl_c_and_signals_leave_the_terminal_as_it_was() {
    let project = project();
    let mut watch = Watch::start(&project);
    watch.press("\x03");
    watch.ends_with(&project, 130);
    for signal in [Signal::TERM, Signal::HUP] {
        let watch = Watch::start(&project);
        rustix::process::kill_process(Pid::from_child(&watch.process), signal).unwrap();
        watch.ends_with(&project, 130);
    }
}

#[test]
fn the_terminal_is_as_it_was_after_an_error() {
    let project = project();
    let mut watch = Watch::start(&project);
    project.write("verify.toml", "nonsense = 1\n");
    watch.until("nonsense");
    watch.press("q");
    watch.ends_with(&project, 0);
}

#[test]
fn recording_leaves_the_report_in_a_file_alone() {
    let project = project();
    let mut watch = Watch::start_with(&project, "--format json --output report.json");
    watch.press("r");
    watch.until("2 verified, 0 ran");
    watch.prompt();
    watch.press("a");
    watch.prompt();
    watch.press("q");
    let report = project.path("report.json");
    watch.ends_with(&project, 0);
    let report = std::fs::read_to_string(report).unwrap();
    let kinds: Vec<String> = report
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["type"].as_str().unwrap().to_owned())
        .collect();
    let summaries = kinds.iter().filter(|kind| *kind == "summary").count();
    assert!(summaries >= 3, "{report}");
}

#[test]
fn who_stops_and_goes_on_has_the_terminal_each_time() {
    let project = project();
    let mut watch = Watch::start(&project);
    let is_single = |watch: &Watch| {
        !watch
            .modes()
            .intersects(LocalModes::ICANON | LocalModes::ECHO)
    };
    let process = Pid::from_child(&watch.process);
    rustix::process::kill_process(process, Signal::TSTP).unwrap();
    wait_for("the terminal as it was", || !is_single(&watch));
    let stat = format!("/proc/{process}/stat");
    wait_for("its stop", || {
        std::fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    rustix::process::kill_process(process, Signal::CONT).unwrap();
    wait_for("its keys", || is_single(&watch));
    watch.prompt();
    // What means nothing does nothing.
    watch.press("\x1b[A \x1b[qa");
    let shown = watch.prompt();
    assert!(!shown.contains("error"), "{shown}");
    rustix::process::kill_process(process, Signal::QUIT).unwrap();
    watch.process.wait().unwrap();
    assert_eq!(watch.modes(), watch.before.local_modes);
}
