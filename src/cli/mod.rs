//! `dirsync`: the tool beside the daemon, as `ssh` is beside `sshd`.
//!
//! Arguments in, one question to the daemon, text or JSON out. May import `client`, `io::control`'s
//! views, `io::humanize` and `model`. Deliberately not here: anything that the daemon decides.

mod analyze;
mod conflicts;
mod demo;
mod doctor;
mod events;
mod facts;
mod failure;
mod file_args;
mod files;
mod folders;
mod follow;
mod get;
mod held;
mod identity;
mod install;
mod invite;
mod leave;
mod list;
mod look;
mod look_args;
mod manual;
mod membership;
mod monitor;
mod orders;
mod output;
mod part_file;
mod passphrase;
mod peers;
mod place;
mod progress;
mod put;
mod reconnect;
mod rename;
mod roles;
mod show;
mod standing;
mod usage;
mod verify;
mod wait;
mod watch;
mod web;
mod when;

use crate::client::ClientError;
use crate::client::survey::survey;
use crate::humanize::{count, counted};
use crate::views::conflicts::DiffView;
use crate::views::held::{HeldView, UndoView};
use crate::views::history::{HistoryView, RestoredView};
use crate::views::status::{PeerView, StatusView};
use crate::views::verify::VerifyView;
use crate::views::why::WhyView;
use clap::{Parser, Subcommand};
use failure::Failure;
use output::{printable, put, say, say_nothing};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Ask the dirsyncd of a folder: how it is, what it did, and to bring back what it replaced.
///
/// Finds the daemon by walking up from the current directory to a folder with `.dirsync` in it.
#[derive(Parser, Debug)]
#[command(
    name = "dirsync",
    version,
    after_help = "PATHs may be given as they are printed, with \\\\xNN and \\\\\\\\.\n\
                  Exit codes: 0 done, 1 not done (or 'wait' timed out), 2 wrong usage.\n\
                  With --json, times are nanoseconds since 1970 as strings, and paths are escaped as \\xNN where they are not \
                  printable UTF-8."
)]
pub struct CliArgs {
    /// Act as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    directory: Option<PathBuf>,

    /// Answer in JSON, with stable names
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand, Debug)]
enum CliCommand {
    #[command(flatten)]
    OfFolder(Command),
    #[command(flatten)]
    OfMachine(MachineCommand),
}

/// What is asked of no single daemon.
#[derive(Subcommand, Debug)]
enum MachineCommand {
    /// Every folder of yours on this machine, with its daemon; of root, every user's
    ///
    /// Also those whose daemon does not run, with the command that starts it.
    Folders {
        /// Also those that are not there any more, and of which the state is kept
        #[arg(long)]
        all: bool,
    },
    /// Look at all that this folder's syncing needs, and say what to do where it lacks that
    ///
    /// Ports, broadcasts, clocks, limits, the file system, the disk, the state, the unit. It takes
    /// some seconds, as it listens for the other machines, and changes nothing.
    Doctor,
    /// A tour of two minutes: three daemons on this machine, an edit, a conflict, a kill, a restore
    ///
    /// They have a temporary folder of their own, which is removed in the end.
    Demo(demo::DemoArgs),
    /// Write, enable and start the systemd unit of a folder: for root at boot, with --user at login
    ///
    /// A folder that was synced by hand stays the same machine: the unit goes on with its state.
    /// Given again with other options, --force replaces them and starts it anew.
    Install(Box<install::InstallArgs>),
    /// This machine's membership as an encrypted file: to back it up, and to move to new hardware
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// Stop a folder's unit and remove it; the folder and its state stay
    Uninstall(install::UninstallArgs),
    #[command(flatten)]
    Manual(manual::ManualCommand),
}

