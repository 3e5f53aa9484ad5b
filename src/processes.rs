//! The processes of a session and what they use, read from the kernel's own books.
//!
//! Both programs look there, since no counter of the kernel's fits everywhere: control groups are rarely given
//! to an ordinary user or a container, and limits on a user's processes do not bind root.
//! Where there is no `/proc`, nothing is found.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, Signal};

/// A file or directory takes up room even when it holds nothing.
const LEAST_FILE: u64 = 1024;

/// The children of a process, whichever of its threads they came from.
pub fn children(process: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|word| Pid::from_raw(word.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A process and all below it.
pub fn family(head: Pid) -> Vec<Pid> {
    let mut found = vec![head];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        found.extend(children(process));
        next += 1;
    }
    found
}

/// Who of the family of `head` calls itself `number`: in a process namespace of its own, a process has another
/// number for itself than for those outside.
pub fn called(number: i32, head: Pid) -> Option<Pid> {
    family(head).into_iter().find(|process| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .and_then(|numbers| numbers.split_ascii_whitespace().next_back()?.parse().ok());
        own.unwrap_or(process.as_raw_pid()) == number
    })
}

/// Whether it has begun to end but not yet left its children to somebody else. In between it may have no directory and
/// no environment any more that would tell whose it is.
pub fn is_exiting(process: Pid) -> bool {
    /// Flag of a process, from `linux/sched.h`.
    const EXITING: u32 = 0x4;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: state, parent, group, session, terminal, its group, flags.
    let mut fields = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_ascii_whitespace();
    let is_zombie = fields.next() == Some("Z");
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u32>().ok());
    !is_zombie && flags.is_some_and(|flags| flags & EXITING != 0)
}

/// Kills these processes and all below them, even if they multiply meanwhile: each is stopped before any is
/// killed, so that whoever is found last has nobody left who could go on.
pub fn end_families(heads: &[Pid]) {
    let mut stopped: HashSet<Pid> = HashSet::new();
    loop {
        let running: Vec<Pid> = heads
            .iter()
            .flat_map(|&head| family(head))
            .filter(|process| !stopped.contains(process))
            .collect();
        if running.is_empty() {
            break;
        }
        for process in running {
            let _ = rustix::process::kill_process(process, Signal::STOP);
            stopped.insert(process);
        }
    }
    for process in stopped {
        let _ = rustix::process::kill_process(process, Signal::KILL);
    }
}

/// Bytes of memory that these processes hold together, pages that several of them share counted once.
///
/// Exact numbers cost the kernel a walk over the page tables. So as long as the cheap upper bound is below
/// `enough`, that is the answer.
pub fn memory(processes: &[Pid], enough: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    let resident = |process: &Pid| -> Option<u64> {
        let statm = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
        let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(pages * page)
    };
    let bound: u64 = processes.iter().filter_map(resident).sum();
    if bound <= enough {
        return bound;
    }
    processes
        .iter()
        .filter_map(|process| proportional(*process).or_else(|| resident(process)))
        .sum()
}

/// A process's memory with its part of what it shares (`Pss` in `proc_pid_smaps(5)`).
fn proportional(process: Pid) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes of files that have no name any more, or never had one, and that these processes hold open. They take up room on a
/// file system, or memory, until they are closed.
pub fn unnamed_files(processes: &[Pid]) -> u64 {
    let open = |process: &Pid| fs::read_dir(format!("/proc/{process}/fd")).into_iter();
    let mut counted = HashSet::new();
    processes
        .iter()
        .flat_map(open)
        .flatten()
        .flatten()
        .filter_map(|descriptor| fs::metadata(descriptor.path()).ok())
        .filter(|file| file.is_file() && file.nlink() == 0)
        .filter(|file| counted.insert((file.dev(), file.ino())))
        .map(|file| room(&file))
        .sum()
}

/// Bytes that a directory takes up on its file system with all that is in it.
pub fn disk(directory: &Path) -> u64 {
    walkdir::WalkDir::new(directory)
        .min_depth(1)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| room(&file))
        .sum()
}

/// Bytes that a file takes up there.
pub fn room(file: &Metadata) -> u64 {
    (file.blocks() * 512).max(LEAST_FILE)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_family_is_found_counted_and_ended() {
        let mut head = Command::new("sh")
            .args(["-c", "sleep 1000 & sh -c 'sleep 1000 & wait' & wait"])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(head.id().cast_signed()).unwrap();
        while family(pid).len() < 4 {
            std::thread::yield_now();
        }
        let all = family(pid);
        let used = memory(&all, u64::MAX);
        assert!(used > 0);
        assert!(memory(&all, 0) <= used, "shared pages are counted once");
        end_families(&[pid]);
        head.wait().unwrap();
        for process in all {
            while fs::read_to_string(format!("/proc/{process}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
            {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_file_without_a_name_takes_up_room_once() {
        const LARGE: u64 = 10_000_000;
        let mut file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        file.write_all(&vec![1; 10_000_000]).unwrap();
        let own = rustix::process::getpid();
        // Other tests have such files as well, small ones.
        assert!((LARGE..2 * LARGE).contains(&unnamed_files(&[own, own])));
        drop((file, copy));
        assert!(unnamed_files(&[own]) < LARGE);
    }

    #[test]
    fn a_directory_is_as_large_as_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(disk(directory.path()), 0);
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("sub/file"), vec![1; 100_000]).unwrap();
        fs::write(directory.path().join("empty"), "").unwrap();
        assert!((100_000..200_000).contains(&disk(directory.path())));
        assert_eq!(disk(&directory.path().join("missing")), 0);
    }
}
