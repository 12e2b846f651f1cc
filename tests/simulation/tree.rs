//! A file system's tree in memory: inodes, names, times; also the history folder beside the synced
//! one.
//!
//! Cloning is cheap, so that a disk can keep every state since the last one that is durable.
//! Deliberately not here: durability (`disk`), who changed what (`ledger`).

use bytes::Bytes;
use dirsyncd::engine::{Stat, StatKind};
use dirsyncd::model::{ContentId, FileTime, Mode, SyncPath};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub type Ino = u64;
pub const ROOT: Ino = 1;

/// A file's bytes; `padding` zeros that are counted but not kept, so that large files cost nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Data {
    pub text: Bytes,
    pub padding: u64,
}

impl Data {
    pub fn small(text: impl Into<Bytes>) -> Self {
        Self { text: text.into(), padding: 0 }
    }

    pub fn size(&self) -> u64 {
        self.text.len() as u64 + self.padding
    }

    /// Of the bytes; for a padded file of a likeness of them.
    pub fn content(&self) -> ContentId {
        match self.padding {
            0 => ContentId::of(&self.text),
            padding => ContentId::of(&[&self.text[..], &padding.to_be_bytes()].concat()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    File(Data),
    Directory(BTreeMap<Vec<u8>, Ino>),
    Symlink(Vec<u8>),
    /// A socket, fifo or device.
    Special(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    pub body: Body,
    pub mode: Mode,
    pub mtime: FileTime,
    pub ctime: FileTime,
}

/// What must never be lost: a file's bytes or a link's target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    File(Data),
    Link(Vec<u8>),
}

impl Value {
    pub fn content(&self) -> Option<ContentId> {
        match self {
            Self::File(data) => Some(data.content()),
            Self::Link(_) => None,
        }
    }
}

impl Inode {
    pub fn new(body: Body, mode: Mode, now: FileTime) -> Self {
        Self { body, mode, mtime: now, ctime: now }
    }

    /// `None` for folders, and for files that hold nothing.
    pub fn value(&self) -> Option<Value> {
        match &self.body {
            Body::File(data) if data.size() > 0 => Some(Value::File(data.clone())),
            Body::Symlink(target) => Some(Value::Link(target.clone())),
            _ => None,
        }
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    pub fn stat(&self, ino: Ino) -> Stat {
        let (kind, size) = match &self.body {
            Body::File(data) => (StatKind::File, data.size()),
            Body::Directory(_) => (StatKind::Directory, 4096),
            Body::Symlink(target) => (StatKind::Symlink, target.len() as u64),
            Body::Special(_) => (StatKind::Other, 0),
        };
        Stat { kind, size, mtime: self.mtime, ctime: self.ctime, ino, mode: self.mode }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone)]
pub struct Tree {
    pub inodes: BTreeMap<Ino, Arc<Inode>>,
    pub history: BTreeMap<String, Ino>,
    pub next_ino: Ino,
    /// Names that differ in case alone are one.
    pub folds: bool,
}

pub type Listing = BTreeMap<SyncPath, (Ino, Arc<Inode>)>;

impl Tree {
    pub fn new() -> Self {
        let root = Inode::new(Body::Directory(BTreeMap::new()), Mode::DIRECTORY, FileTime::default());
        let inodes = BTreeMap::from([(ROOT, Arc::new(root))]);
        Self { inodes, history: BTreeMap::new(), next_ino: 100, folds: false }
    }

    /// The path by which the disk knows it: where names fold, those that are there keep their
    /// spelling.
    pub fn spelled(&self, path: &SyncPath) -> SyncPath {
        if !self.folds {
            return path.clone();
        }
        let (mut at, mut dir) = (None, Some(ROOT));
        for name in path.components() {
            let children = dir.and_then(|dir| self.children(dir));
            let exact = children.and_then(|children| children.get_key_value(name));
            let folded = || children?.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            let there = exact.or_else(folded);
            let name = there.map_or(name, |(name, _)| name);
            at = Some(SyncPath::join(at.as_ref(), name).expect("users and engines use good names"));
            dir = there.map(|(_, ino)| *ino);
        }
        at.unwrap_or_else(|| path.clone())
    }

    /// The same of its folder alone.
    pub fn spelled_folder(&self, path: &SyncPath) -> SyncPath {
        let Some(dir) = path.parent() else { return path.clone() };
        SyncPath::join(Some(&self.spelled(&dir)), path.name()).expect("users and engines use good names")
    }

    pub fn lookup(&self, path: &SyncPath) -> Option<Ino> {
        path.components().try_fold(ROOT, |dir, name| self.children(dir)?.get(name).copied())
    }

    /// The folder's inode, where `None` is the root.
    pub fn folder(&self, dir: Option<&SyncPath>) -> Option<Ino> {
        let ino = dir.map_or(Some(ROOT), |dir| self.lookup(dir))?;
        self.children(ino).map(|_| ino)
    }

    pub fn children(&self, ino: Ino) -> Option<&BTreeMap<Vec<u8>, Ino>> {
        match &self.inodes.get(&ino)?.body {
            Body::Directory(children) => Some(children),
            _ => None,
        }
    }

    pub fn get(&self, path: &SyncPath) -> Option<(Ino, &Arc<Inode>)> {
        let ino = self.lookup(path)?;
        Some((ino, &self.inodes[&ino]))
    }

    pub fn stat(&self, path: &SyncPath) -> Option<Stat> {
        self.get(path).map(|(ino, inode)| inode.stat(ino))
    }

    pub fn listing(&self) -> Listing {
        let mut all = Listing::new();
        self.list_into(None, ROOT, &mut all);
        all
    }

    fn list_into(&self, dir: Option<&SyncPath>, ino: Ino, all: &mut Listing) {
        for (name, &child) in self.children(ino).into_iter().flatten() {
            let path = SyncPath::join(dir, name).expect("users and engines use good names");
            all.insert(path.clone(), (child, self.inodes[&child].clone()));
            self.list_into(Some(&path), child, all);
        }
    }

    /// The values in the folder and in history.
    pub fn values(&self) -> BTreeSet<Value> {
        self.inodes.values().filter_map(|inode| inode.value()).collect()
    }

    /// The values in the folder.
    pub fn shown(&self) -> BTreeSet<Value> {
        self.listing().values().filter_map(|(_, inode)| inode.value()).collect()
    }

    /// The values in history.
    pub fn kept(&self) -> impl Iterator<Item = Value> {
        self.history.values().filter_map(|ino| self.inodes[ino].value())
    }

    pub fn add(&mut self, inode: Inode) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.inodes.insert(ino, Arc::new(inode));
        ino
    }

    pub fn edit(&mut self, ino: Ino) -> &mut Inode {
        Arc::make_mut(self.inodes.get_mut(&ino).expect("the inode exists"))
    }

    /// Puts an inode at a free name; its folder must be there. Renaming in changes the ctime.
    pub fn link(&mut self, path: &SyncPath, ino: Ino, now: FileTime) {
        let dir = self.folder(path.parent().as_ref()).expect("its folder was looked for");
        self.edit(ino).ctime = now;
        self.set_name(dir, path.name(), Some(ino), now);
    }

    /// Takes the inode from its name; it stays until it is dropped or linked again.
    pub fn unlink(&mut self, path: &SyncPath, now: FileTime) -> Option<Ino> {
        let ino = self.lookup(path)?;
        let dir = self.folder(path.parent().as_ref())?;
        self.set_name(dir, path.name(), None, now);
        Some(ino)
    }

    fn set_name(&mut self, dir: Ino, name: &[u8], ino: Option<Ino>, now: FileTime) {
        let folder = self.edit(dir);
        (folder.mtime, folder.ctime) = (now, now);
        if let Body::Directory(children) = &mut folder.body {
            match ino {
                Some(ino) => children.insert(name.to_vec(), ino),
                None => children.remove(name),
            };
        }
    }

    /// Forgets an inode and all below it.
    pub fn drop_inode(&mut self, ino: Ino) {
        let children: Vec<Ino> = self.children(ino).into_iter().flatten().map(|(_, &child)| child).collect();
        for child in children {
            self.drop_inode(child);
        }
        self.inodes.remove(&ino);
    }

    pub fn is_empty_folder(&self, ino: Ino) -> bool {
        self.children(ino).is_some_and(BTreeMap::is_empty)
    }
}
