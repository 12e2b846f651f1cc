//! Contents on their way in: `.dirsync/staging`.
//!
//! A staged file is ours alone (0600) until it is installed, and is hashed as it is written.
//! Anything left here by a crash is removed at the start, but for contents that came in chunks
//! (`partial`); what a crash left of someone else's goes to history. May import `engine`'s values
//! and `model`. Deliberately not here: moving staged files into the folder (`install`).

use crate::delta::has_signature;
use crate::delta::signature::Summer;
use crate::engine::{Cause, StageId, Trouble};
use crate::io::fail::{self, Point};
use crate::io::fs::beneath;
use crate::io::fs::direct::Target;
use crate::io::fs::kept_parts;
use crate::io::fs::rlimits;
use crate::io::fs::root::Root;
use crate::io::fs::staging::{is_kept_name, name};
use crate::io::fs::trouble::{errno, trouble};
use crate::io::store::signatures::Signatures;
use crate::model::ContentId;
use rustix::fs::{Advice, AtFlags, FileType};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Written bytes are handed to the disk this often, so that a later `fsync` finds little to wait
/// for.
pub(super) const WRITEBACK_BYTES: u64 = 8 << 20;

/// So much of the disk is left free: this share of it, but not more than so many bytes.
const RESERVE_PERCENT: u64 = 1;
const RESERVE_BYTES: u64 = 1 << 30;
/// How much of a disk of this size is left free (bytes).
pub fn reserve_bytes(all: u64) -> u64 {
    (all / 100 * RESERVE_PERCENT).min(RESERVE_BYTES)
}

/// The free space is asked for at most this often.
const ROOM_CHECK: Duration = Duration::from_millis(200);

/// Files without a name at once: a batch that is staged, and the one before it.
const MOST_NAMELESS: usize = 4096;

/// Why staged bytes are not accepted.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("the bytes are not the announced content")]
    BadContent,
    #[error("{}", .0.text)]
    Disk(Trouble),
}

/// The staging folder.
#[derive(Debug)]
pub struct Stage {
    root: Arc<Root>,
    next: AtomicU64,
    /// Writers above `WRITEBACK_BYTES` at work: a `syncfs` would wait for all that they wrote.
    bulk: AtomicUsize,
    room: Mutex<FreeSpace>,
    /// Where the signatures of what comes in are kept.
    signatures: OnceLock<Arc<Signatures>>,
    /// Files without a name that are open, and how many may be.
    nameless: Arc<AtomicUsize>,
    most_nameless: usize,
}

/// What the last look at the disk's free space said.
#[derive(Debug, Default)]
struct FreeSpace {
    checked: Option<Instant>,
    is_left: bool,
}

impl Stage {
    /// Removes what an earlier run left.
    pub fn open(root: Arc<Root>) -> io::Result<Arc<Self>> {
        let (next, bulk) = (AtomicU64::new(1), AtomicUsize::new(0));
        let most_nameless = if root.can_be_nameless() { most_nameless() } else { 0 };
        let (room, signatures, nameless) = (Mutex::default(), OnceLock::new(), Arc::default());
        let stage = Self { root, next, bulk, room, signatures, nameless, most_nameless };
        stage.clear()?;
        Ok(Arc::new(stage))
    }

    /// From now on the signatures of what comes in are kept there.
    pub fn keep_signatures(&self, signatures: Arc<Signatures>) {
        let _ = self.signatures.set(signatures);
    }

    pub(super) fn signatures(&self) -> Option<&Arc<Signatures>> {
        self.signatures.get()
    }

    /// Begins a content of so many bytes.
    pub fn create(self: &Arc<Self>, size: u64) -> Result<StageWriter, Trouble> {
        self.check_room()?;
        let created = fail::at(Point::FetchCreate).and_then(|()| self.create_file());
        let (id, file) = created.map_err(|e| trouble("stage what arrives for", None, e))?;
        let bulk = size > WRITEBACK_BYTES;
        if bulk {
            self.bulk.fetch_add(1, Ordering::Relaxed);
        }
        let is_signed = self.signatures().is_some() && has_signature(size);
        let sum =
            if is_signed { ContentHasher::Signed(Summer::new(size)) } else { ContentHasher::Plain(Box::default()) };
        Ok(StageWriter { stage: Arc::clone(self), id, file, sum, written: 0, handed_over: 0, bulk, kept: false })
    }

    /// Much is being staged from now on, until what is returned is dropped.
    pub(super) fn begin_bulk(self: &Arc<Self>) -> Bulk {
        self.bulk.fetch_add(1, Ordering::Relaxed);
        Bulk(Arc::clone(self))
    }

    /// A new empty file and its id.
    pub(super) fn create_file(&self) -> rustix::io::Result<(StageId, File)> {
        let id = self.next_id();
        beneath::create(self.root.staging(), &name(id)).map(|file| (id, file))
    }

