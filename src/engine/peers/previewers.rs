//! Links that only look: a machine that would join asks what the group has, and is told nothing
//! else.
//!
//! It proved the secret as a member does, and is none yet: it enters no list, is announced nothing,
//! counts in no state, and nothing that it says is taken. Deliberately not here: what it makes of
//! the answers (`engine/preview.rs`).

use crate::engine::api::event::LinkId;
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::OFFER_BUCKETS;
use crate::engine::peers::Peers;
use crate::engine::peers::compare::may_be_announced;
use crate::engine::{Action, Engine, ServedFile};
use crate::wire::features::{Features, PREVIEWS};
use crate::wire::message::{Bucket, Group, Message, SMALL_FILE_BYTES, WantedContent};
use std::collections::{BTreeMap, BTreeSet};

/// By link, with what each was answered: everything once, so that none goes on asking (P9).
#[derive(Default)]
pub(in crate::engine) struct Previewers(BTreeMap<LinkId, PreviewAnswers>);

#[derive(Default)]
struct PreviewAnswers {
    digests: bool,
    buckets: BTreeSet<Bucket>,
}

impl Peers {
    /// Whether this link is one that only looks; it then is known as such.
    pub(super) fn is_previewer_up(&mut self, link: LinkId, features: &Features) -> bool {
        let previews = features.has(PREVIEWS);
        if previews {
            self.limited.previewers.0.insert(link, PreviewAnswers::default());
        }
        previews
    }

    pub(super) fn previewer_down(&mut self, link: LinkId) {
        self.limited.previewers.0.remove(&link);
    }

    pub(in crate::engine) fn is_previewer(&self, link: LinkId) -> bool {
        self.limited.previewers.0.contains_key(&link)
    }

    fn bucket_digests_for<I: Index>(&mut self, core: &mut Core<I>, link: LinkId) {
        let answered =
            self.limited.previewers.0.get_mut(&link).map(|answers| std::mem::replace(&mut answers.digests, true));
        if answered != Some(false) {
            return core.close(link, "it only looks, and asked twice");
        }
        let groups = (0..=Group::MAX).map(|group| (group, core.index.bucket_digests(group)));
        let filled = groups.filter(|(_, digests)| digests.iter().any(|digest| *digest != [0; 16])).collect();
        core.act(Action::Send { to: vec![link], message: Message::Buckets { groups: filled } });
    }

    fn entries_for<I: Index>(&mut self, core: &mut Core<I>, link: LinkId, buckets: &[Bucket]) {
        if buckets.len() > OFFER_BUCKETS {
            return core.close(link, "it only looks, and asked for too much at once");
        }
        let Some(answers) = self.limited.previewers.0.get_mut(&link) else { return };
        let fresh: BTreeSet<Bucket> =
            buckets.iter().copied().filter(|bucket| answers.buckets.insert(*bucket)).collect();
        let entries = fresh.into_iter().flat_map(|bucket| core.index.bucket(bucket)).filter(may_be_announced).collect();
        core.act(Action::Send { to: vec![link], message: Message::Answer { entries, more: false } });
    }
}

