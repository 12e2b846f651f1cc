//! The tokens by which the API is asked over TCP: 256 bits each from the kernel, in two files of
//! the state directory.
//!
//! The daemon makes them at its first start with `--http`. To have new ones, remove the files and
//! start it again. Deliberately not here: what a token may do (`control/http`).

use super::state_folder;
use crate::model::text;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use subtle::ConstantTimeEq;

const TOKEN_BYTES: usize = 32;
/// 64 digits and a line's end; anything longer is something else.
const MAX_FILE_BYTES: u64 = 256;
const WHOLE: &str = "http-token";
const READ_ONLY: &str = "http-token-read-only";

/// Why there is no token. Each says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("there is no file of the API's token '{file}'; start the daemon again, which makes it")]
    Missing { file: String },
    #[error(
        "the file of the API's token '{file}' cannot be read: {why}; see that the daemon's user may read it, and \
         that its disk is well"
    )]
    Unreadable { file: String, why: io::Error },
    #[error("the file of the API's token '{file}' cannot be made: {why}; make room or give --state-dir another place")]
    NotMade { file: String, why: io::Error },
    #[error(
        "'{file}' is no file of mode 0600 with 64 hexadecimal digits; remove it, and start the daemon again, which \
         makes a new one"
    )]
    Unfit { file: String },
}

/// One token, as it is sent.
#[derive(Clone)]
pub struct ApiToken(String);

impl ApiToken {
    /// In constant time.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }

    pub fn digits(&self) -> &str {
        &self.0
    }

    /// The one that may do everything, or the one that may only read.
    pub fn read(state_dir: &Path, read_only: bool) -> Result<Self, TokenError> {
        let path = state_dir.join(if read_only { READ_ONLY } else { WHOLE });
        let file = || text::escape(path.as_os_str().as_bytes());
        let unreadable = |why: io::Error| TokenError::Unreadable { file: file(), why };
        // Not blocking: a fifo must be refused, not waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat(CWD, &path, flags, Mode::empty()).map_err(|why| match why {
            Errno::NOENT => TokenError::Missing { file: file() },
            Errno::LOOP => TokenError::Unfit { file: file() },
            why => unreadable(why.into()),
        })?;
        let facts = rustix::fs::fstat(&opened).map_err(|why| unreadable(why.into()))?;
        let is_file = FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile;
        let mut digits = String::new();
        if !is_file || facts.st_mode & 0o077 != 0 {
            return Err(TokenError::Unfit { file: file() });
        }
        match File::from(opened).take(MAX_FILE_BYTES).read_to_string(&mut digits) {
            Err(why) if why.kind() != ErrorKind::InvalidData => return Err(unreadable(why)),
            _ => {}
        }
        let digits = digits.trim_end();
        let bytes = text::from_hex::<TOKEN_BYTES>(digits).filter(|bytes| text::hex(bytes) == digits);
        bytes.map(|_| Self(digits.to_owned())).ok_or_else(|| TokenError::Unfit { file: file() })
    }

    fn read_or_make(state_dir: &Path, read_only: bool) -> Result<Self, TokenError> {
        match Self::read(state_dir, read_only) {
            Err(TokenError::Missing { file }) => {
                let name = if read_only { READ_ONLY } else { WHOLE };
                Self::make(state_dir, name).map_err(|why| TokenError::NotMade { file, why })
            }
            read => read,
        }
    }

    fn make(state_dir: &Path, name: &str) -> io::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|why| io::Error::other(format!("no random numbers: {why}")))?;
        let token = Self(text::hex(&bytes));
        state_folder::write(state_dir, name, &format!("{}\n", token.0))?;
        Ok(token)
    }
}

/// Both, in memory.
#[derive(Clone)]
pub struct ApiTokens {
    pub whole: ApiToken,
    pub read_only: ApiToken,
}

impl ApiTokens {
    /// Those of a state directory that is ours and locked; what is missing is made, durably.
    pub fn read_or_make(state_dir: &Path) -> Result<Self, TokenError> {
        let token = |read_only| ApiToken::read_or_make(state_dir, read_only);
        Ok(Self { whole: token(false)?, read_only: token(true)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    #[test]
    fn tokens_are_made_once_are_two_and_are_nobody_else_s_to_read() {
        let home = TempDir::new().unwrap();
        let made = ApiTokens::read_or_make(home.path()).unwrap();
        let again = ApiTokens::read_or_make(home.path()).unwrap();
        assert!(
            made.whole.is(again.whole.digits().as_bytes()) && made.read_only.is(again.read_only.digits().as_bytes())
        );
        assert!(!made.whole.is(made.read_only.digits().as_bytes()));
        assert_eq!(made.whole.digits().len(), 64);
        for name in [WHOLE, READ_ONLY] {
            assert_eq!(fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
            fs::remove_file(home.path().join(name)).unwrap();
        }
        let others = ApiTokens::read_or_make(home.path()).unwrap();
        assert!(!others.whole.is(made.whole.digits().as_bytes()), "new ones after the files were removed");
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = ApiToken("ab".repeat(32));
        let digits = token.digits().to_owned();
        assert!(token.is(digits.as_bytes()));
        for wrong in ["", &digits[1..], &digits.to_uppercase(), &format!("{digits} "), &"ac".repeat(32)] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_loose_or_holds_something_else_is_named_and_not_replaced() {
        let home = TempDir::new().unwrap();
        let (path, digits) = (home.path().join(WHOLE), "0a".repeat(32));
        for (text, mode) in [(digits.as_str(), 0o640), ("", 0o600), (&digits[2..], 0o600), (&"0A".repeat(32), 0o600)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = ApiTokens::read_or_make(home.path()).err().unwrap().to_string();
            assert!(why.contains("http-token'") && why.contains("remove it"), "{why}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            fs::remove_file(&path).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let why = ApiTokens::read_or_make(home.path()).err().unwrap().to_string();
        assert!(why.contains("remove it"), "a link is not followed: {why}");
    }

    #[test]
    fn only_of_a_file_that_is_missing_is_said_that_a_start_makes_it() {
        let home = TempDir::new().unwrap();
        let said = |state_dir: &Path| ApiToken::read(state_dir, false).err().unwrap().to_string();
        let why = said(home.path());
        assert!(why.contains("there is no file") && why.contains("which makes it"), "{why}");
        let not_a_folder = home.path().join("file");
        fs::write(&not_a_folder, "").unwrap();
        let why = said(&not_a_folder);
        assert!(why.contains("cannot be read") && !why.contains("makes"), "{why}");
    }
}
