//! The recording end of the pipeline: what a run found → proof that it is stable → files.
//!
//! An output is written only after several runs under other [`crate::conditions`] have given it again. What
//! varies is refused with its cause and the way out. Nothing is written before everything is known, and
//! every file is replaced whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::book::{At, Book, Page};
use crate::check::{self, Recordings, Results, SessionPlan};
use crate::compare;
use crate::conditions::Conditions;
use crate::config::{Config, Output};
use crate::diagnose::Reason;
use crate::example::{self, Example, Kind};
use crate::interpreter::Interpreter;
use crate::matching::Matching;
use crate::normalize::{self, float_digits};
use crate::outcome::Outcome;
use crate::proof::{self, Proof, Seen};
use crate::recording::{self, Observed, Recorded, Recording};
use crate::rewrite::{self, Edit};
use crate::verdict::{self, Failure, StepFailure, Terms, Verdict};

/// What recording would do, gathered over all interpreters before anything is written.
#[derive(Debug)]
pub struct Draft {
    pub recordings: Recordings,
    /// Edits inside blocks, by page and position: bytes of the page and what replaces them.
    edits: BTreeMap<At, Vec<Edit>>,
    /// Examples whose expectations stand in their own block, once an interpreter has settled them.
    settled: HashSet<At>,
    artifacts: BTreeMap<PathBuf, Vec<u8>>,
    pub refused: Vec<Refusal>,
    /// Examples whose recording is new or another.
    pub changed: HashSet<At>,
}

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
    pub page: String,
    pub line: usize,
    pub id: String,
    pub reason: Reason,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    pub recordings: usize,
    pub pages: usize,
    /// Pages that are left alone, and their recordings with them.
    pub passed_over: Vec<(String, PassedOver)>,
    pub removed: Vec<PathBuf>,
}

impl Written {
    pub fn has_passed_over(&self, page: &Page) -> bool {
        self.passed_over.iter().any(|(name, _)| *name == page.name)
    }

    pub fn is_nothing(&self) -> bool {
        self.recordings == 0
            && self.pages == 0
            && self.passed_over.is_empty()
            && self.removed.is_empty()
    }
}

/// Why a page is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver {
    /// Somebody changed it while its examples ran.
    ChangedMeanwhile,
    /// With its outputs it would be another page.
    CannotShow,
}

