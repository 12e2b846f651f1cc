//! What `dirsync verify` says.
//!
//! Deliberately not here: how it is made (`io/control/verified.rs`).

use crate::model::DeviceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The least that is read a second, as the least that `--limit` lets through: a run that is slower
/// never ends.
pub const LEAST_RATE: u64 = 64 << 10;

/// `GET /api/v1/verify`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VerifyView {
    /// What was asked for, now or last since the daemon started.
    pub run: Option<RunView>,
    pub suspects: Vec<SuspectView>,
    pub monthly: MonthlyView,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// A file, or everything in a folder; all where it is null.
    pub path: Option<String>,
    pub began_ns: String,
    pub over: bool,
    /// It is over because a person stopped it, before all was read.
    #[serde(default)]
    pub stopped: bool,
    pub files: u64,
    pub files_of: u64,
    pub bytes: u64,
    pub bytes_of: u64,
    /// Files that are suspect since.
    pub found: u64,
    /// Files that were in use or could not be opened, and were not judged.
    pub passed_over: u64,
    /// The first of them.
    #[serde(default)]
    pub in_use: Vec<String>,
    /// What the linked machines hold, if they were asked.
    pub peers: Option<TallyView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SuspectView {
    pub path: String,
    pub found_ns: String,
    pub unreadable: bool,
    /// `heal` or `keep`, if it was decided.
    pub decision: Option<String>,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MonthlyView {
    pub began_ns: String,
    pub files: u64,
    pub bytes: u64,
    /// Of the last one that was whole.
    pub last_began_ns: Option<String>,
    pub last_ended_ns: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TallyView {
    pub machines: Vec<MachineView>,
    /// How many files are whole on how many machines, this one among them.
    pub holders: Vec<HoldersView>,
    /// Those that are not whole everywhere, at most 1,000.
    pub files: Vec<FileView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MachineView {
    pub device: DeviceId,
    pub name: String,
    /// It went before it had answered everything.
    pub gone: bool,
    pub verified: u64,
    pub mismatched: u64,
    pub missing: u64,
    /// All that it holds was hashed there on this day or later; null: not all of it since it was
    /// found.
    pub hashed_since_ns: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HoldersView {
    pub machines: u64,
    pub files: u64,
}

/// Names of machines.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    pub path: String,
    pub here: bool,
    pub verified: Vec<String>,
    pub mismatched: Vec<String>,
    pub missing: Vec<String>,
}
