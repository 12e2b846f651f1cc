//! `dirsync put`: files into the folder, each hashed, announced, sent from where an earlier try was
//! cut off, and verified by the daemon.
//!
//! Deliberately not here: how it is kept until it is whole (`io/fs/uploads.rs`).

use super::file_args::PutArgs;
use super::output::all_done;
use super::place::{CliPlace, below};
use super::progress::ProgressLine;
use super::reconnect::{LastingClient, is_cut};
use super::{Failure, printable, say};
use crate::client::content::{AnnouncedContent, WriteCondition};
use crate::client::{Client, ClientError, shown};
use crate::humanize::{bytes, counted, listed};
use crate::views::status::PathNote;
use crate::views::why::WhyView;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hashed at once (bytes).
const PART_BYTES: usize = 1 << 20;
/// Tries in which nothing more came.
const TRIES: u32 = 5;
/// What was put is known to the index within this time.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at who holds it.
const EVERY: Duration = Duration::from_millis(200);

/// A file and where it goes.
struct OutgoingFile {
    file: PathBuf,
    path: String,
}

/// What became of it.
#[derive(Serialize)]
struct SentFile {
    file: String,
    path: String,
    size: u64,
    content: String,
    /// False where the same was there already.
    sent: bool,
    /// Where it went on, of one that was cut off before.
    resumed_at: u64,
    /// Other machines that hold it, where they were waited for.
    holders: Vec<String>,
}

pub(super) async fn put(client: Client, place: &CliPlace, json: bool, args: PutArgs) -> Result<(), Failure> {
    let mut failed = Vec::new();
    let outgoing = outgoing(place, &args, &mut failed)?;
    let mut client = LastingClient::new(&place.folder, client);
    let (mut sent, mut ended) = (Vec::new(), Ok(()));
    for one in outgoing {
        match send(&mut client, &args, &one).await {
            Ok(done) => sent.push(done),
            Err(Failure::Partly(text) | Failure::Client(ClientError::Refused { text, .. })) => {
                failed.push(PathNote { path: shown(&one.file), text });
            }
            Err(why) => {
                ended = Err(why);
                break;
            }
        }
    }
    let waited = match args.wait_copies {
        Some(copies) if ended.is_ok() => wait_for(&mut client, &args, copies, &mut sent).await,
        _ => Ok(()),
    };
    // What was sent is said in any case.
    say(json, &json!({ "files": sent, "failed": failed }), |_| text(&sent, &failed))?;
    ended.and(waited)?;
    all_done(sent.len(), failed.len(), "sent")
}

fn text(sent: &[SentFile], failed: &[PathNote]) -> String {
    let line = |one: &SentFile| {
        let SentFile { file, path, size, sent, resumed_at, holders, .. } = one;
        let resumed = if *resumed_at > 0 { format!(", from {} on", bytes(*resumed_at)) } else { String::new() };
        let held = if holders.is_empty() { String::new() } else { format!("; it is on {}", listed(holders)) };
        if *sent {
            format!("'{file}' ({}{resumed}) is '{path}' now{held}\n", bytes(*size))
        } else {
            format!("'{path}' is there already, with the content of '{file}'{held}\n")
        }
    };
    let failed = failed.iter().map(|PathNote { path, text }| format!("'{path}' was not sent: {text}\n"));
    sent.iter().map(line).chain(failed).collect()
}

