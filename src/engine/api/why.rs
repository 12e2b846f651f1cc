//! Why a path is as it is: the answer to `dirsync why`.
//!
//! Reads the engine's state and changes nothing. Deliberately not here: the words
//! (`io::control::why`).

use crate::engine::api::ignore::Covering;
use crate::engine::api::index::Row;
use crate::engine::api::local::LocalKind;
use crate::engine::api::problem::Problem;
use crate::model::SyncPath;

/// How a path stands on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The disk here holds what the group has.
    Synced { row: Row, author: String, holders: Holders },
    /// The disk here does not hold it yet.
    Pending { row: Option<Row>, author: String, waits_for: WaitsFor },
    /// A pattern covers it.
    Ignored(Covering),
    /// Only a pattern covers it that a peer took away; it waits for a person.
    NewlyUnignored(Covering),
    /// It needs attention: why, and what to do.
    Problem { row: Option<Row>, problem: Problem },
    /// It was changed here, is announced to nobody, and stays so.
    Local { row: Row, author: String, kind: LocalKind },
    /// The group has something else, which stays off this disk; how the disk differs from it.
    NotInstalled { row: Row, author: String, kind: LocalKind },
    /// Deleted, here and in the group.
    Deleted { row: Row, author: String },
    /// The index knows nothing of it.
    Unknown,
}

/// Which linked machines hold a path as it is here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holders {
    /// They hold the same tree.
    pub whole: Vec<String>,
    /// They are behind: whether they hold this path is not known.
    pub unknown: Vec<String>,
}

/// What keeps a wanted path from being on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitsFor {
    /// A change on the disk is being inspected.
    Inspection,
    Paused,
    Halted(String),
    /// It is held back until a person confirms.
    Person,
    /// No linked machine can send it.
    Machine,
    /// Its folder is not on disk yet.
    Folder(SyncPath),
    /// The folder that it replaces or deletes still holds something.
    Emptying,
    /// The disk was full; tried again soon.
    Room,
    /// So many files are before it.
    Turn(u64),
    Transfer {
        from: Vec<String>,
        /// Here, and in all (bytes), where it comes in chunks.
        came: Option<(u64, u64)>,
    },
    Install,
    /// A try failed; the next one follows.
    NextTry(u32),
}
