//! The pipeline, top to bottom: sessions → outcomes → verdicts → events, on one interpreter.
//!
//! Checking and recording share all of it; they differ in what is done with the results at the end.

mod pages;
mod past;
mod runner;
mod session;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use pep440_rs::Version;

use self::pages::Pages;
use self::runner::{Job, Runner, SessionResults};

use crate::attributes::Need;
use crate::book::{At, Book, Selection};
use crate::cache::{self, Cache, Found, Why};
use crate::conditions::{self, Conditions, Factor};
use crate::config::{Config, Sandbox};
use crate::demand::{self, Demand};
use crate::digest::Digest;
use crate::example::{self, Example, Kind};
use crate::host::{self, Hosts, Stop};
use crate::interpreter::Interpreter;
use crate::normalize::Context;
use crate::protocol::Protections;
use crate::recording::Recording;
use crate::report::{Event, ExampleResult, Listener, PageResult, Started};
use crate::sandbox;
use crate::schedule;
use crate::snapshots::{self, Snapshots};
use crate::state::LastRun;
use crate::trace::{LIVE_SESSIONS, Traces};
use crate::verdict::{Failure, Verdict};

/// How to run, apart from what to run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sessions at the same time, if somebody has said so.
    pub jobs: Option<usize>,
    pub fail_fast: bool,
    pub strict: bool,
    pub timeout: Option<Duration>,
    pub conditions: Conditions,
    /// Run selected examples although they are skipped or meant for other versions.
    pub probe: bool,
    pub sandbox: Sandbox,
    /// What examples may read by the word of whoever started the run.
    pub readable: Vec<PathBuf>,
}

/// The recordings of a book's pages, in the order of the pages.
pub type Recordings = Vec<Recording>;

/// What a run gives to its caller, besides the events.
#[derive(Debug)]
pub struct Results<'a> {
    /// In page order; only pages with selected examples.
    pub pages: Vec<PageResult<'a>>,
    /// Session directories by page and position, as normalising rules need them.
    pub contexts: HashMap<At, Arc<Context>>,
    pub stopped_early: bool,
    /// When it began and ended.
    pub span: Range<SystemTime>,
    pub sessions: usize,
    /// Sessions whose results were kept from an earlier run.
    pub kept: usize,
}

/// Sessions to run: positions of pages and of examples on them.
#[derive(Debug, Clone)]
pub struct SessionPlan {
    pub page: usize,
    /// Which of the page's sessions it is.
    pub place: usize,
    /// In page order, up to the last selected one.
    pub examples: Vec<usize>,
    /// What follows in the session, which nobody asked for.
    pub rest: Vec<usize>,
    pub selected: HashSet<usize>,
}

/// Which sessions have something selected. What stands in a session before a selected example is run
/// as well, since it may define what the example uses.
pub fn plan(book: &Book, config: &Config, selection: &Selection) -> Vec<SessionPlan> {
    let mut plans = Vec::new();
    for (number, page) in book.pages.iter().enumerate() {
        let groups = crate::session::group(&page.examples, config.session);
        for (place, mut examples) in groups.into_iter().enumerate() {
            let selected: HashSet<usize> = examples
                .iter()
                .copied()
                .filter(|&position| selection.contains(page, &page.examples[position]))
                .collect();
            let Some(last) = examples
                .iter()
                .rposition(|position| selected.contains(position))
            else {
                continue;
            };
            // Files are there for other examples: without one of those, nobody looks at them.
            if !selected.iter().any(|&at| is_judged(&page.examples[at])) {
                continue;
            }
            let rest = examples.split_off(last + 1);
            plans.push(SessionPlan {
                page: number,
                place,
                examples,
                rest,
                selected,
            });
        }
    }
    plans
}

