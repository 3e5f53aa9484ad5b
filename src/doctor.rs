//! `verify doctor`: what this machine offers, found by trying it, and what to do about what it lacks.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use anstyle::{AnsiColor, Style};
use anyhow::Result;

use crate::commands::Status;
use crate::config::Config;
use crate::host::{Hosts, Options};
use crate::interpreter::{self, Interpreter};
use crate::protocol::Protections;
use crate::sandbox;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const STRONG: Style = Style::new().bold();

/// What each protection means, as its name alone does not say.
const MEANING: [&str; 4] = [
    "examples read only what Python and the book need, and change nothing outside their scratch directory",
    "examples reach nothing but a loopback of their own",
    "examples neither signal, trace nor see processes that are not theirs",
    "examples cannot ask the kernel for what only administrators need",
];

/// Files that container engines put into every container.
const CONTAINERS: &[&str] = &["/.dockerenv", "/run/.containerenv"];

/// `verify doctor`
pub fn doctor() -> Result<Status> {
    let mut out = anstream::stdout();
    let config = Config::find(Path::new("."))?;
    let cache = config.cache_directory();
    let environment = |name: &str| std::env::var_os(name);
    let chosen = interpreter::discover(None, &config.root, &environment, &cache);
    pythons(&chosen, &config, &mut out)?;
    uv(&mut out)?;
    writeln!(out, "\n{STRONG}Sandbox{STRONG:#}")?;
    let Ok(python) = chosen else {
        writeln!(out, "  not tried: that takes a Python")?;
        return Ok(Status::Problems);
    };
    match try_sandbox(&config, &python) {
        Ok(protections) => protections_of(&protections, &mut out)?,
        Err(error) => writeln!(out, "  {BAD}✗{BAD:#} {error:#}")?,
    }
    Ok(Status::Good)
}

fn pythons(
    chosen: &Result<Interpreter, interpreter::Error>,
    config: &Config,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "{STRONG}Pythons{STRONG:#}")?;
    let environment = |name: &str| std::env::var_os(name);
    let mut all = interpreter::all_installed(&config.root, &environment, &config.cache_directory());
    match chosen {
        Ok(python) => {
            all.retain(|other| other.executable != python.executable);
            writeln!(
                out,
                "  {GOOD}✓{GOOD:#} {:8} {} (chosen, by {})",
                python.full_version,
                python.executable.display(),
                python.source
            )?;
        }
        Err(error) => writeln!(out, "  {BAD}✗{BAD:#} none is chosen: {error}")?,
    }
    for python in &all {
        writeln!(
            out,
            "  {GOOD}✓{GOOD:#} {:8} {}",
            python.full_version,
            python.executable.display()
        )?;
    }
    Ok(())
}

fn uv(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{STRONG}uv{STRONG:#}")?;
    let version = Command::new("uv").arg("--version").output();
    match version {
        Ok(answer) if answer.status.success() => {
            let version = String::from_utf8_lossy(&answer.stdout);
            writeln!(out, "  {GOOD}✓{GOOD:#} {}", version.trim())
        }
        _ => writeln!(
            out,
            "  none on `PATH`; where a book has `requirements`, `verify` brings one of its own"
        ),
    }
}

/// What holds for a session that is started now.
fn try_sandbox(config: &Config, python: &Interpreter) -> Result<Protections> {
    let options = Options {
        sandbox: Some(sandbox::setup(config, python, &[])?),
        most_scratch: config.limits.scratch,
        ..Options::default()
    };
    let hosts = Hosts::start(python, options)?;
    Ok(hosts.ready.protections.clone().unwrap_or_default())
}

fn protections_of(protections: &Protections, out: &mut dyn Write) -> io::Result<()> {
    let all = protections.all();
    for ((name, missing), meaning) in all.iter().zip(MEANING) {
        match missing {
            None => writeln!(out, "  {GOOD}✓{GOOD:#} {name:10} {meaning}")?,
            Some(missing) => writeln!(out, "  {BAD}✗{BAD:#} {name:10} {missing}")?,
        }
    }
    if all.iter().all(|(_, missing)| missing.is_none()) {
        return Ok(());
    }
    writeln!(out)?;
    for advice in advice(protections) {
        writeln!(out, "  {advice}")?;
    }
    writeln!(
        out,
        "  `--sandbox=strict` runs nothing until all of it holds; `--sandbox=off` does without"
    )
}

/// What to do about it, as far as the machine shows why.
fn advice(protections: &Protections) -> Vec<&'static str> {
    let all = protections.all();
    let is_lacking = |word: &str| {
        all.iter()
            .any(|(_, text)| text.is_some_and(|text| text.contains(word)))
    };
    let mut found = Vec::new();
    if is_lacking("namespaces") {
        let set = |file: &str| fs::read_to_string(file).unwrap_or_default();
        found.extend(
            sandbox::SETTINGS
                .iter()
                .filter(|(file, value, _)| set(file).trim() == *value)
                .map(|(.., advice)| *advice),
        );
        if CONTAINERS.iter().any(|file| Path::new(file).exists()) {
            found.push(
                "this is a container: start it with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, or `--privileged`",
            );
        }
    }
    if is_lacking("Landlock") {
        found.push(
            "all of Landlock takes Linux 6.12, with `landlock` among the security modules of `/sys/kernel/security/lsm`",
        );
    }
    found
}
