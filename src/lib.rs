//! `verify` proves the Python examples in Markdown. This is the map of its code.
//!
//! A run is a pipeline with plain data between its stages, in one direction:
//!
//! page → examples → sessions → outcomes → verdicts → events → reports
//!
//! | module | holds | may use |
//! |---|---|---|
//! | [`markdown`] | page text → blocks, headings, comments | – |
//! | [`attributes`] | what authors say of an example | `normalize` |
//! | [`console`], [`doctest`] | the two kinds of block that carry their own expectations | – |
//! | [`example`] | blocks → examples | the four above |
//! | [`demand`] | what sessions ask of their host, read from their sources | `attributes`, `example` |
//! | [`session`] | examples → sessions | `example`, `config` |
//! | [`outcome`] | what running one example did | – |
//! | [`normalize`], [`matching`], [`compare`], [`diff`] | outcome × expectation | `outcome`, `recording`, `legible` |
//! | [`diagnose`] | why two runs differ, and what settles it | `normalize`, `matching`, `conditions` |
//! | [`recording`] | a file under `expected/` | `normalize`, `matching`, `outcome` |
//! | [`verdict`] | what is to be said of an example | the pure modules |
//! | [`rewrite`] | new outputs → edits of a page | the pure modules |
//! | [`conditions`] | the circumstances of a run, and how they are varied | – |
//! | [`config`] | `verify.toml` | `attributes`, `doctest`, `conditions`, `digest` |
//! | [`book`] | the page tree and selection; all reading of pages | `attributes`, `config`, `example`, `legible`, `markdown` |
//! | [`digest`] | what inputs are told apart by | – |
//! | [`legible`] | text that people read: what of it a terminal would obey, or cannot be seen | – |
//! | [`kept`] | the directory of what can be made again, and its files | – |
//! | [`interpreter`], [`environment`] | which Python, with which packages | `digest`, `kept` |
//! | [`protocol`] | what crosses to the host; shared with `verify-python` | `outcome` |
//! | [`processes`] | the processes of a session and what they use; shared likewise | – |
//! | [`sandbox`] | what sessions may see of the machine | `config`, `interpreter`, `protocol` |
//! | [`scratch`] | the directories of this run and of dead ones, and writing beside an example that may do anything there | `protocol` |
//! | [`host`] | our side of the process boundary | `protocol`, `processes`, `scratch`, `interpreter`, `config`, `conditions` |
//! | [`snapshots`] | packages that are imported once, and who starts from there | `host`, `demand`, `kept` and what they use |
//! | [`contents`] | what that directory held, to be put back | `processes` |
//! | [`reads`] | what a session has read, and whether it still is that | `digest`, `protocol` |
//! | [`trace`] | what a session did, and where it can go on | `contents`, `host`, `outcome`, `reads`, `scratch` |
//! | [`schedule`] | sessions over threads | – |
//! | [`state`] | what a run leaves for the next one | `report`, `kept` |
//! | [`report`] | events and the formats they are written in | `verdict`, `book`, `diff`, `digest`, `legible`, `protocol` |
//! | [`cache`] | results of sessions that passed, for as long as they hold | all of the above |
//! | [`unchanged`] | the shortest way through a check | `cache`, `book`, `interpreter`, `environment` |
//! | [`check`] | the pipeline | all of the above |
//! | [`proof`] | running again under other conditions, and what makes an example differ | `check`, `diagnose` and what they use |
//! | [`shard`], [`merge`] | a run on several machines, and its reports made one | all of the above |
//! | [`record`] | the other end of the pipeline: proving and writing | all of the above |
//! | [`commands`] | one function per subcommand | all of the above |
//! | [`watch`] | checking again whatever is saved | `commands` and what that starts from |
//! | [`doctor`] | what this machine offers | `commands`, `host`, `sandbox`, `sinks` and what these start from |
//! | [`sinks`] | where events go: formats, files, the terminal | `report`, `cli`, `legible` |
//! | [`cli`] | what was typed → what it means | `attributes`, `config` |
//!
//! `main.rs` parses, dispatches and maps to an exit status. `bin/verify-python/` is the other program, the
//! only place that names pyo3. `tests/tidy.rs` holds the code to the third column.

pub mod attributes;
pub mod book;
pub mod cache;
pub mod check;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod conditions;
pub mod config;
pub mod console;
pub mod contents;
pub mod demand;
pub mod diagnose;
pub mod diff;
pub mod digest;
pub mod doctest;
pub mod doctor;
pub mod environment;
pub mod example;
pub mod host;
pub mod interpreter;
pub mod kept;
pub mod legible;
pub mod markdown;
pub mod matching;
pub mod merge;
pub mod normalize;
pub mod outcome;
pub mod processes;
pub mod proof;
pub mod protocol;
pub mod reads;
pub mod record;
pub mod recording;
pub mod report;
pub mod rewrite;
pub mod sandbox;
pub mod schedule;
pub mod scratch;
pub mod session;
pub mod shard;
pub mod sinks;
pub mod snapshots;
pub mod state;
pub mod trace;
pub mod unchanged;
pub mod verdict;
pub mod watch;
