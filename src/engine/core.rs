//! What every room may touch besides its own: the index, the actions that wait, the clock, and
//! whether this machine works at all.
//!
//! Deliberately not here: what any one room knows.

use super::{Config, META_LATEST_DAY, META_ROLE};
use crate::engine::api::action::Action;
use crate::engine::api::event::{Halt, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::limits::RACY_NS;
use crate::engine::merge;
use crate::engine::steady::Steady;
use crate::model::{Entry, FileTime, Kind, SyncPath, SyncRole};

pub(super) struct Core<I> {
    pub config: Config,
    pub index: I,
    /// What the shell is to do once the index is committed.
    pub out: Vec<Action>,
    /// When the last event came.
    pub last_event: Now,
    pub steady: Steady,
    /// The day (ns since 1970) of the greatest stamp of any head: every machine with the same tree
    /// has the same one, whatever its clock says.
    pub latest_day: u64,
    /// The root is not to be trusted, and why.
    pub halted: Option<Halt>,
    /// A person paused this machine.
    pub paused: bool,
    /// What it does with changes.
    pub role: SyncRole,
    /// When the root is checked next, by `Now::mono`.
    pub next_root_check: u64,
}

impl<I: Index> Core<I> {
    pub fn load(config: Config, index: I) -> Self {
        let latest_day = number(&index, META_LATEST_DAY);
        let role = index.meta(META_ROLE).and_then(|word| SyncRole::of(std::str::from_utf8(&word).ok()?));
        Self {
            config,
            index,
            out: Vec::new(),
            last_event: Now { wall: 0, mono: 0 },
            steady: Steady::default(),
            latest_day,
            halted: None,
            paused: false,
            role: role.unwrap_or_default(),
            next_root_check: 0,
        }
    }

    pub fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    /// Whether the disk is to follow the winner. The one rule for that: a local change stays, and
    /// so does everything where changes of others are not installed, but for what is this
    /// machine's own.
    pub fn wants(&self, row: &Row) -> bool {
        !row.is_settled() && !row.is_local() && (self.role.installs() || self.is_own(row))
    }

    /// Whether this machine made the winner, or its disk held it and it rotted or was torn. What
    /// others made below it derives a folder of the same author.
    fn is_own(&self, row: &Row) -> bool {
        let disk = row.disk.as_ref().map(|disk| &disk.entry);
        let is_broken = |disk: &Entry| disk.version == row.head.version && !disk.same_content(&row.head);
        let is_derived = || disk.is_some() && row.head == merge::derived_directory(disk);
        disk.is_some_and(is_broken) || (row.head.version.author == self.config.device && !is_derived())
    }

    /// Whether what is on disk there was announced to nobody.
    pub fn is_unannounced(&self, path: &SyncPath) -> bool {
        self.index.get(path).and_then(|row| row.disk).is_some_and(|disk| disk.local)
    }
}

/// A number that the index keeps; 0 where there is none.
pub(super) fn number(index: &impl Index, key: &str) -> u64 {
    index.meta(key).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Whether a file's time is so close to now that another change may leave it as it is.
pub(super) fn is_racy(time: FileTime, now: Now) -> bool {
    time.as_stamp().abs_diff(now.wall) < RACY_NS
}

/// What is live on disk by a row.
pub(super) fn on_disk(row: Option<&Row>) -> Option<&Kind> {
    row.and_then(Row::live_on_disk).map(|(entry, _)| &entry.kind)
}

/// Why losses may go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Believed {
    /// Judged, and no disaster.
    #[default]
    Judged,
    /// A person said so.
    Confirmed,
    /// A person said that they were not meant: they do not go ahead.
    Refused,
}
