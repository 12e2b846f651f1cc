//! What is not taken in of what peers announce, and what becomes of those peers (P9).
//!
//! An entry is refused if a number in it is out of range, its path has too many components, it
//! claims changes of this machine that were never made, or its peer has used up what it may cost
//! the index. That costs the entry, never the link. A refused entry is neither kept nor passed on.
//! The peer is named, is shown as announcing invalid entries, and is compared once an hour while
//! that lasts. Deliberately not here: the accounts (`costs.rs`), and what is malformed as bytes
//! (`wire`), which closes the link.

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{FREE_ENTRY_BYTES, REFUSED_AGAIN_NS};
use crate::engine::peers::Peers;
use crate::engine::peers::session::Session;
use crate::engine::row_cost::row_bytes;
use crate::model::{DeviceId, Entry, SyncPath};

impl Peers {
    /// Whether the peer that delivered it may have it kept for what it costs.
    pub(super) fn pays<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        link: LinkId,
        path: &SyncPath,
        entry: &Entry,
    ) -> bool {
        let cost = row_bytes(path, entry);
        if entry.is_live() && cost <= FREE_ENTRY_BYTES {
            return true;
        }
        let free = match core.index.get(path) {
            Some(Row { head: winner, .. }) => row_bytes(path, &winner).max(FREE_ENTRY_BYTES),
            None if entry.is_live() => FREE_ENTRY_BYTES,
            // A deletion of what was never here guards nothing here: it is kept for the others.
            None => 0,
        };
        let Some(device) = self.sessions.get(&link).map(|session| session.device) else { return true };
        let pays = cost <= free || self.charge(core, now, device, cost - free);
        if !pays {
            self.refuse_entry(
                core,
                now,
                link,
                path,
                "more long names, or deletions of unknown paths, than one peer may have kept",
            );
        }
        pays
    }

    pub(in crate::engine) fn refuse_entry<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        link: LinkId,
        path: &SyncPath,
        why: &str,
    ) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let refusals = &mut session.refusals;
        if refusals.first.is_none() {
            refusals.first = Some(format!("'{path}': {why}"));
            refusals.compared_at = now.mono;
        }
        if refusals.said_at.is_none_or(|said| said + REFUSED_AGAIN_NS <= now.mono) {
            refusals.said_at = Some(now.mono);
            let (peer, path, why) = (session.name.clone(), path.clone(), why.to_owned());
            core.out.push(Action::Report(Report::InvalidEntries { peer, path: Some(path), why }));
        }
    }

    /// A claim of a peer about this machine that is no entry.
    pub(super) fn refuse_claim<I: Index>(&mut self, core: &mut Core<I>, now: Now, link: LinkId, why: &str) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if session.refusals.said_at.is_none_or(|said| said + REFUSED_AGAIN_NS <= now.mono) {
            session.refusals.said_at = Some(now.mono);
            let (peer, why) = (session.name.clone(), why.to_owned());
            core.out.push(Action::Report(Report::InvalidEntries { peer, path: None, why }));
        }
    }

    /// The link of a device, for what is found out about its entries later.
    pub(in crate::engine) fn link_of(&self, device: &DeviceId) -> Option<LinkId> {
        let is_its = |(_, session): &(&LinkId, &Session)| session.device == *device;
        self.sessions.iter().find(is_its).map(|(link, _)| *link)
    }
}

impl<I: Index> Engine<I> {
    /// Those that are not refused for what they say.
    pub(super) fn sound<T>(
        &mut self,
        now: Now,
        link: LinkId,
        items: Vec<T>,
        entry_of: impl Fn(&T) -> (&SyncPath, &Entry),
    ) -> Vec<T> {
        let mut sound = Vec::with_capacity(items.len());
        for item in items {
            let (path, entry) = entry_of(&item);
            match self.fault(link, path, entry) {
                Some(why) => self.peers.refuse_entry(&mut self.core, now, link, path, why),
                None => sound.push(item),
            }
        }
        sound
    }

    fn fault(&mut self, link: LinkId, path: &SyncPath, entry: &Entry) -> Option<&'static str> {
        if let Err(why) = entry.check() {
            return Some(why);
        }
        if path.is_too_deep() {
            return Some("a path of more than 256 components");
        }
        if self.peers.is_of_removed(&entry.version.author, entry.version.counter()) {
            return Some("a change that a removed machine made after its removal");
        }
        let claimed = entry.version.seen.get(&self.core.config.device);
        (!self.is_ours(claimed, link)).then_some("changes of this machine that it never made")
    }
}

