//! What a session did last time, and how far that holds: what has not changed since is recalled, and not run.

use anyhow::Result;

use super::session::Session;
use crate::outcome::Outcome;
use crate::report::Rerun;
use crate::trace::{Step, Trace};

pub(super) struct Past {
    trace: Trace,
    /// What the run of each example depends on besides those before it.
    inputs: Vec<Vec<u8>>,
    /// How many files the examples up to each one are saved as.
    saved: Vec<usize>,
    /// The first step that is not as it was.
    changed: usize,
    /// How many of the first steps are not run.
    holding: usize,
    /// Steps run from now on.
    is_over: bool,
    /// Why more has to run than from the first step that changed.
    reason: Option<String>,
}

impl Past {
    /// Looks up how much of what the session did last time holds.
    pub(super) fn of(trace: Trace, session: &mut Session<'_, '_>) -> Past {
        let (inputs, saved) = session.rehearse();
        let changed = trace.holds_for(&inputs);
        let read = trace.reads.changed();
        Past {
            // Which example has read it, nobody knows.
            holding: if read.is_some() { 0 } else { changed },
            reason: read.map(|path| format!("`{}` has changed", path.display())),
            trace,
            inputs,
            saved,
            changed,
            is_over: false,
        }
    }

    /// How much of the session ran this time.
    pub(super) fn rerun(&self) -> Rerun {
        let ran = |steps: &[Step]| steps.iter().filter(|step| step.outcome.is_some()).count();
        let steps = &self.trace.steps;
        Rerun {
            ran: ran(&steps[self.holding.min(steps.len())..]),
            of: ran(steps),
            reason: self.reason.clone(),
        }
    }

    pub(super) fn into_trace(self) -> Trace {
        self.trace
    }

    /// Whether what the session does now is what it did last time.
    pub(super) fn repeats(&self) -> bool {
        !self.is_over
    }

    /// Whether this is the first step that has to run: what the session did last time holds no further.
    pub(super) fn ends_before(&self, step: usize) -> bool {
        self.repeats() && step == self.holding
    }

    /// Takes the session to where it was before this step, or before an earlier one; returns which it is.
    pub(super) fn go_back(&mut self, session: &mut Session<'_, '_>, step: usize) -> Result<usize> {
        self.is_over = true;
        let running = self.trace.go_back(step)?;
        self.holding = self.trace.steps.len();
        if self.holding < step
            && let Some(gap) = &self.trace.gap
        {
            let before = session.example(gap.before.saturating_sub(1).min(step));
            self.reason = Some(format!(
                "no checkpoint behind `{}`: {}",
                before.id, gap.reason
            ));
        }
        let saved = self
            .holding
            .checked_sub(1)
            .map_or(0, |last| self.saved[last]);
        session.go_on(running, self.holding, saved)?;
        Ok(self.holding)
    }

    /// Does what one example asks for, and notes it; or finds out that it has been done. What is not run has its place
    /// in a trace all the same.
    pub(super) fn step(
        &mut self,
        session: &mut Session<'_, '_>,
        step: usize,
    ) -> Result<Option<Outcome>> {
        if self.repeats() {
            return Ok(self.trace.steps[step].outcome.clone());
        }
        let input = std::mem::take(&mut self.inputs[step]);
        let is_run = !input.is_empty();
        if is_run
            && self.trace.wants_mark(step == self.changed)
            && let Some(running) = session.lend()
        {
            let marked = self.trace.mark(running, session.sources())?;
            session.take_back(marked);
        }
        let outcome = if is_run { session.run(step)? } else { None };
        if let Some(observed) = session.read_so_far() {
            self.trace.reads.note(observed);
        }
        if !session.was_stopped() {
            self.trace.steps.push(Step {
                input,
                outcome: outcome.clone(),
                ended: session.is_cut_off(),
            });
        }
        Ok(outcome)
    }

    /// Whether the interpreter ended with this step although more was to follow.
    pub(super) fn ended_with(&self, step: usize) -> bool {
        self.trace.steps.get(step).is_some_and(|step| step.ended)
    }
}
