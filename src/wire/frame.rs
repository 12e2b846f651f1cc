//! Frames: 8 bytes of lengths, a JSON head, a body of bytes; every length capped (P9).
//!
//! The head names the kind, so that a trace can be read, and for a zlib body how long it inflates
//! to. Whatever decodes is well-formed: paths, counts, lengths, no byte without a meaning; only an
//! entry's numbers are still to be checked, by the engine, for a bad one costs that entry and not
//! the link. Packets of this version's kinds may carry fields that it does not know; kinds that it
//! does not know are refused.

use super::body::{BodyWriter, Reader};
use super::condition::Condition;
pub use super::error::FrameError;
use super::features::Features;
use super::hex::Hex;
use super::message::{Digest, HeldSums, Message};
use super::names::{is_clean_name, is_short_text};
use super::packet::{Ending, HandedSecret, PIECE_BYTES, Part};
use super::zlib;
use crate::model::{ContentId, DeviceId, SyncPath, text};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::packet::Packet;

/// The two lengths (u32, big-endian) that every frame begins with: head, body.
pub const LENGTHS_BYTES: usize = 8;
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Also what a zlib body may inflate to.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// A frame as it goes on the wire: `head` (with the lengths before it), then `body`.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    pub head: Bytes,
    pub body: Bytes,
    /// The body is zlib.
    pub zlib: bool,
}

impl EncodedFrame {
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// Head and body in one buffer.
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.head[..], &self.body[..]].concat()
    }
}

/// Whether `encode` may try zlib.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squeeze {
    Try,
    /// It would not help: the bytes do not shrink, or the link is faster.
    Never,
}

#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    kind: HeadKind,
    /// The body is zlib and inflates to this many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inflated: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum HeadKind {
    Known {
        counter: u64,
    },
    Forget {
        device: DeviceId,
    },
    Undo {},
    Members {},
    Confirm {},
    State {
        root: Hex<16>,
        pending: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<Condition>,
    },
    Groups {},
    Buckets {},
    Offer {
        more: bool,
    },
    Answer {
        more: bool,
    },
    Changes {},
    Acks {},
    Get {},
    Contents {},
    Survey {
        id: u32,
    },
    Holdings {
        id: u32,
    },
    History {
        id: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<SyncPath>,
    },
    Pasts {
        id: u32,
        more: bool,
    },
    Locate {
        id: u32,
    },
    Located {
        id: u32,
    },
    Holds {
        id: u32,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pending: bool,
    },
    Holding {
        id: u32,
        sums: HeldSums,
    },
    Conflicts {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Hex<16>>,
    },
    Seek {
        path: SyncPath,
        content: ContentId,
        size: u64,
    },
    Have {
        content: ContentId,
    },
    Hello {
        protocol: u32,
        name: String,
        software: String,
        boot: u64,
        started: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        features: Vec<String>,
    },
    Proof {
        mac: Hex<32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<Hex<32>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writer: Option<Hex<64>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Hex<16>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<Hex<16>>,
    },
    Former {},
    HandOver {},
    Join {
        mac: Hex<32>,
        name: String,
    },
    Invited {
        mac: Hex<32>,
        name: String,
    },
    Accept {
        preview: bool,
    },
    Secret {
        secret: Hex<32>,
        /// Of writers: the secret is a reader's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writers_public: Option<Hex<32>>,
    },
    Joined {},
    Ping {
        at: u64,
    },
    Pong {
        at: u64,
        wall: u64,
    },
    Fetch {
        stream: u32,
        path: SyncPath,
        content: ContentId,
        size: u64,
        #[serde(default, skip_serializing_if = "Part::is_whole")]
        part: Part,
    },
    Delta {
        stream: u32,
        path: SyncPath,
        content: ContentId,
        size: u64,
        base: ContentId,
        base_size: u64,
    },
    Sign {
        stream: u32,
    },
    Signature {
        stream: u32,
    },
    Piece {
        stream: u32,
        offset: u64,
    },
    Zeros {
        stream: u32,
        offset: u64,
        count: u64,
    },
    Credit {
        stream: u32,
        bytes: u64,
    },
    End {
        stream: u32,
        how: Ending,
    },
    Cancel {
        stream: u32,
    },
    Bye {
        reason: String,
    },
}

