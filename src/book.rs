//! The page tree: finds and reads pages, knows their chapters, and selects examples.
//!
//! All reading of pages happens here.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};
use walkdir::WalkDir;

use crate::attributes::nearest;
use crate::config::{self, Config, Place};
use crate::example::{self, Example, Kind, OtherBlock, section_number};
use crate::legible::one_line;
use crate::markdown::{self, FrontMatter, Heading};

const EXTENSIONS: &[&str] = &["md", "markdown"];

/// Directories that hold other people's Markdown or none at all.
const PASSED_OVER: &[&str] = &[
    "node_modules",
    "target",
    "__pycache__",
    "site-packages",
    "venv",
];

/// Where an example stands: which page of the book, and which example of the page.
pub type At = (usize, usize);

/// A page with its examples.
#[derive(Debug)]
pub struct Page {
    /// As a person would type it: relative to the current directory where that is shorter.
    pub name: String,
    /// Relative to the project's root: the same wherever the command was typed.
    pub key: String,
    pub file: PathBuf,
    /// Where its recording is, whether it exists or not; `None` for pages that have none.
    pub recording: Option<PathBuf>,
    pub text: String,
    pub examples: Vec<Example>,
    pub others: Vec<OtherBlock>,
    pub headings: Vec<Heading>,
    pub front_matter: Option<FrontMatter>,
    /// From a directory such as `07-advanced`.
    pub chapter: Option<u32>,
}

/// A mistake in a page, with everything a person needs to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub page: String,
    /// `None` where the whole file is meant.
    pub line: Option<usize>,
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (page, message) = (one_line(&self.page), one_line(&self.message));
        match self.line {
            Some(line) => write!(formatter, "{page}:{line}: {message}"),
            None => write!(formatter, "{page}: {message}"),
        }
    }
}

/// A page as it lies on disk.
#[derive(Debug)]
pub struct Source {
    /// As [`Page::name`].
    pub name: String,
    /// As [`Page::key`].
    pub key: String,
    pub file: PathBuf,
    /// As [`Page::recording`].
    pub recording: Option<PathBuf>,
    pub bytes: Vec<u8>,
}

/// A page that was not looked into, since all of it is known already.
#[derive(Debug)]
pub struct Unread {
    pub name: String,
    pub key: String,
    pub recording: Option<PathBuf>,
    /// So many of the book's pages stand before it.
    pub before: usize,
}

#[derive(Debug)]
pub struct Book {
    pub pages: Vec<Page>,
    /// In page order.
    pub unread: Vec<Unread>,
    /// Those that were looked through for pages, whether they have any or not.
    pub directories: Vec<PathBuf>,
    pub problems: Vec<Problem>,
}

impl Book {
    /// Reads the pages at `paths`, or the configured ones if there are none.
    pub fn read(config: &Config, paths: &[PathBuf]) -> Result<Book> {
        Book::read_where(config, paths, &mut |_| true)
    }

