//! What the roles of a machine keep apart, and what a person does about it.
//!
//! Deliberately not here: how it is made (`io/control/roles.rs`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET` and `POST /api/v1/role`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// This machine's name.
    pub machine: String,
    /// `both`, `receive-only` or `send-only`.
    pub role: String,
    /// Changes that are announced to nobody.
    pub local: u64,
    /// Changes of others that stay off the disk.
    pub not_installed: u64,
    /// What would happen to them in the role that was asked for: nothing was changed.
    #[serde(default)]
    pub needs_yes: bool,
}

/// `GET /api/v1/local`: what differs from the group on this machine's disk, and stays so.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LocalView {
    pub machine: String,
    pub role: String,
    pub local: Vec<LocalPathView>,
    pub not_installed: Vec<LocalPathView>,
    /// Where both go on, as `after`; none at the end.
    #[serde(default)]
    pub next: Option<String>,
    /// How many there are of each, named here or not.
    pub local_paths: u64,
    pub not_installed_paths: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalPathView {
    pub path: String,
    /// What the disk is beside the group: `new`, `edited`, `attributes` or `deleted`.
    pub change: String,
}

/// `POST /api/v1/promote`, `/api/v1/revert` and `/api/v1/override`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SettledView {
    /// Those that were meant, and how many there are.
    pub changes: Vec<LocalPathView>,
    pub paths: u64,
    /// An override without `yes`: nothing was changed.
    #[serde(default)]
    pub needs_yes: bool,
}
