//! Text → recording, or what is wrong with it and where.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Expected, FORMAT, Overlay, Recorded, Recording, Variant, VersionSelector};
use crate::normalize::{Rule, closest};

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for Problem {}

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

pub(super) fn bytes(digits: &str) -> Option<Vec<u8>> {
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
