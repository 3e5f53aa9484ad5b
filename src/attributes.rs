//! The attribute grammar: what an author can say about an example, in the info string or in a comment.
//!
//! Both places mean the same. In an info string, other tools' words (`title="…"`, `hl_lines="1"`) stand
//! beside ours and are left alone, unless one is so near to a word of ours that it must be a slip; under
//! our own prefix every unknown word is an error.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use pep440_rs::{Version, VersionSpecifier, VersionSpecifiers};

use crate::normalize::Rule;

/// Everything that attributes can say. See the attribute table in the README.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes {
    pub id: Option<String>,
    pub raises: Option<String>,
    pub exits: Option<i32>,
    pub file: Option<String>,
    pub stdin: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub python: Option<VersionSpecifiers>,
    pub requires: Vec<Need>,
    pub artifacts: Vec<String>,
    pub skip: Option<String>,
    pub norun: Option<String>,
    pub session: Option<String>,
    pub fresh: bool,
    pub limits: OwnLimits,
    pub normalize: Vec<Rule>,
    pub unordered: bool,
    pub hidden: bool,
}

/// What an example may use up where that is not what `verify.toml` says; sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnLimits {
    pub timeout: Option<Duration>,
    pub output: Option<u64>,
    pub memory: Option<u64>,
    pub processes: Option<u64>,
    pub scratch: Option<u64>,
    pub file_size: Option<u64>,
    pub open_files: Option<u64>,
}

/// More memory than there is.
pub const UNLIMITED: u64 = u64::MAX;

impl OwnLimits {
    /// What holds for a session: its examples share processes and a directory, so that the largest limit that one
    /// of them asks for is that of all.
    #[must_use]
    pub fn shared(self, other: OwnLimits) -> OwnLimits {
        OwnLimits {
            timeout: None,
            output: None,
            memory: self.memory.max(other.memory),
            processes: self.processes.max(other.processes),
            scratch: self.scratch.max(other.scratch),
            file_size: self.file_size.max(other.file_size),
            open_files: self.open_files.max(other.open_files),
        }
    }
}

/// Something an example cannot run without.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Need {
    /// A module that `import` finds.
    Module(String),
    /// A program on `PATH`.
    Program(String),
    /// The rights of the superuser.
    Root,
}

impl std::fmt::Display for Need {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Need::Module(name) => write!(formatter, "the module `{name}`"),
            Need::Program(name) => write!(formatter, "the program `{name}`"),
            Need::Root => write!(formatter, "root"),
        }
    }
}

/// Where attributes were written: decides what an unknown word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind the language of a fence, among other tools' words.
    InfoString,
    /// In a comment that begins with our name.
    Directive,
}

const NAMES: &[&str] = &[
    "id",
    "raises",
    "exits",
    "file",
    "stdin",
    "args",
    "env",
    "python",
    "requires",
    "artifact",
    "skip",
    "norun",
    "session",
    "fresh",
    "timeout",
    "max-output",
    "memory",
    "processes",
    "max-scratch",
    "max-file-size",
    "open-files",
    "normalize",
    "unordered",
    "hidden",
];

/// Those of which several add up.
const LISTS: &[&str] = &["env", "requires", "artifact", "normalize"];

/// Words of other tools for what an attribute of ours says.
const ALIASES: &[(&str, Alias)] = &[
    ("notest", Alias::Skip),
    ("ignore", Alias::Skip),
    ("no_run", Alias::NoRun),
    ("noeval", Alias::NoRun),
    ("should_panic", Alias::Raises),
    ("continuation", Alias::Nothing),
];

#[derive(Clone, Copy)]
enum Alias {
    Skip,
    NoRun,
    Raises,
    /// Examples of a page share their session anyway.
    Nothing,
}

