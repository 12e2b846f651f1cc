//! The joiner's search: which machine here has the invitation that a code belongs to.
//!
//! Whoever says in presence that an invitation is open is asked, and every address given by
//! `--peer`. What presence says is not believed: anyone may say it, and learns from the asking only
//! what `invite` tells. Deliberately not here: the exchange (`invite`), and what is stored (the
//! daemon's).

use crate::io::net::dial::addresses_of;
use crate::io::net::greeting::{self, GreetError, Role};
use crate::io::net::invitations::CodeRefusal;
use crate::io::net::invite::{self, Invited, JoinRefusal, StoreSecret};
use crate::io::net::presence::{self, HeardInviter};
use crate::io::net::tls::{DeviceKey, KeyError, Tls};
use crate::model::{DeviceId, InvitationCode, text};
use crate::wire::packet::{SecretBytes, clean_name};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// An exchange with one machine.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);
/// Every machine announces itself within this time.
pub const OTHERS_WITHIN: Duration = Duration::from_secs(5);
/// An address is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
/// What is missing is said after this, and then every minute.
const SAY_AFTER: Duration = Duration::from_secs(5);
const SAY_EVERY: Duration = Duration::from_mins(1);
/// A name is looked up again after this.
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);
/// Addresses that are asked, at once and in all (P9).
const MAX_AT_ONCE: usize = 8;
const MAX_ADDRESSES: usize = 64;

/// What a machine joins with.
pub struct JoinConfig {
    pub key: DeviceKey,
    pub name: String,
    pub broadcast_port: u16,
    /// `HOST:PORT` each.
    pub peers: Vec<String>,
    pub code: InvitationCode,
    /// How long the inviter is looked for.
    pub patience: Duration,
    /// How long others are waited for after a refusal: another machine may have the invitation.
    pub others_within: Duration,
}

pub type Store = Box<StoreSecret>;

/// Who let this machine in.
#[derive(Debug)]
pub struct Inviter {
    pub secret: SecretBytes,
    pub name: String,
    pub address: SocketAddr,
}

/// Why this machine is no member. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "no machine with an open invitation was found: run 'dirsync invite' on a member, check that UDP port {port} and its TCP \
         port are open in both firewalls, or name it with --peer HOST:PORT"
    )]
    NotFound { port: u16 },
    #[error("{who} knows no open invitation with that code: check it, or run 'dirsync invite' there for a new one")]
    Unknown { who: String },
    #[error("{who} says that this code was already used by another machine: run 'dirsync invite' there for a new one")]
    Used { who: String },
    #[error("{who} says that this code has expired: run 'dirsync invite' there for a new one")]
    Expired { who: String },
    #[error(
        "{who} hears no more codes from this address, after five wrong ones: wait until its invitation has ended, and run 'dirsync \
         invite' there for a new one"
    )]
    Blocked { who: String },
    #[error("the secret of {who} cannot be stored: {why}")]
    NotStored { who: String, why: String },
    #[error("UDP port {0} cannot be used for presence: {1}; give another with --broadcast-port")]
    Broadcast(u16, io::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the network cannot be started: {0}")]
    Start(#[from] io::Error),
}

/// Looks for the inviter and takes the group's secret from it. Blocks. Without `store` it only
/// reserves the code for this device key.
pub fn join(config: &JoinConfig, store: Option<Store>) -> Result<Inviter, JoinError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tls = Tls::new(&config.key)?;
    let device = config.key.device()?;
    runtime.block_on(async {
        let port = config.broadcast_port;
        let socket = presence::bind(port).map_err(|why| JoinError::Broadcast(port, why))?;
        let me = Arc::new(Me { tls, device, name: clean_name(&config.name), code: config.code.clone() });
        let store = store.map(|store| Arc::new(Mutex::new(store)));
        InviterSearch::new(me, store).run(config, &socket).await
    })
}

struct Me {
    tls: Tls,
    device: DeviceId,
    name: String,
    code: InvitationCode,
}

type Answered = (SocketAddr, String, Result<Invited, JoinRefusal>);

struct InviterSearch {
    me: Arc<Me>,
    store: Option<Arc<Mutex<Store>>>,
    /// When each address was asked; `None`: it has answered, and is asked no more.
    asked: HashMap<SocketAddr, Option<Instant>>,
    /// The first address at which each machine announced itself, and others heard once.
    first_heard: HashMap<DeviceId, SocketAddr>,
    second_heard: HashSet<SocketAddr>,
    asking: JoinSet<Answered>,
    /// The refusal that says most, and when the first came.
    worst: Option<(CodeRefusal, String, Instant)>,
}

impl InviterSearch {
    fn new(me: Arc<Me>, store: Option<Arc<Mutex<Store>>>) -> Self {
        let (first_heard, second_heard) = (HashMap::new(), HashSet::new());
        Self { me, store, asked: HashMap::new(), first_heard, second_heard, asking: JoinSet::new(), worst: None }
    }

