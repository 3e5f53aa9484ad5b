//! The named rules: how an output that cannot be pinned down is still compared.
//!
//! A rule turns the part of an output that varies into a placeholder such as `[ADDRESS]`, on both sides,
//! before they are compared. Variation is never removed by fuzzy comparing: what a rule hides stands in
//! the recording by name, and everything else stays exact. [`Rule::Float`] is the one exception, for the
//! reason given in [`crate::matching`].
//!
//! [`crate::diagnose`] is the way to a rule: given two runs that differ, it says which one settles it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};

/// A named rule, as `normalize=address,float=3` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rule {
    Path,
    Uuid,
    Version,
    Date,
    Time,
    Port,
    Address,
    Pid,
    Thread,
    Id,
    Spaces,
    /// Significant digits, 1 to 15.
    Float(u8),
}

/// What the rules must know of the run that made a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// The session's scratch directory, absolute; empty if there was none.
    pub scratch: String,
    /// Process ids of the session and of the processes that it started.
    pub pids: Vec<u32>,
}

impl Rule {
    /// Every rule, in the order in which they are applied: a rule that takes a longer text stands before
    /// one that would take a part of it (a date before the time inside it).
    pub const ALL: [Rule; 12] = [
        Rule::Path,
        Rule::Uuid,
        Rule::Version,
        Rule::Date,
        Rule::Time,
        Rule::Port,
        Rule::Address,
        Rule::Pid,
        Rule::Thread,
        Rule::Id,
        Rule::Spaces,
        Rule::Float(DEFAULT_DIGITS),
    ];

    /// Reads one rule: `address`, `float`, `float=3`. The message has what to write instead.
    pub fn parse(text: &str) -> Result<Rule, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (text.trim(), None),
        };
        let Some(rule) = Rule::ALL.into_iter().find(|rule| rule.name() == name) else {
            let names = Rule::ALL.map(Rule::name);
            return Err(match closest(name, &names) {
                Some(known) => format!("unknown rule `{name}`; did you mean `{known}`?"),
                None => format!(
                    "unknown rule `{name}`; the rules are `{}`",
                    names.join("`, `")
                ),
            });
        };
        match (rule, value) {
            (rule, None) => Ok(rule),
            (Rule::Float(_), Some(value)) => match value.parse() {
                Ok(digits @ 1..=15) => Ok(Rule::Float(digits)),
                _ => Err(format!(
                    "`float={value}` is not a number of significant digits; write 1 to 15, such as `float=6`"
                )),
            },
            (_, Some(_)) => Err(format!("rule `{name}` takes no value; write `{name}`")),
        }
    }

    /// The word that selects the rule.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Path => "path",
            Rule::Uuid => "uuid",
            Rule::Version => "version",
            Rule::Date => "date",
            Rule::Time => "time",
            Rule::Port => "port",
            Rule::Address => "address",
            Rule::Pid => "pid",
            Rule::Thread => "thread",
            Rule::Id => "id",
            Rule::Spaces => "spaces",
            Rule::Float(_) => "float",
        }
    }

    /// One sentence for `--help` and the documentation.
    pub fn description(self) -> &'static str {
        match self {
            Rule::Path => {
                "the scratch directory, names from `tempfile`, and where Python is installed become `[PATH]`"
            }
            Rule::Uuid => {
                "UUIDs, with hyphens or as the 32 digits of a `uuid4().hex`, become `[UUID]`"
            }
            Rule::Version => {
                "the version and build of Python, as `sys.version` and banners print it, become `[VERSION]`"
            }
            Rule::Date => {
                "dates, with their time of day if they have one, and Unix timestamps become `[DATE]`"
            }
            Rule::Time => {
                "durations with a unit (`0.12s`, `1.2 ms`), clock times and the columns of `cProfile` become `[TIME]`"
            }
            Rule::Port => "port numbers of loopback addresses become `[PORT]`",
            Rule::Address => {
                "memory addresses, as a default `repr` prints them, become `[ADDRESS]`"
            }
            Rule::Pid => "process ids become `[PID]`",
            Rule::Thread => {
                "identifiers of threads, as `repr` and `logging` print them, become `[THREAD]`"
            }
            Rule::Id => {
                "whole numbers of 8 to 16 digits, such as `id()` and `get_ident()` return, become `[ID]`"
            }
            Rule::Spaces => {
                "a run of spaces and tabs counts as one space, and as nothing at the end of a line"
            }
            Rule::Float(_) => {
                "floats are equal when they agree to 6 significant digits, or to `n` with `float=n`"
            }
        }
    }

    fn patterns(self) -> &'static [Pattern] {
        match self {
            Rule::Path => &*PATH,
            Rule::Uuid => &*UUID,
            Rule::Version => &*VERSION,
            Rule::Date => &*DATE,
            Rule::Time => &*TIME,
            Rule::Port => &*PORT,
            Rule::Address => &*ADDRESS,
            Rule::Pid => &*PID,
            Rule::Thread => &*THREAD,
            Rule::Id => &*ID,
            Rule::Spaces => &*SPACES,
            Rule::Float(_) => &[],
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Float(digits) if *digits != DEFAULT_DIGITS => write!(f, "float={digits}"),
            rule => f.write_str(rule.name()),
        }
    }
}

