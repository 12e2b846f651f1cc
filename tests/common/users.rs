//! Users whose every write is accounted for: each value is unique, and is swapped in so that the
//! user knows what it replaced. After the work, nothing that was written may be missing (P2), nor
//! anything torn (P1) or back from the dead.
//!
//! Deliberately not here: writes in place; what those overwrite nobody can know.

use super::disk::{exchange, place};
use super::tree::Node;
use super::{Dice, Machine, Tree, noise};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// One user at one machine.
pub struct User {
    name: String,
    folder: PathBuf,
    scratch: PathBuf,
    dice: Dice,
    count: u64,
    pub ledger: Ledger,
}

/// Contents by hash: what was written, and what users saw when they did away with it.
#[derive(Default)]
pub struct Ledger {
    written: BTreeMap<[u8; 32], String>,
    replaced: BTreeSet<[u8; 32]>,
    deleted: BTreeSet<[u8; 32]>,
}

/// Whether a deletion may be undone by the daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Deletions {
    Final,
    /// A kill may fall between an install and its commit. If the user then deletes the file before
    /// the next start, no index can tell that from an install that never happened: the value is
    /// installed again, which loses nothing.
    MayReturn,
}

impl User {
    pub fn new(machine: &Machine, seed: u64) -> Self {
        let scratch = machine.home.join("scratch");
        fs::create_dir_all(&scratch).expect("a folder beside the synced one");
        Self {
            name: machine.name.clone(),
            folder: machine.dir.clone(),
            scratch,
            dice: Dice::new(seed),
            count: 0,
            ledger: Ledger::default(),
        }
    }

    /// One change at one of a few paths, so that users meet: mostly writes, sometimes a deletion.
    pub fn act(&mut self) {
        let path = format!("d{}/f{}", self.dice.roll(3), self.dice.roll(4));
        if self.dice.roll(8) == 0 { self.delete(&path) } else { self.write(&path) }
    }

    fn write(&mut self, path: &str) {
        let (scratch, bytes) = self.value();
        fs::write(&scratch, &bytes).expect("our own scratch");
        let target = self.folder.join(path);
        let _ = fs::create_dir_all(target.parent().expect("it is below the folder"));
        // The path may come and go under our hands: whichever of the two succeeds.
        for _ in 0..100 {
            if exchange(&scratch, &target).is_ok() {
                self.ledger.write(&bytes, path);
                self.ledger.replaced.insert(hash_of(&fs::read(&scratch).expect("what came out")));
                return;
            }
            if place(&scratch, &target).is_ok() {
                self.ledger.write(&bytes, path);
                return;
            }
            let _ = fs::create_dir_all(target.parent().expect("it is below the folder"));
        }
        panic!("{path} at {} can neither be replaced nor made", self.name);
    }

    fn delete(&mut self, path: &str) {
        let out = self.scratch.join("deleted");
        if fs::rename(self.folder.join(path), &out).is_ok() {
            self.ledger.deleted.insert(hash_of(&fs::read(&out).expect("what came out")));
        }
    }

    /// A fresh value: mostly small, sometimes one that does not ride along with its entry.
    fn value(&mut self) -> (PathBuf, Vec<u8>) {
        self.count += 1;
        let mut bytes = format!("{} {}\n", self.name, self.count).into_bytes();
        let padding = if self.dice.roll(10) == 0 { 300_000 } else { self.dice.roll(3_000) as usize };
        bytes.extend(noise(self.count, padding));
        (self.scratch.join("next"), bytes)
    }
}

impl Ledger {
    fn write(&mut self, bytes: &[u8], path: &str) {
        let label = String::from_utf8_lossy(bytes.split(|&b| b == b'\n').next().unwrap_or_default()).into_owned();
        self.written.insert(hash_of(bytes), format!("{label} at {path}"));
    }

    pub fn merge(&mut self, other: Self) {
        self.written.extend(other.written);
        self.replaced.extend(other.replaced);
        self.deleted.extend(other.deleted);
    }

    pub fn len(&self) -> usize {
        self.written.len()
    }

    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// The oracle, over the tree that all machines hold now and the history of each.
    pub fn check(&self, tree: &Tree, machines: &[&Machine], deletions: Deletions) {
        let mut safe: BTreeSet<[u8; 32]> =
            machines.iter().flat_map(|machine| machine.history()).map(|bytes| hash_of(&bytes)).collect();
        for (path, node) in &tree.0 {
            let Node::File { hash, .. } = node else { continue };
            let (path, hash) = (path.escape_ascii(), *hash.as_bytes());
            let Some(value) = self.written.get(&hash) else { panic!("{path} holds what nobody wrote") };
            assert!(!self.replaced.contains(&hash), "{path} holds '{value}', which a user had replaced");
            let deleted = deletions == Deletions::Final && self.deleted.contains(&hash);
            assert!(!deleted, "{path} holds '{value}', which a user had deleted");
            safe.insert(hash);
        }
        safe.extend(self.replaced.iter().chain(&self.deleted));
        let lost: Vec<_> =
            self.written.iter().filter(|(hash, _)| !safe.contains(*hash)).map(|(_, value)| value).collect();
        assert!(lost.is_empty(), "{} of {} values are lost: {lost:?}", lost.len(), self.written.len());
    }
}

fn hash_of(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}
