//! What a session did, example by example, so that it need not do it again after an edit.
//!
//! As long as an example and all before it in its session are as they were, and the files that the session read, what
//! it did holds. From the first that is not, the session goes on at the last checkpoint before it; where a file has
//! changed, it starts anew. Verdicts are not kept: they are made
//! anew, since recordings and prose change too.
//!
//! While nothing is to be run, a trace gets ready for the next edit of the same example: its directory is put back, and a
//! copy is made to go on in. That takes the longer the longer a page is, and nobody waits for it then.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::contents::Contents;
use crate::host::{Checkpoint, Host, Running, Untrue};
use crate::outcome::Outcome;
use crate::reads::Reads;
use crate::scratch;

/// As many sessions keep checkpoints, and with them processes.
pub const LIVE_SESSIONS: usize = 8;

/// As many checkpoints a session keeps. The processes share what they have in common, but not all.
const MOST_CHECKPOINTS: usize = 50;

/// A checkpoint costs about as much as running a few small examples. So there is one before the example that is
/// being edited, and for the next to be edited, one wherever this much would have to run again, or four times what a
/// checkpoint costs.
const WORTH_KEEPING: Duration = Duration::from_millis(10);

/// A session: the key of its page, and which of the page's sessions it is.
pub type Key = (String, usize);

/// Words of examples that look at what a copy of a process has anew: its number, and the time that it has used.
const OF_THE_PROCESS: &[&str] = &[
    "getpid",
    "getppid",
    "getpgrp",
    "getpgid",
    "setpgrp",
    "setpgid",
    "getsid",
    "setsid",
    "get_native_id",
    "native_id",
    "multiprocessing",
    "ProcessPool",
    "process_time",
    "thread_time",
    "getrusage",
    "os.times",
    "CLOCK_PROCESS",
    "CLOCK_THREAD",
    "/proc/self",
];

/// The sessions of a book, as they were run last.
#[derive(Debug, Default)]
pub struct Traces {
    all: Mutex<HashMap<Key, Trace>>,
    /// Those with checkpoints, the latest last.
    live: Mutex<Vec<Key>>,
    /// Those that have something to do which can wait.
    unsettled: Mutex<Vec<Key>>,
}

/// One session, as it was run last.
#[derive(Debug)]
pub struct Trace {
    pub host: Arc<Host>,
    /// The session's own; removed with the trace.
    pub directory: PathBuf,
    /// Whether it is worth checkpoints: somebody edits its page.
    pub is_edited: bool,
    /// As far as its processes could say so.
    pub reads: Reads,
    /// Up to the last example that ran.
    pub steps: Vec<Step>,
    /// By the number of the step that they stand before, in order.
    pub checkpoints: Vec<Point>,
    /// The first step that cannot have a checkpoint before it, as far as that was tried.
    pub gap: Option<Gap>,
    /// How long making the last checkpoint took: the longer, the more files and memory the session has.
    cost: Duration,
    /// The step that the directory is as it was before.
    place: Option<usize>,
    /// The step that somebody edited last.
    edited: Option<usize>,
    /// Checkpoints that nobody will go back to, whose processes are still to be ended.
    obsolete: Vec<Point>,
}

#[derive(Debug, Clone)]
pub struct Step {
    /// All that its run depends on besides the steps before it; empty where it is not run.
    pub input: Vec<u8>,
    pub outcome: Option<Outcome>,
    /// Whether the interpreter ended with it although more was to follow.
    pub ended: bool,
}

#[derive(Debug)]
pub struct Point {
    pub before: usize,
    checkpoint: Checkpoint,
    contents: Contents,
    /// One that waits to go on, in the directory as it was then.
    copy: Option<Running>,
}

/// Where a checkpoint would not have been true.
#[derive(Debug)]
pub struct Gap {
    pub before: usize,
    pub reason: String,
}

impl Traces {
    pub fn take(&self, key: &Key) -> Option<Trace> {
        lock(&self.all).remove(key)
    }

    pub fn put(&self, key: Key, trace: Trace) {
        let mut live = lock(&self.live);
        live.retain(|other| *other != key);
        if !trace.checkpoints.is_empty() {
            live.push(key.clone());
        }
        let mut unsettled = lock(&self.unsettled);
        unsettled.push(key.clone());
        let mut all = lock(&self.all);
        all.insert(key, trace);
        if live.len() > LIVE_SESSIONS {
            let oldest = live.remove(0);
            if let Some(trace) = all.get_mut(&oldest) {
                trace.obsolete.append(&mut trace.checkpoints);
            }
            unsettled.push(oldest);
        }
    }

    /// Does a part of what can wait until nothing is to be run; false if there was nothing to do.
    pub fn settle(&self) -> bool {
        let Some(key) = lock(&self.unsettled).pop() else {
            return false;
        };
        if let Some(trace) = lock(&self.all).get_mut(&key) {
            trace.settle();
        }
        true
    }

    /// Forgets everything, and ends all processes that were kept.
    pub fn clear(&self) {
        lock(&self.live).clear();
        lock(&self.unsettled).clear();
        lock(&self.all).clear();
    }
}

impl Trace {
    pub fn new(host: &Arc<Host>, directory: PathBuf) -> Trace {
        Trace {
            host: host.clone(),
            directory,
            is_edited: false,
            reads: Reads::from_now(),
            steps: Vec::new(),
            checkpoints: Vec::new(),
            gap: None,
            cost: Duration::ZERO,
            place: Some(0),
            edited: None,
            obsolete: Vec::new(),
        }
    }

