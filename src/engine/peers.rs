//! The machines at the other ends of links: what they are told, asked and believed.
//!
//! Deliberately not here: contents (`transfer`), and bytes on the wire (`wire`).

pub(super) mod compare;
pub(super) mod condition;
pub(super) mod costs;
pub(super) mod delivery;
pub(super) mod devices;
pub(super) mod holding;
pub(super) mod identity;
pub(super) mod live;
pub(super) mod membership;
pub(super) mod past;
mod phase;
pub(super) mod previewers;
pub(super) mod readers;
pub(super) mod refuse;
pub(super) mod seekers;
pub(super) mod session;
pub(super) mod state;
pub(super) mod survey;

use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::api::status::Tally;
use crate::model::{DeviceId, Version};
use crate::wire::features::CONFIRM;
use condition::Standing;
use costs::Costs;
use delivery::Deliveries;
use devices::Devices;
use holding::HoldQueries;
use identity::{PeerCounters, Renewal};
use live::OutgoingChange;
use membership::Membership;
use past::Pasts;
use readers::LimitedLinks;
use session::Session;
use std::collections::{BTreeMap, VecDeque};
use survey::Survey;

/// What is known of other machines, and what they are to be told.
pub(super) struct Peers {
    sessions: BTreeMap<LinkId, Session>,
    limited: LimitedLinks,
    news: ToAnnounce,
    names: BTreeMap<DeviceId, String>,
    devices: Devices,
    counters: PeerCounters,
    renewal: Renewal,
    costs: Costs,
    membership: Membership,
    deliveries: Deliveries,
    queries: Queries,
    standing: Standing,
}

/// What is to be told.
#[derive(Default)]
pub(super) struct ToAnnounce {
    outgoing: VecDeque<OutgoingChange>,
    /// Since when peers have not been told of a changed state.
    state_changed_at: Option<u64>,
    compared_until: u64,
    /// When it is looked at next what this machine is at with each peer.
    phases_due: u64,
}

/// What linked machines are asked for a person.
#[derive(Default)]
pub(super) struct Queries {
    past: Pasts,
    survey: Survey,
    holds: HoldQueries,
}

impl Peers {
    /// Entries that peers still have to tell this machine of, as they say.
    pub(super) fn pending(&self) -> u64 {
        self.sessions.values().map(Session::pending).sum()
    }

    pub(super) fn are_comparing(&self) -> bool {
        self.sessions.values().any(Session::is_comparing)
    }

    /// The links whose session is meant.
    pub(super) fn links_where(&self, is_meant: impl Fn(&Session) -> bool) -> Vec<LinkId> {
        let meant = self.sessions.iter().filter(|(_, session)| is_meant(session));
        meant.map(|(link, _)| *link).collect()
    }

    pub(super) fn load(index: &impl Index) -> Self {
        Self {
            sessions: BTreeMap::new(),
            limited: LimitedLinks::default(),
            news: ToAnnounce::default(),
            names: BTreeMap::new(),
            devices: Devices::load(index),
            counters: PeerCounters::load(index),
            renewal: Renewal::May,
            costs: Costs::default(),
            membership: Membership::load(index),
            deliveries: Deliveries::default(),
            queries: Queries::default(),
            standing: Standing::default(),
        }
    }
}

/// What other rooms ask of this one, and tell it.
impl Peers {
    /// The links that are up.
    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> + Clone {
        self.sessions.keys().copied()
    }

    pub(super) fn is_linked(&self, link: LinkId) -> bool {
        self.sessions.contains_key(&link)
    }

    /// No machine is linked.
    pub(super) fn is_alone(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn name_of_link(&self, link: LinkId) -> Option<String> {
        self.sessions.get(&link).map(|session| session.name.clone())
    }

    pub(super) fn device_of(&self, link: LinkId) -> Option<DeviceId> {
        self.sessions.get(&link).map(|session| session.device)
    }

    pub(super) fn has_feature(&self, link: LinkId, feature: &str) -> bool {
        self.sessions.get(&link).is_some_and(|session| session.features.has(feature))
    }

    /// A linked machine's clock has about the same day as ours.
    pub(super) fn a_clock_agrees(&self) -> bool {
        self.sessions.values().any(|session| session.clock.agrees_on_the_day())
    }

    /// All conflicts are announced to a peer once a link. Whether they are now.
    pub(super) fn begin_conflicts(&mut self, link: LinkId) -> bool {
        let session = self.sessions.get_mut(&link);
        session.is_some_and(|session| !std::mem::replace(&mut session.announced.conflicts, true))
    }

    /// All confirmations are announced to a peer. Whether it understands them.
    pub(super) fn begin_confirmations(&mut self, now: Now, link: LinkId) -> bool {
        let session = self.sessions.get_mut(&link).filter(|session| session.features.has(CONFIRM));
        session.map(|session| session.announced.confirmations = now.mono).is_some()
    }

    /// When all confirmations were last announced to a peer that this machine is acquainted with
    /// (`Now::mono`).
    pub(super) fn confirmations_announced(&self, link: LinkId) -> Option<u64> {
        let session = self.sessions.get(&link).filter(|session| session.is_acquainted());
        session.map(|session| session.announced.confirmations)
    }

    /// Entries wait to be told.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.news.outgoing.is_empty()
    }

    /// Until then, derivations wait for a comparison that a peer leads (`Now::mono`).
    pub(super) fn compared_until(&self) -> u64 {
        self.news.compared_until
    }

    /// Peers are to be told of a changed state.
    pub(super) fn note_state_changed(&mut self, now: Now) {
        self.news.state_changed_at = Some(now.mono);
    }

    /// Whose message is being handled: it pays for what that costs.
    pub(super) fn payer(&self) -> Option<DeviceId> {
        self.costs.payer
    }

    pub(super) fn costs_are_due(&self) -> bool {
        self.costs.is_due()
    }

    /// The counters that a version names are in use.
    pub(super) fn note_counters(&mut self, version: &Version) {
        self.counters.note(version);
    }

    pub(super) fn purge_soon(&mut self, now: Now) {
        self.devices.purge_soon(now);
    }

    pub(super) fn start_days(&mut self, now: Now, today: u64) {
        self.devices.start(now, today);
    }

    pub(super) fn stop_survey(&mut self) {
        self.queries.survey.stop();
    }

    pub(super) fn survey_tally(&self) -> Option<Tally> {
        self.queries.survey.tally()
    }

    pub(super) fn next_hold_query(&self) -> Option<u64> {
        self.queries.holds.next()
    }

    /// This is a new device already, and takes no other id in this run.
    pub(super) fn was_renewed(&mut self) {
        self.renewal = Renewal::Done;
    }

    /// The device takes a new id: nothing happens any more.
    pub(super) fn is_ending(&self) -> bool {
        self.renewal == Renewal::Ending
    }

    pub(super) fn inspection_begins(&mut self, rehash: bool) {
        self.standing.open_inspections += usize::from(!rehash);
    }

    pub(super) fn inspection_ends(&mut self, rehash: bool) {
        self.standing.open_inspections -= usize::from(!rehash);
    }

    /// When something here is due, by `Now::mono`.
    pub(super) fn next_due(&self) -> Option<u64> {
        let due = [
            self.queries.survey.due(),
            self.queries.past.next(),
            self.deliveries.next(),
            self.next_state(),
            self.next_naming(),
        ];
        due.into_iter().flatten().chain([self.devices.next_purge()]).min()
    }
}
