//! Places where tests kill this process or make the disk fail: `DIRSYNCD_FAIL_AT`.
//!
//! Only in builds with debug assertions; in others each place is nothing. The variable holds rules, parted by
//! commas: `point[:first[-last]][=ERROR]`. Passages of a point are counted from 1; without numbers a rule holds for
//! all of them, and without an error the process dies there as by `kill -9`. May import nothing of ours.
//! Deliberately not here: which points a test goes through (`tests/faults/`).

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
    InstallModeSet,
    InstallTimeSet,
    InstallFsync,
    InstallSyncfs,
    InstallDurable,
    LookFsync,
    LookFolderFsync,
    LookSyncfs,
    LookRead,
    IndexCommit,
    IndexCommitted,
    MarkerWrite,
    MarkerWritten,
    RestorePlaced,
    PruneRemoved,
}

/// All of them, by the names that the variable knows.
pub const POINTS: [(Point, &str); 35] = [
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
    (Point::InstallModeSet, "install.mode-set"),
    (Point::InstallTimeSet, "install.time-set"),
    (Point::InstallFsync, "install.fsync"),
    (Point::InstallSyncfs, "install.syncfs"),
    (Point::InstallDurable, "install.durable"),
    (Point::LookFsync, "look.fsync"),
    (Point::LookFolderFsync, "look.folder-fsync"),
    (Point::LookSyncfs, "look.syncfs"),
    (Point::LookRead, "look.read"),
    (Point::IndexCommit, "index.commit"),
    (Point::IndexCommitted, "index.committed"),
    (Point::MarkerWrite, "marker.write"),
    (Point::MarkerWritten, "marker.written"),
    (Point::RestorePlaced, "restore.placed"),
    (Point::PruneRemoved, "prune.removed"),
];

/// What has a place in the code calls this on its way; the error is the one that the system call after it shall seem to
/// have given.
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

    /// One rule of the variable.
    #[derive(Debug)]
    struct Rule {
        point: Point,
        first: u64,
        last: u64,
        /// `None`: die.
        error: Option<Errno>,
        passages: AtomicU64,
    }

    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();

    pub fn at(point: Point) -> Result<(), Errno> {
        let rules = RULES.get_or_init(|| read(&std::env::var("DIRSYNCD_FAIL_AT").unwrap_or_default()));
        for rule in rules.iter().filter(|rule| rule.point == point) {
            let passage = rule.passages.fetch_add(1, Ordering::Relaxed) + 1;
            if (rule.first..=rule.last).contains(&passage) {
                let Some(error) = rule.error else { die() };
                return Err(error);
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
        let (place, error) = word.split_once('=').map_or((word, None), |(place, error)| (place, Some(error)));
        let (name, numbers) = place.split_once(':').unwrap_or((place, ""));
        let (point, _) = POINTS.into_iter().find(|(_, known)| *known == name)?;
        let (first, last) = match numbers.split_once('-') {
            _ if numbers.is_empty() => (1, u64::MAX),
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => (numbers.parse().ok()?, numbers.parse().ok()?),
        };
        let error = match error {
            None => None,
            Some("EIO") => Some(Errno::IO),
            Some("ENOSPC") => Some(Errno::NOSPC),
            Some("EDQUOT") => Some(Errno::DQUOT),
            Some("EACCES") => Some(Errno::ACCESS),
            Some("EROFS") => Some(Errno::ROFS),
            Some("EMFILE") => Some(Errno::MFILE),
            Some(_) => return None,
        };
        Some(Rule { point, first, last, error, passages: AtomicU64::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rules_say_where_when_and_what() {
            let rules = read("stage.fsync=EIO,install.exchanged:3,look.read:2-5=EACCES");
            let told: Vec<_> = rules.iter().map(|r| (r.point, r.first, r.last, r.error)).collect();
            let expected = [
                (Point::StageFsync, 1, u64::MAX, Some(Errno::IO)),
                (Point::InstallExchanged, 3, 3, None),
                (Point::LookRead, 2, 5, Some(Errno::ACCESS)),
            ];
            assert_eq!(told, expected);
            for wrong in ["nowhere", "stage.fsync=EWHAT", "stage.fsync:x"] {
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
