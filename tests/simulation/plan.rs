//! How hard one seed's world is: who is there, who is linked, what goes wrong and how often.

use super::rhythms::{self, Rhythm};
use super::rng::Rng;
use dirsyncd::engine::OnConflict;
use dirsyncd::model::SyncRole;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;
const HOUR: i64 = 3600 * SECOND as i64;
const YEAR: i64 = 365 * 24 * HOUR;

#[derive(Debug, Clone)]
pub struct Plan {
    pub nodes: usize,
    /// The same on all machines.
    pub on_conflict: OnConflict,
    /// Who can reach whom, the smaller first.
    pub pairs: Vec<(usize, usize)>,
    /// How far each clock is off (ns).
    pub skew_ns: Vec<i64>,
    /// The steps of the disks' clocks (ns).
    pub tick_ns: u64,
    /// One way, at most (ns).
    pub latency_ns: u64,
    /// A step on the disk, at most (ns).
    pub disk_ns: u64,
    /// From a change to its hint, at most (ns).
    pub hint_ns: u64,
    /// Bursts of hints that overflow the queue.
    pub overflow_permille: u64,
    /// Large contents that arrive damaged.
    pub corrupt_permille: u64,
    /// Installs that fail for want of space or worse.
    pub trouble_permille: u64,
    /// Faults are spread over the time in which users act.
    pub link_cuts: u64,
    pub partitions: u64,
    pub kills: u64,
    pub power_cuts: u64,
    /// Folders that come back as they were in a backup.
    pub restores: u64,
    /// Machines that come back whole from an old image, index and all.
    pub rollbacks: u64,
    /// Machines whose index is gone after a crash.
    pub lost_indexes: u64,
    /// Clocks that jump while their machine runs.
    pub clock_jumps: u64,
    /// Disks that are full for a while.
    pub full_disks: u64,
    /// Disks of which nothing is read for peers for a while, though their machines live.
    pub hung_disks: u64,
    /// Looks that fail.
    pub blind_permille: u64,
    /// Files whose bytes change on the disk by themselves.
    pub rots: u64,
    /// Times at which somebody has everything hashed again.
    pub verifies: u64,
    /// Boots count as later than every write.
    pub late_boots: bool,
    /// Readings of a scrub that go wrong.
    pub misread_permille: u64,
    /// Times at which somebody decides a conflict.
    pub decisions: u64,
    /// Times at which a user changes what is ignored.
    pub pattern_edits: u64,
    /// Times at which somebody takes back what is no disaster: nothing comes back.
    pub undos: u64,
    /// Programs and people at regular work, on old files.
    pub rhythms: Vec<Rhythm>,
    /// Times at which what machines say is compared with what is true, while users act.
    pub questions: u64,
    /// Machines that somebody pauses for a while, and folders that lose their marker for a while.
    pub pauses: u64,
    pub stops: u64,
    /// Daemons that are stopped for a while, as by a signal.
    pub sleeps: u64,
    /// The machine whose disk keeps no permission bits.
    pub modeless: Option<usize>,
    /// The machine whose disk takes names that differ in case alone for one.
    pub folding: Option<usize>,
    /// The machine at which somebody makes sockets, fifos and devices.
    pub special: Option<usize>,
    /// What each machine does with changes; none: all do both.
    pub roles: Vec<SyncRole>,
    /// Times at which somebody gives a machine another role, or decides what its role keeps apart.
    pub role_changes: u64,
    /// Times at which a machine that may only read announces something all the same; then every
    /// receive-only one may only read.
    pub lies: u64,
    /// Times at which somebody replaces the group's secret; then machines come by invitations.
    pub rotations: u64,
    /// Times at which a machine tries to get in that is removed on the way.
    pub removed_tries: u64,
    pub user_ops: u64,
    /// How long users act, and things fail (ns).
    pub active_ns: u64,
    /// Folders that hold something before their machines first meet.
    pub early_ops: u64,
}

