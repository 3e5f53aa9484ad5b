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
