//! What the attacks are made on: files, processes, servers, a book with its recordings, an environment.

#![allow(
    unsafe_code,
    reason = "shared memory of System V, which no crate wraps"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use verify::interpreter;

use crate::lacking::Lacking;
use crate::table::{Attack, Harm};
use crate::{Ran, SUCCESS, Scratch, program};

/// How long a signal may take to end its process.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs before each attack.
const PRELUDE: &str = r#"
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)

def won(done):
    print("SUCCESS" if done else os.strerror(ctypes.get_errno()))
"#;

pub(crate) struct Victims {
    top: tempfile::TempDir,
    /// In names, known to the attackers.
    id: String,
    /// What they must not get to know.
    secret: String,
    python: PathBuf,
    site_packages: PathBuf,
    processes: RefCell<BTreeMap<String, Child>>,
    before: BTreeMap<String, State>,
    /// By which key the attackers find the shared memory, and its number.
    key: libc::key_t,
    shared_memory: libc::c_int,
    /// Open without close-on-exec while the program runs.
    inherited: File,
}

/// What can be seen of files: where, mode, owner, time, content.
type State = Vec<(PathBuf, u32, u32, i64, Vec<u8>)>;

impl Victims {
    pub(crate) fn new(attacks: &[&Attack]) -> Victims {
        let top = tempfile::Builder::new()
            .prefix("attack-")
            .tempdir()
            .unwrap();
        let name = top
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let id = name.replace('-', "");
        let secret = format!(
            "classified{}",
            fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap()
        );
        let secret = secret.trim().replace('-', "");
        let root = top.path().canonicalize().unwrap();
        for directory in [
            "tmp",
            "home/.ssh",
            "book/pages",
            "book/.git/hooks",
            "book/.verify",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for (file, text) in [
            ("home/.ssh/id", secret.as_str()),
            ("home/.bashrc", ""),
            ("book/verify.toml", "timeout = '60s'\n"),
            ("book/.git/config", &secret),
            ("book/.env", &secret),
            ("book/.verify/token", ""),
            ("book/.verify/read", &secret),
            ("book/expected/token.toml", ""),
            ("book/expected/read.toml", &format!("# {secret}\n")),
            ("book/pages/other.md", "# Nothing\n"),
            ("book/target/debug/verify", "a program"),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let python = environment(&root);
        let site_packages = site_packages(&python);
        for module in ["innocent", "harmless"] {
            fs::write(site_packages.join(format!("{module}.py")), "").unwrap();
        }
        fs::write(format!("/dev/shm/secret-{id}"), &secret).unwrap();
        let inherited_path = root.join("inherited");
        fs::write(&inherited_path, &secret).unwrap();

        let key = 0x5ec2_0000 | (std::process::id() & 0xffff).cast_signed();
        let mut victims = Victims {
            key,
            id,
            python,
            site_packages,
            processes: RefCell::new(BTreeMap::new()),
            before: BTreeMap::new(),
            shared_memory: shared_memory(key, &secret),
            inherited: File::open(inherited_path).unwrap(),
            secret,
            top,
        };
        let (tcp, udp) = victims.serve();
        for attack in attacks {
            victims.prepare(attack, tcp, udp);
        }
        victims.neighbour();
        for attack in attacks {
            let state = victims.state(attack);
            victims.before.insert(attack.name.to_owned(), state);
        }
        victims
    }

    /// Servers whose answer is the secret. They end with the test.
    fn serve(&self) -> (u16, u16) {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ports = (
            tcp.local_addr().unwrap().port(),
            udp.local_addr().unwrap().port(),
        );
        let secret = self.secret.clone();
        std::thread::spawn(move || {
            for mut peer in tcp.incoming().flatten() {
                let _ = peer.write_all(secret.as_bytes());
            }
        });
        let secret = self.secret.clone();
        std::thread::spawn(move || {
            while let Ok((_, peer)) = udp.recv_from(&mut [0; 16]) {
                let _ = udp.send_to(secret.as_bytes(), peer);
            }
        });
        let address = SocketAddr::from_abstract_name(&self.id).unwrap();
        self.answer(UnixListener::bind_addr(&address).unwrap());
        ports
    }

    fn answer(&self, listener: UnixListener) {
        let secret = self.secret.clone();
        std::thread::spawn(move || {
            for mut peer in listener.incoming().flatten() {
                let _ = peer.write_all(secret.as_bytes());
            }
        });
    }

    fn root(&self) -> PathBuf {
        self.top.path().canonicalize().unwrap()
    }

    fn directory(&self, attack: &Attack) -> PathBuf {
        self.root().join("victims").join(attack.name)
    }

    /// One attack's own victims, and the page with the attack.
    fn prepare(&self, attack: &Attack, tcp: u16, udp: u16) {
        let directory = self.directory(attack);
        fs::create_dir_all(directory.join("listed").join(&self.secret)).unwrap();
        fs::write(directory.join("secret"), &self.secret).unwrap();
        fs::write(directory.join("file"), "untouched").unwrap();
        if attack.code.contains("/service") {
            self.answer(UnixListener::bind(directory.join("service")).unwrap());
        }
        let mut pid = 0;
        if attack.code.contains("PID") || attack.code.contains("cmdline") {
            let child = Command::new("sh")
                .arg("-c")
                .arg(format!("sleep 600; : {} {}", self.id, self.secret))
                .env("TOKEN", format!("{} {}", self.id, self.secret))
                .current_dir(&directory)
                .stdin(File::open(directory.join("secret")).unwrap())
                .stdout(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            pid = child.id();
            let mut processes = self.processes.borrow_mut();
            processes.insert(attack.name.to_owned(), child);
        }
        let network = if attack.code.contains("socket.") {
            "import socket\n"
        } else {
            ""
        };
        let root = self.root();
        // Two sessions that have to meet start first: sessions with many examples do.
        let is_meeting = attack.name.ends_with("scratch-of-other-session");
        let more = if is_meeting { MORE_EXAMPLES } else { "" };
        let page = format!(
            "```python\n{}{network}\nV = {:?}\nBOOK = {:?}\nHOME = {:?}\nID = {:?}\nKEY = {}\n\
             PID = {pid}\nTCP = {tcp}\nUDP = {udp}\n{}\n```\n{more}",
            PRELUDE.replace("SUCCESS", SUCCESS),
            directory.to_str().unwrap(),
            root.join("book").to_str().unwrap(),
            root.join("home").to_str().unwrap(),
            self.id,
            self.key,
            attack.code.trim(),
        );
        fs::write(root.join(format!("book/pages/{}.md", attack.name)), page).unwrap();
    }

    /// A session with something in its scratch directory that another one may look for.
    fn neighbour(&self) {
        let page = format!(
            "```python\nimport os, time\nopen('neighbour', 'w').write('{}')\nfor _ in range(400):\n    \
             time.sleep(0.02)\nif os.path.exists('neighbour-visited'):\n    print('{SUCCESS}')\n```\n{MORE_EXAMPLES}",
            self.secret
        );
        fs::write(self.root().join("book/pages/neighbour.md"), page).unwrap();
    }

    /// Runs all attacks, each on a page of its own.
    pub(crate) fn run(&self, sandbox: &str, scratch: Scratch, lacking: Option<Lacking>) -> Ran {
        rustix::io::fcntl_setfd(&self.inherited, rustix::io::FdFlags::empty()).unwrap();
        let root = self.root();
        let chosen = match scratch {
            Scratch::Chosen => Some(("TMPDIR", root.join("tmp"))),
            Scratch::Usual => None,
        };
        let mut command = Command::new(program());
        command
            .args(["--format", "json", "-j", "4", "--no-sync", "--python"])
            .arg(&self.python)
            .arg(format!("--sandbox={sandbox}"))
            .current_dir(root.join("book"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", root.join("home"))
            .envs(chosen)
            .env("CREDENTIALS", format!("{} {}", self.id, self.secret))
            .stdin(Stdio::null());
        if let Some(lacking) = lacking {
            lacking.on(&mut command);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let mut ran = Ran {
            said: BTreeMap::new(),
            missing: BTreeMap::new(),
        };
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            match line["type"].as_str().unwrap() {
                "run" => {
                    for (name, protection) in line["sandbox"].as_object().into_iter().flatten() {
                        if let Some(why) = protection["missing"].as_str() {
                            ran.missing.insert(name.clone(), why.to_owned());
                        }
                    }
                }
                "example" => {
                    let page = Path::new(line["page"].as_str().unwrap()).file_stem();
                    let name = page.unwrap().to_string_lossy().into_owned();
                    let said = ran.said.entry(name).or_default();
                    for part in ["stdout", "stderr"] {
                        said.push_str(line["outcome"][part].as_str().unwrap_or_default());
                    }
                    said.push_str(line["failure"]["message"].as_str().unwrap_or_default());
                    said.push('\n');
                }
                _ => {}
            }
        }
        // Whether it was visited, the neighbour knows.
        let neighbour = ran.said.remove("neighbour").unwrap_or_default();
        if let Some(said) = ran.said.get_mut("write-to-scratch-of-other-session") {
            said.push_str(&neighbour);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!ran.said.is_empty(), "nothing ran: {text}{errors}");
        ran
    }

    /// Whether an attack has done what it was out to do.
    pub(crate) fn harmed(&self, attack: &Attack, said: &str) -> bool {
        match attack.harm {
            Harm::Knows => said.contains(&self.secret),
            Harm::Did => said.contains(SUCCESS),
            Harm::Changed | Harm::Alters(_) => self.state(attack) != self.before[attack.name],
            Harm::Killed => {
                let mut processes = self.processes.borrow_mut();
                let process = processes.get_mut(attack.name).unwrap();
                let start = Instant::now();
                while start.elapsed() < PATIENCE {
                    if process.try_wait().unwrap().is_some() {
                        return true;
                    }
                    std::thread::yield_now();
                }
                false
            }
        }
    }

    /// Which of these did.
    pub(crate) fn successful(&self, attacks: &[&Attack], ran: &Ran) -> Vec<&'static str> {
        let attacks = attacks.iter();
        attacks
            .filter(|attack| self.harmed(attack, &ran.said[attack.name]))
            .map(|attack| attack.name)
            .collect()
    }

    fn state(&self, attack: &Attack) -> State {
        match attack.harm {
            Harm::Alters(place) => self.files_at(place),
            _ => files_below(&self.directory(attack)),
        }
    }

    fn files_at(&self, place: &str) -> State {
        let place = place.replace("ID", &self.id);
        let path = match place.strip_prefix("SITE/") {
            Some(rest) => self.site_packages.join(rest),
            None => self.root().join(place),
        };
        let Some(beginning) = path.to_str().unwrap().strip_suffix('*') else {
            return files_below(&path);
        };
        let all = files_below(path.parent().unwrap());
        all.into_iter()
            .filter(|(path, ..)| path.to_str().unwrap().starts_with(beginning))
            .collect()
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        for process in self.processes.borrow_mut().values_mut() {
            let group = rustix::process::Pid::from_child(process);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = process.wait();
        }
        for leftover in [
            format!("/dev/shm/secret-{}", self.id),
            format!("/dev/shm/{}", self.id),
            format!("/tmp/{}", self.id),
        ] {
            let _ = fs::remove_file(leftover);
        }
        // SAFETY: the segment is this test's own.
        unsafe { libc::shmctl(self.shared_memory, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

const MORE_EXAMPLES: &str =
    "\n```python\npass\n```\n\n```python\npass\n```\n\n```python\npass\n```\n";

/// A segment of System V with the secret in it.
fn shared_memory(key: libc::key_t, secret: &str) -> libc::c_int {
    // SAFETY: the segment is larger than what is copied to it.
    unsafe {
        let segment = libc::shmget(key, 4096, libc::IPC_CREAT | 0o600);
        let at = libc::shmat(segment, std::ptr::null(), 0);
        if at as isize != -1 {
            at.cast::<u8>()
                .copy_from_nonoverlapping(secret.as_ptr(), secret.len());
            libc::shmdt(at);
        }
        segment
    }
}

fn files_below(top: &Path) -> State {
    walkdir::WalkDir::new(top)
        .sort_by_file_name()
        .into_iter()
        .flatten()
        .map(|entry| {
            let path = entry.into_path();
            let about = path.symlink_metadata().unwrap();
            let bytes = if about.is_file() {
                fs::read(&path).unwrap_or_default()
            } else {
                Vec::new()
            };
            (path, about.mode(), about.uid(), about.mtime(), bytes)
        })
        .collect()
}

/// An environment of its own, which attacks may spoil.
fn environment(root: &Path) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name);
    let python = match interpreter::discover(None, root, &variable, &root.join("tmp")) {
        Ok(python) => python,
        Err(error) => panic!("this test needs a Python with a shared libpython: {error}"),
    };
    let environment = root.join("environment");
    let made = Command::new(&python.executable)
        .args(["-m", "venv", "--without-pip"])
        .arg(&environment)
        .status()
        .unwrap();
    assert!(made.success());
    fs::remove_dir_all(root.join("tmp")).unwrap();
    fs::create_dir(root.join("tmp")).unwrap();
    environment.join("bin/python")
}

fn site_packages(python: &Path) -> PathBuf {
    let asked = Command::new(python)
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ])
        .output()
        .unwrap();
    PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim())
}
