//! What the local API says, in JSON: stable names, nanoseconds as strings, paths in their escaped
//! text form.
//!
//! `docs/control.md` lists them. May import `engine`, `wire` and `model`. Deliberately not here:
//! how it is fetched or shown.

mod held;

pub use held::{BackView, HeldElsewhereView, HeldPathView, HeldView, UndoView, name_elsewhere};

use super::{About, KeptFacts, LinkFacts};
use crate::engine::api::index::{Conflict, Counts, Row};
use crate::engine::merge::label;
use crate::engine::{DeviceStatus, PeerStatus, Status, TransferStatus};
use crate::io::clock::wall_ns;
use crate::io::humanize::counted;
use crate::io::journal::{condition, problem_sentence};
use crate::io::net::link::Upload;
use crate::io::net::members::Unreached;
use crate::io::store::index::JournalLine;
use crate::model::{DeviceId, Entry, Kind, SyncPath, text};
use crate::wire::condition::Condition;
use crate::wire::conflict::Sides;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    pub version: String,
    pub directory: String,
    pub state_dir: String,
    pub device: DeviceId,
    pub name: String,
    pub listen_port: u16,
    pub broadcast_port: u16,
    pub idle: bool,
    pub scanning: bool,
    pub paused: bool,
    /// Why syncing is stopped, and what to do.
    pub halted: Option<String>,
    /// What keeps this machine from being done, as its peers are told it too.
    #[serde(default)]
    pub condition: Condition,
    /// Deletions that wait for `dirsync confirm`.
    pub held_deletions: u64,
    /// Files that went back to older contents and wait for the same.
    pub held_reverts: u64,
    /// Paths that a peer's change of the ignore file uncovered, and that wait for the same.
    pub held_unignored: u64,
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    pub deleted: u64,
    pub bytes: u64,
    /// Paths whose newest version is not on disk here.
    pub pending: u64,
    /// Large contents that are on their way here.
    pub transfers: Vec<TransferView>,
    /// Files that wait for their turn, and their bytes.
    pub queued_files: u64,
    pub queued_bytes: u64,
    /// Large contents that are on their way to linked machines.
    #[serde(default)]
    pub uploads: Vec<UploadView>,
    pub peers: Vec<PeerView>,
    /// Addresses given by `--peer` that lead to no member now.
    #[serde(default)]
    pub peers_not_reached: Vec<UnreachedView>,
    /// What the folder's file system does not keep, as "no permission bits".
    #[serde(default)]
    pub lacks: Vec<String>,
    pub problems: Vec<PathNote>,
    /// What history takes on the disk here, and what it may take at most (bytes); no limit where
    /// the file system says no size.
    #[serde(default)]
    pub history_bytes: u64,
    #[serde(default)]
    pub history_limit_bytes: Option<u64>,
    /// For how long the folder's disk has not answered, if that is long.
    #[serde(default)]
    pub disk_stalled_s: Option<u64>,
    pub under_way: Vec<PathNote>,
    /// Conflicts that nobody has decided.
    #[serde(default)]
    pub open_conflicts: u64,
    /// Folders that were deleted elsewhere and stay for what patterns cover in them; each is among
    /// the problems.
    #[serde(default)]
    pub kept_folders: u64,
    /// Sockets, fifos and devices; what patterns cover, of a folder the folder alone. They keep
    /// nobody from being in sync.
    #[serde(default)]
    pub left_alone: u64,
    #[serde(default)]
    pub ignored: u64,
    /// Every device that was linked once and was not forgotten.
    pub devices: Vec<DeviceView>,
}

/// A large content that is on its way here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransferView {
    pub path: String,
    /// The names of the machines that bring it.
    pub from: Vec<String>,
    /// Here, of `size`.
    pub bytes: u64,
    pub size: u64,
    /// Over the last seconds.
    pub bytes_a_second: u64,
    /// At this rate; none while nothing comes.
    pub seconds_left: Option<u64>,
}

impl TransferView {
    fn of(transfer: TransferStatus) -> Self {
        let TransferStatus { path, from, bytes, size, bytes_a_second } = transfer;
        let seconds_left = size.saturating_sub(bytes).checked_div(bytes_a_second);
        let from = from.iter().map(|name| text::escape(name.as_bytes())).collect();
        Self { path: path.to_text(), from, bytes, size, bytes_a_second, seconds_left }
    }
}

/// A large content that is on its way to a linked machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadView {
    pub path: String,
    /// The machine that asked for it.
    pub to: String,
    /// Sent, of `size`; of a delta, which is shorter, too.
    pub bytes: u64,
    pub size: u64,
}

/// An address given by `--peer` that leads to no member now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnreachedView {
    pub address: String,
    /// `refused`, `no route`, `timeout`, `name not found`, `another secret`, `another protocol`,
    /// `denied` or `other`.
    pub reason: String,
    /// What follows the address in a sentence.
    pub text: String,
}

