//! The attacks: a name, the protection that has to keep it off, what it needs, and what it does.

/// One attack. In its code `V` is the victim's directory with the files `secret` and `file`, `BOOK` the
/// project's, `HOME` the home directory of whoever started the run; `PID`, `TCP`, `UDP` are a process and
/// servers of the victim's, `ID` is a word in names that no other run has, and `won()` says that it worked. The
/// secret itself stands in no code.
#[derive(Debug)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// `files`, `network`, `processes` or `kernel`.
    pub(crate) kept_off_by: &'static str,
    /// Needs the rights of root even without a sandbox.
    pub(crate) root: bool,
    /// Works on every machine without a sandbox. Where false, a kernel may lack or forbid the thing.
    pub(crate) everywhere: bool,
    pub(crate) harm: Harm,
    pub(crate) code: &'static str,
}

/// How success shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The example has got hold of the secret word: it is in what it printed.
    Knows,
    /// It says that it was let do something.
    Did,
    /// Files in `V` are not what they were.
    Changed,
    /// This file is not what it was: below the directory of book, home and environment, in `SITE`, the
    /// packages of the environment, or anywhere. With a `*` at its end, any file of that beginning.
    Alters(&'static str),
    /// The victim's process is gone.
    Killed,
}

use Harm::{Alters, Changed, Did, Killed, Knows};

const fn attack(
    name: &'static str,
    kept_off_by: &'static str,
    harm: Harm,
    code: &'static str,
) -> Attack {
    Attack {
        name,
        kept_off_by,
        root: false,
        everywhere: true,
        harm,
        code,
    }
}

const fn by_root(
    name: &'static str,
    kept_off_by: &'static str,
    harm: Harm,
    code: &'static str,
) -> Attack {
    Attack {
        root: true,
        everywhere: false,
        ..attack(name, kept_off_by, harm, code)
    }
}

const fn perhaps(
    name: &'static str,
    kept_off_by: &'static str,
    harm: Harm,
    code: &'static str,
) -> Attack {
    Attack {
        everywhere: false,
        ..attack(name, kept_off_by, harm, code)
    }
}

