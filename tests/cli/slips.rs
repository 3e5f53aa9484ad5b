//! What is nearly right in a page, in `verify.toml` or on the command line: it is never passed over in silence.

use snapbox::str;

use crate::project::Project;

/// A page with one example for each of these info strings.
fn fences(infos: &[&str]) -> String {
    let fence = |info: &&str| format!("```{info}\npass\n```\n\n");
    infos.iter().map(fence).collect()
}

#[test]
fn values_that_end_at_a_comma() {
    let project = Project::new().with(
        "page.md",
        fences(&[
            "python python=>=3.8,<3.10",
            "python requires=sys,nosuchmod",
            "{.python raises=ValueError,TypeError}",
            "python,normalize=address,foo",
        ]) + "<!-- verify: requires=sys,nosuchmod -->\n```python\npass\n```\n",
    );
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: page.md:1: the value of `python` ends at the comma: write `python=">=3.8,<3.10"`, or a space behind the comma
error: page.md:5: the value of `requires` ends at the comma: write `requires="sys,nosuchmod"`, or a space behind the comma
error: page.md:9: the value of `raises` ends at the comma: write `raises="ValueError,TypeError"`, or a space behind the comma
error: page.md:13: the value of `normalize` ends at the comma: write `normalize="address,foo"`, or a space behind the comma
error: page.md:17: the value of `requires` ends at the comma: write `requires="sys,nosuchmod"`, or a space behind the comma
5 problems; nothing was run

"#]]);
    let foreign = fences(&["{.python, .foo}", "python,editable id=a", "py id=b,line=3"]);
    let project = Project::new().with("page.md", foreign);
    assert_eq!(project.verify("").status, 0);
}

#[test]
fn mistakes_in_the_configuration_have_their_line() {
    for (text, expected) in [
        (
            "pages = [\".\"]\ntimout = \"3s\"\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:2: unknown key `timout`: did you mean `timeout`?

"#]],
        ),
        (
            "# Two\n\nexclude = 3\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:3: `exclude`: invalid type: integer `3`, expected a sequence; `verify init` writes a commented one

"#]],
        ),
        (
            "\npython = [\"banana\"]\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:2: `python` names `banana`, which is no version: write one such as `3.13`

"#]],
        ),
        (
            "[environment]\nA = \"1\"\n\"A=B\" = \"x\"\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:3: `environment` sets "A=B", which no variable can be called: write letters, digits and `_`

"#]],
        ),
    ] {
        let project = Project::new().with("verify.toml", text);
        project.verify("list").is(expected);
    }
}

#[test]
fn needs_that_nothing_could_meet() {
    let project = Project::new().with("page.md", fences(&["python requires=\"numpy>=2\""]));
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: page.md:1: `requires` does not know `numpy>=2`: write what stands behind `import` (versions belong into `requirements` of `verify.toml`), `program:NAME` or `root`
1 problem; nothing was run

"#]]);
}

#[test]
fn attributes_that_contradict_each_other() {
    let project = Project::new().with(
        "page.md",
        fences(&[
            "python raises=ValueError exits=3",
            "python id=a id=b",
            "python python=\">=2,<1\"",
            "console exits=3",
        ])
        .replace("exits=3\npass\n```\n\n", "exits=3\n$ exit 3\n```\n\n")
            + "<!-- verify raises=ValueError -->\n```python\npass\n```\n",
    );
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: page.md:1: `raises` and `exits` cannot both come true: remove one of them
error: page.md:5: `id` is given twice: remove one of them
error: page.md:9: `python=>=2,<1` holds for no version: write one such as `python=">=3.12"`
error: page.md:13: `exits` is about an interpreter, and a console block has none: remove it; `$ echo $?` shows a status
error: page.md:17: this is no directive: did you mean `<!-- verify: raises=ValueError -->`?
5 problems; nothing was run

"#]]);
}

#[test]
fn the_options_of_a_cell_are_not_run() {
    let page = "```{code-cell} python\n:tags: [hide]\n\nprint(1)\n```\n\n```{code-cell} ipython3\n---\ntags: [hide]\n---\n1 / 0\n```\n";
    Project::new().with("page.md", page).verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✗ page.md  1 ran, 1 failed
error: raised ZeroDivisionError: division by zero
  --> page.md:11 (page/2, Python [VERSION])
     |
  11 | 1 / 0
     |
  Traceback (most recent call last):
    File "page.md", line 11, in <module>
      1 / 0
  ZeroDivisionError: division by zero
  again: verify page.md --example page/2

0 verified, 1 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_limit_that_an_example_lifts() {
    let page = fences(&["python memory=unlimited"]).replace("pass", "len(bytearray(64 << 20))");
    let project = Project::new().with("page.md", page);
    let project = project.with("verify.toml", "memory = \"32MiB\"\n");
    assert_eq!(project.verify("").status, 0);
}