impl Attributes {
    /// Reads the words of one place into these attributes; returns what is wrong with them.
    pub fn read(&mut self, text: &str, place: Place) -> Vec<String> {
        let (words, mut problems) = words(text);
        let mut words = words.into_iter().peekable();
        let mut given = HashSet::new();
        while let Some(word) = words.next() {
            let Some(mut value) = word.value else {
                self.read_flag(&word.name, place, &mut problems);
                continue;
            };
            let name = word.name.as_str();
            if NAMES.contains(&name) && !LISTS.contains(&name) && !given.insert(word.name.clone()) {
                problems.push(format!("`{name}` is given twice: remove one of them"));
            }
            if word.name == "normalize" {
                // `normalize=address,time`: the comma that separates attributes separates rules as well.
                while let Some(rule) = words.next_if(|next| Rule::parse(next.written).is_ok()) {
                    value.push(',');
                    value.push_str(rule.written);
                }
            }
            let mut whole = value.clone();
            while let Some(part) = words.next_if(|next| next.is_cut_off_from(&word.name)) {
                whole.push(',');
                whole.push_str(part.written);
            }
            if whole != value {
                let name = &word.name;
                problems.push(format!(
                    "the value of `{name}` ends at the comma: write `{name}=\"{whole}\"`, or a space behind the comma"
                ));
                continue;
            }
            if let Err(problem) = self.read_value(&word.name, &value, place) {
                problems.push(problem);
            }
        }
        problems
    }

    fn read_flag(&mut self, name: &str, place: Place, problems: &mut Vec<String>) {
        match name {
            "fresh" => self.fresh = true,
            "unordered" => self.unordered = true,
            "hidden" => self.hidden = true,
            "skip" | "norun" => problems.push(format!(
                "`{name}` needs a reason: write `{name}=\"why this does not run\"`"
            )),
            _ if NAMES.contains(&name) => {
                problems.push(format!("`{name}` needs a value: write `{name}=…`"));
            }
            _ => match ALIASES.iter().find(|(alias, _)| *alias == name) {
                Some((_, alias)) => self.read_alias(*alias, name),
                None => problems.extend(unknown(name, place)),
            },
        }
    }

    fn read_alias(&mut self, alias: Alias, name: &str) {
        match alias {
            Alias::Skip => self.skip = Some(format!("marked `{name}`")),
            Alias::NoRun => self.norun = Some(format!("marked `{name}`")),
            Alias::Raises => self.raises = Some("BaseException".to_owned()),
            Alias::Nothing => {}
        }
    }

    fn read_value(&mut self, name: &str, value: &str, place: Place) -> Result<(), String> {
        match name {
            "id" => self.id = Some(identifier(name, value)?),
            "raises" => self.raises = Some(exception(value)?),
            "exits" => {
                let status = value
                    .parse()
                    .ok()
                    .filter(|status| (0..=255).contains(status));
                self.exits = Some(status.ok_or_else(|| {
                    format!("`exits={value}` is not an exit status: write a number from 0 to 255")
                })?);
            }
            "file" => self.file = Some(relative_path(name, value)?),
            "stdin" => self.stdin = Some(value.to_owned()),
            "args" => self.args = shell_words(value)?,
            "env" => self.env.extend(variables(value)?),
            "python" => {
                let versions = VersionSpecifiers::from_str(value).map_err(|_| {
                    format!(
                        "`python={value}` is not a version specifier: write one such as `python=\">=3.12\"`"
                    )
                })?;
                if !can_hold(&versions) {
                    return Err(format!(
                        "`python={value}` holds for no version: write one such as `python=\">=3.12\"`"
                    ));
                }
                self.python = Some(versions);
            }
            "requires" => {
                for need in value
                    .split(',')
                    .map(str::trim)
                    .filter(|need| !need.is_empty())
                {
                    self.requires.push(need_of(need)?);
                }
            }
            "artifact" => self.artifacts.push(relative_path(name, value)?),
            "skip" | "norun" if value.trim().is_empty() => {
                return Err(format!(
                    "`{name}` needs a reason: write `{name}=\"why this does not run\"`"
                ));
            }
            "skip" => self.skip = Some(value.to_owned()),
            "norun" => self.norun = Some(value.to_owned()),
            "test" if value == "skip" || value == "false" => {
                self.skip = Some(format!("marked `test={value}`"));
            }
            "test" if value == "true" => {}
            "test" => {
                return Err(format!(
                    "`test={value}` says nothing: write `test=skip`, or leave it out"
                ));
            }
            "session" => self.session = Some(identifier(name, value)?),
            "timeout" => self.limits.timeout = Some(duration(value)?),
            "max-output" => self.limits.output = Some(size(value)?),
            "memory" if value == "unlimited" => self.limits.memory = Some(UNLIMITED),
            "memory" => self.limits.memory = Some(size(value)?),
            "processes" => self.limits.processes = Some(count(name, value)?),
            "max-scratch" => self.limits.scratch = Some(size(value)?),
            "max-file-size" => self.limits.file_size = Some(size(value)?),
            "open-files" => self.limits.open_files = Some(count(name, value)?),
            "normalize" => {
                for rule in value
                    .split(',')
                    .map(str::trim)
                    .filter(|rule| !rule.is_empty())
                {
                    let rule = Rule::parse(rule)?;
                    if !self.normalize.contains(&rule) {
                        self.normalize.push(rule);
                    }
                }
            }
            "fresh" | "unordered" | "hidden" => {
                return Err(format!("`{name}` takes no value: write `{name}` alone"));
            }
            _ => return unknown(name, place).map_or(Ok(()), Err),
        }
        Ok(())
    }
}

