//! Two texts as lines that a person can compare: what is the same, what went, what came, and which part of
//! a line it is.
//!
//! Free of rendering: colours, signs and margins are the reporters'. But not free of concern for what can
//! be seen: an output that differs only by a trailing space, a tab or an escape sequence must not give a
//! diff of two lines that look alike, so such characters are replaced by visible ones here, once for all
//! reporters. No segment ever has a character that cannot be seen.
//!
//! Work and size are bounded by counts and never by a clock, so that the same texts always give the same
//! diff.

use std::fmt::Write as _;
use std::ops::Range;

use similar::{Algorithm, InlineChangeMode, InlineChangeOptions, TextDiff};

use crate::legible;

/// Equal lines shown before and after a difference.
const CONTEXT: usize = 3;
/// Lines that differ in one place are all shown up to this many; past it the middle is left out.
const LONGEST_RUN: usize = 200;
/// No place is begun past this many lines of a diff, which says how many more differ.
const LONGEST_DIFF: usize = 500;
/// Past this many lines that are not common beginning or end, no alignment is looked for.
const MOST_LINES: usize = 10_000;
/// Past this many bytes in one place, words are not compared, only where the lines part.
const MOST_BYTES_FOR_WORDS: usize = 8_000;
/// Characters of one segment that are shown at most.
const LONGEST_SEGMENT: usize = 240;

/// One line of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffLine {
    pub kind: Kind,
    /// The line in pieces, without its newline; `true` for those that make the difference.
    pub segments: Vec<(bool, String)>,
    /// It is the last line of its text, and the newline at its end is missing.
    pub no_newline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Same,
    /// In what is expected only.
    Removed,
    /// In what came only.
    Added,
    /// Lines that are not shown; the one segment says how many.
    Gap,
}

/// The diff from `expected` to `actual`; empty if they are equal.
pub fn lines(expected: &str, actual: &str) -> Vec<DiffLine> {
    if expected == actual {
        return Vec::new();
    }
    let old: Vec<&str> = expected.split_inclusive('\n').collect();
    let new: Vec<&str> = actual.split_inclusive('\n').collect();
    let changes = changes(&old, &new);

    let mut out = Vec::new();
    let mut shown = 0;
    for (index, change) in changes.iter().enumerate() {
        if out.len() >= LONGEST_DIFF {
            let more = changes[index..].iter();
            let more: usize = more.map(|change| change.old.len() + change.new.len()).sum();
            let words = if more == 1 {
                "line differs"
            } else {
                "lines differ"
            };
            out.push(gap(format!("{more} more {words}")));
            return out;
        }
        let before = change.old.start.saturating_sub(CONTEXT).max(shown);
        push_gap(&mut out, before - shown);
        out.extend(
            old[before..change.old.start]
                .iter()
                .map(|line| plain(Kind::Same, line)),
        );
        out.extend(changed(&old[change.old.clone()], &new[change.new.clone()]));
        let next = changes
            .get(index + 1)
            .map_or(old.len(), |next| next.old.start);
        let after = (change.old.end + CONTEXT).min(next);
        out.extend(
            old[change.old.end..after]
                .iter()
                .map(|line| plain(Kind::Same, line)),
        );
        shown = after;
    }
    push_gap(&mut out, old.len() - shown);
    out
}

/// One place where the texts differ, in lines.
struct Change {
    old: Range<usize>,
    new: Range<usize>,
}

fn changes(old: &[&str], new: &[&str]) -> Vec<Change> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - start;
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let (old, new) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    if old.len() + new.len() > MOST_LINES {
        return vec![Change {
            old: start..start + old.len(),
            new: start..start + new.len(),
        }];
    }
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Patience)
        .diff_slices(old, new);
    let shift = |range: Range<usize>| start + range.start..start + range.end;
    diff.ops()
        .iter()
        .filter(|op| op.tag() != similar::DiffTag::Equal)
        .map(|op| Change {
            old: shift(op.old_range()),
            new: shift(op.new_range()),
        })
        .collect()
}

/// The lines of one place: all that went, then all that came.
fn changed(old: &[&str], new: &[&str]) -> Vec<DiffLine> {
    let bytes: usize = old.iter().chain(new).map(|line| line.len()).sum();
    let (removed, added) = if old.is_empty() || new.is_empty() {
        (unpaired(Kind::Removed, old), unpaired(Kind::Added, new))
    } else if bytes <= MOST_BYTES_FOR_WORDS {
        by_word(old, new)
    } else {
        by_ends(old, new)
    };
    let mut out = shortened(removed);
    out.extend(shortened(added));
    out
}

