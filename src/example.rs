//! Page → examples: which blocks are Python, what their authors said of them, and what the page itself
//! claims they do.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::attributes::{self, Attributes, Place};
use crate::console;
use crate::doctest;
use crate::markdown::{self, Block, Comment, Document, Heading};

/// Our name, as it stands before the words of a comment directive.
const DIRECTIVE: &str = "verify:";
/// Languages of a block that shows the output of the example above it.
const OUTPUT_LANGUAGES: &[&str] = &["output", "stdout"];
/// The comment of another tool that makes the block below it the output of the example above.
pub const EXPECTED_OUTPUT: &str = "pytest-codeblocks:expected-output";
const CONSOLE_LANGUAGES: &[&str] = &["console", "shell-session", "sh-session", "bash-session"];
/// Why a block that is called a transcript and is none does not run.
pub const UNPROMPTED: &str = "a transcript without a prompt";
const PYTHON_LANGUAGES: &[&str] = &["python", "python3", "py", "py3", "pycon"];

/// One block that is Python, a transcript, a console session or a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Unique on its page.
    pub id: String,
    pub kind: Kind,
    /// One for all neighbors of which the same is said: mostly nothing, and books are long.
    pub attributes: Arc<Attributes>,
    pub block: Block,
    /// Text of the nearest heading above; empty where there is none.
    pub heading: String,
    /// Number that the nearest numbered heading starts with, such as `7.3.1`.
    pub section: Option<String>,
    /// How many headings of level 2 stand above: sessions may start at each.
    pub topic: usize,
    /// The block below that shows this example's output.
    pub output: Option<Block>,
}

impl Example {
    /// The text of the block, with `\n` line ends.
    pub fn source(&self) -> &str {
        &self.block.code
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Runs as a file does.
    Module(Comments),
    /// Statements at a prompt, with what they print.
    Transcript(Vec<doctest::Statement>),
    /// Commands of a shell, with what they print.
    Console(Vec<console::Command>),
    /// Written to this path; runs when another example imports or starts it.
    File(String),
}

/// What comments in the code claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comments {
    /// Runs of `#>` lines: what the code above them prints.
    pub printed: Vec<Printed>,
    /// `expression  # value`: (line, text of the comment).
    pub values: Vec<(usize, String)>,
}

impl Comments {
    /// Whether nothing is asked before the example has come to its end.
    pub fn are_none(&self) -> bool {
        self.printed.is_empty() && self.values.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Lines of the example that hold the run, from 1.
    pub lines: Range<usize>,
    /// Each line ends in a newline.
    pub text: String,
    /// White space before `#>`.
    pub indent: String,
}

/// A block that is not an example, so that a listing can account for every fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherBlock {
    pub line: usize,
    pub language: String,
    /// Line of the example whose output it shows.
    pub output_of: Option<usize>,
}

/// A mistake of an author: line of the page, what is wrong, what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    pub message: String,
}

/// What a page holds.
#[derive(Debug, Default)]
pub struct Examples {
    pub examples: Vec<Example>,
    pub others: Vec<OtherBlock>,
}

/// Finds the examples of a page and everything that is wrong with them. `stem` names examples that stand
/// above the first heading.
pub fn find(document: &Document, page: &str, stem: &str) -> (Examples, Vec<Problem>) {
    let mut finder = Finder {
        document,
        page,
        stem,
        found: Examples::default(),
        problems: Vec::new(),
        ordinals: HashMap::new(),
        slugs: slugs(document),
        sections: sections(document),
        topics: topics(document),
        skip_marks: document
            .comments
            .iter()
            .filter(|comment| matches!(comment.text.as_str(), "skip: start" | "skip: end"))
            .collect(),
    };
    finder.report_unread_directives();
    let mut above: Option<usize> = None;
    for (index, block) in document.blocks.iter().enumerate() {
        if !block.closed {
            let message = if page.replace("\r\n", "\n").contains('\r') {
                "lines of this page end in carriage returns alone, so that its fences are not found: save it with line feeds"
            } else {
                "this fence is never closed: add a line that closes it"
            };
            finder.problem(block.line, message.to_owned());
            continue;
        }
        above = finder.take(index, block, above);
    }
    finder.report_double_ids();
    finder.problems.sort_by_key(|problem| problem.line);
    (finder.found, finder.problems)
}

