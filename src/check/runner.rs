//! One session from its first example to its last: what is run of it, in which order, and what is said of it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use pep440_rs::Version;

use super::past::Past;
use super::session::Session;
use super::{Run, SessionPlan, Tell, is_judged};
use crate::attributes::Need;
use crate::cache::{Found, Ran, Why};
use crate::demand::Demand;
use crate::digest::Digest;
use crate::example::{Example, Kind};
use crate::host::{Host, Hosts, Running, Snapshot, is_filled};
use crate::normalize::Context;
use crate::protocol::Observed;
use crate::report::{Event, ExampleResult, Rerun};
use crate::scratch;
use crate::snapshots::Snapshots;
use crate::trace::{Trace, Traces};
use crate::verdict::{Failure, Verdict};

pub(super) struct Runner<'h, 'a> {
    pub(super) run: Run<'a>,
    pub(super) hosts: &'h Hosts<'a>,
    /// For sessions that look inside the interpreter.
    pub(super) bare: &'h Hosts<'a>,
    pub(super) snapshots: &'h Snapshots,
    pub(super) traces: Option<&'h Traces>,
    /// Whether it is likely that somebody edits what is run for the first time.
    pub(super) is_edited: bool,
    pub(super) tell: Tell<'h>,
    pub(super) version: Version,
    /// Processes of sessions that are to come, by the number of their job.
    pub(super) ready: Mutex<HashMap<usize, Ready>>,
}

/// A session's process that waits for its first example.
pub(super) struct Ready {
    host: Arc<Host>,
    directory: PathBuf,
    running: Running,
}

/// A session to run.
#[derive(Clone, Copy)]
pub(super) struct Job<'j> {
    pub(super) number: usize,
    pub(super) plan: &'j SessionPlan,
    pub(super) demand: &'j Demand<'j>,
    pub(super) found: Option<&'j Found>,
}

/// What a session gave: results of its selected examples, in page order.
pub(super) struct SessionResults<'a> {
    pub(super) results: Vec<ExampleResult<'a>>,
    pub(super) context: Context,
    /// Where traces are kept.
    pub(super) rerun: Option<Rerun>,
    pub(super) why: Why,
    pub(super) key: Option<Digest>,
    /// What is to be kept of it.
    pub(super) ran: Option<Ran>,
    pub(super) again: Option<Again>,
}

/// Why a session has to run again, on the same host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// What was imported for it is not what it would import.
    Untrue,
    /// The process that was made for it has died before it was needed.
    NeverBegan,
}

impl SessionResults<'_> {
    pub(super) fn failures(&self) -> usize {
        self.results
            .iter()
            .filter(|result| result.verdict.is_failure())
            .count()
    }
}

