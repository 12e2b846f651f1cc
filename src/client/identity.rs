//! A membership between a state directory and a file: from the daemon that runs, or from what is
//! kept where none does.
//!
//! May import `io` and `options`. Deliberately not here: passphrases, and what is said about it
//! (`cli/identity.rs`).

use super::absent::AbsenceKind;
use super::{ClientError, Folder, shown};
use crate::io::control::EXPORT;
use crate::io::fs::nested;
use crate::io::identity::import::{self, BegunError, ImportError};
use crate::io::identity::sealed::{self, MAX_SEALED_BYTES, SealError};
use crate::io::identity::{ExportError, ExportText, ExportedMember};
use crate::io::store::index::SqliteIndex;
use crate::io::store::secret::{Secret, SecretError};
use crate::io::store::state_folder::{StateDir, StateError, sync_folder};
use crate::model::DeviceId;
use crate::options;
use serde_json::json;
use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Why nothing was exported or imported. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Begun(#[from] BegunError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{0}; where --secret-file is given to the daemon, give it here as well")]
    Secret(#[from] SecretError),
    #[error("no daemon is running for '{0}', and no state of it is found: start the daemon, or give --state-dir")]
    NoState(String),
    #[error("'{0}' holds no membership: it is no state directory of a machine that was started")]
    NoMembership(String),
    #[error("the state in '{state}' cannot be read: {why}")]
    Unreadable { state: String, why: String },
    #[error("'{0}' exists: name another file, or give --force to replace it")]
    Exists(String),
    #[error("'{0}' is no regular file: name another one, or '-' for standard output")]
    NotRegular(String),
    #[error("'{file}' lies in the synced folder '{folder}', and would be sent to every machine: name a place outside")]
    Inside { file: String, folder: String },
    #[error("'{file}' cannot be written: {why}")]
    NotWritten { file: String, why: io::Error },
    #[error("'{file}' cannot be read: {why}")]
    NotRead { file: String, why: io::Error },
    #[error("'{file}' cannot be opened: {why}")]
    Sealed { file: String, why: SealError },
    #[error("'{file}' cannot be imported: {why}")]
    Export { file: String, why: ExportError },
    #[error("what the daemon says cannot be exported: {0}")]
    Daemon(ExportError),
}

/// Of the daemon of this folder, or of what is kept of the folder where none runs.
pub async fn of_folder(
    folder: &Folder,
    secret_file: Option<&Path>,
) -> Result<Result<ExportedMember, IdentityError>, ClientError> {
    match folder.connect().await {
        Ok(mut client) => {
            let text: ExportText = client.post(EXPORT, &json!({})).await?;
            Ok(ExportedMember::of_text(&text).map_err(IdentityError::Daemon))
        }
        Err(ClientError::NoDaemon(absence)) if matches!(absence.kind, AbsenceKind::NotRunning { .. }) => {
            Ok(state_of(&folder.path).and_then(|state| kept(&state, secret_file)))
        }
        Err(why) => Err(why),
    }
}

fn state_of(folder: &Path) -> Result<PathBuf, IdentityError> {
    let homes = options::state_homes(|name| env::var_os(name).filter(|value| !value.is_empty()));
    let kept = options::kept_states(&homes).into_iter().find(|state| state.is_of(folder));
    kept.map(|state| state.dir).ok_or_else(|| IdentityError::NoState(shown(folder)))
}

/// Of a state directory that no daemon has open; it is locked meanwhile.
pub fn kept(state_dir: &Path, secret_file: Option<&Path>) -> Result<ExportedMember, IdentityError> {
    let none = || IdentityError::NoMembership(shown(state_dir));
    // In any other folder nothing is touched, a lock neither.
    if !state_dir.join("index").exists() && !import::is_left(state_dir) {
        return Err(none());
    }
    let state = StateDir::open(state_dir)?;
    let unreadable = |why: &dyn ToString| IdentityError::Unreadable { state: shown(state_dir), why: why.to_string() };
    import::finish_begun(&state)?;
    if !state.index_path().exists() {
        return Err(none());
    }
    let secret = Secret::read(secret_file.unwrap_or(&state_dir.join("secret")), None)?;
    let meta = |key: &str| SqliteIndex::glance(&state.index_path(), key).map(|seen| seen.meta);
    let gathered = ExportedMember::gather(secret, meta, Some(options::own_name()));
    gathered.map_err(|why| unreadable(&why))
}

/// Before anybody is asked for a passphrase.
pub fn check_target(file: &Path, force: bool) -> Result<(), IdentityError> {
    match file.symlink_metadata() {
        Ok(facts) if !facts.is_file() => Err(IdentityError::NotRegular(shown(file))),
        Ok(_) if !force => Err(IdentityError::Exists(shown(file))),
        _ => refuse_synced(file),
    }
}

/// What is in a synced folder goes to every machine, whichever folder it is.
fn refuse_synced(file: &Path) -> Result<(), IdentityError> {
    let place = std::path::absolute(file).ok().and_then(|file| file.parent()?.canonicalize().ok());
    let around = place.as_deref().and_then(|place| place.ancestors().find(|outer| nested::is_synced(outer)));
    match around {
        Some(folder) => Err(IdentityError::Inside { file: shown(file), folder: shown(folder) }),
        None => Ok(()),
    }
}

/// The bytes of an export.
pub fn sealed(member: &ExportedMember, passphrase: &str) -> io::Result<Vec<u8>> {
    sealed::seal(&serde_json::to_vec_pretty(&member.to_text())?, passphrase)
}

/// Mode 0600, whole or not at all.
pub fn write(file: &Path, bytes: &[u8], force: bool) -> Result<(), IdentityError> {
    check_target(file, force)?;
    let written = || -> io::Result<()> {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut beside = tempfile::Builder::new().prefix(".dirsync-export").tempfile_in(dir)?;
        beside.write_all(bytes)?;
        beside.as_file().sync_all()?;
        if force {
            beside.persist(file)?
        } else {
            beside.persist_noclobber(file)?
        };
        sync_folder(dir)
    };
    written().map_err(|why| match why.kind() {
        io::ErrorKind::AlreadyExists => IdentityError::Exists(shown(file)),
        _ => IdentityError::NotWritten { file: shown(file), why },
    })
}

/// The bytes of a file, or of standard input.
pub fn read(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let most = MAX_SEALED_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if is_standard(file) {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(most).read_to_end(&mut bytes))
    };
    match read {
        Ok(read) if read <= MAX_SEALED_BYTES => Ok(bytes),
        Ok(_) => Err(IdentityError::Sealed { file: shown(file), why: SealError::NotSealed }),
        Err(why) => Err(IdentityError::NotRead { file: shown(file), why }),
    }
}

