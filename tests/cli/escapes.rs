//! What a stranger wrote reaches neither a terminal nor a log as it is: names, attributes, configuration, reports.

use std::path::Path;
use std::process::Command;

use crate::project::{Project, Ran, VERIFY};

/// It clears the screen, sets the clipboard, turns the direction of writing, goes back in the line, is red, cannot be
/// seen, and has a line of its own.
const NASTY: &str = "\u{1b}[2J\u{1b}]52;c;eA==\u{7}\u{202e}\u{2066}\u{9b}2J\r\u{8}\u{1b}[31m\u{3164}\u{e0041}\nFORGED";

/// The same where a newline would end what it stands in.
fn nasty_line() -> String {
    NASTY.replace(['\n', '\r'], "")
}

/// As TOML and JSON both write it in a string.
fn nasty_literal() -> String {
    NASTY
        .chars()
        .map(|c| match c {
            '\u{e0041}' => c.to_string(),
            c if c.is_ascii_graphic() => c.to_string(),
            c => format!("\\u{:04x}", u32::from(c)),
        })
        .collect()
}

/// Whether a person can see all of it, and no line of it is one that nobody but a stranger wrote.
#[track_caller]
fn is_legible(ran: &Ran) {
    let text = ran.text();
    let obeyed = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{3164}' | '\u{e0041}')
    };
    assert!(!text.contains(obeyed), "{text:?}");
    assert!(!text.contains("\nFORGED"), "{text}");
    assert!(
        !text
            .lines()
            .any(|line| line.trim_start().starts_with("::error::")),
        "{text}"
    );
}

/// Pages and recordings with such names and words.
fn hostile() -> Project {
    let line = nasty_line();
    let literal = nasty_literal();
    let directory = format!("d{NASTY}");
    Project::book()
        .with(
            &format!("{directory}/a{NASTY}.md"),
            format!(
                "# One\n\n```python\nprint(1)\n```\n\n```python id=fails session=other\n1 / 0\n```\n\n\
                 ```python session=other\n2\n```\n\n```python skip=\"{line}\"\n3\n```\n\n\
                 ```python norun=\"{line}\"\n4\n```\n\n```python session=exits\nraise SystemExit(3)\n```\n"
            ),
        )
        .with(&format!("expected/gone{NASTY}.toml"), "")
        .with(
            &format!("expected/{directory}/a{NASTY}.toml"),
            format!("format = 1\n\n[[example]]\nid = \"gone{literal}\"\nstdout = \"1\\n\"\n"),
        )
}

#[test]
fn whatever_is_asked_of_hostile_pages() {
    let project = hostile();
    for words in [
        "",
        "list",
        "--verbose",
        "--verbose --format github",
        "--explain one/1",
        "show one/1",
        "show fails",
        "--shake 2",
        "--probe-skips",
        "record --example fails",
        "record",
        "record --verbose",
        "clean",
    ] {
        let ran = project.verify(words);
        assert!(ran.status < 2, "{words}: {}", ran.text());
        is_legible(&ran);
    }
}

#[test]
fn what_is_wrong_with_hostile_pages() {
    let line = nasty_line();
    let project = Project::book()
        .with(
            &format!("a{NASTY}.md"),
            format!(
                "```python id=\"{line}\"\n1\n```\n\n```python {line}=1\n1\n```\n\n\
                 ```python timeout=\"{line}\"\n1\n```\n\n```python after=\"{line}\"\n1\n```\n\n\
                 ```python requires=\"{line}\"\n1\n```\n"
            ),
        )
        .with("b.md", "```python\n1\n```\n")
        .with("expected/b.toml", format!("\"{}\" = 1\n", nasty_literal()));
    for words in ["", "list", "record", "show b/1", "--format github"] {
        let ran = project.verify(words);
        assert_eq!(ran.status, 2, "{words}: {}", ran.text());
        is_legible(&ran);
    }
}

