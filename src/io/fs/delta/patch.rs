//! The end that has the base: makes the new version in staging of what it has and what the delta
//! says.
//!
//! One thread reads the delta and cuts it at the new version's chunks; others each take a chunk,
//! gather its bytes, write, hash and sign them while they are in the cache. Where the file system
//! shares extents, what stands at the same offset is not written at all.
//!
//! The base is a user's file (P1): it must have its known stat before and after. Nothing is
//! believed but the hash of the whole.

use super::sum::threads;
use super::{Arrived, Deltas, beneath};
use crate::delta::has_signature;
use crate::delta::patch::{Patch, PatchError, Sink};
use crate::delta::signature::{Piece, Pieces, Signature};
use crate::engine::{FetchError, ServedFile, StageId};
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::LastFolder;
use crate::io::fs::direct::{Buffer, LargeReader, Target};
use crate::io::fs::stage::{self, Bulk, Stage};
use crate::io::fs::trouble::{errno, trouble};
use crate::model::{Chunks, ContentId};
use crate::wire::packet::Ending;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Chunks that wait for a thread, for each of them: what is said literally is in memory (P9).
const WAITING_CHUNKS: usize = 1;
/// No chunk is made of more parts: a delta of single bytes would take memory, and is none of ours.
const MAX_SPANS: usize = 8192;
/// Extents are shared in whole blocks of the file system; 64 KiB is a multiple of all of them.
const EXTENT_BYTES: u64 = 64 * 1024;
/// A base that changed this recently may change again without a new stat (ns).
const QUIESCED: Duration = Duration::from_secs(2);
/// What lies askew in the base is read through as much memory.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Credit is granted in such steps.
const GRANT_BYTES: u64 = 1 << 20;

/// A content that is wanted, and what is here to make it of.
pub struct PatchTarget {
    pub content: ContentId,
    pub size: u64,
    pub base: ServedFile,
}

/// Applies a delta as it comes. Whether there was one; `None`: abandoned.
fn read_delta(
    mut patch: Patch,
    parts: &mpsc::Receiver<Arrived>,
    grant: &mut impl FnMut(u64),
    assembly: &mut Assembly,
) -> Result<Option<bool>, Failed> {
    let mut unspent = 0;
    loop {
        match parts.recv() {
            Err(mpsc::RecvError) => return Ok(None),
            Ok(Arrived::End(Ending::Whole)) => break,
            // The link lets no zeros into a delta.
            Ok(Arrived::End(_) | Arrived::Zeros(_)) => return Ok(Some(false)),
            Ok(Arrived::Bytes(bytes)) => {
                patch.push(&bytes, assembly).map_err(Failed::of)?;
                unspent += bytes.len() as u64;
                if unspent >= GRANT_BYTES {
                    grant(std::mem::take(&mut unspent));
                }
            }
        }
    }
    patch.finish().map_err(Failed::of)?;
    Ok(Some(true))
}

/// Why it came to nothing.
enum Failed {
    /// The delta is none, or not of this base.
    Bad(String),
    /// The base is not what it was.
    BaseChanged,
    Disk(io::Error),
}

impl Deltas {
    /// Reads the delta of `peer` from `parts` and makes the content in staging, granting credit as
    /// it goes. `None`: abandoned, nobody waits for an answer.
    pub fn receive(
        &self,
        wanted: &PatchTarget,
        peer: &str,
        parts: &mpsc::Receiver<Arrived>,
        mut grant: impl FnMut(u64),
    ) -> Option<Result<StageId, FetchError>> {
        let (size, base_size) = (wanted.size, wanted.base.size);
        let open = || self.root.open_served(&mut LastFolder::default(), &wanted.base).ok();
        let Some(base) = open().filter(|_| has_signature(size)) else { return Some(Err(FetchError::NoDelta)) };
        let (staged, file) = match PatchedFile::create(&self.stage, size) {
            Ok(created) => created,
            Err(error) => return Some(Err(error)),
        };
        let shares = match has_quiesced(&wanted.base).then(|| shares_extents(&base, &file, size)) {
            Some(Ok(shares)) => shares,
            None => false,
            Some(Err(why)) => return Some(Err(disk_failed(wanted, why))),
        };
        let target = self.stage.target_of_another(staged.id, file, size);
        let base = LargeReader::new(base, if target.is_direct() { open() } else { None });
        let chunks = Chunks::of(size);
        let (pieces, has_failed) = (Mutex::new(Pieces::new(chunks)), AtomicBool::new(false));
        let old = self.kept(&wanted.base.content, base_size);
        let making = Making { base: &base, target: &target, chunks, old, pieces, has_failed };
        let made = making.run(shares, |assembly| read_delta(Patch::new(base_size, size), parts, &mut grant, assembly));
        let pieces = making.pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        let made = match made {
            Ok(None) => return None,
            Ok(Some(false)) => return Some(Err(FetchError::NoDelta)),
            Ok(Some(true)) => self.verify(wanted, base.file(), pieces),
            Err(failed) => Err(failed),
        };
        Some(match made {
            Ok(()) => Ok(staged.keep()),
            Err(Failed::Disk(why)) => Err(disk_failed(wanted, errno(&why))),
            Err(Failed::BaseChanged) => {
                tracing::debug!("'{}' changed while a delta was applied to it", wanted.base.path);
                Err(FetchError::NoDelta)
            }
            Err(Failed::Bad(why)) => {
                let path = &wanted.base.path;
                tracing::warn!("{peer}'s delta for '{path}' is of no use: {why}; it is fetched whole");
                Err(FetchError::NoDelta)
            }
        })
    }

