//! Bugs that can be put into the simulated shell, disk, network and index, each of which the
//! oracles must find.
//!
//! The engine is the real one and knows nothing of them: it is told lies, or what it asks for is
//! done wrongly, as a shell with that bug would. Deliberately not here: where each is done
//! (`World::has` says).

use super::plan::{MS, Plan, SECOND};
use super::rng::Rng;
use super::trace::Kept;
use super::world::World;
use dirsyncd::engine::OnConflict;
use dirsyncd::model::{Entry, Kind};
use dirsyncd::wire::condition::Condition;
use dirsyncd::wire::message::Message;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every bug must be found within so many seeds.
const WITHIN_SEEDS: u64 = 150;

macro_rules! bugs {
    ($($name:ident: $what:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug { $($name,)* }

        impl Bug {
            const ALL: &[Self] = &[$(Self::$name,)*];

            fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }
        }
    };
}

bugs! {
    SkipsTheExchangeCheck: "an install replaces whatever is there",
    ActsBeforeTheCommit: "actions run before the index is durable",
    ReportsBeforeDurable: "an install is reported before its folder is durable",
    InstallsUnsynced: "a file is put in place before its bytes are durable",
    TellsUnsynced: "a look tells what is not durable yet",
    StatsAfterTheHash: "a look tells the stat from after the hash",
    SkipsTheSecondHash: "a second hash is not done while the stat stands",
    LooksAtSizeAndMtime: "a look compares size and mtime alone",
    DropsTheStampRule: "versions are ordered by mtime alone",
    LastHeardWins: "what is heard last wins",
    LosesFrames: "a link loses one frame in twenty and stays up",
    ReordersFrames: "a link delivers out of order",
    HidesBrokenLinks: "a broken link is not told",
    ForgetsFailedFetches: "a fetch that failed is not told",
    AcceptsAnyContent: "what was fetched is not verified",
    ForgetsHistory: "what is replaced is unlinked",
    DeletesRecursively: "a folder is deleted with all that is in it",
    WatchesNoNewFolders: "only what the first walk finds is watched",
    LosesHints: "a full queue of hints loses them silently",
    SwallowsEcho: "hints within 200 ms after an install are taken for its echo",
    SleepsThroughTicks: "timers beyond a second are forgotten",
    TrustsAnyFolder: "a folder that came back from a backup counts as known",
    ForgetsWhatWasInstalling: "the third column is not stored",
    TakesRotForAnEdit: "a scrub takes rot for an edit",
    MergesUponAnyBase: "two texts are merged upon any third",
    HidesPowerCuts: "a power cut is taken for a death of the process",
    ReadsPatternsOnce: "the patterns are read once",
    WalksByOldPatterns: "walks go by the patterns that were read first",
    ScrubsTheCache: "a scrub reads what is cached and not the disk",
    HidesConflicts: "what a link tells of conflicts is lost",
    HidesPauses: "a machine does not tell that it is paused, stopped, or holds something",
    CountsTheMissing: "a machine counts what is missing on its disk as done",
}

impl Bug {
    /// The faults without which nobody would meet the bug come in every seed.
    fn provoke(self, plan: &mut Plan) {
        match self {
            Self::TrustsAnyFolder => plan.restores = 2,
            Self::TakesRotForAnEdit | Self::ScrubsTheCache => (plan.rots, plan.verifies) = (4, 4),
            Self::MergesUponAnyBase => (plan.on_conflict, plan.partitions) = (OnConflict::Merge, 4),
            Self::HidesPowerCuts => plan.power_cuts = 6,
            Self::ReadsPatternsOnce | Self::WalksByOldPatterns => plan.pattern_edits = 6,
            // Links that come again greet and compare each time.
            Self::ReordersFrames => (plan.latency_ns, plan.link_cuts, plan.early_ops) = (500 * MS, 8, 8),
            Self::ForgetsFailedFetches | Self::AcceptsAnyContent => plan.corrupt_permille = 500,
            // Users are quicker than the disk.
            Self::SkipsTheExchangeCheck => plan.disk_ns = 20 * MS,
            Self::StatsAfterTheHash => (plan.disk_ns, plan.user_ops, plan.active_ns) = (20 * MS, 180, 4 * SECOND),
            Self::ForgetsWhatWasInstalling => {
                (plan.kills, plan.disk_ns, plan.latency_ns) = (8, 20 * MS, 5 * MS);
                (plan.user_ops, plan.active_ns) = (180, 4 * SECOND);
            }
            Self::HidesConflicts => (plan.partitions, plan.user_ops) = (4, 60),
            Self::HidesPauses => (plan.pauses, plan.stops, plan.questions) = (4, 4, 100),
            // What cannot be installed for a while is missing for that while.
            Self::CountsTheMissing => (plan.full_disks, plan.questions) = (4, 100),
            _ => {}
        }
    }
}

