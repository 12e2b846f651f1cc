//! `dirsync install` and `uninstall`: the systemd unit of a folder, at boot or at login.
//!
//! Takes each option that `dirsyncd` takes, and checks it as `dirsyncd` does. May import `service`,
//! `options` and `client`. Deliberately not here: what a unit says and how it is written
//! (`service/`).

use super::{Failure, place};
use crate::client::{Folder, shown};
use crate::logging;
use crate::model::path::PRIVATE_DIR;
use crate::options::{self, Args, Options};
use crate::service::installed::{Scope, UnitDirs};
use crate::service::plan::{self, UnitError, Wanted};
use crate::service::steps::{self, UnitStep};
use crate::service::text::Setting;
use crate::service::{self, name};
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use serde_json::{Value, json};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a unit says by itself.
const OF_THE_UNIT: &str = "directory";
/// A unit is started in `/`.
const PATHS: [&str; 3] = ["state-dir", "signature-dir", "secret-file"];
const HEADING: &str = "Options of dirsyncd, for the unit";

#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct InstallArgs {
    /// The folder [default: the synced one that we are in]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// For your own service manager, which runs from login on: no root is needed
    #[arg(long)]
    user: bool,
    /// Only write the unit; neither enable nor start it
    #[arg(long)]
    no_enable: bool,
    /// Replace a unit that says something else; begin as a new machine where the state is not found
    #[arg(long)]
    force: bool,
    /// Only say what would be written and run
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: DaemonOptions,
}

#[derive(clap::Args, Debug)]
pub(super) struct UninstallArgs {
    /// The folder [default: the synced one that we are in]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Of your own service manager
    #[arg(long)]
    user: bool,
    /// Only say what would be removed and run
    #[arg(long)]
    dry_run: bool,
}

/// Options of `dirsyncd` that were given here.
#[derive(Debug, Clone, Default)]
struct DaemonOptions(Vec<DaemonOption>);

#[derive(Debug, Clone)]
struct DaemonOption {
    long: String,
    /// Its name in the environment.
    env: String,
    /// None of a switch, which is on.
    value: Option<OsString>,
}

impl DaemonOptions {
    fn get(&self, long: &str) -> Option<&OsStr> {
        self.0.iter().find(|option| option.long == long)?.value.as_deref()
    }

    /// As they are typed behind `dirsyncd`.
    fn words(&self) -> Vec<OsString> {
        let word = |DaemonOption { long, value, .. }: &DaemonOption| {
            let mut word = OsString::from(format!("--{long}"));
            if let Some(value) = value {
                word.push("=");
                word.push(value);
            }
            word
        };
        self.0.iter().map(word).collect()
    }

    /// Paths are meant from where we are.
    fn make_absolute(&mut self, base: &Path) {
        for option in self.0.iter_mut().filter(|option| PATHS.contains(&&*option.long)) {
            option.value = option.value.take().map(|path| base.join(path).into_os_string());
        }
    }

    /// As `dirsyncd` would at its start, but for what the environment says here.
    fn check(&self, folder: &Path, state: &Path) -> Result<(), Failure> {
        let usage = |why: &dyn ToString| Failure::Usage(why.to_string().lines().next().unwrap_or_default().to_owned());
        let mut words = [vec!["dirsyncd".into()], self.words()].concat();
        if self.get("state-dir").is_none() {
            words.extend(["--state-dir".into(), state.into()]);
        }
        words.extend(["--".into(), folder.into()]);
        let command = Args::command().mut_args(|arg| arg.env(Resettable::Reset));
        let matches = command.try_get_matches_from(words).map_err(|why| usage(&why))?;
        let args = Args::from_arg_matches(&matches).map_err(|why| usage(&why))?;
        args.log_level.as_deref().map_or(Ok(()), logging::check).map_err(|why| usage(&why))?;
        Options::new(args).map(drop).map_err(|why| usage(&why))
    }
}

fn daemon_arguments() -> Vec<clap::Arg> {
    let command = Args::command();
    let all = command.get_arguments().filter(|arg| arg.get_env().is_some() && arg.get_long().is_some());
    let is_of_units = |id: &str| id != OF_THE_UNIT && !options::FOR_ONE_START.contains(&id);
    all.filter(|arg| is_of_units(arg.get_id().as_str())).cloned().collect()
}