fn unpaired(kind: Kind, lines: &[&str]) -> Vec<DiffLine> {
    lines
        .iter()
        .map(|line| line_of(kind, &[(false, line)]))
        .collect()
}

/// Marks the words that differ.
fn by_word(old: &[&str], new: &[&str]) -> (Vec<DiffLine>, Vec<DiffLine>) {
    let diff = TextDiff::from_slices(old, new);
    let whole = similar::DiffOp::Replace {
        old_index: 0,
        old_len: old.len(),
        new_index: 0,
        new_len: new.len(),
    };
    let mut options = InlineChangeOptions::new();
    options.mode(InlineChangeMode::Words).semantic_cleanup(true);
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for change in diff.iter_inline_changes_with_options_deadline(&whole, options, None) {
        match change.tag() {
            similar::ChangeTag::Delete => removed.push(line_of(Kind::Removed, change.values())),
            similar::ChangeTag::Insert => added.push(line_of(Kind::Added, change.values())),
            similar::ChangeTag::Equal => {}
        }
    }
    (removed, added)
}

/// Marks, in each pair of lines, what lies between their common beginning and end: time linear in their
/// length, so that it does for a line of many megabytes.
fn by_ends(old: &[&str], new: &[&str]) -> (Vec<DiffLine>, Vec<DiffLine>) {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for at in 0..old.len().max(new.len()) {
        match (old.get(at), new.get(at)) {
            (Some(a), Some(b)) => {
                let start = common_start(a, b);
                let (rest_a, rest_b) = (&a[start..], &b[start..]);
                let end = common_end(rest_a, rest_b);
                let parts = |line: &'_ str, rest: &'_ str| {
                    let middle = rest.len() - end;
                    [
                        (false, line[..start].to_owned()),
                        (true, rest[..middle].to_owned()),
                        (false, rest[middle..].to_owned()),
                    ]
                };
                removed.push(line_of(Kind::Removed, &parts(a, rest_a)));
                added.push(line_of(Kind::Added, &parts(b, rest_b)));
            }
            (Some(a), None) => removed.push(plain(Kind::Removed, a)),
            (None, Some(b)) => added.push(plain(Kind::Added, b)),
            (None, None) => {}
        }
    }
    (removed, added)
}

fn common_start(a: &str, b: &str) -> usize {
    a.chars()
        .zip(b.chars())
        .take_while(|(a, b)| a == b)
        .map(|(c, _)| c.len_utf8())
        .sum()
}

fn common_end(a: &str, b: &str) -> usize {
    a.chars()
        .rev()
        .zip(b.chars().rev())
        .take_while(|(a, b)| a == b)
        .map(|(c, _)| c.len_utf8())
        .sum()
}

fn shortened(mut lines: Vec<DiffLine>) -> Vec<DiffLine> {
    if lines.len() <= LONGEST_RUN {
        return lines;
    }
    let hidden = lines.len() - LONGEST_RUN;
    let tail = lines.split_off(LONGEST_RUN / 2 + hidden);
    lines.truncate(LONGEST_RUN / 2);
    push_gap(&mut lines, hidden);
    lines.extend(tail);
    lines
}

fn push_gap(out: &mut Vec<DiffLine>, count: usize) {
    if count > 0 {
        let noun = if count == 1 { "line" } else { "lines" };
        out.push(gap(format!("{count} {noun}")));
    }
}

fn gap(what: String) -> DiffLine {
    DiffLine {
        kind: Kind::Gap,
        segments: vec![(false, what)],
        no_newline: false,
    }
}

fn plain(kind: Kind, line: &str) -> DiffLine {
    line_of(kind, &[(false, line)])
}

