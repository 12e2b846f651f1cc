//! What devices have cost the index, so that none fills it (P9).
//!
//! Each has an account that fills with what it delivers and empties with time, by the steady clock.
//! The accounts are kept in the index, so that a restart forgives nothing: they are stored once a
//! minute, and at once where much was charged, so that a crash forgets little. Deliberately not
//! here: what costs how much, and what becomes of those who cannot pay (`refuse.rs`).

use crate::engine::Engine;
use crate::engine::api::event::Now;
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{
    COSTS_AGAIN_OF_ALL, COSTS_AGAIN_OF_ONE, COSTS_OF_ALL, COSTS_OF_ONE, COSTS_STORE_AT_ONCE, COSTS_STORE_EVERY_NS,
    SECOND, SPENDERS,
};
use crate::engine::peers::Peers;
use crate::model::DeviceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const META_COSTS: &str = "costs";

/// An account that fills with costs and empties with time (bytes; ns of the steady clock).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct LeakyBucket {
    spent: u64,
    at: u64,
}

impl LeakyBucket {
    fn settle(&mut self, now: u64, again: u64) {
        let earned = u128::from(now.saturating_sub(self.at)) * u128::from(again) / u128::from(SECOND);
        // What is less than a byte counts next time.
        if earned > 0 {
            self.spent = self.spent.saturating_sub(u64::try_from(earned).unwrap_or(u64::MAX));
            self.at = now;
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct CostBuckets {
    of_all: LeakyBucket,
    by_device: BTreeMap<DeviceId, LeakyBucket>,
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Costs {
    accounts: CostBuckets,
    /// Charged since the accounts were stored (bytes).
    unstored: u64,
    stored_at: u64,
    /// Whose message is being handled: it pays for what that costs.
    pub(super) payer: Option<DeviceId>,
}

impl Costs {
    /// As the index has them. No sum of what it says may overflow, and no account of a later time
    /// than now stays full.
    pub fn load(index: &impl Index, now: u64) -> Self {
        let stored = index.meta(META_COSTS).and_then(|stored| postcard::from_bytes(&stored).ok());
        let CostBuckets { of_all, by_device } = stored.unwrap_or_default();
        let sound =
            |account: LeakyBucket, most| LeakyBucket { spent: account.spent.min(most), at: account.at.min(now) };
        let by_device = by_device.into_iter().take(SPENDERS);
        let by_device = by_device.map(|(device, account)| (device, sound(account, COSTS_OF_ONE))).collect();
        let accounts = CostBuckets { of_all: sound(of_all, COSTS_OF_ALL), by_device };
        Self { accounts, ..Self::default() }
    }

    /// Charges the device that delivered something; `false`: it has used up what it may cost, and
    /// nothing was charged.
    fn charge(&mut self, now: u64, device: DeviceId, cost: u64) -> bool {
        let CostBuckets { of_all, by_device } = &mut self.accounts;
        if by_device.len() >= SPENDERS && !by_device.contains_key(&device) {
            by_device.retain(|_, account| {
                account.settle(now, COSTS_AGAIN_OF_ONE);
                account.spent > 0
            });
            if by_device.len() >= SPENDERS {
                return false;
            }
        }
        let account = by_device.entry(device).or_insert(LeakyBucket { spent: 0, at: now });
        account.settle(now, COSTS_AGAIN_OF_ONE);
        of_all.settle(now, COSTS_AGAIN_OF_ALL);
        let fits = account.spent + cost <= COSTS_OF_ONE && of_all.spent + cost <= COSTS_OF_ALL;
        if fits {
            account.spent += cost;
            of_all.spent += cost;
            self.unstored += cost;
        }
        fits
    }

    /// Whether so much was charged that it is to be stored with what it was charged for.
    pub fn is_due(&self) -> bool {
        self.unstored >= COSTS_STORE_AT_ONCE
    }

    #[cfg(test)]
    pub fn spend_all(&mut self, device: DeviceId) {
        let full = LeakyBucket { spent: COSTS_OF_ONE, at: u64::MAX };
        self.accounts.by_device.insert(device, full);
    }
}

impl Peers {
    pub(in crate::engine) fn load_costs<I: Index>(&mut self, core: &Core<I>, now: Now) {
        self.costs = Costs::load(&core.index, core.steady(now));
    }

    /// Whether the device that delivered something pays for it.
    pub(in crate::engine) fn charge<I: Index>(
        &mut self,
        core: &Core<I>,
        now: Now,
        device: DeviceId,
        cost: u64,
    ) -> bool {
        let steady = core.steady(now);
        self.costs.charge(steady, device, cost)
    }

    /// What a device is charged with at this time (bytes).
    #[cfg(test)]
    pub(super) fn charged(&self, device: &DeviceId) -> u64 {
        self.costs.accounts.by_device.get(device).map_or(0, |account| account.spent)
    }

    /// Once a group of events.
    pub(in crate::engine) fn store_costs<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let Costs { accounts, unstored, stored_at, .. } = &mut self.costs;
        if *unstored == 0 || (*unstored < COSTS_STORE_AT_ONCE && now.mono < *stored_at + COSTS_STORE_EVERY_NS) {
            return;
        }
        let stored = postcard::to_stdvec(accounts).expect("writing to memory does not fail");
        core.index.set_meta(META_COSTS, &stored);
        (*unstored, *stored_at) = (0, now.mono);
    }
}

impl<I: Index> Engine<I> {
    /// What a device is charged with at this time (bytes).
    #[cfg(test)]
    pub(crate) fn charged(&self, device: &DeviceId) -> u64 {
        self.peers.charged(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;

    fn device(n: usize) -> DeviceId {
        DeviceId(*blake3::hash(&n.to_be_bytes()).as_bytes())
    }

    #[test]
    fn what_a_device_may_cost_comes_back_with_time() {
        let mut costs = Costs::default();
        assert!(costs.charge(SECOND, device(1), COSTS_OF_ONE));
        assert!(!costs.charge(SECOND, device(1), 1));
        assert!(costs.charge(SECOND, device(2), 1), "another one pays for itself");
        assert!(costs.charge(2 * SECOND, device(1), COSTS_AGAIN_OF_ONE));
        assert!(!costs.charge(2 * SECOND, device(1), 1));
    }

    #[test]
    fn all_devices_together_may_not_cost_more_than_their_limit() {
        let mut costs = Costs::default();
        let paid = (0..8).filter(|n| costs.charge(0, device(*n), COSTS_OF_ONE)).count() as u64;
        assert_eq!(paid, COSTS_OF_ALL / COSTS_OF_ONE);
    }

    #[test]
    fn devices_whose_costs_came_back_make_room_for_others() {
        let mut costs = Costs::default();
        assert!((0..SPENDERS).all(|n| costs.charge(0, device(n), 1)));
        assert!(!costs.charge(0, device(SPENDERS), 1));
        assert!(costs.charge(SECOND, device(SPENDERS), 1));
    }

    #[test]
    fn accounts_that_an_index_makes_up_are_few_and_empty_like_others() {
        let mut index = MapIndex::new();
        let made_up = LeakyBucket { spent: u64::MAX, at: u64::MAX };
        let by_device = (0..3 * SPENDERS).map(|n| (device(n), made_up.clone())).collect();
        let accounts = CostBuckets { of_all: made_up.clone(), by_device };
        index.set_meta(META_COSTS, &postcard::to_stdvec(&accounts).unwrap());
        let mut costs = Costs::load(&index, SECOND);
        assert_eq!(costs.accounts.by_device.len(), SPENDERS);
        let first = *costs.accounts.by_device.keys().next().unwrap();
        assert!(!costs.charge(SECOND, first, u64::MAX >> 1));
        assert!(costs.charge(2 * SECOND, first, COSTS_AGAIN_OF_ONE));
        index.set_meta(META_COSTS, b"\xff");
        assert!(Costs::load(&index, SECOND).charge(SECOND, first, COSTS_OF_ONE), "no accounts are no charges");
    }
}
