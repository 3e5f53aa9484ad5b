//! The report for GitHub Actions: the human one in the log, annotations on the lines of the pages, and a
//! summary of the job.
//!
//! What GitHub keeps is little: ten annotations of each kind per step (fifty per job), 4096 characters of each,
//! and a summary of 1 MiB per step, past which it drops all of it. So annotations wait for the end of the run
//! and come with the most telling first: causes before what they block, a failure of each page before the
//! second of any, one for all interpreters that agree on it; the last one says how many are left. The log has
//! every failure in full.
//!
//! The runner reads commands out of whatever a step writes, so an example that fails could print one: mask
//! log lines, set outputs, silence real annotations. What the runner takes for a command is settled by
//! `ActionCommand.cs` of actions/runner, not by its documentation: `::name` after any white space at the
//! start of a line, and `##[name` anywhere in it; some of its comparisons skip characters that have no width.
//! `::stop-commands::` would need a token that no example can guess, and would leave commands off where a run
//! is killed; here [`Inert`] takes the commands apart instead, visibly, wherever text that is not ours passes.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::human::{Human, visible};
use super::plain::Pythons;
use super::{Event, ExampleResult, Finished, PageResult, Reporter, Summary, plain};
use crate::book::Problem;
use crate::compare::lossy;
use crate::interpreter::Interpreter;
use crate::legible::one_line;
use crate::verdict::Verdict;

/// As many annotations of one kind are shown per step.
const MOST_ANNOTATIONS: usize = 10;
/// Longer messages are cut by the runner, in UTF-16 units, without a word.
const LONGEST_MESSAGE: usize = 4096;
/// Lines of a failure's details in its annotation; more would hide the page that it stands on.
const MESSAGE_LINES: usize = 40;
/// The runner refuses a larger summary as a whole, with what other commands of the step have written.
const SUMMARY_LIMIT: u64 = 1024 * 1024;
/// Left free: the runner lengthens the file where it masks secrets, and commands after us may write too.
const SUMMARY_RESERVE: u64 = 64 * 1024;
/// Of one failure's details in the summary, in bytes.
const LONGEST_DETAILS: usize = 16 * 1024;

#[derive(Debug, Default)]
pub struct Github {
    /// How the log is written.
    pub human: Human,
    summary: Option<PathBuf>,
    pythons: Pythons,
    runs: Vec<Run>,
    failures: Vec<Failed>,
    orphans: Vec<String>,
    problems: bool,
}

/// A row of the summary's table.
#[derive(Debug)]
struct Run {
    /// Number of the interpreter.
    python: usize,
    summary: Summary,
    duration: Duration,
    stopped_early: bool,
    sessions: usize,
    kept: usize,
}

/// Something that is wrong at a place: a failure, or an author's mistake.
#[derive(Debug)]
struct Failed {
    /// What is shown first: by what kind of failure it is, then by how many of its page precede it.
    rank: (u8, usize),
    page: String,
    /// First and last line.
    lines: Option<(usize, usize)>,
    /// The example's id; empty for a mistake.
    id: String,
    /// `failed`, `unrecorded`, `blocked` or `problem`.
    word: &'static str,
    headline: String,
    details: String,
    /// Numbers of the interpreters.
    pythons: Vec<usize>,
}

impl Github {
    /// `summary` is the file that `$GITHUB_STEP_SUMMARY` names. It is added to, not replaced.
    pub fn new(summary: Option<PathBuf>) -> Github {
        Github {
            summary,
            ..Github::default()
        }
    }

    fn page(&mut self, page: &PageResult<'_>) {
        for result in &page.examples {
            if result.verdict.is_failure() {
                self.failure(result, page.interpreter);
            }
        }
    }

