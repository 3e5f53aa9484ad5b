//! A file under `expected/`: what is expected of the examples of one page.
//!
//! These files are read by people more often than by this program: in a review, a changed output is a
//! changed line. So every text is written the way it was printed wherever TOML can hold it that way, one
//! content has one form, and reading what was printed gives the same value to the byte.
//!
//! [`update`] is what recording does to them. It is here, and pure, because its laws are those of the
//! format: the expectation for the version that was run holds afterwards, those for other versions are as
//! before, and doing it twice changes nothing.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::str::FromStr;
use std::sync::LazyLock;

use pep440_rs::{Version, VersionSpecifier, VersionSpecifiers};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::matching::{Matching, has_wildcards};
use crate::normalize::{Context, Rule, apply_bytes, closest, float_digits};

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: i64 = 1;

/// One file: the examples of a page, in page order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    pub examples: Vec<Recorded>,
}

/// What is expected of one example.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    pub id: String,
    /// Rules that both sides go through before they are compared.
    pub normalize: Vec<Rule>,
    /// Lines of stdout and stderr may come in any order.
    pub unordered: bool,
    /// What holds on every version that no variant is for.
    pub expected: Expected,
    /// Each selector at most once.
    pub variants: Vec<Variant>,
}

/// What one run of an example should do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// [`crate::outcome::Exception::text`]; never empty.
    pub exception: Option<String>,
    /// Exit status of an example that leaves by `SystemExit` or `os._exit`.
    pub exit: Option<i32>,
    /// Names of the files that it makes. Their bytes are kept beside the recording.
    pub artifacts: Vec<String>,
    /// The output itself has `...` lines or `[..]`: they are text, not wildcards. Without this an example
    /// that prints a line of three dots would pass whatever it printed instead, and nobody would have
    /// asked for that.
    pub literal: bool,
}

/// What differs on some versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub versions: VersionSelector,
    pub expected: Overlay,
}

/// The parts of an [`Expected`] that differ from the base; `None` where it is as the base.
///
/// An overlay with nothing in it is meaningful: it says that its version is as the base although a broader
/// selector matches as well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::option_option)] // The outer says whether it differs, the inner is the value: an exit may differ by being none.
pub struct Overlay {
    pub stdout: Option<Vec<u8>>,
    pub stderr: Option<Vec<u8>>,
    pub exception: Option<Option<String>>,
    pub exit: Option<Option<i32>>,
    pub artifacts: Option<Vec<String>>,
    pub literal: Option<bool>,
}

/// The versions of Python that a variant is for: `3.13`, which stands for `==3.13.*`, or a PEP 440
/// specifier such as `>=3.13` or `>=3.11, <3.13`.
#[derive(Debug, Clone)]
pub struct VersionSelector {
    text: String,
    specifiers: VersionSpecifiers,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

/// One run of an example, for [`update`].
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    pub id: &'a str,
    pub normalize: &'a [Rule],
    pub unordered: bool,
    /// What it did, after the rules: see [`crate::compare::observed`].
    pub expected: &'a Expected,
    pub version: &'a Version,
    /// Whether this version is the one that the base is recorded with.
    pub is_base: bool,
}

impl Recorded {
    /// What is expected on `version`: the base, with the overlay of the most specific variant that matches.
    ///
    /// Most specific is the selector that matches the fewest versions of Python: `==3.13.2` before `3.13`,
    /// `3.13` before `>=3.13`, `>=3.13` before `>=3.12`. If two match equally many, a bare version goes
    /// before a specifier, and then the one further down in the file. Only one overlay is applied, never
    /// one on top of another, so that a variant can be read without the others.
    pub fn expected_for(&self, version: &Version) -> Expected {
        match self.winner(version) {
            Some(index) => self.variants[index].expected.over(&self.expected),
            None => self.expected.clone(),
        }
    }

    fn winner(&self, version: &Version) -> Option<usize> {
        let matching: Vec<usize> = (0..self.variants.len())
            .filter(|index| self.variants[*index].versions.matches(version))
            .collect();
        match matching.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => several
                .iter()
                .copied()
                .min_by_key(|index| self.rank(*index)),
        }
    }

    /// Smaller is more specific.
    fn rank(&self, index: usize) -> (usize, bool, std::cmp::Reverse<usize>) {
        let versions = &self.variants[index].versions;
        (
            versions.width(),
            !versions.is_bare(),
            std::cmp::Reverse(index),
        )
    }

    /// Drops the variants that say nothing, except where they keep a broader one from being applied.
    fn drop_idle_variants(&mut self) {
        let mut index = self.variants.len();
        while index > 0 {
            index -= 1;
            let shields = |other: usize| {
                other != index
                    && !self.variants[other].expected.is_empty()
                    && self.rank(other) > self.rank(index)
                    && self.variants[other]
                        .versions
                        .overlaps(&self.variants[index].versions)
            };
            if self.variants[index].expected.is_empty() && !(0..self.variants.len()).any(shields) {
                self.variants.remove(index);
            }
        }
    }

    /// Keeps the exact versions in ascending order; ranges stay where their author put them.
    fn insert(&mut self, variant: Variant) {
        let number = |selector: &VersionSelector| {
            selector
                .is_bare()
                .then(|| Version::from_str(&selector.text).ok())
                .flatten()
        };
        let new = number(&variant.versions);
        let later = self
            .variants
            .iter()
            .position(|other| number(&other.versions).is_some_and(|other| Some(other) > new));
        self.variants
            .insert(later.unwrap_or(self.variants.len()), variant);
    }
}

impl Overlay {
    /// What has to be said of `new` where `base` is known.
    fn between(base: &Expected, new: &Expected) -> Overlay {
        Overlay {
            stdout: (base.stdout != new.stdout).then(|| new.stdout.clone()),
            stderr: (base.stderr != new.stderr).then(|| new.stderr.clone()),
            exception: (base.exception != new.exception).then(|| new.exception.clone()),
            exit: (base.exit != new.exit).then_some(new.exit),
            artifacts: (base.artifacts != new.artifacts).then(|| new.artifacts.clone()),
            literal: (base.literal != new.literal).then_some(new.literal),
        }
    }

