//! An ordinary user, for tests that the superuser runs.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// Has a directory with the program under test, since programs have to lie where everybody may read.
pub(crate) struct Nobody {
    directory: TempDir,
}

impl Nobody {
    /// `None`, with a word about it, where none can be had or there is no Python for one. `verify` is the program under
    /// test; its host lies beside it.
    #[allow(
        clippy::print_stderr,
        reason = "a test that cannot be made has to say so"
    )]
    pub(crate) fn with(verify: &Path) -> Option<Nobody> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tried: only root can become another user; all else ran as one");
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("nobody-")
            .tempdir()
            .unwrap();
        let nobody = Nobody { directory };
        for program in ["verify", "verify-python"] {
            nobody.give(&verify.with_file_name(program), program);
        }
        fs::create_dir(nobody.at("tmp")).unwrap();
        for path in [nobody.at(""), nobody.at("tmp")] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let doctor = nobody.command("verify").arg("doctor").output().unwrap();
        if !doctor.status.success() {
            let said = String::from_utf8_lossy(&doctor.stdout);
            eprintln!("not tried: no Python that everybody may use: {said}");
            return None;
        }
        Some(nobody)
    }

    /// A copy of a file, by this name.
    pub(crate) fn give(&self, file: &Path, name: &str) {
        // By another process: a program that this one still had open, if only in a child that another test is
        // just starting, would not start.
        let copied = Command::new("cp").arg(file).arg(self.at(name)).status();
        assert!(copied.unwrap().success());
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// One of the programs in the directory, ready to be started there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.at(program));
        command
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.directory.path())
            .env("TMPDIR", self.at("tmp"))
            .uid(NOBODY)
            .gid(NOBODY);
        command
    }
}
