//! A book of any size: pages of examples that each import ten modules, compute a little and print.
//!
//! The same sizes always give the same bytes. No example uses another's names, so that the baselines,
//! which know no sessions, can run them one by one.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What every example imports, as an author would write it.
const IMPORTS: &str = "\
import collections
import datetime
import functools
import itertools
import json
import math
import random
import re
import string
import textwrap
";

/// What the examples do, in turn; `SEED` differs from one to the next.
const BODIES: &[&str] = &[
    r#"
orders = json.loads('[{"item": "tea", "count": 2}, {"item": "rice", "count": SEED}]')
for order in orders:
    order["total"] = order["count"] * 3
print(json.dumps(orders, sort_keys=True))
print(math.isqrt(sum(order["total"] for order in orders)))
"#,
    r#"
text = "the cat and the dog SEED and the bird and the fish"
words = re.findall(r"[a-z]+", text)
for word, count in collections.Counter(words).most_common(3):
    print(f"{word:<5} {count}")
"#,
    r#"
start = datetime.date(2024, 1, 1) + datetime.timedelta(days=SEED)
print(start.isoformat(), start.strftime("%A"))
for line in textwrap.wrap("A week later it is " + str(start + datetime.timedelta(weeks=1)), 18):
    print(line)
"#,
    r"
@functools.lru_cache(maxsize=None)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


print([fibonacci(n) for n in range(SEED % 20 + 5)])
print(list(itertools.islice(itertools.accumulate(itertools.count(SEED)), 5)))
",
    r#"
class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError("an amount is positive")
        self.balance += amount
        return self


generator = random.Random(SEED)
owner = "".join(generator.choices(string.ascii_lowercase, k=6)).title()
account = Account(owner).deposit(generator.randrange(1, 1000))
try:
    account.deposit(-1)
except ValueError as error:
    print("refused:", error)
print(string.Template("$owner has $balance").substitute(vars(account)))
"#,
];

/// Examples of a book about two large packages, each for itself.
const PACKAGE_BODIES: &[&str] = &[
    r"
import numpy as np
import pandas as pd

counts = np.arange(SEED, SEED + 6).reshape(2, 3)
print(counts.sum(axis=0), counts.mean())
print(pd.Series(counts.ravel(), name='count').describe().round(2).to_dict())
",
    r"
import numpy as np
import pandas as pd

frame = pd.DataFrame({'item': list('abca'), 'count': np.arange(4) + SEED})
print(frame.groupby('item')['count'].sum().to_dict())
",
    r"
import numpy as np
import pandas as pd

days = pd.date_range('2024-01-01', periods=4, freq='D')
sold = pd.Series(np.linspace(0, SEED, 4), index=days)
print(sold.rolling(2).mean().dropna().round(3).tolist())
",
];

/// What the examples of a book use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Ten modules of the standard library.
    Library,
    /// numpy and pandas.
    Packages,
}

/// Where a generated book lies, and its examples as the baselines take them.
pub(crate) struct Corpus {
    pub(crate) root: PathBuf,
    pub(crate) examples: Vec<String>,
}

impl Corpus {
    /// Writes a book below `root`; `scope` is the `session` of its `verify.toml`.
    pub(crate) fn write(
        root: &Path,
        pages: usize,
        per_page: usize,
        scope: &str,
        subject: Subject,
    ) -> io::Result<Corpus> {
        let (imports, bodies) = match subject {
            Subject::Library => (IMPORTS, BODIES),
            Subject::Packages => ("", PACKAGE_BODIES),
        };
        fs::create_dir_all(root.join("pages"))?;
        fs::write(
            root.join("verify.toml"),
            format!("pages = [\"pages\"]\nsession = \"{scope}\"\n"),
        )?;
        let mut examples = Vec::with_capacity(pages * per_page);
        for page in 1..=pages {
            let mut text = format!("# Page {page}\n\nEvery example stands for itself.\n");
            for number in 1..=per_page {
                let seed = examples.len() + 1;
                let body = bodies[seed % bodies.len()].replace("SEED", &seed.to_string());
                let example = format!("{imports}{body}");
                let _ = write!(
                    text,
                    "\n## Part {number}\n\nSome prose, with `code` and a [link](https://example.org).\n\n```python\n{example}```\n"
                );
                examples.push(example);
            }
            fs::write(root.join(format!("pages/page-{page:04}.md")), text)?;
        }
        Ok(Corpus {
            root: root.to_owned(),
            examples,
        })
    }

    /// The same code with all examples of a page in one block: what a tool does between examples is gone.
    pub(crate) fn write_in_one_block(&self, root: &Path, per_page: usize) -> io::Result<Corpus> {
        fs::create_dir_all(root.join("pages"))?;
        fs::copy(self.root.join("verify.toml"), root.join("verify.toml"))?;
        let examples: Vec<String> = self
            .examples
            .chunks(per_page)
            .map(|examples| examples.join("\n"))
            .collect();
        for (page, example) in (1..).zip(&examples) {
            let text = format!("# Page {page}\n\n```python\n{example}```\n");
            fs::write(root.join(format!("pages/page-{page:04}.md")), text)?;
        }
        Ok(Corpus {
            root: root.to_owned(),
            examples,
        })
    }

    /// All examples in one file for `floor.py`.
    pub(crate) fn write_joined(&self) -> io::Result<PathBuf> {
        let file = self.root.join("joined");
        fs::write(&file, self.examples.join("\0"))?;
        Ok(file)
    }

    /// `count` examples, evenly spread, as files.
    pub(crate) fn write_sample(&self, count: usize) -> io::Result<Vec<PathBuf>> {
        let directory = self.root.join("sample");
        fs::create_dir_all(&directory)?;
        let step = (self.examples.len() / count).max(1);
        let sample = self.examples.iter().step_by(step).take(count).enumerate();
        sample
            .map(|(number, example)| {
                // The step is a multiple of the number of bodies more often than not: take each in turn.
                let file = directory.join(format!("example_{number}.py"));
                fs::write(&file, example)?;
                Ok(file)
            })
            .collect()
    }
}
