//! What went over all links lately.
//!
//! Deliberately not here: how it is made (`io/control/traffic.rs`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/traffic`: bytes in each step of the last hour, the latest last.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TrafficView {
    /// How long a step is.
    pub step_s: u64,
    pub sent: Vec<u64>,
    pub received: Vec<u64>,
}
