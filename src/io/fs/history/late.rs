//! What is written into a file after it went to history, by someone who still holds it open.
//!
//! It is the same inode, so the bytes are here. It is inspected again 5 s after it came, at every
//! start, and before it goes: what has changed is the loser of a conflict from then on, and is kept
//! and reported as one (P2). May import `engine`'s values and `model`. Deliberately not here: what
//! a conflict means.

use super::{History, Item, KeptVersion};
use crate::engine::{Event, FoundLoser, RetainReason, Stat, StatKind};
use crate::io::Events;
use crate::io::fs::beneath;
use crate::io::fs::history_name::{NAME_BYTES, Parsed, parse, renamed, sidecar};
use crate::model::{ContentId, Entry, FileTime, Kind, SyncPath};
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
    watched: VecDeque<WatchedItem>,
    sought: VecDeque<InterruptedReplacement>,
    spare: VecDeque<Spare>,
    is_stopping: bool,
}

#[derive(Debug)]
struct WatchedItem {
    due: Instant,
    name: String,
    path: SyncPath,
    /// As it was when it came, but for its ctime.
    stat: Stat,
}

/// What an install that was cut off replaced.
#[derive(Debug)]
struct InterruptedReplacement {
    path: SyncPath,
    winner: Entry,
    loser: Entry,
}

/// A deleted file whose content is live elsewhere here.
#[derive(Debug)]
struct Spare {
    name: String,
    was: Stat,
    content: ContentId,
    path: SyncPath,
    stat: Stat,
}

#[cfg(test)]
impl Late {
    /// Nothing is left that is due.
    pub fn is_idle(&self) -> bool {
        self.sought.is_empty() && self.spare.is_empty()
    }

    pub fn goes_on(&mut self) {
        self.is_stopping = false;
    }
}

enum LateTask {
    Watched(WatchedItem),
    Sought(InterruptedReplacement),
    Spare(Spare),
}

