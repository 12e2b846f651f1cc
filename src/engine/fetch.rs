//! What is wanted, from whom, and its way onto the disk.
//!
//! A path whose winner is not on disk is *wanted*. `advance` moves one want a step: wait for what must come first, take the
//! content from this disk if it is here, else ask a peer, then install. Windows bound what is under way (P9).

use super::action::{Action, ServedFile, Source};
use super::event::{FetchError, FetchId, LinkId, Now, StageId, Stat};
use super::fetch_chunks::CHUNKED_BYTES;
use super::index::{Index, Row};
use super::merge;
use super::moved::COPY_PATIENCE_NS;
use super::wants::{Holder, JOBS, KeptHere, LargeFetch, Step, Trial, Want};
use super::{Engine, Inspection};
use crate::model::path::IGNORE_FILE;
use crate::model::{ContentId, DeviceId, Kind, SyncPath};
use crate::wire::message::{Message, SMALL_FILE_BYTES, WantedContent as Ask};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// Small contents asked for or being installed, at most.
pub(super) const SMALL_WINDOW_FILES: usize = 8192;
const SMALL_WINDOW_BYTES: u64 = 32 << 20;
/// Large contents under way at once.
pub(super) const LARGE_WINDOW: usize = 4;
/// Small contents that are asked for, here, or being installed, in all (bytes): more than may be asked for, so that what comes with its
/// entry has room beside. What has none is dropped, to be asked for later.
pub(super) const BODIES_BYTES: u64 = 48 << 20;
/// Upon a file of this size or more, a delta is asked for (bytes)...
const DELTA_BYTES: u64 = 64 * 1024;
/// ... unless what is wanted is so many times as large: then little of it can be in there.
const DELTA_GROWTH: u64 = 16;
const ASKS_A_MESSAGE: usize = 512;
/// After so many places on this disk that did not have it, a content is fetched.
const COPIES_TRIED: usize = 8;

/// So that machines which wait for the same do not all come at once: of 256, by machine, path and try.
fn jitter(device: &DeviceId, path: &SyncPath, tries: u32) -> u64 {
    let bytes = device.0.iter().chain(path.as_bytes()).copied().chain(tries.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) >> 56
}

/// What so many of `total` bytes took of what a message took on the wire.
fn share_of(wire: u64, bytes: u64, total: u64) -> u64 {
    (u128::from(wire) * u128::from(bytes) / u128::from(total.max(1))) as u64
}

/// What is live on disk by a row.
pub(super) fn on_disk(row: Option<&Row>) -> Option<&Kind> {
    row.and_then(Row::live_on_disk).map(|(entry, _)| &entry.kind)
}

impl<I: Index> Engine<I> {
    /// Whether the path is being installed: then it is not looked at (echo).
    pub(super) fn is_busy(&self, path: &SyncPath) -> bool {
        matches!(self.wants.get(path), Some(Want { step: Step::Installing(_), .. }))
    }

    /// Writes a row, and draws the consequences that every written row has.
    pub(super) fn store(&mut self, now: Now, path: &SyncPath, row: &Row) {
        let old = self.index.get(path);
        let was_directory = old.as_ref().is_some_and(|old| old.head.is_directory());
        let since = self.since(now, path, old.as_ref(), row);
        let dated = (since != row.since).then(|| Row { since, ..row.clone() });
        let row = dated.as_ref().unwrap_or(row);
        let is_patterns = path.as_bytes() == IGNORE_FILE.as_bytes();
        let were_whole = !is_patterns || self.patterns_are_whole();
        self.index.put(path, row);
        self.note_folder(path, row);
        for other in self.note_name(path, row) {
            self.retry_now(&other);
        }
        let is_meant = self.is_meant(now, path, old.as_ref(), row);
        self.account(now, path, old.as_ref(), row, is_meant);
        self.review_suspect(path, row);
        self.review_torn(path, row);
        let become_whole = !were_whole && self.patterns_are_whole();
        if is_patterns && (become_whole || on_disk(old.as_ref()) != on_disk(Some(row))) {
            self.read_patterns();
        }
        self.note_stamp(now, row.head.version.stamp);
        self.peer_counters.note(&row.head.version);
        self.state_changed(now);
        self.check_parent(now, path, &row.head);
        if was_directory {
            self.check_children(now, path, &row.head);
        }
        if row.is_settled() && !self.is_busy(path) {
            self.unwant(path);
        } else {
            self.want(now, path, row);
        }
    }

