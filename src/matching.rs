//! Whether an output is what was expected: the one definition that checking and recording share.
//!
//! Checking asks it to give a verdict, recording asks it whether hand-written wildcards still hold. If
//! the two had a definition each, a check straight after recording might not be green.
//!
//! Everything works on bytes, so that an output which is not UTF-8 needs no second path, and no lossy
//! decoding can make two different outputs look equal.

use std::collections::HashMap;
use std::fmt::Write as _;

/// A line that stands for any number of lines, none included.
const ANY_LINES: &[u8] = b"...";
/// What stands for anything inside one line.
const ANY_TEXT: &[u8] = b"[..]";

/// Largest table of the alignment in [`Matching::shown`]. Past it the texts are shown as they are: a
/// person does not read a diff of thousands of lines, and the table grows with the product of the two.
const LARGEST_TABLE: usize = 1_000_000;

/// In which respects an output may differ from what is expected and still match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matching {
    /// A line `...` and `[..]` inside a line stand for anything.
    pub wildcards: bool,
    /// Floats are equal when they agree in this many significant digits.
    pub digits: Option<u8>,
    /// Lines may come in any order.
    pub unordered: bool,
}

impl Matching {
    /// Whether `actual` is what `expected` describes. Equal texts always match, also where the text
    /// happens to contain what would be a wildcard.
    pub fn matches(self, expected: &[u8], actual: &[u8]) -> bool {
        if expected == actual {
            return true;
        }
        if self == Self::default() {
            return false;
        }
        if self.unordered {
            return self.pair_in_any_order(expected, actual).is_complete();
        }
        self.matches_in_order(&inclusive_lines(expected), &inclusive_lines(actual))
    }

    /// Both texts as a diff should show them: whatever part of `actual` matches is written as `expected`
    /// has it, so that a wildcard or a rounded number is not marked beside the real difference, and lines
    /// whose order does not count are sorted.
    pub fn shown(self, expected: &[u8], actual: &[u8]) -> (Vec<u8>, Vec<u8>) {
        if self.unordered {
            return self.shown_sorted(expected, actual);
        }
        if self == Self::default() {
            return (expected.to_vec(), actual.to_vec());
        }
        let wanted = inclusive_lines(expected);
        let got = inclusive_lines(actual);
        let cells = (wanted.len() + 1).saturating_mul(got.len() + 1);
        if cells > LARGEST_TABLE || expected.len() + actual.len() > LARGEST_TABLE {
            return (expected.to_vec(), actual.to_vec());
        }
        (expected.to_vec(), self.aligned(&wanted, &got))
    }

    /// Glob matching over lines. One position to return to is enough: a later `...` can stand for
    /// whatever an earlier one could, so only the last is ever worth widening.
    fn matches_in_order(self, expected: &[&[u8]], actual: &[&[u8]]) -> bool {
        let (mut wanted, mut got) = (0, 0);
        let mut widen: Option<(usize, usize)> = None;
        while got < actual.len() {
            if wanted < expected.len() && self.is_gap(expected[wanted]) {
                widen = Some((wanted, got));
                wanted += 1;
            } else if wanted < expected.len() && self.line_matches(expected[wanted], actual[got]) {
                wanted += 1;
                got += 1;
            } else if let Some((gap, start)) = widen {
                wanted = gap + 1;
                got = start + 1;
                widen = Some((gap, start + 1));
            } else {
                return false;
            }
        }
        expected[wanted..].iter().all(|line| self.is_gap(line))
    }

    fn is_gap(self, line: &[u8]) -> bool {
        self.wildcards && line.strip_suffix(b"\n").unwrap_or(line) == ANY_LINES
    }

    fn line_matches(self, expected: &[u8], actual: &[u8]) -> bool {
        if expected == actual {
            return true;
        }
        let pieces = if self.wildcards {
            split(expected, ANY_TEXT)
        } else {
            vec![expected]
        };
        if pieces.len() > 1 && pieces_match(&pieces, actual, |a, b| a == b) {
            return true;
        }
        let Some(digits) = self.digits else {
            return false;
        };
        let pieces: Vec<Vec<Token>> = pieces.into_iter().map(tokens).collect();
        let pieces: Vec<&[Token]> = pieces.iter().map(Vec::as_slice).collect();
        pieces_match(&pieces, &tokens(actual), |a, b| a.equals(*b, digits))
    }

