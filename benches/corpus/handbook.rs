//! The handbook itself, verified from nothing, beside one plain Python process per session in sequence.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use verify::book::{Book, Selection};
use verify::check;
use verify::config::Config;
use verify::example::Kind;

use crate::measure::{self, Cost, median};
use crate::{Bench, clean, milliseconds, ratio};

/// Measures a copy, so that no run of somebody else's changes it or what is cached of it.
pub(crate) fn measure(bench: &Bench, scratch: &Path) -> Result<()> {
    let root = scratch.join("handbook-copy");
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["handbook", "expected", "verify.toml"] {
        copy(&project.join(name), &root.join(name))?;
    }
    // Brings the packages, which nothing below is to pay for, from where this machine gets its packages.
    let mut first = bench.check_in(&root);
    first.envs(std::env::vars_os());
    let status = measure::run(&mut first)?.status;
    ensure!(
        status <= 1,
        "`verify` ended with status {status} on the handbook"
    );
    let python = environment_python(&root)?;

    let config = Config::read(&root.join("verify.toml"))?;
    let book = Book::read(&config, &[])?;
    let plans = check::plan(&book, &config, &Selection::default());
    let mut scripts = Vec::new();
    let mut left_out = 0;
    for (number, plan) in plans.iter().enumerate() {
        let directory = scratch.join(format!("sessions/{number}"));
        fs::create_dir_all(&directory)?;
        let mut script = String::new();
        for &position in &plan.examples {
            let example = &book.pages[plan.page].examples[position];
            let attributes = &example.attributes;
            match &example.kind {
                Kind::File(name) => {
                    let path = directory.join(name);
                    fs::create_dir_all(path.parent().unwrap_or(&directory))?;
                    fs::write(path, example.source())?;
                }
                Kind::Module(_)
                    if attributes.skip.is_none()
                        && attributes.norun.is_none()
                        && attributes.raises.is_none()
                        && attributes.exits.is_none()
                        && attributes.python.is_none() =>
                {
                    script.push_str(example.source());
                    script.push('\n');
                }
                _ => left_out += 1,
            }
        }
        fs::write(directory.join("session.py"), script)?;
        scripts.push(directory);
    }

    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs.min(3) {
        for entry in fs::read_dir(root.join(".verify"))? {
            let entry = entry?;
            if entry.file_name() == "environments" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        ours.push(measure::run(
            bench.check_in(&root).args(["--no-sync", "--no-cache"]),
        )?);
        let mut sum = Cost::default();
        for directory in &scripts {
            let mut command = clean(&python);
            command
                .current_dir(directory)
                .env("HOME", directory)
                .env("PYTHONHASHSEED", "0")
                .arg("session.py");
            let cost = measure::run(&mut command)?;
            sum.cpu += cost.cpu;
            sum.wall += cost.wall;
        }
        plain.push(sum);
    }
    let failed = ours.iter().filter(|cost| cost.status != 0).count();
    let (ours, plain) = (median(&ours), median(&plain));
    println!(
        "\nthe handbook, {} sessions on {} pages: verify {} CPU, {} wall; `python` for each session in turn, \
         without {left_out} examples that are to fail or are no files: {} CPU, {} wall: {:.1} × the CPU, \
         {:.1} × the wall time",
        plans.len(),
        book.pages.len(),
        milliseconds(ours.cpu),
        milliseconds(ours.wall),
        milliseconds(plain.cpu),
        milliseconds(plain.wall),
        ratio(plain.cpu, ours.cpu),
        ratio(plain.wall, ours.wall)
    );
    if failed > 0 {
        println!("{failed} of verify's runs found examples that are not as expected");
    }
    Ok(())
}

/// The Python of the environment that `verify` has made there.
fn environment_python(root: &Path) -> Result<std::path::PathBuf> {
    walkdir::WalkDir::new(root.join(".verify/environments"))
        .max_depth(4)
        .into_iter()
        .filter_map(std::result::Result::ok)
        .map(walkdir::DirEntry::into_path)
        .find(|path| path.ends_with("bin/python"))
        .context("`verify` made no environment for the handbook")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from)?);
        // A file that stands for itself has no name below itself.
        let target = if entry.depth() == 0 {
            to.to_owned()
        } else {
            target
        };
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
