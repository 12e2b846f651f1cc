//! Whom to ask, and peers whose disk hangs while their link lives: what was asked of those leaves
//! the windows to others.
//!
//! A peer that was asked for small contents and sent none for a while is silent. What it was asked
//! for counts in no window any more, and others who may have it are asked. The silent peer is asked
//! for nothing else; what it sends after all is taken. So a disk that is only slow costs at most
//! what was asked of others, and each time it is waited for twice as long as it took. Large
//! contents that do not get on leave their window likewise, a few a peer. A want that only such
//! peers could serve is parked, and tried when one of them moves. Deliberately not here: chunks of
//! one content (`swarm.rs` asks others by itself).

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::Index;
use crate::engine::core::Core;
use crate::engine::limits::{LARGE_PATIENCE_NS, LARGE_WINDOW, SMALL_WINDOW_FILES};
use crate::engine::transfer::Transfer;
use crate::engine::transfer::wants::Silence;
use crate::engine::transfer::wants::{KeptHere, Step, Want};
use crate::model::{ContentId, SyncPath};
use crate::wire::message::SMALL_FILE_BYTES;
use bytes::Bytes;

/// Whether nothing has become of a want since it was asked for.
fn is_idle(want: &Want) -> bool {
    matches!(want.step, Step::Waiting | Step::Ready | Step::Queued)
        && want.received.body.is_none()
        && want.received.staged.is_none()
}

impl Transfer {
    fn has_asked(&self, link: LinkId) -> bool {
        self.wants.asked.range((link, 0)..=(link, u32::MAX)).next().is_some()
    }

    /// Before something is asked of a peer.
    pub(super) fn note_asking(&mut self, now: Now, link: LinkId) {
        let is_first = !self.has_asked(link);
        self.wants.silences.asked(now.mono, link, is_first);
    }

    /// Large contents that are asked of a peer.
    fn large_of(&self, link: LinkId) -> usize {
        let whole = self.wants.fetching.values().filter(|fetching| fetching.link == link).count();
        whole + self.swarms_of(link)
    }

    /// Whether the peer may be asked for one more content.
    fn may_ask(&self, link: LinkId, small: bool) -> bool {
        if small { !self.wants.silences.is_silent(link) } else { self.large_of(link) < LARGE_WINDOW }
    }

    pub(super) fn may_fetch_large<I: Index>(&self, core: &Core<I>) -> bool {
        let mono = core.last_event.mono;
        let due = self.wants.fetching.values().map(|fetching| fetching.began).chain(self.swarms_moved(core));
        due.filter(|moved| mono < moved + LARGE_PATIENCE_NS).count() < LARGE_WINDOW
    }

    /// When something may be asked for, or is due from a peer.
    pub(in crate::engine) fn next_fetch<I: Index>(&self, core: &Core<I>) -> Option<u64> {
        [self.wants.next_retry(), self.next_silence(core), self.swarms.due()].into_iter().flatten().min()
    }

    /// When `follow_silences` may find something.
    fn next_silence<I: Index>(&self, core: &Core<I>) -> Option<u64> {
        let waits = |(link, silence): (&LinkId, &Silence)| {
            (!silence.is_silent && self.has_asked(*link)).then_some(silence.since + silence.patience_ns)
        };
        let small = self.wants.silences.by_link.iter().filter_map(waits).min();
        let large = (!self.wants.queues.large.is_empty()).then(|| {
            let moved = self.wants.fetching.values().map(|fetching| fetching.began).chain(self.swarms_moved(core));
            moved.map(|moved| moved + LARGE_PATIENCE_NS).filter(|due| *due > core.last_event.mono).min()
        });
        small.into_iter().chain(large.flatten()).min()
    }

    /// A peer sends contents. After a silence the rest of what it was asked for is on its way, too.
    pub(super) fn silence_ends(&mut self, now: Now, link: LinkId) {
        if !self.wants.silences.ends_with(now.mono, link) {
            return;
        }
        for id in self.wants.silences.late_of(link) {
            let Some((path, content)) = self.wants.silences.late.get(&(link, id)) else { continue };
            let Some(want) = self.wants.by_path.get_mut(path).filter(|want| is_idle(want)) else { continue };
            let Some((_, size)) = want.content.filter(|(wanted, _)| wanted == content) else { continue };
            want.step = Step::Asked(link, id);
            self.wants.asked.insert((link, id), path.clone());
            self.wants.window.small_files += 1;
            self.wants.window.small_bytes += size;
            self.wants.silences.late.remove(&(link, id));
        }
        self.unpark_small(link);
    }

    fn unpark_small(&mut self, link: LinkId) {
        for path in self.wants.silences.parked_small.remove(&link).unwrap_or_default() {
            self.wants.make_ready(&path);
        }
    }

    /// The link ended.
    pub(super) fn forget_silence(&mut self, link: LinkId) {
        let silences = &mut self.wants.silences;
        silences.by_link.remove(&link);
        for id in silences.late_of(link) {
            silences.late.remove(&(link, id));
        }
        for path in silences.parked_large.remove(&link).unwrap_or_default() {
            self.wants.make_ready(&path);
        }
        self.unpark_small(link);
    }
}