    /// Reads those pages for which `is_wanted`; the others stay unread.
    pub fn read_where(
        config: &Config,
        paths: &[PathBuf],
        is_wanted: &mut dyn FnMut(&Source) -> bool,
    ) -> Result<Book> {
        let here = std::env::current_dir()
            .and_then(|path| path.canonicalize())
            .unwrap_or_default();
        let Found {
            files,
            directories,
            mut problems,
        } = find(config, paths, &here)?;
        let (mut pages, mut unread) = (Vec::new(), Vec::new());
        let recordings = RecordingTree::new(config);
        for file in files {
            let name = display_name(&file, &here);
            let bytes = match fs::read(&file) {
                Ok(bytes) => bytes,
                Err(error) => {
                    problems.push(Problem {
                        page: name,
                        line: None,
                        message: unreadable(&error),
                    });
                    continue;
                }
            };
            let source = Source {
                key: display_name(&file, &config.root),
                recording: recordings.as_ref().and_then(|tree| tree.path(&file)),
                name,
                file,
                bytes,
            };
            if !is_wanted(&source) {
                unread.push(Unread {
                    name: source.name,
                    key: source.key,
                    recording: source.recording,
                    before: pages.len(),
                });
                continue;
            }
            match parse_page(config, source) {
                Ok((page, page_problems)) => {
                    pages.push(page);
                    problems.extend(page_problems);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let mut book = Book {
            pages,
            unread,
            directories,
            problems,
        };
        let shared = book.shared_recordings();
        book.problems.extend(shared);
        let shared = book.shared_artifacts();
        book.problems.extend(shared);
        Ok(book)
    }

    /// Reads one page again, and returns what it was before, with the mistakes of what it is now. Where it cannot be read,
    /// it stays as it was.
    pub fn read_again(
        &mut self,
        config: &Config,
        number: usize,
    ) -> Result<(Page, Vec<Problem>), Problem> {
        let page = &mut self.pages[number];
        let source = match fs::read(&page.file) {
            Ok(bytes) => Source {
                name: page.name.clone(),
                key: page.key.clone(),
                file: page.file.clone(),
                recording: page.recording.clone(),
                bytes,
            },
            Err(error) => {
                return Err(Problem {
                    page: page.name.clone(),
                    line: None,
                    message: unreadable(&error),
                });
            }
        };
        let (read, problems) = parse_page(config, source)?;
        Ok((std::mem::replace(page, read), problems))
    }

    /// Where the recordings of all pages are.
    pub fn recordings(&self) -> impl Iterator<Item = &PathBuf> {
        self.recorded().map(|(recording, _)| recording)
    }

    /// Directories that were looked through and hold no page, however deep, the upper ones first; each with the place of
    /// its pages' recordings. What should be in them may be missing, but for the root, which its `verify.toml` is in.
    pub fn unfilled(&self, config: &Config) -> Vec<(PathBuf, PathBuf)> {
        let Some(tree) = RecordingTree::new(config) else {
            return Vec::new();
        };
        let directories = self.directories.iter();
        directories
            .filter(|directory| **directory != config.root)
            .filter_map(|directory| Some((directory.clone(), tree.place(directory)?)))
            .filter(|(_, place)| !self.recordings().any(|file| file.starts_with(place)))
            .collect()
    }

    /// Recordings with the names of their pages, the unread ones first.
    fn recorded(&self) -> impl Iterator<Item = (&PathBuf, &String)> {
        let unread = self.unread.iter();
        let unread = unread.map(|page| (&page.recording, &page.name));
        let read = self.pages.iter().map(|page| (&page.recording, &page.name));
        let all = unread.chain(read);
        all.filter_map(|(recording, name)| Some((recording.as_ref()?, name)))
    }

    /// `a.md` and `a.markdown` would write over each other's recording.
    fn shared_recordings(&self) -> Vec<Problem> {
        let mut first: HashMap<&Path, &str> = HashMap::new();
        let mut problems = Vec::new();
        for (recording, name) in self.recorded() {
            if let Some(other) = first.insert(recording, name) {
                problems.push(Problem {
                    page: name.clone(),
                    line: None,
                    message: format!(
                        "`{other}` has the same name, and so the same recording: rename one of them or name it in `exclude`"
                    ),
                });
            }
        }
        problems
    }

    /// Two artifacts, or one and the recording of a page below, may be kept in the same place. Pages with artifacts are
    /// never left unread.
    fn shared_artifacts(&self) -> Vec<Problem> {
        let mut examples = self.pages.iter().flat_map(|page| &page.examples);
        if examples.all(|example| example.attributes.artifacts.is_empty()) {
            return Vec::new();
        }
        let mut taken: HashMap<PathBuf, String> = self
            .recorded()
            .map(|(recording, name)| (recording.clone(), format!("the recording of `{name}`")))
            .collect();
        let mut problems = Vec::new();
        for page in &self.pages {
            let Some(recording) = &page.recording else {
                continue;
            };
            for example in &page.examples {
                let (line, attributes) = (example.block.line, &example.attributes);
                if attributes.skip.is_some() || attributes.norun.is_some() {
                    continue;
                }
                for name in &attributes.artifacts {
                    let that = format!("`{name}` of {}:{line}", page.name);
                    if let Some(other) = taken.insert(artifact_path(recording, name), that) {
                        problems.push(Problem {
                            page: page.name.clone(),
                            line: Some(line),
                            message: format!(
                                "`artifact={name}` would be kept in the same place as {other}: give the file another name"
                            ),
                        });
                    }
                }
            }
        }
        problems
    }
}

/// Where the expected bytes of an artefact are kept: beside the recording, in a directory of its name.
pub fn artifact_path(recording: &Path, name: &str) -> PathBuf {
    recording.with_extension("").join(name)
}

/// A path as a person would type it.
pub fn display_name(file: &Path, here: &Path) -> String {
    file.strip_prefix(here)
        .unwrap_or(file)
        .to_string_lossy()
        .into_owned()
}

/// What a search for pages came across.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    problems: Vec<Problem>,
}

fn find(config: &Config, paths: &[PathBuf], here: &Path) -> Result<Found> {
    let mut starts = Vec::new();
    if paths.is_empty() {
        for (start, path) in config.starts().zip(&config.pages) {
            if !start.exists() {
                bail!(
                    "`pages` names `{}`, which does not exist in `{}`; make it, or correct `verify.toml`",
                    path.display(),
                    config.root.display()
                );
            }
            starts.push(start);
        }
    } else {
        for path in paths {
            if !path.exists() {
                bail!("`{}` does not exist", path.display());
            }
            starts.push(Place::of(path)?.path);
        }
    }
    let mut found = Found::default();
    for start in starts {
        if start.is_file() {
            found.files.push(start);
            continue;
        }
        let entries = WalkDir::new(&start)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| {
                entry.depth() == 0
                    || !(is_unread(config, entry.path())
                        || entry.file_type().is_dir() && is_of_others(entry.path()))
            });
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_file() && is_page(entry.path()) => {
                    found.files.push(entry.into_path());
                }
                Ok(entry) if entry.file_type().is_dir() => {
                    found.directories.push(entry.into_path());
                }
                Ok(_) => {}
                Err(error) if error.path().is_some_and(|path| is_no_page(config, path)) => {}
                Err(error) => {
                    let what = match error.loop_ancestor() {
                        Some(above) => {
                            let above = match display_name(above, here) {
                                name if name.is_empty() => ".".to_owned(),
                                name => name,
                            };
                            format!(
                                "this link leads back to `{above}`: remove it or name it in `exclude`"
                            )
                        }
                        None => match error.io_error() {
                            Some(cause) => unreadable(cause),
                            None => error.to_string(),
                        },
                    };
                    let page = display_name(error.path().unwrap_or(&start), here);
                    found.problems.push(Problem {
                        page,
                        line: None,
                        message: what,
                    });
                }
            }
        }
    }
    found.files.sort_by_cached_key(|file| reading_order(file));
    found.files.dedup();
    Ok(found)
}

