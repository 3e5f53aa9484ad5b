//! What is known before anything runs: the configuration, the pages with their recordings, and which of them are
//! meant.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, Result, bail, ensure};

use crate::book::{At, Book, Keyword, Page, Problem, Selection, Source};
use crate::cache::Cache;
use crate::check::{self, Recordings, SessionPlan};
use crate::cli;
use crate::config::Config;
use crate::digest::Digest;
use crate::record;
use crate::recording::{self, Recording};
use crate::report::Shard;
use crate::shard;
use crate::sinks;
use crate::state::{Durations, LastRun};

/// A book with everything that is known of it before anything runs.
pub(crate) struct Project {
    pub(crate) config: Config,
    pub(crate) book: Book,
    pub(crate) recordings: Recordings,
    /// Of each page with its recording, as the cache knows it.
    pub(super) texts: Vec<Digest>,
    pub(crate) selection: Selection,
    pub(crate) problems: Vec<Problem>,
    /// What was typed. Where that is anything, pages may be missing from `book`.
    pub(super) paths: Vec<PathBuf>,
}

impl Project {
    pub(crate) fn load_all() -> Result<Project> {
        Project::load(&cli::Selection {
            paths: Vec::new(),
            chapter: Vec::new(),
            section: Vec::new(),
            example: Vec::new(),
            keyword: None,
            changed: None,
            failed: false,
        })
    }

    pub(crate) fn load(arguments: &cli::Selection) -> Result<Project> {
        let config = Project::config(arguments)?;
        Project::load_where(config, arguments, &mut |_| true)
    }

    pub(super) fn config(arguments: &cli::Selection) -> Result<Config> {
        let missing: Vec<String> = arguments
            .paths
            .iter()
            .filter(|path| !path.exists())
            .map(|path| format!("`{}`", path.display()))
            .collect();
        match missing.as_slice() {
            [] => {}
            [one] => bail!("{one} does not exist"),
            several => bail!("{} do not exist", several.join(", ")),
        }
        let Some((first, others)) = arguments.paths.split_first() else {
            return Config::find(Path::new("."));
        };
        let config = Config::find(first)?;
        for path in others {
            let other = Config::find(path)?;
            if project_root(&other) != project_root(&config) {
                bail!(
                    "`{}` belongs to {}, `{}` to {}: run `verify` for one after the other",
                    first.display(),
                    project_name(&config),
                    path.display(),
                    project_name(&other)
                );
            }
        }
        Ok(config)
    }

    pub(super) fn load_where(
        config: Config,
        arguments: &cli::Selection,
        is_wanted: &mut dyn FnMut(&Source) -> bool,
    ) -> Result<Project> {
        let book = Book::read_where(&config, &arguments.paths, is_wanted)?;
        let keyword = arguments
            .keyword
            .as_deref()
            .map(Keyword::parse)
            .transpose()
            .map_err(anyhow::Error::msg)?;
        let mut selection = Selection {
            chapters: arguments.chapter.clone(),
            sections: arguments.section.clone(),
            examples: arguments.example.clone(),
            keyword,
            pages: None,
            failed: None,
        };
        if let Some(revision) = &arguments.changed {
            selection.pages = Some(changed_pages(&config, &book, revision)?);
        }
        if arguments.failed {
            selection.failed = Some(LastRun::failed(&config.cache_directory()));
        }
        let mut problems = book.problems.clone();
        let (mut recordings, mut texts) = (Vec::new(), Vec::new());
        for page in &book.pages {
            let (bytes, recording, problem) = read_recording(page);
            texts.push(Cache::text_of(page.text.as_bytes(), bytes.as_deref()));
            recordings.push(recording);
            problems.extend(problem);
        }
        Ok(Project {
            config,
            book,
            recordings,
            texts,
            selection,
            problems,
            paths: arguments.paths.clone(),
        })
    }

    /// Selects a section by its number, or an example.
    pub(super) fn select(&mut self, target: &str) {
        let is_section = target
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_section {
            self.selection.sections.push(target.to_owned());
        } else {
            self.selection.examples.push(target.to_owned());
        }
    }

    /// The examples that are meant, in page order.
    pub(super) fn selected(&self) -> impl Iterator<Item = At> {
        let pages = self.book.pages.iter().enumerate();
        pages.flat_map(|(number, page)| {
            let examples = page.examples.iter().enumerate();
            let selected = examples.filter(|(_, example)| self.selection.contains(page, example));
            selected.map(move |(position, _)| (number, position))
        })
    }

