//! Results of sessions that passed, kept for as long as nothing changes that they depend on.
//!
//! A page has a file for each *ground*: this program, an interpreter with its packages, the settings, and what else
//! all sessions of a run have in common.
//! In it stands, first, what to report if neither the page nor its recording has changed by a byte; then,
//! for each session, its key and its results. What a session read while it ran is kept with them and
//! looked at again. Failures are never kept, and neither is a session that did something whose sources
//! nobody can tell; of those the reason is kept, for [`Why`].
//!
//! Nothing here can make a check fail: what cannot be read is not there, what cannot be written is run
//! again.

mod entry;
mod ground;
mod key;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::digest::{CLOCK_TICK, Digest, Digester, changed};
use crate::outcome::Outcome;
use crate::protocol::{Observed, Protections};
use crate::report::ExampleResult;
use crate::verdict::Verdict;
use entry::{Input, InputKind, Kept, KeptResult, Seal, SessionEntry, Whole};
use key::Parts;

pub use entry::Unchanged;
pub use ground::Terms;
pub use key::Session;

/// The secret of those whose entries are to be believed; without it, whoever may write the directory.
pub const SECRET_VARIABLE: &str = "VERIFY_CACHE_KEY";

/// Above this the oldest entries go.
const MOST_BYTES: u64 = 256 << 20;
const MOST_GROUNDS: usize = 12;
/// A page's file; what is longer is not worth keeping.
const MOST_OF_A_PAGE: usize = 4 << 20;
/// So many states of a page are remembered, as when branches are switched.
const GENERATIONS: usize = 4;

const NOW: Timestamps = Timestamps {
    last_access: TOUCHED,
    last_modification: TOUCHED,
};
const TOUCHED: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: rustix::fs::UTIME_NOW,
};

const GROUND_FILE: &str = "ground";

/// The kept results that hold for one run.
#[derive(Clone)]
pub struct Cache {
    /// The project's root.
    root: PathBuf,
    /// Of all grounds.
    directory: PathBuf,
    ground: PathBuf,
    seal: Seal,
    parts: Vec<(String, Digest)>,
}

/// Where a project keeps its results.
pub fn directory(state: &Path) -> PathBuf {
    state.join("cache")
}

impl Cache {
    /// Opens what is kept for these terms. `secret` is that of [`SECRET_VARIABLE`].
    pub fn open(terms: &Terms<'_>, secret: &[u8]) -> io::Result<Cache> {
        let directory = directory(&terms.config.cache_directory());
        let seal = Seal::new(secret);
        let mut files = ground::Files::open(&directory, seal.clone());
        let parts = ground::parts(terms, &mut files)?;
        files.save();
        let mut digester = Digester::default();
        for (_, digest) in &parts {
            digester.add(digest.bytes());
        }
        Ok(Cache {
            root: terms.config.root.clone(),
            ground: directory.join(digester.finish().short()),
            directory,
            seal,
            parts,
        })
    }

    /// What to report of a page, if that is known without looking into it. `text` is of
    /// [`Cache::text_of`].
    pub fn unchanged(&self, page: &str, text: Digest) -> Option<Unchanged> {
        let bytes = self.read(page)?;
        let (wholes, _): (Vec<Whole>, _) = postcard::take_from_bytes(&bytes).ok()?;
        let whole = wholes.into_iter().find(|whole| whole.text == text)?;
        self.hold(&whole.inputs).then_some(whole.unchanged)
    }

    /// A page's bytes and those of its recording.
    pub fn text_of(page: &[u8], recording: Option<&[u8]>) -> Digest {
        let mut digester = Digester::default().with(page);
        if let Some(recording) = recording {
            digester.add(recording);
        }
        digester.finish()
    }

    /// What is kept of a page.
    pub fn page(&self, page: &str) -> Known {
        let decode = |bytes: Vec<u8>| {
            let (wholes, rest) = postcard::take_from_bytes(&bytes).ok()?;
            let sessions = postcard::from_bytes(rest).ok()?;
            Some(Known { wholes, sessions })
        };
        self.read(page).and_then(decode).unwrap_or_default()
    }

