//! The report for people: a line per page, failures as rustc writes them, a summary that leaves no verdict out.

use std::collections::HashSet;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Event, ExampleResult, Finished, PageResult, Reporter, Rerun, Summary};
use crate::book::At;
use crate::compare::{self, Aspect, Difference};
use crate::diagnose::Reason;
use crate::diff::{self, Kind as DiffKind};
use crate::interpreter::Interpreter;
use crate::legible::{self, one_line};
use crate::outcome::{Exception, Outcome, Resource};
use crate::protocol::Protections;
use crate::verdict::{Failure, StepFailure, Verdict};

/// As many lines of an example's source and of its output are shown at most.
const MOST_LINES: usize = 40;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const CAUTION: Style = AnsiColor::Yellow.on_default();
const QUIET: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();
const PLACE: Style = AnsiColor::Blue.on_default().bold();

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Failures and the summary.
    Quiet,
    #[default]
    Normal,
    /// Every example.
    Verbose,
}

#[derive(Debug, Default)]
pub struct Human {
    pub verbosity: Verbosity,
    /// Several interpreters run, so each line says which.
    pub several: bool,
    /// Each session with the reason why it ran or did not.
    pub explains: bool,
    /// Failures of this run that were told before their page.
    pub told: HashSet<At>,
}

impl Reporter for Human {
    fn event(&mut self, event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Problems(problems) => {
                for problem in *problems {
                    writeln!(out, "{BAD}error{BAD:#}: {problem}")?;
                }
                let noun = if problems.len() == 1 {
                    "problem"
                } else {
                    "problems"
                };
                writeln!(out, "{} {noun}; nothing was run", problems.len())
            }
            Event::Started(started) => {
                if self.verbosity == Verbosity::Quiet {
                    return Ok(());
                }
                let python = started.interpreter;
                write!(
                    out,
                    "{STRONG}Python {}{STRONG:#} {QUIET}({}, by {}){QUIET:#}: {} on {}",
                    python.full_version,
                    legible::path(&python.executable),
                    python.source,
                    count(started.examples, "example"),
                    count(started.pages, "page"),
                )?;
                if started.examples > 0 {
                    protections(started.protections, out)?;
                }
                writeln!(out)
            }
            Event::Example(interpreter, result) => self.example(interpreter, result, out),
            Event::Page(page) => self.page(page, out),
            Event::Unchanged(name, summary) => self.head(name, summary, None, out),
            Event::Finished(finished) => self.finished(finished, out),
        }
    }

    fn begin_again(&mut self) {
        self.told.clear();
    }
}

