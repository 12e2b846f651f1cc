//! What is kept in history, here and elsewhere.
//!
//! Deliberately not here: how it is made (`io/control/view.rs`).

use crate::views::status::PathNote;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/history`, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    pub kept: Vec<KeptView>,
    /// Where to go on, as `after`; none at the end.
    #[serde(default)]
    pub next: Option<String>,
    /// Linked machines that did not say what they keep.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// Answer of `POST /api/v1/restore`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RestoredView {
    pub restored: Vec<KeptView>,
    /// What could not be, and why.
    pub failed: Vec<PathNote>,
    /// Nothing was done: that is what would come back.
    #[serde(default)]
    pub dry_run: bool,
    /// Linked machines that did not say what they keep.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// Something in history.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeptView {
    pub path: String,
    /// When it was replaced or deleted.
    pub time_ns: String,
    /// `replaced`, `deleted`, `conflict` or `suspect`.
    pub reason: String,
    pub size: u64,
    /// Below `.dirsync/history`; empty if it is not kept here.
    pub name: String,
    /// The other machines that keep it.
    #[serde(default)]
    pub machines: Vec<String>,
}
