//! What the linked machines hold: some paths at a time are named to all of them, and their answers
//! counted.
//!
//! Nothing is read for it: a machine says what its disk column says, and since which day that was
//! hashed again. Answers are counted against what was asked, and what is kept of them is bounded
//! (P9). Deliberately not here: hashing (`scrub.rs`).

use crate::engine::Engine;
use crate::engine::api::event::{LinkId, Now};
use crate::engine::api::index::{Index, Row};
use crate::engine::api::status::{FileHeld, MachineTally, Tally};
use crate::engine::core::Core;
use crate::engine::limits::{PAGE, SURVEY_NAMED_FILES, SURVEY_PATIENCE_NS};
use crate::model::{ContentId, SyncPath};
use crate::wire::message::{Message, PathContent, SURVEY_BYTES, SURVEY_PATHS};
use std::collections::BTreeSet;

#[derive(Default)]
pub(in crate::engine) struct Survey {
    last_id: u32,
    under_way: Option<RunningTally>,
}

struct RunningTally {
    below: Option<SyncPath>,
    cursor: Option<SyncPath>,
    /// What was asked last, and who has not answered.
    page: Vec<SurveyedFile>,
    is_last: bool,
    waits_for: BTreeSet<LinkId>,
    /// For so long (`Now::mono`).
    until: u64,
    /// In the order of `tally.machines`.
    links: Vec<LinkId>,
    tally: Tally,
}

/// A file that machines were asked for, and who holds it.
struct SurveyedFile {
    path: SyncPath,
    content: ContentId,
    here: bool,
    /// By machine; `None`: no answer.
    held: Vec<Option<HolderState>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HolderState {
    Verified,
    Mismatched,
    Missing,
}

impl Survey {
    pub fn stop(&mut self) {
        self.under_way = None;
    }

    /// When those that have not answered are waited for no longer.
    pub fn due(&self) -> Option<u64> {
        self.under_way.as_ref().filter(|survey| !survey.waits_for.is_empty()).map(|survey| survey.until)
    }

    pub fn tally(&self) -> Option<Tally> {
        self.under_way.as_ref().map(|survey| survey.tally.clone())
    }
}

impl<I: Index> Core<I> {
    fn fill_page(&self, survey: &mut RunningTally) {
        let rows = self.index.below(survey.below.as_ref(), survey.cursor.as_ref(), PAGE.min(SURVEY_PATHS - 1));
        survey.is_last = rows.len() < PAGE.min(SURVEY_PATHS - 1);
        let itself = survey.below.clone().filter(|_| survey.cursor.is_none());
        let itself = itself.and_then(|path| Some((path.clone(), self.index.get(&path)?)));
        let mut bytes = 0;
        for (path, row) in itself.into_iter().chain(rows) {
            if bytes >= SURVEY_BYTES {
                survey.is_last = false;
                return;
            }
            survey.cursor = Some(path.clone());
            if let Some((content, _)) = row.head.file() {
                bytes += path.as_bytes().len();
                let here = content_held(&row) == Some(content);
                survey.page.push(SurveyedFile { path, content, here, held: vec![None; survey.links.len()] });
            }
        }
    }
}

impl<I: Index> Engine<I> {
    pub(in crate::engine) fn begin_survey(&mut self, below: Option<SyncPath>) {
        let links: Vec<LinkId> = self.peers.sessions.keys().copied().collect();
        let machine = |link: &LinkId| MachineTally {
            device: self.peers.sessions[link].device,
            name: self.peers.sessions[link].name.clone(),
            is_gone: false,
            verified: 0,
            oldest_day: u32::MAX,
            mismatched: 0,
            missing: 0,
        };
        let tally = Tally { machines: links.iter().map(machine).collect(), ..Tally::default() };
        let (page, waits_for) = (Vec::new(), BTreeSet::new());
        let (cursor, is_last, until) = (None, false, 0);
        self.peers.queries.survey.under_way =
            Some(RunningTally { below, cursor, page, is_last, waits_for, until, links, tally });
        self.survey_next();
    }

    /// Asks for the next paths, or ends.
    fn survey_next(&mut self) {
        let Some(mut survey) = self.peers.queries.survey.under_way.take() else { return };
        loop {
            self.core.fill_page(&mut survey);
            let links: Vec<_> = survey.answering().filter(|link| self.peers.sessions.contains_key(link)).collect();
            if !survey.page.is_empty() && !links.is_empty() {
                self.peers.queries.survey.last_id = self.peers.queries.survey.last_id.wrapping_add(1);
                let paths = survey.page.iter().map(|asked| asked.path.clone()).collect();
                survey.waits_for = links.iter().copied().collect();
                survey.until = self.core.last_event.mono + SURVEY_PATIENCE_NS;
                self.peers.queries.survey.under_way = Some(survey);
                return self.peers.send(
                    &mut self.core,
                    links,
                    Message::Survey { id: self.peers.queries.survey.last_id, paths },
                );
            }
            survey.count_page();
            if survey.is_last {
                for machine in &mut survey.tally.machines {
                    machine.oldest_day = if machine.verified == 0 { 0 } else { machine.oldest_day };
                }
                return self.over_with(Some(survey.tally));
            }
        }
    }

