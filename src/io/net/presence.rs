//! Presence: who of the group is on this network, by UDP broadcast.
//!
//! A datagram is 64 hexadecimal digits of a MAC over the rest, a line's end, and JSON; at most 1
//! KiB. It is broadcast and never sent to one address, since `SO_REUSEPORT` would hand that to one
//! daemon of a host only. Presence proves nothing and ends no link: it only says whom to dial, and
//! where is the datagram's source.
//!
//! A datagram can be replayed by anyone who heard it, from any address. So it names its sender's
//! own addresses, and only a source among them is dialled at once. Another source is asked first
//! (`challenge.rs`). Deliberately not here: who is dialled when (`dial`).

use crate::io::net::challenge::{Challenges, FoundMember, own_addresses};
use crate::io::net::invitations::Invitations;
use crate::io::net::known_group::{GroupTag, KnownGroup};
use crate::io::store::keys::{ChannelKeys, SecretKeys};
use crate::model::{DeviceId, text};
use crate::wire::packet::{PROTOCOL, is_clean_name};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

pub(super) const MAX_DATAGRAM_BYTES: usize = 1024;
const MAC_DIGITS: usize = 64;
/// What a members' announcement begins with: no digit, so that older versions pass it over.
const MEMBERS_MARK: &[u8] = b"m";
/// After these from the start (ms), then every `EVERY`.
const FIRST_MS: [u64; 3] = [0, 100, 500];
const EVERY: Duration = Duration::from_secs(3);
/// Answers to new devices: this soon at most, and this far apart at least.
const ANSWER_WITHIN_MS: u64 = 10;
const ANSWERS_APART: Duration = Duration::from_secs(1);
/// A device not heard for this long is new again.
const FORGET_AFTER: Duration = Duration::from_secs(30);
const MAX_KNOWN: usize = 1024;
/// A machine of another group is named once in this time, and so many of them at most.
const FOREIGN_AGAIN: Duration = Duration::from_hours(1);
const MAX_FOREIGN: usize = 16;

/// What this machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Announcement {
    protocol: u32,
    group: String,
    device: DeviceId,
    name: String,
    port: u16,
    /// Drawn at the daemon's start: tells a restart, or a clone, from a repeat.
    boot: u64,
    /// The sender's own addresses (IPv4, at most 16); none: it is a version that names none.
    #[serde(default)]
    addresses: Vec<Ipv4Addr>,
    /// The UDP port at which this daemon alone answers challenges; 0: none.
    #[serde(default)]
    challenge: u16,
    /// An invitation is open here, or was within the last hour.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    inviting: bool,
}

/// What a datagram says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Member(FoundMember),
    /// A machine of another group.
    Foreign {
        name: String,
        address: SocketAddr,
    },
}

/// What becomes of a datagram.
#[derive(Debug, PartialEq, Eq)]
enum DatagramVerdict {
    /// It came from an address that its sender names as its own.
    Dial(FoundMember),
    /// It came from elsewhere: its sender is asked, at this port, whether that is an address of its
    /// own.
    Ask(FoundMember, u16),
    Foreign {
        name: String,
        address: SocketAddr,
    },
}

/// One of the two that a writer announces itself on. Readers have the members' alone, and versions
/// before this one the writers' alone.
#[derive(Clone)]
pub struct Channel {
    keys: ChannelKeys,
    is_members: bool,
    /// The other channel's tag, if it is known: it is no other group.
    other_tag: Option<String>,
}

impl Channel {
    /// The members' first.
    pub fn all(keys: &SecretKeys) -> Vec<Self> {
        let tag = |keys: &ChannelKeys| text::hex(&keys.group_tag);
        let writers = keys.writers.as_ref().map(|writers| &writers.channel);
        let members = Self { keys: keys.members.clone(), is_members: true, other_tag: writers.map(tag) };
        let other_tag = Some(tag(&keys.members));
        let writers = writers.map(|keys| Self { keys: keys.clone(), is_members: false, other_tag });
        std::iter::once(members).chain(writers).collect()
    }