/// A line from its raw pieces. Spaces at the end of a line are made visible where the line differs; in a
/// line that is the same on both sides they tell nothing.
fn line_of<T: AsRef<str>>(kind: Kind, pieces: &[(bool, T)]) -> DiffLine {
    let whole: usize = pieces.iter().map(|(_, piece)| piece.as_ref().len()).sum();
    let trailing: usize = pieces
        .iter()
        .rev()
        .flat_map(|(_, piece)| piece.as_ref().chars().rev())
        .take_while(|c| matches!(c, ' ' | '·' | '\n' | '\r'))
        .map(char::len_utf8)
        .sum();
    let mark_spaces_from = if kind == Kind::Same {
        whole
    } else {
        whole - trailing
    };
    let last = pieces
        .iter()
        .rev()
        .find(|(_, piece)| !piece.as_ref().is_empty());
    let no_newline = !last.is_some_and(|(_, piece)| piece.as_ref().ends_with('\n'));

    let mut segments: Vec<(bool, String)> = Vec::new();
    let mut start = 0;
    for (index, (emphasised, piece)) in pieces.iter().enumerate() {
        let piece = piece.as_ref();
        let piece = piece.strip_suffix('\n').unwrap_or(piece);
        let keep = match (*emphasised, index == 0, index + 1 == pieces.len()) {
            // An equal beginning is of interest where it ends, an equal end where it begins.
            (false, true, false) => Keep::End,
            (false, false, true) => Keep::Start,
            _ => Keep::Both,
        };
        let mut text = String::new();
        for part in cut(piece, keep) {
            match part {
                Part::Shown(range) => {
                    for (at, c) in piece[range.clone()].char_indices() {
                        push_visible(&mut text, c, start + range.start + at >= mark_spaces_from);
                    }
                }
                Part::Hidden(count) => {
                    let _ = write!(text, "…[{count} characters]…");
                }
            }
        }
        start += piece.len();
        if text.is_empty() {
            continue;
        }
        match segments.last_mut() {
            Some((last, joined)) if *last == *emphasised => joined.push_str(&text),
            _ => segments.push((*emphasised, text)),
        }
    }
    // Emphasis on the whole line says no more than its sign.
    if let [(emphasised, _)] = segments.as_mut_slice() {
        *emphasised = false;
    }
    DiffLine {
        kind,
        segments,
        no_newline,
    }
}

#[derive(Clone, Copy)]
enum Keep {
    Start,
    End,
    Both,
}

enum Part {
    Shown(Range<usize>),
    Hidden(usize),
}

/// What to show of a piece: all of it, or [`LONGEST_SEGMENT`] characters and how many are left out.
fn cut(piece: &str, keep: Keep) -> Vec<Part> {
    // Counting is linear in the piece; a piece that is short in bytes needs none.
    let count = if piece.len() <= LONGEST_SEGMENT {
        0
    } else {
        piece.chars().count()
    };
    if count <= LONGEST_SEGMENT {
        return vec![Part::Shown(0..piece.len())];
    }
    let (head, tail) = match keep {
        Keep::Start => (LONGEST_SEGMENT, 0),
        Keep::End => (0, LONGEST_SEGMENT),
        Keep::Both => (LONGEST_SEGMENT / 2, LONGEST_SEGMENT / 2),
    };
    let head_end = piece
        .char_indices()
        .nth(head)
        .map_or(piece.len(), |(at, _)| at);
    let tail_start = match tail {
        0 => piece.len(),
        tail => piece
            .char_indices()
            .rev()
            .nth(tail - 1)
            .map_or(0, |(at, _)| at),
    };
    vec![
        Part::Shown(0..head_end),
        Part::Hidden(count - LONGEST_SEGMENT),
        Part::Shown(tail_start..piece.len()),
    ]
}

/// Different characters look different: controls become their Unicode control pictures (␛ for an escape, ␉
/// for a tab, ␍ for a carriage return), a space at the end of a line `·`, and whatever has no look of its
/// own, or is one of these signs itself, its escape.
fn push_visible(out: &mut String, c: char, at_end: bool) {
    match c {
        '\u{7f}' => out.push('␡'),
        c if c < ' ' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('�')),
        ' ' if at_end => out.push('·'),
        '·' if at_end => push_escape(out, c),
        c if legible::is_unseen(c) || has_no_look_of_its_own(c) => push_escape(out, c),
        c => out.push(c),
    }
}

fn push_escape(out: &mut String, c: char) {
    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
}

