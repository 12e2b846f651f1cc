//! What was observed on disk becomes versions.

use crate::engine::api::action::{Action, PriorContent};
use crate::engine::api::event::{Hint, Now, Observed, Stat, StatKind};
use crate::engine::api::index::{Index, OnDisk, Row};
use crate::engine::api::problem::Problem;
use crate::engine::core::Believed;
use crate::engine::core::Core;
use crate::engine::core::is_racy;
use crate::engine::limits::{CHUNKED_BYTES, RACY_NS};
use crate::engine::merge::{self, Local, MadeHere, ObservationSource};
use crate::engine::observe::Observe;
use crate::engine::observe::keeps::ModeOf;
use crate::engine::observe::settle::Debounced;
use crate::engine::{Engine, Inspection};
use crate::model::path::IGNORE_FILE;
use crate::model::version::STAMP_STEP;
use crate::model::{Entry, FileTime, Kind, Mode, SyncPath};
use crate::wire::message::Change;
use bytes::Bytes;

/// Whether it was so close to the inspection, which was asked for at `asked` (ns since 1970) and
/// may have waited for the disk until now.
fn was_racy(stat: &Stat, asked: u64, now: Now) -> bool {
    let doubtful = asked.saturating_sub(RACY_NS)..=now.wall.max(asked);
    [stat.mtime, stat.ctime].iter().any(|time| doubtful.contains(&time.as_stamp()))
}

/// What an inspection found to be there. A directory's mtime is none of ours.
struct Live {
    kind: Kind,
    mtime: FileTime,
    stat: Stat,
    body: Option<Bytes>,
}

/// A local change of attributes is none of the group's install, though a crash in the midst of one
/// would leave the same; unless it is what the group has.
fn is_local_still(row: &Row, kind: &Kind, mode: Mode, mtime: FileTime) -> bool {
    let is_of_disk = row.disk.as_ref().is_some_and(|disk| disk.entry.kind == *kind);
    row.is_local() && is_of_disk && (&row.head.kind, row.head.mode, row.head.mtime) != (kind, mode, mtime)
}

/// A folder that has a watch to get.
#[derive(Clone, Copy)]
enum NewFolder {
    New,
    /// By ourselves, and still the same.
    Installed,
}

impl Observe {
    /// The stamp of what was found edited.
    fn stamp_of_edit(
        &self,
        now: Now,
        row: Option<&Row>,
        base: Option<&Entry>,
        kind: &Kind,
        stat: &Stat,
        found: ObservationSource,
    ) -> u64 {
        if self.is_hollow(kind, stat) {
            // Of a new file, the cut left a shell: it beats nothing that was made elsewhere (P5).
            return base.map_or(0, |base| base.version.stamp + STAMP_STEP);
        }
        let stamp = merge::stamp(found, now.wall, self.attention.until(), stat, base);
        match row.filter(|_| found == ObservationSource::Restored) {
            // Whatever the clocks say, what is in a backup beats nothing that is known here (P8).
            Some(row) => stamp.min(row.head.version.stamp.saturating_sub(1)),
            None => stamp,
        }
    }

    /// It is inspected after the inspection or install under way. That it may be a new folder, to
    /// be watched, is remembered.
    pub(in crate::engine) fn postpone(&mut self, path: &SyncPath, hint: Hint) {
        let kept = self.inspecting.postponed.entry(path.clone()).or_insert(hint);
        if *kept != Hint::Closed {
            *kept = hint;
        }
    }

    pub(in crate::engine) fn live(&self) -> ObservationSource {
        if self.scan.finds() == ObservationSource::Restored {
            ObservationSource::Restored
        } else {
            ObservationSource::Live
        }
    }

    /// An empty file that was not empty is most often one that is just being rewritten: it gets a
    /// second look.
    fn is_suddenly_empty<I: Index>(
        &self,
        core: &Core<I>,
        path: &SyncPath,
        observed: &Observed,
        inspection: Inspection,
    ) -> bool {
        let Observed::File { stat, .. } = observed else { return false };
        stat.size == 0
            && inspection.debounced.is_some()
            && !self.inspecting.emptied.contains(path)
            && core.index.get(path).is_some_and(|row| row.live_on_disk().is_some_and(|(_, known)| known.size > 0))
    }