/// Each file with its path. What cannot be sent is said at the end.
fn outgoing(place: &CliPlace, args: &PutArgs, failed: &mut Vec<PathNote>) -> Result<Vec<OutgoingFile>, Failure> {
    let to = args.to.as_deref();
    let goal = place.path(to)?;
    let is_into = to.is_none_or(|to| args.files.len() > 1 || place.is_folder(to, goal.as_deref()));
    let mut all = Vec::new();
    for file in &args.files {
        let mut fail = |text: String| failed.push(PathNote { path: shown(file), text });
        let facts = match fs::metadata(file) {
            Ok(facts) => facts,
            Err(why) => {
                fail(why.to_string());
                continue;
            }
        };
        let path = if is_into {
            // `.` and `..` have no name of their own; a link is sent under its own.
            let name = file.file_name().map(ToOwned::to_owned);
            let real = || file.canonicalize().ok()?.file_name().map(ToOwned::to_owned);
            below(goal.as_deref(), name.or_else(real).unwrap_or_default().as_bytes())?
        } else {
            goal.clone().unwrap_or_default()
        };
        if facts.is_dir() && args.recursive {
            folder(file, &path, &mut all, failed)?;
        } else if facts.is_dir() {
            fail("a folder goes with -r".to_owned());
        } else if facts.is_file() {
            all.push(OutgoingFile { file: file.clone(), path });
        } else {
            fail("no regular file".to_owned());
        }
    }
    let mut goals = BTreeSet::new();
    all.retain(|OutgoingFile { file, path }| {
        let is_first = goals.insert(path.clone());
        if !is_first {
            let text = format!("another one of these would be '{path}' as well");
            failed.push(PathNote { path: shown(file), text });
            return false;
        }
        let is_itself = place.on_disk(path).and_then(|there| Some(is_same(&there, &file.canonicalize().ok()?)));
        if is_itself == Some(true) {
            failed.push(PathNote { path: shown(file), text: "it is that very file".to_owned() });
        }
        is_itself != Some(true)
    });
    Ok(all)
}

fn is_same(there: &Path, file: &Path) -> bool {
    there.canonicalize().is_ok_and(|there| there == file)
}

/// All files in a folder, in the order of names. Links in it are not followed.
fn folder(dir: &Path, path: &str, all: &mut Vec<OutgoingFile>, failed: &mut Vec<PathNote>) -> Result<(), Failure> {
    let list = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut list = match list {
        Ok(list) => list,
        Err(why) => {
            failed.push(PathNote { path: shown(dir), text: why.to_string() });
            return Ok(());
        }
    };
    list.sort_by_key(fs::DirEntry::file_name);
    for entry in list {
        let (file, path) = (entry.path(), below(Some(path), entry.file_name().as_bytes()));
        match (entry.file_type(), path) {
            (Ok(kind), Ok(path)) if kind.is_dir() => folder(&file, &path, all, failed)?,
            (Ok(kind), Ok(path)) if kind.is_file() => all.push(OutgoingFile { file, path }),
            (Ok(_), Ok(_)) => failed.push(PathNote { path: shown(&file), text: "no regular file".to_owned() }),
            (Err(why), _) => failed.push(PathNote { path: shown(&file), text: why.to_string() }),
            (_, Err(why)) => failed.push(PathNote { path: shown(&file), text: why.to_string() }),
        }
    }
    Ok(())
}

/// `Partly`: it is not sent, and the others may be.
async fn send(client: &mut LastingClient<'_>, args: &PutArgs, one: &OutgoingFile) -> Result<SentFile, Failure> {
    let OutgoingFile { file, path } = one;
    let broken = |why: std::io::Error| Failure::Partly(why.to_string());
    let open = Arc::new(File::open(file).map_err(broken)?);
    let facts = open.metadata().map_err(broken)?;
    let content = hash(&open, &facts, args, path).await?;
    let mut done = SentFile {
        file: shown(file),
        path: path.clone(),
        size: facts.len(),
        content: content.clone(),
        sent: false,
        resumed_at: 0,
        holders: Vec::new(),
    };
    let condition = match (&args.if_match, args.force) {
        (Some(content), _) => WriteCondition::Content(content.clone()),
        (None, true) => WriteCondition::Anything,
        (None, false) => WriteCondition::Nothing,
    };
    match client.client.content_at(path).await {
        Ok(there) if there == content => return Ok(done),
        Ok(_) if condition == WriteCondition::Nothing => {
            let ways = "--force replaces it, and keeps it in this machine's history";
            return Err(Failure::Partly(format!("'{path}' is there with another content; {ways}")));
        }
        Err(why) if is_cut(&why) => client.renew().await?,
        // Nothing is there, or the daemon says why it takes nothing.
        Ok(_) | Err(_) => {}
    }
    let announced = AnnouncedContent { path: path.clone(), content, size: facts.len(), condition };
    done.resumed_at = transfer(client, args, &announced, (&open, &facts)).await?;
    done.sent = true;
    Ok(done)
}

