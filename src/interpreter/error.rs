//! Why there is no Python to run on, in messages that end with the way out: where another Python would do, they
//! name those that this machine has.

use std::fmt;
use std::path::PathBuf;

use super::OLDEST;

/// Why there is no Python to run on.
#[derive(Debug)]
pub enum Error {
    /// Nothing answers to what was asked for.
    NotFound { wanted: String, others: Others },
    /// Older than the stable ABI that the host is built for.
    TooOld {
        version: String,
        executable: Option<PathBuf>,
        others: Others,
    },
    /// PyPy, GraalPy and their like: they have no libpython to embed.
    NotCPython {
        implementation: String,
        executable: PathBuf,
        others: Others,
    },
    /// A static build: nothing to preload.
    NoSharedLibrary {
        version: String,
        executable: PathBuf,
    },
    /// A build without the GIL, whose ABI is another one.
    FreeThreaded { wanted: String, others: Others },
    /// Started, and did not say what it is.
    ProbeFailed {
        executable: PathBuf,
        how: String,
        printed: String,
    },
    /// Could not be started at all.
    NotExecutable { executable: PathBuf, reason: String },
}

/// The usable Pythons of this machine, as an error offers them: version and file.
#[derive(Debug, Default)]
pub struct Others(pub Vec<(String, PathBuf)>);

impl fmt::Display for Others {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("install one, such as with `uv python install 3.13`");
        }
        out.write_str("pass one that is here, such as ")?;
        for (at, (version, executable)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(
                out,
                "{comma}`--python {version}` (`{}`)",
                executable.display()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = OLDEST;
        match self {
            Self::NotFound { wanted, others } => {
                write!(out, "no python found for {wanted}: {others}")?;
                if others.0.is_empty() {
                    return Ok(());
                }
                out.write_str(", or install another with `uv python install`")
            }
            Self::TooOld {
                version,
                executable,
                others,
            } => {
                write!(out, "python `{version}`")?;
                if let Some(executable) = executable {
                    write!(out, " (`{}`)", executable.display())?;
                }
                write!(
                    out,
                    " is too old, examples need {major}.{minor} or newer: {others}"
                )
            }
            Self::NotCPython {
                implementation,
                executable,
                others,
            } => write!(
                out,
                "`{}` is `{implementation}`, and only `cpython` can be embedded: {others}",
                executable.display()
            ),
            Self::NoSharedLibrary {
                version,
                executable,
            } => {
                let short = version
                    .rsplit_once('.')
                    .map_or(version.as_str(), |(short, _)| short);
                write!(
                    out,
                    "python `{version}` (`{}`) has no shared `libpython{short}` to embed: \
                     with pyenv, build it again by `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {version}`; \
                     on Debian, `apt install libpython{short}`; \
                     or take one that always has it, by `uv python install {short}`",
                    executable.display()
                )
            }
            Self::FreeThreaded { wanted, others } => write!(
                out,
                "python `{wanted}` is a free-threaded build, which does not load the stable ABI (abi3) that examples run on: {others}"
            ),
            Self::ProbeFailed {
                executable,
                how,
                printed,
            } => {
                write!(
                    out,
                    "`{}` does not answer as a python does, it {how}",
                    executable.display()
                )?;
                if printed.is_empty() {
                    out.write_str(" and printed nothing")?;
                } else {
                    write!(out, " and printed `{printed}`")?;
                }
                out.write_str(": repair it, or name another with `--python`")
            }
            Self::NotExecutable { executable, reason } => write!(
                out,
                "`{}` cannot be started, {reason}: make the environment again, or name another python with `--python`",
                executable.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether the message gains by naming the Pythons that would do; finding those takes time.
    pub(super) fn others(&mut self) -> Option<&mut Others> {
        match self {
            Self::NotFound { others, .. }
            | Self::TooOld { others, .. }
            | Self::NotCPython { others, .. }
            | Self::FreeThreaded { others, .. } => Some(others),
            Self::NoSharedLibrary { .. }
            | Self::ProbeFailed { .. }
            | Self::NotExecutable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::interpreter::tests::Fake;

    #[test]
    fn refusals_say_what_to_do() {
        #[track_caller]
        fn check(changes: &[(&str, &str)], start: &str, way_out: &str) {
            let fake = Fake::new();
            fake.answers(changes);
            let message = fake.refusal(fake.root().to_str().unwrap());
            assert!(message.starts_with(start), "{message}");
            assert!(message.contains(way_out), "{message}");
            assert!(!message.ends_with('.'), "{message}");
        }
        let install = "one";
        check(
            &[("\"cpython\"", "\"pypy\"")],
            "`ROOT/bin/python` is `pypy`, and only `cpython` can be embedded: ",
            install,
        );
        check(
            &[("[3, 12, 9]", "[3, 9, 9]")],
            "python `3.12.9` (`ROOT/bin/python`) is too old, examples need 3.10 or newer: ",
            install,
        );
        check(
            &[("\"free_threaded\": false", "\"free_threaded\": true")],
            "python `ROOT/bin/python` is a free-threaded build",
            "(abi3)",
        );
        check(
            &[
                ("[3, 12, 9]", "[3, 14, 9]"),
                ("[\"libpython3.12.so.1.0\"]", "[\"libpython3.14.a\"]"),
            ],
            "python `3.12.9` (`ROOT/bin/python`) has no shared `libpython3.12` to embed: ",
            "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force 3.12.9",
        );
    }
}
