//! Parts of large contents over one link: chunks and lists that are asked for, and those that are
//! served.
//!
//! What comes is gathered, and hashed, written and signed a chunk at a time. What is asked of us is
//! served in its order, two parts at a time, so that chunks are whole soon. May import `engine`'s
//! values, `wire` and `model`. Deliberately not here: which chunks are asked of whom, and which
//! contents may be served (the engine decides).

use super::Link;
use super::sent::Sent;
use super::uploads::{OpenedUpload, Upload};
use crate::engine::{Event, FetchError, FetchId, LinkId, RangeId, ServedFile, Trouble};
use crate::humanize;
use crate::io::fs::delta::Arrived;
use crate::io::fs::direct::Buffer;
use crate::io::fs::partial::{ChunkVerdict, Partial};
use crate::io::net::rate::Rate;
use crate::io::net::transfer::{self, IncomingContent, Serving, Squeezer, StreamRange};
use crate::model::chunks::{CHUNK_BYTES, ChunkHasher};
use crate::model::{Chunks, ContentId, SyncPath};
use crate::wire::frame::Packet;
use crate::wire::packet::{Ending, FIRST_CREDIT_BYTES, Part};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Parts that are read and sent at a time.
const AT_ONCE: usize = 2;
/// Credit is granted in such steps (bytes).
const GRANT_BYTES: u64 = 1024 * 1024;
/// Contents that a link remembers to have served (P9).
const ACCOUNTS: usize = 64;
/// After so long without a part, a content's account is closed.
const IDLE: Duration = Duration::from_secs(3);

/// At most so much is gathered before it is written: a chunk, but of contents of more than 1 TiB,
/// which have no signature.
const WINDOW_BYTES: u64 = 16 * CHUNK_BYTES;

/// Where a part comes from.
pub(super) enum PartSource {
    File(ServedFile),
    Partial(Arc<Partial>),
}

impl Link {
    /// Asks the peer for chunks or a list; a thread takes what comes.
    pub fn fetch_part(self: &Arc<Self>, range: RangeId, path: SyncPath, content: ContentId, size: u64, part: Part) {
        let (stream, chunks) = (range.0, Chunks::of(size));
        let span = match part {
            Part::Chunks { first, count } => chunks.span(first, count),
            Part::List => Some((0, 32 * u64::from(chunks.count()))),
            Part::Whole => None,
        };
        let (partial, Some((from, length))) = (self.world.staging.partial(&content), span) else {
            return self.tell_end(range, FetchError::NotHere);
        };
        let Some(partial) = partial.filter(|partial| partial.chunks().size() == size) else {
            return self.tell_end(range, FetchError::NotHere);
        };
        let (fetching, parts) = IncomingContent::of_part(from, length);
        {
            let mut gate = self.gate();
            if gate.is_down {
                drop(gate);
                return self.tell_end(range, FetchError::LinkLost);
            }
            self.ask(&mut gate, stream, fetching, Packet::Fetch { stream, path, content, size, part });
        }
        let link = Arc::clone(self);
        self.world.runtime.spawn_blocking(move || {
            let result = match part {
                Part::Chunks { first, count } => link.take_chunks(&partial, range, first, count, &parts),
                _ => link.take_list(&partial, range, length, &parts),
            };
            if let Some(result) = result {
                link.part_ended(range, result);
            }
        });
    }

    fn tell_end(&self, range: RangeId, why: FetchError) {
        self.world.events.send(Event::RangeEnded { range, how: Err(why), wire_bytes: 0 });
    }

    /// Tells the engine, unless the part was cancelled or has failed.
    /// `event` is made of what came over the wire since the last.
    fn tell_part(&self, range: RangeId, event: impl FnOnce(u64) -> Event) {
        let mut gate = self.gate();
        let is_down = gate.is_down;
        if let Some(fetching) = gate.asks.awaited(range.0).filter(|_| !is_down) {
            self.world.events.send(event(std::mem::take(&mut fetching.wire_bytes)));
        }
    }

