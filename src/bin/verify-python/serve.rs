//! The host's loop: forks sessions on request, reaps them, and ends what they leave behind.
//!
//! The host never runs an example and stays single-threaded, so that a fork copies a quiet process.
//! Every session's first process adopts its own orphans (it is a subreaper). They come to the host only
//! when that process has ended; so a child of the host that it didn't fork belongs to the session that
//! was reaped last before the child appeared, and can be ended with it, whatever groups or sessions
//! the example made.
//!
//! A session that has become a [`crate::checkpoint`] serves in the same way: what it forks goes on behind its examples.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyList};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use verify::processes;
use verify::protocol::{
    self, FORK_DESCRIPTORS, HostAnswer, HostReady, HostRequest, HostSetup, ProcessEnd, Program,
    SessionSetup, Source, Status,
};
use verify::scratch::{self, Held};

use crate::compile::Compiled;
use crate::copy::{self, Copied};
use crate::heap::Heap;
use crate::sandbox::Sandbox;
use crate::unit::Interpreter;
use crate::{isolation, preload, session};

/// How long a host waits at its end for processes that it has killed.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Serves until `verify` hangs up. Returns in forked children only, with what the audit hook hands to
/// CPython: 0, or -1 with a Python exception set that decides the exit status.
pub(crate) fn serve(
    channel: UnixStream,
    setup: &HostSetup,
    sandbox: Option<Sandbox>,
    held: Held,
) -> c_int {
    isolation::become_host();
    Python::attach(|py| {
        let prepared = prepare(py, setup).and_then(|(found, interpreter, heap)| {
            protocol::send(
                &channel,
                &HostAnswer::Ready(HostReady {
                    found,
                    protections: sandbox.as_ref().map(Sandbox::protections),
                }),
            )?;
            Ok((interpreter, heap))
        });
        let (interpreter, heap) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                clear_away(setup, sandbox.as_ref());
                error.restore(py);
                return -1;
            }
        };
        let warm = Warm {
            sandbox,
            interpreter,
            heap,
        };
        warm.serve(py, channel, move |sandbox| {
            clear_away(setup, sandbox);
            drop(held);
        })
    })
}

/// An interpreter that sessions are forked from.
pub(crate) struct Warm {
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) interpreter: Interpreter,
    pub(crate) heap: &'static Heap,
}

impl Warm {
    /// Forks sessions until nobody asks for more; returns in them only, with what the audit hook hands to CPython.
    pub(crate) fn serve(
        self,
        py: Python<'_>,
        channel: UnixStream,
        at_end: impl FnOnce(Option<&Sandbox>),
    ) -> c_int {
        let fork = |py: Python<'_>, setup: &SessionSetup| {
            let copy = || {
                let renewed = self.interpreter.preloaded.renew(py);
                let set = renewed.and_then(|()| match setup.program {
                    Program::Shell { .. } => Ok(()),
                    Program::Python | Program::Host { .. } => {
                        self.interpreter.set_variables(py, &setup.environment)
                    }
                });
                set?;
                copy::fork_python(py)
            };
            match (&self.sandbox, &setup.program) {
                (Some(sandbox), Program::Python | Program::Shell { .. }) => {
                    sandbox.fork(setup, copy)
                }
                // A host stays where hosts are.
                (None, _) | (Some(_), Program::Host { .. }) => copy(),
            }
        };
        let mut host = Host::new(channel, &fork);
        match host.run(py) {
            // The host's channel, its directory and the other sessions' descriptors are none of this child's business.
            Next::Session(forked) => {
                let Host {
                    channel,
                    received,
                    descriptors,
                    children,
                    ..
                } = host;
                let others = (channel, received, descriptors, children, at_end);
                session::run(py, *forked, self, others)
            }
            Next::HungUp => {
                host.end_everything();
                at_end(self.sandbox.as_ref());
                // No example ran here that could have anything to finish.
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

/// Removes the scratch directories. Within namespaces their root is a mount, and whoever stayed behind outside
/// of these removes it.
fn clear_away(setup: &HostSetup, sandbox: Option<&Sandbox>) {
    if sandbox.is_none_or(|sandbox| !sandbox.has_outside()) {
        let _ = scratch::remove(&setup.scratch_root);
    }
}

/// Everything that happens once, before the first fork.
fn prepare(
    py: Python<'_>,
    setup: &HostSetup,
) -> PyResult<(Vec<String>, Interpreter, &'static Heap)> {
    let at_start = preload::loaded(py)?;
    let heap = Heap::new(py)?;
    let found = preload::probe(py, &setup.probe)?;
    let preloaded = preload::preload(py, &setup.preload, heap, at_start)?;
    let interpreter = Interpreter::new(py, preloaded)?;
    heap.end_quietly(py)?;
    move_objects(py, setup.layout)?;
    heap.freeze(py)?;
    Ok((found, interpreter, heap))
}

/// Fills places that the first objects of a session would get. The kernel puts a process anywhere, but by
/// whole pages: what differs between two addresses within one, it leaves as it is.
fn move_objects(py: Python<'_>, seed: u32) -> PyResult<()> {
    if seed == 0 {
        return Ok(());
    }
    let kept = PyList::empty(py);
    let object = py.import("builtins")?.getattr("object")?;
    let mut state = seed;
    for size in (0..480).step_by(16) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for _ in 0..state >> 26 {
            kept.append(object.call0()?)?;
            kept.append(PyFloat::new(py, f64::from(state)))?;
            kept.append(PyBytes::new(py, &vec![0; size]))?;
        }
    }
    // Nobody frees them: this host lives for one run.
    std::mem::forget(kept);
    Ok(())
}

/// A request to fork, in the child: its setup and its descriptors.
pub(crate) struct Forked {
    pub(crate) setup: SessionSetup,
    pub(crate) control: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) passing: OwnedFd,
    pub(crate) compiled: Compiled,
}

pub(crate) enum Next {
    Session(Box<Forked>),
    HungUp,
}

/// How this process is copied for a session.
type Fork<'f> = dyn Fn(Python<'_>, &SessionSetup) -> Copied + 'f;

