//! What a session has read besides its page, and whether that is still what it read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::digest::{self, CLOCK_TICK, Digest};
use crate::protocol::Observed;

#[derive(Debug)]
pub struct Reads {
    /// Nothing was read before.
    since: SystemTime,
    /// What each file or directory looked like.
    looks: BTreeMap<PathBuf, Look>,
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Gone,
    Is(Digest),
    /// Whether it was read before or after a change, nobody knows.
    Unknown,
}

impl Reads {
    pub fn from_now() -> Reads {
        Reads {
            since: SystemTime::now(),
            looks: BTreeMap::new(),
        }
    }

    /// Notes what was read up to now. What is known stays as it was when it was read first.
    pub fn note(&mut self, observed: &Observed) {
        for path in observed.files.iter().chain(&observed.directories) {
            if self.looks.contains_key(path) || is_made_up(path) {
                continue;
            }
            let is_sure = !path.exists() || digest::changed(path) + CLOCK_TICK < self.since;
            let look = if is_sure {
                Look::of(path)
            } else {
                Look::Unknown
            };
            self.looks.insert(path.clone(), look);
        }
    }

    /// The first that may not be what was read.
    pub fn changed(&self) -> Option<&Path> {
        let mut looks = self.looks.iter();
        let (path, _) = looks.find(|(path, look)| **look != Look::of(path))?;
        Some(path)
    }
}

impl Look {
    fn of(path: &Path) -> Look {
        digest::appearance(path).map_or(Look::Gone, Look::Is)
    }
}

/// Whether it is no file on a disk, whose times say when it was changed.
fn is_made_up(path: &Path) -> bool {
    let is_special = |found: fs::Metadata| !found.is_file() && !found.is_dir();
    path.starts_with("/proc")
        || path.starts_with("/sys")
        || fs::metadata(path).is_ok_and(is_special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_holds_until_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("old"), "1").unwrap();
        let reads = |since: SystemTime, names: &[&str]| {
            let mut reads = Reads::from_now();
            reads.since = since;
            reads.note(&Observed {
                files: names.iter().map(|name| at(name)).collect(),
                ..Observed::default()
            });
            reads
        };
        let later = SystemTime::now() + CLOCK_TICK * 10;
        let sure = reads(later, &["old", "gone"]);
        assert_eq!(sure.changed(), None);
        fs::write(at("old"), "two").unwrap();
        assert_eq!(sure.changed(), Some(&*at("old")));
        let unsure = reads(SystemTime::UNIX_EPOCH, &["old"]);
        assert_eq!(
            unsure.changed(),
            Some(&*at("old")),
            "it may be the older one"
        );
        let missing = reads(SystemTime::UNIX_EPOCH, &["gone"]);
        assert_eq!(missing.changed(), None);
        fs::write(at("gone"), "").unwrap();
        assert_eq!(missing.changed(), Some(&*at("gone")));
    }
}
