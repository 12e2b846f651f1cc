//! Which lines about machines that cannot be linked may be said now: each kind of trouble once in a
//! while for each machine.
//!
//! What stays so until a person changes something, such as another secret, is said at once and then
//! hourly; the rest every minute. Deliberately not here: what is said (`hub`).

use crate::io::net::greeting::GreetError;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many are remembered (P9); beyond that nothing new is said.
const CAP: usize = 1024;
/// What lasts is said so many times more rarely.
const RARELY: u32 = 60;

/// Whom a line speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Address(IpAddr),
    /// An address as a person named it.
    Peer(String),
    /// This machine.
    Us,
}

#[derive(Default)]
pub struct Complaints(Mutex<HashMap<(Subject, &'static str), Instant>>);

impl Complaints {
    /// Whether a line of this kind may be said; then the next has to wait, for `pause` or, of what
    /// lasts, for 60 times that.
    pub fn may(&self, now: Instant, subject: Subject, kind: &'static str, pause: Duration) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = pause * RARELY;
        let rest = if GreetError::is_lasting_kind(kind) { longest } else { pause };
        if said.len() >= CAP {
            said.retain(|_, at| now.saturating_duration_since(*at) < longest);
        }
        let key = (subject, kind);
        let is_reported = said.get(&key).is_some_and(|at| now.saturating_duration_since(*at) < rest);
        if is_reported || (said.len() >= CAP && !said.contains_key(&key)) {
            return false;
        }
        said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MINUTE: Duration = Duration::from_mins(1);

    fn nas(n: u32) -> Subject {
        Subject::Address(Ipv4Addr::from_bits(0x0a00_0000 + n).into())
    }

    #[test]
    fn another_secret_is_named_at_the_first_contact_and_then_hourly() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let secret = GreetError::WrongSecret.kind();
        // It is heard every 3 s for five hours.
        let said = (0..5 * 1200_u32)
            .filter(|n| complaints.may(start + 3 * *n * Duration::from_secs(1), nas(7), secret, MINUTE));
        assert_eq!(said.collect::<Vec<_>>(), [0, 1200, 2400, 3600, 4800]);
        let protocol = GreetError::OtherProtocol(2).kind();
        assert!(complaints.may(start, nas(7), protocol, MINUTE), "something else of the same machine is another line");
        assert!(!complaints.may(start + 59 * MINUTE, nas(7), protocol, MINUTE));
        assert!(complaints.may(start + MINUTE, nas(8), secret, MINUTE), "and so is another machine");
    }

    #[test]
    fn what_comes_and_goes_is_named_every_minute_and_each_named_peer_by_itself() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let kind = GreetError::TooSlow.kind();
        let may =
            |after: Duration, name: &str| complaints.may(start + after, Subject::Peer(name.to_owned()), kind, MINUTE);
        assert!(may(Duration::ZERO, "nas:6000") && may(Duration::ZERO, "attic:6000"));
        assert!(!may(MINUTE / 2, "nas:6000"));
        assert!(may(MINUTE, "nas:6000"));
    }

    #[test]
    fn a_crowd_of_addresses_takes_no_more_room_than_there_is() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let kind = GreetError::WrongSecret.kind();
        let said = (0..3000).filter(|n| complaints.may(start, nas(*n), kind, MINUTE)).count();
        assert_eq!((said, complaints.0.lock().unwrap().len()), (CAP, CAP));
        assert!(complaints.may(start + 60 * MINUTE, nas(2999), kind, MINUTE), "there is room again after an hour");
    }
}
