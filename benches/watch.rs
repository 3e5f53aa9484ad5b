//! From save to result: how long an author waits in `verify watch`, for pages of different lengths.
//!
//! `cargo bench --bench watch` saves a page again and again with one example changed, and waits each time until
//! `verify watch` shows what that example prints, and then for the summary. Beside it, in turn, the same page is checked
//! by `verify` from the start, and Python is started for nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is for reading"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

const VERIFY: &str = env!("CARGO_BIN_EXE_verify");

const ROUNDS: usize = 21;

fn main() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "medians of {ROUNDS} saves; load average before: {}",
        load.trim()
    );
    println!(
        "| examples | edited | save to result | to summary | `verify` from the start | `python3 -c pass` |"
    );
    println!("|--:|---|--:|--:|--:|--:|");
    for examples in [10, 50, 250, 1000] {
        for (what, edited) in [
            ("first", 0),
            ("middle", examples / 2),
            ("last", examples - 1),
        ] {
            measure(examples, what, edited);
        }
    }
}

fn measure(examples: usize, what: &str, edited: usize) {
    let book = tempfile::tempdir().unwrap();
    let save = |word: &str| fs::write(book.path().join("page.md"), page(examples, edited, word));
    save("first").unwrap();
    let mut watch = Watch::start(book.path());
    // The first save of a session runs it whole, and keeps copies.
    save("second").unwrap();
    watch.wait_for_summary();
    let (mut results, mut summaries) = (Vec::new(), Vec::new());
    let (mut starts, mut pythons) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let word = format!("round {round}");
        save(&word).unwrap();
        watch.wait_for(&format!(" {word}"));
        results.push(begun.elapsed());
        watch.wait_for_summary();
        summaries.push(begun.elapsed());
        starts.push(time(Command::new(VERIFY).arg("page.md"), book.path()));
        pythons.push(time(
            Command::new("python3").args(["-c", "pass"]),
            book.path(),
        ));
    }
    let [results, summaries, starts, pythons] =
        [results, summaries, starts, pythons].map(|times| median(times).as_secs_f64() * 1000.0);
    println!(
        "| {examples} | {what} | {results:.1} ms | {summaries:.1} ms | {starts:.0} ms | {pythons:.0} ms |"
    );
}

fn page(examples: usize, edited: usize, word: &str) -> String {
    let mut page = String::new();
    for number in 0..examples {
        let word = if number == edited { word } else { "" };
        let block = format!("x{number} = {number}\nprint(x{number}, '{word}')");
        write!(page, "Text.\n\n```python\n{block}\n```\n\n").unwrap();
    }
    page
}

struct Watch {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Watch {
    /// Starts one and waits until it has run everything once.
    fn start(book: &Path) -> Watch {
        let mut process = Command::new(VERIFY)
            .arg("watch")
            .current_dir(book)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut watch = Watch { process, output };
        watch.wait_for_summary();
        watch
    }

    fn wait_for_summary(&mut self) {
        self.wait_for(" illustrative in ");
    }

    fn wait_for(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.process), Signal::INT);
        let _ = self.process.wait();
    }
}

fn time(command: &mut Command, directory: &Path) -> Duration {
    let begun = Instant::now();
    let status = command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
