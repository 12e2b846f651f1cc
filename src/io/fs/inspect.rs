//! Looking at paths: stat, make durable, hash, stat again.
//!
//! Two threads share one queue. What many inspections found new is made durable by one `syncfs` on
//! a third, which begins after the first stat and ends before any of it is told (P5). Meanwhile it
//! is hashed, and what comes next: a write that the stat does not show is found by the second hash
//! that the engine asks for. A user's file is read, never mapped: a truncation would kill the
//! process. May import `engine`'s values. Deliberately not here: when to look, and what a
//! difference means.

mod durable;
mod found;

use self::durable::{Durable, SyncNumber, SyncedBatch, Ticket, WaitingBatch};
use self::found::{Body, Fresh, InspectResult, beside, is_changed_in_place, is_same_folder, read_full};
use crate::delta::has_signature;
use crate::engine::limits::IGNORE_FILE_BYTES;
use crate::engine::{CHUNKED_BYTES, Event, Names, Observed, PriorContent, Stat, StatKind};
use crate::io::Events;
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::{self, Facts, LastFolder};
use crate::io::fs::delta::sum::sum;
use crate::io::fs::root::{Root, Syncer};
use crate::io::fs::stage::Stage;
use crate::io::fs::trouble::{errno, trouble};
use crate::io::store::chunk_lists::ChunkLists;
use crate::io::store::signatures::Signatures;
use crate::model::path::IGNORE_FILE;
use crate::model::{ContentId, FileTime, SyncPath};
use crate::wire::message::SMALL_FILE_BYTES;
use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub const THREADS: usize = 2;
/// Looks taken from the queue at once by a thread.
const BATCH: usize = 2048;
/// So many are made durable one by one, more by one `syncfs`.
const FEW: usize = 2;
/// The same while bulk is being staged, for which a `syncfs` would wait.
const FEW_BESIDE_BULK: usize = 64;
/// From this size on a file is hashed while it is made durable.
const LARGE_BYTES: u64 = 4 << 20;
/// BLAKE3 wants 64 KiB or more at a time; a small file and its end fit one call.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bodies handed over and not yet dropped, in all (P9).
const BODIES_BYTES: usize = 16 << 20;
/// Files that could not be made durable and are remembered as such, at most (P9).
const UNSOUND: usize = 10_000;

/// One thing to look at.
pub enum InspectTask {
    Inspect { path: SyncPath, known: Option<Stat>, was: Option<PriorContent>, rehash: bool, body: bool },
    CheckRoot,
    ReadIgnore,
}

/// Where what comes by the way of hashing a file is kept.
pub struct Sums {
    pub signatures: Option<Arc<Signatures>>,
    pub lists: Arc<ChunkLists>,
}

/// The queue of inspections, and the threads' work.
pub struct InspectQueue {
    root: Arc<Root>,
    stage: Arc<Stage>,
    sums: Sums,
    events: Events,
    queue: Mutex<VecDeque<InspectTask>>,
    durable: Durable<InspectResult>,
    changed: Condvar,
    is_stopping: AtomicBool,
    bodies: Arc<AtomicUsize>,
    unsound: Mutex<BTreeMap<SyncPath, Stat>>,
}

impl InspectQueue {
    pub fn new(root: Arc<Root>, stage: Arc<Stage>, sums: Sums, events: Events) -> Self {
        let (queue, changed) = (Mutex::default(), Condvar::new());
        let is_stopping = AtomicBool::new(false);
        let (durable, bodies, unsound) = (Durable::default(), Arc::default(), Mutex::default());
        Self { root, stage, sums, events, queue, durable, changed, is_stopping, bodies, unsound }
    }

    pub fn queue(&self, tasks: Vec<InspectTask>) {
        if !tasks.is_empty() {
            self.lock().extend(tasks);
            self.changed.notify_all();
        }
    }

