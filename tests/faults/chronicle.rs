//! What users wrote, what they knew to be durable and what they did away with, when a power cut may
//! take back the rest.
//!
//! Every value is unique and tells itself by its first line, so that a torn one is known as such. A
//! user's steps and the cut exclude each other, so that it is certain which came first.
//! Deliberately not here: the cut itself.

use crate::common::{Dice, noise};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard};

use crate::common::disk::{exchange, place};

/// A value's first line: who wrote it, the how-manieth it is, and how long it is.
pub type Id = String;

/// Whether there is power: a user's step holds it, the cut waits for it.
#[derive(Default)]
pub struct Power(RwLock<bool>);

impl Power {
    pub fn set(&self, on: bool) {
        *self.0.write().expect("no panic while it is held") = on;
    }

    /// Cuts it, by `cut`, in between two steps.
    pub fn cut(&self, cut: impl FnOnce()) {
        let mut on = self.0.write().expect("no panic while it is held");
        cut();
        *on = false;
    }

    /// `None`: there is no power.
    fn hold(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let on = self.0.read().expect("no panic while it is held");
        on.then_some(on)
    }
}

/// What became of a value by a user's own hand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Replaced(Id),
    Deleted,
}

/// All that users did.
#[derive(Default, Clone)]
pub struct Chronicle {
    /// Where each value was written, and whether its user was told that it is durable.
    written: BTreeMap<Id, (String, bool)>,
    /// Two users may do away with one value, each at a machine of their own.
    fates: BTreeMap<Id, Vec<Fate>>,
    /// How many of its two parts were written, of what is not put there whole.
    parts: BTreeMap<Id, usize>,
}

/// What a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Whole(Id),
    /// The beginning of a value, of this length in bytes, or nothing at all. `zeros`: with none of
    /// the bytes.
    Torn {
        len: usize,
        zeros: bool,
    },
    /// What nobody wrote, described.
    Foreign(String),
}

fn value(who: &str, count: u64, len: usize) -> Vec<u8> {
    let mut bytes = format!("{who} {count} {len}\n").into_bytes();
    bytes.extend(noise(count ^ u64::from(who.as_bytes()[0]) << 40, len));
    bytes
}

/// The whole value of this id.
fn bytes_of(id: &str) -> Option<Vec<u8>> {
    let words: Vec<_> = id.split(' ').collect();
    let [who, count, len] = words[..] else { return None };
    Some(value(who, count.parse().ok()?, len.parse().ok()?))
}

pub fn recognise(bytes: &[u8]) -> Seen {
    let zeros = bytes.iter().rev().take_while(|b| **b == 0).count();
    if zeros > 16 {
        // More than any value ends in: its size was durable before its bytes.
        return Seen::Torn { len: bytes.len(), zeros: zeros == bytes.len() };
    }
    let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
        let torn = bytes.len() < 40 && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b' ');
        return if torn { Seen::Torn { len: bytes.len(), zeros: false } } else { foreign(bytes) };
    };
    let id = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let Some(whole) = bytes_of(&id) else { return foreign(bytes) };
    match whole.starts_with(bytes) {
        true if whole.len() == bytes.len() => Seen::Whole(id),
        true => Seen::Torn { len: bytes.len(), zeros: false },
        false => foreign(bytes),
    }
}

fn foreign(bytes: &[u8]) -> Seen {
    let start = &bytes[..bytes.len().min(40)];
    Seen::Foreign(format!("{} bytes, beginning with '{}'", bytes.len(), start.escape_ascii()))
}

/// One user at one machine. `scratch` lies on the folder's file system.
pub struct User {
    who: String,
    folder: PathBuf,
    scratch: PathBuf,
    dice: Dice,
    count: u64,
    pub chronicle: Chronicle,
}

impl User {
    pub fn new(who: &str, folder: &Path, scratch: PathBuf, seed: u64) -> Self {
        let (who, folder) = (who.to_owned(), folder.to_owned());
        Self { who, folder, scratch, dice: Dice::new(seed), count: 0, chronicle: Chronicle::default() }
    }

    /// One change. `None`: the power went.
    pub fn act(&mut self, power: &Power) -> Option<()> {
        let shared = format!("d{}/f{}", self.dice.roll(3), self.dice.roll(4));
        let own = format!("own-{}/f{}", self.who, self.dice.roll(4));
        match self.dice.roll(10) {
            0 => self.delete(power, &shared),
            1..4 => self.rewrite(power, &own),
            4 => {
                let fresh = format!("new-{}{}/deep/f", self.who, self.count);
                self.rewrite(power, &fresh)
            }
            _ => self.swap_in(power, &shared),
        }
    }

