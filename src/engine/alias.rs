//! Names that the folder's file system cannot tell apart: which path holds such a name here, and which must wait for it.
//!
//! Two paths are aliases when they fold to the same name. At most one of them is on disk here. The others are a
//! problem of this machine alone, and nothing of them is told as an edit or a deletion. May import the
//! rest of `engine` and `model`. Deliberately not here: how the file system folds (`io/probe.rs`), and which spelling it shows.

use super::action::{Keep, Source};
use super::event::{Hint, Now, Observed};
use super::index::{Index, Row};
use super::merge;
use super::wants::Trial;
use super::{Engine, SECOND};
use crate::model::{Entry, SyncPath};
use std::collections::{BTreeMap, BTreeSet};

/// For so long the name may yet be given up, as when a rename's deletion comes after what it was renamed to (ns).
const PATIENCE_NS: u64 = 10 * SECOND;
/// What the disk refused is tried again after twice the time each time, up to this (ns).
const REFUSED_RETRY_NS: u64 = 1800 * SECOND;
/// The same while names go from its folder: one of them may have been in the way.
const FREED_RETRY_NS: u64 = 60 * SECOND;

/// Which names a file system tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// All that differ in a byte.
    Exact,
    /// Not those that differ in case or in their Unicode form alone; it shows them as they were made.
    Folded,
    /// Nor does it show them as they were made.
    Respelled,
}

/// What holds a name here, by its folded form's hash; nothing where all names are told apart.
#[derive(Default)]
pub(super) struct Aliases {
    on_disk: BTreeMap<u64, Vec<SyncPath>>,
    /// Paths that are looked at or installed just now: they may be on disk in a moment.
    at_work: BTreeMap<u64, BTreeSet<SyncPath>>,
    /// Paths that wait for a name.
    waiting: BTreeMap<u64, BTreeSet<SyncPath>>,
    taken: BTreeSet<SyncPath>,
    /// Of those, what the disk refused for a name that is not known to be here: patterns cover it,
    /// or the disk takes more for one name than `fold` does.
    refused: BTreeMap<SyncPath, Refused>,
}

/// When an install found a name to be taken last, and how often it did.
#[derive(Default)]
struct Refused {
    at: u64,
    times: u32,
    /// A name went from the folder since.
    is_freed: bool,
}

impl Refused {
    /// When it is tried again.
    fn due(&self) -> u64 {
        let most_ns = if self.is_freed { FREED_RETRY_NS } else { REFUSED_RETRY_NS };
        self.at + (SECOND << self.times.min(16)).min(most_ns)
    }
}