    /// `base` with this overlay.
    pub fn over(&self, base: &Expected) -> Expected {
        Expected {
            stdout: self.stdout.as_ref().unwrap_or(&base.stdout).clone(),
            stderr: self.stderr.as_ref().unwrap_or(&base.stderr).clone(),
            exception: self.exception.as_ref().unwrap_or(&base.exception).clone(),
            exit: self.exit.unwrap_or(base.exit),
            artifacts: self.artifacts.as_ref().unwrap_or(&base.artifacts).clone(),
            literal: self.literal.unwrap_or(base.literal),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Overlay::default()
    }

    /// Leaves out what is as in `base` anyway.
    fn without_what_equals(&self, base: &Expected) -> Overlay {
        let differs = Overlay::between(base, &self.over(base));
        Overlay {
            stdout: differs.stdout.and(self.stdout.clone()),
            stderr: differs.stderr.and(self.stderr.clone()),
            exception: differs.exception.and(self.exception.clone()),
            exit: differs.exit.and(self.exit),
            artifacts: differs.artifacts.and(self.artifacts.clone()),
            literal: differs.literal.and(self.literal),
        }
    }

    fn has_wildcards(&self) -> bool {
        let exception = self.exception.iter().flatten().map(String::as_bytes);
        let streams = self.stdout.iter().chain(&self.stderr).map(Vec::as_slice);
        streams.chain(exception).any(has_wildcards)
    }
}

impl VersionSelector {
    /// `3.13` for any version of 3.13.
    pub fn minor(version: &Version) -> VersionSelector {
        let mut release = version.release().iter().copied();
        let major = release.next().unwrap_or_default();
        let minor = release.next().unwrap_or_default();
        VersionSelector::bare(Version::new([major, minor]))
    }

    fn bare(version: Version) -> VersionSelector {
        let text = version.to_string();
        let specifier = VersionSpecifier::equals_star_version(version);
        VersionSelector {
            text,
            specifiers: VersionSpecifiers::from(specifier),
        }
    }

    /// Whether the selector is for `version`. Only its release counts: 3.15.0rc1 is a 3.15 to whoever
    /// writes `>=3.15`, although PEP 440 sorts it before.
    pub fn matches(&self, version: &Version) -> bool {
        self.specifiers.contains(&version.only_release())
    }

    fn is_bare(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_digit())
    }

    /// How many versions it matches, of those that Python could plausibly have.
    fn width(&self) -> usize {
        let contains = |version: &&Version| self.specifiers.contains(version);
        PLAUSIBLE_VERSIONS.iter().filter(contains).count()
    }

    fn is_narrower_than(&self, other: &VersionSelector) -> bool {
        self.width() < other.width()
    }

    fn overlaps(&self, other: &VersionSelector) -> bool {
        let both =
            |version| self.specifiers.contains(version) && other.specifiers.contains(version);
        PLAUSIBLE_VERSIONS.iter().any(both)
    }
}

/// Selectors are compared by counting over these: simpler than interval arithmetic over all of PEP 440's
/// operators, and exact for any version that will exist while this program does.
static PLAUSIBLE_VERSIONS: LazyLock<Vec<Version>> = LazyLock::new(|| {
    let patches = |minor| (0..40).map(move |patch| Version::new([3, minor, patch]));
    (0..40).flat_map(patches).collect()
});

