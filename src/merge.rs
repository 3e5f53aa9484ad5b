//! Reports of shards → the report of the run that they are parts of.
//!
//! The parts are `json` reports. Each says which shard of which plan it is, so that one that is missing,
//! is there twice or belongs to another run is noticed. What a report for people shows of a failure
//! besides stands on the pages, which are read again and must be as they were.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::book::{At, Book, Page};
use crate::config::Config;
use crate::interpreter::{Interpreter, Source};
use crate::outcome::{Ending, Outcome};
use crate::protocol::Protections;
use crate::report::json::FORMAT;
use crate::report::{
    Event, ExampleResult, Finished, PageResult, PageText, Shard, Started, Summary,
};
use crate::state::Durations;
use crate::verdict::Verdict;

/// The run of one shard on one interpreter.
struct Part {
    /// The file that tells of it.
    file: String,
    shard: Shard,
    run: RunLine,
    examples: Vec<ExampleLine>,
    summary: SummaryLine,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Problem { page: String, message: String },
    Run(Box<RunLine>),
    Example(Box<ExampleLine>),
    Summary(SummaryLine),
}

#[derive(Deserialize)]
struct RunLine {
    verify: String,
    python: String,
    executable: PathBuf,
    chosen_by: String,
    asked: Option<String>,
    examples: usize,
    sandbox: Option<SandboxLine>,
    shard: Option<Shard>,
}

#[derive(Deserialize)]
struct SandboxLine {
    files: ProtectionLine,
    network: ProtectionLine,
    processes: ProtectionLine,
    kernel: ProtectionLine,
}

#[derive(Deserialize)]
struct ProtectionLine {
    missing: Option<String>,
}

#[derive(Deserialize)]
struct ExampleLine {
    page: String,
    id: String,
    verdict: String,
    from_cache: bool,
    reason: Option<String>,
    unmet: Option<bool>,
    blocked_by: Option<String>,
    traceback: Option<String>,
    outcome: Option<OutcomeLine>,
    exact: Option<String>,
}

#[derive(Deserialize)]
struct OutcomeLine {
    stdout: String,
    stderr: String,
    seconds: f64,
}

#[derive(Deserialize)]
struct SummaryLine {
    /// How many examples got each verdict, by its word.
    counts: BTreeMap<String, usize>,
    orphans: Vec<Orphan>,
    stopped_early: bool,
    sessions: usize,
    sessions_from_cache: usize,
    seconds: f64,
}

#[derive(Deserialize)]
struct Orphan {
    file: String,
    id: Option<String>,
}

/// What a report begins with, whatever its format.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Runs that lack nothing, in the order of the first report.
pub struct Merged {
    runs: Vec<Vec<Part>>,
    book: Book,
}

/// What the merged runs come to.
pub struct Total {
    pub summary: Summary,
    pub orphaned: bool,
    pub durations: Durations,
}

/// Reads reports, each with its name, and the pages that they tell of.
pub fn read(reports: &[(String, String)]) -> Result<Merged> {
    let mut parts = Vec::new();
    for (file, text) in reports {
        parts.extend(parts_of(file, text)?);
    }
    let runs = complete(parts)?;
    let mut pages: Vec<PathBuf> = Vec::new();
    for line in runs.iter().flatten().flat_map(|part| &part.examples) {
        let page = PathBuf::from(&line.page);
        if pages.last() != Some(&page) {
            pages.push(page);
        }
    }
    pages.sort();
    pages.dedup();
    if let Some(gone) = pages.iter().find(|page| !page.exists()) {
        bail!(
            "the reports tell of `{}`, which is not here: merge where the shards ran, on the same revision",
            gone.display()
        );
    }
    let start = pages.first().cloned().unwrap_or_else(|| PathBuf::from("."));
    let config = Config::find(&start)?;
    let mut book = Book {
        pages: Vec::new(),
        unread: Vec::new(),
        directories: Vec::new(),
        problems: Vec::new(),
    };
    if !pages.is_empty() {
        book = Book::read(&config, &pages)?;
    }
    let now = book.pages.iter().map(PageText::of);
    let now: HashMap<String, String> = now.map(|now| (now.page, now.text)).collect();
    for part in runs.iter().flatten() {
        part.check_pages(&now)?;
    }
    Ok(Merged { runs, book })
}

