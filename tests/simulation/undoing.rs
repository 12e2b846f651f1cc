//! Users who delete most of what there is, at one machine or at two, and take it back: at one
//! machine, or at all that hold something at once. Some of these machines crash before they are
//! done.
//!
//! What was live before is live again on every machine, as it was, and nothing is a conflict. An
//! order is given once: a crash forgets none.

use super::ledger::NodeId;
use super::plan::{MS, Plan, SECOND};
use super::rng::Rng;
use super::trace::Kept;
use super::tree::{Data, Value};
use super::users::{Op, path};
use super::world::World;
use super::{each_seed_of, number};
use dirsyncd::engine::{Engine, Event, Undone};
use dirsyncd::model::{FileTime, Mode, SyncPath};
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 60;
pub const FILES: usize = 110;
const FOLDERS: usize = 4;
/// By then whoever was ordered to undo has answered (ns).
const ANSWERED_NS: u64 = 15 * SECOND;
/// Until everything that is deleted is told or held (ns).
pub const LONG_ENOUGH_NS: u64 = 90 * SECOND;

pub type Tree = BTreeMap<SyncPath, (Option<Value>, Mode, FileTime)>;

pub fn name(n: usize) -> SyncPath {
    path(&format!("g{}/f{n:03}", n % FOLDERS))
}

/// The files and links of a node, as they are.
pub fn things(world: &World, node: NodeId) -> Tree {
    let listing = world.nodes[node].disk.live.listing().into_iter();
    let thing = |inode: &super::tree::Inode| (inode.value(), inode.mode, inode.mtime);
    listing.filter(|(_, (_, inode))| !inode.is_directory()).map(|(path, (_, inode))| (path, thing(&inode))).collect()
}

/// The same on all machines, from before they were first started.
pub fn lay(world: &mut World, rng: &mut Rng) {
    let mut ops = Vec::new();
    for n in 0..FILES {
        let text = if n % 10 == 0 { "as others".to_owned() } else { format!("content {n:03}") };
        let mtime = Some(FileTime { secs: 1_500_000_000 + n as i64, nanos: 5 });
        ops.push(Op::Save { path: name(n), data: Data::small(text.into_bytes()), mtime });
        if rng.chance(100) {
            ops.push(Op::Chmod { path: name(n), mode: Mode(0o600) });
        }
    }
    for node in 0..world.nodes.len() {
        for op in &ops {
            world.user_does(node, op);
        }
        for n in 0..FOLDERS {
            let link = path(&format!("g{n}/link"));
            world.user_does(node, &Op::Link { path: link.clone(), target: b"f000".to_vec() });
            world.user_does(node, &Op::Touch { path: link, mtime: FileTime { secs: 1_500_000_000, nanos: 0 } });
        }
        world.nodes[node].disk.sync_all();
    }
}

/// More than half goes, in bursts and pauses, so that some of it is told before the rest is held.
/// At how many machines, from the first on.
pub fn delete(world: &mut World, rng: &mut Rng) -> usize {
    let deleters = if rng.chance(400) { 2 } else { 1 };
    let mut left: Vec<usize> = (0..FILES).collect();
    let goal = FILES - rng.index(FILES * 35 / 100);
    let mut gone = 0;
    while gone < goal {
        let node = rng.index(deleters);
        if rng.chance(100) {
            let folder = rng.index(FOLDERS);
            gone += left.extract_if(.., |n| *n % FOLDERS == folder).count();
            world.user_does(node, &Op::Remove { path: path(&format!("g{folder}")) });
        }
        for _ in 0..=rng.index(30) {
            if gone < goal && !left.is_empty() {
                let n = left.swap_remove(rng.index(left.len()));
                gone += 1;
                world.user_does(node, &Op::Remove { path: name(n) });
            }
        }
        let pause = *rng.pick(&[MS, 50 * MS, 500 * MS, 3 * SECOND, 20 * SECOND]);
        world.run_for(pause);
    }
    deleters
}

