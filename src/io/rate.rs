//! Whether zlib is worth its time on a link: only where it takes bytes faster than the link does.
//!
//! The writer times its writes. What the kernel's buffer swallows says nothing of the link, so a burst counts from there on. That a link is slow
//! is seen only while much goes raw; what was seen is believed for a while. May import `wire`.
//! Deliberately not here: whether bytes shrink at all (`transfer::Squeezer`, `wire::zlib`).

use crate::wire::frame::Squeeze;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What zlib's fastest level makes of text on one core, about (bytes a second): a link that carries as much is fast.
const FAST_RATE: u64 = 250_000_000;
/// One that carries less, twice in a row, is slow: 1 Gbit/s. Else the peer may have been slow for a moment, which says nothing.
const SLOW_RATE: u64 = 150_000_000;
/// About what fits into a socket's buffer (bytes).
const SWALLOWED_BYTES: u64 = 2 << 20;
/// Writes are judged together (bytes).
const WINDOW_BYTES: u64 = 6 << 20;
/// After so long without a write the socket's buffer is empty again.
const GAP: Duration = Duration::from_millis(50);
/// A verdict holds for so long: a link does not change from one second to the next, and a peer that asks by and by lets no window fill.
const VERDICT: Duration = Duration::from_secs(10);

/// What is known of a link's speed; for all who encode for it.
#[derive(Debug)]
pub struct Rate {
    start: Instant,
    /// Until then (ns after `start`) the link is known to be faster than zlib.
    fast_until: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { start: Instant::now(), fast_until: AtomicU64::new(0) }
    }
}

impl Rate {
    pub fn squeeze(&self) -> Squeeze {
        self.squeeze_at(Instant::now())
    }

    fn squeeze_at(&self, now: Instant) -> Squeeze {
        let is_fast = (now - self.start).as_nanos() < u128::from(self.fast_until.load(Relaxed));
        if is_fast { Squeeze::Never } else { Squeeze::Try }
    }

    fn set_fast_until(&self, until: Instant) {
        self.fast_until.store((until - self.start).as_nanos() as u64, Relaxed);
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Gauge {
    rate: Arc<Rate>,
    last: Instant,
    /// Written without a gap (bytes).
    burst: u64,
    window: u64,
    took: Duration,
    /// The last window was slow.
    was_slow: bool,
    slow_until: Instant,
}

impl Gauge {
    pub fn new(rate: Arc<Rate>) -> Self {
        let start = rate.start;
        Self { rate, last: start, burst: 0, window: 0, took: Duration::ZERO, was_slow: false, slow_until: start }
    }

    /// A write of so many bytes began then, and is over.
    pub fn wrote(&mut self, bytes: usize, began: Instant, ended: Instant) {
        if began - self.last > GAP {
            self.burst = 0;
            self.begin_window();
        }
        self.last = ended;
        self.burst += bytes as u64;
        if self.burst <= SWALLOWED_BYTES {
            return;
        }
        self.window += bytes as u64;
        self.took += ended - began;
        if self.window >= WINDOW_BYTES {
            self.judge(ended);
            self.begin_window();
        }
    }

    fn begin_window(&mut self) {
        (self.window, self.took) = (0, Duration::ZERO);
    }

    fn judge(&mut self, now: Instant) {
        let rate = (self.window as f64 / self.took.as_secs_f64().max(1e-9)) as u64;
        tracing::trace!("{} bytes went in {:?}: {rate} a second", self.window, self.took);
        let was_slow = std::mem::replace(&mut self.was_slow, rate < SLOW_RATE);
        if was_slow && self.was_slow {
            self.slow_until = now + VERDICT;
            self.rate.set_fast_until(self.rate.start);
        } else if rate >= FAST_RATE && now >= self.slow_until {
            self.rate.set_fast_until(now + VERDICT);
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
    /// 1 Gbit/s.
    const SLOW: Duration = Duration::from_millis(9);
    const BETWEEN: Duration = Duration::from_millis(5);

    #[test]
    fn it_is_tried_until_much_went_faster_than_zlib_is() {
        let mut writer = Writer::new();
        assert_eq!(writer.write(7, FAST), Squeeze::Try);
        assert_eq!(writer.write(1, FAST), Squeeze::Never);
        assert_eq!(writer.write(6, BETWEEN), Squeeze::Never, "that says nothing");
        assert_eq!(writer.write(6, FAST), Squeeze::Never);
        writer.now += VERDICT;
        assert_eq!(writer.gauge.rate.squeeze(), Squeeze::Never, "by its own clock it is not over");
        assert_eq!(writer.write(0, FAST), Squeeze::Try, "of a link that rests nothing is known");
    }

    #[test]
    fn what_the_kernel_swallows_says_nothing() {
        let mut writer = Writer::new();
        for _ in 0..100 {
            assert_eq!(writer.write(2, FAST), Squeeze::Try);
            writer.now += GAP * 2;
        }
    }

    #[test]
    fn a_slow_link_is_believed_to_be_slow_also_when_zlib_leaves_it_idle() {
        let mut writer = Writer::new();
        assert_eq!(writer.write(14, SLOW), Squeeze::Try);
        assert_eq!(writer.write(1000, FAST), Squeeze::Try);
        writer.now += VERDICT;
        assert_eq!(writer.write(8, FAST), Squeeze::Never);
        assert_eq!(writer.write(6, SLOW), Squeeze::Never, "once may be the peer's fault");
        assert_eq!(writer.write(6, FAST), Squeeze::Never);
        assert_eq!(writer.write(12, SLOW), Squeeze::Try);
    }
}
