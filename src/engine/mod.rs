//! The engine: everything that decides *what should happen*, as a plain function of state and
//! event.
//!
//! `Engine::handle(now, Event)` reads and writes an [`Index`] and returns [`Action`]s. It holds no
//! tokio, no file system, no clock, no randomness and no map of random order, so that many engines
//! run in one deterministic simulation. The shell (`io/`, `daemon.rs`) feeds events and runs
//! actions and decides nothing.
//!
//! The contract with the shell:
//! - Events are handled one at a time. The index changes of one or more `handle` calls are
//!   committed durably **before** any of their actions runs (P5).
//! - Every `Inspect` is answered by one `Inspected`, every `Walk` by `Listed`s and one `Walked`,
//!   every `Install` by one `Installed`, every `Fetch` and `FetchDelta` by one `Fetched` or
//!   `FetchFailed` (none after `CancelFetch`), every `FetchAsked` by one `Serve` or `ServePartial`,
//!   every `DeltaAsked` by one `ServeDelta`, every `OpenPartial` by one `PartialOpened` or
//!   `FetchFailed`, every `FetchPart` by one `RangeEnded` (none after `CancelPart`), every
//!   `FinishPartial` by one `Fetched` or `FetchFailed`, every `CheckRoot` by one `Root`, every
//!   `ReadIgnore` by one `IgnoreRead` or `IgnoreUnread`, every `Merge` by one `Merged`, every
//!   `Scrub` by one `Scrubbed`, a `FindLoser` by one `LoserFound` at most, a `ListPast` by one
//!   `PastListed` at most, a `FindKept` by one `KeptFound`, a `LocateKept` by one `KeptLocated`. A
//!   `KeepBase` has no answer: the shell may forget it, and then there is no merge; nor have a
//!   `KeepSuspect` and a `DropKept`.
//! - `Engine::wake_at` says when the next `Tick` is due; after a group of events that is most often
//!   at once, for a `Tick` is what sends, asks and installs what the group brought about.
//!
//! May import `model` and `wire`. Deliberately not here: sockets, files, transfers' pieces, log
//! formatting.

pub mod api;
pub mod observe;
mod peers;
pub mod reconcile;
pub mod safety;
mod steady;
#[cfg(test)]
mod tests;
mod transfer;
mod wake;

pub use api::action::{Action, Job, JobId, Outcome, Pace, PriorContent, Report, RetainReason, ServedFile, Source};
pub use api::event::{
    Boot, Cause, Decision, Event, FetchError, FetchId, FoundLoser, Halt, Hint, LinkId, LocatedKept, Merge, Now,
    Observed, RangeId, RootState, Scrubbed, StageId, Stat, StatKind, Trouble, Verify, WalkId,
};
pub use api::status::{DeviceStatus, PeerStatus, Status, TransferStatus};
pub use api::why::{Holders, WaitsFor, Why};
pub use observe::alias::Names;
pub use observe::keeps::Keeps;
pub use peers::past::{AskPast, FetchPast, FoundPast, MachinePasts};
pub use peers::survey::{FileHeld, MachineTally, Tally};
pub use reconcile::conflict::{MERGE_BYTES, OnConflict, common_ancestor};
pub use safety::hold::{HeldByMachine, HeldPath, HeldPaths, HeldWhy};
pub use safety::scrub::{Run, Verification};
pub use safety::suspect::SuspectStatus;
pub use safety::undo::{Back, BackFrom, Undone};
pub use transfer::chunks::CHUNKED_BYTES;

use crate::model::{DeviceId, Entry, SyncPath};
use api::index::Index;
use observe::alias::Aliases;
use observe::arrivals::Arrivals;
use observe::ignore::Ignore;
use observe::rehash::RacyRehash;
use observe::scan::Scan;
use observe::settle::{Debounced, Debouncer};
use observe::torn::TornFiles;
use observe::walk::Walk;
use peers::condition::Standing;
use peers::costs::Costs;
use peers::delivery::Deliveries;
use peers::devices::Devices;
use peers::identity::{PeerCounters, Renewal};
use peers::past::Pasts;
use peers::session::Session;
use peers::survey::Survey;
use reconcile::conflict::Losers;
use reconcile::conflict::known::KnownConflicts;
use reconcile::derive::Orphans;
use reconcile::merge::ObservationSource;
use reconcile::moved::MovedContents;
use safety::confirm::Confirmations;
use safety::guard::Missing;
use safety::hold::Guard;
use safety::ledger::Ledger;
use safety::scrub::Scrub;
use safety::suspect::Suspects;
use safety::undo::{Order, Undoing};
use safety::unignored::NewlyUnignored;
use std::collections::{BTreeMap, BTreeSet};
use steady::Steady;
use transfer::chunks::Swarms;
use transfer::wants::Wants;

