//! The members that presence heard, and where each may be reached.
//!
//! It keeps a few addresses of each. An address that did not lead to the member is due ever more
//! rarely, whatever presence says of it; one where the member proved itself is due at once when it
//! is heard. Deliberately not here: dialling (`dial`), and which announcements are believed
//! (`presence`).

use crate::io::net::challenge::FoundMember;
use crate::io::net::link::Times;
use crate::io::net::presence::jittered;
use crate::model::DeviceId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A member not heard for this long is not dialled any more.
pub const FORGET_AFTER: Duration = Duration::from_mins(1);
const MAX_MEMBERS: usize = 1024;
/// Addresses kept of one member.
const MAX_ADDRESSES: usize = 8;
/// Dials of a proven address that presence may cause at once, and how soon there may be one more.
const HASTE: u32 = 4;
const HASTE_AGAIN: Duration = Duration::from_secs(2);

/// The members heard, each with the task that dials it.
#[derive(Default)]
pub struct Members {
    heard: Mutex<HashMap<DeviceId, Member>>,
}

#[derive(Default)]
struct Member {
    addresses: Vec<Address>,
    /// Something is due earlier than it was.
    changed: Arc<Notify>,
}

/// Where a member may take links.
#[derive(Debug, Clone)]
pub struct Address {
    at: SocketAddr,
    heard: Instant,
    /// The member proved itself there.
    is_proven: bool,
    is_dialled: bool,
    /// Not dialled before this, and how long it rests after the next failure.
    due: Instant,
    pause: Duration,
    /// Dials that presence may still cause, and when one was added last.
    haste: u32,
    haste_since: Instant,
}

impl Address {
    fn new(at: SocketAddr, now: Instant, times: &Times) -> Self {
        let (pause, haste) = (times.retry_min, HASTE);
        Self { at, heard: now, is_proven: false, is_dialled: false, due: now, pause, haste, haste_since: now }
    }

    /// Whether being heard makes it due now: only where the member proved itself, and not more
    /// often than that is worth.
    fn hurries(&mut self, now: Instant) -> bool {
        let added = (now - self.haste_since).as_secs() / HASTE_AGAIN.as_secs();
        if added > 0 {
            self.haste = self.haste.saturating_add(added as u32).min(HASTE);
            self.haste_since = now;
        }
        let hurries = self.is_proven && !self.is_dialled && self.due > now && self.haste > 0;
        if hurries {
            self.haste -= 1;
            self.due = now;
        }
        hurries
    }

    pub fn failed(&mut self, now: Instant, times: &Times) {
        self.is_dialled = false;
        self.due = now + jittered(self.pause);
        self.pause = (self.pause * 2).min(times.retry_max);
    }

    pub fn proved(&mut self, now: Instant, times: &Times) {
        (self.is_dialled, self.is_proven, self.due, self.pause) = (false, true, now, times.retry_min);
    }
}

impl Member {
    fn hear(&mut self, at: SocketAddr, now: Instant, times: &Times) {
        let is_due = if let Some(address) = self.addresses.iter_mut().find(|address| address.at == at) {
            address.heard = now;
            address.hurries(now)
        } else {
            if self.addresses.len() >= MAX_ADDRESSES {
                // The one that led nowhere and was heard longest ago makes room.
                let worst = self.addresses.iter().enumerate().filter(|(_, address)| !address.is_dialled);
                let Some((worst, _)) = worst.min_by_key(|(_, address)| (address.is_proven, address.heard)) else {
                    return;
                };
                self.addresses.remove(worst);
            }
            self.addresses.push(Address::new(at, now, times));
            true
        };
        if is_due {
            self.changed.notify_one();
        }
    }
}

impl Members {
    /// A member was heard. If it is new: what its task is told by.
    pub fn hear(&self, member: &FoundMember, times: &Times) -> Option<Arc<Notify>> {
        let mut heard = self.lock();
        let is_new = !heard.contains_key(&member.device);
        if is_new && heard.len() >= MAX_MEMBERS {
            return None;
        }
        let known = heard.entry(member.device).or_default();
        known.hear(member.address, Instant::now(), times);
        is_new.then(|| Arc::clone(&known.changed))
    }

