//! How often each sort of thing was reported since the start, for who watches from afar.
//!
//! Deliberately not here: what lines become of it, and the names that monitors know
//! (`control/metrics.rs`).

use crate::engine::Report;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReportCounts {
    /// Changes of other machines that were installed here, and what of their contents came over the
    /// network.
    pub received: u64,
    pub received_bytes: u64,
    /// Changes of this machine that others have, or were told of.
    pub sent: u64,
    pub conflicts: u64,
    pub merges: u64,
    pub problems: u64,
    /// Times that something began to wait for a person.
    pub holds: u64,
    pub halts: u64,
    pub suspects: u64,
    pub walks: u64,
    pub walks_ns: u64,
    pub last_walk_ns: u64,
    /// Of the last walk.
    pub walked_paths: u64,
}

impl ReportCounts {
    pub(super) fn add(&mut self, report: &Report) {
        match report {
            Report::Received { wire_bytes, .. } => {
                self.received += 1;
                self.received_bytes = self.received_bytes.saturating_add(*wire_bytes);
            }
            Report::Sent { .. } | Report::Announced { .. } => self.sent += 1,
            Report::Conflict { .. } => self.conflicts += 1,
            Report::Merged { .. } => self.merges += 1,
            Report::Problem { .. } => self.problems += 1,
            Report::Held { .. }
            | Report::HeldFromPeers { .. }
            | Report::HeldReverts { .. }
            | Report::HeldUnignored { .. } => self.holds += 1,
            Report::Halted { .. } => self.halts += 1,
            Report::Suspect { .. } => self.suspects += 1,
            Report::Scanned { paths, took_ns, .. } => {
                self.walks += 1;
                self.walks_ns = self.walks_ns.saturating_add(*took_ns);
                (self.last_walk_ns, self.walked_paths) = (*took_ns, *paths);
            }
            _ => {}
        }
    }
}
