//! What a peer asks for, and its way out.
//!
//! Deliberately not here: parts and deltas (`parts.rs`, `delta.rs`).

use super::sent::Sent;
use super::uploads::OpenedUpload;
use super::{Closing, Link, parts};
use crate::engine::{Event, FetchId, ServedFile};
use crate::io::net::transfer::{self, MAX_STREAMS, Serving, Squeezer};
use crate::model::{Chunks, ContentId, SyncPath};
use crate::wire::frame::{self, Packet};
use crate::wire::packet::{Ending, Part};
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

impl Link {
    /// The peer wants a large content: the engine says whether it is here.
    pub(super) fn asked(
        &self,
        stream: u32,
        part: Part,
        path: SyncPath,
        content: ContentId,
        size: u64,
    ) -> Result<(), Closing> {
        if let Part::Chunks { first, count } = part
            && Chunks::of(size).span(first, count).is_none()
        {
            return Err(Closing::Broke("it asks for chunks that the content has not".to_owned()));
        }
        let mut gate = self.gate();
        if gate.serving.len() >= MAX_STREAMS {
            return Err(Closing::Broke(format!("over {MAX_STREAMS} contents asked for at once")));
        }
        match gate.serving.entry(stream) {
            Entry::Occupied(_) => return Err(Closing::Broke("a stream's number used twice".to_owned())),
            Entry::Vacant(free) => free.insert(OpenedUpload::new(part, size)),
        };
        if !gate.is_down {
            let stream = FetchId(stream);
            self.world.events.send(Event::FetchAsked { link: self.id, stream, path, content, size });
        }
        Ok(())
    }

    /// Has a thread serve a stream, and ends it.
    pub(super) fn serve_by(self: &Arc<Self>, stream: u32, serve: impl FnOnce(&Self) -> Ending + Send + 'static) {
        let link = Arc::clone(self);
        self.world.runtime.spawn(async move {
            let Ok(turn) = Arc::clone(&link.turns).acquire_owned().await else { return };
            let server = Arc::clone(&link);
            let how = tokio::task::spawn_blocking(move || serve(&server)).await;
            drop(turn);
            link.end_serving(stream, how.unwrap_or(Ending::Unreadable)).await;
        });
    }

    /// The last of a stream, in the pieces' lane, so that it comes after them. It is open until
    /// there is room for that, and no thread waits: a peer that reads nothing has no more than its
    /// streams (P9). And it is not open any more when the peer hears so.
    pub(super) async fn end_serving(&self, stream: u32, how: Ending) {
        let Ok(room) = self.outbox.pieces.reserve().await else { return };
        self.gate().serving.remove(&stream);
        room.send(frame::encode(&Packet::End { stream, how }));
    }

    /// The engine's answer to `FetchAsked`; a thread reads the file.
    pub fn serve(self: &Arc<Self>, stream: FetchId, file: Option<ServedFile>) {
        let stream = stream.0;
        let asked = self.gate().serving.get_mut(&stream).map(|asked| {
            asked.path = file.as_ref().map(|file| file.path.clone());
            asked.clone()
        });
        let Some(OpenedUpload { serving, part, .. }) = asked else { return };
        match (file, part) {
            (None, _) => self.refuse(stream),
            (Some(file), Part::Whole) => self.serve_by(stream, move |link| link.serve_file(stream, &file, &serving)),
            (Some(file), _) => self.serve_part(stream, part, serving, parts::PartSource::File(file)),
        }
    }

    /// What is asked for is not here.
    pub(super) fn refuse(self: &Arc<Self>, stream: u32) {
        let link = Arc::clone(self);
        self.world.runtime.spawn(async move { link.end_serving(stream, Ending::NotHere).await });
    }

    pub(super) fn serve_file(&self, stream: u32, file: &ServedFile, serving: &Serving) -> Ending {
        let start = Instant::now();
        let mut wire_bytes = 0;
        let mut squeezer = Squeezer::new(Arc::clone(&self.outbox.rate));
        let how = transfer::serve(&*self.world.served, file, stream, serving, &mut squeezer, |frame| {
            wire_bytes += frame.len();
            self.outbox.pieces.blocking_send(frame).is_ok()
        });
        let path = &file.path;
        if how == Ending::Whole {
            let wire_bytes = wire_bytes as u64;
            self.sent.note(&self.name, &Sent { path, size: file.size, wire_bytes, took: start.elapsed() });
        } else {
            tracing::debug!("'{path}' was not sent whole to {}: {how:?}, {wire_bytes} on the wire", self.name);
        }
        how
    }
}