    /// The results of a session's first `count` examples, or why it has to run.
    pub fn find(&self, known: &Known, session: &Session<'_>, count: usize) -> Found {
        let parts = Parts::of(session);
        let keys = [session.examples.len(), count].map(|count| parts.key(count));
        let entry_of = |key: &Digest| known.sessions.iter().find(|entry| entry.key == *key);
        let mut why = None;
        for entry in keys.iter().filter_map(entry_of) {
            let reason = match &entry.kept {
                Kept::Results {
                    inputs,
                    results,
                    protections,
                } => match inputs.iter().find(|input| !input.is_as_it_was(&self.root)) {
                    None => {
                        return Found {
                            results: Some((results.clone(), protections.clone())),
                            why: Why::Unchanged,
                            key: keys[0],
                            parts: parts.up_to(count).to_vec(),
                        };
                    }
                    Some(input) => {
                        let name = input.path.strip_prefix(&self.root).unwrap_or(&input.path);
                        Why::Changed(vec![format!("`{}`", name.display())])
                    }
                },
                Kept::Nothing(reason) => Why::NeverKept(reason.clone()),
            };
            why.get_or_insert(reason);
        }
        Found {
            results: None,
            why: why.unwrap_or_else(|| self.why_not(known, session, &parts, count)),
            key: parts.key(count),
            parts: parts.up_to(count).to_vec(),
        }
    }

    fn why_not(&self, known: &Known, session: &Session<'_>, parts: &Parts, count: usize) -> Why {
        let name = session_name(session);
        let Some(before) = known.sessions.iter().find(|entry| entry.name == name) else {
            let others = self.changed_ground(&session.page.key);
            return if known.sessions.is_empty() && !others.is_empty() {
                Why::Changed(others)
            } else {
                Why::New
            };
        };
        let now = parts.up_to(count);
        let differs = |(name, digest): &&(String, Digest)| {
            !before
                .parts
                .iter()
                .any(|(other, before)| other == name && before == digest)
        };
        let mut changed: Vec<String> = now
            .iter()
            .filter(differs)
            .map(|(name, _)| name.clone())
            .collect();
        if changed.is_empty() {
            changed.push("the number or order of its examples".to_owned());
        }
        Why::Changed(changed)
    }