struct Finder<'a> {
    document: &'a Document,
    page: &'a str,
    stem: &'a str,
    found: Examples,
    problems: Vec<Problem>,
    /// Examples so far under each heading.
    ordinals: HashMap<Option<usize>, usize>,
    /// For each heading, a slug that is its own on this page.
    slugs: Vec<String>,
    /// For each heading, its number or that of the nearest one above that has one.
    sections: Vec<Option<String>>,
    /// For each heading, how many of level 2 there are down to it.
    topics: Vec<usize>,
    /// The comments that begin and end regions to skip.
    skip_marks: Vec<&'a Comment>,
}

impl Finder<'_> {
    /// Takes one block; `above` is the example that stands directly above it. Returns the example that
    /// stands directly above the next one.
    fn take(&mut self, index: usize, block: &Block, above: Option<usize>) -> Option<usize> {
        let info = Info::of(block.info.as_deref().unwrap_or_default());
        let mut attributes = Attributes::default();
        let mut messages: Vec<(usize, String)> = Vec::new();
        if self.directives(index, block, &mut attributes, &mut messages) {
            self.other(block, &info.language, above);
            if let Some(at) = above {
                self.found.examples[at].output = Some(block.clone());
            }
            return None;
        }
        if OUTPUT_LANGUAGES.contains(&info.language.as_str()) {
            let target = above.filter(|&at| self.follows(at, block));
            self.other(block, &info.language, target);
            if let Some(at) = target {
                self.found.examples[at].output = Some(block.clone());
            }
            return None;
        }
        // What stands in the fence itself is nearer to the code than a comment above it: it is read last.
        let fence_messages = attributes.read(&info.attributes, Place::InfoString);
        let options = if info.is_cell {
            option_lines(&block.code)
        } else {
            0
        };
        let block: &Block = &without_first_lines(block, options);
        let is_file = attributes.file.is_some();
        let is_python = PYTHON_LANGUAGES.contains(&info.language.as_str());
        let is_transcript = begins_with_prompt(&block.code);
        let commands = if !is_transcript && CONSOLE_LANGUAGES.contains(&info.language.as_str()) {
            console::parse(&block.code)
        } else {
            Vec::new()
        };
        let is_example = is_file || is_python || is_transcript || !commands.is_empty();
        if is_example {
            messages.extend(fence_messages.into_iter().map(|text| (block.line, text)));
        }
        for (line, message) in messages {
            self.problem(line, message);
        }
        if !is_example {
            self.other(block, &info.language, None);
            return None;
        }
        let kind = if let Some(path) = &attributes.file {
            Kind::File(path.clone())
        } else if !commands.is_empty() {
            Kind::Console(commands)
        } else if is_transcript {
            let (statements, problems) = doctest::parse(&block.code);
            for problem in problems {
                self.problem(
                    block.code_line + problem.line.saturating_sub(1),
                    problem.message,
                );
            }
            Kind::Transcript(statements)
        } else {
            if info.language == "pycon" && attributes.norun.is_none() && attributes.skip.is_none() {
                attributes.skip = Some(UNPROMPTED.to_owned());
            }
            Kind::Module(comments(&block.code))
        };
        self.check_endings(block.line, &attributes, &kind);
        let headings = &self.document.headings;
        let heading = headings
            .partition_point(|heading| heading.line < block.line)
            .checked_sub(1);
        let ordinal = self.ordinals.entry(heading).or_default();
        *ordinal += 1;
        let slug = heading.map_or(self.stem, |at| self.slugs[at].as_str());
        let example = Example {
            id: attributes
                .id
                .clone()
                .unwrap_or_else(|| format!("{slug}/{ordinal}")),
            kind,
            attributes: self.shared(attributes),
            block: block.clone(),
            heading: heading
                .map(|at| headings[at].text.clone())
                .unwrap_or_default(),
            section: heading.and_then(|at| self.sections[at].clone()),
            topic: heading.map_or(0, |at| self.topics[at]),
            output: None,
        };
        self.found.examples.push(example);
        Some(self.found.examples.len() - 1)
    }

    /// What is announced of an end has to be possible.
    fn check_endings(&mut self, line: usize, attributes: &Attributes, kind: &Kind) {
        if attributes.raises.is_some() && attributes.exits.is_some() {
            let message = "`raises` and `exits` cannot both come true: remove one of them";
            self.problem(line, message.to_owned());
        }
        for (name, is_given) in [
            ("raises", attributes.raises.is_some()),
            ("exits", attributes.exits.is_some()),
        ] {
            if is_given && matches!(kind, Kind::Console(_)) {
                let message = format!(
                    "`{name}` is about an interpreter, and a console block has none: remove it; `$ echo $?` shows a status"
                );
                self.problem(line, message);
            }
        }
    }

    fn shared(&self, attributes: Attributes) -> Arc<Attributes> {
        let above = self.found.examples.last().map(|above| &above.attributes);
        match above.filter(|above| ***above == attributes) {
            Some(above) => above.clone(),
            None => Arc::new(attributes),
        }
    }

    /// Reads the comments directly above a block. True if they say that it is the output of the example above.
    fn directives(
        &self,
        index: usize,
        block: &Block,
        attributes: &mut Attributes,
        messages: &mut Vec<(usize, String)>,
    ) -> bool {
        let mut is_output = false;
        for comment in self.comments_above(index, block) {
            if let Some(words) = comment.text.strip_prefix(DIRECTIVE) {
                let found = attributes.read(words, Place::Directive);
                messages.extend(found.into_iter().map(|text| (comment.line, text)));
            } else if let Some(reason) = skips(&comment.text) {
                attributes.skip = Some(reason);
            } else if comment.text == EXPECTED_OUTPUT {
                is_output = true;
            }
        }
        if let Some(reason) = self.skipped_region(block) {
            attributes.skip = Some(reason);
        }
        is_output
    }

    /// The comments between a block and whatever stands above it, with nothing else in between.
    fn comments_above(&self, index: usize, block: &Block) -> Vec<&Comment> {
        let from = index
            .checked_sub(1)
            .map_or(0, |before| self.document.blocks[before].span.end);
        let mut below = block.span.start;
        let mut found = Vec::new();
        let comments = &self.document.comments;
        let above = comments.partition_point(|comment| comment.span.end <= below);
        for comment in comments[..above].iter().rev() {
            if comment.span.start < from {
                break;
            }
            let between = &self.page[comment.span.end..below];
            if !between.chars().all(|c| c.is_whitespace() || c == '>') {
                break;
            }
            below = comment.span.start;
            found.push(comment);
        }
        found.reverse();
        found
    }

    /// Between `<!-- skip: start -->` and `<!-- skip: end -->`.
    fn skipped_region(&self, block: &Block) -> Option<String> {
        let above = |mark: &&&Comment| mark.span.end <= block.span.start;
        let last = self.skip_marks.iter().rfind(above)?;
        (last.text == "skip: start").then(|| "marked `skip: start`".to_owned())
    }

    /// A directive that is above no block would be lost without a word.
    fn report_unread_directives(&mut self) {
        let mut read = HashSet::new();
        for (index, block) in self.document.blocks.iter().enumerate() {
            read.extend(
                self.comments_above(index, block)
                    .iter()
                    .map(|comment| comment.span.start),
            );
        }
        for comment in &self.document.comments {
            let message = if let Some(words) = near_directive(&comment.text) {
                format!("this is no directive: did you mean `<!-- {DIRECTIVE} {words} -->`?")
            } else if comment.text.starts_with(DIRECTIVE) && !read.contains(&comment.span.start) {
                "this directive stands above no code block: put it directly above one".to_owned()
            } else {
                continue;
            };
            self.problem(comment.line, message);
        }
    }

    fn report_double_ids(&mut self) {
        let mut first: HashMap<&str, usize> = HashMap::new();
        let mut problems = Vec::new();
        for example in &self.found.examples {
            let line = example.block.line;
            if let Some(before) = first.insert(&example.id, line) {
                problems.push(Problem {
                    line,
                    message: format!(
                        "the id `{}` is taken by the example on line {before}: give one of them another `id=`",
                        example.id
                    ),
                });
            }
        }
        self.problems.extend(problems);
    }

    /// Whether nothing but white space stands between an example and this block.
    fn follows(&self, example: usize, block: &Block) -> bool {
        let end = self.found.examples[example].block.span.end;
        self.page[end..block.span.start]
            .chars()
            .all(|c| c.is_whitespace() || c == '>')
    }

    fn other(&mut self, block: &Block, language: &str, output_of: Option<usize>) {
        self.found.others.push(OtherBlock {
            line: block.line,
            language: language.to_owned(),
            output_of: output_of.map(|at| self.found.examples[at].block.line),
        });
    }

    fn problem(&mut self, line: usize, message: String) {
        self.problems.push(Problem { line, message });
    }
}

