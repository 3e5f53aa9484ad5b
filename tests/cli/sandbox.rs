//! What the sandbox says of itself, where it says no, and what has to work in it as it does outside. The attacks
//! that it must keep off are in `tests/attacks`.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use crate::lacking::{LANDLOCK, Lacking, NAMESPACES};
use crate::nobody::Nobody;
use crate::project::{Project, VERIFY, make_environment};

fn one(code: &str) -> Project {
    Project::new().with("page.md", format!("# One\n\n```python\n{code}\n```\n"))
}

/// The protections that hold, by what the `json` report says.
fn holding(project: &Project, words: &str, prepare: impl FnOnce(&mut Command)) -> Vec<String> {
    let mut command = project.command(words);
    command.args(["--format", "json"]);
    prepare(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let run: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let protections = run["sandbox"].as_object().cloned().unwrap_or_default();
    protections
        .into_iter()
        .filter(|(_, protection)| protection["holds"] == true)
        .map(|(name, _)| name)
        .collect()
}

#[allow(
    clippy::print_stderr,
    reason = "a test that cannot be made has to say so"
)]
pub(crate) fn is_whole(project: &Project) -> bool {
    let whole = holding(project, "", |_| {}).len() == 4;
    if !whole {
        eprintln!("not tried: this machine has no whole sandbox");
    }
    whole
}

#[test]
fn the_header_says_what_holds() {
    let project = one("print(1)");
    let header = |words: &str, lacking: Option<Lacking>| {
        let mut command = project.command(words);
        // Two filters look alike until a session is started.
        command.arg("--no-cache");
        if let Some(lacking) = lacking {
            lacking.on(&mut command);
        }
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let line = text.lines().next().unwrap_or_default().to_owned();
        line.split_once("on 1 page")
            .map_or(line.clone(), |(_, rest)| rest.to_owned())
    };
    assert_eq!(header("--sandbox=off", None), "; not sandboxed");
    if is_whole(&project) {
        assert_eq!(
            header("", None),
            "; sandboxed: files, network, processes, kernel"
        );
        assert_eq!(
            header("", Some(NAMESPACES)),
            "; sandboxed: kernel; not files, network, processes: `verify doctor` says why"
        );
        assert_eq!(
            header("", Some(LANDLOCK)),
            "; sandboxed: network, kernel; not files, processes: `verify doctor` says why"
        );
    }
}

