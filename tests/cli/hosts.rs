//! What is done before a session starts, its code compiled or its process made: nothing is to be seen of it.

use std::process::Command;

use serde_json::Value;

use crate::project::{Project, VERIFY};

/// So much source that compiling it ahead pays.
fn padded(page: &str) -> String {
    let padding = "# \n".repeat(800);
    format!("{page}\n```python\n{padding}```\n")
}

/// Pages whose outcomes would tell of it.
const PAGES: &[(&str, &str)] = &[
    (
        "warning",
        "```python\nprint('first')\n```\n\n\
         ```python\nimport sys\nprint('second', file=sys.stderr)\nprint('\\d' is 5)\n```\n\n\
         ```python\nimport warnings\nprint(len(warnings.filters), warnings.filters[0])\n```\n",
    ),
    (
        "mistake",
        "```python\nprint('first')\n```\n\n```python raises=SyntaxError\nprint('never'\n```\n\n\
         ```python\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    import traceback; traceback.print_exc()\n```\n\n\
         ```python raises=SyntaxError\nreturn 1\n```\n",
    ),
    (
        "future",
        "```pycon\n>>> def f(x: absent): pass\nTraceback (most recent call last):\nNameError: name 'absent' is not defined\n\
         >>> from __future__ import annotations\n>>> def f(x: absent): pass\n>>> f.__annotations__\n{'x': 'absent'}\n```\n\n\
         ```pycon\n>>> def g(x: absent): pass\n>>> import asyncio\n>>> await asyncio.sleep(0, 'slept')\n'slept'\n```\n",
    ),
    (
        "names",
        "```python\nprint(__file__[-14:])\n```\n\n```python file=example_2.py\nprint('taken')\n```\n\n\
         ```python skip=\"not now\"\nprint('skipped')\n```\n\n```python norun=\"only shown\"\nprint('shown')\n```\n\n\
         ```python\nimport sys\nprint(__file__[-14:], sys._getframe().f_code.co_filename[-14:])\n```\n\n\
         ```python\nprint(1 + 1)\n#> 2\n3 + 4  # 7\n```\n\n\
         ```python\nimport inspect\n\ndef f():\n    return 1\n\nprint(inspect.getsource(f), __file__[-14:])\n```\n",
    ),
    (
        "freed",
        "```python\nimport atexit, sys, weakref\natexit._clear()\n\
         watched = weakref.ref(sys._getframe().f_code, lambda code: print('freed'))\n```\n",
    ),
];

fn outcomes(project: &Project, words: &str) -> Vec<Value> {
    let ran = project.verify(&format!("--no-cache --format json --sandbox=off {words}"));
    assert_eq!(ran.status, 0, "{}", ran.text());
    let lines = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let examples = lines.filter(|line: &Value| line["type"] == "example");
    let outcomes = examples.map(|mut example| {
        if let Some(outcome) = example["outcome"].as_object_mut() {
            outcome.remove("seconds");
        }
        example
    });
    outcomes.collect()
}

#[test]
fn examples_do_the_same_where_a_host_has_compiled_them() {
    let mut project = Project::new();
    for (name, page) in PAGES {
        project = project.with(&format!("{name}.md"), padded(page));
    }
    let together = outcomes(&project, "");
    let alone = PAGES
        .iter()
        .flat_map(|(name, _)| outcomes(&project, &format!("{name}.md")));
    let mut alone: Vec<Value> = alone.collect();
    let place = |example: &Value| (example["page"].to_string(), example["line"].as_u64());
    alone.sort_by_key(place);
    assert_eq!(together, alone);
    let warning = |example: &&Value| {
        let stderr = example["outcome"]["stderr"].as_str();
        stderr.is_some_and(|stderr| stderr.contains("Warning: \"is\" with"))
    };
    let warned: Vec<&Value> = together.iter().filter(warning).collect();
    assert_eq!(warned.len(), 1, "{together:#?}");
    assert_eq!(warned[0]["id"], "warning/2");
}

