//! The routes of the local API: each asks the loop or the world, and answers in JSON.
//!
//! May import `engine` and `model`. Deliberately not here: the socket, and the names of the fields
//! (`view.rs`).

use super::answer::{Answer, ApiState, BODY_BYTES, Ordered, Queried, Refusal};
use super::elsewhere::holding;
use super::table::{self, ApiRequest};
use super::view::name_elsewhere;
use super::{
    Request, conflicts, content, events, identity, ignores, invite, leave, membership, metrics, need, orders, past,
    roles, status, undo, verify, why,
};
use crate::engine::Event;
use crate::io::store::index::{JOURNAL_LINES, WantedLines};
use crate::model::SyncPath;
use crate::views::events::EventData;
use crate::views::held::HeldView;
use crate::views::ignores::IgnoresView;
use crate::views::status::{DoneView, EntryView, HealthView, ListView, LogView, NameView, ReceivedView, VersionView};
use crate::wire::packet::is_clean_name;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use utoipa::IntoParams;

/// Held paths that are named in an answer.
const HELD_PATHS: usize = 10_000;
/// Rows in one answer of `ls`, so that the loop is never held up for long.
const PAGE_ROWS: usize = 1000;
/// Where the OpenAPI document is.
const DESCRIPTION: &str = "/api/openapi.json";

/// What the API can be asked.
pub(super) fn requests() -> Vec<ApiRequest> {
    type Row = ApiRequest;
    vec![
        Row::get("/healthz", "Whether the API answers; asks neither the loop nor the disk", healthz).needs_no_token(),
        Row::get("/version", "The version of the daemon", version),
        Row::get("/status", "How this machine stands, and the linked ones", status::status).tagged(),
        Row::get_by("/peers", "The linked machines, or all that are known", status::peers).tagged(),
        Row::text(
            "/metrics",
            "Numbers for a monitor, as OpenMetrics has them",
            metrics::OPEN_METRICS,
            metrics::metrics,
        ),
        Row::get_by("/ls", "The files as the group has them, at most 1,000 at once", list).tagged(),
        Row::get_content::<content::ContentQuery, _, _>(
            "/content/{*path}",
            "What a file holds, now or in history",
            content::get,
        ),
        Row::put_content::<content::upload::UploadQuery, ReceivedView, _, _>(
            "/content/{*path}",
            "Sends what a file is to hold, whole or in parts",
            content::upload::put,
        ),
        Row::delete_content("/content/{*path}", "Deletes a file or an empty folder", content::change::delete),
        Row::post_of("/move", "Moves a file or a folder to where nothing is", content::change::move_path),
        Row::get_whole::<IgnoresView, _, _>("/ignores", "The ignore patterns", ignores::show),
        Row::put_whole::<_, IgnoresView, _, _>("/ignores", "Writes them", ignores::write),
        Row::post_of("/ignores/preview", "What these patterns would change", ignores::preview),
        Row::get_by("/need", "What is still to come, here or to a linked machine", need::need),
        Row::get_by("/diff", "What this machine and a linked one still have to do", need::diff),
        Row::get("/transfers", "Contents on their way, here and from here", need::transfers),
        Row::get("/traffic", "What went over all links in the last hour", status::traffic),
        Row::get_by("/problems", "What needs attention, at most 1,000 at once", need::problems),
        Row::get_by("/log", "What happened, oldest first", log),
        Row::stream_by::<_, EventData, _, _>("/events", "What happens, as it happens", events::follow),
        Row::get_by("/why", "Why a path is as it is", why::why),
        Row::get_by("/history", "What was replaced or deleted, here and on the linked machines", past::history),
        Row::post_of("/restore", "Brings back what a path held", past::restore),
        Row::get_by("/conflicts", "Conflicts, oldest first, at most 1,000 at once", conflicts::list).tagged(),
        Row::get_by("/conflicts/diff", "How the loser differs from what is there now", conflicts::diff),
        Row::post_of("/conflicts/keep", "Decides the conflicts of a path", conflicts::keep),
        Row::get("/verify", "What is hashed again, and what is suspect", verify::show),
        Row::post_of("/verify", "Begins to hash everything again, or joins in", verify::begin),
        Row::post("/verify/stop", "Stops it", verify::stop),
        Row::post_of("/verify/decide", "Says what a suspect file is", verify::decide),
        Row::get_by("/held", "What waits for a person here, and at the linked machines", held),
        Row::post("/confirm", "Lets go ahead what is held", confirm),
        Row::post_of("/undo", "Takes back what is held", undo::undo),
        Row::get("/invite", "The invitations that are open, without their codes", invite::list),
        Row::post_of("/invite", "Makes an invitation", invite::invite),
        Row::post("/invite/cancel", "Closes all invitations", invite::cancel),
        Row::get("/role", "What this machine does with changes", roles::show),
        Row::post_of("/role", "Sets it", roles::set),
        Row::get_by("/local", "What differs from the group on this disk, and stays so", roles::list),
        Row::post_of("/promote", "Announces local changes", roles::promote),
        Row::post_of("/revert", "Takes local changes back", roles::revert),
        Row::post_of("/override", "Makes this disk what the group has", roles::override_winners),
        Row::post_of("/remove", "Removes a machine from the group for good", membership::remove),
        Row::post_of("/rotate", "Gives the group another secret", membership::rotate),
        Row::post_of("/rename", "Gives this machine another name; the daemon begins anew", rename),
        Row::post_of("/leave", "Leaves the group for good; the daemon ends", leave::leave),
        Row::post("/pause", "Stops sending and receiving", orders::pause),
        Row::post("/resume", "Goes on after that", orders::resume),
        Row::post_of("/scan", "Looks at the whole folder, or at what is in one", orders::scan),
        Row::get("/limit", "How much is sent a second, at most", orders::limit),
        Row::post_of("/limit", "Sets it, for now and for later", orders::set_limit),
    ]
}

