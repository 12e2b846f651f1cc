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
mod core;
pub mod limits;
pub mod merge;
pub mod observe;
mod overview;
mod path_state;
mod peers;
pub mod preview;
pub mod reconcile;
pub mod row_cost;
mod rows;
pub mod safety;
mod steady;
#[cfg(test)]
mod tests;
mod transfer;
mod wake;

pub use api::action::{Action, Job, Pace, PriorContent, Report, RetainReason, ServedFile, Source, SyncPhase};
pub use api::event::{
    AskPast, Boot, Cause, Decision, Event, FetchError, FetchId, FetchPast, FoundLoser, FoundPast, FreshSecret, Halt,
    Hint, JobId, LinkId, LocatedKept, Merge, Now, Observed, Outcome, RangeId, RootState, Scrubbed, StageId, Stat,
    StatKind, Trouble, Verify, WalkId,
};
pub use api::file_system::{Keeps, Names};
pub use api::group::{GroupState, META_MEMBERSHIP, NotHanded};
pub use api::local::{DifferingPaths, LocalChange, LocalKind};
pub use api::problem::{Problem, RenewalCause, SuspectCause};
pub use api::status::{
    DeviceStatus, FileHeld, HeldPath, HeldPaths, HeldWhy, MachineTally, NeededPage, PeerStatus, Status, Tally,
    TransferStatus,
};
pub use api::why::{Holders, WaitsFor, Why};
pub use limits::{CHUNKED_BYTES, MERGE_BYTES};
pub use peers::devices::known_machines;
pub use peers::holding::HeldByMachine;
pub use peers::past::MachinePasts;
pub use reconcile::conflict::{OnConflict, common_ancestor};
pub use safety::scrub::{Run, Verification};
pub use safety::suspect::SuspectStatus;
pub use safety::undo::{Back, BackFrom, Undone};
pub use safety::unignored::META_BELIEVED;

use crate::model::{DeviceId, SyncRole};
use api::ignore::Ignore;
use api::index::Index;
use core::Core;
use limits::{ROOT_EVERY_NS, TOMBSTONE_NS};
use observe::{Inspection, Observe, Unseen};
use peers::Peers;
use peers::session::Session;
use reconcile::Reconcile;
use safety::Safety;
use safety::undo::Order;
use steady::Steady;
use transfer::Transfer;

const META_COUNTER: &str = "counter";
/// What this machine does with changes, in a word.
pub const META_ROLE: &str = "role";
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

/// The engine: see the top of this file. Each room owns a part of what it knows.
pub struct Engine<I> {
    core: Core<I>,
    observe: Observe,
    reconcile: Reconcile,
    peers: Peers,
    transfer: Transfer,
    safety: Safety,
}

impl<I: Index> Engine<I> {
    pub fn new(config: Config, index: I) -> Self {
        Self {
            observe: Observe::load(&index),
            reconcile: Reconcile::load(&index),
            peers: Peers::load(&index),
            transfer: Transfer::default(),
            safety: Safety::load(&index),
            core: Core::load(config, index),
        }
    }

    /// Before the start: nothing is held for being too much; what would be counts as confirmed.
    pub fn allow_mass_delete(&mut self) {
        self.safety.allow_mass_delete();
    }

    /// Before the start: this is a new device already, and takes no other id until it is started
    /// again.
    pub fn was_renewed(&mut self) {
        self.peers.was_renewed();
    }

    /// Before the start: this machine is a read-only member. It announces nothing, since nobody
    /// would take it, and makes no version: no derived folder, no copy beside a winner, no merge.
    pub fn read_only(&mut self) {
        self.peers.read_only();
        self.core.config.on_conflict = OnConflict::Newest;
        self.core.set_role(SyncRole::ReceiveOnly);
    }

    /// Before the start: this is its role, whatever was kept.
    pub fn begin_as(&mut self, role: SyncRole) {
        self.core.set_role(role);
    }

