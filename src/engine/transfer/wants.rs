//! What is wanted and how far each want is: the state behind `fetch.rs` and `install.rs`.

use crate::engine::api::event::JobId;
use crate::engine::api::event::{FetchId, LinkId, StageId, Stat};
use crate::engine::limits::{JOBS, SILENCE_MOST_PATIENCE_NS, SILENCE_PATIENCE_NS};
use crate::model::{ContentId, DeviceId, Entry, SyncPath};
use crate::wire::message::Sought;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Where a want stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Step {
    /// Something must happen first, or a time must come.
    Waiting,
    /// Worth a step.
    Ready,
    /// In the queue for a place in a window.
    Queued,
    Asked(LinkId, u32),
    Fetching(FetchId),
    Installing(JobId),
}

pub(in crate::engine) struct Want {
    pub step: Step,
    /// The content registered in `Wants::contents`.
    pub content: Option<(ContentId, u64)>,
    /// Links whose peer told of it, the latest last.
    pub sources: Vec<LinkId>,
    pub refused: BTreeSet<LinkId>,
    pub(super) received: Received,
    pub(super) attempts: Attempts,
    pub since: u64,
    /// The devices that were told already, if it came live and is to be passed on.
    pub relayed_to: Option<Vec<DeviceId>>,
    /// Its author wants to know when it is here: the link, and the counter of that version.
    pub owes_ack: Option<(LinkId, u64)>,
    pub kept: KeptHere,
}

/// How often a want was tried, and what came of that.
#[derive(Default)]
pub(in crate::engine) struct Attempts {
    /// Places on this disk that were to have the content and did not.
    pub failed_copies: Vec<Holder>,
    /// A delta came to nothing: the content is fetched whole.
    pub delta_failed: bool,
    pub tries: u32,
    /// Nothing that will change soon keeps it: a problem, or a folder with content of its own.
    pub stuck: bool,
    pub trial: Trial,
}

/// What came of a wanted content, and from whom.
#[derive(Default)]
pub(in crate::engine) struct Received {
    pub body: Option<Bytes>,
    pub staged: Option<StageId>,
    pub wire_bytes: u64,
    /// Who sent the content, and that peer's name.
    pub provider: Option<LinkId>,
    pub from: String,
}

/// Whether this machine's history may have a wanted content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum KeptHere {
    No,
    /// It is to be asked if nobody else has it.
    AtLast,
    /// It is to be asked.
    Perhaps,
    Asked,
    /// By this name.
    As(String, Box<Stat>),
}

/// Where on this disk a content is, or was when it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Holder {
    Live(SyncPath),
    /// In history, by this name.
    Kept(String),
}

/// How a want stands with its installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) enum Trial {
    #[default]
    Open,
    /// The last one failed, or something keeps it from being tried: its problem lasts until it is
    /// here.
    Failed,
}

impl Want {
    /// The last install failed, or something keeps it from being tried.
    pub fn note_failed(&mut self) {
        self.attempts.trial = Trial::Failed;
    }

    /// What kept it from being tried is gone.
    pub fn note_open(&mut self) {
        self.attempts.trial = Trial::Open;
    }

    /// Nothing that will change soon keeps it.
    pub fn is_stuck(&self) -> bool {
        self.attempts.stuck
    }

    pub fn tries(&self) -> u32 {
        self.attempts.tries
    }

    pub fn has_failed(&self) -> bool {
        self.attempts.trial == Trial::Failed
    }
}

/// An install that the shell was given.
pub(in crate::engine) struct RunningInstall {
    pub path: SyncPath,
    pub entry: Entry,
    /// Where on this disk it is copied from.
    pub copied: Option<Holder>,
    /// The other spelling of its name that it is renamed from.
    pub renamed: Option<SyncPath>,
    /// What it installs from, given back if it comes to nothing.
    pub staged: Option<StageId>,
    /// What it holds of the small window (bytes).
    pub window: Option<u64>,
}