impl clap::Args for DaemonOptions {
    fn augment_args(command: clap::Command) -> clap::Command {
        let plain = |arg: clap::Arg| arg.env(Resettable::Reset).help_heading(HEADING);
        command.args(daemon_arguments().into_iter().map(plain))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DaemonOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = daemon_arguments().into_iter().filter_map(|arg| {
            let id = arg.get_id().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                return None;
            }
            let value = arg.get_action().takes_values().then(|| {
                let values: Vec<_> = matches.get_raw(id).into_iter().flatten().collect();
                values.join(OsStr::new(","))
            });
            Some(DaemonOption { long: arg.get_long()?.to_owned(), env: arg.get_env()?.to_str()?.to_owned(), value })
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What was done, or would be.
pub(super) struct Installation {
    unit: String,
    steps: Vec<UnitStep>,
    dry_run: bool,
    /// The sentence that ends it.
    end: String,
}

impl Installation {
    pub(super) fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| match step {
            UnitStep::Write { path, text } => json!({ "write": shown(path), "text": text }),
            UnitStep::Delete(path) => json!({ "remove": shown(path) }),
            UnitStep::Run(words) => json!({ "run": words }),
        });
        json!({ "unit": self.unit, "dry_run": self.dry_run, "steps": steps.collect::<Vec<_>>() })
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for step in &self.steps {
            let _ = writeln!(out, "{}{}", if self.dry_run { "would " } else { "" }, step.shown());
            if let (UnitStep::Write { text, .. }, true) = (step, self.dry_run) {
                text.lines().for_each(|line| out.extend(["    ", line, "\n"]));
            }
        }
        if !self.dry_run {
            let _ = writeln!(out, "{}", self.end);
        }
        out
    }
}

pub(super) fn install(base: Option<PathBuf>, args: InstallArgs) -> Result<Installation, Failure> {
    let InstallArgs { dir, user, no_enable, force, dry_run, mut options } = args;
    let scope = if user { Scope::User } else { Scope::System };
    let base = base_dir(base)?;
    let folder = folder(&base, dir, "install")?;
    options.make_absolute(&base);
    let unit = name::unit(&folder);
    let state = state(&folder, scope, &options, force)?;
    options.check(&folder, state.dir())?;
    service::refuse_nested(&folder).map_err(|why| refused(why.to_string()))?;
    let binary = binary()?;
    if !dry_run {
        refuse_place(scope, &binary, &options, &folder)?;
    }
    let is_active = steps::is_active(scope.systemctl(), &unit);
    if !no_enable && !is_active && Folder::has_daemon(&folder) {
        let why = "a daemon that this unit did not start runs for";
        return Err(refused(format!("{why} '{}'; stop that one first", shown(&folder))));
    }
    let (settings, writable) = settings(&options, &state, scope)?;
    let dirs = UnitDirs::here(scope);
    let wanted = Wanted {
        folder: &folder,
        dirs: &dirs,
        binary: &binary,
        settings: &settings,
        writable: &writable,
        is_active,
        enable: !no_enable,
        force,
    };
    let steps = plan::install(&wanted).map_err(|why| refused(why.to_string()))?;
    let end = installed(&folder, scope, !no_enable);
    carry_out(Installation { unit, steps, dry_run, end })
}

pub(super) fn uninstall(base: Option<PathBuf>, args: UninstallArgs) -> Result<Installation, Failure> {
    let UninstallArgs { dir, user, dry_run } = args;
    let (scope, other) = if user { (Scope::User, Scope::System) } else { (Scope::System, Scope::User) };
    let folder = folder(&base_dir(base)?, dir, "uninstall")?;
    let unit = name::unit(&folder);
    if !dry_run {
        refuse_other_user(scope, "uninstall")?;
    }
    let is_active = steps::is_active(scope.systemctl(), &unit);
    let steps = plan::uninstall(&folder, &UnitDirs::here(scope), is_active).map_err(|why| match why {
        UnitError::NotInstalled { whose, folder, .. } if UnitDirs::here(other).is_enabled(&unit) => {
            let elsewhere =
                if user { "; the machine has one: leave --user out" } else { "; you have one: give --user" };
            refused(UnitError::NotInstalled { whose, folder, elsewhere }.to_string())
        }
        why => refused(why.to_string()),
    })?;
    let end = format!("'{}' is not kept by a unit any more; the folder and its state are as they were", shown(&folder));
    carry_out(Installation { unit, steps, dry_run, end })
}

fn carry_out(done: Installation) -> Result<Installation, Failure> {
    if !done.dry_run {
        for step in &done.steps {
            step.carry_out().map_err(|why| refused(format!("{why}; what was done before that stays")))?;
        }
    }
    Ok(done)
}

fn installed(folder: &Path, scope: Scope, enabled: bool) -> String {
    let unit = name::unit(folder);
    let unit = unit.trim_end_matches(".service");
    let folder = shown(folder);
    if !enabled {
        return format!(
            "the unit of '{folder}' is written; start it with: {} enable --now '{unit}'",
            scope.systemctl()
        );
    }
    match scope {
        Scope::System => {
            format!("'{folder}' is kept from now on, and from each boot on; its log: journalctl -u '{unit}'")
        }
        Scope::User => {
            let linger = if service::lingers() { "" } else { "; to keep it without a login: loginctl enable-linger" };
            format!(
                "'{folder}' is kept from now on, and from each login on; its log: journalctl \
                 --user -u '{unit}'{linger}"
            )
        }
    }
}

fn base_dir(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let here =
        env::current_dir().map_err(|why| Failure::Usage(format!("the current directory cannot be used: {why}")))?;
    Ok(given.map_or(here.clone(), |given| here.join(given)))
}

/// A folder that is gone can still be uninstalled, by the path that it had.
fn folder(base: &Path, dir: Option<PathBuf>, command: &str) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => Ok(base.join(&dir).canonicalize().unwrap_or_else(|_| place::plain(&base.join(dir)))),
        None => Folder::find(base).map(|folder| folder.path).map_err(|_| {
            let base = shown(base);
            Failure::Usage(format!(
                "'{base}' is in no synced folder; name the one that is meant: dirsync {command} DIR"
            ))
        }),
    }
}

