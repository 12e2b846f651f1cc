//! Deltas between files on disk and peers: the signatures that are kept, the last deltas made, and the work of both ends.
//!
//! May import `delta`, `wire` and `engine`'s values. Deliberately not here: frames and streams (`link`), and which file is
//! asked for or served (the engine decides).

mod patch;
mod serve;
pub mod sum;

pub use patch::Wanted;
pub use serve::Asked;

use super::beneath::{self, LastFolder};
use super::root::Root;
use super::signatures::Signatures;
use super::stage::Stage;
use crate::delta::signature::Signature;
use crate::delta::{has_signature, signature};
use crate::engine::ServedFile;
use crate::model::ContentId;
use serve::Made;
use std::sync::{Arc, Mutex};

/// A delta is at most so much longer than what it makes (bytes): its commands, where nearly everything is said literally.
const OVERHEAD_BYTES: u64 = 64 * 1024;

/// What both ends of deltas share.
pub struct Deltas {
    root: Arc<Root>,
    stage: Arc<Stage>,
    /// `None`: none are kept, and only peers' serve.
    signatures: Option<Arc<Signatures>>,
    made: Mutex<Made>,
    /// Held while a delta is made: others may want the same, and each takes memory for an index (P9).
    making: Mutex<()>,
}

impl Deltas {
    pub fn new(root: Arc<Root>, stage: Arc<Stage>, signatures: Option<Arc<Signatures>>) -> Arc<Self> {
        Arc::new(Self { root, stage, signatures, made: Mutex::default(), making: Mutex::default() })
    }

    fn kept(&self, content: &ContentId, size: u64) -> Option<Signature> {
        self.signatures.as_ref()?.get(content, size)
    }

    /// The signature of a file here, as it travels: kept, or made now. `None`: the file is not that content any more.
    pub fn signature_of(&self, file: &ServedFile) -> Option<Vec<u8>> {
        if !has_signature(file.size) {
            return None;
        }
        if let Some(kept) = self.kept(&file.content, file.size) {
            return Some(kept.wire().to_vec());
        }
        let opened = self.root.open_served(&mut LastFolder::default(), file).ok()?;
        let (content, signature) = sum::sum(&opened, file.size, &|| false, &mut Vec::new()).ok()??;
        let signature = signature.filter(|_| content == file.content)?;
        if beneath::facts(&opened).ok()?.stat != file.stat {
            return None;
        }
        if let Some(signatures) = &self.signatures {
            signatures.put(&content, &signature);
        }
        Some(signature.wire().to_vec())
    }
}

/// The longest delta that makes a file of this size (bytes).
pub fn most_bytes(size: u64) -> u64 {
    size.saturating_add(OVERHEAD_BYTES)
}

/// How long the signature of a file of this size is on the wire (bytes).
pub fn signature_bytes(size: u64) -> Option<usize> {
    signature::wire_bytes(size)
}
