//! Console blocks: commands of a shell, with what they print.

use regex::Regex;
use snapbox::str;

use crate::project::{PYTHON, Project, Ran};

#[test]
fn commands_share_a_shell_and_its_directory_with_the_examples_of_the_page() {
    let project = Project::book().with(
        "page.md",
        r#"```python file=hello.py
import sys

print("hello", *sys.argv[1:])
```

```console
$ python hello.py you
hello you
$ mkdir sub && cd sub
$ NAME="two words"
$ python ../hello.py "$NAME"
hello two words
```

```console
$ ls
hello.py
sub
$ echo "$NAME"

$ cat <<END
> a
> b
> END
a
b
$ echo one \
  two
one two
```
"#,
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✓ page.md  2 verified
  verified     page.md:7 page/2
  verified     page.md:16 page/3
2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.record_and_settle();
}

#[test]
fn a_status_and_both_streams() {
    let project = Project::book().with(
        "page.md",
        r#"```console
$ echo out; echo err >&2; exit_with() { return $1; }; exit_with 3
out
err
? 3
$ true
$ false
? 1
$ grep x /nowhere 2>/dev/null
? 2
```
"#,
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 verified
  verified     page.md:1 page/1
1 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn what_a_command_did_otherwise_is_shown_and_recorded_in_its_place() {
    let project = Project::book().with(
        "page.md",
        r#"- In a list:

  ```console
  $ echo new
  old
  $ false
  $ printf 'a\nb'
  $ echo same
  same
  ```

The end.
"#,
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: 3 steps did not do what the page says
  --> page.md:4 (page/1, Python [VERSION])
     |
   4 | $ echo new
   5 | old
   6 | $ false
   7 | $ printf 'a\nb'
   8 | $ echo same
   9 | same
     |
  page.md:4 `echo new`, expected (-) and actual (+):
    - old
    + new
  page.md:6 `false`, expected (-) and actual (+):
    + ? 1
  page.md:7 `printf 'a\nb'`, expected (-) and actual (+):
    + a
    + b
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 0 recordings and 1 page written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "page.md",
        str![[r#"
- In a list:

  ```console
  $ echo new
  new
  $ false
  ? 1
  $ printf 'a\nb'
  a
  b
  $ echo same
  same
  ```

The end.

"#]],
    );
    project.record_and_settle();
}

#[test]
fn python_is_the_verified_one() {
    let project = Project::new()
        .with("verify.toml", "output = \"page\"\n")
        .with(
        "page.md",
        "```console\n$ python -c 'import sys; print(sys.prefix)'\n$ python3 -c 'import sys; print(sys.version_info[:2])'\n$ pip --version | cut -d' ' -f1\n$ env | grep -c VERIFY\n```\n",
    );
    project.record_and_settle();
    let page = project.read("page.md");
    let (major, minor, _) = PYTHON.version;
    assert!(
        page.contains(&format!(
            "print(sys.prefix)'\n{}\n",
            PYTHON.prefix.display()
        )),
        "{page}"
    );
    assert!(page.contains(&format!("\n({major}, {minor})\n")), "{page}");
    assert!(page.contains("\npip\n"), "{page}");
}

#[test]
fn other_peoples_commands_are_not_run() {
    let project = Project::new().with(
        "page.md",
        "```console\n$ touch /tmp/verify-was-here\n$ rm -rf build\n```\n\n```python\n1\n```\n\n```console\npip install x\n```\n",
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✓ page.md  1 ran, 1 illustrative
  illustrative page.md:1 page/1: console blocks run only where `verify.toml` says `console = true`
  ran          page.md:6 page/2
0 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 1 illustrative in [TIME]

"#]]);
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
page.md:1  page/1  not run: console blocks need `console = true` in `verify.toml`
page.md:6  page/2  runs
page.md:10  -  not Python: console

"#]]);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
    assert!(!std::path::Path::new("/tmp/verify-was-here").exists());
}

#[test]
fn a_command_that_reads_takes_too_long_or_ends_the_shell() {
    let project = Project::book().with(
        "page.md",
        "```console\n$ read line; echo \"got '$line'\"\ngot ''\n```\n\n```console\n$ exit 4\n$ echo never\nnever\n```\n\n```console timeout=300ms\n$ echo before\n$ while true; do :; done\n```\n",
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 1 page
✗ page.md  1 verified, 2 failed
error: 2 steps did not do what the page says
  --> page.md:7 (page/2, Python [VERSION])
     |
   7 | $ exit 4
   8 | $ echo never
   9 | never
     |
  page.md:7 `exit 4`, expected (-) and actual (+):
    + (the shell has ended)
  page.md:8 `echo never`, expected (-) and actual (+):
    - never
    + (the shell has ended)
  again: verify page.md --example page/2

error: still running after 0.3s, its time limit; raise it with `timeout=` here or in `verify.toml`
  --> page.md:13 (page/3, Python [VERSION])
     |
  13 | $ echo before
  14 | $ while true; do :; done
     |
  stdout:
    before
  again: verify page.md --example page/3

1 verified, 0 ran, 2 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_shell_that_ends_before_its_commands_do_is_not_recorded() {
    let page = "```console\n$ echo fine\nfine\n$ if true; then\n$ echo more\n```\n";
    let project = Project::book().with("page.md", page);
    let ran = project.verify("record");
    // Each shell has its own words for this error.
    let words = Regex::new(r"(?m)^    \+ .*syntax error.*\n").unwrap();
    assert!(words.is_match(&ran.stdout), "{}", ran.stdout);
    let ran = Ran {
        stdout: words
            .replace(&ran.stdout, "    + [SYNTAX ERROR]\n")
            .into_owned(),
        ..ran
    };
    ran.is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
error: 2 steps did not do what the page says
  --> page.md:4 (page/1, Python [VERSION])
    |
  2 | $ echo fine
  3 | fine
  4 | $ if true; then
  5 | $ echo more
    |
  page.md:4 `if true; then`, expected (-) and actual (+):
    + [SYNTAX ERROR]
    + (the shell has ended)
  page.md:5 `echo more`, expected (-) and actual (+):
    + (the shell has ended)
  again: verify page.md --example page/1

recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 1 failed

"#]]);
    assert_eq!(project.read("page.md"), page);
}

#[test]
fn commands_may_be_left_unrun_for_a_reason() {
    let project = Project::book().with(
        "page.md",
        "```console norun=\"needs the network\"\n$ curl example.org\n```\n\n```console skip=\"not here\"\n$ false\n```\n\n```console requires=program:no-such-program\n$ no-such-program\n```\n",
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 1 page
✓ page.md  2 skipped, 1 illustrative
  illustrative page.md:1 page/1: needs the network
  skipped      page.md:5 page/2: not here
  skipped      page.md:9 page/3: needs the program `no-such-program`
0 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 2 skipped, 1 illustrative in [TIME]

"#]]);
}
