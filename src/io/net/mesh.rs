//! The network as one facade: takes the engine's network actions, sends back events, and never
//! blocks its caller.
//!
//! It owns the runtime and the listening port. Deliberately not here: the register of links
//! (`hub`), one link's own life (`link`), and who is dialled when (`dial`).

use crate::engine::{Action, Event, FetchError, LinkId};
use crate::io::Events;
use crate::io::clock::wall_ns;
use crate::io::fs::delta::{DeltaRequest, PatchTarget};
use crate::io::net::alone;
use crate::io::net::complaints::Subject;
use crate::io::net::dial;
use crate::io::net::greeting::Identity;
use crate::io::net::hub::{Hub, MAX_LINKS};
use crate::io::net::invitations::Invitations;
use crate::io::net::known_group::KnownGroup;
use crate::io::net::link::{Closing, LinkContext, LinkInfo, Times};
use crate::io::net::members::Unreached;
use crate::io::net::outbox::SharedMessage;
use crate::io::net::presence::{Channel, News, Presence};
use crate::io::net::rate_limit::Limit;
use crate::io::net::seal::Sealer;
use crate::io::net::tls::{DeviceKey, KeyError, Tls};
use crate::io::net::traffic::Traffic;
use crate::io::net::transfer::{MAX_STREAMS, Served, Staging};
use crate::io::store::secret::{Secret, SecretKeys};
use crate::model::{DeviceId, text};
use crate::wire::confirmation::Confirmation;
use crate::wire::features::Features;
use crate::wire::message::Message;
use crate::wire::packet::{PROTOCOL, clean_name};
use crate::wire::split::split;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

const SHUTDOWN_WITHIN: Duration = Duration::from_secs(1);
/// Threads that read and write contents: those of all links fit, so that no peer can hold up
/// another's.
const MAX_THREADS: usize = MAX_LINKS * (2 * MAX_STREAMS + 8);

/// The TCP port for links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Any free one will do where this one is taken.
    Default(u16),
    /// This one and no other; 0 is any.
    Exactly(u16),
}

pub struct NetConfig {
    pub key: DeviceKey,
    pub keys: SecretKeys,
    /// The secret itself, for machines that are invited; none where everyone knows it.
    pub secret: Option<Secret>,
    pub name: String,
    pub broadcast_port: u16,
    pub listen: Listen,
    /// `HOST:PORT` each.
    pub peers: Vec<String>,
    pub times: Times,
    /// Bytes a second sent to each peer, and in all.
    pub limit: Option<u64>,
    pub group: Arc<KnownGroup>,
    /// Which devices this one was before, signed by their keys; empty: none.
    pub former_keys: Vec<u8>,
}

