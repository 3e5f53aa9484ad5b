//! Whether an example does the same on every run: it is run again under other conditions, and what makes
//! it differ is found by varying one thing at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::SystemTime;

use anyhow::Result;

use crate::book::{At, Book, Page};
use crate::check::{Results, SessionPlan};
use crate::conditions::{Conditions, Factor};
use crate::diagnose::{self, Cause, Diagnosis, Reason};
use crate::example::Example;
use crate::normalize::{Context, Rule, apply_bytes};
use crate::outcome::{Ending, Outcome};
use crate::report::ExampleResult;
use crate::verdict::Verdict;

/// What examples did in one run.
#[derive(Debug)]
pub struct Proof {
    pub examples: HashMap<At, Seen>,
    /// When it was.
    pub span: Range<SystemTime>,
}

#[derive(Debug)]
pub struct Seen {
    pub outcome: Outcome,
    pub context: Context,
    pub verdict: Verdict,
}

/// Runs sessions again.
pub type Again<'r> = dyn FnMut(&[SessionPlan], &Conditions) -> Result<Proof> + 'r;

/// Why a run of an example is not as its first; `None` where it is.
pub type Differs<'d> = dyn Fn(At, &Proof) -> Option<Reason> + 'd;

impl Proof {
    pub fn of(results: &Results<'_>) -> Proof {
        let seen = |result: &ExampleResult<'_>| {
            let seen = Seen {
                outcome: result.outcome.clone()?,
                context: Context::clone(&results.contexts[&result.at]),
                verdict: result.verdict.clone(),
            };
            Some((result.at, seen))
        };
        let all = results.pages.iter().flat_map(|page| &page.examples);
        Proof {
            examples: all.filter_map(seen).collect(),
            span: results.span.clone(),
        }
    }
}

/// What two runs of an example have in common, as far as anybody compares it; `None` where that is all.
/// `same` says whether two texts are.
pub fn difference(
    rules: &[Rule],
    first: (&Outcome, &Context),
    second: (&Outcome, &Context),
    same: &dyn Fn(&[u8], &[u8]) -> bool,
) -> Option<Diagnosis> {
    let pairs = [
        (rules, exception_bytes(first.0), exception_bytes(second.0)),
        (rules, first.0.stdout.clone(), second.0.stdout.clone()),
        (rules, first.0.stderr.clone(), second.0.stderr.clone()),
        // Rules are for what is printed.
        (&[], value_bytes(first.0), value_bytes(second.0)),
    ];
    pairs.iter().find_map(|(rules, one, other)| {
        let one = apply_bytes(rules, one, first.1);
        let other = apply_bytes(rules, other, second.1);
        (!same(&one, &other)).then(|| diagnose::diagnose_bytes(&one, &other, first.1, second.1))
    })
}

/// Runs sessions many times, each time under another mixture of conditions, and finds the examples that
/// passed their first run by luck: with each the number of the run that showed it. A session in which one
/// is found is left out from then on.
pub fn shake(
    runs: u32,
    portable: bool,
    book: &Book,
    plans: &[SessionPlan],
    first: &Proof,
    again: &mut Again<'_>,
) -> Result<BTreeMap<At, (u32, Reason)>> {
    let is_good = |(_, seen): &(&At, &Seen)| !seen.verdict.is_failure();
    let mut open: BTreeSet<At> = first
        .examples
        .iter()
        .filter(is_good)
        .map(|(&at, _)| at)
        .collect();
    let differs = |at: At, proof: &Proof| {
        // One that is not reached is blocked by another, which is named itself.
        let seen = proof.examples.get(&at)?;
        if !seen.verdict.is_failure() {
            return None;
        }
        let before = &first.examples[&at];
        let page = &book.pages[at.0];
        let rules = &page.examples[at.1].attributes.normalize;
        // What was cut off lacks the rest of its output, which says nothing of the cause.
        if let Some(how) = cut_off(&seen.outcome.ending) {
            return Some(Reason::FailedAgain(how));
        }
        let difference = difference(
            rules,
            (&before.outcome, &before.context),
            (&seen.outcome, &seen.context),
            &|one, other| one == other,
        );
        Some(difference.map_or_else(
            || Reason::FailedAgain("it failed when it was run again".to_owned()),
            |diagnosis| Reason::Unstable(Box::new(diagnosis.in_words_of(sources(page, at.1)))),
        ))
    };
    let mut found = BTreeMap::new();
    for run in 1..=runs {
        let sessions = sessions_of(plans, &open);
        if sessions.is_empty() {
            break;
        }
        let conditions = Conditions::mixed(run, portable);
        let proof = again(&sessions, &conditions)?;
        let unlucky = causes(
            suspects(&open, &proof, &differs),
            &proof,
            &sessions,
            &conditions,
            &first.span,
            again,
            &differs,
        )?;
        for plan in &sessions {
            let of_session: Vec<At> = plan.examples.iter().map(|&at| (plan.page, at)).collect();
            if of_session.iter().any(|at| unlucky.contains_key(at)) {
                open.retain(|at| !of_session.contains(at));
            }
        }
        found.extend(unlucky.into_iter().map(|(at, reason)| (at, (run, reason))));
    }
    Ok(found)
}

/// The source of an example, and of those before it on its page, the nearest first.
pub fn sources(page: &Page, position: usize) -> impl Iterator<Item = &str> {
    page.examples[..=position].iter().rev().map(Example::source)
}

