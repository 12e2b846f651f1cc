//! Losers that are merged into what won over them: what texts once were, the merge, and what it
//! must hold.
//!
//! A text is a set of lines, each written by a user once, so that everyone can say what a merge of
//! two must hold. Deliberately not here: which losers are merged, and what becomes of a merge (the
//! engine's).

use super::bugs::Bug;
use super::disk::PathChange;
use super::ledger::NodeId;
use super::plan::SECOND;
use super::rng::Rng;
use super::shell::Step;
use super::tree::{Body, Data, Inode, Tree, Value};
use super::users::{Op, may_be_chosen};
use super::world::World;
use bytes::Bytes;
use dirsyncd::engine::{Event, Merge, StageId, Stat, common_ancestor};
use dirsyncd::model::path::IGNORE_FILE;
use dirsyncd::model::{ContentId, Entry, SyncPath, Version};
use std::collections::BTreeSet;

/// Of one path.
const BASES: usize = 6;

/// A version of a path that a conflict may be merged upon.
pub struct Base {
    version: Version,
    data: Data,
}

/// What the shell answered to a merge.
struct Made {
    node: NodeId,
    path: SyncPath,
    ours: Data,
    theirs: Data,
    merged: Data,
    /// Its lines: one that a power cut left without an end runs into the next.
    held: BTreeSet<Bytes>,
}

/// What merges were made of, and which lines users took out of what stood at a path.
#[derive(Default)]
pub struct Texts {
    made: Vec<Made>,
    removed: BTreeSet<(SyncPath, Bytes)>,
    /// Lines that went to history with the loser of a conflict, which was told.
    lost: BTreeSet<(SyncPath, Bytes, NodeId, String)>,
}

impl Texts {
    /// What a user, or the disk, took out of a path.
    pub fn changed(&mut self, change: &PathChange) {
        let text = |at: &Option<(u64, std::sync::Arc<Inode>)>| match at.as_ref().map(|(_, inode)| &inode.body) {
            Some(Body::File(data)) => data.clone(),
            _ => Data::default(),
        };
        self.replaced(&change.path, &text(&change.before), &text(&change.after));
    }

    pub fn replaced(&mut self, path: &SyncPath, before: &Data, after: &Data) {
        let left = lines(after);
        self.removed.extend(lines(before).difference(&left).map(|line| (path.clone(), line.clone())));
    }

    /// Whether the node was given such a merge: a version of its own, and no user's.
    pub fn is_merge(&self, node: NodeId, path: &SyncPath, content: ContentId) -> bool {
        self.made.iter().any(|made| (made.node, &made.path) == (node, path) && made.merged.content() == content)
    }
}

/// Each with the `;` that ends it.
fn lines(data: &Data) -> BTreeSet<Bytes> {
    data.text.split_inclusive(|byte| *byte == b';').map(|line| data.text.slice_ref(line)).collect()
}

/// Every line that either side wrote, without those that either side took out.
fn merge3(base: &Data, ours: &Data, theirs: &Data) -> BTreeSet<Bytes> {
    let (base, ours, theirs) = (lines(base), lines(ours), lines(theirs));
    let stays = |line: &&Bytes| !base.contains(*line) || (ours.contains(*line) && theirs.contains(*line));
    ours.union(&theirs).filter(stays).cloned().collect()
}

/// Somebody writes a line into a text that is there, and perhaps takes one out.
pub fn edit_text(rng: &mut Rng, tree: &Tree, fresh: &Data) -> Option<Op> {
    let texts = tree.listing().into_iter().filter_map(|(path, (_, inode))| match &inode.body {
        Body::File(data) if data.padding == 0 && may_be_chosen(&path) => Some((path, data.clone())),
        _ => None,
    });
    let texts: Vec<(SyncPath, Data)> = texts.collect();
    if texts.is_empty() {
        return None;
    }
    let (path, old) = rng.pick(&texts).clone();
    let mut lines: Vec<Bytes> = lines(&old).into_iter().collect();
    if !lines.is_empty() && rng.chance(300) {
        lines.remove(rng.index(lines.len()));
    }
    let data = Data::small([&lines.concat()[..], &fresh.text[..]].concat());
    Some(if rng.chance(500) { Op::Overwrite { path, data } } else { Op::Save { path, data, mtime: None } })
}

impl World {
    pub fn merge_later(&mut self, node: NodeId, step: Step) {
        let most_ns = *self.rng.pick(&[self.plan.disk_ns, self.plan.disk_ns, 3 * SECOND]);
        self.step_soon(node, most_ns, step);
    }

    /// Keeps what a later conflict may be merged upon; now and then it is forgotten.
    pub fn keep_base(&mut self, node: NodeId, path: SyncPath, entry: &Entry, stat: Stat) {
        let is_forgotten = self.rng.chance(100);
        let here = &mut self.nodes[node];
        let Some(data) = text_at(&here.disk.live, &path, stat, entry).filter(|_| !is_forgotten) else { return };
        let bases = here.texts.entry(path).or_default();
        if bases.iter().all(|base| base.version != entry.version) {
            bases.push(Base { version: entry.version.clone(), data });
            bases.sort_by_key(|base| std::cmp::Reverse(base.version.stamp));
            bases.truncate(BASES);
        }
    }

