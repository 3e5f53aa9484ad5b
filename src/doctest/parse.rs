//! Block → statements and what is wrong with them, as `DocTestParser` reads it.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{Options, Statement, is_space, pattern, terminated};

/// A mistake in a transcript, for which `doctest` would refuse all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// 1-based, within the block.
    pub line: usize,
    pub message: String,
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

/// `_OPTION_DIRECTIVE_RE`; the control characters are whitespace to Python, but not to Unicode.
static DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?m)#[\s\x1c-\x1f]*doctest:[\s\x1c-\x1f]*([^\n'"]*)$"#));

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::doctest::Flags;
    use crate::doctest::tests::{flags, parse_clean};

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
    }
}
