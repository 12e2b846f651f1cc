//! What a person would want to know: reports become log lines, and rows for `dirsync log`.
//!
//! Changes wait a moment, so that many of one folder are one line (`group.rs`). Of other things the
//! first few of one sort have a line each, and what follows is summed up, ever more rarely. Rows
//! are stored with the next commit, and said once they are durable. May import `engine` and
//! `model`. Deliberately not here: what is worth a report (the engine's affair), and how a line
//! looks on the screen (`logging.rs`).

mod counts;
mod group;
mod problem;
mod sentence;

use crate::engine::{LinkId, Now, Report};
use crate::io::feed::EventFeed;
use crate::io::store::index::{JournalLine, SeenChanges, SqliteIndex};
use crate::model::{DeviceId, text};
use group::Batches;
use sentence::{SummaryKind, SummarySum};
use std::collections::BTreeMap;

pub use counts::ReportCounts;
pub use problem::{problem_sentence, suspect_sentence};

/// Up to this many lines of one sort in a window stand for themselves.
const LINES_ALONE: u64 = 5;
/// A window is a second long; of what goes on, each one twice as long as the one before, up to a
/// minute (ns).
const WINDOW_NS: u64 = 1_000_000_000;
/// No machine is linked for this long after the start, or after the last one went: that is said.
const FOUND_NS: u64 = 60 * WINDOW_NS;
const BACK_NS: u64 = 15 * WINDOW_NS;
const LONGEST_WINDOW_NS: u64 = 60 * WINDOW_NS;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For a month of reading.
    Info,
    /// Wants a person's eyes.
    Warn,
    /// Only for those who look for it.
    Debug,
    /// For `dirsync log` alone: someone closer to it says it in the log.
    Quiet,
    /// For those who follow along, and for nobody later.
    Event,
}

/// A line before it is said. `text` is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub kind: &'static str,
    pub path: Option<Vec<u8>>,
    pub peer: Option<String>,
    /// Of the file, or of all that it speaks of (bytes).
    pub size: Option<u64>,
    /// How many paths below `path` it speaks of, if it is more than that path alone.
    pub paths: Option<u64>,
    pub text: String,
}

impl Line {
    fn of(level: Level, kind: &'static str, text: String) -> Self {
        Self { level, kind, path: None, peer: None, size: None, paths: None, text }
    }
}

/// Turns reports into lines.
#[derive(Default)]
pub struct Journal {
    /// Stored or to be stored with the next commit, said after it.
    stored: Vec<(u64, Line)>,
    waiting: Vec<(u64, Line)>,
    windows: BTreeMap<SummaryKind, SummaryWindow>,
    batches: Batches,
    links: BTreeMap<LinkId, String>,
    /// When it is said that no machine is linked, if none is by then.
    alone_at: Option<u64>,
    counts: ReportCounts,
    /// Who follows along is shown what is durable.
    feed: Option<EventFeed>,
}

/// Some time of one sort.
struct SummaryWindow {
    ends: u64,
    length: u64,
    /// The one before had too many: this one says nothing but its sum.
    bulk: bool,
    seen: u64,
    /// Of what was not said alone.
    sum: SummarySum,
}

impl Journal {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn shown_by(self, feed: EventFeed) -> Self {
        Self { feed: Some(feed), ..self }
    }

    /// The start: soon another machine should be found.
    pub fn begin(&mut self, now: Now) {
        self.alone_at = Some(now.mono + FOUND_NS);
    }

    /// What was reported since the start.
    pub fn counts(&self) -> &ReportCounts {
        &self.counts
    }

    pub fn report(&mut self, now: Now, report: &Report) {
        self.counts.add(report);
        if let Some((way, whom)) = sentence::way(report) {
            let lines = self.batches.add(now.mono, &(way, whom), report);
            return self.push_all(now, lines);
        }
        let line = sentence::line(report);
        match sentence::sort(report) {
            None => self.push(now, line),
            Some(sort) => self.limited(now, sort, line, report),
        }
    }

