//! The devices that are known here: their clocks, and when each compared equal last, so that
//! deletions can be forgotten.
//!
//! A deletion is remembered until every known device has compared equal on a later day than it was
//! learned on, and for 30 days at least; then no machine can bring back what was deleted. It may go
//! once it is past the horizon, where no digest counts it, so that machines that have forgotten it
//! and those that have not agree. What is past the horizon and of a path that is not known here is
//! not taken in again (`session.rs`). A device counts once it was sent entries: until then it holds
//! nothing that it could bring back. One that never compared equal counts for 90 days, and they are
//! few (P9). Deliberately not here: where deletions are kept (the index).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, load_by_device, store_by_device};
use crate::engine::api::status::DeviceStatus;
use crate::engine::core::Core;
use crate::engine::limits::{
    CLOCK_AGAIN_NS, CLOCK_OFF_NS, DAY_NS, DEVICES_CAP, NEVER_EQUAL_CAP, NEVER_EQUAL_DAYS, PURGE_AT_ONCE,
    PURGE_EVERY_NS, PURGE_SOON_NS, SECOND, TOMBSTONE_NS,
};
use crate::engine::peers::Peers;
use crate::engine::peers::session::PeerClock;
use crate::model::DeviceId;
use crate::wire::features::MEMBERS;
use crate::wire::message::Message;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const META_DEVICES: &str = "known_devices";
/// As versions before this one kept them.
const META_DEVICES_BEFORE: &str = "devices";
/// When each was linked last. Not in one value with the rest, whose form is fixed.
const META_SEEN: &str = "devices.seen";

