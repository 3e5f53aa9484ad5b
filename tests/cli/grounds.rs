//! What all sessions of a run stand on: a result that was made elsewhere, with other things to read, by another key or
//! within other limits is no result here.

use std::fs;
use std::process::Command;

use crate::project::{Project, VERIFY, make_environment, skipped};

const PAGE: &str = "# One\n\n```python\nprint(1 + 1)\n#> 2\n```\n";

/// How many sessions of a run were kept from an earlier one. `None` if it did not get so far.
fn kept(project: &Project, words: &str, prepare: impl FnOnce(&mut Command)) -> Option<u64> {
    let ran = project.verify_with(&format!("--format json {words}"), prepare);
    let line = ran.stdout.lines().last()?;
    let summary: serde_json::Value = serde_json::from_str(line).unwrap();
    summary["sessions_from_cache"].as_u64()
}

/// A page that prints what a file of the project holds.
fn reads(project: &Project, file: &str) -> String {
    let path = project.path(file);
    let path = path.display();
    format!("# One\n\n```python\nprint(open('{path}').read())\n#> 1\n```\n")
}

/// Lets files look as if nobody had touched them for an hour: what was written a moment ago is not kept.
fn age(project: &Project, names: &[&str]) {
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for name in names {
        let file = fs::File::open(project.path(name)).unwrap();
        file.set_modified(hour_ago).unwrap();
    }
}

#[test]
fn what_examples_may_read_counts() {
    type Change = fn(&Project);
    let cases: [(&str, &str, Change); 4] = [
        (
            "a directory of pages",
            "pages = [\"book\", \"other\"]\n",
            |project| {
                project.write("verify.toml", "pages = [\"book\"]\n");
            },
        ),
        ("where recordings are", "pages = [\".\"]\n", |project| {
            project.write("verify.toml", "pages = [\".\"]\nexpected = \"other\"\n");
        }),
        (
            "what is readable besides",
            "pages = [\"book\"]\nreadable = [\"other\"]\n",
            |project| project.write("verify.toml", "pages = [\"book\"]\n"),
        ),
        (
            "something readable that is gone",
            "pages = [\"book\", \"other\"]\nreadable = [\"more\"]\n",
            |project| fs::remove_dir_all(project.path("more")).unwrap(),
        ),
    ];
    for (what, settings, change) in cases {
        let project = Project::book()
            .with("verify.toml", settings)
            .with("other/data.txt", "1")
            .with("more/data.txt", "1");
        project.write("book/page.md", reads(&project, "other/data.txt"));
        age(&project, &["other/data.txt"]);
        assert_eq!(kept(&project, "", |_| {}), Some(0), "{what}");
        assert_eq!(kept(&project, "", |_| {}), Some(1), "{what}");
        change(&project);
        assert!(
            !project.verify("").stdout.contains("from the cache"),
            "{what}"
        );
    }
}

#[test]
fn a_home_among_the_pages_counts() {
    let project = Project::book()
        .with("verify.toml", "pages = [\"book\"]\n")
        .with("book/home/file", "");
    project.write("book/page.md", PAGE);
    let at_home = |home: &str| {
        let home = project.path(home);
        kept(&project, "", |command| {
            command.env("HOME", home);
        })
    };
    assert_eq!(at_home("nowhere"), Some(0));
    assert_eq!(at_home("elsewhere"), Some(1));
    assert_eq!(at_home("book/home"), Some(0));
}

#[test]
fn the_same_words_mean_another_place_from_elsewhere() {
    let project = Project::book()
        .with("verify.toml", "pages = [\"book\"]\n")
        .with("one/data/file", "1")
        .with("two/data/file", "1")
        .with("book/page.md", PAGE);
    let words = format!("--readable data {}", project.root().display());
    let from = |directory: &str, words: &str| {
        let directory = project.path(directory);
        kept(&project, words, |command| {
            command.current_dir(directory);
        })
    };
    assert_eq!(from("one", &words), Some(0));
    assert_eq!(from("one", &words), Some(1));
    assert_eq!(from("two", &words), Some(0));
    let words = words.replace("data", "one/data");
    assert_eq!(from("", &words), Some(1), "by another name");
}