    /// A new empty file without a name, of this mode but for the umask: cheaper to make, and gone
    /// by itself after a crash. `None` where that cannot be, or while too many are open.
    pub(super) fn create_nameless(&self, mode: rustix::fs::Mode) -> Option<Nameless> {
        let below_most = |open: usize| (open < self.most_nameless).then_some(open + 1);
        self.nameless.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below_most).ok()?;
        let open = Open(Arc::clone(&self.nameless));
        let file = beneath::create_nameless(self.root.staging(), mode).ok()?;
        Some(Nameless { file, _open: open })
    }

    /// A file that was created here, to be written of another one of about its size.
    pub(super) fn target_of_another(&self, id: StageId, file: File, size: u64) -> Target {
        Target::of_another(file, size, self.root.staging(), &name(id))
    }

    /// The last bit of a disk is left to its users: staging may fill it at once, and then nobody
    /// can work.
    pub(super) fn check_room(&self) -> Result<(), Trouble> {
        let mut room = self.room();
        if room.checked.is_none_or(|at| at.elapsed() >= ROOM_CHECK) {
            *room = FreeSpace { checked: Some(Instant::now()), is_left: self.free().is_none_or(|free| free > 0) };
        }
        if room.is_left {
            return Ok(());
        }
        let text = "the folder's disk is nearly full: nothing more is fetched until there is room; free some space";
        Err(Trouble { cause: Cause::NoSpace, text: text.to_owned() })
    }

    /// Something was removed: the next question is asked of the disk.
    pub(super) fn check_room_again(&self) {
        self.room().checked = None;
    }

    /// Whether so many bytes more leave the last bit of the disk to its users.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        self.free().is_none_or(|free| free >= bytes)
    }

    fn room(&self) -> MutexGuard<'_, FreeSpace> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that may be filled. `None`: it cannot be told, as of a disk without a size, and
    /// is found out by writing.
    fn free(&self) -> Option<u64> {
        let disk = rustix::fs::fstatvfs(self.root.staging()).ok().filter(|disk| disk.f_blocks > 0)?;
        let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        Some(free.saturating_sub(reserve_bytes(all)))
    }

    pub(super) fn next_id(&self) -> StageId {
        StageId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Forgets a staged content.
    pub fn discard(&self, id: StageId) {
        let _ = rustix::fs::unlinkat(self.root.staging(), name(id), AtFlags::empty());
    }

    /// Opens a staged content for reading, and forgets it: it is gone with the descriptor.
    pub fn take(&self, id: StageId) -> io::Result<File> {
        let opened = beneath::reopen(self.root.staging(), name(id).as_bytes());
        self.discard(id);
        opened.map_err(beneath::std_error)
    }

    /// Whether much is being staged just now.
    pub fn is_bulk_under_way(&self) -> bool {
        self.bulk.load(Ordering::Relaxed) > 0
    }

    /// All but what is kept for another try.
    fn clear(&self) -> io::Result<()> {
        let staging = self.root.staging();
        kept_parts::take_back(staging)?;
        for item in rustix::fs::Dir::read_from(staging)? {
            let item = item?;
            let file_name = item.file_name();
            let is_kept = item.file_type() == FileType::RegularFile && is_kept_name(file_name.to_bytes());
            if is_kept || matches!(file_name.to_bytes(), b"." | b"..") {
                continue;
            }
            if item.file_type() != FileType::Directory {
                rustix::fs::unlinkat(staging, file_name, AtFlags::empty())?;
            } else if let Err(e) = rustix::fs::unlinkat(staging, file_name, AtFlags::REMOVEDIR) {
                self.save_folder(file_name, e)?;
            }
        }
        Ok(())
    }

    /// A crash between two exchanges left a folder that holds something: it is someone's, so it is
    /// kept (P2).
    fn save_folder(&self, file_name: &std::ffi::CStr, e: Errno) -> io::Result<()> {
        if e != Errno::NOTEMPTY && e != Errno::EXIST {
            return Err(e.into());
        }
        let kept =
            crate::io::fs::history_name::unique_name(crate::engine::RetainReason::Conflict, b"recovered-folder", None)
                .name;
        rustix::fs::renameat(self.root.staging(), file_name, self.root.history(), kept.as_str())?;
        tracing::warn!(
            "a folder that was being replaced when the daemon was stopped is kept as '.dirsync/history/{kept}'"
        );
        Ok(())
    }
}

/// A file without a name.
#[derive(Debug)]
pub(super) struct Nameless {
    pub file: File,
    _open: Open,
}

/// Counts an open file until it is dropped.
#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A quarter of the descriptors that we may have.
fn most_nameless() -> usize {
    rlimits::descriptors().map_or(MOST_NAMELESS, |may_have| MOST_NAMELESS.min(may_have as usize / 4))
}

