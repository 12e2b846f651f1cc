//! Links between machines: ordered, delayed, cut, parted, dialled again. Messages travel as the
//! bytes of frames.
//!
//! Deliberately not here: TLS, pieces and credit of large contents; a large content arrives at once
//! or not at all.

use super::bugs::{Bug, by_mtime};
use super::ledger::NodeId;
use super::plan::{MS, SECOND};
use super::tree::Data;
use super::world::{Happening, World};
use bytes::Bytes;
use dirsyncd::engine::{Event, FetchError, FetchId, LinkId, RangeId};
use dirsyncd::model::{ContentId, Entry, SyncPath};
use dirsyncd::wire::frame::{self, Packet};
use dirsyncd::wire::message::Message;
use dirsyncd::wire::packet::Part;

#[derive(Debug)]
pub enum Parcel {
    Up,
    Frame(Bytes),
    Ask {
        fetch: FetchId,
        path: SyncPath,
        content: ContentId,
        size: u64,
    },
    Answer {
        fetch: FetchId,
        data: Option<Data>,
    },
    /// For a delta upon `base`; its answer is what it makes.
    AskDelta {
        fetch: FetchId,
        path: SyncPath,
        content: ContentId,
        size: u64,
        base: ContentId,
        base_size: u64,
    },
    AnswerDelta {
        fetch: FetchId,
        data: Option<Data>,
    },
    AskPart {
        range: RangeId,
        path: SyncPath,
        content: ContentId,
        size: u64,
        part: Part,
    },
    AnswerPart {
        range: RangeId,
        part: Part,
        data: Option<Data>,
    },
}

impl Parcel {
    /// How many contents it carries outside a message.
    fn contents(&self) -> u64 {
        match self {
            Self::Answer { data, .. } | Self::AnswerDelta { data, .. } | Self::AnswerPart { data, .. } => {
                u64::from(data.is_some())
            }
            _ => 0,
        }
    }
}

fn contents_in(message: &Message) -> u64 {
    let count = match message {
        Message::Changes { changes, .. } => changes.iter().filter(|change| change.body.is_some()).count(),
        Message::Contents { contents } => contents.iter().filter(|(_, body)| body.is_some()).count(),
        _ => 0,
    };
    count as u64
}

pub struct Network {
    pub(super) pairs: Vec<Pair>,
    links: Vec<Link>,
}

pub(super) struct Pair {
    pub(super) ends: [NodeId; 2],
    parted: bool,
    pub(super) link: Option<usize>,
}

struct Link {
    pair: usize,
    ends: [NodeId; 2],
    dialler: usize,
    state: [End; 2],
    whole: bool,
    /// Of what is under way to each side when the link is cut, what arrives until then still does.
    until: [u64; 2],
    /// Parcels under way to each side.
    under_way: [u64; 2],
    /// When the last parcel to each side arrives: the next is not before it.
    last: [u64; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Opening,
    Up,
    Down,
}

impl Network {
    pub fn new(pairs: &[(NodeId, NodeId)]) -> Self {
        let pairs = pairs.iter().map(|&(a, b)| Pair { ends: [a, b], parted: false, link: None }).collect();
        Self { pairs, links: Vec::new() }
    }

    pub fn end_of(&self, link: usize, side: usize) -> NodeId {
        self.links[link].ends[side]
    }

    pub fn pairs_of(&self, node: NodeId) -> Vec<usize> {
        (0..self.pairs.len()).filter(|pair| self.pairs[*pair].ends.contains(&node)).collect()
    }

    fn id(link: usize, side: usize) -> LinkId {
        LinkId((link * 2 + side) as u64)
    }
}

impl World {
    /// Sends over a link, if it is still there.
    pub fn send(&mut self, from: LinkId, parcel: Parcel) {
        if self.is_up(from) {
            self.contents_sent += parcel.contents();
            self.post(from.0 as usize / 2, 1 - from.0 as usize % 2, parcel);
        }
    }

    /// As far as this end knows.
    pub fn is_up(&self, end: LinkId) -> bool {
        !Self::is_with_removed(end) && self.net.links[end.0 as usize / 2].state[end.0 as usize % 2] == End::Up
    }

    /// Both ends of each link learn how far the other's clock is ahead.
    pub fn compare_clocks(&mut self) {
        for link in 0..self.net.links.len() {
            for side in [0, 1] {
                let ends = self.net.links[link].ends;
                let (node, peer) = (ends[side], ends[1 - side]);
                let ahead_ns = self.nodes[peer].skew_ns - self.nodes[node].skew_ns;
                if self.net.links[link].state[side] == End::Up {
                    self.tell(node, Event::Clock { link: Network::id(link, side), ahead_ns });
                }
            }
        }
    }

