//! Installing: what is ready goes to the shell, and what came of it goes to the index.

use crate::engine::Engine;
use crate::engine::api::action::{Action, Job, Report, RetainReason, Source};
use crate::engine::api::event::{Cause, Hint, Now, StageId, Stat, StatKind, Trouble};
use crate::engine::api::event::{JobId, Outcome};
use crate::engine::api::index::{Index, Row};
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::core::is_racy;
use crate::engine::limits::{FAILED_RETRY_NS, FULL_PAUSE_NS, FULL_RETRY_NS};
use crate::engine::merge;
use crate::engine::transfer::Transfer;
use crate::engine::transfer::wants::{Holder, RunningInstall, Step, Trial};
use crate::model::{ContentId, Entry, SyncPath};
use crate::wire::conflict::Sides;
use crate::wire::message::Change;

impl Transfer {
    /// The entry whose install is under way at a path.
    pub(in crate::engine) fn entry_under_way(&self, path: &SyncPath) -> Option<Entry> {
        match self.wants.get(path)?.step {
            Step::Installing(job) => self.wants.jobs.get(&job).map(|job| job.entry.clone()),
            _ => None,
        }
    }

    /// A staged content whose install was refused serves the next try, if that is for the same
    /// content.
    fn take_back<I: Index>(
        &mut self,
        core: &mut Core<I>,
        path: &SyncPath,
        entry: &Entry,
        staged: StageId,
        outcome: &Outcome,
    ) {
        match (outcome, self.wants.by_path.get_mut(path)) {
            (Outcome::Done { .. }, _) => {}
            (
                Outcome::Stale | Outcome::Taken | Outcome::NoParent | Outcome::NotEmpty | Outcome::Refused(_),
                Some(want),
            ) if want.content == entry.file() && want.received.staged.is_none() => {
                want.received.staged = Some(staged);
            }
            _ => {
                core.act(Action::Discard(staged));
                self.close_staged(core, path);
            }
        }
    }

    /// What was sent is not what was announced: look elsewhere.
    fn bad_content<I: Index>(&mut self, core: &Core<I>, now: Now, path: &SyncPath) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.refused.extend(want.received.provider);
        }
        self.back_off(core, now, path);
    }

    /// A content is no longer where it was. Who waits for it may take it from history.
    fn has_left(&mut self, content: ContentId) {
        for path in self.wants.waiting_for(content) {
            self.wants.make_ready(&path);
        }
    }

    pub(in crate::engine) fn children_are_ready(&mut self, dir: &SyncPath) {
        let (from, to) = dir.range_below();
        let below: Vec<_> = self
            .wants
            .by_path
            .range::<SyncPath, _>((std::ops::Bound::Excluded(dir), std::ops::Bound::Unbounded))
            .map(|(path, _)| path)
            .skip_while(|path| path.as_bytes() < &from[..])
            .take_while(|path| path.as_bytes() < &to[..])
            .filter(|path| path.parent().as_ref() == Some(dir))
            .cloned()
            .collect();
        for path in below {
            self.wants.make_ready(&path);
        }
    }
}

impl<I: Index> Engine<I> {
    pub(super) fn install(&mut self, path: &SyncPath, row: &Row, source: Source) {
        let on_disk = row.live_on_disk();
        let keep = match on_disk {
            _ if self.safety.is_suspected(path) => RetainReason::Suspect,
            // The only copy of it there is.
            _ if row.disk.as_ref().is_some_and(|disk| disk.local) => RetainReason::Conflict,
            Some((old, _)) if row.head.conflicts_with(old) => RetainReason::Conflict,
            _ if !row.head.is_live() => RetainReason::Deleted,
            _ => RetainReason::Replaced,
        };
        let expect = on_disk.map(|(_, stat)| *stat);
        self.install_as(path, row.head.clone(), expect, source, keep);
    }

