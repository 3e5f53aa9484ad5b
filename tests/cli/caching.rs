//! What is not run again, and what is: every input counts, prose does not, and nobody is fooled.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use snapbox::str;

use crate::lacking::{LANDLOCK, Lacking};
use crate::project::{OTHER_PYTHON, Project, make_environment};

const FROM_CACHE: &str = "from the cache";

const PAGE: &str = "\
# One

```python
print(1 + 1)
```

## Two

```python
print(2 + 2)
```
";

/// A book of one page with two sessions that passed.
fn book() -> Project {
    let project = Project::book()
        .with("verify.toml", "session = \"heading\"\n")
        .with("page.md", PAGE);
    assert_eq!(project.verify("record").status, 0);
    ran(&project, 2, 0);
    ran(&project, 2, 2);
    project
}

/// Checks everything; so many sessions there are, and so many of them did not run.
#[track_caller]
fn ran(project: &Project, sessions: usize, kept: usize) {
    let report = summary(project, "--format json");
    assert_eq!(report["sessions"], sessions, "{report}");
    assert_eq!(report["sessions_from_cache"], kept, "{report}");
    // The shortest way, which reads no page, comes to the same.
    let text = project.verify("").stdout;
    let says = text.contains(&format!("{sessions} of {sessions} session"));
    let all = sessions > 0 && project.verify("").stdout.contains(FROM_CACHE);
    assert!(says == all, "{text}");
}

/// What was written within the last moment may be written again within it, unseen.
fn a_moment_passes() {
    let written = std::time::SystemTime::now();
    while written.elapsed().unwrap_or_default() < std::time::Duration::from_millis(20) {
        std::thread::yield_now();
    }
}

#[track_caller]
fn summary(project: &Project, words: &str) -> serde_json::Value {
    let report = project.verify(words);
    let line = report.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", report.text()))
}

#[track_caller]
fn edit(project: &Project, name: &str, from: &str, to: &str) {
    let text = project.read(name);
    assert!(text.contains(from), "{text}");
    project.write(name, text.replace(from, to));
}

#[test]
fn what_passed_is_not_run_again() {
    let project = book();
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✓ page.md  2 verified
2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 2 of 2 sessions from the cache

"#]]);
}

