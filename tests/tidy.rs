//! Holds the code to its own map: who may use whom, who may write files, and that each file says why it exists.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a failure is told"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules and what they may use of their siblings. `src/lib.rs` says the same in words.
const EDGES: &[(&str, &[&str])] = &[
    ("attributes", &["normalize"]),
    (
        "book",
        &["attributes", "config", "example", "legible", "markdown"],
    ),
    (
        "cache",
        &[
            "attributes",
            "book",
            "config",
            "digest",
            "example",
            "host",
            "interpreter",
            "outcome",
            "protocol",
            "recording",
            "report",
            "sandbox",
            "verdict",
        ],
    ),
    (
        "check",
        &[
            "attributes",
            "book",
            "cache",
            "compare",
            "conditions",
            "config",
            "console",
            "demand",
            "digest",
            "doctest",
            "example",
            "host",
            "interpreter",
            "normalize",
            "outcome",
            "protocol",
            "recording",
            "report",
            "sandbox",
            "schedule",
            "scratch",
            "session",
            "snapshots",
            "state",
            "trace",
            "verdict",
        ],
    ),
    ("cli", &["attributes", "config"]),
    (
        "commands",
        &[
            "attributes",
            "book",
            "cache",
            "check",
            "cli",
            "compare",
            "conditions",
            "config",
            "diagnose",
            "digest",
            "environment",
            "example",
            "interpreter",
            "kept",
            "legible",
            "merge",
            "outcome",
            "proof",
            "protocol",
            "record",
            "recording",
            "report",
            "schedule",
            "shard",
            "sinks",
            "state",
            "verdict",
            "unchanged",
        ],
    ),
    (
        "compare",
        &["matching", "normalize", "outcome", "recording"],
    ),
    ("conditions", &[]),
    ("config", &["attributes", "conditions", "digest", "doctest"]),
    ("console", &[]),
    ("contents", &["processes"]),
    ("demand", &["attributes", "example"]),
    ("diagnose", &["conditions", "matching", "normalize"]),
    ("diff", &["legible"]),
    ("digest", &[]),
    ("doctest", &[]),
    (
        "doctor",
        &[
            "check",
            "cli",
            "commands",
            "config",
            "demand",
            "host",
            "interpreter",
            "legible",
            "protocol",
            "sandbox",
            "sinks",
            "snapshots",
        ],
    ),
    ("environment", &["interpreter", "kept"]),
    ("example", &["attributes", "console", "doctest", "markdown"]),
    (
        "host",
        &[
            "conditions",
            "config",
            "interpreter",
            "outcome",
            "processes",
            "protocol",
            "scratch",
        ],
    ),
    ("interpreter", &["digest", "kept"]),
    ("kept", &[]),
    ("legible", &[]),
    ("markdown", &[]),
    ("matching", &[]),
    (
        "merge",
        &[
            "book",
            "config",
            "interpreter",
            "outcome",
            "protocol",
            "report",
            "state",
            "verdict",
        ],
    ),
    ("normalize", &[]),
    ("outcome", &[]),
    ("processes", &[]),
    (
        "proof",
        &[
            "book",
            "check",
            "conditions",
            "diagnose",
            "example",
            "normalize",
            "outcome",
            "report",
            "verdict",
        ],
    ),
    ("protocol", &["outcome"]),
    ("reads", &["digest", "protocol"]),
    (
        "record",
        &[
            "book",
            "check",
            "compare",
            "conditions",
            "config",
            "diagnose",
            "example",
            "interpreter",
            "matching",
            "normalize",
            "outcome",
            "proof",
            "recording",
            "report",
            "rewrite",
            "verdict",
        ],
    ),
    ("recording", &["matching", "normalize", "outcome"]),
    (
        "report",
        &[
            "book",
            "compare",
            "diagnose",
            "diff",
            "digest",
            "example",
            "interpreter",
            "legible",
            "outcome",
            "protocol",
            "verdict",
        ],
    ),
    (
        "rewrite",
        &[
            "compare",
            "example",
            "markdown",
            "outcome",
            "recording",
            "verdict",
        ],
    ),
    ("sandbox", &["config", "interpreter", "protocol"]),
    ("schedule", &[]),
    ("scratch", &["protocol"]),
    ("session", &["config", "example"]),
    ("shard", &["book", "check", "digest", "report", "state"]),
    ("sinks", &["book", "cli", "legible", "report"]),
    (
        "snapshots",
        &[
            "config",
            "demand",
            "digest",
            "host",
            "interpreter",
            "kept",
            "outcome",
            "protocol",
        ],
    ),
    ("state", &["kept", "report"]),
    (
        "trace",
        &["contents", "host", "outcome", "reads", "scratch"],
    ),
    (
        "unchanged",
        &["book", "cache", "config", "environment", "interpreter"],
    ),
    (
        "verdict",
        &[
            "compare",
            "console",
            "diagnose",
            "doctest",
            "example",
            "matching",
            "normalize",
            "outcome",
            "recording",
        ],
    ),
    (
        "watch",
        &[
            "book",
            "check",
            "cli",
            "commands",
            "config",
            "example",
            "host",
            "interpreter",
            "report",
            "schedule",
            "sinks",
            "state",
            "trace",
        ],
    ),
];