    fn take_chunks(
        &self,
        partial: &Partial,
        range: RangeId,
        first: u32,
        count: u32,
        parts: &mpsc::Receiver<Arrived>,
    ) -> Option<Result<(), FetchError>> {
        let came = |chunk| self.tell_part(range, |wire_bytes| Event::ChunkCame { range, chunk, wire_bytes });
        let mut taker = Taker::new(partial, self.id, first, count, came);
        let mut unspent = 0;
        loop {
            let taken = match parts.recv() {
                Err(mpsc::RecvError) => return None,
                Ok(Arrived::End(Ending::Whole)) => {
                    partial.write_back(first, count);
                    return Some(Ok(()));
                }
                Ok(Arrived::End(_)) => return Some(Err(FetchError::NotHere)),
                Ok(Arrived::Bytes(bytes)) => {
                    unspent += bytes.len() as u64;
                    taker.take(&PartBytes::Bytes(&bytes))
                }
                Ok(Arrived::Zeros(zeros)) => taker.take(&PartBytes::Zeros(zeros)),
            };
            if let Err(why) = taken {
                return Some(Err(why));
            }
            if unspent >= GRANT_BYTES && taker.left + unspent > FIRST_CREDIT_BYTES {
                self.grant(range.0, unspent);
                unspent = 0;
            }
        }
    }

    fn take_list(
        &self,
        partial: &Partial,
        range: RangeId,
        length: u64,
        parts: &mpsc::Receiver<Arrived>,
    ) -> Option<Result<(), FetchError>> {
        let mut bytes = Vec::with_capacity(length as usize);
        loop {
            match parts.recv() {
                Err(mpsc::RecvError) => return None,
                Ok(Arrived::Bytes(more)) => bytes.extend_from_slice(&more),
                // No hash is zeros; this one is refused below.
                Ok(Arrived::Zeros(zeros)) => bytes.resize(bytes.len() + zeros as usize, 0),
                Ok(Arrived::End(Ending::Whole)) => break,
                Ok(Arrived::End(_)) => return Some(Err(FetchError::NotHere)),
            }
        }
        let list = bytes.as_chunks::<32>().0.to_vec();
        let Some(bad) = partial.list_came(list) else { return Some(Err(FetchError::Corrupt)) };
        self.tell_part(range, |_| Event::ListCame { range, bad });
        Some(Ok(()))
    }

    /// Tells the engine how it ended, unless that was said already.
    fn part_ended(&self, range: RangeId, how: Result<(), FetchError>) {
        let mut gate = self.gate();
        let Some(fetching) = gate.asks.awaited(range.0) else { return };
        self.world.events.send(Event::RangeEnded { range, how, wire_bytes: fetching.wire_bytes });
        self.answered(&mut gate, range.0);
    }

    /// Whether the part was this link's. Nothing more is told of it.
    pub fn cancel_part(&self, range: RangeId) -> bool {
        let mut gate = self.gate();
        let is_mine = gate.asks.awaited(range.0).is_some();
        self.answered(&mut gate, range.0);
        is_mine
    }

    /// The engine's answer to a peer that asks for a content which is on its way here.
    pub fn serve_partial(self: &Arc<Self>, stream: FetchId, content: &ContentId) {
        let Some(OpenedUpload { serving, part, size, .. }) = self.gate().serving.get(&stream.0).cloned() else {
            return;
        };
        let partial = self.world.staging.partial(content).filter(|partial| partial.chunks().size() == size);
        match (partial, part) {
            (Some(partial), Part::Chunks { first, count }) if partial.may_serve(first, count) => {
                self.serve_part(stream.0, part, serving, PartSource::Partial(partial));
            }
            _ => self.serve(stream, None),
        }
    }

    /// Waits for its turn, then reads and sends.
    pub(super) fn serve_part(self: &Arc<Self>, stream: u32, part: Part, serving: Arc<Serving>, origin: PartSource) {
        let link = Arc::clone(self);
        self.world.runtime.spawn(async move {
            let Ok(turn) = Arc::clone(&link.served.turns).acquire_owned().await else { return };
            let server = Arc::clone(&link);
            let sending = tokio::task::spawn_blocking(move || server.send_part(stream, part, &serving, &origin));
            link.end_serving(stream, sending.await.unwrap_or(Ending::Unreadable)).await;
            drop(turn);
        });
    }

