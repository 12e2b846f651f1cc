//! Whether an address from which presence was heard is the sender's own.
//!
//! Anyone can send a captured announcement again, from an address of their choice. So an address
//! that the announcement does not name is dialled only after the announced device said, for this
//! very question, that it is its own. Each daemon has a socket of its own for that, since the
//! broadcast port is shared by the daemons of a host. The argument is in `docs/protocol.md`.
//! Deliberately not here: dialling.

use crate::io::net::known_group::GroupTag;
use crate::model::DeviceId;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// A member that was heard, and where it takes links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMember {
    pub device: DeviceId,
    pub name: String,
    pub protocol: u32,
    pub boot: u64,
    pub address: SocketAddr,
    /// It announces itself with this former secret.
    pub former: Option<GroupTag>,
}

/// Own addresses that an announcement names.
pub const MAX_ADDRESSES: usize = 16;

const MAC_BYTES: usize = 32;
const NONCE_BYTES: usize = 16;
/// MAC, kind, nonce, who asks, who is asked, IPv4 address, port. Question and answer are of one
/// length, so that nothing is amplified.
const BYTES: usize = MAC_BYTES + 1 + NONCE_BYTES + 32 + 32 + 4 + 2;
const QUESTION: u8 = b'Q';
const ANSWER: u8 = b'A';
/// An answer counts for this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// One address is asked about this often at most, and so many within that time.
const ASK_AGAIN: Duration = Duration::from_secs(3);
const MAX_ASKED: usize = 32;
/// Answers given within a second, at most.
const ANSWERS_A_SECOND: u32 = 32;

/// Questions that this daemon asks and answers.
pub struct Challenges {
    socket: UdpSocket,
    key: [u8; 32],
    device: DeviceId,
    /// Where this daemon takes links.
    port: u16,
    asked: HashMap<IpAddr, PendingChallenge>,
    /// Answers given since then.
    answers: (Instant, u32),
}

struct PendingChallenge {
    nonce: [u8; NONCE_BYTES],
    at: Instant,
    member: FoundMember,
}

/// What question and answer both say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChallengeText {
    kind: u8,
    nonce: [u8; NONCE_BYTES],
    asker: DeviceId,
    asked: DeviceId,
    address: SocketAddrV4,
}

impl ChallengeText {
    fn seal(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut rest = vec![self.kind];
        rest.extend_from_slice(&self.nonce);
        rest.extend_from_slice(&self.asker.0);
        rest.extend_from_slice(&self.asked.0);
        rest.extend_from_slice(&self.address.ip().octets());
        rest.extend_from_slice(&self.address.port().to_be_bytes());
        [&blake3::keyed_hash(key, &rest).as_bytes()[..], &rest].concat()
    }

    /// The MAC is checked, in constant time, before anything is read.
    fn unseal(key: &[u8; 32], datagram: &[u8]) -> Option<Self> {
        if datagram.len() != BYTES {
            return None;
        }
        let (mac, rest) = datagram.split_at(MAC_BYTES);
        let same: bool = blake3::keyed_hash(key, rest).as_bytes().ct_eq(mac).into();
        let (kind, rest) = rest.split_first().filter(|_| same)?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (asker, rest) = rest.split_first_chunk()?;
        let (asked, rest) = rest.split_first_chunk()?;
        let (ip, port) = rest.split_first_chunk::<4>()?;
        let address = SocketAddrV4::new(Ipv4Addr::from(*ip), u16::from_be_bytes(port.try_into().ok()?));
        Some(Self { kind: *kind, nonce: *nonce, asker: DeviceId(*asker), asked: DeviceId(*asked), address })
    }
}