    /// How many of the first steps hold for these inputs.
    pub fn holds_for(&self, inputs: &[Vec<u8>]) -> usize {
        let pairs = self.steps.iter().zip(inputs);
        pairs
            .take_while(|(step, input)| step.input == **input)
            .count()
    }

    /// Goes back to the last checkpoint before this step or one before it, and forgets what came after: to the start
    /// where there is none. The process that goes on, if any, is behind the steps that are left.
    pub fn go_back(&mut self, step: usize) -> Result<Option<Running>> {
        self.edited = Some(step);
        let place = self.place.take();
        // What comes after the step may be another thing now.
        self.gap.take_if(|gap| gap.before > step);
        if self.obsolete.len() > MOST_CHECKPOINTS {
            self.obsolete.clear();
        }
        let later = self.checkpoints_for(step);
        self.obsolete.extend(self.checkpoints.drain(later..));
        if let Some(point) = self.checkpoints.last_mut() {
            match point.put_back(&self.directory, place) {
                Ok(()) => {
                    self.steps.truncate(point.before);
                    return point.go_on().map(Some);
                }
                Err(error) => {
                    self.gap = Some(Gap {
                        before: point.before,
                        reason: format!("its directory cannot be put back: {error}"),
                    });
                }
            }
        }
        self.obsolete.append(&mut self.checkpoints);
        self.steps.clear();
        self.reads = Reads::from_now();
        if place != Some(0) {
            let old = self.old_directory();
            scratch::remove(&old)?;
            fs::rename(&self.directory, old)?;
            fs::create_dir(&self.directory)?;
        }
        Ok(None)
    }

    /// How many of the checkpoints are before this step.
    fn checkpoints_for(&self, step: usize) -> usize {
        self.checkpoints
            .partition_point(|point| point.before <= step)
    }

    /// Gets ready for the next edit of what was edited last, and ends and removes what nobody needs any longer.
    fn settle(&mut self) {
        let wanted = self.edited.map_or(0, |step| self.checkpoints_for(step));
        for (index, point) in self.checkpoints.iter_mut().enumerate() {
            if index + 1 != wanted {
                point.copy = None;
            } else if point.put_back(&self.directory, self.place).is_ok() {
                self.place = Some(point.before);
                // What is wrong now is found out again, and told, when a copy is needed.
                point.copy = point.go_on().ok();
            }
        }
        self.obsolete.clear();
        let _ = scratch::remove(&self.old_directory());
    }

    /// Where the directory goes when another takes its place.
    fn old_directory(&self) -> PathBuf {
        self.directory.with_extension("old")
    }

    /// Whether the next step should have a checkpoint before it. Only who edits a page needs any.
    pub fn wants_mark(&self, is_changed: bool) -> bool {
        let next = self.steps.len();
        let last = self.checkpoints.last().map_or(0, |point| point.before);
        let since: Duration = self.steps[last..]
            .iter()
            .filter_map(|step| Some(step.outcome.as_ref()?.duration))
            .sum();
        // Where the one that is wanted cannot be, the last before it that can be is not known.
        let leads_to_gap = self.gap.as_ref().is_some_and(|gap| next < gap.before);
        let is_worth_it = leads_to_gap || since >= WORTH_KEEPING.max(self.cost * 4);
        self.is_edited
            && next > last
            && (is_changed || is_worth_it && self.checkpoints.len() < MOST_CHECKPOINTS)
    }

    /// Makes a checkpoint before the next step, if one would be true; the session goes on in a copy of it.
    pub fn mark<'a>(
        &mut self,
        running: Running,
        mut sources: impl Iterator<Item = &'a str>,
    ) -> Result<Running> {
        let started = Instant::now();
        let before = self.steps.len();
        let word =
            sources.find_map(|source| OF_THE_PROCESS.iter().find(|word| source.contains(**word)));
        let earlier = self.checkpoints.last().map(|point| &point.contents);
        let contents = match word {
            Some(word) => Err(format!("a copy would have another answer to `{word}`")),
            None => Contents::read(&self.directory, earlier),
        };
        let made = match contents {
            Ok(contents) => Checkpoint::of(running).map(|checkpoint| (checkpoint, contents)),
            Err(reason) => Err(Box::new(Untrue {
                process: running,
                reason,
            })),
        };
        match made {
            Ok((checkpoint, contents)) => {
                let next = checkpoint.go_on(contents.room())?;
                self.cost = started.elapsed();
                self.checkpoints.push(Point {
                    before,
                    checkpoint,
                    contents,
                    copy: None,
                });
                Ok(next)
            }
            Err(untrue) => {
                if self.gap.as_ref().is_none_or(|gap| before < gap.before) {
                    self.gap = Some(Gap {
                        before,
                        reason: untrue.reason,
                    });
                }
                Ok(untrue.process)
            }
        }
    }
}

impl Point {
    /// Makes the directory what it was then, unless it is.
    fn put_back(&mut self, directory: &Path, place: Option<usize>) -> io::Result<()> {
        if place == Some(self.before) {
            return Ok(());
        }
        // It may be in a directory that will be another one.
        self.copy = None;
        self.contents.restore(directory)
    }

    /// A session that goes on from here, in the directory as it was then.
    fn go_on(&mut self) -> Result<Running> {
        let copy = self.copy.take();
        match copy.and_then(Running::awake) {
            Some(copy) => Ok(copy),
            None => self.checkpoint.go_on(self.contents.room()),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.obsolete.append(&mut self.checkpoints);
        self.settle();
        let _ = scratch::remove(&self.directory);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
