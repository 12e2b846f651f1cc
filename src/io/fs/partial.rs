//! Contents that come in chunks: `.dirsync/staging/part-<id>`, and beside each a log of the chunks
//! that it holds.
//!
//! A chunk counts once its hash is in the log, and after a start only if its bytes still have that
//! hash: neither a kill nor a power cut makes a wrong byte count. What is kept for another try goes
//! after 7 days, or when the disk is nearly full. Each chunk is signed while it is in memory, so
//! that whoever changes the file next can say at once what differs. May import `engine`'s values,
//! `delta` and `model`. Deliberately not here: who is asked for what (`engine`), sockets, and
//! installing.

use crate::delta::signature::{Piece, Pieces, entries_of};
use crate::delta::{block_bytes, has_signature};
use crate::engine::{Cause, LinkId, StageId, Trouble};
use crate::humanize;
use crate::io::fail::{self, Point};
use crate::io::fs::beneath;
use crate::io::fs::direct::Target;
use crate::io::fs::kept_parts::kept;
use crate::io::fs::part_log::{Log, Record};
use crate::io::fs::root::Root;
use crate::io::fs::sparse::next_data;
use crate::io::fs::stage::{Bulk, Stage, StageError, start_writeback};
use crate::io::fs::staging::{self, log_name, part_name};
use crate::io::fs::trouble::{errno, trouble};
use crate::model::chunks::ChunkHasher;
use crate::model::{ChunkHash, ChunkSet, Chunks, ContentId};
use rustix::fs::{AtFlags, FallocateFlags, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// What is kept for another try stays for so long.
const KEPT: Duration = Duration::from_hours(7 * 24);
/// Kept open for another try, at most; others are inspected again when that comes (P9).
const KEPT_OPEN: usize = 16;
/// What is not begun where there is no room for so many chunks.
const FEW_CHUNKS: u64 = 4;
/// Contents that were removed for others to have room, at most (P9).
const TOO_LARGE: usize = 1024;
/// Zeros are left out in blocks of this many bytes.
const BLOCK_BYTES: usize = 64 * 1024;
/// What is read at once (bytes).
const READ_BYTES: u64 = 128 * 1024;
/// Where there is a signature, as many of its blocks: that many are signed side by side, several
/// times as fast as one after the other.
const READ_BLOCKS: u64 = 8;

/// All that is on its way in chunks.
#[derive(Debug)]
pub struct Partials {
    root: Arc<Root>,
    stage: Arc<Stage>,
    known: Mutex<BTreeMap<ContentId, Arc<Partial>>>,
    /// What was removed for others to have room.
    too_large: Mutex<BTreeSet<ContentId>>,
}

/// One content: a file that holds some of its chunks.
#[derive(Debug)]
pub struct Partial {
    content: ContentId,
    chunks: Chunks,
    target: Target,
    state: Mutex<PartialState>,
    /// One at a time writes into the page cache: the kernel would have the others spin.
    turn: Mutex<()>,
    /// Zeros need no writing: what was not written is a hole.
    has_holes: AtomicBool,
    /// What the chunks add to the signature; `None`: there is none of this size, none are kept, or
    /// it was made.
    signing: Mutex<Option<Pieces>>,
    /// While it is being fetched.
    bulk: Mutex<Option<Bulk>>,
}

#[derive(Debug)]
struct PartialState {
    held: Vec<Option<HeldChunk>>,
    writing: BTreeSet<u32>,
    list: Option<Vec<ChunkHash>>,
    log: Log,
}

#[derive(Debug, Clone, Copy)]
struct HeldChunk {
    hash: ChunkHash,
    /// Who sent it in this run.
    from: Option<LinkId>,
}

/// What became of a chunk that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkVerdict {
    /// It is the list's, or there is none yet.
    Held,
    Wrong,
}

impl Partials {
    pub fn new(root: Arc<Root>, stage: Arc<Stage>) -> Self {
        let partials = Self { root, stage, known: Mutex::default(), too_large: Mutex::default() };
        partials.tidy(SystemTime::now().checked_sub(KEPT), None);
        partials
    }

