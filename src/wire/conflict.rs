//! What machines tell each other of conflicts: which versions of a path were made apart, and
//! whether someone has decided.
//!
//! A conflict is known by its path and the version that lost. May import `model`. Deliberately not
//! here: which conflicts are taken in, and how many (`engine/conflict/known.rs`).

use super::names::{is_clean_name, is_short_text};
use crate::model::{Entry, Kind, SyncPath, Version, VersionVector};
use serde::{Deserialize, Serialize};

/// Who won, and who lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    pub winner: Entry,
    pub winner_name: String,
    pub loser: Entry,
    pub loser_name: String,
    /// The loser's copy.
    pub beside: Option<SyncPath>,
}

impl Sides {
    /// Of what their makers had seen, only their own counters are kept: a version vector may be
    /// long.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        for entry in [&mut self.winner, &mut self.loser] {
            let Version { author, .. } = entry.version;
            let counter = entry.version.counter();
            entry.version.seen =
                if counter == 0 { VersionVector::default() } else { VersionVector::default().with(author, counter) };
        }
        self
    }
}

/// The name of a conflict: 16 bytes of a hash of its path and the version that lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConflictKey(pub [u8; 16]);

impl ConflictKey {
    pub fn of(path: &SyncPath, loser: &Version) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&loser.author.0).update(&loser.counter().to_be_bytes()).update(&loser.stamp.to_be_bytes());
        hasher.update(path.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(key)
    }
}

/// One conflict, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictNews {
    pub path: SyncPath,
    /// When it was found, by the clock of who found it (ns since 1970).
    pub found_ns: u64,
    /// How it was decided, if it was.
    pub decided: Option<Decided>,
    /// The sender was told of it, and did not find it itself.
    pub relayed: bool,
    pub sides: Sides,
}

/// Clocks differ, so a decision says how old it is, not when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub how: String,
    pub age_s: u32,
}

impl ConflictNews {
    pub fn key(&self) -> ConflictKey {
        ConflictKey::of(&self.path, &self.sides.loser.version)
    }

    /// Whether it keeps the limits that no peer may pass; the subject of the first one broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let Sides { winner, winner_name, loser, loser_name, beside } = &self.sides;
        winner.check()?;
        loser.check()?;
        let is_long = |entry: &Entry| entry.version.seen.devices().any(|(device, _)| device != entry.version.author);
        let is_too_deep = self.path.is_too_deep() || beside.as_ref().is_some_and(SyncPath::is_too_deep);
        match &self.decided {
            _ if is_too_deep => Err("path too deep"),
            _ if !loser.is_live() => Err("a deletion that lost"),
            _ if is_long(winner) || is_long(loser) => Err("more seen than the author's own changes"),
            _ if !is_clean_name(winner_name) || !is_clean_name(loser_name) => Err("a name that no machine may have"),
            _ if self.found_ns >= 1 << 63 => Err("time of 2^63 or more"),
            Some(decided) if !is_short_text(&decided.how) => Err("a decision of over 255 bytes"),
            _ => Ok(()),
        }
    }

    /// About what it takes on the wire and in memory.
    pub fn wire_bytes(&self) -> usize {
        let Sides { winner, winner_name, loser, loser_name, beside } = &self.sides;
        let target = |entry: &Entry| if let Kind::Symlink { target } = &entry.kind { target.len() } else { 0 };
        let seen = |entry: &Entry| 42 * entry.version.seen.devices().count();
        let entry = |entry: &Entry| 128 + target(entry) + seen(entry);
        let beside = beside.as_ref().map_or(0, |path| path.as_bytes().len());
        let how = self.decided.as_ref().map_or(0, |decided| decided.how.len());
        64 + self.path.as_bytes().len()
            + beside
            + how
            + entry(winner)
            + entry(loser)
            + winner_name.len()
            + loser_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContentId, DeviceId, FileTime, Mode};

    fn entry(author: u8, counter: u64) -> Entry {
        let author = DeviceId([author; 32]);
        let version = Version { stamp: 7, author, seen: VersionVector::default().with(author, counter) };
        let kind = Kind::File { size: 1, content: ContentId([1; 32]) };
        Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
    }

    fn news() -> ConflictNews {
        let (winner, loser) = (entry(1, 3), entry(2, 4));
        let (winner_name, loser_name) = ("a".to_owned(), "b".to_owned());
        let sides = Sides { winner, winner_name, loser, loser_name, beside: None };
        ConflictNews { path: SyncPath::new("f").unwrap(), found_ns: 1, decided: None, relayed: false, sides }
    }

    #[test]
    fn a_conflict_is_known_by_its_path_and_loser_whoever_won() {
        let one = news();
        let mut other = one.clone();
        other.sides.winner = entry(9, 9);
        other.decided = Some(Decided { how: "merged".into(), age_s: 1 });
        assert_eq!(one.key(), other.key());
        other.sides.loser = entry(2, 5);
        assert_ne!(one.key(), other.key());
        assert_ne!(one.key(), ConflictNews { path: SyncPath::new("g").unwrap(), ..one.clone() }.key());
    }

    #[test]
    fn what_passes_a_limit_is_found_out() {
        assert_eq!(news().check(), Ok(()));
        let broken = |change: &dyn Fn(&mut ConflictNews)| {
            let mut news = news();
            change(&mut news);
            news.check().is_err()
        };
        assert!(broken(&|news| news.sides.winner_name = "\u{1b}[31m".into()));
        assert!(broken(&|news| news.sides.loser_name = "x".repeat(64)));
        assert!(broken(&|news| news.sides.loser.kind = Kind::Deleted { at: 1 }));
        assert!(broken(&|news| news.sides.loser.mode = Mode(0o4755)));
        assert!(broken(&|news| news.sides.winner.version.stamp = 1 << 62));
        assert!(broken(&|news| {
            news.sides.winner.version.seen = news.sides.winner.version.seen.with(DeviceId([9; 32]), 1);
        }));
        assert!(broken(&|news| news.path = SyncPath::new(["d"; 257].join("/")).unwrap()));
        assert!(broken(&|news| news.sides.beside = Some(SyncPath::new(["d"; 257].join("/")).unwrap())));
        assert!(broken(&|news| news.found_ns = 1 << 63));
        assert!(broken(&|news| news.decided = Some(Decided { how: "x".repeat(256), age_s: 0 })));
    }

    #[test]
    fn a_long_version_vector_is_trimmed_and_the_key_stays() {
        let mut long = news();
        let seen = (10..200).fold(long.sides.loser.version.seen.clone(), |seen, n| seen.with(DeviceId([n; 32]), 1));
        long.sides.loser.version.seen = seen;
        let key = long.key();
        assert!(long.check().is_err());
        long.sides = long.sides.trimmed();
        assert_eq!((long.check(), long.key()), (Ok(()), key));
    }
}
