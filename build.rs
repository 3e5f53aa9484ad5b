//! Leaves Python's symbols open in `verify-python`, and only there: which libpython answers them is
//! decided when the program starts, so one build serves every CPython, and none is needed to build.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let open_symbols = if os == "macos" {
        "-Wl,-undefined,dynamic_lookup"
    } else {
        "-Wl,--unresolved-symbols=ignore-all"
    };
    println!("cargo:rustc-link-arg-bin=verify-python={open_symbols}");
}
