//! The file systems that sessions are put into, wherever what they may read lies: in a `chroot`, in a place that each
//! session has for itself, behind links, or in what is hidden.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::lacking::NAMESPACES;
use crate::project::{PYTHON, Project, make_environment, minor, skipped};

/// Pages of which each needs a session of its own.
fn pages(project: Project, code: &str) -> Project {
    (0..3).fold(project, |project, number| {
        let page = format!("# Page\n\n```python\n{code}\n```\n");
        project.with(&format!("{number}.md"), page)
    })
}

/// Whether this machine can protect from everything, which it says aloud if not.
fn is_whole() -> bool {
    let whole = pages(Project::new(), "pass")
        .verify("--sandbox=strict")
        .status
        == 0;
    if !whole {
        skipped("this machine has no whole sandbox");
    }
    whole
}

/// An environment with a package `installed`.
fn environment_with_package(directory: &Path) {
    let packages = make_environment(directory);
    fs::write(packages.join("installed.py"), "ANSWER = 42\n").unwrap();
}

/// A directory in one of the machine's.
fn directory_in(place: &str) -> Option<TempDir> {
    let directory = tempfile::Builder::new().prefix("layers-").tempdir_in(place);
    directory
        .map_err(|error| skipped(&format!("`{place}`: {error}")))
        .ok()
}

/// Examples pass in the whole sandbox, wherever the scratch directories are.
#[track_caller]
fn passes(project: &Project, words: &str) {
    for place in [None, Some("/var/tmp"), Some("/tmp")] {
        let ran = project.verify_with(
            &format!("--sandbox=strict --no-cache -j1 {words}"),
            |command| match place {
                Some(place) => drop(command.env("TMPDIR", place)),
                None => drop(command.env_remove("TMPDIR")),
            },
        );
        assert_eq!(ran.status, 0, "{words}, {place:?}: {}", ran.text());
    }
}

#[test]
fn in_a_chroot_no_session_comes_to_what_lies_around_it() {
    let places = [
        ("a mount", "mount --rbind / \"$HOME/root\""),
        (
            "a directory",
            "for name in /*; do\n\
             if [ -L \"$name\" ]; then cp -P \"$name\" \"$HOME/root\"; continue; fi\n\
             [ -d \"$name\" ] || continue\n\
             mkdir \"$HOME/root$name\"\nmount --rbind \"$name\" \"$HOME/root$name\"\ndone",
        ),
    ];
    for (place, make) in places {
        let code = "import os\nassert not os.path.exists('/var/lib')";
        let project = pages(Project::new(), code);
        let said = project.in_own_mounts(
            &format!(
                "cd \"$ROOT\"\n\"$VERIFY\" --sandbox=strict\nmkdir \"$HOME/root\"\n\
                 mount -t tmpfs tmpfs \"$HOME/root\"\n{make}"
            ),
            "PATH=\"$PATH:/usr/sbin\"\n\
             chroot \"$HOME/root\" sh -c 'cd \"$ROOT\"; \"$VERIFY\" --sandbox=strict --no-cache -j1'",
        );
        if let Some(said) = said {
            assert!(said.contains("3 ran, 0 failed"), "{place}: {said}");
        }
    }
}

#[test]
fn where_processes_cannot_be_hidden_the_file_system_is_all_the_same() {
    let project = pages(Project::new(), "pass");
    let inside = "unshare --user --map-root-user --mount sh -c";
    let said = project.in_own_mounts(
        &format!(
            "cd \"$ROOT\"\n{inside} '\"$VERIFY\" --sandbox=strict'\nmount -t tmpfs tmpfs /proc/tty"
        ),
        &format!("{inside} '\"$VERIFY\" --no-cache'"),
    );
    if let Some(said) = said {
        let holds = "; sandboxed: files, network, kernel; not processes: `verify doctor` says why";
        assert!(said.contains(holds), "{said}");
    }
}

#[test]
fn an_environment_is_found_wherever_it_lies_and_by_any_link() {
    if !is_whole() {
        return;
    }
    let code = "import installed\nassert installed.ANSWER == 42\n\
                for name in '/tmp/x', '/dev/shm/x':\n    open(name, 'x').close()";
    for place in ["/tmp", "/dev/shm", "/run", "/var/tmp"] {
        let Some(directory) = directory_in(place) else {
            continue;
        };
        let at = |name: &str| directory.path().join(name);
        environment_with_package(&at("environments/real"));
        symlink("environments/real", at("link")).unwrap();
        symlink("environments", at("links")).unwrap();
        let project = pages(Project::new(), code);
        for name in ["environments/real", "links/real"] {
            passes(&project, &format!("--python {}", at(name).display()));
        }
        symlink(at("link"), project.path(".venv")).unwrap();
        passes(&project, "");
    }
}

#[test]
fn a_python_may_lie_in_a_directory_of_the_running_system() {
    let Some(directory) = directory_in("/run") else {
        return;
    };
    let project = pages(Project::new(), "pass");
    if is_whole() {
        let python = directory.path().join("python3");
        symlink(&PYTHON.executable, &python).unwrap();
        passes(&project, &format!("--python {}", python.display()));
    }
}

