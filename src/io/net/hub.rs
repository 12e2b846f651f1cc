//! The register of links, and what the network's tasks share.
//!
//! Which of two links for one device stays is settled here. Deliberately not here: one link's own
//! life (`link`), and who is dialled when (`dial`).

use crate::engine::{Event, LinkId};
use crate::io::net::complaints::{Complaints, Subject};
use crate::io::net::foreign::Foreign;
use crate::io::net::greeting::{self, GreetError, Greeted, Identity, Opening, Role};
use crate::io::net::hand_over::{self, Handed};
use crate::io::net::invitations::Invitations;
use crate::io::net::invite::{self, Invitee};
use crate::io::net::known_group::{GroupTag, KnownGroup};
use crate::io::net::link::{Closing, Ends, Link, LinkContext, Times};
use crate::io::net::members::{Members, Unreached};
use crate::io::net::pending_handshakes::PendingHandshakes;
use crate::io::net::traffic::TrafficSums;
use crate::model::{DeviceId, text};
use crate::wire::frame;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Links in all, and with one address (P9).
pub const MAX_LINKS: usize = 128;
const MAX_LINKS_AN_ADDRESS: usize = 32;

/// What the network's tasks share.
pub struct Hub {
    me: Identity,
    pub world: Arc<LinkContext>,
    links: Mutex<Links>,
    /// Told whenever a link comes or goes.
    changed: watch::Sender<()>,
    next_link: AtomicU64,
    pub members: Members,
    pub pending: PendingHandshakes,
    pub invitations: Arc<Invitations>,
    pub foreign: Foreign,
    /// By address.
    pub unreached: Mutex<BTreeMap<String, Unreached>>,
    complaints: Complaints,
}

#[derive(Default)]
pub struct Links {
    pub up: BTreeMap<LinkId, Arc<Link>>,
    /// Devices being greeted by a connection that this machine opened: one each.
    greeting: HashSet<DeviceId>,
    /// Addresses that announced themselves with a former secret, and which one.
    announced_with: BTreeMap<SocketAddr, GroupTag>,
    pub is_stopping: bool,
    pub traffic: TrafficSums,
}

impl Links {
    fn of(&self, device: DeviceId) -> Option<&Arc<Link>> {
        self.up.values().find(|link| link.device == device)
    }

    fn at(&self, ip: IpAddr) -> impl Iterator<Item = &Arc<Link>> {
        self.up.values().filter(move |link| link.address.ip() == ip)
    }

    /// Whether one more link with this address may come, and which gives way to it: the youngest of
    /// the address that has the most.
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

impl Hub {
    pub fn new(me: Identity, world: Arc<LinkContext>, invitations: Arc<Invitations>) -> Self {
        Self {
            me,
            world,
            links: Mutex::default(),
            changed: watch::Sender::new(()),
            next_link: AtomicU64::new(1),
            members: Members::default(),
            pending: PendingHandshakes::default(),
            invitations,
            foreign: Foreign::default(),
            unreached: Mutex::default(),
            complaints: Complaints::default(),
        }
    }