impl<I: Index> Engine<I> {
    pub(super) fn previewer_said(&mut self, link: LinkId, message: Message) {
        match message {
            Message::Groups { .. } => self.peers.bucket_digests_for(&mut self.core, link),
            Message::Offer { buckets, .. } => self.peers.entries_for(&mut self.core, link, &buckets),
            Message::Get { wants } => {
                let file = |want: WantedContent| (want.id, self.locate(&want.path, want.content, want.size));
                let small = |(id, file): (u32, Option<ServedFile>)| {
                    (id, file.filter(|file: &ServedFile| file.size <= SMALL_FILE_BYTES))
                };
                let files = wants.into_iter().map(file).map(small).collect();
                self.core.act(Action::SendContents { to: link, files });
            }
            _ => self.core.close(link, "it only looks, and said something else"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::{Config, Event, Now, OnConflict};
    use crate::model::{DeviceId, Entry, FileTime, Kind, Mode, SyncPath, Version, VersionVector};
    use crate::wire::message::Digest;

    const LOOKS: LinkId = LinkId(1);
    const MEMBER: LinkId = LinkId(2);

    fn engine() -> Engine<MapIndex> {
        let config = Config { device: DeviceId([9; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        Engine::new(config, MapIndex::new())
    }

    fn now() -> Now {
        Now { wall: 1_700_000_000_000_000_000, mono: 0 }
    }

    fn folder() -> (SyncPath, Entry) {
        let version = Version { stamp: 5, author: DeviceId([2; 32]), seen: VersionVector::default() };
        let entry = Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version };
        (SyncPath::new("d").unwrap(), entry)
    }

    fn up(link: LinkId, features: Features) -> Event {
        Event::LinkUp {
            link,
            device: DeviceId([link.0 as u8; 32]),
            name: "b".into(),
            dialler: true,
            features,
            capability: crate::model::Capability::Write,
        }
    }

    fn says(link: LinkId, message: Message) -> Event {
        Event::Message { link, message, wire_bytes: 1 }
    }

    fn sent(actions: Vec<Action>) -> Vec<Message> {
        let to_it = |action| match action {
            Action::Send { to, message } if to == [LOOKS] => Some(message),
            _ => None,
        };
        actions.into_iter().filter_map(to_it).collect()
    }

    #[test]
    fn one_that_only_looks_is_told_the_entries_and_enters_no_list() {
        let mut engine = engine();
        engine.handle(now(), up(MEMBER, Features::ours()));
        engine.handle(now(), says(MEMBER, Message::Known { counter: 0 }));
        let groups = Message::Groups { groups: vec![[0; 16]; 256] };
        engine.handle(now(), says(MEMBER, groups.clone()));
        let (path, entry) = folder();
        let bucket = crate::engine::api::digest::bucket_of(&path);
        let offer = Message::Offer { buckets: vec![bucket], entries: vec![(path.clone(), entry)], more: false };
        engine.handle(now(), says(MEMBER, offer));
        let devices = engine.status().devices.len();

        assert_eq!(sent(engine.handle(now(), up(LOOKS, Features::to_preview()))), []);
        assert_eq!(engine.status().devices.len(), devices);
        let answer = sent(engine.handle(now(), says(LOOKS, groups)));
        let [Message::Buckets { groups: filled }] = &answer[..] else { panic!("{answer:?}") };
        assert_eq!(filled.iter().map(|(group, _)| *group).collect::<Vec<_>>(), [bucket.to_be_bytes()[0]]);
        let look = || Message::Offer { buckets: vec![bucket], entries: vec![folder()], more: false };
        let answer = sent(engine.handle(now(), says(LOOKS, look())));
        assert!(
            matches!(&answer[..], [Message::Answer { entries, more: false }] if entries[0].0 == path),
            "{answer:?}"
        );
        let again = sent(engine.handle(now(), says(LOOKS, look())));
        assert!(matches!(&again[..], [Message::Answer { entries, .. }] if entries.is_empty()), "each bucket once");
    }

    #[test]
    fn nothing_that_it_says_is_taken() {
        for said in [
            Message::Known { counter: 7 },
            Message::State { root: Digest::from([1; 16]), pending: 0, condition: None },
            Message::Forget { device: DeviceId([2; 32]) },
            Message::Undo { relayed_to: Vec::new() },
        ] {
            let mut engine = engine();
            engine.handle(now(), up(LOOKS, Features::to_preview()));
            let actions = engine.handle(now(), says(LOOKS, said));
            assert!(matches!(&actions[..], [Action::Close { link: LOOKS, .. }]), "{actions:?}");
        }
        let mut engine = engine();
        engine.handle(now(), up(LOOKS, Features::to_preview()));
        let (path, entry) = folder();
        let bucket = crate::engine::api::digest::bucket_of(&path);
        let offer = Message::Offer { buckets: vec![bucket], entries: vec![(path.clone(), entry)], more: false };
        engine.handle(now(), says(LOOKS, offer));
        assert!(engine.index().get(&path).is_none());
        engine.handle(now(), Event::LinkDown { link: LOOKS });
        assert!(!engine.peers.is_previewer(LOOKS));
    }
}
