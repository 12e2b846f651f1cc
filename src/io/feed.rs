//! What happens here, for programs that follow along: the last few thousand events, in order.
//!
//! Every change of a path is one event, and every line of the journal. Who follows reads them from
//! here at its own pace, so that a slow one costs nothing. Who comes too late for some is told so.
//! May import `engine` and `model`. Deliberately not here: the stream (`control/events.rs`).

use crate::io::store::index::{JournalLine, SEEN_CHANGES, SeenChange, SeenChangeKind, SeenChanges};
use crate::model::{ContentId, SyncPath, text};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Events that are kept, at most, and what they may take (bytes). The oldest go.
const EVENTS: usize = SEEN_CHANGES;
const EVENTS_BYTES: usize = 2 << 20;
/// The halves of a rename may be so far apart (ns), and so many wait for the other one.
const HALVES_WITHIN_NS: u64 = 2_000_000_000;
const HALVES: usize = 4096;

/// The names of all events that are no lines of the journal.
pub const PATH_EVENTS: [&str; 5] = ["file_added", "file_modified", "file_deleted", "file_renamed", "file_pending"];
/// And of the lines that are events: their `kind`. Single changes are events already.
pub const LINE_EVENTS: [&str; 47] = [
    "alone",
    "bad_source",
    "clock",
    "confirmed",
    "conflict",
    "deletion_lost",
    "fetching",
    "forgotten",
    "halted",
    "healed",
    "held",
    "hold_ended",
    "in_sync",
    "invalid_entries",
    "joined",
    "kept",
    "left",
    "left_alone",
    "linked",
    "local_kept",
    "many_deleted",
    "merged",
    "new_device",
    "overridden",
    "paused",
    "peer",
    "problem",
    "promoted",
    "purged",
    "read_wrongly",
    "redated",
    "removed",
    "resumed",
    "reverted",
    "role",
    "rotated",
    "scanned",
    "silent",
    "solved",
    "suspect",
    "sync_applying",
    "sync_comparing",
    "sync_done",
    "sync_transferring",
    "undone",
    "unlinked",
    "verified",
];
/// Lines that sum changes up.
const SUMS: [&str; 4] = ["received", "sent", "announced", "renamed"];

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// Counts from 1 in each run.
    pub number: u64,
    /// Nanoseconds since 1970.
    pub time: u64,
    pub what: FeedFact,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedFact {
    Path {
        change: Box<SeenChange>,
        /// Where the same content went away from at the same time: it was renamed.
        from: Option<SyncPath>,
    },
    Line(Box<JournalLine>),
}

impl FeedFact {
    /// The name of the event.
    pub fn name(&self) -> &str {
        match self {
            Self::Path { from: Some(_), .. } => "file_renamed",
            Self::Path { change, .. } => match change.change {
                SeenChangeKind::Added => "file_added",
                SeenChangeKind::Modified => "file_modified",
                SeenChangeKind::Deleted => "file_deleted",
                SeenChangeKind::Pending => "file_pending",
            },
            Self::Line(line) => &line.kind,
        }
    }

    /// The path that it speaks of, and the one before it.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        let paths = match self {
            Self::Path { change, from } => [Some(change.path.as_bytes()), from.as_ref().map(SyncPath::as_bytes)],
            Self::Line(line) => [line.path.as_deref(), None],
        };
        paths.into_iter().flatten()
    }

    /// In memory, roughly (bytes).
    fn weight(&self) -> usize {
        let (text, inner) = match self {
            Self::Path { .. } => (0, size_of::<SeenChange>()),
            Self::Line(line) => (line.text.len() + line.peer.as_ref().map_or(0, String::len), size_of::<JournalLine>()),
        };
        size_of::<FeedEvent>() + inner + text + self.paths().map(<[u8]>::len).sum::<usize>()
    }
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub struct FeedBatch {
    pub events: Vec<FeedEvent>,
    /// How many before these are gone already.
    pub missed: u64,
    /// Where to go on.
    pub next: u64,
}

#[derive(Clone)]
pub struct EventFeed(Arc<SharedFeed>);

struct SharedFeed {
    run: String,
    kept: Mutex<KeptEvents>,
    /// The number of the latest event.
    latest: watch::Sender<u64>,
}

