//! The pipeline, top to bottom: sessions → outcomes → verdicts → events, on one interpreter.
//!
//! Checking and recording share all of it; they differ in what is done with the results at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use pep440_rs::Version;

use crate::attributes::Need;
use crate::book::{At, Book, Page, Selection};
use crate::cache::{self, Cache, Found, Ran, Unchanged, WholePage, Why};
use crate::compare;
use crate::conditions::{self, Conditions, Factor};
use crate::config::{Config, Output, Sandbox};
use crate::console;
use crate::demand::{self, Demand};
use crate::digest::Digest;
use crate::doctest::Flags;
use crate::example::{self, Example, Kind};
use crate::host::{self, Host, Hosts, Running, Start};
use crate::interpreter::Interpreter;
use crate::normalize::Context;
use crate::outcome::{Ending, Outcome};
use crate::protocol::{Mode, Observed, ProcessLimits, Program, Protections, Statement, Unit};
use crate::recording::Recording;
use crate::report::{
    Event, ExampleResult, Listener, PageResult, Rerun, SessionNote, Started, Summary,
};
use crate::sandbox;
use crate::schedule;
use crate::scratch::{self, Scratch};
use crate::session;
use crate::state::LastRun;
use crate::trace::{self, Trace, Traces};
use crate::verdict::{self, Failure, PageOutput, Terms, Verdict};

/// How to run, apart from what to run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub jobs: usize,
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
    pub contexts: HashMap<At, Context>,
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
        for mut examples in session::group(&page.examples, config.session) {
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
            let rest = examples.split_off(last + 1);
            plans.push(SessionPlan {
                page: number,
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
        (!is_kept).then(|| plan.clone())
    };
    let open: Vec<SessionPlan> = plans.iter().zip(&found).filter_map(has_to_run).collect();
    // With everything known already, no Python starts.
    let ground = if open.is_empty() {
        None
    } else {
        Some(Ground::new(run, run.interpreter, &open)?)
    };
    run_all(run, ground.as_ref(), None, (plans, &found), listener)
}

/// What sessions run on. It may outlive a run, if the interpreter does.
#[derive(Debug)]
pub struct Ground<'i> {
    hosts: Hosts<'i>,
    /// Without a module in store, for the sessions that could tell.
    bare: Option<Hosts<'i>>,
}

impl<'i> Ground<'i> {
    pub fn new(
        run: &Run<'_>,
        interpreter: &'i Interpreter,
        plans: &[SessionPlan],
    ) -> Result<Ground<'i>> {
        let demands = demands(run.book, plans);
        let options = host_options(run, &demands)?;
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
        Ok(Ground { hosts, bare })
    }

    /// Whether it does for these sessions as well as for those that it was made for. Modules that it could share as
    /// well cost time only.
    pub fn suffices(&self, book: &Book, plans: &[SessionPlan]) -> bool {
        let options = self.hosts.options();
        let demands = demands(book, plans);
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
    plans: &'a [SessionPlan],
    listener: &mut Listener<'_>,
) -> Result<Results<'a>> {
    let found: Vec<Option<Found>> = plans.iter().map(|_| None).collect();
    run_all(run, Some(ground), traces, (plans, &found), listener)
}

/// Runs the sessions of which nothing is found; without a ground there are none.
fn run_all<'a>(
    run: &Run<'a>,
    ground: Option<&Ground<'a>>,
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
    let now = ground.and_then(|ground| ground.hosts.ready.protections.as_ref());
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
            for (_, result) in &recalled.results {
                tell(&Event::Example(run.interpreter, result))?;
            }
            pages.take(job, recalled, tell)?;
        }
    }
    if let Some(Ground { hosts, bare }) = ground {
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
            traces,
            tell,
            version: version(run.interpreter),
        };
        schedule::run(
            &weights,
            settings.jobs,
            |index| {
                let number = jobs[index];
                let (plan, found) = (&plans[number], found[number].as_ref());
                runner.session(&Job {
                    number,
                    plan,
                    found,
                })
            },
            |finished| settings.fail_fast && finished.failures() > 0,
            |index, finished| pages.take(jobs[index], finished, tell),
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
        .filter(|&&position| !matches!(page.examples[position].kind, Kind::File(_)));
    let results = found.results().into_iter().flatten();
    let results = with_verdict
        .zip(results)
        .filter(|(position, _)| plan.selected.contains(position))
        .map(|(&position, (verdict, outcome, traceback))| {
            let result = ExampleResult {
                at: (plan.page, position),
                page,
                example: &page.examples[position],
                verdict,
                outcome,
                traceback,
                from_cache: true,
            };
            (position, result)
        });
    SessionResults {
        results: results.collect(),
        context: Context::default(),
        rerun: None,
        why: Why::Unchanged,
        key: Some(found.key()),
        ran: None,
    }
}

impl SessionPlan {
    /// The whole session, asked for or not.
    fn all(&self) -> Vec<usize> {
        [self.examples.as_slice(), &self.rest].concat()
    }
}

