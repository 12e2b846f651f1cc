//! A member of the group made by hand: it knows the secret, is linked with a daemon, and says what
//! no daemon would.
//!
//! It speaks through the crate's own frames. Deliberately not here: what it lies about.

use crate::common::Machine;
use bytes::Bytes;
use dirsyncd::engine::GroupState;
use dirsyncd::engine::api::map_index::MapIndex;
use dirsyncd::io::net::greeting::{self, GreetError, Greeted, Identity, Role};
use dirsyncd::io::net::hand_over::{self, Handed};
use dirsyncd::io::net::known_group::KnownGroup;
use dirsyncd::io::net::tls::{DeviceKey, Tls};
use dirsyncd::io::store::secret::Secret;
use dirsyncd::model::{Capability, ContentId, DeviceId, Entry, FileTime, Kind, Mode, SyncPath, Version, VersionVector};
use dirsyncd::wire::features::Features;
use dirsyncd::wire::frame::{self, Packet};
use dirsyncd::wire::members::ListedMember;
use dirsyncd::wire::message::{Change, Message};
use dirsyncd::wire::packet::{Ending, PIECE_BYTES, PROTOCOL};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A link is silent for no longer than this, so that it stays.
const PING_EVERY: Duration = Duration::from_secs(2);

/// Leaves when it is dropped.
pub struct Member {
    _held: oneshot::Sender<()>,
}

/// Links with the machine that listens at `port`, says `first` for as long as it is taken, and
/// reads nothing.
pub fn join_deaf(machine: &Machine, port: u16, name: &str, first: Vec<Packet>) -> Member {
    let (me, (held, is_over)) = (identity(machine, name), oneshot::channel());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut greeted = greet(&me, port).await;
            let asks = async {
                let known = Packet::Message(Message::Known { counter: 0 });
                // Hung up on, or full: the link stays open.
                let _ = say(&mut greeted, [vec![known], first].concat()).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = asks => {}
                _ = is_over => {}
            }
        });
    });
    Member { _held: held }
}

fn identity(machine: &Machine, name: &str) -> Identity {
    with_key(machine, name, &DeviceKey::generate().expect("a key"))
}

/// One that knows the secret that is in the machine's file, with this key.
pub fn with_key(machine: &Machine, name: &str, key: &DeviceKey) -> Identity {
    let secret = Secret::read(&machine.secret_file(), None).expect("the group's secret");
    Identity {
        device: key.device().expect("its own"),
        name: name.to_owned(),
        tls: Tls::new(key).expect("a certificate"),
        keys: secret.keys(),
        protocol: PROTOCOL,
        boot: 1,
        started: now(),
        features: Features::ours(),
        group: Arc::default(),
        former_keys: Bytes::new(),
    }
}

/// The same for one that may only read.
fn reader(machine: &Machine, name: &str) -> Identity {
    let secret = Secret::read(&machine.secret_file(), None).expect("the group's secret");
    let secret = secret.to_joiner(Capability::ReadOnly).expect("what a reader gets");
    Identity { keys: Secret::from_member(&secret).keys(), ..identity(machine, name) }
}

/// As it was when it had that secret: with this other machine on its list.
fn lists(machine: &Machine, other: DeviceId) -> Arc<KnownGroup> {
    let secret = Secret::read(&machine.secret_file(), None).expect("the group's secret");
    let (name, capability) = ("b".to_owned(), Capability::Write);
    let row = ListedMember { device: other, name, capability, added_by: other, added_ns: 1, invited: false };
    let mut index = MapIndex::new();
    GroupState::settle(&mut index, secret.handed(), Some(row));
    Arc::new(KnownGroup::new(GroupState::load(&index)))
}

/// Comes with the secret that is in the machine's file, after it was replaced: what the machine
/// that listens there hands over.
pub fn is_handed(machine: &Machine, key: &DeviceKey, giver: DeviceId, port: u16) -> Result<Handed, GreetError> {
    let me = &Identity { group: lists(machine, giver), ..with_key(machine, "lost", key) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(GreetError::Unreachable)?;
        match greeting::secure(tcp, Role::Dialler, &me.tls).await?.greet(me).await {
            Err(GreetError::Former(met)) => hand_over::exchange(*met, me).await,
            Err(why) => Err(why),
            Ok(_) => Err(GreetError::Refused("its secret is still in force".to_owned())),
        }
    })
}

