//! What a power cut leaves of files that were being written, and how the next start knows of the
//! cut.
//!
//! What a cut tore is no edit where it was known what the file held (P5): nobody may hear of it.
//! Deliberately not here: the disk that forgets (`disk`), and what is made of a torn file (the
//! engine's).

use super::bugs::Bug;
use super::ledger::{Ledger, NodeId};
use super::plan::SECOND;
use super::rng::Rng;
use super::tree::{Body, Data, Listing};
use super::users::Op;
use super::world::World;
use dirsyncd::engine::api::index::Row;
use dirsyncd::engine::observe::torn::Cut;
use dirsyncd::model::{ContentId, Entry, SyncPath};
use dirsyncd::wire::message::SMALL_FILE_BYTES;
use std::collections::{BTreeMap, BTreeSet};

/// As the daemon does, in its index.
const META_CUT: &str = "daemon.cut";
/// What was written before this was written back since, by the daemon's reckoning and in truth
/// (ns).
const RECKONED_NS: u64 = 60 * SECOND;
pub const WRITTEN_BACK_NS: u64 = 30 * SECOND;
/// Files lose their ends in whole blocks.
const BLOCK_BYTES: u64 = 512;
/// For the last whole version to come from wherever it is.
const LONG_ENOUGH_NS: u64 = 60 * SECOND;
const ROUNDS: usize = 4;

/// What is left of bytes that were not durable. `old`: what was there before.
pub fn torn(rng: &mut Rng, written: &Data, old: Option<&Data>) -> Data {
    match rng.below(8) {
        0 | 1 => written.clone(),
        // Half of it was written, and somebody had that synced.
        2 => Data::small(written.text.slice(..rng.index(written.text.len() + 1))),
        3 | 4 => old.cloned().unwrap_or_default(),
        5 => first_blocks(written, rng.below(written.size() / BLOCK_BYTES + 1)),
        6 if written.padding == 0 => Data::small(vec![0; written.text.len()]),
        _ => Data::default(),
    }
}

fn first_blocks(written: &Data, blocks: u64) -> Data {
    let size = blocks * BLOCK_BYTES;
    let text = written.text.slice(..written.text.len().min(size as usize));
    let padding = size - text.len() as u64;
    if size <= SMALL_FILE_BYTES {
        // Such a one travels whole, in one message.
        return Data::small([&text[..], &vec![0; padding as usize]].concat());
    }
    Data { text, padding }
}

/// Whether nobody would take it for all that somebody wrote over a file of that size.
fn looks_torn(data: &Data, known_size: u64) -> bool {
    let is_nothing = data.padding == 0 && data.text.iter().all(|byte| *byte == 0);
    is_nothing || (data.size() < known_size && data.size().is_multiple_of(BLOCK_BYTES))
}

impl Ledger {
    /// A cut left these on the node's disk. What it tore of a file that the index knows is no edit,
    /// and undoes the one that was under way.
    fn cut_tore<'a>(
        &mut self,
        node: NodeId,
        listing: &Listing,
        row: impl Fn(&SyncPath) -> Option<&'a Row>,
        is_covered: impl Fn(u64) -> bool,
    ) {
        for (path, (_, inode)) in listing {
            let (Body::File(data), Some(row)) = (&inode.body, row(path)) else { continue };
            let Some((known, size)) = row.live_on_disk().and_then(|(known, _)| known.file()) else { continue };
            let heard = [Some(&row.head), row.installing.as_ref()].into_iter().flatten();
            let content = data.content();
            let is_known = content == known || heard.filter_map(Entry::file).any(|(heard, _)| heard == content);
            if !is_known && looks_torn(data, size) && is_covered(inode.ctime.as_stamp()) {
                self.torn.insert((node, path.clone()), content);
                self.overwrites
                    .retain(|over| (over.node, &over.path) != (node, path) || over.value.content() != Some(known));
            }
        }
    }
}

impl World {
    /// The power is cut: the next start knows when.
    pub fn note_cut(&mut self, node: NodeId) {
        let tick = self.plan.tick_ns;
        let here = &mut self.nodes[node];
        let wall = here.wall(self.now);
        // Nobody works while it boots.
        here.dark_until = self.now + 2 * tick;
        let cut = Cut { since: here.last_commit.saturating_sub(RECKONED_NS), until: wall };
        let cut = here.pending_cut().map_or(cut, |pending| cut.with(pending));
        here.durable.meta.insert(META_CUT.to_owned(), [cut.since.to_be_bytes(), cut.until.to_be_bytes()].concat());
        if !here.is_restored {
            let covers = |stamp: u64| (cut.since..=cut.until).contains(&stamp);
            self.ledger.cut_tore(node, &here.disk.live.listing(), |path| here.durable.rows.get(path), covers);
        }
    }

    /// What the daemon tells the engine before it starts.
    pub fn cut_before(&self, node: NodeId) -> Option<Cut> {
        let cut = self.nodes[node].pending_cut();
        cut.filter(|_| !self.has(Bug::HidesPowerCuts))
    }

    /// What a cut tore and nobody has touched since is announced to nobody (P5).
    pub fn check_torn(&mut self, node: NodeId, path: &SyncPath) {
        let here = &self.nodes[node];
        let Some(torn) = self.ledger.torn.get(&(node, path.clone())) else { return };
        let Some(winner) = here.durable.rows.get(path).map(|row| &row.head) else { return };
        let is_told = winner.file().is_some_and(|(content, _)| content == *torn);
        if is_told && winner.version.author == here.device {
            self.fail(format!("n{node} tells of what a power cut left at {path:?}: {winner:?}"));
        }
    }

    /// Where nobody has the last whole version of a torn file any more, whoever was writing it
    /// writes it again.
    pub fn settle_torn(&mut self) {
        for _ in 0..ROUNDS {
            self.run_for(LONG_ENOUGH_NS);
            let shown = self.nodes.iter().flat_map(|node| node.disk.live.shown());
            let contents: BTreeSet<ContentId> = shown.filter_map(|value| value.content()).collect();
            let is_lost = |(node, path): &(NodeId, SyncPath)| {
                let row = self.nodes[*node].durable.rows.get(path).filter(|row| !row.is_settled());
                // What came over it elsewhere is not installed there, or nobody else ever had it.
                if row.is_some_and(|row| row.is_local() || self.differs_by_role(*node, row)) {
                    return true;
                }
                row.and_then(|row| row.head.file()).is_some_and(|(content, _)| !contents.contains(&content))
            };
            let lost: Vec<_> = self.ledger.torn.keys().filter(|at| is_lost(at)).cloned().collect();
            if self.broken.is_some() || lost.is_empty() {
                return;
            }
            for (node, path) in lost {
                let data = self.fresh(node);
                self.user_does(node, &Op::Save { path, data, mtime: None });
            }
        }
    }
}

/// What cuts tore, by machine and path, until somebody puts something else there.
pub type Torn = BTreeMap<(NodeId, SyncPath), ContentId>;

impl super::node::Node {
    fn pending_cut(&self) -> Option<Cut> {
        let (since, until) = self.durable.meta.get(META_CUT)?.split_first_chunk::<8>()?;
        Some(Cut { since: u64::from_be_bytes(*since), until: u64::from_be_bytes(until.try_into().ok()?) })
    }
}
