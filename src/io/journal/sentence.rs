//! The sentence of each report, and of many of one sort together.
//!
//! May import `engine` and `model`. Everything foreign is escaped here. Deliberately not here: when
//! a sentence is said.

use super::{Level, Line};
use crate::engine::{Report, SyncPhase};
use crate::humanize::{bytes, count, counted, duration, listed};
use crate::io::journal::problem::{problem_sentence, renewal_sentence};
use crate::model::{Entry, Kind, SyncPath, text};
use crate::views::condition;
use crate::wire::condition::Condition;

/// What is summed up with its like when there is much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SummaryKind {
    Conflict,
    Problem,
    Solved,
    LeftAlone,
    DeletionLost,
}

/// Which sort; `None` is always said alone.
pub(super) fn sort(report: &Report) -> Option<SummaryKind> {
    match report {
        Report::Conflict { .. } => Some(SummaryKind::Conflict),
        Report::Problem { path: Some(_), .. } => Some(SummaryKind::Problem),
        Report::Solved { path: Some(_) } => Some(SummaryKind::Solved),
        Report::LeftAlone { .. } => Some(SummaryKind::LeftAlone),
        Report::DeletionLost { .. } => Some(SummaryKind::DeletionLost),
        _ => None,
    }
}

/// Which way a change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Received,
    Sent,
    Announced,
}

impl Way {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Announced => "announced",
        }
    }
}

/// A change that is told with others of its folder, and the machines at the other end.
pub(super) fn way(report: &Report) -> Option<(Way, String)> {
    match report {
        Report::Received { from, .. } => Some((Way::Received, escaped(from))),
        Report::Sent { to, .. } => Some((Way::Sent, names(to))),
        Report::Announced { to, .. } => Some((Way::Announced, names(to))),
        _ => None,
    }
}