#[derive(Default)]
struct KeptEvents {
    events: VecDeque<FeedEvent>,
    bytes: usize,
    latest: u64,
    halves: RenameHalves,
}

/// Files that came or went a moment ago, by content, and when.
#[derive(Default)]
struct RenameHalves {
    came: BTreeMap<ContentId, (u64, SeenChange)>,
    went: BTreeMap<ContentId, (u64, SeenChange)>,
}

impl RenameHalves {
    /// The whole rename, if this is its second half.
    fn complete(&mut self, time: u64, change: SeenChange) -> (SeenChange, Option<SyncPath>) {
        let is_near = |(at, _): &(u64, SeenChange)| time.abs_diff(*at) <= HALVES_WITHIN_NS;
        // All empty files are alike.
        let Some(content) = change.content.filter(|_| change.size > 0) else { return (change, None) };
        let (own, other) = match change.change {
            SeenChangeKind::Added => (&mut self.came, &mut self.went),
            SeenChangeKind::Deleted => (&mut self.went, &mut self.came),
            SeenChangeKind::Modified | SeenChangeKind::Pending => return (change, None),
        };
        match other.remove(&content).filter(is_near) {
            Some((_, half)) if half.path != change.path => match change.change {
                SeenChangeKind::Added => (change, Some(half.path)),
                _ => (half, Some(change.path)),
            },
            _ => {
                if own.len() >= HALVES {
                    // So much at once is no rename, and looking for the old ones each time is dear.
                    own.clear();
                }
                own.insert(content, (time, change.clone()));
                (change, None)
            }
        }
    }
}

impl EventFeed {
    /// `began`: when this run did (ns since 1970), by which a reader of another run is known.
    pub fn new(began: u64) -> Self {
        let latest = watch::Sender::new(0);
        Self(Arc::new(SharedFeed { run: text::hex(&began.to_be_bytes()), kept: Mutex::default(), latest }))
    }

    pub fn run(&self) -> &str {
        &self.0.run
    }

    /// Changes that were committed at once. A content that went and came is a rename.
    pub fn publish_changes(&self, time: u64, changes: SeenChanges) {
        let SeenChanges { latest, forgotten } = changes;
        if latest.is_empty() {
            return;
        }
        if forgotten > 0 {
            self.lock().forget_all(forgotten);
        }
        let mut halves = std::mem::take(&mut self.lock().halves);
        let complete = |(change, from): (SeenChange, Option<SyncPath>)| match from {
            Some(from) => (change, Some(from)),
            None => halves.complete(time, change),
        };
        let facts: Vec<_> = with_renames(latest.into()).into_iter().map(complete).collect();
        self.publish(facts.into_iter().map(|(change, from)| FeedFact::Path { change: Box::new(change), from }), time);
        self.lock().halves = halves;
    }

    pub fn publish_line(&self, line: JournalLine) {
        let kind = line.kind.as_str();
        if !SUMS.contains(&kind) {
            debug_assert!(LINE_EVENTS.contains(&kind), "{kind} is no event");
            let time = line.at;
            self.publish([FeedFact::Line(Box::new(line))], time);
        }
    }

    fn publish(&self, facts: impl IntoIterator<Item = FeedFact>, time: u64) {
        let mut kept = self.lock();
        for what in facts {
            kept.push(time, what);
        }
        let latest = kept.latest;
        drop(kept);
        self.0.latest.send_replace(latest);
    }

    /// The number of the latest event.
    pub fn latest(&self) -> u64 {
        self.lock().latest
    }

    /// What came after `number`, at most `limit`; of each path the latest alone.
    pub fn after(&self, number: u64, limit: usize) -> FeedBatch {
        let kept = self.lock();
        let first = kept.latest + 1 - kept.events.len() as u64;
        let from = (number + 1).clamp(first, kept.latest + 1);
        let events: Vec<_> = kept.events.iter().skip((from - first) as usize).take(limit).cloned().collect();
        drop(kept);
        let next = events.last().map_or(from - 1, |last| last.number);
        FeedBatch { events: latest_of_each(events), missed: from - (number + 1).min(from), next }
    }

    /// To wait for news with.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.0.latest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, KeptEvents> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptEvents {
    /// As if so many more had come, and none were kept of them.
    fn forget_all(&mut self, more: u64) {
        self.events.clear();
        self.bytes = 0;
        self.latest += more;
    }

