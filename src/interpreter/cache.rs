//! What Pythons said of themselves in earlier runs, and when that still holds: for as long as the file that was
//! asked is the same one, and nothing has changed that its `sys.path` is made of; and for a shim, for as long as it
//! would choose the same Python.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::candidates::Surroundings;
use super::facts::{Facts, PROBE, Wire};
use super::fingerprint;
use crate::digest::{self, Digest};
use crate::kept;

/// What Pythons said of themselves in earlier runs. It saves time and nothing else: a file that
/// cannot be read is an empty one, and one that cannot be written is left alone.
pub(super) struct Cache {
    folder: PathBuf,
    entries: Vec<Entry>,
    is_changed: bool,
}

const FILE: &str = "interpreters.json";

#[derive(Default, Serialize, Deserialize)]
struct CacheFile {
    /// The question that the answers belong to: another release of this program may ask another.
    question: u64,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: Key,
    facts: Facts,
    /// What else the answer depends on, as it looked; a directory looks different when something is put into it.
    rests_on: Vec<(Wire, Option<Digest>)>,
}

/// What makes a file the same Python as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    path: Wire,
    resolved: Wire,
    appearance: Digest,
    /// For a pyenv shim: all that it goes by.
    context: String,
}

impl Key {
    /// `None` where a file's own state does not decide which Python it starts: a script can go by anything.
    pub(super) fn of(executable: &Path, surroundings: &Surroundings) -> Option<Self> {
        let context = surroundings.shim_context(executable);
        if context.is_none() && is_script(executable)? {
            return None;
        }
        Some(Self {
            path: Wire(executable.to_path_buf()),
            resolved: Wire(fs::canonicalize(executable).ok()?),
            appearance: digest::appearance(executable).ok()?,
            context: context.unwrap_or_default(),
        })
    }
}

fn is_script(executable: &Path) -> Option<bool> {
    let mut start = [0; 2];
    fs::File::open(executable)
        .ok()?
        .read_exact(&mut start)
        .ok()?;
    Some(start == *b"#!")
}

impl Cache {
    pub(super) fn open(folder: &Path) -> Self {
        let mut kept: CacheFile = kept::read(folder, FILE);
        if kept.question != fingerprint(PROBE.as_bytes()) {
            kept = CacheFile::default();
        }
        Self {
            folder: folder.to_path_buf(),
            entries: kept.entries,
            is_changed: false,
        }
    }

    /// The interpreter that an entry speaks of has to be there still: behind a shim it is another file.
    pub(super) fn find(&self, key: &Key) -> Option<&Facts> {
        let entry = self.entries.iter().find(|entry| entry.key == *key)?;
        let stands =
            |(path, before): &(Wire, Option<Digest>)| digest::appearance(&path.0).ok() == *before;
        let holds = entry.facts.executable.0.is_file() && entry.rests_on.iter().all(stands);
        holds.then_some(&entry.facts)
    }

    pub(super) fn remember(&mut self, key: Key, facts: Facts) {
        self.entries
            .retain(|entry| entry.key.path != key.path && entry.key.path.0.exists());
        let rests_on = what_path_is_made_of(&facts)
            .into_iter()
            .map(|path| (Wire(path.clone()), digest::appearance(&path).ok()))
            .collect();
        self.entries.push(Entry {
            key,
            facts,
            rests_on,
        });
        self.is_changed = true;
    }

    pub(super) fn save(self) {
        if !self.is_changed {
            return;
        }
        let contents = CacheFile {
            question: fingerprint(PROBE.as_bytes()),
            entries: self.entries,
        };
        kept::write(&self.folder, FILE, &contents);
    }
}

/// What decides on a Python's `sys.path` besides the program: whether it is an environment and of which kind, which
/// directories of packages there are, and what their `.pth` files add.
fn what_path_is_made_of(facts: &Facts) -> BTreeSet<PathBuf> {
    let sites = facts.sites.iter().map(|site| site.0.clone());
    let mut found: BTreeSet<PathBuf> = sites.chain(facts.packages()).collect();
    let is_path_file = |path: &PathBuf| path.extension() == Some(OsStr::new("pth"));
    let entries = found.iter().flat_map(fs::read_dir).flatten().flatten();
    let path_files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(is_path_file)
        .collect();
    found.extend(path_files.iter().flat_map(|file| named_in_vain(file)));
    found.extend(path_files);
    found.insert(facts.prefix.0.join("pyvenv.cfg"));
    found
}

