//! One step of a want: what must come first, whether its content is on this disk, and else that
//! a peer is asked.
//!
//! Deliberately not here: which peer is asked (`fetch.rs`), and the install (`install.rs`).

use crate::engine::api::action::Source;
use crate::engine::api::event::{Now, Stat};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{COPIES_TRIED, COPY_PATIENCE_NS, SECOND};
use crate::engine::merge;
use crate::engine::transfer::Transfer;
use crate::engine::transfer::wants::{Holder, Step};
use crate::engine::{Engine, Inspection};
use crate::model::{ContentId, SyncPath};
use crate::wire::message::SMALL_FILE_BYTES;
use bytes::Bytes;

impl Transfer {
    /// Whether a file that holds the content is just being replaced or deleted: it is in history in
    /// a moment.
    fn is_leaving<I: Index>(&self, core: &Core<I>, path: &SyncPath, content: ContentId) -> bool {
        let holders = core.index.holders(&content);
        holders
            .iter()
            .any(|holder| holder != path && self.is_busy(holder) && core.stat_of_holder(holder, content).is_some())
    }
}

impl<I: Index> Core<I> {
    /// Of a file on disk that is known to hold this content.
    fn stat_of_holder(&self, holder: &SyncPath, content: ContentId) -> Option<Stat> {
        let row = self.index.get(holder)?;
        let (entry, stat) = row.live_on_disk()?;
        (entry.file()?.0 == content).then_some(*stat)
    }
}

impl<I: Index> Engine<I> {
    pub(super) fn advance(&mut self, now: Now, path: &SyncPath) {
        let Some(row) = self.core.index.get(path) else { return self.unwant(path) };
        let is_dir = row.head.is_directory();
        if !self.core.wants(&row) || (self.ignores(path, is_dir) && !self.may_come(path, is_dir, &row)) {
            return self.unwant(path);
        }
        let awaits_inspection = self.awaits_inspection(path);
        let awaits_person = self.safety.awaits_person(path);
        if awaits_person {
            self.transfer.wants.drop_body(path);
        }
        if awaits_inspection || awaits_person {
            return self.transfer.wait(now, path, None);
        }
        if self.holds_loss(now, path) {
            return;
        }
        if self.safety.holds_suspect(path, &row) {
            return self.transfer.hold_want(path);
        }
        if self.needs_inspection_first(now, path, &row) {
            return self.transfer.wait(now, path, None);
        }
        if !row.head.is_live() {
            return self.advance_deletion(now, path, &row);
        }
        if self.awaits_special(path) || self.waits_for_name(now, path, &row) {
            return;
        }
        if !self.parent_is_ready(path) {
            self.local_gives_way_above(now, path);
            return self.transfer.wait(now, path, Some(SECOND));
        }
        let live = row.live_on_disk();
        let is_directory = live.is_some_and(|(entry, _)| entry.is_directory());
        if is_directory && !row.head.is_directory() {
            if self.keeps_special(path, false) {
                return;
            }
            if self.core.index.any_on_disk_below(path) {
                if self.stays_for_local(now, path, &row) {
                    return;
                }
                return self.transfer.wait(now, path, Some(SECOND));
            }
        }
        if live.is_some_and(|(entry, _)| entry.same_content(&row.head)) {
            return self.install(path, &row, Source::InPlace);
        }
        if self.displaces(now, path, &row) {
            return self.transfer.wait(now, path, Some(SECOND));
        }
        let live = row.live_on_disk();
        match row.head.file() {
            None if live.is_some_and(|(entry, _)| self.is_copied_from(now, path, entry)) => {
                self.transfer.wait(now, path, Some(COPY_PATIENCE_NS));
            }
            None if self.copies_loser(now, path, &row) => self.transfer.wait(now, path, Some(SECOND)),
            None => self.install(path, &row, Source::Nothing),
            Some((content, size)) => self.advance_file(now, path, &row, content, size),
        }
    }

    /// A user is at it: what the inspection finds comes first, and tries again.
    pub(in crate::engine) fn awaits_inspection(&self, path: &SyncPath) -> bool {
        self.observe.is_unsettled(path) || self.safety.seems_missing(path)
    }

    /// What is about to be replaced must be what the index says: where that is in doubt, an
    /// inspection comes first, and tries again.
    fn needs_inspection_first(&mut self, now: Now, path: &SyncPath, row: &Row) -> bool {
        if self.transfer.interrupted_installs.contains(path) {
            if !self.observe.could_not_see(path) {
                let known = row.live_on_disk().map(|(_, stat)| *stat);
                let early = !self.observe.has_walked();
                self.inspect(path, known, Inspection::of(self.observe.finds()).early(early));
            }
            return true;
        }
        let is_overdue = row.live_on_disk().is_some() && self.observe.rehash_is_overdue(now, path);
        if is_overdue {
            self.rehash_now(path);
        }
        is_overdue
    }