/// Characters that can be seen and yet look like others: like a space, like one character together with the one before,
/// or like what [`push_visible`] writes for another.
fn has_no_look_of_its_own(c: char) -> bool {
    matches!(c,
        '\u{a0}' | '\u{300}'..='\u{36f}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}'
        | '\u{2400}'..='\u{2426}' | '\u{3000}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The diff as text: a sign for each line, `«»` round what is emphasised, `¶` for a missing newline.
    fn shown(expected: &str, actual: &str) -> String {
        let line = |line: &DiffLine| {
            let sign = match line.kind {
                Kind::Same => ' ',
                Kind::Removed => '-',
                Kind::Added => '+',
                Kind::Gap => '~',
            };
            let text: String = line
                .segments
                .iter()
                .map(|(strong, text)| {
                    if *strong {
                        format!("«{text}»")
                    } else {
                        text.clone()
                    }
                })
                .collect();
            format!(
                "{sign}{text}{}",
                if line.no_newline && line.kind != Kind::Gap {
                    "¶"
                } else {
                    ""
                }
            )
        };
        lines(expected, actual)
            .iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn check(expected: &str, actual: &str, wanted: &[&str]) {
        assert_eq!(
            shown(expected, actual),
            wanted.join("\n"),
            "{expected:.99?} {actual:.99?}"
        );
    }

    #[test]
    fn equal_texts_have_no_diff() {
        check("", "", &[]);
        check("a\n", "a\n", &[]);
    }

    #[test]
    fn lines_that_went_or_came() {
        check("a\nb\n", "a\n", &[" a", "-b"]);
        check("a\n", "a\nb\n", &[" a", "+b"]);
        check("a\n", "", &["-a"]);
        check("", "a\n", &["+a"]);
        check("a\nb\nc\n", "a\nc\n", &[" a", "-b", " c"]);
    }

    #[test]
    fn words_that_differ_are_emphasised() {
        check(
            "one two three\n",
            "one 2 three\n",
            &["-one «two» three", "+one «2» three"],
        );
        check("abc\n", "xyz\n", &["-abc", "+xyz"]);
    }

    #[test]
    fn far_equal_lines_are_a_gap() {
        let text = |middle: &str| format!("1\n2\n3\n4\n5\n{middle}\n6\n7\n8\n9\n");
        check(
            &text("a"),
            &text("b"),
            &[
                "~2 lines", " 3", " 4", " 5", "-a", "+b", " 6", " 7", " 8", "~1 line",
            ],
        );
    }

    #[test]
    fn near_differences_share_their_context() {
        check(
            "a\n1\n2\n3\n4\n5\n6\nb\n",
            "A\n1\n2\n3\n4\n5\n6\nB\n",
            &["-a", "+A", " 1", " 2", " 3", " 4", " 5", " 6", "-b", "+B"],
        );
        check("a\n1\nb\n", "A\n1\nB\n", &["-a", "+A", " 1", "-b", "+B"]);
    }

    #[test]
    fn invisible_differences_are_seen() {
        check("a\n", "a", &["-a", "+a¶"]);
        check("a \n", "a\n", &["-a«·»", "+a"]);
        check("a\n", "a\r\n", &["-a", "+a␍"]);
        check("a \r\n", "a\n", &["-a«·»␍", "+a"]);
        check("\ta\n", "    a\n", &["-«␉»a", "+«    »a"]);
        check("\x1b[1mx\n", "x\n", &["-␛[1mx", "+x"]);
        check("\0\x7f\u{85}\n", "\n", &["-␀␡\\u{85}", "+"]);
        check("a\u{a0}b\n", "a b\n", &["-a«\\u{a0}»b", "+a« »b"]);
        check("e\u{301}\n", "é\n", &["-e\\u{301}", "+é"]);
        check("a\u{200b}\n", "a\n", &["-a\\u{200b}", "+a"]);
        check("a\u{3164}\n", "a\n", &["-a\\u{3164}", "+a"]);
        check("a\u{e0100}\n", "a\n", &["-a\\u{e0100}", "+a"]);
    }

    #[test]
    fn the_signs_themselves_are_told_apart() {
        check("a·\n", "a \n", &["-a\\u{b7}", "+a·"]);
        check("␛\n", "\x1b\n", &["-\\u{241b}", "+␛"]);
        check("a·b\n", "a b\n", &["-a·b", "+a b"]);
    }

    #[test]
    fn equal_lines_have_no_raw_controls_either() {
        check("\x1b[1m \nb\n", "\x1b[1m \nc\n", &[" ␛[1m ", "-b", "+c"]);
    }

    #[test]
    fn a_long_line_shows_where_it_differs() {
        let text = |middle: &str| format!("{}{middle}{}\n", "a".repeat(5000), "z".repeat(5000));
        let hidden = "…[4760 characters]…";
        let (a, z) = ("a".repeat(LONGEST_SEGMENT), "z".repeat(LONGEST_SEGMENT));
        let wanted = format!("-{hidden}{a}«X»{z}{hidden}\n+{hidden}{a}«Y»{z}{hidden}");
        assert_eq!(shown(&text("X"), &text("Y")), wanted);
    }

    #[test]
    fn a_long_difference_is_cut_in_the_middle() {
        let got = shown("", &("é".repeat(1000) + "\n"));
        let half = "é".repeat(LONGEST_SEGMENT / 2);
        assert_eq!(got, format!("+{half}…[760 characters]…{half}"));
    }

    #[test]
    fn many_lines_are_cut_in_the_middle() {
        let text = "x\n".repeat(1000);
        let diff = lines("", &text);
        assert_eq!(diff.len(), LONGEST_RUN + 1);
        assert_eq!(
            diff[LONGEST_RUN / 2].segments,
            [(false, "800 lines".to_owned())]
        );
    }

    #[test]
    fn many_places_are_cut_at_the_end() {
        let text = |every: usize| -> String {
            let lines = (0..5000).map(|n| {
                if n % every == 0 {
                    "x\n".to_owned()
                } else {
                    format!("{n}\n")
                }
            });
            lines.collect()
        };
        let diff = lines(&text(10), &text(5001));
        assert!(diff.len() < 2 * LONGEST_DIFF, "{}", diff.len());
        let is_end = |line: &DiffLine| {
            let [(_, text)] = line.segments.as_slice() else {
                return None;
            };
            text.strip_suffix(" more lines differ")?.parse().ok()
        };
        let more: usize = diff.last().and_then(is_end).unwrap();
        let shown = diff
            .iter()
            .filter(|line| matches!(line.kind, Kind::Removed | Kind::Added));
        assert_eq!(shown.count() + more, 2 * 499);
        // Each place is cut where it is long, and one more place is none of the end.
        let long = |c: char| format!("{c}\n").repeat(300);
        let middle = "1\n2\n3\n";
        let diff = lines(
            &format!("{}{middle}a\n", long('a')),
            &format!("{}{middle}b\n", long('b')),
        );
        assert!(diff.iter().all(|line| is_end(line).is_none()));
    }

    #[test]
    fn huge_texts_end() {
        let numbers = |count: u64, step: u64, modulus: u64| {
            let numbers: Vec<String> = (0..count)
                .map(|n| (n * step % modulus).to_string())
                .collect();
            numbers.join("\n")
        };
        let (a, b) = (numbers(200_000, 1, 200_003), numbers(200_000, 7, 200_003));
        assert!(lines(&a, &b).len() < 1000);
        let (a, b) = (numbers(4900, 1, 4999), numbers(4900, 7, 4999));
        assert!(!lines(&a, &b).is_empty());
        let line = "ab ".repeat(3_000_000);
        let diff = lines(&line, &format!("x{line}"));
        assert!(
            diff.iter()
                .flat_map(|line| &line.segments)
                .all(|(_, text)| text.len() < 2000)
        );
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::string::string_regex("([ab ·\t\r\u{1b}é␛]{0,4}\n){0,8}[ab ]{0,2}")
            .expect("a pattern")
    }

    fn rebuilt(diff: &[DiffLine], side: Kind) -> Vec<String> {
        let of_side = |line: &&DiffLine| line.kind == side || line.kind == Kind::Same;
        let text = |line: &DiffLine| {
            line.segments
                .iter()
                .map(|(_, text)| text.as_str())
                .collect()
        };
        diff.iter().filter(of_side).map(text).collect()
    }

    proptest! {
        #[test]
        fn a_diff_never_hides_that_texts_differ(a in text(), b in text()) {
            let diff = lines(&a, &b);
            prop_assert_eq!(diff.is_empty(), a == b);
            let removed: Vec<_> = diff.iter().filter(|line| line.kind == Kind::Removed).collect();
            let added: Vec<_> = diff.iter().filter(|line| line.kind == Kind::Added).collect();
            let look = |lines: &[&DiffLine]| -> Vec<(String, bool)> {
                let text = |line: &DiffLine| line.segments.iter().map(|(_, text)| text.as_str()).collect();
                lines.iter().map(|line| (text(line), line.no_newline)).collect()
            };
            prop_assert!(a == b || look(&removed) != look(&added), "{:?}", diff);
        }

        #[test]
        fn every_line_of_both_sides_is_there_once(a in text(), b in text()) {
            let diff = lines(&a, &b);
            if a != b && diff.iter().all(|line| line.kind != Kind::Gap) {
                prop_assert_eq!(rebuilt(&diff, Kind::Removed).len(), a.split_inclusive('\n').count());
                prop_assert_eq!(rebuilt(&diff, Kind::Added).len(), b.split_inclusive('\n').count());
            }
        }

        #[test]
        fn no_segment_has_what_cannot_be_seen(a in "\\PC{0,9}|[\\x00-\\x9f\n]{0,20}", b in "[\\x00-\\x9f\n]{0,20}") {
            for line in lines(&a, &b) {
                prop_assert!(line.segments.iter().all(|(_, text)| !text.contains(legible::is_unseen)));
            }
        }
    }
}
