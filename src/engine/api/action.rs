//! What the engine tells the shell to do, and what it says to people.

use crate::engine::api::event::JobId;
use crate::engine::api::event::{FetchId, LinkId, RangeId, StageId, Stat, WalkId};
use crate::engine::api::group::GroupState;
use crate::engine::api::problem::{Problem, RenewalCause};
pub use crate::model::RetainReason;
use crate::model::{ContentId, Entry, Kind, SyncPath, SyncRole};
use crate::wire::condition::Condition;
use crate::wire::message::{Message, Sought};
use crate::wire::packet::Part;
use bytes::Bytes;

/// Where an installed file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, a link, a deletion.
    Nothing,
    /// Not yet checked against the `ContentId`: `BadContent` if they are wrong.
    Bytes(Bytes),
    /// In staging, verified.
    Staged(StageId),
    /// Another file here that held it when last inspected; hashed while copied.
    Copy { from: SyncPath, stat: Stat },
    /// A file that went to history by this name and had this stat before; hashed while copied.
    Kept { kept: String, stat: Stat },
    /// What is there by another spelling of the name, which the file system does not tell from this
    /// one, is renamed. `NoSource` if it is not what `stat` says.
    Rename { from: SyncPath, stat: Stat },
    /// The content is already there: permissions and mtime of the same inode change.
    InPlace,
}

/// How fast, and how considerately, a file is hashed once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub bytes_a_second: u64,
    /// Rest while there is any other work on the disk.
    pub yields: bool,
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
    pub keep: RetainReason,
    /// Since when the content that was there has been here, by the steady clock (`Row::since`).
    pub since_ns: u64,
}

/// A content of so many bytes that was somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorContent {
    pub content: ContentId,
    pub size: u64,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stat it; unless the stat is `known`, make it durable (P5), hash it and say what it is. A
    /// folder with the `known` inode and mode is durable already, and is reported as `Directory`.
    /// `rehash`: read it even so. `body`: hand over a small file's bytes. `was`: what a large file
    /// held before, most of which it may still hold.
    Inspect {
        path: SyncPath,
        known: Option<Stat>,
        was: Option<PriorContent>,
        rehash: bool,
        body: bool,
    },
    /// Watch and list the folder (`None`: the root) and everything below it, but for what `ignored`
    /// covers.
    Walk {
        walk: WalkId,
        below: Option<SyncPath>,
    },
    CheckRoot,
    ReadIgnore,
    Install(Job),
    /// A file that may be the common ancestor of a later conflict: keep a copy of it for `Merge`,
    /// if it is text and its stat still is this. Without an answer; an old or large store may
    /// forget.
    KeepBase {
        path: SyncPath,
        entry: Entry,
        stat: Stat,
    },
    /// An install over `loser`, a file that lost to `winner`, was cut off after it: find what it
    /// left of it in history. `LoserFound` answers, if it is there.
    FindLoser {
        path: SyncPath,
        winner: Entry,
        loser: Entry,
    },
    /// Merge `ours`, which is in history as `kept`, with `theirs`, which is on disk at `path`, upon
    /// the last ancestor of both that was kept (`common_ancestor`). What the version of `theirs`
    /// has seen is what its contents go back to. The result goes to staging; `Merged` says what
    /// came of it.
    Merge {
        path: SyncPath,
        ours: Entry,
        kept: String,
        theirs: Entry,
        stat: Stat,
    },
    /// Hash a file whose stat is `known` once more: from the disk, not from what is cached of it.
    Scrub {
        path: SyncPath,
        known: Stat,
        pace: Pace,
    },
    /// What is being hashed once more, and what waits for that, goes on at this pace.
    SetPace(Pace),
    /// Copy what is at `path` to history, if its stat still is this, as what was found suspect.
    /// Without an answer: the file stays where it is.
    KeepSuspect {
        path: SyncPath,
        stat: Stat,
    },
    /// Remove a deleted file from history, if it still is what it `was`, holds `content`, and what
    /// is at `path` still has this stat: that is the same content, durable. Without an answer.
    DropKept {
        /// Its name in history.
        kept: String,
        was: Stat,
        content: ContentId,
        path: SyncPath,
        stat: Stat,
    },
    /// Forget a staged content that is not wanted any more.
    Discard(StageId),
    Send {
        to: Vec<LinkId>,
        message: Message,
    },
    /// Read these small files (or `None` for what is not here) and send them as `Contents`. Files
    /// whose stat is not the one given are not here any more.
    SendContents {
        to: LinkId,
        files: Vec<(u32, Option<ServedFile>)>,
    },
    /// Ask for a large content: `path` and `content` say which, and the bytes go to staging and are
    /// verified. It is `FetchAsked` at the peer.
    Fetch {
        fetch: FetchId,
        from: LinkId,
        path: SyncPath,
        content: ContentId,
        size: u64,
    },
    /// The same by what differs from a file that is here; where that comes to nothing for whatever
    /// reason, `FetchError::NoDelta`. It is `DeltaAsked` at the peer.
    FetchDelta {
        fetch: FetchId,
        from: LinkId,
        path: SyncPath,
        content: ContentId,
        size: u64,
        base: ServedFile,
    },
    CancelFetch {
        fetch: FetchId,
    },
    /// Make place for a content that comes in chunks, or take up what an earlier try left:
    /// `PartialOpened`, or `FetchFailed`.
    OpenPartial {
        fetch: FetchId,
        content: ContentId,
        size: u64,
    },
    /// Ask for chunks of an opened content, or for its list: `ChunkCame`s or one `ListCame`, then
    /// one `RangeEnded` (none after `CancelPart`). It is `FetchAsked` at the peer.
    FetchPart {
        range: RangeId,
        from: LinkId,
        path: SyncPath,
        content: ContentId,
        size: u64,
        part: Part,
    },
    CancelPart {
        range: RangeId,
    },
    /// All chunks of it are here: `Fetched`, or `FetchFailed` if they are not the content. It is
    /// served until it is closed.
    FinishPartial {
        fetch: FetchId,
        content: ContentId,
    },
    /// Nothing more is asked for or served of it. `keep`: what is here serves another try.
    ClosePartial {
        content: ContentId,
        keep: bool,
    },
    /// Answer to `FetchAsked`: of this content, which is on its way here, serve what is verified.
    ServePartial {
        to: LinkId,
        stream: FetchId,
        content: ContentId,
    },
    /// Answer to `FetchAsked`: stream this file in pieces, or say that it is not here.
    Serve {
        to: LinkId,
        stream: FetchId,
        file: Option<ServedFile>,
    },
    /// A peer asks what history keeps of a path and below it, or of all; or what exactly the
    /// `named` ones are, each by its path and time. `PastListed` answers. Of several questions of
    /// one link, the last is enough.
    ListPast {
        to: LinkId,
        id: u32,
        path: Option<SyncPath>,
        named: Vec<(SyncPath, u64)>,
    },
    /// Does this machine's own history keep these contents? `KeptFound` answers, for all of them.
    FindKept(Vec<Sought>),
    /// Does this machine's own history hold these contents, at their paths or at others?
    /// `KeptLocated` answers, for all of them. What is small enough is hashed.
    LocateKept(Vec<Sought>),
    /// Answer to `DeltaAsked`: send what differs, or say that it is not here.
    ServeDelta {
        to: LinkId,
        stream: FetchId,
        file: Option<ServedFile>,
        base: ContentId,
        base_size: u64,
    },
    /// The peer broke the protocol: close the link and name it.
    Close {
        link: LinkId,
        why: String,
    },
    /// End, and start anew as a new device: this one's id is not ours alone, or its counters are
    /// not where they were.
    NewDevice,
    /// The group as it is known here, durably: who may be linked, and who may be handed a secret.
    Group(Box<GroupState>),
    /// End, and start anew with another secret, which the index has by now.
    Rekey,
    Report(Report),
}

