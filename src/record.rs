//! The recording end of the pipeline: what a run found → proof that it is stable → files.
//!
//! An output is written only after several runs under other [`crate::conditions`] have given it again. What
//! varies is refused with its cause and the way out. Nothing is written before everything is known, and
//! every file is replaced whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::{self, fs::MetadataExt as _, fs::PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use pep440_rs::Version;

use crate::book::{self, At, Book, Page};
use crate::check::{self, Recordings, Results, SessionPlan};
use crate::compare;
use crate::conditions::Conditions;
use crate::config::{Config, Output};
use crate::diagnose::Reason;
use crate::example::{self, Example, Kind};
use crate::interpreter::Interpreter;
use crate::matching::Matching;
use crate::normalize::{self, float_digits};
use crate::outcome::{Ending, Outcome};
use crate::proof::{self, Proof, Seen};
use crate::recording::{self, Expected, Observed, Recorded, Recording};
use crate::report::{ExampleResult, PageResult};
use crate::rewrite::{self, Edit};
use crate::verdict::{self, Failure, StepFailure, Terms, Verdict};

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

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    pub recordings: usize,
    pub pages: usize,
    /// Files that examples made, and that are kept beside the recordings.
    pub files: usize,
    /// Pages that are left alone, and their recordings with them.
    pub passed_over: Vec<(String, PassedOver)>,
    pub removed: Vec<PathBuf>,
    /// Recordings of pages that are gone, with wildcards that an example may need which is not recorded yet.
    pub kept: Vec<PathBuf>,
    /// Page and line of examples that show no output any more, since they print nothing.
    pub without_output: Vec<(String, usize)>,
}

impl Written {
    pub fn has_passed_over(&self, page: &Page) -> bool {
        self.passed_over.iter().any(|(name, _)| *name == page.name)
    }

    pub fn is_nothing(&self) -> bool {
        self.recordings == 0
            && self.pages == 0
            && self.files == 0
            && self.passed_over.is_empty()
            && self.removed.is_empty()
    }
}

