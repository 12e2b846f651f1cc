//! What users wrote and what they did away with by their own hands, and the oracle over it.
//!
//! Every value is unique, so it is known by its hash. A user who replaces, deletes or moves
//! something knows what it was: files are exchanged, renamed out, or written through a descriptor
//! that they were read through before.

use crate::common::tree::Node;
use crate::common::{Machine, Tree};
use std::collections::{BTreeMap, BTreeSet};

type Hash = [u8; 32];

#[derive(Default)]
pub struct Ledger {
    /// What must be somewhere, with who wrote it and where.
    owed: BTreeMap<Hash, String>,
    /// What may be somewhere: half of a file that was being written.
    passing: BTreeSet<Hash>,
    /// Replaced or deleted by a user who had it under his hands.
    released: BTreeSet<Hash>,
    /// Values that a user took from a path, and how; and how often one was put there.
    taken: BTreeMap<(Hash, String), Taken>,
    put: BTreeMap<(Hash, String), u32>,
    /// Unique names that were there for a moment, and where.
    fleeting: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Another value took its place.
    Replaced,
    /// The name went.
    Removed,
}

impl Ledger {
    pub fn wrote(&mut self, bytes: &[u8], path: &str, who: &str) {
        self.owed.insert(hash(bytes), format!("{who} at {path}"));
        *self.put.entry((hash(bytes), path.to_owned())).or_default() += 1;
    }

    /// A state of a file on its way from one value to the next.
    pub fn passed(&mut self, bytes: &[u8]) {
        self.passing.insert(hash(bytes));
    }

    /// A whole value that nobody is owed: written into a file that was held for longer than is
    /// promised.
    pub fn wrote_late(&mut self, bytes: &[u8], path: &str) {
        self.passed(bytes);
        *self.put.entry((hash(bytes), path.to_owned())).or_default() += 1;
    }

    pub fn did_away(&mut self, bytes: &[u8], path: &str, how: Taken) {
        self.released.insert(hash(bytes));
        self.taken.insert((hash(bytes), path.to_owned()), how);
    }

    pub fn moved(&mut self, bytes: &[u8], from: &str, to: &str) {
        self.taken.insert((hash(bytes), from.to_owned()), Taken::Removed);
        *self.put.entry((hash(bytes), to.to_owned())).or_default() += 1;
    }

    /// Its time or its permissions were changed where it stands: a change like any, which outlives
    /// a deletion made apart from it.
    pub fn touched(&mut self, bytes: &[u8], path: &str) {
        *self.put.entry((hash(bytes), path.to_owned())).or_default() += 1;
    }

    pub fn fleeting(&mut self, path: &str) {
        self.fleeting.insert(name_of(path).to_owned(), path.to_owned());
    }

    pub fn len(&self) -> usize {
        self.owed.len()
    }

    /// The oracle, over the tree that all machines hold and the history of each. `after_kills`: a
    /// kill may fall between an install and its commit; what the user deletes before the next start
    /// then returns, because no index can tell that from an install that never happened.
    pub fn check(&self, tree: &Tree, machines: &[Machine], after_kills: bool) {
        let mut safe: BTreeSet<Hash> = machines.iter().flat_map(Machine::history).map(|bytes| hash(&bytes)).collect();
        for (path, node) in &tree.0 {
            let Node::File { hash, .. } = node else { continue };
            let path = path.escape_ascii().to_string();
            if super::tools::is_foreign(&path) {
                continue;
            }
            self.check_one(&path, *hash.as_bytes(), after_kills);
            safe.insert(*hash.as_bytes());
        }
        safe.extend(&self.released);
        let lost: Vec<_> = self.owed.iter().filter(|(hash, _)| !safe.contains(*hash)).map(|(_, who)| who).collect();
        assert!(lost.is_empty(), "{} of {} values are lost: {lost:?}", lost.len(), self.owed.len());
    }

    fn check_one(&self, path: &str, hash: Hash, after_kills: bool) {
        if let Some(place) = self.fleeting.get(name_of(path)) {
            // Elsewhere it went with a folder that another user moved.
            assert!(after_kills || place != path, "{path} is back: its user had removed it");
            return;
        }
        let at = (hash, path.to_owned());
        let times = self.put.get(&at).copied().unwrap_or_default();
        let Some(who) = self.owed.get(&hash) else {
            // A folder that is moved at one machine while another's user writes into it takes along
            // what had come of that by then: what its user saw in it, or what was just being
            // installed in it.
            let is_half = self.passing.contains(&hash);
            let went_along = times > 0 || path.starts_with("moved-");
            assert!(!is_half || went_along, "{path} holds half of what was written");
            assert!(is_half, "{path} holds what nobody wrote");
            return;
        };
        match self.taken.get(&at) {
            Some(Taken::Replaced) if times <= 1 => panic!("{path} holds '{who}', which a user had replaced"),
            Some(Taken::Removed) if times <= 1 && !after_kills => {
                panic!("{path} holds '{who}', which a user had removed from there")
            }
            _ => {}
        }
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().expect("a path has a last name")
}

fn hash(bytes: &[u8]) -> Hash {
    *blake3::hash(bytes).as_bytes()
}

#[test]
fn what_was_replaced_may_be_back_only_where_another_user_changed_it() {
    let replaced_then_removed = || {
        let mut ledger = Ledger::default();
        ledger.wrote(b"old", "f", "b");
        ledger.did_away(b"old", "f", Taken::Replaced);
        ledger.wrote(b"new", "f", "a");
        ledger.did_away(b"new", "f", Taken::Removed);
        ledger
    };
    let holds =
        |ledger: &Ledger, what: &[u8]| std::panic::catch_unwind(|| ledger.check_one("f", hash(what), false)).is_ok();
    let mut ledger = replaced_then_removed();
    assert!(!holds(&ledger, b"old") && !holds(&ledger, b"new"));
    ledger.touched(b"old", "f");
    assert!(holds(&ledger, b"old") && !holds(&ledger, b"new"));
}
