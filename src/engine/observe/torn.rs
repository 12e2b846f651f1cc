//! After a power cut: contents that were lost on their way to the disk are no edits (P5).
//!
//! A file that its user had just begun to write anew is found empty, cut short at the end of a
//! block, or all zeros. Its version before that is known, and the others have it: it is fetched
//! from them, and what was found goes to history like anything that is replaced. Deliberately not
//! here: how the shell knows of a cut.

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{Now, Stat};
use crate::engine::api::index::{Index, OnDisk, Row};
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::limits::{TORN_BLOCK_BYTES, TORN_CAP, TORN_ZEROS_BYTES};
use crate::engine::merge::ObservationSource;
use crate::engine::observe::Observe;
use crate::engine::{Engine, Trust};
use crate::model::{ContentId, Entry, Kind, SyncPath};
use std::collections::BTreeMap;

/// For the next start: what cuts left of files.
const META_TORN: &str = "torn";

/// The time in which what was written may have been lost (ns since 1970, both included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub since: u64,
    pub until: u64,
}

impl Cut {
    /// Both of two cuts, and the time between them.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { since: self.since.min(other.since), until: self.until.max(other.until) }
    }

    fn includes(&self, stat: &Stat) -> bool {
        (self.since..=self.until).contains(&stat.ctime.as_stamp())
    }
}

/// Whether what was found is what a cut leaves of a rewritten file: nothing, whole blocks of a
/// shorter one, or zeros, where the size became durable before the bytes. A shorter file of another
/// size is most often a user's last whole edit.
fn is_torn(known: &Entry, kind: &Kind) -> bool {
    let (Some((_, known)), Kind::File { size, content }) = (known.file(), kind) else { return false };
    let is_short = *size < known && size % TORN_BLOCK_BYTES == 0;
    is_short || is_nothing(*size, content)
}

/// Nothing, or zeros.
fn is_nothing(size: u64, content: &ContentId) -> bool {
    size <= TORN_ZEROS_BYTES && *content == ContentId::of_zeros(size)
}

impl Observe {
    /// Before `start`: the last run ended with a power cut. Of a folder that is not the one it was,
    /// nothing is concluded.
    fn cut_short(&mut self, cut: Cut, trust: Trust) {
        self.power_cut = Some(cut).filter(|_| trust == Trust::Known);
    }

    /// Whether a file may be all that a cut left of one whose bytes nobody knows.
    pub(super) fn is_hollow(&self, kind: &Kind, stat: &Stat) -> bool {
        let Kind::File { size, content } = kind else { return false };
        self.power_cut.is_some_and(|cut| cut.includes(stat)) && is_nothing(*size, content)
    }

    /// A row is written: perhaps a user, or an install, has put something else there.
    pub(in crate::engine) fn review_torn<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath, row: &Row) {
        let Some(rest) = self.torn.by_path.get(path) else { return };
        let content = row.live_on_disk().and_then(|(entry, _)| entry.file()).map(|(content, _)| content);
        if content != Some(rest.content) || row.is_settled() {
            self.torn.by_path.remove(path);
            self.store_torn(core);
            core.out.push(Action::Report(Report::Solved { path: Some(path.clone()) }));
        }
    }

    /// With the row that changed: they are few.
    fn store_torn<I: Index>(&self, core: &mut Core<I>) {
        let list: Vec<_> = self.torn.by_path.iter().map(|(path, rest)| (path, rest.content)).collect();
        core.index.set_meta(META_TORN, &postcard::to_stdvec(&list).expect("writing to memory does not fail"));
    }
}

impl<I: Index> Engine<I> {
    /// Before `start`: the last run ended with a power cut. Of a folder that is not the one it was,
    /// nothing is concluded.
    pub fn cut_short(&mut self, cut: Cut, trust: Trust) {
        self.observe.cut_short(cut, trust);
    }

    /// Takes a torn file for what it is. `false`: it is none.
    pub(super) fn takes_as_torn(
        &mut self,
        now: Now,
        path: &SyncPath,
        kind: &Kind,
        stat: &Stat,
        found: ObservationSource,
    ) -> bool {
        if found == ObservationSource::Restored || !self.observe.power_cut.is_some_and(|cut| cut.includes(stat)) {
            return false;
        }
        let Some(row) = self.core.index.get(path) else { return false };
        let Some(known) = row.live_on_disk().map(|(known, _)| known.clone()) else { return false };
        if !is_torn(&known, kind) {
            return false;
        }
        let sizes = (kind_size(kind), known.file().map_or(0, |(_, size)| size));
        // Of the version that it is left of: what a user makes of it comes after that.
        let mode = self.observe.mode_of(&self.core, path, Some(&row), kind, stat).mode();
        let torn = Entry { kind: kind.clone(), mode, mtime: stat.mtime, version: known.version };
        // Nobody else has what was local.
        let local = row.is_local();
        let problem = if local {
            Problem::Torn { nobody_has: true }
        } else {
            Problem::TornNow { bytes: sizes.0, of: sizes.1, was_deleted: !row.head.is_live() }
        };
        self.core.out.push(Action::Report(Report::Problem { path: Some(path.clone()), problem }));
        self.observe.torn.add(path, kind);
        self.observe.store_torn(&mut self.core);
        self.store(now, path, &Row { disk: Some(OnDisk { entry: torn, stat: Some(*stat), local }), ..row });
        true
    }

