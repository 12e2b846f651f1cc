//! What the folder's file system keeps of what it is given, and what an attribute is in the group
//! where it keeps less.
//!
//! The disk column's entry holds the group's permissions and mtime, its stat what the disk says of
//! them. What the disk says unchanged is no change of a user's, so that an edit there keeps what
//! the group has. May import `index`, `event` and `model`. Deliberately not here: how it is found
//! out (`io/fs/probe.rs`).

use crate::engine::Engine;
use crate::engine::api::event::{Stat, StatKind};
use crate::engine::api::file_system::Keeps;
use crate::engine::api::file_system::Names;
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::PAGE;
use crate::engine::observe::Observe;
use crate::model::{FileTime, Kind, Mode, SyncPath};

/// What nobody may do with a new file whose permissions the disk does not keep.
const NEW_FILE: u16 = 0o644;
const NEW_FOLDER: u16 = 0o755;

/// How sure a mode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum ModeOf {
    /// The group's, or the disk's where it keeps modes.
    Known(Mode),
    /// Nobody chose it: the disk keeps none, and nobody told one.
    Guessed(Mode),
}

impl ModeOf {
    pub fn mode(self) -> Mode {
        match self {
            Self::Known(mode) | Self::Guessed(mode) => mode,
        }
    }
}

impl Observe {
    pub(super) fn keeps(&self) -> Keeps {
        self.file_system.keeps
    }

    /// Where modes are not kept, a renamed folder is known by its inode.
    pub(in crate::engine) fn note_folder(&mut self, path: &SyncPath, row: &Row) {
        if !self.file_system.keeps.modes
            && let Some((_, stat)) = row.live_on_disk().filter(|(_, stat)| stat.kind == StatKind::Directory)
        {
            self.file_system.folders_by_inode.insert(stat.ino, path.clone());
        }
    }

    /// The permissions that what an inspection found has in the group.
    pub(super) fn mode_of<I: Index>(
        &self,
        core: &Core<I>,
        path: &SyncPath,
        row: Option<&Row>,
        kind: &Kind,
        stat: &Stat,
    ) -> ModeOf {
        if matches!(kind, Kind::Symlink { .. }) {
            // A link's own permissions mean nothing and differ between systems.
            return ModeOf::Known(Mode::NONE);
        }
        if let Some((entry, known)) = row.and_then(Row::live_on_disk)
            && known.kind == stat.kind
            && (known.mode == stat.mode || !self.file_system.keeps.modes)
        {
            return ModeOf::Known(entry.mode);
        }
        if self.file_system.keeps.modes {
            return ModeOf::Known(stat.mode);
        }
        let received = row.into_iter().flat_map(|row| [Some(&row.head), row.installing.as_ref()]).flatten();
        let received_mode = received.into_iter().find(|entry| entry.kind == *kind).map(|entry| entry.mode);
        let known = received_mode.or_else(|| self.mode_before_rename(core, path, kind, stat));
        known.map_or_else(|| ModeOf::Guessed(core.guess_mode(path, stat)), ModeOf::Known)
    }

    /// Of what was renamed or copied to `path`: a file is known by its content, a folder by its
    /// inode.
    fn mode_before_rename<I: Index>(&self, core: &Core<I>, path: &SyncPath, kind: &Kind, stat: &Stat) -> Option<Mode> {
        let Kind::File { content, .. } = kind else {
            let old = self.file_system.folders_by_inode.get(&stat.ino).filter(|old| *old != path)?;
            let row = core.index.get(old)?;
            let (entry, known) = row.live_on_disk()?;
            return (entry.is_directory() && known.ino == stat.ino).then_some(entry.mode);
        };
        // All empty files hold the same.
        if stat.size == 0 {
            return None;
        }
        let holders = core.index.holders(content).into_iter().filter(|holder| holder != path);
        let rows = holders.filter_map(|holder| core.index.get(&holder));
        // No more open than any that holds the same.
        rows.filter_map(|row| row.live_on_disk().map(|(entry, _)| entry.mode)).reduce(|a, b| Mode(a.0 & b.0))
    }

    /// Where the disk keeps the mtime coarser than peers have it, and says the same as before, it
    /// is the group's.
    pub(super) fn mtime_of(row: Option<&Row>, kind: &Kind, mtime: FileTime, stat: &Stat) -> FileTime {
        match row.and_then(Row::live_on_disk) {
            Some((entry, known)) if entry.kind == *kind && known.mtime == stat.mtime => entry.mtime,
            _ => mtime,
        }
    }
}