    fn seal(&self, said: &Announcement) -> Vec<u8> {
        let mark = if self.is_members { MEMBERS_MARK } else { b"" };
        [mark, &seal(&self.keys.presence, said)].concat()
    }

    /// `None`: it is of another channel, or of another group.
    fn unseal(&self, datagram: &[u8]) -> Option<Announcement> {
        let (is_members, rest) = unmarked(datagram);
        (is_members == self.is_members).then(|| unseal(&self.keys.presence, rest)).flatten()
    }
}

/// Whether a datagram is of a members' channel, and the rest of it.
fn unmarked(datagram: &[u8]) -> (bool, &[u8]) {
    datagram.strip_prefix(MEMBERS_MARK).map_or((false, datagram), |rest| (true, rest))
}

/// Sends and hears announcements for as long as `run` is polled.
pub struct Presence {
    socket: UdpSocket,
    broadcast_port: u16,
    channel: Channel,
    me: Announcement,
    datagram: Vec<u8>,
    known: HashMap<DeviceId, (u64, Instant)>,
    challenges: Challenges,
    invitations: Arc<Invitations>,
    group: Arc<KnownGroup>,
    former_turn: usize,
    /// By where they take links: several may be on one host.
    foreign: HashMap<SocketAddr, Instant>,
    cable: Cable,
}

/// Whether this machine has a network, so that its going and coming are told once.
struct Cable(AtomicBool);

impl Cable {
    fn note(&self, is_there: bool) {
        let was_there = self.0.swap(is_there, Ordering::Relaxed);
        if was_there && !is_there {
            tracing::warn!(kind = "network", "this machine has no network: no other machine can be reached");
        } else if !was_there && is_there {
            tracing::info!(kind = "network", "the network is back");
        }
    }
}

/// Whether there is an address on an interface that has its cable.
fn has_network() -> bool {
    if_addrs::get_if_addrs()
        .is_ok_and(|all| all.iter().any(|interface| !interface.is_loopback() && interface.is_oper_up()))
}

impl Presence {
    /// Binds the port, which other daemons of this host may share. Must be called inside a tokio
    /// runtime.
    pub fn bind(
        broadcast_port: u16,
        channel: Channel,
        device: DeviceId,
        name: String,
        port: u16,
        boot: u64,
        (invitations, group): (Arc<Invitations>, Arc<KnownGroup>),
    ) -> io::Result<Self> {
        let challenges = Challenges::bind(channel.keys.presence, device, port)?;
        let tag = text::hex(&channel.keys.group_tag);
        let (addresses, challenge) = (own_addresses(), challenges.port()?);
        let inviting = invitations.is_any_known();
        let me =
            Announcement { protocol: PROTOCOL, group: tag, device, name, port, boot, addresses, challenge, inviting };
        let datagram = channel.seal(&me);
        let socket = bind(broadcast_port)?;
        let (known, foreign) = (HashMap::new(), HashMap::new());
        Ok(Self {
            socket,
            broadcast_port,
            channel,
            me,
            datagram,
            known,
            challenges,
            invitations,
            group,
            former_turn: 0,
            foreign,
            cable: Cable(AtomicBool::new(true)),
        })
    }

