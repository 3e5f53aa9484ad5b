//! Where an environment stands, and the stamp that makes it whole.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::pins::Pins;
use super::{Error, unwritable};
use crate::interpreter::{Interpreter, fingerprint};

/// Counted up when environments are made in another way, so that those made before are made again.
const RECIPE: u32 = 1;

const STAMP: &str = "verify-stamp.txt";

/// Which environment is wanted, and where it stands.
pub(super) struct Plan {
    pub(super) pins: Pins,
    /// The project's.
    pub(super) root: PathBuf,
    /// Holds the environments of one interpreter.
    pub(super) group: PathBuf,
    pub(super) folder: PathBuf,
    stamp: String,
}

impl Plan {
    pub(super) fn new(base: &Interpreter, pins: Pins, root: &Path) -> Self {
        // One installation has many names, `python` and `python3.12` among them.
        let real = fs::canonicalize(&base.base_executable)
            .unwrap_or_else(|_| base.base_executable.clone());
        let (major, minor, _) = base.version;
        let short = fingerprint(real.as_os_str().as_bytes()) & 0xffff_ffff;
        let group = root.join(".verify/environments").join(format!(
            "{}-{major}.{minor}-{short:08x}",
            base.implementation
        ));

        let python = format!(
            "{} {} {}",
            base.implementation,
            base.full_version,
            real.display()
        );
        // The length keeps two files apart from one that quotes the next one's heading.
        let files = pins
            .files
            .iter()
            .map(|(name, text)| format!("file {name} {}\n{text}\n", text.len()));
        let contents = format!(
            "recipe {RECIPE}\npython {python}\n{}",
            files.collect::<String>()
        );
        let folder = group.join(format!("{:016x}", fingerprint(contents.as_bytes())));
        // A project that was moved has scripts that start a Python which is not there any more.
        let stamp = format!("folder {}\n{contents}uv exit 0\n", folder.display());
        Self {
            pins,
            root: root.to_path_buf(),
            group,
            folder,
            stamp,
        }
    }

    pub(super) fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    pub(super) fn is_made(&self) -> bool {
        fs::read(self.folder.join(STAMP)).is_ok_and(|stamp| stamp == self.stamp.as_bytes())
            && self.python().is_file()
    }
}

pub(super) fn write_stamp(plan: &Plan) -> Result<(), Error> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(&plan.folder)?;
        file.write_all(plan.stamp.as_bytes())?;
        file.persist(plan.folder.join(STAMP))?;
        Ok(())
    };
    write().map_err(unwritable(&plan.folder))
}

/// Deletes the environments of this interpreter that nobody will ask for again. The newest of them
/// stays: a run of a minute ago may still be using it, and switching branches back is common.
pub(super) fn tidy(plan: &Plan) {
    let Ok(entries) = fs::read_dir(&plan.group) else {
        return;
    };
    let folders = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && *path != plan.folder);
    let made_at =
        |folder: &Path| fs::metadata(folder.join(STAMP)).and_then(|stamp| stamp.modified());
    let mut others: Vec<(Option<SystemTime>, PathBuf)> = folders
        .map(|folder| (made_at(&folder).ok(), folder))
        .collect();
    others.sort();
    if others.last().is_some_and(|(made_at, _)| made_at.is_some()) {
        others.pop();
    }
    for (_, folder) in others {
        // Tried again after the next change; meanwhile it costs space and nothing else.
        let _ = discard(&folder);
    }
}

