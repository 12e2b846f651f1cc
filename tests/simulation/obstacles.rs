//! What stands in the way of a path at one machine alone: a special file, or another spelling of
//! its name on a disk that folds names.
//!
//! Such a path is a problem there, named as one, and nobody's edit or deletion. Once users have put
//! the obstacles away, everything is everywhere. Deliberately not here: disks that fold (`tree`),
//! and the engine's part of it.

use super::disk::PathChange;
use super::ledger::NodeId;
use super::plan::SECOND;
use super::rng::Rng;
use super::tree::{Body, Inode};
use super::users::{self, Op};
use super::world::World;
use dirsyncd::engine::api::index::Row;
use dirsyncd::model::path::IGNORE_FILE;
use dirsyncd::model::{Entry, Kind, SyncPath};
use std::collections::BTreeSet;

const KINDS: [&str; 3] = ["socket", "fifo", "device"];
/// A few rounds clear everything: what was in the way of a folder is followed by what is in the way
/// in it.
const ROUNDS: usize = 8;
/// After this the names that were given up are taken (ns).
const LONG_ENOUGH_NS: u64 = 60 * SECOND;

/// What users do besides where a disk folds names, or where somebody makes special files.
pub fn instead(rng: &mut Rng, mut op: Op, folds: bool, specials: bool) -> Op {
    if specials && rng.chance(120) {
        return Op::Special { path: op.place().clone(), what: KINDS[rng.index(KINDS.len())] };
    }
    if !folds {
        return op;
    }
    match rng.below(10) {
        0 => Op::Rename { from: op.place().clone(), to: recased(rng, op.place()) },
        1..5 => {
            let place = op.place();
            *place = recased(rng, place);
            op
        }
        _ => op,
    }
}

/// Whether an entry is of an inode's contents.
fn says(entry: &Entry, inode: &Inode) -> bool {
    match &inode.body {
        Body::Directory(_) => entry.is_directory(),
        Body::File(data) => entry.file() == Some((data.content(), data.size())),
        Body::Symlink(target) => matches!(&entry.kind, Kind::Symlink { target: told } if told == target),
        Body::Special(_) => false,
    }
}

/// A path that is `from`, or in it, where `to` takes the place of that.
fn in_place_of(path: &SyncPath, from: &SyncPath, to: &SyncPath) -> SyncPath {
    let rest = &path.as_bytes()[from.as_bytes().len()..];
    SyncPath::new([to.as_bytes(), rest].concat()).expect("its names are as good")
}

fn is_special(inode: &Inode) -> bool {
    matches!(inode.body, Body::Special(_))
}

/// Another spelling of one of its names.
fn recased(rng: &mut Rng, path: &SyncPath) -> SyncPath {
    let mut bytes = path.as_bytes().to_vec();
    let letters: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_alphabetic()).collect();
    if let Some(at) = letters.get(rng.index(letters.len().max(1))) {
        bytes[*at] ^= 0x20;
    }
    SyncPath::new(bytes).expect("its names are as good")
}

/// Another spelling of its last name.
pub fn respelled(path: &SyncPath) -> SyncPath {
    let mut bytes = path.as_bytes().to_vec();
    let start = bytes.len() - path.name().len();
    bytes[start..].iter_mut().filter(|byte| byte.is_ascii_alphabetic()).for_each(|byte| *byte ^= 0x20);
    SyncPath::new(bytes).expect("its names are as good")
}

impl World {
    /// What is in the way of a path, or of a folder that it is in.
    pub fn obstacle(&self, node: NodeId, path: &SyncPath) -> Option<SyncPath> {
        let tree = &self.nodes[node].disk.live;
        let mut above: Vec<_> = path.ancestors().collect();
        above.reverse();
        let is_special = |at: &SyncPath| tree.get(at).is_some_and(|(_, inode)| is_special(inode));
        above.into_iter().chain([path.clone()]).find_map(|at| {
            let there = tree.spelled(&at);
            (there != at && tree.lookup(&there).is_some() || is_special(&there)).then_some(there)
        })
    }

    /// A special file in a folder: nobody may touch it.
    fn special_in(&self, node: NodeId, dir: &SyncPath) -> Option<SyncPath> {
        let listing = self.nodes[node].disk.live.listing();
        let special = listing.into_iter().find(|(path, (_, inode))| path.is_below(dir) && is_special(inode));
        special.map(|(path, _)| path)
    }

    /// Whether a row waits for an obstacle.
    pub fn is_obstructed(&self, node: NodeId, path: &SyncPath, row: &Row) -> bool {
        let engine = self.nodes[node].engine.as_ref();
        let is_covered = engine.is_some_and(|engine| engine.ignore().ignores(path, true));
        if !self.has_obstacles || !row.head.is_live() || is_covered {
            return false;
        }
        match row.live_on_disk() {
            None => self.obstacle(node, path).is_some(),
            Some((entry, _)) => {
                let is_replaced = entry.is_directory() && !row.head.is_directory();
                is_replaced && self.special_in(node, path).is_some()
            }
        }
    }

