//! `dirsync ls`: all pages of what a folder holds.
//!
//! Deliberately not here: how it looks (`show.rs`).

use super::Failure;
use crate::client::Client;
use crate::views::status::{EntryView, ListView};

/// All pages of a list; `path` itself is among them only if it is no folder.
pub(super) async fn all(client: &mut Client, path: Option<&str>, recursive: bool) -> Result<Vec<EntryView>, Failure> {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let named = [("path", path.map(ToOwned::to_owned)), ("after", after.clone())];
        let query: Vec<_> = named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let ListView { entries: page, more } = client.get("/v1/ls", &query).await?;
        after = page.last().map(|entry| entry.path.clone());
        entries.extend(page.into_iter().filter(|entry| is_listed(entry, path, recursive)));
        if !more {
            return Ok(entries);
        }
    }
}

fn is_listed(entry: &EntryView, path: Option<&str>, recursive: bool) -> bool {
    if Some(&*entry.path) == path {
        return entry.kind != "directory";
    }
    let below = path.map_or(entry.path.as_str(), |dir| entry.path.get(dir.len() + 1..).unwrap_or_default());
    entry.kind != "deleted" && (recursive || !below.contains('/'))
}
