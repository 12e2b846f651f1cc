//! Contents of several MiB, fetched in chunks from all who hold them, and served while they are
//! still on their way.
//!
//! Here events reach a `Swarm` (`swarm.rs`, which decides) and what it decides becomes actions;
//! here too peers are told which chunks are here. Every peer is told what is sought; of those that
//! tell what they hold, each is told what comes to be held here. May import `model` and `wire`.
//! Deliberately not here: which chunk is asked of whom, bytes.

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{FetchError, FetchId, LinkId, Now, RangeId, StageId};
use crate::engine::api::index::Index;
use crate::engine::api::status::TransferStatus;
use crate::engine::core::Core;
use crate::engine::limits::{CHUNKED_BYTES, LONG_TRANSFER_NS, PACE_SECONDS, SECOND};
use crate::engine::transfer::Transfer;
use crate::engine::transfer::swarm::Swarm;
use crate::engine::transfer::wants::Step;
use crate::model::chunks::runs;
use crate::model::{Chunks, ContentId, SyncPath};
use crate::wire::message::Message;
use crate::wire::packet::Part;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Fetching,
    Finishing,
}

struct SwarmFetch {
    path: SyncPath,
    content: ContentId,
    /// Whom it was first asked of.
    from: LinkId,
    swarm: Swarm,
    phase: Phase,
    list: Option<(RangeId, LinkId)>,
    wire_bytes: u64,
    began: u64,
    is_long: bool,
    pace: Throughput,
}

/// What was here when, about once a second.
#[derive(Default)]
struct Throughput(VecDeque<(u64, u64)>);

impl Throughput {
    fn note(&mut self, now: u64, bytes: u64) {
        if self.0.back().is_none_or(|(at, _)| at + SECOND <= now) {
            self.0.push_back((now, bytes));
            if self.0.len() > PACE_SECONDS + 1 {
                self.0.pop_front();
            }
        }
    }

    /// Bytes a second.
    fn rate(&self, now: u64, bytes: u64) -> u64 {
        let Some((at, before)) = self.0.front() else { return 0 };
        let took = now.saturating_sub(*at).max(1);
        (u128::from(bytes.saturating_sub(*before)) * u128::from(SECOND) / u128::from(took)) as u64
    }
}

/// All that come in chunks.
#[derive(Default)]
pub(in crate::engine) struct Swarms {
    by_fetch: BTreeMap<FetchId, SwarmFetch>,
    ranges: BTreeMap<RangeId, FetchId>,
    /// Here whole, and still to be installed: served from staging until then.
    pub staged: BTreeMap<SyncPath, ContentId>,
    /// Begun, and left for another try.
    kept: BTreeMap<SyncPath, ContentId>,
    /// Verified, and still to be told.
    news: BTreeMap<ContentId, Vec<u32>>,
    stirred: bool,
}

impl Swarms {
    fn of(&mut self, content: &ContentId) -> Option<&mut SwarmFetch> {
        self.by_fetch.values_mut().find(|fetching| fetching.content == *content)
    }

    fn holds(&self, content: &ContentId) -> bool {
        self.staged.values().chain(self.by_fetch.values().map(|fetching| &fetching.content)).any(|held| held == content)
    }

    pub fn due(&self) -> Option<u64> {
        if self.stirred || !self.news.is_empty() {
            return Some(0);
        }
        let due = |fetching: &SwarmFetch| {
            let long = (!fetching.is_long).then_some(fetching.began + LONG_TRANSFER_NS);
            [fetching.swarm.due(), long].into_iter().flatten().min()
        };
        self.by_fetch.values().filter(|fetching| fetching.phase == Phase::Fetching).filter_map(due).min()
    }
}

impl Transfer {
    pub(in crate::engine) fn partial_opened(&mut self, now: Now, fetch: FetchId, here: &[(u32, u32)], listed: bool) {
        let Some(fetching) = self.swarms.by_fetch.get_mut(&fetch) else { return };
        fetching.swarm.resume(now.mono, here);
        fetching.swarm.listed = listed;
        if listed {
            let here = fetching.swarm.here().iter().collect();
            self.swarms.news.insert(fetching.content, here);
        }
        fetching.phase = Phase::Fetching;
        self.swarms.stirred = true;
    }

