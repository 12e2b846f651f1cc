//! The machines at the other ends of links: what they are told, asked and believed.
//!
//! Deliberately not here: contents (`transfer`), and bytes on the wire (`wire`).

pub(in crate::engine) mod compare;
pub(in crate::engine) mod condition;
pub(in crate::engine) mod costs;
pub(in crate::engine) mod delivery;
pub(in crate::engine) mod devices;
pub(in crate::engine) mod holding;
pub(in crate::engine) mod identity;
pub(in crate::engine) mod live;
pub(in crate::engine) mod past;
pub(in crate::engine) mod refuse;
pub(in crate::engine) mod session;
pub(in crate::engine) mod state;
pub(in crate::engine) mod survey;

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
pub(in crate::engine) struct Peers {
    pub(in crate::engine) sessions: BTreeMap<LinkId, Session>,
    pub(in crate::engine) news: ToAnnounce,
    pub(in crate::engine) names: BTreeMap<DeviceId, String>,
    pub(in crate::engine) devices: Devices,
    pub(in crate::engine) counters: PeerCounters,
    pub(in crate::engine) renewal: Renewal,
    pub(in crate::engine) costs: Costs,
    /// Whose message is being handled: it pays for what that costs.
    pub(in crate::engine) payer: Option<DeviceId>,
    pub(in crate::engine) deliveries: Deliveries,
    pub(in crate::engine) queries: Queries,
    pub(in crate::engine) standing: Standing,
}

/// What is to be announced.
#[derive(Default)]
pub(in crate::engine) struct ToAnnounce {
    pub(in crate::engine) outgoing: Vec<OutgoingChange>,
    /// Since when peers have not been told of a changed state.
    pub(in crate::engine) state_changed_at: Option<u64>,
    pub(in crate::engine) compared_until: u64,
}

/// What linked machines are asked for a person.
#[derive(Default)]
pub(in crate::engine) struct Queries {
    pub(in crate::engine) past: Pasts,
    pub(in crate::engine) survey: Survey,
    pub(in crate::engine) holds: HoldQueries,
}

impl Peers {
    /// Entries that peers still have to tell this machine of, as they say.
    pub(in crate::engine) fn pending(&self) -> u64 {
        self.sessions.values().map(Session::pending).sum()
    }

    pub(in crate::engine) fn are_comparing(&self) -> bool {
        self.sessions.values().any(Session::is_comparing)
    }

    /// The links whose session is meant.
    pub(in crate::engine) fn links_where(&self, is_meant: impl Fn(&Session) -> bool) -> Vec<LinkId> {
        let meant = self.sessions.iter().filter(|(_, session)| is_meant(session));
        meant.map(|(link, _)| *link).collect()
    }

    pub(in crate::engine) fn load(index: &impl Index) -> Self {
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