impl FromStr for VersionSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let problem = || {
            format!(
                "`{text}` selects no versions; write one such as `3.13`, or a PEP 440 specifier such as `>=3.13`"
            )
        };
        let bare = text
            .strip_prefix("==")
            .and_then(|text| text.trim().strip_suffix(".*"));
        if let Ok(version) = Version::from_str(bare.unwrap_or(text)) {
            let plain = version.only_release().to_string() == version.to_string();
            return if plain {
                Ok(VersionSelector::bare(version))
            } else {
                Err(problem())
            };
        }
        let specifiers = VersionSpecifiers::from_str(text).map_err(|_| problem())?;
        if specifiers.is_empty() {
            return Err(problem());
        }
        Ok(VersionSelector {
            text: specifiers.to_string(),
            specifiers,
        })
    }
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By text: PEP 440 takes 3.13 and 3.13.0 for the same version, but `==3.13.*` and `==3.13.0.*` differ.
impl PartialEq for VersionSelector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for VersionSelector {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for Problem {}

/// What the file should say of an example after it has run once more.
///
/// With the base version the base becomes what was observed; variants stay unless that makes them say
/// nothing. With another version, a variant for its `major.minor` gets what differs from the base, and goes
/// when nothing does. A variant that already gives the right expectation, a range too, is left alone.
///
/// A stream whose old text matches what was observed keeps that text: it may have wildcards that somebody
/// wrote by hand, floats that agree, or lines in another order.
///
/// Equal variants of neighbouring versions are not merged into a range: the file would then depend on the
/// order in which versions were recorded, and a range claims versions that nobody ran.
pub fn update(recorded: Option<&Recorded>, run: &Observed) -> Recorded {
    let mut result = Recorded {
        id: run.id.to_owned(),
        normalize: run.normalize.to_vec(),
        unordered: run.unordered,
        ..Recorded::default()
    };
    let Some(recorded) = recorded else {
        // Whatever the version: an example that the base version cannot run has its base from another.
        result.expected = kept(&[], run);
        return result;
    };
    let before = recorded.expected_for(run.version);
    result.expected = recorded.expected.clone();
    result.variants.clone_from(&recorded.variants);
    let wanted = if run.is_base {
        let wanted = kept(&[&recorded.expected, &before], run);
        for variant in &mut result.variants {
            let overlay = &mut variant.expected;
            // A flag that the old base gave to the text of this variant must not change with the base.
            let literal = overlay.literal.unwrap_or(recorded.expected.literal);
            *overlay = overlay.without_what_equals(&wanted);
            overlay.literal =
                (overlay.has_wildcards() && literal != wanted.literal).then_some(literal);
        }
        result.expected = wanted.clone();
        wanted
    } else {
        kept(&[&before, &recorded.expected], run)
    };
    set_variant(&mut result, run.version, &wanted);
    result.drop_idle_variants();
    result
}

/// Makes `wanted` the expectation for `version` with a variant for its `major.minor`, or none if none is
/// needed.
fn set_variant(recorded: &mut Recorded, version: &Version, wanted: &Expected) {
    let minor = VersionSelector::minor(version);
    let place = recorded
        .variants
        .iter()
        .position(|variant| variant.versions == minor);
    if let Some(place) = place {
        recorded.variants.remove(place);
    }
    if recorded.expected_for(version) == *wanted {
        return;
    }
    let overlay = Overlay::between(&recorded.expected, wanted);
    // A variant for this very patch version goes before the one for the minor version: then it is the one
    // that has to change.
    if let Some(winner) = recorded.winner(version)
        && recorded.variants[winner].versions.is_narrower_than(&minor)
    {
        recorded.variants[winner].expected = overlay;
        return;
    }
    let variant = Variant {
        versions: minor,
        expected: overlay,
    };
    match place {
        Some(place) => recorded.variants.insert(place, variant),
        None => recorded.insert(variant),
    }
}

/// What was observed, with the text of the first of `candidates` that matches in each stream.
fn kept(candidates: &[&Expected], run: &Observed) -> Expected {
    let new = run.expected;
    let mut relies_on_wildcards = false;
    let mut keep = |text: &[u8], unordered: bool, stream: &dyn Fn(&Expected) -> Option<Vec<u8>>| {
        for candidate in candidates {
            let Some(old) = stream(candidate) else {
                continue;
            };
            let old = apply_bytes(run.normalize, &old, &Context::default());
            let matching = Matching {
                wildcards: !candidate.literal,
                digits: float_digits(run.normalize),
                unordered,
            };
            if matching.matches(&old, text) {
                relies_on_wildcards |= old != text && !candidate.literal && has_wildcards(&old);
                return old;
            }
        }
        text.to_vec()
    };
    let stdout = keep(&new.stdout, run.unordered, &|old| Some(old.stdout.clone()));
    let stderr = keep(&new.stderr, run.unordered, &|old| Some(old.stderr.clone()));
    let exception = new.exception.as_ref().map(|text| {
        let old = |old: &Expected| old.exception.clone().map(String::into_bytes);
        let bytes = keep(text.as_bytes(), false, &old);
        String::from_utf8(bytes).unwrap_or_else(|_| text.clone())
    });
    let literal = !relies_on_wildcards
        && (has_wildcards(&stdout)
            || has_wildcards(&stderr)
            || exception
                .as_ref()
                .is_some_and(|text| has_wildcards(text.as_bytes())));
    Expected {
        stdout,
        stderr,
        exception,
        exit: new.exit,
        artifacts: new.artifacts.clone(),
        literal,
    }
}

/// Writes a file. The same recording always gives the same bytes.
pub fn print(recording: &Recording) -> String {
    let mut out = format!("# verify recording, format {FORMAT}\nformat = {FORMAT}\n");
    for example in &recording.examples {
        out.push_str("\n[[example]]\n");
        push_text(&mut out, "id", &example.id);
        if !example.normalize.is_empty() {
            let names: Vec<String> = example.normalize.iter().map(Rule::to_string).collect();
            push_list(&mut out, "normalize", &names);
        }
        if example.unordered {
            out.push_str("unordered = true\n");
        }
        push_overlay(
            &mut out,
            &Overlay::between(&Expected::default(), &example.expected),
        );
        for variant in &example.variants {
            out.push_str("\n[example.python.");
            out.push_str(&string(&variant.versions.text));
            out.push_str("]\n");
            push_overlay(&mut out, &variant.expected);
        }
    }
    out
}

fn push_overlay(out: &mut String, overlay: &Overlay) {
    if let Some(literal) = overlay.literal {
        let _ = writeln!(out, "literal = {literal}");
    }
    for (key, bytes) in [("stdout", &overlay.stdout), ("stderr", &overlay.stderr)] {
        match bytes
            .as_ref()
            .map(|bytes| (bytes, std::str::from_utf8(bytes)))
        {
            None => {}
            Some((_, Ok(text))) => push_text(out, key, text),
            Some((bytes, Err(_))) => push_text(out, &format!("{key}-bytes"), &hexadecimal(bytes)),
        }
    }
    if let Some(exception) = &overlay.exception {
        push_text(out, "exception", exception.as_deref().unwrap_or_default());
    }
    match overlay.exit {
        None => {}
        Some(None) => push_text(out, "exit", ""),
        Some(Some(status)) => {
            let _ = writeln!(out, "exit = {status}");
        }
    }
    if let Some(names) = &overlay.artifacts {
        push_list(out, "artifacts", names);
    }
}

fn push_text(out: &mut String, key: &str, text: &str) {
    out.push_str(key);
    out.push_str(" = ");
    out.push_str(&string(text));
    out.push('\n');
}

fn push_list(out: &mut String, key: &str, items: &[String]) {
    let items: Vec<String> = items.iter().map(|item| string(item)).collect();
    let _ = writeln!(out, "{key} = [{}]", items.join(", "));
}

/// A TOML string for `text`, the most readable one that holds it.
///
/// A text with a newline always begins on a line of its own, which TOML leaves out of the value, and the
/// closing quotes stand directly behind its last character: on a line of their own if the text ends with a
/// newline, else not. So a missing final newline is seen.
fn string(text: &str) -> String {
    let plain = !text.contains(needs_escape);
    // A quote beside the delimiter is legal TOML, but hard to read.
    let fits_literal = plain && !text.contains("'''") && !text.ends_with('\'');
    if text.contains('\n') {
        if fits_literal {
            return format!("'''\n{text}'''");
        }
        return format!("\"\"\"\n{}\"\"\"", escaped(text, true));
    }
    if plain && !text.contains(['"', '\\']) {
        format!("\"{text}\"")
    } else if plain && !text.contains('\'') {
        format!("'{text}'")
    } else if fits_literal && !text.starts_with('\'') {
        format!("'''{text}'''")
    } else {
        format!("\"{}\"", escaped(text, false))
    }
}

/// Characters that a literal string cannot hold, and those that would hide in a diff: zero-width
/// characters and the ones that turn the direction of writing.
fn needs_escape(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn escaped(text: &str, multi_line: bool) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut characters = text.chars().peekable();
    let mut quotes = 0;
    while let Some(c) = characters.next() {
        quotes = if c == '"' { quotes + 1 } else { 0 };
        match c {
            '\\' => out.push_str("\\\\"),
            '"' if !multi_line || quotes % 3 == 0 || characters.peek().is_none() => {
                out.push_str("\\\"");
            }
            '\r' => out.push_str("\\r"),
            c if needs_escape(c) => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Two digits a byte; 32 bytes a line if it takes more than one.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2 + bytes.len() / 32 + 1);
    for line in bytes.chunks(32) {
        for byte in line {
            let _ = write!(out, "{byte:02x}");
        }
        if bytes.len() > 32 {
            out.push('\n');
        }
    }
    out
}

/// Reads a file. The problem is the first one by line, as far as the file can be understood.
pub fn parse(text: &str) -> Result<Recording, Problem> {
    // No printed file has a carriage return: it would be escaped. So these are a checkout's or an editor's.
    let text = &text.replace("\r\n", "\n");
    let reader = Reader { text };
    let document = DeTable::parse(text).map_err(|error| reader.not_toml(&error))?;
    let table = document.get_ref();
    let format = reader.format(table)?;
    reader.check_keys(table, &["format", "example"])?;
    if format.is_none() {
        return Err(reader.problem(
            0,
            "no recording: `format = 1` is missing; delete the file and run `verify record`",
        ));
    }
    let mut recording = Recording::default();
    let mut places: HashMap<String, usize> = HashMap::new();
    let Some(examples) = table.get("example") else {
        return Ok(recording);
    };
    for example in reader.list(examples, "example", "`[[example]]` tables")? {
        let table = reader.table(example, "example")?;
        let example = reader.example(table, &example.span())?;
        let at = table.get("id").map_or(0, |id| id.span().start);
        if let Some(first) = places.insert(example.id.clone(), at) {
            let message = format!(
                "a second example `{}` (the first is on line {}); remove one of them and run `verify record`",
                example.id,
                reader.line(first)
            );
            return Err(reader.problem(at, message));
        }
        recording.examples.push(example);
    }
    Ok(recording)
}

const OVERLAY_KEYS: [&str; 8] = [
    "literal",
    "stdout",
    "stdout-bytes",
    "stderr",
    "stderr-bytes",
    "exception",
    "exit",
    "artifacts",
];

/// Finds the lines of problems.
struct Reader<'t> {
    text: &'t str,
}

type Value<'t> = Spanned<DeValue<'t>>;

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        self.text
            .get(..at)
            .unwrap_or_default()
            .matches('\n')
            .count()
            + 1
    }

    fn problem(&self, at: usize, message: impl Into<String>) -> Problem {
        Problem {
            line: self.line(at),
            message: message.into(),
        }
    }

    fn not_toml(&self, error: &toml::de::Error) -> Problem {
        if let Some(line) = conflict_line(self.text) {
            let message = "merge conflict markers in a recording; resolve them, or delete the file and run `verify record`";
            return Problem {
                line,
                message: message.to_owned(),
            };
        }
        let message = error.message().trim().replace('\n', ", ");
        let at = error.span().map_or(0, |span| span.start);
        self.problem(
            at,
            format!("not TOML: {message}; correct it, or delete the file and run `verify record`"),
        )
    }

    /// Comes before all other checks: a newer file may have any keys.
    fn format(&self, table: &DeTable) -> Result<Option<i64>, Problem> {
        let Some(value) = table.get("format") else {
            return Ok(None);
        };
        let format = self.integer(value, "format")?;
        if format > FORMAT {
            return Err(self.problem(
                value.span().start,
                format!(
                    "was written by a newer `verify` (format {format}, this one reads {FORMAT}); update `verify`"
                ),
            ));
        }
        if format < FORMAT {
            return Err(self.problem(
                value.span().start,
                format!("there is no format {format}; delete the file and run `verify record`"),
            ));
        }
        Ok(Some(format))
    }

    fn example(&self, table: &DeTable, span: &Range<usize>) -> Result<Recorded, Problem> {
        let own = ["id", "normalize", "unordered", "python"];
        self.check_keys(table, &[&own[..], &OVERLAY_KEYS[..]].concat())?;
        let id = match table.get("id") {
            Some(id) => self.text(id, "id")?.to_owned(),
            None => return Err(self.problem(span.start, "an example has no `id`; give it one")),
        };
        let mut normalize = Vec::new();
        if let Some(rules) = table.get("normalize") {
            for rule in self.list(rules, "normalize", "a list of rules")? {
                let parsed = Rule::parse(self.text(rule, "normalize")?);
                normalize.push(parsed.map_err(|message| self.problem(rule.span().start, message))?);
            }
        }
        let unordered = match table.get("unordered") {
            Some(value) => self.boolean(value, "unordered")?,
            None => false,
        };
        let expected = self.overlay(table)?.over(&Expected::default());
        let variants = match table.get("python") {
            Some(python) => self.variants(self.table(python, "python")?)?,
            None => Vec::new(),
        };
        Ok(Recorded {
            id,
            normalize,
            unordered,
            expected,
            variants,
        })
    }

    fn variants(&self, table: &DeTable) -> Result<Vec<Variant>, Problem> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut variants: Vec<Variant> = Vec::new();
        for (key, value) in entries {
            let at = key.span().start;
            let versions: VersionSelector = key
                .get_ref()
                .parse()
                .map_err(|message: String| self.problem(at, message))?;
            let table = self.table(value, key.get_ref())?;
            let nested = table.iter().find(|(_, value)| value.get_ref().is_table());
            if let Some((minor, _)) = nested {
                let version = format!("{}.{}", key.get_ref(), minor.get_ref());
                let message = format!(
                    "a version with a point needs quotes; write `[example.python.\"{version}\"]`"
                );
                return Err(self.problem(at, message));
            }
            self.check_keys(table, &OVERLAY_KEYS)?;
            if variants.iter().any(|other| other.versions == versions) {
                let message = format!("a second variant for `{versions}`; remove one of them");
                return Err(self.problem(at, message));
            }
            variants.push(Variant {
                versions,
                expected: self.overlay(table)?,
            });
        }
        Ok(variants)
    }

    fn overlay(&self, table: &DeTable) -> Result<Overlay, Problem> {
        let mut overlay = Overlay {
            stdout: self.stream(table, "stdout", "stdout-bytes")?,
            stderr: self.stream(table, "stderr", "stderr-bytes")?,
            ..Overlay::default()
        };
        if let Some(value) = table.get("literal") {
            overlay.literal = Some(self.boolean(value, "literal")?);
        }
        if let Some(value) = table.get("exception") {
            let text = self.text(value, "exception")?;
            overlay.exception = Some((!text.is_empty()).then(|| text.to_owned()));
        }
        if let Some(value) = table.get("exit") {
            overlay.exit = Some(self.exit(value)?);
        }
        if let Some(value) = table.get("artifacts") {
            let mut names = Vec::new();
            for name in self.list(value, "artifacts", "a list of file names")? {
                names.push(self.text(name, "artifacts")?.to_owned());
            }
            overlay.artifacts = Some(names);
        }
        Ok(overlay)
    }

    fn stream(
        &self,
        table: &DeTable,
        as_text: &str,
        as_bytes: &str,
    ) -> Result<Option<Vec<u8>>, Problem> {
        match (table.get(as_text), table.get(as_bytes)) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(self.text(text, as_text)?.as_bytes().to_vec())),
            (None, Some(value)) => {
                let digits = self.text(value, as_bytes)?;
                bytes(digits).map(Some).ok_or_else(|| {
                    let message = format!("`{as_bytes}` must be hexadecimal, two digits a byte");
                    self.problem(value.span().start, message)
                })
            }
            (Some(_), Some(value)) => Err(self.problem(
                value.span().start,
                format!("both `{as_text}` and `{as_bytes}`; remove one of them"),
            )),
        }
    }

    fn exit(&self, value: &Value) -> Result<Option<i32>, Problem> {
        if value.get_ref().as_str() == Some("") {
            return Ok(None);
        }
        let status = self.integer(value, "exit")?;
        i32::try_from(status).map(Some).map_err(|_| {
            self.problem(
                value.span().start,
                format!("`exit` is no exit status: {status}"),
            )
        })
    }

    fn check_keys(&self, table: &DeTable, known: &[&str]) -> Result<(), Problem> {
        let unknown = table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        let Some(key) = unknown else {
            return Ok(());
        };
        let name = key.get_ref();
        let message = match closest(name, known) {
            Some(close) => format!("unknown key `{name}`; did you mean `{close}`?"),
            None => format!(
                "unknown key `{name}`; the keys here are `{}`",
                known.join("`, `")
            ),
        };
        Err(self.problem(key.span().start, message))
    }

    fn wrong_type(&self, value: &Value, key: &str, wanted: &str) -> Problem {
        let found = value.get_ref().type_str();
        self.problem(
            value.span().start,
            format!("`{key}` must be {wanted}, not {found}"),
        )
    }

    fn table<'v, 't>(&self, value: &'v Value<'t>, key: &str) -> Result<&'v DeTable<'t>, Problem> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.wrong_type(value, key, "a table"))
    }

    fn list<'v, 't>(
        &self,
        value: &'v Value<'t>,
        key: &str,
        wanted: &str,
    ) -> Result<impl Iterator<Item = &'v Value<'t>>, Problem> {
        let list = value
            .get_ref()
            .as_array()
            .ok_or_else(|| self.wrong_type(value, key, wanted))?;
        Ok(list.iter())
    }

    fn text<'v>(&self, value: &'v Value, key: &str) -> Result<&'v str, Problem> {
        value
            .get_ref()
            .as_str()
            .ok_or_else(|| self.wrong_type(value, key, "a string"))
    }

    fn boolean(&self, value: &Value, key: &str) -> Result<bool, Problem> {
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.wrong_type(value, key, "`true` or `false`"))
    }

    fn integer(&self, value: &Value, key: &str) -> Result<i64, Problem> {
        value
            .get_ref()
            .as_integer()
            .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
            .ok_or_else(|| self.wrong_type(value, key, "a whole number"))
    }
}