/// A crash, of the machine that is returned, or a cut cable, or nothing.
pub fn disturb(world: &mut World, rng: &mut Rng) -> Option<NodeId> {
    let node = rng.index(world.nodes.len());
    let kind = rng.below(6);
    match kind {
        0 => {
            world.crash(node, false);
            world.run_for(rng.between(MS, 5 * SECOND));
            world.start(node);
        }
        1 => part(world, rng),
        _ => {}
    }
    (kind == 0).then_some(node)
}

fn part(world: &mut World, rng: &mut Rng) {
    let pair = rng.index(world.plan.pairs.len());
    world.part(pair, true);
    world.run_for(rng.between(MS, 20 * SECOND));
    world.part(pair, false);
}

fn undoable(world: &World, node: NodeId) -> Vec<SyncPath> {
    world.nodes[node].engine.as_ref().map(Engine::undoable).unwrap_or_default()
}

/// Whether users of all machines did away with what was at a path: no history has it.
fn is_nowhere(world: &World, before: &Tree, path: &SyncPath) -> bool {
    let Some((Some(value), ..)) = before.get(path) else { return false };
    !world.nodes.iter().any(|node| node.disk.live.values().contains(value))
}

fn undo(world: &mut World, node: NodeId) {
    let folders = (0..FOLDERS).flat_map(|n| [path(&format!("g{n}")), path(&format!("g{n}/link"))]);
    let all: Vec<_> = (0..FILES).map(name).chain(folders).collect();
    // Whoever is linked takes back what it holds, too.
    (0..world.nodes.len()).for_each(|node| world.ledger.undone(node, all.iter()));
    world.tell(node, Event::Undo { ticket: 1, dry_run: false });
}

/// What a node answered of what stays away: no machine that it asked has it.
fn left(world: &mut World, before: &Tree, node: NodeId) -> Result<Vec<SyncPath>, String> {
    let undone = world.nodes[node].engine.as_mut().and_then(|engine| engine.take_undone(1));
    let Some(Undone { lost, silent, .. }) = undone else { return Ok(Vec::new()) };
    let asked = [linked(world, node, &silent), vec![node]].concat();
    let here = things(world, node);
    for path in lost.iter().filter(|path| !here.contains_key(*path)) {
        let Some((Some(value), ..)) = before.get(path) else { continue };
        // What another path holds, too, may have come back there since it was asked for.
        if before.values().filter(|(other, ..)| other.as_ref() == Some(value)).count() > 1 {
            continue;
        }
        let is_there = |asked: &&NodeId| world.nodes[**asked].disk.live.values().contains(value);
        if let Some(other) = asked.iter().find(is_there) {
            return Err(format!("n{node} found nothing of {path:?}, and n{other} has it"));
        }
    }
    Ok(lost)
}

/// The nodes that a node is linked with, and that were not silent.
fn linked(world: &mut World, node: NodeId, silent: &[String]) -> Vec<NodeId> {
    let peers = world.nodes[node].engine.as_mut().map(|engine| engine.status().peers).unwrap_or_default();
    let is_asked = |name: &String| !silent.contains(name) && peers.iter().any(|peer| peer.name == *name);
    (0..world.nodes.len()).filter(|other| is_asked(&format!("n{other}"))).collect()
}

/// Whoever holds something takes it back, one after the other or all at once, until nobody holds
/// anything; whether anyone had to.
fn undo_all(world: &mut World, before: &Tree, rng: &mut Rng, named: &mut BTreeSet<SyncPath>) -> Result<bool, String> {
    let mut any = false;
    for _ in 0..2 * world.nodes.len() {
        let mut holders: Vec<NodeId> =
            (0..world.nodes.len()).filter(|node| !undoable(world, *node).is_empty()).collect();
        if holders.is_empty() {
            break;
        }
        any = true;
        if rng.chance(500) {
            holders = vec![*rng.pick(&holders)];
        }
        let mut interrupted = Vec::new();
        for node in holders {
            undo(world, node);
            world.run_for(*rng.pick(&[0, MS, 100 * MS]));
            if rng.chance(50) {
                part(world, rng);
            }
            if rng.chance(200) && is_ordered(world, node) {
                // Whoever ordered it has the answer as soon as there is one.
                named.extend(left(world, before, node)?);
                world.crash(node, false);
                world.run_for(rng.between(MS, 5 * SECOND));
                world.start(node);
                interrupted.push(node);
            }
        }
        // A person waits for the answer.
        world.run_for(ANSWERED_NS);
        for node in 0..world.nodes.len() {
            named.extend(left(world, before, node)?);
        }
        if rng.chance(200) {
            disturb(world, rng);
        }
        world.run_for(LONG_ENOUGH_NS);
        for node in interrupted {
            check_carried_out(world, before, node)?;
        }
    }
    Ok(any)
}

