//! What crosses the engine's boundary, in order, as a hash that no renaming touches: what users do,
//! what changes on disks, the bytes on the wire, what is committed, and what is reported.
//!
//! A change of the engine's inside that must not change what it does leaves these hashes as they
//! are. `boundary.sh` makes them and compares them with those that `boundary.txt` holds.

#[path = "../common/quoted.rs"]
mod quoted;

use super::disk::PathChange;
use super::ledger::NodeId;
use super::network::Parcel;
use super::recorded::{Durable, Written};
use super::trace::Kept;
use super::tree::{Body, Ino, Inode};
use dirsyncd::engine::api::index::Row;
use dirsyncd::engine::{Report, Stat};
use quoted::end_of_string;
use serde::Serialize;
use std::fmt::{Debug, Write};

/// One part of the boundary. The number is part of the hash.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Part {
    User = 1,
    Disk = 2,
    Wire = 3,
    Rows = 4,
    Reports = 5,
}

pub struct Boundary {
    hasher: blake3::Hasher,
    kept: Kept,
}

impl Boundary {
    pub fn new(kept: Kept) -> Self {
        Self { hasher: blake3::Hasher::new(), kept }
    }

    pub fn is_kept(&self) -> bool {
        self.kept != Kept::Nothing
    }

    fn note(&mut self, now: u64, node: NodeId, part: Part, what: &impl Serialize) {
        if !self.is_kept() {
            return;
        }
        let bytes = postcard::to_stdvec(&(now, node, part as u8, what)).expect("writing to memory does not fail");
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(&bytes);
        if self.kept == Kept::Lines {
            println!("{:>12.3} n{node} {part:?} {}", now as f64 / 1e6, blake3::hash(&bytes).to_hex());
        }
    }

    pub fn user(&mut self, now: u64, node: NodeId, does: &impl Debug) {
        if self.is_kept() {
            self.note(now, node, Part::User, &values(does));
        }
    }

    pub fn disk(&mut self, now: u64, node: NodeId, changes: &[PathChange]) {
        if !self.is_kept() {
            return;
        }
        for PathChange { path, before, after } in changes {
            let [before, after] = [before, after].map(|there| there.as_ref().map(|(ino, inode)| inode_of(*ino, inode)));
            self.note(now, node, Part::Disk, &(path.as_bytes(), before, after));
        }
    }

    /// What is sent to a side of a link.
    pub fn wire(&mut self, now: u64, node: NodeId, link: usize, parcel: &Parcel) {
        if self.is_kept() {
            let bytes = match parcel {
                Parcel::Frame(bytes) => bytes.to_vec(),
                other => values(other).into_bytes(),
            };
            self.note(now, node, Part::Wire, &(link, bytes));
        }
    }

    pub fn committed(&mut self, now: u64, node: NodeId, written: &Written, durable: &Durable) {
        if !self.is_kept() {
            return;
        }
        for path in &written.rows {
            self.note(now, node, Part::Rows, &(path.as_bytes(), durable.rows.get(path).map(columns)));
        }
        for key in &written.meta {
            self.note(now, node, Part::Rows, &(key, durable.meta.get(key)));
        }
        if written.conflicts {
            let of = |conflict| values(conflict);
            self.note(now, node, Part::Rows, &durable.conflicts.iter().map(of).collect::<Vec<_>>());
        }
    }

    /// The reports of a turn; their order within it is no promise.
    pub fn reports<'a>(&mut self, now: u64, node: NodeId, reports: impl Iterator<Item = &'a Report>) {
        if self.is_kept() {
            let mut reports: Vec<String> = reports.map(report).collect();
            reports.sort_unstable();
            if !reports.is_empty() {
                self.note(now, node, Part::Reports, &reports);
            }
        }
    }

    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

fn inode_of(ino: Ino, inode: &Inode) -> impl Serialize {
    let body = match &inode.body {
        // Its children are paths of their own.
        Body::Directory(_) => "folder".to_owned(),
        other => values(other),
    };
    (ino, body, inode.mode, inode.mtime, inode.ctime)
}

fn columns(row: &Row) -> impl Serialize {
    let disk = row.disk.as_ref().map(|disk| (disk.entry.clone(), disk.stat.map(stat)));
    (row.head.clone(), disk, row.installing.clone(), row.since)
}

fn stat(stat: Stat) -> impl Serialize {
    let Stat { kind, size, mtime, ctime, ino, mode } = stat;
    (kind as u8, size, mtime, ctime, ino, mode)
}

/// Sentences for people are left out: they are made elsewhere, or will be.
fn report(report: &Report) -> String {
    match report {
        Report::Problem { path, .. } | Report::InvalidEntries { path, .. } => values(path),
        Report::Halted { .. } | Report::NewDevice { .. } => String::new(),
        Report::PeerStands { peer, .. } => peer.clone(),
        other => values(other),
    }
}

/// What the fields of something hold, without the names of fields, variants and types.
pub fn values(what: &impl Debug) -> String {
    let mut text = String::new();
    write!(text, "{what:?}").expect("writing to memory does not fail");
    let mut kept = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '"' {
            let end = end_of_string(&text[at..]);
            kept.push_str(&text[at..at + end]);
            while letters.next_if(|(next, _)| *next < at + end).is_some() {}
        } else if letter.is_ascii_alphabetic() || letter == '_' {
            // A word, with the digits in it: the name of a field, a variant or a type.
            while letters.next_if(|(_, next)| next.is_ascii_alphanumeric() || *next == '_').is_some() {}
        } else if letter.is_ascii_digit() || letter == '-' {
            kept.push(letter);
            while let Some((_, digit)) = letters.next_if(|(_, next)| next.is_ascii_alphanumeric() || *next == '.') {
                kept.push(digit);
            }
            kept.push(' ');
        }
    }
    kept
}

#[test]
fn only_values_count_and_no_names() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "shown alone")]
    enum One {
        Is { name: &'static str, size: i64, of: Option<u8> },
    }
    #[derive(Debug)]
    #[expect(dead_code, reason = "shown alone")]
    enum Other {
        Named { title: &'static str, bytes2: i64, part: Option<u8> },
    }
    let one = One::Is { name: "a \"b\" c1", size: -7, of: Some(3) };
    let other = Other::Named { title: "a \"b\" c1", bytes2: -7, part: Some(3) };
    assert_eq!(values(&one), values(&other));
    assert_eq!(values(&one), "\"a \\\"b\\\" c1\"-7 3 ");
}
