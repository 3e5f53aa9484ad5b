//! Machines that lack something a sandbox is made of.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Takes a system call from a program and all that it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lacking {
    call: i64,
    /// What it fails with.
    error: i32,
}

/// As in containers, and where only administrators may make namespaces.
pub(crate) const NAMESPACES: Lacking = Lacking {
    call: libc::SYS_unshare,
    error: libc::EPERM,
};

/// As in kernels that are old or were built without it.
pub(crate) const LANDLOCK: Lacking = Lacking {
    call: libc::SYS_landlock_create_ruleset,
    error: libc::ENOSYS,
};

impl Lacking {
    #[allow(unsafe_code, reason = "what runs between fork and exec")]
    pub(crate) fn on(self, command: &mut Command) {
        let rules = BTreeMap::from([(self.call, Vec::new())]);
        let refuse = SeccompAction::Errno(self.error.cast_unsigned());
        let architecture = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap();
        let program = BpfProgram::try_from(filter).unwrap();
        // SAFETY: two system calls on memory that is there already.
        unsafe {
            command.pre_exec(move || {
                rustix::thread::set_no_new_privs(true)?;
                seccompiler::apply_filter(&program).map_err(std::io::Error::other)
            });
        }
    }
}
