//! What must hold: at every commit, at every power cut, and when the world has come to rest.
//!
//! The oracles read disks, committed indexes and the ledger; of an engine they ask only its status
//! and its index.

use super::disk::NO_MODE;
use super::ledger::{NodeId, claims};
use super::plan::SECOND;
use super::torn::WRITTEN_BACK_NS;
use super::tree::{Body, Ino, Inode, Tree, Value};
use super::users;
use super::world::World;
use dirsyncd::engine::api::index::{Index, Row};
use dirsyncd::engine::merge::displaced_path;
use dirsyncd::engine::{PeerStatus, Stat};
use dirsyncd::model::{ContentId, DeviceId, Entry, SyncPath};
use dirsyncd::wire::condition::Condition;
use std::collections::{BTreeMap, BTreeSet};

/// Without anything done for this long (ns), the world rests: longer than peers wait between
/// greetings.
const REST_NS: u64 = 45 * SECOND;
/// It must come to rest within this (ns) after the last fault and the last edit.
const REST_WITHIN_NS: u64 = 900 * SECOND;

impl World {
    /// A version is minted only where the user did something since the last (P5: nothing that a
    /// crash or an install left behind is taken for an edit).
    pub fn check_commit(&mut self, node: NodeId, written: &BTreeSet<SyncPath>) {
        let mut minted: BTreeMap<u64, Vec<SyncPath>> = BTreeMap::new();
        for path in written {
            let here = &self.nodes[node];
            let row = here.durable.rows.get(path);
            self.ledger.committed(node, path, row);
            self.check_torn(node, path);
            let here = &self.nodes[node];
            let row = here.durable.rows.get(path);
            let Some(version) = row.map(|row| &row.head.version) else { continue };
            // The copy of a loser has the version that its name tells: it was minted at the loser's
            // own path.
            if row.is_some_and(|row| is_copy(path, &row.head)) {
                continue;
            }
            if version.author == here.device && version.counter() > here.minted {
                minted.entry(version.counter()).or_default().push(path.clone());
            }
        }
        for (counter, paths) in minted {
            self.nodes[node].minted = counter;
            // One version may be derived from another (a folder from its child): one reason is
            // enough.
            let reasons = paths.iter().filter(|path| self.has_reason(node, path)).count();
            if reasons == 0 && !self.nodes[node].redates {
                self.fail(format!("n{node} took something for an edit that no user made: {paths:?}"));
            }
        }
    }

    fn has_reason(&mut self, node: NodeId, path: &SyncPath) -> bool {
        let here = &self.nodes[node];
        let row = here.durable.rows.get(path);
        let content = row.and_then(|row| row.head.file()).map(|(content, _)| content);
        if content.is_some_and(|content| self.ledger.texts.is_merge(node, path, content)) {
            return true;
        }
        let claimed = row.and_then(|row| row.disk.as_ref());
        let settled = match (claimed, here.disk.live.get(path)) {
            (Some(disk), Some((ino, inode))) => {
                disk.stat == Some(inode.stat(ino)) && holds(inode, &disk.entry, here.disk.keeps_modes)
            }
            (claimed, found) => found.is_none() && claimed.is_none_or(|disk| disk.stat.is_none()),
        };
        self.ledger.may_mint(node, path, settled)
    }

    /// An install replaces only what the engine knows to be there, be it by a stat that a second
    /// write left alone (P4).
    pub fn check_replaced(&mut self, node: NodeId, path: &SyncPath, stat: Stat, value: &Value) {
        let row = self.nodes[node].durable.rows.get(path);
        let is_known = row.and_then(Row::live_on_disk).is_some_and(|(_, known)| *known == stat);
        if !is_known && !claims(row, value) {
            self.fail(format!("n{node} replaced {value:?} at {path:?}, which it did not know"));
        }
    }

