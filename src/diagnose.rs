//! Why two runs of the same example differ, and what settles it: the rule, or the change of the example,
//! which is always better.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::SystemTime;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};

use crate::conditions::Factor;
use crate::matching::{Matching, lossy};
use crate::normalize::{Context, DEFAULT_DIGITS, NUMBER, Rule, apply, pattern};

/// Why two runs of the same example printed different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    Address,
    Path,
    Uuid,
    Date,
    Time,
    Port,
    Pid,
    Thread,
    Id,
    References,
    Version,
    Rounding,
    SetOrder,
    ItemOrder,
    LineOrder,
    Hash,
    Random,
    Interleaving,
    MemoryLayout,
    ProcessorCount,
    Load,
    DirectoryOrder,
    TimeZone,
    Width,
    Locale,
    Unknown,
}

impl Cause {
    /// The cause in words, to stand behind `likely cause: `.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Address => "memory address in a default `repr`",
            Cause::Path => "scratch path",
            Cause::Uuid => "random UUID",
            Cause::Date => "clock or date",
            Cause::Time => "elapsed time",
            Cause::Port => "port number that the system chose",
            Cause::Pid => "process id",
            Cause::Thread => "thread identifier",
            Cause::Id => "identity of an object, or another large number",
            Cause::References => "number of references to an object",
            Cause::Version => "version of Python",
            Cause::Rounding => "rounding of floats",
            Cause::SetOrder => "set order",
            Cause::ItemOrder => "order of items, from a set or shuffled without a seed",
            Cause::LineOrder => "thread interleaving, or lines shuffled without a seed",
            Cause::Hash => "hash of a string",
            Cause::Random => "random without a seed",
            Cause::Interleaving => "thread interleaving",
            Cause::MemoryLayout => "memory layout, such as the order of a set of objects",
            Cause::ProcessorCount => "number of processors",
            Cause::Load => "load of the machine",
            Cause::DirectoryOrder => "order in which a directory is listed",
            Cause::TimeZone => "time zone",
            Cause::Width => "terminal width",
            Cause::Locale => "locale",
            Cause::Unknown => "unknown",
        }
    }

    /// What to change in the example, so that no rule is needed.
    fn change(self) -> &'static str {
        match self {
            Cause::Address => "give the class a `__repr__`, or compare with `is`",
            Cause::Path => "print a relative path or the name alone",
            Cause::Uuid => "print its length or version, or use `uuid.uuid5`",
            Cause::Date => "use a fixed date, or pass the clock in",
            Cause::Time => "print whether it is below a bound with a wide margin, or count steps",
            Cause::Port => "do not print the port",
            Cause::Pid => "do not print the process id",
            Cause::Thread => "name the threads and print the names",
            Cause::Id => "compare with `is` and print the result",
            Cause::References => "print by how much it changes",
            Cause::Version => "print `sys.version_info >= (3, 12)`",
            Cause::Rounding => "print it rounded, such as `{value:.6g}`",
            Cause::SetOrder => "print `sorted(…)` of the set",
            Cause::ItemOrder => "print `sorted(…)`, or seed what shuffles",
            Cause::LineOrder => {
                "collect results and print them after `join`, seed what shuffles, or mark the example `unordered`"
            }
            Cause::Hash => "print whether two hashes are equal",
            Cause::Random => {
                "seed it (`random.seed(1)`, `default_rng(1)`), or, if it is measured, print whether it is below a bound"
            }
            Cause::Interleaving => {
                "collect results and print them after `join`, or mark the example `unordered`"
            }
            Cause::MemoryLayout => "sort by what does not change, or give the class a `__hash__`",
            Cause::ProcessorCount => "pass the number of workers, and do not print the machine's",
            Cause::Load => "wait for an event instead of a time, or widen the margin",
            Cause::DirectoryOrder => "list it with `sorted(…)`",
            Cause::TimeZone => "name the zone, such as `tz=timezone.utc`",
            Cause::Width => "pass the width, or set it by `env=\"COLUMNS=80\"`",
            Cause::Locale => "pass the format, or do not set the locale from the environment",
            Cause::Unknown => {
                "make the example print the same each time, or write `[..]` in the recording for what varies"
            }
        }
    }
}

