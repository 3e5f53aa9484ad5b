//! Transcripts (`>>>` and `...`) read and judged as Python's `doctest` reads and judges them.
//!
//! Pages full of transcripts were written against `doctest`, by hand or with pytest. They must get the
//! verdict they always got, or nobody can trust the verdicts that differ. So this module follows
//! `Lib/doctest.py` of CPython 3.13 (`DocTestParser`, `OutputChecker`, the decision in
//! `DocTestRunner.__run`) down to its oddities, and `_pytest/doctest.py` for the flags that pytest
//! adds. `tests/doctest_agreement.rs` holds it to the `doctest` of whichever Python is installed.
//!
//! Three things differ on purpose. `doctest` raises at the first mistake in a transcript; here every
//! mistake is a [`Problem`]. `doctest` reports a bad option at its statement's prompt; here it is
//! reported at its own line. And with `NUMBER` a digit is 0 to 9, where pytest takes any script's.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::{BitOr, Range};
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// One prompt with its continuation lines, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Python source without prompts and indentation; ends in a newline.
    pub source: String,
    /// The expected output or traceback without indentation; empty, or ends in a newline.
    pub want: String,
    /// From the exception's type on, if `want` is a traceback; ends in a newline.
    pub exception_message: Option<String>,
    /// What the directives in `source` switch on and off.
    pub options: Options,
    /// The 1-based line of the block with the `>>>`.
    pub line: usize,
    /// The 1-based lines of the block that hold `want`; if there are none, empty at the line before
    /// which they would be inserted.
    pub want_lines: Range<usize>,
    /// Columns before the `>>>`, tabs counted as `doctest` expands them (to multiples of 8).
    pub indent: usize,
}

/// A mistake in a transcript, for which `doctest` would refuse all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// 1-based, within the block.
    pub line: usize,
    pub message: String,
}

/// What running a statement gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got<'a> {
    /// It ended normally, having printed this.
    Output(&'a str),
    /// An exception ended it.
    Raised {
        stdout: &'a str,
        /// `traceback.format_exception_only()` joined: type, message and notes, with a final newline.
        message: &'a str,
    },
}

/// A set of `doctest`'s option flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

/// How a statement's directives change the flags that hold around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub on: Flags,
    pub off: Flags,
}

/// A name that neither `doctest` nor pytest gives to a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFlag {
    pub name: String,
    pub nearest: Option<&'static str>,
}

/// The statements of a transcript, and every mistake in it, in the order of their lines.
///
/// Never fails: with problems, the statements are what could be read, fit to be listed but not to be run.
/// As in `doctest`, a prompt with nothing but a comment is no statement, whatever stands below it.
pub fn parse(block: &str) -> (Vec<Statement>, Vec<Problem>) {
    let text = expand_tabs(&block.replace("\r\n", "\n"));
    let margin = margin(&text);
    let lines: Vec<&str> = text
        .split('\n')
        .map(|line| skip_columns(line, margin))
        .collect();
    let mut statements = Vec::new();
    let mut problems = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if !has_prompt(lines[at], ">>>") {
            at += 1;
            continue;
        }
        let source = run(&lines, at, |line| has_prompt(line, "..."));
        let want = run(&lines, source.end - 1, is_want);
        let raw = Raw {
            source: &lines[source.clone()],
            want: &lines[source.end..want.end],
            line: at + 1,
            margin,
        };
        statements.extend(raw.read(&mut problems));
        at = want.end;
    }
    problems.sort_by_key(|problem| problem.line);
    (statements, problems)
}

/// Whether `doctest` would call this statement a success under the flags `base` and its own.
pub fn judge(statement: &Statement, got: &Got, base: Flags) -> bool {
    let flags = statement.options.apply(base);
    if flags.contains(Flags::SKIP) {
        return true;
    }
    match (got, &statement.exception_message) {
        // An expected exception that does not come is a difference in output like any other, and
        // a program that prints a traceback may even match.
        (Got::Output(stdout), _) => matches(&statement.want, &terminated(stdout), flags),
        (Got::Raised { .. }, None) => false,
        // What was printed before an exception is not compared: a want cannot hold both.
        (Got::Raised { message, .. }, Some(want)) => {
            exception_matches(want, &terminated(message), flags)
        }
    }
}

/// `OutputChecker.check_output`, with pytest's second look at numbers and literals.
///
/// `got` is compared as it stands; [`judge`] adds the final newline that a want cannot leave out.
pub fn matches(want: &str, got: &str, flags: Flags) -> bool {
    if check_output(want, got, flags) {
        return true;
    }
    let lenient = Flags::ALLOW_UNICODE | Flags::ALLOW_BYTES | Flags::NUMBER;
    if !flags.intersects(lenient) {
        return false;
    }
    let (mut want, mut got) = (Cow::Borrowed(want), Cow::Borrowed(got));
    for (flag, literal) in [
        (Flags::ALLOW_UNICODE, &*UNICODE_LITERAL),
        (Flags::ALLOW_BYTES, &*BYTES_LITERAL),
    ] {
        if flags.contains(flag) {
            want = Cow::Owned(literal.replace_all(&want, "${1}${2}").into_owned());
            got = Cow::Owned(literal.replace_all(&got, "${1}${2}").into_owned());
        }
    }
    if flags.contains(Flags::NUMBER) {
        got = Cow::Owned(adopt_close_numbers(&want, &got));
    }
    check_output(&want, &got, flags)
}

/// Whether an exception is the expected one; both messages begin at the type and end in a newline.
///
/// Where a syntax error's `got_message` begins with its file, source line and carets, they are passed over.
pub fn exception_matches(want_message: &str, got_message: &str, flags: Flags) -> bool {
    let got_message = without_location(got_message);
    matches(want_message, got_message, flags)
        || flags.contains(Flags::IGNORE_EXCEPTION_DETAIL)
            && matches(
                exception_name(want_message),
                exception_name(got_message),
                flags,
            )
}

/// How a want for an exception begins; what follows is its type and message.
pub const RAISED: &str = "Traceback (most recent call last):\n    ...\n";

/// The want that a recorder writes for this result, before it is indented; empty, or ends in a newline.
///
/// Some results no want can express: a tab, a first line that begins with `...`, a line that begins
/// with `>>>`, `<BLANKLINE>` printed next to a blank line, output before an exception. A recorder
/// therefore has to [`parse`] and [`judge`] what it wrote before it may call it recorded.
pub fn want_for(got: &Got) -> String {
    let mut want = String::new();
    let text = match got {
        Got::Output(stdout) => terminated(stdout),
        Got::Raised { message, .. } => {
            want.push_str(RAISED);
            terminated(without_location(message))
        }
    };
    for line in text.split_terminator('\n') {
        // A line of mere spaces would end the want just as an empty one does.
        let blank = line.chars().all(|c| c.is_ascii() && is_space(c));
        want.push_str(if blank { BLANKLINE } else { line });
        want.push('\n');
    }
    want
}

