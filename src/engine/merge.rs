//! What becomes of an entry beside another one, and the entries that follow from others: plain
//! functions, no state.

use crate::engine::api::event::{Now, Stat};
use crate::engine::api::index::{OnDisk, Row};
use crate::engine::limits::{BUILT_NS, FUTURE_NS};
use crate::model::entry::{Entry, FileTime, Kind, Mode};
use crate::model::version::{STAMP_LIMIT, STAMP_STEP};
use crate::model::{DeviceId, SyncPath, Version, VersionVector, text};
use bytes::Bytes;

/// What an entry of a peer does to a path's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteEffect {
    /// It is the winner already.
    Same,
    /// It lost to what is known here.
    Older,
    /// It is the new winner.
    Wins,
}

/// Merging is taking the maximum (P3).
pub fn apply_remote(row: Option<&Row>, theirs: &Entry) -> RemoteEffect {
    match row {
        None => RemoteEffect::Wins,
        Some(row) if row.head == *theirs => RemoteEffect::Same,
        Some(row) if theirs.beats(&row.head) => RemoteEffect::Wins,
        Some(_) => RemoteEffect::Older,
    }
}

/// What an inspection makes of something live on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// Just what the disk column says; only its stat may be new.
    Nothing,
    /// The disk holds this known entry (an install that a crash cut off, or the same contents made
    /// here): no edit.
    Adopt(Entry),
    /// Only permissions or mtime changed, on top of this entry.
    Touched(Entry),
    /// New contents, on top of this entry where there was one.
    Edited(Option<Entry>),
}

/// Compares what was seen with what is known of the path.
pub fn compare(row: Option<&Row>, kind: &Kind, mode: Mode, mtime: FileTime, found: ObservationSource) -> Local {
    let Some(row) = row else { return Local::Edited(None) };
    let disk = row.disk.as_ref().map(|disk| &disk.entry);
    let same_kind = disk.filter(|disk| disk.kind == *kind);
    if let Some(disk) = same_kind {
        // A file system may have clamped what was asked of it: what it said then is no change.
        let stat = row.disk.as_ref().and_then(|disk| disk.stat);
        let same_mode = disk.mode == mode || stat.is_some_and(|stat| stat.mode == mode);
        let same_mtime = disk.mtime == mtime || stat.is_some_and(|stat| stat.mtime == mtime);
        if same_mode && same_mtime {
            return Local::Nothing;
        }
    }
    // An install was cut off between the exchange and the commit: what it left is no edit (P5), nor
    // a touch.
    let installed = [Some(&row.head), row.installing.as_ref()].into_iter().flatten();
    if let Some(known) = installed.clone().find(|e| e.kind == *kind && (e.mode, e.mtime) == (mode, mtime)) {
        return Local::Adopt(known.clone());
    }
    if let Some(disk) = same_kind {
        // Permissions and mtime are set in two steps: a crash between them left one of each (P5).
        // In a backup they are old, and follow the winner's again (P8).
        let is_half_way = |known: &Entry| {
            let (mode_is, mtime_is) =
                ([disk.mode, known.mode].contains(&mode), [disk.mtime, known.mtime].contains(&mtime));
            known.kind == *kind && mode_is && mtime_is
        };
        let is_no_touch = found == ObservationSource::Restored || installed.clone().any(is_half_way);
        let entry = disk.clone();
        return if is_no_touch { Local::Adopt(Entry { mode, mtime, ..entry }) } else { Local::Touched(entry) };
    }
    // The same contents were made here too: the disk holds that version but for permissions and
    // mtime.
    if let Some(known) = installed.clone().find(|e| e.kind == *kind) {
        return Local::Adopt(Entry { mode, mtime, ..known.clone() });
    }
    // A first scan's find was not made on top of a deletion that it never saw.
    let base = disk.filter(|disk| match found {
        ObservationSource::Restored => false,
        ObservationSource::First => disk.is_live(),
        ObservationSource::Walked | ObservationSource::Live => true,
    });
    Local::Edited(base.cloned())
}

