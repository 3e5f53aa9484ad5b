//! The seccomp layer, and the capabilities: what of the kernel a session may ask for at all.
//!
//! Examples use nearly everything that the kernel has for ordinary programs, so the filters name what is
//! denied: what only administrators need, what leads round the other layers, and what attacks on kernels
//! have started from. A denied call fails with `EPERM`, as it does for users who lack a right.

use std::collections::BTreeMap;
use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

/// Denied in sessions whatever the arguments. The host needs them to make sessions.
const DENIED_IN_SESSIONS: &[libc::c_long] = &[
    // Mounting, and entering or making other namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// Denied whatever the arguments.
const DENIED: &[libc::c_long] = &[
    // Files by handle, past every path.
    libc::SYS_open_by_handle_at,
    // Keys of the user.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Programs in the kernel, its memory and its events.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    // The machine as a whole.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_nfsservctl,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_vhangup,
    // Other processes' memory and descriptors: see `TRACING`.
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

/// Denied where no Landlock domain keeps them to the session's own processes.
const TRACING: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
];

/// Denied as if the kernel did not have them, so that programs take their other way: glibc starts threads
/// by `clone`, whose flags a filter can read.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Kinds of socket that sessions may have. A network namespace does not hold all others: some lead to the
/// machine below (`AF_VSOCK`) or into rarely used parts of the kernel.
const SOCKETS: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// New namespaces by `clone`.
const NEW_NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// What sessions are denied beyond what the host is. Made once, installed by each session: the kernel translates a
/// filter, and tries it with every call that it has, when it is installed, so a session's own is short.
pub(super) struct Filter(BpfProgram);

impl Filter {
    /// Denies the host, and with it all that it forks, what neither needs.
    pub(super) fn confine_host(tracing_is_kept_in: bool) -> Result<Filter, seccompiler::Error> {
        for program in [
            compile(denied_to_all(tracing_is_kept_in)?, libc::EPERM)?,
            compile(always(ABSENT), libc::ENOSYS)?,
        ] {
            seccompiler::apply_filter(&program)?;
        }
        Ok(Filter(session_program(DENIED_IN_SESSIONS)))
    }

    /// Installs it for this process and all that it starts, for good.
    pub(super) fn install(&self) -> Result<(), seccompiler::Error> {
        seccompiler::apply_filter(&self.0)
    }
}

/// Rules by the number of the call; a call without a rule on its arguments is always denied.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn always(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|&call| (call, Vec::new())).collect()
}

fn denied_to_all(tracing_is_kept_in: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut denied = always(DENIED);
    denied.extend(always(DENIED_HERE));
    if !tracing_is_kept_in {
        denied.extend(always(TRACING));
    }
    let mut other_kinds = Vec::new();
    for kind in SOCKETS.iter().chain([&libc::AF_NETLINK]) {
        other_kinds.push(argument(0, Compare::Ne, number(*kind))?);
    }
    // Of netlink, what `getaddrinfo` and `if_nameindex` ask the kernel about addresses.
    let other_netlink = vec![
        argument(0, Compare::Eq, number(libc::AF_NETLINK))?,
        argument(2, Compare::Ne, number(libc::NETLINK_ROUTE))?,
    ];
    denied.insert(
        libc::SYS_socket,
        vec![
            SeccompRule::new(other_kinds)?,
            SeccompRule::new(other_netlink)?,
        ],
    );
    // Characters into a terminal, as if somebody had typed them.
    let typing = argument(1, Compare::Eq, libc::TIOCSTI)?;
    let console = argument(1, Compare::Eq, number(TIOCLINUX))?;
    denied.insert(
        libc::SYS_ioctl,
        vec![
            SeccompRule::new(vec![typing])?,
            SeccompRule::new(vec![console])?,
        ],
    );
    Ok(denied)
}

/// `ioctl` that drives the kernel's own text console.
const TIOCLINUX: libc::c_int = 0x541c;

fn number(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

fn argument(
    index: u8,
    compare: Compare,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, Length::Dword, compare, value)
}

fn compile(rules: Rules, error: libc::c_int) -> Result<BpfProgram, seccompiler::Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let deny = SeccompAction::Errno(error.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, deny, architecture)?;
    let mut program = FOREIGN_NUMBERS.to_vec();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