/// A session for each selected example that is skipped, or is for other versions than this one: what
/// stands before it, and itself at the end, where it can disturb no other.
pub fn probes(book: &Book, plans: &[SessionPlan], version: &Version) -> Vec<SessionPlan> {
    let mut probes = Vec::new();
    for plan in plans {
        for (index, &position) in plan.examples.iter().enumerate() {
            let attributes = &book.pages[plan.page].examples[position].attributes;
            let is_bound = attributes
                .python
                .as_ref()
                .is_some_and(|python| !python.contains(&version.only_release()));
            let is_skipped = attributes
                .skip
                .as_ref()
                .is_some_and(|reason| reason != example::UNPROMPTED);
            if plan.selected.contains(&position)
                && attributes.norun.is_none()
                && (is_skipped || is_bound)
            {
                probes.push(SessionPlan {
                    page: plan.page,
                    place: plan.place,
                    examples: plan.examples[..=index].to_vec(),
                    rest: [&plan.examples[index + 1..], &plan.rest].concat(),
                    selected: HashSet::from([position]),
                });
            }
        }
    }
    probes
}

/// What a probe's verdict says of the example's own words: nothing is needed that keeps it from passing.
pub fn probed(example: &Example, verdict: &Verdict) -> Verdict {
    let (what, reason) = match (&example.attributes.skip, &example.attributes.python) {
        (Some(reason), _) => ("skip", format!("it is skipped: {reason}")),
        (None, Some(python)) => ("python", format!("it is for Python {python}")),
        (None, None) => return verdict.clone(),
    };
    // What is skipped has no recording. What is recorded for some versions should do the same on others.
    let passes = match verdict {
        Verdict::Verified | Verdict::Ran => true,
        Verdict::Unrecorded => what == "skip",
        _ => false,
    };
    match verdict {
        Verdict::Skipped { .. } | Verdict::Illustrative { .. } => verdict.clone(),
        _ if passes => Verdict::Failed(Failure::NotNeeded {
            what: what.to_owned(),
            reason,
        }),
        _ => Verdict::Skipped {
            reason,
            unmet: false,
        },
    }
}

/// What a run works with.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub book: &'a Book,
    pub config: &'a Config,
    pub interpreter: &'a Interpreter,
    pub recordings: &'a Recordings,
    pub settings: &'a Settings,
    pub last_run: &'a LastRun,
    /// `None` where everything has to run.
    pub keeping: Option<Keeping<'a>>,
    /// By which somebody can end it.
    pub stop: Option<&'a Stop>,
}

/// Results of earlier runs, and what it takes to keep those of this one. Both lists go by page.
#[derive(Clone, Copy)]
pub struct Keeping<'a> {
    pub cache: &'a Cache,
    /// From [`Cache::text_of`].
    pub texts: &'a [Digest],
    /// Whether everything that belongs to the page is checked.
    pub whole: &'a [bool],
}

/// Runs sessions on one interpreter. `on_event` sees each page as soon as it and those before it are done.
pub fn run<'a>(
    run: &Run<'a>,
    plans: &'a [SessionPlan],
    listener: &mut Listener<'_>,
) -> Result<Results<'a>> {
    let found = find_kept(run, plans, &version(run.interpreter));
    let has_to_run = |(plan, found): (&SessionPlan, &Option<Found>)| {
        let is_kept = found.as_ref().is_some_and(Found::is_kept);
        (!is_kept).then(|| demand(run.book, plan))
    };
    let demands: Vec<Demand<'_>> = plans.iter().zip(&found).filter_map(has_to_run).collect();
    // With everything known already, no Python starts.
    let ground = if demands.is_empty() {
        None
    } else {
        Some(Ground::new(run, run.interpreter, &demands)?)
    };
    let ground = ground.as_ref().map(|ground| (ground, &*demands));
    run_all(run, ground, None, (plans, &found), listener)
}

/// What sessions run on. It may outlive a run, if the interpreter does.
#[derive(Debug)]
pub struct Ground<'i> {
    hosts: Hosts<'i>,
    /// Without a module in store, for the sessions that could tell.
    bare: Option<Hosts<'i>>,
    snapshots: Snapshots,
}

