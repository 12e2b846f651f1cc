//! An exported membership on its way into a state directory: under a fresh device key, which the
//! exported one signs, so that the old machine may run on and is neither rolled back nor cloned.
//!
//! All of it is made in a folder beside, which one rename turns into [`COMMITTED`]. Before that
//! there is nothing that a start looks at; what is left of it, the next start or import removes.
//! After it, whoever opens the state directory next first puts the index and the secret in their
//! places ([`finish_begun`]). So no end of the process, nor of the power, leaves half a member.

use super::{ExportedMember, META_NAME};
use crate::engine::api::index::Index;
use crate::engine::{META_MEMBERSHIP, META_ROLE};
use crate::io::fail::{self, Point};
use crate::io::net::device_key::{self, META_FORMER_KEYS};
use crate::io::net::succession;
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::io::store::index::{IndexError, SqliteIndex};
use crate::io::store::leaving;
use crate::io::store::secret::SecretError;
use crate::io::store::state_folder::{StateDir, sync_folder};
use crate::model::{DeviceId, text};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One that is being made: a kill leaves it.
const UNFINISHED: &str = ".import";
/// One that is whole, and not in its place yet.
const COMMITTED: &str = "import";
const SECRET: &str = "secret";
const INDEX: &str = "index";
/// What SQLite would take for a part of the index.
const LOGS: [&str; 3] = ["index-wal", "index-shm", "index-journal"];

/// Why nothing was imported. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(
        "'{0}' holds a membership already: to give it up, start its daemon and run 'dirsync leave'; \
         to keep it, give another folder or --state-dir"
    )]
    Taken(String),
    #[error("the membership cannot be stored in '{state}': {why}")]
    NotStored { state: String, why: io::Error },
    #[error(
        "the membership is stored in '{state}', and is not in its place yet: {why}; the next start of \
         its daemon goes on, and there is no need to import again"
    )]
    NotInPlace { state: String, why: io::Error },
    #[error(transparent)]
    Begun(#[from] BegunError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why a change of membership that was decided cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum BegunError {
    #[error("this machine leaves its group, and what it keeps for it cannot be removed: {0}; start it again to go on")]
    Leaving(io::Error),
    #[error("what 'dirsync identity import' stored cannot be put in its place: {0}; start it again to go on")]
    Importing(io::Error),
}

/// Stores it, and says which device this machine is now.
pub fn import(state: &StateDir, member: &ExportedMember) -> Result<DeviceId, ImportError> {
    let shown = || text::escape(state.path().as_os_str().as_bytes());
    let not_stored = |why| ImportError::NotStored { state: shown(), why };
    finish_begun(state)?;
    for name in [SECRET, INDEX] {
        if state.path().join(name).symlink_metadata().is_ok() {
            return Err(ImportError::Taken(shown()));
        }
    }
    let beside = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(state.path()).map_err(not_stored)?;
    fail::at(Point::ImportWrite).map_err(|why| not_stored(why.into()))?;
    member.secret.store(&beside.path().join(SECRET))?;
    let device = make_index(&beside.path().join(INDEX), member)?;
    fail::after(Point::ImportWritten);
    make_durable(beside.path()).map_err(not_stored)?;
    fs::rename(beside.path(), state.path().join(COMMITTED)).map_err(not_stored)?;
    // It has another name now: there is nothing to remove.
    drop(beside.keep());
    let placed = sync_folder(state.path()).and_then(|()| {
        fail::after(Point::ImportCommitted);
        finish(state)
    });
    placed.map_err(|why| ImportError::NotInPlace { state: shown(), why })?;
    Ok(device)
}

/// With nothing in it but who this machine is.
fn make_index(path: &Path, member: &ExportedMember) -> Result<DeviceId, ImportError> {
    let mut index = SqliteIndex::open(path)?.index;
    let key = DeviceKey::generate()?;
    let device = key.device()?;
    device_key::keep(&mut index, &key);
    let chain = succession::extended(member.former_keys.as_deref(), &member.key, device)?;
    index.set_meta(META_FORMER_KEYS, &chain);
    if let Some(name) = &member.name {
        index.set_meta(META_NAME, name.as_bytes());
    }
    if !member.role.is_both() {
        index.set_meta(META_ROLE, member.role.word().as_bytes());
    }
    if let Some(list) = &member.membership {
        index.set_meta(META_MEMBERSHIP, list);
    }
    index.close()?;
    Ok(device)
}

/// Refuses anything beside the two: closing a database hides that its log could not be folded into
/// it, and what that log holds would be lost.
fn make_durable(made: &Path) -> io::Result<()> {
    for entry in fs::read_dir(made)? {
        let entry = entry?;
        if ![SECRET, INDEX].iter().any(|name| entry.file_name() == *name) {
            let name = text::escape(entry.file_name().as_bytes());
            return Err(io::Error::other(format!("'{name}' was left beside the new index, which is not whole")));
        }
        File::open(entry.path())?.sync_all()?;
    }
    sync_folder(made)
}

/// Whether a kill left one that is whole, and not in its place yet.
pub fn is_left(state_dir: &Path) -> bool {
    state_dir.join(COMMITTED).is_dir()
}

/// What comes before anything else in a state directory: carries out what was decided of leaving a
/// group or of an import. The index must not be open.
pub fn finish_begun(state: &StateDir) -> Result<(), BegunError> {
    leaving::finish(state).map_err(BegunError::Leaving)?;
    finish(state).map_err(BegunError::Importing)
}

