//! `dirsync analyze`: what the folder is made of, counted over the whole list of files.
//!
//! Deliberately not here: chunks, which the API does not list, and what compression would save.

mod text;

use super::progress::ProgressLine;
use super::{Failure, list, say};
use crate::client::{Client, ClientError};
use crate::views::history::HistoryView;
use crate::views::need::NeedView;
use crate::views::status::{EntryView, PeerView, StatusView};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Of the largest.
const NAMED: usize = 10;
const HOUR_NS: u64 = 3_600_000_000_000;
const HOURS: u64 = 24;
/// Read of the history at once.
const PAGE: usize = 10_000;
/// The progress is shown so often (paths).
const SHOWN_EVERY: u64 = 1000;

#[derive(Debug, Default, Serialize)]
struct Analysis {
    /// Null: of all.
    path: Option<String>,
    files: u64,
    folders: u64,
    links: u64,
    /// Deletions that are remembered.
    deleted: u64,
    bytes: u64,
    not_here_files: u64,
    not_here_bytes: u64,
    contents: ContentCount,
    duplicates: Vec<Duplicate>,
    copies: Vec<CopyCount>,
    /// Linked machines of which it is not known which files they hold, and known ones that are not
    /// linked.
    not_counted: Vec<String>,
    largest_files: Vec<SizedPath>,
    largest_folders: Vec<SizedPath>,
    hours: Vec<HourCount>,
}

/// How many different contents there are, and what it saves to have each once.
#[derive(Debug, Default, Serialize)]
struct ContentCount {
    different: u64,
    bytes: u64,
    saved_bytes: u64,
}

/// A content that several files have.
#[derive(Debug, Clone, Serialize)]
struct Duplicate {
    content: String,
    size: u64,
    files: u64,
    /// One of them.
    path: String,
}

/// So many files are on so many machines.
#[derive(Debug, Serialize)]
struct CopyCount {
    machines: u64,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Serialize)]
struct SizedPath {
    path: String,
    bytes: u64,
    files: u64,
}

/// What was changed within an hour.
#[derive(Debug, Clone, Default, Serialize)]
struct HourCount {
    begin_ns: String,
    /// Paths whose newest version is of then, and their bytes.
    changed: u64,
    bytes: u64,
    /// Versions that went to some machine's history then.
    replaced: u64,
}

pub(super) async fn analyze(client: &mut Client, json: bool, path: Option<String>) -> Result<(), Failure> {
    let status: StatusView = client.get("/v1/status", &[]).await?;
    let machines = Machines::ask(client, &status).await?;
    let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let mut counts = RunningAnalysis::new(now, path.clone());
    let all = status.files + status.directories + status.symlinks + status.deleted;
    let progress = ProgressLine::of_count(json, "analyzes".to_owned(), all);
    let mut seen = 0;
    list::each_known(client, path.as_deref(), |entry| {
        seen += 1;
        if seen % SHOWN_EVERY == 0 {
            progress.set(seen);
        }
        counts.add(entry, &machines);
    })
    .await?;
    counts.replaced(client, path).await?;
    drop(progress);
    let mut analysis = counts.end();
    analysis.not_counted = machines.unknown;
    say(json, &analysis, text::text)
}

/// What linked machines lack, of those that say so.
struct Machines {
    lacks: Vec<HashSet<String>>,
    unknown: Vec<String>,
}

impl Machines {
    async fn ask(client: &mut Client, status: &StatusView) -> Result<Self, Failure> {
        let mut machines = Self { lacks: Vec::new(), unknown: Vec::new() };
        for peer in &status.peers {
            match Self::lacking(client, peer).await? {
                Some(lacks) => machines.lacks.push(lacks),
                None => machines.unknown.push(peer.name.clone()),
            }
        }
        machines
            .unknown
            .extend(status.devices.iter().filter(|device| !device.linked).map(|device| device.name.clone()));
        Ok(machines)
    }

