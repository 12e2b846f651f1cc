//! (ours, theirs) to a decision, and the entries that follow from others: plain functions, no state.

use super::event::Stat;
use super::index::{OnDisk, Row};
use crate::model::entry::{Entry, FileTime, Kind, Mode};
use crate::model::{DeviceId, Seen, SyncPath, Version, text};

/// What hearing of an entry does to a path's winner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is the winner already.
    Same,
    /// It lost to what is known here.
    Older,
    /// It is the new winner.
    Wins,
}

/// Merging is taking the maximum (P3).
pub fn hear(row: Option<&Row>, theirs: &Entry) -> Heard {
    match row {
        None => Heard::Wins,
        Some(row) if row.winner == *theirs => Heard::Same,
        Some(row) if theirs.beats(&row.winner) => Heard::Wins,
        Some(_) => Heard::Older,
    }
}

/// What a look makes of something live on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// Just what the disk column says; only its stat may be new.
    Nothing,
    /// The disk holds this known entry (an install that a crash cut off, or the same contents made here): no edit.
    Adopt(Entry),
    /// Only permissions or mtime changed, on top of this entry.
    Touched(Entry),
    /// New contents, on top of this entry where there was one.
    Edited(Option<Entry>),
}

/// Compares what was seen with what is known of the path.
pub fn compare(row: Option<&Row>, kind: &Kind, mode: Mode, mtime: FileTime, found: Found) -> Local {
    let Some(row) = row else { return Local::Edited(None) };
    let disk = row.disk.as_ref().map(|disk| &disk.entry);
    if let Some(disk) = disk.filter(|disk| disk.kind == *kind) {
        // A file system may have clamped what was asked of it: what it said then is no change.
        let stat = row.disk.as_ref().and_then(|disk| disk.stat);
        let same_mode = disk.mode == mode || stat.is_some_and(|stat| stat.mode == mode);
        let same_mtime = disk.mtime == mtime || stat.is_some_and(|stat| stat.mtime == mtime);
        return if same_mode && same_mtime { Local::Nothing } else { Local::Touched(disk.clone()) };
    }
    // An install was cut off between the exchange and the commit: what it left is no edit (P5).
    let installed = [Some(&row.winner), row.installing.as_ref()].into_iter().flatten();
    if let Some(known) = installed.clone().find(|e| e.kind == *kind && (e.mode, e.mtime) == (mode, mtime)) {
        return Local::Adopt(known.clone());
    }
    // The same contents were made here too: the disk holds that version but for permissions and mtime.
    if let Some(known) = installed.clone().find(|e| e.kind == *kind) {
        return Local::Adopt(Entry { mode, mtime, ..known.clone() });
    }
    // A first scan's find was not made on top of a deletion that it never saw.
    let base = disk.filter(|disk| match found {
        Found::Restored => false,
        Found::First => disk.is_live(),
        Found::Walked | Found::Live => true,
    });
    Local::Edited(base.cloned())
}

/// How something new on disk was found, which says from when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// By a first scan, without an index that knows what was here.
    First,
    /// In a folder that came back from a snapshot or a backup: it must not beat what the group has since (P8).
    Restored,
    /// By a later walk.
    Walked,
    /// While watching.
    Live,
}

/// The stamp of new contents (nanoseconds since 1970); see `Version` in section 2 of the design.
pub fn stamp(found: Found, now: u64, stat: &Stat, base: Option<&Entry>) -> u64 {
    let after_base = base.map_or(0, |base| base.version.stamp + 1);
    let modified = stat.mtime.as_stamp();
    let own = match found {
        Found::First | Found::Restored if modified > now => 0,
        Found::First | Found::Restored => modified,
        Found::Live if base.is_none_or(|base| !base.is_live()) => now,
        Found::Live | Found::Walked => modified.max(stat.ctime.as_stamp()).min(now),
    };
    own.max(after_base)
}

/// The directory that takes the place of a winner which is none while something below it lives.
/// Derived from that winner alone, so that every machine derives the same and they merge with themselves.
pub fn derived_directory(winner: Option<&Entry>) -> Entry {
    let version = winner.map_or(Version { stamp: 0, author: DeviceId([0; 32]), seen: Seen::default() }, |winner| {
        Version { stamp: winner.version.stamp + 1, author: winner.version.author, seen: winner.version.seen.clone() }
    });
    Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version }
}

/// Where a file or link goes that a directory displaces: beside it, named from its version.
pub fn displaced_path(path: &SyncPath, entry: &Entry) -> SyncPath {
    let suffix = format!(".conflict-{}-{}", entry.version.stamp, entry.version.author.short());
    let name = path.name();
    let keep = name.len().min(255 - suffix.len());
    // A name may be cut in the midst of a character: names are bytes.
    let beside = [&name[..keep], suffix.as_bytes()].concat();
    SyncPath::join(path.parent().as_ref(), &beside).unwrap_or_else(|_| {
        // The whole would be too long: a name from its hash, in the root, is as much everyone's.
        let hash = blake3::hash(path.as_bytes());
        let name = format!("conflict-{}-{}", text::hex(&hash.as_bytes()[..8]), entry.version.author.short());
        SyncPath::new(name).expect("a short plain name is a path")
    })
}

/// The disk column for an entry that is wholly on disk.
pub fn on_disk(entry: Entry, stat: Option<Stat>) -> OnDisk {
    OnDisk { entry, stat }
}
