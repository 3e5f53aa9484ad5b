//! What people get wrong in pages, recordings and configuration: all of it is told at once, each mistake with
//! its place and the way out, and nothing runs.

use snapbox::str;

use crate::project::Project;

const PAGE: &str = "# Page\n\n```python\nprint(1)\n```\n";

#[test]
fn every_mistake_of_every_page_at_once() {
    let project = Project::new()
        .with(
            "a.md",
            r#"# Attributes

```python timeout=soon
pass
```

```python raises
pass
```

```python exits=many memory=lots
pass
```

```python python=">>3"
pass
```

```python normalize=adress
pass
```

<!-- verify: hiden -->
```python
pass
```

```python id=twice
pass
```

```python id=twice
pass
```

```python skip
pass
```
"#,
        )
        .with("b.md", "# Open\n\n```python\nprint(1)\n")
        .with("c.md", b"# Latin\n\n```python\nprint('\xe9')\n```\n");
    let expected = str![[r#"
exit status 2
--- stdout
error: a.md:3: `soon` is not a duration: write one such as `30s`, `500ms` or `2m`
error: a.md:7: `raises` needs a value: write `raises=…`
error: a.md:11: `exits=many` is not an exit status: write a number from 0 to 255
error: a.md:11: `lots` is not a size: write one such as `512MiB` or `2GiB`
error: a.md:15: `python=>>3` is not a version specifier: write one such as `python=">=3.12"`
error: a.md:19: unknown rule `adress`; did you mean `address`?
error: a.md:23: unknown attribute `hiden`: did you mean `hidden`?
error: a.md:32: the id `twice` is taken by the example on line 28: give one of them another `id=`
error: a.md:36: `skip` needs a reason: write `skip="why this does not run"`
error: b.md:3: this fence is never closed: add a line that closes it
error: c.md:4: this is not UTF-8: save the page in that encoding
11 problems; nothing was run

"#]];
    project.verify("").is(expected);
}

#[test]
fn a_mistake_stops_recording_and_is_shown_in_a_list() {
    let project = Project::book()
        .with("a.md", PAGE)
        .with("b.md", "# Open\n\n```python\nprint(1)\n");
    let before = project.files();
    project.verify("record").is(str![[r#"
exit status 2
--- stdout
error: b.md:3: this fence is never closed: add a line that closes it
1 problem; nothing was run

"#]]);
    assert!(before == project.files());
    project.verify("list").is(str![[r#"
exit status 2
--- stdout
a.md:3  page/1  runs
--- stderr
error: b.md:3: this fence is never closed: add a line that closes it

"#]]);
}

#[test]
fn a_page_that_cannot_be_read() {
    let project = Project::new().with("a.md", PAGE);
    // A file whose beginning nobody can read, not even the superuser.
    std::os::unix::fs::symlink("/proc/self/mem", project.path("b.md")).unwrap();
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: b.md: cannot be read, the system says `Input/output error (os error 5)`: make it readable, or name it in `exclude`
1 problem; nothing was run

"#]]);
}

#[test]
fn links_that_go_round_in_circles() {
    let project = Project::new().with("a.md", PAGE).with("part/b.md", PAGE);
    std::os::unix::fs::symlink("..", project.path("part/again")).unwrap();
    std::os::unix::fs::symlink("loop.md", project.path("loop.md")).unwrap();
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: loop.md: cannot be read, the system says `Too many levels of symbolic links (os error 40)`: make it readable, or name it in `exclude`
error: part/again: this link leads back to `.`: remove it or name it in `exclude`
2 problems; nothing was run

"#]]);
}

#[test]
fn a_book_without_anything_to_run() {
    Project::new().verify("").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no Markdown page was found in `[ROOT]`

"#]]);
    let project = Project::book().with("a.md", "# Words\n\nNothing but words.\n");
    project.verify("").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: 1 page without a Python example

"#]]);
    project.verify("record").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: 1 page without a Python example

"#]]);
    project.verify("nowhere.md gone").is(str![[r#"
exit status 2
--- stderr
error: `nowhere.md`, `gone` do not exist

"#]]);
}

#[test]
fn a_page_of_ten_megabytes() {
    let mut page = "words and `code` and *more* of [them](there)\n\n".repeat(220_000);
    page.push_str("```python\nprint(1)\n```\n");
    assert!(page.len() > 10_000_000);
    let project = Project::new().with("a.md", page);
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ a.md  1 ran
0 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_recording_that_is_none() {
    let project = Project::book();
    for name in ["broken", "conflict", "newer", "twice", "unknown", "binary"] {
        project.write(&format!("{name}.md"), PAGE);
    }
    let entry = "[[example]]\nid = \"page/1\"\nstdout = '''\n1\n'''\n";
    project.write("expected/broken.toml", "format = 1\n\n[[example]\nid = 1\n");
    project.write(
        "expected/conflict.toml",
        format!("format = 1\n\n<<<<<<< HEAD\n{entry}=======\n{entry}>>>>>>> theirs\n"),
    );
    project.write("expected/newer.toml", format!("format = 99\n\n{entry}"));
    project.write(
        "expected/twice.toml",
        format!("format = 1\n\n{entry}\n{entry}"),
    );
    project.write(
        "expected/unknown.toml",
        format!("format = 1\n\n{entry}stdoud = \"\"\n"),
    );
    project.write("expected/binary.toml", b"format = 1\n\xff\n");
    let before = project.files();
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: expected/binary.toml: cannot be read: stream did not contain valid UTF-8; make it readable, or delete it and run `verify record`
error: expected/broken.toml:3: not TOML: unclosed array table, expected `]`; correct it, or delete the file and run `verify record`
error: expected/conflict.toml:3: merge conflict markers in a recording; resolve them, or delete the file and run `verify record`
error: expected/newer.toml:1: was written by a newer `verify` (format 99, this one reads 1); update `verify`
error: expected/twice.toml:10: a second example `page/1` (the first is on line 4); remove one of them and run `verify record`
error: expected/unknown.toml:8: unknown key `stdoud`; did you mean `stdout`?
6 problems; nothing was run

"#]]);
    assert_eq!(project.verify("record").status, 2);
    assert!(before == project.files());
}

#[test]
fn a_configuration_with_mistakes() {
    for (text, expected) in [
        (
            "pagse = [\"docs\"]\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:1: unknown key `pagse`: did you mean `pages`?

"#]],
        ),
        (
            "timeout = \"soon\"\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:1: `timeout`: `soon` is not a duration: write one such as `30s`, `500ms` or `2m`

"#]],
        ),
        (
            "pages = [\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:1: unclosed array, expected `]`; `verify init` writes a commented one

"#]],
        ),
        (
            "pages = [\"nowhere\"]\n",
            str![[r#"
exit status 2
--- stderr
error: `pages` names `nowhere`, which does not exist in `[ROOT]`; make it, or correct `verify.toml`

"#]],
        ),
        (
            "pages = []\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:1: `pages` names nothing: name directories or pages, such as `pages = ["."]`

"#]],
        ),
        (
            "\npages = [\".\", \"..\"]\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:2: `pages` names `..`, which is not below `verify.toml`, so that its pages would have no recordings: put `verify.toml` above all pages

"#]],
        ),
        (
            "pages = [\"/etc/passwd\"]\n",
            str![[r#"
exit status 2
--- stderr
error: verify.toml:1: `pages` names `/etc/passwd`, which is not below `verify.toml`, so that its pages would have no recordings: put `verify.toml` above all pages

"#]],
        ),
        (
            "pages = [\"/etc\"]\n",
            str![[r#"
exit status 3
--- stderr
error: nothing to run: no Markdown page was found in `/etc`, which `pages` in `verify.toml` names

"#]],
        ),
        (
            "requirements = \"nowhere.txt\"\n",
            str![[r#"
exit status 2
--- stderr
error: `[ROOT]/nowhere.txt` cannot be read, the system says `No such file or directory (os error 2)`: write it, or correct `requirements` in `verify.toml`

"#]],
        ),
    ] {
        let project = Project::new().with("a.md", PAGE).with("verify.toml", text);
        project.verify("").is(expected);
    }
}

#[test]
fn words_that_the_command_line_does_not_know() {
    let project = Project::new().with("a.md", PAGE);
    project.verify("--chaptre 7").is(str![[r#"
exit status 2
--- stderr
error: unexpected argument '--chaptre' found

  tip: a similar argument exists: '--chapter'

Usage: verify --chapter <NUMBER> [PATH]...

For more information, try '--help'.

"#]]);
    project.verify("lst").is(str![[r#"
exit status 2
--- stderr
error: `lst` does not exist; did you mean `verify list`?

"#]]);
    project.verify("recrod --failed").is(str![[r#"
exit status 2
--- stderr
error: `recrod` does not exist; did you mean `verify record`?

"#]]);
    project.verify("-k (").is(str![[r#"
exit status 2
--- stderr
error: `-k` ends where a word is expected

"#]]);
    project.verify("--format xml").is(str![[r#"
exit status 2
--- stderr
error: invalid value 'xml' for '--format <FORMAT>'
  [possible values: human, json, junit, github]

For more information, try '--help'.

"#]]);
    project.verify("init").is(str![[r#"
exit status 0
--- stdout
wrote ./verify.toml; now `verify record` records what your examples print

"#]]);
    project.verify("init").is(str![[r#"
exit status 2
--- stderr
error: `./verify.toml` exists already; edit it, or remove it first

"#]]);
}

#[test]
fn files_that_would_be_kept_in_the_same_place() {
    let make = |attributes: &str, text: &str| {
        format!(
            "```python {attributes}\nfor name in ['a', 'plot.png', 'sub.toml']:\n    open(name, 'w').write({text})\n```\n\n"
        )
    };
    let project = Project::book()
        .with("p.md", make("artifact=sub.toml", "'hi'"))
        .with("p/sub.md", "```python\nprint(1)\n```\n")
        .with(
            "same.md",
            [
                make("artifact=plot.png", "'1'"),
                make("artifact=plot.png", "'2'"),
                make("artifact=plot.png skip=\"it is not made\"", "'3'"),
                make("artifact=a artifact=a", "'4'"),
            ]
            .concat(),
        );
    project.verify("record").is(str![[r#"
exit status 2
--- stdout
error: p.md:1: `artifact=sub.toml` would be kept in the same place as the recording of `p/sub.md`: give the file another name
error: same.md:6: `artifact=plot.png` would be kept in the same place as `plot.png` of same.md:1: give the file another name
error: same.md:16: `artifact=a` would be kept in the same place as `a` of same.md:16: give the file another name
3 problems; nothing was run

"#]]);
    assert!(!project.path("expected").exists());
}

#[test]
fn a_file_where_a_directory_is() {
    let project = Project::new().with(
        "page.md",
        "```python\nimport os\nos.mkdir('data')\n```\n\n```text file=data\nx\n```\n\n```python\nprint(1)\n```\n",
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✗ page.md  1 ran, 1 failed
error: no result arrived: page.md:6: `data` cannot be written to the session's directory: Is a directory (os error 21)
  --> page.md:11 (page/3, Python [VERSION])
     |
  11 | print(1)
     |
  again: verify page.md --example page/3

0 verified, 1 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}