/// Applies `rules` to `text`, in the order of [`Rule::ALL`] whatever order they are given in.
///
/// It goes on until nothing changes, so that applying the rules to a recording, which they have been
/// applied to before, never changes it. That ends, because each replacement removes digits, slashes or
/// spaces, of which no placeholder has any.
pub fn apply(rules: &[Rule], text: &str, context: &Context) -> String {
    let mut out = Cow::Borrowed(text);
    loop {
        let mut changed = false;
        for rule in Rule::ALL.into_iter().filter(|rule| is_among(*rule, rules)) {
            if let Some(next) = apply_one(rule, &out, context) {
                out = Cow::Owned(next);
                changed = true;
            }
        }
        if !changed {
            return out.into_owned();
        }
    }
}

/// [`apply`] for output as it comes: what is not UTF-8 stays as it is, the text between is normalised.
pub fn apply_bytes(rules: &[Rule], bytes: &[u8], context: &Context) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(apply(rules, chunk.valid(), context).as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// The precision that `rules` ask for, if they do.
pub fn float_digits(rules: &[Rule]) -> Option<u8> {
    rules.iter().find_map(|rule| match rule {
        Rule::Float(digits) => Some(*digits),
        _ => None,
    })
}

/// The known word that `word` was most probably meant to be.
pub(crate) fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &&str| strsim::jaro_winkler(word, known);
    let best = known
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.75).then_some(best)
}

pub(crate) const DEFAULT_DIGITS: u8 = 6;

/// Ids below this are replaced only beside a word such as `pid`: in a container they are small numbers,
/// and a recording must not say that there are `[PID]` rows in a table.
const SMALLEST_BARE_PID: u32 = 100;

pub(crate) struct Pattern {
    pub(crate) regex: Regex,
    replacement: &'static str,
}

pub(crate) fn pattern(regex: &str, replacement: &'static str) -> Pattern {
    // `B` is a word boundary in terms of ASCII: the Unicode one would send every text that is not ASCII to
    // the slowest of the engines.
    let regex = regex.replace("\\b", "(?-u:\\b)");
    Pattern {
        regex: Regex::new(&regex).expect("the patterns of the rules are valid"),
        replacement,
    }
}

const MONTH: &str = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*";
const CLOCK: &str = "[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?";
const ZONE: &str = "(?: ?(?:Z|UTC|GMT)| ?[+-][0-9]{2}:?[0-9]{2})";
pub(crate) const NUMBER: &str = "[0-9]+(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?";
const UNIT: &str = "(?:ns|nsecs?|us|µs|μs|usecs?|ms|msecs?|s|secs?|seconds?|milliseconds?|microseconds?\
                    |nanoseconds?|mins?|minutes?|h|hrs?|hours?)";

