//! Many engines, one deterministic world: disks that forget, links that break, clocks that lie,
//! users who collide.
//!
//! `DIRSYNC_SEEDS=N` runs N seeds, `DIRSYNC_SEED=S` runs that one and shows every event and action.

mod boundary;
mod bugs;
mod claims;
mod clocks;
mod confirming;
mod course;
mod deciding;
mod disk;
mod ledger;
mod membership;
mod merging;
mod network;
mod node;
mod obstacles;
mod oracle;
mod parts;
mod patterns;
mod plan;
mod readers;
mod recorded;
mod renames;
mod rhythms;
mod rng;
mod roles;
mod rot;
mod scenarios;
mod scrubbing;
mod shell;
mod sleeping;
mod swap;
mod torn;
mod trace;
mod tree;
mod undoing;
mod users;
mod world;

use dirsyncd::engine::OnConflict;
use plan::Plan;
use rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use trace::Kept;
use world::World;

const SEEDS: u64 = 1500;
const SEEDS_BOTH: u64 = 300;
const SEEDS_MERGED: u64 = 300;
const SEEDS_OBSTRUCTED: u64 = 300;
const SEEDS_WITH_ROLES: u64 = 100;
const SEEDS_WITH_OTHER_ROLES: u64 = 60;
const SEEDS_WITH_READERS: u64 = 100;
const SEEDS_WITH_MEMBERSHIP: u64 = 150;
const THREADS: usize = 2;

/// What became of a seed.
struct Ran {
    /// The promise that it breaks, if any.
    broken: Option<String>,
    trace: String,
    boundary: String,
    /// In the simulated world.
    took_ns: u64,
}

/// What a seed makes: the test that runs it, and its plan.
struct Kind {
    test: &'static str,
    /// `None`: the plan says.
    on_conflict: Option<OnConflict>,
    plan: fn(&mut Rng) -> Plan,
}

const NEWEST: Kind = Kind { test: "seeds", on_conflict: Some(OnConflict::Newest), plan: Plan::random };
const BOTH: Kind = Kind {
    test: "seeds_in_which_both_sides_of_a_conflict_are_kept",
    on_conflict: Some(OnConflict::KeepBoth),
    plan: Plan::random,
};
const MERGED: Kind =
    Kind { test: "seeds_in_which_conflicts_are_merged", on_conflict: Some(OnConflict::Merge), plan: Plan::random };
const OBSTRUCTED: Kind = Kind {
    test: "seeds_in_which_names_fold_or_special_files_are_in_the_way",
    on_conflict: Some(OnConflict::Newest),
    plan: Plan::with_obstacles,
};

const WITH_ROLES: Kind = Kind { test: "seeds_in_which_machines_have_roles", on_conflict: None, plan: Plan::with_roles };

const WITH_OTHER_ROLES: Kind =
    Kind { test: "seeds_in_which_machines_get_other_roles", on_conflict: None, plan: Plan::with_other_roles };

const WITH_READERS: Kind =
    Kind { test: "seeds_in_which_members_that_may_only_read_lie", on_conflict: None, plan: Plan::with_readers };

const WITH_MEMBERSHIP: Kind = Kind {
    test: "seeds_in_which_machines_join_secrets_rotate_and_one_is_removed",
    on_conflict: None,
    plan: Plan::with_membership,
};

