//! One large content on its way from several peers: which chunk is asked of whom, and who is given
//! up.
//!
//! A plain function of what is held, who has what, and the time; it sends nothing. With one source
//! the content comes in order; with several, chunks that few hold come first, and each machine
//! begins at another place, so that the first holder sends each chunk about once and the others get
//! it from each other. May import `model`. Deliberately not here: the actions and events
//! (`chunks.rs`), bytes.

use crate::engine::api::event::{FetchError, LinkId, RangeId};
use crate::engine::limits::{
    CHUNKS_AHEAD, SLOW_LINE_PATIENCE_NS, SOURCE_LIES, SOURCE_MOST_PATIENCE_NS, SOURCE_PATIENCE_NS, SOURCE_SHARE_BYTES,
    SWARM_RANGE_BYTES, SWARM_STARVES_NS, SWARM_WINDOW_BYTES,
};
use crate::model::{ChunkSet, Chunks};
use std::collections::{BTreeMap, BTreeSet};

/// Chunks asked for of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Ask {
    pub from: LinkId,
    pub first: u32,
    pub count: u32,
}

#[derive(Debug)]
struct Range {
    ask: Ask,
    /// Of it, not yet here.
    left: u32,
}

/// What a source holds, as far as is known.
#[derive(Debug)]
enum Holds {
    Whole,
    /// It said so.
    Some(ChunkSet),
}

#[derive(Debug)]
struct ChunkSource {
    holds: Holds,
    /// Chunks asked of it and not yet here.
    under_way: u32,
    brought: u32,
    /// When it brought the last chunk, or was asked after it had nothing to do.
    moved_at: u64,
    patience_ns: u64,
    lies: u32,
}

impl ChunkSource {
    fn has(&self, chunk: u32) -> bool {
        match &self.holds {
            Holds::Whole => true,
            Holds::Some(chunks) => chunks.contains(chunk),
        }
    }

    fn is_whole(&self) -> bool {
        matches!(self.holds, Holds::Whole)
    }
}

/// See the top of this file.
#[derive(Debug)]
pub(in crate::engine) struct Swarm {
    chunks: Chunks,
    here: ChunkSet,
    asked: ChunkSet,
    /// How many sources that are still fetching hold a chunk.
    copies: Vec<u8>,
    sources: BTreeMap<LinkId, ChunkSource>,
    /// Brought wrong bytes, or a wrong list.
    refused: BTreeSet<LinkId>,
    ranges: BTreeMap<RangeId, Range>,
    /// The list is here: what comes from anyone can be checked.
    pub listed: bool,
    /// Which of how many machines that seek it this one is, as far as is known.
    turn: (u32, u32),
    /// Nobody else is there who could seek it.
    pub is_alone: bool,
    moved_at: u64,
    /// When a chunk came last, of whomever.
    came_at: u64,
}

impl Swarm {
    pub fn new(now: u64, chunks: Chunks) -> Self {
        let count = chunks.count();
        Self {
            chunks,
            here: ChunkSet::none(count),
            asked: ChunkSet::none(count),
            copies: vec![0; count as usize],
            sources: BTreeMap::new(),
            refused: BTreeSet::new(),
            ranges: BTreeMap::new(),
            listed: false,
            turn: (0, 1),
            is_alone: false,
            moved_at: now,
            came_at: now,
        }
    }

    pub fn chunks(&self) -> Chunks {
        self.chunks
    }

    pub fn here(&self) -> &ChunkSet {
        &self.here
    }

    /// When a chunk came last, or it began. What somebody says that it holds is no chunk.
    pub fn came_at(&self) -> u64 {
        self.came_at
    }

    pub fn is_whole(&self) -> bool {
        self.here.is_full()
    }

    /// Bytes of the chunks that are here.
    pub fn bytes_here(&self) -> u64 {
        let all_but_last = u64::from(self.here.count()) * self.chunks.chunk_bytes();
        let last = self.chunks.count() - 1;
        let short = if self.here.contains(last) { self.chunks.chunk_bytes() - self.chunks.len(last) } else { 0 };
        all_but_last - short
    }

    /// Those that brought something, and those that are asked now.
    pub fn bringing(&self) -> Vec<LinkId> {
        let brings = |(_, source): &(&LinkId, &ChunkSource)| source.brought > 0 || source.under_way > 0;
        self.sources.iter().filter(brings).map(|(link, _)| *link).collect()
    }

    pub fn ranges(&self) -> impl Iterator<Item = RangeId> {
        self.ranges.keys().copied()
    }