impl Challenges {
    pub fn bind(key: [u8; 32], device: DeviceId, port: u16) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { socket, key, device, port, asked: HashMap::new(), answers: (Instant::now(), 0) })
    }

    pub fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Asks the member whether the address at which it was heard is its own. `port`: where it takes
    /// questions.
    pub async fn ask(&mut self, member: FoundMember, port: u16) {
        let (now, SocketAddr::V4(address)) = (Instant::now(), member.address) else { return };
        self.asked.retain(|_, asked| now - asked.at < ASK_AGAIN);
        if self.asked.len() >= MAX_ASKED || self.asked.contains_key(&member.address.ip()) {
            return;
        }
        let mut nonce = [0; NONCE_BYTES];
        if getrandom::fill(&mut nonce).is_err() {
            return;
        }
        let question = ChallengeText { kind: QUESTION, nonce, asker: self.device, asked: member.device, address };
        self.asked.insert(member.address.ip(), PendingChallenge { nonce, at: now, member });
        let _ = self.socket.send_to(&question.seal(&self.key), (*address.ip(), port)).await;
    }

    /// Answers questions until an answer says that a member's address is its own; `None` when it
    /// was something else that came.
    pub async fn next(&mut self) -> Option<FoundMember> {
        let mut buffer = [0; BYTES + 1];
        let (length, source) = self.socket.recv_from(&mut buffer).await.ok()?;
        let said = ChallengeText::unseal(&self.key, &buffer[..length])?;
        match said.kind {
            QUESTION => {
                if let Some(answer) = self.answer(&said, &own_addresses()) {
                    let _ = self.socket.send_to(&answer, source).await;
                }
                None
            }
            ANSWER => self.answered(&said),
            _ => None,
        }
    }

    /// Given only for an address of our own: whoever passes a question on to us learns nothing that
    /// they could use.
    fn answer(&mut self, question: &ChallengeText, own: &[Ipv4Addr]) -> Option<Vec<u8>> {
        let is_true = question.asked == self.device
            && question.address.port() == self.port
            && own.contains(question.address.ip());
        let now = Instant::now();
        if now - self.answers.0 >= Duration::from_secs(1) {
            self.answers = (now, 0);
        }
        if !is_true || self.answers.1 >= ANSWERS_A_SECOND {
            return None;
        }
        self.answers.1 += 1;
        Some(ChallengeText { kind: ANSWER, ..*question }.seal(&self.key))
    }

    fn answered(&mut self, answer: &ChallengeText) -> Option<FoundMember> {
        let ip = IpAddr::from(*answer.address.ip());
        let asked = self.asked.get(&ip)?;
        let fits = asked.nonce == answer.nonce
            && answer.asker == self.device
            && answer.asked == asked.member.device
            && SocketAddr::from(answer.address) == asked.member.address
            && asked.at.elapsed() < PATIENCE;
        // It stays among those asked, so that the address is not asked again at once; its nonce
        // counts once.
        let member = fits.then(|| asked.member.clone())?;
        self.asked.get_mut(&ip)?.nonce = [0; NONCE_BYTES];
        Some(member)
    }
}

/// This machine's addresses now, loopback's first, as many as an announcement names.
pub fn own_addresses() -> Vec<Ipv4Addr> {
    let mut own = vec![Ipv4Addr::LOCALHOST];
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        if let if_addrs::IfAddr::V4(v4) = interface.addr
            && !own.contains(&v4.ip)
        {
            own.push(v4.ip);
        }
    }
    own.truncate(MAX_ADDRESSES);
    own
}

/// This machine's addresses that a person may name on another machine, IPv4 first.
pub fn addresses_for_others() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    // In order, so that each is named once.
    let own: BTreeSet<_> = interfaces.iter().map(if_addrs::Interface::ip).filter(leads_here_from_elsewhere).collect();
    own.into_iter().take(MAX_ADDRESSES).collect()
}

