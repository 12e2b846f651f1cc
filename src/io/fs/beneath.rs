//! System calls that cannot leave the folder (P7): every open below a descriptor goes through
//! `openat2` and refuses `..`, absolute names, symbolic links and mounts, also ones swapped in at
//! that moment.
//!
//! May import `engine`'s `Stat` and `model`. Deliberately not here: which paths to open, and what
//! to do with them.

use crate::engine::{Stat, StatKind};
use crate::model::{ContentId, FileTime, Mode, SyncPath};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode as Bits, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A rename elsewhere makes the kernel give up a confined lookup with `EAGAIN`; it says to try
/// again.
const LOOKUP_TRIES: u32 = 32;

/// Opens `path` below `dir`.
pub fn open(dir: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    for _ in 1..LOOKUP_TRIES {
        match rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Bits::empty(), CONFINED) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Bits::empty(), CONFINED)
}

/// Whether the kernel has `openat2`, whatever the folder's file system says.
pub fn knows_openat2() -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(rustix::fs::CWD, "/", flags, Bits::empty(), ResolveFlags::empty());
    !matches!(opened, Err(Errno::NOSYS))
}

/// Creates a new file, for us alone, named `name` in `dir` (one of our own folders).
pub fn create(dir: impl AsFd, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Bits::RUSR | Bits::WUSR).map(File::from)
}

/// Creates a new file without a name, on the file system of `dir`. It is gone with its descriptor
/// unless it gets one; until then nobody else can reach it, whatever its mode. That is `mode` but
/// for the umask.
pub fn create_nameless(dir: impl AsFd, mode: Bits) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, mode).map(File::from)
}

/// Gives a nameless file the name `name` in `dir`, which must be free.
pub fn give_name(file: &File, dir: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::linkat(file, "", &dir, name, AtFlags::EMPTY_PATH) {
        // Kernels before 6.10 want a capability for that, and deny it by this error.
        Err(Errno::NOENT) => {
            rustix::fs::linkat(rustix::fs::CWD, by_descriptor(file), &dir, name, AtFlags::SYMLINK_FOLLOW)
        }
        other => other,
    }
}

/// A folder to name things in (`None`: `dir` itself). Needs no permission to read it.
pub fn folder(dir: impl AsFd, path: Option<&SyncPath>) -> rustix::io::Result<OwnedFd> {
    open(dir, path.map_or(b".", SyncPath::as_bytes), OFlags::PATH | OFlags::DIRECTORY)
}

/// A folder to list or to `fsync`.
pub fn readable_folder(dir: impl AsFd, path: Option<&SyncPath>) -> rustix::io::Result<OwnedFd> {
    open_unnoticed(dir, path.map_or(b".", SyncPath::as_bytes), OFlags::RDONLY | OFlags::DIRECTORY)
}

/// So that reading leaves the access time alone, where we may ask for that: it tells its users of
/// each other, not of us, and each change of it is a write to the disk.
fn open_unnoticed(dir: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match open(&dir, path, flags | OFlags::NOATIME) {
        // It is another user's.
        Err(Errno::PERM) => open(dir, path, flags),
        other => other,
    }
}

/// A regular file named `name` in `dir`, for reading, and its stat. `None` when it is something
/// else, or became something else meanwhile. Looked at before it is opened, and opened
/// non-blocking: a fifo never holds us up.
pub fn regular(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<(File, Facts)>> {
    let handle = open(&dir, name, OFlags::PATH | OFlags::NOFOLLOW)?;
    let before = facts(&handle)?;
    if before.stat.kind != StatKind::File {
        return Ok(None);
    }
    let file = reopen(&dir, name)?;
    let after = facts(&file)?;
    let same = after.stat.kind == StatKind::File && after.place() == before.place();
    Ok(same.then_some((file, after)))
}

/// The same of a name that was a regular file a moment ago, by one call. What it is now is for the
/// caller to see: a stat of the open file that equals the one of before says that it is the same.
pub fn reopen(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    open_unnoticed(dir, name, flags).map(File::from)
}

/// What `statx` says, beyond what the engine keeps.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub stat: Stat,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub device: (u32, u32),
    /// Something else is mounted there.
    pub mount: bool,
    /// Type and all permission bits.
    pub raw_mode: u16,
    /// What it takes on the disk, holes left out (bytes).
    pub used_bytes: u64,
}