pub(crate) struct Host<'f> {
    channel: UnixStream,
    fork: &'f Fork<'f>,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    children: Vec<Child>,
}

struct Child {
    session: u64,
    pid: Pid,
    /// Readable when the process has ended.
    ended: OwnedFd,
    status: File,
    /// What it runs. To free that while it does so would have one of the two copy all that this writes to.
    _compiled: Compiled,
    /// Asked to end: whatever it leaves is ended at once.
    condemned: bool,
    /// Reaped, with orphans that may still be writing; the status is on its way already.
    leftovers: Vec<Pid>,
    reaped: bool,
}

impl<'f> Host<'f> {
    pub(crate) fn new(channel: UnixStream, fork: &'f Fork<'f>) -> Host<'f> {
        Host {
            channel,
            fork,
            received: Vec::new(),
            descriptors: VecDeque::new(),
            children: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, py: Python<'_>) -> Next {
        loop {
            while let Some(request) = self.next_request() {
                match request {
                    HostRequest::Fork { setup, sources } => {
                        if let Some(forked) = self.fork(py, *setup, sources) {
                            return Next::Session(Box::new(forked));
                        }
                    }
                    HostRequest::Wake { session } => self.wake(session),
                    HostRequest::Kill { session } => self.kill(session),
                }
            }
            let (hung_up, ended) = self.wait();
            for index in ended {
                self.reap(index);
            }
            self.children
                .retain(|child| !child.reaped || !child.leftovers.is_empty());
            if hung_up {
                return Next::HungUp;
            }
        }
    }

    /// Waits for a request or the end of a child.
    fn wait(&mut self) -> (bool, Vec<usize>) {
        let running: Vec<usize> = (0..self.children.len())
            .filter(|&index| !self.children[index].reaped)
            .collect();
        let mut polled = vec![PollFd::new(&self.channel, PollFlags::IN)];
        polled.extend(
            running
                .iter()
                .map(|&index| PollFd::new(&self.children[index].ended, PollFlags::IN)),
        );
        while rustix::event::poll(&mut polled, None) == Err(Errno::INTR) {}
        let ended = running
            .iter()
            .zip(&polled[1..])
            .filter(|(_, poll)| !poll.revents().is_empty())
            .map(|(&index, _)| index)
            .collect();
        let requested = !polled[0].revents().is_empty();
        (requested && !self.receive(), ended)
    }

    /// Reads what has arrived; false when `verify` is gone.
    fn receive(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FORK_DESCRIPTORS * 4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.channel,
            &mut [io::IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        );
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        match received {
            Ok(message) if message.bytes > 0 => {
                self.received.extend_from_slice(&bytes[..message.bytes]);
                true
            }
            Err(Errno::INTR) => true,
            Ok(_) | Err(_) => false,
        }
    }

    fn next_request(&mut self) -> Option<HostRequest> {
        protocol::take_frame(&mut self.received).ok().flatten()
    }