    /// The sessions to run, and which shard of them that is.
    pub(super) fn plans(&self, part: &cli::Part) -> Result<(Vec<SessionPlan>, Option<Shard>)> {
        let plans = check::plan(&self.book, &self.config, &self.selection);
        if !plans.is_empty() {
            self.check_selection()?;
        }
        let Some(shard) = part.shard else {
            ensure!(
                part.durations.is_none(),
                "`--durations` divides a run into shards, and this is the whole of it: give `--shard` as well, or leave it out"
            );
            return Ok((plans, None));
        };
        let mut durations = None;
        if let Some(file) = &part.durations {
            durations = Durations::load(file)?;
            if durations.is_none() {
                writeln!(
                    sinks::stderr(),
                    "`{}` is not there yet: shards have the same number of examples",
                    file.display()
                )?;
            }
        }
        let (plans, shard) = shard::split(&self.book, plans, durations.as_ref(), shard);
        Ok((plans, Some(shard)))
    }

    /// Whatever is asked for has to be there.
    pub(super) fn check_selection(&self) -> Result<()> {
        match self.selection.missing(&self.book).as_slice() {
            [] => Ok(()),
            missing => bail!("{}", missing.join("; ")),
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.selection.is_everything() && self.paths.is_empty()
    }

    pub(crate) fn orphans(&self) -> Vec<String> {
        let here = std::env::current_dir()
            .and_then(|path| path.canonicalize())
            .unwrap_or_default();
        let name = |file: &Path| crate::book::display_name(file, &here);
        let mut orphans: Vec<String> = record::orphaned_files(&self.book, &self.config)
            .iter()
            .map(|file| name(file))
            .collect();
        for (page, recording) in self.book.pages.iter().zip(&self.recordings) {
            if let Some(file) = &page.recording {
                let entries = record::orphaned_entries(page, recording);
                orphans.extend(entries.iter().map(|id| format!("{}: {id}", name(file))));
            }
        }
        orphans
    }
}

fn project_root(config: &Config) -> Option<&Path> {
    config.is_project.then_some(&config.root)
}

fn project_name(config: &Config) -> String {
    let Some(root) = project_root(config) else {
        return "no project".to_owned();
    };
    let here = std::env::current_dir().unwrap_or_default();
    match crate::book::display_name(root, &here) {
        name if name.is_empty() => "the project `.`".to_owned(),
        name => format!("the project `{name}`"),
    }
}

pub(crate) fn read_recording(page: &Page) -> (Option<Vec<u8>>, Recording, Option<Problem>) {
    let Some(file) = &page.recording else {
        return (None, Recording::default(), None);
    };
    let problem = |line, message| {
        let here = std::env::current_dir()
            .and_then(|path| path.canonicalize())
            .unwrap_or_default();
        Some(Problem {
            page: crate::book::display_name(file, &here),
            line,
            message,
        })
    };
    let unreadable = |why: &str| {
        problem(
            None,
            format!(
                "cannot be read: {why}; make it readable, or delete it and run `verify record`"
            ),
        )
    };
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return (None, Recording::default(), None);
        }
        Err(error) => {
            return (None, Recording::default(), unreadable(&error.to_string()));
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        let problem = unreadable("stream did not contain valid UTF-8");
        return (None, Recording::default(), problem);
    };
    match recording::parse(text) {
        Ok(recording) => (Some(bytes), recording, None),
        Err(found) => {
            let problem = problem(Some(found.line), found.message);
            (None, Recording::default(), problem)
        }
    }
}

/// Pages that git says differ from a revision, or whose recordings do; untracked files differ too. A page is compared
/// by its own name, and by that of what it leads to where it is a link.
fn changed_pages(config: &Config, book: &Book, revision: &str) -> Result<Vec<PathBuf>> {
    let git = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Process::new("git")
            .current_dir(&config.root)
            .args(arguments)
            .output()
            .context("`--changed` asks git, which cannot be started")?;
        if !output.status.success() {
            bail!(
                "`--changed={revision}`: git says: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let top = Path::new(OsStr::from_bytes(top.trim_ascii_end()));
    let mut names = git(&[
        // Names are those from the top, and the revision is none of git's options, whatever is set and typed.
        "-c",
        "diff.relative=false",
        "diff",
        "--name-only",
        "--ignore-submodules=none",
        "-z",
        "--end-of-options",
        revision,
        "--",
    ])?;
    names.extend(git(&[
        "ls-files",
        "--others",
        "--exclude-standard",
        "--full-name",
        "-z",
        ":/",
    ])?);
    let changed: HashSet<PathBuf> = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| top.join(OsStr::from_bytes(name)))
        .collect();
    // Of what lies in a submodule, or behind a linked directory, git names that alone.
    let is_named = |file: &Path| file.ancestors().any(|path| changed.contains(path));
    let is_changed =
        |file: &PathBuf| is_named(file) || file.canonicalize().is_ok_and(|file| is_named(&file));
    Ok(book
        .pages
        .iter()
        .filter(|page| is_changed(&page.file) || page.recording.as_ref().is_some_and(is_changed))
        .map(|page| page.file.clone())
        .collect())
}
