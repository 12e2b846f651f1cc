//! What a peer asks for on a link, and how far it was sent, for `dirsync status`.
//!
//! May import `transfer`, `wire` and `model`. Deliberately not here: what may be served (the engine
//! decides), and reading it.

use super::Link;
use crate::io::net::transfer::Serving;
use crate::model::SyncPath;
use crate::wire::packet::Part;
use std::sync::Arc;

/// What the peer asks for, and the size of that content.
#[derive(Clone)]
pub(super) struct OpenedUpload {
    pub serving: Arc<Serving>,
    pub part: Part,
    pub size: u64,
    /// The file that is read for it, once the engine has said which.
    pub path: Option<SyncPath>,
}

impl OpenedUpload {
    pub fn new(part: Part, size: u64) -> Self {
        Self { serving: Arc::default(), part, size, path: None }
    }
}

/// A large content on its way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub path: SyncPath,
    /// Sent, of `size`.
    pub bytes: u64,
    pub size: u64,
}

impl Link {
    /// What the peer is being sent. Of what it asks for in parts, what it was sent before counts
    /// too.
    pub fn uploads(&self) -> Vec<Upload> {
        let mut uploads = self.served.uploads();
        for asked in self.gate().serving.values() {
            let Some(path) = &asked.path else { continue };
            let bytes = asked.serving.taken();
            match uploads.iter_mut().find(|upload| upload.path == *path) {
                Some(upload) => upload.bytes = (upload.bytes + bytes).min(upload.size),
                None if asked.part == Part::Whole => {
                    uploads.push(Upload { path: path.clone(), bytes: bytes.min(asked.size), size: asked.size });
                }
                None => {}
            }
        }
        uploads
    }
}
