//! Which peers have what was made here, for the log.
//!
//! A peer that names the feature `acks` acknowledges each change of ours that it was sent as it
//! happened, once that is on its disk. Until then the change waits here. Nothing else depends on
//! it. Deliberately not here: how changes travel (`session.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{DELIVERIES_CAP, DELIVERY_PATIENCE_NS};
use crate::engine::peers::Peers;
use crate::model::{DeviceId, Entry, Kind, SyncPath};
use crate::wire::features::ACKS;
use crate::wire::message::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A change of ours that some peers do not have yet.
struct Delivery {
    entry: Entry,
    /// What was live there before.
    was: Option<Kind>,
    /// When it was sent, on the monotonic clock (ns).
    since: u64,
    waiting: BTreeSet<DeviceId>,
    have: Vec<DeviceId>,
    due: Option<u64>,
}

/// What some peers have by now.
struct Delivered {
    path: SyncPath,
    entry: Entry,
    was: Option<Kind>,
    to: Vec<DeviceId>,
    took_ns: u64,
}

#[derive(Default)]
pub(in crate::engine) struct Deliveries {
    by_path: BTreeMap<SyncPath, Delivery>,
    /// When those are due that some peers have and others not.
    due: BTreeSet<(u64, SyncPath)>,
    /// What is to be acknowledged, by link: the path and the author's counter.
    acks: BTreeMap<LinkId, Vec<(SyncPath, u64)>>,
}

impl Deliveries {
    /// `false`: too many wait already, and this one is not followed.
    fn begin(&mut self, mono: u64, path: &SyncPath, entry: &Entry, was: Option<Kind>, to: BTreeSet<DeviceId>) -> bool {
        self.remove(path);
        if self.by_path.len() >= DELIVERIES_CAP {
            return false;
        }
        let entry = entry.clone();
        let delivery = Delivery { entry, was, since: mono, waiting: to, have: Vec::new(), due: None };
        self.by_path.insert(path.clone(), delivery);
        true
    }

    fn remove(&mut self, path: &SyncPath) -> Option<Delivery> {
        let delivery = self.by_path.remove(path)?;
        if let Some(due) = delivery.due {
            self.due.remove(&(due, path.clone()));
        }
        Some(delivery)
    }

    /// The peer has this change. Of what is not waited for, nothing is noted.
    fn acknowledged(&mut self, mono: u64, path: &SyncPath, counter: u64, by: DeviceId) -> Option<Delivered> {
        let delivery = self.by_path.get_mut(path).filter(|delivery| delivery.entry.version.counter() == counter)?;
        if !delivery.waiting.remove(&by) {
            return None;
        }
        delivery.have.push(by);
        if delivery.waiting.is_empty() {
            return self.end(mono, path);
        }
        if delivery.due.is_none() {
            delivery.due = Some(mono + DELIVERY_PATIENCE_NS);
            self.due.insert((mono + DELIVERY_PATIENCE_NS, path.clone()));
        }
        None
    }

    fn end(&mut self, mono: u64, path: &SyncPath) -> Option<Delivered> {
        let Delivery { entry, was, since, have, .. } = self.remove(path)?;
        let (path, took_ns) = (path.clone(), mono.saturating_sub(since));
        Some(Delivered { path, entry, was, to: have, took_ns }).filter(|delivered| !delivered.to.is_empty())
    }

    /// What some peers have had for a while; it goes on waiting for the others.
    fn take_due(&mut self, mono: u64) -> Vec<Delivered> {
        let mut delivered = Vec::new();
        while let Some((due, path)) = self.due.pop_first() {
            if due > mono {
                self.due.insert((due, path));
                break;
            }
            let Some(delivery) = self.by_path.get_mut(&path) else { continue };
            delivery.due = None;
            let to = std::mem::take(&mut delivery.have);
            let took_ns = (due - DELIVERY_PATIENCE_NS).saturating_sub(delivery.since);
            let (entry, was) = (delivery.entry.clone(), delivery.was.clone());
            delivered.push(Delivered { path, entry, was, to, took_ns });
        }
        delivered
    }

