//! What somebody wrote is not lost to `record`: outputs below examples that did not run, wildcards, files with names
//! like its own, and what changes while it runs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::process::Command;

use snapbox::str;

use crate::project::{Project, Ran, VERIFY, skipped};

/// A project that shows its outputs in its pages.
fn showing(page: &str) -> Project {
    Project::new()
        .with("verify.toml", "output = \"page\"\n")
        .with("a.md", page)
}

/// An example with an output below it that somebody wrote.
fn shown(attributes: &str, code: &str) -> String {
    format!("```python {attributes}\n{code}\n```\n\n```output\nwritten by hand\n```\n")
}

#[test]
fn an_output_below_an_example_that_says_nothing_new_stays() {
    let varies = "import random\nprint(random.random())";
    for (example, status) in [
        (shown("requires=no_such_module", "print(1)"), 0),
        (shown("skip=reason", "print(1)"), 0),
        (shown("norun=reason", "print(1)"), 0),
        (shown("python=<3", "print(1)"), 0),
        (shown("", "1 / 0"), 1),
        (shown("", varies), 1),
        (
            format!("```python\n1 / 0\n```\n\n{}", shown("", "print(1)")),
            1,
        ),
    ] {
        let page = format!("```python id=first session=x\nprint('first')\n```\n\n{example}");
        let project = showing(&page);
        let ran = project.verify("record");
        assert_eq!(ran.status, status, "{}", ran.text());
        assert!(!ran.stdout.contains("removed"), "{}", ran.text());
        let after = page.replacen("```\n\n", "```\n\n```output\nfirst\n```\n\n", 1);
        project.file_is("a.md", &after);
    }
}

#[test]
fn outputs_of_what_was_not_selected_or_not_reached_stay() {
    let page = format!("{}\n{}", shown("id=one", ""), shown("id=two", "print(2)"));
    let project = showing(&page);
    assert_eq!(project.verify("record --example two").status, 0);
    let after = page.replace(
        "print(2)\n```\n\n```output\nwritten by hand",
        "print(2)\n```\n\n```output\n2",
    );
    project.file_is("a.md", &after);

    let project = showing("```python\n1 / 0\n```\n").with("b.md", shown("", ""));
    assert_eq!(project.verify("record --fail-fast --jobs 1").status, 1);
    project.file_is("b.md", shown("", ""));
}

#[test]
fn an_output_of_what_prints_nothing_is_removed_aloud() {
    let words = "\nThis is said to print:\n\n<!-- mine -->\n";
    let mark = "\n<!--pytest-codeblocks:expected-output-->\n```\nwritten by hand\n```\n";
    let second = format!("```python id=two\nx = 2\n```\n{words}{mark}");
    let project = showing(&format!(
        "{}\n{second}\nThe end.\n",
        shown("id=one", "x = 1")
    ));
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
removed the output below a.md:1, which prints nothing
removed the output below a.md:9, which prints nothing
recorded 2 examples: 1 recording and 1 page written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "a.md",
        format!(
            "```python id=one\nx = 1\n```\n\n```python id=two\nx = 2\n```\n{words}\nThe end.\n"
        ),
    );
    project.record_and_settle();
}

#[test]
fn a_nul_is_not_written_into_a_block() {
    for page in [
        "```python\nprint('a\\0b')\n#> old\n```\n",
        "```python\n>>> print('a\\0b')\nold\n```\n",
        "```console\n$ printf 'a\\0b\\n'\nold\n```\n",
    ] {
        let project = Project::book().with("a.md", page);
        let ran = project.verify("record");
        assert_eq!(ran.status, 1, "{}", ran.text());
        let refused = "the block cannot hold what it printed";
        assert!(ran.stdout.contains(refused), "{}", ran.text());
        project.file_is("a.md", page);
    }
}