    /// Milliseconds until the next change.
    pub fn rest(&mut self) -> u64 {
        self.dice.roll(20)
    }

    /// As careful programs do: a whole new file in one step; half of them see to its being durable.
    fn swap_in(&mut self, power: &Power, path: &str) -> Option<()> {
        let careful = self.dice.roll(2) == 0;
        let (id, bytes) = self.value();
        self.put_in(power, path, id, &bytes, careful)
    }

    /// A value so large that it does not ride along with its entry.
    pub fn put_large(&mut self, power: &Power, path: &str, careful: bool) -> Option<()> {
        self.count += 1;
        let id = format!("{} {} 300001", self.who, self.count);
        let bytes = bytes_of(&id).expect("it is made just above");
        self.put_in(power, path, id, &bytes, careful)
    }

    fn put_in(&mut self, power: &Power, path: &str, id: Id, bytes: &[u8], careful: bool) -> Option<()> {
        let (target, next) = (self.folder.join(path), self.scratch.join("next"));
        let power = power.hold()?;
        fs::create_dir_all(&self.scratch).expect("a folder beside the synced one");
        save(&next, bytes, careful).expect("our own scratch");
        for _ in 0..100 {
            let _ = fs::create_dir_all(target.parent().expect("it is below the folder"));
            let exchanged = exchange(&next, &target).is_ok();
            if exchanged || place(&next, &target).is_ok() {
                if exchanged {
                    self.did_away(&fs::read(&next).expect("what came out"), Fate::Replaced(id.clone()));
                }
                let durable = careful && self.sync_folders(path).is_ok();
                self.chronicle.written.insert(id, (path.to_owned(), durable));
                drop(power);
                return Some(());
            }
        }
        panic!("{path} at {} can neither be replaced nor made", self.who);
    }

    /// As careless programs do: truncated, then written in two parts; a third of them sync the file
    /// at the end.
    fn rewrite(&mut self, power: &Power, path: &str) -> Option<()> {
        let (id, bytes) = self.value();
        let target = self.folder.join(path);
        let step = power.hold()?;
        let _ = fs::create_dir_all(target.parent().expect("it is below the folder"));
        let old = fs::read(&target).ok();
        let mut file = File::create(&target).expect("a file of our own");
        if let Some(old) = old {
            self.did_away(&old, Fate::Replaced(id.clone()));
        }
        self.chronicle.written.insert(id.clone(), (path.to_owned(), false));
        drop(step);
        for part in bytes.chunks(bytes.len().div_ceil(2)) {
            let _step = power.hold()?;
            file.write_all(part).expect("a file of our own");
            *self.chronicle.parts.entry(id.clone()).or_default() += 1;
        }
        let _step = power.hold()?;
        if self.dice.roll(3) == 0 && file.sync_all().is_ok() && self.sync_folders(path).is_ok() {
            self.chronicle.written.insert(id, (path.to_owned(), true));
        }
        Some(())
    }

    fn delete(&mut self, power: &Power, path: &str) -> Option<()> {
        let out = self.scratch.join("deleted");
        let _step = power.hold()?;
        if fs::rename(self.folder.join(path), &out).is_ok() {
            self.did_away(&fs::read(&out).expect("what came out"), Fate::Deleted);
        }
        Some(())
    }

    fn did_away(&mut self, bytes: &[u8], fate: Fate) {
        if let Seen::Whole(old) = recognise(bytes) {
            self.chronicle.fates.entry(old).or_default().push(fate);
        }
    }

    /// The name's folder and all above it.
    fn sync_folders(&self, path: &str) -> io::Result<()> {
        let target = self.folder.join(path);
        let folders = target.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.folder));
        folders.into_iter().try_for_each(|folder| File::open(folder)?.sync_all())
    }

    /// A fresh value: mostly small, sometimes one that does not ride along with its entry.
    fn value(&mut self) -> (Id, Vec<u8>) {
        self.count += 1;
        let len = if self.dice.roll(10) == 0 { 300_000 } else { self.dice.roll(6_000) as usize };
        let (id, bytes) = (format!("{} {} {len}", self.who, self.count), value(&self.who, self.count, len));
        // A whole value of whole blocks, shorter than what was there, is what a cut leaves: see
        // docs/reliability.md.
        if bytes.len().is_multiple_of(512) { self.value() } else { (id, bytes) }
    }
}

fn save(path: &Path, bytes: &[u8], careful: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    file.write_all(bytes)?;
    if careful { file.sync_all() } else { Ok(()) }
}

