//! What the group has, asked of one member by a link that only looks.
//!
//! Deliberately not here: what that would mean for this folder (`engine/preview.rs`).

use crate::engine::api::digest::bucket_of;
use crate::engine::row_cost::row_bytes;
use crate::io::clock::wall_ns;
use crate::io::net::dial::addresses_of;
use crate::io::net::greeting::{self, GreetError, Identity, ReadError, Role, Stream, read_packet};
use crate::io::net::presence;
use crate::io::net::tls::{DeviceKey, KeyError, Tls};
use crate::io::store::secret::SecretKeys;
use crate::model::path::IGNORE_FILE;
use crate::model::{Entry, SyncPath};
use crate::wire::features::Features;
use crate::wire::frame::{self, MAX_BODY_BYTES, MAX_HEAD_BYTES};
use crate::wire::message::{Bucket, Group, Message, SMALL_FILE_BYTES, WantedContent};
use crate::wire::packet::{PROTOCOL, Packet, clean_name};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

/// To a member's greeting, and between two of its answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// An address that led nowhere is dialled again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Buckets that are asked for at once.
const BUCKETS: usize = 2048;
/// More is not taken of a member: a lying one would fill the memory (P9).
const MAX_TREE_BYTES: u64 = 1 << 30;
const MAX_ADDRESSES: usize = 64;

/// Who asks, and where members may be.
pub struct PreviewConfig {
    pub key: DeviceKey,
    pub keys: SecretKeys,
    pub name: String,
    pub broadcast_port: u16,
    /// `HOST:PORT` each; members that presence announces are asked as well.
    pub peers: Vec<String>,
    pub patience: Duration,
    /// For all that the member answers.
    pub answers_within: Duration,
}

/// What a member says that the group has.
#[derive(Debug, Default)]
pub struct GroupTree {
    /// The member's name.
    pub member: String,
    /// The winner of each path, deletions among them.
    pub entries: BTreeMap<SyncPath, Entry>,
    /// The group's `.dirsyncignore`, where it is small.
    pub patterns: Option<Vec<u8>>,
}

/// Why the group cannot be looked at. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    #[error(
        "no machine of the group was reached{}: is its daemon running, are UDP port {port} and \
         its TCP port open in both firewalls? Where no broadcast reaches it, name it with --peer \
         HOST:PORT", .why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    NotReached { port: u16, why: Option<String> },
    #[error("{0} runs an older version, which shows no preview: install this one there")]
    TooOld(String),
    #[error("{member} did not answer as it should: {why}")]
    Broke { member: String, why: String },
    #[error("UDP port {0} cannot be used for presence: {1}; give another with --broadcast-port")]
    Broadcast(u16, io::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the network cannot be started: {0}")]
    Start(#[from] io::Error),
}

/// Asks the first member that is reached. Blocks.
pub fn group_tree(config: &PreviewConfig) -> Result<GroupTree, PreviewError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let me = Identity {
        device: config.key.device()?,
        name: clean_name(&config.name),
        tls: Tls::new(&config.key)?,
        keys: config.keys.clone(),
        protocol: PROTOCOL,
        boot: wall_ns(),
        started: wall_ns(),
        features: Features::to_preview(),
        group: Arc::default(),
        former_keys: Bytes::new(),
    };
    runtime.block_on(async {
        let (stream, member) = reach(config, &me).await?;
        let mut asker = Asker { stream, tree: GroupTree { member, ..GroupTree::default() }, bytes: 0 };
        match timeout(config.answers_within, asker.ask()).await.unwrap_or(Err(AskError::Endless)) {
            Ok(()) => Ok(asker.tree),
            Err(why) => Err(PreviewError::Broke { member: asker.tree.member, why: why.to_string() }),
        }
    })
}

/// A link with a member, and its name.
async fn reach(config: &PreviewConfig, me: &Identity) -> Result<(Stream, String), PreviewError> {
    let port = config.broadcast_port;
    let socket = presence::bind(port).map_err(|why| PreviewError::Broadcast(port, why))?;
    let until = Instant::now() + config.patience;
    let (mut tried, mut last) = (HashMap::<SocketAddr, Instant>::new(), None);
    let mut buffer = [0; presence::MAX_DATAGRAM_BYTES + 1];
    while Instant::now() < until {
        let mut addresses = Vec::new();
        for peer in &config.peers {
            addresses.extend(addresses_of(peer).await.into_iter().flatten());
        }
        if let Ok(Ok((length, source))) = timeout(Duration::from_millis(500), socket.recv_from(&mut buffer)).await {
            addresses.extend(presence::member(&config.keys, &buffer[..length], source));
        }
        for at in addresses.into_iter().take_while(|_| Instant::now() < until) {
            let was_tried = tried.get(&at).is_some_and(|tried| tried.elapsed() < AGAIN_AFTER);
            if was_tried || (tried.len() >= MAX_ADDRESSES && !tried.contains_key(&at)) {
                continue;
            }
            tried.insert(at, Instant::now());
            match timeout(ANSWER_WITHIN, link(me, at)).await {
                Ok(Ok(linked)) => return Ok(linked),
                Ok(Err(Unlinked::TooOld(name))) => return Err(PreviewError::TooOld(name)),
                Ok(Err(Unlinked::Greeting(why))) => last = Some(format!("{at} {why}")),
                Err(_) => last = Some(format!("{at} {}", GreetError::TooSlow)),
            }
        }
    }
    Err(PreviewError::NotReached { port, why: last })
}

