//! The group as this machine knows it: its secrets, who belongs to it, and who was removed.
//!
//! A value: it says what comes of a rotation, of a hand-over, of news, and changes nothing else.
//!
//! - A rotation replaces the secret. Its list is that of whoever rotated.
//! - A machine that slept through it takes that list in place of its own, and adds whom it invited
//!   itself, and who invited it. So a removed machine gains nothing by showing other ids to one
//!   that does not know of the removal yet: they are on no list of the new secret.
//! - Where two parts rotated apart, the list is what both had, and again those.
//! - A machine's name is as it said on its last link here, else as it was listed. Nobody is
//!   believed about the name of one that is known.
//! - Removals are final, and those of all are united.
//!
//! Deliberately not here: who is told (`peers/membership.rs`), and proofs (`io/net/greeting.rs`).

use crate::engine::api::index::Index;
use crate::engine::limits::MEMBERS_CAP;
use crate::model::{Capability, DeviceId, Keyring, SecretBytes};
use crate::wire::members::{HandOver, HandedKeys, ListedMember, ReaderKeys, Removal, Roster};
use crate::wire::packet::HandedSecret;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The list of machines and the secrets.
pub const META_MEMBERSHIP: &str = "membership";

/// Why a machine is handed no secret. Told to it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHanded {
    #[error("it was removed from the group: 'dirsync leave' there, and an invitation, make it a new member")]
    Removed,
    #[error("it is not on the list of the group's machines: invite it again")]
    Unlisted,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupState {
    /// `None`: everyone knows the secret.
    keys: Option<HandedKeys>,
    members: BTreeMap<DeviceId, ListedMember>,
    removals: BTreeMap<DeviceId, Removal>,
    /// Which machine let this one in: known here, and not by what anyone says.
    inviter: Option<DeviceId>,
}

impl GroupState {
    pub fn load(index: &impl Index) -> Self {
        let stored = index.meta(META_MEMBERSHIP).and_then(|stored| postcard::from_bytes(&stored).ok());
        stored.unwrap_or_default()
    }

    /// Of bytes from outside; `None` where no index of a member could hold them.
    pub fn checked(stored: &[u8]) -> Option<Self> {
        let group: Self = postcard::from_bytes(stored).ok()?;
        let is_sound = group.roster().check().is_ok() && group.keys.as_ref().is_none_or(HandedKeys::is_sound);
        let is_keyed = group.members.iter().all(|(device, member)| *device == member.device)
            && group.removals.iter().all(|(device, removal)| *device == removal.device);
        (is_sound && is_keyed).then_some(group)
    }

    pub(in crate::engine) fn store(&self, index: &mut impl Index) {
        index.set_meta(META_MEMBERSHIP, &postcard::to_stdvec(self).expect("writing to memory does not fail"));
    }

    /// Before the start: the secret in force, of a machine whose file holds this one. If the index
    /// knows that as its own or as a former one, what the index says holds. Else the machine is in
    /// another group than it was, and the list begins anew.
    /// `inviter`: of a machine that joined just now.
    pub fn settle(index: &mut impl Index, file: &HandedSecret, inviter: Option<ListedMember>) -> HandedSecret {
        let known = Self::load(index);
        if let Some(secret) = known.in_force(file) {
            return secret;
        }
        let keys = match file {
            HandedSecret::Writer(secret) => HandedKeys::Writer(Keyring::new(*secret)),
            HandedSecret::Reader { secret, writers_public } => {
                let (secret, writers_public) = (*secret, *writers_public);
                HandedKeys::Reader(ReaderKeys { secret, writers_public, former: Vec::new() })
            }
        };
        let by = inviter.as_ref().map(|inviter| inviter.device);
        let members = inviter.into_iter().map(|inviter| (inviter.device, inviter)).collect();
        Self { keys: Some(keys), members, inviter: by, ..Self::default() }.store(index);
        file.clone()
    }

    /// Before the start: everyone knows the secret.
    pub fn settle_open(index: &mut impl Index) {
        if Self::load(index).keys.is_some() {
            Self::default().store(index);
        }
    }

    fn in_force(&self, file: &HandedSecret) -> Option<HandedSecret> {
        let is_known = match (&self.keys, file) {
            (Some(HandedKeys::Writer(keyring)), HandedSecret::Writer(secret)) => keyring.knows(secret),
            (Some(HandedKeys::Reader(keys)), HandedSecret::Reader { secret, .. }) => keys.knows(secret),
            _ => false,
        };
        self.secret().filter(|_| is_known)
    }

    /// The secret in force.
    pub fn secret(&self) -> Option<HandedSecret> {
        self.keys.as_ref().map(|keys| match keys {
            HandedKeys::Writer(keyring) => HandedSecret::Writer(keyring.secret()),
            HandedKeys::Reader(ReaderKeys { secret, writers_public, .. }) => {
                HandedSecret::Reader { secret: *secret, writers_public: *writers_public }
            }
        })
    }

    pub fn keys(&self) -> Option<&HandedKeys> {
        self.keys.as_ref()
    }

    pub fn roster(&self) -> Roster {
        Roster {
            members: self.members.values().cloned().collect(),
            removals: self.removals.values().cloned().collect(),
        }
    }

    pub fn member(&self, device: &DeviceId) -> Option<&ListedMember> {
        self.members.get(device)
    }

    pub fn removal(&self, device: &DeviceId) -> Option<&Removal> {
        self.removals.get(device)
    }

