//! What is left of runs whose processes were all killed at one blow, and what the next start does about it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal};
use verify::processes;

use crate::nobody::Nobody;
use crate::project::{Project, VERIFY, wait_for};

/// Fills its directory with what is hard to remove or leads out of it, and stays until it may go.
const STAYING: &str = "```python
import os, time
os.makedirs('locked/inner')
open('locked/inner/file', 'w').close()
os.symlink(KEPT, 'locked/link')
os.symlink(KEPT, 'link')
os.chmod('locked/inner', 0)
os.chmod('locked', 0)
os.makedirs('/'.join(['deep'] * 50))
open('ready', 'w').close()
while not os.path.exists('go'):
    time.sleep(0.01)
```
";

/// A page with it, whose links lead to `kept`.
fn page_to(kept: &Path) -> String {
    STAYING.replace("KEPT", &format!("{:?}", kept.to_str().unwrap()))
}

fn staying() -> Project {
    let project = Project::new().with("kept/file", "kept");
    let page = page_to(&project.path("kept"));
    project.with("page.md", page)
}

fn start(project: &Project, words: &str) -> Child {
    project
        .command(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the example runs; its directory.
fn running(scratch: &Path) -> PathBuf {
    let mut found = None;
    wait_for("the example to run", || {
        found = walkdir::WalkDir::new(scratch)
            .max_depth(5)
            .into_iter()
            .flatten()
            .find(|file| file.file_name() == "ready");
        found.is_some()
    });
    found.unwrap().path().parent().unwrap().to_owned()
}

/// Stops all processes of a run before it kills any, so that none of them sees another's end.
fn kill_all_at_once(mut run: Child) {
    processes::end_families(&[Pid::from_child(&run)]);
    run.wait().unwrap();
}

/// Starts `verify` until nothing is left: a process that was killed may take a moment to be gone.
fn start_until_nothing_is_left(project: &Project) {
    wait_for("the next start to clear away", || {
        let listed = start(project, "list").wait().unwrap();
        assert!(listed.success());
        project.scratch_files().is_empty()
    });
}

#[test]
fn what_is_killed_at_one_blow_is_cleared_away_by_the_next_start() {
    for sandbox in ["on", "off"] {
        let project = staying();
        let run = start(&project, &format!("--sandbox={sandbox}"));
        running(project.scratch());
        kill_all_at_once(run);
        wait_for("all processes to be gone", || {
            project.processes().is_empty()
        });
        assert_eq!(project.scratch_files().len(), 1, "nobody could remove it");
        start_until_nothing_is_left(&project);
        assert_eq!(project.read("kept/file"), "kept", "no link was followed");
    }
}

#[test]
fn so_is_what_an_ordinary_user_may_not_even_read() {
    let Some(nobody) = Nobody::with(Path::new(VERIFY)) else {
        return;
    };
    fs::create_dir(nobody.at("kept")).unwrap();
    fs::write(nobody.at("kept/file"), "kept").unwrap();
    fs::write(nobody.at("page.md"), page_to(&nobody.at("kept"))).unwrap();
    let mut command = nobody.command("verify");
    let run = command
        .arg("page.md")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let directory = running(&nobody.at("tmp"));
    kill_all_at_once(run);
    assert!(directory.join("locked").exists());
    wait_for("the next start to clear away", || {
        let mut list = nobody.command("verify");
        list.args(["list", "page.md"]).stdout(Stdio::null());
        assert!(list.status().unwrap().success());
        fs::read_dir(nobody.at("tmp")).unwrap().count() == 0
    });
    assert_eq!(fs::read(nobody.at("kept/file")).unwrap(), b"kept");
}

#[test]
fn a_process_of_an_example_that_lives_on_keeps_no_directory() {
    // It ends when what it lives in has been cleared away.
    let page = "```python
import os, time
if os.fork() == 0:
    os.setsid()
    open('ready', 'w').close()
    while os.path.exists('ready'):
        time.sleep(0.01)
    os._exit(0)
