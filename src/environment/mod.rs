//! Provides the book's packages: an environment for each interpreter, filled from a requirements
//! file once and taken as it is until the pins change.
//!
//! An environment cannot be built aside and moved into place: its scripts and its `pyvenv.cfg` hold
//! absolute paths. So its folder is named for its contents and built where it will stay. What makes
//! it whole is the stamp, which is written last; a folder without one is the remains of a run that
//! was interrupted, and the environment of the former pins stands in another folder, untouched. uv does
//! the installing, because it needs a second where pip needs a minute, and is brought if it is missing.

mod installer;
mod pins;
mod plan;
mod uv;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::interpreter::{self, Interpreter, Source};
use crate::kept;
use installer::lock;
use pins::Pins;
use plan::{Plan, discard, tidy, write_stamp};
use uv::make;

/// What takes time while an environment is provided. Nothing is reported where nothing changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Another run is at it.
    Waiting,
    FetchingUv,
    Creating,
    /// As many packages as the requirements name; more may come with them.
    Installing {
        packages: usize,
    },
    Done {
        seconds: f64,
    },
}

/// Why the book's packages could not be provided.
#[derive(Debug)]
pub enum Error {
    /// A requirements or constraints file; `named_at` is the line of the file that asks for it.
    Unreadable {
        file: PathBuf,
        named_at: Option<(PathBuf, usize)>,
        error: io::Error,
    },
    /// Something below `.verify`.
    Unwritable { path: PathBuf, error: io::Error },
    /// There is no uv, and neither pip nor `venv` of this Python could bring it.
    NoUv { python: PathBuf, printed: String },
    /// uv could not make the empty environment.
    NotCreated { folder: PathBuf, printed: String },
    /// uv could not install what the requirements name.
    NotInstalled {
        requirements: PathBuf,
        printed: String,
    },
    /// The environment was made, and its Python does not work.
    Unusable(interpreter::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable {
                file,
                named_at,
                error,
            } => {
                write!(
                    out,
                    "`{}` cannot be read, the system says `{error}`: ",
                    file.display()
                )?;
                match named_at {
                    Some((by, line)) => {
                        write!(out, "write it, or correct `{}`:{line}", by.display())
                    }
                    None => out.write_str("write it, or correct `requirements` in `verify.toml`"),
                }
            }
            Self::Unwritable { path, error } => write!(
                out,
                "`{}` cannot be written, the system says `{error}`: make the folder writable, or delete it if it is in the way",
                path.display()
            ),
            Self::NoUv { python, printed } => write!(
                out,
                "no `uv` on `PATH`, and `{}` could not bring one:\n{printed}\n\
                 install uv (https://docs.astral.sh/uv/), or give this python its pip, \
                 by `apt install python3-pip` or `python -m ensurepip`, and a package index that it reaches",
                python.display()
            ),
            Self::NotCreated { folder, printed } => write!(
                out,
                "the environment `{}` could not be made:\n{printed}\n\
                 see that the package index is reachable (`UV_DEFAULT_INDEX` sets another), and try again",
                folder.display()
            ),
            Self::NotInstalled {
                requirements,
                printed,
            } => write!(
                out,
                "the packages of `{}` could not be installed:\n{printed}\n\
                 correct the pins, or see that the package index is reachable (`UV_DEFAULT_INDEX` sets another); \
                 environments made before are as they were",
                requirements.display()
            ),
            Self::Unusable(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unusable(error) => error.source(),
            // What the system or the installer said is part of the message.
            Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::NoUv { .. }
            | Self::NotCreated { .. }
            | Self::NotInstalled { .. } => None,
        }
    }
}