    /// Cuts the power of a disk: what the committed index says is here must be here after it (P5).
    pub fn check_power_cut(&mut self, node: NodeId) {
        let written_back = self.nodes[node].file_time(self.now.saturating_sub(WRITTEN_BACK_NS));
        let here = &mut self.nodes[node];
        let before = here.disk.live.clone();
        let sure = here.disk.surely_durable().values();
        let changes = here.disk.cut_power(&mut self.rng, written_back);
        let after = here.disk.live.values();
        let lost = before.values().into_iter().filter(|value| !after.contains(value) && !sure.contains(value));
        self.ledger.excused.extend(lost);
        self.ledger.interrupted(node, &changes);
        let here = &self.nodes[node];
        let broken = here.durable.rows.iter().find(|(path, row)| {
            let was_known = |ino| here.durable.known.contains(&((*path).clone(), ino));
            ran_ahead(path, row, &before, &here.disk.live, was_known)
        });
        if let Some((path, row)) = broken {
            self.fail(format!("n{node}'s index ran ahead of its disk at {path:?}: {row:?}"));
        }
    }

    /// Waits until nothing is done any more, then checks everything.
    pub fn rest(&mut self) {
        self.rest_before_checking();
        if (self.was_restored || self.plan.role_changes > 0) && self.is_something_nowhere() {
            self.broken = None;
            return;
        }
        if self.broken.is_none() {
            let broken = self.check_all();
            if let Err(what) = broken {
                self.fail(what);
            }
        }
        if self.broken.is_some() {
            (0..self.nodes.len()).for_each(|node| self.trace_tree(node));
        }
    }

    pub fn rest_before_checking(&mut self) {
        let healed = self.now;
        let busy = |world: &Self| world.now - world.last_work < REST_NS || world.nodes.iter().any(|node| !node.is_up());
        self.last_work = self.now;
        while self.broken.is_none() && busy(self) {
            if self.now - healed > REST_WITHIN_NS {
                self.fail("no rest: something is still done long after the last fault".to_owned());
            }
            self.run_for(5 * SECOND);
            self.check_claims();
        }
    }

    /// Whether a winner's content is on no disk any more: its last holder replaced it while the
    /// folder that came back from a backup was still to fetch it again, or did away with it and
    /// lost the index that said so, or changed it when it announced nothing any more. Nobody can
    /// settle that.
    fn is_something_nowhere(&self) -> bool {
        let shown = self.nodes.iter().flat_map(|node| node.disk.live.shown());
        let contents: BTreeSet<ContentId> = shown.filter_map(|value| value.content()).collect();
        let winners = self.nodes.iter().flat_map(|node| node.durable.rows.values().map(|row| &row.head));
        winners.filter_map(Entry::file).any(|(content, size)| size > 0 && !contents.contains(&content))
    }

    fn check_all(&mut self) -> Result<(), String> {
        (0..self.nodes.len()).try_for_each(|node| self.check_settled(node))?;
        (0..self.nodes.len()).try_for_each(|node| self.check_patterns(node))?;
        self.check_modes()?;
        self.check_roles()?;
        self.check_readers()?;
        self.check_membership()?;
        (1..self.nodes.len()).try_for_each(|node| self.check_equal(0, node))?;
        self.check_nothing_lost()?;
        self.forget_what_is_told_to_nobody();
        self.check_the_dead()?;
        self.check_conflicts()?;
        (0..self.nodes.len()).try_for_each(|node| self.check_named(node))?;
        (0..self.nodes.len()).try_for_each(|node| self.check_idle(node))
    }

