//! The root that the host moves into and sessions inherit: what is on the list, read-only, and nothing else of the
//! machine's files.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::WaitOptions;
use rustix::thread::LinkNameSpaceType;
use verify::protocol::SandboxSetup;

use super::mounts::{make_mount_point, mount, move_to, path_of, set_mount_attributes};
use crate::copy::fork;

/// Devices of the session's `/dev`.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Links of the session's `/dev`.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Builds a root that has only what is on the list, read-only, and the scratch directories; and moves into it.
/// Returns what is shown of the rest of the machine.
pub(super) fn change_root(
    setup: &SandboxSetup,
    scratch_root: &Path,
    first_process: Option<u32>,
) -> io::Result<Vec<PathBuf>> {
    let own = File::open("/proc/self/ns/mnt")?;
    let current_root = open_directory("/")?;
    // Who moves into a namespace comes to its outermost root, which in a `chroot` is not the one that is built in.
    move_to(&own, LinkNameSpaceType::Mount)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    rustix::process::fchdir(&current_root)?;
    rustix::process::chroot(".")?;
    // A directory of ours to build on. It is covered by what is built, and bound without it. An attempt that failed
    // has left it behind.
    let root = scratch_root.join("root");
    fs::create_dir_all(&root)?;
    let no_devices = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &root, "tmpfs", no_devices, "mode=755")?;
    // Before anything is shown, since it may lie in these, or be these.
    let devices = root.join("dev");
    fs::create_dir(&devices)?;
    mount(
        "tmpfs",
        &devices,
        "tmpfs",
        MountFlags::NOSUID,
        "mode=755,size=64k",
    )?;
    for device in DEVICES {
        make_device(&Path::new("/dev").join(device), &devices.join(device))?;
    }
    for (link, target) in DEVICE_LINKS {
        symlink(target, devices.join(link))?;
    }
    fs::create_dir(root.join("run"))?;
    let empty = root.join("run/empty");
    File::create(&empty)?;
    let empty = File::open(empty)?;

    let mut tree = Tree {
        root: &root,
        shown: Vec::new(),
        links: Vec::new(),
        covered: HashSet::new(),
    };
    // `/usr` before `/bin`, which most systems have in it.
    let depth = |path: &&PathBuf| {
        path.canonicalize()
            .map_or(0, |real| real.components().count())
    };
    let mut readable: Vec<&PathBuf> = setup.readable.iter().collect();
    readable.sort_by_key(depth);
    // An environment in a hidden directory is shown in what covers it, and what is hidden in that is covered again.
    for _ in 0..2 {
        for path in &readable {
            tree.show(path)?;
        }
        for path in &setup.hidden {
            tree.hide(path, &path_of(&empty))?;
        }
    }
    for directory in ["tmp", "home", "root", "var", "proc", "dev/shm", "dev/pts"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let scratch = root.join(below_root(scratch_root));
    fs::create_dir_all(&scratch)?;
    let large = root.join("var/tmp");
    if !tree.is_shown(Path::new("/var")) && fs::symlink_metadata(&large).is_err() {
        symlink("/tmp", large)?;
    }
    rustix::mount::mount_bind(scratch_root, &scratch)?;
    // A mount of its own, which stays read-only: all sessions start what stands in for programs there.
    let stand_ins = scratch.join("bin");
    if stand_ins.exists() {
        rustix::mount::mount_bind(&stand_ins, &stand_ins)?;
    }
    if let Some(first_process) = first_process {
        let flags = no_devices | MountFlags::NOEXEC;
        let proc = root.join("proc");
        mount("proc", &proc, "proc", flags, "")?;
        number_processes_from(first_process, &proc)?;
    } else {
        rustix::mount::mount_bind_recursive("/proc", root.join("proc"))?;
    }
    let terminals = root.join("dev/pts");
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(
        "devpts",
        &terminals,
        "devpts",
        flags,
        "newinstance,ptmxmode=0666,mode=620",
    )?;

    let fixed = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID;
    let whole_tree = libc::AT_RECURSIVE.cast_unsigned();
    set_mount_attributes(&root, fixed, 0, whole_tree)?;
    for writable in [&terminals, &scratch] {
        set_mount_attributes(writable, 0, libc::MOUNT_ATTR_RDONLY, 0)?;
    }

    let mut shown = tree.shown;
    shown.push(scratch_root.join("bin"));
    shown.extend(tree.links);
    let inside = open_directory(&root)?;
    // So that nothing stays around the new root.
    move_to(&own, LinkNameSpaceType::Mount)?;
    rustix::process::fchdir(&inside)?;
    // The old root comes to lie over the new one, and is taken off.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir(scratch_root)?;
    Ok(shown)
}

