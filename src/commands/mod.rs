//! One function per subcommand: from what was typed to an exit status.
//!
//! Most start from a `Project`. The shortest commands stand here.

mod check;
mod list;
mod project;
mod record;
mod run;
mod show;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cache;
use crate::cli::{self, Color};
use crate::config::{self, Config};
use crate::legible::{self, one_line};
use crate::merge;
use crate::report::human::count;
use crate::sinks::{self, Sinks};

pub use check::check;
pub use list::list;
pub(crate) use project::{Project, read_recording};
pub use record::record;
pub(crate) use run::{interpreters, settings};
pub use show::show;

/// How a command ended, where nothing kept it from doing its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Good,
    /// An example is not as expected.
    Failed,
    /// Pages, recordings or their configuration have mistakes.
    Problems,
    NothingToRun,
}

/// `verify init`
pub fn init(arguments: &cli::Init) -> Result<Status> {
    let file = arguments.directory.join(config::FILE_NAME);
    let mut options = fs::OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .open(&file)
        .and_then(|mut new| new.write_all(config::TEMPLATE.as_bytes()));
    match written {
        Ok(()) => {
            writeln!(
                sinks::stdout(Color::Auto),
                "wrote {}; now `verify record` records what your examples print",
                legible::path(&file)
            )?;
            Ok(Status::Good)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!(
                "`{}` exists already; edit it, or remove it first",
                file.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot write `{}`", file.display())),
    }
}

/// `verify merge FILE…`
pub fn merge(arguments: &cli::Merge) -> Result<Status> {
    let reports = arguments
        .reports
        .iter()
        .map(|file| {
            let name = file.display().to_string();
            let text = fs::read_to_string(file).with_context(|| format!("cannot read `{name}`"))?;
            Ok((name, text))
        })
        .collect::<Result<Vec<_>>>()?;
    let merged = merge::read(&reports)?;
    let mut sinks = Sinks::new(&arguments.report, merged.has_several_runs(), false)?;
    let total = merged.tell(&mut |event| sinks.event(event))?;
    sinks.finish()?;
    if let Some(file) = &arguments.durations {
        total.durations.save(file)?;
    }
    if total.summary.total() == 0 {
        writeln!(sinks::stderr(), "error: nothing was run in any shard")?;
        return Ok(Status::NothingToRun);
    }
    let failed = total.summary.failures() > 0 || (total.orphaned && arguments.strict);
    Ok(if failed { Status::Failed } else { Status::Good })
}

/// `verify clean`
pub fn clean(arguments: &cli::Clean) -> Result<Status> {
    let config = Config::find(&arguments.directory)?;
    let directory = cache::directory(&config.cache_directory());
    let (mut out, name) = (sinks::stdout(Color::Auto), legible::path(&directory));
    match fs::remove_dir_all(&directory) {
        Ok(()) => writeln!(out, "removed {name}")?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(out, "nothing was kept in {name}")?;
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot remove `{}`", directory.display()));
        }
    }
    Ok(Status::Good)
}

fn nothing_to_run(project: &Project) -> Status {
    let examples: usize = project
        .book
        .pages
        .iter()
        .map(|page| page.examples.len())
        .sum();
    let missing = project.selection.missing(&project.book);
    let message = if project.book.pages.is_empty() {
        no_page(project)
    } else if examples == 0 {
        let pages = count(project.book.pages.len(), "page");
        format!("{pages} without a Python example")
    } else if project.selection.failed.as_ref().is_some_and(Vec::is_empty) {
        "no example failed in the last run".to_owned()
    } else if !missing.is_empty() {
        format!("{}; `verify list` shows all", missing.join("; "))
    } else if project.selected().next().is_some() {
        "what is selected is there for other examples, as files".to_owned()
    } else {
        format!(
            "none of {} is selected; `verify list` shows them",
            count(examples, "example")
        )
    };
    let message = one_line(&message);
    let _ = writeln!(sinks::stderr(), "error: nothing to run: {message}");
    Status::NothingToRun
}

fn no_page(project: &Project) -> String {
    let (places, how) = if !project.paths.is_empty() {
        (&project.paths, "")
    } else if project.config.is_project && project.config.pages != [Path::new(".")] {
        (
            &project.config.pages,
            ", which `pages` in `verify.toml` names",
        )
    } else {
        (&vec![project.config.root.clone()], "")
    };
    let places: Vec<String> = places
        .iter()
        .map(|place| format!("`{}`", place.display()))
        .collect();
    format!("no Markdown page was found in {}{how}", places.join(", "))
}
