//! Scrubbing: every file is hashed again in the course of a month, a little each day, and whenever
//! a person asks.
//!
//! In path order, some files at a time; the way there is kept in the index, so that a restart goes
//! on where the last run was. A file that was read wrongly is read once more before it is called
//! suspect. What was changed lately is not judged here: that its stat may stand still then is
//! known, and the second hash (`rehash.rs`) takes it for the edit that it is. Deliberately not
//! here: what becomes of a suspect file (`suspect.rs`), and reading (the shell's affair).

use crate::engine::api::action::{Action, Pace, Report};
use crate::engine::api::event::{Boot, Hint, LinkId, Now, Scrubbed, Stat};
use crate::engine::api::index::{Index, Row};
use crate::engine::api::status::Tally;
use crate::engine::core::Core;
use crate::engine::core::is_racy;
use crate::engine::limits::{
    DAY_NS, SCRUB_BATCH_BYTES, SCRUB_BATCH_FILES, SCRUB_BATCH_ROWS, SCRUB_BUSY_PAUSE_NS, SCRUB_CHECK_EVERY_NS,
    SCRUB_FILE_BYTES, SCRUB_NAMED_IN_USE, SCRUB_ROUND_NS, SCRUB_SERVED_CAP, SCRUB_STORE_EVERY_NS, SUSPECTS_CAP,
};
use crate::engine::safety::Safety;
use crate::engine::safety::suspect::SuspectStatus;
use crate::engine::{Engine, META_SCRUB};
use crate::model::{ContentId, SyncPath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// By itself it reads no faster than this.
pub(in crate::engine) const IDLE: Pace = Pace { bytes_a_second: 20 << 20, yields: true };

/// One way through the tree.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::engine) struct Round {
    pub(super) below: Option<SyncPath>,
    /// When it began (ns since 1970).
    pub(super) began: u64,
    /// The boot in which all of it was, so far, if it passed over nothing that it should have read.
    boot: Option<u128>,
    /// Everything up to here is done.
    cursor: Option<SyncPath>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that are suspect since.
    pub(super) found: u64,
    /// Files that were in use.
    pub(super) passed_over: u64,
}

impl Round {
    fn work(&self) -> u64 {
        self.bytes.saturating_add(self.files.saturating_mul(SCRUB_FILE_BYTES))
    }
}

/// What a person asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::engine) struct VerifyRequest {
    pub(super) round: Round,
    pub(super) files_of: u64,
    pub(super) bytes_of: u64,
    pub(super) bytes_a_second: u64,
    pub(super) peers: bool,
}

/// A whole round that is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::engine) struct PastRound {
    pub(super) began: u64,
    pub(super) ended: u64,
    boot: Option<u128>,
}

/// What survives a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::engine) struct StoredScrub {
    pub(super) monthly: Round,
    pub(super) past: Option<PastRound>,
    pub(super) asked: Option<VerifyRequest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    First,
    /// It was read wrongly just now.
    Second,
}

/// On whose account something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Which {
    Monthly,
    Asked,
    /// Something said that its bytes may not be what they should.
    Doubted,
}

/// What is being read.
pub(in crate::engine) struct ScrubBatch {
    pub(super) which: Which,
    left: BTreeMap<SyncPath, Try>,
    upto: Option<SyncPath>,
    is_last: bool,
}

/// How far a person's verification is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub below: Option<SyncPath>,
    /// Nanoseconds since 1970.
    pub began_ns: u64,
    pub is_over: bool,
    /// It was ended by a person, before all was read.
    pub is_stopped: bool,
    pub asks_peers: bool,
    pub files: u64,
    pub files_of: u64,
    pub bytes: u64,
    pub bytes_of: u64,
    pub found: u64,
    pub passed_over: u64,
    /// The first of those, as far as they were met in this run of the daemon.
    pub in_use: Vec<SyncPath>,
    /// What the linked machines hold, if they were asked.
    pub peers: Option<Tally>,
}

