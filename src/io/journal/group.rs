//! Many changes of one sort as few lines: a renamed folder, the files of a folder, one file that
//! grows.
//!
//! Changes wait until their sort has been quiet for a moment, or for a second, and in a flood for
//! up to a minute. May import `engine` and `model`. Deliberately not here: the sentence of one
//! change (`sentence.rs`).

use super::sentence::{self, SummarySum, Way};
use super::{Level, Line};
use crate::engine::Report;
use crate::humanize::{bytes, counted};
use crate::model::{ContentId, Entry, Kind, SyncPath};
use std::collections::{BTreeMap, BTreeSet};

const MS: u64 = 1_000_000;
/// Nothing more of a sort came for this long: its lines are written (ns).
const QUIET_NS: u64 = 250 * MS;
/// Perhaps the first half of a rename came: the second one, the deletion, is told later (ns).
const HALF_NS: u64 = 750 * MS;
/// Of a sort that is never quiet, lines are written after this long, doubled up to the longest
/// (ns).
const FIRST_NS: u64 = 1000 * MS;
const LONGEST_NS: u64 = 60_000 * MS;
/// Changes that wait, at most.
const CHANGES: usize = 16_384;
/// More than so many in a window are a flood.
const FLOOD: usize = 20;
/// Up to so many changes of one folder have a line each.
const ALONE: usize = 3;
/// A window has at most so many lines, or one.
const LINES: usize = 12;
/// One file has a line at most this often (ns), and so many files are remembered for it.
const AGAIN_NS: u64 = 60_000 * MS;
const REPEATING: usize = 1024;

/// A way, and the machines at its other end.
type WayAndPeers = (Way, String);

#[derive(Default)]
pub(super) struct Batches {
    waiting: BTreeMap<WayAndPeers, ReportBatch>,
    repeating: BTreeMap<(WayAndPeers, SyncPath), Repeat>,
}

struct ReportBatch {
    changes: Vec<Report>,
    halves: Halves,
    last: u64,
    ends: u64,
    length: u64,
}

/// Halves of renames that are not matched yet: contents that came to new names and nobody had to
/// send, contents whose name went, and how many more folders came than went.
#[derive(Default)]
struct Halves {
    arrived: BTreeSet<ContentId>,
    left: BTreeSet<ContentId>,
    folders: i64,
}

impl Halves {
    fn note(&mut self, report: &Report) {
        let Some(change) = LoggedChange::of(report) else { return };
        self.folders += i64::from(change.folder_is_new()) - i64::from(change.folder_is_gone());
        if let Some(content) = change.arrived()
            && !self.left.remove(&content)
        {
            self.arrived.insert(content);
        }
        if let Some(content) = change.left()
            && !self.arrived.remove(&content)
        {
            self.left.insert(content);
        }
    }

    /// A deletion may be still to come.
    fn is_one_missing(&self) -> bool {
        !self.arrived.is_empty() || self.folders > 0
    }
}

/// A file that had its line, and how often it changed since.
struct Repeat {
    ends: u64,
    times: u64,
    size_bytes: u64,
    wire_bytes: u64,
}

impl Batches {
    /// The lines that must be written before this change can wait.
    pub fn add(&mut self, mono: u64, sort: &WayAndPeers, report: &Report) -> Vec<Line> {
        let new = || ReportBatch {
            changes: Vec::new(),
            halves: Halves::default(),
            last: mono,
            ends: mono + FIRST_NS,
            length: FIRST_NS,
        };
        let batch = self.waiting.entry(sort.clone()).or_insert_with(new);
        batch.last = mono;
        batch.halves.note(report);
        batch.changes.push(report.clone());
        if batch.changes.len() < CHANGES { Vec::new() } else { self.flush(mono, sort) }
    }

    /// When `tick` is due.
    pub fn due(&self) -> Option<u64> {
        let batches = self.waiting.values().map(ReportBatch::due);
        batches.chain(self.repeating.values().map(|repeat| repeat.ends)).min()
    }