fn open_directory(path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Makes the same device in another place, or, where only the machine's root may make devices, shows it there.
fn make_device(device: &Path, place: &Path) -> io::Result<()> {
    let number = fs::metadata(device)?.rdev();
    let mode = Mode::from_raw_mode(0o666);
    let kind = rustix::fs::FileType::CharacterDevice;
    match rustix::fs::mknodat(rustix::fs::CWD, place, kind, mode, number) {
        // The creation mask applies.
        Ok(()) => fs::set_permissions(place, fs::Permissions::from_mode(0o666)),
        Err(_) => {
            make_mount_point(device, place)?;
            Ok(rustix::mount::mount_bind(device, place)?)
        }
    }
}

/// Process ids go on from here. Each run's would else be the same, and an output with one of them in it
/// would look as if it could be recorded.
fn number_processes_from(first: u32, proc: &Path) -> io::Result<()> {
    const FEW: u32 = 100;
    if fs::write(proc.join("sys/kernel/ns_last_pid"), first.to_string()).is_ok() {
        return Ok(());
    }
    // The kernel cannot be told: use some up.
    for _ in 0..first % FEW {
        match fork()? {
            // SAFETY: ends a process that has nothing to finish.
            None => unsafe { libc::_exit(0) },
            child => rustix::process::waitpid(child, WaitOptions::empty())?,
        };
    }
    Ok(())
}

/// A root while it is built.
struct Tree<'a> {
    root: &'a Path,
    /// Real paths of what is bound.
    shown: Vec<PathBuf>,
    /// Links that were made to lead to these.
    links: Vec<PathBuf>,
    /// Directories and files in what is bound that something lies over.
    covered: HashSet<PathBuf>,
}

impl Tree<'_> {
    /// Makes a path lead where it leads outside, by all the links on its way.
    fn show(&mut self, path: &Path) -> io::Result<()> {
        const MOST_LINKS: usize = 40;
        let mut real = PathBuf::from("/");
        let mut rest: Vec<PathBuf> = components(path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let next = match name.components().next() {
                Some(Component::RootDir) => PathBuf::from("/"),
                Some(Component::ParentDir) => real.parent().unwrap_or(&real).to_owned(),
                _ => real.join(&name),
            };
            match fs::read_link(&next) {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    // In what is shown it is there already.
                    if !self.is_shown(&next) {
                        let link = self.root.join(below_root(&next));
                        fs::create_dir_all(link.parent().unwrap_or(self.root))?;
                        if fs::symlink_metadata(&link).is_err() {
                            symlink(&target, link)?;
                            self.links.push(next);
                        }
                    }
                    rest.extend(components(&target));
                }
                _ => real = next,
            }
        }
        if real == Path::new("/") || self.is_shown(&real) || !real.exists() {
            return Ok(());
        }
        let place = self.root.join(below_root(&real));
        make_mount_point(&real, &place)?;
        rustix::mount::mount_bind_recursive(&real, &place)?;
        self.shown.push(real);
        Ok(())
    }

    fn is_shown(&self, path: &Path) -> bool {
        let depth = |place: &Path| place.components().count();
        let shown = self.shown.iter().filter(|place| path.starts_with(place));
        // Of these there can be thousands.
        let covered = path.ancestors().find(|place| self.covered.contains(*place));
        shown.map(|place| depth(place)).max() > covered.map(depth)
    }

    /// Covers what is shown already.
    fn hide(&mut self, path: &Path, empty: &Path) -> io::Result<()> {
        // A link hides nothing: where it leads, it finds what is shown.
        if path.is_symlink() {
            return Ok(());
        }
        // What an editor had beside a file can be gone by now.
        let Ok(real) = path.canonicalize() else {
            return Ok(());
        };
        if !self.is_shown(&real) {
            return Ok(());
        }
        let place = self.root.join(below_root(&real));
        if real.is_dir() {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount("tmpfs", &place, "tmpfs", flags, "mode=755,size=64k")?;
        } else {
            rustix::mount::mount_bind(empty, &place)?;
        }
        self.covered.insert(real);
        Ok(())
    }
}

/// The parts of a path, last first.
fn components(path: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = path
        .components()
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect();
    parts.reverse();
    parts
}

fn below_root(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}