    pub(in crate::engine) fn install_as(
        &mut self,
        path: &SyncPath,
        entry: Entry,
        expect: Option<Stat>,
        source: Source,
        keep: RetainReason,
    ) {
        let id = JobId(self.transfer.wants.next_id());
        self.transfer.set_step(path, Step::Installing(id));
        let window = if let Source::Bytes(bytes) = &source { Some(bytes.len() as u64) } else { None };
        if let Some(size) = window {
            self.transfer.wants.window.small_files += 1;
            self.transfer.wants.window.small_bytes += size;
            self.transfer.wants.window.installing_bytes += size;
        }
        let copied = match &source {
            Source::Copy { from, .. } => Some(Holder::Live(from.clone())),
            Source::Kept { kept, .. } => Some(Holder::Kept(kept.clone())),
            _ => None,
        };
        let renamed = if let Source::Rename { from, .. } = &source { Some(from.clone()) } else { None };
        let staged = if let Source::Staged(staged) = &source { Some(*staged) } else { None };
        let under_way = RunningInstall { path: path.clone(), entry: entry.clone(), copied, renamed, staged, window };
        self.transfer.wants.jobs.insert(id, Box::new(under_way));
        self.observe.name_at_work(path);
        let since_ns = expect
            .and_then(|_| self.core.index.get(path))
            .map_or(0, |row| self.safety.stood_since(&self.core, path, &entry, &row));
        self.core.act(Action::Install(Job { id, path: path.clone(), entry, expect, source, keep, since_ns }));
    }

    pub(in crate::engine) fn installed(&mut self, now: Now, job: JobId, outcome: Outcome) {
        let Some(under_way) = self.transfer.wants.jobs.remove(&job) else { return };
        self.install_ended(now, &under_way, &outcome);
        let RunningInstall { path, entry, copied, renamed, .. } = *under_way;
        if let Outcome::Done { .. } = outcome {
            self.copy_ended(&path);
        } else {
            self.reconcile.merge_failed(&mut self.core, &path);
            if self.gives_up_copy(now, &path, &outcome) {
                return;
            }
        }
        match outcome {
            Outcome::Done { stat, .. } if let Some(from) = renamed => {
                self.renamed_here(now, &from, &path, stat);
                self.end_scan(now);
            }
            Outcome::Done { stat, kept } => {
                self.install_done(now, &path, &entry, stat, kept, copied.as_ref());
                self.end_scan(now);
            }
            Outcome::Stale => {
                self.observe.hint(now, path.clone(), Hint::Closed);
                self.transfer.back_off(&self.core, now, &path);
            }
            Outcome::Taken => self.name_is_refused(now, &path),
            Outcome::NoParent => {
                if let Some(parent) = path.parent() {
                    self.observe.hint(now, parent, Hint::Closed);
                }
                self.transfer.back_off(&self.core, now, &path);
            }
            Outcome::NotEmpty => {
                // Something in it is not known yet, or never will be.
                self.observe.walk(&mut self.core, now, Some(path.clone()), self.observe.live());
                self.transfer.back_off(&self.core, now, &path);
            }
            Outcome::NoSource | Outcome::BadContent if let Some(holder) = copied => {
                if let Some(want) = self.transfer.wants.by_path.get_mut(&path) {
                    want.attempts.failed_copies.push(holder);
                }
                self.transfer.wants.make_ready(&path);
            }
            Outcome::NoSource | Outcome::BadContent => self.transfer.bad_content(&self.core, now, &path),
            Outcome::NotItsContent => {
                // A write that the stat does not show is an edit while the second hash is to come,
                // and rot after that.
                if self.observe.awaits_rehash(&path) {
                    self.rehash_now(&path);
                } else {
                    self.safety.doubt(&path);
                }
                self.transfer.back_off(&self.core, now, &path);
            }
            Outcome::Refused(trouble) | Outcome::Failed(trouble) => {
                // It may be in place and not durable.
                self.transfer.interrupted_installs.insert(path.clone());
                self.install_failed(now, &path, trouble);
            }
        }
    }

