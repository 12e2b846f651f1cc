//! `dirsync conflicts`: asking for all of them, and deciding one or many.
//!
//! Deliberately not here: how they look (`show.rs`), and what a decision does (the daemon).

use super::{Failure, say, show};
use crate::client::{Client, ClientError};
use crate::humanize::{count, counted};
use crate::views::conflicts::{ConflictView, ConflictsView, DecidedView};
use crate::views::status::PathNote;
use serde_json::json;

/// All pages of the conflicts; `settled`: also of those that were decided.
pub(super) async fn all(
    client: &mut Client,
    path: Option<String>,
    settled: bool,
) -> Result<Vec<ConflictView>, Failure> {
    let mut conflicts: Vec<ConflictView> = Vec::new();
    loop {
        let after = conflicts.last().map_or(0, |conflict| conflict.id);
        let mut query = vec![("after", after.to_string()), ("all", settled.to_string())];
        query.extend(path.clone().map(|path| ("path", path)));
        let page: ConflictsView = client.get("/v1/conflicts", &query).await?;
        conflicts.extend(page.conflicts);
        if !page.more {
            return Ok(conflicts);
        }
    }
}

/// Decides one conflict, or all in a folder (`None`: all there are).
pub(super) async fn keep(client: &mut Client, json: bool, path: Option<String>, choice: &str) -> Result<(), Failure> {
    let open = all(client, path.clone(), false).await?;
    let paths: std::collections::BTreeSet<_> = open.into_iter().map(|conflict| conflict.path).collect();
    let decide = |path: &str| json!({ "path": path, "choice": choice });
    if let Some(path) = path.filter(|path| paths.is_empty() || paths.contains(path)) {
        return say(json, &client.post::<DecidedView>("/v1/conflicts/keep", &decide(&path)).await?, show::decided);
    }
    let (mut decided, mut failed) = (Vec::new(), Vec::new());
    for path in &paths {
        match client.post::<DecidedView>("/v1/conflicts/keep", &decide(path)).await {
            Ok(view) => decided.push(view),
            Err(ClientError::Refused { text, .. }) => failed.push(PathNote { path: path.clone(), text }),
            Err(why) => return Err(why.into()),
        }
    }
    say(json, &json!({ "decided": decided, "failed": failed }), |_| show::all_decided(&decided, &failed))?;
    match failed.len() {
        0 => Ok(()),
        n => Err(Failure::Partly(format!(
            "{} of {} not decided",
            count(n as u64),
            counted(paths.len() as u64, "conflict", "conflicts")
        ))),
    }
}