impl History {
    /// The thread is to find the loser of a conflict by its content, and to tell its name here.
    pub(in crate::io) fn find_loser(&self, path: SyncPath, winner: Entry, loser: Entry) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.sought.push_back(InterruptedReplacement { path, winner, loser });
        self.arrived.notify_one();
    }

    /// The thread is to remove what is spare.
    pub(in crate::io) fn drop_spare(&self, name: String, was: Stat, content: ContentId, path: SyncPath, stat: Stat) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.spare.push_back(Spare { name, was, content, path, stat });
        self.arrived.notify_one();
    }

    /// Only if nobody wrote to it since, and the same content is still at the other path (P2). It
    /// is read for that: what rotted, or was written through a mapping, is nowhere else.
    fn spare(&self, Spare { name, was, content, path, stat }: &Spare) -> io::Result<()> {
        let Some(facts) = beneath::facts_at(self.root.history(), name.as_bytes())? else { return Ok(()) };
        let now = facts.stat;
        let is_as_it_came = (now.kind, now.ino, now.size, now.mtime) == (was.kind, was.ino, was.size, was.mtime);
        let is_at_path = || Ok::<_, io::Error>(self.root.stat(path)? == Some(*stat));
        if is_as_it_came && is_at_path()? && self.content(name)? == Some(*content) && is_at_path()? {
            self.remove(name)?;
            self.went(name, facts.used_bytes);
        }
        Ok(())
    }

    /// The newest is the one: it came in by the last install there.
    fn sought(&self, events: &Events, sought: InterruptedReplacement) {
        let InterruptedReplacement { path, winner, loser } = sought;
        let is_it = |kept: &KeptVersion| {
            let holds =
                || self.content(&kept.name).is_ok_and(|content| content == loser.file().map(|(known, _)| known));
            kept.path == path && kept.reason == RetainReason::Conflict && holds()
        };
        match self.list(Some(&path)) {
            Ok(all) => {
                if let Some(KeptVersion { name: kept, .. }) = all.into_iter().find(is_it) {
                    events.send(Event::LoserFound(Box::new(FoundLoser { path, winner, loser, kept })));
                }
            }
            Err(why) => tracing::warn!("history cannot be listed: {why}"),
        }
    }

    /// A file has come in as `name`; it was what `stat` says.
    pub(in crate::io) fn watch(&self, name: &str, path: &SyncPath, stat: &Stat) {
        let facts = beneath::facts_at(self.root.history(), name.as_bytes()).ok().flatten();
        self.came_in(name, facts.map_or(stat.size, |facts| facts.used_bytes));
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if stat.kind == StatKind::File && late.watched.len() < WATCHED {
            let watched =
                WatchedItem { due: Instant::now() + LATE, name: name.to_owned(), path: path.clone(), stat: *stat };
            late.watched.push_back(watched);
            self.arrived.notify_one();
        }
    }

    /// The thread: looks at each file when it is due, until it is stopped.
    pub fn run(&self, events: &Events) {
        if let Err(why) = self.inspect_all(events) {
            tracing::warn!("history cannot be listed: {why}");
        }
        while let Some(due) = self.next_due() {
            let WatchedItem { name, path, stat, .. } = match due {
                LateTask::Watched(watched) => watched,
                LateTask::Sought(sought) => {
                    self.sought(events, sought);
                    continue;
                }
                LateTask::Spare(spare) => {
                    if let Err(why) = self.spare(&spare) {
                        tracing::warn!(
                            "'{}' stays in history, though its content is at '{}': {why}",
                            spare.name,
                            spare.path
                        );
                    }
                    continue;
                }
            };
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
        self.stop_answering();
    }

    fn next_due(&self) -> Option<LateTask> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if late.is_stopping {
                return None;
            }
            if let Some(sought) = late.sought.pop_front() {
                return Some(LateTask::Sought(sought));
            }
            if let Some(spare) = late.spare.pop_front() {
                return Some(LateTask::Spare(spare));
            }
            let wait = late.watched.front().map(|first| first.due.saturating_duration_since(Instant::now()));
            match wait {
                Some(Duration::ZERO) => return late.watched.pop_front().map(LateTask::Watched),
                Some(wait) => {
                    late = self.arrived.wait_timeout(late, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                None => late = self.arrived.wait(late).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Has the thread look once more at what was written to after it came; whether this was.
    pub(super) fn inspect_if_written(&self, item: &Item) -> bool {
        let Some(path) = item.path.as_ref().filter(|_| was_written_late(item)) else { return false };
        // As nothing can be: what it is now differs.
        let stat = Stat { mtime: FileTime { secs: i64::MIN, nanos: 0 }, ..item.facts.stat };
        let watched = WatchedItem { due: Instant::now(), name: item.name.clone(), path: path.clone(), stat };
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late.watched.len() < WATCHED {
            late.watched.push_front(watched);
            self.arrived.notify_one();
        }
        true
    }

    /// At a start: those that were written while nobody looked.
    fn inspect_all(&self, events: &Events) -> io::Result<()> {
        for item in self.items()?.into_iter().filter(was_written_late) {
            if let Some(path) = &item.path {
                self.is_loser(events, &item.name, path);
            }
        }
        Ok(())
    }

    /// From now on it counts as the loser of a conflict.
    fn is_loser(&self, events: &Events, name: &str, path: &SyncPath) {
        let reported = self.keep_as_loser(name, path).and_then(|kept| {
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
        if let Err(why) = reported {
            tracing::warn!(
                "'{path}' was written to after it was replaced; what was written is kept as '{name}' ({why})"
            );
        }
    }

    fn keep_as_loser(&self, name: &str, path: &SyncPath) -> io::Result<String> {
        let Some(kept) = renamed(name, RetainReason::Conflict).filter(|kept| kept != name) else {
            return Ok(name.to_owned());
        };
        let history = self.root.history();
        // The sidecar first: without it the path is not known. The new name may just have become
        // one that needs it.
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

/// Its mtime is later than its name, and no later than its ctime: set by a write after it came. (An
/// mtime that a user set ahead is later than the ctime.)
fn was_written_late(item: &Item) -> bool {
    let Some(Parsed { time_ns, reason, .. }) = parse(&item.name) else { return false };
    let stat = &item.facts.stat;
    let (mtime, ctime) = (stat.mtime.as_stamp(), stat.ctime.as_stamp());
    let is_loser = matches!(reason, RetainReason::Conflict | RetainReason::Suspect);
    stat.kind == StatKind::File && !is_loser && mtime > time_ns && mtime <= ctime
}
