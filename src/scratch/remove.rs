//! Clearing a directory away in which examples did what they liked.
//!
//! It may hold directories that their owner may not read, or that lie deeper than a path can say or a process
//! can open; links that lead out of it; and what somebody has mounted there. Some process may even still be at work in
//! it. So every step goes from an open directory to what lies in it, and follows no link; and whatever is a directory
//! is first removed as if it were empty, since only so the kernel tells of one that something is mounted on.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::DIRECTORY;

const MOST_TRIES: usize = 3;

/// Removes whatever is there. What cannot be removed stays, and so does the directory then.
pub fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) => match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => {}
            io::ErrorKind::NotADirectory => return fs::remove_file(directory),
            io::ErrorKind::NotFound => return Ok(()),
            _ => return Err(error),
        },
        Ok(()) => return Ok(()),
    }
    // Whoever is still at work there may put something back. Who does so for ever has a directory that stays.
    let mut tries = 0..MOST_TRIES;
    loop {
        empty(&open(CWD, directory)?);
        match fs::remove_dir(directory) {
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries.next().is_some() => {}
            done => return done,
        }
    }
}

/// Empties a directory without ever going deeper than two levels: what lies below moves up.
fn empty(top: &OwnedFd) {
    let mut filled = clear(top);
    while let Some(name) = filled.pop() {
        let Ok(directory) = open(top, name.as_c_str()) else {
            continue;
        };
        for below in clear(&directory) {
            filled.extend(move_up(&directory, &below, top));
        }
        let _ = rustix::fs::unlinkat(top, &name, AtFlags::REMOVEDIR);
    }
}

/// Removes what is no directory or an empty one, and returns the names of the others.
fn clear(directory: &OwnedFd) -> Vec<CString> {
    let mut filled = Vec::new();
    // All of them before anything changes.
    let entries: Vec<_> = Dir::read_from(directory)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    for entry in entries {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let remove = |flags| rustix::fs::unlinkat(directory, name, flags);
        if entry.file_type() != FileType::Directory && remove(AtFlags::empty()).is_ok() {
            continue;
        }
        if let Err(Errno::NOTEMPTY | Errno::EXIST) = remove(AtFlags::REMOVEDIR) {
            filled.push(name.to_owned());
        }
    }
    filled
}

/// Moves a directory into `top`, to the name that is returned.
fn move_up(from: &OwnedFd, name: &CStr, top: &OwnedFd) -> Option<CString> {
    let random: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(12)
        .collect();
    let new = CString::new(random).ok()?;
    let moved = || rustix::fs::renameat(from, name, top, &new);
    // Who moves a directory changes what `..` means in it, which its own permissions may forbid.
    moved()
        .or_else(|_| open(from, name).and_then(|_| Ok(moved()?)))
        .ok()?;
    Some(new)
}

/// Opens a directory, with the right to see and change what is in it.
fn open(parent: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let found = rustix::fs::openat(parent, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // What is open like this can be changed by no other way.
        let path = format!("/proc/self/fd/{}", found.as_raw_fd());
        rustix::fs::chmod(path, mode | Mode::RWXU)?;
    }
    Ok(rustix::fs::openat(&found, ".", DIRECTORY, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn is_accessible_to_nobody(path: &Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }

    #[test]
    fn whatever_is_left_in_a_directory_goes() {
        let top = tempfile::tempdir().unwrap();
        let (own, other) = (top.path().join("own"), top.path().join("other"));
        fs::create_dir_all(own.join("locked/inner")).unwrap();
        fs::create_dir(own.join("empty")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "theirs").unwrap();
        fs::write(own.join("locked/inner/file"), "").unwrap();
        symlink(&other, own.join("link")).unwrap();
        symlink(&other, own.join("locked/link")).unwrap();
        symlink(other.join("file"), own.join("locked/inner/link")).unwrap();
        rustix::fs::mknodat(
            CWD,
            own.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        for name in ["locked/inner", "locked", "empty"] {
            is_accessible_to_nobody(&own.join(name));
        }
        // Deeper than a path is long.
        let mut here = rustix::fs::openat(CWD, &own, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "deep", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "deep", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        is_accessible_to_nobody(&own.join("deep"));
        is_accessible_to_nobody(&own);
        remove(&own).unwrap();
        assert!(!own.exists());
        remove(&own).unwrap();
        assert_eq!(fs::read(other.join("file")).unwrap(), b"theirs");
        symlink(&other, &own).unwrap();
        remove(&own).unwrap();
        assert!(own.symlink_metadata().is_err());
        assert_eq!(fs::read(other.join("file")).unwrap(), b"theirs");
    }
}
