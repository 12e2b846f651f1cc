//! What people and programs do to their files, on few names so that they collide.
//!
//! Imports the tree. An operation is one atomic change, but for `Write`, which leaves the file open
//! and empty until `Tree::edit` fills it. Deliberately not here: when it happens, and what must not
//! be lost by it (`ledger`).

use super::rhythms;
use super::rng::Rng;
use super::tree::{Body, Data, Ino, Inode, Tree};
use dirsyncd::model::{FileTime, Mode, SyncPath};

/// The one file that nobody touches: a folder that lost everything is another matter (the guards').
pub const ANCHOR: &str = "anchor";
const NAMES: [&str; 14] = ["a", "b", "c", "d", "e", "f", "d/a", "d/b", "d/e", "d/e/a", "d/e/b", "e/a", "e/b", "f/a"];
/// The mode of every symbolic link.
pub const LINK_MODE: Mode = Mode(0o777);
const YEAR_2100: i64 = 4_102_444_800;
const MODES: [Mode; 4] = [Mode(0o644), Mode(0o600), Mode(0o755), Mode(0o640)];

#[derive(Debug, Clone)]
pub enum Op {
    /// Written elsewhere and renamed in; its folders are made. `mtime`: kept from elsewhere, as `cp
    /// -p` and `mv` do.
    Save {
        path: SyncPath,
        data: Data,
        mtime: Option<FileTime>,
    },
    /// Opened, truncated, and written a little later.
    Write {
        path: SyncPath,
        data: Data,
    },
    /// Written over in place, in one go.
    Overwrite {
        path: SyncPath,
        data: Data,
    },
    Append {
        path: SyncPath,
        data: Data,
    },
    /// `rm -rf`.
    Remove {
        path: SyncPath,
    },
    /// `mv -T`: over a file, a link or an empty folder.
    Rename {
        from: SyncPath,
        to: SyncPath,
    },
    /// Both names change places.
    Exchange {
        a: SyncPath,
        b: SyncPath,
    },
    /// `mkdir -p`.
    MakeFolder {
        path: SyncPath,
    },
    Chmod {
        path: SyncPath,
        mode: Mode,
    },
    Touch {
        path: SyncPath,
        mtime: FileTime,
    },
    Copy {
        from: SyncPath,
        to: SyncPath,
        keep_mtime: bool,
    },
    Link {
        path: SyncPath,
        target: Vec<u8>,
    },
    /// A folder with one file takes the place of whatever is there.
    FolderFor {
        path: SyncPath,
        data: Data,
    },
    /// `rm -rf`, and made again at once with something in it.
    Remake {
        path: SyncPath,
        data: Data,
    },
    /// `mknod`, in the place of whatever is there.
    Special {
        path: SyncPath,
        what: &'static str,
    },
}