impl Flags {
    pub const DONT_ACCEPT_TRUE_FOR_1: Self = Self(1 << 0);
    pub const DONT_ACCEPT_BLANKLINE: Self = Self(1 << 1);
    pub const NORMALIZE_WHITESPACE: Self = Self(1 << 2);
    pub const ELLIPSIS: Self = Self(1 << 3);
    pub const SKIP: Self = Self(1 << 4);
    pub const IGNORE_EXCEPTION_DETAIL: Self = Self(1 << 5);
    /// pytest's: numbers need to agree only to the precision that the want is written in.
    pub const NUMBER: Self = Self(1 << 6);
    /// pytest's: `u'…'` equals `'…'`.
    pub const ALLOW_UNICODE: Self = Self(1 << 7);
    /// pytest's: `b'…'` equals `'…'`.
    pub const ALLOW_BYTES: Self = Self(1 << 8);

    /// Every name that a directive or a configuration may use. The last five choose how `doctest`
    /// prints a failure: pages that carry them stay valid, but a failure is reported our way.
    const NAMED: [(&'static str, Self); 14] = [
        ("DONT_ACCEPT_TRUE_FOR_1", Self::DONT_ACCEPT_TRUE_FOR_1),
        ("DONT_ACCEPT_BLANKLINE", Self::DONT_ACCEPT_BLANKLINE),
        ("NORMALIZE_WHITESPACE", Self::NORMALIZE_WHITESPACE),
        ("ELLIPSIS", Self::ELLIPSIS),
        ("SKIP", Self::SKIP),
        ("IGNORE_EXCEPTION_DETAIL", Self::IGNORE_EXCEPTION_DETAIL),
        ("NUMBER", Self::NUMBER),
        ("ALLOW_UNICODE", Self::ALLOW_UNICODE),
        ("ALLOW_BYTES", Self::ALLOW_BYTES),
        ("REPORT_UDIFF", Self(1 << 9)),
        ("REPORT_CDIFF", Self(1 << 10)),
        ("REPORT_NDIFF", Self(1 << 11)),
        ("REPORT_ONLY_FIRST_FAILURE", Self(1 << 12)),
        ("FAIL_FAST", Self(1 << 13)),
    ];

    /// The flag of this name, as a set of one.
    pub fn parse(name: &str) -> Result<Self, UnknownFlag> {
        Self::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, flag)| *flag)
            .ok_or_else(|| UnknownFlag {
                name: name.to_owned(),
                nearest: Self::nearest(name),
            })
    }

    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// The name that shares at least half of its letters with a misspelt one.
    fn nearest(name: &str) -> Option<&'static str> {
        let name = name.to_ascii_uppercase();
        Self::NAMED
            .iter()
            .map(|(known, _)| (strsim::normalized_damerau_levenshtein(known, &name), *known))
            .filter(|(similarity, _)| *similarity >= 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Options {
    /// The flags that hold for a statement with these options where `base` holds around it.
    pub fn apply(self, base: Flags) -> Flags {
        (base | self.on).without(self.off)
    }

    pub fn is_empty(self) -> bool {
        self.on.is_empty() && self.off.is_empty()
    }

    /// Adds `+NAME` or `-NAME`; the last word on a flag holds.
    fn add(&mut self, word: &str) -> Result<(), String> {
        let (on, name) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(name), _) => (true, name),
            (_, Some(name)) => (false, name),
            _ => {
                let known = match Flags::parse(word) {
                    Ok(_) => Some(word),
                    Err(unknown) => unknown.nearest,
                };
                return Err(match known {
                    Some(name) => {
                        format!("option `{word}` without a sign; write `+{name}` or `-{name}`")
                    }
                    None => format!(
                        "`{word}` is no doctest option; write options as `+NAME` or `-NAME`"
                    ),
                });
            }
        };
        let flag = Flags::parse(name).map_err(|unknown| unknown.to_string())?;
        let (set, cleared) = if on {
            (&mut self.on, &mut self.off)
        } else {
            (&mut self.off, &mut self.on)
        };
        *set = *set | flag;
        *cleared = cleared.without(flag);
        Ok(())
    }
}

impl fmt::Display for UnknownFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown doctest option `{}`", self.name)?;
        if let Some(nearest) = self.nearest {
            return write!(f, "; did you mean `{nearest}`?");
        }
        f.write_str("; there are")?;
        for (at, (known, _)) in Flags::NAMED.iter().enumerate() {
            write!(f, "{} `{known}`", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFlag {}

/// The lines of one statement as they stand in the block, the common margin taken off.
struct Raw<'a> {
    source: &'a [&'a str],
    want: &'a [&'a str],
    line: usize,
    margin: usize,
}

impl Raw<'_> {
    /// `DocTestParser._parse_example`.
    fn read(&self, problems: &mut Vec<Problem>) -> Option<Statement> {
        let indent = leading_spaces(self.source[0]);
        let source = self.read_source(indent, problems);
        let options = self.read_options(&source, problems);
        let want = self.read_want(indent, problems);
        if is_blank_or_comment(&source) {
            if !options.is_empty() {
                problems.push(Problem {
                    line: self.line,
                    message:
                        "directive without a statement; write it at the end of the statement's line"
                            .to_owned(),
                });
            }
            return None;
        }
        let first_want_line = self.line + self.source.len();
        Some(Statement {
            source: terminated(&source).into_owned(),
            exception_message: exception_message(&want),
            want: terminated(&want).into_owned(),
            options,
            line: self.line,
            want_lines: first_want_line..first_want_line + self.want.len(),
            indent: self.margin + indent,
        })
    }

    fn read_source(&self, indent: usize, problems: &mut Vec<Problem>) -> String {
        let mut source = Vec::new();
        for (line, text) in (self.line..).zip(self.source) {
            let (prompt, rest) = text.trim_start_matches(' ').split_at(">>>".len());
            if leading_spaces(text) != indent {
                problems.push(self.misaligned(line, indent));
            } else if !rest.is_empty() && !rest.starts_with(' ') {
                problems.push(Problem {
                    line,
                    message: format!(
                        "no space after the prompt `{prompt}`; write `{prompt} {rest}`"
                    ),
                });
            }
            source.push(rest.strip_prefix(' ').unwrap_or(rest));
        }
        source.join("\n")
    }

    fn read_want(&self, indent: usize, problems: &mut Vec<Problem>) -> String {
        let mut want = Vec::new();
        for (line, text) in (self.line + self.source.len()..).zip(self.want) {
            if leading_spaces(text) < indent {
                problems.push(self.misaligned(line, indent));
            }
            want.push(&text[leading_spaces(text).min(indent)..]);
        }
        want.join("\n")
    }

    /// `DocTestParser._find_options`, false positives in string literals included.
    fn read_options(&self, source: &str, problems: &mut Vec<Problem>) -> Options {
        let mut options = Options::default();
        for directive in DIRECTIVE.captures_iter(source) {
            let words = &directive[1];
            let start = directive.get(1).map_or(0, |group| group.start());
            for word in words
                .split(|c| c == ',' || is_space(c))
                .filter(|word| !word.is_empty())
            {
                let Err(message) = options.add(word) else {
                    continue;
                };
                problems.push(Problem {
                    line: self.line + source[..start].matches('\n').count(),
                    message,
                });
                // Words without a sign are most likely prose, of which one complaint is enough.
                if !word.starts_with(['+', '-']) {
                    break;
                }
            }
        }
        options
    }

    fn misaligned(&self, line: usize, indent: usize) -> Problem {
        Problem {
            line,
            message: format!(
                "inconsistent leading whitespace; begin this line in column {}, where its `>>>` begins",
                self.margin + indent + 1
            ),
        }
    }
}