impl From<Unreached> for UnreachedView {
    fn from(unreached: Unreached) -> Self {
        let [address, text] = [&unreached.address, &unreached.text].map(|text| text::escape(text.as_bytes()));
        Self { address, reason: unreached.reason.to_owned(), text }
    }
}

fn uploads(links: &[LinkFacts]) -> Vec<UploadView> {
    let of_link = |link: &LinkFacts| {
        let to = link.name.clone();
        let view = move |upload: &Upload| UploadView {
            path: upload.path.to_text(),
            to: to.clone(),
            bytes: upload.bytes,
            size: upload.size,
        };
        link.uploads.iter().map(view).collect::<Vec<_>>()
    };
    links.iter().flat_map(of_link).collect()
}

/// A device that deletions are remembered for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceView {
    pub device: DeviceId,
    pub name: String,
    pub linked: bool,
    /// When it was linked last, and for how many seconds it is away; null if it is linked, or that
    /// is not known.
    #[serde(default)]
    pub seen_ns: Option<String>,
    #[serde(default)]
    pub away_s: Option<u64>,
    /// When it held the same tree last, to the day.
    pub equal_ns: Option<String>,
}

/// One linked machine; also `GET /v1/peers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerView {
    pub device: DeviceId,
    pub name: String,
    pub in_sync: bool,
    /// `in sync`, or what keeps the two from being so, for people.
    #[serde(default)]
    pub state: String,
    /// How it stands, as it said last; null of an older version.
    #[serde(default)]
    pub condition: Option<Condition>,
    pub pending: u64,
    pub address: String,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// How far its clock is ahead of this machine's (negative: behind), if that is too much.
    pub clock_ahead_ns: Option<String>,
    /// It announces entries that are not taken in: the first, and why.
    #[serde(default)]
    pub invalid: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PathNote {
    pub path: String,
    pub text: String,
}

/// `GET /v1/ls`: some of the paths; `more`: ask again with `after` set to the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListView {
    pub entries: Vec<EntryView>,
    pub more: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntryView {
    pub path: String,
    /// `file`, `directory`, `symlink` or `deleted`.
    pub kind: String,
    pub size: u64,
    /// Octal.
    pub mode: String,
    pub mtime_ns: String,
    /// When this version was made, by the rules of stamps.
    pub stamp_ns: String,
    pub author: DeviceId,
    pub content: Option<String>,
    pub target: Option<String>,
    /// Whether this machine's disk holds it.
    pub here: bool,
}

/// `GET /v1/log`, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogView {
    pub lines: Vec<LogLine>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    /// Grows from line to line, for `after`.
    #[serde(default)]
    pub id: u64,
    pub time_ns: String,
    pub kind: String,
    pub path: Option<String>,
    pub peer: Option<String>,
    /// Of the file, or of all that the line speaks of.
    #[serde(default)]
    pub size: Option<u64>,
    /// How many paths below `path` the line speaks of, if it is more than that path alone.
    #[serde(default)]
    pub paths: Option<u64>,
    pub text: String,
}

/// `GET /v1/history`, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryView {
    pub kept: Vec<KeptView>,
    /// Linked machines that did not say what they keep.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// Answer of `POST /v1/restore`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoredView {
    pub restored: Vec<KeptView>,
    /// What could not be, and why.
    pub failed: Vec<PathNote>,
    /// Nothing was done: that is what would come back.
    #[serde(default)]
    pub dry_run: bool,
    /// Linked machines that did not say what they keep.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// `GET /v1/conflicts`, oldest first; `more`: ask again with `after` set to the last `id`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictsView {
    pub conflicts: Vec<ConflictView>,
    pub more: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConflictView {
    pub id: i64,
    pub path: String,
    /// When it was found here.
    pub time_ns: String,
    pub winner: SideView,
    pub loser: SideView,
    /// Which of the two is this machine's: `winner` or `loser`; null if neither is, or both are. A
    /// loser that was on this machine's disk is, whoever made it.
    #[serde(default)]
    pub ours: Option<String>,
    /// The loser's name in this machine's history.
    pub kept: Option<String>,
    /// The loser's copy in the folder.
    pub beside: Option<String>,
    /// How it was decided, if it was.
    pub settled: Option<String>,
}

/// One of the two versions of a conflict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SideView {
    /// Its time and device, as `keep` takes it and the names of copies tell it.
    pub version: String,
    /// `file`, `directory`, `symlink` or `deleted`.
    pub kind: String,
    pub size: u64,
    pub stamp_ns: String,
    pub author: DeviceId,
    /// The author's name, as this machine knows it.
    pub machine: String,
    pub content: Option<String>,
}

