//! Names that the folder's file system cannot tell apart: which path holds such a name here, and
//! which must wait for it.
//!
//! Two paths are aliases when they fold to the same name. At most one of them is on disk here. The
//! others are a problem of this machine alone, and nothing of them is announced as an edit or a
//! deletion. May import the rest of `engine` and `model`. Deliberately not here: how the file
//! system folds (`io/fs/probe.rs`), and which spelling it shows.

use crate::engine::Engine;
use crate::engine::api::action::{RetainReason, Source};
use crate::engine::api::event::{Hint, Now, Observed};
use crate::engine::api::file_system::Names;
use crate::engine::api::index::{Index, OnDisk, Row};
use crate::engine::api::problem::Problem;
use crate::engine::core::Core;
use crate::engine::limits::{FREED_RETRY_NS, NAME_PATIENCE_NS, REFUSED_RETRY_NS, SECOND};
use crate::engine::merge;
use crate::engine::observe::Observe;
use crate::model::{Entry, SyncPath};
use std::collections::{BTreeMap, BTreeSet};

/// What holds a name here, by its folded form's hash; nothing where all names are told apart.
#[derive(Default)]
pub(in crate::engine) struct Aliases {
    on_disk: BTreeMap<u64, Vec<SyncPath>>,
    /// Paths that are inspected or installed just now: they may be on disk in a moment.
    at_work: BTreeMap<u64, BTreeSet<SyncPath>>,
    /// Paths that wait for a name.
    waiting: BTreeMap<u64, BTreeSet<SyncPath>>,
    taken: BTreeSet<SyncPath>,
    /// Of those, what the disk refused for a name that is not known to be here: patterns cover it,
    /// or the disk takes more for one name than `fold` does.
    refused: BTreeMap<SyncPath, AliasRefusal>,
}

/// When an install found a name to be taken last, and how often it did.
#[derive(Default)]
struct AliasRefusal {
    at: u64,
    times: u32,
    /// A name went from the folder since.
    is_freed: bool,
}

impl AliasRefusal {
    /// When it is tried again.
    fn due(&self) -> u64 {
        let most_ns = if self.is_freed { FREED_RETRY_NS } else { REFUSED_RETRY_NS };
        self.at + (SECOND << self.times.min(16)).min(most_ns)
    }
}

