//! A session that stays where it is, so that copies of it go on from there as often as a page is edited.
//!
//! A fork copies memory. What a process has besides is shared with the copy (files, sockets, shared memory) or
//! is missing in it (threads, children, timers); where there is any of that, the copy would not be what the
//! process was, and the session stays an ordinary one. What lies in its directory is `verify`'s to put back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use pyo3::prelude::*;
use verify::protocol::SessionSetup;

use crate::copy::{self, Copied};
use crate::isolation;
use crate::serve::{Forked, Host, Next};

/// Waits for words to go on. Returns in copies only.
pub(crate) fn wait(py: Python<'_>, control: UnixStream) -> io::Result<Forked> {
    let directory = std::env::current_dir()?;
    let mut host = Host::new(control, &fork_unseen);
    match host.run(py) {
        Next::Session(forked) => {
            // It may be another one, with the same in it.
            std::env::set_current_dir(directory)?;
            Ok(*forked)
        }
        Next::HungUp => {
            host.end_everything();
            // SAFETY: ends the process. What its end would print belongs to examples that its copies have run.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Not through Python's own `fork`: that runs what examples have registered for a fork, and gives `random` a new
/// seed. The process has one thread, which holds all of Python's locks, and goes on holding them in the copy.
fn fork_unseen(_py: Python<'_>, _setup: &SessionSetup) -> Copied {
    copy::fork()
}

/// What a process has beside its memory before an example has run in it.
pub(crate) struct State {
    /// Open descriptors, with device and inode of what they lead to.
    descriptors: BTreeMap<RawFd, (u64, u64)>,
    shared_files: Vec<String>,
}

impl State {
    pub(crate) fn now() -> State {
        State {
            descriptors: descriptors().unwrap_or_default(),
            shared_files: shared_files(),
        }
    }

    /// What a copy of this process would not have, or not for itself.
    pub(crate) fn what_a_copy_lacks(&self) -> Option<String> {
        let has_files = || shared_files() != self.shared_files;
        let is_lost = || {
            let directory = std::env::current_dir();
            directory.and_then(std::env::set_current_dir).is_err()
        };
        self.what_a_fork_lacks()
            .or_else(|| has_files().then(|| "there are files in `/dev/shm`".to_owned()))
            .or_else(|| is_lost().then(|| "its working directory is gone".to_owned()))
    }

    /// The same but for files, which others may have made.
    pub(crate) fn what_a_fork_lacks(&self) -> Option<String> {
        let what = match fs::read_dir("/proc/self/task").map(Iterator::count) {
            Err(_) => "`/proc` does not say what it has",
            Ok(2..) => "a thread is running",
            Ok(_) if !isolation::stray_children(|_| false).is_empty() => {
                "a process that it started is running"
            }
            Ok(_) if descriptors().as_ref() != Some(&self.descriptors) => {
                "a file or socket is open, or a standard stream was changed"
            }
            Ok(_) if has_waiting_signal() => "a signal that it holds back waits for it",
            Ok(_) if has_timer() => "a timer is running",
            Ok(_) if shares_memory() => "memory is shared with other processes",
            Ok(_) => return None,
        };
        Some(what.to_owned())
    }
}

fn descriptors() -> Option<BTreeMap<RawFd, (u64, u64)>> {
    let listed = fs::read_dir("/proc/self/fd").ok()?;
    let numbers = listed.map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<RawFd> = numbers.collect::<Option<_>>()?;
    let open = |number: RawFd| {
        // The descriptor of the listing itself is closed by now.
        let file = fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
        Some((number, (file.dev(), file.ino())))
    };
    Some(numbers.into_iter().filter_map(open).collect())
}

/// A copy begins without any.
fn has_waiting_signal() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut sets = status.lines().filter_map(|line| {
        line.strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"))
    });
    sets.any(|set| set.trim().bytes().any(|digit| digit != b'0'))
}

fn has_timer() -> bool {
    [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF]
        .iter()
        .any(|&which| {
            // SAFETY: the structure is plain numbers, and is written by the call.
            let mut timer: libc::itimerval = unsafe { std::mem::zeroed() };
            unsafe { libc::getitimer(which, &raw mut timer) };
            timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0
        })
}

/// Whether it has a mapping that others can change too.
fn shares_memory() -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().any(|line| {
        let access = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        access.contains('w') && access.ends_with('s')
    })
}

fn shared_files() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
