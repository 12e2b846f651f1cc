//! The invitations that are open: who may still join with which code.
//!
//! Codes live in memory only, and what is kept of one is the key of its proof. A code belongs to
//! the device that proved it first: another one finds it used, and the same one may come again
//! after a cut. Deliberately not here: the proof itself (`invite.rs`), and what presence says
//! (`presence`).

use crate::io::clock;
use crate::io::store::secret::Secret;
use crate::model::invitation::CODE_BYTES;
use crate::model::{Capability, DeviceId, InvitationCode};
use crate::wire::packet::HandedSecret;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// So many may be open at once (P9).
const MAX_OPEN: usize = 16;
/// An ended one is remembered for so long, so that its code is called used or expired.
const REMEMBERED: Duration = Duration::from_hours(1);
const MAX_REMEMBERED: usize = 64;
/// Wrong tries of one address; then it is not heard until what is open now has ended.
const MAX_WRONG: u32 = 5;
const MAX_ADDRESSES: usize = 1024;
pub const MAX_USES: u32 = 64;
pub const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// Why a code lets nobody in. The words travel to the joiner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum CodeRefusal {
    #[error("unknown code")]
    Unknown,
    #[error("too many wrong codes")]
    Blocked,
    #[error("expired")]
    Expired,
    #[error("already used")]
    Used,
}

impl CodeRefusal {
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Blocked, Self::Expired, Self::Used];
}

/// The key of the code, and what it is good for; or why it is not, with the key if the code was
/// one.
pub(super) type SpendResult = Result<([u8; 32], Capability), (CodeRefusal, Option<[u8; 32]>)>;

/// Why there is no new invitation.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    #[error("--open lets everyone in: start the other machine with --open as well")]
    Open,
    #[error("this machine may only read, and so may those that it invites: add --read-only")]
    ReadOnly,
    #[error("{MAX_OPEN} invitations are open already; 'dirsync invite --cancel' closes them")]
    TooMany,
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// An open invitation, as it is shown: never its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenInvitation {
    pub uses_left: u32,
    pub ends_in: Duration,
}

/// See the top of this file.
#[derive(Default)]
pub struct Invitations {
    /// What joiners get; none where everyone knows it.
    secret: Option<Secret>,
    register: Mutex<Register>,
    /// Presence is told, so that a joiner does not wait for the next announcement.
    pub changed: Notify,
}

#[derive(Default)]
struct Register {
    list: Vec<Invitation>,
    /// Wrong tries, and until when they count (since boot).
    wrong: HashMap<IpAddr, (u32, Duration)>,
}

struct Invitation {
    key: [u8; 32],
    /// Of those who join by it.
    capability: Capability,
    uses: u32,
    /// Since boot.
    until: Duration,
    spent_by: Vec<Spender>,
}

/// A device that proved the code.
struct Spender {
    device: DeviceId,
    has_joined: bool,
}

impl Invitation {
    fn uses_left(&self) -> u32 {
        self.uses.saturating_sub(self.spent_by.len() as u32)
    }

    /// Whether somebody may still come with its code.
    fn is_open(&self, now: Duration) -> bool {
        now < self.until && (self.uses_left() > 0 || self.spent_by.iter().any(|spender| !spender.has_joined))
    }
}

impl Register {
    fn forget(&mut self, now: Duration) {
        self.list.retain(|invitation| now < invitation.until + REMEMBERED);
        while self.list.len() > MAX_REMEMBERED {
            let first = self.list.iter().enumerate().min_by_key(|(_, invitation)| invitation.until);
            let Some((first, _)) = first else { break };
            self.list.remove(first);
        }
        self.wrong.retain(|_, (_, until)| now < *until);
    }

    fn note_wrong(&mut self, now: Duration, address: IpAddr) {
        let open = self.list.iter().filter(|invitation| invitation.is_open(now));
        let Some(until) = open.map(|invitation| invitation.until).max() else { return };
        if self.wrong.len() >= MAX_ADDRESSES && !self.wrong.contains_key(&address) {
            let least = self.wrong.iter().min_by_key(|(_, (tries, _))| *tries).map(|(address, _)| *address);
            least.map(|least| self.wrong.remove(&least));
        }
        let (tries, counts_until) = self.wrong.entry(address).or_insert((0, until));
        if *tries < MAX_WRONG {
            *tries += 1;
            *counts_until = until;
        }
    }
}

impl Invitations {
    pub fn new(secret: Option<Secret>) -> Self {
        Self { secret, ..Self::default() }
    }

    /// What is handed to a joiner that has proved a code with this capability.
    pub(super) fn secret(&self, capability: Capability) -> Option<HandedSecret> {
        self.secret.as_ref()?.to_joiner(capability)
    }

    /// A new code, for so many machines and so long.
    pub fn invite(&self, uses: u32, lifetime: Duration, capability: Capability) -> Result<InvitationCode, InviteError> {
        let secret = self.secret.as_ref().ok_or(InviteError::Open)?;
        secret.to_joiner(capability).ok_or(InviteError::ReadOnly)?;
        let mut bytes = [0; CODE_BYTES];
        getrandom::fill(&mut bytes)?;
        let code = InvitationCode::from_random(bytes);
        self.open(&code, (uses, capability), lifetime, clock::since_boot())?;
        self.changed.notify_one();
        Ok(code)
    }