    /// Stops, and says whether what came is to be kept for another try.
    fn end_chunks<I: Index>(&mut self, core: &mut Core<I>, fetch: FetchId, keep: bool) -> Option<SwarmFetch> {
        let fetching = self.swarms.by_fetch.remove(&fetch)?;
        self.cancel_ranges(core, &fetching);
        self.swarms.news.remove(&fetching.content);
        if keep {
            self.swarms.kept.insert(fetching.path.clone(), fetching.content);
        }
        core.act(Action::ClosePartial { content: fetching.content, keep });
        Some(fetching)
    }

    fn cancel_ranges<I: Index>(&mut self, core: &mut Core<I>, fetching: &SwarmFetch) {
        for range in fetching.swarm.ranges().chain(fetching.list.map(|(range, _)| range)) {
            self.swarms.ranges.remove(&range);
            core.act(Action::CancelPart { range });
        }
    }

    /// The winner moved on. Whether it was fetched in chunks.
    pub(super) fn cancel_chunks<I: Index>(&mut self, core: &mut Core<I>, fetch: FetchId) -> bool {
        self.end_chunks(core, fetch, false).is_some()
    }

    /// The content is in its place, or not wanted any more, or was discarded.
    pub(super) fn close_staged<I: Index>(&mut self, core: &mut Core<I>, path: &SyncPath) {
        let kept = self.swarms.kept.remove(path);
        for content in self.swarms.staged.remove(path).into_iter().chain(kept) {
            core.act(Action::ClosePartial { content, keep: false });
        }
    }

    // What comes.

    pub(in crate::engine) fn chunk_came(&mut self, now: Now, range: RangeId, chunk: u32, wire_bytes: u64) {
        let Some(fetching) = self.swarms.ranges.get(&range).and_then(|fetch| self.swarms.by_fetch.get_mut(fetch))
        else {
            return;
        };
        fetching.wire_bytes += wire_bytes;
        if fetching.swarm.came(now.mono, range, chunk) && fetching.swarm.listed {
            self.swarms.news.entry(fetching.content).or_default().push(chunk);
        }
        fetching.pace.note(now.mono, fetching.swarm.bytes_here());
        self.swarms.stirred = true;
    }

    /// A content that is staged for another path, and was refused there or waits for a person,
    /// serves this one.
    fn takes_over(&mut self, path: &SyncPath, content: &ContentId) -> bool {
        let mut holders = self.swarms.staged.iter().filter(|(_, held)| *held == content).map(|(holder, _)| holder);
        let is_refused = |holder: &&SyncPath| {
            self.wants.get(holder).is_some_and(|want| {
                (want.attempts.tries > 0 || want.attempts.stuck)
                    && want.step == Step::Waiting
                    && want.received.staged.is_some()
            })
        };
        let Some(holder) = holders.find(is_refused).cloned() else { return false };
        let staged = self.wants.by_path.get_mut(&holder).and_then(|want| want.received.staged.take());
        let Some(want) = self.wants.by_path.get_mut(path) else { return false };
        want.received.staged = staged;
        want.step = Step::Waiting;
        self.wants.make_ready(path);
        self.swarms.staged.remove(&holder);
        self.swarms.staged.insert(path.clone(), *content);
        true
    }

    /// Nobody who is linked has more of it: what came is kept, and others may have their turn.
    fn starve<I: Index>(&mut self, core: &mut Core<I>, now: Now, fetch: FetchId) {
        if let Some(SwarmFetch { path, wire_bytes, .. }) = self.end_chunks(core, fetch, true) {
            if let Some(want) = self.wants.by_path.get_mut(&path) {
                // Who sent something wrong may be the only one who has it, and be right by then.
                want.refused.clear();
                // If it gets on, however slowly, it is not waited for longer each time.
                want.attempts.tries = if wire_bytes > 0 { 0 } else { want.attempts.tries };
            }
            self.back_off(core, now, &path);
        }
    }

