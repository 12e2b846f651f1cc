//! What linked machines hold back, or still need: asking all of them for the paths, and answering
//! those who ask.
//!
//! Each names its first paths and says how many there are. Answers are capped and have a deadline
//! (P9). Deliberately not here: what is held, and why (`hold.rs`).

use crate::engine::Engine;
use crate::engine::api::action::Action;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::api::status::{HeldPath, HeldPaths, HeldWhy, NeededPage};
use crate::engine::core::Core;
use crate::engine::limits::{HOLDING_MOST, HOLDING_PATIENCE_NS};
use crate::engine::peers::Peers;
use crate::engine::peers::session::Session;
use crate::model::{DeviceId, Kind, SyncPath};
use crate::wire::features;
use crate::wire::message::{HOLDS, HOLDS_BYTES, HeldBack, HeldSums, Message};
use std::collections::{BTreeMap, BTreeSet};

/// What a linked machine holds, or still needs.
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
    /// What is still to come to them was asked for.
    pending: bool,
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
    pub(in crate::engine) fn ask_holds<I: Index>(&mut self, core: &mut Core<I>, now: Now, ticket: u64, pending: bool) {
        self.queries.holds.last_id = self.queries.holds.last_id.wrapping_add(1);
        let id = self.queries.holds.last_id;
        let asked = self.sessions.iter().filter(|(_, session)| session.features.has(features::HOLDS));
        let waits_for: BTreeSet<LinkId> = asked.map(|(link, _)| *link).collect();
        let machine =
            |session: &Session| HeldByMachine { device: session.device, machine: session.name.clone(), held: None };
        let machines = self.sessions.iter().map(|(link, session)| (*link, machine(session))).collect();
        if !waits_for.is_empty() {
            self.send(core, waits_for.iter().copied().collect(), Message::Holds { id, pending });
        }
        self.queries.holds.asking =
            Some(HoldQuery { id, ticket, pending, waits_for, until: now.mono + HOLDING_PATIENCE_NS, machines });
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
            machine.held = believed(sums, held, asking.pending);
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

    /// What is to come to this disk, in the order of paths: of so many that it differs at.
    pub fn needed(&self, after: Option<&SyncPath>, looked_at: usize) -> NeededPage {
        let page = self.core.index.unsettled(after, looked_at);
        let next = page.last().filter(|_| page.len() == looked_at).cloned();
        let wanted = |path: SyncPath| {
            let row = self.core.index.get(&path).filter(|row| self.core.wants(row))?;
            (!self.ignores(&path, row.head.kind == Kind::Directory)).then_some((path, row))
        };
        let rows = page.into_iter().filter_map(wanted).collect();
        // What is not installed by this machine's role does not come.
        let paths = self.core.index.counts().pending.saturating_sub(self.condition().not_installed);
        NeededPage { rows, paths, next }
    }

    /// The first of what is to come to this disk, and how much it is in all.
    ///
    /// A peer may ask often: the index, in which a machine may have much that it does not install,
    /// is not searched for it (P9).
    fn pending(&self) -> HeldPaths {
        let comes = |path: &&SyncPath| !self.observe.is_kept_folder(path);
        let wanted = self.transfer.wants().map(|(path, _)| path).filter(comes).take(HOLDS);
        let held = |path: &SyncPath| {
            let by = self.peers.name_of(&self.core, &self.core.index.get(path)?.head.version.author);
            Some(HeldPath { path: path.clone(), why: HeldWhy::Pending, by })
        };
        let paths = wanted.filter_map(held).collect();
        HeldPaths { paths, pending: self.missing() as u64, ..HeldPaths::default() }
    }

    pub(super) fn holds_asked(&mut self, link: LinkId, id: u32, pending: bool) {
        let answer = if pending { self.pending() } else { self.held(HOLDS) };
        let HeldPaths { paths, deletions, reverts, dated_ahead, unignored, .. } = answer;
        let mut bytes = 0;
        let fits = |held: &HeldBack| {
            bytes += held.wire_bytes();
            bytes <= HOLDS_BYTES
        };
        let held_back = |held: HeldPath| HeldBack { path: held.path, why: code(held.why), by: held.by };
        let held =
            paths.into_iter().filter(|held| !self.ignores(&held.path, false)).map(held_back).take_while(fits).collect();
        let pending = pending.then_some(answer.pending);
        let sums = HeldSums { deletions, reverts, dated_ahead, unignored, pending };
        self.core.act(Action::Send { to: vec![link], message: Message::Holding { id, sums, held } });
    }
}

fn code(why: HeldWhy) -> u8 {
    match why {
        HeldWhy::Deleted => 0,
        HeldWhy::Reverted => 1,
        HeldWhy::DatedAhead => 2,
        HeldWhy::Pending => 3,
    }
}

/// By their codes.
const REASONS: [HeldWhy; 4] = [HeldWhy::Deleted, HeldWhy::Reverted, HeldWhy::DatedAhead, HeldWhy::Pending];

/// Reasons that this version does not know are passed over; and there are at least as many as were
/// named. `None`: it is too old to say what is still to come.
fn believed(sums: HeldSums, held: Vec<HeldBack>, pending: bool) -> Option<HeldPaths> {
    if pending && sums.pending.is_none() {
        return None;
    }
    let why = |code| REASONS.get(usize::from(code)).copied().filter(|why| (*why == HeldWhy::Pending) == pending);
    let named = |held: HeldBack| Some(HeldPath { path: held.path, why: why(held.why)?, by: held.by });
    let paths: Vec<_> = held.into_iter().filter_map(named).collect();
    let count = |why: HeldWhy| paths.iter().filter(|held| held.why == why).count() as u64;
    let at_least = |sum: u64, why| sum.min(HOLDING_MOST).max(count(why));
    let deletions = at_least(sums.deletions, HeldWhy::Deleted);
    let reverts = at_least(sums.reverts, HeldWhy::Reverted);
    let dated_ahead = at_least(sums.dated_ahead, HeldWhy::DatedAhead);
    let unignored = sums.unignored.min(HOLDING_MOST);
    let pending = at_least(sums.pending.unwrap_or(0), HeldWhy::Pending);
    Some(HeldPaths { paths, deletions, reverts, dated_ahead, unignored, pending })
}
