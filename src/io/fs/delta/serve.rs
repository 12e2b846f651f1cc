//! The end that has the new version: what differs from the version that the asker has.
//!
//! Against our own signature of that version where it is kept, else against the asker's. What is
//! made is remembered while it is small: peers tend to hold the same version, and one delta serves
//! them all.

use super::sum::DiffInput;
use super::{Deltas, beneath};
use crate::delta::diff::{self, DiffError, NewVersion};
use crate::delta::has_signature;
use crate::delta::signature::Signature;
use crate::engine::ServedFile;
use crate::io::fs::beneath::LastFolder;
use crate::model::ContentId;
use crate::wire::packet::Ending;
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::time::Duration;

/// What the search for a peer's blocks may cost (CPU), whatever it says they are (P9).
const PEER_BUDGET: Duration = Duration::from_secs(2);
/// Our own signatures are of contents that a peer may have made. A search that is slower than this
/// was meant to be (bytes a second).
const SLOWEST_SEARCH: u64 = 64 << 20;
/// Deltas of up to this are remembered, and sent once they are whole (bytes).
const SMALL_BYTES: usize = 4 << 20;
/// All that are remembered (bytes).
const MADE_BYTES: usize = 16 << 20;

/// What a peer asks for: `file` by what differs from a base that it has.
pub struct DeltaRequest {
    pub file: ServedFile,
    pub base: ContentId,
    pub base_size: u64,
}

/// The last deltas, the latest last.
#[derive(Default)]
pub(super) struct DeltaCache {
    deltas: VecDeque<((ContentId, ContentId), Bytes)>,
}

impl DeltaCache {
    fn get(&mut self, key: &(ContentId, ContentId)) -> Option<Bytes> {
        let at = self.deltas.iter().position(|(other, _)| other == key)?;
        let found = self.deltas.remove(at)?;
        self.deltas.push_back(found.clone());
        Some(found.1)
    }

    fn put(&mut self, key: (ContentId, ContentId), delta: Bytes) {
        self.deltas.push_back((key, delta));
        while self.deltas.iter().map(|(_, delta)| delta.len()).sum::<usize>() > MADE_BYTES {
            self.deltas.pop_front();
        }
    }
}

impl Deltas {
    /// Makes the delta for `peer` and hands it to `send` in parts; `false` from there: nobody takes
    /// it any more. `ask`: the peer's signature.
    pub fn serve(
        &self,
        asked: &DeltaRequest,
        peer: &str,
        ask: &mut dyn FnMut() -> Option<Vec<u8>>,
        send: &mut dyn FnMut(Bytes) -> bool,
    ) -> Ending {
        let key = (asked.base, asked.file.content);
        if let Some(delta) = self.remembered(&key) {
            return say(asked, delta, send);
        }
        if !has_signature(asked.file.size) || !has_signature(asked.base_size) {
            return Ending::NoDelta;
        }
        // Before anything is locked: a peer may take its time.
        let Some((base, is_ours)) = self.signature_of_base(asked, peer, ask) else { return Ending::NoDelta };
        let Some(making) = self.making.take() else {
            tracing::debug!("'{}' goes whole: another delta takes its time", asked.file.path);
            return Ending::NoDelta;
        };
        if let Some(delta) = self.remembered(&key) {
            drop(making);
            return say(asked, delta, send);
        }
        let mut outgoing = DeltaSink { waiting: Vec::new(), is_large: false, send };
        match self.make(asked, &base, is_ours, &mut outgoing) {
            Ok(()) if outgoing.is_large => {
                drop(making);
                if outgoing.flush() { Ending::Whole } else { Ending::NotHere }
            }
            Ok(()) => {
                let delta = Bytes::from(outgoing.waiting);
                // One made against a peer's word serves that peer alone.
                if is_ours {
                    self.made.lock().unwrap_or_else(PoisonError::into_inner).put(key, delta.clone());
                }
                drop(making);
                say(asked, delta, send)
            }
            Err(DiffError::Read(why)) if why.kind() == io::ErrorKind::UnexpectedEof => Ending::Changed,
            Err(DiffError::Read(why)) if why.kind() == io::ErrorKind::NotFound => Ending::NotHere,
            Err(DiffError::Read(why)) => {
                tracing::warn!("'{}' cannot be read for {peer}: {why}", asked.file.path);
                Ending::Unreadable
            }
            Err(why @ (DiffError::Unrelated | DiffError::Budget)) => {
                tracing::debug!("'{}' goes whole: {why}", asked.file.path);
                Ending::NoDelta
            }
            Err(DiffError::Stopped) => Ending::NotHere,
        }
    }

    /// Kept here, which counts as ours, or else the peer's.
    fn signature_of_base(
        &self,
        asked: &DeltaRequest,
        peer: &str,
        ask: &mut dyn FnMut() -> Option<Vec<u8>>,
    ) -> Option<(Signature, bool)> {
        if let Some(base) = self.kept(&asked.base, asked.base_size) {
            return Some((base, true));
        }
        match Signature::of_peer(asked.base_size, ask()?) {
            Ok(base) => Some((base, false)),
            Err(why) => {
                tracing::warn!("no delta of '{}' is made for {peer}: {why}; it goes whole", asked.file.path);
                None
            }
        }
    }

    fn remembered(&self, key: &(ContentId, ContentId)) -> Option<Bytes> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    fn make(
        &self,
        asked: &DeltaRequest,
        base: &Signature,
        is_ours: bool,
        outgoing: &mut DeltaSink,
    ) -> Result<(), DiffError> {
        let file = &asked.file;
        let opened = self.root.open_served(&mut LastFolder::default(), file)?;
        let ours = self.kept(&file.content, file.size);
        let new =
            NewVersion { file: &DiffInput(&opened), size: file.size, chunks: ours.as_ref().map(Signature::chunks) };
        let began = cpu_time();
        let own_budget = PEER_BUDGET + Duration::from_secs(file.size / SLOWEST_SEARCH);
        let budget = if is_ours { own_budget } else { PEER_BUDGET };
        let mut may_go_on = || cpu_time().saturating_sub(began) < budget;
        diff::diff(base, &new, &mut may_go_on, &mut |part| outgoing.take(part))?;
        // What was read is what its content says, and one delta serves others as well.
        if beneath::facts(&opened).map_err(io::Error::from)?.stat == file.stat {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
        }
    }
}

/// Gathers a delta until it is whole or no longer small; from then on it goes as it comes.
struct DeltaSink<'a> {
    waiting: Vec<u8>,
    is_large: bool,
    send: &'a mut dyn FnMut(Bytes) -> bool,
}

impl DeltaSink<'_> {
    fn take(&mut self, part: &[u8]) -> bool {
        self.waiting.extend_from_slice(part);
        self.is_large |= self.waiting.len() > SMALL_BYTES;
        !self.is_large || self.waiting.len() < SMALL_BYTES / 8 || self.flush()
    }

    fn flush(&mut self) -> bool {
        self.waiting.is_empty() || (self.send)(std::mem::take(&mut self.waiting).into())
    }
}

fn say(asked: &DeltaRequest, delta: Bytes, send: &mut dyn FnMut(Bytes) -> bool) -> Ending {
    tracing::debug!("'{}' goes as a delta of {} bytes", asked.file.path, delta.len());
    if send(delta) { Ending::Whole } else { Ending::NotHere }
}

/// Of this thread.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
