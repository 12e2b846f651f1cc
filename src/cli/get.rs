//! `dirsync get` and `cat`: contents out of the folder, verified against their ids.
//!
//! What is not on this disk yet is on its way: the daemon fetches it from every machine that has
//! it, and goes on with the others where one is gone. It is waited for, and said who brings it.
//! Deliberately not here: another way to fetch than the daemon's own, and the file in which a part
//! is kept (`part_file.rs`).

use super::file_args::GetArgs;
use super::output::all_done;
use super::part_file::{ContentSink, PartFile};
use super::place::CliPlace;
use super::progress::ProgressLine;
use super::reconnect::LastingClient;
use super::{Failure, list, say};
use crate::client::{Client, ClientError, shown};
use crate::humanize::{bytes, listed};
use crate::model::SyncPath;
use crate::views::need::TransfersView;
use crate::views::status::PathNote;
use crate::views::why::WhyView;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks at what is still to come.
const EVERY: Duration = Duration::from_millis(100);
/// What nobody brings for so long is given up. One that brings it may just be gone, and another
/// takes its place.
const BLOCKED_FOR: Duration = Duration::from_secs(5);
/// Tries in which nothing more came, and contents that took the place of the one before.
const TRIES: u32 = 5;

/// What came of one path.
#[derive(Serialize)]
struct FetchedFile {
    path: String,
    file: String,
    size: u64,
    content: String,
    /// False where the same was there already.
    fetched: bool,
    /// Where it went on, of one that was cut off before.
    resumed_at: u64,
    /// The machines that brought it here meanwhile.
    sources: Vec<String>,
}

pub(super) async fn get(mut client: Client, place: &CliPlace, json: bool, args: GetArgs) -> Result<(), Failure> {
    let out = out_folder(place, args.out.as_deref())?;
    let paths = args.paths.iter().map(|path| place.path(Some(path))).collect::<Result<Vec<_>, _>>()?;
    let (mut goals, mut failed) = (Vec::new(), Vec::new());
    for path in paths {
        goals.extend(goals_of(&mut client, path, &out, args.recursive, &mut failed).await?);
    }
    let mut client = LastingClient::new(&place.folder, client);
    let (mut fetched, mut ended, mut taken) = (Vec::new(), Ok(()), BTreeSet::new());
    for (path, goal) in goals {
        if !taken.insert(goal.clone()) {
            let text = format!("another one of these goes to '{}' as well", shown(&goal));
            failed.push(PathNote { path, text });
            continue;
        }
        let mut fetch = ContentFetch::new(&mut client, &path, args.timeout, args.quiet);
        match fetch.fetch_to(&goal, args.force).await {
            Ok(done) => fetched.push(done),
            Err(Failure::Partly(text) | Failure::Client(ClientError::Refused { text, .. })) => {
                failed.push(PathNote { path, text });
            }
            Err(Failure::Output(why)) => {
                failed.push(PathNote { path, text: format!("'{}': {why}", shown(&goal)) });
            }
            Err(why) => {
                ended = Err(why);
                break;
            }
        }
    }
    // What was fetched is said in any case.
    say(json, &json!({ "files": fetched, "failed": failed }), |_| text(&fetched, &failed))?;
    ended?;
    all_done(fetched.len(), failed.len(), "fetched")
}

fn text(fetched: &[FetchedFile], failed: &[PathNote]) -> String {
    let line = |one: &FetchedFile| {
        let FetchedFile { path, file, size, fetched, resumed_at, sources, .. } = one;
        let resumed = if *resumed_at > 0 { format!(", from {} on", bytes(*resumed_at)) } else { String::new() };
        let from = if sources.is_empty() { String::new() } else { format!("; it came from {}", listed(sources)) };
        if *fetched {
            format!("'{path}' ({}{resumed}) is in '{file}'{from}\n", bytes(*size))
        } else {
            format!("'{file}' is there already, with the content of '{path}'\n")
        }
    };
    let failed = failed.iter().map(|PathNote { path, text }| format!("'{path}' was not fetched: {text}\n"));
    fetched.iter().map(line).chain(failed).collect()
}