    /// Which listed device it is: itself, or one that it was before. What was removed of its former
    /// ones counts only where it is not listed itself: who was removed shows none. One that left
    /// may be gone on from, as it is by an import.
    pub fn listed_as(&self, device: DeviceId, former: &[DeviceId]) -> Result<DeviceId, NotHanded> {
        let is_out = |device: &DeviceId| self.removals.get(device).is_some_and(|removal| !removal.left);
        if self.removals.contains_key(&device) {
            return Err(NotHanded::Removed);
        }
        if self.members.contains_key(&device) {
            return Ok(device);
        }
        if former.iter().any(is_out) {
            return Err(NotHanded::Removed);
        }
        former.iter().copied().find(|device| self.members.contains_key(device)).ok_or(NotHanded::Unlisted)
    }

    /// Lists a machine, or what is news of one. Whether anything changed.
    pub(in crate::engine) fn list(&mut self, member: ListedMember) -> bool {
        if self.removals.contains_key(&member.device) {
            return false;
        }
        let listed = match self.members.get(&member.device) {
            Some(known) => joined(known, &member),
            None if self.members.len() < MEMBERS_CAP => member,
            None => return false,
        };
        self.members.insert(listed.device, listed.clone()) != Some(listed)
    }

    /// What a machine calls itself, as it said on its link. Whether that is another name.
    pub(in crate::engine) fn rename(&mut self, device: &DeviceId, name: &str) -> bool {
        let member = self.members.get_mut(device).filter(|member| member.name != name);
        member.map(|member| name.clone_into(&mut member.name)).is_some()
    }

    /// Takes a machine off the list until it is seen again. Whether it was there.
    pub(in crate::engine) fn forget(&mut self, device: &DeviceId) -> bool {
        self.members.remove(device).is_some()
    }

    /// Takes a machine off the list for good. Whether anything changed.
    pub(in crate::engine) fn unlist(&mut self, removal: Removal) -> bool {
        self.members.remove(&removal.device);
        let removal = match self.removals.get(&removal.device) {
            Some(known) => joined_removal(known, &removal),
            None => removal,
        };
        if self.removals.len() >= MEMBERS_CAP && !self.removals.contains_key(&removal.device) {
            let oldest = self.removals.values().min_by_key(|removal| removal.removed_ns);
            let oldest = oldest.map(|removal| removal.device);
            oldest.map(|oldest| self.removals.remove(&oldest));
        }
        self.removals.insert(removal.device, removal.clone()) != Some(removal)
    }

    /// A new secret takes the place of the one in force. `false`: this machine has none to replace.
    pub(in crate::engine) fn rotate(&mut self, fresh: SecretBytes) -> bool {
        let Some(HandedKeys::Writer(keyring)) = &mut self.keys else { return false };
        keyring.rotate(fresh);
        true
    }

    /// What comes of a hand-over; `None`: nothing, since it is not newer, or is not for this
    /// machine.
    pub(in crate::engine) fn handed(&self, own: DeviceId, given: &HandOver) -> Option<Self> {
        let (keys, is_behind) = match (self.keys.as_ref()?, &given.keys) {
            (HandedKeys::Writer(ours), HandedKeys::Writer(theirs)) => {
                let joined = ours.join(theirs).filter(|joined| joined.secret() != ours.secret())?;
                (HandedKeys::Writer(joined), theirs.includes(ours))
            }
            (HandedKeys::Reader(ours), HandedKeys::Reader(theirs)) => (HandedKeys::Reader(ours.joined(theirs)?), true),
            _ => return None,
        };
        let mut next = Self { keys: Some(keys), members: BTreeMap::new(), ..self.clone() };
        for removal in &given.roster.removals {
            next.unlist(removal.clone());
        }
        if next.removals.contains_key(&own) {
            return None;
        }
        let of_both = |member: &&ListedMember| is_behind || self.members.contains_key(&member.device);
        let ours = |member: &&ListedMember| {
            member.device == own || is_invited_by(member, own) || self.inviter == Some(member.device)
        };
        for member in given.roster.members.iter().filter(of_both) {
            // Whom this machine invited it knows itself.
            next.list(ListedMember { invited: member.invited && member.added_by != own, ..member.clone() });
        }
        for member in self.members.values().filter(ours) {
            next.list(member.clone());
        }
        Some(next)
    }
}

pub(in crate::engine) fn is_invited_by(member: &ListedMember, inviter: DeviceId) -> bool {
    member.invited && member.added_by == inviter
}

/// What two machines know of one removal: the first word of it, and the highest counter.
fn joined_removal(one: &Removal, other: &Removal) -> Removal {
    let said = |removal: &Removal| (removal.removed_ns, removal.removed_by, removal.left, removal.name.clone());
    let first = if said(one) <= said(other) { one } else { other };
    Removal { counter: one.counter.max(other.counter), ..first.clone() }
}

/// What this machine knows of one, and another: the same whoever puts it together, but for the
/// name, which is as it is known here.
fn joined(one: &ListedMember, other: &ListedMember) -> ListedMember {
    let added = |member: &ListedMember| (member.invited, Reverse(member.added_ns), Reverse(member.added_by));
    let added = if added(one) >= added(other) { one } else { other };
    let writes = one.capability.writes() || other.capability.writes();
    ListedMember {
        device: one.device,
        name: one.name.clone(),
        capability: if writes { Capability::Write } else { Capability::ReadOnly },
        added_by: added.added_by,
        added_ns: added.added_ns,
        invited: added.invited,
    }
}