/// What is known of the files' health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// What a person asked for, now or last since the start.
    pub run: Option<Run>,
    pub suspects: Vec<SuspectStatus>,
    /// When the present round of the monthly scrub began, and the last whole one began and ended
    /// (ns since 1970).
    pub monthly_began_ns: u64,
    pub monthly_files: u64,
    pub monthly_bytes: u64,
    pub last_ns: Option<(u64, u64)>,
}

pub(in crate::engine) struct Scrub {
    pub(super) kept: StoredScrub,
    pub(super) boot: Boot,
    /// A scrub goes on by itself.
    is_monthly: bool,
    pub(super) batch: Option<ScrubBatch>,
    /// A day's share is due and not done.
    is_due: bool,
    next_check: u64,
    stored_at: u64,
    pub(super) verify: PersonVerify,
    doubted: BTreeSet<SyncPath>,
    /// Who asked how often for the content of a path.
    served: BTreeMap<(LinkId, SyncPath), (ContentId, u32)>,
    /// Counts what is read in doubt; nobody asks.
    in_doubt: Round,
}

/// What a person asked to be verified, and what came of it.
#[derive(Default)]
pub(in crate::engine) struct PersonVerify {
    pub(super) over: Option<Run>,
    pub(super) asks_peers: bool,
    /// What a person's verification passed over.
    pub(super) in_use: Vec<SyncPath>,
}

impl Scrub {
    pub fn load(index: &impl Index) -> Self {
        let kept = index.meta(META_SCRUB).and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        Self {
            kept,
            boot: Boot::default(),
            is_monthly: true,
            batch: None,
            is_due: false,
            next_check: 0,
            stored_at: 0,
            verify: PersonVerify::default(),
            doubted: BTreeSet::new(),
            served: BTreeMap::new(),
            in_doubt: Round::default(),
        }
    }

    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// When there is something to do. While files are being read, or peers asked, the answers come
    /// by themselves.
    pub fn next(&self) -> Option<u64> {
        match &self.batch {
            Some(_) => None,
            None if !self.doubted.is_empty() => Some(0),
            None if self.verify.asks_peers => None,
            None if self.kept.asked.is_some() => Some(0),
            None => self.is_monthly.then_some(self.next_check),
        }
    }

    /// Whether a whole round, or the present one up to here, hashed the path in this boot. (What is
    /// not right is not passed: it is suspect.)
    pub fn was_right_in_this_boot(&self, path: &SyncPath) -> bool {
        let here = Some(self.boot.id);
        self.kept.past.is_some_and(|past| past.boot == here)
            || (self.kept.monthly.boot == here
                && self.kept.monthly.cursor.as_ref().is_some_and(|cursor| path <= cursor))
    }

    /// The day (since 1970) on which the path was last hashed, or an earlier one; 0: never.
    pub fn day(&self, path: &SyncPath) -> u32 {
        let monthly = &self.kept.monthly;
        let is_passed = monthly.cursor.as_ref().is_some_and(|cursor| path <= cursor);
        let began = if is_passed { monthly.began } else { self.kept.past.map_or(0, |past| past.began) };
        (began / DAY_NS) as u32
    }
}

impl Safety {
    /// Before the start: which boot this is.
    fn booted(&mut self, boot: Boot) {
        self.scrub.boot = boot;
    }

    /// Before the start: nothing is hashed again unless a person asks.
    fn scrub_only_when_asked(&mut self) {
        self.scrub.is_monthly = false;
    }

    /// Whether a day's share of the month's work is behind; a machine that was off for days has
    /// more to do.
    fn owes<I: Index>(&mut self, core: &Core<I>, now: Now) -> bool {
        self.behind(core, now) >= core.share()
    }

    fn behind<I: Index>(&mut self, core: &Core<I>, now: Now) -> u64 {
        let monthly = &mut self.scrub.kept.monthly;
        // The clock was set back.
        monthly.began = monthly.began.min(now.wall);
        let days = (now.wall - monthly.began) / DAY_NS;
        let done = monthly.work();
        if days >= SCRUB_ROUND_NS / DAY_NS {
            return u64::MAX;
        }
        core.share().saturating_mul(days).saturating_sub(done)
    }