enum Unlinked {
    TooOld(String),
    Greeting(GreetError),
}

impl From<GreetError> for Unlinked {
    fn from(why: GreetError) -> Self {
        Self::Greeting(why)
    }
}

async fn link(me: &Identity, at: SocketAddr) -> Result<(Stream, String), Unlinked> {
    let tcp = greeting::connect(at).await?;
    match greeting::secure(tcp, Role::Dialler, &me.tls).await?.greet(me).await {
        Err(GreetError::NoPreview(name)) => Err(Unlinked::TooOld(name)),
        greeted => greeted.map(|greeted| (greeted.stream, greeted.name)).map_err(Unlinked::Greeting),
    }
}

/// Why a member's answers end.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("it said nothing for {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    #[error("it sent a '{0}'")]
    OutOfTurn(&'static str),
    #[error("it names more than {} MiB of paths", MAX_TREE_BYTES >> 20)]
    TooMuch,
    #[error("it did not come to an end")]
    Endless,
    #[error("it hung up: {0}")]
    Bye(String),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Lost(#[from] io::Error),
}

struct Asker {
    stream: Stream,
    tree: GroupTree,
    /// What the tree takes, about.
    bytes: u64,
}

impl Asker {
    async fn ask(&mut self) -> Result<(), AskError> {
        // Nothing here: all that the member has differs.
        let nothing = vec![[0; 16]; usize::from(Group::MAX) + 1];
        self.send(Message::Groups { groups: nothing }).await?;
        let mut buckets: Vec<Bucket> = Vec::new();
        match self.receive().await? {
            Message::Buckets { groups } => {
                for (group, digests) in groups {
                    let filled = digests.iter().enumerate().filter(|(_, digest)| **digest != [0; 16]);
                    buckets.extend(filled.map(|(low, _)| Bucket::from_be_bytes([group, low as u8])));
                }
            }
            _ => return Err(AskError::OutOfTurn("message")),
        }
        for some in buckets.chunks(BUCKETS) {
            self.send(Message::Offer { buckets: some.to_vec(), entries: Vec::new(), more: false }).await?;
            self.take_answer(&some.iter().copied().collect()).await?;
        }
        self.take_patterns().await?;
        self.say(&Packet::Bye { reason: "it has seen enough".to_owned() }).await
    }

    async fn take_answer(&mut self, asked: &BTreeSet<Bucket>) -> Result<(), AskError> {
        loop {
            let Message::Answer { entries, more } = self.receive().await? else {
                return Err(AskError::OutOfTurn("message"));
            };
            if more && entries.is_empty() {
                return Err(AskError::OutOfTurn("part of nothing"));
            }
            for (path, entry) in entries {
                if entry.check().is_err() || path.is_too_deep() || !asked.contains(&bucket_of(&path)) {
                    continue;
                }
                self.bytes += row_bytes(&path, &entry);
                if self.bytes > MAX_TREE_BYTES {
                    return Err(AskError::TooMuch);
                }
                self.tree.entries.insert(path, entry);
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn take_patterns(&mut self) -> Result<(), AskError> {
        let Ok(path) = SyncPath::new(IGNORE_FILE) else { return Ok(()) };
        let Some((content, size)) = self.tree.entries.get(&path).and_then(Entry::file) else { return Ok(()) };
        if size > SMALL_FILE_BYTES {
            return Ok(());
        }
        self.send(Message::Get { wants: vec![WantedContent { id: 1, path, content, size }] }).await?;
        let Message::Contents { contents } = self.receive().await? else { return Err(AskError::OutOfTurn("message")) };
        let bytes = contents.into_iter().find_map(|(id, bytes)| bytes.filter(|_| id == 1));
        self.tree.patterns =
            bytes.filter(|bytes| crate::model::ContentId::of(bytes) == content).map(|bytes| bytes.to_vec());
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), AskError> {
        for part in crate::wire::split::split(message) {
            self.say(&Packet::Message(part)).await?;
        }
        Ok(())
    }

    async fn say(&mut self, packet: &Packet) -> Result<(), AskError> {
        self.stream.write_all(&frame::encode(packet).to_vec()).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message; pings are answered on the way.
    async fn receive(&mut self) -> Result<Message, AskError> {
        loop {
            let next = timeout(ANSWER_WITHIN, read_packet(&mut self.stream, MAX_HEAD_BYTES, MAX_BODY_BYTES));
            match next.await.map_err(|_| AskError::Silent)??.0 {
                Packet::Message(message) => return Ok(message),
                Packet::Ping { at } => self.say(&Packet::Pong { at, wall: wall_ns() }).await?,
                Packet::Pong { .. } => {}
                Packet::Bye { reason } => {
                    return Err(AskError::Bye(crate::model::text::escape(reason.as_bytes())));
                }
                other => return Err(AskError::OutOfTurn(other.kind())),
            }
        }
    }
}
