//! A handbook as the checks see it: the outline, the pages with their recordings, and which example counts
//! as what.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use pep440_rs::{Version, VersionSpecifiers};
use serde::Deserialize;
use verify::attributes::Need;
use verify::book::{Book, Page, Problem};
use verify::config::Config;
use verify::example::{Example, Kind, slug};
use verify::recording::{self, Recording};

pub(crate) struct Handbook {
    /// The project's root, where `verify.toml` is.
    root: PathBuf,
    pub(crate) title: BookTitle,
    /// Outline and added entries, in the order of their numbers.
    pub(crate) entries: Vec<Entry>,
    pub(crate) guide: BTreeSet<String>,
    pub(crate) not_due: NotDue,
    pub(crate) pages: Vec<(Page, Recording)>,
    pub(crate) problems: Vec<Problem>,
    /// The versions that `verify.toml` names, oldest first.
    pub(crate) versions: Vec<Version>,
    packages: Packages,
}

/// What `requirements.in` asks for by name.
#[derive(Default)]
struct Packages {
    names: BTreeSet<String>,
    /// The Python versions that it asks for them on.
    python: Option<VersionSpecifiers>,
}

impl Packages {
    /// Lines such as `mypy==2.4.1 ; python_version >= "3.11"`.
    fn read(text: &str) -> Packages {
        let mut packages = Packages::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, rest)) = line.split_once("==") else {
                continue;
            };
            packages.names.insert(name.trim().to_owned());
            if let Some((_, python)) = rest.split_once("python_version") {
                let python = python.replace('"', "");
                packages.python = Some(VersionSpecifiers::from_str(python.trim()).unwrap());
            }
        }
        packages
    }
}

#[derive(Deserialize)]
struct Outline {
    book: BookTitle,
    handbook: Vec<Entry>,
    guide: Vec<Guide>,
    added: Vec<Entry>,
}

#[derive(Deserialize)]
pub(crate) struct BookTitle {
    pub(crate) heading: String,
    pub(crate) contents_heading: String,
    pub(crate) bonus_heading: String,
    pub(crate) description: String,
}

#[derive(Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) parent: String,
    pub(crate) kind: String,
}

#[derive(Deserialize)]
struct Guide {
    id: String,
}

/// Entries that are still owed, each with its line in `not-due.txt`.
pub(crate) struct NotDue(pub(crate) Vec<(usize, String)>);

impl NotDue {
    fn read(text: &str) -> NotDue {
        let lines = text.lines().enumerate().map(|(index, line)| {
            let id = line.split('#').next().unwrap_or_default().trim();
            (index + 1, id.to_owned())
        });
        NotDue(lines.filter(|(_, id)| !id.is_empty()).collect())
    }

    pub(crate) fn line_of(&self, id: &str) -> Option<usize> {
        let (line, _) = self.0.iter().find(|(_, owed)| owed == id)?;
        Some(*line)
    }
}

impl Handbook {
    pub(crate) fn load(root: &Path) -> Handbook {
        let book = root.join("handbook");
        let outline: Outline =
            toml::from_str(&fs::read_to_string(book.join("outline.toml")).unwrap()).unwrap();
        let mut entries = outline.handbook;
        entries.extend(outline.added);
        entries.sort_by_key(|entry| order(&entry.id));
        let config = Config::find(root).unwrap();
        let read = Book::read(&config, &[]).unwrap();
        let pages = read
            .pages
            .into_iter()
            .filter(|page| page.key != "handbook/README.md")
            .map(|page| {
                let recording = page
                    .recording
                    .as_ref()
                    .filter(|file| file.exists())
                    .map(|file| recording::parse(&fs::read_to_string(file).unwrap()).unwrap())
                    .unwrap_or_default();
                (page, recording)
            })
            .collect();
        let mut versions: Vec<Version> = config
            .python
            .iter()
            .map(|version| Version::from_str(version).unwrap())
            .collect();
        versions.sort();
        Handbook {
            root: root.to_path_buf(),
            title: outline.book,
            entries,
            guide: outline.guide.into_iter().map(|guide| guide.id).collect(),
            not_due: NotDue::read(
                &fs::read_to_string(book.join("not-due.txt")).unwrap_or_default(),
            ),
            pages,
            problems: read.problems,
            versions,
            packages: Packages::read(
                &fs::read_to_string(book.join("requirements.in")).unwrap_or_default(),
            ),
        }
    }