    pub fn send_message(&mut self, from: LinkId, message: Message) {
        if self.has(Bug::LosesFrames) && self.rng.chance(50) {
            return;
        }
        self.contents_sent += contents_in(&message);
        if matches!(message, Message::Conflicts { .. }) && self.loses_conflicts() {
            return;
        }
        let message = self.perhaps_a_lie(message);
        let message = self.perhaps_embellished(message);
        let message = if self.has(Bug::DropsTheStampRule) { altered(message, &by_mtime) } else { message };
        let frame = frame::encode(&Packet::Message(message));
        self.send(from, Parcel::Frame(frame.to_vec().into()));
    }

    fn post(&mut self, link: usize, side: usize, parcel: Parcel) {
        let delay = self.rng.between(self.plan.latency_ns / 10, self.plan.latency_ns);
        let at = (self.now + delay).max(self.net.links[link].last[side]);
        let at = if self.has(Bug::ReordersFrames) { self.now + delay } else { at };
        self.net.links[link].last[side] = at;
        self.boundary.wire(self.now, self.net.links[link].ends[1 - side], link, &parcel);
        self.net.links[link].under_way[side] += 1;
        self.after(at - self.now, Happening::Arrives { link, side, parcel });
    }

    pub fn arrives(&mut self, link: usize, side: usize, parcel: Parcel) {
        let it = &mut self.net.links[link];
        it.under_way[side] -= 1;
        let (node, peer) = (it.ends[side], it.ends[1 - side]);
        let id = Network::id(link, side);
        match (parcel, it.state[side]) {
            (_, End::Down) => {}
            (_, _) if !it.whole && it.until[side] < self.now => {}
            (Parcel::Up, _) => {
                it.state[side] = End::Up;
                let dialler = it.dialler == side;
                let (device, name) = (self.nodes[peer].device, format!("n{peer}"));
                self.tell(
                    node,
                    Event::LinkUp {
                        link: id,
                        device,
                        name,
                        dialler,
                        features: self.features(),
                        capability: self.capability_of(peer),
                    },
                );
            }
            (Parcel::Frame(bytes), _) => self.frame_arrives(node, id, &bytes),
            (Parcel::Ask { fetch: stream, path, content, size }, _) => {
                self.tell(node, Event::FetchAsked { link: id, stream, path, content, size });
            }
            (Parcel::Answer { fetch, data }, _) => self.fetched(node, id, fetch, data),
            (Parcel::AskDelta { fetch: stream, path, content, size, base, base_size }, _) => {
                self.tell(node, Event::DeltaAsked { link: id, stream, path, content, size, base, base_size });
            }
            (Parcel::AnswerDelta { fetch, data }, _) => self.delta_came(node, id, fetch, data),
            (Parcel::AskPart { range, path, content, size, part }, _) => {
                let stream = FetchId(range.0);
                self.nodes[node].asked.insert((id, stream), part);
                self.tell(node, Event::FetchAsked { link: id, stream, path, content, size });
            }
            (Parcel::AnswerPart { range, part, data }, _) => self.part_came(node, id, range, part, data),
        }
    }

    fn frame_arrives(&mut self, node: NodeId, link: LinkId, bytes: &Bytes) {
        match frame::decode_first(bytes) {
            Ok((Packet::Message(message), used)) if used == bytes.len() => {
                let message = if self.has(Bug::LastHeardWins) { self.as_heard_now(node, message) } else { message };
                self.tell(node, Event::Message { link, message, wire_bytes: used as u64 });
            }
            other => self.fail(format!("a frame does not come back as it was sent: {other:?}")),
        }
    }

    /// Dials, when both are there and no link is.
    pub fn connect(&mut self, pair: usize) {
        let it = &self.net.pairs[pair];
        let ends = it.ends;
        if it.parted || it.link.is_some() || ends.iter().any(|&end| !self.nodes[end].is_up()) {
            return;
        }
        if let Some(until) = ends.map(|end| self.nodes[end].asleep_until).into_iter().max().filter(|at| *at > self.now)
        {
            // Nobody answers.
            return self.after((until - self.now).min(5 * SECOND), Happening::Connect { pair });
        }
        if !self.meets(pair, ends) {
            return;
        }
        let link = self.net.links.len();
        let dialler = self.rng.index(2);
        let state = [End::Opening; 2];
        self.net.links.push(Link {
            pair,
            ends,
            dialler,
            state,
            whole: true,
            until: [0; 2],
            under_way: [0; 2],
            last: [self.now; 2],
        });
        self.net.pairs[pair].link = Some(link);
        self.trace.note(self.now, format_args!("link {link} of {ends:?}"));
        for side in 0..2 {
            self.post(link, side, Parcel::Up);
        }
    }

