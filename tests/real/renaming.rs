//! Renames of folders between real daemons on a busy machine: no content is sent for one.
//!
//! Under load the old names are seen missing before what is under the new ones is hashed.

use crate::common::{Group, converge, noise, rename, write};
use std::sync::atomic::{AtomicBool, Ordering};

const FILES: u64 = 120;
/// Every third file is larger than what rides along with its entry.
const SIZES: [usize; 3] = [100_000, 110_000, 200_000];
/// All entries of a rename, with what greets and compares, are far below one file.
const ENTRIES_BYTES: u64 = 80_000;

/// Keeps the processors busy until it is told to end.
fn spin(ends: &AtomicBool) {
    while !ends.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

#[test]
fn renames_of_a_folder_under_load_send_no_contents() {
    let (a, b) = Group::new().pair();
    write(a.at("anchor"), "so that the folder is never empty");
    for n in 0..FILES {
        write(a.at(&format!("r0/{}/f{n}", n % 4)), noise(n, SIZES[n as usize % SIZES.len()]));
    }
    converge(&[&a, &b]);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| spin(&ends));
        }
        let rounds = std::panic::catch_unwind(|| {
            for round in 1..=6 {
                let before = (a.wire_bytes().1, b.wire_bytes().1);
                let here = if round % 3 == 0 { &b } else { &a };
                let to = format!("r{round}/1/f1");
                rename(here.at(&format!("r{}", round - 1)), here.at(&format!("r{round}")));
                let tree = converge(&[&a, &b]);
                assert!(tree.has(&to), "{to} is there");
                let received = (a.wire_bytes().1 - before.0, b.wire_bytes().1 - before.1);
                assert!(received.0 < ENTRIES_BYTES && received.1 < ENTRIES_BYTES, "rename {round}: {received:?} bytes");
            }
        });
        ends.store(true, Ordering::Relaxed);
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
