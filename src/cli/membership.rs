//! `dirsync remove` and `dirsync rotate`: a machine out of the group for good, and another secret.
//!
//! Both say first what would happen, and then ask. Deliberately not here: what the daemon does.

use super::{Failure, printable, say};
use crate::client::{Client, ClientError};
use crate::humanize::listed;
use crate::views::membership::RotatedView;
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::io::{self, BufRead, IsTerminal};

#[derive(Args, Debug)]
pub(super) struct RemoveArgs {
    /// Its name, or the first digits of its id, as 'dirsync peers' shows them
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would happen
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would happen
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

pub(super) async fn remove(client: &mut Client, json: bool, args: RemoveArgs) -> Result<(), Failure> {
    let order = |dry_run| json!({ "device": args.machine, "dry_run": dry_run });
    let would: RotatedView = client.post("/v1/remove", &order(true)).await?;
    if args.dry_run {
        return say(json, &would, before);
    }
    consent(args.yes, &would)?;
    let done = finished(client.post("/v1/remove", &order(false)).await, would)?;
    say(json, &done, after)
}

pub(super) async fn rotate(client: &mut Client, json: bool, args: RotateArgs) -> Result<(), Failure> {
    let would: RotatedView = client.post("/v1/rotate", &json!({ "dry_run": true })).await?;
    if args.dry_run {
        return say(json, &would, before);
    }
    consent(args.yes, &would)?;
    let done = finished(client.post("/v1/rotate", &json!({ "dry_run": false })).await, would)?;
    say(json, &done, after)
}

/// The daemon begins anew as soon as it is durable, and may do so before it has answered.
fn finished(answer: Result<RotatedView, ClientError>, would: RotatedView) -> Result<RotatedView, ClientError> {
    match answer {
        Err(ClientError::Broken { .. }) => Ok(RotatedView { dry_run: false, ..would }),
        answer => answer,
    }
}

fn consent(is_given: bool, would: &RotatedView) -> Result<(), Failure> {
    if is_given {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("standard input is no terminal to ask on: give --yes, or --dry-run".to_owned()));
    }
    eprint!("{}Go on? [y/N] ", printable(&before(would)));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Partly("nothing was done".to_owned())),
    }
}

fn before(view: &RotatedView) -> String {
    let mut out = String::new();
    if let Some(name) = &view.name {
        let _ = if view.rotates {
            writeln!(
                out,
                "{name} would be removed from the group, for good: every machine refuses it from then on.\n  \
                 What it has by now stays there. It comes back only by an invitation, as a new machine."
            )
        } else {
            writeln!(out, "{name} would be forgotten; with --open it can come back at any time.")
        };
    }
    if view.rotates {
        let others = match &view.machines[..] {
            [] => "no other machine is on the list".to_owned(),
            [one] => format!("{one} gets it when it is linked next"),
            machines => format!("{} get it when they are linked next", listed(machines)),
        };
        let _ = writeln!(out, "The group would get a new secret: {others}.");
    }
    out + &left_behind(view)
}

fn after(view: &RotatedView) -> String {
    let mut out = match (&view.name, view.rotates) {
        (Some(name), true) => format!("removed {name}; the group has a new secret\n"),
        (Some(name), false) => format!("forgot {name}: deletions are no longer remembered for it\n"),
        (None, _) => "the group has a new secret\n".to_owned(),
    };
    let _ = match &view.machines[..] {
        [] => Ok(()),
        [one] => writeln!(out, "handed to {one} as it is linked"),
        machines => writeln!(out, "handed to {} as they are linked", listed(machines)),
    };
    out + &left_behind(view)
}

fn left_behind(view: &RotatedView) -> String {
    match &view.left_behind[..] {
        [] => String::new(),
        behind => format!(
            "an older version cannot take a new secret: {} out until it is upgraded\n",
            match behind {
                [one] => format!("{one} is"),
                several => format!("{} are", listed(several)),
            }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    #[test]
    fn what_a_removal_does_and_whom_it_leaves_behind_is_said_before_and_after() {
        let view = RotatedView {
            dry_run: true,
            device: Some(DeviceId([1; 32])),
            name: Some("laptop".into()),
            rotates: true,
            machines: vec!["nas".into(), "desk".into()],
            left_behind: vec!["old".into()],
        };
        insta::assert_snapshot!(before(&view), @r"
        laptop would be removed from the group, for good: every machine refuses it from then on.
          What it has by now stays there. It comes back only by an invitation, as a new machine.
        The group would get a new secret: nas and desk get it when they are linked next.
        an older version cannot take a new secret: old is out until it is upgraded
        ");
        insta::assert_snapshot!(after(&view), @r"
        removed laptop; the group has a new secret
        handed to nas and desk as they are linked
        an older version cannot take a new secret: old is out until it is upgraded
        ");
        let alone = RotatedView { device: None, name: None, machines: Vec::new(), left_behind: Vec::new(), ..view };
        assert_eq!(before(&alone), "The group would get a new secret: no other machine is on the list.\n");
    }
}