/// What holds, for the end of the header.
fn protections(protections: Option<&Protections>, out: &mut dyn Write) -> io::Result<()> {
    let Some(protections) = protections else {
        return write!(out, "; {CAUTION}not sandboxed{CAUTION:#}");
    };
    let names = |wanted: bool| {
        let all = protections.all().into_iter();
        all.filter(|(_, missing)| missing.is_none() == wanted)
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (names(true).as_str(), names(false).as_str()) {
        (holding, "") => write!(out, "; sandboxed: {holding}"),
        ("", _) => write!(
            out,
            "; {CAUTION}not sandboxed{CAUTION:#}: `verify doctor` says why"
        ),
        (holding, missing) => write!(
            out,
            "; sandboxed: {holding}; {CAUTION}not {missing}{CAUTION:#}: `verify doctor` says why"
        ),
    }
}

impl Human {
    /// One example before its page: what it did is what somebody waits for.
    fn example(
        &mut self,
        interpreter: &Interpreter,
        result: &ExampleResult<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if result.verdict.is_failure() {
            self.told.insert(result.at);
            return failure(result, interpreter, out);
        }
        if self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        let style = style_of(&result.verdict);
        writeln!(
            out,
            "{style}{}{style:#} {}:{} {}{}",
            result.verdict.word(),
            one_line(&result.page.name),
            result.example.block.line,
            one_line(&result.example.id),
            why(&result.verdict)
        )?;
        match &result.outcome {
            Some(outcome) => streams(outcome, out),
            None => Ok(()),
        }
    }

    fn page(&self, page: &PageResult<'_>, out: &mut dyn Write) -> io::Result<()> {
        let summary = Summary::of(&page.examples);
        let name = one_line(&page.page.name);
        self.head(&page.page.name, &summary, page.rerun.as_ref(), out)?;
        if self.explains {
            for session in &page.sessions {
                let (line, id, why) = (session.line, one_line(session.id), one_line(&session.why));
                writeln!(out, "  {name}:{line} ({id}) {why}")?;
            }
        }
        for result in &page.examples {
            if self.verbosity == Verbosity::Verbose {
                let style = style_of(&result.verdict);
                let line = result.example.block.line;
                let word = result.verdict.word();
                writeln!(
                    out,
                    "  {style}{word:12}{style:#} {name}:{line} {}{}",
                    one_line(&result.example.id),
                    why(&result.verdict)
                )?;
            }
            let is_told = self.verbosity == Verbosity::Verbose
                && matches!(result.verdict, Verdict::Blocked { .. });
            if result.verdict.is_failure() && !is_told && !self.told.contains(&result.at) {
                failure(result, page.interpreter, out)?;
            }
        }
        if summary.blocked > 0 && self.verbosity != Verbosity::Verbose {
            writeln!(out)?;
        }
        Ok(())
    }

    /// The line of a page.
    fn head(
        &self,
        name: &str,
        summary: &Summary,
        ran: Option<&Rerun>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if summary.total() == 0 || self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        let style = if summary.failures() > 0 { BAD } else { GOOD };
        let mark = if summary.failures() > 0 { "✗" } else { "✓" };
        let (name, counts) = (one_line(name), counts(summary));
        write!(out, "{style}{mark}{style:#} {name}  {counts}")?;
        rerun(ran, out)?;
        writeln!(out)
    }

    fn finished(&self, finished: &Finished<'_>, out: &mut dyn Write) -> io::Result<()> {
        for orphan in finished.orphans {
            writeln!(
                out,
                "{CAUTION}orphan{CAUTION:#}: {} belongs to no example; `verify record` removes it",
                one_line(orphan)
            )?;
        }
        let summary = &finished.summary;
        let style = if summary.failures() > 0 { BAD } else { GOOD };
        let python = if self.several {
            format!("Python {}: ", finished.interpreter.full_version)
        } else {
            String::new()
        };
        writeln!(
            out,
            "{style}{python}{}{style:#}{} {QUIET}in {:.2}s{}{QUIET:#}",
            all_counts(summary),
            if finished.stopped_early {
                "; stopped early"
            } else {
                ""
            },
            finished.duration.as_secs_f64(),
            from_cache(finished.kept, finished.sessions)
        )
    }
}

/// How much of a page ran, where that is not all of it each time.
fn rerun(rerun: Option<&Rerun>, out: &mut dyn Write) -> io::Result<()> {
    let Some(Rerun { ran, of, reason }) = rerun else {
        return Ok(());
    };
    let reason = reason
        .as_ref()
        .map(|reason| format!(": {}", visible(reason)));
    write!(
        out,
        "  {QUIET}(ran {ran} of {of}{}){QUIET:#}",
        reason.unwrap_or_default()
    )
}

fn style_of(verdict: &Verdict) -> Style {
    match verdict {
        Verdict::Verified => GOOD,
        Verdict::Failed(_) | Verdict::Unrecorded | Verdict::Blocked { .. } => BAD,
        Verdict::Ran | Verdict::Skipped { .. } | Verdict::Illustrative { .. } => CAUTION,
    }
}

pub(crate) fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Skipped { reason, .. } | Verdict::Illustrative { reason } => {
            format!(": {}", one_line(reason))
        }
        Verdict::Blocked { by } => {
            format!(": `{}` failed before it in its session", one_line(by))
        }
        _ => String::new(),
    }
}

/// How many of the sessions were not run; nothing where all were.
pub(crate) fn from_cache(kept: usize, sessions: usize) -> String {
    match kept {
        0 => String::new(),
        kept => format!(", {kept} of {} from the cache", count(sessions, "session")),
    }
}

/// A number with its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The counts that are not zero.
fn counts(summary: &Summary) -> String {
    let parts: Vec<String> = summary
        .all()
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    parts.join(", ")
}

/// Every count, zero or not: a verdict that is missing from a summary is one that nobody looks for.
fn all_counts(summary: &Summary) -> String {
    let parts: Vec<String> = summary
        .all()
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    parts.join(", ")
}