/// A link-local address of IPv6 needs the name of an interface of the machine that dials it.
fn leads_here_from_elsewhere(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::of_the_lan("192.168.1.7", true)]
    #[case::without_a_dhcp_server("169.254.3.4", true)]
    #[case::loopback("127.0.0.1", false)]
    #[case::ipv6("2001:db8::7", true)]
    #[case::ipv6_of_a_private_network("fd00::7", true)]
    #[case::ipv6_loopback("::1", false)]
    #[case::ipv6_that_needs_an_interface("fe80::7", false)]
    fn an_invitation_names_what_another_machine_can_dial(#[case] ip: IpAddr, #[case] is_named: bool) {
        assert_eq!(leads_here_from_elsewhere(&ip), is_named);
    }

    const KEY: [u8; 32] = [5; 32];
    const ASKER: DeviceId = DeviceId([1; 32]);
    const ASKED: DeviceId = DeviceId([2; 32]);

    fn challenges(device: DeviceId) -> Challenges {
        Challenges::bind(KEY, device, 6000).unwrap()
    }

    fn member(ip: [u8; 4]) -> FoundMember {
        let (name, address) = ("m".to_owned(), SocketAddr::from((ip, 6000)));
        FoundMember { device: ASKED, name, protocol: 1, boot: 1, address, former: None }
    }

    fn question(address: &str) -> ChallengeText {
        ChallengeText {
            kind: QUESTION,
            nonce: [9; NONCE_BYTES],
            asker: ASKER,
            asked: ASKED,
            address: address.parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn an_answer_is_given_for_an_own_address_alone_and_is_no_longer_than_its_question() {
        let mut asked = challenges(ASKED);
        let own = [Ipv4Addr::new(10, 0, 0, 7)];
        let asks = question("10.0.0.7:6000");
        let answer = asked.answer(&asks, &own).unwrap();
        assert_eq!(answer.len(), asks.seal(&KEY).len());
        assert_eq!(ChallengeText::unseal(&KEY, &answer), Some(ChallengeText { kind: ANSWER, ..asks }));
        // What a stranger at 10.0.0.66 passes on, another port, another device.
        for not_true in [
            question("10.0.0.66:6000"),
            question("10.0.0.7:6001"),
            ChallengeText { asked: ASKER, ..question("10.0.0.7:6000") },
        ] {
            assert_eq!(asked.answer(&not_true, &own), None, "{not_true:?}");
        }
        let given = (0..100).filter(|_| asked.answer(&asks, &own).is_some()).count() as u32;
        assert_eq!(given, ANSWERS_A_SECOND - 1);
    }

    #[tokio::test]
    async fn an_answer_counts_once_and_for_its_own_question() {
        let mut asker = challenges(ASKER);
        let heard = member([127, 0, 0, 1]);
        asker.ask(heard.clone(), 9).await;
        let nonce = asker.asked.values().next().unwrap().nonce;
        let answer = ChallengeText { kind: ANSWER, nonce, ..question("127.0.0.1:6000") };
        for other in [
            ChallengeText { nonce: [8; NONCE_BYTES], ..answer },
            ChallengeText { asker: ASKED, ..answer },
            ChallengeText { asked: ASKER, ..answer },
            ChallengeText { address: "127.0.0.1:6001".parse().unwrap(), ..answer },
            ChallengeText { address: "127.0.0.2:6000".parse().unwrap(), ..answer },
        ] {
            assert_eq!(asker.answered(&other), None, "{other:?}");
        }
        assert_eq!(asker.answered(&answer), Some(heard));
        assert_eq!(asker.answered(&answer), None, "the second time");
    }

    #[tokio::test]
    async fn questions_are_few() {
        let mut asker = challenges(ASKER);
        for _ in 0..10 {
            for n in 0..100 {
                asker.ask(member([127, 0, 0, n]), 9).await;
            }
        }
        assert_eq!(asker.asked.len(), MAX_ASKED);
    }

    #[tokio::test]
    async fn a_question_and_its_answer_find_each_other() {
        let (mut asker, mut asked) = (challenges(ASKER), challenges(ASKED));
        asker.ask(member([127, 0, 0, 1]), asked.port().unwrap()).await;
        assert_eq!(asked.next().await, None);
        assert_eq!(asker.next().await, Some(member([127, 0, 0, 1])));
    }

    #[test]
    fn every_byte_is_under_the_mac() {
        let sealed = question("10.0.0.7:6000").seal(&KEY);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(ChallengeText::unseal(&KEY, &forged), None, "byte {at}");
        }
        assert_eq!(ChallengeText::unseal(&KEY, &sealed[1..]), None);
    }
}
