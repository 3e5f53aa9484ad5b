//! What sessions may see of the machine: worked out here, from the book and its Python, and enforced by the host.
//!
//! The list names what may be read. Nothing is on it because it might be useful: a file that is not needed
//! to run Python, the book's packages or ordinary programs stays out, and with it whoever's it is.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use percent_encoding::percent_decode_str;

use crate::config::Config;
use crate::interpreter::Interpreter;
use crate::protocol::SandboxSetup;

/// Programs, libraries and what the kernel says of the machine. `/etc` is on it without what only some
/// users of the machine may read.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/nix/store",
    "/gnu/store",
    "/sys/devices/system",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Where the kernel says how much time and memory a group of processes gets; one mount for all of that, or one for each
/// kind. Other kinds are left out: every file system for sessions copies all mounts, and nobody asks for them.
const GROUPS: &str = "/sys/fs/cgroup";
const KINDS: &[&str] = &["cpu", "memory", "unified"];

/// What a Python's prefix holds that belongs to Python. A prefix can be a home directory.
const OF_A_PREFIX: &[&str] = &[
    "bin",
    "lib",
    "lib64",
    "include",
    "share",
    "etc",
    "ssl",
    "libexec",
    "pyvenv.cfg",
];

/// Variables by which Python takes up code from elsewhere as it starts, before anything is shut in.
const START_CODE: &[&str] = &[
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONUSERBASE",
];

/// Files of the kernel's settings that forbid user namespaces at a value, and what to do about that.
pub const SETTINGS: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps user namespaces from ordinary programs: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are switched off for ordinary users: `sudo sysctl kernel.unprivileged_userns_clone=1`",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are switched off: `sudo sysctl user.max_user_namespaces=10000`",
    ),
];

/// What of the kernel and of this process, apart from those settings, decides how far sessions are shut in.
const DECIDES: &[&str] = &[
    "/proc/sys/kernel/osrelease",
    "/sys/kernel/security/lsm",
    "/proc/self/attr/current",
];

/// The lines of `/proc/self/status` that do so.
const RIGHTS: &[&str] = &["Cap", "NoNewPrivs", "Seccomp", "Uid"];

/// What decides how far sessions are shut in on this machine, as it can be told without starting one. A
/// machine that says the same offers the same, unless filters or modules of the kernel were changed for
/// others of the same name and number.
pub fn machine() -> Vec<String> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let settings = SETTINGS.iter().map(|(file, ..)| file);
    let mut told: Vec<String> = DECIDES
        .iter()
        .chain(settings)
        .map(|file| read(file))
        .collect();
    let is_told = |line: &&str| RIGHTS.iter().any(|name| line.starts_with(name));
    let status = read("/proc/self/status");
    told.extend(status.lines().filter(is_told).map(str::to_owned));
    // Where parts of `/proc` are covered, as in containers, processes get none of their own.
    let mounts = read("/proc/self/mountinfo");
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    told.extend(
        places
            .filter(|place| place.starts_with("/proc"))
            .map(str::to_owned),
    );
    told
}

/// What sessions of this book may read under this interpreter. `more` comes from the command line and may
/// be anywhere; what `verify.toml` adds comes with the book, so it has to lie in it.
pub fn setup(config: &Config, interpreter: &Interpreter, more: &[PathBuf]) -> Result<SandboxSetup> {
    if let Some(name) = config
        .environment
        .keys()
        .find(|name| START_CODE.contains(&name.as_str()))
    {
        bail!(
            "`environment` in `verify.toml` sets `{name}`, by which the book's code would run before it is shut in; install that code as a package, or pass `--sandbox=off`"
        );
    }
    let mut readable = BTreeSet::new();
    readable.extend(SYSTEM.iter().map(PathBuf::from));
    readable.extend(of_groups(Path::new(GROUPS)));
    readable.extend(of_python(interpreter));
    readable.extend(unpacked(&interpreter.packages));
    let real = readable.iter().filter_map(|path| path.canonicalize().ok());
    let whole: HashSet<PathBuf> = real.collect();
    let mut sources = BTreeSet::new();
    let mut named = elsewhere(interpreter, &whole);
    named.extend(in_book(config)?);
    for path in named {
        // What is private is told by where it lies; but what a link leads to has to be found by the link. The whole
        // machine is no source.
        if let Ok(real) = path.canonicalize()
            && real.parent().is_some()
        {
            sources.insert(real);
            readable.insert(path);
        }
    }
    let mut hidden = unreadable_to_others(Path::new("/etc"));
    hidden.extend(private_parts(&sources, &whole, recordings(config)));
    readable.extend(sources);
    for path in more {
        let Ok(path) = path.canonicalize() else {
            bail!("`--readable {}` does not exist", path.display());
        };
        readable.insert(path);
    }
    readable.retain(|path| path.exists());
    Ok(SandboxSetup {
        readable: readable.into_iter().collect(),
        hidden,
    })
}