/// What every listener answers.
pub(super) fn router(state: ApiState) -> Router {
    routes().layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(state)
}

/// What the Unix socket answers: the API, and what no other listener may answer.
pub(super) fn router_of_owner(state: ApiState) -> Router {
    routes().merge(identity::routes()).layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(state)
}

pub(super) fn routes() -> Router<ApiState> {
    let requests = requests();
    let described = Bytes::from(table::document(&requests).to_json().expect("it is made of text and numbers"));
    table::routes(requests)
        .route(DESCRIPTION, get(async move || ([(CONTENT_TYPE, "application/json")], described.clone())))
        .fallback(async || Refusal::unknown("there is no such request; is dirsync newer than the daemon?"))
}

/// That the API answers. It asks neither the loop nor the disk.
async fn healthz(_: State<ApiState>) -> Answer<HealthView> {
    Ok(Json(HealthView { ok: true }))
}

async fn version(_: State<ApiState>) -> Answer<VersionView> {
    Ok(Json(VersionView { version: env!("CARGO_PKG_VERSION").to_owned() }))
}

#[derive(Deserialize, IntoParams)]
struct ListQuery {
    /// The folder, or a single path; the root where missing.
    path: Option<SyncPath>,
    after: Option<SyncPath>,
    limit: Option<usize>,
    /// Only what is directly in the folder.
    #[serde(default)]
    children: bool,
}

async fn list(State(shared): State<ApiState>, query: Queried<ListQuery>) -> Answer<ListView> {
    let Query(ListQuery { path, after, limit, children }) = query?;
    let mut entries = Vec::new();
    if let Some(path) = path.clone().filter(|_| after.is_none()) {
        let row = shared.handle.ask(|answer| Request::Row { path: path.clone(), answer }).await;
        match row.ok_or_else(Refusal::busy)? {
            Some(row) => entries.push(EntryView::new(&path, &row)),
            None => return Err(Refusal::unknown(format!("'{path}' is not known here; is it ignored, or never was?"))),
        }
    }
    let limit = limit.unwrap_or(PAGE_ROWS).clamp(1, PAGE_ROWS);
    let rows = shared.handle.ask(|answer| Request::Rows { dir: path, children, after, limit, answer }).await;
    let rows = rows.ok_or_else(Refusal::busy)?;
    entries.extend(rows.iter().map(|(path, row)| EntryView::new(path, row)));
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    for entry in entries.iter_mut().filter(|entry| !entry.here && !entry.local) {
        entry.not_installed = !status.condition.role.installs();
    }
    Ok(Json(ListView { entries, more: rows.len() == limit }))
}