#[test]
fn a_file_and_an_exit_status_that_vary_are_refused() {
    let makes = "import os\nopen('o.bin', 'wb').write(os.urandom(8))";
    // The first run ends as announced, and no later one.
    let exits = "import os, sys\nsys.exit(3 if os.environ['PYTHONHASHSEED'] == '0' else 4)";
    for (example, reason) in [
        (
            format!("```python artifact=o.bin\n{makes}\n```\n"),
            "the file `o.bin` varies from run to run",
        ),
        (
            format!("```python exits=3\n{exits}\n```\n"),
            "its exit status varies from run to run: 3, then 4",
        ),
    ] {
        let project = Project::book().with("a.md", example);
        let ran = project.verify("record");
        assert_eq!(ran.status, 1, "{}", ran.text());
        assert!(ran.stdout.contains(reason), "{}", ran.text());
        assert!(!project.path("expected").exists());
    }
}

#[test]
fn files_that_are_written_are_counted() {
    let code = "open('o.txt', 'w').write('o\\n')";
    let page = format!("```python artifact=o.txt\n{code}\n```\n");
    let project = Project::book().with("a.md", page);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 1 recording, 0 pages and 1 file written, 0 refused, 0 failed

"#]]);
    project.write("expected/a/o.txt", "another\n");
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 0 recordings, 0 pages and 1 file written, 0 refused, 0 failed

"#]]);
    project.file_is("expected/a/o.txt", "o\n");
}

const TOOK: &str = "import time\nprint('took', time.perf_counter())\n";

/// A page with an example whose recording somebody has given a wildcard.
fn with_wildcard() -> Project {
    let project = Project::book()
        .with("a.md", format!("# Timing\n\n```python\n{TOOK}```\n"))
        .with(
            "expected/a.toml",
            "# verify recording, format 1\nformat = 1\n\n[[example]]\nid = \"timing/1\"\nstdout = '''\ntook [..]\n'''\n",
        );
    project.record_and_settle();
    project
}

#[test]
fn wildcards_move_with_their_example() {
    let project = with_wildcard();
    let page = format!("# Timing\n\n```python\nprint('new')\n```\n\n```python\n{TOOK}```\n");
    project.write("a.md", &page);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
a.md:7 (timing/2) takes over the wildcards of timing/1
recorded 2 examples: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "expected/a.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "timing/1"
stdout = '''
new
'''

[[example]]
id = "timing/2"
stdout = '''
took [..]
'''

"##]],
    );
    project.record_and_settle();

    project.write("a.md", page.replace("Timing", "Clocks"));
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
a.md:7 (clocks/2) takes over the wildcards of timing/2
removed expected/a.toml: timing/1
removed expected/a.toml: timing/2
recorded 2 examples: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    project.record_and_settle();

    fs::rename(project.path("a.md"), project.path("b.md")).unwrap();
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
b.md:7 (clocks/2) takes over the wildcards of clocks/2
removed expected/a.toml
recorded 2 examples: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    project.record_and_settle();
}

#[test]
fn wildcards_that_a_refused_example_may_need_stay() {
    let project = with_wildcard();
    let recording = project.read("expected/a.toml");
    // Said in other words, the old example is not recognised.
    let other = TOOK.replace("took", "it took");
    let new = format!("# Timing\n\n```python\nprint('new')\n```\n\n```python\n{other}```\n");
    project.write("a.md", &new);
    let ran = project.verify("record");
    assert_eq!(ran.status, 1, "{}", ran.text());
    let why = "its recording has wildcards, which may be those of `timing/2`";
    assert!(ran.stdout.contains(why), "{}", ran.text());
    project.file_is("expected/a.toml", &recording);

    project.write("a.md", format!("# Clocks\n\n```python\n{other}```\n"));
    assert_eq!(project.verify("record").status, 1);
    project.file_is("expected/a.toml", &recording);

    fs::rename(project.path("a.md"), project.path("b.md")).unwrap();
    let ran = project.verify("record");
    assert_eq!(ran.status, 1, "{}", ran.text());
    let kept = "kept expected/a.toml, whose wildcards may be those of an example that is not recorded yet\n";
    assert!(ran.stdout.contains(kept), "{}", ran.text());
    project.file_is("expected/a.toml", &recording);
}

