//! `Entry`: what one path holds, and which of two entries wins.

use super::{ContentId, Version};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Permission bits within 0o777: no setuid, setgid or sticky bit travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mode(pub u16);

impl Mode {
    pub const DIRECTORY: Self = Self(0o755);
    pub const NONE: Self = Self(0);

    /// The permission bits of a `st_mode`.
    pub fn of(st_mode: u32) -> Self {
        Self((st_mode & 0o777) as u16)
    }
}

/// A time as the file system keeps it: seconds since 1970 (may be negative) and nanoseconds below
/// 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FileTime {
    pub secs: i64,
    pub nanos: u32,
}

impl FileTime {
    /// Of nanoseconds since 1970.
    pub fn of(ns: u64) -> Self {
        Self { secs: (ns / 1_000_000_000) as i64, nanos: (ns % 1_000_000_000) as u32 }
    }

    /// Nanoseconds since 1970, not below 0 and not above the stamps' limit.
    pub fn as_stamp(self) -> u64 {
        let ns = i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos);
        ns.clamp(0, i128::from(super::version::STAMP_LIMIT - 1)) as u64
    }
}

/// What a path holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing any more. `at`: when it was deleted, nanoseconds since 1970; no part of any
    /// comparison.
    Deleted {
        at: u64,
    },
    Directory,
    Symlink {
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
    File {
        size: u64,
        content: ContentId,
    },
}

/// A path's contents at one version. Directories carry no mtime, links no mode, deletions neither.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    pub kind: Kind,
    pub mode: Mode,
    pub mtime: FileTime,
    pub version: Version,
}

impl Entry {
    pub fn is_live(&self) -> bool {
        !matches!(self.kind, Kind::Deleted { .. })
    }

    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The content and size of a file.
    pub fn file(&self) -> Option<(ContentId, u64)> {
        match self.kind {
            Kind::File { size, content } => Some((content, size)),
            _ => None,
        }
    }

