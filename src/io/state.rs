//! The state directory: ours alone, locked, and the group's secret in its file.
//!
//! May import `model`. Deliberately not here: the index, which opens itself, and the keys that are derived from
//! the secret.

use crate::model::text;
use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Far above any secret or pid.
const SMALL_FILE_BYTES: u64 = 256;

/// The group's secret.
pub type SecretBytes = [u8; 32];

/// Why the state directory or what is in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state directory '{path}' cannot be used: {why}; give --state-dir a folder that this user may write")]
    Unusable { path: String, why: io::Error },
    #[error(
        "the state directory '{path}' can be read or belongs to others (mode {mode:04o}, uid {uid}); make it this user's, with mode 0700"
    )]
    Loose { path: String, mode: u32, uid: u32 },
    #[error(
        "the state directory '{path}' is in use by the daemon with pid {pid}; stop that one first, or give another --state-dir"
    )]
    Busy { path: String, pid: String },
    #[error("the secret file '{path}' cannot be read: {why}; name a file that holds the group's secret")]
    SecretUnreadable { path: String, why: io::Error },
    #[error(
        "the secret file '{path}' {fault}; it must be a regular file of this user or root with mode 0600 (chmod 600)"
    )]
    SecretLoose { path: String, fault: String },
    #[error(
        "the secret file '{path}' is malformed; it must hold 64 hexadecimal digits (openssl rand -hex 32) and nothing else"
    )]
    SecretMalformed { path: String },
    #[error("a secret cannot be made at '{path}': {why}")]
    SecretNotMade { path: String, why: io::Error },
}

impl StateError {
    /// Whether the person at the keyboard named something wrong, rather than the world being in the way.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::SecretUnreadable { .. } | Self::SecretLoose { .. } | Self::SecretMalformed { .. })
    }
}

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

    pub fn index_path(&self) -> PathBuf {
        self.path.join("index")
    }
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

/// Reads the group's secret. `credentials`: systemd's `$CREDENTIALS_DIRECTORY`, whose files the service's group may read.
pub fn read_secret(path: &Path, credentials: Option<&OsStr>) -> Result<SecretBytes, StateError> {
    let unreadable = |why| StateError::SecretUnreadable { path: shown(path), why };
    let loose = |fault: String| Err(StateError::SecretLoose { path: shown(path), fault });
    // A fifo in its place must not block the start.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return loose("is no regular file".to_owned());
    }
    if facts.uid() != 0 && facts.uid() != rustix::process::geteuid().as_raw() {
        return loose(format!("belongs to another user (uid {})", facts.uid()));
    }
    let is_credential = credentials.is_some_and(|dir| path.starts_with(dir));
    let forbidden = if is_credential { 0o007 } else { 0o077 };
    if facts.mode() & forbidden != 0 {
        return loose(format!("is open to others (mode {:04o})", facts.mode() & 0o7777));
    }
    let mut content = Vec::new();
    file.take(SMALL_FILE_BYTES).read_to_end(&mut content).map_err(unreadable)?;
    let digits = std::str::from_utf8(content.trim_ascii_end()).ok();
    digits.and_then(text::from_hex).ok_or_else(|| StateError::SecretMalformed { path: shown(path) })
}

/// Reads the secret, or makes one where there is none yet; `true`: it was made.
pub fn read_or_make_secret(path: &Path) -> Result<(SecretBytes, bool), StateError> {
    match read_secret(path, None) {
        Err(StateError::SecretUnreadable { why, .. }) if why.kind() == ErrorKind::NotFound => {
            let secret = make_secret(path).map_err(|why| StateError::SecretNotMade { path: shown(path), why })?;
            Ok((secret, true))
        }
        read => Ok((read?, false)),
    }
}

/// Whole or not at all: another machine may be copying it at this moment.
fn make_secret(path: &Path) -> io::Result<SecretBytes> {
    let dir = File::open(path.parent().unwrap_or(Path::new(".")))?;
    let mut secret = SecretBytes::default();
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let temporary = ".secret.new";
    match rustix::fs::unlinkat(&dir, temporary, rustix::fs::AtFlags::empty()) {
        Err(why) if why != rustix::io::Errno::NOENT => return Err(why.into()),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&dir, temporary, flags, Mode::RUSR | Mode::WUSR)?);
    writeln!(file, "{}", text::hex(&secret))?;
    file.sync_all()?;
    rustix::fs::renameat_with(&dir, temporary, &dir, path.file_name().unwrap_or_default(), RenameFlags::NOREPLACE)?;
    dir.sync_all()?;
    Ok(secret)
}

fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

    fn file(dir: &TempDir, content: &str, mode: u32) -> PathBuf {
        let path = dir.path().join("secret");
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_is_64_digits_in_a_file_of_ours() {
        let dir = TempDir::new().unwrap();
        for content in [DIGITS.to_owned(), format!("{DIGITS}\n"), format!("{DIGITS}\r\n")] {
            let secret = read_secret(&file(&dir, &content, 0o600), None).unwrap();
            assert_eq!((secret[0], secret[31]), (0, 31));
        }
        assert!(read_secret(&file(&dir, DIGITS, 0o400), None).is_ok());
        for content in
            ["", "00", &DIGITS[1..], &format!("{DIGITS}0"), &format!(" {DIGITS}"), &"g".repeat(64), &"0".repeat(999)]
        {
            let why = read_secret(&file(&dir, content, 0o600), None).unwrap_err();
            assert!(why.is_usage() && why.to_string().contains("64 hexadecimal digits"), "{why}");
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = TempDir::new().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let why = read_secret(&file(&dir, DIGITS, mode), None).unwrap_err().to_string();
            assert!(why.contains(&format!("{mode:04o}")) && why.contains("chmod 600"), "{why}");
        }
        let credentials = Some(dir.path().as_os_str());
        assert!(read_secret(&file(&dir, DIGITS, 0o440), credentials).is_ok());
        assert!(read_secret(&file(&dir, DIGITS, 0o444), credentials).is_err());
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(read_secret(&fifo, None).unwrap_err().to_string().contains("no regular file"));
        assert!(read_secret(&dir.path().join("none"), None).unwrap_err().is_usage());
    }

    #[test]
    fn a_secret_is_made_once_and_for_us_alone() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("own");
        let (made, new) = read_or_make_secret(&path).unwrap();
        assert!(new && made != [0; 32]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_or_make_secret(&path).unwrap(), (made, false));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
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
