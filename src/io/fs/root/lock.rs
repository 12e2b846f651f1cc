//! One daemon for a folder: the lock in its private directory.
//!
//! Deliberately not here: what is in that directory (`root.rs`).

use super::{RootError, failed, read_small, remove};
use crate::engine::StatKind;
use crate::io::fs::beneath::{self};
use crate::model::text;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// For so long another process may hold the folder's lock before it counts as a daemon.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// One daemon a folder: the lock goes with the process, whatever ends it.
pub(super) fn lock(private: &OwnedFd, shown: &str) -> Result<File, RootError> {
    // Not for writing: that would keep the file system from being remounted read-only while we run.
    // Something else by its name was planted there; opened non-blocking, a fifo never holds us up.
    let planted = beneath::facts_at(private, b"lock").ok().flatten().is_some_and(|old| old.stat.kind != StatKind::File);
    if planted {
        remove(private, "lock")
            .map_err(|_| RootError::Private { path: shown.to_owned(), why: "its 'lock' is no file" })?;
    }
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(private, "lock", flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(fd.map_err(|e| failed(shown, "open '.dirsync/lock'", e))?);
    match lock_soon(&file) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let text = read_small(private, "lock").unwrap_or_default();
            let pid = text.lines().next().filter(|pid| !pid.is_empty()).unwrap_or("unknown");
            return Err(RootError::Busy { path: shown.to_owned(), pid: text::escape(pid.as_bytes()) });
        }
        Err(e) => return Err(failed(shown, "lock '.dirsync/lock'", e)),
    }
    if let Err(why) = write_lock(private, &std::process::id().to_string()) {
        // Only the message to a second daemon needs it; a full disk is no reason not to serve.
        tracing::debug!("the pid is not in '.dirsync/lock': {why}");
    }
    Ok(file)
}

/// A client that finds nobody listening looks whether the lock is held, and holds it for that
/// instant itself.
pub(super) fn lock_soon(file: &File) -> rustix::io::Result<()> {
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PATIENCE / 50),
            locked => return locked,
        }
    }
}

pub(super) fn write_lock(private: &OwnedFd, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(private, "lock", flags, Mode::empty())?);
    writeln!(file, "{text}")
}