/// What of the settings decides what sessions may read, as it can be told without looking through the machine: places
/// of the book, where its recordings are, and `more`. A place in the project goes by where it lies in it, so that all
/// this is the same wherever the project lies. `None` is a mistake, with which nothing runs.
pub fn asked_for(
    config: &Config,
    more: &[PathBuf],
) -> Option<(Vec<PathBuf>, Option<PathBuf>, Vec<PathBuf>)> {
    let place = |path: PathBuf| {
        path.strip_prefix(&config.root)
            .map_or(path.clone(), Path::to_owned)
    };
    let more = more.iter().map(|path| path.canonicalize().map(place));
    Some((
        in_book(config).ok()?.into_iter().map(place).collect(),
        recordings(config).map(place),
        more.collect::<Result<_, _>>().ok()?,
    ))
}

fn of_groups(directory: &Path) -> Vec<PathBuf> {
    if directory.join("cgroup.controllers").exists() {
        return vec![directory.to_owned()];
    }
    KINDS.iter().map(|kind| directory.join(kind)).collect()
}

fn of_python(interpreter: &Interpreter) -> Vec<PathBuf> {
    // What Python says of its base is a guess up to 3.10, so the files themselves are asked as well.
    let real = interpreter.executable.canonicalize();
    let programs = [Some(&interpreter.base_executable), real.as_ref().ok()];
    let prefixes = programs
        .into_iter()
        .chain([Some(&interpreter.libpython)])
        .flatten()
        .filter_map(|file| file.parent()?.parent())
        .chain([interpreter.prefix.as_path()]);
    let mut paths: Vec<PathBuf> = prefixes.flat_map(of_prefix).collect();
    paths.push(interpreter.executable.clone());
    paths.push(interpreter.base_executable.clone());
    paths.push(interpreter.libpython.clone());
    paths.extend(interpreter.packages.iter().cloned());
    paths
}

/// What belongs to Python, as a whole where there is nothing else.
fn of_prefix(prefix: &Path) -> Vec<PathBuf> {
    let is_known = |entry: fs::DirEntry| OF_A_PREFIX.iter().any(|part| entry.file_name() == *part);
    let has_others = fs::read_dir(prefix).map_or(true, |mut entries| {
        entries.any(|entry| !entry.is_ok_and(is_known))
    });
    if has_others {
        OF_A_PREFIX.iter().map(|part| prefix.join(part)).collect()
    } else {
        vec![prefix.to_owned()]
    }
}

/// Where the files of packages lie that an installer only linked, as uv does if told to: each in a directory of its
/// cache that has all of one package and nothing else.
fn unpacked(packages: &[PathBuf]) -> Vec<PathBuf> {
    let directory = |about: PathBuf| {
        let linked = about.join(fs::read_link(about.join("METADATA")).ok()?);
        let theirs = linked.parent()?;
        let is_same = theirs.file_name() == about.file_name();
        theirs.parent().filter(|_| is_same).map(Path::to_owned)
    };
    about_packages(packages).filter_map(directory).collect()
}

/// What is imported from outside of the directories of packages: what path files put on `sys.path`, and packages that
/// were installed to be edited in place, or are linked to for that.
fn elsewhere(interpreter: &Interpreter, whole: &HashSet<PathBuf>) -> Vec<PathBuf> {
    let is_known = |path: &PathBuf| {
        let mut known = interpreter.known_directories();
        known.any(|known| path.starts_with(known))
    };
    let mut paths = interpreter.path.clone();
    paths.retain(|path| !is_known(path));
    let origins = about_packages(&interpreter.packages)
        .filter_map(|about| fs::read(about.join("direct_url.json")).ok());
    paths.extend(origins.filter_map(|origin| editable(&origin)));
    paths.extend(linked(&interpreter.packages, whole));
    paths
}

/// Links where packages are that lead to what is not readable as a `whole` anyway.
fn linked<'a>(
    packages: &'a [PathBuf],
    whole: &'a HashSet<PathBuf>,
) -> impl Iterator<Item = PathBuf> + 'a {
    let is_whole = |link: &PathBuf| {
        let real = link.canonicalize().unwrap_or_default();
        real.ancestors().any(|above| whole.contains(above))
    };
    let links = entries(packages)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .map(|entry| entry.path());
    links.filter(move |link| !is_whole(link))
}

/// What installers say of each package.
fn about_packages(directories: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    let paths = entries(directories).map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "dist-info"))
}

fn entries(directories: &[PathBuf]) -> impl Iterator<Item = fs::DirEntry> {
    let entries = directories.iter().flat_map(fs::read_dir);
    entries.flatten().flatten()
}

