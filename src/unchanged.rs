//! The shortest way through a check: pages whose bytes are those of an earlier run in which everything
//! passed. They are read, and neither parsed nor run; nor is any Python started to know the interpreter.
//!
//! Where anything stands in the way (an interpreter that was never asked, an environment still to be
//! made) there is no shortcut, and the long way says what is wrong.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::book::{Book, Source};
use crate::cache::{Cache, Terms, Unchanged};
use crate::config::Config;
use crate::environment;
use crate::interpreter::{self, Interpreter, Request};

/// Interpreters that are known already, with what is kept for them.
pub struct Shortcut {
    pub interpreters: Vec<(Interpreter, Cache)>,
    /// By the key of a page, what is to be said of it, an entry for each interpreter.
    known: HashMap<String, Vec<Unchanged>>,
}

impl Shortcut {
    /// `None` where an interpreter is not known without more ado.
    pub fn open(
        config: &Config,
        requests: &[Option<Request>],
        with_packages: bool,
        open: &dyn Fn(&Interpreter) -> Option<Cache>,
    ) -> Option<Shortcut> {
        let interpreters = requests
            .iter()
            .map(|request| find(config, request.as_ref(), with_packages))
            .collect::<Option<Vec<_>>>()?;
        let interpreters = interpreter::each_once(interpreters)
            .into_iter()
            .map(|interpreter| {
                let cache = open(&interpreter)?;
                Some((interpreter, cache))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Shortcut {
            interpreters,
            known: HashMap::new(),
        })
    }

    /// Whether all that is to be said of a page is known, for each interpreter.
    pub fn takes(&mut self, source: &Source) -> bool {
        let recording = source.recording.as_ref().map(std::fs::read);
        let recording = match recording {
            None => None,
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
            Some(Err(_)) => return false,
        };
        let text = Cache::text_of(&source.bytes, recording.as_deref());
        let known: Option<Vec<Unchanged>> = self
            .interpreters
            .iter()
            .map(|(_, cache)| cache.unchanged(&source.key, text))
            .collect();
        match known {
            Some(known) => {
                self.known.insert(source.key.clone(), known);
                true
            }
            None => false,
        }
    }

    /// What is to be said of the unread pages of a book under one of the interpreters, in their order.
    pub fn said_of(&self, book: &Book, interpreter: usize) -> Vec<Unchanged> {
        let pages = book.unread.iter();
        pages
            .map(|page| self.known[&page.key][interpreter].clone())
            .collect()
    }
}

fn find(config: &Config, request: Option<&Request>, with_packages: bool) -> Option<Interpreter> {
    let cache: PathBuf = config.cache_directory();
    let environment = |name: &str| std::env::var_os(name);
    let found = interpreter::discover(request, &config.root, &environment, &cache).ok()?;
    match &config.requirements {
        Some(requirements) if with_packages => {
            environment::made(&found, requirements, &config.root, &cache)
        }
        _ => Some(found),
    }
}

/// The cache for one interpreter; `None` where it cannot be opened.
pub fn open(terms: &Terms<'_>) -> Option<Cache> {
    let secret = std::env::var_os(crate::cache::SECRET_VARIABLE).unwrap_or_default();
    Cache::open(terms, secret.as_encoded_bytes()).ok()
}
