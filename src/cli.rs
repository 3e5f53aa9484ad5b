//! What was typed. What it means is for [`crate::commands`] to say.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::attributes;
use crate::config::Sandbox;

const EXAMPLES: &str = "\
Examples:
  verify                              check the whole book
  verify --chapter 7                  one chapter; also --section 7.3, --example ID, -k EXPR
  verify record --failed              record what has changed, after proving it stable
  verify --shake 50                   what passes by luck
  verify --python 3.13 --python 3.11  the same pages under several interpreters
  verify docs/ README.md              any Markdown, no configuration needed

Exit status: 0 all good, 1 an example is not as expected, 2 usage, configuration or environment,
3 nothing to run, 130 interrupted, 141 whoever read the output stopped reading.";

const WATCH: &str = "\
First everything that is selected runs. After that each saved page runs again: of a session only what has
changed and what follows it, from a copy of the process that was kept just before. The line of the page
says how much ran; a session that left threads, child processes or open files behind goes back further, and says so.
A saved recording is compared again without running anything; a saved `verify.toml` starts over.

Keys on a terminal: `a` runs everything again, `f` filters as `-k` does, `r` records what is selected, `q` quits.

Exit status: 0 after `q`, 2 usage, configuration or environment, 130 after Ctrl-C.";

/// Proves the Python examples in Markdown: runs them and compares what they do with what is recorded.
#[derive(Debug, Parser)]
#[command(name = "verify", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub check: Check,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record new and changed outputs, after several runs have shown that they are stable
    #[command(mut_arg("format", |format| format.hide(true)), mut_arg("output", |output| output.hide(true)))]
    Record(Record),
    /// Check what is saved, as soon as it is saved
    #[command(after_help = WATCH)]
    Watch(Watch),
    /// List every fence with its line, its id and what becomes of it; starts no Python
    List(List),
    /// Run an example and show its source, what it did and what is recorded
    Show(Show),
    /// Join the `json` reports of all shards of a run into one report
    Merge(Merge),
    /// Write a commented `verify.toml`
    Init(Init),
    /// Tell what this machine offers: Pythons, uv, and what can keep examples from doing harm
    Doctor,
    /// Remove the results that were kept
    Clean(Clean),
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub doubt: Doubt,
    #[command(flatten)]
    pub report: Report,
    /// Run everything, whatever is known from earlier runs, and keep nothing
    #[arg(long, help_heading = "Running")]
    pub no_cache: bool,
    /// Check a section (`7.3`) or an example, and say why each of its sessions ran or did not
    #[arg(
        long,
        value_name = "TARGET",
        help_heading = "Report",
        conflicts_with = "no_cache"
    )]
    pub explain: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Doubt")]
