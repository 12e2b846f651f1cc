//! What an inspection has in hand: a stat, an open file, its bytes.
//!
//! Deliberately not here: the order of the steps (`inspect.rs`).

use crate::engine::{Observed, PriorContent, Stat, StatKind};
use crate::io::fs::beneath::Facts;
use crate::io::fs::inspect::durable::{COARSE_TICK_NS, TICK_NS};
use crate::model::{FileTime, SyncPath};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Something other than what is known.
pub(super) struct Fresh {
    pub(super) path: SyncPath,
    /// `None`: it is not there any more.
    pub(super) facts: Option<Facts>,
    /// The ctime of the folder that it is in, once it was asked for.
    pub(super) folder_changed: Option<FileTime>,
    pub(super) known: Option<Stat>,
    pub(super) was: Option<PriorContent>,
    pub(super) body: bool,
    /// Open already.
    pub(super) file: Option<File>,
}

/// What an inspection found.
pub(super) struct InspectResult {
    pub(super) path: SyncPath,
    pub(super) observed: rustix::io::Result<Observed>,
}

/// A small file's bytes, counted while anyone holds them.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) held: Arc<AtomicUsize>,
}

/// Makes durable on a thread of its own, while this one observes.
pub(super) fn beside<T>(
    durable: impl FnOnce() -> rustix::io::Result<()> + Send,
    observe: impl FnOnce() -> T,
) -> (rustix::io::Result<()>, T) {
    let durable = Mutex::new(Some(durable));
    let make_durable = || {
        let once = durable.lock().unwrap_or_else(PoisonError::into_inner).take();
        once.map_or(Err(Errno::IO), |durable| durable())
    };
    std::thread::scope(|scope| {
        let sync = std::thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, make_durable);
        let observed = observe();
        let synced = match sync {
            Ok(sync) => sync.join().unwrap_or(Err(Errno::IO)),
            // No thread to be had.
            Err(_) => make_durable(),
        };
        (synced, observed)
    })
}

/// Fills the buffer, or reads to the end.
pub(super) fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Whether a folder's permissions or a link's time were changed. What is in a folder changes its
/// times, too.
pub(super) fn is_changed_in_place(known: &Stat, now: &Stat) -> bool {
    let of_its_own = |stat: &Stat| (stat.mode, (stat.kind == StatKind::Symlink).then_some(stat.mtime));
    (known.kind, known.ino) == (now.kind, now.ino) && of_its_own(known) != of_its_own(now)
}

pub(super) fn is_same_folder(known: &Stat, now: &Stat) -> bool {
    let folder = StatKind::Directory;
    (known.kind, now.kind) == (folder, folder) && (known.ino, known.mode) == (now.ino, now.mode)
}

impl Fresh {
    pub(super) fn is_folder(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.stat.kind == StatKind::Directory)
    }

    /// When it or the names in its folder were last changed at the latest (ns since 1970), by the
    /// kernel's word; `None` of what is not there.
    pub(super) fn changed_ns(&self) -> Option<i128> {
        let latest = |time: FileTime| {
            let tick = if time.nanos == 0 { COARSE_TICK_NS } else { TICK_NS };
            i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos) + tick
        };
        Some(latest(self.facts.as_ref()?.stat.ctime).max(latest(self.folder_changed?)))
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}
