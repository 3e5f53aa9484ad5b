//! Expectations that stand in the page itself, as other people write them.

use snapbox::str;

use crate::project::Project;

/// Checks a page that is wrong, records it, and shows what it has become.
#[track_caller]
fn mended(
    page: &str,
    expected_check: impl snapbox::IntoData,
    expected_page: impl snapbox::IntoData,
) {
    let project = Project::new().with("page.md", page);
    project.verify("").is(expected_check);
    project.record_and_settle();
    project.file_is("page.md", expected_page);
}

#[test]
fn a_page_whose_claims_all_hold_is_verified() {
    let project = Project::new().with(
        "page.md",
        r#"```python
print("hello")
```

```output
hello
```

```python
for n in range(3):
    print(n)
#> 0
#> 1
#> 2
```

```python
1 + 1  # 2
"a" + "b"  # => 'ab'
x = 3  # three of them
sorted({3, 1})  # [1, 3]
print("done")  # prints when it is done
```

```pycon
>>> x
3
>>> print("tail  ")
tail  
```

```python
print("nothing is claimed of this")
```
"#,
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 5 examples on 1 page
✓ page.md  4 verified, 1 ran
  verified     page.md:1 page/1
  verified     page.md:9 page/2
  verified     page.md:17 page/3
  verified     page.md:25 page/4
  ran          page.md:32 page/5
4 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.record_and_settle();
}

#[test]
fn an_output_fence_below_an_example() {
    mended(
        "Text.\n\n```python\nprint('new')\nprint('lines')\n```\n\n```output\nold\nlines\n```\n\nMore text.  \n",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: stdout differs from the expected
  --> page.md:4 (page/1, Python [VERSION])
    |
  4 | print('new')
  5 | print('lines')
    |
  stdout, expected (-) and actual (+):
    - old
    + new
      lines
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]],
        str![[r#"
Text.

```python
print('new')
print('lines')
```

```output
new
lines
```

More text.  

"#]],
    );
}

#[test]
fn a_fence_of_another_tools_expected_output() {
    mended(
        "```python\nprint('new')\n```\n\n<!--pytest-codeblocks:expected-output-->\n\n```text\nold\n```\n",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: stdout differs from the expected
  --> page.md:2 (page/1, Python [VERSION])
    |
  2 | print('new')
    |
  stdout, expected (-) and actual (+):
    - old
    + new
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]],
        str![[r#"
```python
print('new')
```

<!--pytest-codeblocks:expected-output-->

```text
new
```

"#]],
    );
}

#[test]
fn output_that_is_not_directly_below_is_not_of_the_example() {
    let project = Project::new().with(
        "page.md",
        "```python\nprint('a')\n```\n\nIt prints:\n\n```output\nb\n```\n",
    );
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 ran
0 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
page.md:1  page/1  runs
page.md:7  -  not Python: output

"#]]);
}

#[test]
fn an_output_that_nothing_is_compared_with_is_a_mistake() {
    let output = "\n```output\nwrong\n```\n\n";
    let page = [
        "```python\n>>> 1 + 1\n2\n```\n",
        "```console\n$ echo a\na\n```\n",
        "```python file=app.py\nprint(1)\n```\n",
        "```pycon skip=slow\n>>> 1 + 1\n2\n```\n",
    ]
    .map(|example| format!("{example}{output}"))
    .concat();
    let project = Project::book().with("page.md", &page);
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: page.md:6: this output is compared with nothing: what a transcript prints stands in it, below its `>>>` lines
error: page.md:15: this output is compared with nothing: what a console block prints stands in it, below its `$ ` lines
error: page.md:23: this output is compared with nothing: a file prints nothing before another example runs it: put this below that example
3 problems; nothing was run

"#]]);
    // Pages of strangers: no console block runs.
    let project = Project::new().with("page.md", &page);
    project.verify("").is(str![[r#"
exit status 2
--- stdout
error: page.md:6: this output is compared with nothing: what a transcript prints stands in it, below its `>>>` lines
error: page.md:23: this output is compared with nothing: a file prints nothing before another example runs it: put this below that example
2 problems; nothing was run

"#]]);
}

#[test]
fn a_transcript() {
    mended(
        r#"1. In a list:

   ```pycon
   >>> 1 + 1
   3
   >>> def f():
   ...     return None
   ...
   >>> f()
   >>> f() or "text"
   >>> {}["x"]
   Traceback (most recent call last):
     File "<stdin>", line 1, in <module>
   KeyError: 'y'
   >>> print("a\n\nb")
   a
   ```

The end.
"#,
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: 4 steps did not do what the page says
  --> page.md:4 (page/1, Python [VERSION])
     |
   4 | >>> 1 + 1
   5 | 3
   6 | >>> def f():
   7 | ...     return None
   8 | ...
   9 | >>> f()
  10 | >>> f() or "text"
  11 | >>> {}["x"]
  12 | Traceback (most recent call last):
  13 |   File "<stdin>", line 1, in <module>
  14 | KeyError: 'y'
  15 | >>> print("a\n\nb")
  16 | a
     |
  page.md:4 `1 + 1`, expected (-) and actual (+):
    - 3
    + 2
  page.md:10 `f() or "text"`, expected (-) and actual (+):
    + 'text'
  page.md:11 `{}["x"]`, expected (-) and actual (+):
      Traceback (most recent call last):
    -   File "<stdin>", line 1, in <module>
    - KeyError: 'y'
    +     ...
    + KeyError: 'x'
  page.md:15 `print("a\n\nb")`, expected (-) and actual (+):
      a
    + <BLANKLINE>
    + b
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]],
        str![[r#"
1. In a list:

   ```pycon
   >>> 1 + 1
   2
   >>> def f():
   ...     return None
   ...
   >>> f()
   >>> f() or "text"
   'text'
   >>> {}["x"]
   Traceback (most recent call last):
       ...
   KeyError: 'x'
   >>> print("a\n\nb")
   a
   <BLANKLINE>
   b
   ```

The end.

"#]],
    );
}

#[test]
fn an_exception_that_a_transcript_does_not_show_is_not_recorded() {
    let page = "```pycon\n>>> {}['x']\n'value'\n>>> [][1]\n```\n";
    let project = Project::new().with("page.md", page);
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
error: 2 steps did not do what the page says
  --> page.md:2 (page/1, Python [VERSION])
    |
  2 | >>> {}['x']
  3 | 'value'
  4 | >>> [][1]
    |
  page.md:2 `{}['x']`, expected (-) and actual (+):
    - 'value'
    + Traceback (most recent call last):
    +     ...
    + KeyError: 'x'
    write `Traceback (most recent call last):` below it if it is meant to raise
  page.md:4 `[][1]`, expected (-) and actual (+):
    + Traceback (most recent call last):
    +     ...
    + IndexError: list index out of range
    write `Traceback (most recent call last):` below it if it is meant to raise
  again: verify page.md --example page/1

recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 1 failed

"#]]);
    assert_eq!(project.read("page.md"), page);
}

#[test]
fn what_a_block_cannot_hold_is_not_recorded() {
    let page = "```pycon\n>>> print('a\\tb')\na\n>>> print('```')\n```\n\n```pycon\n>>> print('>>> 1')\n```\n\n```python\nprint('x')\nprint('y', end='')\n```\n\n```output\nx\n```\n";
    let project = Project::new().with("page.md", page);
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 1 page
refused: page.md:1 (page/1)
  the block cannot hold what it printed; print it in another way, such as by `repr(…)`

refused: page.md:7 (page/2)
  the block cannot hold what `print('>>> 1')` printed; print it in another way, such as by `repr(…)`

recorded 1 example: 0 recordings and 1 page written, 2 refused, 0 failed

"#]]);
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 1 page
refused: page.md:1 (page/1)
  the block cannot hold what it printed; print it in another way, such as by `repr(…)`

refused: page.md:7 (page/2)
  the block cannot hold what `print('>>> 1')` printed; print it in another way, such as by `repr(…)`

recorded 0 examples: 0 recordings and 0 pages written, 2 refused, 0 failed

"#]]);
    project.file_is(
        "page.md",
        str![[r#"
```pycon
>>> print('a\tb')
a
>>> print('```')
```

```pycon
>>> print('>>> 1')
```

```python
print('x')
print('y', end='')
```

```output
x
y
```

"#]],
    );
}

#[test]
fn doctest_options_hold_where_they_stand_and_in_the_configuration() {
    let page = r#"```pycon
>>> print(list(range(20)))  # doctest: +ELLIPSIS
[0, 1, ..., 18, 19]
>>> print("a   b")  # doctest: +NORMALIZE_WHITESPACE
a b
>>> int("x")  # doctest: +IGNORE_EXCEPTION_DETAIL
Traceback (most recent call last):
ValueError: whatever
>>> object()
<object object at 0x...>
```
"#;
    let project = Project::new().with("page.md", page);
    let ran = project.verify("");
    assert_eq!(ran.status, 1);
    project.write("verify.toml", "doctest = [\"ELLIPSIS\"]\n");
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 verified
1 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    let before = project.read("page.md");
    project.record_and_settle();
    assert_eq!(project.read("page.md"), before);
}

#[test]
fn lines_behind_a_comment_arrow() {
    mended(
        "```python\nprint('a')\n#> b\nprint('c\\n\\nd')\n#> c\nx = 1\n```\n",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: a step did not do what the page says
  --> page.md:3 (page/1, Python [VERSION])
    |
  2 | print('a')
  3 | #> b
  4 | print('c\n\nd')
  5 | #> c
  6 | x = 1
    |
  page.md:3, expected (-) and actual (+):
    - b
    + a
      c
    + 
    + d
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]],
        str![[r#"
```python
print('a')
#> a
print('c\n\nd')
#> c
#>
#> d
x = 1
```

"#]],
    );
}

