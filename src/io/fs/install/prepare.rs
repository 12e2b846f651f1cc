//! Making in staging what a job wants in the folder: content verified, owner, permissions and mtime
//! set.
//!
//! May import `engine`'s values and `model`. Deliberately not here: durability and the way into the
//! folder.

use super::{Prepared, Site, StagedFile};
use crate::engine::{Cause, Job, Outcome, Source, StageId, Stat, StatKind, Trouble};
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::{self, Facts};
use crate::io::fs::direct::{Buffer, LargeReader, Target};
use crate::io::fs::probe;
use crate::io::fs::stage::Nameless;
use crate::io::fs::staging;
use crate::io::fs::trouble::{errno, trouble};
use crate::model::{ContentId, FileTime, Kind, Mode, SyncPath};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc;

const COPY_BYTES: u64 = 1 << 20;
const SETGID: u16 = 0o2000;
/// Setuid, setgid and sticky: never synced, and kept where they are.
const SPECIAL: u16 = 0o7000;
const OTHERS_WRITE: u16 = 0o022;
const ACL_ACCESS: &str = "system.posix_acl_access";
const ACL_DEFAULT: &str = "system.posix_acl_default";
/// As large as the kernel lets a value, and a list of names, be.
const ATTRIBUTE_BYTES: usize = 64 * 1024;
const FEW_ATTRIBUTES_BYTES: usize = 4096;
const ANY_EXECUTE: u16 = 0o111;

/// Stages what `job` wants. Touches nothing in the folder.
pub(super) fn prepare(site: &Site, batch: &mut InstallBatch, job: &Job) -> Result<Prepared, Outcome> {
    if let Source::Rename { from, stat } = &job.source {
        return Ok(Prepared::Renamed(from.clone(), *stat));
    }
    match &job.entry.kind {
        Kind::Deleted { .. } => Ok(Prepared::Nothing),
        Kind::Directory if is_kept_in_place(job, StatKind::Directory) => Ok(Prepared::InPlace),
        Kind::Symlink { .. } if job.source == Source::InPlace => Ok(Prepared::InPlace),
        Kind::Directory => folder(site, batch, job),
        Kind::Symlink { target } => link(site, batch, job, target),
        Kind::File { size, content } => file(site, batch, job, *size, content),
    }
}

fn is_kept_in_place(job: &Job, kind: StatKind) -> bool {
    job.expect.is_some_and(|expect| expect.kind == kind)
}

fn file(site: &Site, batch: &mut InstallBatch, job: &Job, size: u64, content: &ContentId) -> Result<Prepared, Outcome> {
    let failed = |e| failed("write", job, e);
    match &job.source {
        Source::Nothing | Source::Rename { .. } => Err(Outcome::NoSource),
        Source::Bytes(bytes) => {
            if bytes.len() as u64 != size || ContentId::of(bytes) != *content {
                return Err(Outcome::BadContent);
            }
            let mut new = create(site, batch, job)?;
            let written = fail::at(Point::StageWrite).and_then(|()| new.file().write_all(bytes).map_err(|e| errno(&e)));
            let written = written.map_err(failed);
            finish(site, batch, job, new, written)
        }
        Source::Staged(id) => {
            let name = staging::name(*id);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let file = beneath::open(site.root.staging(), name.as_bytes(), flags).map_err(|e| match e {
                Errno::NOENT => Outcome::NoSource,
                e => failed(e),
            })?;
            let facts = beneath::facts(&file).map_err(failed)?;
            if facts.stat.size != size {
                return Err(Outcome::BadContent);
            }
            let file = File::from(file);
            let stat = dress_file(site, batch, job, &file)?;
            Ok(Prepared::Staged(StagedFile { name, stat, file: Some(file) }))
        }
        Source::Copy { from, stat } => copy(site, batch, job, from, stat, content),
        Source::Kept { kept, stat } => copy_kept(site, batch, job, kept, stat, content),
        Source::InPlace => {
            let links = site.root.facts(&job.path).map_err(failed)?.map_or(1, |facts| facts.links);
            match &job.expect {
                // Never written through: its other names may lie anywhere.
                Some(expect) if links > 1 => copy(site, batch, job, &job.path, expect, content),
                _ => Ok(Prepared::InPlace),
            }
        }
    }
}

/// A new file of ours, still empty.
pub(super) enum NewFile {
    Named(StageId, File),
    Nameless(Nameless),
}