#[derive(Deserialize, IntoParams)]
struct LogQuery {
    n: Option<usize>,
    path: Option<SyncPath>,
    /// Nanoseconds since 1970.
    since_ns: Option<u64>,
    /// Only later lines than this one.
    after: Option<u64>,
}

async fn log(State(shared): State<ApiState>, query: Queried<LogQuery>) -> Answer<LogView> {
    let Query(LogQuery { n, path, since_ns, after }) = query?;
    let limit = n.unwrap_or(100).min(JOURNAL_LINES as usize);
    let wanted = WantedLines { limit, path, since: since_ns.unwrap_or(0), after: after.unwrap_or(0) };
    let lines = shared.handle.ask(|answer| Request::Log { wanted, answer }).await.ok_or_else(Refusal::busy)?;
    Ok(Json(LogView { lines: lines.into_iter().map(Into::into).collect() }))
}

/// What is held here, and how much elsewhere.
pub(super) async fn all_held(shared: &ApiState) -> Result<HeldView, Refusal> {
    held_page(shared, None, HELD_PATHS).await
}

async fn held_page(shared: &ApiState, after: Option<SyncPath>, limit: usize) -> Result<HeldView, Refusal> {
    let held = shared.handle.ask(|answer| Request::Held { after, limit, answer }).await;
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let mut view = HeldView::new(held.ok_or_else(Refusal::busy)?, &status);
    view.next = view.held.last().filter(|_| view.held.len() == limit).map(|last| last.path.clone());
    Ok(view)
}

#[derive(Deserialize, IntoParams)]
struct HeldQuery {
    after: Option<SyncPath>,
    limit: Option<usize>,
}

/// Linked machines are asked for the paths that they hold.
async fn held(State(shared): State<ApiState>, query: Queried<HeldQuery>) -> Answer<HeldView> {
    let Query(HeldQuery { after, limit }) = query?;
    let machines = holding(&shared, false).await?;
    let mut view = held_page(&shared, after, limit.unwrap_or(HELD_PATHS).clamp(1, HELD_PATHS)).await?;
    name_elsewhere(&mut view.elsewhere, &mut view.silent, machines);
    Ok(Json(view))
}

/// Answers with what was held, once the word is durable; with nothing held here, nothing is done.
async fn confirm(State(shared): State<ApiState>) -> Answer<HeldView> {
    let mut held = all_held(&shared).await?;
    if held.is_empty() {
        name_elsewhere(&mut held.elsewhere, &mut held.silent, holding(&shared, false).await?);
    } else {
        let Json(DoneView { .. }) = orders::done(&shared, Event::Confirm).await?;
    }
    Ok(Json(held))
}

async fn rename(State(shared): State<ApiState>, wanted: Ordered<NameView>) -> Answer<NameView> {
    let Json(NameView { name }) = wanted?;
    if !is_clean_name(&name) {
        return Err(Refusal::malformed("a name is 1 to 63 of the characters A-Z a-z 0-9 . _ -"));
    }
    if shared.about.name_is_given {
        return Err(Refusal::malformed(
            "its name is given by --name (or DIRSYNCD_NAME) where it is started; change it there, \
             or leave that out",
        ));
    }
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    if status.name != name {
        let order = |answer| Request::Rename { name: name.clone(), answer };
        shared.handle.ask(order).await.ok_or_else(Refusal::busy)?;
    }
    Ok(Json(NameView { name }))
}