    /// Nothing more comes from this peer on this link.
    fn without(&mut self, mono: u64, link: LinkId, device: DeviceId) -> Vec<Delivered> {
        self.acks.remove(&link);
        let is_over = |delivery: &mut Delivery| delivery.waiting.remove(&device) && delivery.waiting.is_empty();
        let over: Vec<_> =
            self.by_path.iter_mut().filter_map(|(path, delivery)| is_over(delivery).then(|| path.clone())).collect();
        over.iter().filter_map(|path| self.end(mono, path)).collect()
    }

    /// When `Engine::follow_deliveries` has something to do; 0: now.
    pub fn next(&self) -> Option<u64> {
        if self.acks.is_empty() { self.due.first().map(|(due, _)| *due) } else { Some(0) }
    }
}

impl Peers {
    /// A change that was made here went to these links just now: the log says who has it, or to
    /// whom it was announced.
    pub(super) fn follow<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        path: &SyncPath,
        entry: &Entry,
        was: Option<Kind>,
        to: &[LinkId],
    ) {
        let sessions = to.iter().filter_map(|link| self.sessions.get(link));
        let (acknowledge, others): (Vec<_>, Vec<_>) = sessions.partition(|session| session.features.has(ACKS));
        let mut announced: Vec<_> = others.into_iter().map(|session| session.device).collect();
        let waiting: BTreeSet<_> = acknowledge.into_iter().map(|session| session.device).collect();
        if !waiting.is_empty() && !self.deliveries.begin(now.mono, path, entry, was.clone(), waiting.clone()) {
            announced.extend(waiting);
        }
        if !announced.is_empty() {
            let to = self.device_names(core, &announced);
            let (path, entry) = (path.clone(), entry.clone());
            core.out.push(Action::Report(Report::Announced { path, entry, was, to }));
        }
    }

    fn device_names<I: Index>(&self, core: &Core<I>, devices: &[DeviceId]) -> Vec<String> {
        let mut names: Vec<_> = devices.iter().map(|device| self.name_of(core, device)).collect();
        names.sort();
        names
    }

    fn report_delivered<I: Index>(&self, core: &mut Core<I>, delivered: Delivered) {
        let Delivered { path, entry, was, to, took_ns } = delivered;
        let to = self.device_names(core, &to);
        core.out.push(Action::Report(Report::Sent { path, entry, was, to, took_ns }));
    }

    pub(super) fn acks_came<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        link: LinkId,
        placed: &[(SyncPath, u64)],
    ) {
        let Some(device) = self.sessions.get(&link).map(|session| session.device) else { return };
        for (path, counter) in placed {
            if let Some(delivered) = self.deliveries.acknowledged(now.mono, path, *counter, device) {
                self.report_delivered(core, delivered);
            }
        }
    }

    pub(super) fn deliveries_without<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        link: LinkId,
        device: DeviceId,
    ) {
        for delivered in self.deliveries.without(now.mono, link, device) {
            self.report_delivered(core, delivered);
        }
    }

    /// If that version is what is on disk here.
    pub(in crate::engine) fn acknowledge<I: Index>(
        &mut self,
        core: &Core<I>,
        path: &SyncPath,
        link: LinkId,
        counter: u64,
    ) {
        let Some(session) = self.sessions.get(&link) else { return };
        let row = core.index.get(path).filter(crate::engine::api::index::Row::is_settled);
        let is_it =
            row.is_some_and(|row| row.head.version.author == session.device && row.head.version.counter() == counter);
        if is_it {
            self.deliveries.acks.entry(link).or_default().push((path.clone(), counter));
        }
    }

    pub(in crate::engine) fn follow_deliveries<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        for (link, placed) in std::mem::take(&mut self.deliveries.acks) {
            self.send(core, vec![link], Message::Acks { placed });
        }
        for delivered in self.deliveries.take_due(now.mono) {
            self.report_delivered(core, delivered);
        }
    }
}

