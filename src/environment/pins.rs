//! What a requirements file and those that it takes in say, as far as it has to be known here: their text,
//! by which environments are told apart, and how many packages they name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::Error;

/// What the requirements say, with all files that they take in.
#[derive(Debug)]
pub(super) struct Pins {
    pub(super) requirements: PathBuf,
    /// Name and text of each, in order of appearance.
    pub(super) files: Vec<(String, String)>,
    pub(super) packages: usize,
}

/// How one requirements file takes in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inclusion {
    Requirements,
    /// Limits versions and installs nothing.
    Constraints,
}

impl Pins {
    pub(super) fn read(requirements: &Path, root: &Path) -> Result<Self, Error> {
        let mut pins = Self {
            requirements: requirements.to_path_buf(),
            files: Vec::new(),
            packages: 0,
        };
        pins.take_in(
            requirements,
            Inclusion::Requirements,
            None,
            root,
            &mut BTreeSet::new(),
        )?;
        Ok(pins)
    }

    fn take_in(
        &mut self,
        file: &Path,
        inclusion: Inclusion,
        named_at: Option<(PathBuf, usize)>,
        root: &Path,
        seen: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        // Files may name each other in a circle, by a longer path each time.
        if !seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf())) {
            return Ok(());
        }
        let bytes = fs::read(file).map_err(|error| Error::Unreadable {
            file: file.to_path_buf(),
            named_at,
            error,
        })?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let name = file
            .strip_prefix(root)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned();
        // `pyproject.toml` and `pylock.toml` are uv's to read: they take nothing in by lines.
        let is_lines = file.extension() != Some(OsStr::new("toml"));
        self.files.push((name, text.clone()));
        for (line, text) in logical_lines(&text).into_iter().filter(|_| is_lines) {
            if let Some((kind, path)) = included(&text) {
                if is_local(path) {
                    let path = file.parent().unwrap_or(root).join(path);
                    let kind = if inclusion == Inclusion::Constraints {
                        inclusion
                    } else {
                        kind
                    };
                    self.take_in(&path, kind, Some((file.to_path_buf(), line)), root, seen)?;
                }
            } else if inclusion == Inclusion::Requirements && is_package(&text) {
                self.packages += 1;
            }
        }
        Ok(())
    }
}

