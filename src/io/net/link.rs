//! One link to one member: its reader, its writer, its streams, and how it ends.
//!
//! Everything that a link tells the engine goes through one gate, which closes with its `LinkDown`:
//! events come in order and none comes after it. Parts of contents have a room of their own
//! (`link/parts.rs`). Deliberately not here: who is dialled (`dial`), and which of two links stays
//! (`hub`).

mod asks;
mod closing;
mod delta;
mod parts;
mod sent;
mod serving;
mod uploads;

use crate::engine::{Event, FetchError, FetchId, LinkId, ServedFile, StageId};
use crate::io::Events;
use crate::io::clock::wall_ns;
use crate::io::net::greeting::{Greeted, ReadError, Role, Stream, read_packet};
use crate::io::net::metered::Meter;
use crate::io::net::outbox::{self, Lanes, Outbox, SharedMessage};
use crate::io::net::rate_limit::Limit;
use crate::io::net::seal;
use crate::io::net::transfer::{self, IncomingContent, Served, Staging};
use crate::model::{Capability, ContentId, DeviceId, SyncPath};
use crate::wire::confirmation::Confirmation;
use crate::wire::features::Features;
use crate::wire::frame::{MAX_BODY_BYTES, MAX_HEAD_BYTES, Packet};
use crate::wire::message::Message;
use crate::wire::packet::{Ending, Part};
use asks::Asks;
use bytes::Bytes;
pub use closing::Closing;
use sent::SentLog;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use uploads::OpenedUpload;
pub use uploads::Upload;

/// Small contents that a peer may have asked for and not been sent: two messages of as many as one
/// holds (P9). A machine asks for 8,192 at most.
const MAX_WANTED: usize = 2 * 65_536;

/// Confirmations that one peer may send at once, more than anyone keeps; and again, with each ping
/// that this end sends. Each costs the look at a signature (P9).
const MAX_CONFIRMATIONS: usize = 8192;
const MORE_CONFIRMATIONS: usize = 64;

/// Contents that are read for one peer at a time; the others wait for their turn, and for no
/// thread (P9).
const SERVED_AT_ONCE: usize = 4;

/// Clocks are compared by answers that took at most this long, and reported when they moved by
/// more than this.
const CLOCK_ROUND_TRIP_US: u64 = 500_000;
const CLOCK_STEP_NS: u64 = 500_000_000;

/// How often and how long; tests shorten them.
#[derive(Debug, Clone)]
pub struct Times {
    /// From the connection to the end of the greeting.
    pub greet: Duration,
    pub ping: Duration,
    /// After this without a byte, the peer is gone.
    pub silence: Duration,
    /// A closing link waits this long for its last words to be taken.
    pub farewell: Duration,
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// The greater of two devices leaves dialling to the other for this long.
    pub precedence: Duration,
    /// One line an address and kind of trouble in this time.
    pub complain: Duration,
    /// A machine that is linked with nobody says so after this, and again after that.
    pub alone: Duration,
    pub alone_again: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            greet: Duration::from_secs(10),
            ping: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            farewell: Duration::from_millis(500),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(15),
            precedence: Duration::from_millis(500),
            complain: Duration::from_mins(1),
            alone: Duration::from_secs(10),
            alone_again: Duration::from_hours(1),
        }
    }
}

/// What links need of the rest.
pub struct LinkContext {
    pub events: Events,
    pub staging: Arc<dyn Staging>,
    pub served: Arc<dyn Served>,
    pub times: Times,
    pub limit: Limit,
    /// Bytes that wait for all peers.
    pub queued: Arc<AtomicU64>,
    pub runtime: Handle,
}

/// A link that is up.
pub struct Link {
    pub id: LinkId,
    pub device: DeviceId,
    pub name: String,
    pub address: SocketAddr,
    pub role: Role,
    pub boot: u64,
    features: Features,
    software: String,
    /// As its proof has shown.
    pub capability: Capability,
    since: SystemTime,
    start: Instant,
    pub meter: Arc<Meter>,
    /// 0: not known yet.
    round_trip_us: AtomicU64,
    outbox: Outbox,
    wanted: mpsc::UnboundedSender<Vec<(u32, Option<ServedFile>)>>,
    /// What waits there, and is not in its lane yet.
    wanted_count: AtomicUsize,
    /// Confirmations that came, since a while.
    confirmations: AtomicUsize,
    close: mpsc::UnboundedSender<Closing>,
    gate: Mutex<Gate>,
    /// The reader met the end of what the peer sends.
    read_to_end: Notify,
    served: parts::ServedParts,
    turns: Arc<Semaphore>,
    sent: SentLog,
    world: Arc<LinkContext>,
}

