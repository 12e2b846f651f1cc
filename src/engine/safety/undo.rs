//! The answer "no" to what is held: it comes back, and so does what the same count had let through.
//!
//! What is missing here and held was announced to nobody: it is forgotten, and comes from the
//! peers' disks. What peers did and is held here is made anew on top of that, as it is on this
//! disk. What was let through in the last hour is made anew from what the ledger says that it was;
//! each machine that had it takes its content from its own history (`Source::Kept`), and the others
//! from those.
//!
//! Linked machines are told, and take back what they hold. Two machines that undo at once make
//! equal entries, which are no conflict. Deliberately not here:
//! changes dated ahead and paths that patterns uncovered, which take nothing away.

use crate::engine::Engine;
use crate::engine::api::action::{Action, Report};
use crate::engine::api::event::{Now, Stat};
use crate::engine::api::index::{Index, Row};
use crate::engine::core::Believed;
use crate::engine::core::Core;
use crate::engine::limits::{PAGE, UNDO_PAUSE_NS};
use crate::engine::merge;
use crate::engine::safety::Safety;
use crate::engine::safety::guard::{self, LossVerdict};
use crate::engine::safety::ledger::{Fate, HeldSpan, Thing};
use crate::model::version::{SEEN_LIMIT, STAMP_STEP};
use crate::model::{DeviceId, Entry, Kind, SyncPath};
use crate::wire::features::UNDO;
use crate::wire::message::{Change, Message};
use std::collections::{BTreeMap, BTreeSet};

mod locate;
mod orders;
mod resume;

pub use orders::Undone;
pub(in crate::engine) use orders::{Order, Undoing};

/// A path that an undo brings back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    pub path: SyncPath,
    pub from: BackFrom,
}

/// Where its content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackFrom {
    /// On the disks of other machines.
    Peers,
    /// On this disk.
    Here,
    /// On no disk, and in a history.
    History,
}

/// What brings a path back.
enum UndoWay {
    /// It is missing here, and nobody else heard of that.
    Forget,
    /// It went back to older contents here, and nobody else heard of that.
    Refuse,
    /// It is made anew, as it was. `counts`: it was a loss.
    Again { thing: Thing, counts: bool },
    /// The same, of what is missing here and was deleted by a peer, too.
    Anew(Thing),
}

type Ways = BTreeMap<SyncPath, UndoWay>;

impl UndoWay {
    fn missed(thing: Thing) -> Self {
        Self::Again { thing, counts: true }
    }

    /// Nobody else heard of it, and it needs no new version.
    fn is_quiet(&self) -> bool {
        matches!(self, Self::Forget | Self::Refuse)
    }

    /// A person is told if it cannot come back, since it was no file of a moment.
    fn is_missed(&self) -> bool {
        matches!(self, Self::Again { counts: true, .. } | Self::Anew(_))
    }
}

impl Safety {
    fn was_moved_link<I: Index>(&self, core: &Core<I>, path: &SyncPath, span: &HeldSpan) -> bool {
        let is_there =
            |to: &SyncPath| to != path && core.index.get(to).is_some_and(|row| row.head.kind == span.last.kind);
        self.ledger.link_moved_to(span).is_some_and(is_there)
    }

    /// What went back to older contents in the last hour.
    fn reverted_of_late<I: Index>(&self, core: &Core<I>) -> Ways {
        let is_older = |path: &SyncPath, span: &HeldSpan| {
            let row = core.index.get(path);
            row.is_some_and(|row| row.head.file().is_some() && row.head.kind != span.last.kind)
        };
        let spans = self.ledger.spans().filter(|(path, span, fate)| *fate == Fate::Reverted && is_older(path, span));
        spans.map(|(path, span, _)| (path.clone(), UndoWay::missed(span.last.clone()))).collect()
    }

