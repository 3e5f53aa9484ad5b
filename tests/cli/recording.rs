//! What `record` writes, what it keeps, and what it refuses.

use std::fs;

use snapbox::str;

use crate::project::{OTHER_PYTHON, PYTHON, Project, minor};

/// A page with one example.
fn page(attributes: &str, code: &str) -> String {
    format!("# One\n\n```python {attributes}\n{code}\n```\n")
}

#[test]
fn new_changed_and_removed_examples() {
    let project = Project::book()
        .with("a.md", "```python id=kept\nprint('kept')\n```\n\n```python id=changed\nprint('old')\n```\n\n```python id=goes\nprint('goes')\n```\n")
        .with("sub/b.md", page("", "print('b')"));
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 2 pages
recorded 4 examples: 2 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "expected/a.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "kept"
stdout = '''
kept
'''

[[example]]
id = "changed"
stdout = '''
old
'''

[[example]]
id = "goes"
stdout = '''
goes
'''

"##]],
    );

    project.write("a.md", "```python id=new\nprint('new')\n```\n\n```python id=changed\nprint('changed')\n```\n\n```python id=kept\nprint('kept')\n```\n");
    fs::rename(project.path("sub"), project.path("moved")).unwrap();
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 2 pages
✗ a.md  1 verified, 1 failed, 1 unrecorded
error: nothing is recorded for this output
  --> a.md:2 (new, Python [VERSION])
    |
  2 | print('new')
    |
  stdout:
    new
  again: verify a.md --example new
  record: verify record a.md --example new

error: stdout differs from the expected
  --> a.md:6 (changed, Python [VERSION])
    |
  6 | print('changed')
    |
  stdout, expected (-) and actual (+):
    - old
    + changed
  again: verify a.md --example changed

✗ moved/b.md  1 unrecorded
error: nothing is recorded for this output
  --> moved/b.md:4 (one/1, Python [VERSION])
    |
  4 | print('b')
    |
  stdout:
    b
  again: verify moved/b.md --example one/1
  record: verify record moved/b.md --example one/1

orphan: expected/sub/b.toml belongs to no example; `verify record` removes it
orphan: expected/a.toml: goes belongs to no example; `verify record` removes it
1 verified, 0 ran, 1 failed, 2 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    assert_eq!(project.verify("--strict --quiet").status, 1);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 2 pages
removed expected/sub/b.toml
removed expected/a.toml: goes
recorded 3 examples: 2 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "expected/a.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "new"
stdout = '''
new
'''

[[example]]
id = "changed"
stdout = '''
changed
'''

[[example]]
id = "kept"
stdout = '''
kept
'''

"##]],
    );
    assert_eq!(
        project
            .files()
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>(),
        [
            "a.md",
            "expected/a.toml",
            "expected/moved/b.toml",
            "moved/b.md",
            "verify.toml"
        ]
    );
    project.record_and_settle();
}

#[test]
fn recording_a_part_leaves_the_rest_alone() {
    let project = Project::book()
        .with(
            "a.md",
            "```python id=one\nprint(1)\n```\n\n```python id=two\nprint(2)\n```\n",
        )
        .with("b.md", page("", "print('b')"));
    project.record_and_settle();
    project.write(
        "a.md",
        "```python id=one\nprint('one')\n```\n\n```python id=three\nprint(3)\n```\n",
    );
    fs::remove_file(project.path("b.md")).unwrap();
    project.verify("record --example one").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "expected/a.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one"
stdout = '''
one
'''

[[example]]
id = "two"
stdout = '''
2
'''

"##]],
    );
    // A page that is recorded as a whole loses what it does not have any more; other pages' stay.
    project.verify("record a.md").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
removed expected/a.toml: two
recorded 1 example: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "expected/a.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one"
stdout = '''
one
'''

[[example]]
id = "three"
stdout = '''
3
'''

"##]],
    );
    assert!(project.path("expected/b.toml").exists());
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
removed expected/b.toml
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    assert!(!project.path("expected/b.toml").exists());
}

