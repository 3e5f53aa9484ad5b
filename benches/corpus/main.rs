//! How `verify` compares with other ways to run the same examples, measured side by side.
//!
//! `cargo bench --bench corpus`, with `-- --peers`, `--packages` or `--handbook` for another table than the
//! main one; `README.md` in `benches/` says what is measured and has figures. All commands of a table run
//! in turn, round by round, so that a busy machine slows all of them alike; the ratios say more than the
//! times.
#![allow(
    clippy::pedantic,
    clippy::while_let_loop,
    reason = "the driver is young; its lints come with its figures"
)]
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod generate;
mod handbook;
mod measure;
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use generate::{Corpus, Subject};
use measure::{Cost, median};
use peers::{Dialect, Installed, PEERS, Tools};

const VERIFY: &str = env!("CARGO_BIN_EXE_verify");

/// Examples of a page.
const PER_PAGE: usize = 20;

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
    /// Leave out the larger books
    #[arg(long)]
    small: bool,
    /// Compare with other tools for testing documentation, which are installed below `target/`
    #[arg(long)]
    peers: bool,
    /// Measure pages that import numpy and pandas, which are installed below `target/`
    #[arg(long)]
    packages: bool,
    /// Measure the handbook
    #[arg(long)]
    handbook: bool,
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
    if arguments.peers {
        bench.peers(scratch.path())?;
    }
    if arguments.packages {
        bench.packages(scratch.path())?;
    }
    if arguments.handbook {
        handbook::measure(&bench, scratch.path())?;
    }
    if !(arguments.peers || arguments.packages || arguments.handbook) {
        bench.baselines(scratch.path(), arguments.small)?;
    }
    Ok(())
}

/// A program of this directory.
fn baseline(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/corpus")
        .join(name)
}

