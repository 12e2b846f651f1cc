//! `dirsync verify`: begins it, shows how far it is, and says what it found.
//!
//! The daemon does the work and goes on if this is interrupted; asking again joins in. May import
//! `client`, `io::control`'s views and `io::humanize`.
//! Deliberately not here: what a difference means (the engine's affair).

use super::{Failure, show};
use crate::client::Client;
use crate::humanize::{bytes, count, counted};
use crate::views::verify::{LEAST_RATE, MachineView, RunView, SuspectView, TallyView, VerifyView};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::time::Duration;

/// Between two looks: short at first, for those who verify one file.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Suspect or differing files that are shown before "and N more".
const SHOWN: usize = 50;

/// Verifies, and waits for the end.
pub(super) async fn verify(
    client: &mut Client,
    path: Option<String>,
    peers: bool,
    rate: Option<u64>,
) -> Result<VerifyView, Failure> {
    let query = json!({ "path": path, "peers": peers, "bytes_a_second": rate });
    let mut view: VerifyView = client.post("/v1/verify", &query).await?;
    let mut pause = FIRST_PAUSE;
    while let Some(run) = view.run.as_ref().filter(|run| !run.over) {
        progress(run);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        view = client.get("/v1/verify", &[]).await?;
    }
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[K");
    }
    // Those of other places are not what was asked about.
    view.suspects.retain(|suspect| is_in(&suspect.path, path.as_deref()));
    Ok(view)
}

