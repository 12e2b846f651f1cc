//! Walks: what they found against the index, and what their silence means.

use super::action::{Action, Report};
use super::event::{Hint, Now, Observed, Stat, StatKind, Trouble, WalkId};
use super::index::{Index, OnDisk, Row};
use super::merge::ObservationSource;
use super::{Engine, Inspection};
use crate::model::SyncPath;
use crate::model::path::{IGNORE_FILE, MAX_COMPONENTS};
use std::collections::BTreeSet;

/// Rows read from the index at a time.
const PAGE: usize = 1024;
/// Folders with names that are too long, of which a person is told (P9).
const TOO_LONG_CAP: usize = 1000;
/// Where the root itself could not be read, it is walked again this soon (ns).
const ROOT_UNREAD_NS: u64 = 30_000_000_000;
/// How often a file system is walked that tells nothing of what others change (ns), and for which part of the time at most.
const WALK_BEHIND_NS: u64 = 60_000_000_000;
const WALK_SHARE: u64 = 10;

/// A walk under way.
pub struct Walk {
    below: Option<SyncPath>,
    found: ObservationSource,
    visited: BTreeSet<u64>,
    started: u64,
    paths: u64,
    /// Files that are synced.
    files: u64,
    changed: u64,
    /// What patterns cover; of a folder, the folder alone.
    ignored: u64,
    /// What only patterns cover that a peer took away, and was not synced before.
    unignored: u64,
    unread: Vec<Option<SyncPath>>,
}

impl Walk {
    pub fn is_whole(&self) -> bool {
        self.below.is_none()
    }

    pub fn finds(&self) -> ObservationSource {
        self.found
    }
}

/// What the index has on disk and a walk did not come by.
#[derive(Default)]
struct Unvisited {
    missing: Vec<SyncPath>,
    /// Files that the index knew of, and how many of those are missing.
    known_files: u64,
    missing_files: u64,
    /// Of all files, whatever covers them: since when their contents are here, and their sizes.
    files: Vec<(u64, u64)>,
}

/// The first 8 bytes of BLAKE3(path): a visited mark.
fn mark(path: &SyncPath) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

impl<I: Index> Engine<I> {
    /// Walks the whole folder: at once, or after the whole walk that is under way, however often it is asked for meanwhile. Not while stopped: what
    /// is found in a wrong root would be told (P8). What ends that asks again.
    pub(super) fn walk_all(&mut self, now: Now) {
        if self.is_stopped() {
            return;
        }
        self.next_walk = now.mono + super::WALK_EVERY_NS;
        self.walk_again = self.walks.values().any(Walk::is_whole);
        if !self.walk_again {
            self.walk(now, None, self.scan.finds());
        }
    }

    /// Begins a walk of the folder, or of a part of it.
    pub(super) fn walk(&mut self, now: Now, below: Option<SyncPath>, found: ObservationSource) {
        self.arrivals.walked(below.as_ref());
        self.last_walk += 1;
        let walk = WalkId(self.last_walk);
        self.walks.insert(
            walk,
            Walk {
                below: below.clone(),
                found,
                visited: BTreeSet::new(),
                started: now.mono,
                paths: 0,
                files: 0,
                changed: 0,
                ignored: 0,
                unignored: 0,
                unread: Vec::new(),
            },
        );
        self.act(Action::Walk { walk, below });
    }