/// Why an example cannot be relied upon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// Two runs differ.
    Unstable(Box<Diagnosis>),
    /// It failed when it was run again.
    FailedAgain(String),
}

/// What [`diagnose`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub cause: Cause,
    /// The rules that make the two outputs equal; empty where only a change of the example does. More than
    /// one where several things vary at once; the cause is then that of the first.
    pub rules: Vec<Rule>,
    /// What to do about it: the change of the example first, then the rule.
    pub advice: String,
    /// Lines that differ, the first few, as both runs printed them.
    pub lines: Vec<(String, String)>,
}

/// Why `a` and `b`, the same output of two runs, differ, and what settles it.
///
/// It tries: each rule alone, the smallest set of rules together, then whether the same lines, items or
/// numbers are there. The first that makes the two equal is the answer, so the order goes from what is
/// recognised by its form to what is only inferred.
pub fn diagnose(a: &str, b: &str, context_a: &Context, context_b: &Context) -> Diagnosis {
    let (cause, rules) = find_cause(a, b, context_a, context_b);
    Diagnosis {
        cause,
        advice: advice(cause, &rules),
        rules,
        lines: differing_lines(a, b),
    }
}

impl Diagnosis {
    /// What numbers are that vary in no form of their own, by the words of the example that printed them or of one before
    /// it, the nearest first.
    #[must_use]
    pub fn in_words_of<'s>(mut self, mut sources: impl Iterator<Item = &'s str>) -> Diagnosis {
        if self.cause != Cause::Random {
            return self;
        }
        let varying: Vec<&str> = self.lines.iter().flat_map(differing_numbers).collect();
        let cause_in = |source: &str| {
            let says = |words: &[&str]| words.iter().any(|word| source.contains(word));
            let may_be = |limits: &Range<u32>| {
                let number =
                    |text: &&str| text.parse().is_ok_and(|number| limits.contains(&number));
                varying.iter().all(number)
            };
            let found = WORDS
                .iter()
                .find(|(words, limits, _)| says(words) && limits.as_ref().is_none_or(may_be));
            found.map(|(.., cause)| *cause)
        };
        self.cause = sources.find_map(cause_in).unwrap_or(Cause::Unknown);
        self.advice = advice(self.cause, &self.rules);
        self
    }

    /// What the difference means where this factor alone made it: form alone cannot tell whether lines
    /// changed places by their hashes or by their threads.
    #[must_use]
    pub fn because_of(mut self, factor: Factor) -> Diagnosis {
        let is_order = matches!(
            self.cause,
            Cause::SetOrder | Cause::ItemOrder | Cause::LineOrder
        );
        let is_vague = matches!(self.cause, Cause::Random | Cause::Unknown | Cause::Id);
        let cause = match factor {
            Factor::HashSeed if is_order => Cause::SetOrder,
            Factor::Layout if is_order || is_vague => Cause::MemoryLayout,
            Factor::Processors | Factor::Load if is_order => Cause::Interleaving,
            Factor::Processors if is_vague => Cause::ProcessorCount,
            Factor::Load if is_vague => Cause::Load,
            Factor::FileSystem => Cause::DirectoryOrder,
            Factor::Clock => Cause::Date,
            Factor::TimeZone => Cause::TimeZone,
            Factor::Width => Cause::Width,
            Factor::Locale => Cause::Locale,
            Factor::HashSeed | Factor::Layout | Factor::Processors | Factor::Load => self.cause,
        };
        if cause != self.cause {
            let settles =
                |rule: &Rule| matches!((rule, cause), (Rule::Date | Rule::Time, Cause::Date));
            self.rules.retain(settles);
            self.cause = cause;
            self.advice = advice(cause, &self.rules);
        }
        self
    }
}

