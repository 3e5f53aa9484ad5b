//! Asking Pythons what they are: all at the same time, none for longer than a limit, and whatever they do instead of
//! answering is told.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::cache::{Cache, Key};
use super::candidates::{Candidate, Surroundings};
use super::error::Error;
use super::facts::{Facts, PROBE, PROBE_MARK, admit};
use super::{Interpreter, Source};

/// How long a candidate may take to say what it is. A healthy one needs 20 ms; a loaded machine or
/// a cold network drive can need seconds, and giving up on those would refuse a good Python.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// As much of a candidate's output as is read, in bytes: an answer has less than 4 kB, and rubbish has no end.
const PROBE_OUTPUT: u64 = 256 * 1024;

/// Asks Pythons what they are, and remembers what they said.
pub(super) struct Prober<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) cache: Cache,
}

impl<'a> Prober<'a> {
    pub(super) fn new(surroundings: &'a Surroundings, cache: &Path) -> Self {
        Self {
            surroundings,
            cache: Cache::open(cache),
        }
    }

    pub(super) fn interpreter(
        &mut self,
        executable: &Path,
        source: Source,
    ) -> Result<Interpreter, Error> {
        let (key, answer) = self.ask(executable);
        self.remember(key, &answer);
        admit(executable, &answer?, source)
    }

    /// In the order given. Those that have to be started are so at the same time, on threads of their
    /// own: rayon's pool is not this module's to start, the number of its threads is set by `-j`.
    pub(super) fn ask_all<'b>(
        &mut self,
        candidates: &'b [Candidate],
    ) -> Vec<(&'b Candidate, Result<Facts, Error>)> {
        let this = &*self;
        let answers: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = candidates
                .iter()
                .map(|candidate| scope.spawn(|| this.ask(&candidate.executable)))
                .collect();
            asked
                .into_iter()
                .map(|thread| thread.join().expect("asking a Python does not panic"))
                .collect()
        });
        let mut out = Vec::with_capacity(answers.len());
        for (candidate, (key, answer)) in candidates.iter().zip(answers) {
            self.remember(key, &answer);
            out.push((candidate, answer));
        }
        out
    }

    /// The key is there where the answer is new and may be kept.
    fn ask(&self, executable: &Path) -> (Option<Key>, Result<Facts, Error>) {
        let key = Key::of(executable, self.surroundings);
        if let Some(facts) = key.as_ref().and_then(|key| self.cache.find(key)) {
            return (None, Ok(facts.clone()));
        }
        (key, probe(executable, self.surroundings, PROBE_LIMIT))
    }

    fn remember(&mut self, key: Option<Key>, answer: &Result<Facts, Error>) {
        if let (Some(key), Ok(facts)) = (key, answer) {
            self.cache.remember(key, facts.clone());
        }
    }
}

/// Runs one Python with one question, in isolated mode, so that neither the project's files nor
/// `PYTHON…` variables answer in its place.
fn probe(executable: &Path, surroundings: &Surroundings, limit: Duration) -> Result<Facts, Error> {
    let answer = run_probe(executable, &["-I"], surroundings, limit)?;
    // Python 2.7 has no `-I`; it has to answer all the same to be called too old.
    if !answer.stderr.starts_with(b"Unknown option: -I") {
        return answer.facts(executable);
    }
    run_probe(executable, &["-E", "-s"], surroundings, limit)?.facts(executable)
}

fn run_probe(
    executable: &Path,
    isolation: &[&str],
    surroundings: &Surroundings,
    limit: Duration,
) -> Result<Answer, Error> {
    let mut command = Command::new(executable);
    command.args(isolation).args(["-B", "-c", PROBE]);
    command.current_dir(&surroundings.project_root);
    for (name, value) in &surroundings.passed_on {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // Both would make another Python, or another folder, speak than the one that is asked.
    command
        .env_remove("__PYVENV_LAUNCHER__")
        .env_remove("PYENV_DIR");
    // Its own process group: a shim's children have to go with it when time is up.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| not_executable(executable, &error))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);

    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(collect(child)));
    if let Ok(answer) = receiver.recv_timeout(limit) {
        return Ok(answer);
    }
    if let Some(group) = group {
        // Fails only where the group is gone already, which is what is wanted.
        let _ = kill_process_group(group, Signal::KILL);
    }
    // Long enough for a dead process's output to arrive. A process that left the group may keep the
    // pipes open for ever: its thread is given up.
    let partial = receiver
        .recv_timeout(Duration::from_secs(1))
        .unwrap_or_default();
    Err(Error::ProbeFailed {
        executable: executable.to_path_buf(),
        how: format!("gave no answer in {} s", limit.as_secs_f32()),
        printed: partial.printed(),
    })
}

fn not_executable(executable: &Path, error: &io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::NotFound if executable.exists() => {
            "the program that its first line names is not there".to_owned()
        }
        io::ErrorKind::NotFound => match last_target(executable) {
            Some(target) => format!("it is a link to `{}`, which is not there", target.display()),
            None => "there is no such file".to_owned(),
        },
        io::ErrorKind::PermissionDenied => "it may not be executed".to_owned(),
        _ => format!("the system says `{error}`"),
    };
    Error::NotExecutable {
        executable: executable.to_path_buf(),
        reason,
    }
}

