//! The files of an hour ago, and what became of them: what the deletion guard counts (P8).
//!
//! A file counts once its content has been here for an hour; the total is what was live then. When
//! its path gets another content, or none, and the old content is at no live path any more, a
//! *span* remembers that for an hour: the path is then lost, went back to older contents, or was
//! simply rewritten. A content that is found again at any path takes its span away: so moves,
//! renames and undone changes are no losses. For `undo.rs`, a span also says what the path held
//! last, and there are spans that do not count: of links, of folders, of files of which another
//! path held a copy, and of those that were there for less than an hour. A confirmation makes what
//! is live at that moment the new total. Deliberately not here: verdicts (`guard.rs`), and what is
//! held (`hold.rs`).

use crate::engine::Engine;
use crate::engine::api::event::Now;
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Core;
use crate::engine::limits::{
    HOUR_NS, LEDGER_CHUNK, LEDGER_MOVED_NS, LEDGER_SLOTS, MINUTE_NS, NEW_LINKS_CAP, PAGE, SPANS_CAP,
};
use crate::engine::safety::Safety;
use crate::model::{ContentId, Entry, FileTime, Kind, Mode, SyncPath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const META_TOTAL: &str = "guard.totals";
const META_SPANS: &str = "guard.past";

/// Some files, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileSum {
    pub files: u64,
    pub bytes: u64,
}

impl FileSum {
    pub fn of(size: u64) -> Self {
        Self { files: 1, bytes: size }
    }

    pub fn and(self, other: Self) -> Self {
        Self { files: self.files + other.files, bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// What is counted may have been stored by a run that a crash cut off: it never goes below
    /// nothing.
    fn less(self, other: Self) -> Self {
        Self { files: self.files.saturating_sub(other.files), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// What became of a path whose content of an hour ago is at no live path any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is live, with other contents.
    Rewritten,
    /// It is live, with contents that are older by their mtime.
    Reverted,
    /// It is not live.
    Lost,
    /// It is not live, and is no loss: a link, a folder, a file of which another path held a copy
    /// when it went, or one that was there for less than an hour. What was moved is not known here.
    Beside,
}

const FATES: usize = 4;

/// What was live at a path, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    pub kind: Kind,
    pub mode: Mode,
    pub mtime: FileTime,
}

impl Thing {
    pub fn of(entry: &Entry) -> Self {
        Self { kind: entry.kind.clone(), mode: entry.mode, mtime: entry.mtime }
    }
}

/// What a path held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSpan {
    /// `None`: no file.
    pub content: Option<ContentId>,
    pub size: u64,
    pub mtime: FileTime,
    /// From when to when, by the steady clock.
    pub since: u64,
    pub until: u64,
    /// What it held last, which may be younger than an hour.
    pub last: Thing,
}

impl HeldSpan {
    /// It was there for less than an hour.
    pub fn was_young(&self) -> bool {
        self.content.is_some() && self.until.saturating_sub(self.since) < HOUR_NS
    }
}

#[derive(Debug)]
struct KnownSpan {
    seq: u64,
    span: HeldSpan,
    fate: Fate,
}

/// What is stored of it as a whole.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Total {
    /// Files on disk here.
    here: FileSum,
    /// Of those, the ones whose content came less than an hour ago, by the minute.
    young: BTreeMap<u64, FileSum>,
    /// When a person made what was live the total.
    renewed: u64,
    /// Spans that had no room, by fate, and when the last of them began.
    beyond: [FileSum; FATES],
    beyond_until: u64,
    /// The spans stored: from the first to before the next.
    first: u64,
    next: u64,
}

/// See the top of this file.
#[derive(Default)]
pub struct Ledger {
    total: Total,
    stored: Total,
    spans: BTreeMap<SyncPath, KnownSpan>,
    by_seq: BTreeMap<u64, SyncPath>,
    by_content: BTreeSet<(ContentId, SyncPath)>,
    sums: [FileSum; FATES],
    /// Links that came to new paths of late, by target and mtime: to which path, and when.
    new_links: BTreeMap<(Vec<u8>, FileTime), (SyncPath, u64)>,
    /// Chunks of spans that are to be stored.
    dirty: BTreeSet<u64>,
    /// When the rest is stored next, by the monotonic clock.
    next_store: u64,
}

impl Ledger {
    /// As the index has it; `None`: the index is older than that, or new.
    fn load(index: &impl Index) -> Option<Self> {
        let total: Total = postcard::from_bytes(&index.meta(META_TOTAL)?).ok()?;
        let mut ledger = Self { total: total.clone(), stored: total, ..Self::default() };
        for chunk in ledger.total.first / LEDGER_CHUNK..ledger.total.next.div_ceil(LEDGER_CHUNK) {
            let bytes = index.meta(&format!("{META_SPANS}.{}", chunk % LEDGER_SLOTS)).unwrap_or_default();
            let spans: Vec<(u64, SyncPath, HeldSpan, Fate)> = postcard::from_bytes(&bytes).unwrap_or_default();
            for (seq, path, span, fate) in spans {
                if seq / LEDGER_CHUNK == chunk && (ledger.total.first..ledger.total.next).contains(&seq) {
                    ledger.insert(seq, path, span, fate);
                }
            }
        }
        Some(ledger)
    }

