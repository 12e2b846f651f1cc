//! `--limit`: so many bytes a second in all, and so to any one peer.
//!
//! One account for all links. What waits in the lower lanes (contents) goes only while it is not
//! overdrawn; messages always go, and are paid for by what comes after them. Deliberately not here:
//! the lanes (`outbox`).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may be saved up while nothing is sent (part of a second's bytes), so that the rate holds
/// over any short while.
const BURST: Duration = Duration::from_millis(50);

/// The account of all links.
#[derive(Debug)]
pub struct Limit {
    /// Bytes a second; 0: no limit.
    rate: AtomicU64,
    account: Mutex<TokenBucket>,
}

#[derive(Debug)]
struct TokenBucket {
    /// Bytes that may be sent now; below zero: that were sent too early.
    bytes: f64,
    since: Instant,
}

impl Limit {
    pub fn new(rate: Option<u64>) -> Self {
        let account = Mutex::new(TokenBucket { bytes: 0.0, since: Instant::now() });
        Self { rate: AtomicU64::new(rate.unwrap_or(0)), account }
    }

    /// From now on. What was sent too early by the former rate is forgiven.
    pub fn set(&self, rate: Option<u64>) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        *account = TokenBucket { bytes: 0.0, since: Instant::now() };
        self.rate.store(rate.unwrap_or(0), Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.rate().is_some()
    }

    pub fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Relaxed)).filter(|rate| *rate > 0)
    }

    /// So many bytes are sent now.
    pub fn spend(&self, bytes: usize) {
        if self.is_set() {
            self.account.lock().unwrap_or_else(PoisonError::into_inner).bytes -= bytes as f64;
        }
    }

    /// How long contents must wait; zero: not at all.
    pub fn pause(&self) -> Duration {
        let Some(rate) = self.rate() else { return Duration::ZERO };
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = account.since.elapsed().as_secs_f64() * rate as f64;
        account.since = Instant::now();
        account.bytes = (account.bytes + earned).min(BURST.as_secs_f64() * rate as f64);
        if account.bytes >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-account.bytes / rate as f64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_must_be_earned_before_more_goes() {
        let limit = Limit::new(Some(1_000_000));
        assert_eq!(limit.pause(), Duration::ZERO);
        limit.spend(10_000_000);
        let pause = limit.pause();
        assert!(pause > Duration::from_secs(9) && pause <= Duration::from_secs(10), "{pause:?}");
    }

    #[test]
    fn another_rate_holds_at_once() {
        let limit = Limit::new(Some(64 << 10));
        limit.spend(64 << 20);
        assert!(limit.pause() > Duration::from_mins(15));
        limit.set(Some(1_000_000));
        assert_eq!(limit.pause(), Duration::ZERO, "what the former rate was owed is forgiven");
        limit.spend(10_000_000);
        assert!(limit.pause() > Duration::from_secs(9));
        limit.set(None);
        limit.spend(usize::MAX);
        assert_eq!((limit.pause(), limit.is_set()), (Duration::ZERO, false));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let limit = Limit::new(None);
        limit.spend(usize::MAX);
        assert_eq!(limit.pause(), Duration::ZERO);
    }
}
