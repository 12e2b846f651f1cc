//! One peer: greeting, comparing, live, gone.
//!
//! The dialler of a link compares: group digests, then bucket digests, then the differing buckets'
//! entries, some at a time. Whatever a divergence came from, it heals.

use crate::engine::Engine;
use crate::engine::api::action::{Action, ServedFile, SyncPhase};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{DAY_NS, NOT_TAKEN_AGAIN_NS, REFUSED_AGAIN_NS, SAY_MORE_NS, SAY_OTHER_NS, SERVED_HOLDERS};
use crate::engine::peers::Peers;
use crate::model::{ContentId, DeviceId, SyncPath};
use crate::wire::condition::Condition;
use crate::wire::features::Features;
use crate::wire::message::{Bucket, Digest, Message, SMALL_FILE_BYTES};
use std::collections::{BTreeSet, VecDeque};

/// How far a comparison that this end leads has come.
#[derive(Default)]
pub(in crate::engine) enum Comparing {
    #[default]
    No,
    /// `Groups` is out.
    Descending,
    /// Buckets still to be offered, while one offer is out.
    Offering(VecDeque<Bucket>),
}

/// Whether a peer has said yet what it knows of us: before that it is told nothing new, for we may
/// not be who it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Met {
    Linked,
    Acquainted,
}

/// A peer's clock beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum PeerClock {
    Unknown,
    Agrees,
    /// So far ahead (ns) that it is too much.
    Ahead(i64),
}

impl PeerClock {
    /// It says about the same as ours.
    pub fn agrees_on_the_day(self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Agrees => true,
            Self::Ahead(ahead_ns) => ahead_ns.unsigned_abs() < DAY_NS,
        }
    }

    pub fn ahead_ns(self) -> Option<i64> {
        if let Self::Ahead(ahead_ns) = self { Some(ahead_ns) } else { None }
    }
}

pub(in crate::engine) struct Session {
    pub device: DeviceId,
    pub name: String,
    pub(super) dialler: bool,
    /// What the peer understands beyond protocol 1.
    pub features: Features,
    pub met: Met,
    pub clock: PeerClock,
    pub(super) comparing: Comparing,
    /// Of the paths that the peer's offer in parts has named so far, those that it holds as we do,
    /// or newer.
    pub(super) offered: BTreeSet<Digest>,
    pub(super) standing: PeerStanding,
    pub(super) announced: AnnouncedToPeer,
    /// Large contents that it looks for, and is to be told of.
    pub seeks: VecDeque<ContentId>,
    pub refusals: Refusals,
}

/// What a peer was told last.
#[derive(Default)]
pub(in crate::engine) struct AnnouncedToPeer {
    pub(super) state: Option<PeerState>,
    pub(super) at: u64,
    /// It was told of all conflicts that are known here.
    pub conflicts: bool,
    /// When it was told of all confirmations, by `Now::mono`.
    pub confirmations: u64,
}

/// How a peer stands, as it says and as it compares.
pub(in crate::engine) struct PeerStanding {
    /// The peer's last state.
    pub(super) theirs: Option<(Digest, u64)>,
    pub condition: Option<Condition>,
    /// What the log said of that.
    pub said: ReportedCondition,
    /// Changes that it told since then: it stands otherwise by now, and says so when it has rested.
    pub(super) announced_since: usize,
    /// The peer held nothing at all when it was linked: contents found here by a first scan are
    /// news to it.
    pub(super) is_empty_handed: bool,
    /// What the two were at when it was looked at last.
    pub(super) phase: SyncPhase,
    pub(super) equality: Equality,
}

/// Whether both trees were equal since they were compared last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Equality {
    Unknown,
    WereEqual,
    /// And the log says that the two are in sync.
    Said,
}

impl Equality {
    pub(super) fn unsaid(self) -> Self {
        if self == Self::Said { Self::WereEqual } else { self }
    }
}

/// The tree, how much is still to come to it, and what keeps its machine from being done.
pub(in crate::engine) type PeerState = (Digest, u64, Condition);

impl Session {
    /// It said what it knows of this machine.
    pub fn is_acquainted(&self) -> bool {
        self.met == Met::Acquainted
    }

    pub fn is_comparing(&self) -> bool {
        !matches!(self.comparing, Comparing::No)
    }

    /// Whether it holds this tree, as it said last, and none of that is being compared.
    pub fn is_equal_to(&self, root: Digest) -> bool {
        !self.is_comparing() && self.standing.theirs.is_some_and(|(theirs, _)| theirs == root)
    }

    /// Paths still to be installed there, as it said last.
    pub fn pending(&self) -> u64 {
        self.standing.theirs.map_or(0, |(_, pending)| pending)
    }
}

