//! Which examples a command is about: paths, chapters, sections, ids, words, git, the last run, shards.

use std::collections::BTreeSet;

use snapbox::str;

use crate::project::Project;

/// Two chapters with three pages, and a page outside of them.
fn book() -> Project {
    Project::new()
        .with("verify.toml", "session = \"heading\"\n")
        .with("README.md", "# About\n\n```python\n1\n```\n")
        .with(
            "05-functions/04-closures.md",
            r#"# 5.4 Closures

```python
1
```

## 5.4.1 Late binding

```python id=late
2
```

## 5.4.2 Cells

```python
cell = 3
```

```python
cell + 1
```
"#,
        )
        .with(
            "05-functions/05-decorators.md",
            "# 5.5 Decorators\n\n```python\n1\n```\n\n## 5.5.1 With arguments\n\n```python id=late\n2\n```\n",
        )
        .with(
            "07-advanced/03-context-managers.md",
            "# 7.3 Context managers\n\n```python\n1\n```\n\n## 7.31 Not within 7.3\n\n```python\n2\n```\n",
        )
}

#[test]
fn everything_without_a_word() {
    book().verify("list").is(str![[r#"
exit status 0
--- stdout
README.md:3  about/1  runs
05-functions/04-closures.md:3  closures/1  runs
05-functions/04-closures.md:9  late  runs
05-functions/04-closures.md:15  cells/1  runs
05-functions/04-closures.md:19  cells/2  runs
05-functions/05-decorators.md:3  decorators/1  runs
05-functions/05-decorators.md:9  late  runs
07-advanced/03-context-managers.md:3  context-managers/1  runs
07-advanced/03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
}

#[test]
fn paths_of_pages_and_directories() {
    let project = book();
    project.verify("list 07-advanced README.md").is(str![[r#"
exit status 0
--- stdout
README.md:3  about/1  runs
07-advanced/03-context-managers.md:3  context-managers/1  runs
07-advanced/03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
    project
        .verify("list 05-functions 05-functions/04-closures.md")
        .is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:3  closures/1  runs
05-functions/04-closures.md:9  late  runs
05-functions/04-closures.md:15  cells/1  runs
05-functions/04-closures.md:19  cells/2  runs
05-functions/05-decorators.md:3  decorators/1  runs
05-functions/05-decorators.md:9  late  runs

"#]]);
    project
        .verify_with("list ../README.md .", |command| {
            command.current_dir(project.path("07-advanced"));
        })
        .is(str![[r#"
exit status 0
--- stdout
[ROOT]/README.md:3  about/1  runs
03-context-managers.md:3  context-managers/1  runs
03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
    project.verify("list 08-missing").is(str![[r#"
exit status 2
--- stderr
error: `08-missing` does not exist

"#]]);
    project.verify("08-missing 09-missing").is(str![[r#"
exit status 2
--- stderr
error: `08-missing`, `09-missing` do not exist

"#]]);
}

#[test]
fn chapters() {
    let project = book();
    project.verify("list --chapter 5 --chapter 7").is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:3  closures/1  runs
05-functions/04-closures.md:9  late  runs
05-functions/04-closures.md:15  cells/1  runs
05-functions/04-closures.md:19  cells/2  runs
05-functions/05-decorators.md:3  decorators/1  runs
05-functions/05-decorators.md:9  late  runs
07-advanced/03-context-managers.md:3  context-managers/1  runs
07-advanced/03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
    project.verify("list --chapter 7").is(str![[r#"
exit status 0
--- stdout
07-advanced/03-context-managers.md:3  context-managers/1  runs
07-advanced/03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
    project.verify("--chapter 6").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example is in chapter 6; `verify list` shows all

"#]]);
    project.verify("--chapter seven").is(str![[r#"
exit status 2
--- stderr
error: invalid value 'seven' for '--chapter <NUMBER>': invalid digit found in string

For more information, try '--help'.

"#]]);
}

#[test]
fn sections_with_their_subsections() {
    let project = book();
    project.verify("list --section 5.4").is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:3  closures/1  runs
05-functions/04-closures.md:9  late  runs
05-functions/04-closures.md:15  cells/1  runs
05-functions/04-closures.md:19  cells/2  runs

"#]]);
    project
        .verify("list --section 5.4.2 --section 7.31")
        .is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:15  cells/1  runs
05-functions/04-closures.md:19  cells/2  runs
07-advanced/03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
    project.verify("list --section 5.4.").is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:3  closures/1  runs
05-functions/04-closures.md:9  late  runs
05-functions/04-closures.md:15  cells/1  runs
05-functions/04-closures.md:19  cells/2  runs

"#]]);
}

#[test]
fn an_example_by_id_by_page_and_id_and_by_line() {
    let project = book();
    project.verify("list --example late").is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:9  late  runs
05-functions/05-decorators.md:9  late  runs

"#]]);
    project
        .verify("list --example 04-closures.md::late")
        .is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:9  late  runs

"#]]);
    project
        .verify("list --example 05-functions/04-closures.md:17")
        .is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:15  cells/1  runs

"#]]);
    project
        .verify("list --example 04-closures.md:18")
        .is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example is called `04-closures.md:18`; `verify list` shows all

"#]]);
    project
        .verify("list --example ./04-closures.md::late")
        .is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:9  late  runs

"#]]);
    project
        .verify("list --example closures.md::late")
        .is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example is called `closures.md::late`; `verify list` shows all

"#]]);
    project.verify("--example lat").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example is called `lat`: did you mean `late`?; `verify list` shows all

"#]]);
}

#[test]
fn each_of_several_has_to_be_there() {
    let project = book();
    project
        .verify("--example 04-closures.md::late --example typo --chapter 5 --chapter 88")
        .is(str![[r#"
exit status 2
--- stderr
error: no example is in chapter 88; no example is called `typo`

"#]]);
    project.verify("--section 7.3 --section 9").is(str![[r#"
exit status 2
--- stderr
error: no example is in section `9`

"#]]);
    project
        .verify("record --example late --example cels/2")
        .is(str![[r#"
exit status 2
--- stderr
error: no example is called `cels/2`: did you mean `cells/2`?

"#]]);
    project
        .verify("list --example cells/2 --example 04-closures.md::lat")
        .is(str![[r#"
exit status 2
--- stdout
05-functions/04-closures.md:19  cells/2  runs
--- stderr
error: no example is called `04-closures.md::lat`: did you mean `04-closures.md::late`?

"#]]);
    project.verify("show cell/2").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example is called `cell/2`: did you mean `cells/2`?; `verify list` shows all

"#]]);
    project.verify("--section foo").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example is in section `foo`: write the number that a heading begins with, such as `7.3`; `verify list` shows all

"#]]);
    // Each is there, and no example is both: that is no slip.
    project.verify("--section 7.3 --example late").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: none of 9 examples is selected; `verify list` shows them

"#]]);
}

#[test]
fn what_an_example_builds_on_is_run_but_not_reported() {
    book().verify("-v --example cells/2").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ 05-functions/04-closures.md  1 ran
  ran          05-functions/04-closures.md:19 cells/2
0 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn words_in_names_ids_and_headings() {
    let project = book();
    let list = |expression: &str| {
        project.verify_with("list -k", |command| {
            command.arg(expression);
        })
    };
    list("late").is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:9  late  runs
05-functions/05-decorators.md:9  late  runs

"#]]);
    list("functions and not (late or cells)").is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:3  closures/1  runs
05-functions/05-decorators.md:3  decorators/1  runs

"#]]);
    list("CONTEXT").is(str![[r#"
exit status 0
--- stdout
07-advanced/03-context-managers.md:3  context-managers/1  runs
07-advanced/03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
    list("late or").is(str![[r#"
exit status 2
--- stderr
error: `-k` ends where a word is expected

"#]]);
    list("late cells").is(str![[r#"
exit status 2
--- stderr
error: `-k` does not expect `cells` there: write words joined by `and`, `or`, `not`

"#]]);
}

#[test]
fn all_that_is_given_must_hold() {
    book()
        .verify("list 05-functions --section 5 --example late -k binding")
        .is(str![[r#"
exit status 0
--- stdout
05-functions/04-closures.md:9  late  runs

"#]]);
}

#[test]
fn what_failed_in_the_last_run() {
    let project = book();
    project.verify("--failed").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example failed in the last run

"#]]);
    project.write("07-advanced/03-context-managers.md", "# 7.3 Context managers\n\n```python id=bad\n1 / 0\n```\n\n## Next\n\n```python id=good\n1\n```\n");
    assert_eq!(project.verify("").status, 1);
    project.verify("list --failed").is(str![[r#"
exit status 0
--- stdout
07-advanced/03-context-managers.md:3  bad  runs

"#]]);
    // The same from another directory, and after a run of something else.
    assert_eq!(project.verify("05-functions").status, 0);
    project
        .verify_with("list --failed", |command| {
            command.current_dir(project.path("07-advanced"));
        })
        .is(str![[r#"
exit status 0
--- stdout
03-context-managers.md:3  bad  runs

"#]]);
    project.write(
        "07-advanced/03-context-managers.md",
        "# 7.3 Context managers\n\n```python id=bad\n1\n```\n",
    );
    project.verify("--failed").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ 07-advanced/03-context-managers.md  1 ran
0 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 1 of 1 session from the cache

"#]]);
    project.verify("--failed").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: no example failed in the last run

"#]]);
}

#[test]
fn what_git_says_has_changed() {
    let project = book();
    let git = |words: &str| project.git(words);
    project.verify("--changed").is(str![[r#"
exit status 2
--- stderr
error: `--changed=HEAD`: git says: fatal: not a git repository (or any of the parent directories): .git

"#]]);
    git("init --quiet --initial-branch=main");
    git("config user.name tester");
    git("config user.email tester@example.org");
    git("add .");
    git("commit --quiet -m one");
    project.verify("--changed").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: none of 9 examples is selected; `verify list` shows them

"#]]);

    project.write("05-functions/new page.md", "```python\n1\n```\n");
    project.write("README.md", "# About\n\n```python\n2\n```\n");
    project.verify("list --changed").is(str![[r#"
exit status 0
--- stdout
README.md:3  about/1  runs
05-functions/new page.md:1  new-page/1  runs

"#]]);
    git("add .");
    git("commit --quiet -m two");
    project.verify("list --changed").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: none of 10 examples is selected; `verify list` shows them

"#]]);
    project.verify("list --changed=HEAD~1").is(str![[r#"
exit status 0
--- stdout
README.md:3  about/1  runs
05-functions/new page.md:1  new-page/1  runs

"#]]);

    // A recording that somebody edited concerns its page.
    project.write(
        "expected/07-advanced/03-context-managers.toml",
        "# verify recording, format 1\nformat = 1\n",
    );
    project
        .verify_with("list --changed", |command| {
            command.current_dir(project.path("05-functions"));
        })
        .is(str![[r#"
exit status 0
--- stdout
[ROOT]/07-advanced/03-context-managers.md:3  context-managers/1  runs
[ROOT]/07-advanced/03-context-managers.md:9  not-within-7-3/1  runs

"#]]);
    project.verify("--changed=no-such-branch").is(str![[r#"
exit status 2
--- stderr
error: `--changed=no-such-branch`: git says: fatal: bad revision 'no-such-branch'

"#]]);
    project
        .verify_with("--changed", |command| {
            command.env("PATH", "/nowhere");
        })
        .is(str![[r#"
exit status 2
--- stderr
error: `--changed` asks git, which cannot be started: No such file or directory (os error 2)

"#]]);
}

#[test]
fn git_is_asked_for_changes_alone() {
    let project = Project::new()
        .with("docs/verify.toml", "")
        .with("docs/page.md", "# Page\n\n```python\n1\n```\n");
    let git = |words: &str| project.git(words);
    git("init --quiet --initial-branch=main");
    git("config user.name tester");
    git("config user.email tester@example.org");
    git("add .");
    git("commit --quiet -m one");
    git("config diff.relative true");
    project.write("docs/page.md", "# Page\n\n```python\n2\n```\n");
    project.verify("list docs --changed").is(str![[r#"
exit status 0
--- stdout
docs/page.md:3  page/1  runs

"#]]);
    for option in ["-R", "--stat", "--output=written"] {
        let ran = project.verify(&format!("list docs --changed={option}"));
        assert_eq!(ran.status, 2, "{}", ran.text());
        let says =
            format!("error: `--changed={option}`: git says: fatal: bad revision '{option}'\n");
        assert_eq!(ran.stderr, says);
    }
    assert!(!project.path("docs/written").exists());
}

/// Ids of the examples that a run has reported, with their pages.
fn reported(project: &Project, words: &str) -> BTreeSet<String> {
    let ran = project.verify(words);
    assert_eq!(ran.status, 0, "{}", ran.text());
    ran.stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  ran          "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn shards_together_are_everything_and_share_nothing() {
    let project = book();
    let all = reported(&project, "-v");
    assert_eq!(all.len(), 9);
    let mut union = BTreeSet::new();
    // Each run leaves durations behind, as it does when one machine runs several shards.
    for shard in ["1/3", "2/3", "3/3"] {
        let part = reported(&project, &format!("-v --shard {shard}"));
        assert!(!part.is_empty(), "{shard}");
        assert!(union.is_disjoint(&part), "{shard}");
        union.extend(part);
    }
    assert_eq!(union, all);
}

#[test]
fn shards_that_cannot_be() {
    let project = book();
    project.verify("--shard 3").is(str![[r#"
exit status 2
--- stderr
error: invalid value '3' for '--shard <I/N>': write a part and their number, such as 1/4

For more information, try '--help'.

"#]]);
    project.verify("--shard 0/3").is(str![[r#"
exit status 2
--- stderr
error: invalid value '0/3' for '--shard <I/N>': write a part and their number, such as 1/4

For more information, try '--help'.

"#]]);
    project.verify("README.md --shard 2/2").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 0 examples on 0 pages
0 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]
--- stderr
nothing to run in shard 2/2: 1 session in all

"#]]);
}

#[test]
fn stopping_at_the_first_failure() {
    let project = Project::new().with(
        "page.md",
        "```python\n1 / 0\n```\n\n```python session=b\n1 / 0\n```\n\n```python session=c\n1 / 0\n```\n",
    );
    project.verify("--fail-fast --jobs 1").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 1 page
✗ page.md  1 failed
error: raised ZeroDivisionError: division by zero
  --> page.md:2 (page/1, Python [VERSION])
    |
  2 | 1 / 0
    |
  Traceback (most recent call last):
    File "page.md", line 2, in <module>
      1 / 0
  ZeroDivisionError: division by zero
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative; stopped early in [TIME]

"#]]);
}