impl Merged {
    pub fn has_several_runs(&self) -> bool {
        self.runs.len() > 1
    }

    /// Tells of each run as if it had been one.
    pub fn tell(&self, on_event: &mut dyn FnMut(&Event<'_>) -> io::Result<()>) -> Result<Total> {
        let mut total = Total {
            summary: Summary::default(),
            orphaned: false,
            durations: Durations::default(),
        };
        for parts in &self.runs {
            self.tell_run(parts, &mut total, on_event)?;
        }
        Ok(total)
    }

    fn tell_run(
        &self,
        parts: &[Part],
        total: &mut Total,
        on_event: &mut dyn FnMut(&Event<'_>) -> io::Result<()>,
    ) -> Result<()> {
        let interpreter = interpreter(&parts[0].run);
        let pages = self.results(parts, &interpreter)?;
        let held = parts.iter().filter_map(|part| part.run.sandbox.as_ref());
        let held: Vec<Protections> = held.map(SandboxLine::protections).collect();
        let protections = held.iter().fold(None, Protections::weaker);
        on_event(&Event::Started(&Started {
            interpreter: &interpreter,
            pages: pages.len(),
            examples: parts.iter().map(|part| part.run.examples).sum(),
            protections: protections.as_ref(),
            shard: None,
        }))?;
        let mut summary = Summary::default();
        for page in &pages {
            summary.add(&Summary::of(&page.examples));
            total.durations.add(page);
            on_event(&Event::Page(page))?;
        }
        let mut orphans: Vec<String> = Vec::new();
        for orphan in parts.iter().flat_map(|part| &part.summary.orphans) {
            let orphan = match &orphan.id {
                Some(id) => format!("{}: {id}", orphan.file),
                None => orphan.file.clone(),
            };
            if !orphans.contains(&orphan) {
                orphans.push(orphan);
            }
        }
        let sum = |figure: fn(&SummaryLine) -> usize| {
            parts.iter().map(|part| figure(&part.summary)).sum()
        };
        let longest = parts.iter().map(|part| part.summary.seconds);
        on_event(&Event::Finished(&Finished {
            interpreter: &interpreter,
            summary,
            orphans: &orphans,
            stopped_early: parts.iter().any(|part| part.summary.stopped_early),
            sessions: sum(|summary| summary.sessions),
            kept: sum(|summary| summary.sessions_from_cache),
            // They ran side by side.
            duration: seconds(longest.fold(0.0, f64::max)),
        }))?;
        total.summary.add(&summary);
        total.orphaned |= !orphans.is_empty();
        Ok(())
    }

    /// The results by page, in the order of the book.
    fn results<'a>(
        &'a self,
        parts: &[Part],
        interpreter: &'a Interpreter,
    ) -> Result<Vec<PageResult<'a>>> {
        let mut lines: HashMap<&str, HashMap<&str, &ExampleLine>> = HashMap::new();
        for part in parts {
            for line in &part.examples {
                let of_page = lines.entry(&line.page).or_default();
                let other = of_page.insert(&line.id, line);
                ensure!(
                    other.is_none(),
                    "`{}` and another report both tell of `{}` on `{}`: give the reports of one run",
                    part.file,
                    line.id,
                    line.page
                );
            }
        }
        let mut pages = Vec::new();
        for (number, page) in self.book.pages.iter().enumerate() {
            let Some(mut of_page) = lines.remove(page.name.as_str()) else {
                continue;
            };
            let mut examples = Vec::new();
            for position in 0..page.examples.len() {
                if let Some(line) = of_page.remove(page.examples[position].id.as_str()) {
                    examples.push(result(page, (number, position), line)?);
                }
            }
            if let Some(id) = of_page.keys().next() {
                bail!(
                    "`{}` has no example `{id}`, of which the reports tell: merge on the revision that the shards ran on",
                    page.name
                );
            }
            pages.push(PageResult {
                page,
                number,
                interpreter,
                examples,
                sessions: Vec::new(),
                rerun: None,
            });
        }
        Ok(pages)
    }
}