    fn push(&mut self, time: u64, what: FeedFact) {
        self.latest += 1;
        self.bytes += what.weight();
        self.events.push_back(FeedEvent { number: self.latest, time, what });
        while self.events.len() > EVENTS || self.bytes > EVENTS_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.what.weight();
        }
    }
}

/// Each change, and where it came from if it is the second half of a rename; the first half goes.
fn with_renames(changes: Vec<SeenChange>) -> Vec<(SeenChange, Option<SyncPath>)> {
    let mut gone: BTreeMap<ContentId, Vec<usize>> = BTreeMap::new();
    for (at, change) in changes.iter().enumerate() {
        if let (SeenChangeKind::Deleted, Some(content)) = (change.change, change.content) {
            gone.entry(content).or_default().push(at);
        }
    }
    let mut froms: Vec<Option<SyncPath>> = vec![None; changes.len()];
    let mut matched = BTreeSet::new();
    for (at, change) in changes.iter().enumerate() {
        if change.change == SeenChangeKind::Added
            && let Some(went) = change.content.and_then(|content| gone.get_mut(&content)?.pop())
        {
            froms[at] = Some(changes[went].path.clone());
            matched.insert(went);
        }
    }
    let both = changes.into_iter().zip(froms).enumerate();
    both.filter(|(at, _)| !matched.contains(at)).map(|(_, both)| both).collect()
}