/// The names of the machines that this index knows; none if its machine was never linked.
pub fn known_machines(index: &impl Index) -> Vec<String> {
    Devices::load(index).known.into_values().map(|known| known.name).collect()
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct KnownDevice {
    name: String,
    /// The day (`Engine::today`) on which it held the same tree last; 0: never.
    equal_day: u64,
    /// The day on which it was linked first.
    met_day: u64,
    /// It was sent entries.
    is_announced: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct KnownBefore {
    name: String,
    equal_day: u64,
}

impl From<KnownBefore> for KnownDevice {
    fn from(KnownBefore { name, equal_day }: KnownBefore) -> Self {
        Self { name, equal_day, met_day: 0, is_announced: true }
    }
}

/// How a clock that is off was named last.
#[derive(Debug, Clone, Copy)]
struct ClockOff {
    ahead_ns: i64,
    said_at: u64,
}

#[derive(Default)]
pub(in crate::engine) struct Devices {
    known: BTreeMap<DeviceId, KnownDevice>,
    /// When each was linked last, by our clock (ns since 1970).
    seen: BTreeMap<DeviceId, u64>,
    clocks: BTreeMap<DeviceId, ClockOff>,
    /// Those that have left the group. They end their links a moment later, and may be linked once
    /// more in it; what they are next is another device.
    left: BTreeSet<DeviceId>,
    next_purge: u64,
    dirty: bool,
}

impl Devices {
    pub fn load(index: &impl Index) -> Self {
        let mut known: BTreeMap<DeviceId, KnownDevice> = load_by_device(index, META_DEVICES);
        if index.meta(META_DEVICES).is_none() {
            let before: BTreeMap<DeviceId, KnownBefore> = load_by_device(index, META_DEVICES_BEFORE);
            known.extend(before.into_iter().map(|(device, before)| (device, before.into())));
        }
        let seen = load_by_device(index, META_SEEN);
        Self { known, seen, ..Self::default() }
    }

    pub fn start(&mut self, now: Now, today: u64) {
        for known in self.known.values_mut().filter(|known| known.met_day == 0) {
            known.met_day = today;
            self.dirty = true;
        }
        self.next_purge = now.mono + PURGE_SOON_NS;
    }

    /// A device that is linked is known from now on.
    pub fn meet(&mut self, today: u64, device: DeviceId, name: &str) {
        if self.left.contains(&device) {
            return;
        }
        if !self.known.contains_key(&device) {
            let never_equal = || self.known.iter().filter(|(_, known)| known.equal_day == 0);
            let is_full = self.known.len() >= DEVICES_CAP || never_equal().count() >= NEVER_EQUAL_CAP;
            let first = never_equal().min_by_key(|(_, known)| known.met_day).map(|(device, _)| *device);
            match first.filter(|_| is_full) {
                Some(first) => drop(self.known.remove(&first)),
                None if is_full => return,
                None => {}
            }
            self.known.insert(device, KnownDevice { met_day: today, ..KnownDevice::default() });
            self.dirty = true;
        }
        if let Some(known) = self.known.get_mut(&device).filter(|known| known.name != name) {
            name.clone_into(&mut known.name);
            self.dirty = true;
        }
    }

    /// It is sent entries: what it holds of them it may bring back later.
    pub fn announced(&mut self, device: &DeviceId) {
        if let Some(known) = self.known.get_mut(device).filter(|known| !known.is_announced) {
            known.is_announced = true;
            self.dirty = true;
        }
    }

    /// Those that never compared equal are not waited for for ever.
    fn leave(&mut self, today: u64) {
        let before = self.known.len();
        self.known.retain(|_, known| known.equal_day > 0 || today.saturating_sub(known.met_day) < NEVER_EQUAL_DAYS);
        self.dirty |= self.known.len() != before;
    }

    /// It is linked now, or was until now.
    pub fn see(&mut self, now: Now, device: DeviceId) {
        if self.known.contains_key(&device) {
            self.seen.insert(device, now.wall);
            self.dirty = true;
        }
    }

    /// It holds the same tree as this machine.
    pub fn compared_equal(&mut self, now: Now, today: u64, device: &DeviceId) {
        if let Some(known) = self.known.get_mut(device)
            && known.equal_day < today
        {
            known.equal_day = today;
            self.dirty = true;
            self.purge_soon(now);
        }
    }

    /// Something happened that may let deletions go.
    pub fn purge_soon(&mut self, now: Now) {
        self.next_purge = self.next_purge.min(now.mono + PURGE_SOON_NS);
    }

    /// Deletions learned before this day are known to all, and old enough.
    fn purge_before(&self, today: u64) -> u64 {
        let old = today.saturating_sub(TOMBSTONE_NS / DAY_NS);
        if self.known.len() >= DEVICES_CAP {
            return 0;
        }
        self.known
            .values()
            .filter(|known| known.is_announced)
            .map(|known| known.equal_day)
            .min()
            .map_or(old, |equal| old.min(equal))
    }

    pub fn next_purge(&self) -> u64 {
        self.next_purge
    }
}

impl Peers {
    /// A person says that a device will not come back: deletions wait for it no longer, here and on
    /// all linked machines.
    pub(in crate::engine) fn forget_device<I: Index>(&mut self, core: &mut Core<I>, now: Now, device: DeviceId) {
        if self.sessions.values().any(|session| session.device == device) {
            return;
        }
        self.unlist_where_all_may_come_back(device);
        let Some(name) = self.forget_name(now, device) else { return };
        core.out.push(Action::Report(Report::Forgotten { device: name }));
        let links = self.sessions.keys().copied().collect();
        self.send(core, links, Message::Forget { device });
    }

    /// A peer speaks of another device, or leaves: that a linked one is gone it can say of itself
    /// alone.
    pub(in crate::engine) fn forget_came<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        link: LinkId,
        device: DeviceId,
    ) {
        if self.sessions.get(&link).is_none_or(|session| session.device != device) {
            return self.forget_device(core, now, device);
        }
        let peer = self.forget_name(now, device);
        self.list_without(core, now, device);
        let Some(peer) = peer else { return };
        if self.devices.left.len() >= DEVICES_CAP {
            self.devices.left.pop_first();
        }
        self.devices.left.insert(device);
        core.out.push(Action::Report(Report::Left { peer }));
        let others = self.sessions.iter().filter(|(_, session)| session.device != device);
        let links = others.map(|(link, _)| *link).collect();
        self.send(core, links, Message::Forget { device });
    }

    /// Tells the linked machines that this one has left the group.
    pub(in crate::engine) fn say_goodbye<I: Index>(&mut self, core: &mut Core<I>) {
        let device = core.config.device;
        let links = self.sessions.keys().copied().collect();
        self.send(core, links, Message::Forget { device });
    }

    /// Drops it from the list, and says how it was called, if it was there.
    pub(super) fn forget_name(&mut self, now: Now, device: DeviceId) -> Option<String> {
        let known = self.devices.known.remove(&device)?;
        self.devices.seen.remove(&device);
        self.devices.dirty = true;
        self.devices.purge_soon(now);
        Some(if known.name.is_empty() { device.short() } else { known.name })
    }

    /// Once a group of events.
    pub(in crate::engine) fn store_devices<I: Index>(&mut self, core: &mut Core<I>) {
        if std::mem::take(&mut self.devices.dirty) {
            store_by_device(&mut core.index, META_DEVICES, &self.devices.known);
            store_by_device(&mut core.index, META_SEEN, &self.devices.seen);
        }
    }

    /// How far a peer's clock is from ours.
    pub(in crate::engine) fn clock_seen<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        link: LinkId,
        ahead_ns: i64,
    ) {
        let day_before = core.today(now);
        core.steady.peer_says(now, ahead_ns);
        if core.today(now) != day_before {
            core.index.set_today(core.today(now));
            self.devices.purge_soon(now);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let (device, peer) = (session.device, session.name.clone());
        let said = self.devices.clocks.get(&device).copied();
        if !is_clock_off(ahead_ns, said.is_some()) {
            session.clock = PeerClock::Agrees;
            if self.devices.clocks.remove(&device).is_some() {
                core.out.push(Action::Report(Report::ClockRight { peer }));
            }
            return;
        }
        session.clock = PeerClock::Ahead(ahead_ns);
        let is_reported = said.is_some_and(|said| {
            said.ahead_ns.abs_diff(ahead_ns) < CLOCK_OFF_NS || now.mono < said.said_at + CLOCK_AGAIN_NS
        });
        if !is_reported {
            self.devices.clocks.insert(device, ClockOff { ahead_ns, said_at: now.mono });
            core.out.push(Action::Report(Report::ClockOff { peer, ahead_ns }));
        }
    }

    pub(in crate::engine) fn device_statuses(&self, own: DeviceId) -> Vec<DeviceStatus> {
        let group = self.group();
        let listed = group.roster().members.into_iter().map(|member| member.device);
        let all: BTreeSet<_> = self
            .devices
            .known
            .keys()
            .copied()
            .chain(listed)
            .filter(|device| *device != own && group.removal(device).is_none())
            .collect();
        let status = |device: DeviceId| {
            let (known, member) = (self.devices.known.get(&device), group.member(&device));
            let session = self.sessions.values().find(|session| session.device == device);
            let names = [session.map(|session| &session.name), member.map(|member| &member.name)];
            let name = names.into_iter().flatten().chain(known.map(|known| &known.name)).next();
            let equal_day = known.map_or(0, |known| known.equal_day);
            DeviceStatus {
                device,
                name: name.cloned().unwrap_or_default(),
                linked: session.is_some(),
                seen_ns: self.devices.seen.get(&device).copied(),
                equal_ns: (equal_day > 0).then_some(equal_day.saturating_mul(DAY_NS)),
                member: member.cloned(),
                follows_rotations: session.is_none_or(|session| session.features.has(MEMBERS)),
            }
        };
        all.into_iter().map(status).collect()
    }
}

impl<I: Index> Engine<I> {
    /// Forgets deletions that no machine can bring back, some at a time.
    pub(in crate::engine) fn purge_due(&mut self, now: Now) {
        if self.peers.devices.next_purge > now.mono {
            return;
        }
        let today = self.core.today(now);
        self.core.index.set_today(today);
        self.peers.devices.leave(today);
        self.reconcile.forget_conflicts(&mut self.core, now);
        let horizon = self.core.latest_day.saturating_sub(TOMBSTONE_NS);
        let gone = self.core.forget_deletions(self.peers.devices.purge_before(today), horizon);
        let is_more = gone >= PURGE_AT_ONCE as u64;
        self.peers.devices.next_purge = now.mono + if is_more { SECOND } else { PURGE_EVERY_NS };
        if gone > 0 {
            self.core.out.push(Action::Report(Report::Purged { deletions: gone }));
        }
    }
}

/// Whether a peer's clock, which is so much (ns) ahead of ours, is off; with its last verdict, so
/// that it does not flicker.
pub fn is_clock_off(ahead_ns: i64, was_off: bool) -> bool {
    ahead_ns.unsigned_abs() > if was_off { CLOCK_OFF_NS / 2 } else { CLOCK_OFF_NS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DAY: u64 = 20_000;

    fn at(day: u64) -> Now {
        Now { wall: day * DAY_NS + 5, mono: 0 }
    }

    #[rstest]
    #[case::a_lone_machine(&[], DAY - 30)]
    #[case::all_are_up_to_date(&[DAY, DAY], DAY - 30)]
    #[case::one_was_off_for_a_year(&[DAY, DAY - 365], DAY - 365)]
    #[case::one_has_never_compared_equal(&[DAY, 0], 0)]
    fn deletions_wait_for_every_known_device_and_30_days(#[case] equal_days: &[u64], #[case] before: u64) {
        let mut devices = Devices::default();
        for (n, day) in equal_days.iter().enumerate() {
            let device = DeviceId([n as u8; 32]);
            devices.meet(DAY, device, "peer");
            devices.announced(&device);
            if *day > 0 {
                devices.compared_equal(at(*day), *day, &device);
            }
        }
        assert_eq!(devices.purge_before(DAY), before);
    }

    #[test]
    fn when_a_device_was_linked_last_is_known_after_a_restart_and_until_it_is_forgotten() {
        use crate::engine::api::map_index::MapIndex;
        use crate::engine::{Config, Event, LinkId, OnConflict};
        let config = || Config { device: DeviceId([9; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let device = DeviceId([1; 32]);
        let seen = |engine: &mut Engine<MapIndex>| engine.status().devices.first().and_then(|known| known.seen_ns);
        let mut engine = Engine::new(config(), MapIndex::new());
        let up = Event::LinkUp {
            link: LinkId(1),
            device,
            name: "b".into(),
            dialler: true,
            features: crate::wire::features::Features::ours(),
            capability: crate::model::Capability::Write,
        };
        engine.handle(at(DAY), up);
        engine.handle(Now { wall: at(DAY).wall + SECOND, mono: SECOND }, Event::LinkDown { link: LinkId(1) });
        engine.handle(Now { wall: at(DAY).wall + 9 * SECOND, mono: 9 * SECOND }, Event::Tick);
        let mut engine = Engine::new(config(), engine.into_index());
        assert_eq!(seen(&mut engine), Some(at(DAY).wall + SECOND));
        let fresh = crate::engine::FreshSecret([1; 32]);
        engine.handle(at(DAY), Event::Rotate { remove: Some(device), fresh });
        assert_eq!(seen(&mut engine), None);
    }

    #[test]
    fn a_linked_device_says_of_itself_alone_that_it_is_gone() {
        use crate::engine::api::map_index::MapIndex;
        use crate::engine::{Config, Event, OnConflict};
        let (us, second, third) = (DeviceId([9; 32]), DeviceId([2; 32]), DeviceId([3; 32]));
        let config = Config { device: us, name: "a".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, MapIndex::new());
        for (link, device) in [(LinkId(2), second), (LinkId(3), third)] {
            let features = crate::wire::features::Features::ours();
            engine.handle(
                at(DAY),
                Event::LinkUp {
                    link,
                    device,
                    name: "peer".into(),
                    dialler: true,
                    features,
                    capability: crate::model::Capability::Write,
                },
            );
        }
        let says = |link, device| {
            let message = Message::Forget { device };
            Event::Message { link: LinkId(link), message, wire_bytes: 1 }
        };
        let forgets = |actions: Vec<Action>| {
            let to_whom = |action| match action {
                Action::Send { to, message: Message::Forget { device } } => Some((to, device)),
                _ => None,
            };
            actions.into_iter().filter_map(to_whom).collect::<Vec<_>>()
        };
        let known = |engine: &mut Engine<MapIndex>| {
            engine.status().devices.iter().map(|known| known.device).collect::<Vec<_>>()
        };
        assert_eq!(forgets(engine.handle(at(DAY), says(2, third))), [], "the other one is linked, and has come back");
        assert_eq!(known(&mut engine), [second, third]);
        let actions = engine.handle(at(DAY), says(2, second));
        let left = |action: &Action| matches!(action, Action::Report(Report::Left { peer }) if peer == "peer");
        assert!(actions.iter().any(left), "{actions:?}");
        assert_eq!(forgets(actions), [(vec![LinkId(3)], second)], "the others hear of it");
        assert_eq!(forgets(engine.handle(at(DAY), says(2, second))), [], "once");
        engine.handle(at(DAY), Event::LinkDown { link: LinkId(2) });
        assert_eq!(known(&mut engine), [third], "the link's end brings it not back");
        let features = crate::wire::features::Features::ours();
        let again = Event::LinkUp {
            link: LinkId(4),
            device: second,
            name: "peer".into(),
            dialler: true,
            features,
            capability: crate::model::Capability::Write,
        };
        engine.handle(at(DAY), again);
        engine.handle(at(DAY), Event::LinkDown { link: LinkId(4) });
        assert_eq!(known(&mut engine), [third], "nor does a last link that crossed its word");
        assert_eq!(forgets(engine.handle(at(DAY), Event::Leave)), [(vec![LinkId(3)], us)]);
    }

    #[test]
    fn a_clock_that_jumps_a_year_ahead_takes_no_device_for_gone() {
        use crate::engine::api::map_index::MapIndex;
        use crate::engine::{Config, OnConflict, Trust};
        let config = Config { device: DeviceId([9; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, MapIndex::new());
        engine.start(at(DAY), Trust::Known);
        let device = DeviceId([1; 32]);
        engine.peers.devices.meet(engine.core.today(at(DAY)), device, "peer");
        engine.peers.devices.announced(&device);
        let year_ahead = Now { mono: 2 * PURGE_EVERY_NS, ..at(DAY + 365) };
        engine.purge_due(year_ahead);
        assert_eq!((engine.core.today(year_ahead), engine.peers.devices.known.len()), (DAY, 1));
        assert_eq!(engine.peers.devices.purge_before(engine.core.today(year_ahead)), 0, "it never compared equal");
    }

    #[test]
    fn a_clock_that_was_set_back_takes_nothing_back() {
        let (mut devices, device) = (Devices::default(), DeviceId([1; 32]));
        devices.meet(DAY, device, "peer");
        devices.announced(&device);
        devices.compared_equal(at(DAY), DAY, &device);
        devices.compared_equal(at(DAY - 100), DAY - 100, &device);
        assert_eq!(devices.purge_before(DAY + 60), DAY);
    }

    #[test]
    fn a_device_that_was_sent_nothing_is_not_waited_for() {
        let (mut devices, device) = (Devices::default(), DeviceId([1; 32]));
        devices.meet(DAY, device, "peer");
        assert_eq!(devices.purge_before(DAY), DAY - 30);
        devices.announced(&device);
        assert_eq!(devices.purge_before(DAY), 0);
    }

    #[test]
    fn devices_that_never_compared_equal_are_few_and_leave_after_90_days() {
        let mut devices = Devices::default();
        let (friend, device) =
            (DeviceId([255; 32]), |n: u16| DeviceId([[n as u8, (n >> 8) as u8]; 16].concat().try_into().unwrap()));
        devices.meet(DAY, friend, "friend");
        devices.announced(&friend);
        devices.compared_equal(at(DAY), DAY, &friend);
        for n in 0..1100 {
            devices.meet(DAY, device(n), "key");
            devices.announced(&device(n));
        }
        assert_eq!(devices.known.len(), 1 + NEVER_EQUAL_CAP);
        devices.leave(DAY + NEVER_EQUAL_DAYS - 1);
        assert_eq!(devices.known.len(), 1 + NEVER_EQUAL_CAP);
        devices.leave(DAY + NEVER_EQUAL_DAYS);
        assert_eq!(devices.known.keys().collect::<Vec<_>>(), [&friend]);
        assert_eq!(devices.purge_before(DAY + NEVER_EQUAL_DAYS), DAY);
    }

    #[test]
    fn devices_that_an_older_version_stored_are_known_and_waited_for() {
        let mut index = crate::engine::api::map_index::MapIndex::new();
        let before = BTreeMap::from([(DeviceId([1; 32]), KnownBefore { name: "old".into(), equal_day: DAY - 100 })]);
        store_by_device(&mut index, META_DEVICES_BEFORE, &before);
        let mut devices = Devices::load(&index);
        devices.start(at(DAY), DAY);
        assert_eq!(devices.purge_before(DAY), DAY - 100);
        assert_eq!(devices.known[&DeviceId([1; 32])].met_day, DAY);
    }

    #[rstest]
    #[case::right(0, false, false)]
    #[case::a_little_off(1_900_000_000, false, false)]
    #[case::off(2_100_000_000, false, true)]
    #[case::behind(-2_100_000_000, false, true)]
    #[case::still_off(1_100_000_000, true, true)]
    #[case::right_again(-900_000_000, true, false)]
    #[case::as_far_as_can_be(i64::MIN, false, true)]
    fn a_clock_is_off_above_two_seconds(#[case] ahead_ns: i64, #[case] was: bool, #[case] off: bool) {
        assert_eq!(is_clock_off(ahead_ns, was), off);
    }
}
