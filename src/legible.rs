//! What people read, whoever wrote it: nothing in it that a terminal would obey, and nothing that cannot be seen.
//!
//! Names, ids, attributes, messages, configuration: all of it may be a stranger's, who wants no more than that somebody
//! looks at a change. So each terminal, log and file that people read is written through [`Legible`], whatever is
//! written; `tests/tidy.rs` sees to it. Whether a newline is ours or part of a name, it cannot know: [`one_line`] is for
//! names and messages, where they come into a line.
//!
//! What programs read keeps the true text, and escapes it as its format does.

use std::io::{self, Write};
use std::path::Path;

/// Characters that show nothing by themselves, those included that a terminal obeys: controls, what turns the direction
/// of writing, and all that Unicode says may be ignored where it is not known.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || is_selector(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Chooses how the character before it looks.
fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}')
}

/// Whether a character that is unseen by itself makes one with what stands before it, as in emoji of several
/// characters. One of each: a row of them would be a text that nobody sees.
fn belongs_to(before: char, c: char) -> bool {
    match c {
        '\u{fe0f}' if before.is_ascii_digit() || matches!(before, '#' | '*') => true,
        '\u{200c}' | '\u{200d}' => {
            !before.is_ascii() && (is_selector(before) || !is_unseen(before))
        }
        c => is_selector(c) && !before.is_ascii() && !is_unseen(before),
    }
}

/// Escapes what is unseen. Tabs stay, and newlines where they are told to.
struct Escaping {
    keeps_newlines: bool,
    /// What was written last; something that nothing belongs to if that was an escape.
    before: char,
}

impl Escaping {
    const NOTHING: char = ' ';

    fn escaped(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            let stays = c == '\t' || (c == '\n' && self.keeps_newlines);
            if stays || !is_unseen(c) || belongs_to(self.before, c) {
                out.push(c);
                self.before = c;
            } else {
                out.extend(c.escape_default());
                self.before = Escaping::NOTHING;
            }
        }
        out
    }
}

/// A text as part of one line.
pub fn one_line(text: &str) -> String {
    let mut escaping = Escaping {
        keeps_newlines: false,
        before: Escaping::NOTHING,
    };
    escaping.escaped(text)
}

/// A path as part of one line.
pub fn path(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// A text that may have several lines, of which only the first begins where a line of ours would.
pub fn set_in(text: &str) -> String {
    text.replace('\n', "\n  ")
}

/// A writer for text that people read.
///
/// The styles of this program pass, and no other escape sequence: `write!` hands over each of its arguments by itself,
/// so that a style is a piece which holds nothing else. One that is part of a longer text is escaped with that, also if
/// it is ours.
pub struct Legible<W> {
    out: W,
    escaping: Escaping,
}

impl<W: Write> Legible<W> {
    pub fn new(out: W) -> Legible<W> {
        Legible {
            out,
            escaping: Escaping {
                keeps_newlines: true,
                before: Escaping::NOTHING,
            },
        }
    }
}

impl<W: Write> Write for Legible<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if is_style(piece) {
            self.out.write_all(piece)?;
        } else {
            let text = self.escaping.escaped(&String::from_utf8_lossy(piece));
            self.out.write_all(text.as_bytes())?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bold, dimmed, underlined, one of eight colours, or the end of that. Nothing that hides text or moves it.
fn is_style(piece: &[u8]) -> bool {
    let code = piece.strip_prefix(b"\x1b[");
    let code = code.and_then(|rest| rest.strip_suffix(b"m"));
    matches!(code, Some(b"0" | b"1" | b"2" | b"4" | [b'3', b'0'..=b'7']))
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut Legible::new(&mut out)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, expected) in [
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("\x1b]52;c;aGk=\x07", "\\u{1b}]52;c;aGk=\\u{7}"),
            ("\x1b]8;;http://x\x1b\\y", "\\u{1b}]8;;http://x\\u{1b}\\y"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\rb\x08c\x7f\0", "a\\rb\\u{8}c\\u{7f}\\u{0}"),
            ("a\tb\nc", "a\tb\\nc"),
        ] {
            assert_eq!(one_line(text), expected);
            let kept = expected.replace("\\n", "\n");
            assert_eq!(written(|out| write!(out, "{text}")), kept);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        for c in "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{180b}\u{180e}\u{180f}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\
            \u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{e0001}\u{e0041}\
            \u{e0100}\u{e01ef}\u{85}"
            .chars()
        {
            let expected = format!("a\\u{{{:x}}}b", u32::from(c));
            assert_eq!(one_line(&format!("a{c}b")), expected);
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in [
            "",
            "plain `text`",
            "é e\u{301} 語 ü\u{a0}– …",
            "❤\u{fe0f} 1\u{fe0f}\u{20e3} 👩\u{200d}💻 ❤\u{fe0f}\u{200d}🔥",
            "می\u{200c}خواهم",
        ] {
            assert_eq!(one_line(text), text);
            assert_eq!(
                written(|out| write!(out, "{text}\n\t")),
                format!("{text}\n\t")
            );
        }
    }

    #[test]
    fn a_row_of_what_joins_is_no_part_of_an_emoji() {
        assert_eq!(one_line("❤\u{fe0f}\u{fe01}"), "❤\u{fe0f}\\u{fe01}");
        assert_eq!(one_line("👩\u{200d}\u{200d}"), "👩\u{200d}\\u{200d}");
        assert_eq!(one_line("a\u{200d}\u{200d}"), "a\\u{200d}\\u{200d}");
    }

    #[test]
    fn only_styles_of_this_program_pass() {
        let bad = AnsiColor::Red.on_default().bold();
        let name = "a\x1b[31mb";
        assert_eq!(
            written(|out| writeln!(out, "{bad}error{bad:#}: {name}")),
            "\x1b[1m\x1b[31merror\x1b[0m: a\\u{1b}[31mb\n"
        );
        let hidden = "\x1b[8m";
        assert_eq!(written(|out| write!(out, "{hidden}x")), "\\u{1b}[8mx");
    }

    proptest! {
        #[test]
        fn what_is_legible_stays_as_it_is(text in "[ -~é❤👩\\u{200d}\\u{fe0f}\\u{202e}\\x00-\\x1f]{0,20}") {
            let once = one_line(&text);
            prop_assert_eq!(one_line(&once), once);
        }
    }
}