pub(super) fn line(report: &Report) -> Line {
    let (level, kind, text) = match report {
        Report::Received { path, entry, from, wire_bytes, took_ns, was_there, .. } => {
            (Level::Info, "received", received(path, entry, &escaped(from), *wire_bytes, *took_ns, *was_there))
        }
        Report::Fetching { path, from, bytes: came, size } => {
            let (came, size) = (bytes(*came), bytes(*size));
            (Level::Info, "fetching", format!("fetching '{path}' from {}: {came} of {size} so far", names(from)))
        }
        Report::BadSource { path, peer } => {
            let text = format!(
                "what {} sent of '{path}' is not what it should be: it is not asked for it again; \
                 if the file was not just changed there, look at that machine's disk and memory",
                escaped(peer)
            );
            (Level::Warn, "bad_source", text)
        }
        Report::Sent { path, entry, was, to, took_ns } => {
            (Level::Info, "sent", sent(path, entry, was.as_ref(), &names(to), *took_ns))
        }
        Report::Announced { path, entry, was, to } => {
            (Level::Info, "announced", announced(path, entry, was.as_ref(), &names(to)))
        }
        Report::Conflict { path, winner, winner_name, loser, loser_name, kept, beside } => {
            let (winner, loser) = (version(winner, winner_name), version(loser, loser_name));
            let kept = kept.as_ref().map(|kept| format!("kept in history as '{}'", escaped(kept)));
            let beside = beside.as_ref().map(|beside| format!("kept beside it as '{beside}'"));
            let places = listed(&kept.into_iter().chain(beside).collect::<Vec<_>>());
            let text =
                format!("conflict at '{path}': {winner} won over {loser}, which is {places} (dirsync conflicts)");
            (Level::Warn, "conflict", text)
        }
        Report::Merged { path, loser, loser_name, .. } => {
            let loser = version(loser, loser_name);
            (Level::Info, "merged", format!("merged '{path}': it now also holds the edits of {loser}"))
        }
        Report::Problem { path: Some(path), problem } => {
            (Level::Warn, "problem", format!("'{path}' needs attention: {}", problem_sentence(problem)))
        }
        Report::Problem { path: None, problem } => {
            (Level::Warn, "problem", format!("the folder needs attention: {}", problem_sentence(problem)))
        }
        Report::Solved { path: Some(path) } => (Level::Info, "solved", format!("'{path}' is fine again")),
        Report::Solved { path: None } => (Level::Info, "solved", "the folder is fine again".to_owned()),
        Report::LeftAlone { path, what } => {
            (Level::Info, "left_alone", format!("'{path}' is left alone: it is a {what}, which is not synced"))
        }
        Report::Scanned { paths, changed, took_ns } => {
            let (paths, changed) = (counted(*paths, "path", "paths"), count(*changed));
            (Level::Info, "scanned", format!("scanned {paths} in {}; {changed} had changed", duration(*took_ns)))
        }
        Report::InSync { peer, paths } => {
            (Level::Info, "in_sync", format!("in sync with {} ({})", escaped(peer), counted(*paths, "path", "paths")))
        }
        Report::DeletionLost { path, deleter, editor } => {
            let (deleter, editor) = (escaped(deleter), escaped(editor));
            let text = format!(
                "'{path}' is back: {editor} changed it while {deleter} deleted it, and the change \
                 outlives the deletion"
            );
            (Level::Info, "deletion_lost", text)
        }
        Report::Paused { paused: true } => {
            let text = "paused: nothing is sent or received until 'dirsync resume'".to_owned();
            (Level::Info, "paused", text)
        }
        Report::Paused { paused: false } => (Level::Info, "resumed", "no longer paused: syncing goes on".to_owned()),
        Report::Syncing { peer, phase } => syncing(&escaped(peer), *phase),
        Report::PeerStands { peer, condition } if condition.is_clear() => {
            (Level::Info, "peer", format!("{}: nothing keeps it from being done any more", escaped(peer)))
        }
        Report::PeerStands { peer, condition } => {
            // A pause is a person's will.
            let is_paused = Condition { paused: true, ..Condition::default() } == *condition;
            let level = if is_paused { Level::Info } else { Level::Warn };
            (level, "peer", format!("{}: {}", escaped(peer), condition::words(condition).join("; ")))
        }
        Report::Halted { why } => (Level::Warn, "halted", format!("syncing is stopped, and nothing is deleted: {why}")),
        Report::Resumed => (Level::Info, "resumed", "syncing goes on".to_owned()),
        Report::Held { deletions, of } => {
            let held = format!("{} of {}", counted(*deletions, "deletion", "deletions"), counted(*of, "file", "files"));
            (
                Level::Warn,
                "held",
                format!("held back: {held}; if they are meant, run 'dirsync confirm', else 'dirsync undo'"),
            )
        }
        Report::HeldFromPeers { deletions, of } => {
            let held = format!("{} of {}", counted(*deletions, "deletion", "deletions"), counted(*of, "file", "files"));
            let text = format!(
                "held back: {held} by other machines; if they are meant, run 'dirsync confirm' on \
                 any machine, else 'dirsync undo' here"
            );
            (Level::Warn, "held", text)
        }
        Report::HeldReverts { reverts, of, by_peers } => {
            let held = format!("{} of {}", count(*reverts), counted(*of, "file", "files"));
            let whose = if *by_peers { " by other machines' changes" } else { " here" };
            let text = format!(
                "held back: {held} went back to older contents{whose}; if that is meant, run \
                 'dirsync confirm', else 'dirsync undo'"
            );
            (Level::Warn, "held", text)
        }
        Report::ManyDeleted { deletions, of, example, by } => {
            let by = by.iter().map(|name| escaped(name)).collect::<Vec<_>>().join(", ");
            let such_as = example.as_ref().map(|path| format!(", such as '{path}'")).unwrap_or_default();
            let text = format!(
                "{} of {} of an hour ago were deleted by {by}{such_as}; as they were small, that \
                 is not held back; if it was not meant, 'dirsync undo' brings them back",
                count(*deletions),
                counted(*of, "file", "files"),
            );
            (Level::Warn, "many_deleted", text)
        }
        Report::HoldEnded => {
            let text = "what was held goes ahead: files came back, and no more than half are lost".to_owned();
            (Level::Info, "hold_ended", text)
        }
        Report::HeldUnignored { paths } => {
            let text = format!(
                "held back: another machine's change of .dirsyncignore would have {} here synced \
                 that were not; if that is meant, run 'dirsync confirm', else change \
                 .dirsyncignore",
                counted(*paths, "path", "paths")
            );
            (Level::Warn, "held", text)
        }
        Report::Suspect { path, unreadable, heals } => (Level::Warn, "suspect", suspect(path, *unreadable, *heals)),
        Report::Healed { path } => (Level::Info, "healed", format!("'{path}' holds again what it should")),
        Report::Kept { path } => {
            (Level::Info, "kept", format!("'{path}' is right as it is: what was suspect is a new version"))
        }
        Report::ReadWrongly { path } => {
            let text = format!(
                "'{path}' was read wrongly once, and rightly after that: the memory, or the way \
                 to the disk, is not to be trusted"
            );
            (Level::Warn, "read_wrongly", text)
        }
        Report::Verified { files, bytes: size, found, passed_over, took_ns } => {
            let mut what = format!("{} ({})", counted(*files, "file", "files"), bytes(*size));
            if *passed_over > 0 {
                what = format!("{what} and passed over {} in use", count(*passed_over));
            }
            let text = match found {
                0 => format!("verified {what} in {}: all is as it should be", duration(*took_ns)),
                found => format!("verified {what}: {} suspect, see 'dirsync status'", counted(*found, "is", "are")),
            };
            (Level::Info, "verified", text)
        }
        Report::Undone { paths } => {
            let text = format!("undone: {} come back, as they were", counted(*paths, "path", "paths"));
            (Level::Info, "undone", text)
        }
        Report::StaysAway { paths } => {
            let first = paths.first().map(|path| format!(" ('{path}' first)")).unwrap_or_default();
            let paths = counted(paths.len() as u64, "path", "paths");
            let text = format!("undone: {paths}{first} in no history that can be asked stay away");
            (Level::Warn, "undone", text)
        }
        Report::Confirmed => (Level::Info, "confirmed", "confirmed: what was held goes ahead".to_owned()),
        Report::ConfirmedBy { by, paths } => {
            let changes = if *paths == 1 { "change" } else { "changes" };
            let text = format!("confirmed at {}: {paths} {changes} that were held here go ahead", escaped(by));
            (Level::Info, "confirmed", text)
        }
        Report::NewDevice { why } => {
            let text = format!(
                "{}; it takes a new device id, and what it holds is compared as if found for the \
                 first time: nothing is deleted or rolled back elsewhere",
                renewal_sentence(why)
            );
            (Level::Warn, "new_device", text)
        }
        Report::ClockOff { peer, ahead_ns } => {
            let (by, way) = (duration(ahead_ns.unsigned_abs()), if *ahead_ns > 0 { "ahead of" } else { "behind" });
            let text = format!(
                "the clock of {} is {by} {way} this machine's: set the wrong one (timedatectl \
                 set-ntp true); until then, of two changes made apart the wrong one may win",
                escaped(peer)
            );
            (Level::Warn, "clock", text)
        }
        Report::ClockRight { peer } => {
            (Level::Info, "clock", format!("the clock of {} agrees with this machine's again", escaped(peer)))
        }
        Report::InvalidEntries { peer, path, why } => {
            let at = path.as_ref().map_or_else(String::new, |path| format!(" at '{path}'"));
            let text = format!(
                "{} announces invalid entries ({why}{at}): they are not taken in, and it is \
                 compared once an hour; look at who runs that machine, and at its version of \
                 dirsync",
                escaped(peer)
            );
            (Level::Warn, "invalid_entries", text)
        }
        Report::Silent { peer, contents } => {
            let text = format!(
                "{} is linked, but sends none of {} that it was asked for: its disk may hang; others are asked \
                 meanwhile, and what it sends after all is taken",
                escaped(peer),
                counted(*contents, "file", "files")
            );
            (Level::Warn, "silent", text)
        }
        Report::Removed { device, by } => (
            Level::Info,
            "removed",
            format!("{} was removed from the group by {}: it is refused from now on", escaped(device), escaped(by)),
        ),
        Report::Rotated => {
            let text = "the group has a new secret: this machine hands it to the others as they link, and starts anew";
            (Level::Info, "rotated", text.to_owned())
        }
        Report::HandedOver { from } => (
            Level::Info,
            "rotated",
            format!("{} handed over the group's new secret: this machine starts anew with it", escaped(from)),
        ),
        Report::Forgotten { device } => {
            (Level::Info, "forgotten", format!("forgot {}: deletions are no longer remembered for it", escaped(device)))
        }
        Report::Left { peer } => {
            (Level::Info, "left", format!("{} has left the group: it is no longer waited for", escaped(peer)))
        }
        Report::Role { role } => (Level::Info, "role", format!("this machine is {}", role.word())),
        Report::LocalKept { path, kept, by } => {
            let to =
                if by.is_empty() { "what the group has".to_owned() } else { format!("the version of {}", escaped(by)) };
            let kept = text::escape(kept.as_bytes());
            (
                Level::Info,
                "local_kept",
                format!("the local change of '{path}' gave way to {to}; it is in history as '{kept}'"),
            )
        }
        Report::Promoted { paths } => {
            let verb = if *paths == 1 { "is" } else { "are" };
            let changes = counted(*paths, "local change", "local changes");
            (Level::Info, "promoted", format!("{changes} {verb} announced to all"))
        }
        Report::Overridden { paths } => {
            let paths = counted(*paths, "path", "paths");
            (Level::Info, "overridden", format!("what is here at {paths} is the group's newest version now"))
        }
        Report::Reverted { paths } => {
            let verb = if *paths == 1 { "gives" } else { "give" };
            let changes = counted(*paths, "local change", "local changes");
            (Level::Info, "reverted", format!("{changes} {verb} way to what the group has; history keeps the contents"))
        }
        Report::Purged { deletions } => {
            let text = format!(
                "{} that every machine knows are remembered no longer",
                counted(*deletions, "deletion", "deletions")
            );
            (Level::Info, "purged", text)
        }
        Report::Redated { changes } => {
            let text = format!(
                "{} that a wrong clock had dated years ahead {} dated as of today",
                counted(*changes, "change", "changes"),
                if *changes == 1 { "is" } else { "are" }
            );
            (Level::Info, "redated", text)
        }
    };
    let path = path(report).map(|path| path.as_bytes().to_vec());
    Line { path, peer: peer(report), size: size(report), ..Line::of(level, kind, text) }
}