fn advice(cause: Cause, rules: &[Rule]) -> String {
    let mut advice = cause.change().to_owned();
    if !rules.is_empty() {
        let names: Vec<String> = rules.iter().map(Rule::to_string).collect();
        let _ = write!(advice, "; or write `normalize={}`", names.join(","));
    }
    advice
}

/// Whether lines differ in nothing but the day and the time at which they were printed, the second run's
/// being a day later by the zone it had. Fixed dates are shifted by such a zone too: they don't show the
/// moment of their run.
pub fn shows_the_clock(
    lines: &[(String, String)],
    first: &Range<SystemTime>,
    second: &Range<SystemTime>,
) -> bool {
    let forms = |time: SystemTime, shift: TimeDelta| forms(DateTime::<Utc>::from(time) + shift);
    let before = [first.start, first.end].map(|time| forms(time, TimeDelta::zero()));
    let after = [second.start, second.end].map(|time| forms(time, TimeDelta::days(1)));
    let is_passing = |(a, b): (&str, &str)| {
        a == b
            || before.iter().any(|before| {
                let pairs = |after: &Vec<String>| {
                    before
                        .iter()
                        .zip(after)
                        .any(|(one, two)| one == a && two == b)
                };
                after.iter().any(pairs)
            })
    };
    lines.iter().all(|(a, b)| {
        let (a, b) = (words_and_numbers(a), words_and_numbers(b));
        a.len() == b.len() && a.into_iter().zip(b).all(is_passing)
    })
}

/// The ways in which a part of a moment is written, always in the same order.
fn forms(time: DateTime<Utc>) -> Vec<String> {
    const FORMATS: [&str; 23] = [
        "%Y", "%y", "%m", "%-m", "%d", "%-d", "%b", "%B", "%a", "%A", "%j", "%-j", "%u", "%w",
        "%H", "%-H", "%I", "%-I", "%M", "%-M", "%V", "%Y%m%d", "%y%m%d",
    ];
    let date = time.date_naive();
    let numbers = [
        date.num_days_from_ce().to_string(),
        date.weekday().num_days_from_monday().to_string(),
    ];
    FORMATS
        .map(|format| time.format(format).to_string())
        .into_iter()
        .chain(numbers)
        .collect()
}

/// Runs of digits and of letters; what stands between them is the same wherever they are compared.
fn words_and_numbers(line: &str) -> Vec<&str> {
    let kind = |c: char| (c.is_ascii_digit(), c.is_alphabetic());
    let mut parts = Vec::new();
    let mut start = 0;
    let mut characters = line.char_indices().peekable();
    while let Some((_, c)) = characters.next() {
        let end = characters.peek().map_or(line.len(), |(at, _)| *at);
        if characters
            .peek()
            .is_none_or(|(_, next)| kind(*next) != kind(c))
        {
            parts.push(&line[start..end]);
            start = end;
        }
    }
    parts
}

/// [`diagnose`] for output as it comes.
pub fn diagnose_bytes(a: &[u8], b: &[u8], context_a: &Context, context_b: &Context) -> Diagnosis {
    diagnose(&lossy(a), &lossy(b), context_a, context_b)
}

/// The rules that explain a difference between two runs of one interpreter, the most telling first.
const SUSPECTS: [(Rule, Cause); 11] = [
    (Rule::Address, Cause::Address),
    (Rule::Path, Cause::Path),
    (Rule::Uuid, Cause::Uuid),
    (Rule::Date, Cause::Date),
    (Rule::Time, Cause::Time),
    (Rule::Port, Cause::Port),
    (Rule::Pid, Cause::Pid),
    (Rule::Thread, Cause::Thread),
    (Rule::Id, Cause::Id),
    (Rule::Version, Cause::Version),
    (Rule::Spaces, Cause::Unknown),
];

/// Words of an example that print numbers which vary from run to run, what these may be, and what they are.
type Words = (&'static [&'static str], Option<Range<u32>>, Cause);

