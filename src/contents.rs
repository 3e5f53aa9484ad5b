//! What a session's directory held at one moment, so that it can be put back.
//!
//! Nothing of the session runs meanwhile: its processes have ended or stay where they are. What it left may
//! still lead anywhere, so links are kept as links and never followed.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;

use crate::processes;

/// Directories that hold more are not worth the memory.
const MOST_BYTES: u64 = 16 << 20;

/// A file that was changed so short a time before it was looked at may be changed again under the same time: whether it
/// was, only reading it tells.
const RACY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Contents {
    /// Below the directory, those above before those below.
    entries: BTreeMap<PathBuf, Entry>,
    /// Bytes that they take up.
    room: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    what: What,
    stamp: Stamp,
    is_racy: bool,
    mode: u32,
    modified: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Directory,
    File(Arc<[u8]>),
    Link(PathBuf),
}

/// Changes whenever the entry does, unless that was looked at too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    owner: (u32, u32),
    size: u64,
    changed: (i64, i64),
}

impl Contents {
    /// Reads the directory; what is as in `earlier` is not read again. An error says why it could not be put back.
    pub fn read(directory: &Path, earlier: Option<&Contents>) -> Result<Contents, String> {
        let now = SystemTime::now();
        let mut entries = BTreeMap::new();
        let (mut bytes, mut room) = (0, 0);
        for entry in WalkDir::new(directory).min_depth(1) {
            let entry = entry.map_err(|_| "its directory cannot be read".to_owned())?;
            let name = entry
                .path()
                .strip_prefix(directory)
                .expect("below the directory")
                .to_owned();
            let unreadable = |_| format!("`{}` cannot be read", name.display());
            let file = fs::symlink_metadata(entry.path()).map_err(unreadable)?;
            if file.is_file() {
                bytes += file.size();
            }
            if bytes > MOST_BYTES {
                return Err(format!(
                    "its directory holds more than {} MiB",
                    MOST_BYTES >> 20
                ));
            }
            room += processes::room(&file);
            let stamp = Stamp::of(&file);
            let known = earlier
                .and_then(|earlier| earlier.entries.get(&name))
                .filter(|known| known.stamp == stamp && !known.is_racy)
                .cloned();
            let entry = match known {
                Some(known) => known,
                None => Entry {
                    what: What::read(entry.path(), &file)
                        .map_err(unreadable)?
                        .ok_or_else(|| format!("`{}` cannot be put back", name.display()))?,
                    stamp,
                    is_racy: is_racy(&file, now),
                    mode: file.mode() & 0o7777,
                    modified: file.modified().map_err(unreadable)?,
                },
            };
            entries.insert(name, entry);
        }
        Ok(Contents { entries, room })
    }

    /// Bytes that it takes up on its file system.
    pub fn room(&self) -> u64 {
        self.room
    }

