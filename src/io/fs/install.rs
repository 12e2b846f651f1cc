//! Installing in batches: verify, make durable, exchange, look at what came out, keep it.
//!
//! Everything queued goes as one batch, in order: staged side by side, while the batch before it is
//! made durable together and put in place one by one; their folders are made durable together, and
//! only then is any of them reported (P5). May import `engine`'s values. Deliberately not here:
//! what to install, and what to do when that failed.

mod beside;
mod change;
mod closed;
mod place;
mod prepare;
mod restore;
#[cfg(test)]
mod tests;

use crate::engine::{Cause, Event, Job, JobId, Outcome, Source, Stat, StatKind};
use crate::io::Events;
use crate::io::fail::{self, Point};
use crate::io::fs::beneath::{self, LastFolder};
use crate::io::fs::history::History;
use crate::io::fs::queue::Queue;
use crate::io::fs::root::{Root, Syncer};
use crate::io::fs::stage::{Nameless, Stage};
use crate::io::fs::staging;
use crate::model::SyncPath;
use beside::Reading;
use closed::OpenedFolder;
use place::{PathChange, Placed};
use prepare::{InstallBatch, failed, prepare};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use change::PutContent;
pub use restore::RestoreError;

const BATCH_JOBS: usize = 2048;
const BATCH_BYTES: usize = 64 << 20;
/// A batch of more is large: two threads stage it, its new files get no name before their place,
/// and more to come is worth waiting for.
const SHARED_JOBS: usize = 64;
/// So many files of a batch are made durable one by one, more by one `syncfs`.
const FEW_FILES: usize = 3;
/// The same while bulk is being staged, for which a `syncfs` would wait.
const FEW_FILES_BESIDE_BULK: usize = 64;
const FEW_FOLDERS: usize = 8;
/// Files kept open from staging until they are durable.
const OPEN_FILES: usize = 16;

/// What everything here works on.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub root: Arc<Root>,
    pub stage: Arc<Stage>,
    pub history: Arc<History>,
    pub syncer: Arc<Syncer>,
    /// The daemon ends: who reads much stops at once.
    pub is_stopping: Arc<AtomicBool>,
}

/// What a job put into staging.
enum Prepared {
    /// It deletes.
    Nothing,
    /// It changes the inode that is there.
    InPlace,
    /// The same, of a large file whose bytes were read: they are what is wanted, if its stat is
    /// still the expected one.
    Proven,
    Staged(StagedFile),
    /// What is there by another spelling of the name gets this one.
    Renamed(SyncPath, Stat),
    /// A file that gets its first name in its place.
    Nameless(Nameless, Stat),
}

impl Prepared {
    /// Whether it is a new file.
    fn is_file(&self) -> bool {
        match self {
            Self::Staged(staged) => staged.stat.kind == StatKind::File,
            Self::Nameless(..) => true,
            Self::Nothing | Self::InPlace | Self::Proven | Self::Renamed(..) => false,
        }
    }
}

struct StagedFile {
    name: String,
    stat: Stat,
    file: Option<File>,
}

/// The queue of installs, and the thread's work.
pub struct Applier {
    site: Site,
    events: Events,
    queue: Queue<Job>,
    /// Staged, and what came of it. What is being staged is announced.
    ready: Queue<(Job, Result<Prepared, Outcome>)>,
    /// For the thread that reads large files.
    readings: Queue<Reading>,
}

/// What came of staging, a job each.
type PreparedBatch = Vec<Result<Prepared, Outcome>>;

/// A batch whose changes are in place but not durable yet.
#[derive(Default)]
struct Unsettled {
    outcomes: Vec<(JobId, Outcome)>,
    folders: BTreeSet<Option<SyncPath>>,
    history: bool,
    /// Inodes that were changed in place, or got their first name there.
    inodes: Vec<SyncPath>,
    /// Folders that were opened for it. They are closed; their records go when that is durable.
    opened: Vec<OpenedFolder>,
    /// Those of `Made::Proven`, done but for their second reading.
    proven: BTreeMap<JobId, Job>,
}

impl Applier {
    pub fn new(root: Arc<Root>, stage: Arc<Stage>, history: Arc<History>, events: Events) -> std::io::Result<Self> {
        closed::close_left(&root)?;
        let syncer = Arc::new(root.syncer()?);
        let site = Site { root, stage, history, syncer, is_stopping: Arc::default() };
        let (queue, ready, readings) = (Queue::default(), Queue::default(), Queue::default());
        Ok(Self { site, events, queue, ready, readings })
    }

    pub fn queue(&self, jobs: Vec<Job>) {
        self.queue.extend(jobs);
    }

