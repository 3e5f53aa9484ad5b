//! The Pythons of this machine, really asked, and an environment, really made: what the unit tests
//! of `interpreter` and `environment` can only imitate.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use verify::environment::{self, Progress};
use verify::interpreter::{self, Error, Interpreter, Request, Source};

fn this_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The process's environment with one variable changed; an empty value is as good as none.
fn changed(name: &'static str, value: &Path) -> impl Fn(&str) -> Option<OsString> + use<> {
    let value = OsString::from(value);
    move |asked| {
        if asked == name {
            Some(value.clone())
        } else {
            std::env::var_os(asked)
        }
    }
}

/// What a Python says without any of our code in between.
fn ask(executable: &Path, expression: &str) -> String {
    let code = format!("import sys, sysconfig; print({expression})");
    let output = Command::new(executable)
        .args(["-I", "-c", &code])
        .output()
        .expect("a Python starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

fn installed_here(cache: &Path) -> Vec<Interpreter> {
    let all = interpreter::all_installed(cache, &this_environment, cache);
    assert!(
        !all.is_empty(),
        "no usable CPython on this machine: these tests need one with a shared libpython"
    );
    all
}

#[test]
fn each_installed_python_is_what_it_says_and_found_by_every_name() {
    let folder = tempfile::tempdir().unwrap();
    let all = installed_here(folder.path());
    for python in &all {
        assert_eq!(
            ask(&python.executable, "sys.prefix"),
            python.prefix.to_str().unwrap()
        );
        assert_eq!(
            ask(&python.executable, "sys.executable"),
            python.executable.to_str().unwrap()
        );
        assert_eq!(
            ask(&python.executable, "sys.version.split()[0]"),
            python.full_version
        );
        assert_eq!(
            ask(&python.executable, "sysconfig.get_path('purelib')"),
            python.purelib.to_str().unwrap()
        );
        assert!(python.version >= (3, 10, 0));
        assert!(
            python.libpython.is_file() && !python.libpython.is_symlink(),
            "{python:?}"
        );
        let name = python.libpython.file_name().unwrap().to_str().unwrap();
        assert!(
            name.contains(&format!("{}.{}", python.version.0, python.version.1))
                || name.starts_with("Python")
        );

        for request in [&python.full_version, python.executable.to_str().unwrap()] {
            let request = Request::parse(request);
            let found = interpreter::discover(
                Some(&request),
                folder.path(),
                &this_environment,
                folder.path(),
            )
            .unwrap();
            assert_eq!(found.full_version, python.full_version);
        }
        let minor = format!("{}.{}", python.version.0, python.version.1);
        let newest = interpreter::discover(
            Some(&Request::parse(&minor)),
            folder.path(),
            &this_environment,
            folder.path(),
        );
        let expected = all
            .iter()
            .rfind(|other| other.version.1 == python.version.1)
            .unwrap();
        assert_eq!(newest.unwrap().full_version, expected.full_version);
    }
    assert!(all.is_sorted_by_key(|python| python.version));
}

#[test]
fn an_environment_is_chosen_by_its_own_link_and_known_again_without_starting_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let base = installed_here(&root).pop().unwrap();
    let venv = root.join(".venv");
    let made = Command::new(&base.executable)
        .args(["-m", "venv", "--without-pip"])
        .arg(&venv)
        .status()
        .unwrap();
    assert!(made.success());

    let inactive = changed("VIRTUAL_ENV", Path::new(""));
    let near = interpreter::discover(None, &root, &inactive, &root).unwrap();
    assert_eq!(near.executable, venv.join("bin/python"));
    assert_eq!((near.prefix, near.source), (venv.clone(), Source::DotVenv));
    assert!(near.purelib.starts_with(&venv));
    assert_eq!(near.libpython, base.libpython);
    assert_eq!(
        near.base_executable.canonicalize().unwrap(),
        base.base_executable.canonicalize().unwrap()
    );

    let active = changed("VIRTUAL_ENV", &venv);
    assert_eq!(
        interpreter::discover(None, Path::new("/"), &active, &root)
            .unwrap()
            .source,
        Source::VirtualEnv
    );
    let again = interpreter::all_installed(&root, &changed("PATH", &venv.join("bin")), &root);
    assert!(
        again.iter().all(|python| !python.prefix.starts_with(&venv)),
        "{again:?}"
    );

    // What only the cache says shows that the Python was not asked again.
    let copy = root.join("copy/bin/python");
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(base.executable.canonicalize().unwrap(), &copy).unwrap();
    fs::copy(venv.join("pyvenv.cfg"), root.join("copy/pyvenv.cfg")).unwrap();
    let request = Request::Path(root.join("copy"));
    let discover = || interpreter::discover(Some(&request), &root, &inactive, &root).unwrap();
    let first = discover();
    assert_eq!(first.executable, copy);
    let cache = root.join("interpreters.json");
    let told = fs::read_to_string(&cache).unwrap();
    let version = |number: &str| format!(r#""full_version":"{number}""#);
    let other = told.replace(&version(&base.full_version), &version("3.99.0"));
    assert_ne!(other, told);
    fs::write(&cache, other).unwrap();
    assert_eq!(discover().full_version, "3.99.0");
    let later =
        fs::metadata(&copy).unwrap().modified().unwrap() + std::time::Duration::from_secs(1);
    fs::File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert_eq!(discover(), first);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = interpreter::discover(Some(&request), &root, &inactive, &root);
    assert!(matches!(refused, Err(Error::NotExecutable { .. })));
}

#[test]
fn an_old_python_is_refused_by_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let discover = |request: &str| {
        interpreter::discover(
            Some(&Request::parse(request)),
            folder.path(),
            &this_environment,
            folder.path(),
        )
    };
    for old in ["2", "2.7", "3.8", "3.9"] {
        let error = discover(old).unwrap_err();
        assert!(matches!(error, Error::TooOld { .. }), "{error:?}");
    }
    let versions = std::env::var_os("PYENV_ROOT").map(|root| PathBuf::from(root).join("versions"));
    let Some(entries) = versions.and_then(|versions| fs::read_dir(versions).ok()) else {
        return;
    };
    for entry in entries.flatten() {
        let version = entry.file_name().into_string().unwrap();
        let is_old = ["2.", "3.6.", "3.7.", "3.8.", "3.9."]
            .iter()
            .any(|old| version.starts_with(old));
        if is_old {
            let executable = entry.path().join("bin/python");
            let message = discover(executable.to_str().unwrap())
                .unwrap_err()
                .to_string();
            let start = format!(
                "python `{version}` (`{}`) is too old, examples need 3.10 or newer: ",
                executable.display()
            );
            assert!(message.starts_with(&start), "{message}");
            assert!(message.contains("`--python 3."), "{message}");
        }
    }
}

/// Whether pip itself gets at an index from here: then a failure to provide is ours.
fn pip_reaches_an_index(python: &Interpreter, folder: &Path) -> bool {
    let mut pip = Command::new(&python.base_executable);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(folder)
        .arg("six==1.17.0");
    pip.status().is_ok_and(|status| status.success())
}

/// The version that the environment's own Python imports, which has to be the one we list.
fn installed_six(python: &Interpreter) -> String {
    let imported = ask(&python.executable, "__import__('six').__version__");
    let listed = environment::installed(python);
    assert!(
        listed.contains(&("six".to_owned(), imported.clone())),
        "{listed:?}"
    );
    imported
}

#[test]
fn an_environment_is_made_once_and_made_again_when_its_pins_change() {
    let project = tempfile::tempdir().unwrap();
    let root = project.path().canonicalize().unwrap();
    let base = installed_here(&root).pop().unwrap();
    let cache = root.join("cache");
    let pin = |text: &str| fs::write(root.join("requirements.txt"), text).unwrap();
    let provide = || {
        let mut events = Vec::new();
        let made = environment::provide(
            &base,
            Path::new("requirements.txt"),
            &root,
            &cache,
            &mut |progress| events.push(progress),
        );
        (made, events)
    };

    fs::write(root.join("base.txt"), "six==1.17.0\n").unwrap();
    pin("-r base.txt\nnot-a-package; python_version < '3'\n");
    let (first, events) = provide();
    let first = match first {
        Ok(first) => first,
        Err(error) if pip_reaches_an_index(&base, &root) => panic!("{error}"),
        Err(error) => {
            return eprintln!("skipped: neither uv nor pip reaches a package index here: {error}");
        }
    };
    let events: Vec<_> = events
        .into_iter()
        .filter(|event| *event != Progress::FetchingUv)
        .collect();
    let [
        Progress::Creating,
        Progress::Installing { packages: 2 },
        Progress::Done { seconds },
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    assert!(seconds > 0.0);
    assert_eq!(
        (first.source, &first.libpython, first.version),
        (Source::Managed, &base.libpython, base.version)
    );
    assert!(
        first
            .executable
            .starts_with(root.join(".verify/environments"))
    );
    assert_eq!(
        fs::read_to_string(root.join(".verify/.gitignore")).unwrap(),
        "*\n"
    );
    assert_eq!(installed_six(&first), "1.17.0");
    let pip = Command::new(first.executable.with_file_name("pip"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&pip.stdout).contains(first.purelib.to_str().unwrap()),
        "{pip:?}"
    );

    let (again, events) = provide();
    assert_eq!((again.unwrap(), events), (first.clone(), vec![]));

    // Pins that cannot be had leave the former environment as it was.
    pin("six==0.0.0.1\n");
    let message = provide().0.unwrap_err().to_string();
    assert!(
        message.contains("could not be installed") && message.contains("six==0.0.0.1"),
        "{message}"
    );
    pin("-r base.txt\nnot-a-package; python_version < '3'\n");
    let (back, events) = provide();
    assert_eq!((back.unwrap(), events), (first.clone(), vec![]));

    // So does an interrupt: without its stamp nothing passes for whole. Two runs at once make one.
    let folder = first.prefix.clone();
    fs::remove_file(folder.join("verify-stamp.txt")).unwrap();
    fs::remove_dir_all(first.purelib.join("six-1.17.0.dist-info")).unwrap();
    let both: Vec<_> = std::thread::scope(|scope| {
        let runs = [scope.spawn(provide), scope.spawn(provide)];
        runs.into_iter()
            .map(|run| run.join().expect("a run does not panic"))
            .collect()
    });
    let creations = both
        .iter()
        .flat_map(|(_, events)| events)
        .filter(|event| **event == Progress::Creating)
        .count();
    assert_eq!(creations, 1);
    for (made, _) in both {
        assert_eq!(made.unwrap(), first);
    }
    assert_eq!(installed_six(&first), "1.17.0");

    // Another pin is another environment; the former stays, a run may still be using it.
    pin("six==1.16.0\n");
    let second = provide().0.unwrap();
    assert_eq!(installed_six(&second), "1.16.0");
    assert_eq!(installed_six(&first), "1.17.0");
}
