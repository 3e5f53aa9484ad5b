//! Gathers what sessions gave into pages, and pages into their order; keeps what an unchanged page needs.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Result;

use super::runner::SessionResults;
use super::{Keeping, Results, Run, SessionPlan, Tell, is_judged};
use crate::cache::{Ran, Unchanged, WholePage, Why};
use crate::digest::Digest;
use crate::protocol::Protections;
use crate::report::{Event, ExampleResult, PageResult, Rerun, SessionNote, Summary};

/// Gathers sessions into pages, and pages into their order.
pub(super) struct Pages<'a> {
    run: Run<'a>,
    plans: &'a [SessionPlan],
    /// Pages in order.
    waiting: BTreeMap<usize, Waiting<'a>>,
    reruns: HashMap<usize, Rerun>,
    results: Results<'a>,
    missing: usize,
    protections: Option<Protections>,
    has_written: bool,
}

/// A page some of whose sessions are still to come.
#[derive(Default)]
struct Waiting<'a> {
    missing: usize,
    results: Vec<ExampleResult<'a>>,
    notes: Vec<(usize, SessionNote<'a>)>,
    keys: Vec<Digest>,
    ran: Vec<Ran>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(
        run: &Run<'a>,
        plans: &'a [SessionPlan],
        protections: Option<Protections>,
    ) -> Pages<'a> {
        let mut waiting: BTreeMap<usize, Waiting<'a>> = BTreeMap::new();
        for plan in plans {
            waiting.entry(plan.page).or_default().missing += 1;
        }
        Pages {
            run: *run,
            plans,
            waiting,
            reruns: HashMap::new(),
            results: Results {
                pages: Vec::new(),
                contexts: HashMap::new(),
                stopped_early: false,
                span: SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH,
                sessions: 0,
                kept: 0,
            },
            missing: plans.len(),
            protections,
            has_written: false,
        }
    }

    pub(super) fn take(
        &mut self,
        job: usize,
        session: SessionResults<'a>,
        tell: Tell<'_>,
    ) -> io::Result<()> {
        let plan = &self.plans[job];
        self.missing -= 1;
        self.results.sessions += 1;
        self.results.kept += usize::from(session.why == Why::Unchanged);
        let context = Arc::new(session.context);
        for result in &session.results {
            self.results.contexts.insert(result.at, context.clone());
        }
        if let Some(rerun) = session.rerun {
            self.reruns.entry(plan.page).or_default().add(rerun);
        }
        let waiting = self
            .waiting
            .get_mut(&plan.page)
            .expect("every page waits for its sessions");
        waiting.missing -= 1;
        if let Some(&first) = plan.examples.first() {
            let example = &self.run.book.pages[plan.page].examples[first];
            let note = SessionNote {
                line: example.block.line,
                id: &example.id,
                why: session.why.to_string(),
            };
            waiting.notes.push((first, note));
        }
        waiting.results.extend(session.results);
        waiting.keys.extend(session.key);
        waiting.ran.extend(session.ran);
        if waiting.missing == 0 {
            // Now, not when its turn comes: what is to be kept of a whole book is long.
            self.keep(plan.page);
        }
        while let Some(first) = self
            .waiting
            .first_entry()
            .filter(|first| first.get().missing == 0)
        {
            let (page, waiting) = first.remove_entry();
            self.emit(page, waiting, tell)?;
        }
        Ok(())
    }

    fn emit(&mut self, number: usize, mut waiting: Waiting<'a>, tell: Tell<'_>) -> io::Result<()> {
        waiting.results.sort_by_key(|result| result.at);
        waiting.notes.sort_by_key(|(position, _)| *position);
        let examples = std::mem::take(&mut waiting.results);
        let notes = std::mem::take(&mut waiting.notes).into_iter();
        let result = PageResult {
            page: &self.run.book.pages[number],
            number,
            rerun: self.reruns.remove(&number),
            interpreter: self.run.interpreter,
            examples,
            sessions: notes.map(|(_, note)| note).collect(),
        };
        tell(&Event::Page(&result))?;
        self.results.pages.push(result);
        Ok(())
    }

    /// Keeps what the sessions of a page have left so far, which waits for its turn to be told.
    fn keep(&mut self, number: usize) {
        let (Some(keeping), Some(waiting)) = (self.run.keeping, self.waiting.get_mut(&number))
        else {
            return;
        };
        let (keys, ran) = (
            std::mem::take(&mut waiting.keys),
            std::mem::take(&mut waiting.ran),
        );
        let page = &self.run.book.pages[number];
        let sessions = keys.len();
        let passed = waiting.missing == 0 && ran.iter().all(Ran::is_kept);
        let whole = (keeping.whole[number] && passed).then(|| WholePage {
            text: keeping.texts[number],
            sessions: keys,
            unchanged: Unchanged {
                summary: Summary::of(&waiting.results),
                sessions,
                protections: self.protections.clone(),
            },
        });
        let is_news = |whole: &WholePage| keeping.cache.unchanged(&page.key, whole.text).is_none();
        if !ran.is_empty() || whole.as_ref().is_some_and(is_news) {
            keeping.cache.keep(&page.key, whole, ran);
            self.has_written = true;
        }
    }

    /// What a run that ended early has of its last pages is shown as well, unless somebody stopped it, who will ask
    /// again.
    pub(super) fn finish(mut self, began: SystemTime, tell: Tell<'_>) -> Result<Results<'a>> {
        let is_stopped = self.run.is_stopped();
        let parts = self.waiting.iter();
        let parts = parts.filter(|(_, waiting)| waiting.missing > 0 && !waiting.results.is_empty());
        let parts: Vec<usize> = parts.map(|(&number, _)| number).collect();
        for number in parts.into_iter().filter(|_| !is_stopped) {
            self.keep(number);
        }
        for (page, waiting) in std::mem::take(&mut self.waiting) {
            let is_shown = waiting.missing == 0 || !is_stopped;
            if is_shown && !waiting.results.is_empty() {
                self.emit(page, waiting, tell)?;
            }
        }
        if let Some(keeping) = self.run.keeping {
            self.keep_empty_pages(&keeping);
            keeping.cache.tidy(self.has_written);
        }
        self.results.stopped_early = self.missing > 0;
        self.results.span = began..SystemTime::now();
        Ok(self.results)
    }

    /// Pages on which nothing runs need no second look either.
    fn keep_empty_pages(&mut self, keeping: &Keeping<'_>) {
        for (number, page) in self.run.book.pages.iter().enumerate() {
            let text = keeping.texts[number];
            if !page.examples.iter().any(is_judged)
                && keeping.whole[number]
                && keeping.cache.unchanged(&page.key, text).is_none()
            {
                let whole = WholePage {
                    text,
                    sessions: Vec::new(),
                    unchanged: Unchanged::default(),
                };
                keeping.cache.keep(&page.key, Some(whole), Vec::new());
                self.has_written = true;
            }
        }
    }
}