    fn want(&mut self, now: Now, path: &SyncPath, row: &Row) {
        self.begin_want(now, path);
        if row.head.is_live() {
            self.keeps_no_more(path);
        }
        self.note_loss(now, path, row);
        let content = row.head.file();
        if self.wants.by_path.get(path).is_some_and(|want| want.content != content) {
            self.drop_content(path);
            let kept = self.may_be_kept(path, row);
            if let Some(want) = self.wants.by_path.get_mut(path) {
                want.kept = kept;
            }
        }
        self.wants.set_content(path, content);
        self.wants.make_ready(path);
    }

    pub(super) fn begin_want(&mut self, now: Now, path: &SyncPath) {
        if !self.wants.by_path.contains_key(path) {
            let want = Want {
                step: Step::Ready,
                content: None,
                sources: Vec::new(),
                refused: BTreeSet::new(),
                body: None,
                staged: None,
                wire_bytes: 0,
                provider: None,
                from: String::new(),
                failed_copies: Vec::new(),
                delta_failed: false,
                tries: 0,
                since: now.mono,
                relayed_to: None,
                owes_ack: None,
                stuck: false,
                trial: Trial::Open,
                kept: KeptHere::No,
            };
            self.wants.by_path.insert(path.clone(), Box::new(want));
        }
    }

    /// The winner moved on: what was on its way for the old one is of no use.
    fn drop_content(&mut self, path: &SyncPath) {
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        want.failed_copies.clear();
        want.delta_failed = false;
        want.sources.clear();
        want.refused.clear();
        want.stuck = false;
        let staged = want.staged.take();
        self.wants.drop_body(path);
        if let Some(staged) = staged {
            self.act(Action::Discard(staged));
        }
        self.close_staged(path);
        self.stop_asking(path);
    }

    pub(super) fn stop_asking(&mut self, path: &SyncPath) {
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        match want.step {
            Step::Asked(link, id) => {
                let size = want.content.map_or(0, |(_, size)| size);
                want.step = Step::Waiting;
                self.wants.asked.remove(&(link, id));
                self.wants.release_small(size);
            }
            Step::Queued => want.step = Step::Waiting,
            Step::Fetching(fetch) => {
                want.step = Step::Waiting;
                self.wants.fetching.remove(&fetch);
                if !self.cancel_chunks(fetch) {
                    self.act(Action::CancelFetch { fetch });
                }
            }
            _ => {}
        }
    }

    /// The path needs nothing more.
    pub(super) fn unwant(&mut self, path: &SyncPath) {
        if !self.wants.by_path.contains_key(path) {
            return;
        }
        self.guards.settled(path);
        self.keeps_no_more(path);
        self.drop_content(path);
        if !self.unseen.contains_key(path) {
            // Whatever its install ran into.
            self.solve(path);
        }
        let content = self.wants.get(path).and_then(|want| want.content);
        self.wants.set_content(path, None);
        let owes_ack = self.wants.by_path.remove(path).and_then(|want| want.owes_ack);
        if let Some((link, counter)) = owes_ack {
            self.acknowledge(path, link, counter);
        }
        self.wants.ready.remove(path);
        // A deletion may have waited for this to be copied from it.
        if let Some((content, _)) = content
            && self.wants.copied_from.remove(&content)
        {
            for holder in self.index.holders(&content) {
                self.wants.make_ready(&holder);
            }
        }
    }

