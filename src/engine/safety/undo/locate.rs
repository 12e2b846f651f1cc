//! Where contents are: asked of this machine's history and of all linked machines, and answering
//! machines that ask.
//!
//! An undo asks before it brings anything back, so that nothing comes back that nobody has. A
//! machine that says that its history has a content takes it from there once the path is to have it
//! again. Answers are held against the questions, and each is capped and has a deadline (P9).
//! Deliberately not here: what an undo does with the answers (`orders.rs`), and the lists of
//! histories that people see (`../past.rs`).

use super::Order;
use crate::engine::Engine;
use crate::engine::api::action::Action;
use crate::engine::api::event::{LinkId, LocatedKept, Now, Stat};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{
    LOCATE_MORE_NS, LOCATE_MTIME_SECS, LOCATE_PATIENCE_NS, PROMISED_BYTES, PROMISED_CAP, PROMISED_NS,
};
use crate::engine::safety::Safety;
use crate::model::{ContentId, SyncPath};
use crate::wire::features::LOCATE;
use crate::wire::message::{MESSAGE_BYTES, Message, Place, SOUGHT, Sought};
use std::collections::{BTreeMap, BTreeSet};

type SoughtKey = (SyncPath, ContentId);

fn key(sought: &Sought) -> SoughtKey {
    (sought.path.clone(), sought.content)
}

/// What is known of where contents are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Places {
    /// One that comes back at one path comes from there to the others.
    found: BTreeMap<ContentId, Place>,
    /// The names of machines that were not asked, or did not answer to the end.
    pub silent: Vec<String>,
    /// Machines of older versions cannot be asked, and may have anything on their disks.
    pub may_be_on_disk: bool,
}

impl Places {
    pub fn of(&self, sought: &Sought) -> Place {
        self.found.get(&sought.content).copied().unwrap_or(Place::Nowhere)
    }

    fn note(&mut self, content: ContentId, place: Place) {
        let known = self.found.entry(content).or_insert(place);
        *known = place.max(*known);
    }
}

#[derive(Default)]
pub(in crate::engine) struct Locating {
    last_id: u32,
    asking: Option<LocateQuery>,
    answering: BTreeMap<LinkId, Answering>,
    /// What history here was said to have, and until when that is known.
    promised: BTreeMap<SyncPath, (ContentId, LocatedKept)>,
    promised_until: u64,
    promised_bytes: usize,
}

struct LocateQuery {
    order: Order,
    sought: Vec<Sought>,
    places: Places,
    /// What history here is still asked for.
    own: BTreeSet<SoughtKey>,
    links: BTreeMap<LinkId, AskedPeer>,
    /// By then all is over.
    end: u64,
}

/// A machine that is asked, a part after the other.
struct AskedPeer {
    name: String,
    id: u32,
    part: Vec<usize>,
    next: usize,
    until: u64,
}

struct Answering {
    id: u32,
    sought: Vec<Sought>,
    places: Places,
    open: BTreeSet<SoughtKey>,
}

impl LocateQuery {
    /// What is asked next: nothing that was found already.
    fn next_part(&self, from: usize) -> (Vec<usize>, usize) {
        let (mut part, mut bytes, mut next) = (Vec::new(), 0, from);
        while let Some(sought) = self.sought.get(next) {
            bytes += sought.wire_bytes();
            if part.len() == SOUGHT || bytes > MESSAGE_BYTES {
                break;
            }
            if self.places.of(sought) == Place::Nowhere {
                part.push(next);
            } else {
                bytes -= sought.wire_bytes();
            }
            next += 1;
        }
        (part, next)
    }

    fn is_over(&self) -> bool {
        self.own.is_empty() && self.links.is_empty()
    }

    /// Not answered, and waited for no longer.
    fn give_up(&mut self, link: LinkId) {
        if let Some(asked) = self.links.remove(&link) {
            self.places.silent.push(asked.name);
        }
    }
}

impl Locating {
    pub fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    pub fn next(&self) -> Option<u64> {
        let asking = self.asking.as_ref()?;
        asking.links.values().map(|asked| asked.until).chain([asking.end]).min()
    }