static PATH: LazyLock<[Pattern; 5]> = LazyLock::new(|| {
    [
        pattern(
            r"(?m)(^|[^\w/.~-])(?:/private)?(?:/tmp|/var/tmp|/var/folders/[^/\s]+/[^/\s]+/T)/[^/\s'\x22<>:,;()\[\]]+",
            "${1}[PATH]",
        ),
        pattern(r"\[PATH\]/tmp[a-z0-9_]{8}\b", "[PATH]"),
        pattern(r"\btmp[a-z0-9_]{8}\b", "[PATH]"),
        pattern(
            r"(?:/[\w.+@~-]+)*/lib(?:64)?/python3\.[0-9]+t?(/)",
            "[PATH]${1}",
        ),
        pattern(r"(?:/[\w.+@~-]+)*/bin/python[0-9.]*t?\b", "[PATH]"),
    ]
});

static UUID: LazyLock<[Pattern; 2]> = LazyLock::new(|| {
    [
        pattern(
            r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b",
            "[UUID]",
        ),
        pattern(r"\b[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\b", "[UUID]"),
    ]
});

static VERSION: LazyLock<[Pattern; 4]> = LazyLock::new(|| {
    [
        pattern(
            r"\b3\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?\+? (?:(?:experimental )?free-threading build )?\([^()\n]*\)(?:[ \n]\[[^\]\n]*\])?",
            "[VERSION]",
        ),
        pattern(
            r"\b(C?Python:?[ /])3\.[0-9]+(?:\.[0-9]+)?(?:(?:a|b|rc)[0-9]+)?\+?",
            "${1}[VERSION]",
        ),
        pattern(r"\b(python)3\.[0-9]+t?\b", "${1}[VERSION]"),
        pattern(r"\b(cpython-)3[0-9]{1,2}t?\b", "${1}[VERSION]"),
    ]
});

static DATE: LazyLock<[Pattern; 7]> = LazyLock::new(|| {
    [
        pattern(
            &format!(
                r"\b[0-9]{{4}}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?:[T_ ][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.,][0-9]+)?)?{ZONE}?)?\b"
            ),
            "[DATE]",
        ),
        pattern(
            &format!(r"\b[0-9]{{1,2}}/{MONTH}/[0-9]{{4}}(?:[: ]{CLOCK}{ZONE}?)?\b"),
            "[DATE]",
        ),
        pattern(
            &format!(
                r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?(?:{MONTH} {{1,2}}[0-9]{{1,2}}|[0-9]{{1,2}} {MONTH})(?:,? {CLOCK})?,? [0-9]{{4}}(?: {CLOCK})?{ZONE}?\b"
            ),
            "[DATE]",
        ),
        pattern(r"\b[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}\b", "[DATE]"),
        pattern(
            r"\b((?:datetime\.)?(?:datetime|date)\()[0-9]{4}(?:, ?[0-9]+){2,6}",
            "${1}[DATE]",
        ),
        pattern(r"\b(?:1[6-9]|20)[0-9]{8}\.[0-9]+\b", "[DATE]"),
        pattern(r"\b(?:1[6-9]|20)[0-9]{8}\b", "[DATE]"),
    ]
});