/// How something new on disk was found, which says from when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObservationSource {
    /// By a first scan, without an index that knows what was here.
    First,
    /// In a folder that came back from a snapshot or a backup: it must not beat what the group has
    /// since (P8).
    Restored,
    /// By a later walk.
    Walked,
    /// While watching.
    Live,
}

/// What a user did to a path, before it is a version or a local change.
pub(super) struct MadeHere {
    pub kind: Kind,
    pub mode: Mode,
    pub mtime: FileTime,
    /// If it becomes a version.
    pub stamp: u64,
    /// What was on disk, where it was made on top of that.
    pub base: Option<Entry>,
    pub stat: Option<Stat>,
    pub body: Option<Bytes>,
}

/// The stamp of new contents (nanoseconds since 1970), see `docs/design.md#stamps`. What was there
/// before `seen_until` and is new was elsewhere then.
pub fn stamp(found: ObservationSource, now: u64, seen_until: u64, stat: &Stat, base: Option<&Entry>) -> u64 {
    let after_base = base.map_or(0, |base| base.version.stamp.saturating_add(STAMP_STEP));
    let modified = stat.mtime.as_stamp();
    let own = match found {
        ObservationSource::First | ObservationSource::Restored if modified > now => 0,
        ObservationSource::First | ObservationSource::Restored => modified,
        ObservationSource::Live if base.is_none_or(|base| !base.is_live()) && stat.ctime.as_stamp() < seen_until => now,
        ObservationSource::Live | ObservationSource::Walked => modified.max(stat.ctime.as_stamp()).min(now),
    };
    own.max(after_base)
}

/// The directory that takes the place of a winner which is none while something below it lives.
/// Derived from that winner alone, so that every machine derives the same and they merge with
/// themselves.
pub fn derived_directory(winner: Option<&Entry>) -> Entry {
    let version =
        winner.map_or(Version { stamp: 0, author: DeviceId([0; 32]), seen: VersionVector::default() }, |winner| {
            Version {
                stamp: (winner.version.stamp + 1).min(STAMP_LIMIT - 1),
                author: winner.version.author,
                seen: winner.version.seen.clone(),
            }
        });
    Entry { kind: Kind::Directory, mode: Mode::DIRECTORY, mtime: FileTime::default(), version }
}

/// The winner of a path of which nothing was ever heard: everything beats it.
pub fn nothing() -> Entry {
    let version = Version { stamp: 0, author: DeviceId([0; 32]), seen: VersionVector::default() };
    Entry { kind: Kind::Deleted { at: 0 }, mode: Mode::NONE, mtime: FileTime::default(), version }
}

/// Where the loser of a conflict goes when both are kept, and a file or link that a directory
/// displaces: beside the winner, as `name.conflict-<time>-<device>.ext`, named from its version
/// alone, so that every machine derives the same (P3).
pub fn displaced_path(path: &SyncPath, entry: &Entry) -> SyncPath {
    let mark = format!(".conflict-{}", label(&entry.version));
    let hash = text::hex(&blake3::hash(path.as_bytes()).as_bytes()[..8]);
    let (stem, extension) = split_extension(path.name());
    let room = 255 - mark.len() - extension.len();
    // Long names that are cut stay apart by their hash. A cut may fall in the midst of a character:
    // names are bytes.
    let stem = if stem.len() <= room { stem.to_vec() } else { [&stem[..room - 17], b"~", hash.as_bytes()].concat() };
    let beside = [&stem, mark.as_bytes(), extension].concat();
    SyncPath::join(path.parent().as_ref(), &beside).unwrap_or_else(|_| {
        // The whole would be too long: a name from its hash, in the root, is as much everyone's.
        SyncPath::new(format!("{hash}{mark}")).expect("a short plain name is a path")
    })
}