    /// A folder that appeared, or took another's place, has a watch to get and children to be
    /// found. Its inode number may be the old one's: a hint that something was renamed in counts.
    /// One that could not be listed may be open now.
    fn needs_walk<I: Index>(
        &mut self,
        core: &Core<I>,
        path: &SyncPath,
        observed: &Observed,
        inspection: Inspection,
    ) -> Option<NewFolder> {
        let debounced = inspection.debounced?;
        let installed = self.inspecting.new_folders.remove(path);
        let Observed::Directory { stat } = observed else { return None };
        let row = core.index.get(path);
        let known = row.as_ref().and_then(|row| row.live_on_disk()).map(|(_, known)| (known.kind, known.ino));
        let is_known = known == Some((StatKind::Directory, stat.ino));
        if !is_known || self.inspecting.unseen.contains_key(path) {
            return Some(NewFolder::New);
        }
        let folder = if installed { NewFolder::Installed } else { NewFolder::New };
        (debounced.hint == Hint::Closed).then_some(folder)
    }
}

impl<I: Index> Core<I> {
    /// What is on disk here, as far as is known.
    fn content_here(&self, path: &SyncPath) -> Option<PriorContent> {
        let disk = self.index.get(path)?.disk?;
        disk.entry.file().map(|(content, size)| PriorContent { content, size })
    }
}

impl<I: Index> Engine<I> {
    /// Looks at a path, unless that is under way or it is being installed: then once more after
    /// that.
    pub(in crate::engine) fn inspect(&mut self, path: &SyncPath, known: Option<Stat>, mut inspection: Inspection) {
        inspection.found = match self.observe.inspecting.unseen.get(path) {
            // It could not be inspected when it was come by: it still is what that walk found, and
            // no news (P8).
            Some(unseen) => unseen.found.min(inspection.found),
            None => self.observe.scan.come_by(path, inspection.found),
        };
        if self.transfer.is_busy(path) || self.observe.inspecting.open.contains_key(path) {
            self.observe.postpone(path, inspection.debounced.map_or(Hint::Closed, |debounced| debounced.hint));
            return;
        }
        // Whether a peer wants it is known when it is told.
        let body = inspection.found != ObservationSource::Restored && !inspection.rehash;
        let rehash = inspection.rehash;
        inspection.asked = self.core.last_event.wall;
        self.peers.inspection_begins(rehash);
        self.observe.inspecting.open.insert(path.clone(), inspection);
        self.observe.name_at_work(path);
        let was = known.filter(|stat| stat.size >= CHUNKED_BYTES).and_then(|_| self.core.content_here(path));
        self.core.act(Action::Inspect { path: path.clone(), known, was, rehash, body });
    }

    /// A path has settled after hints.
    pub(in crate::engine) fn inspect_hinted(&mut self, path: &SyncPath, debounced: Debounced) {
        if self.ignores(path, false) {
            return;
        }
        if path.is_too_deep() {
            if debounced.hint == Hint::Gone {
                self.observe.solve(&mut self.core, path);
            } else {
                self.observe.is_too_deep(&mut self.core, path);
            }
            return;
        }
        let known = self.core.index.get(path).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
        // A folder in the known one's place needs to be made durable, even if its stat says
        // nothing; not the one that was just installed.
        let installed = self.observe.inspecting.new_folders.contains(path);
        let known = known.filter(|stat| installed || stat.kind != StatKind::Directory);
        self.inspect(path, known, Inspection { debounced: Some(debounced), ..Inspection::of(self.observe.live()) });
    }

