//! Conflicts, their sides, and what was decided.
//!
//! Deliberately not here: how it is made (`io/control/view.rs`).

use crate::model::DeviceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/conflicts`, oldest first; `more`: ask again with `after` set to the last `id`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ConflictsView {
    pub conflicts: Vec<ConflictView>,
    pub more: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ConflictView {
    pub id: i64,
    pub path: String,
    /// When it was found here.
    pub time_ns: String,
    pub winner: SideView,
    pub loser: SideView,
    /// Which of the two is this machine's: `winner` or `loser`; null if neither is, or both are. A
    /// loser that was on this machine's disk is, whoever made it.
    #[serde(default)]
    pub ours: Option<String>,
    /// The loser's name in this machine's history.
    pub kept: Option<String>,
    /// The loser's copy in the folder.
    pub beside: Option<String>,
    /// How it was decided, if it was.
    pub settled: Option<String>,
}

/// One of the two versions of a conflict.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SideView {
    /// Its time and device, as `keep` takes it and the names of copies tell it.
    pub version: String,
    /// `file`, `directory`, `symlink` or `deleted`.
    pub kind: String,
    pub size: u64,
    pub stamp_ns: String,
    pub author: DeviceId,
    /// The author's name, as this machine knows it.
    pub machine: String,
    pub content: Option<String>,
}

/// `GET /api/v1/conflicts/diff`: from ours to what is at the path now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DiffView {
    pub path: String,
    pub ours: SideView,
    pub theirs: SideView,
    /// Why there are no lines to show.
    pub note: Option<String>,
    pub lines: Vec<DiffLine>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DiffLine {
    /// `@`, a space, `-` or `+`.
    pub sign: char,
    /// Control characters are escaped as `\xNN`; tabs and backslashes stay.
    pub text: String,
}

/// Answer of `POST /api/v1/conflicts/keep`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DecidedView {
    pub path: String,
    /// What the path holds now.
    pub version: String,
    /// Whether it was brought back from history for that.
    pub restored: bool,
    /// Copies of losers that are still in the folder.
    pub beside: Vec<String>,
}