    /// One that is being fetched, or waits to be installed.
    pub fn get(&self, content: &ContentId) -> Option<Arc<Partial>> {
        self.lock().get(content).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContentId, Arc<Partial>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes place for a content, or takes up what an earlier try left.
    pub fn open(&self, content: ContentId, size: u64) -> Result<Arc<Partial>, Trouble> {
        self.make_room(content, size)?;
        if let Some(partial) = self.get(&content) {
            if partial.chunks.size() == size {
                partial.begin(&self.stage);
                return Ok(partial);
            }
            // No two sizes have one id: somebody lied, and what came for the lie is of no use.
            self.close(&content, false);
        }
        let opened =
            fail::at(Point::FetchCreate).map_err(io::Error::from).and_then(|()| self.open_files(content, size));
        let partial = opened.map_err(|e| trouble("stage what arrives for", None, errno(&e)))?;
        partial.begin(&self.stage);
        let partial = Arc::new(partial);
        self.lock().insert(content, Arc::clone(&partial));
        Ok(partial)
    }

    /// Where not even a few chunks have room, what other contents left goes first. A content that
    /// filled the disk alone goes as well, so that others have room. What went so is begun again
    /// only where all of it fits: it would come anew and fill the disk anew, for ever.
    fn make_room(&self, content: ContentId, size: u64) -> Result<(), Trouble> {
        let kept = rustix::fs::statat(self.root.staging(), part_name(&content), AtFlags::SYMLINK_NOFOLLOW).ok();
        let mut missing = size.saturating_sub(kept.as_ref().map_or(0, |kept| kept.st_blocks as u64 * 512));
        let few = Chunks::of(size).len(0).saturating_mul(FEW_CHUNKS).min(missing);
        if !self.stage.has_room_for(few) {
            self.note_too_large(self.tidy(None, Some(content)));
            if !self.stage.has_room_for(few) {
                let is_idle = self.get(&content).is_none_or(|partial| partial.is_ended() && !partial.is_content());
                if is_idle && kept.is_some() {
                    self.close(&content, false);
                    self.remove(&content);
                    self.note_too_large(vec![content]);
                    missing = size;
                }
            }
            self.stage.check_room_again();
        }
        if self.too_large().contains(&content) && !self.stage.has_room_for(missing) {
            let text = format!("the folder's disk has no room for {}; free some space", humanize::bytes(size));
            return Err(Trouble { cause: Cause::Other, text });
        }
        self.stage.check_room()?;
        self.too_large().remove(&content);
        Ok(())
    }

    fn note_too_large(&self, contents: Vec<ContentId>) {
        let mut too_large = self.too_large();
        too_large.extend(contents);
        while too_large.len() > TOO_LARGE {
            too_large.pop_first();
        }
    }

    fn too_large(&self) -> MutexGuard<'_, BTreeSet<ContentId>> {
        self.too_large.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_files(&self, content: ContentId, size: u64) -> io::Result<Partial> {
        let (chunks, name) = (Chunks::of(size), part_name(&content));
        let staging = self.root.staging();
        let flags = OFlags::RDWR | OFlags::NOFOLLOW;
        let old = match beneath::open(staging, name.as_bytes(), flags) {
            Ok(file) => Some(File::from(file)),
            Err(Errno::NOENT) => None,
            Err(e) => return Err(e.into()),
        };
        let file = match old {
            Some(file) if beneath::facts(&file)?.stat.size == size => {
                let log = beneath::open(staging, log_name(&content).as_bytes(), flags).map(File::from);
                if let Ok((log, records)) = log.map_err(io::Error::from).and_then(|log| Log::read(log, content, size)) {
                    let target = Target::new(file, size, staging, &name);
                    return Ok(Partial::new(content, chunks, target, log, self.pieces(chunks)).resume(&records));
                }
                file
            }
            Some(file) => file,
            None => beneath::create(staging, &name)?,
        };
        file.set_len(0)?;
        file.set_len(size)?;
        let _ = rustix::fs::unlinkat(staging, log_name(&content), AtFlags::empty());
        let log = Log::begin(beneath::create(staging, &log_name(&content))?, content, size)?;
        let target = Target::new(file, size, staging, &name);
        Ok(Partial::new(content, chunks, target, log, self.pieces(chunks)))
    }

    /// Where a signature is to be made.
    fn pieces(&self, chunks: Chunks) -> Option<Pieces> {
        self.stage.signatures().filter(|_| has_signature(chunks.size())).map(|_| Pieces::new(chunks))
    }

    /// All chunks are here: the content gets a name in staging, and is served from there until it
    /// is closed.
    pub fn finish(&self, content: &ContentId) -> Result<StageId, StageError> {
        let Some(partial) = self.get(content) else { return Err(StageError::BadContent) };
        if !partial.is_content() {
            return Err(StageError::BadContent);
        }
        let id = self.stage.next_id();
        let staging = self.root.staging();
        let moved = partial.lock().log.moved(id.0).and_then(|()| {
            Ok(rustix::fs::renameat(staging, part_name(content).as_str(), staging, staging::name(id).as_str())?)
        });
        moved.map_err(|e| StageError::Disk(trouble("store what arrives for", None, errno(&e))))?;
        partial.end();
        let signed = partial.pieces().take().and_then(Pieces::finish);
        if let (Some((signed, Some(signature))), Some(signatures)) = (signed, self.stage.signatures())
            && signed == *content
        {
            signatures.put(content, &signature);
        }
        fail::after(Point::FetchFinished);
        Ok(id)
    }

    /// `keep`: for another try.
    pub fn close(&self, content: &ContentId, keep: bool) {
        let mut known = self.lock();
        let Some(partial) = known.get(content) else { return };
        partial.end();
        if keep {
            // Those that nothing writes to are inspected again when they are wanted.
            let idle: Vec<_> = known.iter().filter(|(_, partial)| partial.is_ended()).map(|(id, _)| *id).collect();
            for id in idle.iter().take(idle.len().saturating_sub(KEPT_OPEN)) {
                known.remove(id);
            }
        } else {
            known.remove(content);
            drop(known);
            self.remove(content);
        }
    }

    fn remove(&self, content: &ContentId) {
        for name in [part_name(content), log_name(content)] {
            let _ = rustix::fs::unlinkat(self.root.staging(), name, AtFlags::empty());
        }
    }

    /// Removes what was kept and not touched since `before` (`None`: all that was kept), but for
    /// one; says what went.
    fn tidy(&self, before: Option<SystemTime>, spared: Option<ContentId>) -> Vec<ContentId> {
        let mut removed = Vec::new();
        let kept = kept(self.root.staging()).unwrap_or_default();
        let mut known = self.lock();
        known.retain(|content, partial| Some(*content) == spared || !partial.is_ended() || partial.is_content());
        for (content, touched) in kept {
            if Some(content) != spared
                && !known.contains_key(&content)
                && before.is_none_or(|before| touched.is_none_or(|at| at < before))
            {
                self.remove(&content);
                removed.push(content);
            }
        }
        removed
    }
}

impl Partial {
    fn new(content: ContentId, chunks: Chunks, target: Target, log: Log, pieces: Option<Pieces>) -> Self {
        let held = vec![None; chunks.count() as usize];
        let state = PartialState { held, writing: BTreeSet::new(), list: None, log };
        Self {
            content,
            chunks,
            target,
            state: Mutex::new(state),
            turn: Mutex::default(),
            has_holes: AtomicBool::new(true),
            signing: Mutex::new(pieces),
            bulk: Mutex::default(),
        }
    }

