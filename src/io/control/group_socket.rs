//! The socket of a group (`--socket-group`): whoever is in it may read the API, and do nothing
//! else.
//!
//! The folder's own socket and the state directory are closed to all but their owner, so this one
//! is in the service's runtime directory. The kernel lets in who may write to the socket: the
//! group, and root. Deliberately not here: what is answered (`routes.rs`), and the bounds of
//! connections (`http.rs`).

use super::{Api, http, open_folder};
use crate::model::text;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Its name in the runtime directory.
const NAME: &str = "api";
const GROUPS: &str = "/etc/group";
/// The owner and the group may connect.
const MODE: Mode = Mode::from_raw_mode(0o660);
/// Connections that wait to be taken.
const WAITING: i32 = 64;

/// Why a group cannot read the API. Each names the option and what to do.
#[derive(Debug, thiserror::Error)]
pub enum GroupSocketError {
    #[error("--socket-group {0}: there is no such group in /etc/group; name another one, or its number")]
    UnknownGroup(String),
    #[error(
        "--socket-group {0}: there is no folder for the socket; add 'RuntimeDirectory=' to the unit, or set \
         RUNTIME_DIRECTORY to a folder of this user that the group may enter"
    )]
    NoPlace(String),
    #[error(
        "--socket-group {group}: others than this user may change '{dir}', and could put a socket of theirs there; \
         take that from them, or name another folder by RUNTIME_DIRECTORY"
    )]
    OpenPlace { group: String, dir: String },
    #[error("--socket-group {group}: another daemon answers at '{path}'; give each its own RUNTIME_DIRECTORY")]
    Taken { group: String, path: String },
    #[error(
        "--socket-group {group}: the socket '{path}' cannot be made: {why}; name another folder by RUNTIME_DIRECTORY"
    )]
    NotMade { group: String, path: String, why: io::Error },
}

/// What `--socket-group` wants, whether or not it can be had now.
pub struct GroupSocket {
    group: String,
    dir: Option<PathBuf>,
}

impl GroupSocket {
    /// `group`: its name or number. `dir`: the runtime directory.
    pub fn new(group: &str, dir: Option<&Path>) -> Self {
        Self { group: group.to_owned(), dir: dir.map(Path::to_owned) }
    }

    /// For people.
    pub fn path(&self) -> String {
        let path = self.dir.as_deref().unwrap_or(Path::new("")).join(NAME);
        text::escape(path.as_os_str().as_bytes())
    }

    pub fn listen(&self) -> Result<StdListener, GroupSocketError> {
        let group = text::escape(self.group.as_bytes());
        let Some(dir) = &self.dir else { return Err(GroupSocketError::NoPlace(group)) };
        let groups = fs::read_to_string(GROUPS).unwrap_or_default();
        let gid = number_of(&self.group, &groups).ok_or_else(|| GroupSocketError::UnknownGroup(group.clone()))?;
        let not_made = |why| GroupSocketError::NotMade { group: group.clone(), path: self.path(), why };
        let opened = open_folder(dir).map_err(not_made)?;
        if !is_ours_alone(&opened).map_err(not_made)? {
            let dir = text::escape(dir.as_os_str().as_bytes());
            return Err(GroupSocketError::OpenPlace { group, dir });
        }
        if UnixStream::connect(at(&opened)).is_ok() {
            return Err(GroupSocketError::Taken { group, path: self.path() });
        }
        make(&opened, gid).map_err(not_made)
    }

    /// Serves until the runtime ends. To be called within one.
    pub async fn serve(&self, listener: StdListener, api: &Api) -> io::Result<Infallible> {
        http::serve_readers(UnixListener::from_std(listener)?, api).await
    }
}

/// Of `name:password:number:members`; a number is one already.
fn number_of(group: &str, groups: &str) -> Option<Gid> {
    if !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()) {
        // The highest one means "as it is".
        return group.parse().ok().filter(|number| *number != u32::MAX).map(Gid::from_raw);
    }
    let row = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (name == group).then(|| number.parse().ok().map(Gid::from_raw))?
    };
    groups.lines().find_map(row)
}

