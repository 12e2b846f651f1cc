//! What machines tell each other of their group: who belongs to it, and who was removed.
//!
//! May import `model`. Deliberately not here: which of it is believed (`engine/peers/roster.rs`).

use super::names::is_clean_name;
use crate::model::keyring::SECRET_BYTES;
use crate::model::{Capability, DeviceId, Keyring, SecretBytes};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A list names at most so many machines, and as many that were removed.
pub const MEMBERS: usize = 1024;
/// Former secrets that a reader is told of, at most.
const FORMER: usize = 1024;
const TIME_LIMIT: u64 = 1 << 63;

/// A machine of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedMember {
    pub device: DeviceId,
    /// As whoever tells of it knows it.
    pub name: String,
    pub capability: Capability,
    /// Who let it in, or saw first that it knows the secret.
    pub added_by: DeviceId,
    /// When that was, by the clock of that machine (ns since 1970).
    pub added_ns: u64,
    /// It came by an invitation of that machine.
    pub invited: bool,
}

/// A machine that does not belong to the group any more. That is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub device: DeviceId,
    pub name: String,
    pub removed_by: DeviceId,
    pub removed_ns: u64,
    /// It left by itself.
    pub left: bool,
    /// The highest counter of its changes that any machine took in before it heard of the removal.
    pub counter: u64,
}

/// Who belongs to the group, and who does not any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roster {
    pub members: Vec<ListedMember>,
    pub removals: Vec<Removal>,
}

impl Roster {
    /// Whether it keeps the limits that no peer may pass; the subject of the first one broken.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.members.len() > MEMBERS || self.removals.len() > MEMBERS {
            return Err("a list of over 1,024 machines");
        }
        let names = self.members.iter().map(|member| &member.name);
        if !names.chain(self.removals.iter().map(|removal| &removal.name)).all(|name| is_clean_name(name)) {
            return Err("a name that no machine may have");
        }
        let times = self.members.iter().map(|member| member.added_ns);
        let numbers = self.removals.iter().flat_map(|removal| [removal.removed_ns, removal.counter]);
        if times.chain(numbers).any(|number| number >= TIME_LIMIT) {
            return Err("a time or a counter of 2^63 or more");
        }
        Ok(())
    }

    /// About what it takes on the wire and in memory.
    pub fn wire_bytes(&self) -> usize {
        let members = self.members.iter().map(|member| 96 + member.name.len());
        let removals = self.removals.iter().map(|removal| 96 + removal.name.len());
        64 + members.chain(removals).sum::<usize>()
    }
}

/// What a machine is handed that proved a former secret. `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandedKeys {
    Writer(Keyring),
    Reader(ReaderKeys),
}

/// What a reader has of the secret in force, and of those before it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderKeys {
    pub secret: SecretBytes,
    /// By which writers' signatures are checked.
    pub writers_public: [u8; SECRET_BYTES],
    /// Of the former secrets, the newest first: a reader's secret, and the writers' key.
    pub former: Vec<(SecretBytes, [u8; SECRET_BYTES])>,
}

impl HandedKeys {
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Writer(keyring) => keyring.is_sound(),
            Self::Reader(keys) => keys.former.len() <= FORMER,
        }
    }
}

impl fmt::Debug for HandedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandedKeys(hidden)")
    }
}

impl fmt::Debug for ReaderKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReaderKeys(hidden)")
    }
}

impl ReaderKeys {
    pub fn knows(&self, secret: &SecretBytes) -> bool {
        self.secret == *secret || self.former.iter().any(|(former, _)| former == secret)
    }

    /// These take the place of others, unless those are newer.
    #[must_use]
    pub fn joined(&self, newer: &Self) -> Option<Self> {
        if newer.secret == self.secret || self.former.iter().any(|(former, _)| *former == newer.secret) {
            return None;
        }
        let mut joined = newer.clone();
        let ours = std::iter::once((self.secret, self.writers_public)).chain(self.former.iter().copied());
        let new: Vec<_> = ours.filter(|(secret, _)| !newer.knows(secret)).collect();
        joined.former.extend(new);
        joined.former.truncate(FORMER);
        Some(joined)
    }
}

/// What is handed over: the keys, the list, and by which former keys its sender is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    pub keys: HandedKeys,
    pub roster: Roster,
}
