//! The recording end of the pipeline: what a run found → proof that it is stable → files.
//!
//! An output is written only after several runs under other [`crate::conditions`] have given it again. What
//! varies is refused with its cause and the way out. Nothing is written before everything is known, and
//! every file is replaced whole.
//!
//! | module | holds |
//! |---|---|
//! | [`refute`] | why another run forbids recording something |
//! | [`edits`] | what changes in an example's own blocks |
//! | [`write`] | from a draft to files |
//! | [`files`] | files replaced, removed, and whose nobody is |

mod edits;
mod files;
mod refute;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use pep440_rs::Version;

use crate::book::{self, At, Book, Page};
use crate::check::{self, Recordings, Results, SessionPlan};
use crate::compare;
use crate::conditions::Conditions;
use crate::config::Config;
use crate::diagnose::Reason;
use crate::interpreter::Interpreter;
use crate::normalize;
use crate::outcome::Outcome;
use crate::proof::{self, Proof};
use crate::recording::{self, Expected, Observed, Recorded, Recording};
use crate::report::{ExampleResult, PageResult};
use crate::rewrite::Edit;
use crate::verdict::{Failure, StepFailure, Verdict};

use edits::{block_edits, is_recorded, says_what_happened, unable, with_edits};
use refute::{names_machine, refuted};

pub use files::orphaned_files;
pub use write::{Kept, PassedOver, Written};

/// What recording would do, gathered over all interpreters before anything is written.
#[derive(Debug)]
pub struct Draft {
    pub recordings: Recordings,
    /// Of pages that are gone, by their files.
    orphaned: BTreeMap<PathBuf, Recording>,
    /// Edits inside blocks, by page and position: bytes of the page and what replaces them.
    edits: BTreeMap<At, Vec<Edit>>,
    /// Examples that ran, and whether what they did can stand on each interpreter that has run them: a block of output
    /// below one has to show it.
    ran: HashMap<At, bool>,
    /// The versions on which what they did can stand.
    stands_on: HashMap<At, Vec<Version>>,
    /// Files that examples made, by page and the path to keep them at.
    artifacts: BTreeMap<(usize, PathBuf), Vec<u8>>,
    pub refused: Vec<Refusal>,
    /// Examples whose recording is new or another.
    pub changed: HashSet<At>,
    /// Examples that have their wildcards from an entry that no example meets any more.
    pub heirs: BTreeMap<At, Entry>,
}

/// Where an entry of a recording stands: its file, and the example that it is for.
pub type Entry = (PathBuf, String);

/// An entry that its own example does not meet any more, with its file.
type Left<'d> = (&'d PathBuf, &'d Recorded);

/// What is recorded, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Recorder<'a> {
    pub book: &'a Book,
    pub config: &'a Config,
    pub interpreter: &'a Interpreter,
    /// Whether this interpreter's version is the one that recordings have their base from.
    pub is_base: bool,
    /// Refuse as well what depends on the reader's time zone, terminal or locale.
    pub portable: bool,
}

/// An output that must not be recorded.
#[derive(Debug)]
pub struct Refusal {
    pub at: At,
    pub reason: Reason,
}

impl Draft {
    /// `orphaned` are files of recordings whose pages are gone.
    pub fn new(recordings: Recordings, orphaned: Vec<PathBuf>) -> Draft {
        let read = |file: PathBuf| {
            let text = fs::read_to_string(&file).ok()?;
            Some((file, recording::parse(&text).ok()?))
        };
        Draft {
            recordings,
            orphaned: orphaned.into_iter().filter_map(read).collect(),
            edits: BTreeMap::new(),
            ran: HashMap::new(),
            stands_on: HashMap::new(),
            artifacts: BTreeMap::new(),
            refused: Vec::new(),
            changed: HashSet::new(),
            heirs: BTreeMap::new(),
        }
    }