/// Where the unit's daemon has its state.
enum UnitState {
    /// Where the unit has it by itself.
    Own(PathBuf),
    /// Of one who ran the daemon by hand until now: it stays the same machine, with its secret.
    TakenOver(PathBuf),
    /// As the options say.
    Named(PathBuf),
}

impl UnitState {
    fn dir(&self) -> &Path {
        match self {
            Self::Own(dir) | Self::TakenOver(dir) | Self::Named(dir) => dir,
        }
    }
}

fn state(folder: &Path, scope: Scope, options: &DaemonOptions, force: bool) -> Result<UnitState, Failure> {
    if let Some(named) = options.get("state-dir") {
        return Ok(UnitState::Named(named.into()));
    }
    let environment = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let homes = options::state_homes(environment);
    let state_home = homes.first().and_then(|home| home.parent()).unwrap_or(Path::new("/"));
    let own = plan::state_dir(folder, scope, Path::new(options::SYSTEM_STATES), state_home);
    // Below systemd 254, a user's unit has its state beside his configuration.
    let is_own = |dir: &Path| {
        let is_systems = dir.starts_with(options::SYSTEM_STATES);
        dir.file_name() == own.file_name() && is_systems == (scope == Scope::System)
    };
    let kept = options::kept_states(&homes).into_iter().filter(|state| state.is_of(folder));
    let mut kept: Vec<_> = kept.map(|state| state.dir).collect();
    kept.sort_by_key(|dir| !is_own(dir));
    // Of a machine that joined a group and was stopped before it knew its folder.
    let has_secret = |dir: &PathBuf| dir.join("secret").exists();
    let by_hand = || homes.first().and_then(|home| options::state_dir(home, folder, None).ok()).filter(has_secret);
    let Some(taken) = kept.into_iter().next().or_else(by_hand) else {
        if !force && folder.join(PRIVATE_DIR).join("marker").exists() {
            return Err(refused(format!(
                "'{}' was synced before, and this user keeps no state of it: install it as the \
                 user who synced it, or give --state-dir; with --force it begins as a new \
                 machine, with a secret of its own",
                shown(folder)
            )));
        }
        return Ok(UnitState::Own(own));
    };
    if is_own(&taken) {
        return Ok(UnitState::Own(own));
    }
    let us = rustix::process::geteuid().as_raw();
    match fs::metadata(&taken).map(|facts| facts.uid()) {
        Ok(owner) if owner != us => Err(refused(format!(
            "the state of '{}' belongs to another user (uid {owner}); install it as that user, with --user",
            shown(folder)
        ))),
        _ => Ok(UnitState::TakenOver(taken)),
    }
}

