//! What keeps a session from everything that is not its own. Layers, each of which stands without the others:
//!
//! | module | layer | taken | keeps from |
//! |---|---|---|---|
//! | [`namespaces`] | namespaces, made by the host for itself, with a [`root`] of its own, and, as [`places`] and networks, for sessions | as root, or where a user may make user namespaces | the file system that is not on the list, the network, other processes |
//! | [`landlock`] | a Landlock domain | from Linux 5.13 on | files that are not on the list, other sessions, signals, tracing |
//! | [`syscalls`] | seccomp filters, most of them the host's own, and fewer capabilities | everywhere | the parts of the kernel that no example needs |
//!
//! A layer that the kernel refuses is left out and reported. One that the host has found to work and that
//! then fails in a session ends the session: nothing runs with less than what the run's header says.

mod landlock;
mod mounts;
mod namespaces;
mod places;
mod root;
mod syscalls;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use verify::protocol::{Protections, SandboxSetup, SessionSetup};

use crate::copy::Copied;
use namespaces::Namespaces;

/// The layers that this host has.
pub(crate) struct Sandbox {
    namespaces: Namespaces,
    landlock: Option<landlock::Rules>,
    syscalls: Option<syscalls::Filter>,
}

impl Sandbox {
    /// Makes this process, or a child that takes its place, a host whose sessions can be kept in. Must be
    /// called while the process has one thread; a process that is left behind here never returns.
    pub(crate) fn enter(
        channel: UnixStream,
        setup: &SandboxSetup,
        scratch_root: &Path,
    ) -> (UnixStream, Sandbox) {
        let (channel, namespaces) = Namespaces::enter(channel, setup, scratch_root);
        let sandbox = Sandbox {
            landlock: landlock::Rules::new(setup, scratch_root, namespaces.files.is_some()),
            syscalls: syscalls::Filter::confine_host(landlock::version() > 0).ok(),
            namespaces,
        };
        // Whatever sessions do, they cannot look into this process or change it.
        let _ =
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        (channel, sandbox)
    }

    /// Forks a session where it is to be.
    pub(crate) fn fork(&self, setup: &SessionSetup, fork: impl FnOnce() -> Copied) -> Copied {
        let copied = match self.namespaces.enter_for(setup) {
            Ok(()) => fork(),
            Err(error) => Err(error),
        };
        if !matches!(copied, Ok(None)) && self.namespaces.leave().is_err() {
            // What was forked from here would share that session's. `verify` starts another host.
            std::process::abort();
        }
        copied
    }

    /// Shuts this process, a fresh child of the host, in for good. Whatever is open in it has to be closed.
    pub(crate) fn shut_in(&self, setup: &SessionSetup) -> io::Result<()> {
        let step = |what: &'static str| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        syscalls::drop_capabilities().map_err(step("capabilities"))?;
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
        rustix::thread::set_no_new_privs(true)?;
        if let Some(landlock) = &self.landlock {
            let mut writable = vec![setup.scratch.as_path(), Path::new("/dev/shm")];
            writable.extend(self.namespaces.files.as_ref().map(|_| Path::new("/tmp")));
            landlock
                .restrict(&setup.directory, &writable)
                .map_err(|error| step("landlock")(io::Error::other(error)))?;
        }
        if let Some(syscalls) = &self.syscalls {
            syscalls
                .install()
                .map_err(|error| step("seccomp")(io::Error::other(error)))?;
        }
        Ok(())
    }

    /// Whether a process that started this one has stayed behind outside of its namespaces.
    pub(crate) fn has_outside(&self) -> bool {
        self.namespaces.files.is_some() || self.namespaces.network.is_some()
    }

    /// Whether no session reaches a network.
    pub(crate) fn cuts_network_off(&self) -> bool {
        self.namespaces.network.is_some() && self.syscalls.is_some()
    }

    /// What holds for every session of this host.
    pub(crate) fn protections(&self) -> Protections {
        let refused = self
            .namespaces
            .refused
            .as_deref()
            .unwrap_or("not permitted");
        let landlock = match &self.landlock {
            Some(_) => landlock::version(),
            None => 0,
        };
        let files = match (landlock, self.namespaces.files.is_some()) {
            (0, false) => Some(format!(
                "the kernel offers no Landlock, and mount namespaces are refused ({refused})"
            )),
            (0, true) => Some(
                "the kernel offers no Landlock, so sessions can read each other's files".to_owned(),
            ),
            // Up to 2, files that may not be written can be truncated; it also never covers what `chmod`
            // and sockets do.
            (_, false) => Some(format!(
                "modes and times of files, sockets of local services and shared memory are not covered: mount namespaces are refused ({refused})"
            )),
            (_, true) => None,
        };
        let network = match (&self.namespaces.network, &self.syscalls) {
            (None, _) => Some(format!("network namespaces are refused ({refused})")),
            (Some(_), None) => Some(
                "the kernel offers no seccomp, so not every kind of socket is cut off".to_owned(),
            ),
            (Some(_), Some(_)) => None,
        };
        let processes = match (landlock, self.namespaces.processes, &self.syscalls) {
            (6.., true, _) => None,
            (6.., false, _) => Some(format!(
                "command lines of other processes can be read, and their priorities and limits changed: process namespaces are refused ({refused})"
            )),
            (_, true, _) => Some(
                "the kernel's Landlock is older than 6.12, so sessions can signal each other"
                    .to_owned(),
            ),
            (_, false, _) => Some(format!(
                "other processes can be signalled: process namespaces are refused ({refused}), and the kernel's Landlock is older than 6.12"
            )),
        };
        let kernel = self
            .syscalls
            .is_none()
            .then(|| "the kernel offers no seccomp".to_owned());
        Protections {
            files,
            network,
            processes,
            kernel,
        }
    }
}
