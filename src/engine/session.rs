//! One peer: greeting, comparing, live, gone.
//!
//! The dialler of a link compares: group digests, then bucket digests, then the differing buckets' entries, some at a
//! time. Whatever a divergence came from, it heals.

use super::action::{Action, Report, ServedFile};
use super::condition::ReportedCondition;
use super::digest::{Digests, deleted_at, path_digest};
use super::event::{LinkId, Now};
use super::identity::Renewal;
use super::index::{Index, Row};
use super::merge::{ObservationSource, RemoteEffect};
use super::redate::is_far_ahead;
use super::refuse::Refusals;
use super::{Engine, TOMBSTONE_NS, status::PeerStatus};
use crate::model::{ContentId, DeviceId, Entry, Kind, SyncPath};
use crate::wire::condition::Condition;
use crate::wire::features::Features;
use crate::wire::message::{Bucket, Change, Digest, Group, Message, SMALL_FILE_BYTES};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const SECOND: u64 = 1_000_000_000;
/// Peers tell each other their state at least this often.
const STATE_EVERY_NS: u64 = 30 * SECOND;
/// A changed state is told after this much rest.
const STATE_QUIET_NS: u64 = SECOND / 10;
/// A comparison that began keeps derivations waiting for this long at the end that does not lead it.
const COMPARED_NS: u64 = SECOND;
/// An offer names at most this many buckets, and about this many entries.
const OFFER_BUCKETS: usize = 2048;
const OFFER_ENTRIES: usize = 2048;
/// Entries that an offer in parts may hold; 16 bytes are kept of each (P9).
const OFFERED_CAP: usize = 1 << 20;
const CHANGES_A_MESSAGE: usize = 512;
/// How far a comparison that this end leads has come.
#[derive(Default)]
enum Comparing {
    #[default]
    No,
    /// `Groups` is out.
    Descending,
    /// Buckets still to be offered, while one offer is out.
    Offering(VecDeque<Bucket>),
}

/// Whether a peer has said yet what it knows of us: before that it is told nothing new, for we may not be who it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    Linked,
    Acquainted,
}

/// A peer's clock beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerClock {
    Unknown,
    Agrees,
    /// So far ahead (ns) that it is too much.
    Ahead(i64),
}

impl PeerClock {
    pub fn ahead_ns(self) -> Option<i64> {
        if let Self::Ahead(ahead_ns) = self { Some(ahead_ns) } else { None }
    }
}

pub(super) struct Session {
    pub device: DeviceId,
    pub name: String,
    dialler: bool,
    /// What the peer understands beyond protocol 1.
    pub features: Features,
    pub met: Met,
    pub clock: PeerClock,
    comparing: Comparing,
    /// Of the paths that the peer's offer in parts has named so far, those that it holds as we do, or newer.
    offered: BTreeSet<Digest>,
    /// The peer's last state.
    theirs: Option<(Digest, u64)>,
    pub condition: Option<Condition>,
    /// What the log said of that.
    pub said: ReportedCondition,
    /// Changes that it told since then: it stands otherwise by now, and says so when it has rested.
    announced_since: usize,
    /// The peer held nothing at all when it was linked: contents found here by a first scan are news to it.
    is_empty_handed: bool,
    relayed_to: Option<PeerState>,
    announced_at: u64,
    /// Large contents that it looks for, and is to be told of.
    pub seeks: VecDeque<ContentId>,
    equality: Equality,
    /// It was told of all conflicts that are known here.
    pub announced_conflicts: bool,
    /// When it was told of all confirmations, by `Now::mono`.
    pub announced_confirmations: u64,
    pub refusals: Refusals,
}

/// A change that is to be told.
pub(super) struct OutgoingChange {
    change: Change,
    /// What was live there before, if it was made here.
    was: Option<Kind>,
    /// Devices that know of it.
    relayed_to: Vec<DeviceId>,
}

/// Whether both trees were equal since they were compared last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Equality {
    Unknown,
    WereEqual,
    /// And the log says that the two are in sync.
    Said,
}

impl Equality {
    fn unsaid(self) -> Self {
        if self == Self::Said { Self::WereEqual } else { self }
    }
}

/// The tree, how much is still to come to it, and what keeps its machine from being done.
type PeerState = (Digest, u64, Condition);

impl Session {
    pub fn is_comparing(&self) -> bool {
        !matches!(self.comparing, Comparing::No)
    }