    /// Something about the path changed: try again at once.
    pub(super) fn retry_now(&mut self, path: &SyncPath) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.stuck = false;
        }
        self.wants.make_ready(path);
    }

    pub(super) fn retry_all(&mut self) {
        let paths: Vec<_> = self.wants.by_path.keys().cloned().collect();
        for path in paths {
            self.wants.make_ready(&path);
        }
    }

    /// Loads what an earlier run left unsettled.
    pub(super) fn want_unsettled(&mut self, now: Now) {
        self.wants.loading = true;
        self.load_unsettled(now);
        self.wants.loading = false;
    }

    fn load_unsettled(&mut self, now: Now) {
        let mut after = None;
        loop {
            let page = self.index.unsettled(after.as_ref(), 1024);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for path in page {
                if let Some(row) = self.index.get(&path) {
                    self.check_parent(now, &path, &row.head);
                    self.check_children(now, &path, &row.head);
                    self.want(now, &path, &row);
                }
            }
        }
    }

    /// Notes who has a wanted content, and takes a body that came along, if there is room for it.
    pub(super) fn offer_source(&mut self, path: &SyncPath, link: LinkId, body: Option<Bytes>, wire_bytes: u64) {
        let has_room = body.as_ref().is_some_and(|body| self.has_room(body.len() as u64));
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        want.sources.retain(|known| *known != link);
        want.sources.push(link);
        want.refused.remove(&link);
        let Some((_, size)) = want.content else { return };
        if let Some(body) = body
            && want.body.is_none()
            && body.len() as u64 == size
            && has_room
        {
            self.wants.body_bytes += size;
            want.wire_bytes = wire_bytes;
            want.provider = Some(link);
            want.from = self.sessions.get(&link).map(|session| session.name.clone()).unwrap_or_default();
            want.body = Some(body);
        }
        want.stuck = false;
        self.wants.make_ready(path);
    }

    /// For one more small content. What is asked for holds its room until it comes.
    fn has_room(&self, size: u64) -> bool {
        self.wants.body_bytes + self.wants.small_bytes + size <= BODIES_BYTES
    }

    pub(super) fn pass_on(&mut self, path: &SyncPath, relayed_to: Vec<DeviceId>) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.relayed_to = Some(relayed_to);
        }
    }

    pub(super) fn wait(&mut self, now: Now, path: &SyncPath, retry_ns: Option<u64>) {
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        want.step = Step::Waiting;
        if let Some(after) = retry_ns {
            self.wants.retries.insert((now.mono + after, path.clone()));
        }
    }

    /// Waits for a person, for days maybe: what came along makes room for what does not wait (P9), and is asked for again then.
    pub(super) fn hold_want(&mut self, path: &SyncPath) {
        self.wants.drop_body(path);
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.step = Step::Waiting;
            want.stuck = true;
        }
    }

    /// Waits longer each time, up to half a minute.
    pub(super) fn back_off(&mut self, now: Now, path: &SyncPath) {
        self.back_off_up_to(now, path, 30 * SECOND);
    }

    pub(super) fn back_off_up_to(&mut self, now: Now, path: &SyncPath, most_ns: u64) {
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        want.tries = want.tries.saturating_add(1);
        want.stuck = want.tries > 3;
        let after = ((SECOND << want.tries.min(16)) / 2).min(most_ns);
        let jitter = after / 4 * jitter(&self.config.device, path, want.tries) / 256;
        self.wait(now, path, Some(after + jitter));
    }

    /// Moves every want that can move. Called once a group of events.
    pub(super) fn pump_wants(&mut self, now: Now) {
        while let Some((at, _)) = self.wants.retries.first()
            && *at <= now.mono
            && let Some((_, path)) = self.wants.retries.pop_first()
        {
            self.wants.make_ready(&path);
        }
        if self.is_stopped() {
            return;
        }
        self.follow_silences(now);
        self.good_parent = None;
        // In path order, so that folders come before what is in them.
        let mut ready = if self.wants.has_ready() { std::mem::take(&mut self.wants.ready) } else { BTreeSet::new() };
        while self.wants.jobs.len() < JOBS
            && let Some(path) = ready.pop_first()
        {
            if matches!(self.wants.get(&path), Some(Want { step: Step::Ready, .. })) {
                self.advance(now, &path);
            }
        }
        self.wants.put_back(ready);
        if !self.wants.to_find.is_empty() {
            let sought = std::mem::take(&mut self.wants.to_find);
            self.act(Action::FindKept(sought));
        }
        self.ask(now);
    }

    fn advance(&mut self, now: Now, path: &SyncPath) {
        let Some(row) = self.index.get(path) else { return self.unwant(path) };
        let is_dir = row.head.is_directory();
        if row.is_settled() || (self.ignores(path, is_dir) && !self.may_come(path, is_dir, &row)) {
            return self.unwant(path);
        }
        let awaits_inspection = self.awaits_inspection(path);
        let awaits_person = self.held.contains(path) || self.guards.awaits(path);
        if awaits_person {
            self.wants.drop_body(path);
        }
        if awaits_inspection || awaits_person {
            return self.wait(now, path, None);
        }
        if self.holds_loss(now, path) {
            return;
        }
        if self.holds_suspect(path, &row) {
            return self.hold_want(path);
        }
        if self.needs_inspection_first(now, path, &row) {
            return self.wait(now, path, None);
        }
        if !row.head.is_live() {
            return self.advance_deletion(now, path, &row);
        }
        if self.awaits_special(path) || self.waits_for_name(now, path, &row) {
            return;
        }
        if !self.parent_is_ready(path) {
            return self.wait(now, path, Some(SECOND));
        }
        let live = row.live_on_disk();
        let is_directory = live.is_some_and(|(entry, _)| entry.is_directory());
        if is_directory && !row.head.is_directory() {
            if self.keeps_special(path, false) {
                return;
            }
            if self.index.any_on_disk_below(path) {
                return self.wait(now, path, Some(SECOND));
            }
        }
        if live.is_some_and(|(entry, _)| entry.same_content(&row.head)) {
            return self.install(path, &row, Source::InPlace);
        }
        if self.displaces(now, path, &row) {
            return self.wait(now, path, Some(SECOND));
        }
        let live = row.live_on_disk();
        match row.head.file() {
            None if live.is_some_and(|(entry, _)| self.is_copied_from(now, path, entry)) => {
                self.wait(now, path, Some(COPY_PATIENCE_NS));
            }
            None if self.copies_loser(now, path, &row) => self.wait(now, path, Some(SECOND)),
            None => self.install(path, &row, Source::Nothing),
            Some((content, size)) => self.advance_file(now, path, &row, content, size),
        }
    }

    /// A user is at it: what the look finds comes first, and tries again.
    pub(super) fn awaits_inspection(&self, path: &SyncPath) -> bool {
        self.settle.is_noisy(path) || self.inspections.contains_key(path) || self.missing.contains(path)
    }

    /// What is about to be replaced must be what the index says: where that is in doubt, a look comes first, and tries again.
    fn needs_inspection_first(&mut self, now: Now, path: &SyncPath, row: &Row) -> bool {
        if self.interrupted_installs.contains(path) {
            if !self.unseen.contains_key(path) {
                let known = row.live_on_disk().map(|(_, stat)| *stat);
                let early = !self.scan.is_walked();
                self.inspect(path, known, Inspection { early, ..Inspection::of(self.scan.finds()) });
            }
            return true;
        }
        let is_overdue = row.live_on_disk().is_some() && self.racy.is_overdue(now.mono, path);
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
            return self.wait(now, path, Some(SECOND));
        }
        if on_disk.is_directory() && self.index.any_on_disk_below(path) {
            if self.holds_below(path) {
                return self.hold_want(path);
            }
            return self.wait(now, path, Some(SECOND));
        }
        if on_disk.is_directory() && self.keeps_special(path, true) {
            return;
        }
        if self.is_renamed_away(path) {
            return self.wait(now, path, Some(SECOND));
        }
        if self.is_copied_from(now, path, on_disk) {
            return self.wait(now, path, Some(COPY_PATIENCE_NS));
        }
        self.install(path, row, Source::Nothing);
    }

    /// Whether the folder of the path is on disk, or on its way there before it. One that may just have been deleted, with all
    /// that is in it, is not.
    fn parent_is_ready(&mut self, path: &SyncPath) -> bool {
        let Some(parent) = path.parent() else { return true };
        if !self.missing.is_empty() && path.ancestors().any(|dir| self.missing.contains(&dir)) {
            return false;
        }
        if self.good_parent.as_ref() == Some(&parent) {
            return true;
        }
        let Some(row) = self.index.get(&parent) else { return false };
        let on_disk = row.live_on_disk().is_some_and(|(entry, _)| entry.is_directory());
        let ready = row.head.is_directory() && (on_disk || self.is_busy(&parent));
        if ready {
            self.good_parent = Some(parent);
        }
        ready
    }

    fn advance_file(&mut self, now: Now, path: &SyncPath, row: &Row, content: ContentId, size: u64) {
        if self.has_loser(path, row) && self.has_content(now, path, content, size) && self.copies_loser(now, path, row)
        {
            return self.wait(now, path, Some(SECOND));
        }
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        if let Some(body) = want.body.take() {
            self.wants.body_bytes -= body.len() as u64;
            return self.install(path, row, Source::Bytes(body));
        }
        if let Some(staged) = want.staged.take() {
            return self.install(path, row, Source::Staged(staged));
        }
        if size == 0 {
            return self.install(path, row, Source::Bytes(Bytes::new()));
        }
        if let Some(source) = self.local_source(now, path, content) {
            return self.install(path, row, source);
        }
        if self.is_leaving(path, content) {
            return self.wait(now, path, Some(SECOND));
        }
        if self.takes_from_history(now, path, row, content, size) {
            return;
        }
        if now.mono < self.wants.full_until {
            let after = self.wants.full_until - now.mono;
            return self.wait(now, path, Some(after));
        }
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.step = Step::Queued;
        }
        if size <= SMALL_FILE_BYTES {
            self.wants.small_queue.push_back(path.clone());
        } else {
            self.wants.large_queue.push_back(path.clone());
        }
    }

    /// Whether what is wanted at a path can be installed now.
    fn has_content(&self, now: Now, path: &SyncPath, content: ContentId, size: u64) -> bool {
        let Some(want) = self.wants.get(path) else { return false };
        let came = size == 0 || want.body.is_some() || want.staged.is_some();
        came || self.local_source(now, path, content).is_some()
    }

    /// Where on this disk the content can be copied from: another file that is not being replaced, or what has just gone to
    /// history, as when the deletion of a renamed file came before the file.
    fn local_source(&self, now: Now, path: &SyncPath, content: ContentId) -> Option<Source> {
        let failed = &self.wants.get(path)?.failed_copies;
        if failed.len() >= COPIES_TRIED {
            return None;
        }
        let holders = self.index.holders(&content).into_iter();
        let live = holders.filter(|holder| holder != path && !self.is_busy(holder)).find_map(|holder| {
            let has_failed = failed.contains(&Holder::Live(holder.clone()));
            let stat = self.stat_of_holder(&holder, content).filter(|_| !has_failed)?;
            Some(Source::Copy { from: holder, stat })
        });
        live.or_else(|| {
            let (kept, stat) = self.moved.kept(now, &content)?;
            let has_failed = failed.contains(&Holder::Kept(kept.to_owned()));
            (!has_failed).then(|| Source::Kept { kept: kept.to_owned(), stat })
        })
    }

    /// Of a file on disk that is known to hold this content.
    fn stat_of_holder(&self, holder: &SyncPath, content: ContentId) -> Option<Stat> {
        let row = self.index.get(holder)?;
        let (entry, stat) = row.live_on_disk()?;
        (entry.file()?.0 == content).then_some(*stat)
    }

    /// Whether a file that holds the content is just being replaced or deleted: it is in history in a moment.
    fn is_leaving(&self, path: &SyncPath, content: ContentId) -> bool {
        let holders = self.index.holders(&content);
        holders
            .iter()
            .any(|holder| holder != path && self.is_busy(holder) && self.stat_of_holder(holder, content).is_some())
    }

    /// Fills the windows from the queues.
    fn ask(&mut self, now: Now) {
        let mut asks: BTreeMap<LinkId, Vec<Ask>> = BTreeMap::new();
        while self.wants.small_files < SMALL_WINDOW_FILES
            && self.wants.small_bytes < SMALL_WINDOW_BYTES
            && self.has_room(SMALL_FILE_BYTES)
            && let Some(path) = self.wants.small_queue.pop_front()
        {
            let Some((link, content, size)) = self.pick_source(now, &path, true) else { continue };
            let id = self.wants.next_id() as u32;
            self.note_asking(now, link);
            self.set_step(&path, Step::Asked(link, id));
            self.wants.asked.insert((link, id), path.clone());
            self.wants.small_files += 1;
            self.wants.small_bytes += size;
            asks.entry(link).or_default().push(Ask { id, path, content, size });
        }
        for (link, wants) in asks {
            for part in wants.chunks(ASKS_A_MESSAGE) {
                self.send(vec![link], Message::Get { wants: part.to_vec() });
            }
        }
        while self.may_fetch_large()
            && let Some(path) = self.wants.large_queue.pop_front()
        {
            let Some((from, content, size)) = self.pick_source(now, &path, false) else { continue };
            let base = self.delta_base(&path, size);
            if base.is_none() && size >= CHUNKED_BYTES {
                self.begin_chunks(now, &path, from, content, size);
                continue;
            }
            let fetch = FetchId(self.wants.next_id() as u32);
            self.set_step(&path, Step::Fetching(fetch));
            let fetching = LargeFetch { path: path.clone(), link: from, began: now.mono };
            self.wants.fetching.insert(fetch, fetching);
            self.act(match base {
                Some(base) => Action::FetchDelta { fetch, from, path, content, size, base },
                None => Action::Fetch { fetch, from, path, content, size },
            });
        }
    }

    /// What a wanted content replaces here, if a delta upon it may be worth asking for.
    fn delta_base(&self, path: &SyncPath, size: u64) -> Option<ServedFile> {
        let is_untried = self.wants.get(path).is_some_and(|want| !want.delta_failed);
        let row = self.index.get(path).filter(|_| is_untried)?;
        let (entry, stat) = row.live_on_disk()?;
        let (content, base_size) = entry.file()?;
        let is_alike = base_size >= DELTA_BYTES && base_size >= size / DELTA_GROWTH;
        is_alike.then(|| ServedFile { path: path.clone(), stat: *stat, content, size: base_size, kept: None })
    }

    pub(super) fn set_step(&mut self, path: &SyncPath, step: Step) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.step = step;
        }
    }

    fn refuse(&mut self, path: &SyncPath, link: LinkId) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.refused.insert(link);
            want.step = Step::Waiting;
        }
        self.wants.make_ready(path);
    }

    pub(super) fn contents_came(&mut self, now: Now, link: LinkId, contents: Vec<(u32, Option<Bytes>)>, wire: u64) {
        self.silence_ends(now, link);
        let total: u64 = contents.iter().filter_map(|(_, body)| body.as_ref()).map(|body| body.len() as u64).sum();
        for (id, body) in contents {
            let Some(path) = self.wants.asked.remove(&(link, id)) else {
                let size = body.as_ref().map_or(0, |body| body.len() as u64);
                self.late_content(link, id, body, share_of(wire, size, total));
                continue;
            };
            let Some(want) = self.wants.by_path.get_mut(&path) else { continue };
            let size = want.content.map_or(0, |(_, size)| size);
            want.step = Step::Waiting;
            self.wants.release_small(size);
            match body {
                Some(body) if body.len() as u64 == size => {
                    self.offer_source(&path, link, Some(body), share_of(wire, size, total));
                }
                _ => self.refuse(&path, link),
            }
        }
    }

    pub(super) fn fetched(&mut self, fetch: FetchId, staged: StageId, wire_bytes: u64) {
        if self.chunks_fetched(fetch, staged) {
            return;
        }
        let Some(LargeFetch { path, link, .. }) = self.wants.fetching.remove(&fetch) else {
            return self.act(Action::Discard(staged));
        };
        let from = self.sessions.get(&link).map(|session| session.name.clone());
        let Some(want) = self.wants.by_path.get_mut(&path) else { return self.act(Action::Discard(staged)) };
        want.staged = Some(staged);
        want.wire_bytes = wire_bytes;
        want.provider = Some(link);
        want.from = from.unwrap_or_default();
        want.step = Step::Waiting;
        self.wants.make_ready(&path);
    }

    pub(super) fn fetch_failed(&mut self, now: Now, fetch: FetchId, why: FetchError) {
        if self.chunks_failed(now, fetch, &why) {
            return;
        }
        let Some(LargeFetch { path, link, .. }) = self.wants.fetching.remove(&fetch) else { return };
        match why {
            FetchError::Staging(trouble) => self.install_failed(now, &path, trouble),
            FetchError::NoDelta => {
                if let Some(want) = self.wants.by_path.get_mut(&path) {
                    want.delta_failed = true;
                    want.step = Step::Waiting;
                }
                self.wants.make_ready(&path);
            }
            FetchError::NotHere | FetchError::LinkLost | FetchError::Corrupt => {
                self.refuse(&path, link);
            }
        }
    }

    /// A link ended: what was asked of it is asked elsewhere. (Fetches end by their own event.)
    pub(super) fn forget_source(&mut self, link: LinkId) {
        let from = (link, 0);
        let asked: Vec<_> = self.wants.asked.range(from..=(link, u32::MAX)).map(|(_, path)| path.clone()).collect();
        for path in asked {
            self.stop_asking(&path);
            self.wants.make_ready(&path);
        }
        self.forget_silence(link);
        self.drop_chunk_source(link);
        for want in self.wants.by_path.values_mut() {
            want.sources.retain(|source| *source != link);
            want.refused.remove(&link);
        }
    }
}
