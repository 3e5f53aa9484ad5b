//! Holds `verify::doctest` to the standard library's `doctest`, run by the `python3` on `PATH`.
//!
//! The corpus is transcripts of every kind, many of them wrong on purpose: what is asserted is not that
//! they pass, but that both sides read the same statements and come to the same verdict about the same
//! result. Generated transcripts and comparisons then go where no author of a corpus thinks of going.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as the test itself does"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use verify::doctest::{Flags, Got, Options, Statement, judge, matches, parse};

#[test]
fn same_statements_and_verdicts() {
    let paths = corpus("");
    assert!(paths.len() >= 12, "{paths:?}");
    let records = oracle("transcripts", &paths);
    let (mut passed, mut failed) = (0, 0);
    for path in &paths {
        let expected: Vec<&Value> = records
            .iter()
            .filter(|record| record["file"] == **path)
            .collect();
        assert!(
            (5..=20).contains(&expected.len()),
            "{path}: {}",
            expected.len()
        );
        let text = fs::read_to_string(path).unwrap();
        let (statements, problems) = parse(&text);
        assert_eq!(problems, [], "{path}");
        assert_eq!(statements.len(), expected.len(), "{path}");
        for (statement, expected) in statements.iter().zip(expected) {
            assert_same_statement(statement, expected, path);
            assert_want_lines(statement, &text, path);
            let Some(verdict) = verdict(expected) else {
                continue;
            };
            let got = match expected["exception"].as_str() {
                Some(message) => Got::Raised {
                    stdout: expected["stdout"].as_str().unwrap(),
                    message,
                },
                None => Got::Output(expected["got"].as_str().unwrap_or("not run\n")),
            };
            let ours = judge(statement, &got, flags(&expected["flags"]));
            assert_eq!(ours, verdict, "{path}:{}: {got:?}", statement.line);
            *(if verdict { &mut passed } else { &mut failed }) += 1;
        }
    }
    // A corpus that only passes, or an oracle that only fails, would prove nothing.
    assert!(
        passed > 100 && failed > 40,
        "{passed} passed, {failed} failed"
    );
}

#[test]
fn same_refusals() {
    let paths = corpus("refused");
    for record in oracle("refused", &paths) {
        let path = record["file"].as_str().unwrap();
        let (_, problems) = parse(&fs::read_to_string(path).unwrap());
        let line = problems.first().map(|problem| problem.line as u64);
        assert_eq!(line, record["line"].as_u64(), "{path}: {problems:?}");
        assert!(line.is_some(), "{path}");
    }
}

#[test]
fn same_on_generated_input() {
    let arguments = ["20250".to_owned(), "4000".to_owned()];
    let (mut read, mut matched) = (0, 0);
    for record in oracle("random", &arguments) {
        if let Some(want) = record["want"].as_str() {
            let got = record["got"].as_str().unwrap();
            let ours = matches(want, got, flags(&record["flags"]));
            assert_eq!(Some(ours), record["verdict"].as_bool(), "{record}");
            matched += usize::from(ours && want != got);
            continue;
        }
        let block = record["block"].as_str().unwrap();
        let (statements, problems) = parse(block);
        if record.get("refused").is_some() {
            // Which of several mistakes it names first is for `doctest` to choose.
            assert!(!problems.is_empty(), "{block:?}");
            continue;
        }
        assert_eq!(problems, [], "{block:?}");
        let expected = record["statements"].as_array().unwrap();
        assert_eq!(statements.len(), expected.len(), "{block:?}");
        for (statement, expected) in statements.iter().zip(expected) {
            assert_same_statement(statement, expected, block);
            read += 1;
        }
    }
    assert!(
        read > 500 && matched > 200,
        "{read} read, {matched} matched"
    );
}

fn assert_same_statement(statement: &Statement, expected: &Value, context: &str) {
    let context = format!("{context:?} line {}", expected["line"]);
    assert_eq!(
        Some(&*statement.source),
        expected["source"].as_str(),
        "{context}"
    );
    assert_eq!(
        Some(&*statement.want),
        expected["want"].as_str(),
        "{context}"
    );
    assert_eq!(
        statement.exception_message.as_deref(),
        expected["exc_msg"].as_str(),
        "{context}"
    );
    assert_eq!(
        Some(statement.line as u64),
        expected["line"].as_u64(),
        "{context}"
    );
    assert_eq!(
        Some(statement.indent as u64),
        expected["indent"].as_u64(),
        "{context}"
    );
    assert_eq!(
        statement.options,
        options(&expected["options"]),
        "{context}"
    );
}

/// The standard library does not say where a want stands, so the page itself has to agree.
fn assert_want_lines(statement: &Statement, text: &str, path: &str) {
    let lines: Vec<&str> = text.split('\n').collect();
    let want: Vec<&str> = statement.want.split_terminator('\n').collect();
    let range = &statement.want_lines;
    assert_eq!(want.len(), range.len(), "{path}:{}", statement.line);
    for (number, want) in range.clone().zip(want) {
        let unindented = |line: &str| line.replace(['\t', ' '], "");
        assert_eq!(
            unindented(lines[number - 1]),
            unindented(want),
            "{path}:{number}"
        );
    }
}

/// `None` for statements that `FAIL_FAST` kept from running; skipped ones are a success by definition.
fn verdict(record: &Value) -> Option<bool> {
    let holding = options(&record["options"]).apply(flags(&record["flags"]));
    let skipped = holding.contains(Flags::SKIP).then_some(true);
    record["verdict"].as_bool().or(skipped)
}

fn flags(names: &Value) -> Flags {
    names
        .as_array()
        .unwrap()
        .iter()
        .map(|name| Flags::parse(name.as_str().unwrap()).unwrap())
        .fold(Flags::default(), |all, flag| all | flag)
}

fn options(deltas: &Value) -> Options {
    let mut options = Options::default();
    for (name, on) in deltas.as_object().unwrap() {
        let set = if on == true {
            &mut options.on
        } else {
            &mut options.off
        };
        *set = *set | Flags::parse(name).unwrap();
    }
    options
}

fn oracle(mode: &str, arguments: &[String]) -> Vec<Value> {
    let output = Command::new("python3")
        .args(["-I", "-X", "utf8", "-W", "ignore"])
        .arg(corpus_directory().join("oracle.py"))
        .arg(mode)
        .args(arguments)
        .output()
        .expect("the agreement with doctest needs a `python3` on PATH");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn corpus(folder: &str) -> Vec<String> {
    let mut paths: Vec<String> = fs::read_dir(corpus_directory().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    paths.sort();
    paths
}

fn corpus_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/doctest_corpus")
}
