//! A run on several Pythons: which of them is meant, what is known of an example that fails on one of them, and what is
//! recorded where they differ.

use std::fs;

use snapbox::str;
use verify::interpreter::Interpreter;

use crate::project::{OTHER_PYTHON, PYTHON, Project, Ran, make_environment, minor, packages_of};

/// A page whose one example fails in the environment `va` and passes in `vb`, which are of one version.
fn environments() -> Project {
    let project = Project::new().with(
        "page.md",
        "# Page\n\n```python\nimport place\n\nassert place.NAME == \"vb\"\n```\n\n```python fresh\n2\n```\n",
    );
    for name in ["va", "vb"] {
        let packages = make_environment(&project.path(name));
        let module = format!("NAME = \"{name}\"\n");
        fs::write(packages.join("place.py"), module).unwrap();
    }
    project
}

fn lines_with<'t>(ran: &'t Ran, word: &str) -> Vec<&'t str> {
    let lines = ran.stdout.lines();
    lines.filter(|line| line.contains(word)).collect()
}

#[test]
fn environments_of_one_version_are_told_apart() {
    let project = environments();
    let both = "--no-cache --python va --python vb";
    assert_eq!(
        lines_with(&project.verify(both), "again:"),
        ["  again: verify page.md --example page/1 --python va"]
    );
    let junit = project.verify(&format!("{both} --format junit"));
    let suites = lines_with(&junit, "<testsuite ");
    let name = |suite: &str| suite.split('"').nth(1).unwrap().to_owned();
    let names: Vec<String> = suites.into_iter().map(name).collect();
    assert_eq!(
        names,
        [
            "page.md (Python [ROOT]/va/bin/python)",
            "page.md (Python [ROOT]/vb/bin/python)"
        ]
    );
    let github = project.verify(&format!("{both} --format github"));
    let titles = lines_with(
        &github,
        "title=page/1 failed on Python [ROOT]/va/bin/python",
    );
    assert_eq!(titles.len(), 1, "{}", github.stdout);
}

