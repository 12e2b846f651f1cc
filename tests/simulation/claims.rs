//! What machines say of themselves and of each other ("in sync", "done"), against what is true.
//!
//! A machine cannot know what is still under way: it is asked at moments at which nothing is,
//! between two machines. Deliberately not here: that machines say so at last (`oracle`).

use super::ledger::NodeId;
use super::oracle::holds;
use super::plan::{MS, SECOND};
use super::world::World;
use dirsyncd::engine::api::index::{Index, Row};
use dirsyncd::engine::{Halt, RootState, Status};
use dirsyncd::model::{Entry, SyncPath};
use dirsyncd::wire::condition::StopCause;
use std::collections::BTreeMap;

/// What changed is told after this much rest (ns), and a little.
const UNTOLD_NS: u64 = 150 * MS;
/// A change on the disk is known to its engine by then (ns), or it says that it looks at something.
const SEEN_NS: u64 = 10 * SECOND;

impl World {
    /// Asks everybody.
    pub fn check_claims(&mut self) {
        let broken = (0..self.nodes.len()).find_map(|node| self.false_claim(node));
        if let Some(what) = broken {
            self.fail(what);
        }
    }

    fn false_claim(&mut self, node: NodeId) -> Option<String> {
        if !self.has_said_all(node) {
            return None;
        }
        let status = self.nodes[node].engine.as_mut()?.status();
        let is_done = status.idle && !status.scanning && status.condition.is_clear() && !status.peers.is_empty();
        if is_done
            && status.peers.iter().all(|peer| peer.in_sync)
            && let Err(what) = self.is_done(node, &status)
        {
            return Some(format!("n{node} says that it is done, and {what}"));
        }
        for peer in self.quiet_peers_of(node) {
            let device = self.nodes[peer].device;
            let says = status.peers.iter().any(|said| said.device == device && said.in_sync);
            if says
                && self.has_said_all(peer)
                && let Err(what) = self.are_in_sync(node, peer)
            {
                return Some(format!("n{node} says that it and n{peer} are in sync, and {what}"));
            }
        }
        None
    }

    /// Nothing that an engine was told, or that it decided, waits to be dealt with.
    fn has_said_all(&self, node: NodeId) -> bool {
        let here = &self.nodes[node];
        let Some(engine) = &here.engine else { return false };
        if self.is_asleep(node) {
            return false;
        }
        let soon = here.clock(self.now).mono + UNTOLD_NS;
        !here.busy && here.inbox.is_empty() && engine.wake_at().is_none_or(|due| due > soon)
    }

    fn are_in_sync(&mut self, a: NodeId, b: NodeId) -> Result<(), String> {
        for node in [a, b] {
            let Some(engine) = self.nodes[node].engine.as_mut() else { return Err(format!("n{node} is down")) };
            let status = engine.status();
            self.is_done(node, &status)?;
        }
        let (of_a, of_b) = (self.live(a), self.live(b));
        if of_a == of_b {
            return Ok(());
        }
        let path = of_a.keys().chain(of_b.keys()).find(|path| of_a.get(*path) != of_b.get(*path));
        Err(format!("they differ at {path:?}"))
    }

    fn live(&self, node: NodeId) -> BTreeMap<SyncPath, Entry> {
        let winners = self.rows(node).into_iter().map(|(path, row)| (path, row.head));
        winners.filter(|(_, winner)| winner.is_live()).collect()
    }

    fn rows(&self, node: NodeId) -> Vec<(SyncPath, Row)> {
        self.nodes[node].engine.as_ref().map_or_else(Vec::new, |engine| engine.index().below(None, None, usize::MAX))
    }

    /// Nothing keeps a machine from being done, and what the group has is on its disk.
    fn is_done(&self, node: NodeId, status: &Status) -> Result<(), String> {
        let here = &self.nodes[node];
        if status.paused || status.halted.is_some() {
            return Err(format!("n{node} is paused or stopped"));
        }
        if status.held_deletions + status.held_reverts + status.held_unignored > 0 {
            return Err(format!("n{node} holds something"));
        }
        // Of what rots, nobody can know.
        let is_rested = here.touched_at + SEEN_NS <= self.now;
        let is_known = self.plan.rots == 0 && is_rested;
        for (path, row) in self.rows(node) {
            // Its user may have changed the patterns just now: then by those that its engine goes
            // by.
            if self.differs_by_role(node, &row) {
                continue;
            }
            let is_covered = self.plan.pattern_edits > 0 && here.in_force.ignores(&path, true);
            if self.is_covered(node, &path) || (is_covered && !is_rested) {
                continue;
            }
            // Its user may have put away what it stays for just now: then as long as its engine
            // says that it stays.
            let is_kept = || !is_rested && is_deleted_folder(&row) && names(status, &path);
            if self.stays(node, &path, &row) || is_kept() {
                continue;
            }
            if !row.is_settled() && (row.head.is_live() || self.plan.pattern_edits == 0) {
                return Err(format!("n{node} has not settled {path:?}"));
            }
            let found = here.disk.live.get(&path);
            let is_there = found.is_some_and(|(_, inode)| holds(inode, &row.head, here.disk.keeps_modes));
            if is_known && row.head.is_live() && !is_there {
                return Err(format!("n{node} has at {path:?} {found:?} and should have {:?}", row.head));
            }
        }
        Ok(())
    }

    // What stops a machine.

    pub fn pause(&mut self, node: NodeId, paused: bool) {
        if self.nodes[node].is_up() {
            self.tell(node, dirsyncd::engine::Event::Pause(paused));
        }
    }

    pub fn root(&self, node: NodeId) -> RootState {
        if self.nodes[node].lost_marker { lost() } else { RootState::Fine }
    }
}

fn is_deleted_folder(row: &Row) -> bool {
    !row.head.is_live() && row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory())
}

/// Whether a path is a problem, or something in it is.
fn names(status: &Status, path: &SyncPath) -> bool {
    status.problems.iter().any(|(problem, _)| problem == path || problem.is_below(path))
}

fn lost() -> RootState {
    RootState::Wrong(Halt { cause: StopCause::MarkerLost, text: "its marker is gone".to_owned() })
}