const BLANKLINE: &str = "<BLANKLINE>";

/// `_OPTION_DIRECTIVE_RE`; the control characters are whitespace to Python, but not to Unicode.
static DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?m)#[\s\x1c-\x1f]*doctest:[\s\x1c-\x1f]*([^\n'"]*)$"#));

static UNICODE_LITERAL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(\W|^)[uU]([rR]?['"])"#));

static BYTES_LITERAL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(\W|^)[bB]([rR]?['"])"#));

/// A number as pytest's `NUMBER` sees one: it has a point or an exponent, so integers stay exact.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)
        [+-]? [0-9]* \. (?<fraction> [0-9]+ ) (?: [Ee] (?<exponent1> [+-]? [0-9]+ ) )?
        | [+-]? [0-9]+ \. (?: [Ee] (?<exponent2> [+-]? [0-9]+ ) )?
        | [+-]? [0-9]+ [Ee] (?<exponent3> [+-]? [0-9]+ )",
    )
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns of this module are constants that compile")
}

/// `OutputChecker.check_output`.
fn check_output(want: &str, got: &str, flags: Flags) -> bool {
    if want == got {
        return true;
    }
    // Authors write either `é` or `\xe9`, whichever their page can hold, and both must match `é`.
    let mut want = escape_non_ascii(want);
    let mut got = escape_non_ascii(got);
    if got == want {
        return true;
    }
    if !flags.contains(Flags::DONT_ACCEPT_TRUE_FOR_1)
        && matches!((&*got, &*want), ("True\n", "1\n") | ("False\n", "0\n"))
    {
        return true;
    }
    if !flags.contains(Flags::DONT_ACCEPT_BLANKLINE) {
        want = empty_lines_where(&want, |line| {
            line.strip_prefix(BLANKLINE)
                .is_some_and(|rest| rest.chars().all(is_space))
        });
        got = empty_lines_where(&got, |line| line.chars().all(is_space));
        if got == want {
            return true;
        }
    }
    // The two relaxations add up, so what this one changes is what the next one compares.
    if flags.contains(Flags::NORMALIZE_WHITESPACE) {
        want = single_spaced(&want);
        got = single_spaced(&got);
        if got == want {
            return true;
        }
    }
    flags.contains(Flags::ELLIPSIS) && ellipsis_matches(&want, &got)
}

/// `_ellipsis_match`: each piece of the want is taken at the first place where it fits, which finds
/// a match whenever there is one, in linear time.
fn ellipsis_matches(want: &str, got: &str) -> bool {
    let pieces: Vec<&str> = want.split("...").collect();
    let [head, middle @ .., tail] = pieces.as_slice() else {
        return want == got;
    };
    // Head and tail may not share characters of `got`: `aa...aa` does not match `aaa`.
    let Some(mut left) = got
        .strip_prefix(head)
        .and_then(|left| left.strip_suffix(tail))
    else {
        return false;
    };
    for piece in middle {
        let Some((_, right)) = left.split_once(piece) else {
            return false;
        };
        left = right;
    }
    true
}

/// `_strip_exception_details`: the class's own name, without module and message.
fn exception_name(message: &str) -> &str {
    let line = message.split('\n').next().unwrap_or(message);
    let path = line.split(':').next().unwrap_or(line);
    path.rsplit('.').next().unwrap_or(path)
}

/// From the type on: syntax errors alone are formatted with their file, line and carets first, which
/// differ between versions.
fn without_location(message: &str) -> &str {
    if !message.starts_with(' ') {
        return message;
    }
    let mut start = 0;
    for line in message.split_inclusive('\n') {
        let name = line.split(':').next().unwrap_or_default();
        let has_name = line.len() > name.len() && !name.is_empty();
        if has_name && !name.contains(is_space) {
            return &message[start..];
        }
        start += line.len();
    }
    message
}

/// What `_EXCEPTION_RE` calls `msg`: all from the first line below the header that begins with a letter or digit.
fn exception_message(want: &str) -> Option<String> {
    let (header, mut rest) = want.split_once('\n')?;
    let after = ["most recent call last", "innermost last"]
        .iter()
        .find_map(|order| header.strip_prefix(&*format!("Traceback ({order}):")))?;
    if !after.chars().all(is_space) {
        return None;
    }
    while !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        rest = rest.split_once('\n')?.1;
    }
    Some(terminated(rest).into_owned())
}

/// `got` with each number that is close enough to the want's replaced by the want's spelling.
///
/// "Close enough" is `pytest.approx` with one unit of the last digit that the want writes as its absolute
/// tolerance. Numbers pair up in order, so where their counts differ nothing is replaced.
fn adopt_close_numbers(want: &str, got: &str) -> String {
    let wanted: Vec<Captures> = NUMBER.captures_iter(want).collect();
    if wanted.len() != NUMBER.find_iter(got).count() {
        return got.to_owned();
    }
    let mut wanted = wanted.iter();
    NUMBER
        .replace_all(got, |actual: &Captures| match wanted.next() {
            Some(wanted) if is_close(wanted, &actual[0]) => wanted[0].to_owned(),
            _ => actual[0].to_owned(),
        })
        .into_owned()
}

fn is_close(wanted: &Captures, actual: &str) -> bool {
    let (Ok(want), Ok(got)) = (wanted[0].parse::<f64>(), actual.parse::<f64>()) else {
        return false;
    };
    let digits = wanted
        .name("fraction")
        .map_or(0, |fraction| fraction.as_str().len());
    let exponent = ["exponent1", "exponent2", "exponent3"]
        .iter()
        .find_map(|name| wanted.name(name))
        .map_or(Ok(0.0), |exponent| exponent.as_str().parse::<f64>());
    let (Ok(digits), Ok(exponent)) = (u32::try_from(digits), exponent) else {
        return false;
    };
    let tolerance = 10f64.powf(exponent - f64::from(digits));
    let difference = (want - got).abs();
    // `1e999` reads as infinity, which is close to nothing but itself.
    want.total_cmp(&got).is_eq() || difference.is_finite() && difference <= tolerance
}

/// Python's `str.encode("ascii", "backslashreplace")`.
fn escape_non_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // Writing to a string cannot fail.
        let _ = match u32::from(c) {
            0..0x80 => escaped.write_char(c),
            code @ 0x80..0x100 => write!(escaped, "\\x{code:02x}"),
            code @ 0x100..0x1_0000 => write!(escaped, "\\u{code:04x}"),
            code => write!(escaped, "\\U{code:08x}"),
        };
    }
    escaped
}

