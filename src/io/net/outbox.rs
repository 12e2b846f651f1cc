//! What waits to be written to a link: three lanes, and the task that empties them.
//!
//! Messages go first, then packed small contents, then pieces of large ones, so that a small edit
//! never waits behind more than one piece. Only the first lane takes without limit; what waits
//! there is counted, messages and small packets alike, and a link whose peer lets too much pile up
//! is closed (P9); all of it together is counted, too. Deliberately not here: what the frames mean.

use crate::io::net::rate::{Gauge, Rate};
use crate::io::net::rate_limit::Limit;
use crate::wire::frame::{self, EncodedFrame, Packet, Squeeze};
use crate::wire::message::Message;
use crate::wire::split;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Messages and packets that wait for one peer.
pub const MAX_QUEUED_BYTES: u64 = 64 * 1024 * 1024;
/// The same for all peers. Beyond this, a link with more than its share is closed.
pub const MAX_QUEUED_OF_ALL: u64 = 256 * 1024 * 1024;
const SHARE_BYTES: u64 = 2 * 1024 * 1024;
/// What a small packet takes in memory with all that is around it; on the wire it is less.
const PACKET_BYTES: u64 = 256;
/// Frames are gathered up to this before they are written.
const GATHER_BYTES: usize = 64 * 1024;
/// Messages below this take zlib no time that anyone would notice.
const SMALL_BYTES: u64 = 64 * 1024;
/// What waits for the rate looks again after so long: a person may have set another.
const RATE_AGAIN: Duration = Duration::from_secs(1);
/// Frames that are ready in each of the lower lanes.
const LANE_FRAMES: usize = 2;

/// A message for one or more links, encoded once, by the first that writes it.
pub struct SharedMessage {
    packet: Packet,
    bytes: u64,
    encoded: OnceLock<EncodedFrame>,
}

impl SharedMessage {
    pub fn new(message: Message) -> Arc<Self> {
        let bytes = split::bytes_of(&message) as u64;
        Arc::new(Self { packet: Packet::Message(message), bytes, encoded: OnceLock::new() })
    }

    fn frame(&self, squeeze: Squeeze) -> &EncodedFrame {
        self.encoded.get_or_init(|| frame::encode_as(&self.packet, squeeze))
    }
}

enum OutboxItem {
    Frame(EncodedFrame),
    /// One of the link's own, which is counted.
    Packet(EncodedFrame),
    Shared(Arc<SharedMessage>),
    /// Nothing is written after it.
    Last(EncodedFrame),
}

/// The end that fills the lanes.
#[derive(Clone)]
pub struct Outbox {
    messages: mpsc::UnboundedSender<OutboxItem>,
    queued: Arc<Queued>,
    /// Bounded: packed small contents.
    pub bulk: mpsc::Sender<EncodedFrame>,
    /// Bounded: pieces of large contents.
    pub pieces: mpsc::Sender<EncodedFrame>,
    /// How fast the link is.
    pub rate: Arc<Rate>,
}

/// The end that is written from.
pub struct Lanes {
    messages: mpsc::UnboundedReceiver<OutboxItem>,
    queued: Arc<Queued>,
    bulk: mpsc::Receiver<EncodedFrame>,
    pieces: mpsc::Receiver<EncodedFrame>,
    rate: Arc<Rate>,
}

/// Bytes of messages and packets that wait for one peer, counted among those that wait for all.
struct Queued {
    here: AtomicU64,
    of_all: Arc<AtomicU64>,
}

impl Queued {
    /// `false`: too much waits.
    fn add(&self, bytes: u64) -> bool {
        let here = self.here.fetch_add(bytes, Relaxed) + bytes;
        let of_all = self.of_all.fetch_add(bytes, Relaxed) + bytes;
        here <= MAX_QUEUED_BYTES && (of_all <= MAX_QUEUED_OF_ALL || here <= SHARE_BYTES)
    }

    fn remove(&self, bytes: u64) {
        self.here.fetch_sub(bytes, Relaxed);
        self.of_all.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Queued {
    /// What was never written waits no more.
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.here.load(Relaxed), Relaxed);
    }
}

/// `of_all`: the bytes that wait for all peers.
pub fn lanes(of_all: &Arc<AtomicU64>) -> (Outbox, Lanes) {
    let (messages, messages_out) = mpsc::unbounded_channel();
    let (bulk, bulk_out) = mpsc::channel(LANE_FRAMES);
    let (pieces, pieces_out) = mpsc::channel(LANE_FRAMES);
    let queued = Arc::new(Queued { here: AtomicU64::new(0), of_all: Arc::clone(of_all) });
    let rate = Arc::<Rate>::default();
    let outbox = Outbox { messages, queued: Arc::clone(&queued), bulk, pieces, rate: Arc::clone(&rate) };
    (outbox, Lanes { messages: messages_out, queued, bulk: bulk_out, pieces: pieces_out, rate })
}

impl Outbox {
    /// Queues one of the link's own small packets, among the messages; `false`: too much waits
    /// already, the peer does not keep up.
    #[must_use]
    pub fn packet(&self, packet: &Packet) -> bool {
        self.queue(PACKET_BYTES, OutboxItem::Packet(frame::encode(packet)))
    }

    /// The same of a message.
    #[must_use]
    pub fn message(&self, message: Arc<SharedMessage>) -> bool {
        self.queue(message.bytes, OutboxItem::Shared(message))
    }