    /// Makes the directory hold this and nothing else. What is as it was is left alone.
    ///
    /// What the session may see and change hangs on the directories at the top, so one of them that is gone or another
    /// cannot be put back. Those below may become others.
    pub fn restore(&mut self, directory: &Path) -> io::Result<()> {
        let now = SystemTime::now();
        let mut present = BTreeMap::new();
        for entry in WalkDir::new(directory).min_depth(1) {
            let entry = entry?;
            let name = entry.path().strip_prefix(directory).expect("below it");
            present.insert(name.to_owned(), fs::symlink_metadata(entry.path())?);
        }
        let mut kept: HashSet<&Path> = HashSet::new();
        // What is below a directory goes before it.
        for (name, file) in present.iter().rev() {
            let path = directory.join(name);
            let entry = self.entries.get_mut(name);
            match entry.map(|entry| (entry.is_still(name, directory, file, now), &entry.what)) {
                Some((true, _)) => {
                    kept.insert(name);
                }
                Some((false, What::Directory)) if is_at_top(name) => {
                    return Err(io::Error::other(format!(
                        "the directory `{}` was replaced",
                        name.display()
                    )));
                }
                _ if file.is_dir() => fs::remove_dir(path)?,
                _ => fs::remove_file(path)?,
            }
        }
        for (name, entry) in &mut self.entries {
            if kept.contains(name.as_path()) {
                continue;
            }
            let path = directory.join(name);
            match &entry.what {
                What::Directory if is_at_top(name) => {
                    return Err(io::Error::other(format!(
                        "the directory `{}` was removed",
                        name.display()
                    )));
                }
                What::Directory => {
                    fs::create_dir(&path)?;
                    entry.stamp.put_owner(&path)?;
                }
                What::Link(target) => {
                    symlink(target, &path)?;
                    entry.stamp.put_owner(&path)?;
                }
                What::File(bytes) => {
                    fs::write(&path, bytes)?;
                    entry.stamp.put_owner(&path)?;
                    fs::set_permissions(&path, Permissions::from_mode(entry.mode))?;
                    File::open(&path)?.set_modified(entry.modified)?;
                }
            }
            let file = fs::symlink_metadata(&path)?;
            (entry.stamp, entry.is_racy) = (Stamp::of(&file), true);
        }
        for (name, entry) in &self.entries {
            if entry.what == What::Directory {
                let file = File::open(directory.join(name))?;
                file.set_permissions(Permissions::from_mode(entry.mode))?;
                // Python believes its lists of files by it.
                file.set_modified(entry.modified)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    fn is_still(
        &mut self,
        name: &Path,
        directory: &Path,
        file: &Metadata,
        now: SystemTime,
    ) -> bool {
        let stamp = Stamp::of(file);
        match &self.what {
            What::Directory if is_at_top(name) => file.is_dir() && stamp.inode == self.stamp.inode,
            What::Directory => file.is_dir(),
            _ if stamp != self.stamp => false,
            _ if !self.is_racy => true,
            what => {
                let is_same = file.mode() & 0o7777 == self.mode
                    && file.modified().is_ok_and(|time| time == self.modified)
                    && What::read(&directory.join(name), file)
                        .is_ok_and(|read| read.as_ref() == Some(what));
                self.is_racy = is_racy(file, now);
                is_same
            }
        }
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        Stamp {
            inode: file.ino(),
            owner: (file.uid(), file.gid()),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Makes what was written again belong to whom it did.
    fn put_owner(&self, path: &Path) -> io::Result<()> {
        let (user, group) = self.owner;
        let file = fs::symlink_metadata(path)?;
        if (file.uid(), file.gid()) == self.owner {
            return Ok(());
        }
        lchown(path, Some(user), Some(group))
    }
}

/// Whether it lies in the directory itself, not below a directory of it.
fn is_at_top(name: &Path) -> bool {
    name.parent()
        .is_some_and(|parent| parent.as_os_str().is_empty())
}

fn is_racy(file: &Metadata, now: SystemTime) -> bool {
    let since_epoch = Duration::new(
        file.ctime().try_into().unwrap_or(0),
        file.ctime_nsec().try_into().unwrap_or(0),
    );
    SystemTime::UNIX_EPOCH + since_epoch + RACY > now
}

impl What {
    /// `None` where writing it again would not give the same.
    fn read(path: &Path, file: &Metadata) -> io::Result<Option<What>> {
        let kind = file.file_type();
        if kind.is_dir() {
            return Ok(Some(What::Directory));
        }
        if kind.is_symlink() {
            return Ok(Some(What::Link(fs::read_link(path)?)));
        }
        if !kind.is_file() || file.nlink() > 1 {
            return Ok(None);
        }
        Ok(Some(What::File(fs::read(path)?.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(directory: &Path) -> Vec<(PathBuf, String)> {
        let mut found: Vec<_> = WalkDir::new(directory)
            .min_depth(1)
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .map(|path| {
                let text = match fs::read_link(&path) {
                    Ok(target) => format!("-> {}", target.display()),
                    Err(_) => fs::read_to_string(&path).unwrap_or_default(),
                };
                (path, text)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn what_was_there_is_put_back() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir_all(at("sub/below/deep")).unwrap();
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(at("sub/below"), private.clone()).unwrap();
        for (name, text) in [
            ("sub/one", "1"),
            ("sub/below/deep/four", "4"),
            ("two", "2"),
            ("three", "3"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        symlink("two", at("link")).unwrap();
        let before = listing(top.path());
        let mut contents = Contents::read(top.path(), None).unwrap();

        fs::remove_dir_all(at("sub/below")).unwrap();
        fs::write(at("sub/one"), "x").unwrap();
        fs::remove_file(at("two")).unwrap();
        fs::remove_file(at("link")).unwrap();
        symlink("/etc", at("link")).unwrap();
        fs::create_dir_all(at("new/deep")).unwrap();
        fs::write(at("new/deep/file"), "x").unwrap();
        fs::remove_file(at("three")).unwrap();
        symlink("/etc/passwd", at("three")).unwrap();
        contents.restore(top.path()).unwrap();
        assert_eq!(listing(top.path()), before);
        let mode = at("sub/below").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        let mut again = Contents::read(top.path(), Some(&contents)).unwrap();
        assert_eq!(again.room(), processes::disk(top.path()));
        let inode = |name: &str| at(name).metadata().unwrap().ino();
        let of_two = inode("two");
        fs::write(at("sub/one"), "y").unwrap();
        fs::set_permissions(at("sub"), private).unwrap();
        again.restore(top.path()).unwrap();
        assert_eq!(listing(top.path()), before, "the second reading is as good");
        let mode = at("sub").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(inode("two"), of_two, "what is as it was is left alone");
        contents.restore(top.path()).unwrap();
        assert_eq!(listing(top.path()), before);
        assert_eq!(inode("two"), of_two, "also what was put back before");
    }

    #[test]
    fn what_was_changed_under_the_same_time_is_noticed() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        fs::write(&file, "1").unwrap();
        let mut contents = Contents::read(top.path(), None).unwrap();
        fs::write(&file, "x").unwrap();
        // As a clock would leave it that has not gone on meanwhile.
        let now = file.metadata().unwrap();
        let entry = contents.entries.get_mut(Path::new("file")).unwrap();
        (entry.stamp, entry.modified) = (Stamp::of(&now), now.modified().unwrap());
        contents.restore(top.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
    }

    #[test]
    fn what_cannot_be_put_back_is_refused() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("sub")).unwrap();
        let mut contents = Contents::read(top.path(), None).unwrap();
        fs::remove_dir(top.path().join("sub")).unwrap();
        assert!(contents.restore(top.path()).is_err());
        fs::create_dir(top.path().join("other")).unwrap();
        fs::create_dir(top.path().join("sub")).unwrap();
        let mut contents = Contents::read(top.path(), None).unwrap();
        fs::remove_dir(top.path().join("sub")).unwrap();
        fs::rename(top.path().join("other"), top.path().join("sub")).unwrap();
        assert!(contents.restore(top.path()).is_err(), "another directory");

        fs::write(top.path().join("one"), "1").unwrap();
        fs::hard_link(top.path().join("one"), top.path().join("two")).unwrap();
        assert!(Contents::read(top.path(), None).is_err());
        fs::remove_file(top.path().join("two")).unwrap();
        let large = File::create(top.path().join("large")).unwrap();
        large.set_len(MOST_BYTES + 1).unwrap();
        assert!(Contents::read(top.path(), None).is_err());
    }
}
