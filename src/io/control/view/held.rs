//! What is held, here and on linked machines, and what an undo brings back, as the local API shows
//! it.
//!
//! Foreign text is escaped. Deliberately not here: how to ask for it (`../elsewhere.rs`,
//! `../undo.rs`).

use crate::engine::{HeldByMachine, HeldPath, HeldPaths, HeldWhy, PeerStatus, Status};
use crate::model::{DeviceId, text};
use serde::{Deserialize, Serialize};

/// What waits for a person here: answer of `GET /v1/held`, and of `POST /v1/confirm`, which lets it
/// go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldView {
    /// This one.
    pub machine: String,
    /// What linked machines hold.
    pub elsewhere: Vec<HeldElsewhereView>,
    /// Linked machines that did not answer, or are too old to be asked. What they are shown to hold
    /// is what they said last.
    #[serde(default)]
    pub silent: Vec<String>,
    /// At most 10,000 of them.
    pub held: Vec<HeldPathView>,
    pub deletions: u64,
    pub reverts: u64,
    pub dated_ahead: u64,
    pub unignored: u64,
}

/// How much a linked machine holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// Answer of `POST /v1/undo`.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackView {
    pub path: String,
    /// `peers`: from the disks of other machines; `here`: it is on this disk; `history`.
    pub from: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldPathView {
    pub path: String,
    /// `deleted`, `older`, or `dated ahead`.
    pub reason: String,
    /// The machine that made the change.
    pub by: String,
}

impl HeldElsewhereView {
    /// Of those linked machines that hold something.
    pub fn all(status: &Status) -> Vec<Self> {
        let held = |peer: &PeerStatus| {
            let condition = peer.condition.unwrap_or_default();
            Self {
                machine: text::escape(peer.name.as_bytes()),
                device: peer.device,
                deletions: condition.held_deletions,
                reverts: condition.held_reverts,
                dated_ahead: 0,
                unignored: condition.held_unignored,
                held: Vec::new(),
            }
        };
        let holds = |held: &Self| held.deletions + held.reverts + held.unignored > 0;
        status.peers.iter().map(held).filter(holds).collect()
    }

    fn new(machine: String, device: DeviceId, held: HeldPaths) -> Self {
        let HeldPaths { paths, deletions, reverts, dated_ahead, unignored } = held;
        let held = paths.into_iter().map(Into::into).collect();
        Self { machine, device, deletions, reverts, dated_ahead, unignored, held }
    }
}

impl From<HeldPath> for HeldPathView {
    fn from(held: HeldPath) -> Self {
        let reason = match held.why {
            HeldWhy::Deleted => "deleted",
            HeldWhy::Reverted => "older",
            HeldWhy::DatedAhead => "dated ahead",
        };
        let by = text::escape(held.by.as_bytes());
        Self { path: held.path.to_text(), reason: reason.to_owned(), by }
    }
}

impl HeldView {
    /// Nothing is held here.
    pub fn is_empty(&self) -> bool {
        self.deletions + self.reverts + self.dated_ahead + self.unignored == 0
    }

    pub fn new(held: HeldPaths, status: &Status) -> Self {
        let HeldPaths { paths, deletions, reverts, dated_ahead, unignored } = held;
        let (machine, elsewhere) = (text::escape(status.name.as_bytes()), HeldElsewhereView::all(status));
        let held = paths.into_iter().map(Into::into).collect();
        Self { machine, elsewhere, silent: Vec::new(), held, deletions, reverts, dated_ahead, unignored }
    }
}

/// What linked machines answered takes the place of what they said last.
pub fn name_elsewhere(elsewhere: &mut Vec<HeldElsewhereView>, silent: &mut Vec<String>, machines: Vec<HeldByMachine>) {
    for HeldByMachine { device, machine, held } in machines {
        let machine = text::escape(machine.as_bytes());
        let Some(held) = held else {
            silent.push(machine);
            continue;
        };
        elsewhere.retain(|known| known.device != device);
        if !held.is_empty() {
            elsewhere.push(HeldElsewhereView::new(machine, device, held));
        }
    }
}