    /// The first call, once: reads the ignore file, after which the first walk begins. A root that
    /// is known to be the wrong one is not read.
    pub fn start(&mut self, now: Now, trust: Trust) -> Vec<Action> {
        let was_restoring = self.core.index.meta(META_RESTORED).is_some_and(|set| !set.is_empty());
        if trust == Trust::Restored || was_restoring {
            self.observe.begin_restored();
        }
        self.core.last_event = now;
        self.core.next_root_check = now.mono;
        self.observe.wait_for_patterns();
        self.core.steady = Steady::start(&self.core.index, now);
        self.safety.load_ledger(&self.core, now);
        self.peers.load_costs(&self.core, now);
        self.safety.load_undo(&mut self.core, now);
        self.peers.list_self(&self.core, now);
        self.core.begin_days(now);
        let today = self.core.today(now);
        self.peers.start_days(now, today);
        self.core.index.set_today(today);
        self.core.index.set_horizon(self.core.latest_day.saturating_sub(TOMBSTONE_NS));
        // Until the file is read: what was covered still is.
        self.observe.set_patterns(self.core.believed_patterns());
        self.want_unsettled(now);
        self.transfer.doubt_all();
        self.observe.load_racy(&mut self.core, now);
        self.reconcile.load_merging(&self.core, trust);
        self.reconcile.load_sought(&mut self.core);
        self.reconcile.load_local(&self.core);
        self.begin_scrub(now);
        self.check_own_counter();
        if !self.is_stopped() {
            self.safety.read_patterns(&mut self.core);
        }
        std::mem::take(&mut self.core.out)
    }

    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        if self.peers.is_ending() {
            return Vec::new();
        }
        self.observe.note_event(std::mem::replace(&mut self.core.last_event, now), now);
        match event {
            Event::Tick => self.tick(now),
            Event::Hint { path, hint } => self.hinted(now, path, hint),
            Event::Overflow => {
                self.peers.may_have_missed();
                self.walk_all(now);
            }
            Event::Inspected { path, observed } => self.inspected(now, &path, observed),
            Event::Listed { walk, found } => self.listed(now, walk, found),
            Event::TooLong { folder, name, is_gone } => {
                self.observe.too_long(&mut self.core, now, folder, &name, is_gone);
            }
            Event::Walked { walk, unread } => self.walked(now, walk, unread),
            Event::Root(state) => self.root_seen(now, state),
            Event::Keeps(keeps) => self.set_keeps(keeps),
            Event::IgnoreRead(text) => self.ignore_read(now, text.as_deref()),
            Event::IgnoreUnread(why) => self.ignore_unread(now, &why),
            Event::LinkUp { link, device, name, dialler, features, capability } => {
                self.peers.note_capability(link, capability);
                self.link_up(now, link, device, name, dialler, features);
            }
            Event::LinkDown { link } => self.link_down(link),
            Event::Message { link, message, wire_bytes } => self.message(now, link, message, wire_bytes),
            Event::Fetched { fetch, staged, wire_bytes } => self.content_came(now, fetch, staged, wire_bytes),
            Event::FetchFailed { fetch, why } => self.content_failed(now, fetch, why),
            Event::AskHolds { ticket, pending } => self.peers.ask_holds(&mut self.core, now, ticket, pending),
            Event::AskPast(ask) => self.peers.ask_past(&mut self.core, now, ask),
            Event::FetchPast(wanted) => self.fetch_past(now, wanted),
            Event::PastListed { link, id, found } => self.past_listed(link, id, found),
            Event::PartialOpened { fetch, here, listed } => self.transfer.partial_opened(now, fetch, &here, listed),
            Event::ChunkCame { range, chunk, wire_bytes } => self.transfer.chunk_came(now, range, chunk, wire_bytes),
            Event::ListCame { range, bad } => self.list_came(range, &bad),
            Event::RangeEnded { range, how, wire_bytes } => self.range_ended(now, range, how, wire_bytes),
            Event::FetchAsked { link, .. } | Event::DeltaAsked { link, .. } if self.peers.is_previewer(link) => {
                self.core.close(link, "it only looks, and asked for a content");
            }
            Event::FetchAsked { link, stream, path, content, size } => match self.locate(&path, content, size) {
                Some(file) => {
                    self.observe.note_serving(now);
                    self.safety.note_served(link, &file.path, content);
                    self.core.act(Action::Serve { to: link, stream, file: Some(file) });
                }
                None => self.serve_otherwise(link, stream, &path, content, size),
            },
            Event::DeltaAsked { link, stream, path, content, size, base, base_size } => {
                let file = self.locate(&path, content, size);
                self.core.act(Action::ServeDelta { to: link, stream, file, base, base_size });
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
            Event::KeptFound(found) => self.transfer.kept_found(found),
            Event::KeptLocated(found) => self.located_in_history(now, found),
            Event::Pause(paused) => self.pause(now, paused),
            Event::Scan(below) => self.scan(now, below),
            Event::Role(role) => self.set_role(now, role),
            Event::Promote(paths) => self.promote(now, &paths),
            Event::Revert(paths) => self.revert(now, &paths),
            Event::Override(paths) => self.override_winners(now, &paths),
            Event::Invited { device, name, capability } => {
                self.peers.invited(&self.core, now, (device, name), capability);
            }
            Event::Succeeded { former, device } => self.peers.succeeded(former, device),
            Event::Rotate { remove, fresh } => self.rotate(now, remove, fresh.0),
            Event::HandedOver { from, capability, given } => {
                if capability.writes() {
                    self.handed_over(now, from, &given);
                }
            }
            Event::Leave => self.peers.say_goodbye(&mut self.core),
            Event::Clock { link, ahead_ns } => self.peers.clock_seen(&mut self.core, now, link, ahead_ns),
            Event::Twin { ours, theirs } => self.twin_met(ours, theirs),
        }
        self.note_standing(now);
        std::mem::take(&mut self.core.out)
    }

