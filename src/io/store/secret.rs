//! The group's secret in a file: 32 bytes, or what a read-only member has of it (P6).
//!
//! Deliberately not here: who may hear of it. Keyed hashes of it leave this process, and it itself
//! only to a machine that was invited (`net/invite.rs`).

pub use crate::io::store::keys::SecretKeys;
use crate::io::store::keys::reader_secret;
use crate::io::store::state_folder::sync_folder;
use crate::model::{Capability, text};
use crate::wire::packet::HandedSecret;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const SECRET_BYTES: usize = 32;
/// 64 digits and a line's end; anything longer is something else.
const MAX_FILE_BYTES: u64 = 256;
/// The secret of `--open`: everyone knows it.
const OPEN_SECRET: [u8; SECRET_BYTES] = *b"dirsyncd: open to this network !";

/// The first word in the file of a read-only member.
const READ_ONLY: &str = "read-only";
/// A secret that is being written; a kill leaves it.
pub(super) const UNFINISHED: &str = ".secret";
/// How the file of a secret that was replaced is called: `secret.before-join`.
pub const ASIDE: &str = "before-join";

/// Why there is no secret. Each says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("secret file '{}' cannot be read: {error}", file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("secret file '{}' cannot be made: {error}", file.display())]
    NotMade { file: PathBuf, error: io::Error },
    #[error("secret file '{}' is not a regular file: name one that holds 64 hexadecimal digits", file.display())]
    NotRegular { file: PathBuf },
    #[error("secret file '{}' belongs to user {uid}: it must be yours or root's (chown it)", file.display())]
    NotOurs { file: PathBuf, uid: u32 },
    #[error("secret file '{}' can be read or written by others (mode {mode:04o}): run chmod 600 on it", file.display())]
    TooOpen { file: PathBuf, mode: u32 },
    #[error("secret file '{}' does not hold 64 hexadecimal digits: remove it, and join with --join", file.display())]
    Malformed { file: PathBuf },
}

/// Below it systemd's credentials are, which their group may read.
pub fn credentials() -> Option<PathBuf> {
    env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// What makes this machine a member.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(HandedSecret);

impl Secret {
    /// The well-known one of `--open`.
    pub fn open_to_all() -> Self {
        Self(HandedSecret::Writer(OPEN_SECRET))
    }

    /// Reads the file. `credentials`: below it, group bits are systemd's and fine.
    pub fn read(path: &Path, credentials: Option<&Path>) -> Result<Self, SecretError> {
        let file = path.to_path_buf();
        let unreadable = |error: io::Error| SecretError::Unreadable { file: file.clone(), error };
        // Not blocking: a fifo must be refused, not waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
        let stat = rustix::fs::fstat(&opened).map_err(|e| unreadable(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SecretError::NotRegular { file });
        }
        if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(SecretError::NotOurs { file, uid: stat.st_uid });
        }
        let below = credentials.is_some_and(|dir| path.parent().is_some_and(|parent| parent.starts_with(dir)));
        let refused = if below { 0o007 } else { 0o077 };
        if stat.st_mode & refused != 0 {
            return Err(SecretError::TooOpen { file, mode: stat.st_mode & 0o7777 });
        }
        let mut digits = String::new();
        let read = File::from(opened).take(MAX_FILE_BYTES).read_to_string(&mut digits);
        match read {
            Err(e) if e.kind() != io::ErrorKind::InvalidData => Err(unreadable(e)),
            _ => Self::of_line(&digits).ok_or(SecretError::Malformed { file }),
        }
    }

    /// Reads the file, or makes one with a new secret where there is none. `true`: it was made.
    pub fn read_or_make(path: &Path, credentials: Option<&Path>) -> Result<(Self, bool), SecretError> {
        match Self::read(path, credentials) {
            Err(SecretError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                let made =
                    Self::make(path).map_err(|error| SecretError::NotMade { file: path.to_path_buf(), error })?;
                Ok((made, true))
            }
            read => read.map(|secret| (secret, false)),
        }
    }

    /// Whole or not at all, also over a power cut: written beside, made durable, then named.
    fn make(path: &Path) -> io::Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(format!("no random numbers: {e}")))?;
        let made = Self(HandedSecret::Writer(bytes));
        let (dir, beside) = made.write_beside(path)?;
        beside.persist_noclobber(path)?;
        sync_folder(dir)?;
        Ok(made)
    }

    /// One that another machine handed over.
    pub fn from_member(handed: &HandedSecret) -> Self {
        Self(handed.clone())
    }

    /// To be handed over to a machine that was invited with this capability, if this one has as
    /// much itself.
    pub fn to_joiner(&self, capability: Capability) -> Option<HandedSecret> {
        match (&self.0, capability) {
            (HandedSecret::Writer(_), Capability::Write) | (HandedSecret::Reader { .. }, Capability::ReadOnly) => {
                Some(self.0.clone())
            }
            (HandedSecret::Writer(secret), Capability::ReadOnly) => Some(HandedSecret::Reader {
                secret: reader_secret(secret),
                writers_public: SecretKeys::of_writer(secret).writers_public,
            }),
            (HandedSecret::Reader { .. }, Capability::Write) => None,
        }
    }

    /// Whether both are of one group.
    pub fn is_same_group(&self, other: &Self) -> bool {
        self.keys().members.group_tag == other.keys().members.group_tag
    }

    /// Makes this the secret in a file, whole or not at all, also over a power cut. One that was
    /// there is kept beside it, as [`ASIDE`].
    pub fn store(&self, path: &Path) -> Result<(), SecretError> {
        self.replace(path).map_err(|error| SecretError::NotMade { file: path.to_path_buf(), error })
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        if Self::read(path, None).is_ok_and(|kept| kept == *self) {
            return Ok(());
        }
        let (dir, beside) = self.write_beside(path)?;
        if path.exists() {
            let aside = path.with_extension(ASIDE);
            match std::fs::remove_file(&aside) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => std::fs::hard_link(path, aside)?,
            }
        }
        beside.persist(path)?;
        sync_folder(dir)
    }

    /// Makes this the secret in a file in place of a former one of the same group, whole or not at
    /// all, also over a power cut.
    pub fn renew(&self, path: &Path) -> Result<(), SecretError> {
        let renewed = || {
            let (dir, beside) = self.write_beside(path)?;
            beside.persist(path)?;
            sync_folder(dir)
        };
        renewed().map_err(|error| SecretError::NotMade { file: path.to_path_buf(), error })
    }

    pub fn handed(&self) -> &HandedSecret {
        &self.0
    }

    /// A durable file without its name yet, and the folder for it.
    fn write_beside<'a>(&self, path: &'a Path) -> io::Result<(&'a Path, tempfile::NamedTempFile)> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut beside = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
        writeln!(beside, "{}", to_line(&self.0))?;
        rustix::fs::fchmod(beside.as_file(), Mode::RUSR | Mode::WUSR)?;
        beside.as_file().sync_all()?;
        Ok((dir, beside))
    }

    /// What its file holds.
    pub fn line(&self) -> String {
        to_line(&self.0)
    }

    /// `None`: no file of a secret holds that.
    pub fn of_line(line: &str) -> Option<Self> {
        of_line(line).map(Self)
    }

    pub fn keys(&self) -> SecretKeys {
        match &self.0 {
            HandedSecret::Writer(secret) => SecretKeys::of_writer(secret),
            HandedSecret::Reader { secret, writers_public } => SecretKeys::of_reader(secret, *writers_public),
        }
    }

    pub fn capability(&self) -> Capability {
        match self.0 {
            HandedSecret::Writer(_) => Capability::Write,
            HandedSecret::Reader { .. } => Capability::ReadOnly,
        }
    }
}

