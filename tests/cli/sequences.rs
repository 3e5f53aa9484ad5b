//! Examples that follow one another in a session, which goes from one to the next by itself: what each printed is its
//! own, and what one of them does to the session ends there.

use std::process::Command;

use snapbox::str;

use crate::project::Project;

/// A page of examples, each with what it prints.
fn page(examples: &[(&str, &str)]) -> String {
    let mut page = "# One\n".to_owned();
    for (code, printed) in examples {
        page.push_str(&format!("\n```python\n{code}\n```\n"));
        if !printed.is_empty() {
            page.push_str(&format!("\n```output\n{printed}\n```\n"));
        }
    }
    page
}

/// That all examples of such a page pass.
fn all_pass(examples: &[(&str, &str)]) {
    let project = Project::new().with("page.md", page(examples));
    let ran = project.verify("page.md").text();
    let silent = examples.iter().filter(|(_, printed)| printed.is_empty());
    let silent = silent.count();
    let expected = format!(
        "{} verified, {silent} ran, 0 failed",
        examples.len() - silent
    );
    assert!(ran.contains(&expected), "{ran}");
}

#[test]
fn what_each_prints_is_its_own() {
    all_pass(&[
        ("import sys\nprint('one')", "one"),
        ("print('two', end='')", "two"),
        ("sys.stdout.write('three')\nprint('', flush=True)", "three"),
        (
            "import os\nos.write(1, b'four\\n')\nos.system('echo five')\nprint('six')",
            "four\nfive\nsix",
        ),
        ("print('é' * 3)", "ééé"),
    ]);
}

#[test]
fn what_each_writes_to_stderr_is_its_own() {
    let project = Project::book().with(
        "page.md",
        page(&[
            ("import sys\nprint('one', file=sys.stderr)", ""),
            ("print('two')", ""),
            ("print('three', file=sys.stderr)\nprint('four')", ""),
            ("print('five', end='', file=sys.stderr)", ""),
        ]),
    );
    project.verify("record");
    project.file_is(
        "expected/page.toml",
        str![[r##"
# verify recording, format 1
format = 1

[[example]]
id = "one/1"
stderr = '''
one
'''

[[example]]
id = "one/2"
stdout = '''
two
'''

[[example]]
id = "one/3"
stdout = '''
four
'''
stderr = '''
three
'''

[[example]]
id = "one/4"
stderr = "five"

"##]],
    );
    project.verify("").is(str![[r#"
exit status 0
--- stdout
Python [VERSION] ([PYTHON], by `PATH`): 4 examples on 1 page
✓ page.md  4 verified
4 verified, 0 ran, 0 failed, 0 unrecorded, 0 blocked, 0 skipped, 0 illustrative in [TIME]

"#]]);
}

#[test]
fn more_than_a_pipe_holds_is_told_apart() {
    let lines = "x\n".repeat(3);
    all_pass(&[
        ("print('before')", "before"),
        (
            "import sys\nprint('x' * 300_000, file=sys.stderr) or print('x\\nx\\nx')",
            lines.trim_end(),
        ),
        (
            "print('y' * 200_000 == 'y' * 200_000)\nprint('z' * 70_000)",
            &format!("True\n{}", "z".repeat(70_000)),
        ),
        ("print('behind')", "behind"),
    ]);
}

#[test]
fn the_session_may_be_in_any_state_when_the_next_one_begins() {
    all_pass(&[
        ("import os\nos.umask(0o777)\nprint('one')", "one"),
        (
            "os.mkdir('below', 0o755)\nos.chmod('below', 0o755)\nos.chdir('below')\nprint(os.listdir())",
            "[]",
        ),
        (
            "import sys\nprint(os.path.basename(__file__), sys.argv == [os.path.basename(__file__)])",
            "example_3.py True",
        ),
        (
            "import inspect\ndef four(): pass\nprint(inspect.getsource(four), end='')",
            "def four(): pass",
        ),
        (
            "os.closerange(3, os.sysconf('SC_OPEN_MAX'))\nprint('five')",
            "five",
        ),
        ("print(oct(os.stat(__file__).st_mode & 0o777))", "0o644"),
        ("sys.stdout.flush()\nos.dup2(2, 1)\nprint('elsewhere')", ""),
        ("print('elsewhere, too')", ""),
    ]);
}

#[test]
fn all_are_saved_with_the_modes_that_their_users_files_have() {
    let mode = "import os\nprint(oct(os.stat(__file__).st_mode & 0o777))";
    let examples = [(mode, "0o640"), (mode, "0o640"), (mode, "0o640")];
    let project = Project::new().with("page.md", page(&examples));
    let mut verify = Command::new("sh");
    let typed = "umask 027 && exec \"$0\" page.md";
    verify.args(["-c", typed, env!("CARGO_BIN_EXE_verify")]);
    project.surround(&mut verify);
    let ran = project.ran(verify.output().unwrap()).text();
    assert!(ran.contains("3 verified, 0 ran, 0 failed"), "{ran}");
}

#[test]
fn a_file_that_is_in_the_way_is_replaced() {
    all_pass(&[
        (
            "open('example_2.py', 'w').write('1 / 0') and print('one')",
            "one",
        ),
        (
            "import os\nos.symlink('nowhere', 'example_3.py')\nprint(__file__ == os.path.abspath('example_2.py'))",
            "True",
        ),
        ("import os\nprint(os.path.exists(__file__))", "True"),
        (
            "print(open(__file__).read(), end='')",
            "print(open(__file__).read(), end='')",
        ),
    ]);
}

#[test]
fn what_ends_the_session_is_said_of_the_one_that_did() {
    let ends = [
        ("import os\nos._exit(3)", ""),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
            "",
        ),
        ("raise ValueError('no')", ""),
        ("raise SystemExit(2)", ""),
        ("import sys\nsys.stdout.buffer.write(b'x' * 11_000_000)", ""),
    ];
    for end in ends {
        let project = Project::new().with(
            "page.md",
            page(&[
                ("print('one')", "one"),
                ("print('two')", "two"),
                end,
                ("print('four')", "four"),
            ]),
        );
        let ran = project.verify("-v page.md").text();
        for line in [
            "  verified     page.md:3 one/1",
            "  verified     page.md:11 one/2",
            "  failed       page.md:19 one/3",
            "  blocked      page.md:",
            "2 verified, 0 ran, 1 failed, 0 unrecorded, 1 blocked",
        ] {
            assert!(ran.contains(line), "{end:?}: {line:?} is not in\n{ran}");
        }
    }
}

#[test]
fn each_has_the_whole_time() {
    let sleep = "import time\ntime.sleep(2)\nprint('up')";
    let project = Project::new()
        .with("verify.toml", "timeout = \"5s\"\n")
        .with(
            "page.md",
            page(&[
                ("print('one')", "one"),
                (sleep, "up"),
                (sleep, "up"),
                (sleep, "up"),
                ("print('five', flush=True)\nwhile True: pass", ""),
                ("print('six')", "six"),
            ]),
        );
    let ran = project.verify("-v page.md").text();
    assert!(
        ran.contains("4 verified, 0 ran, 1 failed, 0 unrecorded, 1 blocked"),
        "{ran}"
    );
    assert!(ran.contains("still running after 5s"), "{ran}");
    assert!(ran.contains("    five\n"), "{ran}");
}