    pub(super) fn listed(&mut self, now: Now, walk: WalkId, found: Vec<(SyncPath, Stat)>) {
        for (path, stat) in found {
            let path = self.known_as(path);
            let Some(state) = self.walks.get_mut(&walk) else { return };
            state.visited.insert(mark(&path));
            state.paths += 1;
            let how = state.found;
            if stat.kind.is_foreign() {
                state.unread.push(Some(path.clone()));
            }
            let is_dir = stat.kind == StatKind::Directory || stat.kind.is_foreign();
            if self.ignores(&path, is_dir) {
                self.count_ignored(walk, &path, is_dir);
                continue;
            }
            if self.is_too_deep(&path) {
                continue;
            }
            if let Some(state) = self.walks.get_mut(&walk) {
                state.files += u64::from(stat.kind == StatKind::File);
            }
            self.seen_here(now, &path);
            if stat.kind.is_foreign() {
                self.foreign(now, &path, stat.kind, how);
                continue;
            }
            if self.settle.is_noisy(&path) {
                self.scan.come_by(&path, how);
                continue;
            }
            let row = self.index.get(&path);
            let known = row.as_ref().and_then(|row| row.live_on_disk()).map(|(_, stat)| *stat);
            if let Some(OnDisk { entry, .. }) = row.as_ref().and_then(|row| row.disk.as_ref())
                && !self.losers.has_bases
                && known == Some(stat)
            {
                self.keep_base(&path, entry, known);
            }
            if known == Some(stat) {
                // Nobody needs to bring it back.
                self.undoing.refused.remove(&path);
            }
            if known == Some(stat) && self.interrupted_installs.remove(&path) {
                // It is as it was before whatever was cut off.
                self.nothing_was_interrupted(now, &path);
            }
            if self.is_busy(&path) {
                if known != Some(stat) {
                    // If the install comes to nothing, this is not forgotten.
                    self.scan.come_by(&path, how);
                    self.postpone(&path, Hint::Closed);
                }
                continue;
            }
            match stat.kind {
                StatKind::Directory => {
                    // It may never have an echo: what it is in was not watched.
                    self.new_folders.remove(&path);
                    if known.is_none_or(|known| known.kind != StatKind::Directory || known.mode != stat.mode) {
                        // By a look, which makes it durable (P5).
                        self.count_change(walk);
                        self.inspect(&path, None, Inspection::of(how));
                    }
                }
                StatKind::Other => self.observe(now, &path, Observed::Special { what: "special file" }, how),
                StatKind::Mount | StatKind::Subvolume => {}
                // A settled one with a problem could not be looked at: it gets a look that may end that.
                StatKind::File | StatKind::Symlink
                    if known == Some(stat)
                        && !(self.problems.contains_key(&path) && row.as_ref().is_some_and(Row::is_settled)) => {}
                StatKind::File | StatKind::Symlink => {
                    self.count_change(walk);
                    self.inspect(&path, known, Inspection::of(how));
                }
            }
        }
    }

    fn count_ignored(&mut self, walk: WalkId, path: &SyncPath, is_dir: bool) {
        if let Some(state) = self.walks.get_mut(&walk) {
            state.ignored += 1;
        }
        self.keeps_folder(path);
        let is_news = || self.index.get(path).is_none_or(|row| row.live_on_disk().is_none());
        if self.is_newly_unignored(path, is_dir)
            && is_news()
            && let Some(state) = self.walks.get_mut(&walk)
        {
            state.unignored += 1;
        }
    }

    fn count_change(&mut self, walk: WalkId) {
        if let Some(state) = self.walks.get_mut(&walk) {
            state.changed += 1;
        }
    }

    /// The listing is complete; its silence means something only if the root still is the folder.
    pub(super) fn walked(&mut self, now: Now, walk: WalkId, unread: Vec<(Option<SyncPath>, Trouble)>) {
        let Some(state) = self.walks.get_mut(&walk) else { return };
        state.unread.extend(unread.iter().map(|(dir, _)| dir.clone()));
        let found = state.found;
        self.solve_listed(walk);
        for (dir, trouble) in unread {
            match dir {
                // A dead mount that is named in the ignore file, for one.
                Some(dir) if self.ignores(&dir, true) => {}
                Some(dir) => self.not_seen(now, &dir, found, trouble.text),
                None => self.out.push(Action::Report(Report::Problem { path: None, text: trouble.text })),
            }
        }
        self.concluding.push(walk);
        self.act(Action::CheckRoot);
    }

