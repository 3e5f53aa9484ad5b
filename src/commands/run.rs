//! A run of a project's sessions: on which interpreter, with which settings, once and again.

use std::io::Write;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::Project;
use crate::check::{self, Results, SessionPlan, Settings};
use crate::cli;
use crate::conditions::{Conditions, Factor};
use crate::config::Config;
use crate::environment::{self, Progress};
use crate::interpreter::{self, Interpreter, Request};
use crate::proof::Proof;
use crate::report::Listener;
use crate::sinks;
use crate::state::LastRun;

pub(crate) fn interpreters(typed: &[String]) -> Vec<Option<Request>> {
    if typed.is_empty() {
        return vec![None];
    }
    typed
        .iter()
        .map(|text| Some(Request::parse(text)))
        .collect()
}

pub(crate) fn settings(run: &cli::Run, config: &Config) -> Settings {
    Settings {
        jobs: run.jobs.map(usize::from),
        fail_fast: run.fail_fast,
        strict: run.strict,
        timeout: run.timeout,
        conditions: Conditions::default(),
        probe: false,
        sandbox: run.sandbox.unwrap_or(config.sandbox),
        readable: run.readable.clone(),
    }
}

impl Project {
    /// The interpreters to run on, each with the book's packages.
    pub(super) fn interpreters(
        &self,
        requests: &[Option<Request>],
        run: &cli::Run,
    ) -> Result<Vec<Interpreter>> {
        let named = requests.iter();
        let named = named.map(|request| self.interpreter(request.as_ref(), run));
        Ok(interpreter::each_once(named.collect::<Result<_>>()?))
    }

    /// The interpreter to run on, with the book's packages.
    pub(crate) fn interpreter(
        &self,
        request: Option<&Request>,
        run: &cli::Run,
    ) -> Result<Interpreter> {
        let cache = self.config.cache_directory();
        let environment = |name: &str| std::env::var_os(name);
        let interpreter = interpreter::discover(request, &self.config.root, &environment, &cache)?;
        let Some(requirements) = self.config.requirements.as_ref().filter(|_| !run.no_sync) else {
            return Ok(interpreter);
        };
        let mut progress = |progress: Progress| {
            let version = &interpreter.full_version;
            let _ = match progress {
                Progress::Waiting => writeln!(
                    sinks::stderr(),
                    "waiting for another run to provide the packages"
                ),
                Progress::FetchingUv => writeln!(sinks::stderr(), "fetching uv"),
                Progress::Creating => {
                    writeln!(
                        sinks::stderr(),
                        "making an environment for Python {version}"
                    )
                }
                Progress::Installing { packages } => {
                    writeln!(
                        sinks::stderr(),
                        "installing {packages} packages for Python {version}"
                    )
                }
                Progress::Done { seconds } => {
                    writeln!(sinks::stderr(), "environment ready in {seconds:.1}s")
                }
            };
        };
        Ok(environment::provide(
            &interpreter,
            requirements,
            &self.config.root,
            &cache,
            &mut progress,
        )?)
    }

    pub(super) fn run<'a>(
        &'a self,
        interpreter: &'a Interpreter,
        plans: &'a [SessionPlan],
        settings: &'a Settings,
        last_run: &'a LastRun,
        listener: &mut Listener<'_>,
    ) -> Result<Results<'a>> {
        let run = check::Run {
            book: &self.book,
            config: &self.config,
            interpreter,
            recordings: &self.recordings,
            settings,
            last_run,
            keeping: None,
            stop: None,
        };
        check::run(&run, plans, listener)
    }

    /// Runs sessions once more, under other conditions than in the run that took place at `first`.
    pub(super) fn again(
        &self,
        interpreter: &Interpreter,
        plans: &[SessionPlan],
        conditions: &Conditions,
        settings: &Settings,
        last_run: &LastRun,
        first: &Range<SystemTime>,
    ) -> Result<Proof> {
        if conditions.varies(Factor::Clock) && self.speaks_of_time(plans) {
            wait_for_another_second(first.end);
        }
        let settings = Settings {
            conditions: conditions.clone(),
            fail_fast: false,
            ..settings.clone()
        };
        let results = self.run(interpreter, plans, &settings, last_run, &mut |_| Ok(()))?;
        Ok(Proof::of(&results))
    }

    /// Whether a clock that is read in whole seconds could be in these sessions' outputs.
    fn speaks_of_time(&self, plans: &[SessionPlan]) -> bool {
        plans.iter().any(|plan| {
            let examples = &self.book.pages[plan.page].examples;
            plan.examples.iter().any(|&at| {
                let source = examples[at].source();
                source.contains("time") || source.contains("date")
            })
        })
    }
}

fn wait_for_another_second(first: SystemTime) {
    let second = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    let now = SystemTime::now();
    if second(now) == second(first) {
        let next = SystemTime::UNIX_EPOCH + Duration::from_secs(second(first) + 1);
        std::thread::sleep(next.duration_since(now).unwrap_or_default());
    }
}
