//! One session while it runs: sends units, gathers what they print, keeps the limits, notices the end.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Pid;

use super::origin::Origin;
use super::stop::Stop;
use crate::config::Limits;
use crate::outcome::{Ending, Resource, StepOutcome};
use crate::processes;
use crate::protocol::{
    self, Command, HostRequest, Observed, Passed, ProcessEnd, Program, Report, Seal, SessionSetup,
    Source, Status, StepReport, Unit, UnitEnd,
};

/// How long processes that outlive their session may go on printing before they are ended.
const GRACE: Duration = Duration::from_secs(2);

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// When a session's use of memory, processes and disk is first looked at. Most sessions end before.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// The time from one look to the next: at least this, and so long that looking takes a twentieth of it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes that a pipe holds, and that one holds which an example has made as large as Linux lets it.
const PIPE: usize = 64 * 1024;
const LARGEST_PIPE: usize = 1024 * 1024;

/// Bytes that both streams may hold when nobody has read from them.
const MOST_UNREAD: u64 = 2 * LARGEST_PIPE as u64;

/// How long a unit may take before its output is read while it runs. Most have ended by then, and to be woken
/// for what they print as well costs more than reading it.
const PATIENCE: Duration = Duration::from_millis(10);

/// Bytes in a nanosecond, more than a session can write: memory is not that fast.
const FASTEST: u128 = 32;

const TAMPERED: &str = "it wrote to the descriptor by which `verify` learns how it ended";

const UNTRUE: &str = "it has to run where nothing was imported for it";

/// What one unit did, as far as this side can see it.
#[derive(Debug)]
pub struct UnitOutcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub ending: Ending,
    pub steps: Vec<StepOutcome>,
    pub duration: Duration,
}

/// A session's process, from this side.
#[derive(Debug)]
pub struct Running {
    pub(super) origin: Arc<Origin>,
    pub(super) setup: SessionSetup,
    pub(super) control: UnixStream,
    /// The session holds its end of `control`: until it closes that, it may report.
    pub(super) control_open: bool,
    stdout: Stream,
    stderr: Stream,
    /// What one look at a stream reads, until it is added to the rest.
    buffer: Vec<u8>,
    /// Where it says of units that it goes on to the next, and what of that was read in part.
    passing: UnixStream,
    half_passed: Vec<u8>,
    /// Units before the one that runs, of those that it was given last, as far as that was read: with places in the
    /// streams instead of counts.
    passed: Vec<Passed>,
    /// How far the streams had been read when it was given them.
    given: [u64; 2],
    /// When the unit that runs began, as far as that is known, on the [`protocol::clock`].
    began: u64,
    status: io::PipeReader,
    pub(super) received: Vec<u8>,
    /// What the host calls the first process, once it has forked it.
    number: Option<i32>,
    /// What that process is called here, once that was asked for.
    head: Option<Pid>,
    next_look: Instant,
    /// From when output is read as it comes, see [`PATIENCE`].
    reads_from: Instant,
    /// How many bytes its directory held, and when that was.
    filled: Option<(u64, Instant)>,
    /// It was made before it was needed, and has said nothing yet.
    idle: bool,
    /// It had died by then.
    died_idle: bool,
    pub(super) end: Option<ProcessEnd>,
    read_so_far: Option<Observed>,
    observed: Option<Observed>,
    untrue: Option<String>,
}

#[derive(Debug)]
struct Stream {
    pipe: io::PipeReader,
    /// How many bytes earlier units have taken.
    taken: u64,
    bytes: Vec<u8>,
    open: bool,
}

/// Why waiting stopped.
enum Wake {
    /// Something arrived on the control socket; it is in `received`.
    Control,
    /// The process ended and everything it wrote has been read.
    Ended(ProcessEnd),
    /// It did not come to its own end, and is gone.
    CutOff(Ending),
}

