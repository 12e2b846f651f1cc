//! The routes of contents: what a file holds, now and in any machine's history.
//!
//! Each content goes by its id, which is its `ETag`: what is sent is what that says, or the
//! connection breaks before its end. May import `engine` and `model`. Deliberately not here: how it
//! is sent (`content/body.rs`), and what a request asks of it (`content/conditions.rs`).

mod body;
pub(super) mod change;
pub(super) mod conditions;
pub(super) mod upload;

use super::answer::{ApiState, Queried, Refusal, blocking};
use super::elsewhere::{everywhere, fetch_one};
use super::past::is_named;
use super::{KeptFacts, Request};
use crate::engine::{Problem, ServedFile, StatKind, WaitsFor, Why};
use crate::io::fs::beneath;
use crate::io::journal::problem_sentence;
use crate::model::{ContentId, Kind, SyncPath, text};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use conditions::{Conditions, Precondition};
use serde::Deserialize;
use std::fs::File;
use std::io;
use utoipa::IntoParams;

/// Whether the body is a content, which is taken off as it comes.
pub(super) fn comes_in_parts(asked: &Parts) -> bool {
    let is_content = ["/api/v1/content/", "/v1/content/"].iter().any(|route| asked.uri.path().starts_with(route));
    is_content && asked.method == Method::PUT
}

/// The path that a request names in its address.
pub(super) type Named = Result<Path<SyncPath>, PathRejection>;

#[derive(Deserialize, IntoParams)]
pub(super) struct ContentQuery {
    /// The time of something in history; missing, what is there now.
    version: Option<String>,
    /// In whose history, by name or id; missing, in this machine's, else in any that has it.
    machine: Option<String>,
}

/// A file that was opened, and what it held when that was known.
pub(super) struct FoundContent {
    file: File,
    path: SyncPath,
    content: ContentId,
    size: u64,
}

/// Also answers `HEAD`: the router leaves the body out.
pub(super) async fn get(
    State(shared): State<ApiState>,
    path: Named,
    query: Queried<ContentQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(path) = path?;
    let Query(ContentQuery { version, machine }) = query?;
    let found = match (version, machine) {
        (None, None) => now(&shared, path).await?,
        (None, Some(_)) => return Err(Refusal::malformed("machine is of a version; name that as well")),
        (Some(version), machine) => {
            let time = version.parse().map_err(|_| Refusal::malformed("version is no number of nanoseconds"))?;
            in_history(&shared, path, time, machine).await?
        }
    };
    let tag = conditions::tag(&found.content);
    let conditions = Conditions::of(&headers, method == Method::GET);
    match conditions.check(&tag) {
        Precondition::Met => body::answer(found, &tag, &conditions),
        Precondition::NotModified => Ok(body::not_modified(&tag)),
        Precondition::Failed => Err(Refusal::precondition("the content is not the one that If-Match names")),
    }
}

/// What is at a path on this disk now, if the index knows its content.
async fn now(shared: &ApiState, path: SyncPath) -> Result<FoundContent, Refusal> {
    check(shared, &path).await?;
    let row = shared.handle.ask(|answer| Request::Row { path: path.clone(), answer }).await;
    let row = row.ok_or_else(Refusal::busy)?;
    let changing = || Refusal::not_now(format!("'{path}' has just changed here and is not hashed yet; ask again"));
    let (entry, stat) = row.as_ref().and_then(|row| row.live_on_disk()).ok_or_else(changing)?;
    let Kind::File { size, content } = entry.kind else { return Err(changing()) };
    let (world, served) =
        (shared.world.clone(), ServedFile { path: path.clone(), stat: *stat, content, size, kept: None });
    let file = blocking(move || world.open_served(&served)).await?;
    Ok(FoundContent { file: file.ok_or_else(changing)?, path, content, size })
}

/// That a regular file is at a path, whose content may be asked for.
async fn check(shared: &ApiState, path: &SyncPath) -> Result<(), Refusal> {
    let there = kind_at(shared, path).await?;
    check_standing(shared, path, there == Some(StatKind::Directory)).await?;
    let what = match there {
        Some(StatKind::File) => return Ok(()),
        None => {
            let hint = "'dirsync history' shows what is kept of it";
            return Err(Refusal::unknown(format!("there is no '{path}' here; {hint}")));
        }
        Some(StatKind::Directory) => "a folder",
        Some(StatKind::Symlink) => "a link",
        Some(_) => "no regular file",
    };
    Err(Refusal::not_now(format!("'{path}' is {what}, and has no content")))
}

async fn kind_at(shared: &ApiState, path: &SyncPath) -> Result<Option<StatKind>, Refusal> {
    let (world, path) = (shared.world.clone(), path.clone());
    Ok(blocking(move || Ok(world.kind_at(&path))).await?)
}