    /// A machine came.
    pub fn link_up(&mut self, now: Now, link: LinkId, device: DeviceId, name: &str) {
        let name = text::escape(name.as_bytes());
        let text = format!("{name} is linked (device {})", device.short());
        self.links.insert(link, name.clone());
        self.alone_at = None;
        self.push(now, Line { peer: Some(name), ..Line::of(Level::Quiet, "linked", text) });
    }

    /// A machine was let in by an invitation that was made here.
    pub fn invited(&mut self, now: Now, name: &str) {
        let name = text::escape(name.as_bytes());
        let text = format!("{name} joined by an invitation that was made here");
        self.push(now, Line { peer: Some(name), ..Line::of(Level::Quiet, "joined", text) });
    }

    /// A machine went; said only of one that came.
    pub fn link_down(&mut self, now: Now, link: LinkId) {
        if let Some(name) = self.links.remove(&link) {
            let text = format!("{name} is gone; changes reach it when it is back");
            self.alone_at = self.links.is_empty().then_some(now.mono + BACK_NS);
            self.push(now, Line { peer: Some(name), ..Line::of(Level::Quiet, "unlinked", text) });
        }
    }

    /// Says what has waited long enough.
    pub fn tick(&mut self, now: Now) {
        let lines = self.batches.tick(now.mono);
        self.push_all(now, lines);
        if self.alone_at.take_if(|at| *at <= now.mono).is_some() {
            let text = "no other machine is linked: what changes here reaches them when they are back (another network or \
                        subnet needs --peer HOST:PORT, and all need the same secret)";
            self.push(now, Line::of(Level::Info, "alone", text.to_owned()));
        }
        let over: Vec<_> = self.windows.iter().filter(|(_, w)| w.ends <= now.mono).map(|(sort, _)| *sort).collect();
        for sort in over {
            let Some(window) = self.windows.remove(&sort) else { continue };
            if let Some(line) = window.sum.line(sort) {
                self.push(now, line);
            }
            if window.seen > LINES_ALONE {
                let length = (window.length * 2).min(LONGEST_WINDOW_NS);
                self.windows.insert(sort, SummaryWindow::begin(now, length, true));
            }
        }
    }

    /// Somebody reads: changes that wait are lines now.
    pub fn settle(&mut self, now: Now) {
        let lines = self.batches.flush_all(now.mono);
        self.push_all(now, lines);
    }

    /// When `tick` is due, by `Now::mono`.
    pub fn wake_at(&self) -> Option<u64> {
        self.windows.values().map(|window| window.ends).chain(self.batches.due()).chain(self.alone_at).min()
    }

    /// Puts the lines into the open transaction.
    pub fn store(&mut self, index: &mut SqliteIndex) {
        let is_kept = |line: &Line| !matches!(line.level, Level::Debug | Level::Event);
        let rows: Vec<_> = self.waiting.iter().filter(|(_, line)| is_kept(line)).map(row).collect();
        index.append_journal(&rows);
        self.stored.append(&mut self.waiting);
    }

    /// Changes of paths that are durable now: who follows along is shown each of them.
    pub fn show(&self, now: Now, changes: SeenChanges) {
        if let Some(feed) = &self.feed {
            feed.publish_changes(now.wall, changes);
        }
    }

    /// Says what is durable now.
    pub fn say(&mut self) {
        for said in self.stored.drain(..) {
            if let Some(feed) = self.feed.as_ref().filter(|_| said.1.level != Level::Debug) {
                feed.publish_line(row(&said));
            }
            let (_, Line { level, kind, path, peer, size, paths, text }) = said;
            let path = path.map(|path| text::escape(&path));
            match level {
                Level::Warn => tracing::warn!(kind, path, peer, size, paths, "{text}"),
                Level::Info => tracing::info!(kind, path, peer, size, paths, "{text}"),
                Level::Debug => tracing::debug!(kind, path, peer, size, paths, "{text}"),
                Level::Quiet | Level::Event => {}
            }
        }
    }