    /// A file of an age beyond this counts.
    pub fn then(&self, now: u64) -> u64 {
        now.saturating_sub(HOUR_NS).max(self.total.renewed)
    }

    /// The files that were live an hour ago.
    pub fn total(&self) -> FileSum {
        let young = self.total.young.values().fold(FileSum::default(), |sum, young| sum.and(*young));
        let counted = [Fate::Rewritten, Fate::Reverted, Fate::Lost].map(|fate| self.sum(fate));
        let spans = counted.into_iter().fold(FileSum::default(), FileSum::and);
        self.total.here.less(young).and(spans)
    }

    /// Those that ended so.
    pub fn sum(&self, fate: Fate) -> FileSum {
        self.sums[fate as usize].and(self.total.beyond[fate as usize])
    }

    pub fn get(&self, path: &SyncPath) -> Option<(&HeldSpan, Fate)> {
        self.spans.get(path).map(|known| (&known.span, known.fate))
    }

    /// All that are known one by one, in the order of paths.
    pub fn spans(&self) -> impl Iterator<Item = (&SyncPath, &HeldSpan, Fate)> {
        self.spans.iter().map(|(path, known)| (path, &known.span, known.fate))
    }

    /// Since when a content was here that is at no live path now.
    pub fn since_of(&self, content: ContentId) -> Option<u64> {
        self.of_content(content).filter_map(|path| self.spans.get(path)).map(|known| known.span.since).min()
    }

    fn of_content(&self, content: ContentId) -> impl Iterator<Item = &SyncPath> {
        let least = SyncPath::new([1]).expect("one byte is a path");
        self.by_content.range((content, least)..).take_while(move |(of, _)| *of == content).map(|(_, path)| path)
    }

    /// A file is on disk here, with a content that came at `since`.
    pub fn came(&mut self, now: u64, since: u64, size: u64) {
        self.total.here = self.total.here.and(FileSum::of(size));
        if since > self.then(now) {
            let young = self.total.young.entry(since / MINUTE_NS).or_default();
            *young = young.and(FileSum::of(size));
        }
    }

    /// It is there no more, or no more with that content.
    pub fn went(&mut self, since: u64, size: u64) {
        self.total.here = self.total.here.less(FileSum::of(size));
        if since > self.total.renewed
            && let Some(young) = self.total.young.get_mut(&(since / MINUTE_NS))
        {
            *young = young.less(FileSum::of(size));
        }
    }

    /// A link came to a path that had none.
    fn link_came(&mut self, now: u64, target: &[u8], mtime: FileTime, path: &SyncPath) {
        if self.new_links.len() >= NEW_LINKS_CAP {
            self.new_links.retain(|_, (_, at)| *at + LEDGER_MOVED_NS >= now);
        }
        if self.new_links.len() < NEW_LINKS_CAP {
            self.new_links.insert((target.to_vec(), mtime), (path.clone(), now));
        }
    }

    /// Where a link came that went from a path at about the same time; a rename keeps its mtime.
    pub fn link_moved_to(&self, span: &HeldSpan) -> Option<&SyncPath> {
        let Kind::Symlink { target } = &span.last.kind else { return None };
        let (path, at) = self.new_links.get(&(target.clone(), span.last.mtime))?;
        (at.abs_diff(span.until) <= LEDGER_MOVED_NS).then_some(path)
    }

    /// A path lost a content that counted and is at no live path. What it held an hour ago is what
    /// it held first.
    pub fn note(&mut self, path: &SyncPath, span: HeldSpan, fate: Fate) {
        if self.spans.contains_key(path) {
            self.holds_last(path, &span.last);
            return self.judge(path, fate);
        }
        if self.spans.len() >= SPANS_CAP
            && let Some((_, oldest)) = self.by_seq.first_key_value()
            && let Some(KnownSpan { span, fate, .. }) = self.remove(&oldest.clone())
        {
            let beyond = &mut self.total.beyond[fate as usize];
            *beyond = beyond.and(FileSum::of(span.size));
            self.total.beyond_until = self.total.beyond_until.max(span.until);
        }
        let seq = self.total.next;
        self.total.next += 1;
        self.insert(seq, path.clone(), span, fate);
    }

