//! An exported membership on its way into a state directory: under a fresh device key, which the
//! exported one signs, so that the old machine may run on and is neither rolled back nor cloned.
//!
//! All of it is made in a folder beside, which one rename turns into [`COMMITTED`]. Before that
//! there is nothing that a start looks at; what is left of it, the next start or import removes.
//! After it, whoever opens the state directory next first puts the index and the secret in their
//! places ([`finish`]). So no end of the process, nor of the power, leaves half a member.

use super::{ExportedMember, META_MEMBERSHIP, META_NAME, META_ROLE};
use crate::engine::api::index::Index;
use crate::io::fail::{self, Point};
use crate::io::net::device_key::{self, META_FORMER_KEYS};
use crate::io::net::succession;
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::io::store::index::{IndexError, SqliteIndex};
use crate::io::store::leaving;
use crate::io::store::secret::SecretError;
use crate::io::store::state_folder::StateDir;
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
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Stores it, and says which device this machine is now.
pub fn import(state: &StateDir, member: &ExportedMember) -> Result<DeviceId, ImportError> {
    let shown = || text::escape(state.path().as_os_str().as_bytes());
    let not_stored = |why| ImportError::NotStored { state: shown(), why };
    leaving::finish(state).and_then(|()| finish(state)).map_err(not_stored)?;
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
    commit(state, beside.path()).map_err(not_stored)?;
    // It has another name now: there is nothing to remove.
    drop(beside.keep());
    fail::after(Point::ImportCommitted);
    finish(state).map_err(not_stored)?;
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

fn commit(state: &StateDir, made: &Path) -> io::Result<()> {
    for entry in fs::read_dir(made)? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync(made)?;
    fs::rename(made, state.path().join(COMMITTED))?;
    sync(state.path())
}

/// Whether a kill left one that is whole, and not in its place yet.
pub fn is_left(state_dir: &Path) -> bool {
    state_dir.join(COMMITTED).is_dir()
}

/// Puts in its place what was imported, if anything was, and removes what a kill left of an import
/// that was not whole. The index must not be open.
pub fn finish(state: &StateDir) -> io::Result<()> {
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
    for name in [INDEX, SECRET] {
        fail::at(Point::ImportMove)?;
        match fs::rename(committed.join(name), state.path().join(name)) {
            // A kill came after it was moved.
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
            _ => {}
        }
    }
    sync(state.path())?;
    fs::remove_dir(&committed)?;
    sync(state.path())
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::identity::tests::member;
    use crate::io::net::succession::former_ids;
    use crate::io::store::secret::Secret;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn state() -> (TempDir, StateDir) {
        let home = TempDir::new().unwrap();
        let state = StateDir::open(&home.path().join("state")).unwrap();
        (home, state)
    }

    fn names(state: &StateDir) -> Vec<String> {
        let entries = fs::read_dir(state.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

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
        let (_home, state) = state();
        let member = member();
        let device = import(&state, &member).unwrap();
        assert_whole(&state, &member, device);
    }

    #[test]
    fn a_membership_that_is_there_is_not_replaced() {
        for name in [SECRET, INDEX] {
            let (_home, state) = state();
            fs::write(state.path().join(name), "of another").unwrap();
            let why = import(&state, &member()).unwrap_err().to_string();
            assert!(why.contains("dirsync leave") && why.contains("--state-dir"), "{why}");
            assert_eq!(fs::read(state.path().join(name)).unwrap(), b"of another");
            assert_eq!(names(&state).len(), 2, "nothing beside it and the lock");
        }
    }

    #[test]
    fn what_a_kill_left_is_removed_or_finished_wherever_it_came() {
        let member = member();
        // Before all was made.
        let (_home, half) = state();
        fs::create_dir(half.path().join(".importA1b2C3")).unwrap();
        fs::write(half.path().join(".importA1b2C3/secret"), "half").unwrap();
        finish(&half).unwrap();
        assert_eq!(names(&half), ["lock"]);
        // After it, with none, one or both in their places.
        for moved in [&[][..], &[INDEX], &[INDEX, SECRET]] {
            let (_home, state) = state();
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
