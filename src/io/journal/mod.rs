//! What a person would want to know: reports become log lines, and rows for `dirsync log`.
//!
//! One line a thing; above 20 things a second of one sort, one line a second that sums them up. Rows are stored in the
//! transaction of the change that they speak of, and said once it is durable. May import `engine` and `model`. Deliberately not
//! here: what is worth a report (the engine's affair), and how a line looks on the screen (`logging.rs`).

mod sentence;

use super::index::{Conflict, JournalLine, Sides, SqliteIndex};
use crate::engine::{LinkId, Now, Report};
use crate::model::{DeviceId, text};
use sentence::{Sort, Sum};
use std::collections::BTreeMap;

/// Up to this many lines a second of one sort stand for themselves.
const LINES_A_SECOND: u64 = 20;
const SECOND_NS: u64 = 1_000_000_000;

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
}

/// A line before it is said. `text` is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub kind: &'static str,
    pub path: Option<Vec<u8>>,
    pub peer: Option<String>,
    pub text: String,
}

/// Turns reports into lines.
#[derive(Default)]
pub struct Journal {
    /// Stored or to be stored with the next commit, said after it.
    stored: Vec<Line>,
    waiting: Vec<(u64, Line)>,
    conflicts: Vec<Conflict>,
    /// Those that ended by a merge, by the loser's name in history.
    merged: Vec<String>,
    windows: BTreeMap<(Sort, String), Window>,
    links: BTreeMap<LinkId, String>,
}

/// One second of one sort.
struct Window {
    ends: u64,
    /// The second before had too many: this one says nothing but its sum.
    bulk: bool,
    seen: u64,
    /// Of what was not said alone.
    sum: Sum,
}

impl Journal {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn report(&mut self, now: Now, report: &Report) {
        match report {
            Report::Conflict { .. } => self.conflicts.extend(conflict(now, report)),
            Report::Merged { kept, .. } => self.merged.push(kept.clone()),
            _ => {}
        }
        let line = sentence::line(report);
        match sentence::sort(report) {
            None => self.push(now, line),
            Some(key) => self.limited(now, key, line, report),
        }
    }

    /// A machine came.
    pub fn link_up(&mut self, now: Now, link: LinkId, device: DeviceId, name: &str) {
        let name = text::escape(name.as_bytes());
        let text = format!("{name} is linked (device {})", device.short());
        self.links.insert(link, name.clone());
        self.push(now, Line { level: Level::Quiet, kind: "linked", path: None, peer: Some(name), text });
    }

    /// A machine went; said only of one that came.
    pub fn link_down(&mut self, now: Now, link: LinkId) {
        if let Some(name) = self.links.remove(&link) {
            let text = format!("{name} is gone; changes reach it when it is back");
            self.push(now, Line { level: Level::Quiet, kind: "unlinked", path: None, peer: Some(name), text });
        }
    }

    /// Says the sums of seconds that are over.
    pub fn tick(&mut self, now: Now) {
        let over: Vec<_> =
            self.windows.iter().filter(|(_, w)| w.ends <= now.mono).map(|(key, _)| key.clone()).collect();
        for key in over {
            let Some(window) = self.windows.remove(&key) else { continue };
            if let Some(line) = window.sum.line(key.0, &key.1) {
                self.push(now, line);
            }
            if window.seen > LINES_A_SECOND {
                self.windows.insert(key, Window::begin(now, true));
            }
        }
    }

    /// When `tick` is due, by `Now::mono`.
    pub fn wake_at(&self) -> Option<u64> {
        self.windows.values().map(|window| window.ends).min()
    }

    /// Puts the lines into the open transaction.
    pub fn store(&mut self, index: &mut SqliteIndex) {
        let rows: Vec<_> = self.waiting.iter().filter(|(_, line)| line.level != Level::Debug).map(row).collect();
        index.append_journal(&rows);
        index.append_conflicts(&std::mem::take(&mut self.conflicts));
        for kept in self.merged.drain(..) {
            index.settle_conflict_of(&kept, "merged");
        }
        self.stored.extend(self.waiting.drain(..).map(|(_, line)| line));
    }

    /// Says what is durable now.
    pub fn say(&mut self) {
        for Line { level, kind, text, .. } in self.stored.drain(..) {
            match level {
                Level::Warn => tracing::warn!(kind, "{text}"),
                Level::Info => tracing::info!(kind, "{text}"),
                Level::Debug => tracing::debug!(kind, "{text}"),
                Level::Quiet => {}
            }
        }
    }

    /// Says all that is left, at the end.
    pub fn finish(&mut self, now: Now) {
        for window in self.windows.values_mut() {
            window.ends = 0;
        }
        self.tick(now);
    }

    fn limited(&mut self, now: Now, key: (Sort, String), line: Line, report: &Report) {
        if self.windows.get(&key).is_some_and(|window| window.ends <= now.mono) {
            self.tick(now);
        }
        let window = self.windows.entry(key).or_insert_with(|| Window::begin(now, false));
        window.seen += 1;
        if window.bulk || window.seen > LINES_A_SECOND {
            window.sum.add(report);
        } else {
            window.sum.follows_lines();
            self.push(now, line);
        }
    }

