//! New outputs → edits of a page, by byte range: nothing outside the ranges changes.
//!
//! What an edit may touch is what `verify` owns on a page: the lines that a transcript or a console block
//! expects, runs of `#>`, and the block of output below an example.

use std::ops::Range;

use crate::compare;
use crate::example::{self, Example, Kind};
use crate::markdown::{self, Block};
use crate::outcome::Outcome;
use crate::recording::{Expected, Recording};
use crate::verdict::{self, StepFailure};

/// Bytes of a page, and what replaces them.
pub type Edit = (Range<usize>, String);

/// Edits that make a transcript, a console block or comments with values say what the steps did.
pub fn steps(page: &str, example: &Example, failures: &[StepFailure]) -> Vec<Edit> {
    failures
        .iter()
        .filter_map(|failure| {
            let (lines, indent, text) = match &example.kind {
                Kind::Transcript(statements) => {
                    let statement = statements
                        .iter()
                        .find(|statement| statement.line == failure.line)?;
                    (
                        statement.want_lines.clone(),
                        statement.indent,
                        failure.actual.clone(),
                    )
                }
                Kind::Console(commands) => {
                    let command = commands
                        .iter()
                        .find(|command| command.line == failure.line)?;
                    (command.expected_lines.clone(), 0, failure.actual.clone())
                }
                Kind::Module(comments) => {
                    let claim = comments
                        .values
                        .iter()
                        .find(|(line, _)| *line == failure.line);
                    return claim.and_then(|(line, claimed)| {
                        value(page, &example.block, (*line, claimed), &failure.actual)
                    });
                }
                Kind::File(_) => return None,
            };
            Some(replace_lines(
                page,
                example,
                &lines,
                &" ".repeat(indent),
                &text,
            ))
        })
        .collect()
}

/// The edit that makes a comment behind an expression claim another value, if a comment can.
fn value(page: &str, block: &Block, (line, claimed): (usize, &str), actual: &str) -> Option<Edit> {
    let actual = actual.strip_suffix('\n').unwrap_or(actual);
    let code = block.code.lines().nth(line - 1)?.trim_end();
    let before = code.strip_suffix(claimed)?;
    // Behind an arrow anything is a claim, else only a literal.
    let new = ["", "=> "]
        .map(|arrow| format!("{arrow}{actual}"))
        .into_iter()
        .filter(|new| !new.contains(['\n', '\r']))
        .find(|new| example::claimed_value(&format!("{before}{new}")) == Some(actual))?;
    let range = block.code_lines.get(line - 1)?;
    let end = range.start + page[range.clone()].trim_end().len();
    let start = end.checked_sub(claimed.len())?;
    (page.get(start..end) == Some(claimed)).then_some((start..end, new))
}

/// Edits that make the runs of `#>` in a file say what the steps between them printed.
pub fn printed(page: &str, example: &Example, outcome: &Outcome) -> Vec<Edit> {
    let Kind::Module(comments) = &example.kind else {
        return Vec::new();
    };
    // Only runs at the margin can be told apart by their steps.
    if comments.printed.iter().any(|run| !run.indent.is_empty()) {
        return Vec::new();
    }
    comments
        .printed
        .iter()
        .zip(&outcome.steps)
        .map(|(run, step)| {
            let text: String = compare::lossy(outcome.printed_by(step))
                .lines()
                .map(|line| {
                    if line.is_empty() {
                        "#>\n".to_owned()
                    } else {
                        format!("#> {line}\n")
                    }
                })
                .collect();
            replace_lines(page, example, &run.lines, "", &text)
        })
        .collect()
}

/// The edit that makes the block of output that somebody put below an example show what is expected of it.
pub fn shown(page: &str, example: &Example, expected: &Expected) -> Option<Edit> {
    let shown = example.output.as_ref()?;
    let text = verdict::block_text(expected).unwrap_or_default();
    let block = fence(page, &shown.prefix, info(shown), &text);
    Some((shown.span.clone(), block))
}

/// Edits that correct the blocks of output that stand below these examples, on a page that carries no others.
pub fn corrections<'e>(
    page: &str,
    examples: impl Iterator<Item = &'e Example>,
    recording: &Recording,
) -> Vec<Edit> {
    examples
        .filter(|example| matches!(example.kind, Kind::Module(_)))
        .filter_map(|example| {
            let recorded = recording.entry(&example.id)?;
            if verdict::shows(example, &recorded.expected) {
                return None;
            }
            shown(page, example, &recorded.expected)
        })
        .collect()
}

/// Replaces lines of a block; an empty range inserts before its start.
fn replace_lines(
    page: &str,
    example: &Example,
    lines: &Range<usize>,
    indent: &str,
    text: &str,
) -> (Range<usize>, String) {
    let block = &example.block;
    let line_end = line_end(page);
    let mut new = String::new();
    for line in text.lines() {
        new.push_str(&block.prefix);
        if !line.is_empty() {
            new.push_str(indent);
            new.push_str(line);
        }
        new.push_str(line_end);
    }
    // Whole lines of the page, from the start of the first to the end of the last with its line end.
    let start_of = |line: usize| match block.code_lines.get(line - 1) {
        Some(range) => markdown::line_start(page, range.start),
        None => {
            let last = block.code_lines.last();
            markdown::next_line(page, last.map_or(block.span.start, |range| range.end))
        }
    };
    let range = start_of(lines.start)..start_of(lines.end).max(start_of(lines.start));
    // An indented block may be the end of a page whose last line nothing ends.
    if range.end == page.len() && !page.ends_with(['\n', '\r']) {
        let unended = new.strip_suffix(line_end).unwrap_or(&new).len();
        new.truncate(unended);
        if range.is_empty() {
            new.insert_str(0, line_end);
        }
    }
    (range, new)
}