impl<'i> Ground<'i> {
    pub fn new(
        run: &Run<'_>,
        interpreter: &'i Interpreter,
        demands: &[Demand<'_>],
    ) -> Result<Ground<'i>> {
        let options = host_options(run, demands)?;
        let could_tell = demands.iter().any(|demand| demand.is_bare);
        let bare = if !options.preload.is_empty() && could_tell {
            let options = host::Options {
                preload: Vec::new(),
                ..options.clone()
            };
            Some(Hosts::start(interpreter, options)?)
        } else {
            None
        };
        let hosts = Hosts::start(interpreter, options)?;
        if run.settings.sandbox == Sandbox::Strict {
            nothing_is_missing(hosts.ready.protections.as_ref())?;
        }
        let host = &*hosts.shared()?;
        let threads = run.settings.jobs.unwrap_or_else(processors);
        let snapshots = Snapshots::prepare(host, interpreter, run.config, demands, threads)?;
        Ok(Ground {
            hosts,
            bare,
            snapshots,
        })
    }

    /// Whether it does for these sessions as well as for those that it was made for. Modules that it could share as
    /// well cost time only.
    pub fn suffices(&self, demands: &[Demand<'_>]) -> bool {
        let options = self.hosts.options();
        let mut needs = demands.iter().flat_map(|demand| &demand.needs);
        let is_answered = needs.all(|need| match need {
            Need::Module(name) => options.probe.contains(name),
            Need::Program(name) => options.programs.contains(name),
            Need::Root => true,
        });
        let hides_nothing = self.bare.is_some() || options.preload.is_empty();
        is_answered && (hides_nothing || !demands.iter().any(|demand| demand.is_bare))
    }
}

/// As [`run`], on hosts that may have run sessions before. With `traces`, what a session did in an earlier run
/// and what nothing speaks against is not done again.
pub fn run_on<'a>(
    run: &Run<'a>,
    ground: &Ground<'a>,
    traces: Option<&Traces>,
    (plans, demands): (&'a [SessionPlan], &[Demand<'_>]),
    listener: &mut Listener<'_>,
) -> Result<Results<'a>> {
    let found: Vec<Option<Found>> = plans.iter().map(|_| None).collect();
    run_all(
        run,
        Some((ground, demands)),
        traces,
        (plans, &found),
        listener,
    )
}

/// Runs the sessions of which nothing is found, on a ground that suits what each of them demands. Without one there are
/// no such sessions.
fn run_all<'a>(
    run: &Run<'a>,
    ground: Option<(&Ground<'a>, &[Demand<'_>])>,
    traces: Option<&Traces>,
    (plans, found): (&'a [SessionPlan], &[Option<Found>]),
    listener: &mut Listener<'_>,
) -> Result<Results<'a>> {
    let listener = Mutex::new(listener);
    let tell: Tell<'_> = &|event| {
        let mut listener = listener.lock().unwrap_or_else(PoisonError::into_inner);
        (*listener)(event)
    };
    let Run { book, settings, .. } = *run;
    let began = SystemTime::now();
    let is_kept = |job: usize| found[job].as_ref().is_some_and(Found::is_kept);
    let (kept, jobs): (Vec<usize>, Vec<usize>) = (0..plans.len()).partition(|&job| is_kept(job));
    let held = found.iter().flatten().filter_map(Found::protections);
    let now = ground.and_then(|(ground, _)| ground.hosts.ready.protections.as_ref());
    let protections = held.chain(now).fold(None, Protections::weaker);
    tell(&Event::Started(&Started {
        interpreter: run.interpreter,
        pages: plans
            .iter()
            .map(|plan| plan.page)
            .collect::<HashSet<_>>()
            .len(),
        examples: plans.iter().map(|plan| judged(book, plan)).sum(),
        protections: protections.as_ref(),
        shard: None,
    }))?;
    let mut pages = Pages::new(run, plans, protections);
    for job in kept {
        if let Some(found) = &found[job] {
            let recalled = recall(book, &plans[job], found);
            for result in &recalled.results {
                tell(&Event::Example(run.interpreter, result))?;
            }
            pages.take(job, recalled, tell)?;
        }
    }
    if let Some((ground, demands)) = ground {
        let Ground {
            hosts,
            bare,
            snapshots,
        } = ground;
        let is_loaded = settings.conditions.varies(Factor::Load);
        let _load = is_loaded.then(Load::begin);
        let weights: Vec<Duration> = jobs
            .iter()
            .map(|&job| weight(book, &plans[job], run.last_run))
            .collect();
        let runner = Runner {
            run: *run,
            hosts,
            bare: bare.as_ref().unwrap_or(hosts),
            snapshots,
            traces,
            is_edited: plans.len() <= LIVE_SESSIONS,
            tell,
            version: version(run.interpreter),
            ready: Mutex::default(),
        };
        schedule::run(
            &weights,
            settings
                .jobs
                .unwrap_or_else(|| jobs_at_once(demands, snapshots)),
            |index, next| {
                let job = |index: usize| {
                    let number = jobs[index];
                    Job {
                        number,
                        plan: &plans[number],
                        demand: &demands[index],
                        found: found[number].as_ref(),
                    }
                };
                runner.session(&job(index), next.map(job).as_ref())
            },
            |finished| {
                let failures = finished.as_ref().map(SessionResults::failures);
                failures.is_none_or(|failures| settings.fail_fast && failures > 0)
            },
            |index, finished| match finished {
                Some(finished) => pages.take(jobs[index], finished, tell),
                None => Ok(()),
            },
            || {
                hosts.close();
                bare.iter().for_each(Hosts::close);
            },
        )?;
    }
    pages.finish(began, tell)
}