/// Why there is no network. Each names the option to change.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("TCP port {0} is in use: stop what uses it, or give another with --listen-port (0 takes any)")]
    PortInUse(u16),
    #[error("TCP port {0} cannot be listened on: {1}; give another with --listen-port")]
    Listen(u16, io::Error),
    #[error("UDP port {0} cannot be used for presence: {1}; give another with --broadcast-port")]
    Broadcast(u16, io::Error),
    #[error("--peer '{}' is not HOST:PORT, such as nas.local:6000 or [fe80::1%eth0]:6000", text::escape(.0.as_bytes()))]
    BadPeer(String),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the network cannot be started: {0}")]
    Start(#[from] io::Error),
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// The network, running.
pub struct Net {
    hub: Arc<Hub>,
    port: u16,
    sealer: Sealer,
    /// The tasks that keep the addresses which a person named.
    peers: Mutex<BTreeMap<String, AbortHandle>>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

impl Net {
    /// Binds both ports and begins to announce, listen and dial.
    pub fn start(
        config: NetConfig,
        events: Events,
        staging: Arc<dyn Staging>,
        served: Arc<dyn Served>,
    ) -> Result<Self, NetError> {
        config.peers.iter().try_for_each(|peer| check_peer(peer))?;
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            threads.worker_threads(2).max_blocking_threads(MAX_THREADS).thread_name("net").enable_all().build()?;
        let inside = runtime.enter();
        let listener = listen(config.listen)?;
        let port = listener.local_addr()?.port();

        let (device, tls) = (config.key.device()?, Tls::new(&config.key)?);
        let sealer = Sealer::new(&config.key)?;
        let (name, boot) = (clean_name(&config.name), getrandom::u64()?);
        let invitations = Arc::new(Invitations::new(config.secret));
        let udp = config.broadcast_port;
        let group = config.group;
        let bind = |channel| {
            let shared = (Arc::clone(&invitations), Arc::clone(&group));
            Presence::bind(udp, channel, device, name.clone(), port, boot, shared)
        };
        let presences = Channel::all(&config.keys).into_iter().map(bind).collect::<Result<Vec<_>, _>>();
        let presences = presences.map_err(|error| NetError::Broadcast(udp, error))?;
        let me = Identity {
            device,
            name,
            tls,
            keys: config.keys,
            protocol: PROTOCOL,
            boot,
            started: wall_ns(),
            features: Features::ours(),
            group,
            former_keys: config.former_keys.into(),
        };
        let world = LinkContext {
            events,
            staging,
            served,
            times: config.times,
            limit: Limit::new(config.limit),
            queued: Arc::default(),
            runtime: runtime.handle().clone(),
        };
        let hub = Arc::new(Hub::new(me, Arc::new(world), invitations));

        runtime.spawn(accept(Arc::clone(&hub), listener));
        for presence in presences {
            let hearer = Arc::clone(&hub);
            runtime.spawn(presence.run(move |news| match news {
                News::Member(member) => dial::hear(&hearer, &member),
                News::Foreign { name, address } => hearer.name_foreign(address, &name),
            }));
        }
        runtime.spawn(alone::say_so(Arc::clone(&hub), udp));
        drop(inside);
        let net = Self { hub, port, sealer, peers: Mutex::default(), runtime: Some(runtime) };
        net.set_peers(&config.peers);
        Ok(net)
    }

    /// The TCP port that links are taken on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that a person named and that lead to no member now.
    pub fn unreached(&self) -> Vec<Unreached> {
        let kept = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let unreached = self.hub.unreached.lock().unwrap_or_else(PoisonError::into_inner);
        unreached.values().filter(|unreached| kept.contains_key(&unreached.address)).cloned().collect()
    }

    /// The addresses to keep links to, from now on. A link that is up stays up until it ends.
    pub fn set_peers(&self, peers: &[String]) {
        let Some(runtime) = &self.runtime else { return };
        let mut kept = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|peer, task| {
            let stays = peers.contains(peer);
            if !stays {
                task.abort();
            }
            stays
        });
        for peer in peers {
            let begin = || runtime.spawn(dial::keep_peer(Arc::clone(&self.hub), peer.clone())).abort_handle();
            kept.entry(peer.clone()).or_insert_with(begin);
        }
    }

    /// Who may still join.
    pub fn invitations(&self) -> &Invitations {
        &self.hub.invitations
    }

    /// Bytes a second sent to each peer, and in all, from now on; `None`: no limit.
    pub fn set_limit(&self, rate: Option<u64>) {
        self.hub.world.limit.set(rate);
    }

    pub fn limit(&self) -> Option<u64> {
        self.hub.world.limit.rate()
    }

    pub fn links(&self) -> Vec<LinkInfo> {
        self.hub.lock().up.values().map(|link| link.info()).collect()
    }

    /// By device, since the start.
    pub fn traffic(&self) -> BTreeMap<DeviceId, Traffic> {
        self.hub.lock().traffic.by_device()
    }

    /// Runs a network action; any other is handed back. Never blocks.
    pub fn run(&self, action: Action) -> Option<Action> {
        match action {
            Action::Send { to, message: Message::Confirm(confirmation) } => self.send_confirmation(&to, confirmation),
            Action::Send { to, message } => {
                for part in split(message).into_iter().map(SharedMessage::new) {
                    to.iter().filter_map(|link| self.hub.link(*link)).for_each(|link| link.send(Arc::clone(&part)));
                }
            }
            Action::SendContents { to, files } => {
                if let Some(link) = self.hub.link(to) {
                    link.send_contents(files);
                }
            }
            Action::Fetch { fetch, from, path, content, size } => match self.hub.link(from) {
                Some(link) => link.fetch(fetch, path, content, size),
                None => {
                    self.hub.world.events.send(Event::FetchFailed { fetch, why: FetchError::LinkLost });
                }
            },
            Action::FetchDelta { fetch, from, path, content, size, base } => match self.hub.link(from) {
                Some(link) => link.fetch_delta(fetch, path, PatchTarget { content, size, base }),
                None => {
                    self.hub.world.events.send(Event::FetchFailed { fetch, why: FetchError::LinkLost });
                }
            },
            Action::CancelFetch { fetch } => {
                let links: Vec<_> = self.hub.lock().up.values().cloned().collect();
                links.iter().any(|link| link.cancel(fetch));
            }
            Action::Serve { to, stream, file } => {
                if let Some(link) = self.hub.link(to) {
                    link.serve(stream, file);
                }
            }
            Action::ServeDelta { to, stream, file, base, base_size } => {
                if let Some(link) = self.hub.link(to) {
                    link.serve_delta(stream, file.map(|file| DeltaRequest { file, base, base_size }));
                }
            }
            Action::FetchPart { range, from, path, content, size, part } => {
                if let Some(link) = self.hub.link(from) {
                    link.fetch_part(range, path, content, size, part);
                } else {
                    let how = Err(FetchError::LinkLost);
                    self.hub.world.events.send(Event::RangeEnded { range, how, wire_bytes: 0 });
                }
            }
            Action::CancelPart { range } => {
                let links: Vec<_> = self.hub.lock().up.values().cloned().collect();
                links.iter().any(|link| link.cancel_part(range));
            }
            Action::ServePartial { to, stream, content } => {
                if let Some(link) = self.hub.link(to) {
                    link.serve_partial(stream, &content);
                }
            }
            Action::Group(group) => self.hub.group().set(*group),
            Action::Close { link, why } => {
                if let Some(link) = self.hub.link(link) {
                    link.close(Closing::Broke(text::escape(why.as_bytes())));
                }
            }
            other => return Some(other),
        }
        None
    }

    /// This machine's own are signed first.
    fn send_confirmation(&self, to: &[LinkId], mut confirmation: Confirmation) {
        let is_ours = !confirmation.is_signed();
        if let Err(why) = if is_ours { self.sealer.seal(&mut confirmation) } else { Ok(()) } {
            tracing::warn!("a confirmation cannot be signed, and other machines may hold what it names: {why}");
            return;
        }
        let message = SharedMessage::new(Message::Confirm(confirmation));
        to.iter().filter_map(|link| self.hub.link(*link)).for_each(|link| link.send(Arc::clone(&message)));
    }

    /// Says goodbye and closes everything, within a second.
    pub fn shutdown(self) {
        self.hub.lock().is_stopping = true;
        for link in self.hub.lock().up.values() {
            link.close(Closing::Shutdown);
        }
        if let Some(runtime) = &self.runtime {
            let gone = self.hub.until(|links| links.up.is_empty());
            let _ = runtime.block_on(async { tokio::time::timeout(SHUTDOWN_WITHIN, gone).await });
        }
    }
}

impl Drop for Net {
    /// Threads that wait for a link's streams end with the link.
    fn drop(&mut self) {
        let mut links = self.hub.lock();
        links.is_stopping = true;
        links.up.values().for_each(|link| link.take_down());
        drop(links);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Takes connections for ever. Those that have not proved anything are few and short-lived (P9).
async fn accept(hub: Arc<Hub>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                let greeting = Arc::clone(&hub);
                hub.pending.admit(address.ip(), move |pass| async move {
                    let Some(greeted) = greeting.greet_stranger(tcp, address).await else { return };
                    drop(pass);
                    if let Ok((link, ends)) = greeting.admit(address, greeted).await {
                        greeting.live(&link, ends).await;
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: accepting again at once would spin.
                if hub.may_complain(Subject::Us, "accept") {
                    tracing::warn!("connections cannot be taken just now: {error}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn listen(wanted: Listen) -> Result<TcpListener, NetError> {
    match wanted {
        Listen::Exactly(port) => bind(port).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => NetError::PortInUse(port),
            _ => NetError::Listen(port, error),
        }),
        Listen::Default(port) => bind(port).or_else(|_| bind(0)).map_err(|error| NetError::Listen(port, error)),
    }
}

/// IPv6 and IPv4 on one socket, or IPv4 alone where there is no IPv6.
fn bind(port: u16) -> io::Result<TcpListener> {
    let both = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_only_v6(false)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    };
    let socket = match both() {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket
        }
        other => other?,
    };
    socket.set_nonblocking(true)?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// Only its form; whether it can be reached is found out again and again.
fn check_peer(peer: &str) -> Result<(), NetError> {
    let bad = || NetError::BadPeer(peer.to_owned());
    let (host, port) = peer.rsplit_once(':').ok_or_else(bad)?;
    let is_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
        && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')));
    match port.parse::<u16>() {
        Ok(1..) if is_host => Ok(()),
        _ => Err(bad()),
    }
}
