//! What is still to come, here and to a linked machine, and what needs attention.
//!
//! Deliberately not here: how it is made (`io/control/need.rs`).

use crate::model::DeviceId;
use crate::views::status::{EntryView, PathNote, TransferView, UploadView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/need`: what is to come to a machine, in the order of paths.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NeedView {
    /// Whose need it is.
    pub machine: String,
    pub device: DeviceId,
    /// How many paths in all.
    pub paths: u64,
    pub entries: Vec<EntryView>,
    /// Where to go on, as `after`; none at the end.
    pub next: Option<String>,
}

/// `GET /api/v1/diff`: what this machine and a linked one still have to do. Each list has at most
/// 10,000 entries.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PeerDiffView {
    /// The linked one.
    pub machine: String,
    pub device: DeviceId,
    pub in_sync: bool,
    /// To come here, and to be deleted here.
    pub download: Vec<EntryView>,
    pub delete_here: Vec<EntryView>,
    /// To come there, and to be deleted there; at most 1,024 of the two together.
    pub upload: Vec<EntryView>,
    pub delete_there: Vec<EntryView>,
    /// How many paths are to change here and there, named or not.
    pub paths_here: u64,
    pub paths_there: u64,
}

/// `GET /api/v1/transfers`: contents on their way, both ways.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TransfersView {
    /// Large ones that come here.
    pub incoming: Vec<TransferView>,
    /// Large ones that go to linked machines.
    pub outgoing: Vec<UploadView>,
    /// Files that wait for their turn to come here, and their bytes.
    pub queued_files: u64,
    pub queued_bytes: u64,
    /// Paths that are being fetched or installed, at most 100.
    pub under_way: Vec<PathNote>,
}

/// `GET /api/v1/problems`, in the order of paths.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProblemsView {
    pub problems: Vec<PathNote>,
    /// Where to go on, as `after`; none at the end.
    pub next: Option<String>,
}