    /// Every linked machine was asked for it, time and again, and has not got it. What the cut left
    /// is not told instead: the others may hold an older version that is worth more. A person
    /// decides.
    pub(in crate::engine) fn nobody_has(&mut self, path: &SyncPath) {
        let is_stuck = self.transfer.is_stuck(path);
        let Some(rest) = self.observe.torn.by_path.get_mut(path).filter(|rest| is_stuck && !rest.nobody_has) else {
            return;
        };
        rest.nobody_has = true;
        let problem = Problem::Torn { nobody_has: true };
        self.core.out.push(Action::Report(Report::Problem { path: Some(path.clone()), problem }));
    }

    /// For the status: each with what to do. What patterns cover is nobody's concern.
    pub(in crate::engine) fn torn(&self) -> impl Iterator<Item = (SyncPath, Problem)> {
        let synced = self.observe.torn.by_path.iter().filter(|(path, _)| !self.ignores(path, false));
        synced.map(|(path, rest)| {
            let nobody_has = rest.nobody_has || self.core.is_unannounced(path);
            (path.clone(), Problem::Torn { nobody_has })
        })
    }
}

/// What cuts left of files, and nobody has replaced yet.
#[derive(Default)]
pub(in crate::engine) struct TornFiles {
    by_path: BTreeMap<SyncPath, Rest>,
}

struct Rest {
    content: ContentId,
    nobody_has: bool,
}

impl TornFiles {
    pub fn load(index: &impl Index) -> Self {
        let stored: Vec<(SyncPath, ContentId)> =
            index.meta(META_TORN).and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let rest = |(path, content)| (path, Rest { content, nobody_has: false });
        Self { by_path: stored.into_iter().map(rest).collect() }
    }

    /// Whether what is on disk there is all that a cut left of a file: no version of anyone's.
    pub fn contains(&self, path: &SyncPath) -> bool {
        self.by_path.contains_key(path)
    }

    fn add(&mut self, path: &SyncPath, kind: &Kind) {
        if let Kind::File { content, .. } = kind
            && self.by_path.len() < TORN_CAP
        {
            self.by_path.insert(path.clone(), Rest { content: *content, nobody_has: false });
        }
    }
}