async fn greet(me: &Identity, port: u16) -> Greeted {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.expect("the machine listens");
    let secured = greeting::secure(tcp, Role::Dialler, &me.tls).await.expect("TLS");
    secured.greet(me).await.expect("a member is let in")
}

/// Links with the machine that listens at `port`, says `first`, and answers each packet as `answer`
/// says.
pub fn join(
    machine: &Machine,
    port: u16,
    name: &str,
    first: Vec<Packet>,
    answer: impl FnMut(&Packet) -> Vec<Packet> + Send + 'static,
) -> Member {
    join_as(identity(machine, name), port, first, answer)
}

/// The same with what a reader has of the secret.
pub fn join_to_read(
    machine: &Machine,
    port: u16,
    name: &str,
    first: Vec<Packet>,
    answer: impl FnMut(&Packet) -> Vec<Packet> + Send + 'static,
) -> Member {
    join_as(reader(machine, name), port, first, answer)
}

pub fn join_as(
    me: Identity,
    port: u16,
    first: Vec<Packet>,
    mut answer: impl FnMut(&Packet) -> Vec<Packet> + Send + 'static,
) -> Member {
    let (held, is_over) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut greeted = greet(&me, port).await;
            let known = Packet::Message(Message::Known { counter: 0 });
            tokio::select! {
                // Hung up on.
                _ = talk(&mut greeted, [vec![known], first].concat(), &mut answer) => {}
                _ = is_over => {}
            }
        });
    });
    Member { _held: held }
}

async fn talk(
    greeted: &mut Greeted,
    first: Vec<Packet>,
    answer: &mut impl FnMut(&Packet) -> Vec<Packet>,
) -> io::Result<()> {
    say(greeted, first).await?;
    loop {
        let mut lengths = [0; frame::LENGTHS_BYTES];
        let mut begun = 0;
        while begun < lengths.len() {
            match timeout(PING_EVERY, greeted.stream.read(&mut lengths[begun..])).await {
                Err(_) => say(greeted, vec![Packet::Ping { at: 1 }]).await?,
                Ok(Ok(0)) => return Ok(()),
                Ok(read) => begun += read?,
            }
        }
        let decoded = frame::decode_lengths(lengths, frame::MAX_HEAD_BYTES, frame::MAX_BODY_BYTES);
        let (head, body) = decoded.expect("a daemon sends frames");
        let mut bytes = vec![0; head + body];
        greeted.stream.read_exact(&mut bytes).await?;
        let packet = frame::decode(&bytes[..head], Bytes::copy_from_slice(&bytes[head..])).expect("and valid ones");
        say(greeted, answer(&packet)).await?;
    }
}

async fn say(greeted: &mut Greeted, packets: Vec<Packet>) -> io::Result<()> {
    for packet in packets {
        greeted.stream.write_all(&frame::encode(&packet).to_vec()).await?;
    }
    greeted.stream.flush().await
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
}

/// The news that a file is there, of this content and size.
pub fn news(path: &str, content: ContentId, size: u64) -> Packet {
    entry_of(path, content, size, |_| ())
}

/// The same, with something else in its entry.
pub fn entry_of(path: &str, content: ContentId, size: u64, change: impl FnOnce(&mut Entry)) -> Packet {
    let author = DeviceId([0x66; 32]);
    let version = Version { stamp: now(), author, seen: VersionVector::default().with(author, 1) };
    let kind = Kind::File { size, content };
    let mut entry = Entry { kind, mode: Mode(0o644), mtime: FileTime { secs: 1_700_000_000, nanos: 0 }, version };
    change(&mut entry);
    let changes = vec![Change { path: SyncPath::new(path).expect("a path"), entry, body: None }];
    Packet::Message(Message::Changes { changes, relayed_to: Vec::new() })
}

/// These bytes, from `offset` of what was asked for, as all that comes.
pub fn pieces(stream: u32, offset: u64, bytes: &[u8]) -> Vec<Packet> {
    let piece = |(number, part): (usize, &[u8])| {
        let offset = offset + (number * PIECE_BYTES) as u64;
        Packet::Piece { stream, offset, bytes: Bytes::copy_from_slice(part) }
    };
    let mut packets: Vec<Packet> = bytes.chunks(PIECE_BYTES).enumerate().map(piece).collect();
    packets.push(Packet::End { stream, how: Ending::Whole });
    packets
}
