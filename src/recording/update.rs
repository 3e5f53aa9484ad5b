//! What recording does to a file. It is pure, because its laws are those of the format: the expectation for
//! the version that was run holds afterwards, those for other versions are as before, and doing it twice
//! changes nothing.

use pep440_rs::Version;

use super::{Expected, Overlay, Recorded, Variant, VersionSelector};
use crate::matching::{Matching, has_wildcards};
use crate::normalize::{Context, Rule, apply_bytes, float_digits};

/// One run of an example, for [`update`].
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    pub id: &'a str,
    pub normalize: &'a [Rule],
    pub unordered: bool,
    /// What it did, after the rules: see [`crate::compare::observed`].
    pub expected: &'a Expected,
    pub version: &'a Version,
    /// Whether this version is the one that the base is recorded with.
    pub is_base: bool,
}

/// What the file should say of an example after it has run once more.
///
/// With the base version the base becomes what was observed; variants stay unless that makes them say
/// nothing. With another version, a variant for its `major.minor` gets what differs from the base, and goes
/// when nothing does. A variant that already gives the right expectation, a range too, is left alone.
///
/// A stream whose old text matches what was observed keeps that text: it may have wildcards that somebody
/// wrote by hand, floats that agree, or lines in another order.
///
/// Equal variants of neighbouring versions are not merged into a range: the file would then depend on the
/// order in which versions were recorded, and a range claims versions that nobody ran.
pub fn update(recorded: Option<&Recorded>, run: &Observed) -> Recorded {
    let mut result = Recorded {
        id: run.id.to_owned(),
        normalize: run.normalize.to_vec(),
        unordered: run.unordered,
        ..Recorded::default()
    };
    let Some(recorded) = recorded else {
        // Whatever the version: an example that the base version cannot run has its base from another.
        result.expected = kept(&[], run);
        return result;
    };
    let before = recorded.expected_for(run.version);
    result.expected = recorded.expected.clone();
    result.variants.clone_from(&recorded.variants);
    let wanted = if run.is_base {
        let wanted = kept(&[&recorded.expected, &before], run);
        for variant in &mut result.variants {
            let overlay = &mut variant.expected;
            // A flag that the old base gave to the text of this variant must not change with the base.
            let literal = overlay.literal.unwrap_or(recorded.expected.literal);
            *overlay = overlay.without_what_equals(&wanted);
            overlay.literal =
                (overlay.has_wildcards() && literal != wanted.literal).then_some(literal);
        }
        result.expected = wanted.clone();
        wanted
    } else {
        kept(&[&before, &recorded.expected], run)
    };
    set_variant(&mut result, run.version, &wanted);
    result.drop_idle_variants();
    result
}

/// Makes `wanted` the expectation for `version` with a variant for its `major.minor`, or none if none is
/// needed.
fn set_variant(recorded: &mut Recorded, version: &Version, wanted: &Expected) {
    let minor = VersionSelector::minor(version);
    let place = recorded
        .variants
        .iter()
        .position(|variant| variant.versions == minor);
    if let Some(place) = place {
        recorded.variants.remove(place);
    }
    if recorded.expected_for(version) == *wanted {
        return;
    }
    let overlay = Overlay::between(&recorded.expected, wanted);
    // A variant for this very patch version goes before the one for the minor version: then it is the one
    // that has to change.
    if let Some(winner) = recorded.winner(version)
        && recorded.variants[winner].versions.is_narrower_than(&minor)
    {
        recorded.variants[winner].expected = overlay;
        return;
    }
    let variant = Variant {
        versions: minor,
        expected: overlay,
    };
    match place {
        Some(place) => recorded.variants.insert(place, variant),
        None => recorded.insert(variant),
    }
}

/// What was observed, with the text of the first of `candidates` that matches in each stream.
fn kept(candidates: &[&Expected], run: &Observed) -> Expected {
    let new = run.expected;
    let mut relies_on_wildcards = false;
    let mut keep = |text: &[u8], unordered: bool, stream: &dyn Fn(&Expected) -> Option<Vec<u8>>| {
        for candidate in candidates {
            let Some(old) = stream(candidate) else {
                continue;
            };
            let old = apply_bytes(run.normalize, &old, &Context::default());
            let matching = Matching {
                wildcards: !candidate.literal,
                digits: float_digits(run.normalize),
                unordered,
            };
            if matching.matches(&old, text) {
                relies_on_wildcards |= old != text && !candidate.literal && has_wildcards(&old);
                return old;
            }
        }
        text.to_vec()
    };
    let stdout = keep(&new.stdout, run.unordered, &|old| Some(old.stdout.clone()));
    let stderr = keep(&new.stderr, run.unordered, &|old| Some(old.stderr.clone()));
    let exception = new.exception.as_ref().map(|text| {
        let old = |old: &Expected| old.exception.clone().map(String::into_bytes);
        let bytes = keep(text.as_bytes(), false, &old);
        String::from_utf8(bytes).unwrap_or_else(|_| text.clone())
    });
    let literal = !relies_on_wildcards
        && (has_wildcards(&stdout)
            || has_wildcards(&stderr)
            || exception
                .as_ref()
                .is_some_and(|text| has_wildcards(text.as_bytes())));
    Expected {
        stdout,
        stderr,
        exception,
        exit: new.exit,
        artifacts: new.artifacts.clone(),
        literal,
    }
}