impl NewFile {
    fn file(&mut self) -> &mut File {
        match self {
            Self::Named(_, file) => file,
            Self::Nameless(new) => &mut new.file,
        }
    }
}

fn create(site: &Site, batch: &InstallBatch, job: &Job) -> Result<NewFile, Outcome> {
    site.stage.check_room().map_err(Outcome::Failed)?;
    let is_nameless = batch.is_large && may_be_nameless(job);
    let create = || match is_nameless.then(|| site.stage.create_nameless(bits(job.entry.mode))).flatten() {
        Some(new) => Ok(NewFile::Nameless(new)),
        None => site.stage.create_file().map(|(id, file)| NewFile::Named(id, file)),
    };
    fail::at(Point::StageCreate).and_then(|()| create()).map_err(|e| failed("write", job, e))
}

/// What has no name stays open until it has one, and what is open for writing cannot be executed. A
/// folder is replaced by exchanging names.
fn may_be_nameless(job: &Job) -> bool {
    let replaces_folder = job.expect.is_some_and(|old| old.kind == StatKind::Directory);
    job.entry.mode.0 & ANY_EXECUTE == 0 && !replaces_folder
}

fn finish(
    site: &Site,
    batch: &mut InstallBatch,
    job: &Job,
    mut new: NewFile,
    made: Result<(), Outcome>,
) -> Result<Prepared, Outcome> {
    let dressed = made.and_then(|()| dress_file(site, batch, job, new.file()));
    match (dressed, new) {
        (Ok(stat), NewFile::Named(id, file)) => {
            Ok(Prepared::Staged(StagedFile { name: staging::name(id), stat, file: Some(file) }))
        }
        (Ok(stat), NewFile::Nameless(new)) => Ok(Prepared::Nameless(new, stat)),
        (Err(outcome), NewFile::Named(id, _)) => {
            site.stage.discard(id);
            Err(outcome)
        }
        (Err(outcome), NewFile::Nameless(_)) => Err(outcome),
    }
}

fn copy(
    site: &Site,
    batch: &mut InstallBatch,
    job: &Job,
    from: &SyncPath,
    stat: &Stat,
    content: &ContentId,
) -> Result<Prepared, Outcome> {
    let parent = beneath::folder(site.root.dir(), from.parent().as_ref()).map_err(|_| Outcome::NoSource)?;
    copy_found(site, batch, job, stat.size, content, || {
        beneath::regular(&parent, from.name()).ok().flatten().filter(|(_, facts)| facts.stat == *stat)
    })
}

/// Of what went to history. Its way there changed its ctime.
fn copy_kept(
    site: &Site,
    batch: &mut InstallBatch,
    job: &Job,
    kept: &str,
    was: &Stat,
    content: &ContentId,
) -> Result<Prepared, Outcome> {
    let is_as_it_came = |now: &Stat| (now.ino, now.size, now.mtime) == (was.ino, was.size, was.mtime);
    copy_found(site, batch, job, was.size, content, || {
        let opened = beneath::regular(site.root.history(), kept.as_bytes()).ok().flatten();
        opened.filter(|(_, facts)| is_as_it_came(&facts.stat))
    })
}

/// Copies what `open` finds, which may be called again for another descriptor of it.
fn copy_found(
    site: &Site,
    batch: &mut InstallBatch,
    job: &Job,
    size: u64,
    content: &ContentId,
    open: impl Fn() -> Option<(File, Facts)>,
) -> Result<Prepared, Outcome> {
    let (source, before) = open().ok_or(Outcome::NoSource)?;
    let mut new = create(site, batch, job)?;
    let again = || open().map(|(file, _)| file);
    let copied = copy_hashing(site, source, again, &mut new, size).map_err(|e| failed("copy", job, errno(&e)));
    let made = copied.and_then(|(source, hash)| {
        if hash == Some(*content) {
            return Ok(());
        }
        let untouched = hash.is_some() && beneath::facts(source.file()).is_ok_and(|now| now.stat == before.stat);
        Err(if untouched { Outcome::BadContent } else { Outcome::NoSource })
    });
    finish(site, batch, job, new, made)
}

