//! What examples see of a project and of what they import from it: neither hidden names nor recordings, wherever they
//! lie and whatever leads there, but all that the Python without a sandbox finds.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lacking::{LANDLOCK, Lacking, NAMESPACES};
use crate::project::{PYTHON, Project, minor};
use crate::sandbox::is_whole;

/// A page that prints what it reads from each of these paths, of the project or absolute; what is hidden may look empty.
fn looking_at(project: &Project, paths: &[&str]) -> String {
    let paths: Vec<PathBuf> = paths.iter().map(|path| project.path(path)).collect();
    page(&format!(
        r#"for path in {paths:?}:
    try:
        print(open(path).read() or "no")
    except OSError:
        print("no")"#
    ))
}

fn page(code: &str) -> String {
    format!("# One\n\n```python\n{code}\n```\n")
}

/// Whether there is a sandbox here to be tried.
fn is_tried() -> bool {
    is_whole(&Project::new().with("page.md", page("print(1)")))
}

/// Where the sandbox is whole, and where it lacks a layer, what the example of `page` prints.
#[track_caller]
fn prints(project: &Project, page: &str, expected: &str) {
    for lacking in [None, Some(NAMESPACES), Some(LANDLOCK)] {
        assert_eq!(printed(project, page, lacking), expected, "{lacking:?}");
    }
}

fn printed(project: &Project, page: &str, lacking: Option<Lacking>) -> String {
    let ran = project.verify_with(&format!("{page} --no-cache --format json"), |command| {
        if let Some(lacking) = lacking {
            lacking.on(command);
        }
    });
    let lines = ran.stdout.lines();
    let mut lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let Some(example) = lines.find(|line| line["type"] == "example") else {
        panic!("{}", ran.text());
    };
    let outcome = &example["outcome"];
    let stdout = outcome["stdout"].as_str();
    stdout.unwrap_or_else(|| panic!("{example}")).to_owned()
}

/// Makes the project's environment and returns its directory of packages.
fn environment(project: &Project) -> PathBuf {
    let made = Command::new(&PYTHON.executable)
        .args(["-m", "venv", "--without-pip", ".venv"])
        .current_dir(project.root())
        .status();
    assert!(made.unwrap().success());
    packages_of(&project.path(".venv"))
}

fn packages_of(environment: &Path) -> PathBuf {
    environment.join(format!("lib/python{}/site-packages", minor(&PYTHON)))
}

/// A place beside the project, of which a run shows nothing unless something leads there.
fn beside(project: &Project, name: &str) -> PathBuf {
    project.root().with_file_name(name)
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn pages_make_nothing_hidden_readable() {
    if !is_tried() {
        return;
    }
    let project = Project::new()
        .with(
            "verify.toml",
            "pages = [\"docs\", \".git\", \".env\", \"link\", \"docs/.drafts\", \"expected\"]\n",
        )
        .with(".git/config", "secret")
        .with(".env", "secret")
        .with("docs/.drafts/x.toml", "secret")
        .with("expected/notes", "secret")
        .with("docs/data", "data");
    symlink(".git", project.path("link")).unwrap();
    let secrets = [
        "docs/data",
        ".git/config",
        ".env",
        "link/config",
        "docs/.drafts/x.toml",
        "expected/notes",
    ];
    project.write("docs/page.md", looking_at(&project, &secrets));
    // They are pages all the same.
    project.write("docs/.drafts/draft.md", page("print('checked')"));
    prints(&project, "docs/page.md", "data\nno\nno\nno\nno\nno\n");
    prints(&project, "docs/.drafts/draft.md", "checked\n");
}

#[test]
fn hidden_names_are_hidden_however_deep_they_lie() {
    if !is_tried() {
        return;
    }
    let secrets = [
        "docs/.env",
        "docs/sub/.env",
        "docs/sub/.secret/f",
        "docs/sub/sub/sub/.env",
        "docs/node_modules/x/.env",
    ];
    let project = Project::new().with("docs/sub/data", "data");
    let project = secrets[..5]
        .iter()
        .fold(project, |project, secret| project.with(secret, "TOKEN=1"));
    let paths = [&["docs/sub/data"], &secrets[..]].concat();
    project.write("docs/page.md", looking_at(&project, &paths));
    let expected = format!("data\n{}", "no\n".repeat(secrets.len()));
    for pages in ["docs", "."] {
        project.write("verify.toml", format!("pages = [{pages:?}]\n"));
        prints(&project, "docs/page.md", &expected);
    }
}

#[test]
fn recordings_are_hidden_wherever_they_lie() {
    if !is_tried() {
        return;
    }
    let recording = "tests/expected/notes";
    let project = Project::new()
        .with(recording, "secret")
        .with("tests/data", "data");
    symlink("tests/expected", project.path(".recordings")).unwrap();
    let paths = ["tests/data", recording, ".recordings/notes"];
    project.write("page.md", looking_at(&project, &paths));
    for expected in ["tests/expected", ".recordings"] {
        for places in [
            "pages = [\".\"]",
            "readable = [\"tests\"]\npages = [\"page.md\"]",
        ] {
            let settings = format!("{places}\nexpected = {expected:?}\n");
            project.write("verify.toml", settings);
            prints(&project, "page.md", "data\nno\nno\n");
        }
        for readable in ["tests/expected", ".recordings", "tests/expected/notes"] {
            let settings = format!("readable = [{readable:?}]\nexpected = {expected:?}\n");
            project.write("verify.toml", settings);
            let ran = project.verify("");
            assert_eq!(ran.status, 2, "{}", ran.text());
            let message = format!(
                "error: `readable` names `{readable}`, where the recordings are: an example could look up what is expected of it; only you can allow that, with `--readable`\n"
            );
            assert_eq!(ran.stderr, message);
        }
    }
}

#[test]
fn a_link_to_an_editable_project_shows_nothing_hidden_of_it() {
    if !is_tried() {
        return;
    }
    let project = Project::new()
        .with("verify.toml", "pages = [\"docs\"]\n")
        .with(".git/config", "secret")
        .with("sub/.env", "secret")
        .with("expected/notes", "secret")
        .with("edited.py", "ANSWER = 42\n");
    let packages = environment(&project);
    let link = beside(&project, "link");
    symlink(project.root(), &link).unwrap();
    let link = link.to_str().unwrap();
    let linked = |name: &str| format!("{link}/{name}");
    let secrets = [
        ".git/config",
        &linked(".git/config"),
        "sub/.env",
        &linked("sub/.env"),
        "expected/notes",
        &linked("expected/notes"),
        "edited.py",
    ];
    project.write("docs/page.md", looking_at(&project, &secrets));
    put(&packages.join("edited.pth"), link);
    let expected = format!("{}ANSWER = 42\n\n", "no\n".repeat(6));
    prints(&project, "docs/page.md", &expected);
    put(&packages.join("edited.pth"), "../../../..");
    prints(&project, "docs/page.md", &expected);
}