    /// Whether a folder that was deleted stays for a special file in it, as it would for what
    /// patterns cover: that is left alone, and keeps nobody from being done.
    pub fn stays(&self, node: NodeId, path: &SyncPath, row: &Row) -> bool {
        let is_folder = row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory());
        self.has_obstacles && !row.head.is_live() && is_folder && self.special_in(node, path).is_some()
    }

    /// The paths that wait for an obstacle at a machine.
    pub fn obstructed(&self, node: NodeId) -> BTreeSet<SyncPath> {
        if !self.has_obstacles {
            return BTreeSet::new();
        }
        let rows = self.nodes[node].durable.rows.iter();
        rows.filter(|(path, row)| self.is_obstructed(node, path, row)).map(|(path, _)| path.clone()).collect()
    }

    /// Something was renamed to another spelling in place. What its user had made in it after that
    /// was decided moved along: by no index it is to be at its new path, or gone from its old one.
    /// What its user did to what was in it, and nobody was told, is found at the new path:
    /// other permissions, say, or that it is missing.
    pub fn moved_along(&mut self, node: NodeId, (from, to): (&SyncPath, &SyncPath), changes: &[PathChange]) {
        let here = &self.nodes[node];
        let rows = &here.durable.rows;
        let along = changes.iter().filter(|change| {
            let row = rows.get(&change.path);
            match &change.after {
                Some((_, inode)) => !row.is_some_and(|row| row.head.is_live() && says(&row.head, inode)),
                None => row.is_some_and(|row| row.head.is_live()),
            }
        });
        let made: BTreeSet<_> = along.map(|change| change.path.clone()).collect();
        self.ledger.moved_along(node, &made, |path| {
            (path == from || path.is_below(from)).then(|| in_place_of(path, from, to))
        });
    }

    /// Each is named as a problem, or a folder that it is in is.
    pub fn check_named(&mut self, node: NodeId) -> Result<(), String> {
        let obstructed = self.obstructed(node);
        let Some(engine) = self.nodes[node].engine.as_mut() else { return Ok(()) };
        let problems: BTreeSet<_> = engine.status().problems.into_iter().map(|(path, _)| path).collect();
        let is_named = |path: &SyncPath| problems.contains(path) || path.ancestors().any(|dir| problems.contains(&dir));
        match obstructed.iter().find(|path| !is_named(path)) {
            Some(path) => Err(format!("n{node} waits for what is in the way of {path:?} and names no problem")),
            None => Ok(()),
        }
    }

    /// Whoever cannot hold the patterns goes by none, and asks the others for what they cover until
    /// it has them. So its user puts away what is in their way before the world must rest.
    pub fn clear_patterns(&mut self) {
        let patterns = users::path(IGNORE_FILE);
        for _ in 0..ROUNDS {
            self.run_for(LONG_ENOUGH_NS);
            let in_the_way = (0..self.nodes.len()).filter(|node| self.obstructed(*node).contains(&patterns));
            let of = |node| self.obstacle(node, &patterns).or_else(|| self.special_in(node, &patterns));
            let obstacles: Vec<_> = in_the_way.filter_map(|node| Some((node, of(node)?))).collect();
            if obstacles.is_empty() || self.broken.is_some() {
                return;
            }
            for (node, obstacle) in obstacles {
                let is_special = self.nodes[node].disk.live.get(&obstacle).is_some_and(|(_, inode)| is_special(inode));
                let to = users::path(&format!("put-away{}", self.now));
                let rename = Op::Rename { from: obstacle.clone(), to };
                self.user_does(node, &if is_special { Op::Remove { path: obstacle } } else { rename });
            }
        }
    }

    /// Users put away what is in the way, until nothing is: special files where they are, names at
    /// another machine.
    pub fn clear_obstacles(&mut self) {
        for _ in 0..ROUNDS {
            let mut cleared = false;
            for node in 0..self.nodes.len() {
                cleared |= self.clear_some(node);
            }
            if !cleared || self.broken.is_some() {
                break;
            }
            self.run_for(LONG_ENOUGH_NS);
        }
        self.has_obstacles = false;
        self.rest();
    }

    fn clear_some(&mut self, node: NodeId) -> bool {
        let rows = self.nodes[node].durable.rows.iter();
        let stay = rows.filter(|(path, row)| self.stays(node, path, row)).map(|(path, _)| path.clone());
        let waiting: BTreeSet<_> = self.obstructed(node).into_iter().chain(stay).collect();
        let of = |path| self.obstacle(node, path).or_else(|| self.special_in(node, path));
        let obstacles: BTreeSet<_> = waiting.iter().filter_map(|path| Some((of(path)?, path.clone()))).collect();
        let mut done = BTreeSet::new();
        for (obstacle, path) in &obstacles {
            if !done.insert(obstacle.clone()) {
                continue;
            }
            if self.nodes[node].disk.live.get(obstacle).is_some_and(|(_, inode)| is_special(inode)) {
                self.user_does(node, &Op::Remove { path: obstacle.clone() });
            } else {
                // As long a prefix of the path as the obstacle is.
                let depth = obstacle.depth();
                let at = path.ancestors().chain([path.clone()]).find(|at| at.depth() == depth).unwrap_or(path.clone());
                let other = (node + 1) % self.nodes.len();
                let to = users::path(&format!("free{}-{}", self.now, done.len()));
                self.user_does(other, &Op::Rename { from: at, to });
            }
        }
        !done.is_empty()
    }
}
