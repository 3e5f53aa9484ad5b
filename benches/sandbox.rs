//! What the sandbox costs: the same book with it and without it, by turns in one run, per session.
//!
//! `cargo bench --bench sandbox` prints, for sessions that use no network and for sessions with a loopback of
//! their own, the processor time of a session on both sides, what the kernel's own threads add (they clear
//! up behind network namespaces), and the ratio.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is for reading"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SESSIONS: u32 = 300;
const ROUNDS: usize = 5;

fn main() {
    for (what, code) in [
        ("no network", "print(1)"),
        ("a loopback of its own", "print(1)  # a server"),
    ] {
        let book = tempfile::tempdir().unwrap();
        for number in 0..SESSIONS {
            let page = format!("# Page\n\n```python\n{code}\n```\n");
            fs::write(book.path().join(format!("{number}.md")), page).unwrap();
        }
        let (mut off, mut on) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            off.push(cost(book.path(), "off"));
            on.push(cost(book.path(), "on"));
        }
        // Whatever else runs here only adds.
        let least =
            |costs: &[Cost], part: fn(&Cost) -> Duration| costs.iter().map(part).min().unwrap();
        let (off_own, on_own) = (least(&off, |c| c.processes), least(&on, |c| c.processes));
        let (off_kernel, on_kernel) = (least(&off, |c| c.kernel), least(&on, |c| c.kernel));
        let total = |own: Duration, kernel: Duration| (own + kernel).as_secs_f64();
        println!(
            "{what}: off {:?} + {:?} in the kernel's threads, on {:?} + {:?}; the sandbox adds {:.0} µs a session, × {:.2}",
            off_own / SESSIONS,
            off_kernel / SESSIONS,
            on_own / SESSIONS,
            on_kernel / SESSIONS,
            (total(on_own, on_kernel) - total(off_own, off_kernel)) * 1e6 / f64::from(SESSIONS),
            total(on_own, on_kernel) / total(off_own, off_kernel),
        );
    }
}

struct Cost {
    /// Of `verify` and all its processes.
    processes: Duration,
    kernel: Duration,
}

fn cost(book: &Path, sandbox: &str) -> Cost {
    let (own, kernel) = (children(), kernel_threads());
    let done = Command::new(env!("CARGO_BIN_EXE_verify"))
        .args([".", "-q", "--no-cache", "--sandbox", sandbox])
        .current_dir(book)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success());
    // The kernel clears up later, but soon.
    std::thread::sleep(Duration::from_secs(1));
    Cost {
        processes: children().saturating_sub(own),
        kernel: kernel_threads().saturating_sub(kernel),
    }
}

/// Processor time of all processes that were started here and have ended.
#[allow(unsafe_code, reason = "no crate here wraps `getrusage`")]
fn children() -> Duration {
    // SAFETY: the structure may be all zero, and the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| {
            Duration::from_secs(time.tv_sec.cast_unsigned())
                + Duration::from_micros(time.tv_usec.cast_unsigned())
        })
        .sum()
}

/// Processor time of the kernel's workers.
fn kernel_threads() -> Duration {
    let time = |process: &Path| -> Option<u64> {
        let name = fs::read_to_string(process.join("comm")).ok()?;
        if !["kworker", "rcu", "ksoftirq"]
            .iter()
            .any(|kind| name.starts_with(kind))
        {
            return None;
        }
        let text = fs::read_to_string(process.join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    Duration::from_nanos(processes.filter_map(|entry| time(&entry.path())).sum())
}
