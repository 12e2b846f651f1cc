//! What is wanted, from whom, and its way onto the disk.
//!
//! A path whose winner is not on disk is *wanted*. `advance` moves one want a step: wait for what
//! must come first, take the content from this disk if it is here, else ask a peer, then install.
//! Windows bound what is under way (P9).

use crate::engine::Engine;
use crate::engine::api::action::{Action, ServedFile};
use crate::engine::api::event::{FetchError, FetchId, LinkId, Now, StageId};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{
    ASKS_A_MESSAGE, BODIES_BYTES, CHUNKED_BYTES, DELTA_BYTES, DELTA_GROWTH, JOBS, SECOND, SMALL_WINDOW_BYTES,
    SMALL_WINDOW_FILES,
};
use crate::engine::transfer::Transfer;
use crate::engine::transfer::wants::{Attempts, KeptHere, LargeFetch, Received, Step, Want};
use crate::model::{DeviceId, SyncPath};
use crate::wire::message::{Message, SMALL_FILE_BYTES, WantedContent as Ask};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// So that machines which wait for the same do not all come at once: of 256, by machine, path and
/// try.
fn jitter(device: &DeviceId, path: &SyncPath, tries: u32) -> u64 {
    let bytes = device.0.iter().chain(path.as_bytes()).copied().chain(tries.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) >> 56
}

/// What so many of `total` bytes took of what a message took on the wire.
fn share_of(wire: u64, bytes: u64, total: u64) -> u64 {
    (u128::from(wire) * u128::from(bytes) / u128::from(total.max(1))) as u64
}

impl Transfer {
    /// Whether the path is being installed: then it is not inspected (echo).
    pub(in crate::engine) fn is_busy(&self, path: &SyncPath) -> bool {
        matches!(self.wants.get(path), Some(Want { step: Step::Installing(_), .. }))
    }

    pub(in crate::engine) fn begin_want(&mut self, now: Now, path: &SyncPath) {
        if !self.wants.by_path.contains_key(path) {
            let want = Want {
                step: Step::Ready,
                content: None,
                sources: Vec::new(),
                refused: BTreeSet::new(),
                received: Received::default(),
                attempts: Attempts::default(),
                since: now.mono,
                relayed_to: None,
                owes_ack: None,
                kept: KeptHere::No,
            };
            self.wants.by_path.insert(path.clone(), Box::new(want));
        }
    }

