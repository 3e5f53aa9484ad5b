//! A run on several Pythons: which of them is meant, and what is known of an example that fails on one of them.

use std::fs;

use snapbox::str;

use crate::project::{Project, Ran, make_environment, packages_of};

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