impl Draft {
    pub fn new(recordings: Recordings) -> Draft {
        Draft {
            recordings,
            edits: BTreeMap::new(),
            settled: HashSet::new(),
            artifacts: BTreeMap::new(),
            refused: Vec::new(),
            changed: HashSet::new(),
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
        for ((page_number, position), candidate) in candidates {
            let page = &book.pages[page_number];
            let example = &page.examples[position];
            if let Some(reason) = refused.remove(&(page_number, position)) {
                self.refused.push(Refusal {
                    page: page.name.clone(),
                    line: example.block.line,
                    id: example.id.clone(),
                    reason,
                });
                continue;
            }
            if let Change::Block(edits) = &candidate.change
                && !says_what_happened(run.config, page, position, edits, &candidate)
            {
                self.refused.push(Refusal {
                    page: page.name.clone(),
                    line: example.block.line,
                    id: example.id.clone(),
                    reason: unable(with_edits(run.config, page, position, edits, &candidate)),
                });
                continue;
            }
            self.changed.insert((page_number, position));
            match candidate.change {
                Change::Recording(recorded) => self.put(page_number, page, recorded),
                Change::Block(edits) => {
                    self.edits.insert((page_number, position), edits);
                }
            }
            if let Some(recording) = &page.recording {
                for (name, bytes) in &candidate.outcome.artifacts {
                    if let Some(bytes) = bytes {
                        self.artifacts
                            .insert(check::artifact_path(recording, name), bytes.clone());
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
            let Change::Block(edits) = &candidate.change else {
                return true;
            };
            if !self.settled.contains(at) {
                return true;
            }
            if self.edits.get(at) != Some(edits) {
                let page = &run.book.pages[at.0];
                let example = &page.examples[at.1];
                self.refused.push(Refusal {
                    page: page.name.clone(),
                    line: example.block.line,
                    id: example.id.clone(),
                    reason: Reason::FailedAgain(format!(
                        "it prints something else on Python {} than on the version before; this kind of block holds one output: limit it with `python=`",
                        run.interpreter.full_version
                    )),
                });
            }
            false
        });
    }

    fn settle(&mut self, results: &Results<'_>) {
        let all = results.pages.iter().flat_map(|page| &page.examples);
        let ran = all.filter(|result| result.outcome.is_some());
        self.settled.extend(ran.map(|result| result.at));
    }

    /// Examples that are as they should be but for their recording, with what would be recorded.
    fn candidates(&self, run: &Recorder<'_>, results: &Results<'_>) -> BTreeMap<At, Candidate> {
        let Recorder {
            config,
            interpreter,
            is_base,
            ..
        } = *run;
        let version = check::version(interpreter);
        let mut candidates = BTreeMap::new();
        for page_result in &results.pages {
            let (page, number) = (page_result.page, page_result.number);
            for result in &page_result.examples {
                let Some(outcome) = &result.outcome else {
                    continue;
                };
                if !may_be_recorded(&result.verdict) {
                    continue;
                }
                let context = &results.contexts[&result.at];
                let example = result.example;
                let change = match &example.kind {
                    Kind::Module(comments)
                        if page.recording.is_some() && comments.printed.is_empty() =>
                    {
                        let observed =
                            compare::observed(outcome, &example.attributes.normalize, context);
                        let old = self.recordings[number]
                            .examples
                            .iter()
                            .find(|old| old.id == example.id);
                        let new = recording::update(
                            old,
                            &Observed {
                                id: &example.id,
                                normalize: &example.attributes.normalize,
                                unordered: example.attributes.unordered,
                                expected: &observed,
                                version: &version,
                                is_base,
                            },
                        );
                        let artifacts_changed = outcome.artifacts.iter().any(|(name, bytes)| {
                            let kept = page
                                .recording
                                .as_ref()
                                .map(|file| check::artifact_path(file, name));
                            kept.and_then(|path| fs::read(path).ok()).as_ref() != bytes.as_ref()
                        });
                        (old != Some(&new) || artifacts_changed).then_some(Change::Recording(new))
                    }
                    Kind::Module(_) => {
                        let edits = claim_edits(page, example, outcome, &result.verdict, config);
                        (!edits.is_empty()).then_some(Change::Block(edits))
                    }
                    Kind::Transcript(_) | Kind::Console(_) => {
                        let edits = match &result.verdict {
                            Verdict::Failed(Failure::Steps(failures)) => {
                                rewrite::steps(&page.text, example, failures)
                            }
                            _ => Vec::new(),
                        };
                        (!edits.is_empty()).then_some(Change::Block(edits))
                    }
                    Kind::File(_) => None,
                };
                if let Some(change) = change {
                    let candidate = Candidate {
                        change,
                        outcome: outcome.clone(),
                        context: normalize::Context::clone(context),
                    };
                    candidates.insert(result.at, candidate);
                }
            }
        }
        candidates
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
        mut self,
        book: &Book,
        config: &Config,
        originals: &Recordings,
        whole: &[bool],
        prune: bool,
    ) -> Result<Written> {
        remove_unfinished(book);
        let mut written = Written::default();
        let mut texts: Vec<Option<String>> = Vec::new();
        for (number, page) in book.pages.iter().enumerate() {
            if whole[number] {
                let known: HashSet<&str> = page
                    .examples
                    .iter()
                    .map(|example| example.id.as_str())
                    .collect();
                self.recordings[number]
                    .examples
                    .retain(|recorded| known.contains(recorded.id.as_str()));
            }
            match self.text(number, page, config) {
                Ok(text) => texts.push(Some(text)),
                Err(reason) => {
                    texts.push(None);
                    written.passed_over.push((page.name.clone(), reason));
                }
            }
        }
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
                    fs::remove_file(file)
                        .with_context(|| format!("cannot remove `{}`", file.display()))?;
                    written.removed.push(file.clone());
                }
                continue;
            }
            replace(file, recording::print(recording).as_bytes())?;
            written.recordings += 1;
        }
        for (file, bytes) in &self.artifacts {
            if fs::read(file).ok().as_ref() != Some(bytes) {
                replace(file, bytes)?;
            }
        }
        for (page, text) in book.pages.iter().zip(texts) {
            if let Some(text) = text.filter(|text| *text != page.text) {
                replace(&page.file, text.as_bytes())?;
                written.pages += 1;
            }
        }
        if prune {
            for file in orphaned_files(book, config) {
                fs::remove_file(&file)
                    .with_context(|| format!("cannot remove `{}`", file.display()))?;
                written.removed.push(file);
            }
        }
        Ok(written)
    }