    fn ask_for_list<I: Index>(&mut self, core: &mut Core<I>, fetch: FetchId) {
        let Some(fetching) = self.swarms.by_fetch.get_mut(&fetch) else { return };
        if fetching.swarm.listed || fetching.list.is_some() || fetching.swarm.chunks().count() < 2 {
            return;
        }
        let Some(from) = fetching.swarm.list_source() else { return };
        let range = RangeId(self.wants.next_id() as u32);
        fetching.list = Some((range, from));
        self.swarms.ranges.insert(range, fetch);
        let (path, content, size) = (fetching.path.clone(), fetching.content, fetching.swarm.chunks().size());
        core.act(Action::FetchPart { range, from, path, content, size, part: Part::List });
    }

    fn ask_for_chunks<I: Index>(&mut self, core: &mut Core<I>, now: Now, fetch: FetchId) {
        let Some(fetching) = self.swarms.by_fetch.get_mut(&fetch) else { return };
        while let Some(ask) = fetching.swarm.next() {
            let range = RangeId(self.wants.next_id() as u32);
            fetching.swarm.asking(now.mono, range, ask);
            self.swarms.ranges.insert(range, fetch);
            core.out.push(Action::FetchPart {
                range,
                from: ask.from,
                path: fetching.path.clone(),
                content: fetching.content,
                size: fetching.swarm.chunks().size(),
                part: Part::Chunks { first: ask.first, count: ask.count },
            });
        }
    }

    pub(super) fn drop_chunk_source(&mut self, link: LinkId) {
        for fetching in self.swarms.by_fetch.values_mut() {
            fetching.swarm.drop_source(link);
            self.swarms.stirred = true;
        }
    }

    pub(in crate::engine) fn have_came<I: Index>(
        &mut self,
        core: &mut Core<I>,
        now: Now,
        link: LinkId,
        content: ContentId,
        chunks: &[(u32, u32)],
    ) {
        let Some(fetching) = self.swarms.of(&content) else { return };
        if let Err(why) = fetching.swarm.has(now.mono, link, chunks) {
            return core.act(Action::Close { link, why: why.to_owned() });
        }
        self.swarms.stirred = true;
    }

    /// A peer asks for what is not in the folder: perhaps it is on its way here.
    pub(in crate::engine) fn serve_partial<I: Index>(
        &self,
        core: &mut Core<I>,
        to: LinkId,
        stream: FetchId,
        content: ContentId,
    ) {
        if self.swarms.holds(&content) {
            core.act(Action::ServePartial { to, stream, content });
        } else {
            core.act(Action::Serve { to, stream, file: None });
        }
    }

    /// Files that wait for their turn, and their bytes.
    pub(in crate::engine) fn queued(&self) -> (u64, u64) {
        let queued = self.wants.iter().filter(|(_, want)| want.step == Step::Queued);
        let sizes = queued.filter_map(|(_, want)| want.content.map(|(_, size)| size));
        sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes.saturating_add(size)))
    }

    /// Contents that were begun to be fetched from a peer, though others may bring more of them.
    pub(super) fn swarms_of(&self, link: LinkId) -> usize {
        self.swarms.by_fetch.values().filter(|fetching| fetching.from == link).count()
    }

    /// When each of those under way got on last. What is this machine's own work does so all the
    /// time.
    pub(super) fn swarms_moved<I: Index>(&self, core: &Core<I>) -> impl Iterator<Item = u64> {
        let moved = |fetching: &SwarmFetch| match fetching.phase {
            Phase::Fetching => fetching.swarm.came_at(),
            Phase::Opening | Phase::Finishing => core.last_event.mono,
        };
        self.swarms.by_fetch.values().map(moved)
    }
}

impl<I: Index> Engine<I> {
    // Begin and end.

