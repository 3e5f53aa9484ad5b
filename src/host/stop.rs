//! A word that ends what runs, from another thread.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// Given once, and never taken back.
#[derive(Debug)]
pub struct Stop {
    /// Readable from then on.
    heard: PipeReader,
    /// Closed when it is given: that wakes everybody who waits.
    open: Mutex<Option<PipeWriter>>,
}

impl Stop {
    pub fn new() -> io::Result<Stop> {
        let (heard, writer) = io::pipe()?;
        Ok(Stop {
            heard,
            open: Mutex::new(Some(writer)),
        })
    }

    pub fn give(&self) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    pub fn is_given(&self) -> bool {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}
