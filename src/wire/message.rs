//! What two engines say to each other. Transfers of large contents (pieces, credit) and the
//! greeting are the link's own affair and are not here.

use super::condition::Condition;
use super::confirmation::Confirmation;
use super::conflict::ConflictNews;
pub use super::digest::Digest;
use super::members::Roster;
use crate::model::{ContentId, DeviceId, Entry, FileTime, Mode, RetainReason, SyncPath};
use bytes::Bytes;

/// A file of at most this many bytes travels whole in one message: with its entry, or packed with
/// others.
pub const SMALL_FILE_BYTES: u64 = 128 * 1024;
/// Senders fill a message up to this many bytes of entries and contents; a receiver accepts 2 MiB.
pub const MESSAGE_BYTES: usize = 1024 * 1024;

/// A survey names at most this many paths, and about this many bytes of them.
pub const SURVEY_PATHS: usize = 1024;
pub const SURVEY_BYTES: usize = 256 * 1024;

/// A machine tells of at most so many things in its history, the newest.
pub const PASTS: usize = 65_536;

/// A question where contents are names at most so many, and about `MESSAGE_BYTES` of them.
pub const SOUGHT: usize = 8192;

/// A machine names at most so many paths that it holds back, and about this many bytes of them.
pub const HOLDS: usize = 1024;
pub const HOLDS_BYTES: usize = 256 * 1024;

/// Which of the 65,536 buckets: the first two bytes of BLAKE3(path), big-endian.
pub type Bucket = u16;
/// The first byte of a bucket: 256 groups of 256 buckets.
pub type Group = u8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first on a link. `counter`: the highest of the receiver's own that is known here; one
    /// that it never used tells it that it was rolled back.
    Known { counter: u64 },
    /// Who belongs to the group, and who was removed: all on connecting, and then what is news.
    /// Only to who names the feature `members`.
    Members(Roster),
    /// A person said that these changes were meant. Only to who names the feature `confirm`.
    Confirm(Confirmation),
    /// This device will not come back: deletions need not be remembered for it.
    Forget { device: DeviceId },
    /// A person said that what is held was not meant: whoever holds something takes that back, too.
    /// `told`: the devices that this was sent to. Only to who names the feature `undo`.
    Undo { relayed_to: Vec<DeviceId> },
    /// My tree in one digest, and how much is still to come to it here: paths to be installed, and
    /// one more until the first scan has ended. `condition`: what keeps this machine from being
    /// done; an older version does not say. Sent on connecting, every 30 s, and when any of it has
    /// changed and rested. The dialler of the link starts comparing when the root differs.
    State { root: Digest, pending: u64, condition: Option<Condition> },
    /// Dialler to the other: my 256 group digests, begin comparing.
    Groups { groups: Vec<Digest> },
    /// Answer to `Groups`: the 256 bucket digests of each group that differs; empty when none does.
    Buckets { groups: Vec<(Group, Vec<Digest>)> },
    /// Dialler: my entries of these buckets, all of them. `more`: further parts of the same offer
    /// follow; `buckets` is named in each part and is answered after the last.
    Offer { buckets: Vec<Bucket>, entries: Vec<(SyncPath, Entry)>, more: bool },
    /// Answer to an `Offer`: what of those buckets the offer lacked or had older.
    Answer { entries: Vec<(SyncPath, Entry)>, more: bool },
    /// Entries that changed just now (or were found by a walk). `told`: the devices that this was
    /// sent to.
    Changes { changes: Vec<Change>, relayed_to: Vec<DeviceId> },
    /// Changes of the receiver's that are on this machine's disk by now, of those that it sent as
    /// they happened: the path and the receiver's counter. Only to who names the feature `acks`.
    Acks { placed: Vec<(SyncPath, u64)> },
    /// Small contents wanted, to be packed into `Contents`.
    Get { wants: Vec<WantedContent> },
    /// Answer to `Get`, in any order and any number of parts; `None`: not here (any more).
    Contents { contents: Vec<(u32, Option<Bytes>)> },
    /// What of these files is on your disk? One at a time; `id` is echoed.
    Survey { id: u32, paths: Vec<SyncPath> },
    /// Answer to `Survey`: for each path, in its order.
    Holdings { id: u32, held: Vec<PathContent> },
    /// What does your history keep of this path and below it, or of all? Or, where some are `named`
    /// by path and time: what exactly are those? One at a time; `id` is echoed. Only to who names
    /// the feature `history`.
    History { id: u32, path: Option<SyncPath>, named: Vec<(SyncPath, u64)> },
    /// Answer to `History`, newest first. `more`: further parts follow.
    Pasts { id: u32, pasts: Vec<Past>, more: bool },
    /// Conflicts that were found, heard of or decided. `digest`: over all that are known to the
    /// sender, on connecting; whoever knows others answers with all that it knows. Only to who
    /// names the feature `conflicts`.
    Conflicts { digest: Option<Digest>, news: Vec<ConflictNews> },
    /// Where have you these contents? One question at a time; `id` is echoed. Only to who names the
    /// feature `locate`.
    Locate { id: u32, sought: Vec<Sought> },
    /// Answer to `Locate`: for each content, in its order.
    Located { id: u32, places: Vec<Place> },
    /// What do you hold back; or, `pending`, what is still to come to you? One question at a time;
    /// `id` is echoed. Only to who names the feature `holds`. An older version passes over
    /// `pending`, and says what it holds.
    Holds { id: u32, pending: bool },
    /// Answer to `Holds`: how much of each kind, and the first paths of it.
    Holding { id: u32, sums: HeldSums, held: Vec<HeldBack> },
    /// A large content is being fetched here: whoever holds it, or comes to hold some of its
    /// chunks, says `Have`.
    Seek { path: SyncPath, content: ContentId, size: u64 },
    /// Chunks of a content that was sought which are held here and verified: runs of the first and
    /// how many. Each adds to what was said before.
    Have { content: ContentId, chunks: Vec<(u32, u32)> },
}