const WORDS: [Words; 7] = [
    (&["getpid", "getppid", ".pid"], Some(1..1 << 22), Cause::Pid),
    (
        &["getsockname", "server_"],
        Some(1 << 10..1 << 16),
        Cause::Port,
    ),
    (&["getrefcount"], Some(1..u32::MAX), Cause::References),
    (&["native_id"], Some(1..1 << 22), Cause::Thread),
    (&["hash("], None, Cause::Hash),
    (&["rand", "rng", "secrets", "shuffle"], None, Cause::Random),
    (&["perf_counter", "monotonic", "time()"], None, Cause::Time),
];

/// How many pairs of lines a [`Diagnosis`] keeps.
const SHOWN_LINES: usize = 5;

static BRACES: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{[^{}\[\]()]*\}", "").regex);
static BRACKETS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\{[^{}\[\]()]*\}|\[[^{}\[\]()]*\]|\([^{}\[\]()]*\)", "").regex);
static HASH: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:^|[^0-9.])-?\b[0-9]{16,19}\b", "").regex);
static NUMBERS: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("-?{NUMBER}"), "").regex);

fn find_cause(a: &str, b: &str, context_a: &Context, context_b: &Context) -> (Cause, Vec<Rule>) {
    let settles =
        |rules: &[Rule]| a != b && apply(rules, a, context_a) == apply(rules, b, context_b);
    for (rule, cause) in SUSPECTS {
        if rule != Rule::Spaces && settles(&[rule]) {
            return (cause, vec![rule]);
        }
    }
    for digits in [12, DEFAULT_DIGITS] {
        let matching = Matching {
            digits: Some(digits),
            ..Matching::default()
        };
        if a != b && matching.matches(a.as_bytes(), b.as_bytes()) {
            return (Cause::Rounding, vec![Rule::Float(digits)]);
        }
    }
    let mut rules: Vec<Rule> = SUSPECTS.iter().map(|(rule, _)| *rule).collect();
    if settles(&rules) {
        for (rule, _) in SUSPECTS.iter().rev() {
            let fewer: Vec<Rule> = rules
                .iter()
                .copied()
                .filter(|other| other != rule)
                .collect();
            if settles(&fewer) {
                rules = fewer;
            }
        }
        let cause = SUSPECTS.iter().find(|(rule, _)| rules.contains(rule));
        return (cause.map_or(Cause::Unknown, |(_, cause)| *cause), rules);
    }
    let same = |form: &dyn Fn(&str) -> String| a != b && form(a) == form(b);
    let masked =
        |regex: &'static Regex| move |text: &str| regex.replace_all(text, "#").into_owned();
    let cause = if same(&|text| items_sorted(text, &BRACES)) {
        Cause::SetOrder
    } else if same(&|text| items_sorted(text, &BRACKETS)) {
        Cause::ItemOrder
    } else if same(&|text| sorted(text.lines())) {
        Cause::LineOrder
    } else if same(&words_sorted) {
        Cause::ItemOrder
    } else if same(&masked(&HASH)) {
        Cause::Hash
    } else if same(&masked(&NUMBERS)) {
        Cause::Random
    } else {
        Cause::Unknown
    };
    (cause, Vec::new())
}

/// `text` with the items inside each innermost bracket in sorted order.
fn items_sorted(text: &str, brackets: &Regex) -> String {
    let sort = |found: &Captures| {
        let whole = &found[0];
        let mut items: Vec<&str> = whole[1..whole.len() - 1]
            .split(',')
            .map(str::trim)
            .collect();
        items.sort_unstable();
        format!(
            "{}{}{}",
            &whole[..1],
            items.join(","),
            &whole[whole.len() - 1..]
        )
    };
    brackets.replace_all(text, sort).into_owned()
}

/// `text` with the words of each line in sorted order.
fn words_sorted(text: &str) -> String {
    let separators = |c: char| c.is_whitespace() || c == ',';
    text.lines()
        .map(|line| sorted(line.split(separators).filter(|word| !word.is_empty())))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn sorted<'t>(parts: impl Iterator<Item = &'t str>) -> String {
    let mut parts: Vec<&str> = parts.collect();
    parts.sort_unstable();
    parts.join("\n")
}