fn suspect(path: &SyncPath, unreadable: bool, heals: bool) -> String {
    let what = if unreadable {
        format!("the disk cannot read '{path}'")
    } else {
        format!("'{path}' does not hold what it did, and nothing says that it was written")
    };
    if heals {
        return format!("{what}: it rotted; it is fetched again, and what was found goes to history");
    }
    let why = if unreadable { "look after the disk" } else { "it rotted, or a program wrote through a mapping" };
    format!(
        "{what}: {why}; it is announced to nobody until you say 'dirsync verify --heal PATH' \
         (fetch it again) or 'dirsync verify --keep PATH' (it is right as it is)"
    )
}

fn received(path: &SyncPath, entry: &Entry, from: &str, wire_bytes: u64, took_ns: u64, was_there: bool) -> String {
    let took = duration(took_ns);
    // A folder that was derived from what lies in it was announced by nobody.
    let announced_by = if from.is_empty() { String::new() } else { format!(", announced by {from}") };
    match &entry.kind {
        Kind::File { .. } if was_there && wire_bytes == 0 => {
            format!("set the permissions and the time of '{path}'{announced_by}")
        }
        Kind::Symlink { .. } if was_there => format!("set the time of the link '{path}'{announced_by}"),
        Kind::File { size, .. } => {
            let wire = match wire_bytes {
                0 => "its content was here already".to_owned(),
                wire => format!("{} on the wire", bytes(wire)),
            };
            let from = if from.is_empty() { String::new() } else { format!(" from {from}") };
            format!("received '{path}'{from} ({}, {wire}, {took})", bytes(*size))
        }
        Kind::Directory if was_there => format!("set the permissions of the folder '{path}'{announced_by}"),
        Kind::Directory => format!("made the folder '{path}'{announced_by}"),
        Kind::Symlink { .. } => format!("made the link '{path}'{announced_by}"),
        Kind::Deleted { .. } => format!("deleted '{path}'{announced_by}; a file's content stays in history"),
    }
}

