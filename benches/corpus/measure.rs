//! What a command and everything it started cost, as the kernel counts it.
#![allow(
    unsafe_code,
    reason = "`wait4` is the one call that tells what a whole tree of processes used"
)]

use std::fs;
use std::io;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What one run of a command cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// User and system time of the process and of all its descendants that were waited for.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// The largest resident size that any one process of the tree had, in bytes.
    pub(crate) peak: u64,
    /// Exit status; -1 for a signal.
    pub(crate) status: i32,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> io::Result<Cost> {
    let start = Instant::now();
    let child = command.spawn()?;
    wait(&child, start)
}

/// The largest resident size of a command's own process and of the largest of its children, in bytes.
///
/// `wait4` only has the maximum over the whole tree, so this looks at the kernel's high-water marks every
/// millisecond; what is allocated in the last one is missed.
pub(crate) fn peak_memory(command: &mut Command) -> io::Result<(u64, u64)> {
    let start = Instant::now();
    let child = command.spawn()?;
    let id = child.id();
    let (mut own, mut largest_child) = (0, 0);
    loop {
        let Some(peak) = high_water(id) else {
            break;
        };
        own = own.max(peak);
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_ascii_whitespace() {
            let peak = child.parse().ok().and_then(high_water).unwrap_or(0);
            largest_child = largest_child.max(peak);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    wait(&child, start)?;
    Ok((own, largest_child))
}

/// `None` when the process has ended.
fn high_water(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn wait(child: &Child, start: Instant) -> io::Result<Cost> {
    let id = libc::pid_t::try_from(child.id()).expect("process ids fit");
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is valid; both pointers are live; the child is ours and waited for once.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::wait4(id, &raw mut status, 0, &raw mut usage) != id {
            return Err(io::Error::last_os_error());
        }
        usage
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Ok(Cost {
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        wall: start.elapsed(),
        peak: usage.ru_maxrss.unsigned_abs() * 1024,
        status: if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            -1
        },
    })
}

/// The median of each figure for itself.
pub(crate) fn median(costs: &[Cost]) -> Cost {
    let middle = |figure: fn(&Cost) -> Duration| {
        let mut figures: Vec<Duration> = costs.iter().map(figure).collect();
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    let mut peaks: Vec<u64> = costs.iter().map(|cost| cost.peak).collect();
    peaks.sort_unstable();
    Cost {
        cpu: middle(|cost| cost.cpu),
        wall: middle(|cost| cost.wall),
        peak: peaks.get(peaks.len() / 2).copied().unwrap_or_default(),
        status: 0,
    }
}
