//! The tools that authors use today, each on the same examples in the dialect that it reads.
//!
//! They come from PyPI at the versions named here, each into an environment of its own below `target/`,
//! so that none loads another's plugins. One that cannot be installed, or fails on the corpus, is a line
//! of the table that says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A way to test pages, as its own documentation says to use it.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What has to be installed.
    packages: &'static [&'static str],
    /// What the examples of one page, and those of different pages, share no process with.
    pub(crate) isolation: &'static str,
    pub(crate) dialect: Dialect,
    /// A file that its users write.
    file: Option<(&'static str, &'static str)>,
    /// Arguments of `python`; `PAGES` stands for the names of all pages.
    arguments: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Fences with Python; what they print is not compared.
    Fences,
    /// `>>>` blocks with their output, in pages and as docstrings of a module.
    Transcripts,
}

const PYTEST: &str = "pytest==9.2.0";

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "doctest",
        packages: &[],
        isolation: "none",
        dialect: Dialect::Transcripts,
        file: None,
        arguments: &["-m", "doctest", "PAGES"],
    },
    Peer {
        name: "pytest --doctest-glob",
        packages: &[PYTEST],
        isolation: "none",
        dialect: Dialect::Transcripts,
        file: None,
        arguments: &["-m", "pytest", "-q", "--doctest-glob=*.md", "pages"],
    },
    Peer {
        name: "xdoctest",
        packages: &["xdoctest==1.3.2"],
        isolation: "none",
        dialect: Dialect::Transcripts,
        file: None,
        arguments: &["-m", "xdoctest", "module.py", "all"],
    },
    Peer {
        name: "mdoctest",
        packages: &["mdoctest==0.9.0"],
        isolation: "none",
        dialect: Dialect::Transcripts,
        file: None,
        arguments: &[
            "-c",
            "from mdoctest.cli import main; raise SystemExit(main())",
            "pages",
        ],
    },
    Peer {
        name: "byexample -j2",
        packages: &["byexample==11.0.0"],
        isolation: "page",
        dialect: Dialect::Transcripts,
        file: None,
        arguments: &[
            "-c",
            "from byexample.byexample import main; raise SystemExit(main())",
            "-l",
            "python",
            "-j2",
            "--timeout",
            "60",
            "PAGES",
        ],
    },
    Peer {
        name: "mktestdocs",
        packages: &["mktestdocs==0.2.5", PYTEST],
        isolation: "none",
        dialect: Dialect::Fences,
        file: Some((
            "test_pages.py",
            "import pathlib\n\nimport pytest\nfrom mktestdocs import check_md_file\n\n\n\
             @pytest.mark.parametrize(\"page\", sorted(pathlib.Path(\"pages\").glob(\"*.md\")), ids=str)\n\
             def test_page(page):\n    check_md_file(fpath=page)\n",
        )),
        arguments: &["-m", "pytest", "-q", "test_pages.py"],
    },
    Peer {
        name: "pytest-codeblocks",
        packages: &["pytest-codeblocks==0.18.0", PYTEST],
        isolation: "none",
        dialect: Dialect::Fences,
        file: None,
        arguments: &["-m", "pytest", "-q", "--codeblocks", "pages"],
    },
    Peer {
        name: "pytest-markdown-docs",
        packages: &["pytest-markdown-docs==0.9.2", PYTEST],
        isolation: "none",
        dialect: Dialect::Fences,
        file: None,
        arguments: &["-m", "pytest", "-q", "--markdown-docs", "pages"],
    },
    Peer {
        name: "Sybil",
        packages: &["sybil==10.1.0", PYTEST],
        isolation: "none",
        dialect: Dialect::Fences,
        file: Some((
            "conftest.py",
            "from sybil import Sybil\nfrom sybil.parsers.markdown import PythonCodeBlockParser\n\n\
             pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser()], pattern=\"*.md\").pytest()\n",
        )),
        arguments: &["-m", "pytest", "-q", "pages"],
    },
    Peer {
        name: "pytest-examples",
        packages: &["pytest-examples==0.0.18", PYTEST],
        isolation: "none",
        dialect: Dialect::Fences,
        file: Some((
            "test_pages.py",
            "import pytest\nfrom pytest_examples import CodeExample, EvalExample, find_examples\n\n\n\
             @pytest.mark.parametrize(\"example\", find_examples(\"pages\"), ids=str)\n\
             def test_example(example: CodeExample, eval_example: EvalExample):\n    eval_example.run(example)\n",
        )),
        arguments: &["-m", "pytest", "-q", "test_pages.py"],
    },
];

