//! What is to be changed in an example's own blocks, and whether they would then say what it did.

use super::Candidate;
use crate::book::Page;
use crate::compare;
use crate::config::{Config, Output};
use crate::diagnose::Reason;
use crate::example::{self, Example, Kind};
use crate::normalize;
use crate::outcome::Outcome;
use crate::recording::Expected;
use crate::rewrite::{self, Edit};
use crate::verdict::{self, Failure, Terms, Verdict};

/// Whether what an example does is recorded: transcripts, consoles and code with `#>` say it themselves.
pub(super) fn is_recorded(page: &Page, example: &Example) -> bool {
    page.recording.is_some()
        && matches!(&example.kind, Kind::Module(comments) if comments.printed.is_empty())
}

/// Whether `record` keeps a block of output below each example of this page.
pub(super) fn carries_output(page: &Page, config: &Config) -> bool {
    config.output == Output::Page && page.recording.is_some()
}

/// Whether the page with these edits would be green: not every output can be written into a transcript,
/// and one with a fence in it would end its own block.
pub(super) fn says_what_happened(edits: &[Edit], said: Option<&Verdict>) -> bool {
    // Python reads no source with a NUL in it, though the page would show what happened.
    let is_source = edits.iter().all(|(_, text)| !text.contains('\0'));
    is_source && said.is_some_and(|verdict| !verdict.is_failure())
}

/// What would be said of an example on the page with these edits; `None` where it would be another page.
pub(super) fn with_edits(
    config: &Config,
    page: &Page,
    position: usize,
    edits: &[Edit],
    candidate: &Candidate,
) -> Option<Verdict> {
    let (mut found, _) = example::read(&rewrite::apply(&page.text, edits.to_vec()), "");
    if let Some(example) = found.examples.get_mut(position)
        && (is_recorded(page, example) || carries_output(page, config))
    {
        // The block of output below it will show the recording, which is not compared here.
        example.output = None;
    }
    let terms = Terms {
        recorded: None,
        base: None,
        must_be_recorded: false,
        carries_output: false,
        doctest: config.doctest,
        context: &candidate.context,
    };
    (found.examples.len() == page.examples.len())
        .then(|| verdict::judge(&found.examples[position], &candidate.outcome, &terms))
}

/// Why a block is not edited, with the step that even then would not say what happened, if one alone can be named.
pub(super) fn unable(with_edits: Option<Verdict>) -> Reason {
    let step = match with_edits {
        Some(Verdict::Failed(Failure::Steps(steps))) => steps.into_iter().next(),
        _ => None,
    };
    let source = step.and_then(|step| Some(format!("`{}`", step.source.lines().next()?)));
    let what = source.as_deref().unwrap_or("it");
    Reason::FailedAgain(format!(
        "the block cannot hold what {what} printed; print it in another way, such as by `repr(…)`"
    ))
}

/// Edits that make the blocks of an example that is not as expected say what it did; `None` where it is not for
/// them to say.
pub(super) fn block_edits(
    page: &Page,
    example: &Example,
    outcome: &Outcome,
    verdict: &Verdict,
    config: &Config,
) -> Option<Vec<Edit>> {
    let mut edits = match verdict {
        Verdict::Failed(Failure::Steps(failures)) => rewrite::steps(&page.text, example, failures),
        Verdict::Unrecorded | Verdict::Failed(Failure::Differs(_))
            if !is_recorded(page, example) =>
        {
            Vec::new()
        }
        _ => return None,
    };
    let Kind::Module(comments) = &example.kind else {
        return Some(edits);
    };
    if let Verdict::Failed(Failure::Steps(failures)) = verdict
        && let Some(first) = comments.printed.first()
        && failures
            .iter()
            .any(|failure| failure.line == first.lines.start)
    {
        edits.extend(rewrite::printed(&page.text, example, outcome));
    }
    if !is_recorded(page, example) && !carries_output(page, config) {
        let rules = &example.attributes.normalize;
        let stdout = Expected {
            stdout: compare::observed(outcome, rules, &normalize::Context::default()).stdout,
            ..Expected::default()
        };
        if !verdict::shows(example, &stdout) {
            edits.extend(rewrite::shown(&page.text, example, &stdout));
        }
    }
    Some(edits)
}