    fn send_part(&self, stream: u32, part: Part, serving: &Serving, origin: &PartSource) -> Ending {
        match (part, origin) {
            (Part::Chunks { first, count }, PartSource::File(file)) => {
                let Some((from, size)) = Chunks::of(file.size).span(first, count) else { return Ending::NotHere };
                let opened = match transfer::open(&*self.world.served, file) {
                    Ok(opened) => opened,
                    Err(how) => return how,
                };
                let mut squeezer = self.served.begin(file, &self.outbox.rate);
                let mut wire_bytes = 0;
                let how =
                    transfer::send_span(&opened, StreamRange { stream, from, size }, serving, &mut squeezer, |frame| {
                        wire_bytes += frame.len() as u64;
                        self.outbox.pieces.blocking_send(frame).is_ok()
                    });
                let is_whole = how == Ending::Whole && transfer::is_unchanged(&opened, &file.stat);
                let sent = if is_whole { size } else { 0 };
                self.served.sent(&self.name, &file.content, sent, wire_bytes, squeezer);
                if how == Ending::Whole && !is_whole { Ending::Changed } else { how }
            }
            (Part::Chunks { first, count }, PartSource::Partial(partial)) => {
                let Some((from, size)) = partial.chunks().span(first, count) else { return Ending::NotHere };
                let span = StreamRange { stream, from, size };
                let send = |frame| self.outbox.pieces.blocking_send(frame).is_ok();
                let mut squeezer = Squeezer::rarely(Arc::clone(&self.outbox.rate));
                transfer::send_span(partial.file(), span, serving, &mut squeezer, send)
            }
            (Part::List, PartSource::File(file)) => self.send_list(stream, serving, file),
            _ => Ending::NotHere,
        }
    }

    fn send_list(&self, stream: u32, serving: &Serving, file: &ServedFile) -> Ending {
        let opened = match transfer::open(&*self.world.served, file) {
            Ok(opened) => opened,
            Err(how) => return how,
        };
        match self.world.served.list(file, &opened) {
            Ok(Some(list)) => {
                let bytes = Bytes::from(list.as_flattened().to_vec());
                transfer::send_bytes(&bytes, stream, serving, |frame| self.outbox.pieces.blocking_send(frame).is_ok())
            }
            Ok(None) => Ending::Changed,
            Err(error) => {
                tracing::warn!("'{}' cannot be read for a peer: {error}", file.path);
                Ending::Unreadable
            }
        }
    }
}

/// What comes of a range, for one chunk after the other. Dropped in the midst of one, it gives that
/// up.
struct Taker<'a, F: FnMut(u32)> {
    partial: &'a Partial,
    from: LinkId,
    came: F,
    chunk: u32,
    /// Bytes to come of the range, and where the next one belongs.
    left: u64,
    offset: u64,
    hasher: ChunkHasher,
    /// The chunk is ours to write; else what comes of it is passed over.
    is_ours: Option<bool>,
    /// What came of it since it was written last, and where that begins.
    window: Buffer,
    window_from: u64,
}

#[derive(Clone, Copy)]
enum PartBytes<'a> {
    Bytes(&'a [u8]),
    Zeros(u64),
}

impl PartBytes<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(count) => *count,
        }
    }

    /// So much of it, from there on.
    fn part(&self, from: u64, length: u64) -> PartBytes<'_> {
        match self {
            Self::Bytes(bytes) => PartBytes::Bytes(&bytes[from as usize..][..length as usize]),
            Self::Zeros(_) => PartBytes::Zeros(length),
        }
    }
}

impl<'a, F: FnMut(u32)> Taker<'a, F> {
    fn new(partial: &'a Partial, from: LinkId, first: u32, count: u32, came: F) -> Self {
        let (offset, left) = partial.chunks().span(first, count).unwrap_or_default();
        let chunk_bytes = partial.chunks().chunk_bytes();
        let window = Buffer::new(if chunk_bytes <= WINDOW_BYTES { chunk_bytes } else { CHUNK_BYTES } as usize);
        let hasher = ChunkHasher::at(offset);
        Self { partial, from, came, chunk: first, left, offset, hasher, is_ours: None, window, window_from: offset }
    }