static TIME: LazyLock<[Pattern; 5]> = LazyLock::new(|| {
    [
        // The columns of `cProfile`: total and cumulative seconds, and both for each call.
        pattern(
            r"(?m)^( *[0-9]+(?:/[0-9]+)?) +[0-9]+\.[0-9]{3} +[0-9]+\.[0-9]{3} +[0-9]+\.[0-9]{3} +[0-9]+\.[0-9]{3} ",
            "${1} [TIME] [TIME] [TIME] [TIME] ",
        ),
        pattern(
            &format!(r"\b(?:-?[0-9]+ days?, )?{CLOCK}(?: ?[AaPp][Mm])?{ZONE}?\b"),
            "[TIME]",
        ),
        pattern(r"\b[0-9]{1,2}:[0-9]{2} ?[AaPp][Mm]\b", "[TIME]"),
        pattern(
            &format!(r"\b{NUMBER} ?{UNIT}(?:,? ?{NUMBER} ?{UNIT})*\b"),
            "[TIME]",
        ),
        pattern(
            r"(?i)\b((?:elapsed|took|duration|runtime|wall|cpu|real|sys|seconds|secs)(?:[ _]time)?(?: ?[:=] ?| +)(?:about |~)?)[0-9]+\.[0-9]+(?:e[+-]?[0-9]+)?\b",
            "${1}[TIME]",
        ),
    ]
});

static PORT: LazyLock<[Pattern; 2]> = LazyLock::new(|| {
    [
        pattern(
            r"((?:\b127\.[0-9]+\.[0-9]+\.[0-9]+|\b0\.0\.0\.0|\blocalhost|\[?::1?\]?)(?:['\x22], |:| port ))[0-9]{2,5}\b",
            "${1}[PORT]",
        ),
        pattern(
            r"(?i)\b(port(?: number)?(?: ?[:=] ?| ))[0-9]{2,5}\b",
            "${1}[PORT]",
        ),
    ]
});

static ADDRESS: LazyLock<[Pattern; 2]> = LazyLock::new(|| {
    [
        pattern(r"\b(at )0x[0-9A-Fa-f]{4,16}\b", "${1}[ADDRESS]"),
        // Shorter ones are numbers that an example prints in hexadecimal.
        pattern(r"\b0x[0-9A-Fa-f]{8,16}\b", "[ADDRESS]"),
    ]
});

static PID: LazyLock<[Pattern; 1]> = LazyLock::new(|| {
    [pattern(
        r"(?i)\b((?:p?pid|(?:parent )?process(?: ?id)?|parent|getpid\(\))(?: ?[:=#] ?| (?:is )?))[0-9]+\b",
        "${1}[PID]",
    )]
});

static THREAD: LazyLock<[Pattern; 2]> = LazyLock::new(|| {
    [
        pattern(r"\b(started (?:daemon )?)[0-9]+\b", "${1}[THREAD]"),
        pattern(
            r"(?i)\b((?:thread|(?:native_|thread[_ ]?)?ident(?:ifier)?|(?:native_|thread[_ ]?)id|get_ident\(\)|get_native_id\(\))(?: ?[:=#] ?| (?:is )?))[0-9]+\b",
            "${1}[THREAD]",
        ),
    ]
});

static ID: LazyLock<[Pattern; 1]> = LazyLock::new(|| {
    // Not the decimals of a float.
    [pattern(r"(^|[^0-9.])\b[0-9]{8,16}\b", "${1}[ID]")]
});

static SPACES: LazyLock<[Pattern; 3]> = LazyLock::new(|| {
    [
        pattern(r"(?m)[ \t]+$", ""),
        // A single tab, and two blanks or more: one space must not be replaced by itself for ever.
        pattern(r"[ \t]{2,}", " "),
        pattern(r"\t", " "),
    ]
});

static WHOLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[0-9]{3,10}\b", "").regex);

fn is_among(rule: Rule, rules: &[Rule]) -> bool {
    rules.iter().any(|other| other.name() == rule.name())
}

/// The text after one rule, `None` if it has nothing to replace.
fn apply_one(rule: Rule, text: &str, context: &Context) -> Option<String> {
    let mut out = Cow::Borrowed(text);
    if rule == Rule::Path
        && let Some(next) = without_scratch(&out, &context.scratch)
    {
        out = Cow::Owned(next);
    }
    for Pattern { regex, replacement } in rule.patterns() {
        if let Cow::Owned(next) = regex.replace_all(&out, *replacement) {
            out = Cow::Owned(next);
        }
    }
    if rule == Rule::Pid
        && let Some(next) = without_pids(&out, &context.pids)
    {
        out = Cow::Owned(next);
    }
    match out {
        Cow::Owned(next) if next != text => Some(next),
        _ => None,
    }
}

