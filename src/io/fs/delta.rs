//! Deltas between files on disk and peers: the signatures that are kept, the last deltas made, and
//! the work of both ends.
//!
//! May import `delta`, `wire` and `engine`'s values. Deliberately not here: frames and streams
//! (`link`), and which file is asked for or served (the engine decides).

mod patch;
mod serve;
pub mod sum;

pub use patch::PatchTarget;
pub use serve::DeltaRequest;

use crate::delta::signature::Signature;
use crate::delta::{has_signature, signature};
use crate::engine::ServedFile;
use crate::io::fs::beneath::{self, LastFolder};
use crate::io::fs::root::Root;
use crate::io::fs::stage::Stage;
use crate::io::store::signatures::Signatures;
use crate::model::ContentId;
use crate::wire::packet::Ending;
use bytes::Bytes;
use serve::DeltaCache;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A delta is at most so much longer than what it makes (bytes): its commands, where nearly
/// everything is said literally.
const OVERHEAD_BYTES: u64 = 64 * 1024;
/// How long a delta waits for the one that is being made: its peer may be slow to take it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of a stream: its reader hands it to the thread that writes.
pub enum Arrived {
    Bytes(Bytes),
    Zeros(u64),
    End(Ending),
}

/// What both ends of deltas share.
pub struct Deltas {
    root: Arc<Root>,
    stage: Arc<Stage>,
    /// `None`: none are kept, and only peers' serve.
    signatures: Option<Arc<Signatures>>,
    made: Mutex<DeltaCache>,
    making: Turn,
}

/// Taken while a delta is made: others may want the same, and each takes memory for an index (P9).
struct Turn {
    is_taken: Mutex<bool>,
    given_back: Condvar,
    patience: Duration,
}

/// Gives the turn back when dropped.
struct Taken<'a>(&'a Turn);

impl Turn {
    /// `None`: it did not come in time.
    fn take(&self) -> Option<Taken<'_>> {
        let is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_timeout_while(is_taken, self.patience, |is_taken| *is_taken);
        let (mut is_taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let was_taken = std::mem::replace(&mut *is_taken, true);
        // Lazily: one that is dropped gives the turn back.
        (!was_taken).then(|| Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.given_back.notify_one();
    }
}

impl Deltas {
    pub fn new(root: Arc<Root>, stage: Arc<Stage>, signatures: Option<Arc<Signatures>>) -> Arc<Self> {
        let making = Turn { is_taken: Mutex::default(), given_back: Condvar::new(), patience: PATIENCE };
        Arc::new(Self { root, stage, signatures, made: Mutex::default(), making })
    }

    fn kept(&self, content: &ContentId, size: u64) -> Option<Signature> {
        self.signatures.as_ref()?.get(content, size)
    }

    /// The signature of a file here, as it travels: kept, or made now. `None`: the file is not that
    /// content any more.
    pub fn signature_of(&self, file: &ServedFile) -> Option<Vec<u8>> {
        if !has_signature(file.size) {
            return None;
        }
        if let Some(kept) = self.kept(&file.content, file.size) {
            return Some(kept.wire().to_vec());
        }
        let opened = self.root.open_served(&mut LastFolder::default(), file).ok()?;
        let (content, signature) = sum::sum(&opened, file.size, None, &|| false, &mut Vec::new()).ok()??;
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
