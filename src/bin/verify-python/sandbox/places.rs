//! Where sessions are put: file systems that are the host's but for a `/tmp` and a `/dev/shm`, and of its scratch
//! directories show one.
//!
//! To make one costs a session more than all other protections together. So the host keeps it for the next session in
//! the same directory, as long as the one before has left nothing: everything in it that sessions may write to has the
//! mode, the owner and the time of the last change that it was made with. Whoever makes something there, and takes
//! it away again, changes that time.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, unshare_unsafe};
use verify::protocol::SessionSetup;
use verify::scratch;

use super::mounts::{make_mount_point, mount, move_to, path_of};

/// The file systems that this host has made.
#[derive(Debug)]
pub(super) struct Places {
    /// Its own.
    base: File,
    /// The root of each of them.
    root: Identity,
    scratch_root: PathBuf,
    /// What stays in sight where a session gets a directory of its own in place of the machine's, and the links that
    /// lead there.
    shown: Vec<PathBuf>,
    /// By the session's directory.
    known: RefCell<HashMap<PathBuf, Place>>,
}

/// A file system of one session, and of the next ones in the same directory if it leaves nothing behind.
#[derive(Debug)]
struct Place {
    namespace: File,
    directory: Identity,
    /// Whose it is now.
    tenant: u64,
    /// What was made for it and sessions may write to, with what every change shows in.
    made: Vec<(PathBuf, Stamp)>,
}

/// Device and inode.
type Identity = (u64, u64);

/// Besides them mode, user, group, and time of the last change.
type Stamp = (Identity, u32, u32, u32, i64, i64);

/// As many are kept open. More come together where sessions leave something behind.
const MOST_PLACES: usize = 64;

/// As much as `/dev/shm` of a session holds.
const SHARED_MEMORY: &str = "mode=1777,size=1g";

impl Places {
    /// In the file system that this process is in.
    pub(super) fn around_here(scratch_root: &Path, shown: Vec<PathBuf>) -> io::Result<Places> {
        Ok(Places {
            base: File::open("/proc/self/ns/mnt")?,
            root: identity(&fs::symlink_metadata("/")?),
            scratch_root: scratch_root.to_owned(),
            shown,
            known: RefCell::default(),
        })
    }

    /// Moves this process to where a session is to be.
    pub(super) fn enter(&self, setup: &SessionSetup) -> io::Result<()> {
        let directory = &setup.directory;
        let mut places = self.known.borrow_mut();
        let may_hold = |place: &&mut Place| setup.is_first || place.tenant == setup.tenant;
        if let Some(place) = places.get_mut(directory).filter(may_hold)
            && place.directory == identity(&fs::symlink_metadata(directory)?)
        {
            self.move_into(&place.namespace)?;
            if !setup.is_first || place.is_as_made() {
                place.tenant = setup.tenant;
                return Ok(());
            }
            self.move_into(&self.base)?;
        }
        if places.len() == MOST_PLACES {
            places.clear();
        }
        places.insert(directory.to_owned(), self.make(setup)?);
        Ok(())
    }

    /// Moves it back.
    pub(super) fn leave(&self) -> io::Result<()> {
        self.move_into(&self.base)?;
        std::env::set_current_dir(&self.scratch_root)
    }

    /// What the kernel takes for the root of a namespace is nothing to rely on: an error means that it is another.
    fn move_into(&self, namespace: &File) -> io::Result<()> {
        move_to(namespace, LinkNameSpaceType::Mount)?;
        if identity(&fs::symlink_metadata("/")?) != self.root {
            return Err(io::Error::other("the root is not the session's"));
        }
        Ok(())
    }