/// The attributes in a comment that begins with our name, though not as [`DIRECTIVE`] does: `verify raises=X`,
/// `Verify: hidden`.
fn near_directive(comment: &str) -> Option<&str> {
    let name = DIRECTIVE.trim_end_matches(':');
    let (start, rest) = comment.split_at_checked(name.len())?;
    let words = rest.trim_start().trim_start_matches(':').trim();
    let is_near = start.eq_ignore_ascii_case(name)
        && rest.starts_with(|c: char| c.is_whitespace() || c == ':')
        && !comment.starts_with(DIRECTIVE);
    (is_near && attributes::are_attributes(words)).then_some(words)
}

/// Other tools' comments for "do not run the next block", as a reason.
fn skips(comment: &str) -> Option<String> {
    let is_skip = comment.starts_with("skip: next")
        || matches!(
            comment,
            "pytest-codeblocks:skip" | "pytest.mark.skip" | "pytest-codeblocks: skip"
        );
    is_skip.then(|| format!("marked `{comment}`"))
}

/// An info string, taken apart.
struct Info {
    language: String,
    attributes: String,
    /// `{code-cell}`, whose code options may stand above.
    is_cell: bool,
}

impl Info {
    fn of(info: &str) -> Info {
        let info = info.trim();
        let unbraced = info.strip_prefix('{').unwrap_or(info).trim_start();
        // `{code-cell} python`: a directive whose argument is the language.
        let text = match unbraced.strip_prefix("code-cell") {
            Some(rest) if info.starts_with('{') => rest.trim_start_matches(['}', ' ', '\t']),
            _ => unbraced,
        };
        let end = text
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '}' | '{'))
            .unwrap_or(text.len());
        let language = text[..end].trim_start_matches('.').to_ascii_lowercase();
        let language = match language.as_str() {
            "ipython" | "ipython3" if info.starts_with("{code-cell") => "python".to_owned(),
            _ => language,
        };
        Info {
            language,
            attributes: text[end..].trim_start_matches('{').to_owned(),
            is_cell: info.starts_with("{code-cell"),
        }
    }
}

