//! The directory of a run, and those that earlier runs have left.
//!
//! Whoever uses one holds a lock on it (`flock`): its host from when it makes it, and `verify` besides. A lock ends with
//! the processes that hold it, however they end. So one that nobody holds is a leftover: all who would have
//! removed it were killed at one blow. The next start of `verify` removes it.
//!
//! That must never be somebody else's. Name and owner do not tell, since people keep a `verify-backup`; so
//! these directories are made with a bit in their mode that others have no reason to set. What has no such bit, such as
//! the directories of versions that took no lock, is left alone. (`systemd-tmpfiles` respects the lock too.)

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode};
use rustix::io::{Errno, retry_on_intr};

use super::{DIRECTORY, remove};
use crate::protocol::StandIn;

const PREFIX: &str = "verify-";

/// Letters and digits behind it.
const RANDOM: usize = 6;

/// Its owner's alone, and "sticky", which changes nothing where nobody else may write.
const MODE: u32 = 0o1700;

/// Says that a directory is in use, until it is dropped or its process ends. A copy that a forked process has does so
/// too, and could end it for both.
#[derive(Debug)]
pub struct Held {
    _lock: OwnedFd,
}

/// A name in `place` that is free. What sessions print is searched for it, and their `PATH` begins with it: so not
/// every place will do.
pub fn new_root(place: &Path) -> io::Result<PathBuf> {
    let place = place.canonicalize()?;
    match place.to_str() {
        None => return Err(io::Error::other("its path is not UTF-8")),
        Some(path) if path.contains(':') => {
            return Err(io::Error::other("a `:` in its path divides `PATH`"));
        }
        Some(_) => {}
    }
    let random: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(RANDOM)
        .collect();
    Ok(place.join(format!("{PREFIX}{random}")))
}

/// Makes the directory of a run, which must not exist yet, with scripts in its `bin`.
pub fn make_root(root: &Path, stand_ins: &[StandIn]) -> io::Result<Held> {
    let held = loop {
        DirBuilder::new().mode(MODE).create(root)?;
        // Before it is locked it looks left over, and another run may have taken it for that.
        match hold(root) {
            Ok(Some(held)) => break held,
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    };
    write_stand_ins(root, stand_ins)?;
    Ok(held)
}

/// Holds a directory that others may hold too; `None` if it was removed meanwhile.
pub fn hold(root: &Path) -> io::Result<Option<Held>> {
    let lock = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
    // On a file system without locks nobody can take it for a leftover either.
    let _ = retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockShared));
    Ok(is_at(&lock, root)?.then_some(Held { _lock: lock }))
}

/// Removes what runs of this user have left in `place`. What stands in the way of that is no concern of this run's.
pub fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if is_name(entry.file_name().as_encoded_bytes()) {
            let _ = remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(root: &Path) -> io::Result<()> {
    let lock = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
    let found = rustix::fs::fstat(&lock)?;
    let is_ours = found.st_uid == rustix::process::geteuid().as_raw();
    if !is_ours || found.st_mode & 0o7777 != MODE {
        return Ok(());
    }
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(()),
        locked => locked?,
    }
    // Another run may have removed it by now, and a third one have made one of the same name.
    if is_at(&lock, root)? {
        remove(root)?;
    }
    Ok(())
}

fn is_name(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes())
        .is_some_and(|rest| rest.len() == RANDOM && rest.iter().all(u8::is_ascii_alphanumeric))
}

/// Whether an open directory is still the one at this path.
fn is_at(directory: &OwnedFd, path: &Path) -> io::Result<bool> {
    let open = rustix::fs::fstat(directory)?;
    let named = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        found => found?,
    };
    Ok((open.st_dev, open.st_ino) == (named.st_dev, named.st_ino))
}

pub fn write_stand_ins(root: &Path, stand_ins: &[StandIn]) -> io::Result<()> {
    if stand_ins.is_empty() {
        return Ok(());
    }
    let directory = root.join("bin");
    fs::create_dir(&directory)?;
    for StandIn { name, script } in stand_ins {
        let path = directory.join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// A directory as a run has left it, with something in it.
    fn left(place: &Path, name: &str, mode: u32) -> PathBuf {
        let root = place.join(name);
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "left").unwrap();
        fs::set_permissions(&root, Permissions::from_mode(mode)).unwrap();
        root
    }

    #[test]
    fn a_root_is_made_once_with_its_scripts() {
        let top = tempfile::tempdir().unwrap();
        let root = new_root(top.path()).unwrap();
        let script = StandIn {
            name: "python".to_owned(),
            script: b"#!/bin/sh\n".to_vec(),
        };
        let _held = make_root(&root, &[script]).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&root), MODE);
        assert_eq!(mode(&root.join("bin/python")), 0o755);
        let again = make_root(&root, &[]).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_directory_is_left_when_nobody_holds_it_any_more() {
        let top = tempfile::tempdir().unwrap();
        let root = new_root(top.path()).unwrap();
        let made = make_root(&root, &[]).unwrap();
        let held = hold(&root).unwrap();
        assert!(held.is_some());
        sweep(top.path());
        drop(made);
        sweep(top.path());
        assert!(root.exists(), "one of two still holds it");
        drop(held);
        sweep(top.path());
        assert!(!root.exists());
        assert!(hold(&root).is_err());
    }

    #[test]
    fn nothing_else_is_taken_for_a_left_directory() {
        let top = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = left(elsewhere.path(), "verify-target", MODE);
        left(top.path(), "verify-backup", 0o700);
        left(top.path(), "verify-shared", 0o1777);
        left(top.path(), "verify-longer-names", MODE);
        left(top.path(), "other-abcdef", MODE);
        fs::write(top.path().join("verify-a1b2c3"), "a file").unwrap();
        symlink(&target, top.path().join("verify-linked")).unwrap();
        let mut kept = 6;
        if rustix::process::geteuid().is_root() {
            let theirs = left(top.path(), "verify-theirs", MODE);
            chown(theirs, Some(65534), Some(65534)).unwrap();
            kept += 1;
        }
        left(top.path(), "verify-ABC123", MODE);
        sweep(top.path());
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), kept);
        assert!(!top.path().join("verify-ABC123").exists());
        assert!(target.join("file").exists());
        sweep(Path::new("/nowhere"));
    }

    #[test]
    fn a_directory_is_not_swept_while_it_is_made_or_held() {
        let top = tempfile::tempdir().unwrap();
        let (over, sweeps) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut removed = 0;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        sweep(top.path());
                        sweeps.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..300 {
                let root = new_root(top.path()).unwrap();
                let held = make_root(&root, &[]);
                // Each has looked at all of it by then.
                let enough = sweeps.load(Ordering::Relaxed) + 4;
                while sweeps.load(Ordering::Relaxed) < enough {
                    std::thread::yield_now();
                }
                removed += u32::from(held.is_err() || !root.exists());
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(removed, 0);
        sweep(top.path());
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
    }
}