/// The known word that somebody who typed another one will have meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = known.into_iter();
    known
        .map(|known| (strsim::damerau_levenshtein(typed, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 2 && *distance * 2 < known.len())
        .map(|(_, known)| known)
}

/// What to say of a word that is not ours; nothing where it may belong to another tool.
fn unknown(name: &str, place: Place) -> Option<String> {
    let names = NAMES.iter().copied();
    let names = names.chain(ALIASES.iter().map(|(alias, _)| *alias));
    match (nearest(name, names), place) {
        (Some(known), _) => Some(format!(
            "unknown attribute `{name}`: did you mean `{known}`?"
        )),
        (None, Place::Directive) => Some(format!(
            "unknown attribute `{name}`: known are {}",
            NAMES.join(", ")
        )),
        (None, Place::InfoString) => None,
    }
}

/// Whether a comment that begins with our name, but not as a directive does, was meant as one: it gives an attribute a
/// value, or has nothing but words of ours.
pub fn are_attributes(text: &str) -> bool {
    let (words, mut problems) = words(text);
    let is_ours = |word: &Word| {
        NAMES.contains(&word.name.as_str()) || unknown(&word.name, Place::InfoString).is_some()
    };
    let gives_one = words
        .iter()
        .any(|word| word.value.is_some() && is_ours(word));
    problems.extend(Attributes::default().read(text, Place::Directive));
    gives_one || (!words.is_empty() && problems.is_empty())
}

struct Word<'a> {
    name: String,
    value: Option<String>,
    written: &'a str,
    /// Whether nothing but a comma separates it from a value without quotes.
    follows_a_value: bool,
}

impl Word<'_> {
    /// Whether this was meant to be in the value before it, which is that of `name`: nothing of ours, and nothing that
    /// looks like an attribute of another tool.
    fn is_cut_off_from(&self, name: &str) -> bool {
        let has_equals_signs = matches!(name, "env" | "normalize");
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        let is_foreign = !has_equals_signs
            && self.value.is_some()
            && self.name.starts_with(char::is_alphabetic)
            && self.name.chars().all(is_name);
        self.follows_a_value
            && is_known(name)
            && !is_foreign
            && !is_known(&self.name)
            && unknown(&self.name, Place::InfoString).is_none()
    }
}

fn is_known(name: &str) -> bool {
    name == "test" || NAMES.contains(&name) || ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// Splits at white space and commas; a value may be quoted, with `\n`, `\t`, `\"`, `\\` in double quotes.
fn words(text: &str) -> (Vec<Word<'_>>, Vec<String>) {
    let (mut words, mut problems) = (Vec::new(), Vec::new());
    let mut rest = text.trim_start_matches(separates);
    let mut follows_a_value = false;
    while !rest.is_empty() {
        let from = rest;
        let mut is_unquoted = false;
        let end = rest
            .find(|c| separates(c) || c == '=')
            .unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let mut value = None;
        if let Some(behind) = rest.strip_prefix('=') {
            let quote = behind.chars().next().filter(|c| matches!(c, '"' | '\''));
            if let Some(quote) = quote {
                let Some((unquoted, behind)) = quoted(&behind[1..], quote) else {
                    problems.push(format!(
                        "the value of `{name}` has no closing quote: add it"
                    ));
                    return (words, problems);
                };
                value = Some(unquoted);
                rest = behind;
            } else {
                let end = behind.find(separates).unwrap_or(behind.len());
                value = Some(behind[..end].to_owned());
                rest = &behind[end..];
                is_unquoted = true;
            }
        }
        words.push(Word {
            name,
            value,
            written: &from[..from.len() - rest.len()],
            follows_a_value,
        });
        let behind = rest.trim_start_matches(separates);
        let between = &rest[..rest.len() - behind.len()];
        follows_a_value = (is_unquoted || follows_a_value) && between.chars().all(|c| c == ',');
        rest = behind;
    }
    (words, problems)
}

fn separates(character: char) -> bool {
    character.is_whitespace() || character == ',' || character == '}'
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Some((value, &text[at + 1..]));
        }
        if character != '\\' || quote == '\'' {
            value.push(character);
            continue;
        }
        match characters.next() {
            Some((_, 'n')) => value.push('\n'),
            Some((_, 't')) => value.push('\t'),
            Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
            Some((_, other)) => value.extend(['\\', other]),
            None => return None,
        }
    }
    None
}