impl Peers {
    pub(in crate::engine) fn send<I: Index>(&mut self, core: &mut Core<I>, to: Vec<LinkId>, message: Message) {
        let announces = match &message {
            Message::Offer { entries, .. } | Message::Answer { entries, .. } => !entries.is_empty(),
            Message::Changes { changes, .. } => !changes.is_empty(),
            _ => false,
        };
        for session in to.iter().filter(|_| announces).filter_map(|link| self.sessions.get(link)) {
            self.devices.announced(&session.device);
        }
        core.act(Action::Send { to, message });
    }

    pub(in crate::engine) fn name_of<I: Index>(&self, core: &Core<I>, device: &DeviceId) -> String {
        if *device == core.config.device {
            return core.config.name.clone();
        }
        self.names.get(device).cloned().unwrap_or_else(|| device.short())
    }
}

impl<I: Index> Core<I> {
    pub(in crate::engine) fn close(&mut self, link: LinkId, why: &str) {
        self.act(Action::Close { link, why: why.to_owned() });
    }
}

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn link_up(
        &mut self,
        now: Now,
        link: LinkId,
        device: DeviceId,
        name: String,
        dialler: bool,
        features: Features,
    ) {
        if self.peers.is_previewer_up(link, &features) {
            return;
        }
        self.peers.names.insert(device, name.clone());
        let today = self.core.today(now);
        self.peers.devices.meet(today, device, &name);
        self.peers.devices.see(now, device);
        let session = Session {
            device,
            name,
            dialler,
            features,
            met: Met::Linked,
            clock: PeerClock::Unknown,
            comparing: Comparing::No,
            offered: BTreeSet::new(),
            standing: PeerStanding {
                theirs: None,
                condition: None,
                said: ReportedCondition::default(),
                announced_since: 0,
                is_empty_handed: false,
                phase: SyncPhase::Done,
                equality: Equality::Unknown,
            },
            announced: AnnouncedToPeer { at: now.mono, ..AnnouncedToPeer::default() },
            seeks: VecDeque::new(),
            refusals: Refusals::default(),
        };
        self.peers.sessions.insert(link, session);
        self.peers.announce_known_to(&mut self.core, link);
        self.peers.list_seen(&self.core, now, link);
        self.peers.greet_with_members(&mut self.core, link);
        self.announce_state(now, link);
        self.greet_with_conflicts(link);
        self.seek_all(link);
        self.safety.undo_link_up(now);
        self.transfer.retry_all();
    }

    pub(in crate::engine) fn link_down(&mut self, link: LinkId) {
        self.peers.previewer_down(link);
        self.peers.reader_down(link);
        if let Some(session) = self.peers.sessions.remove(&link) {
            self.peers.devices.see(self.core.last_event, session.device);
            let now = self.core.last_event;
            self.peers.deliveries_without(&mut self.core, now, link, session.device);
            self.transfer.forget_source(&mut self.core, link);
            self.survey_without(link);
            self.peers.past_link_down(link);
            self.locate_link_down(self.core.last_event, link);
            self.peers.holding_link_down(link);
        }
    }

    pub(in crate::engine) fn message(&mut self, now: Now, link: LinkId, message: Message, wire_bytes: u64) {
        if self.peers.is_previewer(link) {
            return self.previewer_said(link, message);
        }
        let message = if self.peers.is_reader(link) { self.of_reader(now, link, message) } else { Some(message) };
        let Some(message) = message else { return };
        let Some(session) = self.peers.sessions.get(&link) else { return };
        self.peers.costs.payer = Some(session.device);
        self.message_of(now, link, message, wire_bytes);
        self.peers.costs.payer = None;
    }

    fn message_of(&mut self, now: Now, link: LinkId, message: Message, wire_bytes: u64) {
        match message {
            Message::Known { counter } => self.known_came(now, link, counter),
            Message::Members(roster) => self.peers.roster_came(&mut self.core, now, link, roster),
            Message::Confirm(confirmation) => self.confirmation_came(now, link, confirmation),
            Message::Forget { device } => self.peers.forget_came(&mut self.core, now, link, device),
            Message::Undo { relayed_to } => self.undo_came(now, link, &relayed_to),
            Message::State { root, pending, condition } => self.state_came(now, link, root, pending, condition),
            Message::Groups { groups } => self.peers.groups_came(&mut self.core, now, link, &groups),
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
            Message::Acks { placed } => self.peers.acks_came(&mut self.core, now, link, &placed),
            Message::Get { wants } => {
                let files: Vec<_> = wants
                    .into_iter()
                    .map(|want| {
                        let file = self.locate(&want.path, want.content, want.size);
                        (want.id, file.filter(|file| file.size <= SMALL_FILE_BYTES))
                    })
                    .collect();
                for file in files.iter().filter_map(|(_, file)| file.as_ref()) {
                    self.safety.note_served(link, &file.path, file.content);
                }
                self.core.act(Action::SendContents { to: link, files });
            }
            Message::Seek { path, content, size } => self.seek_came(link, &path, content, size),
            Message::Have { content, chunks } => self.transfer.have_came(&mut self.core, now, link, content, &chunks),
            Message::Contents { contents } => self.contents_came(now, link, contents, wire_bytes),
            Message::Survey { id, paths } => self.surveyed_by(link, id, &paths),
            Message::Holdings { id, held } => self.holdings_came(link, id, &held),
            Message::History { id, path, named } => self.core.history_asked(link, id, path, named),
            Message::Pasts { id, pasts, more } => self.peers.pasts_came(&mut self.core, link, id, pasts, more),
            Message::Locate { id, sought } => self.locate_asked(link, id, sought),
            Message::Located { id, places } => self.located_by(now, link, id, &places),
            Message::Holds { id, pending } => self.holds_asked(link, id, pending),
            Message::Holding { id, sums, held } => self.peers.holding_came(&mut self.core, link, id, sums, held),
            Message::Conflicts { digest, news } => self.conflicts_came(now, link, digest, news),
        }
    }

    /// Where this machine has a content that a peer asks for; nothing that is ignored is served.
    pub(in crate::engine) fn locate(&self, path: &SyncPath, content: ContentId, size: u64) -> Option<ServedFile> {
        let served = |path: &SyncPath, row: &Row| {
            let (entry, stat) = row.live_on_disk()?;
            let here = entry.file() == Some((content, size)) && !self.ignores(path, false);
            here.then(|| ServedFile { path: path.clone(), stat: *stat, content, size, kept: None })
        };
        let mut found = self.core.index.get(path).and_then(|row| served(path, &row));
        if found.is_none() {
            let mut seen = 0;
            self.core.index.find_holder(&content, &mut |holder, row| {
                seen += 1;
                found = served(holder, row);
                found.is_some() || seen == SERVED_HOLDERS
            });
        }
        found
    }
}

