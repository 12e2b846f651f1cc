//! What is not synced, as the local API says it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/ignores`, and the answer of `PUT /api/v1/ignores`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IgnoresView {
    /// The file that has them, in the root of the folder; it is synced.
    pub file: String,
    /// The file is there.
    pub exists: bool,
    pub text: String,
    /// Who wrote the version that the group has, if there is one.
    pub machine: Option<String>,
    /// Lines that are no patterns, and cover nothing.
    pub bad: Vec<BadPatternView>,
}

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadPatternView {
    /// From 1; 0 where it is all of them.
    pub line: u64,
    pub text: String,
    pub why: String,
}

/// `POST /api/v1/ignores/preview`: what would change with these patterns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IgnoresPreviewView {
    /// Synced now, and no more with them.
    pub newly_ignored: PreviewedPathsView,
    /// Ignored now, and synced with them. What was never synced is unknown to the index, and is not
    /// among them.
    pub newly_synced: PreviewedPathsView,
    pub bad: Vec<BadPatternView>,
    /// How many paths of the index were looked at.
    pub seen: u64,
    /// It ended before all of them were: there may be more.
    pub cut: bool,
}

/// How much it is, and what of it is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewedPathsView {
    /// Files, links and folders.
    pub paths: u64,
    /// Of the files.
    pub bytes: u64,
    /// At most 20, and nothing below a folder that is named.
    pub examples: Vec<String>,
}
