//! kill -9 at any time, during random work: all ends equal, nothing is lost (P2), torn (P1) or back
//! from the dead.

use crate::common::users::{Deletions, Ledger, User};
use crate::common::{Dice, Group, Machine, converge, noise, pace, read, setting, start_all, write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Lets a user act at each machine while `faults` run; returns all that they wrote.
fn work_during(machines: &[&Machine], seed: u64, faults: impl FnOnce()) -> Ledger {
    let done = AtomicBool::new(false);
    let user_of = |number: usize| {
        let mut user = User::new(machines[number], seed ^ number as u64);
        let mut rhythm = Dice::new(seed + 100 + number as u64);
        while !done.load(Ordering::Relaxed) {
            user.act();
            pace(rhythm.roll(25));
        }
        user.ledger
    };
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..machines.len()).map(|number| scope.spawn(move || user_of(number))).collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(faults));
        done.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for user in users {
            all.merge(user.join().expect("the user ends well"));
        }
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        all
    })
}

#[test]
fn after_fifty_kills_during_random_work_all_are_equal_and_nothing_is_lost() {
    let group = Group::new();
    let (a, b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    let all = [&a, &b, &c];
    start_all(&all);
    let kills = setting("DIRSYNC_KILLS", 50);
    let seed = setting("DIRSYNC_KILL_SEED", u64::from(std::process::id()));
    println!("repeat with DIRSYNC_KILLS={kills} DIRSYNC_KILL_SEED={seed}");
    let mut dice = Dice::new(seed);
    let ledger = work_during(&all, seed, || {
        for _ in 0..kills {
            pace(dice.roll(400));
            let victim = all[dice.roll(3) as usize];
            victim.kill();
            pace(dice.roll(100));
            victim.spawn();
        }
    });
    println!("{} values written", ledger.len());
    let tree = converge(&all);
    ledger.check(&tree, &all, Deletions::MayReturn);
    // And it stays so: a clean start finds nothing to do.
    for machine in all {
        machine.restart();
    }
    assert_eq!(converge(&all), tree);
}

#[test]
fn random_work_without_any_fault_loses_nothing() {
    let group = Group::new();
    let (a, b, c) = (group.machine("a"), group.machine("b"), group.machine("c"));
    let all = [&a, &b, &c];
    start_all(&all);
    let ledger = work_during(&all, setting("DIRSYNC_KILL_SEED", 1), || pace(8000));
    let tree = converge(&all);
    ledger.check(&tree, &all, Deletions::Final);
}

#[test]
fn random_work_while_machines_hang_and_stop_loses_nothing() {
    let group = Group::new();
    let (a, b) = (group.machine("a"), group.machine("b"));
    let all = [&a, &b];
    start_all(&all);
    let ledger = work_during(&all, setting("DIRSYNC_KILL_SEED", 2), || {
        for round in 0..6 {
            let victim = all[round % 2];
            pace(300);
            victim.freeze();
            pace(500);
            victim.thaw();
            pace(300);
            victim.restart();
        }
    });
    let tree = converge(&all);
    ledger.check(&tree, &all, Deletions::Final);
}

#[test]
fn a_receiver_killed_in_the_middle_of_a_large_file_gets_it_whole_after_all() {
    let (a, b) = Group::new().pair();
    write(b.at("large"), "the old version");
    converge(&[&a, &b]);
    let large = noise(9, 64 << 20);
    write(a.at("large"), &large);
    for round in 0..5 {
        pace(30 + 40 * round);
        b.kill();
        let there = read(b.at("large"));
        assert!(there == b"the old version" || there == large, "half a file after kill {round}");
        b.start();
    }
    a.kill();
    a.start();
    converge(&[&a, &b]);
    assert!(read(b.at("large")) == large, "it arrived wrong");
    let staged = std::fs::read_dir(b.at(".dirsync/staging")).expect("it is there").count();
    assert_eq!(staged, 0, "what was staged for it is left behind");
}

#[test]
fn files_written_while_every_daemon_was_killed_are_found() {
    let (a, b) = Group::new().pair();
    for n in 0..100 {
        write(a.at(&format!("f{n}")), noise(n, 2000));
    }
    a.kill();
    b.kill();
    write(a.at("f1"), "by a, while dead");
    write(b.at("new"), "by b, while dead");
    a.start();
    b.start();
    let tree = converge(&[&a, &b]);
    assert_eq!(tree.files(), 101);
    assert_eq!(read(b.at("f1")), b"by a, while dead");
}
