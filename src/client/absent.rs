//! Why no daemon answers for a folder, and how one is started: by the unit, if one is installed.
//!
//! Deliberately not here: asking a daemon that answers.

use super::shown;
use crate::service::installed;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Of the lock file (bytes).
const LOCK_BYTES: u64 = 4096;

/// Why nobody listens. Displayed, it is a sentence for a person who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Safe to print.
    folder: String,
    pub kind: AbsenceKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbsenceKind {
    /// Something keeps it from running, and it will try again.
    Waits {
        pid: String,
        why: String,
    },
    StartsOrStops {
        pid: String,
    },
    NotRunning {
        start: String,
    },
}

impl Absence {
    pub(super) fn of(folder: &Path, private: Option<&OwnedFd>) -> Self {
        let kind = match private.and_then(held_lock) {
            Some((pid, Some(why))) => AbsenceKind::Waits { pid, why },
            Some((pid, None)) => AbsenceKind::StartsOrStops { pid },
            None => AbsenceKind::NotRunning { start: installed::start(folder, None) },
        };
        Self { folder: shown(folder), kind }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, kind } = self;
        match kind {
            AbsenceKind::Waits { pid, why } => {
                write!(f, "the daemon of '{folder}' (pid {pid}) waits and will start anew: {why}")
            }
            AbsenceKind::StartsOrStops { pid } => write!(
                f,
                "the daemon of '{folder}' (pid {pid}) is starting or stopping, and does not \
                 answer yet; ask again in a moment"
            ),
            AbsenceKind::NotRunning { start } => {
                write!(f, "no daemon is running for '{folder}'; start it with: {start}")
            }
        }
    }
}

/// The pid and the reason in the lock file, if a daemon holds it.
fn held_lock(private: impl AsFd) -> Option<(String, Option<String>)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(private, "lock", flags, Mode::empty()).ok()?);
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    (&mut file).take(LOCK_BYTES).read_to_string(&mut text).ok()?;
    let (pid, why) = text.split_once('\n').unwrap_or((&text, ""));
    let is_pid = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    let why = Some(why.trim()).filter(|why| !why.is_empty()).map(ToOwned::to_owned);
    Some((if is_pid { pid.to_owned() } else { "unknown".to_owned() }, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use tempfile::TempDir;

    #[test]
    fn a_daemon_that_holds_the_lock_is_starting_or_waits_for_what_it_says() {
        let home = TempDir::new().unwrap();
        let private = rustix::fs::openat(CWD, home.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let explain = || Absence::of(home.path(), Some(&private)).to_string();
        assert!(explain().contains("no daemon is running"));
        std::fs::write(home.path().join("lock"), "12\n").unwrap();
        assert!(explain().contains("no daemon is running"), "nobody holds it");
        let lock = File::open(home.path().join("lock")).unwrap();
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(explain().contains("(pid 12) is starting or stopping"));
        std::fs::write(home.path().join("lock"), "12\nthe disk is full\n").unwrap();
        assert!(explain().contains("(pid 12) waits and will start anew: the disk is full"));
    }
}
