//! Orders to undo, one after the other: each is carried out once it is known where the contents
//! are that it needs.
//!
//! What is missing here and held, and is on no disk and in no history that can be asked, stays
//! held: a person may still confirm it. It is asked for again when a machine is linked, and from
//! time to time. What had been let through and nobody has any more stays away. Deliberately not
//! here: what there is to be undone (`../undo.rs`), and the questions (`locate.rs`).

use super::super::event::{LinkId, Now};
use super::super::index::{Index, Row};
use super::super::{Engine, SECOND};
use super::locate::{Locating, Places};
use super::{Back, BackFrom, Way, Ways};
use crate::model::{DeviceId, Kind, SyncPath};
use crate::wire::message::{Place, Sought};
use std::collections::{BTreeSet, VecDeque};

/// What nobody had is asked for again after this time (ns), which doubles each time.
const TRY_AGAIN_NS: u64 = 60 * SECOND;
const TRY_AGAIN_MOST_NS: u64 = 3600 * SECOND;
/// A machine that was linked just now has told what it has after this time (ns).
const LINKED_NS: u64 = 2 * SECOND;
/// Orders that wait for their turn.
const ORDERS: usize = 16;

/// Who wants what is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Order {
    /// A person, here. `ticket` names the answer.
    Person { ticket: u64, dry_run: bool },
    /// A person at another machine.
    Peer,
    /// A person, before: nobody had it then.
    Again,
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
    /// A person wants these back, and nobody had them. Those of them count that are held.
    pub refused: BTreeSet<SyncPath>,
    next_try: Option<u64>,
    pub locating: Locating,
    pause_ns: u64,
}

impl Undoing {
    pub fn is_under_way(&self) -> bool {
        !self.orders.is_empty() || self.locating.is_asking()
    }