    /// Says all that is left, at the end.
    pub fn finish(&mut self, now: Now) {
        let lines = self.batches.finish(now.mono);
        self.push_all(now, lines);
        for window in self.windows.values_mut() {
            window.ends = 0;
        }
        self.tick(now);
    }

    fn limited(&mut self, now: Now, sort: SummaryKind, line: Line, report: &Report) {
        if self.windows.get(&sort).is_some_and(|window| window.ends <= now.mono) {
            self.tick(now);
        }
        let window = self.windows.entry(sort).or_insert_with(|| SummaryWindow::begin(now, WINDOW_NS, false));
        window.seen += 1;
        if window.bulk || window.seen > LINES_ALONE {
            window.sum.add(report);
        } else {
            window.sum.follows_lines();
            self.push(now, line);
        }
    }

    fn push_all(&mut self, now: Now, lines: Vec<Line>) {
        self.waiting.extend(lines.into_iter().map(|line| (now.wall, line)));
    }

    fn push(&mut self, now: Now, line: Line) {
        self.waiting.push((now.wall, line));
    }
}

impl SummaryWindow {
    fn begin(now: Now, length: u64, bulk: bool) -> Self {
        Self { ends: now.mono + length, length, bulk, seen: 0, sum: SummarySum::default() }
    }
}

