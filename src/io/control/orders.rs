//! The routes of plain orders: to pause and go on, to look at the folder, and how much to send.
//!
//! Deliberately not here: what follows (the engine decides).

use super::Request;
use super::answer::{Answer, ApiState, Ordered, Refusal};
use super::roles::refuse_while_stopped;
use crate::engine::{Event, Hint, StatKind};
use crate::model::SyncPath;
use crate::views::status::{DoneView, LimitView};
use crate::views::verify::LEAST_RATE;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(super) async fn pause(State(shared): State<ApiState>) -> Answer<DoneView> {
    done(&shared, Event::Pause(true)).await
}

pub(super) async fn resume(State(shared): State<ApiState>) -> Answer<DoneView> {
    done(&shared, Event::Pause(false)).await
}

/// Answered once it is durable.
pub(super) async fn done(shared: &ApiState, event: Event) -> Answer<DoneView> {
    shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)?;
    Ok(Json(DoneView { done: true }))
}

/// Without a path, all.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct ScanQuery {
    pub path: Option<SyncPath>,
}

/// Answered once it has begun.
pub(super) async fn scan(State(shared): State<ApiState>, query: Ordered<ScanQuery>) -> Answer<DoneView> {
    let Json(ScanQuery { path }) = query?;
    refuse_while_stopped(&shared).await?;
    let Some(path) = path else { return done(&shared, Event::Scan(None)).await };
    match shared.world.kind_at(&path) {
        Some(StatKind::Directory) => done(&shared, Event::Scan(Some(path))).await,
        Some(_) => done(&shared, Event::Hint { path, hint: Hint::Closed }).await,
        None => done(&shared, Event::Hint { path, hint: Hint::Gone }).await,
    }
}

pub(super) async fn limit(State(shared): State<ApiState>) -> Answer<LimitView> {
    Ok(Json(LimitView { bytes_a_second: shared.world.limit() }))
}

/// Answered once it is durable, and holds.
pub(super) async fn set_limit(State(shared): State<ApiState>, wanted: Ordered<LimitView>) -> Answer<LimitView> {
    let Json(LimitView { bytes_a_second: rate }) = wanted?;
    if rate.is_some_and(|rate| rate < LEAST_RATE) {
        return Err(Refusal::malformed("at least 65,536 bytes a second, or null for no limit"));
    }
    shared.handle.ask(|answer| Request::KeepLimit { rate, answer }).await.ok_or_else(Refusal::busy)?;
    shared.world.set_limit(rate);
    Ok(Json(LimitView { bytes_a_second: rate }))
}
