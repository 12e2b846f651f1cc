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
use crate::wire::packet::{HandedSecret, clean_name};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// An exchange with one machine.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);
/// Every machine announces itself within this time.
pub const OTHERS_WITHIN: Duration = Duration::from_secs(8);
/// An address is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
/// What is missing is said after this, and then every minute.
const SAY_AFTER: Duration = Duration::from_secs(5);
pub const SAY_EVERY: Duration = Duration::from_mins(1);
/// A name is looked up again after this.
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);
/// Addresses that are asked, at once and in all (P9).
const MAX_AT_ONCE: usize = 32;
const MAX_ADDRESSES: usize = 64;
/// Of one host: a port costs its sender nothing.
const MAX_OF_A_HOST: usize = 4;

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
    /// Told whenever this machine goes on looking, every [`SAY_EVERY`] at least.
    pub goes_on: fn(),
}

pub type Store = Box<StoreSecret>;

/// Who let this machine in.
#[derive(Debug)]
pub struct Inviter {
    pub secret: HandedSecret,
    pub device: DeviceId,
    pub name: String,
    pub address: SocketAddr,
}

/// Why this machine is no member. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "no machine with an open invitation was found{trouble}: run 'dirsync invite' on a member, \
         check that UDP port {port} and its TCP port are open in both firewalls, or name it with \
         --peer HOST:PORT"
    )]
    NotFound { port: u16, trouble: String },
    #[error("{who} knows no open invitation with that code: check it, or run 'dirsync invite' there for a new one")]
    Unknown { who: String },
    #[error("{who} says that this code was already used by another machine: run 'dirsync invite' there for a new one")]
    Used { who: String },
    #[error("{who} says that this code has expired: run 'dirsync invite' there for a new one")]
    Expired { who: String },
    #[error(
        "{who} hears no more codes from this address, after five wrong ones: wait until its \
         invitation has ended, and run 'dirsync invite' there for a new one"
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
        let store = store.map(|store| Arc::new(Mutex::new(StoreOnce { store, is_stored: false })));
        InviterSearch::new(me, store).run(config, &socket).await
    })
}

/// Two addresses of one inviter may both hand the secret over.
struct StoreOnce {
    store: Store,
    is_stored: bool,
}

impl StoreOnce {
    fn keep(&mut self, secret: &HandedSecret) -> Result<(), String> {
        if !self.is_stored {
            (self.store)(secret)?;
            self.is_stored = true;
        }
        Ok(())
    }
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
    store: Option<Arc<Mutex<StoreOnce>>>,
    /// When each address was asked; `None`: it has answered, and is asked no more.
    asked: HashMap<SocketAddr, Option<Instant>>,
    /// The first address at which each machine announced itself, and others heard once.
    first_heard: HashMap<DeviceId, SocketAddr>,
    second_heard: HashSet<SocketAddr>,
    /// The names that lead to no address, and why.
    unresolved: BTreeMap<String, String>,
    /// The addresses of `--peer`, and what came of asking there.
    named: HashMap<SocketAddr, (String, Option<String>)>,
    asking: JoinSet<Answered>,
    /// The refusal that says most, and when the first came.
    worst: Option<(CodeRefusal, String, Instant)>,
}

impl InviterSearch {
    fn new(me: Arc<Me>, store: Option<Arc<Mutex<StoreOnce>>>) -> Self {
        let (first_heard, second_heard) = (HashMap::new(), HashSet::new());
        Self {
            me,
            store,
            asked: HashMap::new(),
            first_heard,
            second_heard,
            named: HashMap::new(),
            unresolved: BTreeMap::new(),
            asking: JoinSet::new(),
            worst: None,
        }
    }