impl<'a> Run<'a> {
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

/// Gathers sessions into pages, and pages into their order.
struct Pages<'a> {
    run: Run<'a>,
    plans: &'a [SessionPlan],
    /// Pages in order.
    waiting: BTreeMap<usize, Waiting<'a>>,
    reruns: HashMap<usize, Rerun>,
    results: Results<'a>,
    missing: usize,
    protections: Option<Protections>,
    has_written: bool,
}

/// A page some of whose sessions are still to come.
#[derive(Default)]
struct Waiting<'a> {
    missing: usize,
    results: Vec<(usize, ExampleResult<'a>)>,
    notes: Vec<(usize, SessionNote<'a>)>,
    keys: Vec<Digest>,
    ran: Vec<Ran>,
}

impl<'a> Pages<'a> {
    fn new(run: &Run<'a>, plans: &'a [SessionPlan], protections: Option<Protections>) -> Pages<'a> {
        let mut waiting: BTreeMap<usize, Waiting<'a>> = BTreeMap::new();
        for plan in plans {
            waiting.entry(plan.page).or_default().missing += 1;
        }
        Pages {
            run: *run,
            plans,
            waiting,
            reruns: HashMap::new(),
            results: Results {
                pages: Vec::new(),
                contexts: HashMap::new(),
                stopped_early: false,
                span: SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH,
                sessions: 0,
                kept: 0,
            },
            missing: plans.len(),
            protections,
            has_written: false,
        }
    }

    fn take(&mut self, job: usize, session: SessionResults<'a>, tell: Tell<'_>) -> io::Result<()> {
        let plan = &self.plans[job];
        self.missing -= 1;
        self.results.sessions += 1;
        self.results.kept += usize::from(session.why == Why::Unchanged);
        for (position, _) in &session.results {
            self.results
                .contexts
                .insert((plan.page, *position), session.context.clone());
        }
        if let Some(rerun) = session.rerun {
            self.reruns.entry(plan.page).or_default().add(rerun);
        }
        let waiting = self
            .waiting
            .get_mut(&plan.page)
            .expect("every page waits for its sessions");
        waiting.missing -= 1;
        if let Some(&first) = plan.examples.first() {
            let example = &self.run.book.pages[plan.page].examples[first];
            let note = SessionNote {
                line: example.block.line,
                id: &example.id,
                why: session.why.to_string(),
            };
            waiting.notes.push((first, note));
        }
        waiting.results.extend(session.results);
        waiting.keys.extend(session.key);
        waiting.ran.extend(session.ran);
        while let Some(first) = self
            .waiting
            .first_entry()
            .filter(|first| first.get().missing == 0)
        {
            let (page, waiting) = first.remove_entry();
            self.emit(page, waiting, tell)?;
        }
        Ok(())
    }

    fn emit(&mut self, number: usize, mut waiting: Waiting<'a>, tell: Tell<'_>) -> io::Result<()> {
        waiting.results.sort_by_key(|(position, _)| *position);
        waiting.notes.sort_by_key(|(position, _)| *position);
        let results = std::mem::take(&mut waiting.results).into_iter();
        let notes = std::mem::take(&mut waiting.notes).into_iter();
        let result = PageResult {
            page: &self.run.book.pages[number],
            number,
            rerun: self.reruns.remove(&number),
            interpreter: self.run.interpreter,
            examples: results.map(|(_, result)| result).collect(),
            sessions: notes.map(|(_, note)| note).collect(),
        };
        self.keep(number, &result, waiting);
        tell(&Event::Page(&result))?;
        self.results.pages.push(result);
        Ok(())
    }

    fn keep(&mut self, number: usize, result: &PageResult<'_>, waiting: Waiting<'a>) {
        let Some(keeping) = self.run.keeping else {
            return;
        };
        let page = &self.run.book.pages[number];
        let sessions = waiting.keys.len();
        let passed = waiting.missing == 0 && waiting.ran.iter().all(Ran::is_kept);
        let whole = (keeping.whole[number] && passed).then(|| WholePage {
            text: keeping.texts[number],
            sessions: waiting.keys,
            unchanged: Unchanged {
                summary: Summary::of(&result.examples),
                sessions,
                protections: self.protections.clone(),
            },
        });
        let is_news = |whole: &WholePage| keeping.cache.unchanged(&page.key, whole.text).is_none();
        if !waiting.ran.is_empty() || whole.as_ref().is_some_and(is_news) {
            keeping.cache.keep(&page.key, whole, waiting.ran);
            self.has_written = true;
        }
    }

    /// What a run that was stopped early has of its last pages is shown as well.
    fn finish(mut self, began: SystemTime, tell: Tell<'_>) -> Result<Results<'a>> {
        for (page, waiting) in std::mem::take(&mut self.waiting) {
            if !waiting.results.is_empty() {
                self.emit(page, waiting, tell)?;
            }
        }
        if let Some(keeping) = self.run.keeping {
            self.keep_empty_pages(&keeping);
            keeping.cache.tidy(self.has_written);
        }
        self.results.stopped_early = self.missing > 0;
        self.results.span = began..SystemTime::now();
        Ok(self.results)
    }

    /// Pages without examples need no second look either.
    fn keep_empty_pages(&mut self, keeping: &Keeping<'_>) {
        for (number, page) in self.run.book.pages.iter().enumerate() {
            let text = keeping.texts[number];
            if page.examples.is_empty()
                && keeping.whole[number]
                && keeping.cache.unchanged(&page.key, text).is_none()
            {
                let whole = WholePage {
                    text,
                    sessions: Vec::new(),
                    unchanged: Unchanged::default(),
                };
                keeping.cache.keep(&page.key, Some(whole), Vec::new());
                self.has_written = true;
            }
        }
    }
}

/// How many selected examples of a session get a verdict, which files for other examples don't.
fn judged(book: &Book, plan: &SessionPlan) -> usize {
    let examples = &book.pages[plan.page].examples;
    plan.selected
        .iter()
        .filter(|&&at| !matches!(examples[at].kind, Kind::File(_)))
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

fn demands<'a>(book: &'a Book, plans: &[SessionPlan]) -> Vec<Demand<'a>> {
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
    Ok(host::Options {
        conditions: run.settings.conditions.clone(),
        preload: demand::shared_modules(demands),
        probe: probe.into_iter().collect(),
        programs: programs.into_iter().collect(),
        environment: run.config.environment.clone().into_iter().collect(),
        most_scratch: run.config.limits.scratch,
        sandbox,
    })
}