/// Something large is on its way into staging.
#[derive(Debug)]
pub(super) struct Bulk(Arc<Stage>);

impl Bulk {
    pub fn stage(&self) -> &Stage {
        &self.0
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.0.bulk.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What adds up the bytes of a content: its hash, and for one that is long enough its signature by
/// the way.
enum ContentHasher {
    Plain(Box<blake3::Hasher>),
    Signed(Summer),
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self::Plain(Box::default())
    }
}

/// A content being written; removed when dropped before `finish`.
pub struct StageWriter {
    stage: Arc<Stage>,
    id: StageId,
    file: File,
    sum: ContentHasher,
    written: u64,
    handed_over: u64,
    bulk: bool,
    kept: bool,
}

impl StageWriter {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let written = fail::at(Point::FetchWrite).map_err(io::Error::from).and_then(|()| self.file.write_all(bytes));
        written.map_err(|e| StageError::Disk(staging_trouble(&e)))?;
        match &mut self.sum {
            ContentHasher::Plain(hasher) => {
                hasher.update(bytes);
            }
            ContentHasher::Signed(summer) => summer.update(bytes),
        }
        self.written += bytes.len() as u64;
        if self.written - self.handed_over >= WRITEBACK_BYTES {
            start_writeback(&self.file, self.handed_over, self.written);
            self.handed_over = self.written;
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Keeps it, if its bytes are `content`. Not durable yet: installing sees to that.
    pub fn finish(mut self, content: &ContentId) -> Result<StageId, StageError> {
        let (sum, signature) = match std::mem::take(&mut self.sum) {
            ContentHasher::Plain(hasher) => (ContentId(*hasher.finalize().as_bytes()), None),
            ContentHasher::Signed(summer) => summer.finish().ok_or(StageError::BadContent)?,
        };
        if sum != *content {
            return Err(StageError::BadContent);
        }
        if let (Some(signature), Some(signatures)) = (signature, self.stage.signatures()) {
            signatures.put(content, &signature);
        }
        if self.bulk {
            start_writeback(&self.file, self.handed_over, self.written);
        }
        self.kept = true;
        fail::after(Point::FetchFinished);
        Ok(self.id)
    }
}

impl Drop for StageWriter {
    fn drop(&mut self) {
        if self.bulk {
            self.stage.bulk.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.kept {
            self.stage.discard(self.id);
        }
    }
}

fn staging_trouble(e: &io::Error) -> Trouble {
    trouble("store what arrives for", None, errno(e))
}

/// Asks the kernel to begin writing a range to the disk, without waiting: `POSIX_FADV_DONTNEED`
/// does so, as `sync_file_range` would, before it drops the pages that are clean already.
pub(super) fn start_writeback(file: &File, from: u64, to: u64) {
    if let Some(len) = NonZeroU64::new(to - from) {
        let _ = rustix::fs::fadvise(file, from, Some(len), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(dir: &std::path::Path) -> usize {
        std::fs::read_dir(dir.join(".dirsync/staging")).unwrap().count()
    }

    #[test]
    fn only_bytes_with_the_right_hash_stay() {
        let temp = tempfile::tempdir().unwrap();
        let stage = Stage::open(Arc::new(Root::open(temp.path()).unwrap())).unwrap();
        let content = ContentId::of(b"hello world");
        let mut good = stage.create(11).unwrap();
        good.write(b"hello ").unwrap();
        good.write(b"world").unwrap();
        let id = good.finish(&content).unwrap();
        assert_eq!(std::fs::read(temp.path().join(".dirsync/staging").join(name(id))).unwrap(), b"hello world");

        let mut bad = stage.create(3).unwrap();
        bad.write(b"bad").unwrap();
        assert!(matches!(bad.finish(&content), Err(StageError::BadContent)));
        drop(stage.create(WRITEBACK_BYTES + 1).unwrap());
        assert_eq!(staged(temp.path()), 1);
        assert!(!stage.is_bulk_under_way());
        stage.discard(id);
        assert_eq!(staged(temp.path()), 0);
    }

    #[test]
    fn leftovers_go_at_the_start_but_a_folder_that_holds_something_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(temp.path()).unwrap());
        let staging = temp.path().join(".dirsync/staging");
        std::fs::write(staging.join("old"), "x").unwrap();
        std::fs::create_dir(staging.join("empty")).unwrap();
        std::fs::create_dir(staging.join("full")).unwrap();
        std::fs::write(staging.join("full/theirs"), "precious").unwrap();
        Stage::open(root).unwrap();
        assert_eq!(staged(temp.path()), 0);
        let kept = std::fs::read_dir(temp.path().join(".dirsync/history")).unwrap().next().unwrap().unwrap();
        assert_eq!(std::fs::read(kept.path().join("theirs")).unwrap(), b"precious");
    }
}