    pub fn group(&self) -> &KnownGroup {
        &self.me.group
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

    /// Waits until the links are so, or the hub goes.
    pub async fn until(&self, is_so: impl Fn(&Links) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so(&self.lock()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn link(&self, link: LinkId) -> Option<Arc<Link>> {
        self.lock().up.get(&link).cloned()
    }

    pub fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a link to an address, which is to be run by `live`. One that is there with another
    /// secret may have slept through a rotation.
    pub async fn open(self: &Arc<Self>, address: SocketAddr) -> Result<(Arc<Link>, Ends), GreetError> {
        let announced = self.lock().announced_with.remove(&address);
        let mut opened = self.open_with(address, announced).await;
        for tag in self.me.group.newest_former() {
            if !matches!(opened, Err(GreetError::WrongSecret)) {
                break;
            }
            opened = self.open_with(address, Some(tag)).await;
        }
        opened
    }

    async fn open_with(
        self: &Arc<Self>,
        address: SocketAddr,
        with: Option<GroupTag>,
    ) -> Result<(Arc<Link>, Ends), GreetError> {
        let mut begun = Greeting { hub: self, device: None };
        let greeting = async {
            let tcp = greeting::connect(address).await?;
            let secured = greeting::secure(tcp, Role::Dialler, &self.me.tls).await?;
            begun.begin(secured.device)?;
            let greeted = match with {
                None => secured.greet(&self.me).await,
                Some(tag) => secured.greet_with(&self.me, tag).await,
            };
            self.handed_over(greeted).await
        };
        let greeted = tokio::time::timeout(self.times().greet, greeting).await.map_err(|_| GreetError::TooSlow)??;
        let admitted = self.admit(address, greeted).await;
        drop(begun);
        admitted
    }

    /// A connection that somebody opened to us: a member, or a machine that was invited and gets
    /// the secret here.
    pub async fn greet_stranger(self: &Arc<Self>, tcp: TcpStream, address: SocketAddr) -> Option<Greeted> {
        let greeting = async {
            let mut secured = greeting::secure(tcp, Role::Listener, &self.me.tls).await?;
            match secured.opening().await? {
                Opening::Member(said) => self.handed_over(secured.greet_member(&self.me, &said).await).await.map(Some),
                Opening::Joiner { mac, name } => {
                    let (asked, device) = ((mac, name), secured.device);
                    let list = |name: &str, capability| {
                        self.world.events.send(Event::Invited { device, name: name.to_owned(), capability });
                    };
                    let invitee =
                        invite::let_in(secured, &self.me, &self.invitations, address.ip(), asked, list).await?;
                    say_who_joined(&invitee, address.ip());
                    Ok(None)
                }
            }
        };
        let greeted = tokio::time::timeout(self.times().greet, greeting).await;
        let result = greeted.map_err(|_| GreetError::TooSlow).flatten();
        result.inspect_err(|error| self.complain(address, error)).ok().flatten()
    }

    /// Settles which of two links for one device stays: that of a newer start of the peer; else the
    /// one opened by the lesser device; else the newer. Both ends decide the same.
    pub async fn admit(
        self: &Arc<Self>,
        address: SocketAddr,
        greeted: Greeted,
    ) -> Result<(Arc<Link>, Ends), GreetError> {
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
                links.traffic.begin(id, device, &link.meter);
                drop(links);
                self.changed.send_replace(());
                self.pending.proved(address.ip());
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
        {
            let mut links = self.lock();
            links.up.remove(&link.id);
            links.traffic.end(link.id);
        }
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

    /// Another group on this network is no trouble; but its person may think that it is this one. A
    /// machine that is alone says so of all at once (`alone`).
    pub fn name_foreign(&self, address: SocketAddr, name: &str) {
        let ip = address.ip();
        self.foreign.hear(address, name);
        if !self.lock().up.is_empty() && self.may_complain(Subject::Address(ip), GreetError::WrongSecret.kind()) {
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

    /// With a member that was met with a former secret, both hand over what is in force.
    async fn handed_over(&self, greeted: Result<Greeted, GreetError>) -> Result<Greeted, GreetError> {
        let met = match greeted {
            Err(GreetError::Former(met)) => met,
            other => return other,
        };
        let Handed { device, name, capability, succeeds, given } = hand_over::exchange(*met, &self.me).await?;
        if let Some(former) = succeeds {
            self.world.events.send(Event::Succeeded { former, device });
        }
        if let Some(given) = given {
            self.world.events.send(Event::HandedOver { from: name, capability, given: Box::new(given) });
        }
        Err(GreetError::Handed)
    }

    /// It announced itself as a member of a former secret, from there.
    pub fn note_announced(&self, address: SocketAddr, with: GroupTag) {
        let mut links = self.lock();
        if links.announced_with.len() < MAX_LINKS || links.announced_with.contains_key(&address) {
            links.announced_with.insert(address, with);
        }
    }

    /// It holds our own key, and is a member: one of the two has to give way.
    fn note_twin(&self, error: &GreetError) {
        if let GreetError::Twin { boot, started } = *error {
            let ours = (self.me.started, self.me.boot);
            self.world.events.send(Event::Twin { ours, theirs: (started, boot) });
        }
    }

    pub fn may_complain(&self, subject: Subject, kind: &'static str) -> bool {
        self.complaints.may(Instant::now(), subject, kind, self.times().complain)
    }
}

fn say_who_joined(Invitee { device, name, previews, capability }: &Invitee, ip: IpAddr) {
    let device = device.short();
    if *previews {
        tracing::info!(
            kind = "joining",
            "{name} ({device}) at {ip} looks at what joining would do; its code is kept for it"
        );
    } else if capability.writes() {
        tracing::info!(kind = "joined", "{name} ({device}) at {ip} has joined by an invitation");
    } else {
        tracing::info!(kind = "joined", "{name} ({device}) at {ip} has joined by an invitation, to read");
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