    /// Whether it holds this tree, as it said last, and none of that is being compared.
    pub fn is_equal_to(&self, root: Digest) -> bool {
        !self.is_comparing() && self.theirs.is_some_and(|(theirs, _)| theirs == root)
    }

    /// Paths still to be installed there, as it said last.
    pub fn pending(&self) -> u64 {
        self.theirs.map_or(0, |(_, pending)| pending)
    }
}

/// What an older version took in, and no peer takes, is not told on.
fn may_be_announced((path, entry): &(SyncPath, Entry)) -> bool {
    entry.check().is_ok() && !path.is_too_deep()
}

impl<I: Index> Engine<I> {
    pub(super) fn link_up(
        &mut self,
        now: Now,
        link: LinkId,
        device: DeviceId,
        name: String,
        dialler: bool,
        features: Features,
    ) {
        self.names.insert(device, name.clone());
        let today = self.today(now);
        self.devices.meet(today, device, &name);
        self.devices.see(now, device);
        let session = Session {
            device,
            name,
            dialler,
            features,
            met: Met::Linked,
            clock: PeerClock::Unknown,
            comparing: Comparing::No,
            offered: BTreeSet::new(),
            theirs: None,
            condition: None,
            said: ReportedCondition::default(),
            announced_since: 0,
            is_empty_handed: false,
            relayed_to: None,
            announced_at: now.mono,
            seeks: VecDeque::new(),
            equality: Equality::Unknown,
            announced_conflicts: false,
            announced_confirmations: 0,
            refusals: Refusals::default(),
        };
        self.sessions.insert(link, session);
        self.announce_known_to(link);
        self.announce_state(now, link);
        self.greet_with_conflicts(link);
        self.seek_all(link);
        self.undo_link_up(now);
        self.retry_all();
    }

    pub(super) fn link_down(&mut self, link: LinkId) {
        if let Some(session) = self.sessions.remove(&link) {
            self.devices.see(self.last_event, session.device);
            self.deliveries_without(self.last_event, link, session.device);
            self.forget_source(link);
            self.survey_without(link);
            self.past_link_down(link);
            self.locate_link_down(self.last_event, link);
            self.holding_link_down(link);
        }
    }

    pub(super) fn message(&mut self, now: Now, link: LinkId, message: Message, wire_bytes: u64) {
        let Some(session) = self.sessions.get(&link) else { return };
        self.payer = Some(session.device);
        self.message_of(now, link, message, wire_bytes);
        self.payer = None;
    }

    fn message_of(&mut self, now: Now, link: LinkId, message: Message, wire_bytes: u64) {
        match message {
            Message::Known { counter } => self.known_came(now, link, counter),
            Message::Confirm(confirmation) => self.confirmation_came(now, link, confirmation),
            Message::Forget { device } => self.forget_device(now, device),
            Message::Undo { relayed_to } => self.undo_came(now, link, &relayed_to),
            Message::State { root, pending, condition } => self.state_came(now, link, root, pending, condition),
            Message::Groups { groups } => self.groups_came(now, link, &groups),
            Message::Buckets { groups } => self.buckets_came(now, link, groups),
            Message::Offer { buckets, entries, more } => {
                let entries = self.sound(now, link, entries, |(path, entry)| (path, entry));
                self.offer_came(now, link, &buckets, entries, more);
            }
            Message::Answer { entries, more } => {
                let entries = self.sound(now, link, entries, |(path, entry)| (path, entry));
                self.answer_came(now, link, entries, more);
            }
            Message::Changes { changes, relayed_to } => {
                let changes = self.sound(now, link, changes, |change| (&change.path, &change.entry));
                self.changes_came(now, link, changes, &relayed_to, wire_bytes);
            }
            Message::Acks { placed } => self.acks_came(now, link, &placed),
            Message::Get { wants } => {
                let files: Vec<_> = wants
                    .into_iter()
                    .map(|want| {
                        let file = self.locate(&want.path, want.content, want.size);
                        (want.id, file.filter(|file| file.size <= SMALL_FILE_BYTES))
                    })
                    .collect();
                for file in files.iter().filter_map(|(_, file)| file.as_ref()) {
                    self.note_served(link, &file.path, file.content);
                }
                self.act(Action::SendContents { to: link, files });
            }
            Message::Seek { path, content, size } => self.seek_came(link, &path, content, size),
            Message::Have { content, chunks } => self.have_came(now, link, content, &chunks),
            Message::Contents { contents } => self.contents_came(now, link, contents, wire_bytes),
            Message::Survey { id, paths } => self.surveyed_by(link, id, &paths),
            Message::Holdings { id, held } => self.holdings_came(link, id, &held),
            Message::History { id, path, named } => self.history_asked(link, id, path, named),
            Message::Pasts { id, pasts, more } => self.pasts_came(link, id, pasts, more),
            Message::Locate { id, sought } => self.locate_asked(link, id, sought),
            Message::Located { id, places } => self.located_by(now, link, id, &places),
            Message::Holds { id } => self.holds_asked(link, id),
            Message::Holding { id, sums, held } => self.holding_came(link, id, sums, held),
            Message::Conflicts { digest, news } => self.conflicts_came(now, link, digest, news),
        }
    }