    /// Announces, answers, and tells `news` of every datagram of another member.
    pub async fn run(mut self, mut news: impl FnMut(News)) {
        let start = Instant::now();
        let mut firsts = FIRST_MS.iter().map(|ms| start + Duration::from_millis(*ms));
        let mut next = firsts.next().unwrap_or(start);
        let mut answered = start.checked_sub(ANSWERS_APART).unwrap_or(start);
        let mut answer_at: Option<Instant> = None;
        let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
        loop {
            let due = answer_at.map_or(next, |at| at.min(next));
            let member = tokio::select! {
                biased;
                () = sleep_until(due) => {
                    self.announce().await;
                    let now = Instant::now();
                    if answer_at.take_if(|at| *at <= now).is_some() {
                        answered = now;
                    }
                    if next <= now {
                        next = firsts.next().unwrap_or_else(|| now + jittered(EVERY));
                    }
                    None
                }
                () = self.invitations.changed.notified(), if self.channel.is_members => {
                    self.announce().await;
                    None
                }
                proved = self.challenges.next() => proved,
                received = self.socket.recv_from(&mut buffer) => {
                    let Ok((length, source)) = received else { continue };
                    match self.hear(&buffer[..length], source) {
                        Some(DatagramVerdict::Dial(member)) => Some(member),
                        Some(DatagramVerdict::Ask(member, port)) => {
                            self.challenges.ask(member, port).await;
                            None
                        }
                        Some(DatagramVerdict::Foreign { name, address }) => {
                            news(News::Foreign { name, address });
                            None
                        }
                        None => None,
                    }
                }
            };
            let Some(member) = member else { continue };
            if self.remember(member.device, member.boot) {
                let soon = Instant::now() + Duration::from_millis(random_below(ANSWER_WITHIN_MS));
                answer_at = Some(answer_at.unwrap_or(soon.max(answered + ANSWERS_APART)));
            }
            news(News::Member(member));
        }
    }

    /// Interfaces come and go, so they are read each time. A failure to send is a cable that is
    /// out: no news.
    async fn announce(&mut self) {
        if self.channel.is_members {
            self.cable.note(has_network());
        }
        let (addresses, inviting) = (own_addresses(), self.invitations.is_any_known());
        if addresses != self.me.addresses || inviting != self.me.inviting {
            (self.me.addresses, self.me.inviting) = (addresses, inviting);
            self.datagram = self.channel.seal(&self.me);
        }
        let former = self.announced_to_former();
        for address in broadcast_addresses() {
            let to = SocketAddrV4::new(address, self.broadcast_port);
            for datagram in std::iter::once(&self.datagram).chain(&former) {
                if let Err(error) = self.socket.send_to(datagram, to).await {
                    tracing::debug!("presence is not announced to {to}: {error}");
                }
            }
        }
    }

    /// For members that slept through a rotation, and for those that rotated apart: the same, as a
    /// member of one former secret, of another each time.
    fn announced_to_former(&mut self) -> Option<Vec<u8>> {
        if !self.channel.is_members {
            return None;
        }
        let keys = self.group.former_by_turns(self.former_turn)?;
        self.former_turn = self.former_turn.wrapping_add(1);
        let said = Announcement { group: text::hex(&keys.group_tag), challenge: 0, ..self.me.clone() };
        Some([MEMBERS_MARK, &seal(&keys.presence, &said)].concat())
    }

    /// The member that a datagram speaks of; `None` for strangers, junk and ourselves.
    fn hear(&mut self, datagram: &[u8], source: SocketAddr) -> Option<DatagramVerdict> {
        let Some(said) = self.channel.unseal(datagram) else { return self.hear_unknown(datagram, source) };
        let ours = said.device == self.me.device && said.boot == self.me.boot;
        if ours || said.group != self.me.group || !is_clean_name(&said.name) || said.port == 0 {
            return None;
        }
        let address = SocketAddr::new(source.ip(), said.port);
        let Announcement { protocol, device, name, boot, addresses, challenge, .. } = said;
        let heard = FoundMember { device, name, protocol, boot, address, former: None };
        let is_own = addresses.is_empty() || addresses.iter().any(|own| IpAddr::from(*own) == source.ip());
        match challenge {
            _ if is_own => Some(DatagramVerdict::Dial(heard)),
            0 => None,
            port => Some(DatagramVerdict::Ask(heard, port)),
        }
    }

