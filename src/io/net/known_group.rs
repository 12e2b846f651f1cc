//! The group as the engine knows it, for the network's tasks: who is refused, which former secrets
//! open a hand-over, and what is handed to whom.
//!
//! Deliberately not here: the rules of the list (`engine/api/group.rs`), and the packets
//! (`hand_over`).

use crate::engine::{GroupState, NotHanded};
use crate::io::store::keys::{ChannelKeys, SecretKeys, reader_secret};
use crate::model::{Capability, DeviceId, SecretBytes};
use crate::wire::members::{HandOver, HandedKeys, ReaderKeys};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What tells groups apart where nothing is proved yet.
pub type GroupTag = [u8; 16];

/// Former secrets that this machine announces itself with, the newest.
const ANNOUNCED: usize = 16;
/// Former secrets that an address is dialled with where none is known to be meant, the newest.
const DIALLED: usize = 8;

/// How long a joiner waits until it is on the list: as long as the disk of the index may take.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct KnownGroup {
    known: Mutex<Known>,
    /// Told whenever it is another.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Known {
    group: GroupState,
    former: HashMap<GroupTag, Former>,
    /// The newest first.
    tags: Vec<GroupTag>,
}

#[derive(Clone, Copy)]
enum Former {
    Writer(SecretBytes),
    Reader(SecretBytes, [u8; 32]),
}

impl Former {
    fn members_secret(self) -> SecretBytes {
        match self {
            Self::Writer(secret) => reader_secret(&secret),
            Self::Reader(secret, _) => secret,
        }
    }

    fn keys(self) -> SecretKeys {
        match self {
            Self::Writer(secret) => SecretKeys::of_writer(&secret),
            Self::Reader(secret, public) => SecretKeys::of_reader(&secret, public),
        }
    }
}

impl KnownGroup {
    pub fn new(group: GroupState) -> Self {
        let known = Self::default();
        known.set(group);
        known
    }

    pub fn set(&self, group: GroupState) {
        let mut known = self.lock();
        if group.keys() != known.group.keys() {
            let former: Vec<_> = match group.keys() {
                Some(HandedKeys::Writer(keyring)) => keyring.former().copied().map(Former::Writer).collect(),
                Some(HandedKeys::Reader(keys)) => {
                    keys.former.iter().map(|(secret, public)| Former::Reader(*secret, *public)).collect()
                }
                None => Vec::new(),
            };
            let tagged = |former: Former| (ChannelKeys::derive(&former.members_secret()).group_tag, former);
            let tagged: Vec<_> = former.into_iter().map(tagged).collect();
            known.tags = tagged.iter().map(|(tag, _)| *tag).collect();
            known.former = tagged.into_iter().collect();
        }
        known.group = group;
        drop(known);
        self.changed.send_replace(());
    }

    pub fn is_removed(&self, device: &DeviceId) -> bool {
        self.lock().group.removal(device).is_some()
    }

    pub fn is_listed(&self, device: &DeviceId) -> bool {
        self.lock().group.member(device).is_some()
    }

    /// It is on the list, or was.
    pub fn is_known(&self, device: &DeviceId) -> bool {
        let known = self.lock();
        known.group.member(device).is_some() || known.group.removal(device).is_some()
    }

    /// Waits until it is on the list, durably. `false`: it is not, in time or for good.
    pub async fn is_listed_soon(&self, device: &DeviceId) -> bool {
        let mut changed = self.changed.subscribe();
        let listed = async {
            while self.lock().group.member(device).is_none() {
                if changed.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(LISTED_WITHIN, listed).await.unwrap_or(false)
    }

    pub fn name_of(&self, device: &DeviceId) -> String {
        self.lock().group.member(device).map_or_else(|| device.short(), |member| member.name.clone())
    }

    /// The keys of a former secret with this tag.
    pub fn former(&self, tag: &GroupTag) -> Option<SecretKeys> {
        let former = self.lock().former.get(tag).copied();
        former.map(Former::keys)
    }

    /// Those by which its members announced themselves.
    pub fn former_channel(&self, tag: &GroupTag) -> Option<ChannelKeys> {
        let former = self.lock().former.get(tag).copied();
        former.map(|former| ChannelKeys::derive(&former.members_secret()))
    }

    /// Those of one of the newest former secrets, of another each turn; the newest more often.
    pub fn former_by_turns(&self, turn: usize) -> Option<ChannelKeys> {
        let tag = {
            let known = self.lock();
            let count = known.tags.len().min(ANNOUNCED);
            let nth = if turn.is_multiple_of(2) { 0 } else { (turn / 2) % count.max(1) };
            known.tags.get(nth).copied()
        };
        self.former_channel(&tag?)
    }

    /// The tags of the newest former secrets.
    pub fn newest_former(&self) -> Vec<GroupTag> {
        self.lock().tags.iter().take(DIALLED).copied().collect()
    }

    /// As the list has it (`GroupState::listed_as`).
    pub fn listed_as(&self, device: DeviceId, former: &[DeviceId]) -> Result<DeviceId, NotHanded> {
        self.lock().group.listed_as(device, former)
    }

    /// What a listed machine gets, by what it has proved; `None`: this machine may only read, and
    /// hands nothing over.
    pub fn hand_over(&self, capability: Capability) -> Option<HandOver> {
        let group = self.lock().group.clone();
        let Some(HandedKeys::Writer(keyring)) = group.keys() else { return None };
        let keys = match capability {
            Capability::Write => HandedKeys::Writer(keyring.clone()),
            Capability::ReadOnly => {
                let as_reader =
                    |secret: &SecretBytes| (reader_secret(secret), SecretKeys::of_writer(secret).writers_public);
                let (secret, writers_public) = as_reader(&keyring.secret());
                let former = keyring.former().map(as_reader).collect();
                HandedKeys::Reader(ReaderKeys { secret, writers_public, former })
            }
        };
        Some(HandOver { keys, roster: group.roster() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