// Instructions of classic BPF, from `linux/bpf_common.h`, and what a filter answers, from `linux/seccomp.h`.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_IF_ANY: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
const DENY: u32 = 0x0005_0000 | libc::EPERM.cast_unsigned(); // SECCOMP_RET_ERRNO
/// Of `struct seccomp_data`: the call's number, and the lower half of its first argument where bytes are in this order.
const OFFSET_OF_NUMBER: u32 = 0;
const OFFSET_OF_FIRST_ARGUMENT: u32 = 16;
/// Where the numbers of the x32 calls begin.
#[cfg(target_arch = "x86_64")]
const FOREIGN: u32 = 0x4000_0000;

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Denies these calls, and new namespaces by `clone`. `seccompiler` makes five times as many instructions of it, which
/// compare with each number in turn. What an architecture that is not ours means by a number is asked by the host's
/// filters, which hold as well.
fn session_program(denied: &[libc::c_long]) -> BpfProgram {
    let number = |call: libc::c_long| u32::try_from(call).expect("numbers of calls are small");
    let clone = number(libc::SYS_clone);
    let mut ruled: Vec<u32> = denied.iter().map(|&call| number(call)).collect();
    ruled.push(clone);
    ruled.sort_unstable();
    let runs: Vec<&[u32]> = ruled
        .chunk_by(|&one, &next| one + 1 == next && one != clone && next != clone)
        .collect();
    // Two comparisons for each run, then what they jump to.
    let look_at_flags = 1 + 2 * runs.len();
    let (deny, allow) = (look_at_flags + 2, look_at_flags + 3);
    let mut program = vec![instruction(LOAD, 0, 0, OFFSET_OF_NUMBER)];
    for run in &runs {
        let (first, last) = (run[0], run[run.len() - 1]);
        let target = if first == clone { look_at_flags } else { deny };
        let is_behind_all = last == ruled[ruled.len() - 1];
        let to = |target: usize, from: usize| u8::try_from(target - from - 1).expect("it is short");
        let at = program.len();
        program.push(instruction(JUMP_IF_AT_LEAST, 0, to(allow, at), first));
        let behind = if is_behind_all { to(allow, at + 1) } else { 0 };
        let inside = to(target, at + 1);
        program.push(instruction(JUMP_IF_AT_LEAST, behind, inside, last + 1));
    }
    let namespaces = NEW_NAMESPACES.cast_unsigned();
    program.extend([
        instruction(LOAD, 0, 0, OFFSET_OF_FIRST_ARGUMENT),
        instruction(JUMP_IF_ANY, 0, 1, namespaces),
        instruction(RETURN, 0, 0, DENY),
        instruction(RETURN, 0, 0, ALLOW),
    ]);
    program
}

/// Denies the x32 numbers of system calls, by which each could be called past a rule on its own number.
#[cfg(target_arch = "x86_64")]
const FOREIGN_NUMBERS: &[sock_filter] = {
    const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned(); // SECCOMP_RET_ERRNO
    &[
        instruction(LOAD, 0, 0, OFFSET_OF_NUMBER),
        instruction(JUMP_IF_AT_LEAST, 0, 1, FOREIGN),
        instruction(RETURN, 0, 0, ENOSYS),
    ]
};
#[cfg(not(target_arch = "x86_64"))]
const FOREIGN_NUMBERS: &[sock_filter] = &[];

/// What root keeps: changing owners and users, low ports. Ordinary users have none, and keep none of those
/// that came with a namespace of their own, so that a file without permission is still one.
fn kept() -> CapabilitySet {
    if !rustix::process::geteuid().is_root() {
        return CapabilitySet::empty();
    }
    CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::SYS_NICE
        | CapabilitySet::SETFCAP
}

/// Gives back every other capability. `no_new_privs`, which comes after, sees to it that starting a program
/// brings none of them back.
pub(super) fn drop_capabilities() -> io::Result<()> {
    let have = rustix::thread::capabilities(None)?;
    let kept = kept();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: have.effective & kept,
            permitted: have.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, as `seccomp` runs it.
    fn answer(program: &[sock_filter], number: u32, first_argument: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    loaded = match k {
                        OFFSET_OF_NUMBER => number,
                        OFFSET_OF_FIRST_ARGUMENT => first_argument,
                        _ => panic!("nothing else is looked at"),
                    };
                    continue;
                }
                JUMP_IF_AT_LEAST => loaded >= k,
                JUMP_IF_ANY => loaded & k != 0,
                RETURN => return k,
                _ => panic!("no such instruction"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn a_session_is_denied_what_is_listed_and_nothing_else() {
        for denied in [DENIED_IN_SESSIONS, &[1, 2, 3], &[0, libc::SYS_clone + 1]] {
            let program = session_program(denied);
            for number in (0..1000).chain([u32::MAX]) {
                let is_denied = denied.contains(&libc::c_long::from(number));
                let expected = if is_denied { DENY } else { ALLOW };
                assert_eq!(answer(&program, number, 0), expected, "{number}");
            }
            let clone = u32::try_from(libc::SYS_clone).unwrap();
            let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::SIGCHLD;
            for bit in 0..32 {
                let flag = thread | 1 << bit;
                let makes_namespace = NEW_NAMESPACES & flag != 0;
                let expected = if makes_namespace { DENY } else { ALLOW };
                let answered = answer(&program, clone, flag.cast_unsigned());
                assert_eq!(answered, expected, "bit {bit}");
            }
        }
    }
}