#[test]
fn what_is_wrong_with_a_hostile_configuration() {
    let literal = nasty_literal();
    let project = Project::new().with("page.md", "```python\n1\n```\n");
    for text in [
        format!("\"{literal}\" = 1"),
        format!("pages = [\"{literal}\"]"),
        format!("requirements = \"{literal}\""),
        format!("timeout = \"{literal}\""),
        format!("sandbox = \"{literal}\""),
        format!("preload = [\"{literal}\"]"),
        format!("python = [\"{literal}\"]"),
        format!("environment = {{ \"={literal}\" = \"\" }}"),
        format!("pages = [\"x\\n::error::{literal}\"]"),
    ] {
        project.write("verify.toml", &text);
        for words in ["", "record", "doctor"] {
            let ran = project.verify_with(words, |command| {
                command.env("GITHUB_ACTIONS", "true");
            });
            is_legible(&ran);
        }
        assert_eq!(project.verify("").status, 2, "{text}");
    }
}

#[test]
fn words_of_a_command_that_a_shell_found_as_names_of_files() {
    let project = Project::new().with("page.md", "```python\n1\n```\n");
    let option = format!("--{NASTY}");
    let value = format!("--format={NASTY}");
    for words in [
        &[NASTY][..],
        &[&option],
        &[&value],
        &["show", NASTY],
        &["merge", NASTY],
        &["init", NASTY],
        &["list", "--example", NASTY],
        &["list", "--changed", NASTY],
        &["--python", NASTY],
    ] {
        let ran = project.verify_with("", |command| {
            command.args(words);
        });
        assert!(ran.status > 1, "{}", ran.text());
        is_legible(&ran);
    }
}

#[test]
fn reports_of_other_machines() {
    let project = Project::new().with(
        "page.md",
        "```python skip=\"waits\"\n1\n```\n\n```python\n1 / 0\n```\n",
    );
    let part = project.verify("--format json --shard 1/1").stdout;
    let literal = nasty_literal();
    for told in [
        part.replace("\"waits\"", &format!("\"{literal}\"")),
        part.replace(
            "\"orphans\":[]",
            &format!("\"orphans\":[{{\"file\":\"{literal}\",\"id\":\"{literal}\"}}]"),
        ),
        part.replace("\"page.md\"", &format!("\"{literal}\"")),
        part.replace("ZeroDivisionError", &literal),
    ] {
        assert_ne!(told, part);
        project.write("part.json", &told);
        for words in [
            "merge part.json",
            "merge -v part.json",
            "merge --format github part.json",
        ] {
            is_legible(&project.verify(words));
        }
    }
}

#[test]
fn colours_are_ours_and_nobody_elses() {
    let project = Project::new().with(
        "page.md",
        "```python skip=\"\u{1b}[31mred\"\n1\n```\n\n```python\n1 / 0\n```\n\n```python session=two\n2\n```\n",
    );
    for words in [
        "--verbose",
        "--verbose --sandbox off",
        "--format github",
        "show page/2",
    ] {
        let ran = project.verify(&format!("{words} --color always"));
        assert!(ran.stdout.contains("\u{1b}[1m"), "{}", ran.text());
        assert!(!ran.stdout.contains("\u{1b}[31mred"), "{}", ran.text());
        let escaped = ran.stdout.replace("\\u{1b}[31mred", "");
        assert!(!escaped.contains("\\u{1b}"), "{}", ran.text());
    }
    let listed = project.verify("list");
    assert!(
        listed.stdout.contains("skipped: \\u{1b}[31mred\n"),
        "{}",
        listed.text()
    );
}

#[test]
fn programs_are_told_the_truth() {
    let project = hostile();
    let name = format!("d{NASTY}/a{NASTY}.md");
    for words in ["list --format json", "--format json"] {
        let ran = project.verify(words);
        let mut lines = ran.stdout.lines();
        let is_true = lines.any(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["page"] == name.as_str()
        });
        assert!(is_true, "{}", ran.text());
    }
}

#[test]
fn what_runs_a_hostile_page_again_can_be_typed() {
    if !Path::new("/bin/bash").exists() {
        return;
    }
    let project = Project::new().with(
        &format!("it's \\{NASTY}.md"),
        "# One\n\n```python\n1 / 0\n```\n",
    );
    let ran = project.verify("");
    is_legible(&ran);
    let again = ran
        .stdout
        .lines()
        .find_map(|line| line.trim().strip_prefix("again: verify"));
    let mut shell = Command::new("/bin/bash");
    shell.arg("-c").arg(format!("{VERIFY} {}", again.unwrap()));
    project.surround(&mut shell);
    let again = project.ran(shell.output().unwrap());
    assert_eq!(again.status, 1, "{}", again.text());
}