    fn open(
        &self,
        code: &InvitationCode,
        (uses, capability): (u32, Capability),
        lifetime: Duration,
        now: Duration,
    ) -> Result<(), InviteError> {
        let mut register = self.lock();
        register.forget(now);
        if register.list.iter().filter(|invitation| invitation.is_open(now)).count() >= MAX_OPEN {
            return Err(InviteError::TooMany);
        }
        let until = now + lifetime.min(MAX_LIFETIME);
        let uses = uses.clamp(1, MAX_USES);
        register.list.push(Invitation { key: code.proof_key(), capability, uses, until, spent_by: Vec::new() });
        Ok(())
    }

    /// Closes all that are open, and says how many those were.
    pub fn cancel(&self) -> usize {
        let now = clock::since_boot();
        let mut register = self.lock();
        let open = register.list.iter_mut().filter(|invitation| invitation.is_open(now));
        let closed = open.map(|invitation| invitation.until = now).count();
        register.wrong.clear();
        closed
    }

    pub fn list(&self) -> Vec<OpenInvitation> {
        let now = clock::since_boot();
        let register = self.lock();
        let open = register.list.iter().filter(|invitation| invitation.is_open(now));
        open.map(|one| OpenInvitation { uses_left: one.uses_left(), ends_in: one.until.saturating_sub(now) }).collect()
    }

    /// Whether joiners should ask here: an invitation is open, or ended so lately that one who
    /// comes late hears why.
    pub fn is_any_known(&self) -> bool {
        let now = clock::since_boot();
        self.lock().list.iter().any(|invitation| now < invitation.until + REMEMBERED)
    }

    /// Spends a use of the code whose key `proves`, for this device: in one step, so that of two
    /// joiners with one code one comes in. The key is for the answer's proof.
    pub(super) fn spend(&self, address: IpAddr, device: DeviceId, proves: impl Fn(&[u8; 32]) -> bool) -> SpendResult {
        self.spend_at(clock::since_boot(), address, device, proves)
    }

    fn spend_at(
        &self,
        now: Duration,
        address: IpAddr,
        device: DeviceId,
        proves: impl Fn(&[u8; 32]) -> bool,
    ) -> SpendResult {
        let mut register = self.lock();
        register.forget(now);
        if register.wrong.get(&address).is_some_and(|(tries, _)| *tries >= MAX_WRONG) {
            return Err((CodeRefusal::Blocked, None));
        }
        let Some(proved) = register.list.iter_mut().find(|invitation| proves(&invitation.key)) else {
            register.note_wrong(now, address);
            return Err((CodeRefusal::Unknown, None));
        };
        if now >= proved.until {
            return Err((CodeRefusal::Expired, Some(proved.key)));
        }
        if !proved.spent_by.iter().any(|spender| spender.device == device) {
            if proved.uses_left() == 0 {
                return Err((CodeRefusal::Used, Some(proved.key)));
            }
            proved.spent_by.push(Spender { device, has_joined: false });
        }
        Ok((proved.key, proved.capability))
    }