#[cfg(test)]
mod engine_tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::limits::{COSTS_OF_ONE, SECOND};
    use crate::engine::{Config, Event, Observed, OnConflict, Stat, StatKind, Trust};
    use crate::model::Kind;
    use crate::model::{ContentId, FileTime, Mode, Version, VersionVector};
    use crate::wire::features::Features;
    use crate::wire::message::{Change, Message};

    const WALL: u64 = 1_800_000_000 * SECOND;
    const HOUR: u64 = 3600 * SECOND;
    const OWN: DeviceId = DeviceId([1; 32]);
    const LIAR: DeviceId = DeviceId([2; 32]);
    const OTHER: DeviceId = DeviceId([3; 32]);
    const LINK: LinkId = LinkId(1);

    struct Machine {
        engine: Engine<MapIndex>,
        mono: u64,
        said: Vec<Action>,
    }

    impl Machine {
        fn new(device: DeviceId, index: MapIndex) -> Self {
            let engine = Engine::new(Config { device, name: "own".into(), on_conflict: OnConflict::Newest }, index);
            let mut machine = Self { engine, mono: SECOND, said: Vec::new() };
            machine.said = machine.engine.start(machine.now(), Trust::Known);
            machine.handle(Event::IgnoreRead(None));
            machine
        }

        /// Linked with a liar, which this machine dialled, and with another.
        fn linked() -> Self {
            let mut machine = Self::new(OWN, MapIndex::new());
            for (link, device, name) in [(LINK, LIAR, "liar"), (LinkId(2), OTHER, "other")] {
                machine.link(link, device, name);
            }
            machine
        }

        fn link(&mut self, link: LinkId, device: DeviceId, name: &str) {
            let (name, features) = (name.to_owned(), Features::ours());
            self.handle(Event::LinkUp {
                link,
                device,
                name,
                dialler: true,
                features,
                capability: crate::model::Capability::Write,
            });
            let known = Message::Known { counter: 0 };
            self.handle(Event::Message { link, message: known, wire_bytes: 1 });
        }

        fn now(&self) -> Now {
            Now { wall: WALL + self.mono, mono: self.mono }
        }

        fn handle(&mut self, event: Event) {
            let actions = self.engine.handle(self.now(), event);
            self.said.extend(actions);
        }

        fn receive_entries(&mut self, entries: Vec<(SyncPath, Entry)>) {
            let changes = entries.into_iter().map(|(path, entry)| Change { path, entry, body: None }).collect();
            self.receive(Message::Changes { changes, relayed_to: Vec::new() });
        }

        fn receive(&mut self, message: Message) {
            self.handle(Event::Message { link: LINK, message, wire_bytes: 1 });
        }

        fn wait(&mut self, ns: u64) {
            self.mono += ns;
            self.handle(Event::Tick);
        }

        /// A file that its user makes here.
        fn edit(&mut self, name: &str) -> Entry {
            let mtime = FileTime::of(WALL + self.mono);
            let stat = Stat { kind: StatKind::File, size: 1, mtime, ctime: mtime, ino: 1, mode: Mode(0o644) };
            let content = ContentId::of(format!("{name} at {}", self.mono).as_bytes());
            let observed = Observed::File { stat, content, body: None };
            self.engine.observe(self.now(), &path(name), observed, crate::engine::merge::ObservationSource::Live);
            self.wait(0);
            self.engine.index().get(&path(name)).map(|row| row.head).expect("it was made")
        }

        fn invalid(&mut self) -> Vec<Option<String>> {
            self.engine.status().peers.into_iter().map(|peer| peer.invalid).collect()
        }

        fn comparisons(&self) -> usize {
            let begins = |action: &&Action| matches!(action, Action::Send { message: Message::Groups { .. }, .. });
            self.said.iter().filter(begins).count()
        }

        /// Paths that others were told of.
        fn announced(&self) -> Vec<String> {
            let changes = self.said.iter().filter_map(|action| match action {
                Action::Send { message: Message::Changes { changes, .. }, .. } => Some(changes),
                _ => None,
            });
            changes.flatten().map(|change| change.path.to_text()).collect()
        }

        fn reports(&self) -> usize {
            self.said.iter().filter(|action| matches!(action, Action::Report(Report::InvalidEntries { .. }))).count()
        }
    }

    fn path(text: &str) -> SyncPath {
        SyncPath::new(text).unwrap()
    }

    fn entry(kind: Kind, seen: &[(DeviceId, u64)]) -> Entry {
        let seen = seen.iter().fold(VersionVector::default(), |seen, (device, counter)| seen.with(*device, *counter));
        let version = Version { stamp: WALL, author: LIAR, seen };
        Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version }
    }

    fn file(seen: &[(DeviceId, u64)]) -> Entry {
        entry(Kind::File { size: 1, content: ContentId([7; 32]) }, seen)
    }

    #[test]
    fn a_bad_entry_costs_that_entry_alone_and_is_not_passed_on() {
        let mut machine = Machine::linked();
        let bad = [
            Entry { mode: Mode(0o4755), ..file(&[(LIAR, 1)]) },
            file(&[(LIAR, 1), (OWN, (1 << 63) - 1)]),
            file(&[(LIAR, u64::MAX)]),
            Entry { version: Version { stamp: (1 << 62) - 1, ..file(&[(LIAR, 1)]).version }, ..file(&[]) },
        ];
        let mut entries: Vec<_> = bad.into_iter().enumerate().map(|(n, bad)| (path(&format!("bad{n}")), bad)).collect();
        entries.push((path(&["d"; 257].join("/")), file(&[(LIAR, 1)])));
        entries.push((path("good"), file(&[(LIAR, 1)])));
        machine.receive_entries(entries);
        machine.wait(SECOND);
        assert!(!machine.said.iter().any(|action| matches!(action, Action::Close { .. })));
        let held: Vec<_> = machine.engine.index().rows().map(|(path, _)| path.to_text()).collect();
        assert_eq!(held, ["good"]);
        let sent = machine.announced();
        assert!(sent.iter().all(|path| path == "good"), "{sent:?}");
        assert!(machine.invalid()[0].as_ref().is_some_and(|why| why.contains("bad0")), "{:?}", machine.invalid());
        assert_eq!((machine.invalid()[1].clone(), machine.reports()), (None, 1));
    }

    #[test]
    fn an_edit_after_lies_about_our_counter_is_taken_by_others() {
        let mut machine = Machine::linked();
        machine.receive(Message::Known { counter: u64::MAX });
        machine.receive_entries(vec![(path("f"), file(&[(LIAR, 1), (OWN, (1 << 63) - 1)]))]);
        let made = machine.edit("f");
        assert_eq!(made.check(), Ok(()));
        assert_eq!(made.version.counter(), 1);
        assert!(!machine.said.contains(&Action::NewDevice));
    }

    #[test]
    fn claims_that_could_be_true_renew_the_id_once_a_day_and_are_lies_after_that() {
        let mut first = Machine::linked();
        first.receive(Message::Known { counter: 5 });
        assert!(first.said.contains(&Action::NewDevice));
        // The same day, in later runs, with the new id.
        let mut again = Machine::new(OTHER, first.engine.into_index());
        again.link(LINK, LIAR, "liar");
        for counter in [6, 1 << 50, (1 << 62) - 1] {
            again.receive(Message::Known { counter });
            again.receive_entries(vec![(path("lie"), file(&[(LIAR, 1), (OTHER, (1 << 62) - 1)]))]);
        }
        assert!(!again.said.contains(&Action::NewDevice));
        assert_eq!(again.engine.index().get(&path("lie")), None);
        let made = again.edit("lie");
        assert_eq!(made.check(), Ok(()));
        assert!(made.version.counter() < 1 << 42, "counters follow the clock: {}", made.version.counter());
        again.mono += 24 * HOUR;
        again.receive(Message::Known { counter: 1 << 50 });
        assert!(again.said.contains(&Action::NewDevice), "a day later it may be true again");
    }

    #[test]
    fn an_own_counter_that_an_older_version_let_be_raised_makes_a_new_device() {
        let mut index = MapIndex::new();
        index.set_meta(crate::engine::META_COUNTER, &((1_u64 << 63) - 1).to_be_bytes());
        let poisoned = Machine::new(OWN, index);
        assert!(poisoned.said.contains(&Action::NewDevice));
        let mut next = Machine::new(OTHER, poisoned.engine.into_index());
        assert!(!next.said.contains(&Action::NewDevice));
        assert_eq!(next.edit("f").version.counter(), 1);
    }

    #[test]
    fn a_peer_with_invalid_entries_is_compared_once_an_hour() {
        let mut machine = Machine::linked();
        machine.edit("ours");
        machine.said.clear();
        let differs = || Message::State { root: [9; 16], pending: 0, condition: None };
        // The comparison that finds the invalid entry, and the states of the hour after it.
        machine.receive(differs());
        machine.receive(Message::Buckets { groups: vec![(0, vec![[9; 16]; 256])] });
        machine.receive(Message::Answer { entries: vec![(path("bad"), file(&[(LIAR, u64::MAX)]))], more: false });
        assert_eq!(machine.comparisons(), 1);
        for _ in 0..118 {
            machine.wait(30 * SECOND);
            machine.receive(differs());
        }
        assert_eq!((machine.comparisons(), machine.reports()), (1, 1));
        for _ in 0..4 {
            machine.wait(30 * SECOND);
            machine.receive(differs());
        }
        assert_eq!(machine.comparisons(), 2);
        // It has none any more.
        machine.receive(Message::Buckets { groups: Vec::new() });
        machine.wait(30 * SECOND);
        machine.receive(differs());
        assert_eq!((machine.comparisons(), machine.invalid()[0].clone()), (3, None));
    }

    #[test]
    fn a_peer_that_begins_a_comparison_within_another_is_hung_up_on() {
        let mut machine = Machine::linked();
        let groups = || Message::Groups { groups: vec![[9; 16]; 256] };
        let hung_up = |machine: &Machine| machine.said.iter().any(|action| matches!(action, Action::Close { .. }));
        for _ in 0..3 {
            machine.receive(groups());
            machine.receive(Message::State { root: [9; 16], pending: 0, condition: None });
        }
        assert!(!hung_up(&machine), "one after the other");
        machine.receive(groups());
        machine.receive(groups());
        assert!(hung_up(&machine));
    }

    #[test]
    fn all_folders_above_a_path_are_derived_in_one_step() {
        let mut machine = Machine::linked();
        let deep = path(&["d"; 256].join("/"));
        machine.receive_entries(vec![(deep.clone(), file(&[(LIAR, 1)]))]);
        machine.wait(2 * SECOND);
        assert!(
            deep.ancestors().all(|dir| machine.engine.index().get(&dir).is_some_and(|row| row.head.is_directory()))
        );
    }

    /// Five of these, with 2,048 folders each, made an index of 329 MB.
    #[test]
    fn folders_above_long_paths_are_charged_to_the_peer_that_delivered_them_and_not_to_their_author() {
        let mut machine = Machine::linked();
        let charged = |machine: &Machine| machine.engine.charged(&LIAR);
        let long = path(&vec!["fifteen-letters"; 255].join("/"));
        let by_another = Entry { version: Version { author: OTHER, ..file(&[(OTHER, 1)]).version }, ..file(&[]) };
        machine.receive_entries(vec![(long.clone(), by_another)]);
        let before = charged(&machine);
        machine.wait(2 * SECOND);
        let bytes: u64 = long.ancestors().map(|dir| dir.as_bytes().len() as u64).sum();
        assert!(charged(&machine) >= before + bytes, "{} of {bytes}", charged(&machine) - before);
        // With nothing left to spend, nothing more is derived, and it is named.
        machine.engine.peers.costs.spend_all(LIAR);
        machine.receive_entries(vec![(path("other/long/path"), file(&[(LIAR, 1)]))]);
        machine.wait(SECOND);
        assert_eq!(machine.engine.index().get(&path("other")), None);
        assert!(machine.invalid()[0].is_some());
    }

    #[test]
    fn deletions_of_paths_that_never_were_here_are_kept_up_to_a_limit_and_short_paths_go_on() {
        let mut machine = Machine::linked();
        let deletion = |n: u64| {
            let name = format!("{n:0>255}/").repeat(15) + &format!("{n:0>250}");
            (path(&name), entry(Kind::Deleted { at: WALL }, &[(LIAR, n)]))
        };
        for block in 0..160 {
            machine.receive_entries((block * 100..(block + 1) * 100).map(deletion).collect());
        }
        let kept = machine.engine.index().rows().count() as u64;
        let cost = row_bytes(&deletion(0).0, &deletion(0).1);
        assert_eq!(kept, COSTS_OF_ONE / cost);
        machine.receive_entries(vec![(path("f"), file(&[(LIAR, 1)]))]);
        assert!(machine.engine.index().get(&path("f")).is_some());
        // A restart forgives no more than what was not stored yet.
        machine.wait(0);
        let spent = machine.engine.charged(&LIAR);
        let mut again = Machine::new(OWN, machine.engine.into_index());
        again.link(LINK, LIAR, "liar");
        for block in 200..210 {
            again.receive_entries((block * 100..(block + 1) * 100).map(deletion).collect());
        }
        let more = again.engine.index().rows().count() as u64 - kept - 1;
        assert!(more * cost < 2 << 20 && spent > COSTS_OF_ONE - cost, "{more} more rows of {cost} bytes");
    }
}
