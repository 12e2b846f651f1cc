//! Walks: what they found against the index, and what their silence means.

use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{Hint, Now, Observed, Stat, StatKind, Trouble, WalkId};
use crate::engine::api::index::{Index, OnDisk, Row};
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::limits::{PAGE, ROOT_UNREAD_NS, TOO_LONG_CAP, WALK_BEHIND_NS, WALK_SHARE};
use crate::engine::merge::ObservationSource;
use crate::engine::observe::Observe;
use crate::engine::{Engine, Inspection};
use crate::model::SyncPath;
use crate::model::path::{IGNORE_FILE, MAX_COMPONENTS};
use std::collections::BTreeSet;

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

impl Observe {
    /// Begins a walk of the folder, or of a part of it.
    pub(in crate::engine) fn walk<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        below: Option<SyncPath>,
        found: ObservationSource,
    ) {
        self.arrivals.walked(below.as_ref());
        self.walking.last_id += 1;
        let walk = WalkId(self.walking.last_id);
        self.walking.walks.insert(
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
        core.act(Action::Walk { walk, below });
    }

    fn count_change(&mut self, walk: WalkId) {
        if let Some(state) = self.walking.walks.get_mut(&walk) {
            state.changed += 1;
        }
    }

    /// What could not be looked into, and was by this walk.
    fn solve_listed<I: Index>(&mut self, core: &mut Core<I>, walk: WalkId) {
        let Some(walk) = self.walking.walks.get(&walk) else { return };
        let ignores =
            |dir: &Option<SyncPath>, path: &SyncPath| dir.as_ref().is_none_or(|dir| path == dir || path.is_below(dir));
        let listed = |path: &&SyncPath| ignores(&walk.below, path) && !walk.unread.iter().any(|dir| ignores(dir, path));
        let is_folder = |path: &&SyncPath| {
            let row = core.index.get(path);
            row.is_some_and(|row| row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory()))
        };
        for path in self.inspecting.unseen.keys().filter(listed).filter(is_folder).cloned().collect::<Vec<_>>() {
            self.inspecting.unseen.remove(&path);
            self.solve(core, &path);
        }
    }

    /// Another file system covers what is known to be here: nothing is concluded from its silence
    /// (P8).
    pub(super) fn foreign<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        path: &SyncPath,
        kind: StatKind,
        found: ObservationSource,
    ) {
        let problem = if kind == StatKind::Subvolume { Problem::Subvolume } else { Problem::Mount };
        self.not_seen(core, now, path, found, problem);
    }

    /// Where nobody tells of changes that other machines make to the file system, they are found by
    /// walking it: every minute, or so rarely that it takes a tenth of the time.
    fn walks_behind(&mut self, now: Now, took_ns: u64) -> bool {
        if !self.file_system.keeps.remote_events {
            self.walking.next =
                self.walking.next.min(now.mono + took_ns.saturating_mul(WALK_SHARE).max(WALK_BEHIND_NS));
        }
        !self.file_system.keeps.remote_events
    }

    /// What has too many components is not synced (P9). The first too many is a problem; what lies
    /// in it is not named.
    pub(in crate::engine) fn is_too_deep<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) -> bool {
        let depth = path.depth();
        if depth == MAX_COMPONENTS + 1 {
            self.problem(core, path, Problem::TooDeep);
        }
        depth > MAX_COMPONENTS
    }

    /// A name that no path can have is a problem of its folder: it cannot be announced.
    pub(in crate::engine) fn too_long<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        folder: SyncPath,
        name: &[u8],
        is_gone: bool,
    ) {
        if is_gone {
            // Perhaps it was the last one.
            if self.problems.too_long.contains_key(&folder) {
                self.walk(core, now, Some(folder), self.live());
            }
            return;
        }
        if let Some((seen, _)) = self.problems.too_long.get_mut(&folder) {
            *seen = now.mono;
        } else if self.problems.too_long.len() < TOO_LONG_CAP {
            let problem = Problem::TooLong { name: name.to_vec() };
            core.out.push(Action::Report(Report::Problem { path: Some(folder.clone()), problem: problem.clone() }));
            self.problems.too_long.insert(folder, (now.mono, problem));
        }
    }

    /// Those that the walk did not come by are gone.
    fn forget_long<I: Index>(&mut self, core: &mut Core<I>, walk: &Walk) {
        let is_gone = |folder: &SyncPath, seen: u64| {
            let is_walked = walk.below.as_ref().is_none_or(|below| folder == below || folder.is_below(below));
            is_walked && seen < walk.started && !walk.unread.contains(&Some(folder.clone()))
        };
        let gone: Vec<_> = self.problems.too_long.extract_if(.., |folder, (seen, _)| is_gone(folder, *seen)).collect();
        for (folder, _) in gone {
            core.out.push(Action::Report(Report::Solved { path: Some(folder) }));
        }
    }

    /// Those that the walk did not come by are gone.
    fn forget_deep<I: Index>(&mut self, core: &mut Core<I>, walk: &Walk) {
        let is_gone = |path: &&SyncPath| path.is_too_deep() && !walk.visited.contains(&mark(path));
        let gone: Vec<_> = self.problems.of_paths.keys().filter(is_gone).cloned().collect();
        for path in gone {
            self.solve(core, &path);
        }
    }
}

