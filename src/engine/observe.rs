//! What is on disk here: from hints and walks to inspections, and what they say of a path.
//!
//! Deliberately not here: which version wins (`reconcile`), and whether what is gone is believed
//! to be deleted (`safety`).

pub(in crate::engine) mod alias;
pub(in crate::engine) mod arrivals;
pub(in crate::engine) mod attention;
pub(in crate::engine) mod inspect;
pub(in crate::engine) mod keeps;
pub(in crate::engine) mod missing;
pub(in crate::engine) mod problems;
pub(in crate::engine) mod rehash;
pub(in crate::engine) mod scan;
pub(in crate::engine) mod settle;
pub(in crate::engine) mod special;
pub mod torn;
pub(in crate::engine) mod walk;

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
pub(in crate::engine) struct Observe {
    pub(in crate::engine) settle: Debouncer,
    pub(in crate::engine) inspecting: Inspecting,
    pub(in crate::engine) walking: Walking,
    pub(in crate::engine) arrivals: Arrivals,
    pub(in crate::engine) racy: RacyRehash,
    pub(in crate::engine) scan: Scan,
    pub(in crate::engine) problems: Problems,
    pub(in crate::engine) file_system: FileSystem,
    pub(in crate::engine) ignore: Ignore,
    pub(in crate::engine) attention: Attention,
    pub(in crate::engine) torn: TornFiles,
    /// The last run ended with a power cut.
    pub(in crate::engine) power_cut: Option<Cut>,
}

impl Observe {
    /// Everything is being walked.
    pub(in crate::engine) fn is_walking_all(&self) -> bool {
        self.walking.walks.values().any(Walk::is_whole)
    }

    pub(in crate::engine) fn load(index: &impl Index) -> Self {
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
pub(in crate::engine) struct Inspecting {
    pub(in crate::engine) open: BTreeMap<SyncPath, Inspection>,
    /// To be inspected when the inspection or install under way is over.
    pub(in crate::engine) postponed: BTreeMap<SyncPath, Hint>,
    /// Seen empty once where there was something.
    pub(in crate::engine) emptied: BTreeSet<SyncPath>,
    /// Installed here: their echo is still to come.
    pub(in crate::engine) new_folders: BTreeSet<SyncPath>,
    pub(in crate::engine) unseen: BTreeMap<SyncPath, Unseen>,
    /// How what is being taken in was found here, if it was.
    pub(in crate::engine) finding: Option<ObservationSource>,
}

/// Folders that are listed against the index.
#[derive(Default)]
pub(in crate::engine) struct Walking {
    pub(in crate::engine) walks: BTreeMap<WalkId, Walk>,
    /// Something was missed while a whole walk was under way: another one follows it.
    pub(in crate::engine) again: bool,
    pub(in crate::engine) last_id: u64,
    /// When the next whole walk begins, by `Now::mono`.
    pub(in crate::engine) next: u64,
    /// Walks whose listing is complete, until the root is known to be in order.
    pub(in crate::engine) concluding: Vec<WalkId>,
    /// What the last whole walk came by that patterns ignore.
    pub(in crate::engine) ignored: u64,
}

/// What needs a person, or is left alone.
#[derive(Default)]
pub(in crate::engine) struct Problems {
    pub(in crate::engine) left_alone: BTreeMap<SyncPath, &'static str>,
    pub(in crate::engine) of_paths: BTreeMap<SyncPath, String>,
    /// Folders that were deleted elsewhere and stay for what patterns ignore in them, and why; no
    /// word of those above them.
    pub(in crate::engine) kept_folders: BTreeMap<SyncPath, Option<String>>,
    /// Folders with a name in them that is too long: when it was seen last (by `Now::mono`), and
    /// what is said.
    pub(in crate::engine) too_long: BTreeMap<SyncPath, (u64, String)>,
}

/// What the folder's file system keeps, and what it takes for the same.
#[derive(Default)]
pub(in crate::engine) struct FileSystem {
    pub(in crate::engine) keeps: Keeps,
    pub(in crate::engine) aliases: Aliases,
    /// Where the disk keeps no modes.
    pub(in crate::engine) folders_by_inode: BTreeMap<u64, SyncPath>,
}

/// An inspection under way: how it came about.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Inspection {
    pub(in crate::engine) found: ObservationSource,
    pub(in crate::engine) debounced: Option<Debounced>,
    pub(in crate::engine) rehash: bool,
    /// The path, or something in it, was seen since the look was asked for: if it finds nothing,
    /// that may be older news.
    pub(in crate::engine) seen_since: bool,
    /// Asked for by no hint and no walk, before the first walk of this run has ended.
    pub(in crate::engine) early: bool,
    /// When it was asked for (ns since 1970): what was seen is no older.
    pub(in crate::engine) asked: u64,
}

impl Inspection {
    pub(in crate::engine) fn of(found: ObservationSource) -> Self {
        Self { found, debounced: None, rehash: false, seen_since: false, early: false, asked: 0 }
    }
}

/// What could not be looked at, or a folder that could not be looked into: how it was come by, and
/// how often it was tried.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Unseen {
    pub(in crate::engine) found: ObservationSource,
    pub(in crate::engine) tries: u32,
}