/// Whether nobody misses what could not be read: it is excluded, or a link to nowhere that is no page and, as far as
/// is recorded, no directory of pages.
fn is_no_page(config: &Config, path: &Path) -> bool {
    let has_recordings = || {
        let place = RecordingTree::new(config).and_then(|tree| tree.place(path));
        place.is_some_and(|place| place.is_dir())
    };
    let leads_nowhere = path.is_symlink() && !path.exists();
    is_unread(config, path) || (leads_nowhere && !is_page(path) && !has_recordings())
}

/// A directory's `README.md` or `index.md` opens it; the rest follows by name.
fn reading_order(file: &Path) -> Vec<(u8, String)> {
    file.components()
        .map(|component| {
            let name = component.as_os_str().to_string_lossy().into_owned();
            let opens = matches!(name.to_ascii_lowercase().as_str(), "readme.md" | "index.md");
            (u8::from(!opens), name)
        })
        .collect()
}

/// Whether a file is a page by its name.
pub fn is_page(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

fn is_unread(config: &Config, path: &Path) -> bool {
    let Some(name) = path.file_name().map(|name| name.to_string_lossy()) else {
        return false;
    };
    let below_root = path.strip_prefix(&config.root).ok();
    name.starts_with('.')
        || PASSED_OVER.contains(&name.as_ref())
        || config.exclude.iter().any(|excluded| {
            *excluded == name
                || below_root.is_some_and(|path| path.starts_with(excluded.trim_end_matches('/')))
        })
}

/// Whether a directory is another project, whose pages and recordings it keeps itself, or an environment with packages.
fn is_of_others(directory: &Path) -> bool {
    config::is_project(directory) || directory.join("pyvenv.cfg").is_file()
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read, the system says `{error}`: make it readable, or name it in `exclude`")
}

fn parse_page(config: &Config, source: Source) -> Result<(Page, Vec<Problem>), Problem> {
    let Source {
        name,
        key,
        file,
        recording,
        bytes,
    } = source;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Problem {
            page: name.clone(),
            line: Some(1 + valid.iter().filter(|&&byte| byte == b'\n').count()),
            message: "this is not UTF-8: save the page in that encoding".to_owned(),
        }
    })?;
    let stem = file
        .file_stem()
        .map(|stem| example::slug(&stem.to_string_lossy()))
        .unwrap_or_default();
    let document = markdown::parse(&text);
    let (found, mut problems) = example::find(&document, &text, &stem);
    problems.extend(uncompared_outputs(config, &found.examples));
    problems.sort_by_key(|problem| problem.line);
    let problems = problems
        .into_iter()
        .map(|found| Problem {
            page: name.clone(),
            line: Some(found.line),
            message: found.message,
        })
        .collect();
    let page = Page {
        chapter: chapter(config, &file),
        recording,
        key,
        name,
        file,
        examples: found.examples,
        others: found.others,
        headings: document.headings,
        front_matter: document.front_matter,
        text,
    };
    Ok((page, problems))
}