/// Without changes of a path that a later one of them makes old.
fn latest_of_each(events: Vec<FeedEvent>) -> Vec<FeedEvent> {
    let mut seen = BTreeSet::new();
    let is_latest: Vec<bool> = events
        .iter()
        .rev()
        .map(|event| match &event.what {
            // Who skips a rename would keep the old name.
            FeedFact::Path { change, from: None } => seen.insert(change.path.clone()),
            FeedFact::Path { .. } | FeedFact::Line(_) => true,
        })
        .collect();
    events.into_iter().zip(is_latest.into_iter().rev()).filter_map(|(event, stays)| stays.then_some(event)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    fn change(path: &str, change: SeenChangeKind, content: &[u8]) -> SeenChange {
        let (path, content) = (SyncPath::new(path).unwrap(), Some(ContentId::of(content)));
        SeenChange { path, change, kind: "file", size: 1, content, author: DeviceId([1; 32]), stamp: 1 }
    }

    fn line(kind: &str, text: String) -> JournalLine {
        JournalLine { seq: 0, at: 0, kind: kind.to_owned(), path: None, peer: None, size: None, paths: None, text }
    }

    fn publish(feed: &EventFeed, time: u64, changes: Vec<SeenChange>) {
        feed.publish_changes(time, SeenChanges { latest: changes.into(), forgotten: 0 });
    }

    /// The name of each event after `number`, and its paths.
    fn read(feed: &EventFeed, number: u64) -> Vec<String> {
        let said = |event: FeedEvent| {
            let paths: Vec<_> = event.what.paths().map(text::escape).collect();
            format!("{} {}", event.what.name(), paths.join(" from "))
        };
        feed.after(number, EVENTS).events.into_iter().map(said).collect()
    }

    #[test]
    fn what_went_and_came_at_once_is_a_rename_and_each_went_once() {
        use SeenChangeKind::{Added, Deleted, Modified};
        let feed = EventFeed::new(1);
        let changes = [
            change("new", Added, b"x"),
            change("old", Deleted, b"x"),
            change("copy", Added, b"x"),
            change("gone", Deleted, b"y"),
            change("edited", Modified, b"y"),
        ];
        publish(&feed, 0, changes.into());
        let said = ["file_renamed new from old", "file_added copy", "file_deleted gone", "file_modified edited"];
        assert_eq!(read(&feed, 0), said);
    }

    #[test]
    fn the_second_half_of_a_rename_is_the_rename_whichever_it_is_if_it_comes_soon() {
        use SeenChangeKind::{Added, Deleted};
        let feed = EventFeed::new(1);
        publish(&feed, 0, vec![change("old", Deleted, b"x")]);
        publish(&feed, HALVES_WITHIN_NS, vec![change("new", Added, b"x")]);
        publish(&feed, 0, vec![change("to", Added, b"y")]);
        publish(&feed, 1, vec![change("from", Deleted, b"y")]);
        publish(&feed, 0, vec![change("late", Deleted, b"z")]);
        publish(&feed, HALVES_WITHIN_NS + 1, vec![change("other", Added, b"z")]);
        let renames = ["file_deleted old", "file_renamed new from old", "file_added to", "file_renamed to from from"];
        assert_eq!(read(&feed, 0)[..4], renames);
        assert_eq!(read(&feed, 4), ["file_deleted late", "file_added other"]);
        let empty = |path: &str, kind| SeenChange { size: 0, ..change(path, kind, b"") };
        publish(&feed, 0, vec![empty("a", Deleted)]);
        publish(&feed, 0, vec![empty("b", Added)]);
        assert_eq!(read(&feed, 6), ["file_deleted a", "file_added b"]);
        for n in 0..=HALVES {
            publish(&feed, 0, vec![change("made up", Deleted, &n.to_be_bytes())]);
        }
        assert_eq!(feed.lock().halves.went.len(), 1, "a flood makes room at once");
    }

    #[test]
    fn of_each_path_the_latest_is_read_and_no_rename_is_left_out() {
        use SeenChangeKind::{Added, Deleted, Modified, Pending};
        let feed = EventFeed::new(1);
        publish(&feed, 0, vec![change("f", Pending, b"x")]);
        publish(&feed, 0, vec![change("f", Added, b"x")]);
        publish(&feed, 0, vec![change("f", Deleted, b"x"), change("g", Added, b"x")]);
        publish(&feed, 0, vec![change("g", Modified, b"y"), change("f", Added, b"z")]);
        assert_eq!(read(&feed, 0), ["file_renamed g from f", "file_modified g", "file_added f"]);
        assert_eq!(read(&feed, 1), ["file_renamed g from f", "file_modified g", "file_added f"]);
        assert_eq!(feed.latest(), 5);
        assert_eq!(feed.after(5, 9), FeedBatch { events: vec![], missed: 0, next: 5 });
        assert_eq!(feed.after(9, 9), FeedBatch { events: vec![], missed: 0, next: 5 });
    }

    #[test]
    fn the_oldest_go_and_who_comes_too_late_is_told_how_many() {
        let feed = EventFeed::new(1);
        let changes = |count: usize| (0..count).map(|n| change(&n.to_string(), SeenChangeKind::Added, b"")).collect();
        publish(&feed, 0, changes(EVENTS + 100));
        let FeedBatch { events, missed, next } = feed.after(0, 10);
        assert_eq!((events.len(), missed, next), (10, 100, 110));
        assert_eq!(events[0].number, 101);
        assert_eq!(feed.after(100, 10).missed, 0);
        assert_eq!(feed.after(99, 10).missed, 1);
        let latest = feed.latest();
        let last = vec![change("last", SeenChangeKind::Added, b"")];
        feed.publish_changes(0, SeenChanges { latest: last.into(), forgotten: 7 });
        let FeedBatch { events, missed, next } = feed.after(latest, 10);
        assert_eq!((events.len(), missed, next), (1, 7, latest + 8), "a flood that nobody kept is counted");
        let long = "x".repeat(1 << 10);
        let long = line("alone", long);
        for _ in 0..EVENTS {
            feed.publish_line(long.clone());
        }
        let kept = feed.lock();
        assert!(kept.bytes <= EVENTS_BYTES && kept.events.len() < EVENTS, "{} {}", kept.bytes, kept.events.len());
        assert_eq!(kept.bytes, kept.events.iter().map(|event| event.what.weight()).sum::<usize>());
    }

    #[test]
    fn lines_that_sum_changes_up_are_no_events() {
        let feed = EventFeed::new(1);
        for kind in SUMS.into_iter().chain(["in_sync"]) {
            feed.publish_line(line(kind, String::new()));
        }
        assert_eq!(read(&feed, 0), ["in_sync "]);
    }

    #[test]
    fn the_page_of_the_api_names_every_event() {
        let page = include_str!("../../docs/api.md");
        let unnamed: Vec<_> =
            PATH_EVENTS.iter().chain(&LINE_EVENTS).filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(unnamed.is_empty(), "{unnamed:?}");
    }
}