    fn push(&mut self, now: Now, line: Line) {
        self.waiting.push((now.wall, line));
    }
}

impl Window {
    fn begin(now: Now, bulk: bool) -> Self {
        Self { ends: now.mono + SECOND_NS, bulk, seen: 0, sum: Sum::default() }
    }
}

fn conflict(now: Now, report: &Report) -> Option<Conflict> {
    let Report::Conflict { path, winner, winner_name, loser, loser_name, kept, beside } = report.clone() else {
        return None;
    };
    let sides = Sides { winner, winner_name, loser, loser_name, beside };
    Some(Conflict { id: 0, at: now.wall, path, kept, settled: None, sides })
}

fn row((at, line): &(u64, Line)) -> JournalLine {
    let Line { kind, path, peer, text, .. } = line.clone();
    JournalLine { at: *at, kind: kind.to_owned(), path, peer, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContentId, Entry, FileTime, Kind, Mode, Seen, SyncPath, Version};

    fn at(ms: u64) -> Now {
        Now { wall: 1_000_000_000 * 1_700_000_000 + ms * 1_000_000, mono: ms * 1_000_000 }
    }

    fn received(name: &str, from: &str) -> Report {
        let kind = Kind::File { size: 4096, content: ContentId::of(b"x") };
        let version = Version { stamp: 1, author: DeviceId([1; 32]), seen: Seen::default() };
        let entry = Entry { kind, mode: Mode(0o644), mtime: FileTime::default(), version };
        let path = SyncPath::new(name).unwrap();
        Report::Received { path, entry, from: from.into(), wire_bytes: 1024, took_ns: 5_000_000, was_there: false }
    }

    /// What was written since the last call.
    fn texts(journal: &mut Journal) -> Vec<String> {
        journal.waiting.drain(..).map(|(_, line)| line.text).collect()
    }

    #[test]
    fn a_few_files_have_a_line_each() {
        let mut journal = Journal::new();
        for n in 0..20 {
            journal.report(at(n), &received(&format!("f{n}"), "beta"));
        }
        assert_eq!(texts(&mut journal).len(), 20);
        journal.tick(at(2000));
        assert_eq!(texts(&mut journal), [""; 0], "nothing is said twice");
        assert_eq!(journal.wake_at(), None, "and nobody wakes for it");
    }

    #[test]
    fn a_flood_has_one_line_a_second() {
        let mut journal = Journal::new();
        for n in 0..5000 {
            journal.report(at(n), &received(&format!("f{n}"), "beta"));
            journal.tick(at(n));
        }
        let lines = texts(&mut journal);
        assert_eq!(lines.len(), 20 + 4, "{lines:?}");
        assert_eq!(lines[20], "received 980 more files from beta (3.8 MiB, 980.0 KiB on the wire)");
        assert!(lines[21].starts_with("received 1,000 files from beta"), "{}", lines[21]);
        let due = journal.wake_at().unwrap();
        journal.tick(Now { mono: due, ..at(0) });
        assert_eq!(texts(&mut journal).len(), 1, "the last second is told too");
        journal.tick(at(6500));
        journal.report(at(9000), &received("late", "beta"));
        assert_eq!(texts(&mut journal), ["received 'late' from beta (4.0 KiB, 1.0 KiB on the wire, 5 ms)"]);
    }

    #[test]
    fn one_peer_s_flood_does_not_hide_another_s_file_or_a_conflict() {
        let mut journal = Journal::new();
        for n in 0..100 {
            journal.report(at(1), &received(&format!("f{n}"), "beta"));
        }
        texts(&mut journal);
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
        let lines = texts(&mut journal);
        assert_eq!(lines.len(), 31);
        assert!(lines[0].contains("gamma") && lines[30].contains("kept29"), "{lines:?}");
    }

    #[test]
    fn the_end_leaves_nothing_unsaid() {
        let mut journal = Journal::new();
        for n in 0..25 {
            journal.report(at(1), &received(&format!("f{n}"), "beta"));
        }
        journal.finish(at(2));
        assert_eq!(texts(&mut journal).len(), 21);
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
    fn lines_are_stored_with_the_change_and_said_once() {
        let home = tempfile::TempDir::new().unwrap();
        let mut index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let mut journal = Journal::new();
        journal.store(&mut index);
        assert!(!index.is_dirty());
        journal.report(at(1), &received("f\n", "beta"));
        journal.store(&mut index);
        journal.store(&mut index);
        index.commit().unwrap();
        let lines = index.journal(10);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].kind.as_str(), lines[0].path.as_deref()), ("received", Some(&b"f\n"[..])));
        assert_eq!(lines[0].at, at(1).wall);
        assert!(lines[0].text.starts_with("received 'f\\x0a' from beta"), "{}", lines[0].text);
        assert_eq!(journal.stored.len(), 1);
        journal.say();
        assert_eq!(journal.stored.len(), 0);
    }
}
