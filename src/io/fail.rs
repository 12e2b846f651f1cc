//! Places where tests kill this process or make the disk fail or slow: `DIRSYNCD_FAIL_AT`.
//!
//! Only in builds with debug assertions; in others each place is nothing. The variable holds rules,
//! parted by commas: `point[:first[-last]][=ERROR|=300ms]`. Passages of a point are counted from 1;
//! without numbers a rule holds for all of them, and with neither an error nor a time to wait the
//! process dies there as by `kill -9`. May import nothing of ours. Deliberately not here: which
//! points a test goes through (`tests/faults/`).

use rustix::io::Errno;

/// A place, named after the step that comes next or, with a participle, was just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    StageCreate,
    StageWrite,
    StageDress,
    StageFsync,
    StageSyncfs,
    FetchCreate,
    FetchWrite,
    FetchFinished,
    HistoryPath,
    InstallMove,
    InstallMoved,
    InstallExchange,
    InstallExchanged,
    InstallAdd,
    InstallAdded,
    InstallFolderExchanged,
    InstallFolderRemove,
    InstallDelete,
    InstallDeleted,
    InstallMode,
    InstallProven,
    InstallModeSet,
    InstallTimeSet,
    InstallFsync,
    InstallSyncfs,
    InstallDurable,
    InspectFsync,
    InspectFolderFsync,
    InspectSyncfs,
    InspectRead,
    ScanWatch,
    ScanStat,
    IndexCommit,
    IndexCommitted,
    MarkerWrite,
    MarkerWritten,
    RestorePlaced,
    PruneRemoved,
    LeaveDecide,
    LeaveDecided,
    LeaveForget,
    LeaveForgotten,
    RotateDurable,
    RotateFile,
    RotateFiled,
    ImportWrite,
    ImportWritten,
    ImportCommitted,
    ImportMove,
}

/// All of them, by the names that the variable knows.
pub const POINTS: [(Point, &str); 49] = [
    (Point::StageCreate, "stage.create"),
    (Point::StageWrite, "stage.write"),
    (Point::StageDress, "stage.dress"),
    (Point::StageFsync, "stage.fsync"),
    (Point::StageSyncfs, "stage.syncfs"),
    (Point::FetchCreate, "fetch.create"),
    (Point::FetchWrite, "fetch.write"),
    (Point::FetchFinished, "fetch.finished"),
    (Point::HistoryPath, "history.path"),
    (Point::InstallMove, "install.move"),
    (Point::InstallMoved, "install.moved"),
    (Point::InstallExchange, "install.exchange"),
    (Point::InstallExchanged, "install.exchanged"),
    (Point::InstallAdd, "install.add"),
    (Point::InstallAdded, "install.added"),
    (Point::InstallFolderExchanged, "install.folder-exchanged"),
    (Point::InstallFolderRemove, "install.folder-remove"),
    (Point::InstallDelete, "install.delete"),
    (Point::InstallDeleted, "install.deleted"),
    (Point::InstallMode, "install.mode"),
    (Point::InstallProven, "install.proven"),
    (Point::InstallModeSet, "install.mode-set"),
    (Point::InstallTimeSet, "install.time-set"),
    (Point::InstallFsync, "install.fsync"),
    (Point::InstallSyncfs, "install.syncfs"),
    (Point::InstallDurable, "install.durable"),
    (Point::InspectFsync, "look.fsync"),
    (Point::InspectFolderFsync, "look.folder-fsync"),
    (Point::InspectSyncfs, "look.syncfs"),
    (Point::InspectRead, "look.read"),
    (Point::ScanWatch, "scan.watch"),
    (Point::ScanStat, "scan.stat"),
    (Point::IndexCommit, "index.commit"),
    (Point::IndexCommitted, "index.committed"),
    (Point::MarkerWrite, "marker.write"),
    (Point::MarkerWritten, "marker.written"),
    (Point::RestorePlaced, "restore.placed"),
    (Point::PruneRemoved, "prune.removed"),
    (Point::LeaveDecide, "leave.decide"),
    (Point::LeaveDecided, "leave.decided"),
    (Point::LeaveForget, "leave.forget"),
    (Point::LeaveForgotten, "leave.forgotten"),
    (Point::RotateDurable, "rotate.durable"),
    (Point::RotateFile, "rotate.file"),
    (Point::RotateFiled, "rotate.filed"),
    (Point::ImportWrite, "import.write"),
    (Point::ImportWritten, "import.written"),
    (Point::ImportCommitted, "import.committed"),
    (Point::ImportMove, "import.move"),
];