fn parts_of(file: &str, text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut open: Option<(RunLine, Shard, Vec<ExampleLine>)> = None;
    let head = text.lines().next().map(serde_json::from_str);
    if let Some(Ok(Head { format })) = head
        && format > FORMAT
    {
        bail!(
            "`{file}` is a report of format {format}, and this version of `verify` reads formats up to {FORMAT}: merge with the version that wrote it"
        );
    }
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line).with_context(|| {
            format!(
                "{file}:{}: this is no line of a report of this version: write it by `verify --shard I/N --format json --output FILE`",
                number + 1
            )
        })?;
        match (line, &mut open) {
            (Line::Problem { page, message }, _) => {
                bail!("`{file}` tells of a mistake, so that nothing was run: {page}: {message}")
            }
            (Line::Run(run), None) => {
                let shard = run.shard.clone().with_context(|| {
                    format!(
                        "`{file}` is the report of a whole run: only those of shards are merged"
                    )
                })?;
                open = Some((*run, shard, Vec::new()));
            }
            (Line::Example(example), Some((_, _, examples))) => examples.push(*example),
            (Line::Summary(summary), Some(_)) => {
                if let Some((run, shard, examples)) = open.take() {
                    let part = Part {
                        file: file.to_owned(),
                        shard,
                        run,
                        examples,
                        summary,
                    };
                    ensure!(
                        part.is_whole(),
                        "`{file}` does not tell of every example that its run counted: give the report as it was written, or run that shard again"
                    );
                    parts.push(part);
                }
            }
            (Line::Run(_), Some(_)) | (Line::Example(_) | Line::Summary(_), None) => {
                bail!(
                    "{file}:{}: this line does not belong here: give whole reports",
                    number + 1
                )
            }
        }
    }
    ensure!(
        open.is_none() && !parts.is_empty(),
        "`{file}` ends before its run did: run that shard again"
    );
    Ok(parts)
}

impl RunLine {
    /// What tells its interpreter from others of the same version.
    fn name(&self) -> String {
        let path = || self.executable.display().to_string();
        self.asked.clone().unwrap_or_else(path)
    }
}

impl Part {
    /// Whether each example that the run counted has its line.
    fn is_whole(&self) -> bool {
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &self.examples {
            *found.entry(&line.verdict).or_default() += 1;
        }
        let counted = self.summary.counts.iter();
        let counted = counted.filter(|(_, count)| **count > 0);
        let is_all = self.examples.len() == self.run.examples || self.summary.stopped_early;
        is_all
            && counted
                .map(|(word, &count)| (word.as_str(), count))
                .eq(found)
    }

    /// What it tells of has to stand on the pages still.
    fn check_pages(&self, now: &HashMap<String, String>) -> Result<()> {
        let Shard {
            part, of, pages, ..
        } = &self.shard;
        let is_changed = |was: &&PageText| now.get(&was.page).is_some_and(|text| *text != was.text);
        if let Some(changed) = pages.iter().find(is_changed) {
            bail!(
                "`{}` has changed since shard {part}/{of} ran, of which `{}` tells: merge on the revision that the shards ran on, or run them again",
                changed.page,
                self.file
            );
        }
        Ok(())
    }
}

