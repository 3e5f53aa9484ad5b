//! What a Python is asked, what it says of itself, and whether that makes it one that examples can run on.
//!
//! The question and [`Facts`] are the two ends of one format: who changes one changes both.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use pep440_rs::Version;
use serde::{Deserialize, Serialize};

use super::error::{Error, Others};
use super::{Interpreter, OLDEST, Source, ordered};

/// Begins the line that carries the answer. `sitecustomize` and `.pth` files may print before it.
pub(super) const PROBE_MARK: &str = "verify-probe:";

/// Asks a Python what it is. Written for every version from 2.7 on, so that an old one is refused
/// by its name rather than by a syntax error. Paths travel as their bytes, one character each:
/// what Python would otherwise print depends on the locale.
pub(super) const PROBE: &str = r#"
import json, os, sys, sysconfig

def raw(path):
    path = path or ""
    return (os.fsencode(path) if hasattr(os, "fsencode") else path).decode("latin-1")

version = sys.version_info
full = "%d.%d.%d" % version[:3]
if version[3] != "final":
    full += {"alpha": "a", "beta": "b", "candidate": "rc"}.get(version[3], "a") + str(version[4])
name = "pypy" if "__pypy__" in sys.builtin_module_names else "cpython"
name = getattr(getattr(sys, "implementation", None), "name", name)
get = sysconfig.get_config_var
site = sys.modules.get("site")
print("\nverify-probe:" + json.dumps({
    "implementation": name,
    "version": version[:3],
    "full_version": full,
    "executable": raw(sys.executable),
    "base_executable": raw(getattr(sys, "_base_executable", None)),
    "prefix": raw(sys.prefix),
    "base_prefix": raw(getattr(sys, "base_prefix", sys.prefix)),
    "purelib": raw(sysconfig.get_path("purelib")),
    "library": [raw(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")],
    "path": [raw(path) for path in sys.path],
    "sites": [raw(path) for path in (getattr(site, "getsitepackages", None) or list)()],
    "free_threaded": bool(get("Py_GIL_DISABLED")),
    "abi_flags": getattr(sys, "abiflags", ""),
    "multiarch": get("MULTIARCH") or "",
    "library_names": [name for name in (get("INSTSONAME"), get("LDLIBRARY")) if name],
    "library_folders": [raw(get(name)) for name in ("LIBDIR", "LIBPL", "PYTHONFRAMEWORKPREFIX") if get(name)],
}))
"#;

/// What a Python says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) implementation: String,
    pub(super) version: (u8, u8, u8),
    pub(super) full_version: String,
    pub(super) executable: Wire,
    pub(super) base_executable: Wire,
    pub(super) prefix: Wire,
    pub(super) base_prefix: Wire,
    pub(super) purelib: Wire,
    pub(super) library: Vec<Wire>,
    pub(super) path: Vec<Wire>,
    /// Where `site` looks for packages and for `.pth` files, whether or not anything is there.
    pub(super) sites: Vec<Wire>,
    pub(super) free_threaded: bool,
    pub(super) abi_flags: String,
    pub(super) multiarch: String,
    pub(super) library_names: Vec<String>,
    pub(super) library_folders: Vec<Wire>,
}

/// A path in JSON: each byte is the character of the same number, so that a path in any encoding survives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(super) struct Wire(pub(super) PathBuf);

impl From<String> for Wire {
    fn from(text: String) -> Self {
        let bytes = text
            .chars()
            .map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?'))
            .collect();
        Self(PathBuf::from(OsString::from_vec(bytes)))
    }
}

impl From<Wire> for String {
    fn from(path: Wire) -> Self {
        path.0
            .as_os_str()
            .as_bytes()
            .iter()
            .map(|&byte| char::from(byte))
            .collect()
    }
}

impl Facts {
    pub(super) fn ordered_version(&self) -> Version {
        ordered(&self.full_version, self.version)
    }

    /// Of `sys.path`, what installers fill. Other places on it are a project's own, put there by a
    /// `.pth` file: an editable installation.
    pub(super) fn packages(&self) -> Vec<PathBuf> {
        let is_installers = |path: &Path| {
            path == self.purelib.0
                || path
                    .file_name()
                    .is_some_and(|name| name == "site-packages" || name == "dist-packages")
        };
        let path = self.path.iter().map(|wire| &wire.0);
        path.filter(|path| is_installers(path)).cloned().collect()
    }
}

/// Turns what a Python said into an interpreter, or into the reason why it is none for us.
pub(super) fn admit(candidate: &Path, facts: &Facts, source: Source) -> Result<Interpreter, Error> {
    // A shim is left behind for what it stands for; an environment's link names itself here.
    let named = &facts.executable.0;
    let executable = if named.is_file() {
        named.clone()
    } else {
        candidate.to_path_buf()
    };
    let others = Others::default();
    if facts.implementation != "cpython" {
        return Err(Error::NotCPython {
            implementation: facts.implementation.clone(),
            executable,
            others,
        });
    }
    let (major, minor, _) = facts.version;
    let version = facts.full_version.clone();
    if (major, minor) < OLDEST {
        return Err(Error::TooOld {
            version,
            executable: Some(executable),
            others,
        });
    }
    if facts.free_threaded {
        return Err(Error::FreeThreaded {
            wanted: executable.display().to_string(),
            others,
        });
    }
    // Up to 3.10, `sys._base_executable` is a guess that can name a file which Debian does not have.
    let base = &facts.base_executable.0;
    let base_executable = if base.is_file() {
        base.clone()
    } else {
        fs::canonicalize(&executable).unwrap_or_else(|_| executable.clone())
    };
    let Some(libpython) = shared_library(facts, &base_executable) else {
        return Err(Error::NoSharedLibrary {
            version,
            executable,
        });
    };
    Ok(Interpreter {
        executable,
        version: facts.version,
        full_version: version,
        implementation: facts.implementation.clone(),
        libpython,
        prefix: facts.prefix.0.clone(),
        base_executable,
        purelib: facts.purelib.0.clone(),
        library: facts.library.iter().map(|wire| wire.0.clone()).collect(),
        packages: facts.packages(),
        path: facts.path.iter().map(|wire| wire.0.clone()).collect(),
        source,
        asked: None,
    })
}

/// The real file of a Python's shared library.
///
/// The installation's own folders come before `LIBDIR`, which is wrong in relocated builds (uv's
/// says `/install/lib`); the loader's own path is not searched at all, because a library of the same
/// name from another installation would load and then run the wrong standard library.
fn shared_library(facts: &Facts, base_executable: &Path) -> Option<PathBuf> {
    let (major, minor, _) = facts.version;
    let stem = format!("libpython{major}.{minor}{}", facts.abi_flags);
    let usual = [".so.1.0", ".so.1", ".so", ".dylib"].map(|end| format!("{stem}{end}"));
    let said = facts
        .library_names
        .iter()
        .filter(|name| Path::new(name).extension().is_none_or(|end| end != "a"));
    let names: Vec<_> = said.cloned().chain(usual).collect();

    let prefix = &facts.base_prefix.0;
    let mut folders = vec![
        prefix.join("lib"),
        prefix.join("lib").join(&facts.multiarch),
        prefix.join("lib64"),
    ];
    let real = fs::canonicalize(base_executable).ok();
    folders.extend(
        real.as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent)
            .map(|root| root.join("lib")),
    );
    for folder in &facts.library_folders {
        folders.push(folder.0.clone());
        folders.push(folder.0.join(&facts.multiarch));
    }
    let mut files = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    files.find_map(|file| fs::canonicalize(file).ok().filter(|real| real.is_file()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::interpreter::tests::Fake;

    #[test]
    fn a_path_of_any_bytes_survives_json() {
        let path = Wire(PathBuf::from(OsStr::from_bytes(b"/caf\xc3\xa9/\xff\"x")));
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Wire>(&json).unwrap(), path);
    }

    #[test]
    fn everything_that_was_said_arrives() {
        let fake = Fake::new();
        let root = fake.root();
        let python = fake.discover(root.to_str().unwrap(), &[]).unwrap();
        let expected = Interpreter {
            executable: root.join("bin/python"),
            version: (3, 12, 9),
            full_version: "3.12.9".to_owned(),
            implementation: "cpython".to_owned(),
            libpython: root.join("lib/libpython3.12.so.1.0"),
            prefix: root.clone(),
            base_executable: root.join("bin/python"),
            purelib: root.join("site"),
            library: vec![root.join("lib")],
            packages: vec![root.join("site")],
            path: ["lib", "site", "own"].map(|name| root.join(name)).into(),
            source: Source::Flag,
            asked: Some(root.display().to_string()),
        };
        assert_eq!(python, expected);
    }

    #[test]
    fn where_the_library_may_be() {
        #[track_caller]
        fn check(file: &str, names: &[&str], expected: Option<&str>) {
            let fake = Fake::new();
            let root = fake.root();
            fs::remove_file(root.join("lib/libpython3.12.so.1.0")).unwrap();
            fake.put(file, "");
            let facts = Facts {
                library_names: names.iter().map(ToString::to_string).collect(),
                library_folders: vec![Wire(root.join("libdir")), Wire(root.join("frameworks"))],
                ..fake.facts()
            };
            let found = shared_library(&facts, &root.join("bin/python"));
            assert_eq!(found, expected.map(|file| root.join(file)));
        }
        let usual = &["libpython3.12.so.1.0", "libpython3.12.so"];
        for place in [
            "lib",
            "lib64",
            "lib/x86_64-linux-gnu",
            "libdir",
            "libdir/x86_64-linux-gnu",
        ] {
            let file = format!("{place}/libpython3.12.so.1.0");
            check(&file, usual, Some(&file));
            check(&file, &["libpython3.12.a"], Some(&file));
        }
        check(
            "lib/libpython3.12.dylib",
            &["libpython3.12.a"],
            Some("lib/libpython3.12.dylib"),
        );
        let framework = "Python.framework/Versions/3.12/Python";
        check(
            &format!("frameworks/{framework}"),
            &[framework],
            Some(&format!("frameworks/{framework}")),
        );
        check("lib/libpython3.12.a", &["libpython3.12.a"], None);
        check("lib/libpython3.11.so.1.0", usual, None);
        check("lib/libpython3.so", usual, None);
    }

    #[test]
    fn the_library_is_named_by_its_real_file() {
        let fake = Fake::new();
        let root = fake.root();
        fs::rename(
            root.join("lib/libpython3.12.so.1.0"),
            root.join("lib/real.so"),
        )
        .unwrap();
        std::os::unix::fs::symlink("real.so", root.join("lib/libpython3.12.so.1.0")).unwrap();
        assert_eq!(
            shared_library(&fake.facts(), &root.join("bin/python")),
            Some(root.join("lib/real.so"))
        );
    }
}
