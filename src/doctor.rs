//! `verify doctor`: what this machine offers, found by trying it, and what to do about what it lacks.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use anstyle::{AnsiColor, Style};
use anyhow::Result;

use crate::check;
use crate::cli::Color;
use crate::commands::{Project, Status};
use crate::config::{Config, Preload};
use crate::demand;
use crate::host::{Host, Hosts, Options};
use crate::interpreter::{self, Interpreter};
use crate::legible::{self, one_line, set_in};
use crate::protocol::Protections;
use crate::sandbox;
use crate::sinks;
use crate::snapshots::{self, Fitness};

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
    let mut out = sinks::stdout(Color::Auto);
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
    let hosts = match hosts(&config, &python) {
        Ok(hosts) => hosts,
        Err(error) => {
            writeln!(out, "  {BAD}✗{BAD:#} {}", set_in(&format!("{error:#}")))?;
            return Ok(Status::Good);
        }
    };
    protections_of(
        &hosts.ready.protections.clone().unwrap_or_default(),
        &mut out,
    )?;
    packages(&*hosts.shared()?, &config, &python, &mut out)?;
    Ok(Status::Good)
}

/// Which packages of the book here are imported once for several sessions, and why the others are not.
fn packages(host: &Host, config: &Config, python: &Interpreter, out: &mut dyn Write) -> Result<()> {
    let Ok(project) = Project::load_all() else {
        // What is wrong with the pages is for a check to say.
        return Ok(());
    };
    let plans = check::plan(&project.book, config, &project.selection);
    let demands = check::demands(&project.book, &plans);
    let mut wanted = snapshots::candidates(&config.preload, python, &demands);
    if let Preload::Packages(names) = &config.preload {
        for name in names {
            wanted.entry(name.clone()).or_default();
        }
    }
    writeln!(out, "\n{STRONG}Packages{STRONG:#}")?;
    if wanted.is_empty() {
        writeln!(out, "  none that several sessions import")?;
    }
    let found = snapshots::try_all(host, python, config, wanted.keys().map(String::as_str))?;
    for (name, fitness) in &found {
        let (sessions, name) = (wanted[*name], one_line(name));
        match fitness {
            Fitness::Fit { .. } if sessions > 1 => writeln!(
                out,
                "  {GOOD}✓{GOOD:#} {name:12} imported once for {sessions} sessions"
            )?,
            Fitness::Fit { .. } => writeln!(
                out,
                "  {GOOD}✓{GOOD:#} {name:12} could be imported once, but no two sessions import it"
            )?,
            Fitness::Unfit(reason) => writeln!(
                out,
                "  {BAD}✗{BAD:#} {name:12} imported by each session itself: {}",
                one_line(reason)
            )?,
        }
    }
    Ok(())
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
                legible::path(&python.executable),
                python.source
            )?;
        }
        Err(error) => writeln!(
            out,
            "  {BAD}✗{BAD:#} none is chosen: {}",
            set_in(&error.to_string())
        )?,
    }
    for python in &all {
        writeln!(
            out,
            "  {GOOD}✓{GOOD:#} {:8} {}",
            python.full_version,
            legible::path(&python.executable)
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

/// What sessions that are started now would come from.
fn hosts<'p>(config: &Config, python: &'p Interpreter) -> Result<Hosts<'p>> {
    let options = Options {
        preload: demand::BELOW_PACKAGES.map(str::to_owned).to_vec(),
        environment: config.environment.clone().into_iter().collect(),
        sandbox: Some(sandbox::setup(config, python, &[])?),
        most_scratch: config.limits.scratch,
        ..Options::default()
    };
    Hosts::start(python, options)
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
