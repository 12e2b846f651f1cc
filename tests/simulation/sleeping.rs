//! Machines whose daemon sleeps while its user works: a stopped process, for minutes or hours.
//!
//! Both clocks go on, as the system's do for a process that is stopped. What comes to it waits:
//! events of its disk, and what links bring until the other ends give them up. Of two edits the
//! later one wins, however late it is discovered. Where a whole machine sleeps, so does its user,
//! and its steady clock (`CLOCK_MONOTONIC`) stands.

use super::ledger::NodeId;
use super::plan::{MS, Plan, SECOND};
use super::rng::Rng;
use super::trace::Kept;
use super::tree::{Data, Value};
use super::users::{Op, path};
use super::world::{Happening, World};
use super::{each_seed_of, number};
use std::collections::BTreeMap;

const SEEDS: u64 = 60;
const MINUTE: u64 = 60 * SECOND;
/// A silent link is given up after this (ns).
const SILENT_NS: u64 = 15 * SECOND;
/// Edits of one file that are closer to each other than this (ns) have no order.
const APART_NS: u64 = 3 * SECOND;
const FILES: [&str; 6] = ["a", "b", "d/a", "d/b", "e/f/a", "new/a"];

impl World {
    pub fn is_asleep(&self, node: NodeId) -> bool {
        self.now < self.nodes[node].asleep_until
    }

    /// What is to happen to a daemon that is asleep happens when it wakes, in its order.
    pub fn put_off(&mut self, what: Happening) -> Option<Happening> {
        let node = match &what {
            Happening::Local(node, ..) => *node,
            Happening::Arrives { link, side, .. } | Happening::Breaks { link, side } => self.net.end_of(*link, *side),
            _ => return Some(what),
        };
        if !self.is_asleep(node) {
            return Some(what);
        }
        self.after(self.nodes[node].asleep_until - self.now, what);
        None
    }

    /// The daemon stops for so long (ns); its peers give up its links. `whole`: the machine does,
    /// user, steady clock and all.
    pub fn sleep(&mut self, node: NodeId, span_ns: u64, whole: bool) {
        if !self.nodes[node].is_up() || self.is_asleep(node) {
            return;
        }
        self.trace.note(self.now, format_args!("n{node} sleeps for {} ms, whole: {whole}", span_ns / MS));
        self.nodes[node].asleep_until = self.now + span_ns;
        if whole {
            self.nodes[node].suspend(self.now, span_ns);
        }
        if span_ns > SILENT_NS {
            for pair in self.net.pairs_of(node) {
                self.after(SILENT_NS, Happening::CutLink { pair });
            }
        }
    }
}

/// Who edited each file last, and when.
type Last = BTreeMap<&'static str, (u64, Value)>;

fn edit(world: &mut World, rng: &mut Rng, last: &mut Last) {
    let (at, node) = (*rng.pick(&FILES), rng.index(world.nodes.len()));
    if last.get(at).is_some_and(|(when, _)| world.now - when < APART_NS) {
        return;
    }
    let data = Data { padding: if rng.chance(100) { 1 << 18 } else { 0 }, ..world.fresh(node) };
    let is_there = world.nodes[node].disk.live.get(&path(at)).is_some();
    let op = match rng.below(3) {
        0 if is_there => Op::Overwrite { path: path(at), data: data.clone() },
        _ => Op::Save { path: path(at), data: data.clone(), mtime: None },
    };
    world.user_does(node, &op);
    last.insert(at, (world.now, Value::File(data)));
}

fn run(seed: u64) -> Option<String> {
    play(seed, if number("DIRSYNC_SEED").is_some() { Kept::Lines } else { Kept::Nothing }).1
}

pub fn boundary(seed: u64) -> String {
    play(seed, Kept::Hash).0.boundary.hash()
}

fn play(seed: u64, kept: Kept) -> (World, Option<String>) {
    let mut rng = Rng::new(seed);
    let nodes = *rng.pick(&[2, 2, 3]);
    let mut plan = Plan::quiet(nodes);
    plan.latency_ns = *rng.pick(&[MS / 5, 5 * MS, 200 * MS]);
    plan.disk_ns = *rng.pick(&[MS / 5, 2 * MS, 100 * MS]);
    plan.hint_ns = *rng.pick(&[MS / 5, 20 * MS]);
    plan.tick_ns = *rng.pick(&[MS, 4 * MS, SECOND]);
    // A queue that is full when the daemon wakes.
    plan.overflow_permille = if rng.chance(300) { 300 } else { 0 };
    let mut world = World::new(rng.next(), plan, kept);
    let broken = course(&mut world, &mut rng);
    (world, broken)
}

fn course(world: &mut World, rng: &mut Rng) -> Option<String> {
    let nodes = world.nodes.len();
    (0..nodes).for_each(|node| world.start(node));
    let mut last = Last::new();
    world.run_for(20 * SECOND);
    for at in &FILES[..4] {
        let data = world.fresh(0);
        world.user_does(0, &Op::Save { path: path(at), data: data.clone(), mtime: None });
        last.insert(at, (world.now, Value::File(data)));
    }
    world.run_for(2 * MINUTE);
    for _ in 0..=rng.below(3) {
        let span = *rng.pick(&[5 * SECOND, 20 * SECOND, MINUTE, 20 * MINUTE, 180 * MINUTE]);
        let sleepers = 1 + rng.index(2);
        for _ in 0..sleepers {
            let node = rng.index(nodes);
            world.sleep(node, span, false);
        }
        let edits = rng.between(1, 8);
        for _ in 0..edits {
            edit(world, rng, &mut last);
            world.run_for(rng.between(APART_NS, APART_NS + 2 * span / edits));
        }
        world.run_for(span);
        world.run_for(*rng.pick(&[SECOND, 30 * SECOND, 3 * MINUTE]));
    }
    world.heal();
    world.rest();
    if world.broken.is_some() {
        return world.broken.take();
    }
    for node in 0..nodes {
        for (at, (_, value)) in &last {
            let there = world.nodes[node].disk.live.get(&path(at)).and_then(|(_, inode)| inode.value());
            if there.as_ref() != Some(value) {
                return Some(format!("n{node} has {there:?} at {at}, and {value:?} was written last"));
            }
        }
    }
    None
}

#[test]
fn seeds_in_which_daemons_sleep_while_their_users_work() {
    each_seed_of(SEEDS, run);
}