    async fn run(mut self, config: &JoinConfig, socket: &UdpSocket) -> Result<Inviter, JoinError> {
        let start = Instant::now();
        let (mut say_at, mut dial_at) = (start + SAY_AFTER, start);
        let mut buffer = [0; presence::MAX_DATAGRAM_BYTES + 1];
        loop {
            let now = Instant::now();
            if now >= start + config.patience {
                return Err(self.refused().unwrap_or(not_found(config)));
            }
            if self.worst.as_ref().is_some_and(|(_, _, since)| now >= *since + config.others_within)
                && let Some(refused) = self.refused()
            {
                return Err(refused);
            }
            if now >= dial_at {
                dial_at = now + AGAIN_AFTER;
                self.ask_named(&config.peers).await;
            }
            if now >= say_at {
                say_at = now + SAY_EVERY;
                say_what_is_missing(config);
            }
            let first_refusal = self.worst.as_ref().map(|(_, _, since)| *since + config.others_within);
            let due = [Some(say_at), Some(dial_at), Some(start + config.patience), first_refusal];
            let due = due.into_iter().flatten().min().unwrap_or(say_at);
            tokio::select! {
                () = sleep_until(due) => {}
                received = socket.recv_from(&mut buffer) => {
                    let Ok((length, source)) = received else { continue };
                    if let Some(heard) = presence::inviter(&buffer[..length], source) {
                        self.hear(heard);
                    }
                }
                Some(answered) = self.asking.join_next() => {
                    let Ok(answered) = answered else { continue };
                    if let Some(joined) = self.answered(answered)? {
                        return Ok(joined);
                    }
                }
            }
        }
    }

    /// The first address of a machine is asked at once, others when it is announced again: one may
    /// be enough. What the machine calls itself decides nothing more, since it may be anyone.
    fn hear(&mut self, HeardInviter { address, name, device }: HeardInviter) {
        let first = *self.first_heard.entry(device).or_insert(address);
        let is_second_heard_now = first != address && self.second_heard.insert(address);
        if !is_second_heard_now {
            self.ask(address, format!("{name} ({})", address.ip()));
        }
        if self.first_heard.len() > MAX_ADDRESSES || self.second_heard.len() > MAX_ADDRESSES {
            self.first_heard.clear();
            self.second_heard.clear();
        }
    }

    async fn ask_named(&mut self, peers: &[String]) {
        for peer in peers {
            match timeout(RESOLVE_WITHIN, addresses_of(peer)).await {
                Ok(Ok(addresses)) => addresses.into_iter().for_each(|at| self.ask(at, text::escape(peer.as_bytes()))),
                why => tracing::debug!("--peer {peer}: {why:?}"),
            }
        }
    }

    /// Asks an address that was not asked a moment ago and has not answered yet.
    fn ask(&mut self, at: SocketAddr, who: String) {
        let now = Instant::now();
        match self.asked.get(&at) {
            Some(None) => return,
            Some(Some(asked)) if now < *asked + AGAIN_AFTER => return,
            None if self.asked.len() >= MAX_ADDRESSES => return,
            _ if self.asking.len() >= MAX_AT_ONCE => return,
            _ => {}
        }
        self.asked.insert(at, Some(now));
        let (me, store) = (Arc::clone(&self.me), self.store.clone());
        self.asking.spawn(async move {
            let exchanged = timeout(EXCHANGE_WITHIN, exchange(&me, at, store)).await;
            (at, who, exchanged.unwrap_or(Err(JoinRefusal::Greeting(GreetError::TooSlow))))
        });
    }

    fn answered(&mut self, (at, who, answer): Answered) -> Result<Option<Inviter>, JoinError> {
        match answer {
            Ok(Invited { secret, name }) => return Ok(Some(Inviter { secret, name, address: at })),
            Err(JoinRefusal::NotStored(why)) => return Err(JoinError::NotStored { who, why }),
            Err(JoinRefusal::Code(refusal)) => {
                self.asked.insert(at, None);
                let since = self.worst.as_ref().map_or_else(Instant::now, |(_, _, since)| *since);
                if self.worst.as_ref().is_none_or(|(worst, ..)| *worst < refusal) {
                    self.worst = Some((refusal, who, since));
                }
            }
            Err(JoinRefusal::Impostor) => {
                self.asked.insert(at, None);
                tracing::warn!(
                    "{who} claims to have an invitation open, and does not know the code: it is not believed"
                );
            }
            Err(JoinRefusal::Greeting(why)) => tracing::debug!("{who}: {why}"),
        }
        Ok(None)
    }

    fn refused(&self) -> Option<JoinError> {
        let (refusal, who, _) = self.worst.clone()?;
        Some(match refusal {
            CodeRefusal::Unknown => JoinError::Unknown { who },
            CodeRefusal::Blocked => JoinError::Blocked { who },
            CodeRefusal::Expired => JoinError::Expired { who },
            CodeRefusal::Used => JoinError::Used { who },
        })
    }
}

async fn exchange(me: &Me, at: SocketAddr, store: Option<Arc<Mutex<Store>>>) -> Result<Invited, JoinRefusal> {
    let tcp = TcpStream::connect(at).await.map_err(GreetError::Unreachable)?;
    let secured = greeting::secure(tcp, Role::Dialler, &me.tls).await?;
    let mut keep = store.map(|store| {
        move |secret: &SecretBytes| {
            let mut store = store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            store(secret)
        }
    });
    let keep = keep.as_mut().map(|keep| keep as &mut StoreSecret);
    invite::ask(secured, (me.device, &me.name), &me.code, keep).await
}

fn not_found(config: &JoinConfig) -> JoinError {
    JoinError::NotFound { port: config.broadcast_port }
}

fn say_what_is_missing(config: &JoinConfig) {
    tracing::info!(
        kind = "joining",
        "looking for the machine that invited this one, on UDP port {}; is 'dirsync invite' open there? Where no broadcast \
         reaches it, name it with --peer HOST:PORT",
        config.broadcast_port
    );
}