    /// The winner moved on: what was on its way for the old one is of no use.
    fn drop_content<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) {
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        want.attempts.failed_copies.clear();
        want.attempts.delta_failed = false;
        want.sources.clear();
        want.refused.clear();
        want.attempts.stuck = false;
        let staged = want.received.staged.take();
        self.wants.drop_body(path);
        if let Some(staged) = staged {
            core.act(Action::Discard(staged));
        }
        self.close_staged(core, path);
        self.stop_asking(core, path);
    }

    pub(super) fn stop_asking<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) {
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
                if !self.cancel_chunks(core, fetch) {
                    core.act(Action::CancelFetch { fetch });
                }
            }
            _ => {}
        }
    }

    /// Something about the path changed: try again at once.
    pub(in crate::engine) fn retry_now(&mut self, path: &SyncPath) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.attempts.stuck = false;
        }
        self.wants.make_ready(path);
    }

    pub(in crate::engine) fn retry_all(&mut self) {
        let paths: Vec<_> = self.wants.by_path.keys().cloned().collect();
        for path in paths {
            self.wants.make_ready(&path);
        }
    }

    /// For one more small content. What is asked for holds its room until it comes.
    fn has_room(&self, size: u64) -> bool {
        self.wants.window.body_bytes + self.wants.window.small_bytes + size <= BODIES_BYTES
    }

    pub(in crate::engine) fn pass_on(&mut self, path: &SyncPath, relayed_to: Vec<DeviceId>) {
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.relayed_to = Some(relayed_to);
        }
    }

    pub(in crate::engine) fn wait(&mut self, now: Now, path: &SyncPath, retry_ns: Option<u64>) {
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        want.step = Step::Waiting;
        if let Some(after) = retry_ns {
            self.wants.queues.retries.insert((now.mono + after, path.clone()));
        }
    }

    /// Waits for a person, for days maybe: what came along makes room for what does not wait (P9),
    /// and is asked for again then.
    pub(in crate::engine) fn hold_want(&mut self, path: &SyncPath) {
        self.wants.drop_body(path);
        if let Some(want) = self.wants.by_path.get_mut(path) {
            want.step = Step::Waiting;
            want.attempts.stuck = true;
        }
    }

    /// Waits longer each time, up to half a minute.
    pub(super) fn back_off<I: Index>(&mut self, core: &Core<I>, now: Now, path: &SyncPath) {
        self.back_off_up_to(core, now, path, 30 * SECOND);
    }

    pub(super) fn back_off_up_to<I: Index>(&mut self, core: &Core<I>, now: Now, path: &SyncPath, most_ns: u64) {
        let Some(want) = self.wants.by_path.get_mut(path) else { return };
        want.attempts.tries = want.attempts.tries.saturating_add(1);
        want.attempts.stuck = want.attempts.tries > 3;
        let after = ((SECOND << want.attempts.tries.min(16)) / 2).min(most_ns);
        let jitter = after / 4 * jitter(&core.config.device, path, want.attempts.tries) / 256;
        self.wait(now, path, Some(after + jitter));
    }

    /// What a wanted content replaces here, if a delta upon it may be worth asking for.
    fn delta_base<I: Index>(&self, core: &Core<I>, path: &SyncPath, size: u64) -> Option<ServedFile> {
        let is_untried = self.wants.get(path).is_some_and(|want| !want.attempts.delta_failed);
        let row = core.index.get(path).filter(|_| is_untried)?;
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

    /// A link ended: what was asked of it is asked elsewhere. (Fetches end by their own event.)
    pub(in crate::engine) fn forget_source<I: Index>(&mut self, core: &mut Core<I>, link: LinkId) {
        let from = (link, 0);
        let asked: Vec<_> = self.wants.asked.range(from..=(link, u32::MAX)).map(|(_, path)| path.clone()).collect();
        for path in asked {
            self.stop_asking(core, &path);
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

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn want(&mut self, now: Now, path: &SyncPath, row: &Row) {
        self.transfer.begin_want(now, path);
        if row.head.is_live() {
            self.observe.keeps_no_more(&mut self.core, path);
        }
        self.safety.note_loss(&mut self.core, now, path, row);
        let content = row.head.file();
        if self.transfer.wants.by_path.get(path).is_some_and(|want| want.content != content) {
            self.transfer.drop_content(&mut self.core, path);
            let kept = self.may_be_kept(path, row);
            if let Some(want) = self.transfer.wants.by_path.get_mut(path) {
                want.kept = kept;
            }
        }
        self.transfer.wants.set_content(path, content);
        self.transfer.wants.make_ready(path);
    }

    /// The path needs nothing more.
    pub(in crate::engine) fn unwant(&mut self, path: &SyncPath) {
        if !self.transfer.wants.by_path.contains_key(path) {
            return;
        }
        self.safety.note_settled(path);
        self.observe.keeps_no_more(&mut self.core, path);
        self.transfer.drop_content(&mut self.core, path);
        if !self.observe.could_not_see(path) {
            // Whatever its install ran into.
            self.observe.solve(&mut self.core, path);
        }
        let content = self.transfer.wants.get(path).and_then(|want| want.content);
        self.transfer.wants.set_content(path, None);
        let owes_ack = self.transfer.wants.by_path.remove(path).and_then(|want| want.owes_ack);
        if let Some((link, counter)) = owes_ack {
            self.peers.acknowledge(&self.core, path, link, counter);
        }
        self.transfer.wants.queues.ready.remove(path);
        // A deletion may have waited for this to be copied from it.
        if let Some((content, _)) = content
            && self.transfer.wants.copied_from.remove(&content)
        {
            for holder in self.core.index.holders(&content) {
                self.transfer.wants.make_ready(&holder);
            }
        }
    }

    /// Loads what an earlier run left unsettled.
    pub(in crate::engine) fn want_unsettled(&mut self, now: Now) {
        self.transfer.wants.loading = true;
        self.load_unsettled(now);
        self.transfer.wants.loading = false;
    }

    fn load_unsettled(&mut self, now: Now) {
        let mut after = None;
        loop {
            let page = self.core.index.unsettled(after.as_ref(), 1024);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for path in page {
                if let Some(row) = self.core.index.get(&path) {
                    self.check_parent(now, &path, &row.head);
                    self.check_children(now, &path, &row.head);
                    if self.core.wants(&row) {
                        self.want(now, &path, &row);
                    }
                }
            }
        }
    }

    /// Notes who has a wanted content, and takes a body that came along, if there is room for it.
    pub(in crate::engine) fn offer_source(
        &mut self,
        path: &SyncPath,
        link: LinkId,
        body: Option<Bytes>,
        wire_bytes: u64,
    ) {
        let has_room = body.as_ref().is_some_and(|body| self.transfer.has_room(body.len() as u64));
        let Some(want) = self.transfer.wants.by_path.get_mut(path) else { return };
        want.sources.retain(|known| *known != link);
        want.sources.push(link);
        want.refused.remove(&link);
        let Some((_, size)) = want.content else { return };
        if let Some(body) = body
            && want.received.body.is_none()
            && body.len() as u64 == size
            && has_room
        {
            self.transfer.wants.window.body_bytes += size;
            want.received.wire_bytes = wire_bytes;
            want.received.provider = Some(link);
            want.received.from = self.peers.name_of_link(link).unwrap_or_default();
            want.received.body = Some(body);
        }
        want.attempts.stuck = false;
        self.transfer.wants.make_ready(path);
    }

    /// Moves every want that can move. Called once a group of events.
    pub(in crate::engine) fn pump_wants(&mut self, now: Now) {
        while let Some((at, _)) = self.transfer.wants.queues.retries.first()
            && *at <= now.mono
            && let Some((_, path)) = self.transfer.wants.queues.retries.pop_first()
        {
            self.transfer.wants.make_ready(&path);
        }
        if self.is_stopped() {
            return;
        }
        self.follow_silences(now);
        self.transfer.good_parent = None;
        // In path order, so that folders come before what is in them.
        let mut ready = if self.transfer.wants.has_ready() {
            std::mem::take(&mut self.transfer.wants.queues.ready)
        } else {
            BTreeSet::new()
        };
        while self.transfer.wants.jobs.len() < JOBS
            && let Some(path) = ready.pop_first()
        {
            if matches!(self.transfer.wants.get(&path), Some(Want { step: Step::Ready, .. })) {
                self.advance(now, &path);
            }
        }
        self.transfer.wants.put_back(ready);
        if !self.transfer.wants.to_find.is_empty() {
            let sought = std::mem::take(&mut self.transfer.wants.to_find);
            self.core.act(Action::FindKept(sought));
        }
        self.ask(now);
    }

    /// Fills the windows from the queues.
    fn ask(&mut self, now: Now) {
        let mut asks: BTreeMap<LinkId, Vec<Ask>> = BTreeMap::new();
        while self.transfer.wants.window.small_files < SMALL_WINDOW_FILES
            && self.transfer.wants.window.small_bytes < SMALL_WINDOW_BYTES
            && self.transfer.has_room(SMALL_FILE_BYTES)
            && let Some(path) = self.transfer.wants.queues.small.pop_front()
        {
            let Some((link, content, size)) = self.pick_source(now, &path, true) else { continue };
            let id = self.transfer.wants.next_id() as u32;
            self.transfer.note_asking(now, link);
            self.transfer.set_step(&path, Step::Asked(link, id));
            self.transfer.wants.asked.insert((link, id), path.clone());
            self.transfer.wants.window.small_files += 1;
            self.transfer.wants.window.small_bytes += size;
            asks.entry(link).or_default().push(Ask { id, path, content, size });
        }
        for (link, wants) in asks {
            for part in wants.chunks(ASKS_A_MESSAGE) {
                self.peers.send(&mut self.core, vec![link], Message::Get { wants: part.to_vec() });
            }
        }
        while self.transfer.may_fetch_large(&self.core)
            && let Some(path) = self.transfer.wants.queues.large.pop_front()
        {
            let Some((from, content, size)) = self.pick_source(now, &path, false) else { continue };
            let base = self.transfer.delta_base(&self.core, &path, size);
            if base.is_none() && size >= CHUNKED_BYTES {
                self.begin_chunks(now, &path, from, content, size);
                continue;
            }
            let fetch = FetchId(self.transfer.wants.next_id() as u32);
            self.transfer.set_step(&path, Step::Fetching(fetch));
            let fetching = LargeFetch { path: path.clone(), link: from, began: now.mono };
            self.transfer.wants.fetching.insert(fetch, fetching);
            self.core.act(match base {
                Some(base) => Action::FetchDelta { fetch, from, path, content, size, base },
                None => Action::Fetch { fetch, from, path, content, size },
            });
        }
    }

    pub(in crate::engine) fn contents_came(
        &mut self,
        now: Now,
        link: LinkId,
        contents: Vec<(u32, Option<Bytes>)>,
        wire: u64,
    ) {
        self.transfer.silence_ends(now, link);
        let total: u64 = contents.iter().filter_map(|(_, body)| body.as_ref()).map(|body| body.len() as u64).sum();
        for (id, body) in contents {
            let Some(path) = self.transfer.wants.asked.remove(&(link, id)) else {
                let size = body.as_ref().map_or(0, |body| body.len() as u64);
                self.late_content(link, id, body, share_of(wire, size, total));
                continue;
            };
            let Some(want) = self.transfer.wants.by_path.get_mut(&path) else { continue };
            let size = want.content.map_or(0, |(_, size)| size);
            want.step = Step::Waiting;
            self.transfer.wants.release_small(size);
            match body {
                Some(body) if body.len() as u64 == size => {
                    self.offer_source(&path, link, Some(body), share_of(wire, size, total));
                }
                _ => self.transfer.refuse(&path, link),
            }
        }
    }

    pub(in crate::engine) fn fetched(&mut self, fetch: FetchId, staged: StageId, wire_bytes: u64) {
        if self.chunks_fetched(fetch, staged) {
            return;
        }
        let Some(LargeFetch { path, link, .. }) = self.transfer.wants.fetching.remove(&fetch) else {
            return self.core.act(Action::Discard(staged));
        };
        let from = self.peers.name_of_link(link);
        let Some(want) = self.transfer.wants.by_path.get_mut(&path) else {
            return self.core.act(Action::Discard(staged));
        };
        want.received.staged = Some(staged);
        want.received.wire_bytes = wire_bytes;
        want.received.provider = Some(link);
        want.received.from = from.unwrap_or_default();
        want.step = Step::Waiting;
        self.transfer.wants.make_ready(&path);
    }

    pub(in crate::engine) fn fetch_failed(&mut self, now: Now, fetch: FetchId, why: FetchError) {
        if self.chunks_failed(now, fetch, &why) {
            return;
        }
        let Some(LargeFetch { path, link, .. }) = self.transfer.wants.fetching.remove(&fetch) else { return };
        match why {
            FetchError::Staging(trouble) => self.install_failed(now, &path, trouble),
            FetchError::NoDelta => {
                if let Some(want) = self.transfer.wants.by_path.get_mut(&path) {
                    want.attempts.delta_failed = true;
                    want.step = Step::Waiting;
                }
                self.transfer.wants.make_ready(&path);
            }
            FetchError::NotHere | FetchError::LinkLost | FetchError::Corrupt => {
                self.transfer.refuse(&path, link);
            }
        }
    }
}