/// Clones (sharing the blocks where the file system can) or copies, and hashes what the copy holds;
/// no hash if that is not `size` bytes. `again` opens the source once more.
pub(super) fn copy_hashing(
    site: &Site,
    source: File,
    again: impl FnOnce() -> Option<File>,
    new: &mut NewFile,
    size: u64,
) -> io::Result<(LargeReader, Option<ContentId>)> {
    let file = new.file().try_clone()?;
    if rustix::fs::ioctl_ficlone(&file, &source).is_ok() {
        let (source, clone) = (LargeReader::new(source, None), LargeReader::new(file, None));
        // The source may have changed since it was inspected.
        let is_whole = beneath::facts(clone.file())?.stat.size == size;
        let hash = if is_whole { read_hashing(&clone, size, |part| Ok(part.buffer))? } else { None };
        return Ok((source, hash));
    }
    let target = match new {
        NewFile::Named(id, _) => site.stage.target_of_another(*id, file, size),
        NewFile::Nameless(_) => Target::cached(file),
    };
    let source = LargeReader::new(source, if target.is_direct() { again() } else { None });
    let hash = if target.is_direct() {
        // Else each write would make it longer.
        rustix::fs::ftruncate(target.file(), size)?;
        copy_beside(&source, &target, size)?
    } else {
        read_hashing(&source, size, |part| part.write(&target))?
    };
    Ok((source, hash))
}

/// What was read, and where.
struct ReadPart {
    buffer: Buffer,
    length: usize,
    at: u64,
}

impl ReadPart {
    fn write(mut self, target: &Target) -> io::Result<Buffer> {
        target.write_all_at(&self.buffer.space()[..self.length], self.at)?;
        Ok(self.buffer)
    }
}

/// Reads and hashes all of a file; `hand_on` takes each part and gives a buffer for the next. No
/// hash if it is shorter than `size`.
fn read_hashing(
    file: &LargeReader,
    size: u64,
    mut hand_on: impl FnMut(ReadPart) -> io::Result<Buffer>,
) -> io::Result<Option<ContentId>> {
    let (mut buffer, mut scratch) = (Buffer::new(COPY_BYTES.min(size) as usize), Buffer::new(0));
    let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
    while at < size {
        let length = COPY_BYTES.min(size - at) as usize;
        let bytes = &mut buffer.space()[..length];
        match file.read_exact_at(bytes, at, &mut scratch) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        hasher.update(bytes);
        buffer = hand_on(ReadPart { buffer, length, at })?;
        at += length as u64;
    }
    Ok(Some(ContentId(*hasher.finalize().as_bytes())))
}

/// The same, while another thread writes what was read: past the cache each write waits for the
/// disk.
fn copy_beside(source: &LargeReader, target: &Target, size: u64) -> io::Result<Option<ContentId>> {
    let (full, parts) = mpsc::sync_channel::<ReadPart>(1);
    let (empty, buffers) = mpsc::channel();
    for _ in 0..2 {
        let _ = empty.send(Buffer::new(COPY_BYTES.min(size) as usize));
    }
    let write = move || {
        parts.into_iter().try_for_each(|part| {
            let _ = empty.send(part.write(target)?);
            Ok(())
        })
    };
    let gone = || io::Error::other("a thread died");
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name("copy".to_owned()).spawn_scoped(scope, write)?;
        let read = read_hashing(source, size, |part| {
            full.send(part).map_err(|_| gone())?;
            buffers.recv().map_err(|_| gone())
        });
        drop(full);
        // What stopped the writer comes first: the reader only finds that nobody listens.
        writer.join().unwrap_or_else(|_| Err(gone())).and(read)
    })
}

/// Access lists, mtime, mode and owner, in the order in which none undoes another.
fn dress_file(site: &Site, batch: &mut InstallBatch, job: &Job, file: &File) -> Result<Stat, Outcome> {
    let failed = |e| failed("set the permissions of", job, e);
    let replaced = match &job.expect {
        Some(old) if old.kind == StatKind::File => copy_attributes(site, batch, &job.path, file),
        Some(_) => None,
        None => {
            batch.give_default_acl(site, &job.path, file, ACL_ACCESS).map_err(failed)?;
            None
        }
    };
    fail::at(Point::StageDress).and_then(|()| rustix::fs::futimens(file, &times(job.entry.mtime))).map_err(failed)?;
    let made = beneath::facts(file).map_err(failed)?;
    let has_mode = made.stat.mode == job.entry.mode;
    if !has_mode {
        site.root.set(rustix::fs::fchmod(file, bits(job.entry.mode))).map_err(failed)?;
    }
    let owner = owner(site, batch, job, replaced, &made)?;
    if let Some((uid, gid)) = owner {
        // With neither setuid nor setgid, this changes nothing of the mode.
        site.root.set(rustix::fs::fchown(file, uid, gid)).map_err(failed)?;
    }
    // As of any program that writes a file, new contents take setuid and setgid from it; its own in
    // another inode do not.
    let special = replaced.filter(|_| job.source == Source::InPlace).map_or(0, |old| old.raw_mode & SPECIAL);
    if special != 0 {
        site.root.set(rustix::fs::fchmod(file, with_special(job.entry.mode, special))).map_err(failed)?;
    }
    let is_as_made = has_mode && owner.is_none() && special == 0;
    let stat = if is_as_made { made.stat } else { beneath::facts(file).map_err(failed)?.stat };
    site.root.compare_mode(job.entry.mode, stat.mode);
    Ok(stat)
}