    /// Of what the log names, that counts whose bytes are what it says.
    fn resume(self, records: &[Record]) -> Self {
        let named: BTreeMap<u32, ChunkHash> = records.iter().map(|record| (record.chunk, record.hash)).collect();
        let mut state = self.lock();
        for chunk in 0..self.chunks.count() {
            let hash = named.get(&chunk).filter(|hash| self.hash_of(chunk).is_ok_and(|found| found == **hash));
            state.held[chunk as usize] = hash.map(|hash| HeldChunk { hash: *hash, from: None });
            match hash {
                Some(hash) => self.sign(chunk, *hash, None),
                None => self.make_hole(chunk),
            }
        }
        drop(state);
        self
    }

    fn hash_of(&self, chunk: u32) -> io::Result<ChunkHash> {
        let mut hasher = ChunkHasher::at(self.chunks.offset(chunk));
        self.read(chunk, |part| hasher.update(part))?;
        Ok(hasher.finish())
    }

    /// Adds a chunk that is written to the signature; without its bytes it is read once more. Where
    /// it cannot be read there is no signature, until it is asked for.
    fn sign(&self, chunk: u32, hash: ChunkHash, bytes: Option<&[u8]>) {
        if self.pieces().is_none() {
            return;
        }
        let (block, mut entries) = (block_bytes(self.chunks.size()), Vec::new());
        let mut sign = |part: &[u8]| entries.extend_from_slice(&entries_of(block, part));
        let read = match bytes {
            Some(bytes) => {
                sign(bytes);
                Ok(())
            }
            None => self.read(chunk, sign),
        };
        if let (Ok(()), Some(pieces)) = (read, &mut *self.pieces()) {
            pieces.put(chunk, Piece::new(hash, entries));
        }
    }