    fn verify(&self, wanted: &PatchTarget, base: &File, pieces: Pieces) -> Result<(), Failed> {
        if beneath::facts(base).map_err(io::Error::from)?.stat != wanted.base.stat {
            return Err(Failed::BaseChanged);
        }
        match pieces.finish() {
            Some((content, signature)) if content == wanted.content => {
                if let (Some(signatures), Some(signature)) = (&self.signatures, signature) {
                    signatures.put(&content, &signature);
                }
                Ok(())
            }
            _ => Err(Failed::Bad("what it makes is not the announced content".to_owned())),
        }
    }
}

fn disk_failed(wanted: &PatchTarget, why: Errno) -> FetchError {
    FetchError::Staging(trouble("store what arrives for", Some(&wanted.base.path), why))
}

impl From<io::Error> for Failed {
    fn from(why: io::Error) -> Self {
        Self::Disk(why)
    }
}

impl Failed {
    fn of(error: PatchError<Failed>) -> Self {
        match error {
            PatchError::Sink(failed) => failed,
            PatchError::Magic => Self::Bad("it does not begin as one".to_owned()),
            other => Self::Bad(other.to_string()),
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bad(why) => f.write_str(why),
            Self::BaseChanged => f.write_str("its base changed"),
            Self::Disk(why) => why.fmt(f),
        }
    }
}

/// The file in staging; removed unless it is kept.
struct PatchedFile {
    stage: Arc<Stage>,
    id: StageId,
    is_kept: bool,
    _bulk: Bulk,
}

impl PatchedFile {
    fn create(stage: &Arc<Stage>, size: u64) -> Result<(Self, File), FetchError> {
        stage.check_room().map_err(FetchError::Staging)?;
        let created = fail::at(Point::FetchCreate).and_then(|()| stage.create_file());
        let failed = |e| FetchError::Staging(trouble("stage what arrives for", None, e));
        let (id, file) = created.map_err(failed)?;
        let staged = Self { stage: Arc::clone(stage), id, is_kept: false, _bulk: stage.begin_bulk() };
        // Holes where nothing is written: zeros.
        rustix::fs::ftruncate(&file, size).map_err(failed)?;
        Ok((staged, file))
    }

    fn keep(mut self) -> StageId {
        self.is_kept = true;
        fail::after(Point::FetchFinished);
        self.id
    }
}

impl Drop for PatchedFile {
    fn drop(&mut self) {
        if !self.is_kept {
            self.stage.discard(self.id);
        }
    }
}

/// Where a chunk's bytes come from. Ranges are of the chunk.
enum ChunkSpan {
    Literal(Range<usize>, Vec<u8>),
    /// From this offset of the base. `is_there`: it shares the base's extents already.
    Copy(Range<usize>, u64, bool),
}

impl ChunkSpan {
    fn range(&self) -> &Range<usize> {
        match self {
            Self::Literal(range, _) | Self::Copy(range, ..) => range,
        }
    }

    fn is_there(&self) -> bool {
        matches!(self, Self::Copy(.., true))
    }
}

/// One chunk of the new version, to be made.
struct Chunk {
    index: u32,
    spans: Vec<ChunkSpan>,
}

/// What the threads share.
struct Making<'a> {
    base: &'a LargeReader,
    target: &'a Target,
    chunks: Chunks,
    /// The base's.
    old: Option<Signature>,
    pieces: Mutex<Pieces>,
    /// A thread gave up, and says why at the end.
    has_failed: AtomicBool,
}

