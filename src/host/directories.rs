//! The directories of a host's sessions, one session after another in the same.
//!
//! What a host makes for a session besides its process, above all a file system (see `sandbox/places.rs` in
//! `bin/verify-python/`), is made for a directory. A session that finds one in which the session before it has left
//! nothing gets all that with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Host;
use crate::scratch;

#[derive(Debug)]
pub(super) struct Directories {
    /// Whether deleting a file costs no more there than keeping it until the run ends.
    in_memory: bool,
    /// The next one that nothing has had yet: no directory, and no tenant of one.
    number: AtomicU64,
    free: Mutex<Vec<PathBuf>>,
}

impl Directories {
    /// For directories in `place`.
    pub(super) fn new(place: &Path) -> Directories {
        Directories {
            in_memory: scratch::is_in_memory(place),
            number: AtomicU64::default(),
            free: Mutex::default(),
        }
    }
}

impl Host {
    /// A directory for a session, which may have to be made.
    pub fn directory(&self) -> PathBuf {
        let free = lock(&self.directories.free).pop();
        free.unwrap_or_else(|| self.root().join(self.new_number().to_string()))
    }

    /// A number for a session that gets a directory.
    pub fn new_number(&self) -> u64 {
        self.directories.number.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a directory back of whose session no process lives. `scratch`, in it, has held so many files of ours.
    pub fn take_back(&self, directory: PathBuf, scratch: &Path, own_files: usize) {
        if self.clear_away(scratch, own_files) && is_clear(&directory) {
            lock(&self.directories.free).push(directory);
        }
    }

    /// On a disk, files of ours are only put aside, and go with all others when the run ends: for minutes after a file
    /// was deleted, each new one costs some file systems (ext4) a search through all those whose place it may not take
    /// yet. In memory, the next session's files take the place of those that were deleted, which the processor still
    /// has at hand.
    fn clear_away(&self, scratch: &Path, own_files: usize) -> bool {
        if self.directories.in_memory || is_filled(scratch, own_files) {
            return scratch::remove(scratch).is_ok();
        }
        let aside = self.root().join(self.new_number().to_string());
        fs::rename(scratch, aside).is_ok()
    }
}

/// Whether a session's directory holds more than files of ours. Such a one goes when the session has ended, lest a big
/// book fill the disk.
pub fn is_filled(scratch: &Path, own_files: usize) -> bool {
    fs::read_dir(scratch).map_or(0, Iterator::count) > own_files
}

/// Whether a directory holds nothing but what the host renews if it was touched.
fn is_clear(directory: &Path) -> bool {
    let is_renewed = |entry: fs::DirEntry| {
        scratch::COVERS
            .iter()
            .any(|name| entry.file_name() == *name)
    };
    fs::read_dir(directory)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(is_renewed)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
