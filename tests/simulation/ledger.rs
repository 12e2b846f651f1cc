//! What users wrote, overwrote and deleted, so that the oracles can say what must still exist and
//! what must not.
//!
//! Filled from the differences that each operation made; never asks an engine.

use super::disk::PathChange;
use super::merging::Texts;
use super::torn::Torn;
use super::tree::{Listing, Value};
use dirsyncd::engine::api::index::Row;
use dirsyncd::model::{Kind, SyncPath};
use std::collections::{BTreeMap, BTreeSet};

pub type NodeId = usize;

/// A user of `node` took `value` from `path`, having it before their eyes.
#[derive(Debug)]
pub struct Overwrite {
    pub node: NodeId,
    pub path: SyncPath,
    pub value: Value,
    /// How often a user had put the value there by then.
    placed: u32,
    /// The node's committed index moved on from the value: the change was seen.
    pub noticed: bool,
}

#[derive(Default)]
pub struct Ledger {
    /// Every value, and where it was first written.
    pub written: BTreeMap<Value, (NodeId, SyncPath)>,
    /// What each node's committed index says to be on its disk.
    on_disk: BTreeMap<(NodeId, SyncPath), Option<Kind>>,
    /// Overwritten or deleted knowingly, or lost in a power cut before it was durable.
    pub excused: BTreeSet<Value>,
    /// How often a user put the value there.
    placed: BTreeMap<(SyncPath, Value), u32>,
    /// Whose users changed the attributes of a value in its place: such a change beats a concurrent
    /// deletion.
    affirmed: BTreeMap<(SyncPath, Value), BTreeSet<NodeId>>,
    pub overwrites: Vec<Overwrite>,
    /// On a disk after a crash, and not known to the index: whoever overwrites it before it is
    /// committed is not known either.
    unknown: BTreeSet<(NodeId, SyncPath, Value)>,
    /// What rotted, and where.
    rotten: BTreeMap<Value, BTreeSet<NodeId>>,
    /// Of that, what a user moved, copied or touched, or said to be right: theirs by that.
    adopted: BTreeSet<Value>,
    /// Versions that a node may mint at a path: one for each touch of its user.
    touches: BTreeMap<(NodeId, SyncPath), u32>,
    pub texts: Texts,
    pub torn: Torn,
    /// What users did where it was covered: no reason for a version until it is not.
    hidden: BTreeSet<(NodeId, SyncPath)>,
}

impl Ledger {
    /// A user's operation. `is_covered`: what nobody hears of.
    pub fn user_did(&mut self, node: NodeId, changes: &[PathChange], is_covered: impl Fn(&SyncPath) -> bool) {
        let had: BTreeMap<_, _> =
            changes.iter().map(|change| (change.path.clone(), self.touches_of(node, change))).collect();
        self.touched(node, changes);
        let placed: BTreeSet<Value> = changes.iter().filter_map(value_after).collect();
        for change in changes {
            let (before, after) = (value_before(change), value_after(change));
            let is_hidden = is_covered(&change.path);
            if is_hidden {
                self.hidden.insert((node, change.path.clone()));
                self.touches.insert((node, change.path.clone()), had[&change.path]);
            }
            if before == after {
                if let Some(value) = after {
                    self.affirmed.entry((change.path.clone(), value)).or_default().insert(node);
                }
                continue;
            }
            if let Some(value) = before {
                if !placed.contains(&value) {
                    self.excused.insert(value.clone());
                }
                let at = (change.path.clone(), value.clone());
                let placed = self.placed.get(&at).copied().unwrap_or_default();
                if !is_hidden && !self.unknown.contains(&(node, change.path.clone(), value.clone())) {
                    self.overwrites.push(Overwrite { node, path: at.0, value, placed, noticed: false });
                }
            }
            if let Some(value) = after {
                self.written.entry(value.clone()).or_insert_with(|| (node, change.path.clone()));
                *self.placed.entry((change.path.clone(), value)).or_default() += 1;
            }
        }
    }

    fn touches_of(&self, node: NodeId, change: &PathChange) -> u32 {
        self.touches.get(&(node, change.path.clone())).copied().unwrap_or_default()
    }