    /// What is queued but not begun is dropped.
    pub fn stop(&self) {
        self.site.is_stopping.store(true, Ordering::Relaxed);
        self.queue.stop();
        self.ready.stop();
        self.readings.stop();
    }

    /// A thread: stages what is queued until it is stopped.
    pub fn stage(&self) {
        while let Some((large, jobs)) = self.next_jobs() {
            self.ready.wait_below(BATCH_JOBS);
            // Not one open descriptor for each of 2,048 files.
            let keeps_open = jobs.len() <= OPEN_FILES && self.ready.waiting() == 0;
            let prepared = self.site.prepare_all(&jobs, keeps_open);
            self.ready.extend(jobs.into_iter().zip(prepared).collect());
            // After the folders that they go into.
            self.readings.extend(large.into_iter().map(Reading::Before).collect());
        }
    }

    /// Those of which much is to be read, and the others.
    fn next_jobs(&self) -> Option<(Vec<Job>, Vec<Job>)> {
        self.queue.wait(|jobs| {
            let (large, batch): (Vec<_>, Vec<_>) = take_batch(jobs).into_iter().partition(beside::reads_much);
            self.ready.announce(batch.len());
            (large, batch)
        })
    }

    /// A thread: installs all that is staged, while more is staged, until it is stopped.
    pub fn install(&self) {
        while let Some(first) = self.next_batch() {
            let mut unsettled = Unsettled::default();
            let mut next = Some(first);
            while let Some((jobs, prepared)) = next {
                let (made, synced_all) = self.site.make_durable(&jobs, prepared);
                // A `syncfs` serves the files of one batch and the folders of those before it.
                if synced_all {
                    let settled = std::mem::take(&mut unsettled);
                    self.site.forget_openings(&settled.opened);
                    self.report(settled);
                }
                unsettled.append(self.site.place_all(jobs, made));
                let goes_on = self.site.wants_syncfs(&unsettled) && self.site.syncer.is_trusted() && self.is_more();
                next = if goes_on { self.next_batch() } else { None };
            }
            self.report(self.site.settle(unsettled));
        }
    }

    /// Whether a large batch is staged, or just being staged.
    fn is_more(&self) -> bool {
        self.ready.to_come() > SHARED_JOBS
    }

    fn next_batch(&self) -> Option<(Vec<Job>, PreparedBatch)> {
        self.ready.wait(|ready| ready.drain(..ready.len().min(BATCH_JOBS)).unzip())
    }

    fn report(&self, mut settled: Unsettled) {
        // Before what was installed with less is inspected.
        if let Some(keeps) = self.site.root.learned() {
            self.events.send(Event::Keeps(keeps));
        }
        for (id, outcome) in settled.outcomes {
            match (outcome, settled.proven.remove(&id)) {
                (Outcome::Done { stat, .. }, Some(job)) => self.readings.extend(vec![Reading::After(job, stat)]),
                (outcome, _) => self.events.send(Event::Installed { job: id, outcome }),
            }
        }
    }
}

fn take_batch(jobs: &mut VecDeque<Job>) -> Vec<Job> {
    let mut bytes = 0;
    let fits = |job: &Job| {
        if let Source::Bytes(body) = &job.source {
            bytes += body.len();
        }
        bytes <= BATCH_BYTES
    };
    let count = jobs.iter().take(BATCH_JOBS).map(fits).take_while(|fits| *fits).count();
    jobs.drain(..count.max(1)).collect()
}

impl Unsettled {
    fn append(&mut self, mut later: Self) {
        self.outcomes.append(&mut later.outcomes);
        self.folders.append(&mut later.folders);
        self.inodes.append(&mut later.inodes);
        self.opened.append(&mut later.opened);
        self.proven.append(&mut later.proven);
        self.history |= later.history;
    }
}

/// Where no `fsync` failed, a content that was staged before the job is as good as it was.
fn refused(job: &Job, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(trouble) if matches!(job.source, Source::Staged(_)) => Outcome::Refused(trouble),
        outcome => outcome,
    }
}

impl Site {
    fn prepare_all(&self, jobs: &[Job], keeps_open: bool) -> PreparedBatch {
        if jobs.len() <= SHARED_JOBS {
            return self.prepare_some(jobs, InstallBatch::new(false), keeps_open);
        }
        let (first, second) = jobs.split_at(jobs.len() / 2);
        std::thread::scope(|scope| {
            // Those that have names are made durable once, those that have none twice.
            let nameless = self.syncer.is_trusted();
            let helper = scope.spawn(move || self.prepare_some(second, InstallBatch::new(nameless), keeps_open));
            let mut all = self.prepare_some(first, InstallBatch::new(nameless), keeps_open);
            match helper.join() {
                Ok(rest) => all.extend(rest),
                Err(panic) => std::panic::resume_unwind(panic),
            }
            all
        })
    }