impl Making<'_> {
    /// Runs the threads while `read` feeds them, and says what it said, or what went wrong.
    fn run<T>(&self, shares: bool, read: impl FnOnce(&mut Assembly) -> Result<T, Failed>) -> Result<T, Failed> {
        let count = threads(self.chunks.size());
        let (chunks, waiting) = mpsc::sync_channel(count * WAITING_CHUNKS);
        let waiting = Mutex::new(waiting);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..count)
                .map_while(|_| {
                    let work = || self.work(&waiting);
                    thread::Builder::new().name("patch".to_owned()).spawn_scoped(scope, work).ok()
                })
                .collect();
            if workers.is_empty() {
                return Err(Failed::Disk(io::ErrorKind::WouldBlock.into()));
            }
            let mut assembly = Assembly { making: self, chunks, spans: Vec::new(), at: 0, shares };
            let said = read(&mut assembly);
            drop(assembly);
            let gone = || Err(Failed::Disk(io::Error::other("a thread died")));
            let worked = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| gone()));
            // What stopped a thread comes first: the reader only finds that nobody listens.
            worked.fold(Ok(()), Result::and).and(said)
        })
    }

    fn work(&self, waiting: &Mutex<mpsc::Receiver<Chunk>>) -> Result<(), Failed> {
        let chunk_bytes = self.chunks.len(0) as usize;
        let (mut buffer, mut scratch) = (Buffer::new(chunk_bytes), Buffer::new(chunk_bytes.min(SCRATCH_BYTES)));
        let worked = loop {
            // Held while it waits: the others have nothing to wait for either.
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(chunk) = next else { return Ok(()) };
            if let Err(failed) = self.make(&chunk, buffer.space(), &mut scratch) {
                break failed;
            }
        };
        self.has_failed.store(true, Ordering::Relaxed);
        // The reader may wait for room in the queue.
        while waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok() {}
        Err(worked)
    }

    fn make(&self, chunk: &Chunk, buffer: &mut [u8], scratch: &mut Buffer) -> Result<(), Failed> {
        let (from, length) = (self.chunks.offset(chunk.index), self.chunks.len(chunk.index) as usize);
        let bytes = &mut buffer[..length];
        for span in &chunk.spans {
            match span {
                ChunkSpan::Literal(range, literal) => bytes[range.clone()].copy_from_slice(literal),
                ChunkSpan::Copy(range, offset, _) => {
                    let read = self.base.read_exact_at(&mut bytes[range.clone()], *offset, scratch);
                    read.map_err(|why| match why.kind() {
                        io::ErrorKind::UnexpectedEof => Failed::BaseChanged,
                        _ => Failed::Bad(format!("the file that it builds upon cannot be read: {why}")),
                    })?;
                }
            }
        }
        fail::at(Point::FetchWrite).map_err(io::Error::from)?;
        let (mut at, mut wrote) = (0, false);
        for span in chunk.spans.iter().filter(|span| span.is_there()) {
            wrote |= self.write(from, bytes, at..span.range().start)?;
            at = span.range().end;
        }
        wrote |= self.write(from, bytes, at..length)?;
        if wrote && !self.target.is_direct() {
            stage::start_writeback(self.target.file(), from, from + length as u64);
        }
        let piece = Piece::like(self.old.as_ref(), self.chunks, chunk.index, bytes);
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).put(chunk.index, piece);
        Ok(())
    }

    /// What is all zeros stays a hole. Whether anything was written.
    fn write(&self, chunk: u64, bytes: &[u8], range: Range<usize>) -> io::Result<bool> {
        let part = &bytes[range.clone()];
        if part.iter().all(|byte| *byte == 0) {
            return Ok(false);
        }
        self.target.write_all_at(part, chunk + range.start as u64)?;
        Ok(true)
    }

    /// Makes a range of the new file share the base's extents; `false` where that cannot be. A part
    /// of it would be no hole any more.
    fn share(&self, base_from: u64, from: u64, length: u64) -> Result<bool, Failed> {
        let (file, mut source, mut target, mut left) = (self.target.file(), base_from, from, length);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(self.base.file(), Some(&mut source), file, Some(&mut target), part) {
                Ok(0) => return Err(Failed::BaseChanged),
                Ok(copied) => left -= copied as u64,
                Err(_) if left == length => return Ok(false),
                Err(why) => return Err(Failed::Disk(why.into())),
            }
        }
        Ok(true)
    }
}

/// Cuts what the delta says at the new version's chunks.
struct Assembly<'a> {
    making: &'a Making<'a>,
    chunks: mpsc::SyncSender<Chunk>,
    spans: Vec<ChunkSpan>,
    /// How far it is said (bytes of the new version).
    at: u64,
    shares: bool,
}

