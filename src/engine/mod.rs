//! The engine: everything that decides *what should happen*, as a plain function of state and event.
//!
//! `Engine::handle(now, Event)` reads and writes an [`Index`] and returns [`Action`]s. It holds no
//! tokio, no file system, no clock, no randomness and no map of random order, so that many engines run in
//! one deterministic simulation. The shell (`io/`, `daemon.rs`) feeds events and runs actions and decides nothing.
//!
//! The contract with the shell:
//! - Events are handled one at a time. The index changes of one or more `handle` calls are committed
//!   durably **before** any of their actions runs (P5).
//! - Every `Look` is answered by one `Looked`, every `Walk` by `Listed`s and one `Walked`, every `Install` by one
//!   `Installed`, every `Fetch` by one `Fetched` or `FetchFailed`, `CheckRoot` by `Root`, `ReadIgnore` by `IgnoreRead`.
//! - `Engine::wake_at` says when the next `Tick` is due.
//!
//! May import `model` and `wire`. Deliberately not here: sockets, files, transfers' pieces, log formatting.

pub mod digest;
pub mod index;
pub mod map_index;

use crate::model::{ContentId, DeviceId, Entry, FileTime, Mode, SyncPath};
use crate::wire::message::Message;
use bytes::Bytes;

/// The time of an event. Both in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since 1970, by a clock that may be wrong and may jump.
    pub wall: u64,
    /// Since some moment before the start; never goes back.
    pub mono: u64,
}

/// One TCP link (or its likeness in the simulator); never reused, so that late answers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A walk of the tree or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalkId(pub u64);

/// A large content on its way; also the stream's number on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u32);

/// A verified content in `staging/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub u64);

/// What kind of inode a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum StatKind {
    File,
    Directory,
    Symlink,
    /// A socket, fifo, device, or a mount point: left alone.
    Other,
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

/// Why the watcher thinks that a path deserves a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// A writer closed it, or it was renamed in: look soon.
    Closed,
    /// Created, being written, or its attributes changed: wait for quiet.
    Changed,
    /// Removed or renamed away.
    Gone,
}

/// What a look at a path found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    Absent,
    /// Its stat is the `known` of the look.
    Unchanged,
    Directory {
        stat: Stat,
    },
    Symlink {
        stat: Stat,
        target: Vec<u8>,
    },
    /// Hashed, durable, and with the same stat before and after. `body`: the bytes, if the look asked for them,
    /// the file is small and the shell's budget allowed.
    File {
        stat: Stat,
        content: ContentId,
        body: Option<Bytes>,
    },
    /// A socket, fifo, device or mount: its kind, for the log.
    Special {
        what: &'static str,
    },
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
    Other,
}

/// How the root looks, by descriptor and by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootState {
    Fine,
    /// Not to be trusted: why, and what to do, for a person.
    Wrong(String),
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
    Looked {
        path: SyncPath,
        observed: Observed,
    },
    /// Some children that a walk found, in any order. A folder is named before what is in it.
    Listed {
        walk: WalkId,
        found: Vec<(SyncPath, Stat)>,
    },
    /// The walk is over. `unread`: folders that could not be listed; nothing is concluded from their silence.
    Walked {
        walk: WalkId,
        unread: Vec<(Option<SyncPath>, Trouble)>,
    },
    Root(RootState),
    IgnoreRead(Option<Vec<u8>>),
    /// A link is up and both ends proved the secret. `dialler`: this end opened it.
    LinkUp {
        link: LinkId,
        device: DeviceId,
        name: String,
        dialler: bool,
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
    /// A peer wants a large content; answered by one `Serve`. `stream` is the peer's number.
    FetchAsked {
        link: LinkId,
        stream: FetchId,
        path: SyncPath,
        content: ContentId,
        size: u64,
    },
    Installed {
        job: JobId,
        outcome: Outcome,
    },
    /// A person released held deletions.
    Confirm,
    Pause(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The peer does not have it (any more).
    NotHere,
    /// The link ended.
    LinkLost,
    /// The bytes that came are not what was announced.
    Corrupt,
    /// It could not be staged here.
    Staging(Trouble),
}

/// Number of an `Install`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Where an installed file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, a link, a deletion.
    Nothing,
    /// Not yet checked against the `ContentId`: `BadContent` if they are wrong.
    Bytes(Bytes),
    /// In staging, verified.
    Staged(StageId),
    /// Another file here that held it when last looked at; hashed while copied.
    Copy { from: SyncPath, stat: Stat },
    /// The content is already there: permissions and mtime of the same inode change.
    InPlace,
}

/// Why a replaced file goes to history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    Replaced,
    Deleted,
    Conflict,
}

/// Make `path` hold `entry`, if it still is what `expect` says (`None`: nothing there).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub path: SyncPath,
    pub entry: Entry,
    pub expect: Option<Stat>,
    pub source: Source,
    /// What becomes of a file or link that was there. Directories are removed when empty.
    pub keep: Keep,
}