    /// Unless another path waits for the same content: then it comes from there.
    pub(in crate::engine) fn begin_chunks(
        &mut self,
        now: Now,
        path: &SyncPath,
        from: LinkId,
        content: ContentId,
        size: u64,
    ) {
        if self.transfer.takes_over(path, &content) {
            return;
        }
        if self.transfer.swarms.holds(&content) {
            return self.transfer.wait(now, path, Some(SECOND));
        }
        self.transfer.swarms.kept.remove(path);
        let fetch = FetchId(self.transfer.wants.next_id() as u32);
        self.transfer.set_step(path, Step::Fetching(fetch));
        let mut swarm = Swarm::new(now.mono, Chunks::of(size));
        swarm.is_alone = self.peers.links().count() < 2;
        let Some(want) = self.transfer.wants.get(path) else { return };
        let linked = want.sources.iter().copied().filter(|link| self.peers.is_linked(*link));
        for link in linked.chain([from]) {
            swarm.add_source(now.mono, link);
        }
        want.refused.iter().for_each(|link| swarm.refuse(*link));
        let fetching = SwarmFetch {
            path: path.clone(),
            content,
            from,
            swarm,
            phase: Phase::Opening,
            list: None,
            wire_bytes: 0,
            began: now.mono,
            is_long: false,
            pace: Throughput::default(),
        };
        self.transfer.swarms.by_fetch.insert(fetch, fetching);
        // At once, so that all who seek it know of each other before they ask for much.
        let links: Vec<_> = self.peers.links().collect();
        self.seek(fetch, links);
        self.core.act(Action::OpenPartial { fetch, content, size });
    }

    pub(in crate::engine) fn list_came(&mut self, range: RangeId, bad: &[(u32, Option<LinkId>)]) {
        let Some(fetch) = self.transfer.swarms.ranges.get(&range).copied() else { return };
        let Some(fetching) = self.transfer.swarms.by_fetch.get_mut(&fetch) else { return };
        fetching.swarm.listed = true;
        let mut liars: Vec<_> = bad.iter().filter_map(|(_, link)| *link).collect();
        for (chunk, _) in bad {
            fetching.swarm.is_bad(*chunk);
        }
        let here: Vec<u32> = fetching.swarm.here().iter().collect();
        self.transfer.swarms.news.insert(fetching.content, here);
        self.transfer.swarms.stirred = true;
        liars.sort_unstable();
        liars.dedup();
        for link in liars {
            self.refuse_chunks(fetch, link);
        }
    }

    pub(in crate::engine) fn range_ended(
        &mut self,
        now: Now,
        range: RangeId,
        how: Result<(), FetchError>,
        wire_bytes: u64,
    ) {
        let Some(fetch) = self.transfer.swarms.ranges.remove(&range) else { return };
        let Some(fetching) = self.transfer.swarms.by_fetch.get_mut(&fetch) else { return };
        fetching.wire_bytes += wire_bytes;
        self.transfer.swarms.stirred = true;
        let from = match fetching.list {
            Some((list, from)) if list == range => {
                fetching.list = None;
                match how {
                    // Who says again and again that it holds all of it is not asked for ever.
                    Err(FetchError::NotHere) => fetching.swarm.lied(now.mono, from),
                    Err(FetchError::LinkLost) => fetching.swarm.drop_source(from),
                    _ => {}
                }
                Some(from)
            }
            _ => fetching.swarm.ended(now.mono, range, how.as_ref().copied()),
        };
        match (how, from) {
            (Err(FetchError::Corrupt), Some(from)) => self.refuse_chunks(fetch, from),
            // What it has now, it says when it is asked.
            (Err(FetchError::NotHere), Some(from)) => self.seek(fetch, vec![from]),
            (Err(FetchError::Staging(trouble)), _) => {
                if let Some(fetching) = self.transfer.end_chunks(&mut self.core, fetch, true) {
                    self.install_failed(now, &fetching.path, trouble);
                }
            }
            _ => {}
        }
    }