/// How many lines a cell's options take up: `:name: value`, or what stands between two `---`.
fn option_lines(code: &str) -> usize {
    let mut lines = code.lines().map(str::trim_end);
    if lines.clone().next() == Some("---") {
        return lines
            .skip(1)
            .position(|line| line == "---")
            .map_or(0, |at| at + 2);
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
    };
    let is_option = |line: &str| {
        let name = line.strip_prefix(':').and_then(|rest| rest.split_once(':'));
        name.is_some_and(|(name, _)| is_name(name))
    };
    lines
        .position(|line| !is_option(line))
        .unwrap_or(code.lines().count())
}

/// The block, as if its code began so many lines further down.
fn without_first_lines(block: &Block, count: usize) -> Cow<'_, Block> {
    if count == 0 {
        return Cow::Borrowed(block);
    }
    let mut block = block.clone();
    block.code = block.code.split_inclusive('\n').skip(count).collect();
    block.code_lines.drain(..count);
    block.code_line += count;
    Cow::Owned(block)
}

/// Whether the first line of code is typed at Python's prompt. More of the same sign is none: it marks conflicts.
fn begins_with_prompt(code: &str) -> bool {
    let mut lines = code.lines().map(str::trim_start);
    let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
    first
        .strip_prefix(">>>")
        .is_some_and(|typed| !typed.starts_with('>'))
}

/// The number that a heading starts with: `7.3` of "7.3 Context Managers".
pub fn section_number(heading: &str) -> Option<String> {
    let word = heading.split_whitespace().next()?.trim_end_matches('.');
    let is_number = !word.is_empty()
        && word
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_number.then(|| word.to_owned())
}

