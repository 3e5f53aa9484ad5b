//! uv, which makes the environments: found, or brought by pip, and told what to install.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use pep440_rs::Version;

use super::installer::{lock, run};
use super::plan::Plan;
use super::{Error, Progress, unwritable};
use crate::interpreter::Interpreter;

/// The uv that is brought where there is none.
const UV: &str = "0.13.8";

/// The oldest uv of somebody's own that knows all options and variables used here.
const OLDEST_UV: [u64; 3] = [0, 5, 0];

pub(super) fn make(
    plan: &Plan,
    base: &Interpreter,
    lock: &File,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let uv = find_uv(base, plan, progress)?;
    progress(Progress::Creating);
    // `--seed` puts pip there, which pages show and a reader's environment has.
    let mut create = uv_command(&uv, plan);
    create
        .args(["venv", "--seed", "--no-project", "--python"])
        .arg(&base.base_executable)
        .arg(&plan.folder);
    run(create, lock).map_err(|printed| Error::NotCreated {
        folder: plan.folder.clone(),
        printed,
    })?;

    progress(Progress::Installing {
        packages: plan.pins.packages,
    });
    // Compiled now, once, as pip does it: sessions would each compile for themselves and throw it away.
    let mut install = uv_command(&uv, plan);
    install
        .args(["pip", "install", "--compile-bytecode", "--python"])
        .arg(plan.python());
    install.arg("-r").arg(&plan.pins.requirements);
    run(install, lock).map_err(|printed| Error::NotInstalled {
        requirements: plan.pins.requirements.clone(),
        printed,
    })
}

/// A uv that works: the one on `PATH`, the one brought before, or one brought now.
fn find_uv(
    base: &Interpreter,
    plan: &Plan,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    let tools = plan.root.join(".verify/tools");
    let own = tools.join("uv/bin/uv");
    for uv in [Path::new("uv"), &own] {
        if is_usable_uv(uv) {
            return Ok(uv.to_path_buf());
        }
    }
    fs::create_dir_all(&tools).map_err(unwritable(&tools))?;
    let lock = lock(&tools.join("lock"), progress)?;
    if !is_usable_uv(&own) {
        progress(Progress::FetchingUv);
        fetch_uv(&base.base_executable, &tools, &lock)?;
    }
    Ok(own)
}

/// A pyenv shim of that name may stand for no uv at all, so it is asked.
fn is_usable_uv(uv: &Path) -> bool {
    let Ok(output) = Command::new(uv)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
    else {
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said
        .strip_prefix("uv ")
        .and_then(|said| said.split_whitespace().next());
    let version = version.and_then(|version| Version::from_str(version).ok());
    output.status.success() && version.is_some_and(|version| version >= Version::new(OLDEST_UV))
}

/// Brings uv by this Python's pip, or by the pip that comes with its `venv`, into `tools/uv`.
fn fetch_uv(python: &Path, tools: &Path, lock: &File) -> Result<(), Error> {
    const ASIDE: &str = "fetching-";
    // Under the lock, such a folder can only be left over from a run that was killed.
    for entry in fs::read_dir(tools).map_err(unwritable(tools))?.flatten() {
        if entry.file_name().as_bytes().starts_with(ASIDE.as_bytes()) {
            fs::remove_dir_all(entry.path()).map_err(unwritable(&entry.path()))?;
        }
    }
    let aside = tempfile::Builder::new()
        .prefix(ASIDE)
        .tempdir_in(tools)
        .map_err(unwritable(tools))?;
    let target = aside.path().join("uv");
    let no_uv = |printed| Error::NoUv {
        python: python.to_path_buf(),
        printed,
    };

    let by_pip = run(pip_command(python, aside.path(), &target), lock);
    if let Err(printed) = by_pip {
        if !printed.contains("No module named pip") {
            return Err(no_uv(printed));
        }
        let seed = aside.path().join("seed");
        let mut venv = Command::new(python);
        venv.args(["-m", "venv"])
            .arg(&seed)
            .current_dir(aside.path());
        let seeded = run(venv, lock).and_then(|()| {
            run(
                pip_command(&seed.join("bin/python"), aside.path(), &target),
                lock,
            )
        });
        seeded.map_err(no_uv)?;
    }
    let own = tools.join("uv");
    if own.exists() {
        fs::remove_dir_all(&own).map_err(unwritable(&own))?;
    }
    fs::rename(&target, &own).map_err(unwritable(&own))
}

fn pip_command(python: &Path, empty_folder: &Path, target: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--progress-bar",
        "off",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
    ]);
    // Compiling uv takes a Rust toolchain and many minutes: better to be told that there is no wheel.
    pip.args(["--only-binary", ":all:", "--target"])
        .arg(target)
        .arg(format!("uv=={UV}"));
    // `-m` looks for pip in the current folder first, where a project may have anything.
    pip.current_dir(empty_folder);
    // Settings for other installations, which contradict `--target`.
    pip.env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0");
    for name in [
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_CONSTRAINT",
        "PIP_DRY_RUN",
    ] {
        pip.env_remove(name);
    }
    pip
}

