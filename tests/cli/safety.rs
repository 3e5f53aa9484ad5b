//! Nothing is lost: `record` is killed at any moment, has no room, may not write.

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::project::{Project, wait_for};

const PAGES: usize = 4;

type Files = Vec<(String, Vec<u8>)>;

/// A book that shows its outputs, with its files as they are after an edit of every page and as recording
/// makes them.
fn book(code: &str) -> (Project, Files, Files) {
    let project = Project::new().with("verify.toml", "output = \"page\"\nproof-runs = 2\n");
    let name = |number: usize| format!("page{number}.md");
    for number in 0..PAGES {
        project.write(&name(number), "# One\n\n```python\nprint('old')\n```\n");
    }
    project.record_and_settle();
    for number in 0..PAGES {
        let text = project.read(&name(number));
        project.write(&name(number), text.replace("print('old')", code));
    }
    let old = project.files();
    project.record_and_settle();
    let new = project.files();
    (project, old, new)
}

impl Project {
    fn restore(&self, files: &Files) {
        for (name, bytes) in files {
            self.write(name, bytes);
        }
    }

    /// Which files are as after the recording; every one must be as before or as after.
    #[track_caller]
    fn new_ones(&self, old: &Files, new: &Files) -> Vec<bool> {
        let files = self.files();
        let names = |files: &Files| -> Vec<String> {
            let temporary = |name: &&String| !name.contains(".verify-");
            files
                .iter()
                .map(|(name, _)| name)
                .filter(temporary)
                .cloned()
                .collect()
        };
        assert_eq!(names(&files), names(new));
        files
            .iter()
            .filter(|(name, _)| !name.contains(".verify-"))
            .zip(old.iter().zip(new))
            .map(|((name, bytes), ((_, old), (_, new)))| {
                assert!(
                    bytes == old || bytes == new,
                    "{name} is neither old nor new"
                );
                bytes == new
            })
            .collect()
    }
}

/// Numbers that look random, the same on every run of the test.
struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn roll(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

/// Without the sandbox, which is two fifths of its time: a recording is written outside of it either way.
fn record(project: &Project) -> Child {
    project
        .command("record --sandbox=off")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_recorder_that_is_killed_leaves_each_file_old_or_new() {
    let (project, old, new) = book("print('new')");
    let is_first = |(name, _): &&(String, Vec<u8>)| name == "expected/page0.toml";
    let first = &old.iter().find(is_first).unwrap().1;
    let is_writing = || project.read("expected/page0.toml").as_bytes() != first.as_slice();
    let breath = || std::thread::sleep(Duration::from_micros(200));
    // How long all of it takes here, and the writing.
    project.restore(&old);
    let started = Instant::now();
    let mut whole = record(&project);
    let mut before_writing = None;
    while whole.try_wait().unwrap().is_none() {
        if before_writing.is_none() && is_writing() {
            before_writing = Some(started.elapsed());
        }
        breath();
    }
    let all = started.elapsed();
    let writing = all.saturating_sub(before_writing.unwrap_or(all));

    let mut dice = Dice(7);
    let mut verdicts: HashMap<Vec<bool>, i32> = HashMap::new();
    for kill in 0..100 {
        project.restore(&old);
        let started = Instant::now();
        let mut recorder = record(&project);
        // Half of them at any moment, half from the first file on that is written.
        let moment = if kill % 2 == 0 {
            started + all.mul_f64(dice.roll())
        } else {
            while !is_writing() && recorder.try_wait().unwrap().is_none() {
                breath();
            }
            Instant::now() + writing.mul_f64(dice.roll())
        };
        while Instant::now() < moment && recorder.try_wait().unwrap().is_none() {
            breath();
        }
        recorder.kill().unwrap();
        recorder.wait().unwrap();
        let state = project.new_ones(&old, &new);
        let said = *verdicts.entry(state.clone()).or_insert_with(|| {
            project
                .command("--quiet")
                .output()
                .unwrap()
                .status
                .code()
                .unwrap()
        });
        assert_eq!(said, i32::from(state.contains(&false)), "{state:?}");
    }
    wait_for("what the killed ones ran to be gone", || {
        project.scratch_files().is_empty() && project.processes().is_empty()
    });
    // The next recording ends what the last one began, and clears away after it.
    project.restore(&old);
    project.record_and_settle();
    assert!(project.files() == new, "{:?}", project.files());
}

#[test]
fn a_full_disk_leaves_each_file_old_or_new() {
    let (project, old, new) = book("print('new\\n' * 1500)");
    project.restore(&old);
    // On a small disk, with room for a page or two of the longer outputs.
    let said = project.in_own_mounts(
        "mkdir \"$TMPDIR/disk\"\nmount -t tmpfs -o size=512k tmpfs \"$TMPDIR/disk\"\ncp -R \"$ROOT/.\" \"$TMPDIR/disk\"",
        "cd \"$TMPDIR/disk\"\nset +e\nmkdir -p .verify\n\
         dd if=/dev/zero of=.verify/fill bs=4k 2>/dev/null\ntruncate -s -24k .verify/fill\n\
         TMPDIR=\"$HOME\" \"$VERIFY\" record\necho \"status $?\"\nrm .verify/fill\ncp -R . \"$ROOT\"",
    );
    let _ = std::fs::remove_dir(project.scratch().join("disk"));
    let Some(said) = said else {
        return;
    };
    assert!(said.contains("status 2"), "{said}");
    assert!(
        said.contains("it is as it was: No space left on device"),
        "{said}"
    );
    let state = project.new_ones(&old, &new);
    assert!(state.contains(&false), "there was room for all of it");
    assert_eq!(project.verify("--quiet").status, 1);
    project.record_and_settle();
    assert!(project.files() == new);
}

#[test]
fn a_tree_that_may_not_be_written_stays_as_it_is() {
    let (project, old, new) = book("print('new')");
    project.restore(&old);
    let said = project.in_own_mounts(
        "mount --bind \"$ROOT\" \"$ROOT\"\nmount -o remount,bind,ro \"$ROOT\"\ncd \"$ROOT\"",
        "set +e\n\"$VERIFY\" record; echo \"status $?\"\n\"$VERIFY\" --quiet >/dev/null; echo \"check $?\"",
    );
    let Some(said) = said else {
        return;
    };
    assert!(said.contains("status 2"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("check 1"), "{said}");
    assert!(
        project
            .new_ones(&old, &new)
            .iter()
            .zip(&old)
            .zip(&new)
            .all(|((is_new, old), new)| !is_new || old == new)
    );
}

/// While it closes its files, a process that ends tells nothing of itself any more, and has its children still.
#[test]
fn a_child_of_a_process_that_ends_with_the_host_does_not_outlive_the_run() {
    let ends_slowly = "import os, signal, time\nhost = os.getppid()\nif not os.fork():\n    \
        os.setsid()\n    if not os.fork():\n        time.sleep(1000)\n    \
        large = os.memfd_create('large')\n    for _ in range(600):\n        os.write(large, b'x' * 1_000_000)\n    \
        os.kill(host, signal.SIGKILL)\n    os._exit(0)\ntime.sleep(1000)\n";
    let project = Project::new().with("page.md", format!("```python\n{ends_slowly}```\n"));
    let ran = project.verify("--sandbox=off");
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(
        ran.stdout.contains("the host that ran it died"),
        "{}",
        ran.stdout
    );
}