/// What has this change on its disk by now.
fn sent(path: &SyncPath, entry: &Entry, was: Option<&Kind>, to: &str, took_ns: u64) -> String {
    let took = duration(took_ns);
    match &entry.kind {
        Kind::File { size, .. } if was != Some(&entry.kind) => {
            format!("sent '{path}' to {to} ({}, {took})", bytes(*size))
        }
        _ => format!("sent {} to {to} ({took})", what(path, entry, was)),
    }
}

/// It went to machines that do not say when they have it: their version is older.
fn announced(path: &SyncPath, entry: &Entry, was: Option<&Kind>, to: &str) -> String {
    match &entry.kind {
        Kind::File { size, .. } if was != Some(&entry.kind) => {
            format!("announced '{path}' to {to} ({})", bytes(*size))
        }
        _ => format!("announced {} to {to}", what(path, entry, was)),
    }
}

fn what(path: &SyncPath, entry: &Entry, was: Option<&Kind>) -> String {
    let only_set = was == Some(&entry.kind);
    match &entry.kind {
        Kind::File { .. } => format!("the permissions and the time of '{path}'"),
        Kind::Directory if only_set => format!("the permissions of the folder '{path}'"),
        Kind::Directory => format!("the folder '{path}'"),
        Kind::Symlink { .. } => format!("the link '{path}'"),
        Kind::Deleted { .. } => format!("the deletion of '{path}'"),
    }
}

