//! What the shell tells the engine: times, stats, and one closed list of events.

use crate::engine::api::file_system::Keeps;
use crate::model::{Capability, ContentId, DeviceId, Entry, FileTime, Kind, Mode, SecretBytes, SyncPath, SyncRole};
use crate::wire::condition::StopCause;
use crate::wire::features::Features;
use crate::wire::members::HandOver;
use crate::wire::message::{Message, Past, Sought};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The time of an event. Both in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since 1970, by a clock that may be wrong and may jump.
    pub wall: u64,
    /// Since some moment before the start; never goes back.
    pub mono: u64,
}

/// One TCP link (or its likeness in the simulator); never reused, so that late answers are told
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A walk of the tree or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalkId(pub u64);

/// A large content on its way; also the stream's number on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u32);

/// Some chunks of a content, or its list, asked of one peer; also the stream's number on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeId(pub u32);

/// A verified content in `staging/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub u64);

/// What kind of inode a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum StatKind {
    File,
    Directory,
    Symlink,
    /// A socket, fifo or device: left alone.
    Other,
    /// It lies on another file system, mounted there: its silence means nothing (P8).
    Mount,
    /// A Btrfs subvolume inside the folder, which is a file system of its own: the same.
    Subvolume,
}

impl StatKind {
    /// Whether what is below it lies on another file system.
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::Mount | Self::Subvolume)
    }
}

/// What `statx` says of a path; equal stats mean an untouched inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Stat {
    pub kind: StatKind,
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
    pub ino: u64,
    pub mode: Mode,
}

/// Why the watcher thinks that a path deserves an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// A writer closed it, or it was renamed in: look soon.
    Closed,
    /// Created, being written, or its attributes changed: wait for quiet.
    Changed,
    /// Removed or renamed away.
    Gone,
}

/// What an inspection of a path found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    Absent,
    /// Its stat is the `known` of the inspection.
    Unchanged,
    Directory {
        stat: Stat,
    },
    Symlink {
        stat: Stat,
        target: Vec<u8>,
    },
    /// Hashed, durable, and with the same stat before and after. `body`: the bytes, if the
    /// inspection asked for them, the file is small and the shell's budget allowed.
    File {
        stat: Stat,
        content: ContentId,
        body: Option<Bytes>,
    },
    /// A socket, fifo or device: its kind, for the log.
    Special {
        what: &'static str,
    },
    /// Another file system is mounted there, or nested.
    Foreign(StatKind),
    /// It changed while it was read.
    Unstable,
    Failed(Trouble),
}

/// Why something could not be done to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub cause: Cause,
    /// One sentence for a person, escaped already.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    NoSpace,
    Denied,
    /// This file system cannot hold such a name.
    Name,
    /// History may take no more, and none of it may go yet.
    HistoryFull,
    Other,
}

/// How the root looks, by descriptor and by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootState {
    Fine,
    /// Not to be trusted.
    Wrong(Halt),
}

/// Why syncing is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// For the peers.
    pub cause: StopCause,
    /// Why, and what to do, for a person.
    pub text: String,
}

impl<T: Into<String>> From<T> for Halt {
    fn from(text: T) -> Self {
        Self { cause: StopCause::Other, text: text.into() }
    }
}

/// The loser of a conflict whose install was cut off, and its name in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLoser {
    pub path: SyncPath,
    pub winner: Entry,
    pub loser: Entry,
    pub kept: String,
}

/// Where history holds a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedKept {
    /// Its name in history.
    pub kept: String,
    pub stat: Stat,
    /// It was read, and is this content. Otherwise its path and its size are what speaks for it.
    pub is_hashed: bool,
}