fn uv_command(uv: &Path, plan: &Plan) -> Command {
    let mut command = Command::new(uv);
    // As pip does, uv reads local paths in requirements from the current folder: the project's.
    command.current_dir(&plan.root);
    // The Python is there and named; no other may be brought or chosen in its place.
    command
        .env("UV_PYTHON_DOWNLOADS", "never")
        .env("UV_NO_PROGRESS", "1");
    for name in [
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_PROJECT_ENVIRONMENT",
        "CONDA_PREFIX",
    ] {
        command.env_remove(name);
    }
    command.envs(as_uv_variables(&|name| std::env::var_os(name)));
    command
}

/// uv reads none of pip's variables, and a machine that only reaches its company's index often says
/// so in those alone. What is set for uv itself wins.
fn as_uv_variables(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
    let table: [(&str, &'static str, &str); 6] = [
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"),
        ("PIP_NO_INDEX", "UV_NO_INDEX", ""),
        ("PIP_FIND_LINKS", "UV_FIND_LINKS", ""),
        ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", ""),
        ("PIP_CERT", "SSL_CERT_FILE", ""),
    ];
    let is_set = |name: &str| !name.is_empty() && env(name).is_some_and(|value| !value.is_empty());
    let wanted = table
        .into_iter()
        .filter(|(pip, uv, older)| is_set(pip) && !is_set(uv) && !is_set(older));
    wanted
        .filter_map(|(pip, uv, _)| {
            let value = env(pip)?;
            if pip != "PIP_FIND_LINKS" {
                return Some((uv, value));
            }
            // Separated by spaces there and by commas here; uv stops at a folder that is not there.
            let places = value.to_str()?.split_whitespace();
            let places = places.filter(|place| place.contains("://") || Path::new(place).exists());
            Some((uv, places.collect::<Vec<_>>().join(",").into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pips_variables_in_uvs_words() {
        #[track_caller]
        fn check(set: &[(&str, &str)], expected: &[(&str, &str)]) {
            let env = |name: &str| {
                set.iter()
                    .find(|(one, _)| *one == name)
                    .map(|(_, value)| OsString::from(value))
            };
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| (*name, OsString::from(value)))
                .collect();
            assert_eq!(as_uv_variables(&env), expected);
        }
        check(&[], &[]);
        check(
            &[("PIP_INDEX_URL", "https://host/simple")],
            &[("UV_DEFAULT_INDEX", "https://host/simple")],
        );
        check(
            &[
                ("PIP_INDEX_URL", "https://host/simple"),
                ("UV_INDEX_URL", "https://other"),
            ],
            &[],
        );
        check(
            &[
                ("PIP_INDEX_URL", "https://host/simple"),
                ("UV_DEFAULT_INDEX", "https://other"),
            ],
            &[],
        );
        check(&[("PIP_INDEX_URL", "")], &[]);
        check(
            &[("PIP_FIND_LINKS", "https://host/x /usr /not/there")],
            &[("UV_FIND_LINKS", "https://host/x,/usr")],
        );
        check(&[("PIP_CERT", "/a.pem"), ("SSL_CERT_FILE", "/b.pem")], &[]);
    }
}