    /// However it ended: its room is free, and its path may be inspected.
    fn install_ended(&mut self, now: Now, under_way: &RunningInstall, outcome: &Outcome) {
        let RunningInstall { path, entry, staged, window, .. } = under_way;
        if let Some(staged) = *staged {
            self.transfer.take_back(&mut self.core, path, entry, staged, outcome);
        }
        if let Some(size) = *window {
            self.transfer.wants.release_small(size);
            self.transfer.wants.window.installing_bytes -= size;
        }
        self.transfer.set_step(path, Step::Waiting);
        self.name_at_rest(path);
        self.observe.resume_postponed(now, path);
    }

    pub(super) fn install_failed(&mut self, now: Now, path: &SyncPath, trouble: Trouble) {
        let is_full = trouble.cause == Cause::NoSpace;
        if is_full {
            self.transfer.wants.window.full_until = now.mono + FULL_PAUSE_NS;
        }
        self.observe.problem(&mut self.core, path, Problem::Trouble(trouble.text));
        if let Some(want) = self.transfer.wants.by_path.get_mut(path) {
            want.attempts.stuck = true;
            want.attempts.trial = Trial::Failed;
        }
        // Each try may ask for its content anew. Room on the disk comes by itself, most else by a
        // person.
        let most_ns = if is_full { FULL_RETRY_NS } else { FAILED_RETRY_NS };
        self.transfer.back_off_up_to(&self.core, now, path, most_ns);
    }

    /// The copy of a displaced file came to nothing. Perhaps it is there already, from before a
    /// crash: the inspection that follows knows it, or finds that there is no such path.
    fn gives_up_copy(&mut self, now: Now, path: &SyncPath, outcome: &Outcome) -> bool {
        if !self.core.is_begun_copy(path) {
            return false;
        }
        if let Outcome::Failed(trouble) = outcome
            && self.reconcile.copy_failed(path)
        {
            self.core.out.push(Action::Report(Report::Problem {
                path: Some(path.clone()),
                problem: Problem::Trouble(trouble.text.clone()),
            }));
        }
        self.observe.hint(now, path.clone(), Hint::Closed);
        self.unwant(path);
        true
    }

    fn install_done(
        &mut self,
        now: Now,
        path: &SyncPath,
        entry: &Entry,
        stat: Option<Stat>,
        kept: Option<String>,
        copied: Option<&Holder>,
    ) {
        let Some(mut row) = self.core.index.get(path) else { return };
        let old = row.disk.replace(merge::on_disk(entry.clone(), stat));
        if let Some(kept) = kept.as_ref().filter(|_| old.as_ref().is_some_and(|old| old.local)) {
            // What the group never had was made by nobody.
            let is_made = entry.version.counter() > 0;
            let by = if is_made { self.peers.name_of(&self.core, &entry.version.author) } else { String::new() };
            self.core.act(Action::Report(Report::LocalKept { path: path.clone(), kept: kept.clone(), by }));
        }
        // Nobody made what rotted or was torn: it is no side of a conflict.
        let kept = kept.filter(|_| !self.is_untrusted(path));
        row.installing = None;
        self.reconcile.note_deletion(now, entry, old.as_ref(), kept.as_ref());
        let from_history = if let Some(Holder::Kept(kept)) = copied { Some(kept.as_str()) } else { None };
        self.reconcile.note_arrival(now, path, entry, old.as_ref(), copied.is_some(), from_history);
        let left = old.as_ref().and_then(|old| old.entry.file());
        let replaced = old.map(|old| old.entry);
        self.safety.note_settled(path);
        // The copy of a loser, made here: the conflict's line names it.
        let is_copy = row.head == merge::nothing();
        self.observe.take_come_by(path);
        if entry.is_live() {
            // A folder that was found missing while this went into it needs another inspection.
            self.seen_here(now, path);
        }
        self.observe.solve(&mut self.core, path);
        let want = self.transfer.wants.get(path);
        let mut relayed_to = want.and_then(|want| want.relayed_to.clone());
        if entry.beats(&row.head) {
            // The copy of a displaced file: now that it is here, it is news.
            row.head = entry.clone();
            relayed_to = Some(Vec::new());
        }
        if !self.merge_is_here(path, entry) && !is_copy {
            self.report_received(now, path, entry, replaced.as_ref());
        }
        if let (Some(loser), Some(kept)) = (replaced, kept)
            && entry.conflicts_with(&loser)
        {
            let beside = self.beside(path, entry, &loser);
            self.reconcile.lost(&self.core, path, entry, &loser, &kept);
            self.report_conflict(path, entry, loser, Some(kept), beside);
        }
        let settled = row.is_settled();
        self.store(now, path, &row);
        if let Some((content, _)) = left {
            self.transfer.has_left(content);
        }
        if let Some((content, size)) = entry.file() {
            self.peers.announce_whole(&mut self.core, content, size);
        }
        self.keep_base(path, entry, stat);
        self.merge_due(path);
        if let Some(relayed_to) = relayed_to.filter(|_| settled) {
            self.announce(now, Change { path: path.clone(), entry: entry.clone(), body: None }, relayed_to);
        }
        self.wake_after_install(now, path, entry, stat);
    }

