//! Contents on their way: what is wanted, from where it comes, and its install.
//!
//! Deliberately not here: which version is wanted (`reconcile`), and reading or writing (`io`).

pub(super) mod advance;
pub(super) mod chunks;
pub(super) mod fetch;
pub(super) mod install;
pub(super) mod kept;
pub(super) mod silence;
pub(super) mod swarm;
pub(super) mod wants;

use crate::model::SyncPath;
use chunks::Swarms;
use std::collections::BTreeSet;
use wants::{Want, Wants};

/// What is on its way.
#[derive(Default)]
pub(super) struct Transfer {
    pub(super) wants: Wants,
    pub(super) swarms: Swarms,
    /// An install may have been interrupted here, by a crash or half way by an error: the disk may
    /// hold what the index does not say. Inspected before anything is installed here (P5).
    pub(super) interrupted_installs: BTreeSet<SyncPath>,
    /// A folder that the last check found in order, so that its next child need not ask again.
    pub(super) good_parent: Option<SyncPath>,
}

impl Transfer {
    /// The path is wanted, and its last install failed.
    pub(super) fn has_failed(&self, path: &SyncPath) -> bool {
        self.wants.get(path).is_some_and(Want::has_failed)
    }
}
