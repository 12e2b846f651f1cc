//! Machines that announce nothing, and machines that install nothing.
//!
//! What a receive-only machine's user makes is on no other disk before a person announces it, and
//! what others make never comes to the disk of a send-only one. Both rest, and say so, with just
//! the changes that differ. When a person takes the group's state back, announces what is local,
//! overrides, or gives another role, all machines hold the same. Nothing is lost on the way.

use super::ledger::NodeId;
use super::oracle::holds;
use super::plan::Plan;
use super::rng::Rng;
use super::tree::{Body, Value};
use super::world::World;
use dirsyncd::engine::api::index::{Index, OnDisk, Row};
use dirsyncd::engine::merge::derived_directory;
use dirsyncd::engine::{Event, LocalKind, OnConflict};
use dirsyncd::model::{Entry, SyncPath, SyncRole};
use std::collections::BTreeMap;

impl Plan {
    /// As `random`, with one machine or more that has a role. It is not between others: what it
    /// does not hold it cannot pass on. What would be found anew, or made anew, is left out.
    pub fn with_roles(rng: &mut Rng) -> Self {
        let mut plan = Self::random(rng);
        (plan.restores, plan.rollbacks, plan.lost_indexes, plan.clock_jumps) = (0, 0, 0, 0);
        (plan.rots, plan.verifies, plan.undos, plan.decisions, plan.pattern_edits) = (0, 0, 0, 0, 0);
        (plan.rhythms, plan.modeless) = (Vec::new(), None);
        plan.on_conflict =
            *rng.pick(&[OnConflict::Newest, OnConflict::Newest, OnConflict::KeepBoth, OnConflict::Merge]);
        plan.roles = vec![SyncRole::Both; plan.nodes];
        let ends: Vec<usize> = plan.ends().into_iter().filter(|node| *node > 0).collect();
        let sure = *rng.pick(&ends);
        for node in ends {
            if node == sure || rng.chance(400) {
                plan.roles[node] = *rng.pick(&[SyncRole::ReceiveOnly, SyncRole::ReceiveOnly, SyncRole::SendOnly]);
            }
        }
        plan
    }
}

impl Plan {
    /// As `with_roles`, and machines get other roles while users act and things fail. All machines
    /// are linked with each other, and do both in the end.
    pub fn with_other_roles(rng: &mut Rng) -> Self {
        let mut plan = Self::with_roles(rng);
        plan.pairs = (0..plan.nodes).flat_map(|a| (a + 1..plan.nodes).map(move |b| (a, b))).collect();
        plan.role_changes = rng.between(2, 12);
        plan
    }
}

impl World {
    pub fn has_roles(&self) -> bool {
        !self.plan.roles.is_empty()
    }

    /// Whether a row may differ from the disk for good, by its machine's role.
    pub fn differs_by_role(&self, node: NodeId, row: &Row) -> bool {
        let here = &self.nodes[node];
        // Where roles change, the engine says which one it has.
        let changing = here.engine.as_ref().filter(|_| self.plan.role_changes > 0);
        match changing.map_or(here.role, dirsyncd::engine::Engine::role) {
            SyncRole::Both => false,
            SyncRole::ReceiveOnly => row.is_local(),
            SyncRole::SendOnly => {
                let is_broken =
                    |disk: &OnDisk| disk.entry.version == row.head.version && !disk.entry.same_content(&row.head);
                let disk = row.disk.as_ref();
                let is_derived = disk.is_some_and(|disk| row.head == derived_directory(Some(&disk.entry)));
                let is_made_here = row.head.version.author == here.device && !is_derived;
                let is_own = is_made_here || disk.is_some_and(is_broken);
                !row.is_settled() && !is_own
            }
        }
    }

    /// The disk is what the disk column says.
    pub fn check_disk_column(&self, node: NodeId, path: &SyncPath, row: &Row) -> Result<(), String> {
        let here = &self.nodes[node];
        let known = row.live_on_disk().map(|(entry, _)| entry);
        let found = here.disk.live.get(path);
        let is_so = match (known, found) {
            (None, None) => true,
            (Some(entry), Some((_, inode))) => holds(inode, entry, here.disk.keeps_modes),
            _ => false,
        };
        if is_so { Ok(()) } else { Err(format!("n{node} has at {path:?} {found:?}, and says {row:?}")) }
    }