/// How an example was kept from coming to its end.
fn cut_off(ending: &Ending) -> Option<String> {
    match ending {
        Ending::TimedOut { limit } => Some(format!(
            "it was still running after {}s",
            limit.as_secs_f64()
        )),
        Ending::TooMuch { .. } => Some("it ran into one of its limits".to_owned()),
        Ending::Killed { signal } => Some(format!("it was killed by signal {signal}")),
        Ending::Lost { reason } => Some(format!("no result arrived: {reason}")),
        Ending::Completed | Ending::Raised(_) | Ending::Exited { .. } => None,
    }
}

fn exception_bytes(outcome: &Outcome) -> Vec<u8> {
    match &outcome.ending {
        Ending::Raised(exception) => exception.text().into_bytes(),
        _ => Vec::new(),
    }
}

/// What expressions with a comment behind them gave.
fn value_bytes(outcome: &Outcome) -> Vec<u8> {
    let values = outcome.steps.iter().flat_map(|step| &step.values);
    let lines: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
    lines.join("\n").into_bytes()
}

/// The examples that are not as in their first run.
pub fn suspects(open: &BTreeSet<At>, proof: &Proof, differs: &Differs<'_>) -> BTreeSet<At> {
    let is_suspect = |&at: &At| differs(at, proof).is_some();
    open.iter().copied().filter(is_suspect).collect()
}

/// The sessions that have one of these examples.
pub fn sessions_of(plans: &[SessionPlan], examples: &BTreeSet<At>) -> Vec<SessionPlan> {
    let has_one = |plan: &&SessionPlan| {
        let is_one = |&at: &usize| examples.contains(&(plan.page, at));
        plan.examples.iter().any(is_one)
    };
    plans.iter().filter(has_one).cloned().collect()
}

/// How often an example has to do the same with nothing varied before what was varied is blamed.
const MORE_RUNS: usize = 4;

/// Finds out why examples differed in `proof`, which was made under `conditions`: by themselves, or by one
/// of the things that were varied. What is not in the answer may differ so: it depends on something that
/// every session has the same, or on what only the experiment changed.
pub fn causes(
    suspects: BTreeSet<At>,
    proof: &Proof,
    plans: &[SessionPlan],
    conditions: &Conditions,
    first: &Range<SystemTime>,
    again: &mut Again<'_>,
    differs: &Differs<'_>,
) -> Result<BTreeMap<At, Reason>> {
    let mut found = BTreeMap::new();
    let mut open = suspects;
    if open.is_empty() {
        return Ok(found);
    }
    let plain = again(&sessions_of(plans, &open), &Conditions::default())?;
    found.extend(
        open.iter()
            .filter_map(|&at| Some((at, differs(at, &plain)?))),
    );
    open.retain(|at| !found.contains_key(at));
    let (mut tolerated, mut blamed) = (BTreeSet::new(), BTreeSet::new());
    for &factor in &conditions.varied {
        if open.is_empty() {
            break;
        }
        let alone = again(&sessions_of(plans, &open), &conditions.only(factor))?;
        for &at in &open {
            match differs(at, &alone) {
                None => {}
                Some(reason) if is_artificial(factor, &reason, first, &alone.span) => {
                    tolerated.insert(at);
                }
                Some(reason) => {
                    found.insert(at, because_of(factor, reason));
                    blamed.insert(at);
                }
            }
        }
        open.retain(|at| !found.contains_key(at));
    }
    // What varies by itself now and then may have agreed in one run with nothing varied, and not in the next.
    for _ in 0..MORE_RUNS {
        if blamed.is_empty() {
            break;
        }
        let plain = again(&sessions_of(plans, &blamed), &Conditions::default())?;
        blamed.retain(|&at| match differs(at, &plain) {
            Some(reason) => {
                found.insert(at, reason);
                false
            }
            None => true,
        });
    }
    tolerated.retain(|at| open.contains(at));
    // What nothing alone brings out varies now and then, or by several things together.
    let mut real = conditions.clone();
    real.varied
        .retain(|factor| !matches!(factor, Factor::FileSystem | Factor::Clock));
    let rest = if tolerated.is_empty() {
        None
    } else {
        Some(again(&sessions_of(plans, &tolerated), &real)?)
    };
    for at in open {
        let once_more = rest.as_ref().filter(|_| tolerated.contains(&at));
        let reason = differs(at, once_more.unwrap_or(proof));
        found.extend(reason.map(|reason| (at, reason)));
    }
    Ok(found)
}

/// Whether a difference says nothing of other machines: another file system may lack what a session
/// usually has, so that only another order counts; and a zone a day ahead shifts fixed dates as well as
/// today's.
fn is_artificial(
    factor: Factor,
    reason: &Reason,
    first: &Range<SystemTime>,
    second: &Range<SystemTime>,
) -> bool {
    match (factor, reason) {
        (Factor::FileSystem | Factor::Clock, Reason::FailedAgain(_)) => true,
        (Factor::FileSystem, Reason::Unstable(diagnosis)) => !matches!(
            diagnosis.cause,
            Cause::SetOrder | Cause::ItemOrder | Cause::LineOrder
        ),
        (Factor::Clock, Reason::Unstable(diagnosis)) => {
            !diagnose::shows_the_clock(&diagnosis.lines, first, second)
        }
        _ => false,
    }
}

fn because_of(factor: Factor, reason: Reason) -> Reason {
    match reason {
        Reason::Unstable(diagnosis) => Reason::Unstable(Box::new(diagnosis.because_of(factor))),
        Reason::FailedAgain(what) => {
            Reason::FailedAgain(format!("{what}, with {}", factor.words()))
        }
    }
}
