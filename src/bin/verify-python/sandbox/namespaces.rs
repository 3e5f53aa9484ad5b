//! The namespaces: a file system that has only what is on the list, a network that has only loopback, and
//! processes that see only each other.
//!
//! The host makes them, once, before Python starts; its sessions inherit them. What two sessions must not share, the
//! host makes for one before it forks it: a file system (see [`Places`]), and a loopback where it is used.
//!
//! A new process namespace holds for children only, and some machines allow one thing and not another. So
//! the host is a child, or a grandchild, of the program that was started, tried with less each time it fails;
//! the program itself stays behind, outside, passes its status on, and clears up after it.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, unshare_unsafe};
use verify::protocol::{SandboxSetup, SessionSetup};
use verify::scratch;

use super::mounts::move_to;
use super::places::Places;
use super::root::change_root;
use crate::copy::fork;

/// What this host has, and why not all of it.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// File systems for its sessions.
    pub(super) files: Option<Places>,
    /// The network that it is in, and most sessions.
    pub(super) network: Option<File>,
    pub(super) processes: bool,
    pub(super) refused: Option<String>,
}

/// What to try, most first.
#[derive(Debug, Clone, Copy)]
struct Wish {
    files: bool,
    processes: bool,
}

const WISHES: [Wish; 3] = [
    Wish {
        files: true,
        processes: true,
    },
    // In a container `/proc` is often partly covered, and then no new one may be mounted, without which a
    // process namespace would contradict what `/proc` says.
    Wish {
        files: true,
        processes: false,
    },
    Wish {
        files: false,
        processes: false,
    },
];

impl Namespaces {
    /// Returns in the process that is to be the host.
    pub(super) fn enter(
        channel: UnixStream,
        setup: &SandboxSetup,
        scratch_root: &Path,
    ) -> (UnixStream, Namespaces) {
        let mut refused = None;
        for wish in WISHES {
            let attempt = wish.attempt(setup, scratch_root);
            match attempt {
                Ok(Attempt::Inside(namespaces)) => {
                    let namespaces = Namespaces {
                        refused,
                        ..namespaces
                    };
                    return (channel, namespaces);
                }
                Ok(Attempt::Outside(host)) => {
                    drop(channel);
                    stay_behind(host, Some(scratch_root))
                }
                Err(error) => {
                    refused.get_or_insert(error.to_string());
                }
            }
        }
        let nothing = Namespaces {
            refused,
            ..Namespaces::default()
        };
        (channel, nothing)
    }

    /// Moves the host to where a session is to be, so that what it forks now finds itself there.
    pub(super) fn enter_for(&self, setup: &SessionSetup) -> io::Result<()> {
        if let Some(files) = &self.files {
            files.enter(setup)?;
        }
        if setup.own_network && self.network.is_some() {
            enter_new_network()?;
        }
        Ok(())
    }

    /// Moves the host back.
    pub(super) fn leave(&self) -> io::Result<()> {
        if let Some(network) = &self.network {
            move_to(network, LinkNameSpaceType::Network)?;
        }
        self.files.as_ref().map_or(Ok(()), Places::leave)
    }
}

enum Attempt {
    /// This process is the host.
    Inside(Namespaces),
    /// The host is this child, or a child of it.
    Outside(Pid),
}

impl Wish {
    /// Forks. An error means that this process has changed nothing.
    fn attempt(self, setup: &SandboxSetup, scratch_root: &Path) -> io::Result<Attempt> {
        let (mut told, tell) = io::pipe()?;
        if let Some(child) = fork()? {
            drop(tell);
            return match outcome(&mut told)? {
                None => Ok(Attempt::Outside(child)),
                Some(reason) => {
                    let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
                    Err(io::Error::other(reason))
                }
            };
        }
        drop(told);
        match self.grant(setup, scratch_root) {
            Ok(namespaces) => {
                succeed(tell);
                Ok(Attempt::Inside(namespaces))
            }
            Err(error) => fail(tell, &error),
        }
    }

    /// Makes this process the host, or, in a new process namespace, a child of it, in which this returns.
    fn grant(self, setup: &SandboxSetup, scratch_root: &Path) -> io::Result<Namespaces> {
        die_with_parent();
        let wanted = if self.files {
            UnshareFlags::NEWNS
        } else {
            UnshareFlags::NEWNET
        };
        unshare_as_anybody(wanted)?;
        let network = enter_new_network().and_then(|()| File::open("/proc/self/ns/net"));
        if !self.files {
            return Ok(Namespaces {
                network: Some(network?),
                ..Namespaces::default()
            });
        }
        // Queues and semaphores of System V, which live outside the file system; few kernels lack this.
        // SAFETY: see above.
        let _ = unsafe { unshare_unsafe(UnshareFlags::NEWIPC) };
        let outside = std::process::id();
        if self.processes {
            // SAFETY: see above.
            unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?;
            if let Some(host) = fork()? {
                stay_behind(host, None);
            }
            die_with_parent();
        }
        let first_process = self.processes.then_some(outside);
        let shown = change_root(setup, scratch_root, first_process)
            .map_err(|error| io::Error::new(error.kind(), format!("mounting: {error}")))?;
        Ok(Namespaces {
            files: Some(Places::around_here(scratch_root, shown)?),
            network: network.ok(),
            processes: self.processes,
            refused: None,
        })
    }
}

/// What the child has to tell: `None` that it is the host, else why it is not.
fn outcome(told: &mut PipeReader) -> io::Result<Option<String>> {
    let mut text = String::new();
    told.read_to_string(&mut text)?;
    Ok(match text.strip_suffix('\n') {
        Some("") => None,
        Some(reason) => Some(reason.to_owned()),
        None => Some("it ended without a word".to_owned()),
    })
}

fn succeed(mut tell: PipeWriter) {
    let _ = tell.write_all(b"\n");
}

fn fail(mut tell: PipeWriter, error: &io::Error) -> ! {
    let _ = writeln!(tell, "{error}");
    // SAFETY: ends a process in which nothing has been started.
    unsafe { libc::_exit(1) }
}

fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

/// Waits for the host and ends as it did. `scratch_root` is removed then: the host, for which it is a
/// mount, can only empty it.
fn stay_behind(host: Pid, scratch_root: Option<&Path>) -> ! {
    let status = loop {
        match rustix::process::waitpid(Some(host), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.ok().flatten().map(|(_, status)| status),
        }
    };
    if let Some(directory) = scratch_root {
        let _ = scratch::remove(directory);
    }
    let code = status.map_or(1, |status| {
        let signal = status.terminating_signal().map(|signal| 128 + signal);
        signal.or(status.exit_status()).unwrap_or(1)
    });
    // SAFETY: nothing in this process has anything to finish.
    unsafe { libc::_exit(code) }
}

/// Unshares, as an ordinary user by way of a user namespace. The identity inside is the one outside.
fn unshare_as_anybody(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the process has one thread; no flag touches memory or descriptors.
    match unsafe { unshare_unsafe(flags) } {
        Err(rustix::io::Errno::PERM) => {}
        done => return Ok(done?),
    }
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | flags) }.map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("user namespaces: {error}"))
    })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    Ok(())
}

/// Moves this process into a network that has nothing but a loopback.
fn enter_new_network() -> io::Result<()> {
    // SAFETY: as everywhere here, the process has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    raise_loopback()
}

fn raise_loopback() -> io::Result<()> {
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
