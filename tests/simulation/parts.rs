//! Contents that come in chunks, in simulated time: what is here of them, what peers send of them,
//! and how that goes wrong.
//!
//! A chunk is right or wrong, and has no bytes of its own. What is here outlives a crash; who sent
//! it, and the list, do not.

use super::bugs::Bug;
use super::ledger::NodeId;
use super::network::Parcel;
use super::plan::MS;
use super::shell::Step;
use super::swap::no_space;
use super::tree::Data;
use super::world::World;
use dirsyncd::engine::{Event, FetchError, FetchId, LinkId, RangeId, StageId};
use dirsyncd::model::chunks::runs;
use dirsyncd::model::{Chunks, ContentId};
use dirsyncd::wire::message::Message;
use dirsyncd::wire::packet::Part;
use std::collections::BTreeMap;

/// One content on its way.
pub struct Partial {
    size: u64,
    held: BTreeMap<u32, Held>,
    listed: bool,
    /// All of it, once any chunk came.
    data: Option<Data>,
}

struct Held {
    is_right: bool,
    from: Option<LinkId>,
}

impl Partial {
    pub fn crash(&mut self) {
        self.listed = false;
        self.held.values_mut().for_each(|held| held.from = None);
    }
}

impl World {
    pub fn open_partial(&mut self, node: NodeId, fetch: FetchId, content: ContentId, size: u64) {
        let here = &mut self.nodes[node];
        let event = if here.is_full {
            Event::FetchFailed { fetch, why: FetchError::Staging(no_space()) }
        } else {
            let new = || Partial { size, held: BTreeMap::new(), listed: false, data: None };
            let partial = here.partials.entry(content).or_insert_with(new);
            let held = runs(partial.held.keys().copied());
            Event::PartialOpened { fetch, here: held, listed: partial.listed }
        };
        self.step_soon(node, self.plan.disk_ns, Step::Answer(event));
    }

    pub fn ask_part(&mut self, node: NodeId, range: RangeId, from: LinkId, ask: Parcel, content: ContentId) {
        if self.is_up(from) {
            self.nodes[node].ranges.insert(range, (from, content));
            self.send(from, ask);
        } else {
            let event = Event::RangeEnded { range, how: Err(FetchError::LinkLost), wire_bytes: 0 };
            self.step_soon(node, self.plan.disk_ns, Step::Answer(event));
        }
    }

    pub fn serve_partial(&mut self, node: NodeId, to: LinkId, stream: FetchId, content: ContentId) {
        let here = &mut self.nodes[node];
        let Some(part) = here.asked.remove(&(to, stream)) else { return };
        let partial = here.partials.get(&content).filter(|partial| partial.listed);
        let data = match (partial, part) {
            (Some(partial), Part::Chunks { first, count })
                if (first..first + count).all(|chunk| partial.held.contains_key(&chunk)) =>
            {
                partial.data.clone()
            }
            _ => None,
        };
        self.send(to, Parcel::AnswerPart { range: RangeId(stream.0), part, data });
    }

    pub fn part_came(&mut self, node: NodeId, link: LinkId, range: RangeId, part: Part, data: Option<Data>) {
        let Some((from, content)) = self.nodes[node].ranges.get(&range).copied() else { return };
        if from != link {
            return;
        }
        self.nodes[node].ranges.remove(&range);
        let fails = data.is_none() || self.rng.chance(self.plan.corrupt_permille);
        if fails && self.has(Bug::ForgetsFailedFetches) {
            return;
        }
        let how = match (data, part) {
            (None, _) => Err(FetchError::NotHere),
            _ if self.nodes[node].is_full => Err(FetchError::Staging(no_space())),
            (Some(_), Part::List) if fails => Err(FetchError::Corrupt),
            (Some(_), Part::List) => {
                self.list_came(node, content, range);
                Ok(())
            }
            (Some(data), Part::Chunks { first, count }) => {
                self.chunks_came(node, link, content, range, &data, first..first + count, !fails)
            }
            (Some(_), Part::Whole) => Err(FetchError::NotHere),
        };
        self.tell(node, Event::RangeEnded { range, how, wire_bytes: 1 });
    }

