//! What is on disk here: from hints and walks to inspections, and what they say of a path.
//!
//! Deliberately not here: which version wins (`reconcile`), and whether what is gone is believed
//! to be deleted (`safety`).

pub(super) mod alias;
pub(super) mod arrivals;
pub(super) mod attention;
pub(super) mod inspect;
pub(super) mod keeps;
pub(super) mod missing;
pub(super) mod problems;
pub(super) mod rehash;
pub(super) mod scan;
pub(super) mod settle;
pub(super) mod special;
pub mod torn;
pub(super) mod walk;

use crate::engine::META_SCANNED;
use crate::engine::api::event::{Hint, WalkId};
use crate::engine::api::file_system::Keeps;
use crate::engine::api::ignore::Ignore;
use crate::engine::api::index::Index;
use crate::engine::merge::ObservationSource;
use crate::model::SyncPath;
use alias::Aliases;
use arrivals::Arrivals;
use attention::Attention;
use rehash::RacyRehash;
use scan::Scan;
use settle::{Debounced, Debouncer};
use std::collections::{BTreeMap, BTreeSet};
use torn::{Cut, TornFiles};
use walk::Walk;

/// What is known of the folder, and what is being found out.
pub(super) struct Observe {
    pub(super) settle: Debouncer,
    pub(super) inspecting: Inspecting,
    pub(super) walking: Walking,
    pub(super) arrivals: Arrivals,
    pub(super) racy: RacyRehash,
    pub(super) scan: Scan,
    pub(super) problems: Problems,
    pub(super) file_system: FileSystem,
    pub(super) ignore: Ignore,
    pub(super) attention: Attention,
    pub(super) torn: TornFiles,
    /// The last run ended with a power cut.
    pub(super) power_cut: Option<Cut>,
}

impl Observe {
    /// Everything is being walked.
    pub(super) fn is_walking_all(&self) -> bool {
        self.walking.walks.values().any(Walk::is_whole)
    }

    pub(super) fn load(index: &impl Index) -> Self {
        let finds =
            if index.meta(META_SCANNED).is_some() { ObservationSource::Walked } else { ObservationSource::First };
        Self {
            settle: Debouncer::default(),
            inspecting: Inspecting::default(),
            walking: Walking::default(),
            arrivals: Arrivals::default(),
            racy: RacyRehash::default(),
            scan: Scan::new(finds),
            problems: Problems::default(),
            file_system: FileSystem::default(),
            ignore: Ignore::default(),
            attention: Attention::default(),
            torn: TornFiles::load(index),
            power_cut: None,
        }
    }
}

/// Paths that are looked at, one by one.
#[derive(Default)]
pub(super) struct Inspecting {
    pub(super) open: BTreeMap<SyncPath, Inspection>,
    /// To be inspected when the inspection or install under way is over.
    pub(super) postponed: BTreeMap<SyncPath, Hint>,
    /// Seen empty once where there was something.
    pub(super) emptied: BTreeSet<SyncPath>,
    /// Installed here: their echo is still to come.
    pub(super) new_folders: BTreeSet<SyncPath>,
    pub(super) unseen: BTreeMap<SyncPath, Unseen>,
    /// How what is being taken in was found here, if it was.
    pub(super) finding: Option<ObservationSource>,
}

/// Folders that are listed against the index.
#[derive(Default)]
pub(super) struct Walking {
    pub(super) walks: BTreeMap<WalkId, Walk>,
    /// Something was missed while a whole walk was under way: another one follows it.
    pub(super) again: bool,
    pub(super) last_id: u64,
    /// When the next whole walk begins, by `Now::mono`.
    pub(super) next: u64,
    /// Walks whose listing is complete, until the root is known to be in order.
    pub(super) concluding: Vec<WalkId>,
    /// What the last whole walk came by that patterns ignore.
    pub(super) ignored: u64,
}

/// What needs a person, or is left alone.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) left_alone: BTreeMap<SyncPath, &'static str>,
    pub(super) of_paths: BTreeMap<SyncPath, String>,
    /// Folders that were deleted elsewhere and stay for what patterns ignore in them, and why; no
    /// word of those above them.
    pub(super) kept_folders: BTreeMap<SyncPath, Option<String>>,
    /// Folders with a name in them that is too long: when it was seen last (by `Now::mono`), and
    /// what is said.
    pub(super) too_long: BTreeMap<SyncPath, (u64, String)>,
}

/// What the folder's file system keeps, and what it takes for the same.
#[derive(Default)]
pub(super) struct FileSystem {
    pub(super) keeps: Keeps,
    pub(super) aliases: Aliases,
    /// Where the disk keeps no modes.
    pub(super) folders_by_inode: BTreeMap<u64, SyncPath>,
}

/// An inspection under way: how it came about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inspection {
    pub(super) found: ObservationSource,
    pub(super) debounced: Option<Debounced>,
    pub(super) rehash: bool,
    /// The path, or something in it, was seen since the look was asked for: if it finds nothing,
    /// that may be older news.
    pub(super) seen_since: bool,
    /// Asked for by no hint and no walk, before the first walk of this run has ended.
    pub(super) early: bool,
    /// When it was asked for (ns since 1970): what was seen is no older.
    pub(super) asked: u64,
}

impl Inspection {
    pub(super) fn of(found: ObservationSource) -> Self {
        Self { found, debounced: None, rehash: false, seen_since: false, early: false, asked: 0 }
    }
}

/// What could not be looked at, or a folder that could not be looked into: how it was come by, and
/// how often it was tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unseen {
    pub(super) found: ObservationSource,
    pub(super) tries: u32,
}
