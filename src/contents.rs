//! What a session's directory held at one moment, so that it can be put back.
//!
//! Nothing of the session runs meanwhile: its processes have ended or stay where they are. What it left may
//! still lead anywhere, so links are kept as links and never followed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;

/// Directories that hold more are not worth the memory.
const MOST_BYTES: u64 = 16 << 20;

/// A file that was changed so short a time before it was looked at may be changed again under the same time.
const RACY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Contents {
    /// Below the directory, those above before those below.
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    what: What,
    stamp: Stamp,
    mode: u32,
    modified: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Directory,
    File(Arc<[u8]>),
    Link(PathBuf),
}

/// Changes whenever the entry does, unless it is racy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    racy: bool,
}

impl Contents {
    /// Reads the directory; what is as in `earlier` is not read again. An error says why it could not be put back.
    pub fn read(directory: &Path, earlier: Option<&Contents>) -> Result<Contents, String> {
        let now = SystemTime::now();
        let mut entries = BTreeMap::new();
        let mut bytes = 0;
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
            let stamp = Stamp::of(&file, now);
            let known = earlier
                .and_then(|earlier| earlier.entries.get(&name))
                .filter(|known| known.stamp == stamp && !stamp.racy)
                .cloned();
            let entry = match known {
                Some(known) => known,
                None => Entry {
                    what: What::read(entry.path(), &file)
                        .map_err(unreadable)?
                        .ok_or_else(|| format!("`{}` cannot be put back", name.display()))?,
                    stamp,
                    mode: file.mode() & 0o7777,
                    modified: file.modified().map_err(unreadable)?,
                },
            };
            entries.insert(name, entry);
        }
        Ok(Contents { entries })
    }

    /// Makes the directory hold this and nothing else. What is as it was is left alone.
    ///
    /// Processes may be in a directory of it, so one that is gone or another cannot be put back.
    pub fn restore(&self, directory: &Path) -> io::Result<()> {
        let now = SystemTime::now();
        let mut present = BTreeMap::new();
        for entry in WalkDir::new(directory).min_depth(1) {
            let entry = entry?;
            let name = entry.path().strip_prefix(directory).expect("below it");
            present.insert(name.to_owned(), fs::symlink_metadata(entry.path())?);
        }
        let mut kept: BTreeMap<&Path, &Metadata> = BTreeMap::new();
        // What is below a directory goes before it.
        for (name, file) in present.iter().rev() {
            match self.entries.get(name) {
                Some(entry) if entry.is_still(file, now) => {
                    kept.insert(name, file);
                }
                Some(Entry {
                    what: What::Directory,
                    ..
                }) => {
                    return Err(io::Error::other(format!(
                        "the directory `{}` was replaced",
                        name.display()
                    )));
                }
                _ if file.is_dir() => fs::remove_dir(directory.join(name))?,
                _ => fs::remove_file(directory.join(name))?,
            }
        }
        for (name, entry) in &self.entries {
            if kept.contains_key(name.as_path()) {
                continue;
            }
            let path = directory.join(name);
            match &entry.what {
                What::Directory => {
                    return Err(io::Error::other(format!(
                        "the directory `{}` was removed",
                        name.display()
                    )));
                }
                What::Link(target) => symlink(target, path)?,
                What::File(bytes) => {
                    fs::write(&path, bytes)?;
                    fs::set_permissions(&path, Permissions::from_mode(entry.mode))?;
                    File::open(&path)?.set_modified(entry.modified)?;
                }
            }
        }
        // Python believes its lists of files by the time of their directory.
        for (name, entry) in &self.entries {
            if entry.what == What::Directory {
                File::open(directory.join(name))?.set_modified(entry.modified)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    fn is_still(&self, file: &Metadata, now: SystemTime) -> bool {
        let stamp = Stamp::of(file, now);
        match self.what {
            What::Directory => file.is_dir() && stamp.inode == self.stamp.inode,
            _ => stamp == self.stamp && !stamp.racy,
        }
    }
}

impl Stamp {
    fn of(file: &Metadata, now: SystemTime) -> Stamp {
        let changed = SystemTime::UNIX_EPOCH
            + Duration::new(
                file.ctime().try_into().unwrap_or(0),
                file.ctime_nsec().try_into().unwrap_or(0),
            );
        Stamp {
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
            racy: changed + RACY > now,
        }
    }
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
        fs::create_dir(at("sub")).unwrap();
        for (name, text) in [("sub/one", "1"), ("two", "2"), ("three", "3")] {
            fs::write(at(name), text).unwrap();
        }
        symlink("two", at("link")).unwrap();
        let before = listing(top.path());
        let contents = Contents::read(top.path(), None).unwrap();

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

        let again = Contents::read(top.path(), Some(&contents)).unwrap();
        fs::write(at("sub/one"), "y").unwrap();
        again.restore(top.path()).unwrap();
        assert_eq!(listing(top.path()), before, "the second reading is as good");
    }

    #[test]
    fn what_cannot_be_put_back_is_refused() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("sub")).unwrap();
        let contents = Contents::read(top.path(), None).unwrap();
        fs::remove_dir(top.path().join("sub")).unwrap();
        assert!(contents.restore(top.path()).is_err());
        fs::create_dir(top.path().join("other")).unwrap();
        fs::create_dir(top.path().join("sub")).unwrap();
        let contents = Contents::read(top.path(), None).unwrap();
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
