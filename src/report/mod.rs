//! What happens during a run, as events, and who writes them down: one file per format.
//!
//! Running never prints. It sends events, pages in page order; a reporter turns them into its format on
//! any `io::Write`, and returns what could not be written as an error for the edge to deal with.

pub mod github;
pub mod human;
pub mod json;
pub mod junit;
mod plain;

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::book::{At, Page, Problem};
use crate::digest::Digest;
use crate::example::Example;
use crate::interpreter::Interpreter;
use crate::outcome::Outcome;
use crate::protocol::Protections;
use crate::verdict::{Failure, Verdict};

/// Hears of a run.
pub type Listener<'l> = dyn FnMut(&Event<'_>) -> io::Result<()> + Send + 'l;

/// Something that a reporter may want to tell.
#[derive(Debug)]
pub enum Event<'a> {
    /// Authors' mistakes; nothing was run.
    Problems(&'a [Problem]),
    /// A run on one interpreter begins.
    Started(&'a Started<'a>),
    /// A selected example has its verdict. Comes as soon as that is known, from the thread that ran it: sessions run
    /// side by side. Its page is the last word on it.
    Example(&'a Interpreter, &'a ExampleResult<'a>),
    /// All selected examples of a page have their verdicts; pages come in their order.
    Page(&'a PageResult<'a>),
    /// A page of this name was not looked into: all of it passed before, and nothing has changed. Only for
    /// reports that tell no more than counts of a page that passed.
    Unchanged(&'a str, &'a Summary),
    /// The run on one interpreter is over.
    Finished(&'a Finished<'a>),
}

#[derive(Debug)]
pub struct Started<'a> {
    pub interpreter: &'a Interpreter,
    pub pages: usize,
    /// Examples that are selected.
    pub examples: usize,
    /// What keeps examples from doing harm; `None` without a sandbox.
    pub protections: Option<&'a Protections>,
    /// This run is one part of several.
    pub shard: Option<&'a Shard>,
}

/// Which part of which plan a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 1.
    pub part: usize,
    pub of: usize,
    /// A digest of all sessions and their parts.
    pub plan: String,
    #[serde(default)]
    pub pages: Vec<PageText>,
}

/// A page of a shard, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageText {
    /// As [`Page::name`].
    pub page: String,
    /// A digest of it.
    pub text: String,
}

impl PageText {
    pub fn of(page: &Page) -> PageText {
        PageText {
            page: page.name.clone(),
            text: Digest::of(page.text.as_bytes()).short(),
        }
    }
}

#[derive(Debug)]
pub struct PageResult<'a> {
    pub page: &'a Page,
    /// Which page of the book it is.
    pub number: usize,
    pub interpreter: &'a Interpreter,
    /// In page order.
    pub examples: Vec<ExampleResult<'a>>,
    /// Its sessions, in page order.
    pub sessions: Vec<SessionNote<'a>>,
    /// How much of it ran, where what an earlier run found may hold.
    pub rerun: Option<Rerun>,
}

/// Why a session ran, or did not.
#[derive(Debug)]
pub struct SessionNote<'a> {
    /// Of the page, where its first example stands.
    pub line: usize,
    pub id: &'a str,
    pub why: String,
}

/// How many examples ran this time, of how many that run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rerun {
    pub ran: usize,
    pub of: usize,
    /// Why it was more than what had changed and what follows that.
    pub reason: Option<String>,
}

impl Rerun {
    pub fn add(&mut self, other: Rerun) {
        self.ran += other.ran;
        self.of += other.of;
        self.reason = other.reason.or(self.reason.take());
    }
}

#[derive(Debug)]
pub struct ExampleResult<'a> {
    pub at: At,
    pub page: &'a Page,
    pub example: &'a Example,
    pub verdict: Verdict,
    /// `None` where it was not run.
    pub outcome: Option<Outcome>,
    /// The exception's traceback with the lines of Markdown files, for a person.
    pub traceback: Option<String>,
    /// It was not run now: its session passed in an earlier run, and nothing has changed since.
    pub from_cache: bool,
}

#[derive(Debug)]
pub struct Finished<'a> {
    pub interpreter: &'a Interpreter,
    pub summary: Summary,
    /// Recordings, or entries of them, that no example belongs to: `path: id` or `path`.
    pub orphans: &'a [String],
    /// The run was stopped before all sessions were run.
    pub stopped_early: bool,
    pub sessions: usize,
    /// Sessions that were not run: their results are those of an earlier run.
    pub kept: usize,
    pub duration: Duration,
}

