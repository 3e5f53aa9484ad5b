//! What is said of an example, and why: each verdict, and each way to fail with its message.

use std::process::Command;

use snapbox::str;

use crate::project::{PYTHON, Project, search_path};

/// A page with one example, and its words and lines.
fn page(attributes: &str, code: &str) -> String {
    format!("# One\n\n```python {attributes}\n{code}\n```\n")
}

#[test]
fn verified_and_ran() {
    let project = Project::book().with(
        "page.md",
        "# One\n\n```python\nprint('hello')\n```\n\n```python\nx = 1\n```\n",
    );
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
recorded 2 examples: 1 recording and 0 pages written, 0 refused, 0 failed

"#]]);
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✓ page.md  2 verified
  verified     page.md:3 one/1
  verified     page.md:7 one/2
2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.write("verify.toml", "expected = \"elsewhere\"\n");
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✗ page.md  1 ran, 1 unrecorded
error: nothing is recorded for this output
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | print('hello')
    |
  stdout:
    hello
  again: verify page.md --example one/1
  record: verify record page.md --example one/1

0 verified, 1 ran, 0 failed, 1 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn output_that_differs_is_shown_with_what_was_expected() {
    let project = Project::book().with(
        "page.md",
        page(
            "",
            "import sys\nfor n in range(12):\n    print('line', n)\nprint('one', file=sys.stderr)",
        ),
    );
    project.record_and_settle();
    project.write(
        "page.md",
        page("", "import sys\nfor n in range(12):\n    print('line', n * (n != 6))\nprint('two', file=sys.stderr, end='')"),
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: stdout and stderr differ from the expected
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | import sys
  5 | for n in range(12):
  6 |     print('line', n * (n != 6))
  7 | print('two', file=sys.stderr, end='')
    |
  stdout, expected (-) and actual (+):
    … 3 lines
      line 3
      line 4
      line 5
    - line 6
    + line 0
      line 7
      line 8
      line 9
    … 2 lines
  stderr, expected (-) and actual (+):
    - one
    + two (no newline at the end)
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_difference_that_a_terminal_would_hide_is_made_visible() {
    let project = Project::book().with("page.md", page("", "print('a')\nprint('b')"));
    project.record_and_settle();
    project.write(
        "page.md",
        page("", "print('a ')\nprint('\\x1b[31mb\\x1b[0m\\t', end='')"),
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: stdout differs from the expected
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | print('a ')
  5 | print('\x1b[31mb\x1b[0m\t', end='')
    |
  stdout, expected (-) and actual (+):
    - a
    - b
    + a·
    + ␛[31mb␛[0m␉ (no newline at the end)
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_exception_that_nobody_announced() {
    let project = Project::new().with(
        "page.md",
        page(
            "",
            "import sys\nprint('so far')\nprint('and here', file=sys.stderr)\n\n\ndef divide(a, b):\n    return a / b\n\n\ntry:\n    divide(1, 0)\nexcept ZeroDivisionError as error:\n    raise ValueError('no such number') from error",
        ),
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: raised ValueError: no such number
  --> page.md:16 (one/1, Python [VERSION])
     |
   4 | import sys
   5 | print('so far')
   6 | print('and here', file=sys.stderr)
   7 | 
   8 | 
   9 | def divide(a, b):
  10 |     return a / b
  11 | 
  12 | 
  13 | try:
  14 |     divide(1, 0)
  15 | except ZeroDivisionError as error:
  16 |     raise ValueError('no such number') from error
     |
  Traceback (most recent call last):
    File "page.md", line 14, in <module>
      divide(1, 0)
    File "page.md", line 10, in divide
      return a / b
  ZeroDivisionError: division by zero
  
  The above exception was the direct cause of the following exception:
  
  Traceback (most recent call last):
    File "page.md", line 16, in <module>
      raise ValueError('no such number') from error
  ValueError: no such number
  stdout:
    so far
  stderr:
    and here
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_syntax_error_names_the_line_of_the_page() {
    let project = Project::new().with("page.md", page("", "x = 1\nx = = 2"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: raised SyntaxError: invalid syntax
  --> page.md:5 (one/1, Python [VERSION])
    |
  4 | x = 1
  5 | x = = 2
    |
    File "page.md", line 5
      x = = 2
  SyntaxError: invalid syntax
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn another_exception_than_the_announced_one() {
    let project = Project::new().with("page.md", page("raises=KeyError", "[][1]"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: raised IndexError: list index out of range where `raises=KeyError` was announced
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | [][1]
    |
  Traceback (most recent call last):
    File "page.md", line 4, in <module>
      [][1]
  IndexError: list index out of range
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_announced_exception_may_be_a_base_class_or_a_full_name() {
    let project = Project::new().with(
        "page.md",
        r#"```python raises=LookupError
[][1]
```

```python raises=json.JSONDecodeError
import json
json.loads("{")
```

```python raises=json.decoder.JSONDecodeError
json.loads("{")
```

```python raises=Mine
class Mine(Exception):
    pass

raise Mine("and yours")
```
"#,
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 1 page
✓ page.md  4 verified
  verified     page.md:1 page/1
  verified     page.md:5 page/2
  verified     page.md:10 page/3
  verified     page.md:14 page/4
4 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_announced_exception_that_does_not_come() {
    let project = Project::new().with("page.md", page("raises=KeyError", "{1: 2}[1]"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: did not raise the announced `KeyError`
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | {1: 2}[1]
    |
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn the_message_of_an_announced_exception_is_compared() {
    let project = Project::book().with("page.md", page("raises=KeyError", "{}['a']"));
    project.record_and_settle();
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one/1"
exception = "KeyError: 'a'"

"##]],
    );
    project.write("page.md", page("raises=KeyError", "{}['b']"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: the exception differs from the expected
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | {}['b']
    |
  the exception, expected (-) and actual (+):
    - KeyError: 'a'
    + KeyError: 'b'
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_exit_that_nobody_announced() {
    let project = Project::new().with("page.md", page("", "import sys\nsys.exit(3)"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: exited with status 3; write `exits=3` if it is meant to
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | import sys
  5 | sys.exit(3)
    |
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.write("page.md", page("", "raise SystemExit('a message')"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: exited with status 1; write `exits=1` if it is meant to
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | raise SystemExit('a message')
    |
  stderr:
    a message
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.write("page.md", page("", "import os\nos._exit(0)"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: its process ended with status 0 before the example did; write `exits=0` if it is meant to
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | import os
  5 | os._exit(0)
    |
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_announced_exit() {
    let project = Project::book().with(
        "page.md",
        r#"```python exits=3
import sys
print("before")
sys.exit(3)
```

```python exits=4 fresh
import os
os._exit(4)
```
"#,
    );
    project.record_and_settle();
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "page/1"
stdout = '''
before
'''
exit = 3

[[example]]
id = "page/2"
exit = 4

"##]],
    );
    project.write("page.md", page("exits=3", "raise SystemExit(4)"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: exited with status 4 where `exits=3` was announced
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | raise SystemExit(4)
    |
  again: verify page.md --example one/1

orphan: expected/page.toml: page/1 belongs to no example; `verify record` removes it
orphan: expected/page.toml: page/2 belongs to no example; `verify record` removes it
0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.write("page.md", page("exits=3", "print('no')"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: did not exit with the announced status 3
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | print('no')
    |
  stdout:
    no
  again: verify page.md --example one/1

orphan: expected/page.toml: page/1 belongs to no example; `verify record` removes it
orphan: expected/page.toml: page/2 belongs to no example; `verify record` removes it
0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_example_that_kills_its_process() {
    let project = Project::new().with(
        "page.md",
        page("", "import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)"),
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: its process was killed by SIGSEGV
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | import os, signal
  5 | print('last words', flush=True)
  6 | os.kill(os.getpid(), signal.SIGSEGV)
    |
  stdout:
    last words
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_example_that_takes_too_long() {
    let project = Project::new().with(
        "page.md",
        page(
            "timeout=300ms",
            "print('waiting', flush=True)\nwhile True:\n    pass",
        ),
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: still running after 0.3s, its time limit; raise it with `timeout=` here or in `verify.toml`
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | print('waiting', flush=True)
  5 | while True:
  6 |     pass
    |
  stdout:
    waiting
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.write("page.md", page("", "while True:\n    pass"));
    project.verify("--timeout 200ms --quiet").is(str![[r#"
exit status 1
--- stdout
error: still running after 0.2s, its time limit; raise it with `timeout=` here or in `verify.toml`
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | while True:
  5 |     pass
    |
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn little_too_much_is_too_much_before_other_examples_too() {
    let page = "```python\nprint('x' * 2000)\n```\n\n```python\nprint(1)\n```\n";
    let project = Project::new()
        .with("page.md", page)
        .with("verify.toml", "max-output = \"1kB\"\n");
    let ran = project.verify("");
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(
        ran.stdout
            .contains("error: printed more than 1000 bytes, its limit;")
            && ran.stdout.contains(" 1 failed, ")
            && ran.stdout.contains(" 1 blocked, "),
        "{}",
        ran.text()
    );
}

#[test]
fn an_example_that_prints_too_much() {
    let project = Project::new()
        .with("verify.toml", "max-output = \"10kB\"\n")
        .with("page.md", page("", "while True:\n    print('la' * 30)"));
    let ran = project.verify("");
    // How much of the flood arrived is chance.
    assert_eq!(ran.status, 1);
    assert!(
        ran.stdout.contains("error: printed more than 10000 bytes, its limit; raise it with `max-output=` here or in `verify.toml`\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn an_example_that_kills_the_host() {
    let project = Project::new().with(
        "page.md",
        page(
            "",
            "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(60)",
        ),
    );
    // The sandbox would not let it.
    project.verify("--sandbox=off").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: no result arrived: the host that ran it died
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | import os, signal
  5 | os.kill(os.getppid(), signal.SIGKILL)
  6 | import time
  7 | time.sleep(60)
    |
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_example_that_takes_too_much_memory() {
    let project = Project::new().with("page.md", page("memory=256MiB", "x = bytearray(1 << 30)"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: raised MemoryError; if that is its limit, raise it with `memory=` here or in `verify.toml`
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | x = bytearray(1 << 30)
    |
  Traceback (most recent call last):
    File "page.md", line 4, in <module>
      x = bytearray(1 << 30)
  MemoryError
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn what_is_not_meant_to_run_must_still_be_python() {
    let project = Project::new().with(
        "page.md",
        "```python norun=\"needs a server\"\nawait serve(\n```\n\n```python norun=\"needs a server\"\nserve()\n```\n",
    );
    project.verify("-v").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✗ page.md  1 failed, 1 illustrative
  failed       page.md:1 page/1
error: is not Python: SyntaxError: '(' was never closed
  --> page.md:2 (page/1, Python [VERSION])
    |
  2 | await serve(
    |
    File "page.md", line 2
      await serve(
  SyntaxError: '(' was never closed
  again: verify page.md --example page/1

  illustrative page.md:5 page/2: needs a server
0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 1 illustrative in [TIME]

"#]]);
}

#[test]
fn output_without_a_recording_is_a_failure_in_a_project_only() {
    let project = Project::book().with(
        "page.md",
        page(
            "",
            "import sys\nprint('hello')\nprint('there', file=sys.stderr)",
        ),
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 unrecorded
error: nothing is recorded for this output
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | import sys
  5 | print('hello')
  6 | print('there', file=sys.stderr)
    |
  stdout:
    hello
  stderr:
    there
  again: verify page.md --example one/1
  record: verify record page.md --example one/1

0 verified, 0 ran, 0 failed, 1 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    let project = Project::new().with("page.md", page("", "print('hello')"));
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 ran
0 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn what_comes_after_a_failure_in_its_session_is_blocked() {
    let project = Project::new()
        .with("verify.toml", "session = \"heading\"\n")
        .with(
            "page.md",
            r#"## One

```python id=first
x = undefined
```

```python id=second
x + 1
```

```python id=third
x + 2
```

```python id=other session=aside
y = 1
```

## Two

```python id=independent
z = 1
```
"#,
        );
    project.verify("-v").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 5 examples on 1 page
✗ page.md  2 ran, 1 failed, 2 blocked
  failed       page.md:3 first
error: raised NameError: name 'undefined' is not defined
  --> page.md:4 (first, Python [VERSION])
    |
  4 | x = undefined
    |
  Traceback (most recent call last):
    File "page.md", line 4, in <module>
      x = undefined
  NameError: name 'undefined' is not defined
  again: verify page.md --example first

  blocked      page.md:7 second: `first` failed before it in its session
  blocked      page.md:11 third: `first` failed before it in its session
  ran          page.md:15 other
  ran          page.md:21 independent
0 verified, 2 ran, 1 failed, 0 unrecorded, 2 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    // A difference leaves the session as its author meant it.
    project.write(
        "page.md",
        "```python\nprint(1)\nx = 1\n```\n\n```output\n2\n```\n\n```python\nx + 1\n```\n",
    );
    std::fs::remove_file(project.path("verify.toml")).unwrap();
    project.verify("-v").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✗ page.md  1 ran, 1 failed
  failed       page.md:1 page/1
error: stdout differs from the expected
  --> page.md:2 (page/1, Python [VERSION])
    |
  2 | print(1)
  3 | x = 1
    |
  stdout, expected (-) and actual (+):
    - 2
    + 1
  again: verify page.md --example page/1

  ran          page.md:10 page/2
0 verified, 1 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn skipping_needs_a_reason_and_shows_it() {
    let project = Project::new().with(
        "page.md",
        page("skip=\"needs a printer\"", "this is not even Python"),
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 skipped
  skipped      page.md:3 one/1: needs a printer
0 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 1 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn versions_that_an_example_is_for() {
    let (_, minor, _) = PYTHON.version;
    let project = Project::new().with(
        "page.md",
        format!(
            "```python python=\">=3.{minor}\"\n1\n```\n\n```python python=\"<3.{minor}\"\n2\n```\n\n```python python=\">=3.99\"\nprint(never\n```\n\n```python python=\"==3.{minor}.*\"\n3\n```\n"
        ),
    );
    let ran = project.verify("-v");
    assert_eq!(
        ran.stdout.replace(&format!("<3.{minor}"), "<[MINOR]"),
        "Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 1 page\n\
         ✓ page.md  2 ran, 2 skipped\n\
         \x20 ran          page.md:1 page/1\n\
         \x20 skipped      page.md:5 page/2: needs Python <[MINOR]\n\
         \x20 skipped      page.md:9 page/3: needs Python >=3.99\n\
         \x20 ran          page.md:13 page/4\n\
         0 verified, 2 ran, 0 failed, 0 unrecorded, 0 blocked, 2 skipped, 0 illustrative in [TIME]\n"
    );
    assert_eq!(ran.status, 0);
}

#[test]
fn what_an_example_requires() {
    let page = r#"```python requires="json, program:sh"
print("here")
```

```python requires="no_such_module"
import no_such_module
```

```python requires="program:no-such-program"
print("never")
```

```python requires="xml.etree.ElementTree"
import xml.etree.ElementTree
```
"#;
    let project = Project::new().with("page.md", page);
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 1 page
✓ page.md  2 ran, 2 skipped
  ran          page.md:1 page/1
  skipped      page.md:5 page/2: needs the module `no_such_module`
  skipped      page.md:9 page/3: needs the program `no-such-program`
  ran          page.md:13 page/4
0 verified, 2 ran, 0 failed, 0 unrecorded, 0 blocked, 2 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("--strict").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 1 page
✗ page.md  2 ran, 2 failed
error: was not run: needs the module `no_such_module`
  --> page.md:6 (page/2, Python [VERSION])
    |
  6 | import no_such_module
    |
  again: verify page.md --example page/2

error: was not run: needs the program `no-such-program`
  --> page.md:10 (page/3, Python [VERSION])
     |
  10 | print("never")
     |
  again: verify page.md --example page/3

0 verified, 2 ran, 2 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn an_example_that_needs_root_runs_for_root_alone() {
    let project = Project::new().with("page.md", page("requires=root", "print('root')"));
    let ran = project.verify("");
    let word = if rustix::process::geteuid().is_root() {
        "✓ page.md  1 ran\n"
    } else {
        "✓ page.md  1 skipped\n"
    };
    assert!(ran.stdout.contains(word), "{}", ran.stdout);
}

#[test]
fn files_that_examples_make_are_compared() {
    let project = Project::book().with(
        "page.md",
        page(
            "artifact=out/table.csv",
            "import os\nos.mkdir('out')\nopen('out/table.csv', 'w').write('a,b\\n1,2\\n')",
        ),
    );
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
recorded 1 example: 1 recording, 0 pages and 1 file written, 0 refused, 0 failed

"#]]);
    project.file_is(
        "expected/page/out/table.csv",
        str![[r#"
a,b
1,2

"#]],
    );
    project.record_and_settle();
    project.write(
        "page.md",
        page(
            "artifact=out/table.csv",
            "import os\nos.mkdir('out')\nopen('out/table.csv', 'w').write('a,b\\n1,3\\n')",
        ),
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: the file `out/table.csv` differs from the expected
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | import os
  5 | os.mkdir('out')
  6 | open('out/table.csv', 'w').write('a,b\n1,3\n')
    |
  the file `out/table.csv`, expected (-) and actual (+):
      a,b
    - 1,2
    + 1,3
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.write("page.md", page("artifact=out/table.csv", "pass"));
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: did not make the announced file `out/table.csv`
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | pass
    |
  again: verify page.md --example one/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
error: did not make the announced file `out/table.csv`
  --> page.md:4 (one/1, Python [VERSION])
    |
  4 | pass
    |
  again: verify page.md --example one/1

recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 1 failed

"#]]);
}

#[test]
fn what_an_example_is_given() {
    let project = Project::book().with(
        "page.md",
        r#"```python stdin="Ada\n36" args="--verbose 'two words'" env="REGION=eu LANG2='a b'"
import os, sys

print(input(), int(input()))
print(sys.argv[1:])
print(os.environ["REGION"], os.environ["LANG2"])
```

```python
import os, sys

print(sys.argv[1:], os.environ.get("REGION"))
try:
    input()
except EOFError:
    print("nobody answers")
```
"#,
    );
    project.record_and_settle();
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "page/1"
stdout = '''
Ada 36
['--verbose', 'two words']
eu a b
'''

[[example]]
id = "page/2"
stdout = '''
[] None
nobody answers
'''

"##]],
    );
}

#[test]
fn unordered_lines_and_named_rules() {
    let project = Project::book().with(
        "page.md",
        r#"```python unordered
for word in {"one", "two", "three"}:
    print(word)
```

```python normalize=address,pid,path
import os
print(object(), "process", os.getpid())
print(os.getcwd())
```

```python normalize=float=3
import random
print(1 / 3 + random.random() * 1e-9)
```
"#,
    );
    project.record_and_settle();
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 1 page
✓ page.md  3 verified
3 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 1 of 1 session from the cache

"#]]);
}

#[test]
fn a_program_that_only_the_users_own_path_has() {
    let page = "```console requires=program:till\n$ till --total\n649\n```\n\n```python requires=program:shim\nprint()\n```\n";
    let project = Project::new().with("verify.toml", "").with("page.md", page);
    project.write_program("tools/till", "#!/bin/sh\necho 649\n");
    project.write_program("shims/shim", "#!/bin/sh\nexit 1\n");
    let own = |command: &mut Command| {
        let path = std::env::join_paths(
            ["tools", "shims"]
                .map(|name| project.path(name))
                .into_iter()
                .chain(std::env::split_paths(&search_path())),
        );
        command.env("PATH", path.unwrap());
    };
    let ran = project.verify_with("-v --readable tools", own);
    let lines = [
        "  verified     page.md:1 page/1\n",
        "  skipped      page.md:6 page/2: needs the program `shim`\n",
    ];
    for line in lines {
        assert!(ran.stdout.contains(line), "{}", ran.stdout);
    }
}

#[test]
fn what_is_skipped_does_not_run() {
    let project = Project::new().with(
        "page.md",
        "```python skip=\"slow\"\nopen('made', 'w').close()\n```\n\n\
         ```python\nimport os\nassert not os.path.exists('made')\n```\n",
    );
    let ran = project.verify("");
    assert_eq!(ran.status, 0, "{}", ran.text());
}