impl<I: Index> Engine<I> {
    /// The peer to ask: the one that told last, else any that has not refused; but none whose disk
    /// seems to hang while there is another. With none, the want waits.
    pub(super) fn pick_source(&mut self, now: Now, path: &SyncPath, small: bool) -> Option<(LinkId, ContentId, u64)> {
        let want = self.transfer.wants.get(path).filter(|want| want.step == Step::Queued)?;
        let (content, size) = want.content?;
        if (size <= SMALL_FILE_BYTES) != small {
            return None; // queued when its winner was another; it is in the other queue too
        }
        let candidates: Vec<_> = want.sources.iter().rev().copied().chain(self.peers.links()).collect();
        let might = |link: &LinkId| self.peers.is_linked(*link) && !want.refused.contains(link);
        let speaks =
            |link: &LinkId| self.transfer.may_ask(*link, small) && !self.transfer.wants.silences.is_silent(*link);
        let link = candidates.iter().copied().filter(might).find(speaks);
        let link =
            link.or_else(|| candidates.iter().copied().filter(might).find(|link| self.transfer.may_ask(*link, small)));
        let parked = if link.is_none() { candidates.iter().copied().find(might) } else { None };
        if let Some(silent) = parked {
            self.transfer.wants.silences.park(silent, path, small);
            self.transfer.wait(now, path, None);
            return None;
        }
        let Some(link) = link else {
            let want = self.transfer.wants.by_path.get_mut(path)?;
            want.refused.clear();
            if want.kept == KeptHere::AtLast {
                want.kept = KeptHere::Perhaps;
                want.step = Step::Waiting;
                self.transfer.wants.make_ready(path);
                return None;
            }
            if self.peers.is_alone() {
                want.attempts.stuck = true;
                self.transfer.wait(now, path, None);
            } else {
                self.transfer.back_off(&self.core, now, path);
                self.nobody_has(path);
            }
            return None;
        };
        Some((link, content, size))
    }

    /// Once a group of events, before wants move.
    pub(super) fn follow_silences(&mut self, now: Now) {
        let is_due = |silence: &Silence| !silence.is_silent && now.mono >= silence.since + silence.patience_ns;
        let due: Vec<_> =
            self.transfer.wants.silences.by_link.iter().filter(|(_, it)| is_due(it)).map(|(link, _)| *link).collect();
        for link in due.into_iter().filter(|link| self.transfer.has_asked(*link)).collect::<Vec<_>>() {
            self.falls_silent(link);
        }
        let parked: Vec<_> = self.transfer.wants.silences.parked_large.keys().copied().collect();
        for link in parked {
            let room = LARGE_WINDOW.saturating_sub(self.transfer.large_of(link));
            let paths = self.transfer.wants.silences.parked_large.entry(link).or_default();
            let next: Vec<_> = (0..room).map_while(|_| paths.pop_first()).collect();
            if paths.is_empty() {
                self.transfer.wants.silences.parked_large.remove(&link);
            }
            for path in next {
                self.transfer.wants.make_ready(&path);
            }
        }
    }

    fn falls_silent(&mut self, link: LinkId) {
        if let Some(silence) = self.transfer.wants.silences.by_link.get_mut(&link) {
            silence.is_silent = true;
        }
        let asked: Vec<_> = self
            .transfer
            .wants
            .asked
            .range((link, 0)..=(link, u32::MAX))
            .map(|(id, path)| (*id, path.clone()))
            .collect();
        let peer = self.peers.name_of_link(link).unwrap_or_default();
        self.core.out.push(Action::Report(Report::Silent { peer, contents: asked.len() as u64 }));
        for (id, path) in asked {
            self.transfer.wants.asked.remove(&id);
            let Some(want) = self.transfer.wants.by_path.get_mut(&path) else { continue };
            let Some((content, size)) = want.content else { continue };
            want.step = Step::Waiting;
            self.transfer.wants.release_small(size);
            self.transfer.wants.silences.late.insert(id, (path.clone(), content));
            self.transfer.wants.make_ready(&path);
        }
        // What was asked before an earlier silence, and of others since, may never come (P9).
        let late = self.transfer.wants.silences.late_of(link);
        for id in late.iter().take(late.len().saturating_sub(SMALL_WINDOW_FILES)) {
            self.transfer.wants.silences.late.remove(&(link, *id));
        }
    }

    /// A content came of which nobody waited for this peer any more: taken where it is still
    /// wanted.
    pub(super) fn late_content(&mut self, link: LinkId, id: u32, body: Option<Bytes>, wire: u64) {
        let Some((path, content)) = self.transfer.wants.silences.late.remove(&(link, id)) else { return };
        let Some(want) = self.transfer.wants.by_path.get_mut(&path) else { return };
        let Some((_, size)) = want.content.filter(|(wanted, _)| *wanted == content) else { return };
        let is_asked =
            matches!(want.step, Step::Asked(..)) && want.received.body.is_none() && want.received.staged.is_none();
        match body {
            Some(body) if body.len() as u64 == size && (is_asked || is_idle(want)) => {
                if is_asked {
                    self.transfer.stop_asking(&mut self.core, &path);
                }
                self.offer_source(&path, link, Some(body), wire);
            }
            Some(_) => {}
            None => {
                want.refused.insert(link);
            }
        }
    }
}