/// In the synced folder, half of a file would go to all machines.
fn out_folder(place: &CliPlace, out: Option<&Path>) -> Result<PathBuf, Failure> {
    let out = out.unwrap_or(Path::new("."));
    let wrong = |why: &str| Failure::Usage(format!("'{}' {why}", shown(out)));
    let real = out.canonicalize().map_err(|why| wrong(&why.to_string()))?;
    if !real.is_dir() {
        return Err(wrong("is no folder"));
    }
    if real.starts_with(&place.folder.path) {
        return Err(wrong("is in the synced folder; name one outside of it with --out DIR"));
    }
    Ok(real)
}

/// The files that are meant, each with where it is to be.
async fn goals_of(
    client: &mut Client,
    path: Option<String>,
    out: &Path,
    recursive: bool,
    failed: &mut Vec<PathNote>,
) -> Result<Vec<(String, PathBuf)>, Failure> {
    let name = |path: &str| SyncPath::from_text(path).map_err(|why| Failure::Partly(format!("'{path}': {why}")));
    let outermost = match &path {
        Some(path) => out.join(OsStr::from_bytes(name(path)?.name())),
        None => out.to_owned(),
    };
    if !recursive {
        let one = path.ok_or_else(|| Failure::Usage("the whole folder goes with -r".to_owned()))?;
        return Ok(vec![(one, outermost)]);
    }
    let mut goals = Vec::new();
    for entry in list::all(client, path.as_deref(), true).await? {
        if path.as_ref() == Some(&entry.path) {
            // It is a file itself.
            goals.push((entry.path, outermost.clone()));
            continue;
        }
        // Whoever answers: nothing goes elsewhere than below `--out`.
        let Some(below) = below(path.as_deref(), &entry.path) else {
            failed.push(PathNote { path: entry.path, text: "no path below what was asked for".to_owned() });
            continue;
        };
        match entry.kind.as_str() {
            "file" => goals.push((entry.path, outermost.join(OsStr::from_bytes(below.as_bytes())))),
            "directory" => {}
            _ => failed.push(PathNote { path: entry.path, text: "a link, and has no content".to_owned() }),
        }
    }
    if let (true, Some(path)) = (goals.is_empty() && failed.is_empty(), path) {
        // It is nothing, or a folder with nothing in it: its own refusal says which.
        goals.push((path, outermost));
    }
    Ok(goals)
}

/// The path of an entry below a folder (`None`: all of it), checked as any foreign path.
fn below(folder: Option<&str>, entry: &str) -> Option<SyncPath> {
    let below = match folder {
        Some(folder) => entry.strip_prefix(folder)?.strip_prefix('/')?,
        None => entry,
    };
    SyncPath::from_text(below).ok()
}

