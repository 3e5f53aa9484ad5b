//! The circumstances of a run. A check has always the same; proving and shaking vary them, to find the
//! outputs that depend on what a reader's machine decides.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

/// Something that differs between machines, or between one run and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Factor {
    /// The seed of string hashes, and with it the order of sets.
    HashSeed,
    /// Where objects lie in memory.
    Layout,
    /// How many processors there are.
    Processors,
    /// Whether other work keeps the processors busy.
    Load,
    /// The file system of the scratch directory, which decides in which order directories are listed.
    FileSystem,
    /// Another second, and the next day in local time. Every session has UTC, so a zone of that name which
    /// is a day ahead shows what reads the clock and leaves the clock itself alone.
    Clock,
    TimeZone,
    Width,
    Locale,
}

impl Factor {
    /// In words, to stand behind `with`.
    pub fn words(self) -> &'static str {
        match self {
            Factor::HashSeed => "another hash seed",
            Factor::Layout => "objects elsewhere in memory",
            Factor::Processors => "one processor",
            Factor::Load => "a busy processor",
            Factor::FileSystem => "another file system",
            Factor::Clock => "a later clock",
            Factor::TimeZone => "another time zone",
            Factor::Width => "another terminal width",
            Factor::Locale => "another locale",
        }
    }

    /// What differs from machine to machine although every session has the same environment.
    pub const ALWAYS: [Factor; 6] = [
        // Every other factor moves objects too, by what it takes to vary it.
        Factor::Layout,
        Factor::HashSeed,
        Factor::Processors,
        Factor::Load,
        Factor::FileSystem,
        Factor::Clock,
    ];

    /// What the environment fixes for every session, such that only a reader's own terminal shows it.
    pub const PORTABLE: [Factor; 3] = [Factor::TimeZone, Factor::Width, Factor::Locale];
}

/// What is varied in a run, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Empty: as every check.
    pub varied: Vec<Factor>,
    /// Another number, other hashes and places.
    pub seed: u32,
}

impl Conditions {
    /// Everything at once, for the run of this number, from 1.
    pub fn all(number: u32, portable: bool) -> Conditions {
        let mut varied = Factor::ALWAYS.to_vec();
        if portable {
            varied.extend(Factor::PORTABLE);
        }
        // Every other run has the machine to itself.
        if number.is_multiple_of(2) {
            varied.retain(|factor| !matches!(factor, Factor::Processors | Factor::Load));
        }
        Conditions {
            varied,
            seed: number,
        }
    }

    /// Another mixture for each number: what only shows on a quiet machine must not be drowned by load.
    pub fn mixed(number: u32, portable: bool) -> Conditions {
        let mut varied = Factor::ALWAYS.to_vec();
        if portable {
            varied.extend(Factor::PORTABLE);
        }
        let every = |factor: &Factor| match factor {
            Factor::HashSeed | Factor::Layout => 1,
            Factor::Processors | Factor::TimeZone | Factor::Width | Factor::Locale => 2,
            Factor::Load => 3,
            Factor::FileSystem => 4,
            Factor::Clock => 8,
        };
        varied.retain(|factor| number.is_multiple_of(every(factor)));
        Conditions {
            varied,
            seed: number,
        }
    }

    /// One factor as these conditions have it, the others as in every check.
    #[must_use]
    pub fn only(&self, factor: Factor) -> Conditions {
        Conditions {
            varied: vec![factor],
            seed: self.seed,
        }
    }

    pub fn varies(&self, factor: Factor) -> bool {
        self.varied.contains(&factor)
    }

    /// `PYTHONHASHSEED`.
    pub fn hash_seed(&self) -> u32 {
        if self.varies(Factor::HashSeed) {
            self.seed.wrapping_mul(7919)
        } else {
            0
        }
    }

    /// What is allocated before the first example, as a seed; 0 for nothing.
    pub fn layout(&self) -> u32 {
        if self.varies(Factor::Layout) {
            self.seed.wrapping_mul(104_729) | 1
        } else {
            0
        }
    }

    /// The one processor that sessions may use, and how many Python is told that there are.
    pub fn processors(&self) -> Option<(usize, usize)> {
        let told = 3 + self.seed as usize % 5;
        self.varies(Factor::Processors)
            .then(|| (own_processor(), told))
    }

