//! From a draft to files: pages, recordings and what examples made are written, and what belongs to nobody is removed.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Draft;
use super::edits::carries_output;
use super::files::{artifact_paths, is_expected, orphaned_now, remove, remove_unfinished, replace};
use crate::book::{self, Book, Page};
use crate::check::Recordings;
use crate::config::Config;
use crate::diagnose::Reason;
use crate::example::{self, Example};
use crate::recording::{self, Recorded, Recording};
use crate::rewrite;

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
    /// Recordings of pages that are gone, and why they are not removed.
    pub kept: Vec<(PathBuf, Kept)>,
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
            && self.kept.is_empty()
    }
}

/// Why a recording stays whose page is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It has wildcards that an example may need which is not recorded yet.
    MayBeNeeded,
    /// This directory is there and has no page at all, as a submodule's has before it is checked out.
    Unfilled(PathBuf),
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
            let shown = self.show(number, page, config, &originals[number]);
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
            match self.text(number, page, &originals[number], shown) {
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
            gone.extend(self.remove_orphans(written, config, are_waiting)?);
        }
        for file in gone
            .difference(&needed)
            .filter(|file| is_expected(file, config))
        {
            written.removed.push(remove(file, config)?);
        }
        Ok(())
    }

    /// Removes the recordings of pages that are gone, and returns the files that they name. Where examples are waiting for
    /// wildcards that may be theirs, those with wildcards stay.
    fn remove_orphans(
        &self,
        written: &mut Written,
        config: &Config,
        are_waiting: bool,
    ) -> Result<Vec<PathBuf>> {
        let mut named = Vec::new();
        for (file, unfilled) in orphaned_now(config) {
            if let Some(directory) = unfilled {
                written.kept.push((file, Kept::Unfilled(directory)));
                continue;
            }
            if are_waiting && self.has_wildcards_left(&file) {
                written.kept.push((file, Kept::MayBeNeeded));
                continue;
            }
            if let Some(recording) = self.orphaned.get(&file) {
                named.extend(artifact_paths(&file, recording));
            }
            written.removed.push(remove(&file, config)?);
        }
        Ok(named)
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

    /// What a page is to say, if it can. What cannot be shown where it stands is refused, since with it the page would be
    /// another.
    fn show(
        &mut self,
        number: usize,
        page: &Page,
        config: &Config,
        original: &Recording,
    ) -> Option<String> {
        let all = self.shown(number, page, config, &|_| true);
        if all.is_some() {
            return all;
        }
        let is_unshown = |position: &usize| {
            let alone = self.shown(number, page, config, &|other| other == *position);
            alone.is_none()
        };
        let unshown: Vec<usize> = (0..page.examples.len()).filter(is_unshown).collect();
        for &position in &unshown {
            let reason = "the page cannot show its output where it stands: move it out of lists and quotes, or print something else";
            self.refuse((number, position), Reason::FailedAgain(reason.to_owned()));
            self.take_back(number, page, position, original);
        }
        self.shown(number, page, config, &|position| {
            !unshown.contains(&position)
        })
    }

    /// Leaves what is recorded of an example as it was.
    fn take_back(&mut self, number: usize, page: &Page, position: usize, original: &Recording) {
        let (at, example) = ((number, position), &page.examples[position]);
        self.changed.remove(&at);
        self.heirs.remove(&at);
        self.edits.remove(&at);
        let entries = &mut self.recordings[number].examples;
        if let Some(place) = entries.iter().position(|entry| entry.id == example.id) {
            match original.entry(&example.id) {
                Some(entry) => entries[place] = entry.clone(),
                None => drop(entries.remove(place)),
            }
        }
        if let Some(recording) = &page.recording {
            for name in &example.attributes.artifacts {
                let path = book::artifact_path(recording, name);
                self.artifacts.remove(&(number, path));
            }
        }
    }

    /// A page with what is to be said of those examples that are meant; `None` where it would be another page.
    fn shown(
        &self,
        number: usize,
        page: &Page,
        config: &Config,
        is_meant: &dyn Fn(usize) -> bool,
    ) -> Option<String> {
        let edits = self.edits.range((number, 0)..(number + 1, 0));
        let edits: Vec<_> = edits
            .filter(|((_, position), _)| is_meant(*position))
            .flat_map(|(_, edits)| edits.iter().cloned())
            .collect();
        let meant = page.examples.iter().enumerate();
        let meant = meant.filter(|(position, _)| is_meant(*position));
        let entries = meant.filter_map(|(_, example)| self.recordings[number].entry(&example.id));
        let recording = &Recording {
            examples: entries.cloned().collect(),
        };
        let is_settled =
            |position| is_meant(position) && self.ran.get(&(number, position)) == Some(&true);
        let outputs = |text: &str, examples: &[Example]| {
            if carries_output(page, config) {
                return rewrite::outputs(text, examples, recording, &is_settled);
            }
            let all = examples.iter().enumerate();
            let settled = all.filter(|(position, _)| is_settled(*position));
            rewrite::corrections(text, settled.map(|(_, example)| example), recording)
        };
        rewrite::settled(&page.text, &page.examples, &edits, &outputs)
    }

    /// What is to be written of what a page is to say, unless it is left alone.
    fn text(
        &self,
        number: usize,
        page: &Page,
        original: &Recording,
        shown: Option<String>,
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
        let text = shown.ok_or(PassedOver::CannotShow)?;
        let recording = &self.recordings[number];
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
