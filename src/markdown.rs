//! Page text → its code blocks, headings, comments and front matter, each with where it stands.
//!
//! What a fence is, pulldown-cmark's offsets decide: lists, quotes, tildes, longer fences round shorter
//! ones, HTML comments, tabs and CRLF follow CommonMark because the parser does. This module only turns
//! byte offsets into lines and keeps what an edit needs to know of a block's surroundings.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// What a page consists of, in page order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub blocks: Vec<Block>,
    pub headings: Vec<Heading>,
    pub comments: Vec<Comment>,
    /// The text between the `---` lines at the top of the page.
    pub front_matter: Option<FrontMatter>,
}

/// A code block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The info string of a fence; `None` for an indented block.
    pub info: Option<String>,
    /// Bytes of the page from the first fence to the end of the last, without a final line end.
    pub span: Range<usize>,
    /// Line of the page, from 1, on which the block starts.
    pub line: usize,
    /// The code, with `\n` line ends and without the marks of lists or quotes round it.
    pub code: String,
    /// For each line of `code`, the bytes of the page that hold it, without the line end.
    pub code_lines: Vec<Range<usize>>,
    /// Line of the page on which the first line of `code` stands, or would stand.
    pub code_line: usize,
    /// What continuation lines of the block's surroundings start with, such as `> ` or three spaces.
    pub prefix: String,
    /// False for a fence that nothing closes.
    pub closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// 1 to 6.
    pub level: u8,
    pub text: String,
    pub line: usize,
}

/// An HTML comment, without its marks and outer white space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub text: String,
    pub span: Range<usize>,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontMatter {
    pub text: String,
    /// Line of the page on which `text` starts.
    pub line: usize,
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Parses a page. Every text is a page; nothing here can fail.
pub fn parse(page: &str) -> Document {
    let start = if page.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let lines = Lines::of(page);
    let mut document = Document::default();
    let mut open = Open::Nothing;
    let options = Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_STRIKETHROUGH;
    for (event, range) in Parser::new_ext(&page[start..], options).into_offset_iter() {
        let range = range.start + start..range.end + start;
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let info = match kind {
                    CodeBlockKind::Fenced(info) => Some(info.into_string()),
                    CodeBlockKind::Indented => None,
                };
                open = Open::Block {
                    info,
                    code: String::with_capacity(range.len()),
                    pieces: Vec::new(),
                };
            }
            Event::End(TagEnd::CodeBlock) => {
                if let Open::Block { info, code, pieces } = std::mem::take(&mut open) {
                    document
                        .blocks
                        .push(block(page, &lines, info, code, &pieces, range));
                }
            }
            Event::Start(Tag::Heading { .. }) => open = Open::Heading(String::new()),
            Event::End(TagEnd::Heading(level)) => {
                if let Open::Heading(text) = std::mem::take(&mut open) {
                    let (level, line) = (number(level), lines.number(range.start));
                    document.headings.push(Heading { level, text, line });
                }
            }
            Event::Start(Tag::MetadataBlock(_)) => {
                open = Open::FrontMatter(range.start, String::new());
            }
            Event::End(TagEnd::MetadataBlock(_)) => {
                if let Open::FrontMatter(offset, text) = std::mem::take(&mut open) {
                    let line = lines.number(offset) + 1;
                    document.front_matter = Some(FrontMatter { text, line });
                }
            }
            Event::Start(Tag::HtmlBlock) => open = Open::Html(range),
            Event::End(TagEnd::HtmlBlock) => {
                if let Open::Html(range) = std::mem::take(&mut open) {
                    comments(page, &lines, range, &mut document.comments);
                }
            }
            Event::InlineHtml(_) => comments(page, &lines, range, &mut document.comments),
            Event::Text(text) => match &mut open {
                Open::Block { code, pieces, .. } => {
                    // The parser takes a carriage return that one last character follows for half of a line end.
                    let gap = pieces.last().map(|last| page.get(last.end..range.start));
                    if gap == Some(Some("\r")) && !text.starts_with('\n') {
                        code.push('\n');
                    }
                    // Piece by piece: two that meet are no pair of characters in the page.
                    if text.contains('\r') {
                        code.push_str(&text.replace("\r\n", "\n").replace('\r', "\n"));
                    } else {
                        code.push_str(&text);
                    }
                    pieces.push(range);
                }
                Open::Heading(heading) => heading.push_str(&text),
                Open::FrontMatter(_, matter) => matter.push_str(&text),
                Open::Html(_) | Open::Nothing => {}
            },
            Event::Code(text) => {
                if let Open::Heading(heading) = &mut open {
                    heading.push_str(&text);
                }
            }
            _ => {}
        }
    }
    document
}

