//! Paths that are no text, hold what a shell or a `PATH` reads its own way, or lead nowhere.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use snapbox::str;

use crate::lacking::NAMESPACES;
use crate::project::{PYTHON, Project, Ran, VERIFY, make_environment, raw_name};

const PAGE: &str = "# One\n\n```python\nprint(1)\n```\n";

fn page(code: &str) -> String {
    format!("# One\n\n```python\n{code}\n```\n")
}

/// A directory of this name in the project, which is one itself.
fn project_below(project: &Project, name: &Path, code: &str) -> PathBuf {
    let directory = project.root().join(name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("verify.toml"), "").unwrap();
    fs::write(directory.join("page.md"), page(code)).unwrap();
    directory
}

/// An environment without pip, with one module installed. It is made elsewhere: Python's own way to make one does not
/// know all of these paths.
fn give_environment(project: &Project, directory: &Path) {
    let packages = make_environment(&project.path(".made"));
    fs::write(packages.join("installed.py"), "ANSWER = 42\n").unwrap();
    fs::rename(project.path(".made"), directory.join(".venv")).unwrap();
}

/// What the only example of a run printed.
#[track_caller]
fn stdout_of(output: &Output) -> String {
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let printed = lines
        .iter()
        .find_map(|line| line["outcome"]["stdout"].as_str());
    printed.unwrap_or_else(|| panic!("{output:?}")).to_owned()
}

/// Runs the project in this directory.
fn run_in(project: &Project, directory: &Path) -> Output {
    let mut command = project.command("--no-cache --format json");
    command.current_dir(directory).output().unwrap()
}

#[test]
fn a_hidden_file_whose_name_is_no_text() {
    let project = Project::new().with("page.md", PAGE).with("verify.toml", "");
    fs::write(project.root().join(raw_name(b".caf\xe9")), "").unwrap();
    assert_eq!(project.printed(""), ["1\n"]);
}

#[test]
fn a_project_in_a_directory_whose_name_is_no_text() {
    is_found_below(raw_name(b"caf\xe9"));
}

#[test]
fn what_has_changed_in_a_directory_whose_name_is_no_text() {
    let project = Project::new();
    let directory = project_below(&project, raw_name(b"caf\xe9"), "1 + 1");
    let git = |words: &str| {
        let mut command = Command::new("git");
        command.args(words.split_whitespace());
        project.surround(&mut command);
        let output = command.current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git("init --quiet");
    git("-c user.name=tester -c user.email=tester@example.org commit --quiet --allow-empty -m one");
    let ran = project.verify_with("list --changed", |command| {
        command.current_dir(&directory);
    });
    assert_eq!(ran.stdout, "page.md:3  one/1  runs\n");
}

#[test]
fn a_project_in_a_directory_with_a_quote() {
    is_found_below(Path::new("it's"));
}

#[test]
fn a_project_in_a_directory_with_a_colon() {
    is_found_below(Path::new("a:b"));
}

/// An environment without pip in a directory of this name is the one that examples find.
#[track_caller]
fn is_found_below(name: &Path) {
    let project = Project::new();
    let code = "import subprocess, installed\n\
        print(installed.ANSWER)\n\
        for name in 'python', 'pip':\n\
        \x20   found = subprocess.run([name, '--version'], capture_output=True, text=True)\n\
        \x20   print(found.stdout + found.stderr.split(': ')[-1], end='')\n\
        print(subprocess.run(['python', '-c', 'import installed']).returncode)";
    let directory = project_below(&project, name, code);
    give_environment(&project, &directory);
    let output = run_in(&project, &directory);
    let version = &PYTHON.full_version;
    assert_eq!(
        stdout_of(&output),
        format!("42\nPython {version}\nNo module named pip\n0\n")
    );
}

#[test]
fn what_may_be_read_need_not_be_text() {
    let project = Project::new();
    let name = raw_name(b"caf\xe9");
    fs::create_dir(project.root().with_file_name("more")).unwrap();
    let file = project.root().with_file_name("more").join(name);
    fs::write(&file, "read").unwrap();
    project.write(
        "page.md",
        page(&format!("print(open({}).read())", bytes(&file))),
    );
    let ran = project.verify_with("--format json", |command| {
        command.arg("--readable").arg(&file);
    });
    assert!(
        ran.stdout.contains("\"stdout\":\"read\\n\""),
        "{}",
        ran.text()
    );
    // It is known again by what it holds, as any other.
    let again = |text: &str| {
        fs::write(&file, text).unwrap();
        let ran = project.verify_with("--format json", |command| {
            command.arg("--readable").arg(&file);
        });
        ran.stdout.contains("\"sessions_from_cache\":1")
    };
    assert!(again("read"));
    assert!(!again("more"));
}

/// As Python writes them.
fn bytes(path: &Path) -> String {
    let escaped = path.as_os_str().as_bytes().escape_ascii();
    format!("b'{escaped}'")
}

#[test]
fn a_place_for_scratch_directories_whose_name_is_no_text_is_refused() {
    let project = Project::new().with("page.md", PAGE);
    let place = project.root().join(raw_name(b"caf\xe9"));
    fs::create_dir(&place).unwrap();
    is_refused(&project, &place, "its path is not UTF-8");
}

#[test]
fn a_place_for_scratch_directories_that_divides_the_path_is_refused() {
    let project = Project::new().with("page.md", PAGE);
    let place = project.root().join("a:b");
    fs::create_dir(&place).unwrap();
    is_refused(&project, &place, "a `:` in its path divides `PATH`");
}

#[track_caller]
fn is_refused(project: &Project, place: &Path, why: &str) {
    let ran: Ran = project.verify_with("", |command| {
        command.env("TMPDIR", place);
    });
    assert_eq!(ran.status, 2, "{}", ran.text());
    let said = format!(
        "error: cannot make a scratch directory in `{}`: {why}; set `TMPDIR` to another place\n",
        place.display()
    );
    assert_eq!(
        ran.stderr,
        said.replace(&project.root().display().to_string(), "[ROOT]")
    );
}

#[test]
fn an_empty_name_for_temporary_files_is_none() {
    let project = Project::new().with("page.md", PAGE);
    for lacking in [None, Some(NAMESPACES)] {
        let ran = project.verify_with("--no-cache", |command| {
            command.env("TMPDIR", "");
            if let Some(lacking) = lacking {
                lacking.on(command);
            }
        });
        assert_eq!(ran.status, 0, "{}", ran.text());
    }
}

#[test]
fn a_long_path_keeps_what_saves_time() {
    let project = Project::new();
    let directory = project.root().join("a".repeat(200)).join("b".repeat(200));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("page.md"), PAGE).unwrap();
    fs::write(directory.join("other.md"), page("1 / 0")).unwrap();
    let run = |words: &str| {
        project.verify_with(words, |command| {
            command.current_dir(&directory);
        })
    };
    assert_eq!(run("").status, 1);
    let again = run("");
    assert!(
        again.stdout.contains("1 of 2 sessions from the cache"),
        "{}",
        again.text()
    );
    let failed = run("--failed");
    assert!(
        failed.stdout.contains("1 example on 1 page"),
        "{}",
        failed.text()
    );
}

