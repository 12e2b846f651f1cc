//! The network as one facade: takes the engine's network actions, sends back events, and never blocks its caller.
//!
//! It owns the runtime, the listening port and the register of links; which of two links for one device stays is
//! settled here. Deliberately not here: one link's own life (`link`), and who is dialled when (`dial`).

use super::Events;
use super::complaints::{Complaints, Subject};
use super::delta::{Asked, Wanted};
use super::dial::{self, Members, Unreached};
use super::greet::{self, GreetError, Greeted, Identity, Role};
use super::limit::Limit;
use super::link::{Closing, Ends, Link, LinkInfo, Times, World};
use super::outbox::Shared;
use super::presence::{News, Presence};
use super::seal::Sealer;
use super::secret::Keys;
use super::strangers::Strangers;
use super::tls::{DeviceKey, KeyError, Tls};
use super::transfer::{MAX_STREAMS, Served, Staging};
use crate::engine::{Action, Event, FetchError, LinkId};
use crate::io::clock::wall_ns;
use crate::model::{DeviceId, text};
use crate::wire::frame;
use crate::wire::message::Message;
use crate::wire::packet::{PROTOCOL, clean_name};
use crate::wire::split::split;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const SHUTDOWN_WITHIN: Duration = Duration::from_secs(1);
/// An address of a LAN answers within this, or other addresses are better.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Links in all, and with one address (P9).
const MAX_LINKS: usize = 128;
const MAX_LINKS_AN_ADDRESS: usize = 32;
/// Threads that read and write contents: those of all links fit, so that no peer can hold up another's.
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
    pub keys: Keys,
    pub name: String,
    pub broadcast_port: u16,
    pub listen: Listen,
    /// `HOST:PORT` each.
    pub peers: Vec<String>,
    pub times: Times,
    /// Bytes a second sent to each peer, and in all.
    pub limit: Option<u64>,
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
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

/// What the network's tasks share.
pub struct Hub {
    me: Identity,
    world: Arc<World>,
    links: Mutex<Links>,
    /// Told whenever a link comes or goes.
    changed: watch::Sender<()>,
    next_link: AtomicU64,
    pub(super) members: Members,
    strangers: Strangers,
    /// By address.
    pub unreached: Mutex<BTreeMap<String, Unreached>>,
    complaints: Complaints,
}

#[derive(Default)]
struct Links {
    up: BTreeMap<LinkId, Arc<Link>>,
    /// Devices being greeted by a connection that this machine opened: one each.
    greeting: HashSet<DeviceId>,
    is_stopping: bool,
}

impl Links {
    fn of(&self, device: DeviceId) -> Option<&Arc<Link>> {
        self.up.values().find(|link| link.device == device)
    }

    fn at(&self, ip: IpAddr) -> impl Iterator<Item = &Arc<Link>> {
        self.up.values().filter(move |link| link.address.ip() == ip)
    }

    /// Whether one more link with this address may come, and which gives way to it: the youngest of the address that has the most.
    fn has_room(&self, ip: IpAddr) -> Result<Option<Arc<Link>>, ()> {
        let here = self.at(ip).count();
        if here >= MAX_LINKS_AN_ADDRESS {
            return Err(());
        }
        if self.up.len() < MAX_LINKS {
            return Ok(None);
        }
        let most = self.up.values().max_by_key(|link| (self.at(link.address.ip()).count(), link.id));
        most.filter(|most| self.at(most.address.ip()).count() > here + 1).cloned().map(Some).ok_or(())
    }
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
        let presence = Presence::bind(config.broadcast_port, config.keys.clone(), device, name.clone(), port, boot)
            .map_err(|error| NetError::Broadcast(config.broadcast_port, error))?;
        let me =
            Identity { device, name, tls, link_key: config.keys.link, protocol: PROTOCOL, boot, started: wall_ns() };
        let world = World {
            events,
            staging,
            served,
            times: config.times,
            limit: Limit::new(config.limit),
            queued: Arc::default(),
            runtime: runtime.handle().clone(),
        };
        let hub = Arc::new(Hub::new(me, Arc::new(world)));

