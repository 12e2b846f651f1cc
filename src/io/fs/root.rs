//! The folder, by descriptor: every access below it goes through here (P7).
//!
//! Holds `.dirsync/` (ours alone: a real directory, 0700), its lock and its marker. May import
//! `engine`'s values and `model`. Deliberately not here: whether a changed marker means a restored
//! backup (the engine's guard says).

mod lock;

use crate::engine::{Halt, Keeps, Names, RootState, ServedFile, Stat, StatKind};
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::{self, Facts, LastFolder, std_error};
use crate::io::fs::probe;
use crate::io::fs::stall::Waits;
use crate::model::folder::{FolderId, FolderRecord};
use crate::model::path::PRIVATE_DIR;
use crate::model::{SyncPath, text};
use crate::wire::condition::StopCause;
use lock::{lock, write_lock};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

const MARKER: &str = "marker";
/// Tells git that nothing in `.dirsync/` is part of a work tree: `git add -A` would commit old
/// versions of files, and `git clean -fd` would remove history.
const GIT_IGNORE: (&str, &[u8]) = (".gitignore", b"*\n");
const OWN_FOLDER: Mode = Mode::RWXU;
/// How what is held by a descriptor that only names it is changed.
const OWN_DESCRIPTORS: &str = "/proc/self/fd";
/// Far above any marker or pid.
const SMALL_OWN_FILE_BYTES: u64 = 256;

/// Why a folder cannot be synced.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("'{0}' does not exist; create it first (mkdir -p)")]
    Missing(String),
    #[error("'{0}' is not a directory; name the folder to sync")]
    NotDirectory(String),
    #[error("'{path}' is not writable: {why}; give this user read, write and search permission to it")]
    NotWritable { path: String, why: String },
    #[error("'{path}/.dirsync' is not ours: {why}; move it away and start again")]
    Private { path: String, why: &'static str },
    #[error("'{path}' is already synced by the daemon with pid {pid}; stop that one first")]
    Busy { path: String, pid: String },
    #[error("'{0}': this kernel, or the sandbox around it, has no openat2; dirsyncd needs Linux 5.6 or newer")]
    OldKernel(String),
    #[error(
        "'{path}': its file system cannot {doing}: {why}; sync a folder on another file system, such as ext4, XFS or Btrfs"
    )]
    Incapable { path: String, doing: String, why: String },
    #[error(
        "'{0}' cannot be synced without /proc, by which what is held open is changed; mount it (mount -t proc proc /proc)"
    )]
    NoProc(String),
    #[error("'{path}' cannot be used: it cannot {doing}: {why}")]
    Io { path: String, doing: String, why: String },
}

/// `f_type` of OpenZFS (`ZFS_SUPER_MAGIC`).
const ZFS_MAGIC: u64 = 0x2fc1_2fc1;
/// Of Btrfs, and the inode of each of its subvolumes.
const BTRFS_MAGIC: u64 = 0x9123_683e;
const SUBVOLUME_INO: u64 = 256;

/// The modes that folders are to have, by inode.
type OpenedModes = BTreeMap<((u32, u32), u64), u16>;

/// The synced folder.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    dir: OwnedFd,
    private: OwnedFd,
    staging: OwnedFd,
    history: OwnedFd,
    place: ((u32, u32), u64),
    private_place: ((u32, u32), u64),
    is_btrfs: bool,
    can_exchange: AtomicBool,
    can_be_nameless: bool,
    keeps: Mutex<Keeps>,
    /// An install found that less is kept than was known.
    learned: AtomicBool,
    /// Folders that are open for an install, and the mode that each is to have.
    opened: RwLock<OpenedModes>,
    /// The nonce written last by this process.
    written: Mutex<Option<String>>,
    waits: Arc<Waits>,
    /// Held for its lock.
    _lock: File,
}

