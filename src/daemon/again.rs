//! A new start: when the disk of the index was full or failed, or another device id is needed.
//!
//! What was not committed is unknown to the index, and the engine believes it done: only a start
//! from the index is sound. Threads and sockets of the failed run hold the past, so the process
//! becomes a new one, under the same pid. Deliberately not here: which errors lead to it.

use super::background::Stop;
use super::{DaemonError, RunEnd, hangup};
use crate::io::fs::root::Root;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Before each new start.
const PAUSE: Duration = Duration::from_secs(10);
/// How soon a stop is heeded in between.
const GLANCE: Duration = Duration::from_millis(100);

/// Waits, then starts this program with the same arguments in this process. Returns when that
/// fails, or when somebody asked the daemon to stop.
pub(super) fn start_anew(why: DaemonError, directory: &Path, stop: &Stop) -> Result<RunEnd, DaemonError> {
    tracing::error!("{why} Syncing begins anew in {} s", PAUSE.as_secs());
    // Held until the new program begins, or this one ends.
    let _lock = Root::lock_while_waiting(directory, &why.to_string());
    let began = Instant::now();
    while began.elapsed() < PAUSE {
        if stop.is_asked() {
            return Err(why);
        }
        sleep(GLANCE);
    }
    Err(DaemonError::Start(replace_process()))
}

/// The same program with the same arguments in this process's place; returns only if that fails.
pub fn replace_process() -> io::Error {
    let mut arguments = env::args_os();
    let mut program = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    hangup::hand_on(&mut program);
    program.args(arguments).exec()
}
