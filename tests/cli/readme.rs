//! README's tour, taken as a reader takes it: its page, its commands in their order, and what it says they print.

use std::path::Path;
use std::process::Command;

use regex::Regex;

use crate::project::{Project, VERIFY, search_path};

#[test]
fn the_tour_is_what_happens() {
    let readme = include_str!("../../README.md");
    let tour = readme
        .split("## A tour of 60 seconds\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("README has its tour");
    let (page, rest) = tour
        .split_once("````markdown\n")
        .and_then(|(_, rest)| rest.split_once("````\n"))
        .expect("the tour begins with a page");
    let project = Project::new().with("guide.md", page);
    let own = Path::new(VERIFY).parent().unwrap().display();
    let blocks = Regex::new(r"(?s)```(text|toml)\n(.*?)```\n").unwrap();
    let mut commands = 0;
    for block in blocks.captures_iter(rest) {
        let text = &block[2];
        if &block[1] == "toml" {
            assert_eq!(project.read("expected/guide.toml"), text);
            continue;
        }
        let (command, expected) = text
            .strip_prefix("$ ")
            .and_then(|text| text.split_once('\n'))
            .expect("a block is a command and its output");
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        project.surround(&mut shell);
        shell.env("PATH", format!("{own}:{}", search_path()));
        let ran = project.ran(shell.output().unwrap());
        assert_eq!(ran.stdout, told(expected), "`{command}`: {}", ran.text());
        commands += 1;
    }
    assert_eq!(commands, 3);
}

/// README's own machine, as the fixture hides this one.
fn told(text: &str) -> String {
    let text = text
        .replace("3.11.7", "[VERSION]")
        .replace("/usr/bin/python3", "[PYTHON]");
    let timeless = Regex::new(r"in [0-9.]+s\n").unwrap();
    let text = timeless.replace_all(&text, "in [TIME]\n");
    text.replace("; sandboxed: files, network, processes, kernel", "")
}