    /// Moves it to a file system that is new but for what other processes of the same session have done in it.
    fn make(&self, setup: &SessionSetup) -> io::Result<Place> {
        let directory = setup.directory.as_path();
        // SAFETY: the process has one thread; the flag touches neither memory nor descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        let (temporary, memory) = (Path::new("/tmp"), Path::new("/dev/shm"));
        let [in_temporary, in_memory, around] = scratch::COVERS.map(|name| directory.join(name));
        let mut covers = vec![(temporary, in_temporary)];
        if directory.starts_with(memory) {
            covers.push((memory, in_memory));
        } else {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            self.cover(memory, directory, || {
                mount("tmpfs", memory, "tmpfs", flags, SHARED_MEMORY)
            })?;
        }
        let is_around = |place: &Path| self.scratch_root.starts_with(place);
        let is_shown = self.shown.iter().any(|shown| is_around(shown));
        if is_shown || !(is_around(temporary) || is_around(memory)) {
            covers.push((&self.scratch_root, around));
        }
        for (place, by) in &covers {
            if setup.is_first {
                scratch::remove(by)?;
            }
            self.cover(place, directory, || lay(by, place))?;
        }
        let places = [temporary, memory, &self.scratch_root];
        let is_covered = |path: &&Path| places.iter().any(|place| path.starts_with(place));
        let kept = self.kept(directory);
        let around = kept.flat_map(|path| path.ancestors().skip(1));
        let around = around.filter(is_covered);
        let writable: BTreeSet<&Path> = [temporary, memory].into_iter().chain(around).collect();
        let stamped = |path: &Path| Ok((path.to_owned(), stamp(&fs::symlink_metadata(path)?)));
        Ok(Place {
            namespace: File::open("/proc/self/ns/mnt")?,
            directory: identity(&fs::symlink_metadata(directory)?),
            tenant: setup.tenant,
            made: writable
                .into_iter()
                .map(stamped)
                .collect::<io::Result<_>>()?,
        })
    }

    /// Has something laid over `place`, and leaves in it, of all that was there, only what is shown and the session's
    /// own `directory`.
    fn cover(
        &self,
        place: &Path,
        directory: &Path,
        lay: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let kept: Vec<(&Path, Before)> = self
            .kept(directory)
            .filter(|path| path.starts_with(place))
            .map(|path| Ok((path, Before::of(path)?)))
            .collect::<io::Result<_>>()?;
        lay()?;
        for (path, before) in kept {
            before.put_back(path)?;
        }
        Ok(())
    }

    fn kept<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = &'a Path> {
        let shown = self.shown.iter().map(PathBuf::as_path);
        shown.chain([directory]).filter(|path| path.exists())
    }
}

impl Place {
    /// Whether nobody has made, removed or changed anything there. Asked within it.
    fn is_as_made(&self) -> bool {
        self.made.iter().all(|(path, before)| {
            fs::symlink_metadata(path).is_ok_and(|now| stamp(&now) == *before)
        })
    }
}

/// What was at a path before something was laid over it.
enum Before {
    Link(PathBuf),
    Tree(OwnedFd),
}

impl Before {
    fn of(path: &Path) -> io::Result<Before> {
        if path.is_symlink() {
            return Ok(Before::Link(fs::read_link(path)?));
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(CWD, path, flags)?;
        Ok(Before::Tree(tree))
    }

    fn put_back(self, path: &Path) -> io::Result<()> {
        match self {
            Before::Tree(tree) => {
                make_mount_point(&path_of(&tree), path)?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                Ok(rustix::mount::move_mount(tree, "", CWD, path, flags)?)
            }
            // In a directory that was put back it is there already.
            Before::Link(_) if path.is_symlink() => Ok(()),
            Before::Link(target) => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                symlink(target, path)
            }
        }
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn stamp(metadata: &Metadata) -> Stamp {
    (
        identity(metadata),
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

/// Lays a directory over `place`. It is made by the first process of a session. Later ones find it as examples left
/// it, so no link in its place is followed.
fn lay(by: &Path, place: &Path) -> io::Result<()> {
    match fs::create_dir(by) {
        Ok(()) => fs::set_permissions(by, fs::Permissions::from_mode(0o1777))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(by, flags, Mode::empty())?;
    Ok(rustix::mount::mount_bind(path_of(&opened), place)?)
}