    /// What is due by time, and what the events before it brought about.
    fn tick(&mut self, now: Now) {
        if now.mono >= self.core.next_root_check {
            self.core.next_root_check = now.mono + ROOT_EVERY_NS;
            self.core.act(Action::CheckRoot);
        }
        self.safety.reread_patterns(&mut self.core, now);
        if !self.is_stopped() {
            self.tick_local(now);
        }
        self.pump_wants(now);
        self.pump_chunks(now);
        self.derive_due(now);
        self.announce_local_due(now);
        self.purge_due(now);
        self.survey_due(now);
        self.moved_due(now);
        self.peers.past_due(&mut self.core, now);
        self.undo_due(now);
        self.redate_due(now);
        self.peers.store_devices(&mut self.core);
        self.peers.store_members(&mut self.core);
        self.safety.store_suspects(&mut self.core);
        self.reconcile.store_merging(&mut self.core, now);
        self.peers.store_peer_counters(&mut self.core, now);
        self.peers.store_costs(&mut self.core, now);
        self.core.store_steady(now);
        self.safety.store_held(&mut self.core, now);
        // Before the changes that they speak of.
        self.peers.send_members(&mut self.core);
        self.announce_confirmed_due(now);
        self.peers.send_changes(&mut self.core, now);
        self.peers.follow_deliveries(&mut self.core, now);
        self.send_conflicts();
        self.announce_states_due(now);
        self.report_phases_due(now);
    }

    fn tick_local(&mut self, now: Now) {
        if self.observe.walk_is_due(now) {
            self.walk_all(now);
        }
        for (path, debounced) in self.observe.take_settled(now) {
            self.inspect_hinted(&path, debounced);
        }
        for folder in self.observe.take_arrived(now, self.arrivals_are_due()) {
            self.observe.walk(&mut self.core, now, Some(folder), self.observe.live());
        }
        self.rehash_due(now);
        self.scrub_due(now);
        self.judge_reverts(now);
        self.review_held(now);
        if self.safety.begin_missing_check(now) {
            self.core.act(Action::CheckRoot);
        }
    }