/// The packet as a frame. A message must have been through [`super::split::split`], else the peer
/// may refuse it.
pub fn encode(packet: &Packet) -> EncodedFrame {
    encode_as(packet, Squeeze::Try)
}

/// As [`encode`], for a sender that knows whether its bytes shrink.
pub fn encode_as(packet: &Packet, squeeze: Squeeze) -> EncodedFrame {
    let (kind, body) = head_and_body(packet);
    let deflated = match squeeze {
        Squeeze::Try => zlib::deflate(&body),
        Squeeze::Never => None,
    };
    let inflated = deflated.is_some().then_some(body.len() as u32);
    let body = deflated.map_or(body, Bytes::from);

    let mut head = vec![0; LENGTHS_BYTES];
    serde_json::to_writer(&mut head, &Head { kind, inflated }).expect("writing to memory does not fail");
    let head_bytes = (head.len() - LENGTHS_BYTES) as u32;
    head[..4].copy_from_slice(&head_bytes.to_be_bytes());
    head[4..LENGTHS_BYTES].copy_from_slice(&(body.len() as u32).to_be_bytes());
    EncodedFrame { head: head.into(), body, zlib: inflated.is_some() }
}

fn head_and_body(packet: &Packet) -> (HeadKind, Bytes) {
    let kind = match packet {
        Packet::Message(message) => return message_head_and_body(message),
        Packet::Piece { stream, offset, bytes } => {
            return (HeadKind::Piece { stream: *stream, offset: *offset }, bytes.clone());
        }
        Packet::Signature { stream, bytes } => return (HeadKind::Signature { stream: *stream }, bytes.clone()),
        Packet::Hello { protocol, name, software, boot, started, features } => HeadKind::Hello {
            protocol: *protocol,
            name: name.clone(),
            software: software.clone(),
            boot: *boot,
            started: *started,
            features: features.names(),
        },
        Packet::Proof { mac, member, writer, current, with } => HeadKind::Proof {
            mac: Hex(*mac),
            member: member.map(Hex),
            writer: writer.map(Hex),
            current: current.map(Hex),
            with: with.map(Hex),
        },
        Packet::Former { chain } => return (HeadKind::Former {}, chain.clone()),
        Packet::HandOver(handed) => {
            let mut body = BodyWriter::default();
            body.hand_over(handed.as_ref());
            return (HeadKind::HandOver {}, body.finish());
        }
        Packet::Join { mac, name } => HeadKind::Join { mac: Hex(*mac), name: name.clone() },
        Packet::Invited { mac, name } => HeadKind::Invited { mac: Hex(*mac), name: name.clone() },
        Packet::Accept { preview } => HeadKind::Accept { preview: *preview },
        Packet::Secret { secret: HandedSecret::Writer(secret) } => {
            HeadKind::Secret { secret: Hex(*secret), writers_public: None }
        }
        Packet::Secret { secret: HandedSecret::Reader { secret, writers_public } } => {
            HeadKind::Secret { secret: Hex(*secret), writers_public: Some(Hex(*writers_public)) }
        }
        Packet::Joined => HeadKind::Joined {},
        Packet::Ping { at } => HeadKind::Ping { at: *at },
        Packet::Pong { at, wall } => HeadKind::Pong { at: *at, wall: *wall },
        Packet::Fetch { stream, path, content, size, part } => {
            HeadKind::Fetch { stream: *stream, path: path.clone(), content: *content, size: *size, part: *part }
        }
        Packet::Delta { stream, path, content, size, base, base_size } => {
            let (path, content, base) = (path.clone(), *content, *base);
            HeadKind::Delta { stream: *stream, path, content, size: *size, base, base_size: *base_size }
        }
        Packet::Sign { stream } => HeadKind::Sign { stream: *stream },
        Packet::Zeros { stream, offset, count } => HeadKind::Zeros { stream: *stream, offset: *offset, count: *count },
        Packet::Credit { stream, bytes } => HeadKind::Credit { stream: *stream, bytes: *bytes },
        Packet::End { stream, how } => HeadKind::End { stream: *stream, how: *how },
        Packet::Cancel { stream } => HeadKind::Cancel { stream: *stream },
        Packet::Bye { reason } => HeadKind::Bye { reason: reason.clone() },
    };
    (kind, Bytes::new())
}