pub(super) async fn cat(
    client: Client,
    place: &CliPlace,
    paths: &[OsString],
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let paths = paths.iter().map(|path| place.file(path)).collect::<Result<Vec<_>, _>>()?;
    let mut client = LastingClient::new(&place.folder, client);
    for path in paths {
        let mut fetch = ContentFetch::new(&mut client, &path, timeout, true);
        let content = fetch.available().await?;
        let mut sink = ContentSink::new(Box::new(io::stdout()));
        let poured = fetch.pour(&content, &mut sink).await?;
        sink.out.flush()?;
        if poured == Poured::Another {
            return Err(Failure::Partly(format!("'{path}' was replaced while it was printed: that is not all of it")));
        }
    }
    Ok(())
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poured {
    Whole,
    /// The path holds another content by now, or what came is not what was promised.
    Another,
}

struct ContentFetch<'a, 'b> {
    client: &'a mut LastingClient<'b>,
    path: &'a str,
    timeout: Option<Duration>,
    is_quiet: bool,
    /// All that brought it here, and those that do now.
    sources: Vec<String>,
    from: Vec<String>,
}

impl<'a, 'b> ContentFetch<'a, 'b> {
    fn new(client: &'a mut LastingClient<'b>, path: &'a str, timeout: Option<Duration>, is_quiet: bool) -> Self {
        Self { client, path, timeout, is_quiet, sources: Vec::new(), from: Vec::new() }
    }

    async fn fetch_to(&mut self, goal: &Path, force: bool) -> Result<FetchedFile, Failure> {
        for _ in 0..TRIES {
            let content = self.available().await?;
            let path = self.path;
            let done = |size, resumed_at, fetched, sources: &[String]| FetchedFile {
                path: path.to_owned(),
                file: shown(goal),
                size,
                content: content.clone(),
                fetched,
                resumed_at,
                sources: sources.to_vec(),
            };
            let failed = |why: io::Error| Failure::Partly(format!("'{}': {why}", shown(goal)));
            if let Some(size) = PartFile::is_there(goal, &content, force)? {
                return Ok(done(size, 0, false, &self.sources));
            }
            let (part, mut sink) = PartFile::open(goal, &content)?;
            let resumed_at = sink.at;
            if self.pour(&content, &mut sink).await? == Poured::Whole {
                let size = sink.at;
                part.place(force).map_err(failed)?;
                return Ok(done(size, resumed_at, true, &self.sources));
            }
            part.discard();
        }
        Err(Failure::Partly("it changes again and again; fetch it later".to_owned()))
    }

    /// The content at the path, once this disk has it.
    async fn available(&mut self) -> Result<String, Failure> {
        let since = Instant::now();
        let mut blocked: Option<Instant> = None;
        let progress = ProgressLine::of_words(self.is_quiet);
        loop {
            let is_over = self.timeout.is_some_and(|timeout| since.elapsed() >= timeout);
            let refusal = match self.client.client.content_at(self.path).await {
                Ok(content) => return Ok(content),
                Err(ClientError::Refused { code: 404 | 409, text }) => text,
                Err(why) => {
                    self.back_after(why, is_over).await?;
                    continue;
                }
            };
            let why: WhyView = match self.client.client.get("/v1/why", &[("path", self.path.to_owned())]).await {
                Ok(why) => why,
                Err(why) => {
                    self.back_after(why, is_over).await?;
                    continue;
                }
            };
            let is_file = why.entry.as_ref().is_none_or(|entry| entry.kind == "file");
            let Some(waits_for) = why.waits_for.filter(|_| why.state == "pending" && is_file) else {
                // What a role keeps apart has a reason that the content's route does not know.
                let is_apart = matches!(why.state.as_str(), "local" | "not_installed");
                return Err(Failure::Partly(if is_apart { why.text } else { refusal }));
            };
            blocked = if why.blocked { blocked.or(Some(Instant::now())) } else { None };
            if is_over || blocked.is_some_and(|since| since.elapsed() >= BLOCKED_FOR) {
                return Err(Failure::Partly(format!("it is not here yet, and waits for {waits_for}")));
            }
            progress.say(super::printable(&format!("'{}' waits for {waits_for}", self.path)));
            self.say_sources(&progress).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Another connection, a moment later. A daemon that is busy or gone takes of the time as well.
    async fn back_after(&mut self, why: ClientError, is_over: bool) -> Result<(), Failure> {
        if is_over {
            return Err(why.into());
        }
        self.client.after(why).await?;
        tokio::time::sleep(EVERY).await;
        Ok(())
    }

    /// Who brings it, as that changes.
    async fn say_sources(&mut self, progress: &ProgressLine) {
        let Ok(view) = self.client.client.get::<TransfersView>("/v1/transfers", &[]).await else { return };
        let Some(mut transfer) = view.incoming.into_iter().find(|transfer| transfer.path == self.path) else { return };
        transfer.from.sort();
        let line = news(self.path, &self.from, &transfer.from);
        if let (Some(line), false) = (line, self.is_quiet) {
            progress.note(&line);
        }
        let new = transfer.from.iter().filter(|name| !self.sources.contains(name));
        let new: Vec<_> = new.cloned().collect();
        self.sources.extend(new);
        self.from = transfer.from;
    }

    /// Writes what is missing. Where the daemon or its connection breaks off, it goes on there.
    async fn pour(&mut self, content: &str, sink: &mut ContentSink) -> Result<Poured, Failure> {
        let (mut most, mut tries) = (sink.at, 0);
        loop {
            match self.client.client.content_from(self.path, content, sink.at).await {
                Ok(mut coming) => {
                    let progress =
                        ProgressLine::of_bytes(self.is_quiet, format!("fetches '{}'", self.path), coming.size);
                    progress.set(sink.at);
                    while let Ok(Some(part)) = coming.next().await {
                        sink.write(&part)?;
                        progress.add(part.len() as u64);
                    }
                    if sink.at >= coming.size {
                        return Ok(ended(sink, content));
                    }
                    self.client.renew().await?;
                }
                // There is no more of it.
                Err(ClientError::Refused { code: 416, .. }) => return Ok(ended(sink, content)),
                Err(ClientError::Refused { code: 412, .. }) => return Ok(Poured::Another),
                Err(ClientError::Refused { code: 404 | 409, .. }) => {
                    if self.available().await? != content {
                        return Ok(Poured::Another);
                    }
                }
                Err(why) => self.client.after(why).await?,
            }
            tries = if sink.at > most { 0 } else { tries + 1 };
            most = sink.at;
            if tries > TRIES {
                return Err(Failure::Partly(format!("it breaks off after {}, again and again", bytes(sink.at))));
            }
        }
    }
}

fn ended(sink: &ContentSink, content: &str) -> Poured {
    if sink.hasher.finalize().to_string() == content { Poured::Whole } else { Poured::Another }
}

/// What is said as other machines bring a file.
fn news(path: &str, before: &[String], now: &[String]) -> Option<String> {
    let gone: Vec<_> = before.iter().filter(|name| !now.contains(name)).collect();
    let new = now.iter().any(|name| !before.contains(name));
    let from = if now.is_empty() { "nobody yet".to_owned() } else { listed(now) };
    match &gone[..] {
        [] if !new => None,
        [] => Some(format!("'{path}' is not here yet; it comes from {from}")),
        gone => Some(format!("{} no longer sends '{path}'; it comes from {from}", listed(gone))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_what_was_asked_for_has_a_goal() {
        let text = |folder, entry| below(folder, entry).map(|path| path.to_text());
        assert_eq!(text(Some("d"), "d/e/f"), Some("e/f".to_owned()));
        assert_eq!(text(None, "d/e"), Some("d/e".to_owned()));
        // As a listener that is not ours might say.
        for entry in ["ab/etc/cron.d/x", "d", "d/", "da/f", "d//etc/x", "d/../x", "d/./x", "/etc/x", ""] {
            assert_eq!(text(Some("d"), entry), None, "{entry}");
        }
        assert_eq!((text(None, "../x"), text(None, "/etc/x")), (None, None));
    }

    #[test]
    fn who_brings_a_file_is_said_as_it_changes() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let said = |before: &[&str], now: &[&str]| news("f", &names(before), &names(now)).unwrap_or_default();
        assert_eq!(said(&[], &[]), "");
        assert_eq!(said(&["a"], &["a"]), "");
        assert_eq!(said(&[], &["a", "b"]), "'f' is not here yet; it comes from a and b");
        assert_eq!(said(&["a", "b"], &["b"]), "a no longer sends 'f'; it comes from b");
        assert_eq!(said(&["a"], &[]), "a no longer sends 'f'; it comes from nobody yet");
    }
}
