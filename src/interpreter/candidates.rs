//! Which files may be a Python, and what of the environment says where to look for them.
//!
//! None is started here: a name only ever leaves a file out.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What the search depends on besides files, read once so that probes can run on several threads.
pub(super) struct Surroundings {
    /// Resolved: pyenv looks for `.python-version` from here upwards.
    pub(super) project_root: PathBuf,
    path: Vec<PathBuf>,
    pub(super) virtual_env: Option<PathBuf>,
    pyenv_root: Option<PathBuf>,
    uv_pythons: Option<PathBuf>,
    /// Variables that decide which Python a shim stands for, as a probe must see them.
    pub(super) passed_on: Vec<(&'static str, Option<OsString>)>,
}

impl Surroundings {
    pub(super) fn new(project_root: &Path, env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let absolute =
            |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Self {
            project_root: fs::canonicalize(project_root).unwrap_or_else(|_| absolute(project_root)),
            path: set("PATH")
                .map(|path| {
                    std::env::split_paths(&path)
                        .filter(|entry| entry.is_absolute())
                        .collect()
                })
                .unwrap_or_default(),
            virtual_env: set("VIRTUAL_ENV").map(|path| absolute(Path::new(&path))),
            pyenv_root: set("PYENV_ROOT")
                .map(PathBuf::from)
                .or_else(|| below_home(".pyenv")),
            uv_pythons: set("UV_PYTHON_INSTALL_DIR")
                .map(PathBuf::from)
                .or_else(|| set("XDG_DATA_HOME").map(|data| Path::new(&data).join("uv/python")))
                .or_else(|| below_home(".local/share/uv/python")),
            passed_on: ["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION"]
                .map(|name| (name, env(name)))
                .into(),
        }
    }

    /// The folders where Pythons are looked for by version, first come first.
    fn folders(&self) -> Vec<PathBuf> {
        let shims = self.pyenv_root.as_ref().map(|root| root.join("shims"));
        // Shims stand for the installations that come next, and each costs a shell to ask.
        let mut folders: Vec<_> = self
            .path
            .iter()
            .filter(|entry| Some(*entry) != shims.as_ref())
            .cloned()
            .collect();
        if let Some(root) = &self.pyenv_root {
            folders.extend(each_bin(&root.join("versions")));
        }
        if let Some(root) = &self.uv_pythons {
            folders.extend(each_bin(root));
        }
        folders.extend(
            [
                "/usr/bin",
                "/usr/local/bin",
                "/opt/homebrew/bin",
                "/opt/python/bin",
            ]
            .map(PathBuf::from),
        );
        folders.extend(each_bin(Path::new("/opt/python")));
        folders.extend(each_bin(Path::new(
            "/Library/Frameworks/Python.framework/Versions",
        )));
        folders
    }

    pub(super) fn on_path(&self, name: &OsStr) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| is_executable(file))
    }

    /// What decides, besides its own file, which Python a pyenv shim starts; `None` for any other file.
    /// <https://github.com/pyenv/pyenv#understanding-python-version-selection>
    pub(super) fn shim_context(&self, executable: &Path) -> Option<String> {
        let root = self
            .pyenv_root
            .as_ref()
            .filter(|root| executable.parent() == Some(&root.join("shims")))?;
        let local = self
            .project_root
            .ancestors()
            .find_map(|folder| fs::read(folder.join(".python-version")).ok());
        let shared = fs::read(root.join("version")).ok();
        // `3.12` stands for the newest 3.12 that is installed, and installing one changes this folder.
        let installed = fs::metadata(root.join("versions"))
            .ok()
            .map(|folder| (folder.mtime(), folder.mtime_nsec()));
        Some(format!(
            "{:?} {local:?} {shared:?} {installed:?}",
            self.passed_on
        ))
    }
}

/// A file that may be a Python.
pub(super) struct Candidate {
    pub(super) executable: PathBuf,
    /// The minor version in the name of the file that it resolves to. Only good for leaving a file
    /// out: installing a CPython always makes `pythonX.Y`, and asking thirty others takes a second.
    pub(super) hint: Option<(u8, u8)>,
}

pub(super) fn candidates(
    surroundings: &Surroundings,
    worth_asking: impl Fn((u8, u8)) -> bool,
) -> Vec<Candidate> {
    let mut seen = Vec::new();
    let mut candidates = Vec::new();
    for folder in surroundings.folders() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut names: Vec<_> = entries
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| is_python_name(name))
            .collect();
        // `python3.12` before `python3` before `python`: the name that says most is the one to show.
        names.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        for name in names {
            let executable = folder.join(&name);
            let Ok(real) = fs::canonicalize(&executable) else {
                continue;
            };
            if seen.contains(&real) || !is_executable(&real) {
                continue;
            }
            let hint = real.file_name().and_then(minor_version_in);
            seen.push(real);
            if hint.is_none_or(&worth_asking) {
                candidates.push(Candidate { executable, hint });
            }
        }
    }
    candidates
}

/// `python`, `python3` and `python3.12`; nothing of what comes with them, such as `python3-config`.
fn is_python_name(name: &OsStr) -> bool {
    let version = name.to_str().and_then(|name| name.strip_prefix("python"));
    version.is_some_and(|version| version.is_empty() || version.parse::<u8>().is_ok())
        || minor_version_in(name).is_some()
}

fn minor_version_in(name: &OsStr) -> Option<(u8, u8)> {
    let (major, minor) = name.to_str()?.strip_prefix("python")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn each_bin(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut folders: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    folders
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_a_python() {
        for name in ["python", "python3", "python3.12", "python2.7"] {
            assert!(is_python_name(OsStr::new(name)), "{name}");
        }
        for name in [
            "python3.12-config",
            "python3-config",
            "pythonw",
            "ipython",
            "python3.",
            "py",
        ] {
            assert!(!is_python_name(OsStr::new(name)), "{name}");
        }
        assert_eq!(minor_version_in(OsStr::new("python3.12")), Some((3, 12)));
        assert_eq!(minor_version_in(OsStr::new("python3")), None);
    }
}