    fn queue(&self, bytes: u64, outgoing: OutboxItem) -> bool {
        let fits = self.queued.add(bytes);
        let _ = self.messages.send(outgoing);
        fits
    }

    /// The last packet, after the messages that wait.
    pub fn last(&self, packet: &Packet) {
        let _ = self.messages.send(OutboxItem::Last(frame::encode(packet)));
    }
}

impl Lanes {
    async fn next(&mut self, limit: &Limit) -> Option<OutboxItem> {
        loop {
            let pause = limit.pause().min(RATE_AGAIN);
            tokio::select! {
                biased;
                message = self.messages.recv() => return message,
                () = tokio::time::sleep(pause), if !pause.is_zero() => {}
                Some(frame) = self.bulk.recv(), if pause.is_zero() => return Some(OutboxItem::Frame(frame)),
                Some(frame) = self.pieces.recv(), if pause.is_zero() => return Some(OutboxItem::Frame(frame)),
            }
        }
    }

    fn try_next(&mut self, limit: &Limit) -> Option<OutboxItem> {
        let message = self.messages.try_recv().ok();
        if message.is_some() || !limit.pause().is_zero() {
            return message;
        }
        self.bulk.try_recv().or_else(|_| self.pieces.try_recv()).ok().map(OutboxItem::Frame)
    }

    /// Appends a frame; `true`: it was the last.
    fn gather(&self, outgoing: OutboxItem, into: &mut Vec<u8>) -> bool {
        let mut append = |frame: &EncodedFrame| {
            into.extend_from_slice(&frame.head);
            into.extend_from_slice(&frame.body);
        };
        match outgoing {
            OutboxItem::Frame(frame) => append(&frame),
            OutboxItem::Packet(frame) => {
                append(&frame);
                self.queued.remove(PACKET_BYTES);
            }
            OutboxItem::Shared(shared) => {
                // What is small is worth it on any link.
                let squeeze = if shared.bytes < SMALL_BYTES { Squeeze::Try } else { self.rate.squeeze() };
                append(shared.frame(squeeze));
                self.queued.remove(shared.bytes);
            }
            OutboxItem::Last(frame) => {
                append(&frame);
                return true;
            }
        }
        false
    }

    /// Writes until the last frame. Many small frames share a write; nothing waits for more to
    /// come.
    pub async fn write_to<W: AsyncWrite + Unpin>(mut self, to: &mut W, limit: &Limit) -> io::Result<()> {
        let mut gathered = Vec::with_capacity(2 * GATHER_BYTES);
        let mut gauge = Gauge::new(Arc::clone(&self.rate));
        loop {
            // A person may set another limit at any time.
            let is_limited = limit.is_set();
            self.rate.set_limited(is_limited);
            let mut gauge = (!is_limited).then_some(&mut gauge);
            let next = if let Some(next) = self.try_next(limit) {
                next
            } else {
                write_gathered(&mut gathered, to, gauge.as_deref_mut()).await?;
                to.flush().await?;
                let Some(next) = self.next(limit).await else { return Ok(()) };
                next
            };
            let before = gathered.len();
            let last = self.gather(next, &mut gathered);
            limit.spend(gathered.len() - before);
            if last || gathered.len() >= GATHER_BYTES {
                write_gathered(&mut gathered, to, gauge).await?;
            }
            if last {
                return to.shutdown().await;
            }
        }
    }
}

async fn write_gathered<W>(gathered: &mut Vec<u8>, to: &mut W, gauge: Option<&mut Gauge>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let began = Instant::now();
    to.write_all(gathered).await?;
    if let Some(gauge) = gauge {
        gauge.wrote(gathered.len(), began, Instant::now());
    }
    gathered.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_counted_also_small_packets_and_room_comes_back_as_it_is_written() {
        let of_all = Arc::default();
        let (outbox, lanes) = lanes(&of_all);
        let packet = Packet::Pong { at: u64::MAX, wall: u64::MAX };
        let fit = std::iter::repeat_with(|| outbox.packet(&packet)).take(1 << 20).take_while(|fits| *fits).count();
        assert_eq!(fit as u64, MAX_QUEUED_BYTES / PACKET_BYTES);
        assert!(frame::encode(&packet).len() as u64 <= PACKET_BYTES);
        outbox.last(&packet);
        lanes.write_to(&mut tokio::io::sink(), &Limit::new(None)).await.unwrap();
        assert_eq!((outbox.queued.here.load(Relaxed), of_all.load(Relaxed)), (0, 0));
    }

    #[test]
    fn when_all_links_together_hold_too_much_those_with_more_than_their_share_do_not_keep_up() {
        let of_all = Arc::default();
        let crowd: Vec<_> = (0..4).map(|_| lanes(&of_all)).collect();
        let packet = Packet::Ping { at: 1 };
        for (outbox, _) in &crowd {
            assert!((0..MAX_QUEUED_BYTES / PACKET_BYTES).all(|_| outbox.packet(&packet)));
        }
        let (modest, _lanes) = lanes(&of_all);
        assert!((0..SHARE_BYTES / PACKET_BYTES).all(|_| modest.packet(&packet)));
        assert!(!modest.packet(&packet));
        drop(crowd);
        assert_eq!(of_all.load(Relaxed), SHARE_BYTES + PACKET_BYTES);
        assert!(modest.packet(&packet), "room comes back with the links that are gone");
    }
}
