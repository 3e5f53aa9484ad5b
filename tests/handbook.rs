//! Holds the handbook to its table of contents, `handbook/outline.toml`, and its pages to their own claims:
//! headings, front matter, links, pictures. What the examples do is for `verify` itself to prove.
//!
//! `handbook/README.md` is generated here: `UPDATE_CONTENTS=1 cargo test --test handbook` writes it.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a failure is told"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use verify::book::{Book, Page};
use verify::config::Config;
use verify::example::{Example, Kind, section_number, slug};
use verify::recording::{self, Recording};

/// An entry of the outline counts as covered with this many verified examples.
const ENOUGH: usize = 3;

const FRONT_MATTER: &[&str] = &[
    "title",
    "summary",
    "guide",
    "prerequisites",
    "requires",
    "since",
];

#[derive(Deserialize)]
struct Outline {
    book: BookTitle,
    handbook: Vec<Entry>,
    guide: Vec<Guide>,
    added: Vec<Added>,
}

#[derive(Deserialize)]
struct BookTitle {
    heading: String,
    contents_heading: String,
    bonus_heading: String,
    description: String,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    title: String,
    parent: String,
    kind: String,
}

#[derive(Deserialize)]
struct Guide {
    id: String,
}

#[derive(Deserialize)]
struct Added {
    id: String,
    title: String,
    parent: String,
    kind: String,
}

struct Handbook {
    outline: Outline,
    /// Outline and added entries, in the order of their numbers.
    entries: Vec<Entry>,
    not_due: BTreeSet<String>,
    pages: Vec<(Page, Recording)>,
    versions: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("handbook")
}

fn load() -> Handbook {
    let outline: Outline =
        toml::from_str(&fs::read_to_string(root().join("outline.toml")).unwrap()).unwrap();
    let not_due = fs::read_to_string(root().join("not-due.txt")).unwrap_or_default();
    let not_due = not_due
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let mut entries: Vec<Entry> = outline
        .handbook
        .iter()
        .map(|entry| (&entry.id, &entry.title, &entry.parent, &entry.kind))
        .chain(
            outline
                .added
                .iter()
                .map(|entry| (&entry.id, &entry.title, &entry.parent, &entry.kind)),
        )
        .map(|(id, title, parent, kind)| Entry {
            id: id.clone(),
            title: title.clone(),
            parent: parent.clone(),
            kind: kind.clone(),
        })
        .collect();
    entries.sort_by_key(|entry| order(&entry.id));
    let config = Config::find(&root()).unwrap();
    let book = Book::read(&config, &[]).unwrap();
    assert_eq!(book.problems, []);
    let pages = book
        .pages
        .into_iter()
        .filter(|page| page.file != root().join("README.md"))
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
    Handbook {
        outline,
        entries,
        not_due,
        pages,
        versions: config.python,
    }
}

/// Chapters by number, the bonus part last.
fn order(id: &str) -> Vec<u32> {
    let (bonus, digits) = match id.strip_prefix('B') {
        Some(rest) => (1000, rest),
        None => (0, id),
    };
    let mut key: Vec<u32> = digits
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    if bonus > 0 {
        key.insert(0, bonus);
    }
    key
}

/// Where an entry's text stands: the directory of a chapter, the page of a section.
fn file_of(handbook: &Handbook, entry: &Entry) -> PathBuf {
    let chapter_of = |id: &str| {
        let chapter = handbook
            .entries
            .iter()
            .find(|entry| entry.id == id)
            .expect("a chapter");
        let number: u32 = chapter.id.parse().expect("chapters are numbers");
        root().join(format!("{number:02}-{}", ascii_slug(&chapter.title)))
    };
    match entry.kind.as_str() {
        "chapter" => chapter_of(&entry.id).join("README.md"),
        "section" => {
            let number: u32 = entry.id.rsplit('.').next().unwrap().parse().unwrap();
            chapter_of(&entry.parent).join(format!("{number:02}-{}.md", ascii_slug(&entry.title)))
        }
        "topic" => {
            let parent = handbook
                .entries
                .iter()
                .find(|other| other.id == entry.parent)
                .unwrap();
            file_of(handbook, parent)
        }
        _ => root()
            .join("bonus")
            .join(format!("{}.md", ascii_slug(&entry.title))),
    }
}

fn ascii_slug(title: &str) -> String {
    slug(&title.replace('_', " "))
}

fn page_at<'a>(handbook: &'a Handbook, file: &Path) -> Option<&'a (Page, Recording)> {
    handbook.pages.iter().find(|(page, _)| page.file == file)
}

fn name_of(file: &Path) -> String {
    file.strip_prefix(root())
        .unwrap_or(file)
        .display()
        .to_string()
}

/// An example counts if the gate compares it with something.
fn is_verified(example: &Example, recording: &Recording) -> bool {
    let attributes = &example.attributes;
    if attributes.skip.is_some() || attributes.norun.is_some() {
        return false;
    }
    match &example.kind {
        Kind::Module(_) => recording
            .examples
            .iter()
            .any(|recorded| recorded.id == example.id),
        Kind::Transcript(_) | Kind::Console(_) => true,
        Kind::File(_) => false,
    }
}

