//! Invitations, as the local API says them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A new invitation. Its code is said this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InviteView {
    pub code: String,
    /// What to run on the other machine.
    pub command: String,
    /// How many machines may join with it.
    pub uses: u32,
    /// They may only read.
    #[serde(default)]
    pub read_only: bool,
    pub seconds_left: u64,
    /// The command as a QR code: its rows, in which `#` is dark and `.` is light. A camera needs a
    /// light margin of 4 around it.
    #[serde(default)]
    pub qr: Vec<String>,
    /// This machine's addresses, for `--peer` where no broadcast reaches it.
    pub addresses: Vec<String>,
}

/// An invitation that is open.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenInvitationView {
    pub uses_left: u32,
    pub seconds_left: u64,
}

/// Those that are open, or those that were closed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InvitationsView {
    pub invitations: Vec<OpenInvitationView>,
}
