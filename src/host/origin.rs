//! What sessions are forked from: a host, or a session that stays where it is (see [`super::Checkpoint`]).

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, Signal};

use crate::protocol::{self, FORK_DESCRIPTORS, HostRequest};

#[derive(Debug)]
pub(super) struct Origin {
    /// `None` once it has been closed, which tells the other side to clean up and end.
    channel: Mutex<Option<UnixStream>>,
    /// The host that is at the root of it.
    pub(super) host: Pid,
    /// What it was forked from itself, and as which session, if it is no root.
    above: Option<(Arc<Origin>, u64)>,
    sessions: AtomicU64,
    /// Whether the host has died; one flag for all that came from it.
    lost: Arc<AtomicBool>,
    /// Nobody wants it any more, so its end is not the host's.
    retired: AtomicBool,
}

impl Origin {
    pub(super) fn new(channel: UnixStream, host: Pid) -> Origin {
        Origin {
            channel: Mutex::new(Some(channel)),
            host,
            above: None,
            sessions: AtomicU64::new(0),
            lost: Arc::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// A session of this one that has become a host: it can die and leave this one as it is.
    pub(super) fn beside(self: &Arc<Origin>, session: u64, channel: UnixStream) -> Origin {
        Origin {
            above: Some((self.clone(), session)),
            ..Origin::new(channel, self.host)
        }
    }

    /// A session of this one that has become an origin itself.
    pub(super) fn below(&self, channel: UnixStream) -> Origin {
        Origin {
            lost: self.lost.clone(),
            above: self.above.clone(),
            ..Origin::new(channel, self.host)
        }
    }

    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends a session with all its processes. The session's own pipes tell when that has happened.
    pub(super) fn kill(&self, session: u64) {
        // Who cannot hear this is gone, and the sessions too.
        let _ = self.send(&HostRequest::Kill { session }, &[]);
    }

    /// Lets the hosts that it comes from go on, which an example may have stopped.
    pub(super) fn wake(&self) {
        match &self.above {
            None => drop(rustix::process::kill_process(self.host, Signal::CONT)),
            Some((above, session)) => {
                above.wake();
                // Who cannot hear this is gone, and what it would wake too.
                let _ = above.send(&HostRequest::Wake { session: *session }, &[]);
            }
        }
    }

    /// Ends a host that answers no more, and its sessions with it.
    pub(super) fn abandon(&self) {
        self.set_lost();
        let _ = rustix::process::kill_process(self.host, Signal::KILL);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn set_lost(&self) {
        if !self.retired.load(Ordering::Relaxed) {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// From here on its end is nothing to tell.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Hangs up: the other side ends all sessions and itself. Whoever waits for a session is told so.
    pub(super) fn close(&self) {
        self.channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    pub(super) fn send(&self, request: &HostRequest, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let sent = self.try_send(request, descriptors);
        if sent.is_err() {
            self.set_lost();
        }
        sent
    }

    fn try_send(&self, request: &HostRequest, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let frame = protocol::encode(request);
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(channel) = channel.as_mut() else {
            bail!("the host is closed");
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FORK_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let sent = rustix::net::sendmsg(
            &*channel,
            &[IoSlice::new(&frame)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .context("the host is gone")?;
        io::Write::write_all(channel, &frame[sent..]).context("the host is gone")?;
        Ok(())
    }
}
