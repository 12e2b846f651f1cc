//! Members that may only read, and lie: nothing that they announce is taken anywhere.
//!
//! A reader's engine is told that it is one, and the others are told so by its links. Its machine
//! says besides what no engine would: changes, deletions and answers in its own and in others'
//! names. Deliberately not here: what a receive-only machine does with its own changes
//! (`roles.rs`).

use super::ledger::NodeId;
use super::plan::{Plan, SECOND};
use super::rng::Rng;
use super::world::World;
use bytes::Bytes;
use dirsyncd::engine::api::index::Index;
use dirsyncd::model::{
    Capability, ContentId, DeviceId, Entry, FileTime, Kind, Mode, SyncPath, SyncRole, Version, VersionVector,
};
use dirsyncd::wire::message::{Change, Message};

/// What no user writes.
const FORGED: &[u8] = b"forged";

impl Plan {
    /// As `with_roles`, and every machine that has one may only read.
    pub fn with_readers(rng: &mut Rng) -> Self {
        let mut plan = Self::with_roles(rng);
        plan.roles.iter_mut().filter(|role| **role != SyncRole::Both).for_each(|role| *role = SyncRole::ReceiveOnly);
        plan.lies = rng.between(5, 60);
        plan
    }
}

impl World {
    pub fn has_readers(&self) -> bool {
        self.plan.lies > 0
    }

    pub fn is_reader(&self, node: NodeId) -> bool {
        self.has_readers() && self.plan.roles[node] == SyncRole::ReceiveOnly
    }

    pub fn capability_of(&self, node: NodeId) -> Capability {
        if self.is_reader(node) { Capability::ReadOnly } else { Capability::Write }
    }

    /// Somebody has changed the program there.
    pub fn lies(&mut self) {
        let readers: Vec<NodeId> = (0..self.nodes.len()).filter(|node| self.is_reader(*node)).collect();
        let reader = *self.own.pick(&readers);
        let links = self.ends_of(reader);
        if links.is_empty() {
            return;
        }
        let link = *self.own.pick(&links);
        let message = match self.own.below(6) {
            0 => Message::Known { counter: 1 << 50 },
            1 => Message::Undo { relayed_to: Vec::new() },
            2 => {
                let device = self.any_device();
                // Of itself that is no lie: it leaves, and is out where a list is kept.
                let leaves = self.has_membership() && device == self.nodes[reader].device;
                if leaves { Message::Known { counter: 1 } } else { Message::Forget { device } }
            }
            _ => {
                let changes = (0..self.own.between(1, 4)).map(|_| self.forged_change()).collect();
                Message::Changes { changes, relayed_to: Vec::new() }
            }
        };
        self.trace.note(self.now, format_args!("n{reader} lies: {message:?}"));
        self.send_message(link, message);
    }

    fn any_device(&mut self) -> DeviceId {
        let node = self.own.index(self.nodes.len());
        self.nodes[node].device
    }

    /// In anyone's name, newer than all that there is: at a path that somebody knows, or a new one.
    fn forged_change(&mut self) -> Change {
        let node = self.own.index(self.nodes.len());
        let engine = self.nodes[node].engine.as_ref();
        let known = engine.map_or_else(Vec::new, |engine| engine.index().below(None, None, 64));
        let made_up = SyncPath::new(format!("forged-{}", self.own.below(5))).expect("a plain name");
        let is_new = known.is_empty() || self.own.chance(300);
        let path = if is_new { made_up } else { self.own.pick(&known).0.clone() };
        let author = self.any_device();
        let stamp = self.nodes[node].wall(self.now) + SECOND;
        let version = Version { stamp, author, seen: VersionVector::default().with(author, 1 << 40) };
        let mtime = FileTime::default();
        if self.own.chance(500) {
            let entry = Entry { kind: Kind::Deleted { at: stamp }, mode: Mode::NONE, mtime, version };
            return Change { path, entry, body: None };
        }
        let kind = Kind::File { size: FORGED.len() as u64, content: ContentId::of(FORGED) };
        let entry = Entry { kind, mode: Mode::of(0o644), mtime, version };
        Change { path, entry, body: Some(Bytes::from_static(FORGED)) }
    }

    /// What it said wrong costs a liar comparisons: with new links all begins anew.
    pub fn settle_readers(&mut self) {
        for node in (0..self.nodes.len()).filter(|node| self.is_reader(*node)).collect::<Vec<_>>() {
            for pair in self.net.pairs_of(node) {
                self.cut_pair(pair);
            }
        }
        self.run_for(10 * SECOND);
    }

    /// No machine has a forged winner.
    pub fn check_readers(&self) -> Result<(), String> {
        if !self.has_readers() {
            return Ok(());
        }
        for (node, here) in self.nodes.iter().enumerate() {
            let Some(engine) = &here.engine else { continue };
            let rows = engine.index().below(None, None, usize::MAX);
            let is_forged = |head: &Entry| {
                head.version.counter() >= 1 << 40
                    || head.file().is_some_and(|(content, _)| content == ContentId::of(FORGED))
            };
            if let Some((path, row)) = rows.into_iter().find(|(_, row)| is_forged(&row.head)) {
                return Err(format!("n{node} took the forged {path:?}: {row:?}"));
            }
        }
        Ok(())
    }
}