impl Op {
    /// The file whose contents it changes.
    pub fn edited(&self) -> Option<&SyncPath> {
        match self {
            Self::Save { path, .. } | Self::Overwrite { path, .. } | Self::Append { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Where it is done; of two paths the one that nothing need be at.
    pub fn place(&mut self) -> &mut SyncPath {
        match self {
            Self::Save { path, .. }
            | Self::Write { path, .. }
            | Self::Overwrite { path, .. }
            | Self::Append { path, .. }
            | Self::Remove { path }
            | Self::MakeFolder { path }
            | Self::Chmod { path, .. }
            | Self::Touch { path, .. }
            | Self::Link { path, .. }
            | Self::FolderFor { path, .. }
            | Self::Remake { path, .. }
            | Self::Special { path, .. }
            | Self::Rename { to: path, .. }
            | Self::Exchange { b: path, .. }
            | Self::Copy { to: path, .. } => path,
        }
    }

    /// With the spelling that a folding disk has of names that are there. A rename may give a name
    /// another one.
    fn spelled(&self, tree: &Tree) -> Self {
        match self {
            Self::Rename { from, to } => {
                let from = tree.spelled(from);
                let (known, new) = (tree.spelled(to), tree.spelled_folder(to));
                Self::Rename { to: if known == from { new } else { known }, from }
            }
            Self::Exchange { a, b } => Self::Exchange { a: tree.spelled(a), b: tree.spelled(b) },
            Self::Copy { from, to, keep_mtime } => {
                Self::Copy { from: tree.spelled(from), to: tree.spelled(to), keep_mtime: *keep_mtime }
            }
            op => {
                let mut op = op.clone();
                let place = op.place();
                *place = tree.spelled(place);
                op
            }
        }
    }
}

pub fn path(text: &str) -> SyncPath {
    SyncPath::new(text).expect("the names are good")
}

/// Whether anyone's files are there.
pub fn may_be_chosen(path: &SyncPath) -> bool {
    path.as_bytes() != ANCHOR.as_bytes() && !rhythms::is_work(path)
}

/// Something to do next; `data` is fresh.
pub fn choose(rng: &mut Rng, tree: &Tree, data: Data, now: FileTime) -> Op {
    let any = path(NAMES[rng.index(NAMES.len())]);
    let there: Vec<SyncPath> = tree.listing().into_keys().filter(may_be_chosen).collect();
    let other = if there.is_empty() { any.clone() } else { rng.pick(&there).clone() };
    match rng.below(100) {
        0..22 => Op::Save { path: any, data, mtime: None },
        22..27 => Op::Save { path: any, data, mtime: Some(some_time(rng, now)) },
        27..41 => Op::Write { path: if rng.chance(600) { other } else { any }, data },
        41..48 => Op::Append { path: other, data },
        48..62 => Op::Remove { path: other },
        62..73 => Op::Rename { from: other, to: any },
        73..76 => Op::Exchange { a: other, b: any },
        76..81 => Op::MakeFolder { path: any },
        81..85 => Op::Chmod { path: other, mode: *rng.pick(&MODES) },
        85..88 => Op::Touch { path: other, mtime: some_time(rng, now) },
        88..91 => Op::Copy { from: other, to: any, keep_mtime: rng.chance(500) },
        91..94 => Op::Link { path: any, target: data.text.to_vec() },
        94..97 => Op::FolderFor { path: any, data },
        _ => Op::Remake { path: other, data },
    }
}

/// Mostly near, now and then far off.
fn some_time(rng: &mut Rng, now: FileTime) -> FileTime {
    let near = now.secs - 5 + rng.below(10) as i64;
    let secs = *rng.pick(&[near, near, near, now.secs - 86_400, 0, now.secs + 86_400 * 400, YEAR_2100]);
    FileTime { secs, nanos: rng.below(1_000_000_000) as u32 }
}

/// Does it, as far as it can be done. The inode that stays open for writing, if one does.
pub fn apply(op: &Op, tree: &mut Tree, now: FileTime) -> Option<Ino> {
    match &op.spelled(tree) {
        Op::Save { path, data, mtime } => {
            let mut inode = Inode::new(Body::File(data.clone()), Mode(0o644), now);
            inode.mtime = mtime.unwrap_or(now);
            put(tree, path, inode, now);
        }
        Op::Write { path, .. } => return truncate(tree, path, now),
        Op::Overwrite { path, data } => {
            if let Some(ino) = tree.lookup(path) {
                fill(tree, ino, data.clone(), now);
            }
        }
        Op::Append { path, data } => append(tree, path, data, now),
        Op::Remove { path } => remove(tree, path, now),
        Op::Rename { from, to } => rename(tree, from, to, now),
        Op::Exchange { a, b } => exchange(tree, a, b, now),
        Op::MakeFolder { path } => {
            make_folders(tree, path, now);
        }
        Op::Chmod { path, mode } => {
            if let Some(ino) = tree.lookup(path).filter(|ino| !is_link(tree, *ino)) {
                let inode = tree.edit(ino);
                (inode.mode, inode.ctime) = (*mode, now);
            }
        }
        Op::Touch { path, mtime } => {
            if let Some(ino) = tree.lookup(path) {
                let inode = tree.edit(ino);
                (inode.mtime, inode.ctime) = (*mtime, now);
            }
        }
        Op::Copy { from, to, keep_mtime } => copy(tree, from, to, *keep_mtime, now),
        Op::Link { path, target } => put(tree, path, Inode::new(Body::Symlink(target.clone()), LINK_MODE, now), now),
        Op::Special { path, what } => put(tree, path, Inode::new(Body::Special(what), Mode(0o644), now), now),
        Op::FolderFor { path, data } | Op::Remake { path, data } => {
            remove(tree, path, now);
            let inside = SyncPath::join(Some(path), b"a").expect("the name is good");
            put(tree, &inside, Inode::new(Body::File(data.clone()), Mode(0o644), now), now);
        }
    }
    None
}

fn is_link(tree: &Tree, ino: Ino) -> bool {
    matches!(tree.inodes[&ino].body, Body::Symlink(_))
}

/// Whether the folder is there afterwards.
fn make_folders(tree: &mut Tree, path: &SyncPath, now: FileTime) -> bool {
    let mut all: Vec<SyncPath> = path.ancestors().collect();
    all.reverse();
    all.push(path.clone());
    for dir in all {
        if tree.lookup(&dir).is_none() {
            let ino = tree.add(Inode::new(Body::Directory([].into()), Mode::DIRECTORY, now));
            tree.link(&dir, ino, now);
        } else if tree.folder(Some(&dir)).is_none() {
            return false;
        }
    }
    true
}

/// Renames a new inode over whatever is at the path, unless that is a folder.
fn put(tree: &mut Tree, path: &SyncPath, inode: Inode, now: FileTime) {
    if path.parent().is_some_and(|dir| !make_folders(tree, &dir, now)) || tree.folder(Some(path)).is_some() {
        return;
    }
    remove(tree, path, now);
    let ino = tree.add(inode);
    tree.link(path, ino, now);
}

fn truncate(tree: &mut Tree, path: &SyncPath, now: FileTime) -> Option<Ino> {
    if tree.lookup(path).is_none() {
        put(tree, path, Inode::new(Body::File(Data::default()), Mode(0o644), now), now);
    }
    let ino = tree.lookup(path)?;
    fill(tree, ino, Data::default(), now).then_some(ino)
}

/// Writes into an open file; whether it is still there.
pub fn fill(tree: &mut Tree, ino: Ino, data: Data, now: FileTime) -> bool {
    let Some(Body::File(_)) = tree.inodes.get(&ino).map(|inode| &inode.body) else { return false };
    let inode = tree.edit(ino);
    (inode.body, inode.mtime, inode.ctime) = (Body::File(data), now, now);
    true
}

fn append(tree: &mut Tree, path: &SyncPath, data: &Data, now: FileTime) {
    let Some((ino, inode)) = tree.get(path) else { return };
    let Body::File(old) = &inode.body else { return };
    let text = [&old.text[..], &data.text[..]].concat();
    let padding = old.padding;
    fill(tree, ino, Data { text: text.into(), padding }, now);
}

fn remove(tree: &mut Tree, path: &SyncPath, now: FileTime) {
    if let Some(ino) = tree.unlink(path, now) {
        tree.drop_inode(ino);
    }
}

fn rename(tree: &mut Tree, from: &SyncPath, to: &SyncPath, now: FileTime) {
    let Some(ino) = tree.lookup(from) else { return };
    let moves_folder = tree.children(ino).is_some();
    if from == to || to.is_below(from) || tree.folder(to.parent().as_ref()).is_none() {
        return;
    }
    if let Some(target) = tree.lookup(to) {
        let fits = if moves_folder { tree.is_empty_folder(target) } else { tree.children(target).is_none() };
        if !fits {
            return;
        }
        remove(tree, to, now);
    }
    tree.unlink(from, now);
    tree.link(to, ino, now);
}

fn exchange(tree: &mut Tree, a: &SyncPath, b: &SyncPath, now: FileTime) {
    if a == b || a.is_below(b) || b.is_below(a) || tree.lookup(a).is_none() || tree.lookup(b).is_none() {
        return;
    }
    let (at_a, at_b) = (tree.unlink(a, now), tree.unlink(b, now));
    for (path, ino) in [(a, at_b), (b, at_a)] {
        tree.link(path, ino.expect("it was there"), now);
    }
}

fn copy(tree: &mut Tree, from: &SyncPath, to: &SyncPath, keep_mtime: bool, now: FileTime) {
    let Some((_, inode)) = tree.get(from) else { return };
    if from == to || inode.is_directory() {
        return;
    }
    let mtime = if keep_mtime { inode.mtime } else { now };
    let copied = Inode { mtime, ctime: now, ..Inode::clone(inode) };
    put(tree, to, copied, now);
}
