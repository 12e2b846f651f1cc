//! Whether this device is who it was: counters that peers remember, and another machine with the
//! same id.
//!
//! The first thing that machines say on a link is the highest counter of the other's that they
//! know. One that hears of a counter that it never used was rolled back with its disk; one that
//! meets its own id was cloned. It then says so, takes what it made since its start out of the
//! index, and starts anew as a new device whose folder counts as restored: nothing of it beats what
//! the group has since, and nothing is deleted (P8). What peers say of its counters causes that
//! once a start and once a day, so that no peer can make it go on and on, and never raises a
//! counter: an own counter near its limit could not be used any more. Deliberately not here: the
//! new key, and the start (the daemon's).

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, load_by_device, store_by_device};
use crate::engine::api::problem::RenewalCause;
use crate::engine::core::Core;
use crate::engine::limits::{COUNTERS_STORE_EVERY_NS, DAY_NS, PAGE, PEER_COUNTERS_CAP};
use crate::engine::peers::Peers;
use crate::engine::peers::session::Met;
use crate::engine::{Engine, META_COUNTER, META_RENEWED_AT, META_RESTORED};
use crate::model::version::COUNTER_LIMIT;
use crate::model::{DeviceId, Version};
use crate::wire::message::Message;
use std::collections::BTreeMap;

const META_PEER_COUNTERS: &str = "heard";

/// Whether this device may give way to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Renewal {
    May,
    /// It did so already, in this start.
    Done,
    /// Nothing more is to be done: another device takes over.
    Ending,
}

/// The highest counter of each device that any winner had.
#[derive(Default)]
pub(in crate::engine) struct PeerCounters {
    by_device: BTreeMap<DeviceId, u64>,
    dirty: bool,
    stored: u64,
    /// None is lower than that of a winner: a crash forgets what was noted last.
    is_complete: bool,
}

impl PeerCounters {
    pub fn load(index: &impl Index) -> Self {
        let mut by_device: BTreeMap<DeviceId, u64> = load_by_device(index, META_PEER_COUNTERS);
        by_device.retain(|_, counter| *counter < COUNTER_LIMIT);
        Self { by_device, ..Self::default() }
    }

    pub fn note(&mut self, version: &Version) {
        let counter = version.counter();
        let has_room = self.by_device.len() < PEER_COUNTERS_CAP;
        match self.by_device.get_mut(&version.author) {
            Some(known) if *known >= counter => return,
            Some(known) => *known = counter,
            None if has_room => drop(self.by_device.insert(version.author, counter)),
            None => return,
        }
        self.dirty = true;
    }

    /// As the index has them; once a run.
    fn complete(&mut self, index: &impl Index) {
        let mut after = None;
        while !self.is_complete {
            let page = index.below(None, after.as_ref(), PAGE);
            for (_, row) in &page {
                self.note(&row.head.version);
            }
            self.is_complete = page.len() < PAGE;
            after = page.last().map(|(path, _)| path.clone());
        }
    }

    fn of(&self, device: &DeviceId) -> u64 {
        self.by_device.get(device).copied().unwrap_or(0)
    }
}

impl Peers {
    /// The highest counter of a device's changes that were taken here.
    pub(super) fn counter_taken<I: Index>(&mut self, core: &Core<I>, device: &DeviceId) -> u64 {
        self.counters.complete(&core.index);
        self.counters.of(device)
    }

    /// What is told to each peer first.
    pub(super) fn announce_known_to<I: Index>(&mut self, core: &mut Core<I>, link: LinkId) {
        let Some(session) = self.sessions.get(&link) else { return };
        let counter = self.counters.of(&session.device);
        self.send(core, vec![link], Message::Known { counter });
    }

    /// Once a group of events.
    pub(in crate::engine) fn store_peer_counters<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        if self.counters.dirty
            && (self.counters.stored == 0 || self.counters.stored + COUNTERS_STORE_EVERY_NS <= now.mono)
        {
            self.counters.dirty = false;
            self.counters.stored = now.mono;
            store_by_device(&mut core.index, META_PEER_COUNTERS, &self.counters.by_device);
        }
    }
}

