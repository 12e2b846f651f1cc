//! Suspect files: their bytes changed and their stat did not, or the disk cannot read them.
//!
//! Either the disk let them rot, or a program wrote through a mapping on a file system that does
//! not mark such stores. The bytes do not say which, so they are no version until a person says so:
//! the disk column names them as what they are, and the winner stays what it was: so they are told
//! to nobody and served to nobody (P8). It is fetched again once that is decided. Where no write
//! explains the change, it is decided here. Deliberately not here: how they are found (`scrub.rs`).

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{Decision, Now, Stat};
use crate::engine::api::index::{Index, OnDisk, Row};
use crate::engine::api::problem::{Problem, SuspectCause};
use crate::engine::core::Core;
use crate::engine::limits::{BOOT_MARGIN_NS, HEALED_UNASKED};
use crate::engine::merge::MadeHere;
use crate::engine::safety::Safety;
use crate::engine::{Engine, Inspection, META_SUSPECTS};
use crate::model::version::STAMP_STEP;
use crate::model::{ContentId, Entry, Kind, Mode, SyncPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Suspect {
    /// What should be there.
    good: ContentId,
    /// What is there; `ContentId::UNREADABLE` if the disk does not say.
    found: ContentId,
    /// When that was found (ns since 1970).
    at: u64,
    decision: Option<Decision>,
}

/// A suspect file as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspectStatus {
    pub path: SyncPath,
    /// Nanoseconds since 1970.
    pub found_ns: u64,
    pub unreadable: bool,
    pub decision: Option<Decision>,
    pub cause: SuspectCause,
}

#[derive(Default)]
pub(in crate::engine) struct Suspects {
    by_path: BTreeMap<SyncPath, Suspect>,
    dirty: bool,
}

impl Suspects {
    pub fn load(index: &impl Index) -> Self {
        let stored: Vec<(SyncPath, Suspect)> =
            index.meta(META_SUSPECTS).and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        Self { by_path: stored.into_iter().collect(), dirty: false }
    }

    pub fn contains(&self, path: &SyncPath) -> bool {
        self.by_path.contains_key(path)
    }

    pub fn len(&self) -> usize {
        self.by_path.len()
    }
}

impl Safety {
    /// Whether nobody can have written these bytes. The stat says that no write was in this boot:
    /// on this file system a store through a mapping would show too, and no page of before the boot
    /// is still mapped. And the file was hashed and right in this boot: so it was no write of
    /// before, whose new stat a power cut took back while its bytes stayed.
    fn no_write_explains(&self, path: &SyncPath, stat: &Stat) -> bool {
        let boot = self.scrub.boot();
        let before_boot = boot.began.saturating_sub(BOOT_MARGIN_NS);
        boot.marks_stores
            && stat.ctime.as_stamp() < before_boot
            && stat.mtime.as_stamp() < before_boot
            && self.scrub.was_right_in_this_boot(path)
    }

    /// Whether the winner waits for a person to say what the present bytes are. One with other
    /// contents was made by someone who knew the old ones: it comes, and what was there goes to
    /// history.
    pub(in crate::engine) fn holds_suspect(&self, path: &SyncPath, row: &Row) -> bool {
        self.suspects.by_path.get(path).is_some_and(|suspect| {
            suspect.decision != Some(Decision::Heal)
                && row.head.file().is_some_and(|(content, _)| content == suspect.good)
        })
    }

    /// A row is written: perhaps its file is suspect no longer.
    pub(in crate::engine) fn review_suspect<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath, row: &Row) {
        let Some(suspect) = self.suspects.by_path.get(path) else { return };
        let content = row.live_on_disk().and_then(|(entry, _)| entry.file()).map(|(content, _)| content);
        if content == Some(suspect.found) && !row.is_settled() {
            return;
        }
        let path = path.clone();
        let report = match suspect.decision {
            _ if content == Some(suspect.good) => Report::Healed { path: path.clone() },
            Some(Decision::Keep) if content == Some(suspect.found) => Report::Kept { path: path.clone() },
            _ => Report::Solved { path: Some(path.clone()) },
        };
        self.suspects.by_path.remove(&path);
        self.suspects.dirty = true;
        core.out.push(Action::Report(report));
    }

    pub(in crate::engine) fn store_suspects<I: Index>(&mut self, core: &mut Core<I>) {
        if std::mem::take(&mut self.suspects.dirty) {
            let list: Vec<_> = self.suspects.by_path.iter().collect();
            let stored = postcard::to_stdvec(&list).expect("writing to memory does not fail");
            core.index.set_meta(META_SUSPECTS, &stored);
        }
    }

    pub(super) fn suspect_statuses(&self) -> Vec<SuspectStatus> {
        let status = |(path, suspect): (&SyncPath, &Suspect)| SuspectStatus {
            path: path.clone(),
            found_ns: suspect.at,
            unreadable: suspect.found == ContentId::UNREADABLE,
            decision: suspect.decision,
            cause: suspect.cause(),
        };
        self.suspects.by_path.iter().map(status).collect()
    }
}