/// A file that this machine holds: where, and how it was when its content was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedFile {
    pub path: SyncPath,
    pub stat: Stat,
    pub content: ContentId,
    pub size: u64,
    /// It is in history by this name, and was at `path` once.
    pub kept: Option<String>,
}

/// What two machines are at with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPhase {
    /// Their trees.
    Comparing,
    /// Something is on its way to one of them.
    Transferring,
    /// All that was on its way to this one is here, and is put in its place.
    Applying,
    /// Nothing.
    Done,
}

/// One line that a person would want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A remote change is on disk here. `wire_bytes`: 0 when the content was found here.
    Received {
        path: SyncPath,
        entry: Entry,
        /// What was live there before.
        was: Option<Kind>,
        from: String,
        wire_bytes: u64,
        took_ns: u64,
        /// The same was there, with other permissions or times.
        was_there: bool,
    },
    /// A transfer takes long: so much is here by now.
    Fetching {
        path: SyncPath,
        from: Vec<String>,
        bytes: u64,
        size: u64,
    },
    /// What a peer sent of a content, or of its list of chunks, is not what it should be: it is not
    /// asked for it again.
    BadSource {
        path: SyncPath,
        peer: String,
    },
    /// A local change is on the disks of these peers, so long after it was sent. `to`: their names.
    Sent {
        path: SyncPath,
        entry: Entry,
        /// What was live there before.
        was: Option<Kind>,
        to: Vec<String>,
        took_ns: u64,
    },
    /// A local change was sent to peers that will not say when they have it. `to`: their names.
    Announced {
        path: SyncPath,
        entry: Entry,
        /// What was live there before.
        was: Option<Kind>,
        to: Vec<String>,
    },
    /// Two versions were made apart; `loser` was on disk here and is in history as `kept`, or as a
    /// copy at `beside`, or both.
    Conflict {
        path: SyncPath,
        winner: Entry,
        winner_name: String,
        loser: Entry,
        loser_name: String,
        kept: Option<String>,
        beside: Option<SyncPath>,
    },
    /// The conflict that put `loser` into history as `kept` was resolved by merging: `entry` holds
    /// the edits of both.
    Merged {
        path: SyncPath,
        entry: Entry,
        loser: Entry,
        loser_name: String,
        kept: String,
    },
    /// A path needs attention; `solved` when it no longer does.
    Problem {
        path: Option<SyncPath>,
        problem: Problem,
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
    /// What this machine and that peer are at; looked at twice a second.
    Syncing {
        peer: String,
        phase: SyncPhase,
    },
    /// A deletion lost to a change that was made apart from it.
    DeletionLost {
        path: SyncPath,
        deleter: String,
        editor: String,
    },
    /// A person paused syncing, or let it go on.
    Paused {
        paused: bool,
    },
    /// How that peer stands, as it says itself; clear: nothing keeps it from being done any more.
    PeerStands {
        peer: String,
        condition: Condition,
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
    /// The same of peers' deletions.
    HeldFromPeers {
        deletions: u64,
        of: u64,
    },
    /// So many files went back to older contents, here or by peers' changes: held.
    HeldReverts {
        reverts: u64,
        of: u64,
        by_peers: bool,
    },
    /// A peer's change of the ignore file would have these paths synced, which were not: held.
    HeldUnignored {
        paths: u64,
    },
    /// A file's bytes changed and its stat did not, or the disk cannot read them. `heals`: no write
    /// explains it, so it is fetched again.
    Suspect {
        path: SyncPath,
        unreadable: bool,
        heals: bool,
    },
    /// It holds again what it should.
    Healed {
        path: SyncPath,
    },
    /// A person said that what is there is meant; it is a new version.
    Kept {
        path: SyncPath,
    },
    /// Read wrongly once, and rightly at once after that.
    ReadWrongly {
        path: SyncPath,
    },
    /// Everything was hashed again. `found`: how many files are suspect since; `passed_over`: were
    /// in use.
    Verified {
        files: u64,
        bytes: u64,
        found: u64,
        passed_over: u64,
        took_ns: u64,
    },
    /// Most files of an hour ago were deleted, and not most of the bytes: not held. One of them,
    /// and who deleted them.
    ManyDeleted {
        deletions: u64,
        of: u64,
        example: Option<SyncPath>,
        by: Vec<String>,
    },
    /// What was held goes ahead: it is half of the files or less by now.
    HoldEnded,
    /// What was held goes ahead.
    Confirmed,
    /// A person confirmed at another machine: so many changes that were held here go ahead.
    ConfirmedBy {
        by: String,
        paths: u64,
    },
    /// A person refused what was held: so many paths come back, as they were.
    Undone {
        paths: u64,
    },
    /// An undo went on after a restart, so that nobody waits for its answer: nobody who could be
    /// asked has these.
    StaysAway {
        paths: Vec<SyncPath>,
    },
    /// This machine takes a new device id: why.
    NewDevice {
        why: RenewalCause,
    },
    /// A peer's clock is off by so much (ns; negative: behind), or is right again.
    ClockOff {
        peer: String,
        ahead_ns: i64,
    },
    ClockRight {
        peer: String,
    },
    /// A peer announces an entry that is not taken in; `None`: it claims something of this machine
    /// that is not so.
    InvalidEntries {
        peer: String,
        path: Option<SyncPath>,
        why: String,
    },
    /// A peer that is linked has sent none of so many contents that it was asked for.
    Silent {
        peer: String,
        contents: u64,
    },
    /// It does not belong to the group any more.
    Removed {
        device: String,
        /// Who removed it.
        by: String,
    },
    /// The group has another secret, drawn here.
    Rotated,
    /// The group has another secret, which this machine handed over.
    HandedOver {
        from: String,
    },
    /// Deletions no longer wait for this device.
    Forgotten {
        device: String,
    },
    /// It has left the group, by its own word; deletions no longer wait for it.
    Left {
        peer: String,
    },
    /// A person gave this machine another role.
    Role {
        role: SyncRole,
    },
    /// A local change gave way to what the group has: it is in history as `kept`.
    LocalKept {
        path: SyncPath,
        kept: String,
        /// Who made what is there now.
        by: String,
    },
    /// A person announced so many local changes.
    Promoted {
        paths: u64,
    },
    /// A person made this machine's state the group's at so many paths.
    Overridden {
        paths: u64,
    },
    /// A person put so many local changes aside.
    Reverted {
        paths: u64,
    },
    /// So many deletions are known to every device, and are not remembered any longer.
    Purged {
        deletions: u64,
    },
    /// So many changes that a wrong clock dated far ahead were made anew, as of today.
    Redated {
        changes: u64,
    },
}
