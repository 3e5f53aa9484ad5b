//! All that happens while a watch goes on, whoever tells of it, in one queue; and how much of it is one thing to do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use anyhow::{Result, bail};

use super::files::Files;
use crate::schedule::{self, Interrupted};

/// A file that is still being written is read when nothing was heard of it for so long. Most editors say that
/// they are done, by closing or renaming.
const QUIET: Duration = Duration::from_millis(20);

/// What is gone may come back within so long: many editors move the old file away before they write the new one.
const BACK: Duration = Duration::from_millis(200);

/// How often signals are looked for while nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What makes a watch do something.
pub(super) enum Happened {
    /// The file is complete.
    Saved(PathBuf),
    /// The file is being written, or has gone.
    Touched(PathBuf),
    Key(u8),
    /// This process was stopped, and goes on.
    Resumed,
    /// The run of this number has no more to tell.
    RunEnded(usize),
}

/// What is to be done about it.
pub(super) enum Act {
    /// Read these files again; what was saved together is run together.
    Saved(BTreeSet<PathBuf>),
    Key(u8),
    /// Show again what can be done.
    Resumed,
    RunEnded(usize),
}

/// Says that a run has ended, however it does.
pub(super) struct RunEnds(pub(super) Sender<Happened>, pub(super) usize);

impl Drop for RunEnds {
    fn drop(&mut self) {
        // Nobody is left to tell when the watch is over.
        let _ = self.0.send(Happened::RunEnded(self.1));
    }
}

/// All that happens, in the order in which it is to be dealt with.
pub(super) struct Inbox {
    pub(super) sender: Sender<Happened>,
    receiver: Receiver<Happened>,
    touched: BTreeSet<PathBuf>,
    saved: BTreeSet<PathBuf>,
    gone: BTreeSet<PathBuf>,
    runs: usize,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        let (sender, receiver) = mpsc::channel();
        Inbox {
            sender,
            receiver,
            touched: BTreeSet::new(),
            saved: BTreeSet::new(),
            gone: BTreeSet::new(),
            runs: 0,
        }
    }

    pub(super) fn next_run(&mut self) -> usize {
        self.runs += 1;
        self.runs
    }

    /// Waits until there is something to do.
    pub(super) fn next(&mut self, files: &Files) -> Result<Act> {
        self.next_or(files, || false)
    }

    /// As [`Inbox::next`]. Until then it does what can wait, part by part: `do_part` says whether there was any.
    pub(super) fn next_or(&mut self, files: &Files, do_part: impl Fn() -> bool) -> Result<Act> {
        let mut has_more = true;
        loop {
            let patience = if !self.saved.is_empty() {
                Duration::ZERO
            } else if !self.touched.is_empty() {
                QUIET
            } else if !self.gone.is_empty() {
                BACK
            } else if has_more {
                Duration::ZERO
            } else {
                LOOK_EVERY
            };
            match self.take(patience, files)? {
                Some(Happened::Key(key)) => return Ok(Act::Key(key)),
                Some(Happened::Resumed) => return Ok(Act::Resumed),
                Some(Happened::RunEnded(run)) => return Ok(Act::RunEnded(run)),
                Some(Happened::Touched(_) | Happened::Saved(_)) => {}
                None => {
                    self.saved.append(&mut self.touched);
                    if self.saved.is_empty() {
                        self.saved.append(&mut self.gone);
                    }
                    if !self.saved.is_empty() {
                        return Ok(Act::Saved(std::mem::take(&mut self.saved)));
                    }
                    has_more = has_more && do_part();
                }
            }
        }
    }

    /// The next key, whatever happens besides; `None` if there is none yet.
    pub(super) fn key(&mut self, files: &Files) -> Result<Option<u8>> {
        match self.take(LOOK_EVERY, files)? {
            Some(Happened::Key(key)) => Ok(Some(key)),
            _ => Ok(None),
        }
    }

    /// What happens next, if it does so in time. Files are noted.
    fn take(&mut self, patience: Duration, files: &Files) -> Result<Option<Happened>> {
        if schedule::interrupted() {
            bail!(Interrupted);
        }
        let happened = match self.receiver.recv_timeout(patience) {
            Ok(happened) => happened,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("nothing watches the files any longer"),
        };
        match &happened {
            Happened::Touched(path) => {
                for file in files.ours(path) {
                    if file.exists() {
                        self.gone.remove(file);
                        self.touched.insert(file.clone());
                    } else {
                        self.touched.remove(file);
                        self.saved.remove(file);
                        self.gone.insert(file.clone());
                    }
                }
            }
            Happened::Saved(path) => {
                for file in files.ours(path) {
                    self.touched.remove(file);
                    self.gone.remove(file);
                    self.saved.insert(file.clone());
                }
            }
            _ => {}
        }
        Ok(Some(happened))
    }
}