/// `GET /v1/conflicts/diff`: from ours to what is at the path now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiffView {
    pub path: String,
    pub ours: SideView,
    pub theirs: SideView,
    /// Why there are no lines to show.
    pub note: Option<String>,
    pub lines: Vec<DiffLine>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiffLine {
    /// `@`, a space, `-` or `+`.
    pub sign: char,
    /// Control characters are escaped as `\xNN`; tabs and backslashes stay.
    pub text: String,
}

/// Answer of `POST /v1/conflicts/keep`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DecidedView {
    pub path: String,
    /// What the path holds now.
    pub version: String,
    /// Whether it was brought back from history for that.
    pub restored: bool,
    /// Copies of losers that are still in the folder.
    pub beside: Vec<String>,
}

/// Something in history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptView {
    pub path: String,
    /// When it was replaced or deleted.
    pub time_ns: String,
    /// `replaced`, `deleted`, `conflict` or `suspect`.
    pub reason: String,
    pub size: u64,
    /// Below `.dirsync/history`; empty if it is not kept here.
    pub name: String,
    /// The other machines that keep it.
    #[serde(default)]
    pub machines: Vec<String>,
}

/// Any refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorView {
    pub error: String,
}

impl StatusView {
    pub(super) fn new(about: &About, status: Status, links: &[LinkFacts], stalled: Option<Duration>) -> Self {
        let Counts { files, directories, symlinks, deleted, bytes, pending } = status.counts;
        let problems = status.problems.iter().map(|(path, problem)| (path, problem_sentence(problem)));
        let under_way = status.under_way.into_iter();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory: shown(&about.directory),
            state_dir: shown(&about.state_dir),
            device: status.device,
            name: status.name,
            listen_port: about.listen_port,
            broadcast_port: about.broadcast_port,
            idle: status.idle,
            scanning: status.scanning,
            paused: status.paused,
            halted: status.halted,
            condition: status.condition,
            held_deletions: status.held_deletions,
            held_reverts: status.held_reverts,
            held_unignored: status.held_unignored,
            files,
            directories,
            symlinks,
            deleted,
            bytes,
            pending,
            peers: status.peers.iter().map(|peer| PeerView::new(peer, &status.condition, links)).collect(),
            uploads: uploads(links),
            peers_not_reached: Vec::new(),
            lacks: status.lacks,
            problems: problems.map(|(path, text)| PathNote { path: path.to_text(), text }).collect(),
            history_bytes: 0,
            history_limit_bytes: None,
            disk_stalled_s: stalled.map(|waited| waited.as_secs()),
            transfers: status.transfers.into_iter().map(TransferView::of).collect(),
            queued_files: status.queued_files,
            queued_bytes: status.queued_bytes,
            under_way: under_way.map(|(path, text)| PathNote { path: path.to_text(), text }).collect(),
            open_conflicts: status.open_conflicts,
            kept_folders: status.kept_folders,
            left_alone: status.left_alone,
            ignored: status.ignored,
            devices: status.devices.into_iter().map(DeviceView::from).collect(),
        }
    }
}

impl PeerView {
    fn new(peer: &PeerStatus, ours: &Condition, links: &[LinkFacts]) -> Self {
        let link = links.iter().find(|link| link.device == peer.device);
        Self {
            device: peer.device,
            name: text::escape(peer.name.as_bytes()),
            in_sync: peer.in_sync,
            state: state(peer, ours),
            condition: peer.condition,
            pending: peer.pending,
            address: link.map(|link| link.address.clone()).unwrap_or_default(),
            sent_bytes: link.map_or(0, |link| link.sent_bytes),
            received_bytes: link.map_or(0, |link| link.received_bytes),
            clock_ahead_ns: peer.clock_ahead_ns.map(|ahead| ahead.to_string()),
            invalid: peer.invalid.clone(),
        }
    }
}

/// How a peer and this machine stand to each other: what keeps the peer from being done, else what
/// keeps this one.
fn state(peer: &PeerStatus, ours: &Condition) -> String {
    if let Some(first) = &peer.invalid {
        return format!("announces invalid entries ({first})");
    }
    if peer.in_sync {
        return "in sync".to_owned();
    }
    let theirs = peer.condition.as_ref().map(condition::words).unwrap_or_default();
    if !theirs.is_empty() {
        return theirs.join("; ");
    }
    match (peer.pending, peer.equal) {
        (0, false) => "comparing".to_owned(),
        (0, true) => {
            let ours: Vec<_> = condition::words(ours).iter().map(|word| format!("{word} here")).collect();
            if ours.is_empty() { "comparing".to_owned() } else { ours.join("; ") }
        }
        (pending, _) => format!("{} to come", counted(pending, "path", "paths")),
    }
}