/// Lines with their numbers, those that end in a backslash joined, without comments and empty ones.
/// <https://pip.pypa.io/en/stable/reference/requirements-file-format/>
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut is_continued = false;
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        // A line that is a comment goes on in no other, and ends the one before it.
        let is_comment = line.trim_start().starts_with('#');
        let continued = line.strip_suffix('\\').filter(|_| !is_comment);
        let (line, goes_on) = continued.map_or((line, false), |line| (line, true));
        match lines.last_mut() {
            Some(_) if is_continued && is_comment => {}
            Some((_, last)) if is_continued => last.push_str(line),
            _ => lines.push((at + 1, line.to_owned())),
        }
        is_continued = goes_on;
    }
    for (_, line) in &mut lines {
        // A `#` inside a word belongs to a URL.
        let comment = line
            .match_indices('#')
            .find(|(at, _)| line[..*at].chars().last().is_none_or(char::is_whitespace));
        let end = comment.map_or(line.len(), |(at, _)| at);
        *line = line[..end].trim().to_owned();
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

/// What a line takes in: `-r other.txt`, `-rother.txt`, `--requirement=other.txt`; `-c` likewise.
fn included(line: &str) -> Option<(Inclusion, &str)> {
    let forms = [
        ("--requirement", Inclusion::Requirements),
        ("-r", Inclusion::Requirements),
        ("--constraint", Inclusion::Constraints),
        ("-c", Inclusion::Constraints),
    ];
    forms.into_iter().find_map(|(option, inclusion)| {
        let rest = line.strip_prefix(option)?;
        let is_long = option.starts_with("--");
        if is_long && !rest.starts_with(|next: char| next == '=' || next.is_whitespace()) {
            return None;
        }
        let path = rest.trim_start().trim_start_matches('=').trim();
        Some((inclusion, path.trim_matches(['"', '\''])))
    })
}

/// Whether it can be read without the network and without pip's own expansion of variables.
fn is_local(path: &str) -> bool {
    !path.is_empty() && !path.contains("://") && !path.contains("${")
}

fn is_package(line: &str) -> bool {
    !line.starts_with('-') || line.starts_with("-e") || line.starts_with("--editable")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::Project;

    #[test]
    fn lines_of_a_requirements_file() {
        #[track_caller]
        fn check(text: &str, expected: &[(usize, &str)]) {
            let expected: Vec<_> = expected
                .iter()
                .map(|(at, line)| (*at, (*line).to_owned()))
                .collect();
            assert_eq!(logical_lines(text), expected);
        }
        check("six\n", &[(1, "six")]);
        check("\u{feff}six\r\n\r\nattrs\r\n", &[(1, "six"), (3, "attrs")]);
        check("# nothing\nsix # why\n  # more\n", &[(2, "six")]);
        check(
            "six==1 \\\n  --hash=sha256:1 \\\n  --hash=sha256:2\nattrs",
            &[
                (1, "six==1   --hash=sha256:1   --hash=sha256:2"),
                (4, "attrs"),
            ],
        );
        check(
            "pkg @ https://host/x.whl#sha256=1 # why",
            &[(1, "pkg @ https://host/x.whl#sha256=1")],
        );
        check(
            "# old pins \\\n-r more.txt\nsix \\\n# why\n\\\nattrs",
            &[(2, "-r more.txt"), (3, "six"), (5, "attrs")],
        );
        check("", &[]);
    }

    #[test]
    fn what_a_line_takes_in() {
        #[track_caller]
        fn check(line: &str, expected: Option<(Inclusion, &str)>) {
            assert_eq!(included(line), expected, "{line}");
        }
        check("-r base.txt", Some((Inclusion::Requirements, "base.txt")));
        check("-rbase.txt", Some((Inclusion::Requirements, "base.txt")));
        check(
            "-r 'my base.txt'",
            Some((Inclusion::Requirements, "my base.txt")),
        );
        check(
            "--requirement base.txt",
            Some((Inclusion::Requirements, "base.txt")),
        );
        check(
            "--requirement=base.txt",
            Some((Inclusion::Requirements, "base.txt")),
        );
        check(
            "-c limits.txt",
            Some((Inclusion::Constraints, "limits.txt")),
        );
        check(
            "--constraint limits.txt",
            Some((Inclusion::Constraints, "limits.txt")),
        );
        check("requests", None);
        check("--require-hashes", None);
        check("-e .", None);
    }

    #[test]
    fn all_files_are_read_once_and_their_packages_counted() {
        let project = Project::new(&[
            (
                "requirements.txt",
                "-r sub/more.txt\n-c limits.txt\n-r https://host/far.txt\n-r ${HERE}/x.txt\nsix\n-i https://host\n-e .\n",
            ),
            (
                "sub/more.txt",
                "attrs; python_version >= '3.11'\n-r ../requirements.txt\n-r last.txt\n",
            ),
            ("sub/last.txt", "idna\n"),
            ("limits.txt", "six<2\nattrs<99\n-r limits2.txt\n"),
            ("limits2.txt", "idna<99\n"),
        ]);
        let pins = project.pins().unwrap();
        assert_eq!(pins.packages, 4);
        let names: Vec<_> = pins.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "requirements.txt",
                "sub/more.txt",
                "sub/last.txt",
                "limits.txt",
                "limits2.txt"
            ]
        );
    }

    #[test]
    fn a_missing_file_is_named_with_the_line_that_asks_for_it() {
        let project = Project::new(&[("requirements.txt", "six\n-r gone.txt\n")]);
        let root = project.root();
        let message = project
            .pins()
            .unwrap_err()
            .to_string()
            .replace(root.to_str().unwrap(), "ROOT");
        let system = "the system says `No such file or directory (os error 2)`";
        assert_eq!(
            message,
            format!(
                "`ROOT/gone.txt` cannot be read, {system}: write it, or correct `ROOT/requirements.txt`:2"
            )
        );
        fs::remove_file(root.join("requirements.txt")).unwrap();
        let message = project
            .pins()
            .unwrap_err()
            .to_string()
            .replace(root.to_str().unwrap(), "ROOT");
        assert_eq!(
            message,
            format!(
                "`ROOT/requirements.txt` cannot be read, {system}: write it, or correct `requirements` in `verify.toml`"
            )
        );
    }
}