pub(in crate::engine) const SECOND: u64 = 1_000_000_000;
/// Everything is walked this often, whatever the watcher says.
const WALK_EVERY_NS: u64 = 3600 * SECOND;
/// The root is looked at this often.
const ROOT_EVERY_NS: u64 = 5 * SECOND;
/// Deletions count in digests for this long (30 days).
const TOMBSTONE_NS: u64 = 30 * 24 * 3600 * SECOND;
const DAY_NS: u64 = 24 * 3600 * SECOND;

const META_COUNTER: &str = "counter";
/// When this machine last took a new id because of its counters (ns since 1970).
const META_RENEWED_AT: &str = "renewed_at";
const META_LATEST_DAY: &str = "latest_day";
const META_SCANNED: &str = "scanned";
/// The folder counts as restored until it was scanned.
const META_RESTORED: &str = "restored";
const META_RACY_SINCE: &str = "racy_since";
const META_SCRUB: &str = "scrub";
const META_SUSPECTS: &str = "suspects";

/// What the engine is told at its making.
#[derive(Debug, Clone)]
pub struct Config {
    pub device: DeviceId,
    /// This machine's name, for the log.
    pub name: String,
    pub on_conflict: OnConflict,
}

/// How far the folder can be believed to be the one that the index speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Its marker is the index's, or both are new.
    Known,
    /// Its marker is another: it came back from a snapshot or a backup. What is found there counts
    /// as by a first scan, and nothing missing counts as deleted (P8).
    Restored,
}

/// A look under way: how it came about.
#[derive(Debug, Clone, Copy)]
struct Inspection {
    found: ObservationSource,
    debounced: Option<Debounced>,
    rehash: bool,
    /// The path, or something in it, was seen since the look was asked for: if it finds nothing,
    /// that may be older news.
    seen_since: bool,
    /// Asked for by no hint and no walk, before the first walk of this run has ended.
    early: bool,
    /// When it was asked for (ns since 1970): what was seen is no older.
    asked: u64,
}

impl Inspection {
    fn of(found: ObservationSource) -> Self {
        Self { found, debounced: None, rehash: false, seen_since: false, early: false, asked: 0 }
    }
}

/// What could not be looked at, or a folder that could not be looked into: how it was come by, and
/// how often it was tried.
#[derive(Debug, Clone, Copy)]
struct Unseen {
    found: ObservationSource,
    tries: u32,
}

/// The engine: see the top of this file.
pub struct Engine<I> {
    config: Config,
    index: I,
    out: Vec<Action>,
    /// The last counter used in a version of our own.
    counter: u64,
    /// The highest counter that the index says may be in use, now and at the start.
    reserved: u64,
    counter_at_start: u64,
    peer_counters: PeerCounters,
    renewal: Renewal,
    ignore: Ignore,
    names: BTreeMap<DeviceId, String>,
    devices: Devices,

