//! Machines whose clocks are wrong, by libfaketime: their files keep their real times, the daemon's
//! own clock alone is off.

use super::{Machine, skipped, write};
use std::path::Path;

/// libfaketime; without it the test says so in the agreed words.
pub fn library(test: &str) -> Option<String> {
    let found = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
        .map(|dir| format!("{dir}/faketime/libfaketime.so.1"))
        .into_iter()
        .find(|file| Path::new(file).exists());
    if found.is_none() {
        skipped("libfaketime", test);
    }
    found
}

/// From its next start, the machine's clock is off by what [`set`] says, also while it runs.
pub fn unhinge(machine: &mut Machine, library: &str) {
    set(machine, "+0");
    let file = machine.home.join("clock");
    let variables = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().expect("text")),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    machine.environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
}

/// Such as `+1d` or `-365d`, against the right time.
pub fn set(machine: &Machine, offset: &str) {
    // In one step: a daemon that reads half of it would take it for no time at all.
    let beside = machine.home.join("clock.new");
    write(&beside, format!("{offset}\n"));
    super::rename(&beside, machine.home.join("clock"));
}