fn message_head_and_body(message: &Message) -> (HeadKind, Bytes) {
    let mut body = BodyWriter::with_capacity(capacity_of(message));
    let kind = match message {
        Message::Known { counter } => {
            body.no_counters();
            HeadKind::Known { counter: *counter }
        }
        Message::Confirm(confirmation) => {
            body.confirmation(confirmation);
            HeadKind::Confirm {}
        }
        Message::Members(roster) => {
            body.roster(roster);
            HeadKind::Members {}
        }
        Message::Forget { device } => HeadKind::Forget { device: *device },
        Message::Undo { relayed_to } => {
            body.devices(relayed_to);
            HeadKind::Undo {}
        }
        Message::State { root, pending, condition } => {
            HeadKind::State { root: Hex::<16>(*root), pending: *pending, condition: *condition }
        }
        Message::Groups { groups } => {
            body.digests(groups);
            HeadKind::Groups {}
        }
        Message::Buckets { groups } => {
            body.groups(groups);
            HeadKind::Buckets {}
        }
        Message::Offer { buckets, entries, more } => {
            body.buckets(buckets);
            body.entries(entries);
            HeadKind::Offer { more: *more }
        }
        Message::Answer { entries, more } => {
            body.entries(entries);
            HeadKind::Answer { more: *more }
        }
        Message::Changes { changes, relayed_to } => {
            body.devices(relayed_to);
            body.changes(changes);
            HeadKind::Changes {}
        }
        Message::Acks { placed } => {
            body.named(placed);
            HeadKind::Acks {}
        }
        Message::Get { wants } => {
            body.wants(wants);
            HeadKind::Get {}
        }
        Message::Seek { path, content, size } => HeadKind::Seek { path: path.clone(), content: *content, size: *size },
        Message::Have { content, chunks } => {
            body.runs(chunks);
            HeadKind::Have { content: *content }
        }
        Message::Contents { contents } => {
            body.contents(contents);
            HeadKind::Contents {}
        }
        Message::Survey { id, paths } => {
            body.paths(paths);
            HeadKind::Survey { id: *id }
        }
        Message::Holdings { id, held } => {
            body.held(held);
            HeadKind::Holdings { id: *id }
        }
        Message::History { id, path, named } => {
            body.named(named);
            HeadKind::History { id: *id, path: path.clone() }
        }
        Message::Pasts { id, pasts, more } => {
            body.pasts(pasts);
            HeadKind::Pasts { id: *id, more: *more }
        }
        Message::Locate { id, sought } => {
            body.sought(sought);
            HeadKind::Locate { id: *id }
        }
        Message::Located { id, places } => {
            body.places(places);
            HeadKind::Located { id: *id }
        }
        Message::Holds { id, pending } => HeadKind::Holds { id: *id, pending: *pending },
        Message::Holding { id, sums, held } => {
            body.held_back(held);
            HeadKind::Holding { id: *id, sums: *sums }
        }
        Message::Conflicts { digest, news } => {
            body.conflicts(news);
            HeadKind::Conflicts { digest: digest.map(Hex::<16>) }
        }
    };
    (kind, body.finish())
}

/// A guess at the body's length, so that packed contents are copied once.
fn capacity_of(message: &Message) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    match message {
        Message::Changes { changes, .. } => changes.iter().map(|change| 256 + len(&change.body)).sum(),
        Message::Contents { contents } => contents.iter().map(|(_, bytes)| 16 + len(bytes)).sum(),
        Message::Offer { entries, .. } | Message::Answer { entries, .. } => 160 * entries.len(),
        _ => 0,
    }
}

/// The lengths of a head and a body, each within its cap.
pub fn decode_lengths(
    bytes: [u8; LENGTHS_BYTES],
    max_head: usize,
    max_body: usize,
) -> Result<(usize, usize), FrameError> {
    let [head, body] = [0, 4].map(|at| u32::from_be_bytes(std::array::from_fn(|n| bytes[at + n])) as usize);
    if head > max_head || body > max_body {
        return Err(FrameError::TooLong { head, body, max_head, max_body });
    }
    Ok((head, body))
}