    /// What could not be looked into, and was by this walk.
    fn solve_listed(&mut self, walk: WalkId) {
        let Some(walk) = self.walks.get(&walk) else { return };
        let ignores =
            |dir: &Option<SyncPath>, path: &SyncPath| dir.as_ref().is_none_or(|dir| path == dir || path.is_below(dir));
        let listed = |path: &&SyncPath| ignores(&walk.below, path) && !walk.unread.iter().any(|dir| ignores(dir, path));
        let is_folder = |path: &&SyncPath| {
            let row = self.index.get(path);
            row.is_some_and(|row| row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory()))
        };
        for path in self.unseen.keys().filter(listed).filter(is_folder).cloned().collect::<Vec<_>>() {
            self.unseen.remove(&path);
            self.solve(&path);
        }
    }

    /// Another file system covers what is known to be here: nothing is concluded from its silence (P8).
    pub(super) fn foreign(&mut self, now: Now, path: &SyncPath, kind: StatKind, found: ObservationSource) {
        let text = if kind == StatKind::Subvolume {
            format!(
                "it is a Btrfs subvolume, and what is in it is not synced; move what is in it into a plain folder, sync it as a \
                 folder of its own, or name it in {IGNORE_FILE}"
            )
        } else {
            format!(
                "another file system is mounted on it, and what is in it is not synced; unmount it, or name it in \
                 {IGNORE_FILE}"
            )
        };
        self.not_seen(now, path, found, text);
    }

    /// The root was found fine after these walks ended.
    pub(super) fn conclude_walks(&mut self, now: Now) {
        for walk in std::mem::take(&mut self.concluding) {
            let Some(state) = self.walks.remove(&walk) else { continue };
            self.conclude(now, &state);
            self.forget_long(&state);
            if state.below.is_none() && state.unread.contains(&None) {
                // Not even the root could be read: it ends no scan, and nothing is known of what is there.
                self.next_walk = self.next_walk.min(now.mono + ROOT_UNREAD_NS);
            } else if state.below.is_none() {
                let (paths, changed, took_ns) = (state.paths, state.changed, now.mono - state.started);
                if !self.walks_behind(now, took_ns) || changed > 0 || !self.scan.is_walked() {
                    self.out.push(Action::Report(Report::Scanned { paths, changed, took_ns }));
                }
                self.ignored = state.ignored;
                self.scan.walked();
                let patterns = SyncPath::new(IGNORE_FILE).expect("a plain name is a path");
                if !state.visited.contains(&mark(&patterns)) {
                    self.patterns_are_gone(&patterns);
                }
                self.forget_deep(&state);
                self.unignored_found(now, walk.0, state.unignored);
                self.bases_are_here();
                if !self.walk_again {
                    self.has_walked_all();
                }
            }
        }
        if self.walk_again {
            self.walk_all(now);
        }
        self.end_scan(now);
    }

    /// Where nobody tells of changes that other machines make to the file system, they are found by walking it: every minute, or so
    /// rarely that it takes a tenth of the time.
    fn walks_behind(&mut self, now: Now, took_ns: u64) -> bool {
        if !self.keeps.remote_events {
            self.next_walk = self.next_walk.min(now.mono + took_ns.saturating_mul(WALK_SHARE).max(WALK_BEHIND_NS));
        }
        !self.keeps.remote_events
    }

    fn conclude(&mut self, now: Now, walk: &Walk) {
        self.inspect_after_installs(walk);
        self.specials_walked(walk.below.as_ref(), |path| {
            let unread = |at: &Option<SyncPath>| at.as_ref().is_none_or(|at| at == path || path.is_below(at));
            walk.visited.contains(&mark(path)) || walk.unread.iter().any(unread)
        });
        let Unvisited { missing, known_files, missing_files, files } = self.unvisited(walk);
        if walk.is_whole() {
            self.files_counted(now, files);
        }
        if walk.found == ObservationSource::Restored {
            // The folder came back from a backup: what it lacks is fetched, not deleted (P8).
            for path in missing {
                self.look_for_missing(&path, walk.found);
            }
            return;
        }
        // Where so much else is, what is missing was moved, or its folder was never as full.
        let known_files = known_files.max(missing_files + walk.files);
        if walk.below.is_none() && !self.believes_walk(&missing, missing_files, known_files) {
            return self.hold_missing(missing, missing_files, known_files);
        }
        // What is held is so until someone confirms, or it is back.
        let missing = missing.into_iter().filter(|path| !self.held.contains(path)).collect::<Vec<_>>();
        let mut above: Option<SyncPath> = None;
        for path in missing {
            // The absence of a folder is that of everything in it.
            if above.as_ref().is_some_and(|dir| path.is_below(dir)) {
                continue;
            }
            self.look_for_missing(&path, walk.found);
            above = Some(path);
        }
    }

    /// What has too many components is not synced (P9). The first too many is a problem; what lies in it is not named.
    pub(super) fn is_too_deep(&mut self, path: &SyncPath) -> bool {
        let depth = path.depth();
        if depth == MAX_COMPONENTS + 1 {
            let most = format!(
                "it lies more than {MAX_COMPONENTS} folders deep, and neither it nor what is in it is synced: move it up"
            );
            self.problem(path, most);
        }
        depth > MAX_COMPONENTS
    }

    /// A name that no path can have is a problem of its folder: it cannot be announced.
    pub(super) fn too_long(&mut self, now: Now, folder: SyncPath, name: &[u8], is_gone: bool) {
        if is_gone {
            // Perhaps it was the last one.
            if self.too_long.contains_key(&folder) {
                self.walk(now, Some(folder), self.live());
            }
            return;
        }
        if let Some((seen, _)) = self.too_long.get_mut(&folder) {
            *seen = now.mono;
        } else if self.too_long.len() < TOO_LONG_CAP {
            let name = crate::model::text::escape(name);
            let text = format!(
                "'{name}' in it is not synced, as its path is over 4,095 bytes long: shorten the path, or move it up"
            );
            self.out.push(Action::Report(Report::Problem { path: Some(folder.clone()), text: text.clone() }));
            self.too_long.insert(folder, (now.mono, text));
        }
    }

    /// Those that the walk did not come by are gone.
    fn forget_long(&mut self, walk: &Walk) {
        let is_gone = |folder: &SyncPath, seen: u64| {
            let is_walked = walk.below.as_ref().is_none_or(|below| folder == below || folder.is_below(below));
            is_walked && seen < walk.started && !walk.unread.contains(&Some(folder.clone()))
        };
        let gone: Vec<_> = self.too_long.extract_if(.., |folder, (seen, _)| is_gone(folder, *seen)).collect();
        for (folder, _) in gone {
            self.out.push(Action::Report(Report::Solved { path: Some(folder) }));
        }
    }

    /// Those that the walk did not come by are gone.
    fn forget_deep(&mut self, walk: &Walk) {
        let is_gone = |path: &&SyncPath| path.is_too_deep() && !walk.visited.contains(&mark(path));
        let gone: Vec<_> = self.problems.keys().filter(is_gone).cloned().collect();
        for path in gone {
            self.solve(&path);
        }
    }

    fn look_for_missing(&mut self, path: &SyncPath, found: ObservationSource) {
        if self.settle.is_noisy(path) {
            self.scan.come_by(path, found);
            return;
        }
        let known = self.index.get(path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
        self.inspect(path, known, Inspection::of(found));
    }

    /// What is being installed and was not come by may be there and gone again, unseen by a watch that was not there yet.
    fn inspect_after_installs(&mut self, walk: &Walk) {
        for path in self.wants.installing_below(walk.below.as_ref()) {
            if !walk.visited.contains(&mark(&path)) {
                self.postpone(&path, Hint::Closed);
            }
        }
    }

    /// Paths on disk by the index that the walk did not come by. Nothing is concluded from what could not be read, or be looked at.
    fn unvisited(&self, walk: &Walk) -> Unvisited {
        let mut unvisited = Unvisited::default();
        let mut after = None;
        loop {
            let page = self.index.below(walk.below.as_ref(), after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (path, row) in page {
                let Some((entry, _)) = row.live_on_disk() else { continue };
                let size = entry.file().map(|(_, size)| size);
                unvisited.files.extend(size.map(|size| (row.since, size)));
                if self.ignores(&path, entry.is_directory()) {
                    continue;
                }
                unvisited.known_files += u64::from(size.is_some());
                let unread = |at: &Option<SyncPath>| at.as_ref().is_none_or(|at| *at == path || path.is_below(at));
                if walk.visited.contains(&mark(&path)) || walk.unread.iter().any(unread) {
                    continue;
                }
                unvisited.missing_files += u64::from(size.is_some());
                unvisited.missing.push(path);
            }
        }
        unvisited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::map_index::MapIndex;
    use crate::engine::{Cause, Config, Event, Keeps, OnConflict, RootState, Trouble, Trust};
    use crate::model::{ContentId, DeviceId, FileTime, Mode};

    const NOW: Now = Now { wall: 1_700_000_000_000_000_000, mono: 1_000_000_000 };

    fn path(text: &str) -> SyncPath {
        SyncPath::new(text).unwrap()
    }

    fn stat(kind: StatKind) -> Stat {
        let time = FileTime { secs: 1_600_000_000, nanos: 0 };
        Stat { kind, size: 1, mtime: time, ctime: time, ino: 1, mode: Mode(0o755) }
    }

    /// A folder `d` with a file `d/f`, and a file `other`, all scanned.
    fn engine() -> Engine<MapIndex> {
        let mut engine = Engine::new(
            Config { device: DeviceId([1; 32]), name: "a".into(), on_conflict: OnConflict::Newest },
            MapIndex::new(),
        );
        engine.start(NOW, Trust::Known);
        walk(&mut engine, Event::IgnoreRead(None), &[("d", StatKind::Directory), ("d/f", StatKind::File)], &[]);
        assert!(engine.index.get(&path("d/f")).unwrap().live_on_disk().is_some());
        engine
    }

    /// The walk that `cause` brings about finds `found` and `other`, and each look what the walk found.
    fn walk(engine: &mut Engine<MapIndex>, cause: Event, found: &[(&str, StatKind)], unread: &[&str]) {
        let walks = engine.handle(NOW, cause).into_iter().filter_map(|action| match action {
            Action::Walk { walk, .. } => Some(walk),
            _ => None,
        });
        for walk in walks.collect::<Vec<_>>() {
            let all = [found, &[("other", StatKind::File)]].concat();
            let listed = all.into_iter().map(|(name, kind)| (path(name), stat(kind))).collect();
            let denied = || Trouble { cause: Cause::Denied, text: "cannot list it".into() };
            let unread = unread.iter().map(|name| (Some(path(name)), denied())).collect();
            let mut actions = engine.handle(NOW, Event::Listed { walk, found: listed });
            actions.extend(engine.handle(NOW, Event::Walked { walk, unread }));
            actions.extend(engine.handle(NOW, Event::Root(RootState::Fine)));
            for action in actions {
                let Action::Inspect { path, .. } = action else { continue };
                let seen = found.iter().find(|(name, _)| path.as_bytes() == name.as_bytes());
                let observed = match seen {
                    Some((_, StatKind::Directory)) => Observed::Directory { stat: stat(StatKind::Directory) },
                    Some((_, kind)) if kind.is_foreign() => Observed::Foreign(*kind),
                    None if path.as_bytes() != b"other" => Observed::Absent,
                    _ => Observed::File { stat: stat(StatKind::File), content: ContentId::of(b"x"), body: None },
                };
                engine.handle(NOW, Event::Inspected { path, observed });
                engine.handle(NOW, Event::Root(RootState::Fine));
            }
        }
    }

    /// What is missing has rested, and the root is checked.
    fn quiesce(engine: &mut Engine<MapIndex>) {
        let checks = engine.handle(Now { mono: NOW.mono + 10_000_000_000, ..NOW }, Event::Tick);
        assert!(checks.contains(&Action::CheckRoot), "{checks:?}");
        engine.handle(NOW, Event::Root(RootState::Fine));
    }

    fn problems(engine: &mut Engine<MapIndex>) -> Vec<SyncPath> {
        engine.status().problems.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn what_a_mount_covers_is_not_deleted_and_the_mount_is_a_problem_until_it_is_gone() {
        let mut engine = engine();
        walk(&mut engine, Event::Overflow, &[("d", StatKind::Mount)], &[]);
        quiesce(&mut engine);
        assert_eq!(problems(&mut engine), [path("d")]);
        for kept in ["d", "d/f"] {
            assert!(engine.index.get(&path(kept)).unwrap().head.is_live(), "{kept}");
        }
        walk(&mut engine, Event::Overflow, &[("d", StatKind::Directory), ("d/f", StatKind::File)], &[]);
        assert_eq!(problems(&mut engine), []);
    }

    #[test]
    fn what_was_held_back_as_deleted_and_is_back_is_held_no_more() {
        let mut engine = engine();
        engine.handle(NOW, Event::Overflow);
        engine.handle(NOW, Event::Walked { walk: WalkId(engine.last_walk), unread: Vec::new() });
        engine.handle(NOW, Event::Root(RootState::Fine));
        assert_eq!(engine.status().held_deletions, 3, "everything was missing");
        engine.observe(
            NOW,
            &path("d"),
            Observed::Directory { stat: stat(StatKind::Directory) },
            ObservationSource::Live,
        );
        assert_eq!(engine.status().held_deletions, 2);
    }

    #[test]
    fn where_as_much_is_new_as_is_missing_it_was_moved() {
        let mut engine = engine();
        let moved = ["other", "d", "d/f"].map(path);
        engine.handle(NOW, Event::Overflow);
        let walk = WalkId(engine.last_walk);
        engine.handle(NOW, Event::Listed { walk, found: vec![(path("moved"), stat(StatKind::File))] });
        engine.handle(NOW, Event::Walked { walk, unread: Vec::new() });
        let inspections = engine.handle(NOW, Event::Root(RootState::Fine));
        assert_eq!(engine.status().held_deletions, 0);
        let is_look = |action: &&Action| matches!(action, Action::Inspect { path, .. } if moved.contains(path));
        assert_eq!(inspections.iter().filter(is_look).count(), 2, "each folder once: {inspections:?}");
    }

    #[test]
    fn without_a_mount_the_same_silence_is_a_deletion() {
        let mut engine = engine();
        walk(&mut engine, Event::Overflow, &[], &[]);
        quiesce(&mut engine);
        assert!(!engine.index.get(&path("d/f")).unwrap().head.is_live());
    }

    #[test]
    fn overflows_while_everything_is_walked_bring_one_more_walk() {
        let walks = |actions: Vec<Action>| -> Vec<WalkId> {
            let walk = |action| if let Action::Walk { walk, .. } = action { Some(walk) } else { None };
            actions.into_iter().filter_map(walk).collect()
        };
        let end = |engine: &mut Engine<MapIndex>, walk| {
            let listed = ["d", "d/f", "other"].map(|name| {
                let kind = if name == "d" { StatKind::Directory } else { StatKind::File };
                (path(name), stat(kind))
            });
            engine.handle(NOW, Event::Listed { walk, found: listed.into() });
            engine.handle(NOW, Event::Walked { walk, unread: Vec::new() });
            walks(engine.handle(NOW, Event::Root(RootState::Fine)))
        };
        let mut engine = engine();
        let first = walks(engine.handle(NOW, Event::Overflow));
        assert_eq!(first.len(), 1);
        for _ in 0..3 {
            assert_eq!(walks(engine.handle(NOW, Event::Overflow)), []);
        }
        let second = end(&mut engine, first[0]);
        assert_eq!(second.len(), 1, "what was missed after the first had passed by");
        assert!(!engine.status().idle);
        assert_eq!(end(&mut engine, second[0]), []);
        assert!(engine.status().idle);
    }

    #[test]
    fn a_disk_that_tells_nothing_of_what_others_change_is_walked_each_minute_and_ever_more_rarely_as_that_takes_longer()
    {
        let walked = |took_s: u64| {
            let mut engine = engine();
            engine.set_keeps(Keeps { remote_events: false, ..Keeps::default() });
            let end = Now { mono: NOW.mono + took_s * 1_000_000_000, ..NOW };
            engine.handle(NOW, Event::Overflow);
            engine.handle(end, Event::Walked { walk: WalkId(engine.last_walk), unread: vec![] });
            engine.handle(end, Event::Root(RootState::Fine));
            (engine.next_walk - end.mono) / 1_000_000_000
        };
        assert_eq!([walked(1), walked(30)], [60, 300]);
    }

    #[test]
    fn a_walk_asked_for_while_the_root_was_wrong_is_made_when_it_is_back() {
        let mut engine = engine();
        engine.handle(NOW, Event::Overflow);
        let first = WalkId(engine.last_walk);
        engine.handle(NOW, Event::Overflow);
        engine.handle(NOW, Event::Walked { walk: first, unread: Vec::new() });
        engine.handle(NOW, Event::Root(RootState::Wrong("gone".into())));
        let back = engine.handle(NOW, Event::Root(RootState::Fine));
        assert!(back.iter().any(|action| matches!(action, Action::Walk { below: None, .. })), "{back:?}");
        assert!(!engine.walk_again);
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_a_problem_until_a_walk_lists_it() {
        let mut engine = engine();
        walk(&mut engine, Event::Overflow, &[("d", StatKind::Directory)], &["d"]);
        assert_eq!(problems(&mut engine), [path("d")]);
        assert!(engine.index.get(&path("d/f")).unwrap().head.is_live());
        // It is tried again without a hint; that it is there to be looked at does not mean that it can be listed.
        let folder = Observed::Directory { stat: stat(StatKind::Directory) };
        let later = Now { mono: NOW.mono + 10_000_000_000, ..NOW };
        let inspections = engine.handle(later, Event::Tick);
        assert!(inspections.iter().any(|action| matches!(action, Action::Inspect { .. })), "{inspections:?}");
        let actions = engine.handle(later, Event::Inspected { path: path("d"), observed: folder });
        assert_eq!(problems(&mut engine), [path("d")]);
        let walk = actions.into_iter().find_map(|action| match action {
            Action::Walk { walk, below: Some(below) } if below == path("d") => Some(walk),
            _ => None,
        });
        let walk = walk.expect("it is walked again, since it may be open now");
        engine.handle(later, Event::Walked { walk, unread: Vec::new() });
        assert_eq!(problems(&mut engine), []);
    }
}