/// An entry as a shell that drops the stamp rule would make it.
pub fn by_mtime(mut entry: Entry) -> Entry {
    if !matches!(entry.kind, Kind::Deleted { .. } | Kind::Directory) {
        entry.version.stamp = entry.mtime.as_stamp();
    }
    entry
}

impl World {
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// What a machine says of itself, as one with either of these bugs would say it.
    pub fn perhaps_embellished(&self, message: Message) -> Message {
        match message {
            Message::State { root, pending, condition: Some(told) } if self.has(Bug::HidesPauses) => {
                let Condition { problems, missing, .. } = told;
                let scanning = told.scanning && !told.paused && told.stopped.is_none();
                let condition = Condition { scanning, problems, missing, ..Condition::default() };
                Message::State { root, pending, condition: Some(condition) }
            }
            Message::State { root, condition: Some(told), .. } if self.has(Bug::CountsTheMissing) => {
                Message::State { root, pending: 0, condition: Some(Condition { problems: 0, missing: 0, ..told }) }
            }
            other => other,
        }
    }
}

/// The first seed that finds the bug, and what it says. The same seed must find nothing without it.
fn find(bug: Bug) -> Option<(u64, String)> {
    let found = (1..=WITHIN_SEEDS).find_map(|seed| run(seed, bug, true).map(|what| (seed, what)));
    if let Some((seed, _)) = found {
        assert_eq!(run(seed, bug, false), None, "seed {seed} without {bug:?}");
    }
    found
}

fn run(seed: u64, bug: Bug, is_there: bool) -> Option<String> {
    let mut rng = Rng::new(seed);
    let mut plan = Plan::random(&mut rng);
    bug.provoke(&mut plan);
    let mut world = World::new(rng.next(), plan, Kept::Nothing);
    world.bug = is_there.then_some(bug);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    if ran.is_err() {
        world.fail("the engine panics".to_owned());
    }
    world.broken.take()
}

/// The table of `docs/reliability.md`, section "Re-injected bugs".
#[test]
fn each_injected_bug_is_found() {
    let next = AtomicU64::new(0);
    let found = std::thread::scope(|scope| {
        let work = || {
            let mut found = Vec::new();
            while let Some(&bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                found.push((bug, find(bug)));
            }
            found
        };
        let threads: Vec<_> = (0..super::THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    println!("| bug | seeds | the first sign of it |\n| --- | --- | --- |");
    for bug in Bug::ALL {
        let how = &found.iter().find(|(other, _)| other == bug).unwrap().1;
        match how {
            Some((seeds, what)) => println!("| {} | {seeds} | {} |", bug.what(), sign(what).unwrap_or(what)),
            None => println!("| {} | not in {WITHIN_SEEDS} | |", bug.what()),
        }
    }
    let missed: Vec<_> = found.iter().filter(|(_, how)| how.is_none()).map(|(bug, _)| bug).collect();
    assert!(missed.is_empty(), "not found within {WITHIN_SEEDS} seeds: {missed:?}");
}

/// Which oracle spoke, without the names of its seed.
fn sign(what: &str) -> Option<&'static str> {
    let signs = [
        ("are in sync, and", "a machine is called in sync and is not (P3)"),
        ("says that it is done, and", "a machine calls itself done and is not (P3)"),
        ("took something for an edit", "an edit that no user made (P5)"),
        ("which it did not know", "something unknown was replaced (P4)"),
        ("ran ahead of its disk", "the index ran ahead of the disk (P5)"),
        ("no rest", "it never rests"),
        ("has not settled", "a path is never settled"),
        ("has not committed", "a path is never committed"),
        ("and should have", "a disk is not as its index says"),
        ("does not know of", "a file is never seen"),
        ("differ at", "two machines differ (P3)"),
        ("is lost", "a value is lost (P2)"),
        ("is back at", "a value that was done away with is back (P4)"),
        ("rests but does not say so", "it rests and does not know it"),
        ("which no user took out", "a merge lost a line (P2)"),
        ("does not go by what", "other patterns than the file's are in force"),
        ("which is covered", "what is covered was replaced"),
        ("what a power cut left", "a torn file was told (P5)"),
        ("rotted elsewhere", "rot has spread (P8)"),
        ("a frame does not come back", "a frame that no peer would accept"),
        ("closes an honest peer's link", "an honest peer's link is closed"),
        ("panics", "the engine panics"),
    ];
    signs.iter().find(|(part, _)| what.contains(part)).map(|(_, sign)| *sign)
}