/// A version as people name it: `20231114-221320-000000001-01010101`, the time in UTC and the
/// device. Labels sort by time, and no two stamps share one.
pub fn label(version: &Version) -> String {
    let seconds = i64::try_from(version.stamp / 1_000_000_000).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let time = seconds.unwrap_or_default().strftime("%Y%m%d-%H%M%S");
    format!("{time}-{:09}-{}", version.stamp % 1_000_000_000, version.author.short())
}

/// The name before its last dot, and the rest; a long rest, or one that is all of the name, is no
/// extension.
fn split_extension(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&b| b == b'.') {
        Some(at) if at > 0 && (2..=17).contains(&(name.len() - at)) => name.split_at(at),
        _ => (name, b""),
    }
}

/// The version of a local change that a person put aside: no winner has it.
pub fn put_aside() -> Version {
    Version { stamp: 1, author: DeviceId([0; 32]), seen: VersionVector::default() }
}

/// The disk column for an entry that is wholly on disk.
pub fn on_disk(entry: Entry, stat: Option<Stat>) -> OnDisk {
    OnDisk { entry, stat, local: false }
}

pub(super) fn is_far_ahead(now: Now, entry: &Entry) -> bool {
    entry.version.stamp > latest_stamp(now)
}

/// Whether a change takes the place of a winner that is dated too far ahead, though it is older by
/// its stamp. A clock that was never set says nothing of that.
pub(super) fn corrects(now: Now, row: Option<&Row>, entry: &Entry) -> bool {
    let is_wrong = |row: &Row| is_far_ahead(now, &row.head) && entry.version.supersedes(&row.head.version);
    now.wall >= BUILT_NS && !is_far_ahead(now, entry) && row.is_some_and(is_wrong)
}

