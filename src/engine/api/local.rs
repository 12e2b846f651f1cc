//! What differs on this machine's disk from what the group has, and stays so by its role.
//!
//! Deliberately not here: how that comes about (`reconcile/local.rs`,
//! `reconcile/not_installed.rs`).

use crate::model::SyncPath;

/// How a local change differs from what the group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalKind {
    /// The group has nothing there.
    New,
    Edited,
    /// Permissions or mtime alone.
    Attributes,
    Deleted,
}

/// A path that is not on disk here as the group has it, and stays so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalChange {
    pub path: SyncPath,
    pub kind: LocalKind,
}

/// What differs from the group by this machine's role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DifferingPaths {
    pub local: Vec<LocalChange>,
    pub not_installed: Vec<LocalChange>,
}