/// A large content that comes whole, or as a delta.
pub(in crate::engine) struct LargeFetch {
    pub path: SyncPath,
    pub link: LinkId,
    pub began: u64,
}

#[derive(Default)]
pub(in crate::engine) struct Wants {
    /// Boxed: entries are moved when the map grows and shrinks.
    pub by_path: BTreeMap<SyncPath, Box<Want>>,
    pub(super) queues: WantQueues,
    pub contents: BTreeSet<(ContentId, SyncPath)>,
    /// Contents that something about to go waits to have copied.
    pub copied_from: BTreeSet<ContentId>,
    pub asked: BTreeMap<(LinkId, u32), SyncPath>,
    pub fetching: BTreeMap<FetchId, LargeFetch>,
    pub silences: Silences,
    /// Boxed as well.
    pub jobs: BTreeMap<JobId, Box<RunningInstall>>,
    pub last_id: u64,
    pub(super) window: TransferWindow,
    /// What history is to be asked for.
    pub to_find: Vec<Sought>,
    /// What an earlier run left is being loaded.
    pub loading: bool,
}

/// The room that is taken on the way to the disk.
#[derive(Default)]
pub(in crate::engine) struct TransferWindow {
    /// Small contents that were asked for or are being installed (bytes, and how many).
    pub small_bytes: u64,
    pub small_files: usize,
    /// Contents that came along with their entries and wait (bytes).
    pub body_bytes: u64,
    /// Contents handed over to be installed (bytes).
    pub installing_bytes: u64,
    /// The disk is full; it is tried again then (`Now::mono`).
    pub full_until: u64,
}

/// What waits for its turn.
#[derive(Default)]
pub(in crate::engine) struct WantQueues {
    pub ready: BTreeSet<SyncPath>,
    pub small: VecDeque<SyncPath>,
    pub large: VecDeque<SyncPath>,
    pub retries: BTreeSet<(u64, SyncPath)>,
}

impl Wants {
    pub fn get(&self, path: &SyncPath) -> Option<&Want> {
        self.by_path.get(path).map(Box::as_ref)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&SyncPath, &Want)> {
        self.by_path.iter().map(|(path, want)| (path, &**want))
    }

    /// The paths strictly below `dir` (`None`: all) that are being installed.
    pub fn installing_below(&self, dir: Option<&SyncPath>) -> Vec<SyncPath> {
        let from = dir.map_or(Bound::Unbounded, Bound::Excluded);
        let to = dir.map(|dir| dir.range_below().1);
        let from_dir = self.by_path.range::<SyncPath, _>((from, Bound::Unbounded));
        let below = from_dir.take_while(|(path, _)| to.as_ref().is_none_or(|to| path.as_bytes() < &to[..]));
        let installing = below.filter(|(path, want)| {
            matches!(want.step, Step::Installing(_)) && dir.is_none_or(|dir| path.is_below(dir))
        });
        installing.map(|(path, _)| path.clone()).collect()
    }

    /// Whether a path can move now: it is ready, and the shell has room for an install.
    pub fn has_ready(&self) -> bool {
        !self.queues.ready.is_empty() && self.jobs.len() < JOBS
    }

    /// Puts back what `pump_wants` took of the ready paths and did not get to. The smaller set is
    /// moved into the larger one.
    pub fn put_back(&mut self, mut rest: BTreeSet<SyncPath>) {
        if rest.len() > self.queues.ready.len() {
            std::mem::swap(&mut rest, &mut self.queues.ready);
        }
        self.queues.ready.extend(rest);
    }

