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
pub(super) mod past;
pub(super) mod refuse;
pub(super) mod session;
pub(super) mod state;
pub(super) mod survey;

use crate::engine::api::event::LinkId;
use crate::engine::api::index::Index;
use crate::model::DeviceId;
use condition::Standing;
use costs::Costs;
use delivery::Deliveries;
use devices::Devices;
use holding::HoldQueries;
use identity::{PeerCounters, Renewal};
use live::OutgoingChange;
use past::Pasts;
use session::Session;
use std::collections::BTreeMap;
use survey::Survey;

/// What is known of other machines, and what they are to be told.
pub(super) struct Peers {
    pub(super) sessions: BTreeMap<LinkId, Session>,
    pub(super) news: ToAnnounce,
    pub(super) names: BTreeMap<DeviceId, String>,
    pub(super) devices: Devices,
    pub(super) counters: PeerCounters,
    pub(super) renewal: Renewal,
    pub(super) costs: Costs,
    /// Whose message is being handled: it pays for what that costs.
    pub(super) payer: Option<DeviceId>,
    pub(super) deliveries: Deliveries,
    pub(super) queries: Queries,
    pub(super) standing: Standing,
}

/// What is to be announced.
#[derive(Default)]
pub(super) struct ToAnnounce {
    pub(super) outgoing: Vec<OutgoingChange>,
    /// Since when peers have not been told of a changed state.
    pub(super) state_changed_at: Option<u64>,
    pub(super) compared_until: u64,
}

/// What linked machines are asked for a person.
#[derive(Default)]
pub(super) struct Queries {
    pub(super) past: Pasts,
    pub(super) survey: Survey,
    pub(super) holds: HoldQueries,
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
            news: ToAnnounce::default(),
            names: BTreeMap::new(),
            devices: Devices::load(index),
            counters: PeerCounters::load(index),
            renewal: Renewal::May,
            costs: Costs::default(),
            payer: None,
            deliveries: Deliveries::default(),
            queries: Queries::default(),
            standing: Standing::default(),
        }
    }
}
