//! Renames of folders, on disks and links of every speed: no content is sent for one.
//!
//! A slow disk shows the old names missing before it has hashed what is under the new ones.
//! Deliberately not here: renames beside faults and other users (`users.rs`).

use super::plan::{MS, Plan, SECOND};
use super::rng::Rng;
use super::trace::Kept;
use super::tree::Data;
use super::users::{Op, path};
use super::world::World;

const SEEDS: u64 = 20;
const FILES: u64 = 24;

/// No faults, and nobody but who renames.
fn plan(rng: &mut Rng) -> Plan {
    let mut plan = Plan::quiet(*rng.pick(&[2, 2, 3]));
    plan.latency_ns = *rng.pick(&[MS / 5, 50 * MS, 500 * MS]);
    plan.disk_ns = *rng.pick(&[MS / 5, 20 * MS, 400 * MS, 2 * SECOND]);
    plan.hint_ns = *rng.pick(&[MS / 5, 20 * MS, 300 * MS]);
    plan
}

/// Small files, and large ones that no message carries.
fn data(seed: u64, n: u64) -> Data {
    let padding = if n.is_multiple_of(5) { 1 << 18 } else { 0 };
    Data { padding, ..Data::small(format!("{seed}: file {n}").into_bytes()) }
}

fn files_at(world: &World, node: usize, folder: &str) -> usize {
    let below = format!("{folder}/");
    let listing = world.nodes[node].disk.live.listing();
    listing.keys().filter(|path| path.as_bytes().starts_with(below.as_bytes())).count()
}

#[test]
fn a_renamed_folder_sends_no_content_however_slow_the_disks_are() {
    for seed in 1..=SEEDS {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed, plan(&mut rng), Kept::Nothing);
        (0..world.nodes.len()).for_each(|node| world.start(node));
        world.run_for(10 * SECOND);
        for n in 0..FILES {
            let at = path(&format!("r0/{}/f{n}", n % 3));
            world.user_does(0, &Op::Save { path: at, data: data(seed, n), mtime: None });
        }
        world.rest();
        let whole = files_at(&world, 0, "r0");
        let before = world.contents_sent;
        assert!(before >= FILES, "they were sent once: {before}");
        for round in 1..=4 {
            let (node, to) = (rng.index(world.nodes.len()), format!("r{round}"));
            let from = path(&format!("r{}", round - 1));
            world.user_does(node, &Op::Rename { from, to: path(&to) });
            world.rest();
            assert_eq!(world.broken, None, "seed {seed}");
            let there: Vec<_> = (0..world.nodes.len()).map(|node| files_at(&world, node, &to)).collect();
            assert!(there.iter().all(|count| *count == whole), "seed {seed}, rename {round}: {there:?} of {whole}");
            assert_eq!(world.contents_sent, before, "seed {seed}, rename {round} sent contents");
        }
    }
}