impl<'a> Runner<'_, 'a> {
    /// Runs one session from its first example to its last; again where nothing was imported for it, if what was
    /// is not what it would import; and again on a host of its own, if the one that it shared has died meanwhile.
    /// `None` if somebody stopped it.
    ///
    /// While it runs, the process of the `next` one is made if that is short: to wait for it then would leave a
    /// processor idle.
    pub(super) fn session(
        &self,
        job: &Job<'_>,
        next: Option<&Job<'_>>,
    ) -> Result<Option<SessionResults<'a>>> {
        if self.run.is_stopped() {
            return Ok(None);
        }
        if let Some(next) = next.filter(|_| self.traces.is_none()) {
            // What is wrong with it is told when it runs.
            let _ = self.make_ready(next);
        }
        let hosts = self.hosts_for(job.demand);
        let mut told = HashSet::new();
        let shared = hosts.shared()?;
        let key = self.key(job);
        let snapshot = self.snapshots.of(job.demand, &key);
        let ready = self.ready().remove(&job.number);
        let ready = ready.filter(|ready| Arc::ptr_eq(&ready.host, &shared));
        let ready = ready.and_then(|ready| Some((ready.directory, ready.running.awake()?)));
        // What an example did when its host died may not be its own doing.
        let mut tell = |result: &ExampleResult<'_>| {
            if shared.is_lost() || snapshot.is_some_and(Snapshot::is_lost) {
                return Ok(());
            }
            self.tell(result, job, &mut told)
        };
        let mut results = self.session_on_shared(hosts, &shared, (snapshot, ready), job, &mut tell);
        let again = results
            .as_ref()
            .ok()
            .and_then(|results| results.as_ref()?.again);
        if let Some(again) = again {
            let snapshot = match again {
                Again::NeverBegan => snapshot,
                Again::Untrue => {
                    self.snapshots.refuse(key);
                    None
                }
            };
            results = self.session_on_shared(hosts, &shared, (snapshot, None), job, &mut tell);
        }
        if !hosts.lost(&shared, snapshot) {
            return results;
        }
        drop(shared);
        let mut tell = |result: &ExampleResult<'_>| self.tell(result, job, &mut told);
        let ground = (&*hosts.own()?, None);
        self.session_on(ground, None, job, &mut None, &mut tell)
    }

    /// Starts the process of a session that begins with an example.
    fn make_ready(&self, job: &Job<'_>) -> Result<()> {
        if !job.demand.is_short {
            return Ok(());
        }
        let hosts = self.hosts_for(job.demand);
        let host = hosts.shared()?;
        if self.snapshots.of(job.demand, &self.key(job)).is_some() {
            // With a package it is not short.
            return Ok(());
        }
        let directory = host.directory();
        let session = Session::open(self, (&host, None), job.plan, &directory)?;
        if let Some(running) = session.begun()? {
            drop(session);
            let ready = Ready {
                host,
                directory,
                running,
            };
            self.ready().insert(job.number, ready);
        }
        Ok(())
    }

    fn hosts_for(&self, demand: &Demand<'_>) -> &Hosts<'a> {
        if demand.is_bare {
            self.bare
        } else {
            self.hosts
        }
    }

    /// What a session is known by from one run to the next.
    fn key(&self, job: &Job<'_>) -> (String, usize) {
        let page = &self.run.book.pages[job.plan.page];
        (page.key.clone(), job.plan.place)
    }

    fn ready(&self) -> MutexGuard<'_, HashMap<usize, Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where traces are kept, goes on from the last one.
    fn session_on_shared(
        &self,
        hosts: &Hosts<'_>,
        shared: &Arc<Host>,
        (snapshot, ready): (Option<&Snapshot>, Option<(PathBuf, Running)>),
        job: &Job<'_>,
        tell: &mut dyn FnMut(&ExampleResult<'_>) -> io::Result<()>,
    ) -> Result<Option<SessionResults<'a>>> {
        let ground = (&**shared, snapshot);
        let Some(traces) = self.traces else {
            return self.session_on(ground, ready, job, &mut None, tell);
        };
        let key = self.key(job);
        let mut trace = traces
            .take(&key)
            .filter(|trace| Arc::ptr_eq(&trace.host, shared));
        if trace.is_none() {
            let mut new = Trace::new(shared, shared.directory());
            new.is_edited = self.is_edited;
            trace = Some(new);
        }
        let results = self.session_on(ground, None, job, &mut trace, tell);
        let stands = |results: &SessionResults<'_>| results.again.is_none();
        let holds = results
            .as_ref()
            .is_ok_and(|results| results.as_ref().is_none_or(stands));
        if let Some(mut trace) = trace.filter(|_| holds && !hosts.lost(shared, snapshot)) {
            trace.is_edited = true;
            traces.put(key, trace);
        }
        results
    }

    /// Tells of an example, if it was asked for, as soon as its result is known.
    fn tell(
        &self,
        result: &ExampleResult<'_>,
        job: &Job<'_>,
        told: &mut HashSet<usize>,
    ) -> io::Result<()> {
        let (_, position) = result.at;
        if job.plan.selected.contains(&position) && told.insert(position) {
            (self.tell)(&Event::Example(self.run.interpreter, result))?;
        }
        Ok(())
    }

    fn session_on(
        &self,
        (host, snapshot): (&Host, Option<&Snapshot>),
        ready: Option<(PathBuf, Running)>,
        job: &Job<'_>,
        trace: &mut Option<Trace>,
        tell: &mut dyn FnMut(&ExampleResult<'_>) -> io::Result<()>,
    ) -> Result<Option<SessionResults<'a>>> {
        let Job { plan, found, .. } = *job;
        let (directory, ready) = match (&trace, ready) {
            (Some(trace), _) => (trace.directory.clone(), None),
            (None, Some((directory, running))) => (directory, Some(running)),
            (None, None) => (host.directory(), None),
        };
        let mut session = Session::open(self, (host, snapshot), plan, &directory)?;
        if let Some(running) = ready {
            session.go_on_in(running);
        }
        let mut past = trace.take().map(|trace| Past::of(trace, &mut session));
        let mut results = self.examples(plan, &mut session, past.as_mut(), tell)?;
        let (was_stopped, again) = (session.was_stopped(), session.again());
        let watched = session.watched(&results);
        let context = session.context.clone();
        let (scratch, saved) = (session.scratch.clone(), session.files_saved());
        let is_gone = session.is_gone();
        drop(session);
        let rerun = past.as_ref().map(Past::rerun);
        *trace = past.map(Past::into_trace);
        let has_checkpoints = |trace: &Trace| !trace.checkpoints.is_empty();
        if again.is_some() {
            let _ = scratch::remove(&directory);
        } else if trace.is_none() && is_gone {
            host.take_back(directory, &scratch, saved);
        } else if !trace.as_ref().is_some_and(has_checkpoints) && is_filled(&scratch, saved) {
            let _ = scratch::remove(&directory);
        }
        if was_stopped {
            return Ok(None);
        }
        let ran = self.keep(host, plan, found, &results, &watched);
        let why = if results.iter().all(|result| result.outcome.is_none()) {
            Why::Idle
        } else {
            found.map_or(Why::NotAsked, |found| found.why.clone())
        };
        // What stands before a selected example had to run, and is not reported.
        results.retain(|result| plan.selected.contains(&result.at.1));
        Ok(Some(SessionResults {
            results,
            context,
            rerun,
            why,
            key: found.map(Found::key),
            ran,
            again,
        }))
    }

    /// Runs the examples of a session, up to the last one or to where somebody stops it.
    fn examples(
        &self,
        plan: &SessionPlan,
        session: &mut Session<'_, 'a>,
        mut past: Option<&mut Past>,
        tell: &mut dyn FnMut(&ExampleResult<'_>) -> io::Result<()>,
    ) -> Result<Vec<ExampleResult<'a>>> {
        let page = &self.run.book.pages[plan.page];
        let mut results: Vec<ExampleResult<'a>> = Vec::new();
        // As many of the first results are those of the last run. They are told last: somebody waits for the others.
        let mut held = 0;
        let mut blocked_by: Option<&str> = None;
        let mut next = 0;
        while let Some(&position) = plan.examples.get(next) {
            if blocked_by.is_none()
                && let Some(past) = past.as_mut().filter(|past| past.ends_before(next))
            {
                next = past.go_back(session, next)?;
                held = results.partition_point(|result| result.at.1 < plan.examples[next]);
                results.truncate(held);
                continue;
            }
            let step = next;
            next += 1;
            let example = &page.examples[position];
            let skipped = self.skip(example, self.is_probe(plan, position));
            let outcome = match (&skipped, blocked_by, &mut past) {
                (_, Some(_), _) | (Some(_), None, None) => None,
                (_, None, Some(past)) => past.step(session, step)?,
                (None, None, None) => session.run(step)?,
            };
            if session.was_stopped() || session.again().is_some() {
                break;
            }
            let (verdict, outcome) = match (skipped, blocked_by) {
                (Some(verdict), _) => (verdict, None),
                (None, Some(by)) => (Verdict::Blocked { by: by.to_owned() }, None),
                (None, None) => session.judge(example, outcome),
            };
            let breaks = match &verdict {
                Verdict::Failed(failure) => outcome.is_some() && !failure.leaves_session_intact(),
                _ => false,
            };
            let has_ended = match &past {
                Some(past) => past.ended_with(step),
                None => session.is_cut_off(),
            };
            if blocked_by.is_none() && (breaks || has_ended) {
                blocked_by = Some(&example.id);
            }
            if !is_judged(example) {
                continue;
            }
            let traceback = outcome
                .as_ref()
                .and_then(|outcome| session.traceback(outcome));
            let result = ExampleResult {
                at: (plan.page, position),
                page,
                example,
                verdict,
                outcome,
                traceback,
                from_cache: false,
            };
            if past.as_ref().is_some_and(|past| past.repeats()) {
                held += 1;
            } else {
                tell(&result)?;
            }
            results.push(result);
        }
        for result in &results[..held] {
            tell(result)?;
        }
        Ok(results)
    }

    /// What is to be kept of a session that ran. `watched` is what it read, or why that is not known.
    fn keep(
        &self,
        host: &Host,
        plan: &SessionPlan,
        found: Option<&Found>,
        results: &[ExampleResult<'_>],
        watched: &std::result::Result<Observed, String>,
    ) -> Option<Ran> {
        let (keeping, found) = self.run.keeping.zip(found)?;
        let all = plan.all();
        let session = self.run.session(plan.page, &all, &self.version);
        let protections = host.ready.protections.as_ref();
        Some(found.ran(
            keeping.cache,
            &session,
            results,
            watched,
            protections,
            host.started,
        ))
    }

    pub(super) fn is_probe(&self, plan: &SessionPlan, position: usize) -> bool {
        self.run.settings.probe && plan.selected.contains(&position)
    }

    pub(super) fn runs_in_python(&self, example: &Example, is_probe: bool) -> bool {
        matches!(example.kind, Kind::Module(_) | Kind::Transcript(_))
            && self.reason_to_skip(example, is_probe).is_none()
    }

    /// The verdict of an example that is not run here.
    fn skip(&self, example: &Example, is_probe: bool) -> Option<Verdict> {
        let (reason, unmet) = self.reason_to_skip(example, is_probe)?;
        Some(if unmet && self.run.settings.strict {
            Verdict::Failed(Failure::Unmet { reason })
        } else {
            Verdict::Skipped { reason, unmet }
        })
    }

    /// Why an example is not run here, and whether that is something missing.
    /// Of a probe only the latter counts.
    pub(super) fn reason_to_skip(
        &self,
        example: &Example,
        is_probe: bool,
    ) -> Option<(String, bool)> {
        let attributes = &example.attributes;
        if let Some(reason) = attributes.skip.as_ref().filter(|_| !is_probe) {
            return Some((reason.clone(), false));
        }
        if let Some(python) = attributes.python.as_ref().filter(|_| !is_probe)
            && !python.contains(&self.version.only_release())
        {
            return Some((format!("needs Python {python}"), false));
        }
        if attributes.norun.is_some() {
            return None;
        }
        let missing = attributes.requires.iter().find(|need| !self.has(need))?;
        Some((format!("needs {missing}"), true))
    }

    fn has(&self, need: &Need) -> bool {
        match need {
            Need::Module(name) => self.hosts.ready.modules.contains(name),
            Need::Program(name) => self.hosts.find_program(name).is_some(),
            Need::Root => rustix::process::geteuid().is_root(),
        }
    }
}