/// Modules that may write files: recordings and pages, scratch directories, what can be made again, reports.
const WRITERS: &[&str] = &[
    "cache",
    "check",
    "commands",
    "contents",
    "environment",
    "host",
    "kept",
    "record",
    "report",
    "scratch",
    "shard",
    "sinks",
    "snapshots",
    "state",
    "trace",
];

const WRITES: &[&str] = &[
    "fs::write",
    "File::create",
    "OpenOptions",
    "fs::rename",
    "fs::remove",
    ".persist(",
];

#[test]
fn modules_use_only_what_the_map_allows() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut faults = Vec::new();
    for (module, file, text) in library_modules() {
        let Some(allowed) = allowed.get(module.as_str()) else {
            faults.push(format!(
                "{file}: `{module}` is not on the map: add it to this test and to src/lib.rs"
            ));
            continue;
        };
        for (number, line) in code(&text) {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if used != module
                    && !used.is_empty()
                    && EDGES.iter().any(|(name, _)| *name == used)
                    && !allowed.contains(&used.as_str())
                {
                    faults.push(format!("{file}:{number}: `{module}` may not use `{used}`"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_map_has_no_edge_that_nobody_uses() {
    let mut faults = Vec::new();
    for (module, allowed) in EDGES {
        let text: String = library_modules()
            .into_iter()
            .filter(|(name, ..)| name == module)
            .map(|(.., text)| text)
            .collect();
        for used in *allowed {
            if !text.contains(&format!("crate::{used}")) {
                faults.push(format!("`{module}` → `{used}`"));
            }
        }
    }
    assert!(faults.is_empty(), "unused: {}", faults.join(", "));
}

#[test]
fn only_the_host_program_names_pyo3() {
    for (file, text) in sources() {
        let is_host = file.contains("/bin/verify-python/");
        for (number, line) in code(&text) {
            assert!(
                is_host || !line.contains("pyo3"),
                "{file}:{number} names pyo3"
            );
        }
    }
}

#[test]
fn only_writers_write_files() {
    for (module, file, text) in library_modules() {
        if WRITERS.contains(&module.as_str()) || file.ends_with("/tests.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            let found = WRITES.iter().find(|write| line.contains(**write));
            assert!(
                found.is_none(),
                "{file}:{number}: `{module}` writes files: {line}"
            );
        }
    }
}

#[test]
fn people_read_only_what_is_made_legible() {
    for (file, text) in sources() {
        if file.contains("/bin/") || file.ends_with("/sinks.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            let is_raw = ["stdout()", "stderr()"].iter().any(|name| {
                line.contains(&format!("io::{name}")) || line.contains(&format!("anstream::{name}"))
            });
            assert!(
                !is_raw || line.contains(".is_terminal()"),
                "{file}:{number} writes past `sinks`: {line}"
            );
        }
    }
}

#[test]
fn every_file_says_why_it_exists() {
    for (file, text) in sources() {
        assert!(text.starts_with("//!"), "{file} has no `//!` header");
    }
}

/// Lines of code with their numbers: no comments, and nothing from the tests at a file's end on.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

/// (module, file, text) of each file of the library.
fn library_modules() -> Vec<(String, String, String)> {
    sources()
        .into_iter()
        .filter(|(file, _)| {
            !file.contains("/bin/") && !file.ends_with("/lib.rs") && !file.ends_with("/main.rs")
        })
        .map(|(file, text)| {
            let below = file.split("src/").last().unwrap_or_default();
            let module = below
                .split('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".rs");
            (module.to_owned(), file.clone(), text)
        })
        .collect()
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    files.sort();
    files
        .into_iter()
        .map(|file| {
            (
                file.display().to_string(),
                fs::read_to_string(&file).unwrap(),
            )
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