pub(crate) const ATTACKS: &[Attack] = &[
    // Reading.
    attack(
        "read-file",
        "files",
        Knows,
        "print(open(V + '/secret').read())",
    ),
    attack(
        "list-directory",
        "files",
        Knows,
        "print(os.listdir(V + '/listed'))",
    ),
    attack(
        "read-by-symlink",
        "files",
        Knows,
        "os.symlink(V + '/secret', 'link'); print(open('link').read())",
    ),
    attack(
        "read-by-symlinked-directory",
        "files",
        Knows,
        "os.symlink(V, 'link'); print(open('link/secret').read())",
    ),
    perhaps(
        "read-by-hard-link",
        "files",
        Knows,
        "os.link(V + '/secret', 'link'); print(open('link').read())",
    ),
    attack(
        "read-by-root-of-process",
        "files",
        Knows,
        "print(open('/proc/self/root' + V + '/secret').read())",
    ),
    perhaps(
        "read-by-root-of-parent",
        "files",
        Knows,
        "print(open(f'/proc/{os.getppid()}/root{V}/secret').read())",
    ),
    attack(
        "read-by-path-descriptor",
        "files",
        Knows,
        "d = os.open(V + '/secret', os.O_PATH); print(open(f'/proc/self/fd/{d}').read())",
    ),
    attack(
        "read-by-directory-descriptor",
        "files",
        Knows,
        "d = os.open(V, os.O_PATH); print(os.read(os.open('secret', os.O_RDONLY, dir_fd=d), 99))",
    ),
    attack(
        "read-after-chdir",
        "files",
        Knows,
        "os.chdir(V); print(open('secret').read())",
    ),
    attack(
        "read-by-program",
        "files",
        Knows,
        "print(subprocess.run(['cat', V + '/secret'], capture_output=True, text=True))",
    ),
    attack(
        "read-by-copy",
        "files",
        Knows,
        "import shutil; shutil.copy(V + '/secret', 'copy'); print(open('copy').read())",
    ),
    attack(
        "read-in-grandchild",
        "files",
        Knows,
        "subprocess.run(['setsid', 'sh', '-c', f'cat {V}/secret'])",
    ),
    attack(
        "read-key-in-home",
        "files",
        Knows,
        "print(open(HOME + '/.ssh/id').read())",
    ),
    attack(
        "read-git-config",
        "files",
        Knows,
        "print(open(BOOK + '/.git/config').read())",
    ),
    attack(
        "read-dot-env",
        "files",
        Knows,
        "print(open(BOOK + '/.env').read())",
    ),
    attack(
        "read-recordings",
        "files",
        Knows,
        "print(open(BOOK + '/expected/read.toml').read())",
    ),
    attack(
        "read-cache",
        "files",
        Knows,
        "print(open(BOOK + '/.verify/read').read())",
    ),
    attack(
        "read-scratch-of-other-session",
        "files",
        Knows,
        r"
import glob, time
for _ in range(300):
    found = glob.glob(os.path.dirname(os.path.dirname(os.getcwd())) + '/*/project/neighbour')
    if found:
        print(open(found[0]).read())
        break
    time.sleep(0.02)
",
    ),
    by_root(
        "read-password-hashes",
        "files",
        Did,
        "won(len(open('/etc/shadow').read()) > 0)",
    ),
    by_root(
        "read-disk-by-device-file",
        "files",
        Did,
        r"
import stat
device = os.stat('/').st_dev
os.mknod('disk', stat.S_IFBLK | 0o600, device)
won(len(os.read(os.open('disk', os.O_RDONLY), 512)) == 512)
",
    ),
    by_root(
        "read-by-file-handle",
        "files",
        Knows,
        r"
handle = ctypes.create_string_buffer(136)
ctypes.c_uint.from_buffer(handle).value = 128
mount = ctypes.c_int()
assert libc.name_to_handle_at(-100, (V + '/secret').encode(), handle, ctypes.byref(mount), 0) == 0
d = libc.open_by_handle_at(os.open('/tmp', os.O_RDONLY), handle, os.O_RDONLY)
print(os.read(d, 99))
",
    ),
    // Changing.
    attack(
        "overwrite",
        "files",
        Changed,
        "open(V + '/file', 'w').write('x')",
    ),
    attack(
        "create",
        "files",
        Changed,
        "open(V + '/new', 'w').write('x')",
    ),
    attack(
        "append-by-symlink",
        "files",
        Changed,
        "os.symlink(V + '/file', 'link'); open('link', 'a').write('x')",
    ),
    perhaps(
        "write-by-hard-link",
        "files",
        Changed,
        "os.link(V + '/file', 'link'); open('link', 'w').write('x')",
    ),
    attack(
        "write-by-root-of-process",
        "files",
        Changed,
        "open('/proc/self/root' + V + '/file', 'w').write('x')",
    ),
    attack(
        "write-by-directory-of-process",
        "files",
        Changed,
        "open(f'/proc/{PID}/cwd/file', 'w').write('x')",
    ),
    attack(
        "rename-over",
        "files",
        Changed,
        "open('x', 'w').close(); os.rename('x', V + '/file')",
    ),
    attack(
        "rename-away",
        "files",
        Changed,
        "os.rename(V + '/file', 'x')",
    ),
    attack(
        "rename-within",
        "files",
        Changed,
        "os.rename(V + '/file', V + '/other')",
    ),
    attack("remove", "files", Changed, "os.unlink(V + '/file')"),
    attack(
        "remove-tree",
        "files",
        Changed,
        "import shutil; shutil.rmtree(V + '/listed')",
    ),
    attack("truncate", "files", Changed, "os.truncate(V + '/file', 0)"),
    attack("make-directory", "files", Changed, "os.mkdir(V + '/new')"),
    attack(
        "make-symlink",
        "files",
        Changed,
        "os.symlink('x', V + '/new')",
    ),
    attack("make-fifo", "files", Changed, "os.mkfifo(V + '/new')"),
    attack(
        "make-socket",
        "files",
        Changed,
        "socket.socket(socket.AF_UNIX).bind(V + '/new')",
    ),
    attack(
        "link-into",
        "files",
        Changed,
        "open('x', 'w').close(); os.link('x', V + '/new')",
    ),
    attack(
        "change-mode",
        "files",
        Changed,
        "os.chmod(V + '/file', 0o777)",
    ),
    attack(
        "change-mode-of-directory",
        "files",
        Changed,
        "os.chmod(V, 0o500)",
    ),
    attack(
        "change-time",
        "files",
        Changed,
        "os.utime(V + '/file', (1, 1))",
    ),
    by_root(
        "change-owner",
        "files",
        Changed,
        "os.chown(V + '/file', 1234, 1234)",
    ),
    perhaps(
        "set-extended-attribute",
        "files",
        Did,
        "os.setxattr(V + '/file', 'user.attack', b'x'); won(True)",
    ),
    attack(
        "alter-recording",
        "files",
        Alters("book/expected/token.toml"),
        "open(BOOK + '/expected/token.toml', 'w').write('x')",
    ),
    attack(
        "alter-page",
        "files",
        Alters("book/pages/other.md"),
        "open(BOOK + '/pages/other.md', 'a').write('x')",
    ),
    attack(
        "alter-configuration",
        "files",
        Alters("book/verify.toml"),
        "open(BOOK + '/verify.toml', 'a').write('#')",
    ),
    attack(
        "plant-git-hook",
        "files",
        Alters("book/.git/hooks/pre-commit"),
        "open(BOOK + '/.git/hooks/pre-commit', 'w').write('x')",
    ),
    attack(
        "alter-cache",
        "files",
        Alters("book/.verify/token"),
        "open(BOOK + '/.verify/token', 'w').write('x')",
    ),
    attack(
        "alter-build",
        "files",
        Alters("book/target/debug/verify"),
        "open(BOOK + '/target/debug/verify', 'w').write('x')",
    ),
    attack(
        "alter-shell-start",
        "files",
        Alters("home/.bashrc"),
        "open(HOME + '/.bashrc', 'a').write('x')",
    ),
    attack(
        "add-to-environment",
        "files",
        Alters("SITE/attack.py"),
        "import sysconfig; open(sysconfig.get_path('purelib') + '/attack.py', 'w').write('x')",
    ),
    attack(
        "poison-programs-of-the-run",
        "files",
        Did,
        "first = os.environ['PATH'].split(':')[0]
with open(first + '/pip', 'a') as file:
    file.write('#')
won(True)",
    ),
    attack(
        "poison-bytecode",
        "files",
        Alters("SITE/__pycache__/innocent.*"),
        r"
import sysconfig, importlib.util
module = sysconfig.get_path('purelib') + '/innocent.py'
cached = importlib.util.cache_from_source(module)
os.makedirs(os.path.dirname(cached), exist_ok=True)
open(cached, 'wb').write(b'x')
",
    ),
    attack(
        "poison-bytecode-by-import",
        "files",
        Alters("SITE/__pycache__/harmless.*"),
        "import harmless",
    ),
    attack(
        "write-to-scratch-of-other-session",
        "files",
        Did,
        r"
import glob, time
for _ in range(300):
    for found in glob.glob(os.path.dirname(os.path.dirname(os.getcwd())) + '/*/project/neighbour'):
        open(found + '-visited', 'w').close()
    time.sleep(0.02)
",
    ),
    attack(
        "write-to-tmp",
        "files",
        Alters("/tmp/ID"),
        "open('/tmp/' + ID, 'w').write('x')",
    ),
    perhaps(
        "write-to-shared-memory",
        "files",
        Alters("/dev/shm/ID"),
        "open('/dev/shm/' + ID, 'w').write('x')",
    ),
    perhaps(
        "read-shared-memory",
        "files",
        Knows,
        "print(open('/dev/shm/secret-' + ID).read())",
    ),
    by_root(
        "set-core-pattern",
        "files",
        Did,
        r"
with open('/proc/sys/kernel/core_pattern', 'r+') as file:
    text = file.read()
    file.seek(0)
    file.write(text)
won(True)
",
    ),
    by_root(
        "mount-over",
        "kernel",
        Did,
        r"
assert libc.mount(b'tmpfs', V.encode(), b'tmpfs', 0, None) == 0
won(os.path.ismount(V))
libc.umount2(V.encode(), 2)
",
    ),
    by_root(
        "mount-by-program",
        "kernel",
        Did,
        r"
done = subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', V], capture_output=True)
won(done.returncode == 0)
subprocess.run(['umount', '-l', V], capture_output=True)
",
    ),
    by_root(
        "remount-writable",
        "kernel",
        Did,
        "won(libc.mount(None, b'/usr', None, 32 | 4096, None) == 0 or ctypes.get_errno() == 22)",
    ),
    // Processes.
    attack(
        "read-environment-of-process",
        "processes",
        Knows,
        "print(open(f'/proc/{PID}/environ').read())",
    ),
    attack(
        "read-environment-of-verify",
        "processes",
        Knows,
        r"
for name in os.listdir('/proc'):
    try:
        text = open(f'/proc/{name}/environ').read()
    except OSError:
        continue
    if ID in text:
        print(text)
",
    ),
    attack(
        "read-command-lines",
        "processes",
        Knows,
        r"
for name in os.listdir('/proc'):
    try:
        text = open(f'/proc/{name}/cmdline').read()
    except OSError:
        continue
    if ID in text:
        print(text)
",
    ),
    perhaps(
        "read-memory-of-process",
        "processes",
        Knows,
        r"
for line in open(f'/proc/{PID}/maps'):
    if '[stack]' in line:
        first, end = (int(part, 16) for part in line.split()[0].split('-'))
with open(f'/proc/{PID}/mem', 'rb') as memory:
    memory.seek(first)
    print(memory.read(end - first).replace(b'\0', b' ').decode('ascii', 'ignore'))
",
    ),
    perhaps(
        "open-memory-of-host",
        "processes",
        Did,
        "open(f'/proc/{os.getppid()}/mem', 'r+b'); won(True)",
    ),
    perhaps(
        "copy-memory-of-process",
        "processes",
        Did,
        r"
class Part(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
for line in open(f'/proc/{PID}/maps'):
    if '[stack]' in line:
        first, end = (int(part, 16) for part in line.split()[0].split('-'))
here = ctypes.create_string_buffer(64)
to = Part(ctypes.addressof(here), 64)
from_ = Part(end - 64, 64)
won(libc.process_vm_readv(PID, ctypes.byref(to), 1, ctypes.byref(from_), 1, 0) == 64)
",
    ),
    perhaps(
        "trace-process",
        "processes",
        Did,
        r"
won(libc.ptrace(0x4206, PID, 0, 0) == 0)
libc.ptrace(17, PID, 0, 0)
",
    ),
    perhaps(
        "steal-descriptor",
        "processes",
        Knows,
        r"
process = os.pidfd_open(PID)
stolen = libc.syscall(438, process, 0, 0)
print(os.pread(stolen, 99, 0))
",
    ),
    attack(
        "open-descriptor-of-process",
        "processes",
        Knows,
        "print(open(f'/proc/{PID}/fd/0').read())",
    ),
    perhaps(
        "use-inherited-descriptor",
        "files",
        Knows,
        r"
for descriptor in range(3, 256):
    try:
        print(os.pread(descriptor, 99, 0))
    except OSError:
        pass
",
    ),
    attack("terminate", "processes", Killed, "os.kill(PID, 15)"),
    attack("kill", "processes", Killed, "os.kill(PID, 9)"),
    attack("kill-group", "processes", Killed, "os.killpg(PID, 9)"),
    attack(
        "kill-by-descriptor",
        "processes",
        Killed,
        "import signal; signal.pidfd_send_signal(os.pidfd_open(PID), 9)",
    ),
    attack(
        "kill-by-program",
        "processes",
        Killed,
        "subprocess.run(['sh', '-c', f'kill -9 {PID}'])",
    ),
    attack(
        "kill-by-owner-of-file",
        "processes",
        Killed,
        r"
import fcntl, signal
a, b = socket.socketpair()
fcntl.fcntl(a, fcntl.F_SETOWN, PID)
fcntl.fcntl(a, 10, 9)  # F_SETSIG, SIGKILL
fcntl.fcntl(a, fcntl.F_SETFL, fcntl.fcntl(a, fcntl.F_GETFL) | os.O_ASYNC)
b.send(b'x')
",
    ),
    attack(
        "slow-down",
        "processes",
        Did,
        "os.setpriority(os.PRIO_PROCESS, PID, 15); won(True)",
    ),
    attack(
        "limit-process",
        "processes",
        Did,
        "import resource; resource.prlimit(PID, resource.RLIMIT_CORE, (0, 0)); won(True)",
    ),
    attack(
        "pin-process",
        "processes",
        Did,
        "os.sched_setaffinity(PID, os.sched_getaffinity(PID)); won(True)",
    ),
    by_root(
        "enter-namespaces",
        "kernel",
        Did,
        "won(libc.setns(os.pidfd_open(PID), 0x04000000) == 0)",
    ),
    perhaps(
        "attach-shared-memory",
        "processes",
        Knows,
        r"
libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(libc.shmget(KEY, 0, 0), None, 0)
print(ctypes.string_at(at))
",
    ),
    // The network.
    attack(
        "connect-to-loopback",
        "network",
        Knows,
        "print(socket.create_connection(('127.0.0.1', TCP), timeout=5).recv(99))",
    ),
    attack(
        "connect-by-program",
        "network",
        Knows,
        "subprocess.run(['bash', '-c', f'cat </dev/tcp/127.0.0.1/{TCP}'])",
    ),
    attack(
        "connect-in-disguise",
        "network",
        Knows,
        r"
module = __import__('soc' + 'ket')
print(module.create_connection(('127.' + '0.0.1', TCP), timeout=5).recv(99))
",
    ),
    attack(
        "ask-by-datagram",
        "network",
        Knows,
        r"
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(5)
peer.sendto(b'?', ('127.0.0.1', UDP))
print(peer.recv(99))
",
    ),
    attack(
        "connect-to-abstract-socket",
        "network",
        Knows,
        r"
peer = socket.socket(socket.AF_UNIX)
peer.connect('\0' + ID)
print(peer.recv(99))
",
    ),
    attack(
        "connect-to-local-service",
        "files",
        Knows,
        r"
peer = socket.socket(socket.AF_UNIX)
peer.connect(V + '/service')
print(peer.recv(99))
",
    ),
    attack(
        "connect-to-local-service-by-link",
        "files",
        Knows,
        r"
os.symlink(V + '/service', 'service')
peer = socket.socket(socket.AF_UNIX)
peer.connect('service')
print(peer.recv(99))
",
    ),
    perhaps(
        "listen-to-kernel-events",
        "network",
        Did,
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15); won(True)",
    ),
    perhaps(
        "open-netfilter",
        "network",
        Did,
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12); won(True)",
    ),
    by_root(
        "capture-packets",
        "network",
        Did,
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3); won(True)",
    ),
    by_root(
        "forge-packets",
        "network",
        Did,
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); won(True)",
    ),
    perhaps(
        "reach-hypervisor",
        "network",
        Did,
        "socket.socket(40, socket.SOCK_STREAM); won(True)",
    ),
    perhaps(
        "use-kernel-crypto",
        "network",
        Did,
        "socket.socket(38, 5); won(True)",
    ),
    // The kernel.
    perhaps(
        "set-up-io-uring",
        "kernel",
        Did,
        "won(libc.syscall(425, 8, ctypes.create_string_buffer(120)) >= 0)",
    ),
    by_root(
        "load-bpf",
        "kernel",
        Did,
        "won(libc.syscall(321, 0, (ctypes.c_uint * 32)(2, 4, 4, 1), 128) >= 0)",
    ),
    by_root(
        "watch-events",
        "kernel",
        Did,
        r"
attributes = (ctypes.c_uint * 32)(1, 128)
won(libc.syscall(298, attributes, 0, -1, -1, 0) >= 0)
",
    ),
    by_root(
        "handle-page-faults",
        "kernel",
        Did,
        "won(libc.syscall(323, 0) >= 0)",
    ),
    perhaps(
        "keep-a-key",
        "kernel",
        Did,
        "won(libc.syscall(248, b'user', b'attack', b'x', 1, -1) >= 0)",
    ),
    by_root(
        "read-kernel-log",
        "kernel",
        Did,
        "won(libc.klogctl(3, ctypes.create_string_buffer(4096), 4096) >= 0)",
    ),
    perhaps(
        "make-user-namespace",
        "kernel",
        Did,
        "won(libc.unshare(0x10000000) == 0)",
    ),
    perhaps(
        "clone-user-namespace",
        "kernel",
        Did,
        r"
child = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
if child == 0:
    os._exit(0)
won(child > 0)
",
    ),
    perhaps(
        "clone-user-namespace-anew",
        "kernel",
        Did,
        r"
arguments = (ctypes.c_ulonglong * 11)(0x10000000, 0, 0, 0, 17)
child = libc.syscall(435, arguments, 88)
if child == 0:
    os._exit(0)
won(child > 0)
",
    ),
    by_root(
        "make-mount-namespace",
        "kernel",
        Did,
        "won(libc.unshare(0x00020000) == 0)",
    ),
    by_root(
        "set-clock",
        "kernel",
        Did,
        r"
import time
time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
won(True)
",
    ),
    by_root(
        "set-host-name",
        "kernel",
        Did,
        "name = socket.gethostname(); socket.sethostname(name); won(True)",
    ),
    by_root("read-ports", "kernel", Did, "won(libc.iopl(3) == 0)"),
    by_root(
        "make-group-of-processes",
        "files",
        Did,
        r"
import glob
for top in glob.glob('/sys/fs/cgroup/*/') + ['/sys/fs/cgroup/']:
    try:
        os.mkdir(top + 'attack')
    except OSError:
        continue
    os.rmdir(top + 'attack')
    won(True)
    break
",
    ),
];
