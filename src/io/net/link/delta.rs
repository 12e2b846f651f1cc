//! Deltas on a link: they share streams, pieces and credit with whole contents; a signature may
//! travel the other way first.
//!
//! Of a peer's signatures, one at a time is taken in, exactly as long as the base's size says (P9).
//! Deliberately not here: what is in a delta (`io/delta`).

use super::sent::Sent;
use super::{Closing, Link};
use crate::engine::{Event, FetchError, FetchId, ServedFile};
use crate::io::fs::delta::{self, DeltaRequest, PatchTarget};
use crate::io::net::transfer::{IncomingContent, MAX_STREAMS, Serving};
use crate::model::{ContentId, SyncPath};
use crate::wire::frame::{self, Packet};
use crate::wire::packet::{Ending, PIECE_BYTES, Part};
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Whoever was asked for a signature has this long: it may have to read a large file for it.
const SIGNATURE_WITHIN: Duration = Duration::from_mins(2);
/// How soon a thread that waits for one sees that the stream was cancelled.
const GLANCE: Duration = Duration::from_millis(100);

/// What deltas add to the accounts behind a link's gate.
#[derive(Default)]
pub(super) struct DeltaAccounts {
    /// What deltas were asked for upon; the peer may ask once for the signature of each.
    bases: HashMap<u32, ServedFile>,
    /// A signature on its way here.
    signature: Option<IncomingDelta>,
}

struct IncomingDelta {
    stream: u32,
    wanted: usize,
    bytes: Vec<u8>,
    to: mpsc::Sender<Vec<u8>>,
}

impl Link {
    /// Asks the peer for a large content by what differs from a file here; a thread makes it of
    /// both.
    pub fn fetch_delta(self: &Arc<Self>, fetch: FetchId, path: SyncPath, wanted: PatchTarget) {
        let stream = fetch.0;
        let failed = |why| self.world.events.send(Event::FetchFailed { fetch, why });
        let Some(deltas) = self.world.served.deltas() else { return failed(FetchError::NoDelta) };
        let mut gate = self.gate();
        let (fetching, parts) = IncomingContent::delta(wanted.size);
        if gate.is_down {
            drop(gate);
            return failed(FetchError::LinkLost);
        }
        gate.deltas.bases.insert(stream, wanted.base.clone());
        let (content, size, base, base_size) = (wanted.content, wanted.size, wanted.base.content, wanted.base.size);
        self.ask(&mut gate, stream, fetching, Packet::Delta { stream, path, content, size, base, base_size });
        drop(gate);
        let link = Arc::clone(self);
        self.world.runtime.spawn_blocking(move || {
            let result = deltas.receive(&wanted, &link.name, &parts, |bytes| link.grant(stream, bytes));
            link.gate().deltas.bases.remove(&stream);
            if let Some(result) = result {
                link.answer(stream, result);
            }
        });
    }

    /// The peer has a version of a file and wants another: the engine says whether that is here.
    pub(super) fn delta_asked(
        &self,
        stream: u32,
        path: SyncPath,
        (content, size): (ContentId, u64),
        (base, base_size): (ContentId, u64),
    ) -> Result<(), Closing> {
        let mut gate = self.gate();
        if gate.serving.len() >= MAX_STREAMS {
            return Err(Closing::Broke(format!("over {MAX_STREAMS} contents asked for at once")));
        }
        match gate.serving.entry(stream) {
            Entry::Occupied(_) => return Err(Closing::Broke("a stream's number used twice".to_owned())),
            Entry::Vacant(free) => free.insert(super::uploads::OpenedUpload::new(Part::Whole, size)),
        };
        if !gate.is_down {
            let (link, stream) = (self.id, FetchId(stream));
            self.world.events.send(Event::DeltaAsked { link, stream, path, content, size, base, base_size });
        }
        Ok(())
    }

    /// The engine's answer to `DeltaAsked`; a thread makes the delta.
    pub fn serve_delta(self: &Arc<Self>, stream: FetchId, asked: Option<DeltaRequest>) {
        let stream = stream.0;
        let serving = self.gate().serving.get_mut(&stream).map(|open| {
            open.path = asked.as_ref().map(|asked| asked.file.path.clone());
            Arc::clone(&open.serving)
        });
        let Some(serving) = serving else { return };
        match asked {
            None => self.refuse(stream),
            Some(asked) => self.serve_by(stream, move |link| link.send_delta(stream, &asked, &serving)),
        }
    }