/// Puts in its place what was imported, if anything was, and removes what a kill left of an import
/// that was not whole.
fn finish(state: &StateDir) -> io::Result<()> {
    for entry in fs::read_dir(state.path())? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let committed = state.path().join(COMMITTED);
    if !committed.try_exists()? {
        return Ok(());
    }
    if committed.join(INDEX).try_exists()? {
        for name in LOGS {
            match fs::remove_file(state.path().join(name)) {
                Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
                _ => {}
            }
        }
        // A log that comes back after a power cut would be replayed into the new index.
        sync_folder(state.path())?;
    }
    for name in [INDEX, SECRET] {
        fail::at(Point::ImportMove)?;
        match fs::rename(committed.join(name), state.path().join(name)) {
            // A kill came after it was moved.
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
            _ => {}
        }
    }
    sync_folder(state.path())?;
    fs::remove_dir(&committed)?;
    sync_folder(state.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::identity::tests::member;
    use crate::io::net::succession::former_ids;
    use crate::io::store::secret::Secret;
    use crate::io::store::state_folder::tests::{names, state_dir};
    use std::os::unix::fs::PermissionsExt;

    /// That the state directory holds all of this member, as this device.
    fn assert_whole(state: &StateDir, member: &ExportedMember, device: DeviceId) {
        assert_eq!(names(state), ["index", "lock", "secret"]);
        let secret = state.path().join(SECRET);
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(Secret::read(&secret, None).unwrap() == member.secret);
        let index = SqliteIndex::open(&state.index_path()).unwrap().index;
        assert_eq!(device_key::stored(&index).unwrap().unwrap().device().unwrap(), device);
        assert_ne!(device, member.key.device().unwrap(), "a fresh one");
        let chain = index.meta(META_FORMER_KEYS).unwrap();
        assert_eq!(former_ids(&chain, device), [member.key.device().unwrap()]);
        let word = |key| String::from_utf8(index.meta(key).unwrap()).unwrap();
        assert_eq!((word(META_NAME), word(META_ROLE)), ("nas".to_owned(), "send-only".to_owned()));
        assert_eq!(index.meta(META_MEMBERSHIP), member.membership);
        index.close().unwrap();
    }

    #[test]
    fn an_imported_member_is_whole_and_a_new_device_that_the_old_one_signed() {
        let (_home, state) = state_dir();
        let member = member();
        let device = import(&state, &member).unwrap();
        assert_whole(&state, &member, device);
    }

    #[test]
    fn a_membership_that_is_there_is_not_replaced() {
        for name in [SECRET, INDEX] {
            let (_home, state) = state_dir();
            fs::write(state.path().join(name), "of another").unwrap();
            let why = import(&state, &member()).unwrap_err().to_string();
            assert!(why.contains("dirsync leave") && why.contains("--state-dir"), "{why}");
            assert_eq!(fs::read(state.path().join(name)).unwrap(), b"of another");
            assert_eq!(names(&state).len(), 2, "nothing beside it and the lock");
        }
    }

    #[test]
    fn nothing_is_stored_where_the_new_index_left_a_log() {
        let made = tempfile::tempdir().unwrap();
        for name in [SECRET, INDEX] {
            fs::write(made.path().join(name), name).unwrap();
        }
        make_durable(made.path()).unwrap();
        fs::write(made.path().join(LOGS[0]), "frames").unwrap();
        let why = make_durable(made.path()).unwrap_err().to_string();
        assert!(why.contains("'index-wal'"), "{why}");
    }

    #[test]
    fn the_log_of_an_index_that_is_gone_is_not_replayed_into_the_one_that_comes() {
        let (_home, state) = state_dir();
        for name in LOGS {
            fs::write(state.path().join(name), "of another").unwrap();
        }
        let member = member();
        let device = import(&state, &member).unwrap();
        assert_whole(&state, &member, device);
    }

    #[test]
    fn what_fails_once_it_is_stored_is_said_to_be_stored() {
        let (_home, state) = state_dir();
        // A folder cannot be removed as a file is.
        fs::create_dir(state.path().join(LOGS[0])).unwrap();
        let member = member();
        let why = import(&state, &member).unwrap_err().to_string();
        assert!(why.contains("is stored") && why.contains("no need to import again"), "{why}");
        fs::remove_dir(state.path().join(LOGS[0])).unwrap();
        finish_begun(&state).unwrap();
        let index = SqliteIndex::open(&state.index_path()).unwrap().index;
        let device = device_key::stored(&index).unwrap().unwrap().device().unwrap();
        index.close().unwrap();
        assert_whole(&state, &member, device);
    }

    #[test]
    fn what_a_kill_left_is_removed_or_finished_wherever_it_came() {
        let member = member();
        // Before all was made.
        let (_home, half) = state_dir();
        fs::create_dir(half.path().join(".importA1b2C3")).unwrap();
        fs::write(half.path().join(".importA1b2C3/secret"), "half").unwrap();
        finish(&half).unwrap();
        assert_eq!(names(&half), ["lock"]);
        // After it, with none, one or both in their places.
        for moved in [&[][..], &[INDEX], &[INDEX, SECRET]] {
            let (_home, state) = state_dir();
            let device = import(&state, &member).unwrap();
            let committed = state.path().join(COMMITTED);
            fs::create_dir(&committed).unwrap();
            for name in [INDEX, SECRET].iter().filter(|name| !moved.contains(name)) {
                fs::rename(state.path().join(name), committed.join(name)).unwrap();
            }
            finish(&state).unwrap();
            assert_whole(&state, &member, device);
            assert!(matches!(import(&state, &member), Err(ImportError::Taken(_))));
        }
    }
}