    pub fn next_retry(&self) -> Option<u64> {
        self.queues.retries.first().map(|(at, _)| *at)
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn make_ready(&mut self, path: &SyncPath) {
        if let Some(want) = self.by_path.get_mut(path)
            && matches!(want.step, Step::Waiting | Step::Ready)
        {
            want.step = Step::Ready;
            self.queues.ready.insert(path.clone());
        }
    }

    pub fn set_content(&mut self, path: &SyncPath, content: Option<(ContentId, u64)>) {
        let Some(want) = self.by_path.get_mut(path) else { return };
        if want.content == content {
            return;
        }
        if let Some((old, _)) = std::mem::replace(&mut want.content, content) {
            self.contents.remove(&(old, path.clone()));
        }
        if let Some((new, _)) = content {
            self.contents.insert((new, path.clone()));
        }
    }

    /// Whether a path that is not below `path` waits for this content, and nothing keeps it from
    /// coming.
    pub fn is_wanted_beside(&self, content: ContentId, path: &SyncPath) -> bool {
        let least = SyncPath::new([1]).expect("one byte is a path");
        self.contents
            .range((content, least)..)
            .take_while(|(other, _)| *other == content)
            .filter(|(_, other)| other != path && !path.is_below(other))
            .any(|(_, other)| self.get(other).is_some_and(|want| want.attempts.trial == Trial::Open))
    }

    /// The paths that wait for a content.
    pub fn waiting_for(&self, content: ContentId) -> Vec<SyncPath> {
        let least = SyncPath::new([1]).expect("one byte is a path");
        let from = self.contents.range((content, least)..);
        from.take_while(|(other, _)| *other == content).map(|(_, path)| path.clone()).collect()
    }

    /// Lets go of what came along.
    pub fn drop_body(&mut self, path: &SyncPath) {
        if let Some(body) = self.by_path.get_mut(path).and_then(|want| want.received.body.take()) {
            self.window.body_bytes -= body.len() as u64;
        }
    }

    /// Gives back what a want holds of the windows while it is asked for or installed.
    pub fn release_small(&mut self, size: u64) {
        self.window.small_files = self.window.small_files.saturating_sub(1);
        self.window.small_bytes = self.window.small_bytes.saturating_sub(size);
    }
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Silences {
    pub(super) by_link: BTreeMap<LinkId, Silence>,
    /// Asked of silent peers, and in no window.
    pub(super) late: BTreeMap<(LinkId, u32), (SyncPath, ContentId)>,
    pub(super) parked_small: BTreeMap<LinkId, BTreeSet<SyncPath>>,
    pub(super) parked_large: BTreeMap<LinkId, BTreeSet<SyncPath>>,
}

impl Silences {
    /// Something is asked of a peer; `is_first`: it had nothing to do.
    pub fn asked(&mut self, now: u64, link: LinkId, is_first: bool) {
        let silence = self.by_link.entry(link).or_insert(Silence {
            since: now,
            patience_ns: SILENCE_PATIENCE_NS,
            is_silent: false,
        });
        if is_first {
            silence.since = now;
        }
    }

    pub(super) fn is_silent(&self, link: LinkId) -> bool {
        self.by_link.get(&link).is_some_and(|silence| silence.is_silent)
    }

    /// It sent something; whether that ends its silence.
    pub(super) fn ends_with(&mut self, now: u64, link: LinkId) -> bool {
        let Some(silence) = self.by_link.get_mut(&link) else { return false };
        let took = now.saturating_sub(std::mem::replace(&mut silence.since, now));
        if silence.is_silent {
            silence.patience_ns = (2 * took).clamp(silence.patience_ns, SILENCE_MOST_PATIENCE_NS);
        }
        std::mem::take(&mut silence.is_silent)
    }

    pub(super) fn park(&mut self, link: LinkId, path: &SyncPath, small: bool) {
        let parked = if small { &mut self.parked_small } else { &mut self.parked_large };
        parked.entry(link).or_default().insert(path.clone());
    }

    pub(super) fn late_of(&self, link: LinkId) -> Vec<u32> {
        self.late.range((link, 0)..=(link, u32::MAX)).map(|((_, id), _)| *id).collect()
    }
}

/// How a peer answers.
#[derive(Debug)]
pub(in crate::engine) struct Silence {
    /// When it was asked while it had nothing to do, or sent something last.
    pub(super) since: u64,
    pub(super) patience_ns: u64,
    pub(super) is_silent: bool,
}