    /// The lines that are due.
    pub fn tick(&mut self, mono: u64) -> Vec<Line> {
        let over: Vec<_> = self.waiting.iter().filter(|(_, b)| b.due() <= mono).map(|(sort, _)| sort.clone()).collect();
        let mut lines: Vec<_> = over.iter().flat_map(|sort| self.flush(mono, sort)).collect();
        let over: Vec<_> = self.repeating.iter().filter(|(_, r)| r.ends <= mono).map(|(key, _)| key.clone()).collect();
        for key in over {
            lines.extend(self.end_repeat(mono, &key));
        }
        lines
    }

    /// What waits is written now: somebody reads.
    pub fn flush_all(&mut self, mono: u64) -> Vec<Line> {
        let sorts: Vec<_> = self.waiting.keys().cloned().collect();
        sorts.iter().flat_map(|sort| self.flush(mono, sort)).collect()
    }

    /// The end: also what repeats is written.
    pub fn finish(&mut self, mono: u64) -> Vec<Line> {
        let mut lines = self.flush_all(mono);
        for key in self.repeating.keys().cloned().collect::<Vec<_>>() {
            lines.extend(self.end_repeat(mono, &key));
        }
        lines
    }

    fn flush(&mut self, mono: u64, sort: &WayAndPeers) -> Vec<Line> {
        let Some(batch) = self.waiting.remove(sort) else { return Vec::new() };
        if batch.changes.len() > FLOOD && batch.last + QUIET_NS > mono {
            let length = (batch.length * 2).min(LONGEST_NS);
            let next =
                ReportBatch { changes: Vec::new(), halves: Halves::default(), last: mono, ends: mono + length, length };
            self.waiting.insert(sort.clone(), next);
        }
        self.lines(mono, sort, &batch.changes)
    }

    fn lines(&mut self, mono: u64, sort: &WayAndPeers, reports: &[Report]) -> Vec<Line> {
        let (changes, repeats) = distinct(reports);
        let mut lines = Vec::new();
        let (renamed, rest) = renames(sort, &changes);
        lines.extend(renamed);
        for group in groups(&rest) {
            match group {
                FolderLines::Alone(change) => lines.extend(self.one(mono, sort, change)),
                FolderLines::Folder(kind, folder, changes) => lines.push(whole_folder(sort, kind, &folder, &changes)),
                FolderLines::Many(folder, changes) => lines.push(many(sort, folder.as_ref(), &changes)),
            }
        }
        for change in repeats {
            self.repeat(sort, &change);
        }
        lines
    }

    /// A line of its own, unless the file had one in this minute.
    fn one(&mut self, mono: u64, sort: &WayAndPeers, change: &LoggedChange<'_>) -> Vec<Line> {
        let key = (sort.clone(), change.path.clone());
        if change.verb == Verb::Content && change.was.is_some() && self.repeating.contains_key(&key) {
            self.repeat(sort, change);
            return Vec::new();
        }
        let mut lines = Vec::new();
        if change.verb == Verb::Content {
            if self.repeating.len() >= REPEATING
                && let Some(first) = self.repeating.iter().min_by_key(|(_, r)| r.ends).map(|(key, _)| key.clone())
            {
                lines.extend(self.end_repeat(mono, &first));
                self.repeating.remove(&first);
            }
            let repeat = Repeat { ends: mono + AGAIN_NS, times: 0, size_bytes: 0, wire_bytes: 0 };
            self.repeating.insert(key, repeat);
        }
        lines.push(sentence::line(change.report));
        lines
    }

    fn repeat(&mut self, sort: &WayAndPeers, change: &LoggedChange<'_>) {
        if let Some(repeat) = self.repeating.get_mut(&(sort.clone(), change.path.clone())) {
            repeat.times += 1;
            repeat.size_bytes = change.size();
            repeat.wire_bytes = repeat.wire_bytes.saturating_add(change.wire_bytes);
        }
    }