impl Assembly<'_> {
    /// The rest of the chunk that is being said, or of `length` if that is less.
    fn room(&self, length: u64) -> (usize, usize) {
        let bytes = self.making.chunks.chunk_bytes();
        let from = self.at % bytes;
        (from as usize, (bytes - from).min(length) as usize)
    }

    fn push(&mut self, span: ChunkSpan) -> Result<(), Failed> {
        self.at += span.range().len() as u64;
        self.spans.push(span);
        let bytes = self.making.chunks.chunk_bytes();
        // That thread's reason counts.
        if self.making.has_failed.load(Ordering::Relaxed) {
            return Err(Failed::BaseChanged);
        }
        if self.spans.len() > MAX_SPANS {
            return Err(Failed::Bad("it is made of too many parts".to_owned()));
        }
        if self.at.is_multiple_of(bytes) || self.at == self.making.chunks.size() {
            let chunk = Chunk { index: ((self.at - 1) / bytes) as u32, spans: std::mem::take(&mut self.spans) };
            // Nobody listens any more: the threads say why.
            self.chunks.send(chunk).map_err(|_| Failed::BaseChanged)?;
        }
        Ok(())
    }

    fn copy_part(&mut self, mut offset: u64, mut length: u64, is_there: bool) -> Result<(), Failed> {
        while length > 0 {
            let (from, part) = self.room(length);
            self.push(ChunkSpan::Copy(from..from + part, offset, is_there))?;
            offset += part as u64;
            length -= part as u64;
        }
        Ok(())
    }
}

impl Sink for Assembly<'_> {
    type Error = Failed;

    fn copy(&mut self, offset: u64, length: u64) -> Result<(), Failed> {
        let to_block = (self.at.next_multiple_of(EXTENT_BYTES) - self.at).min(length);
        let whole = (length - to_block) / EXTENT_BYTES * EXTENT_BYTES;
        let is_alike = self.at % EXTENT_BYTES == offset % EXTENT_BYTES;
        if !(self.shares && is_alike && whole > 0) {
            return self.copy_part(offset, length, false);
        }
        self.shares = self.making.share(offset + to_block, self.at + to_block, whole)?;
        self.copy_part(offset, to_block, false)?;
        self.copy_part(offset + to_block, whole, self.shares)?;
        self.copy_part(offset + to_block + whole, length - to_block - whole, false)
    }

    fn literal(&mut self, mut bytes: &[u8]) -> Result<(), Failed> {
        while !bytes.is_empty() {
            let (from, part) = self.room(bytes.len() as u64);
            let (now, rest) = bytes.split_at(part);
            let chunk_end = self.chunk_end();
            match self.spans.last_mut() {
                // A literal comes in as many parts as the stream was cut into.
                Some(ChunkSpan::Literal(range, so_far)) if range.end == from && from + part < chunk_end => {
                    so_far.extend_from_slice(now);
                    range.end += part;
                    self.at += part as u64;
                }
                _ => self.push(ChunkSpan::Literal(from..from + part, now.to_vec()))?,
            }
            bytes = rest;
        }
        Ok(())
    }
}

impl Assembly<'_> {
    /// Where the chunk that is being said ends, within itself.
    fn chunk_end(&self) -> usize {
        let bytes = self.making.chunks.chunk_bytes();
        self.making.chunks.len((self.at / bytes) as u32) as usize
    }
}

/// Whether the file system can, by trying: a clone of the whole base costs little where it can, and
/// is emptied again. Into an empty file: a last block that is not whole cannot be shared into the
/// midst of a longer one.
fn shares_extents(base: &File, file: &File, size: u64) -> rustix::io::Result<bool> {
    rustix::fs::ftruncate(file, 0)?;
    let shares = rustix::fs::ioctl_ficlone(file, base).is_ok();
    rustix::fs::ftruncate(file, 0)?;
    rustix::fs::ftruncate(file, size)?;
    Ok(shares)
}

/// Whether a later change of the base cannot hide in the tick of the clock that its last one was
/// in. Then, with shared extents, what is read of the base is what was shared: sharing writes the
/// base's pages out and protects them, so that any later change, through a mapping too, makes a new
/// ctime, which is looked for at the end (P1).
fn has_quiesced(base: &ServedFile) -> bool {
    let changed = base.stat.ctime.max(base.stat.mtime);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let has_quiesced = i64::try_from(now.saturating_sub(QUIESCED).as_secs()).unwrap_or(0);
    changed.secs < has_quiesced
}

#[cfg(test)]
mod tests;