    /// The index, the disk and what was committed are one.
    fn check_settled(&self, node: NodeId) -> Result<(), String> {
        let here = &self.nodes[node];
        let Some(engine) = &here.engine else { return Err(format!("n{node} is down")) };
        let rows = engine.index().below(None, None, usize::MAX);
        let files = rows.iter().filter_map(|(_, row)| row.live_on_disk()?.0.file());
        let counted = files.fold((0, 0), |(files, bytes), (_, size)| (files + 1, bytes + size));
        if engine.files_counted_here() != counted {
            return Err(format!("n{node}'s guard counts {:?}, not {counted:?}", engine.files_counted_here()));
        }
        // Special files are nobody's but their machine's.
        let mut listing = here.disk.live.listing();
        listing.retain(|_, (_, inode)| !matches!(inode.body, Body::Special(_)));
        for (path, row) in engine.index().below(None, None, usize::MAX) {
            // What is covered is as its user left it.
            if engine.ignore().ignores(&path, true) {
                listing.remove(&path);
                continue;
            }
            if self.is_obstructed(node, &path, &row) || self.stays(node, &path, &row) {
                // A folder that does not make room is still there.
                row.live_on_disk().and_then(|_| listing.remove(&path));
                continue;
            }
            if self.differs_by_role(node, &row) {
                self.check_disk_column(node, &path, &row)?;
                listing.remove(&path);
                continue;
            }
            if !row.is_settled() {
                return Err(format!("n{node} has not settled {path:?}: {row:?}"));
            }
            if here.durable.rows.get(&path) != Some(&row) {
                return Err(format!("n{node} has not committed {path:?}"));
            }
            match (row.head.is_live(), listing.remove(&path)) {
                (false, None) => {}
                (true, Some((_, inode))) if holds(&inode, &row.head, here.disk.keeps_modes) => {}
                (_, found) => {
                    return Err(format!("n{node} has at {path:?} {found:?} and should have {:?}", row.head));
                }
            }
        }
        match listing.iter().find(|(path, _)| !engine.ignore().ignores(path, true)) {
            Some((path, found)) => Err(format!("n{node} does not know of {path:?}: {found:?}")),
            None => Ok(()),
        }
    }

    /// What a disk without permissions says is no permission that anyone chose.
    fn check_modes(&self) -> Result<(), String> {
        let rows = self.nodes.iter().flat_map(|node| &node.durable.rows);
        match rows.into_iter().find(|(_, row)| row.head.mode == NO_MODE) {
            Some((path, row)) => Err(format!("{path:?} got the permissions of a disk that keeps none: {row:?}")),
            None => Ok(()),
        }
    }

    /// Same tree, same winners (P3).
    fn check_equal(&self, a: NodeId, b: NodeId) -> Result<(), String> {
        let winners = |node: NodeId| -> BTreeMap<SyncPath, Entry> {
            let rows = self.nodes[node].durable.rows.iter();
            rows.map(|(path, row)| (path.clone(), row.head.clone())).collect()
        };
        let (of_a, of_b) = (winners(a), winners(b));
        let paths: BTreeSet<&SyncPath> = of_a.keys().chain(of_b.keys()).collect();
        // An old deletion of what it never had need not be known to a machine: it counts in no
        // digest any more.
        let agree = |path: &&SyncPath| match (of_a.get(*path), of_b.get(*path)) {
            (Some(a), Some(b)) => a == b || !(a.is_live() || b.is_live()),
            (one, other) => one.or(other).is_none_or(|entry| !entry.is_live()),
        };
        match paths.into_iter().find(|path| !agree(path)) {
            Some(path) => {
                Err(format!("n{a} and n{b} differ at {path:?}: {:?} and {:?}", of_a.get(path), of_b.get(path)))
            }
            None => Ok(()),
        }
    }

    /// Every value is in a tree or in a history, or a user overwrote it knowingly (P2).
    fn check_nothing_lost(&self) -> Result<(), String> {
        let all: BTreeSet<Value> = self.nodes.iter().flat_map(|node| node.disk.live.values()).collect();
        let lost = |value: &&Value| !all.contains(*value) && !self.ledger.may_be_lost(value);
        match self.ledger.written.keys().find(lost) {
            Some(value) => {
                let (node, path) = &self.ledger.written[value];
                Err(format!("{value:?}, written by n{node}'s user at {path:?}, is lost"))
            }
            None => Ok(()),
        }
    }