    /// What a minute added; a file that still changes has another one.
    fn end_repeat(&mut self, mono: u64, key: &(WayAndPeers, SyncPath)) -> Option<Line> {
        let repeat = self.repeating.remove(key).filter(|repeat| repeat.times > 0)?;
        let next = Repeat { ends: mono + AGAIN_NS, times: 0, size_bytes: 0, wire_bytes: 0 };
        self.repeating.insert(key.clone(), next);
        let ((way, whom), path) = key;
        let Repeat { times, size_bytes, wire_bytes, .. } = repeat;
        let (times, size, wire) = (counted(times, "more time", "more times"), bytes(size_bytes), bytes(wire_bytes));
        let (kind, text) = match way {
            Way::Received if whom.is_empty() => ("received", format!("received '{path}' {times} (now {size})")),
            Way::Received => {
                ("received", format!("received '{path}' from {whom} {times} (now {size}, {wire} on the wire)"))
            }
            Way::Sent | Way::Announced => {
                (way.word(), format!("{} '{path}' to {whom} {times} (now {size})", way.word()))
            }
        };
        Some(Line { size: Some(size_bytes), ..about(kind, Some(path), whom, text) })
    }
}

impl ReportBatch {
    fn due(&self) -> u64 {
        let quiet_ns = if self.halves.is_one_missing() { HALF_NS } else { QUIET_NS };
        if self.changes.is_empty() { self.ends } else { self.ends.min(self.last + quiet_ns) }
    }
}

/// What was done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Content,
    Folder,
    Link,
    /// Permissions or the time.
    Set,
    Gone,
}

struct LoggedChange<'a> {
    path: &'a SyncPath,
    entry: &'a Entry,
    was: Option<&'a Kind>,
    verb: Verb,
    wire_bytes: u64,
    report: &'a Report,
}

impl<'a> LoggedChange<'a> {
    fn of(report: &'a Report) -> Option<Self> {
        let (path, entry, was, wire_bytes) = match report {
            Report::Received { path, entry, was, wire_bytes, .. } => (path, entry, was.as_ref(), *wire_bytes),
            Report::Sent { path, entry, was, .. } | Report::Announced { path, entry, was, .. } => {
                (path, entry, was.as_ref(), 0)
            }
            _ => return None,
        };
        let verb = match &entry.kind {
            Kind::Deleted { .. } => Verb::Gone,
            kind if was == Some(kind) && wire_bytes == 0 => Verb::Set,
            Kind::File { .. } => Verb::Content,
            Kind::Directory => Verb::Folder,
            Kind::Symlink { .. } => Verb::Link,
        };
        Some(Self { path, entry, was, verb, wire_bytes, report })
    }

    fn size(&self) -> u64 {
        self.entry.file().map_or(0, |(_, size)| size)
    }

    /// A content under a name that held nothing, and which nobody had to send.
    fn arrived(&self) -> Option<ContentId> {
        let is_new = self.verb == Verb::Content && self.was.is_none() && self.wire_bytes == 0;
        self.entry.file().map(|(content, _)| content).filter(|_| is_new)
    }

    fn left(&self) -> Option<ContentId> {
        match self.was {
            Some(Kind::File { content, .. }) if self.verb == Verb::Gone => Some(*content),
            _ => None,
        }
    }

    fn folder_is_gone(&self) -> bool {
        self.verb == Verb::Gone && self.was == Some(&Kind::Directory)
    }

    fn folder_is_new(&self) -> bool {
        self.verb == Verb::Folder && self.was.is_none()
    }
}

/// The last of those that did the same to a path, in the order of paths; and the others.
fn distinct(reports: &[Report]) -> (Vec<LoggedChange<'_>>, Vec<LoggedChange<'_>>) {
    let mut last: BTreeMap<(&SyncPath, Verb), LoggedChange<'_>> = BTreeMap::new();
    let mut repeats = Vec::new();
    for change in reports.iter().filter_map(LoggedChange::of) {
        if let Some(earlier) = last.insert((change.path, change.verb), change) {
            repeats.push(earlier);
        }
    }
    (last.into_values().collect(), repeats)
}

/// Where it was, and where it is.
type MovedChange<'c> = (&'c SyncPath, &'c LoggedChange<'c>);

