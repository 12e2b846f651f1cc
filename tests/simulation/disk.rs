//! One machine's disk: the tree that everyone sees, and what of it a power cut would leave.
//!
//! Modelled on a journalling file system: the metadata that survives is a prefix of what was done,
//! at least as long as the last sync asks; the bytes of a file survive for sure only if that file
//! was synced after them. Deliberately not here: hints (`watcher`), installs (`shell`).

use super::rng::Rng;
use super::torn::torn;
use super::tree::{Body, Data, Ino, Inode, Listing, ROOT, Tree};
use dirsyncd::model::{FileTime, Mode, SyncPath};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a disk without permission bits says of everything.
pub const NO_MODE: Mode = Mode(0o777);

pub struct Disk {
    pub keeps_modes: bool,
    pub live: Tree,
    /// What a power cut leaves at least, as far as names and attributes go.
    durable: Tree,
    /// Every state after `durable`, oldest first; the last is `live`.
    journal: Vec<Tree>,
    /// The bytes that reached the platter, by inode.
    platter: BTreeMap<Ino, Data>,
    /// What changed since it was asked last.
    changed: Vec<PathChange>,
}

/// One path before and after a change.
#[derive(Debug, Clone)]
pub struct PathChange {
    pub path: SyncPath,
    pub before: Option<(Ino, Arc<Inode>)>,
    pub after: Option<(Ino, Arc<Inode>)>,
}

impl Disk {
    pub fn new() -> Self {
        let tree = Tree::new();
        Self {
            keeps_modes: true,
            live: tree.clone(),
            durable: tree,
            journal: Vec::new(),
            platter: BTreeMap::new(),
            changed: Vec::new(),
        }
    }

    /// Names that differ in case alone are one from now on.
    pub fn fold(&mut self) {
        (self.live.folds, self.durable.folds) = (true, true);
    }