/// How many examples got each verdict. None is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub verified: usize,
    pub ran: usize,
    pub failed: usize,
    pub unrecorded: usize,
    pub blocked: usize,
    pub skipped: usize,
    pub illustrative: usize,
    /// Files for other examples: they have no verdict of their own.
    pub files: usize,
}

impl Summary {
    pub fn of(results: &[ExampleResult<'_>]) -> Summary {
        let mut summary = Summary::default();
        for result in results {
            summary.count(&result.verdict);
        }
        summary
    }

    pub fn count(&mut self, verdict: &Verdict) {
        *match verdict {
            Verdict::Verified => &mut self.verified,
            Verdict::Ran => &mut self.ran,
            Verdict::Failed(_) => &mut self.failed,
            Verdict::Unrecorded => &mut self.unrecorded,
            Verdict::Blocked { .. } => &mut self.blocked,
            Verdict::Skipped { .. } => &mut self.skipped,
            Verdict::Illustrative { .. } => &mut self.illustrative,
        } += 1;
    }

    pub fn add(&mut self, other: &Summary) {
        for (to, from) in self.all_mut().into_iter().zip(other.all()) {
            *to += from.1;
        }
    }

    /// Each count with its word, in the order in which they are shown.
    pub fn all(&self) -> [(&'static str, usize); 7] {
        [
            ("verified", self.verified),
            ("ran", self.ran),
            ("failed", self.failed),
            ("unrecorded", self.unrecorded),
            ("blocked", self.blocked),
            ("skipped", self.skipped),
            ("illustrative", self.illustrative),
        ]
    }

    fn all_mut(&mut self) -> [&mut usize; 7] {
        [
            &mut self.verified,
            &mut self.ran,
            &mut self.failed,
            &mut self.unrecorded,
            &mut self.blocked,
            &mut self.skipped,
            &mut self.illustrative,
        ]
    }

    pub fn total(&self) -> usize {
        self.all().iter().map(|(_, count)| count).sum()
    }

    pub fn failures(&self) -> usize {
        self.failed + self.unrecorded + self.blocked
    }
}

impl ExampleResult<'_> {
    /// Line of the page on which to point at a failure: of the first wrong step, of the innermost frame
    /// that is the example's own, or of the example.
    pub fn line(&self) -> usize {
        self.exact_line().unwrap_or(self.example.block.code_line)
    }

    /// The one line that is wrong; `None` where the example as a whole is.
    pub fn exact_line(&self) -> Option<usize> {
        match &self.verdict {
            Verdict::Failed(Failure::Steps(steps)) => steps
                .first()
                .map(|step| self.example.block.code_line + step.line - 1),
            Verdict::Failed(
                Failure::Raised(_) | Failure::RaisedOther { .. } | Failure::DoesNotParse(_),
            ) => self.own_frame(),
            _ => None,
        }
    }

    /// Line of the innermost frame of the traceback that is in this example.
    fn own_frame(&self) -> Option<usize> {
        let traceback = self.traceback.as_ref()?;
        let frame = format!("File \"{}\", line ", self.page.name);
        let block = &self.example.block;
        let own = block.code_line..block.code_line + block.code_lines.len();
        traceback
            .rsplit(&frame)
            .filter_map(|rest| {
                let digits = rest.find(|c: char| !c.is_ascii_digit())?;
                rest[..digits].parse().ok()
            })
            .find(|line| own.contains(line))
    }
}

/// One output format.
pub trait Reporter {
    fn event(&mut self, event: &Event<'_>, out: &mut dyn io::Write) -> io::Result<()>;

    /// A run begins whose start is not told, since who reads knows what runs. The one before may have been stopped.
    fn begin_again(&mut self) {}

    /// All runs are over: what can only be written whole is written now.
    fn finish(&mut self, _out: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::plain::sample;
    use super::*;

    #[test]
    fn a_failure_is_at_its_innermost_frame() {
        let page = sample::page("docs/page.md", 2);
        let line = page.examples[1].block.code_line;
        let at = |traceback: &str| {
            let mut result = sample::result(
                &page,
                1,
                Verdict::Failed(Failure::Raised(sample::exception())),
            );
            result.traceback = Some(traceback.to_owned());
            result.exact_line()
        };
        let own = format!("  File \"docs/page.md\", line {line}, in f\n    f()\n");
        assert_eq!(at(&own), Some(line));
        assert_eq!(
            at(&format!(
                "  | {own}  File \"/lib/json.py\", line 1, in loads\n"
            )),
            Some(line)
        );
        assert_eq!(
            at("  File \"docs/page.md\", line 4, in f\n"),
            None,
            "of another example"
        );
        assert_eq!(at(""), None);
    }
}