    /// What a user overwrote there is still everybody's.
    pub fn forget_what_is_told_to_nobody(&mut self) {
        let tells_nobody = |node: NodeId| self.nodes[node].role == SyncRole::ReceiveOnly;
        self.ledger.overwrites.retain(|overwrite| !tells_nobody(overwrite.node));
    }

    /// What roles keep apart is apart, and each machine names just what differs at it.
    pub fn check_roles(&self) -> Result<(), String> {
        for (node, here) in self.nodes.iter().enumerate() {
            match here.role {
                SyncRole::Both => continue,
                SyncRole::ReceiveOnly => self.check_is_nowhere_else(node)?,
                SyncRole::SendOnly => self.check_holds_its_own(node)?,
            }
            self.check_named_by_role(node)?;
        }
        Ok(())
    }

    fn check_is_nowhere_else(&self, node: NodeId) -> Result<(), String> {
        let own = format!("n{node}:");
        for (other, there) in self.nodes.iter().enumerate().filter(|(other, _)| *other != node) {
            let values = there.disk.live.values();
            if let Some(value) = values.iter().find(|value| text_of(value).contains(&own)) {
                return Err(format!("n{other} has {value:?}, which n{node} announces to nobody"));
            }
        }
        let mut rows = here_rows(self, node).into_iter();
        match rows.find(|(_, row)| row.head.version.author == self.nodes[node].device) {
            Some((path, row)) => Err(format!("n{node} announces nothing, and made {path:?}: {row:?}")),
            None => Ok(()),
        }
    }

    fn check_holds_its_own(&self, node: NodeId) -> Result<(), String> {
        let own = format!("n{node}:");
        let of_others = |value: &Value| {
            let text = text_of(value);
            text.split(';').any(|part| part.starts_with('n') && part.contains(':') && !part.starts_with(&own))
        };
        match self.nodes[node].disk.live.shown().into_iter().find(|value| of_others(value)) {
            Some(value) => Err(format!("n{node} installs nothing, and has {value:?}")),
            None => Ok(()),
        }
    }

    /// The paths at which its disk is not what the winners say, found by itself.
    fn check_named_by_role(&self, node: NodeId) -> Result<(), String> {
        let here = &self.nodes[node];
        let Some(engine) = &here.engine else { return Ok(()) };
        // Whoever announces its own is always told of the winners.
        let winners: BTreeMap<SyncPath, Entry> = here_rows(self, 0)
            .into_iter()
            .map(|(path, row)| (path, row.head))
            .filter(|(_, head)| head.is_live())
            .collect();
        let mut listing = here.disk.live.listing();
        listing.retain(|_, (_, inode)| !matches!(inode.body, Body::Special(_)));
        let mut differing: BTreeMap<SyncPath, LocalKind> = BTreeMap::new();
        for (path, winner) in &winners {
            let kind = match listing.remove(path) {
                None => LocalKind::Deleted,
                Some((_, inode)) if holds(&inode, winner, true) && has_its_time(&inode, winner) => continue,
                Some((_, inode)) if holds(&with_attributes(&inode, winner), winner, true) => LocalKind::Attributes,
                Some(_) => LocalKind::Edited,
            };
            differing.insert(path.clone(), kind);
        }
        differing.extend(listing.into_keys().map(|path| (path, LocalKind::New)));
        let named: BTreeMap<_, _> = match here.role {
            SyncRole::SendOnly => {
                engine.not_installed(None, usize::MAX).into_iter().map(|change| (change.path, change.kind)).collect()
            }
            _ => engine.local_changes(None, usize::MAX).into_iter().map(|change| (change.path, change.kind)).collect(),
        };
        if named == differing {
            return Ok(());
        }
        let path = named.keys().chain(differing.keys()).find(|path| named.get(*path) != differing.get(*path));
        let at = |of: &BTreeMap<SyncPath, LocalKind>| path.and_then(|path| of.get(path).copied());
        Err(format!("n{node} names {path:?} as {:?}, and it is {:?}", at(&named), at(&differing)))
    }