fn folder(site: &Site, batch: &mut InstallBatch, job: &Job) -> Result<Prepared, Outcome> {
    let failed = |e| failed("make", job, e);
    let name = staging::name(site.stage.next_id());
    let staging = site.root.staging();
    rustix::fs::mkdirat(staging, name.as_str(), rustix::fs::Mode::RWXU).map_err(failed)?;
    let made = dress_folder(site, batch, job, &name)
        .map(|stat| Prepared::Staged(StagedFile { name: name.clone(), stat, file: None }));
    if made.is_err() {
        let _ = rustix::fs::unlinkat(staging, name.as_str(), AtFlags::REMOVEDIR);
    }
    made
}

fn dress_folder(site: &Site, batch: &mut InstallBatch, job: &Job, name: &str) -> Result<Stat, Outcome> {
    let failed = |e| failed("make", job, e);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = beneath::open(site.root.staging(), name.as_bytes(), flags).map_err(failed)?;
    let now = beneath::facts(&dir).map_err(failed)?;
    if job.expect.is_none() {
        batch.give_default_acl(site, &job.path, &dir, ACL_ACCESS).map_err(failed)?;
        batch.give_default_acl(site, &job.path, &dir, ACL_DEFAULT).map_err(failed)?;
    }
    if let Some((uid, gid)) = owner(site, batch, job, None, &now)? {
        site.root.set(rustix::fs::fchown(&dir, uid, gid)).map_err(failed)?;
    }
    let setgid = batch.setgid(site, &job.path).map_err(failed)?;
    // A folder that we may not write cannot be renamed: the rest of its mode follows once it is in
    // place.
    let mode = Mode(job.entry.mode.0 | 0o700);
    site.root.set(rustix::fs::fchmod(&dir, with_special(mode, setgid))).map_err(failed)?;
    let stat = beneath::facts(&dir).map_err(failed)?.stat;
    site.root.compare_mode(mode, stat.mode);
    Ok(stat)
}