    /// They are not made durable: a power cut takes some.
    pub fn tear_bases(&mut self, node: NodeId) {
        for bases in self.nodes[node].texts.values_mut() {
            bases.retain(|_| self.rng.chance(700));
        }
    }

    pub fn merge(&mut self, node: NodeId, path: SyncPath, ours: &Entry, kept: &str, theirs: (&Entry, Stat)) {
        let merge = self.merge_of(node, &path, ours, kept, theirs);
        self.tell(node, Event::Merged { path, kept: kept.to_owned(), merge });
    }

    fn merge_of(
        &mut self,
        node: NodeId,
        path: &SyncPath,
        ours: &Entry,
        kept: &str,
        (theirs, stat): (&Entry, Stat),
    ) -> Merge {
        let meets = self.rng.chance(150);
        let takes_any = self.has(Bug::MergesUponAnyBase);
        let here = &mut self.nodes[node];
        let loser = here.disk.live.history.get(kept).map(|ino| here.disk.live.inodes[ino].body.clone());
        let Some(their_text) = text_at(&here.disk.live, path, stat, theirs) else { return Merge::Moved };
        let no_bases = Vec::new();
        let bases = here.texts.get(path).unwrap_or(&no_bases);
        let of = |base: &Base| (base.version.stamp, base.version.author, base.version.counter());
        let base = if takes_any { bases.first() } else { common_ancestor(&ours.version, &theirs.version, bases, of) };
        let (Some(Body::File(our_text)), Some(base), false) = (loser, base, meets) else { return Merge::Impossible };
        if Some((our_text.content(), our_text.size())) != ours.file() {
            return Merge::Impossible;
        }
        let held = merge3(&base.data, &our_text, &their_text);
        let merged = Data::small(held.iter().flat_map(|line| line.to_vec()).collect::<Vec<_>>());
        here.next_stage += 1;
        let staged = StageId(here.next_stage);
        here.staging.insert(staged, merged.clone());
        let done = Merge::Done { staged, size: merged.size(), content: merged.content() };
        let path = path.clone();
        self.ledger.texts.made.push(Made { node, path, ours: our_text, theirs: their_text, merged, held });
        done
    }

    /// A conflict is told: the lines of its loser are in history, for a person to look at.
    pub fn note_conflict(&mut self, node: NodeId, path: &SyncPath, kept: Option<&String>) {
        let tree = &self.nodes[node].disk.live;
        let Some(kept) = kept else { return };
        let body = tree.history.get(kept).map(|ino| &tree.inodes[ino].body);
        if let Some(Body::File(data)) = body {
            let lost = lines(data).into_iter().map(|line| (path.clone(), line, node, kept.clone()));
            self.ledger.texts.lost.extend(lost);
        }
    }

    /// What is told to be merged holds every line of both sides that no user and no other conflict
    /// took out, and is from then on like anything that a user wrote (P2).
    pub fn check_merged(&mut self, node: NodeId, path: &SyncPath, entry: &Entry, loser: &Entry, kept: &str) {
        let texts = &self.ledger.texts;
        let content = |entry: &Entry| entry.file().map(|(content, _)| content);
        let is_it = |made: &&Made| {
            (made.node, &made.path) == (node, path)
                && Some(made.merged.content()) == content(entry)
                && Some(made.ours.content()) == content(loser)
        };
        let Some(made) = texts.made.iter().find(is_it) else {
            return self.fail(format!("n{node} tells of a merge at {path:?} that nobody made"));
        };
        let both = lines(&made.ours).into_iter().chain(lines(&made.theirs));
        let is_gone = |line: &Bytes| {
            let by_another = |(at, lost, other, item): &(SyncPath, Bytes, NodeId, String)| {
                (at, lost) == (path, line) && (*other, item.as_str()) != (node, kept)
            };
            texts.removed.contains(&(path.clone(), line.clone())) || texts.lost.iter().any(by_another)
        };
        let missing = both.filter(|line| !made.held.contains(line)).find(|line| !is_gone(line));
        let value = Value::File(made.merged.clone());
        // Patterns are written more than once, and end their lines otherwise: of them it is not
        // known what a merge must hold.
        if let Some(line) = missing.filter(|_| path.as_bytes() != IGNORE_FILE.as_bytes()) {
            return self.fail(format!("n{node} merged {line:?} away at {path:?}, which no user took out"));
        }
        self.ledger.written.entry(value).or_insert_with(|| (node, path.clone()));
    }
}

/// The text at a path, if it is what it was.
fn text_at(tree: &Tree, path: &SyncPath, stat: Stat, entry: &Entry) -> Option<Data> {
    let (ino, inode) = tree.get(path)?;
    let Body::File(data) = &inode.body else { return None };
    let is_it = inode.stat(ino) == stat && entry.file() == Some((data.content(), data.size()));
    (is_it && data.padding == 0).then(|| data.clone())
}
