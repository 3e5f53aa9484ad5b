//! A session that stays where it is: sessions that are forked from it go on behind its examples.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Running;
use super::origin::Origin;
use crate::protocol::{self, Command, Report, SessionSetup};

/// How long a session may take to answer: it looks at what its process has.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A session that stays an ordinary one.
#[derive(Debug)]
pub struct Untrue {
    pub process: Running,
    /// What a copy would lack.
    pub reason: String,
}

/// Ends with all that came from it when it is dropped.
#[derive(Debug)]
pub struct Checkpoint {
    origin: Arc<Origin>,
    setup: SessionSetup,
    _process: Running,
}

impl Checkpoint {
    /// Makes a checkpoint of a session between two units, unless a copy of it would not be true.
    pub fn of(mut process: Running) -> Result<Checkpoint, Box<Untrue>> {
        match process.ask_for_checkpoint() {
            Ok(channel) => Ok(Checkpoint {
                origin: Arc::new(process.origin.below(channel)),
                // What was done once is not done again.
                setup: SessionSetup {
                    environment: Vec::new(),
                    ..process.setup.clone()
                },
                _process: process,
            }),
            Err(reason) => Err(Box::new(Untrue { process, reason })),
        }
    }

    /// A session that goes on from here, in a directory that holds so many bytes.
    pub fn go_on(&self, held: u64) -> Result<Running> {
        let running = Running::start(&self.origin, self.setup.clone(), Vec::new())?;
        Ok(running.in_directory_with(held))
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.origin.retire();
    }
}

impl Running {
    fn ask_for_checkpoint(&mut self) -> Result<UnixStream, String> {
        let gone = || "its process has ended".to_owned();
        let channel = self
            .control
            .try_clone()
            .map_err(|error| error.to_string())?;
        protocol::send(&self.control, &Command::Checkpoint).map_err(|_| gone())?;
        match self.answer(Instant::now() + ANSWER_LIMIT) {
            Some(Report::Checkpoint { untrue: None }) => return Ok(channel),
            Some(Report::Checkpoint {
                untrue: Some(reason),
            }) => return Err(reason),
            _ => {}
        }
        self.end_now();
        Err(gone())
    }
}
