//! How `verify` compares with other ways to run the same examples, measured side by side.
//!
//! `cargo bench --bench corpus`; `README.md` in `benches/` says what is measured and has figures. All
//! commands of a table run in turn, round by round, so that a busy machine slows all of them alike; the
//! ratios say more than the times.
#![allow(
    clippy::pedantic,
    clippy::while_let_loop,
    reason = "the driver is young; its lints come with its figures"
)]
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod generate;
mod measure;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use generate::Corpus;
use measure::{Cost, median};

const VERIFY: &str = env!("CARGO_BIN_EXE_verify");

/// Examples that are run as a process each; the cost of all is scaled from them.
const SAMPLE: usize = 100;

/// Compares `verify` with one process for all examples and with a process for each.
#[derive(Parser)]
struct Arguments {
    /// The Python to run on [default: what `python3` on PATH is]
    #[arg(long)]
    python: Option<PathBuf>,
    /// Rounds; each figure is a median over them
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Leave out the book of 20,000 examples
    #[arg(long)]
    small: bool,
    /// `cargo bench` says it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scratch = tempfile::tempdir()?;
    let bench = Bench {
        python: python(arguments.python.as_deref())?,
        runs: arguments.runs.max(1),
    };
    bench.print_machine()?;
    let small = bench.book(&scratch.path().join("small"), 50, "page")?;
    let many_sessions = bench.book(&scratch.path().join("sessions"), 50, "heading")?;
    let cost = bench.against_baselines(&small, &many_sessions)?;
    bench.answers_at_once(&small)?;
    bench.memory(&small)?;
    if !arguments.small {
        let large = bench.book(&scratch.path().join("large"), 1000, "page")?;
        bench.growth(&small, cost, &large)?;
        bench.memory(&large)?;
    }
    Ok(())
}

struct Bench {
    python: PathBuf,
    runs: usize,
}

impl Bench {
    fn print_machine(&self) -> Result<()> {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let version = Command::new(&self.python).arg("--version").output()?.stdout;
        println!(
            "{} × {processor}, Linux {}, {}; load average before: {}",
            std::thread::available_parallelism()?,
            kernel.trim(),
            String::from_utf8_lossy(&version).trim(),
            load.split(' ').next().unwrap_or_default(),
        );
        println!(
            "medians of {} rounds; CPU is user and system time of all processes",
            self.runs
        );
        Ok(())
    }

    /// A book of twenty examples a page, recorded.
    fn book(&self, root: &Path, pages: usize, scope: &str) -> Result<Corpus> {
        let corpus = Corpus::write(root, pages, 20, scope)?;
        let recorded = measure::run(
            self.verify(&corpus)
                .arg("record")
                .arg("--python")
                .arg(&self.python),
        )?;
        ensure!(
            recorded.status == 0,
            "`verify record` ended with status {}",
            recorded.status
        );
        Ok(corpus)
    }

    /// The main table. Returns what `verify` cost.
    fn against_baselines(&self, corpus: &Corpus, many_sessions: &Corpus) -> Result<Cost> {
        let joined = corpus.write_joined()?;
        let sample = corpus.write_sample(SAMPLE)?;
        let mut floor = Vec::new();
        let mut each = Vec::new();
        let mut cold = Vec::new();
        let mut warm = Vec::new();
        let mut sessions = Vec::new();
        let mut alone = Vec::new();
        let mut pair = Vec::new();
        for round in 0..self.runs {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/corpus/floor.py");
            floor.push(succeed(self.python().arg(script).arg(&joined))?);
            forget(corpus)?;
            cold.push(succeed(&mut self.check(corpus))?);
            for file in sample.iter().skip(round).step_by(self.runs) {
                each.push(succeed(self.python().arg(file))?);
            }
            warm.push(succeed(&mut self.check(corpus))?);
            forget(many_sessions)?;
            sessions.push(succeed(&mut self.check(many_sessions))?);
            alone.push(succeed(self.check(corpus).arg("-j1"))?);
            pair.push(succeed(self.check(corpus).arg("-j2"))?);
        }
        let floor = median(&floor);
        let count = u32::try_from(corpus.examples.len())?;
        let sampled = u32::try_from(each.len())?;
        let each = Cost {
            cpu: each.iter().map(|cost| cost.cpu).sum::<Duration>() * count / sampled,
            wall: each.iter().map(|cost| cost.wall).sum::<Duration>() * count / sampled,
            status: 0,
        };
        let cold = median(&cold);
        println!(
            "\n{count} examples on 50 pages{:27}CPU       wall   CPU / floor",
            ""
        );
        let row = |name: &str, cost: Cost| {
            println!(
                "{name:<45} {:>9} {:>10} {:>10.2} ×",
                milliseconds(cost.cpu),
                milliseconds(cost.wall),
                ratio(cost.cpu, floor.cpu)
            );
        };
        row("floor: all in one process, nothing isolated", floor);
        row("verify, first run (50 sessions)", cold);
        row("verify, later runs", median(&warm));
        row("verify, first run, 1000 sessions", median(&sessions));
        row("verify -j1", median(&alone));
        row("verify -j2", median(&pair));
        row(
            &format!("python file.py each ({sampled} run, scaled)"),
            each,
        );
        println!(
            "a process for each example costs {:.0} × the CPU of verify's first run",
            ratio(each.cpu, cold.cpu)
        );
        Ok(cold)
    }