/// Contents that went from one name to another: a line for each folder, or pair of folders; and all
/// other changes.
fn renames<'c, 'a>(sort: &WayAndPeers, changes: &'c [LoggedChange<'a>]) -> (Vec<Line>, Vec<&'c LoggedChange<'a>>) {
    let mut left: BTreeMap<ContentId, Vec<&LoggedChange<'_>>> = BTreeMap::new();
    for change in changes {
        if let Some(content) = change.left() {
            left.entry(content).or_default().push(change);
        }
    }
    let mut moves: BTreeMap<(Vec<u8>, Vec<u8>), Vec<MovedChange<'_>>> = BTreeMap::new();
    for change in changes {
        let Some(candidates) = change.arrived().and_then(|content| left.get_mut(&content)) else { continue };
        // What came and went within the window was renamed from there, not to there.
        let others = || candidates.iter().enumerate().filter(|(_, old)| old.path != change.path);
        let same_name = others().find(|(_, old)| old.path.name() == change.path.name());
        let Some((at, _)) = same_name.or_else(|| others().next()) else { continue };
        let old = candidates.swap_remove(at);
        moves.entry(parted(old.path, change.path)).or_default().push((old.path, change));
    }
    let is_folder = |name: &[u8], is: fn(&LoggedChange<'a>) -> bool| {
        changes.iter().any(|change| is(change) && change.path.as_bytes() == name)
    };
    let (mut lines, mut done) = (Vec::new(), BTreeSet::new());
    let mut folders: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for ((from, to), files) in &moves {
        done.extend(files.iter().flat_map(|(old, new)| [(*old, Verb::Gone), (new.path, Verb::Content)]));
        let pairs = std::iter::once((from.clone(), to.clone())).chain(deeper(from, to, files));
        let mut whole = pairs.filter(|(from, to)| {
            is_folder(from, LoggedChange::folder_is_gone) && is_folder(to, LoggedChange::folder_is_new)
        });
        let pair = whole.next();
        let (old, new) = pair.as_ref().map_or((from, to), |(from, to)| (from, to));
        lines.push(rename(sort, pair.is_some(), old, new, files));
        folders.extend(pair);
    }
    let within = |path: &SyncPath, folder: &[u8]| {
        path.as_bytes().strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    let is_grouped = |change: &LoggedChange<'_>| {
        let moved_along = folders.iter().any(|(from, to)| {
            (change.folder_is_gone() && within(change.path, from))
                || (change.folder_is_new() && within(change.path, to))
        });
        moved_along || done.contains(&(change.path, change.verb))
    };
    let rest = changes.iter().filter(|change| !is_grouped(change)).collect();
    (lines, rest)
}

/// The folders below these two that all the files were in: a folder that was moved keeps its name,
/// and so do those in it.
fn deeper(from: &[u8], to: &[u8], files: &[MovedChange<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let below = |old: &SyncPath| -> Vec<Vec<u8>> {
        let rest = old.as_bytes()[from.len()..].split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        rest.map(<[u8]>::to_vec).collect()
    };
    let mut shared = files.first().map(|(old, _)| below(old)).unwrap_or_default();
    // The last one is the file's own.
    shared.pop();
    for (old, _) in files {
        let same = shared.iter().zip(below(old)).take_while(|(one, other)| *one == other).count();
        shared.truncate(same);
    }
    let joined = |top: &[u8], count: usize| {
        let parts = std::iter::once(top).filter(|top| !top.is_empty()).chain(shared[..count].iter().map(Vec::as_slice));
        parts.collect::<Vec<_>>().join(&b'/')
    };
    (1..=shared.len()).map(|count| (joined(from, count), joined(to, count))).collect()
}

/// The two names without the components at their ends that they share. Two names of one folder
/// share none.
fn parted(old: &SyncPath, new: &SyncPath) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to): (Vec<_>, Vec<_>) = (old.components().collect(), new.components().collect());
    while let (Some(a), Some(b)) = (from.last(), to.last())
        && a == b
    {
        from.pop();
        to.pop();
    }
    (from.join(&b'/'), to.join(&b'/'))
}