/// Blocks of output below examples that run and have their expectations elsewhere: nobody would look at them.
fn uncompared_outputs<'e>(
    config: &'e Config,
    examples: &'e [Example],
) -> impl Iterator<Item = example::Problem> + 'e {
    let runs = |example: &&Example| {
        let attributes = &example.attributes;
        let is_passed_over = matches!(example.kind, Kind::Console(_)) && !config.console;
        attributes.skip.is_none() && attributes.norun.is_none() && !is_passed_over
    };
    examples.iter().filter(runs).filter_map(|example| {
        let instead = match &example.kind {
            Kind::Module(_) => return None,
            Kind::Transcript(_) => "what a transcript prints stands in it, below its `>>>` lines",
            Kind::Console(_) => "what a console block prints stands in it, below its `$ ` lines",
            Kind::File(_) => {
                "a file prints nothing before another example runs it: put this below that example"
            }
        };
        Some(example::Problem {
            line: example.output.as_ref()?.line,
            message: format!("this output is compared with nothing: {instead}"),
        })
    })
}

/// `handbook/07-x/03-y.md` → `expected/07-x/03-y.toml`: the tree below the directory that `pages` names.
struct RecordingTree {
    expected: PathBuf,
    /// Each place of pages, and the directory whose tree is mirrored.
    starts: Vec<(PathBuf, PathBuf)>,
}

impl RecordingTree {
    /// `None` where nothing is recorded.
    fn new(config: &Config) -> Option<RecordingTree> {
        if !config.is_project {
            return None;
        }
        let several = config.pages.len() > 1;
        let with_mirrored = |start: PathBuf| {
            let mirrored = if several || start.is_file() {
                config.root.clone()
            } else {
                start.clone()
            };
            (start, mirrored)
        };
        Some(RecordingTree {
            expected: config.root.join(&config.expected),
            starts: config.starts().map(with_mirrored).collect(),
        })
    }

    fn path(&self, file: &Path) -> Option<PathBuf> {
        Some(self.place(file)?.with_extension("toml"))
    }

    /// What mirrors a directory of pages, or a page but for its extension.
    fn place(&self, file: &Path) -> Option<PathBuf> {
        let is_below = |(start, _): &&(PathBuf, PathBuf)| file.starts_with(start);
        let (_, mirrored) = self.starts.iter().find(is_below)?;
        let below = file.strip_prefix(mirrored).ok()?;
        Some(self.expected.join(below))
    }
}

fn chapter(config: &Config, file: &Path) -> Option<u32> {
    let below = file.strip_prefix(&config.root).unwrap_or(file);
    below.components().find_map(|component| match component {
        Component::Normal(name) => {
            let (number, rest) = name.to_str()?.split_once('-')?;
            (!rest.is_empty()).then(|| number.parse().ok())?
        }
        _ => None,
    })
}

/// Which examples a command is about. Everything that is given must hold.
#[derive(Debug, Default)]
pub struct Selection {
    pub chapters: Vec<u32>,
    /// Section numbers; `7.3` selects `7.3.1` as well.
    pub sections: Vec<String>,
    pub examples: Vec<String>,
    pub keyword: Option<Keyword>,
    /// Absolute paths of pages; `None` does not restrict.
    pub pages: Option<Vec<PathBuf>>,
    /// (key of the page, id) of single examples; `None` does not restrict.
    pub failed: Option<Vec<(String, String)>>,
}

