//! The routes of roles: which one this machine has, what that keeps apart, and what a person does
//! about it.
//!
//! What changes files in the group or here at once is asked about first: without `yes`, the answer
//! says what would happen. Deliberately not here: what follows (the engine decides).

use super::Request;
use super::answer::{Answer, ApiState, Ordered, Queried, Refusal};
use crate::engine::{DifferingPaths, Event, LocalChange, LocalKind};
use crate::model::{SyncPath, SyncRole, text};
use crate::views::roles::{LocalPathView, LocalView, RoleView, SettledView};
use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Paths that are named in an answer.
const NAMED: usize = 10_000;

async fn standing(shared: &ApiState) -> Result<RoleView, Refusal> {
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let condition = status.condition;
    Ok(RoleView {
        machine: text::escape(status.name.as_bytes()),
        role: condition.role.word().to_owned(),
        local: condition.local,
        not_installed: condition.not_installed,
        needs_yes: false,
    })
}

pub(super) async fn show(State(shared): State<ApiState>) -> Answer<RoleView> {
    Ok(Json(standing(&shared).await?))
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct RoleQuery {
    pub role: String,
    #[serde(default)]
    pub yes: bool,
}

pub(super) async fn set(State(shared): State<ApiState>, query: Ordered<RoleQuery>) -> Answer<RoleView> {
    let Json(RoleQuery { role, yes }) = query?;
    let role: SyncRole = role.parse().map_err(Refusal::malformed)?;
    if !shared.about.capability.writes() && role != SyncRole::ReceiveOnly {
        return Err(read_only());
    }
    let before = standing(&shared).await?;
    let announces = role.announces() && before.local > 0;
    let installs = role.installs() && before.not_installed > 0;
    if (announces || installs) && !yes && before.role != role.word() {
        return Ok(Json(RoleView { needs_yes: true, ..before }));
    }
    order(&shared, Event::Role(role)).await?;
    // What was to be announced or installed by that is so soon, and not yet.
    Ok(Json(RoleView { role: role.word().to_owned(), ..before }))
}

/// No other machine would take what it announces.
fn read_only() -> Refusal {
    Refusal::malformed(
        "this machine may only read, and stays receive-only; to write, join anew by an invitation \
         that was made without --read-only",
    )
}

#[derive(Deserialize, IntoParams)]
pub(super) struct LocalQuery {
    path: Option<SyncPath>,
    after: Option<SyncPath>,
    limit: Option<usize>,
}

pub(super) async fn list(State(shared): State<ApiState>, query: Queried<LocalQuery>) -> Answer<LocalView> {
    let Query(LocalQuery { path, after, limit }) = query?;
    let RoleView { machine, role, .. } = standing(&shared).await?;
    let DifferingPaths { mut local, mut not_installed } = differing(&shared, path.into_iter().collect()).await?;
    let (local_paths, not_installed_paths) = (local.len() as u64, not_installed.len() as u64);
    let limit = limit.unwrap_or(NAMED).clamp(1, NAMED);
    let next = page(&mut local, &mut not_installed, after.as_ref(), limit).map(|path| path.to_text());
    let (local, not_installed) = (named(&local), named(&not_installed));
    Ok(Json(LocalView { machine, role, local, not_installed, next, local_paths, not_installed_paths }))
}

/// Leaves the part of both lists that follows upon a path; where the next part begins.
fn page(
    local: &mut Vec<LocalChange>,
    not_installed: &mut Vec<LocalChange>,
    after: Option<&SyncPath>,
    limit: usize,
) -> Option<SyncPath> {
    let mut next: Option<SyncPath> = None;
    for list in [&mut *local, &mut *not_installed] {
        list.retain(|change| after.is_none_or(|after| change.path > *after));
        if list.len() > limit {
            let last = &list[limit - 1].path;
            next = Some(next.map_or_else(|| last.clone(), |known| known.min(last.clone())));
        }
    }
    // Neither list goes beyond where the other one was cut.
    let next = next?;
    for list in [local, not_installed] {
        list.retain(|change| change.path <= next);
    }
    Some(next)
}

async fn differing(shared: &ApiState, paths: Vec<SyncPath>) -> Result<DifferingPaths, Refusal> {
    shared.handle.ask(|answer| Request::Differing { paths, answer }).await.ok_or_else(Refusal::busy)
}

pub(super) fn named(changes: &[LocalChange]) -> Vec<LocalPathView> {
    let view = |change: &LocalChange| LocalPathView {
        path: change.path.to_text(),
        change: match change.kind {
            LocalKind::New => "new",
            LocalKind::Edited => "edited",
            LocalKind::Attributes => "attributes",
            LocalKind::Deleted => "deleted",
        }
        .to_owned(),
    };
    changes.iter().take(NAMED).map(view).collect()
}

/// With no paths, all.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct SettleQuery {
    #[serde(default)]
    pub paths: Vec<SyncPath>,
    #[serde(default)]
    pub yes: bool,
}