    /// Waits until fewer than `count` are queued, or the end.
    pub fn wait_below(&self, count: usize) {
        let mut queue = self.lock();
        while queue.len() >= count && !self.is_stopping.load(Ordering::Relaxed) {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// See [`crate::io::fs::disk::Disk::expect_many`].
    pub fn expect_many(&self) {
        self.durable.ask();
    }

    /// Whether nothing waits to be inspected.
    pub fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    pub fn stop(&self) {
        let _queue = self.lock();
        self.is_stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
        self.durable.stop();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<InspectTask>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread: looks until it is stopped.
    pub fn run(&self, syncer: &Syncer) {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some((ticket, batch)) = self.next_batch() {
            self.inspect_one(ticket, batch, syncer, &mut buffer);
        }
    }

    /// A thread: makes durable what the others found, until it is stopped.
    pub fn sync(&self, syncer: &Syncer) {
        let report = |ended| {
            self.report_all(vec![ended]);
            // There may be room for more.
            let _queue = self.lock();
            self.changed.notify_all();
        };
        self.durable.run(|| syncer.sync_all(Point::InspectSyncfs), report);
    }

    /// Its fair share of what waits, so that two threads work on a long queue.
    fn next_batch(&self) -> Option<(Ticket, Vec<InspectTask>)> {
        let mut queue = self.lock();
        loop {
            if self.is_stopping.load(Ordering::Relaxed) {
                return None;
            }
            let batch: Vec<InspectTask> = if queue.len() <= FEW || self.durable.has_room() {
                let count = queue.len().div_ceil(THREADS).min(BATCH);
                queue.drain(..count).collect()
            } else {
                // What is no inspection waits for nobody's disk.
                let other = queue.iter().position(|task| !matches!(task, InspectTask::Inspect { .. }));
                other.and_then(|at| queue.remove(at)).into_iter().collect()
            };
            if !batch.is_empty() {
                self.changed.notify_all();
                return Some((self.durable.ticket(), batch));
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn inspect_one(&self, ticket: Ticket, batch: Vec<InspectTask>, syncer: &Syncer, buffer: &mut Vec<u8>) {
        let mut folders = LastFolder::default();
        let mut fresh = Vec::new();
        for task in batch {
            match task {
                InspectTask::Inspect { path, known, was, rehash, body } => match self.stat(&mut folders, &path) {
                    // It was made durable when it became known.
                    Ok(Some(facts)) if known.is_some_and(|known| is_same_folder(&known, &facts.stat)) => {
                        self.report(path, Observed::Directory { stat: facts.stat });
                    }
                    Ok(Some(facts)) if Some(facts.stat) == known && !rehash => self.report(path, Observed::Unchanged),
                    Ok(None) if known.is_none() => self.report(path, Observed::Absent),
                    Ok(Some(facts)) if self.is_unsound(&path, &facts.stat) => {
                        let trouble = trouble("make durable", Some(&path), Errno::IO);
                        self.report(path, Observed::Failed(trouble));
                    }
                    Ok(facts) => fresh.push(Fresh { path, facts, folder_changed: None, known, was, body, file: None }),
                    Err(e) => {
                        let trouble = trouble("look at", Some(&path), e);
                        self.report(path, Observed::Failed(trouble));
                    }
                },
                InspectTask::CheckRoot => self.events.send(Event::Root(self.root.check())),
                InspectTask::ReadIgnore => self.events.send(match self.read_ignore() {
                    Ok(text) => Event::IgnoreRead(text),
                    Err(why) => Event::IgnoreUnread(why),
                }),
            }
        }
        self.stat_folders(&mut fresh);
        self.report_fresh(ticket, fresh, syncer, &mut folders, buffer);
    }

    /// After all of them: a name that came since the last `syncfs` shows in its folder, and on XFS
    /// not in a file that was exchanged in.
    fn stat_folders(&self, fresh: &mut [Fresh]) {
        let mut last: Option<(Option<SyncPath>, Option<FileTime>)> = None;
        for found in fresh {
            let folder = found.path.parent();
            let (_, changed) = match last.take() {
                Some(known) if known.0 == folder => last.insert(known),
                _ => {
                    let facts = beneath::folder(self.root.dir(), folder.as_ref()).and_then(beneath::facts);
                    last.insert((folder, facts.ok().map(|facts| facts.stat.ctime)))
                }
            };
            found.folder_changed = *changed;
        }
    }

    fn report_fresh(
        &self,
        ticket: Ticket,
        fresh: Vec<Fresh>,
        syncer: &Syncer,
        folders: &mut LastFolder,
        buffer: &mut Vec<u8>,
    ) {
        let few = if self.stage.is_bulk_under_way() { FEW_BESIDE_BULK } else { FEW };
        let sorted = self.durable.sort(ticket, fresh, few);
        let (outside, inside): (Vec<_>, Vec<_>) = sorted.durable.into_iter().partition(Fresh::is_folder);
        let are_reported = !outside.is_empty();
        for (fresh, ends_folders) in [(outside, are_reported), (inside, false)] {
            for mut found in fresh {
                let observed = self.observe(folders, &mut found, buffer);
                self.report_result(found.path, observed);
            }
            if ends_folders {
                self.report_all(self.durable.folders_reported(ticket));
            }
        }
        let rest = sorted.rest;
        if let Some(asked) = sorted.asked {
            self.report_many(ticket, asked, rest, folders, buffer);
            return;
        }
        let are_folders = rest.iter().any(Fresh::is_folder);
        let seen = rest.into_iter().map(|found| self.see_durable(found, syncer, folders, buffer));
        if let Some(asked) = sorted.behind {
            let items = seen.collect();
            self.report_all(self.durable.keep(WaitingBatch { ticket, asked, items, are_folders }));
        } else {
            seen.for_each(|seen| self.report_result(seen.path, seen.observed));
            if are_folders {
                self.report_all(self.durable.folders_reported(ticket));
            }
        }
    }

    /// One by itself.
    fn see_durable(
        &self,
        mut found: Fresh,
        syncer: &Syncer,
        folders: &mut LastFolder,
        buffer: &mut Vec<u8>,
    ) -> InspectResult {
        if let Err(e) = self.open(folders, &mut found) {
            return InspectResult { path: found.path, observed: Err(e) };
        }
        let is_large = found.facts.as_ref().is_some_and(|facts| facts.stat.size >= LARGE_BYTES);
        let observed = if is_large {
            let file = found.file.as_ref().and_then(|file| file.try_clone().ok());
            let mut twin = Fresh { path: found.path.clone(), file, ..found };
            let durable = || syncer.during(|| self.make_durable(syncer, &mut LastFolder::default(), &mut twin));
            let (durable, observed) = beside(durable, || self.observe(folders, &mut found, buffer));
            durable.and(observed)
        } else {
            // What was seen first need not stand still for as long as the disk takes.
            match self.observe(folders, &mut found, buffer) {
                Ok(Observed::Unstable) => Ok(Observed::Unstable),
                seen => seen
                    .and_then(|seen| syncer.during(|| self.make_durable(syncer, folders, &mut found)).map(|()| seen)),
            }
        };
        InspectResult { path: found.path, observed }
    }

    /// What is hashed is what is made durable, whatever has its name by then.
    fn open(&self, folders: &mut LastFolder, found: &mut Fresh) -> rustix::io::Result<()> {
        if found.facts.as_ref().is_some_and(|facts| facts.stat.kind == StatKind::File) {
            found.file = Some(beneath::reopen(folders.of(self.root.dir(), &found.path)?, found.path.name())?);
        }
        Ok(())
    }

    /// They are told when the `syncfs` that was asked for has ended. Folders first: there is
    /// nothing to hash about them.
    fn report_many(
        &self,
        ticket: Ticket,
        asked: SyncNumber,
        fresh: Vec<Fresh>,
        folders: &mut LastFolder,
        buffer: &mut Vec<u8>,
    ) {
        let mut observe = |mut found: Fresh| {
            let observed = self.observe(folders, &mut found, buffer);
            InspectResult { path: found.path, observed }
        };
        let (inside, fresh): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|found| !found.is_folder());
        for (fresh, are_folders) in [(fresh, true), (inside, false)] {
            if !fresh.is_empty() {
                let items = fresh.into_iter().map(&mut observe).collect();
                self.report_all(self.durable.keep(WaitingBatch { ticket, asked, items, are_folders }));
            }
        }
    }

    fn report_all(&self, mut ended: Vec<SyncedBatch<InspectResult>>) {
        while !ended.is_empty() {
            ended = ended.into_iter().flat_map(|ended| self.report_ended(ended)).collect();
        }
    }

    /// Gives what may be told after that.
    fn report_ended(&self, ended: SyncedBatch<InspectResult>) -> Vec<SyncedBatch<InspectResult>> {
        for seen in ended.items {
            self.report_result(seen.path, ended.synced.and(seen.observed));
        }
        if ended.are_folders { self.durable.folders_reported(ended.ticket) } else { Vec::new() }
    }

    fn report_result(&self, path: SyncPath, observed: rustix::io::Result<Observed>) {
        if self.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        let observed = match observed {
            Ok(observed) => observed,
            // Gone or replaced on the way: there will be a hint, or the next inspection says so.
            Err(e) if beneath::is_no_parent(e) => Observed::Unstable,
            Err(e) => Observed::Failed(trouble("read", Some(&path), e)),
        };
        self.report(path, observed);
    }

    fn report(&self, path: SyncPath, observed: Observed) {
        self.events.send(Event::Inspected { path, observed });
    }

    fn stat(&self, folders: &mut LastFolder, path: &SyncPath) -> rustix::io::Result<Option<Facts>> {
        match folders.of(self.root.dir(), path) {
            Ok(parent) => match self.root.facts_in(parent, path.name()) {
                Err(Errno::NAMETOOLONG) => Ok(None),
                Ok(Some(_)) if self.is_anothers(folders, path)? => Ok(None),
                other => other,
            },
            // Below a mount it is covered, not gone (P8).
            Err(e) if beneath::is_no_parent(e) && e != Errno::XDEV => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether what is found by this name is there by another one that the file system takes for
    /// it, or is our own.
    fn is_anothers(&self, folders: &mut LastFolder, path: &SyncPath) -> rustix::io::Result<bool> {
        match self.root.keeps().names {
            Names::Exact => Ok(false),
            Names::Folded => Ok(self.root.is_ours(path)?
                || !folders.is_spelled(self.root.dir(), path)?
                || !folders.lists(self.root.dir(), path)?),
            Names::Respelled => self.root.is_ours(path),
        }
    }

    /// One path, bytes and name (or the name's absence), without waiting for anything else on the
    /// disk.
    fn make_durable(&self, syncer: &Syncer, folders: &mut LastFolder, found: &mut Fresh) -> rustix::io::Result<()> {
        match found.facts {
            Some(facts) if facts.stat.kind == StatKind::File => {
                let file = match found.file.take() {
                    Some(file) => file,
                    None => beneath::reopen(folders.of(self.root.dir(), &found.path)?, found.path.name())?,
                };
                // What is no file any more may have no `fsync`; reading it will show that.
                if let Err(e) = fail::at(Point::InspectFsync).and_then(|()| rustix::fs::fsync(&file)) {
                    let now = beneath::facts(&file)?;
                    self.note_unsound(&found.path, now.stat);
                    if now.place() == facts.place() {
                        return Err(e);
                    }
                }
            }
            // The inode's own, not its parent's; a link cannot be opened for `fsync`.
            Some(facts) if found.known.is_some_and(|known| is_changed_in_place(&known, &facts.stat)) => {
                return syncer.sync_all(Point::InspectSyncfs);
            }
            _ => {}
        }
        let mut folder = found.path.parent();
        loop {
            match beneath::readable_folder(self.root.dir(), folder.as_ref()) {
                Ok(folder) => return fail::at(Point::InspectFolderFsync).and_then(|()| rustix::fs::fsync(&folder)),
                // It went with its folder.
                Err(e) if beneath::is_no_parent(e) && folder.is_some() => folder = folder.and_then(|f| f.parent()),
                Err(_) => return syncer.sync_all(Point::InspectSyncfs),
            }
        }
    }

    /// Its `fsync` failed, and it is as it was then. A second `fsync` would call what was lost
    /// clean, so it is not asked again until someone writes the file (P5).
    fn is_unsound(&self, path: &SyncPath, stat: &Stat) -> bool {
        let mut unsound = self.unsound.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = unsound.get(path).map(|known| known == stat);
        if is_same == Some(false) {
            unsound.remove(path);
        }
        is_same == Some(true)
    }

    fn note_unsound(&self, path: &SyncPath, stat: Stat) {
        let mut unsound = self.unsound.lock().unwrap_or_else(PoisonError::into_inner);
        // When full, another one is forgotten: this one would be asked again at once.
        if unsound.len() >= UNSOUND && !unsound.contains_key(path) {
            unsound.pop_last();
        }
        unsound.insert(path.clone(), stat);
    }

    fn observe(
        &self,
        folders: &mut LastFolder,
        found: &mut Fresh,
        buffer: &mut Vec<u8>,
    ) -> rustix::io::Result<Observed> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Ok(Observed::Unstable);
        }
        let Some(facts) = &found.facts else { return Ok(Observed::Absent) };
        let parent = folders.of(self.root.dir(), &found.path)?;
        let stat = facts.stat;
        match stat.kind {
            StatKind::Directory => Ok(Observed::Directory { stat }),
            StatKind::Other => Ok(Observed::Special { what: beneath::what(facts) }),
            kind @ (StatKind::Mount | StatKind::Subvolume) => Ok(Observed::Foreign(kind)),
            StatKind::Symlink => {
                let target = rustix::fs::readlinkat(parent, found.path.name(), Vec::new())?.into_bytes();
                let now = self.root.facts_in(parent, found.path.name())?;
                let is_same = now.is_some_and(|now| now.stat == stat);
                Ok(if is_same { Observed::Symlink { stat, target } } else { Observed::Unstable })
            }
            StatKind::File => self.hash(parent, found, stat, buffer),
        }
    }

    /// The stat after equals the one before: what was read in between is that file's content.
    fn hash(
        &self,
        parent: &OwnedFd,
        found: &mut Fresh,
        stat: Stat,
        buffer: &mut Vec<u8>,
    ) -> rustix::io::Result<Observed> {
        let mut opened;
        let file = if let Some(file) = &mut found.file {
            file
        } else {
            opened = beneath::reopen(parent, found.path.name())?;
            &mut opened
        };
        fail::at(Point::InspectRead)?;
        let Some(content) = self.read_and_hash(file, stat.size, found.was, buffer).map_err(|e| errno(&e))? else {
            return Ok(Observed::Unstable);
        };
        if beneath::facts(&*file)?.stat != stat {
            return Ok(Observed::Unstable);
        }
        let wants_body = found.body && stat.size <= SMALL_FILE_BYTES;
        let body = if wants_body { self.body(&buffer[..stat.size as usize]) } else { None };
        Ok(Observed::File { stat, content, body })
    }

    /// `None` when its length is not `size`. A file that fits the buffer is left in it. Whether it
    /// goes on after `size` bytes, the stat says.
    fn read_and_hash(
        &self,
        file: &mut File,
        size: u64,
        was: Option<PriorContent>,
        buffer: &mut Vec<u8>,
    ) -> std::io::Result<Option<ContentId>> {
        if let Some(signatures) = self.sums.signatures.as_ref().filter(|_| has_signature(size)) {
            let is_stopping = || self.is_stopping.load(Ordering::Relaxed);
            let old = was.and_then(|was| signatures.get(&was.content, was.size));
            let Some((content, signature)) = sum(file, size, old.as_ref(), &is_stopping, buffer)? else {
                return Ok(None);
            };
            // Before anyone is told: whoever hears of it may ask what differs, or for its
            // chunks.
            if let Some(signature) = signature {
                if size >= CHUNKED_BYTES {
                    self.sums.lists.keep(content, Arc::new(signature.chunks().to_vec()));
                }
                signatures.put(&content, &signature);
            }
            return Ok(Some(content));
        }
        let mut hasher = blake3::Hasher::new();
        let mut left = size;
        while left > 0 {
            let part = (buffer.len() as u64).min(left) as usize;
            let read = read_full(file, &mut buffer[..part])?;
            hasher.update(&buffer[..read]);
            if read < part || self.is_stopping.load(Ordering::Relaxed) {
                return Ok(None);
            }
            left -= read as u64;
        }
        Ok(Some(ContentId(*hasher.finalize().as_bytes())))
    }

    /// A copy for the engine, while there is room for it.
    fn body(&self, bytes: &[u8]) -> Option<Bytes> {
        let fits = |held: usize| (held + bytes.len() <= BODIES_BYTES).then_some(held + bytes.len());
        self.bodies.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Bytes::from_owner(Body { bytes: bytes.to_vec(), held: Arc::clone(&self.bodies) }))
    }

    /// What the ignore file says; `None` where nothing is. Whatever else is there is no leave to
    /// tell what it covers.
    fn read_ignore(&self) -> Result<Option<Vec<u8>>, String> {
        let path = SyncPath::new(IGNORE_FILE).expect("a plain name is a path");
        let unread = |why: &str| format!("{IGNORE_FILE} {why}");
        let failed = |e| unread(&trouble("read", Some(&path), e).text);
        let (file, facts) = match beneath::regular(self.root.dir(), path.as_bytes()) {
            Ok(Some(open)) => open,
            Ok(None) => return Err(unread("is no regular file: put a file of patterns there, or remove it")),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let too_large = || unread("is larger than 1 MiB: make it shorter");
        if facts.stat.size > IGNORE_FILE_BYTES {
            return Err(too_large());
        }
        let mut content = Vec::new();
        match file.take(IGNORE_FILE_BYTES + 1).read_to_end(&mut content) {
            Ok(_) if content.len() as u64 > IGNORE_FILE_BYTES => Err(too_large()),
            Ok(_) => Ok(Some(content)),
            Err(e) => Err(failed(Errno::from_io_error(&e).unwrap_or(Errno::IO))),
        }
    }
}