    fn failure(&mut self, result: &ExampleResult<'_>, interpreter: &Interpreter) {
        let python = self.pythons.last();
        let headline = plain::headline(&result.verdict);
        let (page, id) = (&result.page.name, &result.example.id);
        let same = |other: &&mut Failed| {
            other.page == *page && other.id == *id && other.headline == headline
        };
        if let Some(known) = self.failures.iter_mut().find(same) {
            known.pythons.push(python);
            return;
        }
        let kind = match result.verdict {
            Verdict::Unrecorded => 1,
            Verdict::Blocked { .. } => 2,
            _ => 0,
        };
        let block = &result.example.block;
        let whole = (
            block.code_line,
            block.code_line + block.code_lines.len().max(1) - 1,
        );
        self.failures.push(Failed {
            rank: (
                kind,
                self.failures
                    .iter()
                    .filter(|other| other.page == *page && other.rank.0 == kind)
                    .count(),
            ),
            page: page.clone(),
            lines: Some(result.exact_line().map_or(whole, |line| (line, line))),
            id: id.clone(),
            word: result.verdict.word(),
            headline,
            details: details(result, interpreter),
            pythons: vec![python],
        });
    }

    fn problem(&mut self, problem: &Problem) {
        self.problems = true;
        self.failures.push(Failed {
            rank: (
                0,
                self.failures
                    .iter()
                    .filter(|other| other.page == problem.page)
                    .count(),
            ),
            page: problem.page.clone(),
            lines: problem.line.map(|line| (line, line)),
            id: String::new(),
            word: "problem",
            headline: visible(&problem.message),
            details: String::new(),
            pythons: Vec::new(),
        });
    }

    fn finished(&mut self, finished: &Finished<'_>) {
        self.runs.push(Run {
            python: self.pythons.last(),
            summary: finished.summary,
            duration: finished.duration,
            stopped_early: finished.stopped_early,
            sessions: finished.sessions,
            kept: finished.kept,
        });
        for orphan in finished.orphans {
            if !self.orphans.contains(orphan) {
                self.orphans.push(orphan.clone());
            }
        }
    }

    /// Which interpreters a failure is of, where there are several to tell apart.
    fn on(&self, failed: &Failed) -> String {
        if self.runs.len() < 2 {
            String::new()
        } else {
            let names = failed.pythons.iter();
            let names: Vec<String> = names
                .map(|&number| visible(self.pythons.name(number)))
                .collect();
            format!(" on Python {}", names.join(", "))
        }
    }

    fn annotations(&self, out: &mut dyn Write) -> io::Result<()> {
        for failed in self.failures.iter().take(MOST_ANNOTATIONS) {
            let title = match failed.word {
                "problem" => "nothing was run".to_owned(),
                word => format!("{} {word}{}", failed.id, self.on(failed)),
            };
            let message = cut(&format!(
                "{}: {}\n{}",
                failed.place(),
                failed.headline,
                failed.details
            ));
            let annotation = Annotation {
                kind: "error",
                file: Some(&failed.page),
                lines: failed.lines,
                title,
                message,
            };
            annotation.write(out)?;
        }
        for orphan in self.orphans.iter().take(MOST_ANNOTATIONS) {
            let message = format!(
                "{} belongs to no example; `verify record` removes it",
                visible(orphan)
            );
            let file = Some(plain::orphan(orphan).0);
            let annotation = Annotation {
                kind: "warning",
                file,
                lines: None,
                title: "orphan".to_owned(),
                message,
            };
            annotation.write(out)?;
        }
        let more = [
            (self.failures.len(), "failure"),
            (self.orphans.len(), "orphan"),
        ];
        let more: Vec<String> = more
            .into_iter()
            .filter(|(found, _)| *found > MOST_ANNOTATIONS)
            .map(|(found, noun)| count(found - MOST_ANNOTATIONS, &format!("more {noun}")))
            .collect();
        if !more.is_empty() {
            let message = format!("{} in the log and the job summary", more.join(" and "));
            let title = "not all are annotated".to_owned();
            Annotation {
                kind: "notice",
                file: None,
                lines: None,
                title,
                message,
            }
            .write(out)?;
        }
        Ok(())
    }