fn kind_size(kind: &Kind) -> u64 {
    if let Kind::File { size, .. } = kind { *size } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::limits::SECOND;
    use crate::engine::{Action, Config, Event, LinkId, Observed, OnConflict, StatKind};
    use crate::model::{DeviceId, FileTime, Mode, Version};
    use crate::wire::features::Features;
    use crate::wire::message::Message;

    const NOW: Now = Now { wall: 1_000_000_000_000, mono: 1_000_000_000_000 };
    const CUT: Cut = Cut { since: 900_000_000_000, until: 990_000_000_000 };

    fn stat(size: u64, secs: i64) -> Stat {
        let time = FileTime { secs, nanos: 0 };
        Stat { kind: StatKind::File, size, mtime: time, ctime: time, ino: 1, mode: Mode(0o644) }
    }

    fn file(size: u64, secs: i64) -> Observed {
        let content = ContentId::of(&size.to_be_bytes());
        Observed::File { stat: stat(size, secs), content, body: None }
    }

    /// It won over a file that another machine had made meanwhile (1 cut in 2,664).
    #[test]
    fn the_shell_of_a_new_file_beats_nothing() {
        let (mut engine, _) = engine(Some(CUT));
        let path = SyncPath::new("new").unwrap();
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        // `file` gives each size a content of its own.
        assert!(engine.core.index.get(&path).unwrap().head.version.stamp > 0);
        let path = SyncPath::new("hollow").unwrap();
        let hollow = Observed::File { stat: stat(0, 950), content: ContentId::of(b""), body: None };
        engine.observe(NOW, &path, hollow, ObservationSource::Walked);
        assert_eq!(engine.core.index.get(&path).unwrap().head.version.stamp, 0);
    }

    #[test]
    fn zeros_of_any_size_are_what_a_cut_left() {
        let (mut engine, path) = engine(Some(CUT));
        let zeros = Observed::File { stat: stat(3000, 950), content: ContentId::of(&[0; 3000]), body: None };
        engine.observe(NOW, &path, zeros, ObservationSource::Walked);
        assert!(!engine.core.index.get(&path).unwrap().is_settled());
    }

    /// An engine that knows `f` as 2,000 bytes, made long ago.
    fn engine(cut: Option<Cut>) -> (Engine<MapIndex>, SyncPath) {
        let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, MapIndex::new());
        if let Some(cut) = cut {
            engine.cut_short(cut, Trust::Known);
        }
        let path = SyncPath::new("f").unwrap();
        engine.observe(NOW, &path, file(2000, 100), ObservationSource::Walked);
        (engine, path)
    }

    /// An emptied file was pushed as an edit (1 cut in 15). Taking any shorter file for torn was
    /// tried: it took back whole, durable edits (1 cut in 15).
    #[test]
    fn what_a_cut_left_is_told_from_an_edit() {
        let table = [
            ("empty", Some(CUT), 0, 950, true),
            ("whole blocks of it", Some(CUT), 1024, 950, true),
            ("a shorter text", Some(CUT), 1999, 950, false),
            ("longer", Some(CUT), 4096, 950, false),
            ("written long before", Some(CUT), 0, 899, false),
            ("written since the boot", Some(CUT), 0, 991, false),
            ("no cut", None, 0, 950, false),
        ];
        for (case, cut, size, secs, is_torn) in table {
            let (mut engine, path) = engine(cut);
            let winner = engine.core.index.get(&path).unwrap().head;
            engine.observe(NOW, &path, file(size, secs), ObservationSource::Walked);
            let row = engine.core.index.get(&path).unwrap();
            assert_eq!(row.head == winner, is_torn, "{case}");
            assert_eq!(row.is_settled(), !is_torn, "{case}");
            assert_eq!(engine.observe.torn.contains(&path), is_torn, "{case}");
        }
    }

    /// The torn file was announced as an edit (a seed of the simulator).
    #[test]
    fn a_cut_before_the_first_scan_was_over_tears_what_is_known_already() {
        let (mut engine, path) = engine(Some(CUT));
        let winner = engine.core.index.get(&path).unwrap().head;
        engine.observe(NOW, &path, file(0, 950), ObservationSource::First);
        assert_eq!(engine.core.index.get(&path).unwrap().head, winner);
    }

    /// What it had covered was announced, at once or after a walk that found nothing there to come
    /// to light (1 seed in 10,000 of the simulator).
    #[test]
    fn a_torn_ignore_file_uncovers_nothing() {
        let (mut engine, _) = engine(Some(CUT));
        let rules = SyncPath::new(crate::model::path::IGNORE_FILE).unwrap();
        engine.handle(NOW, Event::IgnoreRead(Some(b"*.key".to_vec())));
        let whole = Observed::File { stat: stat(5, 100), content: ContentId::of(b"*.key"), body: None };
        engine.observe(NOW, &rules, whole, ObservationSource::Walked);
        let key = SyncPath::new("my.key").unwrap();
        engine.handle(NOW, Event::IgnoreRead(Some(Vec::new())));
        assert!(engine.ignores(&key, false));
        // It was an edit after all.
        let edit = Observed::File { stat: stat(4, 999), content: ContentId::of(b"*.o\n"), body: None };
        engine.observe(NOW, &rules, edit, ObservationSource::Live);
        engine.handle(NOW, Event::IgnoreRead(Some(b"*.o\n".to_vec())));
        assert!(!engine.ignores(&key, false));
    }

    #[test]
    fn a_torn_file_is_asked_for_and_never_announced() {
        let (mut engine, path) = engine(Some(CUT));
        engine.handle(NOW, Event::Tick);
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        let known = engine.core.index.get(&path).unwrap();
        assert!(!known.head.conflicts_with(&known.disk.unwrap().entry), "it is older, not concurrent");
        let (link, device) = (LinkId(1), DeviceId([2; 32]));
        let up = Event::LinkUp {
            link,
            device,
            name: "b".into(),
            dialler: true,
            features: Features::ours(),
            capability: crate::model::Capability::Write,
        };
        let mut actions = engine.handle(NOW, up);
        actions.extend(engine.handle(NOW, Event::Tick));
        let announced = |action: &Action| matches!(action, Action::Send { message: Message::Changes { .. }, .. });
        assert!(!actions.iter().any(announced), "{actions:?}");
    }

    #[test]
    fn an_edit_of_a_torn_file_is_an_edit() {
        let (mut engine, path) = engine(Some(CUT));
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        let winner = engine.core.index.get(&path).unwrap().head;
        engine.observe(NOW, &path, file(77, 999), ObservationSource::Live);
        let row = engine.core.index.get(&path).unwrap();
        assert!(row.is_settled() && row.head.beats(&winner) && !row.head.conflicts_with(&winner));
    }

    /// It was as old as what was left, lost to it, and the path stayed pending (seed 831 of the
    /// simulator).
    #[test]
    fn a_deletion_of_what_a_cut_left_is_a_deletion() {
        let (mut engine, path) = engine(Some(CUT));
        for other in ["g", "h", "i"] {
            engine.observe(NOW, &SyncPath::new(other).unwrap(), file(5, 100), ObservationSource::Walked);
        }
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        engine.safety.note_missing(NOW, path.clone());
        let later = Now { wall: NOW.wall + 60 * SECOND, mono: NOW.mono + 60 * SECOND };
        assert!(engine.safety.begin_missing_check(later));
        engine.conclude_missing(NOW);
        let row = engine.core.index.get(&path).unwrap();
        assert!(row.is_settled() && !row.head.is_live(), "{row:?}");
    }

    /// The file came back, empty (a seed of the simulator).
    #[test]
    fn what_a_cut_left_of_a_file_that_was_deleted_elsewhere_does_not_bring_it_back() {
        let (mut engine, path) = engine(Some(CUT));
        let known = engine.core.index.get(&path).unwrap().head;
        let device = DeviceId([2; 32]);
        let version =
            Version { stamp: known.version.stamp + 1, author: device, seen: known.version.seen.with(device, 1) };
        let deletion = Entry { kind: Kind::Deleted { at: 1 }, version, ..known };
        engine.take_in(NOW, &path, deletion.clone());
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        assert_eq!(engine.core.index.get(&path).unwrap().head, deletion);
    }

    #[test]
    fn what_nobody_has_is_said_and_left_to_a_person() {
        let (mut engine, path) = engine(Some(CUT));
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        let (link, device) = (LinkId(1), DeviceId([2; 32]));
        engine.handle(
            NOW,
            Event::LinkUp {
                link,
                device,
                name: "b".into(),
                dialler: true,
                features: Features::ours(),
                capability: crate::model::Capability::Write,
            },
        );
        let (mut now, mut asked) = (NOW, 0);
        for _ in 0..60 {
            now.mono += 1_000_000_000;
            for action in engine.handle(now, Event::Tick) {
                let Action::Send { message: Message::Get { wants }, .. } = action else { continue };
                asked += 1;
                let contents = vec![(wants[0].id, None)];
                engine.handle(now, Event::Message { link, message: Message::Contents { contents }, wire_bytes: 9 });
            }
        }
        assert!((4..20).contains(&asked), "it was asked for {asked} times");
        assert!(engine.torn().any(|(_, problem)| problem == Problem::Torn { nobody_has: true }));
        assert!(!engine.core.index.get(&path).unwrap().is_settled());
    }

    #[test]
    fn other_permissions_make_no_version_of_what_a_cut_left() {
        let (mut engine, path) = engine(Some(CUT));
        let winner = engine.core.index.get(&path).unwrap().head;
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        let Observed::File { stat, content, body } = file(0, 950) else { unreachable!() };
        let touched = Observed::File { stat: Stat { mode: Mode(0o600), ..stat }, content, body };
        engine.observe(NOW, &path, touched, ObservationSource::Live);
        let row = engine.core.index.get(&path).unwrap();
        assert_eq!((row.head, row.disk.unwrap().entry.mode), (winner, Mode(0o600)));
    }

    #[test]
    fn the_same_bytes_written_again_are_an_edit() {
        let (mut engine, path) = engine(Some(CUT));
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        engine.observe(NOW, &path, file(0, 999), ObservationSource::Live);
        let row = engine.core.index.get(&path).unwrap();
        assert!(row.is_settled() && row.head.file().is_some_and(|(_, size)| size == 0), "{row:?}");
        assert!(!engine.observe.torn.contains(&path));
    }

    #[test]
    fn a_rest_stays_one_whatever_wins_meanwhile_and_over_a_restart() {
        let (mut engine, path) = engine(Some(CUT));
        engine.observe(NOW, &path, file(0, 950), ObservationSource::Walked);
        let known = engine.core.index.get(&path).unwrap().head;
        let other = DeviceId([2; 32]);
        let version = Version {
            stamp: known.version.stamp + 5,
            author: other,
            seen: crate::model::VersionVector::default().with(other, 1),
        };
        engine.take_in(
            NOW,
            &path,
            Entry { kind: Kind::File { size: 9, content: ContentId::of(b"of others") }, version, ..known },
        );
        engine.handle(NOW, Event::Tick);
        let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::KeepBoth };
        let again = Engine::new(config, engine.core.index);
        let row = again.core.index.get(&path).unwrap();
        assert!(again.observe.torn.contains(&path) && !again.has_loser(&path, &row));
        assert_eq!(again.torn().count(), 1);
    }
}