    pub(in crate::engine) fn inspected(&mut self, now: Now, path: &SyncPath, observed: Observed) {
        let Some(inspection) = self.observe.inspecting.open.remove(path) else { return };
        self.name_at_rest(path);
        self.peers.inspection_ends(inspection.rehash);
        let observed = self.observe.seen_by_name(&self.core, path, observed);
        if let Some(hint) = self.observe.inspecting.postponed.remove(path) {
            self.observe.settle.hint(now.mono, path.clone(), hint);
        }
        if self.ignores(path, matches!(observed, Observed::Directory { .. } | Observed::Foreign(_))) {
            return self.inspected_ignored(now, path, inspection);
        }
        if self.says_too_little(now, path, &observed, inspection) {
            return self.observe.rehash_again(now, path, inspection);
        }
        self.observe.inspecting.emptied.remove(path);
        let needs_walk = self.observe.needs_walk(&self.core, path, &observed, inspection);
        if inspection.debounced.is_some() && matches!(observed, Observed::Directory { .. }) {
            // What could not be put into it may be put there now.
            self.transfer.children_are_ready(path);
        }
        let found = self.observe.scan.inspected(path).unwrap_or(inspection.found);
        if self.awaits_verdict(now, path, &observed, found) {
            self.observe.rehashed(&mut self.core, inspection);
            return self.end_scan(now);
        }
        let was_hashed = !matches!(observed, Observed::Unstable | Observed::Failed(_));
        if was_hashed && observed != Observed::Absent {
            self.safety.note_back(path);
        }
        if inspection.early && observed == Observed::Absent && found != ObservationSource::Restored {
            // Whether it was deleted is for the walk to say, which knows how much else is missing
            // (P8).
            self.adopt_deletions(now, path);
            self.transfer.clear_interrupted(path);
        } else {
            if let Observed::File { stat, .. } = &observed
                && was_racy(stat, inspection.asked, now)
            {
                self.observe.rehash_racy(&mut self.core, now, path, stat);
            }
            self.observe(now, path, observed, found);
        }
        match needs_walk {
            Some(NewFolder::Installed) => self.observe.arrivals.came(now.mono, path.clone()),
            Some(NewFolder::New) => self.observe.walk(&mut self.core, now, Some(path.clone()), found),
            None => {}
        }
        if was_hashed {
            self.observe.rehashed(&mut self.core, inspection);
        } else {
            self.observe.rehash_again(now, path, inspection);
        }
        self.end_scan(now);
        self.transfer.retry_now(path);
        self.merge_due(path);
    }

    /// Patterns ignore it since it was to be inspected: what is there is announced to nobody.
    /// Whether only another inspection can say what is there; then it will follow.
    fn says_too_little(&mut self, now: Now, path: &SyncPath, observed: &Observed, inspection: Inspection) -> bool {
        let restless = inspection.debounced.is_some_and(|debounced| debounced.restless)
            || self.observe.settle.is_restless(now.mono, path);
        if self.observe.settle.is_noisy(path)
            && !restless
            && matches!(observed, Observed::File { .. } | Observed::Absent)
        {
            // It was touched again meanwhile: what was seen may be half of something.
            if let Some(debounced) = inspection.debounced {
                self.observe.settle.goes_on(path, debounced.first);
            }
            return true;
        }
        if inspection.seen_since && *observed == Observed::Absent {
            // Gone, then back, or the other way round.
            self.observe.settle.hint(now.mono, path.clone(), Hint::Gone);
            return true;
        }
        if let Some(debounced) = inspection.debounced
            && !debounced.restless
            && self.may_be_ignored_soon(path, observed)
        {
            self.observe.settle.hint(now.mono, path.clone(), debounced.hint);
            self.observe.settle.goes_on(path, debounced.first);
            return true;
        }
        if self.observe.is_suddenly_empty(&self.core, path, observed, inspection) {
            self.observe.settle.hint(now.mono, path.clone(), Hint::Changed);
            self.observe.inspecting.emptied.insert(path.clone());
            return true;
        }
        false
    }

    fn inspected_ignored(&mut self, now: Now, path: &SyncPath, inspection: Inspection) {
        self.observe.inspecting.emptied.remove(path);
        self.observe.scan.inspected(path);
        self.observe.no_concern(&mut self.core, path);
        self.observe.pause_rehash(path, inspection);
        self.end_scan(now);
    }

