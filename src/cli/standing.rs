//! `dirsync diff`, `need`, `transfers` and `problems`: what is still to be done, and what cannot.
//!
//! Deliberately not here: how large contents look on their way (`show.rs`, as in the status).

use super::{Failure, say, show};
use crate::client::Client;
use crate::humanize::{bytes, count, counted};
use crate::views::need::{NeedView, PeerDiffView, ProblemsView, TransfersView};
use crate::views::status::{EntryView, PathNote};
use serde_json::json;
use std::fmt::Write;

pub(super) async fn diff(client: &mut Client, json: bool, peer: String) -> Result<(), Failure> {
    let view: PeerDiffView = client.get("/v1/diff", &[("peer", peer)]).await?;
    say(json, &view, differences)
}

fn differences(view: &PeerDiffView) -> String {
    let PeerDiffView { machine, device, in_sync, download, delete_here, upload, delete_there, .. } = view;
    let (here, there) = (view.paths_here, view.paths_there);
    let mut out = format!("{machine} ({}): ", device.short());
    if here == 0 && there == 0 {
        out += if *in_sync { "in sync\n" } else { "nothing is to be done, and it is not in sync yet\n" };
        return out;
    }
    let _ = writeln!(out, "{} to change here, {} there", counted(here, "path is", "paths are"), count(there));
    let mut rows = Vec::new();
    for (entries, where_to, what) in [
        (download, "here", "fetch"),
        (delete_here, "here", "delete"),
        (upload, "there", "fetch"),
        (delete_there, "there", "delete"),
    ] {
        rows.extend(entries.iter().map(|entry| [vec![where_to.to_owned(), what.to_owned()], sized(entry)].concat()));
    }
    let named = rows.len() as u64;
    out += &show::table(&rows);
    out + &and_more((here + there).saturating_sub(named))
}

fn sized(entry: &EntryView) -> Vec<String> {
    let size = if entry.kind == "file" { bytes(entry.size) } else { String::new() };
    vec![format!("{size:>10}"), entry.path.clone()]
}

fn and_more(more: u64) -> String {
    if more > 0 { format!("and {} more\n", count(more)) } else { String::new() }
}

pub(super) async fn need(client: &mut Client, json: bool, peer: Option<String>) -> Result<(), Failure> {
    let mut query: Vec<_> = peer.map(|peer| ("peer", peer)).into_iter().collect();
    let mut all: NeedView = client.get("/v1/need", &query).await?;
    while let Some(next) = all.next.take() {
        query.retain(|(name, _)| *name != "after");
        query.push(("after", next));
        let page: NeedView = client.get("/v1/need", &query).await?;
        all.entries.extend(page.entries);
        (all.next, all.paths) = (page.next, page.paths);
    }
    say(json, &all, needed)
}

fn needed(view: &NeedView) -> String {
    if view.paths == 0 {
        return format!("nothing is to come to {}\n", view.machine);
    }
    let what = |entry: &EntryView| if entry.kind == "deleted" { "delete" } else { "fetch" };
    let rows: Vec<_> = view.entries.iter().map(|entry| [vec![what(entry).to_owned()], sized(entry)].concat()).collect();
    show::table(&rows) + &and_more(view.paths.saturating_sub(rows.len() as u64))
}

pub(super) async fn transfers(client: &mut Client, json: bool) -> Result<(), Failure> {
    let view: TransfersView = client.get("/v1/transfers", &[]).await?;
    say(json, &view, show::on_their_way)
}

pub(super) async fn problems(client: &mut Client, json: bool) -> Result<(), Failure> {
    let mut all: ProblemsView = client.get("/v1/problems", &[]).await?;
    while let Some(next) = all.next.take() {
        let page: ProblemsView = client.get("/v1/problems", &[("after", next)]).await?;
        all.problems.extend(page.problems);
        all.next = page.next;
    }
    say(json, &json!({ "problems": all.problems }), |_| {
        if all.problems.is_empty() {
            return "no path needs attention\n".to_owned();
        }
        all.problems.iter().fold(String::new(), |mut out, PathNote { path, text }| {
            let _ = writeln!(out, "{path}: {text}");
            out
        })
    })
}
