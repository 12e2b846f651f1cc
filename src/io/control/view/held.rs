//! What is held, here and on linked machines, and what an undo brings back, as the local API shows
//! it.
//!
//! Foreign text is escaped. Deliberately not here: how to ask for it (`../elsewhere.rs`,
//! `../undo.rs`).

use crate::engine::{HeldByMachine, HeldPath, HeldPaths, HeldWhy, PeerStatus, Status};
use crate::model::{DeviceId, text};
use crate::views::held::{HeldElsewhereView, HeldPathView, HeldView};

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
        let HeldPaths { paths, deletions, reverts, dated_ahead, unignored, .. } = held;
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
            HeldWhy::Pending => "pending",
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
        let HeldPaths { paths, deletions, reverts, dated_ahead, unignored, .. } = held;
        let (machine, elsewhere) = (text::escape(status.name.as_bytes()), HeldElsewhereView::all(status));
        let held = paths.into_iter().map(Into::into).collect();
        Self { machine, elsewhere, silent: Vec::new(), held, next: None, deletions, reverts, dated_ahead, unignored }
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