/// The stamp goes first, so that an interrupt cannot leave half an environment that looks whole.
pub(super) fn discard(folder: &Path) -> Result<(), Error> {
    for step in [
        fs::remove_file(folder.join(STAMP)),
        fs::remove_dir_all(folder),
    ] {
        match step {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritable(folder)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;
    use crate::environment::tests::Project;
    use crate::interpreter::Source;

    #[test]
    fn only_a_stamp_of_the_same_contents_makes_an_environment_whole() {
        let project = Project::new(&[("requirements.txt", "six==1.17.0\n")]);
        let plan = project.plan();
        assert!(!plan.is_made());
        Project::made(&plan);
        assert!(!plan.is_made(), "interrupted before the stamp");
        write_stamp(&plan).unwrap();
        assert!(plan.is_made() && project.plan().is_made());
        assert_eq!(
            fs::read_dir(&plan.folder).unwrap().count(),
            2,
            "nothing temporary is left"
        );

        let stamp = plan.folder.join(STAMP);
        let whole = fs::read(&stamp).unwrap();
        for other in [&whole[..whole.len() - 1], b"", &[&whole[..], b"x"].concat()] {
            fs::write(&stamp, other).unwrap();
            assert!(!plan.is_made(), "{}", String::from_utf8_lossy(other));
        }
        fs::write(&stamp, &whole).unwrap();
        assert!(plan.is_made());
        fs::remove_file(plan.python()).unwrap();
        assert!(!plan.is_made(), "its python is gone");
    }

    #[test]
    fn what_makes_another_environment() {
        let project = Project::new(&[
            ("requirements.txt", "six\n-c limits.txt\n"),
            ("limits.txt", "six<2\n"),
        ]);
        let plan = project.plan();
        let folder_of =
            |base: &Interpreter| Plan::new(base, project.pins().unwrap(), &project.root()).folder;
        assert_eq!(folder_of(&project.python()), plan.folder);
        let patched = Interpreter {
            full_version: "3.12.10".to_owned(),
            ..project.python()
        };
        assert_ne!(folder_of(&patched), plan.folder);
        assert_eq!(folder_of(&patched).parent(), plan.folder.parent());
        let another = Interpreter {
            base_executable: PathBuf::from("/usr/bin/python3.12"),
            ..project.python()
        };
        assert_ne!(folder_of(&another).parent(), plan.folder.parent());
        let chosen_otherwise = Interpreter {
            source: Source::Path,
            asked: None,
            executable: PathBuf::from("/venv"),
            ..project.python()
        };
        assert_eq!(folder_of(&chosen_otherwise), plan.folder);

        project.put("limits.txt", "six<3\n");
        assert_ne!(project.plan().folder, plan.folder);
        project.put("limits.txt", "six<2\n");
        assert_eq!(project.plan().folder, plan.folder);
    }

    #[test]
    fn a_project_that_was_moved_needs_its_environment_again() {
        let project = Project::new(&[("old/requirements.txt", "six\n")]);
        let plan = |name: &str| {
            let root = project.root().join(name);
            Plan::new(
                &project.python(),
                Pins::read(&root.join("requirements.txt"), &root).unwrap(),
                &root,
            )
        };
        let old = plan("old");
        Project::made(&old);
        write_stamp(&old).unwrap();
        assert!(old.is_made());
        fs::rename(project.root().join("old"), project.root().join("new")).unwrap();
        let new = plan("new");
        assert!(new.folder.join(STAMP).is_file() && !new.is_made());
    }

    #[test]
    fn what_stays_beside_a_new_environment() {
        let project = Project::new(&[]);
        let plan_for = |pins: &str| {
            project.put("requirements.txt", pins);
            let plan = project.plan();
            Project::made(&plan);
            plan
        };
        let mut made = Vec::new();
        for (age, pins) in [(300, "one"), (200, "two"), (100, "three")] {
            let plan = plan_for(pins);
            write_stamp(&plan).unwrap();
            let stamp = File::options()
                .write(true)
                .open(plan.folder.join(STAMP))
                .unwrap();
            stamp
                .set_modified(SystemTime::now() - Duration::from_secs(age))
                .unwrap();
            made.push(plan);
        }
        let interrupted = plan_for("interrupted");
        let new = plan_for("new");
        write_stamp(&new).unwrap();
        fs::write(new.group.join("lock"), "").unwrap();
        tidy(&new);
        assert!(new.is_made() && made[2].is_made());
        assert!(
            !made[0].folder.exists() && !made[1].folder.exists() && !interrupted.folder.exists()
        );
        assert!(new.group.join("lock").is_file());
    }
}
