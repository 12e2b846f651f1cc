//! Links whose other end did not prove that it may write: what is taken of them, and what is not.
//!
//! A reader may link, compare, ask and serve. Whatever it announces, in its own or a forged
//! author's name, changes nothing here: no entry, no confirmation, no decision, no `undo` or
//! `forget`, and no claim about this machine's counters. What it serves is verified by its hash, as
//! anyone's. So a machine that reaches readers alone hears of no change (P3 holds among writers).
//! Deliberately not here: the proofs (`io/net/greeting.rs`).

use crate::engine::Engine;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::peers::Peers;
use crate::engine::peers::previewers::Previewers;
use crate::model::{Capability, DeviceId, Entry, SyncPath};
use crate::wire::message::Message;
use std::collections::BTreeSet;

/// Links with less than a member's rights, and this machine's own.
#[derive(Default)]
pub(in crate::engine) struct LimitedLinks {
    pub(super) previewers: Previewers,
    readers: BTreeSet<LinkId>,
    own: Capability,
}

impl Peers {
    /// As the proofs of its link have shown, before it is up.
    pub(in crate::engine) fn note_capability(&mut self, link: LinkId, capability: Capability) {
        if capability == Capability::ReadOnly {
            self.limited.readers.insert(link);
        }
    }

    pub(super) fn reader_down(&mut self, link: LinkId) {
        self.limited.readers.remove(&link);
    }

    pub(in crate::engine) fn is_reader(&self, link: LinkId) -> bool {
        self.limited.readers.contains(&link)
    }

    /// Before the start: this machine may read alone.
    pub(in crate::engine) fn read_only(&mut self) {
        self.limited.own = Capability::ReadOnly;
    }

    /// Nobody would take what it announces.
    pub(in crate::engine) fn announces_nothing(&self) -> bool {
        self.limited.own == Capability::ReadOnly
    }

    fn is_device_of(&self, link: LinkId, device: DeviceId) -> bool {
        self.sessions.get(&link).is_some_and(|session| session.device == device)
    }

    /// Notes that a reader has what would win here: it is not taken, and a comparison would find it
    /// again.
    pub(super) fn note_not_taken<I: Index>(&mut self, index: &I, link: LinkId, entries: &[(SyncPath, Entry)]) {
        let wins = |(path, theirs): &(SyncPath, Entry)| index.get(path).is_none_or(|row| theirs.beats(&row.head));
        if entries.iter().any(wins)
            && let Some(session) = self.sessions.get_mut(&link)
        {
            session.refusals.note_not_taken();
        }
    }
}