/// One failure: what, where, the source, the difference, and how to run it again.
pub fn failure(
    result: &ExampleResult<'_>,
    interpreter: &Interpreter,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (name, id) = (one_line(&result.page.name), one_line(&result.example.id));
    if let Verdict::Blocked { by } = &result.verdict {
        return writeln!(
            out,
            "{BAD}blocked{BAD:#}: {name}:{} ({id}), because `{}` failed before it in its session",
            result.line(),
            one_line(by),
        );
    }
    let headline = visible(&headline(&result.verdict));
    writeln!(out, "{BAD}error{BAD:#}{STRONG}: {headline}{STRONG:#}")?;
    writeln!(
        out,
        "  {PLACE}-->{PLACE:#} {name}:{} {QUIET}({id}, Python {}){QUIET:#}",
        result.line(),
        interpreter.full_version,
    )?;
    source(result, out)?;
    differences(result, out)?;
    // The diff of a step shows its exception already.
    let is_step = matches!(result.verdict, Verdict::Failed(Failure::Steps(_)));
    if let Some(traceback) = result.traceback.as_ref().filter(|_| !is_step) {
        for line in traceback.lines() {
            writeln!(out, "  {}", visible(line))?;
        }
    }
    if let Some(outcome) = result
        .outcome
        .as_ref()
        .filter(|_| shows_output(&result.verdict))
    {
        streams(outcome, out)?;
    }
    let again = format!(
        "verify {}{}",
        chosen(result, interpreter),
        doubt(&result.verdict)
    );
    let mend = match &result.verdict {
        Verdict::Unrecorded | Verdict::Failed(Failure::PageOutdated { .. }) => {
            Some(again.replacen("verify", "verify record", 1))
        }
        _ => None,
    };
    writeln!(out, "  {QUIET}again:{QUIET:#} {again}")?;
    if let Some(mend) = mend {
        writeln!(out, "  {QUIET}record:{QUIET:#} {mend}")?;
    }
    writeln!(out)
}