/// The packet of a head (without the lengths) and a body. Contents are slices of `body`.
pub fn decode(head: &[u8], body: Bytes) -> Result<Packet, FrameError> {
    let (head_bytes, body_bytes) = (head.len(), body.len());
    if head_bytes > MAX_HEAD_BYTES || body_bytes > MAX_BODY_BYTES {
        let (max_head, max_body) = (MAX_HEAD_BYTES, MAX_BODY_BYTES);
        return Err(FrameError::TooLong { head: head_bytes, body: body_bytes, max_head, max_body });
    }
    let Head { kind, inflated } = serde_json::from_slice(head).map_err(|error| bad_head(&error))?;
    let body = match inflated {
        None => body,
        Some(length) if length as usize <= MAX_BODY_BYTES => {
            zlib::inflate(&body, length as usize).ok_or(FrameError::Inflate(length))?.into()
        }
        Some(length) => return Err(FrameError::Inflate(length)),
    };
    packet_of(kind, body)
}

/// The first packet of a buffer that holds whole frames, and how many bytes it took.
pub fn decode_first(bytes: &Bytes) -> Result<(Packet, usize), FrameError> {
    let lengths = bytes.first_chunk().ok_or(FrameError::Truncated)?;
    let (head, body) = decode_lengths(*lengths, MAX_HEAD_BYTES, MAX_BODY_BYTES)?;
    let (body_at, end) = (LENGTHS_BYTES + head, LENGTHS_BYTES + head + body);
    if end > bytes.len() {
        return Err(FrameError::Truncated);
    }
    Ok((decode(&bytes[LENGTHS_BYTES..body_at], bytes.slice(body_at..end))?, end))
}

/// serde quotes what it did not expect: foreign text.
fn bad_head(error: &serde_json::Error) -> FrameError {
    let mut message = error.to_string();
    message.truncate(message.floor_char_boundary(200));
    FrameError::Head(text::escape(message.as_bytes()))
}

