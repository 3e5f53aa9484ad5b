//! What the pages say themselves is what readers see: it is compared whatever is recorded, and `record` corrects it.

use snapbox::str;

use crate::project::{OTHER_PYTHON, PYTHON, Project, minor};

/// An example and a block below it that shows `output`.
fn shown(attributes: &str, code: &str, output: &str) -> String {
    format!("# T\n\n```python {attributes}\n{code}\n```\n\n```output\n{output}```\n")
}

#[test]
fn a_recorded_example_is_shown_as_it_is() {
    let page = "# T\n\n```python\nprint(1)\n```\n\n```output\n2\n```\n\nText.  \n";
    let project = Project::book().with("page.md", page);
    assert_eq!(project.verify("").status, 1);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 1 recording and 1 page written, 0 refused, 0 failed

"#]]);
    project.file_is("page.md", page.replace("\n2\n", "\n1\n"));
    project.record_and_settle();

    project.write("page.md", page);
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: the page shows another output than the recorded one
  --> page.md:4 (t/1, Python [VERSION])
    |
  4 | print(1)
    |
  the recording (-) and the page (+):
    - 1
    + 2
  again: verify page.md --example t/1
  record: verify record page.md --example t/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 0 examples: 0 recordings and 1 page written, 0 refused, 0 failed

"#]]);
    project.file_is("page.md", page.replace("\n2\n", "\n1\n"));

    // Code, recording and page, each with an output of its own.
    project.write("page.md", page.replace("print(1)", "print(3)"));
    assert_eq!(project.verify("record").status, 0);
    project.file_is(
        "page.md",
        page.replace("print(1)", "print(3)")
            .replace("\n2\n", "\n3\n"),
    );
    project.record_and_settle();
}

#[test]
fn what_pages_carried_is_compared_when_they_carry_no_more() {
    let project = Project::new()
        .with("verify.toml", "output = \"page\"\n")
        .with(
            "page.md",
            "# T\n\n```python\nprint(1)\n```\n\n```python raises=ValueError\nraise ValueError('x')\n```\n\n```python\nprint(2)\n```\n\n```python\nimport sys\nprint(3)\nprint(4, file=sys.stderr)\n```\n",
        );
    project.record_and_settle();
    project.write("verify.toml", "");
    project.record_and_settle();
    let page = project.read("page.md");
    let changed = page
        .replace("```output\n2\n```", "```output\n0\n```")
        .replace("ValueError: x\n", "ValueError: y\n");
    project.write("page.md", &changed);
    let ran = project.verify("--format json");
    let outdated = ran.stdout.matches("page_outdated").count();
    assert_eq!(outdated, 2, "{}", ran.text());
    assert_eq!(project.verify("record").status, 0);
    project.file_is("page.md", page);
}

#[test]
fn a_block_that_shows_nothing_wrong_stays_as_it_is() {
    let clock = "import time\nprint('took', time.perf_counter() >= 0, 's')";
    let page = [
        shown("", clock, "took [..] s\n"),
        shown("unordered", "print('a')\nprint('b')", "b\na\n"),
        shown("normalize=float=3", "print(1 / 3)", "0.3333\n"),
        shown("normalize=time", "print('at 12:30:00')", "at 10:00:00\n"),
        shown("", "print('no end', end='')", "no end\n"),
        shown("", "import sys\nprint(1)\nprint(2, file=sys.stderr)", "1\n"),
    ]
    .concat();
    let project = Project::book().with("page.md", &page);
    project.record_and_settle();
    project.file_is("page.md", page);
}

/// A page has one output for all versions: that of the version that recordings have their base from.
#[test]
fn a_page_shows_what_the_first_version_prints() {
    let Some(other) = &*OTHER_PYTHON else {
        return;
    };
    let page = shown("", "import sys\nprint(sys.version_info[:2])", "nothing\n");
    let project = Project::new()
        .with(
            "verify.toml",
            format!("python = [\"{}\", \"{}\"]\n", minor(&PYTHON), minor(other)),
        )
        .with("page.md", &page);
    let [first_python, other_python] =
        [&*PYTHON, other].map(|python| format!("--python {}", python.executable.display()));
    let recorded = project.verify(&format!("record {first_python} {other_python}"));
    assert_eq!(recorded.status, 0, "{}", recorded.text());
    let first = format!("{:?}\n", (PYTHON.version.0, PYTHON.version.1));
    let right = page.replace("nothing\n", &first);
    project.file_is("page.md", &right);
    for python in [first_python, other_python] {
        project.write("page.md", &right);
        let ran = project.verify(&python);
        assert_eq!(ran.status, 0, "{}", ran.text());
        project.write("page.md", &page);
        let ran = project.verify(&python);
        assert_eq!(ran.status, 1, "{}", ran.text());
    }
}

