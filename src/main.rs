//! `verify`: parses, dispatches, and maps the result to an exit status. The map of the code is in `lib.rs`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use verify::cli::{Cli, Command};
use verify::commands::{self, Status};
use verify::conditions;
use verify::doctor;
use verify::legible::one_line;
use verify::schedule::Interrupted;
use verify::scratch;
use verify::sinks;
use verify::watch;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| refuse_words(&error));
    let records = matches!(cli.command, Some(Command::Record(_)));
    for place in conditions::scratch_places() {
        scratch::sweep(&place);
    }
    let status = match cli.command {
        None => commands::check(cli.check),
        Some(Command::Record(arguments)) => commands::record(&arguments),
        Some(Command::Watch(arguments)) => watch::watch(&arguments),
        Some(Command::List(arguments)) => commands::list(&arguments),
        Some(Command::Show(arguments)) => commands::show(&arguments),
        Some(Command::Merge(arguments)) => commands::merge(&arguments),
        Some(Command::Init(arguments)) => commands::init(&arguments),
        Some(Command::Doctor) => doctor::doctor(),
        Some(Command::Clean(arguments)) => commands::clean(&arguments),
    };
    match status {
        Ok(Status::Good) => ExitCode::SUCCESS,
        Ok(Status::Failed) => ExitCode::from(1),
        Ok(Status::Problems) => ExitCode::from(2),
        Ok(Status::NothingToRun) => ExitCode::from(3),
        // Whoever read our output has seen enough, and nobody knows of the rest: as after SIGPIPE.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(141),
        Err(error) if error.is::<Interrupted>() => {
            let what = if records {
                ": nothing was recorded"
            } else {
                ""
            };
            let _ = writeln!(sinks::stderr(), "interrupted{what}");
            ExitCode::from(130)
        }
        Err(error) => {
            let _ = sinks::tell_error(&error);
            ExitCode::from(2)
        }
    }
}

/// What is wrong with a word is said with the word, and a shell types names of files for `*`: it is said of what people
/// can read.
fn refuse_words(error: &clap::Error) -> ! {
    let words = std::env::args_os().map(|word| one_line(&word.to_string_lossy()));
    match Cli::try_parse_from(words) {
        Err(error) => error.exit(),
        Ok(_) => error.exit(),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