impl<I: Index> Core<I> {
    fn was_renewed_today(&self) -> bool {
        let at = self.index.meta(META_RENEWED_AT).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        at.is_some_and(|at| at.abs_diff(self.last_event.wall) < DAY_NS)
    }
}

impl<I: Index> Engine<I> {
    pub(super) fn known_came(&mut self, now: Now, link: LinkId, counter: u64) {
        let met =
            self.peers.sessions.get_mut(&link).map(|session| std::mem::replace(&mut session.met, Met::Acquainted));
        if !self.is_ours(counter, link) {
            let now = self.core.last_event;
            self.peers.refuse_claim(&mut self.core, now, link, "changes of this machine that it never made");
        }
        if met == Some(Met::Linked) && self.peers.renewal != Renewal::Ending {
            self.announce_confirmations_to(now, link);
        }
    }

    /// Whether a counter that a peer knows of this machine may be its own. If it was never used,
    /// the machine was set back to an older state and takes a new id; where it may not do that
    /// (again), the peer is not believed.
    pub(in crate::engine) fn is_ours(&mut self, counter: u64, link: LinkId) -> bool {
        if counter <= self.reconcile.last_counter() || self.peers.renewal == Renewal::Ending {
            return true;
        }
        if counter >= COUNTER_LIMIT {
            return false;
        }
        if self.peers.renewal == Renewal::Done || self.core.was_renewed_today() {
            // It may be true even so. Counters that follow the clock were not used before, and no
            // peer has a say in them.
            let by_clock = self.core.last_event.wall / 1_000_000;
            if by_clock > self.reconcile.last_counter() {
                self.reconcile.use_counter(&mut self.core, by_clock);
            }
            return counter <= self.reconcile.last_counter();
        }
        let peer = self.peers.sessions.get(&link).map(|session| session.name.clone()).unwrap_or_default();
        self.core.index.set_meta(META_RENEWED_AT, &self.core.last_event.wall.to_be_bytes());
        self.take_new_device(RenewalCause::SetBack { known_to: peer });
        true
    }

    /// A version before this one believed what peers said of its own counter: what it would make
    /// with such a one, no peer would take.
    pub(in crate::engine) fn check_own_counter(&mut self) {
        if self.reconcile.last_counter() >= COUNTER_LIMIT {
            self.take_new_device(RenewalCause::CounterRaised);
        }
    }

    /// Another machine has this one's id, and proved it.
    pub(in crate::engine) fn twin_met(&mut self, ours: (u64, u64), theirs: (u64, u64)) {
        if gives_way(ours, theirs) {
            self.take_new_device(RenewalCause::Twin);
        }
    }

    fn take_new_device(&mut self, why: RenewalCause) {
        if self.peers.renewal != Renewal::May {
            return;
        }
        self.core.forget_own_since_start(self.reconcile.counter_at_start());
        self.core.index.set_meta(META_RESTORED, b"1");
        self.core.index.set_meta(META_COUNTER, &0_u64.to_be_bytes());
        self.core.halted = Some("it starts anew as another device; the log says why".into());
        self.core.out.push(Action::Report(Report::NewDevice { why }));
        self.core.act(Action::NewDevice);
        self.peers.renewal = Renewal::Ending;
    }
}

/// Of two machines with one device id, this one gives way if it was started later (each: when, and
/// what was drawn then).
pub fn gives_way(ours: (u64, u64), theirs: (u64, u64)) -> bool {
    ours > theirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::started_later((9, 1), (5, 7), true)]
    #[case::started_earlier((5, 7), (9, 1), false)]
    #[case::at_once_with_the_greater_draw((5, 7), (5, 1), true)]
    fn of_two_with_one_id_the_later_gives_way(#[case] ours: (u64, u64), #[case] theirs: (u64, u64), #[case] us: bool) {
        assert_eq!(gives_way(ours, theirs), us);
        assert_eq!(gives_way(theirs, ours), !us, "never both, never neither");
    }
}
