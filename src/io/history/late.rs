//! What is written into a file after it went to history, by someone who still holds it open.
//!
//! It is the same inode, so the bytes are here. It is looked at again 5 s after it came, and at every start: what has changed is
//! the loser of a conflict from then on, and is kept and reported as one (P2). May import `engine`'s values and `model`.
//! Deliberately not here: what a conflict means.

use super::name::{NAME_BYTES, Parsed, parse, renamed, sidecar};
use super::{History, Item};
use crate::engine::{Event, Keep, Stat, StatKind};
use crate::io::{Events, beneath};
use crate::model::{Kind, SyncPath};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A writer with a descriptor still open is waited for this long.
const LATE: Duration = Duration::from_secs(5);
/// Watched at once; beyond that, only the next start finds a late write (P9).
const WATCHED: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Late {
    watched: VecDeque<Watched>,
    is_stopping: bool,
}

#[derive(Debug)]
struct Watched {
    due: Instant,
    name: String,
    path: SyncPath,
    /// As it was when it came, but for its ctime.
    stat: Stat,
}

impl History {
    /// A file has come in as `name`; it was what `stat` says.
    pub(in crate::io) fn watch(&self, name: &str, path: &SyncPath, stat: &Stat) {
        self.came_in(stat.size);
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if stat.kind == StatKind::File && late.watched.len() < WATCHED {
            let watched =
                Watched { due: Instant::now() + LATE, name: name.to_owned(), path: path.clone(), stat: *stat };
            late.watched.push_back(watched);
            self.arrived.notify_one();
        }
    }

    /// The thread: looks at each file when it is due, until it is stopped.
    pub fn run(&self, events: &Events) {
        if let Err(why) = self.look_at_all(events) {
            tracing::warn!("history cannot be listed: {why}");
        }
        while let Some(Watched { name, path, stat, .. }) = self.next_due() {
            let now = beneath::stat_at(self.root.history(), name.as_bytes());
            let Ok(Some(now)) = now else { continue };
            if (now.ino, now.size, now.mtime) != (stat.ino, stat.size, stat.mtime) {
                self.is_loser(events, &name, &path);
            }
        }
    }

    pub fn stop(&self) {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).is_stopping = true;
        self.arrived.notify_all();
    }

    fn next_due(&self) -> Option<Watched> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if late.is_stopping {
                return None;
            }
            let wait = late.watched.front().map(|first| first.due.saturating_duration_since(Instant::now()));
            match wait {
                Some(Duration::ZERO) => return late.watched.pop_front(),
                Some(wait) => {
                    late = self.arrived.wait_timeout(late, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                None => late = self.arrived.wait(late).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// At a start: those that were written while nobody looked.
    fn look_at_all(&self, events: &Events) -> io::Result<()> {
        for item in self.items()?.into_iter().filter(was_written_late) {
            if let Some(path) = &item.path {
                self.is_loser(events, &item.name, path);
            }
        }
        Ok(())
    }

    /// From now on it counts as the loser of a conflict.
    fn is_loser(&self, events: &Events, name: &str, path: &SyncPath) {
        let told = self.keep_as_loser(name, path).and_then(|kept| {
            let Some((file, facts)) =
                beneath::regular(self.root.history(), kept.as_bytes()).map_err(beneath::std_error)?
            else {
                return Ok(());
            };
            let (content, size) = beneath::content_of(&file)?;
            let (path, kind) = (path.clone(), Kind::File { size, content });
            events.send(Event::WrittenLate { path, stat: facts.stat, kind, kept });
            Ok(())
        });
        if let Err(why) = told {
            tracing::warn!(
                "'{path}' was written to after it was replaced; what was written is kept as '{name}' ({why})"
            );
        }
    }

    fn keep_as_loser(&self, name: &str, path: &SyncPath) -> io::Result<String> {
        let Some(kept) = renamed(name, Keep::Conflict).filter(|kept| kept != name) else { return Ok(name.to_owned()) };
        let history = self.root.history();
        // The sidecar first: without it the path is not known. The new name may just have become one that needs it.
        match (name.len() > NAME_BYTES, kept.len() > NAME_BYTES) {
            (true, _) => rustix::fs::renameat(history, sidecar(name), history, sidecar(&kept))?,
            (false, true) => beneath::create(history, &sidecar(&kept))?.write_all(path.as_bytes())?,
            (false, false) => {}
        }
        rustix::fs::renameat(history, name, history, kept.as_str())?;
        rustix::fs::fsync(history)?;
        Ok(kept)
    }
}

/// Its mtime is later than its name, and no later than its ctime: set by a write after it came. (An mtime that a user set
/// ahead is later than the ctime.)
fn was_written_late(item: &Item) -> bool {
    let Some(Parsed { time_ns, reason, .. }) = parse(&item.name) else { return false };
    let stat = &item.facts.stat;
    let (mtime, ctime) = (stat.mtime.as_stamp(), stat.ctime.as_stamp());
    let is_loser = matches!(reason, Keep::Conflict | Keep::Suspect);
    stat.kind == StatKind::File && !is_loser && mtime > time_ns && mtime <= ctime
}
