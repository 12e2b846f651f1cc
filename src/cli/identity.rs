//! `dirsync identity`: this machine's membership as a file, and back. Deliberately not here: what
//! is in it (`io/identity.rs`).

use super::passphrase::{self, Person};
use super::place::CliPlace;
use super::{Failure, say};
use crate::client::{identity, shown};
use crate::options::{Args as DaemonArgs, Options, SecretSource};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

#[derive(Subcommand, Debug)]
pub(super) enum IdentityCommand {
    /// Write this machine's membership to FILE, encrypted by a passphrase; '-' is standard output
    ///
    /// Asks the folder's daemon, or reads what is kept where none runs. Whoever has the file and
    /// the passphrase can be this machine: keep them apart. The program 'age' opens it as well.
    Export(ExportArgs),
    /// Make DIR what was exported to FILE: a member of that group, as a new device; '-' is standard
    /// input
    ///
    /// DIR must exist and have no membership yet. The machine that was exported may run on, or be
    /// gone. Then start 'dirsyncd DIR'.
    Import(ImportArgs),
}

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
    /// Read the passphrase from the first line of standard input
    #[arg(long)]
    passphrase_stdin: bool,
    /// Export what this state directory holds, whose daemon does not run
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The file of the secret, where it is not in the state directory and no daemon runs
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder to sync
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Read the passphrase from the first line of standard input
    #[arg(long)]
    passphrase_stdin: bool,
    /// As the daemon will be given it [default: as 'dirsyncd DIR' has it]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// What was done, for `--json`.
#[derive(Serialize)]
struct IdentityView {
    file: String,
    /// Missing where it was exported under none.
    name: Option<String>,
    device: String,
    /// Of an import.
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<String>,
    /// Of an import: what to run now.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

pub(super) async fn run(directory: Option<PathBuf>, json: bool, command: IdentityCommand) -> Result<(), Failure> {
    match command {
        IdentityCommand::Export(args) => export(directory, json, &args).await,
        IdentityCommand::Import(args) => import(directory.as_deref(), json, &args).await,
    }
}

async fn export(directory: Option<PathBuf>, json: bool, args: &ExportArgs) -> Result<(), Failure> {
    let is_standard = identity::is_standard(&args.file);
    if is_standard && (json || io::stdout().is_terminal()) {
        return Err(Failure::Usage(
            "'-' writes the export itself to standard output: lead it into a file, without --json".to_owned(),
        ));
    }
    let file = from(directory.as_deref(), &args.file);
    if !is_standard {
        identity::check_target(&file, args.force)?;
    }
    let secret_file = args.secret_file.as_ref().map(|file| from(directory.as_deref(), file));
    let member = if let Some(state_dir) = &args.state_dir {
        identity::kept(&from(directory.as_deref(), state_dir), secret_file.as_deref())?
    } else {
        let folder = CliPlace::find(directory)?.folder;
        identity::of_folder(&folder, secret_file.as_deref()).await??
    };
    let given = if args.passphrase_stdin { Some(passphrase::line()?) } else { None };
    let mut person = Person::new()?;
    let passphrase = match given {
        Some(passphrase) => passphrase,
        None => person.asked_twice().await?,
    };
    let (member, sealed) = person
        .unless_interrupted(move || {
            let sealed = identity::sealed(&member, &passphrase);
            (member, sealed)
        })
        .await?;
    let sealed = sealed?;
    if is_standard {
        let mut out = io::stdout().lock();
        out.write_all(&sealed)?;
        return Ok(out.flush()?);
    }
    identity::write(&file, &sealed, args.force)?;
    let view = IdentityView {
        file: shown(&file),
        device: member.device().to_string(),
        name: member.name,
        state_dir: None,
        command: None,
    };
    say(json, &view, |view| {
        format!(
            "exported the membership of {} to '{}'; who has that file and the passphrase can be this machine\n",
            called(view),
            view.file
        )
    })
}

async fn import(directory: Option<&Path>, json: bool, args: &ImportArgs) -> Result<(), Failure> {
    if identity::is_standard(&args.file) && args.passphrase_stdin {
        return Err(Failure::Usage(
            "'-' reads the export from standard input, so the passphrase cannot come from there: name the file, or \
             leave out --passphrase-stdin to be asked on the terminal"
                .to_owned(),
        ));
    }
    // As dirsyncd will look for it, before anybody is asked.
    let state_dir = args.state_dir.as_ref().map(|dir| from(directory, dir));
    let options = options(&from(directory, &args.directory), state_dir.as_deref())?;
    let file = from(directory, &args.file);
    let bytes = identity::read(&file)?;
    let given = if args.passphrase_stdin { Some(passphrase::line()?) } else { None };
    let mut person = Person::new()?;
    let passphrase = match given {
        Some(passphrase) => passphrase,
        None => person.asked("Passphrase of the export: ").await?,
    };
    let name = file.clone();
    let member = person.unless_interrupted(move || identity::opened(&name, &bytes, &passphrase)).await??;
    let device = identity::import(&options.state_dir, &member)?;
    let start = match &args.state_dir {
        Some(_) => format!("dirsyncd --state-dir '{}' '{}'", shown(&options.state_dir), shown(&options.directory)),
        None => format!("dirsyncd '{}'", shown(&options.directory)),
    };
    let view = IdentityView {
        file: shown(&file),
        device: device.to_string(),
        name: member.name,
        state_dir: Some(shown(&options.state_dir)),
        command: Some(start.clone()),
    };
    say(json, &view, |view| {
        let folder = shown(&options.directory);
        format!("'{folder}' has the membership of {}, as a new device; start it with: {start}\n", called(view))
    })
}

/// A path as it is meant with `-C`; `-` stays.
fn from(directory: Option<&Path>, path: &Path) -> PathBuf {
    directory.filter(|_| !identity::is_standard(path)).map_or_else(|| path.to_owned(), |start| start.join(path))
}

/// What `dirsyncd` makes of them and of the environment.
fn options(folder: &Path, state_dir: Option<&Path>) -> Result<Options, Failure> {
    let usage = |why: &dyn ToString| Failure::Usage(why.to_string().lines().next().unwrap_or_default().to_owned());
    let mut words: Vec<OsString> = vec!["dirsyncd".into()];
    if let Some(dir) = state_dir {
        words.extend(["--state-dir".into(), dir.into()]);
    }
    words.extend(["--".into(), folder.into()]);
    let args = DaemonArgs::try_parse_from(words).map_err(|why| usage(&why))?;
    let options = Options::new(args).map_err(|why| usage(&why))?;
    match &options.secret {
        SecretSource::Own(_) => Ok(options),
        _ => Err(Failure::Usage(
            "an import stores the secret in the state directory: unset DIRSYNCD_SECRET_FILE and DIRSYNCD_OPEN"
                .to_owned(),
        )),
    }
}

fn called(view: &IdentityView) -> String {
    let short: String = view.device.chars().take(8).collect();
    view.name.as_ref().map_or_else(|| short.clone(), |name| format!("{name} ({short})"))
}