/// Edits that put the recorded output below each example of a page, and nothing below those that print nothing.
/// What `is_settled` does not name by its position, nobody has seen to print nothing: what its author shows stays.
pub fn outputs(
    page: &str,
    examples: &[Example],
    recording: &Recording,
    is_settled: &dyn Fn(usize) -> bool,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (position, example) in examples.iter().enumerate() {
        if !matches!(example.kind, Kind::Module(_))
            || example.attributes.hidden && example.output.is_none()
        {
            continue;
        }
        let recorded = recording.entry(&example.id);
        let text = recorded.and_then(|recorded| verdict::page_text(&recorded.expected));
        let line_end = line_end(page);
        match (&example.output, text) {
            (Some(shown), Some(text)) if shown.code == text => {}
            (Some(shown), Some(text)) => {
                edits.push((
                    shown.span.clone(),
                    fence(page, &shown.prefix, info(shown), &text),
                ));
            }
            (Some(shown), None) if is_settled(position) => {
                edits.push((
                    end_of_words_above(page, example, shown)..shown.span.end,
                    String::new(),
                ));
            }
            (None, Some(text)) => {
                let prefix = &example.block.prefix;
                let at = example.block.span.end;
                let blank = prefix.trim_end();
                let block = fence(page, prefix, "output", &text);
                edits.push((
                    at..at,
                    format!("{line_end}{blank}{line_end}{prefix}{block}"),
                ));
            }
            (_, None) => {}
        }
    }
    edits
}

/// Where the part of a page begins that goes with a block of output: the blank line that set it off, and the comment
/// that makes it one. What its author wrote between the example and that comment stays.
fn end_of_words_above(page: &str, example: &Example, shown: &Block) -> usize {
    let start = example.block.span.end;
    let between = &page[start..shown.span.start];
    let words = between
        .rfind(example::EXPECTED_OUTPUT)
        .and_then(|mark| between[..mark].rfind("<!--"))
        .map_or("", |mark| &between[..mark]);
    let is_blank = words.chars().all(|c| c.is_whitespace() || c == '>');
    start + if is_blank { 0 } else { words.trim_end().len() }
}

/// The page with `edits` made and those that `outputs` finds in it, as [`outputs`] or [`corrections`] do. `None` if
/// it would not read back as that: where an example stands, an output may end a list or become part of something
/// else.
pub fn settled(
    page: &str,
    examples: &[Example],
    edits: &[Edit],
    outputs: &dyn Fn(&str, &[Example]) -> Vec<Edit>,
) -> Option<String> {
    let mut all = outputs(page, examples);
    all.extend(edits.iter().cloned());
    let text = apply(page, all);
    let (again, problems) = example::read(&text, "");
    let is_edited = |example: &Example| {
        let own = example.block.span.start..=markdown::next_line(page, example.block.span.end);
        edits.iter().any(|(range, _)| own.contains(&range.start))
    };
    let is_same = |(before, after): (&Example, &Example)| {
        before.source() == after.source() || is_edited(before)
    };
    let same =
        again.examples.len() == examples.len() && examples.iter().zip(&again.examples).all(is_same);
    // Ids may come from the page's name, which nothing here knows.
    let named: Vec<Example> = again
        .examples
        .into_iter()
        .zip(examples)
        .map(|(example, before)| Example {
            id: before.id.clone(),
            ..example
        })
        .collect();
    let is_settled = same && problems.is_empty() && outputs(&text, &named).is_empty();
    is_settled.then_some(text)
}

/// The words behind an output's fence, which may be another tool's.
fn info(shown: &Block) -> &str {
    shown.info.as_deref().unwrap_or("output")
}

/// A fence for an output, from its first character to its last. The first line's prefix is the caller's.
fn fence(page: &str, prefix: &str, info: &str, text: &str) -> String {
    let line_end = line_end(page);
    // Words with a back-tick cannot stand behind back-ticks.
    let mark = if info.contains('`') { '~' } else { '`' };
    let longest = text
        .lines()
        .map(|line| line.trim_start().chars().take_while(|&c| c == mark).count())
        .max()
        .unwrap_or(0);
    let marks = mark.to_string().repeat(longest.max(2) + 1);
    let mut block = format!("{marks}{info}{line_end}");
    for line in text.split_inclusive('\n') {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let start = if line.is_empty() {
            prefix.trim_end()
        } else {
            prefix
        };
        block.push_str(&format!("{start}{line}{line_end}"));
    }
    block.push_str(&format!("{prefix}{marks}"));
    block
}

/// The line end that a page uses.
fn line_end(page: &str) -> &'static str {
    match page.find(['\n', '\r']) {
        Some(at) if page[at..].starts_with("\r\n") => "\r\n",
        Some(at) if page[at..].starts_with('\r') => "\r",
        _ => "\n",
    }
}

/// Applies edits, which must not overlap; everything outside their ranges keeps its bytes.
pub fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut out = String::with_capacity(text.len());
    let mut position = 0;
    for (range, new) in edits {
        debug_assert!(range.start >= position, "edits overlap");
        out.push_str(&text[position..range.start]);
        out.push_str(&new);
        position = range.end;
    }
    out.push_str(&text[position..]);
    out
}