/// What the events are inside of.
#[derive(Default)]
enum Open {
    #[default]
    Nothing,
    Block {
        info: Option<String>,
        code: String,
        pieces: Vec<Range<usize>>,
    },
    Heading(String),
    FrontMatter(usize, String),
    Html(Range<usize>),
}

fn block(
    page: &str,
    lines: &Lines,
    info: Option<String>,
    code: String,
    pieces: &[Range<usize>],
    range: Range<usize>,
) -> Block {
    let end = range.start + page[range.clone()].trim_end_matches(['\n', '\r']).len();
    // An indented block's range starts behind its indentation, a fence's at its first character.
    let span = range.start..end.max(range.start);
    let line = lines.number(span.start);
    let code_line = if info.is_some() { line + 1 } else { line };
    let count = code.split_inclusive('\n').count();
    let code_lines = (0..count)
        .map(|index| {
            let whole = lines.range(code_line + index);
            // A piece that began on an earlier line has nothing of its surroundings before this one.
            let first = pieces.partition_point(|piece| piece.end <= whole.start);
            let start = pieces
                .get(first)
                .filter(|piece| piece.start < whole.end)
                .map_or(whole.end, |piece| piece.start.max(whole.start));
            start..whole.end
        })
        .collect();
    let prefix = surroundings(&page[lines.range(line).start..span.start]);
    let closed = info.is_none() || is_closed(page, lines, &span, code_line + count);
    Block {
        info,
        span,
        line,
        code,
        code_lines,
        code_line,
        prefix,
        closed,
    }
}

/// What a continuation line needs in place of what stands before the fence: a list's mark becomes spaces.
fn surroundings(before_fence: &str) -> String {
    before_fence
        .chars()
        .map(|character| {
            if matches!(character, '>' | ' ' | '\t') {
                character
            } else {
                ' '
            }
        })
        .collect()
}

/// A fence is closed if a line of fence characters stands where the code ends.
fn is_closed(page: &str, lines: &Lines, span: &Range<usize>, closing_line: usize) -> bool {
    let opening = &page[span.start..];
    let Some(mark) = opening.chars().next() else {
        return false;
    };
    let length = opening
        .chars()
        .take_while(|&character| character == mark)
        .count();
    let range = lines.range(closing_line);
    if range.start < span.start || range.start > span.end {
        return false;
    }
    let closing = page[range].trim_start_matches([' ', '\t', '>']).trim_end();
    closing.len() >= length && closing.chars().all(|character| character == mark)
}

fn comments(page: &str, lines: &Lines, html: Range<usize>, found: &mut Vec<Comment>) {
    let mut position = html.start;
    while let Some(start) = page[position..html.end]
        .find("<!--")
        .map(|at| at + position)
    {
        let inside = start + "<!--".len();
        let Some(end) = page[inside..html.end].find("-->").map(|at| at + inside) else {
            return;
        };
        position = end + "-->".len();
        found.push(Comment {
            text: page[inside..end].trim().to_owned(),
            span: start..position,
            line: lines.number(start),
        });
    }
}

fn number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