    /// Other patterns are in force: what was done to what they do not cover may be told.
    pub fn unignored(&mut self, node: NodeId, is_unignored: impl Fn(&SyncPath) -> bool) {
        let (told, hidden) = std::mem::take(&mut self.hidden)
            .into_iter()
            .partition(|(other, path)| *other == node && is_unignored(path));
        self.hidden = hidden;
        let told: BTreeSet<(NodeId, SyncPath)> = told;
        for at in told {
            *self.touches.entry(at).or_default() += 1;
        }
    }

    /// A value that went into an open file, maybe one whose name is gone by now, over another.
    pub fn wrote(&mut self, node: NodeId, path: &SyncPath, value: Value, over: Option<Value>) {
        self.excused.extend(over.filter(|over| *over != value));
        self.written.entry(value).or_insert_with(|| (node, path.clone()));
    }

    /// A power cut left these: what an edit left behind counts as one.
    pub fn interrupted(&mut self, node: NodeId, changes: &[PathChange]) {
        self.touched(node, changes);
        for change in changes {
            if let Some(value) = value_after(change) {
                self.affirmed.entry((change.path.clone(), value)).or_default().insert(node);
            }
        }
    }

    /// These paths changed in a way that the engine may take for a user's doing.
    pub fn touched(&mut self, node: NodeId, changes: &[PathChange]) {
        for change in changes {
            *self.touches.entry((node, change.path.clone())).or_default() += 1;
            self.texts.changed(change);
            self.torn.remove(&(node, change.path.clone()));
            self.adopted.extend(value_after(change).filter(|value| self.rotten.contains_key(value)));
        }
    }

    /// An install moved what a user had made there, and what it was that a user had done, where no
    /// version was minted for that: to the path that `moved` says.
    pub fn moved_along(
        &mut self,
        node: NodeId,
        made: &BTreeSet<SyncPath>,
        moved: impl Fn(&SyncPath) -> Option<SyncPath>,
    ) {
        let of_node = self.touches.iter_mut().filter(|((other, _), touches)| *other == node && **touches > 0);
        let untold = of_node.filter_map(|((_, path), touches)| Some((moved(path)?, std::mem::take(touches))));
        for (path, touches) in untold.collect::<Vec<_>>() {
            *self.touches.entry((node, path)).or_default() += touches;
        }
        for path in made {
            *self.touches.entry((node, path.clone())).or_default() += 1;
        }
    }

    /// The node's disk turned one value into another.
    pub fn rotted(&mut self, node: NodeId, path: &SyncPath, from: Value, into: Value) {
        if let (Value::File(from), Value::File(into)) = (&from, &into) {
            self.texts.replaced(path, from, into);
        }
        self.excused.insert(from);
        self.written.entry(into.clone()).or_insert_with(|| (node, path.clone()));
        self.rotten.entry(into).or_default().insert(node);
    }

    /// A user of the node says that what is suspect at a path is right.
    pub fn kept(&mut self, node: NodeId, path: &SyncPath, value: Option<Value>) {
        *self.touches.entry((node, path.clone())).or_default() += 1;
        self.adopted.extend(value);
    }