#[test]
fn every_kind_of_text_is_kept_to_the_byte() {
    let project = Project::book().with(
        "page.md",
        r#"```python
print("trailing  ")
print("tab\there")
print("''' quotes \"\"\" and \\ backslash")
print("ünïcödé 日本語 🐍")
print("escape \x1b[31m, bell \a, nul \0, cr \r, zero width \u200b")
print()
print("no newline at the end", end="")
```

```python
import sys
sys.stdout.buffer.write(b"\xff\xfe bytes\n")
sys.stdout.flush()
sys.stderr.write("and stderr")
```

```python raises=ExceptionGroup
error = ExceptionGroup("several", [ValueError("one"), KeyError("two")])
error.add_note("a note")
raise error from OSError("cause")
```

```python
print("...")
print("[..] is text here")
```

```python
print("a single line")
```
"#
        .replace(
            "raises=ExceptionGroup",
            "raises=ExceptionGroup python=\">=3.11\"",
        ),
    );
    project.record_and_settle();
    if PYTHON.version >= (3, 11, 0) {
        project.file_is(
            "expected/page.toml",
            str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "page/1"
stdout = """
trailing  
tab	here
''' quotes ""\" and \\ backslash
ünïcödé 日本語 🐍
escape \u001B[31m, bell \u0007, nul \u0000, cr \r, zero width \u200B

no newline at the end"""

[[example]]
id = "page/2"
stdout-bytes = "fffe2062797465730a"
stderr = "and stderr"

[[example]]
id = "page/3"
exception = """
OSError: cause

The above exception was the direct cause of the following exception:

ExceptionGroup: several (2 sub-exceptions)
a note
    ValueError: one
    KeyError: 'two'"""

[[example]]
id = "page/4"
literal = true
stdout = '''
...
[..] is text here
'''

[[example]]
id = "page/5"
stdout = '''
a single line
'''

"##]],
        );
    }
    // Dots that were printed are no wildcards.
    let text = project
        .read("page.md")
        .replace("print(\"...\")", "print('something else')");
    project.write("page.md", text);
    assert_eq!(project.verify("").status, 1);
}

#[test]
fn wildcards_that_somebody_wrote_are_kept_while_they_match() {
    let project = Project::book().with("page.md", page("", "print('a 1')\nprint('b')\nprint('c')"));
    project.record_and_settle();
    let recording = project.read("expected/page.toml");
    project.write(
        "expected/page.toml",
        recording.replace("a 1\nb\nc\n", "a [..]\n...\nc\n"),
    );
    let by_hand = project.read("expected/page.toml");
    assert_ne!(by_hand, recording);
    project.record_and_settle();
    assert_eq!(project.read("expected/page.toml"), by_hand);

    project.write(
        "page.md",
        page(
            "",
            "import random\nprint('a', random.random())\nprint('b')\nprint('c')",
        ),
    );
    project.record_and_settle();
    assert_eq!(project.read("expected/page.toml"), by_hand);

    project.write("page.md", page("", "print('x 1')\nprint('b')\nprint('c')"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: stdout differs from the expected
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | print('x 1')
  5 | print('b')
  6 | print('c')
    |
  stdout, expected (-) and actual (+):
    - a [..]
      ...
      c
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one/1"
stdout = '''
x 1
b
c
'''

"##]],
    );
}

#[test]
fn a_comment_and_a_layout_by_hand_last_until_something_changes() {
    let project = Project::book().with("page.md", page("", "print('a')"));
    let by_hand = "# by hand\nformat = 1\n\n[[example]]\nid = 'one/1'\nstdout = \"a\\n\"\n";
    project.write("expected/page.toml", by_hand);
    project.record_and_settle();
    assert_eq!(project.read("expected/page.toml"), by_hand);
}

#[test]
fn what_fails_is_not_recorded() {
    let project = Project::book().with("page.md", page("", "print('before')\n1 / 0"));
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
error: raised ZeroDivisionError: division by zero
  --> page.md:5 (one/1, Python [VERSION])
    |
  4 | print('before')
  5 | 1 / 0
    |
  Traceback (most recent call last):
    File "page.md", line 5, in <module>
      1 / 0
  ZeroDivisionError: division by zero
  stdout:
    before
  again: verify page.md --example one/1

recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 1 failed

"#]]);
    assert!(!project.path("expected").exists());
    project.record_failing(page("timeout=200ms", "while True: pass"));
    project.record_failing(page("", "import os\nos.abort()"));
    project.record_failing(page("", "import sys\nsys.exit(1)"));
    project.record_failing(page("raises=KeyError", "print('none')"));
}

impl Project {
    /// Recording this page fails and leaves no trace.
    #[track_caller]
    fn record_failing(&self, page: String) {
        self.write("page.md", page);
        let before = self.files();
        let ran = self.verify("record --quiet");
        assert_eq!(ran.status, 1, "{}", ran.text());
        assert!(before == self.files());
    }
}

#[test]
fn a_failing_example_keeps_its_recording() {
    let project = Project::book().with("page.md", page("", "print('a')"));
    project.record_and_settle();
    project.record_failing(page("", "print('a')\nundefined"));
    assert!(project.read("expected/page.toml").contains("a\n"));
}

#[test]
fn continuous_integration_only_checks() {
    let project = Project::book().with("page.md", page("", "print('a')"));
    let in_ci = |words: &str, value: &str| {
        project.verify_with(words, |command| {
            command.env("CI", value);
        })
    };
    in_ci("record", "true").is(str![[r#"
exit status 2
--- stderr
error: `CI` is set, where recording would hide what a check is for; pass `--in-ci` to record all the same

"#]]);
    assert!(!project.path("expected").exists());
    assert_eq!(in_ci("record", "1").status, 2);
    in_ci("record --in-ci", "true").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    assert_eq!(in_ci("", "true").status, 0);
    assert_eq!(in_ci("record", "false").status, 0);
    assert_eq!(in_ci("record", "").status, 0);
}

#[test]
fn a_second_interpreter_adds_what_differs() {
    let Some(other) = &*OTHER_PYTHON else {
        return;
    };
    let code = "import sys\nprint('same')\nprint(sys.version_info[:2])";
    let project = Project::new()
        .with(
            "verify.toml",
            format!("python = [\"{}\", \"{}\"]\n", minor(&PYTHON), minor(other)),
        )
        .with(
            "page.md",
            page("", code) + "\n```python\nprint('the same everywhere')\n```\n",
        );
    let on = |words: &str, python: &str| {
        project.verify_with(words, |command| {
            command.args(["--python", python]);
        })
    };
    // Found by their folders: neither has to be the `python3` on `PATH`.
    let home = std::env::var_os("HOME").unwrap();
    let record = |words: &str| {
        project.verify_with(words, |command| {
            command.env("HOME", &home);
        })
    };
    let ran = record("record");
    assert_eq!(ran.status, 0, "{}", ran.text());
    let (base, variant) = (
        format!("({}, {})", PYTHON.version.0, PYTHON.version.1),
        format!("({}, {})", other.version.0, other.version.1),
    );
    assert_eq!(
        project.read("expected/page.toml"),
        format!(
            "# verify recording, format 1\nformat = 1\n\n[[example]]\nid = \"one/1\"\nstdout = '''\nsame\n{base}\n'''\n\n\
             [example.python.\"{}\"]\nstdout = '''\nsame\n{variant}\n'''\n\n\
             [[example]]\nid = \"one/2\"\nstdout = '''\nthe same everywhere\n'''\n",
            minor(other)
        )
    );
    let recorded = project.files();
    assert_eq!(record("record").status, 0);
    assert!(recorded == project.files());
    for python in [&PYTHON.executable, &other.executable] {
        let ran = on("", &python.display().to_string());
        assert_eq!(ran.status, 0, "{}", ran.text());
    }
    let both = project.verify_with("", |command| {
        command
            .arg("--python")
            .arg(&PYTHON.executable)
            .arg("--python")
            .arg(&other.executable);
    });
    both.is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `--python`): 2 examples on 1 page
✓ page.md  2 verified
Python [VERSION]: 2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 1 of 1 session from the cache
Python [OTHER VERSION] ([OTHER PYTHON], by `--python`): 2 examples on 1 page
✓ page.md  2 verified
Python [OTHER VERSION]: 2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 1 of 1 session from the cache

"#]]);
}

#[test]
fn recording_nothing_new_says_so() {
    let project = Project::book().with("page.md", page("", "print('a')"));
    project.record_and_settle();
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    project.verify("record nothing.md").is(str![[r#"
exit status 2
--- stderr
error: `nothing.md` does not exist

"#]]);
    project.verify("record --example nothing").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example is called `nothing`; `verify list` shows all

"#]]);
}

#[test]
fn recording_where_every_page_is_gone_removes_their_recordings() {
    let project = Project::book().with("page.md", page("", "print('a')"));
    project.record_and_settle();
    fs::remove_file(project.path("page.md")).unwrap();
    project.verify("").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no Markdown page was found in `[ROOT]`

"#]]);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
removed expected/page.toml
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    assert!(!project.path("expected/page.toml").exists());
}

#[test]
fn recording_removes_recordings_and_nothing_else() {
    let example = "open('out.toml', 'w').write('made = 1\\n')";
    let project = Project::new()
        .with("verify.toml", "expected = \"data\"\n")
        .with("page.md", page("artifact=out.toml", example))
        .with("data/settings.toml", "own = 1\n")
        .with("data/sub/empty.toml", "")
        .with(
            "data/gone.toml",
            "<<<<<<< ours\n# verify recording, format 1\n",
        );
    for _ in 0..2 {
        assert_eq!(project.verify("record").status, 0);
    }
    assert_eq!(project.read("data/settings.toml"), "own = 1\n");
    assert_eq!(project.read("data/sub/empty.toml"), "");
    assert_eq!(project.read("data/page/out.toml"), "made = 1\n");
    assert!(!project.path("data/gone.toml").exists());
}

#[test]
fn somebodys_pages_are_not_given_recordings() {
    let project = Project::new().with("page.md", page("", "print('a')"));
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    assert!(!project.path("expected").exists());
}