    /// Something new, beside patterns that are being written: once announced to others, it could
    /// not be taken back. Patterns that do not come to rest are waited for no longer than a
    /// restless file.
    fn may_be_ignored_soon(&self, path: &SyncPath, observed: &Observed) -> bool {
        let is_there = matches!(
            observed,
            Observed::File { .. } | Observed::Directory { .. } | Observed::Symlink { .. } | Observed::Special { .. }
        );
        is_there
            && path.as_bytes() != IGNORE_FILE.as_bytes()
            && self.core.index.get(path).is_none_or(|row| row.live_on_disk().is_none())
            && self.patterns_change()
    }

    /// Takes what was seen at a path into the index.
    pub(in crate::engine) fn observe(
        &mut self,
        now: Now,
        path: &SyncPath,
        observed: Observed,
        found: ObservationSource,
    ) {
        self.observe.inspecting.finding = Some(found);
        self.take_in_observed(now, path, observed, found);
        self.observe.inspecting.finding = None;
        self.safety.writes_as(Believed::Judged);
    }

    fn take_in_observed(&mut self, now: Now, path: &SyncPath, observed: Observed, found: ObservationSource) {
        match observed {
            Observed::Failed(_) | Observed::Foreign(_) => {}
            // Whether it can be listed, only a walk says.
            Observed::Directory { .. } if self.observe.inspecting.unseen.contains_key(path) => {}
            _ => {
                self.observe.inspecting.unseen.remove(path);
                self.observe.racy.seen(path);
                // That it can be inspected says nothing of an install that failed: only one that
                // succeeds does.
                if !self.transfer.has_failed(path) {
                    self.observe.solve(&mut self.core, path);
                }
            }
        }
        if !matches!(observed, Observed::Absent | Observed::Special { .. }) {
            self.seen_here(now, path);
        }
        let is_certain = !matches!(observed, Observed::Foreign(_) | Observed::Unstable | Observed::Failed(_));
        if is_certain && !matches!(observed, Observed::Special { .. }) {
            self.special_gone(path);
            if !matches!(observed, Observed::Directory { .. } | Observed::Unchanged) {
                // Nor is what was in a folder there any more.
                self.specials_walked(Some(path), |_| false);
            }
        }
        match observed {
            Observed::Unchanged => {}
            Observed::Absent => self.absent(now, path, found),
            Observed::Special { what } => {
                self.observe.special_seen(&mut self.core, path, what);
                self.absent(now, path, found);
            }
            Observed::Foreign(kind) => self.observe.foreign(&mut self.core, now, path, kind, found),
            Observed::Directory { stat } => {
                let live = Live { kind: Kind::Directory, mtime: FileTime::default(), stat, body: None };
                self.present(now, path, live, found);
            }
            Observed::Symlink { stat, target } => {
                let live = Live { kind: Kind::Symlink { target }, mtime: stat.mtime, stat, body: None };
                self.present(now, path, live, found);
            }
            Observed::File { stat, content, body } => {
                if is_racy(stat.mtime, now) || is_racy(stat.ctime, now) {
                    self.observe.rehash_racy(&mut self.core, now, path, &stat);
                }
                let kind = Kind::File { size: stat.size, content };
                self.present(now, path, Live { kind, mtime: stat.mtime, stat, body }, found);
            }
            Observed::Unstable => self.observe.settle.hint(now.mono, path.clone(), Hint::Changed),
            Observed::Failed(trouble) => {
                self.observe.not_seen(&mut self.core, now, path, found, Problem::Trouble(trouble.text));
            }
        }
        if is_certain && self.transfer.clear_interrupted(path) {
            self.nothing_was_interrupted(now, path);
        }
    }

    /// What was being installed is not there, or is known now.
    pub(super) fn nothing_was_interrupted(&mut self, now: Now, path: &SyncPath) {
        if let Some(mut row) =
            self.core.index.get(path).filter(|row| row.installing.is_some() && row.head != merge::nothing())
        {
            row.installing = None;
            self.store(now, path, &row);
        }
    }