    /// What a user overwrote or deleted knowingly is not back in its place (P4).
    fn check_the_dead(&self) -> Result<(), String> {
        let tree = &self.nodes[0].disk.live;
        for dead in self.ledger.dead().filter(|dead| !self.is_covered(0, &dead.path)) {
            if tree.get(&dead.path).and_then(|(_, inode)| inode.value()).as_ref() == Some(&dead.value) {
                return Err(format!(
                    "{:?} is back at {:?}: n{}'s user did away with it",
                    dead.value, dead.path, dead.node
                ));
            }
        }
        Ok(())
    }

    /// It says that it is in sync with everybody, but for what waits for an obstacle, here or
    /// there.
    fn check_idle(&mut self, node: NodeId) -> Result<(), String> {
        let all: Vec<_> = (0..self.nodes.len()).map(|node| self.obstructed(node)).collect();
        let waits = |device| (0..all.len()).any(|other| self.nodes[other].device == device && !all[other].is_empty());
        let waiting: Vec<DeviceId> =
            self.nodes.iter().map(|node| node.device).filter(|device| waits(*device)).collect();
        let obstructed = &all[node];
        let engine = self.nodes[node].engine.as_mut().expect("it was checked to be up");
        let status = engine.status();
        let condition = if obstructed.is_empty() {
            status.condition
        } else {
            Condition { problems: 0, missing: 0, ..status.condition }
        };
        let rests = status.idle && !status.scanning && status.halted.is_none() && condition.is_clear();
        let peer_is_fine = |peer: &PeerStatus| {
            let one_waits = !obstructed.is_empty() || waiting.contains(&peer.device);
            if one_waits { !peer.in_sync } else { peer.in_sync && peer.pending == 0 }
        };
        let rows = &self.nodes[node].durable.rows;
        let stays = |path: &SyncPath| rows.get(path).is_some_and(|row| self.stays(node, path, row));
        let problems_are_known = status.problems.iter().all(|(path, _)| obstructed.contains(path) || stays(path));
        if rests && problems_are_known && status.peers.iter().all(peer_is_fine) {
            return Ok(());
        }
        Err(format!("n{node} rests but does not say so: {status:?}"))
    }
}

/// Whether an entry is what its path's name says that a copy is of.
fn is_copy(path: &SyncPath, entry: &Entry) -> bool {
    let of_x = displaced_path(&users::path("x"), entry).to_text();
    path.to_text().contains(of_x.trim_start_matches('x'))
}

/// Whether an inode is what an entry says, as far as its disk keeps it.
pub fn holds(inode: &Inode, entry: &Entry, keeps_modes: bool) -> bool {
    let same_mtime = inode.mtime == entry.mtime;
    let same_mode = inode.mode == entry.mode || !keeps_modes;
    match &inode.body {
        Body::Directory(_) => entry.is_directory() && same_mode,
        Body::Symlink(target) => same_link(target, entry),
        Body::Special(_) => false,
        Body::File(data) => entry.file() == Some((data.content(), data.size())) && same_mode && same_mtime,
    }
}

fn same_link(target: &[u8], entry: &Entry) -> bool {
    matches!(&entry.kind, dirsyncd::model::Kind::Symlink { target: told } if told == target)
}

/// Whether a committed row names a file as it stood before the power cut, and the file did not
/// survive it so. What the index never knew to be there, its user made and removed unseen: of that
/// it says nothing.
fn ran_ahead(path: &SyncPath, row: &Row, before: &Tree, after: &Tree, was_known: impl Fn(Ino) -> bool) -> bool {
    let Some((_, stat)) = row.live_on_disk() else {
        let gone = row.disk.is_some() && before.lookup(path).is_none();
        return gone && after.lookup(path).is_some_and(was_known);
    };
    let Some((_, inode)) = before.get(path).filter(|(ino, inode)| inode.stat(*ino) == *stat) else { return false };
    let (Some(value), true) = (inode.value(), stat.kind != dirsyncd::engine::StatKind::Directory) else {
        return after.lookup(path).is_none();
    };
    // A write that left the stat alone is the user's, not the index's.
    claims(Some(row), &value) && after.get(path).and_then(|(_, inode)| inode.value()) != Some(value)
}