fn identifier(name: &str, value: &str) -> Result<String, String> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if value.is_empty() || !value.chars().all(fits) {
        return Err(format!(
            "`{name}={value}`: write letters, digits, `-`, `_`, `.` and `/` only"
        ));
    }
    Ok(value.to_owned())
}

/// Whether a text is names as Python has them, with dots between.
fn is_dotted_name(text: &str) -> bool {
    let fits = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    text.split('.').all(fits)
}

fn exception(value: &str) -> Result<String, String> {
    if is_dotted_name(value) {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "`raises={value}` does not name an exception: write one such as `raises=ValueError`"
        ))
    }
}

fn relative_path(name: &str, value: &str) -> Result<String, String> {
    let inside = !value.is_empty()
        && !value.ends_with('/')
        && value
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
    if inside {
        Ok(value.to_owned())
    } else {
        let such_as = if name == "artifact" {
            "plot.png"
        } else {
            "app.py"
        };
        Err(format!(
            "`{name}={value}` must stay in the session's directory: write a path such as `{name}={such_as}`"
        ))
    }
}

fn need_of(need: &str) -> Result<Need, String> {
    if need == "root" {
        return Ok(Need::Root);
    }
    if let Some(program) = need.strip_prefix("program:").map(str::trim) {
        let is_name = !program.is_empty() && !program.contains([' ', '\t', '/']);
        return if is_name {
            Ok(Need::Program(program.to_owned()))
        } else {
            Err(format!(
                "`requires=\"{need}\"` names no program: write one such as `requires=program:redis-server`"
            ))
        };
    }
    // `ROOT` is a module.
    if need == "Root" {
        return Err("`requires` does not know `Root`: did you mean `root`?".to_owned());
    }
    if !is_dotted_name(need) {
        return Err(format!(
            "`requires` does not know `{need}`: write what stands behind `import` (versions belong into `requirements` of `verify.toml`), `program:NAME` or `root`"
        ));
    }
    Ok(Need::Module(need.to_owned()))
}

/// Whether there can be a version for which all of it holds. Where a version fits, one fits that is named or is next to
/// one, or the smallest of all does.
fn can_hold(specifiers: &VersionSpecifiers) -> bool {
    let next = |version: &Version| {
        let release = version.release();
        let (last, before) = release.split_last()?;
        let above = before.iter().copied().chain([last + 1]);
        let within = release.iter().copied().chain([1]);
        Some([Version::new(above), Version::new(within)])
    };
    let named = specifiers.iter().map(VersionSpecifier::version);
    let near = named.clone().filter_map(next).flatten();
    let mut candidates = named
        .clone()
        .cloned()
        .chain(near)
        .chain([Version::new([0])]);
    // Between two early versions of one release, no release fits.
    named.clone().any(Version::any_prerelease)
        || candidates.any(|version| specifiers.contains(&version))
}

fn variables(value: &str) -> Result<Vec<(String, String)>, String> {
    shell_words(value)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() && !word.contains('\0') => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => Err(format!(
                "`env={value}` sets no variable: write `env=\"NAME=value OTHER=value\"`"
            )),
        })
        .collect()
}

/// Splits at white space as a shell does, with single and double quotes.
fn shell_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some(inner) if inner == character => break,
                        Some(inner) => word.push(inner),
                        None => return Err(format!("`{text}` has no closing quote: add it")),
                    }
                }
            }
            space if space.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// A duration such as `500ms`, `30s`, `2m`; a bare number is seconds.