fn rename(sort: &WayAndPeers, whole: bool, from: &[u8], to: &[u8], files: &[MovedChange<'_>]) -> Line {
    let (way, whom) = sort;
    let size = files.iter().map(|(_, new)| new.size()).sum();
    let number = files.len() as u64;
    let many = format!("{}, {}", counted(number, "file", "files"), bytes(size));
    let shown = |name: &[u8]| match crate::model::text::escape(name) {
        name if name.is_empty() => "the top folder".to_owned(),
        name => format!("'{name}'"),
    };
    let told_by = by(whom);
    let text = match (way, files) {
        (Way::Received, [(old, new)]) if !whole => format!("renamed '{old}' to '{}'{told_by}", new.path),
        (_, [(old, new)]) if !whole => format!("{} the rename of '{old}' to '{}' to {whom}", way.word(), new.path),
        (Way::Received, _) if whole => format!("renamed the folder {} to {} ({many}){told_by}", shown(from), shown(to)),
        (_, _) if whole => {
            let (from, to) = (shown(from), shown(to));
            format!("{} the rename of the folder {from} to {to} to {whom} ({many})", way.word())
        }
        (Way::Received, _) => {
            format!("moved {} from {} to {}{told_by}", counted(number, "file", "files"), shown(from), shown(to))
        }
        (_, _) => {
            let files = counted(number, "file", "files");
            format!("{} the move of {files} from {} to {} to {whom}", way.word(), shown(from), shown(to))
        }
    };
    let path = match files {
        [(_, new)] if !whole => Some(new.path.clone()),
        _ => SyncPath::new(to).ok(),
    };
    let paths = Some(number).filter(|_| whole || number > 1);
    Line { size: Some(size), paths, ..about("renamed", path.as_ref(), whom, text) }
}

enum FolderLines<'c, 'a> {
    Alone(&'c LoggedChange<'a>),
    /// A folder that is new (`Verb::Folder`) or gone, with what is in it.
    Folder(Verb, SyncPath, Vec<&'c LoggedChange<'a>>),
    /// Of one folder, or of everywhere.
    Many(Option<SyncPath>, Vec<&'c LoggedChange<'a>>),
}

/// What is done (if it is one thing), whether to a whole folder, and in which folder.
type GroupKey = (Option<Verb>, bool, Option<SyncPath>);

/// Few groups of many changes.
fn groups<'c, 'a>(changes: &[&'c LoggedChange<'a>]) -> Vec<FolderLines<'c, 'a>> {
    let tops = |is: fn(&LoggedChange<'a>) -> bool| {
        let folders: BTreeSet<_> = changes.iter().filter(|change| is(change)).map(|change| change.path).collect();
        let top = |path: &SyncPath| {
            std::iter::once(path.clone()).chain(path.ancestors()).filter(|f| folders.contains(f)).last()
        };
        changes.iter().map(|change| top(change.path)).collect::<Vec<_>>()
    };
    let (new, gone) = (tops(LoggedChange::folder_is_new), tops(LoggedChange::folder_is_gone));
    let mut keyed: BTreeMap<GroupKey, Vec<&'c LoggedChange<'a>>> = BTreeMap::new();
    for (n, change) in changes.iter().copied().enumerate() {
        let whole = match change.verb {
            Verb::Gone => gone[n].clone().map(|top| (Verb::Gone, top)),
            Verb::Content | Verb::Folder | Verb::Link => new[n].clone().map(|top| (Verb::Folder, top)),
            Verb::Set => None,
        };
        let key = match whole {
            Some((verb, top)) => (Some(verb), true, Some(top)),
            None => (Some(change.verb), false, change.path.parent()),
        };
        keyed.entry(key).or_default().push(change);
    }
    let is_alone = |whole: bool, changes: &[&LoggedChange<'_>]| changes.len() <= if whole { 2 } else { ALONE };
    let lines = |whole: bool, changes: &[&LoggedChange<'_>]| if is_alone(whole, changes) { changes.len() } else { 1 };
    let depth = |folder: &Option<SyncPath>| folder.as_ref().map_or(0, |folder| folder.components().count());
    while keyed.iter().map(|((_, whole, _), changes)| lines(*whole, changes)).sum::<usize>() > LINES {
        // The deepest folders are told with those that they are in.
        let deepest = keyed.keys().map(|(_, _, folder)| depth(folder)).max().unwrap_or(0);
        let mut lifted: BTreeMap<GroupKey, Vec<&'c LoggedChange<'a>>> = BTreeMap::new();
        for ((verb, whole, folder), changes) in keyed {
            let key = match folder {
                Some(folder) if depth(&Some(folder.clone())) == deepest => (None, false, folder.parent()),
                folder if deepest == 0 => (None, false, folder),
                folder => (verb, whole, folder),
            };
            lifted.entry(key).or_default().extend(changes);
        }
        keyed = lifted;
        if deepest == 0 {
            break;
        }
    }
    let group = |((verb, whole, folder), changes): (GroupKey, Vec<&'c LoggedChange<'a>>)| {
        if is_alone(whole, &changes) {
            return changes.into_iter().map(FolderLines::Alone).collect::<Vec<_>>();
        }
        match (verb, folder) {
            (Some(verb), Some(folder)) if whole => vec![FolderLines::Folder(verb, folder, changes)],
            (_, folder) => vec![FolderLines::Many(folder, changes)],
        }
    };
    keyed.into_iter().flat_map(group).collect()
}

fn whole_folder(sort: &WayAndPeers, verb: Verb, folder: &SyncPath, changes: &[&LoggedChange<'_>]) -> Line {
    let (way, whom) = sort;
    let files = changes.iter().filter(|change| change.entry.file().is_some() || change.left().is_some()).count() as u64;
    let size: u64 = changes.iter().map(|change| change.size()).sum();
    let wire: u64 = changes.iter().map(|change| change.wire_bytes).sum();
    let (many, told_by) = (counted(files, "file", "files"), by(whom));
    let (kind, text) = match (way, verb) {
        (Way::Received, Verb::Gone) => {
            ("received", format!("deleted the folder '{folder}' with {many} in it{told_by}; files stay in history"))
        }
        (_, Verb::Gone) => {
            (way.word(), format!("{} the deletion of the folder '{folder}' with {many} in it to {whom}", way.word()))
        }
        (Way::Received, _) => {
            let from = if whom.is_empty() { String::new() } else { format!(" from {whom}") };
            let (size, wire) = (bytes(size), bytes(wire));
            ("received", format!("received the folder '{folder}'{from} ({many}, {size}, {wire} on the wire)"))
        }
        (_, _) => {
            let size = bytes(size);
            (way.word(), format!("{} the folder '{folder}' to {whom} ({many}, {size})", way.word()))
        }
    };
    Line { size: Some(size), paths: Some(changes.len() as u64), ..about(kind, Some(folder), whom, text) }
}

fn many(sort: &WayAndPeers, folder: Option<&SyncPath>, changes: &[&LoggedChange<'_>]) -> Line {
    let (way, whom) = sort;
    let mut sum = SummarySum::default();
    for change in changes {
        sum.add(change.report);
    }
    let place = folder.map(|folder| format!(" in '{folder}'")).unwrap_or_default();
    let line = sum.changes(*way, whom, &place, changes.iter().all(|change| change.verb == Verb::Set));
    Line { path: folder.map(|folder| folder.as_bytes().to_vec()), ..line }
}

fn by(whom: &str) -> String {
    if whom.is_empty() { String::new() } else { format!(", announced by {whom}") }
}

fn about(kind: &'static str, path: Option<&SyncPath>, whom: &str, text: String) -> Line {
    let path = path.map(|path| path.as_bytes().to_vec());
    let peer = Some(whom.to_owned()).filter(|whom| !whom.is_empty());
    Line { path, peer, ..Line::of(Level::Info, kind, text) }
}