impl Root {
    pub fn open(dir: &Path) -> Result<Self, RootError> {
        let shown = text::escape(dir.as_os_str().as_bytes());
        let path = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let dir = open_dir(&path, &shown)?;
        if rustix::fs::access(OWN_DESCRIPTORS, Access::EXISTS).is_err() {
            return Err(RootError::NoProc(shown));
        }
        let place = beneath::facts(&dir).map_err(|e| failed(&shown, "look at the folder", e))?.place();
        let private = own_folder(&dir, PRIVATE_DIR, &shown)?;
        let private_place = beneath::facts(&private).map_err(|e| failed(&shown, "look at '.dirsync'", e))?.place();
        let is_btrfs = is_on(&dir, BTRFS_MAGIC);
        let lock = lock(&private, &shown)?;
        let staging = own_folder(&private, "staging", &shown)?;
        let history = own_folder(&private, "history", &shown)?;
        hide_from_git(&private);
        let can_exchange = probe_exchange(&staging);
        if !can_exchange {
            tracing::warn!(
                "the file system of '{shown}' cannot exchange two names; a file written in the very instant of its \
                 replacement is kept in history only"
            );
        }
        let can_be_nameless = can_exchange && probe_nameless(&staging);
        let keeps = Mutex::new(probe::probe(&dir, &staging));
        let (written, can_exchange) = (Mutex::new(None), AtomicBool::new(can_exchange));
        Ok(Self {
            path,
            dir,
            private,
            staging,
            history,
            place,
            private_place,
            is_btrfs,
            can_exchange,
            can_be_nameless,
            keeps,
            learned: AtomicBool::new(false),
            opened: RwLock::default(),
            written,
            waits: Arc::default(),
            _lock: lock,
        })
    }

    /// For a daemon that waits before it starts anew: whoever asks finds the reason in the lock
    /// file. `None`: that cannot be written, and nobody needs it.
    pub fn lock_while_waiting(dir: &Path, why: &str) -> Option<File> {
        let shown = text::escape(dir.as_os_str().as_bytes());
        let private = own_folder(&open_dir(dir, &shown).ok()?, PRIVATE_DIR, &shown).ok()?;
        let lock = lock(&private, &shown).ok()?;
        write_lock(&private, &format!("{}\n{}", std::process::id(), text::escape(why.as_bytes()))).ok()?;
        Some(lock)
    }

