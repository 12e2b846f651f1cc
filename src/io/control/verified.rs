//! Makes the views of a verification of what the engine says.
//!
//! Deliberately not here: the views themselves (`src/views/verify.rs`).

use crate::engine::{Decision, FileHeld, MachineTally, Run, SuspectStatus, Tally, Verification};
use crate::io::journal::suspect_sentence;
use crate::model::{SyncPath, text};
use crate::views::verify::{
    FileView, HoldersView, MachineView, MonthlyView, RunView, SuspectView, TallyView, VerifyView,
};

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

impl From<Verification> for VerifyView {
    fn from(known: Verification) -> Self {
        let Verification { run, suspects, monthly_began_ns, monthly_files, monthly_bytes, last_ns } = known;
        let monthly = MonthlyView {
            began_ns: monthly_began_ns.to_string(),
            files: monthly_files,
            bytes: monthly_bytes,
            last_began_ns: last_ns.map(|(began, _)| began.to_string()),
            last_ended_ns: last_ns.map(|(_, ended)| ended.to_string()),
        };
        Self { run: run.map(RunView::from), suspects: suspects.into_iter().map(SuspectView::from).collect(), monthly }
    }
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let Run {
            below,
            began_ns,
            is_over,
            is_stopped,
            files,
            files_of,
            bytes,
            bytes_of,
            found,
            passed_over,
            in_use,
            ..
        } = run;
        let (path, began_ns) = (below.as_ref().map(SyncPath::to_text), began_ns.to_string());
        let peers = run.peers.map(TallyView::from);
        let (over, stopped) = (is_over, is_stopped);
        let in_use = in_use.iter().map(SyncPath::to_text).collect();
        Self { path, began_ns, over, stopped, files, files_of, bytes, bytes_of, found, passed_over, in_use, peers }
    }
}

fn decided(decision: Decision) -> String {
    match decision {
        Decision::Heal => "heal".to_owned(),
        Decision::Keep => "keep".to_owned(),
    }
}

impl From<SuspectStatus> for SuspectView {
    fn from(suspect: SuspectStatus) -> Self {
        let SuspectStatus { path, found_ns, unreadable, decision, cause } = suspect;
        let (path, found_ns, text) = (path.to_text(), found_ns.to_string(), suspect_sentence(cause).to_owned());
        let decision = decision.map(decided);
        Self { path, found_ns, unreadable, decision, text }
    }
}

impl From<Tally> for TallyView {
    fn from(tally: Tally) -> Self {
        let Tally { machines, holders, files } = tally;
        let holders = holders.into_iter().map(|(machines, files)| HoldersView { machines, files });
        Self {
            machines: machines.into_iter().map(MachineView::from).collect(),
            holders: holders.collect(),
            files: files.into_iter().map(FileView::from).collect(),
        }
    }
}

impl From<MachineTally> for MachineView {
    fn from(machine: MachineTally) -> Self {
        let MachineTally { device, name, is_gone, verified, oldest_day, mismatched, missing } = machine;
        // A peer may say any day; and none is known while it is still asked.
        let since = (oldest_day > 0).then(|| u64::from(oldest_day).checked_mul(DAY_NS)).flatten();
        let since = since.map(|since| since.to_string());
        let name = text::escape(name.as_bytes());
        Self { device, name, gone: is_gone, verified, mismatched, missing, hashed_since_ns: since }
    }
}

impl From<FileHeld> for FileView {
    fn from(file: FileHeld) -> Self {
        let names = |names: Vec<String>| names.iter().map(|name| text::escape(name.as_bytes())).collect();
        let FileHeld { path, here, verified, mismatched, missing } = file;
        let path = path.to_text();
        Self { path, here, verified: names(verified), mismatched: names(mismatched), missing: names(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    #[test]
    fn a_day_that_no_peer_can_have_hashed_on_is_left_out() {
        let since = |oldest_day| {
            let (device, name) = (DeviceId([1; 32]), "b".to_owned());
            let tally =
                MachineTally { device, name, is_gone: false, verified: 1, oldest_day, mismatched: 0, missing: 0 };
            MachineView::from(tally).hashed_since_ns
        };
        assert_eq!(since(2), Some((2 * DAY_NS).to_string()));
        assert_eq!((since(0), since(u32::MAX)), (None, None));
    }
}
