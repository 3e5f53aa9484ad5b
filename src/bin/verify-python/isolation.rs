//! What is done to a process before Python code runs in it: its network, its limits, its place among processes.

use std::fs;
use std::io;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use verify::protocol::ProcessLimits;

/// The variable by which the dynamic loader was given libpython.
pub(crate) const PRELOAD_VARIABLE: &str = if cfg!(target_os = "macos") {
    "DYLD_INSERT_LIBRARIES"
} else {
    "LD_PRELOAD"
};

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

/// Makes a fresh child the head of its session: a process group of its own, and parent to its orphans,
/// so that the host can tell whose they are (see [`crate::serve`]).
pub(crate) fn become_session_head() {
    let _ = rustix::process::setpgid(None, None);
    become_subreaper();
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
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

/// Puts this process into a network of its own that has loopback and nothing else.
///
/// As an ordinary user that takes a user namespace. The identity inside is the one outside, and the
/// capabilities that come with the namespace are given back, so that a file without permission is
/// still a file without permission.
#[cfg(target_os = "linux")]
pub(crate) fn isolate_network() -> io::Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    // SAFETY: the process has one thread; neither flag touches memory or descriptors.
    if unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.is_ok() {
        return raise_loopback();
    }
    let (user, group) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    let raised = raise_loopback();
    drop_capabilities()?;
    raised
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn isolate_network() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn raise_loopback() -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is valid, the name fits, and the kernel reads and writes within it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= i16::try_from(libc::IFF_UP).expect("a small flag");
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
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