    /// Takes in what one interpreter did. `again` runs sessions once more, and is called only if there is
    /// something to prove.
    pub fn take(
        &mut self,
        run: &Recorder<'_>,
        plans: &[SessionPlan],
        results: &Results<'_>,
        again: &mut proof::Again<'_>,
    ) -> Result<()> {
        let book = run.book;
        let mut candidates = self.candidates(run, results);
        self.refuse_second_opinions(run, &mut candidates);
        self.settle(run, results);
        if candidates.is_empty() {
            return Ok(());
        }
        let mut refused: BTreeMap<At, Reason> = BTreeMap::new();
        let differs = |at: At, proof: &Proof| {
            refuted(
                &book.pages[at.0],
                at.1,
                &candidates[&at],
                proof.examples.get(&at),
            )
        };
        for number in 1..run.config.proof_runs {
            let is_open = |at: &At| !refused.contains_key(at);
            let open: BTreeSet<At> = candidates.keys().copied().filter(is_open).collect();
            let conditions = Conditions::all(number, run.portable);
            let proof = again(&proof::sessions_of(plans, &open), &conditions)?;
            refused.extend(proof::causes(
                proof::suspects(&open, &proof, &differs),
                &proof,
                plans,
                &conditions,
                &results.span,
                again,
                &differs,
            )?);
        }
        self.refuse_to_forget(book, &mut candidates, &refused);
        for ((page_number, position), candidate) in candidates {
            let page = &book.pages[page_number];
            let example = &page.examples[position];
            let at = (page_number, position);
            let named = || names_machine(page, position, &candidate);
            let reason = refused.remove(&at).or_else(named).or_else(|| {
                let edits = candidate.edits.as_ref()?;
                let said = with_edits(run.config, page, position, edits, &candidate);
                (!says_what_happened(edits, said.as_ref())).then(|| unable(said))
            });
            if let Some(reason) = reason {
                self.refuse(at, reason);
                continue;
            }
            self.changed.insert(at);
            self.heirs
                .extend(candidate.inherits.map(|entry| (at, entry)));
            if let Some(edits) = candidate.edits {
                self.edits.insert(at, edits);
            }
            match candidate.recorded {
                Some(recorded) => self.put(page_number, page, recorded),
                None if is_recorded(page, example) => {}
                // An older recording of it would go on to be compared.
                None => self.recordings[page_number]
                    .examples
                    .retain(|recorded| recorded.id != example.id),
            }
            if let Some(recording) = &page.recording {
                for (name, bytes) in &candidate.outcome.artifacts {
                    if let Some(bytes) = bytes {
                        let path = book::artifact_path(recording, name);
                        self.artifacts.insert((page_number, path), bytes.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// What an earlier interpreter of this run has settled stays: what would change what is expected there is refused.
    fn refuse_second_opinions(
        &mut self,
        run: &Recorder<'_>,
        candidates: &mut BTreeMap<At, Candidate>,
    ) {
        candidates.retain(|at, candidate| {
            if let Some((earlier, what)) = self.contradicted(run.book, *at, candidate) {
                let reason = format!(
                    "{what} on `{}` than on a Python {earlier} before, which has the same recording: make it the same, or record with one of them",
                    run.interpreter.executable.display()
                );
                self.refuse(*at, Reason::FailedAgain(reason));
                return false;
            }
            if candidate.edits.is_none() || !self.ran.contains_key(at) {
                return true;
            }
            // A block holds one output.
            if self.edits.get(at) != candidate.edits.as_ref() {
                let reason = format!(
                    "it prints something else on Python {} than on the version before; this kind of block holds one output: limit it with `python=`",
                    run.interpreter.full_version
                );
                self.refuse(*at, Reason::FailedAgain(reason));
                return false;
            }
            candidate.edits = None;
            candidate.recorded.is_some()
        });
    }

    /// An earlier version whose expectation a candidate would change, and what would be another.
    fn contradicted(
        &self,
        book: &Book,
        at: At,
        candidate: &Candidate,
    ) -> Option<(&Version, String)> {
        let (new, earlier) = (candidate.recorded.as_ref()?, self.stands_on.get(&at)?);
        if let Some(old) = self.recordings[at.0].entry(&new.id) {
            let mut earlier = earlier.iter();
            let is_contradicted =
                |version: &&Version| new.expected_for(version) != old.expected_for(version);
            if let Some(version) = earlier.find(is_contradicted) {
                return Some((version, "it does something else".to_owned()));
            }
        }
        let recording = book.pages[at.0].recording.as_ref()?;
        let is_another = |(name, bytes): &&(String, Option<Vec<u8>>)| {
            let path = book::artifact_path(recording, name);
            let kept = match self.artifacts.get(&(at.0, path.clone())) {
                Some(kept) => Some(kept.clone()),
                None => fs::read(path).ok(),
            };
            let both = kept.zip(bytes.as_ref());
            both.is_some_and(|(kept, bytes)| {
                compare::artifact_matches(name, &kept, bytes).is_some()
            })
        };
        let (name, _) = candidate.outcome.artifacts.iter().find(is_another)?;
        Some((earlier.last()?, format!("its file `{name}` is another")))
    }

    /// Wildcards that an example does not meet any more may be those of another one of its page that is refused for
    /// the lack of them: ids move with what is written above.
    fn refuse_to_forget(
        &mut self,
        book: &Book,
        candidates: &mut BTreeMap<At, Candidate>,
        refused: &BTreeMap<At, Reason>,
    ) {
        candidates.retain(|at, candidate| {
            let Some(new) = &candidate.recorded else {
                return true;
            };
            let old = self.recordings[at.0].entry(&new.id);
            let forgets = old.is_some_and(Recorded::has_wildcards)
                && !new.has_wildcards()
                && !refused.contains_key(at);
            let Some(other) = refused.keys().find(|other| other.0 == at.0).filter(|_| forgets) else {
                return true;
            };
            let other = &book.pages[other.0].examples[other.1].id;
            let reason = format!(
                "its recording has wildcards, which may be those of `{other}`: settle that example first, or remove them from the recording"
            );
            self.refuse(*at, Reason::FailedAgain(reason));
            false
        });
    }

    fn settle(&mut self, run: &Recorder<'_>, results: &Results<'_>) {
        let all = results.pages.iter().flat_map(|page| &page.examples);
        for result in all.filter(|result| result.outcome.is_some()) {
            let can_stand = may_be_recorded(&result.verdict);
            *self.ran.entry(result.at).or_insert(true) &= can_stand;
            if can_stand {
                let versions = self.stands_on.entry(result.at).or_default();
                versions.push(check::version(run.interpreter));
            }
        }
    }

    fn refuse(&mut self, at: At, reason: Reason) {
        self.ran.insert(at, false);
        self.refused.push(Refusal { at, reason });
    }

    /// Whether an example of this page is refused.
    fn has_refused(&self, number: usize) -> bool {
        self.refused.iter().any(|refusal| refusal.at.0 == number)
    }

    /// Whether an example has taken over this entry's wildcards.
    fn is_inherited(&self, file: &Path, id: &str) -> bool {
        let mut entries = self.heirs.values();
        entries.any(|(of, entry)| of == file && entry == id)
    }

    /// Examples that are as they should be but for what is expected of them, with what would be expected.
    fn candidates(&self, run: &Recorder<'_>, results: &Results<'_>) -> BTreeMap<At, Candidate> {
        let mut candidates = BTreeMap::new();
        let mut orphaned = Vec::new();
        for (file, recording) in &self.orphaned {
            orphaned.extend(recording.examples.iter().map(|entry| (file, entry)));
        }
        for page_result in &results.pages {
            let page = page_result.page;
            let mut ownerless =
                self.ownerless(page_result, results, &check::version(run.interpreter));
            for result in &page_result.examples {
                let Some(outcome) = &result.outcome else {
                    continue;
                };
                if !may_be_recorded(&result.verdict) {
                    continue;
                }
                let example = result.example;
                let context = &results.contexts[&result.at];
                let news = is_recorded(page, example)
                    .then(|| {
                        let left = [&mut ownerless, &mut orphaned];
                        self.news(run, result, outcome, context, left)
                    })
                    .flatten();
                let (recorded, inherits) =
                    news.map_or((None, None), |(new, from)| (Some(new), from));
                let edits = block_edits(page, example, outcome, &result.verdict, run.config);
                if recorded.is_some() || edits.is_some() {
                    let candidate = Candidate {
                        recorded,
                        edits,
                        inherits,
                        outcome: outcome.clone(),
                        context: normalize::Context::clone(context),
                    };
                    candidates.insert(result.at, candidate);
                }
            }
        }
        candidates
    }

    /// Entries of a page's recording that their own examples do not meet any more, or that have none.
    fn ownerless<'d>(
        &'d self,
        page: &PageResult<'d>,
        results: &Results<'_>,
        version: &Version,
    ) -> Vec<Left<'d>> {
        let Some(file) = &page.page.recording else {
            return Vec::new();
        };
        let has_left = |entry: &&Recorded| {
            if !page
                .page
                .examples
                .iter()
                .any(|example| example.id == entry.id)
            {
                return true;
            }
            let own = page
                .examples
                .iter()
                .find(|result| result.example.id == entry.id);
            own.is_some_and(|own| {
                let outcome = own.outcome.as_ref();
                let outcome = outcome.filter(|_| may_be_recorded(&own.verdict));
                outcome.is_some_and(|outcome| {
                    !meets(own, outcome, &results.contexts[&own.at], entry, version)
                })
            })
        };
        let entries = self.recordings[page.number].examples.iter();
        entries
            .filter(has_left)
            .map(|entry| (file, entry))
            .collect()
    }

    /// What the recording is to say of an example, if that is not what it says; and the entry whose wildcards it takes
    /// over, one of those that are `left` over.
    fn news<'d>(
        &'d self,
        run: &Recorder<'_>,
        result: &ExampleResult<'_>,
        outcome: &Outcome,
        context: &normalize::Context,
        left: [&mut Vec<Left<'d>>; 2],
    ) -> Option<(Recorded, Option<Entry>)> {
        let (page, example) = (result.page, result.example);
        let version = check::version(run.interpreter);
        let observed = compare::observed(outcome, &example.attributes.normalize, context);
        let own = self.recordings[result.at.0].entry(&example.id);
        let meets = |entry: &Recorded| meets(result, outcome, context, entry, &version);
        let mut inherited = None;
        if !own.is_some_and(meets) {
            let is_for_this =
                |(_, entry): &Left<'_>| is_telling(&entry.expected_for(&version)) && meets(entry);
            for left in left {
                if inherited.is_none()
                    && let Some(place) = left.iter().position(is_for_this)
                {
                    inherited = Some(left.remove(place));
                }
            }
        }
        let new = recording::update(
            inherited.map(|(_, entry)| entry).or(own),
            &Observed {
                id: &example.id,
                normalize: &example.attributes.normalize,
                unordered: example.attributes.unordered,
                expected: &observed,
                version: &version,
                is_base: run.is_base,
            },
        );
        let artifacts_changed = outcome.artifacts.iter().any(|(name, bytes)| {
            let kept = page
                .recording
                .as_ref()
                .map(|file| book::artifact_path(file, name));
            kept.and_then(|path| fs::read(path).ok()).as_ref() != bytes.as_ref()
        });
        let inherits = inherited.map(|(file, entry)| (file.clone(), entry.id.clone()));
        (own != Some(&new) || artifacts_changed).then_some((new, inherits))
    }

    fn put(&mut self, number: usize, page: &Page, recorded: Recorded) {
        let recording = &mut self.recordings[number];
        match recording
            .examples
            .iter_mut()
            .find(|old| old.id == recorded.id)
        {
            Some(old) => *old = recorded,
            None => recording.examples.push(recorded),
        }
        let order: HashMap<&str, usize> = page
            .examples
            .iter()
            .enumerate()
            .map(|(at, example)| (example.id.as_str(), at))
            .collect();
        recording.examples.sort_by_key(|recorded| {
            order
                .get(recorded.id.as_str())
                .copied()
                .unwrap_or(usize::MAX)
        });
    }
}

struct Candidate {
    /// What the recording is to say.
    recorded: Option<Recorded>,
    /// What corrects the example's own block and, where nothing is recorded, the block of output below it; none if
    /// nothing can. `None` where they are right.
    edits: Option<Vec<Edit>>,
    /// The entry of another example, or of this one before it moved, whose wildcards it takes over.
    inherits: Option<Entry>,
    outcome: Outcome,
    context: normalize::Context,
}

/// Whether an entry, its own or another's, says what an example did.
fn meets(
    result: &ExampleResult<'_>,
    outcome: &Outcome,
    context: &normalize::Context,
    entry: &Recorded,
    version: &Version,
) -> bool {
    let options = compare::Options {
        rules: &result.example.attributes.normalize,
        unordered: result.example.attributes.unordered,
        context,
    };
    compare::compare(outcome, &entry.expected_for(version), &options).is_empty()
}

/// Whether an expectation with wildcards says enough to tell whose it is: alone they meet everything.
fn is_telling(expected: &Expected) -> bool {
    let exception = expected.exception.as_deref().unwrap_or_default();
    let said = compare::lossy(&expected.stdout) + &compare::lossy(&expected.stderr) + exception;
    expected.has_wildcards() && said.contains(char::is_alphabetic)
}

/// A missing or another output can be recorded; an example that did not end as announced can't.
pub fn may_be_recorded(verdict: &Verdict) -> bool {
    if let Verdict::Failed(Failure::Steps(steps)) = verdict
        && !steps.iter().all(StepFailure::may_be_recorded)
    {
        return false;
    }
    matches!(
        verdict,
        Verdict::Verified
            | Verdict::Ran
            | Verdict::Unrecorded
            | Verdict::Failed(
                Failure::Differs(_) | Failure::Steps(_) | Failure::PageOutdated { .. }
            )
    )
}

/// Entries of recordings that no example of their page has.
pub fn orphaned_entries(page: &Page, recording: &Recording) -> Vec<String> {
    recording
        .examples
        .iter()
        .filter(|recorded| {
            !page
                .examples
                .iter()
                .any(|example| example.id == recorded.id)
        })
        .map(|recorded| recorded.id.clone())
        .collect()
}
