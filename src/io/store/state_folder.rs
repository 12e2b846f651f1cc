//! The state directory: ours alone, and locked.
//!
//! Also keeps what the folder is, so that it is found again under another name, and the port that
//! was chosen. May import `model`. Deliberately not here: the index and the secret, which open
//! themselves.

use crate::model::folder::FolderRecord;
use crate::model::text;
use rustix::fs::{FlockOperation, OFlags};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Far above any pid.
const SMALL_FILE_BYTES: u64 = 256;

/// Why the state directory or what is in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state directory '{path}' cannot be used: {why}; give --state-dir a folder that this user may write")]
    Unusable { path: String, why: io::Error },
    #[error(
        "the state directory '{path}' can be read or belongs to others (mode {mode:04o}, uid \
         {uid}); make it this user's, with mode 0700"
    )]
    Loose { path: String, mode: u32, uid: u32 },
    #[error(
        "the state directory '{path}' is in use by the daemon with pid {pid}; stop that one \
         first, or give another --state-dir"
    )]
    Busy { path: String, pid: String },
}

/// What `joined_with` reads.
pub(super) const JOINED_WITH: &str = "joined-with";
/// The device key of a preview.
pub(super) const JOINING_KEY: &str = "joining-key";

/// The state directory, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes it if it is missing, checks that it is ours alone, and locks it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |why| StateError::Unusable { path: shown(path), why };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        own(path)?;
        let lock = lock(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Notes which folder this is the state of.
    pub fn remember(&self, record: &FolderRecord) -> io::Result<()> {
        self.write("folder", &record.to_text())
    }

    /// The port that was chosen because the usual one was taken.
    pub fn port(&self) -> Option<u16> {
        fs::read_to_string(self.path.join("port")).ok()?.trim_end().parse().ok()
    }

    pub fn set_port(&self, port: u16) -> io::Result<()> {
        self.write("port", &format!("{port}\n"))
    }

    /// The fingerprint of the invitation code that this machine joins with or has joined with, and
    /// the tag of the group.
    pub fn joined_with(&self) -> Option<([u8; 16], [u8; 16])> {
        let text = fs::read_to_string(self.path.join(JOINED_WITH)).ok()?;
        let (fingerprint, tag) = text.trim_end().split_once(' ')?;
        Some((text::from_hex(fingerprint)?, text::from_hex(tag)?))
    }

    /// The device key that a code is kept for, until this machine has an index.
    pub fn joining_key(&self) -> Option<Vec<u8>> {
        text::bytes_of_hex(fs::read_to_string(self.path.join(JOINING_KEY)).ok()?.trim_end())
    }

    pub fn set_joining_key(&self, key: &[u8]) -> io::Result<()> {
        self.write(JOINING_KEY, &format!("{}\n", text::hex(key)))
    }

    /// The index has it now.
    pub fn forget_joining_key(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(JOINING_KEY)) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        }
    }

    /// Notes that in the state directory at `path`, before the secret itself is stored: a secret
    /// with that tag is then known to have come by that code, whenever a kill comes.
    pub fn note_joining(path: &Path, fingerprint: [u8; 16], group_tag: [u8; 16]) -> io::Result<()> {
        write(path, JOINED_WITH, &format!("{} {}\n", text::hex(&fingerprint), text::hex(&group_tag)))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        write(&self.path, name, text)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn index_path(&self) -> PathBuf {
        self.path.join("index")
    }
}

/// Whole or not at all, also over a power cut.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)?;
    sync_folder(dir)
}

/// Makes the names in a folder durable.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A folder that others can look into is refused, unless it is empty: then closing it hurts nobody.
fn own(path: &Path) -> Result<(), StateError> {
    let unusable = |why| StateError::Unusable { path: shown(path), why };
    let facts = fs::metadata(path).map_err(unusable)?;
    let ours = facts.uid() == rustix::process::geteuid().as_raw();
    if ours && facts.mode().trailing_zeros() >= 6 {
        return Ok(());
    }
    let empty = fs::read_dir(path).map_err(unusable)?.next().is_none();
    if !(ours && empty) {
        return Err(StateError::Loose { path: shown(path), mode: facts.mode() & 0o7777, uid: facts.uid() });
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unusable)
}

fn lock(path: &Path) -> Result<File, StateError> {
    let unusable = |why: io::Error| StateError::Unusable { path: shown(path), why };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let mut file = options.open(path.join("lock")).map_err(unusable)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = (&mut file).take(SMALL_FILE_BYTES).read_to_string(&mut pid);
            let pid = Some(pid.trim()).filter(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()));
            return Err(StateError::Busy { path: shown(path), pid: pid.unwrap_or("unknown").to_owned() });
        }
        Err(why) => return Err(unusable(why.into())),
    }
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(unusable)?;
    Ok(file)
}

fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
pub(in crate::io) mod tests {
    use super::*;
    use tempfile::TempDir;

    /// An empty one, and the folder that it goes with.
    pub(in crate::io) fn state_dir() -> (TempDir, StateDir) {
        let home = TempDir::new().unwrap();
        let state = StateDir::open(&home.path().join("state")).unwrap();
        (home, state)
    }

    pub(in crate::io) fn names(state: &StateDir) -> Vec<String> {
        let entries = fs::read_dir(state.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_daemon_is_told_the_first_one_s_pid() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("deep/state");
        let held = StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let why = StateDir::open(&path).unwrap_err().to_string();
        assert!(why.contains(&format!("pid {}", std::process::id())), "{why}");
        drop(held);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn a_state_directory_that_others_can_read_is_closed_if_empty_and_else_refused() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("state");
        let open_up = || fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(&path).unwrap();
        open_up();
        drop(StateDir::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        open_up();
        assert!(StateDir::open(&path).unwrap_err().to_string().contains("0755"));
        fs::write(home.path().join("file"), "").unwrap();
        assert!(StateDir::open(&home.path().join("file")).is_err());
    }
}