impl Running {
    /// Forks a session from there. Its number and seal are new; the rest is as `setup` says.
    pub(super) fn start(
        origin: &Arc<Origin>,
        setup: SessionSetup,
        sources: Vec<Source>,
    ) -> Result<Running> {
        let setup = SessionSetup {
            session: origin.next_session(),
            seal: Seal::new()?,
            ..setup
        };
        let (control, their_control) = UnixStream::pair()?;
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        let (passing, their_passing) = UnixStream::pair()?;
        let (status, their_status) = io::pipe()?;
        // A console shows both streams on one screen.
        let their_stderr = match setup.program {
            Program::Shell { .. } => their_stdout.as_fd(),
            Program::Python | Program::Host { .. } => their_stderr.as_fd(),
        };
        origin.send(
            &HostRequest::Fork {
                setup: Box::new(setup.clone()),
                sources,
            },
            &[
                their_control.as_fd(),
                their_stdout.as_fd(),
                their_stderr,
                their_passing.as_fd(),
                their_status.as_fd(),
            ],
        )?;
        let stream = |pipe| Stream {
            pipe,
            taken: 0,
            bytes: Vec::new(),
            open: true,
        };
        Ok(Running {
            origin: origin.clone(),
            setup,
            control,
            control_open: true,
            stdout: stream(stdout),
            stderr: stream(stderr),
            buffer: Vec::with_capacity(PIPE),
            passing,
            half_passed: Vec::new(),
            passed: Vec::new(),
            given: [0; 2],
            began: protocol::clock(),
            status,
            received: Vec::new(),
            number: None,
            head: None,
            next_look: Instant::now() + FIRST_LOOK,
            reads_from: Instant::now(),
            filled: None,
            idle: false,
            died_idle: false,
            end: None,
            read_so_far: None,
            observed: None,
            untrue: None,
        })
    }

    /// Says how many bytes its directory held when it began.
    #[must_use]
    pub(super) fn in_directory_with(mut self, bytes: u64) -> Running {
        self.filled = Some((bytes, Instant::now()));
        self
    }

    /// Says that it was idle until now. `None` if it did not live that long.
    pub fn awake(mut self) -> Option<Running> {
        let now = Instant::now();
        while self.is_alive() && self.poll(now).is_some_and(|ready| ready.status) {
            self.hear_of_process();
        }
        self.next_look = now + FIRST_LOOK;
        self.filled = self.filled.map(|(bytes, _)| (bytes, now));
        self.idle = true;
        self.is_alive().then_some(self)
    }

    /// What the session is known to have read, however it ends; nothing where it only repeats what the process said
    /// that it is a copy of.
    pub fn read_so_far(&self) -> Option<&Observed> {
        self.observed.as_ref().or(self.read_so_far.as_ref())
    }

