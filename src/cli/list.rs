//! `dirsync ls`: all pages of what a folder holds, and who holds it.
//!
//! Deliberately not here: how it looks (`show.rs`).

use super::Failure;
use crate::client::Client;
use crate::views::status::{EntryView, ListView};
use crate::views::why::WhyView;
use serde::Serialize;

/// With what a question of its own says.
#[derive(Serialize)]
pub(super) struct StandingEntry {
    #[serde(flatten)]
    pub entry: EntryView,
    /// As `dirsync why` has it.
    pub state: String,
    pub holders: Vec<String>,
    pub unknown: Vec<String>,
}

/// All pages of a list; `path` itself is among them only if it is no folder.
pub(super) async fn all(client: &mut Client, path: Option<&str>, recursive: bool) -> Result<Vec<EntryView>, Failure> {
    let mut entries = Vec::new();
    each_known(client, path, |entry| {
        if is_listed(&entry, path, recursive) {
            entries.push(entry);
        }
    })
    .await?;
    Ok(entries)
}

/// Each of what is there at a path and below it.
pub(super) async fn each(
    client: &mut Client,
    path: Option<&str>,
    mut take: impl FnMut(EntryView),
) -> Result<(), Failure> {
    let is_there = |entry: &EntryView| entry.kind != "deleted";
    each_known(client, path, |entry| {
        if is_there(&entry) {
            take(entry);
        }
    })
    .await
}

/// Also what was deleted.
pub(super) async fn each_known(
    client: &mut Client,
    path: Option<&str>,
    mut take: impl FnMut(EntryView),
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let named = [("path", path.map(ToOwned::to_owned)), ("after", after.clone())];
        let query: Vec<_> = named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let ListView { entries: page, more } = client.get("/v1/ls", &query).await?;
        after = page.last().map(|entry| entry.path.clone());
        page.into_iter().for_each(&mut take);
        if !more {
            return Ok(());
        }
    }
}

/// Each is asked about.
pub(super) async fn standing(client: &mut Client, entries: Vec<EntryView>) -> Result<Vec<StandingEntry>, Failure> {
    let mut standing = Vec::with_capacity(entries.len());
    for entry in entries {
        let WhyView { state, holders, unknown, .. } = client.get("/v1/why", &[("path", entry.path.clone())]).await?;
        standing.push(StandingEntry { entry, state, holders, unknown });
    }
    Ok(standing)
}

fn is_listed(entry: &EntryView, path: Option<&str>, recursive: bool) -> bool {
    if Some(&*entry.path) == path {
        return entry.kind != "directory";
    }
    // What does not lie there was not asked for, whoever answers.
    let below = path.map_or(Some(entry.path.as_str()), |dir| entry.path.strip_prefix(dir)?.strip_prefix('/'));
    let Some(below) = below.filter(|below| !below.is_empty()) else { return false };
    entry.kind != "deleted" && (recursive || !below.contains('/'))
}
