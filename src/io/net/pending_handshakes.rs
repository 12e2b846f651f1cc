//! Connections that have proved nothing yet: at most 64, and 4 an address; the oldest makes room
//! (P9).
//!
//! How often they may come is limited, too, since each costs a TLS handshake: by address, and in
//! all. An address from which a member proved itself counts for itself alone, so that strangers
//! elsewhere keep no known member out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::task::AbortHandle;

const MAX_IN_ALL: usize = 64;
const MAX_AN_ADDRESS: usize = 4;
/// Handshakes of one address: so many at once, and in each second after that.
const BURST_AN_ADDRESS: f64 = 64.0;
const AGAIN_AN_ADDRESS: f64 = 8.0;
/// The same of all addresses where no member proved itself.
const UNKNOWN_BURST: f64 = 128.0;
const UNKNOWN_AGAIN: f64 = 16.0;
/// Addresses whose handshakes are counted, and those that are remembered for a member.
const MAX_COUNTED: usize = 4096;
const MAX_PROVEN: usize = 1024;

#[derive(Default)]
pub struct PendingHandshakes {
    waiting: Arc<Mutex<WaitingHandshakes>>,
}

#[derive(Default)]
struct WaitingHandshakes {
    next: u64,
    /// Oldest first.
    list: VecDeque<(u64, IpAddr, AbortHandle)>,
    rates: Rates,
}

/// Handshakes that may still come.
#[derive(Default)]
struct Rates {
    by_address: HashMap<IpAddr, Allowance>,
    unknown: Allowance,
    /// A member proved itself there, and when last.
    proven: HashMap<IpAddr, Instant>,
}

/// What was used of an allowance, and until when that is reckoned.
#[derive(Default)]
struct Allowance {
    used: f64,
    at: Option<Instant>,
}

impl Allowance {
    fn settle(&mut self, now: Instant, again: f64) {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.used = (self.used - passed * again).max(0.0);
        self.at = Some(now);
    }
}

impl Rates {
    /// Whether one more handshake of this address is worth its cost.
    fn allow(&mut self, address: IpAddr, now: Instant) -> bool {
        let is_proven = self.proven.contains_key(&address);
        if self.by_address.len() >= MAX_COUNTED && !self.by_address.contains_key(&address) {
            self.by_address.values_mut().for_each(|allowance| allowance.settle(now, AGAIN_AN_ADDRESS));
            self.by_address.retain(|_, allowance| allowance.used > 0.0);
            if self.by_address.len() >= MAX_COUNTED {
                return is_proven;
            }
        }
        let own = self.by_address.entry(address).or_default();
        own.settle(now, AGAIN_AN_ADDRESS);
        self.unknown.settle(now, UNKNOWN_AGAIN);
        if own.used + 1.0 > BURST_AN_ADDRESS || (!is_proven && self.unknown.used + 1.0 > UNKNOWN_BURST) {
            return false;
        }
        own.used += 1.0;
        self.unknown.used += if is_proven { 0.0 } else { 1.0 };
        true
    }

    fn proved(&mut self, address: IpAddr, now: Instant) {
        if self.proven.len() >= MAX_PROVEN && !self.proven.contains_key(&address) {
            let oldest = self.proven.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            oldest.map(|oldest| self.proven.remove(&oldest));
        }
        self.proven.insert(address, now);
    }
}

/// A stranger's place; given up when it has proved itself or is gone.
pub struct Pass {
    waiting: Arc<Mutex<WaitingHandshakes>>,
    number: u64,
}

impl Drop for Pass {
    fn drop(&mut self) {
        lock(&self.waiting).list.retain(|(number, ..)| *number != self.number);
    }
}

impl PendingHandshakes {
    /// A member proved itself at this address.
    pub fn proved(&self, address: IpAddr) {
        lock(&self.waiting).rates.proved(address, Instant::now());
    }

