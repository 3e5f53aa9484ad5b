//! All that the results of a session depend on, as far as it is known before it runs.
//!
//! Lines and prose are no part of it: an example may move and its page be rewritten around it. Each part
//! is a digest of everything that `Debug` shows of it, so that a new attribute counts from its first day.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pep440_rs::Version;

use crate::attributes::{Attributes, Need, OwnLimits};
use crate::book::{self, Page};
use crate::config::Config;
use crate::digest::{self, Digest, Digester};
use crate::example::Example;
use crate::host;
use crate::interpreter::Interpreter;
use crate::recording::Recording;

/// What a session is made of.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    pub page: &'a Page,
    pub recording: &'a Recording,
    pub config: &'a Config,
    pub interpreter: &'a Interpreter,
    pub version: &'a Version,
    /// Positions of all its examples, in page order.
    pub examples: &'a [usize],
}

/// Parts of a key with words for each, and how many of them there are up to each example.
pub(super) struct Parts {
    pub(super) all: Vec<(String, Digest)>,
    ends: Vec<usize>,
}

impl Parts {
    pub(super) fn of(session: &Session<'_>) -> Parts {
        let Session { page, .. } = *session;
        // The name under which an example is saved passes over those that the page gives to files, and
        // what a session may use up is what any of its examples asks for.
        let surroundings: Vec<_> = page
            .examples
            .iter()
            .map(|example| {
                let attributes = &example.attributes;
                (
                    &attributes.file,
                    attributes.limits.shared(OwnLimits::default()),
                    example.topic,
                    &attributes.session,
                )
            })
            .filter(|(file, limits, ..)| file.is_some() || *limits != OwnLimits::default())
            .collect();
        let is_recorded = page.recording.is_some();
        let mut parts = Parts {
            all: vec![(
                "the files and limits of the page".to_owned(),
                Digest::of_debug(&(surroundings, is_recorded)),
            )],
            ends: Vec::new(),
        };
        for &position in session.examples {
            parts.take(session, &page.examples[position]);
        }
        parts
    }

    /// The key of the session up to its `count`th example.
    pub(super) fn key(&self, count: usize) -> Digest {
        let mut digester = Digester::default();
        for (_, digest) in self.up_to(count) {
            digester.add(digest.bytes());
        }
        digester.finish()
    }

    pub(super) fn up_to(&self, count: usize) -> &[(String, Digest)] {
        let end = count.checked_sub(1).map_or(1, |last| self.ends[last]);
        &self.all[..end]
    }

    fn take(&mut self, session: &Session<'_>, example: &Example) {
        let Session {
            page, recording, ..
        } = *session;
        let id = &example.id;
        // The block of output below it, without its place.
        let shown = example
            .output
            .as_ref()
            .map(|block| (&block.code, &block.info));
        let contents = (&example.kind, example.source(), shown);
        self.add(format!("example `{id}`"), Digest::of_debug(&contents));
        // The id names the recording, and is not otherwise heard of.
        let attributes = Attributes {
            id: None,
            ..Attributes::clone(&example.attributes)
        };
        self.add(
            format!("the attributes of `{id}`"),
            Digest::of_debug(&attributes),
        );
        let recorded = recording.examples.iter().find(|found| found.id == *id);
        let expected = recorded.map(|found| (found.expected_for(session.version), &found.expected));
        let rules = recorded.map(|found| (&found.normalize, found.unordered));
        self.add(
            format!("the recording of `{id}`"),
            Digest::of_debug(&(expected, rules)),
        );
        for name in &example.attributes.artifacts {
            let file = page
                .recording
                .as_ref()
                .map(|recording| book::artifact_path(recording, name));
            let kept = file.and_then(|file| fs::read(file).ok());
            self.add(
                format!("the recorded file `{name}`"),
                Digest::of_debug(&kept.map(|bytes| Digest::of(&bytes))),
            );
        }
        for need in &example.attributes.requires {
            let found = match need {
                Need::Module(name) => module(session.interpreter, name),
                Need::Program(name) => program(session.interpreter, name),
                Need::Root => Digest::of_debug(&rustix::process::geteuid().is_root()),
            };
            self.add(need.to_string(), found);
        }
        self.ends.push(self.all.len());
    }

    fn add(&mut self, name: String, digest: Digest) {
        self.all.push((name, digest));
    }
}

/// What may be a module in the directories that path files have added: of all others the names are known as a whole.
fn module(interpreter: &Interpreter, name: &str) -> Digest {
    let mut found = Vec::new();
    for directory in interpreter.added_directories() {
        let mut directory = directory.clone();
        for part in name.split('.') {
            let is_named = |entry: &fs::DirEntry| {
                let name = entry.file_name();
                name.as_bytes().split(|&byte| byte == b'.').next() == Some(part.as_bytes())
            };
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            found.extend(entries.filter(is_named).map(|entry| entry.path()));
            directory.push(part);
        }
    }
    found.sort();
    Digest::of_debug(&found)
}

fn program(interpreter: &Interpreter, name: &str) -> Digest {
    let found: Option<PathBuf> = host::find_program(interpreter, name);
    let look = |file: &Path| digest::appearance(file).ok();
    Digest::of_debug(&found.as_deref().map(look))
}