    /// Variables in place of those that every session has.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
        if self.varies(Factor::TimeZone) {
            set("TZ", "XXX-5:45YYY-6:45,M3.2.0,M11.1.0");
        } else if self.varies(Factor::Clock) {
            set("TZ", "UTC-24");
        }
        if self.varies(Factor::Width) {
            set(
                "COLUMNS",
                if self.seed.is_multiple_of(2) {
                    "132"
                } else {
                    "40"
                },
            );
            set("LINES", "50");
        }
        if self.varies(Factor::Locale)
            && let Some(locale) = other_locale()
        {
            set("LC_ALL", &locale);
        }
        variables
    }

    /// Where scratch directories are to be made, each of which may come to hold this many bytes.
    pub fn scratch(&self, most: u64) -> PathBuf {
        let usual = in_memory(most).unwrap_or_else(temporary_directory);
        if self.varies(Factor::FileSystem) {
            other_file_system(&usual).unwrap_or(usual)
        } else {
            usual
        }
    }
}

/// Where temporary files go. An empty `TMPDIR` names no place, as Python has it.
pub fn temporary_directory() -> PathBuf {
    let named = std::env::temp_dir();
    if named.as_os_str().is_empty() {
        return PathBuf::from("/tmp");
    }
    named
}

/// Wherever [`Conditions::scratch`] may have led an earlier run.
pub fn scratch_places() -> Vec<PathBuf> {
    let mut places = vec![temporary_directory()];
    for place in OTHERS.map(PathBuf::from) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// One of the processors, another for each of several runs on one machine.
pub fn own_processor() -> usize {
    std::process::id() as usize
}

/// Keeps this thread, and the processes that it starts, to one of the processors that it may use.
pub fn keep_to_processor(number: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let Ok(usable) = sched_getaffinity(None) else {
            return;
        };
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&number| usable.is_set(number))
            .collect();
        let mut one = CpuSet::new();
        one.set(usable[number % usable.len()]);
        // Where this is forbidden nothing varies, which is no harm.
        let _ = sched_setaffinity(None, &one);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = number;
}

/// The file system in memory where it has room and users have not said where else to go. Making a file on a disk
/// costs more than most examples.
fn in_memory(most: u64) -> Option<PathBuf> {
    let place = PathBuf::from(MEMORY);
    let system = rustix::fs::statvfs(&place).ok()?;
    let has_room = system.f_bavail.saturating_mul(system.f_frsize) >= most;
    let runs_programs = !system.f_flag.contains(StatVfsMountFlags::NOEXEC);
    let is_chosen = std::env::var_os("TMPDIR").is_none_or(|place| place.is_empty());
    (is_chosen && has_room && runs_programs && is_writable(&place)).then_some(place)
}

const MEMORY: &str = "/dev/shm";

/// Directories that anybody may write to, besides the one that `TMPDIR` names.
const OTHERS: [&str; 3] = [MEMORY, "/tmp", "/var/tmp"];

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK).is_ok()
}

/// A directory that anybody may write to, on a file system of another kind than the usual one.
fn other_file_system(usual: &Path) -> Option<PathBuf> {
    let kind = |path: &Path| rustix::fs::statfs(path).ok().map(|found| found.f_type);
    let is_other = |path: &Path| kind(path).is_some_and(|found| Some(found) != kind(usual));
    OTHERS
        .map(PathBuf::from)
        .into_iter()
        .find(|path| is_other(path) && is_writable(path))
}

/// A locale of this machine that writes numbers and names as no English one does, else one that is no UTF-8.
fn other_locale() -> Option<String> {
    let listed = std::process::Command::new("locale")
        .arg("-a")
        .output()
        .ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let is_other = |name: &&str| {
        let name = name.to_ascii_lowercase();
        name.contains("utf") && !name.starts_with("c.") && !name.starts_with("en")
    };
    let found = listed.lines().find(is_other);
    Some(found.unwrap_or("POSIX").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_varies_nothing() {
        let usual = Conditions::default();
        assert_eq!((usual.hash_seed(), usual.layout()), (0, 0));
        assert_eq!(usual.processors(), None);
        assert_eq!(usual.environment(), []);
    }

    #[test]
    fn a_proof_has_another_file_system_and_a_full_one_is_not_chosen() {
        let usual = Conditions::default();
        let varied = usual.only(Factor::FileSystem);
        assert_eq!(varied.scratch(0).exists(), usual.scratch(0).exists());
        assert_eq!(usual.scratch(u64::MAX), temporary_directory());
        if let Some(other) = other_file_system(&usual.scratch(0)) {
            assert_eq!(varied.scratch(0), other);
        }
    }

    #[test]
    fn what_the_environment_fixes_is_varied_on_request_only() {
        assert!(!Conditions::all(1, false).varies(Factor::Width));
        assert!(Conditions::all(1, true).varies(Factor::Width));
    }

    #[test]
    fn shaking_tries_every_factor_alone_or_not() {
        for factor in Factor::ALWAYS {
            let tried: Vec<bool> = (1..=8)
                .map(|number| Conditions::mixed(number, false).varies(factor))
                .collect();
            assert!(tried.contains(&true), "{factor:?}");
        }
    }
}