fn packet_of(kind: HeadKind, bytes: Bytes) -> Result<Packet, FrameError> {
    if let HeadKind::Piece { stream, offset } = kind {
        if bytes.is_empty() || bytes.len() > PIECE_BYTES || offset >= 1 << 63 {
            return Err(FrameError::Body("no piece of 1 byte to 128 KiB"));
        }
        return Ok(Packet::Piece { stream, offset, bytes });
    }
    if let HeadKind::Signature { stream } = kind {
        if bytes.is_empty() || bytes.len() > PIECE_BYTES {
            return Err(FrameError::Body("no part of a signature of 1 byte to 128 KiB"));
        }
        return Ok(Packet::Signature { stream, bytes });
    }
    let mut body = Reader::new(bytes);
    let packet = match kind {
        HeadKind::Known { counter } => {
            body.pass_counters()?;
            message(Message::Known { counter })
        }
        HeadKind::Confirm {} => message(Message::Confirm(body.confirmation()?)),
        HeadKind::Members {} => message(Message::Members(body.roster()?)),
        HeadKind::Forget { device } => message(Message::Forget { device }),
        HeadKind::Undo {} => message(Message::Undo { relayed_to: body.devices()? }),
        HeadKind::State { root, pending, condition } => {
            message(Message::State { root: Digest::from(root.0), pending, condition })
        }
        HeadKind::Groups {} => message(Message::Groups { groups: body.digests()? }),
        HeadKind::Buckets {} => message(Message::Buckets { groups: body.groups()? }),
        HeadKind::Offer { more } => {
            message(Message::Offer { buckets: body.buckets()?, entries: body.entries()?, more })
        }
        HeadKind::Answer { more } => message(Message::Answer { entries: body.entries()?, more }),
        HeadKind::Changes {} => {
            let relayed_to = body.devices()?;
            message(Message::Changes { changes: body.changes()?, relayed_to })
        }
        HeadKind::Acks {} => message(Message::Acks { placed: body.named()? }),
        HeadKind::Get {} => message(Message::Get { wants: body.wants()? }),
        HeadKind::Seek { path, content, size } if size < 1 << 63 => message(Message::Seek { path, content, size }),
        HeadKind::Seek { .. } => return Err(FrameError::Head("a size of 2^63 or more".to_owned())),
        HeadKind::Have { content } => message(Message::Have { content, chunks: body.runs()? }),
        HeadKind::Contents {} => message(Message::Contents { contents: body.contents()? }),
        HeadKind::Survey { id } => message(Message::Survey { id, paths: body.paths()? }),
        HeadKind::Holdings { id } => message(Message::Holdings { id, held: body.held()? }),
        HeadKind::History { id, path } => message(Message::History { id, path, named: body.named()? }),
        HeadKind::Pasts { id, more } => message(Message::Pasts { id, pasts: body.pasts()?, more }),
        HeadKind::Locate { id } => message(Message::Locate { id, sought: body.sought()? }),
        HeadKind::Located { id } => message(Message::Located { id, places: body.places()? }),
        HeadKind::Holds { id, pending } => message(Message::Holds { id, pending }),
        HeadKind::Holding { id, sums } => {
            let held = body.held_back()?;
            if !held.iter().all(|held| is_clean_name(&held.by)) {
                return Err(FrameError::Body("a name that no machine may have"));
            }
            message(Message::Holding { id, sums, held })
        }
        HeadKind::Conflicts { digest } => {
            message(Message::Conflicts { digest: digest.map(|digest| digest.0), news: body.conflicts()? })
        }
        HeadKind::Hello { protocol, name, software, boot, started, features }
            if is_clean_name(&name) && is_short_text(&software) =>
        {
            let features =
                Features::checked(features).ok_or_else(|| FrameError::Head("a malformed feature list".to_owned()))?;
            Packet::Hello { protocol, name, software, boot, started, features }
        }
        HeadKind::Hello { .. } => return Err(FrameError::Head("a name that no machine may have".to_owned())),
        HeadKind::Proof { mac, member, writer, current, with } => Packet::Proof {
            mac: mac.0,
            member: member.map(|mac| mac.0),
            writer: writer.map(|mac| mac.0),
            current: current.map(|tag| tag.0),
            with: with.map(|tag| tag.0),
        },
        HeadKind::Former {} => Packet::Former { chain: body.former()? },
        HeadKind::HandOver {} => Packet::HandOver(body.hand_over()?),
        HeadKind::Join { mac, name } if is_clean_name(&name) => Packet::Join { mac: mac.0, name },
        HeadKind::Invited { mac, name } if is_clean_name(&name) => Packet::Invited { mac: mac.0, name },
        HeadKind::Join { .. } | HeadKind::Invited { .. } => {
            return Err(FrameError::Head("a name that no machine may have".to_owned()));
        }
        HeadKind::Accept { preview } => Packet::Accept { preview },
        HeadKind::Secret { secret, writers_public } => {
            let secret = match writers_public {
                None => HandedSecret::Writer(secret.0),
                Some(public) => HandedSecret::Reader { secret: secret.0, writers_public: public.0 },
            };
            Packet::Secret { secret }
        }
        HeadKind::Joined {} => Packet::Joined,
        HeadKind::Ping { at } => Packet::Ping { at },
        HeadKind::Pong { at, wall } => Packet::Pong { at, wall },
        HeadKind::Fetch { stream, path, content, size, part } if size < 1 << 63 => {
            Packet::Fetch { stream, path, content, size, part }
        }
        HeadKind::Fetch { .. } => return Err(FrameError::Head("a size of 2^63 or more".to_owned())),
        HeadKind::Delta { stream, path, content, size, base, base_size } if size < 1 << 63 && base_size < 1 << 63 => {
            Packet::Delta { stream, path, content, size, base, base_size }
        }
        HeadKind::Delta { .. } => return Err(FrameError::Head("a size of 2^63 or more".to_owned())),
        HeadKind::Sign { stream } => Packet::Sign { stream },
        HeadKind::Signature { stream } => Packet::Signature { stream, bytes: Bytes::new() },
        HeadKind::Piece { stream, offset } => Packet::Piece { stream, offset, bytes: Bytes::new() },
        HeadKind::Zeros { stream, offset, count } if count > 0 && offset < 1 << 63 && count < 1 << 63 => {
            Packet::Zeros { stream, offset, count }
        }
        HeadKind::Zeros { .. } => return Err(FrameError::Head("no zeros, or zeros beyond 2^63".to_owned())),
        HeadKind::Credit { stream, bytes } => Packet::Credit { stream, bytes },
        HeadKind::End { stream, how } => Packet::End { stream, how },
        HeadKind::Cancel { stream } => Packet::Cancel { stream },
        HeadKind::Bye { reason } if is_short_text(&reason) => Packet::Bye { reason },
        HeadKind::Bye { .. } => return Err(FrameError::Head("a reason of over 255 bytes".to_owned())),
    };
    body.end()?;
    Ok(packet)
}

fn message(message: Message) -> Packet {
    Packet::Message(message)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