#[test]
fn what_is_left_protects_where_a_layer_is_missing() {
    let project = one(r#"import os
for path in ("SECRET", "/proc/1/environ"):
    try:
        open(path.replace("SECRET", SECRET)).read()
        print("read it")
    except OSError as error:
        print(type(error).__name__)
"#);
    let secret = project.root().with_file_name("secret");
    std::fs::write(&secret, "secret").unwrap();
    let text = project.read("page.md");
    project.write(
        "page.md",
        text.replace("SECRET)", &format!("{:?})", secret.to_str().unwrap())),
    );
    for lacking in [NAMESPACES, LANDLOCK] {
        let ran = project.verify_with("show page.md::one/1", |command| lacking.on(command));
        assert_eq!(ran.status, 0, "{}", ran.text());
        let said = ran.text();
        assert!(!said.contains("    read it"), "{lacking:?}: {said}");
    }
}

#[test]
fn strict_runs_nothing_where_a_protection_is_missing() {
    let project = one("open('/dev/null', 'w').write('x')");
    if is_whole(&project) {
        assert_eq!(project.verify("--sandbox=strict").status, 0);
    }
    for lacking in [NAMESPACES, LANDLOCK] {
        let ran = project.verify_with("--sandbox=strict", |command| lacking.on(command));
        assert_eq!(ran.status, 2, "{}", ran.text());
        assert!(
            ran.stderr.starts_with(
                "error: the sandbox is not whole here, and `strict` runs nothing without: `files`: "
            ) && ran.stderr.ends_with("; `verify doctor` says what to do\n"),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout, "");
    }
    // The command line wins over what came with the pages.
    project.write("verify.toml", "sandbox = \"strict\"\n");
    let ran = project.verify_with("", |command| LANDLOCK.on(command));
    assert_eq!(ran.status, 2, "{}", ran.text());
    project.write("verify.toml", "sandbox = \"off\"\n");
    let ran = project.verify_with("--sandbox=strict", |command| LANDLOCK.on(command));
    assert_eq!(ran.status, 2, "{}", ran.text());
}

#[test]
fn a_book_makes_more_of_itself_readable_but_nothing_else() {
    let project = one("print(open(PLACE).read())")
        .with(
            "verify.toml",
            "pages = [\"pages\"]\nreadable = [\"data\"]\n",
        )
        .with("data/stars.txt", "Vega")
        .with(".env", "TOKEN=1");
    let place = project.path("data/stars.txt");
    let page = project.read("page.md");
    project.write(
        "pages/page.md",
        page.replace("PLACE", &format!("{:?}", place.to_str().unwrap())),
    );
    let ran = project.verify("show pages/page.md::one/1");
    assert!(ran.stdout.contains("stdout:\n    Vega\n"), "{}", ran.text());

    let outside = project.root().with_file_name("home");
    std::os::unix::fs::symlink(&outside, project.path("link")).unwrap();
    for name in ["../home", "link", ".env", ".", "/etc"] {
        project.write("verify.toml", format!("readable = [{name:?}]\n"));
        let ran = project.verify("");
        assert_eq!(ran.status, 2, "{name}: {}", ran.text());
        let message = format!(
            "error: `readable` names `{name}`, which is hidden or not below `verify.toml`; only you can allow that, with `--readable`\n"
        );
        assert_eq!(ran.stderr, message);
    }
    project.write("verify.toml", "readable = [\"nowhere\"]\n");
    assert_eq!(
        project.verify("").stderr,
        "error: `readable` names `nowhere`, which does not exist\n"
    );
    project.write("verify.toml", "[environment]\nPYTHONPATH = \"/x\"\n");
    let ran = project.verify("");
    assert!(
        ran.stderr
            .starts_with("error: `environment` in `verify.toml` sets `PYTHONPATH`, "),
        "{}",
        ran.stderr
    );
}

/// An environment beside `verify.toml` lies in a hidden directory of a book that is shown.
#[test]
fn an_environment_in_the_book_is_shown_and_nothing_hidden_with_it() {
    let shows = r#"import os, sys
print(os.path.basename(sys.prefix), os.path.isfile(os.path.join(sys.prefix, "pyvenv.cfg")))
import installed
print(installed.ANSWER)
for name in (".venv/own/file", ".other/file"):
    try:
        print(open(os.path.join("ROOT", name)).read())
    except OSError as error:
        print(type(error).__name__)"#;
    let project = Project::new().with("verify.toml", "pages = [\".\"]\n");
    let root = project.root().to_str().unwrap().to_owned();
    let packages = make_environment(&project.path(".venv"));
    std::fs::write(packages.join("installed.py"), "ANSWER = 42\n").unwrap();
    let project = project
        .with(".venv/own/file", "not Python's")
        .with(".other/file", "hidden")
        .with(
            "page.md",
            format!(
                "# One\n\n```python\n{}\n```\n\n```output\n.venv True\n42\n{1}\n{1}\n```\n",
                shows.replace("ROOT", &root),
                "FileNotFoundError",
            ),
        );
    if !is_whole(&one("print(1)")) {
        return;
    }
    let passes = || {
        let ran = project.verify("--sandbox=strict --no-cache");
        assert_eq!(ran.status, 0, "{}", ran.text());
        assert!(ran.stdout.contains("1 verified"), "{}", ran.text());
    };
    passes();
    // What is nothing but an environment is shown as a whole.
    let environment = project.root().join(".venv");
    std::fs::remove_dir_all(environment.join("own")).unwrap();
    let _ = std::fs::remove_file(environment.join(".gitignore"));
    passes();
}

#[test]
fn the_command_line_makes_anything_readable() {
    let project = one("print(open(PLACE).read())");
    let place = project.root().with_file_name("stars.txt");
    std::fs::write(&place, "Vega").unwrap();
    let place = place.to_str().unwrap();
    let page = project.read("page.md");
    project.write("page.md", page.replace("PLACE", &format!("{place:?}")));
    let ran = project.verify(&format!("show page.md::one/1 --readable {place}"));
    assert!(ran.stdout.contains("stdout:\n    Vega\n"), "{}", ran.text());
    assert_eq!(
        project.verify("--readable nowhere").stderr,
        "error: `--readable nowhere` does not exist\n"
    );
}

/// What examples do that a sandbox could stand in the way of. Each passes with it and without it.
const ORDINARY: &[(&str, &str)] = &[
    (
        "processes-with-semaphores",
        r"import multiprocessing

def add(counter):
    with counter.get_lock():
        counter.value += 1

if __name__ == '__main__':
    for method in 'fork', 'spawn', 'forkserver':
        context = multiprocessing.get_context(method)
        counter = context.Value('i', 0)
        workers = [context.Process(target=add, args=(counter,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert counter.value == 2, method",
    ),
    (
        "shared-memory-and-managers",
        r"from multiprocessing import Manager, shared_memory
block = shared_memory.SharedMemory(create=True, size=64, name='demo')
shared_memory.SharedMemory(name='demo').close()
block.close()
block.unlink()
with Manager() as manager:
    assert list(manager.list([1])) == [1]",
    ),
    (
        "temporary-files",
        r"import os, tempfile
with tempfile.TemporaryDirectory() as directory:
    with open(os.path.join(directory, 'x'), 'w') as file:
        file.write('x')
with tempfile.NamedTemporaryFile() as file:
    os.rename(file.name, 'renamed')
    os.rename('renamed', file.name)
os.mkdir('sub')
os.link(__file__, 'sub/linked')
os.symlink('sub', 'link')
os.mkfifo('pipe')
os.chmod('sub', 0o700)
os.truncate('sub/linked', 10)",
    ),
    (
        "loopback",
        r"import socket, threading
import http.server, urllib.request
server = http.server.HTTPServer(('127.0.0.1', 8000), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.handle_request).start()
assert urllib.request.urlopen('http://127.0.0.1:8000/').status == 200
server.server_close()
peers = socket.create_server(('::1', 0), family=socket.AF_INET6), socket.socketpair()
listener = socket.socket(socket.AF_UNIX)
listener.bind('here.sock')
listener.listen()
socket.socket(socket.AF_UNIX).connect('here.sock')
assert socket.getaddrinfo('localhost', 80)",
    ),
    (
        "asyncio",
        r"import asyncio

async def main():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), '127.0.0.1', 8000)
    await asyncio.open_connection('127.0.0.1', 8000)
    process = await asyncio.create_subprocess_exec('true')
    assert await process.wait() == 0
    server.close()

asyncio.run(main())",
    ),
    (
        "databases",
        r"import sqlite3, dbm.dumb
with sqlite3.connect('stars.db') as connection:
    connection.execute('pragma journal_mode = wal')
    connection.execute('create table stars (name)')
    connection.execute('insert into stars values (?)', ('Vega',))
dbm.dumb.open('names', 'c').close()",
    ),
    (
        "programs",
        r"import os, shutil, subprocess, sys
subprocess.run([sys.executable, '-c', 'import json, ssl, ctypes'], check=True)
subprocess.run('ls | sort > /dev/null; cat < /dev/null', shell=True, check=True)
subprocess.run(['bash', '-c', 'cat <(echo x)'], check=True, stdout=subprocess.DEVNULL)
if shutil.which('git'):
    subprocess.run('git init -q . && git add -A && git -c user.name=x -c user.email=x commit -qm x', shell=True, check=True)
if shutil.which('gcc'):
    open('x.c', 'w').write('int main(void) { return 0; }')
    subprocess.run(['gcc', 'x.c', '-o', 'x'], check=True)
    subprocess.run(['./x'], check=True)",
    ),
    (
        "environments",
        r"import subprocess, sys
subprocess.run([sys.executable, '-m', 'venv', '--without-pip', 'env'], check=True)
subprocess.run(['env/bin/python', '-c', 'import sys; assert sys.prefix != sys.base_prefix'], check=True)",
    ),
    (
        "threads-signals-terminals",
        r"import os, pty, signal, threading
thread = threading.Thread(target=os.getpid)
thread.start()
thread.join()
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)
child = os.fork()
if child == 0:
    signal.pause()
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
leader, follower = pty.openpty()
assert os.isatty(follower)
os.setpriority(os.PRIO_PROCESS, 0, 1)
assert os.listdir('/proc/self/fd') and os.listdir('/') and os.listdir('/tmp')
open('/tmp/x', 'w').write('x')",
    ),
];

#[test]
fn ordinary_examples_work_as_outside() {
    let mut project = Project::new();
    for (name, code) in ORDINARY {
        project = project.with(&format!("{name}.md"), format!("```python\n{code}\n```\n"));
    }
    for sandbox in ["off", "on"] {
        let ran = project.verify(&format!("--sandbox={sandbox} -j 2"));
        assert_eq!(ran.status, 0, "--sandbox={sandbox}: {}", ran.text());
    }
}

#[test]
fn two_sessions_serve_the_same_port() {
    let serve = "```python
import socket, time
server = socket.create_server(('127.0.0.1', 8000))
time.sleep(1)
```
";
    let project = Project::new().with("a.md", serve).with("b.md", serve);
    if is_whole(&project) {
        let ran = project.verify("-j 2");
        assert_eq!(ran.status, 0, "{}", ran.text());
    }
}

/// So many pages with the same example.
fn alike(count: usize, code: &str) -> Project {
    (0..count).fold(Project::new(), |project, number| {
        let page = format!("# Page\n\n```python\n{code}\n```\n");
        project.with(&format!("{number}.md"), page)
    })
}

#[test]
fn a_session_is_put_where_an_earlier_one_left_nothing() {
    let project = alike(
        6,
        "import os\nprint(os.stat('/tmp').st_ino, os.stat('/dev/shm').st_ino)",
    );
    if is_whole(&project) {
        let places: HashSet<String> = project.printed("-j1").into_iter().collect();
        assert!(places.len() < 6, "{places:?}");
    }
}

#[test]
fn what_a_session_leaves_behind_no_other_finds() {
    let traces = [
        "open('/tmp/x', 'w').close()",
        "os.makedirs('/tmp/x/y')",
        "os.symlink('/etc/passwd', '/dev/shm/x')",
        "open(os.path.dirname(os.path.dirname(os.getcwd())) + '/x', 'w').close()",
        "os.chmod('/tmp', 0o700)",
        "os.chmod('/dev/shm', 0o1755)",
        "os.utime('/tmp', (1, 1))",
        "os.setxattr('/tmp', 'user.x', b'x')",
        "os.rmdir(os.getcwd())",
    ];
    if !is_whole(&one("pass")) {
        // It would be the machine's own.
        return;
    }
    for trace in traces {
        let code = format!(
            r#"import os
for place in ("/tmp", "/dev/shm", os.path.dirname(os.path.dirname(os.getcwd()))):
    known = os.stat(place)
    own = os.getcwd().split("/")
    print([name for name in os.listdir(place) if name not in own], oct(known.st_mode), os.listxattr(place))
    print(known.st_mtime > 1000)
for name in os.listdir():
    os.remove(name)
try:
    {trace}
except OSError:
    pass"#
        );
        let project = alike(5, &code);
        let mut found = project.printed("-j1");
        found.dedup();
        assert_eq!(found.len(), 1, "{trace}: {found:?}");
        assert!(
            found[0].starts_with("[] 0o41777 []\n"),
            "{trace}: {found:?}"
        );
    }
}

#[test]
fn an_ordinary_user_has_it_too() {
    let Some(nobody) = Nobody::with(Path::new(VERIFY)) else {
        return;
    };
    let page = "# One\n\n```python\nimport os\nprint(os.getuid(), os.stat('.').st_uid)\n```\n";
    std::fs::write(nobody.at("page.md"), page).unwrap();
    let said = |words: &[&str]| {
        let output = nobody.command("verify").args(words).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let shown = said(&["show", "page.md::one/1"]);
    assert!(shown.contains("65534 65534"), "{shown}");
    if is_whole(&one("pass"))
        && std::fs::read_to_string("/proc/sys/user/max_user_namespaces")
            .is_ok_and(|n| n.trim() != "0")
    {
        let doctor = said(&["doctor"]);
        assert_eq!(doctor.matches('✗').count(), 0, "{doctor}");
    }
}

#[test]
fn the_doctor_tells_what_there_is_and_what_is_missing() {
    let project = one("pass");
    let ran = project.verify("doctor");
    assert_eq!(ran.status, 0, "{}", ran.text());
    assert!(
        ran.stdout.starts_with("Pythons\n  ✓ [VERSION]"),
        "{}",
        ran.text()
    );
    let ran = project.verify_with("doctor", |command| NAMESPACES.on(command));
    assert!(
        ran.stdout
            .contains("  ✗ network    network namespaces are refused (")
            && ran
                .stdout
                .contains("`--sandbox=strict` runs nothing until all of it holds"),
        "{}",
        ran.text()
    );
    let ran = project.verify_with("doctor", |command| LANDLOCK.on(command));
    assert!(
        ran.stdout.contains("all of Landlock takes Linux 6.12"),
        "{}",
        ran.text()
    );
    let ran = project.verify_with("doctor", |command| {
        command.env("PATH", "/nowhere");
    });
    assert_eq!(ran.status, 2, "{}", ran.text());
    assert!(
        ran.stdout.contains("  ✗ none is chosen: "),
        "{}",
        ran.text()
    );
}
