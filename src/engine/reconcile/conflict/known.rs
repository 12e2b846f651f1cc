//! Which conflicts are known: those that were found here, those that peers tell of, and how they
//! were decided.
//!
//! Every machine lists the same ones. A conflict is told when it is found, heard of or decided, to
//! all but who told it. On connecting the two ends tell each other a digest of what they know; an
//! end that knows others answers with all of it, so what one missed it hears from anyone. A
//! decision beats no decision, so an old row undoes none. What peers tell is capped apart from what
//! was found here, and for each peer, what it found apart from what it was told (P9): made-up
//! conflicts fill only the room of who made them up. Deliberately not here: how a conflict comes
//! about, and what becomes of the loser.

use crate::engine::Engine;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Conflict, ConflictFilter, ConflictSource, Index, Settled};
use crate::engine::core::Core;
use crate::engine::limits::{CONFLICT_PAGE, CONFLICT_SETTLED_NS, CONFLICTS_OWN, CONFLICTS_OWN_AT_ONCE, SECOND};
use crate::engine::reconcile::Reconcile;
use crate::model::{DeviceId, SyncPath, Version};
use crate::wire::conflict::{ConflictKey, ConflictNews, Decided, Sides};
use crate::wire::features::CONFLICTS;
use crate::wire::message::{Digest, Message};
use std::collections::BTreeMap;

/// What is kept of one peer's telling, once of what it found and once of what it was told; and
/// of all peers' (rows and bytes, P9).
const PEER_ROOM: ConflictRoom = ConflictRoom { rows: 16_384, bytes: 8 << 20 };
const PEERS_ROOM: ConflictRoom = ConflictRoom { rows: 65_536, bytes: 32 << 20 };

#[derive(Debug, Clone, Copy, Default)]
struct ConflictRoom {
    rows: usize,
    bytes: usize,
}

impl ConflictRoom {
    fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    fn holds(self, limit: Self, more: usize) -> bool {
        self.rows < limit.rows && self.bytes + more <= limit.bytes
    }
}

/// Who hears of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    All,
    AllBut(LinkId),
    Only(LinkId),
}

#[derive(Default)]
pub(in crate::engine) struct KnownConflicts {
    outgoing: Vec<(Whom, ConflictNews)>,
    /// What peers' tellings take; counted when it is asked for.
    taken: Option<BTreeMap<ConflictSource, ConflictRoom>>,
    digest: Option<Digest>,
    found: usize,
}

impl KnownConflicts {
    pub fn has_news(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

impl Reconcile {
    fn keep_conflict<I: Index>(&mut self, core: &mut Core<I>, conflict: &Conflict) {
        core.index.put_conflict(conflict);
        self.known_conflicts.digest = None;
    }

    /// Forgets decisions that are old, and what is too much.
    pub(in crate::engine) fn forget_conflicts<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        core.index.forget_conflicts(core.steady(now).saturating_sub(CONFLICT_SETTLED_NS), CONFLICTS_OWN);
        self.known_conflicts.digest = None;
        self.known_conflicts.taken = None;
    }

    fn conflicts_digest<I: Index>(&mut self, core: &Core<I>) -> Digest {
        if let Some(digest) = self.known_conflicts.digest {
            return digest;
        }
        let mut hasher = blake3::Hasher::new();
        for (key, is_settled) in core.index.conflict_marks() {
            hasher.update(&key.0).update(&[u8::from(is_settled)]);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..size_of::<Digest>()]);
        *self.known_conflicts.digest.insert(digest)
    }

    /// Takes room for one more row of a peer's, if there is some.
    fn takes_room<I: Index>(&mut self, core: &Core<I>, source: ConflictSource, bytes: usize) -> bool {
        if self.known_conflicts.taken.is_none() {
            self.known_conflicts.taken = Some(core.count_announced());
        }
        let taken = self.known_conflicts.taken.get_or_insert_default();
        let all = taken.values().fold(ConflictRoom::default(), |all, one| ConflictRoom {
            rows: all.rows + one.rows,
            bytes: all.bytes + one.bytes,
        });
        let one = taken.entry(source).or_default();
        let has_room = one.holds(PEER_ROOM, bytes) && all.holds(PEERS_ROOM, bytes);
        if has_room {
            one.add(bytes);
        }
        has_room
    }
}

impl<I: Index> Core<I> {
    /// The last change of this machine that it speaks of. One that was never made says, as in an
    /// entry, that this machine was set back to an older state.
    fn claimed_by(&self, news: &ConflictNews) -> u64 {
        let versions = [&news.sides.winner.version, &news.sides.loser.version];
        versions.iter().map(|version| version.seen.get(&self.config.device)).max().unwrap_or_default()
    }

