//! What importing a module brings along. Each import of a session asks for it, so the host finds it out beforehand.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Preloaded, Stored};

/// A module in store, with its name: a package brings hundreds, of which each session asks for every one.
pub(super) type Entry = (&'static str, &'static Stored);

/// What importing a module brings along, itself included, where nothing of it was imported before.
#[derive(Default)]
pub(super) struct Reach {
    /// In the order in which a plain import would: a module takes its place when its code has run to the end.
    pub(super) order: Vec<Entry>,
    /// Packages of these that are not in store, and so have to be there.
    pub(super) outside: FxHashSet<&'static str>,
    pub(super) needs_package: bool,
}

/// What is known of [`Preloaded::reach`].
#[derive(Default)]
pub(super) struct Reached(RefCell<FxHashMap<String, Rc<Reach>>>);
// SAFETY: as for `Shared` in `hand_over.rs`.
unsafe impl Send for Reached {}
unsafe impl Sync for Reached {}

impl Preloaded {
    /// What importing this brings along. It is asked for in the host first, lest each session walks through all
    /// that a package imports.
    pub(super) fn reach(&'static self, name: &str) -> Rc<Reach> {
        let mut known = self.reached.0.borrow_mut();
        if let Some(reach) = known.get(name) {
            return reach.clone();
        }
        let mut reach = Reach::default();
        self.walk(name, &mut reach, &mut FxHashSet::default());
        reach.needs_package = reach.order.iter().any(|(_, stored)| stored.is_package);
        let reach = Rc::new(reach);
        known.insert(name.to_owned(), reach.clone());
        reach
    }

    fn walk(&'static self, name: &str, reach: &mut Reach, seen: &mut FxHashSet<&'static str>) {
        let Some((name, stored)) = self.modules.get_key_value(name) else {
            return;
        };
        let name = name.as_str();
        if seen.contains(name) {
            return;
        }
        // A package comes before what is in it, whoever imported it when the module was loaded.
        if let Some((package, _)) = name.rsplit_once('.') {
            self.walk(package, reach, seen);
            if !self.modules.contains_key(package) {
                reach.outside.insert(package);
            }
        }
        // The package may have imported it.
        if !seen.insert(name) {
            return;
        }
        for import in &stored.imports {
            self.walk(import, reach, seen);
        }
        reach.order.push((name, stored));
    }
}