    /// Where in this history the content is that was said to be in it, for this path.
    pub fn promised(&self, path: &SyncPath, content: ContentId) -> Option<&LocatedKept> {
        self.promised.get(path).filter(|(promised, _)| *promised == content).map(|(_, located)| located)
    }

    #[cfg(test)]
    pub fn promises(&self) -> usize {
        self.promised.len()
    }

    fn promise(&mut self, now: Now, (path, content): SoughtKey, located: LocatedKept) {
        let bytes = path.as_bytes().len() + located.kept.len() + size_of::<(SoughtKey, LocatedKept)>();
        let is_full = self.promised.len() >= PROMISED_CAP || self.promised_bytes + bytes > PROMISED_BYTES;
        if self.promised_until <= now.mono || is_full {
            self.promised.clear();
            self.promised_bytes = 0;
        }
        self.promised_until = now.mono + PROMISED_NS;
        self.promised_bytes += bytes;
        self.promised.insert(path, (content, located));
    }
}

impl Safety {
    /// Whether a content of this size is in the folder: what is missing, or is older now, is not.
    /// Each content is looked up once, for many files may hold the same.
    pub(in crate::engine::safety) fn is_in_folder<I: Index>(
        &self,
        core: &Core<I>,
    ) -> impl FnMut(ContentId, u64) -> bool {
        let mut known = BTreeMap::new();
        move |content, size| {
            let mut is_there = |path: &SyncPath, row: &Row| {
                let holds = row.live_on_disk().is_some_and(|(entry, _)| entry.file() == Some((content, size)));
                holds && !self.held.contains(path) && !self.missing.contains(path) && !self.guard.awaits(path)
            };
            let find = || core.index.find_holder(&content, &mut is_there).is_some();
            *known.entry((content, size)).or_insert_with(find)
        }
    }
}

impl<I: Index> Engine<I> {
    /// Where each of these is, of those that are on no disk here. `located` has the answer.
    pub(in crate::engine::safety) fn locate_all(&mut self, now: Now, order: Order, sought: Vec<Sought>) {
        let own = sought.iter().map(key).collect();
        let parts = (sought.len() / SOUGHT) as u64;
        let end = now.mono + LOCATE_PATIENCE_NS + parts.saturating_mul(LOCATE_MORE_NS);
        let mut asking = LocateQuery { order, sought, places: Places::default(), own, links: BTreeMap::new(), end };
        let mut links = Vec::new();
        for link in self.peers.links().filter(|_| !asking.sought.is_empty()) {
            let name = self.peers.name_of_link(link).unwrap_or_default();
            if !self.peers.has_feature(link, LOCATE) {
                asking.places.may_be_on_disk = true;
                asking.places.silent.push(name);
                continue;
            }
            let until = now.mono + LOCATE_PATIENCE_NS;
            asking.links.insert(link, AskedPeer { name, id: 0, part: Vec::new(), next: 0, until });
            links.push(link);
        }
        if !asking.sought.is_empty() {
            self.core.act(Action::LocateKept(asking.sought.clone()));
        }
        self.safety.undoing.locating.asking = Some(asking);
        for link in links {
            self.ask_next_part(now, link);
        }
        self.conclude_if_located(now);
    }

    fn ask_next_part(&mut self, now: Now, link: LinkId) {
        let Some(asking) = &mut self.safety.undoing.locating.asking else { return };
        let Some(from) = asking.links.get(&link).map(|asked| asked.next) else { return };
        let (part, next) = asking.next_part(from);
        let Some(asked) = asking.links.get_mut(&link) else { return };
        if part.is_empty() {
            asking.links.remove(&link);
            return;
        }
        self.safety.undoing.locating.last_id = self.safety.undoing.locating.last_id.wrapping_add(1);
        let id = self.safety.undoing.locating.last_id;
        let sought = part.iter().map(|n| asking.sought[*n].clone()).collect();
        (asked.id, asked.part, asked.next, asked.until) = (id, part, next, now.mono + LOCATE_PATIENCE_NS);
        self.peers.send(&mut self.core, vec![link], Message::Locate { id, sought });
    }