impl<I: Index> Engine<I> {
    /// What of a reader's message may be handled as a member's.
    pub(super) fn of_reader(&mut self, now: Now, link: LinkId, message: Message) -> Option<Message> {
        match message {
            Message::Known { .. } => Some(Message::Known { counter: 0 }),
            Message::Answer { entries, more } => {
                self.peers.note_not_taken(&self.core.index, link, &entries);
                Some(Message::Answer { entries: Vec::new(), more })
            }
            Message::Changes { changes, .. } => {
                if !changes.is_empty() {
                    self.peers.refuse_claim(&mut self.core, now, link, "changes, though it may only read");
                }
                None
            }
            // That it leaves is its own affair.
            Message::Forget { device } if self.peers.is_device_of(link, device) => Some(Message::Forget { device }),
            // Which conflicts it knows, so that it hears of the others; not what it says of them.
            Message::Conflicts { digest, .. } => Some(Message::Conflicts { digest, news: Vec::new() }),
            Message::Forget { .. } | Message::Undo { .. } | Message::Confirm(_) | Message::Members(_) => None,
            // Of an offer, only what the answer has to leave out (`compare.rs`).
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::digest::bucket_of;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::{Action, Config, Event, OnConflict};
    use crate::model::{FileTime, Kind, Mode, Version, VersionVector};
    use crate::wire::features::Features;
    use crate::wire::message::{Change, Digest};

    const READER: LinkId = LinkId(1);
    const WRITER: LinkId = LinkId(2);
    const READERS_DEVICE: DeviceId = DeviceId([1; 32]);

    fn now() -> Now {
        Now { wall: 1_700_000_000_000_000_000, mono: 0 }
    }

    fn engine() -> Engine<MapIndex> {
        let config = Config { device: DeviceId([9; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, MapIndex::new());
        for (link, capability) in [(READER, Capability::ReadOnly), (WRITER, Capability::Write)] {
            let device = DeviceId([link.0 as u8; 32]);
            let (name, features) = (format!("m{}", link.0), Features::ours());
            engine.handle(now(), Event::LinkUp { link, device, name, dialler: link == READER, features, capability });
            says(&mut engine, link, Message::Known { counter: 0 });
        }
        engine
    }

    fn says(engine: &mut Engine<MapIndex>, link: LinkId, message: Message) -> Vec<Action> {
        engine.handle(now(), Event::Message { link, message, wire_bytes: 1 })
    }

    fn folder(name: &str, author: DeviceId) -> (SyncPath, Entry) {
        let version = Version { stamp: 5, author, seen: VersionVector::default().with(author, 1) };
        let entry = Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version };
        (SyncPath::new(name).unwrap(), entry)
    }

    fn changes(name: &str, author: DeviceId) -> Message {
        let (path, entry) = folder(name, author);
        Message::Changes { changes: vec![Change { path, entry, body: None }], relayed_to: Vec::new() }
    }

    fn knows(engine: &Engine<MapIndex>, name: &str) -> bool {
        engine.index().get(&SyncPath::new(name).unwrap()).is_some()
    }

    #[test]
    fn what_a_reader_announces_is_taken_in_nobody_s_name() {
        let mut engine = engine();
        for author in [READERS_DEVICE, DeviceId([2; 32]), DeviceId([9; 32])] {
            says(&mut engine, READER, changes("forged", author));
        }
        let (path, entry) = folder("offered", DeviceId([2; 32]));
        let buckets = vec![bucket_of(&path)];
        says(&mut engine, READER, Message::Groups { groups: vec![[0; 16]; 256] });
        says(&mut engine, READER, Message::Offer { buckets, entries: vec![(path, entry)], more: false });
        assert!(!knows(&engine, "forged") && !knows(&engine, "offered"));
        says(&mut engine, WRITER, changes("true", DeviceId([2; 32])));
        assert!(knows(&engine, "true"), "a writer's word is taken");
    }

    #[test]
    fn what_a_reader_answers_to_a_comparison_is_not_taken_and_ends_it() {
        let mut engine = engine();
        says(&mut engine, WRITER, changes("true", DeviceId([2; 32])));
        let state = Message::State { root: Digest::from([1; 16]), pending: 0, condition: None };
        let actions = says(&mut engine, READER, state.clone());
        let begins = |actions: &[Action]| {
            actions.iter().any(|a| matches!(a, Action::Send { message: Message::Groups { .. }, to } if *to == [READER]))
        };
        assert!(begins(&actions), "{actions:?}");
        let groups = (0..=255).map(|group| (group, vec![[1; 16]; 256])).collect();
        let offered = says(&mut engine, READER, Message::Buckets { groups });
        assert!(offered.iter().any(|a| matches!(a, Action::Send { message: Message::Offer { .. }, .. })));
        let (path, entry) = folder("answered", DeviceId([2; 32]));
        let mut last = says(&mut engine, READER, Message::Answer { entries: vec![(path, entry)], more: false });
        while last.iter().any(|a| matches!(a, Action::Send { message: Message::Offer { .. }, .. })) {
            last = says(&mut engine, READER, Message::Answer { entries: Vec::new(), more: false });
        }
        assert!(!knows(&engine, "answered"));
        let again = says(&mut engine, READER, state);
        assert!(!begins(&again), "what is not taken would be found again at once");
    }

    #[test]
    fn a_reader_makes_nobody_give_way_forget_or_let_go() {
        let mut engine = engine();
        let known = engine.status().devices.len();
        says(&mut engine, READER, Message::Known { counter: 1 << 40 });
        says(&mut engine, READER, Message::Forget { device: DeviceId([2; 32]) });
        says(&mut engine, READER, Message::Undo { relayed_to: Vec::new() });
        let actions = says(&mut engine, READER, Message::State { root: [0; 16], pending: 0, condition: None });
        assert!(!actions.iter().any(|action| matches!(action, Action::NewDevice)));
        assert_eq!(engine.status().devices.len(), known);
        says(&mut engine, READER, Message::Forget { device: READERS_DEVICE });
        assert_eq!(engine.status().devices.len(), known - 1, "that it leaves itself is heard");
    }

    #[test]
    fn a_read_only_machine_announces_nothing_and_passes_nothing_on() {
        let mut engine = engine();
        engine.read_only();
        says(&mut engine, WRITER, changes("true", DeviceId([2; 32])));
        let later = Now { mono: 1_000_000_000, ..now() };
        let actions = engine.handle(later, Event::Tick);
        assert!(!actions.iter().any(|a| matches!(a, Action::Send { message: Message::Changes { .. }, .. })));
    }
}
