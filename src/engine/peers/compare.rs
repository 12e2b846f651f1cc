//! Comparing two trees: digests of groups, of buckets, then the entries of the buckets that differ.
//!
//! Deliberately not here: when it begins (`state.rs`), and what an entry does (`live.rs`).

use crate::engine::Engine;
use crate::engine::api::digest::path_digest;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{COMPARED_NS, OFFER_BUCKETS, OFFER_ENTRIES, OFFERED_CAP};
use crate::engine::peers::Peers;
use crate::engine::peers::session::Comparing;
use crate::engine::peers::session::Equality;
use crate::engine::peers::session::Session;
use crate::model::{Entry, SyncPath};
use crate::wire::message::{Bucket, Digest, Group, Message};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an older version took in, and no peer takes, is not told on.
pub(in crate::engine) fn may_be_announced((path, entry): &(SyncPath, Entry)) -> bool {
    entry.check().is_ok() && !path.is_too_deep()
}

impl Peers {
    pub(in crate::engine) fn compare<I: Index>(&mut self, core: &mut Core<I>, link: LinkId) {
        let groups = core.index.group_digests();
        if let Some(session) = self.sessions.get_mut(&link) {
            session.comparing = Comparing::Descending;
            self.send(core, vec![link], Message::Groups { groups });
        }
    }

    pub(super) fn groups_came<I: Index>(&mut self, core: &mut Core<I>, now: Now, link: LinkId, theirs: &[Digest]) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if !session.refusals.begins() {
            return core.close(link, "a comparison before the one under way has ended");
        }
        if !session.refusals.may_compare(now.mono) {
            return self.send(core, vec![link], Message::Buckets { groups: Vec::new() });
        }
        self.news.compared_until = now.mono + COMPARED_NS;
        let ours = core.index.group_digests();
        let differing: Vec<Group> =
            (0..=Group::MAX).filter(|group| theirs.get(usize::from(*group)) != ours.get(usize::from(*group))).collect();
        let groups = differing.into_iter().map(|group| (group, core.index.bucket_digests(group))).collect();
        self.send(core, vec![link], Message::Buckets { groups });
    }

    /// What the offer lacked, or had older. `offered` is what its earlier parts held as we do, or
    /// newer.
    fn answer<I: Index>(
        &mut self,
        core: &mut Core<I>,
        link: LinkId,
        buckets: &[Bucket],
        offered: &BTreeSet<Digest>,
        last: &BTreeMap<SyncPath, Entry>,
    ) {
        let was_offered = |path: &SyncPath| !offered.is_empty() && offered.contains(&path_digest(path));
        let is_news = |(path, ours): &(SyncPath, Entry)| match last.get(path) {
            Some(theirs) => ours.beats(theirs),
            None => !was_offered(path),
        };
        let wanted: BTreeSet<Bucket> = buckets.iter().copied().collect();
        let entries = wanted.into_iter().flat_map(|bucket| core.index.bucket(bucket));
        let entries = entries.filter(may_be_announced).filter(is_news).collect();
        self.send(core, vec![link], Message::Answer { entries, more: false });
    }
}

impl<I: Index> Engine<I> {
    /// Something that was held back may be heard now: ask for it again.
    pub(in crate::engine) fn recompare(&mut self, now: Now, link: LinkId) {
        self.announce_state(now, link);
        if let Some(session) = self.peers.sessions.get_mut(&link) {
            session.standing.announced_since = 0;
            session.refusals.forget();
        }
        self.judge_state(now, link);
    }

    pub(super) fn buckets_came(&mut self, now: Now, link: LinkId, groups: Vec<(Group, Vec<Digest>)>) {
        let descending = |session: &Session| matches!(session.comparing, Comparing::Descending);
        if !self.peers.sessions.get(&link).is_some_and(descending) {
            return self.core.close(link, "bucket digests that were not asked for");
        }
        let mut differing = VecDeque::new();
        for (group, theirs) in groups {
            let ours = self.core.index.bucket_digests(group);
            let changed = ours.iter().zip(&theirs).enumerate().filter(|(_, (a, b))| a != b);
            differing.extend(changed.map(|(low, _)| Bucket::from_be_bytes([group, low as u8])));
        }
        self.offer_next(now, link, differing);
    }

    /// Offers our entries of some of the differing buckets, or ends the comparison.
    fn offer_next(&mut self, now: Now, link: LinkId, mut left: VecDeque<Bucket>) {
        let (mut buckets, mut entries) = (Vec::new(), Vec::new());
        while buckets.len() < OFFER_BUCKETS
            && entries.len() < OFFER_ENTRIES
            && let Some(bucket) = left.pop_front()
        {
            entries.extend(self.core.index.bucket(bucket).into_iter().filter(may_be_announced));
            buckets.push(bucket);
        }
        let Some(session) = self.peers.sessions.get_mut(&link) else { return };
        if buckets.is_empty() {
            session.comparing = Comparing::No;
            return self.announce_state(now, link);
        }
        session.standing.equality = Equality::Unknown;
        session.comparing = Comparing::Offering(left);
        self.peers.send(&mut self.core, vec![link], Message::Offer { buckets, entries, more: false });
    }

    pub(super) fn offer_came(
        &mut self,
        now: Now,
        link: LinkId,
        buckets: &[Bucket],
        part: Vec<(SyncPath, Entry)>,
        more: bool,
    ) {
        self.peers.news.compared_until = now.mono + COMPARED_NS;
        let Some(session) = self.peers.sessions.get_mut(&link) else { return };
        session.standing.equality = Equality::Unknown;
        let part: BTreeMap<SyncPath, Entry> = part.into_iter().collect();
        if more {
            let is_older = |ours: Row, theirs: &Entry| !ours.head.beats(theirs);
            let known = part
                .iter()
                .filter(|(path, theirs)| self.core.index.get(path).is_none_or(|ours| is_older(ours, theirs)));
            session.offered.extend(known.map(|(path, _)| path_digest(path)));
            if session.offered.len() > OFFERED_CAP {
                return self.core.close(link, "an offer of too many entries");
            }
        } else {
            let offered = std::mem::take(&mut session.offered);
            self.peers.answer(&mut self.core, link, buckets, &offered, &part);
        }
        if self.peers.is_reader(link) {
            let part: Vec<_> = part.into_iter().collect();
            return self.peers.note_not_taken(&self.core.index, link, &part);
        }
        // Part by part: an offer of large entries is never in memory as a whole.
        for (path, entry) in part {
            self.apply_remote(now, link, &path, entry);
        }
    }

    pub(super) fn answer_came(&mut self, now: Now, link: LinkId, entries: Vec<(SyncPath, Entry)>, more: bool) {
        let offering = |session: &Session| matches!(session.comparing, Comparing::Offering(_));
        if !self.peers.sessions.get(&link).is_some_and(offering) {
            return self.core.close(link, "an answer to no offer");
        }
        for (path, entry) in entries {
            self.apply_remote(now, link, &path, entry);
        }
        if more {
            return;
        }
        let Some(session) = self.peers.sessions.get_mut(&link) else { return };
        if let Comparing::Offering(left) = std::mem::take(&mut session.comparing) {
            self.offer_next(now, link, left);
        }
    }
}
