//! The flags of `doctest` and pytest, their names, and how a statement's directives change them.

use std::fmt;
use std::ops::BitOr;

/// A set of `doctest`'s option flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

/// How a statement's directives change the flags that hold around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub on: Flags,
    pub off: Flags,
}

/// A name that neither `doctest` nor pytest gives to a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFlag {
    pub name: String,
    pub nearest: Option<&'static str>,
}

impl Flags {
    pub const DONT_ACCEPT_TRUE_FOR_1: Self = Self(1 << 0);
    pub const DONT_ACCEPT_BLANKLINE: Self = Self(1 << 1);
    pub const NORMALIZE_WHITESPACE: Self = Self(1 << 2);
    pub const ELLIPSIS: Self = Self(1 << 3);
    pub const SKIP: Self = Self(1 << 4);
    pub const IGNORE_EXCEPTION_DETAIL: Self = Self(1 << 5);
    /// pytest's: numbers need to agree only to the precision that the want is written in.
    pub const NUMBER: Self = Self(1 << 6);
    /// pytest's: `u'…'` equals `'…'`.
    pub const ALLOW_UNICODE: Self = Self(1 << 7);
    /// pytest's: `b'…'` equals `'…'`.
    pub const ALLOW_BYTES: Self = Self(1 << 8);

    /// Every name that a directive or a configuration may use. The last five choose how `doctest`
    /// prints a failure: pages that carry them stay valid, but a failure is reported our way.
    pub(super) const NAMED: [(&'static str, Self); 14] = [
        ("DONT_ACCEPT_TRUE_FOR_1", Self::DONT_ACCEPT_TRUE_FOR_1),
        ("DONT_ACCEPT_BLANKLINE", Self::DONT_ACCEPT_BLANKLINE),
        ("NORMALIZE_WHITESPACE", Self::NORMALIZE_WHITESPACE),
        ("ELLIPSIS", Self::ELLIPSIS),
        ("SKIP", Self::SKIP),
        ("IGNORE_EXCEPTION_DETAIL", Self::IGNORE_EXCEPTION_DETAIL),
        ("NUMBER", Self::NUMBER),
        ("ALLOW_UNICODE", Self::ALLOW_UNICODE),
        ("ALLOW_BYTES", Self::ALLOW_BYTES),
        ("REPORT_UDIFF", Self(1 << 9)),
        ("REPORT_CDIFF", Self(1 << 10)),
        ("REPORT_NDIFF", Self(1 << 11)),
        ("REPORT_ONLY_FIRST_FAILURE", Self(1 << 12)),
        ("FAIL_FAST", Self(1 << 13)),
    ];

    /// The flag of this name, as a set of one.
    pub fn parse(name: &str) -> Result<Self, UnknownFlag> {
        Self::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, flag)| *flag)
            .ok_or_else(|| UnknownFlag {
                name: name.to_owned(),
                nearest: Self::nearest(name),
            })
    }

    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// The name that shares at least half of its letters with a misspelt one.
    fn nearest(name: &str) -> Option<&'static str> {
        let name = name.to_ascii_uppercase();
        Self::NAMED
            .iter()
            .map(|(known, _)| (strsim::normalized_damerau_levenshtein(known, &name), *known))
            .filter(|(similarity, _)| *similarity >= 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Options {
    /// The flags that hold for a statement with these options where `base` holds around it.
    pub fn apply(self, base: Flags) -> Flags {
        (base | self.on).without(self.off)
    }

    pub fn is_empty(self) -> bool {
        self.on.is_empty() && self.off.is_empty()
    }

    /// Adds `+NAME` or `-NAME`; the last word on a flag holds.
    pub(super) fn add(&mut self, word: &str) -> Result<(), String> {
        let (on, name) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(name), _) => (true, name),
            (_, Some(name)) => (false, name),
            _ => {
                let known = match Flags::parse(word) {
                    Ok(_) => Some(word),
                    Err(unknown) => unknown.nearest,
                };
                return Err(match known {
                    Some(name) => {
                        format!("option `{word}` without a sign; write `+{name}` or `-{name}`")
                    }
                    None => format!(
                        "`{word}` is no doctest option; write options as `+NAME` or `-NAME`"
                    ),
                });
            }
        };
        let flag = Flags::parse(name).map_err(|unknown| unknown.to_string())?;
        let (set, cleared) = if on {
            (&mut self.on, &mut self.off)
        } else {
            (&mut self.off, &mut self.on)
        };
        *set = *set | flag;
        *cleared = cleared.without(flag);
        Ok(())
    }
}

impl fmt::Display for UnknownFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown doctest option `{}`", self.name)?;
        if let Some(nearest) = self.nearest {
            return write!(f, "; did you mean `{nearest}`?");
        }
        f.write_str("; there are")?;
        for (at, (known, _)) in Flags::NAMED.iter().enumerate() {
            write!(f, "{} `{known}`", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFlag {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_unknown(name: &str, expected: &str) {
        assert_eq!(Flags::parse(name).unwrap_err().to_string(), expected);
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        check_unknown(
            "ELIPSIS",
            "unknown doctest option `ELIPSIS`; did you mean `ELLIPSIS`?",
        );
        check_unknown(
            "skip",
            "unknown doctest option `skip`; did you mean `SKIP`?",
        );
        check_unknown(
            "NORMALISE_WHITESPACES",
            "unknown doctest option `NORMALISE_WHITESPACES`; did you mean `NORMALIZE_WHITESPACE`?",
        );
        check_unknown(
            "X",
            "unknown doctest option `X`; there are `DONT_ACCEPT_TRUE_FOR_1`, `DONT_ACCEPT_BLANKLINE`, \
             `NORMALIZE_WHITESPACE`, `ELLIPSIS`, `SKIP`, `IGNORE_EXCEPTION_DETAIL`, `NUMBER`, \
             `ALLOW_UNICODE`, `ALLOW_BYTES`, `REPORT_UDIFF`, `REPORT_CDIFF`, `REPORT_NDIFF`, \
             `REPORT_ONLY_FIRST_FAILURE`, `FAIL_FAST`",
        );
    }
}
