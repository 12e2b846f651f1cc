//! Bytes that change on a disk by themselves, people who have everything hashed again, and what
//! they say of what is found.
//!
//! Deliberately not here: what a scrub makes of it (the engine's), and its reading (`scrubbing`).

use super::ledger::{NodeId, claims};
use super::plan::SECOND;
use super::tree::{Body, Data, Value};
use super::world::World;
use dirsyncd::engine::api::index::Index;
use dirsyncd::engine::{Decision, Event, Verify};
use dirsyncd::model::{ContentId, SyncPath};
use std::collections::BTreeSet;

/// What was written so lately has a second hash still to come (ns): a change of its bytes is not
/// told from an edit.
const YOUNG_NS: u64 = 3 * SECOND;
/// For links to come back, and for everything to be read.
const LONG_ENOUGH_NS: u64 = 60 * SECOND;
/// Rounds of verifying and deciding: what is decided may lose to what is found.
const ROUNDS: usize = 4;

impl World {
    /// A file that is known to the index, and was not written of late. Until its second hash is
    /// done, a change of bytes that the stat does not show is an edit to the engine, and rightly.
    pub fn rot(&mut self, node: NodeId) {
        let here = &self.nodes[node];
        let racy_since = match &here.engine {
            Some(engine) => engine.index().meta("racy_since"),
            None => here.durable.meta.get("racy_since").cloned(),
        };
        let racy_since = racy_since.and_then(|since| since.try_into().ok()).map_or(u64::MAX, u64::from_be_bytes);
        let old = here.file_time(self.now.saturating_sub(YOUNG_NS));
        let listing = here.disk.live.listing();
        let may_rot = listing.into_iter().filter_map(|(path, (ino, inode))| {
            let Body::File(data) = &inode.body else { return None };
            let row = here.durable.rows.get(&path);
            let is_known = row.and_then(|row| row.live_on_disk()).is_some_and(|(_, stat)| *stat == inode.stat(ino));
            let is_whole =
                claims(row, &Value::File(data.clone())) && data.text.first().is_some_and(|first| *first != b'#');
            let is_hashed = inode.ctime.as_stamp() < racy_since;
            (is_known && is_whole && is_hashed && inode.ctime < old && inode.mtime < old)
                .then(|| (path, ino, data.clone()))
        });
        let all: Vec<(SyncPath, u64, Data)> = may_rot.collect();
        if all.is_empty() {
            return;
        }
        let (path, ino, data) = self.rng.pick(&all).clone();
        let rotten = Data { text: [b"#", &data.text[1..]].concat().into(), padding: data.padding };
        self.trace.note(self.now, format_args!("n{node} {path:?} rots into {rotten:?}"));
        self.ledger.rotted(node, &path, Value::File(data), Value::File(rotten.clone()));
        self.nodes[node].disk.rot(ino, &rotten);
    }

    pub fn verify(&mut self, node: NodeId) {
        if self.nodes[node].is_up() {
            self.tell(node, Event::Verify(Verify { below: None, bytes_a_second: u64::MAX, peers: true }));
        }
    }

    /// What an install brought did not rot on another machine.
    pub fn check_rot(&mut self, node: NodeId, path: &SyncPath) {
        let value = self.nodes[node].disk.live.get(path).and_then(|(_, inode)| inode.value());
        if let Some(value) = value.filter(|value| self.ledger.is_foreign_rot(node, value)) {
            self.fail(format!("n{node} was given {value:?} at {path:?}, which rotted elsewhere"));
        }
    }

    /// Everybody has everything hashed, and says what is to become of what was found, until nothing
    /// is.
    pub fn settle_rot(&mut self) {
        for _ in 0..ROUNDS {
            // Whoever waits for what rotted elsewhere does not rest before that is decided.
            self.run_for(LONG_ENOUGH_NS);
            (0..self.nodes.len()).for_each(|node| self.verify(node));
            self.run_for(LONG_ENOUGH_NS);
            let decided: usize = (0..self.nodes.len()).map(|node| self.decide_all(node)).sum();
            if self.broken.is_some() || decided == 0 {
                return;
            }
        }
    }

    /// Rot is healed where another machine has what it was, and does not doubt that; else what is
    /// left is kept. That may be what it was: a reading went wrong, or the file came back from a
    /// backup.
    fn decide_all(&mut self, node: NodeId) -> usize {
        let Some(engine) = &self.nodes[node].engine else { return 0 };
        let suspects = engine.verification().suspects;
        let good = |path: &SyncPath| engine.index().get(path).and_then(|row| row.head.file());
        let listed: Vec<_> = suspects.iter().map(|suspect| (suspect.path.clone(), good(&suspect.path))).collect();
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let elsewhere: BTreeSet<ContentId> = others.flat_map(|other| self.undoubted(other)).collect();
        for (path, good) in &listed {
            let decision = match good {
                Some((content, _)) if elsewhere.contains(content) => Decision::Heal,
                _ => Decision::Keep,
            };
            if decision == Decision::Keep {
                let value = self.nodes[node].disk.live.get(path).and_then(|(_, inode)| inode.value());
                self.ledger.kept(node, path, value);
            }
            self.tell(node, Event::Decide { path: path.clone(), decision });
        }
        listed.len()
    }

    /// The contents that a machine shows, and holds for right.
    fn undoubted(&self, node: NodeId) -> Vec<ContentId> {
        let here = &self.nodes[node];
        let suspects = here.engine.iter().flat_map(|engine| engine.verification().suspects);
        let suspects: BTreeSet<SyncPath> = suspects.map(|suspect| suspect.path).collect();
        let shown = here.disk.live.listing().into_iter().filter(|(path, _)| !suspects.contains(path));
        shown.filter_map(|(_, (_, inode))| inode.value()?.content()).collect()
    }
}
