//! One machine: its engine, its disk, its clock, and what is under way between the two.

use super::bugs::Bug;
use super::disk::Disk;
use super::membership::Standing;
use super::merging::Base;
use super::parts::Partial;
use super::plan::SECOND;
use super::recorded::{Durable, Recorded};
use super::shell::Step;
use super::tree::{Data, Ino, Tree};
use dirsyncd::engine::api::ignore::Ignore;
use dirsyncd::engine::{
    Boot, Config, Engine, Event, FetchId, GroupState, Hint, Job, Keeps, LinkId, Names, Now, OnConflict, Outcome,
    RangeId, ServedFile, StageId,
};
use dirsyncd::model::{ContentId, DeviceId, FileTime, SyncPath, SyncRole};
use dirsyncd::wire::packet::Part;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// 2026-01-01, by a right clock.
const EPOCH_NS: u64 = 1_767_225_600 * SECOND;

#[expect(clippy::struct_excessive_bools, reason = "each is its own fact")]
pub struct Node {
    pub device: DeviceId,
    pub on_conflict: OnConflict,
    /// What the oracles take it to be, and what it is told at a start while its index says nothing.
    pub role: SyncRole,
    pub first_role: Option<SyncRole>,
    /// It is a read-only member.
    pub reads_only: bool,
    pub standing: Standing,
    pub disk: Disk,
    /// Off while it is down.
    pub engine: Option<Engine<Recorded>>,
    pub durable: Durable,
    /// Counts starts and crashes: what was begun in an earlier life is void.
    pub life: u32,
    pub skew_ns: i64,
    /// Its clock was years ahead, or another's: versions are made anew for that.
    pub redates: bool,
    /// File times move on in steps of this (ns).
    tick_ns: u64,
    started: u64,
    /// Power cuts so far, and whether boots count as later than every write.
    pub boots: u128,
    pub late_boots: bool,
    /// The patterns that were read last, by whichever run; those that the walker goes by; those
    /// that were read first.
    pub in_force: Ignore,
    pub ignored: Ignore,
    pub first_patterns: Option<Vec<u8>>,
    pub was_walked: bool,
    /// When the index was last committed, by this machine's clock (ns since 1970).
    pub last_commit: u64,
    /// It boots until then.
    pub dark_until: u64,
    /// Its daemon is stopped until then.
    pub asleep_until: u64,

    pub inbox: VecDeque<Event>,
    /// A turn is due, or its commit is.
    pub busy: bool,
    pub tick_due: Option<u64>,
    /// Folders watched, by inode.
    pub watched: BTreeSet<Ino>,
    /// Seen by the watcher, not yet told.
    pub hints: VecDeque<(SyncPath, Hint)>,
    pub jobs: VecDeque<Job>,
    /// Of the batch being installed: how many jobs it may still take, and how those before ended.
    pub batch_left: usize,
    pub ended: Vec<(Job, Outcome)>,
    pub installing: bool,
    pub staging: BTreeMap<StageId, Data>,
    pub next_stage: u64,
    pub fetches: BTreeMap<FetchId, LinkId>,
    /// What deltas were asked for upon.
    pub bases: BTreeMap<FetchId, ServedFile>,
    /// Parts of contents that were asked for: of whom, and of what.
    pub ranges: BTreeMap<RangeId, (LinkId, ContentId)>,
    /// What peers asked for as which stream.
    pub asked: BTreeMap<(LinkId, FetchId), Part>,
    /// They outlive a crash.
    pub partials: BTreeMap<ContentId, Partial>,
    /// What texts once were. They outlive a crash, most of them.
    pub texts: BTreeMap<SyncPath, Vec<Base>>,
    /// The folder, and the index with it.
    pub backup: Option<(Tree, Durable)>,
    /// Nothing more can be written.
    pub is_full: bool,
    /// What peers asked for, while its disk hangs.
    pub hanging: Option<Vec<Step>>,
    /// The index as it was before the last commit, for the bug that acts too early.
    pub before_commit: Durable,
    /// When anything but an install changed its disk last.
    pub touched_at: u64,
    /// The folder has no marker.
    pub lost_marker: bool,
    /// Until when hints count as an echo, for the bug that swallows them.
    pub echo_until: BTreeMap<SyncPath, u64>,
    /// Its folder came from a backup, and was not scanned since.
    pub is_restored: bool,
    /// The highest counter among the versions minted here.
    pub minted: u64,
}