    /// The folders that those need, as they were. Of others, each machine makes the same.
    fn add_folders<I: Index>(&self, core: &Core<I>, ways: &mut Ways) {
        let again = ways.iter().filter(|(_, way)| matches!(way, UndoWay::Again { .. })).map(|(path, _)| path);
        let above: BTreeSet<SyncPath> = again.flat_map(SyncPath::ancestors).collect();
        for dir in above {
            let Some(row) = core.index.get(&dir).filter(|row| !row.head.is_live()) else { continue };
            let on_disk = row.live_on_disk().map(|(entry, _)| Thing::of(entry));
            let was = on_disk.or_else(|| self.ledger.get(&dir).map(|(span, _)| span.last.clone()));
            if let Some(was) = was.filter(|was| was.kind == Kind::Directory) {
                ways.entry(dir).or_insert(UndoWay::missed(was));
            }
        }
        // A link alone brings no folder back.
        let lacks_folder = |path: &SyncPath| {
            path.parent().is_some_and(|dir| {
                !ways.contains_key(&dir) && !core.index.get(&dir).is_some_and(|row| row.head.is_directory())
            })
        };
        let is_link =
            |way: &UndoWay| matches!(way, UndoWay::Again { thing, .. } if matches!(thing.kind, Kind::Symlink { .. }));
        let lonely: Vec<_> = ways
            .iter()
            .filter(|(path, way)| is_link(way) && lacks_folder(path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in lonely {
            ways.remove(&path);
        }
    }

    /// What the ledger is to remember of a path over the undo.
    fn stood<I: Index>(&self, core: &Core<I>, now: Now, path: &SyncPath) -> Option<(HeldSpan, Fate)> {
        // What ended before a person decided is forgotten.
        let until = core.steady(now) + 1;
        if let Some((span, fate)) = self.ledger.get(path) {
            return Some((HeldSpan { until, ..span.clone() }, fate));
        }
        let row = core.index.get(path)?;
        let (entry, _) = row.live_on_disk()?;
        let (content, size) = entry.file()?;
        let (mtime, since, last) = (entry.mtime, row.since, Thing::of(entry));
        Some((HeldSpan { content: Some(content), size, mtime, since, until, last }, Fate::Lost))
    }
}

impl<I: Index> Core<I> {
    fn way_of_missing(&self, path: &SyncPath) -> Option<UndoWay> {
        let row = self.index.get(path)?;
        let (entry, _) = row.live_on_disk()?;
        Some(if row.head.is_live() { UndoWay::Forget } else { UndoWay::Anew(Thing::of(entry)) })
    }

    /// Whether nothing that was in a folder went elsewhere at that time: then it was not moved.
    fn went_empty(&self, dir: &SyncPath, lost: &Ways, folders: &BTreeMap<&SyncPath, &HeldSpan>) -> bool {
        let deleted_at = |row: &Row| if let Kind::Deleted { at } = row.head.kind { Some(at) } else { None };
        let Some(at) = self.index.get(dir).as_ref().and_then(deleted_at) else { return false };
        let mut after = None;
        loop {
            let page = self.index.below(Some(dir), after.as_ref(), PAGE);
            let went_then = |row: &Row| deleted_at(row).is_none_or(|of| of.saturating_add(UNDO_PAUSE_NS) >= at);
            let went_elsewhere = |(path, row): &(SyncPath, Row)| {
                went_then(row) && !lost.contains_key(path) && !folders.contains_key(path)
            };
            if page.iter().any(went_elsewhere) {
                return false;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => return true,
            }
        }
    }
}

impl<I: Index> Engine<I> {
    /// What there is to be undone, in the order of paths. Empty: nothing is held, and no more than
    /// half was lost within the hour. For oracles.
    pub fn undoable(&self) -> Vec<SyncPath> {
        self.ways_back().into_keys().collect()
    }

    fn ways_back(&self) -> Ways {
        let losses = self.safety.ledger.sum(Fate::Lost);
        let is_reported = guard::judge_losses(losses, self.safety.ledger.total()) != LossVerdict::Believe;
        let by_peers: BTreeSet<_> = self.safety.guard.held_from_peers().cloned().collect();
        let (deletions, reverts) = self.safety.guard.counts();
        let undoes_deletions = is_reported || deletions > 0 || !self.safety.held.is_empty();
        let mut ways = BTreeMap::new();
        if undoes_deletions {
            ways.extend(self.lost_of_late());
        }
        if reverts > 0 {
            ways.extend(self.safety.reverted_of_late(&self.core));
        }
        for path in by_peers {
            let row = self.core.index.get(&path);
            if let Some((entry, _)) = row.as_ref().and_then(Row::live_on_disk) {
                ways.insert(path, UndoWay::missed(Thing::of(entry)));
            }
        }
        let is_known = |path: &&SyncPath| self.core.index.get(path).is_some_and(|row| row.live_on_disk().is_some());
        ways.extend(self.safety.guard.own_reverts().filter(is_known).map(|path| (path.clone(), UndoWay::Refuse)));
        ways.extend(self.safety.held.iter().filter_map(|path| Some((path.clone(), self.core.way_of_missing(path)?))));
        self.safety.add_folders(&self.core, &mut ways);
        ways
    }

    /// What was deleted in the last hour and counts; and what went with it and does not.
    fn lost_of_late(&self) -> Ways {
        let is_gone = |path: &SyncPath| self.core.index.get(path).is_some_and(|row| !row.head.is_live());
        let may_come = |path: &SyncPath| {
            let is_folder = |dir: SyncPath| {
                self.core.index.get(&dir).is_none_or(|row| !row.head.is_live() || row.head.is_directory())
            };
            !self.ignores(path, false) && path.ancestors().all(is_folder)
        };
        let gone = self.safety.ledger.spans().filter(|(path, ..)| is_gone(path) && may_come(path));
        let (counted, beside): (Vec<_>, Vec<_>) = gone
            .filter(|(.., fate)| matches!(fate, Fate::Lost | Fate::Beside))
            .partition(|(.., fate)| *fate == Fate::Lost);
        let mut untils: Vec<_> = counted.iter().map(|(_, span, _)| span.until).collect();
        untils.sort_unstable();
        let from = begin_of_burst(&untils);
        // A crash may come between what was let through and the rest, and what went last is no part
        // of the first burst then. Files of a moment come back of the last burst alone.
        let goes_along = |span: &HeldSpan| span.until >= from || (!span.was_young() && is_near(&untils, span.until));
        let mut lost: Ways =
            counted.into_iter().map(|(path, span, _)| (path.clone(), UndoWay::missed(span.last.clone()))).collect();
        let beside = beside.into_iter().map(|(path, span, _)| (path, span)).filter(|(_, span)| goes_along(span));
        let (folders, others): (Vec<_>, Vec<_>) = beside.partition(|(_, span)| span.last.kind == Kind::Directory);
        let way = |span: &HeldSpan| UndoWay::Again { thing: span.last.clone(), counts: !span.was_young() };
        let others = others.into_iter().filter(|(path, span)| !self.safety.was_moved_link(&self.core, path, span));
        lost.extend(others.map(|(path, span)| (path.clone(), way(span))));
        let folders: BTreeMap<_, _> = folders.into_iter().collect();
        let empty: Vec<_> = folders.iter().filter(|(dir, _)| self.core.went_empty(dir, &lost, &folders)).collect();
        lost.extend(empty.into_iter().map(|(dir, span)| ((*dir).clone(), way(span))));
        lost
    }

    /// Tells peers but those that it was sent to already.
    fn announce_undo(&mut self, relayed_to: &[DeviceId]) {
        let links =
            self.peers.links_where(|session| session.features.has(UNDO) && !relayed_to.contains(&session.device));
        let devices = links.iter().filter_map(|link| self.peers.device_of(*link));
        let relayed_to: Vec<_> = relayed_to.iter().copied().chain([self.core.config.device]).chain(devices).collect();
        // A longer list could not end it.
        if !links.is_empty() && relayed_to.len() < SEEN_LIMIT {
            self.peers.send(&mut self.core, links, Message::Undo { relayed_to });
        }
    }

    fn take_back_all(&mut self, now: Now, ways: Ways) {
        let stood: Vec<_> =
            ways.keys().filter_map(|path| Some((path.clone(), self.safety.stood(&self.core, now, path)?))).collect();
        self.safety.renew_total(&self.core, now);
        for (path, (span, fate)) in stood {
            // What comes back counts, and is as old as it was.
            self.safety.ledger.note(&path, span, if fate == Fate::Beside { fate } else { Fate::Rewritten });
        }
        self.safety.guard.no_emptied_folder();
        let paths = ways.len() as u64;
        for (path, way) in ways {
            match way {
                UndoWay::Forget => {
                    self.safety.held.remove(&path);
                    self.forget(now, &path);
                }
                UndoWay::Refuse => self.inspect_refusing(&path),
                UndoWay::Again { thing, .. } => self.make_again(now, &path, thing),
                UndoWay::Anew(thing) => {
                    self.safety.held.remove(&path);
                    self.forget(now, &path);
                    self.make_again(now, &path, thing);
                }
            }
        }
        self.transfer.retry_all();
        self.core.out.push(Action::Report(Report::Undone { paths }));
    }

    /// A version on top of whatever is the winner, told at once: whoever deleted the file on
    /// another machine's word has its content in history.
    fn make_again(&mut self, now: Now, path: &SyncPath, thing: Thing) {
        let Some(row) = self.core.index.get(path) else { return };
        let Thing { kind, mode, mtime } = thing;
        let stamp = row.head.version.stamp.saturating_add(STAMP_STEP);
        let entry = self.reconcile.mint(&mut self.core, kind, mode, mtime, stamp, Some(&row.head));
        self.take_in(now, path, entry.clone());
        self.announce(now, Change { path: path.clone(), entry, body: None }, Vec::new());
    }

    fn inspect_refusing(&mut self, path: &SyncPath) {
        self.safety.guard.forget_revert(path);
        self.inspect_believing(path, Believed::Refused);
    }

    /// Older contents are here, which nobody wants: the group's come over them, and they go to
    /// history.
    pub(super) fn refuse_revert(&mut self, now: Now, path: &SyncPath, kind: Kind, stat: &Stat) {
        let Some(row) = self.core.index.get(path) else { return };
        let Some((newer, _)) = row.live_on_disk().map(|(entry, stat)| (entry.clone(), *stat)) else { return };
        let here = Entry { kind, mode: stat.mode, mtime: stat.mtime, version: newer.version.clone() };
        let mut winner = row.head.clone();
        if winner.same_on_disk(&newer) {
            let stamp = winner.version.stamp.saturating_add(STAMP_STEP);
            winner = self.reconcile.mint(&mut self.core, newer.kind, newer.mode, newer.mtime, stamp, Some(&row.head));
        }
        let disk = Some(merge::on_disk(here, Some(*stat)));
        self.store(now, path, &Row { head: winner.clone(), disk, ..row });
        self.announce(now, Change { path: path.clone(), entry: winner, body: None }, Vec::new());
    }
}

/// Whether something of these, in order, ended at about the same time.
fn is_near(untils: &[u64], until: u64) -> bool {
    let next = untils.partition_point(|other| other.saturating_add(UNDO_PAUSE_NS) < until);
    untils.get(next).is_some_and(|other| *other <= until.saturating_add(UNDO_PAUSE_NS))
}

/// When the burst began that ended with the last of these, which are in order.
fn begin_of_burst(untils: &[u64]) -> u64 {
    let mut ends = untils.iter().copied().rev();
    let Some(last) = ends.next() else { return 0 };
    let mut begin = last;
    for until in ends {
        if begin - until > UNDO_PAUSE_NS {
            break;
        }
        begin = until;
    }
    begin.saturating_sub(UNDO_PAUSE_NS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::SECOND;
    use rstest::rstest;

    #[rstest]
    #[case::none(&[], 0)]
    #[case::one(&[500], 380)]
    #[case::close_together(&[500, 600, 700], 380)]
    #[case::after_a_pause(&[500, 700, 800], 580)]
    fn a_burst_begins_after_a_pause(#[case] untils: &[u64], #[case] begin: u64) {
        let untils: Vec<_> = untils.iter().map(|at| at * SECOND).collect();
        assert_eq!(begin_of_burst(&untils), begin * SECOND);
    }

    #[rstest]
    #[case::of_nothing(&[], 500, false)]
    #[case::after(&[100, 400], 520, true)]
    #[case::before(&[100, 620], 500, true)]
    #[case::between(&[100, 800], 500, false)]
    #[case::long_after(&[100], 221, false)]
    fn two_minutes_are_near(#[case] untils: &[u64], #[case] until: u64, #[case] near: bool) {
        let untils: Vec<_> = untils.iter().map(|at| at * SECOND).collect();
        assert_eq!(is_near(&untils, until * SECOND), near);
    }
}
