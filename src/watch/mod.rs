//! `verify watch`: checks what is saved, as soon as it is saved.
//!
//! One thread waits for what happens, whichever it is: a saved file, a key, a signal. Another runs what is due, until
//! it is done or something happens: the pipeline of [`crate::check`], on hosts that stay, with traces of what
//! sessions did.
//!
//! | module | holds |
//! |---|---|
//! | [`inbox`] | all that happens, in one queue |
//! | [`files`] | which files are watched |
//! | [`terminal`] | keys, and what is shown |

mod files;
mod inbox;
mod terminal;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use files::Files;
use inbox::{Act, Inbox, RunEnds};
use terminal::{Keys, Screen, say};

use crate::book::{self, Book, Keyword, Page};
use crate::check::{self, Ground, SessionPlan, Settings};
use crate::cli;
use crate::commands::{self, Project, Status};
use crate::config;
use crate::example::Example;
use crate::host::Stop;
use crate::interpreter::Interpreter;
use crate::report::{Event, Finished, Summary};
use crate::schedule::{self, Interrupted};
use crate::sinks::{Sinks, tell_error};
use crate::state::{LastRun, Passed};
use crate::trace::Traces;

/// `verify watch [PATH…]`
pub fn watch(arguments: &cli::Watch) -> Result<Status> {
    schedule::watch_signals()?;
    if !matches!(
        arguments.report.format,
        cli::Format::Human | cli::Format::Json
    ) {
        bail!("`verify watch` reports as `human` or `json`; other formats are for runs that end");
    }
    if arguments.run.python.len() > 1 {
        bail!("`verify watch` runs on one Python; pass `--python` once");
    }
    let mut inbox = Inbox::new();
    let mut files = Files::new(inbox.sender.clone())?;
    let keys = Keys::read(inbox.sender.clone());
    let mut arguments = arguments.clone();
    let mut screen = Screen {
        sinks: Sinks::new(&arguments.report, false, false)?,
        has_keys: keys.is_some(),
        has_started: false,
        has_reported: false,
    };
    loop {
        match over_one_configuration(&mut arguments, &mut files, &mut inbox, &mut screen) {
            Ok(Next::StartOver(reason)) => say(reason)?,
            Ok(Next::Quit) => return Ok(Status::Good),
            Err(error)
                if error.is::<Interrupted>() || is_unread(&error) || !screen.has_reported =>
            {
                return Err(error);
            }
            // A mistake in `verify.toml`, say: it is mended by saving it again.
            Err(error) => {
                tell_error(&error)?;
                loop {
                    match inbox.next(&files)? {
                        Act::Key(b'q') => return Ok(Status::Good),
                        Act::Saved(_) => break,
                        Act::Key(_) | Act::Resumed | Act::RunEnded(_) => {}
                    }
                }
            }
        }
    }
}