#[test]
fn recording_one_example_leaves_what_others_show() {
    let page = format!(
        "{}\n{}",
        shown("id=one", "print(1)", "1\n"),
        shown("id=two", "print(2)", "2\n")
    );
    let project = Project::book().with("page.md", &page);
    project.record_and_settle();
    // Its author has changed both and not recorded it yet.
    let page = page
        .replace("print(2)", "print(22)")
        .replace("\n2\n", "\n22\n")
        .replace("print(1)", "print(11)");
    project.write("page.md", &page);
    let recorded = project.verify("record --example one");
    assert_eq!(recorded.status, 0, "{}", recorded.text());
    project.file_is("page.md", page.replace("\n1\n", "\n11\n"));
    project.record_and_settle();
}

#[test]
fn values_in_comments_are_corrected() {
    let code = "1 + 1  # 5\n'a' 'b'  # 'x' \nlen('abc')  # => 4\n{3}  #   [1]\n1j  # 1\n2  # 2\n";
    let page = format!("# T\n\n```python\n{code}```\n");
    let right =
        "1 + 1  # 2\n'a' 'b'  # 'ab' \nlen('abc')  # => 3\n{3}  #   {3}\n1j  # => 1j\n2  # 2\n";
    for project in [Project::new(), Project::book()] {
        project.write("page.md", &page);
        project.record_and_settle();
        project.file_is("page.md", page.replace(code, right));
    }
    let project = Project::new().with("page.md", &page);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 0 recordings and 1 page written, 0 refused, 0 failed

"#]]);
}

#[test]
fn what_a_comment_cannot_hold_is_refused() {
    let class = "class Lines:\n    def __repr__(self):\n        return 'a\\nb'\n";
    let page = format!(
        "```python\n{class}\nLines()  # 1\n```\n\n```python\nfor i in range(2):\n    print(i)\n    #> 5\n```\n"
    );
    let project = Project::new().with("page.md", &page);
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
refused: page.md:1 (page/1)
  the block cannot hold what it printed; print it in another way, such as by `repr(…)`

refused: page.md:9 (page/2)
  the block cannot hold what it printed; print it in another way, such as by `repr(…)`

recorded 0 examples: 0 recordings and 0 pages written, 2 refused, 0 failed

"#]]);
    project.file_is("page.md", page);
}

/// Rules are for what an example prints: a comment holds one value.
#[test]
fn a_value_that_varies_is_refused() {
    let page = "```python normalize=address\nobject()  # 2\n```\n";
    let project = Project::new().with("page.md", page);
    let recorded = project.verify("record");
    assert_eq!(recorded.status, 1, "{}", recorded.text());
    let cause = "varies from run to run: memory address";
    assert!(recorded.stdout.contains(cause), "{}", recorded.text());
    project.file_is("page.md", page);
}

/// Its comments say since then what it prints.
#[test]
fn comments_take_the_place_of_a_recording() {
    let project = Project::book().with("page.md", "```python\nprint(1)\n```\n");
    project.record_and_settle();
    project.write("page.md", "```python\nprint(2)\n#> 2\n```\n");
    assert_eq!(project.verify("").status, 1);
    project.record_and_settle();
    assert!(!project.path("expected/page.toml").exists());
}

#[test]
fn comments_and_a_block_below_are_corrected_together() {
    let page = "```python\nprint(1)\n#> 2\n3  # 4\n```\n\n```output\n5\n```\n";
    for project in [Project::new(), Project::book()] {
        project.write("page.md", page);
        project.record_and_settle();
        project.file_is(
            "page.md",
            "```python\nprint(1)\n#> 1\n3  # 3\n```\n\n```output\n1\n```\n",
        );
    }
}