pub fn duration(value: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(value);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && (number * factor).is_finite() => {
            Ok(Duration::from_secs_f64((number * factor).min(1e9)))
        }
        _ => Err(format!(
            "`{value}` is not a duration: write one such as `30s`, `500ms` or `2m`"
        )),
    }
}

/// A size in bytes such as `512MiB` or `2GB`; a bare number is bytes.
pub fn size(value: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(value);
    let factor: Option<u64> = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kb" => Some(1000),
        "mb" => Some(1000 * 1000),
        "gb" => Some(1000 * 1000 * 1000),
        "tb" => Some(1000 * 1000 * 1000 * 1000),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "t" | "tib" => Some(1 << 40),
        _ => None,
    };
    // `1.5GiB`: digits behind a point are so many tenths of what they are multiplied with.
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let bytes = |factor: u64| {
        let scale = 10_u64.checked_pow(u32::try_from(tenths.len()).ok()?)?;
        let (whole, tenths): (u64, u64) = (whole.parse().ok()?, tenths.parse().ok()?);
        whole
            .checked_mul(factor)?
            .checked_add(tenths.checked_mul(factor)? / scale)
    };
    factor
        .and_then(bytes)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| format!("`{value}` is not a size: write one such as `512MiB` or `2GiB`"))
}

fn count(name: &str, value: &str) -> Result<u64, String> {
    let number = value.parse().ok().filter(|&number: &u64| number > 0);
    number.ok_or_else(|| {
        format!("`{name}={value}` is not a number from 1 on: write one such as `{name}=500`")
    })
}

