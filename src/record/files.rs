//! Files that are expected: replaced whole, removed with the directories that this empties, and whose nobody is.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::{self, fs::MetadataExt as _, fs::PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::book::{self, Book};
use crate::config::Config;
use crate::recording::{self, Recording};

/// What the names of files begin and end with that will replace others, round so many letters by chance.
const UNFINISHED: (&str, usize, &str) = (".verify-", 16, ".unfinished");

/// Removes what a recorder that was killed had not put in place. Another cannot be at work: recording is
/// locked.
pub(super) fn remove_unfinished(book: &Book) {
    let files = book
        .pages
        .iter()
        .flat_map(|page| std::iter::once(&page.file).chain(&page.recording));
    let directories: BTreeSet<&Path> = files.filter_map(|file| file.parent()).collect();
    for entry in directories
        .into_iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
    {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_unfinished(&entry.file_name().to_string_lossy()) {
            // One that stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file has one of our names, which are longer than what people think of.
fn is_unfinished(name: &str) -> bool {
    let (start, letters, end) = UNFINISHED;
    let chance = name
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end));
    chance.is_some_and(|chance| {
        chance.len() == letters && chance.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Replaces a file in one step: whoever reads it sees the old bytes or the new ones. Its permissions and its owner stay.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let target = &followed(file);
        let directory = target.parent().unwrap_or(Path::new("."));
        // Where a link leads, a directory that is missing may be a disk that is.
        if target == file {
            fs::create_dir_all(directory)?;
        }
        let old = fs::metadata(target).ok();
        let (start, letters, end) = UNFINISHED;
        let mut builder = tempfile::Builder::new();
        builder.prefix(start).rand_bytes(letters).suffix(end);
        if old.is_none() {
            // As any new file, less what the umask takes.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut temporary = builder.tempfile_in(directory)?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        if let Some(old) = old {
            let new = temporary.as_file().metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                // Who may not give it away has it now.
                let _ = unix::fs::fchown(temporary.as_file(), Some(old.uid()), Some(old.gid()));
            }
            temporary.as_file().set_permissions(old.permissions())?;
        }
        temporary.persist(target)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write `{}`; it is as it was", file.display()))
}

/// What a link names is replaced, and the link stays; also where there is nothing yet.
fn followed(file: &Path) -> PathBuf {
    const MOST_LINKS: usize = 40;
    if let Ok(file) = file.canonicalize() {
        return file;
    }
    let mut file = file.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&file) else {
            break;
        };
        file = file.parent().unwrap_or(Path::new(".")).join(target);
    }
    file
}

/// Files that a recording names, beside it. One that would lead elsewhere is nothing that was ever written.
pub(super) fn artifact_paths(file: &Path, recording: &Recording) -> impl Iterator<Item = PathBuf> {
    let is_below = |name: &&String| {
        let mut parts = Path::new(name).components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let names = recording.artifacts().filter(is_below);
    names.map(|name| book::artifact_path(file, name))
}

/// Whether a file lies among those that are expected, not behind a link to somewhere else, and is no recording, which may
/// be that of a page that nobody has asked for.
pub(super) fn is_expected(file: &Path, config: &Config) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let is_file = fs::symlink_metadata(file).is_ok_and(|file| file.is_file());
    let directory = file.parent().and_then(real);
    let all = real(&config.root.join(&config.expected));
    let is_below = directory
        .zip(all)
        .is_some_and(|(directory, all)| directory.starts_with(all));
    is_file && is_below && !is_recording(file)
}

fn is_recording(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| recording::is_recording(&bytes))
}

/// Removes an expected file, and the directories that this leaves empty.
pub(super) fn remove(file: &Path, config: &Config) -> Result<PathBuf> {
    fs::remove_file(file).with_context(|| format!("cannot remove `{}`", file.display()))?;
    let top = config.root.join(&config.expected);
    let above = file.ancestors().skip(1);
    for directory in
        above.take_while(|directory| **directory != *top && directory.starts_with(&top))
    {
        // What is not empty stays.
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
    Ok(file.to_owned())
}

/// Recordings of pages that are not there any more. Other files are somebody's: an example may even have made them.
pub fn orphaned_files(book: &Book, config: &Config) -> Vec<PathBuf> {
    if !config.is_project {
        return Vec::new();
    }
    let known: HashSet<&PathBuf> = book.recordings().collect();
    walkdir::WalkDir::new(config.root.join(&config.expected))
        .sort_by_file_name()
        .into_iter()
        .flatten()
        .map(walkdir::DirEntry::into_path)
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
                && !known.contains(path)
        })
        .filter(|path| is_recording(path))
        .collect()
}

/// As [`orphaned_files`], of the pages as they are now: one may have come with its recording. Where some cannot be read,
/// nobody knows whose theirs are. With each stands the directory of its page where that is there and holds no page at
/// all.
pub(super) fn orphaned_now(config: &Config) -> Vec<(PathBuf, Option<PathBuf>)> {
    let book = match Book::read_where(config, &[], &mut |_| false) {
        Ok(book) if book.problems.is_empty() => book,
        _ => return Vec::new(),
    };
    let unfilled = book.unfilled(config);
    let with_directory = |file: PathBuf| {
        let mut unfilled = unfilled.iter();
        let above = unfilled.find(|(_, place)| file.starts_with(place));
        let directory = above.map(|(directory, _)| directory.clone());
        (file, directory)
    };
    let orphans = orphaned_files(&book, config).into_iter();
    orphans.map(with_directory).collect()
}