    /// A machine of another group is worth a line: its person may think that it belongs to this
    /// one. Nothing else is taken from it.
    fn hear_unknown(&mut self, datagram: &[u8], source: SocketAddr) -> Option<DatagramVerdict> {
        let said = unchecked(datagram)?;
        let former = text::from_hex(&said.group).filter(|tag| self.group.former_channel(tag).is_some());
        if let Some(tag) = former.filter(|_| self.channel.is_members) {
            return self.hear_former(datagram, source, tag);
        }
        let (is_members, _) = unmarked(datagram);
        // A reader cannot tell its own group's writers from those of another.
        let is_nameable = self.channel.is_members && (is_members || self.channel.other_tag.is_some());
        let now = Instant::now();
        self.foreign.retain(|_, named| now - *named < FOREIGN_AGAIN);
        if !is_nameable || self.foreign.len() >= MAX_FOREIGN {
            return None;
        }
        let address = SocketAddr::new(source.ip(), said.port);
        let is_own = said.group == self.me.group || self.channel.other_tag.as_ref() == Some(&said.group);
        // One of this group that has, or lacks, a secret that is not known here.
        let is_known = self.group.is_known(&said.device);
        if is_own || is_known || !is_clean_name(&said.name) || self.foreign.contains_key(&address) {
            return None;
        }
        self.foreign.insert(address, now);
        Some(DatagramVerdict::Foreign { name: said.name, address })
    }

    /// A member that slept through a rotation. Only one that is on the list is dialled, where it
    /// says itself that it is: who else has the former secret may be anyone that was removed.
    fn hear_former(&self, datagram: &[u8], source: SocketAddr, tag: GroupTag) -> Option<DatagramVerdict> {
        let (_, rest) = unmarked(datagram);
        let said = unseal(&self.group.former_channel(&tag)?.presence, rest)?;
        let is_own = said.addresses.iter().any(|own| IpAddr::from(*own) == source.ip());
        let is_other = said.device != self.me.device && self.group.is_listed(&said.device);
        if !is_other || !is_own || !is_clean_name(&said.name) || said.port == 0 {
            return None;
        }
        let address = SocketAddr::new(source.ip(), said.port);
        let Announcement { protocol, device, name, boot, .. } = said;
        Some(DatagramVerdict::Dial(FoundMember { device, name, protocol, boot, address, former: Some(tag) }))
    }

    fn remember(&mut self, device: DeviceId, boot: u64) -> bool {
        let now = Instant::now();
        if self.known.len() >= MAX_KNOWN {
            self.known.retain(|_, (_, heard)| now - *heard < FORGET_AFTER);
        }
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&device) {
            return false;
        }
        let before = self.known.insert(device, (boot, now));
        before.is_none_or(|(old_boot, heard)| old_boot != boot || now - heard >= FORGET_AFTER)
    }
}

/// 80 to 120 % of a duration.
pub fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.8 + 0.4 * random_below(1000) as f64 / 1000.0)
}

/// Without random numbers there is no jitter, and nothing else is lost.
fn random_below(limit: u64) -> u64 {
    getrandom::u64().unwrap_or(0) % limit
}

fn seal(key: &[u8; 32], said: &Announcement) -> Vec<u8> {
    let json = serde_json::to_vec(said).expect("plain fields are JSON");
    let mac = blake3::keyed_hash(key, &json);
    [mac.to_hex().as_bytes(), b"\n", &json].concat()
}

/// The MAC is checked, in constant time, before anything is parsed.
fn unseal(key: &[u8; 32], datagram: &[u8]) -> Option<Announcement> {
    if datagram.len() > MAX_DATAGRAM_BYTES {
        return None;
    }
    let (digits, rest) = datagram.split_at_checked(MAC_DIGITS)?;
    let json = rest.strip_prefix(b"\n")?;
    let mac = blake3::keyed_hash(key, json);
    let same: bool = mac.to_hex().as_bytes().ct_eq(digits).into();
    if same { serde_json::from_slice(json).ok() } else { None }
}

