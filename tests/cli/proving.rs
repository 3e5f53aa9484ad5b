//! What `record` believes and what it refuses: outputs that vary, and pages that cannot hold them.

use snapbox::str;

use crate::project::Project;

/// A page with one example.
fn page(attributes: &str, code: &str) -> String {
    format!("# One\n\n```python {attributes}\n{code}\n```\n")
}

/// What recording says of an example whose output varies, and that it writes nothing.
#[track_caller]
fn refused(code: &str, expected: impl snapbox::IntoData) {
    let project = Project::book().with("page.md", page("", code));
    let ran = project.verify("record");
    assert!(!project.path("expected").exists());
    // What varies is what cannot be asserted.
    let varying = regex::Regex::new(r"(?m)^  [-+] .*$").unwrap();
    let stdout = varying
        .replace_all(&ran.stdout, "  ± [VARIES]")
        .into_owned();
    crate::project::Ran { stdout, ..ran }.is(expected);
}

#[test]
fn a_memory_address_is_refused() {
    refused(
        "print(object())",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: memory address in a default `repr`
  ± [VARIES]
  ± [VARIES]
  give the class a `__repr__`, or compare with `is`; or write `normalize=address`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_order_of_a_set_is_refused() {
    refused(
        "print({'one', 'two', 'three', 'four', 'five', 'six'})",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: set order
  ± [VARIES]
  ± [VARIES]
  print `sorted(…)` of the set

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_hash_of_a_string_is_refused() {
    refused(
        "print(hash('text'))",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: hash of a string
  ± [VARIES]
  ± [VARIES]
  print whether two hashes are equal

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn elapsed_time_is_refused() {
    refused(
        "import time\nprint(f'took {time.perf_counter():.9f}s')",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: elapsed time
  ± [VARIES]
  ± [VARIES]
  print whether it is below a bound with a wide margin, or count steps; or write `normalize=time`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_clock_is_refused() {
    refused(
        "import datetime\nprint(datetime.datetime.now())",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: clock or date
  ± [VARIES]
  ± [VARIES]
  use a fixed date, or pass the clock in; or write `normalize=date`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn a_process_id_is_refused() {
    refused(
        "import os\nprint('pid', os.getpid())",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: process id
  ± [VARIES]
  ± [VARIES]
  do not print the process id; or write `normalize=pid`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_scratch_directory_is_refused() {
    refused(
        "import os\nprint(os.getcwd())",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: scratch path
  ± [VARIES]
  ± [VARIES]
  print a relative path or the name alone; or write `normalize=path`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn a_random_number_is_refused() {
    refused(
        "import random\nprint(random.random())",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: random without a seed
  ± [VARIES]
  ± [VARIES]
  seed it (`random.seed(1)`, `default_rng(1)`), or, if it is measured, print whether it is below a bound

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn a_uuid_is_refused() {
    refused(
        "import uuid\nprint(uuid.uuid4())",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: random UUID
  ± [VARIES]
  ± [VARIES]
  print its length or version, or use `uuid.uuid5`; or write `normalize=uuid`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn lines_in_another_order_are_refused() {
    // As threads give them that nobody waits for, but without their luck.
    refused(
        "import random\nlines = [f'worker {n} done' for n in range(8)]\nrandom.shuffle(lines)\nprint(*lines, sep='\\n')",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: thread or process interleaving, or a loop over a set
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  collect results and print them after `join`, loop over `sorted(…)`, or mark the example `unordered`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn an_example_that_fails_only_now_and_then_is_refused() {
    let project = Project::book().with(
        "page.md",
        page("", "import os\nif os.environ['PYTHONHASHSEED'] != '0':\n    raise ValueError('now and then')\nprint('fine')"),
    );
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: unknown
  - 
  + ValueError: now and then
  make the example print the same each time, or write `[..]` in the recording for what varies

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]]);
}

#[test]
fn one_unstable_example_does_not_keep_the_others_from_being_recorded() {
    let project = Project::book().with(
        "page.md",
        "```python id=good\nprint(1)\n```\n\n```python id=bad\nimport random\nprint(random.random())\n```\n\n```python id=good-too\nprint(2)\n```\n",
    );
    let ran = project.verify("record");
    assert_eq!(ran.status, 1);
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "good"
stdout = '''
1
'''

[[example]]
id = "good-too"
stdout = '''
2
'''

"##]],
    );
}

#[test]
fn the_rule_that_a_refusal_names_settles_it() {
    let project = Project::book().with("page.md", page("", "print(object())"));
    let ran = project.verify("record");
    assert!(
        ran.stdout.contains("or write `normalize=address`"),
        "{}",
        ran.stdout
    );
    project.write("page.md", page("normalize=address", "print(object())"));
    project.record_and_settle();
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one/1"
normalize = ["address"]
stdout = '''
<object object at [ADDRESS]>
'''

"##]],
    );
    // The recording keeps the rule in sight, and losing it is a change.
    project.write("page.md", page("", "print('<object object at [ADDRESS]>')"));
    project.record_and_settle();
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one/1"
stdout = '''
<object object at [ADDRESS]>
'''

"##]],
    );
}

#[test]
fn a_page_that_cannot_show_its_output_is_left_alone() {
    let project = Project::new()
        .with("verify.toml", "output = \"page\"\n")
        .with("page.md", "---\n~~~ python\nprint('---')\n~~~\n")
        .with("other.md", page("", "print('shown')"));
    let before = project.read("page.md");
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 2 pages
page.md cannot show its outputs where its examples stand and is left alone; move them out of lists and quotes, or print something else
recorded 2 examples: 1 recording and 1 page written, 0 refused, 0 failed

"#]]);
    assert_eq!(project.read("page.md"), before);
    assert!(!project.path("expected/page.toml").exists());
    project.file_is(
        "other.md",
        str![[r#"
# One

```python 
print('shown')
```

```output
shown
```

"#]],
    );
}
