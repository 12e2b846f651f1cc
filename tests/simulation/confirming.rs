//! Users who delete most of what there is, and mean it: they confirm once for each machine at which
//! they did so.
//!
//! Then nobody holds anything, also who was away at that moment, and what is left is the same
//! everywhere.

use super::ledger::NodeId;
use super::plan::{MS, Plan, SECOND};
use super::rng::Rng;
use super::trace::Kept;
use super::undoing::{FILES, LONG_ENOUGH_NS, delete, disturb, lay, name, things};
use super::world::World;
use super::{each_seed_of, number};
use dirsyncd::engine::Event;

const SEEDS: u64 = 60;

/// Deletions that are held at a machine; none if it is not running.
fn held(world: &World, node: NodeId) -> u64 {
    world.nodes[node].engine.as_ref().map_or(0, |engine| engine.held(0).deletions)
}

/// A person sees to the machines at which they deleted before the others.
fn next_holder(world: &World) -> Option<NodeId> {
    (0..world.nodes.len()).find(|node| held(world, *node) > 0)
}

fn run(seed: u64) -> Option<String> {
    play(seed, if number("DIRSYNC_SEED").is_some() { Kept::Lines } else { Kept::Nothing }).1
}

pub fn boundary(seed: u64) -> String {
    play(seed, Kept::Hash).0.boundary.hash()
}

fn play(seed: u64, kept: Kept) -> (World, Option<String>) {
    let mut rng = Rng::new(seed);
    let plan = Plan::sound(&mut rng);
    let mut world = World::new(rng.next(), plan, kept);
    let broken = course(&mut world, &mut rng);
    (world, broken)
}

fn course(world: &mut World, rng: &mut Rng) -> Option<String> {
    let nodes = world.nodes.len();
    lay(world, rng);
    (0..nodes).for_each(|node| world.start(node));
    // What came less than five minutes ago may have been moved there.
    world.run_for(400 * SECOND);
    // One that is away while the others delete and confirm.
    let away = (nodes > 2 && rng.chance(500)).then_some(nodes - 1);
    if let Some(away) = away {
        world.crash(away, false);
    }
    let deleters = delete(world, rng);
    world.run_for(LONG_ENOUGH_NS);
    let (mut any, mut confirmed) = (false, 0);
    while let Some(node) = next_holder(world) {
        if confirmed == deleters {
            return Some(format!("n{node} holds {} after {confirmed} confirmations", held(world, node)));
        }
        confirmed += 1;
        any = true;
        world.tell(node, Event::Confirm);
        world.run_for(*rng.pick(&[0, MS, 100 * MS]));
        // What is missing there is made a deletion a moment later: a crash before that has it held
        // again.
        if rng.chance(300) && disturb(world, rng) == Some(node) {
            confirmed -= 1;
        }
        world.run_for(LONG_ENOUGH_NS);
    }
    if let Some(away) = away {
        world.start(away);
    }
    world.heal();
    world.rest();
    if world.broken.is_some() {
        return world.broken.take();
    }
    if !any {
        return Some("most files are gone, and nobody held anything".to_owned());
    }
    if world.conflicts > 0 {
        return Some(format!("{} conflicts", world.conflicts));
    }
    let left = things(world, 0);
    for node in 0..nodes {
        if held(world, node) > 0 {
            return Some(format!("n{node} holds {} in the end", held(world, node)));
        }
        if things(world, node) != left {
            return Some(format!("n{node} has other files than n0"));
        }
    }
    let files = (0..FILES).filter(|n| left.contains_key(&name(*n))).count();
    (files > FILES / 2).then(|| format!("{files} of {FILES} files came back"))
}

#[test]
fn seeds_in_which_most_is_deleted_and_confirmed() {
    each_seed_of(SEEDS, run);
}