struct Runner<'h, 'a> {
    run: Run<'a>,
    hosts: &'h Hosts<'a>,
    /// For sessions that look inside the interpreter.
    bare: &'h Hosts<'a>,
    traces: Option<&'h Traces>,
    tell: Tell<'h>,
    version: Version,
}

/// A session to run.
#[derive(Clone, Copy)]
struct Job<'j> {
    number: usize,
    plan: &'j SessionPlan,
    found: Option<&'j Found>,
}

/// What a session gave: results of its selected examples by position.
struct SessionResults<'a> {
    results: Vec<(usize, ExampleResult<'a>)>,
    context: Context,
    /// Where traces are kept.
    rerun: Option<Rerun>,
    why: Why,
    key: Option<Digest>,
    /// What is to be kept of it.
    ran: Option<Ran>,
}

impl SessionResults<'_> {
    fn failures(&self) -> usize {
        self.results
            .iter()
            .filter(|(_, result)| result.verdict.is_failure())
            .count()
    }
}

impl<'a> Runner<'_, 'a> {
    /// Runs one session from its first example to its last; again, and on a host of its own, if the one that
    /// it shared has died meanwhile.
    fn session(&self, job: &Job<'_>) -> Result<SessionResults<'a>> {
        let hosts = if demand(self.run.book, job.plan).is_bare {
            self.bare
        } else {
            self.hosts
        };
        let mut told = HashSet::new();
        let shared = hosts.shared()?;
        // What an example did when its host died may not be its own doing.
        let mut tell = |result: &ExampleResult<'_>| {
            if shared.is_lost() {
                return Ok(());
            }
            self.tell(result, job, &mut told)
        };
        let results = match self.traces {
            None => self.session_on(&shared, job, &mut None, &mut tell),
            Some(traces) => {
                let key = self.key(job.plan);
                let mut trace = traces
                    .take(&key)
                    .filter(|trace| Arc::ptr_eq(&trace.host, &shared));
                if trace.is_none() {
                    let directory = shared.root().join(traces.number().to_string());
                    trace = Some(Trace::new(&shared, directory));
                }
                let results = self.session_on(&shared, job, &mut trace, &mut tell);
                if let Some(mut trace) = trace.filter(|_| results.is_ok() && !hosts.lost(&shared)) {
                    trace.was_run = true;
                    traces.put(key, trace);
                }
                results
            }
        };
        if !hosts.lost(&shared) {
            return results;
        }
        drop(shared);
        let mut tell = |result: &ExampleResult<'_>| self.tell(result, job, &mut told);
        self.session_on(&*hosts.own()?, job, &mut None, &mut tell)
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

    /// By which a session is known although its examples change: its page, and its place among the page's sessions.
    fn key(&self, plan: &SessionPlan) -> trace::Key {
        let page = &self.run.book.pages[plan.page];
        let groups = session::group(&page.examples, self.run.config.session);
        let place = groups
            .iter()
            .position(|group| group.first() == plan.examples.first());
        (page.key.clone(), place.unwrap_or_default())
    }

    fn session_on(
        &self,
        host: &Host,
        job: &Job<'_>,
        trace: &mut Option<Trace>,
        tell: &mut dyn FnMut(&ExampleResult<'_>) -> io::Result<()>,
    ) -> Result<SessionResults<'a>> {
        let Job {
            number,
            plan,
            found,
        } = *job;
        let started = SystemTime::now();
        let page = &self.run.book.pages[plan.page];
        let directory = match &trace {
            Some(trace) => trace.directory.clone(),
            None => host.root().join(number.to_string()),
        };
        let mut session = Session::open(self, host, plan, &directory)?;
        let is_probe = |at: usize| self.run.settings.probe && plan.selected.contains(&at);
        let last = plan
            .examples
            .iter()
            .copied()
            .rfind(|&at| self.runs_in_python(&page.examples[at], is_probe(at)));
        let examples: Vec<(&'a Example, bool)> = plan
            .examples
            .iter()
            .map(|&at| (&page.examples[at], Some(at) == last))
            .collect();
        if let Some(trace) = trace.take() {
            session.recall(trace, &examples);
        }
        let mut results: Vec<(usize, ExampleResult<'a>)> = Vec::new();
        // As many of the first results are those of the last run. They are told last: somebody waits for the others.
        let mut held = 0;
        let mut blocked_by: Option<&str> = None;
        let mut next = 0;
        while let Some(&position) = plan.examples.get(next) {
            if blocked_by.is_none() && session.has_to_go_back(next) {
                next = session.go_back(&examples, next)?;
                results.retain(|(done, _)| plan.examples[..next].contains(done));
                held = results.len();
                continue;
            }
            let step = next;
            next += 1;
            let example = &page.examples[position];
            let (verdict, outcome) = match (self.skip(example, is_probe(position)), blocked_by) {
                (Some(verdict), None) => {
                    session.pass_over(&examples, step)?;
                    (verdict, None)
                }
                (Some(verdict), Some(_)) => (verdict, None),
                (None, Some(by)) => (Verdict::Blocked { by: by.to_owned() }, None),
                (None, None) => {
                    let outcome = session.step(&examples, step)?;
                    session.judge(example, outcome)
                }
            };
            let breaks = match &verdict {
                Verdict::Failed(failure) => outcome.is_some() && !failure.leaves_session_intact(),
                _ => false,
            };
            if blocked_by.is_none() && (breaks || session.ended_too_early(step)) {
                blocked_by = Some(&example.id);
            }
            if !matches!(example.kind, Kind::File(_)) {
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
                if session.repeats() {
                    held += 1;
                } else {
                    tell(&result)?;
                }
                results.push((position, result));
            }
        }
        for (_, result) in &results[..held] {
            tell(result)?;
        }
        let context = session.context.clone();
        let (scratch, saved) = (session.scratch.clone(), session.sources.len());
        let watched = session.watched(&results);
        let past = session.past.take();
        drop(session);
        let rerun = past.as_ref().map(Past::rerun);
        *trace = past.map(|past| past.trace);
        let has_checkpoints = |trace: &Trace| !trace.checkpoints.is_empty();
        if !trace.as_ref().is_some_and(has_checkpoints) {
            remove_if_filled(&directory, &scratch, saved);
        }
        let ran = self.keep(host, plan, found, &results, (&watched, started));
        // What stands before a selected example had to run, and is not reported.
        results.retain(|(position, _)| plan.selected.contains(position));
        Ok(SessionResults {
            results,
            context,
            rerun,
            why: found.map_or(Why::NotAsked, |found| found.why.clone()),
            key: found.map(Found::key),
            ran,
        })
    }

    /// What is to be kept of a session that ran. `watched` is what it read, or why that is not known.
    fn keep(
        &self,
        host: &Host,
        plan: &SessionPlan,
        found: Option<&Found>,
        results: &[(usize, ExampleResult<'_>)],
        (watched, started): (&std::result::Result<Observed, String>, SystemTime),
    ) -> Option<Ran> {
        let (keeping, found) = self.run.keeping.zip(found)?;
        let all = plan.all();
        let session = self.run.session(plan.page, &all, &self.version);
        let judged: Vec<&ExampleResult<'_>> = results.iter().map(|(_, result)| result).collect();
        let protections = host.ready.protections.as_ref();
        Some(found.ran(
            keeping.cache,
            &session,
            &judged,
            watched,
            protections,
            started,
        ))
    }

    fn runs_in_python(&self, example: &Example, is_probe: bool) -> bool {
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
    fn reason_to_skip(&self, example: &Example, is_probe: bool) -> Option<(String, bool)> {
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

/// A session while it runs.
struct Session<'r, 'a> {
    runner: &'r Runner<'r, 'a>,
    host: &'r Host,
    page: &'a Page,
    recording: &'a Recording,
    scratch: PathBuf,
    directory: &'r Path,
    /// The files in `directory`; what an example did to it is no error of ours.
    files: Scratch,
    /// Whether an example of it looks as if it used the network.
    own_network: bool,
    running: Option<Running>,
    /// Why the next example cannot be run.
    fault: Option<String>,
    /// The last example has been sent, with which the interpreter ends.
    finished: bool,
    /// Files that examples were saved as, with the examples.
    sources: Vec<(PathBuf, &'a Example)>,
    /// Nothing is written: it is only asked what would be run.
    rehearses: bool,
    /// Where traces are kept.
    past: Option<Past>,
    context: Context,
}

/// What a session did last time, and how far that holds.
struct Past {
    trace: Trace,
    /// What the run of each example depends on besides those before it.
    inputs: Vec<String>,
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
    /// How much of the session ran this time.
    fn rerun(&self) -> Rerun {
        let ran =
            |steps: &[trace::Step]| steps.iter().filter(|step| step.outcome.is_some()).count();
        let steps = &self.trace.steps;
        Rerun {
            ran: ran(&steps[self.holding.min(steps.len())..]),
            of: ran(steps),
            reason: self.reason.clone(),
        }
    }
}

impl<'r, 'a> Session<'r, 'a> {
    fn open(
        runner: &'r Runner<'r, 'a>,
        host: &'r Host,
        plan: &SessionPlan,
        directory: &'r Path,
    ) -> Result<Session<'r, 'a>> {
        let page = &runner.run.book.pages[plan.page];
        let scratch = directory.join("project");
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make `{}`", scratch.display()))?;
        let context = Context {
            scratch: scratch.to_string_lossy().into_owned(),
            ..Context::default()
        };
        Ok(Session {
            runner,
            host,
            page,
            recording: &runner.run.recordings[plan.page],
            files: Scratch::open(directory)
                .with_context(|| format!("cannot open `{}`", directory.display()))?,
            scratch,
            directory,
            own_network: plan
                .examples
                .iter()
                .any(|&at| sandbox::uses_network(&page.examples[at].source)),
            running: None,
            fault: None,
            finished: false,
            sources: Vec::new(),
            rehearses: false,
            past: None,
            context,
        })
    }

    /// Looks up how much of what the session did last time holds.
    fn recall(&mut self, trace: Trace, examples: &[(&'a Example, bool)]) {
        let inputs = self.rehearse(examples);
        self.sources.clear();
        let changed = trace.holds_for(&inputs);
        self.past = Some(Past {
            changed,
            holding: changed,
            inputs,
            trace,
            is_over: false,
            reason: None,
        });
    }

    /// What running these examples would depend on; leaves behind the names of the files that it would.
    fn rehearse(&mut self, examples: &[(&'a Example, bool)]) -> Vec<String> {
        self.rehearses = true;
        let inputs = examples
            .iter()
            .map(|&(example, last)| self.input(example, last))
            .collect();
        self.rehearses = false;
        inputs
    }

    fn input(&mut self, example: &'a Example, last: bool) -> String {
        let config = self.runner.run.config;
        // Probes leave no traces.
        let is_probe = false;
        if self.runner.reason_to_skip(example, is_probe).is_some() {
            return String::new();
        }
        let runs = match &example.kind {
            Kind::File(path) => {
                self.write_file(example, path);
                format!("{path} {}", example.source)
            }
            Kind::Console(_) if self.why_not_run(example).is_some() => return String::new(),
            Kind::Console(_) => format!("{:?} {}", example.attributes.env, example.source),
            Kind::Module(_) | Kind::Transcript(_) => {
                serde_json::to_string(&self.unit(example, last)).expect("units serialize")
            }
        };
        let limits = (
            self.own_network,
            ProcessLimits::of(config, session_memory(self.page, example)),
            self.limits(example),
        );
        format!("{runs} {:?} {limits:?}", example.attributes.artifacts)
    }

    /// Whether what it does now is what it did last time.
    fn repeats(&self) -> bool {
        self.past.as_ref().is_some_and(|past| !past.is_over)
    }

    /// Whether this is the first step that has to run: what the session did last time holds no further.
    fn has_to_go_back(&self, step: usize) -> bool {
        let past = self.past.as_ref();
        self.repeats() && past.is_some_and(|past| step == past.holding)
    }

    /// Takes the session to where it was before this step, or before an earlier one; returns which it is.
    fn go_back(&mut self, examples: &[(&'a Example, bool)], step: usize) -> Result<usize> {
        let past = self.past.as_mut().expect("only the past leads back");
        past.is_over = true;
        self.running = past.trace.go_back(step)?;
        past.holding = past.trace.steps.len();
        if past.holding < step
            && let Some(gap) = &past.trace.gap
        {
            let (before, _) = examples[gap.before.saturating_sub(1).min(step)];
            past.reason = Some(format!(
                "no checkpoint behind `{}`: {}",
                before.id, gap.reason
            ));
        }
        let from = past.holding;
        fs::create_dir_all(&self.scratch)?;
        self.files = Scratch::open(self.directory)?;
        self.sources.clear();
        self.rehearse(&examples[..from]);
        Ok(from)
    }

    /// Does what one example asks for, or finds out that it has been done.
    fn step(&mut self, examples: &[(&'a Example, bool)], step: usize) -> Result<Option<Outcome>> {
        let (example, last) = examples[step];
        match &self.past {
            None => self.run(example, last),
            Some(past) if past.is_over => self.run_and_note(example, last, step),
            Some(past) => {
                let outcome = past.trace.steps[step].outcome.clone();
                self.rehearse(&examples[step..=step]);
                Ok(outcome)
            }
        }
    }

    /// What is not run has its place in a trace all the same.
    fn pass_over(&mut self, examples: &[(&'a Example, bool)], step: usize) -> Result<()> {
        if self.past.is_some() {
            self.step(examples, step)?;
        }
        Ok(())
    }

    fn run_and_note(
        &mut self,
        example: &'a Example,
        last: bool,
        step: usize,
    ) -> Result<Option<Outcome>> {
        let past = self.past.as_mut().expect("who has one notes");
        let input = std::mem::take(&mut past.inputs[step]);
        let is_run = !input.is_empty();
        if is_run
            && past.trace.wants_mark(step == past.changed)
            && self.fault.is_none()
            && let Some(running) = self.running.take_if(|running| running.is_alive())
        {
            let sources = self
                .sources
                .iter()
                .map(|(_, example)| example.source.as_str());
            self.running = Some(past.trace.mark(running, sources)?);
        }
        let outcome = if is_run {
            self.run(example, last)?
        } else {
            None
        };
        let ended = self.is_cut_off();
        if let Some(past) = &mut self.past {
            past.trace.steps.push(trace::Step {
                input,
                outcome: outcome.clone(),
                ended,
            });
        }
        Ok(outcome)
    }

    /// What it read, or why that is not known.
    fn watched(
        &self,
        results: &[(usize, ExampleResult<'_>)],
    ) -> std::result::Result<Observed, String> {
        let is_console = |result: &ExampleResult<'_>| {
            matches!(result.example.kind, Kind::Console(_)) && result.outcome.is_some()
        };
        // Of a shell nobody knows what it read.
        if results.iter().any(|(_, result)| is_console(result)) {
            return Err("it has a console block".to_owned());
        }
        let Some(running) = &self.running else {
            return Ok(Observed::default());
        };
        let observed = running.observed().cloned();
        observed.ok_or_else(|| "its interpreter did not shut down in order".to_owned())
    }

    /// Whether the interpreter is gone although examples were to follow.
    fn ended_too_early(&self, step: usize) -> bool {
        match &self.past {
            Some(past) => past.trace.steps.get(step).is_some_and(|step| step.ended),
            None => self.is_cut_off(),
        }
    }

    fn is_cut_off(&self) -> bool {
        !self.finished
            && self
                .running
                .as_ref()
                .is_some_and(|running| !running.is_alive())
    }

    fn run(&mut self, example: &'a Example, last: bool) -> Result<Option<Outcome>> {
        Ok(match &example.kind {
            Kind::File(path) => {
                self.write_file(example, path);
                None
            }
            Kind::Console(_) if self.why_not_run(example).is_some() => None,
            Kind::Console(commands) => Some(self.run_console(example, commands)?),
            Kind::Module(_) | Kind::Transcript(_) => Some(self.run_python(example, last)?),
        })
    }

    /// Why the commands of a console block are only shown.
    fn why_not_run<'e>(&self, example: &'e Example) -> Option<&'e str> {
        if !self.runner.run.config.console {
            return Some("console blocks run only where `verify.toml` says `console = true`");
        }
        example.attributes.norun.as_deref()
    }

    /// What is to be said of an example that was not skipped.
    fn judge(&self, example: &Example, outcome: Option<Outcome>) -> (Verdict, Option<Outcome>) {
        let Some(outcome) = outcome else {
            let verdict = match &example.kind {
                Kind::Console(_) => Verdict::Illustrative {
                    reason: self.why_not_run(example).unwrap_or_default().to_owned(),
                },
                _ => Verdict::Ran,
            };
            return (verdict, None);
        };
        let recorded = self
            .recording
            .examples
            .iter()
            .find(|recorded| recorded.id == example.id);
        let expected = recorded.map(|recorded| recorded.expected_for(&self.runner.version));
        let config = self.runner.run.config;
        let page_output =
            (config.output == Output::Page && self.page.recording.is_some()).then(|| PageOutput {
                base: recorded.map(|recorded| &recorded.expected),
            });
        let terms = Terms {
            recorded: expected.as_ref(),
            must_be_recorded: self.page.recording.is_some(),
            page: page_output,
            doctest: config.doctest,
            context: &self.context,
        };
        let mut verdict = verdict::judge(example, &outcome, &terms);
        if matches!(verdict, Verdict::Verified | Verdict::Ran)
            && let Some(other) = self.judge_artifacts(&outcome)
        {
            verdict = other;
        }
        (verdict, Some(outcome))
    }

    fn run_python(&mut self, example: &'a Example, last: bool) -> Result<Outcome> {
        if self.running.is_none() {
            let members = session_memory(self.page, example);
            let limits = ProcessLimits::of(self.runner.run.config, members);
            self.running = Some(self.host.session(Start {
                directory: self.directory,
                scratch: &self.scratch,
                limits,
                program: Program::Python,
                own_network: self.own_network,
            })?);
        }
        let unit = self.unit(example, last);
        if let Some(reason) = self.fault.take() {
            return Ok(lost(reason));
        }
        let limits = self.limits(example);
        let running = self.running.as_mut().expect("started above");
        self.finished = last;
        let done = running.run(unit, limits);
        let artifacts = self.artifacts(example);
        Ok(Outcome {
            stdout: done.stdout,
            stderr: done.stderr,
            ending: done.ending,
            steps: done.steps,
            artifacts,
            duration: done.duration,
        })
    }

    fn unit(&mut self, example: &'a Example, last: bool) -> Unit {
        let attributes = &example.attributes;
        let mode = match &example.kind {
            _ if attributes.norun.is_some() => Mode::Parse,
            Kind::Transcript(statements) => Mode::Interactive {
                statements: statements
                    .iter()
                    .filter(|statement| {
                        !statement
                            .options
                            .apply(self.runner.run.config.doctest)
                            .contains(Flags::SKIP)
                    })
                    .map(|statement| Statement {
                        source: statement.source.clone(),
                        line: statement.line,
                    })
                    .collect(),
            },
            Kind::Module(comments) => Mode::Module {
                boundaries: comments
                    .printed
                    .iter()
                    .map(|run| run.lines.end - 1)
                    .collect(),
                values: comments.values.iter().map(|(line, _)| *line).collect(),
            },
            Kind::Console(_) | Kind::File(_) => unreachable!("these do not run in the interpreter"),
        };
        let mut path = self.scratch.join(self.file_name());
        let mut session_file = None;
        match mode {
            Mode::Module { .. } => {
                self.write(&path, example.source.as_bytes());
                self.sources.push((path.clone(), example));
                session_file = self.session_file();
            }
            Mode::Parse => {
                // A name of its own, by which a syntax error is traced to the page.
                path = self
                    .scratch
                    .join(format!("norun_{}.py", self.sources.len()));
                self.sources.push((path.clone(), example));
            }
            Mode::Interactive { .. } => {}
        }
        let stdin = match &attributes.stdin {
            None => None,
            Some(text) => {
                let path = self.directory.join("stdin");
                self.write(&path, text.as_bytes());
                Some(path)
            }
        };
        let name = if matches!(mode, Mode::Interactive { .. }) {
            String::new()
        } else {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        Unit {
            argv: std::iter::once(name)
                .chain(attributes.args.iter().cloned())
                .collect(),
            environment: attributes.env.clone(),
            stdin,
            source: example.source.clone(),
            mode,
            raises: attributes.raises.clone(),
            last,
            session_file,
            path,
        }
    }

    /// The examples that were saved as files and run, so far.
    fn modules(&self) -> impl Iterator<Item = &'a Example> {
        self.sources
            .iter()
            .map(|(_, example)| *example)
            .filter(|example| {
                matches!(example.kind, Kind::Module(_)) && example.attributes.norun.is_none()
            })
    }

    /// `example.py` for the first of a session, then `example_2.py` and so on; never a name that a
    /// `file=` block has.
    fn file_name(&self) -> String {
        let taken = |name: &str| {
            self.page
                .examples
                .iter()
                .any(|example| example.attributes.file.as_deref() == Some(name))
        };
        let modules = self.modules().count();
        let mut name = if modules == 0 {
            "example.py".to_owned()
        } else {
            format!("example_{}.py", modules + 1)
        };
        while taken(&name) {
            name.insert(0, '_');
        }
        name
    }

    /// Children that `multiprocessing` spawns run the main file again. From the second example on that
    /// has to be the session so far, or they would miss what earlier examples defined.
    fn session_file(&mut self) -> Option<PathBuf> {
        let modules: Vec<&Example> = self.modules().collect();
        let uses_processes = |example: &&Example| {
            ["multiprocessing", "concurrent.futures", "ProcessPool"]
                .iter()
                .any(|word| example.source.contains(word))
        };
        if modules.len() < 2 || !modules.iter().any(uses_processes) {
            return None;
        }
        // A name of its own for each: `forkserver` keeps the first one it has seen.
        let path = self.directory.join(format!("session_{}.py", modules.len()));
        let (current, earlier) = modules.split_last().expect("there are two");
        let mut text = String::new();
        for example in earlier
            .iter()
            .filter(|e| e.attributes.raises.is_none() && e.attributes.exits.is_none())
        {
            text.push_str(&example.source);
            text.push('\n');
        }
        text.push_str(&current.source);
        self.write(&path, text.as_bytes());
        Some(path)
    }

    fn run_console(&mut self, example: &Example, commands: &[console::Command]) -> Result<Outcome> {
        if let Some(reason) = self.fault.take() {
            return Ok(lost(reason));
        }
        let host = self.host;
        let program = host
            .find_program("bash")
            .or_else(|| host.find_program("sh"))
            .context("no `bash` or `sh` was found for console blocks; install one")?;
        let mut script = String::new();
        for (name, value) in &example.attributes.env {
            script.push_str(&format!(
                "export {name}='{}'\n",
                value.replace('\'', "'\\''")
            ));
        }
        script.push_str(&console::script(commands));
        let limits = ProcessLimits::of(self.runner.run.config, example.attributes.memory);
        let mut shell = host.session(Start {
            directory: self.directory,
            scratch: &self.scratch,
            limits,
            program: Program::Shell { program, script },
            own_network: self.own_network,
        })?;
        let done = shell.run_shell(commands.len(), self.limits(example));
        Ok(Outcome {
            stdout: done.stdout,
            stderr: done.stderr,
            ending: done.ending,
            steps: done.steps,
            artifacts: self.artifacts(example),
            duration: done.duration,
        })
    }

    fn limits(&self, example: &Example) -> host::Limits {
        let config = &self.runner.run.config.limits;
        let timeout = example
            .attributes
            .timeout
            .or(self.runner.run.settings.timeout)
            .unwrap_or(config.timeout);
        host::Limits {
            timeout,
            output: config.output,
            memory: session_memory(self.page, example).or(config.memory),
            processes: config.processes,
            scratch: config.scratch,
        }
    }

    fn write_file(&mut self, example: &'a Example, name: &str) {
        let path = self.scratch.join(name);
        if path.exists() && !self.rehearses {
            // Python takes cached bytecode for current when size and second of a file are the same.
            if let Some(parent) = path.parent() {
                let _ = fs::remove_dir_all(parent.join("__pycache__"));
            }
        }
        self.write(&path, example.source.as_bytes());
        self.sources.push((path, example));
    }

    /// Writes a file below the session's directory. If an earlier example made that impossible, the next one
    /// fails, and says so.
    fn write(&mut self, path: &Path, bytes: &[u8]) {
        if self.rehearses {
            return;
        }
        let name = path.strip_prefix(self.directory).unwrap_or(path);
        if let Err(error) = self.files.write(name, bytes) {
            let name = path.strip_prefix(&self.scratch).unwrap_or(name).display();
            self.fault = Some(format!(
                "`{name}` cannot be written to the session's directory: {error}"
            ));
        }
    }

    fn artifacts(&self, example: &Example) -> Vec<(String, Option<Vec<u8>>)> {
        example
            .attributes
            .artifacts
            .iter()
            .map(|name| {
                let path = self.scratch.join(name);
                let path = path.strip_prefix(self.directory).unwrap_or(&path);
                (name.clone(), self.files.read(path).ok())
            })
            .collect()
    }

    fn judge_artifacts(&self, outcome: &Outcome) -> Option<Verdict> {
        let recording = self.page.recording.as_ref()?;
        for (name, bytes) in &outcome.artifacts {
            let Some(bytes) = bytes else {
                continue;
            };
            let Ok(expected) = fs::read(artifact_path(recording, name)) else {
                return Some(Verdict::Unrecorded);
            };
            if let Some(difference) = compare::artifact_matches(name, &expected, bytes) {
                return Some(Verdict::Failed(Failure::Differs(vec![difference])));
            }
        }
        None
    }

    /// The traceback of an exception, with the example's files and lines replaced by those of the page.
    fn traceback(&self, outcome: &Outcome) -> Option<String> {
        let exception = match &outcome.ending {
            Ending::Raised(exception) => exception,
            _ => outcome
                .steps
                .iter()
                .find_map(|step| step.exception.as_ref())?,
        };
        if exception.traceback.is_empty() {
            return None;
        }
        Some(self.with_page_lines(&exception.traceback))
    }

    fn with_page_lines(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, example) in &self.sources {
            let frame = format!("File \"{}\", line ", path.display());
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(at) = rest.find(&frame) {
                let (before, behind) = (&rest[..at], &rest[at + frame.len()..]);
                let digits = behind.len()
                    - behind
                        .trim_start_matches(|c: char| c.is_ascii_digit())
                        .len();
                let line = behind[..digits].parse::<usize>().unwrap_or(1);
                out.push_str(before);
                let page_line = example.block.code_line + line.max(1) - 1;
                out.push_str(&format!("File \"{}\", line {page_line}", self.page.name));
                rest = &behind[digits..];
            }
            out.push_str(rest);
            text = out;
        }
        text
    }
}

/// The directory of a session goes with the run's. Only one that holds more than the files of the examples goes now,
/// lest a big book fill the disk: for minutes after a file was deleted, each new one costs some file systems
/// (ext4) a search through all those whose place it may not take yet.
fn remove_if_filled(directory: &Path, scratch: &Path, own_files: usize) {
    if fs::read_dir(scratch).map_or(0, Iterator::count) > own_files {
        let _ = scratch::remove(directory);
    }
}

/// Where the expected bytes of an artefact are kept: beside the recording, in a directory of its name.
pub fn artifact_path(recording: &Path, name: &str) -> PathBuf {
    recording.with_extension("").join(name)
}

/// Examples of a session share a process, so the largest limit that one of them asks for holds for all.
fn session_memory(page: &Page, example: &Example) -> Option<u64> {
    page.examples
        .iter()
        .filter(|other| {
            other.topic == example.topic || other.attributes.session == example.attributes.session
        })
        .filter_map(|other| other.attributes.memory)
        .max()
}

/// The outcome of an example that could not be run.
fn lost(reason: String) -> Outcome {
    Outcome {
        stdout: Vec::new(),
        stderr: Vec::new(),
        ending: Ending::Lost { reason },
        steps: Vec::new(),
        artifacts: Vec::new(),
        duration: Duration::ZERO,
    }
}