fn empty_lines_where(text: &str, is_emptied: impl Fn(&str) -> bool) -> String {
    let lines: Vec<&str> = text
        .split('\n')
        .map(|line| if is_emptied(line) { "" } else { line })
        .collect();
    lines.join("\n")
}

fn single_spaced(text: &str) -> String {
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// Adds the final newline that neither a want nor a source can be written without.
fn terminated(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.ends_with('\n') {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{text}\n"))
    }
}

/// Python's `str.expandtabs()`.
fn expand_tabs(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let width = 8 - column % 8;
                expanded.extend(std::iter::repeat_n(' ', width));
                column += width;
            }
            '\n' | '\r' => {
                expanded.push(c);
                column = 0;
            }
            _ => {
                expanded.push(c);
                column += 1;
            }
        }
    }
    expanded
}

/// Spaces that every line with text on it begins with.
fn margin(text: &str) -> usize {
    text.split('\n')
        .filter(|line| {
            line.trim_start_matches(' ')
                .starts_with(|c: char| !is_space(c))
        })
        .map(leading_spaces)
        .min()
        .unwrap_or(0)
}

fn skip_columns(line: &str, columns: usize) -> &str {
    line.char_indices()
        .nth(columns)
        .map_or("", |(start, _)| &line[start..])
}

