//! What is kept of a page, and the form in which it lies on disk.
//!
//! A file is a seal and what it seals. The seal is a keyed hash over the file's own address and its
//! contents: a file that was cut short, damaged, moved to another page's place, or written by somebody
//! without the key (`VERIFY_CACHE_KEY`) is no file at all.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::outcome::{Ending, Outcome};
use crate::protocol::{Protections, raw};
use crate::report::{ExampleResult, Summary};
use crate::verdict::Verdict;

/// A page whose sessions all passed: enough to report it without looking into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Whole {
    /// Of the page's bytes and those of its recording.
    pub(super) text: Digest,
    pub(super) inputs: Vec<Input>,
    pub(super) unchanged: Unchanged,
}

/// What a report needs of a page that was not looked into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unchanged {
    pub summary: Summary,
    pub sessions: usize,
    /// What examples were kept from when they ran.
    pub protections: Option<Protections>,
}

/// The last that is known of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SessionEntry {
    /// The id of its first example, to find it again when its inputs have changed.
    pub(super) name: String,
    pub(super) key: Digest,
    /// What the key is made of, each with words for a person.
    pub(super) parts: Vec<(String, Digest)>,
    pub(super) kept: Kept,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Kept {
    Results {
        inputs: Vec<Input>,
        results: Vec<KeptResult>,
        protections: Option<Protections>,
    },
    /// Why there is nothing.
    Nothing(String),
}

/// Something on disk that a session read, and what it held, or what kept it from being read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Input {
    pub(super) kind: InputKind,
    /// As it was named. A session's working directory is its own, so that can only have been by all of its path.
    #[serde(with = "raw")]
    pub(super) path: PathBuf,
    /// Where it lies in a project, that project's root: a session may read there what it may not elsewhere.
    project: Option<Digest>,
    held: Result<Digest, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum InputKind {
    File,
    Directory,
}

impl Input {
    pub(super) fn of(kind: InputKind, path: &Path, root: &Path) -> Input {
        Input {
            kind,
            path: path.to_owned(),
            project: project_of(path, root),
            held: state(kind, path),
        }
    }

    pub(super) fn is_as_it_was(&self, root: &Path) -> bool {
        project_of(&self.path, root) == self.project && state(self.kind, &self.path) == self.held
    }
}

fn project_of(path: &Path, root: &Path) -> Option<Digest> {
    path.starts_with(root)
        .then(|| Digest::of(root.as_os_str().as_bytes()))
}

fn state(kind: InputKind, path: &Path) -> Result<Digest, String> {
    let held = match kind {
        InputKind::File => expect_end(path).and_then(Digest::of_file),
        InputKind::Directory => listing(path),
    };
    held.map_err(|error| format!("{:?}", error.kind()))
}

/// Of the entries' names, of what they are, and of where links lead.
fn listing(directory: &Path) -> io::Result<Digest> {
    let kind = |kind: fs::FileType| (kind.is_file(), kind.is_dir(), kind.is_symlink());
    let look = |entry: fs::DirEntry| {
        let own = entry.file_type().ok();
        let link = own.filter(fs::FileType::is_symlink).map(|_| {
            let path = entry.path();
            let found = fs::metadata(&path).map(|found| kind(found.file_type()));
            (fs::read_link(&path).ok(), found.ok())
        });
        (entry.file_name(), own.map(kind), link)
    };
    let mut entries: Vec<_> = fs::read_dir(directory)?.flatten().map(look).collect();
    entries.sort();
    Ok(Digest::of_debug(&entries))
}

/// Whoever reads a pipe waits for somebody to write to it, and devices have no end.
fn expect_end(path: &Path) -> io::Result<&Path> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() {
        Ok(path)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// The result of one example of a session that passed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptResult {
    verdict: KeptVerdict,
    outcome: Option<KeptOutcome>,
    traceback: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum KeptVerdict {
    Verified,
    Ran,
    Skipped { reason: String, unmet: bool },
    Illustrative { reason: String },
}

/// An outcome as reports tell it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptOutcome {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ending: Ending,
    duration: Duration,
}