/// The directory in a `direct_url.json` (PEP 610) that says its package is edited in place.
fn editable(origin: &[u8]) -> Option<PathBuf> {
    let origin: serde_json::Value = serde_json::from_slice(origin).ok()?;
    let is_editable = origin["dir_info"]["editable"].as_bool()?;
    let path = origin["url"].as_str()?.strip_prefix("file://")?;
    let path = percent_decode_str(path).collect();
    is_editable.then(|| PathBuf::from(OsString::from_vec(path)))
}

/// The directories of pages, and what `readable` names. All of it lies below `verify.toml`, which comes with
/// a stranger's pull request like the pages; and a directory that holds somebody's home is no book. Pages that are
/// hidden or lie among the recordings are checked, and make nothing readable.
fn in_book(config: &Config) -> Result<Vec<PathBuf>> {
    if !config.is_project {
        return Ok(Vec::new());
    }
    let root = &config.root;
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    let is_outside_or_hidden = |path: &Path| {
        let below = path.strip_prefix(root).unwrap_or(Path::new(".."));
        below.iter().any(is_hidden)
    };
    let recordings = recordings(config);
    let is_recorded = |path: &Path| recordings.as_ref().is_some_and(|all| path.starts_with(all));
    let mut paths: Vec<PathBuf> = config
        .pages
        .iter()
        .filter_map(|pages| root.join(pages).canonicalize().ok())
        .filter(|path| !is_outside_or_hidden(path) && !is_recorded(path))
        .filter(|path| !home.as_ref().is_some_and(|home| home.starts_with(path)))
        .collect();
    for name in &config.readable {
        let shown = name.display();
        let Ok(path) = root.join(name).canonicalize() else {
            bail!("`readable` names `{shown}`, which does not exist");
        };
        if is_outside_or_hidden(&path) || path == *root {
            bail!(
                "`readable` names `{shown}`, which is hidden or not below `verify.toml`; only you can allow that, with `--readable`"
            );
        }
        if is_recorded(&path) {
            bail!(
                "`readable` names `{shown}`, where the recordings are: an example could look up what is expected of it; only you can allow that, with `--readable`"
            );
        }
        paths.push(path);
    }
    Ok(paths)
}

/// Where recordings lie, if there are any yet.
fn recordings(config: &Config) -> Option<PathBuf> {
    config.root.join(&config.expected).canonicalize().ok()
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// What stays out of directories of the book and of packages that are edited in place, however deep it lies: whatever
/// begins with a dot, such as `.git` and `.env`; the recordings, so that no example can look up what is expected of
/// it; and what `npm` installed, which has more names with a dot than anybody could cover one by one. What is
/// readable as a `whole` is Python's.
///
/// This is looked through for every host, so it goes by what directories say of their entries, and asks no file.
fn private_parts(
    sources: &BTreeSet<PathBuf>,
    whole: &HashSet<PathBuf>,
    recordings: Option<PathBuf>,
) -> Vec<PathBuf> {
    let mut private = Vec::new();
    let mut unseen = sources.clone();
    while let Some(source) = unseen.pop_first() {
        let mut directories = vec![source];
        while let Some(directory) = directories.pop() {
            unseen.remove(&directory);
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if is_hidden(&name) || name == "node_modules" {
                    private.push(entry.path());
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = entry.path();
                    if !whole.contains(&path) && recordings.as_ref() != Some(&path) {
                        directories.push(path);
                    }
                }
            }
        }
    }
    private.retain(|path| !sources.contains(path));
    let lies_in = |path: &PathBuf| sources.iter().any(|source| path.starts_with(source));
    private.extend(recordings.filter(lies_in));
    private
}

/// Files and directories below this one that not everybody may read: keys, password hashes, tokens. As an
/// ordinary user one cannot read them anyway; as root one can.
fn unreadable_to_others(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        // Most of `/etc` are links, and what the directory says of an entry costs nothing.
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let needed = if metadata.is_dir() { 0o005 } else { 0o004 };
        if metadata.permissions().mode() & needed != needed {
            found.push(entry.path());
        } else if metadata.is_dir() {
            found.extend(unreadable_to_others(&entry.path()));
        }
    }
    found
}

/// Words of examples that serve or call something on the network. A session that has one gets a loopback of
/// its own, which costs the kernel more than all other protections together; the others share one,
/// cut off just the same.
const NETWORK: &[&str] = &[
    "socket",
    "server",
    "listen",
    "localhost",
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "flask",
    "uvicorn",
    "redis",
    "managers",
];

