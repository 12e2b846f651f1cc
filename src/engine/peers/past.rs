//! What machines keep in their histories: asking all linked ones for it, fetching a content from
//! one, and answering those who ask.
//!
//! A machine that deleted a file itself has no copy of it, and the others do. Their lists are asked
//! for when a person wants one, one question at a time. Answers are held against what was asked,
//! and are capped in count and bytes (P9). A content in history is served only to a link that was
//! told of it, for the path that it was told of (P6). Deliberately not here: which version a person
//! means, and putting it into the folder (`io/control`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report, ServedFile};
use crate::engine::api::event::{AskPast, FetchPast, FoundPast};
use crate::engine::api::event::{FetchError, FetchId, LinkId, Now, StageId, Stat};
use crate::engine::api::index::Index;
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::limits::{
    HASHED_BYTES_A_SECOND, HISTORY_ANSWER_BYTES, HISTORY_OFFERS, HISTORY_PATIENCE_NS, SECOND, SENT_BYTES_A_SECOND,
    UNCLAIMED_NS,
};
use crate::engine::peers::Peers;
use crate::model::{ContentId, DeviceId, SyncPath};
use crate::wire::features::HISTORY;
use crate::wire::message::{Message, PASTS, Past, PastWhat};
use std::collections::{BTreeMap, BTreeSet};

/// What one linked machine answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachinePasts {
    pub device: DeviceId,
    pub name: String,
    pub pasts: Vec<Past>,
    /// `false`: it did not answer, or not to the end.
    pub is_whole: bool,
}

#[derive(Default)]
pub(in crate::engine) struct Pasts {
    last_id: u32,
    asking: Option<PastQuery>,
    answered: Option<(u64, Vec<MachinePasts>)>,
    fetching: BTreeMap<FetchId, HistoryFetch>,
    /// What came, until it is taken.
    fetched: BTreeMap<u64, Fetched>,
    offered: BTreeMap<LinkId, BTreeMap<(SyncPath, ContentId), Offer>>,
}

struct PastQuery {
    id: u32,
    ticket: u64,
    path: Option<SyncPath>,
    named: BTreeMap<LinkId, BTreeSet<(SyncPath, u64)>>,
    waits_for: BTreeSet<LinkId>,
    until: u64,
    machines: BTreeMap<LinkId, (MachinePasts, usize)>,
}

struct HistoryFetch {
    ticket: u64,
    link: LinkId,
    until: u64,
}

struct Fetched {
    how: Result<StageId, FetchError>,
    until: u64,
}

struct Offer {
    kept: String,
    stat: Stat,
    size: u64,
}

impl Pasts {
    pub fn next(&self) -> Option<u64> {
        let asking = self.asking.as_ref().map(|asking| asking.until);
        let fetching = self.fetching.values().map(|fetching| fetching.until).min();
        asking.into_iter().chain(fetching).chain(self.fetched.values().map(|fetched| fetched.until).min()).min()
    }

    fn conclude(&mut self) {
        if let Some(asking) = self.asking.take() {
            let machines = asking.machines.into_values().map(|(machine, _)| machine).collect();
            self.answered = Some((asking.ticket, machines));
        }
    }

    fn conclude_if_answered(&mut self) {
        if self.asking.as_ref().is_some_and(|asking| asking.waits_for.is_empty()) {
            self.conclude();
        }
    }
}

impl Peers {
    pub(in crate::engine) fn ask_past<I: Index>(&mut self, core: &mut Core<I>, now: Now, ask: AskPast) {
        self.queries.past.last_id = self.queries.past.last_id.wrapping_add(1);
        let id = self.queries.past.last_id;
        let AskPast { ticket, path, named, bytes } = ask;
        let until = now.mono + HISTORY_PATIENCE_NS + (bytes / HASHED_BYTES_A_SECOND).saturating_mul(SECOND);
        let mut asking = PastQuery {
            id,
            ticket,
            path: path.clone(),
            named: BTreeMap::new(),
            waits_for: BTreeSet::new(),
            until,
            machines: BTreeMap::new(),
        };
        let mut out = Vec::new();
        for (link, session) in &self.sessions {
            let theirs = named.get(&session.device);
            if !named.is_empty() && theirs.is_none() {
                continue;
            }
            let machine =
                MachinePasts { device: session.device, name: session.name.clone(), pasts: Vec::new(), is_whole: false };
            asking.machines.insert(*link, (machine, 0));
            if session.features.has(HISTORY) {
                let theirs = theirs.cloned().unwrap_or_default();
                asking.named.insert(*link, theirs.iter().cloned().collect());
                asking.waits_for.insert(*link);
                out.push((*link, Message::History { id, path: path.clone(), named: theirs }));
            }
        }
        self.queries.past.asking = Some(asking);
        for (link, message) in out {
            self.send(core, vec![link], message);
        }
        self.queries.past.conclude_if_answered();
    }