/// Whether nobody reads any longer what a watch says.
fn is_unread(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Why a project is not watched any longer.
enum Next {
    StartOver(&'static str),
    Quit,
}

/// Watches a project until its configuration changes or somebody has seen enough.
fn over_one_configuration(
    arguments: &mut cli::Watch,
    files: &mut Files,
    inbox: &mut Inbox,
    screen: &mut Screen,
) -> Result<Next> {
    screen.has_started = false;
    let project = files.load_and_follow(&arguments.selection)?;
    let request = commands::interpreters(&arguments.run.python).swap_remove(0);
    let interpreter = project.interpreter(request.as_ref(), &arguments.run)?;
    let settings = commands::settings(&arguments.run, &project.config);
    let last_run = LastRun::read(&project.config.cache_directory());
    let mut watch = Watch {
        problems: pages_with_problems(&project),
        project,
        interpreter: &interpreter,
        settings: &settings,
        ground: None,
        traces: Traces::default(),
        due: Due::default(),
        since: Instant::now(),
        summaries: BTreeMap::new(),
        last_run,
    };
    watch.everything_is_due();
    if !watch.project.problems.is_empty() {
        screen.event(&Event::Problems(&watch.project.problems))?;
    }
    loop {
        let next = if watch.due.is_empty() {
            screen.prompt(watch.project.book.pages.len())?;
            let next = inbox.next_or(files, || watch.traces.settle())?;
            screen.clear_prompt()?;
            watch.since = Instant::now();
            next
        } else {
            match watch.run(files, inbox, screen)? {
                Some(next) => next,
                None => continue,
            }
        };
        match next {
            Act::Saved(paths) => {
                if paths.iter().any(|path| path.ends_with(config::FILE_NAME)) {
                    return Ok(Next::StartOver("`verify.toml` has changed: starting over"));
                }
                watch.take_in(&paths, arguments, files, screen)?;
            }
            Act::Key(b'q') => {
                watch
                    .last_run
                    .write(&watch.project.config.cache_directory());
                return Ok(Next::Quit);
            }
            Act::Key(b'a') => {
                watch.traces.clear();
                watch.everything_is_due();
            }
            Act::Key(b'f') => {
                if let Some(typed) = screen.ask("filter: ", inbox, files)? {
                    let filter = Some(typed).filter(|typed| !typed.is_empty());
                    match filter.as_deref().map(Keyword::parse).transpose() {
                        Ok(keyword) => {
                            arguments.selection.keyword = filter;
                            watch.project.selection.keyword = keyword;
                            watch.summaries.clear();
                            watch.everything_is_due();
                        }
                        Err(message) => say(&format!("error: {message}"))?,
                    }
                }
            }
            Act::Key(b'r') => {
                let record = cli::Record {
                    selection: arguments.selection.clone(),
                    run: arguments.run.clone(),
                    part: cli::Part::default(),
                    // The reports of this watch go on after it, also in a file.
                    report: cli::Report {
                        format: cli::Format::Human,
                        output: None,
                        ..arguments.report.clone()
                    },
                    in_ci: false,
                    portable: false,
                };
                match commands::record(&record) {
                    Err(error) if error.is::<Interrupted>() => return Err(error),
                    Err(error) => tell_error(&error)?,
                    Ok(_) => {}
                }
            }
            Act::Key(_) | Act::Resumed | Act::RunEnded(_) => {}
        }
    }
}

/// A project while it is watched.
struct Watch<'i> {
    project: Project,
    /// Pages that have mistakes, and are not run until they have none.
    problems: HashSet<String>,
    interpreter: &'i Interpreter,
    settings: &'i Settings,
    ground: Option<Ground<'i>>,
    traces: Traces,
    due: Due,
    /// When what is due became so.
    since: Instant,
    /// By key of the page.
    summaries: BTreeMap<String, Summary>,
    last_run: LastRun,
}

/// Pages to run, by key. What was saved last is what somebody waits for.
#[derive(Default)]
struct Due {
    first: BTreeSet<String>,
    then: BTreeSet<String>,
}

impl Due {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.then.is_empty()
    }

    fn put_first(&mut self, pages: BTreeSet<String>) {
        self.then.append(&mut self.first);
        self.then.retain(|page| !pages.contains(page));
        self.first = pages;
    }

    /// What is to be run together, before all else that is due.
    fn next(&mut self) -> &mut BTreeSet<String> {
        if self.first.is_empty() {
            &mut self.then
        } else {
            &mut self.first
        }
    }
}