/// A row's name, and what costs what it says.
type NamedRun<'a> = (&'a str, &'a mut dyn FnMut() -> Result<Cost>);

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

    /// The main table, and what has no rival.
    fn baselines(&self, scratch: &Path, small_only: bool) -> Result<()> {
        let small = self.book(&scratch.join("small"), 50, "page")?;
        let many_sessions = self.book(&scratch.join("sessions"), 50, "heading")?;
        let blocks = small.write_in_one_block(&scratch.join("blocks"), PER_PAGE)?;
        self.record(&blocks.root)?;
        let cost = self.against_baselines(&small, &blocks, &many_sessions)?;
        self.unchanged(&small)?;
        self.edited(&small)?;
        self.answers_at_once(&small)?;
        self.memory(&small)?;
        if small_only {
            return Ok(());
        }
        for pages in [1000, 5000] {
            let large = self.book(&scratch.join(pages.to_string()), pages, "page")?;
            self.growth(&small, cost, &large, pages)?;
            self.unchanged(&large)?;
            self.memory(&large)?;
        }
        Ok(())
    }

    /// A book of twenty examples a page, recorded.
    fn book(&self, root: &Path, pages: usize, scope: &str) -> Result<Corpus> {
        let corpus = Corpus::write(root, pages, PER_PAGE, scope, Subject::Library)?;
        self.record(root)?;
        Ok(corpus)
    }

    fn record(&self, root: &Path) -> Result<()> {
        let mut command = self.verify_in(root);
        let recorded = measure::run(command.arg("record").arg("--python").arg(&self.python))?;
        ensure!(
            recorded.status == 0,
            "`verify record` ended with status {}",
            recorded.status
        );
        Ok(())
    }

    /// The main table. Returns what `verify` cost.
    fn against_baselines(
        &self,
        corpus: &Corpus,
        blocks: &Corpus,
        many_sessions: &Corpus,
    ) -> Result<Cost> {
        let joined = corpus.write_joined()?;
        let sample = corpus.write_sample(SAMPLE)?;
        let mut floor = Vec::new();
        let mut forked = Vec::new();
        let mut each = Vec::new();
        let mut cold = Vec::new();
        let mut first = Vec::new();
        let mut warm = Vec::new();
        let mut sessions = Vec::new();
        let mut alone = Vec::new();
        let mut whole = Vec::new();
        let mut by_twos = Vec::new();
        let list = corpus.root.join("sample.txt");
        let names: Vec<String> = sample
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        fs::write(&list, names.join("\n"))?;
        // Beside each other, so that all meet the machine in the same state, and more often than what is far from them.
        for _ in 0..self.runs * 4 {
            let plain = |script: &str| succeed(self.python().arg(baseline(script)).arg(&joined));
            floor.push(plain("floor.py")?);
            cold.push(succeed(self.check(corpus).arg("--no-cache"))?);
            forked.push(plain("forked.py")?);
        }
        for round in 0..self.runs {
            forget(&corpus.root)?;
            first.push(succeed(&mut self.check(corpus))?);
            for file in sample.iter().skip(round).step_by(self.runs) {
                each.push(succeed(self.python().arg(file))?);
            }
            warm.push(succeed(&mut self.check(corpus))?);
            sessions.push(succeed(self.check(many_sessions).arg("--no-cache"))?);
            whole.push(succeed(self.check(blocks).arg("--no-cache"))?);
            alone.push(succeed(self.check(corpus).args(["--no-cache", "-j1"]))?);
            let mut xargs = clean(Path::new("xargs"));
            xargs
                .args(["-P2", "-n1", "-a"])
                .arg(&list)
                .arg(&self.python);
            by_twos.push(succeed(&mut xargs)?);
        }
        let floor = median(&floor);
        let count = u32::try_from(corpus.examples.len())?;
        let sampled = u32::try_from(each.len())?;
        let each = Cost {
            cpu: each.iter().map(|cost| cost.cpu).sum::<Duration>() * count / sampled,
            wall: each.iter().map(|cost| cost.wall).sum::<Duration>() * count / sampled,
            peak: 0,
            status: 0,
        };
        let scale = count / u32::try_from(sample.len())?;
        let by_twos = median(&by_twos);
        let by_twos = Cost {
            cpu: by_twos.cpu * scale,
            wall: by_twos.wall * scale,
            ..by_twos
        };
        let sessions = median(&sessions);
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
        row("a bare fork for each page", median(&forked));
        row("verify --no-cache (50 sessions)", cold);
        row("the same, a page's examples in one block", median(&whole));
        row("verify --no-cache -j1", median(&alone));
        row("verify --no-cache, 1000 sessions", sessions);
        row("verify, first run (results are kept)", median(&first));
        row("verify, later runs (nothing changed)", median(&warm));
        row(
            &format!("python file.py each ({sampled} run, scaled)"),
            each,
        );
        row(
            &format!("xargs -P2 python file.py ({} run, scaled)", sample.len()),
            by_twos,
        );
        println!(
            "a process for each example costs {:.0} × the CPU of verify; two at a time take \
             {:.1} × the wall time of verify with 1000 sessions",
            ratio(each.cpu, cold.cpu),
            ratio(by_twos.wall, sessions.wall)
        );
        Ok(cold)
    }

    /// A book that has passed, checked once more.
    fn unchanged(&self, corpus: &Corpus) -> Result<()> {
        succeed(&mut self.check(corpus))?;
        self.beside_one_python(
            corpus,
            &mut [("unchanged", &mut || succeed(&mut self.check(corpus)))],
        )
    }

    /// A book that has passed, checked after one example was edited. Whoever shows what the example does now reads the
    /// book and runs its page in some Python: beside it, what each of the two costs.
    fn edited(&self, corpus: &Corpus) -> Result<()> {
        const PAGE: usize = 25;
        succeed(&mut self.check(corpus))?;
        let page = corpus.root.join(format!("pages/page-{PAGE:04}.md"));
        let joined = corpus.root.join("joined-page");
        let examples = &corpus.examples[(PAGE - 1) * PER_PAGE..PAGE * PER_PAGE];
        fs::write(&joined, examples.join("\0"))?;
        let original = fs::read_to_string(&page)?;
        let mut round = 0;
        let mut edit = || {
            round += 1;
            // It prints what it printed before, and has to run to show it.
            let edit = format!("import collections # edit {round}\n");
            fs::write(&page, original.replacen("import collections\n", &edit, 1))?;
            succeed(&mut self.check(corpus))
        };
        let alone = |script: &str| succeed(self.python().arg(baseline(script)).arg(&joined));
        self.beside_one_python(
            corpus,
            &mut [
                ("one edited", &mut edit),
                ("unchanged", &mut || succeed(&mut self.check(corpus))),
                ("the page alone, by `floor.py`", &mut || alone("floor.py")),
                ("the page alone, in a fork", &mut || alone("forked.py")),
            ],
        )?;
        fs::write(&page, original)?;
        Ok(())
    }

    fn beside_one_python(&self, corpus: &Corpus, rows: &mut [NamedRun<'_>]) -> Result<()> {
        let mut starts = Vec::new();
        let mut costs = vec![Vec::new(); rows.len()];
        for _ in 0..self.runs * 3 {
            starts.push(succeed(self.python().args(["-c", "pass"]))?);
            for ((_, run), costs) in rows.iter_mut().zip(&mut costs) {
                costs.push(run()?);
            }
        }
        let start = median(&starts);
        let title = format!("{} examples that have passed", corpus.examples.len());
        println!("\n{title:<45}       CPU       wall  CPU / `pass`");
        let row = |name: &str, cost: Cost| {
            println!(
                "{name:<45} {:>9} {:>10} {:>10.2} ×",
                milliseconds(cost.cpu),
                milliseconds(cost.wall),
                ratio(cost.cpu, start.cpu)
            );
        };
        row("`python -c pass`", start);
        for ((name, _), costs) in rows.iter().zip(&costs) {
            row(name, median(costs));
        }
        Ok(())
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
        forget(&corpus.root)?;
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
    fn growth(&self, small: &Corpus, small_cost: Cost, large: &Corpus, pages: usize) -> Result<()> {
        let mut costs = Vec::new();
        let mut lists = Vec::new();
        for _ in 0..self.runs.min(3) {
            costs.push(succeed(self.check(large).arg("--no-cache"))?);
            lists.push(succeed(self.verify(large).arg("list"))?);
        }
        let cost = median(&costs);
        println!(
            "\n{} examples on {pages} pages: {} CPU, {} wall; {:.1} × the CPU of {} examples; list: {} CPU",
            large.examples.len(),
            milliseconds(cost.cpu),
            milliseconds(cost.wall),
            ratio(cost.cpu, small_cost.cpu),
            small.examples.len(),
            milliseconds(median(&lists).cpu)
        );
        Ok(())
    }

    /// The other tools, beside `verify` on the same examples in each of the two dialects.
    fn peers(&self, scratch: &Path) -> Result<()> {
        let fences = self.book(&scratch.join("fences"), 50, "page")?;
        let transcripts = scratch.join("transcripts");
        fs::create_dir(&transcripts)?;
        fs::write(transcripts.join("verify.toml"), "pages = [\"pages\"]\n")?;
        let script = baseline("transcripts.py");
        let joined = fences.write_joined()?;
        succeed(
            self.python()
                .arg(script)
                .arg(joined)
                .arg(&transcripts)
                .arg("20"),
        )?;
        self.record(&transcripts)?;
        let tools = Tools::new(&self.python)?;
        let root_of = |dialect| match dialect {
            Dialect::Fences => &fences.root,
            Dialect::Transcripts => &transcripts,
        };
        let directories = scratch.join("peers");
        let mut others = Vec::new();
        for peer in PEERS {
            match Installed::new(&tools, peer, root_of(peer.dialect), &directories) {
                Ok(installed) => others.push((installed, Vec::new())),
                Err(error) => println!("{}: left out: {error:#}", peer.name),
            }
        }
        let mut ours = [Dialect::Fences, Dialect::Transcripts].map(|dialect| (dialect, Vec::new()));
        for _ in 0..self.runs {
            for (dialect, costs) in &mut ours {
                let mut cold = self.check_in(root_of(*dialect));
                costs.push(succeed(cold.arg("--no-cache"))?);
            }
            // One that fails is not tried again: it may take its time over it.
            for (installed, costs) in &mut others {
                if costs.iter().all(|cost: &Cost| cost.status == 0) {
                    costs.push(measure::run(&mut installed.command())?);
                }
            }
        }
        for (dialect, costs) in &ours {
            let own = median(costs);
            let name = match dialect {
                Dialect::Fences => "1000 examples as fences (output not compared by the others)",
                Dialect::Transcripts => "1000 examples as transcripts with their output",
            };
            println!(
                "\n{name}\n{:<24} {:<9} {:>9} {:>9} {:>8} {:>7} {:>7}",
                "", "isolates", "CPU", "wall", "peak", "CPU ×", "wall ×"
            );
            let row = |name: &str, isolation: &str, cost: Cost| {
                println!(
                    "{name:<24} {isolation:<9} {:>9} {:>9} {:>5.0} MB {:>7.1} {:>7.1}",
                    milliseconds(cost.cpu),
                    milliseconds(cost.wall),
                    megabytes(cost.peak),
                    ratio(cost.cpu, own.cpu),
                    ratio(cost.wall, own.wall)
                );
            };
            row("verify --no-cache", "page", own);
            for (installed, costs) in &others {
                if installed.peer.dialect != *dialect {
                    continue;
                }
                match costs.iter().find(|cost| cost.status != 0) {
                    None => row(installed.peer.name, installed.peer.isolation, median(costs)),
                    Some(cost) => println!(
                        "{:<24} fails on this corpus with status {}",
                        installed.peer.name, cost.status
                    ),
                }
            }
        }
        Ok(())
    }

    /// Pages that each import large packages, against one process that imports them once.
    fn packages(&self, scratch: &Path) -> Result<()> {
        let python = Tools::new(&self.python)?.environment(&["numpy==2.5.5", "pandas==3.1.1"])?;
        let bench = Bench {
            python,
            runs: self.runs,
        };
        let corpus = Corpus::write(&scratch.join("packages"), 50, 3, "page", Subject::Packages)?;
        bench.record(&corpus.root)?;
        let joined = corpus.write_joined()?;
        let script = baseline("floor.py");
        let (mut floor, mut pooled) = (Vec::new(), Vec::new());
        let (mut first, mut cold) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            // As sessions have it: a thread pool for each process would measure the pool.
            let mut plain = bench.python();
            plain.env("OPENBLAS_NUM_THREADS", "1");
            floor.push(succeed(plain.arg(&script).arg(&joined))?);
            pooled.push(succeed(bench.python().arg(&script).arg(&joined))?);
            forget(&corpus.root)?;
            first.push(succeed(&mut bench.check(&corpus))?);
            cold.push(succeed(bench.check(&corpus).arg("--no-cache"))?);
        }
        let floor = median(&floor);
        println!(
            "\n50 pages that import numpy and pandas                CPU       wall   CPU / plain"
        );
        for (name, cost) in [
            ("all in one process, numpy with one thread", floor),
            ("the same, with as many as it starts", median(&pooled)),
            (
                "verify, first run (both packages are tried)",
                median(&first),
            ),
            ("verify --no-cache (both are known)", median(&cold)),
        ] {
            println!(
                "{name:<45} {:>9} {:>10} {:>10.2} ×",
                milliseconds(cost.cpu),
                milliseconds(cost.wall),
                ratio(cost.cpu, floor.cpu)
            );
        }
        Ok(())
    }

    fn check(&self, corpus: &Corpus) -> Command {
        self.check_in(&corpus.root)
    }

    fn check_in(&self, root: &Path) -> Command {
        let mut command = self.verify_in(root);
        command.arg("--python").arg(&self.python);
        command
    }

    fn verify(&self, corpus: &Corpus) -> Command {
        self.verify_in(&corpus.root)
    }

    fn verify_in(&self, root: &Path) -> Command {
        let mut command = clean(Path::new(VERIFY));
        command.current_dir(root);
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
fn forget(root: &Path) -> Result<()> {
    match fs::remove_dir_all(root.join(".verify")) {
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