/// What an announcement says of its sender, who may be anyone.
pub(super) struct HeardInviter {
    pub address: SocketAddr,
    pub name: String,
    pub device: DeviceId,
}

/// A machine that says that an invitation is open there, by an announcement whose MAC a joiner
/// cannot check: where it takes links, and its name.
pub(super) fn inviter(datagram: &[u8], source: SocketAddr) -> Option<HeardInviter> {
    let said = unchecked(datagram)?;
    let is_usable = said.inviting && said.protocol == PROTOCOL && said.port != 0 && is_clean_name(&said.name);
    let address = SocketAddr::new(source.ip(), said.port);
    is_usable.then_some(HeardInviter { address, name: said.name, device: said.device })
}

/// Where a member of this group takes links that announced itself from an address of its own.
pub(super) fn member(keys: &SecretKeys, datagram: &[u8], source: SocketAddr) -> Option<SocketAddr> {
    let [channel, ..] = &Channel::all(keys)[..] else { return None };
    let said = channel.unseal(datagram)?;
    let is_own = said.addresses.iter().any(|own| IpAddr::from(*own) == source.ip());
    (is_own && said.group == text::hex(&channel.keys.group_tag) && said.port != 0)
        .then(|| SocketAddr::new(source.ip(), said.port))
}

fn unchecked(datagram: &[u8]) -> Option<Announcement> {
    let (_, rest) = unmarked(datagram);
    let json = rest.get(MAC_DIGITS..)?.strip_prefix(b"\n")?;
    (datagram.len() <= MAX_DATAGRAM_BYTES).then(|| serde_json::from_slice(json).ok()).flatten()
}

/// The port, which other daemons of this host may share. Must be called inside a tokio runtime.
pub(super) fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

/// Each interface's, and loopback's, for daemons of one host.
fn broadcast_addresses() -> BTreeSet<Ipv4Addr> {
    let mut addresses = BTreeSet::from([Ipv4Addr::new(127, 255, 255, 255)]);
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        if let if_addrs::IfAddr::V4(v4) = interface.addr
            && !v4.ip.is_loopback()
        {
            addresses.extend(broadcast_of(v4.ip, v4.netmask, v4.broadcast));
        }
    }
    addresses
}