fn leading_spaces(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn has_prompt(line: &str, prompt: &str) -> bool {
    line.trim_start_matches(' ').starts_with(prompt)
}

fn is_want(line: &str) -> bool {
    !line.trim_start_matches(' ').is_empty() && !has_prompt(line, ">>>")
}

/// The line `first` and those after it that belong to it.
fn run(lines: &[&str], first: usize, belongs: impl Fn(&str) -> bool) -> Range<usize> {
    let following = &lines[first + 1..];
    first..first + 1 + following.iter().take_while(|line| belongs(line)).count()
}

/// `DocTestParser._IS_BLANK_OR_COMMENT`, whose `$` also matches before a final newline.
fn is_blank_or_comment(source: &str) -> bool {
    let source = source.strip_suffix('\n').unwrap_or(source);
    let text = source.trim_start_matches(' ');
    text.is_empty() || text.starts_with('#') && !text.contains('\n')
}

/// Python's `str.isspace()`: Unicode's white space and four control characters besides.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `"ELLIPSIS NUMBER"` as a set.
    fn flags(names: &str) -> Flags {
        names
            .split_whitespace()
            .map(|name| Flags::parse(name).unwrap())
            .fold(Flags::default(), |all, flag| all | flag)
    }

    fn parse_clean(block: &str) -> Vec<Statement> {
        let (statements, problems) = parse(block);
        assert_eq!(problems, [], "{block}");
        statements
    }

    mod reading {
        use super::*;

        /// Sources and wants, in order.
        fn check(block: &str, expected: &[(&str, &str)]) {
            let statements = parse_clean(block);
            let actual: Vec<(&str, &str)> = statements
                .iter()
                .map(|statement| (&*statement.source, &*statement.want))
                .collect();
            assert_eq!(actual, expected, "{block:?}");
        }

        #[test]
        fn statements() {
            check("", &[]);
            check("prose\n\nmore", &[]);
            check(">>> 1", &[("1\n", "")]);
            check(">>> 1\n1", &[("1\n", "1\n")]);
            check(">>> 1\n1\n", &[("1\n", "1\n")]);
            check(">>> 1\r\n1\r\n", &[("1\n", "1\n")]);
            check(">>> 1\n1\n>>> 2\n2\n", &[("1\n", "1\n"), ("2\n", "2\n")]);
            check(">>> 1\n1\n\nprose\n>>> 2\n", &[("1\n", "1\n"), ("2\n", "")]);
        }

        #[test]
        fn continuation_lines() {
            check(">>> if 1:\n...     2\n2\n", &[("if 1:\n    2\n", "2\n")]);
            check(
                ">>> if 1:\n...     2\n...\n2\n",
                &[("if 1:\n    2\n", "2\n")],
            );
            check(
                ">>> if 1:\n...     2\n... \n2\n",
                &[("if 1:\n    2\n", "2\n")],
            );
            check(">>> '\n...\n... '\n", &[("'\n\n'\n", "")]);
        }

        #[test]
        fn source_keeps_what_stands_in_it() {
            check(">>>  x\n", &[(" x\n", "")]);
            check(">>> x \n", &[("x \n", "")]);
            check(">>> '>>> y'\n'>>> y'\n", &[("'>>> y'\n", "'>>> y'\n")]);
        }

        #[test]
        fn prompts_without_a_statement_are_dropped_with_what_is_below() {
            check(">>>\n", &[]);
            check(">>> \n...\n", &[]);
            check(">>> # only a comment\n", &[]);
            check(">>> # a comment\nlost\n>>> 1\n", &[("1\n", "")]);
            check(">>> # a comment\n... 1\n", &[("# a comment\n1\n", "")]);
        }

        #[test]
        fn want_ends_at_a_blank_line_or_prompt() {
            check(">>> 1\na \n b\n  \nc\n", &[("1\n", "a \n b\n")]);
            check(">>> 1\na\n   >>> 2\n", &[("1\n", "a\n"), ("2\n", "")]);
            check(">>> 1\na\n...\nb\n", &[("1\n", "a\n...\nb\n")]);
            check(">>> 1\na\n\u{a0}\nb\n", &[("1\n", "a\n\u{a0}\nb\n")]);
        }

        #[test]
        fn indentation_is_taken_off() {
            check("  >>> 1\n  a\n    b\n", &[("1\n", "a\n  b\n")]);
            check("x\n  >>> 1\n  a\n    b\n", &[("1\n", "a\n  b\n")]);
            check("\t>>> 1\n\ta\tb\n", &[("1\n", "a       b\n")]);
            check("    >>> 1\n\ta\n", &[("1\n", "    a\n")]);
            check(">>> 'ab\r\tc'\n", &[("'ab\r        c'\n", "")]);
        }

        /// Line, lines of the want, and indentation of each statement.
        fn check_places(block: &str, expected: &[(usize, Range<usize>, usize)]) {
            let actual: Vec<_> = parse_clean(block)
                .into_iter()
                .map(|statement| (statement.line, statement.want_lines, statement.indent))
                .collect();
            assert_eq!(actual, expected, "{block:?}");
        }

        #[test]
        fn places() {
            check_places(">>> 1\n", &[(1, 2..2, 0)]);
            check_places(">>> 1\n1", &[(1, 2..3, 0)]);
            check_places("x\r\n\r\n>>> 1\r\n1\r\n2\r\n", &[(3, 4..6, 0)]);
            check_places(
                ">>> if 1:\n...   2\n...\n2\n>>> 3\n3\n",
                &[(1, 4..5, 0), (5, 6..7, 0)],
            );
            check_places(">>> # c\nlost\n\n>>> 1\n", &[(4, 5..5, 0)]);
            check_places("  >>> 1\n  1\n", &[(1, 2..3, 2)]);
            check_places("x\n\t>>> 1\n", &[(2, 3..3, 8)]);
            check_places(" x\n   >>> 1\n", &[(2, 3..3, 3)]);
        }

        fn check_exception(want: &str, expected: Option<&str>) {
            let statements = parse_clean(&format!(">>> f()\n{want}"));
            assert_eq!(
                statements[0].exception_message.as_deref(),
                expected,
                "{want:?}"
            );
        }

        #[test]
        fn exception_messages() {
            let header = "Traceback (most recent call last):";
            check_exception("ValueError: x\n", None);
            check_exception(header, None);
            check_exception(&format!("{header}\n  File 1\n"), None);
            check_exception(&format!("{header}\nE: x"), Some("E: x\n"));
            check_exception(&format!("{header}  \nE: x\n"), Some("E: x\n"));
            check_exception(&format!("{header} x\nE: x\n"), None);
            check_exception(&format!("x\n{header}\nE: x\n"), None);
            check_exception(&format!("{header}\n    ...\nE: x\n"), Some("E: x\n"));
            check_exception(
                &format!("{header}\n  File 1\n    f()\n...\nE: x\n"),
                Some("E: x\n"),
            );
            check_exception(
                &format!("{header}\n  a\nE: x\n  y\nz\n"),
                Some("E: x\n  y\nz\n"),
            );
            check_exception(&format!("{header}\n  a\nÉ: x\n"), Some("É: x\n"));
            check_exception("Traceback (innermost last):\n_E\n", Some("_E\n"));
            check_exception("Traceback (latest call last):\nE\n", None);
        }
    }

    mod directives {
        use super::*;

        /// Flags switched on, flags switched off.
        fn check(source: &str, on: &str, off: &str) {
            let statements = parse_clean(source);
            let expected = Options {
                on: flags(on),
                off: flags(off),
            };
            assert_eq!(statements[0].options, expected, "{source}");
        }

        #[test]
        fn are_read_from_comments() {
            check(">>> x", "", "");
            check(">>> x # doctest: +SKIP", "SKIP", "");
            check(">>> x #doctest:+SKIP", "SKIP", "");
            check(">>> x # doctest: -ELLIPSIS", "", "ELLIPSIS");
            check(">>> x # doctest: +SKIP, -NUMBER", "SKIP", "NUMBER");
            check(
                ">>> x # doctest: +SKIP -NUMBER,,+ELLIPSIS",
                "SKIP ELLIPSIS",
                "NUMBER",
            );
            check(">>> x # doctest: +SKIP -SKIP", "", "SKIP");
            check(">>> x # doctest: -SKIP +SKIP", "SKIP", "");
            check(">>> x # doctest:", "", "");
            check(">>> x # note # doctest: +SKIP", "SKIP", "");
            check(">>> x # DOCTEST: +SKIP", "", "");
        }

        #[test]
        fn may_stand_on_any_line() {
            check(">>> f(\n... 1) # doctest: +SKIP", "SKIP", "");
            check(
                ">>> f( # doctest: +SKIP\n... 1) # doctest: +NUMBER",
                "SKIP NUMBER",
                "",
            );
            check(">>> x\n...    # doctest: +SKIP", "SKIP", "");
        }

        #[test]
        fn are_no_directives_before_a_quote() {
            check(">>> '# doctest: +SKIP'", "", "");
            check(">>> x # doctest: +SKIP \"", "", "");
            check(">>> '''\n... # doctest: +SKIP\n... '''", "SKIP", "");
        }

        #[test]
        fn for_reporting_are_accepted() {
            for (name, flag) in Flags::NAMED {
                check(&format!(">>> x # doctest: +{name}"), name, "");
                assert_eq!(Flags::parse(name), Ok(flag));
            }
        }

        fn check_applied(base: &str, source: &str, expected: &str) {
            let options = parse_clean(source)[0].options;
            assert_eq!(options.apply(flags(base)), flags(expected), "{source}");
        }

        #[test]
        fn change_the_flags_around_them() {
            check_applied("", ">>> x", "");
            check_applied("SKIP", ">>> x", "SKIP");
            check_applied("SKIP", ">>> x # doctest: +NUMBER", "SKIP NUMBER");
            check_applied("SKIP NUMBER", ">>> x # doctest: -NUMBER", "SKIP");
            check_applied("SKIP", ">>> x # doctest: -NUMBER", "SKIP");
        }

        fn check_unknown(name: &str, expected: &str) {
            assert_eq!(Flags::parse(name).unwrap_err().to_string(), expected);
        }

        #[test]
        fn unknown_names_get_the_nearest() {
            check_unknown(
                "ELIPSIS",
                "unknown doctest option `ELIPSIS`; did you mean `ELLIPSIS`?",
            );
            check_unknown(
                "skip",
                "unknown doctest option `skip`; did you mean `SKIP`?",
            );
            check_unknown(
                "NORMALISE_WHITESPACES",
                "unknown doctest option `NORMALISE_WHITESPACES`; did you mean `NORMALIZE_WHITESPACE`?",
            );
            check_unknown(
                "X",
                "unknown doctest option `X`; there are `DONT_ACCEPT_TRUE_FOR_1`, `DONT_ACCEPT_BLANKLINE`, \
                 `NORMALIZE_WHITESPACE`, `ELLIPSIS`, `SKIP`, `IGNORE_EXCEPTION_DETAIL`, `NUMBER`, \
                 `ALLOW_UNICODE`, `ALLOW_BYTES`, `REPORT_UDIFF`, `REPORT_CDIFF`, `REPORT_NDIFF`, \
                 `REPORT_ONLY_FIRST_FAILURE`, `FAIL_FAST`",
            );
        }
    }

    mod problems {
        use super::*;

        fn check(block: &str, expected: &[(usize, &str)]) {
            let (_, problems) = parse(block);
            let actual: Vec<(usize, &str)> = problems
                .iter()
                .map(|problem| (problem.line, &*problem.message))
                .collect();
            assert_eq!(actual, expected, "{block:?}");
        }

        #[test]
        fn prompt_without_a_space() {
            check(
                ">>>x",
                &[(1, "no space after the prompt `>>>`; write `>>> x`")],
            );
            check(
                "\n>>> x\n...y",
                &[(3, "no space after the prompt `...`; write `... y`")],
            );
            check(
                ">>> x\n....",
                &[(2, "no space after the prompt `...`; write `... .`")],
            );
            check(
                ">>>é",
                &[(1, "no space after the prompt `>>>`; write `>>> é`")],
            );
        }

        #[test]
        fn inconsistent_indentation() {
            let at = |column| {
                format!(
                    "inconsistent leading whitespace; begin this line in column {column}, where its `>>>` begins"
                )
            };
            check(">>> x\n ... y", &[(2, &at(1))]);
            check("p\n  >>> x\n... y", &[(3, &at(3))]);
            check("p\n  >>> x\n  a\n b\n", &[(4, &at(3))]);
            check("p\n  >>> x\né\n", &[(3, &at(3))]);
            check("  >>> x\n a\n", &[(2, &at(3))]);
            check("p\n  >>> x\n \u{a0}\n", &[(3, &at(3))]);
        }

        #[test]
        fn bad_options() {
            check(
                ">>> f(\n... x) # doctest: +ELLIPSES",
                &[(
                    2,
                    "unknown doctest option `ELLIPSES`; did you mean `ELLIPSIS`?",
                )],
            );
            check(
                ">>> x # doctest: SKIP",
                &[(1, "option `SKIP` without a sign; write `+SKIP` or `-SKIP`")],
            );
            check(
                ">>> x # doctest: it works",
                &[(
                    1,
                    "`it` is no doctest option; write options as `+NAME` or `-NAME`",
                )],
            );
            check(
                ">>> x # doctest: *SKIP",
                &[(1, "option `*SKIP` without a sign; write `+SKIP` or `-SKIP`")],
            );
            check(
                "\n>>> # doctest: +SKIP\n",
                &[(
                    2,
                    "directive without a statement; write it at the end of the statement's line",
                )],
            );
        }

        #[test]
        fn come_all_at_once_by_line() {
            let (statements, problems) =
                parse(">>>1\n>>> 2 # doctest: +SKIPP, +NUMBR\n ... 3\n>>> 4\n4\n");
            let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
            assert_eq!(lines, [1, 2, 2, 3]);
            assert_eq!(statements.len(), 3);
            assert_eq!(statements[2].want, "4\n");
        }
    }

    mod comparing {
        use super::*;

        fn check(want: &str, got: &str, names: &str, expected: bool) {
            let verdict = matches(want, got, flags(names));
            assert_eq!(verdict, expected, "{want:?} against {got:?} with {names}");
        }

        #[test]
        fn exact() {
            check("", "", "", true);
            check("a\n", "a\n", "", true);
            check("a\n", "a", "", false);
            check("a\n", "a \n", "", false);
            check("", "a\n", "", false);
            check("a\n", "", "", false);
        }

        #[test]
        fn truth_for_numbers() {
            check("1\n", "True\n", "", true);
            check("0\n", "False\n", "", true);
            check("True\n", "1\n", "", false);
            check("1\n", "True\n", "DONT_ACCEPT_TRUE_FOR_1", false);
            check("1\n1\n", "True\nTrue\n", "", false);
            check("0\n", "True\n", "", false);
        }

        #[test]
        fn blank_lines() {
            check("a\n<BLANKLINE>\nb\n", "a\n\nb\n", "", true);
            check("a\n<BLANKLINE>\nb\n", "a\n \t\nb\n", "", true);
            check("a\n<BLANKLINE>  \nb\n", "a\n\nb\n", "", true);
            check(
                "a\n<BLANKLINE>\nb\n",
                "a\n\nb\n",
                "DONT_ACCEPT_BLANKLINE",
                false,
            );
            check("a\n <BLANKLINE>\nb\n", "a\n\nb\n", "", false);
            check("a\n<BLANKLINE>x\nb\n", "a\n\nb\n", "", false);
            check("<BLANKLINE>\n", "\n", "", true);
            check("<BLANKLINE>\n", "<BLANKLINE>\n", "", true);
            check(
                "<BLANKLINE>\n",
                "<BLANKLINE>\n",
                "DONT_ACCEPT_BLANKLINE",
                true,
            );
            check("<BLANKLINE>\n", "\u{a0}\n", "", false);
        }

        #[test]
        fn whitespace() {
            check("a b\n", "a  b\n", "", false);
            check("a b\n", "a  b\n", "NORMALIZE_WHITESPACE", true);
            check("a\nb\n", " a\t\n\n b", "NORMALIZE_WHITESPACE", true);
            check("a b\n", "ab\n", "NORMALIZE_WHITESPACE", false);
            check("a b\n", "a\x1cb\n", "NORMALIZE_WHITESPACE", true);
            check("a b\n", "a\u{a0}b\n", "NORMALIZE_WHITESPACE", false);
        }

        #[test]
        fn ellipsis() {
            check("a...c\n", "abc\n", "", false);
            check("a...c\n", "abc\n", "ELLIPSIS", true);
            check("a...c\n", "ac\n", "ELLIPSIS", true);
            check("a...c\n", "a\n\nc\n", "ELLIPSIS", true);
            check("aa...aa\n", "aaa\n", "ELLIPSIS", false);
            check("aa...aa\n", "aaaa\n", "ELLIPSIS", true);
            check("...\n", "", "ELLIPSIS", false);
            check("...\n", "x\n", "ELLIPSIS", true);
            check("...", "", "ELLIPSIS", true);
            check("a...b...c\n", "axxbxxc\n", "ELLIPSIS", true);
            check("a...b...c\n", "axxc\n", "ELLIPSIS", false);
            check("a...b...b...c\n", "axbxc\n", "ELLIPSIS", false);
            check("a......c\n", "ac\n", "ELLIPSIS", true);
            check("a....c\n", "ab.c\n", "ELLIPSIS", true);
            check("a....c\n", "abc\n", "ELLIPSIS", false);
            check("a.......c\n", "a.xc\n", "ELLIPSIS", false);
            check("abc\n", "abd\n", "ELLIPSIS", false);
        }

        #[test]
        fn ellipsis_and_whitespace_add_up() {
            let both = "ELLIPSIS NORMALIZE_WHITESPACE";
            check("[0,   1, ..., 9]\n", "[0, 1,\n 2, 9]\n", both, true);
            check("a ... b\n", "a b\n", both, false);
            check("a\n<BLANKLINE>\n...\n", "a\n\nb\n", "ELLIPSIS", true);
        }

        #[test]
        fn escapes() {
            check("'\\xe9'\n", "'é'\n", "", true);
            check("'é'\n", "'\\xe9'\n", "", true);
            check("\\u20ac \\U0001f600\n", "€ 😀\n", "", true);
            check("\\u00e9\n", "é\n", "", false);
        }

        #[test]
        fn numbers() {
            check("3.14\n", "3.14159\n", "", false);
            check("3.14\n", "3.14159\n", "NUMBER", true);
            check("3.1416\n", "3.14159\n", "NUMBER", true);
            check("3.15\n", "3.14159\n", "NUMBER", true);
            check("3.16\n", "3.14159\n", "NUMBER", false);
            check("3.\n", "3.14159\n", "NUMBER", true);
            check("3.\n", "4.1\n", "NUMBER", false);
            check("3\n", "3.14159\n", "NUMBER", false);
            check("1e3\n", "1.4e3\n", "NUMBER", true);
            check("1e-3\n", "1.3e-3\n", "NUMBER", true);
            check("1.0e-3\n", "1.3e-3\n", "NUMBER", false);
            check("1.e3\n", "1.4e3\n", "NUMBER", true);
            check("-.5\n", "-0.49\n", "NUMBER", true);
            check("+0.5\n", "0.5\n", "NUMBER", true);
        }

        #[test]
        fn numbers_among_text() {
            check(
                "[0.1, 2.00, 3]\n",
                "[0.1000001, 1.9999, 3]\n",
                "NUMBER",
                true,
            );
            check(
                "[0.1, 2.00, 3]\n",
                "[0.1000001, 1.9999, 4]\n",
                "NUMBER",
                false,
            );
            check("[0.1, 2.00]\n", "[0.1000001]\n", "NUMBER", false);
            check("1.0 a\n", "1.0001 b\n", "NUMBER", false);
            check(
                "1.0   a\n",
                "1.0001 a\n",
                "NUMBER NORMALIZE_WHITESPACE",
                true,
            );
            check("1.0 ...\n", "1.0001 a\n", "NUMBER ELLIPSIS", true);
            check("1.0 ...\n", "1.0001 2.5\n", "NUMBER ELLIPSIS", false);
        }

        #[test]
        fn numbers_at_the_end_of_the_range() {
            check("1e999\n", "1e5\n", "NUMBER", false);
            check("1e999\n", "2e999\n", "NUMBER", true);
            check("1e-999\n", "0.0\n", "NUMBER", true);
            check("1e99999999999999999999\n", "1.5\n", "NUMBER", false);
            check("1.0\n", "1e999\n", "NUMBER", false);
            check("nan\n", "nan\n", "NUMBER", true);
        }

        #[test]
        fn literals() {
            check("u'a'\n", "'a'\n", "", false);
            check("u'a'\n", "'a'\n", "ALLOW_UNICODE", true);
            check("'a'\n", "U\"a\"\n", "ALLOW_UNICODE", false);
            check("'a'\n", "U'a'\n", "ALLOW_UNICODE", true);
            check("[u'a', ur'b']\n", "['a', r'b']\n", "ALLOW_UNICODE", true);
            check("b'a'\n", "'a'\n", "ALLOW_UNICODE", false);
            check("b'a'\n", "'a'\n", "ALLOW_BYTES", true);
            check(
                "[b'a', u'b']\n",
                "['a', 'b']\n",
                "ALLOW_BYTES ALLOW_UNICODE",
                true,
            );
            check("crab'a'\n", "cra'a'\n", "ALLOW_BYTES", false);
            check("b'1.50'\n", "'1.5'\n", "ALLOW_BYTES NUMBER", true);
        }

        #[test]
        fn flags_that_only_report_change_nothing() {
            check("a\n", "b\n", "REPORT_NDIFF FAIL_FAST", false);
            check("a\n", "a\n", "REPORT_UDIFF REPORT_ONLY_FIRST_FAILURE", true);
        }
    }

    mod exceptions {
        use super::*;

        fn check(want: &str, got: &str, names: &str, expected: bool) {
            let verdict = exception_matches(want, got, flags(names));
            assert_eq!(verdict, expected, "{want:?} against {got:?} with {names}");
        }

        #[test]
        fn exact() {
            check("E: a\n", "E: a\n", "", true);
            check("E: a\n", "E: b\n", "", false);
            check("E: a\n", "m.E: a\n", "", false);
            check("E: a\nnote\n", "E: a\nnote\n", "", true);
            check("E: a\n", "E: a\nnote\n", "", false);
        }

        #[test]
        fn with_flags() {
            check("E: ...\n", "E: a\nnote\n", "ELLIPSIS", true);
            check("E: a\n<BLANKLINE>\nb\n", "E: a\n\nb\n", "", true);
            check("E: 0.5\n", "E: 0.50001\n", "NUMBER", true);
        }

        #[test]
        fn without_detail() {
            check("E: a\n", "E: b\n", "IGNORE_EXCEPTION_DETAIL", true);
            check("E\n", "m.n.E: b.c\n", "IGNORE_EXCEPTION_DETAIL", true);
            check("x.E: a\n", "m.E: b\n", "IGNORE_EXCEPTION_DETAIL", true);
            check("E: a\n", "F: a\n", "IGNORE_EXCEPTION_DETAIL", false);
            check("E a.b\n", "E\n", "IGNORE_EXCEPTION_DETAIL", false);
            // The dots of an ellipsis are taken for a module path, which cannot be helped.
            check(
                "Key...r: a\n",
                "KeyError: b\n",
                "IGNORE_EXCEPTION_DETAIL ELLIPSIS",
                false,
            );
        }

        #[test]
        fn syntax_errors_have_no_location() {
            let got =
                "  File \"<doctest>\", line 1\n    x: = 1\n       ^\nSyntaxError: invalid syntax\n";
            check("SyntaxError: invalid syntax\n", got, "", true);
            check("SyntaxError: invalid\n", got, "", false);
            check("SyntaxError\n", got, "IGNORE_EXCEPTION_DETAIL", true);
            check(
                "f.<locals>.E: a\n",
                "  File \"x\", line 1\nf.<locals>.E: a\n",
                "",
                true,
            );
            check("E: a\n", "  no name\n", "", false);
        }
    }

    mod judging {
        use super::*;

        fn raised(message: &str) -> Got<'_> {
            Got::Raised {
                stdout: "printed\n",
                message,
            }
        }

        fn check(block: &str, got: Got, base: &str, expected: bool) {
            let statement = &parse_clean(block)[0];
            let verdict = judge(statement, &got, flags(base));
            assert_eq!(verdict, expected, "{block:?} against {got:?} with {base}");
        }

        const EXPECTS: &str = ">>> f()\nTraceback (most recent call last):\nE: x\n";

        #[test]
        fn output() {
            check(">>> f()\n", Got::Output(""), "", true);
            check(">>> f()\n", Got::Output("a\n"), "", false);
            check(">>> f()\na\n", Got::Output("a\n"), "", true);
            check(">>> f()\na\n", Got::Output("a"), "", true);
            check(">>> f()\na\n", Got::Output(""), "", false);
        }

        #[test]
        fn exceptions() {
            check(EXPECTS, raised("E: x\n"), "", true);
            check(EXPECTS, raised("E: x"), "", true);
            check(EXPECTS, raised("E: y\n"), "", false);
            check(EXPECTS, raised("E: y\n"), "IGNORE_EXCEPTION_DETAIL", true);
            check(">>> f()\nprinted\n", raised("E: x\n"), "", false);
            check(">>> f()\nx...\n", raised("x\n"), "ELLIPSIS", false);
            check(EXPECTS, Got::Output(""), "", false);
            check(
                EXPECTS,
                Got::Output("Traceback (most recent call last):\nE: x\n"),
                "",
                true,
            );
        }

        #[test]
        fn skipped() {
            check(
                ">>> f() # doctest: +SKIP\na\n",
                Got::Output("b\n"),
                "",
                true,
            );
            check(">>> f()\na\n", Got::Output("b\n"), "SKIP", true);
            check(">>> f()\n", raised("E: x\n"), "SKIP", true);
            check(
                ">>> f() # doctest: -SKIP\na\n",
                Got::Output("b\n"),
                "SKIP",
                false,
            );
        }

        #[test]
        fn own_options_come_last() {
            check(
                ">>> f() # doctest: +ELLIPSIS\na...\n",
                Got::Output("ab\n"),
                "",
                true,
            );
            check(
                ">>> f() # doctest: -ELLIPSIS\na...\n",
                Got::Output("ab\n"),
                "ELLIPSIS",
                false,
            );
        }
    }

    mod recording {
        use super::*;

        fn check(got: Got, expected: &str) {
            assert_eq!(want_for(&got), expected);
        }

        #[test]
        fn output() {
            check(Got::Output(""), "");
            check(Got::Output("a\n"), "a\n");
            check(Got::Output("a"), "a\n");
            check(
                Got::Output("a \n\n  \nb\n"),
                "a \n<BLANKLINE>\n<BLANKLINE>\nb\n",
            );
            check(Got::Output("\n"), "<BLANKLINE>\n");
            check(Got::Output("\u{a0}\n"), "\u{a0}\n");
        }

        #[test]
        fn exceptions() {
            let raised = |message| Got::Raised {
                stdout: "lost\n",
                message,
            };
            let header = "Traceback (most recent call last):\n    ...\n";
            check(raised("E: x\n"), &format!("{header}E: x\n"));
            check(
                raised("E: x\n\ny\n"),
                &format!("{header}E: x\n<BLANKLINE>\ny\n"),
            );
            check(
                raised("  File \"f\", line 1\n    x\n    ^\nSyntaxError: bad\n"),
                &format!("{header}SyntaxError: bad\n"),
            );
        }

        /// What a recorder does: write the want below its prompt, read the page again, judge.
        fn comes_back(got: Got, indent: &str) -> bool {
            let mut block = format!("{indent}>>> f()\n");
            for line in want_for(&got).split_terminator('\n') {
                block.extend([indent, line, "\n"]);
            }
            judge(&parse_clean(&block)[0], &got, Flags::default())
        }

        #[test]
        fn some_results_cannot_be_recorded() {
            assert!(!comes_back(Got::Output("a\tb\n"), ""));
            assert!(!comes_back(Got::Output("... a\n"), ""));
            assert!(!comes_back(Got::Output("a\n>>> b\n"), ""));
            assert!(!comes_back(Got::Output("\n<BLANKLINE>\n"), ""));
        }

        proptest! {
            #[test]
            fn recorded_output_matches(x in r"(\PC|[ \n]){0,40}", indent in " {0,9}") {
                prop_assume!(!x.contains(">>>") && !x.contains("..."));
                prop_assert!(comes_back(Got::Output(&x), &indent));
            }

            #[test]
            fn recorded_exceptions_match(x in r"(\PC|[ \n]){0,40}", indent in " {0,9}") {
                prop_assume!(!x.contains(">>>"));
                let message = format!("m.Error: {x}\n");
                let got = Got::Raised { stdout: "", message: &message };
                prop_assert!(comes_back(got, &indent));
            }
        }
    }

    proptest! {
        #[test]
        fn parse_accepts_any_text(block in r"(?s).{0,60}") {
            parse(&block);
        }

        #[test]
        fn parse_accepts_any_transcript(tokens in prop::collection::vec(prop::sample::select(vec![
            ">>> ", ">>>", "... ", "...", " ", "    ", "\t", "\n", "\n", "\r\n", "\r", "x", "é", "\u{a0}",
            "# doctest: ", "+SKIP", "-", "+", ",", "'", "Traceback (most recent call last):", "E: x",
        ]), 0..24)) {
            let block = tokens.concat();
            let (statements, problems) = parse(&block);
            let lines = block.split('\n').count();
            for statement in &statements {
                prop_assert!(statement.source.ends_with('\n'));
                prop_assert!(statement.want.is_empty() || statement.want.ends_with('\n'));
                prop_assert!(statement.line < statement.want_lines.start);
                prop_assert!(statement.want_lines.end <= lines + 1);
                prop_assert_eq!(statement.want.matches('\n').count(), statement.want_lines.len());
            }
            prop_assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }

        #[test]
        fn everything_matches_itself(text in r"(?s).{0,40}", bits in 0u16..1 << 14) {
            prop_assert!(matches(&text, &text, Flags(bits)));
        }
    }
}
