//! Orders to undo, one after the other: each is carried out once it is known where the contents
//! are that it needs.
//!
//! What is missing here and held, and is on no disk and in no history that can be asked, stays
//! held: a person may still confirm it. It is asked for again when a machine is linked, and from
//! time to time. What had been let through and nobody has any more stays away. Deliberately not
//! here: what there is to be undone (`../undo.rs`), the questions (`locate.rs`), and what a restart
//! leaves of an order (`resume.rs`).

use super::locate::{Locating, Places};
use super::resume::{Resuming, WantedBack};
use super::{Back, BackFrom, UndoWay, Ways};
use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{UNDO_AGAIN_MOST_NS, UNDO_AGAIN_NS, UNDO_LINKED_NS, UNDO_ORDERS};
use crate::engine::safety::Safety;
use crate::model::{ContentId, DeviceId, Kind, SyncPath};
use crate::wire::message::{Place, Sought};
use std::collections::VecDeque;

/// Who wants what is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Order {
    /// A person, here. `ticket` names the answer.
    Person { ticket: u64, dry_run: bool },
    /// A person at another machine.
    Peer,
    /// A person, before: nobody had it then.
    Again,
    /// One of these, before a restart.
    Resumed { by_peer: bool },
}

impl Order {
    fn is_by_peer(self) -> bool {
        matches!(self, Self::Peer | Self::Resumed { by_peer: true })
    }
}

/// What came of a person's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Undone {
    /// In the order of paths.
    pub back: Vec<Back>,
    /// In no history that could be asked: these stay away.
    pub lost: Vec<SyncPath>,
    /// These stay held, for nobody who could be asked has them.
    pub still_held: Vec<SyncPath>,
    /// Machines that could not be asked, or did not answer.
    pub silent: Vec<String>,
}

#[derive(Default)]
pub(in crate::engine) struct Undoing {
    orders: VecDeque<Order>,
    answered: Option<(u64, Undone)>,
    /// A person wants these back, and nobody had them, or they are asked for just now. Those of
    /// them count that are held.
    pub refused: WantedBack,
    next_try: Option<u64>,
    pub locating: Locating,
    pub resuming: Resuming,
    pause_ns: u64,
}

impl Undoing {
    pub fn is_busy(&self) -> bool {
        !self.orders.is_empty() || self.locating.is_asking()
    }

    pub fn is_under_way(&self) -> bool {
        self.is_busy() || self.resuming.is_waiting()
    }
}

impl Safety {
    /// A person decided otherwise.
    pub(in crate::engine::safety) fn forget_refused<I: Index>(&mut self, core: &mut Core<I>) {
        self.undoing.refused.clear();
        self.undoing.next_try = None;
        self.store_refused(core);
        self.forget_order(core);
    }

    /// What came of the order of that ticket, once it was carried out.
    pub(in crate::engine::safety) fn take_undone(&mut self, ticket: u64) -> Option<Undone> {
        self.undoing.answered.take_if(|(answered, _)| *answered == ticket).map(|(_, undone)| undone)
    }

    pub(in crate::engine) fn undo_link_up(&mut self, now: Now) {
        if !self.undoing.refused.is_empty() {
            self.undoing.pause_ns = 0;
            self.undoing.next_try = Some(now.mono + UNDO_LINKED_NS);
        }
    }

    /// What is held and asked for is wanted back, also if a crash comes before the answers.
    fn want_back<I: Index>(&mut self, core: &mut Core<I>, order: Order, ways: &Ways) {
        if !matches!(order, Order::Person { dry_run: true, .. }) {
            for (path, _) in ways.iter().filter(|(_, way)| way.is_quiet()) {
                self.undoing.refused.insert(path.clone());
            }
            self.store_refused(core);
        }
    }
}