    /// The folder itself; readable.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// `.dirsync/`.
    pub fn private(&self) -> BorrowedFd<'_> {
        self.private.as_fd()
    }

    pub fn staging(&self) -> BorrowedFd<'_> {
        self.staging.as_fd()
    }

    pub fn history(&self) -> BorrowedFd<'_> {
        self.history.as_fd()
    }

    /// A file of the folder, open for reading; `None` if there is none.
    pub fn open_file(&self, path: &SyncPath) -> io::Result<Option<File>> {
        let opened = beneath::folder(&self.dir, path.parent().as_ref());
        match opened.and_then(|parent| beneath::regular(&parent, path.name())) {
            Ok(opened) => Ok(opened.map(|(file, _)| file)),
            Err(e) if beneath::is_no_parent(e) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A further folder of ours in `.dirsync/`.
    pub(super) fn own_folder(&self, name: &str) -> io::Result<OwnedFd> {
        let shown = text::escape(self.path.as_os_str().as_bytes());
        own_folder(&self.private, name, &shown).map_err(io::Error::other)
    }

    /// The absolute name that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the state folder notes of it, with the markers that the index goes with.
    pub fn record(&self, markers: Vec<String>) -> io::Result<FolderRecord> {
        let facts = rustix::fs::fstat(self.dir())?;
        let file_system = rustix::fs::fstatvfs(self.dir())?.f_fsid;
        let id = FolderId { inode: facts.st_ino, device: facts.st_dev, file_system };
        Ok(FolderRecord { path: self.path.as_os_str().as_bytes().to_vec(), id, markers })
    }

    /// Whether `RENAME_EXCHANGE` works here.
    pub fn can_exchange(&self) -> bool {
        self.can_exchange.load(Ordering::Relaxed)
    }

    /// Whether a file can be made without a name and get one later.
    pub fn can_be_nameless(&self) -> bool {
        self.can_be_nameless && self.can_exchange()
    }

    /// What the file system keeps of what it is given, as far as is known.
    pub fn keeps(&self) -> Keeps {
        *self.keeps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a path leads into `.dirsync`, however it is spelled: where names are not told apart,
    /// its inode says so (P7).
    pub(super) fn is_ours(&self, path: &SyncPath) -> rustix::io::Result<bool> {
        if self.keeps().names == Names::Exact {
            return Ok(false);
        }
        let first = path.components().next().unwrap_or_default();
        let found = beneath::facts_at(&self.dir, first)?;
        Ok(found.is_some_and(|found| self.is_private(&found)))
    }

    /// Whether this is `.dirsync` itself.
    pub(super) fn is_private(&self, found: &Facts) -> bool {
        beneath::facts(&self.private).is_ok_and(|private| private.place() == found.place())
    }

    /// Something less is kept.
    pub fn learn(&self, less: impl FnOnce(&mut Keeps)) {
        let mut keeps = self.keeps.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *keeps;
        less(&mut keeps);
        if *keeps != before {
            self.learned.store(true, Ordering::Relaxed);
        }
    }

    /// What is kept, if something was learned since this was asked last.
    pub(super) fn learned(&self) -> Option<Keeps> {
        self.learned.swap(false, Ordering::Relaxed).then(|| self.keeps())
    }

    /// The mode that was asked of something of ours, which nobody else can have changed, and the
    /// one that it has.
    pub(super) fn compare_mode(&self, asked: crate::model::Mode, has: crate::model::Mode) {
        if asked != has && self.keeps().modes {
            tracing::warn!(
                "the file system keeps no permission bits (asked for {:04o}, it says {:04o}): the other machines keep \
                 theirs, and here everything has what the file system gives",
                asked.0,
                has.0
            );
            self.learn(|keeps| keeps.modes = false);
        }
    }

    /// What setting an owner or a mode came to: where none is kept, that it cannot be set is no
    /// error.
    pub(super) fn set(&self, done: rustix::io::Result<()>) -> rustix::io::Result<()> {
        match done {
            Err(e) if probe::is_not_kept(e) && !self.keeps().modes => Ok(()),
            other => other,
        }
    }

    #[cfg(test)]
    pub(super) fn pretend_no_exchange(&self) {
        self.can_exchange.store(false, Ordering::Relaxed);
    }

    /// Whether this inode lies on another file system, mounted (or nested) inside the folder.
    pub fn is_foreign(&self, facts: &Facts) -> bool {
        facts.mount || facts.device != self.place.0
    }

    /// Whether the folder is still the one that was opened, and carries the marker written last
    /// (P8).
    pub fn check(&self) -> RootState {
        match self.find_fault() {
            None => RootState::Fine,
            Some((cause, fault)) => {
                let text = format!("'{}' {fault}", text::escape(self.path.as_os_str().as_bytes()));
                RootState::Wrong(Halt { cause, text })
            }
        }
    }

    fn find_fault(&self) -> Option<(StopCause, &'static str)> {
        let now =
            rustix::fs::statx(rustix::fs::CWD, &self.path, AtFlags::NO_AUTOMOUNT, rustix::fs::StatxFlags::BASIC_STATS);
        let Ok(now) = now else { return Some((StopCause::FolderGone, "is gone; put it back (is its disk mounted?)")) };
        if ((now.stx_dev_major, now.stx_dev_minor), now.stx_ino) != self.place {
            let fault = "is another folder or file system than at the start; put the old one back, or restart";
            return Some((StopCause::OtherFolder, fault));
        }
        let marker = self.marker();
        let private = beneath::facts_at(&self.dir, PRIVATE_DIR.as_bytes()).ok().flatten().map(|facts| facts.place());
        if private != Some(self.private_place) && (private.is_some() || marker.is_some()) {
            let fault = "has another '.dirsync' than at the start, or none: someone moved it; put the old one back, or, if the \
                         folder is the right one, restart the daemon and do as it says then";
            return Some((StopCause::OtherMarker, fault));
        }
        let Some(marker) = marker else {
            let fault = "has lost its marker '.dirsync/marker'; put it back, or, if the folder is the right one, restart the \
                         daemon and do as it says then";
            return Some((StopCause::MarkerLost, fault));
        };
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match &*written {
            Some(nonce) if *nonce != marker => {
                let fault = "carries another marker than the one written last; if the folder is the right one, restart";
                Some((StopCause::OtherMarker, fault))
            }
            _ => None,
        }
    }

    /// The nonce in the marker, if there is a well-formed one.
    pub fn marker(&self) -> Option<String> {
        let nonce = read_small(&self.private, MARKER)?;
        text::from_hex::<16>(&nonce).map(|_| nonce)
    }

    /// Writes a marker with a new nonce, durably.
    pub fn renew_marker(&self) -> io::Result<String> {
        let nonce = Self::new_nonce()?;
        self.write_marker(&nonce)?;
        Ok(nonce)
    }

    /// A nonce that no marker had before; not written yet.
    pub fn new_nonce() -> io::Result<String> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        Ok(text::hex(&nonce))
    }

    /// Writes a marker with this nonce, durably.
    pub fn write_marker(&self, nonce: &str) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = "marker.new";
        fail::at(Point::MarkerWrite)?;
        remove(&self.private, temporary)?;
        let mut file = beneath::create(&self.private, temporary)?;
        file.write_all(nonce.as_bytes())?;
        file.sync_all()?;
        fail::at(Point::MarkerWritten)?;
        rustix::fs::renameat(&self.private, temporary, &self.private, MARKER)?;
        rustix::fs::fsync(&self.private)?;
        *written = Some(nonce.to_owned());
        Ok(())
    }

    /// From now on no other marker is the right one.
    pub fn expect_marker(&self, nonce: String) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce);
    }

    /// What is at `path`; `None` when nothing is, or when a folder on the way is missing or is no
    /// folder.
    pub fn stat(&self, path: &SyncPath) -> io::Result<Option<Stat>> {
        Ok(self.facts(path).map_err(std_error)?.map(|facts| facts.stat))
    }

    /// The same with all that `statx` says. What lies on another file system is a `Mount`.
    pub fn facts(&self, path: &SyncPath) -> rustix::io::Result<Option<Facts>> {
        let parent = match beneath::folder(&self.dir, path.parent().as_ref()) {
            Ok(parent) => parent,
            Err(e) if beneath::is_no_parent(e) => return Ok(None),
            Err(e) => return Err(e),
        };
        self.facts_in(&parent, path.name())
    }

    /// The same below a folder that is held already.
    pub fn facts_in(&self, parent: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Facts>> {
        // Held until the mode is judged by it.
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        let mut facts = beneath::facts_at(parent, name)?;
        if let Some(facts) = &mut facts {
            if let Some(&closed) = opened.get(&facts.place())
                && facts.raw_mode & 0o7777 == closed | 0o200
            {
                facts.raw_mode &= !0o200;
                facts.stat.mode = crate::model::Mode::of(u32::from(closed));
            }
            if self.is_foreign(facts) {
                let is_subvolume = self.is_btrfs && !facts.mount && facts.stat.ino == SUBVOLUME_INO;
                facts.stat.kind = if is_subvolume { StatKind::Subvolume } else { StatKind::Mount };
            } else if facts.place() == self.private_place {
                // Our own, whatever its name: someone renamed it, or the file system folds case. It
                // is never synced.
                facts.stat.kind = StatKind::Other;
            }
        }
        Ok(facts)
    }

    /// Changes which folders are open for an install; nobody looks at a mode meanwhile.
    pub(super) fn while_opened<T>(&self, change: impl FnOnce(&mut OpenedModes) -> io::Result<T>) -> io::Result<T> {
        change(&mut self.opened.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a file to serve it, only if it still is what it was when its content was known.
    /// `folders`: of files that are opened one after another.
    pub fn open_served(&self, folders: &mut LastFolder, file: &ServedFile) -> io::Result<File> {
        let parent = folders.of(&self.dir, &file.path)?;
        if beneath::stat_at(parent, file.path.name())? == Some(file.stat) {
            let opened = beneath::reopen(parent, file.path.name())?;
            if beneath::facts(&opened)?.stat == file.stat {
                return Ok(opened);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("'{}' has changed", file.path)))
    }

    /// To make everything on the folder's file system durable, for one thread: the kernel tells
    /// each open description once of what it could not write, so that two users of one would take
    /// the error from each other (P5).
    pub fn syncer(&self) -> rustix::io::Result<Syncer> {
        let dir = beneath::readable_folder(&self.dir, None)?;
        Ok(Syncer { dir, has_failed: AtomicBool::new(false), waits: Arc::clone(&self.waits) })
    }

    /// Who waits for the folder's disk.
    pub fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }
}

/// See `Root::syncer`.
#[derive(Debug)]
pub struct Syncer {
    dir: OwnedFd,
    has_failed: AtomicBool,
    waits: Arc<Waits>,
}

impl Syncer {
    /// `point`: which use of it this is.
    pub fn sync_all(&self, point: Point) -> rustix::io::Result<()> {
        let synced = self.waits.during(|| fail::at(point).and_then(|()| rustix::fs::syncfs(&self.dir)));
        if synced.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        synced
    }

    /// Makes durable by other calls.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.waits.during(work)
    }

    /// After an error, silence proves nothing any more: what was lost was told of once, and is
    /// called clean now. Each inode has a memory of its own, so that its `fsync` still knows.
    pub fn is_trusted(&self) -> bool {
        !self.has_failed.load(Ordering::Relaxed)
    }
}