    /// In loops: a peer says by a few bytes how many zeros there are.
    fn take(&mut self, given: &PartBytes<'_>) -> Result<(), FetchError> {
        let chunks = self.partial.chunks();
        let mut taken = 0;
        while taken < given.len() {
            let end = chunks.offset(self.chunk) + chunks.len(self.chunk);
            let part = given.part(taken, (given.len() - taken).min(end - self.offset));
            if part.len() == 0 {
                // More than the content has.
                return Err(FetchError::Corrupt);
            }
            self.take_of_chunk(&part).map_err(FetchError::Staging)?;
            taken += part.len();
            self.offset += part.len();
            self.left = self.left.saturating_sub(part.len());
            if self.offset == end {
                self.end_chunk()?;
            }
        }
        Ok(())
    }

    fn take_of_chunk(&mut self, part: &PartBytes<'_>) -> Result<(), Trouble> {
        let is_ours = match self.is_ours {
            Some(is_ours) => is_ours,
            None => *self.is_ours.insert(self.partial.claim(self.chunk)?),
        };
        if !is_ours {
            return Ok(());
        }
        let mut taken = 0;
        while taken < part.len() {
            if self.window.room() == 0 {
                self.write_window()?;
                self.window_from += self.window.bytes().len() as u64;
                self.window.clear();
            }
            let fits = part.part(taken, (part.len() - taken).min(self.window.room() as u64));
            match fits {
                PartBytes::Bytes(bytes) => self.window.push(bytes),
                PartBytes::Zeros(count) => self.window.push_zeros(count as usize),
            }
            taken += fits.len();
        }
        Ok(())
    }

    fn write_window(&mut self) -> Result<(), Trouble> {
        self.hasher.update(self.window.bytes());
        self.partial.write(self.window_from, self.window.bytes())
    }

    fn end_chunk(&mut self) -> Result<(), FetchError> {
        let (chunk, chunks) = (self.chunk, self.partial.chunks());
        if self.is_ours == Some(true) {
            self.write_window().map_err(FetchError::Staging)?;
        }
        let is_ours = self.is_ours.take();
        let hash = (is_ours == Some(true)).then(|| self.hasher.finish());
        let is_whole = self.window_from == chunks.offset(chunk);
        self.chunk += 1;
        self.window_from = chunks.offset(self.chunk);
        self.hasher = ChunkHasher::at(self.window_from);
        if let Some(hash) = hash {
            let bytes = is_whole.then(|| self.window.bytes());
            let written = self.partial.written(chunk, hash, self.from, bytes).map_err(FetchError::Staging)?;
            self.window.clear();
            match written {
                ChunkVerdict::Held => (self.came)(chunk),
                ChunkVerdict::Wrong => return Err(FetchError::Corrupt),
            }
        } else if self.partial.holds(chunk) {
            // From a range that was cancelled before it could say so: unsaid, it would be asked for
            // again, for ever.
            (self.came)(chunk);
        }
        Ok(())
    }
}

impl<F: FnMut(u32)> Drop for Taker<'_, F> {
    fn drop(&mut self) {
        if self.is_ours == Some(true) {
            self.partial.release(self.chunk);
        }
    }
}

/// What this link serves in parts: whose turn it is, and what was sent of which content, for the
/// log.
pub(super) struct ServedParts {
    turns: Arc<Semaphore>,
    accounts: Mutex<BTreeMap<ContentId, PartAccount>>,
}

impl Default for ServedParts {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), accounts: Mutex::default() }
    }
}

struct PartAccount {
    path: SyncPath,
    size: u64,
    sent: u64,
    wire_bytes: u64,
    began: Instant,
    last: Instant,
    squeezer: Squeezer,
}

