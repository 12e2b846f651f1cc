//! Answering machines that ask what history keeps: a thread of its own, since contents are hashed
//! for it.
//!
//! One question a link waits at most; a newer one takes its place (P9). May import `engine`'s
//! values and `model`. Deliberately not here: who may ask, and what is told to whom
//! (`engine::past`).

use super::seek::HASHING;
use super::{History, Item};
use crate::engine::{Event, FoundPast, LinkId, StatKind};
use crate::io::Events;
use crate::io::fs::beneath;
use crate::model::SyncPath;
use crate::wire::message::{PASTS, Past, PastWhat, Sought};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct HistoryQuestions {
    waiting: Mutex<WaitingQuestions>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct WaitingQuestions {
    questions: BTreeMap<LinkId, Question>,
    /// By this machine itself.
    sought: Vec<Sought>,
    /// By this machine itself, or by others that it answers.
    located: Vec<Sought>,
    is_stopping: bool,
}

enum Next {
    Asked(LinkId, Question),
    Sought(Vec<Sought>),
    Located(Vec<Sought>),
}

#[derive(Debug)]
struct Question {
    id: u32,
    path: Option<SyncPath>,
    named: Vec<(SyncPath, u64)>,
}

impl History {
    /// The thread is to answer a link.
    pub fn ask(&self, to: LinkId, id: u32, path: Option<SyncPath>, named: Vec<(SyncPath, u64)>) {
        let mut waiting = self.asked.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.questions.insert(to, Question { id, path, named });
        self.asked.arrived.notify_one();
    }

    /// The thread is to find what this machine wants of its own history.
    pub fn seek(&self, sought: Vec<Sought>) {
        let mut waiting = self.asked.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.sought.extend(sought);
        self.asked.arrived.notify_one();
    }

    /// The thread is to find contents, wherever history holds them.
    pub fn locate(&self, sought: Vec<Sought>) {
        let mut waiting = self.asked.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.located.extend(sought);
        self.asked.arrived.notify_one();
    }

    /// The thread: answers until it is stopped.
    pub fn answer(&self, events: &Events) {
        while let Some(next) = self.next_question() {
            let (link, Question { id, path, named }) = match next {
                Next::Asked(link, question) => (link, question),
                Next::Sought(sought) => {
                    events.send(Event::KeptFound(self.find(sought)));
                    continue;
                }
                Next::Located(sought) => {
                    events.send(Event::KeptLocated(self.find_hashed(sought, Instant::now() + HASHING)));
                    continue;
                }
            };
            let found = if named.is_empty() { self.pasts(path.as_ref()) } else { self.named_pasts(&named) };
            match found {
                Ok(found) => events.send(Event::PastListed { link, id, found }),
                Err(why) => {
                    tracing::warn!("history cannot be listed for another machine: {why}");
                    events.send(Event::PastListed { link, id, found: Vec::new() });
                }
            }
        }
    }

    pub(super) fn stop_answering(&self) {
        self.asked.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_stopping = true;
        self.asked.arrived.notify_all();
    }

    fn next_question(&self) -> Option<Next> {
        let waiting = self.asked.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |waiting: &mut WaitingQuestions| {
            let is_asked = !waiting.questions.is_empty() || !waiting.sought.is_empty() || !waiting.located.is_empty();
            !is_asked && !waiting.is_stopping
        };
        let waited = self.asked.arrived.wait_while(waiting, is_idle);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        if waiting.is_stopping {
            return None;
        }
        if !waiting.sought.is_empty() {
            return Some(Next::Sought(std::mem::take(&mut waiting.sought)));
        }
        if !waiting.located.is_empty() {
            return Some(Next::Located(std::mem::take(&mut waiting.located)));
        }
        waiting.questions.pop_first().map(|(link, question)| Next::Asked(link, question))
    }

    /// The newest things that are kept of a path and below it, or of all, newest first; not hashed.
    pub(super) fn pasts(&self, path: Option<&SyncPath>) -> io::Result<Vec<FoundPast>> {
        let mut items = self.items()?;
        items.sort_by(|a, b| b.name.cmp(&a.name));
        let is_meant = |item: &Item| {
            let own = item.path.as_ref();
            own.is_some_and(|own| path.is_none_or(|path| own == path || own.is_below(path)))
        };
        let items = items.into_iter().filter(is_meant);
        Ok(items.filter_map(|item| found(item, PastWhat::Unidentified)).take(PASTS).collect())
    }

    /// What exactly these are.
    pub(super) fn named_pasts(&self, named: &[(SyncPath, u64)]) -> io::Result<Vec<FoundPast>> {
        let named: BTreeSet<_> = named.iter().cloned().collect();
        let is_meant = |item: &Item| item.path.clone().is_some_and(|path| named.contains(&(path, item.time_ns)));
        let items = self.items()?.into_iter().filter(is_meant);
        Ok(items.filter_map(|item| Some(self.identify(item)).flatten()).collect())
    }

    fn identify(&self, item: Item) -> Option<FoundPast> {
        let what = match item.facts.stat.kind {
            StatKind::File => self.content(&item.name).ok().flatten().map_or(PastWhat::Gone, PastWhat::File),
            StatKind::Symlink => {
                let target = rustix::fs::readlinkat(self.root.history(), item.name.as_str(), Vec::new());
                target.map_or(PastWhat::Gone, |target| PastWhat::Link(target.into_bytes()))
            }
            _ => return None,
        };
        // What was hashed is what has this stat.
        let what = if self.is_as_listed(&item) { what } else { PastWhat::Gone };
        found(item, what)
    }

    /// Whether it is still what it was when history was listed.
    pub(super) fn is_as_listed(&self, item: &Item) -> bool {
        let now = beneath::stat_at(self.root.history(), item.name.as_bytes()).ok().flatten();
        now == Some(item.facts.stat)
    }
}

fn found(item: Item, what: PastWhat) -> Option<FoundPast> {
    let stat = item.facts.stat;
    if !matches!(stat.kind, StatKind::File | StatKind::Symlink) {
        return None;
    }
    let (path, time_ns, reason) = (item.path?, item.time_ns, item.reason);
    let past = Past { path, time_ns, reason, size: stat.size, mode: stat.mode, mtime: stat.mtime, what };
    // A clock that was wrong, or a name that somebody made up.
    past.check().ok()?;
    Some(FoundPast { past, kept: item.name, stat })
}