    fn count_announced(&self) -> BTreeMap<ConflictSource, ConflictRoom> {
        let mut taken: BTreeMap<ConflictSource, ConflictRoom> = BTreeMap::new();
        let mut wanted = ConflictFilter { settled: true, limit: CONFLICT_PAGE, ..ConflictFilter::default() };
        loop {
            let page = self.index.conflicts(&wanted);
            for conflict in &page {
                if let Some(source) = conflict.source {
                    taken.entry(source).or_default().add(news_of(0, conflict).wire_bytes());
                }
            }
            match page.last() {
                Some(last) if page.len() == CONFLICT_PAGE => wanted.after = last.id,
                _ => return taken,
            }
        }
    }

    /// This machine, and the conflicts that are asked for.
    fn conflicts(&self, wanted: &ConflictFilter) -> (DeviceId, Vec<Conflict>) {
        (self.config.device, self.index.conflicts(wanted))
    }
}

impl<I: Index> Engine<I> {
    /// A loser is here, or its copy. Whether it was not known yet.
    pub(in crate::engine) fn note_conflict(&mut self, path: &SyncPath, sides: Sides, kept: Option<String>) {
        let now = self.core.last_event;
        let sides = sides.trimmed();
        let known = self.core.index.conflict(&ConflictKey::of(path, &sides.loser.version));
        let is_news = known.is_none();
        if is_news && self.peers.announces_nothing() {
            // Nobody would take it: what writers found is listed, as they tell it.
            return;
        }
        if known.as_ref().is_some_and(|known| known.source.is_some()) {
            // It was told before it was found here.
            self.reconcile.known_conflicts.taken = None;
        }
        let conflict = match known {
            Some(known) => Conflict { kept: kept.or(known.kept), sides, source: None, ..known },
            None => Conflict { id: 0, at: now.wall, path: path.clone(), kept, settled: None, sides, source: None },
        };
        self.reconcile.keep_conflict(&mut self.core, &conflict);
        if is_news {
            self.queue_conflict(now, Whom::All, &conflict);
            self.reconcile.known_conflicts.found += 1;
            if self.reconcile.known_conflicts.found.is_multiple_of(CONFLICTS_OWN_AT_ONCE) {
                self.reconcile.forget_conflicts(&mut self.core, now);
            }
        }
    }

    /// A person decided those of a path, up to the one called `last`.
    pub(in crate::engine) fn settle_conflicts(&mut self, now: Now, path: &SyncPath, last: i64, how: &str) {
        let wanted = ConflictFilter { path: Some(path.clone()), limit: usize::MAX, ..ConflictFilter::default() };
        let how = format!("{how} at {}", self.core.config.name);
        for conflict in self.core.index.conflicts(&wanted) {
            if conflict.id <= last {
                self.settle_conflict(now, conflict, how.clone());
            }
        }
    }

    /// The loser's edits are in what is at the path now.
    pub(in crate::engine::reconcile) fn conflict_is_merged(&mut self, path: &SyncPath, loser: &Version) {
        let known = self.core.index.conflict(&ConflictKey::of(path, loser));
        if let Some(known) = known.filter(|known| known.settled.is_none()) {
            self.settle_conflict(self.core.last_event, known, "merged".to_owned());
        }
    }

    fn settle_conflict(&mut self, now: Now, mut conflict: Conflict, how: String) {
        conflict.settled = Some(Settled { how, at: self.steady(now) });
        self.reconcile.keep_conflict(&mut self.core, &conflict);
        self.queue_conflict(now, Whom::All, &conflict);
    }

    // Telling.

    fn knows_conflicts(&self, link: LinkId) -> bool {
        self.peers.has_feature(link, CONFLICTS)
    }

    pub(in crate::engine) fn greet_with_conflicts(&mut self, link: LinkId) {
        if self.knows_conflicts(link) {
            let digest = Some(self.reconcile.conflicts_digest(&self.core));
            self.peers.send(&mut self.core, vec![link], Message::Conflicts { digest, news: Vec::new() });
        }
    }

    fn queue_conflict(&mut self, now: Now, whom: Whom, conflict: &Conflict) {
        if !self.peers.is_alone() {
            let news = news_of(self.steady(now), conflict);
            self.reconcile.known_conflicts.outgoing.push((whom, news));
        }
    }