    /// The answers to the question of that ticket, once all have come or were waited for long
    /// enough.
    fn take_pasts(&mut self, ticket: u64) -> Option<Vec<MachinePasts>> {
        self.queries.past.answered.take_if(|(answered, _)| *answered == ticket).map(|(_, machines)| machines)
    }

    pub(super) fn pasts_came<I: Index>(
        &mut self,
        core: &mut Core<I>,
        link: LinkId,
        id: u32,
        pasts: Vec<Past>,
        more: bool,
    ) {
        let Some(asking) = self.queries.past.asking.as_mut().filter(|asking| asking.id == id) else { return };
        if !asking.waits_for.contains(&link) {
            return core.close(link, "history that was not asked for");
        }
        let named = asking.named.get(&link).filter(|named| !named.is_empty());
        let is_asked = |past: &Past| match named {
            Some(named) => named.contains(&(past.path.clone(), past.time_ns)),
            None => asking.path.as_ref().is_none_or(|asked| past.path == *asked || past.path.is_below(asked)),
        };
        let are_asked = pasts.iter().all(is_asked);
        let limit = named.map_or(PASTS, BTreeSet::len);
        let Some((machine, bytes)) = asking.machines.get_mut(&link) else { return };
        *bytes += pasts.iter().map(Past::wire_bytes).sum::<usize>();
        if !are_asked || machine.pasts.len() + pasts.len() > limit || *bytes > HISTORY_ANSWER_BYTES {
            machine.pasts.clear();
            asking.waits_for.remove(&link);
            core.close(link, "other history than was asked for, or too much");
            return self.queries.past.conclude_if_answered();
        }
        machine.pasts.extend(pasts);
        if !more {
            machine.is_whole = true;
            asking.waits_for.remove(&link);
            self.queries.past.conclude_if_answered();
        }
    }

    pub(super) fn past_link_down(&mut self, link: LinkId) {
        self.queries.past.offered.remove(&link);
        if let Some(asking) = &mut self.queries.past.asking
            && asking.waits_for.remove(&link)
        {
            self.queries.past.conclude_if_answered();
        }
    }

    /// Whether that fetch was of a content in a history.
    fn past_came<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        fetch: FetchId,
        how: Result<StageId, FetchError>,
    ) -> bool {
        let Some(HistoryFetch { ticket, link, .. }) = self.queries.past.fetching.remove(&fetch) else {
            return false;
        };
        if how == Err(FetchError::Corrupt)
            && let Some(session) = self.sessions.get(&link)
        {
            let problem = Problem::FalseHistory { by: session.name.clone() };
            core.out.push(Action::Report(Report::Problem { path: None, problem }));
        }
        self.past_fetched(now, ticket, how);
        true
    }

    fn past_fetched(&mut self, now: Now, ticket: u64, how: Result<StageId, FetchError>) {
        self.queries.past.fetched.insert(ticket, Fetched { how, until: now.mono + UNCLAIMED_NS });
    }

    /// What came of the fetch of that ticket, once it has ended. Whoever takes a staged content has
    /// to use or discard it.
    fn take_fetched(&mut self, ticket: u64) -> Option<Result<StageId, FetchError>> {
        self.queries.past.fetched.remove(&ticket).map(|fetched| fetched.how)
    }

    pub(in crate::engine) fn past_due<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        if self.queries.past.asking.as_ref().is_some_and(|asking| asking.until <= now.mono) {
            self.queries.past.conclude();
        }
        let late = |(_, fetching): &(&FetchId, &HistoryFetch)| fetching.until <= now.mono;
        let late: Vec<_> = self.queries.past.fetching.iter().filter(late).map(|(fetch, _)| *fetch).collect();
        for fetch in late {
            core.act(Action::CancelFetch { fetch });
            self.past_came(core, now, fetch, Err(FetchError::NotHere));
        }
        let unclaimed = |(_, fetched): &(&u64, &Fetched)| fetched.until <= now.mono;
        let unclaimed: Vec<_> = self.queries.past.fetched.iter().filter(unclaimed).map(|(ticket, _)| *ticket).collect();
        for ticket in unclaimed {
            if let Some(Ok(staged)) = self.take_fetched(ticket) {
                core.act(Action::Discard(staged));
            }
        }
    }

    /// Something in history that a peer asks for, if it was told of it.
    fn offered(&self, link: LinkId, path: &SyncPath, content: ContentId, size: u64) -> Option<ServedFile> {
        let offer = self.queries.past.offered.get(&link)?.get(&(path.clone(), content))?;
        let kept = Some(offer.kept.clone());
        (offer.size == size).then(|| ServedFile { path: path.clone(), stat: offer.stat, content, size, kept })
    }
}

