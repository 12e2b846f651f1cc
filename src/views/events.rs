//! What `GET /api/v1/events` says, one after the other.
//!
//! Deliberately not here: the names of the events (`io/feed.rs`).

use crate::model::DeviceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an event says of itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EventData {
    Begin(BeginEvent),
    Reset(ResetEvent),
    Path(PathEvent),
    Line(LineEvent),
}

/// `begin`: from here on, nothing is left out that is not said to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BeginEvent {
    pub version: String,
    pub device: DeviceId,
    pub name: String,
}

/// `reset`: events are gone that were not read. Who keeps a copy of anything reads it anew.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ResetEvent {
    /// How many; null after a restart of the daemon.
    pub missed: Option<u64>,
}

/// `file_added`, `file_modified`, `file_deleted`, `file_renamed`, `file_pending`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PathEvent {
    pub time_ns: String,
    pub path: String,
    /// Its name before, of one that was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `file`, `directory`, `symlink` or `deleted`; of what was deleted on this disk, what it was.
    pub kind: String,
    pub size: u64,
    pub content: Option<String>,
    /// Who made the group's version of it, and when.
    pub author: DeviceId,
    pub stamp_ns: String,
}

/// All others: a line of the log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LineEvent {
    pub time_ns: String,
    pub path: Option<String>,
    pub peer: Option<String>,
    pub size: Option<u64>,
    pub paths: Option<u64>,
    pub text: String,
}
