//! People who decide conflicts, each at any machine: all list the same ones, and what was decided
//! is open nowhere (P2).
//!
//! Deliberately not here: which versions conflict (the engine's), and what is kept of losers
//! (`oracle.rs`).

use super::bugs::Bug;
use super::ledger::NodeId;
use super::world::World;
use dirsyncd::engine::Event;
use dirsyncd::engine::api::index::{Conflict, ConflictFilter};
use dirsyncd::model::SyncPath;
use dirsyncd::wire::conflict::ConflictKey;
use std::collections::BTreeSet;

impl World {
    /// Somebody at this machine decides the conflicts of a path, if it lists any.
    pub fn decide(&mut self, node: NodeId) {
        let open = self.open_conflicts(node);
        if open.is_empty() {
            return;
        }
        let (path, _) = self.rng.pick(&open).clone();
        let how = "kept what is there".to_owned();
        self.tell(node, Event::Settle { path, last: i64::MAX, how });
    }

    /// What `dirsync conflicts` lists there.
    fn open_conflicts(&self, node: NodeId) -> Vec<(SyncPath, ConflictKey)> {
        let Some(engine) = &self.nodes[node].engine else { return Vec::new() };
        let (_, open) = engine.conflicts(&ConflictFilter { limit: usize::MAX, ..ConflictFilter::default() });
        open.into_iter().map(|conflict| (conflict.path.clone(), conflict.key())).collect()
    }

    /// A decision is durable where it was made.
    pub fn note_decisions(&mut self, node: NodeId) {
        let decided = self.nodes[node].durable.conflicts.iter().filter(|conflict| conflict.settled.is_some());
        self.decided.extend(decided.map(Conflict::key));
    }

    /// All machines list the same, and nothing that was decided. A machine that lost its index, or
    /// came back from an old image, may have been alone with what it knew.
    pub fn check_conflicts(&self) -> Result<(), String> {
        let lists: Vec<BTreeSet<_>> =
            (0..self.nodes.len()).map(|node| self.open_conflicts(node).into_iter().collect()).collect();
        if let Some(node) = (1..lists.len()).find(|node| lists[*node] != lists[0]) {
            let differs: Vec<_> = lists[0].symmetric_difference(&lists[node]).map(|(path, _)| path).collect();
            return Err(format!("n0 and n{node} list other conflicts: {differs:?}"));
        }
        match lists[0].iter().find(|(_, key)| self.decided.contains(key)) {
            Some((path, _)) if !self.was_restored => Err(format!("the conflict at {path:?} was decided, and is open")),
            _ => Ok(()),
        }
    }

    /// People decide all there is, each somewhere: then nobody lists anything.
    pub fn settle_conflicts(&mut self) {
        while let Some((path, _)) = self.open_conflicts(0).into_iter().next() {
            if self.broken.is_some() {
                return;
            }
            let node = self.rng.index(self.nodes.len());
            let how = "kept what is there".to_owned();
            self.tell(node, Event::Settle { path, last: i64::MAX, how });
            self.run_for(5 * super::plan::SECOND);
        }
        if let Some(node) = (0..self.nodes.len()).find(|node| !self.open_conflicts(*node).is_empty()) {
            self.fail(format!("n{node} lists conflicts that were decided"));
        }
    }

    /// Whether a frame that tells of conflicts gets lost.
    pub fn loses_conflicts(&self) -> bool {
        self.has(Bug::HidesConflicts)
    }
}