    /// Adds to the summary file what has room in it.
    fn write_summary(&self, path: &Path) -> io::Result<()> {
        let add = || {
            let mut file = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)?;
            let room = SUMMARY_LIMIT
                .saturating_sub(SUMMARY_RESERVE)
                .saturating_sub(file.metadata()?.len());
            file.write_all(
                self.markdown(usize::try_from(room).unwrap_or(usize::MAX))
                    .as_bytes(),
            )
        };
        add().map_err(|error: io::Error| {
            let message = format!(
                "cannot write the job summary `{}`: {error}; unset `GITHUB_STEP_SUMMARY`",
                path.display()
            );
            io::Error::new(error.kind(), message)
        })
    }

    /// The summary as Markdown of at most `room` bytes; empty if not even its head fits.
    fn markdown(&self, room: usize) -> String {
        let mut text = self.head();
        // What closes a summary that has no room for more must itself have room.
        let room = room.saturating_sub(200);
        if text.len() > room {
            return String::new();
        }
        for (number, failed) in self.failures.iter().enumerate() {
            let block = self.collapsed(failed);
            if text.len() + block.len() > room {
                let left = self.failures.len() - number;
                let _ = writeln!(
                    text,
                    "\n{} in the log: the summary is full.",
                    count(left, "more failure")
                );
                return text;
            }
            text.push_str(&block);
        }
        if !self.orphans.is_empty() {
            let orphans: String = self
                .orphans
                .iter()
                .map(|orphan| visible(orphan) + "\n")
                .collect();
            let head = format!(
                "Recordings that belong to no example ({}); `verify record` removes them",
                self.orphans.len()
            );
            let block = collapsed(&head, "text", &orphans);
            if text.len() + block.len() <= room {
                text.push_str(&block);
            }
        }
        text
    }

    fn head(&self) -> String {
        if self.problems {
            return format!(
                "### ❌ verify: {}; nothing was run\n",
                count(self.failures.len(), "problem")
            );
        }
        let mut total = Summary::default();
        for run in &self.runs {
            total.add(&run.summary);
        }
        let verdict = match (total.failures(), total.total()) {
            (0, all) => format!("✅ verify: {}, none of them wrong", count(all, "result")),
            (failures, all) => format!(
                "❌ verify: {failures} of {} not as expected",
                count(all, "result")
            ),
        };
        let mut text = format!("### {verdict}\n\n| Python |");
        for (word, _) in total.all() {
            let _ = write!(text, " {word} |");
        }
        text.push_str(" time |\n|:--|");
        text.push_str(&"--:|".repeat(total.all().len() + 1));
        text.push('\n');
        for run in &self.runs {
            let _ = write!(
                text,
                "| {}{}{} |",
                visible(self.pythons.name(run.python)),
                if run.stopped_early {
                    ", stopped early"
                } else {
                    ""
                },
                super::human::from_cache(run.kept, run.sessions)
            );
            for (_, number) in run.summary.all() {
                let _ = write!(text, " {number} |");
            }
            let _ = writeln!(text, " {:.2}s |", run.duration.as_secs_f64());
        }
        text
    }

    fn collapsed(&self, failed: &Failed) -> String {
        let on = self.on(failed);
        if failed.word == "problem" {
            return collapsed(&failed.place(), "text", &format!("{}\n", failed.headline));
        }
        let head = format!("{} {} {}{on}", failed.word, failed.place(), failed.id);
        let mut details = failed.details.clone();
        if details.len() > LONGEST_DETAILS {
            let end = (0..=LONGEST_DETAILS)
                .rev()
                .find(|&at| details.is_char_boundary(at))
                .unwrap_or(0);
            details.truncate(end);
            details.push_str("… the rest is in the log\n");
        }
        collapsed(&head, "diff", &format!("{}\n{details}", failed.headline))
    }
}

impl Reporter for Github {
    fn event(&mut self, event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Problems(problems) => problems.iter().for_each(|problem| self.problem(problem)),
            Event::Page(page) => self.page(page),
            Event::Finished(finished) => self.finished(finished),
            Event::Started(started) => self.pythons.add(started.interpreter),
            Event::Example(..) | Event::Unchanged(..) => {}
        }
        self.human.event(event, &mut Inert::new(out))
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.failures.sort_by_key(|failed| failed.rank);
        self.annotations(out)?;
        match &self.summary {
            Some(path) => self.write_summary(path),
            None => Ok(()),
        }
    }
}

impl Failed {
    fn place(&self) -> String {
        let page = one_line(&self.page);
        match self.lines {
            Some((line, _)) => format!("{page}:{line}"),
            None => page,
        }
    }
}