    /// The actual lines with everything that matches replaced by its expectation: an alignment of least
    /// cost, where an unmatched line on either side costs one.
    fn aligned(self, expected: &[&[u8]], actual: &[&[u8]]) -> Vec<u8> {
        let width = actual.len() + 1;
        let mut cost = vec![0_u32; (expected.len() + 1) * width];
        let mut equal = vec![false; cost.len()];
        for wanted in (0..=expected.len()).rev() {
            for got in (0..=actual.len()).rev() {
                let here = wanted * width + got;
                let gap = wanted < expected.len() && self.is_gap(expected[wanted]);
                let price = u32::from(!gap);
                let mut best = u32::MAX;
                if wanted == expected.len() && got == actual.len() {
                    best = 0;
                }
                if wanted < expected.len() {
                    best = best.min(cost[here + width] + price);
                }
                if got < actual.len() {
                    best = best.min(cost[here + 1] + price);
                }
                if wanted < expected.len() && got < actual.len() && !gap {
                    equal[here] = self.line_matches(expected[wanted], actual[got]);
                    if equal[here] {
                        best = best.min(cost[here + width + 1]);
                    }
                }
                cost[here] = best;
            }
        }
        let mut out = Vec::new();
        let (mut wanted, mut got) = (0, 0);
        while wanted < expected.len() || got < actual.len() {
            let here = wanted * width + got;
            let gap = wanted < expected.len() && self.is_gap(expected[wanted]);
            let price = u32::from(!gap);
            if equal[here] && cost[here] == cost[here + width + 1] {
                out.extend_from_slice(expected[wanted]);
                wanted += 1;
                got += 1;
            } else if wanted < expected.len() && cost[here] == cost[here + width] + price {
                if gap {
                    out.extend_from_slice(expected[wanted]);
                }
                wanted += 1;
            } else {
                if !gap {
                    out.extend_from_slice(actual[got]);
                }
                got += 1;
            }
        }
        out
    }

    /// Pairs every expected line with an actual line of its own. Equal lines go together first; what is
    /// left (lines with wildcards, floats) needs augmenting paths, because the first line that fits a
    /// wildcard may be the only one that fits another.
    fn pair_in_any_order<'t>(self, expected: &'t [u8], actual: &'t [u8]) -> Pairing<'t> {
        let (all_wanted, got) = (bare_lines(expected), bare_lines(actual));
        let wanted: Vec<&[u8]> = all_wanted
            .iter()
            .copied()
            .filter(|line| !self.is_gap(line))
            .collect();
        let has_gap = wanted.len() < all_wanted.len();

        let mut free: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (index, line) in got.iter().enumerate().rev() {
            free.entry(line).or_default().push(index);
        }
        let mut taken_by: Vec<Option<usize>> = vec![None; got.len()];
        let mut open = Vec::new();
        for (index, line) in wanted.iter().enumerate() {
            match free.get_mut(line).and_then(Vec::pop) {
                Some(place) => taken_by[place] = Some(index),
                None => open.push(index),
            }
        }
        let candidates: Vec<usize> = (0..got.len())
            .filter(|place| taken_by[*place].is_none())
            .collect();
        let loose = self.wildcards || self.digits.is_some();
        if loose && open.len().saturating_mul(candidates.len()) <= LARGEST_TABLE {
            let fits: Vec<Vec<usize>> = open
                .iter()
                .map(|index| {
                    let fits = |place: &usize| self.line_matches(wanted[*index], got[*place]);
                    candidates.iter().copied().filter(fits).collect()
                })
                .collect();
            for line in 0..open.len() {
                let mut seen = vec![false; got.len()];
                augment(line, &open, &fits, &mut taken_by, &mut seen);
            }
        }
        let same_end = expected.ends_with(b"\n") == actual.ends_with(b"\n");
        Pairing {
            wanted,
            got,
            taken_by,
            has_gap,
            same_end,
        }
    }