    /// What the session read, once its interpreter has shut down in order and could say so.
    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }

    /// Whether it has died before it took the first that it was given to run, which so has no part in that.
    pub fn died_idle(&self) -> bool {
        self.died_idle
    }

    /// Why what the session did is not what a plain run does: it has to run where nothing was imported for it.
    pub fn untrue(&self) -> Option<&str> {
        self.untrue.as_deref()
    }

    /// Whether another unit can follow.
    pub fn is_alive(&self) -> bool {
        self.end.is_none()
    }

    /// Whether its process has ended and left no other behind.
    pub fn is_gone(&self) -> bool {
        let left_nothing = matches!(
            self.end,
            Some(
                ProcessEnd::Exited { leftovers: 0, .. } | ProcessEnd::Signaled { leftovers: 0, .. }
            )
        );
        left_nothing && !self.stdout.open && !self.stderr.open
    }

    /// Whether a session that these limits hold for may go on from one unit to the next by itself: what it prints and
    /// writes until somebody looks cannot be too much.
    pub fn may_go_on_under(limits: &Limits) -> bool {
        limits.output >= MOST_UNREAD && u128::from(limits.scratch) >= PATIENCE.as_nanos() * FASTEST
    }

    /// Runs units one after the other, to the end of the last or of one behind which the session waits or is no more.
    /// As many outcomes as units have begun, which is one at least. The limits are those of each.
    pub fn run(
        &mut self,
        units: Vec<Unit>,
        limits: Limits,
        stop: Option<&Stop>,
    ) -> Vec<UnitOutcome> {
        let all = units.len();
        let ends = units.last().is_some_and(|unit| unit.last);
        let started = protocol::clock();
        self.began = started;
        self.given = [self.stdout.read_to(), self.stderr.read_to()];
        let mut steps = Steps::new(self.stdout.bytes.len());
        let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(0);
        let command = Command::Run {
            units,
            reads_from: started + patience,
        };
        // A session that is gone already is noticed below, with its reason.
        let sent = protocol::send(&self.control, &command);
        self.died_idle = self.idle && sent.is_err();
        // Later than what the session was told.
        self.reads_from = Instant::now() + PATIENCE;
        let mut ended: Option<UnitEnd> = None;
        let ending = loop {
            match self.wait(&limits, stop) {
                Wake::Control => {
                    match protocol::take_sealed::<Report>(&mut self.received, self.setup.seal) {
                        Ok(None) => {}
                        Ok(Some(Report::Steps(done))) => {
                            self.drain();
                            steps.add(done, self.stdout.bytes.len());
                            let _ = protocol::send(&self.control, &Command::Continue);
                        }
                        Ok(Some(Report::Observed(observed))) => self.observed = Some(observed),
                        Ok(Some(Report::Ended {
                            steps: done,
                            end,
                            read,
                        })) => {
                            self.read_so_far = read;
                            let heard = self.hear_of_passed();
                            if ends && heard.is_ok() && self.passed.len() + 1 == all {
                                steps.add(done, 0);
                                ended = Some(end);
                                continue;
                            }
                            self.drain();
                            steps.add(done, 0);
                            let exceeded = self.overprinted(&limits);
                            if let Some((of, limit)) =
                                exceeded.or_else(|| self.filled_since(&limits))
                            {
                                self.end_now();
                                break Ending::TooMuch { of, limit };
                            }
                            break ending_of(end, &mut steps, self.stdout.bytes.len());
                        }
                        Ok(Some(Report::Untrue { reason })) => {
                            self.end_now();
                            self.untrue = Some(reason);
                            break Ending::Lost {
                                reason: UNTRUE.to_owned(),
                            };
                        }
                        Ok(Some(Report::Checkpoint { .. } | Report::Snapshot(_))) | Err(_) => {
                            break self.tampered_with();
                        }
                    }
                }
                Wake::Ended(end) => {
                    self.hear_last_words();
                    if let Some((of, limit)) = self.filled_since(&limits) {
                        break Ending::TooMuch { of, limit };
                    }
                    break match (ended.take(), end) {
                        // The end of the process is part of the last example: what its exit handlers
                        // and threads did, and whether that went well.
                        (Some(unit_end), ProcessEnd::Exited { status: 0, .. }) => {
                            ending_of(unit_end, &mut steps, self.stdout.bytes.len())
                        }
                        (Some(UnitEnd::Raised(exception)), ProcessEnd::Exited { .. }) => {
                            Ending::Raised(exception)
                        }
                        (_, end) => process_ending(end),
                    };
                }
                Wake::CutOff(ending) => break ending,
            }
        };
        let ending = match self.hear_of_passed() {
            Ok(()) => ending,
            Err(_) => self.tampered_with(),
        };
        let steps = steps.cut(self.stdout.bytes.len());
        let mut outcomes = self.take_passed(started);
        outcomes.push(self.outcome(ending, steps));
        outcomes
    }

    /// Follows a shell through its script: one step for each of so many commands.
    pub fn run_shell(
        &mut self,
        commands: usize,
        limits: Limits,
        stop: Option<&Stop>,
    ) -> UnitOutcome {
        let started = protocol::clock();
        self.began = started;
        let mut steps: Vec<StepOutcome> = Vec::new();
        let seal = self.setup.seal.to_string();
        let _ = io::Write::write_all(&mut self.control, format!("{seal}\n").as_bytes());
        let ending = loop {
            match self.wait(&limits, stop) {
                Wake::Control => {
                    let Some(end) = self.received.iter().position(|&byte| byte == b'\n') else {
                        continue;
                    };
                    let line: Vec<u8> = self.received.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    let status = line.strip_prefix(&seal).filter(|_| steps.len() < commands);
                    let Some(status) = status else {
                        self.end_now();
                        break Ending::Lost {
                            reason: TAMPERED.to_owned(),
                        };
                    };
                    self.drain();
                    let start = steps.last().map_or(0, |step| step.stdout.end);
                    steps.push(StepOutcome {
                        stdout: start..self.stdout.bytes.len(),
                        status: status.trim().parse().ok(),
                        ..StepOutcome::default()
                    });
                    // Each command has the whole time: a block of five is not slower than five blocks of one.
                    self.began = protocol::clock();
                    let _ = io::Write::write_all(&mut self.control, b"\n");
                }
                Wake::Ended(end) => {
                    break match end {
                        // Each status waits for our answer, so none can be left over.
                        ProcessEnd::Exited { .. } if !self.received.is_empty() => Ending::Lost {
                            reason: TAMPERED.to_owned(),
                        },
                        ProcessEnd::Exited { .. } => Ending::Completed,
                        other => process_ending(other),
                    };
                }
                Wake::CutOff(ending) => break ending,
            }
        };
        self.began = started;
        self.outcome(ending, steps)
    }

    /// Takes what came with the last unit's record, or behind it.
    fn hear_last_words(&mut self) {
        while let Ok(Some(report)) =
            protocol::take_sealed::<Report>(&mut self.received, self.setup.seal)
        {
            match report {
                Report::Observed(observed) => self.observed = Some(observed),
                Report::Untrue { reason } => self.untrue = Some(reason),
                _ => {}
            }
        }
    }

    /// Takes what has come of units that were passed. An error is somebody else's message.
    fn hear_of_passed(&mut self) -> io::Result<()> {
        let waiting = rustix::io::ioctl_fionread(&self.passing)?;
        let before = self.half_passed.len();
        self.half_passed
            .resize(before + usize::try_from(waiting).unwrap_or(PIPE), 0);
        self.passing.read_exact(&mut self.half_passed[before..])?;
        while let Some(passed) =
            protocol::take_sealed::<Passed>(&mut self.half_passed, self.setup.seal)?
        {
            self.began = passed.at;
            self.passed.push(Passed {
                stdout: self.given[0].saturating_add(passed.stdout),
                stderr: self.given[1].saturating_add(passed.stderr),
                ..passed
            });
        }
        Ok(())
    }

    /// The outcomes of all units but the last, of which the first `began` then.
    fn take_passed(&mut self, mut began: u64) -> Vec<UnitOutcome> {
        let passed = std::mem::take(&mut self.passed);
        let outcome = |passed: Passed| UnitOutcome {
            stdout: self.stdout.take_to(passed.stdout),
            stderr: self.stderr.take_to(passed.stderr),
            ending: Ending::Completed,
            steps: Vec::new(),
            duration: time_between(std::mem::replace(&mut began, passed.at), passed.at),
        };
        passed.into_iter().map(outcome).collect()
    }

    /// The outcome of the unit that has begun last.
    fn outcome(&mut self, ending: Ending, steps: Vec<StepOutcome>) -> UnitOutcome {
        UnitOutcome {
            stdout: self.stdout.take(),
            stderr: self.stderr.take(),
            ending,
            steps,
            duration: time_between(self.began, protocol::clock()),
        }
    }

    fn tampered_with(&mut self) -> Ending {
        self.drain();
        self.end_now();
        Ending::Lost {
            reason: TAMPERED.to_owned(),
        }
    }

    /// Waits until there is something to decide, reading output meanwhile.
    fn wait(&mut self, limits: &Limits, stop: Option<&Stop>) -> Wake {
        let mut end_seen: Option<Instant> = None;
        loop {
            if let Some(end) = self.end {
                if !self.stdout.open && !self.stderr.open {
                    return self.cleaned_up(end);
                }
                let seen = *end_seen.get_or_insert_with(Instant::now);
                if seen.elapsed() >= GRACE {
                    return self.cleaned_up(end);
                }
            }
            let now = Instant::now();
            let mut deadline = now + self.time_left(limits);
            let (until, with_output) = if self.end.is_some() {
                (now + Duration::from_millis(50), true)
            } else if now < self.reads_from {
                (deadline.min(self.next_look).min(self.reads_from), false)
            } else {
                (deadline.min(self.next_look), true)
            };
            let ready = self.poll_for(until, with_output, stop).unwrap_or_default();
            if ready.stop {
                let reason = "its run was stopped".to_owned();
                return self.cut_off(Ending::Lost { reason });
            }
            self.read(&ready);
            if let Some((of, limit)) = self.overprinted(limits) {
                return self.cut_off(Ending::TooMuch { of, limit });
            }
            if ready.control && self.receive() {
                return Wake::Control;
            }
            if ready.status && !self.hear_of_process() {
                self.drain();
                let reason = "the host that ran it died".to_owned();
                return Wake::CutOff(Ending::Lost { reason });
            }
            if self.end.is_none() {
                let now = Instant::now();
                if now >= self.next_look {
                    self.origin.wake();
                    if let Some((of, limit)) = self.exceeded(limits) {
                        self.drain();
                        return self.cut_off(Ending::TooMuch { of, limit });
                    }
                    self.next_look = Instant::now() + LOOK_EVERY.max(now.elapsed() * 20);
                }
                if now >= deadline {
                    // The unit may be another one by now, with time of its own.
                    let _ = self.hear_of_passed();
                    deadline = now + self.time_left(limits);
                }
                if now >= deadline {
                    self.drain();
                    let limit = limits.timeout;
                    return self.cut_off(Ending::TimedOut { limit });
                }
            }
        }
    }

    fn time_left(&self, limits: &Limits) -> Duration {
        let taken = time_between(self.began, protocol::clock());
        limits.timeout.saturating_sub(taken)
    }

    fn cut_off(&mut self, ending: Ending) -> Wake {
        self.end_now();
        Wake::CutOff(ending)
    }

    /// The answer to what this session was asked outside of any example; `None` if there is none by then.
    pub(super) fn answer(&mut self, limit: Instant) -> Option<Report> {
        while self.end.is_none()
            && self.control_open
            && let Some(ready) = self.poll(limit)
        {
            if ready.status {
                self.hear_of_process();
            }
            // What it says meanwhile must not fill a pipe up and hold it.
            self.read(&ready);
            if ready.control && self.receive() {
                match protocol::take_sealed(&mut self.received, self.setup.seal) {
                    Ok(None) => {}
                    Ok(Some(report)) => return Some(report),
                    Err(_) => return None,
                }
            }
        }
        None
    }

    /// Whether anything was printed that nobody has taken.
    pub(super) fn has_printed(&mut self) -> bool {
        self.drain();
        !self.stdout.bytes.is_empty() || !self.stderr.bytes.is_empty()
    }

    /// Reads one message of the host's; false if the host is gone.
    pub(super) fn hear_of_process(&mut self) -> bool {
        match protocol::receive(&mut self.status) {
            Ok(Some(Status::Started { process })) => self.number = Some(process),
            Ok(Some(Status::Ended(end))) => self.end = Some(end),
            Ok(None) | Err(_) => {
                self.origin.set_lost();
                self.end = Some(ProcessEnd::NotStarted { errno: 0 });
                return false;
            }
        }
        true
    }

    /// Which limit the session's processes are beyond at this moment.
    fn exceeded(&mut self, limits: &Limits) -> Option<(Resource, u64)> {
        if self.head.is_none() {
            self.head = processes::called(self.number?, self.origin.host);
        }
        let processes = processes::family(self.head?);
        if processes.len() as u64 > limits.processes {
            return Some((Resource::Processes, limits.processes));
        }
        if let Some(limit) = limits.memory
            && processes::memory(&processes, limit) > limit
        {
            return Some((Resource::Memory, limit));
        }
        self.overfilled(limits, processes::unnamed_files(&processes))
    }

    /// Whether more was printed than a unit may.
    fn overprinted(&mut self, limits: &Limits) -> Option<(Resource, u64)> {
        let printed = |running: &Running| {
            let taken = (running.stdout.taken, running.stderr.taken);
            let (stdout, stderr) =
                (running.passed.last()).map_or(taken, |passed| (passed.stdout, passed.stderr));
            let read_to = running.stdout.read_to() + running.stderr.read_to();
            read_to.saturating_sub(stdout.saturating_add(stderr))
        };
        if printed(self) <= limits.output {
            return None;
        }
        // Some of that may be of units before it.
        let _ = self.hear_of_passed();
        (printed(self) > limits.output).then_some((Resource::Output, limits.output))
    }

    /// As [`Running::overfilled`], if there has been time to fill its directory since that was last looked through:
    /// looking costs more than most examples, and the more the more files there are.
    fn filled_since(&mut self, limits: &Limits) -> Option<(Resource, u64)> {
        let may_be = self.filled.is_none_or(|(bytes, then)| {
            let written = then.elapsed().as_nanos() * FASTEST;
            u128::from(bytes) + written > u128::from(limits.scratch)
        });
        may_be.then(|| self.overfilled(limits, 0)).flatten()
    }

    /// Whether its files are too much, with those that lie in no directory.
    fn overfilled(&mut self, limits: &Limits, unnamed: u64) -> Option<(Resource, u64)> {
        let now = Instant::now();
        let bytes = processes::disk(&self.setup.directory) + unnamed;
        self.filled = Some((bytes, now));
        (bytes > limits.scratch).then_some((Resource::Scratch, limits.scratch))
    }

    /// Ends what the process left behind, after it had its time to finish.
    fn cleaned_up(&mut self, end: ProcessEnd) -> Wake {
        let (ProcessEnd::Exited { leftovers, .. } | ProcessEnd::Signaled { leftovers, .. }) = end
        else {
            return Wake::Ended(end);
        };
        if leftovers > 0 || self.stdout.open || self.stderr.open {
            self.origin.kill(self.setup.session);
        }
        Wake::Ended(end)
    }

    /// Reads what the control socket has; true if there is anything to look at.
    pub(super) fn receive(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let read = self.control.read(&mut bytes);
        if let Ok(count @ 1..) = read {
            self.idle = false;
            self.received.extend_from_slice(&bytes[..count]);
            return true;
        }
        // What the kernel says of a socket whose other end went with something unread.
        let left_unread = read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        self.died_idle |= self.idle && left_unread;
        self.control_open = false;
        false
    }

    /// Reads everything that is readable now, and not for ever what somebody goes on writing.
    fn drain(&mut self) {
        for _ in 0..=LARGEST_PIPE / PIPE {
            let Some(ready) = self.poll(Instant::now()) else {
                return;
            };
            if !self.read(&ready) {
                return;
            }
        }
    }

    /// Reads each stream that has something once; true if there may be more.
    fn read(&mut self, ready: &Ready) -> bool {
        let mut may_have_more = false;
        for (ready, stream) in [
            (ready.stdout, &mut self.stdout),
            (ready.stderr, &mut self.stderr),
        ] {
            may_have_more |= ready && stream.read(&mut self.buffer);
        }
        may_have_more
    }

    /// Kills the session and waits until it is gone.
    pub(super) fn end_now(&mut self) {
        self.origin.wake();
        self.origin.kill(self.setup.session);
        let limit = Instant::now() + KILL_LIMIT;
        while self.end.is_none() && Instant::now() < limit {
            let Some(ready) = self.poll(limit) else {
                break;
            };
            if ready.status {
                self.hear_of_process();
            }
            // A flood goes on until the process is gone: read it, and throw it away.
            let kept = [self.stdout.bytes.len(), self.stderr.bytes.len()];
            self.read(&ready);
            self.stdout.bytes.truncate(kept[0]);
            self.stderr.bytes.truncate(kept[1]);
        }
        if self.end.is_none() {
            self.origin.abandon();
            self.end = Some(ProcessEnd::NotStarted { errno: 0 });
        }
    }

    /// What is readable before `until`; `None` if nothing is by then.
    pub(super) fn poll(&self, until: Instant) -> Option<Ready> {
        self.poll_for(until, true, None)
    }

    fn poll_for(&self, until: Instant, with_output: bool, stop: Option<&Stop>) -> Option<Ready> {
        let flags = PollFlags::IN;
        let mut polled = Vec::with_capacity(5);
        let mut kinds = Vec::with_capacity(5);
        if let Some(stop) = stop {
            polled.push(PollFd::from_borrowed_fd(stop.as_fd(), flags));
            kinds.push(Kind::Stop);
        }
        for (kind, descriptor, wanted) in [
            (
                Kind::Control,
                self.control.as_fd(),
                self.control_open && self.end.is_none(),
            ),
            (
                Kind::Stdout,
                self.stdout.pipe.as_fd(),
                with_output && self.stdout.open,
            ),
            (
                Kind::Stderr,
                self.stderr.pipe.as_fd(),
                with_output && self.stderr.open,
            ),
            (Kind::Status, self.status.as_fd(), self.end.is_none()),
        ] {
            if wanted {
                polled.push(PollFd::from_borrowed_fd(descriptor, flags));
                kinds.push(kind);
            }
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return None,
                Ok(_) => break,
            }
        }
        let mut ready = Ready::default();
        for (kind, poll) in kinds.iter().zip(&polled) {
            if poll.revents().is_empty() {
                continue;
            }
            match kind {
                // A hang-up without data says nothing that the status pipe does not say better.
                Kind::Control => ready.control = true,
                Kind::Stdout => ready.stdout = true,
                Kind::Stderr => ready.stderr = true,
                Kind::Status => ready.status = true,
                Kind::Stop => ready.stop = true,
            }
        }
        Some(ready)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.end_now();
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Control,
    Stdout,
    Stderr,
    Status,
    Stop,
}