/// Whether nobody but this user and root can put anything into it.
fn is_ours_alone(dir: &OwnedFd) -> io::Result<bool> {
    let facts = rustix::fs::fstat(dir)?;
    let is_ours = facts.st_uid == 0 || facts.st_uid == rustix::process::geteuid().as_raw();
    Ok(is_ours && facts.st_mode & 0o022 == 0)
}

/// A folder by its descriptor: no limit of 108 bytes.
fn at(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()))
}

/// Nobody can connect before it is the group's: it listens last.
fn make(dir: &OwnedFd, gid: Gid) -> io::Result<StdListener> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statat(dir, NAME, flags) {
        Err(Errno::NOENT) => {}
        Err(why) => return Err(why.into()),
        // Of an earlier run, which nobody answers at.
        Ok(facts) if FileType::from_raw_mode(facts.st_mode) == FileType::Socket => {
            rustix::fs::unlinkat(dir, NAME, AtFlags::empty())?;
        }
        Ok(_) => return Err(io::Error::other("something else is there; it is left alone")),
    }
    let flags_of_socket = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags_of_socket, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(at(dir))?)?;
    rustix::fs::chownat(dir.as_fd(), NAME, None, Some(gid), flags)?;
    rustix::fs::chmodat(dir.as_fd(), NAME, MODE, AtFlags::empty())?;
    let facts = rustix::fs::statat(dir, NAME, flags)?;
    if facts.st_gid != gid.as_raw() || Mode::from_raw_mode(facts.st_mode) != MODE {
        rustix::fs::unlinkat(dir, NAME, AtFlags::empty())?;
        return Err(io::Error::other("its file system keeps no group or no mode"));
    }
    rustix::net::listen(&socket, WAITING)?;
    Ok(StdListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use tempfile::TempDir;

    #[rstest]
    #[case("adm", Some(4))]
    #[case("4", Some(4))]
    #[case("77", Some(77))]
    #[case("users", Some(100))]
    #[case("ad", None)]
    #[case("broken", None)]
    #[case("", None)]
    #[case("+4", None)]
    #[case("4294967295", None)]
    #[case("4294967296", None)]
    fn a_group_is_found_by_its_whole_name_or_its_number(#[case] group: &str, #[case] due: Option<u32>) {
        let groups = "root:x:0:\nadm:x:4:anna,adam\nbroken:x\nusers:x:100:\n";
        assert_eq!(number_of(group, groups).map(Gid::as_raw), due);
    }

    fn own_group() -> String {
        rustix::process::getegid().as_raw().to_string()
    }

    #[test]
    fn the_socket_is_the_group_s_and_an_earlier_one_is_replaced_but_nothing_else() {
        let home = TempDir::new().unwrap();
        let wanted = GroupSocket::new(&own_group(), Some(home.path()));
        let path = home.path().join(NAME);
        let said = || wanted.listen().unwrap_err().to_string();
        for _ in 0..2 {
            let listener = wanted.listen().unwrap();
            let facts = fs::metadata(&path).unwrap();
            assert_eq!(facts.permissions().mode() & 0o7777, 0o660);
            assert_eq!(facts.gid().to_string(), own_group());
            assert!(said().contains("another daemon answers"), "while one listens");
            drop(listener);
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, "of a person").unwrap();
        assert!(said().contains("something else is there"));
        assert_eq!(fs::read(&path).unwrap(), b"of a person");
    }

    #[test]
    fn a_folder_that_others_may_change_and_a_missing_one_are_named_with_the_way_out() {
        let home = TempDir::new().unwrap();
        let said = |group: &str, dir: Option<&Path>| GroupSocket::new(group, dir).listen().unwrap_err().to_string();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert!(said(&own_group(), Some(home.path())).contains("others than this user may change"));
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(
            said("no\u{9b}ne", Some(home.path())).contains("--socket-group no\\xc2\\x9bne: there is no such group")
        );
        assert!(said(&own_group(), None).contains("'RuntimeDirectory='"));
        assert!(said(&own_group(), Some(&home.path().join("gone"))).contains("cannot be made"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing was left");
    }
}
