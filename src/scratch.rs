//! The directories of a run: making them, clearing them away, and a session's, in which we write beside an
//! example that does there what it likes.
//!
//! It may have put links in our way that lead out of the directory, pipes that nobody reads, or nothing at all.
//! So every step goes from directory to directory without following a link, and what we write is a new
//! file each time. When it has ended, what it left must go, whatever it is.

use std::fs::{self, DirBuilder, DirEntry, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::protocol::StandIn;

/// Makes the directory of a run, which must not exist yet, with scripts in its `bin`.
pub fn make_root(root: &Path, stand_ins: &[StandIn]) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(root)?;
    write_stand_ins(root, stand_ins)
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

/// Removes a directory with all that examples have left in it; nobody may be writing to it any more.
pub fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Something may not be read by its owner, or lies deeper than a path can say or a process can open.
        Err(_) => flatten(directory).and_then(|()| fs::remove_dir(directory)),
    }
}

/// Empties a directory without ever going deeper than two levels: what lies below moves up.
fn flatten(top: &Path) -> io::Result<()> {
    let entries = |directory: &Path| -> io::Result<Vec<DirEntry>> {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        fs::read_dir(directory)?.collect()
    };
    let mut names = (0..).map(|number: u64| top.join(format!("moved-up-{number}")));
    let mut directories: Vec<PathBuf> = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in entries(&directory)? {
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                fs::remove_file(path)?;
            } else if directory == top {
                directories.push(path);
            } else {
                // Who moves a directory changes what `..` means in it, which its own permissions may forbid.
                fs::set_permissions(&path, Permissions::from_mode(0o700))?;
                let free = names.find(|name| name.symlink_metadata().is_err());
                let place = free.expect("there is always another number");
                fs::rename(path, &place)?;
                directories.push(place);
            }
        }
        if directory != top {
            fs::remove_dir(directory)?;
        }
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

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
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_root_is_made_once_with_its_scripts() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        let script = StandIn {
            name: "python".to_owned(),
            script: "#!/bin/sh\n".to_owned(),
        };
        make_root(&root, &[script]).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&root.join("bin/python")), 0o755);
        let again = make_root(&root, &[]).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn whatever_is_left_in_a_directory_goes() {
        let (top, _) = directories();
        let own = top.path().join("own");
        fs::create_dir_all(own.join("locked/inner")).unwrap();
        fs::write(own.join("locked/inner/file"), "").unwrap();
        symlink(top.path().join("other"), own.join("locked/link")).unwrap();
        for name in ["locked/inner", "locked"] {
            fs::set_permissions(own.join(name), Permissions::from_mode(0o000)).unwrap();
        }
        // Deeper than a path is long, with names that are taken.
        let mut here = rustix::fs::openat(CWD, &own, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            let mode = Mode::from_raw_mode(0o500 | 0o200);
            rustix::fs::mkdirat(&here, "moved-up-0", mode).unwrap();
            here = rustix::fs::openat(&here, "moved-up-0", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        flatten(&own).unwrap();
        assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
        remove(&own).unwrap();
        assert!(!own.exists());
        remove(&own).unwrap();
        let theirs = top.path().join("other/file");
        assert_eq!(fs::read(theirs).unwrap(), b"theirs", "no link is followed");
    }

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