impl Watch<'_> {
    fn everything_is_due(&mut self) {
        let pages = self.project.book.pages.iter();
        self.due = Due {
            first: BTreeSet::new(),
            then: pages.map(|page| page.key.clone()).collect(),
        };
    }

    /// Runs what is due next. Whatever happens meanwhile ends that, and is the answer; what was not reached stays due.
    /// When nothing is due any longer, it tells how the whole book is.
    fn run(
        &mut self,
        files: &Files,
        inbox: &mut Inbox,
        screen: &mut Screen,
    ) -> Result<Option<Act>> {
        let book = &self.project.book;
        let stop = Stop::new()?;
        let run = check::Run {
            book,
            config: &self.project.config,
            interpreter: self.interpreter,
            recordings: &self.project.recordings,
            settings: self.settings,
            last_run: &self.last_run,
            keeping: None,
            stop: Some(&stop),
        };
        let all = check::plan(book, &self.project.config, &self.project.selection);
        let due = self.due.next();
        let is_due = |plan: &&SessionPlan| {
            let page = &book.pages[plan.page];
            due.contains(&page.key) && !self.problems.contains(&page.name)
        };
        let plans: Vec<SessionPlan> = all.iter().filter(is_due).cloned().collect();
        let demands = check::demands(book, &plans);
        let ground = match self.ground.take() {
            Some(ground) if ground.suffices(&demands) => ground,
            _ => {
                self.traces.clear();
                Ground::new(&run, self.interpreter, &check::demands(book, &all))?
            }
        };
        let number = inbox.next_run();
        let ended = RunEnds(inbox.sender.clone(), number);
        let is_news = |act: &Act| match act {
            Act::Saved(paths) => !paths.iter().all(|path| is_as_read(book, path)),
            Act::Key(key) => matches!(key, b'a' | b'f' | b'r' | b'q'),
            Act::Resumed | Act::RunEnded(_) => false,
        };
        let (results, happened) = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let _ended = ended;
                let traces = Some(&self.traces);
                let plans = (&*plans, &*demands);
                check::run_on(&run, &ground, traces, plans, &mut |event| {
                    screen.event(event)
                })
            });
            let happened = loop {
                match inbox.next(files) {
                    Ok(Act::RunEnded(which)) if which == number => break None,
                    Ok(act) if !is_news(&act) => {}
                    other => {
                        stop.give();
                        break Some(other);
                    }
                }
            };
            (running.join(), happened)
        });
        let results = results.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let happened = happened.transpose()?;
        if happened.is_none() {
            for key in std::mem::take(due) {
                self.summaries.remove(&key);
            }
        }
        for page in &results.pages {
            let key = &page.page.key;
            due.remove(key);
            self.summaries
                .insert(key.clone(), Summary::of(&page.examples));
        }
        let mut last_run = self.last_run.clone();
        last_run.update(&results.pages, &mut Passed::of(1));
        if self.due.is_empty() {
            if !screen.has_reported {
                last_run.write(&self.project.config.cache_directory());
            }
            self.tell_the_whole(results.sessions, results.stopped_early, screen)?;
        }
        drop(results);
        self.last_run = last_run;
        self.ground = Some(ground);
        Ok(happened)
    }

    /// How the whole book is, whatever of it ran just now.
    fn tell_the_whole(
        &self,
        sessions: usize,
        stopped_early: bool,
        screen: &mut Screen,
    ) -> Result<()> {
        let mut total = Summary::default();
        for summary in self.summaries.values() {
            total.add(summary);
        }
        let orphans = if self.project.is_whole() {
            self.project.orphans()
        } else {
            Vec::new()
        };
        screen.event(&Event::Finished(&Finished {
            interpreter: self.interpreter,
            summary: total,
            orphans: &orphans,
            stopped_early,
            sessions,
            kept: 0,
            duration: self.since.elapsed(),
        }))?;
        Ok(())
    }

    /// Reads what was saved, and finds out what is due therefore.
    fn take_in(
        &mut self,
        paths: &BTreeSet<PathBuf>,
        arguments: &cli::Watch,
        files: &mut Files,
        screen: &mut Screen,
    ) -> Result<()> {
        let known = |path: &PathBuf| {
            let mut pages = self.project.book.pages.iter();
            pages.any(|page| page.file == *path)
        };
        let come_or_gone =
            |path: &PathBuf| path.is_dir() || (book::is_page(path) && known(path) != path.exists());
        if paths.iter().any(come_or_gone) {
            return self.reload(arguments, files, screen);
        }
        let mut changed = BTreeSet::new();
        for number in 0..self.project.book.pages.len() {
            let page = &self.project.book.pages[number];
            let was_read = paths.contains(&page.file);
            let artifacts = page.recording.as_ref().map(|file| file.with_extension(""));
            let is_compared = page
                .recording
                .as_ref()
                .is_some_and(|file| paths.contains(file))
                || artifacts
                    .is_some_and(|directory| paths.iter().any(|path| path.starts_with(&directory)));
            if !was_read && !is_compared {
                continue;
            }
            let mut problems = Vec::new();
            if was_read {
                match self.project.book.read_again(&self.project.config, number) {
                    Ok((before, mistakes)) => {
                        let page = &self.project.book.pages[number];
                        let is_same = page.text == before.text && mistakes.is_empty();
                        if is_same && !is_compared && !self.problems.contains(&page.name) {
                            continue;
                        }
                        problems = mistakes;
                        let edited = edited(&before.examples, &page.examples);
                        let places = edited.map(|position| (number, position));
                        screen.sinks.urgent.extend(places);
                    }
                    Err(problem) => problems.push(problem),
                }
            }
            let page = &self.project.book.pages[number];
            let name = page.name.clone();
            if is_compared || self.problems.contains(&name) {
                let (_, recording, problem) = commands::read_recording(page);
                self.project.recordings[number] = recording;
                problems.extend(problem);
            }
            if problems.is_empty() {
                self.problems.remove(&name);
                changed.insert(page.key.clone());
            } else {
                screen.event(&Event::Problems(&problems))?;
                self.problems.insert(name);
            }
        }
        if !changed.is_empty() {
            self.due.put_first(changed);
        }
        Ok(())
    }

    /// Reads the whole book again, since pages came or went.
    fn reload(
        &mut self,
        arguments: &cli::Watch,
        files: &mut Files,
        screen: &mut Screen,
    ) -> Result<()> {
        let project = files.load_and_follow(&arguments.selection)?;
        let before = std::mem::replace(&mut self.project, project);
        self.problems = pages_with_problems(&self.project);
        if !self.project.problems.is_empty() {
            screen.event(&Event::Problems(&self.project.problems))?;
        }
        let pages = &self.project.book.pages;
        let told = self.summaries.len();
        self.summaries
            .retain(|key, _| pages.iter().any(|page| page.key == *key));
        let has_lost = self.summaries.len() < told;
        let is_new = |&number: &usize| {
            let page = &pages[number];
            let mut old = before.book.pages.iter().zip(&before.recordings);
            !old.any(|(old, recording)| {
                old.key == page.key
                    && old.text == page.text
                    && *recording == self.project.recordings[number]
            })
        };
        let new = (0..pages.len()).filter(is_new);
        let new = new.map(|number| pages[number].key.clone()).collect();
        // Its places are those of the book as it was.
        screen.sinks.urgent.clear();
        self.due.put_first(new);
        let is_there = |key: &String| pages.iter().any(|page| page.key == *key);
        self.due.first.retain(is_there);
        self.due.then.retain(is_there);
        if has_lost && self.due.is_empty() {
            self.tell_the_whole(0, false, screen)?;
        }
        Ok(())
    }
}

