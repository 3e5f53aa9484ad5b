//! What is asked of the kernel to build a file system out of others, and to move into one.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Moves this process into a namespace that somebody else is in.
pub(super) fn move_to(namespace: &File, kind: LinkNameSpaceType) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(kind))?)
}

/// A path to what is open, whatever lies over the one that it was opened by.
pub(super) fn path_of(opened: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd()))
}

/// Makes what a file or directory can be bound to.
pub(super) fn make_mount_point(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        return fs::create_dir_all(to);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if !to.exists() {
        File::create(to)?;
    }
    Ok(())
}

pub(super) fn mount(
    source: &str,
    target: &Path,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> io::Result<()> {
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(
        source,
        target,
        kind,
        flags,
        options.as_c_str(),
    )?)
}

/// `mount_setattr`, which no crate wraps: unlike a remount it needs not know what else a mount is.
pub(super) fn set_mount_attributes(
    path: &Path,
    set: u64,
    clear: u64,
    flags: u32,
) -> io::Result<()> {
    let path = CString::new(OsStr::as_bytes(path.as_os_str()))?;
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: both pointers are valid for the call, and the size is that of the structure.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