    fn passed_over(&mut self, which: Which, path: &SyncPath) {
        if which == Which::Asked && self.scrub.verify.in_use.len() < SCRUB_NAMED_IN_USE {
            self.scrub.verify.in_use.push(path.clone());
        }
        let round = self.round(which);
        (round.boot, round.passed_over) = (None, round.passed_over + 1);
    }

    fn round(&mut self, which: Which) -> &mut Round {
        match (which, &mut self.scrub.kept) {
            (Which::Asked, StoredScrub { asked: Some(asked), .. }) => &mut asked.round,
            (Which::Monthly, StoredScrub { monthly, .. }) => monthly,
            _ => &mut self.scrub.in_doubt,
        }
    }

    /// Its bytes may not be what the index says: they are hashed soon.
    pub(in crate::engine) fn doubt(&mut self, path: &SyncPath) {
        if self.scrub.doubted.len() < SCRUB_SERVED_CAP {
            self.scrub.doubted.insert(path.clone());
        }
    }

    /// A peer is given a content. One that asks for it again did not get what it wanted, perhaps;
    /// once that is hashed, no more.
    pub(in crate::engine) fn note_served(&mut self, link: LinkId, path: &SyncPath, content: ContentId) {
        if self.scrub.served.len() >= SCRUB_SERVED_CAP {
            self.scrub.served.clear();
        }
        let asks = self.scrub.served.entry((link, path.clone())).or_insert((content, 0));
        *asks = if asks.0 == content { (content, asks.1.saturating_add(1)) } else { (content, 1) };
        if asks.1 == 2 {
            self.doubt(path);
        }
    }

    fn read_again<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath, stat: &Stat) {
        if let Some(batch) = &mut self.scrub.batch {
            batch.left.insert(path.clone(), Try::Second);
            let pace = Pace { yields: false, ..IDLE };
            core.act(Action::Scrub { path: path.clone(), known: *stat, pace });
        }
    }

    fn round_is_over<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let monthly = std::mem::replace(&mut self.scrub.kept.monthly, new_round(now, self.scrub.boot.id, None));
        self.whole_round(core, now, &monthly);
        self.scrub.is_due = false;
        self.store_scrub(core, now);
    }

    pub(super) fn whole_round<I: Index>(&mut self, core: &mut Core<I>, now: Now, round: &Round) {
        let Round { began, boot, files, bytes, found, passed_over, .. } = *round;
        self.scrub.kept.past = Some(PastRound { began, ended: now.wall, boot });
        let took_ns = now.wall.saturating_sub(began);
        core.out.push(Action::Report(Report::Verified { files, bytes, found, passed_over, took_ns }));
    }

    pub(super) fn store_scrub<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        self.scrub.stored_at = now.mono;
        let kept = self.scrub_bytes();
        core.index.set_meta(META_SCRUB, &kept);
    }

    pub(super) fn scrub_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.scrub.kept).expect("writing to memory does not fail")
    }
}

impl<I: Index> Core<I> {
    fn share(&self) -> u64 {
        let counts = self.index.counts();
        let work = counts.bytes.saturating_add(counts.files.saturating_mul(SCRUB_FILE_BYTES));
        (work / (SCRUB_ROUND_NS / DAY_NS)).max(1)
    }
}

impl<I: Index> Engine<I> {
    /// Before the start: which boot this is.
    pub fn booted(&mut self, boot: Boot) {
        self.safety.booted(boot);
    }

    /// Before the start: nothing is hashed again unless a person asks.
    pub fn scrub_only_when_asked(&mut self) {
        self.safety.scrub_only_when_asked();
    }