    /// What it sent of this content is wrong: it is named, and not asked for it again.
    fn refuse_chunks(&mut self, fetch: FetchId, link: LinkId) {
        let Some(fetching) = self.transfer.swarms.by_fetch.get_mut(&fetch) else { return };
        fetching.swarm.refuse(link);
        let path = fetching.path.clone();
        if let Some(want) = self.transfer.wants.by_path.get_mut(&path) {
            want.refused.insert(link);
        }
        let peer = self.peers.name_of_link(link);
        self.core.out.push(Action::Report(Report::BadSource { path, peer: peer.unwrap_or_default() }));
    }

    /// All of it is in staging, and its id is right.
    pub(super) fn chunks_fetched(&mut self, fetch: FetchId, staged: StageId) -> bool {
        let Some(fetching) = self.transfer.swarms.by_fetch.remove(&fetch) else { return false };
        let names = self.peers.names_of(&fetching.swarm.bringing());
        let Some(want) = self.transfer.wants.by_path.get_mut(&fetching.path) else {
            self.core.act(Action::ClosePartial { content: fetching.content, keep: false });
            return false;
        };
        want.received.staged = Some(staged);
        want.received.wire_bytes = fetching.wire_bytes;
        want.received.provider = None;
        want.received.from = names.join(", ");
        want.step = Step::Waiting;
        self.transfer.wants.make_ready(&fetching.path);
        self.transfer.swarms.staged.insert(fetching.path, fetching.content);
        true
    }

    /// It could not be opened, or is not what it should be though all of it came.
    pub(super) fn chunks_failed(&mut self, now: Now, fetch: FetchId, why: &FetchError) -> bool {
        let Some(SwarmFetch { swarm, .. }) = self.transfer.swarms.by_fetch.get(&fetch) else { return false };
        if let (FetchError::Corrupt, [only]) = (why, &swarm.bringing()[..]) {
            self.refuse_chunks(fetch, *only);
        }
        let Some(SwarmFetch { path, .. }) =
            self.transfer.end_chunks(&mut self.core, fetch, *why != FetchError::Corrupt)
        else {
            return false;
        };
        match why {
            FetchError::Staging(trouble) => self.install_failed(now, &path, trouble.clone()),
            _ => self.transfer.back_off(&self.core, now, &path),
        }
        true
    }

    // What is asked for.

    /// Once a group of events.
    pub(in crate::engine) fn pump_chunks(&mut self, now: Now) {
        self.announce_chunks();
        if self.transfer.swarms.due().is_none_or(|due| due > now.mono) || self.is_stopped() {
            return;
        }
        self.transfer.swarms.stirred = false;
        let fetches: Vec<_> = self.transfer.swarms.by_fetch.keys().copied().collect();
        for fetch in fetches {
            self.pump_one(now, fetch);
        }
    }

    fn pump_one(&mut self, now: Now, fetch: FetchId) {
        let Some(fetching) = self.transfer.swarms.by_fetch.get_mut(&fetch).filter(|it| it.phase == Phase::Fetching)
        else {
            return;
        };
        if fetching.swarm.is_whole() {
            fetching.phase = Phase::Finishing;
            let content = fetching.content;
            if let Some((list, _)) = fetching.list.take() {
                self.transfer.swarms.ranges.remove(&list);
                self.core.act(Action::CancelPart { range: list });
            }
            return self.core.act(Action::FinishPartial { fetch, content });
        }
        let content = fetching.content;
        let (turn, of) = self.peers.turn(&self.core, &content);
        let Some(fetching) = self.transfer.swarms.by_fetch.get_mut(&fetch) else { return };
        fetching.swarm.set_turn(turn, of);
        for range in fetching.swarm.too_far_ahead() {
            self.transfer.swarms.ranges.remove(&range);
            self.core.out.push(Action::CancelPart { range });
        }
        let stalled = fetching.swarm.stalled(now.mono);
        // Who brings no chunks is not waited for with the list either.
        let is_late = |from| !fetching.swarm.is_source(from) || stalled.iter().any(|(_, late)| *late == from);
        let list = fetching.list.take_if(|(_, from)| is_late(*from));
        for (range, _) in stalled.into_iter().chain(list) {
            self.transfer.swarms.ranges.remove(&range);
            self.core.out.push(Action::CancelPart { range });
        }
        if fetching.swarm.starves(now.mono) {
            return self.transfer.starve(&mut self.core, now, fetch);
        }
        if !fetching.is_long && now.mono >= fetching.began + LONG_TRANSFER_NS {
            self.say_long(fetch);
        }
        self.transfer.ask_for_list(&mut self.core, fetch);
        self.transfer.ask_for_chunks(&mut self.core, now, fetch);
    }

