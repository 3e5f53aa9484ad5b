//! What is asked of a handbook. Each check returns its faults, all of them, as `page:line: what is wrong`.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag};
use verify::book::Page;
use verify::example::section_number;

use crate::handbook::{Entry, Handbook, runs_anywhere};

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

/// What `verify` itself finds wrong before it runs anything.
pub(crate) fn authoring(handbook: &Handbook) -> Vec<String> {
    let problems = handbook.problems.iter().map(|problem| {
        // Book names pages as seen from the current directory.
        let page = handbook.name_of(Path::new(&problem.page));
        let message = &problem.message;
        format!("{page}:{}: {message}", problem.line.unwrap_or(1))
    });
    problems.collect()
}

pub(crate) fn entries(handbook: &Handbook) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in handbook.entries.iter().filter(|entry| entry.kind != "part") {
        let file = handbook.file_of(entry);
        let name = handbook.name_of(&file);
        let heading = format!("{} {}", entry.id, entry.title);
        let line = handbook.page_at(&file).and_then(|(page, _)| {
            let found = page.headings.iter().find(|found| found.text == heading)?;
            Some(found.line)
        });
        let verified = verified(handbook, entry);
        let is_covered = line.is_some() && (entry.kind == "chapter" || verified >= ENOUGH);
        match (handbook.not_due.line_of(&entry.id), line) {
            (Some(owed), _) if is_covered => faults.push(not_due(
                owed,
                &format!("`{}` is written: take it off", entry.id),
            )),
            // The list only shrinks: a page comes whole, and what has a page never goes back.
            (Some(owed), _) if handbook.page_at(&file).is_some() => faults.push(not_due(
                owed,
                &format!("`{}` is due, since `{name}` exists: take it off", entry.id),
            )),
            (None, None) => faults.push(format!("{name}:1: no heading `{heading}`")),
            (None, Some(line)) if !is_covered => faults.push(format!(
                "{name}:{line}: {} has {verified} verified examples that run on a plain machine; {ENOUGH} are needed",
                entry.id
            )),
            _ => {}
        }
    }
    for (line, id) in &handbook.not_due.0 {
        if handbook.entry(id).is_none() {
            faults.push(not_due(*line, &format!("`{id}` is not in the outline")));
        }
    }
    faults
}

fn not_due(line: usize, message: &str) -> String {
    format!("handbook/not-due.txt:{line}: {message}")
}

/// Examples below an entry's heading that the gate compares with something, on a machine that has nothing
/// but Python.
fn verified(handbook: &Handbook, entry: &Entry) -> usize {
    let Some((page, recording)) = handbook.page_at(&handbook.file_of(entry)) else {
        return 0;
    };
    page.examples
        .iter()
        .filter(|example| entry.kind != "topic" || is_within(example.section.as_deref(), &entry.id))
        .filter(|example| runs_anywhere(example))
        .filter(|example| handbook.claim(example, recording).is_proved())
        .count()
}

fn is_within(section: Option<&str>, id: &str) -> bool {
    section.is_some_and(|section| section == id || section.starts_with(&format!("{id}.")))
}

pub(crate) fn headings(handbook: &Handbook) -> Vec<String> {
    let mut faults = Vec::new();
    for (page, _) in &handbook.pages {
        for heading in &page.headings {
            let Some(number) = section_number(&heading.text) else {
                continue;
            };
            let known = handbook.entries.iter().any(|entry| {
                heading.text == format!("{} {}", entry.id, entry.title)
                    && handbook.file_of(entry) == page.file
            });
            if !known {
                faults.push(format!(
                    "{}:{}: `{}` is not the outline's {number}",
                    page.key, heading.line, heading.text
                ));
            }
        }
    }
    faults
}

