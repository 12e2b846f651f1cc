//! SIGHUP: an order to read the options again, or the end of the terminal that the daemon was
//! started on.
//!
//! Deliberately not here: what is read again (`reload.rs`), and waiting for the signal
//! (`background.rs`).

use std::env;
use std::fs::{self, File};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The kernel sends the signal before it takes the terminal away.
const TERMINAL_GOES_WITHIN: Duration = Duration::from_millis(200);

/// Set for a new start of this process where `nohup` began it: a signal that is caught is not
/// ignored any more over that.
const NOHUP: &str = "DIRSYNCD_BEGAN_BY_NOHUP";

/// Whether somebody asked for the options to be read again. Caught only once the loop turns.
#[derive(Clone, Default)]
pub(super) struct Hangups {
    asked: Arc<AtomicBool>,
}

/// What the signal meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    ReadAgain,
    TerminalGone,
}

impl Hangups {
    /// Since the last call.
    pub(super) fn take(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    pub(super) async fn understand(&self) -> Hangup {
        if ends_with_terminal() {
            tokio::time::sleep(TERMINAL_GOES_WITHIN).await;
            if !has_terminal() {
                return Hangup::TerminalGone;
            }
        }
        self.asked.store(true, Ordering::Relaxed);
        Hangup::ReadAgain
    }
}

/// Catches the signal from now on, so that an order to read the options again never ends a service
/// that is still starting: it is carried out once the loop turns. A daemon that ends with its
/// terminal has nothing to catch until then. To be called first of all.
pub fn catch() {
    if ends_with_terminal() {
        return;
    }
    // What is caught once is caught for good, without the runtime too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let caught = runtime.and_then(|runtime| {
        let _inside = runtime.enter();
        signal(SignalKind::hangup()).map(drop)
    });
    if let Err(why) = caught {
        eprintln!("dirsyncd: SIGHUP ends it while it starts: {why}");
    }
}

/// For a new start of this process.
pub(super) fn hand_on(program: &mut Command) {
    if began_by_nohup() {
        program.env(NOHUP, "1");
    }
}

/// Whoever started it wanted it to end with its terminal: it has one, and no `nohup`.
fn ends_with_terminal() -> bool {
    static ENDS: OnceLock<bool> = OnceLock::new();
    *ENDS.get_or_init(|| !began_by_nohup() && has_terminal())
}

fn began_by_nohup() -> bool {
    static BEGAN: OnceLock<bool> = OnceLock::new();
    *BEGAN.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        env::var_os(NOHUP).is_some() || ignores_hangup(&status)
    })
}

/// Opening it fails where the process has none any more.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// As `nohup` leaves it. SIGHUP is the first signal: the lowest bit.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_the_ignored_signals_is_the_hangup() {
        for (status, due) in [
            ("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", true),
            ("SigIgn:\t0000000000001000\n", false),
            ("SigCgt:\t0000000000000001\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), due, "{status}");
        }
    }
}