#[derive(Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "one per descriptor, as poll reports them"
)]
pub(super) struct Ready {
    control: bool,
    stdout: bool,
    stderr: bool,
    status: bool,
    stop: bool,
}

impl Stream {
    /// What has been read, without the room for more: the outcomes of a whole book are kept.
    fn take(&mut self) -> Vec<u8> {
        self.taken = self.read_to();
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.shrink_to_fit();
        bytes
    }

    /// What has been read up to this place.
    fn take_to(&mut self, place: u64) -> Vec<u8> {
        let wanted = usize::try_from(place.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        let count = wanted.min(self.bytes.len());
        self.taken += count as u64;
        self.bytes.drain(..count).collect()
    }

    /// The place that it has been read to.
    fn read_to(&self) -> u64 {
        self.taken + self.bytes.len() as u64
    }

    /// Reads once; true if there may be more.
    fn read(&mut self, buffer: &mut Vec<u8>) -> bool {
        buffer.clear();
        // Into memory that nobody has cleared: most reads are of a few bytes.
        while let Err(Errno::INTR) =
            rustix::io::read(&self.pipe, rustix::buffer::spare_capacity(buffer))
        {}
        self.bytes.extend_from_slice(buffer);
        self.open = !buffer.is_empty();
        buffer.len() == buffer.capacity()
    }
}

/// Between two times on the [`protocol::clock`].
fn time_between(one: u64, other: u64) -> Duration {
    Duration::from_nanos(other.saturating_sub(one))
}

/// What the steps of a unit did, and where the output of each ends in that of the unit.
struct Steps {
    start: usize,
    done: Vec<(usize, StepReport)>,
}

impl Steps {
    fn new(start: usize) -> Steps {
        Steps {
            start,
            done: Vec::new(),
        }
    }