impl Plan {
    /// No faults, no users, machines in a full mesh: what a written scenario starts from.
    pub fn quiet(nodes: usize) -> Self {
        let pairs = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).collect();
        Self {
            nodes,
            on_conflict: OnConflict::Newest,
            pairs,
            skew_ns: vec![0; nodes],
            tick_ns: 4 * MS,
            latency_ns: MS,
            disk_ns: MS,
            hint_ns: 2 * MS,
            overflow_permille: 0,
            corrupt_permille: 0,
            trouble_permille: 0,
            link_cuts: 0,
            partitions: 0,
            kills: 0,
            power_cuts: 0,
            restores: 0,
            rollbacks: 0,
            lost_indexes: 0,
            clock_jumps: 0,
            full_disks: 0,
            hung_disks: 0,
            blind_permille: 0,
            rots: 0,
            verifies: 0,
            late_boots: false,
            misread_permille: 0,
            decisions: 0,
            pattern_edits: 0,
            undos: 0,
            rhythms: Vec::new(),
            questions: 0,
            pauses: 0,
            stops: 0,
            sleeps: 0,
            modeless: None,
            folding: None,
            special: None,
            roles: Vec::new(),
            role_changes: 0,
            lies: 0,
            rotations: 0,
            removed_tries: 0,
            user_ops: 0,
            active_ns: 0,
            early_ops: 0,
        }
    }

    /// Two to four machines on a sound net.
    pub fn sound(rng: &mut Rng) -> Self {
        let nodes = 2 + rng.index(3);
        let mut plan = Self::quiet(nodes);
        plan.latency_ns = *rng.pick(&[MS / 5, 5 * MS, 100 * MS]);
        plan.disk_ns = *rng.pick(&[MS / 5, 2 * MS]);
        plan.hint_ns = *rng.pick(&[MS / 5, 2 * MS, 20 * MS]);
        plan.overflow_permille = if rng.chance(200) { 100 } else { 0 };
        if nodes > 2 && rng.chance(300) {
            plan.pairs = (1..nodes).map(|node| (node - 1, node)).collect();
        }
        plan
    }

    pub fn random(rng: &mut Rng) -> Self {
        let nodes = *rng.pick(&[2, 2, 2, 3, 3, 3, 4, 5, 6]);
        let mut plan = Self::quiet(nodes);
        if nodes > 2 && rng.chance(400) {
            plan.pairs = tree_of(nodes, rng);
        }
        if rng.chance(600) {
            plan.skew_ns = (0..nodes).map(|_| some_skew(rng)).collect();
        }
        plan.latency_ns = *rng.pick(&[MS / 5, 5 * MS, 50 * MS, 500 * MS]);
        plan.disk_ns = *rng.pick(&[MS / 5, 2 * MS, 20 * MS]);
        plan.hint_ns = *rng.pick(&[MS / 5, 2 * MS, 20 * MS, 300 * MS]);
        plan.user_ops = rng.between(5, 60) * if rng.chance(100) { 3 } else { 1 };
        plan.active_ns = *rng.pick(&[SECOND / 5, 2 * SECOND, 10 * SECOND, 60 * SECOND]);
        plan.early_ops = if rng.chance(500) { rng.below(8) } else { 0 };
        if rng.chance(800) {
            plan.add_faults(rng);
        }
        plan.tick_ns = *rng.pick(&[MS, 4 * MS, 4 * MS, SECOND]);
        // By chance of its own, so that the rest of a seed stays what it was.
        let mut own = Rng::new(rng.clone().next());
        if own.chance(150) {
            plan.add_rot(&mut own);
        }
        plan.pattern_edits = if own.chance(150) { 1 + own.below(6) } else { 0 };
        plan.modeless = own.chance(150).then(|| own.index(nodes));
        plan.decisions = if own.chance(500) { 1 + own.below(8) } else { 0 };
        plan.questions = 12;
        plan.pauses = if own.chance(150) { 1 + own.below(3) } else { 0 };
        plan.stops = if own.chance(100) { 1 + own.below(2) } else { 0 };
        if own.chance(25) {
            plan.add_rhythms(&mut own);
        }
        if own.chance(60) {
            plan.add_hanging(&mut own);
        }
        plan.sleeps = if own.chance(150) { 1 + own.below(3) } else { 0 };
        // Where regular work is done, more than half may be gone for a moment.
        plan.undos = if own.chance(100) && plan.rhythms.is_empty() { 1 + own.below(3) } else { 0 };
        plan
    }

    /// As `random`, with names that fold, or special files, at one machine.
    pub fn with_obstacles(rng: &mut Rng) -> Self {
        let mut plan = Self::random(rng);
        plan.rhythms = Vec::new();
        let end = plan.some_end(rng);
        // Disks that fold names keep no special files.
        let folds = rng.chance(600);
        (plan.folding, plan.special) = (folds.then_some(end), (!folds).then_some(end));
        plan
    }

    /// A machine that is not between others: what it cannot hold it cannot pass on.
    fn some_end(&self, rng: &mut Rng) -> usize {
        *rng.pick(&self.ends())
    }

    /// The machines that are not between others.
    pub fn ends(&self) -> Vec<usize> {
        let links = |node| self.pairs.iter().filter(|(a, b)| [*a, *b].contains(&node)).count();
        let is_mesh = self.pairs.len() == self.nodes * (self.nodes - 1) / 2;
        (0..self.nodes).filter(|node| is_mesh || links(*node) == 1).collect()
    }

    /// What makes files vanish otherwise, or takes back what a program did, is left out: then more
    /// than half may be gone for good.
    pub fn add_rhythms(&mut self, rng: &mut Rng) {
        self.rhythms = rhythms::some(rng);
        self.early_ops = 0;
        self.active_ns = self.active_ns.max(2 * SECOND);
        (self.power_cuts, self.restores, self.rollbacks, self.lost_indexes, self.rots) = (0, 0, 0, 0, 0);
    }

    /// For longer than a peer that answers nothing is waited for.
    fn add_hanging(&mut self, rng: &mut Rng) {
        self.hung_disks = 1 + rng.below(4);
        self.active_ns = self.active_ns.max(60 * SECOND);
    }

    pub fn add_rot(&mut self, rng: &mut Rng) {
        self.rots = 1 + rng.below(4);
        self.verifies = rng.below(4);
        self.late_boots = rng.chance(500);
        self.misread_permille = if rng.chance(300) { 20 } else { 0 };
    }

    fn add_faults(&mut self, rng: &mut Rng) {
        let mut maybe = |most: u64| if rng.chance(500) { 1 + rng.below(most) } else { 0 };
        self.overflow_permille = maybe(200);
        self.corrupt_permille = maybe(300);
        self.link_cuts = maybe(8);
        self.partitions = maybe(3);
        self.kills = maybe(3);
        self.power_cuts = maybe(3);
        self.trouble_permille = maybe(200);
        self.restores = u64::from(rng.chance(100));
        self.rollbacks = u64::from(rng.chance(70));
        self.lost_indexes = u64::from(rng.chance(70));
        self.clock_jumps = if rng.chance(200) { 1 + rng.below(3) } else { 0 };
        self.full_disks = if rng.chance(150) { 1 + rng.below(2) } else { 0 };
        self.blind_permille = if rng.chance(150) { 1 + rng.below(80) } else { 0 };
    }
}

/// How far a clock may be off (ns).
pub fn some_skew(rng: &mut Rng) -> i64 {
    let few = 3 * SECOND as i64;
    *rng.pick(&[0, 0, 0, few, -few, HOUR, -HOUR, YEAR, -YEAR])
}

/// Just connected: a line, a star, or something between.
fn tree_of(nodes: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    (1..nodes).map(|b| (rng.index(b), b)).collect()
}