impl ServedParts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContentId, PartAccount>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of how the content shrinks.
    fn begin(&self, file: &ServedFile, rate: &Arc<Rate>) -> Squeezer {
        let mut accounts = self.lock();
        let now = Instant::now();
        let account = accounts.entry(file.content).or_insert_with(|| PartAccount {
            path: file.path.clone(),
            size: file.size,
            sent: 0,
            wire_bytes: 0,
            began: now,
            last: now,
            squeezer: Squeezer::new(Arc::clone(rate)),
        });
        account.last = now;
        account.squeezer.clone()
    }

    fn sent(&self, to: &str, content: &ContentId, bytes: u64, wire_bytes: u64, squeezer: Squeezer) {
        let mut accounts = self.lock();
        let Some(account) = accounts.get_mut(content) else { return };
        account.sent += bytes;
        account.wire_bytes += wire_bytes;
        account.last = Instant::now();
        account.squeezer = squeezer;
        if account.sent >= account.size
            && let Some(account) = accounts.remove(content)
        {
            account.say(to);
        }
        if accounts.len() > ACCOUNTS {
            accounts.pop_first();
        }
    }

    /// What was sent of each, without the parts that are on their way.
    pub fn uploads(&self) -> Vec<Upload> {
        let upload =
            |account: &PartAccount| Upload { path: account.path.clone(), bytes: account.sent, size: account.size };
        self.lock().values().map(upload).collect()
    }

    /// Closes the accounts of contents that nobody asks for any more.
    pub fn say_idle(&self, to: &str) {
        let idle = self.lock().extract_if(.., |_, account| account.last.elapsed() >= IDLE).collect::<Vec<_>>();
        for (_, account) in idle {
            account.say(to);
        }
    }

    pub fn say_all(&self, to: &str) {
        for account in std::mem::take(&mut *self.lock()).values() {
            account.say(to);
        }
    }
}

impl PartAccount {
    fn say(&self, to: &str) {
        let Self { path, size, sent, wire_bytes, .. } = self;
        let whole = Sent { path, size: *sent, wire_bytes: *wire_bytes, took: self.last - self.began };
        if sent == size {
            whole.say(to, "");
        } else if *sent > 0 {
            whole.say(to, format_args!(", a part of its {}", humanize::bytes(*size)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fs::partial::Partials;
    use crate::io::fs::root::Root;
    use crate::io::fs::stage::Stage;

    /// A frame of a few bytes may speak of more zeros than there is memory, or stack, for.
    #[test]
    fn many_zeros_at_once_are_taken_one_window_after_the_other() {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(temp.path()).unwrap());
        let partials = Partials::new(Arc::clone(&root), Stage::open(root).unwrap());
        // Chunks of 64 MiB.
        let partial = partials.open(ContentId([1; 32]), 4 << 40).unwrap();
        let (chunk, mut came) = (partial.chunks().chunk_bytes(), Vec::new());
        assert!(chunk > WINDOW_BYTES);
        let mut taker = Taker::new(&partial, LinkId(1), 3, 2, |chunk| came.push(chunk));
        taker.take(&PartBytes::Zeros(2 * chunk)).unwrap();
        drop(taker);
        assert_eq!(came, [3, 4]);
        let mut hasher = ChunkHasher::at(3 * chunk);
        hasher.zeros(chunk);
        assert_eq!(partial.hash_of_held(3), Some(hasher.finish()));
    }

    /// Its range was cancelled between the writing and the telling, say: whoever asks for it next
    /// must hear of it.
    #[test]
    fn a_chunk_that_is_here_already_is_said_to_be_when_it_comes_again() {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(temp.path()).unwrap());
        let partials = Partials::new(Arc::clone(&root), Stage::open(root).unwrap());
        let bytes = vec![7; 2 * CHUNK_BYTES as usize];
        let partial = partials.open(ContentId::of(&bytes), bytes.len() as u64).unwrap();
        let take = |first, count, bytes: &[u8]| {
            let mut came = Vec::new();
            Taker::new(&partial, LinkId(1), first, count, |chunk| came.push(chunk))
                .take(&PartBytes::Bytes(bytes))
                .unwrap();
            came
        };
        let one = &bytes[..CHUNK_BYTES as usize];
        assert_eq!(take(1, 1, one), [1]);
        assert_eq!(take(0, 2, &bytes), [0, 1]);
        // Another thread is at it: it is heard of when that is done.
        let third = partials.open(ContentId::of(b"of another"), bytes.len() as u64).unwrap();
        assert!(third.claim(0).unwrap());
        let mut taker = Taker::new(&third, LinkId(1), 0, 1, |chunk| panic!("{chunk} is not here"));
        taker.take(&PartBytes::Bytes(one)).unwrap();
    }
}
