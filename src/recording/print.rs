//! Recording → text.

use std::fmt::Write as _;

use super::{Expected, FORMAT, Overlay, Recording, parse};
use crate::normalize::Rule;

/// Begins each file.
const MARK: &str = "# verify recording";

/// Whether a file was written here, whatever has become of it since, or could have been.
pub fn is_recording(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.lines().any(|line| line.starts_with(MARK)) || parse(&text).is_ok()
}

/// Writes a file. The same recording always gives the same bytes.
pub fn print(recording: &Recording) -> String {
    let mut out = format!("{MARK}, format {FORMAT}\nformat = {FORMAT}\n");
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
            out.push_str(&string(&variant.versions.to_string()));
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
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