/// The environment of `base` with all that `requirements` names, below `project_root`'s `.verify`.
///
/// It is made when the text of the requirements (files that they name included), the interpreter or
/// the folder is another than before. What a local path in them leads to is not looked into. `cache`
/// is the folder of [`interpreter::discover`]. Installers inherit this process's environment, where
/// indexes, proxies and certificates are set. Two runs at once make one environment.
pub fn provide(
    base: &Interpreter,
    requirements: &Path,
    project_root: &Path,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Interpreter, Error> {
    let root = fs::canonicalize(project_root).map_err(unwritable(project_root))?;
    let pins = Pins::read(&root.join(requirements), &root)?;
    let plan = Plan::new(base, pins, &root);
    let probe = || {
        let python = plan.python();
        interpreter::at(
            &python,
            Source::Managed,
            &root,
            &|name| std::env::var_os(name),
            cache,
        )
        .map(|python| python.asked_as(base))
        .map_err(Error::Unusable)
    };
    if plan.is_made() {
        return probe();
    }
    fs::create_dir_all(&plan.group).map_err(unwritable(&plan.group))?;
    let kept = root.join(".verify");
    kept::make(&kept).map_err(unwritable(&kept))?;
    let lock = lock(&plan.group.join("lock"), progress)?;
    if plan.is_made() {
        return probe();
    }
    let start = Instant::now();
    discard(&plan.folder)?;
    let made = make(&plan, base, &lock, progress).and_then(|()| probe());
    match made {
        Ok(_) => write_stamp(&plan)?,
        // What is left of a failed try is of no use; a folder that cannot be deleted has no stamp either.
        Err(_) => drop(discard(&plan.folder)),
    }
    if made.is_ok() {
        tidy(&plan);
        progress(Progress::Done {
            seconds: start.elapsed().as_secs_f64(),
        });
    }
    made
}

/// The environment that [`provide`] would give, if it is there already; makes nothing.
pub fn made(
    base: &Interpreter,
    requirements: &Path,
    project_root: &Path,
    cache: &Path,
) -> Option<Interpreter> {
    let root = fs::canonicalize(project_root).ok()?;
    let pins = Pins::read(&root.join(requirements), &root).ok()?;
    let plan = Plan::new(base, pins, &root);
    let environment = |name: &str| std::env::var_os(name);
    let made = plan
        .is_made()
        .then(|| interpreter::at(&plan.python(), Source::Managed, &root, &environment, cache));
    Some(made?.ok()?.asked_as(base))
}

/// Name and version of each distribution that is installed for an interpreter, by name.
/// Names are normalised as on PyPI: `typing_extensions` is `typing-extensions`.
pub fn installed(interpreter: &Interpreter) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(&interpreter.purelib) else {
        return Vec::new();
    };
    let mut distributions: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // The version has no dash in it, which old names may have.
            let (name, version) = name.strip_suffix(".dist-info")?.rsplit_once('-')?;
            Some((normalised(name), version.to_owned()))
        })
        .collect();
    distributions.sort();
    distributions
}

/// <https://packaging.python.org/en/latest/specifications/name-normalization/>
fn normalised(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    |error| Error::Unwritable { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) struct Project {
        folder: tempfile::TempDir,
    }

    impl Project {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let project = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            for (name, text) in files {
                project.put(name, text);
            }
            project
        }

        pub(super) fn root(&self) -> PathBuf {
            self.folder.path().canonicalize().unwrap()
        }

        pub(super) fn put(&self, name: &str, text: &str) -> PathBuf {
            let file = self.root().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            file
        }

        pub(super) fn pins(&self) -> Result<Pins, Error> {
            Pins::read(&self.root().join("requirements.txt"), &self.root())
        }

        pub(super) fn python(&self) -> Interpreter {
            Interpreter {
                executable: self.root().join("bin/python"),
                version: (3, 12, 9),
                full_version: "3.12.9".to_owned(),
                implementation: "cpython".to_owned(),
                libpython: self.root().join("lib/libpython3.12.so.1.0"),
                prefix: self.root(),
                base_executable: self.root().join("bin/python"),
                purelib: self.root().join("site"),
                library: Vec::new(),
                packages: Vec::new(),
                path: Vec::new(),
                source: Source::Flag,
                asked: None,
            }
        }

        pub(super) fn plan(&self) -> Plan {
            Plan::new(&self.python(), self.pins().unwrap(), &self.root())
        }

        /// What uv would leave, whole or not.
        pub(super) fn made(plan: &Plan) {
            fs::create_dir_all(plan.folder.join("bin")).unwrap();
            fs::write(plan.python(), "").unwrap();
        }
    }

    #[test]
    fn distributions_are_read_from_folder_names() {
        let project = Project::new(&[
            ("site/six-1.17.0.dist-info/METADATA", ""),
            ("site/typing_extensions-4.12.2.dist-info/METADATA", ""),
            ("site/Jaraco.Text-1.0rc1.dist-info/METADATA", ""),
            ("site/old-name-2.0.dist-info/METADATA", ""),
            ("site/six.py", ""),
            ("site/broken.dist-info/METADATA", ""),
            ("site/legacy-1.0.egg-info/PKG-INFO", ""),
        ]);
        let expected = [
            ("jaraco-text", "1.0rc1"),
            ("old-name", "2.0"),
            ("six", "1.17.0"),
            ("typing-extensions", "4.12.2"),
        ];
        let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(installed(&project.python()), expected);
        let nowhere = Interpreter {
            purelib: PathBuf::from("/nowhere"),
            library: Vec::new(),
            packages: Vec::new(),
            ..project.python()
        };
        assert_eq!(installed(&nowhere), []);
    }
}