/// Where an address was set without one (`ip addr add 10.9.0.1/24` does), its own is said to be it,
/// and that of its net goes to all. A net of one or two has none.
fn broadcast_of(ip: Ipv4Addr, netmask: Ipv4Addr, said: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let of_net = (netmask.to_bits().count_ones() <= 30).then(|| ip | !netmask);
    said.filter(|said| *said != ip).or(of_net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::secret::Secret;

    fn channel() -> Channel {
        Channel::all(&Secret::open_to_all().keys()).remove(0)
    }

    fn presence(device: u8, broadcast_port: u16) -> Presence {
        Presence::bind(
            broadcast_port,
            channel(),
            DeviceId([device; 32]),
            format!("m{device}"),
            6000,
            u64::from(device),
            (Arc::default(), Arc::default()),
        )
        .unwrap()
    }

    fn free_port() -> u16 {
        std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn an_address_that_was_set_without_a_broadcast_address_has_that_of_its_net() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let (own, net) = (ip("10.9.1.1"), ip("255.255.255.0"));
        assert_eq!(broadcast_of(own, net, Some(ip("10.9.1.255"))), Some(ip("10.9.1.255")));
        assert_eq!(broadcast_of(own, net, Some(ip("10.9.255.255"))), Some(ip("10.9.255.255")), "as someone set it");
        for said in [None, Some(own)] {
            assert_eq!(broadcast_of(own, net, said), Some(ip("10.9.1.255")));
            assert_eq!(broadcast_of(own, ip("255.255.255.254"), said), None);
        }
    }

    #[tokio::test]
    async fn an_announcement_is_believed_only_with_its_mac() {
        let mut hearer = presence(1, 0);
        let source: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let datagram = presence(2, 0).datagram;
        // It is none of its sender's own: that is asked first.
        let Some(DatagramVerdict::Ask(heard, port)) = hearer.hear(&datagram, source) else { panic!("not asked") };
        assert_eq!((heard.device, heard.address), (DeviceId([2; 32]), "192.0.2.7:6000".parse().unwrap()));
        assert_ne!(port, 0);
        let own: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        assert!(
            matches!(hearer.hear(&datagram, own), Some(DatagramVerdict::Dial(heard)) if heard.address.port() == 6000)
        );

        for at in 0..datagram.len() {
            let mut forged = datagram.clone();
            forged[at] ^= 1;
            // At most its name is read, as that of a machine of another group.
            assert!(
                !matches!(hearer.hear(&forged, source), Some(DatagramVerdict::Dial(_) | DatagramVerdict::Ask(..))),
                "byte {at}"
            );
        }
        for junk in [&b""[..], b"x", &[0xff; 1024], &[b'{'; 1025], &datagram[..70]] {
            assert!(hearer.hear(junk, source).is_none());
        }
        let own = hearer.datagram.clone();
        assert!(hearer.hear(&own, source).is_none());
    }

    #[tokio::test]
    async fn a_version_that_names_no_addresses_is_dialled_where_it_was_heard() {
        let mut hearer = presence(1, 0);
        let mut old = presence(2, 0);
        old.me.addresses.clear();
        let datagram = old.channel.seal(&old.me);
        let source: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        assert!(matches!(hearer.hear(&datagram, source), Some(DatagramVerdict::Dial(_))));
    }

    #[tokio::test]
    async fn a_machine_of_another_group_is_named_once() {
        let mut hearer = presence(1, 0);
        let dir = tempfile::tempdir().unwrap();
        let (secret, _) = Secret::read_or_make(&dir.path().join("secret"), None).unwrap();
        let stranger = Presence::bind(
            0,
            Channel::all(&secret.keys()).remove(0),
            DeviceId([2; 32]),
            "nas".to_owned(),
            6000,
            2,
            (Arc::default(), Arc::default()),
        )
        .unwrap();
        let source: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let named = DatagramVerdict::Foreign { name: "nas".to_owned(), address: SocketAddr::new(source.ip(), 6000) };
        assert_eq!(hearer.hear(&stranger.datagram, source), Some(named));
        assert_eq!(hearer.hear(&stranger.datagram, source), None);
        for n in 0..50_u8 {
            hearer.hear(&stranger.datagram, SocketAddr::from(([192, 0, 3, n], 5000)));
        }
        assert_eq!(hearer.foreign.len(), MAX_FOREIGN);
    }

    #[tokio::test]
    async fn an_announcement_with_16_addresses_fits_its_datagram() {
        let mut me = presence(1, 0).me;
        me.name = "n".repeat(63);
        me.addresses = vec![Ipv4Addr::BROADCAST; crate::io::net::challenge::MAX_ADDRESSES];
        (me.boot, me.port, me.challenge) = (u64::MAX, u16::MAX, u16::MAX);
        assert!(channel().seal(&me).len() <= MAX_DATAGRAM_BYTES);
    }

    #[tokio::test]
    async fn two_that_start_together_hear_each_other_at_once() {
        let port = free_port();
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let start = Instant::now();
        for device in [1, 2] {
            let sender = sender.clone();
            let run = presence(device, port).run(move |news| {
                let News::Member(member) = news else { return };
                let _ = sender.send((device, member.device, start.elapsed()));
            });
            tokio::spawn(run);
        }
        let mut hearers = BTreeSet::new();
        while hearers.len() < 2 {
            let (hearer, device, took) = heard.recv().await.unwrap();
            assert_eq!(device, DeviceId([3 - hearer; 32]));
            assert!(took < Duration::from_millis(400), "{took:?}");
            hearers.insert(hearer);
        }
    }
}