/// What a machine held when it could not be told anything any more: its files by path, and all its
/// values.
#[derive(Default, Clone)]
pub struct Holdings {
    pub files: BTreeMap<String, Seen>,
    pub values: BTreeSet<Id>,
}

impl Holdings {
    pub fn read(folder: &Path, history: Vec<Vec<u8>>) -> io::Result<Self> {
        let mut holdings = Self::default();
        holdings.read_below(folder, "")?;
        for bytes in history {
            holdings.add(&recognise(&bytes));
        }
        Ok(holdings)
    }

    fn read_below(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for child in fs::read_dir(folder)? {
            let child = child?;
            let name = child.file_name().into_string().expect("plain names");
            let path = format!("{prefix}{name}");
            if path == ".dirsync" {
                continue;
            }
            if child.file_type()?.is_dir() {
                self.read_below(&child.path(), &format!("{path}/"))?;
            } else {
                let seen = recognise(&fs::read(child.path())?);
                self.add(&seen);
                self.files.insert(path, seen);
            }
        }
        Ok(())
    }

    fn add(&mut self, seen: &Seen) {
        if let Seen::Whole(id) = seen {
            self.values.insert(id.clone());
        }
    }
}

/// What is known at a check: see `Chronicle::check`.
pub struct Check<'a> {
    /// After the last check, and on the machine that kept its power, before the other was back.
    pub before: &'a Holdings,
    pub peer: &'a Holdings,
    /// On both, now.
    pub now: &'a Holdings,
    /// Who kept the power: all that this one wrote counts as durable.
    pub lucky: &'a str,
    /// Gone at an earlier check.
    pub dead: &'a BTreeSet<Id>,
}

impl Chronicle {
    pub fn merge(&mut self, other: Self) {
        self.written.extend(other.written);
        self.parts.extend(other.parts);
        for (id, fates) in other.fates {
            self.fates.entry(id).or_default().extend(fates);
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = &Id> {
        self.written.keys()
    }

    /// Judges what no machine has any more: the winner of a path is this content (BLAKE3, in hex),
    /// and the cut left `rest` there. That may be only where its own user had gone on from it
    /// before the cut (the gap under P5 in docs/promises.md): put another value in its place, or
    /// written the next part of what it is the beginning of. Else it was told before it was
    /// durable.
    pub fn judge_gone(&self, path: &str, content: &str, rest: &[u8]) -> Result<(), String> {
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let at: Vec<&Id> = self.written.iter().filter(|(_, (written, _))| written == path).map(|(id, _)| id).collect();
        for id in &at {
            let bytes = bytes_of(id).expect("it was written");
            let parts = self.parts.get(*id).copied().unwrap_or(0);
            let went_on_from_a_part = (parts > 0 && hash(b"") == content)
                || (parts > 1 && hash(&bytes[..bytes.len().div_ceil(2)]) == content);
            if went_on_from_a_part {
                return Ok(());
            }
            if hash(&bytes) != content {
                continue;
            }
            if !at.iter().any(|other| self.came_after(id, other)) {
                return Err(format!("{path}: '{id}' was told, nothing was put in its place, and nobody has it"));
            }
            if rest.iter().any(|byte| *byte != 0) && bytes.starts_with(rest) {
                return Err(format!("{path}: what is left is the beginning of '{id}' itself, which was told"));
            }
            return Ok(());
        }
        Err(format!("{path}: nobody has its winner {content}, and no user went on from that"))
    }

    /// The oracle of P1 to P5 after a cut. Every complaint it has.
    pub fn check<'a>(&self, check: &Check<'a>) -> Vec<String> {
        let known: BTreeSet<&Id> = check.now.values.iter().chain(&check.peer.values).collect();
        let mut complaints = Vec::new();
        for (path, seen) in &check.now.files {
            let was_whole = |holdings: &'a Holdings| match holdings.files.get(path) {
                Some(Seen::Whole(id)) if !self.is_deleted(id) => Some(id),
                _ => None,
            };
            let was_there = was_whole(check.before).or(was_whole(check.peer));
            match seen {
                Seen::Foreign(what) => complaints.push(format!("{path} holds what nobody wrote: {what}")),
                Seen::Torn { len, zeros } if was_there.is_some_and(|id| *zeros || self.cuts_short(id, *len)) => {
                    complaints.push(format!("{path} is torn: {len} bytes (zeros: {zeros})"));
                }
                // It was new, or new again, and no other machine ever had more of it. Or somebody's
                // sync made half of a save durable: only the program that wrote it could tell.
                Seen::Torn { .. } => {}
                Seen::Whole(id) if check.dead.contains(id) => {
                    complaints.push(format!("{path} holds '{id}', which is back from the dead"));
                }
                Seen::Whole(id) => {
                    if let Some(later) = self.later(id).into_iter().find(|later| known.contains(later)) {
                        complaints.push(format!("{path} holds '{id}', though '{later}' replaced it and is known"));
                    }
                }
            }
        }
        for (id, (path, durable)) in &self.written {
            let told = check.peer.values.contains(id) || id.starts_with(check.lucky);
            let superseded = self.is_deleted(id) || self.later(id).iter().any(|later| known.contains(later));
            // Done away with by its own machine's user, by what the cut took back, and never told.
            let forgone = !told && self.fates.contains_key(id);
            if (told || *durable) && !known.contains(id) && !superseded && !forgone {
                complaints.push(format!("'{id}', written to {path}, is lost (told: {told}, durable: {durable})"));
            }
        }
        for (path, seen) in check.before.files.iter().chain(&check.peer.files) {
            if let Seen::Whole(id) = seen
                && !check.now.files.contains_key(path)
                && !self.is_deleted(id)
            {
                complaints.push(format!("{path}, which held '{id}', is gone, and no user deleted it"));
            }
        }
        complaints
    }