#[test]
fn what_nobody_reads_is_recorded_all_the_same() {
    let project = Project::book()
        .with("a.md", "```python\n1 / 0\n```\n")
        .with("b.md", "```python\nprint(1)\n```\n");
    for command in ["record", ""] {
        let (reads, writes) = std::io::pipe().unwrap();
        drop(reads);
        let ran = project.verify_with(command, |program| {
            program.stdout(writes);
        });
        assert_eq!(ran.status, 141, "{}", ran.text());
        assert!(project.path("expected/b.toml").exists());
    }
}

/// Writes what it is told to into the project while it runs, as somebody would with an editor.
fn writes(project: &Project, files: &[(&str, &str)]) -> String {
    let mut code = String::new();
    for (name, text) in files {
        let path = project.path(name);
        let path = path.display();
        code.push_str(&format!("open('{path}', 'w').write({text:?})\n"));
    }
    format!("```python\n{code}print('new')\n```\n")
}

#[test]
fn a_recording_that_is_changed_meanwhile_is_left_alone() {
    let project = Project::book().with("a.md", "```python\nprint('old')\n```\n");
    project.record_and_settle();
    let edited = project.read("expected/a.toml").replace("old", "[..]");
    let page = "```python\nprint('b')\n```\n";
    let other = edited.replace("[..]", "b").replace("a/1", "b/1");
    project.write(
        "a.md",
        writes(
            &project,
            &[
                ("expected/a.toml", &edited),
                ("b.md", page),
                ("expected/b.toml", &other),
            ],
        ),
    );
    let ran = project.verify("record --sandbox=off");
    assert_eq!(ran.status, 1, "{}", ran.text());
    let why = "a.md has a recording that was changed meanwhile and is left alone with it; record it again\n";
    assert!(ran.stdout.contains(why), "{}", ran.text());
    project.file_is("expected/a.toml", &edited);
    project.file_is("expected/b.toml", &other);
}

const OLD: &str = "# One\n\n```python\nprint('a')\n```\n\n```output\nold\n```\n";

#[test]
fn only_unfinished_files_of_our_own_are_removed() {
    let own = ".verify-0123456789abcDEF.unfinished";
    let others = [".verify-notes", ".verify-backup", ".verify-a.unfinished"];
    let project = Project::book().with("a.md", OLD).with(own, "half");
    for other in others {
        project.write(other, "mine\n");
    }
    project.record_and_settle();
    for other in others {
        project.file_is(other, "mine\n");
    }
    assert!(!project.path(own).exists());
}