/// What is guarded together with the order of a link's events.
#[derive(Default)]
struct Gate {
    is_down: bool,
    asks: Asks,
    serving: HashMap<u32, OpenedUpload>,
    deltas: delta::DeltaAccounts,
    /// The ping that was sent first of those that are not answered.
    pinged: Option<u64>,
    /// How far the peer's clock was ahead when the engine was told last.
    clock_sent: Option<i64>,
}

/// The parts of a link that its tasks own.
pub struct Ends {
    stream: Stream,
    lanes: Lanes,
    wanted: mpsc::UnboundedReceiver<Vec<(u32, Option<ServedFile>)>>,
    close: mpsc::UnboundedReceiver<Closing>,
}

/// What `dirsync peers` shows of a link.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LinkInfo {
    #[serde(skip)]
    pub link: LinkId,
    pub device: DeviceId,
    pub name: String,
    pub address: SocketAddr,
    #[serde(skip)]
    pub capability: Capability,
    /// This machine opened it.
    pub dialled: bool,
    #[serde(skip)]
    pub since: SystemTime,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub round_trip_ms: Option<f64>,
    /// Foreign text.
    pub software: String,
    #[serde(skip)]
    pub uploads: Vec<Upload>,
}

impl Link {
    pub fn new(id: LinkId, address: SocketAddr, greeted: Greeted, world: Arc<LinkContext>) -> (Arc<Self>, Ends) {
        let Greeted { stream, meter, role, device, name, boot, features, software, capability } = greeted;
        let (outbox, lanes) = outbox::lanes(&world.queued);
        let (wanted, wanted_out) = mpsc::unbounded_channel();
        let (close, close_out) = mpsc::unbounded_channel();
        let (since, start) = (SystemTime::now(), Instant::now());
        let (round_trip_us, gate) = (AtomicU64::new(0), Mutex::default());
        let read_to_end = Notify::new();
        let link = Self {
            id,
            device,
            name,
            address,
            role,
            boot,
            features,
            software,
            capability,
            since,
            start,
            meter,
            round_trip_us,
            outbox,
            wanted,
            wanted_count: AtomicUsize::new(0),
            confirmations: AtomicUsize::new(0),
            close,
            gate,
            read_to_end,
            served: parts::ServedParts::default(),
            turns: Arc::new(Semaphore::new(SERVED_AT_ONCE)),
            sent: SentLog::default(),
            world,
        };
        (Arc::new(link), Ends { stream, lanes, wanted: wanted_out, close: close_out })
    }

    pub fn info(&self) -> LinkInfo {
        let round_trip_us = self.round_trip_us.load(Relaxed);
        LinkInfo {
            link: self.id,
            device: self.device,
            name: self.name.clone(),
            address: self.address,
            capability: self.capability,
            dialled: self.role == Role::Dialler,
            since: self.since,
            sent_bytes: self.meter.sent(),
            received_bytes: self.meter.received(),
            software: self.software.clone(),
            round_trip_ms: (round_trip_us > 0).then_some(round_trip_us as f64 / 1000.0),
            uploads: self.uploads(),
        }
    }

    /// Ends the link from this side; never blocks.
    pub fn close(&self, why: Closing) {
        let _ = self.close.send(why);
    }

    pub fn send(&self, message: Arc<SharedMessage>) {
        if !self.outbox.message(message) {
            self.close(Closing::Slow);
        }
    }

    fn send_packet(&self, packet: &Packet) {
        if !self.outbox.packet(packet) {
            self.close(Closing::Slow);
        }
    }

    /// Has small files read and sent, behind the messages.
    pub fn send_contents(&self, files: Vec<(u32, Option<ServedFile>)>) {
        if self.wanted_count.fetch_add(files.len(), Relaxed) + files.len() > MAX_WANTED {
            return self.close(Closing::Broke(format!("over {MAX_WANTED} small contents asked for at once")));
        }
        let _ = self.wanted.send(files);
    }