pub struct Doubt {
    /// Run what is selected N times more under other conditions, and fail what passes only by luck
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub shake: Option<u32>,
    /// With `--shake`, vary the time zone, the terminal's width and the locale as well
    #[arg(long, requires = "shake")]
    pub portable: bool,
    /// Run only what is skipped or meant for other versions, and fail what passes all the same
    #[arg(long, conflicts_with = "shake")]
    pub probe_skips: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Watch {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub report: Report,
}

#[derive(Debug, Clone, Args)]
pub struct Record {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub report: Report,
    /// Refuse as well what depends on the time zone, the terminal's width or the locale
    #[arg(long)]
    pub portable: bool,
    /// Record although `CI` is set
    #[arg(long)]
    pub in_ci: bool,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub selection: Selection,
    /// How to write the list
    #[arg(long, value_enum, default_value_t = ListFormat::Human)]
    pub format: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    Human,
    Json,
}

#[derive(Debug, Args)]
pub struct Show {
    /// A section (`7.3`), an id, `page.md::id` or `page.md:LINE`
    pub target: String,
    #[command(flatten)]
    pub run: Run,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

#[derive(Debug, Args)]
pub struct Merge {
    /// What `verify --shard I/N --format json --output FILE` wrote, of every shard
    #[arg(value_name = "FILE", required = true)]
    pub reports: Vec<PathBuf>,
    /// Write how long each example took, for `--durations` of the next run
    #[arg(long, value_name = "FILE")]
    pub durations: Option<PathBuf>,
    /// Fail on orphans
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub report: Report,
}

#[derive(Debug, Args)]
pub struct Clean {
    /// Where `verify.toml` is, or below
    #[arg(default_value = ".")]
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Where to write it
    #[arg(default_value = ".")]
    pub directory: PathBuf,
}

/// What to run. Everything that is given must hold.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub struct Selection {
    /// Pages, or directories of pages [default: `pages` of `verify.toml`, or here]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Chapter 7 is the pages in a directory such as `07-advanced`
    #[arg(long, value_name = "NUMBER")]
    pub chapter: Vec<u32>,
    /// A section by the number in its heading, subsections included
    #[arg(long, value_name = "NUMBER")]
    pub section: Vec<String>,
    /// An example by its id, as `page.md::id` or as `page.md:LINE`
    #[arg(long, value_name = "ID")]
    pub example: Vec<String>,
    /// Words joined by `and`, `or`, `not`, sought in page names, ids and headings
    #[arg(short = 'k', value_name = "EXPR")]
    pub keyword: Option<String>,
    /// Pages that differ from a git revision, or whose recordings do
    #[arg(long, value_name = "REF", num_args = 0..=1, require_equals = true, default_missing_value = "HEAD")]
    pub changed: Option<String>,
    /// What failed in the last run
    #[arg(long)]
    pub failed: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Running")]
pub struct Run {
    /// A version such as 3.12, a Python, or an environment; several run one after the other
    #[arg(long, value_name = "VERSION|PATH")]
    pub python: Vec<String>,
    /// Sessions at the same time [default: number of processors, one more where they are short]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Stop after the first failure
    #[arg(long)]
    pub fail_fast: bool,
    /// Fail where something that an example requires is missing, and on orphans
    #[arg(long)]
    pub strict: bool,
    /// Time limit of examples that set none, such as 30s or 500ms
    #[arg(long, value_name = "TIME", value_parser = attributes::duration)]
    pub timeout: Option<Duration>,
    /// How examples are kept from what is not theirs [default: `sandbox` of `verify.toml`, or on]
    #[arg(long, value_enum, value_name = "HOW")]
    pub sandbox: Option<Sandbox>,
    /// Let examples read this file or directory too
    #[arg(long, value_name = "PATH")]
    pub readable: Vec<PathBuf>,
    /// Use the interpreter as it is: don't provide the packages of `requirements`
    #[arg(long)]
    pub no_sync: bool,
}

/// Which part of a run that several machines share.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Running")]
pub struct Part {
    /// Run one part of the sessions, such as 1/4
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<(usize, usize)>,
    /// How long examples take, for shards that end together; the same file for all of them
    #[arg(long, value_name = "FILE")]
    pub durations: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Report")]
pub struct Report {
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Write the report to a file; the terminal gets the human one
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// When to use colour
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// Only failures and the summary
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Every example with its verdict
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Human,
    /// One JSON object a line
    Json,
    /// JUnit XML
    Junit,
    /// GitHub annotations, and a job summary
    Github,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    pub fn choice(self) -> anstream::ColorChoice {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
    }
}

/// The command that somebody who typed another word will have meant.
pub fn nearest_command(word: &str) -> Option<String> {
    let command = Cli::command();
    let known = command.get_subcommands().map(clap::Command::get_name);
    attributes::nearest(word, known).map(str::to_owned)
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    text.split_once('/')
        .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)))
        .filter(|&(part, of)| part >= 1 && part <= of)
        .ok_or_else(|| "write a part and their number, such as 1/4".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shards() {
        assert_eq!(shard("2/4"), Ok((2, 4)));
        for wrong in ["0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}
