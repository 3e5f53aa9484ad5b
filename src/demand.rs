//! What sessions ask of the host that runs them, as far as the sources of their examples say.
//!
//! A host imports modules once for all of its sessions (see `preload/` in `bin/verify-python/`). Which ones pay, and
//! which sessions could tell and so get a host without any, is read from the text before anything runs. It is
//! a guess either way: a module that is guessed wrongly costs the time to import it, and what would be a lie
//! is left to the host, which sees what really happens.

use std::collections::{BTreeMap, BTreeSet};

use crate::attributes::{Need, OwnLimits};
use crate::example::{Example, Kind};

/// What stands in a source.
enum Sign {
    /// A module that it imports.
    Import(&'static str),
    Text(&'static str),
}

/// What follows for its session.
enum Means {
    /// It looks at what only an interpreter without preloaded modules shows.
    Bare,
    /// It may change what an import depends on, so that only its own will do.
    Particular,
    /// It will import this, though no line of it says so.
    Imports(&'static str),
}

/// All that a source can say besides the modules that it imports.
const SIGNS: &[(Sign, Means)] = &[
    (Sign::Text("__subclasses__"), Means::Bare),
    (Sign::Text("get_objects"), Means::Bare),
    (Sign::Text("get_referrers"), Means::Bare),
    (Sign::Text("dispatch_table"), Means::Bare),
    // These count or time what is alive, which preloaded modules would add to.
    (Sign::Import("gc"), Means::Bare),
    (Sign::Import("tracemalloc"), Means::Bare),
    (Sign::Text("os.environ["), Means::Particular),
    (Sign::Text("os.putenv"), Means::Particular),
    (Sign::Text("sys.path."), Means::Particular),
    (Sign::Text("sys.path["), Means::Particular),
    (Sign::Text("sys.meta_path"), Means::Particular),
    (Sign::Text("sys.path_hooks"), Means::Particular),
    // Not `collections` imports it, but the method when it is called.
    (Sign::Text(".most_common("), Means::Imports("heapq")),
];

/// Standard library modules whose import does nothing but define things, so that a session cannot tell
/// whether it was done for it alone. What is not named here is imported by each session itself.
const PRELOADABLE: &[&str] = &[
    "abc",
    "argparse",
    "array",
    "ast",
    "asyncio",
    "base64",
    "bisect",
    "calendar",
    "collections",
    "collections.abc",
    "concurrent.futures",
    "configparser",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "dis",
    "enum",
    "fnmatch",
    "fractions",
    "functools",
    "glob",
    "graphlib",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "keyword",
    "linecache",
    "logging",
    "math",
    "numbers",
    "operator",
    "pathlib",
    "pickle",
    "pprint",
    "queue",
    "random",
    "re",
    "reprlib",
    "secrets",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "statistics",
    "string",
    "struct",
    "subprocess",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "timeit",
    "tokenize",
    "traceback",
    "types",
    "typing",
    "unittest",
    "unittest.mock",
    "urllib.parse",
    "uuid",
    "weakref",
];

/// What is looked at when a package is imported for several sessions, and so has to be there before.
pub const BELOW_PACKAGES: [&str; 2] = ["random", "warnings"];

/// Bytes of source below which a session costs more to make and to end than to compile and to run.
const SHORT: usize = 2 * 1024;

/// What one session asks for.
#[derive(Debug, Default)]
pub struct Demand<'a> {
    /// Modules that it seems to import, as they are written.
    pub imports: BTreeSet<&'a str>,
    /// Whether it could tell that modules have been imported before.
    pub is_bare: bool,
    /// Whether its imports of packages seem to depend on what it does before.
    pub is_particular: bool,
    /// Whether little of its time goes to its examples.
    pub is_short: bool,
    /// What its examples say that they need.
    pub needs: Vec<&'a Need>,
    /// What its examples may use up, where they say so.
    pub limits: OwnLimits,
}

impl<'a> Demand<'a> {
    pub fn of(examples: impl IntoIterator<Item = &'a Example>) -> Demand<'a> {
        let mut demand = Demand::default();
        let mut sources = Vec::new();
        for example in examples {
            demand.imports.extend(imports(example.source()));
            // To say what an exception was.
            if example.attributes.raises.is_some() || matches!(example.kind, Kind::Transcript(_)) {
                demand.imports.insert("traceback");
            }
            demand.is_particular |= !example.attributes.env.is_empty();
            demand.needs.extend(&example.attributes.requires);
            demand.limits = demand.limits.shared(example.attributes.limits);
            sources.push(example.source());
        }
        demand.read_signs(&sources);
        demand.is_short = sources.iter().map(|source| source.len()).sum::<usize>() < SHORT;
        demand
    }

    fn read_signs(&mut self, sources: &[&str]) {
        for (sign, means) in SIGNS {
            let stands = match sign {
                Sign::Text(text) => sources.iter().any(|source| source.contains(text)),
                Sign::Import(name) => self.imports.contains(name),
            };
            match means {
                Means::Bare if stands => self.is_bare = true,
                Means::Particular if stands => self.is_particular = true,
                Means::Imports(name) if stands => drop(self.imports.insert(name)),
                _ => {}
            }
        }
    }
}

/// The largest limits that one of these sessions asks for.
pub fn shared_limits(demands: &[Demand<'_>]) -> OwnLimits {
    let all = demands.iter().map(|demand| demand.limits);
    all.fold(OwnLimits::default(), OwnLimits::shared)
}

/// Standard library modules that more than one of these sessions imports: one that a single session imports costs
/// the same wherever that is done.
pub fn shared_modules(demands: &[Demand<'_>]) -> Vec<String> {
    let mut importers: BTreeMap<&str, usize> = BTreeMap::new();
    for name in demands
        .iter()
        .filter(|demand| !demand.is_bare)
        .flat_map(|demand| &demand.imports)
    {
        *importers.entry(name).or_default() += 1;
    }
    importers
        .into_iter()
        .filter(|(name, sessions)| *sessions > 1 && PRELOADABLE.contains(name))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Names behind `import` and `from` at the start of lines.
fn imports(source: &str) -> impl Iterator<Item = &str> {
    source.lines().flat_map(|line| {
        let line = line.trim_start().trim_start_matches(">>> ");
        let (list, several) = match (line.strip_prefix("import "), line.strip_prefix("from ")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => ("", false),
        };
        list.split(',')
            .take(if several { usize::MAX } else { 1 })
            .filter_map(|name| name.split_whitespace().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(source: &str) -> Vec<Example> {
        let page = format!("```python\n{source}```\n");
        crate::example::read(&page, "page").0.examples
    }

    fn shared(pages: &[&str]) -> Vec<String> {
        let pages: Vec<Vec<Example>> = pages.iter().map(|page| examples(page)).collect();
        let demands: Vec<Demand<'_>> = pages.iter().map(Demand::of).collect();
        shared_modules(&demands)
    }

    #[test]
    fn what_two_sessions_import_is_shared() {
        let (json, both) = ("import json\n", "from re import match\nimport json, math\n");
        assert_eq!(shared(&[json]), [""; 0]);
        assert_eq!(shared(&[json, both]), ["json"]);
        assert_eq!(shared(&[both, both]), ["json", "math", "re"]);
        assert_eq!(shared(&["import antigravity\n"; 2]), [""; 0]);
        let call = "print(counts.most_common(3))\n";
        assert_eq!(shared(&[call, call]), ["heapq"]);
    }

    #[test]
    fn who_looks_inside_shares_nothing() {
        let looks = "import gc\nimport json\n";
        assert!(Demand::of(&examples(looks)).is_bare);
        assert_eq!(shared(&[looks, looks]), [""; 0]);
        for source in ["print(int.__subclasses__())\n", "    import tracemalloc\n"] {
            assert!(Demand::of(&examples(source)).is_bare, "{source}");
        }
        assert!(!Demand::of(&examples("import json\n")).is_bare);
    }

    #[test]
    fn who_changes_what_imports_depend_on_imports_packages_for_itself() {
        let is_particular = |source: &str| Demand::of(&examples(source)).is_particular;
        assert!(is_particular("import os\nos.environ['A'] = '1'\n"));
        assert!(is_particular("import sys\nsys.path.insert(0, 'lib')\n"));
        assert!(!is_particular(
            "import os.path\nprint(os.path.join('a', 'b'))\n"
        ));
    }
}