    /// Changes the live tree; volatile until a sync.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut Tree) -> R) -> (R, Vec<PathChange>) {
        let before = self.live.listing();
        let result = change(&mut self.live);
        if !self.keeps_modes {
            forget_modes(&mut self.live);
        }
        self.journal.push(self.live.clone());
        let changes = differences(&before, &self.live.listing());
        self.changed.extend(changes.iter().cloned());
        (result, changes)
    }

    /// What changed since the last call.
    pub fn take_changed(&mut self) -> Vec<PathChange> {
        std::mem::take(&mut self.changed)
    }

    /// The last change was made in two steps, and this was between them.
    pub fn went_by(&mut self, mut between: Tree) {
        if !self.keeps_modes {
            forget_modes(&mut between);
        }
        let last = self.journal.pop();
        self.journal.extend([between].into_iter().chain(last));
    }

    /// Makes a path durable: its bytes, its name and its folders' names; its absence where it is
    /// absent.
    pub fn sync(&mut self, path: &SyncPath) {
        let mut inos = vec![ROOT];
        let mut dir = ROOT;
        for name in path.components() {
            let Some(&child) = self.live.children(dir).and_then(|children| children.get(name)) else { break };
            inos.push(child);
            dir = child;
        }
        self.sync_inodes(&inos);
    }

    /// Makes a path's names durable, its bytes not.
    pub fn sync_names(&mut self, path: &SyncPath) {
        let platter = self.platter.clone();
        self.sync(path);
        self.platter = platter;
    }

    /// Brings a file's bytes to the platter, its name not.
    pub fn flush(&mut self, ino: Ino) {
        if let Some(Body::File(data)) = self.live.inodes.get(&ino).map(|inode| &inode.body) {
            self.platter.insert(ino, data.clone());
        }
    }

    /// The bytes of a file change, here and on the platter, and nothing else does.
    pub fn rot(&mut self, ino: Ino, data: &Data) {
        for tree in std::iter::once(&mut self.live).chain([&mut self.durable]).chain(&mut self.journal) {
            if tree.inodes.contains_key(&ino) {
                tree.edit(ino).body = Body::File(data.clone());
            }
        }
        self.platter.insert(ino, data.clone());
    }

    /// `syncfs`.
    pub fn sync_all(&mut self) {
        let inos: Vec<Ino> = self.live.inodes.keys().copied().collect();
        self.sync_inodes(&inos);
        self.durable = self.live.clone();
        self.journal.clear();
        self.platter.retain(|ino, _| self.live.inodes.contains_key(ino));
    }

    fn sync_inodes(&mut self, inos: &[Ino]) {
        for ino in inos {
            self.flush(*ino);
        }
        let mut before = &self.durable;
        let mut reach = 0;
        for (at, after) in self.journal.iter().enumerate() {
            if inos.iter().any(|ino| touched(*ino, before, after)) {
                reach = at + 1;
            }
            before = after;
        }
        if let Some(last) = self.journal.drain(..reach).next_back() {
            self.durable = last;
        }
    }

    /// The values that no power cut can take.
    pub fn surely_durable(&self) -> Tree {
        let mut tree = self.durable.clone();
        tree.inodes.retain(|ino, inode| match &inode.body {
            Body::File(data) => self.platter.get(ino) == Some(data),
            _ => true,
        });
        tree
    }

    /// Cuts the power: some prefix of the journal survives, and of unsynced bytes all, a part, or
    /// what was there before. Older bytes than `written_back` had reached the platter by
    /// themselves.
    pub fn cut_power(&mut self, rng: &mut Rng, written_back: FileTime) -> Vec<PathChange> {
        let before = self.live.listing();
        let next_ino = self.live.next_ino;
        let reach = rng.index(self.journal.len() + 1);
        let mut tree = if reach == 0 { self.durable.clone() } else { self.journal[reach - 1].clone() };
        let inos: Vec<Ino> = tree.inodes.keys().copied().collect();
        for ino in inos {
            let inode = &tree.inodes[&ino];
            let Body::File(data) = &inode.body else { continue };
            if inode.ctime >= written_back && self.platter.get(&ino) != Some(data) {
                let left = torn(rng, data, self.platter.get(&ino));
                tree.edit(ino).body = Body::File(left);
            }
        }
        tree.next_ino = next_ino;
        self.live = tree;
        self.sync_all();
        differences(&before, &self.live.listing())
    }

    /// Puts another tree in place, as restoring a backup does.
    pub fn replace(&mut self, mut tree: Tree) -> Vec<PathChange> {
        let before = self.live.listing();
        tree.next_ino = self.live.next_ino;
        self.live = tree;
        self.sync_all();
        differences(&before, &self.live.listing())
    }
}

fn forget_modes(tree: &mut Tree) {
    let is_kept = |inode: &Inode| inode.mode != NO_MODE && !matches!(inode.body, Body::Symlink(_));
    let kept: Vec<Ino> = tree.inodes.iter().filter(|(_, inode)| is_kept(inode)).map(|(ino, _)| *ino).collect();
    for ino in kept {
        tree.edit(ino).mode = NO_MODE;
    }
}

fn touched(ino: Ino, before: &Tree, after: &Tree) -> bool {
    match (before.inodes.get(&ino), after.inodes.get(&ino)) {
        (Some(a), Some(b)) => !Arc::ptr_eq(a, b) && a != b,
        (None, None) => false,
        _ => true,
    }
}

fn differences(before: &Listing, after: &Listing) -> Vec<PathChange> {
    let gone = before.keys().filter(|path| !after.contains_key(*path));
    let mut paths: Vec<&SyncPath> = gone.chain(after.keys()).collect();
    paths.sort_unstable();
    let changes = paths.into_iter().map(|path| PathChange {
        path: path.clone(),
        before: before.get(path).cloned(),
        after: after.get(path).cloned(),
    });
    changes.filter(|change| change.before != change.after).collect()
}