    async fn run(mut self, config: &JoinConfig, socket: &UdpSocket) -> Result<Inviter, JoinError> {
        let start = Instant::now();
        let (mut say_at, mut dial_at) = (start + SAY_AFTER, start);
        let mut buffer = [0; presence::MAX_DATAGRAM_BYTES + 1];
        loop {
            let now = Instant::now();
            if now >= start + config.patience {
                return Err(self.refused().unwrap_or_else(|| self.not_found(config)));
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
                (config.goes_on)();
                say_what_is_missing(config, &self.trouble());
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

    fn not_found(&self, config: &JoinConfig) -> JoinError {
        JoinError::NotFound { port: config.broadcast_port, trouble: self.trouble() }
    }

    async fn ask_named(&mut self, peers: &[String]) {
        for peer in peers {
            let who = text::escape(peer.as_bytes());
            match timeout(RESOLVE_WITHIN, addresses_of(peer)).await {
                Ok(Ok(addresses)) => {
                    for at in addresses {
                        self.named.entry(at).or_insert_with(|| (who.clone(), None));
                        self.ask(at, who.clone());
                    }
                    self.unresolved.remove(&who);
                }
                Ok(Err(why)) => drop(self.unresolved.insert(who, why.to_string())),
                Err(_) => drop(self.unresolved.insert(who, "its name is not found in time".to_owned())),
            }
        }
    }

    /// What keeps the addresses that a person named from being asked, for one line.
    fn trouble(&self) -> String {
        let named = self.named.values().filter_map(|(who, why)| Some((who, why.as_ref()?)));
        let all: Vec<_> = named.chain(&self.unresolved).map(|(who, why)| format!("--peer {who} {why}")).collect();
        if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
    }

    /// Asks an address that was not asked a moment ago and has not answered yet.
    fn ask(&mut self, at: SocketAddr, who: String) {
        let now = Instant::now();
        match self.asked.get(&at).copied() {
            Some(None) => return,
            Some(Some(asked)) if now < asked + AGAIN_AFTER => return,
            _ if self.asking.len() >= MAX_AT_ONCE => return,
            Some(_) => {}
            None => self.make_room(at),
        }
        self.asked.insert(at, Some(now));
        let (me, store) = (Arc::clone(&self.me), self.store.clone());
        self.asking.spawn(async move {
            let exchanged = timeout(EXCHANGE_WITHIN, exchange(&me, at, store)).await;
            (at, who, exchanged.unwrap_or(Err(JoinRefusal::Greeting(GreetError::TooSlow))))
        });
    }

    /// Few addresses are known of one host, and of all, but for those that a person named.
    fn make_room(&mut self, at: SocketAddr) {
        self.forget_oldest(MAX_OF_A_HOST, |known| known.ip() == at.ip());
        self.forget_oldest(MAX_ADDRESSES, |_| true);
    }

    /// The one that was asked longest ago makes room, so that whoever fills the list keeps nobody
    /// out.
    fn forget_oldest(&mut self, cap: usize, is_one: impl Fn(&SocketAddr) -> bool) {
        let heard = self.asked.iter().filter(|(known, _)| is_one(known) && !self.named.contains_key(*known));
        if heard.clone().count() < cap {
            return;
        }
        let oldest = heard.min_by_key(|(_, asked)| (asked.is_none(), **asked)).map(|(known, _)| *known);
        oldest.map(|oldest| self.asked.remove(&oldest));
    }

    fn answered(&mut self, (at, who, answer): Answered) -> Result<Option<Inviter>, JoinError> {
        match answer {
            Ok(Invited { secret, device, name }) => return Ok(Some(Inviter { secret, device, name, address: at })),
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
            Err(JoinRefusal::Greeting(why)) => {
                tracing::debug!("{who}: {why}");
                self.named.entry(at).and_modify(|(_, trouble)| *trouble = Some(why.to_string()));
            }
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

async fn exchange(me: &Me, at: SocketAddr, store: Option<Arc<Mutex<StoreOnce>>>) -> Result<Invited, JoinRefusal> {
    let secured = greeting::secure(greeting::connect(at).await?, Role::Dialler, &me.tls).await?;
    let mut keep = store.map(|store| {
        move |secret: &HandedSecret| store.lock().unwrap_or_else(std::sync::PoisonError::into_inner).keep(secret)
    });
    let keep = keep.as_mut().map(|keep| keep as &mut StoreSecret);
    invite::ask(secured, (me.device, &me.name), &me.code, keep).await
}

fn say_what_is_missing(config: &JoinConfig, trouble: &str) {
    tracing::info!(
        kind = "joining",
        "looking for the machine that invited this one, on UDP port {}{trouble}; is 'dirsync \
         invite' open there? Where no broadcast reaches it, name it with --peer HOST:PORT",
        config.broadcast_port
    );
}
