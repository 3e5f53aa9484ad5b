//! What must hold of any text whatsoever: laws that panic where one is broken. The property tests beside
//! this file and the fuzz targets in `fuzz/` both call them.

use std::ops::Range;

use verify::example::{self, Example, Kind};
use verify::markdown;
use verify::outcome::{Ending, Outcome, StepOutcome};
use verify::recording::{self, Expected, Recorded, Recording};
use verify::rewrite::{self, Edit};
use verify::verdict::StepFailure;

/// Finding examples never panics, and every offset that it gives slices the page where it says.
pub(crate) fn extracting(page: &str) {
    let (found, problems) = example::read(page, "page");
    let lines = line_of(page, page.len());
    for problem in &problems {
        assert!(
            (1..=lines).contains(&problem.line),
            "a problem on line {} of {lines}: {}",
            problem.line,
            problem.message
        );
    }
    let mut end = 0;
    for example in &found.examples {
        let block = &example.block;
        assert!(block.closed, "an open fence became an example");
        assert!(end <= block.span.start, "blocks overlap or go backwards");
        end = block.span.end;
        block_is_in_place(page, block, example.source());
        inner_lines_are_in_place(example);
        if let Some(output) = &example.output {
            assert!(end <= output.span.start, "an output above its example");
            block_is_in_place(page, output, &output.code);
        }
    }
    if let Some(other) = found.others.iter().find(|other| other.line > lines) {
        panic!("a block on line {} of {lines}", other.line);
    }
}

fn block_is_in_place(page: &str, block: &verify::markdown::Block, code: &str) {
    slice(page, &block.span);
    assert_eq!(block.line, line_of(page, block.span.start));
    assert_eq!(block.code_lines.len(), code.split_inclusive('\n').count());
    for (range, line) in block.code_lines.iter().zip(code.split('\n')) {
        let written = slice(page, range);
        // A tab that reaches into the code from its list's indentation, NUL and lone carriage returns are
        // not in the code as they are in the page.
        if written.contains(['\t', '\0', '\r']) {
            continue;
        }
        assert_eq!(written.trim_start(), line.trim_start());
    }
}

/// Lines within an example are within it.
fn inner_lines_are_in_place(example: &Example) {
    let count = example.source().lines().count();
    let inside = |lines: &Range<usize>| {
        assert!(
            1 <= lines.start && lines.start <= lines.end && lines.end <= count + 1,
            "{lines:?} of {count} lines"
        );
    };
    match &example.kind {
        Kind::Module(comments) => {
            for run in &comments.printed {
                inside(&run.lines);
            }
            for (line, _) in &comments.values {
                inside(&(*line..line + 1));
            }
        }
        Kind::Transcript(statements) => {
            for statement in statements {
                inside(&(statement.line..statement.line + 1));
                inside(&statement.want_lines);
            }
        }
        Kind::Console(commands) => {
            for command in commands {
                inside(&(command.line..command.line + 1));
                inside(&command.expected_lines);
            }
        }
        Kind::File(_) => {}
    }
}

fn slice<'p>(page: &'p str, range: &Range<usize>) -> &'p str {
    page.get(range.clone())
        .unwrap_or_else(|| panic!("{range:?} does not slice a page of {} bytes", page.len()))
}

fn line_of(page: &str, offset: usize) -> usize {
    let ends = page[..offset].replace("\r\n", "\n");
    // Between the two halves of one line end no line begins.
    let half = page[offset..].starts_with('\n') && ends.ends_with('\r');
    ends.matches(['\n', '\r']).count() + 1 - usize::from(half)
}

/// Reading a recording never panics, and what can be read is printed such that it reads the same.
pub(crate) fn recordings(text: &str) {
    let Ok(recording) = recording::parse(text) else {
        return;
    };
    let printed = recording::print(&recording);
    match recording::parse(&printed) {
        Ok(again) => assert_eq!(again, recording, "\n{printed}"),
        Err(problem) => panic!("{problem}\n{printed}"),
    }
}