    /// How many were heard lately.
    pub fn heard_now(&self) -> usize {
        let (heard, now) = (self.lock(), Instant::now());
        let is_here = |member: &&Member| member.addresses.iter().any(|address| now - address.heard < FORGET_AFTER);
        heard.values().filter(is_here).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Member>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of an address.
    pub fn with(&self, device: DeviceId, at: SocketAddr, change: impl FnOnce(&mut Address)) {
        let mut heard = self.lock();
        let Some(member) = heard.get_mut(&device) else { return };
        if let Some(address) = member.addresses.iter_mut().find(|address| address.at == at) {
            change(address);
        }
        member.changed.notify_one();
    }

    /// A linked member left: where it proved itself, it is looked for at once.
    pub fn left(&self, device: DeviceId, times: &Times) {
        if let Some(member) = self.lock().get_mut(&device) {
            for address in member.addresses.iter_mut().filter(|address| address.is_proven) {
                (address.due, address.pause) = (Instant::now(), times.retry_min);
            }
        }
    }

    /// What to dial now, marked as dialled, and when the next is due. `None`: it was not heard for
    /// long, and is forgotten.
    pub fn due(&self, device: DeviceId) -> Option<(Vec<SocketAddr>, Option<Instant>)> {
        let now = Instant::now();
        let mut heard = self.lock();
        let member = heard.get_mut(&device)?;
        if member.addresses.iter().all(|address| !address.is_dialled && now - address.heard >= FORGET_AFTER) {
            heard.remove(&device);
            return None;
        }
        let is_due = |address: &&mut Address| !address.is_dialled && address.due <= now;
        let due = member.addresses.iter_mut().filter(is_due).map(|address| {
            address.is_dialled = true;
            address.at
        });
        let due = due.collect();
        let waiting = member.addresses.iter().filter(|address| !address.is_dialled);
        Some((due, waiting.map(|address| address.due).min()))
    }
}

/// An address that a person named and that leads to no member now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    pub address: String,
    /// As `GreetError::reason` says it.
    pub reason: &'static str,
    /// What follows the address in a sentence; foreign text in it is not escaped.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 6000))
    }

    #[test]
    fn datagrams_do_not_hurry_an_address_that_led_nowhere() {
        let (times, now, mut member) = (Times::default(), Instant::now(), Member::default());
        member.hear(at(1), now, &times);
        assert!(member.addresses[0].due <= now, "at once the first time");
        member.addresses[0].failed(now, &times);
        let due = member.addresses[0].due;
        assert!(due > now);
        for _ in 0..600 {
            member.hear(at(1), now, &times);
        }
        assert_eq!(member.addresses[0].due, due);
    }

    #[test]
    fn a_proven_address_is_due_when_it_is_heard_but_not_600_times_a_second() {
        let (times, now, mut member) = (Times::default(), Instant::now(), Member::default());
        member.hear(at(1), now, &times);
        member.addresses[0].proved(now, &times);
        let mut hurried = 0;
        for _ in 0..600 {
            member.addresses[0].failed(now, &times);
            member.hear(at(1), now, &times);
            hurried += u32::from(member.addresses[0].due <= now);
        }
        assert_eq!(hurried, HASTE);
        let later = now + 2 * HASTE_AGAIN;
        member.addresses[0].failed(later, &times);
        member.hear(at(1), later, &times);
        assert!(member.addresses[0].due <= later);
    }

    #[test]
    fn new_addresses_displace_those_that_led_nowhere_and_not_the_proven_one() {
        let (times, now, mut member) = (Times::default(), Instant::now(), Member::default());
        member.hear(at(1), now, &times);
        member.addresses[0].proved(now, &times);
        for n in 2..200 {
            member.hear(at(n), now + Duration::from_millis(u64::from(n)), &times);
        }
        assert_eq!(member.addresses.len(), MAX_ADDRESSES);
        assert!(member.addresses.iter().any(|address| address.at == at(1)));
    }
}