    /// In which parts this ground differs from the last other one on which a page was known.
    fn changed_ground(&self, page: &str) -> Vec<String> {
        let name = file_name(page);
        let mut others = self.grounds();
        others.retain(|(_, ground)| *ground != self.ground && ground.join(&name).exists());
        let Some((_, latest)) = others.last() else {
            return Vec::new();
        };
        // What another key has sealed is nothing to compare with.
        let Some(before) = entry::read(&latest.join(GROUND_FILE), &self.seal, GROUND_FILE)
            .and_then(|bytes| postcard::from_bytes::<Vec<(String, Digest)>>(&bytes).ok())
        else {
            return Vec::new();
        };
        self.parts
            .iter()
            .filter(|part| !before.contains(part))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Keeps what sessions of a page did; `whole`, if all of its sessions have passed.
    pub fn keep(&self, page: &str, whole: Option<WholePage>, ran: Vec<Ran>) {
        let mut known = self.page(page);
        let mut sessions: Vec<SessionEntry> = ran.into_iter().map(|ran| ran.0).collect();
        let fresh = sessions.len();
        for entry in known.sessions {
            let others = sessions.iter().filter(|other| other.name == entry.name);
            let is_new = !sessions.iter().any(|other| other.key == entry.key);
            let whole = whole.as_ref();
            let is_of_now = whole.is_some_and(|whole| whole.sessions.contains(&entry.key));
            if is_new && (is_of_now || others.count() < GENERATIONS) {
                sessions.push(entry);
            }
        }
        if let Some(whole) = whole {
            known.wholes.retain(|other| other.text != whole.text);
            // Another run may have taken away what one of its sessions depends on.
            if let Some(inputs) = known_inputs(&sessions, &whole.sessions) {
                let whole = Whole {
                    text: whole.text,
                    inputs,
                    unchanged: whole.unchanged,
                };
                known.wholes.insert(0, whole);
                known.wholes.truncate(GENERATIONS);
            }
        }
        let encode = |sessions: &[SessionEntry]| {
            let mut bytes = postcard::to_stdvec(&known.wholes).ok()?;
            bytes.extend(postcard::to_stdvec(sessions).ok()?);
            Some(bytes)
        };
        let fits = |bytes: &Vec<u8>| bytes.len() <= MOST_OF_A_PAGE;
        // Where there is no room for what was, there may be for what is.
        let all = encode(&sessions).filter(fits);
        if let Some(bytes) = all.or_else(|| encode(&sessions[..fresh]).filter(fits)) {
            let _ = entry::write(&self.file(page), &self.seal, &self.address(page), &bytes);
        }
    }

    /// Marks this ground as the latest, and makes room. To be called once after a run.
    pub fn tidy(&self, has_written: bool) {
        let mark = self.ground.join(GROUND_FILE);
        // Not opened: somebody may have put a pipe there.
        let touched = rustix::fs::utimensat(CWD, &mark, &NOW, AtFlags::empty());
        if touched.is_err()
            && let Ok(bytes) = postcard::to_stdvec(&self.parts)
        {
            let _ = entry::write(&mark, &self.seal, GROUND_FILE, &bytes);
        }
        if has_written {
            make_room(&self.ground, self.grounds(), MOST_BYTES);
        }
    }

    /// All grounds, the latest used last.
    fn grounds(&self) -> Vec<(SystemTime, PathBuf)> {
        let mut grounds: Vec<_> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .map(|path| (modified(&path.join(GROUND_FILE)), path))
            .collect();
        grounds.sort();
        grounds
    }

    fn hold(&self, inputs: &[Input]) -> bool {
        inputs.iter().all(|input| input.is_as_it_was(&self.root))
    }

    fn read(&self, page: &str) -> Option<Vec<u8>> {
        entry::read(&self.file(page), &self.seal, &self.address(page))
    }

    fn file(&self, page: &str) -> PathBuf {
        self.ground.join(file_name(page))
    }

    /// Ties an entry to its place.
    fn address(&self, page: &str) -> String {
        let ground = self.ground.file_name().unwrap_or_default();
        format!("{} {page}", ground.to_string_lossy())
    }
}

fn file_name(page: &str) -> String {
    Digest::of(page.as_bytes()).short()
}

/// Removes the oldest grounds, then the oldest pages of this one, until the rest is small enough.
fn make_room(own: &Path, grounds: Vec<(SystemTime, PathBuf)>, most: u64) {
    let files = |ground: &Path| -> Vec<(SystemTime, u64, PathBuf)> {
        let entries = fs::read_dir(ground).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let found = entry.metadata().ok()?;
                Some((found.modified().ok()?, found.len(), entry.path()))
            })
            .collect()
    };
    let mut total = 0;
    for (number, (_, ground)) in grounds.into_iter().rev().enumerate() {
        let mut files = files(&ground);
        let size: u64 = files.iter().map(|(_, size, _)| size).sum();
        if ground == own {
            files.sort();
            total += size;
            for (_, size, file) in files {
                if total <= most {
                    break;
                }
                let _ = fs::remove_file(file);
                total -= size;
            }
        } else if number >= MOST_GROUNDS || total + size > most {
            let _ = fs::remove_dir_all(ground);
        } else {
            total += size;
        }
    }
}

