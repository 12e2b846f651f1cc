//! The course of a run: what users do, which faults come, and how all heals at the end.

use super::bugs::Bug;
use super::ledger::NodeId;
use super::plan::{MS, SECOND};
use super::shell::Step;
use super::world::{Happening, World};
use dirsyncd::engine::Engine;

impl World {
    pub fn plan_tick(&mut self, node: NodeId) {
        let here = &mut self.nodes[node];
        let due = here.engine.as_ref().and_then(Engine::wake_at);
        if due.is_some() && here.tick_due != due {
            let delay = here.time_of_mono(due.unwrap_or_default()).saturating_sub(self.now);
            if self.bug == Some(Bug::SleepsThroughTicks) && delay > SECOND {
                return;
            }
            here.tick_due = due;
            let due = due.unwrap_or_default();
            let life = here.life;
            self.after(delay, Happening::Local(node, life, Box::new(Step::Tick(due))));
        }
    }

    /// Plans the users' work and the faults, runs them, heals everything, and waits for rest.
    pub fn run(&mut self) {
        for node in 0..self.nodes.len() {
            for _ in 0..self.rng.below(self.plan.early_ops + 1) {
                self.random_user(node);
                self.now += self.rng.below(10 * MS);
            }
        }
        let active = self.plan.active_ns;
        for node in 0..self.nodes.len() {
            let late = if self.rng.chance(300) { active } else { MS };
            self.soon(late, Happening::Start(node));
        }
        let ops = self.plan.user_ops;
        for _ in 0..ops {
            let node = self.rng.index(self.nodes.len());
            self.within(active, Happening::User(node));
        }
        self.plan_faults();
        let rhythms_ns = self.plan_rhythms();
        self.run_until(self.now + active.max(rhythms_ns));
        self.heal();
        if self.plan.role_changes > 0 {
            self.settle_other_roles();
        }
        if self.has_readers() {
            self.settle_readers();
        }
        if self.plan.rots > 0 {
            self.settle_rot();
        }
        if self.plan.pattern_edits > 0 {
            if self.has_obstacles {
                self.clear_patterns();
            }
            self.settle_patterns();
            if self.plan.rots > 0 {
                // What was covered until now was not read.
                self.settle_rot();
            }
        }
        if !self.ledger.torn.is_empty() {
            self.settle_torn();
        }
        self.rest();
        if self.has_obstacles && self.broken.is_none() {
            self.clear_obstacles();
        }
        if self.has_roles() && self.plan.role_changes == 0 && self.broken.is_none() {
            self.settle_roles();
        }
        self.settle_conflicts();
        if self.undone > 0 {
            self.fail("something came back, and no more than half was ever lost".to_owned());
        }
    }

    pub fn within(&mut self, span_ns: u64, what: Happening) {
        let at = self.rng.below(span_ns + 1);
        self.after(at, what);
    }

    pub fn plan_faults(&mut self) {
        let active = self.plan.active_ns;
        self.plan_own();
        let pairs = self.plan.pairs.len();
        for _ in 0..self.plan.link_cuts {
            let pair = self.rng.index(pairs);
            self.within(active, Happening::CutLink { pair });
        }
        for _ in 0..self.plan.partitions {
            let pair = self.rng.index(pairs);
            self.within(active, Happening::Part { pair, parted: true });
            self.within(active, Happening::Part { pair, parted: false });
        }
        for _ in 0..self.plan.restores {
            let node = self.rng.index(self.nodes.len());
            let at = self.rng.below(active + 1);
            self.after(at / 2, Happening::Backup(node));
            self.after(at, Happening::Restore(node));
        }
        for _ in 0..self.plan.rollbacks {
            let node = self.rng.index(self.nodes.len());
            let at = self.rng.below(active + 1);
            self.after(at / 2, Happening::Backup(node));
            self.after(at, Happening::RollBack(node));
        }
        self.plan_often(self.plan.lost_indexes, Happening::LoseIndex);
        self.plan_often(self.plan.clock_jumps, Happening::ClockJumps);
        self.plan_often(self.plan.pattern_edits, Happening::Patterns);
        self.plan_often(self.plan.decisions, Happening::Decide);
        self.plan_often(self.plan.rots, Happening::Rot);
        self.plan_often(self.plan.verifies, Happening::Verify);
        for _ in 0..self.plan.full_disks {
            let node = self.rng.index(self.nodes.len());
            self.within(active, Happening::Full { node, is_full: true });
            self.within(active, Happening::Full { node, is_full: false });
        }
        for power in [false, true] {
            let crashes = if power { self.plan.power_cuts } else { self.plan.kills };
            for _ in 0..crashes {
                let node = self.rng.index(self.nodes.len());
                self.within(active, Happening::Crash { node, power });
                self.within(active, Happening::Start(node));
            }
        }
    }

