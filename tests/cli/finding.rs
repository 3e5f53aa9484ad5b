//! Which blocks of a page are examples.

use snapbox::str;

use crate::project::Project;

#[test]
fn a_page_by_somebody_who_never_heard_of_this_tool() {
    let project = Project::new().with(
        "README.md",
        r#"# parsley

Install it:

```bash
pip install parsley
```

Use it:

```python
def shout(text):
    return text.upper() + "!"

print(shout("parsley"))
```

Or at the prompt:

```
>>> shout("more")
'MORE!'
```

Configure it:

```toml
[tool.parsley]
loud = true
```

```python
>>> shout(1)
Traceback (most recent call last):
  ...
AttributeError: 'int' object has no attribute 'upper'
```
"#,
    );
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 3 examples on 1 page
✓ README.md  2 verified, 1 ran
2 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
README.md:5  -  not Python: bash
README.md:11  parsley/1  runs
README.md:20  parsley/2  runs as a transcript of 1 statement
README.md:27  -  not Python: toml
README.md:32  parsley/3  runs as a transcript of 1 statement

"#]]);
}

#[test]
fn the_language_is_the_first_word_in_any_case_and_notation() {
    let page: String = [
        "python",
        "Python3",
        "py",
        "PY3",
        "python title=\"hello.py\" hl_lines=\"1 2\"",
        "python,linenums",
        "{.python .numberLines}",
        "{python}",
        "{code-cell} python",
        "{code-cell} ipython3",
        "   python   ",
    ]
    .map(|info| format!("```{info}\npass\n```\n\n"))
    .concat();
    let project = Project::new().with("page.md", page);
    project.verify("--verbose").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 11 examples on 1 page
✓ page.md  11 ran
  ran          page.md:1 page/1
  ran          page.md:5 page/2
  ran          page.md:9 page/3
  ran          page.md:13 page/4
  ran          page.md:17 page/5
  ran          page.md:21 page/6
  ran          page.md:25 page/7
  ran          page.md:29 page/8
  ran          page.md:33 page/9
  ran          page.md:37 page/10
  ran          page.md:41 page/11
0 verified, 11 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn other_languages_are_listed_and_left_alone() {
    let page: String = [
        "",
        "text",
        "rust",
        "pythonic",
        "python2",
        "ipython",
        "{.rust}",
        "{code-cell} r",
    ]
    .map(|info| format!("```{info}\nnot python at all\n```\n\n"))
    .concat();
    let project = Project::new().with("page.md", page);
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
page.md:1  -  not Python
page.md:5  -  not Python: text
page.md:9  -  not Python: rust
page.md:13  -  not Python: pythonic
page.md:17  -  not Python: python2
page.md:21  -  not Python: ipython
page.md:25  -  not Python: rust
page.md:29  -  not Python: r

"#]]);
    project.verify("").is(str![[r#"
exit status 3
--- stderr
error: nothing to run: 1 page without a Python example

"#]]);
}

#[test]
fn fences_in_lists_quotes_and_tildes() {
    let project = Project::book().with(
        "page.md",
        r#"1. In a list:

   ```python
   for x in [1, 2]:
       print(x)
   ```

   - nested:

     ~~~python
     print("nested")
     ~~~

> In a quote:
>
> ```python
> text = """a
>
> b"""
> print(text)
> ```
>
> - both
>
>   ```py
>   print("both")
>   ```

````markdown
```python
print("shown as Markdown, not run")
```
````

~~~~python
fence = """
~~~
"""
print(len(fence))
~~~~

-	a tab

	```python
	if True:
		print("tabs")
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
1
2
'''

[[example]]
id = "page/2"
stdout = '''
nested
'''

[[example]]
id = "page/3"
stdout = '''
a

b
'''

[[example]]
id = "page/4"
stdout = '''
both
'''

[[example]]
id = "page/5"
stdout = '''
5
'''

[[example]]
id = "page/6"
stdout = '''
tabs
'''

"##]],
    );
}

#[test]
fn windows_line_ends_a_byte_order_mark_and_front_matter() {
    let page = "---\ntitle: \"a page\"\n---\n\n# Windows\n\n```python\ntext = \"\"\"a\n\nb\"\"\"\nprint(repr(text))\n```\n";
    let page = format!("\u{feff}{}", page.replace('\n', "\r\n"));
    let project = Project::book().with("page.md", page.clone());
    project.record_and_settle();
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "windows/1"
stdout = '''
'a\n\nb'
'''

"##]],
    );
    assert_eq!(project.read("page.md"), page);
}

#[test]
fn what_a_comment_or_html_hides_is_no_example() {
    let project = Project::new().with(
        "page.md",
        r#"<!--
```python
print("commented out")
```
-->

<div>
```python
print("inside of HTML, where Markdown is off")
```
</div>

<details>

```python
print("HTML, and Markdown again")
```

</details>
"#,
    );
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
page.md:15  page/1  runs

"#]]);
}

#[test]
fn an_indented_block_is_an_example_only_with_a_prompt() {
    let project = Project::new().with(
        "page.md",
        "Text:\n\n    >>> 1 + 1\n    2\n\nMore text:\n\n    print(1)\n",
    );
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
page.md:3  page/1  runs as a transcript of 1 statement
page.md:8  -  not Python

"#]]);
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 verified
1 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn words_of_other_tools_mean_what_they_mean_there() {
    let project = Project::new().with(
        "page.md",
        r#"```python notest
not even Python
```

```python,ignore
print(1)
```

```python no_run
print(2)
```

```python should_panic
raise KeyError("yes")
```

```python continuation
print(3)
```

```python test="skip"
print(4)
```

<!-- skip: next if(True, reason="not today") -->

```python
print(5)
```

<!-- skip: start -->

```python
print(6)
```

<!-- skip: end -->

<!-- pytest-codeblocks:skip -->

```python
print(7)
```

```pycon
>>> print(8)  # doctest: +SKIP
nothing like it
>>> print(list(range(20)))  # doctest: +ELLIPSIS
[0, 1, ..., 19]
```
"#,
    );
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 10 examples on 1 page
✓ page.md  2 verified, 1 ran, 6 skipped, 1 illustrative
  skipped      page.md:1 page/1: marked `notest`
  skipped      page.md:5 page/2: marked `ignore`
  illustrative page.md:9 page/3: marked `no_run`
  verified     page.md:13 page/4
  ran          page.md:17 page/5
  skipped      page.md:21 page/6: marked `test=skip`
  skipped      page.md:27 page/7: marked `skip: next if(True, reason="not today")`
  skipped      page.md:33 page/8: marked `skip: start`
  skipped      page.md:41 page/9: marked `pytest-codeblocks:skip`
  verified     page.md:45 page/10
2 verified, 1 ran, 0 failed, 0 unrecorded, 0 blocked, 6 skipped, 1 illustrative in [TIME]

"#]]);
}

#[test]
fn a_directive_above_a_block_says_the_same_as_its_info_string() {
    let project = Project::book().with(
        "page.md",
        r#"<!-- verify: id=first, raises=ValueError -->

```python
raise ValueError("from a comment")
```

```python id=second raises=ValueError
raise ValueError("from the info string")
```

> <!-- verify: id=third -->
> ```python
> print("in a quote")
> ```

<!-- verify: id=overruled timeout=1s -->
```python id=nearer timeout=20s
print("the fence is nearer to the code")
```
"#,
    );
    project.record_and_settle();
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 1 page
✓ page.md  4 verified
  verified     page.md:3 first
  verified     page.md:7 second
  verified     page.md:12 third
  verified     page.md:17 nearer
4 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 1 of 1 session from the cache

"#]]);
}

#[test]
fn ids_are_made_from_headings_and_count_within_them() {
    let project = Project::new().with(
        "07-advanced/03-closures.md",
        r#"```python
1
```

# 7.3 Closures & cells

```python
2
```

```python
3
```

## 7.3.1 `nonlocal`

```python
4
```

## Notes

```python
5
```

## Notes

```python
6
```

## 日本語

```python
7
```

## ***

```python
8
```
"#,
    );
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
07-advanced/03-closures.md:1  03-closures/1  runs
07-advanced/03-closures.md:7  closures-cells/1  runs
07-advanced/03-closures.md:11  closures-cells/2  runs
07-advanced/03-closures.md:17  nonlocal/1  runs
07-advanced/03-closures.md:23  notes/1  runs
07-advanced/03-closures.md:29  notes-2/1  runs
07-advanced/03-closures.md:35  日本語/1  runs
07-advanced/03-closures.md:41  section/1  runs

"#]]);
}

#[test]
fn directories_that_hold_other_peoples_pages_are_passed_over() {
    let page = "```python\npass\n```\n";
    let project = Project::new()
        .with(
            "verify.toml",
            "exclude = [\"CHANGELOG.md\", \"drafts/old\"]\n",
        )
        .with("b.md", page)
        .with("README.md", page)
        .with("a.markdown", page)
        .with("A.MD", page)
        .with("notes.txt", page)
        .with("CHANGELOG.md", page)
        .with("drafts/new.md", page)
        .with("drafts/old/page.md", page)
        .with("node_modules/x/README.md", page)
        .with(".hidden/page.md", page)
        .with("venv/lib/page.md", page);
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
README.md:1  readme/1  runs
A.MD:1  a/1  runs
a.markdown:1  a/1  runs
b.md:1  b/1  runs
drafts/new.md:1  new/1  runs

"#]]);
}

#[test]
fn a_file_block_is_written_and_runs_when_something_uses_it() {
    let project = Project::book().with(
        "page.md",
        r#"```toml file=settings/app.toml
name = "parsley"
```

```python file=greeting.py
print("imported as", __name__)

def greet(name):
    return f"Hello, {name}!"
```

```python
from greeting import greet

print(greet(open("settings/app.toml").read().strip()))
```
"#,
    );
    project.verify("list").is(str![[r#"
exit status 0
--- stdout
page.md:1  page/1  is written to settings/app.toml
page.md:5  page/2  is written to greeting.py
page.md:12  page/3  runs

"#]]);
    project.record_and_settle();
    project.verify("-v").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 verified
  verified     page.md:12 page/3
1 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME], 1 of 1 session from the cache

"#]]);
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "page/3"
stdout = '''
imported as greeting
Hello, name = "parsley"!
'''

"##]],
    );
}

#[test]
fn sessions_are_pages_or_headings_and_can_be_named_or_begun_afresh() {
    let page = r#"## One

```python
x = "one"
```

```python
print(x)
```

## Two

```python
print("x" in globals())
```

```python session=other
print("x" in globals())
x = "other"
```

```python fresh
print("x" in globals())
```

```python session=other
print(x)
```
"#;
    let project = Project::book().with("page.md", page);
    project.record_and_settle();
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one/1"

[[example]]
id = "one/2"
stdout = '''
one
'''

[[example]]
id = "two/1"
stdout = '''
True
'''

[[example]]
id = "two/2"
stdout = '''
False
'''

[[example]]
id = "two/3"
stdout = '''
False
'''

[[example]]
id = "two/4"
stdout = '''
other
'''

"##]],
    );
    project.write("verify.toml", "session = \"heading\"\n");
    project.verify("").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 6 examples on 1 page
✗ page.md  5 verified, 1 failed
error: stdout differs from the expected
  --> page.md:14 (two/1, Python [VERSION])
     |
  14 | print("x" in globals())
     |
  stdout, expected (-) and actual (+):
    - True
    + False
  again: verify page.md --example two/1

5 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}
