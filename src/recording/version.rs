//! Which versions of Python a variant is for.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use pep440_rs::{Version, VersionSpecifier, VersionSpecifiers};

/// The versions of Python that a variant is for: `3.13`, which stands for `==3.13.*`, or a PEP 440
/// specifier such as `>=3.13` or `>=3.11, <3.13`.
#[derive(Debug, Clone)]
pub struct VersionSelector {
    text: String,
    specifiers: VersionSpecifiers,
}

impl VersionSelector {
    /// `3.13` for any version of 3.13.
    pub fn minor(version: &Version) -> VersionSelector {
        let mut release = version.release().iter().copied();
        let major = release.next().unwrap_or_default();
        let minor = release.next().unwrap_or_default();
        VersionSelector::bare(Version::new([major, minor]))
    }

    fn bare(version: Version) -> VersionSelector {
        let text = version.to_string();
        let specifier = VersionSpecifier::equals_star_version(version);
        VersionSelector {
            text,
            specifiers: VersionSpecifiers::from(specifier),
        }
    }

    /// Whether the selector is for `version`. Only its release counts: 3.15.0rc1 is a 3.15 to whoever
    /// writes `>=3.15`, although PEP 440 sorts it before.
    pub fn matches(&self, version: &Version) -> bool {
        self.specifiers.contains(&version.only_release())
    }

    pub(super) fn is_bare(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_digit())
    }

    /// How many versions it matches, of those that Python could plausibly have.
    pub(super) fn width(&self) -> usize {
        let contains = |version: &&Version| self.specifiers.contains(version);
        PLAUSIBLE_VERSIONS.iter().filter(contains).count()
    }

    pub(super) fn is_narrower_than(&self, other: &VersionSelector) -> bool {
        self.width() < other.width()
    }

    pub(super) fn overlaps(&self, other: &VersionSelector) -> bool {
        let both =
            |version| self.specifiers.contains(version) && other.specifiers.contains(version);
        PLAUSIBLE_VERSIONS.iter().any(both)
    }
}

/// Selectors are compared by counting over these: simpler than interval arithmetic over all of PEP 440's
/// operators, and exact for any version that will exist while this program does.
static PLAUSIBLE_VERSIONS: LazyLock<Vec<Version>> = LazyLock::new(|| {
    let patches = |minor| (0..40).map(move |patch| Version::new([3, minor, patch]));
    (0..40).flat_map(patches).collect()
});

impl FromStr for VersionSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let problem = || {
            format!(
                "`{text}` selects no versions; write one such as `3.13`, or a PEP 440 specifier such as `>=3.13`"
            )
        };
        let bare = text
            .strip_prefix("==")
            .and_then(|text| text.trim().strip_suffix(".*"));
        if let Ok(version) = Version::from_str(bare.unwrap_or(text)) {
            let plain = version.only_release().to_string() == version.to_string();
            return if plain {
                Ok(VersionSelector::bare(version))
            } else {
                Err(problem())
            };
        }
        let specifiers = VersionSpecifiers::from_str(text).map_err(|_| problem())?;
        if specifiers.is_empty() {
            return Err(problem());
        }
        Ok(VersionSelector {
            text: specifiers.to_string(),
            specifiers,
        })
    }
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By text: PEP 440 takes 3.13 and 3.13.0 for the same version, but `==3.13.*` and `==3.13.0.*` differ.
impl PartialEq for VersionSelector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for VersionSelector {}
