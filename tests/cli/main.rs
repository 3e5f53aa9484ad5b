//! The program as a person meets it: each test makes a small project, runs the built `verify` in it, and
//! asserts its exit status and everything that it prints, to the character.
//!
//! `SNAPSHOTS=overwrite cargo test --test cli` writes what the program says now into the tests; read the
//! diff before you believe it. What differs between machines is taken out in `project.rs` alone.
//!
//! | module | asks |
//! |---|---|
//! | `finding` | which blocks of a page are examples |
//! | `selecting` | which of them a command is about |
//! | `typed_paths` | which page and which project a path means |
//! | `caching` | what is not run again, and why |
//! | `grounds` | what all sessions stand on: where examples may read, what a run inherits, whose key it is |
//! | `observing` | what a session takes from elsewhere, by whichever way |
//! | `sharding` | a run on several machines, and its reports made one |
//! | `verdicts` | what is said of an example, and why |
//! | `inline` | expectations that stand in the page itself |
//! | `consoles` | commands of a shell |
//! | `preloading` | packages that are imported once for several sessions |
//! | `sandbox` | what keeps examples in, and what must work in it |
//! | `layers` | the file systems of sessions, wherever what they may read lies |
//! | `private` | what examples see of a project and of what they import from it |
//! | `recording` | what `record` writes and keeps |
//! | `proving` | what `record` refuses, and what passes by luck |
//! | `kept_in_page` | what `record` corrects in the pages themselves, with a recording and without |
//! | `hostile` | that no example can fool the verdict or harm another |
//! | `sequences` | examples that follow one another in a session |
//! | `endings` | the end of a session: what shows when Python shuts down |
//! | `interrupted` | nothing is left: Ctrl-C, a kill, two at once, a full disk |
//! | `escapes` | that what strangers wrote is told and not obeyed |
//! | `safety` | nothing is lost: `record` is killed at any moment, has no room, may not write |
//! | `nothing_lost` | what somebody wrote is not lost to `record` |
//! | `mistakes` | what people get wrong in pages, recordings and configuration |
//! | `slips` | what is nearly right, and must not be passed over in silence |
//! | `odd_paths` | paths that are no text, hold special characters, or lead nowhere |
//! | `interpreters` | missing, unsuitable and broken Pythons |
//! | `several_pythons` | runs on more than one Python |
//! | `showing` | `show`, and what a run says that has nothing to run |
//! | `commands` | subcommands, reports for people, exit statuses |
//! | `readme` | that README's tour is what happens |
//! | `watching` | `watch`: what runs again, and what is left |
//! | `terminal` | `watch` on a terminal: its keys, and that the terminal is as before |
//! | `cases` | the whole small books of `tests/cases/` |
#![allow(
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    dead_code,
    clippy::unwrap_used,
    clippy::needless_raw_string_hashes,
    reason = "in a test, a panic is how a failure is told; the fixture serves more modules to come"
)]

mod caching;
mod cases;
mod consoles;
mod endings;
mod escapes;
mod finding;
mod grounds;
mod hostile;
mod hosts;
mod inline;
mod interpreters;
mod interrupted;
mod kept_in_page;
#[path = "../attacks/lacking.rs"]
mod lacking;
mod layers;
mod leftovers;
mod mistakes;
#[path = "../attacks/nobody.rs"]
mod nobody;
mod nothing_lost;
mod observing;
mod odd_paths;
mod preloading;
mod private;
mod project;
mod proving;
mod readme;
mod recording;
mod safety;
mod sandbox;
mod selecting;
mod sequences;
mod several_pythons;
mod sharding;
mod showing;
mod slips;
mod terminal;
mod typed_paths;
mod verdicts;
mod watching;