/// What stands behind a failure's headline, and how to see it again.
fn details(result: &ExampleResult<'_>, interpreter: &Interpreter) -> String {
    let mut text = plain::details(result);
    if text.is_empty()
        && let Some(outcome) = &result.outcome
    {
        for (name, bytes) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            let printed = lossy(bytes);
            let lines: Vec<&str> = printed.lines().collect();
            if !lines.is_empty() {
                let _ = writeln!(text, "{name}:");
            }
            // What was printed last is nearest to what went wrong.
            for line in &lines[lines.len().saturating_sub(MESSAGE_LINES / 2)..] {
                let _ = writeln!(text, "  {}", visible(line));
            }
        }
    }
    text + "again: " + &plain::again(result, interpreter) + "\n"
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// As much of a message as GitHub takes, saying so where it is not all.
fn cut(message: &str) -> String {
    const MORE: &str = "… the rest is in the log";
    let room = LONGEST_MESSAGE - MORE.encode_utf16().count();
    let (mut units, mut end) = (0, 0);
    for line in message.split_inclusive('\n').take(MESSAGE_LINES) {
        units += line.encode_utf16().count();
        if units > room {
            break;
        }
        end += line.len();
    }
    let kept = message[..end].trim_end_matches('\n');
    if end == message.len() {
        kept.to_owned()
    } else {
        format!("{kept}\n{MORE}")
    }
}

/// A line of the summary with a block that opens below it. Nothing of `content` can end the block, nothing
/// of `head` is markup, a mention or a reference.
fn collapsed(head: &str, language: &str, content: &str) -> String {
    let longest = content.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    let head = visible(head)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!(
        "\n<details><summary><code>{head}</code></summary>\n\n{fence}{language}\n{content}{fence}\n\n</details>\n"
    )
}

/// One workflow command. Absolute paths are what the runner makes relative to the repository; a relative one
/// it would take from there, wherever the step runs.
struct Annotation<'a> {
    kind: &'static str,
    file: Option<&'a str>,
    lines: Option<(usize, usize)>,
    title: String,
    message: String,
}

impl Annotation<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut properties = Vec::new();
        if let Some(file) = self.file {
            let file = std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file));
            properties.push(format!("file={}", property(&file.to_string_lossy())));
        }
        if let Some((first, last)) = self.lines {
            properties.push(format!("line={first},endLine={last}"));
        }
        properties.push(format!("title={}", property(&visible(&self.title))));
        writeln!(
            out,
            "::{} {}::{}",
            self.kind,
            properties.join(","),
            data(&self.message)
        )
    }
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A writer whose text the runner reads as text: it takes apart what the runner would obey. For every format
/// whose report goes to a log of GitHub Actions.
///
/// Escape sequences pass as if they were not there, so that it does not matter whether colours are stripped
/// before or after. Anything that is not ASCII counts as having no width, which takes apart a little too much
/// rather than too little.
pub struct Inert<W> {
    out: W,
    /// Visible characters of this line so far.
    seen: usize,
    /// The last two of them, while nothing visible has come between.
    last: [u8; 2],
    escape: Escape,
}

#[derive(PartialEq, Eq)]
enum Escape {
    None,
    /// After the escape character.
    Started,
    /// Within `ESC [ … letter`.
    Sequence,
}

impl<W: Write> Inert<W> {
    pub fn new(out: W) -> Inert<W> {
        Inert {
            out,
            seen: 0,
            last: [0; 2],
            escape: Escape::None,
        }
    }

    /// What to write for a byte.
    fn passes(&mut self, byte: u8) -> bool {
        match (&self.escape, byte) {
            (Escape::Started, b'[') => self.escape = Escape::Sequence,
            (Escape::Started, _) | (Escape::Sequence, 0x40..=0x7e) => self.escape = Escape::None,
            (Escape::None, 0x1b) => self.escape = Escape::Started,
            // The runner ends a line at either.
            (Escape::None, b'\n' | b'\r') => (self.seen, self.last) = (0, [0; 2]),
            (Escape::None, b' ' | b'\t') => self.last = [0; 2],
            (Escape::None, byte) if byte.is_ascii_graphic() => {
                let begins_command = byte == b':' && self.seen == 1 && self.last[1] == b':';
                let begins_old_command = byte == b'[' && self.last == *b"##";
                self.seen += 1;
                self.last = [self.last[1], byte];
                return !(begins_command || begins_old_command);
            }
            (Escape::None | Escape::Sequence, _) => {}
        }
        true
    }
}

