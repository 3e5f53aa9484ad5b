//! What `--python` asks for: a version or part of one, or a path.
//!
//! Versions are read as PEP 440 has them, so that a pre-release can be asked for by its name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use pep440_rs::Version;

use super::OLDEST;
use super::facts::Facts;

/// What `--python` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Version(VersionRequest),
    /// A Python's file, an environment's folder, or a bare name to look up on `PATH`.
    Path(PathBuf),
}

/// `3`, `3.12`, `3.12.1` or `3.15.0a2`: the parts that are left out may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRequest(Version);

impl Request {
    /// Never fails: what is no version is a path, and whether that exists is for [`discover`](super::discover) to say.
    /// A file that is named like a version is meant by `./3.12`.
    pub fn parse(text: &str) -> Self {
        VersionRequest::parse(text).map_or_else(|| Self::Path(PathBuf::from(text)), Self::Version)
    }
}

impl FromStr for Request {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(out),
            Self::Path(path) => path.display().fmt(out),
        }
    }
}

impl VersionRequest {
    pub(super) fn parse(text: &str) -> Option<Self> {
        // PEP 440 reads `v3.12` and ` 3.12` too, which nobody writes for a Python.
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let version = Version::from_str(text).ok()?;
        let plain =
            !version.is_post() && !version.is_dev() && !version.is_local() && version.epoch() == 0;
        let parts = version.release();
        let small = parts.len() <= 3 && parts.iter().all(|&part| u8::try_from(part).is_ok());
        (plain && small).then_some(Self(version))
    }

    pub(super) fn accepts(&self, facts: &Facts) -> bool {
        if self.is_exact() {
            return facts.ordered_version() == self.0;
        }
        let (major, minor, _) = facts.version;
        self.may_be((major, minor))
    }

    /// Whether a Python of this minor version is worth asking.
    pub(super) fn may_be(&self, minor_version: (u8, u8)) -> bool {
        let has = [u64::from(minor_version.0), u64::from(minor_version.1)];
        self.0
            .release()
            .iter()
            .take(2)
            .zip(has)
            .all(|(&wanted, has)| wanted == has)
    }

    fn is_exact(&self) -> bool {
        self.0.release().len() == 3 || self.0.is_pre()
    }

    pub(super) fn is_too_old(&self) -> bool {
        match *self.0.release() {
            [major] => major < u64::from(OLDEST.0),
            [major, minor, ..] => (major, minor) < (u64::from(OLDEST.0), u64::from(OLDEST.1)),
            [] => false,
        }
    }
}

impl fmt::Display for VersionRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::interpreter::tests::Fake;

    #[test]
    fn requests() {
        fn check(text: &str, expected: Option<&str>) {
            match (Request::parse(text), expected) {
                (Request::Version(version), Some(expected)) => {
                    assert_eq!(version.to_string(), expected, "{text}");
                }
                (Request::Path(path), None) => assert_eq!(path, Path::new(text)),
                (request, _) => panic!("{text} is {request:?}"),
            }
        }
        check("3", Some("3"));
        check("3.12", Some("3.12"));
        check("3.12.1", Some("3.12.1"));
        check("3.15.0a2", Some("3.15.0a2"));
        check("3.15.0rc1", Some("3.15.0rc1"));
        check("3.13t", None);
        check("3.x", None);
        check("3.12.1.1", None);
        check("3.1200", None);
        check("", None);
        check("v3.12", None);
        check("./3.12", None);
        check("python3.12", None);
        check(".venv", None);
        check("/usr/bin/python3", None);
    }

    #[test]
    fn what_a_version_request_accepts() {
        #[track_caller]
        fn check(request: &str, version: (u8, u8, u8), full: &str, expected: bool) {
            let Request::Version(request) = Request::parse(request) else {
                panic!("{request}")
            };
            let facts = Facts {
                version,
                full_version: full.to_owned(),
                ..Fake::new().facts()
            };
            assert_eq!(request.accepts(&facts), expected);
        }
        check("3", (3, 12, 1), "3.12.1", true);
        check("2", (3, 12, 1), "3.12.1", false);
        check("3.1", (3, 12, 1), "3.12.1", false);
        check("3.12", (3, 12, 1), "3.12.1", true);
        check("3.12.1", (3, 12, 1), "3.12.1", true);
        check("3.12.1", (3, 12, 10), "3.12.10", false);
        check("3.15", (3, 15, 0), "3.15.0a2", true);
        check("3.15.0", (3, 15, 0), "3.15.0a2", false);
        check("3.15.0a2", (3, 15, 0), "3.15.0a2", true);
        check("3.15.0a2", (3, 15, 0), "3.15.0b1", false);
    }
}
