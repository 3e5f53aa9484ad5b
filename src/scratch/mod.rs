//! The directories of a run: [making](make_root) and [clearing them away](remove), those of [earlier runs](sweep)
//! included, and a session's, in which we write beside an example that does there what it likes.
//!
//! It may have put links in our way that lead out of the directory, pipes that nobody reads, or nothing at all.
//! So every step goes from directory to directory without following a link, and what we write is a new
//! file each time.

mod remove;
mod root;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

pub use remove::remove;
pub use root::{Held, hold, make_root, new_root, sweep, write_stand_ins};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// What lies in a session's directory over the machine's `/tmp`, `/dev/shm`, and the directories of other sessions.
pub const COVERS: [&str; 3] = ["tmp", "shm", "around"];

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Whether the file system of a directory keeps its files in memory only.
pub fn is_in_memory(directory: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        let found = rustix::fs::statfs(directory);
        found.is_ok_and(|system| system.f_type == libc::TMPFS_MAGIC)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = directory;
        false
    }
}

/// A directory that stays the same one, whatever its name leads to later.
#[derive(Debug)]
pub struct Scratch {
    directory: OwnedFd,
}

impl Scratch {
    pub fn open(path: &Path) -> io::Result<Scratch> {
        let directory = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?;
        Ok(Scratch { directory })
    }

    /// Writes a file, and makes the directories above it. What had its name before is replaced, not changed.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path, true)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o666));
        let file = match open() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty())?;
                open()?
            }
            opened => opened?,
        };
        File::from(file).write_all(bytes)
    }

    /// Reads a file; links and what is no file at all are as if they were not there.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent(path, false)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        if !FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The directory that holds `path`, and its name there.
    fn parent<'a>(&self, path: &'a Path, make: bool) -> io::Result<(Parent<'_>, &'a Path)> {
        let mut directory = Parent::Own(self.directory.as_fd());
        let mut components = path.components().filter(|part| *part != Component::CurDir);
        let mut name = components.next().ok_or(io::ErrorKind::InvalidInput)?;
        for next in components {
            let Component::Normal(step) = name else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let open = || rustix::fs::openat(directory.as_fd(), step, DIRECTORY, Mode::empty());
            let opened = match open() {
                Err(Errno::NOENT) if make => {
                    let mode = Mode::from_raw_mode(0o777);
                    match rustix::fs::mkdirat(directory.as_fd(), step, mode) {
                        Ok(()) | Err(Errno::EXIST) => open()?,
                        Err(error) => return Err(error.into()),
                    }
                }
                opened => opened?,
            };
            directory = Parent::Below(opened);
            name = next;
        }
        match name {
            Component::Normal(name) => Ok((directory, Path::new(name))),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// A directory on the way to a file.
enum Parent<'a> {
    Own(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Own(directory) => *directory,
            Parent::Below(directory) => directory.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A scratch directory, and beside it one that is none of the session's business.
    fn directories() -> (tempfile::TempDir, Scratch) {
        let top = tempfile::tempdir().unwrap();
        for name in ["own", "other"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        fs::write(top.path().join("other/file"), "theirs").unwrap();
        let scratch = Scratch::open(&top.path().join("own")).unwrap();
        (top, scratch)
    }

    #[test]
    fn writes_and_reads_with_directories_on_the_way() {
        let (top, scratch) = directories();
        scratch.write(Path::new("a/b/c.py"), b"one").unwrap();
        scratch.write(Path::new("./a/b/c.py"), b"two").unwrap();
        assert_eq!(fs::read(top.path().join("own/a/b/c.py")).unwrap(), b"two");
        assert_eq!(scratch.read(Path::new("a/b/c.py")).unwrap(), b"two");
        for path in [
            "../other/file",
            "/etc/passwd",
            "a/../../other/file",
            "",
            ".",
        ] {
            assert!(scratch.write(Path::new(path), b"x").is_err(), "{path}");
            assert!(scratch.read(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn links_lead_nowhere() {
        let (top, scratch) = directories();
        let (own, other) = (top.path().join("own"), top.path().join("other"));
        symlink(other.join("file"), own.join("link")).unwrap();
        symlink(&other, own.join("directory")).unwrap();
        fs::hard_link(other.join("file"), own.join("hard")).unwrap();
        assert!(scratch.read(Path::new("link")).is_err());
        assert!(scratch.read(Path::new("directory/file")).is_err());
        assert!(scratch.write(Path::new("directory/file"), b"x").is_err());
        scratch.write(Path::new("link"), b"ours").unwrap();
        scratch.write(Path::new("hard"), b"ours").unwrap();
        assert_eq!(fs::read(other.join("file")).unwrap(), b"theirs");
        assert_eq!(scratch.read(Path::new("link")).unwrap(), b"ours");
    }

    #[test]
    fn what_is_no_file_neither_blocks_nor_passes_for_one() {
        let (top, scratch) = directories();
        let pipe = top.path().join("own/pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(scratch.read(Path::new("pipe")).is_err());
        scratch.write(Path::new("pipe"), b"ours").unwrap();
        fs::create_dir(top.path().join("own/directory")).unwrap();
        assert!(scratch.write(Path::new("directory"), b"ours").is_err());
        assert!(scratch.read(Path::new("directory")).is_err());
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error() {
        let (top, scratch) = directories();
        fs::rename(top.path().join("own"), top.path().join("moved")).unwrap();
        symlink(top.path().join("other"), top.path().join("own")).unwrap();
        scratch.write(Path::new("file"), b"ours").unwrap();
        assert_eq!(fs::read(top.path().join("other/file")).unwrap(), b"theirs");
        fs::remove_dir_all(top.path().join("moved")).unwrap();
        assert!(scratch.write(Path::new("file"), b"x").is_err());
    }
}