    /// Hands over a chunk in parts, which are whole blocks where there is a signature. Holes are
    /// not read.
    fn read(&self, chunk: u32, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let (mut offset, mut left) = (self.chunks.offset(chunk), self.chunks.len(chunk));
        let is_hole = next_data(self.file(), offset, offset + left) == offset + left;
        let blocks = if has_signature(self.chunks.size()) { READ_BLOCKS * block_bytes(self.chunks.size()) } else { 0 };
        let most = blocks.max(READ_BYTES);
        let mut buffer = vec![0; most.min(left) as usize];
        while left > 0 {
            let part = &mut buffer[..left.min(most) as usize];
            if !is_hole {
                self.file().read_exact_at(part, offset)?;
            }
            take(part);
            offset += part.len() as u64;
            left -= part.len() as u64;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, PartialState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bulk(&self) -> MutexGuard<'_, Option<Bulk>> {
        self.bulk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pieces(&self) -> MutexGuard<'_, Option<Pieces>> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, stage: &Arc<Stage>) {
        self.bulk().get_or_insert_with(|| stage.begin_bulk());
    }

    fn end(&self) {
        self.bulk().take();
    }

    fn is_ended(&self) -> bool {
        self.bulk().is_none()
    }

    pub fn chunks(&self) -> Chunks {
        self.chunks
    }

    /// What is here, and whether the list is known.
    pub fn here(&self) -> (Vec<(u32, u32)>, bool) {
        let state = self.lock();
        let mut here = ChunkSet::none(self.chunks.count());
        (0..self.chunks.count()).filter(|chunk| state.held[*chunk as usize].is_some()).for_each(|chunk| {
            here.insert(chunk);
        });
        (here.runs(), state.list.is_some())
    }

    /// Whether this chunk is here.
    pub fn holds(&self, chunk: u32) -> bool {
        self.lock().held[chunk as usize].is_some()
    }

    #[cfg(test)]
    pub fn hash_of_held(&self, chunk: u32) -> Option<ChunkHash> {
        self.lock().held[chunk as usize].map(|held| held.hash)
    }

    /// Whether the caller may write this chunk: nobody else does, and it is not here.
    pub fn claim(&self, chunk: u32) -> Result<bool, Trouble> {
        if let Some(bulk) = &*self.bulk() {
            bulk.stage().check_room()?;
        }
        let mut state = self.lock();
        Ok(state.held[chunk as usize].is_none() && state.writing.insert(chunk))
    }

    /// Of a claimed chunk, from a multiple of 64 KiB on. Blocks of zeros are left out.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let has_holes = self.has_holes.load(Ordering::Relaxed);
        let is_zero = |block: &[u8]| has_holes && block.iter().all(|byte| *byte == 0);
        let (mut from, mut to) = (0, 0);
        for block in bytes.chunks(BLOCK_BYTES) {
            if is_zero(block) {
                self.write_run(offset + from as u64, &bytes[from..to])?;
                from = to + block.len();
            }
            to += block.len();
        }
        self.write_run(offset + from as u64, &bytes[from..])
    }