#[derive(Subcommand, Debug)]
enum Command {
    /// How the folder is: what is under way, who is linked, what needs attention
    Status {
        /// Go on showing it, once a second, until interrupted
        #[arg(short, long)]
        watch: bool,
        /// Exit with 1 when anything needs attention, and say what: for monitoring
        #[arg(long, conflicts_with = "watch")]
        check: bool,
    },
    /// Machines, transfers and changes as they happen, on a whole terminal
    ///
    /// Keys pause and resume, confirm and undo what is held back, and restore a file.
    Monitor,
    /// The machines that are known here: how those stand that are linked, and since when the others
    /// are away
    Peers {
        /// With --json, also those that are not linked
        #[arg(short, long)]
        all: bool,
    },
    /// What the folder holds, as the index knows it
    Ls {
        /// A folder or file [default: the current directory]
        path: Option<OsString>,
        /// Also how each stands, and which machines hold it
        #[arg(short, long)]
        long: bool,
        /// Everything below, not only what lies directly in it
        #[arg(short = 'R', short_alias = 'r', long)]
        recursive: bool,
    },
    /// Why a file or folder is as it is: synced, pending, ignored, a problem, special or not there
    Why { path: OsString },
    /// What happened lately, oldest first
    Log {
        /// Of this file, or of everything in this folder [default: of all]
        path: Option<OsString>,
        /// How many lines, up to 10,000 [default: 50, or all with --since]
        #[arg(short, value_name = "N")]
        n: Option<usize>,
        /// Nothing older; TIME as for 'restore'
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Go on with what happens, until interrupted; with --json, one object a line
        #[arg(short, long)]
        follow: bool,
    },
    /// Files that were changed in two places at once: what won, and what lost
    Conflicts {
        #[command(subcommand)]
        act: Option<Conflicts>,
        /// Of this file, or of everything in this folder [default: of all]
        path: Option<OsString>,
        /// Also those that were decided in the last 180 days
        #[arg(short, long)]
        all: bool,
    },
    /// What was replaced or deleted, newest first, and which machines keep it: this one and those
    /// that are linked
    ///
    /// The machine at which a file was deleted or overwritten keeps no copy of it; the others do.
    History {
        /// Of this file, or of everything in this folder [default: of all]
        path: Option<OsString>,
        /// Only what was there at TIME and is not there now; TIME as for 'restore'
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Only what was replaced or deleted at TIME or later
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most so many, the newest
        #[arg(short, value_name = "N")]
        n: Option<usize>,
    },
    /// Bring back what PATH held; without a time, what was replaced or deleted last
    ///
    /// What this machine does not keep comes from a linked one that does. TIME is one that `dirsync
    /// history` shows, or any other: 2026-03-01, '2026-03-01 14:30', 14:30, or an age such as 90m,
    /// 2h or 3d. Of a folder, everything in it comes back that was there at that time; without a
    /// time, everything that was deleted in it. What was made since stays. What is restored is a
    /// new version like any other, and what it replaces goes to history. What 'verify' found
    /// suspect comes back only where its own time is named. A file that is called f@2h and is not
    /// there any more is 'f@2h@TIME'.
    Restore {
        #[arg(value_name = "PATH[@TIME]")]
        path: OsString,
        /// Only say what would come back
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash everything again, and compare it with the index: finds what rotted on the disk
    ///
    /// The daemon does it, and goes on if this is interrupted, or over a restart; asking again
    /// joins in. A file whose bytes changed while its times did not is suspect: it is announced to
    /// no other machine until you say what it is. Exit code 1 if anything is suspect.
    Verify {
        /// A file, or everything in a folder [default: everything]
        path: Option<OsString>,
        /// Also ask the linked machines what they hold
        #[arg(long)]
        peers: bool,
        /// Read at most so many bytes a second, such as 20M
        #[arg(long, value_name = "RATE", value_parser = verify::rate, default_value = "500M")]
        rate: u64,
        /// PATH is suspect and has rotted: fetch it again from a machine that has it
        #[arg(long, requires = "path", conflicts_with_all = ["peers", "rate", "keep", "stop"])]
        heal: bool,
        /// PATH is suspect and right as it is: make it a new version
        #[arg(long, requires = "path", conflicts_with_all = ["peers", "rate", "stop"])]
        keep: bool,
        /// Only say how far a verification is, or what the last one found
        #[arg(long, conflicts_with_all = ["path", "peers", "rate", "stop"])]
        status: bool,
        /// Stop the verification that is under way
        #[arg(long, conflicts_with_all = ["path", "peers", "rate"])]
        stop: bool,
    },
    /// Wait until this machine and all linked ones hold the same and nothing is left to be done at
    /// any of them
    ///
    /// Where other machines are known and none is linked, it goes on waiting. Exit code 1 when the
    /// time is over.
    Wait {
        /// Give up after this long, such as 30, 30s or 2m, saying who is behind [default: never]
        #[arg(long, value_name = "TIME", value_parser = wait::span)]
        timeout: Option<Duration>,
        /// Also wait for every machine that was linked once and was not forgotten
        #[arg(long)]
        all: bool,
    },
    /// List what is held back, by machine and path, with who did it: here, and on linked machines
    Held,
    /// Let go ahead what was held back: deletions and returns to older contents that were so many,
    /// and what another machine's .dirsyncignore uncovered. Once is enough for all machines; only
    /// what was uncovered is each machine's own affair
    ///
    /// Exit code 1 if nothing is held here; a linked machine that holds something is named.
    Confirm,
    /// Take back deletions and returns to older contents that were so many: the answer "no" to what
    /// is held back
    ///
    /// What is held comes back on every machine, as it was, and so does what the same count had let
    /// through in the last hour: from the machines' disks, or from their histories, this one's and
    /// those of linked machines. It also takes back a deletion of most files that was not held
    /// because they were small. What is live then counts from then on. What nobody has who can be
    /// asked is named: it stays away, or stays held. Exit code 1 if there is such a path, or
    /// nothing to undo here; a linked machine that holds something is named.
    Undo {
        /// Only say what would come back
        #[arg(long)]
        dry_run: bool,
    },
    /// Let another machine join: prints a code, and the command to run there
    ///
    /// The code is good for one machine and 10 minutes, and lives in the daemon's memory only.
    /// Whoever has it in that time can join, read and write. By ssh in one line: dirsync invite
    /// --quiet | ssh MACHINE dirsyncd DIR --join -
    Invite(invite::InviteArgs),
    #[command(flatten)]
    OfRole(roles::RoleCommand),
    /// Remove a machine from the group for good: one that was lost, stolen, or will not come back
    ///
    /// Every machine refuses it from then on, and the group gets a new secret, which the others are
    /// handed as they are linked, however long they were away. What the machine has by now stays
    /// there. Deletions are no longer remembered for it. The daemon begins anew, which takes about
    /// a second. To take this machine itself out of the group, use 'leave'.
    Remove(membership::RemoveArgs),
    /// Give the group a new secret without removing a machine: who had copied the old one is out
    ///
    /// Every machine on the list ('dirsync peers') is handed it as it is linked, however long it
    /// was away. The daemon begins anew, which takes about a second.
    Rotate(membership::RotateArgs),
    /// Call this machine NAME, here and on the others: 1 to 63 of A-Z a-z 0-9 . _ -
    ///
    /// The daemon begins anew with it, which takes about a second. Not where --name is given.
    Rename { name: String },
    /// Leave the group for good: the others are told, the secret is forgotten, the files stay
    ///
    /// Without --yes it only says what would happen, and what is not done yet: what is held back,
    /// or perhaps on no other machine. The daemon ends. Its next start is a new machine in a group
    /// of its own, or with --join CODE in another. Not where --secret-file or --open is given.
    Leave {
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// The address at which a browser asks this daemon, with the token that it needs; opens it
    /// where there is a desktop
    ///
    /// The daemon must run with --http. Whoever has the address can do all that you can here: do
    /// not pass it on, but one of --read-only.
    Web {
        /// With the token that may look at everything and change nothing
        #[arg(long)]
        read_only: bool,
    },
    #[command(flatten)]
    Order(orders::OrderCommand),
    #[command(flatten)]
    Viewing(look_args::LookCommand),
    #[command(flatten)]
    OfFiles(file_args::FileCommand),
}

#[derive(Subcommand, Debug)]
enum Conflicts {
    /// How what lost differs from what is there now
    Diff {
        path: OsString,
        /// One that 'dirsync conflicts' shows [default: the last that lost]
        version: Option<String>,
    },
    /// Decide: winner, loser, the name of the machine that made it, any version that 'dirsync
    /// conflicts' shows, or ours or theirs
    ///
    /// A decision holds on every machine. 'ours' and 'theirs' mean something where one of the two
    /// is this machine's.
    ///
    /// Of a folder, all conflicts in it are decided; with --all and no PATH, all there are. A loser
    /// that this machine does not keep comes from a linked one that does.
    Keep {
        #[arg(value_name = "PATH")]
        path: OsString,
        #[arg(value_name = "winner|loser|MACHINE|VERSION", required_unless_present = "every")]
        choice: Option<String>,
        /// All conflicts: 'keep --all winner'
        #[arg(long = "all", id = "every", conflicts_with = "choice")]
        every: bool,
    },
}

/// Runs one command; says what went wrong on standard error.
pub async fn run(args: CliArgs) -> ExitCode {
    match dispatch(args).await {
        Ok(()) => ExitCode::SUCCESS,
        // `dirsync log | head` is no error.
        Err(Failure::Output(why)) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "dirsync: {}", printable(&why.to_string()));
            ExitCode::from(if matches!(why, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

async fn dispatch(args: CliArgs) -> Result<(), Failure> {
    match args.command {
        CliCommand::OfFolder(command) => ask(args.directory, args.json, command).await,
        CliCommand::OfMachine(MachineCommand::Manual(command)) => manual::run(args.json, command),
        CliCommand::OfMachine(MachineCommand::Demo(wanted)) => demo::run(&wanted).await,
        CliCommand::OfMachine(MachineCommand::Doctor) => doctor::run(args.directory, args.json).await,
        CliCommand::OfMachine(MachineCommand::Folders { all }) => {
            let view = folders::view(&survey(folders::PATIENCE).await, all);
            say(args.json, &view, |view| folders::folders(view, rustix::process::geteuid().is_root()))
        }
        CliCommand::OfMachine(MachineCommand::Identity(command)) => {
            identity::run(args.directory, args.json, command).await
        }
        CliCommand::OfMachine(MachineCommand::Install(wanted)) => {
            let done = install::install(args.directory, *wanted)?;
            say(args.json, &done.json(), |_| done.text())
        }
        CliCommand::OfMachine(MachineCommand::Uninstall(wanted)) => {
            let done = install::uninstall(args.directory, wanted)?;
            say(args.json, &done.json(), |_| done.text())
        }
    }
}

async fn ask(directory: Option<PathBuf>, json: bool, command: Command) -> Result<(), Failure> {
    contradiction(&command)?;
    let place = match place::CliPlace::find(directory) {
        Err(Failure::Client(ClientError::NoFolder { start, .. })) => {
            let way_out = folders::way_out(&survey(folders::SHORT_PATIENCE).await);
            return Err(ClientError::NoFolder { start, way_out }.into());
        }
        found => found?,
    };
    let began = Instant::now();
    let mut client = match command {
        Command::Wait { timeout, .. } => wait::connect(&place.folder, timeout).await?,
        _ => place.folder.connect().await?,
    };
    match command {
        Command::Status { watch: true, .. } => watch::watch(&mut client, json).await,
        Command::Status { watch: false, check } => {
            let status: StatusView = client.get("/v1/status", &[]).await?;
            say(json, &status, show::status)?;
            let attention = show::attention(&status);
            if check && !attention.is_empty() { Err(Failure::Attention(attention.join("; "))) } else { Ok(()) }
        }
        Command::Monitor => monitor::run(client, &place).await,
        Command::Peers { all } => {
            let all = [("all", (all || !json).to_string())];
            say(json, &client.get::<Vec<PeerView>>("/v1/peers", &all).await?, |peers| peers::known(peers))
        }
        Command::Ls { path, recursive, long } => {
            let path = place.path(path.as_deref())?;
            let entries = list::all(&mut client, path.as_deref(), recursive).await?;
            if long {
                let entries = list::standing(&mut client, entries).await?;
                return say(json, &json!({ "entries": entries }), |_| show::long_list(&entries));
            }
            say(json, &json!({ "entries": entries }), |_| show::list(&entries))
        }
        Command::Why { path } => {
            let query = [("path", place.file(&path)?)];
            let view: WhyView = client.get("/v1/why", &query).await?;
            say(json, &view, |view| format!("'{}' {}\n", view.path, view.text))
        }
        Command::Log { path, n, since, follow } => {
            let path = path.map(|path| place.path(Some(&path))).transpose()?.flatten();
            let since_ns = since.map(|time| when::parse(&time, &jiff::Zoned::now())).transpose();
            let since_ns = since_ns.map_err(Failure::Usage)?;
            follow::log(&mut client, json, &follow::LineFilter { n, path, since_ns }, follow).await
        }
        Command::Conflicts { act: None, path, all } => {
            let path = path.map(|path| place.path(Some(&path))).transpose()?.flatten();
            let conflicts = conflicts::all(&mut client, path, all).await?;
            say(json, &json!({ "conflicts": conflicts }), |_| show::conflicts(&conflicts))
        }
        Command::Conflicts { act: Some(Conflicts::Diff { path, version }), .. } => {
            let query = [("path", Some(place.file(&path)?)), ("version", version)];
            let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            say(json, &client.get::<DiffView>("/v1/conflicts/diff", &query).await?, show::diff)
        }
        Command::Conflicts { act: Some(Conflicts::Keep { path, choice, every: _ }), .. } => {
            // With --all, the only word is the choice.
            let (path, choice) = match choice {
                Some(choice) => (Some(place.file(&path)?), choice),
                None => (None, path.to_string_lossy().into_owned()),
            };
            conflicts::keep(&mut client, json, path, &choice).await
        }
        Command::History { path, at, since, n } => {
            let path = path.map(|path| place.path(Some(&path))).transpose()?.flatten();
            let at = time(at)?;
            let query = [("path", path), ("at_ns", at.map(|at| at.to_string()))];
            let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let mut view = client.get::<HistoryView>("/v1/history", &query).await?;
            if let Some(since) = time(since)? {
                view.kept.retain(|kept| kept.time_ns.parse::<u64>().is_ok_and(|time| time >= since));
            }
            let hidden = view.kept.len().saturating_sub(n.unwrap_or(usize::MAX));
            view.kept.truncate(n.unwrap_or(usize::MAX));
            say(json, &view, |view| show::history(view, hidden))
        }
        Command::Restore { path, dry_run } => {
            let place::Meant { path, at_ns, hint } = place.path_and_time(&path)?;
            let query = json!({ "path": path, "at_ns": at_ns.map(|at| at.to_string()), "dry_run": dry_run });
            let view = client.post("/v1/restore", &query).await.map_err(|why| with_hint(why, hint))?;
            say(json, &view, show::restored)?;
            all_restored(&view)
        }
        Command::Verify { status: true, .. } => {
            say(json, &client.get::<VerifyView>("/v1/verify", &[]).await?, verify::text)
        }
        Command::Verify { stop: true, .. } => {
            let view: VerifyView = client.post("/v1/verify/stop", &json!({})).await?;
            say(json, &view, |_| "stopped\n".to_owned())
        }
        Command::Verify { path: Some(path), heal, keep, .. } if heal || keep => {
            let (choice, how) = if heal {
                ("heal", "is fetched again from a machine that has it")
            } else {
                ("keep", "is right as it is, and becomes a new version")
            };
            let path = place.file(&path)?;
            let query = json!({ "path": path, "choice": choice });
            let view: VerifyView = client.post("/v1/verify/decide", &query).await?;
            say(json, &view, |_| format!("'{path}' {how}\n"))
        }
        Command::Verify { path, peers, rate, .. } => {
            let path = path.map(|path| place.path(Some(&path))).transpose()?.flatten();
            let view = verify::verify(&mut client, path, peers, Some(rate)).await?;
            say(json, &view, verify::text)?;
            verify::complaint(&view).map_or(Ok(()), |found| Err(Failure::Suspect(found)))
        }
        Command::Wait { timeout, all } => {
            let status = wait::wait(&mut client, began, timeout, all).await?;
            say(json, &status, |_| String::new())
        }
        Command::Held => {
            let held: HeldView = client.get("/v1/held", &[]).await?;
            say(json, &held, held::held)
        }
        Command::Confirm => {
            let held: HeldView = client.post("/v1/confirm", &json!({})).await?;
            if held.is_empty() {
                let why = held::nothing("nothing is held here", "confirm", &held.elsewhere);
                return say_nothing(json, &held, why);
            }
            say(json, &held, held::confirmed)
        }
        Command::Undo { dry_run } => {
            let undone: UndoView = client.post("/v1/undo", &json!({ "dry_run": dry_run })).await?;
            let left = (undone.lost.len() + undone.still_held.len()) as u64;
            if undone.paths == 0 && left == 0 {
                let why = held::nothing("there is nothing to undo here", "undo", &undone.elsewhere);
                return say_nothing(json, &undone, why);
            }
            say(json, &undone, held::undone)?;
            match left {
                0 => Ok(()),
                left => Err(Failure::Partly(format!(
                    "{} in no history that can be asked, and not brought back",
                    counted(left, "path is", "paths are")
                ))),
            }
        }
        Command::Invite(args) => invite::invite(&mut client, json, &args).await,
        Command::OfRole(command) => roles::run(&mut client, &place, json, command).await,
        Command::Remove(args) => membership::remove(&mut client, json, args).await,
        Command::Rotate(args) => membership::rotate(&mut client, json, args).await,
        Command::Rename { name } => {
            let view = rename::rename(client, &place.folder, &name).await?;
            say(json, &view, |view| format!("this machine is {} now\n", view.name))
        }
        Command::Leave { yes } => leave::leave(client, &place.folder, json, yes).await,
        Command::Web { read_only } => web::web(&mut client, json, read_only).await,
        Command::Viewing(command) => look::run(client, &place, json, command).await,
        Command::OfFiles(command) => files::run(client, &place, json, command).await,
        Command::Order(command) => orders::run(&mut client, &place, json, command).await,
    }
}

/// What the definitions of the arguments cannot say.
fn contradiction(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Conflicts { act: Some(_), path, all } if *all || path.is_some() => Err(Failure::Usage(
            "'diff' and 'keep' come first, and then the path; --all goes with neither of them".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn time(text: Option<String>) -> Result<Option<u64>, Failure> {
    text.map(|text| when::parse(&text, &jiff::Zoned::now())).transpose().map_err(Failure::Usage)
}

/// A refusal, and what else may have been meant.
fn with_hint(why: ClientError, hint: Option<String>) -> ClientError {
    match (why, hint) {
        (ClientError::Refused { code, text }, Some(hint)) => {
            ClientError::Refused { code, text: format!("{text} ({hint})") }
        }
        (why, _) => why,
    }
}

fn all_restored(view: &RestoredView) -> Result<(), Failure> {
    let (restored, failed) = (view.restored.len() as u64, view.failed.len() as u64);
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Partly(format!("{} of {} not restored", count(failed), counted(restored + failed, "path", "paths"))))
}

#[cfg(test)]
mod tests;
