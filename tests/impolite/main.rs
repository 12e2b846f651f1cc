//! Users who are not polite: they save as editors do, hold files open, move folders about and
//! unpack archives, at several machines at once, while daemons are killed and cables cut. Nothing
//! that any of them wrote may be lost, and all must end equal.
//!
//! Black box, in the manner of "Mysteries of Dropbox": only folders are looked at, and `dirsync
//! wait`. All that happens is a script, one line a step; a failing one is made shorter and printed,
//! with the command that plays it again.

#[path = "../common/mod.rs"]
mod common;

mod editors;
mod hands;
mod ledger;
mod round;
mod script;
mod shrink;
mod tools;

use common::{is_root, setting};
use script::Script;
use std::time::{Duration, Instant};

#[test]
fn nothing_that_impolite_users_wrote_is_lost() {
    if !is_root("nothing_that_impolite_users_wrote_is_lost") {
        return;
    }
    if let Ok(file) = std::env::var("DIRSYNC_SCRIPT") {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        round::play(&Script::parse(&text).unwrap_or_else(|why| panic!("{file}: {why}")));
        return;
    }
    let end = Instant::now() + Duration::from_secs(setting("DIRSYNC_IMPOLITE_SECONDS", 90));
    let first = setting("DIRSYNC_IMPOLITE_SEED", u64::from(std::process::id()));
    let (mut rounds, mut total) = (0, round::Played::default());
    while rounds == 0 || Instant::now() < end {
        let seed = first + rounds;
        println!("round {rounds}: DIRSYNC_IMPOLITE_SEED={seed}");
        let script = Script::random(seed);
        match std::panic::catch_unwind(|| round::play(&script)) {
            Ok(played) => total.add(&played),
            Err(panic) => {
                shrink::report(&script, seed);
                std::panic::resume_unwind(panic);
            }
        }
        rounds += 1;
    }
    println!("{rounds} rounds: {total}");
}