    // What is seen here.
    settle: Debouncer,
    inspections: BTreeMap<SyncPath, Inspection>,
    /// To be looked at when the look or install under way is over.
    postponed: BTreeMap<SyncPath, Hint>,
    /// Seen empty once where there was something.
    emptied: BTreeSet<SyncPath>,
    /// Installed here: their echo is still to come.
    new_folders: BTreeSet<SyncPath>,
    arrivals: Arrivals,
    racy: RacyRehash,
    /// An install may have been cut off here, by a crash or half way by an error: the disk may hold
    /// what the index does not say. Looked at before anything is installed here (P5).
    interrupted_installs: BTreeSet<SyncPath>,
    walks: BTreeMap<WalkId, Walk>,
    /// Something was missed while a whole walk was under way: another one follows it.
    walk_again: bool,
    last_walk: u64,
    next_walk: u64,
    scan: Scan,
    left_alone: BTreeMap<SyncPath, &'static str>,
    problems: BTreeMap<SyncPath, String>,
    /// Folders that were deleted elsewhere and stay for what patterns cover in them, and why; no
    /// word of those above them.
    kept_folders: BTreeMap<SyncPath, Option<String>>,
    /// What the last whole walk came by that patterns cover.
    ignored: u64,
    /// Folders with a name in them that is too long: when it was seen last (by `Now::mono`), and
    /// what is said.
    too_long: BTreeMap<SyncPath, (u64, String)>,
    unseen: BTreeMap<SyncPath, Unseen>,
    keeps: Keeps,
    aliases: Aliases,
    /// Where the disk keeps no modes.
    folders_by_inode: BTreeMap<u64, SyncPath>,

    // What is not believed at once.
    missing: Missing,
    /// Walks whose listing is complete, until the root is known to be in order.
    concluding: Vec<WalkId>,
    held: BTreeSet<SyncPath>,
    guards: Guard,
    confirmations: Confirmations,
    ledger: Ledger,
    unignored: NewlyUnignored,
    /// Changes dated too far ahead: held until a person confirms these very ones.
    future: BTreeMap<SyncPath, Entry>,
    redating: Option<safety::redate::Redating>,
    halted: Option<Halt>,
    standing: Standing,
    /// The last run ended with a power cut.
    cut: Option<observe::torn::Cut>,
    paused: bool,
    next_root_check: u64,
    /// The day (ns since 1970) of the greatest stamp of any winner: every machine with the same
    /// tree has the same one, whatever its clock says.
    latest_day: u64,

    // What is heard and told.
    sessions: BTreeMap<LinkId, Session>,
    outgoing: Vec<peers::live::OutgoingChange>,
    /// Since when peers have not been told of a changed state.
    state_changed_at: Option<u64>,
    compared_until: u64,
    orphans: Orphans,
    costs: Costs,
    /// Whose message is being handled: it pays for what that costs.
    payer: Option<DeviceId>,
    wants: Wants,
    deliveries: Deliveries,
    swarms: Swarms,
    /// When the last event came.
    last_event: Now,
    steady: Steady,
    /// How what is being taken in was found here, if it was.
    finding: Option<ObservationSource>,
    attention: observe::attention::Attention,
    losers: Losers,
    known_conflicts: KnownConflicts,
    moved: MovedContents,
    past: Pasts,
    undoing: Undoing,

    // What is hashed again.
    scrub: Scrub,
    suspects: Suspects,
    torn: TornFiles,
    survey: Survey,
    /// Folders that the last checks found in order, so that their next child need not ask again.
    good_parent: Option<SyncPath>,
    living_parent: Option<SyncPath>,
}

