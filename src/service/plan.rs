//! The steps that install a folder's unit, or take it back: what is written, removed and run.
//!
//! Reads what is installed; changes nothing. Deliberately not here: carrying them out (`steps.rs`).

use super::installed::{Scope, UnitDirs};
use super::name::{self, TEMPLATE};
use super::steps::UnitStep;
use super::text::{self, Setting, Unwritable};
use crate::model::text::escape;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// systemd takes unit names of 255 bytes, and a file system the name of the folder beside it, which
/// is two longer.
const UNIT_BYTES: usize = 253;

/// Why there are no steps.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error(
        "the path is too long for the name of a unit: {0} bytes, and systemd takes {UNIT_BYTES}; \
         give the folder a shorter path"
    )]
    TooLong(usize),
    #[error("'{0}' is there already and says something else; look at it, and replace it with --force")]
    Differs(String),
    #[error("no unit of {whose} is installed for '{folder}'{elsewhere}")]
    NotInstalled { whose: &'static str, folder: String, elsewhere: &'static str },
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
}

/// What is to be installed.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub folder: &'a Path,
    pub dirs: &'a UnitDirs,
    /// The daemon's.
    pub binary: &'a Path,
    pub settings: &'a [Setting],
    /// Folders outside the synced one that its daemon writes into.
    pub writable: &'a [Setting],
    /// The unit runs now.
    pub is_active: bool,
    /// Enable and start it.
    pub enable: bool,
    /// Replace what says something else.
    pub force: bool,
}

/// Nothing is written that is there already.
pub fn install(wanted: &Wanted) -> Result<Vec<UnitStep>, UnitError> {
    let unit = name::unit(wanted.folder);
    if unit.len() > UNIT_BYTES {
        return Err(UnitError::TooLong(unit.len()));
    }
    let (dirs, scope) = (wanted.dirs, wanted.dirs.scope);
    let mut steps = Vec::new();
    let template = text::template(scope, wanted.binary)?;
    let own = dirs.own().join(TEMPLATE);
    let found = if own.symlink_metadata().is_ok() { Some(own.clone()) } else { dirs.template() };
    match found {
        Some(there) if is_usable(scope, &there) => {}
        Some(there) if !wanted.force => return Err(UnitError::Differs(shown(&there))),
        _ => steps.push(UnitStep::Write { path: own, text: template }),
    }
    let file = dirs.options_file(&unit);
    let is_there = file.symlink_metadata().is_ok();
    match text::options(&unit, wanted.settings, wanted.writable, sees_tmp(wanted)) {
        Some(text) if is_there && fs::read_to_string(&file).is_ok_and(|there| there == text) => {}
        None if !is_there => {}
        _ if is_there && !wanted.force => return Err(UnitError::Differs(shown(&file))),
        Some(text) => steps.push(UnitStep::Write { path: file, text }),
        None => steps.push(UnitStep::Delete(file)),
    }
    steps.push(systemctl(scope, &["daemon-reload"]));
    if wanted.enable && wanted.is_active {
        steps.push(systemctl(scope, &["enable", &unit]));
        steps.push(systemctl(scope, &["restart", &unit]));
    } else if wanted.enable {
        steps.push(systemctl(scope, &["enable", "--now", &unit]));
    }
    Ok(steps)
}

/// Whether the unit of the machine, which has a /tmp of its own by itself, must not have it.
fn sees_tmp(wanted: &Wanted) -> bool {
    let mut paths = wanted.writable.iter().map(|set| Path::new(&set.value)).chain([wanted.folder]);
    let is_below = |path: &Path| ["/tmp", "/var/tmp"].iter().any(|tmp| path.starts_with(tmp));
    wanted.dirs.scope == Scope::System && paths.any(is_below)
}

/// The template of this version, and a daemon where it says.
fn is_usable(scope: Scope, file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text::is_template(scope, &text) && text::binary(&text).is_some_and(Path::is_file)
}

/// Takes back what `install` did; the state stays, and so does a template that others use or that
/// says something else.
pub fn uninstall(folder: &Path, dirs: &UnitDirs, is_active: bool) -> Result<Vec<UnitStep>, UnitError> {
    let unit = name::unit(folder);
    let mut steps = Vec::new();
    if is_active || dirs.is_enabled(&unit) {
        steps.push(systemctl(dirs.scope, &["disable", "--now", &unit]));
    }
    let file = dirs.options_file(&unit);
    if file.symlink_metadata().is_ok() {
        steps.push(UnitStep::Delete(file));
    }
    if steps.is_empty() {
        let whose = if dirs.scope == Scope::System { "the machine" } else { "yours" };
        return Err(UnitError::NotInstalled { whose, folder: shown(folder), elsewhere: "" });
    }
    let template = dirs.own().join(TEMPLATE);
    let is_ours = fs::read_to_string(&template).is_ok_and(|there| text::is_template(dirs.scope, &there));
    if is_ours && !dirs.has_others(&unit) {
        steps.push(UnitStep::Delete(template));
    }
    steps.push(systemctl(dirs.scope, &["daemon-reload"]));
    Ok(steps)
}

fn systemctl(scope: Scope, words: &[&str]) -> UnitStep {
    let manager = scope.systemctl().split(' ');
    UnitStep::Run(manager.chain(words.iter().copied()).map(str::to_owned).collect())
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// The state directory that a unit has where nothing else is said. `state_home`: the user's.
pub fn state_dir(folder: &Path, scope: Scope, system_states: &Path, state_home: &Path) -> PathBuf {
    let home = if scope == Scope::System { system_states.to_owned() } else { state_home.join("dirsyncd") };
    home.join(name::instance(folder))
}

#[cfg(test)]
mod tests;
