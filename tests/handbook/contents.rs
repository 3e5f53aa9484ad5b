//! What the handbook says about itself, computed from the outline, the pages and their recordings: the
//! table of contents, and the figures of page 1.1.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pep440_rs::Version;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use verify::book::Page;
use verify::example::Example;

use crate::checks::anchor_of;
use crate::handbook::{Claim, Handbook, Needs, is_run, on};

/// The entry whose page tells of the book, and the comments round what is generated there.
const ABOUT: &str = "1.1";
const BEGIN: &str = "<!-- figures: written by `UPDATE_CONTENTS=1 cargo test --test handbook` -->\n";
const END: &str = "<!-- end of figures -->\n";

/// Files that are generated, in whole or in part, with the text that they should have.
pub(crate) fn generated(handbook: &Handbook) -> Vec<(PathBuf, String)> {
    let mut files = vec![(handbook.directory().join("README.md"), contents(handbook))];
    let about = handbook.entry(ABOUT).map(|entry| handbook.file_of(entry));
    if let Some((page, _)) = about.and_then(|file| handbook.page_at(&file)) {
        let (before, after) = around_figures(&page.text);
        let text = format!("{before}{BEGIN}\n{}\n{END}{after}", figures(handbook));
        files.push((page.file.clone(), text));
    }
    files
}

/// The page without what is generated on it. A page that lacks the comments gets them at its end.
fn around_figures(page: &str) -> (&str, &str) {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    parts.unwrap_or((page, ""))
}

/// Examples by what is claimed of them.
#[derive(Default)]
struct Tally {
    pages: usize,
    words: usize,
    examples: usize,
    exact: usize,
    by_rule: usize,
    not_run: usize,
    needy: usize,
}

impl Tally {
    fn take(&mut self, handbook: &Handbook, page: &Page, recording: &verify::recording::Recording) {
        self.pages += 1;
        self.words += words(&page.text);
        for example in page.examples.iter().filter(|example| is_run(example)) {
            self.examples += 1;
            match handbook.claim(example, recording) {
                Claim::Exact => self.exact += 1,
                Claim::ByRule => self.by_rule += 1,
                Claim::NotRun | Claim::Nothing => self.not_run += 1,
            }
            if handbook.needs(example) != Needs::Nothing {
                self.needy += 1;
            }
        }
    }

    fn row(&self, name: &str) -> String {
        let cells = [
            self.pages,
            self.words,
            self.examples,
            self.exact,
            self.by_rule,
            self.not_run,
            self.needy,
        ];
        format!("| {name} | {} |\n", cells.map(thousands).join(" | "))
    }
}

fn figures(handbook: &Handbook) -> String {
    let mut chapters: BTreeMap<u32, Tally> = BTreeMap::new();
    let mut whole = Tally::default();
    for (page, recording) in &handbook.pages {
        let number = page.chapter.unwrap_or(u32::MAX);
        let chapter = chapters.entry(number).or_default();
        chapter.take(handbook, page, recording);
        whole.take(handbook, page, recording);
    }
    let mut text = format!(
        "The book has {} examples on {} pages, with {} words of prose around them. {} are compared to the last character, {} up to a named rule.\n\n",
        thousands(whole.examples),
        whole.pages,
        thousands(whole.words),
        thousands(whole.exact),
        whole.by_rule
    );
    text.push_str("| Chapter | Pages | Words | Examples | Exact | By a rule | Not run | Need more than Python |\n|---|--:|--:|--:|--:|--:|--:|--:|\n");
    for (number, tally) in &chapters {
        let title = handbook.entry(&number.to_string());
        let name = title.map_or_else(
            || "others".to_owned(),
            |entry| format!("{number} {}", entry.title),
        );
        text.push_str(&tally.row(&name));
    }
    text.push_str(&whole.row("all"));
    text.push_str("\nHow many of them are verified on which CPython, with nothing but Python, with the packages that `handbook/requirements.txt` pins, and with the programs that some ask for:\n\n| CPython | Python alone | and packages | and programs | Not on this version |\n|---|--:|--:|--:|--:|\n");
    for version in &handbook.versions {
        text.push_str(&version_row(handbook, version));
    }
    text
}