fn row((at, line): &(u64, Line)) -> JournalLine {
    let Line { kind, path, peer, size, paths, text, .. } = line.clone();
    JournalLine { seq: 0, at: *at, kind: kind.to_owned(), path, peer, size, paths, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::store::index::WantedLines;
    use crate::model::{ContentId, Entry, FileTime, Kind, Mode, SyncPath, Version, VersionVector};

    fn at(ms: u64) -> Now {
        Now { wall: 1_000_000_000 * 1_700_000_000 + ms * 1_000_000, mono: ms * 1_000_000 }
    }

    fn received(name: &str, from: &str) -> Report {
        let kind = Kind::File { size: 4096, content: ContentId::of(b"x") };
        let version = Version { stamp: 1, author: DeviceId([1; 32]), seen: VersionVector::default() };
        let entry = Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version };
        let path = SyncPath::new(name).unwrap();
        Report::Received {
            path,
            entry,
            was: None,
            from: from.into(),
            wire_bytes: 1024,
            took_ns: 5_000_000,
            was_there: false,
        }
    }

    /// What was written since the last call.
    fn texts(journal: &mut Journal) -> Vec<String> {
        journal.waiting.drain(..).map(|(_, line)| line.text).collect()
    }

    /// All that is written once nothing more comes.
    fn settled(journal: &mut Journal, ms: u64) -> Vec<String> {
        journal.tick(at(ms));
        texts(journal)
    }

    fn file(content: &[u8]) -> Kind {
        Kind::File { size: 4096, content: ContentId::of(content) }
    }

    fn change(name: &str, kind: Kind, was: Option<Kind>, wire_bytes: u64) -> Report {
        let Report::Received { entry, .. } = received(name, "beta") else { unreachable!() };
        let (path, entry) = (SyncPath::new(name).unwrap(), Entry { kind, ..entry });
        Report::Received { path, entry, was, from: "beta".into(), wire_bytes, took_ns: 1, was_there: false }
    }

    #[test]
    fn a_few_files_have_a_line_each() {
        let mut journal = Journal::new();
        for n in 0..3 {
            journal.report(at(n), &received(&format!("f{n}"), "beta"));
        }
        assert_eq!(texts(&mut journal), [""; 0], "they wait a moment");
        assert_eq!(journal.wake_at(), Some(at(252).mono));
        let lines = settled(&mut journal, 300);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "received 'f0' from beta (4.0 KiB, 1.0 KiB on the wire, 5 ms)");
        assert_eq!(settled(&mut journal, 70_000), [""; 0], "nothing is said twice");
        assert_eq!(journal.wake_at(), None, "and nobody wakes for it");
    }

    #[test]
    fn many_files_of_a_folder_are_one_line() {
        let mut journal = Journal::new();
        for n in 0..40 {
            journal.report(at(n), &received(&format!("d/f{n}"), "beta"));
        }
        journal.report(at(40), &received("e/g", "beta"));
        journal.report(at(41), &change("d/old", Kind::Deleted { at: 1 }, Some(file(b"y")), 0));
        assert_eq!(
            settled(&mut journal, 400),
            [
                "received 40 files in 'd' from beta (160.0 KiB, 40.0 KiB on the wire)",
                "received 'e/g' from beta (4.0 KiB, 1.0 KiB on the wire, 5 ms)",
                "deleted 'd/old', announced by beta; a file's content stays in history",
            ]
        );
    }

    #[test]
    fn a_first_sync_of_many_folders_has_a_few_lines_each_rarer_than_the_one_before() {
        let mut journal = Journal::new();
        let mut lines = Vec::new();
        for n in 0..20_000 {
            journal.report(at(n), &received(&format!("a{}/b{}/f{n}", n % 3, n % 50), "beta"));
            journal.tick(at(n));
            lines.extend(texts(&mut journal));
        }
        journal.finish(at(20_000));
        lines.extend(texts(&mut journal));
        assert!(lines.len() <= 5 * 3, "{lines:?}");
        let counted: u64 =
            lines.iter().map(|line| line.split(' ').nth(1).unwrap().replace(',', "").parse::<u64>().unwrap()).sum();
        assert_eq!(counted, 20_000, "none is left out: {lines:?}");
    }

    #[test]
    fn a_new_folder_and_one_that_went_are_a_line_each() {
        let mut journal = Journal::new();
        journal.report(at(0), &change("new", Kind::Directory, None, 0));
        journal.report(at(0), &change("new/sub", Kind::Directory, None, 0));
        journal.report(at(0), &change("old", Kind::Deleted { at: 1 }, Some(Kind::Directory), 0));
        for n in 0..30_u8 {
            journal.report(at(1), &change(&format!("new/sub/f{n}"), file(&[n]), None, 1024));
            journal.report(at(1), &change(&format!("old/f{n}"), Kind::Deleted { at: 1 }, Some(file(&[n, n])), 0));
        }
        assert_eq!(
            settled(&mut journal, 800),
            [
                "received the folder 'new' from beta (30 files, 120.0 KiB, 30.0 KiB on the wire)",
                "deleted the folder 'old' with 30 files in it, announced by beta; files stay in history",
            ]
        );
    }

    #[test]
    fn a_renamed_folder_is_one_line_and_so_are_files_that_were_moved() {
        let mut journal = Journal::new();
        for (kind, was, name) in
            [(Kind::Directory, None, "album2"), (Kind::Deleted { at: 1 }, Some(Kind::Directory), "album")]
        {
            journal.report(at(0), &change(name, kind, was, 0));
        }
        for n in 0..200_u8 {
            journal.report(at(1), &change(&format!("album2/f{n}"), file(&[n]), None, 0));
            journal.report(at(2), &change(&format!("album/f{n}"), Kind::Deleted { at: 1 }, Some(file(&[n])), 0));
        }
        assert_eq!(
            settled(&mut journal, 400),
            ["renamed the folder 'album' to 'album2' (200 files, 800.0 KiB), announced by beta"]
        );
        for n in 0..9_u8 {
            journal.report(at(500), &change(&format!("in/f{n}"), Kind::Deleted { at: 1 }, Some(file(&[n])), 0));
            journal.report(at(500), &change(&format!("out/2026/f{n}"), file(&[n]), None, 0));
        }
        journal.report(at(500), &change("a", Kind::Deleted { at: 1 }, Some(file(b"a")), 0));
        journal.report(at(500), &change("b", file(b"a"), None, 0));
        assert_eq!(
            settled(&mut journal, 1000),
            ["renamed 'a' to 'b', announced by beta", "moved 9 files from 'in' to 'out/2026', announced by beta"]
        );
        journal.report(at(2000), &change("c", Kind::Deleted { at: 1 }, Some(file(b"c")), 0));
        journal.report(at(2000), &change("d", file(b"d"), None, 0));
        assert_eq!(settled(&mut journal, 3000).len(), 2, "another content is no rename");
    }

    #[test]
    fn a_rename_whose_deletions_come_later_is_one_line_too() {
        let mut journal = Journal::new();
        journal.report(at(0), &change("new", Kind::Directory, None, 0));
        for n in 0..30_u8 {
            journal.report(at(1), &change(&format!("new/f{n}"), file(&[n]), None, 0));
        }
        assert!(settled(&mut journal, 400).is_empty(), "the deletions may be still to come");
        journal.report(at(410), &change("old", Kind::Deleted { at: 1 }, Some(Kind::Directory), 0));
        for n in 0..30_u8 {
            journal.report(at(410), &change(&format!("old/f{n}"), Kind::Deleted { at: 1 }, Some(file(&[n])), 0));
        }
        assert_eq!(
            settled(&mut journal, 1200),
            ["renamed the folder 'old' to 'new' (30 files, 120.0 KiB), announced by beta"]
        );
    }

    #[test]
    fn what_came_and_was_renamed_at_once_is_a_rename_to_its_last_name() {
        let mut journal = Journal::new();
        journal.report(at(0), &change("a", file(b"a"), None, 0));
        journal.report(at(100), &change("b", file(b"a"), None, 0));
        journal.report(at(100), &change("a", Kind::Deleted { at: 1 }, Some(file(b"a")), 0));
        let lines = settled(&mut journal, 1200);
        assert!(lines.contains(&"renamed 'a' to 'b', announced by beta".to_owned()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("'a' to 'a'")), "{lines:?}");
    }

    #[test]
    fn a_folder_that_was_moved_into_a_new_one_is_one_line() {
        let mut journal = Journal::new();
        for new in ["docs", "docs/nfa", "docs/nfa/deep"] {
            journal.report(at(0), &change(new, Kind::Directory, None, 0));
        }
        for (n, name) in ["a", "b", "deep/c"].iter().enumerate() {
            let content = file(&[n as u8]);
            journal.report(at(1), &change(&format!("docs/nfa/{name}"), content.clone(), None, 0));
            let old = format!("src/x/nfa/{name}");
            journal.report(at(300), &change(&old, Kind::Deleted { at: 1 }, Some(content), 0));
        }
        for old in ["src/x/nfa/deep", "src/x/nfa"] {
            journal.report(at(301), &change(old, Kind::Deleted { at: 1 }, Some(Kind::Directory), 0));
        }
        assert_eq!(
            settled(&mut journal, 1200),
            [
                "renamed the folder 'src/x/nfa' to 'docs/nfa' (3 files, 12.0 KiB), announced by beta",
                "made the folder 'docs', announced by beta",
            ]
        );
    }

    #[test]
    fn a_file_that_grows_all_the_time_has_a_line_a_minute() {
        let mut journal = Journal::new();
        let mut lines = Vec::new();
        for n in 0..100 {
            let now = at(n * 1000);
            journal.report(now, &change("log", file(&n.to_be_bytes()), Some(file(b"before")), 1024));
            journal.tick(now);
            journal.tick(at(n * 1000 + 300));
            lines.extend(texts(&mut journal));
        }
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("received 'log' from beta (4.0 KiB, 1.0 KiB"), "{lines:?}");
        assert_eq!(lines[1], "received 'log' from beta 60 more times (now 4.0 KiB, 60.0 KiB on the wire)");
        journal.finish(at(100_000));
        assert_eq!(texts(&mut journal), ["received 'log' from beta 39 more times (now 4.0 KiB, 39.0 KiB on the wire)"]);
    }

    #[test]
    fn one_peer_s_flood_does_not_hide_another_s_file_and_of_many_conflicts_the_first_are_listed() {
        let mut journal = Journal::new();
        for n in 0..100 {
            journal.report(at(1), &received(&format!("f{n}"), "beta"));
        }
        journal.report(at(2), &received("g", "gamma"));
        let Report::Received { entry, .. } = received("x", "x") else { unreachable!() };
        for n in 0..30 {
            let names = ("beta".to_owned(), "alpha".to_owned());
            journal.report(
                at(3),
                &Report::Conflict {
                    path: SyncPath::new(format!("c{n}")).unwrap(),
                    winner: entry.clone(),
                    winner_name: names.0,
                    loser: entry.clone(),
                    loser_name: names.1,
                    kept: Some(format!("kept{n}")),
                    beside: None,
                },
            );
        }
        let lines = settled(&mut journal, 1500);
        assert_eq!(lines.len(), 5 + 1 + 1 + 1, "{lines:?}");
        assert!(lines[0].contains("kept0") && lines[4].contains("kept4"), "{lines:?}");
        assert!(lines[5].starts_with("received 100 files from beta"), "{lines:?}");
        assert!(lines[6].contains("'g' from gamma"), "{lines:?}");
        assert_eq!(lines[7], "25 more conflicts; 'dirsync conflicts' lists them");
    }

    #[test]
    fn the_end_leaves_nothing_unsaid() {
        let mut journal = Journal::new();
        for n in 0..25 {
            journal.report(at(1), &received(&format!("f{n}"), "beta"));
        }
        journal.finish(at(2));
        assert_eq!(texts(&mut journal).len(), 1);
    }

    #[test]
    fn who_came_and_went_is_told_by_name() {
        let mut journal = Journal::new();
        journal.link_up(at(1), LinkId(1), DeviceId([0xab; 32]), "be\u{1b}ta");
        journal.link_down(at(2), LinkId(1));
        journal.link_down(at(3), LinkId(1));
        let lines = texts(&mut journal);
        assert_eq!(
            lines,
            ["be\\x1bta is linked (device abababab)", "be\\x1bta is gone; changes reach it when it is back"]
        );
    }

    #[test]
    fn to_be_alone_is_told_after_a_while_and_once() {
        let mut journal = Journal::new();
        journal.begin(at(0));
        assert_eq!(settled(&mut journal, 59_000), [""; 0]);
        assert_eq!(journal.wake_at(), Some(at(60_000).mono));
        assert!(settled(&mut journal, 60_000)[0].starts_with("no other machine is linked"));
        assert_eq!((settled(&mut journal, 600_000).len(), journal.wake_at()), (0, None));
        journal.link_up(at(600_000), LinkId(1), DeviceId([1; 32]), "beta");
        journal.link_up(at(600_000), LinkId(2), DeviceId([2; 32]), "gamma");
        journal.link_down(at(600_000), LinkId(1));
        texts(&mut journal);
        assert_eq!(settled(&mut journal, 700_000), [""; 0], "gamma is there");
        journal.link_down(at(700_000), LinkId(2));
        journal.link_up(at(710_000), LinkId(3), DeviceId([2; 32]), "gamma");
        texts(&mut journal);
        assert_eq!(settled(&mut journal, 800_000), [""; 0], "it came back soon");
        journal.link_down(at(800_000), LinkId(3));
        texts(&mut journal);
        assert_eq!(settled(&mut journal, 815_000).len(), 1);
    }

    #[test]
    fn lines_are_stored_with_the_change_and_said_once() {
        let home = tempfile::TempDir::new().unwrap();
        let mut index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let mut journal = Journal::new();
        journal.store(&mut index);
        assert!(!index.is_dirty());
        journal.report(at(1), &received("f\n", "beta"));
        journal.settle(at(1));
        journal.store(&mut index);
        journal.store(&mut index);
        index.commit().unwrap();
        let lines = index.journal(&WantedLines::last(10));
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].kind.as_str(), lines[0].path.as_deref()), ("received", Some(&b"f\n"[..])));
        assert_eq!(lines[0].at, at(1).wall);
        assert!(lines[0].text.starts_with("received 'f\\x0a' from beta"), "{}", lines[0].text);
        assert_eq!(journal.stored.len(), 1);
        journal.say();
        assert_eq!(journal.stored.len(), 0);
    }
}
