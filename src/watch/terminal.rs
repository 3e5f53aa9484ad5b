//! The keys of a watch, and what it shows: on a terminal with one last line that says what can be done.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::mpsc::Sender;

use anyhow::Result;
use rustix::termios::{LocalModes, OptionalActions, Termios};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::files::Files;
use super::inbox::{Happened, Inbox};
use crate::cli::Color;
use crate::report::{Event, human};
use crate::sinks::{self, Sinks};

const KEYS: &str = "a: run all, f: filter, r: record, q: quit";

const ESCAPE: u8 = 0x1b;

/// Single keys from a terminal, which is as it was when this is dropped.
pub(super) struct Keys {
    before: Termios,
}

impl Keys {
    /// `None` where nobody can press any.
    pub(super) fn read(sender: Sender<Happened>) -> Option<Keys> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        let before = rustix::termios::tcgetattr(io::stdin()).ok()?;
        let mut single = before.clone();
        // Ctrl-C stays what it is.
        single.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &single).ok()?;
        let keys = Keys {
            before: before.clone(),
        };
        follow_signals(before, single, sender.clone()).ok()?;
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            while let Ok(bytes @ [_, ..]) = stdin.fill_buf() {
                let count = bytes.len();
                for key in single_keys(bytes) {
                    if sender.send(Happened::Key(key)).is_err() {
                        return;
                    }
                }
                stdin.consume(count);
            }
        });
        Some(keys)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Leaves the terminal as it was before whatever may end or stop this process, which need not come to drop [`Keys`].
fn follow_signals(before: Termios, single: Termios, sender: Sender<Happened>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let modes = if signal == SIGCONT { &single } else { &before };
            let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, modes);
            match signal {
                SIGQUIT | SIGTSTP => {
                    let _ = emulate_default_handler(signal);
                }
                SIGCONT => {
                    // Nobody is left to tell when the watch is over.
                    let _ = sender.send(Happened::Resumed);
                }
                _ => {}
            }
        }
    });
    Ok(())
}

/// What was pressed, without keys such as arrows, which terminals tell of by several bytes behind an escape.
fn single_keys(mut bytes: &[u8]) -> Vec<u8> {
    let mut keys = Vec::new();
    while let [key, rest @ ..] = bytes {
        bytes = match (*key, rest) {
            (ESCAPE, [b'[', behind @ ..]) => {
                let is_last = |byte: &u8| (0x40..0x7f).contains(byte);
                let end = behind.iter().position(is_last);
                end.map_or(&[], |end| &behind[end + 1..])
            }
            (ESCAPE, [b'O', _, behind @ ..]) => behind,
            (key, rest) => {
                keys.push(key);
                rest
            }
        };
    }
    keys
}

/// A line of our own. It is none of the report.
pub(super) fn say(line: &str) -> io::Result<()> {
    writeln!(sinks::stderr(), "{line}")
}

/// What a watch shows: reports, and on a terminal one last line that says what can be done.
pub(super) struct Screen {
    pub(super) sinks: Sinks,
    pub(super) has_keys: bool,
    /// Which Python runs what is said once.
    pub(super) has_started: bool,
    /// Until then every error is one of how the watch was started.
    pub(super) has_reported: bool,
}

impl Screen {
    pub(super) fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        match event {
            Event::Started(started) if self.has_started => {
                self.sinks.expect(started);
                return Ok(());
            }
            Event::Started(_) => self.has_started = true,
            Event::Finished(_) => self.has_reported = true,
            _ => {}
        }
        self.sinks.event(event)
    }

    pub(super) fn prompt(&mut self, pages: usize) -> io::Result<()> {
        if !self.has_keys {
            return Ok(());
        }
        let pages = human::count(pages, "page");
        let mut out = sinks::stdout(Color::Auto);
        write!(out, "watching {pages}; {KEYS} ")?;
        out.flush()
    }

    pub(super) fn clear_prompt(&mut self) -> io::Result<()> {
        if !self.has_keys {
            return Ok(());
        }
        sinks::clear_line()
    }

    /// Reads a line key by key: `None` if it was given up.
    pub(super) fn ask(
        &mut self,
        question: &str,
        inbox: &mut Inbox,
        files: &Files,
    ) -> Result<Option<String>> {
        let mut typed: Vec<u8> = Vec::new();
        loop {
            self.clear_prompt()?;
            let mut out = sinks::stdout(Color::Auto);
            write!(out, "{question}{}", String::from_utf8_lossy(&typed))?;
            out.flush()?;
            let key = loop {
                if let Some(key) = inbox.key(files)? {
                    break key;
                }
            };
            match key {
                b'\n' | b'\r' => break,
                ESCAPE => {
                    self.clear_prompt()?;
                    return Ok(None);
                }
                0x7f | 0x08 => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
                key if key >= b' ' => typed.push(key),
                _ => {}
            }
        }
        self.clear_prompt()?;
        Ok(Some(String::from_utf8_lossy(&typed).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_several_bytes_are_none_of_ours() {
        for (bytes, keys) in [
            (&b"aq"[..], &b"aq"[..]),
            (b"\x1b", b"\x1b"),
            (b"two\x1b", b"two\x1b"),
            (b"\x1b[Aq", b"q"),
            (b"f\x1b[1;5C\x1bOPr", b"fr"),
            (b"\x1b[", b""),
        ] {
            assert_eq!(single_keys(bytes), keys, "{bytes:?}");
        }
    }
}
