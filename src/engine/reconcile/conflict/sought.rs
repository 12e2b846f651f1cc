//! Losers whose install a crash cut off: they are looked for in history, also after further
//! crashes.
//!
//! What is sought is in the index from the commit that finds the winner in place until the one that
//! tells of the conflict. Where history has no such loser, nobody answers: after a few starts it is
//! sought no more. Deliberately not here: how it is found (`io/history`).

use crate::engine::Engine;
use crate::engine::api::action::Action;
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{SOUGHT_CAP, SOUGHT_STARTS};
use crate::engine::reconcile::Reconcile;
use crate::model::{Entry, SyncPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const META_SOUGHT: &str = "sought";

/// A loser, what won over it, and at how many starts it was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct SoughtLoser {
    winner: Entry,
    loser: Entry,
    starts: u8,
}

impl Reconcile {
    fn seek_loser<I: Index>(&mut self, core: &mut Core<I>, path: SyncPath, sought: SoughtLoser) {
        let (winner, loser) = (sought.winner.clone(), sought.loser.clone());
        if self.losers.sought.len() < SOUGHT_CAP {
            self.losers.sought.insert(path.clone(), sought);
        }
        core.act(Action::FindLoser { path, winner, loser });
    }

    /// What a crash kept from being found is sought again.
    pub(in crate::engine) fn load_sought<I: Index>(&mut self, core: &mut Core<I>) {
        let stored = core.index.meta(META_SOUGHT).filter(|stored| !stored.is_empty());
        let Some(stored) = stored else { return };
        let sought: BTreeMap<SyncPath, SoughtLoser> = postcard::from_bytes(&stored).unwrap_or_default();
        for (path, sought) in sought.into_iter().filter(|(_, sought)| sought.starts < SOUGHT_STARTS) {
            self.seek_loser(core, path, SoughtLoser { starts: sought.starts + 1, ..sought });
        }
        self.store_sought(core);
    }

    pub(in crate::engine::reconcile) fn sought_is_found<I: Index>(
        &mut self,
        core: &mut Core<I>,
        path: &SyncPath,
        loser: &Entry,
    ) {
        if self.losers.sought.get(path).is_some_and(|sought| sought.loser == *loser) {
            self.losers.sought.remove(path);
            self.store_sought(core);
        }
    }

    /// In the commit of what it follows from.
    fn store_sought<I: Index>(&self, core: &mut Core<I>) {
        let sought = &self.losers.sought;
        let stored = if sought.is_empty() {
            Vec::new()
        } else {
            postcard::to_stdvec(sought).expect("writing to memory does not fail")
        };
        core.index.set_meta(META_SOUGHT, &stored);
    }
}

impl<I: Index> Engine<I> {
    /// A winner is found on disk in place of what lost to it: its install was cut off before it was
    /// told what became of that.
    pub(in crate::engine) fn find_loser(&mut self, path: &SyncPath, winner: &Entry, loser: &Entry) {
        let is_loser = winner.conflicts_with(loser) && !winner.same_content(loser) && loser.file().is_some();
        if is_loser && !self.is_untrusted(path) {
            let sought = SoughtLoser { winner: winner.clone(), loser: loser.clone(), starts: 1 };
            self.reconcile.seek_loser(&mut self.core, path.clone(), sought);
            self.reconcile.store_sought(&mut self.core);
        }
    }
}