    /// Whether there is room for what does not count: half of all is for what does.
    fn has_room(&self) -> bool {
        self.spans.len() < SPANS_CAP / 2
    }

    fn insert(&mut self, seq: u64, path: SyncPath, span: HeldSpan, fate: Fate) {
        let sum = &mut self.sums[fate as usize];
        *sum = sum.and(FileSum::of(span.size));
        self.by_seq.insert(seq, path.clone());
        self.by_content.extend(span.content.map(|content| (content, path.clone())));
        self.dirty.insert(seq / LEDGER_CHUNK);
        self.spans.insert(path, KnownSpan { seq, span, fate });
    }

    /// A path that is known held something else since, which is gone as well.
    fn holds_last(&mut self, path: &SyncPath, last: &Thing) {
        if let Some(known) = self.spans.get_mut(path).filter(|known| known.span.last != *last) {
            known.span.last = last.clone();
            self.dirty.insert(known.seq / LEDGER_CHUNK);
        }
    }

    /// What has become of a path by now.
    pub fn judge(&mut self, path: &SyncPath, fate: Fate) {
        if let Some(known) = self.spans.get_mut(path).filter(|known| known.fate != fate) {
            let size = FileSum::of(known.span.size);
            let (from, to) = (std::mem::replace(&mut known.fate, fate) as usize, fate as usize);
            self.dirty.insert(known.seq / LEDGER_CHUNK);
            self.sums[from] = self.sums[from].less(size);
            self.sums[to] = self.sums[to].and(size);
        }
    }

    /// A content is at a live path.
    pub fn found(&mut self, content: ContentId) {
        for path in self.of_content(content).cloned().collect::<Vec<_>>() {
            self.remove(&path);
        }
    }

    fn remove(&mut self, path: &SyncPath) -> Option<KnownSpan> {
        let known = self.spans.remove(path)?;
        self.by_seq.remove(&known.seq);
        if let Some(content) = known.span.content {
            self.by_content.remove(&(content, path.clone()));
        }
        let sum = &mut self.sums[known.fate as usize];
        *sum = sum.less(FileSum::of(known.span.size));
        self.dirty.insert(known.seq / LEDGER_CHUNK);
        Some(known)
    }

    /// Time passes; while something is held, no span ends by that alone: a hold does not end
    /// because it is old.
    pub fn pass(&mut self, now: u64, holds: bool) {
        let then = self.then(now);
        while let Some(minute) = self.total.young.first_entry().filter(|minute| (minute.key() + 1) * MINUTE_NS <= then)
        {
            minute.remove();
        }
        if holds {
            return;
        }
        while let Some((_, path)) = self.by_seq.first_key_value()
            && self.spans.get(path).is_none_or(|known| known.span.until <= then)
        {
            self.remove(&path.clone());
        }
        if self.total.beyond_until <= then {
            self.total.beyond = Default::default();
        }
    }

    /// A person decided: what is live now is the total.
    pub fn renew(&mut self, now: u64) {
        for path in self.spans.keys().cloned().collect::<Vec<_>>() {
            self.remove(&path);
        }
        self.total.beyond = Default::default();
        self.total.young.clear();
        self.total.renewed = now;
    }

    /// Files are counted anew: those on disk here, one by one.
    fn recount(&mut self, now: u64, files: impl Iterator<Item = (u64, u64)>) {
        self.total.here = FileSum::default();
        self.total.young.clear();
        for (since, size) in files {
            self.came(now, since, size);
        }
    }

    /// Whether spans are to be stored.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Spans at once. The files on disk are counted anew by the first walk of a run, so those may
    /// wait.
    fn store(&mut self, index: &mut impl Index, mono: u64) {
        let is_due = self.is_dirty() || self.total.renewed != self.stored.renewed || self.next_store <= mono;
        if !is_due {
            return;
        }
        self.next_store = mono + MINUTE_NS;
        self.total.first = self.by_seq.first_key_value().map_or(self.total.next, |(seq, _)| *seq);
        for chunk in std::mem::take(&mut self.dirty) {
            let spans = self
                .by_seq
                .range(chunk * LEDGER_CHUNK..(chunk + 1) * LEDGER_CHUNK)
                .filter_map(|(seq, path)| self.spans.get(path).map(|known| (*seq, path, &known.span, known.fate)));
            let spans: Vec<_> = spans.collect();
            let bytes = postcard::to_stdvec(&spans).expect("writing to memory does not fail");
            index.set_meta(&format!("{META_SPANS}.{}", chunk % LEDGER_SLOTS), &bytes);
        }
        if self.total != self.stored {
            self.stored = self.total.clone();
            let bytes = postcard::to_stdvec(&self.total).expect("writing to memory does not fail");
            index.set_meta(META_TOTAL, &bytes);
        }
    }
}

/// Where else a content is that goes from a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    Nowhere,
    /// At a path that came just now, or is about to come.
    Moved,
    /// At a path where it was before.
    Copy,
}

