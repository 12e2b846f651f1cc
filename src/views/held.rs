//! What waits for a person, here and elsewhere, and what an undo brings back.
//!
//! Deliberately not here: how it is made (`io/control/view/held.rs`).

use crate::model::DeviceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What waits for a person here: answer of `GET /api/v1/held`, and of `POST /api/v1/confirm`, which
/// lets it go.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeldView {
    /// This one.
    pub machine: String,
    /// What linked machines hold.
    pub elsewhere: Vec<HeldElsewhereView>,
    /// Linked machines that did not answer, or are too old to be asked. What they are shown to hold
    /// is what they said last.
    #[serde(default)]
    pub silent: Vec<String>,
    /// At most 10,000 of them, in the order of paths.
    pub held: Vec<HeldPathView>,
    /// Where to go on, as `after`; none at the end.
    #[serde(default)]
    pub next: Option<String>,
    pub deletions: u64,
    pub reverts: u64,
    pub dated_ahead: u64,
    pub unignored: u64,
}

/// How much a linked machine holds.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeldElsewhereView {
    pub machine: String,
    pub device: DeviceId,
    pub deletions: u64,
    pub reverts: u64,
    #[serde(default)]
    pub dated_ahead: u64,
    pub unignored: u64,
    /// The first of them, where that machine was asked; at most 1,024.
    #[serde(default)]
    pub held: Vec<HeldPathView>,
}

/// Answer of `POST /api/v1/undo`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UndoView {
    /// This one.
    pub machine: String,
    /// What comes back, at most 10,000 of it.
    pub back: Vec<BackView>,
    /// How many paths come back.
    pub paths: u64,
    /// In no history that could be asked: they stay away. At most 10,000.
    pub lost: Vec<String>,
    /// On no disk and in no history that could be asked: they stay held. At most 10,000.
    #[serde(default)]
    pub still_held: Vec<String>,
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// What linked machines hold, as they said last.
    pub elsewhere: Vec<HeldElsewhereView>,
    /// Machines that did not say what they have.
    pub silent: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BackView {
    pub path: String,
    /// `peers`: from the disks of other machines; `here`: it is on this disk; `history`.
    pub from: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeldPathView {
    pub path: String,
    /// `deleted`, `older`, or `dated ahead`.
    pub reason: String,
    /// The machine that made the change.
    pub by: String,
}