    fn list_came(&mut self, node: NodeId, content: ContentId, range: RangeId) {
        let is_trusted = self.has(Bug::AcceptsAnyContent);
        let Some(partial) = self.nodes[node].partials.get_mut(&content) else { return };
        partial.listed = true;
        let wrong: Vec<u32> =
            partial.held.iter().filter(|(_, held)| !held.is_right && !is_trusted).map(|(chunk, _)| *chunk).collect();
        let bad = wrong.into_iter().map(|chunk| (chunk, partial.held.remove(&chunk).and_then(|held| held.from)));
        let bad = bad.collect();
        self.tell(node, Event::ListCame { range, bad });
    }

    #[expect(clippy::too_many_arguments, reason = "all that a range is")]
    fn chunks_came(
        &mut self,
        node: NodeId,
        link: LinkId,
        content: ContentId,
        range: RangeId,
        data: &Data,
        chunks: std::ops::Range<u32>,
        all_right: bool,
    ) -> Result<(), FetchError> {
        // Where the stream broke off, or went wrong.
        let last = if self.rng.chance(900) { chunks.end } else { chunks.start + self.rng.index(chunks.len()) as u32 };
        let wrong = chunks.start + self.rng.index(chunks.len()) as u32;
        let is_trusted = self.has(Bug::AcceptsAnyContent);
        for chunk in chunks.start..last {
            let is_right = all_right || chunk != wrong;
            let Some(partial) = self.nodes[node].partials.get_mut(&content) else { return Err(FetchError::NotHere) };
            if partial.listed && !is_right && !is_trusted {
                return Err(FetchError::Corrupt);
            }
            partial.data.get_or_insert(data.clone());
            partial.held.entry(chunk).or_insert(Held { is_right, from: Some(link) });
            self.tell(node, Event::ChunkCame { range, chunk, wire_bytes: 1 });
        }
        if last == chunks.end { Ok(()) } else { Err(FetchError::NotHere) }
    }

    pub fn finish_partial(&mut self, node: NodeId, fetch: FetchId, content: ContentId) {
        let is_trusted = self.has(Bug::AcceptsAnyContent);
        let here = &mut self.nodes[node];
        let whole = here.partials.get(&content).and_then(|partial| {
            let is_right = partial.held.values().all(|held| held.is_right);
            let is_whole = partial.held.len() as u32 == Chunks::of(partial.size).count();
            let mut data = partial.data.clone().filter(|_| is_whole && (is_right || is_trusted))?;
            if !is_right {
                data.text = data.text.slice(..data.text.len() / 2);
            }
            Some(data)
        });
        let event = match whole {
            Some(data) => {
                here.next_stage += 1;
                let staged = StageId(here.next_stage);
                here.staging.insert(staged, data);
                Event::Fetched { fetch, staged, wire_bytes: 0 }
            }
            None => Event::FetchFailed { fetch, why: FetchError::Corrupt },
        };
        self.step_soon(node, MS, Step::Answer(event));
    }

    /// The link is gone, and with it what was asked of it.
    pub fn lose_parts(&mut self, node: NodeId, link: LinkId) {
        let here = &mut self.nodes[node];
        let lost: Vec<RangeId> =
            here.ranges.iter().filter(|(_, (from, _))| *from == link).map(|(range, _)| *range).collect();
        here.asked.retain(|(from, _), _| *from != link);
        for range in lost {
            self.nodes[node].ranges.remove(&range);
            self.tell(node, Event::RangeEnded { range, how: Err(FetchError::LinkLost), wire_bytes: 0 });
        }
    }

    /// Where contents are damaged on their way, peers also say that they hold chunks which they do
    /// not hold.
    pub fn perhaps_a_lie(&mut self, message: Message) -> Message {
        match message {
            Message::Have { content, chunks } if self.rng.chance(self.plan.corrupt_permille) => {
                let end = chunks.last().map_or(1, |(first, count)| first + count);
                Message::Have { content, chunks: vec![(0, end)] }
            }
            honest => honest,
        }
    }
}
