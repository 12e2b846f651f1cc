//! Carrying out what installs a unit: files are written whole or not at all, and `systemctl` is
//! run.
//!
//! Deliberately not here: which steps there are (`plan.rs`).

use crate::model::text;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Of what a command says is shown so much (bytes).
const SAID_BYTES: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitStep {
    Write {
        path: PathBuf,
        text: String,
    },
    Delete(PathBuf),
    /// The program and its arguments.
    Run(Vec<String>),
}

/// A step that failed: those before it are done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("'{path}' cannot be changed: {why}")]
    File { path: String, why: io::Error },
    #[error("'{command}' cannot be run: {why}")]
    NotRun { command: String, why: io::Error },
    #[error("'{command}' failed: {said}")]
    Failed { command: String, said: String },
}

impl UnitStep {
    /// One line for a person, safe to print.
    pub fn shown(&self) -> String {
        match self {
            Self::Write { path, .. } => format!("write {}", shown(path)),
            Self::Delete(path) => format!("remove {}", shown(path)),
            Self::Run(words) => format!("run {}", command_line(words)),
        }
    }

    pub fn carry_out(&self) -> Result<(), StepError> {
        match self {
            Self::Write { path, text } => write(path, text).map_err(|why| StepError::File { path: shown(path), why }),
            Self::Delete(path) => delete(path).map_err(|why| StepError::File { path: shown(path), why }),
            Self::Run(words) => run(words),
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// And the folder beside a unit, if nothing else is in it.
fn delete(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    if let Some(dir) = path.parent().filter(|dir| dir.extension().is_some_and(|ending| ending == "d")) {
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}

fn run(words: &[String]) -> Result<(), StepError> {
    let out = command(words).output().map_err(|why| StepError::NotRun { command: command_line(words), why })?;
    if out.status.success() {
        return Ok(());
    }
    let said = &out.stderr[..out.stderr.len().min(SAID_BYTES)];
    let said = text::escape(String::from_utf8_lossy(said).trim().replace('\n', " ").as_bytes());
    let said = if said.is_empty() { out.status.to_string() } else { said };
    Err(StepError::Failed { command: command_line(words), said })
}

/// Whether the manager runs this unit now.
pub fn is_active(systemctl: &str, unit: &str) -> bool {
    let words = systemctl.split(' ').chain(["is-active", "--quiet", unit]).map(str::to_owned);
    command(&words.collect::<Vec<_>>()).output().is_ok_and(|out| out.status.success())
}

/// A user's manager is found by a variable that `su` and `sudo` do not set.
fn command(words: &[String]) -> Command {
    let (program, words) = words.split_first().map_or(("systemctl", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(program);
    command.args(words).env("XDG_RUNTIME_DIR", super::runtime_dir()).stdin(Stdio::null());
    command
}

/// As it is typed into a shell.
fn command_line(words: &[String]) -> String {
    let is_plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@:=/".contains(&b));
    let typed = words.iter().map(|word| if is_plain(word) { word.clone() } else { format!("'{word}'") });
    typed.collect::<Vec<_>>().join(" ")
}

fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_file_is_written_for_everybody_to_read_and_its_folder_goes_with_it() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("units/dirsyncd@x.service.d/options.conf");
        UnitStep::Write { path: path.clone(), text: "new".to_owned() }.carry_out().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        UnitStep::Delete(path.clone()).carry_out().unwrap();
        assert!(!path.parent().unwrap().exists() && home.path().join("units").is_dir());
        assert!(matches!(UnitStep::Delete(path).carry_out(), Err(StepError::File { .. })));
    }

    #[test]
    fn a_command_that_fails_is_said_with_its_words() {
        let words = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        UnitStep::Run(words("exit 0")).carry_out().unwrap();
        let why = |script: &str| UnitStep::Run(words(script)).carry_out().unwrap_err().to_string();
        assert_eq!(
            why("echo two >&2; printf '\\033words' >&2; exit 1"),
            r"'sh -c 'echo two >&2; printf '\033words' >&2; exit 1'' failed: two \x1bwords"
        );
        assert!(why("exit 3").ends_with("failed: exit status: 3"));
        let none = UnitStep::Run(vec!["/nowhere/systemctl".to_owned()]).carry_out().unwrap_err();
        assert!(none.to_string().starts_with("'/nowhere/systemctl' cannot be run: "), "{none}");
        assert_eq!(UnitStep::Run(vec!["systemctl".into(), r"a@b\x2dc".into()]).shown(), r"run systemctl 'a@b\x2dc'");
    }
}
