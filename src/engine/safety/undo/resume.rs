//! Orders to undo over a restart.
//!
//! What a person ordered is in the index before the order is answered. Of what is held, each path
//! that is to come back is named there until it does: it stays held, whatever else is judged, and
//! is asked for once a machine is linked. The order itself, which is also for what had been let
//! through and for the other machines, is taken up again when the folder was walked and a machine
//! is linked. It counts for an hour, like what was let through. Deliberately not here: what is done
//! for an order (`orders.rs`).

use super::Order;
use crate::engine::Engine;
use crate::engine::api::event::Now;
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{HOUR_NS, UNDO_DONE_NS, UNDO_REFUSED_BYTES, UNDO_RESUMED_NS};
use crate::engine::safety::Safety;
use crate::model::SyncPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const META_ORDER: &str = "undo.order";
const META_REFUSED: &str = "undo.refused";

/// What is held and a person wants back.
#[derive(Default)]
pub(in crate::engine) struct WantedBack {
    paths: BTreeSet<SyncPath>,
    is_dirty: bool,
}

impl WantedBack {
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub fn contains(&self, path: &SyncPath) -> bool {
        self.paths.contains(path)
    }

    pub fn insert(&mut self, path: SyncPath) {
        self.is_dirty |= self.paths.insert(path);
    }

    pub fn remove(&mut self, path: &SyncPath) {
        self.is_dirty |= self.paths.remove(path);
    }

    pub fn clear(&mut self) {
        self.is_dirty |= !self.paths.is_empty();
        self.paths.clear();
    }

    pub fn retain(&mut self, stays: impl FnMut(&SyncPath) -> bool) {
        let before = self.paths.len();
        self.paths.retain(stays);
        self.is_dirty |= self.paths.len() != before;
    }

    /// Whether a path is one of them, or has one of them below it.
    pub fn is_at_or_below(&self, dir: &SyncPath) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.paths.range::<SyncPath, _>((Excluded(dir), Unbounded));
        let mut alike = after.take_while(|path| path.as_bytes().starts_with(dir.as_bytes()));
        self.contains(dir) || alike.any(|path| path.is_below(dir))
    }
}

/// An order that is not carried out yet, as the index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct StoredOrder {
    /// By the steady clock.
    at: u64,
    /// By a person at another machine.
    by_peer: bool,
}

#[derive(Default)]
pub(in crate::engine) struct Resuming {
    given: Option<StoredOrder>,
    /// An earlier run was given it.
    is_resumed: bool,
    /// When it is taken up again, or was carried out for good (`Now::mono`).
    due: Option<u64>,
}

impl Resuming {
    /// Whether an order of an earlier run waits.
    pub fn is_waiting(&self) -> bool {
        self.is_resumed
    }

    pub fn next(&self) -> Option<u64> {
        self.due
    }
}

impl Safety {
    /// What an earlier run left.
    pub(in crate::engine) fn load_undo<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let read = |key| core.index.meta(key).filter(|stored| !stored.is_empty());
        let refused = read(META_REFUSED).and_then(|stored| postcard::from_bytes::<BTreeSet<SyncPath>>(&stored).ok());
        let given = read(META_ORDER).and_then(|stored| postcard::from_bytes::<StoredOrder>(&stored).ok());
        self.undoing.refused = WantedBack { paths: refused.unwrap_or_default(), is_dirty: false };
        self.undoing.resuming = Resuming { given, is_resumed: given.is_some(), due: None };
        self.forget_old_order(core, now);
    }

    /// A person decided otherwise, or all was done.
    pub(in crate::engine::safety) fn forget_order<I: Index>(&mut self, core: &mut Core<I>) {
        if self.undoing.resuming.given.is_some() {
            self.undoing.resuming = Resuming::default();
            self.store_order(core);
        }
    }

    fn store_order<I: Index>(&self, core: &mut Core<I>) {
        let given = self.undoing.resuming.given;
        let stored = given.map(|given| postcard::to_stdvec(&given).expect("writing to memory does not fail"));
        core.index.set_meta(META_ORDER, &stored.unwrap_or_default());
    }

    fn forget_old_order<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let steady = core.steady(now);
        if self.undoing.resuming.given.is_some_and(|given| given.at.saturating_add(HOUR_NS) < steady) {
            self.forget_order(core);
        }
    }

    pub(in crate::engine::safety) fn store_refused<I: Index>(&mut self, core: &mut Core<I>) {
        if !std::mem::take(&mut self.undoing.refused.is_dirty) {
            return;
        }
        let mut bytes = 0;
        let fits = |path: &&SyncPath| {
            bytes += path.as_bytes().len();
            bytes <= UNDO_REFUSED_BYTES
        };
        let kept: Vec<&SyncPath> = self.undoing.refused.paths.iter().take_while(fits).collect();
        let stored = postcard::to_stdvec(&kept).expect("writing to memory does not fail");
        core.index.set_meta(META_REFUSED, &stored);
    }
}

impl<I: Index> Engine<I> {
    /// An order is to be carried out: that is known over a restart.
    pub(in crate::engine::safety) fn keep_order(&mut self, now: Now, order: Order) {
        let by_peer = match order {
            Order::Person { dry_run: false, .. } | Order::Resumed { by_peer: false } => false,
            Order::Peer | Order::Resumed { by_peer: true } => true,
            Order::Person { .. } | Order::Again => return,
        };
        let at = match order {
            Order::Resumed { .. } => self.safety.undoing.resuming.given.map(|given| given.at),
            _ => None,
        };
        let at = at.unwrap_or(self.steady(now));
        // A person's own order is for all that another's is for.
        let by_peer = by_peer && self.safety.undoing.resuming.given.is_none_or(|given| given.by_peer);
        // Before all that is held is known again, no order is for all that the earlier one is for.
        let is_later = matches!(order, Order::Person { .. }) && self.may_resume();
        let is_resumed = self.safety.undoing.resuming.is_resumed && !is_later;
        self.safety.undoing.resuming = Resuming { given: Some(StoredOrder { at, by_peer }), is_resumed, due: None };
        self.safety.store_order(&mut self.core);
    }

    pub(in crate::engine::safety) fn resume_due(&mut self, now: Now) {
        let Some(given) = self.safety.undoing.resuming.given else { return };
        let is_due = self.safety.undoing.resuming.due.is_some_and(|due| due <= now.mono);
        if self.safety.undoing.resuming.is_resumed {
            self.safety.forget_old_order(&mut self.core, now);
            if !self.may_resume() {
                self.safety.undoing.resuming.due = None;
            } else if is_due {
                self.safety.undoing.resuming.is_resumed = false;
                self.order_undo(now, Order::Resumed { by_peer: given.by_peer });
            } else {
                self.safety.undoing.resuming.due.get_or_insert(now.mono + UNDO_RESUMED_NS);
            }
        } else if self.safety.undoing.is_busy() {
            self.safety.undoing.resuming.due = None;
        } else if is_due {
            self.safety.forget_order(&mut self.core);
        } else {
            self.safety.undoing.resuming.due.get_or_insert(now.mono + UNDO_DONE_NS);
        }
    }

    fn may_resume(&self) -> bool {
        self.is_judged() && !self.peers.is_alone()
    }

    /// Whether what is to be held is known, after a restart, too.
    pub(in crate::engine::safety) fn is_judged(&self) -> bool {
        self.has_scanned_all() && self.safety.missing.is_empty() && self.safety.guard.is_quiet()
    }
}