    fn report_received(&mut self, now: Now, path: &SyncPath, entry: &Entry, replaced: Option<&Entry>) {
        let Some(want) = self.transfer.wants.get(path) else { return };
        // Who announced it, where nobody had to send anything.
        let announcer = || want.sources.iter().rev().find_map(|link| self.peers.name_of_link(*link));
        let from = Some(want.received.from.clone()).filter(|from| !from.is_empty());
        let report = Report::Received {
            path: path.clone(),
            entry: entry.clone(),
            was: replaced.filter(|old| old.is_live()).map(|old| old.kind.clone()),
            from: from.or_else(announcer).unwrap_or_default(),
            wire_bytes: want.received.wire_bytes,
            took_ns: now.mono - want.since,
            was_there: replaced.is_some_and(|old| old.is_live() && old.same_content(entry)),
        };
        self.core.out.push(Action::Report(report));
    }

    /// What waited for the install: a second hash, what lies in a new folder, the folder of what
    /// went.
    fn wake_after_install(&mut self, now: Now, path: &SyncPath, entry: &Entry, stat: Option<Stat>) {
        // An edit within the same tick of the clock as the installed mtime may leave no trace in
        // the stat.
        if let Some(stat) = stat.filter(|stat| stat.kind == StatKind::File && is_racy(stat.mtime, now)) {
            self.observe.rehash_racy(&mut self.core, now, path, &stat);
        }
        if entry.is_directory() {
            self.observe.note_installed_folder(path);
            self.transfer.children_are_ready(path);
        } else {
            self.observe.forget_installed_folder(path);
        }
        if !entry.is_live()
            && let Some(parent) = path.parent()
        {
            self.transfer.wants.make_ready(&parent);
        }
    }

    pub(in crate::engine) fn report_conflict(
        &mut self,
        path: &SyncPath,
        winner: &Entry,
        loser: Entry,
        kept: Option<String>,
        beside: Option<SyncPath>,
    ) {
        let (winner_name, loser_name) = (
            self.peers.name_of(&self.core, &winner.version.author),
            self.peers.name_of(&self.core, &loser.version.author),
        );
        let sides = Sides {
            winner: winner.clone(),
            winner_name: winner_name.clone(),
            loser: loser.clone(),
            loser_name: loser_name.clone(),
            beside: beside.clone(),
        };
        self.note_conflict(path, sides, kept.clone());
        self.core.out.push(Action::Report(Report::Conflict {
            path: path.clone(),
            winner: winner.clone(),
            winner_name,
            loser,
            loser_name,
            kept,
            beside,
        }));
    }
}