impl<I: Index> Engine<I> {
    /// Walks the whole folder: at once, or after the whole walk that is under way, however often it
    /// is asked for meanwhile. Not while stopped: what is found in a wrong root would be told (P8).
    /// What ends that asks again.
    pub(in crate::engine) fn walk_all(&mut self, now: Now) {
        if self.is_stopped() {
            return;
        }
        self.observe.walking.next = now.mono + crate::engine::limits::WALK_EVERY_NS;
        self.observe.walking.again = self.observe.is_walking_all();
        if !self.observe.walking.again {
            self.observe.walk(&mut self.core, now, None, self.observe.scan.finds());
        }
    }

    /// A person asks for a walk: of all, or of what is in this folder.
    pub(in crate::engine) fn scan(&mut self, now: Now, below: Option<SyncPath>) {
        match below {
            None => self.walk_all(now),
            Some(folder) if self.is_stopped() || self.ignores(&folder, true) => {}
            Some(folder) => self.observe.walk(&mut self.core, now, Some(folder), self.observe.live()),
        }
    }

    pub(in crate::engine) fn listed(&mut self, now: Now, walk: WalkId, found: Vec<(SyncPath, Stat)>) {
        for (path, stat) in found {
            let path = self.observe.known_as(&self.core, path);
            let Some(state) = self.observe.walking.walks.get_mut(&walk) else { return };
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
            if self.observe.is_too_deep(&mut self.core, &path) {
                continue;
            }
            if let Some(state) = self.observe.walking.walks.get_mut(&walk) {
                state.files += u64::from(stat.kind == StatKind::File);
            }
            self.seen_here(now, &path);
            if stat.kind.is_foreign() {
                self.observe.foreign(&mut self.core, now, &path, stat.kind, how);
                continue;
            }
            if self.observe.settle.is_noisy(&path) {
                self.observe.scan.come_by(&path, how);
                continue;
            }
            let row = self.core.index.get(&path);
            let known = row.as_ref().and_then(|row| row.live_on_disk()).map(|(_, stat)| *stat);
            if let Some(OnDisk { entry, .. }) = row.as_ref().and_then(|row| row.disk.as_ref())
                && self.reconcile.lacks_bases()
                && known == Some(stat)
            {
                self.keep_base(&path, entry, known);
            }
            if known == Some(stat) {
                // Nobody needs to bring it back.
                self.safety.note_back(&path);
            }
            if known == Some(stat) && self.transfer.clear_interrupted(&path) {
                // It is as it was before whatever was cut off.
                self.nothing_was_interrupted(now, &path);
            }
            if !self.transfer.is_busy(&path) {
                self.compare_listed(now, (walk, how), &path, stat, row.as_ref());
            } else if known != Some(stat) {
                // If the install comes to nothing, this is not forgotten.
                self.observe.scan.come_by(&path, how);
                self.observe.postpone(&path, Hint::Closed);
            }
        }
    }

    /// What was listed is held against what the index has, and inspected where they differ.
    fn compare_listed(
        &mut self,
        now: Now,
        (walk, how): (WalkId, ObservationSource),
        path: &SyncPath,
        stat: Stat,
        row: Option<&Row>,
    ) {
        let known = row.and_then(Row::live_on_disk).map(|(_, stat)| *stat);
        match stat.kind {
            StatKind::Directory => {
                // It may never have an echo: what it is in was not watched.
                self.observe.inspecting.new_folders.remove(path);
                if known.is_none_or(|known| known.kind != StatKind::Directory || known.mode != stat.mode) {
                    // By an inspection, which makes it durable (P5).
                    self.observe.count_change(walk);
                    self.inspect(path, None, Inspection::of(how));
                }
            }
            StatKind::Other => self.observe(now, path, Observed::Special { what: "special file" }, how),
            StatKind::Mount | StatKind::Subvolume => {}
            // A settled one with a problem could not be inspected: it gets an inspection that may
            // end that.
            StatKind::File | StatKind::Symlink
                if known == Some(stat)
                    && !(self.observe.problems.of_paths.contains_key(path) && row.is_some_and(Row::is_settled)) => {}
            StatKind::File | StatKind::Symlink => {
                self.observe.count_change(walk);
                self.inspect(path, known, Inspection::of(how));
            }
        }
    }