    fn send_delta(&self, stream: u32, asked: &DeltaRequest, serving: &Serving) -> Ending {
        let Some(deltas) = self.world.served.deltas() else { return Ending::NoDelta };
        let (start, mut wire_bytes, mut offset) = (Instant::now(), 0, 0);
        let mut send = |mut bytes: Bytes| {
            while !bytes.is_empty() {
                let Some(credit) = serving.take(bytes.len().min(PIECE_BYTES) as u64) else { return false };
                let piece = bytes.split_to(credit as usize);
                let frame = frame::encode(&Packet::Piece { stream, offset, bytes: piece });
                offset += credit;
                wire_bytes += frame.len();
                if self.outbox.pieces.blocking_send(frame).is_err() {
                    return false;
                }
            }
            true
        };
        let mut ask = || self.ask_signature(stream, asked.base_size, serving);
        let how = deltas.serve(asked, &self.name, &mut ask, &mut send);
        let path = &asked.file.path;
        if how == Ending::Whole {
            let wire_bytes = wire_bytes as u64;
            let sent = Sent { path, size: asked.file.size, wire_bytes, took: start.elapsed() };
            sent.say(&self.name, " as a delta");
        } else {
            tracing::debug!("'{path}' was not sent as a delta to {}: {how:?}, {wire_bytes} on the wire", self.name);
        }
        how
    }

    /// The signature of the peer's base, as long as it must be; `None` if it does not come, or
    /// another one is coming just now.
    fn ask_signature(&self, stream: u32, base_size: u64, serving: &Serving) -> Option<Vec<u8>> {
        let wanted = delta::signature_bytes(base_size)?;
        let (to, came) = mpsc::channel();
        {
            let mut gate = self.gate();
            if gate.is_down || gate.deltas.signature.is_some() {
                return None;
            }
            gate.deltas.signature = Some(IncomingDelta { stream, wanted, bytes: Vec::new(), to });
        }
        self.send_packet(&Packet::Sign { stream });
        let began = Instant::now();
        let signature = loop {
            match came.recv_timeout(GLANCE) {
                Err(RecvTimeoutError::Timeout) if !serving.is_cancelled() && began.elapsed() < SIGNATURE_WITHIN => {}
                ended => break ended.ok(),
            }
        };
        self.gate().deltas.signature = None;
        signature
    }

    /// The next bytes of a signature. What comes for a stream that has ended is dropped.
    pub(super) fn signature_came(&self, stream: u32, bytes: &[u8]) -> Result<(), Closing> {
        let mut gate = self.gate();
        let Some(incoming) = gate.deltas.signature.as_mut().filter(|incoming| incoming.stream == stream) else {
            return Ok(());
        };
        if bytes.len() > incoming.wanted - incoming.bytes.len() {
            return Err(Closing::Broke("a signature that is longer than its file's size says".to_owned()));
        }
        incoming.bytes.extend_from_slice(bytes);
        if incoming.bytes.len() == incoming.wanted {
            let _ = incoming.to.send(std::mem::take(&mut incoming.bytes));
        }
        Ok(())
    }

    /// The peer does not know the base of a delta: its signature goes there.
    pub(super) fn sign_asked(self: &Arc<Self>, stream: u32) -> Result<(), Closing> {
        let mut gate = self.gate();
        let Some(base) = gate.deltas.bases.remove(&stream) else {
            // One that was just given up may still be asked about.
            if gate.asks.knows(stream) {
                return Ok(());
            }
            return Err(Closing::Broke("a signature asked for on no stream".to_owned()));
        };
        drop(gate);
        let Some(deltas) = self.world.served.deltas() else { return Ok(()) };
        let link = Arc::clone(self);
        self.world.runtime.spawn_blocking(move || match deltas.signature_of(&base) {
            Some(signature) => {
                let mut signature = Bytes::from(signature);
                while !signature.is_empty() {
                    let bytes = signature.split_to(signature.len().min(PIECE_BYTES));
                    let frame = frame::encode(&Packet::Signature { stream, bytes });
                    if link.outbox.pieces.blocking_send(frame).is_err() {
                        break;
                    }
                }
            }
            None => link.answer(stream, Err(FetchError::NoDelta)),
        });
        Ok(())
    }
}
