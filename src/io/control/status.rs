//! The routes of the status, and of the machines in it.
//!
//! Deliberately not here: how it becomes a view (`view.rs`), and its form for monitors
//! (`metrics.rs`).

use super::Request;
use super::answer::{Answer, ApiState, Queried, Refusal};
use crate::io::fs::rlimits;
use crate::views::status::{DeviceView, PeerView, PeersView, StatusView, WatchesView};
use crate::views::traffic::TrafficView;
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::IntoParams;

pub(super) async fn status(State(shared): State<ApiState>) -> Answer<StatusView> {
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let world = &shared.world;
    let mut view = StatusView::new(&shared.about, status, &world.links(), world.disk_stalled());
    view.peers_not_reached = world.unreached().into_iter().map(Into::into).collect();
    (view.history_bytes, view.history_limit_bytes) = world.history_load();
    let (folders, is_all) = world.watched();
    view.watches = WatchesView { folders: folders as u64, most: rlimits::most_watches(), partial: !is_all };
    view.limit_bytes_a_second = world.limit();
    Ok(Json(view))
}

pub(super) async fn traffic(State(shared): State<ApiState>) -> Answer<TrafficView> {
    Ok(Json(shared.hour.view()))
}

#[derive(Deserialize, IntoParams)]
pub(super) struct PeersQuery {
    /// Also those that are known and not linked.
    #[serde(default)]
    all: bool,
}

pub(super) async fn peers(state: State<ApiState>, query: Queried<PeersQuery>) -> Answer<PeersView> {
    let Query(PeersQuery { all }) = query?;
    let Json(StatusView { mut peers, devices, removed, this_machine, .. }) = status(state).await?;
    if all {
        // Who was linked between the two lists is in the first.
        let is_away = |known: &&DeviceView| peers.iter().all(|peer| peer.device != known.device);
        let away: Vec<_> = devices.iter().filter(is_away).map(PeerView::away).collect();
        peers.extend(away);
        peers.extend(removed.iter().map(PeerView::removed));
        peers.extend(this_machine);
    }
    Ok(Json(PeersView(peers)))
}
