//! Leaving the group, as the local API says it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/v1/leave`: what was left, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LeaveView {
    pub directory: String,
    /// The names of the machines that were linked once and not forgotten.
    pub machines: Vec<String>,
    /// What is not done between this machine and the others, a sentence each.
    pub undone: Vec<String>,
    pub dry_run: bool,
}
