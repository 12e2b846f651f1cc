//! What a peer was sent of contents that it asked for, for the log: a line each; of many at once,
//! one for all the rest. That it has them in its folder is another line (`io/journal`).
//!
//! May import `humanize`. Deliberately not here: what was told with its bytes, and what came
//! (`io/journal`).

use crate::humanize;
use crate::model::SyncPath;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines in a row.
const LINES: u32 = 20;
/// So long without one, and it is no row any more.
const REST: Duration = Duration::from_secs(2);

/// One content that went out.
pub struct Sent<'a> {
    pub path: &'a SyncPath,
    /// Of the content, and on the wire (bytes).
    pub size: u64,
    pub wire_bytes: u64,
    pub took: Duration,
}

impl Sent<'_> {
    /// ` as a delta`, or nothing.
    pub fn say(&self, to: &str, how: impl Display) {
        let Self { path, size, wire_bytes, took } = self;
        let (size, wire) = (humanize::bytes(*size), humanize::bytes(*wire_bytes));
        let took = humanize::duration(took.as_nanos() as u64);
        tracing::info!("uploaded '{path}' to {to}{how} ({size}, {wire} on the wire, {took})");
    }
}

#[derive(Default)]
struct SendRun {
    last: Option<Instant>,
    lines: u32,
    more: u64,
    bytes: u64,
    wire_bytes: u64,
}

/// Of one link.
#[derive(Default)]
pub struct SentLog(Mutex<SendRun>);

impl SentLog {
    fn lock(&self) -> MutexGuard<'_, SendRun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, to: &str, sent: &Sent) {
        if self.lock().takes(Instant::now(), sent) {
            sent.say(to, "");
        }
    }

    /// Once nothing was sent for a while.
    pub fn say_idle(&self, to: &str) {
        let mut row = self.lock();
        if row.last.is_some_and(|last| last.elapsed() >= REST) {
            std::mem::take(&mut *row).say(to);
        }
    }

    pub fn say_all(&self, to: &str) {
        std::mem::take(&mut *self.lock()).say(to);
    }
}

impl SendRun {
    /// Whether it gets a line of its own.
    fn takes(&mut self, now: Instant, sent: &Sent) -> bool {
        self.last = Some(now);
        if self.lines < LINES {
            self.lines += 1;
            return true;
        }
        self.more += 1;
        self.bytes += sent.size;
        self.wire_bytes += sent.wire_bytes;
        false
    }

    fn say(&self, to: &str) {
        if self.more > 0 {
            let (files, size) =
                (humanize::counted(self.more, "large file", "large files"), humanize::bytes(self.bytes));
            tracing::info!("uploaded {files} more to {to} ({size}, {} on the wire)", humanize::bytes(self.wire_bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_at_once_the_first_have_a_line_each_and_the_rest_one_together() {
        let path = SyncPath::new("f").unwrap();
        let sent = Sent { path: &path, size: 1000, wire_bytes: 10, took: Duration::ZERO };
        let mut row = SendRun::default();
        let lines = (0..50).filter(|_| row.takes(Instant::now(), &sent)).count();
        assert_eq!((lines as u32, row.more, row.bytes, row.wire_bytes), (LINES, 30, 30_000, 300));
    }
}