    async fn lacking(client: &mut Client, peer: &PeerView) -> Result<Option<HashSet<String>>, Failure> {
        // What its role keeps off its disk, or apart, it does not need.
        let keeps_apart = peer.condition.is_none_or(|condition| condition.local > 0 || condition.not_installed > 0);
        if keeps_apart {
            return Ok(None);
        }
        if peer.in_sync {
            return Ok(Some(HashSet::new()));
        }
        match client.get::<NeedView>("/v1/need", &[("peer", peer.device.to_string())]).await {
            Ok(need) if need.paths == need.entries.len() as u64 => {
                Ok(Some(need.entries.into_iter().map(|entry| entry.path).collect()))
            }
            Ok(_) | Err(ClientError::Refused { .. }) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// How many hold a path, this one included.
    fn holding(&self, entry: &EntryView) -> u64 {
        let others = self.lacks.iter().filter(|lacks| !lacks.contains(&entry.path)).count();
        others as u64 + u64::from(entry.here)
    }
}

/// What is counted, path by path.
struct RunningAnalysis {
    analysis: Analysis,
    now_ns: u64,
    contents: HashMap<[u8; 32], Duplicate>,
    copies: BTreeMap<u64, (u64, u64)>,
    folders: HashMap<String, (u64, u64)>,
    hours: BTreeMap<u64, HourCount>,
}

impl RunningAnalysis {
    fn new(now_ns: u64, path: Option<String>) -> Self {
        Self {
            analysis: Analysis { path, ..Analysis::default() },
            now_ns,
            contents: HashMap::new(),
            copies: BTreeMap::new(),
            folders: HashMap::new(),
            hours: BTreeMap::new(),
        }
    }

    fn add(&mut self, entry: EntryView, machines: &Machines) {
        let size = if entry.kind == "file" { entry.size } else { 0 };
        if entry.kind != "directory"
            && let Some(hour) = self.hour(&entry.stamp_ns)
        {
            hour.changed += 1;
            hour.bytes += size;
        }
        match entry.kind.as_str() {
            "file" => {}
            "directory" => return self.analysis.folders += 1,
            "symlink" => return self.analysis.links += 1,
            _ => return self.analysis.deleted += 1,
        }
        self.analysis.files += 1;
        self.analysis.bytes += size;
        if !entry.here {
            self.analysis.not_here_files += 1;
            self.analysis.not_here_bytes += size;
        }
        let copies = self.copies.entry(machines.holding(&entry)).or_default();
        *copies = (copies.0 + 1, copies.1 + size);
        for (at, _) in entry.path.match_indices('/') {
            match self.folders.get_mut(&entry.path[..at]) {
                Some(sum) => *sum = (sum.0 + size, sum.1 + 1),
                None => drop(self.folders.insert(entry.path[..at].to_owned(), (size, 1))),
            }
        }
        keep_largest(&mut self.analysis.largest_files, SizedPath { path: entry.path.clone(), bytes: size, files: 1 });
        let id = entry.content.as_deref().and_then(crate::model::text::from_hex::<32>);
        if let (Some(id), Some(content)) = (id, entry.content) {
            let first = || Duplicate { content, size, files: 0, path: entry.path };
            self.contents.entry(id).or_insert_with(first).files += 1;
        }
    }

    /// The hour of a time, if that is not too long ago.
    fn hour(&mut self, time_ns: &str) -> Option<&mut HourCount> {
        let hour = time_ns.parse::<u64>().ok()? / HOUR_NS;
        let is_recent = hour + HOURS > self.now_ns / HOUR_NS;
        is_recent.then(|| self.hours.entry(hour).or_default())
    }

    /// The newest come first.
    async fn replaced(&mut self, client: &mut Client, path: Option<String>) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            query.extend(path.clone().map(|path| ("path", path)));
            query.extend(after.take().map(|after| ("after", after)));
            let view: HistoryView = client.get("/v1/history", &query).await?;
            for kept in &view.kept {
                let Some(hour) = self.hour(&kept.time_ns) else { return Ok(()) };
                hour.replaced += 1;
            }
            after = view.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn end(self) -> Analysis {
        let Self { mut analysis, contents, copies, folders, hours, .. } = self;
        analysis.contents.different = contents.len() as u64;
        analysis.contents.bytes = contents.values().map(|content| content.size).sum();
        analysis.contents.saved_bytes = analysis.bytes.saturating_sub(analysis.contents.bytes);
        let mut several: Vec<_> =
            contents.into_values().filter(|content| content.files > 1 && content.size > 0).collect();
        let saved = |one: &Duplicate| one.size * (one.files - 1);
        several.sort_by(|a, b| saved(b).cmp(&saved(a)).then_with(|| a.path.cmp(&b.path)));
        several.truncate(NAMED);
        analysis.duplicates = several;
        analysis.copies =
            copies.into_iter().map(|(machines, (files, bytes))| CopyCount { machines, files, bytes }).collect();
        for (path, (bytes, files)) in folders {
            keep_largest(&mut analysis.largest_folders, SizedPath { path, bytes, files });
        }
        let hour = |(hour, count): (u64, HourCount)| HourCount { begin_ns: (hour * HOUR_NS).to_string(), ..count };
        analysis.hours = hours.into_iter().map(hour).collect();
        analysis
    }
}

/// In the order of size, the largest first.
fn keep_largest(all: &mut Vec<SizedPath>, one: SizedPath) {
    let is_before = |other: &SizedPath| (other.bytes, &one.path) > (one.bytes, &other.path);
    let at = all.partition_point(is_before);
    if at < NAMED {
        all.insert(at, one);
        all.truncate(NAMED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    fn entry(path: &str, size: u64, content: u8) -> EntryView {
        EntryView {
            path: path.to_owned(),
            kind: "file".to_owned(),
            size,
            mode: String::new(),
            mtime_ns: String::new(),
            stamp_ns: (100 * HOUR_NS + 5).to_string(),
            author: DeviceId([0; 32]),
            content: Some(crate::model::text::hex(&[content; 32])),
            target: None,
            here: true,
            local: false,
            not_installed: false,
        }
    }

    #[test]
    fn duplicates_copies_and_the_largest_are_counted() {
        let machines = Machines { lacks: vec![HashSet::new(), HashSet::from(["d/b".to_owned()])], unknown: Vec::new() };
        let mut counts = RunningAnalysis::new(101 * HOUR_NS, None);
        for one in [entry("d/a", 10, 1), entry("d/b", 10, 1), entry("d/e/c", 30, 2), entry("f", 0, 3)] {
            counts.add(one, &machines);
        }
        counts.add(EntryView { here: false, ..entry("g", 7, 4) }, &machines);
        counts.add(EntryView { stamp_ns: "0".to_owned(), kind: "symlink".to_owned(), ..entry("l", 0, 5) }, &machines);
        counts.add(EntryView { kind: "deleted".to_owned(), ..entry("x", 0, 5) }, &machines);
        let found = counts.end();
        assert_eq!((found.files, found.links, found.deleted, found.bytes), (5, 1, 1, 57));
        assert_eq!((found.not_here_files, found.not_here_bytes), (1, 7));
        assert_eq!((found.contents.different, found.contents.saved_bytes), (4, 10));
        assert_eq!((found.duplicates.len(), &*found.duplicates[0].path), (1, "d/a"));
        let copies: Vec<_> = found.copies.iter().map(|copy| (copy.machines, copy.files, copy.bytes)).collect();
        assert_eq!(copies, [(2, 2, 17), (3, 3, 40)]);
        let paths = |all: &[SizedPath]| all.iter().map(|one| format!("{} {}", one.path, one.bytes)).collect::<Vec<_>>();
        assert_eq!(paths(&found.largest_files), ["d/e/c 30", "d/a 10", "d/b 10", "g 7", "f 0"]);
        assert_eq!(paths(&found.largest_folders), ["d 50", "d/e 30"]);
        let hours: Vec<_> = found.hours.iter().map(|hour| (hour.changed, hour.bytes)).collect();
        assert_eq!(hours, [(6, 57)], "what was changed long ago is not named");
    }

    #[test]
    fn only_the_largest_stay() {
        let mut all = Vec::new();
        for n in 0..30_u64 {
            keep_largest(&mut all, SizedPath { path: n.to_string(), bytes: n * 7 % 30, files: 1 });
        }
        let sizes: Vec<_> = all.iter().map(|one| one.bytes).collect();
        assert_eq!(sizes, (20..30).rev().collect::<Vec<_>>());
    }
}