fn is_in(path: &str, folder: Option<&str>) -> bool {
    folder.is_none_or(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn progress(run: &RunView) {
    if stderr().is_terminal() {
        let percent = (run.bytes * 100).checked_div(run.bytes_of).unwrap_or(100).min(100);
        let files = format!("{} of {}", count(run.files), counted(run.files_of, "file", "files"));
        let _ = write!(stderr(), "\r\x1b[K{percent:>3} %  {files}, {} of {}", bytes(run.bytes), bytes(run.bytes_of));
    }
}

/// What is not as it should be, here or elsewhere; or why that is not known.
pub(super) fn complaint(view: &VerifyView) -> Option<String> {
    if view.run.as_ref().is_some_and(|run| run.stopped) {
        return Some("the verification was stopped before it was over".to_owned());
    }
    let mismatched: u64 = view
        .run
        .iter()
        .filter_map(|run| run.peers.as_ref())
        .flat_map(|peers| &peers.machines)
        .map(|m| m.mismatched)
        .sum();
    match (view.suspects.len() as u64, mismatched) {
        (0, 0) => None,
        (0, files) => Some(format!("{} elsewhere not as the index says", counted(files, "file is", "files are"))),
        (files, _) => Some(format!("{} suspect", counted(files, "file is", "files are"))),
    }
}

pub(super) fn text(view: &VerifyView) -> String {
    let mut out = String::new();
    if let Some(run) = &view.run {
        let (files, size) = (counted(run.files, "file", "files"), bytes(run.bytes));
        let done = if run.stopped { "stopped after" } else { "verified" };
        let _ = writeln!(out, "{done} {files} ({size})");
        if run.passed_over > 0 {
            let files = counted(run.passed_over, "file was", "files were");
            let _ = writeln!(out, "{files} in use or could not be opened, and passed over");
            for path in &run.in_use {
                let _ = writeln!(out, "  {path}");
            }
            if run.passed_over > run.in_use.len() as u64 {
                let _ = writeln!(out, "  and {} more", count(run.passed_over - run.in_use.len() as u64));
            }
        }
        if let Some(peers) = &run.peers {
            out += &machines(peers);
        }
    }
    out += &suspects(&view.suspects);
    out
}

fn suspects(suspects: &[SuspectView]) -> String {
    let mut out = String::new();
    for suspect in suspects.iter().take(SHOWN) {
        let found = show::time(&suspect.found_ns);
        let _ = writeln!(out, "{}  (found {found}) {}", suspect.path, suspect.text);
    }
    if suspects.len() > SHOWN {
        let _ = writeln!(out, "and {} more (--json shows them)", count((suspects.len() - SHOWN) as u64));
    }
    out
}

fn machines(tally: &TallyView) -> String {
    if tally.machines.is_empty() {
        return "no machine is linked now, so none was asked\n".to_owned();
    }
    let row = |machine: &MachineView| {
        let since = machine.hashed_since_ns.as_deref().map(show::day);
        let hashed = since.map_or("not all hashed since it came".to_owned(), |day| format!("hashed since {day}"));
        vec![
            if machine.gone { format!("{} (did not answer everything)", machine.name) } else { machine.name.clone() },
            format!("{:>9}", count(machine.verified)),
            format!("{:>10}", count(machine.mismatched)),
            format!("{:>7}", count(machine.missing)),
            hashed,
        ]
    };
    let head = ["machine", " verified", "mismatched", "missing", ""].map(ToOwned::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(tally.machines.iter().map(row)).collect();
    let mut out = show::table(&rows);
    for holders in &tally.holders {
        let machines = counted(holders.machines, "machine", "machines");
        let _ = writeln!(out, "{} whole on {machines}", counted(holders.files, "file is", "files are"));
    }
    for file in tally.files.iter().take(SHOWN) {
        let here = (!file.here).then(|| "not whole here".to_owned());
        let named = [("mismatched", &file.mismatched), ("missing", &file.missing)];
        let there = named.into_iter().filter(|(_, names)| !names.is_empty());
        let there = there.map(|(what, names)| format!("{what} at {}", names.join(", ")));
        let _ = writeln!(out, "{}  {}", file.path, here.into_iter().chain(there).collect::<Vec<_>>().join("; "));
    }
    if tally.files.len() > SHOWN {
        let _ = writeln!(out, "and {} more (--json shows them)", count((tally.files.len() - SHOWN) as u64));
    }
    out
}

/// `500M`, `20M`, `1G`: bytes a second, at least as for `--limit`.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit: u64 = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err("write it as 20M: bytes a second, with K, M or G".to_owned()),
    };
    let rate = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match rate {
        Some(rate) if rate >= LEAST_RATE => Ok(rate),
        Some(_) => Err("at least 64K, or it would never end".to_owned()),
        None => Err("write it as 20M: bytes a second, with K, M or G".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_with_a_unit() {
        let table = [
            ("20M", Some(20 << 20)),
            ("1G", Some(1 << 30)),
            ("64K", Some(64 << 10)),
            ("65535", None),
            ("1", None),
            ("0", None),
            ("M", None),
            ("5X", None),
        ];
        for (text, expected) in table {
            assert_eq!(rate(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_lies_below_a_folder_is_in_it_and_its_namesakes_are_not() {
        for (path, folder, expected) in
            [("d/f", Some("d"), true), ("d", Some("d"), true), ("d-2", Some("d"), false), ("x", None, true)]
        {
            assert_eq!(is_in(path, folder), expected, "{path} in {folder:?}");
        }
    }

    #[test]
    fn what_was_stopped_is_not_called_verified() {
        for (stopped, line, complains) in
            [(true, "stopped after 12 files (5 B)\n", true), (false, "verified 12 files (5 B)\n", false)]
        {
            let run = json!({
                "path": null, "began_ns": "1", "over": true, "stopped": stopped, "files": 12, "files_of": 40, "bytes": 5,
                "bytes_of": 90, "found": 0, "passed_over": 0, "peers": null
            });
            let monthly =
                json!({ "began_ns": "1", "files": 0, "bytes": 0, "last_began_ns": null, "last_ended_ns": null });
            let view = json!({ "run": run, "suspects": [], "monthly": monthly });
            let view: VerifyView = serde_json::from_value(view).unwrap();
            assert_eq!((text(&view).as_str(), complaint(&view).is_some()), (line, complains));
        }
    }

    #[test]
    fn a_tally_reads_as_a_table() {
        let machine = |name: &str, mismatched, missing, since: Option<&str>| MachineView {
            device: crate::model::DeviceId([1; 32]),
            name: name.into(),
            gone: false,
            verified: 1200,
            mismatched,
            missing,
            hashed_since_ns: since.map(ToOwned::to_owned),
        };
        let tally = TallyView {
            machines: vec![machine("beta", 1, 0, None), machine("gamma", 0, 7, Some("1700000000000000000"))],
            holders: vec![crate::views::verify::HoldersView { machines: 3, files: 1192 }],
            files: vec![crate::views::verify::FileView {
                path: "d/f".into(),
                here: false,
                verified: vec!["gamma".into()],
                mismatched: vec!["beta".into()],
                missing: Vec::new(),
            }],
        };
        let text = machines(&tally);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "machine   verified  mismatched  missing");
        assert_eq!(lines[1], "beta         1,200           1        0  not all hashed since it came");
        assert!(lines[2].starts_with("gamma        1,200           0        7  hashed since 2023-11-1"), "{text}");
        assert_eq!(lines[3], "1,192 files are whole on 3 machines");
        assert_eq!(lines[4], "d/f  not whole here; mismatched at beta");
    }
}