    /// A person decided otherwise.
    pub fn forget_refused(&mut self) {
        self.refused.clear();
        self.next_try = None;
    }
}

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn order_undo(&mut self, now: Now, order: Order) {
        if !self.undoing.orders.contains(&order) {
            self.undoing.orders.push_back(order);
        }
        // Whoever ordered the first of so many waits no more.
        if self.undoing.orders.len() > ORDERS {
            self.undoing.orders.pop_front();
        }
        self.begin_undo(now);
    }

    /// What came of the order of that ticket, once it was carried out.
    pub fn take_undone(&mut self, ticket: u64) -> Option<Undone> {
        self.undoing.answered.take_if(|(answered, _)| *answered == ticket).map(|(_, undone)| undone)
    }

    /// A person said so at another machine: what is held here is part of the same. What was let
    /// through is made anew there.
    pub(in crate::engine) fn undo_came(&mut self, now: Now, link: LinkId, told: &[DeviceId]) {
        let Some(sender) = self.sessions.get(&link).map(|session| session.device) else { return };
        self.tell_undo(&[told, &[sender]].concat());
        if self.holds_anything() {
            self.order_undo(now, Order::Peer);
        }
    }

    pub(in crate::engine) fn undo_link_up(&mut self, now: Now) {
        if !self.undoing.refused.is_empty() {
            self.undoing.pause_ns = 0;
            self.undoing.next_try = Some(now.mono + LINKED_NS);
        }
    }

    pub(in crate::engine) fn next_undo(&self) -> Option<u64> {
        let Undoing { next_try, locating, .. } = &self.undoing;
        next_try.iter().copied().chain(locating.next()).chain(self.guards.holding.next()).min()
    }

    pub(in crate::engine) fn undo_due(&mut self, now: Now) {
        self.holding_due(now);
        self.locate_due(now);
        if self.undoing.next_try.is_some_and(|at| at <= now.mono) {
            self.undoing.next_try = None;
            self.order_undo(now, Order::Again);
        }
    }

    fn begin_undo(&mut self, now: Now) {
        if self.undoing.locating.is_asking() {
            return;
        }
        if let Some(order) = self.undoing.orders.pop_front() {
            let ways = self.ways_of(order);
            let sought = ways.iter().filter_map(|(path, way)| self.source_of(path, way)).collect();
            self.locate_all(now, order, sought);
        }
    }

    fn ways_of(&self, order: Order) -> Ways {
        let mut ways = match order {
            Order::Peer if !self.holds_anything() => Ways::new(),
            Order::Again if self.undoing.refused.is_empty() => Ways::new(),
            _ => self.ways_back(),
        };
        match order {
            Order::Person { .. } => {}
            Order::Peer => {
                let was_here = |path: &SyncPath| self.index.get(path).is_some_and(|row| row.live_on_disk().is_some());
                ways.retain(|path, way| !matches!(way, Way::Again { .. }) || was_here(path));
            }
            Order::Again => ways.retain(|path, way| way.is_quiet() && self.undoing.refused.contains(path)),
        }
        ways
    }

    /// The content that a path needs from a history or from another machine.
    fn source_of(&self, path: &SyncPath, way: &Way) -> Option<Sought> {
        let row = self.index.get(path)?;
        let (kind, mtime) = match way {
            Way::Forget | Way::Refuse => (&row.winner.kind, row.winner.mtime),
            Way::Again { thing, .. } | Way::Anew(thing) => (&thing.kind, thing.mtime),
        };
        let is_here =
            matches!(way, Way::Again { .. }) && row.live_on_disk().is_some_and(|(entry, _)| entry.kind == *kind);
        match *kind {
            Kind::File { size, content } if size > 0 && !is_here && !self.is_in_folder(content, size) => {
                Some(Sought { path: path.clone(), content, size, mtime })
            }
            _ => None,
        }
    }

    /// It is known where everything is.
    pub(in crate::engine) fn located(&mut self, now: Now, order: Order, places: &Places) {
        let ways = self.ways_of(order);
        let is_any = !ways.is_empty();
        let place = |path: &SyncPath, way: &Way| {
            let sought = self.source_of(path, way)?;
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
        let is_dry = matches!(order, Order::Person { dry_run: true, .. });
        if let Order::Person { ticket, .. } = order {
            let of = |is_meant: fn(&Way) -> bool| {
                nowhere.iter().filter(|(_, way)| is_meant(way)).map(|(path, _)| path.clone()).collect()
            };
            let (lost, still_held) = (of(Way::is_missed), of(Way::is_quiet));
            let silent = places.silent.clone();
            self.undoing.answered = Some((ticket, Undone { back: listed, lost, still_held, silent }));
            if is_any && !is_dry {
                self.tell_undo(&[]);
            }
        }
        if is_any && !is_dry {
            self.leave(now, nowhere);
            self.bring_back(now, order, back);
            self.try_again_later(now);
        }
        self.begin_undo(now);
    }

    /// Nobody has these.
    fn leave(&mut self, now: Now, nowhere: Ways) {
        for (path, way) in nowhere {
            match way {
                Way::Forget | Way::Refuse => drop(self.undoing.refused.insert(path)),
                Way::Anew(_) => self.give_up(now, &path),
                Way::Again { .. } => {}
            }
        }
    }

    fn bring_back(&mut self, now: Now, order: Order, mut back: Ways) {
        if order == Order::Peer {
            let anew: Vec<_> = back.extract_if(.., |_, way| matches!(way, Way::Anew(_))).collect();
            for (path, _) in anew {
                self.give_up(now, &path);
            }
        }
        for path in back.keys() {
            self.undoing.refused.remove(path);
        }
        if !back.is_empty() {
            self.take_back_all(now, back);
        }
    }

    /// What is missing here and was deleted by a peer, too, is held no more, and does not come back
    /// from here.
    fn give_up(&mut self, now: Now, path: &SyncPath) {
        self.held.remove(path);
        self.was_deleted_anyway(now, path);
    }

    fn try_again_later(&mut self, now: Now) {
        let mut refused = std::mem::take(&mut self.undoing.refused);
        refused.retain(|path| self.is_held(path));
        self.undoing.refused = refused;
        if self.undoing.refused.is_empty() {
            self.undoing.next_try = None;
            self.undoing.pause_ns = 0;
        } else {
            self.undoing.pause_ns = (self.undoing.pause_ns * 2).clamp(TRY_AGAIN_NS, TRY_AGAIN_MOST_NS);
            self.undoing.next_try = Some(now.mono + self.undoing.pause_ns);
        }
    }

    fn is_held(&self, path: &SyncPath) -> bool {
        let row = self.index.get(path);
        row.as_ref().and_then(Row::live_on_disk).is_some() && (self.held.contains(path) || self.guards.awaits(path))
    }
}
