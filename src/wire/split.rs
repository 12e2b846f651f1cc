//! Keeps messages below what a frame may hold: the one place that splits them.
//!
//! The parts say together what the whole said. `State`, `Groups` and `Buckets` are bounded by their
//! nature, a `Survey`, a `Locate` and a `Holding` by who makes them.

use super::body::MAX_ITEMS;
use super::conflict::ConflictNews;
use super::message::{
    Change, HeldBack, MESSAGE_BYTES, Message, Past, SURVEY_BYTES, SURVEY_PATHS, Sought, WantedContent,
};
use crate::model::{Entry, Kind, SyncPath};
use bytes::Bytes;

/// The message in parts of about `MESSAGE_BYTES` at most, in order.
pub fn split(message: Message) -> Vec<Message> {
    match message {
        Message::Offer { buckets, entries, more } => {
            let room = MESSAGE_BYTES - 2 * buckets.len().min(MAX_ITEMS);
            parts(entries, room, entry_bytes, more, |entries, more| Message::Offer {
                buckets: buckets.clone(),
                entries,
                more,
            })
        }
        Message::Answer { entries, more } => {
            parts(entries, MESSAGE_BYTES, entry_bytes, more, |entries, more| Message::Answer { entries, more })
        }
        Message::Changes { changes, relayed_to } => parts(changes, MESSAGE_BYTES, change_bytes, false, |changes, _| {
            Message::Changes { changes, relayed_to: relayed_to.clone() }
        }),
        Message::Get { wants } => parts(wants, MESSAGE_BYTES, want_bytes, false, |wants, _| Message::Get { wants }),
        Message::Contents { contents } => {
            parts(contents, MESSAGE_BYTES, content_bytes, false, |contents, _| Message::Contents { contents })
        }
        Message::Have { content, chunks } => {
            parts(chunks, MESSAGE_BYTES, |_| 10, false, |chunks, _| Message::Have { content, chunks })
        }
        Message::Acks { placed } => {
            parts_of(placed, SURVEY_PATHS, SURVEY_BYTES, named_bytes, false, |placed, _| Message::Acks { placed })
        }
        Message::Pasts { id, pasts, more } => {
            parts(pasts, MESSAGE_BYTES, Past::wire_bytes, more, |pasts, more| Message::Pasts { id, pasts, more })
        }
        Message::Conflicts { digest, news } => {
            parts(news, MESSAGE_BYTES, ConflictNews::wire_bytes, false, |news, _| Message::Conflicts { digest, news })
        }
        whole @ (Message::Known { .. }
        | Message::Forget { .. }
        | Message::Undo { .. }
        | Message::Members(_)
        | Message::Confirm(_)
        | Message::Locate { .. }
        | Message::Located { .. }
        | Message::Holds { .. }
        | Message::Holding { .. }
        | Message::State { .. }
        | Message::Seek { .. }
        | Message::Groups { .. }
        | Message::Buckets { .. }
        | Message::Survey { .. }
        | Message::History { .. }
        | Message::Holdings { .. }) => vec![whole],
    }
}

/// About what the message takes in memory and, uncompressed, on the wire.
pub fn bytes_of(message: &Message) -> usize {
    match message {
        Message::Confirm(confirmation) => confirmation.wire_bytes(),
        Message::Undo { relayed_to } => 64 + 32 * relayed_to.len(),
        Message::Members(roster) => roster.wire_bytes(),
        Message::Known { .. } | Message::Forget { .. } | Message::State { .. } | Message::Holds { .. } => 64,
        Message::Locate { sought, .. } => sought.iter().map(Sought::wire_bytes).sum(),
        Message::Located { places, .. } => 64 + places.len(),
        Message::Holding { held, .. } => 128 + held.iter().map(HeldBack::wire_bytes).sum::<usize>(),
        Message::Groups { groups } => 16 * groups.len(),
        Message::Buckets { groups } => groups.iter().map(|(_, digests)| 1 + 16 * digests.len()).sum(),
        Message::Offer { buckets, entries, .. } => 2 * buckets.len() + entries.iter().map(entry_bytes).sum::<usize>(),
        Message::Answer { entries, .. } => entries.iter().map(entry_bytes).sum(),
        Message::Changes { changes, relayed_to } => {
            32 * relayed_to.len() + changes.iter().map(change_bytes).sum::<usize>()
        }
        Message::Seek { path, .. } => 128 + path.as_bytes().len(),
        Message::Have { chunks, .. } => 128 + 10 * chunks.len(),
        Message::Get { wants } => wants.iter().map(want_bytes).sum(),
        Message::Contents { contents } => contents.iter().map(content_bytes).sum(),
        Message::Survey { paths, .. } => paths.iter().map(|path| path.as_bytes().len() + 2).sum(),
        Message::Holdings { held, .. } => 38 * held.len(),
        Message::History { path, named, .. } => {
            let named = named.iter().map(named_bytes).sum::<usize>();
            64 + path.as_ref().map_or(0, |path| path.as_bytes().len()) + named
        }
        Message::Acks { placed } => placed.iter().map(named_bytes).sum(),
        Message::Pasts { pasts, .. } => pasts.iter().map(Past::wire_bytes).sum(),
        Message::Conflicts { news, .. } => 64 + news.iter().map(ConflictNews::wire_bytes).sum::<usize>(),
    }
}

fn named_bytes((path, _): &(SyncPath, u64)) -> usize {
    path.as_bytes().len() + 12
}

/// Fills parts up to `room`. `make` is told whether more follows: after the last part, what the
/// whole said.
fn parts<T>(
    items: Vec<T>,
    room: usize,
    bytes_of: impl Fn(&T) -> usize,
    more_after: bool,
    make: impl Fn(Vec<T>, bool) -> Message,
) -> Vec<Message> {
    parts_of(items, MAX_ITEMS, room, bytes_of, more_after, make)
}

/// The same, of at most so many items each.
fn parts_of<T>(
    items: Vec<T>,
    most: usize,
    room: usize,
    bytes_of: impl Fn(&T) -> usize,
    more_after: bool,
    make: impl Fn(Vec<T>, bool) -> Message,
) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut part = Vec::new();
    let mut filled = 0;
    for item in items {
        let bytes = bytes_of(&item);
        if !part.is_empty() && (filled + bytes > room || part.len() == most) {
            messages.push(make(std::mem::take(&mut part), true));
            filled = 0;
        }
        filled += bytes;
        part.push(item);
    }
    messages.push(make(part, more_after));
    messages
}

/// At least what the entry takes in postcard: numbers count as their longest form.
fn entry_bytes((path, entry): &(SyncPath, Entry)) -> usize {
    path_and_entry_bytes(path, entry)
}

fn path_and_entry_bytes(path: &SyncPath, entry: &Entry) -> usize {
    let kind = match &entry.kind {
        Kind::Symlink { target } => target.len() + 4,
        Kind::File { .. } => 44,
        Kind::Directory | Kind::Deleted { .. } => 12,
    };
    path.as_bytes().len() + kind + 80 + 42 * entry.version.seen.devices().count()
}

fn change_bytes(change: &Change) -> usize {
    path_and_entry_bytes(&change.path, &change.entry) + 6 + change.body.as_ref().map_or(0, Bytes::len)
}

fn want_bytes(want: &WantedContent) -> usize {
    want.path.as_bytes().len() + 54
}

fn content_bytes((_, bytes): &(u32, Option<Bytes>)) -> usize {
    11 + bytes.as_ref().map_or(0, Bytes::len)
}
