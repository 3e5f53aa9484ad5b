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