#[test]
fn whatever_is_made_readable_the_machine_is_as_before() {
    if !is_whole() {
        return;
    }
    let project = Project::new().with("verify.toml", "pages = [\".\"]\n").with(
        "page.md",
        "# One\n\n```python\ntry:\n    print(open('ROOT/.env').read())\nexcept OSError:\n    print()\n```\n\n\
         ```output\n\n```\n",
    ).with(".env", "TOKEN=1");
    let page = project.read("page.md");
    let root = project.root().display().to_string();
    project.write("page.md", page.replace("ROOT", &root));
    let memory = directory_in("/dev/shm");
    let large = directory_in("/var/tmp");
    let own = [&memory, &large]
        .into_iter()
        .flatten()
        .map(|directory| directory.path().to_str().unwrap());
    let machines = ["/run", "/var/run", "/var", "/var/tmp", "/dev/null", "/home"];
    let exist = |names: &[&str]| {
        let is_there = |name: &&str| Path::new(name).symlink_metadata().is_ok();
        names.iter().map(is_there).collect::<Vec<_>>()
    };
    let places = ["/run/empty", "/run/tmp", "/var/run/empty"];
    let before = exist(&places);
    for path in machines.into_iter().chain(own) {
        passes(&project, &format!("--readable {path}"));
    }
    assert_eq!(exist(&places), before);
}

#[test]
fn what_is_shown_in_a_place_of_ones_own_shows_nothing_of_other_sessions() {
    if !is_whole() {
        return;
    }
    for place in ["/tmp", "/dev/shm"] {
        let Some(directory) = directory_in(place) else {
            continue;
        };
        let readable = directory.path().join("around/readable");
        fs::create_dir_all(&readable).unwrap();
        let around = readable.parent().unwrap();
        let code = format!(
            "import os\nprint(os.listdir({around:?}))\n\
             open(os.path.join({around:?}, 'x'), 'w').close()"
        );
        let project = pages(Project::new(), &code);
        let printed = project.printed(&format!("-j1 --readable {}", readable.display()));
        assert_eq!(printed, ["['readable']\n"; 3], "{place}");
    }
}

#[test]
fn what_is_shown_around_the_scratch_directories_shows_only_ones_own() {
    if !is_whole() {
        return;
    }
    let code = "import os\nown = os.getcwd().split('/')\n\
                around = os.path.dirname(os.path.dirname(os.getcwd()))\n\
                print([name for name in os.listdir(around) if name not in own])\n\
                open(os.path.join(around, 'x'), 'w').close()";
    let project = pages(Project::new(), code);
    let printed = project.printed(&format!("-j1 --readable {}", project.scratch().display()));
    assert_eq!(printed, ["[]\n"; 3]);
}

#[test]
fn an_environment_in_the_book_is_found_by_a_link_to_the_book() {
    if !is_whole() {
        return;
    }
    let project = pages(
        Project::new().with("verify.toml", "pages = [\".\"]\n"),
        "import installed\nassert installed.ANSWER == 42",
    );
    environment_with_package(&project.path(".venv"));
    let link = project.root().with_file_name("link");
    symlink(project.root(), &link).unwrap();
    let environment = link.join(".venv");
    passes(&project, &format!("--python {}", environment.display()));
}

#[test]
fn what_begins_with_a_dot_is_hidden_where_a_path_file_names_its_directory_by_a_link() {
    if !is_whole() {
        return;
    }
    let project = Project::new();
    let top = project.root().with_file_name("elsewhere");
    environment_with_package(&project.path(".venv"));
    fs::create_dir_all(top.join("real")).unwrap();
    symlink("real", top.join("link")).unwrap();
    fs::write(top.join("real/.env"), "TOKEN=1").unwrap();
    fs::write(top.join("real/package.py"), "").unwrap();
    let packages = format!("lib/python{}/site-packages", minor(&PYTHON));
    let file = project.path(".venv").join(packages).join("named.pth");
    fs::write(file, format!("{}\n", top.join("link").display())).unwrap();
    let code = format!(
        "import os, package\nfor name in 'link', 'real':\n    \
         print(open(os.path.join({top:?}, name, '.env')).read())"
    );
    let project = pages(project, &code);
    assert_eq!(project.printed("-j1"), ["\n\n"; 3]);
}

/// All that is left is Landlock, which lists what lies around what is hidden.
#[test]
fn without_namespaces_no_more_and_no_less_can_be_read() {
    if !is_whole() {
        return;
    }
    let project = Project::new()
        .with("verify.toml", "pages = [\".\"]\n")
        .with(".data/file", "named")
        .with(".hidden/file", "hidden")
        .with("data/file", "shown");
    environment_with_package(&project.path(".venv"));
    let outside = project.root().with_file_name("home");
    fs::write(outside.join("file"), "outside").unwrap();
    symlink(&outside, project.path("outside")).unwrap();
    symlink(".hidden", project.path("to-hidden")).unwrap();
    symlink("data", project.path("to-data")).unwrap();
    let code = format!(
        "import installed, os\nprint(installed.ANSWER)\n\
         for name in 'data', 'to-data', '.data', '.hidden', 'to-hidden', 'outside':\n    \
         try:\n        print(open(os.path.join({:?}, name, 'file')).read())\n    \
         except OSError as error:\n        print(type(error).__name__)",
        project.root()
    );
    project.write("page.md", format!("# One\n\n```python\n{code}\n```\n"));
    let mut command = project.command("show page.md::one/1 --readable .data");
    NAMESPACES.on(&mut command);
    let ran = project.ran(command.output().unwrap());
    let denied = "PermissionError";
    let expected = format!(
        "    42\n    shown\n    shown\n    named\n    {denied}\n    {denied}\n    {denied}\n"
    );
    assert!(ran.stdout.contains(&expected), "{}", ran.text());
}