#[test]
fn shards_on_environments_of_one_version_are_merged() {
    let project = environments();
    for part in 1..=2 {
        project.verify(&format!(
            "--python va --python vb --shard {part}/2 --format json --output {part}.json"
        ));
    }
    for format in ["human", "junit", "github"] {
        let again = |ran: &Ran| ran.stdout.matches("--python va").count();
        let whole = project.verify(&format!(
            "--no-cache --python va --python vb --format {format}"
        ));
        let merged = project.verify(&format!("merge 1.json 2.json --format {format}"));
        assert_eq!(merged.status, 1, "{}", merged.text());
        assert!(again(&whole) > 0, "{}", whole.text());
        assert_eq!(again(&merged), again(&whole), "{}", merged.text());
    }
    let second = project.read("2.json");
    let of_one: Vec<&str> = second.lines().collect();
    project.write("2.json", of_one[..of_one.len() / 2].join("\n"));
    project.verify("merge 1.json 2.json").is(str![[r#"
exit status 2
--- stderr
error: shard 2/2 on `vb` is missing: give its report, or run it again

"#]]);
}

#[test]
fn what_somebody_asked_for_is_how_to_run_it_again() {
    let project = environments();
    for format in ["human", "junit", "github"] {
        let ran = project.verify(&format!("--python va --format {format}"));
        assert!(
            ran.stdout.contains("--example page/1 --python va"),
            "{}",
            ran.text()
        );
    }
}

#[test]
fn what_failed_on_one_python_has_failed() {
    let project = environments();
    let failed = |words: &str| project.verify(&format!("--failed {words}")).status;
    assert_eq!(project.verify("--python va --python vb").status, 1);
    assert_eq!(failed("--python va"), 1);
    // It passes on all Pythons of this run.
    assert_eq!(failed("--python vb"), 0);
    assert_eq!(failed("--python va"), 3);
    assert_eq!(project.verify("--python vb --python va").status, 1);
    // It passes on the first, and the second does not come to it.
    let at_start = packages_of(&project.path("va")).join("sitecustomize.py");
    fs::write(&at_start, "import os; os._exit(3)\n").unwrap();
    assert_eq!(failed("--python vb --python va"), 2);
    fs::remove_file(at_start).unwrap();
    assert_eq!(failed("--python va"), 1);
}

#[test]
fn a_python_that_is_left_out_after_a_failure_is_named() {
    let project = environments();
    let ran = project.verify("--quiet --fail-fast --jobs 1 --python va --python vb page.md");
    assert_eq!(ran.status, 1);
    let ends: Vec<&str> = ran.stdout.lines().rev().take(2).collect();
    assert!(
        ends.iter().all(|line| line.contains("; stopped early in")),
        "{}",
        ran.stdout
    );
    for part in 1..=2 {
        project.verify(&format!(
            "--fail-fast --python va --python vb --shard {part}/2 --format json --output {part}.json"
        ));
    }
    let merged = project.verify("merge 1.json 2.json");
    assert_eq!(merged.status, 1, "{}", merged.text());
    assert_eq!(lines_with(&merged, "stopped early").len(), 1);
}

#[test]
fn what_differs_is_recorded_in_whatever_order_the_pythons_are_named() {
    let Some(other) = &*OTHER_PYTHON else {
        return;
    };
    let on = |python: &Interpreter| format!("--python {}", python.executable.display());
    let (base, other_one) = (on(&PYTHON), on(other));
    let recorded = |settings: &str, order: &str| {
        let project = Project::new().with("verify.toml", settings).with(
            "page.md",
            "# Page\n\n```python\nimport sys\nprint(sys.version_info[:2])\n```\n",
        );
        let ran = project.verify(&format!("record {order}"));
        assert_eq!(ran.status, 0, "{}", ran.text());
        for python in [&base, &other_one] {
            let ran = project.verify(python);
            assert_eq!(ran.status, 0, "{}", ran.text());
        }
        let files = project.files();
        let ran = project.verify(&format!("record {order}"));
        assert_eq!(ran.status, 0, "{}", ran.text());
        assert!(files == project.files(), "a second recording changed files");
        project.read("expected/page.toml")
    };
    let (one, two) = (format!("{base} {other_one}"), format!("{other_one} {base}"));
    // Where no version is configured, the first one is the base.
    let of_other = format!("[example.python.\"{}\"]", minor(other));
    let of_base = format!("[example.python.\"{}\"]", minor(&PYTHON));
    assert!(recorded("", &one).contains(&of_other));
    assert!(recorded("", &two).contains(&of_base));
    let settings = format!("python = [\"{}\"]\n", minor(&PYTHON));
    assert_eq!(recorded(&settings, &one), recorded(&settings, &two));
    assert!(recorded(&settings, &two).contains(&of_other));
}

#[test]
fn what_two_pythons_of_one_version_do_otherwise_is_refused() {
    let project = environments();
    project.write("verify.toml", "");
    project.write(
        "page.md",
        "# Page\n\n```python\nimport place\n\nprint(place.NAME)\n```\n\n```python artifact=out.txt\nopen('out.txt', 'w').write(place.NAME)\n```\n",
    );
    project
        .verify("record --python va --python vb")
        .is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([ROOT]/va/bin/python, by `--python`): 2 examples on 1 page
Python [VERSION] ([ROOT]/vb/bin/python, by `--python`): 2 examples on 1 page
refused: page.md:3 (page/1)
  it does something else on `[ROOT]/vb/bin/python` than on a Python [VERSION] before, which has the same recording: make it the same, or record with one of them

refused: page.md:9 (page/2)
  its file `out.txt` is another on `[ROOT]/vb/bin/python` than on a Python [VERSION] before, which has the same recording: make it the same, or record with one of them

recorded 2 examples: 1 recording, 0 pages and 1 file written, 2 refused, 0 failed

"#]]);
    project.verify("--python va").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([ROOT]/va/bin/python, by `--python`): 2 examples on 1 page
✓ page.md  2 verified
2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_python_that_is_named_twice_runs_once() {
    let project = environments();
    project.write("page.md", "# Page\n\n```python\n1\n```\n");
    std::os::unix::fs::symlink("va", project.path("link")).unwrap();
    let names = "--python va --python va/bin/python3 --python link --python va";
    // The second time everything is known.
    for words in ["--no-cache", "", ""] {
        let ran = project.verify(&format!("{words} {names}"));
        assert_eq!(lines_with(&ran, "1 ran,").len(), 1, "{}", ran.text());
    }
    let junit = project.verify(&format!("--format junit {names}"));
    assert_eq!(lines_with(&junit, "<testsuite ").len(), 1);
    let shown = project.verify(&format!("show page/1 {names}"));
    assert_eq!(lines_with(&shown, "page/1").len(), 1, "{}", shown.text());
    // An environment is another than the Python that it was made from.
    let base = PYTHON.executable.display();
    let both = project.verify(&format!("--python va --python vb --python {base}"));
    assert_eq!(lines_with(&both, "1 ran,").len(), 3, "{}", both.text());
}