/// What happens to the engine.
#[derive(Debug)]
pub enum Event {
    /// The time promised by `wake_at` has come (or simply some time).
    Tick,
    /// The watcher saw something.
    Hint {
        path: SyncPath,
        hint: Hint,
    },
    /// The watcher lost events: everything needs a walk.
    Overflow,
    Inspected {
        path: SyncPath,
        observed: Observed,
    },
    /// Some children that a walk found, in any order. A folder is named before what is in it.
    Listed {
        walk: WalkId,
        found: Vec<(SyncPath, Stat)>,
    },
    /// In `folder` is something whose path is too long to be synced, or was until now.
    TooLong {
        folder: SyncPath,
        name: Vec<u8>,
        is_gone: bool,
    },
    /// The walk is over. `unread`: folders that could not be listed; nothing is concluded from
    /// their silence.
    Walked {
        walk: WalkId,
        unread: Vec<(Option<SyncPath>, Trouble)>,
    },
    Root(RootState),
    /// The folder's file system keeps less than was thought.
    Keeps(Keeps),
    /// What it says; `None`: there is none.
    IgnoreRead(Option<Vec<u8>>),
    /// Something is at its name, and cannot be read as patterns: why, and the way out.
    IgnoreUnread(String),
    /// A link is up and both ends proved the secret. `dialler`: this end opened it. `features`: the
    /// other end's.
    LinkUp {
        link: LinkId,
        device: DeviceId,
        name: String,
        dialler: bool,
        features: Features,
        /// As the proofs have shown.
        capability: Capability,
    },
    LinkDown {
        link: LinkId,
    },
    /// `wire_bytes`: what the message took on the wire, for the log.
    Message {
        link: LinkId,
        message: Message,
        wire_bytes: u64,
    },
    /// A large content arrived and its hash is right.
    Fetched {
        fetch: FetchId,
        staged: StageId,
        wire_bytes: u64,
    },
    FetchFailed {
        fetch: FetchId,
        why: FetchError,
    },
    /// A content that comes in chunks has its place. `here`: runs of the chunks that an earlier try
    /// left, their hashes checked again; `listed`: its list is known.
    PartialOpened {
        fetch: FetchId,
        here: Vec<(u32, u32)>,
        listed: bool,
    },
    /// A chunk is in its place; if the list is known, it is what that says. `wire_bytes`: since the
    /// last that was told of the range.
    ChunkCame {
        range: RangeId,
        chunk: u32,
        wire_bytes: u64,
    },
    /// The list came, and is the content's. `bad`: what is here and should not be, and who sent it
    /// in this run.
    ListCame {
        range: RangeId,
        bad: Vec<(u32, Option<LinkId>)>,
    },
    /// Nothing more comes of it. Of what it asked for, what came was told before.
    RangeEnded {
        range: RangeId,
        how: Result<(), FetchError>,
        wire_bytes: u64,
    },
    /// The peer asks for a large content, or a part of it, as its stream `stream`; answered by one
    /// `Serve` or `ServePartial`.
    FetchAsked {
        link: LinkId,
        stream: FetchId,
        path: SyncPath,
        content: ContentId,
        size: u64,
    },
    /// The peer has `base`, and wants another content by what differs; answered by one
    /// `ServeDelta`.
    DeltaAsked {
        link: LinkId,
        stream: FetchId,
        path: SyncPath,
        content: ContentId,
        size: u64,
        base: ContentId,
        base_size: u64,
    },
    Installed {
        job: JobId,
        outcome: Outcome,
    },
    /// Answer to `Action::Merge`; `kept`: of which loser.
    Merged {
        path: SyncPath,
        kept: String,
        merge: Merge,
    },
    /// Within 5 s after a file went to history, someone who still held it open wrote into it. It is
    /// kept as `kept` now, as the loser of a conflict; `kind` says its size and content.
    WrittenLate {
        path: SyncPath,
        stat: Stat,
        kind: Kind,
        kept: String,
    },
    /// Answer to `Action::FindLoser`, if it is there.
    LoserFound(Box<FoundLoser>),
    /// Answer to `Action::Scrub`. `stat`: the one that it was asked for.
    Scrubbed {
        path: SyncPath,
        stat: Stat,
        outcome: Scrubbed,
    },
    /// A person asks to verify.
    Verify(Verify),
    StopVerifying,
    /// A person decided about a suspect file.
    Decide {
        path: SyncPath,
        decision: Decision,
    },
    /// A person decided the conflicts of a path that are known up to the one called `last`; `how`:
    /// in words.
    Settle {
        path: SyncPath,
        last: i64,
        how: String,
    },
    /// A person released what is held.
    Confirm,
    /// A person says that what is held was not meant, or only asks what would come back:
    /// `Engine::take_undone` has the answer.
    Undo {
        ticket: u64,
        dry_run: bool,
    },
    Pause(bool),
    /// A person wants the whole folder looked at, or what is in this one.
    Scan(Option<SyncPath>),
    /// A person gives this machine a role.
    Role(SyncRole),
    /// A person says that the local changes at these paths and below them are for all.
    Promote(Vec<SyncPath>),
    /// A person wants the group's state back at these paths and below them; with no paths,
    /// everywhere.
    Revert(Vec<SyncPath>),
    /// A person makes this machine's state the group's, at these paths and below them, for what is
    /// not installed here; with no paths, everywhere.
    Override(Vec<SyncPath>),
    /// A machine was let in here by an invitation.
    Invited {
        device: DeviceId,
        name: String,
        capability: Capability,
    },
    /// A listed device is another from now on, as its key has signed.
    Succeeded {
        former: DeviceId,
        device: DeviceId,
    },
    /// A person wants another secret for the group, and a device to be removed by that. `fresh`:
    /// drawn for it.
    Rotate {
        remove: Option<DeviceId>,
        fresh: FreshSecret,
    },
    /// A member handed its secrets over on a link that proved a former one. `from`: its name;
    /// `capability`: what it proved.
    HandedOver {
        from: String,
        capability: Capability,
        given: Box<HandOver>,
    },
    /// This machine has left the group: linked machines are told, and nothing follows.
    Leave,
    /// So far is the clock of the link's other end ahead of ours (ns; behind: negative).
    Clock {
        link: LinkId,
        ahead_ns: i64,
    },
    /// A person wants to know what linked machines hold back, or what is still to come to them:
    /// `Engine::take_holding` has the answers.
    AskHolds {
        ticket: u64,
        pending: bool,
    },
    /// A person wants to know what the histories of linked machines keep: `Engine::take_pasts` has
    /// the answers.
    AskPast(AskPast),
    /// And one of those contents: `Engine::take_fetched` says what came of it.
    FetchPast(FetchPast),
    /// Answer to `ListPast`, newest first.
    PastListed {
        link: LinkId,
        id: u32,
        found: Vec<FoundPast>,
    },
    /// Answer to `FindKept`: where each is in history, if it is there. Not hashed.
    KeptFound(Vec<(Sought, Option<(String, Stat)>)>),
    /// Answer to `LocateKept`.
    KeptLocated(Vec<(Sought, Option<LocatedKept>)>),
    /// Another machine proved our own device id. When each was started by its clock (ns since
    /// 1970), and what it drew then.
    Twin {
        ours: (u64, u64),
        theirs: (u64, u64),
    },
}