    pub(in crate::engine) fn begin_scrub(&mut self, now: Now) {
        let boot = self.safety.scrub.boot.id;
        let StoredScrub { monthly, asked, .. } = &mut self.safety.scrub.kept;
        let is_first = monthly.began == 0;
        if is_first {
            *monthly = new_round(now, boot, None);
        }
        for round in std::iter::once(monthly).chain(asked.as_mut().map(|asked| &mut asked.round)) {
            round.boot = round.boot.filter(|was| *was == boot);
        }
        if is_first {
            self.safety.store_scrub(&mut self.core, now);
        }
        self.safety.scrub.next_check = now.mono + SCRUB_BUSY_PAUSE_NS;
        self.keep_decided();
    }

    /// Goes on with what a person asked for, else with the day's share if there is nothing else to
    /// do.
    pub(in crate::engine) fn scrub_due(&mut self, now: Now) {
        if self.safety.scrub.batch.is_some() || self.safety.scrub.next().is_none_or(|due| due > now.mono) {
            return;
        }
        if self.safety.suspects.len() >= SUSPECTS_CAP {
            self.safety.scrub.next_check = now.mono + SCRUB_CHECK_EVERY_NS;
            return self.over_with(None);
        }
        if !self.safety.scrub.doubted.is_empty() {
            return self.read_doubted(now);
        }
        if let Some(asked) = &self.safety.scrub.kept.asked {
            let pace = Pace { bytes_a_second: asked.bytes_a_second, yields: false };
            return self.read_next(now, Which::Asked, pace);
        }
        if !self.safety.scrub.is_due {
            self.safety.scrub.is_due = self.safety.owes(&self.core, now);
        }
        if !self.safety.scrub.is_due {
            self.safety.scrub.next_check = now.mono + SCRUB_CHECK_EVERY_NS;
        } else if self.has_other_work() {
            self.safety.scrub.next_check = now.mono + SCRUB_BUSY_PAUSE_NS;
        } else {
            self.read_next(now, Which::Monthly, IDLE);
        }
    }

    fn has_other_work(&self) -> bool {
        let local = !self.observe.is_idle() || self.observe.is_walking();
        local || self.active_wants() > 0 || self.peers.has_outgoing() || !self.safety.missing.is_empty()
    }

    /// Asks for the next files of a round.
    fn read_next(&mut self, now: Now, which: Which, pace: Pace) {
        let round = self.safety.round(which);
        let (below, cursor) = (round.below.clone(), round.cursor.clone());
        let mut page: VecDeque<(SyncPath, Row)> =
            self.core.index.below(below.as_ref(), cursor.as_ref(), SCRUB_BATCH_ROWS).into();
        let is_last = page.len() < SCRUB_BATCH_ROWS;
        if let Some(itself) = below.filter(|_| cursor.is_none())
            && let Some(row) = self.core.index.get(&itself)
        {
            page.push_front((itself, row));
        }
        let mut batch = ScrubBatch { which, left: BTreeMap::new(), upto: cursor, is_last: false };
        let mut bytes = 0;
        while batch.left.len() < SCRUB_BATCH_FILES
            && bytes < SCRUB_BATCH_BYTES
            && let Some((path, row)) = page.pop_front()
        {
            if let Some((entry, stat)) = row.live_on_disk()
                && let Some((_, size)) = entry.file()
            {
                if self.may_judge(now, &path, stat) {
                    bytes += size;
                    self.core.act(Action::Scrub { path: path.clone(), known: *stat, pace });
                    batch.left.insert(path.clone(), Try::First);
                } else if !self.safety.suspects.contains(&path) {
                    self.safety.passed_over(which, &path);
                }
            }
            batch.upto = Some(path);
        }
        batch.is_last = is_last && page.is_empty();
        self.safety.scrub.batch = Some(batch);
        self.read_on(now);
    }

    /// Whether a change of its bytes could only be one that its stat does not show. What was
    /// changed lately has its second hash.
    fn may_judge(&self, now: Now, path: &SyncPath, stat: &Stat) -> bool {
        let is_young = is_racy(stat.mtime, now) || is_racy(stat.ctime, now) || self.observe.awaits_rehash(path);
        let is_in_use = self.transfer.is_busy(path) || self.observe.is_unsettled(path);
        let is_unknown =
            self.transfer.was_interrupted(path) || self.ignores(path, false) || self.safety.suspects.contains(path);
        !is_young && !is_in_use && !is_unknown
    }

