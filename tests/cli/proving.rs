//! What `record` believes and what it refuses: outputs that vary, and pages that cannot hold them.

use std::fs;

use snapbox::str;
use verify::conditions::Conditions;

use crate::project::{Project, skipped};

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
        "import random\nlines = [f'worker {n} done' for n in range(40)]\nrandom.shuffle(lines)\nprint(*lines, sep='\\n')",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: thread interleaving, or lines shuffled without a seed
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
  collect results and print them after `join`, seed what shuffles, or mark the example `unordered`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn what_the_kernel_leaves_as_it_is_in_an_address_is_refused() {
    refused(
        "kept = [object() for _ in range(200)]\nprint('place', id(kept[-1]) % 4096)",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: memory layout, such as the order of a set of objects
  ± [VARIES]
  ± [VARIES]
  sort by what does not change, or give the class a `__hash__`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn what_only_another_day_shows_is_refused() {
    refused(
        "import datetime\nprint(datetime.date.today().strftime('%A, %d %B %Y'))",
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
fn a_fixed_moment_in_local_time_is_believed() {
    let code = "import datetime\nprint(datetime.datetime.fromtimestamp(0))";
    let project = Project::book().with("page.md", page("", code));
    project.record_and_settle();
}

#[test]
fn the_order_of_threads_is_refused() {
    // As one processor gives them to threads that race, but without their luck.
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        skipped("this machine has one processor");
        return;
    }
    refused(
        "import os\nracing = len(os.sched_getaffinity(0)) > 1\nfor n in sorted(range(3), reverse=racing):\n    print('worker', n)",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: thread interleaving
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  ± [VARIES]
  collect results and print them after `join`, or mark the example `unordered`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_number_of_processors_is_refused() {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        skipped("this machine has one processor");
        return;
    }
    refused(
        "import os\nprint('workers:', len(os.sched_getaffinity(0)))",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: number of processors
  ± [VARIES]
  ± [VARIES]
  pass the number of workers, and do not print the machine's

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_order_of_a_directory_is_refused() {
    if Conditions::all(1, false).scratch(0) == Conditions::default().scratch(0) {
        skipped("this machine has no second file system for temporary files");
        return;
    }
    refused(
        "import os\nfor n in range(12):\n    open(f'{n * 7 % 12}.txt', 'w').close()\nprint(os.listdir())",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: order in which a directory is listed
  ± [VARIES]
  ± [VARIES]
  list it with `sorted(…)`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

/// What recording says with `--portable` of an output that the environment fixes, which it believes else.
#[track_caller]
fn not_portable(code: &str, expected: impl snapbox::IntoData) {
    let project = Project::book().with("page.md", page("", code));
    project.verify("record --portable").is(expected);
    project.record_and_settle();
}

#[test]
fn the_time_zone_is_refused_on_request() {
    not_portable(
        "import datetime\nprint(datetime.datetime.fromtimestamp(0))",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: time zone
  - 1970-01-01 00:00:00
  + 1970-01-01 05:45:00
  name the zone, such as `tz=timezone.utc`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_width_of_the_terminal_is_refused_on_request() {
    not_portable(
        "import shutil\nprint('-' * shutil.get_terminal_size().columns)",
        str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
refused: page.md:3 (one/1)
  its output varies from run to run: terminal width
  - --------------------------------------------------------------------------------
  + ----------------------------------------
  pass the width, or set it by `env="COLUMNS=80"`

recorded 0 examples: 0 recordings and 0 pages written, 1 refused, 0 failed

"#]],
    );
}

#[test]
fn the_locale_is_refused_on_request() {
    let project = Project::book().with(
        "page.md",
        page(
            "",
            "import locale\nprint('locale', locale.setlocale(locale.LC_CTYPE, ''))",
        ),
    );
    let ran = project.verify("record --portable");
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(
        ran.stdout
            .contains("its output varies from run to run: locale\n"),
        "{}",
        ran.stdout
    );
    project.record_and_settle();
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
fn what_a_page_cannot_show_is_refused_and_the_rest_of_it_recorded() {
    let project = Project::new()
        .with("verify.toml", "output = \"page\"\n")
        .with(
            "page.md",
            "---\n~~~ python\nprint('---')\n~~~\n\n```python\nprint('shown')\n```\n",
        );
    project.verify("record").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
refused: page.md:2 (page/1)
  the page cannot show its output where it stands: move it out of lists and quotes, or print something else

recorded 1 example: 1 recording and 1 page written, 1 refused, 0 failed

"#]]);
    let page = str![[r#"
---
~~~ python
print('---')
~~~

```python
print('shown')
```

```output
shown
```

"#]];
    project.file_is("page.md", page.clone());
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "page/2"
stdout = '''
shown
'''

"##]],
    );
    // What is recorded of it is no reason to show it.
    project.write("verify.toml", "");
    assert_eq!(project.verify("record").status, 0);
    let both = project.read("expected/page.toml");
    project.write("verify.toml", "output = \"page\"\n");
    assert_eq!(project.verify("record").status, 1);
    project.file_is("page.md", page);
    project.file_is("expected/page.toml", both);
}

#[test]
fn the_name_of_the_machine_is_refused() {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = name.trim();
    if ["", "localhost"].contains(&name) {
        return skipped("the machine goes by the name that all have");
    }
    let printing = |code: &str| format!("import platform, socket\nprint({code})");
    let recorded = |text: &str| {
        let project = Project::book().with("page.md", text);
        (project.verify("record"), project)
    };
    for text in [
        page("", &printing("socket.gethostname()")),
        page("", &printing("f'on {platform.node()}, by name'")),
        "# One\n\n```python\n>>> import os\n>>> os.uname().nodename\n```\n".to_owned(),
    ] {
        let (ran, project) = recorded(&text);
        assert_eq!(ran.status, 1, "{}", ran.text());
        let why = format!("  it prints `{name}`, which is this machine's name and no other's: ");
        assert!(ran.stdout.contains(&why), "{}", ran.text());
        assert!(!project.path("expected/page.toml").exists());
        project.file_is("page.md", text);
    }
    for code in [
        "len(socket.gethostname()) > 0".to_owned(),
        format!("'{name}s', socket.gethostname() is None"),
    ] {
        let (ran, _) = recorded(&page("", &printing(&code)));
        assert_eq!(ran.status, 0, "{}", ran.text());
    }
    // Nobody has asked for it.
    let (ran, project) = recorded(&page("", &format!("print('{name}')")));
    assert_eq!(ran.status, 0, "{}", ran.text());
    // Somebody has left it open.
    project.write("page.md", page("", &printing("socket.gethostname()")));
    let open = project.read("expected/page.toml").replace(name, "[..]");
    project.write("expected/page.toml", &open);
    project.record_and_settle();
    project.file_is("expected/page.toml", open);
}

/// What one run in twenty prints otherwise: twice as rare as what recording's own runs would find.
const NOW_AND_THEN: &str = "import os\nseed = int(os.environ['PYTHONHASHSEED'])\nprint('bad' if seed and seed % 20 == 0 else 'good')";

#[test]
fn what_passes_by_luck_is_found_by_shaking() {
    let project = Project::book().with(
        "page.md",
        page("id=rare", NOW_AND_THEN) + "\n## Other\n\n```python id=steady\nprint(1)\n```\n",
    );
    project.record_and_settle();
    let ran = project.verify("--shake 50");
    ran.is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✗ page.md  1 verified, 1 failed
error: passes by luck: run 20 of 50 failed: unknown
  --> page.md:4 (rare, Python [VERSION])
    |
  4 | import os
  5 | seed = int(os.environ['PYTHONHASHSEED'])
  6 | print('bad' if seed and seed % 20 == 0 else 'good')
    |
  - good
  + bad
  make the example print the same each time, or write `[..]` in the recording for what varies
  again: verify page.md --example rare --shake 50

1 verified, 0 ran, 1 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("--shake 5").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 2 examples on 1 page
✓ page.md  2 verified
2 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn shaking_says_what_fails_anyway_and_reports_in_every_format() {
    let project = Project::book().with("page.md", page("id=rare", NOW_AND_THEN));
    project.record_and_settle();
    let report = project.verify("--shake 20 --format json");
    assert_eq!(report.status, 1);
    assert!(report.stdout.contains("\"by_luck\""), "{}", report.stdout);
    project.write("page.md", page("id=rare", "print('other')"));
    assert_eq!(project.verify("--shake 2").status, 1);
}

#[test]
fn shaking_says_how_an_example_was_cut_off() {
    let code = "import os\nprint('begun', flush=True)\nwhile int(os.environ['PYTHONHASHSEED']): pass\nprint('done')";
    let project = Project::new().with("page.md", page("timeout=5s", code));
    let ran = project.verify("--shake 1");
    assert_eq!(ran.status, 1, "{}", ran.text());
    assert!(
        ran.stdout.contains(
            "passes by luck: run 1 of 1 failed: it was still running after 5s, with another hash seed"
        ),
        "{}",
        ran.stdout
    );
}

#[test]
fn shaking_varies_what_the_environment_fixes_on_request_only() {
    let code = "import shutil\nprint(shutil.get_terminal_size().columns)";
    let project = Project::book().with("page.md", page("", code));
    project.record_and_settle();
    assert_eq!(project.verify("--shake 4").status, 0);
    let ran = project.verify("--shake 4 --portable");
    assert_eq!(ran.status, 1);
    assert!(
        ran.stdout
            .contains("passes by luck: run 2 of 4 failed: terminal width"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_skip_that_is_no_longer_needed_is_found() {
    let project = Project::book().with(
        "page.md",
        "# One\n\n```python id=ready\nvalue = 1\n```\n\n```python id=mended skip=\"a bug\"\nprint(value)\n```\n\n\
         ```python id=broken skip=\"a bug\"\nundefined\n```\n\n```python id=narrow python=\"<3.0\"\nvalue += 1\n```\n\n\
         ```python id=bound python=\"<3.0\"\nprint 'two'\n```\n\n```python id=drawn norun=\"needs a screen\"\nvalue.show()\n```\n\n\
         ```python id=unmet skip=\"slow\" requires=\"no_such_module\"\npass\n```\n",
    );
    let before = project.files();
    project.verify("--probe-skips").is(str![[r#"
exit status 1
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 5 examples on 1 page
✗ page.md  2 failed, 3 skipped
error: does what it should now, although it is skipped: a bug; remove its `skip`
  --> page.md:8 (mended, Python [VERSION])
    |
  8 | print(value)
    |
  again: verify page.md --example mended --probe-skips

error: does what it should now, although it is for Python <3.0; remove its `python`
  --> page.md:16 (narrow, Python [VERSION])
     |
  16 | value += 1
     |
  again: verify page.md --example narrow --probe-skips

0 verified, 0 ran, 2 failed, 0 unrecorded, 0 blocked, 3 skipped, 0 illustrative in [TIME]

"#]]);
    assert!(before == project.files());
    project
        .verify("--probe-skips --example broken --verbose")
        .is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 1 example on 1 page
✓ page.md  1 skipped
  skipped      page.md:11 broken: it is skipped: a bug
0 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 1 skipped, 0 illustrative in [TIME]

"#]]);
    project.verify("--probe-skips --example ready").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 0 examples on 0 pages
0 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn a_version_bound_holds_where_another_version_prints_something_else() {
    let recorded =
        |text: &str| format!("format = 1\n\n[[example]]\nid = \"one/1\"\nstdout = \"{text}\\n\"\n");
    let project = Project::book().with("page.md", page("python=\"<3.0\"", "print(2)"));
    project.write("expected/page.toml", recorded("1"));
    assert_eq!(project.verify("--probe-skips").status, 0);
    project.write("expected/page.toml", recorded("2"));
    assert_eq!(project.verify("--probe-skips").status, 1);
}
