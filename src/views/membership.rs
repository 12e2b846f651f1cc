//! What the API says of the list of machines, and of what takes one off it.

use crate::model::DeviceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A machine that does not belong to the group any more.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RemovedView {
    pub device: DeviceId,
    pub name: String,
    /// The name of the machine where that was said; its own if it left.
    pub removed_by: String,
    /// When that was (ns since 1970).
    pub removed_ns: String,
    /// It left by itself.
    pub left: bool,
}

/// `POST /api/v1/remove` and `POST /api/v1/rotate`: what was done, or with `dry_run` would be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RotatedView {
    pub dry_run: bool,
    /// The machine that is removed.
    pub device: Option<DeviceId>,
    pub name: Option<String>,
    /// The group gets another secret. False with --open, where a machine is only forgotten.
    pub rotates: bool,
    /// The machines that get the new secret when they are linked.
    pub machines: Vec<String>,
    /// Linked machines of a version that cannot take another secret: they are out until it is
    /// upgraded.
    pub left_behind: Vec<String>,
}
