//! Presence: who of the group is on this network, by UDP broadcast.
//!
//! A datagram is 64 hexadecimal digits of a MAC over the rest, a line's end, and JSON; at most 1 KiB. It is broadcast
//! and never sent to one address, since `SO_REUSEPORT` would hand that to one daemon of a host only. Presence proves
//! nothing and ends no link: it only says whom to dial, and where is the datagram's source.

use super::secret::Keys;
use crate::model::{DeviceId, text};
use crate::wire::packet::{PROTOCOL, is_clean_name};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

const MAX_DATAGRAM_BYTES: usize = 1024;
const MAC_DIGITS: usize = 64;
/// After these from the start (ms), then every `EVERY`.
const FIRST_MS: [u64; 3] = [0, 100, 500];
const EVERY: Duration = Duration::from_secs(3);
/// Answers to new devices: this soon at most, and this far apart at least.
const ANSWER_WITHIN_MS: u64 = 10;
const ANSWERS_APART: Duration = Duration::from_secs(1);
/// A device not heard for this long is new again.
const FORGET_AFTER: Duration = Duration::from_secs(30);
const MAX_KNOWN: usize = 1024;

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
}

/// A member that was heard, and where it takes links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub device: DeviceId,
    pub name: String,
    pub protocol: u32,
    pub boot: u64,
    pub address: SocketAddr,
}

/// Sends and hears announcements for as long as `run` is polled.
pub struct Presence {
    socket: UdpSocket,
    broadcast_port: u16,
    keys: Keys,
    me: Announcement,
    datagram: Vec<u8>,
    known: HashMap<DeviceId, (u64, Instant)>,
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

/// Whether there is an address of another machine's reach.
fn has_network() -> bool {
    if_addrs::get_if_addrs().is_ok_and(|all| all.iter().any(|interface| !interface.is_loopback()))
}

impl Presence {
    /// Binds the port, which other daemons of this host may share. Must be called inside a tokio runtime.
    pub fn bind(
        broadcast_port: u16,
        keys: Keys,
        device: DeviceId,
        name: String,
        port: u16,
        boot: u64,
    ) -> io::Result<Self> {
        let me = Announcement { protocol: PROTOCOL, group: text::hex(&keys.group_tag), device, name, port, boot };
        let datagram = seal(&keys.presence, &me);
        Ok(Self {
            socket: bind(broadcast_port)?,
            broadcast_port,
            keys,
            me,
            datagram,
            known: HashMap::new(),
            cable: Cable(AtomicBool::new(true)),
        })
    }

    /// Announces, answers, and tells `heard` of every datagram of another member.
    pub async fn run(mut self, mut heard: impl FnMut(Heard)) {
        let start = Instant::now();
        let mut firsts = FIRST_MS.iter().map(|ms| start + Duration::from_millis(*ms));
        let mut next = firsts.next().unwrap_or(start);
        let mut answered = start.checked_sub(ANSWERS_APART).unwrap_or(start);
        let mut answer_at: Option<Instant> = None;
        let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
        loop {
            let due = answer_at.map_or(next, |at| at.min(next));
            tokio::select! {
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
                }
                received = self.socket.recv_from(&mut buffer) => {
                    let Ok((length, source)) = received else { continue };
                    let Some((member, is_new)) = self.hear(&buffer[..length], source) else { continue };
                    if is_new {
                        let soon = Instant::now() + Duration::from_millis(random_below(ANSWER_WITHIN_MS));
                        answer_at = Some(answer_at.unwrap_or(soon.max(answered + ANSWERS_APART)));
                    }
                    heard(member);
                }
            }
        }
    }

    /// Interfaces come and go, so they are read each time. A failure to send is a cable that is out: no news.
    async fn announce(&self) {
        self.cable.note(has_network());
        for address in broadcast_addresses() {
            let to = SocketAddrV4::new(address, self.broadcast_port);
            if let Err(error) = self.socket.send_to(&self.datagram, to).await {
                tracing::debug!("presence is not announced to {to}: {error}");
            }
        }
    }

    /// The member that a datagram speaks of, and whether it is new; `None` for strangers, junk and ourselves.
    fn hear(&mut self, datagram: &[u8], source: SocketAddr) -> Option<(Heard, bool)> {
        let said = unseal(&self.keys.presence, datagram)?;
        let ours = said.device == self.me.device && said.boot == self.me.boot;
        if ours || said.group != self.me.group || !is_clean_name(&said.name) || said.port == 0 {
            return None;
        }
        let is_new = self.remember(said.device, said.boot);
        let address = SocketAddr::new(source.ip(), said.port);
        let Announcement { protocol, device, name, boot, .. } = said;
        Some((Heard { device, name, protocol, boot, address }, is_new))
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

fn bind(port: u16) -> io::Result<UdpSocket> {
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

/// Where an address was set without one (`ip addr add 10.9.0.1/24` does), its own is said to be it, and that of its net goes to all. A net of one
/// or two has none.
fn broadcast_of(ip: Ipv4Addr, netmask: Ipv4Addr, said: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let of_net = (netmask.to_bits().count_ones() <= 30).then(|| ip | !netmask);
    said.filter(|said| *said != ip).or(of_net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::secret::Secret;

    fn keys() -> Keys {
        Secret::open_to_all().keys()
    }

    fn presence(device: u8, broadcast_port: u16) -> Presence {
        Presence::bind(broadcast_port, keys(), DeviceId([device; 32]), format!("m{device}"), 6000, u64::from(device))
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
        let (heard, is_new) = hearer.hear(&datagram, source).unwrap();
        assert_eq!((heard.device, heard.address), (DeviceId([2; 32]), "192.0.2.7:6000".parse().unwrap()));
        assert!(is_new);
        assert!(!hearer.hear(&datagram, source).unwrap().1, "the second time it is known");

        for at in 0..datagram.len() {
            let mut forged = datagram.clone();
            forged[at] ^= 1;
            assert!(hearer.hear(&forged, source).is_none(), "byte {at}");
        }
        for junk in [&b""[..], b"x", &[0xff; 1024], &[b'{'; 1025], &datagram[..70]] {
            assert!(hearer.hear(junk, source).is_none());
        }
        let own = hearer.datagram.clone();
        assert!(hearer.hear(&own, source).is_none());
    }

    #[tokio::test]
    async fn two_that_start_together_hear_each_other_at_once() {
        let port = free_port();
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let start = Instant::now();
        for device in [1, 2] {
            let sender = sender.clone();
            let run = presence(device, port).run(move |member| {
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
