//! The name by which a daemon is found without its `.dirsync/`: the folder's inode, as an abstract
//! socket.
//!
//! The kernel lists the names in `/proc/net/unix`, of one network namespace, and drops a name with
//! its daemon: the list is never stale. Anyone may take a name, so who dials asks whose the
//! listener is. Deliberately not here: what is asked, and of whom.

use rustix::fd::AsFd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream as StdStream};
use tokio::net::UnixStream;

const PREFIX: &str = "dirsyncd/";
/// `__SO_ACCEPTCON`: the socket listens.
const LISTENS: &str = "00010000";

/// A folder that is held open: while it is, no other has its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FolderInode {
    pub device: u64,
    pub inode: u64,
}

impl FolderInode {
    pub fn of(folder: impl AsFd) -> io::Result<Self> {
        let facts = rustix::fs::fstat(folder)?;
        Ok(Self { device: facts.st_dev, inode: facts.st_ino })
    }

    fn name(self) -> String {
        format!("{PREFIX}{:x}/{:x}", self.device, self.inode)
    }

    fn from_name(name: &str) -> Option<Self> {
        let (device, inode) = name.strip_prefix(PREFIX)?.split_once('/')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let folder = Self { device: number(device)?, inode: number(inode)? };
        (folder.name() == name).then_some(folder)
    }

    pub fn listen(self) -> io::Result<UnixListener> {
        let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(self.name())?)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// `WouldBlock`: someone listens, and accepts nobody.
    fn connect(self) -> io::Result<StdStream> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(self.name().as_bytes())?)?;
        Ok(StdStream::from(socket))
    }

    /// Dials the daemon that holds this folder open, whatever became of its `.dirsync/`. Never
    /// waits.
    pub fn dial(self) -> io::Result<UnixStream> {
        UnixStream::from_std(self.connect()?)
    }

    /// Whether a daemon listens for this folder.
    pub fn is_held(self) -> bool {
        self.connect().map_or_else(|why| why.kind() == ErrorKind::WouldBlock, |_| true)
    }
}

/// All that are listened for in this network namespace, by whomever.
pub fn listening() -> io::Result<BTreeSet<FolderInode>> {
    Ok(listed(&String::from_utf8_lossy(&fs::read("/proc/net/unix")?)))
}

/// `num: references protocol flags type state inode @name`.
fn listed(table: &str) -> BTreeSet<FolderInode> {
    let row = |line: &str| {
        let (before, name) = line.split_once(" @")?;
        let listens = before.split_whitespace().nth(3) == Some(LISTENS);
        FolderInode::from_name(name.trim_end()).filter(|_| listens)
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use tempfile::TempDir;

    #[test]
    fn listeners_are_read_off_the_kernels_table_and_nothing_else_is() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 51 @dirsyncd/fe01/2a\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 52 @dirsyncd/fe01/2b\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 53 /run/dirsyncd/fe01/2c\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 54 @dirsyncd/fe01/2d/x\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 55 @dirsyncd/+fe01/2e\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 56 @dirsyncd/0/fffffffffffffffff\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 57\n";
        assert_eq!(listed(table), BTreeSet::from([FolderInode { device: 0xfe01, inode: 0x2a }]));
    }

    #[test]
    fn a_folder_is_listed_while_it_is_listened_for_and_a_full_queue_keeps_nobody_waiting() {
        let home = TempDir::new().unwrap();
        let folder = FolderInode::of(File::open(home.path()).unwrap()).unwrap();
        assert!(!folder.is_held() && !listening().unwrap().contains(&folder));
        let listener = folder.listen().unwrap();
        assert!(folder.is_held() && listening().unwrap().contains(&folder));
        // Who hung up stays in the queue.
        let waiting = (0..100_000).take_while(|_| folder.connect().is_ok()).count();
        assert_eq!(folder.connect().unwrap_err().kind(), ErrorKind::WouldBlock, "after {waiting}");
        assert!(folder.is_held());
        drop(listener);
        assert!(!folder.is_held() && !listening().unwrap().contains(&folder));
    }
}