fn is_within(section: Option<&str>, id: &str) -> bool {
    section.is_some_and(|section| section == id || section.starts_with(&format!("{id}.")))
}

fn verified(handbook: &Handbook, entry: &Entry) -> usize {
    let Some((page, recording)) = page_at(handbook, &file_of(handbook, entry)) else {
        return 0;
    };
    page.examples
        .iter()
        .filter(|example| entry.kind != "topic" || is_within(example.section.as_deref(), &entry.id))
        .filter(|example| is_verified(example, recording))
        .count()
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_entry_that_is_due_has_its_heading_and_its_examples() {
    let handbook = load();
    let mut faults = Vec::new();
    for entry in handbook.entries.iter().filter(|entry| entry.kind != "part") {
        let file = file_of(&handbook, entry);
        let heading = format!("{} {}", entry.id, entry.title);
        let page = page_at(&handbook, &file);
        let has_heading =
            page.is_some_and(|(page, _)| page.headings.iter().any(|found| found.text == heading));
        let enough = entry.kind == "chapter" || verified(&handbook, entry) >= ENOUGH;
        match (has_heading && enough, handbook.not_due.contains(&entry.id)) {
            (true, true) => faults.push(format!("{}: take it off not-due.txt", entry.id)),
            (false, false) if !has_heading => {
                faults.push(format!("{}: no heading `{heading}`", name_of(&file)));
            }
            (false, false) => faults.push(format!(
                "{}: {} has {} verified examples; {ENOUGH} are needed",
                name_of(&file),
                entry.id,
                verified(&handbook, entry)
            )),
            _ => {}
        }
    }
    for id in &handbook.not_due {
        if !handbook.entries.iter().any(|entry| entry.id == *id) {
            faults.push(format!("not-due.txt: `{id}` is not in the outline"));
        }
    }
    none(&faults);
}

#[test]
fn every_numbered_heading_is_in_the_outline() {
    let handbook = load();
    let mut faults = Vec::new();
    for (page, _) in &handbook.pages {
        for heading in &page.headings {
            let Some(number) = section_number(&heading.text) else {
                continue;
            };
            let known = handbook.entries.iter().any(|entry| {
                heading.text == format!("{} {}", entry.id, entry.title)
                    && file_of(&handbook, entry) == page.file
            });
            if !known {
                faults.push(format!(
                    "{}:{}: `{}` is not the outline's {number}",
                    name_of(&page.file),
                    heading.line,
                    heading.text
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn front_matter_is_complete_and_known() {
    let handbook = load();
    let guide: BTreeSet<&str> = handbook
        .outline
        .guide
        .iter()
        .map(|guide| guide.id.as_str())
        .collect();
    let mut faults = Vec::new();
    for (page, _) in &handbook.pages {
        let name = name_of(&page.file);
        let Some(matter) = &page.front_matter else {
            faults.push(format!("{name}:1: no front matter"));
            continue;
        };
        let mut seen = BTreeSet::new();
        for (index, line) in matter.text.lines().enumerate() {
            let at = format!("{name}:{}", matter.line + index);
            let Some((key, value)) = line.split_once(':') else {
                faults.push(format!("{at}: `{line}` is not `key: value`"));
                continue;
            };
            let value = value.trim();
            if !FRONT_MATTER.contains(&key) {
                faults.push(format!("{at}: unknown key `{key}`"));
            }
            if !seen.insert(key.to_owned()) {
                faults.push(format!("{at}: `{key}` stands twice"));
            }
            match key {
                "title" => {
                    let title = value.trim_matches('"');
                    let first = page
                        .headings
                        .first()
                        .map(|heading| heading.text.clone())
                        .unwrap_or_default();
                    let (_, heading) = first.split_once(' ').unwrap_or_default();
                    if heading != title {
                        faults.push(format!("{at}: the heading says `{heading}`"));
                    }
                }
                "guide" => {
                    for id in list(value) {
                        if !guide.contains(id) {
                            faults.push(format!("{at}: `{id}` is not an entry of the guide"));
                        }
                    }
                }
                "prerequisites" => {
                    for id in list(value) {
                        if !handbook.entries.iter().any(|entry| entry.id == id) {
                            faults.push(format!("{at}: `{id}` is not an entry of the outline"));
                        }
                    }
                }
                _ => {}
            }
        }
        for key in FRONT_MATTER {
            if !seen.contains(*key) {
                faults.push(format!("{name}:1: front matter lacks `{key}`"));
            }
        }
    }
    none(&faults);
}

fn list(value: &str) -> Vec<&str> {
    value
        .trim_matches(['[', ']'])
        .split(',')
        .map(|item| item.trim().trim_matches('"'))
        .filter(|item| !item.is_empty())
        .collect()
}

#[test]
fn links_and_pictures_lead_somewhere() {
    let handbook = load();
    // A page that is still owed may be linked already.
    let owed: BTreeSet<PathBuf> = handbook
        .entries
        .iter()
        .filter(|entry| {
            handbook.not_due.contains(&entry.id) && entry.kind != "topic" && entry.kind != "part"
        })
        .map(|entry| file_of(&handbook, entry))
        .collect();
    let mut faults = Vec::new();
    for (page, _) in &handbook.pages {
        for (offset, target) in links(&page.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let line = page.text[..offset].matches('\n').count() + 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() {
                page.file.clone()
            } else {
                normal(&page.file.parent().unwrap().join(path))
            };
            if owed.contains(&file) {
                continue;
            }
            if !file.exists() {
                faults.push(format!(
                    "{}:{line}: `{target}` leads nowhere",
                    name_of(&page.file)
                ));
                continue;
            }
            let Some((target_page, _)) = page_at(&handbook, &file).filter(|_| !anchor.is_empty())
            else {
                continue;
            };
            if !target_page
                .headings
                .iter()
                .any(|heading| anchor_of(&heading.text) == anchor)
            {
                faults.push(format!(
                    "{}:{line}: `{target}` names no heading there",
                    name_of(&page.file)
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_page_has_examples() {
    let handbook = load();
    let empty: Vec<String> = handbook
        .pages
        .iter()
        .filter(|(page, _)| page.examples.is_empty())
        .map(|(page, _)| format!("{}: no example", name_of(&page.file)))
        .collect();
    none(&empty);
}

#[test]
fn the_contents_are_those_of_the_outline() {
    let handbook = load();
    let contents = contents(&handbook);
    let file = root().join("README.md");
    if std::env::var_os("UPDATE_CONTENTS").is_some() {
        fs::write(&file, &contents).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == contents,
        "handbook/README.md is not what the outline and the pages say; write it with `UPDATE_CONTENTS=1 cargo test --test handbook`"
    );
}

fn contents(handbook: &Handbook) -> String {
    let book = &handbook.outline.book;
    let mut oldest = handbook.versions.clone();
    oldest.sort_by_key(|version| order(version));
    let range = format!("{} to {}", oldest[0], oldest[oldest.len() - 1]);
    let total: usize = handbook
        .pages
        .iter()
        .map(|(page, recording)| {
            page.examples
                .iter()
                .filter(|example| is_verified(example, recording))
                .count()
        })
        .sum();
    let mut text = format!(
        "# {}\n\n{}\n\n{total} examples on {} pages are run and compared with what the pages show, on CPython {range}.\n\n## {}\n",
        book.heading,
        book.description,
        handbook.pages.len(),
        book.contents_heading
    );
    let mut counts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (page, recording) in &handbook.pages {
        let count = page
            .examples
            .iter()
            .filter(|example| is_verified(example, recording))
            .count();
        counts.insert(page.file.clone(), count);
    }
    for entry in &handbook.entries {
        let file = file_of(handbook, entry);
        let link = match page_at(handbook, &file) {
            Some(_) => format!("[{} {}]({})", entry.id, entry.title, name_of(&file)),
            None => format!("{} {} (to come)", entry.id, entry.title),
        };
        let count = counts.get(&file).copied().unwrap_or(0);
        let proved = if count > 0 {
            format!(": {count} examples, {}", versions(handbook, &file, &range))
        } else {
            String::new()
        };
        let _ = match entry.kind.as_str() {
            "part" => write!(text, "\n## {}\n\n", book.bonus_heading),
            "chapter" => write!(text, "\n### {link}\n\n"),
            "topic" => {
                let anchor = anchor_of(&format!("{} {}", entry.id, entry.title));
                let title = format!("{} {}", entry.id, entry.title);
                match page_at(handbook, &file) {
                    Some(_) => writeln!(text, "  - [{title}]({}#{anchor})", name_of(&file)),
                    None => writeln!(text, "  - {title} (to come)"),
                }
            }
            _ => writeln!(text, "- {link}{proved}"),
        };
    }
    text
}

/// The versions on which a page is proved: a page that needs packages starts at 3.11.
fn versions(handbook: &Handbook, file: &Path, range: &str) -> String {
    let Some((page, _)) = page_at(handbook, file) else {
        return String::new();
    };
    let partly = page.examples.iter().any(|example| {
        !example.attributes.requires.is_empty() || example.attributes.python.is_some()
    });
    if partly {
        format!("{range} (some need a newer version or a package)")
    } else {
        range.to_owned()
    }
}

/// GitHub's anchor of a heading.
fn anchor_of(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Targets of links and pictures with where they stand.
fn links(page: &str) -> Vec<(usize, String)> {
    use pulldown_cmark::{Event, Options, Parser, Tag};
    let options = Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    Parser::new_ext(page, options)
        .into_offset_iter()
        .filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((range.start, dest_url.into_string()))
            }
            _ => None,
        })
        .collect()
}

fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}