    /// Whether a part of so many bytes is what a cut leaves of a value, or of what users put in its
    /// place: whole blocks that are shorter than what was known.
    fn cuts_short(&self, id: &Id, len: usize) -> bool {
        let whole = |id: &Id| id.len() + 1 + id.rsplit(' ').next().and_then(|len| len.parse().ok()).unwrap_or(0);
        len.is_multiple_of(512) && self.later(id).into_iter().chain([id]).all(|id| len < whole(id))
    }

    /// Whether `other`, written at the same path, took the place of a value, or came once that was
    /// deleted.
    fn came_after(&self, id: &Id, other: &Id) -> bool {
        let count = |id: &Id| id.split(' ').nth(1).and_then(|count| count.parse::<u64>().ok());
        let same_user = id.split(' ').next() == other.split(' ').next();
        let is_younger = id != other && (!same_user || count(id) < count(other));
        self.later(id).contains(other) || (self.is_deleted(id) && is_younger)
    }

    /// What users put in a value's place, and in that one's, and so on.
    fn later<'a>(&'a self, id: &'a Id) -> BTreeSet<&'a Id> {
        let mut found = BTreeSet::new();
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            for fate in self.fates.get(id).into_iter().flatten() {
                if let Fate::Replaced(later) = fate
                    && found.insert(later)
                {
                    todo.push(later);
                }
            }
        }
        found
    }

    fn is_deleted(&self, id: &Id) -> bool {
        let is_deleted = |id: &Id| self.fates.get(id).is_some_and(|fates| fates.contains(&Fate::Deleted));
        is_deleted(id) || self.later(id).into_iter().any(is_deleted)
    }
}

#[test]
fn what_is_gone_is_judged_by_what_its_user_did_before_the_cut() {
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let (old, new) = ("a 1 100".to_owned(), "a 2 100".to_owned());
    let bytes = bytes_of(&old).expect("an id");
    let (whole, half) = (hash(&bytes), hash(&bytes[..bytes.len().div_ceil(2)]));
    let chronicle = |ids: &[&Id], fate: Option<Fate>, parts| {
        let mut chronicle = Chronicle::default();
        chronicle.written.extend(ids.iter().map(|id| ((*id).clone(), ("f".to_owned(), false))));
        chronicle.fates.extend(fate.map(|fate| (old.clone(), vec![fate])));
        chronicle.parts.insert(old.clone(), parts);
        move |content: &str, rest: &[u8]| chronicle.judge_gone("f", content, rest).is_ok()
    };
    assert!(!chronicle(&[&old], None, 0)(&whole, b""), "its user went on from nothing");
    let replaced = chronicle(&[&old, &new], Some(Fate::Replaced(new.clone())), 0);
    assert!(replaced(&whole, b"") && replaced(&whole, &[0; 512]) && replaced(&whole, b"a 2 1"));
    assert!(!replaced(&whole, b"a 1 1"), "what is left is the old one");
    assert!(!replaced(&hash(b"other"), b""), "nobody wrote that");
    assert!(!chronicle(&[&old], Some(Fate::Deleted), 0)(&whole, b""), "it was deleted, and something is there");
    assert!(chronicle(&[&old, &new], Some(Fate::Deleted), 0)(&whole, b""));
    for (parts, empty_passes, half_passes) in [(0, false, false), (1, true, false), (2, true, true)] {
        let begun = chronicle(&[&old], None, parts);
        assert_eq!((begun(&hash(b""), b""), begun(&half, b"")), (empty_passes, half_passes), "{parts} parts");
    }
}