/// What was expected and what came instead.
pub(crate) fn differences(result: &ExampleResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    match &result.verdict {
        Verdict::Failed(Failure::Differs(differences)) => {
            for difference in differences {
                self::difference(difference, out)?;
            }
        }
        Verdict::Failed(Failure::Steps(steps)) => {
            for step in steps {
                self::step(result, step, out)?;
            }
        }
        Verdict::Failed(Failure::PageOutdated { shown, recorded }) => {
            let shown = shown.clone().unwrap_or_default();
            let recorded = recorded.clone().unwrap_or_default();
            writeln!(
                out,
                "  {STRONG}the recording{STRONG:#} (-) and the page (+):"
            )?;
            diff(&recorded, &shown, out)?;
        }
        Verdict::Failed(Failure::ByLuck { reason, .. }) => {
            for line in luck(reason) {
                writeln!(out, "  {line}")?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The words that choose this example, and the interpreter where somebody did. Pages are named as they were found from
/// the current directory.
pub(super) fn chosen(result: &ExampleResult<'_>, interpreter: &Interpreter) -> String {
    let (page, id) = (&result.page.name, &result.example.id);
    // What begins with a `-` passes for an option.
    let here = if page.starts_with('-') { "./" } else { "" };
    let option = |name: &str, value: &str| {
        let to = if value.starts_with('-') { '=' } else { ' ' };
        format!(" --{name}{to}{}", typed(value))
    };
    let python = interpreter.asked.as_ref();
    let python = python.map(|asked| option("python", asked));
    let page = typed(&format!("{here}{page}"));
    page + &option("example", id) + &python.unwrap_or_default()
}

/// A word as it has to be typed in a shell.
fn typed(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    if one_line(word) != word {
        format!("$'{}'", word.as_bytes().escape_ascii())
    } else if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Where the difference does not show what was printed, the streams are shown as they are.
fn shows_output(verdict: &Verdict) -> bool {
    !matches!(
        verdict,
        Verdict::Failed(
            Failure::Differs(_)
                | Failure::Steps(_)
                | Failure::PageOutdated { .. }
                | Failure::ByLuck { .. }
                | Failure::NotNeeded { .. }
        )
    )
}

/// The option by which a failure was found that an ordinary run does not show.
pub(super) fn doubt(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Failed(Failure::ByLuck { runs, .. }) => format!(" --shake {runs}"),
        Verdict::Failed(Failure::NotNeeded { .. }) => " --probe-skips".to_owned(),
        _ => String::new(),
    }
}

/// What a run that differs says: the lines of the first run and of the other one, and the way out.
pub(super) fn luck(reason: &Reason) -> Vec<String> {
    let Reason::Unstable(diagnosis) = reason else {
        return Vec::new();
    };
    let pair = |(first, other): &(String, String)| {
        [
            format!("- {}", visible(first)),
            format!("+ {}", visible(other)),
        ]
    };
    let mut lines: Vec<String> = diagnosis.lines.iter().flat_map(pair).collect();
    lines.push(diagnosis.advice.clone());
    lines
}

/// What went wrong, in one line.
#[allow(
    clippy::too_many_lines,
    reason = "one sentence for each way to fail, side by side"
)]
pub(crate) fn headline(verdict: &Verdict) -> String {
    let failure = match verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Unrecorded => return "nothing is recorded for this output".to_owned(),
        Verdict::Blocked { by } => {
            return format!("not run: `{by}` failed before it in its session");
        }
        other => return other.word().to_owned(),
    };
    match failure {
        Failure::Differs(differences) => {
            let names: Vec<String> = differences
                .iter()
                .map(|difference| aspect(&difference.aspect))
                .collect();
            let verb = if names.len() == 1 {
                "differs"
            } else {
                "differ"
            };
            format!("{} {verb} from the expected", names.join(" and "))
        }
        Failure::Steps(steps) if steps.len() == 1 => {
            "a step did not do what the page says".to_owned()
        }
        Failure::Steps(steps) => format!("{} steps did not do what the page says", steps.len()),
        Failure::Raised(exception) => {
            format!("raised {}{}", exception.headline(), limit_met(exception))
        }
        Failure::RaisedOther {
            announced,
            exception,
        } => {
            format!(
                "raised {} where `raises={announced}` was announced",
                exception.headline()
            )
        }
        Failure::DidNotRaise { announced } => format!("did not raise the announced `{announced}`"),
        Failure::Exited {
            status,
            announced: Some(announced),
            ..
        } => {
            format!("exited with status {status} where `exits={announced}` was announced")
        }
        Failure::Exited {
            status,
            orderly: true,
            ..
        } => {
            format!("exited with status {status}; write `exits={status}` if it is meant to")
        }
        Failure::Exited {
            status,
            orderly: false,
            ..
        } => {
            format!(
                "its process ended with status {status} before the example did; write `exits={status}` if it is meant to"
            )
        }
        Failure::DidNotExit { announced } => {
            format!("did not exit with the announced status {announced}")
        }
        Failure::DidNotMake { announced } => {
            format!("did not make the announced file `{announced}`")
        }
        Failure::Killed { signal } => format!("its process was killed by {}", signal_name(*signal)),
        Failure::TimedOut { limit } => format!(
            "still running after {}s, its time limit; raise it with `timeout=` here or in `verify.toml`",
            limit.as_secs_f64()
        ),
        Failure::TooMuch { of, limit } => match of {
            Resource::Output => format!(
                "printed more than {limit} bytes, its limit; raise it with `max-output=` here or in `verify.toml`"
            ),
            Resource::Memory => format!(
                "used more than {limit} bytes of memory, its limit; raise it with `memory=` here or in `verify.toml`"
            ),
            Resource::Processes => format!(
                "had more than {limit} processes at once, its limit; raise it with `processes=` here or in `verify.toml`"
            ),
            Resource::Scratch => format!(
                "filled its directory with more than {limit} bytes, its limit; raise it with `max-scratch=` here or in `verify.toml`"
            ),
        },
        Failure::Lost { reason } => format!("no result arrived: {reason}"),
        Failure::DoesNotParse(exception) => format!("is not Python: {}", exception.headline()),
        Failure::PageOutdated { shown: None, .. } => {
            "the page does not show the recorded output".to_owned()
        }
        Failure::PageOutdated { recorded: None, .. } => {
            "the page shows an output that was never recorded".to_owned()
        }
        Failure::PageOutdated { .. } => {
            "the page shows another output than the recorded one".to_owned()
        }
        Failure::ByLuck { run, runs, reason } => {
            let cause = match reason {
                Reason::Unstable(diagnosis) => diagnosis.cause.words(),
                Reason::FailedAgain(what) => what,
            };
            format!("passes by luck: run {run} of {runs} failed: {cause}")
        }
        Failure::NotNeeded { what, reason } => {
            format!("does what it should now, although {reason}; remove its `{what}`")
        }
        Failure::Unmet { reason } => format!("was not run: {reason}"),
    }
}

/// The way out where an exception is how Python tells of a limit that the kernel keeps for us.
fn limit_met(exception: &Exception) -> &'static str {
    let says = |text: &str| exception.message.contains(text);
    if exception.is_a("MemoryError") || says("can't start new thread") {
        "; if that is its limit, raise it with `memory=` here or in `verify.toml`"
    } else if exception.is_a("OSError") && says("[Errno 24]") {
        "; if that is its limit, raise it with `open-files=` here or in `verify.toml`"
    } else if exception.is_a("OSError") && says("[Errno 27]") {
        "; if that is its limit, raise it with `max-file-size=` here or in `verify.toml`"
    } else {
        ""
    }
}