    /// Where this machine has a content that a peer asks for; nothing that is ignored is served.
    pub(super) fn locate(&self, path: &SyncPath, content: ContentId, size: u64) -> Option<ServedFile> {
        let served = |path: &SyncPath, row: &Row| {
            let (entry, stat) = row.live_on_disk()?;
            let here = entry.file() == Some((content, size)) && !self.ignores(path, false);
            here.then(|| ServedFile { path: path.clone(), stat: *stat, content, size, kept: None })
        };
        let mut found = self.index.get(path).and_then(|row| served(path, &row));
        if found.is_none() {
            self.index.find_holder(&content, &mut |holder, row| {
                found = served(holder, row);
                found.is_some()
            });
        }
        found
    }

    /// A scan that knows nothing yet counts as something to come.
    fn state(&mut self) -> PeerState {
        let is_scanning = self.scan.finds() != ObservationSource::Walked;
        (self.index.root_digest(), self.active_wants() + u64::from(is_scanning), self.condition())
    }

    fn announce_state(&mut self, now: Now, link: LinkId) {
        let state = self.state();
        if let Some(session) = self.sessions.get_mut(&link) {
            session.relayed_to = Some(state);
            session.announced_at = now.mono;
            let (root, pending, condition) = state;
            self.send(vec![link], Message::State { root, pending, condition: Some(condition) });
        }
    }