/// Sorts parts into runs, and sees that none is missing.
fn complete(parts: Vec<Part>) -> Result<Vec<Vec<Part>>> {
    let mut runs: Vec<Vec<Part>> = Vec::new();
    // Machines may have one Python in different places, and one machine several environments of the same version.
    let mut names: HashMap<(String, usize), HashSet<String>> = HashMap::new();
    for Part { run, shard, .. } in &parts {
        let same_shard = names.entry((run.python.clone(), shard.part)).or_default();
        same_shard.insert(run.name());
    }
    let several = names.into_iter().filter(|(_, names)| names.len() > 1);
    let several: HashSet<String> = several.map(|((python, _), _)| python).collect();
    for part in parts {
        let same = |run: &&mut Vec<Part>| {
            let other = &run[0].run;
            other.python == part.run.python
                && (other.name() == part.run.name() || !several.contains(&other.python))
        };
        match runs.iter_mut().find(same) {
            Some(run) => run.push(part),
            None => runs.push(vec![part]),
        }
    }
    for run in &mut runs {
        run.sort_by_key(|part| part.shard.part);
        let first = &run[0];
        for other in &run[1..] {
            let (one, two) = (&first.file, &other.file);
            ensure!(
                first.run.verify == other.run.verify,
                "`{one}` and `{two}` were written by different versions of `verify`: use one for all shards"
            );
            ensure!(
                first.shard.of == other.shard.of && first.shard.plan == other.shard.plan,
                "`{one}` and `{two}` are shards of different runs: all need the same pages, selection and `--durations`"
            );
        }
        let python = if several.contains(&first.run.python) {
            format!("`{}`", first.run.name())
        } else {
            format!("Python {}", first.run.python)
        };
        let of = first.shard.of;
        for wanted in 1..=of {
            let mut found = run.iter().filter(|part| part.shard.part == wanted);
            match (found.next(), found.next()) {
                (None, _) => bail!(
                    "shard {wanted}/{of} on {python} is missing: give its report, or run it again"
                ),
                (Some(one), Some(two)) => bail!(
                    "`{}` and `{}` both are shard {wanted}/{of}: leave one out",
                    one.file,
                    two.file
                ),
                (Some(_), None) => {}
            }
        }
    }
    Ok(runs)
}

fn result<'a>(page: &'a Page, at: At, line: &ExampleLine) -> Result<ExampleResult<'a>> {
    let exact: Option<(Verdict, Option<Ending>)> = line
        .exact
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .with_context(|| format!("the result of `{}` on `{}`", line.id, line.page))?;
    let (verdict, ending) = match exact {
        Some((verdict, ending)) => (verdict, ending),
        None => (plain_verdict(line)?, None),
    };
    let outcome = line.outcome.as_ref().map(|outcome| Outcome {
        stdout: outcome.stdout.clone().into_bytes(),
        stderr: outcome.stderr.clone().into_bytes(),
        ending: ending.unwrap_or(Ending::Completed),
        steps: Vec::new(),
        artifacts: Vec::new(),
        duration: seconds(outcome.seconds),
    });
    Ok(ExampleResult {
        at,
        page,
        example: &page.examples[at.1],
        verdict,
        outcome,
        traceback: line.traceback.clone(),
        from_cache: line.from_cache,
    })
}

/// The verdicts that a word says all of.
fn plain_verdict(line: &ExampleLine) -> Result<Verdict> {
    let reason = || line.reason.clone().unwrap_or_default();
    Ok(match line.verdict.as_str() {
        "verified" => Verdict::Verified,
        "ran" => Verdict::Ran,
        "unrecorded" => Verdict::Unrecorded,
        "blocked" => Verdict::Blocked {
            by: line.blocked_by.clone().unwrap_or_default(),
        },
        "skipped" => Verdict::Skipped {
            reason: reason(),
            unmet: line.unmet.unwrap_or_default(),
        },
        "illustrative" => Verdict::Illustrative { reason: reason() },
        other => bail!(
            "`{}` on `{}` is `{other}`, which a report of this version does not say like this",
            line.id,
            line.page
        ),
    })
}

impl SandboxLine {
    fn protections(&self) -> Protections {
        Protections {
            files: self.files.missing.clone(),
            network: self.network.missing.clone(),
            processes: self.processes.missing.clone(),
            kernel: self.kernel.missing.clone(),
        }
    }
}

/// As much of the interpreter as reports tell.
fn interpreter(run: &RunLine) -> Interpreter {
    Interpreter {
        executable: run.executable.clone(),
        full_version: run.python.clone(),
        version: (0, 0, 0),
        implementation: "cpython".to_owned(),
        libpython: PathBuf::new(),
        prefix: PathBuf::new(),
        base_executable: PathBuf::new(),
        purelib: PathBuf::new(),
        library: Vec::new(),
        packages: Vec::new(),
        path: Vec::new(),
        source: Source::named(&run.chosen_by).unwrap_or(Source::Flag),
        asked: run.asked.clone(),
    }
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}
