//! The routes of `dirsync verify`: begin, ask how far it is, stop, and decide about what was found.
//!
//! May import `engine` and `model`. Deliberately not here: the names of the fields (`verified.rs`).

use super::Request;
use super::answer::{Answer, ApiState, Ordered, Refusal};
use crate::engine::{Decision, Event, Status, Verification, Verify};
use crate::model::SyncPath;
use crate::views::verify::LEAST_RATE;
use crate::views::verify::VerifyView;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A person waits for it: as fast as most disks read.
const BYTES_A_SECOND: u64 = 500 << 20;

#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct VerifyQuery {
    pub path: Option<SyncPath>,
    #[serde(default)]
    pub peers: bool,
    pub bytes_a_second: Option<u64>,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DecideQuery {
    pub path: SyncPath,
    #[schema(value_type = String)]
    pub choice: Decision,
}

pub(super) async fn show(State(shared): State<ApiState>) -> Answer<VerifyView> {
    Ok(Json(VerifyView::from(verification(&shared).await?)))
}

/// Begins, or joins the one that is under way if it is the same.
pub(super) async fn begin(State(shared): State<ApiState>, query: Ordered<VerifyQuery>) -> Answer<VerifyView> {
    let Json(VerifyQuery { path, peers, bytes_a_second }) = query?;
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    if let Some(why) = stands_still(&status) {
        return Err(Refusal::malformed(why));
    }
    let known = verification(&shared).await?;
    match known.run.filter(|run| !run.is_over) {
        Some(run) if run.below != path || run.asks_peers != peers => {
            let of = run.below.map_or("everything".to_owned(), |path| format!("'{path}'"));
            let how = match (run.asks_peers, peers) {
                (true, false) => " with --peers",
                (false, true) => " without --peers",
                _ => "",
            };
            let why = format!("{of} is being verified{how} now; wait for it, or stop it with 'dirsync verify --stop'");
            return Err(Refusal::malformed(why));
        }
        // One that was begun slowly goes on as fast as it is wanted now.
        Some(_) => {
            let rate = rate(bytes_a_second);
            order(&shared, Event::Verify(Verify { below: path, bytes_a_second: rate, peers })).await?;
        }
        None => {
            if let Some(path) = path.clone() {
                let row = shared.handle.ask(|answer| Request::Row { path: path.clone(), answer }).await;
                if row.ok_or_else(Refusal::busy)?.is_none() {
                    return Err(Refusal::unknown(format!("'{path}' is not known here; is it ignored, or never was?")));
                }
            }
            let bytes_a_second = rate(bytes_a_second);
            order(&shared, Event::Verify(Verify { below: path, bytes_a_second, peers })).await?;
        }
    }
    show(State(shared)).await
}

fn rate(bytes_a_second: Option<u64>) -> u64 {
    bytes_a_second.unwrap_or(BYTES_A_SECOND).max(LEAST_RATE)
}

/// Nothing is read meanwhile: who waits for it would wait for ever.
fn stands_still(status: &Status) -> Option<String> {
    match &status.halted {
        Some(why) => Some(format!("nothing is verified while syncing is stopped: {why}")),
        None if status.paused => {
            Some("nothing is verified while syncing is paused; go on first with 'dirsync resume'".to_owned())
        }
        None => None,
    }
}

pub(super) async fn stop(State(shared): State<ApiState>) -> Answer<VerifyView> {
    order(&shared, Event::StopVerifying).await?;
    show(State(shared)).await
}

pub(super) async fn decide(State(shared): State<ApiState>, query: Ordered<DecideQuery>) -> Answer<VerifyView> {
    let Json(DecideQuery { path, choice }) = query?;
    if !verification(&shared).await?.suspects.iter().any(|suspect| suspect.path == path) {
        return Err(Refusal::unknown(format!("'{path}' is not suspect; 'dirsync status' lists what is")));
    }
    order(&shared, Event::Decide { path, decision: choice }).await?;
    show(State(shared)).await
}

async fn verification(shared: &ApiState) -> Result<Verification, Refusal> {
    shared.handle.ask(Request::Verification).await.ok_or_else(Refusal::busy)
}

async fn order(shared: &ApiState, event: Event) -> Result<(), Refusal> {
    shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)
}
