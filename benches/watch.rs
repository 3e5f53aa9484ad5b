//! From save to result: how long an author waits in `verify watch`, for pages of different lengths.
//!
//! `cargo bench --bench watch` saves a page again and again with one example changed, and waits each time until
//! `verify watch` shows what that example prints, and then for the summary. Pages of all lengths take turns, and with
//! them the same pages checked by `verify` from the start, and a Python that is started for nothing.
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

/// Lengths of pages. What the longer ones cost is told as a ratio to the first.
const LENGTHS: [usize; 3] = [50, 200, 1000];

/// Which example is edited in a round.
struct Place {
    name: &'static str,
    of: fn(examples: usize, round: usize) -> usize,
}

const PLACES: &[Place] = &[
    Place {
        name: "first",
        of: |_, _| 0,
    },
    Place {
        name: "middle",
        of: |examples, _| examples / 2,
    },
    Place {
        name: "last",
        of: |examples, _| examples - 1,
    },
    Place {
        name: "another each time",
        of: |examples, round| examples * ((round * 7 + 3) % 10) / 10,
    },
];

fn main() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "medians of {ROUNDS} saves; load average before: {}\n",
        load.trim()
    );
    println!(
        "| edited | examples | save to result | ratio | for each example more | to summary | `verify` from the start | `python -c pass` |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    let python = python();
    for place in PLACES {
        measure(place, &python);
    }
}

/// The interpreter itself: `python3` may be a script that looks for one.
fn python() -> String {
    let mut asked = Command::new("python3");
    let said = asked.args(["-c", "import sys; print(sys.executable)"]);
    let said = said.output().unwrap().stdout;
    String::from_utf8(said).unwrap().trim().to_owned()
}

/// Pages of all lengths take turns, so that a busy machine slows all alike.
fn measure(place: &Place, python: &str) {
    let mut pages = LENGTHS.map(|examples| Edited::open(examples, place));
    let mut pythons = Vec::new();
    for round in 0..ROUNDS {
        for page in &mut pages {
            page.edit(place, round);
        }
        let mut nothing = Command::new(python);
        pythons.push(time(nothing.args(["-c", "pass"]), Path::new("/")));
    }
    let python = median(&mut pythons);
    let mut shortest = None;
    for page in &mut pages {
        let examples = page.words.len();
        let result = median(&mut page.results);
        let (least, of) = *shortest.get_or_insert((result, examples));
        let more = u32::try_from(examples - of).unwrap();
        let each = result.saturating_sub(least).checked_div(more);
        let each = each.map_or(String::new(), |each| format!("{each:.1?}"));
        println!(
            "| {} | {examples} | {result:.1?} | {:.1} | {each} | {:.1?} | {:.1?} | {python:.1?} |",
            place.name,
            result.div_duration_f64(least),
            median(&mut page.summaries),
            median(&mut page.starts),
        );
    }
}

/// A page that is watched while it is edited, and what that took.
struct Edited {
    book: tempfile::TempDir,
    /// What each example prints besides its number.
    words: Vec<String>,
    watch: Watch,
    results: Vec<Duration>,
    summaries: Vec<Duration>,
    starts: Vec<Duration>,
}

impl Edited {
    fn open(examples: usize, place: &Place) -> Edited {
        let book = tempfile::tempdir().unwrap();
        let mut words = vec![String::new(); examples];
        fs::write(book.path().join("page.md"), page(&words)).unwrap();
        let mut watch = Watch::start(book.path());
        // The first save of an example makes the copy to go on from.
        "begun".clone_into(&mut words[(place.of)(examples, 0)]);
        fs::write(book.path().join("page.md"), page(&words)).unwrap();
        watch.wait_for_summary();
        Edited {
            book,
            words,
            watch,
            results: Vec::new(),
            summaries: Vec::new(),
            starts: Vec::new(),
        }
    }

    fn edit(&mut self, place: &Place, round: usize) {
        let word = format!("round {round}");
        let edited = (place.of)(self.words.len(), round);
        self.words[edited].clone_from(&word);
        let text = page(&self.words);
        let begun = Instant::now();
        fs::write(self.book.path().join("page.md"), text).unwrap();
        self.watch.wait_for(&format!(" {word}"));
        self.results.push(begun.elapsed());
        self.watch.wait_for_summary();
        self.summaries.push(begun.elapsed());
        let mut start = Command::new(VERIFY);
        self.starts
            .push(time(start.arg("page.md"), self.book.path()));
    }
}

fn page(words: &[String]) -> String {
    let mut page = String::new();
    for (number, word) in words.iter().enumerate() {
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

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