impl<I: Index> Engine<I> {
    /// A change came from its author, who wants to know when it is here.
    pub(super) fn owes_ack(&mut self, link: LinkId, path: &SyncPath, entry: &Entry) {
        let is_author = |session: &crate::engine::peers::session::Session| {
            session.device == entry.version.author && session.features.has(ACKS)
        };
        if !self.peers.sessions.get(&link).is_some_and(is_author) {
            return;
        }
        if !self.transfer.note_ack_owed(path, link, entry.version.counter()) {
            self.peers.acknowledge(&self.core, path, link, entry.version.counter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FileTime, Mode, Version, VersionVector};

    const LINK: LinkId = LinkId(1);

    fn entry(counter: u64) -> Entry {
        let version = Version {
            stamp: 1,
            author: DeviceId([1; 32]),
            seen: VersionVector::default().with(DeviceId([1; 32]), counter),
        };
        Entry { kind: Kind::Directory, mode: Mode(0o755), mtime: FileTime::default(), version }
    }

    fn path(name: &str) -> SyncPath {
        SyncPath::new(name).unwrap()
    }

    fn devices(bytes: &[u8]) -> BTreeSet<DeviceId> {
        bytes.iter().map(|byte| DeviceId([*byte; 32])).collect()
    }

    fn have(delivered: impl IntoIterator<Item = Delivered>) -> Vec<(Vec<u8>, u64)> {
        let firsts = |to: Vec<DeviceId>| to.iter().map(|device| device.0[0]).collect();
        delivered.into_iter().map(|delivered| (firsts(delivered.to), delivered.took_ns)).collect()
    }

    #[test]
    fn one_line_says_who_has_it_and_waits_two_seconds_for_the_others() {
        let mut deliveries = Deliveries::default();
        let f = path("f");
        assert!(deliveries.begin(100, &f, &entry(7), None, devices(&[2, 3])));
        let mut ack =
            |mono, path: &SyncPath, counter, by| have(deliveries.acknowledged(mono, path, counter, DeviceId([by; 32])));
        assert!(ack(110, &path("g"), 7, 2).is_empty(), "nobody sent that");
        assert!(ack(110, &f, 6, 2).is_empty(), "an older version");
        assert!(ack(110, &f, 7, 4).is_empty(), "nobody waits for that machine");
        assert!(ack(110, &f, 7, 2).is_empty());
        assert_eq!(ack(120, &f, 7, 3), [(vec![2, 3], 20)]);
        assert!(ack(130, &f, 7, 3).is_empty(), "said already");

        assert!(deliveries.begin(200, &f, &entry(8), None, devices(&[2, 3])));
        assert!(deliveries.acknowledged(205, &f, 8, DeviceId([2; 32])).is_none());
        let due = deliveries.next().unwrap();
        assert!(deliveries.take_due(due - 1).is_empty());
        assert_eq!(have(deliveries.take_due(due)), [(vec![2], 5)]);
        assert_eq!(have(deliveries.acknowledged(due + 50, &f, 8, DeviceId([3; 32]))), [(vec![3], due + 50 - 200)]);
        assert_eq!((deliveries.next(), deliveries.by_path.len()), (None, 0));
    }

    #[test]
    fn a_peer_that_left_is_waited_for_no_more() {
        let mut deliveries = Deliveries::default();
        for name in ["a", "b"] {
            assert!(deliveries.begin(0, &path(name), &entry(7), None, devices(&[2, 3])));
        }
        assert!(deliveries.acknowledged(5, &path("a"), 7, DeviceId([2; 32])).is_none());
        assert_eq!(have(deliveries.without(9, LINK, DeviceId([3; 32]))), [(vec![2], 9)]);
        assert!(have(deliveries.without(9, LINK, DeviceId([2; 32]))).is_empty(), "nobody has 'b'");
        assert!(deliveries.by_path.is_empty() && deliveries.due.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_a_newer_version_takes_the_place_of_the_older() {
        let mut deliveries = Deliveries::default();
        for n in 0..DELIVERIES_CAP {
            assert!(deliveries.begin(0, &path(&n.to_string()), &entry(7), None, devices(&[2])));
        }
        assert!(!deliveries.begin(0, &path("more"), &entry(7), None, devices(&[2])));
        assert!(deliveries.begin(0, &path("0"), &entry(8), None, devices(&[2])));
        assert!(deliveries.acknowledged(1, &path("0"), 7, DeviceId([2; 32])).is_none());
        assert_eq!(have(deliveries.acknowledged(1, &path("0"), 8, DeviceId([2; 32]))), [(vec![2], 1)]);
    }
}
