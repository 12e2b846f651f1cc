//! Every kind of change that a machine can receive, and some of its own user's: what a fault is to
//! fall into.
//!
//! Deliberately not here: the faults.

use crate::common::disk::{chmod, set_mtime};
use crate::common::{Machine, noise, pace, read, remove, swap_in, write};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Every change is made so often.
const TIMES: u64 = 3;

/// A name whose history entry needs a second file for its path.
fn long_name() -> String {
    "long-name-".repeat(24)
}

/// What each file must hold in the end, and what a must keep in history.
#[derive(Default)]
pub struct Expected {
    pub files: BTreeMap<String, Vec<u8>>,
    kept: Vec<Vec<u8>>,
}

/// Everything that a round is going to change, in a folder of its own.
pub fn prepare(b: &Machine, round: u64) {
    let at = |name: &str| b.at(&format!("r{round}/{name}"));
    for (number, name) in ["replaced", &long_name(), "deleted", "mode", "touched"].into_iter().enumerate() {
        for n in 0..TIMES {
            write(at(&format!("{n}/{name}")), old(round, number as u64 * TIMES + n));
        }
    }
    for n in 0..TIMES {
        for folder in ["becomes-a-file", "goes"] {
            fs::create_dir_all(at(&format!("{n}/{folder}"))).expect("mkdir");
        }
    }
}

fn old(round: u64, number: u64) -> Vec<u8> {
    noise(round * 1000 + number, 700)
}

/// All that can be received, and some local work.
pub fn change(a: &Machine, b: &Machine, round: u64) -> Expected {
    let mut expected = Expected::default();
    let mut put = |machine: &Machine, name: &str, len: usize| {
        let (path, bytes) = (format!("r{round}/{name}"), noise(round * 1000 + 500 + expected.files.len() as u64, len));
        swap_in(machine.at(&path), &bytes);
        expected.files.insert(path, bytes);
    };
    let at = |name: &str| b.at(&format!("r{round}/{name}"));
    for n in 0..TIMES {
        put(a, &format!("{n}/by-a"), 500);
        put(b, &format!("{n}/replaced"), 900);
        put(b, &format!("{n}/{}", long_name()), 800);
        put(b, &format!("{n}/large"), 600_000);
        remove(at(&format!("{n}/becomes-a-file")));
        put(b, &format!("{n}/becomes-a-file"), 300);
        for m in 0..12 {
            put(b, &format!("{n}/many/{m}/file"), 200);
            put(a, &format!("{n}/own/{m}/file"), 200);
        }
        for name in ["deleted", "goes"] {
            remove(at(&format!("{n}/{name}")));
        }
        chmod(at(&format!("{n}/mode")), 0o600);
        set_mtime(at(&format!("{n}/touched")), 1_500_000_000, 5);
        // Each lot is a batch of its own.
        pace(100);
    }
    for n in 0..TIMES {
        expected.files.insert(format!("r{round}/{n}/mode"), old(round, 3 * TIMES + n));
        expected.files.insert(format!("r{round}/{n}/touched"), old(round, 4 * TIMES + n));
    }
    expected.kept.extend((0..3 * TIMES).map(|number| old(round, number)));
    expected
}

/// What `change` made is everywhere, what it did away with is gone, and history has what was
/// replaced at `a`.
pub fn check(a: &Machine, b: &Machine, round: u64, rule: &str, expected: &Expected) {
    for (path, bytes) in &expected.files {
        assert!(read(b.at(path)) == *bytes, "{path} holds something else after a death at {rule}");
    }
    for n in 0..TIMES {
        for gone in ["deleted", "goes"] {
            assert!(!b.at(&format!("r{round}/{n}/{gone}")).exists(), "{gone} is back after a death at {rule}");
        }
        let mode = fs::metadata(b.at(&format!("r{round}/{n}/mode"))).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the permissions are back after a death at {rule}");
    }
    let history = a.history();
    for (number, old) in expected.kept.iter().enumerate() {
        assert!(history.contains(old), "what was replaced ({number}) is not in history after a death at {rule}");
    }
    let staged = fs::read_dir(a.at(".dirsync/staging")).expect("it is there").count();
    assert_eq!(staged, 0, "something is left in staging after a death at {rule}");
}