/// Of a writer 64 hexadecimal digits; of a reader its own, and those of the writers' public key.
fn to_line(secret: &HandedSecret) -> String {
    match secret {
        HandedSecret::Writer(secret) => text::hex(secret),
        HandedSecret::Reader { secret, writers_public } => {
            format!("{READ_ONLY} {} {}", text::hex(secret), text::hex(writers_public))
        }
    }
}

fn of_line(line: &str) -> Option<HandedSecret> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        [secret] => Some(HandedSecret::Writer(text::from_hex(secret)?)),
        [READ_ONLY, secret, public] => {
            Some(HandedSecret::Reader { secret: text::from_hex(secret)?, writers_public: text::from_hex(public)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file_with(contents: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_secret_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let (made, new) = Secret::read_or_make(&path, None).unwrap();
        assert!(new);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let (again, new) = Secret::read_or_make(&path, None).unwrap();
        assert!(!new);
        assert!(made == again);
        assert_ne!(made.keys().members.link, made.keys().members.presence);
        assert!(!made.is_same_group(&Secret::open_to_all()));
    }

    #[test]
    fn a_secret_that_was_handed_over_takes_the_place_of_the_own_one_which_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let other = Secret::from_member(&HandedSecret::Writer([9; 32]));
        other.store(&path).unwrap();
        assert!(Secret::read(&path, None).unwrap() == other);
        let third = Secret::from_member(&HandedSecret::Writer([8; 32]));
        for _ in 0..2 {
            third.store(&path).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(Secret::read(&path, None).unwrap() == third);
        assert!(path.with_extension(ASIDE).exists());
        assert_eq!(third.to_joiner(Capability::Write), Some(HandedSecret::Writer([8; 32])));
        let reader = Secret::from_member(&third.to_joiner(Capability::ReadOnly).unwrap());
        reader.store(&path).unwrap();
        assert!(Secret::read(&path, None).unwrap() == reader && reader.is_same_group(&third));
        assert_eq!((reader.capability(), third.capability()), (Capability::ReadOnly, Capability::Write));
        assert_eq!(reader.to_joiner(Capability::Write), None, "it has no more than it may hand over");
        assert_eq!(reader.to_joiner(Capability::ReadOnly), third.to_joiner(Capability::ReadOnly));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_way_out() {
        let digits = "ab".repeat(32);
        for mode in [0o640, 0o604, 0o620, 0o602] {
            let (_dir, path) = file_with(digits.as_bytes(), mode);
            let error = Secret::read(&path, None).err().unwrap().to_string();
            assert!(error.contains("chmod 600") && error.contains("secret'"), "{mode:o}: {error}");
        }
        let (dir, path) = file_with(digits.as_bytes(), 0o440);
        assert!(Secret::read(&path, Some(dir.path())).is_ok(), "systemd's credentials are group readable");
        let (dir, path) = file_with(digits.as_bytes(), 0o444);
        assert!(Secret::read(&path, Some(dir.path())).is_err());
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for contents in [&b""[..], b"abc", &[b'g'; 64], &[b'a'; 65], &[0xff; 64], &[b'a'; 4096]] {
            let (_dir, path) = file_with(contents, 0o600);
            assert!(matches!(Secret::read(&path, None), Err(SecretError::Malformed { .. })), "{contents:?}");
        }
        let (_dir, path) = file_with("AB".repeat(32).as_bytes(), 0o600);
        assert!(Secret::read(&path, None).is_ok(), "capitals and a missing line's end are fine");
    }

    #[test]
    fn a_folder_or_a_fifo_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [dir.path(), &fifo] {
            assert!(matches!(Secret::read(path, None), Err(SecretError::NotRegular { .. })));
        }
    }
}
