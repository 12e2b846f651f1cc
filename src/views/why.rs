//! How one path stands, and why.
//!
//! Deliberately not here: how it is made (`io/control/why.rs`).

use crate::views::status::EntryView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/why`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    pub path: String,
    /// `synced`, `pending`, `local`, `not_installed`, `ignored`, `problem`, `special` or
    /// `not_there`.
    pub state: String,
    /// The same for a person, without the path.
    pub text: String,
    /// What the group has there.
    pub entry: Option<EntryView>,
    /// Who made that version.
    pub machine: Option<String>,
    /// Linked machines that hold it.
    pub holders: Vec<String>,
    /// Linked machines that are behind, so that it is not known.
    pub unknown: Vec<String>,
    /// What a pending path waits for.
    pub waits_for: Option<String>,
    /// What it waits for does not come by itself: a person, a machine or room is needed.
    #[serde(default)]
    pub blocked: bool,
    pub ignored: Option<IgnoredView>,
}

/// The line that covers a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IgnoredView {
    pub file: String,
    pub line: u64,
    pub pattern: String,
    /// What the pattern matches: the path, or a folder that it is in.
    pub matched: String,
}