impl<I: Index> Core<I> {
    /// What the disk shows, but for execution and others' writing, and no more open than its
    /// folder.
    fn guess_mode(&self, path: &SyncPath, stat: &Stat) -> Mode {
        let is_folder = stat.kind == StatKind::Directory;
        let folder = path.parent().and_then(|parent| self.index.get(&parent)).map(|row| row.head);
        let folder = folder.filter(crate::model::Entry::is_directory).map_or(Mode::DIRECTORY, |entry| entry.mode);
        let shown = stat.mode.0 & if is_folder { NEW_FOLDER } else { NEW_FILE };
        let closed = [0o070, 0o007].into_iter().filter(|class| folder.0 & class == 0);
        Mode(closed.fold(shown, |mode, class| mode & !class))
    }
}

impl<I: Index> Engine<I> {
    /// What the folder's disk keeps: before the start, and when an install finds that it keeps
    /// less.
    pub fn set_keeps(&mut self, keeps: Keeps) {
        let learns = (self.observe.file_system.keeps.modes && !keeps.modes)
            || (self.observe.file_system.keeps.names == Names::Exact && keeps.names != Names::Exact);
        self.observe.file_system.keeps = keeps;
        if !learns {
            return;
        }
        let mut after = None;
        loop {
            let page = self.core.index.below(None, after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, row) in page {
                self.observe.note_folder(&path, &row);
                self.note_name(&path, &row);
            }
        }
    }

    pub fn keeps(&self) -> Keeps {
        self.observe.keeps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::merge::{ObservationSource, on_disk};
    use crate::engine::{Config, Event, Now, Observed, OnConflict, Trust};
    use crate::model::{ContentId, DeviceId, Entry, Version, VersionVector};

    const NOW: Now = Now { wall: 1_700_000_000_000_000_000, mono: 1_000_000_000 };
    /// What the disk says of everything.
    const ALL: Mode = Mode(0o777);

    fn path(text: &str) -> SyncPath {
        SyncPath::new(text).unwrap()
    }

    fn stat(kind: StatKind, ino: u64, size: u64, mtime: FileTime) -> Stat {
        Stat { kind, size, mtime, ctime: mtime, ino, mode: ALL }
    }

    fn time(secs: i64, nanos: u32) -> FileTime {
        FileTime { secs, nanos }
    }

    fn file(text: &str) -> Kind {
        Kind::File { size: text.len() as u64, content: ContentId::of(text.as_bytes()) }
    }

    /// A disk that keeps no modes and whole seconds. On it are a private folder `d` (inode 1) and a
    /// private file `d/key` (inode 2), as another machine made them.
    fn engine() -> Engine<MapIndex> {
        let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, MapIndex::new());
        let author = DeviceId([2; 32]);
        let entry = |kind, mode, mtime| {
            let version = Version { stamp: 1000, author, seen: VersionVector::default().with(author, 1) };
            Entry { kind, mode, mtime, version }
        };
        let folder = entry(Kind::Directory, Mode(0o700), FileTime::default());
        let key = entry(file("1"), Mode(0o600), time(1_600_000_000, 7));
        for (name, entry, stat) in [
            ("d", folder, stat(StatKind::Directory, 1, 0, time(1_600_000_000, 0))),
            ("d/key", key, stat(StatKind::File, 2, 1, time(1_600_000_000, 0))),
        ] {
            let disk = Some(on_disk(entry.clone(), Some(stat)));
            engine.core.index.put(&path(name), &Row { head: entry, disk, installing: None, since: 0 });
        }
        engine.set_keeps(Keeps { modes: false, mtime_step_ns: 1_000_000_000, ..Keeps::default() });
        engine.start(NOW, Trust::Known);
        engine.handle(NOW, Event::IgnoreRead(None));
        engine
    }

    fn see_file(engine: &mut Engine<MapIndex>, name: &str, ino: u64, text: &str, mtime: FileTime) -> Entry {
        let stat = stat(StatKind::File, ino, text.len() as u64, mtime);
        let content = ContentId::of(text.as_bytes());
        engine.observe(NOW, &path(name), Observed::File { stat, content, body: None }, ObservationSource::Live);
        engine.core.index.get(&path(name)).unwrap().head
    }