    fn advance_deletion(&mut self, now: Now, path: &SyncPath, row: &Row) {
        let Some((on_disk, _)) = row.live_on_disk() else {
            let disk = Some(merge::on_disk(row.head.clone(), None));
            return self.store(now, path, &Row { disk, ..row.clone() });
        };
        if self.copies_loser(now, path, row) {
            return self.transfer.wait(now, path, Some(SECOND));
        }
        if on_disk.is_directory() && self.core.index.any_on_disk_below(path) {
            if self.safety.holds_below(path) {
                return self.transfer.hold_want(path);
            }
            if self.stays_for_local(now, path, row) {
                return;
            }
            return self.transfer.wait(now, path, Some(SECOND));
        }
        if on_disk.is_directory() && self.keeps_special(path, true) {
            return;
        }
        if self.is_renamed_away(path) {
            return self.transfer.wait(now, path, Some(SECOND));
        }
        if self.is_copied_from(now, path, on_disk) {
            return self.transfer.wait(now, path, Some(COPY_PATIENCE_NS));
        }
        self.install(path, row, Source::Nothing);
    }

    /// Whether the folder of the path is on disk, or on its way there before it. One that may just
    /// have been deleted, with all that is in it, is not.
    fn parent_is_ready(&mut self, path: &SyncPath) -> bool {
        let Some(parent) = path.parent() else { return true };
        if self.safety.has_missing() && path.ancestors().any(|dir| self.safety.seems_missing(&dir)) {
            return false;
        }
        if self.transfer.good_parent.as_ref() == Some(&parent) {
            return true;
        }
        let Some(row) = self.core.index.get(&parent) else { return false };
        let on_disk = row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory());
        let ready = row.head.is_directory() && (on_disk || self.transfer.is_busy(&parent));
        if ready {
            self.transfer.good_parent = Some(parent);
        }
        ready
    }

    fn advance_file(&mut self, now: Now, path: &SyncPath, row: &Row, content: ContentId, size: u64) {
        if self.has_loser(path, row) && self.has_content(now, path, content, size) && self.copies_loser(now, path, row)
        {
            return self.transfer.wait(now, path, Some(SECOND));
        }
        let Some(want) = self.transfer.wants.by_path.get_mut(path) else { return };
        if let Some(body) = want.received.body.take() {
            self.transfer.wants.window.body_bytes -= body.len() as u64;
            return self.install(path, row, Source::Bytes(body));
        }
        if let Some(staged) = want.received.staged.take() {
            return self.install(path, row, Source::Staged(staged));
        }
        if size == 0 {
            return self.install(path, row, Source::Bytes(Bytes::new()));
        }
        if let Some(source) = self.local_source(now, path, content) {
            return self.install(path, row, source);
        }
        if self.transfer.is_leaving(&self.core, path, content) {
            return self.transfer.wait(now, path, Some(SECOND));
        }
        if self.takes_from_history(now, path, row, content, size) {
            return;
        }
        if now.mono < self.transfer.wants.window.full_until {
            let after = self.transfer.wants.window.full_until - now.mono;
            return self.transfer.wait(now, path, Some(after));
        }
        if let Some(want) = self.transfer.wants.by_path.get_mut(path) {
            want.step = Step::Queued;
        }
        if size <= SMALL_FILE_BYTES {
            self.transfer.wants.queues.small.push_back(path.clone());
        } else {
            self.transfer.wants.queues.large.push_back(path.clone());
        }
    }

    /// Whether what is wanted at a path can be installed now.
    fn has_content(&self, now: Now, path: &SyncPath, content: ContentId, size: u64) -> bool {
        let Some(want) = self.transfer.wants.get(path) else { return false };
        let came = size == 0 || want.received.body.is_some() || want.received.staged.is_some();
        came || self.local_source(now, path, content).is_some()
    }

    /// Where on this disk the content can be copied from: another file that is not being replaced,
    /// or what has just gone to history, as when the deletion of a renamed file came before the
    /// file.
    fn local_source(&self, now: Now, path: &SyncPath, content: ContentId) -> Option<Source> {
        let failed = &self.transfer.wants.get(path)?.attempts.failed_copies;
        if failed.len() >= COPIES_TRIED {
            return None;
        }
        let holders = self.core.index.holders(&content).into_iter();
        let live = holders.filter(|holder| holder != path && !self.transfer.is_busy(holder)).find_map(|holder| {
            let has_failed = failed.contains(&Holder::Live(holder.clone()));
            let stat = self.core.stat_of_holder(&holder, content).filter(|_| !has_failed)?;
            Some(Source::Copy { from: holder, stat })
        });
        live.or_else(|| {
            let (kept, stat) = self.reconcile.kept_copy(now, &content)?;
            let has_failed = failed.contains(&Holder::Kept(kept.to_owned()));
            (!has_failed).then(|| Source::Kept { kept: kept.to_owned(), stat })
        })
    }
}
