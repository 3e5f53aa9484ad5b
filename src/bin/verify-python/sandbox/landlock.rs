//! The Landlock layer: needs no rights, holds for a process and all that it starts, and cannot be undone.
//!
//! Each session has a domain of its own, so that sessions of one user are strangers to each other: they can
//! neither read each other's files nor trace nor signal each other.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};
use verify::protocol::SandboxSetup;

/// The newest version whose rights are known here to be right for a session; an older kernel enforces
/// what it knows of them.
const KNOWN: ABI = ABI::V9;

/// Devices that hold nothing of anybody.
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
];

/// Terminals. They are the session's own only where `/dev` is.
const TERMINALS: &str = "/dev/pts";

/// What is the same for all sessions, opened once.
pub(super) struct Rules {
    readable: Vec<PathFd>,
    devices: Vec<PathFd>,
    /// The root, where all that is below it may be seen, if not read.
    listable: Option<PathFd>,
}

/// The kernel's Landlock version; 0 if it has none, or has it switched off.
pub(super) fn version() -> i32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: asks for a number; nothing is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    i32::try_from(answer).unwrap_or(0).max(0)
}

impl Rules {
    /// `None` if the kernel has no Landlock. `own_root`: the file system is cut down to the list already,
    /// so that its hidden parts need not be spelled out by naming all that lies around them.
    pub(super) fn new(setup: &SandboxSetup, scratch_root: &Path, own_root: bool) -> Option<Rules> {
        if version() == 0 {
            return None;
        }
        let mut readable: Vec<PathBuf> = if own_root {
            setup.readable.clone()
        } else {
            // What is hidden is named by where it is, whatever links lead there.
            let real = |path: &PathBuf| path.canonicalize().ok();
            let around = |path: PathBuf| without(&path, &setup.hidden);
            let readable = setup.readable.iter().filter_map(real);
            readable.flat_map(around).collect()
        };
        readable.push(PathBuf::from("/proc"));
        readable.push(scratch_root.join("bin"));
        let open = |paths: &mut dyn Iterator<Item = PathBuf>| {
            // What is not there needs no rule.
            paths.filter_map(|path| PathFd::new(path).ok()).collect()
        };
        let devices = DEVICES.iter().map(PathBuf::from);
        let terminals = own_root.then(|| PathBuf::from(TERMINALS));
        Some(Rules {
            readable: open(&mut readable.into_iter()),
            devices: open(&mut devices.chain(terminals)),
            listable: own_root.then(|| PathFd::new("/").ok()).flatten(),
        })
    }

    /// Restricts this process: it reads the list and `directory`, and writes below `writable`.
    pub(super) fn restrict(
        &self,
        directory: &Path,
        writable: &[&Path],
    ) -> Result<(), RulesetError> {
        let read = AccessFs::from_read(KNOWN);
        // A device file would be a way round every other rule.
        let write = AccessFs::from_all(KNOWN) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
        let device: BitFlags<AccessFs> = AccessFs::ReadFile
            | AccessFs::WriteFile
            | AccessFs::ReadDir
            | AccessFs::Truncate
            | AccessFs::IoctlDev;
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?;
        for path in &self.readable {
            ruleset = ruleset.add_rule(PathBeneath::new(path, read))?;
        }
        for path in &self.devices {
            ruleset = ruleset.add_rule(PathBeneath::new(path, device))?;
        }
        if let Some(path) = &self.listable {
            ruleset = ruleset.add_rule(PathBeneath::new(path, AccessFs::ReadDir))?;
        }
        if let Ok(path) = PathFd::new(directory) {
            // A script may remove the directory that it runs in.
            let rights = read | AccessFs::RemoveDir;
            ruleset = ruleset.add_rule(PathBeneath::new(path, rights))?;
        }
        for path in writable {
            if let Ok(path) = PathFd::new(path) {
                ruleset = ruleset.add_rule(PathBeneath::new(path, write))?;
            }
        }
        // An example that is denied something says so itself; the machine's audit log need not.
        ruleset.log_same_exec(false)?.restrict_self()?;
        Ok(())
    }
}

/// The parts of `path` that leave out what is hidden below it: itself, if nothing is. What is on the list is not
/// hidden, wherever it lies.
fn without(path: &Path, hidden: &[PathBuf]) -> Vec<PathBuf> {
    if !hidden
        .iter()
        .any(|hidden| hidden != path && hidden.starts_with(path))
    {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        // A link is opened as what it leads to, which is on the list itself or not to be read.
        .filter(|entry| !hidden.contains(entry) && !entry.is_symlink())
        .flat_map(|entry| without(&entry, hidden))
        .collect()
}