time.sleep(1000)
```
";
    let project = Project::new().with("page.md", page);
    let mut run = start(&project, "--sandbox=off");
    running(project.scratch());
    let own = Pid::from_child(&run);
    let host = processes::children(own)[0];
    for signal in [Signal::STOP, Signal::KILL] {
        for process in [own, host] {
            rustix::process::kill_process(process, signal).unwrap();
        }
    }
    run.wait().unwrap();
    assert!(!project.processes().is_empty(), "it lives on");
    start_until_nothing_is_left(&project);
    wait_for("it to end", || project.processes().is_empty());
}

#[test]
fn so_is_what_is_killed_while_it_starts_or_ends() {
    let page = "```python\nopen('file', 'w').close()\n```\n";
    let project = Project::new().with("page.md", page);
    for sandbox in ["on", "off"] {
        let words = format!("-q --no-cache --sandbox={sandbox}");
        let began = Instant::now();
        project.verify(&words);
        let whole = began.elapsed();
        for kill in 0..20 {
            let mut run = start(&project, &words);
            let moment = Instant::now() + whole * kill / 20;
            let known = project.scratch_files().len();
            let is_time = || match kill % 2 {
                0 => Instant::now() > moment,
                _ => project.scratch_files().len() > known,
            };
            while !is_time() && run.try_wait().unwrap().is_none() {}
            kill_all_at_once(run);
        }
        start_until_nothing_is_left(&project);
    }
}

#[test]
fn a_run_that_lives_keeps_its_directory() {
    for sandbox in ["on", "off"] {
        let project = staying().with("other.md", "```python\nprint(1)\n```\n");
        let mut run = start(&project, &format!("page.md --sandbox={sandbox}"));
        let directory = running(project.scratch());
        let others: Vec<Child> = ["list", "other.md", "other.md --no-cache"]
            .map(|words| start(&project, words))
            .into();
        for mut other in others {
            assert!(other.wait().unwrap().success());
        }
        assert!(directory.join("ready").exists());
        fs::write(directory.join("go"), "").unwrap();
        assert!(run.wait().unwrap().success());
        wait_for("its own end to clear away", || {
            project.scratch_files().is_empty()
        });
    }
}

/// A directory as a run leaves it when it is killed.
fn leave(project: &Project, name: &str) -> PathBuf {
    let root = project.scratch().join(name);
    fs::create_dir_all(root.join("0/scratch/below")).unwrap();
    fs::write(root.join("0/scratch/below/file"), "left").unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o1700)).unwrap();
    root
}

#[test]
fn many_starts_at_once_disturb_neither_each_other_nor_what_they_clear_away() {
    let project = Project::new().with("page.md", "```python\nopen('file', 'w').close()\n```\n");
    for number in 0..20 {
        leave(&project, &format!("verify-left{number:02}"));
    }
    let runs: Vec<Child> = (0..8).map(|_| start(&project, "--no-cache")).collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    assert_eq!(project.scratch_files(), [""; 0]);
}

#[test]
fn what_is_mounted_in_a_left_directory_stays_as_it_is() {
    let project = Project::new()
        .with("page.md", "```python\npass\n```\n")
        .with("kept/file", "kept");
    let root = leave(&project, "verify-mounts");
    let said = project.in_own_mounts(
        "for place in over 0/over; do\nplace=\"$TMPDIR/verify-mounts/$place\"\n\
         mkdir \"$place\"\nmount --bind \"$ROOT/kept\" \"$place\"\ndone",
        "cd \"$ROOT\"\n\"$VERIFY\" list >/dev/null && echo fine",
    );
    let Some(said) = said else {
        return;
    };
    assert!(
        said.ends_with("fine\n"),
        "not being able to remove it is no error: {said}"
    );
    assert_eq!(project.read("kept/file"), "kept");
    assert!(!root.join("0/scratch").exists(), "all else is gone");
    assert!(root.join("0/over").exists());
    start_until_nothing_is_left(&project);
}