impl<I: Index> Engine<I> {
    /// Two readings of a file that nobody touched were not what the index says. `found`: the
    /// second; `None`: it cannot be read.
    pub(in crate::engine) fn suspect(&mut self, now: Now, path: &SyncPath, found: Option<ContentId>) {
        let Some(row) = self.core.index.get(path) else { return };
        let Some((known, stat)) = row.live_on_disk().map(|(known, stat)| (known.clone(), *stat)) else { return };
        let Some((good, size)) = known.file() else { return };
        // What was announced to nobody comes from nowhere.
        let is_local = row.is_local();
        let heals = found.is_some()
            && !is_local
            && self.safety.suspects.len() < HEALED_UNASKED
            && self.safety.no_write_explains(path, &stat);
        if found.is_some() && !heals {
            self.core.act(Action::KeepSuspect { path: path.clone(), stat });
        }
        let unreadable = found.is_none();
        let found = found.unwrap_or(ContentId::UNREADABLE);
        let decision = heals.then_some(Decision::Heal);
        self.safety.suspects.by_path.insert(path.clone(), Suspect { good, found, at: now.wall, decision });
        self.safety.suspects.dirty = true;
        self.core.out.push(Action::Report(Report::Suspect { path: path.clone(), unreadable, heals }));
        // By the version that it was: whatever a user makes of it now beats that, and when it is
        // replaced it is no conflict.
        let entry = Entry { kind: Kind::File { size, content: found }, ..known };
        self.store(now, path, &Row { disk: Some(OnDisk { entry, stat: Some(stat), local: is_local }), ..row });
    }

    /// An inspection of a suspect file. Whether that is all there is to it: a touch of what is no
    /// version is none either.
    pub(in crate::engine) fn is_suspect_still(
        &mut self,
        now: Now,
        path: &SyncPath,
        kind: &Kind,
        mode: Mode,
        stat: &Stat,
    ) -> bool {
        let Some(suspect) = self.safety.suspects.by_path.get(path) else { return false };
        let keeps = suspect.decision == Some(Decision::Keep);
        let Some(mut row) = self.core.index.get(path) else { return false };
        let Some(disk) = row.disk.as_mut().filter(|disk| disk.stat.is_some()) else { return false };
        if keeps && matches!(kind, Kind::File { .. }) && row.head.kind != *kind {
            let base = disk.entry.clone();
            // It counts from when a person said so.
            let stamp = now.wall.max(base.version.stamp + STAMP_STEP);
            let (kind, mtime, stat) = (kind.clone(), stat.mtime, Some(*stat));
            self.made_here(now, path, MadeHere { kind, mode, mtime, stamp, base: Some(base), stat, body: None });
            return true;
        }
        if disk.entry.kind != *kind {
            return false;
        }
        (disk.entry.mode, disk.entry.mtime, disk.stat) = (mode, stat.mtime, Some(*stat));
        self.store(now, path, &row);
        true
    }

    /// A person says what it is.
    pub(in crate::engine) fn decide(&mut self, path: &SyncPath, decision: Decision) {
        let Some(suspect) = self.safety.suspects.by_path.get_mut(path) else { return };
        suspect.decision = Some(decision);
        self.safety.suspects.dirty = true;
        match decision {
            Decision::Heal => {
                self.put_aside(self.core.last_event, path);
                self.transfer.retry_now(path);
            }
            Decision::Keep => self.inspect_to_keep(path),
        }
    }

    /// Hashed and made durable like any edit before it is told (P5).
    fn inspect_to_keep(&mut self, path: &SyncPath) {
        self.inspect(path, None, Inspection::of(self.observe.live()));
    }

    /// Those that a person said to keep just before the last run ended.
    pub(super) fn keep_decided(&mut self) {
        let is_kept = |(_, suspect): &(&SyncPath, &Suspect)| suspect.decision == Some(Decision::Keep);
        let paths: Vec<_> = self.safety.suspects.by_path.iter().filter(is_kept).map(|(path, _)| path.clone()).collect();
        for path in &paths {
            self.inspect_to_keep(path);
        }
    }

    /// For the status: each with what to do. What patterns cover is nobody's concern.
    pub(in crate::engine) fn suspected(&self) -> impl Iterator<Item = (SyncPath, Problem)> {
        let synced = self.safety.suspect_statuses().into_iter().filter(|suspect| !self.ignores(&suspect.path, false));
        synced.map(|suspect| (suspect.path, Problem::Suspect(suspect.cause)))
    }
}

impl Suspect {
    fn cause(&self) -> SuspectCause {
        match self.decision {
            Some(Decision::Heal) => SuspectCause::Healing,
            Some(Decision::Keep) => SuspectCause::Keeping,
            None if self.found == ContentId::UNREADABLE => SuspectCause::Unreadable,
            None => SuspectCause::Changed,
        }
    }
}