impl<I: Index> Engine<I> {
    pub fn new(config: Config, index: I) -> Self {
        let counter = index.meta(META_COUNTER).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let latest_day =
            index.meta(META_LATEST_DAY).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let finds =
            if index.meta(META_SCANNED).is_some() { ObservationSource::Walked } else { ObservationSource::First };
        let (scrub, suspects, rests) = (Scrub::load(&index), Suspects::load(&index), TornFiles::load(&index));
        let (peer_counters, devices) = (PeerCounters::load(&index), Devices::load(&index));
        let confirmations = Confirmations::load(&index);
        Self {
            config,
            index,
            out: Vec::new(),
            counter,
            reserved: counter,
            counter_at_start: counter,
            peer_counters,
            renewal: Renewal::May,
            ignore: Ignore::default(),
            names: BTreeMap::new(),
            devices,
            settle: Debouncer::default(),
            inspections: BTreeMap::new(),
            postponed: BTreeMap::new(),
            emptied: BTreeSet::new(),
            new_folders: BTreeSet::new(),
            arrivals: Arrivals::default(),
            racy: RacyRehash::default(),
            interrupted_installs: BTreeSet::new(),
            walks: BTreeMap::new(),
            walk_again: false,
            last_walk: 0,
            next_walk: 0,
            scan: Scan::new(finds),
            left_alone: BTreeMap::new(),
            problems: BTreeMap::new(),
            kept_folders: BTreeMap::new(),
            ignored: 0,
            too_long: BTreeMap::new(),
            unseen: BTreeMap::new(),
            keeps: Keeps::default(),
            aliases: Aliases::default(),
            folders_by_inode: BTreeMap::new(),
            missing: Missing::default(),
            concluding: Vec::new(),
            held: BTreeSet::new(),
            guards: Guard::default(),
            confirmations,
            ledger: Ledger::default(),
            unignored: NewlyUnignored::default(),
            future: BTreeMap::new(),
            redating: None,
            halted: None,
            standing: Standing::default(),
            cut: None,
            paused: false,
            next_root_check: 0,
            latest_day,
            sessions: BTreeMap::new(),
            outgoing: Vec::new(),
            state_changed_at: None,
            compared_until: 0,
            orphans: Orphans::default(),
            costs: Costs::default(),
            payer: None,
            wants: Wants::default(),
            deliveries: Deliveries::default(),
            swarms: Swarms::default(),
            last_event: Now { wall: 0, mono: 0 },
            steady: Steady::default(),
            finding: None,
            attention: observe::attention::Attention::default(),
            losers: Losers::default(),
            known_conflicts: KnownConflicts::default(),
            moved: MovedContents::default(),
            past: Pasts::default(),
            undoing: Undoing::default(),
            scrub,
            suspects,
            torn: rests,
            survey: Survey::default(),
            good_parent: None,
            living_parent: None,
        }
    }

    /// Before the start: nothing is held for being too much; what would be counts as confirmed.
    pub fn allow_mass_delete(&mut self) {
        self.guards.allow = true;
    }

    /// Before the start: this is a new device already, and takes no other id until it is started
    /// again.
    pub fn was_renewed(&mut self) {
        self.renewal = Renewal::Done;
    }

