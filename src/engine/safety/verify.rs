//! `dirsync verify`: a round of the scrub that a person asks for, and what it says in the end.
//!
//! Deliberately not here: the reading itself (`scrub.rs`).

use crate::engine::api::action::{Action, Pace};
use crate::engine::api::event::{Now, Verify};
use crate::engine::api::index::{Index, Row};
use crate::engine::api::status::Tally;
use crate::engine::core::Core;
use crate::engine::limits::PAGE;
use crate::engine::safety::scrub::IDLE;
use crate::engine::safety::scrub::Run;
use crate::engine::safety::scrub::Scrub;
use crate::engine::safety::scrub::Verification;
use crate::engine::safety::scrub::VerifyRequest;
use crate::engine::safety::scrub::Which;
use crate::engine::safety::scrub::new_round;
use crate::engine::{Engine, META_SCRUB};
use crate::model::SyncPath;

pub(in crate::engine) fn run(asked: &VerifyRequest, is_over: bool, in_use: &[SyncPath], peers: Option<Tally>) -> Run {
    let VerifyRequest { round, files_of, bytes_of, peers: asks_peers, .. } = asked;
    Run {
        below: round.below.clone(),
        began_ns: round.began,
        is_over,
        is_stopped: false,
        asks_peers: *asks_peers,
        files: round.files,
        files_of: *files_of,
        bytes: round.bytes,
        bytes_of: *bytes_of,
        found: round.found,
        passed_over: round.passed_over,
        in_use: in_use.to_vec(),
        peers,
    }
}

impl<I: Index> Core<I> {
    fn files_below(&self, below: Option<&SyncPath>) -> (u64, u64) {
        let Some(below) = below else {
            let counts = self.index.counts();
            return (counts.files, counts.bytes);
        };
        let (mut files, mut bytes, mut after) = (0, 0, None);
        let mut add = |row: &Row| {
            if let Some((_, size)) = row.live_on_disk().and_then(|(entry, _)| entry.file()) {
                files += 1;
                bytes += size;
            }
        };
        if let Some(row) = self.index.get(below) {
            add(&row);
        }
        loop {
            let page = self.index.below(Some(below), after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (_, row) in &page {
                add(row);
            }
        }
        (files, bytes)
    }
}

impl<I: Index> Engine<I> {
    /// A person asks; while another is under way, nothing, and while the same is, its pace.
    pub(in crate::engine) fn verify(&mut self, now: Now, wanted: Verify) {
        if let Some(asked) = &mut self.safety.scrub.kept.asked {
            if asked.round.below == wanted.below && asked.peers == wanted.peers {
                asked.bytes_a_second = wanted.bytes_a_second;
                // A large file that is being read does not end at the old one.
                self.core.act(Action::SetPace(Pace { bytes_a_second: wanted.bytes_a_second, yields: false }));
            }
            return;
        }
        self.safety.scrub.verify.in_use.clear();
        let Verify { below, bytes_a_second, peers } = wanted;
        let (files_of, bytes_of) = self.core.files_below(below.as_ref());
        let round = new_round(now, self.safety.scrub.boot.id, below);
        self.safety.scrub.kept.asked = Some(VerifyRequest { round, files_of, bytes_of, bytes_a_second, peers });
        (self.safety.scrub.verify.over, self.safety.scrub.verify.asks_peers) = (None, false);
        self.peers.stop_survey();
        self.safety.store_scrub(&mut self.core, now);
    }

    pub(in crate::engine) fn stop_verifying(&mut self) {
        if self.safety.scrub.kept.asked.is_some() {
            self.over_with(self.peers.survey_tally());
            self.safety.scrub.verify.over =
                self.safety.scrub.verify.over.take().map(|run| Run { is_stopped: true, ..run });
            self.core.act(Action::SetPace(IDLE));
        }
    }

    /// All that a person asked for is read. If that was everything, the month begins anew.
    pub(super) fn asked_is_read(&mut self, now: Now) {
        let Some(asked) = self.safety.scrub.kept.asked.clone() else { return };
        // With what it passed over, the month's own round goes on.
        if asked.round.below.is_none() && asked.round.passed_over == 0 {
            self.safety.whole_round(&mut self.core, now, &asked.round);
            self.safety.scrub.kept.monthly = new_round(now, self.safety.scrub.boot.id, None);
        }
        if asked.peers {
            self.safety.scrub.verify.asks_peers = true;
            self.begin_survey(asked.round.below);
        } else {
            self.over_with(None);
        }
        self.safety.store_scrub(&mut self.core, now);
    }

    /// What a person asked for is over.
    pub(in crate::engine) fn over_with(&mut self, peers: Option<Tally>) {
        if let Some(asked) = self.safety.scrub.kept.asked.take() {
            self.safety.scrub.verify.over = Some(run(&asked, true, &self.safety.scrub.verify.in_use, peers));
            if self.safety.scrub.batch.as_ref().is_some_and(|batch| batch.which == Which::Asked) {
                self.safety.scrub.batch = None;
            }
            self.peers.stop_survey();
            self.safety.scrub.verify.asks_peers = false;
            let kept = self.safety.scrub_bytes();
            self.core.index.set_meta(META_SCRUB, &kept);
        }
    }

    pub fn verification(&self) -> Verification {
        let Scrub { kept, verify, .. } = &self.safety.scrub;
        let now = kept
            .asked
            .as_ref()
            .map(|asked| run(asked, false, &self.safety.scrub.verify.in_use, self.peers.survey_tally()));
        Verification {
            run: now.or_else(|| verify.over.clone()),
            suspects: self.safety.suspect_statuses(),
            monthly_began_ns: kept.monthly.began,
            monthly_files: kept.monthly.files,
            monthly_bytes: kept.monthly.bytes,
            last_ns: kept.past.map(|past| (past.began, past.ended)),
        }
    }
}