/// Whether an order waits to be carried out, and a crash leaves it.
fn is_ordered(world: &World, node: NodeId) -> bool {
    world.nodes[node].durable.meta.get("undo.order").is_some_and(|order| !order.is_empty())
}

/// A crash came before an order was carried out: nothing is left to be undone that a linked machine
/// has.
fn check_carried_out(world: &mut World, before: &Tree, node: NodeId) -> Result<(), String> {
    let asked = linked(world, node, &[]);
    if is_ordered(world, node) && !asked.is_empty() {
        return Err(format!("n{node} crashed, and its user's order still waits"));
    }
    for path in undoable(world, node) {
        let Some((Some(value), ..)) = before.get(&path) else { continue };
        let has = |asked: &&NodeId| world.nodes[**asked].disk.live.values().contains(value);
        if let Some(other) = asked.iter().find(has) {
            return Err(format!("n{node} crashed and forgot that {path:?} is wanted back: n{other} has it"));
        }
    }
    Ok(())
}

/// Whether a path went where a hold ended by itself with it.
fn has_ended(world: &World, path: &SyncPath) -> bool {
    let is_gone = |node: NodeId| world.nodes[node].disk.live.get(path).is_none();
    world.holds_ended.iter().any(|(node, ended)| ended == path && is_gone(*node))
}

/// What users of all machines deleted stays held, and was named: they let that go.
fn give_up(world: &mut World, before: &Tree) -> Result<(), String> {
    for node in 0..world.nodes.len() {
        let held = undoable(world, node);
        if let Some(path) = held.iter().find(|path| before.contains_key(*path) && !is_nowhere(world, before, path)) {
            return Err(format!("n{node} still holds {path:?}, and it is to be had"));
        }
        if !held.is_empty() {
            world.tell(node, Event::Confirm);
            world.run_for(LONG_ENOUGH_NS);
        }
    }
    Ok(())
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
    let before = things(world, 0);
    (0..nodes).for_each(|node| world.start(node));
    // What came less than five minutes ago may have been moved there.
    world.run_for(400 * SECOND);
    delete(world, rng);
    disturb(world, rng);
    world.run_for(LONG_ENOUGH_NS);
    let mut named = BTreeSet::new();
    let any = match undo_all(world, &before, rng, &mut named) {
        Ok(any) => any,
        Err(what) => return Some(what),
    };
    world.heal();
    world.run_for(LONG_ENOUGH_NS);
    if let Err(what) = give_up(world, &before) {
        return Some(what);
    }
    world.rest();
    if world.broken.is_some() {
        return world.broken.take();
    }
    if !any {
        return Some("most files are gone, and there is nothing to undo".to_owned());
    }
    if world.conflicts > 0 {
        return Some(format!("{} conflicts", world.conflicts));
    }
    for node in 0..nodes {
        let now = things(world, node);
        // Of a machine that was not linked at the undo, what its user deleted is ordinary work by
        // then: it is in history.
        let is_excused = |path: &SyncPath| {
            named.contains(path)
                || world.stays_away.contains(path)
                || is_nowhere(world, &before, path)
                || (!now.contains_key(path) && has_ended(world, path))
        };
        let differs = before.iter().find(|(path, thing)| now.get(*path) != Some(thing) && !is_excused(path));
        if let Some((path, thing)) = differs {
            return Some(format!("n{node} has {:?} at {path:?}, and there was {thing:?}", now.get(path)));
        }
        if now.len() > before.len() {
            return Some(format!("n{node} has {} paths, and there were {}", now.len(), before.len()));
        }
    }
    None
}

#[test]
fn seeds_in_which_most_is_deleted_and_taken_back() {
    each_seed_of(SEEDS, run);
}
