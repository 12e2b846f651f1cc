//! The routes of what is still to come, here and to a linked machine, of what is on its way, and of
//! what needs attention.
//!
//! A linked machine is asked, as it alone knows. Deliberately not here: the questions on the wire
//! (`engine::holding`).

use super::Request;
use super::answer::{Answer, ApiState, Queried, Refusal};
use super::elsewhere::{holding, shown};
use super::membership::called;
use crate::engine::{HeldPaths, NeededPage, PeerStatus, Status};
use crate::io::journal::problem_sentence;
use crate::model::SyncPath;
use crate::views::need::{NeedView, PeerDiffView, ProblemsView, TransfersView};
use crate::views::status::{EntryView, PathNote, StatusView};
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::IntoParams;

/// In one answer.
const PAGE: usize = 1000;
/// Entries in each list of a comparison.
const NAMED: usize = 10_000;

#[derive(Deserialize, IntoParams)]
pub(super) struct NeedQuery {
    /// A linked machine, by its name or the first digits of its id; missing: this one.
    peer: Option<String>,
    after: Option<SyncPath>,
    limit: Option<usize>,
}

pub(super) async fn need(State(shared): State<ApiState>, query: Queried<NeedQuery>) -> Answer<NeedView> {
    let Query(NeedQuery { peer, after, limit }) = query?;
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let Some(peer) = peer else {
        let page = needed(&shared, after, limit.unwrap_or(PAGE).clamp(1, PAGE)).await?;
        return Ok(Json(NeedView {
            machine: shown(&status.name),
            device: status.device,
            paths: page.paths,
            entries: page.rows.iter().map(|(path, row)| EntryView::new(path, row)).collect(),
            next: page.next.map(|path| path.to_text()),
        }));
    };
    if after.is_some() {
        return Err(Refusal::malformed("what another machine needs comes in one answer; leave 'after' out"));
    }
    let peer = linked(&status, &peer)?;
    let (entries, paths) = needed_there(&shared, peer).await?;
    Ok(Json(NeedView { machine: shown(&peer.name), device: peer.device, paths, entries, next: None }))
}

#[derive(Deserialize, IntoParams)]
pub(super) struct PeerQuery {
    /// A linked machine, by its name or the first digits of its id.
    peer: String,
}

pub(super) async fn diff(State(shared): State<ApiState>, query: Queried<PeerQuery>) -> Answer<PeerDiffView> {
    let Query(PeerQuery { peer }) = query?;
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let peer = linked(&status, &peer)?;
    let (there, paths_there) = needed_there(&shared, peer).await?;
    let (mut here, mut paths_here, mut after) = (Vec::new(), 0, None);
    while here.len() < NAMED {
        let NeededPage { rows, paths, next } = needed(&shared, after, PAGE).await?;
        paths_here = paths;
        here.extend(rows.iter().map(|(path, row)| EntryView::new(path, row)));
        after = next;
        if after.is_none() {
            break;
        }
    }
    here.truncate(NAMED);
    let is_deletion = |entry: &EntryView| entry.kind == "deleted";
    let (delete_here, download) = here.into_iter().partition(is_deletion);
    let (delete_there, upload) = there.into_iter().partition(is_deletion);
    Ok(Json(PeerDiffView {
        machine: shown(&peer.name),
        device: peer.device,
        in_sync: peer.in_sync,
        download,
        delete_here,
        upload,
        delete_there,
        paths_here,
        paths_there,
    }))
}

pub(super) async fn transfers(state: State<ApiState>) -> Answer<TransfersView> {
    let Json(status) = super::status::status(state).await?;
    let StatusView { transfers, uploads, queued_files, queued_bytes, under_way, .. } = status;
    Ok(Json(TransfersView { incoming: transfers, outgoing: uploads, queued_files, queued_bytes, under_way }))
}

#[derive(Deserialize, IntoParams)]
pub(super) struct ProblemQuery {
    after: Option<SyncPath>,
    limit: Option<usize>,
}

pub(super) async fn problems(State(shared): State<ApiState>, query: Queried<ProblemQuery>) -> Answer<ProblemsView> {
    let Query(ProblemQuery { after, limit }) = query?;
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
    let found = shared.handle.ask(|answer| Request::Problems { after, limit, answer }).await;
    let found = found.ok_or_else(Refusal::busy)?;
    let next = found.last().filter(|_| found.len() == limit).map(|(path, _)| path.to_text());
    let note = |(path, problem)| PathNote { path: SyncPath::to_text(&path), text: problem_sentence(&problem) };
    Ok(Json(ProblemsView { problems: found.into_iter().map(note).collect(), next }))
}

async fn needed(shared: &ApiState, after: Option<SyncPath>, rows: usize) -> Result<NeededPage, Refusal> {
    shared.handle.ask(|answer| Request::Needed { after, rows, answer }).await.ok_or_else(Refusal::busy)
}

/// What a linked machine says that is to come to it: of those that are known here, as the group has
/// them; and how many they are in all.
async fn needed_there(shared: &ApiState, peer: &PeerStatus) -> Result<(Vec<EntryView>, u64), Refusal> {
    let machines = holding(shared, true).await?;
    let answer = machines.into_iter().find(|machine| machine.device == peer.device).and_then(|machine| machine.held);
    let HeldPaths { paths, pending, .. } = answer.ok_or_else(|| {
        Refusal::not_now(format!(
            "{} did not say what it needs: it is busy, of an older version, or not linked any more",
            shown(&peer.name)
        ))
    })?;
    let paths: Vec<SyncPath> = paths.into_iter().map(|held| held.path).collect();
    let rows = shared.handle.ask(|answer| Request::RowsAt { paths: paths.clone(), answer }).await;
    let rows = rows.ok_or_else(Refusal::busy)?;
    let entry = |(path, row): (&SyncPath, Option<_>)| row.map(|row| EntryView::new(path, &row));
    Ok((paths.iter().zip(rows).filter_map(entry).collect(), pending))
}

fn linked<'a>(status: &'a Status, named: &str) -> Result<&'a PeerStatus, Refusal> {
    match called(&status.peers, named, |peer| (&peer.name, peer.device))[..] {
        [one] => Ok(one),
        [] => Err(Refusal::unknown(format!("no machine '{}' is linked now; 'dirsync peers' names them", shown(named)))),
        _ => Err(Refusal::unknown("several machines are called so; give the first digits of the id")),
    }
}
