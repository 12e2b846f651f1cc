//! The route of undo: what comes back, and what is in no history that can be asked.
//!
//! May import `engine` and `model`. Deliberately not here: what was held or lost (`engine::undo`).

use super::elsewhere::everywhere;
use super::routes::{Answer, Done, Refusal, Shared, done};
use super::view::{BackView, HeldElsewhereView, UndoView};
use super::{KeptFacts, Request};
use crate::engine::{Back, BackFrom, Event};
use crate::model::{SyncPath, text};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Paths that are named in an answer.
const NAMED: usize = 10_000;

#[derive(Serialize, Deserialize)]
pub(crate) struct UndoQuery {
    /// Only say what would come back.
    #[serde(default)]
    pub dry_run: bool,
}

/// With nothing to be undone here, nothing is done.
pub(super) async fn undo(
    State(shared): State<Shared>,
    query: Result<Json<UndoQuery>, JsonRejection>,
) -> Answer<UndoView> {
    let Json(UndoQuery { dry_run }) = query?;
    let back = shared.handle.ask(Request::Undoable).await.ok_or_else(Refusal::busy)?;
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let elsewhere = HeldElsewhereView::all(&status);
    let needs_history = back.iter().any(|back| back.from == BackFrom::History);
    let (kept, silent) = if needs_history { everywhere(&shared, None).await? } else { Default::default() };
    // Who holds deletions has on its disk what was deleted elsewhere.
    let is_on_a_disk = elsewhere.iter().any(|held| held.deletions > 0);
    let without = if is_on_a_disk { BTreeSet::new() } else { lacking(&back, &kept) };
    let comes: Vec<_> = back.iter().filter(|back| !without.contains(&back.path)).collect();
    let view = UndoView {
        machine: text::escape(status.name.as_bytes()),
        back: comes.iter().take(NAMED).map(|back| view(back)).collect(),
        paths: comes.len() as u64,
        lost: without.iter().take(NAMED).map(SyncPath::to_text).collect(),
        dry_run,
        elsewhere,
        silent,
    };
    if !comes.is_empty() && !dry_run {
        let Json(Done { .. }) = done(&shared, Event::Undo { without }).await?;
    }
    Ok(Json(view))
}

/// Those that no history has which was asked. Equal in path and size is enough here: their bytes
/// are checked when they come.
fn lacking(back: &[Back], kept: &[KeptFacts]) -> BTreeSet<SyncPath> {
    let has: BTreeSet<_> = kept.iter().map(|kept| (&kept.path, kept.size)).collect();
    let lacks = |back: &&Back| back.from == BackFrom::History && !has.contains(&(&back.path, back.size));
    back.iter().filter(lacks).map(|back| back.path.clone()).collect()
}

fn view(back: &Back) -> BackView {
    let from = match back.from {
        BackFrom::Peers => "peers",
        BackFrom::Here => "here",
        BackFrom::History => "history",
    };
    BackView { path: back.path.to_text(), from: from.to_owned() }
}