/// Which process a session was forked from shows whether another host than the first has compiled for it.
#[test]
fn a_host_compiles_for_several_sessions_of_some_length() {
    let parent = "```python\nimport os\nprint(os.getppid())\n```\n";
    let counts = format!("```python\nimport gc\n```\n\n{parent}");
    let mut project = Project::new()
        .with("short.md", parent)
        .with("counts.md", padded(&counts));
    let parents = |project: &Project, words: &str| -> Vec<(String, String)> {
        let outcomes = outcomes(project, words);
        let printed = outcomes.iter().filter_map(|example| {
            let stdout = example["outcome"]["stdout"]
                .as_str()
                .filter(|text| !text.is_empty());
            Some((example["page"].as_str()?.to_owned(), stdout?.to_owned()))
        });
        printed.collect()
    };
    for number in 1..=4 {
        project = project.with(&format!("long-{number}.md"), padded(parent));
    }
    let found = parents(&project, "");
    let of = |page: &str| &found.iter().find(|(name, _)| name == page).unwrap().1;
    for page in ["long-2.md", "long-3.md", "long-4.md"] {
        assert_eq!(of(page), of("long-1.md"), "{found:?}");
    }
    assert_ne!(of("short.md"), of("long-1.md"), "{found:?}");
    // Who looks at what is alive gets a host that has done nothing.
    assert_ne!(of("counts.md"), of("long-1.md"), "{found:?}");
}

/// Directories go from one session to the next, whichever host each has; and its shells have the first.
#[test]
fn a_shell_finds_the_directory_of_a_session_that_another_host_has_forked() {
    let console = "```python\nopen('/tmp/made', 'w').write('here')\n```\n\n\
        ```console\n$ cat /tmp/made; pwd | grep -c project\nhere1\n```\n";
    // What has more examples runs first.
    let short = "```python\nx = 1\n```\n\n".repeat(9);
    let mut project = Project::new().with("verify.toml", "console = true\n");
    for number in 0..5 {
        project = project
            .with(&format!("{number}-short.md"), &short)
            .with(&format!("{number}-console.md"), padded(console));
    }
    let ran = project.verify("--no-cache -j1 --format json");
    let run: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    // Else `/tmp` is the machine's.
    if run["sandbox"]["files"]["holds"] == true {
        assert_eq!(ran.status, 0, "{}", ran.text());
    }
}

/// Numbers of processes go up.
#[test]
fn the_process_of_a_short_session_is_there_before_it_is_needed() {
    let starts_one = "```python\nimport os\nchild = os.fork()\nif not child:\n    os._exit(0)\nos.wait()\nprint(child)\n```\n";
    let project = Project::new()
        .with("one.md", starts_one)
        .with("two.md", "```python\nimport os\nprint(os.getpid())\n```\n");
    let outcomes = outcomes(&project, "-j1");
    let printed = outcomes.iter().map(|example| {
        let stdout = example["outcome"]["stdout"].as_str().unwrap();
        stdout.trim().parse::<u32>().unwrap()
    });
    let [child, second] = printed.collect::<Vec<_>>()[..] else {
        panic!("{outcomes:?}");
    };
    assert!(second < child, "{second} began after {child}");
}

#[test]
fn a_process_that_has_died_before_it_is_needed_is_made_again() {
    // The kernel's list of children may leave some out for a moment.
    let kills_all = "```python\nimport os\nparent = os.getppid()\nothers = []\n\
        while not others:\n    \
        children = open(f'/proc/{parent}/task/{parent}/children').read().split()\n    \
        others = [int(child) for child in children if int(child) != os.getpid()]\n\
        for other in others:\n    os.kill(other, 9)\nprint(len(others))\n```\n";
    // Now and then it dies only after it was found alive. A project that has run goes by how long its sessions took.
    for _ in 0..20 {
        let project = Project::new()
            .with("one.md", kills_all)
            .with("two.md", "```python\nprint('two')\n```\n")
            .with("three.md", "```python\nprint('three')\n```\n");
        let outcomes = outcomes(&project, "-j1");
        let printed = outcomes
            .iter()
            .map(|example| example["outcome"]["stdout"].as_str().unwrap());
        assert_eq!(printed.collect::<Vec<_>>(), ["1\n", "three\n", "two\n"]);
    }
}

#[test]
fn a_caller_that_ignores_its_children_is_no_hindrance() {
    let project = Project::new().with("page.md", "# One\n\n```python\nprint(1)\n```\n");
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", "env", "--ignore-signal=CHLD", VERIFY]);
    command.arg("page.md");
    project.surround(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 ran"), "{text}");
}
