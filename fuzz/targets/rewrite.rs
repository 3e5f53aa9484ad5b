//! Any output goes into any page without changing a byte that is not ours.
#![no_main]

#[path = "../../tests/robust/laws.rs"]
#[allow(dead_code)]
mod laws;

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| laws::rewriting(input.0, input.1));