    fn prepare_some(&self, jobs: &[Job], mut batch: InstallBatch, keeps_open: bool) -> PreparedBatch {
        let one = |job| {
            let mut made = prepare(self, &mut batch, job).map_err(|outcome| refused(job, outcome));
            if let Ok(Prepared::Staged(staged)) = &mut made
                && !keeps_open
            {
                staged.file = None;
            }
            made
        };
        jobs.iter().map(one).collect()
    }

    /// Makes all staged contents durable. What cannot be is discarded and never retried: after an
    /// error the kernel calls the lost pages clean. `true`: everything on the file system was made
    /// durable.
    fn make_durable(&self, jobs: &[Job], mut all: PreparedBatch) -> (PreparedBatch, bool) {
        let files = all.iter().flatten().filter(|made| made.is_file()).count();
        let synced_all = files > self.few_files() && self.syncer.is_trusted();
        let common = if synced_all { self.syncer.sync_all(Point::StageSyncfs) } else { Ok(()) };
        for (job, made) in jobs.iter().zip(&mut all) {
            let Ok(new) = made else { continue };
            let synced = match common {
                Ok(()) if !synced_all => prepare::sync(self, new),
                common => common,
            };
            if let Prepared::Staged(staged) = new {
                staged.file = None;
            }
            if let Err(e) = synced {
                self.discard(new);
                *made = Err(failed("make durable", job, e));
            }
        }
        (all, synced_all && common.is_ok())
    }

    fn few_files(&self) -> usize {
        if self.stage.is_bulk_under_way() { FEW_FILES_BESIDE_BULK } else { FEW_FILES }
    }

    fn wants_syncfs(&self, unsettled: &Unsettled) -> bool {
        unsettled.folders.len() > FEW_FOLDERS || unsettled.inodes.len() > self.few_files()
    }

    fn place_all(&self, jobs: Vec<Job>, all: Vec<Result<Prepared, Outcome>>) -> Unsettled {
        let mut unsettled = Unsettled::default();
        let mut folders = LastFolder::default();
        for (job, made) in jobs.into_iter().zip(all) {
            let is_proven = matches!(made, Ok(Prepared::Proven));
            let outcome = match made {
                Ok(made) => self.place_one(&mut folders, &job, &made, &mut unsettled),
                Err(outcome) => outcome,
            };
            if outcome == Outcome::BadContent {
                self.forget_source(&job);
            }
            unsettled.outcomes.push((job.id, outcome));
            if is_proven {
                unsettled.proven.insert(job.id, job);
            }
        }
        self.close_all(&unsettled.opened);
        unsettled
    }