/// The form that all spellings of a name have in common: the lower case of the upper case of each
/// character, where each is one.
fn fold(path: &SyncPath) -> Vec<u8> {
    let one = |c: char, mut to: Box<dyn Iterator<Item = char>>| match (to.next(), to.next()) {
        (Some(folded), None) => folded,
        _ => c,
    };
    let mut out = Vec::with_capacity(path.as_bytes().len());
    for chunk in path.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            let upper = one(c, Box::new(c.to_uppercase()));
            let lower = one(upper, Box::new(upper.to_lowercase()));
            out.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

fn key(path: &SyncPath) -> u64 {
    let hash = blake3::hash(&fold(path));
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

impl Observe {
    fn folds(&self) -> bool {
        self.file_system.keeps.names != Names::Exact
    }

    /// Another path that is on disk here by the same name.
    fn alias_of(&self, path: &SyncPath) -> Option<SyncPath> {
        if !self.folds() {
            return None;
        }
        let holders = self.file_system.aliases.on_disk.get(&key(path))?;
        holders.iter().find(|holder| *holder != path && fold(holder) == fold(path)).cloned()
    }

    /// The path by which something is known that the disk shows as `path`. Its spelling says
    /// nothing where the disk has its own.
    pub(super) fn known_as<I: Index>(&self, core: &Core<I>, path: SyncPath) -> SyncPath {
        if self.file_system.keeps.names != Names::Respelled || core.is_on_disk(&path) {
            return path;
        }
        if let Some(holder) = self.alias_of(&path) {
            return holder;
        }
        let Some(parent) = path.parent() else { return path };
        SyncPath::join(Some(&self.known_as(core, parent)), path.name()).unwrap_or(path)
    }

    /// The other paths by the same name that are on disk here, or that are inspected or installed.
    fn spellings_of(&self, path: &SyncPath) -> BTreeSet<SyncPath> {
        if !self.folds() {
            return BTreeSet::new();
        }
        let key = key(path);
        let on_disk = self.file_system.aliases.on_disk.get(&key).into_iter().flatten();
        let at_work = self.file_system.aliases.at_work.get(&key).into_iter().flatten();
        let is_other = |other: &&SyncPath| *other != path && fold(other) == fold(path);
        on_disk.chain(at_work).filter(is_other).cloned().collect()
    }

    /// An inspection or an install of it begins.
    pub(in crate::engine) fn name_at_work(&mut self, path: &SyncPath) {
        if self.folds() {
            self.file_system.aliases.at_work.entry(key(path)).or_default().insert(path.clone());
        }
    }

    /// What an inspection found by a name that another path has here is that path's. (Where the
    /// disk shows names as they were made, the inspection itself tells.)
    pub(super) fn seen_by_name<I: Index>(&self, core: &Core<I>, path: &SyncPath, observed: Observed) -> Observed {
        let is_anothers =
            self.file_system.keeps.names == Names::Respelled && !core.is_on_disk(path) && self.alias_of(path).is_some();
        if is_anothers { Observed::Absent } else { observed }
    }
}

impl<I: Index> Core<I> {
    fn is_on_disk(&self, path: &SyncPath) -> bool {
        self.index.get(path).is_some_and(|row| row.live_on_disk().is_some())
    }
}

impl<I: Index> Engine<I> {
    /// A row was written; gives the paths that may have its name now.
    pub(in crate::engine) fn note_name(&mut self, path: &SyncPath, row: &Row) -> Vec<SyncPath> {
        if !self.observe.folds() {
            return Vec::new();
        }
        let key = key(path);
        if row.live_on_disk().is_some() || !row.head.is_live() {
            // However it came there: by a user's own rename, say. Or nobody wants it any more.
            self.name_is_free(path);
        }
        let holders = self.observe.file_system.aliases.on_disk.entry(key).or_default();
        holders.retain(|holder| holder != path);
        let waiting = self.observe.file_system.aliases.waiting.get(&key).into_iter().flatten();
        if row.live_on_disk().is_some() {
            holders.push(path.clone());
            // What is in the way of these is known.
            for other in waiting.clone() {
                self.observe.file_system.aliases.refused.remove(other);
            }
            if row.head.is_live() {
                return Vec::new();
            }
        }
        if holders.is_empty() {
            self.observe.file_system.aliases.on_disk.remove(&key);
        }
        waiting.filter(|other| *other != path).cloned().collect()
    }

    /// A hint's spelling is that of whoever opened the file. So every path that has the name here,
    /// or may have it in a moment, is inspected too. After a rename to another spelling, two have
    /// it by the index until the old one is known to be gone.
    pub(in crate::engine) fn hinted(&mut self, now: Now, path: SyncPath, hint: Hint) {
        let known = self.observe.known_as(&self.core, path);
        for other in self.observe.spellings_of(&known) {
            self.observe.settle.hint(now.mono, other, hint);
        }
        if hint == Hint::Gone {
            self.a_name_went(now, &known);
        }
        self.observe.settle.hint(now.mono, known, hint);
    }

    /// What the disk refused in the folder of a name that went is tried again soon.
    fn a_name_went(&mut self, now: Now, gone: &SyncPath) {
        let folder = gone.parent();
        let refused = self.observe.file_system.aliases.refused.iter_mut().filter(|(_, refused)| !refused.is_freed);
        for (path, refused) in refused.filter(|(path, _)| path.parent() == folder) {
            refused.is_freed = true;
            self.transfer.retry_at(refused.due().max(now.mono), path);
        }
    }

    /// An inspection or an install of it ended.
    pub(in crate::engine) fn name_at_rest(&mut self, path: &SyncPath) {
        if !self.observe.folds() || self.transfer.is_busy(path) || self.observe.inspecting.open.contains_key(path) {
            return;
        }
        let key = key(path);
        if let Some(at_work) = self.observe.file_system.aliases.at_work.get_mut(&key) {
            at_work.remove(path);
            if at_work.is_empty() {
                self.observe.file_system.aliases.at_work.remove(&key);
            }
        }
    }

    /// Whether a wanted path has to wait for its name, or takes it over.
    pub(in crate::engine) fn waits_for_name(&mut self, now: Now, path: &SyncPath, row: &Row) -> bool {
        if row.live_on_disk().is_some() || !self.observe.folds() {
            return false;
        }
        if path.ancestors().any(|dir| self.observe.file_system.aliases.taken.contains(&dir)) {
            self.transfer.hold_want(path);
            return true;
        }
        let Some(holder) = self.observe.alias_of(path).filter(|holder| !self.is_left_alone(holder)) else {
            return self.awaits_refused(now, path);
        };
        self.observe.file_system.aliases.waiting.entry(key(path)).or_default().insert(path.clone());
        if self.takes_name_over(now, path, row, &holder) {
            return true;
        }
        let since = self.transfer.wanted_since(path).unwrap_or(now.mono);
        if now.mono < since + NAME_PATIENCE_NS {
            self.transfer.wait(now, path, Some(SECOND));
            return true;
        }
        self.name_is_taken(path, Problem::NameTaken { holder });
        true
    }

    /// Patterns cover what is on disk there by the index. Whether it still is, nobody looks.
    fn is_left_alone(&self, holder: &SyncPath) -> bool {
        let on_disk =
            self.core.index.get(holder).and_then(|row| row.live_on_disk().map(|(entry, _)| entry.is_directory()));
        on_disk.is_some_and(|is_directory| self.ignores(holder, is_directory))
    }

    /// Nothing that is known has its name here. Whether it is tried later, as the disk refused it.
    fn awaits_refused(&mut self, now: Now, path: &SyncPath) -> bool {
        let Some(due) = self.observe.file_system.aliases.refused.get(path).map(AliasRefusal::due) else {
            self.name_is_free(path);
            return false;
        };
        if due <= now.mono {
            return false;
        }
        self.transfer.hold_want(path);
        self.transfer.wait(now, path, Some(due - now.mono));
        true
    }

    /// It cannot be here; its peers have it.
    fn name_is_taken(&mut self, path: &SyncPath, problem: Problem) {
        self.observe.file_system.aliases.taken.insert(path.clone());
        self.observe.problem(&mut self.core, path, problem);
        self.transfer.hold_want(path);
        self.transfer.note_failed(path);
    }

    /// The disk has its name by another spelling, of which nothing is known. An inspection of the
    /// path itself would find nothing, and say nothing of when to try again.
    pub(in crate::engine) fn name_is_refused(&mut self, now: Now, path: &SyncPath) {
        let refused = self.observe.file_system.aliases.refused.entry(path.clone()).or_default();
        *refused = AliasRefusal { at: now.mono, times: refused.times.saturating_add(1), is_freed: false };
        let due = refused.due();
        self.observe.file_system.aliases.waiting.entry(key(path)).or_default().insert(path.clone());
        self.name_is_taken(path, Problem::NameRefused);
        self.transfer.wait(now, path, Some(due - now.mono));
    }

    fn name_is_free(&mut self, path: &SyncPath) {
        self.observe.file_system.aliases.refused.remove(path);
        if self.observe.file_system.aliases.taken.remove(path) {
            self.transfer.note_open(path);
            if !self.observe.inspecting.unseen.contains_key(path) {
                self.observe.solve(&mut self.core, path);
            }
        }
        let key = key(path);
        if let Some(waiting) = self.observe.file_system.aliases.waiting.get_mut(&key) {
            waiting.remove(path);
            if waiting.is_empty() {
                self.observe.file_system.aliases.waiting.remove(&key);
            }
        }
    }

    /// What is on disk by the old spelling was renamed to this one: it is renamed here too, in
    /// place.
    fn takes_name_over(&mut self, now: Now, path: &SyncPath, row: &Row, holder: &SyncPath) -> bool {
        let Some(old) = self.core.index.get(holder) else { return false };
        let Some((entry, stat)) = old.live_on_disk() else { return false };
        let is_free = !old.head.is_live() && !self.transfer.is_busy(holder) && !self.awaits_inspection(holder);
        if !is_free || !entry.same_content(&row.head) {
            return false;
        }
        if holder.parent() != path.parent() {
            // It comes with its folder.
            self.transfer.wait(now, path, Some(SECOND));
            return true;
        }
        if entry.is_directory() && !self.all_below_moved(holder, path) {
            self.transfer.wait(now, path, Some(SECOND));
            return true;
        }
        let source = Source::Rename { from: holder.clone(), stat: *stat };
        self.install_as(path, row.head.clone(), None, source, RetainReason::Replaced);
        true
    }

    /// Whether what is on disk at a path is being renamed to another spelling of it: its deletion
    /// would hit that.
    pub(in crate::engine) fn is_renamed_away(&self, path: &SyncPath) -> bool {
        self.observe.folds() && self.transfer.is_being_renamed(path)
    }

    /// Whether all that is on disk in a folder was deleted there, and is wanted by the same names
    /// in another.
    fn all_below_moved(&self, from: &SyncPath, to: &SyncPath) -> bool {
        self.core.on_disk_below(from).iter().all(|below| {
            let (old, new) = (self.core.index.get(below), self.core.index.get(&moved(below, from, to)));
            let (Some(old), Some(new)) = (old, new) else { return false };
            let is_same = old.live_on_disk().is_some_and(|(entry, _)| entry.same_content(&new.head));
            is_same && !old.head.is_live() && !self.transfer.is_busy(below) && !self.awaits_inspection(below)
        })
    }

    /// It was renamed in place, with all that is in it.
    pub(in crate::engine) fn renamed_here(
        &mut self,
        now: Now,
        from: &SyncPath,
        path: &SyncPath,
        stat: Option<crate::engine::Stat>,
    ) {
        let below = self.core.on_disk_below(from);
        self.takes_row(now, from, path, stat);
        for old in below {
            let new = moved(&old, from, path);
            let stat = self.core.index.get(&old).and_then(|row| row.live_on_disk().map(|(_, stat)| *stat));
            self.takes_row(now, &old, &new, stat);
        }
        self.transfer.children_are_ready(path);
    }

    /// What was on disk by one path is so by the other: of its version, with the permissions and
    /// the mtime that it has.
    fn takes_row(&mut self, now: Now, from: &SyncPath, path: &SyncPath, stat: Option<crate::engine::Stat>) {
        let (Some(old), Some(new)) = (self.core.index.get(from), self.core.index.get(path)) else { return };
        let Some((had, _)) = old.live_on_disk() else { return };
        let is_same = had.same_content(&new.head);
        let entry = if is_same { Entry { mode: had.mode, mtime: had.mtime, ..new.head.clone() } } else { had.clone() };
        let local = !is_same && old.disk.as_ref().is_some_and(|disk| disk.local);
        let gone = (!old.head.is_live()).then(|| merge::on_disk(old.head.clone(), None));
        self.name_is_free(path);
        self.store(now, from, &Row { disk: gone, installing: None, ..old });
        self.store(now, path, &Row { disk: Some(OnDisk { entry, stat, local }), installing: None, ..new });
    }
}

/// `below`, which is in `from`, in `to`.
fn moved(below: &SyncPath, from: &SyncPath, to: &SyncPath) -> SyncPath {
    let rest = &below.as_bytes()[from.as_bytes().len()..];
    SyncPath::new([to.as_bytes(), rest].concat()).unwrap_or_else(|_| below.clone())
}

#[cfg(test)]
mod tests;