/// Putting an output into a page touches nothing but the lines that `verify` owns, and is refused unless the
/// page then reads back with the same examples; doing it twice changes nothing.
pub(crate) fn rewriting(page: &str, output: &str) {
    let (found, problems) = example::read(page, "page");
    if !problems.is_empty() {
        return;
    }
    for example in &found.examples {
        edits_stay_inside(page, example, output);
    }
    let recording = Recording {
        examples: found
            .examples
            .iter()
            .map(|example| Recorded {
                id: example.id.clone(),
                expected: Expected {
                    stdout: output.into(),
                    ..Expected::default()
                },
                ..Recorded::default()
            })
            .collect(),
    };
    let edits = rewrite::outputs(page, &found.examples, &recording, &|_| true);
    for (range, _) in &edits {
        slice(page, range);
        let owner = found.examples.iter().find(|example| {
            let end = example.block.span.end;
            let owned = end..example.output.as_ref().map_or(end, |shown| shown.span.end);
            owned.start <= range.start && range.end <= owned.end
        });
        assert!(owner.is_some(), "{range:?} belongs to no example");
    }
    let rewritten = rewrite::apply(page, edits.clone());
    others_are_untouched(page, &rewritten, &edits);
    let outputs =
        |page: &str, examples: &[Example]| rewrite::outputs(page, examples, &recording, &|_| true);
    let Some(settled) = rewrite::settled(page, &found.examples, &[], &outputs) else {
        return;
    };
    assert_eq!(settled, rewritten);
    let (again, _) = example::read(&rewritten, "page");
    let again = rewrite::settled(&rewritten, &again.examples, &[], &outputs);
    assert_eq!(
        again.as_ref(),
        Some(&rewritten),
        "a second time changes something"
    );
}

/// What stands in a block is rewritten within the block, and the output below it within its own.
fn edits_stay_inside(page: &str, example: &Example, output: &str) {
    let outcome = Outcome {
        stdout: output.into(),
        stderr: Vec::new(),
        ending: Ending::Completed,
        steps: vec![
            StepOutcome {
                stdout: 0..output.len(),
                ..StepOutcome::default()
            };
            3
        ],
        artifacts: Vec::new(),
        duration: std::time::Duration::ZERO,
    };
    let failure = |line| StepFailure {
        line,
        source: String::new(),
        expected: String::new(),
        actual: output.to_owned(),
    };
    let failures: Vec<StepFailure> = match &example.kind {
        Kind::Transcript(statements) => statements.iter().map(|s| failure(s.line)).collect(),
        Kind::Console(commands) => commands.iter().map(|c| failure(c.line)).collect(),
        Kind::Module(_) | Kind::File(_) => Vec::new(),
    };
    let mut edits = rewrite::steps(page, example, &failures);
    edits.extend(rewrite::printed(page, example, &outcome));
    for (range, _) in &edits {
        slice(page, range);
        let block = &example.block;
        let span = &block.span;
        let owned = if block.info.is_some() {
            markdown::next_line(page, span.start)..span.end
        } else {
            // It has whole lines, and goes on behind the end of the last.
            markdown::line_start(page, span.start)..markdown::next_line(page, span.end)
        };
        assert!(
            owned.start <= range.start && range.end <= owned.end,
            "{range:?} reaches out of {owned:?}"
        );
    }
    others_are_untouched(page, &rewrite::apply(page, edits.clone()), &edits);
    let expected = Expected {
        stdout: output.into(),
        ..Expected::default()
    };
    if let (Some((range, _)), Some(shown)) =
        (rewrite::shown(page, example, &expected), &example.output)
    {
        assert_eq!(range, shown.span);
    }
}

/// The bytes of the page outside the edits' ranges are those of the rewritten page, in order.
fn others_are_untouched(page: &str, rewritten: &str, edits: &[Edit]) {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut rest, mut position) = (rewritten, 0);
    for (range, new) in edits {
        assert!(position <= range.start, "edits overlap at {range:?}");
        rest = rest
            .strip_prefix(&page[position..range.start])
            .and_then(|rest| rest.strip_prefix(new.as_str()))
            .unwrap_or_else(|| panic!("bytes before {range:?} have changed"));
        position = range.end;
    }
    assert_eq!(rest, &page[position..], "the end has changed");
}