/// What a path file names that is not there, and so not on `sys.path` until it is.
fn named_in_vain(path_file: &Path) -> Vec<PathBuf> {
    let text = fs::read(path_file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim_end);
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with("import "));
    let paths = names.map(|name| path_file.with_file_name(name));
    paths.filter(|path| !path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::facts::PROBE_MARK;
    use crate::interpreter::tests::Fake;

    /// A program that is no script and stays as it is: its answers may be kept.
    fn program(fake: &Fake) -> PathBuf {
        fake.put("bin/program", "\x7fELF")
    }

    #[test]
    fn the_cache_keeps_and_forgets() {
        let fake = Fake::new();
        let folder = fake.root().join("deep/cache");
        let key = || Key::of(&program(&fake), &fake.surroundings()).unwrap();
        let first = key();
        let mut cache = Cache::open(&folder);
        assert_eq!(cache.find(&first), None);
        cache.remember(first.clone(), fake.facts());
        cache.save();
        assert_eq!(Cache::open(&folder).find(&first), Some(&fake.facts()));

        let file = fake.root().join("bin/program");
        let after = |change: &dyn Fn()| {
            change();
            Key::of(&file, &fake.surroundings()).unwrap()
        };
        let touched = after(&|| {
            let program = fs::File::options().write(true).open(&file).unwrap();
            let time = program.metadata().unwrap().modified().unwrap();
            program
                .set_modified(time + std::time::Duration::from_secs(1))
                .unwrap();
        });
        let grown = after(&|| fs::write(&file, "\x7fELF and more").unwrap());
        let replaced = after(&|| fs::rename(fake.put("bin/other", "\x7fELF"), &file).unwrap());
        let linked = Key {
            resolved: Wire(PathBuf::from("/other")),
            ..first.clone()
        };
        let elsewhere = Key {
            context: "3.12".to_owned(),
            ..first.clone()
        };
        for other in [touched, grown, replaced, linked, elsewhere] {
            assert_eq!(Cache::open(&folder).find(&other), None, "{other:?}");
        }
        fs::remove_file(fake.root().join("bin/python")).unwrap();
        assert_eq!(
            Cache::open(&folder).find(&first),
            None,
            "the interpreter is gone"
        );
    }

    #[test]
    fn an_answer_holds_until_the_path_of_its_python_may_be_another() {
        let fake = Fake::new();
        fake.put("site/own.pth", "/one");
        let folder = fake.root().join("cache");
        let key = Key::of(&program(&fake), &fake.surroundings()).unwrap();
        let holds = || Cache::open(&folder).find(&key).is_some();
        let changes: [(&str, &dyn Fn()); 6] = [
            ("an environment", &|| {
                drop(fake.put("pyvenv.cfg", "home = /usr\n"));
            }),
            ("of another kind", &|| {
                drop(fake.put(
                    "pyvenv.cfg",
                    "home = /usr\ninclude-system-site-packages = true",
                ));
            }),
            ("a directory that was not there", &|| {
                fs::create_dir(fake.root().join("more")).unwrap();
            }),
            ("a new path file", &|| {
                drop(fake.put("site/other.pth", "/two"));
            }),
            ("a line in one", &|| {
                drop(fake.put("site/own.pth", "/one\n../three"));
            }),
            ("what it named in vain", &|| {
                fs::create_dir(fake.root().join("three")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let mut cache = Cache::open(&folder);
            cache.remember(key.clone(), fake.facts());
            cache.save();
            assert!(holds(), "before {what}");
            change();
            assert!(!holds(), "{what}");
        }
    }

    #[test]
    fn a_corrupt_cache_is_ignored_and_written_anew() {
        let fake = Fake::new();
        let folder = fake.root().join("cache");
        let key = Key::of(&program(&fake), &fake.surroundings()).unwrap();
        for rubbish in [
            "",
            "{",
            "null",
            r#"{"question": 1, "entries": []}"#,
            r#"{"question": 1, "entries": [{}]}"#,
        ] {
            let file = fake.put("cache/interpreters.json", rubbish);
            let mut cache = Cache::open(&folder);
            assert_eq!(cache.find(&key), None);
            cache.remember(key.clone(), fake.facts());
            cache.save();
            assert_ne!(fs::read_to_string(file).unwrap(), rubbish);
            assert!(Cache::open(&folder).find(&key).is_some());
        }
        let mut left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, [".gitignore", FILE], "nothing temporary is left");
    }

    #[test]
    fn scripts_are_asked_each_time_but_shims_only_when_their_choice_may_differ() {
        let fake = Fake::new();
        let root = fake.root();
        let counting = |name: &str| {
            let answer = fake.answer(&[]);
            fake.script(
                name,
                &format!(
                    "echo x >>{}/starts; echo '{PROBE_MARK}{answer}'",
                    root.display()
                ),
            )
        };
        let starts = || {
            fs::read_to_string(root.join("starts"))
                .unwrap_or_default()
                .lines()
                .count()
        };
        fake.put("pyenv/versions/3.12.9/empty", "");
        let shim = counting("pyenv/shims/python3");
        let pyenv = root.join("pyenv").to_str().unwrap().to_owned();
        let path = shim.parent().unwrap().to_str().unwrap().to_owned();
        let usual = [("PATH", &*path), ("PYENV_ROOT", &*pyenv)];
        let chosen = |env: &[(&str, &str)]| fake.discover("", env).unwrap();
        assert_eq!(chosen(&usual).executable, root.join("bin/python"));
        chosen(&usual);
        assert_eq!(starts(), 1);
        fake.put(".python-version", "3.12.9");
        chosen(&usual);
        chosen(&usual);
        assert_eq!(starts(), 2);
        chosen(&[usual[0], usual[1], ("PYENV_VERSION", "3.12.9")]);
        assert_eq!(starts(), 3);

        let wrapper = counting("wrapper/python3");
        for _ in 0..2 {
            fake.discover(wrapper.to_str().unwrap(), &[]).unwrap();
        }
        assert_eq!(starts(), 5);
    }
}
