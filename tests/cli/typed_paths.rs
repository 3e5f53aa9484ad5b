//! Paths that somebody typed: which project they lie in, and that a page goes by one name, whatever leads to it.

use std::os::unix::fs::symlink;

use snapbox::str;

use crate::project::{Project, Ran};

fn page(code: &str) -> String {
    format!("# One\n\n```python\n{code}\n```\n")
}

fn link(project: &Project, to: &str, name: &str) {
    symlink(to, project.path(name)).unwrap();
}

fn verify_in(project: &Project, directory: &str, words: &str) -> Ran {
    project.verify_with(words, |command| {
        command.current_dir(project.path(directory));
    })
}

#[test]
fn one_command_is_about_one_project() {
    let project = Project::new()
        .with("a/verify.toml", "")
        .with("a/x.md", page("print(1)"))
        .with("b/verify.toml", "")
        .with("b/x.md", page("print(1)"))
        .with("stray.md", page("print(1)"));
    for name in ["a", "b"] {
        assert_eq!(verify_in(&project, name, "record").status, 0);
    }
    project.write("b/x.md", page("print(2)"));
    project.verify("a b").is(str![[r#"
exit status 2
--- stderr
error: `a` belongs to the project `a`, `b` to the project `b`: run `verify` for one after the other

"#]]);
    project.verify("record stray.md a/x.md").is(str![[r#"
exit status 2
--- stderr
error: `stray.md` belongs to no project, `a/x.md` to the project `a`: run `verify` for one after the other

"#]]);
    verify_in(&project, "a", "list . ../stray.md").is(str![[r#"
exit status 2
--- stderr
error: `.` belongs to the project `.`, `../stray.md` to no project: run `verify` for one after the other

"#]]);
    assert_eq!(project.verify("a/x.md a").status, 0);
    assert_eq!(project.verify("b/x.md").status, 1);
}

/// `docs/link.md` leads out of the directory of the pages; what it should print is recorded.
fn linked() -> Project {
    let project = Project::new()
        .with("verify.toml", "pages = [\"docs\"]\n")
        .with("docs/plain.md", page("print(0)"))
        .with("shared/real.md", page("print(1)"));
    link(&project, "../shared/real.md", "docs/link.md");
    project
}

#[test]
fn a_page_that_is_a_link_goes_by_its_own_name() {
    let project = linked();
    project.verify("record docs/link.md").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    assert!(project.path("expected/link.toml").exists());
    project.write("shared/real.md", page("print(2)"));
    let failed = project.verify("docs/link.md");
    failed.is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ docs/link.md  1 failed
error: stdout differs from the expected
  --> docs/link.md:4 (one/1, Python [VERSION])
    |
  4 | print(2)
    |
  stdout, expected (-) and actual (+):
    - 1
    + 2
  again: verify docs/link.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project
        .verify("docs/link.md --example one/1")
        .is(failed.text());
    assert_eq!(verify_in(&project, "shared", "../docs/link.md").status, 1);
}

#[test]
fn a_link_beside_its_page_is_a_page_as_well() {
    let project = linked();
    link(&project, "plain.md", "docs/soft.md");
    link(&project, "../shared", "docs/more");
    project
        .verify("list docs/soft.md docs/more/real.md")
        .is(str![[r#"
exit status 0
--- stdout
docs/more/real.md:3  one/1  runs
docs/soft.md:3  one/1  runs

"#]]);
}

#[test]
fn links_to_pages_and_projects_lead_there() {
    let project = linked();
    project.record_and_settle();
    project.write("docs/plain.md", page("print(3)"));
    link(&project, "docs", "besides");
    link(&project, "book", "../linked");
    link(&project, "book/docs", "../deep");
    link(&project, "book/docs/plain.md", "../single.md");
    let top = project.root().parent().unwrap().to_owned();
    for typed in [
        "besides/plain.md",
        "besides",
        "../linked/docs/plain.md",
        "../deep/plain.md",
        "../single.md",
        "docs/../besides/../docs/plain.md",
    ] {
        let ran = project.verify(typed);
        assert_eq!(ran.status, 1, "{typed}: {}", ran.text());
        let again = "again: verify docs/plain.md --example one/1";
        assert!(ran.stdout.contains(again), "{typed}: {}", ran.text());
        assert_eq!(
            verify_in(
                &project,
                "shared",
                top.join("book").join(typed).to_str().unwrap()
            )
            .status,
            1
        );
    }
    let through = project.verify_with("docs/plain.md", |command| {
        command.current_dir(top.join("linked"));
    });
    assert_eq!(through.status, 1, "{}", through.text());
}

#[test]
fn what_is_said_of_pages_outside_of_the_project_can_be_typed() {
    let linked = Project::new()
        .with("verify.toml", "pages = [\"docs\"]\n")
        .with("../other/p.md", page("print(1)"));
    link(&linked, "../other", "docs");
    let named = Project::new()
        .with("verify.toml", "pages = [\"../other\"]\n")
        .with("sub/notes.txt", "")
        .with("../other/p.md", page("print(1)"));
    let outside = named.root().with_file_name("other").join("p.md");
    for (project, name) in [(&linked, "docs/p.md"), (&named, outside.to_str().unwrap())] {
        let unrecorded = project.verify("");
        assert_eq!(unrecorded.status, 1, "{}", unrecorded.text());
        let hint = format!("record: verify record {name} --example one/1\n");
        assert!(unrecorded.stdout.contains(&hint), "{}", unrecorded.text());
        let recorded = project.verify(&format!("record {name} --example one/1"));
        assert_eq!(recorded.status, 0, "{}", recorded.text());
        assert!(project.path("expected/p.toml").exists());
        assert_eq!(project.verify("").status, 0);

        project.write("../other/p.md", page("print(2)"));
        let failed = project.verify("");
        let hint = format!("again: verify {name} --example one/1\n");
        assert!(failed.stdout.contains(&hint), "{}", failed.text());
        let again = project.verify(&format!("{name} --example one/1"));
        assert_eq!(again.status, 1, "{}", again.text());
    }
    assert_eq!(verify_in(&named, "sub", "../../other/p.md").status, 1);
}

#[test]
fn projects_and_environments_within_a_project_are_passed_over() {
    let project = Project::new()
        .with("verify.toml", "")
        .with("x.md", page("print(1)"))
        .with("inner/verify.toml", "")
        .with("inner/docs/x.md", page("print(1)"))
        .with("env/pyvenv.cfg", "home = /usr/bin\n")
        .with("env/share/doc/x/README.md", page("print(1)"));
    link(&project, "inner", "linked");
    let own = str![[r#"
exit status 0
--- stdout
x.md:3  one/1  runs

"#]];
    project.verify("list").is(own.clone());
    project.verify("list .").is(own.clone());
    verify_in(&project, "inner", "list ..").is(str![[r#"
exit status 0
--- stdout
[ROOT]/x.md:3  one/1  runs

"#]]);
    project.record_and_settle();
    assert_eq!(verify_in(&project, "inner", "record").status, 0);
    assert_eq!(project.verify("inner linked/docs").status, 0);
    project.verify("list inner").is(str![[r#"
exit status 0
--- stdout
inner/docs/x.md:3  one/1  runs

"#]]);
}

#[test]
fn git_names_what_a_link_or_a_submodule_leads_to() {
    let project = linked().with("library/README.md", page("print(1)"));
    link(&project, "../library", "docs/library");
    link(&project, "../shared", "docs/more");
    let git = |words: &str| project.git(words);
    let commit = |directory: &str| {
        git(&format!("-C {directory} add ."));
        git(&format!(
            "-C {directory} -c user.name=tester -c user.email=tester@example.org commit --quiet -m one"
        ));
    };
    let changed = || project.verify("list --changed");
    git("init --quiet library");
    commit("library");
    git("init --quiet");
    commit(".");
    assert_eq!(changed().status, 3, "{}", changed().text());

    project.write("shared/real.md", page("print(2)"));
    changed().is(str![[r#"
exit status 0
--- stdout
docs/link.md:3  one/1  runs
docs/more/real.md:3  one/1  runs

"#]]);
    commit(".");
    project.write("library/README.md", page("print(2)"));
    let of_library = str![[r#"
exit status 0
--- stdout
docs/library/README.md:3  one/1  runs

"#]];
    changed().is(of_library.clone());
    commit("library");
    changed().is(of_library.clone());
    commit(".");
    assert_eq!(changed().status, 3, "{}", changed().text());
    project.write("library/new.md", page("print(2)"));
    assert!(changed().stdout.contains("docs/library/new.md"));
}
