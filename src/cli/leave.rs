//! `dirsync leave`: this machine leaves its group. Deliberately not here: what the daemon does for
//! it.

use super::{Failure, say};
use crate::client::{Client, Folder};
use crate::humanize::listed;
use crate::views::leave::LeaveView;
use serde_json::json;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The daemon says goodbye and ends, which takes about a second.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn leave(mut client: Client, folder: &Folder, json: bool, yes: bool) -> Result<(), Failure> {
    let view: LeaveView = client.post("/v1/leave", &json!({ "dry_run": !yes })).await?;
    if !yes {
        say(json, &view, before)?;
        return Err(Failure::Nothing("nothing was done; to leave, run 'dirsync leave --yes'".to_owned()));
    }
    let began = Instant::now();
    while folder.connect().await.is_ok() {
        if began.elapsed() > PATIENCE {
            return Err(Failure::Partly("it is decided, and the daemon does not end; its log says why".to_owned()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    say(json, &view, after)
}

fn group(view: &LeaveView) -> String {
    match &view.machines[..] {
        [] => "its group, of which it knows no other machine".to_owned(),
        machines => format!("the group of {}", listed(machines)),
    }
}

fn before(view: &LeaveView) -> String {
    let mut out = format!(
        "This machine would leave {}, for good:\n  \
         It says goodbye, forgets the secret and the other machines, and its daemon ends.\n  \
         The files in '{}' stay, here and there; what changes afterwards goes nowhere.\n  \
         The next start is a new machine in a group of its own; with --join CODE, in another.\n",
        group(view),
        view.directory
    );
    if !view.undone.is_empty() {
        let _ = writeln!(out, "Not done yet:");
        for text in &view.undone {
            let _ = writeln!(out, "  {text}");
        }
    }
    out
}

fn after(view: &LeaveView) -> String {
    let mut out = format!("left {}; the files in '{}' stay, and the daemon has ended\n", group(view), view.directory);
    for text in &view.undone {
        let _ = writeln!(out, "when it left: {text}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaving_does_and_what_is_not_done_yet_is_said_before() {
        let view = LeaveView {
            directory: "/srv/shared".into(),
            machines: vec!["laptop".into(), "nas".into()],
            undone: vec!["this machine: 3 paths to come".into()],
            dry_run: true,
        };
        insta::assert_snapshot!(before(&view), @r"
        This machine would leave the group of laptop and nas, for good:
          It says goodbye, forgets the secret and the other machines, and its daemon ends.
          The files in '/srv/shared' stay, here and there; what changes afterwards goes nowhere.
          The next start is a new machine in a group of its own; with --join CODE, in another.
        Not done yet:
          this machine: 3 paths to come
        ");
        let alone = LeaveView { machines: Vec::new(), undone: Vec::new(), ..view };
        let said = "left its group, of which it knows no other machine; the files in '/srv/shared' stay, and the daemon has ended\n";
        assert_eq!(after(&alone), said);
    }
}