    /// Who is asked for the list: of the sources that hold all of it, one that kept this machine
    /// waiting least.
    pub fn list_source(&self) -> Option<LinkId> {
        let whole = self.sources.iter().filter(|(_, source)| source.is_whole());
        whole.min_by_key(|(_, source)| source.patience_ns).map(|(link, _)| *link)
    }

    pub fn is_source(&self, link: LinkId) -> bool {
        self.sources.contains_key(&link)
    }

    /// This machine is number `turn` of `count` that seek the content: each begins with another
    /// share of it.
    pub fn set_turn(&mut self, turn: u32, count: u32) {
        self.turn = (turn.min(count.saturating_sub(1)), count.max(1));
    }

    // What is known of sources.

    /// It told of the content, or is tried for want of a better one: it may hold all of it.
    pub fn add_source(&mut self, now: u64, link: LinkId) {
        self.holder(now, link, Holds::Whole);
    }

    fn holder(&mut self, now: u64, link: LinkId, holds: Holds) {
        if self.refused.contains(&link) {
            return;
        }
        let source = self.sources.entry(link).or_insert_with(|| ChunkSource {
            holds: Holds::Some(ChunkSet::none(0)),
            under_way: 0,
            brought: 0,
            moved_at: now,
            patience_ns: SOURCE_PATIENCE_NS,
            lies: 0,
        });
        let old = std::mem::replace(&mut source.holds, holds);
        let source = &self.sources[&link];
        if let Holds::Some(chunks) = old {
            chunks.iter().for_each(|chunk| self.copies[chunk as usize] = self.copies[chunk as usize].saturating_sub(1));
        }
        if let Holds::Some(chunks) = &source.holds {
            chunks.iter().for_each(|chunk| self.copies[chunk as usize] = self.copies[chunk as usize].saturating_add(1));
        }
        self.moved_at = now;
    }

