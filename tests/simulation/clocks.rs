//! Clocks that are ten years ahead for a while, with a restart meanwhile, and then right again.
//!
//! Deliberately not here: clocks that are off by less than five years, which every seed has.

use super::plan::{MS, Plan, SECOND};
use super::rng::Rng;
use super::trace::Kept;
use super::tree::{Body, Data};
use super::users::{Op, path};
use super::world::World;

const SEEDS: u64 = 30;
const YEAR: i64 = 365 * 24 * 3600 * SECOND as i64;
/// Later than the build's date, so that a clock counts as set.
const TODAY: i64 = 6 * YEAR;

fn save(world: &mut World, node: usize, at: &str, text: &str) {
    let data = Data::small(text.as_bytes().to_vec());
    world.user_does(node, &Op::Save { path: path(at), data, mtime: None });
}

/// The peers compare their clocks every 3 s.
fn run(world: &mut World, seconds: u64) {
    for _ in 0..seconds.div_ceil(3) {
        world.compare_clocks();
        world.run_for(3 * SECOND);
    }
}

fn read(world: &World, node: usize, at: &str) -> Option<String> {
    let (_, inode) = world.nodes[node].disk.live.get(&path(at))?;
    match &inode.body {
        Body::File(data) => Some(String::from_utf8_lossy(&data.text).into_owned()),
        _ => None,
    }
}

#[test]
fn what_was_made_ten_years_ahead_arrives_when_the_clock_is_right_again() {
    for seed in 1..=SEEDS {
        let mut rng = Rng::new(seed);
        let nodes = *rng.pick(&[2, 3]);
        let mut plan = Plan { skew_ns: vec![TODAY; nodes], ..Plan::quiet(nodes) };
        plan.latency_ns = *rng.pick(&[MS, 200 * MS]);
        plan.disk_ns = *rng.pick(&[MS, 100 * MS]);
        let mut world = World::new(seed, plan, Kept::Nothing);
        (0..nodes).for_each(|node| world.start(node));
        run(&mut world, 10);
        for at in ["edited", "deleted", "d/old"] {
            save(&mut world, 0, at, "before");
        }
        run(&mut world, 10);
        // In some worlds another machine is as wrong, and takes what the first makes.
        let wrong = if nodes > 2 && rng.chance(500) { 2 } else { 1 };
        for node in 0..wrong {
            world.nodes[node].skew_ns += 10 * YEAR;
            world.nodes[node].redates = true;
        }
        run(&mut world, 5);
        save(&mut world, 0, "new", "ahead");
        save(&mut world, 0, "again", "ahead");
        save(&mut world, 0, "e/new", "ahead");
        save(&mut world, 0, "edited", "ahead");
        world.user_does(0, &Op::Remove { path: path("deleted") });
        run(&mut world, 10);
        world.crash(0, false);
        world.start(0);
        run(&mut world, 20);
        assert_eq!(read(&world, nodes - 1, "new").is_some(), wrong == nodes, "seed {seed}: it is held");
        (0..wrong).for_each(|node| world.nodes[node].skew_ns -= 10 * YEAR);
        save(&mut world, 0, "again", "back");
        run(&mut world, 60);
        world.rest();
        assert_eq!(world.broken, None, "seed {seed}");
        for node in 0..nodes {
            let held = ["new", "again", "e/new", "edited", "deleted", "d/old"].map(|at| read(&world, node, at));
            let texts = held.each_ref().map(|text| text.as_deref());
            let expected = [Some("ahead"), Some("back"), Some("ahead"), Some("ahead"), None, Some("before")];
            assert_eq!(texts, expected, "seed {seed}, n{node}");
        }
        save(&mut world, nodes - 1, "new", "on top");
        run(&mut world, 10);
        world.rest();
        assert_eq!((world.broken.clone(), read(&world, 0, "new").as_deref()), (None, Some("on top")), "seed {seed}");
    }
}
