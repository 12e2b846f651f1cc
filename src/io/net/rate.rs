//! Whether zlib is worth its time on a link: only where the link is what everything waits for.
//!
//! The writer times its writes. Until they were seen to wait for the link, nothing is tried: on a
//! fast one zlib costs both ends more than it saves. What the kernel's buffer swallows says nothing
//! of the link, so a burst counts from there on. May import `wire`. Deliberately not here: whether
//! bytes shrink at all (`transfer::Squeezer`, `wire::zlib`).

use crate::wire::frame::Squeeze;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A link that carries less, twice in a row, is slow (bytes a second). zlib's fastest level takes
/// some 140 MB/s of text on one core: at 1 Gbit/s it gains next to nothing.
const SLOW_RATE: u64 = 100_000_000;
/// About what fits into a socket's buffer (bytes).
const SWALLOWED_BYTES: u64 = 2 << 20;
/// Writes are judged together: so many bytes, or those that waited so long, but at least so many.
const WINDOW_BYTES: u64 = 6 << 20;
const WINDOW_TIME: Duration = Duration::from_millis(100);
const WINDOW_WRITES: u32 = 4;
/// After so long without a write the socket's buffer is empty again.
const GAP: Duration = Duration::from_millis(50);
/// A verdict holds for so long: zlib may leave a slow link idle, and then nothing is seen of it.
const VERDICT: Duration = Duration::from_secs(30);

/// What is known of a link's speed; for all who encode for it.
#[derive(Debug)]
pub struct Rate {
    start: Instant,
    /// Until then (ns after `start`) the link is known to be slower than zlib.
    slow_until: AtomicU64,
    is_limited: AtomicBool,
}

impl Default for Rate {
    fn default() -> Self {
        Self { start: Instant::now(), slow_until: AtomicU64::new(0), is_limited: AtomicBool::new(false) }
    }
}

impl Rate {
    pub fn squeeze(&self) -> Squeeze {
        self.squeeze_at(Instant::now())
    }

    fn squeeze_at(&self, now: Instant) -> Squeeze {
        let is_slow = (now - self.start).as_nanos() < u128::from(self.slow_until.load(Relaxed));
        if is_slow || self.is_limited.load(Relaxed) { Squeeze::Try } else { Squeeze::Never }
    }

    /// What is held back on purpose is slow, however fast the link is.
    pub fn set_limited(&self, is_limited: bool) {
        self.is_limited.store(is_limited, Relaxed);
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Gauge {
    rate: Arc<Rate>,
    last: Instant,
    /// Written without a gap (bytes).
    burst: u64,
    window: RateWindow,
    /// The last window was slow.
    was_slow: bool,
}

#[derive(Debug, Default)]
struct RateWindow {
    bytes: u64,
    writes: u32,
    took: Duration,
    longest: Duration,
}

impl RateWindow {
    /// One long wait is the peer's, which looks away from the link while its disk is busy; a slow
    /// link makes all of them long.
    fn waited(&self) -> Duration {
        self.took.saturating_sub(self.longest)
    }

    fn is_full(&self) -> bool {
        self.writes >= WINDOW_WRITES && (self.bytes >= WINDOW_BYTES || self.waited() >= WINDOW_TIME)
    }

    /// Bytes a second.
    fn rate(&self) -> u64 {
        (self.bytes as f64 / self.waited().as_secs_f64().max(1e-9)) as u64
    }
}

impl Gauge {
    pub fn new(rate: Arc<Rate>) -> Self {
        let start = rate.start;
        Self { rate, last: start, burst: 0, window: RateWindow::default(), was_slow: false }
    }

    /// A write of so many bytes began then, and is over.
    pub fn wrote(&mut self, bytes: usize, began: Instant, ended: Instant) {
        if began - self.last > GAP {
            self.burst = 0;
            self.window = RateWindow::default();
        }
        self.last = ended;
        self.burst += bytes as u64;
        if self.burst <= SWALLOWED_BYTES {
            return;
        }
        let (window, took) = (&mut self.window, ended - began);
        window.bytes += bytes as u64;
        window.writes += 1;
        window.took += took;
        window.longest = window.longest.max(took);
        if self.window.is_full() {
            self.judge(ended);
            self.window = RateWindow::default();
        }
    }

    fn judge(&mut self, now: Instant) {
        let rate = self.window.rate();
        tracing::trace!("{} bytes went in {:?}: {rate} a second", self.window.bytes, self.window.took);
        let was_slow = std::mem::replace(&mut self.was_slow, rate < SLOW_RATE);
        if was_slow && self.was_slow {
            let until = now + VERDICT - self.rate.start;
            self.rate.slow_until.fetch_max(until.as_nanos() as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// A link, and the time on it.
    struct Writer {
        gauge: Gauge,
        now: Instant,
    }

    impl Writer {
        fn new() -> Self {
            let gauge = Gauge::new(Arc::default());
            Self { now: gauge.rate.start, gauge }
        }

        /// So many writes of a MiB, each taking so long, and the verdict.
        fn write(&mut self, count: usize, each: Duration) -> Squeeze {
            for _ in 0..count {
                let began = self.now;
                self.now += each;
                self.gauge.wrote(MIB, began, self.now);
            }
            self.gauge.rate.squeeze_at(self.now)
        }
    }

    const FAST: Duration = Duration::from_millis(1);
    /// 40 MB a second.
    const SLOW: Duration = Duration::from_millis(26);
    /// 1 MB a second.
    const SLOWEST: Duration = Duration::from_secs(1);

    #[test]
    fn zlib_is_not_tried_until_writes_were_seen_to_wait_for_the_link() {
        let mut writer = Writer::new();
        assert_eq!(writer.write(100, FAST), Squeeze::Never);
        assert_eq!(writer.write(6, SLOW), Squeeze::Never, "once may be the peer's fault");
        assert_eq!(writer.write(100, FAST), Squeeze::Never);
        assert_eq!(writer.write(18, SLOW), Squeeze::Try);
    }

    #[test]
    fn on_a_very_slow_link_it_is_seen_after_a_few_writes() {
        let mut writer = Writer::new();
        assert_eq!(writer.write(10, SLOWEST), Squeeze::Try);
    }

    #[test]
    fn what_the_kernel_swallows_says_nothing() {
        let mut writer = Writer::new();
        for _ in 0..100 {
            assert_eq!(writer.write(2, SLOW), Squeeze::Never);
            writer.now += GAP * 2;
        }
    }

    #[test]
    fn a_peer_that_looks_away_now_and_then_makes_no_slow_link() {
        let mut writer = Writer::new();
        for _ in 0..100 {
            assert_eq!(writer.write(7, FAST), Squeeze::Never);
            assert_eq!(writer.write(1, Duration::from_millis(300)), Squeeze::Never);
        }
    }

    #[test]
    fn a_slow_link_is_believed_to_be_slow_also_when_zlib_leaves_it_idle() {
        let mut writer = Writer::new();
        assert_eq!(writer.write(20, SLOW), Squeeze::Try);
        assert_eq!(writer.write(1000, FAST), Squeeze::Try);
        writer.now += VERDICT;
        assert_eq!(writer.write(1, FAST), Squeeze::Never);
    }

    #[test]
    fn what_is_held_back_on_purpose_is_slow() {
        let rate = Rate::default();
        rate.set_limited(true);
        assert_eq!(rate.squeeze(), Squeeze::Try);
    }
}