    /// So many of one sort, each at any node and any time.
    fn plan_often(&mut self, times: u64, what: fn(NodeId) -> Happening) {
        for _ in 0..times {
            let node = self.rng.index(self.nodes.len());
            self.within(self.plan.active_ns, what(node));
        }
    }

    /// What came later than most seeds: by chance of its own, so that their courses stay what they
    /// were.
    pub fn plan_own(&mut self) {
        let active = self.plan.active_ns;
        for _ in 0..self.plan.questions {
            let at = self.own.below(active + 1);
            self.after(at, Happening::Ask);
        }
        for _ in 0..self.plan.pauses {
            let node = self.own.index(self.nodes.len());
            for paused in [true, false] {
                let at = self.own.below(active + 1);
                self.after(at, Happening::Pause { node, paused });
            }
        }
        for _ in 0..self.plan.hung_disks {
            let node = self.own.index(self.nodes.len());
            for hangs in [true, false] {
                let at = self.own.below(active + 1);
                self.after(at, Happening::Hang { node, hangs });
            }
        }
        for _ in 0..self.plan.sleeps {
            let node = self.own.index(self.nodes.len());
            let at = self.own.below(active + 1);
            let span_ns = self.own.below(active + 1 - at);
            self.after(at, Happening::Sleep { node, span_ns, whole: at.is_multiple_of(3) });
        }
        for _ in 0..self.plan.role_changes {
            let node = self.own.index(self.nodes.len());
            let at = self.own.below(active + 1);
            self.after(at, Happening::Role(node));
        }
        for _ in 0..self.plan.lies {
            let at = self.own.below(active + 1);
            self.after(at, Happening::Lie);
        }
        self.plan_membership();
        for _ in 0..self.plan.undos {
            let node = self.own.index(self.nodes.len());
            let at = self.own.below(active + 1);
            self.after(at, Happening::Undo(node));
        }
        for _ in 0..self.plan.stops {
            let node = self.own.index(self.nodes.len());
            for lost in [true, false] {
                let at = self.own.below(active + 1);
                self.after(at, Happening::Marker { node, lost });
            }
        }
    }

    /// Ends every fault: all machines run, all links that may be are tried again.
    pub fn heal(&mut self) {
        self.trace.note(self.now, format_args!("healed"));
        self.plan.overflow_permille = 0;
        self.plan.corrupt_permille = 0;
        self.plan.trouble_permille = 0;
        self.plan.blind_permille = 0;
        self.plan.misread_permille = 0;
        self.nodes.iter_mut().for_each(|node| (node.is_full, node.lost_marker) = (false, false));
        (0..self.nodes.len()).for_each(|node| self.hang(node, false));
        if self.plan.pauses > 0 {
            (0..self.nodes.len()).for_each(|node| self.pause(node, false));
        }
        for pair in 0..self.plan.pairs.len() {
            self.part(pair, false);
        }
        for node in 0..self.nodes.len() {
            self.soon(SECOND, Happening::Start(node));
        }
    }
}