    fn see_folder(engine: &mut Engine<MapIndex>, name: &str, ino: u64) -> Entry {
        let stat = stat(StatKind::Directory, ino, 0, time(1_600_000_100, 0));
        engine.observe(NOW, &path(name), Observed::Directory { stat }, ObservationSource::Live);
        engine.core.index.get(&path(name)).unwrap().head
    }

    #[test]
    fn what_the_disk_cannot_keep_is_no_change_and_an_edit_keeps_what_the_group_has() {
        let mut engine = engine();
        let before = engine.core.index.get(&path("d/key")).unwrap().head;
        assert_eq!(see_file(&mut engine, "d/key", 2, "1", time(1_600_000_000, 0)), before);
        see_folder(&mut engine, "d", 1);
        assert_eq!(engine.core.index.get(&path("d")).unwrap().head.mode, Mode(0o700));
        let edited = see_file(&mut engine, "d/key", 9, "22", time(1_600_000_050, 0));
        assert_eq!((edited.mode, edited.mtime), (Mode(0o600), time(1_600_000_050, 0)));
        assert_eq!(edited.kind, file("22"));
    }

    #[test]
    fn a_mode_that_the_disk_makes_up_anew_is_no_change() {
        let mut engine = engine();
        // Mounted with another mask.
        let mut stat = stat(StatKind::File, 2, 1, time(1_600_000_000, 0));
        stat.mode = Mode(0o744);
        let before = engine.core.index.get(&path("d/key")).unwrap().head;
        let seen = Observed::File { stat, content: ContentId::of(b"1"), body: None };
        engine.observe(NOW, &path("d/key"), seen, ObservationSource::Walked);
        let row = engine.core.index.get(&path("d/key")).unwrap();
        assert_eq!((&row.head, row.live_on_disk().unwrap().1.mode), (&before, Mode(0o744)));
    }

    #[test]
    fn what_is_renamed_or_copied_keeps_its_mode() {
        let mut engine = engine();
        assert_eq!(see_folder(&mut engine, "e", 1).mode, Mode(0o700), "the same inode");
        assert_eq!(see_file(&mut engine, "e/key", 2, "1", time(1_600_000_000, 0)).mode, Mode(0o600), "its content");
    }

    #[test]
    fn what_is_new_is_neither_executable_nor_more_open_than_its_folder() {
        let mut engine = engine();
        assert_eq!(see_file(&mut engine, "new", 5, "5", time(1_600_000_000, 0)).mode, Mode(0o644));
        assert_eq!(see_file(&mut engine, "d/new", 6, "6", time(1_600_000_000, 0)).mode, Mode(0o600));
        see_file(&mut engine, "d/empty", 10, "", time(1_600_000_000, 0));
        assert_eq!(see_file(&mut engine, "empty", 11, "", time(1_600_000_000, 0)).mode, Mode(0o644));
        assert_eq!(see_folder(&mut engine, "f", 7).mode, Mode(0o755));
        assert_eq!(see_folder(&mut engine, "d/f", 8).mode, Mode(0o700));
    }

    #[test]
    fn where_modes_are_kept_a_changed_one_is_a_change() {
        let mut engine = engine();
        engine.set_keeps(Keeps::default());
        let mut stat = stat(StatKind::File, 2, 1, time(1_600_000_000, 0));
        stat.mode = Mode(0o640);
        let seen = Observed::File { stat, content: ContentId::of(b"1"), body: None };
        engine.observe(NOW, &path("d/key"), seen, ObservationSource::Live);
        let row = engine.core.index.get(&path("d/key")).unwrap();
        assert_eq!(row.head.mode, Mode(0o640));
        assert_eq!(row.head.mtime, time(1_600_000_000, 7), "the coarser mtime of the disk is not told");
    }

    #[test]
    fn what_a_disk_lacks_is_said_in_words() {
        assert_eq!(Keeps::default().lacks(), Vec::<String>::new());
        let fat = Keeps { modes: false, symlinks: false, mtime_step_ns: 2_000_000_000, ..Keeps::default() };
        assert_eq!(fat.lacks(), ["no permission bits", "no symbolic links", "times in steps of 2 s"]);
    }
}