impl From<DeviceStatus> for DeviceView {
    fn from(known: DeviceStatus) -> Self {
        let DeviceStatus { device, name, linked, seen_ns, equal_ns } = known;
        let name = text::escape(name.as_bytes());
        let seen_ns = seen_ns.filter(|_| !linked);
        let away_s = seen_ns.map(|at| wall_ns().saturating_sub(at) / 1_000_000_000);
        let [seen_ns, equal_ns] = [seen_ns, equal_ns].map(|at| at.map(|at| at.to_string()));
        Self { device, name, linked, seen_ns, away_s, equal_ns }
    }
}

impl EntryView {
    pub(super) fn new(path: &SyncPath, row: &Row) -> Self {
        let entry = &row.head;
        let (kind, size, content, target) = facts(entry);
        let mtime_ns = i128::from(entry.mtime.secs) * 1_000_000_000 + i128::from(entry.mtime.nanos);
        Self {
            path: path.to_text(),
            kind: kind.to_owned(),
            size,
            mode: format!("{:04o}", entry.mode.0),
            mtime_ns: mtime_ns.to_string(),
            stamp_ns: entry.version.stamp.to_string(),
            author: entry.version.author,
            content,
            target,
            here: row.is_settled(),
        }
    }
}

impl From<JournalLine> for LogLine {
    fn from(line: JournalLine) -> Self {
        let JournalLine { seq, at, kind, path, peer, size, paths, text } = line;
        let path = path.map(|path| text::escape(&path));
        Self { id: seq, time_ns: at.to_string(), kind, path, peer, size, paths, text }
    }
}

impl ConflictView {
    /// `us`: this machine's device.
    pub(super) fn new(conflict: &Conflict, us: DeviceId) -> Self {
        let Sides { winner, winner_name, loser, loser_name, beside } = &conflict.sides;
        Self {
            id: conflict.id,
            path: conflict.path.to_text(),
            time_ns: conflict.at.to_string(),
            winner: SideView::new(winner, winner_name),
            loser: SideView::new(loser, loser_name),
            ours: super::side::ours(conflict, us).map(|side| side.word().to_owned()),
            kept: conflict.kept.as_ref().map(|name| text::escape(name.as_bytes())),
            beside: beside.as_ref().map(SyncPath::to_text),
            settled: conflict.settled.as_ref().map(|settled| text::escape(settled.how.as_bytes())),
        }
    }
}

impl SideView {
    pub(super) fn new(entry: &Entry, name: &str) -> Self {
        let (kind, size, content, _) = facts(entry);
        Self {
            version: label(&entry.version),
            kind: kind.to_owned(),
            size,
            stamp_ns: entry.version.stamp.to_string(),
            author: entry.version.author,
            machine: text::escape(name.as_bytes()),
            content,
        }
    }
}

/// Kind, size, content and target.
fn facts(entry: &Entry) -> (&'static str, u64, Option<String>, Option<String>) {
    match &entry.kind {
        Kind::File { size, content } => ("file", *size, Some(content.to_string()), None),
        Kind::Directory => ("directory", 0, None, None),
        Kind::Symlink { target } => ("symlink", 0, None, Some(text::escape(target))),
        Kind::Deleted { .. } => ("deleted", 0, None, None),
    }
}

impl From<&KeptFacts> for KeptView {
    fn from(kept: &KeptFacts) -> Self {
        Self {
            path: kept.path.to_text(),
            time_ns: kept.time.to_string(),
            reason: kept.reason.to_owned(),
            size: kept.size,
            name: text::escape(kept.name.as_bytes()),
            machines: kept.elsewhere.iter().map(|place| place.machine.clone()).collect(),
        }
    }
}

fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::condition::StopCause;

    #[test]
    fn a_peer_s_state_names_what_keeps_it_or_this_machine_from_being_done() {
        let clear = Condition::default();
        let peer = |condition, pending, equal| PeerStatus {
            device: DeviceId([1; 32]),
            name: "b".into(),
            in_sync: false,
            equal,
            condition,
            pending,
            clock_ahead_ns: None,
            invalid: None,
        };
        let stopped = Condition { stopped: Some(StopCause::MarkerLost), ..clear };
        let paused = Condition { paused: true, ..clear };
        assert_eq!(state(&peer(Some(stopped), 0, true), &paused), "stopped, its folder lost its marker");
        assert_eq!(state(&peer(Some(clear), 0, true), &paused), "paused here");
        assert_eq!(state(&peer(Some(clear), 3, true), &paused), "3 paths to come");
        assert_eq!(state(&peer(None, 0, false), &clear), "comparing");
        let liar = PeerStatus { invalid: Some("counter".into()), ..peer(Some(clear), 0, false) };
        assert_eq!(state(&liar, &clear), "announces invalid entries (counter)");
        assert_eq!(state(&PeerStatus { in_sync: true, ..peer(None, 0, true) }, &clear), "in sync");
    }
}