#[test]
fn files_keep_their_owner_and_new_ones_have_the_umask() {
    let project = showing(OLD);
    let given = chown(project.path("a.md"), Some(1234), Some(1235));
    if let Err(error) = &given {
        skipped(&format!("no file can be given away here: {error}"));
    }
    let owner = |name: &str| {
        let file = fs::metadata(project.path(name)).unwrap();
        (file.uid(), file.gid())
    };
    let before = owner("a.md");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask 027; {VERIFY} record")]);
    project.surround(&mut shell);
    let ran = project.ran(shell.output().unwrap());
    assert_eq!(ran.status, 0, "{}", ran.text());
    assert!(project.read("a.md").contains("\na\n"));
    assert_eq!(owner("a.md"), before);
    let mode = |name: &str| {
        fs::metadata(project.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("expected/a.toml"), 0o640);
    assert_eq!(mode("expected"), 0o750);
}

#[test]
fn what_is_read_only_is_left_alone() {
    for read_only in ["a.md", "expected/a.toml"] {
        let project = showing("```python\nprint('old')\n```\n");
        project.record_and_settle();
        project.write("a.md", project.read("a.md").replace("'old'", "'new'"));
        let permissions = fs::Permissions::from_mode(0o444);
        fs::set_permissions(project.path(read_only), permissions).unwrap();
        let before = project.files();
        let ran = project.verify("record");
        assert_eq!(ran.status, 1, "{}", ran.text());
        let why = "a.md is left alone: it or its recording is read-only; make both writable and record it again\n";
        assert!(ran.stdout.contains(why), "{}", ran.text());
        assert!(before == project.files());
    }
}

#[test]
fn a_link_to_a_recording_that_is_not_there_yet_stays() {
    let project = Project::book().with("a.md", "```python\nprint('a')\n```\n");
    for directory in ["expected", "elsewhere"] {
        fs::create_dir(project.path(directory)).unwrap();
    }
    let link = project.path("expected/a.toml");
    symlink("../elsewhere/a.toml", &link).unwrap();
    project.record_and_settle();
    assert!(link.is_symlink());
    assert!(project.read("elsewhere/a.toml").contains("id = \"a/1\""));

    fs::remove_dir_all(project.path("elsewhere")).unwrap();
    let ran = project.verify("record");
    assert_eq!(ran.status, 2, "{}", ran.text());
    assert!(link.is_symlink());
    assert!(!project.path("elsewhere").exists());
}

#[test]
fn half_of_it_written_is_said() {
    let project = Project::book()
        .with("a.md", "```python\nprint('a')\n```\n")
        .with("b.md", "```python\nprint('b')\n```\n");
    fs::create_dir(project.path("expected")).unwrap();
    let link = project.path("expected/b.toml");
    symlink("../missing/b.toml", &link).unwrap();
    let ran = project.verify("record");
    assert_eq!(ran.status, 2, "{}", ran.text());
    let said = "error: not all is written; what is stays, and recording again completes it: \
        cannot write `[ROOT]/expected/b.toml`; it is as it was: No such file or directory";
    assert!(ran.stderr.starts_with(said), "{}", ran.text());
    fs::remove_file(link).unwrap();
    project.record_and_settle();
}

#[test]
fn what_is_recorded_has_not_failed() {
    let project = Project::book().with("a.md", "```python\nprint('a')\n```\n");
    assert_eq!(project.verify("").status, 1);
    assert_eq!(project.verify("record --failed").status, 0);
    project.verify("record --failed").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example failed in the last run

"#]]);
}

#[test]
fn a_link_to_a_directory_that_is_not_there_is_reported() {
    let project = Project::new()
        .with("verify.toml", "pages = [\"docs\"]\n")
        .with("docs/a.md", "```python\nprint('a')\n```\n")
        .with("disk/b.md", "```python\nprint('b')\n```\n");
    symlink("../disk", project.path("docs/more")).unwrap();
    symlink("nowhere", project.path("docs/picture")).unwrap();
    project.record_and_settle();
    fs::rename(project.path("disk"), project.path("unmounted")).unwrap();
    for command in ["record", ""] {
        let ran = project.verify(command);
        assert_eq!(ran.status, 2, "{}", ran.text());
        let why =
            "docs/more: cannot be read, the system says `No such file or directory (os error 2)`";
        assert!(ran.text().contains(why), "{}", ran.text());
        assert!(project.path("expected/more/b.toml").exists());
    }
}

#[test]
fn recordings_of_a_directory_without_any_page_stay() {
    for pages in [".", "docs"] {
        let project = Project::new()
            .with("verify.toml", format!("pages = [\"{pages}\"]\n"))
            .with("docs/a.md", "```python\nprint('a')\n```\n")
            .with("docs/sub/b.md", "```python\nprint('b')\n```\n")
            .with("docs/sub/deep/c.md", "```python\nprint('c')\n```\n");
        project.record_and_settle();
        let below = if pages == "." { "docs/" } else { "" };
        let recording = |page: &str| format!("expected/{below}{page}.toml");
        let kept = |ran: &Ran| {
            let lines = ran.stdout.lines();
            let kept = lines.filter_map(|line| line.strip_prefix("kept "));
            kept.map(str::to_owned).collect::<Vec<_>>()
        };
        // As git leaves a submodule that is not checked out.
        fs::remove_dir_all(project.path("docs/sub")).unwrap();
        fs::create_dir(project.path("docs/sub")).unwrap();
        let ran = project.verify("record");
        assert_eq!(ran.status, 0, "{}", ran.text());
        let why = "since no page at all is in `docs/sub`, which may still have to be checked out or generated; remove it by hand if its page is gone for good";
        let [b, c] = ["sub/b", "sub/deep/c"].map(&recording);
        assert_eq!(kept(&ran), [format!("{b}, {why}"), format!("{c}, {why}")]);
        assert!(!ran.stdout.contains("removed"), "{}", ran.text());

        fs::remove_file(project.path("docs/a.md")).unwrap();
        let ran = project.verify("record");
        assert_eq!(kept(&ran).len(), 3, "{}", ran.text());
        let why = "since no page at all is in `docs`,";
        assert!(ran.stdout.contains(why), "{}", ran.text());

        // A directory that is gone is no more missing than a page that is.
        fs::remove_dir(project.path("docs/sub")).unwrap();
        project.write("docs/new.md", "No example.\n");
        let ran = project.verify("record");
        assert_eq!(ran.status, 0, "{}", ran.text());
        assert_eq!(kept(&ran), [""; 0]);
        for page in ["a", "sub/b", "sub/deep/c"] {
            assert!(!project.path(&recording(page)).exists(), "{page}");
        }
    }
}

#[test]
fn files_go_with_the_example_that_made_them() {
    let makes = |name: &str| {
        let code = format!(
            "import os\nos.makedirs('out', exist_ok=True)\nopen('{name}', 'w').write('made\\n')"
        );
        format!("```python id={name} artifact={name}\n{code}\n```\n\n")
    };
    let [one, two] = ["out/one.txt", "two.txt"].map(makes);
    let project = Project::book()
        .with("a.md", format!("{one}{two}"))
        .with("sub/b.md", &two);
    project.record_and_settle();
    project.write("expected/a/mine.txt", "mine\n");
    let recorded = |project: &Project| -> Vec<String> {
        let names = project.files().into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with("expected/")).collect()
    };
    project.write("a.md", &two);
    fs::remove_dir_all(project.path("sub")).unwrap();
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
removed expected/sub/b.toml
removed expected/a/out/one.txt
removed expected/sub/b/two.txt
removed expected/a.toml: out/one.txt
recorded 0 examples: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    let left = [
        "expected/a/mine.txt",
        "expected/a/two.txt",
        "expected/a.toml",
    ];
    assert_eq!(recorded(&project), left);
    assert!(!project.path("expected/a/out").exists());
    assert!(!project.path("expected/sub").exists());

    // No recording makes it remove what lies elsewhere.
    project.write("mine.txt", "mine\n");
    project.write("../home/other.txt", "mine\n");
    symlink("../../../home", project.path("expected/a/link")).unwrap();
    let foreign = "artifacts = [\"two.txt\", \"../../mine.txt\", \"link/other.txt\"]";
    let recording = project.read("expected/a.toml");
    let recording = recording.replace("artifacts = [\"two.txt\"]", foreign);
    assert!(recording.contains(foreign));
    project.write("expected/a.toml", recording);
    fs::remove_file(project.path("a.md")).unwrap();
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
removed expected/a.toml
removed expected/a/two.txt
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    for name in ["mine.txt", "../home/other.txt", "expected/a/mine.txt"] {
        project.file_is(name, "mine\n");
    }
}
