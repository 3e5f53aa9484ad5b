//! Nothing is lost and nothing is left: full disks, two at once, Ctrl-C.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use snapbox::str;

use crate::project::{Project, VERIFY, wait_for};

fn is_alive(pid: &str) -> bool {
    // A zombie has ended; whoever adopted it will notice.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

/// A page whose example starts a child in a session of its own and stays, with their ids in `pids`. It takes
/// `--sandbox=off`: within a sandbox an example cannot write there, and knows its processes by other numbers.
fn staying(project: &Project) -> String {
    format!(
        r#"# Page

```python
print("recorded")
```

```python
import os, subprocess, sys, time

child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
with open("{path}.new", "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
os.rename("{path}.new", "{path}")
time.sleep(1000)
```
"#,
        path = project.path("pids").display()
    )
}

fn interrupted(words: &str, signal: &str) {
    let project = Project::book();
    project.write("a.md", staying(&project));
    let before = project.files();
    let child = project
        .command(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the example to run", || project.path("pids").exists());
    let pids = project.read("pids");
    send(signal, &child);
    let ran = project.ran(child.wait_with_output().unwrap());
    assert_eq!(ran.status, 130, "{}", ran.text());
    assert!(ran.stderr.contains("interrupted"), "{}", ran.text());
    for pid in pids.split_whitespace() {
        wait_for("the example's processes to be gone", || !is_alive(pid));
    }
    fs::remove_file(project.path("pids")).unwrap();
    assert!(before == project.files(), "something was written");
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn ctrl_c_ends_a_check() {
    interrupted("--sandbox=off", "-INT");
}

#[test]
fn ctrl_c_ends_a_recording_that_has_written_nothing() {
    interrupted("record --sandbox=off", "-INT");
}

#[test]
fn a_request_to_terminate_is_as_good_as_ctrl_c() {
    interrupted("--sandbox=off", "-TERM");
}

#[test]
fn a_killed_run_leaves_no_process() {
    let project = Project::book();
    project.write("a.md", staying(&project));
    let mut child = project
        .command("--sandbox=off")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the example to run", || project.path("pids").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    for pid in project.read("pids").split_whitespace() {
        wait_for("the example's processes to be gone", || !is_alive(pid));
    }
    wait_for("the scratch directory to be gone", || {
        project.scratch_files().is_empty()
    });
}

#[test]
fn two_recordings_at_once() {
    let project = Project::book();
    for page in ["a", "b", "c"] {
        project.write(
            &format!("{page}.md"),
            format!("# Page\n\n```python\nprint({page:?})\n```\n"),
        );
    }
    let start = || {
        project
            .command("record")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (first, second) = (start(), start());
    for child in [first, second] {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
    }
    let before = project.files();
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 3 pages
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    assert!(before == project.files());
}

/// Runs a recording in a place with room for next to nothing; `None` where that cannot be made.
fn on_a_full_disk(project: &Project) -> Option<std::process::Output> {
    let script = r#"mount -t tmpfs -o size=16k none "$1" && cp -r "$2"/. "$1" && { head -c 1M /dev/zero > "$1/filler"; } 2>&-
        shift 2; "$@"; status=$?; rm -f "$FULL/filler"; cp -r "$FULL"/. "$KEPT"; exit $status"#;
    let full = project.path("expected");
    let kept = project.root().with_file_name("kept");
    fs::create_dir_all(&kept).unwrap();
    let can = Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let before = project.root().with_file_name("before");
    copy(&full, &before);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&full, &before])
        .args([VERIFY, "record"]);
    project.surround(&mut command);
    command.env("FULL", &full).env("KEPT", &kept);
    Some(command.output().unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_full_disk_leaves_the_old_recordings() {
    let project = Project::book().with("a.md", "# Page\n\n```python\nprint(1)\n```\n");
    project.record_and_settle();
    let old = project.read("expected/a.toml");
    project.write(
        "a.md",
        "# Page\n\n```python\nprint('much\\n' * 10_000)\n```\n",
    );
    let Some(output) = on_a_full_disk(&project) else {
        #[allow(clippy::print_stderr, reason = "a test that was not run says so")]
        {
            eprintln!("skipped: only the superuser can mount a small disk");
        }
        return;
    };
    let ran = project.ran(output);
    assert_eq!(ran.status, 2, "{}", ran.text());
    let told =
        "error: cannot write `[ROOT]/expected/a.toml`; it is as it was: No space left on device";
    assert!(ran.stderr.starts_with(told), "{}", ran.text());
    let kept = project.root().with_file_name("kept");
    assert_eq!(fs::read_to_string(kept.join("a.toml")).unwrap(), old);
    let files: Vec<_> = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files, ["a.toml"], "nothing half-written");
}
