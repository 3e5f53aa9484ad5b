//! What the sandbox costs: the same book with it and without it, by turns in one run, per session.
//!
//! `cargo bench --bench sandbox` prints, for sessions that use no network and for sessions with a loopback of
//! their own, the processor time of a session on both sides, what the kernel's own threads add (they clear
//! up behind network namespaces), and the ratio; and, as root, what a network namespace costs that nobody uses.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is for reading"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{UnshareFlags, unshare_unsafe};

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
        let run = |sandbox: &str| check(book.path(), sandbox);
        let [off, on] = by_turns([&|| run("off"), &|| run("on")]);
        println!(
            "{what}: off {off}, on {on}; the sandbox adds {:.0} µs a session, × {:.2}",
            (on.total() - off.total()) * 1e6,
            on.total() / off.total(),
        );
    }
    if rustix::process::geteuid().is_root() {
        let [without, with] = by_turns([&|| threads(false), &|| threads(true)]);
        println!(
            "a network namespace that nobody uses: {:.0} µs",
            (with.total() - without.total()) * 1e6,
        );
    }
}

fn check(book: &Path, sandbox: &str) {
    let done = Command::new(env!("CARGO_BIN_EXE_verify"))
        .args([".", "-q", "--no-cache", "--sandbox", sandbox])
        .current_dir(book)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success());
}

/// As many threads as a book has sessions, each for itself, in a network namespace of its own or without.
#[allow(
    unsafe_code,
    reason = "what changes for one thread, as a process has it"
)]
fn threads(with_namespace: bool) {
    for _ in 0..SESSIONS {
        let thread = std::thread::spawn(move || {
            if with_namespace {
                // SAFETY: no memory or descriptor changes by it.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            }
        });
        thread.join().unwrap();
    }
}

/// The processor time of one session.
struct Cost {
    processes: Duration,
    /// What threads of the kernel take besides.
    kernel: Duration,
}

impl Cost {
    fn total(&self) -> f64 {
        (self.processes + self.kernel).as_secs_f64()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [processes, kernel] = [self.processes, self.kernel].map(|time| time.as_micros());
        write!(f, "{processes} + {kernel} µs in the kernel's threads")
    }
}

/// Does each of them in turn, several times. Whatever else runs here only adds, so the least is what it costs.
fn by_turns<const N: usize>(works: [&dyn Fn(); N]) -> [Cost; N] {
    let mut least = works.map(|_| Cost {
        processes: Duration::MAX,
        kernel: Duration::MAX,
    });
    for _ in 0..ROUNDS {
        for (work, least) in works.iter().zip(&mut least) {
            let (before, kernel) = (own(), kernel_threads());
            work();
            // The kernel clears up later, but soon.
            std::thread::sleep(Duration::from_secs(1));
            let since = |(thread, time): (&OsString, &Duration)| {
                time.saturating_sub(kernel.get(thread).copied().unwrap_or_default())
            };
            let kernel: Duration = kernel_threads().iter().map(since).sum();
            least.processes = least.processes.min(own().saturating_sub(before) / SESSIONS);
            least.kernel = least.kernel.min(kernel / SESSIONS);
        }
    }
    least
}

/// Processor time of this process and of all that it started and that have ended.
#[allow(unsafe_code, reason = "no crate here wraps `getrusage`")]
fn own() -> Duration {
    let used = |who| {
        // SAFETY: the structure may be all zero, and the kernel fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        [usage.ru_utime, usage.ru_stime]
    };
    [libc::RUSAGE_CHILDREN, libc::RUSAGE_SELF]
        .into_iter()
        .flat_map(used)
        .map(|time| {
            Duration::from_secs(time.tv_sec.cast_unsigned())
                + Duration::from_micros(time.tv_usec.cast_unsigned())
        })
        .sum()
}

/// Processor time of each of the kernel's workers: they come and go, so their sum could become less.
fn kernel_threads() -> BTreeMap<OsString, Duration> {
    let time = |process: &Path| -> Option<Duration> {
        let name = fs::read_to_string(process.join("comm")).ok()?;
        if !["kworker", "rcu", "ksoftirq"]
            .iter()
            .any(|kind| name.starts_with(kind))
        {
            return None;
        }
        let text = fs::read_to_string(process.join("schedstat")).ok()?;
        let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Duration::from_nanos(nanoseconds))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| Some((entry.file_name(), time(&entry.path())?)))
        .collect()
}
