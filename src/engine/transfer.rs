//! Contents on their way: what is wanted, from where it comes, and its install.
//!
//! Deliberately not here: which version is wanted (`reconcile`), and reading or writing (`io`).

pub(in crate::engine) mod advance;
pub(in crate::engine) mod chunks;
pub(in crate::engine) mod fetch;
pub(in crate::engine) mod install;
pub(in crate::engine) mod kept;
pub(in crate::engine) mod silence;
pub(in crate::engine) mod swarm;
pub(in crate::engine) mod wants;

use crate::model::SyncPath;
use chunks::Swarms;
use std::collections::BTreeSet;
use wants::{Want, Wants};

/// What is on its way.
#[derive(Default)]
pub(in crate::engine) struct Transfer {
    pub(in crate::engine) wants: Wants,
    pub(in crate::engine) swarms: Swarms,
    /// An install may have been interrupted here, by a crash or half way by an error: the disk may
    /// hold what the index does not say. Inspected before anything is installed here (P5).
    pub(in crate::engine) interrupted_installs: BTreeSet<SyncPath>,
    /// A folder that the last check found in order, so that its next child need not ask again.
    pub(in crate::engine) good_parent: Option<SyncPath>,
}

impl Transfer {
    /// The path is wanted, and its last install failed.
    pub(in crate::engine) fn has_failed(&self, path: &SyncPath) -> bool {
        self.wants.get(path).is_some_and(Want::has_failed)
    }
}
