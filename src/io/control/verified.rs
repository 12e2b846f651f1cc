//! What `dirsync verify` says, in JSON: stable names, as in `view.rs`.
//!
//! `docs/control.md` lists them. May import `engine` and `model`. Deliberately not here: how it is
//! fetched or shown.

use crate::engine::{Decision, FileHeld, MachineTally, Run, SuspectStatus, Tally, Verification};
use crate::io::journal::suspect_sentence;
use crate::model::{DeviceId, SyncPath, text};
use serde::{Deserialize, Serialize};

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

/// The least that is read a second, as the least that `--limit` lets through: a run that is slower
/// never ends.
pub const LEAST_RATE: u64 = 64 << 10;

/// `GET /v1/verify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyView {
    /// What was asked for, now or last since the daemon started.
    pub run: Option<RunView>,
    pub suspects: Vec<SuspectView>,
    pub monthly: MonthlyView,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunView {
    /// A file, or everything in a folder; all where it is null.
    pub path: Option<String>,
    pub began_ns: String,
    pub over: bool,
    /// It is over because a person stopped it, before all was read.
    #[serde(default)]
    pub stopped: bool,
    pub files: u64,
    pub files_of: u64,
    pub bytes: u64,
    pub bytes_of: u64,
    /// Files that are suspect since.
    pub found: u64,
    /// Files that were in use or could not be opened, and were not judged.
    pub passed_over: u64,
    /// The first of them.
    #[serde(default)]
    pub in_use: Vec<String>,
    /// What the linked machines hold, if they were asked.
    pub peers: Option<TallyView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuspectView {
    pub path: String,
    pub found_ns: String,
    pub unreadable: bool,
    /// `heal` or `keep`, if it was decided.
    pub decision: Option<Decision>,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MonthlyView {
    pub began_ns: String,
    pub files: u64,
    pub bytes: u64,
    /// Of the last one that was whole.
    pub last_began_ns: Option<String>,
    pub last_ended_ns: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TallyView {
    pub machines: Vec<MachineView>,
    /// How many files are whole on how many machines, this one among them.
    pub holders: Vec<HoldersView>,
    /// Those that are not whole everywhere, at most 1,000.
    pub files: Vec<FileView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachineView {
    pub device: DeviceId,
    pub name: String,
    /// It went before it had answered everything.
    pub gone: bool,
    pub verified: u64,
    pub mismatched: u64,
    pub missing: u64,
    /// All that it holds was hashed there on this day or later; null: not all of it since it was
    /// found.
    pub hashed_since_ns: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HoldersView {
    pub machines: u64,
    pub files: u64,
}

/// Names of machines.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileView {
    pub path: String,
    pub here: bool,
    pub verified: Vec<String>,
    pub mismatched: Vec<String>,
    pub missing: Vec<String>,
}

impl From<Verification> for VerifyView {
    fn from(known: Verification) -> Self {
        let Verification { run, suspects, monthly_began_ns, monthly_files, monthly_bytes, last_ns } = known;
        let monthly = MonthlyView {
            began_ns: monthly_began_ns.to_string(),
            files: monthly_files,
            bytes: monthly_bytes,
            last_began_ns: last_ns.map(|(began, _)| began.to_string()),
            last_ended_ns: last_ns.map(|(_, ended)| ended.to_string()),
        };
        Self { run: run.map(RunView::from), suspects: suspects.into_iter().map(SuspectView::from).collect(), monthly }
    }
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let Run {
            below,
            began_ns,
            is_over,
            is_stopped,
            files,
            files_of,
            bytes,
            bytes_of,
            found,
            passed_over,
            in_use,
            ..
        } = run;
        let (path, began_ns) = (below.as_ref().map(SyncPath::to_text), began_ns.to_string());
        let peers = run.peers.map(TallyView::from);
        let (over, stopped) = (is_over, is_stopped);
        let in_use = in_use.iter().map(SyncPath::to_text).collect();
        Self { path, began_ns, over, stopped, files, files_of, bytes, bytes_of, found, passed_over, in_use, peers }
    }
}

impl From<SuspectStatus> for SuspectView {
    fn from(suspect: SuspectStatus) -> Self {
        let SuspectStatus { path, found_ns, unreadable, decision, cause } = suspect;
        let (path, found_ns, text) = (path.to_text(), found_ns.to_string(), suspect_sentence(cause).to_owned());
        Self { path, found_ns, unreadable, decision, text }
    }
}

impl From<Tally> for TallyView {
    fn from(tally: Tally) -> Self {
        let Tally { machines, holders, files } = tally;
        let holders = holders.into_iter().map(|(machines, files)| HoldersView { machines, files });
        Self {
            machines: machines.into_iter().map(MachineView::from).collect(),
            holders: holders.collect(),
            files: files.into_iter().map(FileView::from).collect(),
        }
    }
}

impl From<MachineTally> for MachineView {
    fn from(machine: MachineTally) -> Self {
        let MachineTally { device, name, is_gone, verified, oldest_day, mismatched, missing } = machine;
        let since = (oldest_day > 0).then(|| (u64::from(oldest_day) * DAY_NS).to_string());
        let name = text::escape(name.as_bytes());
        Self { device, name, gone: is_gone, verified, mismatched, missing, hashed_since_ns: since }
    }
}

impl From<FileHeld> for FileView {
    fn from(file: FileHeld) -> Self {
        let names = |names: Vec<String>| names.iter().map(|name| text::escape(name.as_bytes())).collect();
        let FileHeld { path, here, verified, mismatched, missing } = file;
        let path = path.to_text();
        Self { path, here, verified: names(verified), mismatched: names(mismatched), missing: names(missing) }
    }
}