    /// What must not start a Python or read more than it needs.
    fn answers_at_once(&self, corpus: &Corpus) -> Result<()> {
        println!("\nat once{:42}CPU       wall", "");
        for (name, arguments, status) in [
            ("verify --help", ["--help"].as_slice(), 0),
            ("verify --nonsense", &["--nonsense"], 2),
            ("verify no-such-page.md", &["no-such-page.md"], 2),
            ("verify list (1000 examples)", &["list"], 0),
        ] {
            let costs: Vec<Cost> = (0..self.runs * 3)
                .map(|_| {
                    // Nothing on `PATH`: whoever looks for a Python fails.
                    let mut command = self.verify(corpus);
                    let cost = measure::run(command.env("PATH", "/nowhere").args(arguments))?;
                    ensure!(
                        cost.status == status,
                        "`{name}` ended with status {}",
                        cost.status
                    );
                    Ok(cost)
                })
                .collect::<Result<_>>()?;
            let cost = median(&costs);
            println!(
                "{name:<45} {:>9} {:>10}",
                milliseconds(cost.cpu),
                milliseconds(cost.wall)
            );
        }
        Ok(())
    }

    fn memory(&self, corpus: &Corpus) -> Result<()> {
        forget(corpus)?;
        let (verify, host) = measure::peak_memory(&mut self.check(corpus))?;
        println!(
            "\npeak memory with {} examples: verify {:.1} MB, its host {:.1} MB",
            corpus.examples.len(),
            megabytes(verify),
            megabytes(host)
        );
        Ok(())
    }

    /// Twenty times the examples ought to cost no more than twenty times as much.
    fn growth(&self, small: &Corpus, small_cost: Cost, large: &Corpus) -> Result<()> {
        let mut costs = Vec::new();
        let mut lists = Vec::new();
        for _ in 0..self.runs.min(3) {
            forget(large)?;
            costs.push(succeed(&mut self.check(large))?);
            lists.push(succeed(self.verify(large).arg("list"))?);
        }
        let cost = median(&costs);
        println!(
            "\n{} examples on 1000 pages: {} CPU, {} wall; {:.1} × the CPU of {} examples; list: {} CPU",
            large.examples.len(),
            milliseconds(cost.cpu),
            milliseconds(cost.wall),
            ratio(cost.cpu, small_cost.cpu),
            small.examples.len(),
            milliseconds(median(&lists).cpu)
        );
        Ok(())
    }

    fn check(&self, corpus: &Corpus) -> Command {
        let mut command = self.verify(corpus);
        command.arg("--python").arg(&self.python);
        command
    }

    fn verify(&self, corpus: &Corpus) -> Command {
        let mut command = clean(Path::new(VERIFY));
        command.current_dir(&corpus.root);
        command
    }

    fn python(&self) -> Command {
        clean(&self.python)
    }
}

/// A command without what `cargo` and the user have in their environment.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn succeed(command: &mut Command) -> Result<Cost> {
    let cost = measure::run(command)?;
    ensure!(
        cost.status == 0,
        "`{command:?}` ended with status {}",
        cost.status
    );
    Ok(cost)
}

/// Takes away what earlier runs left for later ones.
fn forget(corpus: &Corpus) -> Result<()> {
    match fs::remove_dir_all(corpus.root.join(".verify")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The Python itself, not a shim or launcher that would be measured with it.
fn python(given: Option<&Path>) -> Result<PathBuf> {
    let python = given.unwrap_or(Path::new("python3"));
    let output = Command::new(python)
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .with_context(|| {
            format!(
                "cannot start `{}`; pass another with `--python`",
                python.display()
            )
        })?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn milliseconds(time: Duration) -> String {
    let time = time.as_secs_f64() * 1000.0;
    format!("{time:.*} ms", usize::from(time < 10.0))
}

#[allow(clippy::cast_precision_loss, reason = "for reading")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