/// Where a link that leads nowhere leads, by way of other links. `None` for what is no link.
fn last_target(link: &Path) -> Option<PathBuf> {
    /// More of them the system does not follow.
    const MOST: usize = 40;
    let next = |path: &PathBuf| {
        let target = fs::read_link(path).ok()?;
        Some(path.parent()?.join(target))
    };
    let way = std::iter::successors(Some(link.to_owned()), next);
    way.skip(1).take(MOST).last()
}

/// All that a probed program did.
#[derive(Default)]
struct Answer {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<ExitStatus>,
}

fn collect(mut child: Child) -> Answer {
    fn some(pipe: Option<impl Read>) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // An error ends the output as its end does; what came before it is judged.
            let _ = pipe.take(PROBE_OUTPUT).read_to_end(&mut bytes);
        }
        bytes
    }
    let stderr = child.stderr.take();
    let stderr = thread::spawn(move || some(stderr));
    let stdout = some(child.stdout.take());
    let stderr = stderr.join().unwrap_or_default();
    Answer {
        stdout,
        stderr,
        status: child.wait().ok(),
    }
}

impl Answer {
    fn facts(&self, executable: &Path) -> Result<Facts, Error> {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let answer = stdout
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(PROBE_MARK));
        // Having answered is what counts: some sitecustomize make a Python exit with a failure.
        if let Some(facts) = answer.and_then(|json| serde_json::from_str(json).ok()) {
            return Ok(facts);
        }
        let how = match self.status {
            Some(status) if status.success() => "said nothing of itself".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended in an unknown way".to_owned(),
            },
            None => "ended in an unknown way".to_owned(),
        };
        Err(Error::ProbeFailed {
            executable: executable.to_path_buf(),
            how,
            printed: self.printed(),
        })
    }

    /// What a person should see of the output: on one line, and not all of a megabyte.
    fn printed(&self) -> String {
        const ENDS: usize = 200;
        let text: Vec<_> = [&self.stderr, &self.stdout]
            .map(|bytes| String::from_utf8_lossy(bytes))
            .into();
        let lines = text
            .iter()
            .flat_map(|text| text.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let letters: Vec<char> = lines.collect::<Vec<_>>().join(" / ").chars().collect();
        if letters.len() <= 2 * ENDS {
            return letters.into_iter().collect();
        }
        let head = letters[..ENDS].iter();
        head.chain(&[' ', '…', ' '])
            .chain(&letters[letters.len() - ENDS..])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::interpreter::tests::Fake;

    #[test]
    fn candidates_that_misbehave() {
        #[track_caller]
        fn check(script: &str, expected: &str) {
            let fake = Fake::new();
            let python = fake.script("bin/python", script);
            let error = probe(&python, &fake.surroundings(), PROBE_LIMIT)
                .unwrap_err()
                .to_string();
            let error = error.replace(fake.root().to_str().unwrap(), "ROOT");
            assert_eq!(error, format!("`ROOT/bin/python` {expected}"));
        }
        let repair = "repair it, or name another with `--python`";
        check(
            "echo hello",
            &format!(
                "does not answer as a python does, it said nothing of itself and printed `hello`: {repair}"
            ),
        );
        check(
            "echo one >&2; echo; echo two >&2; exit 3",
            &format!(
                "does not answer as a python does, it exited with status 3 and printed `one / two`: {repair}"
            ),
        );
        check(
            "kill -SEGV $$",
            &format!(
                "does not answer as a python does, it was killed by signal 11 and printed nothing: {repair}"
            ),
        );
        check(
            &format!("echo '{PROBE_MARK}{{}}'"),
            &format!(
                "does not answer as a python does, it said nothing of itself and printed `{PROBE_MARK}{{}}`: {repair}"
            ),
        );
    }

    #[test]
    fn endless_output_is_cut() {
        let fake = Fake::new();
        let python = fake.script("bin/python", "exec yes rubbish");
        let error = probe(&python, &fake.surroundings(), PROBE_LIMIT)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("rubbish / rubbish") && error.contains(" … ") && error.len() < 800,
            "{error}"
        );
    }

    #[test]
    fn a_hanging_candidate_is_killed_with_its_children() {
        let fake = Fake::new();
        // The sleeping child holds the pipes: only killing the whole group ends the reading.
        let python = fake.script("bin/python", "echo started >&2; sleep 1000; echo never");
        let error = probe(&python, &fake.surroundings(), Duration::from_millis(300))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("it gave no answer in 0.3 s and printed `started`: repair it"),
            "{error}"
        );
    }

    #[test]
    fn candidates_that_do_not_start() {
        let fake = Fake::new();
        let file = fake.put("bin/other", "#!/gone/sh\n");
        let say = || {
            probe(&file, &fake.surroundings(), PROBE_LIMIT)
                .unwrap_err()
                .to_string()
        };
        assert!(say().contains("it may not be executed"), "{}", say());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(
            say().contains("the program that its first line names is not there"),
            "{}",
            say()
        );
        fs::remove_file(&file).unwrap();
        assert!(say().contains("there is no such file"), "{}", say());
    }

    #[test]
    fn noise_before_the_answer_and_a_failure_after_it_do_no_harm() {
        let fake = Fake::new();
        let answer = fake.answer(&[]);
        let python = fake.script(
            "bin/python",
            &format!("echo noise; echo '{PROBE_MARK}{answer}'; exit 1"),
        );
        assert_eq!(
            probe(&python, &fake.surroundings(), PROBE_LIMIT).unwrap(),
            fake.facts()
        );
    }
}