/// The form that all spellings of a name have in common: the lower case of the upper case of each character, where each is one.
fn fold(path: &SyncPath) -> Vec<u8> {
    let one = |c: char, mut to: Box<dyn Iterator<Item = char>>| match (to.next(), to.next()) {
        (Some(folded), None) => folded,
        _ => c,
    };
    let mut out = Vec::with_capacity(path.as_bytes().len());
    for chunk in path.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            let upper = one(c, Box::new(c.to_uppercase()));
            let lower = one(upper, Box::new(upper.to_lowercase()));
            out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

fn key(path: &SyncPath) -> u64 {
    let hash = blake3::hash(&fold(path));
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

impl<I: Index> Engine<I> {
    fn folds(&self) -> bool {
        self.keeps.names != Names::Exact
    }

    /// A row was written; gives the paths that may have its name now.
    pub(super) fn note_name(&mut self, path: &SyncPath, row: &Row) -> Vec<SyncPath> {
        if !self.folds() {
            return Vec::new();
        }
        let key = key(path);
        if row.live_on_disk().is_some() || !row.winner.is_live() {
            // However it came there: by a user's own rename, say. Or nobody wants it any more.
            self.name_is_free(path);
        }
        let holders = self.aliases.on_disk.entry(key).or_default();
        holders.retain(|holder| holder != path);
        let waiting = self.aliases.waiting.get(&key).into_iter().flatten();
        if row.live_on_disk().is_some() {
            holders.push(path.clone());
            // What is in the way of these is known.
            for other in waiting.clone() {
                self.aliases.refused.remove(other);
            }
            if row.winner.is_live() {
                return Vec::new();
            }
        }
        if holders.is_empty() {
            self.aliases.on_disk.remove(&key);
        }
        waiting.filter(|other| *other != path).cloned().collect()
    }

    /// Another path that is on disk here by the same name.
    pub(super) fn alias_of(&self, path: &SyncPath) -> Option<SyncPath> {
        if !self.folds() {
            return None;
        }
        let holders = self.aliases.on_disk.get(&key(path))?;
        holders.iter().find(|holder| *holder != path && fold(holder) == fold(path)).cloned()
    }

    /// The path by which something is known that the disk shows as `path`. Its spelling says nothing where the disk has its own.
    pub(super) fn known_as(&self, path: SyncPath) -> SyncPath {
        if self.keeps.names != Names::Respelled || self.is_on_disk(&path) {
            return path;
        }
        if let Some(holder) = self.alias_of(&path) {
            return holder;
        }
        let Some(parent) = path.parent() else { return path };
        SyncPath::join(Some(&self.known_as(parent)), path.name()).unwrap_or(path)
    }

    fn is_on_disk(&self, path: &SyncPath) -> bool {
        self.index.get(path).is_some_and(|row| row.live_on_disk().is_some())
    }

    /// A hint's spelling is that of whoever opened the file. So every path that has the name here,
    /// or may have it in a moment, is looked at too. After a rename to another spelling, two have
    /// it by the index until the old one is known to be gone.
    pub(super) fn hinted(&mut self, now: Now, path: SyncPath, hint: Hint) {
        let known = self.known_as(path);
        for other in self.spellings_of(&known) {
            self.settle.hint(now.mono, other, hint);
        }
        if hint == Hint::Gone {
            self.a_name_went(now, &known);
        }
        self.settle.hint(now.mono, known, hint);
    }

    /// What the disk refused in the folder of a name that went is tried again soon.
    fn a_name_went(&mut self, now: Now, gone: &SyncPath) {
        let folder = gone.parent();
        let refused = self.aliases.refused.iter_mut().filter(|(_, refused)| !refused.is_freed);
        for (path, refused) in refused.filter(|(path, _)| path.parent() == folder) {
            refused.is_freed = true;
            self.wants.retries.insert((refused.due().max(now.mono), path.clone()));
        }
    }

    /// The other paths by the same name that are on disk here, or that are looked at or installed.
    fn spellings_of(&self, path: &SyncPath) -> BTreeSet<SyncPath> {
        if !self.folds() {
            return BTreeSet::new();
        }
        let key = key(path);
        let on_disk = self.aliases.on_disk.get(&key).into_iter().flatten();
        let at_work = self.aliases.at_work.get(&key).into_iter().flatten();
        let is_other = |other: &&SyncPath| *other != path && fold(other) == fold(path);
        on_disk.chain(at_work).filter(is_other).cloned().collect()
    }

    /// A look or an install of it begins.
    pub(super) fn name_at_work(&mut self, path: &SyncPath) {
        if self.folds() {
            self.aliases.at_work.entry(key(path)).or_default().insert(path.clone());
        }
    }

    /// A look or an install of it ended.
    pub(super) fn name_at_rest(&mut self, path: &SyncPath) {
        if !self.folds() || self.is_busy(path) || self.looks.contains_key(path) {
            return;
        }
        let key = key(path);
        if let Some(at_work) = self.aliases.at_work.get_mut(&key) {
            at_work.remove(path);
            if at_work.is_empty() {
                self.aliases.at_work.remove(&key);
            }
        }
    }

    /// What a look found by a name that another path has here is that path's. (Where the disk shows names as they were made, the
    /// look itself tells.)
    pub(super) fn seen_by_name(&self, path: &SyncPath, observed: Observed) -> Observed {
        let is_anothers =
            self.keeps.names == Names::Respelled && !self.is_on_disk(path) && self.alias_of(path).is_some();
        if is_anothers { Observed::Absent } else { observed }
    }

    /// Whether a wanted path has to wait for its name, or takes it over.
    pub(super) fn waits_for_name(&mut self, now: Now, path: &SyncPath, row: &Row) -> bool {
        if row.live_on_disk().is_some() || !self.folds() {
            return false;
        }
        if path.ancestors().any(|dir| self.aliases.taken.contains(&dir)) {
            self.hold_want(path);
            return true;
        }
        let Some(holder) = self.alias_of(path).filter(|holder| !self.is_left_alone(holder)) else {
            return self.awaits_refused(now, path);
        };
        self.aliases.waiting.entry(key(path)).or_default().insert(path.clone());
        if self.takes_name_over(now, path, row, &holder) {
            return true;
        }
        let since = self.wants.get(path).map_or(now.mono, |want| want.since);
        if now.mono < since + PATIENCE_NS {
            self.wait(now, path, Some(SECOND));
            return true;
        }
        let text = format!(
            "'{holder}' is here, and this folder's file system takes both for one name; rename one of them on a machine that has both"
        );
        self.name_is_taken(path, text);
        true
    }

    /// Patterns cover what is on disk there by the index. Whether it still is, nobody looks.
    fn is_left_alone(&self, holder: &SyncPath) -> bool {
        let on_disk = self.index.get(holder).and_then(|row| row.live_on_disk().map(|(entry, _)| entry.is_directory()));
        on_disk.is_some_and(|is_directory| self.covers(holder, is_directory))
    }

    /// Nothing that is known has its name here. Whether it is tried later, as the disk refused it.
    fn awaits_refused(&mut self, now: Now, path: &SyncPath) -> bool {
        let Some(due) = self.aliases.refused.get(path).map(Refused::due) else {
            self.name_is_free(path);
            return false;
        };
        if due <= now.mono {
            return false;
        }
        self.hold_want(path);
        self.wait(now, path, Some(due - now.mono));
        true
    }

    /// It cannot be here; its peers have it.
    fn name_is_taken(&mut self, path: &SyncPath, text: String) {
        self.aliases.taken.insert(path.clone());
        self.problem(path, text);
        self.hold_want(path);
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.trial = Trial::Failed;
        }
    }

    /// The disk has its name by another spelling, of which nothing is known. A look at the path
    /// itself would find nothing, and say nothing of when to try again.
    pub(super) fn name_is_refused(&mut self, now: Now, path: &SyncPath) {
        let refused = self.aliases.refused.entry(path.clone()).or_default();
        *refused = Refused { at: now.mono, times: refused.times.saturating_add(1), is_freed: false };
        let due = refused.due();
        self.aliases.waiting.entry(key(path)).or_default().insert(path.clone());
        let text = format!(
            "something is at '{path}' by another spelling of its name, and this folder's file system takes both for one; rename one of them"
        );
        self.name_is_taken(path, text);
        self.wait(now, path, Some(due - now.mono));
    }

    fn name_is_free(&mut self, path: &SyncPath) {
        self.aliases.refused.remove(path);
        if self.aliases.taken.remove(path) {
            if let Some(want) = self.wants.by_path.get_mut(path) {
                want.trial = Trial::Open;
            }
            if !self.unseen.contains_key(path) {
                self.solve(path);
            }
        }
        let key = key(path);
        if let Some(waiting) = self.aliases.waiting.get_mut(&key) {
            waiting.remove(path);
            if waiting.is_empty() {
                self.aliases.waiting.remove(&key);
            }
        }
    }

    /// What is on disk by the old spelling was renamed to this one: it is renamed here too, in place.
    fn takes_name_over(&mut self, now: Now, path: &SyncPath, row: &Row, holder: &SyncPath) -> bool {
        let Some(old) = self.index.get(holder) else { return false };
        let Some((entry, stat)) = old.live_on_disk() else { return false };
        let is_free = !old.winner.is_live() && !self.is_busy(holder) && !self.settle.is_noisy(holder);
        if !is_free || !entry.same_content(&row.winner) || self.looks.contains_key(holder) {
            return false;
        }
        if holder.parent() != path.parent() {
            // It comes with its folder.
            self.wait(now, path, Some(SECOND));
            return true;
        }
        if entry.is_directory() && !self.all_below_moved(holder, path) {
            self.wait(now, path, Some(SECOND));
            return true;
        }
        let source = Source::Rename { from: holder.clone(), stat: *stat };
        self.install_as(path, row.winner.clone(), None, source, Keep::Replaced);
        true
    }

    /// Whether what is on disk at a path is being renamed to another spelling of it: its deletion would hit that.
    pub(super) fn is_renamed_away(&self, path: &SyncPath) -> bool {
        self.folds() && self.wants.jobs.values().any(|job| job.renamed.as_ref() == Some(path))
    }

    /// Whether all that is on disk in a folder was deleted there, and is wanted by the same names in another.
    fn all_below_moved(&self, from: &SyncPath, to: &SyncPath) -> bool {
        self.on_disk_below(from).iter().all(|below| {
            let (old, new) = (self.index.get(below), self.index.get(&moved(below, from, to)));
            let (Some(old), Some(new)) = (old, new) else { return false };
            let is_same = old.live_on_disk().is_some_and(|(entry, _)| entry.same_content(&new.winner));
            is_same && !old.winner.is_live() && !self.is_busy(below)
        })
    }

    /// It was renamed in place, with all that is in it.
    pub(super) fn renamed_here(&mut self, now: Now, from: &SyncPath, path: &SyncPath, stat: Option<super::Stat>) {
        let below = self.on_disk_below(from);
        self.takes_row(now, from, path, stat);
        for old in below {
            let new = moved(&old, from, path);
            let stat = self.index.get(&old).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
            self.takes_row(now, &old, &new, stat);
        }
        self.children_are_ready(path);
    }

    /// What was on disk by one path is so by the other: of its version, with the permissions and the mtime that it has.
    fn takes_row(&mut self, now: Now, from: &SyncPath, path: &SyncPath, stat: Option<super::Stat>) {
        let (Some(old), Some(new)) = (self.index.get(from), self.index.get(path)) else { return };
        let Some((had, _)) = old.live_on_disk() else { return };
        let entry = if had.same_content(&new.winner) {
            Entry { mode: had.mode, mtime: had.mtime, ..new.winner.clone() }
        } else {
            had.clone()
        };
        let gone = (!old.winner.is_live()).then(|| merge::on_disk(old.winner.clone(), None));
        self.name_is_free(path);
        self.store(now, from, &Row { disk: gone, installing: None, ..old });
        self.store(now, path, &Row { disk: Some(merge::on_disk(entry, stat)), installing: None, ..new });
    }
}

/// `below`, which is in `from`, in `to`.
fn moved(below: &SyncPath, from: &SyncPath, to: &SyncPath) -> SyncPath {
    let rest = &below.as_bytes()[from.as_bytes().len()..];
    SyncPath::new([to.as_bytes(), rest].concat()).unwrap_or_else(|_| below.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::map_index::MapIndex;
    use crate::engine::{
        Action, Config, Event, Job, Keeps, OnConflict, Outcome, RootState, Stat, StatKind, Trust, WalkId,
    };
    use crate::model::{ContentId, DeviceId, FileTime, Kind, Mode, Seen, Version};
    use rstest::rstest;

    const NOW: Now = Now { wall: 1_700_000_000_000_000_000, mono: 1_000_000_000 };
    const LATER: Now = Now { wall: NOW.wall + 2 * PATIENCE_NS, mono: NOW.mono + 2 * PATIENCE_NS };

    fn path(text: &str) -> SyncPath {
        SyncPath::new(text).unwrap()
    }

    fn entry(kind: Kind, stamp: u64) -> Entry {
        let author = DeviceId([2; 32]);
        let version = Version { stamp, author, seen: Seen::default().with(author, stamp) };
        Entry { kind, mode: Mode(0o644), mtime: FileTime { secs: 1_600_000_000, nanos: 0 }, version }
    }

    fn file(text: &str) -> Kind {
        Kind::File { size: text.len() as u64, content: ContentId::of(text.as_bytes()) }
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink { target: target.into() }
    }

    fn deleted() -> Entry {
        entry(Kind::Deleted { at: 0 }, 9)
    }

    fn stat(ino: u64, kind: &Kind) -> Stat {
        let time = FileTime { secs: 1_600_000_000, nanos: 0 };
        let (kind, size) = match kind {
            Kind::File { size, .. } => (StatKind::File, *size),
            Kind::Symlink { target } => (StatKind::Symlink, target.len() as u64),
            _ => (StatKind::Directory, 0),
        };
        Stat { kind, size, mtime: time, ctime: time, ino, mode: Mode(0o644) }
    }

    /// On disk are these, and they are the winners; the folder was walked.
    fn engine(names: Names, here: &[(&str, Kind)]) -> Engine<MapIndex> {
        let config = Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let mut engine = Engine::new(config, MapIndex::new());
        let mut found = Vec::new();
        for (at, (name, kind)) in here.iter().enumerate() {
            let (winner, stat) = (entry(kind.clone(), 1), stat(at as u64, kind));
            let disk = Some(merge::on_disk(winner.clone(), Some(stat)));
            engine.index.put(&path(name), &Row { winner, disk, installing: None, since: 0 });
            found.push((path(name), stat));
        }
        engine.set_keeps(Keeps { names, ..Keeps::default() });
        engine.start(NOW, Trust::Known);
        engine.handle(NOW, Event::IgnoreRead(None));
        list(&mut engine, found);
        engine
    }

    /// A walk finds just these.
    fn list(engine: &mut Engine<MapIndex>, found: Vec<(SyncPath, Stat)>) -> Vec<Action> {
        let walk = WalkId(engine.last_walk);
        let mut actions = engine.handle(NOW, Event::Listed { walk, found });
        actions.extend(engine.handle(NOW, Event::Walked { walk, unread: Vec::new() }));
        actions.extend(engine.handle(NOW, Event::Root(RootState::Fine)));
        actions
    }

    /// Another machine's news.
    fn hear(engine: &mut Engine<MapIndex>, name: &str, winner: Entry) {
        let old = engine.index.get(&path(name));
        let row = Row { winner, disk: old.and_then(|row| row.disk), installing: None, since: 0 };
        engine.store(NOW, &path(name), &row);
    }

    fn tick(engine: &mut Engine<MapIndex>, now: Now) -> Vec<Job> {
        let job = |action| if let Action::Install(job) = action { Some(job) } else { None };
        engine.handle(now, Event::Tick).into_iter().filter_map(job).collect()
    }

    fn problems(engine: &mut Engine<MapIndex>) -> Vec<SyncPath> {
        engine.status().problems.into_iter().map(|(path, _)| path).collect()
    }

    fn is_here(engine: &Engine<MapIndex>, name: &str) -> bool {
        engine.is_on_disk(&path(name))
    }

    #[rstest]
    #[case::case("README", "Readme", true)]
    #[case::in_a_folder("Src/one", "src/ONE", true)]
    #[case::beyond_ascii("\u{c4}\u{3a3}", "\u{e4}\u{3c2}", true)]
    #[case::another_name("readme", "readme2", false)]
    #[case::a_letter_that_is_two_in_upper_case("stra\u{df}e", "strasse", false)]
    fn names_fold(#[case] one: &str, #[case] other: &str, #[case] is_same: bool) {
        assert_eq!(fold(&path(one)) == fold(&path(other)), is_same);
        assert_eq!(fold(&SyncPath::new(b"A\xff").unwrap()), b"a\xff", "what is no UTF-8 stays");
    }

    fn all_wait(engine: &Engine<MapIndex>) -> bool {
        engine.wants.by_path.values().all(|want| want.stuck)
    }

    #[test]
    fn a_name_that_is_taken_is_a_problem_here_alone_until_it_is_free() {
        let mut engine = engine(Names::Folded, &[("README", link("x"))]);
        let counter = engine.counter;
        hear(&mut engine, "Readme", entry(link("y"), 2));
        assert_eq!(tick(&mut engine, NOW), []);
        assert_eq!(problems(&mut engine), [], "it may be the first half of a rename");
        assert_eq!(tick(&mut engine, LATER), []);
        assert_eq!(problems(&mut engine), [path("Readme")]);
        assert!(all_wait(&engine), "nothing goes on by itself");
        assert!(is_here(&engine, "README") && engine.counter == counter, "nothing is told");
        hear(&mut engine, "README", deleted());
        let jobs = tick(&mut engine, LATER);
        assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("README")]);
        let outcome = Outcome::Done { stat: None, kept: None };
        engine.handle(LATER, Event::Installed { job: jobs[0].id, outcome });
        let jobs = tick(&mut engine, LATER);
        assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Readme")]);
    }

    #[test]
    fn what_is_in_a_folder_whose_name_is_taken_waits_with_it() {
        let mut engine = engine(Names::Folded, &[("Src", Kind::Directory)]);
        hear(&mut engine, "src", entry(Kind::Directory, 2));
        hear(&mut engine, "src/two", entry(link("y"), 2));
        tick(&mut engine, NOW);
        assert_eq!(tick(&mut engine, LATER), []);
        let after = Now { mono: LATER.mono + 5 * SECOND, ..LATER };
        assert_eq!(tick(&mut engine, after), []);
        assert!(problems(&mut engine) == [path("src")] && all_wait(&engine));
    }

    /// It waited until the next start (seed 1430 of the simulator, with names that fold).
    #[test]
    fn what_waits_below_a_taken_name_comes_once_a_user_gives_the_folder_that_name() {
        let mut engine = engine(Names::Folded, &[("Src", Kind::Directory)]);
        hear(&mut engine, "src", entry(Kind::Directory, 2));
        hear(&mut engine, "src/two", entry(link("y"), 2));
        tick(&mut engine, NOW);
        assert_eq!(tick(&mut engine, LATER), []);
        assert_eq!(problems(&mut engine), [path("src")]);
        let later = |ms: u64| Now { mono: LATER.mono + 5 * SECOND + ms * 1_000_000, ..LATER };
        for name in ["src", "Src"] {
            engine.handle(later(0), Event::Hint { path: path(name), hint: Hint::Closed });
        }
        tick(&mut engine, later(30));
        engine.handle(later(31), Event::Looked { path: path("Src"), observed: Observed::Absent });
        let stat = stat(0, &Kind::Directory);
        engine.handle(later(31), Event::Looked { path: path("src"), observed: Observed::Directory { stat } });
        assert!(is_here(&engine, "src"));
        let mut jobs = Vec::new();
        for second in 6..120 {
            jobs.extend(tick(&mut engine, Now { mono: LATER.mono + second * SECOND, ..LATER }));
        }
        assert!(jobs.iter().any(|job| job.path == path("src/two")), "{jobs:?}");
        assert_eq!(problems(&mut engine), []);
    }

    /// So long after `LATER` (s).
    fn after(seconds: u64) -> Now {
        Now { mono: LATER.mono + seconds * SECOND, ..LATER }
    }

    fn refuse(engine: &mut Engine<MapIndex>, now: Now, jobs: &[Job]) {
        for job in jobs {
            engine.handle(now, Event::Installed { job: job.id, outcome: Outcome::Taken });
        }
    }

    #[test]
    fn what_the_disk_refuses_for_a_name_that_is_not_known_is_tried_ever_more_rarely() {
        let mut engine = engine(Names::Folded, &[]);
        hear(&mut engine, "Readme", entry(link("y"), 2));
        let mut tries = 0;
        for second in 0..7200 {
            let actions = engine.handle(after(second), Event::Tick);
            assert_eq!(looked_at(actions.clone()), [].into(), "a look at it says nothing");
            let job = |action| if let Action::Install(job) = action { Some(job) } else { None };
            let jobs: Vec<Job> = actions.into_iter().filter_map(job).collect();
            refuse(&mut engine, after(second), &jobs);
            tries += jobs.len();
        }
        assert!((10..=14).contains(&tries), "{tries}");
        assert!(problems(&mut engine) == [path("Readme")] && all_wait(&engine));
        engine.handle(after(7200), Event::Hint { path: path("other/name"), hint: Hint::Gone });
        assert_eq!(tick(&mut engine, after(7200)), [], "it is in another folder");
        engine.handle(after(7200), Event::Hint { path: path("name"), hint: Hint::Gone });
        assert_eq!(tick(&mut engine, after(7200)).len(), 1, "that may have been it");
    }

    #[test]
    fn what_patterns_cover_has_a_name_only_while_the_disk_says_so() {
        let mut engine = engine(Names::Folded, &[("readme", link("x"))]);
        engine.handle(NOW, Event::IgnoreRead(Some(b"/readme\n".to_vec())));
        list(&mut engine, vec![(path("readme"), stat(0, &link("x")))]);
        hear(&mut engine, "Readme", entry(link("y"), 2));
        let jobs = tick(&mut engine, LATER);
        assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Readme")]);
        refuse(&mut engine, LATER, &jobs);
        assert_eq!(problems(&mut engine), [path("Readme")]);
        assert_eq!(tick(&mut engine, after(1)), []);
        engine.handle(after(5), Event::Hint { path: path("readme"), hint: Hint::Gone });
        let jobs = tick(&mut engine, after(5));
        assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Readme")]);
        let outcome = Outcome::Done { stat: Some(stat(1, &link("y"))), kept: None };
        engine.handle(after(5), Event::Installed { job: jobs[0].id, outcome });
        assert!(is_here(&engine, "Readme") && is_here(&engine, "readme"), "what is covered is as it was");
        assert!(problems(&mut engine).is_empty() && engine.wants.by_path.is_empty());
    }

    #[test]
    fn a_rename_that_only_changes_case_is_a_rename_in_place() {
        let mut engine = engine(Names::Folded, &[("plain", file("1"))]);
        let counter = engine.counter;
        hear(&mut engine, "Plain", entry(file("1"), 2));
        assert_eq!(tick(&mut engine, NOW), [], "the deletion is not known yet");
        hear(&mut engine, "plain", deleted());
        let jobs = tick(&mut engine, NOW);
        let from = stat(0, &file("1"));
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        assert_eq!(
            (&jobs[0].path, &jobs[0].source),
            (&path("Plain"), &Source::Rename { from: path("plain"), stat: from })
        );
        let outcome = Outcome::Done { stat: Some(from), kept: None };
        engine.handle(NOW, Event::Installed { job: jobs[0].id, outcome });
        assert!(is_here(&engine, "Plain") && !is_here(&engine, "plain"));
        assert_eq!(tick(&mut engine, NOW), []);
        assert!(engine.wants.by_path.is_empty() && engine.counter == counter);
    }

    #[test]
    fn while_an_empty_folder_is_renamed_in_place_its_old_name_is_not_deleted() {
        let mut engine = engine(Names::Folded, &[("src", Kind::Directory)]);
        hear(&mut engine, "Src", entry(Kind::Directory, 2));
        hear(&mut engine, "src", deleted());
        let jobs = tick(&mut engine, NOW);
        assert_eq!(jobs.iter().map(|job| &job.path).collect::<Vec<_>>(), [&path("Src")], "{jobs:?}");
        let outcome = Outcome::Done { stat: Some(stat(0, &Kind::Directory)), kept: None };
        engine.handle(NOW, Event::Installed { job: jobs[0].id, outcome });
        assert_eq!(tick(&mut engine, LATER), []);
        assert!(is_here(&engine, "Src") && !is_here(&engine, "src"));
    }

    #[test]
    fn a_folder_is_renamed_in_place_with_all_that_is_in_it() {
        let mut engine = engine(Names::Folded, &[("Src", Kind::Directory), ("Src/one", file("1"))]);
        hear(&mut engine, "src", entry(Kind::Directory, 2));
        hear(&mut engine, "src/one", entry(file("1"), 2));
        hear(&mut engine, "Src/one", deleted());
        hear(&mut engine, "Src", deleted());
        let jobs = tick(&mut engine, NOW);
        let is_rename = |job: &&Job| matches!(job.source, Source::Rename { .. });
        assert_eq!(jobs.iter().filter(is_rename).map(|job| &job.path).collect::<Vec<_>>(), [&path("src")], "{jobs:?}");
        assert_eq!(jobs.len(), 1, "nothing is deleted or fetched: {jobs:?}");
        let outcome = Outcome::Done { stat: Some(stat(0, &Kind::Directory)), kept: None };
        engine.handle(NOW, Event::Installed { job: jobs[0].id, outcome });
        assert!(["src", "src/one"].iter().all(|name| is_here(&engine, name)));
        assert!(["Src", "Src/one"].iter().all(|name| !is_here(&engine, name)));
    }

    #[test]
    fn where_the_disk_spells_names_its_own_way_they_are_known_as_they_came() {
        let mut engine = engine(Names::Respelled, &[("Src", Kind::Directory), ("Src/README", file("1"))]);
        let counter = engine.counter;
        engine.handle(NOW, Event::Overflow);
        let found = [("src", 0, Kind::Directory), ("src/readme", 1, file("1"))];
        let found = found.map(|(name, ino, kind)| (path(name), stat(ino, &kind)));
        let actions = list(&mut engine, found.into());
        assert!(!actions.iter().any(|action| matches!(action, Action::Look { .. })), "{actions:?}");
        assert_eq!(engine.known_as(path("src/new")), path("Src/new"));
        assert!(is_here(&engine, "Src/README") && engine.counter == counter);
    }

    fn looked_at(actions: Vec<Action>) -> BTreeSet<SyncPath> {
        let look = |action| if let Action::Look { path, .. } = action { Some(path) } else { None };
        actions.into_iter().filter_map(look).collect()
    }

    #[test]
    fn a_hint_in_another_spelling_is_one_of_what_is_there() {
        let mut engine = engine(Names::Folded, &[("README", file("1"))]);
        engine.handle(NOW, Event::Hint { path: path("readme"), hint: Hint::Closed });
        let looks = looked_at(engine.handle(LATER, Event::Tick));
        assert_eq!(looks, ["README", "readme"].map(path).into());
    }

    #[test]
    fn a_hint_in_a_spelling_that_is_not_known_to_be_gone_yet_is_one_of_the_new_spelling_too() {
        let mut engine = engine(Names::Folded, &[("src", Kind::Directory)]);
        engine.handle(NOW, Event::Hint { path: path("Src"), hint: Hint::Closed });
        engine.handle(LATER, Event::Tick);
        let stat = stat(0, &Kind::Directory);
        engine.handle(LATER, Event::Looked { path: path("Src"), observed: Observed::Directory { stat } });
        engine.handle(LATER, Event::Looked { path: path("src"), observed: Observed::Absent });
        assert!(is_here(&engine, "src") && is_here(&engine, "Src"), "the old one is not concluded to be gone");
        engine.handle(LATER, Event::Hint { path: path("src"), hint: Hint::Gone });
        let after = Now { mono: LATER.mono + SECOND, ..LATER };
        assert_eq!(looked_at(engine.handle(after, Event::Tick)), ["Src", "src"].map(path).into());
    }

    #[test]
    fn a_hint_in_another_spelling_is_one_of_what_is_looked_at_or_installed_just_now() {
        let mut engine = engine(Names::Folded, &[]);
        engine.handle(NOW, Event::Hint { path: path("README"), hint: Hint::Closed });
        hear(&mut engine, "Notes", entry(link("x"), 2));
        let actions = engine.handle(LATER, Event::Tick);
        let job = actions.iter().find_map(|action| if let Action::Install(job) = action { Some(job.id) } else { None });
        assert_eq!(looked_at(actions), [path("README")].into());
        for gone in ["readme", "notes"] {
            engine.handle(LATER, Event::Hint { path: path(gone), hint: Hint::Gone });
        }
        let seen = Observed::Symlink { stat: stat(1, &link("y")), target: b"y".to_vec() };
        engine.handle(LATER, Event::Looked { path: path("README"), observed: seen });
        let after = Now { mono: LATER.mono + SECOND, ..LATER };
        let looks = looked_at(engine.handle(after, Event::Tick));
        assert_eq!(looks, ["README", "notes", "readme"].map(path).into(), "not what is being installed");
        let outcome = Outcome::Done { stat: Some(stat(2, &link("x"))), kept: None };
        engine.handle(after, Event::Installed { job: job.unwrap(), outcome });
        let at_last = Now { mono: after.mono + SECOND, ..after };
        assert_eq!(looked_at(engine.handle(at_last, Event::Tick)), [path("Notes")].into());
        for seen in ["README", "notes", "readme", "Notes"] {
            engine.handle(at_last, Event::Looked { path: path(seen), observed: Observed::Absent });
        }
        assert!(engine.aliases.at_work.is_empty(), "{:?}", engine.aliases.at_work);
    }
}
