//! What examples see of a project and of what they import from it: neither hidden names nor recordings, wherever they
//! lie and whatever leads there, but all that the Python without a sandbox finds.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lacking::{LANDLOCK, Lacking, NAMESPACES};
use crate::project::{PYTHON, Project, make_environment, packages_of};
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
    make_environment(&project.path(".venv"))
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
    let project = secrets
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

/// `pip install -e git+…` puts sources into the environment, which is hidden in a book but for what is needed of it.
#[test]
fn what_is_hidden_in_what_is_shown_of_something_hidden_stays_so() {
    if !is_tried() {
        return;
    }
    let project = Project::new().with("verify.toml", "pages = [\".\"]\n");
    let packages = environment(&project);
    let source = project.path(".venv/src/edited");
    put(&source.join("edited.py"), "ANSWER = 42\n");
    put(&source.join(".git/config"), "secret");
    put(&packages.join("edited.pth"), source.to_str().unwrap());
    let paths = [".venv/src/edited/.git/config", ".venv/src/edited/edited.py"];
    project.write("page.md", looking_at(&project, &paths));
    prints(&project, "page.md", "no\nANSWER = 42\n\n");
}

/// A way by which `edited` is imported from elsewhere; made in a place beside the project.
type Way = fn(packages: &Path, place: &Path);

