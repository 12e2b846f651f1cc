//! What linked machines hold back: asking all of them for the paths, and answering those who ask.
//!
//! Each names its first paths and says how many there are. Answers are capped and have a deadline
//! (P9). Deliberately not here: what is held, and why (`hold.rs`).

use crate::engine::Engine;
use crate::engine::api::action::Action;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::api::status::{HeldPath, HeldPaths, HeldWhy};
use crate::engine::core::Core;
use crate::engine::limits::{HOLDING_MOST, HOLDING_PATIENCE_NS};
use crate::engine::peers::Peers;
use crate::engine::peers::session::Session;
use crate::model::DeviceId;
use crate::wire::features;
use crate::wire::message::{HOLDS, HOLDS_BYTES, HeldBack, HeldSums, Message};
use std::collections::{BTreeMap, BTreeSet};

/// What a linked machine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldByMachine {
    pub device: DeviceId,
    pub machine: String,
    /// `None`: it did not answer, or is too old to be asked.
    pub held: Option<HeldPaths>,
}

#[derive(Default)]
pub(in crate::engine) struct HoldQueries {
    last_id: u32,
    asking: Option<HoldQuery>,
    answered: Option<(u64, Vec<HeldByMachine>)>,
}

struct HoldQuery {
    id: u32,
    ticket: u64,
    waits_for: BTreeSet<LinkId>,
    until: u64,
    machines: BTreeMap<LinkId, HeldByMachine>,
}

impl HoldQueries {
    pub fn next(&self) -> Option<u64> {
        self.asking.as_ref().map(|asking| asking.until)
    }

    fn conclude_if(&mut self, is_over: impl Fn(&HoldQuery) -> bool) {
        if let Some(asking) = self.asking.take_if(|asking| is_over(asking)) {
            self.answered = Some((asking.ticket, asking.machines.into_values().collect()));
        }
    }

    fn conclude_if_answered(&mut self) {
        self.conclude_if(|asking| asking.waits_for.is_empty());
    }
}

impl Peers {
    /// A newer question takes the place of one that is under way.
    pub(in crate::engine) fn ask_holds<I: Index>(&mut self, core: &mut Core<I>, now: Now, ticket: u64) {
        self.queries.holds.last_id = self.queries.holds.last_id.wrapping_add(1);
        let id = self.queries.holds.last_id;
        let asked = self.sessions.iter().filter(|(_, session)| session.features.has(features::HOLDS));
        let waits_for: BTreeSet<LinkId> = asked.map(|(link, _)| *link).collect();
        let machine =
            |session: &Session| HeldByMachine { device: session.device, machine: session.name.clone(), held: None };
        let machines = self.sessions.iter().map(|(link, session)| (*link, machine(session))).collect();
        if !waits_for.is_empty() {
            self.send(core, waits_for.iter().copied().collect(), Message::Holds { id });
        }
        self.queries.holds.asking =
            Some(HoldQuery { id, ticket, waits_for, until: now.mono + HOLDING_PATIENCE_NS, machines });
        self.queries.holds.conclude_if_answered();
    }

    /// The answers to the question of that ticket, once all have come or were waited for long
    /// enough.
    fn take_holding(&mut self, ticket: u64) -> Option<Vec<HeldByMachine>> {
        self.queries.holds.answered.take_if(|(answered, _)| *answered == ticket).map(|(_, machines)| machines)
    }

    pub(super) fn holding_came<I: Index>(
        &mut self,
        core: &mut Core<I>,
        link: LinkId,
        id: u32,
        sums: HeldSums,
        held: Vec<HeldBack>,
    ) {
        let Some(asking) = self.queries.holds.asking.as_mut().filter(|asking| asking.id == id) else { return };
        if !asking.waits_for.remove(&link) {
            return core.close(link, "what it holds was not asked for");
        }
        if let Some(machine) = asking.machines.get_mut(&link) {
            machine.held = Some(believed(sums, held));
        }
        self.queries.holds.conclude_if_answered();
    }

    pub(super) fn holding_link_down(&mut self, link: LinkId) {
        if let Some(asking) = &mut self.queries.holds.asking {
            asking.waits_for.remove(&link);
        }
        self.queries.holds.conclude_if_answered();
    }

    pub(in crate::engine) fn holding_due(&mut self, now: Now) {
        self.queries.holds.conclude_if(|asking| asking.until <= now.mono);
    }
}

impl<I: Index> Engine<I> {
    /// The answers to the question of that ticket, once all have come or were waited for long
    /// enough.
    pub fn take_holding(&mut self, ticket: u64) -> Option<Vec<HeldByMachine>> {
        self.peers.take_holding(ticket)
    }

    pub(super) fn holds_asked(&mut self, link: LinkId, id: u32) {
        let HeldPaths { paths, deletions, reverts, dated_ahead, unignored } = self.held(HOLDS);
        let mut bytes = 0;
        let fits = |held: &HeldBack| {
            bytes += held.wire_bytes();
            bytes <= HOLDS_BYTES
        };
        let held_back = |held: HeldPath| HeldBack { path: held.path, why: code(held.why), by: held.by };
        let held =
            paths.into_iter().filter(|held| !self.ignores(&held.path, false)).map(held_back).take_while(fits).collect();
        let sums = HeldSums { deletions, reverts, dated_ahead, unignored };
        self.core.act(Action::Send { to: vec![link], message: Message::Holding { id, sums, held } });
    }
}

fn code(why: HeldWhy) -> u8 {
    match why {
        HeldWhy::Deleted => 0,
        HeldWhy::Reverted => 1,
        HeldWhy::DatedAhead => 2,
    }
}

/// Reasons that this version does not know are passed over; and there are at least as many as were
/// named.
fn believed(sums: HeldSums, held: Vec<HeldBack>) -> HeldPaths {
    let why = |code| [HeldWhy::Deleted, HeldWhy::Reverted, HeldWhy::DatedAhead].get(usize::from(code)).copied();
    let named = |held: HeldBack| Some(HeldPath { path: held.path, why: why(held.why)?, by: held.by });
    let paths: Vec<_> = held.into_iter().filter_map(named).collect();
    let count = |why: HeldWhy| paths.iter().filter(|held| held.why == why).count() as u64;
    let at_least = |sum: u64, why| sum.min(HOLDING_MOST).max(count(why));
    let deletions = at_least(sums.deletions, HeldWhy::Deleted);
    let reverts = at_least(sums.reverts, HeldWhy::Reverted);
    let dated_ahead = at_least(sums.dated_ahead, HeldWhy::DatedAhead);
    let unignored = sums.unignored.min(HOLDING_MOST);
    HeldPaths { paths, deletions, reverts, dated_ahead, unignored }
}
