//! Want × what was printed or raised, as `OutputChecker` compares them, and with pytest's second look.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{BLANKLINE, Flags, is_space, pattern};

/// `OutputChecker.check_output`, with pytest's second look at numbers and literals.
///
/// `got` is compared as it stands; [`judge`](super::judge) adds the final newline that a want cannot leave out.
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
pub(super) fn without_location(message: &str) -> &str {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::doctest::tests::flags;

    mod output {
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

    proptest! {
        #[test]
        fn everything_matches_itself(
            text in r"(?s).{0,40}",
            named in prop::sample::subsequence(Flags::NAMED.to_vec(), 0..=Flags::NAMED.len()),
        ) {
            let flags = named.into_iter().fold(Flags::default(), |all, (_, flag)| all | flag);
            prop_assert!(matches(&text, &text, flags));
        }
    }
}