pub(super) async fn promote(State(shared): State<ApiState>, query: Ordered<SettleQuery>) -> Answer<SettledView> {
    let Json(SettleQuery { paths, .. }) = query?;
    if !shared.about.capability.writes() {
        return Err(read_only());
    }
    let changes = differing(&shared, paths.clone()).await?.local;
    refuse_while_stopped(&shared).await?;
    settle(&shared, changes, Event::Promote(paths)).await
}

pub(super) async fn revert(State(shared): State<ApiState>, query: Ordered<SettleQuery>) -> Answer<SettledView> {
    let Json(SettleQuery { paths, .. }) = query?;
    let changes = differing(&shared, paths.clone()).await?.local;
    settle(&shared, changes, Event::Revert(paths)).await
}

pub(super) async fn override_winners(
    State(shared): State<ApiState>,
    query: Ordered<SettleQuery>,
) -> Answer<SettledView> {
    let Json(SettleQuery { paths, yes }) = query?;
    let changes = differing(&shared, paths.clone()).await?.not_installed;
    if !yes {
        let (named, paths) = (named(&changes), changes.len() as u64);
        return Ok(Json(SettledView { changes: named, needs_yes: paths > 0, paths }));
    }
    refuse_while_stopped(&shared).await?;
    settle(&shared, changes, Event::Override(paths)).await
}

/// Answered once it is durable.
async fn order(shared: &ApiState, event: Event) -> Result<(), Refusal> {
    shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)
}

/// With nothing to be settled, nothing is done.
async fn settle(shared: &ApiState, changes: Vec<LocalChange>, event: Event) -> Answer<SettledView> {
    if !changes.is_empty() {
        order(shared, event).await?;
    }
    Ok(Json(SettledView { changes: named(&changes), paths: changes.len() as u64, needs_yes: false }))
}

/// A folder that may be the wrong one is announced to nobody.
pub(super) async fn refuse_while_stopped(shared: &ApiState) -> Result<(), Refusal> {
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    match status.halted {
        Some(why) => Err(Refusal::not_now(format!("syncing is stopped: {why}"))),
        None if status.paused => Err(Refusal::not_now("syncing is paused; run 'dirsync resume' first")),
        None if status.condition.stopped.is_some() => Err(Refusal::not_now("syncing is stopped; the log says why")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(names: &[&str]) -> Vec<LocalChange> {
        let change = |name: &&str| LocalChange { path: SyncPath::new(*name).unwrap(), kind: LocalKind::New };
        names.iter().map(change).collect()
    }

    fn names(changes: &[LocalChange]) -> Vec<String> {
        changes.iter().map(|change| change.path.to_text()).collect()
    }

    #[test]
    fn both_lists_are_paged_by_one_path_and_none_of_either_is_passed_over() {
        let (all_local, all_other) = (changes(&["a", "d", "e", "g", "h"]), changes(&["b", "c", "f"]));
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let (mut local, mut other) = (all_local.clone(), all_other.clone());
            after = page(&mut local, &mut other, after.as_ref(), 2);
            assert!(local.len() <= 2 && other.len() <= 2);
            seen.extend(names(&local).into_iter().chain(names(&other)));
            pages += 1;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, ["a", "b", "c", "d", "e", "f", "g", "h"]);
        assert!(pages > 1);
        let (mut local, mut other) = (all_local.clone(), all_other);
        assert_eq!(page(&mut local, &mut other, None, 5), None);
        assert_eq!(names(&local), names(&all_local));
    }
}