fn run(seed: u64, kind: &Kind, kept: Kept) -> Ran {
    let mut rng = Rng::new(seed);
    let mut plan = (kind.plan)(&mut rng);
    plan.on_conflict = kind.on_conflict.unwrap_or(plan.on_conflict);
    if kept == Kept::Lines {
        println!("seed {seed}: {plan:#?}");
    }
    let mut world = World::new(rng.next(), plan, kept);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    if ran.is_err() {
        world.fail("something panicked".to_owned());
    }
    Ran { broken: world.broken.take(), trace: world.trace.hash(), boundary: world.boundary.hash(), took_ns: world.now }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn replay(seed: u64, kind: &Kind, what: &str) -> String {
    let test = kind.test;
    format!(
        "seed {seed}: {what}\n  replay: DIRSYNC_SEED={seed} cargo test --test simulation -- --exact {test} --nocapture"
    )
}

#[test]
fn seeds() {
    run_all(&NEWEST, SEEDS);
}

#[test]
fn seeds_in_which_both_sides_of_a_conflict_are_kept() {
    run_all(&BOTH, SEEDS_BOTH);
}

#[test]
fn seeds_in_which_conflicts_are_merged() {
    run_all(&MERGED, SEEDS_MERGED);
}

#[test]
fn seeds_in_which_names_fold_or_special_files_are_in_the_way() {
    run_all(&OBSTRUCTED, SEEDS_OBSTRUCTED);
}

#[test]
fn seeds_in_which_machines_have_roles() {
    run_all(&WITH_ROLES, SEEDS_WITH_ROLES);
}

#[test]
fn seeds_in_which_machines_get_other_roles() {
    run_all(&WITH_OTHER_ROLES, SEEDS_WITH_OTHER_ROLES);
}

#[test]
fn seeds_in_which_members_that_may_only_read_lie() {
    run_all(&WITH_READERS, SEEDS_WITH_READERS);
}

#[test]
fn seeds_in_which_machines_join_secrets_rotate_and_one_is_removed() {
    run_all(&WITH_MEMBERSHIP, SEEDS_WITH_MEMBERSHIP);
}

fn run_all(kind: &Kind, seeds: u64) {
    if let Some(seed) = number("DIRSYNC_SEED") {
        let kept = if number("DIRSYNC_TRACE") == Some(0) { Kept::Nothing } else { Kept::Lines };
        if let Some(what) = run(seed, kind, kept).broken {
            panic!("{}", replay(seed, kind, &what));
        }
        return;
    }
    let simulated_ns = AtomicU64::new(0);
    each_seed(seeds, |seed| {
        let ran = run(seed, kind, Kept::Nothing);
        simulated_ns.fetch_add(ran.took_ns, Ordering::Relaxed);
        ran.broken.map(|what| replay(seed, kind, &what))
    });
    println!("{} simulated hours", simulated_ns.into_inner() / 3_600_000_000_000);
}

/// The seed of `DIRSYNC_SEED` alone, or as `each_seed`.
fn each_seed_of(seeds: u64, run: impl Fn(u64) -> Option<String> + Sync) {
    if let Some(seed) = number("DIRSYNC_SEED") {
        assert_eq!(run(seed), None);
        return;
    }
    each_seed(seeds, |seed| run(seed).map(|what| format!("seed {seed}: {what}")));
}

/// Runs so many seeds, or `DIRSYNC_SEEDS`, on all threads. `run` says what a seed breaks.
fn each_seed(seeds: u64, run: impl Fn(u64) -> Option<String> + Sync) {
    let (first, count) = (number("DIRSYNC_FIRST").unwrap_or(1), number("DIRSYNC_SEEDS").unwrap_or(seeds));
    let next = AtomicU64::new(first);
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    if let Some(what) = run(seed) {
                        println!("{what}");
                        broken.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let mut broken = broken.into_inner().unwrap();
    broken.sort_unstable();
    assert!(
        broken.is_empty(),
        "{} of {count} seeds break a promise, the first: {:?}",
        broken.len(),
        &broken[..broken.len().min(20)]
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7, 42, 1234] {
        let (first, second) = (run(seed, &NEWEST, Kept::Hash), run(seed, &NEWEST, Kept::Hash));
        assert_eq!((first.trace, first.boundary), (second.trace, second.boundary), "seed {seed}");
    }
}

/// Another seed is another course; and with `DIRSYNC_BOUNDARY`, a line for each seed of each kind
/// is written to that file (`boundary.sh`).
#[test]
fn each_seed_has_its_own_boundary_trace() {
    let file = std::env::var_os("DIRSYNC_BOUNDARY");
    let seeds = if file.is_some() { number("DIRSYNC_SEEDS").unwrap_or(1000) } else { 4 };
    let mut text = String::new();
    let mut of_kind = |name: &str, boundary: &(dyn Fn(u64) -> String + Sync)| {
        let hashes = Mutex::new(BTreeMap::new());
        each_seed(seeds, |seed| {
            let hash = boundary(seed);
            hashes.lock().unwrap().insert(seed, hash);
            None
        });
        let hashes = hashes.into_inner().unwrap();
        assert_eq!(hashes.values().collect::<BTreeSet<_>>().len(), hashes.len(), "{name}");
        for (seed, hash) in hashes {
            writeln!(text, "{name} {seed} {}", &hash[..16]).unwrap();
        }
    };
    for kind in [&NEWEST, &BOTH, &MERGED, &OBSTRUCTED] {
        of_kind(kind.test, &|seed| run(seed, kind, Kept::Hash).boundary);
    }
    of_kind("undoing", &undoing::boundary);
    of_kind("confirming", &confirming::boundary);
    of_kind("sleeping", &sleeping::boundary);
    if let Some(file) = file {
        std::fs::write(file, text).expect("a file of hashes");
    }
}
