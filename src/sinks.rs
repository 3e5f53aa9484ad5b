//! Where the events of a run go: the chosen format, the one for people beside it, the progress bar.

use std::collections::HashSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::book::At;
use crate::cli;
use crate::legible::{self, Legible};
use crate::report::github::{Github, Inert};
use crate::report::human::{self, Human, Verbosity};
use crate::report::json::Json;
use crate::report::junit::Junit;
use crate::report::{Event, ExampleResult, PageResult, Reporter, Started};

pub struct Sinks {
    reporters: Vec<(Box<dyn Reporter + Send>, Box<dyn Write + Send>)>,
    color: cli::Color,
    progress: Progress,
    /// Examples that reports tell of as soon as they can. They tell of the others with their page, so that what they
    /// say has an order.
    pub urgent: HashSet<At>,
}

impl Sinks {
    pub fn new(report: &cli::Report, several: bool, explains: bool) -> Result<Sinks> {
        let verbosity = match (report.quiet, report.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        let human = || Human {
            verbosity,
            several,
            explains,
            ..Human::default()
        };
        let chosen: Box<dyn Reporter + Send> = match report.format {
            cli::Format::Human => Box::new(human()),
            cli::Format::Json => Box::new(Json),
            cli::Format::Junit => Box::new(Junit::default()),
            cli::Format::Github => {
                let summary = std::env::var_os("GITHUB_STEP_SUMMARY").map(PathBuf::from);
                let mut github = Github::new(summary);
                github.human = human();
                Box::new(github)
            }
        };
        // They have no colour, and what would pass for it is what an example printed.
        let is_for_programs = matches!(report.format, cli::Format::Json | cli::Format::Junit);
        let mut reporters: Vec<(Box<dyn Reporter + Send>, Box<dyn Write + Send>)> = Vec::new();
        match &report.output {
            Some(path) => {
                let file = fs::File::create(path)
                    .with_context(|| format!("cannot write `{}`", path.display()))?;
                let out: Box<dyn Write + Send> = if is_for_programs {
                    Box::new(file)
                } else {
                    let never = anstream::ColorChoice::Never;
                    Box::new(Legible::new(anstream::AutoStream::new(file, never)))
                };
                reporters.push((chosen, out));
                if report.format != cli::Format::Human {
                    reporters.push((Box::new(human()), stdout(report.color)));
                }
            }
            None if report.format == cli::Format::Human => {
                reporters.push((chosen, stdout(report.color)));
            }
            None if is_for_programs => reporters.push((chosen, for_programs())),
            // It has commands for the runner, and knows itself which are its own.
            None => {
                let out = anstream::AutoStream::new(io::stdout(), report.color.choice());
                reporters.push((chosen, Box::new(Legible::new(out))));
            }
        }
        let is_watched = io::stderr().is_terminal() && verbosity != Verbosity::Quiet;
        Ok(Sinks {
            reporters,
            color: report.color,
            progress: Progress {
                is_watched,
                ..Progress::default()
            },
            urgent: HashSet::new(),
        })
    }

    /// Passes on how a run goes, and keeps back what it found: that is not the last word.
    pub fn before_pages(&mut self, event: &Event<'_>) -> io::Result<()> {
        match event {
            Event::Started(_) | Event::Example(..) => self.event(event),
            _ => Ok(()),
        }
    }

    pub fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.progress.event(event);
        if let Event::Example(_, result) = event
            && !self.urgent.remove(&result.at)
        {
            return Ok(());
        }
        let mut write = || -> io::Result<()> {
            for (reporter, out) in &mut self.reporters {
                reporter.event(event, out)?;
                out.flush()?;
            }
            Ok(())
        };
        match &self.progress.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Begins a run where who reads knows what runs.
    pub fn expect(&mut self, started: &Started<'_>) {
        for (reporter, _) in &mut self.reporters {
            reporter.begin_again();
        }
        self.progress.event(&Event::Started(started));
    }

    /// Shows single failures, as the human report does.
    pub fn failures(
        &mut self,
        page: &PageResult<'_>,
        failed: &[&ExampleResult<'_>],
    ) -> io::Result<()> {
        self.progress.clear();
        let mut out = stdout(self.color);
        for result in failed {
            human::failure(result, page.interpreter, &mut out)?;
        }
        Ok(())
    }

    pub fn finish(&mut self) -> io::Result<()> {
        self.progress.clear();
        for (reporter, out) in &mut self.reporters {
            reporter.finish(out)?;
            out.flush()?;
        }
        Ok(())
    }
}

/// Where people read.
pub fn stdout(color: cli::Color) -> Box<dyn Write + Send> {
    for_people(anstream::AutoStream::new(io::stdout(), color.choice()))
}

/// Where people read what is none of the report.
pub fn stderr() -> Box<dyn Write + Send> {
    for_people(anstream::stderr())
}

/// On GitHub's runners no line of it may be taken for a command to the runner.
fn for_people(out: impl Write + Send + 'static) -> Box<dyn Write + Send> {
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        Box::new(Legible::new(Inert::new(out)))
    } else {
        Box::new(Legible::new(out))
    }
}

/// Standard output for programs, which get the true text.
pub fn for_programs() -> Box<dyn Write + Send> {
    Box::new(io::stdout())
}

/// Says why the tool could not do its work.
pub fn tell_error(error: &anyhow::Error) -> io::Result<()> {
    writeln!(
        stderr(),
        "error: {}",
        legible::set_in(&format!("{error:#}"))
    )
}

/// Clears the last line of a terminal.
pub fn clear_line() -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(b"\r\x1b[2K")?;
    out.flush()
}

/// How far a run is, for people who look at it.
#[derive(Default)]
struct Progress {
    is_watched: bool,
    /// From the first example to the end of the run.
    bar: Option<ProgressBar>,
    of: usize,
    done: usize,
    failed: usize,
}

impl Progress {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(started) => {
                (self.of, self.done, self.failed) = (started.examples, 0, 0);
            }
            Event::Unchanged(_, summary) => self.done += summary.total(),
            Event::Example(_, result) => {
                self.done += 1;
                self.failed += usize::from(result.verdict.is_failure());
                self.show();
            }
            Event::Finished(_) => self.clear(),
            Event::Problems(_) | Event::Page(_) => {}
        }
    }

    fn show(&mut self) {
        if !self.is_watched {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = "{bar:30} {pos}/{len} examples  {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is valid");
            ProgressBar::new(self.of as u64).with_style(style)
        });
        bar.set_position(self.done as u64);
        if self.failed > 0 {
            bar.set_message(format!("{} failed", self.failed));
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
