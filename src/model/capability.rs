//! What a member may do, by what it can prove: not by what it says.

use serde::{Deserialize, Serialize};

/// Shown by the proofs of a link, never by a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// It knows the group's secret.
    #[default]
    Write,
    /// It knows what is derived from the secret: enough to read and to serve.
    ReadOnly,
}

impl Capability {
    pub fn writes(self) -> bool {
        self == Self::Write
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::ReadOnly => "read-only",
        }
    }
}