    /// What a page is to say.
    fn text(&self, number: usize, page: &Page, config: &Config) -> Result<String, PassedOver> {
        let is_as_read = fs::read(&page.file).is_ok_and(|bytes| bytes == page.text.as_bytes());
        if !is_as_read {
            return Err(PassedOver::ChangedMeanwhile);
        }
        let edits: Vec<_> = self
            .edits
            .range((number, 0)..(number + 1, 0))
            .flat_map(|(_, edits)| edits.iter().cloned())
            .collect();
        if config.output == Output::Page && page.recording.is_some() {
            let recording = &self.recordings[number];
            rewrite::settled(&page.text, &page.examples, &edits, recording)
                .ok_or(PassedOver::CannotShow)
        } else {
            Ok(rewrite::apply(&page.text, edits))
        }
    }
}

struct Candidate {
    change: Change,
    outcome: Outcome,
    context: normalize::Context,
}

enum Change {
    Recording(Recorded),
    Block(Vec<Edit>),
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
        matching.matches(first, second) || excused_by_hand(example, &candidate.change, second)
    };
    let first = (&candidate.outcome, &candidate.context);
    let second = (&again.outcome, &again.context);
    if let Some(diagnosis) = proof::difference(rules, first, second, &same) {
        let diagnosis = diagnosis.in_words_of(proof::sources(page, position));
        return Some(Reason::Unstable(Box::new(diagnosis)));
    }
    let kind = |outcome: &Outcome| std::mem::discriminant(&outcome.ending);
    (kind(first.0) != kind(second.0))
        .then(|| Reason::FailedAgain("it ended in another way when it was run again".to_owned()))
}

/// Wildcards that somebody wrote by hand hold for every run.
fn excused_by_hand(example: &Example, change: &Change, text: &[u8]) -> bool {
    let Change::Recording(recorded) = change else {
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
fn says_what_happened(
    config: &Config,
    page: &Page,
    position: usize,
    edits: &[Edit],
    candidate: &Candidate,
) -> bool {
    with_edits(config, page, position, edits, candidate)
        .is_some_and(|verdict| !verdict.is_failure())
}

/// What would be said of an example on the page with these edits; `None` where it would be another page.
fn with_edits(
    config: &Config,
    page: &Page,
    position: usize,
    edits: &[Edit],
    candidate: &Candidate,
) -> Option<Verdict> {
    let (found, _) = example::read(&rewrite::apply(&page.text, edits.to_vec()), "");
    let terms = Terms {
        recorded: None,
        must_be_recorded: false,
        page: None,
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

/// Edits of what a file's own page claims that it prints.
fn claim_edits(
    page: &Page,
    example: &Example,
    outcome: &Outcome,
    verdict: &Verdict,
    config: &Config,
) -> Vec<Edit> {
    let Kind::Module(comments) = &example.kind else {
        return Vec::new();
    };
    if !verdict.is_failure() {
        Vec::new()
    } else if !comments.printed.is_empty() {
        rewrite::printed(&page.text, example, outcome)
    } else if config.output == Output::Recording {
        rewrite::shown(&page.text, example, outcome)
            .into_iter()
            .collect()
    } else {
        Vec::new()
    }
}

/// What the names of files begin with that will replace others.
const UNFINISHED: &str = ".verify-";

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
        if is_file && entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // One that stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Replaces a file in one step: whoever reads it sees the old bytes or the new ones. Its permissions stay.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        // A link is followed: what it names is replaced, and the link stays.
        let file = &file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let directory = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut temporary = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(directory)?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        let permissions = match fs::metadata(file) {
            Ok(metadata) => metadata.permissions(),
            Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o644),
        };
        temporary.as_file().set_permissions(permissions)?;
        temporary.persist(file)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write `{}`; it is as it was", file.display()))
}

/// Recordings of pages that are not there any more. Other files are somebody's: an example may even have made them.
pub fn orphaned_files(book: &Book, config: &Config) -> Vec<PathBuf> {
    if !config.is_project {
        return Vec::new();
    }
    let known: HashSet<&PathBuf> = book.recordings().collect();
    let is_recording =
        |file: &PathBuf| fs::read(file).is_ok_and(|bytes| recording::is_recording(&bytes));
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
        .filter(is_recording)
        .collect()
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