    /// Once a group of events.
    pub(in crate::engine) fn send_conflicts(&mut self) {
        let outgoing = std::mem::take(&mut self.reconcile.known_conflicts.outgoing);
        if outgoing.is_empty() {
            return;
        }
        for link in self.peers.links().collect::<Vec<_>>() {
            let is_meant = |whom: Whom| match whom {
                Whom::All => true,
                Whom::AllBut(other) => other != link,
                Whom::Only(one) => one == link,
            };
            let news = outgoing.iter().filter(|(whom, news)| is_meant(*whom) && news.check().is_ok());
            let news: Vec<_> = news.map(|(_, news)| news.clone()).collect();
            if !news.is_empty() && self.knows_conflicts(link) {
                self.peers.send(&mut self.core, vec![link], Message::Conflicts { digest: None, news });
            }
        }
    }

    /// All that is known here, as much as one peer keeps: what was found here first.
    fn announce_all_conflicts(&mut self, now: Now, link: LinkId) {
        let (mut found, mut announced) = (Vec::new(), Vec::new());
        let steady = self.steady(now);
        let mut wanted = ConflictFilter { settled: true, limit: CONFLICT_PAGE, ..ConflictFilter::default() };
        loop {
            let page = self.core.index.conflicts(&wanted);
            for conflict in &page {
                let list = if conflict.source.is_none() { &mut found } else { &mut announced };
                let news = news_of(steady, conflict);
                if list.len() < PEER_ROOM.rows && news.check().is_ok() {
                    list.push(news);
                }
            }
            match page.last() {
                Some(last) if page.len() == CONFLICT_PAGE => wanted.after = last.id,
                _ => break,
            }
        }
        found.append(&mut announced);
        if !found.is_empty() {
            self.peers.send(&mut self.core, vec![link], Message::Conflicts { digest: None, news: found });
        }
    }

    // Hearing.

    pub(in crate::engine) fn conflicts_came(
        &mut self,
        now: Now,
        link: LinkId,
        digest: Option<Digest>,
        news: Vec<ConflictNews>,
    ) {
        if let Some(theirs) = digest
            // All is told once a link: asking again and again costs the asker's peer too much.
            && self.peers.begin_conflicts(link)
            && self.reconcile.conflicts_digest(&self.core) != theirs
        {
            self.announce_all_conflicts(now, link);
        }
        for news in news {
            self.conflict_came(now, link, news);
        }
    }

    fn conflict_came(&mut self, now: Now, link: LinkId, news: ConflictNews) {
        let Some(device) = self.peers.device_of(link) else { return };
        let source = ConflictSource { device, relayed: news.relayed };
        if news.check().is_err() || !self.is_ours(self.core.claimed_by(&news), link) {
            return;
        }
        let (bytes, steady) = (news.wire_bytes(), self.steady(now));
        let known = self.core.index.conflict(&news.key());
        let ConflictNews { path, found_ns, decided, sides, .. } = news;
        let settled =
            decided.map(|Decided { how, age_s }| Settled { how, at: steady.saturating_sub(u64::from(age_s) * SECOND) });
        let conflict = match (known, settled) {
            (Some(known), Some(settled)) if known.settled.is_none() => Conflict { settled: Some(settled), ..known },
            // It missed the decision.
            (Some(known), None) if known.settled.is_some() => {
                return self.queue_conflict(now, Whom::Only(link), &known);
            }
            (Some(_), _) => return,
            (None, settled) => {
                let is_old =
                    settled.as_ref().is_some_and(|settled| settled.at.saturating_add(CONFLICT_SETTLED_NS) < steady);
                if is_old || !self.reconcile.takes_room(&self.core, source, bytes) {
                    return;
                }
                let source = Some(source);
                Conflict { id: 0, at: found_ns, path, kept: None, settled, sides, source }
            }
        };
        self.reconcile.keep_conflict(&mut self.core, &conflict);
        self.queue_conflict(now, Whom::AllBut(link), &conflict);
    }

    /// This machine, and the conflicts that are asked for.
    pub fn conflicts(&self, wanted: &ConflictFilter) -> (DeviceId, Vec<Conflict>) {
        self.core.conflicts(wanted)
    }
}

/// `steady`: the time by the clock that no step moves.
fn news_of(steady: u64, conflict: &Conflict) -> ConflictNews {
    let decided = conflict.settled.as_ref().map(|Settled { how, at }| Decided {
        how: how.clone(),
        age_s: u32::try_from(steady.saturating_sub(*at) / SECOND).unwrap_or(u32::MAX),
    });
    let Conflict { path, at, source, sides, .. } = conflict.clone();
    // Those of earlier versions name all that was seen.
    ConflictNews { path, found_ns: at, decided, relayed: source.is_some(), sides: sides.trimmed() }
}

#[cfg(test)]
mod tests;
