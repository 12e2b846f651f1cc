//! The harness of the black-box tests: real `dirsyncd` binaries, real folders, real sockets.
//!
//! It knows the command line and nothing of the crate's inside. Each test has a secret and a
//! broadcast port of its own, so that tests run side by side on one host. Deliberately not here:
//! sleeps as synchronisation; whatever can be awaited goes through [`eventually`].

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

pub mod clock;
pub mod disk;
pub mod lan;
pub mod machine;
pub mod ports;
pub mod requests;
pub mod tls;
pub mod tree;
pub mod users;
pub mod volume;

pub use disk::{exchange, read, remove, rename, set_mtime, swap_in, write};
pub use machine::{Group, Machine, start_all};
pub use tree::{Tree, converge, wait_equal};

use std::time::{Duration, Instant};

/// How long anything may take that should take milliseconds, on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Looks again and again until `look` is content; panics with its last complaint after `within`.
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        match look() {
            Ok(value) => return value,
            Err(complaint) if Instant::now() >= deadline => {
                panic!("waited {} s in vain until {what}: {complaint}", within.as_secs())
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(150));
    }
}

/// The rhythm of a user at work, or how long nothing may happen: part of what is tested, never a
/// way of waiting for the daemon.
pub fn pace(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// A number from the environment, such as `DIRSYNC_KILLS=500`.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

/// Whether this test may make namespaces and mounts; says so in the agreed words if not.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("root", test);
    }
    root
}

/// Past the capture of the test harness: `.ci/run` looks for this line.
pub fn skipped(needs: &str, test: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: needs {needs}: {test}");
}

/// Bytes that no other call returns and that do not shrink; the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// A small generator for workloads: the same seed, the same numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `sides` (splitmix64).
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