    pub(in crate::engine) fn located_by(&mut self, now: Now, link: LinkId, id: u32, places: &[Place]) {
        let Some(asking) = &mut self.safety.undoing.locating.asking else { return };
        let Some(asked) = asking.links.get_mut(&link).filter(|asked| asked.id == id) else { return };
        if places.len() != asked.part.len() {
            asking.give_up(link);
            self.core.close(link, "places of other contents than were asked for");
            return self.conclude_if_located(now);
        }
        let part = std::mem::take(&mut asked.part);
        for (n, place) in part.into_iter().zip(places) {
            let content = asking.sought[n].content;
            asking.places.note(content, *place);
        }
        self.ask_next_part(now, link);
        self.conclude_if_located(now);
    }

    pub(in crate::engine) fn locate_link_down(&mut self, now: Now, link: LinkId) {
        self.safety.undoing.locating.answering.remove(&link);
        if let Some(asking) = &mut self.safety.undoing.locating.asking {
            asking.give_up(link);
        }
        self.conclude_if_located(now);
    }

    pub(in crate::engine::safety) fn locate_due(&mut self, now: Now) {
        if let Some(asking) = &mut self.safety.undoing.locating.asking {
            let is_over = asking.end <= now.mono;
            let late = asking.links.iter().filter(|(_, asked)| is_over || asked.until <= now.mono);
            for link in late.map(|(link, _)| *link).collect::<Vec<_>>() {
                asking.give_up(link);
            }
            if is_over {
                asking.own.clear();
            }
        }
        self.conclude_if_located(now);
    }

    fn conclude_if_located(&mut self, now: Now) {
        if let Some(LocateQuery { order, places, .. }) =
            self.safety.undoing.locating.asking.take_if(|asking| asking.is_over())
        {
            self.located(now, order, &places);
        }
    }

    /// History here was asked, for this machine or for a peer.
    pub(in crate::engine) fn located_in_history(&mut self, now: Now, found: Vec<(Sought, Option<LocatedKept>)>) {
        for (sought, located) in found {
            let key = key(&sought);
            let is_near = |stat: &Stat| stat.mtime.secs.abs_diff(sought.mtime.secs) <= LOCATE_MTIME_SECS;
            let located = located.filter(|located| located.is_hashed || is_near(&located.stat));
            let place = if located.is_some() { Place::History } else { Place::Nowhere };
            let mut is_asked = false;
            if let Some(asking) = &mut self.safety.undoing.locating.asking
                && asking.own.remove(&key)
            {
                is_asked = true;
                asking.places.note(sought.content, place);
            }
            for answering in self.safety.undoing.locating.answering.values_mut() {
                if answering.open.remove(&key) {
                    is_asked = true;
                    answering.places.note(sought.content, place);
                }
            }
            if let Some(located) = located.filter(|_| is_asked) {
                self.safety.undoing.locating.promise(now, key, located);
            }
        }
        self.answer_located();
        self.conclude_if_located(now);
    }

    pub(in crate::engine) fn locate_asked(&mut self, link: LinkId, id: u32, sought: Vec<Sought>) {
        if self.safety.undoing.locating.answering.contains_key(&link) {
            return self.core.close(link, "asks where contents are before it was answered");
        }
        let mut places = Places::default();
        let mut open = Vec::new();
        let mut is_in_folder = self.safety.is_in_folder(&self.core);
        for sought in &sought {
            if self.ignores(&sought.path, false) {
                places.note(sought.content, Place::Nowhere);
            } else if is_in_folder(sought.content, sought.size) {
                places.note(sought.content, Place::Disk);
            } else {
                open.push(sought.clone());
            }
        }
        drop(is_in_folder);
        let keys = open.iter().map(key).collect();
        self.safety.undoing.locating.answering.insert(link, Answering { id, sought, places, open: keys });
        if !open.is_empty() {
            self.core.act(Action::LocateKept(open));
        }
        self.answer_located();
    }

    fn answer_located(&mut self) {
        let answered = self.safety.undoing.locating.answering.extract_if(.., |_, answering| answering.open.is_empty());
        for (link, Answering { id, sought, places, .. }) in answered.collect::<Vec<_>>() {
            let places = sought.iter().map(|sought| places.of(sought)).collect();
            self.peers.send(&mut self.core, vec![link], Message::Located { id, places });
        }
    }
}