    /// Something live is at a path.
    fn present(&mut self, now: Now, path: &SyncPath, live: Live, found: ObservationSource) {
        let Live { kind, mtime, stat, body } = live;
        // Two folders that meet for the first time may hold the same.
        let body = body.filter(|_| found != ObservationSource::First || self.peers.is_news_to_all());
        let row = self.core.index.get(path);
        let of = self.observe.mode_of(&self.core, path, row.as_ref(), &kind, &stat);
        let mode = of.mode();
        let mtime = Observe::mtime_of(row.as_ref(), &kind, mtime, &stat);
        let was_directory = row.as_ref().and_then(Row::live_on_disk).is_some_and(|(entry, _)| entry.is_directory());
        if was_directory && kind != Kind::Directory {
            match found {
                ObservationSource::Restored => self.forget_below(now, path),
                _ => self.delete_below(now, path),
            }
        }
        if self.is_suspect_still(now, path, &kind, mode, &stat) {
            return;
        }
        let made = |kind, stamp, base, body| MadeHere { kind, mode, mtime, stamp, base, stat: Some(stat), body };
        match merge::compare(row.as_ref(), &kind, mode, mtime, found) {
            Local::Adopt(_) if row.as_ref().is_some_and(|row| is_local_still(row, &kind, mode, mtime)) => {
                let base = row.and_then(|row| row.disk).map(|disk| disk.entry);
                self.made_here(now, path, made(kind, 0, base, None));
            }
            Local::Nothing => {
                if let Some(mut row) = row
                    && let Some(disk) = &mut row.disk
                    && disk.stat != Some(stat)
                {
                    disk.stat = Some(stat);
                    self.store(now, path, &row);
                }
            }
            Local::Adopt(entry) => {
                if let Some(row) = row {
                    self.adopt(now, path, row, entry, stat);
                }
            }
            Local::Touched(base) => {
                let is_rest = self.observe.torn.contains(path) && base.mtime == mtime;
                if let Some(row) = row.filter(|_| is_rest) {
                    // What a cut left is announced to nobody, whoever changes its permissions.
                    let (entry, local) = (Entry { mode, mtime, ..base }, row.is_local());
                    let disk = Some(OnDisk { entry, stat: Some(stat), local });
                    return self.store(now, path, &Row { disk, ..row });
                }
                let stamp = base.version.stamp + STAMP_STEP;
                self.made_here(now, path, made(kind, stamp, Some(base), None));
            }
            Local::Edited(_) if self.takes_as_torn(now, path, &kind, &stat, found) => {}
            Local::Edited(base) => {
                let mut stamp = self.observe.stamp_of_edit(now, row.as_ref(), base.as_ref(), &kind, &stat, found);
                if base.is_none() && matches!(of, ModeOf::Guessed(_)) {
                    // Where another machine has the same with permissions that someone chose, those
                    // win.
                    stamp = stamp.saturating_sub(1);
                }
                self.reconcile.found_as(&self.core, path, found);
                self.made_here(now, path, made(kind, stamp, base, body));
            }
        }
    }

    /// What is on disk is an entry that is known already.
    fn adopt(&mut self, now: Now, path: &SyncPath, mut row: Row, entry: Entry, stat: Stat) {
        // The copy of a displaced file, found after a crash: now that it is here, it is news.
        let installing = row.installing.take().filter(|known| known.version == entry.version);
        let news = installing.filter(|known| known.beats(&row.head));
        if let Some(entry) = news.clone() {
            row.head = entry;
        }
        if let Some((loser, _)) = row.live_on_disk() {
            self.find_loser(path, &entry, loser);
        }
        row.disk = Some(merge::on_disk(entry, Some(stat)));
        self.store(now, path, &row);
        if let Some(entry) = news {
            self.merge_was_here(path, &entry);
            self.announce(now, Change { path: path.clone(), entry, body: None }, Vec::new());
        }
    }
}