    fn say_long(&mut self, fetch: FetchId) {
        let Some(fetching) = self.transfer.swarms.by_fetch.get_mut(&fetch) else { return };
        fetching.is_long = true;
        let (path, bytes, links) = (fetching.path.clone(), fetching.swarm.bytes_here(), fetching.swarm.bringing());
        let size = fetching.swarm.chunks().size();
        let from = self.peers.names_of(&links);
        self.core.out.push(Action::Report(Report::Fetching { path, from, bytes, size }));
    }

    // What peers hold, and are told.

    fn seek(&mut self, fetch: FetchId, to: Vec<LinkId>) {
        let Some(fetching) = self.transfer.swarms.by_fetch.get(&fetch).filter(|_| !to.is_empty()) else { return };
        let (path, content, size) = (fetching.path.clone(), fetching.content, fetching.swarm.chunks().size());
        self.peers.send(&mut self.core, to, Message::Seek { path, content, size });
    }

    /// A new link may have what is sought.
    pub(in crate::engine) fn seek_all(&mut self, link: LinkId) {
        let fetches: Vec<_> = self.transfer.swarms.by_fetch.keys().copied().collect();
        for fetch in fetches {
            self.seek(fetch, vec![link]);
        }
    }

    pub(in crate::engine) fn seek_came(&mut self, link: LinkId, path: &SyncPath, content: ContentId, size: u64) {
        if size < CHUNKED_BYTES {
            return;
        }
        let chunks = Chunks::of(size);
        if self.locate(path, content, size).is_some() {
            return self.peers.send(
                &mut self.core,
                vec![link],
                Message::Have { content, chunks: vec![(0, chunks.count())] },
            );
        }
        self.peers.begin_seek(link, content);
        // What was asked of a whole holder when nobody else was known to seek it may be given back.
        self.transfer.swarms.stirred |= self.transfer.swarms.of(&content).is_some();
        let fetching = self.transfer.swarms.of(&content).filter(|fetching| fetching.swarm.listed);
        let held = fetching.map(|fetching| fetching.swarm.here().runs()).unwrap_or_default();
        if !held.is_empty() {
            self.peers.send(&mut self.core, vec![link], Message::Have { content, chunks: held });
        }
    }

    /// Tells those who seek a content which of its chunks have come.
    fn announce_chunks(&mut self) {
        for (content, mut chunks) in std::mem::take(&mut self.transfer.swarms.news) {
            chunks.sort_unstable();
            chunks.dedup();
            let to = self.peers.seekers(&content);
            if !to.is_empty() && !chunks.is_empty() {
                self.peers.send(&mut self.core, to, Message::Have { content, chunks: runs(chunks.into_iter()) });
            }
        }
    }

    // What a status says.

    pub(in crate::engine) fn transfers(&self) -> Vec<TransferStatus> {
        let transfer = |fetching: &SwarmFetch| {
            let (bytes, size) = (fetching.swarm.bytes_here(), fetching.swarm.chunks().size());
            TransferStatus {
                path: fetching.path.clone(),
                from: self.peers.names_of(&fetching.swarm.bringing()),
                bytes,
                size,
                bytes_a_second: fetching.pace.rate(self.core.last_event.mono, bytes),
            }
        };
        self.transfer.swarms.by_fetch.values().map(transfer).collect()
    }
}