    fn read_doubted(&mut self, now: Now) {
        let mut batch = ScrubBatch { which: Which::Doubted, left: BTreeMap::new(), upto: None, is_last: true };
        for path in std::mem::take(&mut self.safety.scrub.doubted) {
            let row = self.core.index.get(&path);
            let known = row.as_ref().and_then(Row::live_on_disk).filter(|(entry, _)| entry.file().is_some());
            if let Some((_, stat)) = known.filter(|(_, stat)| self.may_judge(now, &path, stat)) {
                self.core.act(Action::Scrub { path: path.clone(), known: *stat, pace: IDLE });
                batch.left.insert(path, Try::First);
            }
        }
        self.safety.scrub.batch = Some(batch);
        self.read_on(now);
    }

    pub(in crate::engine) fn scrubbed(&mut self, now: Now, path: &SyncPath, stat: &Stat, outcome: Scrubbed) {
        let Some(batch) = &mut self.safety.scrub.batch else { return };
        let (which, Some(reading)) = (batch.which, batch.left.remove(path)) else { return };
        let row = self.core.index.get(path);
        let known = row.as_ref().and_then(Row::live_on_disk).filter(|(_, known)| *known == stat);
        let content = known.and_then(|(entry, _)| entry.file()).filter(|_| self.may_judge(now, path, stat));
        match (content, outcome) {
            (Some((content, size)), Scrubbed::Read(found)) if found == content => {
                let round = self.safety.round(which);
                round.files += 1;
                round.bytes = round.bytes.saturating_add(size);
                if reading == Try::Second {
                    self.core.out.push(Action::Report(Report::ReadWrongly { path: path.clone() }));
                }
            }
            (Some(_), Scrubbed::Read(_) | Scrubbed::Unreadable(_)) if reading == Try::First => {
                self.safety.read_again(&mut self.core, path, stat);
            }
            (Some(_), Scrubbed::Read(found)) => self.is_suspect(now, which, path, Some(found)),
            (Some(_), Scrubbed::Unreadable(_)) => self.is_suspect(now, which, path, None),
            (_, outcome) => {
                self.safety.passed_over(which, path);
                if outcome == Scrubbed::Moved {
                    self.observe.hint(now, path.clone(), Hint::Closed);
                }
            }
        }
        self.read_on(now);
    }

    fn is_suspect(&mut self, now: Now, which: Which, path: &SyncPath, found: Option<ContentId>) {
        let round = self.safety.round(which);
        (round.files, round.found) = (round.files + 1, round.found + 1);
        self.suspect(now, path, found);
    }

    /// The batch may be done, and with it the round.
    fn read_on(&mut self, now: Now) {
        let Some(ScrubBatch { which, upto, is_last, .. }) =
            self.safety.scrub.batch.take_if(|batch| batch.left.is_empty())
        else {
            return;
        };
        self.safety.round(which).cursor = upto;
        match (which, is_last) {
            (Which::Doubted, _) => {}
            (Which::Asked, true) => self.asked_is_read(now),
            (Which::Monthly, true) => self.safety.round_is_over(&mut self.core, now),
            (Which::Monthly, false) if self.safety.behind(&self.core, now) == 0 => {
                self.safety.scrub.is_due = false;
                self.safety.store_scrub(&mut self.core, now);
            }
            _ => {
                self.safety.scrub.next_check = now.mono;
                if self.safety.scrub.stored_at + SCRUB_STORE_EVERY_NS <= now.mono {
                    self.safety.store_scrub(&mut self.core, now);
                }
            }
        }
    }
}

pub(in crate::engine) fn new_round(now: Now, boot: u128, below: Option<SyncPath>) -> Round {
    Round { below, began: now.wall, boot: Some(boot), ..Round::default() }
}

#[cfg(test)]
mod tests;