    /// The first call, once: reads the ignore file, after which the first walk begins. A root that
    /// is known to be the wrong one is not read.
    pub fn start(&mut self, now: Now, trust: Trust) -> Vec<Action> {
        let was_restoring = self.index.meta(META_RESTORED).is_some_and(|set| !set.is_empty());
        if trust == Trust::Restored || was_restoring {
            self.scan = Scan::new(ObservationSource::Restored);
        }
        self.last_event = now;
        self.next_root_check = now.mono;
        self.next_walk = u64::MAX;
        self.steady = Steady::start(&self.index, now);
        self.load_ledger(now);
        self.load_costs(now);
        self.load_undo(now);
        self.begin_days(now);
        let today = self.today(now);
        self.devices.start(now, today);
        self.index.set_today(today);
        self.index.set_horizon(self.latest_day.saturating_sub(TOMBSTONE_NS));
        // Until the file is read: what was covered still is.
        self.ignore = self.believed_patterns();
        self.want_unsettled(now);
        self.interrupted_installs = self.wants.by_path.keys().cloned().collect();
        self.load_racy(now);
        self.load_merging(trust);
        self.load_sought();
        self.begin_scrub(now);
        self.check_own_counter();
        if !self.is_stopped() {
            self.read_patterns();
        }
        std::mem::take(&mut self.out)
    }

    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        if self.renewal == Renewal::Ending {
            return Vec::new();
        }
        self.attention.event(std::mem::replace(&mut self.last_event, now), now);
        match event {
            Event::Tick => self.tick(now),
            Event::Hint { path, hint } => self.hinted(now, path, hint),
            Event::Overflow => {
                self.may_have_missed();
                self.walk_all(now);
            }
            Event::Inspected { path, observed } => self.inspected(now, &path, observed),
            Event::Listed { walk, found } => self.listed(now, walk, found),
            Event::TooLong { folder, name, is_gone } => self.too_long(now, folder, &name, is_gone),
            Event::Walked { walk, unread } => self.walked(now, walk, unread),
            Event::Root(state) => self.root_seen(now, state),
            Event::Keeps(keeps) => self.set_keeps(keeps),
            Event::IgnoreRead(text) => self.ignore_read(now, text.as_deref()),
            Event::IgnoreUnread(why) => self.ignore_unread(now, &why),
            Event::LinkUp { link, device, name, dialler, features } => {
                self.link_up(now, link, device, name, dialler, features);
            }
            Event::LinkDown { link } => self.link_down(link),
            Event::Message { link, message, wire_bytes } => self.message(now, link, message, wire_bytes),
            Event::Fetched { fetch, staged, wire_bytes } => self.content_came(now, fetch, staged, wire_bytes),
            Event::FetchFailed { fetch, why } => self.content_failed(now, fetch, why),
            Event::AskHolds { ticket } => self.ask_holds(now, ticket),
            Event::AskPast(ask) => self.ask_past(now, ask),
            Event::FetchPast(wanted) => self.fetch_past(now, wanted),
            Event::PastListed { link, id, found } => self.past_listed(link, id, found),
            Event::PartialOpened { fetch, here, listed } => self.partial_opened(now, fetch, &here, listed),
            Event::ChunkCame { range, chunk, wire_bytes } => self.chunk_came(now, range, chunk, wire_bytes),
            Event::ListCame { range, bad } => self.list_came(range, &bad),
            Event::RangeEnded { range, how, wire_bytes } => self.range_ended(now, range, how, wire_bytes),
            Event::FetchAsked { link, stream, path, content, size } => match self.locate(&path, content, size) {
                Some(file) => {
                    self.racy.serve(now.mono);
                    self.note_served(link, &file.path, content);
                    self.act(Action::Serve { to: link, stream, file: Some(file) });
                }
                None => self.serve_otherwise(link, stream, &path, content, size),
            },
            Event::DeltaAsked { link, stream, path, content, size, base, base_size } => {
                let file = self.locate(&path, content, size);
                self.act(Action::ServeDelta { to: link, stream, file, base, base_size });
            }
            Event::Installed { job, outcome } => self.installed(now, job, outcome),
            Event::Merged { path, kept, merge } => self.merged(now, &path, &kept, merge),
            Event::LoserFound(found) => self.loser_found(*found),
            Event::WrittenLate { path, stat, kind, kept } => self.written_late(&path, &stat, kind, kept),
            Event::Scrubbed { path, stat, outcome } => self.scrubbed(now, &path, &stat, outcome),
            Event::Verify(wanted) => self.verify(now, wanted),
            Event::StopVerifying => self.stop_verifying(),
            Event::Decide { path, decision } => self.decide(&path, decision),
            Event::Settle { path, last, how } => self.settle_conflicts(now, &path, last, &how),
            Event::Confirm => self.confirm(now),
            Event::Undo { ticket, dry_run } => self.order_undo(now, Order::Person { ticket, dry_run }),
            Event::KeptFound(found) => self.kept_found(found),
            Event::KeptLocated(found) => self.located_in_history(now, found),
            Event::Pause(paused) => self.pause(now, paused),
            Event::Forget(device) => self.forget_device(now, device),
            Event::Clock { link, ahead_ns } => self.clock_seen(now, link, ahead_ns),
            Event::Twin { ours, theirs } => self.twin_met(ours, theirs),
        }
        self.note_standing(now);
        std::mem::take(&mut self.out)
    }

    /// What is due by time, and what the events before it brought about.
    fn tick(&mut self, now: Now) {
        if now.mono >= self.next_root_check {
            self.next_root_check = now.mono + ROOT_EVERY_NS;
            self.act(Action::CheckRoot);
        }
        self.reread_patterns(now);
        if !self.is_stopped() {
            self.tick_local(now);
        }
        self.pump_wants(now);
        self.pump_chunks(now);
        self.derive_due(now);
        self.purge_due(now);
        self.survey_due(now);
        self.moved_due(now);
        self.past_due(now);
        self.undo_due(now);
        self.redate_due(now);
        self.store_devices();
        self.store_suspects();
        self.store_merging(now);
        self.store_peer_counters(now);
        self.store_costs(now);
        self.store_steady(now);
        self.store_held(now);
        // Before the changes that they speak of.
        self.announce_confirmed_due(now);
        self.send_changes(now);
        self.follow_deliveries(now);
        self.send_conflicts();
        self.announce_states_due(now);
    }

    fn tick_local(&mut self, now: Now) {
        if now.mono >= self.next_walk {
            self.walk_all(now);
        }
        for (path, peer_counters) in self.settle.take_due(now.mono) {
            self.inspect_hinted(&path, peer_counters);
        }
        for folder in self.arrivals.take_due(now.mono, self.arrivals_are_due()) {
            self.walk(now, Some(folder), self.live());
        }
        self.rehash_due(now);
        self.scrub_due(now);
        self.judge_reverts(now);
        self.review_held(now);
        if self.missing.due().is_some_and(|due| due <= now.mono) {
            self.missing.check_begins();
            self.act(Action::CheckRoot);
        }
    }

    /// Nothing more is on its way, or what has gone missing may have been moved into a folder that
    /// just came.
    fn arrivals_are_due(&self) -> bool {
        self.wants.by_path.is_empty() || !self.missing.is_empty()
    }

    /// Neither looking nor installing: paused by a person, the root is not to be trusted, or it is
    /// not known what is covered in it.
    fn is_stopped(&self) -> bool {
        self.paused || self.halted.is_some() || self.unignored.awaits_patterns()
    }

    /// Whether this run has walked the whole folder, the right one, and walks no more.
    pub fn has_scanned_all(&self) -> bool {
        self.halted.is_none() && self.scan.is_walked() && self.walks.is_empty()
    }

    fn root_seen(&mut self, now: Now, state: RootState) {
        match state {
            RootState::Wrong(why) => {
                self.missing.forget();
                for walk in std::mem::take(&mut self.concluding) {
                    self.walks.remove(&walk);
                }
                self.may_have_missed();
                if self.halted.as_ref() != Some(&why) {
                    self.halted = Some(why.clone());
                    self.out.push(Action::Report(Report::Halted { why: why.text }));
                }
            }
            RootState::Fine => {
                if self.halted.take().is_some() {
                    self.out.push(Action::Report(Report::Resumed));
                    // Its patterns may be others by now, or were never read: the walk follows.
                    self.read_patterns();
                }
                self.conclude_missing(now);
                self.conclude_walks(now);
            }
        }
    }

    fn ignore_read(&mut self, now: Now, text: Option<&[u8]>) {
        self.unignored.is_reading = false;
        if self.halted.is_some() {
            return; // of the wrong root, maybe; the right one's is read when it is back
        }
        let (ignore, bad) = text.map(Ignore::parse).unwrap_or_default();
        self.ignore = ignore;
        self.patterns_are_read();
        for (line, why) in bad {
            let text = format!(".dirsyncignore, line {line}: {}", crate::model::text::escape(why.as_bytes()));
            self.out.push(Action::Report(Report::Problem { path: None, text }));
        }
        self.patterns_came(text.unwrap_or_default());
        self.wake_rehashes(now);
        self.scan.forget(|path| self.ignore.ignores(path, false));
        self.want_unsettled(now);
        self.walk_all(now);
    }

    /// It is there and gives no patterns. Those in force stay so, and before any were, everything
    /// waits: what its user may want covered is neither told nor replaced because of an error.
    fn ignore_unread(&mut self, now: Now, why: &str) {
        self.unignored.is_reading = false;
        if self.halted.is_some() {
            return;
        }
        self.patterns_are_unread(now, why);
        if !self.scan.is_walked() && !self.walks.values().any(Walk::is_whole) {
            self.walk_all(now);
        }
    }

    /// The patterns in force, for the walker.
    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    fn pause(&mut self, now: Now, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) == paused {
            return;
        }
        self.may_have_missed();
        self.out.push(Action::Report(Report::Paused { paused }));
        if !paused {
            self.walk_all(now);
            self.retry_all();
        }
    }

    fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    fn state_changed(&mut self, now: Now) {
        self.state_changed_at = Some(now.mono);
    }

    /// Contents that came and wait to be installed (bytes): whoever brings more should wait.
    pub fn installing_bytes(&self) -> u64 {
        self.wants.installing_bytes
    }

    pub fn index(&self) -> &I {
        &self.index
    }

    pub fn index_mut(&mut self) -> &mut I {
        &mut self.index
    }

    /// The end: the index, to be closed.
    pub fn into_index(self) -> I {
        self.index
    }
}
