//! `verify`: parses, dispatches, and maps the result to an exit status. The map of the code is in `lib.rs`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use verify::cli::{Cli, Command};
use verify::commands::{self, Status};
use verify::conditions;
use verify::doctor;
use verify::schedule::Interrupted;
use verify::scratch;
use verify::watch;

fn main() -> ExitCode {
    let cli = Cli::parse();
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
            let _ = writeln!(anstream::stderr(), "interrupted{what}");
            ExitCode::from(130)
        }
        Err(error) => {
            let _ = writeln!(anstream::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
