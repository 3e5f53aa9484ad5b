//! What `show` says of an example, what `record` says of what it did, and what a command says that finds nothing to run.

use std::fs;

use snapbox::str;

use crate::project::Project;

fn page(attributes: &str, code: &str) -> String {
    format!("# One\n\n```python {attributes}\n{code}\n```\n")
}

/// Failures of each kind that leave nothing behind in an outcome.
const FAILURES: &str = "\
# One

```python timeout=300ms fresh
while True: pass
```

```python exits=4 fresh
print(1)
```

```pycon fresh
>>> 1 + 1
3
```

```python artifact=a.txt fresh
x = 1
```

```python fresh max-output=1KiB
for number in range(3000): print('line', number)
```

```python fresh
import os; os.kill(os.getpid(), 9)
```
";

#[test]
fn the_reason_of_a_failure_is_shown() {
    let project = Project::new().with("page.md", FAILURES);
    let head = |number: u32| {
        let shown = project.verify(&format!("show one/{number}"));
        assert_eq!(shown.status, 1, "{}", shown.text());
        let head = shown.stdout.lines().next().unwrap_or_default();
        head.split_once("  failed on Python [VERSION]: ")
            .map_or(head.to_owned(), |(_, reason)| reason.to_owned())
    };
    let limit = "its time limit; raise it with `timeout=` here or in `verify.toml`";
    assert_eq!(head(1), format!("still running after 0.3s, {limit}"));
    assert_eq!(head(2), "did not exit with the announced status 4");
    assert_eq!(head(4), "did not make the announced file `a.txt`");
    assert_eq!(head(6), "its process was killed by SIGKILL");
    project.verify("show one/3").is(str![[r#"
exit status 1
--- stdout
page.md:11  one/3  failed on Python [VERSION]: a step did not do what the page says
  source:
    >>> 1 + 1
    3
  page.md:12 `1 + 1`, expected (-) and actual (+):
    - 3
    + 2
  stdout:
    2


"#]]);
}

#[test]
fn what_blocks_an_example_is_shown() {
    let project = Project::new().with("page.md", page("", "1/0\n```\n\n```python\nprint(2)"));
    project.verify("show one/2").is(str![[r#"
exit status 1
--- stdout
page.md:7  one/2  blocked on Python [VERSION]: `one/1` failed before it in its session
  source:
    print(2)


"#]]);
}

#[test]
fn a_flood_is_not_shown_in_whole() {
    let project = Project::new().with("page.md", FAILURES);
    let shown = project.verify("show one/5").stdout;
    assert!(shown.contains("printed more than 1024 bytes"), "{shown}");
    assert!(shown.contains(" lines before\n"), "{shown}");
    assert!(shown.lines().count() < 50, "{shown}");
}

#[test]
fn all_that_is_recorded_is_shown() {
    let code = "open('made.txt', 'w').write('hello')\nraise SystemExit(3)";
    let project = Project::book().with("page.md", page("exits=3 artifact=made.txt", code));
    project.record_and_settle();
    project.write("expected/page/made.txt", "other\n");
    project.verify("show one/1").is(str![[r#"
exit status 1
--- stdout
page.md:3  one/1  failed on Python [VERSION]: the file `made.txt` differs from the expected
  source:
    open('made.txt', 'w').write('hello')
    raise SystemExit(3)
  the file `made.txt`, expected (-) and actual (+):
    - other
    + hello (no newline at the end)
  exit status:
    3
  file `made.txt`:
    hello
  recorded exit status:
    3
  recorded file `made.txt`:
    other


"#]]);
}

#[test]
fn what_is_not_run_says_what_becomes_of_it() {
    let project = Project::new().with(
        "page.md",
        "# One\n\n```python file=app.py\nx = 1\n```\n\n```python skip='too long'\nx\n```\n\n```python norun='a sketch'\nx\n```\n",
    );
    project.verify("show one/1").is(str![[r#"
exit status 0
--- stdout
page.md:3  one/1  is written to app.py
  source:
    x = 1


"#]]);
    project.verify("show one/2").is(str![[r#"
exit status 0
--- stdout
page.md:7  one/2  skipped on Python [VERSION]: too long
  source:
    x


"#]]);
    project.verify("show one/3").is(str![[r#"
exit status 0
--- stdout
page.md:11  one/3  illustrative on Python [VERSION]: a sketch
  source:
    x


"#]]);
}

#[test]
fn a_page_may_be_named_from_any_directory() {
    let project = Project::book()
        .with("docs/page.md", page("", "x = 1"))
        .with("docs/other.md", page("", "x = 2"))
        .with("src/below/empty", "");
    let absolute = project.path("docs/page.md");
    for (directory, typed) in [
        ("", "docs/page.md:4"),
        ("", "./docs/page.md::one/1"),
        ("docs", "page.md:4"),
        ("docs", "docs/page.md:4"),
        ("docs", "../docs/page.md:4"),
        ("src/below", "docs/page.md:4"),
        ("src/below", "../../docs/page.md::one/1"),
        ("src", &format!("{}:4", absolute.display())),
    ] {
        let shown = project.verify_with("", |command| {
            command.args(["show", typed]);
            command.current_dir(project.path(directory));
        });
        assert_eq!(shown.status, 0, "{directory} {typed}: {}", shown.text());
        assert_eq!(shown.stdout.matches("x = 1").count(), 1, "{typed}");
        assert!(!shown.stdout.contains("x = 2"), "{typed}");
    }
}

#[test]
fn files_alone_are_nothing_to_run() {
    let project = Project::book()
        .with("page.md", page("file=app.py", "x = 1"))
        .with("other.md", page("", "x = 2"));
    for words in [
        "page.md",
        "page.md --example one/1",
        "record page.md",
        "page.md",
    ] {
        let ran = project.verify(words);
        assert_eq!(ran.status, 3, "{words}: {}", ran.text());
        assert_eq!(
            ran.stderr,
            "error: nothing to run: what is selected is there for other examples, as files\n",
            "{words}"
        );
        assert_eq!(ran.stdout, "", "{words}");
    }
    assert_eq!(project.verify("").status, 0);
    assert_eq!(project.verify("").status, 0, "from the cache");
}

#[test]
fn recording_nothing_says_so() {
    let project = Project::book();
    project.verify("record").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no Markdown page was found in `[ROOT]`

"#]]);
    project.verify("record verify.toml").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: 1 page without a Python example

"#]]);
    project.write("page.md", page("", "print(1)"));
    project.record_and_settle();
    fs::write(project.path("page.md"), "# One\n").unwrap();
    project.verify("record page.md").is(str![[r#"
exit status 0
--- stdout
removed expected/page.toml
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    assert_eq!(project.verify("record page.md").status, 3);
}

#[test]
fn without_sessions_nothing_is_said_of_the_sandbox() {
    let project = Project::new().with("page.md", page("", "x = 1"));
    let output = project.command("--probe-skips").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let header = text.lines().next().unwrap_or_default();
    assert!(header.ends_with(": 0 examples on 0 pages"), "{header}");
}

#[test]
fn recording_has_no_report_for_programs() {
    let project = Project::book().with("page.md", page("", "import os\nprint(os.getpid())"));
    for words in ["--format json", "--format junit", "--output report.json"] {
        let ran = project.verify(&format!("record {words}"));
        assert_eq!(ran.status, 2, "{words}: {}", ran.text());
        assert_eq!(
            ran.stderr,
            "error: `verify record` tells people what it wrote, and has no `--format` or `--output`: for a report, run `verify` with them afterwards\n",
        );
        assert_eq!(ran.stdout, "", "{words}");
    }
    assert!(!project.path("report.json").exists());
    let help = project.verify("record --help").stdout;
    assert!(help.contains("--quiet"), "{help}");
    assert!(
        !help.contains("--format") && !help.contains("--output"),
        "{help}"
    );
}

/// What `record` names as the cause of a difference.
fn cause(words: &str, project: &Project) -> String {
    let ran = project.verify(&format!("record {words}"));
    let begin = "its output varies from run to run: ";
    let cause = ran
        .stdout
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(begin));
    cause.unwrap_or_else(|| panic!("{}", ran.text())).to_owned()
}

#[test]
fn numbers_are_what_the_words_beside_them_say() {
    let of = |code: &str| cause("", &Project::book().with("page.md", page("", code)));
    assert_eq!(of("import os\nprint(os.getpid())"), "process id");
    let bind = "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))";
    assert_eq!(
        of(&format!("{bind}\nprint(s.getsockname()[1])")),
        "port number that the system chose"
    );
    assert_eq!(
        of("import os, sys\nx = [None] * (os.getpid() % 977)\nprint(sys.getrefcount(None) / 7)"),
        "unknown"
    );
}

#[test]
fn what_differs_by_luck_is_not_blamed_on_what_was_varied() {
    let project = Project::book();
    let runs = project.path("runs");
    // The first run, all varied, nothing varied, objects elsewhere, and then nothing varied again.
    let code = format!(
        "# As random numbers may come.\nruns = open({runs:?}, 'a+')\nprint([1, 2, 1, 2, 2][min(runs.tell(), 4)])\nruns.write('.')"
    );
    project.write("page.md", page("", &code));
    assert_eq!(cause("--sandbox=off", &project), "random without a seed");
}

#[test]
fn the_words_behind_an_output_may_hold_a_back_tick() {
    let project = Project::new()
        .with("verify.toml", "output = \"page\"\n")
        .with(
            "page.md",
            "# One\n\n```python\nprint('~~~')\n```\n\n~~~output title=`x`\nold\n~~~\n",
        );
    project.record_and_settle();
    project.file_is(
        "page.md",
        str![[r#"
# One

```python
print('~~~')
```

~~~~output title=`x`
~~~
~~~~

"#]],
    );
}

#[test]
fn the_step_is_named_that_a_block_cannot_hold() {
    let project = Project::book().with(
        "page.md",
        "# One\n\n```pycon\n>>> 1 + 1\n2\n>>> print('>>> x')\ny\n```\n",
    );
    let ran = project.verify("record");
    let wanted = "the block cannot hold what `print('>>> x')` printed; print it";
    assert!(ran.stdout.contains(wanted), "{}", ran.text());
}

#[test]
fn a_renamed_page_has_not_run_before() {
    let project = Project::book().with("old.md", page("", "print(1)"));
    project.record_and_settle();
    // What all sessions stand on is another thing now.
    project.write("verify.toml", "[environment]\nREGION = \"eu\"\n");
    let why = |project: &Project| {
        let explained = project.verify("--explain one/1").stdout;
        let line = explained.lines().find(|line| line.contains("(one/1) "));
        let why = line.and_then(|line| line.split_once("(one/1) "));
        why.unwrap_or_else(|| panic!("{explained}")).1.to_owned()
    };
    assert!(why(&project).starts_with("ran: changed since: "));
    fs::rename(project.path("old.md"), project.path("new.md")).unwrap();
    assert_eq!(why(&project), "ran: it has not run here before");
}

#[test]
fn a_session_of_which_nothing_runs_did_not_run() {
    let project = Project::new().with("page.md", page("skip=reason", "print(1)"));
    project.verify("--explain one/1").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 skipped
  page.md:3 (one/1) did not run: none of its examples runs here
0 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 1 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn carriage_returns_alone_are_what_leaves_a_fence_open() {
    let lines = page("", "print(1)").replace('\n', "\r");
    let project = Project::new().with("page.md", lines);
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: page.md:5: lines of this page end in carriage returns alone, so that its fences are not found: save it with line feeds
1 problem; nothing was run

"#]]);
}

#[test]
fn half_a_pair_of_surrogates_is_recorded_as_python_prints_it() {
    let code = "raise ValueError('a\\ud800b')";
    let project = Project::book().with("page.md", page("raises=ValueError", code));
    project.record_and_settle();
    let recorded = project.read("expected/page.toml");
    assert!(recorded.contains(r"ValueError: a\ud800b"), "{recorded}");
    project.write("page.md", page("", code));
    let ran = project.verify("");
    assert!(
        ran.stdout.contains(r"ValueError: a\ud800b"),
        "{}",
        ran.text()
    );
    assert!(!ran.stdout.contains('\u{fffd}'), "{}", ran.text());
}
