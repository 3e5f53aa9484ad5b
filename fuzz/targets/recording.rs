//! Any text may stand in a recording: reading it never panics, and what was read is printed to read the same.
#![no_main]

#[path = "../../tests/robust/laws.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|text: &str| laws::recordings(text));