    fn write_run(&self, offset: u64, bytes: &[u8]) -> Result<(), Trouble> {
        if bytes.is_empty() {
            return Ok(());
        }
        let turn = || self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let _turn = (!self.target.is_direct()).then(turn);
        let written = fail::at(Point::FetchWrite).map_err(io::Error::from);
        let written = written.and_then(|()| self.target.write_all_at(bytes, offset));
        written.map_err(|e| trouble("store what arrives for", None, errno(&e)))
    }

    /// A claimed chunk is written, and this is its hash. `bytes`: the whole of it, if it is in
    /// memory.
    pub fn written(
        &self,
        chunk: u32,
        hash: ChunkHash,
        from: LinkId,
        bytes: Option<&[u8]>,
    ) -> Result<ChunkVerdict, Trouble> {
        let mut state = self.lock();
        if state.list.as_ref().is_some_and(|list| list[chunk as usize] != hash) {
            drop(state);
            self.release(chunk);
            return Ok(ChunkVerdict::Wrong);
        }
        if let Err(error) = state.log.note(Record { chunk, hash }) {
            drop(state);
            // It does not count, so that it may be claimed again.
            self.release(chunk);
            return Err(trouble("store what arrives for", None, errno(&error)));
        }
        state.writing.remove(&chunk);
        state.held[chunk as usize] = Some(HeldChunk { hash, from: Some(from) });
        drop(state);
        self.sign(chunk, hash, bytes);
        Ok(ChunkVerdict::Held)
    }

    /// A claimed chunk is given up half way.
    pub fn release(&self, chunk: u32) {
        self.make_hole(chunk);
        self.lock().writing.remove(&chunk);
    }

    fn make_hole(&self, chunk: u32) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (offset, len) = (self.chunks.offset(chunk), self.chunks.len(chunk));
        if rustix::fs::fallocate(self.file(), flags, offset, len).is_err() {
            // What was half written shows through where zeros are left out.
            self.has_holes.store(false, Ordering::Relaxed);
        }
    }

    /// These chunks are written for now: the disk may begin with them.
    pub fn write_back(&self, first: u32, count: u32) {
        if let Some((offset, len)) = self.chunks.span(first, count).filter(|_| !self.target.is_direct()) {
            start_writeback(self.file(), offset, offset + len);
        }
    }

    /// The list, if it is the content's: what is here and not in it goes, and is told with who sent
    /// it.
    pub fn list_came(&self, list: Vec<ChunkHash>) -> Option<Vec<(u32, Option<LinkId>)>> {
        if self.chunks.root(&list)? != self.content {
            return None;
        }
        let mut state = self.lock();
        let is_bad = |(held, hash): (&Option<HeldChunk>, &ChunkHash)| held.is_some_and(|held| held.hash != *hash);
        let bad: Vec<u32> =
            (0..).zip(state.held.iter().zip(&list)).filter(|(_, both)| is_bad(*both)).map(|(n, _)| n).collect();
        let reported = bad.iter().map(|chunk| (*chunk, state.held[*chunk as usize].take().and_then(|held| held.from)));
        let reported = reported.collect();
        state.list = Some(list);
        // Before anyone may claim them: a hole must not swallow what comes in their place.
        for chunk in bad {
            self.make_hole(chunk);
        }
        drop(state);
        Some(reported)
    }

    /// Whether all is here, and is the content.
    pub fn is_content(&self) -> bool {
        self.hashes().is_some_and(|hashes| self.chunks.root(&hashes) == Some(self.content))
    }

    /// Of all chunks; `None` while one is missing.
    pub fn hashes(&self) -> Option<Vec<ChunkHash>> {
        self.lock().held.iter().map(|held| held.map(|held| held.hash)).collect()
    }

    /// Whether these chunks are here and the list says that they are right.
    pub fn may_serve(&self, first: u32, count: u32) -> bool {
        let state = self.lock();
        let is_here = |chunk: u32| state.held[chunk as usize].is_some();
        state.list.is_some() && self.chunks.span(first, count).is_some() && (first..first + count).all(is_here)
    }

    /// For reading; everything here is written at its place.
    pub fn file(&self) -> &File {
        self.target.file()
    }
}

#[cfg(test)]
mod tests;
