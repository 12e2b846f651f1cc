//! How this machine, its peers and its paths stand, and what the log says.
//!
//! Deliberately not here: how it is made (`io/control/view.rs`).

use super::membership::RemovedView;
use crate::model::DeviceId;
use crate::views::roles::LocalPathView;
use crate::wire::condition::Condition;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    pub version: String,
    pub directory: String,
    pub state_dir: String,
    pub device: DeviceId,
    pub name: String,
    pub listen_port: u16,
    pub broadcast_port: u16,
    /// Where the API is answered over TCP, if it is.
    #[serde(default)]
    pub http: Option<HttpView>,
    /// Why it is not, where it should be, and what to do.
    #[serde(default)]
    pub http_trouble: Option<String>,
    pub idle: bool,
    pub scanning: bool,
    pub paused: bool,
    /// Why syncing is stopped, and what to do.
    pub halted: Option<String>,
    /// What keeps this machine from being done, as its peers are told it too.
    #[serde(default)]
    pub condition: Condition,
    /// `both`, `receive-only` or `send-only`.
    #[serde(default)]
    pub role: String,
    /// The first of the changes that were made here and are announced to nobody, and of those of
    /// others that are not installed; `condition` counts them, `GET /api/v1/local` names all.
    #[serde(default)]
    pub local: Vec<LocalPathView>,
    #[serde(default)]
    pub not_installed: Vec<LocalPathView>,
    /// Deletions that wait for `dirsync confirm`.
    pub held_deletions: u64,
    /// Files that went back to older contents and wait for the same.
    pub held_reverts: u64,
    /// Paths that a peer's change of the ignore file uncovered, and that wait for the same.
    #[serde(alias = "held_uncovered")]
    pub held_unignored: u64,
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    pub deleted: u64,
    pub bytes: u64,
    /// Paths whose newest version is to come to this disk.
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
    #[serde(default)]
    pub watches: WatchesView,
    /// Bytes a second that are sent at most, to each machine and to all together.
    #[serde(default)]
    pub limit_bytes_a_second: Option<u64>,
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
    /// Every device that was linked once and was not forgotten, or is on the list of machines.
    pub devices: Vec<DeviceView>,
    /// Those that do not belong to the group any more.
    #[serde(default)]
    pub removed: Vec<RemovedView>,
    /// As the list has it.
    #[serde(default)]
    pub this_machine: Option<PeerView>,
}

/// By which the kernel says at once what changes: one a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct WatchesView {
    /// Folders that are watched.
    pub folders: u64,
    /// How many this user may watch, over all programs (`fs.inotify.max_user_watches`).
    pub most: Option<u64>,
    /// Some folder is not: it is walked every 60 s instead.
    pub partial: bool,
}

/// The API over TCP.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HttpView {
    /// As a browser on this machine is led there.
    pub url: String,
    /// With TLS: SHA-256 of the certificate, as browsers show it.
    pub fingerprint: Option<String>,
}

/// A large content that is on its way here.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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

/// A large content that is on its way to a linked machine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    pub path: String,
    /// The machine that asked for it.
    pub to: String,
    /// Sent, of `size`; of a delta, which is shorter, too.
    pub bytes: u64,
    pub size: u64,
}

/// An address given by `--peer` that leads to no member now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UnreachedView {
    pub address: String,
    /// `refused`, `no route`, `timeout`, `name not found`, `another secret`, `another protocol`,
    /// `denied` or `other`.
    pub reason: String,
    /// What follows the address in a sentence.
    pub text: String,
}

/// `POST /api/v1/rename`: how this machine is called from now on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NameView {
    pub name: String,
}

/// A device that deletions are remembered for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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
    /// Its row of the list of machines; null of a machine that is not on it.
    #[serde(default)]
    pub listed: Option<ListedView>,
}

/// A row of the list of machines, the same on all of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ListedView {
    /// `write` or `read-only`.
    pub capability: String,
    /// The name of the machine that invited it, or that was the first to see that it knows the
    /// secret.
    pub added_by: String,
    pub invited: bool,
    /// When that was (ns since 1970).
    pub added_ns: String,
}

/// `GET /api/v1/peers`: the linked machines; all that are known if asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PeersView(pub Vec<PeerView>);

/// One linked machine, or one that is known.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    pub device: DeviceId,
    pub name: String,
    pub in_sync: bool,
    /// `in sync`, or what keeps the two from being so, for people.
    #[serde(default)]
    pub state: String,
    /// `both`, `receive-only` or `send-only`; what it announces to nobody, and what it leaves out,
    /// is in `condition`.
    #[serde(default)]
    pub role: String,
    /// How it stands, as it said last; null of an older version.
    #[serde(default)]
    pub condition: Option<Condition>,
    pub pending: u64,
    /// `write` or `read-only`, as its proof has shown.
    #[serde(default)]
    pub capability: String,
    pub address: String,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// How far its clock is ahead of this machine's (negative: behind), if that is too much.
    pub clock_ahead_ns: Option<String>,
    /// It announces entries that are not taken in: the first, and why.
    #[serde(default)]
    pub invalid: Option<String>,
    #[serde(default)]
    pub linked: bool,
    /// What it says that it runs; empty if it is not linked.
    #[serde(default)]
    pub software: String,
    #[serde(default)]
    pub round_trip_ms: Option<f64>,
    /// As in [`DeviceView`].
    #[serde(default)]
    pub seen_ns: Option<String>,
    #[serde(default)]
    pub away_s: Option<u64>,
    #[serde(default)]
    pub equal_ns: Option<String>,
    #[serde(default)]
    pub listed: Option<ListedView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PathNote {
    pub path: String,
    pub text: String,
}

/// `GET /api/v1/ls`: some of the paths; `more`: ask again with `after` set to the last.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ListView {
    pub entries: Vec<EntryView>,
    pub more: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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
    /// This machine's disk differs from it by a local change, and stays so.
    #[serde(default)]
    pub local: bool,
    /// It stays off this machine's disk by its role.
    #[serde(default)]
    pub not_installed: bool,
}

/// `GET /api/v1/log`, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    pub lines: Vec<LogLine>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
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

/// `GET /api/v1/limit`, and what is wanted by `POST`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LimitView {
    /// Sent to each machine and to all together; none: no limit.
    pub bytes_a_second: Option<u64>,
}

/// An order was carried out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DoneView {
    pub done: bool,
}

/// `PUT /api/v1/content/{path}`: how much of it has come.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReceivedView {
    pub path: String,
    pub size: u64,
    pub received: u64,
    /// Its hash, once it is in the folder.
    pub content: Option<String>,
}

/// `GET /api/v1/healthz`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    pub ok: bool,
}

/// `GET /api/v1/version`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    pub version: String,
}

/// Any refusal: a problem as RFC 9457 has it. Its `type` is left out, which means `about:blank`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// The same sentence, by its older name.
    pub error: String,
}

/// What a client reads of any refusal: older daemons send no more.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorView {
    pub error: String,
}