/// How an install ended. Anything but `Done` left the path as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Durable. `stat`: read back afterwards; `None` after a deletion. `kept`: the name of what was there, in history.
    Done {
        stat: Option<Stat>,
        kept: Option<String>,
    },
    /// The target is not what was expected: a user was faster.
    Stale,
    /// Its folder is not there, or is no folder.
    NoParent,
    /// The folder to remove or replace holds something.
    NotEmpty,
    /// The source's bytes are not the entry's content.
    BadContent,
    /// The source is gone or changed.
    NoSource,
    Failed(Trouble),
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stat it; unless the stat is `known`, make it durable (P5), hash it and say what it is.
    /// `rehash`: read it even so. `body`: hand over a small file's bytes.
    Look {
        path: SyncPath,
        known: Option<Stat>,
        rehash: bool,
        body: bool,
    },
    /// Watch and list the folder (`None`: the root) and everything below it, but for what `ignored` covers.
    Walk {
        walk: WalkId,
        below: Option<SyncPath>,
    },
    CheckRoot,
    ReadIgnore,
    Install(Job),
    /// Forget a staged content that is not wanted any more.
    Discard(StageId),
    Send {
        to: Vec<LinkId>,
        message: Message,
    },
    /// Read these small files (or `None` for what is not here) and send them as `Contents`. Files whose stat is not the one
    /// given are not here any more.
    SendContents {
        to: LinkId,
        files: Vec<(u32, Option<ServedFile>)>,
    },
    /// Ask for a large content: `path` and `content` say which, and the bytes go to staging and are verified.
    /// It is `FetchAsked` at the peer.
    Fetch {
        fetch: FetchId,
        from: LinkId,
        path: SyncPath,
        content: ContentId,
        size: u64,
    },
    CancelFetch {
        fetch: FetchId,
    },
    /// Answer to `FetchAsked`: stream this file, or say that it is not here.
    Serve {
        to: LinkId,
        stream: FetchId,
        file: Option<ServedFile>,
    },
    /// The peer broke the protocol: close the link and name it.
    Close {
        link: LinkId,
        why: String,
    },
    Report(Report),
}

/// A file that this machine holds: where, and how it was when its content was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedFile {
    pub path: SyncPath,
    pub stat: Stat,
    pub content: ContentId,
    pub size: u64,
}

/// One line that a person would want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A remote change is on disk here. `wire_bytes`: 0 when the content was found here.
    Received {
        path: SyncPath,
        entry: Entry,
        from: String,
        wire_bytes: u64,
        took_ns: u64,
    },
    /// A local change was told to peers. `to`: their names.
    Sent {
        path: SyncPath,
        entry: Entry,
        to: Vec<String>,
        body: bool,
    },
    /// Two versions were made apart; `loser` was on disk here and is in history as `kept`.
    Conflict {
        path: SyncPath,
        winner: Entry,
        winner_name: String,
        loser: Entry,
        loser_name: String,
        kept: String,
    },
    /// A path needs attention; `solved` when it no longer does.
    Problem {
        path: Option<SyncPath>,
        text: String,
    },
    Solved {
        path: Option<SyncPath>,
    },
    /// A socket, fifo or device, named once.
    LeftAlone {
        path: SyncPath,
        what: &'static str,
    },
    /// A walk ended: how many paths there are, and how many had changed.
    Scanned {
        paths: u64,
        changed: u64,
        took_ns: u64,
    },
    /// This machine and that peer hold the same tree.
    InSync {
        peer: String,
        paths: u64,
    },
    /// Syncing stopped (or went on again): why, and what to do.
    Halted {
        why: String,
    },
    Resumed,
    /// Deletions are held until someone confirms.
    Held {
        deletions: u64,
        of: u64,
    },
}

/// What the engine is told at its making.
#[derive(Debug, Clone)]
pub struct Config {
    pub device: DeviceId,
    /// This machine's name, for the log.
    pub name: String,
}

/// How far the folder can be believed to be the one that the index speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Its marker is the index's, or both are new.
    Known,
    /// Its marker is another: it came back from a snapshot or a backup. What is found there counts as by a first
    /// scan, and nothing missing counts as deleted (P8).
    Restored,
}

/// What `dirsync status` shows of one peer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PeerStatus {
    pub device: DeviceId,
    pub name: String,
    /// Whether it holds the same tree, nothing pending on either side.
    pub in_sync: bool,
    /// Paths still to be installed there, as it said last.
    pub pending: u64,
}

/// What `dirsync status` shows; `dirsync wait` waits until `idle` and every peer is `in_sync`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    pub device: DeviceId,
    pub name: String,
    pub counts: index::Counts,
    pub peers: Vec<PeerStatus>,
    /// Nothing to look at, fetch, install or tell.
    pub idle: bool,
    pub scanning: bool,
    pub paused: bool,
    /// Why syncing is stopped, and what to do.
    pub halted: Option<String>,
    /// Deletions that wait for `dirsync confirm`.
    pub held_deletions: u64,
    /// Paths that need attention, and why (at most 1,000).
    pub problems: Vec<(SyncPath, String)>,
    /// Paths being fetched or installed, and how far each is (at most 100).
    pub under_way: Vec<(SyncPath, String)>,
}

/// The engine: see the top of this file.
pub struct Engine<I> {
    config: Config,
    index: I,
}

impl<I: index::Index> Engine<I> {
    pub fn new(config: Config, index: I) -> Self {
        Self { config, index }
    }

    /// The first call, once: begins the first walk.
    pub fn start(&mut self, now: Now, trust: Trust) -> Vec<Action> {
        let _ = (now, trust, &self.config);
        Vec::new()
    }

    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        let _ = (now, event);
        Vec::new()
    }

    /// When `Event::Tick` is due, by `Now::mono`.
    pub fn wake_at(&self) -> Option<u64> {
        None
    }

    /// `&mut`: digests are made when asked for.
    pub fn status(&mut self) -> Status {
        unimplemented!()
    }

    pub fn index(&self) -> &I {
        &self.index
    }

    pub fn index_mut(&mut self) -> &mut I {
        &mut self.index
    }
}
