//! Finding contents in history: by path, and by what is read.
//!
//! May import `engine`'s values and `model`. Deliberately not here: who asks and when
//! (`past.rs`), and what a place is worth that was not read (`engine::undo`).

use super::{History, Item};
use crate::engine::{LocatedKept, RetainReason, Stat, StatKind};
use crate::model::{ContentId, SyncPath};
use crate::wire::message::Sought;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Contents are hashed for one question for this long. Peers wait 10 s for an answer, and the last
/// file may take a while.
pub(super) const HASHING: Duration = Duration::from_secs(4);
/// Larger files (bytes) are not hashed: at 20 MB/s, such a one takes 3 s.
const HASHED_BYTES: u64 = 64 << 20;

impl History {
    /// Where each of these is, by its path, its size and, if there are several, its mtime; the
    /// newest of those.
    pub(super) fn find(&self, sought: Vec<Sought>) -> Vec<(Sought, Option<(String, Stat)>)> {
        let items = self.files_like(&sought);
        let by_path = by_path(&items);
        let place = |sought: &Sought| {
            let best = best_of_path(&by_path, sought)?;
            Some((best.name.clone(), best.facts.stat))
        };
        let places: Vec<_> = sought.iter().map(place).collect();
        sought.into_iter().zip(places).collect()
    }

    /// Where each of these is, at whatever path: what has its size is hashed, until `end` is over.
    /// What was not reached is found by its path.
    pub(super) fn find_hashed(&self, sought: Vec<Sought>, end: Instant) -> Vec<(Sought, Option<LocatedKept>)> {
        let mut items = self.files_like(&sought);
        let hashed = self.hash_until(&mut items, &sought, end);
        items.retain(|item| !hashed.names.contains(&item.name));
        let by_path = by_path(&items);
        let place = |sought: &Sought| {
            let located =
                |item: &Item, is_hashed| LocatedKept { kept: item.name.clone(), stat: item.facts.stat, is_hashed };
            let read = hashed.places.get(&sought.content).cloned();
            read.or_else(|| best_of_path(&by_path, sought).map(|item| located(item, false)))
        };
        let places: Vec<_> = sought.iter().map(place).collect();
        sought.into_iter().zip(places).collect()
    }

    /// Hashes the items of the sizes that are sought, the likeliest first, until all are found or
    /// `end` is over.
    fn hash_until(&self, items: &mut [Item], sought: &[Sought], end: Instant) -> Hashed {
        let mut open: BTreeMap<u64, BTreeSet<ContentId>> = BTreeMap::new();
        for Sought { content, size, .. } in sought {
            open.entry(*size).or_default().insert(*content);
        }
        let meant: BTreeSet<_> = sought.iter().map(|sought| (&sought.path, sought.size, sought.mtime)).collect();
        let is_likely = |item: &Item| {
            let stat = &item.facts.stat;
            item.path.as_ref().is_some_and(|path| meant.contains(&(path, stat.size, stat.mtime)))
        };
        // The likely ones first, and the newest first.
        items.sort_by(|a, b| (is_likely(b), &b.name).cmp(&(is_likely(a), &a.name)));
        let mut hashed = Hashed::default();
        for item in items.iter().filter(|item| item.facts.stat.size <= HASHED_BYTES) {
            let Some(open) = open.get_mut(&item.facts.stat.size).filter(|open| !open.is_empty()) else { continue };
            if Instant::now() >= end {
                break;
            }
            let Some(content) = self.content(&item.name).ok().flatten() else { continue };
            // What was hashed is what has this stat.
            if !self.is_as_listed(item) {
                continue;
            }
            hashed.names.insert(item.name.clone());
            if open.remove(&content) {
                let located = LocatedKept { kept: item.name.clone(), stat: item.facts.stat, is_hashed: true };
                hashed.places.insert(content, located);
            }
        }
        hashed
    }

    /// The files that have one of the sizes that are sought. A suspect's bytes are not what its
    /// path had.
    fn files_like(&self, sought: &[Sought]) -> Vec<Item> {
        let sizes: BTreeSet<u64> = sought.iter().map(|sought| sought.size).collect();
        let is_meant = |item: &Item| {
            let stat = &item.facts.stat;
            stat.kind == StatKind::File && item.reason != RetainReason::Suspect && sizes.contains(&stat.size)
        };
        match self.items() {
            Ok(mut items) => {
                items.retain(is_meant);
                items
            }
            Err(why) => {
                tracing::warn!("history cannot be listed: {why}");
                Vec::new()
            }
        }
    }
}

#[derive(Default)]
struct Hashed {
    places: BTreeMap<ContentId, LocatedKept>,
    /// All that was read, whatever it is.
    names: BTreeSet<String>,
}

fn by_path(items: &[Item]) -> BTreeMap<&SyncPath, Vec<&Item>> {
    let mut by_path: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for item in items {
        if let Some(path) = &item.path {
            by_path.entry(path).or_default().push(item);
        }
    }
    by_path
}

fn best_of_path<'a>(by_path: &BTreeMap<&SyncPath, Vec<&'a Item>>, sought: &Sought) -> Option<&'a Item> {
    let items = by_path.get(&sought.path)?.iter().filter(|item| item.facts.stat.size == sought.size);
    items.max_by_key(|item| (item.facts.stat.mtime == sought.mtime, &item.name)).copied()
}