/// Positions of the examples of a page that are not as they were.
fn edited(before: &[Example], now: &[Example]) -> impl Iterator<Item = usize> {
    let is_same = |old: &Example, new: &Example| {
        old.source() == new.source() && old.kind == new.kind && old.attributes == new.attributes
    };
    let pairs = before.iter().zip(now);
    let head = pairs.take_while(|(old, new)| is_same(old, new)).count();
    let (before, rest) = (&before[head..], &now[head..]);
    let pairs = before.iter().rev().zip(rest.iter().rev());
    let tail = pairs.take_while(|(old, new)| is_same(old, new)).count();
    let gone = &before[..before.len() - tail];
    (head..now.len() - tail).filter(move |&position| {
        let mut gone = gone.iter();
        !gone.any(|old| is_same(old, &now[position]))
    })
}

fn pages_with_problems(project: &Project) -> HashSet<String> {
    let problems = project.problems.iter();
    let mut names: HashSet<String> = problems.map(|problem| problem.page.clone()).collect();
    // What is wrong with a recording names that.
    if !names.is_empty() {
        let pages = project.book.pages.iter();
        let has_bad_recording = |page: &&Page| commands::read_recording(page).2.is_some();
        names.extend(
            pages
                .filter(has_bad_recording)
                .map(|page| page.name.clone()),
        );
    }
    names
}

/// Whether a file is a page, and is as it was when it was read.
fn is_as_read(book: &Book, path: &Path) -> bool {
    let page = book.pages.iter().find(|page| page.file == *path);
    page.is_some_and(|page| fs::read(path).is_ok_and(|bytes| bytes == page.text.as_bytes()))
}
