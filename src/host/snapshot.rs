//! A session that has imported a package and become a host: sessions that import it themselves are forked from it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::origin::Origin;
use super::{Host, Running, Start};
use crate::protocol::{self, ProcessLimits, Program, Report};

/// How long a package may take to be imported.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to hear a request.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Ends with all that came from it when it is dropped.
#[derive(Debug)]
pub struct Snapshot {
    origin: Arc<Origin>,
    /// Top-level modules outside the standard library that are imported in it.
    pub packages: Vec<String>,
    _process: Running,
}

/// A host that imports its package at this moment.
#[derive(Debug)]
pub struct Importing(Running);

impl Snapshot {
    /// Lets a session of `host` import a package, in a directory of its own; on top of what `below` has imported.
    pub fn begin(
        host: &Host,
        below: Option<&Snapshot>,
        package: Option<&str>,
        directory: &Path,
    ) -> Result<Importing> {
        let process = host.session(Start {
            directory,
            tenant: host.new_number(),
            is_first: true,
            scratch: directory,
            limits: ProcessLimits::default(),
            program: Program::Host {
                package: package.map(str::to_owned),
            },
            own_network: false,
            may_stay: false,
            snapshot: below,
            sources: Vec::new(),
        })?;
        Ok(Importing(process))
    }

    /// Whether it has died; its sessions have to run again.
    pub fn is_lost(&self) -> bool {
        self.origin.is_lost()
    }

    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }
}

impl Importing {
    /// Waits for it; or says why sessions have to import the package themselves.
    pub fn finish(self) -> Result<Snapshot, String> {
        let Importing(mut process) = self;
        let gone = || "its import ends the process".to_owned();
        let deadline = Instant::now() + IMPORT_LIMIT;
        let answer = process.answer(deadline);
        let packages = match answer {
            Some(Report::Snapshot(protocol::Snapshot::Ready { packages })) => packages,
            Some(Report::Snapshot(protocol::Snapshot::Unfit { reason })) => return Err(reason),
            None if Instant::now() >= deadline => {
                let limit = IMPORT_LIMIT.as_secs();
                return Err(format!("its import takes longer than {limit} s"));
            }
            _ => return Err(gone()),
        };
        if process.has_printed() {
            return Err("it prints".to_owned());
        }
        let channel = process.control.try_clone().map_err(|_| gone())?;
        // One that compiles for ever hears nothing, and whoever has more to say than a socket holds must not wait for it.
        let limited = channel.set_write_timeout(Some(SEND_LIMIT));
        limited.map_err(|_| gone())?;
        Ok(Snapshot {
            origin: Arc::new(process.origin.beside(process.setup.session, channel)),
            packages,
            _process: process,
        })
    }
}