fn link(site: &Site, batch: &mut InstallBatch, job: &Job, target: &[u8]) -> Result<Prepared, Outcome> {
    let failed = |e| failed("make the link", job, e);
    let name = staging::name(site.stage.next_id());
    let staging = site.root.staging();
    rustix::fs::symlinkat(target, staging, name.as_str()).map_err(|e| match e {
        e if !site.root.keeps().symlinks && probe::is_not_kept(e) => no_links(job),
        e => failed(e),
    })?;
    let mut dress = || -> Result<Stat, Outcome> {
        let now = beneath::facts_at(staging, name.as_bytes()).map_err(failed)?.ok_or(Outcome::NoSource)?;
        if let Some((uid, gid)) = owner(site, batch, job, None, &now)? {
            let owned = rustix::fs::chownat(staging, name.as_str(), uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            site.root.set(owned).map_err(failed)?;
        }
        let times = times(job.entry.mtime);
        rustix::fs::utimensat(staging, name.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        beneath::stat_at(staging, name.as_bytes()).map_err(failed)?.ok_or(Outcome::NoSource)
    };
    match dress() {
        Ok(stat) => Ok(Prepared::Staged(StagedFile { name, stat, file: None })),
        Err(outcome) => {
            let _ = rustix::fs::unlinkat(staging, name.as_str(), AtFlags::empty());
            Err(outcome)
        }
    }
}

/// A problem of this machine alone: the link stays as it is at the others.
fn no_links(job: &Job) -> Outcome {
    let text = format!("'{}' is a symbolic link, and the file system of this folder keeps none", job.path);
    Outcome::Failed(Trouble { cause: Cause::Name, text })
}

type Owner = (Option<Uid>, Option<Gid>);

/// Who is to own it, where that is not who made it: the replaced file's owner (`replaced`, if
/// inspected already), or for a new one what its folder gives. Others than root can give a file
/// only to a group of theirs, and do so where they can.
fn owner(
    site: &Site,
    batch: &mut InstallBatch,
    job: &Job,
    replaced: Option<Facts>,
    staged: &Facts,
) -> Result<Option<Owner>, Outcome> {
    let is_root = rustix::process::geteuid().is_root();
    let wanted = match (replaced, job.expect) {
        (Some(old), _) => Some((old.uid, old.gid)),
        (None, Some(_)) => batch.owner_of(site, job).map_err(|e| failed("look at", job, e))?,
        (None, None) => batch.gives(site, job, is_root, staged).map_err(|e| failed("reach", job, e))?,
    };
    let Some((uid, gid)) = wanted.filter(|wanted| *wanted != (staged.uid, staged.gid)) else { return Ok(None) };
    let may_give_group = is_root || rustix::process::getgroups().is_ok_and(|mine| mine.contains(&Gid::from_raw(gid)));
    let uid = is_root.then(|| Uid::from_raw(uid));
    let gid = may_give_group.then(|| Gid::from_raw(gid));
    Ok((uid.is_some() || gid.is_some()).then_some((uid, gid)))
}

/// What the jobs of a batch have in common.
pub(super) struct InstallBatch {
    /// The folder of the last job, or the nearest one above it that is there: the others are made
    /// by the same batch, and take after that one. Jobs come in path order, so most of them share
    /// it.
    nearest: Option<HeldFolder>,
    /// Its new files get no name before their place. Not those of a small one: what is renamed in
    /// is known to be whole, what is linked in looks like a file that is being written, whose
    /// inspection waits for quiet, and with it what comes next for that path.
    is_large: bool,
}

struct HeldFolder {
    wanted: Option<SyncPath>,
    folder: OwnedFd,
    facts: Facts,
    /// What new things in it get, as the kernel keeps it.
    default_acl: Option<Vec<u8>>,
}

impl InstallBatch {
    pub fn new(is_large: bool) -> Self {
        Self { nearest: None, is_large }
    }

    fn of(&mut self, site: &Site, path: &SyncPath) -> rustix::io::Result<&HeldFolder> {
        if !self.nearest.as_ref().is_some_and(|held| beneath::is_in(path, held.wanted.as_ref())) {
            let wanted = path.parent();
            let folder = nearest_folder(site, wanted.clone())?;
            let facts = beneath::facts(&folder)?;
            let default_acl = default_acl(&folder);
            self.nearest = Some(HeldFolder { wanted, folder, facts, default_acl });
        }
        Ok(self.nearest.as_ref().expect("set just above"))
    }

    /// Of what the job replaces.
    fn owner_of(&mut self, site: &Site, job: &Job) -> rustix::io::Result<Option<(u32, u32)>> {
        let folder = &self.of(site, &job.path)?.folder;
        Ok(beneath::facts_at(folder, job.path.name())?.map(|old| (old.uid, old.gid)))
    }

    /// What a new thing takes from its folder. From root, the owner where nobody else can create
    /// there: in a folder that others may write, one user's private file would be handed to
    /// another.
    fn gives(&mut self, site: &Site, job: &Job, is_root: bool, made: &Facts) -> rustix::io::Result<Option<(u32, u32)>> {
        let folder = &self.of(site, &job.path)?.facts;
        // With an access list, the group's bits are its mask.
        let is_owners = is_root && folder.raw_mode & OTHERS_WRITE == 0;
        let uid = if is_owners { folder.uid } else { made.uid };
        let gid = if is_owners || folder.raw_mode & SETGID != 0 { folder.gid } else { made.gid };
        Ok(Some((uid, gid)))
    }

    /// The bit that a new folder takes from the one that it is made in.
    fn setgid(&mut self, site: &Site, path: &SyncPath) -> rustix::io::Result<u16> {
        Ok(self.of(site, path)?.facts.raw_mode & SETGID)
    }

    /// Gives the named users and groups of the folder's default list to a new thing in it. The mode
    /// that follows sets the owner's, the mask's and the others' permissions.
    fn give_default_acl(
        &mut self,
        site: &Site,
        path: &SyncPath,
        new: impl AsFd,
        which: &str,
    ) -> rustix::io::Result<()> {
        match &self.of(site, path)?.default_acl {
            Some(acl) => rustix::fs::fsetxattr(new, which, acl, XattrFlags::empty()),
            None => Ok(()),
        }
    }
}

/// `None`: it has none, or the file system keeps none. The descriptor is one that only names the
/// folder.
fn default_acl(folder: &OwnedFd) -> Option<Vec<u8>> {
    let mut value = vec![0; ATTRIBUTE_BYTES];
    let len = rustix::fs::getxattr(beneath::by_descriptor(folder), ACL_DEFAULT, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value).filter(|acl| !acl.is_empty())
}

fn nearest_folder(site: &Site, mut folder: Option<SyncPath>) -> rustix::io::Result<OwnedFd> {
    loop {
        match beneath::folder(site.root.dir(), folder.as_ref()) {
            Err(e) if beneath::is_no_parent(e) && folder.is_some() => folder = folder.and_then(|f| f.parent()),
            other => return other,
        }
    }
}

/// The access list and the users' attributes of the file that is replaced, and what is known of it.
/// What cannot be read or set is left. Nothing of `security.*` or `trusted.*`: a capability was
/// given to the old contents.
fn copy_attributes(site: &Site, batch: &mut InstallBatch, path: &SyncPath, file: &File) -> Option<Facts> {
    let folder = &batch.of(site, path).ok()?.folder;
    let (old, facts) = beneath::regular(folder, path.name()).ok()??;
    copy_attributes_of(&old, file);
    Some(facts)
}

pub(super) fn copy_attributes_of(old: &File, new: &File) {
    let mut names = vec![0; FEW_ATTRIBUTES_BYTES];
    let listed = rustix::fs::flistxattr(old, &mut names[..]).or_else(|e| match e {
        Errno::RANGE => {
            names.resize(ATTRIBUTE_BYTES, 0);
            rustix::fs::flistxattr(old, &mut names[..])
        }
        e => Err(e),
    });
    let names = &names[..listed.unwrap_or(0)];
    for name in names.split(|&b| b == 0).filter(|name| name.starts_with(b"user.") || *name == ACL_ACCESS.as_bytes()) {
        let mut value = vec![0; ATTRIBUTE_BYTES];
        if let Ok(len) = rustix::fs::fgetxattr(old, name, &mut value[..]) {
            let _ = rustix::fs::fsetxattr(new, name, &value[..len], XattrFlags::empty());
        }
    }
}

pub(super) fn bits(mode: Mode) -> rustix::fs::Mode {
    rustix::fs::Mode::from_raw_mode(u32::from(mode.0))
}

/// A mode, and the special bits of what it is set on.
pub(super) fn with_special(mode: Mode, raw_mode: u16) -> rustix::fs::Mode {
    bits(mode) | rustix::fs::Mode::from_raw_mode(u32::from(raw_mode & SPECIAL))
}

/// The access time is left alone.
pub(super) fn times(mtime: FileTime) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let mtime = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: omit, last_modification: mtime }
}