    /// This device has stored the secret.
    pub(super) fn note_joined(&self, device: DeviceId) {
        let mut register = self.lock();
        let spenders = register.list.iter_mut().flat_map(|invitation| &mut invitation.spent_by);
        spenders.filter(|spender| spender.device == device).for_each(|spender| spender.has_joined = true);
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MINUTE: Duration = Duration::from_mins(1);
    const NOW: Duration = Duration::from_hours(1);

    fn secret() -> Secret {
        Secret::from_member(&HandedSecret::Writer([7; 32]))
    }

    fn code(n: u8) -> InvitationCode {
        InvitationCode::from_random([n; CODE_BYTES])
    }

    fn at(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    fn device(n: u8) -> DeviceId {
        DeviceId([n; 32])
    }

    struct Bench(Invitations);

    impl Bench {
        fn with(uses: u32) -> Self {
            let bench = Self(Invitations::new(Some(secret())));
            bench.0.open(&code(1), (uses, Capability::Write), 10 * MINUTE, NOW).unwrap();
            bench
        }

        fn spend(&self, now: Duration, from: u8, by: u8, said: u8) -> Result<(), CodeRefusal> {
            let key = code(said).proof_key();
            self.0.spend_at(now, at(from), device(by), |known| *known == key).map(drop).map_err(|(why, _)| why)
        }

        fn is_open(&self, now: Duration) -> bool {
            self.0.lock().list.iter().any(|invitation| invitation.is_open(now))
        }
    }

    #[test]
    fn a_code_lets_one_device_in_and_the_next_one_finds_it_used() {
        let bench = Bench::with(1);
        assert_eq!(bench.spend(NOW, 1, 1, 1), Ok(()));
        assert_eq!(bench.spend(NOW, 2, 2, 1), Err(CodeRefusal::Used));
        assert_eq!(bench.spend(NOW, 1, 1, 1), Ok(()), "the first may come again after a cut");
        assert!(bench.is_open(NOW), "it has not stored the secret yet");
        bench.0.note_joined(device(1));
        assert!(!bench.is_open(NOW));
        assert_eq!(bench.spend(NOW, 2, 2, 1), Err(CodeRefusal::Used));
    }

    #[test]
    fn a_code_ends_after_its_time_and_is_called_expired() {
        let bench = Bench::with(1);
        assert_eq!(bench.spend(NOW + 10 * MINUTE, 1, 1, 1), Err(CodeRefusal::Expired));
        assert!(!bench.is_open(NOW + 10 * MINUTE));
        assert_eq!(bench.spend(NOW + 71 * MINUTE, 1, 1, 1), Err(CodeRefusal::Unknown), "it is forgotten then");
    }

    #[test]
    fn a_code_for_three_lets_three_in() {
        let bench = Bench::with(3);
        for by in 1..=3 {
            assert_eq!(bench.spend(NOW, by, by, 1), Ok(()));
        }
        assert_eq!(bench.spend(NOW, 4, 4, 1), Err(CodeRefusal::Used));
    }

    #[test]
    fn five_wrong_tries_block_the_address_and_nobody_else() {
        let bench = Bench::with(1);
        for _ in 0..5 {
            assert_eq!(bench.spend(NOW, 1, 1, 9), Err(CodeRefusal::Unknown));
        }
        assert_eq!(bench.spend(NOW, 1, 1, 1), Err(CodeRefusal::Blocked), "also with the right code");
        assert_eq!(bench.spend(NOW, 2, 2, 1), Ok(()));
        bench.0.open(&code(2), (1, Capability::Write), 30 * MINUTE, NOW).unwrap();
        assert_eq!(bench.spend(NOW + 9 * MINUTE, 1, 1, 2), Err(CodeRefusal::Blocked));
        assert_eq!(bench.spend(NOW + 10 * MINUTE, 1, 1, 2), Ok(()), "as long as the invitation that it guessed at");
    }

    #[test]
    fn wrong_tries_without_an_invitation_block_nobody() {
        let bench = Bench(Invitations::new(Some(secret())));
        for _ in 0..9 {
            assert_eq!(bench.spend(NOW, 1, 1, 1), Err(CodeRefusal::Unknown));
        }
        bench.0.open(&code(1), (1, Capability::Write), MINUTE, NOW).unwrap();
        assert_eq!(bench.spend(NOW, 1, 1, 1), Ok(()));
    }

    #[test]
    fn a_crowd_of_addresses_and_invitations_takes_no_more_room_than_there_is() {
        let bench = Bench::with(1);
        for n in 0..3000_u32 {
            let from = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n));
            assert!(bench.0.spend_at(NOW, from, device(1), |_| false).is_err());
        }
        assert_eq!(bench.0.lock().wrong.len(), MAX_ADDRESSES);
        for n in 2..=MAX_OPEN as u8 {
            bench.0.open(&code(n), (1, Capability::Write), MINUTE, NOW).unwrap();
        }
        assert!(matches!(bench.0.open(&code(99), (1, Capability::Write), MINUTE, NOW), Err(InviteError::TooMany)));
        for n in 0..200 {
            bench.0.open(&code(n), (1, Capability::Write), MINUTE, NOW + 2 * MINUTE * u32::from(n)).unwrap_or(());
        }
        assert!(bench.0.lock().list.len() <= MAX_REMEMBERED + 1);
    }

    #[test]
    fn without_a_secret_there_is_nothing_to_hand_over() {
        assert!(matches!(Invitations::new(None).invite(1, MINUTE, Capability::Write), Err(InviteError::Open)));
    }

    #[test]
    fn a_reader_invites_readers_alone() {
        let reader = Secret::from_member(&secret().to_joiner(Capability::ReadOnly).unwrap());
        let invitations = Invitations::new(Some(reader));
        assert!(matches!(invitations.invite(1, MINUTE, Capability::Write), Err(InviteError::ReadOnly)));
        assert!(invitations.invite(1, MINUTE, Capability::ReadOnly).is_ok());
        assert!(matches!(invitations.secret(Capability::ReadOnly), Some(HandedSecret::Reader { .. })));
    }

    #[test]
    fn a_new_code_is_open_until_it_is_cancelled() {
        let invitations = Invitations::new(Some(secret()));
        let (one, two) = (
            invitations.invite(1, MINUTE, Capability::Write).unwrap(),
            invitations.invite(2, MINUTE, Capability::ReadOnly).unwrap(),
        );
        assert_ne!(one, two);
        assert_eq!(invitations.list().iter().map(|open| open.uses_left).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((invitations.cancel(), invitations.cancel(), invitations.list()), (2, 0, Vec::new()));
        assert!(invitations.is_any_known(), "so that who comes late hears that it has expired");
    }
}
