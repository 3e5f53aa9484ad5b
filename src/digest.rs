//! What inputs are told apart by: a cryptographic hash, so that nobody can make an input that passes for
//! another one.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The clock of file systems goes by steps of as much (Linux with a `HZ` of 100).
pub const CLOCK_TICK: Duration = Duration::from_millis(10);

/// BLAKE3 of something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// Of what a file holds, which may be more than one wants in memory.
    pub fn of_file(path: &Path) -> io::Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path)?)?;
        Ok(Digest(*hasher.finalize().as_bytes()))
    }

    /// Of everything that `Debug` shows: a field that is added later is part of it without a word.
    pub fn of_debug(value: &dyn fmt::Debug) -> Digest {
        let mut digester = Digester::default();
        let _ = write!(digester, "{value:?}");
        digester.finish()
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first half, for the name of a file.
    pub fn short(&self) -> String {
        self.0[..16].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.short())
    }
}

/// A digest of several parts, none of which can pass for a part of its neighbor.
#[derive(Default)]
pub struct Digester(blake3::Hasher);

impl Digester {
    #[must_use]
    pub fn with(mut self, part: &[u8]) -> Digester {
        self.add(part);
        self
    }

    pub fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Write for Digester {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// What a file is, as far as one can tell without reading it: place, size, inode and the times of its last
/// changes. Nobody changes a file and keeps all of them, unless on purpose and as its owner.
pub fn appearance(file: &Path) -> io::Result<Digest> {
    let found = fs::metadata(file)?;
    let mut digester = Digester::default().with(file.as_os_str().as_bytes());
    for number in [
        found.size().cast_signed(),
        found.ino().cast_signed(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ] {
        digester.add(&number.to_le_bytes());
    }
    Ok(digester.finish())
}

/// When a file or directory was last changed, put in its place, or, where there is none, may have been taken away.
/// Whoever moves a file somewhere, or sets its times, cannot set this one.
pub fn changed(path: &Path) -> SystemTime {
    let found = path.ancestors().find_map(|path| fs::metadata(path).ok());
    let time = found.and_then(|found| {
        let seconds = Duration::from_secs(u64::try_from(found.ctime()).ok()?);
        Some(seconds + Duration::from_nanos(u64::try_from(found.ctime_nsec()).ok()?))
    });
    SystemTime::UNIX_EPOCH + time.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_their_borders() {
        let two = |one: &[u8], other: &[u8]| Digester::default().with(one).with(other).finish();
        assert_ne!(two(b"ab", b"c"), two(b"a", b"bc"));
        assert_eq!(two(b"ab", b"c"), two(b"ab", b"c"));
    }

    #[test]
    fn a_file_is_told_by_what_it_holds() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let bytes = vec![7; 300_000];
        fs::write(&file, &bytes).unwrap();
        assert_eq!(Digest::of_file(&file).unwrap(), Digest::of(&bytes));
        assert!(Digest::of_file(&directory.path().join("gone")).is_err());
    }

    #[test]
    fn a_file_that_was_written_again_looks_different() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "one").unwrap();
        let before = appearance(&file).unwrap();
        assert_eq!(before, appearance(&file).unwrap());
        fs::write(&file, "longer").unwrap();
        assert_ne!(before, appearance(&file).unwrap());
        assert!(appearance(&directory.path().join("gone")).is_err());
    }
}
