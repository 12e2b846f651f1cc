//! `Version`: when a change was made, by whom, and what its author had seen.
//!
//! Minted once, by the machine where the change was made, and never altered after.

use super::DeviceId;
use serde::{Deserialize, Serialize};

/// Stamps are below this (about the year 2116), so that `stamp + STAMP_STEP` never overflows.
pub const STAMP_LIMIT: u64 = 1 << 62;
/// Stamps of peers are this far below the limit (2.3 years of nanoseconds), so that changes made on
/// top of them keep it.
const STAMP_ROOM: u64 = 1 << 56;
/// A change made on top of another is younger by this at least (ns). What a machine makes by
/// itself, a merge or a derived folder, is younger by 1 than what it replaces: whatever a person
/// does that beats that, beats it too.
pub const STAMP_STEP: u64 = 8;
/// Counters are below this. A machine that makes a million changes a second needs 146,000 years to
/// come near it.
pub const COUNTER_LIMIT: u64 = 1 << 62;
/// A version vector names at most this many devices.
pub const SEEN_LIMIT: usize = 256;

/// A version vector: for each device, the highest of its counters that went into a version.
///
/// Sorted by device, each once. It tells *superseded* from *concurrent* and decides nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct VersionVector(Vec<(DeviceId, u64)>);

impl VersionVector {
    /// The counter of `device`; 0 where it is not named.
    pub fn get(&self, device: &DeviceId) -> u64 {
        self.0.binary_search_by_key(device, |(d, _)| *d).map_or(0, |at| self.0[at].1)
    }

    /// The same with `device` at `counter`. A full vector forgets the lowest other device: that can
    /// only make a superseded version look concurrent, never the reverse.
    #[must_use]
    pub fn with(&self, device: DeviceId, counter: u64) -> Self {
        let mut list = self.0.clone();
        match list.binary_search_by_key(&device, |(d, _)| *d) {
            Ok(at) => list[at].1 = list[at].1.max(counter),
            Err(at) => list.insert(at, (device, counter)),
        }
        if list.len() > SEEN_LIMIT {
            let forget = list.iter().position(|(d, _)| *d != device).unwrap_or(0);
            list.remove(forget);
        }
        Self(list)
    }

    /// The same with `device` at exactly `counter`, whatever it says of that device: for a version
    /// that this device makes.
    #[must_use]
    pub fn made_by(&self, device: DeviceId, counter: u64) -> Self {
        self.up_to(device, 0).with(device, counter)
    }

    /// The same with `device` at no more than `counter`.
    #[must_use]
    pub fn up_to(&self, device: DeviceId, counter: u64) -> Self {
        let lower = |(d, known): (DeviceId, u64)| (d, if d == device { known.min(counter) } else { known });
        Self(self.devices().map(lower).filter(|(_, known)| *known > 0).collect())
    }

    /// What went into either.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        other.devices().fold(self.clone(), |joined, (device, counter)| joined.with(device, counter))
    }

    pub fn devices(&self) -> impl Iterator<Item = (DeviceId, u64)> {
        self.0.iter().copied()
    }

    fn is_valid(&self) -> bool {
        self.0.len() <= SEEN_LIMIT
            && self.0.windows(2).all(|w| w[0].0 < w[1].0)
            && self.0.iter().all(|&(_, counter)| counter < COUNTER_LIMIT)
    }
}

/// Which change made an entry. How stamps are minted: `docs/design.md#stamps`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Nanoseconds since 1970; grows along causality (P4).
    pub stamp: u64,
    pub author: DeviceId,
    pub seen: VersionVector,
}

impl Version {
    /// Whether this version was made with `other` known to its author: then `other` is older, not
    /// concurrent.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.seen.get(&other.author) >= other.counter()
    }

    /// Neither was made on top of the other.
    pub fn is_concurrent_with(&self, other: &Self) -> bool {
        !self.supersedes(other) && !other.supersedes(self)
    }

    /// The author's own counter of this version.
    pub fn counter(&self) -> u64 {
        self.seen.get(&self.author)
    }

    /// Whether it keeps the limits that no peer may pass.
    pub fn is_valid(&self) -> bool {
        self.stamp < STAMP_LIMIT - STAMP_ROOM && self.seen.is_valid()
    }
}