/// Why a page is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver {
    /// Somebody changed it while its examples ran.
    ChangedMeanwhile,
    /// Somebody changed its recording while its examples ran.
    RecordedMeanwhile,
    /// It is to be written, or its recording, and that is read-only.
    ReadOnly,
    /// With its outputs it would be another page.
    CannotShow,
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
        self.settle(results);
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
            let reason = refused.remove(&at).or_else(|| {
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

    /// A block holds one output. What an earlier interpreter of this run has settled stays, and another
    /// output is refused unless it would make the same edits.
    fn refuse_second_opinions(
        &mut self,
        run: &Recorder<'_>,
        candidates: &mut BTreeMap<At, Candidate>,
    ) {
        candidates.retain(|at, candidate| {
            if candidate.edits.is_none() || !self.ran.contains_key(at) {
                return true;
            }
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

    fn settle(&mut self, results: &Results<'_>) {
        let all = results.pages.iter().flat_map(|page| &page.examples);
        for result in all.filter(|result| result.outcome.is_some()) {
            *self.ran.entry(result.at).or_insert(true) &= may_be_recorded(&result.verdict);
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

    /// Writes what has changed. `whole` pages have all their examples selected: their recordings lose
    /// entries without an example, and files of pages that are gone are removed if `prune`.
    pub fn write(
        &mut self,
        book: &Book,
        config: &Config,
        originals: &Recordings,
        whole: &[bool],
        prune: bool,
    ) -> Result<Written> {
        let mut written = Written::default();
        self.write_into(&mut written, book, config, originals, whole, prune)
            .map_err(
                |error| match written.recordings + written.files + written.pages {
                    0 => error,
                    _ => error.context(
                        "not all is written; what is stays, and recording again completes it",
                    ),
                },
            )?;
        Ok(written)
    }

    fn write_into(
        &mut self,
        written: &mut Written,
        book: &Book,
        config: &Config,
        originals: &Recordings,
        whole: &[bool],
        prune: bool,
    ) -> Result<()> {
        remove_unfinished(book);
        let mut texts: Vec<Option<String>> = Vec::new();
        for (number, page) in book.pages.iter().enumerate() {
            if whole[number] {
                let known: HashSet<&str> = page
                    .examples
                    .iter()
                    .map(|example| example.id.as_str())
                    .collect();
                let is_refused = self.has_refused(number);
                let mut entries = std::mem::take(&mut self.recordings[number].examples);
                entries.retain(|recorded| {
                    let is_inherited = || {
                        let file = page.recording.as_ref();
                        file.is_some_and(|file| self.is_inherited(file, &recorded.id))
                    };
                    // What is refused may be what they were written for.
                    let may_be_needed = is_refused && recorded.has_wildcards() && !is_inherited();
                    known.contains(recorded.id.as_str()) || may_be_needed
                });
                self.recordings[number].examples = entries;
            }
            match self.text(number, page, config, &originals[number]) {
                Ok(text) => texts.push(Some(text)),
                Err(reason) => {
                    texts.push(None);
                    written.passed_over.push((page.name.clone(), reason));
                }
            }
        }
        self.heirs.retain(|at, _| texts[at.0].is_some());
        for (number, page) in book.pages.iter().enumerate() {
            let (Some(file), Some(_)) = (&page.recording, &texts[number]) else {
                continue;
            };
            let recording = &self.recordings[number];
            if *recording == originals[number] {
                continue;
            }
            if recording.examples.is_empty() {
                if file.exists() {
                    written.removed.push(remove(file, config)?);
                }
                continue;
            }
            replace(file, recording::print(recording).as_bytes())?;
            written.recordings += 1;
        }
        for ((number, file), bytes) in &self.artifacts {
            if texts[*number].is_some() && fs::read(file).ok().as_ref() != Some(bytes) {
                replace(file, bytes)?;
                written.files += 1;
            }
        }
        for (page, text) in book.pages.iter().zip(&texts) {
            if let Some(text) = text.as_ref().filter(|text| **text != page.text) {
                replace(&page.file, text.as_bytes())?;
                written.pages += 1;
                let without_output = without_output(page, text);
                written
                    .without_output
                    .extend(without_output.map(|line| (page.name.clone(), line)));
            }
        }
        let mut gone = BTreeSet::new();
        let mut needed: BTreeSet<PathBuf> = book.recordings().cloned().collect();
        for (number, page) in book.pages.iter().enumerate() {
            if let Some(file) = &page.recording {
                gone.extend(artifact_paths(file, &originals[number]));
                needed.extend(artifact_paths(file, &self.recordings[number]));
                if texts[number].is_none() {
                    needed.extend(artifact_paths(file, &originals[number]));
                }
            }
        }
        if prune {
            // One that has no recording yet may have moved.
            let is_waiting = |number: usize| {
                let has_open = self.has_refused(number) || texts[number].is_none();
                originals[number].examples.is_empty() && has_open
            };
            let are_waiting = (0..book.pages.len()).any(is_waiting);
            for file in orphaned_now(config) {
                if are_waiting && self.has_wildcards_left(&file) {
                    written.kept.push(file);
                    continue;
                }
                if let Some(recording) = self.orphaned.get(&file) {
                    gone.extend(artifact_paths(&file, recording));
                }
                written.removed.push(remove(&file, config)?);
            }
        }
        for file in gone
            .difference(&needed)
            .filter(|file| is_expected(file, config))
        {
            written.removed.push(remove(file, config)?);
        }
        Ok(())
    }

    /// Examples that are as they should be from now on: (key of the page, id).
    pub fn settled(&self, book: &Book, written: &Written) -> BTreeSet<(String, String)> {
        let good = self.ran.iter().filter(|(_, is_good)| **is_good);
        let pages = good.map(|(at, _)| (&book.pages[at.0], at.1));
        pages
            .filter(|(page, _)| !written.has_passed_over(page))
            .map(|(page, position)| (page.key.clone(), page.examples[position].id.clone()))
            .collect()
    }

    /// Whether an orphan has wildcards that no example has taken over.
    fn has_wildcards_left(&self, orphan: &Path) -> bool {
        let Some(recording) = self.orphaned.get(orphan) else {
            return false;
        };
        let is_left =
            |entry: &Recorded| entry.has_wildcards() && !self.is_inherited(orphan, &entry.id);
        recording.examples.iter().any(is_left)
    }

    /// What a page is to say.
    fn text(
        &self,
        number: usize,
        page: &Page,
        config: &Config,
        original: &Recording,
    ) -> Result<String, PassedOver> {
        let is_as_read = fs::read(&page.file).is_ok_and(|bytes| bytes == page.text.as_bytes());
        if !is_as_read {
            return Err(PassedOver::ChangedMeanwhile);
        }
        if let Some(file) = &page.recording
            && !is_still(file, original)
        {
            return Err(PassedOver::RecordedMeanwhile);
        }
        let edits: Vec<_> = self
            .edits
            .range((number, 0)..(number + 1, 0))
            .flat_map(|(_, edits)| edits.iter().cloned())
            .collect();
        let recording = &self.recordings[number];
        let is_settled = |position| self.ran.get(&(number, position)) == Some(&true);
        let outputs = |text: &str, examples: &[Example]| {
            if carries_output(page, config) {
                return rewrite::outputs(text, examples, recording, &is_settled);
            }
            let all = examples.iter().enumerate();
            let settled = all.filter(|(position, _)| is_settled(*position));
            rewrite::corrections(text, settled.map(|(_, example)| example), recording)
        };
        let text = rewrite::settled(&page.text, &page.examples, &edits, &outputs)
            .ok_or(PassedOver::CannotShow)?;
        let is_read_only =
            |file: &Path| fs::metadata(file).is_ok_and(|file| file.permissions().readonly());
        let keeps_page = text != page.text && is_read_only(&page.file);
        let keeps_recording = *recording != *original
            && page
                .recording
                .as_ref()
                .is_some_and(|file| is_read_only(file));
        if keeps_page || keeps_recording {
            return Err(PassedOver::ReadOnly);
        }
        Ok(text)
    }
}

/// Whether a file says what the recording says that was read from it.
fn is_still(file: &Path, recording: &Recording) -> bool {
    match fs::read_to_string(file) {
        Ok(text) => recording::parse(&text).is_ok_and(|now| now == *recording),
        Err(error) => error.kind() == ErrorKind::NotFound && recording.examples.is_empty(),
    }
}

/// Lines of the examples that showed an output and show none as `text` has it.
fn without_output(page: &Page, text: &str) -> impl Iterator<Item = usize> {
    let (after, _) = example::read(text, "");
    let both = page.examples.iter().zip(after.examples);
    let lost = both.filter(|(before, after)| before.output.is_some() && after.output.is_none());
    lost.map(|(before, _)| before.block.line)
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

/// Whether what an example does is recorded: transcripts, consoles and code with `#>` say it themselves.
fn is_recorded(page: &Page, example: &Example) -> bool {
    page.recording.is_some()
        && matches!(&example.kind, Kind::Module(comments) if comments.printed.is_empty())
}

/// Whether `record` keeps a block of output below each example of this page.
fn carries_output(page: &Page, config: &Config) -> bool {
    config.output == Output::Page && page.recording.is_some()
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

/// Why another run forbids recording this, if it does.
fn refuted(
    page: &Page,
    position: usize,
    candidate: &Candidate,
    again: Option<&Seen>,
) -> Option<Reason> {
    let Some(again) = again else {
        return Some(Reason::FailedAgain(
            "it was not reached when its session was run again".to_owned(),
        ));
    };
    let example = &page.examples[position];
    let rules = &example.attributes.normalize;
    let matching = Matching {
        wildcards: false,
        digits: float_digits(rules),
        unordered: example.attributes.unordered,
    };
    // What comments, prompts and wildcards leave open is for the first run's comparison to say.
    let same = |first: &[u8], second: &[u8]| {
        matching.matches(first, second)
            || excused_by_hand(example, candidate.recorded.as_ref(), second)
    };
    let first = (&candidate.outcome, &candidate.context);
    let second = (&again.outcome, &again.context);
    if let Some(diagnosis) = proof::difference(rules, first, second, &same) {
        let diagnosis = diagnosis.in_words_of(proof::sources(page, position));
        return Some(Reason::Unstable(Box::new(diagnosis)));
    }
    ended_otherwise(&first.0.ending, &second.0.ending)
        .or_else(|| varying_file(first.0, second.0))
        .map(Reason::FailedAgain)
}

fn ended_otherwise(first: &Ending, second: &Ending) -> Option<String> {
    match (first, second) {
        (Ending::Exited { status: one, .. }, Ending::Exited { status: other, .. }) => {
            (one != other).then(|| {
                format!("its exit status varies from run to run: {one}, then {other}; make it the same each time")
            })
        }
        _ => (std::mem::discriminant(first) != std::mem::discriminant(second))
            .then(|| "it ended in another way when it was run again".to_owned()),
    }
}

/// Files are compared as a check does it.
fn varying_file(first: &Outcome, second: &Outcome) -> Option<String> {
    let again: HashMap<_, _> = second
        .artifacts
        .iter()
        .map(|(name, bytes)| (name, bytes))
        .collect();
    let varies = |(name, bytes): &&(String, Option<Vec<u8>>)| match (bytes, again.get(name)) {
        (Some(one), Some(Some(other))) => compare::artifact_matches(name, one, other).is_some(),
        (one, other) => one.is_some() != other.is_some_and(|other| other.is_some()),
    };
    let (name, _) = first.artifacts.iter().find(varies)?;
    Some(format!(
        "the file `{name}` varies from run to run; write the same each time, such as by a seed or a fixed date"
    ))
}

/// Wildcards that somebody wrote by hand hold for every run.
fn excused_by_hand(example: &Example, recorded: Option<&Recorded>, text: &[u8]) -> bool {
    let Some(recorded) = recorded else {
        return false;
    };
    let expected = &recorded.expected;
    let matching = Matching {
        wildcards: !expected.literal,
        digits: float_digits(&example.attributes.normalize),
        unordered: example.attributes.unordered,
    };
    compare::has_wildcards(&expected.stdout) && matching.matches(&expected.stdout, text)
        || compare::has_wildcards(&expected.stderr) && matching.matches(&expected.stderr, text)
}

/// Whether the page with these edits would be green: not every output can be written into a transcript,
/// and one with a fence in it would end its own block.
fn says_what_happened(edits: &[Edit], said: Option<&Verdict>) -> bool {
    // Python reads no source with a NUL in it, though the page would show what happened.
    let is_source = edits.iter().all(|(_, text)| !text.contains('\0'));
    is_source && said.is_some_and(|verdict| !verdict.is_failure())
}

/// What would be said of an example on the page with these edits; `None` where it would be another page.
fn with_edits(
    config: &Config,
    page: &Page,
    position: usize,
    edits: &[Edit],
    candidate: &Candidate,
) -> Option<Verdict> {
    let (mut found, _) = example::read(&rewrite::apply(&page.text, edits.to_vec()), "");
    if let Some(example) = found.examples.get_mut(position)
        && (is_recorded(page, example) || carries_output(page, config))
    {
        // The block of output below it will show the recording, which is not compared here.
        example.output = None;
    }
    let terms = Terms {
        recorded: None,
        base: None,
        must_be_recorded: false,
        carries_output: false,
        doctest: config.doctest,
        context: &candidate.context,
    };
    (found.examples.len() == page.examples.len())
        .then(|| verdict::judge(&found.examples[position], &candidate.outcome, &terms))
}

/// Why a block is not edited, with the step that even then would not say what happened, if one alone can be named.
fn unable(with_edits: Option<Verdict>) -> Reason {
    let step = match with_edits {
        Some(Verdict::Failed(Failure::Steps(steps))) => steps.into_iter().next(),
        _ => None,
    };
    let source = step.and_then(|step| Some(format!("`{}`", step.source.lines().next()?)));
    let what = source.as_deref().unwrap_or("it");
    Reason::FailedAgain(format!(
        "the block cannot hold what {what} printed; print it in another way, such as by `repr(…)`"
    ))
}

/// Edits that make the blocks of an example that is not as expected say what it did; `None` where it is not for
/// them to say.
fn block_edits(
    page: &Page,
    example: &Example,
    outcome: &Outcome,
    verdict: &Verdict,
    config: &Config,
) -> Option<Vec<Edit>> {
    let mut edits = match verdict {
        Verdict::Failed(Failure::Steps(failures)) => rewrite::steps(&page.text, example, failures),
        Verdict::Unrecorded | Verdict::Failed(Failure::Differs(_))
            if !is_recorded(page, example) =>
        {
            Vec::new()
        }
        _ => return None,
    };
    let Kind::Module(comments) = &example.kind else {
        return Some(edits);
    };
    if let Verdict::Failed(Failure::Steps(failures)) = verdict
        && let Some(first) = comments.printed.first()
        && failures
            .iter()
            .any(|failure| failure.line == first.lines.start)
    {
        edits.extend(rewrite::printed(&page.text, example, outcome));
    }
    if !is_recorded(page, example) && !carries_output(page, config) {
        let rules = &example.attributes.normalize;
        let stdout = Expected {
            stdout: compare::observed(outcome, rules, &normalize::Context::default()).stdout,
            ..Expected::default()
        };
        if !verdict::shows(example, &stdout) {
            edits.extend(rewrite::shown(&page.text, example, &stdout));
        }
    }
    Some(edits)
}

/// What the names of files begin and end with that will replace others, round so many letters by chance.
const UNFINISHED: (&str, usize, &str) = (".verify-", 16, ".unfinished");

/// Removes what a recorder that was killed had not put in place. Another cannot be at work: recording is
/// locked.
fn remove_unfinished(book: &Book) {
    let files = book
        .pages
        .iter()
        .flat_map(|page| std::iter::once(&page.file).chain(&page.recording));
    let directories: BTreeSet<&Path> = files.filter_map(|file| file.parent()).collect();
    for entry in directories
        .into_iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
    {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_unfinished(&entry.file_name().to_string_lossy()) {
            // One that stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file has one of our names, which are longer than what people think of.
fn is_unfinished(name: &str) -> bool {
    let (start, letters, end) = UNFINISHED;
    let chance = name
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end));
    chance.is_some_and(|chance| {
        chance.len() == letters && chance.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Replaces a file in one step: whoever reads it sees the old bytes or the new ones. Its permissions and its owner stay.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let target = &followed(file);
        let directory = target.parent().unwrap_or(Path::new("."));
        // Where a link leads, a directory that is missing may be a disk that is.
        if target == file {
            fs::create_dir_all(directory)?;
        }
        let old = fs::metadata(target).ok();
        let (start, letters, end) = UNFINISHED;
        let mut builder = tempfile::Builder::new();
        builder.prefix(start).rand_bytes(letters).suffix(end);
        if old.is_none() {
            // As any new file, less what the umask takes.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut temporary = builder.tempfile_in(directory)?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        if let Some(old) = old {
            let new = temporary.as_file().metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                // Who may not give it away has it now.
                let _ = unix::fs::fchown(temporary.as_file(), Some(old.uid()), Some(old.gid()));
            }
            temporary.as_file().set_permissions(old.permissions())?;
        }
        temporary.persist(target)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write `{}`; it is as it was", file.display()))
}

/// What a link names is replaced, and the link stays; also where there is nothing yet.
fn followed(file: &Path) -> PathBuf {
    const MOST_LINKS: usize = 40;
    if let Ok(file) = file.canonicalize() {
        return file;
    }
    let mut file = file.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&file) else {
            break;
        };
        file = file.parent().unwrap_or(Path::new(".")).join(target);
    }
    file
}

/// Files that a recording names, beside it. One that would lead elsewhere is nothing that was ever written.
fn artifact_paths(file: &Path, recording: &Recording) -> impl Iterator<Item = PathBuf> {
    let is_below = |name: &&String| {
        let mut parts = Path::new(name).components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let names = recording.artifacts().filter(is_below);
    names.map(|name| book::artifact_path(file, name))
}

/// Whether a file lies among those that are expected, not behind a link to somewhere else, and is no recording, which may
/// be that of a page that nobody has asked for.
fn is_expected(file: &Path, config: &Config) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let is_file = fs::symlink_metadata(file).is_ok_and(|file| file.is_file());
    let directory = file.parent().and_then(real);
    let all = real(&config.root.join(&config.expected));
    let is_below = directory
        .zip(all)
        .is_some_and(|(directory, all)| directory.starts_with(all));
    is_file && is_below && !is_recording(file)
}

fn is_recording(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| recording::is_recording(&bytes))
}

/// Removes an expected file, and the directories that this leaves empty.
fn remove(file: &Path, config: &Config) -> Result<PathBuf> {
    fs::remove_file(file).with_context(|| format!("cannot remove `{}`", file.display()))?;
    let top = config.root.join(&config.expected);
    let above = file.ancestors().skip(1);
    for directory in
        above.take_while(|directory| **directory != *top && directory.starts_with(&top))
    {
        // What is not empty stays.
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
    Ok(file.to_owned())
}

/// Recordings of pages that are not there any more. Other files are somebody's: an example may even have made them.
pub fn orphaned_files(book: &Book, config: &Config) -> Vec<PathBuf> {
    if !config.is_project {
        return Vec::new();
    }
    let known: HashSet<&PathBuf> = book.recordings().collect();
    walkdir::WalkDir::new(config.root.join(&config.expected))
        .sort_by_file_name()
        .into_iter()
        .flatten()
        .map(walkdir::DirEntry::into_path)
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
                && !known.contains(path)
        })
        .filter(|path| is_recording(path))
        .collect()
}

/// As [`orphaned_files`], of the pages as they are now: one may have come with its recording. Where some cannot be read,
/// nobody knows whose theirs are.
fn orphaned_now(config: &Config) -> Vec<PathBuf> {
    match Book::read_where(config, &[], &mut |_| false) {
        Ok(book) if book.problems.is_empty() => orphaned_files(&book, config),
        _ => Vec::new(),
    }
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