impl KeptResult {
    /// `Err` says why this result makes its session one that always runs.
    pub(super) fn of(result: &ExampleResult<'_>) -> Result<KeptResult, String> {
        let verdict = match &result.verdict {
            Verdict::Verified => KeptVerdict::Verified,
            Verdict::Ran => KeptVerdict::Ran,
            Verdict::Skipped { reason, unmet } => KeptVerdict::Skipped {
                reason: reason.clone(),
                unmet: *unmet,
            },
            Verdict::Illustrative { reason } => KeptVerdict::Illustrative {
                reason: reason.clone(),
            },
            Verdict::Failed(_) | Verdict::Unrecorded | Verdict::Blocked { .. } => {
                return Err(format!(
                    "{} is {}",
                    result.example.id,
                    result.verdict.word()
                ));
            }
        };
        // Such a traceback has lines of the page, which prose moves.
        let names_page = |text: &String| text.contains(&format!("File \"{}\"", result.page.name));
        if result.traceback.as_ref().is_some_and(names_page) {
            return Err(format!(
                "the traceback of {} names lines of the page",
                result.example.id
            ));
        }
        Ok(KeptResult {
            verdict,
            outcome: result.outcome.as_ref().map(|outcome| KeptOutcome {
                stdout: outcome.stdout.clone(),
                stderr: outcome.stderr.clone(),
                ending: outcome.ending.clone(),
                duration: outcome.duration,
            }),
            traceback: result.traceback.clone(),
        })
    }

    pub(super) fn verdict(&self) -> Verdict {
        match &self.verdict {
            KeptVerdict::Verified => Verdict::Verified,
            KeptVerdict::Ran => Verdict::Ran,
            KeptVerdict::Skipped { reason, unmet } => Verdict::Skipped {
                reason: reason.clone(),
                unmet: *unmet,
            },
            KeptVerdict::Illustrative { reason } => Verdict::Illustrative {
                reason: reason.clone(),
            },
        }
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        let kept = self.outcome.as_ref()?;
        Some(Outcome {
            stdout: kept.stdout.clone(),
            stderr: kept.stderr.clone(),
            ending: kept.ending.clone(),
            steps: Vec::new(),
            artifacts: Vec::new(),
            duration: kept.duration,
        })
    }

    pub(super) fn traceback(&self) -> Option<String> {
        self.traceback.clone()
    }
}

/// The key of the seals. Without a secret it still tells damage.
#[derive(Clone)]
pub(super) struct Seal([u8; 32]);

impl Seal {
    pub(super) fn new(secret: &[u8]) -> Seal {
        Seal(blake3::derive_key("verify 2026 cache entries", secret))
    }

    /// What tells its key from others, and says no more of it than any seal does.
    pub(super) fn mark(&self) -> Digest {
        Digest::of(&self.of("the key itself", b""))
    }

    fn of(&self, address: &str, contents: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(address.len() as u64).to_le_bytes());
        hasher.update(address.as_bytes());
        hasher.update(contents);
        *hasher.finalize().as_bytes()
    }
}

/// The contents of a file whose seal is whole.
pub(super) fn read(file: &Path, seal: &Seal, address: &str) -> Option<Vec<u8>> {
    let mut bytes = fs::read(expect_end(file).ok()?).ok()?;
    let (found, contents) = bytes.split_first_chunk::<32>()?;
    // This comparison takes the same time whatever differs.
    if blake3::Hash::from_bytes(*found) != blake3::Hash::from_bytes(seal.of(address, contents)) {
        return None;
    }
    bytes.drain(..32);
    Some(bytes)
}

/// Readers see the old file or the new one.
pub(super) fn write(file: &Path, seal: &Seal, address: &str, contents: &[u8]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut bytes = Vec::with_capacity(32 + contents.len());
    bytes.extend_from_slice(&seal.of(address, contents));
    bytes.extend_from_slice(contents);
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(&bytes)?;
    temporary.persist(file)?;
    Ok(())
}