fn sections(document: &Document) -> Vec<Option<String>> {
    let mut nearest = None;
    let number = |heading: &Heading| {
        nearest = section_number(&heading.text).or_else(|| nearest.take());
        nearest.clone()
    };
    document.headings.iter().map(number).collect()
}

fn topics(document: &Document) -> Vec<usize> {
    let mut topic = 0;
    let count = |heading: &Heading| {
        topic += usize::from(heading.level == 2);
        topic
    };
    document.headings.iter().map(count).collect()
}

/// For each heading a slug, made of its words without its number; a second one of the same name gets `-2`.
fn slugs(document: &Document) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    document
        .headings
        .iter()
        .map(|heading| {
            let text = match section_number(&heading.text) {
                Some(_) => heading
                    .text
                    .split_once(char::is_whitespace)
                    .map_or("", |(_, rest)| rest),
                None => &heading.text,
            };
            let slug = slug(text);
            let count = seen.entry(slug.clone()).or_default();
            *count += 1;
            if *count == 1 {
                slug
            } else {
                format!("{slug}-{count}")
            }
        })
        .collect()
}

/// Lower-case words joined by `-`.
pub fn slug(text: &str) -> String {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.is_empty() {
        "section".to_owned()
    } else {
        words.join("-")
    }
}

/// The claims that comments of a file make.
fn comments(source: &str) -> Comments {
    let mut comments = Comments::default();
    for (index, line) in source.lines().enumerate() {
        let number = index + 1;
        let trimmed = line.trim_start();
        if let Some(text) = trimmed.strip_prefix("#>") {
            let text = text.strip_prefix(' ').unwrap_or(text);
            let indent = &line[..line.len() - trimmed.len()];
            match comments
                .printed
                .last_mut()
                .filter(|run| run.lines.end == number && run.indent == indent)
            {
                Some(run) => {
                    run.lines.end += 1;
                    run.text.push_str(text);
                    run.text.push('\n');
                }
                None => comments.printed.push(Printed {
                    lines: number..number + 1,
                    text: format!("{text}\n"),
                    indent: indent.to_owned(),
                }),
            }
        } else if let Some(value) = claimed_value(line) {
            comments.values.push((number, value.to_owned()));
        }
    }
    comments
}

/// The value that a line's comment claims: a literal, or anything behind an arrow.
pub fn claimed_value(line: &str) -> Option<&str> {
    if line.starts_with([' ', '\t', '#']) {
        return None;
    }
    let (_, comment) = line.rsplit_once("  #")?;
    let comment = comment.trim();
    for arrow in ["=>", "->", "→"] {
        if let Some(value) = comment.strip_prefix(arrow) {
            return Some(value.trim());
        }
    }
    is_literal(comment).then_some(comment)
}

/// Whether a text is one Python literal and nothing else: a number, string, container or constant.
fn is_literal(text: &str) -> bool {
    if matches!(text, "True" | "False" | "None") {
        return true;
    }
    if text.parse::<f64>().is_ok() {
        return text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    }
    let unprefixed = text.strip_prefix(['b', 'r']).unwrap_or(text);
    let mut characters = unprefixed.chars();
    match (characters.next(), characters.next_back()) {
        (Some(quote @ ('\'' | '"')), Some(last)) => {
            last == quote && !characters.as_str().contains(quote)
        }
        (Some('['), Some(']')) | (Some('{'), Some('}')) => {
            // Brackets in prose hold words; those in values hold quotes, numbers or nothing.
            let inside = characters.as_str().trim();
            inside.is_empty()
                || inside.starts_with(|c: char| c.is_ascii_digit() || "'\"-[({".contains(c))
        }
        (Some('('), Some(')')) => {
            characters.as_str().contains(',')
                && characters
                    .as_str()
                    .starts_with(|c: char| c.is_ascii_digit() || "'\"-[({".contains(c))
        }
        _ => false,
    }
}