/// Beside the options, what follows from them.
fn settings(options: &DaemonOptions, state: &UnitState, scope: Scope) -> Result<(Vec<Setting>, Vec<Setting>), Failure> {
    let usage = |why: &dyn ToString| Failure::Usage(why.to_string());
    let on = OsString::from("1");
    let given = options.0.iter().map(|option| (&*option.env, option.value.as_deref().unwrap_or(&on)));
    let taken = match state {
        UnitState::TakenOver(dir) => Some(("DIRSYNCD_STATE_DIR", dir.as_os_str())),
        _ => None,
    };
    let set = |(name, value): (&str, &OsStr)| Setting::new(name, value.as_bytes()).map_err(|why| usage(&why));
    let settings = given.chain(taken).map(set).collect::<Result<_, _>>()?;
    let mut writable = Vec::new();
    if scope == Scope::System {
        let state = Some(state.dir().as_os_str()).filter(|_| !matches!(state, UnitState::Own(_)));
        for dir in state.into_iter().chain(options.get("signature-dir")) {
            if !Path::new(dir).is_dir() {
                let dir = shown(Path::new(dir));
                return Err(Failure::Usage(format!(
                    "'{dir}' does not exist; make it first: install -d -m 700 '{dir}'"
                )));
            }
            writable.push(set(("ReadWritePaths", dir))?);
        }
    }
    Ok((settings, writable))
}

/// The daemon beside this tool.
fn binary() -> Result<PathBuf, Failure> {
    let us = env::current_exe().map_err(|why| refused(format!("it is not known where dirsync is: {why}")))?;
    let binary = us.with_file_name("dirsyncd");
    if binary.is_file() {
        return Ok(binary);
    }
    Err(refused(format!("there is no '{}': put dirsyncd beside dirsync", shown(&binary))))
}

fn refuse_place(scope: Scope, binary: &Path, options: &DaemonOptions, folder: &Path) -> Result<(), Failure> {
    if !service::runs(scope) {
        let words = options.words();
        let words: Vec<_> = words.iter().map(|word| shown(Path::new(word))).collect();
        let instead = format!("dirsyncd {}", [words, vec![format!("'{}'", shown(folder))]].concat().join(" "));
        return Err(refused(match scope {
            Scope::User if service::runs(Scope::System) => format!(
                "no service manager of yours runs; log in as yourself (not by su), or run as \
                 root: loginctl enable-linger USER; by hand: {instead}"
            ),
            _ => format!("systemd does not run here; have your init or a shell run: {instead}"),
        }));
    }
    refuse_other_user(scope, "install")?;
    if scope == Scope::System && !service::is_roots_alone(binary) {
        return Err(refused(format!(
            "'{0}' can be changed by others than root, who would run it; put both in a place of \
             root's, and run that dirsync: install -m 755 '{0}' '{1}' /usr/local/bin/",
            shown(binary),
            shown(&binary.with_file_name("dirsync"))
        )));
    }
    Ok(())
}

fn refuse_other_user(scope: Scope, command: &str) -> Result<(), Failure> {
    if scope == Scope::System && !rustix::process::geteuid().is_root() {
        return Err(refused(format!("units of the machine are root's affair: sudo dirsync {command}, or give --user")));
    }
    Ok(())
}

fn refused(why: impl Into<String>) -> Failure {
    Failure::Service(why.into())
}

#[cfg(test)]
mod tests;