/// That a path is synced, and nothing about it waits for a person.
async fn check_standing(shared: &ApiState, path: &SyncPath, is_dir: bool) -> Result<(), Refusal> {
    let why = shared.handle.ask(|answer| Request::Why { path: path.clone(), is_dir, answer }).await;
    match why.ok_or_else(Refusal::busy)? {
        Why::Ignored(covering) | Why::NewlyUnignored(covering) => {
            let pattern = text::escape(covering.pattern.as_bytes());
            return Err(Refusal::not_now(format!("'{path}' is ignored, by the pattern '{pattern}'")));
        }
        Why::Pending { waits_for: WaitsFor::Person, .. } => {
            let ways = "'dirsync confirm' and 'dirsync undo' decide about it";
            return Err(Refusal::not_now(format!("'{path}' is held back; {ways}")));
        }
        Why::Problem {
            problem: problem @ (Problem::Suspect(_) | Problem::Torn { .. } | Problem::TornNow { .. }),
            ..
        } => {
            return Err(Refusal::not_now(format!("'{path}' needs attention: {}", problem_sentence(&problem))));
        }
        _ => {}
    }
    Ok(())
}

/// What was replaced or deleted at that time. A request that is given up leaves nothing behind: the
/// fetching goes on to its end.
async fn in_history(
    shared: &ApiState,
    path: SyncPath,
    time: u64,
    machine: Option<String>,
) -> Result<FoundContent, Refusal> {
    let shared = shared.clone();
    let fetching = tokio::spawn(async move {
        let (kept, _) = everywhere(&shared, Some(path.clone())).await?;
        let mut kept = chosen(kept, &path, time, machine.as_deref()).ok_or_else(|| {
            let whose = machine.as_deref().map_or_else(String::new, |name| format!(" of '{}'", escaped(name)));
            Refusal::unknown(format!("the history{whose} has no version of '{path}' of that time"))
        })?;
        if machine.is_some() {
            kept.name.clear();
        }
        of_kept(&shared, kept).await
    });
    fetching.await.map_err(|_| Refusal::failed("the fetching broke off; ask again"))?
}

fn escaped(name: &str) -> String {
    text::escape(name.as_bytes())
}

/// By its time here, or by that on the machine.
fn chosen(kept: Vec<KeptFacts>, path: &SyncPath, time: u64, machine: Option<&str>) -> Option<KeptFacts> {
    let mut own = kept.into_iter().filter(|kept| kept.path == *path);
    own.find_map(|mut kept| {
        let is_it = is_named(kept.time, Some(time));
        let Some(machine) = machine else { return is_it.then_some(kept) };
        kept.elsewhere.retain(|place| {
            let is_there = place.machine == machine || place.device.to_string() == machine;
            is_there && (is_it || is_named(place.time, Some(time)))
        });
        (!kept.elsewhere.is_empty()).then_some(kept)
    })
}

async fn of_kept(shared: &ApiState, kept: KeptFacts) -> Result<FoundContent, Refusal> {
    let (world, path) = (shared.world.clone(), kept.path.clone());
    let is_gone = || Refusal::unknown(format!("that version of '{}' is no file, or is gone", kept.path));
    let file = if kept.name.is_empty() {
        let staged = fetch_one(shared, &kept).await?;
        Some(blocking(move || world.open_staged(staged)).await?)
    } else {
        let name = kept.name.clone();
        blocking(move || world.open_kept(&name)).await?
    };
    let file = file.ok_or_else(is_gone)?;
    let (file, (content, size)) = blocking(move || {
        let held = beneath::content_of(&file)?;
        Ok::<_, io::Error>((file, held))
    })
    .await?;
    Ok(FoundContent { file, path, content, size })
}

#[cfg(test)]
mod tests {
    use super::super::HistoryHolder;
    use super::*;
    use crate::model::{DeviceId, Mode};

    #[test]
    fn a_version_is_named_by_its_time_here_or_on_the_machine_that_keeps_it() {
        let path = SyncPath::new("f").unwrap();
        let holder = |n: u8, time| HistoryHolder { device: DeviceId([n; 32]), machine: format!("m{n}"), time };
        let kept = |name: &str, time, elsewhere| KeptFacts {
            name: name.to_owned(),
            path: path.clone(),
            time,
            reason: "replaced",
            size: 1,
            mtime: 0,
            mode: Mode(0o644),
            elsewhere,
        };
        let all = vec![kept("here", 50, vec![holder(2, 40)]), kept("", 60, vec![holder(2, 70), holder(3, 60)])];
        let chosen = |time, machine| {
            let chosen = chosen(all.clone(), &path, time, machine)?;
            Some((chosen.name, chosen.elsewhere.iter().map(|place| place.time).collect::<Vec<_>>()))
        };
        assert_eq!(chosen(50, None), Some(("here".to_owned(), vec![40])));
        assert_eq!(chosen(40, None), None, "that is the other machine's time");
        assert_eq!(chosen(40, Some("m2")), Some(("here".to_owned(), vec![40])));
        assert_eq!(chosen(60, Some("m3")), Some((String::new(), vec![60])));
        assert_eq!(chosen(60, Some("m2")), Some((String::new(), vec![70])), "as history shows it");
        let id = DeviceId([3; 32]).to_string();
        assert_eq!(chosen(60, Some(&id)), Some((String::new(), vec![60])));
        assert_eq!(chosen(60, Some("m4")), None);
        assert_eq!(super::chosen(all.clone(), &SyncPath::new("g").unwrap(), 50, None).map(|kept| kept.name), None);
    }
}