        runtime.spawn(accept(Arc::clone(&hub), listener));
        let hearer = Arc::clone(&hub);
        runtime.spawn(presence.run(move |news| match news {
            News::Member(member) => hearer.members.hear(&hearer, &member),
            News::Foreign { name, address } => hearer.name_foreign(address, &name),
        }));
        for peer in config.peers {
            runtime.spawn(dial::keep_peer(Arc::clone(&hub), peer));
        }
        drop(inside);
        Ok(Self { hub, port, sealer, runtime: Some(runtime) })
    }

    /// The TCP port that links are taken on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that a person named and that lead to no member now.
    pub fn unreached(&self) -> Vec<Unreached> {
        self.hub.unreached.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub fn links(&self) -> Vec<LinkInfo> {
        self.hub.lock().up.values().map(|link| link.info()).collect()
    }

    /// Runs a network action; any other is handed back. Never blocks.
    pub fn run(&self, action: Action) -> Option<Action> {
        match action {
            Action::Send { to, message: Message::Confirm(mut confirmation) } => {
                let is_ours = !confirmation.is_signed();
                if let Err(why) = if is_ours { self.sealer.seal(&mut confirmation) } else { Ok(()) } {
                    tracing::warn!("a confirmation cannot be signed, and other machines may hold what it names: {why}");
                    return None;
                }
                let message = Shared::new(Message::Confirm(confirmation));
                to.iter().filter_map(|link| self.hub.link(*link)).for_each(|link| link.send(Arc::clone(&message)));
            }
            Action::Send { to, message } => {
                for part in split(message).into_iter().map(Shared::new) {
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
                Some(link) => link.fetch_delta(fetch, path, Wanted { content, size, base }),
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
                    link.serve_delta(stream, file.map(|file| Asked { file, base, base_size }));
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
            Action::Close { link, why } => {
                if let Some(link) = self.hub.link(link) {
                    link.close(Closing::Broke(text::escape(why.as_bytes())));
                }
            }
            other => return Some(other),
        }
        None
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

impl Hub {
    fn new(me: Identity, world: Arc<World>) -> Self {
        Self {
            me,
            world,
            links: Mutex::default(),
            changed: watch::Sender::new(()),
            next_link: AtomicU64::new(1),
            members: Members::default(),
            strangers: Strangers::default(),
            unreached: Mutex::default(),
            complaints: Complaints::default(),
        }
    }

    pub fn device(&self) -> DeviceId {
        self.me.device
    }

    pub fn times(&self) -> &Times {
        &self.world.times
    }

    pub fn is_linked(&self, device: DeviceId) -> bool {
        self.lock().of(device).is_some()
    }

    pub async fn until_linked(&self, device: DeviceId) {
        self.until(|links| links.of(device).is_some()).await;
    }

    pub async fn until_unlinked(&self, device: DeviceId) {
        self.until(|links| links.of(device).is_none()).await;
    }

    async fn until(&self, is_so: impl Fn(&Links) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so(&self.lock()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn link(&self, link: LinkId) -> Option<Arc<Link>> {
        self.lock().up.get(&link).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a link to an address, which is to be run by `live`.
    pub async fn open(self: &Arc<Self>, address: SocketAddr) -> Result<(Arc<Link>, Ends), GreetError> {
        let mut begun = Greeting { hub: self, device: None };
        let greeting = async {
            let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address));
            let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let tcp = connected.map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => GreetError::Denied,
                _ => GreetError::Unreachable(error),
            })?;
            let secured = greet::secure(tcp, Role::Dialler, &self.me).await?;
            begun.begin(secured.device)?;
            secured.greet(&self.me).await
        };
        let greeted = tokio::time::timeout(self.times().greet, greeting).await.map_err(|_| GreetError::TooSlow)??;
        let admitted = self.admit(address, greeted).await;
        drop(begun);
        admitted
    }

    /// A connection that somebody opened to us.
    async fn greet_stranger(self: &Arc<Self>, tcp: TcpStream, address: SocketAddr) -> Result<Greeted, GreetError> {
        let greeting = async { greet::secure(tcp, Role::Listener, &self.me).await?.greet(&self.me).await };
        let greeted = tokio::time::timeout(self.times().greet, greeting).await;
        let result = greeted.map_err(|_| GreetError::TooSlow).flatten();
        if let Err(error) = &result {
            self.complain(address, error);
        }
        result
    }

    /// Settles which of two links for one device stays: that of a newer start of the peer; else the one opened by the
    /// lesser device; else the newer. Both ends decide the same.
    async fn admit(self: &Arc<Self>, address: SocketAddr, greeted: Greeted) -> Result<(Arc<Link>, Ends), GreetError> {
        let device = greeted.device;
        let opener = |role| if role == Role::Dialler { self.me.device } else { device };
        let refused: Result<std::convert::Infallible, _> = {
            let mut links = self.lock();
            let old = links.of(device).cloned();
            let stays =
                old.as_ref().is_some_and(|old| old.boot == greeted.boot && opener(old.role) < opener(greeted.role));
            let room = if old.is_some() { Ok(None) } else { links.has_room(address.ip()) };
            if stays || links.is_stopping {
                Err((greeted, Closing::Duplicate, GreetError::NotNeeded(device)))
            } else if let Ok(gives_way) = room {
                let old = old.map(|old| (old, Closing::Duplicate)).or(gives_way.map(|link| (link, Closing::Crowded)));
                let id = LinkId(self.next_link.fetch_add(1, Relaxed));
                let (link, ends) = Link::new(id, address, greeted, Arc::clone(&self.world));
                if let Some((old, why)) = old {
                    links.up.remove(&old.id);
                    old.take_down();
                    old.close(why);
                }
                link.announce();
                links.up.insert(id, Arc::clone(&link));
                drop(links);
                self.changed.send_replace(());
                self.strangers.proved(address.ip());
                return Ok((link, ends));
            } else {
                Err((greeted, Closing::Crowded, GreetError::TooMany))
            }
        };
        let Err((greeted, why, error)) = refused;
        if matches!(error, GreetError::TooMany) {
            self.complain(address, &error);
        }
        self.refuse(greeted, &why).await;
        Err(error)
    }

    /// Tells the other end why there is no link.
    async fn refuse(&self, mut greeted: Greeted, why: &Closing) {
        if let Some(packet) = why.farewell() {
            let frame = frame::encode(&packet).to_vec();
            let farewell = async {
                greeted.stream.write_all(&frame).await?;
                greeted.stream.shutdown().await
            };
            let _ = tokio::time::timeout(self.times().farewell, farewell).await;
        }
    }

    /// Runs a link to its end; one line when it comes and one when it goes.
    pub async fn live(self: &Arc<Self>, link: &Arc<Link>, ends: Ends) {
        let (name, device, address) = (&link.name, link.device.short(), link.address);
        tracing::info!("linked with {name} ({device}) at {address}");
        let why = link.run(ends).await;
        self.lock().up.remove(&link.id);
        self.changed.send_replace(());
        if why.is_settling() {
            tracing::debug!("one link of two with {name} ({device}) at {address} ended: {why}");
        } else if why.is_fault() {
            tracing::warn!("the link with {name} ({device}) at {address} was closed: {why}");
        } else {
            tracing::info!("the link with {name} ({device}) at {address} ended: {why}");
        }
    }

    /// One line about an address, unless the same was said a short while ago.
    pub fn complain(&self, address: SocketAddr, error: &GreetError) {
        self.note_twin(error);
        let ip = address.ip().to_canonical();
        if error.is_ordinary() || !self.may_complain(Subject::Address(ip), error.kind()) {
            tracing::debug!("{address} {error}");
        } else if error.is_lasting() {
            tracing::warn!("{ip} {error}");
        } else {
            tracing::warn!("{address} {error}");
        }
    }

    /// The same of a machine that said its name.
    pub fn complain_of(&self, address: SocketAddr, name: &str, error: &GreetError) {
        let ip = address.ip().to_canonical();
        if self.may_complain(Subject::Address(ip), error.kind()) {
            tracing::warn!("{ip} ({name}) {error}");
        }
    }

    /// Another group on this network is no trouble; but its person may think that it is this one.
    fn name_foreign(&self, ip: IpAddr, name: &str) {
        if self.may_complain(Subject::Address(ip), GreetError::WrongSecret.kind()) {
            tracing::info!("{ip} ({name}) {}", GreetError::WrongSecret);
        }
    }

    /// As `complain`; a peer that a person named is also worth a line when it cannot be reached.
    pub fn complain_of_peer(&self, peer: &str, error: &GreetError) {
        self.note_twin(error);
        let peer = text::escape(peer.as_bytes());
        if self.may_complain(Subject::Peer(peer.clone()), error.kind()) {
            tracing::warn!("--peer {peer} {error}");
        } else {
            tracing::debug!("--peer {peer} {error}");
        }
    }

    /// It holds our own key, and is a member: one of the two has to give way.
    fn note_twin(&self, error: &GreetError) {
        if let GreetError::Twin { boot, started } = *error {
            let ours = (self.me.started, self.me.boot);
            self.world.events.send(Event::Twin { ours, theirs: (started, boot) });
        }
    }

    fn may_complain(&self, subject: Subject, kind: &'static str) -> bool {
        self.complaints.may(Instant::now(), subject, kind, self.times().complain)
    }
}

/// That a device is being greeted by a connection of ours: no second one is needed.
struct Greeting<'a> {
    hub: &'a Hub,
    device: Option<DeviceId>,
}

impl Greeting<'_> {
    fn begin(&mut self, device: DeviceId) -> Result<(), GreetError> {
        let mut links = self.hub.lock();
        if links.of(device).is_some() || !links.greeting.insert(device) {
            return Err(GreetError::NotNeeded(device));
        }
        self.device = Some(device);
        Ok(())
    }
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        if let Some(device) = self.device {
            self.hub.lock().greeting.remove(&device);
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
                hub.strangers.admit(address.ip(), move |pass| async move {
                    let greeted = greeting.greet_stranger(tcp, address).await;
                    let Ok(greeted) = greeted else { return };
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