/// Tells of a run from any of its threads.
type Tell<'t> = &'t (dyn Fn(&Event<'_>) -> io::Result<()> + Sync);

/// Keeps one processor busy until it is dropped: the one that [`Factor::Processors`] leaves.
struct Load(Arc<AtomicBool>);

impl Load {
    fn begin() -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let flag = over.clone();
        std::thread::spawn(move || {
            conditions::keep_to_processor(conditions::own_processor());
            while !flag.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Load(over)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `--sandbox=strict` asks for.
fn nothing_is_missing(protections: Option<&Protections>) -> Result<()> {
    let missing: Vec<String> = protections
        .iter()
        .flat_map(|protections| protections.all())
        .filter_map(|(name, missing)| Some(format!("`{name}`: {}", missing?)))
        .collect();
    if !missing.is_empty() {
        bail!(
            "the sandbox is not whole here, and `strict` runs nothing without: {}; `verify doctor` says what to do",
            missing.join("; ")
        );
    }
    Ok(())
}

/// For each session what is kept of it; `None` where nobody looks.
fn find_kept(run: &Run<'_>, plans: &[SessionPlan], version: &Version) -> Vec<Option<Found>> {
    let Some(keeping) = run.keeping else {
        return plans.iter().map(|_| None).collect();
    };
    let mut known = (usize::MAX, cache::Known::default());
    plans
        .iter()
        .map(|plan| {
            let page = &run.book.pages[plan.page];
            if known.0 != plan.page {
                known = (plan.page, keeping.cache.page(&page.key));
            }
            let all = plan.all();
            let session = run.session(plan.page, &all, version);
            Some(keeping.cache.find(&known.1, &session, plan.examples.len()))
        })
        .collect()
}

/// The kept results of a session, as if it had run.
fn recall<'a>(book: &'a Book, plan: &SessionPlan, found: &Found) -> SessionResults<'a> {
    let page = &book.pages[plan.page];
    let with_verdict = plan
        .examples
        .iter()
        .filter(|&&position| is_judged(&page.examples[position]));
    let results = found.results().into_iter().flatten();
    let results = with_verdict
        .zip(results)
        .filter(|(position, _)| plan.selected.contains(position))
        .map(|(&position, (verdict, outcome, traceback))| ExampleResult {
            at: (plan.page, position),
            page,
            example: &page.examples[position],
            verdict,
            outcome,
            traceback,
            from_cache: true,
        });
    SessionResults {
        results: results.collect(),
        context: Context::default(),
        rerun: None,
        why: Why::Unchanged,
        key: Some(found.key()),
        ran: None,
        again: None,
    }
}

impl SessionPlan {
    /// The whole session, asked for or not.
    fn all(&self) -> Vec<usize> {
        [self.examples.as_slice(), &self.rest].concat()
    }
}

impl<'a> Run<'a> {
    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(Stop::is_given)
    }

    fn session<'s>(
        &self,
        page: usize,
        examples: &'s [usize],
        version: &'s Version,
    ) -> cache::Session<'s>
    where
        'a: 's,
    {
        cache::Session {
            page: &self.book.pages[page],
            recording: &self.recordings[page],
            config: self.config,
            interpreter: self.interpreter,
            version,
            examples,
        }
    }
}

/// Whether an example gets a verdict, which files for other examples don't.
pub fn is_judged(example: &Example) -> bool {
    !matches!(example.kind, Kind::File(_))
}

/// How many selected examples of a session get a verdict.
fn judged(book: &Book, plan: &SessionPlan) -> usize {
    let examples = &book.pages[plan.page].examples;
    plan.selected
        .iter()
        .filter(|&&at| is_judged(&examples[at]))
        .count()
}

/// How long a session will take: as in the last run, else guessed from its size.
fn weight(book: &Book, plan: &SessionPlan, last_run: &LastRun) -> Duration {
    const UNKNOWN: Duration = Duration::from_millis(5);
    let page = &book.pages[plan.page];
    let of = |&position: &usize| {
        last_run
            .duration(&page.key, &page.examples[position].id)
            .unwrap_or(UNKNOWN)
    };
    plan.examples.iter().map(of).sum()
}

/// As many as there are processors. One more where most sessions are short: their time goes to making and ending
/// processes, which one of them waits for while others run.
fn jobs_at_once(demands: &[Demand<'_>], snapshots: &Snapshots) -> usize {
    let short = demands.iter().filter(|demand| demand.is_short).count();
    let are_short = 2 * short > demands.len() && !snapshots.has_packages();
    processors() + usize::from(are_short)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The interpreter's version in the terms of version specifiers.
pub fn version(interpreter: &Interpreter) -> Version {
    let (major, minor, patch) = interpreter.version;
    interpreter
        .full_version
        .parse()
        .unwrap_or_else(|_| Version::new([u64::from(major), u64::from(minor), u64::from(patch)]))
}

fn demand<'a>(book: &'a Book, plan: &SessionPlan) -> Demand<'a> {
    let examples = &book.pages[plan.page].examples;
    Demand::of(plan.examples.iter().map(|&at| &examples[at]))
}

/// What each of these sessions asks of its host.
pub fn demands<'a>(book: &'a Book, plans: &[SessionPlan]) -> Vec<Demand<'a>> {
    plans.iter().map(|plan| demand(book, plan)).collect()
}

/// What every host of a run is started with.
fn host_options(run: &Run<'_>, demands: &[Demand<'_>]) -> Result<host::Options> {
    let sandbox = match run.settings.sandbox {
        Sandbox::Off => None,
        Sandbox::On | Sandbox::Strict => Some(sandbox::setup(
            run.config,
            run.interpreter,
            &run.settings.readable,
        )?),
    };
    let (mut probe, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for need in demands.iter().flat_map(|demand| &demand.needs) {
        match need {
            Need::Module(name) => drop(probe.insert(name.clone())),
            Need::Program(name) => drop(programs.insert(name.clone())),
            Need::Root => {}
        }
    }
    let mut preload = demand::shared_modules(demands);
    if !snapshots::candidates(&run.config.preload, run.interpreter, demands).is_empty() {
        preload.extend(demand::BELOW_PACKAGES.map(str::to_owned));
    }
    Ok(host::Options {
        conditions: run.settings.conditions.clone(),
        preload,
        probe: probe.into_iter().collect(),
        programs: programs.into_iter().collect(),
        environment: run.config.environment.clone().into_iter().collect(),
        most_scratch: run
            .config
            .limits
            .with(demand::shared_limits(demands))
            .scratch,
        sandbox,
    })
}