/// Parses a page's text and finds its examples: what most callers want.
pub fn read(page: &str, stem: &str) -> (Examples, Vec<Problem>) {
    find(&markdown::parse(page), page, stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples as `id|kind|line|section`, then the problems.
    #[track_caller]
    fn check(page: &str, expected: &[&str]) {
        let (found, problems) = read(page, "page");
        let mut actual: Vec<String> = found
            .examples
            .iter()
            .map(|example| {
                let kind = match &example.kind {
                    Kind::Module(_) => "module".to_owned(),
                    Kind::Transcript(statements) => format!("transcript {}", statements.len()),
                    Kind::Console(commands) => format!("console {}", commands.len()),
                    Kind::File(path) => format!("file {path}"),
                };
                let section = example.section.as_deref().unwrap_or("-");
                let skip = example
                    .attributes
                    .skip
                    .iter()
                    .map(|reason| format!("|skip {reason}"));
                let output = example
                    .output
                    .iter()
                    .map(|block| format!("|output {}", block.line));
                format!("{}|{kind}|{}|{section}", example.id, example.block.line)
                    + &skip.chain(output).collect::<String>()
            })
            .collect();
        actual.extend(
            problems
                .iter()
                .map(|problem| format!("{}: {}", problem.line, problem.message)),
        );
        assert_eq!(actual, expected);
    }

    #[test]
    fn languages() {
        for info in [
            "python",
            "Python3",
            "py,x",
            "{.python .numberLines}",
            "{python}",
            "{code-cell} python",
            "{code-cell} ipython3",
        ] {
            check(&format!("```{info}\n1\n```\n"), &["page/1|module|1|-"]);
        }
        for info in ["", "text", "toml", "pythonic", "rust"] {
            check(&format!("```{info}\n1\n```\n"), &[]);
        }
    }

    #[test]
    fn a_prompt_makes_a_transcript() {
        check("```\n>>> 1\n1\n```\n", &["page/1|transcript 1|1|-"]);
        check("text\n\n    >>> 1\n    1\n", &["page/1|transcript 1|3|-"]);
        for tag in ["text", "console", "ipython", "pycon3"] {
            let page = format!("```{tag}\n>>> 1\n1\n```\n");
            check(&page, &["page/1|transcript 1|1|-"]);
        }
        check("```diff\n>>>>>>> theirs\n```\n", &[]);
        check("```toml\na = 1 # >>> 1\n```\n", &[]);
        check(
            "```pycon\nTraceback\n```\n",
            &["page/1|module|1|-|skip a transcript without a prompt"],
        );
    }

    #[test]
    fn options_of_a_cell_are_no_code() {
        for (options, count) in [
            (":tags: [hide]\n:other-one:\n", 2),
            ("---\ntags: [hide]\n---\n", 3),
            ("", 0),
        ] {
            let page = format!("```{{code-cell}} ipython3\n{options}x = 1\n:y: 2\n```\n");
            let (found, problems) = read(&page, "page");
            assert_eq!(problems, []);
            let block = &found.examples[0].block;
            assert_eq!(block.code, "x = 1\n:y: 2\n");
            assert_eq!((block.line, block.code_line), (1, 2 + count));
            let lines: Vec<&str> = block
                .code_lines
                .iter()
                .map(|line| &page[line.clone()])
                .collect();
            assert_eq!(lines, ["x = 1", ":y: 2"]);
        }
        for code in [":tags: [hide]\n", "---\nx\n"] {
            let page = format!("```python\n{code}```\n");
            assert_eq!(read(&page, "page").0.examples[0].block.code, code);
        }
        let only_options = read("```{code-cell} python\n:tags: []\n```\n", "page");
        assert_eq!(only_options.0.examples[0].block.code, "");
    }

    #[test]
    fn what_cannot_come_true() {
        check(
            "```py raises=X exits=3\n1\n```\n```console exits=3\n$ exit 3\n```\n<!-- verify: raises=X -->\n```console\n$ ls\n```\n",
            &[
                "page/1|module|1|-",
                "page/2|console 1|4|-",
                "page/3|console 1|8|-",
                "1: `raises` and `exits` cannot both come true: remove one of them",
                "4: `exits` is about an interpreter, and a console block has none: remove it; `$ echo $?` shows a status",
                "8: `raises` is about an interpreter, and a console block has none: remove it; `$ echo $?` shows a status",
            ],
        );
    }

    #[test]
    fn nearly_directives() {
        check(
            "<!-- verify raises=X -->\n<!-- Verify: hidden -->\n<!-- VERIFY : id=x -->\n<!-- verify this later -->\n<!-- Verify: is this so? -->\n<!-- verified id=x -->\n",
            &[
                "1: this is no directive: did you mean `<!-- verify: raises=X -->`?",
                "2: this is no directive: did you mean `<!-- verify: hidden -->`?",
                "3: this is no directive: did you mean `<!-- verify: id=x -->`?",
            ],
        );
    }

    #[test]
    fn ids_come_from_headings() {
        check(
            "```py\n1\n```\n# 7.3 Context Managers\n```py\n1\n```\n## 7.3.1 `with` statement\n```py\n1\n```\n```py id=own\n1\n```\n```py\n1\n```\n## Notes\n```py\n1\n```\n## Notes\n```py\n1\n```\n",
            &[
                "page/1|module|1|-",
                "context-managers/1|module|5|7.3",
                "with-statement/1|module|9|7.3.1",
                "own|module|12|7.3.1",
                "with-statement/3|module|15|7.3.1",
                "notes/1|module|19|7.3.1",
                "notes-2/1|module|23|7.3.1",
            ],
        );
    }

    #[test]
    fn double_ids_are_a_problem() {
        check(
            "```py id=a\n1\n```\n```py id=a\n1\n```\n",
            &[
                "a|module|1|-",
                "a|module|4|-",
                "4: the id `a` is taken by the example on line 1: give one of them another `id=`",
            ],
        );
    }

    #[test]
    fn files_and_consoles() {
        check(
            "```toml file=app.toml\nx\n```\n```console\n$ ls\n```\n```console\nno prompt\n```\n",
            &["page/1|file app.toml|1|-", "page/2|console 1|4|-"],
        );
    }

    #[test]
    fn directives_above_a_block() {
        check(
            "<!-- verify: id=x, hidden -->\n\n```py\n1\n```\n<!-- verify: rasies=X -->\n```py\n1\n```\n<!-- verify: fresh -->\ntext\n",
            &[
                "x|module|3|-",
                "page/2|module|7|-",
                "6: unknown attribute `rasies`: did you mean `raises`?",
                "10: this directive stands above no code block: put it directly above one",
            ],
        );
    }

    #[test]
    fn other_tools_comments() {
        check(
            "<!-- skip: next if(True, reason=\"x\") -->\n```py\n1\n```\n```py\n1\n```\n<!-- skip: start -->\n```py\n1\n```\n<!-- skip: end -->\n```py\n1\n```\n",
            &[
                "page/1|module|2|-|skip marked `skip: next if(True, reason=\"x\")`",
                "page/2|module|5|-",
                "page/3|module|9|-|skip marked `skip: start`",
                "page/4|module|13|-",
            ],
        );
    }

    #[test]
    fn output_directly_below() {
        check(
            "```py\n1\n```\n\n```output\n1\n```\n",
            &["page/1|module|1|-|output 5"],
        );
        check(
            "```py\n1\n```\ntext\n```output\n1\n```\n",
            &["page/1|module|1|-"],
        );
    }

    #[test]
    fn unclosed_fences_are_named() {
        check(
            "```py\n1\n",
            &["1: this fence is never closed: add a line that closes it"],
        );
    }

    #[test]
    fn claims_in_comments() {
        let found = comments(
            "print(1)\n#> 1\n#>  x\n1 + 1  # 2\nx = 2  # two\nf(x)  # [1, 2]\n'a'  # => 'a'\n    y  # 3\n",
        );
        assert_eq!(found.printed.len(), 1);
        assert_eq!(found.printed[0].text, "1\n x\n");
        assert_eq!(found.printed[0].lines, 2..4);
        assert_eq!(
            found.values,
            [
                (4, "2".to_owned()),
                (6, "[1, 2]".to_owned()),
                (7, "'a'".to_owned())
            ]
        );
    }

    #[test]
    fn section_numbers() {
        assert_eq!(section_number("7.3.1 with"), Some("7.3.1".into()));
        assert_eq!(section_number("7. Intro"), Some("7".into()));
        assert_eq!(section_number("3D plots"), None);
    }
}