/// What the log said last of a peer's condition.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct ReportedCondition {
    pub(super) trouble: Condition,
    pub(super) at: Option<u64>,
    /// There is more to say then.
    pub due: Option<u64>,
}

impl ReportedCondition {
    /// What is to be said by now of what stands so; `None`: nothing, or nothing yet.
    pub(super) fn next(&mut self, now: u64, trouble: Condition) -> Option<Condition> {
        self.due = None;
        if trouble == self.trouble {
            return None;
        }
        let rest = if trouble.is_alike(&self.trouble) { SAY_MORE_NS } else { SAY_OTHER_NS };
        let due = self.at.map_or(0, |at| at + rest);
        if due > now {
            self.due = Some(due);
            return None;
        }
        (self.trouble, self.at) = (trouble, Some(now));
        Some(trouble)
    }
}

/// What was refused of one peer on its link.
#[derive(Debug, Default)]
pub(in crate::engine) struct Refusals {
    /// The first refused entry since the last comparison, and why.
    pub(super) first: Option<String>,
    pub(super) compared_at: u64,
    pub(super) said_at: Option<u64>,
    /// The peer began a comparison, and has not said since how it stands: it says that at the end
    /// of each.
    pub(super) is_begun: bool,
    /// It only reads, and has what would win here.
    pub(super) is_not_taken: bool,
}

impl Refusals {
    /// The peer begins a comparison; `false`: within another.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.is_begun, true)
    }

    pub fn ends(&mut self) {
        self.is_begun = false;
    }

    pub fn first(&self) -> Option<&String> {
        self.first.as_ref()
    }

    pub(super) fn note_not_taken(&mut self) {
        self.is_not_taken = true;
    }

    /// Both hold the same tree, or a person asks to compare again.
    pub fn forget(&mut self) {
        self.first = None;
        self.is_not_taken = false;
    }

    /// Whether a comparison may begin. With refused entries it would find the same difference
    /// again, so it may only once an hour.
    pub fn may_compare(&mut self, now: u64) -> bool {
        if self.first.is_some() && now < self.compared_at + REFUSED_AGAIN_NS {
            return false;
        }
        if self.is_not_taken && now < self.compared_at + NOT_TAKEN_AGAIN_NS {
            return false;
        }
        self.first = None;
        self.is_not_taken = false;
        self.compared_at = now;
        true
    }
}