/// A peer with everything in place.
pub(crate) struct Installed {
    pub(crate) peer: &'static Peer,
    python: PathBuf,
    directory: PathBuf,
    pages: Vec<PathBuf>,
}

impl Installed {
    /// Installs a peer and gives it pages of its own: what one tool puts beside them is none of another's.
    pub(crate) fn new(
        tools: &Tools,
        peer: &'static Peer,
        corpus: &Path,
        scratch: &Path,
    ) -> Result<Installed> {
        let directory = scratch.join(peer.name.replace(' ', "_"));
        fs::create_dir_all(directory.join("pages"))?;
        let mut pages = Vec::new();
        for entry in fs::read_dir(corpus.join("pages"))? {
            let entry = entry?;
            let name = Path::new("pages").join(entry.file_name());
            fs::copy(entry.path(), directory.join(&name))?;
            pages.push(name);
        }
        pages.sort();
        if peer.dialect == Dialect::Transcripts {
            fs::copy(corpus.join("module.py"), directory.join("module.py"))?;
        }
        if let Some((name, text)) = peer.file {
            fs::write(directory.join(name), text)?;
        }
        Ok(Installed {
            peer,
            python: tools.environment(peer.packages)?,
            directory,
            pages,
        })
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = crate::clean(&self.python);
        // byexample starts the `python` that it finds.
        let own = self.python.parent().unwrap_or(Path::new("/"));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", own.display());
        command.current_dir(&self.directory).env("PATH", path);
        for &argument in self.peer.arguments {
            if argument == "PAGES" {
                command.args(&self.pages);
            } else {
                command.arg(argument);
            }
        }
        command
    }
}

/// uv, and the directory that it makes environments in.
pub(crate) struct Tools {
    uv: PathBuf,
    python: PathBuf,
    directory: PathBuf,
}

impl Tools {
    pub(crate) fn new(python: &Path) -> Result<Tools> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&directory)?;
        let version = Command::new(python)
            .args([
                "-c",
                "import sys; print('cpython-%d.%d.%d' % sys.version_info[:3])",
            ])
            .output()?
            .stdout;
        let version = String::from_utf8(version)?.trim().to_owned();
        let uv = match Command::new("uv").arg("--version").output() {
            Ok(output) if output.status.success() => PathBuf::from("uv"),
            _ => bring_uv(python, &directory)?,
        };
        Ok(Tools {
            uv,
            python: python.to_owned(),
            directory: directory.join(version),
        })
    }

    /// The Python of an environment with these packages; made once, and kept as long as `target/` is.
    pub(crate) fn environment(&self, packages: &[&str]) -> Result<PathBuf> {
        if packages.is_empty() {
            return Ok(self.python.clone());
        }
        let home = self.directory.join(packages.join("+"));
        let python = home.join("bin/python");
        if !home.join("complete").exists() {
            run(Command::new(&self.uv)
                .args(["venv", "--quiet", "--clear", "--python"])
                .arg(&self.python)
                .arg(&home))?;
            run(Command::new(&self.uv)
                .args(["pip", "install", "--quiet", "--python"])
                .arg(&python)
                .args(packages))?;
            fs::write(home.join("complete"), "")?;
        }
        Ok(python)
    }
}

fn bring_uv(python: &Path, directory: &Path) -> Result<PathBuf> {
    let home = directory.join("uv");
    let uv = home.join("bin/uv");
    if !uv.exists() {
        run(Command::new(python).args(["-m", "venv"]).arg(&home))?;
        run(Command::new(home.join("bin/python")).args(["-m", "pip", "install", "--quiet", "uv"]))?;
    }
    Ok(uv)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().rfind(|line| !line.trim().is_empty());
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        command.get_program().display(),
        reason.unwrap_or("no reason given").trim()
    );
    Ok(())
}