fn syncing(peer: &str, phase: SyncPhase) -> (Level, &'static str, String) {
    let (kind, text) = match phase {
        SyncPhase::Comparing => ("sync_comparing", format!("comparing with {peer}")),
        SyncPhase::Transferring => ("sync_transferring", format!("transferring with {peer}")),
        SyncPhase::Applying => ("sync_applying", format!("putting in place what came from {peer}")),
        SyncPhase::Done => ("sync_done", format!("done with {peer} for now")),
    };
    (Level::Event, kind, text)
}

fn version(entry: &Entry, name: &str) -> String {
    let what = match &entry.kind {
        Kind::File { size, .. } => format!("the file of {} ({})", escaped(name), bytes(*size)),
        Kind::Directory => format!("the folder of {}", escaped(name)),
        Kind::Symlink { .. } => format!("the link of {}", escaped(name)),
        Kind::Deleted { .. } => format!("the deletion by {}", escaped(name)),
    };
    match jiff::Timestamp::from_nanosecond(i128::from(entry.version.stamp)) {
        Ok(time) => format!("{what}, changed {}", time.strftime("%Y-%m-%dT%H:%M:%SZ")),
        Err(_) => what,
    }
}

fn path(report: &Report) -> Option<&SyncPath> {
    match report {
        Report::Received { path, .. }
        | Report::Fetching { path, .. }
        | Report::BadSource { path, .. }
        | Report::Sent { path, .. }
        | Report::Announced { path, .. }
        | Report::Conflict { path, .. }
        | Report::Merged { path, .. }
        | Report::DeletionLost { path, .. }
        | Report::LeftAlone { path, .. }
        | Report::Suspect { path, .. }
        | Report::LocalKept { path, .. }
        | Report::Healed { path }
        | Report::Kept { path }
        | Report::ReadWrongly { path } => Some(path),
        Report::Problem { path, .. } | Report::Solved { path } => path.as_ref(),
        _ => None,
    }
}

fn peer(report: &Report) -> Option<String> {
    match report {
        Report::Received { from, .. } => Some(escaped(from)),
        Report::Sent { to, .. } | Report::Announced { to, .. } => Some(names(to)),
        Report::Fetching { from, .. } if !from.is_empty() => Some(names(from)),
        Report::BadSource { peer, .. }
        | Report::InSync { peer, .. }
        | Report::Syncing { peer, .. }
        | Report::PeerStands { peer, .. }
        | Report::ClockOff { peer, .. }
        | Report::ClockRight { peer }
        | Report::InvalidEntries { peer, .. }
        | Report::Silent { peer, .. } => Some(escaped(peer)),
        _ => None,
    }
}

fn size(report: &Report) -> Option<u64> {
    match report {
        Report::Received { entry, .. }
        | Report::Sent { entry, .. }
        | Report::Announced { entry, .. }
        | Report::Merged { entry, .. } => entry.file().map(|(_, size)| size),
        Report::Conflict { winner, .. } => winner.file().map(|(_, size)| size),
        Report::Fetching { size, .. } => Some(*size),
        Report::Verified { bytes, .. } => Some(*bytes),
        _ => None,
    }
}

fn names(names: &[String]) -> String {
    listed(&names.iter().map(|name| escaped(name)).collect::<Vec<_>>())
}

fn escaped(name: &str) -> String {
    text::escape(name.as_bytes())
}

