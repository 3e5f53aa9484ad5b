//! What is wrong with a `verify.toml`, and on which line.

use toml::de::{DeTable, DeValue};

use crate::attributes::nearest;

/// A value that cannot be meant.
#[derive(Debug)]
pub(super) struct Mistake {
    /// Where it stands: a key, or one in a table.
    path: Vec<String>,
    message: String,
}

impl Mistake {
    pub(super) fn of(key: &str, message: impl Into<String>) -> Mistake {
        Mistake {
            path: vec![key.to_owned()],
            message: message.into(),
        }
    }

    /// Of something in a table.
    pub(super) fn within(table: &str, key: &str, message: impl Into<String>) -> Mistake {
        Mistake {
            path: vec![table.to_owned(), key.to_owned()],
            message: message.into(),
        }
    }

    /// `LINE: MESSAGE`, for the file with this text.
    pub(super) fn told(&self, text: &str) -> String {
        let entries = entries(text);
        let own = entries.iter().find(|entry| entry.path == self.path);
        let line = line(text, own.map_or(0, |entry| entry.start));
        format!("{line}: {}", self.message)
    }
}

/// The same of what the parser found.
pub(super) fn told(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(0, |span| span.start);
    // What serde says of a word that is none.
    let message = match error.message().trim() {
        "wanted string or table" => "expected a string",
        message => message,
    };
    let message = with_way_out(message);
    let line = line(text, start);
    let entries = entries(text);
    let names_its_key = message.starts_with('`') || message.starts_with("unknown key");
    match entries.iter().rfind(|entry| entry.start <= start) {
        Some(entry) if !names_its_key => format!("{line}: `{}`: {message}", entry.path.join(".")),
        _ => format!("{line}: {message}"),
    }
}

fn line(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

struct Entry {
    path: Vec<String>,
    start: usize,
}

/// What has a key, in the order of the file; nothing where that is no TOML.
fn entries(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        collect(&[], table.get_ref(), &mut found);
    }
    found.sort_by_key(|entry| entry.start);
    found
}

fn collect(above: &[String], table: &DeTable<'_>, found: &mut Vec<Entry>) {
    for (key, value) in table {
        let path = [above, &[key.get_ref().to_string()]].concat();
        if let DeValue::Table(table) = value.get_ref() {
            collect(&path, table, found);
        }
        let start = key.span().start;
        found.push(Entry { path, start });
    }
}

/// The parser's message; for an unknown key the known one that it resembles, or all of them.
fn with_way_out(message: &str) -> String {
    let Some(names) = message.strip_prefix("unknown field `") else {
        return format!("{message}; `verify init` writes a commented one");
    };
    // The names in backticks: first the unknown one, then those that are known.
    let names: Vec<&str> = names
        .split('`')
        .step_by(2)
        .filter(|name| !name.is_empty())
        .collect();
    let (unknown, known) = (names[0], &names[1..]);
    match nearest(unknown, known.iter().copied()) {
        Some(name) => format!("unknown key `{unknown}`: did you mean `{name}`?"),
        None => format!(
            "unknown key `{unknown}`: known are `{}`",
            known.join("`, `")
        ),
    }
}