    /// The node's user takes back deletions: what is there again is no ghost, and is made anew.
    pub fn undone<'a>(&mut self, node: NodeId, paths: impl Iterator<Item = &'a SyncPath>) {
        for path in paths {
            *self.touches.entry((node, path.clone())).or_default() += 2;
            self.overwrites.retain(|overwrite| overwrite.path != *path);
        }
    }

    /// Whether what comes to a node's folder rotted elsewhere.
    pub fn is_foreign_rot(&self, node: NodeId, value: &Value) -> bool {
        self.rotten.get(value).is_some_and(|nodes| !nodes.contains(&node)) && !self.adopted.contains(value)
    }

    /// Whether the node's user did something there that no version was minted for. `settled`:
    /// nothing is left to mint.
    pub fn may_mint(&mut self, node: NodeId, path: &SyncPath, settled: bool) -> bool {
        let Some(left) = self.touches.get_mut(&(node, path.clone())) else { return false };
        let had = *left;
        *left = if settled { 0 } else { had.saturating_sub(1) };
        had > 0
    }

    /// The node crashed, and these are on its disk without its index knowing it.
    pub fn left_unknown(&mut self, node: NodeId, values: impl Iterator<Item = (SyncPath, Value)>) {
        self.unknown.retain(|(other, _, _)| *other != node);
        self.unknown.extend(values.map(|(path, value)| (node, path, value)));
    }

    /// The node committed this row.
    pub fn committed(&mut self, node: NodeId, path: &SyncPath, row: Option<&Row>) {
        self.unknown.retain(|(other, at, value)| *other != node || at != path || !claims(row, value));
        let on_disk = row.and_then(Row::live_on_disk).map(|(entry, _)| entry.kind.clone());
        let looked = self.on_disk.insert((node, path.clone()), on_disk.clone()) != Some(on_disk);
        for overwrite in &mut self.overwrites {
            // What was heard of the path meanwhile says nothing of what is on disk there.
            if looked && overwrite.node == node && overwrite.path == *path && !claims(row, &overwrite.value) {
                overwrite.noticed = true;
            }
        }
    }

    /// The node crashed (or its user acts while it is down). An overwriting that nobody noticed, of
    /// something that its index does not know to be here or that a power cut brought back, is void:
    /// no engine can know of it.
    pub fn crashed<'a>(
        &mut self,
        node: NodeId,
        row: impl Fn(&SyncPath) -> Option<&'a Row>,
        is_back: impl Fn(&SyncPath, &Value) -> bool,
    ) {
        self.overwrites.retain(|overwrite| {
            overwrite.node != node
                || overwrite.noticed
                || (claims(row(&overwrite.path), &overwrite.value) && !is_back(&overwrite.path, &overwrite.value))
        });
    }

    /// The node's folder came back from a backup: what its user did unnoticed before that is void.
    pub fn restored(&mut self, node: NodeId, changes: &[PathChange]) {
        self.touched(node, changes);
        self.on_disk.retain(|(other, _), _| *other != node);
        self.overwrites.retain(|overwrite| overwrite.node != node || overwrite.noticed);
    }

    /// The node's index is gone: what it finds counts as put there by its user, and what it did
    /// away with may be forgotten.
    pub fn found_anew(&mut self, node: NodeId, listing: &Listing) {
        for (path, (_, inode)) in listing {
            if let Some(value) = inode.value() {
                if self.rotten.contains_key(&value) {
                    self.adopted.insert(value.clone());
                }
                // Beside whoever put it there first, be it an engine, as a conflict copy.
                *self.placed.entry((path.clone(), value)).or_insert(1) += 1;
            }
        }
        self.torn.retain(|(other, _), _| *other != node);
        self.rolled_back(node, listing.keys());
    }

    /// The node's index does not know of its user's latest doings, and may not have told them.
    pub fn rolled_back<'a>(&mut self, node: NodeId, paths: impl Iterator<Item = &'a SyncPath>) {
        for path in paths {
            *self.touches.entry((node, path.clone())).or_default() += 1;
        }
        self.overwrites.retain(|overwrite| overwrite.node != node);
    }

    /// Values that were overwritten knowingly at a path, never put there again, nor touched by
    /// another machine's user.
    pub fn dead(&self) -> impl Iterator<Item = &Overwrite> {
        self.overwrites.iter().filter(|overwrite| {
            let at = (overwrite.path.clone(), overwrite.value.clone());
            // An engine may have put it there first, as the copy of a displaced file.
            let times = self.placed.get(&at).copied().unwrap_or_default();
            let for_good = times <= 1 && times == overwrite.placed;
            for_good && self.affirmed.get(&at).is_none_or(|nodes| nodes.iter().all(|node| *node == overwrite.node))
        })
    }

    pub fn may_be_lost(&self, value: &Value) -> bool {
        self.excused.contains(value)
    }
}

fn value_before(change: &PathChange) -> Option<Value> {
    change.before.as_ref().and_then(|(_, inode)| inode.value())
}

fn value_after(change: &PathChange) -> Option<Value> {
    change.after.as_ref().and_then(|(_, inode)| inode.value())
}

/// Whether a row says that the value is on disk.
pub fn claims(row: Option<&Row>, value: &Value) -> bool {
    let Some((entry, _)) = row.and_then(Row::live_on_disk) else { return false };
    match (&entry.kind, value) {
        (Kind::File { content, .. }, Value::File(data)) => *content == data.content(),
        (Kind::Symlink { target }, Value::Link(value)) => target == value,
        _ => false,
    }
}