    /// Forks; `Some` in the child.
    fn fork(
        &mut self,
        py: Python<'_>,
        setup: SessionSetup,
        sources: Vec<Source>,
    ) -> Option<Forked> {
        let mut descriptors = self
            .descriptors
            .drain(..FORK_DESCRIPTORS.min(self.descriptors.len()));
        let (Some(control), Some(stdout), Some(stderr), Some(passing), Some(status)) = (
            descriptors.next(),
            descriptors.next(),
            descriptors.next(),
            descriptors.next(),
            descriptors.next(),
        ) else {
            return None;
        };
        drop(descriptors);
        let mut status = File::from(status);
        let compiled = Compiled::of(py, sources);
        match (self.fork)(py, &setup) {
            Ok(None) => Some(Forked {
                setup,
                control,
                stdout,
                stderr,
                passing,
                compiled,
            }),
            Ok(Some(pid)) => {
                tell(
                    &mut status,
                    Status::Started {
                        process: pid.as_raw_pid(),
                    },
                );
                match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
                    Ok(ended) => self.children.push(Child {
                        session: setup.session,
                        pid,
                        ended,
                        status,
                        _compiled: compiled,
                        condemned: false,
                        leftovers: Vec::new(),
                        reaped: false,
                    }),
                    Err(error) => {
                        let _ = rustix::process::kill_process(pid, Signal::KILL);
                        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                        tell(
                            &mut status,
                            Status::Ended(ProcessEnd::NotStarted {
                                errno: error.raw_os_error(),
                            }),
                        );
                    }
                }
                None
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                tell(&mut status, Status::Ended(ProcessEnd::NotStarted { errno }));
                None
            }
        }
    }

    /// Takes in who has come to an end by itself up to now, before a session that is to end takes a process which has
    /// come to us since for its own: it may be an orphan of theirs, which has time to go on, and would be ended at once.
    fn reap_the_willing(&mut self) {
        let has_ended = |child: &Child| {
            let mut polled = [PollFd::new(&child.ended, PollFlags::IN)];
            let now = Timespec::default();
            rustix::event::poll(&mut polled, Some(&now)) == Ok(1)
        };
        let willing = |child: &Child| !child.reaped && !child.condemned && has_ended(child);
        for index in 0..self.children.len() {
            if willing(&self.children[index]) {
                self.reap(index);
            }
        }
    }

    fn reap(&mut self, index: usize) {
        if self.children[index].reaped {
            return;
        }
        let pid = self.children[index].pid;
        let Ok(Some((_, status))) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) else {
            return;
        };
        if self.children[index].condemned {
            self.reap_the_willing();
        }
        let leftovers = isolation::stray_children(|pid| self.is_known(pid));
        let child = &mut self.children[index];
        child.reaped = true;
        child.leftovers = leftovers;
        let leftovers = u32::try_from(child.leftovers.len()).unwrap_or(u32::MAX);
        let end = match status.terminating_signal() {
            Some(signal) => ProcessEnd::Signaled { signal, leftovers },
            None => ProcessEnd::Exited {
                status: status.exit_status().unwrap_or(0),
                leftovers,
            },
        };
        if child.condemned {
            self.end_leftovers(index);
        }
        tell(&mut self.children[index].status, Status::Ended(end));
    }

    fn is_known(&self, pid: i32) -> bool {
        self.children.iter().any(|child| {
            !child.reaped && child.pid.as_raw_pid() == pid
                || child
                    .leftovers
                    .iter()
                    .any(|leftover| leftover.as_raw_pid() == pid)
        })
    }

    fn position(&self, session: u64) -> Option<usize> {
        let mut children = self.children.iter();
        children.position(|child| child.session == session)
    }

    fn wake(&mut self, session: u64) {
        let child = self.position(session).map(|index| &self.children[index]);
        if let Some(child) = child.filter(|child| !child.reaped) {
            let _ = rustix::process::kill_process(child.pid, Signal::CONT);
        }
    }

    fn kill(&mut self, session: u64) {
        let Some(index) = self.position(session) else {
            return;
        };
        let child = &mut self.children[index];
        child.condemned = true;
        if child.reaped {
            self.end_leftovers(index);
        } else {
            processes::end_families(&[child.pid]);
        }
    }

    /// Kills the orphans of a session that has ended, those that appear while it does so included.
    fn end_leftovers(&mut self, index: usize) {
        let mut leftovers = std::mem::take(&mut self.children[index].leftovers);
        while !leftovers.is_empty() {
            processes::end_families(&leftovers);
            for pid in leftovers {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            }
            self.reap_the_willing();
            leftovers = isolation::stray_children(|pid| self.is_known(pid));
        }
    }

    /// `verify` is gone, however that happened: nothing of this run may outlive it.
    pub(crate) fn end_everything(&mut self) {
        for index in 0..self.children.len() {
            self.children[index].condemned = true;
            let pid = self.children[index].pid;
            if !self.children[index].reaped {
                processes::end_families(&[pid]);
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                self.children[index].reaped = true;
            }
            // Those of a session that was a host itself have come here, dead or alive.
            self.children[index].leftovers = isolation::stray_children(|pid| self.is_known(pid));
            self.end_leftovers(index);
        }
        end_the_rest();
    }
}

/// Ends what belongs to no session any more: the child of an orphan comes here when that has ended. Asked by `waitpid`
/// as well, since the kernel's list of children can leave some out while others end.
fn end_the_rest() {
    let until = Instant::now() + END_LIMIT;
    while Instant::now() < until {
        match rustix::process::waitpid(None, WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return,
            Ok(None) => {
                processes::end_families(&isolation::stray_children(|_| false));
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

fn tell(status: &mut File, what: Status) {
    // Nobody is left to hear it if this fails.
    let _ = status.write_all(&protocol::encode(&what));
}

impl Forked {
    /// Puts the session's stdout and stderr in place.
    pub(crate) fn take_over_streams(&self) -> io::Result<()> {
        rustix::stdio::dup2_stdout(self.stdout.as_fd())?;
        rustix::stdio::dup2_stderr(self.stderr.as_fd())?;
        Ok(())
    }
}