impl Facts {
    /// Which inode this is.
    pub fn place(&self) -> ((u32, u32), u64) {
        (self.device, self.stat.ino)
    }
}

/// Of an open descriptor.
pub fn facts(fd: impl AsFd) -> rustix::io::Result<Facts> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, wanted()).map(|s| convert(&s))
}

/// Of a name in an open folder, links not followed; `None` when there is none.
pub fn facts_at(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Facts>> {
    match rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, wanted()) {
        Ok(s) => Ok(Some(convert(&s))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The same, as the engine keeps it.
pub fn stat_at(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    Ok(facts_at(dir, name)?.map(|facts| facts.stat))
}

/// `stx_blocks` counts in these, whatever the file system's own are.
const STAT_BLOCK_BYTES: u64 = 512;

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS
}

fn convert(s: &Statx) -> Facts {
    let mount = s.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    let kind = match rustix::fs::FileType::from_raw_mode(u32::from(s.stx_mode)) {
        rustix::fs::FileType::RegularFile => StatKind::File,
        rustix::fs::FileType::Directory => StatKind::Directory,
        rustix::fs::FileType::Symlink => StatKind::Symlink,
        _ => StatKind::Other,
    };
    let time = |t: rustix::fs::StatxTimestamp| FileTime { secs: t.tv_sec, nanos: t.tv_nsec };
    let stat = Stat {
        kind,
        size: s.stx_size,
        mtime: time(s.stx_mtime),
        ctime: time(s.stx_ctime),
        ino: s.stx_ino,
        mode: Mode::of(u32::from(s.stx_mode)),
    };
    Facts {
        stat,
        uid: s.stx_uid,
        gid: s.stx_gid,
        links: s.stx_nlink,
        device: (s.stx_dev_major, s.stx_dev_minor),
        mount,
        raw_mode: s.stx_mode,
        used_bytes: s.stx_blocks.saturating_mul(STAT_BLOCK_BYTES),
    }
}

/// What kind of thing a special file is, for the log.
pub fn what(facts: &Facts) -> &'static str {
    match rustix::fs::FileType::from_raw_mode(u32::from(facts.raw_mode)) {
        rustix::fs::FileType::Fifo => "fifo",
        rustix::fs::FileType::Socket => "socket",
        rustix::fs::FileType::CharacterDevice | rustix::fs::FileType::BlockDevice => "device",
        _ => "special file",
    }
}

/// The way to change an inode that is held by an `O_PATH` descriptor, which `fchmod` refuses.
pub fn by_descriptor(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Whether a folder lists this very name, and not another one that its file system takes for it.
/// Lists all of the folder.
pub fn is_spelled(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<bool> {
    names_in(dir, None).map(|names| names.contains(name))
}

fn names_in(dir: impl AsFd, path: Option<&SyncPath>) -> rustix::io::Result<HashSet<Box<[u8]>>> {
    let listed = readable_folder(dir, path)?;
    rustix::fs::Dir::new(listed)?.map(|entry| entry.map(|entry| entry.file_name().to_bytes().into())).collect()
}

/// Whether an error means that a folder on the way is not there, or is no folder.
pub fn is_no_parent(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
}

/// As `std`'s error.
pub fn std_error(e: Errno) -> io::Error {
    e.into()
}

/// Whether a folder and all above it are listed by these very names. `good`: folders that are.
pub fn is_spelled_all(
    root: BorrowedFd<'_>,
    folder: Option<&SyncPath>,
    good: &mut BTreeSet<SyncPath>,
) -> rustix::io::Result<bool> {
    let Some(folder) = folder.filter(|folder| !good.contains(*folder)) else { return Ok(true) };
    let parent = folder.parent();
    let is_spelled =
        is_spelled_all(root, parent.as_ref(), good)? && names_in(root, parent.as_ref())?.contains(folder.name());
    if is_spelled {
        good.insert(folder.clone());
    }
    Ok(is_spelled)
}

/// The last folder asked for, kept open: jobs come in path order, so most of them share it. To be
/// dropped after each batch, since a folder that was moved away meanwhile is still reached through
/// its descriptor.
#[derive(Default)]
pub struct LastFolder(Option<(Option<SyncPath>, OwnedFd)>, Option<HashSet<Box<[u8]>>>, BTreeSet<SyncPath>);

impl LastFolder {
    pub fn of(&mut self, root: impl AsFd, path: &SyncPath) -> rustix::io::Result<&OwnedFd> {
        if !self.0.as_ref().is_some_and(|(held, _)| is_in(path, held.as_ref())) {
            let parent = path.parent();
            let fd = folder(root, parent.as_ref())?;
            *self = Self(Some((parent, fd)), None, std::mem::take(&mut self.2));
        }
        Ok(&self.0.as_ref().expect("set just above").1)
    }

    /// Whether the folder of a path is there by its own names, and not by others that its file
    /// system takes for them.
    pub fn is_spelled(&mut self, root: impl AsFd, path: &SyncPath) -> rustix::io::Result<bool> {
        is_spelled_all(root.as_fd(), path.parent().as_ref(), &mut self.2)
    }

    /// Whether the folder of a path lists its very name. It is listed once, and once more for each
    /// name that was not in it.
    pub fn lists(&mut self, root: impl AsFd, path: &SyncPath) -> rustix::io::Result<bool> {
        self.of(&root, path)?;
        if self.1.as_ref().is_some_and(|names| names.contains(path.name())) {
            return Ok(true);
        }
        let names = self.1.insert(names_in(root, path.parent().as_ref())?);
        Ok(names.contains(path.name()))
    }
}

/// Whether `folder` (`None`: the root) is what holds `path`.
pub fn is_in(path: &SyncPath, folder: Option<&SyncPath>) -> bool {
    let name_start = path.as_bytes().len() - path.name().len();
    &path.as_bytes()[..name_start.saturating_sub(1)] == folder.map_or(&b""[..], SyncPath::as_bytes)
}

/// What the rest of a file holds, and its length in bytes.
pub fn content_of(file: &File) -> io::Result<(ContentId, u64)> {
    content_of_reader(file)
}

fn content_of_reader(reader: impl Read) -> io::Result<(ContentId, u64)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(reader)?;
    Ok((ContentId(*hasher.finalize().as_bytes()), hasher.count()))
}

/// The same of a file that may be large; `None`: `stop` was set on the way.
pub fn content_unless_stopped(file: &File, stop: &AtomicBool) -> io::Result<Option<ContentId>> {
    let (content, _) = content_of_reader(UnlessStopped { file, stop })?;
    Ok((!stop.load(Ordering::Relaxed)).then_some(content))
}

/// A file that ends where it is stopped.
struct UnlessStopped<'a> {
    file: &'a File,
    stop: &'a AtomicBool,
}

impl Read for UnlessStopped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) { Ok(0) } else { self.file.read(buffer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Timespec, Timestamps};
    use std::os::unix::fs::MetadataExt;

    /// A file and a folder that a reading would stamp also where it does so but once a day: they
    /// were changed since they were read.
    #[test]
    fn reading_leaves_the_access_time_alone() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("d")).unwrap();
        std::fs::write(temp.path().join("d/f"), "content").unwrap();
        let dir = File::open(temp.path()).unwrap();
        let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
        let times = Timestamps { last_access: at(1000), last_modification: at(2000) };
        for name in ["d", "d/f"] {
            rustix::fs::utimensat(&dir, name, &times, AtFlags::empty()).unwrap();
        }
        let path = SyncPath::new("d").unwrap();
        let folder = readable_folder(&dir, Some(&path)).unwrap();
        assert_eq!(rustix::fs::Dir::read_from(&folder).unwrap().count(), 3);
        let (file, _) = regular(&folder, b"f").unwrap().unwrap();
        for mut file in [file, reopen(&folder, b"f").unwrap()] {
            assert_eq!(file.read(&mut [0; 9]).unwrap(), 7);
        }
        for name in ["d", "d/f"] {
            assert_eq!(temp.path().join(name).metadata().unwrap().atime(), 1000, "{name}");
        }
    }
}