    /// A peer asks what is here.
    pub(super) fn surveyed_by(&mut self, link: LinkId, id: u32, paths: &[SyncPath]) {
        let held = |path: &SyncPath| {
            let row = self.core.index.get(path).filter(|_| !self.ignores(path, false));
            PathContent { content: row.as_ref().and_then(content_held), day: self.safety.verified_on(path) }
        };
        let held = paths.iter().map(held).collect();
        self.peers.send(&mut self.core, vec![link], Message::Holdings { id, held });
    }

    /// What a peer says that it holds.
    pub(super) fn holdings_came(&mut self, link: LinkId, id: u32, held: &[PathContent]) {
        let Some(survey) =
            self.peers.queries.survey.under_way.as_mut().filter(|_| id == self.peers.queries.survey.last_id)
        else {
            return;
        };
        if !survey.waits_for.remove(&link) {
            return self.core.close(link, "holdings that were not asked for");
        }
        if held.len() != survey.page.len() {
            survey.waits_for.insert(link);
            return self.core.close(link, "holdings of other paths than were asked for");
        }
        survey.take(link, held);
        self.survey_is_answered();
    }

    /// A link ended, or is asked no more.
    pub(super) fn survey_without(&mut self, link: LinkId) {
        let Some(survey) = self.peers.queries.survey.under_way.as_mut() else { return };
        if let Some(n) = survey.links.iter().position(|known| *known == link) {
            survey.tally.machines[n].is_gone = true;
        }
        if survey.waits_for.remove(&link) {
            self.survey_is_answered();
        }
    }

    /// Some have been silent for too long.
    pub(in crate::engine) fn survey_due(&mut self, now: Now) {
        if self.peers.queries.survey.due().is_some_and(|due| due <= now.mono) {
            let silent = self.peers.queries.survey.under_way.as_ref().map(|survey| survey.waits_for.clone());
            for link in silent.unwrap_or_default() {
                self.survey_without(link);
            }
        }
    }

    fn survey_is_answered(&mut self) {
        if let Some(survey) = self.peers.queries.survey.under_way.as_mut().filter(|survey| survey.waits_for.is_empty())
        {
            survey.count_page();
            self.survey_next();
        }
    }
}

impl RunningTally {
    /// Those that have answered everything so far.
    fn answering(&self) -> impl Iterator<Item = LinkId> {
        self.links.iter().zip(&self.tally.machines).filter(|(_, machine)| !machine.is_gone).map(|(link, _)| *link)
    }

    fn take(&mut self, link: LinkId, held: &[PathContent]) {
        let Some(n) = self.links.iter().position(|known| *known == link) else { return };
        let machine = &mut self.tally.machines[n];
        for (asked, held) in self.page.iter_mut().zip(held) {
            let holding = match held.content {
                Some(content) if content == asked.content => HolderState::Verified,
                Some(_) => HolderState::Mismatched,
                None => HolderState::Missing,
            };
            match holding {
                HolderState::Verified => {
                    machine.verified += 1;
                    machine.oldest_day = machine.oldest_day.min(held.day);
                }
                HolderState::Mismatched => machine.mismatched += 1,
                HolderState::Missing => machine.missing += 1,
            }
            asked.held[n] = Some(holding);
        }
    }

    fn count_page(&mut self) {
        for SurveyedFile { path, here, held, .. } in std::mem::take(&mut self.page) {
            let are = |what: HolderState| held.iter().filter(|held| **held == Some(what)).count() as u64;
            *self.tally.holders.entry(u64::from(here) + are(HolderState::Verified)).or_default() += 1;
            let is_whole = here && are(HolderState::Mismatched) + are(HolderState::Missing) == 0;
            if !is_whole && self.tally.files.len() < SURVEY_NAMED_FILES {
                let machines = &self.tally.machines;
                let names = |what: HolderState| {
                    let those = machines.iter().zip(&held).filter(|(_, held)| **held == Some(what));
                    those.map(|(machine, _)| machine.name.clone()).collect()
                };
                let (verified, mismatched) = (names(HolderState::Verified), names(HolderState::Mismatched));
                let missing = names(HolderState::Missing);
                self.tally.files.push(FileHeld { path, here, verified, mismatched, missing });
            }
        }
    }
}

/// What is on disk, as far as it is a file.
fn content_held(row: &Row) -> Option<ContentId> {
    row.live_on_disk().and_then(|(entry, _)| entry.file()).map(|(content, _)| content)
}

#[cfg(test)]
mod tests;
