//! The devices that are known here: their clocks, and when each compared equal last, so that deletions can be forgotten.
//!
//! A deletion is remembered until every known device has compared equal on a later day than it was learned on, and for
//! 30 days at least; then no machine can bring back what was deleted. It may go once it is past the horizon, where no
//! digest counts it, so that machines that have forgotten it and those that have not agree. What is past the horizon and of
//! a path that is not known here is not taken in again (`session.rs`). Deliberately not here: where deletions are kept (the index).

use super::action::{Action, Report};
use super::event::{LinkId, Now};
use super::index::{Index, load_by_device, store_by_device};
use super::status::DeviceStatus;
use super::{DAY_NS, Engine, SECOND, TOMBSTONE_NS, guard};
use crate::model::DeviceId;
use crate::wire::message::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const META_DEVICES: &str = "devices";
/// Devices that are known (P9); with more, no deletion is forgotten.
const DEVICES_CAP: usize = 1024;
/// Deletions forgotten in one go.
const PURGE_AT_ONCE: usize = 1000;
const PURGE_EVERY_NS: u64 = 3600 * SECOND;
/// After something that may let deletions go.
const PURGE_SOON_NS: u64 = 5 * SECOND;
/// A clock that is off is named again after this, if it moved.
const CLOCK_AGAIN_NS: u64 = 60 * SECOND;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Known {
    name: String,
    /// The day (since 1970, by our clock) on which it held the same tree last; 0: never.
    equal_day: u64,
}

/// How a clock that is off was named last.
#[derive(Debug, Clone, Copy)]
struct ClockOff {
    ahead_ns: i64,
    said_at: u64,
}

#[derive(Default)]
pub(super) struct Devices {
    known: BTreeMap<DeviceId, Known>,
    clocks: BTreeMap<DeviceId, ClockOff>,
    next_purge: u64,
    dirty: bool,
}

impl Devices {
    pub fn load(index: &impl Index) -> Self {
        Self { known: load_by_device(index, META_DEVICES), ..Self::default() }
    }

    pub fn start(&mut self, now: Now) {
        self.next_purge = now.mono + PURGE_SOON_NS;
    }

    /// A device that is linked counts from now on.
    pub fn meet(&mut self, device: DeviceId, name: &str) {
        if self.known.len() < DEVICES_CAP || self.known.contains_key(&device) {
            let known = self.known.entry(device).or_default();
            if known.name != name {
                name.clone_into(&mut known.name);
                self.dirty = true;
            }
        }
    }

    /// It holds the same tree as this machine.
    pub fn compared_equal(&mut self, now: Now, device: &DeviceId) {
        let today = now.wall / DAY_NS;
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
    fn purge_before(&self, now: Now) -> u64 {
        let old = (now.wall / DAY_NS).saturating_sub(TOMBSTONE_NS / DAY_NS);
        if self.known.len() >= DEVICES_CAP {
            return 0;
        }
        self.known.values().map(|known| known.equal_day).min().map_or(old, |equal| old.min(equal))
    }

    pub fn next_purge(&self) -> u64 {
        self.next_purge
    }
}

impl<I: Index> Engine<I> {
    /// A person says that a device will not come back: deletions wait for it no longer, here and on all linked machines.
    pub(super) fn forget_device(&mut self, now: Now, device: DeviceId) {
        if self.sessions.values().any(|session| session.device == device) {
            return;
        }
        let Some(known) = self.devices.known.remove(&device) else { return };
        self.devices.dirty = true;
        self.devices.purge_soon(now);
        let name = if known.name.is_empty() { device.short() } else { known.name };
        self.out.push(Action::Report(Report::Forgotten { device: name }));
        let links = self.sessions.keys().copied().collect();
        self.send(links, Message::Forget { device });
    }

    /// Forgets deletions that no machine can bring back, some at a time.
    pub(super) fn purge_due(&mut self, now: Now) {
        if self.devices.next_purge > now.mono {
            return;
        }
        self.index.set_today(now.wall / DAY_NS);
        let horizon = self.latest_day.saturating_sub(TOMBSTONE_NS);
        let gone = self.index.forget_deletions(self.devices.purge_before(now), horizon, PURGE_AT_ONCE);
        let is_more = gone >= PURGE_AT_ONCE as u64;
        self.devices.next_purge = now.mono + if is_more { SECOND } else { PURGE_EVERY_NS };
        if gone > 0 {
            self.out.push(Action::Report(Report::Purged { deletions: gone }));
        }
    }

    /// Once a group of events.
    pub(super) fn store_devices(&mut self) {
        if std::mem::take(&mut self.devices.dirty) {
            store_by_device(&mut self.index, META_DEVICES, &self.devices.known);
        }
    }

    /// How far a peer's clock is from ours.
    pub(super) fn clock_seen(&mut self, now: Now, link: LinkId, ahead_ns: i64) {
        self.steady.peer_says(now, ahead_ns);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let (device, peer) = (session.device, session.name.clone());
        let said = self.devices.clocks.get(&device).copied();
        if !guard::is_clock_off(ahead_ns, said.is_some()) {
            session.clock_ahead_ns = None;
            if self.devices.clocks.remove(&device).is_some() {
                self.out.push(Action::Report(Report::ClockRight { peer }));
            }
            return;
        }
        session.clock_ahead_ns = Some(ahead_ns);
        let is_told = said.is_some_and(|said| {
            said.ahead_ns.abs_diff(ahead_ns) < guard::CLOCK_NS || now.mono < said.said_at + CLOCK_AGAIN_NS
        });
        if !is_told {
            self.devices.clocks.insert(device, ClockOff { ahead_ns, said_at: now.mono });
            self.out.push(Action::Report(Report::ClockOff { peer, ahead_ns }));
        }
    }

    pub(super) fn device_statuses(&self) -> Vec<DeviceStatus> {
        let linked = |device: &DeviceId| self.sessions.values().any(|session| session.device == *device);
        let status = |(device, known): (&DeviceId, &Known)| DeviceStatus {
            device: *device,
            name: known.name.clone(),
            linked: linked(device),
            equal_ns: (known.equal_day > 0).then_some(known.equal_day.saturating_mul(DAY_NS)),
        };
        self.devices.known.iter().map(status).collect()
    }
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
            devices.meet(device, "peer");
            if *day > 0 {
                devices.compared_equal(at(*day), &device);
            }
        }
        assert_eq!(devices.purge_before(at(DAY)), before);
    }

    #[test]
    fn a_clock_that_was_set_back_takes_nothing_back() {
        let (mut devices, device) = (Devices::default(), DeviceId([1; 32]));
        devices.meet(device, "peer");
        devices.compared_equal(at(DAY), &device);
        devices.compared_equal(at(DAY - 100), &device);
        assert_eq!(devices.purge_before(at(DAY + 60)), DAY);
    }
}