impl<W: Write> Write for Inert<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if !self.passes(byte) {
                self.out.write_all(&bytes[written..at])?;
                write!(self.out, "\\u{{{byte:x}}}")?;
                written = at + 1;
            }
        }
        self.out.write_all(&bytes[written..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::plain::sample;
    use super::*;
    use crate::verdict::Failure;

    /// Text as it comes out, written in pieces of `size`.
    fn inert(text: &str, size: usize) -> String {
        let mut out = Vec::new();
        let mut writer = Inert::new(&mut out);
        for piece in text.as_bytes().chunks(size) {
            writer.write_all(piece).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    /// Whether the runner would obey a line, by a reading that is stricter than its own.
    fn obeyed(line: &str) -> bool {
        let visible: String = anstream::adapter::strip_str(line).to_string();
        let visible: String = visible
            .chars()
            .filter(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\t'))
            .collect();
        visible.trim_start().starts_with("::") || visible.contains("##[")
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(inert(text, 1000), expected);
        assert_eq!(inert(text, 1), expected, "in pieces");
    }

    #[test]
    fn commands_are_taken_apart() {
        check("::error::x\n", ":\\u{3a}error::x\n");
        check("a\n \t::error::x\r::y", "a\n \t:\\u{3a}error::x\r:\\u{3a}y");
        check("\u{feff}\u{a0}::error::x", "\u{feff}\u{a0}:\\u{3a}error::x");
        check("\x1b[1m:\x1b[0m:error::x", "\x1b[1m:\x1b[0m\\u{3a}error::x");
        check(
            "say ##[error]x ##[group]",
            "say ##\\u{5b}error]x ##\\u{5b}group]",
        );
        check(
            "#\u{200b}#\x1b[31m[error]",
            "#\u{200b}#\x1b[31m\\u{5b}error]",
        );
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            "a::b\n",
            "x[::2]\n",
            "## [link]\n",
            ": :\n",
            "#[derive]\n",
            "\x1b[1mé\x1b[0m ✗ page.md\n",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn annotations_are_escaped() {
        assert_eq!(data("50%\r\n::error::x"), "50%25%0D%0A::error::x");
        assert_eq!(property("a:b,c%0A\n"), "a%3Ab%2Cc%250A%0A");
        let mut out = Vec::new();
        let lines = Some((3, 5));
        let (title, message) = ("a\n::b".to_owned(), "x\ny".to_owned());
        Annotation {
            kind: "error",
            file: Some("/a b,c.md"),
            lines,
            title,
            message,
        }
        .write(&mut out)
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "::error file=/a b%2Cc.md,line=3,endLine=5,title=a\\n%3A%3Ab::x%0Ay\n"
        );
    }

    fn commands(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.starts_with("::")).collect()
    }

    #[test]
    fn only_our_own_commands_are_obeyed() {
        let mut github = Github::default();
        github.human.verbosity = super::super::human::Verbosity::Verbose;
        let text = sample::told(&mut github, &sample::verdicts(), &["3.12.1"])
            + &sample::told_problems(&mut Github::default());
        let ours = ["::error file=/", "::warning file=/", "::notice title="];
        for line in text.split(['\n', '\r']).filter(|line| obeyed(line)) {
            assert!(ours.iter().any(|start| line.starts_with(start)), "{line}");
        }
        assert_eq!(commands(&text).len(), 10 + 2 + 1 + 3);
    }

    #[test]
    fn causes_come_first_and_the_rest_is_counted() {
        let raised = || Verdict::Failed(Failure::Raised(sample::exception()));
        let mut verdicts = vec![Verdict::Blocked { by: "x".to_owned() }; 8];
        verdicts.extend([Verdict::Unrecorded, raised(), raised(), Verdict::Unrecorded]);
        let text = sample::told(&mut Github::default(), &verdicts, &["3.12.1"]);
        let commands = commands(&text);
        let titles: Vec<&str> = commands
            .iter()
            .filter_map(|line| line.split_once("title=")?.1.split_once("::"))
            .map(|(title, _)| title)
            .collect();
        assert_eq!(titles[0], "closures/10 failed");
        assert_eq!(titles[1], "closures/11 failed");
        assert_eq!(titles[2], "closures/9 unrecorded");
        assert_eq!(titles[4], "closures/1 blocked");
        assert_eq!(titles[10..], ["orphan", "orphan", "not all are annotated"]);
        assert!(
            commands[12].ends_with("::2 more failures in the log and the job summary"),
            "{}",
            commands[12]
        );
    }

    #[test]
    fn interpreters_that_agree_share_an_annotation() {
        let text = sample::told(
            &mut Github::default(),
            &[Verdict::Unrecorded],
            &["3.12.1", "3.13.0"],
        );
        let errors: Vec<_> = commands(&text)
            .into_iter()
            .filter(|line| line.starts_with("::error"))
            .collect();
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].contains("title=closures/1 unrecorded on Python 3.12.1%2C 3.13.0::"),
            "{}",
            errors[0]
        );
    }

    #[test]
    fn long_messages_are_cut_where_a_line_ends() {
        let message = "é𝄞\n".repeat(30);
        assert_eq!(cut(&message), message.trim_end());
        let many = "line\n".repeat(100);
        assert_eq!(cut(&many), "line\n".repeat(40) + "… the rest is in the log");
        let wide = format!("{}\n", "𝄞".repeat(400)).repeat(20);
        assert!(cut(&wide).encode_utf16().count() <= LONGEST_MESSAGE);
        assert!(cut(&wide).ends_with("𝄞\n… the rest is in the log"));
    }

    /// The Markdown that a summary is, as a parser sees it: text of its code blocks, and its raw HTML.
    fn blocks(markdown: &str) -> (Vec<String>, String) {
        use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
        let (mut codes, mut html, mut inside) = (Vec::new(), String::new(), false);
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::CodeBlock(_)) => {
                    inside = true;
                    codes.push(String::new());
                }
                Event::End(TagEnd::CodeBlock) => inside = false,
                Event::Text(text) if inside => codes.last_mut().unwrap().push_str(&text),
                Event::Html(text) | Event::InlineHtml(text) => html.push_str(&text),
                _ => {}
            }
        }
        (codes, html)
    }

    #[test]
    fn the_summary_is_added_and_nothing_breaks_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.md");
        fs::write(&path, "before\n\n").unwrap();
        let mut github = Github::new(Some(path.clone()));
        sample::told(&mut github, &sample::verdicts(), &["3.12.1", "3.13.0"]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("before\n\n### ❌ verify: 44 of 54 results not as expected\n"),
            "{text}"
        );
        assert!(
            text.contains("| 3.13.0 | 1 | 1 | 20 | 1 | 1 | 2 | 1 | 2.00s |\n"),
            "{text}"
        );
        let (codes, html) = blocks(&text);
        assert_eq!(codes.len(), 22 + 1);
        assert_eq!(html.matches("<details>").count(), 23);
        assert_eq!(html.matches("</details>").count(), 23, "{html}");
        assert!(codes[0].contains("+```\n+</details>"), "{}", codes[0]);
    }

    #[test]
    fn the_summary_stays_within_its_limit() {
        let mut github = Github::default();
        sample::told(
            &mut github,
            &vec![Verdict::Failed(Failure::Raised(sample::exception())); 300],
            &["3.12.1"],
        );
        let whole = github.markdown(usize::MAX);
        let cut = github.markdown(whole.len() / 2);
        assert!(cut.len() <= whole.len() / 2);
        assert!(
            cut.ends_with(" more failures in the log: the summary is full.\n"),
            "{cut}"
        );
        assert_eq!(github.markdown(10), "");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.md");
        fs::write(&path, vec![b'x'; 1024 * 1024 - 100]).unwrap();
        github.write_summary(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1024 * 1024 - 100);
    }

    #[test]
    fn a_summary_that_cannot_be_written_is_an_error_with_its_name() {
        let error = Github::new(Some(PathBuf::from("/nowhere/at/all")))
            .finish(&mut Vec::new())
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cannot write the job summary `/nowhere/at/all`"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_obeyed_of_any_text(text in "([:#\\[\\] a\t\u{feff}é]|\x1b\\[1?m|\n|\r|::error|##\\[){0,12}", size in 1..9usize) {
            let written = inert(&text, size);
            for line in written.split(['\n', '\r']) {
                prop_assert!(!obeyed(line), "{:?}", written);
            }
            prop_assert_eq!(written.replace("\\u{3a}", ":").replace("\\u{5b}", "["), text);
        }
    }
}