/// The numbers of two lines that are not the same in both.
fn differing_numbers((a, b): &(String, String)) -> Vec<&str> {
    let numbers = |line| NUMBERS.find_iter(line).map(|found| found.as_str());
    let pairs = numbers(a.as_str()).zip(numbers(b.as_str()));
    let differing = pairs.filter(|(one, other)| one != other);
    differing.flat_map(|(one, other)| [one, other]).collect()
}

/// Pairs of lines that differ once the equal beginning and end are left off.
fn differing_lines(a: &str, b: &str) -> Vec<(String, String)> {
    let (a, b): (Vec<&str>, Vec<&str>) = (
        a.split_inclusive('\n').collect(),
        b.split_inclusive('\n').collect(),
    );
    let start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let rest = a.len().min(b.len()) - start;
    let end = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let (a, b) = (&a[start..a.len() - end], &b[start..b.len() - end]);
    let line = |lines: &[&str], at: usize| {
        lines
            .get(at)
            .map_or(String::new(), |line| (*line).to_owned())
    };
    (0..a.len().max(b.len()))
        .map(|at| (line(a, at), line(b, at)))
        .filter(|(a, b)| a != b)
        .map(|(a, b)| {
            (
                a.trim_end_matches('\n').to_owned(),
                b.trim_end_matches('\n').to_owned(),
            )
        })
        .take(SHOWN_LINES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_that_made_a_difference_names_its_cause() {
        let because = |a: &str, b: &str, factor| {
            let found = diagnose(a, b, &Context::default(), &Context::default());
            found.because_of(factor).cause
        };
        let (order, number) = (("a\nb\n", "b\na\n"), ("n 1\n", "n 22\n"));
        for (text, factor, wanted) in [
            (order, Factor::HashSeed, Cause::SetOrder),
            (order, Factor::Layout, Cause::MemoryLayout),
            (order, Factor::Processors, Cause::Interleaving),
            (order, Factor::Load, Cause::Interleaving),
            (order, Factor::FileSystem, Cause::DirectoryOrder),
            (number, Factor::Processors, Cause::ProcessorCount),
            (number, Factor::Load, Cause::Load),
            (number, Factor::Clock, Cause::Date),
            (number, Factor::Width, Cause::Width),
            (("1 ms\n", "2 ms\n"), Factor::Load, Cause::Time),
        ] {
            assert_eq!(because(text.0, text.1, factor), wanted, "{factor:?}");
        }
    }

    #[test]
    fn the_words_of_an_example_say_what_its_numbers_are() {
        let cause = |a: &str, b: &str, sources: &[&str]| {
            let found = diagnose(a, b, &Context::default(), &Context::default());
            found.in_words_of(sources.iter().copied()).cause
        };
        assert_eq!(cause("2092", "2094", &["print(os.getpid())"]), Cause::Pid);
        let port = "print(s.getsockname()[1])";
        assert_eq!(cause("34873", "33475", &[port]), Cause::Port);
        assert_eq!(cause("80 1", "90 1", &[port]), Cause::Unknown, "too small");
        let before = ["print(pid)", "pid = os.getpid()"];
        assert_eq!(cause("is 7", "is 8", &before), Cause::Pid);
        let both = "os.getpid(); random.random()";
        assert_eq!(cause("0.25", "0.75", &[both]), Cause::Random, "no id");
        let count = "print(sys.getrefcount(None))";
        assert_eq!(cause("5448", "5443", &[count]), Cause::References);
        assert_eq!(cause("1", "2", &["print(measure())"]), Cause::Unknown);
        let order = ("['a', 'b']", "['b', 'a']");
        assert_eq!(cause(order.0, order.1, &[count]), Cause::ItemOrder);
    }

    #[test]
    fn only_the_moment_of_the_run_shows_the_clock() {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        // Saturday, 31 December 2022, 23:59.
        let now = 1_672_531_140;
        let check = |a: &str, b: &str| {
            let lines = [(a.to_owned(), b.to_owned())];
            shows_the_clock(&lines, &(at(now)..at(now + 1)), &(at(now + 2)..at(now + 3)))
        };
        assert!(check("2022-12-31", "2023-01-01"));
        assert!(check("Saturday, day 365", "Sunday, day 001"));
        assert!(check("20221231T23", "20230101T23"));
        assert!(check(
            "datetime.date(2022, 12, 31)",
            "datetime.date(2023, 1, 1)"
        ));
        assert!(!check("1970-01-01", "1970-01-02"));
        assert!(!check("2022-12-31 left", "2023-01-01"));
    }

    fn context() -> Context {
        Context {
            scratch: "/home/me/.cache/verify/s-1".into(),
            pids: vec![4242, 7],
        }
    }

    fn cause(a: &str, b: &str, wanted: Cause, rules: &[Rule]) {
        let other = Context {
            scratch: "/home/me/.cache/verify/s-2".into(),
            pids: vec![5151],
        };
        let got = diagnose(a, b, &context(), &other);
        assert_eq!(
            (got.cause, got.rules.as_slice()),
            (wanted, rules),
            "{a:?} {b:?}"
        );
    }

    #[test]
    fn a_rule_that_makes_them_equal_is_the_cause() {
        cause(
            "<C at 0x7f0000000010>",
            "<C at 0x7f0000000020>",
            Cause::Address,
            &[Rule::Address],
        );
        cause("took 0.12s", "took 0.13s", Cause::Time, &[Rule::Time]);
        cause(
            "2024-01-01 10:00:00",
            "2024-01-01 10:00:01",
            Cause::Date,
            &[Rule::Date],
        );
        cause("I am 4242", "I am 5151", Cause::Pid, &[Rule::Pid]);
        cause(
            "/home/me/.cache/verify/s-1/a",
            "/home/me/.cache/verify/s-2/a",
            Cause::Path,
            &[Rule::Path],
        );
        cause("140123456789012", "140123456789099", Cause::Id, &[Rule::Id]);
        cause(
            "0.30000000000000004",
            "0.3",
            Cause::Rounding,
            &[Rule::Float(12)],
        );
        cause("0.3333333", "0.3333334", Cause::Rounding, &[Rule::Float(6)]);
    }

    #[test]
    fn several_rules_together() {
        cause(
            "<C at 0x7f0000000010> in 1 ms",
            "<C at 0x7f0000000020> in 2 ms",
            Cause::Address,
            &[Rule::Address, Rule::Time],
        );
    }

    #[test]
    fn what_no_rule_settles() {
        cause("{'a', 'b'}\n", "{'b', 'a'}\n", Cause::SetOrder, &[]);
        cause(
            "x {'a': 1, 'b': 2} y\n",
            "x {'b': 2, 'a': 1} y\n",
            Cause::SetOrder,
            &[],
        );
        cause(
            "frozenset({1, 2})",
            "frozenset({2, 1})",
            Cause::SetOrder,
            &[],
        );
        cause("['a', 'b']\n", "['b', 'a']\n", Cause::ItemOrder, &[]);
        cause("a b c\n", "b c a\n", Cause::ItemOrder, &[]);
        cause("a\nb\nc\n", "b\na\nc\n", Cause::LineOrder, &[]);
        cause(
            "-1234567890123456789\n",
            "2234567890123456789\n",
            Cause::Hash,
            &[],
        );
        cause("0.123 7\n", "0.456 12\n", Cause::Random, &[]);
        cause("heads\n", "tails\n", Cause::Unknown, &[]);
        cause("same\n", "same\n", Cause::Unknown, &[]);
    }

    #[test]
    fn advice_names_the_change_and_the_rule() {
        let got = diagnose("x\n1 ms\nz\n", "x\n2 ms\nz\n", &context(), &context());
        assert!(
            got.advice.ends_with("; or write `normalize=time`"),
            "{}",
            got.advice
        );
        assert_eq!(got.lines, [("1 ms".into(), "2 ms".into())]);
    }
}
