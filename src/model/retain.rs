//! Why something is in history.

use serde::{Deserialize, Serialize};

/// Why a replaced file went to history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetainReason {
    Replaced,
    Deleted,
    Conflict,
    /// Its bytes changed while its stat did not.
    Suspect,
}

impl RetainReason {
    pub fn word(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Conflict => "conflict",
            Self::Suspect => "suspect",
        }
    }
}
