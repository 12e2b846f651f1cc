//! `dirsync role`, `local`, `promote`, `revert` and `override`: what a machine does with changes,
//! and what that keeps apart.
//!
//! Deliberately not here: what follows (the engine decides).

use super::{Failure, place, say};
use crate::client::Client;
use crate::humanize::{count, counted};
use crate::model::SyncRole;
use crate::views::roles::{LocalPathView, LocalView, RoleView, SettledView};
use clap::Subcommand;
use serde_json::json;
use std::ffi::OsString;
use std::fmt::Write;

/// Paths that are shown before "and N more".
const NOTES: usize = 10;

#[derive(Subcommand, Debug)]
pub(super) enum RoleCommand {
    /// What this machine does with changes: both, receive-only or send-only
    ///
    /// 'receive-only': what is changed here is announced to nobody; 'dirsync local' lists it.
    /// 'send-only': what others change is not installed here; 'dirsync local' lists that. The role
    /// holds until another is set, here or by --role at a start. Exit code 1 where it would
    /// announce local changes, or install what was left out, and --yes is missing: nothing is
    /// changed then.
    Role {
        /// The new role [default: show the present one]
        #[arg(value_name = "both|receive-only|send-only")]
        role: Option<SyncRole>,
        /// Announce what is local, and install what was left out, as the new role has it
        #[arg(long, requires = "role")]
        yes: bool,
    },
    /// What differs here from what the group has, and stays so by this machine's role
    Local {
        /// At this file, or in this folder [default: everywhere]
        path: Option<OsString>,
    },
    /// Announce local changes after all: as changes made now, on top of what they were made on top
    /// of
    Promote {
        /// Files, or folders with what is in them
        #[arg(value_name = "PATH", required_unless_present = "all")]
        paths: Vec<OsString>,
        /// All local changes
        #[arg(long, conflicts_with = "paths")]
        all: bool,
    },
    /// Take the group's state back in place of local changes; history keeps those
    Revert {
        /// Files, or folders with what is in them
        #[arg(value_name = "PATH", required_unless_present = "all")]
        paths: Vec<OsString>,
        /// All local changes
        #[arg(long, conflicts_with = "paths")]
        all: bool,
    },
    /// Make what is here the group's newest version, in place of what others changed and is not
    /// installed
    ///
    /// What is not here is deleted on every machine. The others keep what that replaces in their
    /// histories, and hold so many deletions as they hold any. Without --yes, only says what would
    /// happen, with exit code 1.
    Override {
        /// Files, or folders with what is in them [default: everything]
        #[arg(value_name = "PATH")]
        paths: Vec<OsString>,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(
    client: &mut Client,
    place: &place::CliPlace,
    json: bool,
    command: RoleCommand,
) -> Result<(), Failure> {
    let all_of = |paths: Vec<OsString>| paths.iter().map(|path| place.file(path)).collect::<Result<Vec<_>, _>>();
    match command {
        RoleCommand::Role { role: None, .. } => say(json, &client.get::<RoleView>("/v1/role", &[]).await?, shown),
        RoleCommand::Role { role: Some(role), yes } => {
            let view: RoleView = client.post("/v1/role", &json!({ "role": role.word(), "yes": yes })).await?;
            if view.needs_yes {
                say(json, &view, |_| String::new())?;
                return Err(Failure::Nothing(would_change(&view, role)));
            }
            say(json, &view, set)
        }
        RoleCommand::Local { path } => {
            let path = path.map(|path| place.path(Some(&path))).transpose()?.flatten();
            let query: Vec<_> = path.into_iter().map(|path| ("path", path)).collect();
            say(json, &client.get::<LocalView>("/v1/local", &query).await?, local)
        }
        RoleCommand::Promote { paths, .. } => {
            let query = json!({ "paths": all_of(paths)? });
            settled(json, &client.post("/v1/promote", &query).await?, "announced to all")
        }
        RoleCommand::Revert { paths, .. } => {
            let query = json!({ "paths": all_of(paths)? });
            settled(json, &client.post("/v1/revert", &query).await?, "put aside: the group's state comes back")
        }
        RoleCommand::Override { paths, yes } => {
            let query = json!({ "paths": all_of(paths)?, "yes": yes });
            let view: SettledView = client.post("/v1/override", &query).await?;
            if view.paths == 0 {
                say(json, &view, |_| String::new())?;
                return Err(Failure::Nothing("nothing that others changed is left out there".to_owned()));
            }
            say(json, &view, overridden)?;
            let ask = "run it with --yes to do that; 'dirsync local' lists all";
            if view.needs_yes { Err(Failure::Nothing(ask.to_owned())) } else { Ok(()) }
        }
    }
}

fn shown(view: &RoleView) -> String {
    let mut out = format!("{} is {}\n", view.machine, view.role);
    if view.local > 0 {
        let changes = counted(view.local, "local change", "local changes");
        let _ = writeln!(out, "{changes}, announced to nobody ('dirsync local' lists them)");
    }
    if view.not_installed > 0 {
        let changes = counted(view.not_installed, "change", "changes");
        let _ = writeln!(out, "{changes} of others not installed here ('dirsync local' lists them)");
    }
    out
}

fn set(view: &RoleView) -> String {
    format!("{} is {} now\n", view.machine, view.role)
}

fn would_change(view: &RoleView, role: SyncRole) -> String {
    let mut what = Vec::new();
    if view.local > 0 && role.announces() {
        what.push(format!("{} would be announced to all", counted(view.local, "local change", "local changes")));
    }
    if view.not_installed > 0 && role.installs() {
        let changes = counted(view.not_installed, "change", "changes");
        what.push(format!("{changes} of others would be installed here"));
    }
    let what = what.join(", and ");
    format!("{} stays {}: {what} ('dirsync local' lists them); give --yes if that is meant", view.machine, view.role)
}

fn local(view: &LocalView) -> String {
    let mut out = String::new();
    let LocalView { machine, role, local_paths, not_installed_paths, .. } = view;
    if local_paths + not_installed_paths == 0 {
        return format!("nothing differs there from what the group has, by the role of {machine} ({role})\n");
    }
    let words = |change: &str| match change {
        "new" => "new here",
        "edited" => "edited here",
        "attributes" => "other permissions or time here",
        "deleted" => "deleted here",
        _ => "changed here",
    };
    name(&mut out, &view.local, *local_paths, words);
    if *local_paths > 0 {
        let changes = counted(*local_paths, "local change", "local changes");
        let _ =
            writeln!(out, "{changes}, announced to nobody; 'dirsync promote' announces, 'dirsync revert' takes back");
    }
    let words = |change: &str| match change {
        "new" => "deleted by others, still here",
        "edited" => "changed by others, not here",
        "attributes" => "given other permissions or another time by others, not here",
        "deleted" => "made by others, not here",
        _ => "changed by others",
    };
    name(&mut out, &view.not_installed, *not_installed_paths, words);
    if *not_installed_paths > 0 {
        let changes = counted(*not_installed_paths, "change", "changes");
        let _ = writeln!(out, "{changes} of others not installed; 'dirsync override' makes what is here the group's");
    }
    out
}

fn name(out: &mut String, changes: &[LocalPathView], of: u64, words: impl Fn(&str) -> &'static str) {
    for LocalPathView { path, change } in changes {
        let _ = writeln!(out, "{path}  ({})", words(change));
    }
    let more = of.saturating_sub(changes.len() as u64);
    if more > 0 {
        let _ = writeln!(out, "and {} more", count(more));
    }
}

fn settled(json: bool, view: &SettledView, done: &str) -> Result<(), Failure> {
    if view.paths == 0 {
        say(json, view, |_| String::new())?;
        return Err(Failure::Nothing("there is no local change there".to_owned()));
    }
    let verb = if view.paths == 1 { "is" } else { "are" };
    say(json, view, |view| format!("{} {verb} {done}\n", counted(view.paths, "local change", "local changes")))
}

fn overridden(view: &SettledView) -> String {
    let mut out = String::new();
    let gone = view.changes.iter().filter(|change| change.change == "deleted");
    for LocalPathView { path, .. } in gone.clone().take(NOTES) {
        let _ = writeln!(out, "{path}  (not here: deleted on every machine)");
    }
    let (gone, would) = (gone.count() as u64, if view.needs_yes { "would be" } else { "is" });
    let rest = view.paths.saturating_sub(gone);
    let _ = writeln!(
        out,
        "what is here {would} the group's newest version: {} replaced, {} deleted on every machine",
        counted(rest, "path", "paths"),
        counted(gone, "path", "paths")
    );
    out
}
