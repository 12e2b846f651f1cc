//! `dirsync folders`: every folder of this user on this machine, a line each.
//!
//! May import `client` and the views. Deliberately not here: finding and asking the daemons
//! (`client/survey.rs`).

use super::show;
use crate::client::absent::AbsenceKind;
use crate::client::survey::{FolderAnswer, FolderSurvey, SurveyedFolder};
use crate::humanize::{bytes, counted, listed};
use crate::model::text;
use crate::views::folders::{FolderView, FoldersView};
use crate::views::status::StatusView;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

/// A daemon answers between two batches of work, within milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// For those who asked for something else.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// Folders that an error names.
const NAMED: usize = 5;

/// `all`: also states whose folder is gone.
pub(super) fn view(survey: &FolderSurvey, all: bool) -> FoldersView {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let shown = survey.folders.iter().filter(|folder| all || !matches!(folder.answer, FolderAnswer::Gone));
    FoldersView { folders: shown.map(|folder| folder_view(folder, &users)).collect(), unasked: survey.unasked }
}

fn folder_view(folder: &SurveyedFolder, users: &str) -> FolderView {
    let status = if let FolderAnswer::Status(status) = &folder.answer { Some(status) } else { None };
    let (state, text) = state(&folder.answer);
    let start = match &folder.answer {
        FolderAnswer::Absent(AbsenceKind::NotRunning { start }) => Some(start.clone()),
        _ => None,
    };
    FolderView {
        directory: folder.directory.clone(),
        state: state.to_owned(),
        text,
        files: status.map(|status| status.files),
        bytes: status.map(|status| status.bytes),
        peers: status.map(|status| status.peers.iter().map(|peer| peer.name.clone()).collect()),
        listen_port: status.map(|status| status.listen_port),
        pid: folder.pid,
        uid: folder.uid,
        user: folder.uid.map(|uid| user_name(uid, users)),
        state_dir: folder.state_dir.clone(),
        start,
    }
}

/// A word for programs, and a sentence.
fn state(answer: &FolderAnswer) -> (&'static str, String) {
    match answer {
        FolderAnswer::Status(status) => state_of(status),
        FolderAnswer::Silent(why) => ("no_answer", why.clone()),
        FolderAnswer::Absent(AbsenceKind::Waits { why, .. }) => {
            ("waiting", format!("waits and will start anew: {why}"))
        }
        FolderAnswer::Absent(AbsenceKind::StartsOrStops { .. }) => ("starting", "starting or stopping".to_owned()),
        FolderAnswer::Absent(AbsenceKind::NotRunning { start }) => {
            ("not_running", format!("not running; start it with: {start}"))
        }
        FolderAnswer::Gone => ("gone", "not there any more; only its state is kept".to_owned()),
    }
}

fn state_of(status: &StatusView) -> (&'static str, String) {
    if let Some(why) = &status.halted {
        return ("stopped", format!("stopped: {why}"));
    }
    if status.paused {
        return ("paused", "paused".to_owned());
    }
    let attention = show::attention(status);
    if !attention.is_empty() {
        return ("attention", format!("needs attention: {}", attention.join("; ")));
    }
    if status.scanning {
        return ("scanning", "scanning".to_owned());
    }
    if status.pending > 0 {
        return ("syncing", format!("syncing, {} to come", counted(status.pending, "path", "paths")));
    }
    if !status.idle {
        return ("syncing", "syncing".to_owned());
    }
    let late = status.peers.iter().filter(|peer| !peer.in_sync);
    let late: Vec<_> = late.map(|peer| format!("{} ({})", peer.name, peer.state)).collect();
    match &late[..] {
        [] if status.peers.is_empty() => ("alone", "idle, no machine linked".to_owned()),
        [] => ("in_sync", "in sync".to_owned()),
        late => ("syncing", format!("syncing, not in sync with {}", listed(late))),
    }
}

fn user_name(uid: u32, users: &str) -> String {
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then(|| text::escape(name.as_bytes()))
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// `with_users`: say whose each daemon is.
pub(super) fn folders(view: &FoldersView, with_users: bool) -> String {
    let rows = view.folders.iter().map(|folder| {
        let held = |(files, size)| format!("{} ({})", counted(files, "file", "files"), bytes(size));
        let linked = |peers: &Vec<String>| format!("{} linked", counted(peers.len() as u64, "peer", "peers"));
        let user = folder.user.as_ref().map(|user| format!("user {user}"));
        let cells = [
            Some(folder.directory.clone().unwrap_or_else(|| "(a folder that cannot be seen)".to_owned())),
            Some(folder.files.zip(folder.bytes).map(held).unwrap_or_default()),
            Some(folder.peers.as_ref().map(linked).unwrap_or_default()),
            Some(folder.listen_port.map(|port| format!("port {port}")).unwrap_or_default()),
            Some(folder.pid.map(|pid| format!("pid {pid}")).unwrap_or_default()),
            with_users.then(|| user.unwrap_or_default()),
            Some(folder.text.clone()),
        ];
        cells.into_iter().flatten().collect::<Vec<_>>()
    });
    let mut out = show::table(&rows.collect::<Vec<_>>());
    if view.folders.is_empty() {
        out.push_str("no folder of yours is synced here; begin with: dirsyncd DIR\n");
    }
    if view.unasked > 0 {
        let daemons = counted(view.unasked, "daemon is another user's", "daemons are other users'");
        let _ = writeln!(out, "{daemons}; root is shown all of them");
    }
    out
}

/// What one who stands in none of them may do, after "it is not in a synced folder".
pub(super) fn way_out(survey: &FolderSurvey) -> String {
    let here = survey.folders.iter().filter(|folder| !matches!(folder.answer, FolderAnswer::Gone));
    let here: Vec<_> = here.filter_map(|folder| folder.directory.as_ref()).map(|name| format!("'{name}'")).collect();
    match &here[..] {
        [] => "change into one, or name it with -C DIR; a new one begins with: dirsyncd DIR".to_owned(),
        names if names.len() > NAMED => format!(
            "run it in one of {} and {} more, or give -C DIR; 'dirsync folders' lists them",
            names[..NAMED].join(", "),
            names.len() - NAMED
        ),
        [name] => format!("run it in {name}, or give -C DIR"),
        names => format!("run it in one of {}, or give -C DIR; 'dirsync folders' lists them", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
