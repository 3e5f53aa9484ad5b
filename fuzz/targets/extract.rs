//! Any text is a page: finding its examples never panics or loops, and its offsets slice it.
#![no_main]

#[path = "../../tests/robust/laws.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|page: &str| laws::extracting(page));
