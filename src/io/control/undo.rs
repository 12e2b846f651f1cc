//! The route of undo: what comes back, and what nobody has who can be asked.
//!
//! May import `engine` and `model`. Deliberately not here: what was held or lost, and where its
//! contents are (`engine::undo`).

use super::Request;
use super::answer::{Answer, ApiState, Ordered, Refusal};
use super::elsewhere::{ASK_EVERY, holding, shown, ticket};
use super::view::name_elsewhere;
use crate::engine::{Back, BackFrom, Event, Undone};
use crate::model::{SyncPath, text};
use crate::views::held::{BackView, HeldElsewhereView, UndoView};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Paths that are named in an answer.
const NAMED: usize = 10_000;

#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct UndoQuery {
    /// Only say what would come back.
    #[serde(default)]
    pub dry_run: bool,
}

/// With nothing to be undone here, nothing is done.
pub(super) async fn undo(State(shared): State<ApiState>, query: Ordered<UndoQuery>) -> Answer<UndoView> {
    let Json(UndoQuery { dry_run }) = query?;
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    if !status.condition.role.announces() {
        let why = "this machine is receive-only, and announces nothing: undo at another one, or take local changes back \
                   with 'dirsync revert'";
        return Err(Refusal::not_now(why));
    }
    let Undone { back, lost, still_held, silent } = order(&shared, dry_run).await?;
    let mut elsewhere = HeldElsewhereView::all(&status);
    let mut silent: Vec<_> = silent.iter().map(|name| shown(name)).collect();
    if back.is_empty() && lost.is_empty() && still_held.is_empty() {
        name_elsewhere(&mut elsewhere, &mut silent, holding(&shared, false).await?);
    }
    let named = |paths: &[SyncPath]| paths.iter().take(NAMED).map(SyncPath::to_text).collect();
    Ok(Json(UndoView {
        machine: text::escape(status.name.as_bytes()),
        back: back.iter().take(NAMED).map(view).collect(),
        paths: back.len() as u64,
        lost: named(&lost),
        still_held: named(&still_held),
        dry_run,
        elsewhere,
        silent,
    }))
}

/// Answered once linked machines and history were asked for what is to come back.
async fn order(shared: &ApiState, dry_run: bool) -> Result<Undone, Refusal> {
    let _one_at_a_time = shared.undoing.lock().await;
    let ticket = ticket();
    let event = Event::Undo { ticket, dry_run };
    shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)?;
    loop {
        let taken = shared.handle.ask(|answer| Request::Undone { ticket, answer }).await.ok_or_else(Refusal::busy)?;
        if let Some(undone) = taken {
            return Ok(undone);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn view(back: &Back) -> BackView {
    let from = match back.from {
        BackFrom::Peers => "peers",
        BackFrom::Here => "here",
        BackFrom::History => "history",
    };
    BackView { path: back.path.to_text(), from: from.to_owned() }
}