#[test]
fn reports_are_the_same_but_for_the_flag() {
    let project = book();
    project.verify("clean");
    let times = regex::Regex::new(r#""seconds":[0-9.e-]+"#).unwrap();
    let report = |words: &str| {
        let text = project.verify(words).stdout;
        times.replace_all(&text, "").into_owned()
    };
    let first = report("--format json");
    let second = report("--format json");
    assert_ne!(first, second);
    let same = second
        .replace(r#""from_cache":true"#, r#""from_cache":false"#)
        .replace(r#""sessions_from_cache":2"#, r#""sessions_from_cache":0"#);
    assert_eq!(first, same);
    let junit = report("--format junit");
    assert_eq!(junit.matches(r#"from_cache="true""#).count(), 2, "{junit}");
}

#[test]
fn prose_changes_nothing_but_the_lines() {
    let project = book();
    edit(&project, "page.md", "# One\n", "# The first\n\nProse.\n");
    edit(&project, "page.md", "## Two", "More of it.\n\n## Two");
    project.write(
        "expected/page.toml",
        project
            .read("expected/page.toml")
            .replace("one/1", "the-first/1"),
    );
    let report = project.verify("--format json").stdout;
    let lines: Vec<&str> = report
        .lines()
        .filter(|line| line.contains("\"example\""))
        .collect();
    assert!(
        lines[0].contains(r#""line":5,"id":"the-first/1""#),
        "{report}"
    );
    assert!(lines[1].contains(r#""line":13,"id":"two/1""#), "{report}");
    assert!(
        lines
            .iter()
            .all(|line| line.contains(r#""from_cache":true"#)),
        "{report}"
    );
    // Now known by its bytes, too.
    assert!(
        project
            .verify("")
            .stdout
            .contains("2 of 2 sessions from the cache")
    );
}

#[test]
fn each_input_counts() {
    let cases: [(&str, &str, &str, usize); 7] = [
        ("page.md", "print(2 + 2)", "print(4)", 1),
        (
            "page.md",
            "```python\nprint(2",
            "```python timeout=20s\nprint(2",
            1,
        ),
        (
            "page.md",
            "```python\nprint(2",
            "```python file=x.txt\nx\n```\n\n```python\nprint(2",
            0,
        ),
        ("expected/page.toml", "2\n", "[..]\n", 1),
        ("verify.toml", "session", "timeout = \"20s\"\nsession", 0),
        (
            "verify.toml",
            "session = \"heading\"",
            "session = \"heading\"\n[environment]\nA = \"b\"",
            0,
        ),
        (
            "verify.toml",
            "session = \"heading\"",
            "session = \"page\"",
            0,
        ),
    ];
    for (file, from, to, kept) in cases {
        let project = book();
        edit(&project, file, from, to);
        let report = summary(&project, "--format json");
        assert_eq!(report["sessions_from_cache"], kept, "{file}: {from} → {to}");
    }
}

#[test]
fn a_former_state_is_known_again() {
    let project = book();
    edit(&project, "page.md", "print(2 + 2)", "print(2 * 2)");
    ran(&project, 2, 1);
    project.write("page.md", PAGE);
    ran(&project, 2, 2);
}

#[test]
fn failures_run_again_every_time() {
    let project = book();
    edit(&project, "page.md", "print(2 + 2)", "print(5)");
    for _ in 0..3 {
        let report = summary(&project, "--format json");
        assert_eq!(report["counts"]["failed"], 1);
        assert_eq!(report["sessions_from_cache"], 1);
        assert_eq!(project.verify("").status, 1);
    }
    // One that passed before is no longer known to fail when it is as it was.
    assert_eq!(project.verify("--failed").status, 1);
    project.write("page.md", PAGE);
    assert_eq!(project.verify("").status, 0);
    assert_eq!(project.verify("--failed").status, 3);
}

#[test]
fn files_that_a_session_reads_count() {
    let project = Project::new().with("verify.toml", "sandbox = \"off\"\n");
    let data = project.path("data.txt");
    let folder = project.path("folder");
    project.write("data.txt", "1");
    project.write("folder/one", "");
    project.write(
        "page.md",
        format!(
            "```python\nimport os\nassert open({data:?}).read()\nassert os.listdir({folder:?})\nassert not os.path.exists('x')\ntry:\n    open({:?})\nexcept OSError:\n    pass\n```\n",
            project.path("gone")
        ),
    );
    a_moment_passes();
    ran(&project, 1, 0);
    ran(&project, 1, 1);
    for (name, text) in [("data.txt", "2"), ("folder/two", "")] {
        project.write(name, text);
        a_moment_passes();
        ran(&project, 1, 0);
        ran(&project, 1, 1);
    }
    project.write("gone", "");
    a_moment_passes();
    ran(&project, 1, 0);
    ran(&project, 1, 1);
}

#[test]
fn a_module_outside_of_packages_counts_by_its_source() {
    let project = Project::new().with("verify.toml", "sandbox = \"off\"\n");
    let own = project.path("own");
    project.write("own/helper.py", "VALUE = 1\n");
    project.write(
        "page.md",
        format!("```python\nimport sys\nsys.path.append({own:?})\nimport helper\nassert helper.VALUE\n```\n"),
    );
    // The first import writes bytecode, so that the directory is another one afterwards.
    project.verify("");
    a_moment_passes();
    project.verify("");
    ran(&project, 1, 1);
    project.write("own/helper.py", "VALUE = 23\n");
    a_moment_passes();
    ran(&project, 1, 0);
}

/// Ids name a session's results, and are no part of what it depends on.
#[test]
fn a_page_is_known_as_a_whole_only_with_all_that_its_sessions_read() {
    let project = Project::book()
        .with("verify.toml", "session = \"heading\"\n")
        .with("data.txt", "1");
    let data = project.path("data.txt");
    let page = |heading: &str, more: &str| {
        project.write(
            "page.md",
            format!("## {heading}\n\n```python\nassert open({data:?}).read() == '1'\n```\n{more}"),
        );
    };
    a_moment_passes();
    for heading in ["Alpha", "Gamma"] {
        page(heading, "");
        assert_eq!(project.verify("").status, 0);
    }
    for number in 0..4 {
        let other = format!("\n## Alpha\n\n```python\nx = {number}\n```\n");
        page("Gamma", &other);
        assert_eq!(project.verify("").status, 0);
    }
    project.write("data.txt", "2");
    assert_eq!(project.verify("").status, 1);
}

#[test]
fn what_comes_first_is_kept_though_what_follows_cannot_be() {
    let project = Project::book().with(
        "page.md",
        "# One\n\n```python\nx = 1\n```\n\n```python\nimport os\nos.system('true')\n```\n",
    );
    let first = || {
        let report = summary(&project, "--format json --example one/1");
        report["sessions_from_cache"].clone()
    };
    assert_eq!(first(), 0);
    assert_eq!(first(), 1);
    assert_eq!(project.verify("").status, 0);
    assert_eq!(first(), 1);
}

#[test]
fn links_count_by_what_they_lead_to_now() {
    let project = Project::book()
        .with("data/one/file", "one")
        .with("data/two/file", "two")
        .with("data/two/other", "");
    let link = |name: &str, target: &str| {
        let _ = fs::remove_file(project.path(name));
        std::os::unix::fs::symlink(target, project.path(name)).unwrap();
    };
    link("data/file", "one/file");
    link("data/directory", "one");
    let data = project.path("data");
    project.write(
        "page.md",
        format!(
            "# One\n\n```python\nimport os\nprint(open('{0}/file').read())\n```\n\n\
             ## Two\n\n```python fresh\nimport os\nprint(os.listdir('{0}/directory'))\n```\n\n\
             ## Three\n\n```python fresh\nprint(open('{0}/directory/file').read())\n```\n",
            data.display()
        ),
    );
    assert_eq!(project.verify("record").status, 0);
    ran(&project, 3, 0);
    ran(&project, 3, 3);
    link("data/file", "two/file");
    assert_eq!(project.verify("").status, 1, "a link to a file");
    link("data/file", "one/file");
    project.verify("");
    link("data/directory", "two");
    let text = project.verify("").text();
    assert!(
        text.contains("2 failed"),
        "one to a directory, listed and passed: {text}"
    );
}

#[test]
fn a_package_that_is_a_link_counts_by_its_source() {
    let project = Project::book()
        .with("own/module.py", "NUMBER = 1\n")
        .with("own/package/__init__.py", "NUMBER = 2\n")
        .with(
            "page.md",
            "# One\n\n```python\nimport module, package\nprint(module.NUMBER, package.NUMBER)\n```\n",
        );
    let packages = make_environment(&project.path(".venv"));
    for name in ["module.py", "package"] {
        std::os::unix::fs::symlink(project.path("own").join(name), packages.join(name)).unwrap();
    }
    assert_eq!(project.verify("record").status, 0);
    ran(&project, 1, 0);
    ran(&project, 1, 1);
    project.write("own/module.py", "NUMBER = 10\n");
    assert_eq!(project.verify("").status, 1, "a module");
    project.write("own/module.py", "NUMBER = 1\n");
    project.verify("");
    project.write("own/package/__init__.py", "NUMBER = 20\n");
    assert_eq!(project.verify("").status, 1, "a package");
}

#[test]
fn what_nobody_can_watch_runs_every_time() {
    let process = regex::Regex::new("/proc/[0-9]+").unwrap();
    for (source, reason) in [
        (
            "import subprocess\nsubprocess.run(['true'])",
            "it starts a process (`subprocess.Popen`)",
        ),
        (
            "import os\nos.system('true')",
            "it starts a process (`os.system`)",
        ),
        (
            "import os\nif not os.fork():\n    os._exit(0)\nos.wait()",
            "it forks (`os.fork`)",
        ),
        (
            "import ctypes\nctypes.CDLL(None).getpid()",
            "it calls C by `ctypes` (`ctypes.dlsym`)",
        ),
        (
            "open('/proc/self/status').read()",
            "it reads `/proc/self/status`",
        ),
        (
            "import os\nos.close(os.open('/tmp', os.O_RDONLY))",
            "it opens the directory `/tmp`",
        ),
        (
            "import atexit\natexit.register(open, '/proc/self/stat')",
            "it reads `/proc/self/stat`",
        ),
    ] {
        let project = Project::new().with("page.md", format!("```python\n{source}\n```\n"));
        assert_eq!(project.verify("").status, 0, "{source}");
        ran(&project, 1, 0);
        let text = project.verify("--explain page/1").stdout;
        let expected = format!("ran: its last results were not kept: {reason}");
        let expected = expected.replace("/proc/self", "/proc/");
        let text = process.replace_all(&text, "/proc/");
        assert!(text.contains(&expected), "{source}: {text}");
    }
}

#[test]
fn what_ends_before_it_can_tell_runs_every_time() {
    let page = "```python exits=3\nimport os\nos._exit(3)\n```\n";
    let project = Project::new().with("page.md", page);
    ran(&project, 1, 0);
    let text = project.verify("--explain page/1").stdout;
    let reason = "its interpreter did not shut down in order";
    assert!(text.contains(reason), "{text}");
}

#[test]
fn commands_of_a_shell_run_every_time() {
    let project = Project::book().with("page.md", "```console\n$ echo one\none\n```\n");
    ran(&project, 1, 0);
    ran(&project, 1, 0);
    let text = project.verify("--explain page/1").stdout;
    assert!(text.contains("it has a console block"), "{text}");
}

#[test]
fn reasons_are_given() {
    let project = book();
    project.verify("--explain two/1").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 verified
  page.md:9 (two/1) from the cache: nothing it depends on has changed
1 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 1 of 1 session from the cache

"#]]);
    let why = |project: &Project| {
        let text = project.verify("--explain two/1").stdout;
        let line = text
            .lines()
            .find(|line| line.contains("(two/1)"))
            .unwrap_or_default();
        line.trim_start_matches("  page.md:9 (two/1) ").to_owned()
    };
    edit(&project, "page.md", "print(2 + 2)", "print(2 * 2)");
    assert_eq!(why(&project), "ran: changed since: example `two/1`");
    edit(&project, "expected/page.toml", "4\n", "[..]\n");
    assert_eq!(
        why(&project),
        "ran: changed since: the recording of `two/1`"
    );
    project.write("verify.toml", "session = \"heading\"\ntimeout = \"10s\"\n");
    assert_eq!(why(&project), "ran: changed since: the settings");
    project.verify("clean");
    assert_eq!(why(&project), "ran: it has not run here before");
    assert_eq!(project.verify("--explain 7.3").status, 3);
}

#[test]
fn interpreters_do_not_share() {
    let Some(other) = &*OTHER_PYTHON else {
        return;
    };
    let project = book();
    let python = format!("--format json --python {}", other.executable.display());
    assert_eq!(summary(&project, &python)["sessions_from_cache"], 0);
    assert_eq!(summary(&project, &python)["sessions_from_cache"], 2);
    ran(&project, 2, 2);
}

#[test]
fn nothing_is_kept_where_nobody_wants_it() {
    let project = book();
    assert_eq!(
        summary(&project, "--no-cache --format json")["sessions_from_cache"],
        0
    );
    project.verify("clean").is(str![[r#"
exit status 0
--- stdout
removed [ROOT]/.verify/cache

"#]]);
    project.verify("clean").is(str![[r#"
exit status 0
--- stdout
nothing was kept in [ROOT]/.verify/cache

"#]]);
    project.verify("--no-cache");
    assert!(!project.path(".verify/cache").exists());
    ran(&project, 2, 0);
}

#[test]
fn what_passed_behind_other_walls_runs_again() {
    let project = book();
    let kept = |words: &str, lacking: Option<Lacking>| {
        let report = project.verify_with(&format!("--format json {words}"), |command| {
            if let Some(lacking) = lacking {
                lacking.on(command);
            }
        });
        let line = report.stdout.lines().last().unwrap_or_default();
        let summary: serde_json::Value = serde_json::from_str(line).unwrap();
        summary["sessions_from_cache"].clone()
    };
    assert_eq!(kept("", None), 2);
    assert_eq!(kept("", Some(LANDLOCK)), 0);
    assert_eq!(kept("", None), 2);
    assert_eq!(kept("--sandbox=off", None), 0);
    assert_eq!(kept("--sandbox=off", Some(LANDLOCK)), 2);
    // Whoever insists on them gets the proof each time.
    if project.verify("--sandbox=strict").status == 0 {
        assert_eq!(kept("--sandbox=strict", None), 0);
    }
}

#[test]
fn doubts_are_about_what_runs_now() {
    let project = book();
    for words in ["--shake 1", "--probe-skips"] {
        let text = project.verify(words).text();
        assert!(!text.contains(FROM_CACHE), "{words}: {text}");
        let text = project.verify(&format!("{words} --format json")).stdout;
        assert!(!text.contains(r#""from_cache":true"#), "{words}: {text}");
    }
    ran(&project, 2, 2);
}

/// Each file of the cache.
fn entries(project: &Project) -> Vec<std::path::PathBuf> {
    walkdir::WalkDir::new(project.path(".verify/cache"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file())
        .collect()
}

type Damage = fn(&[u8]) -> Vec<u8>;

#[test]
fn damaged_files_are_no_files() {
    let project = book();
    let damages: [Damage; 4] = [
        |_| Vec::new(),
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |bytes| bytes.iter().map(|byte| byte ^ 1).collect(),
        |_| b"rubbish".repeat(100),
    ];
    for damage in damages {
        for file in entries(&project) {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, damage(&bytes)).unwrap();
        }
        ran(&project, 2, 0);
        ran(&project, 2, 2);
    }
}

#[test]
fn what_was_written_without_the_key_is_not_believed() {
    let project = book();
    let kept = |secret: &str| {
        let report = project.verify_with("--format json", |command| {
            command.env("VERIFY_CACHE_KEY", secret);
        });
        let line = report.stdout.lines().last().unwrap().to_owned();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()["sessions_from_cache"].clone()
    };
    assert_eq!(kept("ours"), 0);
    assert_eq!(kept("ours"), 2);
    assert_eq!(kept("theirs"), 0);
    // Nor if it is put where they look.
    let cache = project.path(".verify/cache");
    let entries = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap());
    let mut grounds: Vec<_> = entries.map(|entry| entry.path()).collect();
    grounds.retain(|path| path.is_dir());
    assert_eq!(grounds.len(), 3);
    let aside = cache.join("aside");
    let places = [&aside, &grounds[0], &grounds[1], &grounds[2], &aside];
    for pair in places.windows(2) {
        fs::rename(pair[1], pair[0]).unwrap();
    }
    assert_eq!(kept("ours"), 0);
    assert_eq!(kept("theirs"), 0);
    ran(&project, 2, 0);
}

#[test]
fn a_cache_that_cannot_be_written_is_no_hindrance() {
    let project = book();
    project.verify("clean");
    project.write(".verify/cache", "a file in the way");
    ran(&project, 2, 0);
    ran(&project, 2, 0);
    fs::set_permissions(
        project.path(".verify/cache"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    assert_eq!(project.verify("").status, 0);
}

#[test]
fn runs_at_the_same_time_do_not_spoil_each_other() {
    let project = book();
    for _ in 0..3 {
        project.verify("clean");
        let running: Vec<_> = (0..4)
            .map(|_| {
                project
                    .command("")
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut run in running {
            assert!(run.wait().unwrap().success());
        }
        ran(&project, 2, 2);
    }
}

#[test]
fn recording_and_showing_run_what_they_are_about() {
    let project = book();
    edit(&project, "page.md", "print(2 + 2)", "print(6)");
    assert_eq!(project.verify("record").status, 0);
    assert!(project.read("expected/page.toml").contains("6\n"));
    ran(&project, 2, 1);
    assert!(project.verify("show two/1").stdout.contains('6'));
    assert!(!project.verify("record").stdout.contains(FROM_CACHE));
}

#[test]
fn a_part_of_a_session_takes_the_results_of_the_whole() {
    let project = Project::book().with("page.md", PAGE);
    project.verify("record");
    ran(&project, 1, 0);
    assert_eq!(
        summary(&project, "--format json --example one/1")["sessions_from_cache"],
        1
    );
    edit(&project, "page.md", "print(2 + 2)", "print(2 * 2)");
    assert_eq!(
        summary(&project, "--format json --example one/1")["sessions_from_cache"],
        0
    );
    assert_eq!(
        summary(&project, "--format json --example one/1")["sessions_from_cache"],
        1
    );
}

#[test]
fn orphans_are_told_of_every_time() {
    let project = book();
    let recording = project.read("expected/page.toml");
    project.write(
        "expected/page.toml",
        format!("{recording}\n[[example]]\nid = \"gone/1\"\nstdout = '''\n1\n'''\n"),
    );
    for _ in 0..2 {
        let text = project.verify("").stdout;
        assert!(
            text.contains("expected/page.toml: gone/1 belongs to no example"),
            "{text}"
        );
    }
}

#[test]
fn recorded_files_count() {
    let page = "```python artifact=out.txt\nopen('out.txt', 'w').write('made\\n')\n```\n";
    let project = Project::book().with("page.md", page);
    assert_eq!(project.verify("record").status, 0);
    project.verify("");
    assert!(project.verify("").stdout.contains(FROM_CACHE));
    project.write("expected/page/out.txt", "other\n");
    assert_eq!(project.verify("").status, 1);
    project.write("expected/page/out.txt", "made\n");
    let again = project.verify("");
    assert_eq!(again.status, 0);
    assert!(again.stdout.contains(FROM_CACHE), "{}", again.text());
}
