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
use crate::outcome::Outcome;
use crate::proof::{self, Proof, Seen};
use crate::recording::{self, Expected, Observed, Recorded, Recording};
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
    /// Examples that do what is recorded of them or will be: a block of output below one has to show it.
    held: HashSet<At>,
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
            held: HashSet::new(),
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
        let all = results.pages.iter().flat_map(|page| &page.examples);
        let held = all.filter(|result| {
            result.outcome.is_some()
                && may_be_recorded(&result.verdict)
                && !candidates.contains_key(&result.at)
        });
        self.held.extend(held.map(|result| result.at));
        self.refuse_second_opinions(run, &mut candidates);
        self.settle(results);
        if candidates.is_empty() {
            return Ok(());
        }
        let mut refused: BTreeMap<At, Reason> = BTreeMap::new();
        let differs = |at: At, proof: &Proof| {
            let example = &book.pages[at.0].examples[at.1];
            refuted(example, &candidates[&at], proof.examples.get(&at))
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
            let at = (page_number, position);
            let unable = || {
                Reason::FailedAgain(
                    "the block cannot hold what it printed; print it in another way, such as by `repr(…)`"
                        .to_owned(),
                )
            };
            let reason = refused.remove(&at).or_else(|| {
                let edits = candidate.edits.as_ref()?;
                let holds = says_what_happened(run.config, page, position, edits, &candidate);
                (!holds).then(unable)
            });
            if let Some(reason) = reason {
                self.refused.push(Refusal {
                    page: page.name.clone(),
                    line: example.block.line,
                    id: example.id.clone(),
                    reason,
                });
                continue;
            }
            self.changed.insert(at);
            self.held.insert(at);
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
                        self.artifacts
                            .insert(book::artifact_path(recording, name), bytes.clone());
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
            if candidate.edits.is_none() || !self.settled.contains(at) {
                return true;
            }
            if self.edits.get(at) != candidate.edits.as_ref() {
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
                return false;
            }
            candidate.edits = None;
            candidate.recorded.is_some()
        });
    }

    fn settle(&mut self, results: &Results<'_>) {
        let all = results.pages.iter().flat_map(|page| &page.examples);
        let ran = all.filter(|result| result.outcome.is_some());
        self.settled.extend(ran.map(|result| result.at));
    }

    /// Examples that are as they should be but for what is expected of them, with what would be expected.
    fn candidates(&self, run: &Recorder<'_>, results: &Results<'_>) -> BTreeMap<At, Candidate> {
        let mut candidates = BTreeMap::new();
        for page_result in &results.pages {
            let page = page_result.page;
            for result in &page_result.examples {
                let Some(outcome) = &result.outcome else {
                    continue;
                };
                if !may_be_recorded(&result.verdict) {
                    continue;
                }
                let example = result.example;
                let context = &results.contexts[&result.at];
                let recorded = is_recorded(page, example)
                    .then(|| self.news(run, page, result.at, outcome, context))
                    .flatten();
                let edits = block_edits(page, example, outcome, &result.verdict, run.config);
                if recorded.is_some() || edits.is_some() {
                    let candidate = Candidate {
                        recorded,
                        edits,
                        outcome: outcome.clone(),
                        context: normalize::Context::clone(context),
                    };
                    candidates.insert(result.at, candidate);
                }
            }
        }
        candidates
    }

    /// What the recording is to say of an example, if that is not what it says.
    fn news(
        &self,
        run: &Recorder<'_>,
        page: &Page,
        (number, position): At,
        outcome: &Outcome,
        context: &normalize::Context,
    ) -> Option<Recorded> {
        let example = &page.examples[position];
        let observed = compare::observed(outcome, &example.attributes.normalize, context);
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
                version: &check::version(run.interpreter),
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
        (old != Some(&new) || artifacts_changed).then_some(new)
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
        let recording = &self.recordings[number];
        let outputs = |text: &str, examples: &[Example]| {
            if carries_output(page, config) {
                return rewrite::outputs(text, examples, recording);
            }
            let all = examples.iter().enumerate();
            let held = all.filter(|(position, _)| self.held.contains(&(number, *position)));
            rewrite::corrections(text, held.map(|(_, example)| example), recording)
        };
        rewrite::settled(&page.text, &page.examples, &edits, &outputs).ok_or(PassedOver::CannotShow)
    }
}

struct Candidate {
    /// What the recording is to say.
    recorded: Option<Recorded>,
    /// What corrects the example's own block and, where nothing is recorded, the block of output below it; none if
    /// nothing can. `None` where they are right.
    edits: Option<Vec<Edit>>,
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
fn refuted(example: &Example, candidate: &Candidate, again: Option<&Seen>) -> Option<Reason> {
    let Some(again) = again else {
        return Some(Reason::FailedAgain(
            "it was not reached when its session was run again".to_owned(),
        ));
    };
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
        return Some(Reason::Unstable(Box::new(diagnosis)));
    }
    let kind = |outcome: &Outcome| std::mem::discriminant(&outcome.ending);
    (kind(first.0) != kind(second.0))
        .then(|| Reason::FailedAgain("it ended in another way when it was run again".to_owned()))
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
fn says_what_happened(
    config: &Config,
    page: &Page,
    position: usize,
    edits: &[Edit],
    candidate: &Candidate,
) -> bool {
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
    found.examples.len() == page.examples.len()
        && !verdict::judge(&found.examples[position], &candidate.outcome, &terms).is_failure()
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