impl<I: Index> Core<I> {
    /// The content that a path needs from a history or from another machine.
    fn source_of(
        &self,
        path: &SyncPath,
        way: &UndoWay,
        is_in_folder: &mut impl FnMut(ContentId, u64) -> bool,
    ) -> Option<Sought> {
        let row = self.index.get(path)?;
        let (kind, mtime) = match way {
            UndoWay::Forget | UndoWay::Refuse => (&row.head.kind, row.head.mtime),
            UndoWay::Again { thing, .. } | UndoWay::Anew(thing) => (&thing.kind, thing.mtime),
        };
        let is_here =
            matches!(way, UndoWay::Again { .. }) && row.live_on_disk().is_some_and(|(entry, _)| entry.kind == *kind);
        match *kind {
            Kind::File { size, content } if size > 0 && !is_here && !is_in_folder(content, size) => {
                Some(Sought { path: path.clone(), content, size, mtime })
            }
            _ => None,
        }
    }
}

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn order_undo(&mut self, now: Now, order: Order) {
        self.keep_order(now, order);
        // Whatever is taken back is the new total: the order of before the restart is for more.
        if matches!(order, Order::Peer | Order::Again) && self.safety.undoing.resuming.is_waiting() {
            return;
        }
        if !self.safety.undoing.orders.contains(&order) {
            self.safety.undoing.orders.push_back(order);
        }
        // Whoever ordered the first of so many waits no more.
        if self.safety.undoing.orders.len() > UNDO_ORDERS {
            self.safety.undoing.orders.pop_front();
        }
        self.begin_undo(now);
    }

    /// What came of the order of that ticket, once it was carried out.
    pub fn take_undone(&mut self, ticket: u64) -> Option<Undone> {
        self.safety.take_undone(ticket)
    }

    /// A person said so at another machine: what is held here is part of the same. What was let
    /// through is made anew there.
    pub(in crate::engine) fn undo_came(&mut self, now: Now, link: LinkId, relayed_to: &[DeviceId]) {
        let Some(sender) = self.peers.device_of(link) else { return };
        self.announce_undo(&[relayed_to, &[sender]].concat());
        if self.safety.holds_anything() {
            self.order_undo(now, Order::Peer);
        }
    }

    pub(in crate::engine) fn next_undo(&self) -> Option<u64> {
        let Undoing { next_try, locating, resuming, .. } = &self.safety.undoing;
        let own = next_try.iter().copied().chain(locating.next()).chain(resuming.next());
        own.chain(self.peers.next_hold_query()).min()
    }

    pub(in crate::engine) fn undo_due(&mut self, now: Now) {
        self.peers.holding_due(now);
        self.locate_due(now);
        if self.safety.undoing.next_try.is_some_and(|at| at <= now.mono) {
            let may_be_asked = self.is_judged() && !self.safety.undoing.resuming.is_waiting();
            self.safety.undoing.next_try = (!may_be_asked).then_some(now.mono + UNDO_LINKED_NS);
            if may_be_asked {
                self.order_undo(now, Order::Again);
            }
        }
        self.resume_due(now);
        self.safety.store_refused(&mut self.core);
    }

    fn begin_undo(&mut self, now: Now) {
        if self.safety.undoing.locating.is_asking() {
            return;
        }
        if let Some(order) = self.safety.undoing.orders.pop_front() {
            let ways = self.ways_of(order);
            self.safety.want_back(&mut self.core, order, &ways);
            let mut is_in_folder = self.safety.is_in_folder(&self.core);
            let sought =
                ways.iter().filter_map(|(path, way)| self.core.source_of(path, way, &mut is_in_folder)).collect();
            drop(is_in_folder);
            self.locate_all(now, order, sought);
        }
    }

    fn ways_of(&self, order: Order) -> Ways {
        let mut ways = match order {
            // Whatever comes back is a version for all.
            _ if !self.core.role.announces() => Ways::new(),
            _ if order.is_by_peer() && !self.safety.holds_anything() => Ways::new(),
            Order::Again if self.safety.undoing.refused.is_empty() => Ways::new(),
            _ => self.ways_back(),
        };
        match order {
            Order::Person { .. } | Order::Resumed { by_peer: false } => {}
            Order::Peer | Order::Resumed { by_peer: true } => {
                let was_here =
                    |path: &SyncPath| self.core.index.get(path).is_some_and(|row| row.live_on_disk().is_some());
                ways.retain(|path, way| !matches!(way, UndoWay::Again { .. }) || was_here(path));
            }
            Order::Again => ways.retain(|path, way| way.is_quiet() && self.safety.undoing.refused.contains(path)),
        }
        ways
    }

    /// It is known where everything is.
    pub(in crate::engine::safety) fn located(&mut self, now: Now, order: Order, places: &Places) {
        let ways = self.ways_of(order);
        let is_any = !ways.is_empty();
        let mut is_in_folder = self.safety.is_in_folder(&self.core);
        let mut place = |path: &SyncPath, way: &UndoWay| {
            let sought = self.core.source_of(path, way, &mut is_in_folder)?;
            let place = places.of(&sought);
            let is_assumed = place == Place::Nowhere && places.may_be_on_disk && way.is_quiet();
            Some(if is_assumed { Place::Disk } else { place })
        };
        let (mut back, mut nowhere, mut listed) = (Ways::new(), Ways::new(), Vec::new());
        for (path, way) in ways {
            let from = match place(&path, &way) {
                Some(Place::Nowhere) => {
                    nowhere.insert(path, way);
                    continue;
                }
                Some(Place::Disk) => BackFrom::Peers,
                Some(Place::History) => BackFrom::History,
                None => BackFrom::Here,
            };
            listed.push(Back { path: path.clone(), from });
            back.insert(path, way);
        }
        drop(is_in_folder);
        let is_dry = matches!(order, Order::Person { dry_run: true, .. });
        let of = |is_meant: fn(&UndoWay) -> bool| -> Vec<SyncPath> {
            nowhere.iter().filter(|(_, way)| is_meant(way)).map(|(path, _)| path.clone()).collect()
        };
        let (lost, still_held) = (of(UndoWay::is_missed), of(UndoWay::is_quiet));
        let is_resumed = order == Order::Resumed { by_peer: false };
        if let Order::Person { ticket, .. } = order {
            let silent = places.silent.clone();
            self.safety.undoing.answered = Some((ticket, Undone { back: listed, lost, still_held, silent }));
        } else if is_resumed && !lost.is_empty() {
            self.core.out.push(Action::Report(Report::StaysAway { paths: lost }));
        }
        // A crash may have come before the others were told.
        if is_resumed || (is_any && !is_dry && matches!(order, Order::Person { .. })) {
            self.announce_undo(&[]);
        }
        if !is_dry {
            self.leave(now, nowhere);
            self.bring_back(now, order, back);
            self.try_again_later(now);
            self.safety.store_refused(&mut self.core);
        }
        self.begin_undo(now);
    }

    /// Nobody has these.
    fn leave(&mut self, now: Now, nowhere: Ways) {
        for (path, way) in nowhere {
            match way {
                UndoWay::Forget | UndoWay::Refuse => self.safety.undoing.refused.insert(path),
                UndoWay::Anew(_) => self.give_up(now, &path),
                UndoWay::Again { .. } => {}
            }
        }
    }

    fn bring_back(&mut self, now: Now, order: Order, mut back: Ways) {
        if order.is_by_peer() {
            let anew: Vec<_> = back.extract_if(.., |_, way| matches!(way, UndoWay::Anew(_))).collect();
            for (path, _) in anew {
                self.give_up(now, &path);
            }
        }
        // What went back to older contents here is wanted until an inspection finds it.
        for (path, _) in back.iter().filter(|(_, way)| !matches!(way, UndoWay::Refuse)) {
            self.safety.undoing.refused.remove(path);
        }
        if !back.is_empty() {
            self.take_back_all(now, back);
        }
    }

    /// What is missing here and was deleted by a peer, too, is held no more, and does not come back
    /// from here.
    fn give_up(&mut self, now: Now, path: &SyncPath) {
        self.safety.held.remove(path);
        self.was_deleted_anyway(now, path);
    }

    fn try_again_later(&mut self, now: Now) {
        let mut refused = std::mem::take(&mut self.safety.undoing.refused);
        refused.retain(|path| self.may_be_held(path));
        self.safety.undoing.refused = refused;
        if self.safety.undoing.refused.is_empty() {
            self.safety.undoing.next_try = None;
            self.safety.undoing.pause_ns = 0;
        } else {
            self.safety.undoing.pause_ns = (self.safety.undoing.pause_ns * 2).clamp(UNDO_AGAIN_NS, UNDO_AGAIN_MOST_NS);
            self.safety.undoing.next_try = Some(now.mono + self.safety.undoing.pause_ns);
        }
    }

    /// Whether it is held, or is judged soon.
    fn may_be_held(&self, path: &SyncPath) -> bool {
        if !self.observe.has_walked() {
            return true;
        }
        let is_held =
            self.safety.held.contains(path) || self.safety.guard.awaits(path) || self.safety.missing.contains(path);
        let is_sought = self.observe.is_to_be_seen(path);
        let row = self.core.index.get(path);
        (is_held || is_sought) && row.as_ref().and_then(Row::live_on_disk).is_some()
    }
}