impl<I: Index> Core<I> {
    // Answering.

    pub(super) fn history_asked(&mut self, link: LinkId, id: u32, path: Option<SyncPath>, named: Vec<(SyncPath, u64)>) {
        self.act(Action::ListPast { to: link, id, path, named });
    }
}

impl<I: Index> Engine<I> {
    /// The answers to the question of that ticket, once all have come or were waited for long
    /// enough.
    pub fn take_pasts(&mut self, ticket: u64) -> Option<Vec<MachinePasts>> {
        self.peers.take_pasts(ticket)
    }

    // Fetching.

    pub(in crate::engine) fn fetch_past(&mut self, now: Now, wanted: FetchPast) {
        let FetchPast { ticket, device, path, content, size } = wanted;
        let is_its = |(_, session): &(&LinkId, &crate::engine::Session)| session.device == device;
        let Some(link) = self.peers.sessions.iter().find(is_its).map(|(link, _)| *link) else {
            return self.peers.past_fetched(now, ticket, Err(FetchError::LinkLost));
        };
        let fetch = FetchId(self.transfer.next_id() as u32);
        let until = now.mono + HISTORY_PATIENCE_NS + (size / SENT_BYTES_A_SECOND).saturating_mul(SECOND);
        self.peers.queries.past.fetching.insert(fetch, HistoryFetch { ticket, link, until });
        self.core.act(Action::Fetch { fetch, from: link, path, content, size });
    }

    pub(in crate::engine) fn content_came(&mut self, now: Now, fetch: FetchId, staged: StageId, wire_bytes: u64) {
        if !self.peers.past_came(&mut self.core, now, fetch, Ok(staged)) {
            self.fetched(fetch, staged, wire_bytes);
        }
    }

    pub(in crate::engine) fn content_failed(&mut self, now: Now, fetch: FetchId, why: FetchError) {
        if !self.peers.past_came(&mut self.core, now, fetch, Err(why.clone())) {
            self.fetch_failed(now, fetch, why);
        }
    }

    /// What came of the fetch of that ticket, once it has ended. Whoever takes a staged content has
    /// to use or discard it.
    pub fn take_fetched(&mut self, ticket: u64) -> Option<Result<StageId, FetchError>> {
        self.peers.take_fetched(ticket)
    }

    /// What was found here goes to who asked. What is ignored is nobody else's.
    pub(in crate::engine) fn past_listed(&mut self, link: LinkId, id: u32, mut found: Vec<FoundPast>) {
        if !self.peers.sessions.contains_key(&link) {
            return;
        }
        found.retain(|found| !self.ignores(&found.past.path, false));
        let offers = self.peers.queries.past.offered.entry(link).or_default();
        for FoundPast { past, kept, stat } in &found {
            if let PastWhat::File(content) = past.what {
                if offers.len() >= HISTORY_OFFERS {
                    offers.clear();
                }
                let offer = Offer { kept: kept.clone(), stat: *stat, size: past.size };
                offers.insert((past.path.clone(), content), offer);
            }
        }
        let pasts = found.into_iter().map(|found| found.past).collect();
        self.peers.send(&mut self.core, vec![link], Message::Pasts { id, pasts, more: false });
    }

    /// A content that is not live here: it may be in history, or on its way here.
    pub(in crate::engine) fn serve_otherwise(
        &mut self,
        link: LinkId,
        stream: FetchId,
        path: &SyncPath,
        content: ContentId,
        size: u64,
    ) {
        match self.peers.offered(link, path, content, size) {
            Some(kept) => self.core.act(Action::Serve { to: link, stream, file: Some(kept) }),
            None => self.transfer.serve_partial(&mut self.core, link, stream, content),
        }
    }
}

#[cfg(test)]
mod tests;