    fn shown_sorted(self, expected: &[u8], actual: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let pairing = self.pair_in_any_order(expected, actual);
        let mut wanted = pairing.wanted.clone();
        let mut got = Vec::new();
        for (line, taken) in pairing.got.iter().zip(&pairing.taken_by) {
            match taken {
                Some(index) => got.push(pairing.wanted[*index]),
                None if pairing.has_gap => {}
                None => got.push(line),
            }
        }
        wanted.sort_unstable();
        got.sort_unstable();
        (
            joined(&wanted, expected.ends_with(b"\n")),
            joined(&got, actual.ends_with(b"\n")),
        )
    }
}

/// Which actual line stands for which expected one.
struct Pairing<'t> {
    wanted: Vec<&'t [u8]>,
    got: Vec<&'t [u8]>,
    /// For each actual line the expected line that it stands for.
    taken_by: Vec<Option<usize>>,
    /// The expectation has a line `...`: lines that are left over are no difference.
    has_gap: bool,
    same_end: bool,
}

impl Pairing<'_> {
    fn is_complete(&self) -> bool {
        let paired = self.taken_by.iter().flatten().count();
        paired == self.wanted.len() && (self.has_gap || (paired == self.got.len() && self.same_end))
    }
}

/// One step of Kuhn's algorithm for bipartite matching.
fn augment(
    line: usize,
    open: &[usize],
    fits: &[Vec<usize>],
    taken_by: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for &place in &fits[line] {
        if std::mem::replace(&mut seen[place], true) {
            continue;
        }
        let owner = taken_by[place].and_then(|owner| open.iter().position(|index| *index == owner));
        let movable = match owner {
            None => taken_by[place].is_none(),
            Some(owner) => augment(owner, open, fits, taken_by, seen),
        };
        if movable {
            taken_by[place] = Some(open[line]);
            return true;
        }
    }
    false
}

/// Whether `text` has anything that [`Matching`] would take for a wildcard.
pub fn has_wildcards(text: &[u8]) -> bool {
    inclusive_lines(text).into_iter().any(|line| {
        line.strip_suffix(b"\n").unwrap_or(line) == ANY_LINES || find(line, ANY_TEXT).is_some()
    })
}

/// Whether `actual` is `expected`, a line `...` standing for any lines and `[..]` for anything in a line.
pub fn text_matches(expected: &str, actual: &str) -> bool {
    let matching = Matching {
        wildcards: true,
        ..Matching::default()
    };
    matching.matches(expected.as_bytes(), actual.as_bytes())
}

/// `bytes` for a person: what is not UTF-8 is written `\xNN`.
pub fn lossy(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A line as [`Matching::digits`] compares it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Token {
    Byte(u8),
    Float(f64),
}

impl Token {
    fn equals(self, other: Token, digits: u8) -> bool {
        match (self, other) {
            (Token::Byte(a), Token::Byte(b)) => a == b,
            (Token::Float(a), Token::Float(b)) => agree(a, b, digits),
            _ => false,
        }
    }
}

/// Whether two numbers differ by no more than half a unit in the last of `digits` significant digits of
/// the larger one.
///
/// This compares the pair. Rounding each side and comparing the texts would be simpler, and wrong at
/// every rounding edge: 0.1234565 and 0.1234564999 round apart at six digits although they are closer
/// than many pairs that round together, so a value there would fail now and then for ever.
fn agree(a: f64, b: f64, digits: u8) -> bool {
    let largest = a.abs().max(b.abs());
    #[allow(clippy::float_cmp)]
    // Equal numbers agree whatever the precision, zero and infinity too.
    if a == b {
        return true;
    }
    if !largest.is_finite() {
        return false;
    }
    #[allow(clippy::cast_possible_truncation)] // The exponent of a finite f64 lies within ±324.
    let exponent = largest.log10().floor() as i32;
    let unit = 10_f64.powi(exponent + 1 - i32::from(digits));
    // 1.235 and 1.24 are half a unit apart, but not in binary.
    (a - b).abs() <= unit / 2.0 * (1.0 + 1e-9)
}

/// Splits a line into floats and single bytes.
///
/// A float has a point followed by a digit, or an exponent. Whole numbers stay text: they are counts and
/// names more often than measurements, and no rounding makes them vary. What is part of a word or of a
/// dotted name (`x1.5`, `3.11.2`, `127.0.0.1`) is text too.
fn tokens(line: &[u8]) -> Vec<Token> {
    let mut out = Vec::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        if !line[at].is_ascii_digit() {
            out.push(Token::Byte(line[at]));
            at += 1;
            continue;
        }
        let in_word =
            at > 0 && (line[at - 1].is_ascii_alphanumeric() || b"_.".contains(&line[at - 1]));
        let end = if in_word {
            at + digits_at(line, at)
        } else {
            number_end(line, at)
        };
        let float = (!in_word && line[at..end].iter().any(|byte| !byte.is_ascii_digit()))
            .then(|| std::str::from_utf8(&line[at..end]).ok()?.parse().ok())
            .flatten();
        match float {
            Some(float) => out.push(Token::Float(float)),
            None => out.extend(line[at..end].iter().copied().map(Token::Byte)),
        }
        at = end;
    }
    out
}

