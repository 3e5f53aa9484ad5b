//! Missing, unsuitable and broken Pythons: the message says what to install or pass.

use snapbox::str;

use crate::project::{PYTHON, Project, Ran};

const PAGE: &str = "# Page\n\n```python\nprint(1)\n```\n";

#[test]
fn a_version_that_is_not_installed() {
    let project = Project::new().with("a.md", PAGE);
    is_refused(
        &project.verify("--python 3.99"),
        "error: no python found for version `3.99`: ",
    );
}

/// What is installed besides differs between machines.
#[track_caller]
fn is_refused(ran: &Ran, beginning: &str) {
    assert_eq!(ran.status, 2, "{}", ran.text());
    assert!(ran.stderr.starts_with(beginning), "{}", ran.stderr);
    let way_out = "install another with `uv python install`\n";
    assert!(ran.stderr.ends_with(way_out), "{}", ran.stderr);
}

#[test]
fn a_path_that_is_no_python() {
    let project = Project::new().with("a.md", PAGE);
    project.write_program("tool", "#!/bin/sh\necho 'I am no Python'\n");
    project.write_program("dying", "#!/bin/sh\necho 'no more' >&2\nexit 3\n");
    is_refused(
        &project.verify("--python ./nowhere"),
        "error: no python found for `./nowhere`, which is not there: pass one that is here, such as `--python ",
    );
    project.verify("--python ./tool").is(str![[r#"
exit status 2
--- stderr
error: `[ROOT]/tool` does not answer as a python does, it said nothing of itself and printed `I am no Python`: repair it, or name another with `--python`

"#]]);
    project.verify("--python ./dying").is(str![[r#"
exit status 2
--- stderr
error: `[ROOT]/dying` does not answer as a python does, it exited with status 3 and printed `no more`: repair it, or name another with `--python`

"#]]);
}

/// As `pyenv install` makes it, and many a build by hand.
const STATIC: &str = r#"#!/bin/sh
cat <<END

verify-probe:{"implementation": "cpython", "version": [3, 12, 9], "full_version": "3.12.9", "executable": "$0",
"base_executable": "$0", "prefix": "/nowhere", "base_prefix": "/nowhere", "purelib": "/nowhere", "library": [],
"path": [], "sites": [], "free_threaded": false, "abi_flags": "", "multiarch": "", "library_names": ["libpython3.12.a"],
"library_folders": ["/nowhere/lib"]}
END
"#;

#[test]
fn a_python_without_a_shared_library() {
    let project = Project::new().with("a.md", PAGE);
    let one_line = STATIC.replace(",\n", ", ");
    project.write_program("python-static", &one_line);
    let ran = project.verify("--python ./python-static");
    assert_eq!(ran.status, 2, "{}", ran.text());
    for part in [
        "error: python `3.12.9` (`[ROOT]/python-static`) has no shared `libpython3.12` to embed: ",
        "on Debian, `apt install libpython3.12`",
        "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force 3.12.9",
    ] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn no_python_at_all() {
    let project = Project::new().with("a.md", PAGE);
    let empty = project.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let ran = project.verify_with("", |command| {
        command.env("PATH", &empty);
    });
    is_refused(&ran, "error: no python found for `python3` on `PATH`: ");
}

#[test]
fn a_python_that_dies_at_start() {
    let project = Project::new()
        .with("a.md", PAGE)
        .with("verify.toml", "[environment]\nPYTHONHOME = \"/nowhere\"\n");
    let ran = project.verify("--sandbox=off");
    assert_eq!(ran.status, 2);
    // What Python says in its distress differs between versions.
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(
        lines[0].starts_with("error: `[PYTHON]` died at start (exit status: 1)"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("check that this Python starts, or pass another with `--python`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_environment_without_its_python() {
    let project = Project::new().with("a.md", PAGE).with(
        ".venv/pyvenv.cfg",
        format!("home = {}\n", PYTHON.prefix.display()),
    );
    project.verify("").is(str![[r#"
exit status 2
--- stderr
error: `[ROOT]/.venv/bin/python` cannot be started, there is no such file in the environment that `.venv` names: make the environment again, or name another python with `--python`

"#]]);
}