impl Selection {
    pub fn is_everything(&self) -> bool {
        self.chapters.is_empty()
            && self.sections.is_empty()
            && self.examples.is_empty()
            && self.keyword.is_none()
            && self.pages.is_none()
            && self.failed.is_none()
    }

    /// Chapters, sections and examples that are asked for and are not in the book: each is a slip, also beside others
    /// that are there.
    pub fn missing(&self, book: &Book) -> Vec<String> {
        let has = |is_meant: &dyn Fn(&Page, &Example) -> bool| {
            book.pages.iter().any(|page| {
                let mut examples = page.examples.iter();
                examples.any(|example| is_meant(page, example))
            })
        };
        let chapters = self.chapters.iter().filter(|&&wanted| {
            let is_in_chapter = |page: &Page, _: &Example| page.chapter == Some(wanted);
            !has(&is_in_chapter)
        });
        let sections = self.sections.iter();
        let sections =
            sections.filter(|wanted| !has(&|page, example| is_in_section(page, example, wanted)));
        let examples = self.examples.iter();
        let examples =
            examples.filter(|wanted| !has(&|page, example| is_named(page, example, wanted)));
        chapters
            .map(|wanted| format!("no example is in chapter {wanted}"))
            .chain(sections.map(|wanted| no_section(book, wanted)))
            .chain(examples.map(|wanted| no_example(book, wanted)))
            .collect()
    }

    pub fn contains(&self, page: &Page, example: &Example) -> bool {
        (self.chapters.is_empty()
            || page
                .chapter
                .is_some_and(|chapter| self.chapters.contains(&chapter)))
            && (self.sections.is_empty()
                || self
                    .sections
                    .iter()
                    .any(|wanted| is_in_section(page, example, wanted)))
            && (self.examples.is_empty()
                || self
                    .examples
                    .iter()
                    .any(|wanted| is_named(page, example, wanted)))
            && self.keyword.as_ref().is_none_or(|keyword| {
                keyword.matches(
                    &format!("{} {} {}", page.name, example.id, example.heading).to_lowercase(),
                )
            })
            && self
                .pages
                .as_ref()
                .is_none_or(|pages| pages.contains(&page.file))
            && self.failed.as_ref().is_none_or(|failed| {
                failed
                    .iter()
                    .any(|(key, id)| *key == page.key && *id == example.id)
            })
    }
}

/// In the section by its own number, or on the page of the section.
fn is_in_section(page: &Page, example: &Example, wanted: &str) -> bool {
    let wanted = wanted.trim_end_matches('.');
    let within = |number: &str| number == wanted || number.starts_with(&format!("{wanted}."));
    let of_page = page
        .headings
        .first()
        .and_then(|heading| section_number(&heading.text));
    example.section.as_deref().is_some_and(within) || of_page.as_deref().is_some_and(within)
}

/// `id`, `page.md::id`, or `page.md:12` for the example on that line.
fn is_named(page: &Page, example: &Example, wanted: &str) -> bool {
    let is_page = |name: &str| {
        page.file.ends_with(name.strip_prefix("./").unwrap_or(name))
            || config::absolute(Path::new(name)).is_ok_and(|file| file == page.file)
    };
    if let Some((name, id)) = wanted.split_once("::") {
        return is_page(name) && example.id == id;
    }
    if let Some((name, line)) = wanted.rsplit_once(':')
        && let Ok(line) = line.parse::<usize>()
    {
        let lines = example.block.line..=example.block.code_line + example.block.code_lines.len();
        return is_page(name) && lines.contains(&line);
    }
    example.id == wanted
}

fn no_section(book: &Book, wanted: &str) -> String {
    let examples = book.pages.iter().flat_map(|page| &page.examples);
    let numbers = examples.filter_map(|example| example.section.as_deref());
    match nearest(wanted, numbers) {
        Some(near) => format!("no example is in section `{wanted}`: did you mean `{near}`?"),
        None if section_number(wanted).is_some() => format!("no example is in section `{wanted}`"),
        None => format!(
            "no example is in section `{wanted}`: write the number that a heading begins with, such as `7.3`"
        ),
    }
}

