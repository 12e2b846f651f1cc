//! What a folder holds, and whether several hold the same.
//!
//! Compared are kinds, bytes, permission bits, link targets, and the mtimes of files. Deliberately
//! not compared: `.dirsync`, mtimes of folders and links, owners; fifos, sockets and devices are
//! not part of a tree.

use super::{Machine, PATIENCE, eventually};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What one path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Folder { mode: u32 },
    Link { target: Vec<u8> },
    File { hash: blake3::Hash, size: u64, mode: u32, mtime: (i64, i64) },
}

impl Node {
    fn describe(&self) -> String {
        match self {
            Self::Folder { mode } => format!("folder {mode:o}"),
            Self::Link { target } => format!("link to {}", target.escape_ascii()),
            Self::File { hash, size, mode, mtime: (secs, nanos) } => {
                format!("file {mode:o} {size} bytes {} mtime {secs}.{nanos:09}", &hash.to_hex()[..8])
            }
        }
    }
}

/// A whole folder, by path below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(pub BTreeMap<Vec<u8>, Node>);

impl Tree {
    /// Fails when something vanishes while it is read: look again then.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_below(root, b"")?;
        Ok(tree)
    }

    pub fn paths(&self) -> Vec<String> {
        self.0.keys().map(|path| path.escape_ascii().to_string()).collect()
    }

    pub fn has(&self, path: impl AsRef<[u8]>) -> bool {
        self.0.contains_key(path.as_ref())
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.0.values().filter(|node| matches!(node, Node::File { .. })).count()
    }

    /// Paths that hold this content.
    pub fn holding(&self, bytes: &[u8]) -> Vec<String> {
        let wanted = blake3::hash(bytes);
        let holds = |node: &Node| matches!(node, Node::File { hash, .. } if *hash == wanted);
        self.0.iter().filter(|(_, node)| holds(node)).map(|(path, _)| path.escape_ascii().to_string()).collect()
    }

    /// One line a path that differs, at most 20.
    pub fn diff(&self, other: &Self) -> String {
        let mut out = String::new();
        let mut differing = 0;
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        for path in paths {
            let (here, there) = (self.0.get(path), other.0.get(path));
            if here == there {
                continue;
            }
            differing += 1;
            if differing <= 20 {
                let show = |node: Option<&Node>| node.map_or("absent".to_owned(), Node::describe);
                let _ = writeln!(out, "  {}: {} | {}", path.escape_ascii(), show(here), show(there));
            }
        }
        format!("{differing} paths differ\n{out}")
    }

    fn read_below(&mut self, dir: &Path, prefix: &[u8]) -> io::Result<()> {
        for child in fs::read_dir(dir)? {
            let child = child?;
            let name = child.file_name();
            if prefix.is_empty() && name == ".dirsync" {
                continue;
            }
            let path = [prefix, name.as_bytes()].concat();
            let meta = child.metadata()?;
            let mode = meta.mode() & 0o777;
            let node = if meta.is_dir() {
                self.read_below(&child.path(), &[&path, &b"/"[..]].concat())?;
                Node::Folder { mode }
            } else if meta.is_symlink() {
                Node::Link { target: fs::read_link(child.path())?.as_os_str().as_bytes().to_vec() }
            } else if meta.is_file() {
                let bytes = fs::read(child.path())?;
                let mtime = (meta.mtime(), meta.mtime_nsec());
                Node::File { hash: blake3::hash(&bytes), size: bytes.len() as u64, mode, mtime }
            } else {
                continue;
            };
            self.0.insert(path, node);
        }
        Ok(())
    }
}

/// Waits until all these machines' folders hold the same, and returns what.
pub fn wait_equal(machines: &[&Machine], within: Duration) -> Tree {
    let names: Vec<_> = machines.iter().map(|m| m.name.as_str()).collect();
    eventually(&format!("the folders of {names:?} are equal"), within, || {
        let (first, others) = machines.split_first().expect("at least one machine");
        let tree = first.tree()?;
        for other in others {
            let theirs = other.tree()?;
            if theirs != tree {
                return Err(format!("{} | {}: {}", first.name, other.name, tree.diff(&theirs)));
            }
        }
        Ok(tree)
    })
}

/// Waits until they are equal, and every daemon says that it and its peers agree and are idle; they
/// are equal then too.
pub fn converge(machines: &[&Machine]) -> Tree {
    wait_equal(machines, PATIENCE);
    for machine in machines {
        machine.wait_idle();
    }
    wait_equal(machines, PATIENCE)
}