#[test]
fn what_python_imports_from_elsewhere_is_imported_in_the_sandbox() {
    const CODE: &str = "ANSWER = 42\n";
    if !is_tried() {
        return;
    }
    let ways: &[(&str, Way)] = &[
        ("a path file", |packages, place| {
            put(&place.join("edited.py"), CODE);
            put(&packages.join("x.pth"), place.to_str().unwrap());
        }),
        ("a zip", |packages, place| {
            put(&place.join("edited.py"), CODE);
            let zip = place.join("edited.zip");
            let made = Command::new(&PYTHON.executable)
                .args(["-m", "zipfile", "-c", "edited.zip", "edited.py"])
                .current_dir(place)
                .status();
            assert!(made.unwrap().success());
            put(&packages.join("x.pth"), zip.to_str().unwrap());
        }),
        ("code in a path file", |packages, place| {
            put(&place.join("edited.py"), CODE);
            let line = format!(
                "import sys; sys.path.append({:?})\n",
                place.to_str().unwrap()
            );
            put(&packages.join("x.pth"), &line);
        }),
        ("a name with percent escapes", |packages, place| {
            // Such a package finds its modules by code of its own.
            put(&place.join("prö j+x/edited.py"), CODE);
            let info = packages.join("edited-1.0.dist-info/direct_url.json");
            let url = format!("file://{}/pr%C3%B6%20j%2Bx", place.display());
            let origin = format!(r#"{{"url": "{url}", "dir_info": {{"editable": true}}}}"#);
            put(&info, &origin);
            let file = place.join("prö j+x/edited.py");
            let finder = format!(
                r#"import sys, importlib.util
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "edited":
            return importlib.util.spec_from_file_location(name, {file:?})
sys.meta_path.append(Finder)
"#
            );
            put(&packages.join("finder.py"), &finder);
            put(&packages.join("x.pth"), "import finder\n");
        }),
        ("a linked directory", |packages, place| {
            put(&place.join("src/edited/__init__.py"), CODE);
            symlink(place.join("src/edited"), packages.join("edited")).unwrap();
        }),
        ("a directory behind two links", |packages, place| {
            put(&place.join("src/edited/__init__.py"), CODE);
            symlink("src", place.join("link")).unwrap();
            symlink(place.join("link/edited"), packages.join("edited")).unwrap();
        }),
        ("a path file that names a link", |packages, place| {
            put(&place.join("src/edited.py"), CODE);
            symlink("src", place.join("link")).unwrap();
            put(
                &packages.join("x.pth"),
                place.join("link").to_str().unwrap(),
            );
        }),
        ("a linked module", |packages, place| {
            put(&place.join("edited.py"), CODE);
            symlink(place.join("edited.py"), packages.join("edited.py")).unwrap();
        }),
        ("links to an installer's cache", |packages, place| {
            let unpacked = place.join(".cache/xyz");
            for (file, text) in [
                ("edited/__init__.py", "from edited.sub import ANSWER\n"),
                (
                    "edited/sub.py",
                    "ANSWER = int(open(__file__[:-6] + '.libs/x').read())\n",
                ),
                ("edited/.libs/x", "42"),
                ("edited-1.0.dist-info/METADATA", ""),
            ] {
                put(&unpacked.join(file), text);
                fs::create_dir_all(packages.join(file).parent().unwrap()).unwrap();
                symlink(unpacked.join(file), packages.join(file)).unwrap();
            }
        }),
    ];
    for (name, make) in ways {
        let project = Project::new().with("verify.toml", "pages = [\"docs\"]\n");
        let packages = environment(&project);
        let place = beside(&project, "place");
        fs::create_dir(&place).unwrap();
        make(&packages, &place);
        let is_found = Command::new(project.path(".venv/bin/python"))
            .args(["-c", "import edited; assert edited.ANSWER == 42"])
            .status();
        assert!(is_found.unwrap().success(), "{name}");
        project.write("docs/page.md", page("import edited\nprint(edited.ANSWER)"));
        for lacking in [None, Some(NAMESPACES), Some(LANDLOCK)] {
            let said = printed(&project, "docs/page.md", lacking);
            assert_eq!(said, "42\n", "{name}, {lacking:?}");
        }
    }
}

/// The packages of the Python that an environment was made from are not only below its prefix.
#[test]
fn what_the_base_of_an_environment_imports_from_elsewhere_is_imported() {
    if !is_tried() {
        return;
    }
    let project = Project::new().with("verify.toml", "pages = [\"docs\"]\n");
    let packages = environment(&project);
    // A base of which the test may change the packages: another environment, on whose path files it goes.
    let base = beside(&project, "base");
    fs::rename(project.path(".venv"), &base).unwrap();
    let base_packages = packages_of(&base);
    let place = beside(&project, "place");
    put(&place.join("edited.py"), "ANSWER = 42\n");
    put(&base_packages.join("edited.pth"), place.to_str().unwrap());
    put(&base_packages.join("installed/.libs/x"), "42");
    environment(&project);
    let line = format!(
        "import site; site.addsitedir({:?})\n",
        base_packages.to_str().unwrap()
    );
    put(&packages.join("base.pth"), &line);
    project.write(
        "docs/page.md",
        page(&format!(
            "import edited\nprint(edited.ANSWER, open({:?}).read())",
            base_packages.join("installed/.libs/x")
        )),
    );
    prints(&project, "docs/page.md", "42 42\n");
}

/// What is linked is somebody's own, whatever name it is known by.
#[test]
fn a_linked_package_is_not_run_outside_of_the_sandbox() {
    if !is_tried() {
        return;
    }
    let settings = "pages = [\"docs\"]\npreload = [\"edited\"]\n";
    let project = Project::new().with("verify.toml", settings);
    let packages = environment(&project);
    let source = beside(&project, "source").join("edited");
    put(
        &source.join("__init__.py"),
        "import os\nPARENT = os.getppid()\n",
    );
    symlink(&source, packages.join("edited")).unwrap();
    for name in ["one", "two"] {
        let code = page("import edited\nprint(edited.PARENT)");
        project.write(&format!("docs/{name}.md"), code);
    }
    let said = project.verify("doctor").text();
    let file = source.join("__init__.py");
    let why = format!(
        "it lies in `{}`, outside of the installed packages",
        file.display()
    );
    assert!(said.contains(&why), "{said}");
    let parents = project.printed("");
    assert_eq!(parents[0], parents[1]);
}
