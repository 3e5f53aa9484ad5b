//! `verify list`: what becomes of each block, without running any.

use std::io::Write;

use anyhow::Result;

use super::{Project, Status, nothing_to_run};
use crate::book::Page;
use crate::cli;
use crate::example::{Example, Kind};
use crate::legible::one_line;
use crate::report::human::count;
use crate::sinks;

/// `verify list`
pub fn list(arguments: &cli::List) -> Result<Status> {
    let project = Project::load(&arguments.selection)?;
    let mut out = match arguments.format {
        cli::ListFormat::Json => sinks::for_programs(),
        cli::ListFormat::Human => sinks::stdout(cli::Color::Auto),
    };
    let mut listed_any = false;
    for page in &project.book.pages {
        let mut entries: Vec<(usize, serde_json::Value)> = Vec::new();
        for example in &page.examples {
            if project.selection.contains(page, example) {
                let entry = listed(page, example, project.config.console);
                entries.push((example.block.line, entry));
            }
        }
        // The blocks that are no examples belong to no section or id; they are shown with whole pages.
        if entries.len() == page.examples.len() {
            for other in &page.others {
                let becomes = match other.output_of {
                    Some(line) => format!("output of line {line}"),
                    None if other.language.is_empty() => "not Python".to_owned(),
                    None => format!("not Python: {}", other.language),
                };
                entries.push((
                    other.line,
                    serde_json::json!({
                        "page": page.name, "line": other.line, "language": other.language, "becomes": becomes,
                    }),
                ));
            }
        }
        entries.sort_by_key(|(line, _)| *line);
        listed_any |= !entries.is_empty();
        for (line, entry) in entries {
            if arguments.format == cli::ListFormat::Json {
                writeln!(out, "{entry}")?;
                continue;
            }
            let id = entry["id"].as_str().unwrap_or("-");
            writeln!(
                out,
                "{}:{line}  {}  {}",
                one_line(&page.name),
                one_line(id),
                one_line(entry["becomes"].as_str().unwrap_or_default())
            )?;
        }
    }
    for problem in &project.problems {
        writeln!(sinks::stderr(), "error: {problem}")?;
    }
    if !project.problems.is_empty() {
        return Ok(Status::Problems);
    }
    if !listed_any {
        return Ok(nothing_to_run(&project));
    }
    project.check_selection()?;
    Ok(Status::Good)
}

fn listed(page: &Page, example: &Example, runs_consoles: bool) -> serde_json::Value {
    let kind = match &example.kind {
        Kind::Module(_) => "module",
        Kind::Transcript(_) => "transcript",
        Kind::Console(_) => "console",
        Kind::File(_) => "file",
    };
    serde_json::json!({
        "page": page.name,
        "line": example.block.line,
        "id": example.id,
        "section": example.section,
        "heading": example.heading,
        "kind": kind,
        "becomes": becomes(example, runs_consoles),
        "source": example.source(),
    })
}

/// What becomes of an example, as far as its page says it.
pub(super) fn becomes(example: &Example, runs_consoles: bool) -> String {
    let attributes = &example.attributes;
    let mut becomes = match (&attributes.skip, &attributes.norun, &example.kind) {
        (Some(reason), _, _) => format!("skipped: {reason}"),
        (None, Some(reason), _) => format!("not run: {reason}"),
        (None, None, Kind::Module(_)) => "runs".to_owned(),
        (None, None, Kind::Transcript(statements)) => {
            let statements = count(statements.len(), "statement");
            format!("runs as a transcript of {statements}")
        }
        (None, None, Kind::Console(commands)) if runs_consoles => {
            format!("runs {}", count(commands.len(), "command"))
        }
        (None, None, Kind::Console(_)) => {
            "not run: console blocks need `console = true` in `verify.toml`".to_owned()
        }
        (None, None, Kind::File(path)) => format!("is written to {path}"),
    };
    if let Some(name) = &attributes.raises {
        becomes.push_str(&format!(", raises {name}"));
    }
    if let Some(status) = attributes.exits {
        becomes.push_str(&format!(", exits with {status}"));
    }
    if let Some(python) = &attributes.python {
        becomes.push_str(&format!(", on Python {python}"));
    }
    for need in &attributes.requires {
        becomes.push_str(&format!(", needs {need}"));
    }
    becomes
}