/// `text` with the directory replaced, where it stands for itself: `/s/1` is not the beginning of `/s/12`.
fn without_scratch(text: &str, scratch: &str) -> Option<String> {
    let scratch = scratch.trim_end_matches('/');
    // Without a slash it could be a part of the placeholder, and replacing it would never end.
    if !scratch.contains('/') {
        return None;
    }
    let mut out = String::new();
    let mut copied = 0;
    for (start, _) in text.match_indices(scratch) {
        let end = start + scratch.len();
        let next = text[end..].chars().next();
        if next.is_some_and(|next| next.is_alphanumeric() || "_-".contains(next)) {
            continue;
        }
        // What macOS prints for a path below `/var` or `/tmp` once links are resolved.
        let before = text[copied..start]
            .strip_suffix("/private")
            .unwrap_or(&text[copied..start]);
        out.push_str(before);
        out.push_str("[PATH]");
        copied = end;
    }
    (copied > 0).then(|| out + &text[copied..])
}

fn without_pids(text: &str, pids: &[u32]) -> Option<String> {
    let pids: Vec<u32> = pids
        .iter()
        .copied()
        .filter(|pid| *pid >= SMALLEST_BARE_PID)
        .collect();
    if pids.is_empty() {
        return None;
    }
    let replace = |found: &Captures| {
        let number = &found[0];
        let range = found.get(0).map_or(0..0, |found| found.range());
        let is_pid = number
            .parse()
            .is_ok_and(|number: u32| pids.contains(&number));
        if is_pid && !is_part_of_decimal(text, &range) {
            "[PID]".to_owned()
        } else {
            number.to_owned()
        }
    };
    match WHOLE.replace_all(text, replace) {
        Cow::Owned(next) => Some(next),
        Cow::Borrowed(_) => None,
    }
}

