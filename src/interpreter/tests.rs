//! The choice among several Pythons; and [`Fake`], with which all tests of this directory play a Python.

use std::process::Command;

use super::facts::{Facts, PROBE_MARK};
use super::*;

const THE_ANSWER: &str = r#"{"implementation": "cpython", "version": [3, 12, 9], "full_version": "3.12.9",
        "executable": "ROOT/bin/python", "base_executable": "ROOT/bin/python", "prefix": "ROOT", "base_prefix": "ROOT",
        "purelib": "ROOT/site", "library": ["ROOT/lib"], "path": ["ROOT/lib", "ROOT/site", "ROOT/own"], "sites": ["ROOT/site", "ROOT/more"], "free_threaded": false, "abi_flags": "", "multiarch": "x86_64-linux-gnu",
        "library_names": ["libpython3.12.so.1.0"], "library_folders": ["/install/lib"]}"#;

/// A folder with `bin/python`, a script that answers as told, and whatever else a test puts there.
pub(super) struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    pub(super) fn new() -> Self {
        let fake = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fake.put("lib/libpython3.12.so.1.0", "");
        fake.answers(&[]);
        fake
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

    /// Written by another process: a file that this one holds open for writing, even in a child
    /// that another test's thread is just starting, does not execute ("text file busy").
    pub(super) fn script(&self, name: &str, text: &str) -> PathBuf {
        let file = self.root().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
        let status = Command::new("/bin/sh")
            .args(["-c", write])
            .arg(&file)
            .arg(text)
            .status();
        assert!(status.unwrap().success());
        file
    }

    pub(super) fn answer(&self, changes: &[(&str, &str)]) -> String {
        let mut answer = THE_ANSWER
            .replace('\n', " ")
            .replace("ROOT", self.root().to_str().unwrap());
        for (old, new) in changes {
            assert!(answer.contains(old), "{old}");
            answer = answer.replace(old, new);
        }
        answer
    }

    pub(super) fn answers(&self, changes: &[(&str, &str)]) -> PathBuf {
        self.script(
            "bin/python",
            &format!("echo '{PROBE_MARK}{}'", self.answer(changes)),
        )
    }

    pub(super) fn discover(
        &self,
        request: &str,
        env: &[(&str, &str)],
    ) -> Result<Interpreter, Error> {
        let env = |name: &str| {
            env.iter()
                .find(|(one, _)| *one == name)
                .map(|(_, value)| OsString::from(value))
        };
        let request = (!request.is_empty()).then(|| Request::parse(request));
        discover(
            request.as_ref(),
            &self.root(),
            &env,
            &self.root().join("cache"),
        )
    }

    pub(super) fn refusal(&self, request: &str) -> String {
        let error = self.discover(request, &[]).unwrap_err().to_string();
        error.replace(self.root().to_str().unwrap(), "ROOT")
    }

    pub(super) fn surroundings(&self) -> Surroundings {
        Surroundings::new(&self.root(), &|_| None)
    }

    pub(super) fn facts(&self) -> Facts {
        serde_json::from_str(&self.answer(&[])).unwrap()
    }
}

#[test]
fn a_release_is_preferred_to_a_newer_pre_release() {
    let fake = Fake::new();
    let python = |version, full: &str| {
        let facts = Facts {
            version,
            full_version: full.to_owned(),
            ..fake.facts()
        };
        let facts = Facts {
            library_names: vec!["libpython3.12.so.1.0".to_owned()],
            ..facts
        };
        admit(Path::new("python"), &facts, Source::Flag).unwrap()
    };
    let (old, new) = (
        python((3, 9 + 1, 2), "3.10.2"),
        python((3, 10, 13), "3.10.13"),
    );
    let (release, alpha) = (python((3, 14, 0), "3.14.0"), python((3, 15, 0), "3.15.0a2"));
    let preferred =
        |one: &Interpreter, two: &Interpreter| one.clone().or_preferred(Some(two.clone()));
    assert_eq!(preferred(&new, &old), new);
    assert_eq!(preferred(&old, &new), new);
    assert_eq!(preferred(&release, &alpha), release);
    assert_eq!(preferred(&alpha, &release), release);
    let again = Interpreter {
        prefix: PathBuf::from("/again"),
        ..new.clone()
    };
    assert_eq!(preferred(&again, &new), new);
    assert_eq!(alpha.by_version(&release), Ordering::Greater);
}