fn no_example(book: &Book, wanted: &str) -> String {
    let names_page = wanted.contains("::");
    let names = |page: &Page| -> Vec<String> {
        let file = page.file.file_name().unwrap_or_default();
        let forms = [file.to_string_lossy().into_owned(), page.name.clone()];
        let examples = page.examples.iter();
        examples
            .flat_map(|example| {
                let id = &example.id;
                if names_page {
                    forms.iter().map(|name| format!("{name}::{id}")).collect()
                } else {
                    vec![id.clone()]
                }
            })
            .collect()
    };
    let known: Vec<String> = book.pages.iter().flat_map(names).collect();
    match nearest(wanted, known.iter().map(String::as_str)) {
        Some(near) => format!("no example is called `{wanted}`: did you mean `{near}`?"),
        None => format!("no example is called `{wanted}`"),
    }
}

/// An expression of words, `and`, `or`, `not` and parentheses, as pytest's `-k`.
#[derive(Debug, PartialEq, Eq)]
pub enum Keyword {
    Word(String),
    Not(Box<Keyword>),
    And(Box<Keyword>, Box<Keyword>),
    Or(Box<Keyword>, Box<Keyword>),
}

impl Keyword {
    pub fn parse(text: &str) -> Result<Keyword, String> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let mut words: std::iter::Peekable<_> = spaced.split_whitespace().peekable();
        let expression = or(&mut words)?;
        match words.next() {
            None => Ok(expression),
            Some(word) => Err(format!(
                "`-k` does not expect `{word}` there: write words joined by `and`, `or`, `not`"
            )),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Keyword::Word(word) => text.contains(word.as_str()),
            Keyword::Not(inner) => !inner.matches(text),
            Keyword::And(left, right) => left.matches(text) && right.matches(text),
            Keyword::Or(left, right) => left.matches(text) || right.matches(text),
        }
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn or(words: &mut Words<'_>) -> Result<Keyword, String> {
    let mut left = and(words)?;
    while words.next_if_eq(&"or").is_some() {
        left = Keyword::Or(Box::new(left), Box::new(and(words)?));
    }
    Ok(left)
}

fn and(words: &mut Words<'_>) -> Result<Keyword, String> {
    let mut left = not(words)?;
    while words.next_if_eq(&"and").is_some() {
        left = Keyword::And(Box::new(left), Box::new(not(words)?));
    }
    Ok(left)
}

fn not(words: &mut Words<'_>) -> Result<Keyword, String> {
    // A chain of `not`s is folded here, so that no input can overflow the stack by it.
    let mut negated = false;
    while words.next_if_eq(&"not").is_some() {
        negated = !negated;
    }
    let inner = match words.next() {
        Some("(") => {
            let inner = or(words)?;
            if words.next() != Some(")") {
                return Err("`-k` has an open parenthesis: close it".to_owned());
            }
            inner
        }
        Some(word @ (")" | "and" | "or")) => {
            return Err(format!(
                "`-k` does not expect `{word}` there: write words joined by `and`, `or`, `not`"
            ));
        }
        Some(word) => Keyword::Word(word.to_lowercase()),
        None => return Err("`-k` ends where a word is expected".to_owned()),
    };
    Ok(if negated {
        Keyword::Not(Box::new(inner))
    } else {
        inner
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn keyword(expression: &str, text: &str, expected: bool) {
        assert_eq!(
            Keyword::parse(expression).unwrap().matches(text),
            expected,
            "{expression}"
        );
    }

    #[test]
    fn keywords() {
        keyword("Closure", "05-closures.md closures/1", true);
        keyword("not closure", "05-closures.md", false);
        keyword("a and not (b or c)", "a c", false);
        keyword("a and not (b or c)", "a d", true);
        keyword("x or a and b", "a b", true);
        for broken in ["", "and", "a b", "(a", "a or", ")"] {
            assert!(Keyword::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn readmes_open_their_directory() {
        let mut files = ["b/01-x.md", "b/README.md", "a.md", "README.md"].map(PathBuf::from);
        files.sort_by_cached_key(|file| reading_order(file));
        assert_eq!(
            files,
            ["README.md", "a.md", "b/README.md", "b/01-x.md"].map(PathBuf::from)
        );
    }
}