/// The file that a row has on disk.
fn file(row: &Row) -> Option<(ContentId, u64, FileTime)> {
    let (entry, _) = row.live_on_disk()?;
    entry.file().map(|(content, size)| (content, size, entry.mtime))
}

/// What became of a path that held the span's content.
fn fate(row: &Row, mtime: FileTime) -> Fate {
    match file(row) {
        Some((_, _, now)) if now < mtime => Fate::Reverted,
        None if !row.head.is_live() && row.live_on_disk().is_none() => Fate::Lost,
        _ => Fate::Rewritten,
    }
}

impl Safety {
    /// At the start: as it was stored, or counted anew.
    pub(in crate::engine) fn load_ledger<I: Index>(&mut self, core: &Core<I>, now: Now) {
        match Ledger::load(&core.index) {
            Some(ledger) => self.ledger = ledger,
            None => self.recount_files(core, now),
        }
    }

    /// Files on disk here and their bytes, as the guard counts them: for oracles.
    fn files_counted_here(&self) -> (u64, u64) {
        let FileSum { files, bytes } = self.ledger.total.here;
        (files, bytes)
    }

    /// Counts the files that are on disk here by the index.
    fn recount_files<I: Index>(&mut self, core: &Core<I>, now: Now) {
        let mut files = Vec::new();
        let mut after = None;
        loop {
            let page = core.index.below(None, after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            files.extend(page.iter().filter_map(|(_, row)| file(row).map(|(_, size, _)| (row.since, size))));
        }
        self.files_counted(core, now, files);
    }

    /// A whole walk came by these: when their contents came, and their sizes.
    pub(in crate::engine) fn files_counted<I: Index>(&mut self, core: &Core<I>, now: Now, files: Vec<(u64, u64)>) {
        self.ledger.recount(core.steady(now), files.into_iter());
    }

    /// A link or a folder that goes is no loss, and an undo brings it back.
    fn account_other(&mut self, now: u64, path: &SyncPath, old: Option<&Row>, row: &Row, is_meant: bool) {
        if let Some((entry, _)) = row.live_on_disk()
            && let Kind::Symlink { target } = &entry.kind
            && old.is_none_or(|old| old.live_on_disk().is_none())
            && self.ledger.get(path).is_none()
        {
            self.ledger.link_came(now, target, entry.mtime, path);
        }
        let Some((entry, _)) = old.and_then(Row::live_on_disk).filter(|(entry, _)| entry.file().is_none()) else {
            return;
        };
        let is_gone = !row.head.is_live() && row.live_on_disk().is_none();
        if is_gone && !is_meant && self.ledger.get(path).is_none() {
            let (mtime, last) = (entry.mtime, Thing::of(entry));
            let span = HeldSpan { content: None, size: 0, mtime, since: 0, until: now, last };
            self.ledger.note(path, span, Fate::Beside);
        }
    }

    /// Once a group of events.
    pub(super) fn store_ledger<I: Index>(&mut self, core: &mut Core<I>, now: Now) {
        let holds = self.holds_anything();
        self.ledger.pass(core.steady.at(now), holds);
        self.ledger.store(&mut core.index, now.mono);
    }
}

impl<I: Index> Core<I> {
    /// Whether a content is on disk at a path that is none of those that go. Each content is
    /// looked up once, for many files may hold the same.
    pub(super) fn stays_beside(&self, going: &BTreeSet<SyncPath>) -> impl FnMut(ContentId) -> bool {
        let mut known = BTreeMap::new();
        move |content| {
            let find = || self.index.find_holder(&content, &mut |holder, _| !going.contains(holder)).is_some();
            *known.entry(content).or_insert_with(find)
        }
    }
}

impl<I: Index> Engine<I> {
    /// Files on disk here and their bytes, as the guard counts them: for oracles.
    pub fn files_counted_here(&self) -> (u64, u64) {
        self.safety.files_counted_here()
    }