    /// Runs the greeting of a connection, which is ended when newer ones need its place. Of those
    /// that come too often, it is dropped.
    pub fn admit<F, G>(&self, address: IpAddr, greeting: F)
    where
        F: FnOnce(Pass) -> G,
        G: Future<Output = ()> + Send + 'static,
    {
        let mut waiting = lock(&self.waiting);
        if !waiting.rates.allow(address, Instant::now()) {
            tracing::debug!("{address} connects too often: this connection is not greeted");
            return;
        }
        while let Some(oldest) = waiting.to_drop(address) {
            if let Some((_, address, task)) = waiting.list.remove(oldest) {
                task.abort();
                tracing::debug!("{address} has not proved itself yet and gave way to a newer connection");
            }
        }
        waiting.next += 1;
        let number = waiting.next;
        let pass = Pass { waiting: Arc::clone(&self.waiting), number };
        let task = tokio::spawn(greeting(pass));
        waiting.list.push_back((number, address, task.abort_handle()));
    }
}

impl WaitingHandshakes {
    fn to_drop(&self, address: IpAddr) -> Option<usize> {
        let same = || self.list.iter().enumerate().filter(|(_, (_, other, _))| *other == address);
        if same().count() >= MAX_AN_ADDRESS {
            return same().next().map(|(at, _)| at);
        }
        (self.list.len() >= MAX_IN_ALL).then_some(0)
    }
}

fn lock(waiting: &Mutex<WaitingHandshakes>) -> MutexGuard<'_, WaitingHandshakes> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(pending: &PendingHandshakes) -> Vec<(u64, IpAddr)> {
        lock(&pending.waiting).list.iter().map(|(number, address, _)| (*number, *address)).collect()
    }

    async fn wait_for_ever(pass: Pass) {
        std::future::pending::<()>().await;
        drop(pass);
    }

    #[tokio::test]
    async fn the_oldest_of_an_address_gives_way() {
        let pending = PendingHandshakes::default();
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for address in [here, there, here, here, here, here] {
            pending.admit(address, wait_for_ever);
        }
        assert_eq!(places(&pending), [(2, there), (3, here), (4, here), (5, here), (6, here)]);
    }

    #[tokio::test]
    async fn there_are_never_more_than_64() {
        let pending = PendingHandshakes::default();
        for n in 0..100_u8 {
            pending.admit(IpAddr::from([10, 0, 0, n]), wait_for_ever);
        }
        assert_eq!(places(&pending).len(), MAX_IN_ALL);
        assert_eq!(places(&pending)[0].1, IpAddr::from([10, 0, 0, 36]));
    }

    #[test]
    fn handshakes_of_an_address_come_as_often_as_is_allowed() {
        let (mut rates, now, here) = (Rates::default(), Instant::now(), IpAddr::from([127, 0, 0, 1]));
        let at_once = (0..1000).filter(|_| rates.allow(here, now)).count();
        assert_eq!(at_once, BURST_AN_ADDRESS as usize);
        let later = now + std::time::Duration::from_secs(1);
        assert_eq!((0..1000).filter(|_| rates.allow(here, later)).count(), AGAIN_AN_ADDRESS as usize);
    }

    #[test]
    fn strangers_at_many_addresses_keep_no_known_member_out() {
        let (mut rates, now, known) = (Rates::default(), Instant::now(), IpAddr::from([192, 168, 0, 1]));
        rates.proved(known, now);
        let at = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        assert_eq!((0..2000).filter(|n| rates.allow(at(*n), now)).count(), UNKNOWN_BURST as usize);
        assert!(rates.allow(known, now));
        for n in 0..u16::MAX {
            rates.allow(at(n), now);
        }
        assert!(rates.by_address.len() <= MAX_COUNTED);
        for n in 0..2000 {
            rates.proved(at(n), now);
        }
        assert_eq!(rates.proven.len(), MAX_PROVEN);
    }

    #[tokio::test]
    async fn a_place_is_given_back() {
        let pending = PendingHandshakes::default();
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        pending.admit(IpAddr::from([127, 0, 0, 1]), |pass| async move {
            drop(pass);
            let _ = done.send(());
        });
        wait.await.unwrap();
        assert!(places(&pending).is_empty());
    }
}
