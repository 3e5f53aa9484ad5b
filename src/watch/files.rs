//! Which directories are watched, and which of the files there matter.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::inbox::Happened;
use crate::commands::Project;
use crate::{book, cli, config};

/// The directories that are watched: those that are looked through for pages, those with recordings, and those on the
/// way to them.
pub(super) struct Files {
    watcher: RecommendedWatcher,
    /// What is removed or renamed is not watched any longer, even if another has its name then.
    directories: Arc<Mutex<HashSet<PathBuf>>>,
    expected: PathBuf,
    /// By the file that it really is, under which names the project has it: a link is told of by what it leads to.
    names: HashMap<PathBuf, Vec<PathBuf>>,
}

impl Files {
    pub(super) fn new(sender: Sender<Happened>) -> Result<Files> {
        let directories = Arc::new(Mutex::new(HashSet::<PathBuf>::new()));
        let followed = directories.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else {
                return;
            };
            let (is_whole, is_gone) = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (true, false),
                EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                    (false, true)
                }
                // Of a renaming within what is watched, both sides were told already.
                EventKind::Access(_)
                | EventKind::Modify(ModifyKind::Metadata(_) | ModifyKind::Name(RenameMode::Both)) =>
                {
                    return;
                }
                _ => (false, false),
            };
            for path in event.paths {
                if is_gone {
                    lock(&followed).retain(|directory| !directory.starts_with(&path));
                }
                // Nobody is left to tell when the watch is over.
                let _ = sender.send(if is_whole {
                    Happened::Saved(path)
                } else {
                    Happened::Touched(path)
                });
            }
        })
        .context("cannot watch files")?;
        Ok(Files {
            watcher,
            directories,
            expected: PathBuf::new(),
            names: HashMap::new(),
        })
    }

    /// Reads a project, and again as long as there is a directory in which something may have been written
    /// before it was watched.
    pub(super) fn load_and_follow(&mut self, selection: &cli::Selection) -> Result<Project> {
        loop {
            let project = Project::load(selection)?;
            if !self.follow(&project)? {
                return Ok(project);
            }
        }
    }

    /// Watches what this project is made of; whether any of it was not watched before, which is watched on.
    fn follow(&mut self, project: &Project) -> Result<bool> {
        let root = &project.config.root;
        self.expected = root.join(&project.config.expected);
        let pages = project.book.pages.iter();
        let files = pages.flat_map(|page| [Some(&page.file), page.recording.as_ref()]);
        let mut wanted: HashSet<PathBuf> = project.book.directories.iter().cloned().collect();
        wanted.insert(root.clone());
        self.names.clear();
        for file in files.flatten() {
            if let Ok(real) = file.canonicalize() {
                wanted.extend(real.parent().map(Path::to_owned));
                self.names.entry(real).or_default().push(file.clone());
            }
            let above = file.ancestors().skip(1);
            wanted.extend(
                above
                    .take_while(|directory| directory.starts_with(root))
                    .map(Path::to_owned),
            );
            wanted.extend(file.parent().map(Path::to_owned));
        }
        let mut has_new = false;
        for directory in wanted {
            if directory.is_dir() && lock(&self.directories).insert(directory.clone()) {
                self.watcher
                    .watch(&directory, RecursiveMode::NonRecursive)
                    .with_context(|| format!("cannot watch `{}`", directory.display()))?;
                has_new = true;
            }
        }
        Ok(has_new)
    }

    /// What the project calls a file, where it matters.
    pub(super) fn ours<'a>(&'a self, path: &'a PathBuf) -> impl Iterator<Item = &'a PathBuf> {
        let names = self.names.get(path).map(Vec::as_slice);
        let names = names.unwrap_or(std::slice::from_ref(path)).iter();
        names.filter(|name| self.is_ours(name))
    }

    /// Whether a file matters: what else lies beside pages does not, nor what `verify` keeps for itself.
    fn is_ours(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            return false;
        }
        book::is_page(path)
            || name == config::FILE_NAME
            || path.starts_with(&self.expected)
            || path.is_dir()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