#[test]
fn the_order_of_choice() {
    let fake = Fake::new();
    let root = fake.root();
    let at = |name: &str| {
        let python = root
            .join(name)
            .join("bin/python")
            .to_str()
            .unwrap()
            .to_owned();
        let own = format!("\"executable\": \"{}/bin/python\"", root.display());
        let answer = fake.answer(&[(&own, &format!("\"executable\": \"{python}\""))]);
        fake.script(
            &format!("{name}/bin/python"),
            &format!("echo '{PROBE_MARK}{answer}'"),
        )
    };
    let active = at("active");
    let near = at(".venv");
    let on_path = at("usual");
    let path = root.join("usual/bin").to_str().unwrap().to_owned();
    let virtual_env = root.join("active").to_str().unwrap().to_owned();
    let choose = |env: &[(&str, &str)]| {
        let python = fake.discover("", env).unwrap();
        (python.executable, python.source)
    };
    let both = [("PATH", &*path), ("VIRTUAL_ENV", &*virtual_env)];
    assert_eq!(choose(&both), (active, Source::VirtualEnv));
    assert_eq!(
        choose(&[("PATH", &*path), ("VIRTUAL_ENV", "")]),
        (near, Source::DotVenv)
    );
    fs::remove_dir_all(root.join(".venv")).unwrap();
    assert_eq!(choose(&both[..1]), (on_path, Source::Path));
    assert!(matches!(
        fake.discover("", &[("PATH", "/nowhere")]),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn a_venv_above_the_project_and_a_broken_one() {
    let fake = Fake::new();
    let root = fake.root();
    std::os::unix::fs::symlink(&root, root.join(".venv")).unwrap();
    fs::create_dir_all(root.join("docs/book")).unwrap();
    let discover = || {
        discover(
            None,
            &root.join("docs/book"),
            &|_| None,
            &root.join("cache"),
        )
    };
    assert_eq!(discover().unwrap().source, Source::DotVenv);
    fs::remove_file(root.join(".venv")).unwrap();
    fake.put(".venv/pyvenv.cfg", "home = /gone");
    let broken = discover().unwrap_err().to_string();
    assert!(
        broken.contains("no such file in the environment that `.venv` names"),
        "{broken}"
    );
    fs::create_dir_all(root.join(".venv/bin")).unwrap();
    let python = root.join(".venv/bin/python");
    let is_link_to_what_is_gone = || {
        let broken = discover().unwrap_err().to_string();
        assert!(
            broken.contains("it is a link to `/gone/python3`, which is not there"),
            "{broken}"
        );
    };
    std::os::unix::fs::symlink("/gone/python3", &python).unwrap();
    is_link_to_what_is_gone();
    // As `venv` makes them: by way of another one, which is there.
    fs::rename(&python, root.join(".venv/bin/python3")).unwrap();
    std::os::unix::fs::symlink("python3", &python).unwrap();
    is_link_to_what_is_gone();
}

#[test]
fn what_is_asked_for_and_not_there() {
    let fake = Fake::new();
    let message = fake.refusal("3.77");
    assert!(
        message.starts_with("no python found for version `3.77`: "),
        "{message}"
    );
    let message = fake.refusal("./nothing");
    assert!(
        message.starts_with("no python found for `./nothing`, which is not there: "),
        "{message}"
    );
    let message = fake.refusal("phyton");
    assert!(
        message.starts_with("no python found for `phyton`, which is no version such as `3.12`"),
        "{message}"
    );
    let message = fake.refusal("3.13t");
    assert!(
        message.starts_with("python `3.13t` is a free-threaded build"),
        "{message}"
    );
    let message = fake.refusal("2.6");
    assert!(message.starts_with("python `2.6` is too old"), "{message}");
}

#[test]
fn the_newest_patch_wins_among_all_folders() {
    let fake = Fake::new();
    let root = fake.root();
    for (folder, patch) in [
        ("one/bin", 7),
        ("pyenv/versions/3.88.10/bin", 10),
        ("pyenv/versions/3.88.9/bin", 9),
    ] {
        let file = root.join(folder).join("python3.88");
        let own = format!("\"executable\": \"{}/bin/python\"", root.display());
        let answer = fake.answer(&[
            ("[3, 12, 9]", &format!("[3, 88, {patch}]")),
            ("\"3.12.9\"", &format!("\"3.88.{patch}\"")),
            (&own, &format!("\"executable\": \"{}\"", file.display())),
        ]);
        fake.script(
            file.strip_prefix(&root).unwrap().to_str().unwrap(),
            &format!("echo '{PROBE_MARK}{answer}'"),
        );
    }
    // A broken one of the same version is no hindrance where another works.
    fake.script("two/bin/python3.88", "exit 3");
    let path = format!("{0}/two/bin:{0}/one/bin", root.display());
    let pyenv = root.join("pyenv").to_str().unwrap().to_owned();
    let env = [("PATH", &*path), ("PYENV_ROOT", &*pyenv)];
    assert_eq!(fake.discover("3.88", &env).unwrap().full_version, "3.88.10");
    assert_eq!(
        fake.discover("3.88.9", &env).unwrap().full_version,
        "3.88.9"
    );
    assert_eq!(
        fake.discover("3.88", &env[..1]).unwrap().full_version,
        "3.88.7"
    );
    let only_broken = format!("{}/two/bin", root.display());
    let error = fake
        .discover("3.88", &[("PATH", &only_broken)])
        .unwrap_err();
    assert!(matches!(error, Error::ProbeFailed { .. }), "{error}");
}