/// 32 bytes that nobody else knows. `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct FreshSecret(pub SecretBytes);

impl std::fmt::Debug for FreshSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FreshSecret(hidden)")
    }
}

/// What came of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// Both sides' edits in one text, in staging, verified.
    Done { staged: StageId, size: u64, content: ContentId },
    /// No text, no common ancestor that is known, edits that overlap, or too much work.
    Impossible,
    /// The file is not what it was.
    Moved,
}

/// What hashing a file once more came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scrubbed {
    /// Its stat was the one asked for, before and after.
    Read(ContentId),
    /// It is gone, or its stat is another.
    Moved,
    /// The disk itself gave an error in place of the bytes.
    Unreadable(Trouble),
    Failed(Trouble),
}

/// What a person wants verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// A file, or everything in a folder (`None`: everything).
    pub below: Option<SyncPath>,
    /// Read at most so many bytes a second.
    pub bytes_a_second: u64,
    /// Also ask the linked machines what they hold.
    pub peers: bool,
}

/// What becomes of a suspect file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is rot: fetch again what the index says.
    Heal,
    /// It is an edit: the present bytes are a new version.
    Keep,
}

/// This boot of the machine, as far as it says who may have written a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boot {
    pub id: u128,
    /// When it began, by the clock as it is now (ns since 1970).
    pub began: u64,
    /// On the folder's file system, also a store through a mapping changes the stat.
    pub marks_stores: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The peer does not have it (any more).
    NotHere,
    /// The link ended.
    LinkLost,
    /// The bytes that came are not what was announced.
    Corrupt,
    /// Of a `FetchDelta`: it is better fetched whole, or what came was of no use. Nothing is wrong
    /// with the peer.
    NoDelta,
    /// It could not be staged here.
    Staging(Trouble),
}

/// What a person wants of the histories of others. `ticket`: chosen by the asker, names the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskPast {
    pub ticket: u64,
    /// What is kept of this path and below it, or of all.
    pub path: Option<SyncPath>,
    /// Instead: what exactly these are, by machine; each by its path and time.
    pub named: BTreeMap<DeviceId, Vec<(SyncPath, u64)>>,
    /// The sizes of those together, which have to be hashed there.
    pub bytes: u64,
}

/// A content to be fetched from the history of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPast {
    pub ticket: u64,
    pub device: DeviceId,
    pub path: SyncPath,
    pub content: ContentId,
    pub size: u64,
}

/// One thing that was found in this machine's history for a peer that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPast {
    pub past: Past,
    /// Its name in history.
    pub kept: String,
    pub stat: Stat,
}

/// Number of an `Install`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// How an install ended. Anything but `Done` left the path as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Durable. `stat`: read back afterwards; `None` after a deletion. `kept`: the name of what was
    /// there, in history.
    Done {
        stat: Option<Stat>,
        kept: Option<String>,
    },
    /// The target is not what was expected: a user was faster.
    Stale,
    /// Its folder is not there, or is no folder.
    NoParent,
    /// The file system has the name already, spelled otherwise.
    Taken,
    /// The folder to remove or replace holds something.
    NotEmpty,
    /// The source's bytes are not the entry's content.
    BadContent,
    /// The source is gone or changed.
    NoSource,
    /// Of a file whose permissions and mtime alone were to change: its bytes are not its content,
    /// though its stat is as expected.
    NotItsContent,
    /// It could not be put there, and nothing is wrong with it: a content that was staged before is
    /// in staging still.
    Refused(Trouble),
    Failed(Trouble),
}
