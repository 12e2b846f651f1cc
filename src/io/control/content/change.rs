//! The routes that change the folder: something is deleted or moved, as a user would do it.
//!
//! What is replaced or deleted goes to history. Each is done only to what the request was checked
//! against: what comes out of its place is looked at once more. May import `engine` and `model`.
//! Deliberately not here: how it is done (`io/fs/install/change.rs`).

use super::super::Request;
use super::super::answer::{Answer, ApiState, Ordered, Refusal, blocking};
use super::conditions::{self, Expected, Tags};
use super::{Named, check_standing, kind_at};
use crate::engine::{Cause, Stat, StatKind};
use crate::io::fs::install::RestoreError;
use crate::model::{ContentId, SyncPath};
use crate::views::status::DoneView;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use std::io;
use utoipa::ToSchema;

/// Moves what is at `from`, with all that is below it, to `to`, where nothing may be. `content`:
/// only if that is what the file at `from` holds.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct MoveQuery {
    pub from: SyncPath,
    pub to: SyncPath,
    #[schema(value_type = Option<String>)]
    pub content: Option<ContentId>,
}

pub(in super::super) async fn delete(
    State(shared): State<ApiState>,
    path: Named,
    headers: HeaderMap,
) -> Answer<DoneView> {
    let Path(path) = path?;
    let tags = conditions::if_match(&headers);
    let expect = expected(&shared, &path, tags.as_ref()).await?;
    let (world, at) = (shared.world.clone(), path.clone());
    let done = blocking(move || Ok(world.delete(&at, &expect))).await?;
    done.map_err(|why| refusal(why, tags.is_some()))?;
    Ok(Json(DoneView { done: true }))
}

pub(in super::super) async fn move_path(State(shared): State<ApiState>, query: Ordered<MoveQuery>) -> Answer<DoneView> {
    let Json(MoveQuery { from, to, content }) = query?;
    let tags = content.map(|content| Tags::These(vec![conditions::tag(&content)]));
    let expect = expected(&shared, &from, tags.as_ref()).await?;
    check_standing(&shared, &to, expect.kind == StatKind::Directory).await?;
    let world = shared.world.clone();
    let done = blocking(move || Ok(world.move_path(&from, &to, &expect))).await?;
    done.map_err(|why| refusal(why, tags.is_some()))?;
    Ok(Json(DoneView { done: true }))
}

/// What is at a path that may be changed, and which it must still be when it comes out of there.
async fn expected(shared: &ApiState, path: &SyncPath, tags: Option<&Tags>) -> Result<Stat, Refusal> {
    refuse_while_halted(shared).await?;
    let there = kind_at(shared, path).await?;
    check_standing(shared, path, there == Some(StatKind::Directory)).await?;
    match there {
        None if tags.is_some() => return Err(Refusal::precondition(format!("there is no '{path}' here"))),
        None => return Err(Refusal::unknown(format!("there is no '{path}' here"))),
        Some(StatKind::File | StatKind::Directory | StatKind::Symlink) => {}
        Some(_) => return Err(Refusal::not_now(format!("'{path}' is something special, and is left alone"))),
    }
    if let Some(tags) = tags.filter(|tags| **tags != Tags::Any) {
        return known(shared, path, tags).await;
    }
    let (world, at) = (shared.world.clone(), path.clone());
    let stat = blocking(move || world.stat_at(&at)).await?;
    stat.ok_or_else(|| Refusal::unknown(format!("there is no '{path}' here")))
}

/// What the file at a path was when it was hashed, if it held one of these contents then.
async fn known(shared: &ApiState, path: &SyncPath, tags: &Tags) -> Result<Stat, Refusal> {
    let row = shared.handle.ask(|answer| Request::Row { path: path.clone(), answer }).await;
    let row = row.ok_or_else(Refusal::busy)?;
    let known = row
        .as_ref()
        .and_then(|row| row.live_on_disk())
        .filter(|(entry, _)| entry.file().is_some_and(|(content, _)| tags.allow(&conditions::tag(&content))));
    known.map(|(_, stat)| *stat).ok_or_else(|| changed(path))
}

/// What is at a path that gets a content: a file, or nothing.
pub(super) async fn expected_or_none(
    shared: &ApiState,
    path: &SyncPath,
    expected: &Expected,
) -> Result<Option<Stat>, Refusal> {
    refuse_while_halted(shared).await?;
    let there = kind_at(shared, path).await?;
    check_standing(shared, path, false).await?;
    match (there, expected) {
        (None, Expected::Tags(_)) => Err(changed(path)),
        (None, _) => Ok(None),
        (Some(_), Expected::Nothing) => Err(Refusal::precondition(format!("something is at '{path}'"))),
        (Some(StatKind::File), Expected::Tags(tags)) if *tags != Tags::Any => known(shared, path, tags).await.map(Some),
        (Some(StatKind::File), _) => {
            let (world, path) = (shared.world.clone(), path.clone());
            Ok(blocking(move || world.stat_at(&path)).await?)
        }
        (Some(_), _) => Err(Refusal::not_now(format!("'{path}' is no regular file; delete it or move it away first"))),
    }
}

fn changed(path: &SyncPath) -> Refusal {
    Refusal::precondition(format!("'{path}' does not hold what the request says"))
}

/// A folder that may be the wrong one is left alone.
async fn refuse_while_halted(shared: &ApiState) -> Result<(), Refusal> {
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    status.halted.map_or(Ok(()), |why| Err(Refusal::not_now(format!("syncing is stopped: {why}"))))
}

/// `is_conditional`: the request said what is to be there.
pub(super) fn refusal(why: RestoreError, is_conditional: bool) -> Refusal {
    let text = why.to_string();
    match why {
        RestoreError::Busy(path) if is_conditional => changed(&path),
        RestoreError::Disk(trouble) if matches!(trouble.cause, Cause::NoSpace | Cause::HistoryFull) => {
            Refusal::new(StatusCode::INSUFFICIENT_STORAGE, text)
        }
        RestoreError::Disk(_) => Refusal::from(io::Error::other(text)),
        _ => Refusal::not_now(text),
    }
}
