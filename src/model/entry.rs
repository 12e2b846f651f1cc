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

/// A time as the file system keeps it: seconds since 1970 (may be negative) and nanoseconds below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FileTime {
    pub secs: i64,
    pub nanos: u32,
}

impl FileTime {
    /// Nanoseconds since 1970, not below 0 and not above the stamps' limit.
    pub fn as_stamp(self) -> u64 {
        let ns = i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos);
        ns.clamp(0, i128::from(super::version::STAMP_LIMIT - 1)) as u64
    }
}

/// What a path holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing any more. `at`: when it was deleted, nanoseconds since 1970; no part of any comparison.
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

    /// The total order whose maximum wins (P3): stamp, live over deleted, content, author; then all that
    /// is left, so that two different entries are never equal and merging is a maximum.
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

    /// Whether `loser` was made without knowledge of this winner and says something else: a conflict to report.
    /// A deletion that lost to an edit took nothing from anyone.
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
            Kind::Symlink { target } if target.is_empty() || target.len() > 4095 || target.contains(&0) => {
                Err("link target empty, over 4,095 bytes or with a NUL")
            }
            _ => Ok(()),
        }
    }
}