    fn close_all<'a>(&self, opened: impl IntoIterator<Item = &'a OpenedFolder>) {
        for opening in opened {
            if let Err(why) = opening.close(&self.root) {
                tracing::warn!("'{}' was opened for an install and cannot be closed: {why}", opening.path);
            }
        }
    }

    /// Places a change; where the folder is its owner's and may not be written, that is opened for
    /// it.
    fn place(
        &self,
        folders: &mut LastFolder,
        change: &PathChange<'_>,
        opened: &mut Vec<OpenedFolder>,
    ) -> Result<Placed, Outcome> {
        let placed = place::place(self, folders, change);
        let (Err(Outcome::Failed(trouble)), Some(parent)) = (&placed, change.path.parent()) else { return placed };
        if trouble.cause != Cause::Denied || rustix::process::geteuid().is_root() {
            return placed;
        }
        match closed::open(&self.root, &parent) {
            Ok(Some(opening)) => {
                opened.push(opening);
                place::place(self, folders, change)
            }
            Ok(None) => placed,
            Err(why) => {
                tracing::debug!("'{parent}' cannot be opened for an install: {why}");
                placed
            }
        }
    }

    fn place_one(&self, folders: &mut LastFolder, job: &Job, made: &Prepared, unsettled: &mut Unsettled) -> Outcome {
        let change = PathChange::of(job, made);
        let is_in_place = matches!(made, Prepared::InPlace | Prepared::Proven);
        let replaces = job.expect.is_some_and(|old| old.kind != StatKind::Directory) && !is_in_place;
        let admitted = if replaces { self.history.admit(&job.path).map_err(Outcome::Failed) } else { Ok(()) };
        // Its own job finds a folder as it is to be.
        self.close_all(unsettled.opened.iter().filter(|opening| opening.path == job.path));
        match admitted.and_then(|()| self.place(folders, &change, &mut unsettled.opened)) {
            Ok(Placed { stat, kept }) => {
                unsettled.folders.insert(job.path.parent());
                unsettled.history |= kept.is_some();
                if let (Some(kept), Some(old)) = (&kept, &job.expect) {
                    self.history.watch(kept, &job.path, old);
                }
                // A new folder got its permissions in its place. What had no name when it was made
                // durable is not so on every file system: of what nobody can reach, Btrfs before
                // Linux 6.17 logs nothing, and ext4 without a journal keeps that it has no links.
                if matches!(made, Prepared::InPlace | Prepared::Proven | Prepared::Nameless(..))
                    || matches!(made, Prepared::Staged(new) if stat.is_some_and(|stat| stat.mode != new.stat.mode))
                {
                    unsettled.inodes.push(job.path.clone());
                }
                if job.entry.is_directory() || stat.is_none_or(|stat| stat.kind == StatKind::Directory) {
                    // It may be another one than the folder held.
                    *folders = LastFolder::default();
                }
                Outcome::Done { stat, kept }
            }
            Err(outcome) => {
                self.take_back(job, made);
                refused(job, outcome)
            }
        }
    }

    /// A job that failed keeps nothing in staging but a content that was staged before it, for
    /// another try.
    fn take_back(&self, job: &Job, made: &Prepared) {
        match made {
            Prepared::Staged(staged) if matches!(job.source, Source::Staged(_)) => {
                let ours = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                let _ = rustix::fs::chmodat(self.root.staging(), staged.name.as_str(), ours, AtFlags::empty());
            }
            made => self.discard(made),
        }
    }

    /// What has no name goes when it is dropped.
    fn discard(&self, made: &Prepared) {
        if let Prepared::Staged(staged) = made {
            self.remove_staged(&staged.name);
        }
    }

    fn remove_staged(&self, name: &str) {
        let staging = self.root.staging();
        if rustix::fs::unlinkat(staging, name, AtFlags::empty()) == Err(Errno::ISDIR) {
            let _ = rustix::fs::unlinkat(staging, name, AtFlags::REMOVEDIR);
        }
    }

    fn forget_source(&self, job: &Job) {
        if let Source::Staged(id) = job.source {
            self.remove_staged(&staging::name(id));
        }
    }

    /// Makes durable what was put in place: how each job ended is true then.
    fn settle(&self, mut unsettled: Unsettled) -> Unsettled {
        self.forget_openings(&unsettled.opened);
        if unsettled.folders.is_empty() {
            return unsettled;
        }
        let synced = self.sync(&unsettled);
        fail::after(Point::InstallDurable);
        if let Err(e) = synced {
            // In place, but not durable: never called done. An inspection finds it there when its
            // folder is well again.
            let trouble = crate::io::fs::trouble::trouble("make durable", None, e);
            for (_, outcome) in &mut unsettled.outcomes {
                if matches!(outcome, Outcome::Done { .. }) {
                    *outcome = Outcome::Failed(trouble.clone());
                }
            }
        }
        unsettled
    }

    fn forget_openings(&self, opened: &[OpenedFolder]) {
        for opening in opened {
            // The next start finds the folder closed, and forgets it then.
            if let Err(why) = opening.forget(&self.root) {
                tracing::debug!("'{}' was opened for an install, and its record stays: {why}", opening.path);
            }
        }
    }

    fn sync(&self, unsettled: &Unsettled) -> rustix::io::Result<()> {
        if self.wants_syncfs(unsettled) && self.syncer.is_trusted() {
            return self.syncer.sync_all(Point::InstallSyncfs);
        }
        self.syncer.during(|| self.sync_each(unsettled))
    }

    fn sync_each(&self, unsettled: &Unsettled) -> rustix::io::Result<()> {
        fail::at(Point::InstallFsync)?;
        for path in &unsettled.inodes {
            let parent = beneath::folder(self.root.dir(), path.parent().as_ref());
            match parent.and_then(|parent| beneath::regular(&parent, path.name())) {
                Ok(Some((file, _))) => rustix::fs::fsync(&file)?,
                // A link has no descriptor to sync by, a folder perhaps none that we may open; and
                // their parent's does not do it.
                Ok(None) | Err(_) => return self.syncer.sync_all(Point::InstallSyncfs),
            }
        }
        if unsettled.history {
            rustix::fs::fsync(self.root.history())?;
        }
        for folder in &unsettled.folders {
            match beneath::readable_folder(self.root.dir(), folder.as_ref()) {
                Ok(folder) => rustix::fs::fsync(&folder)?,
                // Moved away, or not readable to us.
                Err(_) => return self.syncer.sync_all(Point::InstallSyncfs),
            }
        }
        Ok(())
    }
}
