//! Where an invitation code comes from. Deliberately not here: reading it (`daemon/joining.rs`).

use crate::model::InvitationCode;
use crate::model::invitation::CodeError;

/// What `--join` without a value stands for: in no code.
pub(super) const ASK: &str = "?";

/// Where the invitation code comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeSource {
    Given(InvitationCode),
    /// Its first line.
    StandardInput,
    /// The person at it is asked.
    Terminal,
}

impl CodeSource {
    pub(super) fn parse(text: &str) -> Result<Self, CodeError> {
        match text {
            ASK => Ok(Self::Terminal),
            "-" => Ok(Self::StandardInput),
            code => Ok(Self::Given(code.parse()?)),
        }
    }
}