    fn count_ignored(&mut self, walk: WalkId, path: &SyncPath, is_dir: bool) {
        if let Some(state) = self.observe.walking.walks.get_mut(&walk) {
            state.ignored += 1;
        }
        self.keeps_folder(path);
        let is_news = || self.core.index.get(path).is_none_or(|row| row.live_on_disk().is_none());
        if self.is_newly_unignored(path, is_dir)
            && is_news()
            && let Some(state) = self.observe.walking.walks.get_mut(&walk)
        {
            state.unignored += 1;
        }
    }

    /// The listing is complete; its silence means something only if the root still is the folder.
    pub(in crate::engine) fn walked(&mut self, now: Now, walk: WalkId, unread: Vec<(Option<SyncPath>, Trouble)>) {
        let Some(state) = self.observe.walking.walks.get_mut(&walk) else { return };
        state.unread.extend(unread.iter().map(|(dir, _)| dir.clone()));
        let found = state.found;
        self.observe.solve_listed(&mut self.core, walk);
        for (dir, trouble) in unread {
            match dir {
                // A dead mount that is named in the ignore file, for one.
                Some(dir) if self.ignores(&dir, true) => {}
                Some(dir) => self.observe.not_seen(&mut self.core, now, &dir, found, Problem::Trouble(trouble.text)),
                None => self
                    .core
                    .out
                    .push(Action::Report(Report::Problem { path: None, problem: Problem::Trouble(trouble.text) })),
            }
        }
        self.observe.walking.concluding.push(walk);
        self.core.act(Action::CheckRoot);
    }

    /// The root was found fine after these walks ended.
    pub(in crate::engine) fn conclude_walks(&mut self, now: Now) {
        for walk in std::mem::take(&mut self.observe.walking.concluding) {
            let Some(state) = self.observe.walking.walks.remove(&walk) else { continue };
            self.conclude(now, &state);
            self.observe.forget_long(&mut self.core, &state);
            if state.below.is_none() && state.unread.contains(&None) {
                // Not even the root could be read: it ends no scan, and nothing is known of what is
                // there.
                self.observe.walking.next = self.observe.walking.next.min(now.mono + ROOT_UNREAD_NS);
            } else if state.below.is_none() {
                let (paths, changed, took_ns) = (state.paths, state.changed, now.mono - state.started);
                if !self.observe.walks_behind(now, took_ns) || changed > 0 || !self.observe.scan.is_walked() {
                    self.core.out.push(Action::Report(Report::Scanned { paths, changed, took_ns }));
                }
                self.observe.walking.ignored = state.ignored;
                self.observe.scan.walked();
                let patterns = SyncPath::new(IGNORE_FILE).expect("a plain name is a path");
                if !state.visited.contains(&mark(&patterns)) {
                    self.safety.patterns_are_gone(&mut self.core, &patterns);
                }
                self.observe.forget_deep(&mut self.core, &state);
                self.unignored_found(now, walk.0, state.unignored);
                self.bases_are_here();
                if !self.observe.walking.again {
                    self.note_walked_all();
                }
            }
        }
        if self.observe.walking.again {
            self.walk_all(now);
        }
        self.end_scan(now);
    }

    fn conclude(&mut self, now: Now, walk: &Walk) {
        self.inspect_after_installs(walk);
        self.specials_walked(walk.below.as_ref(), |path| {
            let unread = |at: &Option<SyncPath>| at.as_ref().is_none_or(|at| at == path || path.is_below(at));
            walk.visited.contains(&mark(path)) || walk.unread.iter().any(unread)
        });
        let Unvisited { missing, known_files, missing_files, files } = self.unvisited(walk);
        if walk.is_whole() {
            self.safety.files_counted(&self.core, now, files);
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
        if walk.below.is_none()
            && self.core.role.announces()
            && !self.safety.believes_walk(&missing, missing_files, known_files)
        {
            return self.safety.hold_missing(&mut self.core, missing, missing_files, known_files);
        }
        // What is held is so until someone confirms, or it is back.
        let missing = missing.into_iter().filter(|path| !self.safety.is_held_missing(path)).collect::<Vec<_>>();
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

    fn look_for_missing(&mut self, path: &SyncPath, found: ObservationSource) {
        if self.observe.settle.is_noisy(path) {
            self.observe.scan.come_by(path, found);
            return;
        }
        let known = self.core.index.get(path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
        self.inspect(path, known, Inspection::of(found));
    }

    /// What is being installed and was not come by may be there and gone again, unseen by a watch
    /// that was not there yet.
    fn inspect_after_installs(&mut self, walk: &Walk) {
        for path in self.transfer.installing_below(walk.below.as_ref()) {
            if !walk.visited.contains(&mark(&path)) {
                self.observe.postpone(&path, Hint::Closed);
            }
        }
    }

    /// Paths on disk by the index that the walk did not come by. Nothing is concluded from what
    /// could not be read, or be inspected.
    fn unvisited(&self, walk: &Walk) -> Unvisited {
        let mut unvisited = Unvisited::default();
        let mut after = None;
        loop {
            let page = self.core.index.below(walk.below.as_ref(), after.as_ref(), PAGE);
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
mod tests;