    /// Tells peers how this machine stands, when that has changed and rested, or after a while.
    pub(super) fn announce_states_due(&mut self, now: Now) {
        self.name_conditions_due(now);
        let Some(due) = self.next_state() else { return };
        if due > now.mono {
            return;
        }
        let has_quiesced = self.state_changed_at.is_some_and(|since| since + STATE_QUIET_NS <= now.mono);
        if has_quiesced {
            self.state_changed_at = None;
        }
        let state = self.state();
        let links: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, s)| {
                (has_quiesced && s.relayed_to != Some(state)) || s.announced_at + STATE_EVERY_NS <= now.mono
            })
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            self.announce_state(now, link);
        }
        if has_quiesced {
            self.judge_states(now);
        }
    }

    /// What a peer said earlier may be true of us only now.
    fn judge_states(&mut self, now: Now) {
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.judge_state(now, link);
        }
    }

    pub(super) fn announce_state_to_all(&mut self, now: Now) {
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.recompare(now, link);
        }
    }

    pub(super) fn next_state(&self) -> Option<u64> {
        let rest = self.state_changed_at.map(|since| since + STATE_QUIET_NS);
        let periodic = self.sessions.values().map(|session| session.announced_at + STATE_EVERY_NS).min();
        rest.into_iter().chain(periodic).min().filter(|_| !self.sessions.is_empty())
    }

    fn state_came(&mut self, now: Now, link: LinkId, root: Digest, pending: u64, condition: Option<Condition>) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.theirs = Some((root, pending));
            session.condition = condition;
            session.announced_since = 0;
            session.refusals.ends();
            session.is_empty_handed |= (root, pending) == (Digests::empty_root(), 0);
        }
        if let Some(condition) = &condition {
            self.remind_of_confirmations(now, link, condition);
        }
        self.judge_state(now, link);
    }

    /// Compares the roots; the dialler begins to compare when they differ, unless changes are still under way here.
    fn judge_state(&mut self, now: Now, link: LinkId) {
        self.name_condition(now, link);
        let (root, active, ours) = self.state();
        let (paths, today) = (self.index.counts(), self.today(now));
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let Some((theirs, pending)) = session.theirs else { return };
        let trouble = |condition: &Condition| !condition.trouble().is_clear();
        if trouble(&ours) || session.condition.as_ref().is_some_and(trouble) {
            session.equality = session.equality.unsaid();
        }
        if theirs == root {
            session.refusals.forget();
            if pending == 0 {
                self.devices.compared_equal(now, today, &session.device);
            }
            if pending == 0 && active == 0 && session.equality == Equality::Unknown {
                session.equality = Equality::WereEqual;
            }
            if Self::is_in_sync(session, root, &ours) && session.equality != Equality::Said {
                session.equality = Equality::Said;
                let paths = paths.files + paths.directories + paths.symlinks;
                let peer = session.name.clone();
                self.out.push(Action::Report(Report::InSync { peer, paths }));
            }
            return;
        }
        let just_announced = self.state_changed_at.is_some() && session.equality != Equality::Unknown;
        if session.dialler
            && !session.is_comparing()
            && !just_announced
            && session.announced_since == 0
            && session.refusals.may_compare(now.mono)
        {
            self.compare(link);
        }
    }

    fn compare(&mut self, link: LinkId) {
        let groups = self.index.group_digests();
        if let Some(session) = self.sessions.get_mut(&link) {
            session.comparing = Comparing::Descending;
            self.send(vec![link], Message::Groups { groups });
        }
    }

    /// Something that was held back may be heard now: ask for it again.
    pub(super) fn recompare(&mut self, now: Now, link: LinkId) {
        self.announce_state(now, link);
        if let Some(session) = self.sessions.get_mut(&link) {
            session.announced_since = 0;
            session.refusals.forget();
        }
        self.judge_state(now, link);
    }

    fn groups_came(&mut self, now: Now, link: LinkId, theirs: &[Digest]) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if !session.refusals.begins() {
            return self.close(link, "a comparison before the one under way has ended");
        }
        if !session.refusals.may_compare(now.mono) {
            return self.send(vec![link], Message::Buckets { groups: Vec::new() });
        }
        self.compared_until = now.mono + COMPARED_NS;
        let ours = self.index.group_digests();
        let differing: Vec<Group> =
            (0..=Group::MAX).filter(|group| theirs.get(usize::from(*group)) != ours.get(usize::from(*group))).collect();
        let groups = differing.into_iter().map(|group| (group, self.index.bucket_digests(group))).collect();
        self.send(vec![link], Message::Buckets { groups });
    }

    fn buckets_came(&mut self, now: Now, link: LinkId, groups: Vec<(Group, Vec<Digest>)>) {
        let descending = |session: &Session| matches!(session.comparing, Comparing::Descending);
        if !self.sessions.get(&link).is_some_and(descending) {
            return self.close(link, "bucket digests that were not asked for");
        }
        let mut differing = VecDeque::new();
        for (group, theirs) in groups {
            let ours = self.index.bucket_digests(group);
            let changed = ours.iter().zip(&theirs).enumerate().filter(|(_, (a, b))| a != b);
            differing.extend(changed.map(|(low, _)| Bucket::from_be_bytes([group, low as u8])));
        }
        self.offer_next(now, link, differing);
    }

    /// Offers our entries of some of the differing buckets, or ends the comparison.
    fn offer_next(&mut self, now: Now, link: LinkId, mut left: VecDeque<Bucket>) {
        let (mut buckets, mut entries) = (Vec::new(), Vec::new());
        while buckets.len() < OFFER_BUCKETS
            && entries.len() < OFFER_ENTRIES
            && let Some(bucket) = left.pop_front()
        {
            entries.extend(self.index.bucket(bucket).into_iter().filter(may_be_announced));
            buckets.push(bucket);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if buckets.is_empty() {
            session.comparing = Comparing::No;
            return self.announce_state(now, link);
        }
        session.equality = Equality::Unknown;
        session.comparing = Comparing::Offering(left);
        self.send(vec![link], Message::Offer { buckets, entries, more: false });
    }

    fn offer_came(&mut self, now: Now, link: LinkId, buckets: &[Bucket], part: Vec<(SyncPath, Entry)>, more: bool) {
        self.compared_until = now.mono + COMPARED_NS;
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.equality = Equality::Unknown;
        let part: BTreeMap<SyncPath, Entry> = part.into_iter().collect();
        if more {
            let is_older = |ours: Row, theirs: &Entry| !ours.head.beats(theirs);
            let known =
                part.iter().filter(|(path, theirs)| self.index.get(path).is_none_or(|ours| is_older(ours, theirs)));
            session.offered.extend(known.map(|(path, _)| path_digest(path)));
            if session.offered.len() > OFFERED_CAP {
                return self.close(link, "an offer of too many entries");
            }
        } else {
            let offered = std::mem::take(&mut session.offered);
            self.answer(link, buckets, &offered, &part);
        }
        // Part by part: an offer of large entries is never in memory as a whole.
        for (path, entry) in part {
            self.apply_remote(now, link, &path, entry);
        }
    }

    /// What the offer lacked, or had older. `offered` is what its earlier parts held as we do, or newer.
    fn answer(
        &mut self,
        link: LinkId,
        buckets: &[Bucket],
        offered: &BTreeSet<Digest>,
        last: &BTreeMap<SyncPath, Entry>,
    ) {
        let was_offered = |path: &SyncPath| !offered.is_empty() && offered.contains(&path_digest(path));
        let is_news = |(path, ours): &(SyncPath, Entry)| match last.get(path) {
            Some(theirs) => ours.beats(theirs),
            None => !was_offered(path),
        };
        let wanted: BTreeSet<Bucket> = buckets.iter().copied().collect();
        let entries = wanted.into_iter().flat_map(|bucket| self.index.bucket(bucket));
        let entries = entries.filter(may_be_announced).filter(is_news).collect();
        self.send(vec![link], Message::Answer { entries, more: false });
    }

    fn answer_came(&mut self, now: Now, link: LinkId, entries: Vec<(SyncPath, Entry)>, more: bool) {
        let offering = |session: &Session| matches!(session.comparing, Comparing::Offering(_));
        if !self.sessions.get(&link).is_some_and(offering) {
            return self.close(link, "an answer to no offer");
        }
        for (path, entry) in entries {
            self.apply_remote(now, link, &path, entry);
        }
        if more {
            return;
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if let Comparing::Offering(left) = std::mem::take(&mut session.comparing) {
            self.offer_next(now, link, left);
        }
    }

    fn changes_came(&mut self, now: Now, link: LinkId, changes: Vec<Change>, relayed_to: &[DeviceId], wire_bytes: u64) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.announced_since += changes.len();
        let sender = session.device;
        let mut relayed_to = relayed_to.to_vec();
        relayed_to.push(sender);
        relayed_to.truncate(crate::model::version::SEEN_LIMIT);
        let total: u64 = changes.iter().filter_map(|c| c.body.as_ref()).map(|body| body.len() as u64).sum();
        for Change { path, entry, body } in changes {
            let share = match &body {
                Some(body) => (u128::from(wire_bytes) * body.len() as u128 / u128::from(total.max(1))) as u64,
                None => 0,
            };
            self.apply_live(now, link, path, entry, body, share, &relayed_to);
        }
    }

    #[expect(clippy::too_many_arguments)]
    fn apply_live(
        &mut self,
        now: Now,
        link: LinkId,
        path: SyncPath,
        entry: Entry,
        body: Option<Bytes>,
        wire_bytes: u64,
        relayed_to: &[DeviceId],
    ) {
        let effect = self.apply_remote(now, link, &path, entry.clone());
        match effect {
            None | Some(RemoteEffect::Older) => {}
            Some(RemoteEffect::Same) => {
                self.offer_source(&path, link, body, wire_bytes);
                self.owes_ack(link, &path, &entry);
            }
            Some(RemoteEffect::Wins) => {
                self.offer_source(&path, link, body, wire_bytes);
                self.owes_ack(link, &path, &entry);
                if self.wants.get(&path).is_some() {
                    self.pass_on(&path, relayed_to.to_vec());
                } else {
                    self.announce(now, Change { path, entry, body: None }, relayed_to.to_vec());
                }
            }
        }
    }

    /// Takes in what a peer says of a path; `None` when it is held back.
    fn apply_remote(&mut self, now: Now, link: LinkId, path: &SyncPath, entry: Entry) -> Option<RemoteEffect> {
        if is_far_ahead(now, &entry) {
            self.hold_dated_ahead(path, entry);
            return None;
        }
        if self.renewal == Renewal::Ending || self.is_long_gone(path, &entry) {
            return None;
        }
        if !self.pays(now, link, path, &entry) {
            return None;
        }
        self.is_corrected(path, &entry);
        let effect = self.take_in(now, path, entry);
        if effect == RemoteEffect::Wins {
            self.offer_source(path, link, None, 0);
        }
        Some(effect)
    }

    /// A deletion that no digest counts any more, of a path that is not known here: there is nothing that it could guard.
    fn is_long_gone(&self, path: &SyncPath, entry: &Entry) -> bool {
        let horizon = self.latest_day.saturating_sub(TOMBSTONE_NS);
        deleted_at(entry).is_some_and(|at| at < horizon) && self.index.get(path).is_none()
    }

    /// Whether whatever is found here is news to every linked peer.
    pub(super) fn is_news_to_all(&self) -> bool {
        self.sessions.values().all(|session| session.is_empty_handed)
    }

    /// Queues a change for all linked peers but those told already.
    pub(super) fn announce(&mut self, now: Now, change: Change, relayed_to: Vec<DeviceId>) {
        self.announce_over(now, change, None, relayed_to);
    }

    /// The same, with what was live there before, for the log.
    pub(super) fn announce_over(&mut self, now: Now, change: Change, was: Option<Kind>, relayed_to: Vec<DeviceId>) {
        self.state_changed(now);
        if !self.sessions.is_empty() {
            self.outgoing.push(OutgoingChange { change, was, relayed_to });
        }
    }

    /// Sends what is queued, in order, many changes to a message.
    pub(super) fn send_changes(&mut self, now: Now) {
        let mut queue = std::mem::take(&mut self.outgoing).into_iter().peekable();
        while let Some(OutgoingChange { change, was, relayed_to }) = queue.next() {
            let mut changes = vec![(change, was)];
            while changes.len() < CHANGES_A_MESSAGE
                && let Some(next) = queue.next_if(|next| next.relayed_to == relayed_to)
            {
                changes.push((next.change, next.was));
            }
            self.send_group(now, changes, relayed_to);
        }
    }

    fn send_group(&mut self, now: Now, changes: Vec<(Change, Option<Kind>)>, mut relayed_to: Vec<DeviceId>) {
        let to: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.met == Met::Acquainted && !relayed_to.contains(&s.device))
            .map(|(link, s)| (*link, s.device))
            .collect();
        if to.is_empty() {
            return;
        }
        relayed_to.push(self.config.device);
        relayed_to.extend(to.iter().map(|(_, device)| *device));
        let links: Vec<_> = to.into_iter().map(|(link, _)| link).collect();
        for (change, was) in &changes {
            if change.entry.version.author == self.config.device {
                self.follow(now, &change.path, &change.entry, was.clone(), &links);
            }
        }
        let changes = changes.into_iter().map(|(change, _)| change).collect();
        self.send(links, Message::Changes { changes, relayed_to });
    }

    pub(super) fn send(&mut self, to: Vec<LinkId>, message: Message) {
        let announces = match &message {
            Message::Offer { entries, .. } | Message::Answer { entries, .. } => !entries.is_empty(),
            Message::Changes { changes, .. } => !changes.is_empty(),
            _ => false,
        };
        for session in to.iter().filter(|_| announces).filter_map(|link| self.sessions.get(link)) {
            self.devices.announced(&session.device);
        }
        self.act(Action::Send { to, message });
    }

    pub(super) fn close(&mut self, link: LinkId, why: &str) {
        self.act(Action::Close { link, why: why.to_owned() });
    }

    pub(super) fn name_of(&self, device: &DeviceId) -> String {
        if *device == self.config.device {
            return self.config.name.clone();
        }
        self.names.get(device).cloned().unwrap_or_else(|| device.short())
    }

    pub(super) fn peer_statuses(&mut self) -> Vec<PeerStatus> {
        let (root, ours) = (self.index.root_digest(), self.condition());
        let status = |session: &Session| PeerStatus {
            device: session.device,
            name: session.name.clone(),
            in_sync: Self::is_in_sync(session, root, &ours),
            equal: session.is_equal_to(root),
            condition: session.condition,
            pending: session.pending(),
            clock_ahead_ns: session.clock.ahead_ns(),
            invalid: session.refusals.first().cloned(),
        };
        self.sessions.values().map(status).collect()
    }
}