/// Whether an example looks as if it used the network.
pub fn uses_network(source: &str) -> bool {
    NETWORK.iter().any(|word| source.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::Source;

    #[test]
    fn what_only_some_may_read_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str, mode| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        at("passwd", 0o644);
        let shadow = at("shadow", 0o640);
        let key = at("ssh/host_key", 0o600);
        at("ssh/config", 0o644);
        let private = at("ssl/private/key", 0o644).parent().unwrap().to_owned();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o710)).unwrap();
        let mut found = unreadable_to_others(directory.path());
        found.sort();
        assert_eq!(found, [shadow, key, private]);
    }

    #[test]
    fn private_parts_are_found_once_and_however_deep_they_lie() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let put = |name: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        for name in [
            ".env",
            "docs/page.md",
            "docs/a/b/.env",
            "docs/a/.secret/.deeper",
            "docs/node_modules/x/.npmignore",
            "docs/recordings/.draft",
            "venv/lib/.libs/x",
            "other/.env",
            ".src/lib/.env",
        ] {
            put(name);
        }
        std::os::unix::fs::symlink("../other", root.join("docs/link")).unwrap();
        let all = |names: &[&str]| names.iter().map(|name| root.join(name)).collect();
        let find = |sources: &[&str]| {
            let whole = HashSet::from([root.join("venv/lib")]);
            let recordings = Some(root.join("docs/recordings"));
            let sources: Vec<PathBuf> = all(sources);
            let mut found = private_parts(&sources.into_iter().collect(), &whole, recordings);
            found.sort();
            found
        };
        let of_docs = [
            "docs/a/.secret",
            "docs/a/b/.env",
            "docs/node_modules",
            "docs/recordings",
        ];
        let expected: Vec<PathBuf> = all(&of_docs);
        assert_eq!(find(&["docs"]), expected);
        assert_eq!(find(&["docs", "docs/a", "docs/page.md"]), expected);
        let expected: Vec<PathBuf> =
            all(&[&[".env", ".src"], &of_docs[..], &["other/.env"]].concat());
        assert_eq!(find(&["", "docs", "other"]), expected);
        // What is named itself is to be read.
        let expected: Vec<PathBuf> = all(&["docs/node_modules/x/.npmignore", ".src/lib/.env"]);
        let found = find(&["", "docs/node_modules", ".src"]);
        assert!(
            expected.iter().all(|path| found.contains(path)),
            "{found:?}"
        );
        let named: Vec<PathBuf> = all(&["docs/node_modules", ".src"]);
        assert!(!named.iter().any(|path| found.contains(path)), "{found:?}");
        assert_eq!(find(&["other"]), all(&["other/.env"]) as Vec<PathBuf>);
    }

    #[test]
    fn a_source_is_known_by_its_link_and_hidden_by_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        fs::create_dir_all(at("edited/.git")).unwrap();
        fs::create_dir(at("book")).unwrap();
        fs::write(at("book/verify.toml"), "").unwrap();
        std::os::unix::fs::symlink("edited", at("link")).unwrap();
        let config = Config::read(&at("book/verify.toml")).unwrap();
        let python = Interpreter {
            executable: at("python/bin/python"),
            version: (3, 12, 9),
            full_version: "3.12.9".to_owned(),
            implementation: "cpython".to_owned(),
            libpython: at("python/lib/libpython.so"),
            prefix: at("python"),
            base_executable: at("python/bin/python"),
            purelib: at("python/site"),
            library: Vec::new(),
            packages: Vec::new(),
            path: vec![at("link"), PathBuf::from("/"), at("nowhere")],
            source: Source::Flag,
            asked: None,
        };
        let setup = setup(&config, &python, &[]).unwrap();
        for path in [at("link"), at("edited"), at("book")] {
            assert!(setup.readable.contains(&path), "{setup:?}");
        }
        assert!(!setup.readable.contains(&PathBuf::from("/")), "{setup:?}");
        assert!(setup.hidden.contains(&at("edited/.git")), "{setup:?}");
    }

    #[test]
    fn packages_that_are_edited_in_place_are_found() {
        #[track_caller]
        fn check(origin: &str, expected: Option<&[u8]>) {
            let expected = expected.map(|path| PathBuf::from(OsString::from_vec(path.to_owned())));
            assert_eq!(editable(origin.as_bytes()), expected);
        }
        let of = |url: &str| format!(r#"{{"url": "{url}", "dir_info": {{"editable": true}}}}"#);
        check(&of("file:///home/me/y"), Some(b"/home/me/y"));
        check(
            &of("file:///a%20b%2Bc/pr%C3%B6j/%ff"),
            Some(b"/a b+c/pr\xc3\xb6j/\xff"),
        );
        check(&of("https://example.org/x"), None);
        check(r#"{"url": "file:///x", "dir_info": {}}"#, None);
        check("", None);
    }
}