/// `doing` completes "it cannot ...".
fn failed(shown: &str, doing: &str, e: Errno) -> RootError {
    let (path, doing, why) = (shown.to_owned(), doing.to_owned(), e.to_string());
    match e {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => RootError::NotWritable { path, why },
        Errno::NOSYS if !beneath::knows_openat2() => RootError::OldKernel(path),
        Errno::NOSYS | Errno::OPNOTSUPP => RootError::Incapable { path, doing, why },
        _ => RootError::Io { path, doing, why },
    }
}

fn open_dir(path: &Path, shown: &str) -> Result<OwnedFd, RootError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e {
        Errno::NOENT => RootError::Missing(shown.to_owned()),
        Errno::NOTDIR => RootError::NotDirectory(shown.to_owned()),
        e => failed(shown, "open the folder", e),
    })?;
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let allowed = rustix::fs::accessat(&dir, ".", all, AtFlags::EACCESS);
    allowed.map_err(|e| failed(shown, "tell what may be done in the folder", e))?;
    Ok(dir)
}

/// A folder of ours in `dir`: made if it is missing, refused if it is not a real directory of our
/// user.
fn own_folder(dir: &OwnedFd, name: &str, shown: &str) -> Result<OwnedFd, RootError> {
    let refuse = |why| RootError::Private { path: shown.to_owned(), why };
    let failed = |doing: &str, e| failed(shown, &format!("{doing} '{name}'"), e);
    match rustix::fs::mkdirat(dir, name, OWN_FOLDER) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(failed("make the folder", e)),
    }
    let folder = beneath::open(dir, name.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| match e {
        Errno::NOTDIR | Errno::LOOP => refuse("it is not a directory"),
        Errno::XDEV => refuse("another file system is mounted on it"),
        e => failed("open the folder", e),
    })?;
    let facts = beneath::facts(&folder).map_err(|e| failed("look at the folder", e))?;
    if facts.uid != rustix::process::geteuid().as_raw() && !gives_owner(&folder, facts.uid) {
        return Err(refuse("it belongs to another user"));
    }
    // What is made in it takes after the folder that it goes to, not after this one. Where there
    // are no lists, there is nothing to remove.
    for list in ["system.posix_acl_default", "system.posix_acl_access"] {
        let _ = rustix::fs::fremovexattr(&folder, list);
    }
    match rustix::fs::fchmod(&folder, OWN_FOLDER) {
        // A file system without permissions, as the probe will find.
        Err(e) if probe::is_not_kept(e) => {}
        other => other.map_err(|e| failed("set the permissions of", e))?,
    }
    Ok(folder)
}

