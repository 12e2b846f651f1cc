//! Deletions and reverts that come from peers: installed, or held until a person answers.
//!
//! Deliberately not here: what is missing on this disk (`hold.rs`).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::digest::entry_hash;
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{FEW_LOSSES, LOSSES_QUIET_NS};
use crate::engine::safety::Safety;
use crate::engine::safety::guard::{self, LossVerdict};
use crate::engine::safety::hold::Loss;
use crate::engine::safety::ledger::Fate;
use crate::model::{Kind, SyncPath};
use std::collections::BTreeSet;

/// What a row's winner would take away from the disk.
pub(in crate::engine) fn loss(row: &Row) -> Option<Loss> {
    let (on_disk, _) = row.live_on_disk()?;
    let (content, _) = on_disk.file()?;
    match row.head.kind {
        Kind::Deleted { .. } => Some(Loss::Deleted),
        Kind::File { content: other, .. } if other != content && row.head.mtime < on_disk.mtime => Some(Loss::Reverted),
        _ => None,
    }
}

impl Safety {
    /// A winner that takes away what is on disk here is counted, unless it was confirmed.
    pub(in crate::engine) fn note_loss<I: Index>(&mut self, core: &mut Core<I>, now: Now, path: &SyncPath, row: &Row) {
        let is_own = row.head.version.author == core.config.device;
        let Some(loss) = loss(row).filter(|_| !is_own && !self.guard.allow) else {
            return self.guard.settled(path);
        };
        let digest = entry_hash(path, &row.head);
        if self.is_named_loss(core, now, &digest) {
            return self.guard.settled(path);
        }
        match self.guard.by_peers.losing.insert(path.clone(), (loss, digest)) {
            Some((_, known)) => drop(self.guard.by_peers.losing_by_digest.remove(&known)),
            None => self.guard.last_loss = now.mono,
        }
        self.guard.by_peers.losing_by_digest.insert(digest, path.clone());
    }

    /// A folder whose removal waits for what is held in it.
    pub(in crate::engine) fn holds_below(&self, dir: &SyncPath) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.guard.by_peers.from_peers.range::<SyncPath, _>((Excluded(dir), Unbounded));
        let alike = after.take_while(|path| path.as_bytes().starts_with(dir.as_bytes()));
        alike.into_iter().any(|path| path.is_below(dir))
    }
}

impl<I: Index> Engine<I> {
    /// Whether a wanted change is a loss that must wait or is held.
    pub(in crate::engine) fn holds_loss(&mut self, now: Now, path: &SyncPath) -> bool {
        if !self.safety.guard.by_peers.losing.contains_key(path) {
            return false;
        }
        if self.safety.guard.by_peers.from_peers.contains(path) {
            self.transfer.hold_want(path);
            return true;
        }
        let before = self.safety.ledger.sum(Fate::Lost).files + self.safety.ledger.sum(Fate::Reverted).files;
        let losses = before + self.safety.guard.by_peers.losing.len() as u64;
        if losses <= self.safety.guard.cleared {
            return false;
        }
        let has_quiesced = self.safety.guard.last_loss + LOSSES_QUIET_NS;
        if self.safety.guard.by_peers.losing.len() > FEW_LOSSES && now.mono < has_quiesced {
            self.transfer.wait(now, path, Some(has_quiesced - now.mono));
            return true;
        }
        let holds = [Loss::Deleted, Loss::Reverted].map(|kind| self.judge_peers(now, kind)).contains(&true);
        if !holds {
            self.safety.guard.cleared = losses;
            return false;
        }
        self.holds_loss(now, path)
    }

    fn judge_peers(&mut self, now: Now, kind: Loss) -> bool {
        let held = &self.safety.guard.by_peers.from_peers;
        let paths = self.safety.guard.losing_as(kind);
        if paths.is_subset(held) {
            return false;
        }
        let (verdict, lost) = match kind {
            Loss::Deleted => self.judge_missing(now, &paths),
            Loss::Reverted => {
                let lost = self.losses(now, &paths, &paths);
                let all = lost.and(self.safety.ledger.sum(Fate::Reverted));
                (guard::judge_losses(all, self.safety.ledger.total()), lost)
            }
        };
        let of = self.safety.ledger.total().files;
        if verdict != LossVerdict::Hold || lost.files == 0 {
            if verdict == LossVerdict::Announce && kind == Loss::Deleted {
                let by = paths.iter().filter_map(|path| self.core.index.get(path)).map(|row| row.head.version.author);
                let by =
                    by.collect::<BTreeSet<_>>().iter().map(|device| self.peers.name_of(&self.core, device)).collect();
                self.report_losses(now, &paths, by);
            }
            return false;
        }
        let report = match kind {
            Loss::Deleted => Report::HeldFromPeers { deletions: lost.files, of },
            Loss::Reverted => Report::HeldReverts { reverts: lost.files, of, by_peers: true },
        };
        self.core.out.push(Action::Report(report));
        for path in &paths {
            self.transfer.hold_want(path);
        }
        self.safety.guard.by_peers.from_peers.extend(paths);
        true
    }
}