pub(super) fn failed(doing: &str, job: &Job, e: Errno) -> Outcome {
    Outcome::Failed(trouble(doing, Some(&job.path), e))
}

/// Makes one staged thing durable by itself.
pub(super) fn sync(site: &Site, made: &Prepared) -> rustix::io::Result<()> {
    match made {
        Prepared::Nothing | Prepared::InPlace | Prepared::Proven | Prepared::Renamed(..) => Ok(()),
        Prepared::Nameless(new, _) => {
            site.syncer.during(|| fail::at(Point::StageFsync).and_then(|()| rustix::fs::fsync(&new.file)))
        }
        Prepared::Staged(staged) => site.syncer.during(|| sync_one(site, staged)),
    }
}

fn sync_one(site: &Site, staged: &StagedFile) -> rustix::io::Result<()> {
    fail::at(Point::StageFsync)?;
    match (&staged.file, staged.stat.kind) {
        (Some(file), _) => rustix::fs::fsync(file),
        (None, StatKind::File) => {
            // Only we can have put a file there, so its mode cannot keep its owner from fsync but
            // by being unreadable.
            match beneath::open(site.root.staging(), staged.name.as_bytes(), OFlags::RDONLY | OFlags::NOFOLLOW) {
                Ok(file) => rustix::fs::fsync(file.as_fd()),
                Err(Errno::ACCESS) => site.syncer.sync_all(Point::StageSyncfs),
                Err(e) => Err(e),
            }
        }
        // A link or an empty folder is made durable with the folder that it goes to.
        (None, _) => Ok(()),
    }
}