    /// Takes steps as they are told; one that waits has printed all that has been read by now.
    fn add(&mut self, told: Vec<StepReport>, read: usize) {
        let end = |step: &StepReport| match step.printed {
            Some(printed) => {
                usize::try_from(printed).map_or(read, |printed| self.start.saturating_add(printed))
            }
            None => read,
        };
        let ends: Vec<usize> = told.iter().map(end).collect();
        self.done.extend(ends.into_iter().zip(told));
    }

    fn cut(self, all: usize) -> Vec<StepOutcome> {
        let mut start = self.start;
        let cut = |(end, step): (usize, StepReport)| {
            let stdout = start..end.clamp(start, all);
            start = stdout.end;
            StepOutcome {
                stdout,
                exception: step.exception,
                values: step.values,
                status: None,
            }
        };
        self.done.into_iter().map(cut).collect()
    }
}

fn ending_of(end: UnitEnd, steps: &mut Steps, read: usize) -> Ending {
    match end {
        UnitEnd::Completed { values } => {
            // Of most examples nothing is asked step by step.
            if !values.is_empty() {
                let rest = StepReport {
                    values,
                    ..StepReport::default()
                };
                steps.add(vec![rest], read);
            }
            Ending::Completed
        }
        UnitEnd::Raised(exception) => Ending::Raised(exception),
        UnitEnd::Exited { status } => Ending::Exited {
            status,
            orderly: true,
        },
    }
}

fn process_ending(end: ProcessEnd) -> Ending {
    match end {
        ProcessEnd::Exited { status, .. } => Ending::Exited {
            status,
            orderly: false,
        },
        ProcessEnd::Signaled { signal, .. } => Ending::Killed { signal },
        ProcessEnd::NotStarted { errno } => Ending::Lost {
            reason: format!(
                "its process could not be started: {}",
                io::Error::from_raw_os_error(errno)
            ),
        },
    }
}