    /// A peer says what it holds; the error: there are no such chunks.
    pub fn has(&mut self, now: u64, link: LinkId, runs: &[(u32, u32)]) -> Result<(), &'static str> {
        let count = self.chunks.count();
        let mut holds = match self.sources.get(&link).map(|source| &source.holds) {
            Some(Holds::Whole) if runs != [(0, count)] => ChunkSet::none(count),
            Some(Holds::Whole) => return Ok(()),
            Some(Holds::Some(chunks)) => chunks.clone(),
            None => ChunkSet::none(count),
        };
        let mut end = 0;
        for &(first, run) in runs {
            self.chunks.span(first, run).ok_or("it has chunks that the content has not")?;
            if std::mem::replace(&mut end, first + run) > first {
                return Err("it names its chunks in no order");
            }
            for chunk in first..first + run {
                holds.insert(chunk);
            }
        }
        let holds = if holds.is_full() { Holds::Whole } else { Holds::Some(holds) };
        self.holder(now, link, holds);
        Ok(())
    }

    /// It is gone, or has nothing of it. Its ranges are stalled.
    pub fn drop_source(&mut self, link: LinkId) {
        if let Some(ChunkSource { holds: Holds::Some(chunks), .. }) = self.sources.remove(&link) {
            chunks.iter().for_each(|chunk| self.copies[chunk as usize] = self.copies[chunk as usize].saturating_sub(1));
        }
    }

    /// What it sent is wrong: nothing more of this content is taken from it.
    pub fn refuse(&mut self, link: LinkId) {
        self.drop_source(link);
        self.refused.insert(link);
    }

    // What comes.

    /// Chunks that an earlier try left here.
    pub fn resume(&mut self, now: u64, runs: &[(u32, u32)]) {
        runs.iter().flat_map(|(first, count)| *first..first.saturating_add(*count)).for_each(|chunk| {
            self.here.insert(chunk);
        });
        self.moved_at = now;
    }

    /// Whether it is news.
    pub fn came(&mut self, now: u64, range: RangeId, chunk: u32) -> bool {
        self.moved_at = now;
        self.came_at = now;
        if let Some(range) = self.ranges.get_mut(&range) {
            let in_it = (range.ask.first..range.ask.first + range.ask.count).contains(&chunk);
            if in_it && range.left > 0 {
                range.left -= 1;
                if let Some(source) = self.sources.get_mut(&range.ask.from) {
                    source.under_way = source.under_way.saturating_sub(1);
                    source.brought += 1;
                    source.lies = 0;
                    source.moved_at = now;
                }
            }
        }
        self.asked.remove(chunk);
        self.here.insert(chunk)
    }

    /// What the list showed to be wrong.
    pub fn is_bad(&mut self, chunk: u32) {
        self.here.remove(chunk);
    }

    /// Who was asked, if it still was: what did not come is asked for again.
    pub fn ended(&mut self, now: u64, range: RangeId, how: Result<(), &FetchError>) -> Option<LinkId> {
        let Range { ask, left } = self.ranges.remove(&range)?;
        for chunk in ask.first..ask.first + ask.count {
            if !self.here.contains(chunk) {
                self.asked.remove(chunk);
            }
        }
        if let Some(source) = self.sources.get_mut(&ask.from) {
            source.under_way = source.under_way.saturating_sub(left);
        }
        match how {
            Ok(()) | Err(FetchError::Staging(_)) => {}
            Err(FetchError::Corrupt) => self.refuse(ask.from),
            Err(FetchError::LinkLost) => self.drop_source(ask.from),
            Err(FetchError::NotHere | FetchError::NoDelta) => self.lied(now, ask.from),
        }
        Some(ask.from)
    }

    /// It has less than it was believed to have, until it says otherwise; not for ever.
    pub fn lied(&mut self, now: u64, link: LinkId) {
        let Some(source) = self.sources.get(&link) else { return };
        // What was asked for before it said so is no lie of its own.
        if matches!(&source.holds, Holds::Some(chunks) if chunks.count() == 0) {
            return;
        }
        let lies = source.lies + 1;
        self.holder(now, link, Holds::Some(ChunkSet::none(self.chunks.count())));
        if let Some(source) = self.sources.get_mut(&link) {
            source.lies = lies;
        }
        if lies >= SOURCE_LIES {
            self.refuse(link);
        }
    }

    // What to do.

    /// What to ask for now. Each is to be told to `asking`.
    pub fn next(&mut self) -> Option<Ask> {
        // Those who seek it too will have something soon: what they are asking for now should not
        // be asked for twice.
        let usable = (self.sources.len() as u32).max(self.turn.1);
        // Until the list is here, who else seeks it is not known either.
        let window = match (self.listed, self.is_alone) {
            (true, _) => SWARM_WINDOW_BYTES,
            (false, true) => SOURCE_SHARE_BYTES,
            (false, false) => 1,
        };
        let share = (self.in_chunks(window) / usable).max(self.in_chunks(window.min(SOURCE_SHARE_BYTES)));
        // Where others seek it too, little is asked ahead of a whole holder: what two ask of it, it
        // sends twice.
        let of_whole = if self.turn.1 > 1 { share.min(CHUNKS_AHEAD) } else { share };
        let share_of = |source: &ChunkSource| if source.is_whole() { of_whole } else { share };
        // Those that are still fetching come first: who holds all of it has enough to do. Who
        // brought nothing comes last.
        let mut order: Vec<_> = self
            .sources
            .iter()
            .filter(|(_, source)| (self.listed || source.is_whole()) && source.under_way < share_of(source))
            .map(|(link, source)| (source.is_whole(), source.under_way, source.patience_ns, *link))
            .collect();
        order.sort_unstable();
        if !self.listed {
            // Until anyone can be checked, one is asked, so that it is known who was wrong.
            let bringing = |link: &LinkId| self.sources[link].under_way > 0;
            let one = order.iter().map(|(.., link)| *link).find(bringing).or(order.first().map(|(.., link)| *link));
            let other_brings = self.ranges.values().any(|range| Some(range.ask.from) != one);
            order.retain(|(.., link)| Some(*link) == one && !other_brings);
        }
        // Two go into the least share, so that the next is asked for while one comes.
        let most = if usable == 1 { self.in_chunks(SWARM_RANGE_BYTES).min((share / 2).max(1)) } else { 1 };
        order.into_iter().find_map(|(_, under_way, _, from)| {
            let first = self.pick(from)?;
            let source = &self.sources[&from];
            // What others could bring too is not taken from who holds all of it, but for one at a
            // time: others may be slow.
            if source.is_whole() && under_way > 0 && self.copies[first as usize] > 0 {
                return None;
            }
            let is_next = |chunk: &u32| self.is_missing(*chunk) && source.has(*chunk);
            let more = (first + 1..self.chunks.count()).take(most as usize - 1).take_while(is_next).count() as u32;
            let ask = Ask { from, first, count: 1 + more };
            // Each chunk that comes makes room for one: to ask for that alone would end in as many
            // streams as chunks.
            (under_way + ask.count <= share_of(source)).then_some(ask)
        })
    }

    fn in_chunks(&self, bytes: u64) -> u32 {
        (bytes / self.chunks.chunk_bytes()).max(1) as u32
    }

    fn is_missing(&self, chunk: u32) -> bool {
        !self.here.contains(chunk) && !self.asked.contains(chunk)
    }

    /// The chunk that the fewest hold, of those that it has; from where this machine begins.
    fn pick(&self, from: LinkId) -> Option<u32> {
        let source = self.sources.get(&from)?;
        let mut best: Option<(u8, u32)> = None;
        for chunk in self.order() {
            if !self.is_missing(chunk) || !source.has(chunk) {
                continue;
            }
            let copies = self.copies[chunk as usize];
            // Nothing is rarer than what only whole holders have, or this one alone.
            if copies == u8::from(!source.is_whole()) {
                return Some(chunk);
            }
            if best.is_none_or(|(least, _)| copies < least) {
                best = Some((copies, chunk));
            }
        }
        best.map(|(_, chunk)| chunk)
    }

    /// This machine's share from its first chunk on; then the others' shares, from their ends back,
    /// for each begins with its own.
    fn order(&self) -> impl Iterator<Item = u32> {
        let (turn, count) = (u64::from(self.turn.0), u64::from(self.turn.1));
        let all = self.chunks.count();
        let bound = |turn: u64| (u64::from(all) * turn / count) as u32;
        let (start, end) = (bound(turn), bound(turn + 1));
        (start..end).chain((0..start).rev()).chain((end..all).rev())
    }

    pub fn asking(&mut self, now: u64, id: RangeId, ask: Ask) {
        for chunk in ask.first..ask.first + ask.count {
            self.asked.insert(chunk);
        }
        if let Some(source) = self.sources.get_mut(&ask.from) {
            if source.under_way == 0 {
                source.moved_at = now;
            }
            source.under_way += ask.count;
        }
        self.moved_at = now;
        self.ranges.insert(id, Range { ask, left: ask.count });
    }

    /// Ranges of sources that bring nothing, while another could, or that are none any more and may
    /// never answer. They are to be cancelled, and count as ended.
    pub fn stalled(&mut self, now: u64) -> Vec<(RangeId, LinkId)> {
        let others = |link: &LinkId| self.sources.keys().any(|other| other != link);
        let late: Vec<_> = self
            .sources
            .iter()
            .filter(|(link, source)| {
                source.under_way > 0 && source.moved_at + source.patience_ns <= now && others(link)
            })
            .map(|(link, _)| *link)
            .collect();
        for link in &late {
            if let Some(source) = self.sources.get_mut(link) {
                let others_bring = self.came_at > source.moved_at;
                let most = if others_bring { SOURCE_MOST_PATIENCE_NS } else { SLOW_LINE_PATIENCE_NS };
                source.patience_ns = (source.patience_ns * 2).min(most);
                source.moved_at = now;
            }
        }
        let asked = self.ranges.iter().map(|(id, range)| (*id, range.ask.from));
        let ranges: Vec<_> = asked.filter(|(_, from)| late.contains(from) || !self.is_source(*from)).collect();
        for (id, _) in &ranges {
            self.ended(now, *id, Ok(()));
        }
        ranges
    }

    /// Ranges that a whole holder has not begun, and that were asked for before it was known that
    /// others seek the content, too. They are to be cancelled, and count as ended: the others bring
    /// most of them.
    pub fn too_far_ahead(&mut self) -> Vec<RangeId> {
        if self.turn.1 < 2 {
            return Vec::new();
        }
        let mut untouched: BTreeMap<LinkId, Vec<RangeId>> = BTreeMap::new();
        for (id, range) in &self.ranges {
            let is_whole = self.sources.get(&range.ask.from).is_some_and(ChunkSource::is_whole);
            if is_whole && range.left == range.ask.count {
                untouched.entry(range.ask.from).or_default().push(*id);
            }
        }
        // The first are what it is about to send.
        let ranges: Vec<_> =
            untouched.into_values().flat_map(|ids| ids.into_iter().skip(CHUNKS_AHEAD as usize)).collect();
        for id in &ranges {
            self.ended(self.moved_at, *id, Ok(()));
        }
        ranges
    }

    /// Nothing is under way, nobody has anything to give, and no news came for long; or nobody is
    /// left at all.
    pub fn starves(&self, now: u64) -> bool {
        self.ranges.is_empty()
            && !self.is_whole()
            && (self.sources.is_empty() || self.moved_at + SWARM_STARVES_NS <= now)
    }

    /// When `stalled` or `starves` may have something to say; a lone source is waited for as long
    /// as its link is.
    pub fn due(&self) -> Option<u64> {
        if self.ranges.is_empty() {
            return Some(self.moved_at + SWARM_STARVES_NS);
        }
        let busy = self.sources.values().filter(|source| source.under_way > 0 && self.sources.len() > 1);
        busy.map(|source| source.moved_at + source.patience_ns).min()
    }
}

#[cfg(test)]
mod tests;
