//! A run on several machines, and its reports made one.

use std::collections::BTreeSet;
use std::fs;

use snapbox::str;

use crate::project::Project;

/// Three pages; one example of each has another verdict than `verified`.
fn book() -> Project {
    let project = Project::book()
        .with("verify.toml", "session = \"heading\"\n")
        .with(
            "one.md",
            "# One\n\n```python\nprint(1)\n```\n\n## More\n\n```python skip=\"not now\"\n1\n```\n",
        )
        .with("two.md", "# Two\n\n```python\nprint(2)\n```\n\n```python\nimport time\n```\n")
        .with(
            "three.md",
            "# Three\n\n```python\nprint(3)\n```\n\n## Fails\n\n```python raises=KeyError\n{}[1]\n```\n\n## Slow\n\n```python\nimport time; time.sleep(0.3)\n```\n",
        );
    let recorded = project.verify("record");
    assert_eq!(recorded.status, 0, "{}", recorded.text());
    project
}

fn shard(project: &Project, part: usize, of: usize, more: &str) -> i32 {
    let words = format!("--shard {part}/{of} --format json --output {part}.json {more}");
    project.verify(&words).status
}

/// Reports as they are but for times.
fn without_times(text: &str) -> String {
    regex::Regex::new(r#""seconds":[0-9.e-]+|time="[0-9.]+"|in \[TIME\]"#)
        .unwrap()
        .replace_all(text, "TIME")
        .into_owned()
}

#[test]
fn merged_reports_are_those_of_the_whole_run() {
    let project = book();
    let text = project.read("two.md").replace("print(2)", "print(2 / 0)");
    project.write("two.md", text);
    let text = project.read("three.md").replace("print(3)", "print(4)");
    project.write("three.md", text);
    for of in [1, 2, 3, 9] {
        let statuses: BTreeSet<i32> = (1..=of)
            .map(|part| shard(&project, part, of, "--no-cache"))
            .collect();
        assert!(statuses.contains(&1) && statuses.iter().all(|&status| status < 2));
        let files: Vec<String> = (1..=of).rev().map(|part| format!("{part}.json")).collect();
        for format in ["human", "json", "junit", "github"] {
            let whole = project.verify(&format!("--no-cache --format {format}"));
            let merged = project.verify(&format!("merge --format {format} {}", files.join(" ")));
            assert_eq!(merged.status, 1, "{}", merged.text());
            assert_eq!(without_times(&merged.stdout), without_times(&whole.stdout));
        }
    }
}

#[test]
fn a_shard_that_is_missing_is_missed() {
    let project = book();
    for part in 1..=3 {
        assert_eq!(shard(&project, part, 3, ""), 0);
    }
    project.verify("merge 1.json 3.json").is(str![[r#"
exit status 2
--- stderr
error: shard 2/3 on Python [VERSION] is missing: give its report, or run it again

"#]]);
    project
        .verify("merge 1.json 2.json 3.json 2.json")
        .is(str![[r#"
exit status 2
--- stderr
error: `2.json` and `2.json` both are shard 2/3: leave one out

"#]]);
    let report = project.read("2.json");
    let cut = report.len() - report.lines().last().unwrap().len() - 1;
    project.write("2.json", &report[..cut]);
    project.verify("merge 1.json 2.json 3.json").is(str![[r#"
exit status 2
--- stderr
error: `2.json` ends before its run did: run that shard again

"#]]);
}

#[test]
fn shards_of_different_runs_are_not_mixed() {
    let project = book();
    assert_eq!(shard(&project, 1, 2, ""), 0);
    project.write(
        "two.md",
        project.read("two.md").replace("import time", "import sys"),
    );
    assert_eq!(shard(&project, 2, 2, ""), 0);
    let mixed = "error: `1.json` and `2.json` are shards of different runs: all need the same pages, selection and `--durations`\n";
    assert_eq!(project.verify("merge 1.json 2.json").stderr, mixed);
    assert_eq!(shard(&project, 1, 2, "one.md two.md"), 0);
    assert_eq!(project.verify("merge 1.json 2.json").stderr, mixed);
    project.verify("--format json --output whole.json");
    project.verify("merge whole.json").is(str![[r#"
exit status 2
--- stderr
error: `whole.json` is the report of a whole run: only those of shards are merged

"#]]);
    project.verify("merge two.md").is(str![[r#"
exit status 2
--- stderr
error: two.md:1: this is no line of a report of this version: write it by `verify --shard I/N --format json --output FILE`: expected value at line 1 column 1

"#]]);
}

#[test]
fn a_page_that_has_changed_since_its_shard_ran_is_named() {
    let project = book();
    for part in 1..=3 {
        assert_eq!(shard(&project, part, 3, ""), 0);
    }
    let merge = "merge 1.json 2.json 3.json";
    assert_eq!(project.verify(merge).status, 0);
    let page = project.read("two.md");
    for changed in [
        page.replace("# Two\n", "# Two\n\nMore words.\n"),
        page.replace("# Two\n", "# Second\n"),
        page.replace("print(2)", "print(20)"),
    ] {
        project.write("two.md", changed);
        let ran = project.verify(merge);
        assert_eq!(ran.status, 2, "{}", ran.text());
        let why = "error: `two.md` has changed since shard ";
        assert!(ran.stderr.starts_with(why), "{}", ran.text());
    }
    // One shard ran on another revision, the examples of which are the same.
    project.write("two.md", page.replace("# Two\n", "# Two\n\nMore words.\n"));
    for part in 1..=2 {
        assert_eq!(shard(&project, part, 3, ""), 0);
    }
    project.write("two.md", &page);
    assert_eq!(project.verify(merge).status, 2);
    // An older report does not say what the pages were.
    let pages = regex::Regex::new(r#","pages":\[[^]]*\]"#).unwrap();
    for part in 1..=3 {
        let name = format!("{part}.json");
        let report = project.read(&name);
        let older = pages.replace_all(&report, "");
        assert!(older.len() < report.len());
        project.write(&name, older.as_ref());
    }
    assert_eq!(project.verify(merge).status, 0);
}

#[test]
fn durations_make_parts_that_end_together() {
    let project = book();
    for part in 1..=2 {
        shard(&project, part, 2, "--no-cache");
    }
    let merged = project.verify("merge 1.json 2.json --durations times.json");
    assert_eq!(merged.status, 0, "{}", merged.text());
    let times: serde_json::Value = serde_json::from_str(&project.read("times.json")).unwrap();
    let of_page = times["pages"]["three.md"].as_object().unwrap();
    assert!(
        of_page
            .values()
            .all(|seconds| seconds.as_f64().unwrap() > 0.0)
    );
    assert_eq!(of_page.len(), 3);
    // One slow example has a shard for itself; by their numbers there would be three of six in each.
    let times = r#"{"pages": {"three.md": {"slow/1": 9.5, "fails/1": 0.1, "three/1": 0.1}, "one.md": {"one/1": 0.1}, "two.md": {"two/1": 0.1}}}"#;
    project.write("times.json", times);
    let ids = |part: usize| -> Vec<String> {
        assert_eq!(shard(&project, part, 2, "--durations times.json"), 0);
        let report = project.read(&format!("{part}.json"));
        let lines = report.lines().filter(|line| line.contains("\"example\""));
        let id = |line: &str| {
            line.split("\"id\":\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .to_owned()
        };
        lines.map(id).collect()
    };
    assert_eq!(ids(1), ["slow/1"]);
    assert_eq!(ids(2).len(), 6);
    assert_eq!(project.verify("merge 1.json 2.json").status, 0);
    // What machines remember of their own is no part of it.
    fs::remove_dir_all(project.path(".verify")).unwrap();
    assert_eq!(ids(1), ["slow/1"]);
    // A first run has no file yet.
    assert_eq!(shard(&project, 1, 2, "--durations none.json"), 0);
    project.write("times.json", "rubbish");
    project.verify("--shard 1/2 --durations times.json").is(str![[r#"
exit status 2
--- stderr
error: `times.json` holds no durations: write it by `verify merge --durations`: expected value at line 1 column 1

"#]]);
}

#[test]
fn bazel_says_which_shard_it_wants() {
    let project = book();
    let status_file = project.path("status");
    let run = |index: &str| {
        project.verify_with("-v", |command| {
            command
                .env("TEST_TOTAL_SHARDS", "2")
                .env("TEST_SHARD_INDEX", index)
                .env("TEST_SHARD_STATUS_FILE", &status_file);
        })
    };
    let parts = [run("0"), run("1")];
    assert!(status_file.exists());
    for (number, part) in parts.iter().enumerate() {
        let same = project.verify(&format!("-v --shard {}/2 --no-cache", number + 1));
        let verdicts = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| line.starts_with("  "))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(verdicts(&part.stdout), verdicts(&same.stdout));
    }
    assert_eq!(
        run("2").stderr,
        "error: `TEST_SHARD_INDEX` is 2 and `TEST_TOTAL_SHARDS` 2: the index goes from 0 to one less than the total\n"
    );
}

#[test]
fn a_report_that_lost_lines_is_refused() {
    let project = book();
    let text = project.read("two.md").replace("print(2)", "print(2 / 0)");
    project.write("two.md", text);
    let statuses: BTreeSet<i32> = (1..=2).map(|part| shard(&project, part, 2, "")).collect();
    assert!(statuses.contains(&1));
    for part in ["1.json", "2.json"] {
        let whole = project.read(part);
        let lines: Vec<&str> = whole.lines().collect();
        for lost in (0..lines.len()).filter(|&at| lines[at].contains("\"type\":\"example\"")) {
            let mut rest = lines.clone();
            rest.remove(lost);
            project.write(part, rest.join("\n"));
            let merged = project.verify("merge 1.json 2.json");
            let expected = format!(
                "error: `{part}` does not tell of every example that its run counted: give the report as it was written, or run that shard again\n"
            );
            assert_eq!((merged.status, merged.stderr), (2, expected));
        }
        project.write(part, whole);
    }
    assert_eq!(project.verify("merge 1.json 2.json").status, 1);
    let newer = project
        .read("1.json")
        .replace("\"format\":1", "\"format\":2");
    project.write("1.json", newer);
    project.verify("merge 1.json 2.json").is(str![[r#"
exit status 2
--- stderr
error: `1.json` is a report of format 2, and this version of `verify` reads formats up to 1: merge with the version that wrote it

"#]]);
}

#[test]
fn a_shard_without_a_session_has_a_report() {
    let project = Project::new().with("page.md", "# Page\n\n```python\n1\n```\n");
    let summary = project.path("summary.md");
    for (format, end) in [
        ("json", "\"seconds\":"),
        ("junit", "</testsuites>"),
        ("github", "0 results"),
        ("human", "0 verified"),
    ] {
        // As many shards as a number can say.
        let words = format!("--shard 7/99999999999 --format {format} --output report");
        let ran = project.verify_with(&words, |command| {
            command.env("GITHUB_STEP_SUMMARY", &summary);
        });
        assert_eq!(ran.status, 0, "{}", ran.text());
        let said = "nothing to run in shard 7/99999999999: 1 session in all\n";
        assert_eq!(ran.stderr, said);
        let report = if format == "github" {
            "summary.md"
        } else {
            "report"
        };
        let report = project.read(report);
        assert!(report.contains(end), "{report}");
    }
}

#[test]
fn a_report_is_kept_until_there_is_another() {
    let project = Project::new().with("page.md", "# Page\n\n```python\n1\n```\n");
    for format in ["human", "json", "junit", "github"] {
        project.write("report", "good");
        for (words, status) in [
            ("--python 3.99", 2),
            ("record --python 3.99", 2),
            ("-k nothing", 3),
        ] {
            let words = format!("{words} --format {format} --output report");
            assert_eq!(project.verify(&words).status, status);
            assert_eq!(project.read("report"), "good");
        }
    }
}

#[test]
fn what_divides_nothing_is_refused() {
    let project = book();
    let whole = "error: `--durations` divides a run into shards, and this is the whole of it: give `--shard` as well, or leave it out\n";
    for command in ["", "record"] {
        let ran = project.verify(&format!("{command} --durations times.json"));
        assert_eq!((ran.status, &*ran.stderr), (2, whole));
    }
    for command in ["show one/1", "watch"] {
        for words in ["--shard 1/2", "--durations times.json"] {
            let ran = project.verify(&format!("{command} {words}"));
            assert_eq!(ran.status, 2);
            assert!(ran.stderr.contains("unexpected argument"), "{}", ran.stderr);
        }
    }
    let first = project.verify("--shard 1/2 --durations times.json");
    assert_eq!(first.status, 0);
    assert_eq!(
        first.stderr,
        "`times.json` is not there yet: shards have the same number of examples\n"
    );
}