fn is_part_of_decimal(text: &str, number: &Range<usize>) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let point = |at: Option<usize>| at.and_then(|at| bytes.get(at)) == Some(&b'.');
    (point(number.start.checked_sub(1)) && digit(number.start.checked_sub(2)))
        || (point(Some(number.end)) && digit(Some(number.end + 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context() -> Context {
        Context {
            scratch: "/home/me/.cache/verify/s-1".into(),
            pids: vec![4242, 7],
        }
    }

    fn check(rule: Rule, text: &str, wanted: &str) {
        assert_eq!(
            apply(&[rule], text, &context()),
            wanted,
            "{rule} on {text:?}"
        );
    }

    #[test]
    fn addresses() {
        check(
            Rule::Address,
            "<C object at 0x7f3a5c0b2d10>",
            "<C object at [ADDRESS]>",
        );
        check(
            Rule::Address,
            "<C object at 0x000001F3A5C0B2D1>",
            "<C object at [ADDRESS]>",
        );
        check(Rule::Address, "at 0x9a3f40", "at [ADDRESS]");
        check(
            Rule::Address,
            "0x7f3a5c0b2d10 0x7F3A5C0B2D10",
            "[ADDRESS] [ADDRESS]",
        );
        check(
            Rule::Address,
            "0xff 0x1234 look at 0xff",
            "0xff 0x1234 look at 0xff",
        );
        check(Rule::Address, "a0x7f3a5c0b2d10", "a0x7f3a5c0b2d10");
    }

    #[test]
    fn durations() {
        check(Rule::Time, "0.123s", "[TIME]");
        check(Rule::Time, "3 passed in 0.01s", "3 passed in [TIME]");
        check(
            Rule::Time,
            "1.2 ms ± 45 µs per loop",
            "[TIME] ± [TIME] per loop",
        );
        check(Rule::Time, "took 1min 3s.", "took [TIME].");
        check(Rule::Time, "1h2min3s, 1e-05 seconds", "[TIME]");
        check(
            Rule::Time,
            "best of 5: 20.1 nsec per loop",
            "best of 5: [TIME] per loop",
        );
        check(Rule::Time, "Elapsed: 0.00123", "Elapsed: [TIME]");
        check(
            Rule::Time,
            "elapsed time = 1.5e-05",
            "elapsed time = [TIME]",
        );
        check(
            Rule::Time,
            "12 apples, 3 sheep, 1.5 m, x1s",
            "12 apples, 3 sheep, 1.5 m, x1s",
        );
    }

    #[test]
    fn clock_times() {
        check(Rule::Time, "10:11:12", "[TIME]");
        check(Rule::Time, "0:00:00.001234", "[TIME]");
        check(Rule::Time, "1 day, 2:03:04", "[TIME]");
        check(Rule::Time, "at 9:05 PM", "at [TIME]");
        check(Rule::Time, "10:11:12+02:00 10:11:12Z", "[TIME] [TIME]");
        check(Rule::Time, "16:9 and 1:2:3", "16:9 and 1:2:3");
    }

    #[test]
    fn profiler_columns() {
        check(
            Rule::Time,
            "        1    0.000    0.000    0.012    0.012 app.py:1(main)\n",
            "        1 [TIME] [TIME] [TIME] [TIME] app.py:1(main)\n",
        );
        check(
            Rule::Time,
            "  3/1  0.000  0.000  0.012  0.012 f\n",
            "  3/1 [TIME] [TIME] [TIME] [TIME] f\n",
        );
    }

    #[test]
    fn dates() {
        check(Rule::Date, "2024-01-31", "[DATE]");
        check(Rule::Date, "2024-01-31 10:11:12,123 INFO", "[DATE] INFO");
        check(Rule::Date, "2024-01-31T10:11:12.123456+00:00", "[DATE]");
        check(Rule::Date, "2024-01-31T10:11Z", "[DATE]");
        check(Rule::Date, "Sat Nov 21 07:47:00 2026", "[DATE]");
        check(Rule::Date, "Sat, 21 Nov 2026 07:47:00 GMT", "[DATE]");
        check(
            Rule::Date,
            "November 21, 2026; 21 November 2026",
            "[DATE]; [DATE]",
        );
        check(Rule::Date, "[21/Nov/2026:07:47:00 +0000]", "[[DATE]]");
        check(Rule::Date, "11/21/2026", "[DATE]");
        check(
            Rule::Date,
            "datetime.datetime(2026, 11, 21, 7, 47)",
            "datetime.datetime([DATE])",
        );
        check(
            Rule::Date,
            "datetime.date(2026, 11, 21)",
            "datetime.date([DATE])",
        );
        check(Rule::Date, "1732171234.5678 1732171234", "[DATE] [DATE]");
        check(
            Rule::Date,
            "2024-13-01 1999-1-1 9999999999",
            "2024-13-01 1999-1-1 9999999999",
        );
    }

    #[test]
    fn paths() {
        check(
            Rule::Path,
            "/home/me/.cache/verify/s-1/app.py",
            "[PATH]/app.py",
        );
        check(
            Rule::Path,
            "/home/me/.cache/verify/s-1-old s-1",
            "/home/me/.cache/verify/s-1-old s-1",
        );
        check(Rule::Path, "/private/home/me/.cache/verify/s-1", "[PATH]");
        check(
            Rule::Path,
            "/home/me/.cache/verify/s-12/app.py",
            "/home/me/.cache/verify/s-12/app.py",
        );
        check(Rule::Path, "'/home/me/.cache/verify/s-1'", "'[PATH]'");
        check(
            Rule::Path,
            "/home/me/.cache/verify/s-1/tmpab12cd_8/x.txt",
            "[PATH]/x.txt",
        );
        check(Rule::Path, "/tmp/tmpab12cd_8/x.txt", "[PATH]/x.txt");
        check(Rule::Path, "/home/tmp/x ./tmp/x", "/home/tmp/x ./tmp/x");
        check(Rule::Path, "name: tmpab12cd_8", "name: [PATH]");
        check(
            Rule::Path,
            "/usr/lib/python3.11/json/decoder.py",
            "[PATH]/json/decoder.py",
        );
        check(Rule::Path, "/opt/v/bin/python3.13", "[PATH]");
        check(
            Rule::Path,
            "/usr/share/doc tmpfile tmp",
            "/usr/share/doc tmpfile tmp",
        );
    }

    #[test]
    fn a_scratch_without_a_slash_is_none() {
        for scratch in ["", "/", "A", "PATH"] {
            let context = Context {
                scratch: scratch.into(),
                pids: vec![],
            };
            assert_eq!(apply(&[Rule::Path], "A/PATH", &context), "A/PATH");
        }
    }

    #[test]
    fn pids() {
        check(Rule::Pid, "worker 4242 done", "worker [PID] done");
        check(
            Rule::Pid,
            "pid=99 PID: 99 pid 99",
            "pid=[PID] PID: [PID] pid [PID]",
        );
        check(
            Rule::Pid,
            "<Process name='W-1' pid=12 parent=7 started>",
            "<Process name='W-1' pid=[PID] parent=[PID] started>",
        );
        check(Rule::Pid, "process 123", "process [PID]");
        check(
            Rule::Pid,
            "7 rows, 4.4242, 4242.5, 14242",
            "7 rows, 4.4242, 4242.5, 14242",
        );
        check(Rule::Pid, "4242.", "[PID].");
    }

    #[test]
    fn identifiers() {
        check(Rule::Uuid, "12345678-1234-5678-1234-567812345678", "[UUID]");
        check(
            Rule::Uuid,
            "UUID('12345678-1234-4678-8234-567812345678')",
            "UUID('[UUID]')",
        );
        check(Rule::Uuid, "0123456789ab4def8123456789abcdef", "[UUID]");
        check(
            Rule::Uuid,
            "d41d8cd98f00b204e9800998ecf8427e",
            "d41d8cd98f00b204e9800998ecf8427e",
        );
        check(Rule::Port, "('127.0.0.1', 54321)", "('127.0.0.1', [PORT])");
        check(
            Rule::Port,
            "http://localhost:8000/x",
            "http://localhost:[PORT]/x",
        );
        check(
            Rule::Port,
            "[::1]:54321 port=54321",
            "[::1]:[PORT] port=[PORT]",
        );
        check(Rule::Port, "on 0.0.0.0 port 8000", "on 0.0.0.0 port [PORT]");
        check(
            Rule::Port,
            "http://example.org:8000/",
            "http://example.org:8000/",
        );
        check(
            Rule::Thread,
            "<Thread(Thread-1, started 140123456789012)>",
            "<Thread(Thread-1, started [THREAD])>",
        );
        check(
            Rule::Thread,
            "started daemon 12; ident=5",
            "started daemon [THREAD]; ident=[THREAD]",
        );
        check(
            Rule::Id,
            "140123456789012 94123456789012 1234567",
            "[ID] [ID] 1234567",
        );
    }

    #[test]
    fn versions() {
        check(Rule::Version, "Python 3.13.1", "Python [VERSION]");
        check(
            Rule::Version,
            "3.13.1 (main, Dec  4 2024, 01:02:03) [GCC 13.3.0]",
            "[VERSION]",
        );
        check(
            Rule::Version,
            "Python 3.15.0a2+ (main, x) [GCC 1] on linux",
            "Python [VERSION] on linux",
        );
        check(
            Rule::Version,
            "m.cpython-313.pyc python3.13",
            "m.cpython-[VERSION].pyc python[VERSION]",
        );
        check(Rule::Version, "numpy 2.1.3", "numpy 2.1.3");
    }

    #[test]
    fn spaces() {
        check(Rule::Spaces, "a  b\t\tc\td  \n  e", "a b c d\n e");
        check(Rule::Spaces, "a b\nc\n", "a b\nc\n");
    }

    #[test]
    fn rules_apply_in_one_order() {
        let text = "2024-01-31 10:11:12";
        for rules in [[Rule::Time, Rule::Date], [Rule::Date, Rule::Time]] {
            assert_eq!(apply(&rules, text, &context()), "[DATE]");
        }
    }

    #[test]
    fn what_one_rule_uncovers_another_takes() {
        let rules = [Rule::Time, Rule::Spaces];
        assert_eq!(apply(&rules, "1.5  ms", &context()), "[TIME]");
    }

    #[test]
    fn bytes_between_texts_stay() {
        let got = apply_bytes(&[Rule::Time], b"1s\xff2s\n", &context());
        assert_eq!(got, b"[TIME]\xff[TIME]\n");
    }

    #[test]
    fn rules_parse_and_print() {
        for rule in Rule::ALL.into_iter().chain([Rule::Float(3)]) {
            assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
        }
        assert_eq!(Rule::parse("float = 3"), Ok(Rule::Float(3)));
        assert_eq!(
            Rule::parse("float=6").map(|rule| rule.to_string()),
            Ok("float".into())
        );
    }

    #[test]
    fn rules_that_are_none() {
        let problem = |text| Rule::parse(text).expect_err(text);
        assert_eq!(
            problem("adress"),
            "unknown rule `adress`; did you mean `address`?"
        );
        assert!(problem("zzz").starts_with("unknown rule `zzz`; the rules are `path`, "));
        assert_eq!(
            problem("time=3"),
            "rule `time` takes no value; write `time`"
        );
        assert_eq!(
            problem("float=0"),
            "`float=0` is not a number of significant digits; write 1 to 15, such as `float=6`"
        );
        assert!(problem("float=x").contains("`float=x`"));
    }

    #[test]
    fn every_rule_is_described_in_one_sentence() {
        for rule in Rule::ALL {
            let text = rule.description();
            assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
        }
    }

    fn fragments() -> impl Strategy<Value = String> {
        let fragment = prop_oneof![
            Just("2024-01-31"),
            Just("10:11:12"),
            Just("0x7f3a5c0b2d10"),
            Just("at "),
            Just("pid="),
            Just("4242"),
            Just(" "),
            Just("\t"),
            Just("\n"),
            Just("1.5"),
            Just("ms"),
            Just("s"),
            Just("/tmp/"),
            Just("tmpab12cd_8"),
            Just("/home/me/.cache/verify/s-1"),
            Just("12345678"),
            Just("-"),
            Just(":"),
            Just("port "),
            Just("Python "),
            Just("3.13.1"),
            Just("[PATH]"),
            Just("127.0.0.1:"),
            Just("/lib/python3.11/"),
            Just("é"),
            Just("started "),
        ];
        proptest::collection::vec(fragment, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn applying_twice_is_applying_once(
            text in fragments(), rules in proptest::sample::subsequence(Rule::ALL.to_vec(), 0..=12),
        ) {
            let once = apply(&rules, &text, &context());
            prop_assert_eq!(&apply(&rules, &once, &context()), &once);
        }

        #[test]
        fn applying_to_any_text_ends(text in "\\PC{0,60}") {
            let once = apply(&Rule::ALL, &text, &context());
            prop_assert_eq!(&apply(&Rule::ALL, &once, &context()), &once);
        }

        #[test]
        fn no_rule_changes_nothing(text in fragments()) {
            prop_assert_eq!(apply(&[], &text, &context()), text);
        }
    }
}