/// The end of the number that begins at `start`; of its whole part alone where it is no float.
fn number_end(line: &[u8], start: usize) -> usize {
    let whole = start + digits_at(line, start);
    let mut end = whole;
    if line.get(end) == Some(&b'.') {
        let fraction = digits_at(line, end + 1);
        if fraction > 0 {
            end += 1 + fraction;
        }
    }
    if matches!(line.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(line.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits_at(line, end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let dotted = line.get(end) == Some(&b'.') && digits_at(line, end + 1) > 0;
    if dotted { whole } else { end }
}

fn digits_at(line: &[u8], start: usize) -> usize {
    let rest = line.get(start..).unwrap_or_default();
    rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether `pieces`, with anything between two of them, make up the whole of `actual`. The leftmost place
/// for each piece is always right, because a piece has one length.
fn pieces_match<T>(pieces: &[&[T]], actual: &[T], equal: impl Fn(&T, &T) -> bool) -> bool {
    let same = |piece: &[T], there: &[T]| piece.iter().zip(there).all(|(a, b)| equal(a, b));
    let Some(((first, last), middle)) = pieces.split_first().and_then(|(first, rest)| {
        rest.split_last()
            .map(|(last, middle)| ((first, last), middle))
    }) else {
        return pieces
            .iter()
            .all(|only| only.len() == actual.len() && same(only, actual));
    };
    if actual.len() < first.len() + last.len() || !same(first, actual) {
        return false;
    }
    let tail = actual.len() - last.len();
    if !same(last, &actual[tail..]) {
        return false;
    }
    let mut rest = &actual[first.len()..tail];
    for piece in middle.iter().filter(|piece| !piece.is_empty()) {
        let Some(place) = rest
            .windows(piece.len())
            .position(|there| same(piece, there))
        else {
            return false;
        };
        rest = &rest[place + piece.len()..];
    }
    true
}

fn inclusive_lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

fn bare_lines(text: &[u8]) -> Vec<&[u8]> {
    let strip = |line| <[u8]>::strip_suffix(line, b"\n").unwrap_or(line);
    inclusive_lines(text).into_iter().map(strip).collect()
}

fn joined(lines: &[&[u8]], terminated: bool) -> Vec<u8> {
    let mut out = lines.join(&b'\n');
    if terminated && !lines.is_empty() {
        out.push(b'\n');
    }
    out
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|there| there == word)
}

fn split<'t>(mut text: &'t [u8], separator: &[u8]) -> Vec<&'t [u8]> {
    let mut out = Vec::new();
    while let Some(place) = find(text, separator) {
        out.push(&text[..place]);
        text = &text[place + separator.len()..];
    }
    out.push(text);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(expected: &str, actual: &str, wanted: bool) {
        assert_eq!(
            text_matches(expected, actual),
            wanted,
            "{expected:?} against {actual:?}"
        );
    }

    fn float(digits: u8, expected: &str, actual: &str, wanted: bool) {
        let matching = Matching {
            wildcards: true,
            digits: Some(digits),
            unordered: false,
        };
        let got = matching.matches(expected.as_bytes(), actual.as_bytes());
        assert_eq!(
            got, wanted,
            "{expected:?} against {actual:?} at {digits} digits"
        );
    }

    fn unordered(expected: &str, actual: &str, wanted: bool) {
        let matching = Matching {
            wildcards: true,
            digits: None,
            unordered: true,
        };
        let got = matching.matches(expected.as_bytes(), actual.as_bytes());
        assert_eq!(got, wanted, "{expected:?} against {actual:?} in any order");
    }

    fn shown(expected: &str, actual: &str, wanted: &str) {
        let matching = Matching {
            wildcards: true,
            digits: Some(6),
            unordered: false,
        };
        let (_, got) = matching.shown(expected.as_bytes(), actual.as_bytes());
        assert_eq!(lossy(&got), wanted, "{expected:?} against {actual:?}");
    }

    #[test]
    fn without_wildcards_every_byte_counts() {
        check("a\n", "a\n", true);
        check("a\n", "a", false);
        check("a", "a\n", false);
        check("a \n", "a\n", false);
        check("a\n", "a\r\n", false);
        check("", "", true);
        check("", "\n", false);
    }

    #[test]
    fn three_dots_stand_for_lines() {
        check("a\n...\nz\n", "a\nz\n", true);
        check("a\n...\nz\n", "a\nb\nc\nz\n", true);
        check("a\n...\nz\n", "a\nb\nc\n", false);
        check("...\n", "", true);
        check("...\n", "anything", true);
        check("a\n...\n", "a\nb\n", true);
        check("a\n...", "a\nb\n", true);
        check("a\n...\n", "b\n", false);
        check("...\nb\n...\nd\n", "a\nb\nc\nb\nd\n", true);
        check("...\nb\n", "b\na\nb\n", true);
        check("...\nb\n", "b\na\n", false);
    }

    #[test]
    fn three_dots_in_a_line_are_text() {
        check("a ...\n", "a b\n", false);
        check(" ...\n", "b\n", false);
        check("a ...\n", "a ...\n", true);
    }

    #[test]
    fn brackets_stand_for_text_in_a_line() {
        check("took [..]s\n", "took 0.12s\n", true);
        check("took [..]s\n", "took s\n", true);
        check("took [..]s\n", "took 0.12s", false);
        check("took [..]s\n", "took 1\n2s\n", false);
        check("[..]a[..]b[..]\n", "xxaxxbxx\n", true);
        check("[..]a[..]b[..]\n", "xxbxxaxx\n", false);
        check("aba[..]aba", "ababa", false);
        check("[..]", "", false);
        check("a[..][..]b", "ab", true);
    }

    #[test]
    fn equal_text_matches_whatever_it_contains() {
        check("x[..]\n...\n", "x[..]\n...\n", true);
        check("[..\n", "[..\n", true);
    }

    #[test]
    fn floats_agree_to_their_digits() {
        float(6, "x = 0.1\n", "x = 0.10000000000000001\n", true);
        float(6, "0.30000000000000004\n", "0.3\n", true);
        float(3, "1.23\n", "1.24\n", false);
        float(3, "1.235\n", "1.24\n", true);
        float(3, "3.14\n", "3.14159\n", true);
        float(6, "1e-17\n", "2e-17\n", false);
        float(6, "1.0e3\n", "1000.0\n", true);
        float(3, "[1.001 2.0]\n", "[1.0 2.001]\n", true);
        float(6, "0.0\n", "1e-300\n", false);
        float(6, "-1.0\n", "1.0\n", false);
    }

    #[test]
    fn rounding_edges_are_no_edges() {
        float(6, "0.1234565\n", "0.1234564999\n", true);
        float(2, "0.9999\n", "1.0001\n", true);
    }

    #[test]
    fn whole_numbers_words_and_dotted_names_are_text() {
        float(3, "1000001\n", "1000002\n", false);
        float(3, "3.11.2\n", "3.11.3\n", false);
        float(3, "v1.001\n", "v1.002\n", false);
        float(3, "127.0.0.1\n", "127.0.0.2\n", false);
        float(3, "1.\n", "2.\n", false);
    }

    #[test]
    fn floats_and_wildcards_share_a_line() {
        float(3, "[..]: 1.0001 [..]\n", "mean: 1.0 ms\n", true);
        float(3, "[..]: 1.0001 [..]\n", "mean: 1.1 ms\n", false);
        float(3, "0.[..]\n", "0.123\n", true);
    }

    #[test]
    fn lines_in_any_order() {
        unordered("a\nb\n", "b\na\n", true);
        unordered("a\nb\n", "b\nb\n", false);
        unordered("a\na\nb\n", "a\nb\n", false);
        unordered("a\nb\n", "b\na", false);
        unordered("a\n...\n", "c\na\nb\n", true);
        unordered("a\n...\n", "c\nb\n", false);
        unordered("", "a\n", false);
    }

    #[test]
    fn a_wildcard_leaves_the_line_that_another_needs() {
        unordered("[..]\nb[..]\n", "b1\na1\n", true);
        unordered("[..]1\n[..]\na[..]\n", "a2\nb1\nc3\n", true);
        unordered("b[..]\nb[..]\n", "b1\na1\n", false);
    }

    #[test]
    fn shown_hides_what_matches() {
        shown("took [..]s\nb\n", "took 1.5s\nc\n", "took [..]s\nc\n");
        shown("a\n...\nd\nf\n", "a\nb\nc\nd\ne\n", "a\n...\nd\ne\n");
        shown("a\n...\nd\n", "a\nb\nc\n", "a\n...\n");
        shown("0.3\nb\n", "0.30000000000000004\nc\n", "0.3\nc\n");
        shown("a\nb\nc\n", "a\nc\n", "a\nc\n");
        shown("a\n", "", "");
    }

    #[test]
    fn shown_sorts_what_has_no_order() {
        let matching = Matching {
            unordered: true,
            ..Matching::default()
        };
        let (wanted, got) = matching.shown(b"b\na\nd\n", b"c\nb\na\n");
        assert_eq!(
            (lossy(&wanted), lossy(&got)),
            ("a\nb\nd\n".into(), "a\nb\nc\n".into())
        );
    }

    #[test]
    fn wildcards_are_recognised() {
        assert!(has_wildcards(b"a\n...\n"));
        assert!(has_wildcards(b"a\n..."));
        assert!(has_wildcards(b"a [..] b"));
        assert!(!has_wildcards(b"a ... b\n ...\n[...]\n"));
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(lossy(b"caf\xe9 \xf0\x9f ok"), "caf\\xe9 \\xf0\\x9f ok");
        assert_eq!(lossy("é€".as_bytes()), "é€");
    }

    #[test]
    fn many_gaps_do_not_explode() {
        let expected = "...\na\n".repeat(40) + "b\n";
        let actual = "a\n".repeat(4000);
        assert!(!text_matches(&expected, &actual));
    }

    proptest! {
        #[test]
        fn every_text_matches_itself(text in "[ab.\\[\\]\n 1e]{0,40}", digits: bool, unordered: bool) {
            let digits = digits.then_some(6);
            let matching = Matching { wildcards: true, digits, unordered };
            prop_assert!(matching.matches(text.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn replacing_a_part_of_a_line_by_a_wildcard_still_matches(
            before in "[ab.1]{0,8}", part in "[ab.1]{0,8}", after in "[ab.1]{0,8}",
        ) {
            let pattern = format!("{before}[..]{after}\n");
            let actual = format!("{before}{part}{after}\n");
            prop_assert!(text_matches(&pattern, &actual));
        }

        #[test]
        fn any_permutation_of_lines_matches_unordered(
            (lines, shuffled) in proptest::collection::vec("[ab]{0,2}(\\[\\.\\.\\])?", 0..8)
                .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
        ) {
            let matching = Matching { wildcards: true, digits: None, unordered: true };
            let text = |lines: &[String]| lines.iter().fold(String::new(), |text, line| text + line + "\n");
            prop_assert!(matching.matches(text(&lines).as_bytes(), text(&shuffled).as_bytes()));
        }

        #[test]
        fn what_matches_is_shown_as_expected(
            expected in "([ab]{0,2}(\\[\\.\\.\\])?\n|\\.\\.\\.\n){0,6}", actual in "([ab]{0,3}\n){0,6}",
        ) {
            let matching = Matching { wildcards: true, ..Matching::default() };
            let (wanted, got) = matching.shown(expected.as_bytes(), actual.as_bytes());
            prop_assert_eq!(
                matching.matches(expected.as_bytes(), actual.as_bytes()),
                wanted == got,
                "{:?} {:?}", lossy(&wanted), lossy(&got)
            );
        }
    }
}