/// The line of the first conflict marker. All three kinds must be there, in order: the output of an example
/// may well have a line of seven equals signs.
fn conflict_line(text: &str) -> Option<usize> {
    let mut lines = text.lines().enumerate();
    let (first, _) = lines.find(|(_, line)| line.starts_with("<<<<<<< "))?;
    lines.find(|(_, line)| *line == "=======")?;
    lines.find(|(_, line)| line.starts_with(">>>>>>> "))?;
    Some(first + 1)
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = digits.chars().filter(|c| !c.is_whitespace()).collect();
    let value = |c: &char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(value(high)? << 4 | value(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect(text)
    }

    fn selector(text: &str) -> VersionSelector {
        text.parse().expect(text)
    }

    fn stdout(text: &str) -> Expected {
        Expected {
            stdout: text.into(),
            ..Expected::default()
        }
    }

    fn overlay(text: &str) -> Overlay {
        Overlay {
            stdout: Some(text.into()),
            ..Overlay::default()
        }
    }

    fn recorded(base: &str, variants: &[(&str, &str)]) -> Recorded {
        let variant = |(versions, text): &(&str, &str)| Variant {
            versions: selector(versions),
            expected: if *text == base {
                Overlay::default()
            } else {
                overlay(text)
            },
        };
        Recorded {
            id: "a/1".into(),
            expected: stdout(base),
            variants: variants.iter().map(variant).collect(),
            ..Recorded::default()
        }
    }

    fn check(text: &str, toml: &str) {
        assert_eq!(string(text), toml, "{text:?}");
        let document = format!("x = {toml}");
        let table: toml::Table = document.parse().expect(&document);
        assert_eq!(table["x"].as_str(), Some(text));
    }

    #[test]
    fn texts_are_written_as_they_read() {
        check("", "\"\"");
        check("a\n", "'''\na\n'''");
        check("a\nb", "'''\na\nb'''");
        check("\n", "'''\n\n'''");
        check("\n\na\n", "'''\n\n\na\n'''");
        check("a \n\tb\\n\n", "'''\na \n\tb\\n\n'''");
        check("\"\"\"it's\"\"\"\n", "'''\n\"\"\"it's\"\"\"\n'''");
    }

    #[test]
    fn texts_without_a_newline_stand_on_one_line() {
        check("a", "\"a\"");
        check("KeyError: 'x'", "\"KeyError: 'x'\"");
        check("say \"x\" \\ y", "'say \"x\" \\ y'");
        check("it's \"x\" y", "'''it's \"x\" y'''");
        check("'a' is not \"b\"", "\"'a' is not \\\"b\\\"\"");
    }

    #[test]
    fn what_a_literal_cannot_hold_is_escaped() {
        check("a\r\n", "\"\"\"\na\\r\n\"\"\"");
        check(
            "\x1b[31mred\x1b[0m\n",
            "\"\"\"\n\\u001B[31mred\\u001B[0m\n\"\"\"",
        );
        check("'''\n", "\"\"\"\n'''\n\"\"\"");
        check("x\n'y'", "\"\"\"\nx\n'y'\"\"\"");
        check("'''\"\"\"\"\n", "\"\"\"\n'''\"\"\\\"\"\n\"\"\"");
        check("'''\n\"", "\"\"\"\n'''\n\\\"\"\"\"");
        check("a\0", "\"a\\u0000\"");
        check("a\u{202e}b\u{feff}", "\"a\\u202Eb\\uFEFF\"");
        check("\u{7f}\u{85}", "\"\\u007F\\u0085\"");
        check("\\\r\\\n", "\"\"\"\n\\\\\\r\\\\\n\"\"\"");
    }

    #[test]
    fn a_file_reads_like_the_output() {
        let mut example = recorded("one\ntwo\n", &[("3.13", "one\n")]);
        example.normalize = vec![Rule::Address, Rule::Float(3)];
        example.unordered = true;
        example.expected.exception = Some("KeyError: 'x'".into());
        example.expected.artifacts = vec!["plot.png".into()];
        example.variants.push(Variant {
            versions: selector(">=3.14"),
            expected: Overlay {
                exception: Some(None),
                exit: Some(Some(3)),
                artifacts: Some(vec![]),
                ..Overlay::default()
            },
        });
        let mut second = Recorded {
            id: "a/2".into(),
            ..Recorded::default()
        };
        second.expected.stderr = b"caf\xe9".to_vec();
        second.expected.exit = Some(0);
        second.variants.push(Variant {
            versions: selector("<3.11"),
            expected: Overlay {
                exit: Some(None),
                ..Overlay::default()
            },
        });
        let recording = Recording {
            examples: vec![example, second],
        };
        let text = r#"# verify recording, format 1
format = 1

[[example]]
id = "a/1"
normalize = ["address", "float=3"]
unordered = true
stdout = '''
one
two
'''
exception = "KeyError: 'x'"
artifacts = ["plot.png"]

[example.python."3.13"]
stdout = '''
one
'''

[example.python.">=3.14"]
exception = ""
exit = 3
artifacts = []

[[example]]
id = "a/2"
stderr-bytes = "636166e9"
exit = 0

[example.python."<3.11"]
exit = ""
"#;
        assert_eq!(print(&recording), text);
        assert_eq!(parse(text), Ok(recording.clone()));
        assert_eq!(parse(&text.replace('\n', "\r\n")), Ok(recording));
    }

    #[test]
    fn an_empty_recording() {
        let text = "# verify recording, format 1\nformat = 1\n";
        assert_eq!(print(&Recording::default()), text);
        assert_eq!(parse(text), Ok(Recording::default()));
    }

    #[test]
    fn long_bytes_take_several_lines() {
        let bytes = vec![0xff; 33];
        let digits = hexadecimal(&bytes);
        assert_eq!(digits.lines().count(), 2);
        assert_eq!(super::bytes(&digits), Some(bytes));
    }

    fn problem(body: &str, line: usize, message: &str) {
        let text = format!("# verify recording, format 1\nformat = 1\n{body}");
        let got = parse(&text).expect_err(body);
        assert_eq!((got.line, got.message.as_str()), (line, message), "{body}");
    }

    #[test]
    fn files_that_are_no_recording() {
        let message = |text: &str| parse(text).expect_err(text).to_string();
        assert_eq!(
            message(""),
            "line 1: no recording: `format = 1` is missing; delete the file and run `verify record`"
        );
        assert_eq!(
            message("# x\nformat = 2\nnew = 1\n"),
            "line 2: was written by a newer `verify` (format 2, this one reads 1); update `verify`"
        );
        assert_eq!(
            message("formt = 1\n"),
            "line 1: unknown key `formt`; did you mean `format`?"
        );
        assert_eq!(
            message("format = 0"),
            "line 1: there is no format 0; delete the file and run `verify record`"
        );
        assert_eq!(
            message("format = '1'"),
            "line 1: `format` must be a whole number, not string"
        );
        let text = message("format = 1\n\n[[example]]\nid = \n");
        assert!(text.starts_with("line 4: not TOML: "), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn conflict_markers_are_named() {
        let conflict =
            "[[example]]\nid = 'a'\n<<<<<<< HEAD\nexit = 1\n=======\nexit = 2\n>>>>>>> x\n";
        problem(
            conflict,
            5,
            "merge conflict markers in a recording; resolve them, or delete the file and run `verify record`",
        );
    }

    #[test]
    fn conflict_markers_that_an_example_prints_are_text() {
        let output = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> x\n";
        let recording = Recording {
            examples: vec![recorded(output, &[])],
        };
        assert_eq!(parse(&print(&recording)), Ok(recording));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        problem(
            "[[example]]\nid = 'a'\nstdot = ''\n",
            5,
            "unknown key `stdot`; did you mean `stdout`?",
        );
        problem(
            "[[example]]\nstdout = ''\n",
            3,
            "an example has no `id`; give it one",
        );
        problem(
            "[[example]]\nid = 'a'\n[[example]]\nid = 'a'\n",
            6,
            "a second example `a` (the first is on line 4); remove one of them and run `verify record`",
        );
        problem(
            "[[example]]\nid = 1\n",
            4,
            "`id` must be a string, not integer",
        );
        problem(
            "[example]\nid = ''\n",
            3,
            "`example` must be `[[example]]` tables, not table",
        );
        problem(
            "[[example]]\nid = 'a'\nnormalize = [\n  'time',\n  'adress',\n]\n",
            7,
            "unknown rule `adress`; did you mean `address`?",
        );
        problem(
            "[[example]]\nid = 'a'\nexit = 'x'\n",
            5,
            "`exit` must be a whole number, not string",
        );
        problem(
            "[[example]]\nid = 'a'\nexit = 9999999999\n",
            5,
            "`exit` is no exit status: 9999999999",
        );
        problem(
            "[[example]]\nid = 'a'\nunordered = 1\n",
            5,
            "`unordered` must be `true` or `false`, not integer",
        );
        problem(
            "[[example]]\nid = 'a'\nstdout-bytes = 'f'\n",
            5,
            "`stdout-bytes` must be hexadecimal, two digits a byte",
        );
        problem(
            "[[example]]\nid = 'a'\nstdout = ''\nstdout-bytes = ''\n",
            6,
            "both `stdout` and `stdout-bytes`; remove one of them",
        );
    }

    #[test]
    fn bad_selectors_are_named() {
        let body = |key: &str| format!("[[example]]\nid = 'a'\n[example.python.{key}]\nexit = 1\n");
        problem(
            &body("'x'"),
            5,
            "`x` selects no versions; write one such as `3.13`, or a PEP 440 specifier such as `>=3.13`",
        );
        problem(
            &body("3.13"),
            5,
            "a version with a point needs quotes; write `[example.python.\"3.13\"]`",
        );
        problem(
            &(body("'3.13'") + "[example.python.'==3.13.*']\n"),
            7,
            "a second variant for `3.13`; remove one of them",
        );
        problem(
            "[[example]]\nid = 'a'\n[example.python.'3.13']\nid = 'b'\n",
            6,
            "unknown key `id`; the keys here are `literal`, `stdout`, `stdout-bytes`, `stderr`, `stderr-bytes`, `exception`, `exit`, `artifacts`",
        );
    }

    #[test]
    fn selectors_that_are_none() {
        for text in ["", "3.x", "3.13rc1", ">3.", "python3", "~=3"] {
            assert!(text.parse::<VersionSelector>().is_err(), "{text}");
        }
    }

    fn expect(variants: &[(&str, &str)], python: &str, wanted: &str) {
        let got = recorded("base", variants).expected_for(&version(python));
        assert_eq!(
            String::from_utf8_lossy(&got.stdout),
            wanted,
            "{variants:?} on {python}"
        );
    }

    #[test]
    fn the_most_specific_variant_holds() {
        expect(&[], "3.13.1", "base");
        expect(&[("3.13", "a")], "3.13.1", "a");
        expect(&[("3.1", "a")], "3.13.1", "base");
        expect(&[("3.13", "a"), (">=3.13", "b")], "3.13.1", "a");
        expect(&[(">=3.13", "b"), ("3.13", "a")], "3.14.0", "b");
        expect(&[(">=3.12", "a"), (">=3.13", "b")], "3.14.0", "b");
        expect(&[(">=3.13", "b"), (">=3.12", "a")], "3.14.0", "b");
        expect(&[(">=3.13", "b"), ("<3.12", "a")], "3.12.0", "base");
        expect(&[("3.13", "a"), ("==3.13.2", "b")], "3.13.2", "b");
        expect(&[("3.13.2", "b"), ("3.13", "a")], "3.13.2", "b");
        expect(&[("3.13", "a"), (">=3.13, <3.14", "b")], "3.13.2", "a");
        expect(&[(">=3.13, <3.14", "b"), ("~=3.13.0", "a")], "3.13.2", "a");
        expect(&[(">=3.12", "a"), ("3.13", "base")], "3.13.2", "base");
    }

    #[test]
    fn a_release_candidate_is_of_its_version() {
        expect(&[(">=3.15", "a")], "3.15.0rc1", "a");
        expect(&[("3.15", "a")], "3.15.0a2", "a");
        expect(&[("<3.15", "a")], "3.15.0b1", "base");
        expect(&[(">=3.13", "a")], "3.13.0+local", "a");
    }

    fn run_on(old: &Recorded, python: &str, is_base: bool, output: &Expected) -> Recorded {
        let observed = Observed {
            id: &old.id,
            normalize: &old.normalize,
            unordered: old.unordered,
            expected: output,
            version: &version(python),
            is_base,
        };
        update(Some(old), &observed)
    }

    fn base(old: &Recorded, output: &str, wanted: &Recorded) {
        assert_eq!(&run_on(old, "3.11.2", true, &stdout(output)), wanted);
    }

    fn other(old: &Recorded, output: &str, wanted: &Recorded) {
        assert_eq!(&run_on(old, "3.13.1", false, &stdout(output)), wanted);
    }

    #[test]
    fn the_base_version_records_the_base() {
        base(&recorded("a", &[]), "b", &recorded("b", &[]));
        base(
            &recorded("a", &[("3.13", "c")]),
            "b",
            &recorded("b", &[("3.13", "c")]),
        );
        base(&recorded("a", &[("3.13", "b")]), "b", &recorded("b", &[]));
        base(&recorded("a", &[("3.11", "c")]), "b", &recorded("b", &[]));
        base(&recorded("a", &[("<3.12", "b")]), "b", &recorded("b", &[]));
        base(
            &recorded("a", &[("<3.12", "c")]),
            "b",
            &recorded("b", &[("<3.12", "c"), ("3.11", "b")]),
        );
    }

    #[test]
    fn a_variant_that_says_nothing_goes_unless_it_shields() {
        base(
            &recorded("a", &[(">=3.12", "b"), ("3.13", "c")]),
            "b",
            &recorded("b", &[("3.13", "c")]),
        );
        base(
            &recorded("a", &[(">=3.12", "c"), ("3.13", "b")]),
            "b",
            &recorded("b", &[(">=3.12", "c"), ("3.13", "b")]),
        );
    }

    #[test]
    fn another_version_records_what_differs() {
        other(&recorded("a", &[]), "a", &recorded("a", &[]));
        other(&recorded("a", &[]), "b", &recorded("a", &[("3.13", "b")]));
        other(&recorded("a", &[("3.13", "b")]), "a", &recorded("a", &[]));
        other(
            &recorded("a", &[("3.13", "b")]),
            "c",
            &recorded("a", &[("3.13", "c")]),
        );
        other(
            &recorded("a", &[("3.12", "x"), ("3.14", "y")]),
            "b",
            &recorded("a", &[("3.12", "x"), ("3.13", "b"), ("3.14", "y")]),
        );
    }

    #[test]
    fn a_range_that_is_right_is_left_alone() {
        other(
            &recorded("a", &[(">=3.12", "b")]),
            "b",
            &recorded("a", &[(">=3.12", "b")]),
        );
        other(
            &recorded("a", &[(">=3.12", "b"), ("3.13", "c")]),
            "b",
            &recorded("a", &[(">=3.12", "b")]),
        );
        other(
            &recorded("a", &[(">=3.12", "b")]),
            "c",
            &recorded("a", &[(">=3.12", "b"), ("3.13", "c")]),
        );
        other(
            &recorded("a", &[(">=3.12", "b")]),
            "a",
            &recorded("a", &[(">=3.12", "b"), ("3.13", "a")]),
        );
    }

    #[test]
    fn a_variant_for_the_patch_version_is_the_one_to_change() {
        other(
            &recorded("a", &[("3.13.1", "b"), ("3.13", "x")]),
            "c",
            &recorded("a", &[("3.13.1", "c")]),
        );
    }

    #[test]
    fn the_first_run_gives_the_base_on_any_version() {
        let output = stdout("b");
        let observed = Observed {
            id: "a/1",
            normalize: &[],
            unordered: false,
            expected: &output,
            version: &version("3.13.1"),
            is_base: false,
        };
        assert_eq!(update(None, &observed), recorded("b", &[]));
    }

    #[test]
    fn wildcards_that_match_are_kept() {
        base(
            &recorded("took [..]s\n", &[]),
            "took 3s\n",
            &recorded("took [..]s\n", &[]),
        );
        base(
            &recorded("took [..]s\n", &[]),
            "lasted 3s\n",
            &recorded("lasted 3s\n", &[]),
        );
        other(
            &recorded("a\n...\n", &[]),
            "a\nb\n",
            &recorded("a\n...\n", &[]),
        );
        other(
            &recorded("a", &[("3.13", "b[..]")]),
            "bc",
            &recorded("a", &[("3.13", "b[..]")]),
        );
    }

    #[test]
    fn only_the_stream_that_matches_is_kept() {
        let mut old = recorded("took [..]s\n", &[]);
        old.expected.stderr = b"x".to_vec();
        old.expected.exception = Some("E: [..]".into());
        let new = Expected {
            stderr: b"y".to_vec(),
            exception: Some("E: 12".into()),
            ..stdout("took 3s\n")
        };
        let mut wanted = old.clone();
        wanted.expected.stderr = b"y".to_vec();
        assert_eq!(run_on(&old, "3.11.2", true, &new), wanted);
    }

    #[test]
    fn output_that_looks_like_wildcards_is_literal() {
        let literal = Expected {
            literal: true,
            ..stdout("a\n...\n")
        };
        let got = run_on(&recorded("x", &[]), "3.11.2", true, &literal);
        assert_eq!(got.expected, literal);
        // So it is no wildcard on the next run.
        let got = run_on(&got, "3.11.2", true, &stdout("a\nb\n"));
        assert_eq!(got.expected, stdout("a\nb\n"));
    }

    #[test]
    fn a_variant_keeps_its_wildcards_when_the_base_becomes_literal() {
        let old = recorded("x", &[("3.13", "b[..]")]);
        let literal = Expected {
            literal: true,
            ..stdout("...\n")
        };
        let got = run_on(&old, "3.11.2", true, &literal);
        assert!(!got.expected_for(&version("3.13.0")).literal);
        assert!(got.expected_for(&version("3.12.0")).literal);
    }

    #[test]
    fn floats_and_line_order_do_not_churn() {
        let mut old = recorded("0.3\n", &[]);
        old.normalize = vec![Rule::Float(6)];
        assert_eq!(
            run_on(&old, "3.11.2", true, &stdout("0.30000000000000004\n")),
            old
        );
        let mut old = recorded("a\nb\n", &[]);
        old.unordered = true;
        assert_eq!(run_on(&old, "3.11.2", true, &stdout("b\na\n")), old);
    }

    #[test]
    fn a_new_rule_rewrites_the_old_text() {
        let mut old = recorded("took 1 ms, [..]\n", &[]);
        old.normalize = vec![Rule::Time];
        let got = run_on(&old, "3.11.2", true, &stdout("took [TIME], x\n"));
        assert_eq!(got.expected, stdout("took [TIME], [..]\n"));
    }

    fn text() -> impl Strategy<Value = String> {
        let fragment = prop_oneof![
            Just("'"),
            Just("\""),
            Just("\\"),
            Just("\n"),
            Just("\r"),
            Just("\t"),
            Just(" "),
            Just("a"),
            Just("é"),
            Just("\0"),
            Just("\x1b"),
            Just("\u{7f}"),
            Just("\u{85}"),
            Just("\u{2028}"),
            Just("\u{feff}"),
            Just("'''"),
            Just("\"\"\""),
            Just("..."),
            Just("[..]"),
            Just("#"),
            Just("="),
            Just("[x]"),
            Just("😀"),
        ];
        proptest::collection::vec(fragment, 0..10).prop_map(|parts| parts.concat())
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => text().prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..70),
        ]
    }

    fn exception() -> impl Strategy<Value = Option<String>> {
        text().prop_map(|text| (!text.is_empty()).then_some(text))
    }

    prop_compose! {
        fn any_expected()(
            stdout in stream(), stderr in stream(), exception in exception(), exit: Option<i32>,
            artifacts in proptest::collection::vec(text(), 0..3), literal: bool,
        ) -> Expected {
            Expected { stdout, stderr, exception, exit, artifacts, literal }
        }
    }

    prop_compose! {
        fn any_overlay()(
            stdout in proptest::option::of(stream()), stderr in proptest::option::of(stream()),
            exception in proptest::option::of(exception()), exit: Option<Option<i32>>,
            artifacts in proptest::option::of(proptest::collection::vec(text(), 0..3)), literal: Option<bool>,
        ) -> Overlay {
            Overlay { stdout, stderr, exception, exit, artifacts, literal }
        }
    }

    const SELECTORS: [&str; 9] = [
        "3.10",
        "3.11",
        "3.13",
        "3.13.1",
        ">=3.12",
        "<3.12",
        ">=3.11, <3.14",
        "!=3.11.*",
        "==3.13.1",
    ];

    prop_compose! {
        fn any_recorded()(
            id in text(),
            normalize in proptest::sample::subsequence(Rule::ALL.to_vec(), 0..3),
            unordered: bool,
            expected in any_expected(),
            selectors in proptest::sample::subsequence(SELECTORS.to_vec(), 0..4).prop_shuffle(),
            overlays in proptest::collection::vec(any_overlay(), 4),
        ) -> Recorded {
            let variant = |(versions, expected): (&str, Overlay)| Variant { versions: selector(versions), expected };
            let variants = selectors.into_iter().zip(overlays).map(variant).collect();
            Recorded { id, normalize, unordered, expected, variants }
        }
    }

    prop_compose! {
        fn any_recording()(mut examples in proptest::collection::vec(any_recorded(), 0..4)) -> Recording {
            for (number, example) in examples.iter_mut().enumerate() {
                example.id.push_str(&number.to_string());
            }
            Recording { examples }
        }
    }

    /// Few different texts, so that they often coincide.
    fn few() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "a\n", "b\n", "a\nb\n", "[..]\n", "a\n...\n", "c 1\n", "",
        ])
    }

    prop_compose! {
        fn small_recorded()(
            base in few(), error in few(),
            selectors in proptest::sample::subsequence(SELECTORS.to_vec(), 0..4).prop_shuffle(),
            overlays in proptest::collection::vec((proptest::option::of(few()), proptest::option::of(few())), 4),
            unordered: bool, literal: bool,
        ) -> Recorded {
            let mut recorded = Recorded { id: "x".into(), expected: stdout(base), unordered, ..Recorded::default() };
            recorded.expected.stderr = error.into();
            recorded.expected.literal = literal;
            for (versions, (out, err)) in selectors.into_iter().zip(overlays) {
                let expected = Overlay {
                    stdout: out.map(Into::into), stderr: err.map(Into::into), ..Overlay::default()
                };
                recorded.variants.push(Variant { versions: selector(versions), expected });
            }
            recorded
        }
    }

    fn accepts(recorded: &Recorded, python: &str, output: &Expected) -> bool {
        let expected = recorded.expected_for(&version(python));
        let matching = Matching {
            wildcards: !expected.literal,
            digits: None,
            unordered: recorded.unordered,
        };
        matching.matches(&expected.stdout, &output.stdout)
            && matching.matches(&expected.stderr, &output.stderr)
            && (expected.exception.clone(), expected.exit)
                == (output.exception.clone(), output.exit)
    }

    proptest! {
        #[test]
        fn reading_what_was_printed_gives_the_same(recording in any_recording()) {
            let printed = print(&recording);
            let parsed = parse(&printed);
            prop_assert_eq!(parsed.as_ref(), Ok(&recording), "{}", printed);
            prop_assert_eq!(print(&parsed.expect("just read")), printed);
        }

        #[test]
        fn reading_any_text_does_not_panic(text in text()) {
            let _ = parse(&text);
            let _ = parse(&format!("format = 1\n[[example]]\n{text}"));
        }

        #[test]
        fn a_check_after_recording_is_green(
            old in small_recorded(), out in few(), err in few(), python in 0..6_usize, is_base: bool,
        ) {
            let python = ["3.10.0", "3.11.2", "3.12.1", "3.13.0", "3.13.1", "3.14.0"][python];
            let output = Expected { stderr: err.into(), ..stdout(out) };
            let once = run_on(&old, python, is_base, &output);
            prop_assert!(accepts(&once, python, &output), "{:#?}", once);
            prop_assert_eq!(&run_on(&once, python, is_base, &output), &once);
        }

        #[test]
        fn recording_one_version_leaves_the_others(
            old in small_recorded(), out in few(), python in 0..6_usize,
        ) {
            let versions = ["3.10.0", "3.11.2", "3.12.1", "3.13.4", "3.14.0", "3.15.0rc1"];
            let new = run_on(&old, versions[python], false, &stdout(out));
            for (index, other) in versions.iter().enumerate() {
                if index != python {
                    prop_assert_eq!(new.expected_for(&version(other)), old.expected_for(&version(other)));
                }
            }
        }
    }
}
