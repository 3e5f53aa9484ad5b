//! The hosts of a run: one, unless an example ends it.
//!
//! All sessions share a host, which a process that may signal it can kill. That must be told on the example
//! that did it and on no other: so every session that was cut off runs again, each on a host of its own,
//! where only the guilty one fails, and what is still to come gets a fresh host to share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Result, bail};

use super::{Host, Options, Ready, Snapshot};
use crate::conditions;
use crate::interpreter::Interpreter;
use crate::protocol::Protections;

#[derive(Debug)]
pub struct Hosts<'a> {
    interpreter: &'a Interpreter,
    options: Options,
    /// What the first one found out.
    pub ready: Ready,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shared: Arc<Host>,
    /// All that may still live.
    all: Vec<Weak<Host>>,
    closed: bool,
}

impl<'a> Hosts<'a> {
    pub fn start(interpreter: &'a Interpreter, options: Options) -> Result<Hosts<'a>> {
        let shared = Arc::new(start(interpreter, &options)?);
        Ok(Hosts {
            interpreter,
            options,
            ready: shared.ready.clone(),
            state: Mutex::new(State {
                all: vec![Arc::downgrade(&shared)],
                shared,
                closed: false,
            }),
        })
    }

    /// What each of them is started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The host that sessions share; a new one if the last has died.
    pub fn shared(&self) -> Result<Arc<Host>> {
        let mut state = self.state();
        if state.shared.is_lost() && !state.closed {
            state.shared = self.another(&mut state)?;
        }
        Ok(state.shared.clone())
    }

    /// A host for one session.
    pub fn own(&self) -> Result<Arc<Host>> {
        let mut state = self.state();
        if state.closed {
            bail!("the host is closed");
        }
        self.another(&mut state)
    }

    /// Finds a program as a session would.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.state().shared.find_program(name)
    }

    /// Whether a session that ran there has to run again.
    pub fn lost(&self, host: &Host, snapshot: Option<&Snapshot>) -> bool {
        let is_lost = host.is_lost() || snapshot.is_some_and(Snapshot::is_lost);
        is_lost && !self.state().closed
    }

    /// Hangs up on all of them.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for host in state.all.iter().filter_map(Weak::upgrade) {
            host.close();
        }
    }

    fn another(&self, state: &mut State) -> Result<Arc<Host>> {
        let host = Arc::new(start(self.interpreter, &self.options)?);
        state.all.retain(|host| host.strong_count() > 0);
        state.all.push(Arc::downgrade(&host));
        Ok(host)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(interpreter: &Interpreter, options: &Options) -> Result<Host> {
    let place = options.conditions.scratch(options.most_scratch);
    let host = Host::start(interpreter, &place, options)?;
    // Where it cannot give each session a `/dev/shm` of its own, all may write to all that is in it.
    let shares = |protections: &Protections| protections.files.is_some();
    if place == Path::new("/dev/shm") && host.ready.protections.as_ref().is_some_and(shares) {
        return Host::start(interpreter, &conditions::temporary_directory(), options);
    }
    Ok(host)
}
