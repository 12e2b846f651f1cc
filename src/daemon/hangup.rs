//! SIGHUP: an order to read the options again, or the end of the terminal that the daemon was
//! started on.
//!
//! Deliberately not here: what is read again (`reload.rs`), and catching the signal
//! (`background.rs`).

use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The kernel sends the signal before it takes the terminal away.
const TERMINAL_GOES_WITHIN: Duration = Duration::from_millis(200);

/// Whether somebody asked for the options to be read again. Caught only once the loop turns.
#[derive(Clone)]
pub(super) struct Hangups {
    asked: Arc<AtomicBool>,
    /// Whoever started it wanted it to end with its terminal: it has one, and no `nohup`.
    ends_with_terminal: bool,
}

/// What the signal meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    ReadAgain,
    TerminalGone,
}

impl Hangups {
    /// Before the signal is caught.
    pub(super) fn new() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self { asked: Arc::default(), ends_with_terminal: has_terminal() && !ignores_hangup(&status) }
    }

    /// Since the last call.
    pub(super) fn take(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    pub(super) async fn understand(&self) -> Hangup {
        if self.ends_with_terminal {
            tokio::time::sleep(TERMINAL_GOES_WITHIN).await;
            if !has_terminal() {
                return Hangup::TerminalGone;
            }
        }
        self.asked.store(true, Ordering::Relaxed);
        Hangup::ReadAgain
    }
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