fn version_row(handbook: &Handbook, version: &Version) -> String {
    let (mut alone, mut packages, mut programs, mut elsewhere) = (0, 0, 0, 0);
    for (page, recording) in &handbook.pages {
        let proved = |example: &&Example| handbook.claim(example, recording).is_proved();
        for example in page.examples.iter().filter(proved) {
            match handbook.needs(example) {
                _ if !on(example, version) => elsewhere += 1,
                Needs::Nothing => alone += 1,
                Needs::Package if handbook.has_packages(version) => packages += 1,
                Needs::Package => elsewhere += 1,
                Needs::Program => programs += 1,
            }
        }
    }
    let packages = alone + packages;
    format!(
        "| {version} | {} | {} | {} | {elsewhere} |\n",
        thousands(alone),
        thousands(packages),
        thousands(packages + programs)
    )
}

/// Words outside of code, and outside of what is generated.
fn words(page: &str) -> usize {
    let (before, after) = around_figures(page);
    [before, after].into_iter().map(words_of_prose).sum()
}

fn words_of_prose(text: &str) -> usize {
    let options = Options::ENABLE_TABLES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut is_prose = true;
    let mut prose = String::new();
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::CodeBlock(_) | Tag::MetadataBlock(_)) => is_prose = false,
            Event::End(TagEnd::CodeBlock | TagEnd::MetadataBlock(_)) => is_prose = true,
            Event::Text(text) | Event::Code(text) if is_prose => prose.push_str(&text),
            Event::SoftBreak
            | Event::HardBreak
            | Event::End(
                TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::Item | TagEnd::TableCell,
            ) => prose.push('\n'),
            _ => {}
        }
    }
    prose.split_whitespace().count()
}

/// `1815` as `1,815`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn contents(handbook: &Handbook) -> String {
    let book = &handbook.title;
    let versions = &handbook.versions;
    let range = format!("{} to {}", versions[0], versions[versions.len() - 1]);
    let total: usize = handbook
        .pages
        .iter()
        .map(|(page, _)| proved(handbook, &page.file))
        .sum();
    let mut text = format!(
        "# {}\n\n{}\n\n{total} examples on {} pages are run and compared with what the pages show, on CPython {range}.\n\n## {}\n",
        book.heading,
        book.description,
        handbook.pages.len(),
        book.contents_heading
    );
    for entry in &handbook.entries {
        let file = handbook.file_of(entry);
        let path = file.strip_prefix(handbook.directory()).unwrap().display();
        let title = format!("{} {}", entry.id, entry.title);
        let link = |anchor: &str| match handbook.page_at(&file) {
            Some(_) => format!("[{title}]({path}{anchor})"),
            None => format!("{title} (to come)"),
        };
        let _ = match entry.kind.as_str() {
            "part" => write!(text, "\n## {}\n\n", book.bonus_heading),
            "chapter" => write!(text, "\n### {}\n\n", link("")),
            "topic" => writeln!(text, "  - {}", link(&format!("#{}", anchor_of(&title)))),
            _ => writeln!(
                text,
                "- {}{}",
                link(""),
                how_proved(handbook, &file, &range)
            ),
        };
    }
    text
}

/// Examples of a page that the gate compares with something.
fn proved(handbook: &Handbook, file: &Path) -> usize {
    let Some((page, recording)) = handbook.page_at(file) else {
        return 0;
    };
    let examples = page.examples.iter();
    examples
        .filter(|example| handbook.claim(example, recording).is_proved())
        .count()
}

/// How many examples a page has, and the versions on which they are proved.
fn how_proved(handbook: &Handbook, file: &Path, range: &str) -> String {
    let Some((page, _)) = handbook.page_at(file) else {
        return String::new();
    };
    let partly = page.examples.iter().any(|example| {
        !example.attributes.requires.is_empty() || example.attributes.python.is_some()
    });
    let partly = if partly {
        " (some need a newer version or a package)"
    } else {
        ""
    };
    format!(": {} examples, {range}{partly}", proved(handbook, file))
}