    /// Same kind and contents, whatever the permissions and versions.
    pub fn same_content(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Deleted { .. }, Kind::Deleted { .. }) => true,
            (a, b) => a == b,
        }
    }

    /// Same kind, contents and permissions: never a conflict, whatever the versions say.
    pub fn same_thing(&self, other: &Self) -> bool {
        self.same_content(other) && self.mode == other.mode
    }

    /// Same as `same_thing`, and the same mtime: nothing on disk needs to change.
    pub fn same_on_disk(&self, other: &Self) -> bool {
        self.same_thing(other) && self.mtime == other.mtime
    }

    /// The total order whose maximum wins (P3): stamp, live over deleted, content, author; then all
    /// that is left, so that two different entries are never equal and merging is a maximum.
    pub fn rank(&self, other: &Self) -> Ordering {
        let by_design = (self.version.stamp, self.is_live()).cmp(&(other.version.stamp, other.is_live()));
        by_design
            .then_with(|| self.kind.cmp(&other.kind))
            .then_with(|| self.version.author.cmp(&other.version.author))
            .then_with(|| (self.mode, self.mtime, &self.version).cmp(&(other.mode, other.mtime, &other.version)))
    }

    /// Whether this entry wins over `other`.
    pub fn beats(&self, other: &Self) -> bool {
        self.rank(other) == Ordering::Greater
    }

    /// Whether `loser` was made without knowledge of this winner and says something else: a
    /// conflict to report. A deletion that lost to an edit took nothing from anyone.
    pub fn conflicts_with(&self, loser: &Self) -> bool {
        loser.is_live() && !self.same_thing(loser) && !self.version.supersedes(&loser.version)
    }

    /// Whether it keeps every limit that no peer may pass; the subject of the first one broken.
    pub fn check(&self) -> Result<(), &'static str> {
        if !self.version.is_valid() {
            return Err("version out of range");
        }
        if self.mode.0 > 0o777 {
            return Err("mode beyond 0o777");
        }
        if self.mtime.nanos >= 1_000_000_000 {
            return Err("nanoseconds of 10^9 or more");
        }
        match &self.kind {
            Kind::File { size, .. } if *size >= 1 << 63 => Err("size of 2^63 or more"),
            Kind::Deleted { at } if *at >= super::version::STAMP_LIMIT => Err("time of deletion out of range"),
            Kind::Symlink { target } if target.is_empty() || target.len() > 4095 || target.contains(&0) => {
                Err("link target empty, over 4,095 bytes or with a NUL")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, VersionVector};
    use proptest::prelude::*;
    use rstest::rstest;

    fn device(n: u8) -> DeviceId {
        DeviceId([n; 32])
    }

    /// Few values of everything, so that ties are common.
    fn entries() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            (0..2u64).prop_map(|at| Kind::Deleted { at }),
            Just(Kind::Directory),
            (0..2u8).prop_map(|n| Kind::Symlink { target: vec![b'a' + n] }),
            (0..3u8).prop_map(|n| Kind::File { size: 1, content: ContentId([n; 32]) }),
        ];
        (kind, 0..3u64, 0..3u8, 1..3u64, 0..2u16, 0..2i64).prop_map(|(kind, stamp, author, counter, mode, secs)| {
            Entry {
                kind,
                mode: Mode(0o600 + mode),
                mtime: FileTime { secs, nanos: 0 },
                version: Version {
                    stamp,
                    author: device(author),
                    seen: VersionVector::default().with(device(author), counter),
                },
            }
        })
    }

    fn merge(a: &Entry, b: &Entry) -> Entry {
        if b.beats(a) { b.clone() } else { a.clone() }
    }

    proptest! {
        #[test]
        fn merging_is_associative_commutative_and_idempotent(a in entries(), b in entries(), c in entries()) {
            prop_assert_eq!(merge(&a, &a), a.clone());
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
        }

        #[test]
        fn a_causal_successor_always_wins_and_is_no_conflict(base in entries(), next in entries(), clock: u32) {
            let stamp = u64::from(clock).max(base.version.stamp + 1);
            let seen = base.version.seen.with(device(9), 1);
            let next = Entry { version: Version { stamp, author: device(9), seen }, ..next };
            prop_assert!(next.beats(&base));
            prop_assert!(next.version.supersedes(&base.version));
            prop_assert!(!base.version.supersedes(&next.version));
            prop_assert!(!next.conflicts_with(&base));
        }

        #[test]
        fn entries_round_trip_in_both_forms(entry in entries()) {
            let bin = postcard::to_stdvec(&entry).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<Entry>(&bin).unwrap(), &entry);
            let json = serde_json::to_string(&entry).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Entry>(&json).unwrap(), &entry);
        }
    }

    fn entry(kind: Kind, stamp: u64, author: u8) -> Entry {
        let seen = VersionVector::default().with(device(author), 1);
        let version = Version { stamp, author: device(author), seen };
        Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
    }

    fn file(n: u8) -> Kind {
        Kind::File { size: 1, content: ContentId([n; 32]) }
    }

    #[rstest]
    #[case::the_later_stamp((file(1), 2, 1), (file(9), 1, 9))]
    #[case::live_over_deleted((file(1), 1, 1), (Kind::Deleted { at: 9 }, 1, 9))]
    #[case::the_greater_content((file(2), 1, 1), (file(1), 1, 9))]
    #[case::the_greater_author((file(1), 1, 9), (file(1), 1, 1))]
    #[case::a_file_over_a_directory((file(1), 1, 1), (Kind::Directory, 1, 9))]
    #[case::a_later_deletion((Kind::Deleted { at: 0 }, 2, 1), (file(1), 1, 9))]
    fn the_winner_is(#[case] winner: (Kind, u64, u8), #[case] loser: (Kind, u64, u8)) {
        let (winner, loser) = (entry(winner.0, winner.1, winner.2), entry(loser.0, loser.1, loser.2));
        assert!(winner.beats(&loser) && !loser.beats(&winner));
    }

    #[rstest]
    #[case::two_contents(file(2), file(1), true)]
    #[case::a_deletion_beats_an_edit(Kind::Deleted { at: 0 }, file(1), true)]
    #[case::an_edit_beats_a_deletion(file(1), Kind::Deleted { at: 0 }, false)]
    #[case::the_same_content(file(1), file(1), false)]
    fn concurrent_losers_that_say_something_else_are_conflicts(
        #[case] winner: Kind,
        #[case] loser: Kind,
        #[case] conflict: bool,
    ) {
        assert_eq!(entry(winner, 2, 1).conflicts_with(&entry(loser, 1, 2)), conflict);
    }

    #[rstest]
    #[case::stamp(Entry { version: Version { stamp: (1 << 62) - (1 << 56), author: device(1), seen: VersionVector::default() }, ..entry(file(1), 1, 1) })]
    #[case::setuid(Entry { mode: Mode(0o4755), ..entry(file(1), 1, 1) })]
    #[case::nanoseconds(Entry { mtime: FileTime { secs: 0, nanos: 1_000_000_000 }, ..entry(file(1), 1, 1) })]
    #[case::size(entry(Kind::File { size: 1 << 63, content: ContentId([0; 32]) }, 1, 1))]
    #[case::no_target(entry(Kind::Symlink { target: vec![] }, 1, 1))]
    #[case::a_nul_in_a_target(entry(Kind::Symlink { target: vec![b'a', 0] }, 1, 1))]
    #[case::counter({
        let seen = VersionVector::default().with(device(1), 1 << 62);
        Entry { version: Version { stamp: 1, author: device(1), seen }, ..entry(file(1), 1, 1) }
    })]
    fn what_passes_a_limit_is_refused(#[case] bad: Entry) {
        assert!(bad.check().is_err());
        assert!(entry(file(1), 1, 1).check().is_ok());
    }
}