/// Where the line begins that holds this offset.
pub fn line_start(page: &str, offset: usize) -> usize {
    let bytes = page.as_bytes();
    (0..offset)
        .rev()
        .find(|&at| bytes[at] == b'\n' || bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        .map_or(0, |at| at + 1)
}

/// Where the line behind this offset begins; the page's end if it is on the last. To Markdown a carriage
/// return alone ends a line too.
pub fn next_line(page: &str, offset: usize) -> usize {
    match memchr::memchr2(b'\n', b'\r', &page.as_bytes()[offset..]) {
        Some(at) if page[offset + at..].starts_with("\r\n") => offset + at + 2,
        Some(at) => offset + at + 1,
        None => page.len(),
    }
}

/// Byte offsets ↔ line numbers.
struct Lines {
    /// Offset at which each line starts.
    starts: Vec<usize>,
    /// Offset at which each line's text ends, before `\n` or `\r\n`.
    ends: Vec<usize>,
}

impl Lines {
    fn of(page: &str) -> Lines {
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        let mut offset = 0;
        while offset < page.len() {
            let next = next_line(page, offset);
            starts.push(offset);
            ends.push(offset + page[offset..next].trim_end_matches(['\n', '\r']).len());
            offset = next;
        }
        starts.push(offset);
        ends.push(offset);
        Lines { starts, ends }
    }

    /// The line, from 1, that holds this offset.
    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset)
    }

    /// The text of a line, from 1; beyond the last an empty range at the end.
    fn range(&self, number: usize) -> Range<usize> {
        let index = (number - 1).min(self.starts.len() - 1);
        self.starts[index]..self.ends[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks as `info|line|code|prefix|closed` lines.
    #[track_caller]
    fn check(page: &str, expected: &[&str]) {
        let document = parse(page);
        let actual: Vec<String> = document
            .blocks
            .iter()
            .map(|block| {
                format!(
                    "{}|{}|{}|{}|{}",
                    block.info.as_deref().unwrap_or("-"),
                    block.line,
                    block.code.replace('\n', "⏎"),
                    block.prefix,
                    block.closed
                )
            })
            .collect();
        assert_eq!(actual, expected);
        for block in &document.blocks {
            for (range, line) in block.code_lines.iter().zip(block.code.lines()) {
                assert!(
                    page[range.clone()].trim_start() == line.trim_start(),
                    "{:?} is not {line:?}",
                    &page[range.clone()]
                );
            }
        }
    }

    #[test]
    fn plain_fence() {
        check("a\n\n```python x\n1\n2\n```\n", &["python x|3|1⏎2⏎||true"]);
    }

    #[test]
    fn tildes_and_longer_fences() {
        check("~~~py\n1\n~~~\n", &["py|1|1⏎||true"]);
        check(
            "````md\n```python\n1\n```\n````\n",
            &["md|1|```python⏎1⏎```⏎||true"],
        );
    }

    #[test]
    fn list_and_quote() {
        check(
            "- a\n\n  ```py\n  1\n    2\n  ```\n",
            &["py|3|1⏎  2⏎|  |true"],
        );
        check("1. ```py\n   1\n   ```\n", &["py|1|1⏎|   |true"]);
        check("> ```py\n> 1\n>\n> 2\n> ```\n", &["py|1|1⏎⏎2⏎|> |true"]);
    }

    #[test]
    fn crlf() {
        check("```py\r\n1\r\n\r\n2\r\n```\r\n", &["py|1|1⏎⏎2⏎||true"]);
        check("\ta\rb\rc", &["-|1|a⏎b⏎c|\t|true"]);
        check("\ta\r\rc", &["-|1|a⏎⏎c|\t|true"]);
        check("\ta\r\r\n\tc", &["-|1|a⏎⏎c|\t|true"]);
    }

    #[test]
    fn byte_order_mark_and_front_matter() {
        check(
            "\u{feff}---\ntitle: x\n---\n\n```py\n1\n```\n",
            &["py|5|1⏎||true"],
        );
        let document = parse("---\ntitle: x\n---\n\ntext\n");
        assert_eq!(
            document.front_matter,
            Some(FrontMatter {
                text: "title: x\n".into(),
                line: 2
            })
        );
    }

    #[test]
    fn comment_hides_a_fence() {
        check("<!--\n```py\n1\n```\n-->\n", &[]);
    }

    #[test]
    fn empty_and_blank_code() {
        check("```py\n```\n", &["py|1|||true"]);
        check("```py\n\n```\n", &["py|1|⏎||true"]);
    }

    #[test]
    fn unclosed() {
        check("```py\n1\n", &["py|1|1⏎||false"]);
        check("```py", &["py|1|||false"]);
        check("```py\n", &["py|1|||false"]);
        check("```py\n1\n``\n", &["py|1|1⏎``⏎||false"]);
        check("> ```py\n> 1\n\ntext\n", &["py|1|1⏎|> |false"]);
    }

    #[test]
    fn closed_at_the_end_without_a_line_end() {
        check("```py\n1\n```", &["py|1|1⏎||true"]);
    }

    #[test]
    fn tabs() {
        check(
            "-\ta\n\n\t```py\n\tif 1:\n\t\tx\n\t```\n",
            &["py|3|if 1:⏎\tx⏎|\t|true"],
        );
    }

    #[test]
    fn indented_block() {
        check("a\n\n    >>> 1\n    1\n", &["-|3|>>> 1⏎1⏎|    |true"]);
    }

    #[test]
    fn headings_and_comments_carry_their_lines() {
        let document = parse("# A `b` c\n\n<!-- verify: skip=\"x\" -->\n```py\n1\n```\n\nB\n---\n");
        assert_eq!(
            document.headings,
            [
                Heading {
                    level: 1,
                    text: "A b c".into(),
                    line: 1
                },
                Heading {
                    level: 2,
                    text: "B".into(),
                    line: 8
                },
            ]
        );
        assert_eq!(document.comments.len(), 1);
        assert_eq!(document.comments[0].text, "verify: skip=\"x\"");
        assert_eq!(document.comments[0].line, 3);
        assert_eq!(document.blocks.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn offsets_always_slice_the_page(page in "([ >\\-\t]{0,3}(```|~~~|````)?(py|a|é|<!--|-->|---|# )?(\r\n|\n| ))*") {
            for block in parse(&page).blocks {
                let _ = &page[block.span.clone()];
                for range in block.code_lines {
                    let _ = &page[range];
                }
            }
        }
    }
}