    /// Somebody decides something, whatever the role is just then.
    pub fn change_role(&mut self, node: NodeId) {
        if !self.nodes[node].is_up() {
            return;
        }
        let event = match self.own.below(8) {
            0 => Event::Revert(Vec::new()),
            1 => Event::Promote(Vec::new()),
            2 => Event::Override(Vec::new()),
            _ => Event::Role(*self.own.pick(&SyncRole::ALL)),
        };
        self.decide_role(node, event);
    }

    fn decide_role(&mut self, node: NodeId, event: Event) {
        self.trace.note(self.now, format_args!("n{node}'s user says {event:?}"));
        self.nodes[node].redates = true;
        self.tell(node, event);
    }

    /// In the end all do both.
    pub fn settle_other_roles(&mut self) {
        self.run_for(5 * super::plan::SECOND);
        for node in 0..self.nodes.len() {
            self.nodes[node].role = SyncRole::Both;
            self.decide_role(node, Event::Role(SyncRole::Both));
        }
        self.ledger.overwrites.clear();
    }

    /// People decide about everything that differs; then all hold the same.
    pub fn settle_roles(&mut self) {
        let with = |world: &Self, role| -> Vec<NodeId> {
            (0..world.nodes.len()).filter(|node| world.nodes[*node].role == role).collect()
        };
        for node in with(self, SyncRole::ReceiveOnly) {
            // Nobody takes what a reader announces.
            let choices = if self.is_reader(node) { 1 } else { 3 };
            match self.rng.below(choices) {
                0 => self.decide_for_good(node, SyncRole::ReceiveOnly, Event::Revert(Vec::new())),
                1 => self.promote_all(node),
                _ => self.decide_for_good(node, SyncRole::Both, Event::Role(SyncRole::Both)),
            }
        }
        let senders = with(self, SyncRole::SendOnly);
        for (n, node) in senders.iter().copied().enumerate() {
            // What one overrides, another would not install.
            if n + 1 == senders.len() && self.rng.chance(500) {
                self.decide_for_good(node, SyncRole::SendOnly, Event::Override(Vec::new()));
            } else {
                self.decide_for_good(node, SyncRole::Both, Event::Role(SyncRole::Both));
            }
        }
        self.rest();
        let differs = |row: &Row| row.is_local() || !row.is_settled();
        for node in 0..self.nodes.len() {
            let left = here_rows(self, node).into_iter().find(|(_, row)| differs(row));
            if let Some((path, row)) = left.filter(|_| self.broken.is_none()) {
                self.fail(format!("n{node} still differs at {path:?}: {row:?}"));
            }
        }
    }

    fn promote_all(&mut self, node: NodeId) {
        self.decide_for_good(node, SyncRole::Both, Event::Promote(Vec::new()));
        self.tell(node, Event::Role(SyncRole::Both));
    }

    /// `then`: what the node's role may be taken for by the oracles from now on.
    fn decide_for_good(&mut self, node: NodeId, then: SyncRole, event: Event) {
        self.trace.note(self.now, format_args!("n{node}'s user says {event:?}"));
        if !matches!(event, Event::Revert(_)) {
            // Versions are made for what users did long before, or at other machines.
            self.nodes[node].redates = true;
            self.ledger.overwrites.clear();
        }
        self.nodes[node].role = then;
        self.tell(node, event);
        self.run_for(5 * super::plan::SECOND);
    }
}

fn here_rows(world: &World, node: NodeId) -> Vec<(SyncPath, Row)> {
    world.nodes[node].engine.as_ref().map_or_else(Vec::new, |engine| engine.index().below(None, None, usize::MAX))
}

fn with_attributes(inode: &super::tree::Inode, entry: &Entry) -> super::tree::Inode {
    let mut inode = inode.clone();
    (inode.mode, inode.mtime) = (entry.mode, entry.mtime);
    inode
}

/// `holds` does not ask links for their times.
fn has_its_time(inode: &super::tree::Inode, entry: &Entry) -> bool {
    entry.is_directory() || inode.mtime == entry.mtime
}

fn text_of(value: &Value) -> String {
    match value {
        Value::File(data) => String::from_utf8_lossy(&data.text).into_owned(),
        Value::Link(target) => String::from_utf8_lossy(target).into_owned(),
    }
}