#[test]
fn values_in_comments() {
    let project = Project::new().with(
        "page.md",
        "```python\n1 + 1  # 3\n'a'.upper()  # 'A'\nlen('abc')  # => 4\n```\n",
    );
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: 2 steps did not do what the page says
  --> page.md:2 (page/1, Python [VERSION])
    |
  2 | 1 + 1  # 3
  3 | 'a'.upper()  # 'A'
  4 | len('abc')  # => 4
    |
  page.md:2, expected (-) and actual (+):
    - 3
    + 2
  page.md:4, expected (-) and actual (+):
    - 4
    + 3
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_page_with_windows_line_ends_keeps_them() {
    let page = "Text\r\n\r\n```python\r\nprint('new')\r\nprint()\r\nprint('x')\r\n```\r\n\r\n```output\r\nold\r\n```\r\n\r\n> ```pycon\r\n> >>> 1\r\n> 2\r\n> ```\r\n";
    let project = Project::new().with("page.md", page);
    assert_eq!(project.verify("").status, 1);
    project.record_and_settle();
    assert_eq!(
        project.read("page.md"),
        "Text\r\n\r\n```python\r\nprint('new')\r\nprint()\r\nprint('x')\r\n```\r\n\r\n```output\r\nnew\r\n\r\nx\r\n```\r\n\r\n> ```pycon\r\n> >>> 1\r\n> 1\r\n> ```\r\n"
    );
}

#[test]
fn output_with_backticks_gets_a_longer_fence() {
    mended(
        "```python\nprint('```')\nprint('````python')\n```\n\n```output\nold\n```\n",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✗ page.md  1 failed
error: stdout differs from the expected
  --> page.md:2 (page/1, Python [VERSION])
    |
  2 | print('```')
  3 | print('````python')
    |
  stdout, expected (-) and actual (+):
    - old
    + ```
    + ````python
  again: verify page.md --example page/1

0 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]],
        str![[r#"
```python
print('```')
print('````python')
```

`````output
```
````python
`````

"#]],
    );
}

#[test]
fn in_a_project_what_stands_in_the_page_need_not_be_recorded() {
    let project = Project::book().with(
        "page.md",
        "```python\nprint('a')\n#> a\n```\n\n```pycon\n>>> 1\n1\n```\n",
    );
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✓ page.md  2 verified
2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("record").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
recorded 0 examples: 0 recordings and 0 pages written, 0 refused, 0 failed

"#]]);
}

/// Steps that fast examples took are told at their end; one that may end its process cannot wait for that.
#[test]
fn what_a_transcript_did_before_an_announced_end_is_compared() {
    // Behind another one: until a process has started, the time is over in which steps need not wait.
    let page = |said: &str| {
        format!(
            "```pycon\n>>> 1\n1\n```\n\n```pycon exits=3\n>>> print('one')\n{said}\n>>> import os; os._exit(3)\n```\n"
        )
    };
    let project = Project::new()
        .with("true.md", page("one"))
        .with("false.md", page("two"));
    let ran = project.verify("");
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(ran.stdout.contains("✓ true.md"), "{}", ran.text());
    assert!(ran.stdout.contains("✗ false.md"), "{}", ran.text());
}

/// Some of its steps are told together, and one has to wait until its output has been read.
#[test]
fn outputs_of_fast_and_slow_statements_are_told_apart() {
    let page = "```pycon\n>>> import os, time\n>>> print('one')\none\n>>> time.sleep(0.02); print('two')\ntwo\n\
                >>> print('three')\nthree\n>>> for _ in range(3000): print('x' * 40)  # doctest: +ELLIPSIS\nxxx...\n\
                >>> os.write(1, b'raw\\n')\nraw\n4\n>>> print('last')\nlast\n```\n\n\
                ```pycon\n>>> print('next')\nnext\n```\n";
    let ran = Project::new().with("page.md", page).verify("");
    assert_eq!(ran.status, 0, "{}", ran.text());
}