fn modified(file: &Path) -> SystemTime {
    fs::metadata(file)
        .and_then(|found| found.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What all of these depend on; `None` if the results of one are not kept.
fn known_inputs(sessions: &[SessionEntry], keys: &[Digest]) -> Option<Vec<Input>> {
    let mut all: Vec<Input> = Vec::new();
    for key in keys {
        let entry = sessions.iter().find(|entry| entry.key == *key)?;
        let Kept::Results { inputs, .. } = &entry.kept else {
            return None;
        };
        for input in inputs {
            if !all.contains(input) {
                all.push(input.clone());
            }
        }
    }
    Some(all)
}

fn session_name(session: &Session<'_>) -> String {
    let first = session.examples.first();
    first.map_or_else(String::new, |&first| {
        session.page.examples[first].id.clone()
    })
}

/// What is kept of one page.
#[derive(Default)]
pub struct Known {
    wholes: Vec<Whole>,
    sessions: Vec<SessionEntry>,
}

/// What looking for a session's results gave.
pub struct Found {
    results: Option<(Vec<KeptResult>, Option<Protections>)>,
    pub why: Why,
    key: Digest,
    parts: Vec<(String, Digest)>,
}

/// A page of which everything has passed.
#[derive(Debug)]
pub struct WholePage {
    /// From [`Cache::text_of`].
    pub text: Digest,
    /// Keys of its sessions.
    pub sessions: Vec<Digest>,
    pub unchanged: Unchanged,
}

/// What a session that ran leaves to be kept.
pub struct Ran(SessionEntry);

/// What one kept result says: the verdict, the outcome, the traceback.
pub type Result = (Verdict, Option<Outcome>, Option<String>);

impl Found {
    /// The kept results, one for each example that is no file.
    pub fn results(&self) -> Option<impl Iterator<Item = Result>> {
        let (results, _) = self.results.as_ref()?;
        let unpack = |kept: &KeptResult| (kept.verdict(), kept.outcome(), kept.traceback());
        Some(results.iter().map(unpack))
    }

    pub fn is_kept(&self) -> bool {
        self.results.is_some()
    }

    /// What the examples were kept from when they ran.
    pub fn protections(&self) -> Option<&Protections> {
        self.results.as_ref()?.1.as_ref()
    }

    pub fn key(&self) -> Digest {
        self.key
    }

    /// What is to be kept of the session now that it has run. `watched` is what it read, or why that is
    /// not known; nothing of it was read before `started`.
    pub fn ran(
        &self,
        cache: &Cache,
        session: &Session<'_>,
        results: &[ExampleResult<'_>],
        watched: &std::result::Result<Observed, String>,
        protections: Option<&Protections>,
        started: SystemTime,
    ) -> Ran {
        let kept = || -> std::result::Result<Kept, String> {
            let results = results.iter().map(KeptResult::of);
            let results = results.collect::<std::result::Result<_, String>>()?;
            let watched = watched.as_ref().map_err(Clone::clone)?;
            if let Some(beyond) = &watched.beyond {
                return Err(beyond.clone());
            }
            let files = watched.files.iter().map(|path| (InputKind::File, path));
            let directories = watched.directories.iter();
            let directories = directories.map(|path| (InputKind::Directory, path));
            let mut inputs = Vec::new();
            for (kind, path) in files.chain(directories) {
                // Whether it was read before or after the change, nobody knows.
                if changed(path) + CLOCK_TICK >= started {
                    return Err(format!("`{}` was changed while it ran", path.display()));
                }
                inputs.push(Input::of(kind, path, &cache.root));
            }
            Ok(Kept::Results {
                inputs,
                results,
                protections: protections.cloned(),
            })
        };
        Ran(SessionEntry {
            name: session_name(session),
            key: self.key,
            parts: self.parts.clone(),
            kept: kept().unwrap_or_else(Kept::Nothing),
        })
    }
}

impl Ran {
    pub fn is_kept(&self) -> bool {
        matches!(self.0.kept, Kept::Results { .. })
    }
}

/// Why a session ran, or did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its results were kept, and nothing has changed since.
    Unchanged,
    /// Nothing is known of it.
    New,
    /// These of its inputs are others than last time.
    Changed(Vec<String>),
    /// Its results are not kept, for this reason.
    NeverKept(String),
    /// None of its examples is one that runs here.
    Idle,
    /// `--no-cache`, or there is no place to keep anything.
    NotAsked,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Unchanged => out.write_str("from the cache: nothing it depends on has changed"),
            Why::New => out.write_str("ran: it has not run here before"),
            Why::Changed(what) => write!(out, "ran: changed since: {}", what.join(", ")),
            Why::NeverKept(reason) => write!(out, "ran: its last results were not kept: {reason}"),
            Why::Idle => out.write_str("did not run: none of its examples runs here"),
            Why::NotAsked => out.write_str("ran: no cache is used"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file(path: &Path, size: usize, age: u64) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; size]).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    #[test]
    fn no_time_that_somebody_sets_hides_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let before = SystemTime::now() - CLOCK_TICK;
        file(&at("elsewhere"), 1, 10_000);
        fs::rename(at("elsewhere"), at("moved")).unwrap();
        fs::create_dir_all(at("gone/with")).unwrap();
        fs::remove_dir_all(at("gone")).unwrap();
        for name in ["moved", "elsewhere", "gone/with/it"] {
            assert!(changed(&at(name)) >= before, "{name}");
        }
        file(&at("future"), 1, 0);
        let later = SystemTime::now() + Duration::from_secs(10_000);
        let future = fs::File::options().write(true).open(at("future")).unwrap();
        future.set_modified(later).unwrap();
        assert!(changed(&at("future")) <= SystemTime::now() + CLOCK_TICK);
    }

    #[test]
    fn the_oldest_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let ages = [("old", 300), ("middle", 200), ("own", 100)];
        let grounds = || {
            ages.map(|(name, age)| {
                (
                    SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age),
                    at(name),
                )
            })
            .to_vec()
        };
        for (name, _) in ages {
            file(&at(name).join("page"), 100, 10);
            file(&at(name).join("older"), 100, 20);
        }
        make_room(&at("own"), grounds(), 450);
        assert!(!at("old").exists());
        assert!(at("middle/older").exists() && at("own/older").exists());
        make_room(&at("own"), grounds(), 150);
        assert!(!at("middle").exists() && !at("own/older").exists() && at("own/page").exists());
    }

    #[test]
    fn what_is_damaged_moved_or_foreign_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("entry");
        let seal = Seal::new(b"secret");
        entry::write(&file, &seal, "a page", b"contents").unwrap();
        let read = |seal: &Seal, address: &str| entry::read(&file, seal, address);
        assert_eq!(
            read(&seal, "a page").as_deref(),
            Some(b"contents".as_slice())
        );
        assert_eq!(read(&seal, "another page"), None);
        assert_eq!(read(&Seal::new(b"guess"), "a page"), None);
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(read(&seal, "a page"), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(&file, &broken).unwrap();
            assert_eq!(read(&seal, "a page"), None, "byte {at}");
        }
    }

    #[test]
    fn an_input_is_what_it_held() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let input = |kind, name: &str| Input::of(kind, &root.join(name), root);
        fs::write(root.join("data"), "1").unwrap();
        let file = input(InputKind::File, "data");
        let gone = input(InputKind::File, "gone");
        let folder = input(InputKind::Directory, "");
        let hold = || [&file, &gone, &folder].map(|input| input.is_as_it_was(root));
        assert_eq!(hold(), [true, true, true]);
        fs::write(root.join("data"), "2").unwrap();
        assert_eq!(hold(), [false, true, true]);
        fs::write(root.join("gone"), "").unwrap();
        assert_eq!(hold(), [false, false, false]);
    }

    #[test]
    fn an_input_within_a_project_holds_for_that_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let [one, other] = ["one", "other"].map(|name| root.join(name));
        let input = |place: &Path| Input::of(InputKind::File, &place.join("data"), &one);
        let hold = |input: &Input| [&one, &other, root].map(|root| input.is_as_it_was(root));
        assert_eq!(hold(&input(&one)), [true, false, false]);
        assert_eq!(hold(&input(&other)), [true, false, false]);
        assert_eq!(hold(&input(Path::new("/nowhere"))), [true, true, true]);
    }
}
