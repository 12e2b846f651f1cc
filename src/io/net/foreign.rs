//! Machines of other groups that presence heard lately.
//!
//! Deliberately not here: what is said of them (`alone`, `hub`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Presence names a machine of another group once an hour.
const HEARD_WITHIN: Duration = Duration::from_mins(61);
const MAX_FOREIGN: usize = 16;

/// Machines of other groups that presence heard, by where they take links.
#[derive(Default)]
pub struct Foreign(Mutex<BTreeMap<SocketAddr, (String, Instant)>>);

impl Foreign {
    pub fn hear(&self, address: SocketAddr, name: &str) {
        let (mut heard, now) = (self.lock(), Instant::now());
        heard.retain(|_, (_, at)| now - *at < HEARD_WITHIN);
        if heard.len() < MAX_FOREIGN || heard.contains_key(&address) {
            heard.insert(address, (name.to_owned(), now));
        }
    }

    /// Each name once: a machine may have several addresses.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.lock().values().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, (String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_machine_with_two_addresses_is_one_and_a_crowd_takes_no_more_room_than_there_is() {
        let foreign = Foreign::default();
        for n in 0..100 {
            foreign.hear((Ipv4Addr::new(10, 0, 0, n), 6000).into(), &format!("m{}", n / 2));
        }
        assert_eq!(foreign.lock().len(), MAX_FOREIGN);
        assert_eq!(foreign.names().len(), MAX_FOREIGN / 2);
    }
}