    /// Its ends of the links that are up.
    pub fn ends_of(&self, node: NodeId) -> Vec<LinkId> {
        let end = |link: usize| {
            let side = self.net.links[link].ends.iter().position(|end| *end == node)?;
            (self.net.links[link].state[side] == End::Up).then(|| Network::id(link, side))
        };
        self.net.pairs.iter().filter_map(|pair| pair.link).filter_map(end).collect()
    }

    /// Those at the other ends of links that are up and have nothing under way.
    pub fn quiet_peers_of(&self, node: NodeId) -> Vec<NodeId> {
        let is_quiet = |link: &&Link| link.whole && link.state == [End::Up; 2] && link.under_way == [0; 2];
        let peer = |link: &Link| link.ends.iter().position(|end| *end == node).map(|side| link.ends[1 - side]);
        let pairs = self.net.pairs.iter().filter_map(|pair| pair.link).map(|link| &self.net.links[link]);
        pairs.filter(is_quiet).filter_map(peer).collect()
    }

    pub fn connect_all_of(&mut self, node: NodeId) {
        for pair in 0..self.net.pairs.len() {
            if self.net.pairs[pair].ends.contains(&node) {
                self.soon(SECOND / 2, Happening::Connect { pair });
            }
        }
    }

    pub fn cut_pair(&mut self, pair: usize) {
        if let Some(link) = self.net.pairs[pair].link {
            self.cut(link);
        }
    }

    /// Whatever is on its way is lost; each side learns of it in its own time.
    fn cut(&mut self, link: usize) {
        if std::mem::replace(&mut self.net.links[link].whole, false) {
            self.trace.note(self.now, format_args!("link {link} is cut"));
            for side in 0..2 {
                self.net.links[link].until[side] = self.now + self.rng.below(self.plan.latency_ns + 1);
                let most = *self.rng.pick(&[MS, 100 * MS, 3 * SECOND]);
                self.soon(most, Happening::Breaks { link, side });
            }
        }
    }

    pub fn close(&mut self, link: LinkId) {
        self.cut(link.0 as usize / 2);
    }

    pub fn part(&mut self, pair: usize, parted: bool) {
        self.net.pairs[pair].parted = parted;
        if parted {
            self.cut_pair(pair);
        } else {
            self.soon(SECOND / 2, Happening::Connect { pair });
        }
    }

    pub fn breaks(&mut self, link: usize, side: usize) {
        let it = &mut self.net.links[link];
        let (node, pair) = (it.ends[side], it.pair);
        let was = std::mem::replace(&mut it.state[side], End::Down);
        let both = it.state == [End::Down; 2];
        if was == End::Up && !self.has(Bug::HidesBrokenLinks) {
            let id = Network::id(link, side);
            let lost: Vec<FetchId> =
                self.nodes[node].fetches.iter().filter(|(_, from)| **from == id).map(|(fetch, _)| *fetch).collect();
            let down_first = self.rng.chance(500);
            if down_first {
                self.tell(node, Event::LinkDown { link: id });
            }
            for fetch in lost {
                self.nodes[node].fetches.remove(&fetch);
                self.tell(node, Event::FetchFailed { fetch, why: FetchError::LinkLost });
            }
            self.lose_parts(node, id);
            if !down_first {
                self.tell(node, Event::LinkDown { link: id });
            }
        }
        if both && self.net.pairs[pair].link == Some(link) {
            self.net.pairs[pair].link = None;
            let most = *self.rng.pick(&[10 * MS, SECOND, 5 * SECOND]);
            self.soon(most, Happening::Connect { pair });
        }
    }

    /// The node is gone: its ends are down at once and unheard, the other ends learn of it later.
    pub fn lose_links_of(&mut self, node: NodeId) {
        for link in 0..self.net.links.len() {
            let it = &mut self.net.links[link];
            if let Some(side) = it.ends.iter().position(|end| *end == node) {
                it.state[side] = End::Down;
                self.cut(link);
            }
        }
    }

    /// A message whose entries are as new as their arrival.
    fn as_heard_now(&self, node: NodeId, message: Message) -> Message {
        let stamp = self.nodes[node].clock(self.now).wall;
        altered(message, &|mut entry| {
            entry.version.stamp = stamp;
            entry
        })
    }
}

fn altered(message: Message, alter: &dyn Fn(Entry) -> Entry) -> Message {
    let all = |entries: Vec<(SyncPath, Entry)>| entries.into_iter().map(|(path, entry)| (path, alter(entry))).collect();
    match message {
        Message::Offer { buckets, entries, more } => Message::Offer { buckets, entries: all(entries), more },
        Message::Answer { entries, more } => Message::Answer { entries: all(entries), more },
        Message::Changes { mut changes, relayed_to: told } => {
            for change in &mut changes {
                change.entry = alter(change.entry.clone());
            }
            Message::Changes { changes, relayed_to: told }
        }
        other => other,
    }
}