    /// Nothing more is on its way, or what has gone missing may have been moved into a folder that
    /// just came.
    fn arrivals_are_due(&self) -> bool {
        !self.transfer.has_wants() || self.safety.has_missing()
    }

    /// Neither looking nor installing: paused by a person, the root is not to be trusted, or it is
    /// not known what is covered in it.
    fn is_stopped(&self) -> bool {
        self.core.paused || self.core.halted.is_some() || self.safety.awaits_patterns()
    }

    /// Whether this run has walked the whole folder, the right one, and walks no more.
    pub fn has_scanned_all(&self) -> bool {
        self.core.halted.is_none() && self.observe.has_walked() && !self.observe.is_walking()
    }

    fn root_seen(&mut self, now: Now, state: RootState) {
        match state {
            RootState::Wrong(why) => {
                self.safety.forget_missing();
                self.observe.drop_concluding_walks();
                self.peers.may_have_missed();
                if self.core.halted.as_ref() != Some(&why) {
                    self.core.halted = Some(why.clone());
                    self.core.out.push(Action::Report(Report::Halted { why: why.text }));
                }
            }
            RootState::Fine => {
                if self.core.halted.take().is_some() {
                    self.core.out.push(Action::Report(Report::Resumed));
                    // Its patterns may be others by now, or were never read: the walk follows.
                    self.safety.read_patterns(&mut self.core);
                }
                self.conclude_missing(now);
                self.conclude_walks(now);
            }
        }
    }

    fn ignore_read(&mut self, now: Now, text: Option<&[u8]>) {
        self.safety.note_patterns_read();
        if self.core.halted.is_some() {
            return; // of the wrong root, maybe; the right one's is read when it is back
        }
        let (ignore, bad) = text.map(Ignore::parse).unwrap_or_default();
        self.observe.set_patterns(ignore);
        self.safety.patterns_are_read(&mut self.core);
        for (line, why) in bad {
            self.core.act(Action::Report(Report::Problem { path: None, problem: Problem::BadPattern { line, why } }));
        }
        self.patterns_came(text.unwrap_or_default());
        self.observe.wake_rehashes(now);
        self.observe.forget_ignored();
        self.want_unsettled(now);
        self.walk_all(now);
    }

    /// It is there and gives no patterns. Those in force stay so, and before any were, everything
    /// waits: what its user may want covered is neither told nor replaced because of an error.
    fn ignore_unread(&mut self, now: Now, why: &str) {
        self.safety.note_patterns_read();
        if self.core.halted.is_some() {
            return;
        }
        self.safety.patterns_are_unread(&mut self.core, now, why);
        if !self.observe.has_walked() && !self.observe.is_walking_all() {
            self.walk_all(now);
        }
    }

    /// The patterns in force, for the walker.
    pub fn ignore(&self) -> &Ignore {
        self.observe.patterns()
    }

    fn pause(&mut self, now: Now, paused: bool) {
        if std::mem::replace(&mut self.core.paused, paused) == paused {
            return;
        }
        self.peers.may_have_missed();
        self.core.out.push(Action::Report(Report::Paused { paused }));
        if !paused {
            self.walk_all(now);
            self.transfer.retry_all();
        }
    }

    fn state_changed(&mut self, now: Now) {
        self.peers.note_state_changed(now);
    }

    /// Contents that came and wait to be installed (bytes): whoever brings more should wait.
    pub fn installing_bytes(&self) -> u64 {
        self.transfer.installing_bytes()
    }

    /// Whether it is on the list of machines.
    pub fn lists(&self, device: &DeviceId) -> bool {
        self.peers.group().member(device).is_some()
    }

    pub fn index(&self) -> &I {
        &self.core.index
    }

    pub fn index_mut(&mut self) -> &mut I {
        &mut self.core.index
    }

    /// The end: the index, to be closed.
    pub fn into_index(self) -> I {
        self.core.index
    }
}
