//! Installers, of which one runs at a time: each holds the lock itself, and keeps it when whoever started it
//! was killed.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Error, Progress, unwritable};

/// Held as long as the file, or a duplicate of it in an installer, is open.
pub(super) fn lock(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<File, Error> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path);
    let file = file.map_err(unwritable(path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress(Progress::Waiting),
        Err(TryLockError::Error(error)) => return Err(unwritable(path)(error)),
    }
    file.lock().map_err(unwritable(path))?;
    Ok(file)
}

/// Runs an installer to its end; an error is what it printed.
///
/// The lock is its standard input, which is as empty as `/dev/null` and makes the installer a holder
/// of the lock: when this process alone is killed, the next run waits until the installer is gone.
pub(super) fn run(mut command: Command, lock: &File) -> Result<(), String> {
    for name in [
        "VIRTUAL_ENV",
        "PYTHONHOME",
        "PYTHONPATH",
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    let started = lock
        .try_clone()
        .and_then(|lock| command.stdin(Stdio::from(lock)).output());
    match started {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(output) => Err(printed(&output)),
        Err(error) => Err(format!(
            "`{}` cannot be started, the system says `{error}`",
            command.get_program().display()
        )),
    }
}

/// The end of what an installer printed, where it says what was wrong.
fn printed(output: &Output) -> String {
    const LINES: usize = 40;
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let lines: Vec<_> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return format!("it printed nothing, {}", output.status);
    }
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_second_run_waits_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path, &mut |progress| panic!("{progress:?}")).unwrap();
        // As an installer would hold it after its parent was killed.
        let inherited = held.try_clone().unwrap();
        let (sender, events) = mpsc::channel();
        let second = thread::spawn(move || {
            lock(&path, &mut |progress| sender.send(progress).unwrap()).map(drop)
        });
        assert_eq!(events.recv().unwrap(), Progress::Waiting);
        drop(held);
        assert!(!second.is_finished());
        drop(inherited);
        second.join().unwrap().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_installer_holds_the_lock_itself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"test /proc/self/fd/0 -ef "$0""#])
            .arg(file.path());
        assert_eq!(run(command, file.as_file()), Ok(()));
    }

    #[test]
    fn a_failed_installer_is_quoted() {
        let file = tempfile::tempfile().unwrap();
        let sh = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            run(command, &file)
        };
        assert_eq!(sh("cat"), Ok(()), "its input is empty");
        assert_eq!(
            sh("echo out; echo; echo no such version >&2; exit 2"),
            Err("out\nno such version".to_owned())
        );
        assert_eq!(
            sh("exit 2"),
            Err("it printed nothing, exit status: 2".to_owned())
        );
        let long = sh("seq 1000; exit 1").unwrap_err();
        assert!(
            long.starts_with("961\n") && long.ends_with("\n1000"),
            "{long}"
        );
        let missing = run(Command::new("/not/there/uv"), &file).unwrap_err();
        assert!(
            missing.starts_with("`/not/there/uv` cannot be started, the system says `No such file"),
            "{missing}"
        );
    }
}