/// A content that was at a path, and may be in a history.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sought {
    pub path: SyncPath,
    pub content: ContentId,
    /// Bytes.
    pub size: u64,
    /// Of several that fit, the one with this mtime is it, most likely.
    pub mtime: FileTime,
}

impl Sought {
    /// About what it takes on the wire.
    pub fn wire_bytes(&self) -> usize {
        64 + self.path.as_bytes().len()
    }
}

/// Where a machine has a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Place {
    Nowhere,
    History,
    /// In its folder.
    Disk,
}

/// How much a machine holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct HeldSums {
    pub deletions: u64,
    pub reverts: u64,
    #[serde(default)]
    pub dated_ahead: u64,
    #[serde(default)]
    pub unignored: u64,
    /// What is still to come, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
}

/// A path that a machine holds back, or that is still to come to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeldBack {
    pub path: SyncPath,
    /// 0: it was deleted, 1: it went back to older contents, 2: it is dated ahead, 3: it
    /// is still to come.
    pub why: u8,
    /// The name of the machine that made the change.
    pub by: String,
}

impl HeldBack {
    /// About what it takes on the wire.
    pub fn wire_bytes(&self) -> usize {
        8 + self.path.as_bytes().len() + self.by.len()
    }
}

/// What a machine has on disk at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PathContent {
    /// `None`: no file, or one that it does not sync.
    pub content: Option<ContentId>,
    /// It was last hashed on this day (since 1970) or later; 0: not since it was found.
    pub day: u32,
}

/// What a machine's history keeps of what was at a path. The path and the time name it on that
/// machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Past {
    pub path: SyncPath,
    /// When it came to history, by that machine's clock (ns since 1970).
    pub time_ns: u64,
    pub reason: RetainReason,
    /// Bytes.
    pub size: u64,
    pub mode: Mode,
    pub mtime: FileTime,
    pub what: PastWhat,
}

/// What something in history is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PastWhat {
    /// In a list: it is not hashed for that.
    Unidentified,
    File(ContentId),
    /// A symbolic link, and its target.
    Link(Vec<u8>),
    /// It was there, and is not any more.
    Gone,
}

impl Past {
    /// The limits that no peer may pass; the subject of the first one broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let is_target = |target: &[u8]| !target.is_empty() && target.len() <= 4095 && !target.contains(&0);
        match &self.what {
            PastWhat::Link(target) if !is_target(target) => Err("link target empty, over 4,095 bytes or with a NUL"),
            _ if self.mode.0 > 0o777 => Err("mode beyond 0o777"),
            _ if self.mtime.nanos >= 1_000_000_000 => Err("nanoseconds of 10^9 or more"),
            _ if self.size >= 1 << 63 || self.time_ns >= 1 << 63 => Err("size or time of 2^63 or more"),
            _ => Ok(()),
        }
    }

    /// About what it takes on the wire and in memory.
    pub fn wire_bytes(&self) -> usize {
        let target = if let PastWhat::Link(target) = &self.what { target.len() } else { 0 };
        96 + self.path.as_bytes().len() + target
    }
}

/// One changed path; `body` is its whole content where that is small and at hand. The bytes are not
/// yet checked against the entry's `ContentId`: installing does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: SyncPath,
    pub entry: Entry,
    pub body: Option<Bytes>,
}

/// A content that is wanted: where the asker believes it to be, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedContent {
    /// Chosen by the asker, echoed in the answer.
    pub id: u32,
    pub path: SyncPath,
    pub content: ContentId,
    pub size: u64,
}