fn split_unit(value: &str) -> (&str, &str) {
    let value = value.trim();
    let end = value
        .find(|c: char| c.is_alphabetic())
        .unwrap_or(value.len());
    (value[..end].trim(), &value[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, place: Place) -> (Attributes, Vec<String>) {
        let mut attributes = Attributes::default();
        let problems = attributes.read(text, place);
        (attributes, problems)
    }

    #[track_caller]
    fn accepts(text: &str, expected: Attributes) {
        assert_eq!(
            read(text, Place::Directive),
            (expected, Vec::new()),
            "{text}"
        );
    }

    #[track_caller]
    fn rejects(text: &str, expected: &str) {
        assert_eq!(read(text, Place::Directive).1, [expected], "{text}");
    }

    fn with(set: impl FnOnce(&mut Attributes)) -> Attributes {
        let mut attributes = Attributes::default();
        set(&mut attributes);
        attributes
    }

    #[test]
    fn flags_and_values() {
        accepts("", Attributes::default());
        accepts(
            "hidden, fresh unordered",
            with(|a| (a.hidden, a.fresh, a.unordered) = (true, true, true)),
        );
        accepts(
            "raises=ValueError",
            with(|a| a.raises = Some("ValueError".into())),
        );
        accepts("exits=3", with(|a| a.exits = Some(3)));
        accepts(
            "memory=unlimited",
            with(|a| a.limits.memory = Some(UNLIMITED)),
        );
        accepts(
            "timeout=500ms memory=2GiB",
            with(|a| {
                a.limits.timeout = Some(Duration::from_millis(500));
                a.limits.memory = Some(2 << 30);
            }),
        );
        accepts(
            "max-output=1MB processes=9 max-scratch=2KiB max-file-size=3 open-files=4",
            with(|a| {
                a.limits.output = Some(1_000_000);
                a.limits.processes = Some(9);
                a.limits.scratch = Some(2048);
                a.limits.file_size = Some(3);
                a.limits.open_files = Some(4);
            }),
        );
        accepts(
            "python=\">=3.12,<3.14\"",
            with(|a| {
                a.python = Some(VersionSpecifiers::from_str(">=3.12,<3.14").unwrap());
            }),
        );
    }

    #[test]
    fn quotes_and_escapes() {
        accepts(
            r#"stdin="Ada\n\"36\"""#,
            with(|a| a.stdin = Some("Ada\n\"36\"".into())),
        );
        accepts(r"stdin='a\n'", with(|a| a.stdin = Some(r"a\n".into())));
        accepts(
            r#"args="--name 'Ada L' x""#,
            with(|a| {
                a.args = ["--name", "Ada L", "x"].map(String::from).to_vec();
            }),
        );
        accepts(
            "env=\"A=1 B='x y'\"",
            with(|a| {
                a.env = vec![("A".into(), "1".into()), ("B".into(), "x y".into())];
            }),
        );
    }

    #[test]
    fn rules_may_be_separated_by_the_commas_that_separate_attributes() {
        accepts(
            "normalize=address,time,hidden",
            with(|a| {
                a.normalize = vec![Rule::Address, Rule::Time];
                a.hidden = true;
            }),
        );
    }

    #[test]
    fn a_rule_with_a_value_is_one_too() {
        let rules = vec![Rule::Address, Rule::Float(3)];
        accepts("normalize=address,float=3", with(|a| a.normalize = rules));
    }

    #[test]
    fn a_value_that_ends_at_a_comma() {
        for (text, value) in [
            ("python=>=3.8,<3.10", "python=\">=3.8,<3.10\""),
            ("python=>=3.8,!=3.9,==3.*", "python=\">=3.8,!=3.9,==3.*\""),
            ("hidden,requires=sys,a,b", "requires=\"sys,a,b\""),
            (
                "raises=ValueError,TypeError",
                "raises=\"ValueError,TypeError\"",
            ),
            ("normalize=address,foo", "normalize=\"address,foo\""),
            (
                "normalize=address,float=99",
                "normalize=\"address,float=99\"",
            ),
            ("env=A=1,B=2", "env=\"A=1,B=2\""),
        ] {
            let name = value.split('=').next().unwrap();
            let expected = format!(
                "the value of `{name}` ends at the comma: write `{value}`, or a space behind the comma"
            );
            for place in [Place::Directive, Place::InfoString] {
                assert_eq!(read(text, place).1, [expected.as_str()], "{text}");
            }
        }
    }

    #[test]
    fn attributes_behind_a_comma() {
        accepts(
            "raises=ValueError,hidden,id=x",
            with(|a| {
                a.raises = Some("ValueError".into());
                a.hidden = true;
                a.id = Some("x".into());
            }),
        );
        for foreign in [
            "id=x, linenums",
            "id=x,hl_lines=3",
            "id=x,data-line=\"1,2\"",
            "id=\"x\",editable",
            "editable,id=x",
            "title=a,b",
            ", .foo}",
        ] {
            assert_eq!(read(foreign, Place::InfoString).1, [""; 0], "{foreign}");
        }
        rejects(
            "id=x,hiden",
            "unknown attribute `hiden`: did you mean `hidden`?",
        );
    }

    #[test]
    fn needs() {
        accepts(
            "requires=\"numpy, program:redis-server, root\"",
            with(|a| {
                a.requires = vec![
                    Need::Module("numpy".into()),
                    Need::Program("redis-server".into()),
                    Need::Root,
                ];
            }),
        );
    }

    #[test]
    fn needs_that_nothing_could_meet() {
        for need in [
            "numpy>=2",
            "1x",
            "numpy;x",
            "scikit-learn",
            "a b",
            "x:y",
            "a..b",
        ] {
            let expected = format!(
                "`requires` does not know `{need}`: write what stands behind `import` (versions belong into `requirements` of `verify.toml`), `program:NAME` or `root`"
            );
            rejects(&format!("requires=\"{need}\""), &expected);
        }
        rejects(
            "requires=Root",
            "`requires` does not know `Root`: did you mean `root`?",
        );
        let root = Need::Module("ROOT".into());
        accepts("requires=ROOT", with(|a| a.requires = vec![root]));
    }

    #[test]
    fn other_tools_words_are_aliases() {
        accepts("notest", with(|a| a.skip = Some("marked `notest`".into())));
        accepts(
            "test=\"skip\"",
            with(|a| a.skip = Some("marked `test=skip`".into())),
        );
        accepts("no_run", with(|a| a.norun = Some("marked `no_run`".into())));
        accepts(
            "should_panic",
            with(|a| a.raises = Some("BaseException".into())),
        );
        accepts("continuation", Attributes::default());
        accepts("test=true", Attributes::default());
    }

    #[test]
    fn slips_are_named() {
        rejects(
            "rasies=ValueError",
            "unknown attribute `rasies`: did you mean `raises`?",
        );
        rejects(
            "skip",
            "`skip` needs a reason: write `skip=\"why this does not run\"`",
        );
        rejects(
            "exits=300",
            "`exits=300` is not an exit status: write a number from 0 to 255",
        );
        rejects(
            "timeout=soon",
            "`soon` is not a duration: write one such as `30s`, `500ms` or `2m`",
        );
        rejects(
            "processes=many",
            "`processes=many` is not a number from 1 on: write one such as `processes=500`",
        );
        rejects(
            "open-files=0",
            "`open-files=0` is not a number from 1 on: write one such as `open-files=500`",
        );
        rejects(
            "stdin=\"a",
            "the value of `stdin` has no closing quote: add it",
        );
        rejects(
            "raises=1x",
            "`raises=1x` does not name an exception: write one such as `raises=ValueError`",
        );
        rejects(
            "file=../x",
            "`file=../x` must stay in the session's directory: write a path such as `file=app.py`",
        );
        rejects(
            "artifact=",
            "`artifact=` must stay in the session's directory: write a path such as `artifact=plot.png`",
        );
        rejects(
            "test=maybe",
            "`test=maybe` says nothing: write `test=skip`, or leave it out",
        );
    }

    #[test]
    fn foreign_words_are_left_alone_in_info_strings_only() {
        assert_eq!(
            read("title=\"x\" hl_lines=\"1 2\" linenums", Place::InfoString).1,
            [""; 0]
        );
        assert_eq!(
            read("rasies=ValueError", Place::InfoString).1,
            ["unknown attribute `rasies`: did you mean `raises`?"]
        );
        assert_eq!(read("title=x", Place::Directive).1.len(), 1);
    }

    #[test]
    fn twice_in_one_place() {
        for name in [
            "id", "session", "file", "raises", "skip", "args", "python", "timeout",
        ] {
            let value = if name == "python" { "3" } else { "a" };
            let text = format!("{name}={value} {name}={value}");
            let twice = format!("`{name}` is given twice: remove one of them");
            assert!(read(&text, Place::InfoString).1.contains(&twice), "{text}");
        }
        let (found, problems) = read(
            "env=A=1 env=B=2 requires=a requires=b artifact=x artifact=y",
            Place::Directive,
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            (found.env.len(), found.requires.len(), found.artifacts.len()),
            (2, 2, 2)
        );
        assert_eq!(read("linenums=1 linenums=2", Place::InfoString).1, [""; 0]);
    }

    #[test]
    fn versions_of_which_there_are_none() {
        for never in [
            ">=2,<1",
            "<0",
            "==3.12,!=3.12",
            ">=3.10,!=3.10.*,<3.11",
            "==3.11.*,>=3.12",
        ] {
            rejects(
                &format!("python=\"{never}\""),
                &format!(
                    "`python={never}` holds for no version: write one such as `python=\">=3.12\"`"
                ),
            );
        }
        for some in [
            "<3",
            ">3.10",
            ">=3.10,!=3.10.*,<3.12",
            ">3.10,<3.11",
            "~=3.8.1",
            "==3.*",
            "!=3.12",
            ">3.15.0a1,<3.15.0b1",
            "==3.12.1,>=3.12",
            "!=3.*",
            ">3.10,!=3.10.1,<3.11",
        ] {
            assert_eq!(
                read(&format!("python=\"{some}\""), Place::Directive).1,
                [""; 0],
                "{some}"
            );
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1.5GiB", 3 << 29),
            ("2TB", 2_000_000_000_000),
            ("1TiB", 1 << 40),
            ("0.25KiB", 256),
            ("7", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for none in [
            "",
            ".",
            "1.",
            ".5GiB",
            "1.2.3GiB",
            "1.-5GiB",
            "-1",
            "0",
            "0.1",
            "1.99999999999999999999TiB",
            "18446744073709551615KiB",
        ] {
            assert!(size(none).is_err(), "{none}");
        }
    }

    #[test]
    fn comments_that_were_meant_as_directives() {
        for meant in [
            "raises=X",
            "rasies=X",
            "hidden",
            "fresh, unordered",
            "id=x foo",
        ] {
            assert!(are_attributes(meant), "{meant}");
        }
        for other in [
            "",
            "this later",
            "that x=3 holds",
            "file names",
            "hidden fields",
        ] {
            assert!(!are_attributes(other), "{other}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        assert_eq!(read("exits=x skip timeout=y", Place::InfoString).1.len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in ".*") {
            read(&text, Place::Directive);
        }
    }
}