/// `-`.
pub fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// What `file` holds.
pub fn opened(file: &Path, bytes: &[u8], passphrase: &str) -> Result<ExportedMember, IdentityError> {
    let plain = sealed::open(bytes, passphrase).map_err(|why| IdentityError::Sealed { file: shown(file), why })?;
    ExportedMember::of_bytes(&plain).map_err(|why| IdentityError::Export { file: shown(file), why })
}

/// Makes this machine the member, as a new device.
pub fn import(state_dir: &Path, member: &ExportedMember) -> Result<DeviceId, IdentityError> {
    Ok(import::import(&StateDir::open(state_dir)?, member)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    #[test]
    fn an_export_is_written_for_its_owner_alone_and_replaces_nothing_unless_told_to() {
        let home = TempDir::new().unwrap();
        let file = home.path().join("nas.age");
        write(&file, b"first", false).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        let why = write(&file, b"second", false).unwrap_err().to_string();
        assert!(why.contains("exists") && why.contains("--force"), "{why}");
        assert_eq!(fs::read(&file).unwrap(), b"first");
        write(&file, b"second", true).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert!(matches!(write(home.path(), b"x", true), Err(IdentityError::NotRegular(_))));
        let missing = home.path().join("none/nas.age");
        assert!(write(&missing, b"x", false).unwrap_err().to_string().contains("cannot be written"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