impl Node {
    pub fn new(id: usize, skew_ns: i64, tick_ns: u64, on_conflict: OnConflict) -> Self {
        Self {
            device: DeviceId([id as u8 + 1; 32]),
            on_conflict,
            role: SyncRole::Both,
            first_role: None,
            reads_only: false,
            standing: Standing::default(),
            disk: Disk::new(),
            engine: None,
            durable: Durable::default(),
            life: 0,
            skew_ns,
            redates: false,
            tick_ns,
            started: 0,
            boots: 1,
            late_boots: false,
            in_force: Ignore::default(),
            ignored: Ignore::default(),
            first_patterns: None,
            was_walked: false,
            last_commit: 0,
            dark_until: 0,
            asleep_until: 0,
            inbox: VecDeque::new(),
            busy: false,
            tick_due: None,
            watched: BTreeSet::new(),
            hints: VecDeque::new(),
            jobs: VecDeque::new(),
            batch_left: 0,
            ended: Vec::new(),
            installing: false,
            staging: BTreeMap::new(),
            next_stage: 0,
            fetches: BTreeMap::new(),
            bases: BTreeMap::new(),
            ranges: BTreeMap::new(),
            asked: BTreeMap::new(),
            partials: BTreeMap::new(),
            texts: BTreeMap::new(),
            backup: None,
            is_full: false,
            hanging: None,
            before_commit: Durable::default(),
            touched_at: 0,
            lost_marker: false,
            echo_until: BTreeMap::new(),
            is_restored: false,
            minted: 0,
        }
    }

    pub fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// Everything in memory is gone.
    pub fn stop(&mut self) {
        self.engine = None;
        self.life += 1;
        self.asleep_until = 0;
        self.inbox.clear();
        self.busy = false;
        self.tick_due = None;
        self.watched.clear();
        self.ignored = Ignore::default();
        self.was_walked = false;
        self.hints.clear();
        self.jobs.clear();
        self.ended.clear();
        self.installing = false;
        self.staging.clear();
        self.fetches.clear();
        self.bases.clear();
        self.ranges.clear();
        self.asked.clear();
        self.hanging = None;
        self.partials.values_mut().for_each(Partial::crash);
    }

    pub fn boot(&mut self, time: u64, bug: Option<Bug>) {
        self.started = time;
        let name = format!("n{}", self.device.0[0] - 1);
        let config = Config { device: self.device, name, on_conflict: self.on_conflict };
        let mut index = Recorded::open(&self.durable, bug);
        if let Some(file) = &self.standing.file {
            self.standing.file = Some(GroupState::settle(&mut index, file, self.standing.inviter.take()));
        }
        let mut engine = Engine::new(config, index);
        // Later than any write: whatever was hashed in this boot and changed since has rotted, and
        // heals by itself.
        let began = if self.late_boots { u64::MAX } else { 0 };
        let names = if self.disk.live.folds { Names::Folded } else { Names::Exact };
        engine.set_keeps(Keeps { modes: self.disk.keeps_modes, names, ..Keeps::default() });
        if let Some(role) = self.first_role.filter(|_| !self.durable.meta.contains_key("role")) {
            engine.begin_as(role);
        }
        if self.reads_only {
            engine.read_only();
        }
        engine.booted(Boot { id: self.boots, began, marks_stores: self.late_boots });
        self.engine = Some(engine);
    }

    /// The machine does nothing from now on for so long (ns), and its steady clock stands.
    pub fn suspend(&mut self, now: u64, span_ns: u64) {
        self.started += span_ns;
        self.dark_until = self.dark_until.max(now + span_ns);
    }

    /// Another device key, as after a clone or a roll-back was noticed.
    pub fn renew(&mut self) {
        self.standing.former.push(self.device);
        self.device.0[1] += 1;
        self.minted = 0;
    }

    /// The index is gone, and with it the device's key.
    pub fn lose_index(&mut self) {
        self.durable = Durable::default();
        self.device.0[1] += 1;
        self.minted = 0;
    }

    pub fn clock(&self, time: u64) -> Now {
        Now { wall: self.wall(time), mono: time - self.started + SECOND }
    }

    /// The simulation's time at which `Now::mono` is `mono`.
    pub fn time_of_mono(&self, mono: u64) -> u64 {
        (mono + self.started).saturating_sub(SECOND)
    }

    pub fn wall(&self, time: u64) -> u64 {
        (EPOCH_NS + time).saturating_add_signed(self.skew_ns)
    }

    /// The time that the kernel gives to inodes.
    pub fn file_time(&self, time: u64) -> FileTime {
        let wall = self.wall(time) / self.tick_ns * self.tick_ns;
        FileTime { secs: (wall / SECOND) as i64, nanos: (wall % SECOND) as u32 }
    }
}