#[test]
fn what_runs_a_page_again_can_be_typed() {
    let failing = page("1 / 0");
    let project = Project::new()
        .with("-dash.md", &failing)
        .with("-it's.md", &failing)
        .with("two words.md", "```python id=-x\n1 / 0\n```\n");
    let expected = [
        "verify ./-dash.md --example one/1",
        r"verify './-it'\''s.md' --example one/1",
        "verify 'two words.md' --example=-x",
    ];
    for format in ["human", "github", "junit"] {
        let ran = project.verify(&format!("--format {format}"));
        let said = ran.stdout.replace("&apos;", "'");
        let commands = said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("again: "));
        assert_eq!(commands.collect::<Vec<_>>(), expected, "{}", ran.text());
    }
    for command in expected {
        let ran = project.ran(in_shell(&project, command));
        assert_eq!(ran.status, 1, "{}", ran.text());
        assert!(ran.stdout.contains("1 example on 1 page"), "{}", ran.text());
    }
}

fn in_shell(project: &Project, command: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &command.replacen("verify", VERIFY, 1)]);
    project.surround(&mut shell);
    shell.output().unwrap()
}

#[test]
fn a_configuration_that_is_no_file_is_not_passed_over() {
    let project = Project::new().with("page.md", PAGE);
    let file = project.path("verify.toml");
    symlink("nowhere", &file).unwrap();
    project.verify("").is(str![[r#"
exit status 2
--- stderr
error: `verify.toml` is a link to `nowhere`, which is no file: put one there, or remove it

"#]]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    project.verify("list").is(str![[r#"
exit status 2
--- stderr
error: `verify.toml` is no file: put one there, or remove it

"#]]);
}

#[test]
fn a_current_directory_that_has_been_removed() {
    let project = Project::new();
    for command in ["", "list", "doctor", "clean"] {
        let command = format!("mkdir gone; cd gone; rmdir ../gone; verify {command}");
        let ran = project.ran(in_shell(&project, &command));
        assert_eq!(ran.status, 2, "{}", ran.text());
        assert_eq!(
            ran.stderr,
            "error: the current directory has been removed: change to one that is there\n"
        );
    }
}