    /// The directory of the pages.
    pub(crate) fn directory(&self) -> PathBuf {
        self.root.join("handbook")
    }

    pub(crate) fn name_of(&self, file: &Path) -> String {
        file.strip_prefix(&self.root)
            .unwrap_or(file)
            .display()
            .to_string()
    }

    /// Where an entry's text stands: the directory of a chapter, the page of a section.
    pub(crate) fn file_of(&self, entry: &Entry) -> PathBuf {
        let chapter_of = |id: &str| {
            let chapter = self.entry(id).expect("a chapter");
            let number: u32 = chapter.id.parse().expect("chapters are numbers");
            self.directory()
                .join(format!("{number:02}-{}", ascii_slug(&chapter.title)))
        };
        match entry.kind.as_str() {
            "chapter" => chapter_of(&entry.id).join("README.md"),
            "section" => {
                let number: u32 = entry.id.rsplit('.').next().unwrap().parse().unwrap();
                chapter_of(&entry.parent)
                    .join(format!("{number:02}-{}.md", ascii_slug(&entry.title)))
            }
            "topic" => self.file_of(self.entry(&entry.parent).expect("a section")),
            _ => self
                .directory()
                .join("bonus")
                .join(format!("{}.md", ascii_slug(&entry.title))),
        }
    }

    pub(crate) fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    pub(crate) fn page_at(&self, file: &Path) -> Option<&(Page, Recording)> {
        self.pages.iter().find(|(page, _)| page.file == file)
    }

    pub(crate) fn needs(&self, example: &Example) -> Needs {
        let mut needs = Needs::Nothing;
        for need in &example.attributes.requires {
            match need {
                Need::Module(name) if !self.packages.names.contains(name) => {}
                Need::Module(_) if needs == Needs::Nothing => needs = Needs::Package,
                Need::Module(_) => {}
                Need::Program(_) | Need::Root => needs = Needs::Program,
            }
        }
        needs
    }

    /// Whether the book's packages are installed for a version.
    pub(crate) fn has_packages(&self, version: &Version) -> bool {
        let python = self.packages.python.as_ref();
        python.is_none_or(|python| python.contains(version))
    }

    /// What is claimed of an example wherever its needs are met.
    pub(crate) fn claim(&self, example: &Example, recording: &Recording) -> Claim {
        let attributes = &example.attributes;
        if attributes.skip.is_some() || attributes.norun.is_some() {
            return Claim::NotRun;
        }
        let on_some_version = self.versions.iter().any(|version| on(example, version));
        let relaxed = !attributes.normalize.is_empty() || attributes.unordered;
        let recorded = match &example.kind {
            Kind::Module(_) => recording.examples.iter().any(|it| it.id == example.id),
            Kind::Transcript(_) | Kind::Console(_) => true,
            Kind::File(_) => false,
        };
        match (recorded && on_some_version, relaxed) {
            (false, _) => Claim::Nothing,
            (true, false) => Claim::Exact,
            (true, true) => Claim::ByRule,
        }
    }
}

/// What has to be installed for an example, apart from a whole CPython.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Package,
    /// Or the rights of the superuser.
    Program,
}

/// What the gate holds an example to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Exact,
    /// Up to a named rule or the order of lines.
    ByRule,
    NotRun,
    /// Not recorded, or for none of the versions.
    Nothing,
}

impl Claim {
    pub(crate) fn is_proved(self) -> bool {
        matches!(self, Claim::Exact | Claim::ByRule)
    }
}

/// Whether an example is meant for a version.
pub(crate) fn on(example: &Example, version: &Version) -> bool {
    let python = example.attributes.python.as_ref();
    python.is_none_or(|python| python.contains(version))
}

/// Whether a machine with nothing but Python runs it.
pub(crate) fn runs_anywhere(example: &Example) -> bool {
    example.attributes.requires.is_empty()
}

/// Whether it counts as an example: a file is part of the one that uses it.
pub(crate) fn is_run(example: &Example) -> bool {
    !matches!(example.kind, Kind::File(_))
}

/// Chapters by number, the bonus part last.
fn order(id: &str) -> Vec<u32> {
    let (first, digits) = match id.strip_prefix('B') {
        Some(rest) => (Some(1000), rest),
        None => (None, id),
    };
    let numbers = digits.split('.').filter_map(|part| part.parse().ok());
    first.into_iter().chain(numbers).collect()
}

fn ascii_slug(title: &str) -> String {
    slug(&title.replace('_', " "))
}