/// The bytes that were there before the first of these tries.
async fn transfer(
    client: &mut LastingClient<'_>,
    args: &PutArgs,
    announced: &AnnouncedContent,
    (file, facts): (&Arc<File>, &Metadata),
) -> Result<u64, Failure> {
    let progress = ProgressLine::of_bytes(args.quiet, format!("sends '{}'", announced.path), announced.size);
    let (mut began, mut most, mut tries) = (None, 0, 0);
    loop {
        let received = match client.client.content_received(announced).await {
            Ok(view) if view.content.is_some() => return Ok(began.unwrap_or(view.received)),
            Ok(view) => view.received.min(announced.size.saturating_sub(1)),
            Err(why) => {
                tries += 1;
                if tries > TRIES {
                    return Err(why.into());
                }
                client.after(why).await?;
                continue;
            }
        };
        let began = *began.get_or_insert(received);
        tries = if received > most { 0 } else { tries + 1 };
        most = most.max(received);
        progress.set(received);
        let shown = progress.clone();
        let sending = client.client.send_content(announced, Arc::clone(file), received, move |more| shown.add(more));
        match sending.await {
            Ok(view) if view.content.is_some() => return Ok(began),
            Ok(_) => {}
            // It was replaced or written while it was sent: what is announced comes to no end.
            Err(_) if !is_unchanged(file, facts) => {
                return Err(Failure::Partly("it was written while it was sent; send it again".to_owned()));
            }
            Err(why) if tries > TRIES => return Err(why.into()),
            // How much has come is asked again.
            Err(ClientError::Refused { code: 408 | 409, .. }) => {}
            Err(why) => client.after(why).await?,
        }
    }
}

fn is_unchanged(file: &File, before: &Metadata) -> bool {
    let facts = |facts: &Metadata| (facts.len(), facts.mtime(), facts.mtime_nsec());
    file.metadata().is_ok_and(|now| facts(&now) == facts(before))
}

async fn hash(file: &Arc<File>, before: &Metadata, args: &PutArgs, path: &str) -> Result<String, Failure> {
    let progress = ProgressLine::of_bytes(args.quiet, format!("hashes '{path}'"), before.len());
    let reading = Arc::clone(file);
    let hashing = tokio::task::spawn_blocking(move || {
        let (mut hasher, mut part) = (blake3::Hasher::new(), vec![0; PART_BYTES]);
        loop {
            match (&*reading).read(&mut part)? {
                0 => return Ok::<_, std::io::Error>(hasher.finalize().to_string()),
                length => {
                    hasher.update(&part[..length]);
                    progress.add(length as u64);
                }
            }
        }
    });
    let hashed = hashing.await.map_err(|why| Failure::Partly(why.to_string()))?;
    let content = hashed.map_err(|why| Failure::Partly(why.to_string()))?;
    if is_unchanged(file, before) {
        Ok(content)
    } else {
        Err(Failure::Partly("it was written while it was read; send it again".to_owned()))
    }
}

/// Until each is on so many other machines.
async fn wait_for(
    client: &mut LastingClient<'_>,
    args: &PutArgs,
    copies: usize,
    sent: &mut [SentFile],
) -> Result<(), Failure> {
    let progress = ProgressLine::of_words(args.quiet);
    let since = Instant::now();
    for one in sent {
        loop {
            let why: WhyView = match client.client.get("/v1/why", &[("path", one.path.clone())]).await {
                Ok(why) => why,
                Err(why) => {
                    client.after(why).await?;
                    continue;
                }
            };
            let is_it = why.entry.as_ref().is_some_and(|entry| entry.content.as_ref() == Some(&one.content));
            if is_it {
                one.holders = why.holders;
            } else if why.state == "synced" && since.elapsed() > KNOWN_WITHIN {
                return Err(Failure::Behind(format!("'{}' holds another content by now", one.path)));
            }
            if one.holders.len() >= copies {
                break;
            }
            let on = if one.holders.is_empty() { "no other machine yet".to_owned() } else { listed(&one.holders) };
            if args.timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
                let wanted = counted(copies as u64, "machine", "machines");
                return Err(Failure::Behind(format!("'{}' is on {on}, not on {wanted}", one.path)));
            }
            progress.say(printable(&format!("'{}' is on {on}", one.path)));
            tokio::time::sleep(EVERY).await;
        }
    }
    Ok(())
}