    /// Each row that is written is accounted for; `is_meant`: a person said so, and it is no loss.
    pub(in crate::engine) fn account(
        &mut self,
        now: Now,
        path: &SyncPath,
        old: Option<&Row>,
        row: &Row,
        is_meant: bool,
    ) {
        let (now, wall) = (self.steady(now), now.wall);
        let (before, after) = (old.and_then(file), file(row));
        let is_same = matches!((before, after), (Some((old, ..)), Some((new, ..))) if old == new);
        if let Some((content, size, mtime)) = before.filter(|_| !is_same) {
            let since = old.map_or(0, |old| old.since);
            self.safety.ledger.went(since, size);
            let is_coming_back = row.head.file().is_some_and(|(wanted, _)| wanted == content);
            if !is_meant && !is_coming_back {
                let last = old.and_then(Row::live_on_disk).map(|(entry, _)| Thing::of(entry));
                let fate = fate(row, mtime);
                let beside = self.beside_of(wall, content, path);
                match (self.safety.ledger.get(path).is_some(), last) {
                    (true, Some(last)) if fate != Fate::Rewritten => self.safety.ledger.holds_last(path, &last),
                    // For an undo. What was there for less than an hour does not count.
                    (false, Some(last)) if since > self.safety.ledger.then(now) => {
                        if fate == Fate::Lost && beside != Elsewhere::Moved && self.safety.ledger.has_room() {
                            let span = HeldSpan { content: Some(content), size, mtime, since, until: now, last };
                            self.safety.ledger.note(path, span, Fate::Beside);
                        }
                    }
                    (false, Some(last)) => {
                        let span = HeldSpan { content: Some(content), size, mtime, since, until: now, last };
                        match beside {
                            Elsewhere::Nowhere => self.safety.ledger.note(path, span, fate),
                            Elsewhere::Copy if fate == Fate::Lost => self.safety.ledger.note(path, span, Fate::Beside),
                            Elsewhere::Copy | Elsewhere::Moved => {}
                        }
                    }
                    (_, None) | (true, Some(_)) => {}
                }
            }
        }
        self.safety.account_other(now, path, old, row, is_meant);
        if let Some((content, size, _)) = after.filter(|_| !is_same) {
            self.safety.ledger.came(now, row.since, size);
            self.safety.ledger.found(content);
            self.safety.guard.review_soon(self.core.last_event.mono);
        }
        if let Some((span, was)) = self.safety.ledger.get(path) {
            let is = fate(row, span.mtime);
            if was == Fate::Beside {
                if is != Fate::Lost && row.live_on_disk().is_some() {
                    self.safety.ledger.remove(path);
                }
            } else if is != was && !(is_meant && is != Fate::Rewritten) {
                self.safety.ledger.judge(path, is);
            }
        }
    }

    /// Whether a content that goes from a path is at another one, and came there just now.
    fn beside_of(&self, wall: u64, content: ContentId, path: &SyncPath) -> Elsewhere {
        if self.transfer.is_wanted_beside(content, path) {
            return Elsewhere::Moved;
        }
        // A rename sets the ctime, and so does an install.
        let is_new = |row: &Row| {
            row.live_on_disk().is_some_and(|(_, stat)| stat.ctime.as_stamp().saturating_add(LEDGER_MOVED_NS) >= wall)
        };
        let holders = self.core.index.holders(&content);
        let others: Vec<_> = holders.iter().filter(|holder| *holder != path).collect();
        if others.is_empty() {
            Elsewhere::Nowhere
        } else if others.iter().filter_map(|holder| self.core.index.get(holder)).any(|row| is_new(&row)) {
            Elsewhere::Moved
        } else {
            Elsewhere::Copy
        }
    }

    /// Of files that are about to go, or to go back, what was here an hour ago and will be at no
    /// live path.
    pub(super) fn losses(&self, now: Now, these: &BTreeSet<SyncPath>, going: &BTreeSet<SyncPath>) -> FileSum {
        let then = self.safety.ledger.then(self.steady(now));
        let mut stays_beside = self.core.stays_beside(going);
        let lost = these.iter().filter_map(|path| {
            let row = self.core.index.get(path)?;
            let (content, size, _) = file(&row)?;
            if let Some((span, fate)) = self.safety.ledger.get(path).filter(|(_, fate)| *fate != Fate::Beside) {
                return (fate != Fate::Lost).then_some(FileSum::of(span.size));
            }
            let mut stays = || stays_beside(content) || self.transfer.is_wanted_beside(content, path);
            (row.since <= then && !stays()).then_some(FileSum::of(size))
        });
        lost.fold(FileSum::default(), FileSum::and)
    }
}

#[cfg(test)]
mod tests;
