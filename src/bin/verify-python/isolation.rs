//! What is done to a process before Python code runs in it: its limits and descriptors, its place among processes.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::Mode;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use verify::protocol::ProcessLimits;

/// Makes the host a process that terminals and key strokes don't reach and that inherits its sessions' orphans.
pub(crate) fn become_host() {
    // Each of these is a comfort, not a need: a host that was denied one still runs examples.
    let _ = rustix::process::setsid();
    become_subreaper();
    // Rust's own handlers would let an example survive a signal that kills every other Python.
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action needs no memory of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// What the modes of new files lack where `verify` makes them.
static USERS_MASK: OnceLock<Mode> = OnceLock::new();

/// Makes a fresh child the head of its session: a process group of its own, and parent to its orphans,
/// so that the host can tell whose they are (see [`crate::serve`]).
pub(crate) fn become_session_head() {
    HEAD.store(rustix::process::getpid().as_raw_pid(), Ordering::Relaxed);
    let _ = rustix::process::setpgid(None, None);
    become_subreaper();
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // As for most users. The first process to come here has it from `verify`, and hands that on to its copies.
    let before = rustix::process::umask(Mode::from_raw_mode(0o022));
    USERS_MASK.get_or_init(|| before);
}

/// Makes a file as `verify` makes it.
pub(crate) fn as_the_user<T>(make: impl FnOnce() -> T) -> T {
    let Some(mask) = USERS_MASK.get() else {
        return make();
    };
    let own = rustix::process::umask(*mask);
    let done = make();
    rustix::process::umask(own);
    done
}

/// The process in which this session's examples run.
static HEAD: AtomicI32 = AtomicI32::new(0);

/// Whether this is the session's own process, not a copy that an example forked.
pub(crate) fn is_session_head() -> bool {
    HEAD.load(Ordering::Relaxed) == rustix::process::getpid().as_raw_pid()
}

fn become_subreaper() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Pid::from_raw(1));
}

/// Sets the kernel's limits; one that the user's own hard limit forbids is lowered to it.
pub(crate) fn limit(limits: &ProcessLimits) {
    set_limit(Resource::Core, 0);
    for (resource, value) in [
        (Resource::As, limits.memory),
        (Resource::Fsize, limits.file_size),
        (Resource::Nofile, limits.open_files),
    ] {
        if let Some(value) = value {
            set_limit(resource, value);
        }
    }
}

/// Closes all descriptors but the standard streams and these.
pub(crate) fn close_others<const N: usize>(kept: [BorrowedFd<'_>; N]) {
    /// Where the kernel (before 5.9) cannot close a range, nobody has opened more.
    const MOST: libc::c_uint = 1 << 16;
    const LAST_STREAM: libc::c_uint = 2;
    let mut kept = kept.map(|kept| kept.as_raw_fd().cast_unsigned());
    kept.sort_unstable();
    let starts = [LAST_STREAM].into_iter().chain(kept).map(|kept| kept + 1);
    let ends = kept.into_iter().map(|kept| kept - 1);
    for (from, to) in starts.zip(ends.chain([libc::c_uint::MAX])) {
        // SAFETY: closes descriptors that nobody uses from here on.
        if from <= to && unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } != 0 {
            for descriptor in from..=to.min(MOST) {
                // SAFETY: as above.
                unsafe { libc::close(descriptor.cast_signed()) };
            }
        }
    }
}

fn set_limit(resource: Resource, value: u64) {
    let hard = rustix::process::getrlimit(resource).maximum;
    let current = Some(hard.map_or(value, |hard| hard.min(value)));
    let _ = rustix::process::setrlimit(
        resource,
        Rlimit {
            current,
            maximum: hard,
        },
    );
}

/// Children of this process that are not in `known`: what ended sessions left behind.
pub(crate) fn stray_children(known: impl Fn(i32) -> bool) -> Vec<Pid> {
    let listing = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    listing
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .filter(|&pid| !known(pid))
        .filter_map(Pid::from_raw)
        .collect()
}