/// Many of one sort.
#[derive(Debug, Default)]
pub(super) struct SummarySum {
    files: u64,
    others: u64,
    deletions: u64,
    size_bytes: u64,
    wire_bytes: u64,
    /// Some of this second had their own line.
    more: bool,
}

impl SummarySum {
    pub(super) fn add(&mut self, report: &Report) {
        let entry = match report {
            Report::Received { entry, wire_bytes, .. } => {
                self.wire_bytes = self.wire_bytes.saturating_add(*wire_bytes);
                entry
            }
            Report::Sent { entry, .. } | Report::Announced { entry, .. } => entry,
            _ => {
                self.others += 1;
                return;
            }
        };
        match &entry.kind {
            Kind::File { size, .. } => {
                self.files += 1;
                self.size_bytes = self.size_bytes.saturating_add(*size);
            }
            Kind::Deleted { .. } => self.deletions += 1,
            _ => self.others += 1,
        }
    }

    /// After lines of their own, the rest is "more".
    pub(super) fn follows_lines(&mut self) {
        self.more = true;
    }

    /// Many changes; `place`: where, after a space. `only_set`: of permissions and times.
    pub(super) fn changes(&self, way: Way, whom: &str, place: &str, only_set: bool) -> Line {
        let (size, wire) = (bytes(self.size_bytes), bytes(self.wire_bytes));
        let what = format!("{}{place}", self.what());
        let announced_by = if whom.is_empty() { String::new() } else { format!(", announced by {whom}") };
        let (kind, text) = match way {
            Way::Received if only_set => ("received", format!("set the permissions and times of {what}{announced_by}")),
            Way::Received if self.wire_bytes == 0 && self.files == 0 && self.others == 0 => {
                let files = counted(self.deletions, "path", "paths");
                ("received", format!("deleted {files}{place}{announced_by}; files stay in history"))
            }
            Way::Received if whom.is_empty() => ("received", format!("took over {what} ({size}, nothing on the wire)")),
            Way::Received => ("received", format!("received {what} from {whom} ({size}, {wire} on the wire)")),
            Way::Sent | Way::Announced if only_set => {
                (way.word(), format!("{} the permissions and times of {what} to {whom}", way.word()))
            }
            Way::Sent | Way::Announced => (way.word(), format!("{} {what} to {whom} ({size})", way.word())),
        };
        let peer = Some(whom.to_owned()).filter(|whom| !whom.is_empty());
        let paths = Some(self.files + self.others + self.deletions);
        let size = Some(self.size_bytes).filter(|_| self.files > 0);
        Line { peer, size, paths, ..Line::of(Level::Info, kind, text) }
    }

    pub(super) fn line(&self, sort: SummaryKind) -> Option<Line> {
        let number = self.files + self.others + self.deletions;
        if number == 0 {
            return None;
        }
        let more = if self.more { "more " } else { "" };
        let counted = |one: &str, many: &str| counted(number, &format!("{more}{one}"), &format!("{more}{many}"));
        let (level, kind, text) = match sort {
            SummaryKind::Conflict => {
                let text = format!("{}; 'dirsync conflicts' lists them", counted("conflict", "conflicts"));
                (Level::Warn, "conflict", text)
            }
            SummaryKind::Problem => {
                let paths = counted("path needs", "paths need");
                (Level::Warn, "problem", format!("{paths} attention; see 'dirsync status'"))
            }
            SummaryKind::Solved => (Level::Info, "solved", format!("{} fine again", counted("path is", "paths are"))),
            SummaryKind::LeftAlone => {
                let paths = counted("path is", "paths are");
                (Level::Info, "left_alone", format!("{paths} left alone: sockets, fifos or devices"))
            }
            SummaryKind::DeletionLost => {
                let paths = counted("path is", "paths are");
                (Level::Info, "deletion_lost", format!("{paths} back: changes made meanwhile outlive their deletion"))
            }
        };
        Some(Line { paths: Some(number), ..Line::of(level, kind, text) })
    }

    /// `1,834 files`, `3 files, 2 deletions and 1 folder or link`.
    fn what(&self) -> String {
        let named = |number, one: &str, many: &str| (number > 0).then(|| counted(number, one, many));
        let parts = [
            named(self.files, "file", "files"),
            named(self.deletions, "deletion", "deletions"),
            named(self.others, "folder or link", "folders and links"),
        ];
        listed(&parts.into_iter().flatten().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;