/// What has a place in the code calls this on its way; the error is the one that the system call
/// after it shall seem to have given.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[allow(clippy::inline_always, clippy::unnecessary_wraps, reason = "it must cost nothing; tests see the other one")]
pub fn at(_: Point) -> Result<(), Errno> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use rules::at;

/// A step that only a kill can follow: there is no call left that could fail.
pub fn after(point: Point) {
    let _ = at(point);
}

#[cfg(debug_assertions)]
mod rules {
    use super::{Errno, POINTS, Point};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Then {
        Die,
        Fail(Errno),
        /// As a disk does that has much to write.
        Wait(Duration),
    }

    /// One rule of the variable.
    #[derive(Debug)]
    struct Rule {
        point: Point,
        first: u64,
        last: u64,
        then: Then,
        passages: AtomicU64,
    }

    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();

    pub fn at(point: Point) -> Result<(), Errno> {
        let rules = RULES.get_or_init(|| read(&std::env::var("DIRSYNCD_FAIL_AT").unwrap_or_default()));
        for rule in rules.iter().filter(|rule| rule.point == point) {
            let passage = rule.passages.fetch_add(1, Ordering::Relaxed) + 1;
            if (rule.first..=rule.last).contains(&passage) {
                match rule.then {
                    Then::Die => die(),
                    Then::Fail(error) => return Err(error),
                    Then::Wait(time) => std::thread::sleep(time),
                }
            }
        }
        Ok(())
    }

    fn die() -> ! {
        loop {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    fn read(text: &str) -> Vec<Rule> {
        let words = text.split(',').filter(|word| !word.is_empty());
        words.map(|word| rule(word).unwrap_or_else(|| panic!("DIRSYNCD_FAIL_AT: no rule: {word}"))).collect()
    }

    fn rule(word: &str) -> Option<Rule> {
        let (place, then) = word.split_once('=').map_or((word, None), |(place, then)| (place, Some(then)));
        let (name, numbers) = place.split_once(':').unwrap_or((place, ""));
        let (point, _) = POINTS.into_iter().find(|(_, known)| *known == name)?;
        let (first, last) = match numbers.split_once('-') {
            _ if numbers.is_empty() => (1, u64::MAX),
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => (numbers.parse().ok()?, numbers.parse().ok()?),
        };
        let then = match then {
            None => Then::Die,
            Some("EIO") => Then::Fail(Errno::IO),
            Some("ENOSPC") => Then::Fail(Errno::NOSPC),
            Some("EDQUOT") => Then::Fail(Errno::DQUOT),
            Some("EACCES") => Then::Fail(Errno::ACCESS),
            Some("EROFS") => Then::Fail(Errno::ROFS),
            Some("EMFILE") => Then::Fail(Errno::MFILE),
            Some(other) => Then::Wait(Duration::from_millis(other.strip_suffix("ms")?.parse().ok()?)),
        };
        Some(Rule { point, first, last, then, passages: AtomicU64::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rules_say_where_when_and_what() {
            let rules = read("stage.fsync=EIO,install.exchanged:3,look.read:2-5=EACCES,look.fsync=300ms");
            let parsed: Vec<_> = rules.iter().map(|r| (r.point, r.first, r.last, r.then)).collect();
            let expected = [
                (Point::StageFsync, 1, u64::MAX, Then::Fail(Errno::IO)),
                (Point::InstallExchanged, 3, 3, Then::Die),
                (Point::InspectRead, 2, 5, Then::Fail(Errno::ACCESS)),
                (Point::InspectFsync, 1, u64::MAX, Then::Wait(Duration::from_millis(300))),
            ];
            assert_eq!(parsed, expected);
            for wrong in ["nowhere", "stage.fsync=EWHAT", "stage.fsync=ms", "stage.fsync:x"] {
                assert!(rule(wrong).is_none(), "{wrong}");
            }
        }

        #[test]
        fn every_point_has_one_name() {
            let names: std::collections::BTreeSet<_> = POINTS.iter().map(|(_, name)| name).collect();
            assert_eq!(names.len(), POINTS.len());
            for (number, (point, _)) in POINTS.iter().enumerate() {
                assert_eq!(*point as usize, number);
            }
        }
    }
}