pub(crate) fn front_matter(handbook: &Handbook) -> Vec<String> {
    let mut faults = Vec::new();
    for (page, _) in &handbook.pages {
        let name = &page.key;
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
            if !FRONT_MATTER.contains(&key) {
                faults.push(format!("{at}: unknown key `{key}`"));
            }
            if !seen.insert(key) {
                faults.push(format!("{at}: `{key}` stands twice"));
            }
            let wrong = wrong_values(handbook, page, key, value.trim());
            faults.extend(wrong.iter().map(|fault| format!("{at}: {fault}")));
        }
        for key in FRONT_MATTER.iter().filter(|key| !seen.contains(*key)) {
            faults.push(format!("{name}:1: front matter lacks `{key}`"));
        }
    }
    faults
}

fn wrong_values(handbook: &Handbook, page: &Page, key: &str, value: &str) -> Vec<String> {
    match key {
        "title" => {
            let first = page.headings.first().map(|heading| heading.text.as_str());
            let (_, heading) = first
                .unwrap_or_default()
                .split_once(' ')
                .unwrap_or_default();
            if heading == value.trim_matches('"') {
                return Vec::new();
            }
            vec![format!("the heading says `{heading}`")]
        }
        "guide" => list(value)
            .filter(|id| !handbook.guide.contains(*id))
            .map(|id| format!("`{id}` is not an entry of the guide"))
            .collect(),
        "prerequisites" => list(value)
            .filter(|id| handbook.entry(id).is_none())
            .map(|id| format!("`{id}` is not an entry of the outline"))
            .collect(),
        _ => Vec::new(),
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .trim_matches(['[', ']'])
        .split(',')
        .map(|item| item.trim().trim_matches('"'))
        .filter(|item| !item.is_empty())
}

pub(crate) fn links(handbook: &Handbook) -> Vec<String> {
    // A page that is still owed may be linked already.
    let owed: BTreeSet<PathBuf> = handbook
        .entries
        .iter()
        .filter(|entry| handbook.not_due.line_of(&entry.id).is_some())
        .filter(|entry| entry.kind != "topic" && entry.kind != "part")
        .map(|entry| handbook.file_of(entry))
        .collect();
    let mut faults = Vec::new();
    for (page, _) in &handbook.pages {
        for (offset, target) in targets(&page.text) {
            let line = page.text[..offset].matches('\n').count() + 1;
            let fault = match target {
                Target::Link(target) => dead(handbook, page, &target, &owed),
                Target::Html => {
                    Some("write links and pictures in Markdown: only those are checked".to_owned())
                }
            };
            faults.extend(fault.map(|fault| format!("{}:{line}: {fault}", page.key)));
        }
    }
    faults
}

/// What is wrong with a link, if anything is.
fn dead(
    handbook: &Handbook,
    page: &Page,
    target: &str,
    owed: &BTreeSet<PathBuf>,
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() {
        page.file.clone()
    } else {
        normal(&page.file.parent().unwrap().join(path))
    };
    if owed.contains(&file) {
        return None;
    }
    if !file.exists() {
        return Some(format!("`{target}` leads nowhere"));
    }
    let (there, _) = handbook.page_at(&file).filter(|_| !anchor.is_empty())?;
    let is_known = |text: &str| anchor_of(text) == anchor;
    if there.headings.iter().any(|heading| is_known(&heading.text)) {
        return None;
    }
    Some(format!("`{target}` names no heading there"))
}

enum Target {
    Link(String),
    /// A tag that leads somewhere unseen.
    Html,
}

/// Targets of links and pictures with where they stand.
fn targets(page: &str) -> Vec<(usize, Target)> {
    let options = Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    Parser::new_ext(page, options)
        .into_offset_iter()
        .filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((range.start, Target::Link(dest_url.into_string())))
            }
            Event::Html(text) | Event::InlineHtml(text) => {
                let leads = text.contains("<img") || text.contains("<a ");
                leads.then_some((range.start, Target::Html))
            }
            _ => None,
        })
        .collect()
}

pub(crate) fn examples(handbook: &Handbook) -> Vec<String> {
    let pages = handbook.pages.iter();
    pages
        .filter(|(page, _)| page.examples.is_empty())
        .map(|(page, _)| {
            let line = page.headings.first().map_or(1, |heading| heading.line);
            format!("{}:{line}: no example on this page", page.key)
        })
        .collect()
}

/// GitHub's anchor of a heading.
pub(crate) fn anchor_of(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
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