    /// Runs the link until it ends, and says why.
    pub async fn run(self: &Arc<Self>, ends: Ends) -> Closing {
        let Ends { stream, lanes, wanted, mut close } = ends;
        let (reading, writing) = tokio::io::split(stream);
        let mut writer = tokio::spawn(write(lanes, writing, Arc::clone(&self.world)));
        let mut reader = tokio::spawn(Arc::clone(self).read(reading));
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(self).watch());
        tasks.spawn(Arc::clone(self).pack_wanted(wanted));
        let farewell = self.world.times.farewell;
        let why = tokio::select! {
            read = &mut reader => read.unwrap_or(Closing::Eof),
            Some(Ok(why)) = tasks.join_next() => why,
            Some(why) = close.recv() => why,
            written = &mut writer => {
                let error = written.map_or(None, Result::err);
                // The peer's last words say more than a broken pipe; they may still be on their way
                // in.
                let heard = tokio::time::timeout(farewell, &mut reader).await;
                match (heard, error) {
                    (Ok(Ok(why @ Closing::Bye(_))), _) | (Ok(Ok(why)), None) => why,
                    (_, Some(error)) => Closing::Io(error),
                    _ => Closing::Eof,
                }
            },
        };
        self.take_down();
        tasks.abort_all();
        if let Some(packet) = why.farewell() {
            self.outbox.last(&packet);
            let _ = tokio::time::timeout(farewell, &mut writer).await;
            // Closing with bytes unread would reset the connection, and the last words be lost.
            let _ = tokio::time::timeout(farewell, self.read_to_end.notified()).await;
        }
        reader.abort();
        writer.abort();
        why
    }

    /// Closes the gate: what was asked of this link fails, and `LinkDown` is its last event.
    pub fn take_down(&self) {
        let mut gate = self.gate();
        if std::mem::replace(&mut gate.is_down, true) {
            return;
        }
        for (stream, fetching) in gate.asks.take_all() {
            self.world.events.send(fetching.failed(stream, FetchError::LinkLost));
        }
        for (_, asked) in gate.serving.drain() {
            asked.serving.cancel();
        }
        self.served.say_all(&self.name);
        self.sent.say_all(&self.name);
        self.world.events.send(Event::LinkDown { link: self.id });
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first event of this link. `false`: it is down already.
    pub fn announce(&self) -> bool {
        let gate = self.gate();
        if !gate.is_down {
            let (link, device, name) = (self.id, self.device, self.name.clone());
            let dialler = self.role == Role::Dialler;
            let (features, capability) = (self.features.clone(), self.capability);
            self.world.events.send(Event::LinkUp { link, device, name, dialler, features, capability });
        }
        !gate.is_down
    }

    async fn read(self: Arc<Self>, mut from: ReadHalf<Stream>) -> Closing {
        loop {
            // It is this end that is slow, not the peer that is silent.
            while tokio::time::timeout(Duration::from_secs(1), self.world.events.wait_for_room()).await.is_err() {
                self.meter.heard();
            }
            let handled = match read_packet(&mut from, MAX_HEAD_BYTES, MAX_BODY_BYTES).await {
                Ok((packet, wire_bytes)) => self.handle(packet, wire_bytes),
                Err(ReadError::Frame(error)) => Err(Closing::Garbage(error)),
                Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Closing::Eof),
                Err(ReadError::Io(error)) => Err(Closing::Io(error)),
            };
            if let Err(why) = handled {
                self.read_to_end.notify_one();
                return why;
            }
        }
    }

    /// Pings, and notices silence.
    async fn watch(self: Arc<Self>) -> Closing {
        let times = &self.world.times;
        loop {
            let at = self.start.elapsed().as_micros() as u64;
            self.gate().pinged.get_or_insert(at);
            self.send_packet(&Packet::Ping { at });
            let _ = self.confirmations.fetch_update(Relaxed, Relaxed, |n| Some(n.saturating_sub(MORE_CONFIRMATIONS)));
            self.served.say_idle(&self.name);
            self.sent.say_idle(&self.name);
            tokio::time::sleep(times.ping.min(times.silence.saturating_sub(self.meter.silent_for()))).await;
            if self.meter.silent_for() >= times.silence {
                return Closing::Silence(times.silence);
            }
        }
    }

    /// Reads wanted small files a message at a time; the lane's bound holds the next one back.
    async fn pack_wanted(
        self: Arc<Self>,
        mut wanted: mpsc::UnboundedReceiver<Vec<(u32, Option<ServedFile>)>>,
    ) -> Closing {
        while let Some(files) = wanted.recv().await {
            for group in transfer::groups(files) {
                let count = group.len();
                for file in group.iter().filter_map(|(_, file)| file.as_ref()) {
                    tracing::debug!("'{}' goes to {}: {} bytes, packed with others", file.path, self.name, file.size);
                }
                let served = Arc::clone(&self.world.served);
                let rate = Arc::clone(&self.outbox.rate);
                let packing = tokio::task::spawn_blocking(move || transfer::pack(&*served, &group, rate.squeeze()));
                for frame in packing.await.unwrap_or_default() {
                    if self.outbox.bulk.send(frame).await.is_err() {
                        return Closing::Eof;
                    }
                }
                self.wanted_count.fetch_sub(count, Relaxed);
            }
        }
        Closing::Eof
    }

    fn handle(self: &Arc<Self>, packet: Packet, wire_bytes: u64) -> Result<(), Closing> {
        match packet {
            // What comes after our own goodbye is read and dropped.
            packet if !matches!(packet, Packet::Bye { .. }) && self.gate().is_down => drop(packet),
            Packet::Message(Message::Confirm(confirmation)) => {
                return self.confirmed(confirmation, wire_bytes);
            }
            Packet::Message(message) => self.tell(Event::Message { link: self.id, message, wire_bytes }),
            Packet::Ping { at } => self.send_packet(&Packet::Pong { at, wall: wall_ns() }),
            Packet::Pong { at, wall } => self.pong(at, wall),
            Packet::Fetch { stream, path, content, size, part } => {
                return self.asked(stream, part, path, content, size);
            }
            Packet::Delta { stream, path, content, size, base, base_size } => {
                return self.delta_asked(stream, path, (content, size), (base, base_size));
            }
            Packet::Sign { stream } => return self.sign_asked(stream),
            Packet::Signature { stream, bytes } => return self.signature_came(stream, &bytes),
            Packet::Piece { stream, offset, bytes } => return self.piece(stream, offset, bytes, wire_bytes),
            Packet::Zeros { stream, offset, count } => return self.zeros(stream, offset, count, wire_bytes),
            Packet::End { stream, how } => return self.end(stream, how),
            Packet::Credit { stream, bytes } => {
                // Late credit for a stream that has ended is no fault.
                if let Some(asked) = self.gate().serving.get(&stream) {
                    asked.serving.grant(bytes);
                }
            }
            Packet::Cancel { stream } => {
                if let Some(asked) = self.gate().serving.get(&stream) {
                    asked.serving.cancel();
                }
            }
            Packet::Bye { reason } => return Err(Closing::Bye(reason)),
            packet @ (Packet::Hello { .. }
            | Packet::Proof { .. }
            | Packet::Former { .. }
            | Packet::HandOver(_)
            | Packet::Join { .. }
            | Packet::Invited { .. }
            | Packet::Accept { .. }
            | Packet::Secret { .. }
            | Packet::Joined) => {
                return Err(Closing::Broke(format!("a '{}' after the greeting", packet.kind())));
            }
        }
        Ok(())
    }

    /// Who passes a confirmation on has checked its signature.
    fn confirmed(&self, confirmation: Confirmation, wire_bytes: u64) -> Result<(), Closing> {
        if self.confirmations.fetch_add(1, Relaxed) >= MAX_CONFIRMATIONS {
            return Err(Closing::Broke(format!("over {MAX_CONFIRMATIONS} confirmations on one link")));
        }
        if !seal::is_genuine(&confirmation) {
            return Err(Closing::Broke("a confirmation that its device did not sign".to_owned()));
        }
        let message = Message::Confirm(confirmation);
        self.tell(Event::Message { link: self.id, message, wire_bytes });
        Ok(())
    }

    fn tell(&self, event: Event) {
        let gate = self.gate();
        if !gate.is_down {
            self.world.events.send(event);
        }
    }

    /// One answer counts for each ping: a peer can be slow with it, but neither make up a round
    /// trip nor be heard more often.
    fn pong(&self, at: u64, wall: u64) {
        if self.gate().pinged.take_if(|pinged| *pinged == at).is_none() {
            return;
        }
        let now = self.start.elapsed().as_micros() as u64;
        let round_trip_us = now.saturating_sub(at).max(1);
        self.round_trip_us.store(round_trip_us, Relaxed);
        // A slow answer says nothing exact.
        if round_trip_us > CLOCK_ROUND_TRIP_US {
            return;
        }
        let ahead = i128::from(wall) - i128::from(wall_ns()) + i128::from(round_trip_us) * 500;
        let ahead_ns = ahead.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        let is_news = {
            let mut gate = self.gate();
            let is_news = gate.clock_sent.is_none_or(|sent| sent.abs_diff(ahead_ns) > CLOCK_STEP_NS);
            gate.clock_sent = if is_news { Some(ahead_ns) } else { gate.clock_sent };
            is_news
        };
        if is_news {
            self.tell(Event::Clock { link: self.id, ahead_ns });
        }
    }

    /// Asks the peer for a large content; a thread writes what comes.
    pub fn fetch(self: &Arc<Self>, fetch: FetchId, path: SyncPath, content: ContentId, size: u64) {
        let stream = fetch.0;
        let mut gate = self.gate();
        let (fetching, parts) = IncomingContent::new(0, size);
        if gate.is_down {
            drop(gate);
            self.world.events.send(Event::FetchFailed { fetch, why: FetchError::LinkLost });
            return;
        }
        self.ask(&mut gate, stream, fetching, Packet::Fetch { stream, path, content, size, part: Part::Whole });
        drop(gate);
        let link = Arc::clone(self);
        self.world.runtime.spawn_blocking(move || {
            let staging = Arc::clone(&link.world.staging);
            let grant = |bytes| link.grant(stream, bytes);
            if let Some(result) = transfer::receive(&*staging, size, &content, &parts, grant) {
                link.answer(stream, result);
            }
        });
    }

    /// Opens a stream, now or when the peer has room for it.
    fn ask(&self, gate: &mut Gate, stream: u32, fetching: IncomingContent, packet: Packet) {
        if let Some(packet) = gate.asks.add(stream, fetching, packet) {
            self.send_packet(&packet);
        }
    }

    fn grant(&self, stream: u32, bytes: u64) {
        if let Some(fetching) = self.gate().asks.asked(stream) {
            fetching.grant(bytes);
            self.send_packet(&Packet::Credit { stream, bytes });
        }
    }

    /// Tells the engine how a fetch went, unless that was said already.
    fn answer(&self, stream: u32, result: Result<StageId, FetchError>) {
        let mut gate = self.gate();
        let fetch = FetchId(stream);
        let Some(fetching) = gate.asks.awaited(stream) else {
            drop(gate);
            if let Ok(staged) = result {
                self.world.staging.discard(staged);
            }
            return;
        };
        self.world.events.send(match result {
            Ok(staged) => Event::Fetched { fetch, staged, wire_bytes: fetching.wire_bytes },
            Err(why) => Event::FetchFailed { fetch, why },
        });
        self.answered(&mut gate, stream);
    }

    /// The engine was told how a stream went, or does not ask.
    fn answered(&self, gate: &mut Gate, stream: u32) {
        if let Some(packet) = gate.asks.answered(stream) {
            self.send_packet(&packet);
        }
    }

    /// Whether the fetch was this link's; it is answered as failed.
    pub fn cancel(&self, fetch: FetchId) -> bool {
        let is_mine = self.gate().asks.awaited(fetch.0).is_some();
        if is_mine {
            self.answer(fetch.0, Err(FetchError::NotHere));
        }
        is_mine
    }

    fn piece(&self, stream: u32, offset: u64, bytes: Bytes, wire_bytes: u64) -> Result<(), Closing> {
        let mut gate = self.gate();
        let fetching =
            gate.asks.asked(stream).ok_or_else(|| Closing::Broke("a piece that nobody asked for".to_owned()))?;
        fetching.piece(offset, bytes, wire_bytes).map_err(|broken| Closing::Broke(broken.to_owned()))
    }

    fn zeros(&self, stream: u32, offset: u64, count: u64, wire_bytes: u64) -> Result<(), Closing> {
        let mut gate = self.gate();
        let fetching =
            gate.asks.asked(stream).ok_or_else(|| Closing::Broke("zeros that nobody asked for".to_owned()))?;
        fetching.zeros(offset, count, wire_bytes).map_err(|broken| Closing::Broke(broken.to_owned()))
    }

    fn end(&self, stream: u32, how: Ending) -> Result<(), Closing> {
        let mut gate = self.gate();
        let next = gate.asks.ended(stream, how).map_err(|broken| Closing::Broke(broken.to_owned()))?;
        if let Some(packet) = next {
            self.send_packet(&packet);
        }
        Ok(())
    }
}

async fn write(lanes: Lanes, mut to: WriteHalf<Stream>, world: Arc<LinkContext>) -> io::Result<()> {
    lanes.write_to(&mut to, &world.limit).await
}