/// The greatest stamp that a clock may have made by now.
pub(super) fn latest_stamp(now: Now) -> u64 {
    now.wall.max(BUILT_NS).saturating_add(FUTURE_NS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::StatKind;
    use crate::model::ContentId;
    use rstest::rstest;

    const MODE: Mode = Mode(0o644);

    fn time(ns: u64) -> FileTime {
        FileTime { secs: 0, nanos: ns as u32 }
    }

    fn file(n: u8) -> Kind {
        Kind::File { size: 1, content: ContentId([n; 32]) }
    }

    fn entry(kind: Kind, stamp: u64) -> Entry {
        let author = DeviceId([1; 32]);
        let version = Version { stamp, author, seen: VersionVector::default().with(author, stamp) };
        Entry { kind, mode: MODE, mtime: time(5), version }
    }

    fn stat(mtime: u64, ctime: u64) -> Stat {
        Stat { kind: StatKind::File, size: 1, mtime: time(mtime), ctime: time(ctime), ino: 1, mode: MODE }
    }

    fn row(winner: Entry, disk: Option<Entry>, installing: Option<Entry>) -> Row {
        Row { head: winner, disk: disk.map(|entry| on_disk(entry, Some(stat(5, 5)))), installing, since: 0 }
    }

    #[rstest]
    #[case::nothing_was_known(None, RemoteEffect::Wins)]
    #[case::known_already(Some(entry(file(1), 7)), RemoteEffect::Same)]
    #[case::older_is_known(Some(entry(file(2), 6)), RemoteEffect::Wins)]
    #[case::newer_is_known(Some(entry(file(2), 8)), RemoteEffect::Older)]
    #[case::a_deletion_is_known(Some(entry(Kind::Deleted { at: 0 }, 7)), RemoteEffect::Wins)]
    fn applying_a_remote_entry(#[case] known: Option<Entry>, #[case] effect: RemoteEffect) {
        let known = known.map(|winner| row(winner, None, None));
        assert_eq!(apply_remote(known.as_ref(), &entry(file(1), 7)), effect);
    }

    /// File 1 is on disk unless said otherwise; what an inspection saw, and what it makes of it.
    #[rstest]
    #[case::untouched(
        row(entry(file(1), 1), Some(entry(file(1), 1)), None),
        file(1),
        5,
        ObservationSource::Live,
        Local::Nothing
    )]
    #[case::touched(
        row(entry(file(1), 1), Some(entry(file(1), 1)), None),
        file(1),
        6,
        ObservationSource::Live,
        Local::Touched(entry(file(1), 1))
    )]
    #[case::edited(
        row(entry(file(1), 1), Some(entry(file(1), 1)), None),
        file(2),
        6,
        ObservationSource::Live,
        Local::Edited(Some(entry(file(1), 1)))
    )]
    #[case::edited_while_a_newer_is_on_its_way(
        row(entry(file(3), 9), Some(entry(file(1), 1)), None),
        file(2),
        6,
        ObservationSource::Live,
        Local::Edited(Some(entry(file(1), 1)))
    )]
    #[case::a_crash_after_the_exchange(
        row(entry(file(3), 9), Some(entry(file(1), 1)), None),
        file(3),
        5,
        ObservationSource::Walked,
        Local::Adopt(entry(file(3), 9))
    )]
    #[case::a_crash_after_the_exchange_and_newer_news(
        row(entry(file(4), 12), Some(entry(file(1), 1)), Some(entry(file(3), 9))),
        file(3),
        5,
        ObservationSource::Walked,
        Local::Adopt(entry(file(3), 9))
    )]
    #[case::a_crash_after_a_touch(
        row(Entry { mtime: time(8), ..entry(file(1), 2) }, Some(entry(file(1), 1)), None),
        file(1),
        8,
        ObservationSource::Walked,
        Local::Adopt(Entry { mtime: time(8), ..entry(file(1), 2) })
    )]
    #[case::a_crash_between_mode_and_mtime(
        row(Entry { mode: Mode(0o600), mtime: time(8), ..entry(file(1), 2) }, Some(entry(file(1), 1)), None),
        file(1),
        8,
        ObservationSource::Walked,
        Local::Adopt(Entry { mtime: time(8), ..entry(file(1), 1) })
    )]
    #[case::old_permissions_from_a_backup(
        row(Entry { mode: Mode(0o600), ..entry(file(1), 2) }, Some(Entry { mode: Mode(0o600), ..entry(file(1), 2) }), None),
        file(1),
        3,
        ObservationSource::Restored,
        Local::Adopt(Entry { mtime: time(3), ..entry(file(1), 2) })
    )]
    #[case::the_same_made_here(row(entry(file(3), 9), None, None), file(3), 8, ObservationSource::First,
        Local::Adopt(Entry { mtime: time(8), ..entry(file(3), 9) }))]
    #[case::made_anew_after_its_deletion(row(entry(Kind::Deleted { at: 0 }, 9), Some(entry(Kind::Deleted { at: 0 }, 9)), None),
        file(2), 6, ObservationSource::Live, Local::Edited(Some(entry(Kind::Deleted { at: 0 }, 9))))]
    #[case::found_by_a_first_scan_after_news_of_its_deletion(
        row(entry(Kind::Deleted { at: 0 }, 9), Some(entry(Kind::Deleted { at: 0 }, 9)), None),
        file(2), 6, ObservationSource::First, Local::Edited(None))]
    #[case::an_old_state_from_a_backup(
        row(entry(file(1), 9), Some(entry(file(1), 9)), None),
        file(2),
        2,
        ObservationSource::Restored,
        Local::Edited(None)
    )]
    fn comparing_the_disk_with_the_index(
        #[case] known: Row,
        #[case] kind: Kind,
        #[case] mtime: u64,
        #[case] found: ObservationSource,
        #[case] local: Local,
    ) {
        assert_eq!(compare(Some(&known), &kind, MODE, time(mtime), found), local);
    }

    #[test]
    fn an_mtime_that_the_disk_clamped_is_no_change() {
        let mut known = row(entry(file(1), 1), Some(entry(file(1), 1)), None);
        known.disk.as_mut().unwrap().stat = Some(stat(0, 5));
        assert_eq!(compare(Some(&known), &file(1), MODE, time(0), ObservationSource::Walked), Local::Nothing);
    }

    #[rstest]
    #[case::first_scan(ObservationSource::First, (50, 80), None, 50)]
    #[case::first_scan_of_a_future_mtime(ObservationSource::First, (200, 80), None, 0)]
    #[case::moved_in_while_off(ObservationSource::Walked, (50, 80), None, 80)]
    #[case::moved_in_with_its_folder(ObservationSource::Live, (50, 60), None, 100)]
    #[case::made_while_the_daemon_slept(ObservationSource::Live, (50, 80), None, 80)]
    #[case::edited(ObservationSource::Live, (90, 91), Some(entry(file(1), 40)), 91)]
    #[case::an_older_file_copied_over_it(ObservationSource::Live, (10, 95), Some(entry(file(1), 40)), 95)]
    #[case::edited_with_a_clock_behind(ObservationSource::Live, (90, 91), Some(entry(file(1), 400)), 408)]
    #[case::a_future_mtime_poisons_nothing(ObservationSource::Live, (900, 95), Some(entry(file(1), 40)), 100)]
    #[case::moved_back_with_its_folder(ObservationSource::Live, (50, 60), Some(entry(Kind::Deleted { at: 0 }, 40)), 100)]
    #[case::made_anew_while_the_daemon_slept(ObservationSource::Live, (50, 80), Some(entry(Kind::Deleted { at: 0 }, 40)), 80)]
    fn stamps(
        #[case] found: ObservationSource,
        #[case] times: (u64, u64),
        #[case] base: Option<Entry>,
        #[case] expected: u64,
    ) {
        assert_eq!(stamp(found, 100, 70, &stat(times.0, times.1), base.as_ref()), expected);
    }

    #[test]
    fn a_derived_directory_beats_what_it_is_derived_from() {
        let displaced = entry(file(1), 7);
        let directory = derived_directory(Some(&displaced));
        assert!(directory.beats(&displaced) && directory.is_directory());
        assert_eq!(directory, derived_directory(Some(&displaced)));
    }

    #[rstest]
    #[case::an_extension_stays_last(
        "d/report.txt",
        1_700_000_000_000_000_007,
        "d/report.conflict-20231114-221320-000000007-01010101.txt"
    )]
    #[case::none("Makefile", 7, "Makefile.conflict-19700101-000000-000000007-01010101")]
    #[case::a_hidden_name(".bashrc", 7, ".bashrc.conflict-19700101-000000-000000007-01010101")]
    #[case::only_the_last_one("a.tar.gz", 7, "a.tar.conflict-19700101-000000-000000007-01010101.gz")]
    #[case::a_dot_at_the_end("a.", 7, "a..conflict-19700101-000000-000000007-01010101")]
    #[case::of_a_conflict_copy(
        "a.conflict-19700101-000000-000000007-01010101.txt",
        8,
        "a.conflict-19700101-000000-000000007-01010101.conflict-19700101-000000-000000008-01010101.txt"
    )]
    fn what_is_displaced_lies_beside(#[case] path: &str, #[case] stamp: u64, #[case] beside: &str) {
        let path = SyncPath::new(path).unwrap();
        assert_eq!(displaced_path(&path, &entry(file(1), stamp)).to_text(), beside);
    }

    #[test]
    fn long_names_that_must_be_cut_stay_apart() {
        let long = |last: &[u8]| SyncPath::new([&[b'n'; 250][..], b"/", &[b'x'; 250], last].concat()).unwrap();
        let beside = |last: &[u8]| displaced_path(&long(last), &entry(file(1), 7));
        assert_eq!(beside(b"1.py").parent(), long(b"1.py").parent());
        assert!(beside(b"1.py").name().ends_with(b"-01010101.py") && beside(b"1.py").name().len() == 255);
        assert_ne!(beside(b"1.py"), beside(b"2.py"));
    }
}