#[test]
fn a_project_that_moved_takes_along_what_names_no_place_in_it() {
    let project = Project::book()
        .with("verify.toml", "pages = [\"book\"]\nsession = \"heading\"\n")
        .with("book/data.txt", "1");
    let page = reads(&project, "book/data.txt") + "\n## Two\n\n```python\nprint(2)\n#> 2\n```\n";
    project.write("book/page.md", page);
    age(&project, &["book/data.txt"]);
    assert_eq!(kept(&project, "", |_| {}), Some(0));
    assert_eq!(kept(&project, "", |_| {}), Some(2));
    let moved = project.root().with_file_name("moved");
    let is_copied = Command::new("cp")
        .arg("-a")
        .args([project.root(), &moved])
        .status();
    assert!(is_copied.unwrap().success());
    let there = |command: &mut Command| {
        command.current_dir(&moved);
    };
    let text = project.verify_with("", there).stdout;
    assert!(!text.contains("2 of 2 sessions from the cache"), "{text}");
    fs::rename(project.root(), project.root().with_file_name("former")).unwrap();
    assert_eq!(kept(&project, "", there), Some(1));
    let ran = project.verify_with("--explain one/1", there);
    assert_eq!(ran.status, 1, "{}", ran.text());
}

#[test]
fn a_module_that_appears_in_a_directory_of_a_path_file_counts() {
    let project = Project::book()
        .with("verify.toml", "pages = [\"book\"]\nsession = \"heading\"\n")
        .with("own/other.py", "")
        .with("own/package/__init__.py", "");
    let needs = |name: &str| format!("```python requires=\"{name}\"\nprint(2)\n#> 2\n```\n");
    let page = format!(
        "# Needs\n\n## One\n\n{}\n## Two\n\n{}",
        needs("late"),
        needs("package.late")
    );
    project.write("book/page.md", page);
    let packages = make_environment(&project.path(".venv"));
    let own = project.path("own");
    fs::write(packages.join("own.pth"), own.display().to_string()).unwrap();
    let skipped = |expected: u64| {
        let ran = project.verify("--format json");
        let line = ran.stdout.lines().last().unwrap_or_default();
        let summary: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(summary["counts"]["skipped"], expected, "{summary}");
        // The shortest way, which reads no page, comes to the same.
        let text = project.verify("").stdout;
        assert!(text.contains(&format!("{expected} skipped")), "{text}");
        summary["sessions_from_cache"].as_u64()
    };
    assert_eq!(skipped(2), Some(0));
    assert_eq!(skipped(2), Some(2));
    project.write("own/unrelated.py", "");
    assert_eq!(skipped(2), Some(2));
    project.write("own/late.py", "");
    assert_eq!(skipped(1), Some(1));
    project.write("own/package/late.py", "");
    skipped(0);
    assert_eq!(skipped(0), Some(2));
    fs::remove_file(project.path("own/late.py")).unwrap();
    skipped(1);
}

#[test]
fn what_sessions_inherit_counts() {
    let project = Project::book().with("page.md", PAGE);
    let kept_by = |before: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{before} \"$VERIFY\" --format json")]);
        project.surround(&mut shell);
        let ran = project.ran(shell.env("VERIFY", VERIFY).output().unwrap());
        let line = ran.stdout.lines().last().unwrap_or_default();
        let summary: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", ran.text()));
        summary["sessions_from_cache"].as_u64()
    };
    assert_eq!(kept_by(""), Some(0));
    assert_eq!(kept_by(""), Some(1));
    for before in [
        "ulimit -S -s 4096;",
        "ulimit -S -d 4000000;",
        "ulimit -n 512;",
        "nice -n 3",
    ] {
        assert_eq!(kept_by(before), Some(0), "{before}");
        assert_eq!(kept_by(before), Some(1), "{before}");
    }
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        return skipped("there is one processor");
    }
    let one = "taskset -c $(taskset -c -p $$ | grep -o '[0-9]*$')";
    assert_eq!(kept_by(one), Some(0));
    assert_eq!(kept_by(one), Some(1));
}

#[test]
fn each_key_keeps_its_own() {
    let project = Project::book().with("page.md", PAGE);
    let by = |key: Option<&str>| {
        kept(&project, "", |command| {
            if let Some(key) = key {
                command.env("VERIFY_CACHE_KEY", key);
            }
        })
    };
    let keys = [Some("ours"), Some("theirs"), None];
    for key in keys {
        assert_eq!(by(key), Some(0), "{key:?}");
    }
    for key in keys {
        assert_eq!(by(key), Some(1), "{key:?}");
    }
    // Nothing is told of what another key has sealed.
    let text = project
        .verify_with("--explain one/1", |command| {
            command.env("VERIFY_CACHE_KEY", "new");
        })
        .stdout;
    assert!(text.contains("it has not run here before"), "{text}");
}
