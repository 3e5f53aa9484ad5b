//! Which page and which project a path means that somebody typed: a link is a page of its own, wherever it leads.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};

use super::{Config, FILE_NAME, name_here};

/// Where a path that somebody typed leads.
#[derive(Debug)]
pub struct Place {
    pub config: Config,
    /// The name that a walk through the pages comes to it by: below the project's root, with links as they are.
    pub path: PathBuf,
}

impl Place {
    pub fn of(typed: &Path) -> Result<Place> {
        let (name, itself) = match absolute(typed).and_then(|name| Ok((name.canonicalize()?, name)))
        {
            Ok((itself, name)) => (name, itself),
            Err(_) if std::env::current_dir().is_err() => {
                bail!("the current directory has been removed: change to one that is there")
            }
            Err(error) => bail!("cannot find `{}`: {error}", typed.display()),
        };
        let in_its_directory = match (name.parent(), name.file_name()) {
            (Some(directory), Some(last)) if !itself.is_dir() => {
                directory.canonicalize()?.join(last)
            }
            _ => itself.clone(),
        };
        // A link that no project has among its pages may lead to one that a project has.
        let mut names = vec![name, in_its_directory.clone(), itself];
        names.dedup();
        let mut places = Vec::new();
        for name in &names {
            places.extend(Place::in_project(name)?);
        }
        if places.is_empty() {
            // `pages` may lead out of the project, and what a run says of such a page is typed here.
            let here = Place::in_project(&std::env::current_dir()?)?;
            places.extend(names.into_iter().filter_map(|path| {
                let config = here.as_ref()?.config.clone();
                Some(Place { config, path }).filter(Place::is_among_pages)
            }));
        }
        let found = places.iter().position(Place::is_among_pages);
        let place = places.into_iter().nth(found.unwrap_or_default());
        Ok(place.unwrap_or_else(|| Place {
            config: Config::without_file(&in_its_directory),
            path: in_its_directory,
        }))
    }

    /// In the project of the nearest `verify.toml` at or above.
    fn in_project(path: &Path) -> Result<Option<Place>> {
        let has_one = |above: &&Path| above.join(FILE_NAME).symlink_metadata().is_ok();
        let Some(directory) = path.ancestors().find(has_one) else {
            return Ok(None);
        };
        if !is_project(directory) {
            let file = directory.join(FILE_NAME);
            let what = match fs::read_link(&file) {
                Ok(target) => format!("a link to `{}`, which is no file", target.display()),
                Err(_) => "no file".to_owned(),
            };
            bail!(
                "`{}` is {what}: put one there, or remove it",
                name_here(&file)
            );
        }
        let root = directory.canonicalize()?;
        let below = path.strip_prefix(directory)?;
        Ok(Some(Place {
            path: root.iter().chain(below).collect(),
            config: Config::read(&root.join(FILE_NAME))?,
        }))
    }

    fn is_among_pages(&self) -> bool {
        self.config
            .starts()
            .any(|start| self.path.starts_with(start))
    }
}

/// Whether a directory has a `verify.toml` of its own.
pub fn is_project(directory: &Path) -> bool {
    directory.join(FILE_NAME).is_file()
}

/// A path from the root on without `.` and `..`, in which links stay links.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let mut absolute = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        if component != Component::ParentDir {
            absolute.push(component);
            continue;
        }
        // What stands above a link is above what it leads to.
        if absolute.is_symlink() {
            absolute = absolute.canonicalize()?;
        }
        absolute.pop();
    }
    Ok(absolute)
}