fn signal_name(number: i32) -> String {
    match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        _ => return format!("signal {number}"),
    }
    .to_owned()
}

fn aspect(aspect: &Aspect) -> String {
    match aspect {
        Aspect::Stdout => "stdout".to_owned(),
        Aspect::Stderr => "stderr".to_owned(),
        Aspect::Exception => "the exception".to_owned(),
        Aspect::Exit => "the exit status".to_owned(),
        Aspect::Artifact(name) => format!("the file `{}`", one_line(name)),
    }
}

fn source(result: &ExampleResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let lines: Vec<&str> = result.example.source().lines().collect();
    let first = result.example.block.code_line;
    let width = (first + lines.len().min(MOST_LINES)).to_string().len();
    writeln!(out, "  {PLACE}{:width$} |{PLACE:#}", "")?;
    for (index, line) in lines.iter().take(MOST_LINES).enumerate() {
        writeln!(
            out,
            "  {PLACE}{:width$} |{PLACE:#} {}",
            first + index,
            visible(line)
        )?;
    }
    if lines.len() > MOST_LINES {
        writeln!(
            out,
            "  {PLACE}{:width$} |{PLACE:#} {QUIET}… {} more lines{QUIET:#}",
            "",
            lines.len() - MOST_LINES
        )?;
    }
    writeln!(out, "  {PLACE}{:width$} |{PLACE:#}", "")
}

fn difference(difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "  {STRONG}{}{STRONG:#}, expected (-) and actual (+):",
        aspect(&difference.aspect)
    )?;
    diff(&difference.expected, &difference.actual, out)
}

fn step(result: &ExampleResult<'_>, step: &StepFailure, out: &mut dyn Write) -> io::Result<()> {
    let line = result.example.block.code_line + step.line - 1;
    let what = step.source.lines().next().unwrap_or_default();
    let what = if what.is_empty() {
        String::new()
    } else {
        format!(" `{}`", visible(what))
    };
    writeln!(
        out,
        "  {STRONG}{}:{line}{STRONG:#}{what}, expected (-) and actual (+):",
        one_line(&result.page.name)
    )?;
    diff(&step.expected, &step.actual, out)?;
    if step.raised_unannounced() {
        writeln!(
            out,
            "    write `Traceback (most recent call last):` below it if it is meant to raise"
        )?;
    }
    Ok(())
}

fn diff(expected: &str, actual: &str, out: &mut dyn Write) -> io::Result<()> {
    // An exception has no newline at its end anyway; only where one side has it is it news.
    let newline_differs = expected.ends_with('\n') != actual.ends_with('\n');
    for line in diff::lines(expected, actual) {
        let (mark, style) = match line.kind {
            DiffKind::Same => (' ', Style::new()),
            DiffKind::Removed => ('-', AnsiColor::Red.on_default()),
            DiffKind::Added => ('+', AnsiColor::Green.on_default()),
            DiffKind::Gap => ('…', QUIET),
        };
        write!(out, "    {style}{mark} ")?;
        for (emphasised, text) in &line.segments {
            if *emphasised {
                let strong = style.underline();
                write!(out, "{style:#}{strong}{text}{strong:#}{style}")?;
            } else {
                write!(out, "{text}")?;
            }
        }
        write!(out, "{style:#}")?;
        if line.no_newline && newline_differs {
            write!(out, " {QUIET}(no newline at the end){QUIET:#}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(crate) fn streams(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    for (name, bytes) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
        if bytes.is_empty() {
            continue;
        }
        let text = compare::lossy(bytes);
        let lines: Vec<&str> = text.lines().collect();
        writeln!(out, "  {STRONG}{name}{STRONG:#}:")?;
        // What was printed last is nearest to what went wrong.
        let from = lines.len().saturating_sub(MOST_LINES);
        if from > 0 {
            writeln!(out, "    {QUIET}… {from} lines before{QUIET:#}")?;
        }
        for line in &lines[from..] {
            writeln!(out, "    {}", visible(line))?;
        }
    }
    Ok(())
}

/// A text as one line, and not of endless length.
pub(crate) fn visible(line: &str) -> String {
    const LONGEST: usize = 400;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => {
            let more = line[end..].chars().count();
            format!("{}… {more} more characters", one_line(&line[..end]))
        }
        None => one_line(line),
    }
}