/// Whether the file system gives everything to this user, whoever makes it: as FAT and NTFS do by
/// their mount options.
fn gives_owner(folder: &OwnedFd, uid: u32) -> bool {
    let name = "probe-owner";
    let _ = remove(folder, name);
    let made = beneath::create(folder, name).and_then(beneath::facts);
    let _ = remove(folder, name);
    made.is_ok_and(|made| made.uid == uid)
}

/// A full disk is no reason not to serve.
fn hide_from_git(private: &OwnedFd) {
    let (name, patterns) = GIT_IGNORE;
    let written = match beneath::create(private, name) {
        Err(Errno::EXIST) => Ok(()),
        made => made.map_err(io::Error::from).and_then(|mut file| file.write_all(patterns)),
    };
    if let Err(why) = written {
        tracing::debug!("'{PRIVATE_DIR}/{name}' cannot be written: {why}");
    }
}

fn read_small(dir: &OwnedFd, name: &str) -> Option<String> {
    let (file, _) = beneath::regular(dir, name.as_bytes()).ok()??;
    let mut content = String::new();
    file.take(SMALL_OWN_FILE_BYTES).read_to_string(&mut content).ok()?;
    Some(content.trim_end().to_owned())
}

fn remove(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Tries an exchange on two files of our own. Where they cannot be made, as on a full disk, it is
/// taken for possible.
fn probe_exchange(staging: &OwnedFd) -> bool {
    let names = ["probe-a", "probe-b"];
    let are_made = names.iter().all(|name| {
        let _ = remove(staging, name);
        beneath::create(staging, name).is_ok()
    });
    let exchange = || rustix::fs::renameat_with(staging, names[0], staging, names[1], RenameFlags::EXCHANGE);
    let exchanged = !are_made || exchange().is_ok();
    for name in names {
        let _ = remove(staging, name);
    }
    exchanged
}

fn is_on(folder: &OwnedFd, magic: u64) -> bool {
    rustix::fs::fstatfs(folder).is_ok_and(|disk| disk.f_type as u64 & 0xffff_ffff == magic)
}

/// Not on ZFS, which waits for all of its pool whenever a nameless file gets a name (`zfs_link`).
fn probe_nameless(staging: &OwnedFd) -> bool {
    if is_on(staging, ZFS_MAGIC) {
        return false;
    }
    let name = "probe-a";
    let named = beneath::create_nameless(staging, Mode::RUSR | Mode::WUSR)
        .and_then(|file| beneath::give_name(&file, staging, name.as_bytes()));
    let _ = remove(staging, name);
    named.is_ok()
}

#[cfg(test)]
mod tests;
