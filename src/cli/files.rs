//! `dirsync rm` and `mv`, and the way to `put`, `get` and `cat`.
//!
//! Deliberately not here: how contents are sent (`put.rs`) and fetched (`get.rs`).

use super::file_args::FileCommand;
use super::output::all_done;
use super::place::{self, CliPlace};
use super::{Failure, get, list, put, say};
use crate::client::{Client, ClientError};
use crate::model::SyncPath;
use crate::views::status::{DoneView, PathNote};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;

pub(super) async fn run(client: Client, place: &CliPlace, json: bool, command: FileCommand) -> Result<(), Failure> {
    match command {
        FileCommand::Put(args) => put::put(client, place, json, args).await,
        FileCommand::Get(args) => get::get(client, place, json, args).await,
        FileCommand::Cat { .. } if json => {
            Err(Failure::Usage("'cat' prints contents alone; 'get --json' says what it fetched".to_owned()))
        }
        FileCommand::Cat { paths, timeout } => get::cat(client, place, &paths, timeout).await,
        FileCommand::Rm { paths, recursive } => remove(client, place, json, &paths, recursive).await,
        FileCommand::Mv { from, to } => rename(client, place, json, &from, &to).await,
    }
}

async fn remove(
    mut client: Client,
    place: &CliPlace,
    json: bool,
    paths: &[OsString],
    recursive: bool,
) -> Result<(), Failure> {
    let paths = paths.iter().map(|path| place.file(path)).collect::<Result<Vec<_>, _>>()?;
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    // What was done is said, also where the daemon is gone by then.
    let mut ended = Ok(());
    'paths: for path in paths {
        let listed = if recursive { list::all(&mut client, Some(&path), true).await } else { Ok(Vec::new()) };
        let below = match listed {
            Ok(below) => below,
            Err(Failure::Client(ClientError::Refused { text, .. })) => {
                failed.push(PathNote { path, text });
                continue;
            }
            Err(why) => {
                ended = Err(why);
                break;
            }
        };
        // What is in a folder comes after it; a file is among its own.
        let below = below.into_iter().rev().map(|entry| entry.path).filter(|below| *below != path);
        let mut all: Vec<_> = below.collect();
        all.push(path);
        for path in all {
            match client.delete_content(&path).await {
                Ok(DoneView { .. }) => deleted.push(path),
                Err(ClientError::Refused { text, .. }) => failed.push(PathNote { path, text }),
                Err(why) => {
                    ended = Err(why.into());
                    break 'paths;
                }
            }
        }
    }
    say(json, &json!({ "deleted": deleted, "failed": failed }), |_| {
        let mut out = String::new();
        for path in &deleted {
            let _ = writeln!(out, "deleted '{path}'");
        }
        for PathNote { path, text } in &failed {
            let _ = writeln!(out, "'{path}' was not deleted: {text}");
        }
        out
    })?;
    ended?;
    all_done(deleted.len(), failed.len(), "deleted")
}

async fn rename(mut client: Client, place: &CliPlace, json: bool, from: &OsStr, to: &OsStr) -> Result<(), Failure> {
    let from = place.file(from)?;
    let to = goal(place, to, &from)?;
    let done: DoneView = client.post("/v1/move", &json!({ "from": from, "to": to })).await?;
    say(json, &json!({ "done": done.done, "from": from, "to": to }), |_| format!("'{from}' is '{to}' now\n"))
}

/// Into a folder, or a new path of its own.
fn goal(place: &CliPlace, to: &OsStr, from: &str) -> Result<String, Failure> {
    let path = place.path(Some(to))?;
    if !place.is_folder(to, path.as_deref()) {
        return place.file(to);
    }
    let from = SyncPath::from_text(from).map_err(|why| Failure::Usage(format!("'{from}': {why}")))?;
    place::below(path.as_deref(), from.name())
}
