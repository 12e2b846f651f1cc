//! The disk side as one facade: takes the engine's disk actions, sends back events.
//!
//! May import the rest of the disk side and `engine`'s values. Deliberately not here: any decision.

#[cfg(test)]
mod tests;

use crate::engine::{Action, Event, FetchError, FetchId};
use crate::io::Events;
use crate::io::fs::delta::Deltas;
use crate::io::fs::history::History;
use crate::io::fs::indispensable::Indispensable;
use crate::io::fs::inspect::{self, InspectQueue, InspectTask, Sums};
use crate::io::fs::install::Applier;
use crate::io::fs::merge_bases::Bases;
use crate::io::fs::partial::Partials;
use crate::io::fs::root::{Root, Syncer};
use crate::io::fs::scan::{self, Ignored, Walker};
use crate::io::fs::scrub::Scrubber;
use crate::io::fs::stage::{Stage, StageError};
use crate::io::fs::uploads::Uploads;
use crate::io::fs::watch::Watcher;
use crate::io::store::chunk_lists::ChunkLists;
use crate::io::store::signatures::Signatures;
use crate::model::ContentId;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long `shutdown` waits for a disk that does not answer.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What may differ from the defaults.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// How often everything is walked while some folder cannot be watched.
    pub unwatched_walk: Duration,
    /// Where signatures are kept; `None`: nowhere.
    pub signature_dir: Option<PathBuf>,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { unwatched_walk: Duration::from_mins(1), signature_dir: None }
    }
}

/// The running disk side. Stops when dropped.
pub struct Disk {
    root: Arc<Root>,
    stage: Arc<Stage>,
    history: Arc<History>,
    inspections: Arc<InspectQueue>,
    watcher: Arc<Watcher>,
    walker: Arc<Walker>,
    applier: Arc<Applier>,
    bases: Arc<Bases>,
    scrubber: Arc<Scrubber>,
    signatures: Option<Arc<Signatures>>,
    deltas: Arc<Deltas>,
    partials: Arc<Partials>,
    uploads: Arc<Uploads>,
    lists: Arc<ChunkLists>,
    opening: mpsc::Sender<PartialTask>,
    /// Dropped to stop the timer.
    timer: Mutex<Option<mpsc::Sender<()>>>,
    /// Disconnected when all threads have ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Disk {
    /// Starts the threads. Fails when staging cannot be cleared or a thread cannot be made.
    pub fn start(root: Arc<Root>, events: Events, options: &DiskOptions) -> io::Result<Self> {
        let unwatched_walk = options.unwatched_walk;
        let syncers = (0..inspect::THREADS).map(|_| root.syncer()).collect::<rustix::io::Result<Vec<_>>>()?;
        let syncer = root.syncer()?;
        let stage = Stage::open(Arc::clone(&root))?;
        let history = History::open(Arc::clone(&root), Arc::clone(&stage));
        let watcher = Arc::new(Watcher::new(Arc::clone(&root), events.clone()));
        let signatures = options.signature_dir.clone().map(Signatures::new);
        if let Some(signatures) = &signatures {
            stage.keep_signatures(Arc::clone(signatures));
        }
        let deltas = Deltas::new(Arc::clone(&root), Arc::clone(&stage), signatures.clone());
        let lists = Arc::<ChunkLists>::default();
        let sums = Sums { signatures: signatures.clone(), lists: Arc::clone(&lists) };
        let inspections = Arc::new(InspectQueue::new(Arc::clone(&root), Arc::clone(&stage), sums, events.clone()));
        let partials = Arc::new(Partials::new(Arc::clone(&root), Arc::clone(&stage)));
        let uploads = Uploads::new(Arc::clone(&root), Arc::clone(&stage));
        let walker =
            Arc::new(Walker::new(Arc::clone(&root), Arc::clone(&watcher), Arc::clone(&inspections), events.clone()));
        let bases = Bases::new(Arc::clone(&root), Arc::clone(&stage), Arc::clone(&history), events.clone());
        let applier = Applier::new(Arc::clone(&root), Arc::clone(&stage), Arc::clone(&history), events.clone())?;
        let scrubber = Scrubber::new(Arc::clone(&root), Arc::clone(&inspections), Arc::clone(&history), events.clone());
        let (alive, ended) = mpsc::channel();
        let (timer, timer_ended) = mpsc::channel();
        let (applier, bases, scrubber) = (Arc::new(applier), Arc::new(bases), Arc::new(scrubber));
        let (timer, ended) = (Mutex::new(Some(timer)), Mutex::new(ended));
        let (opening, openings) = mpsc::channel();
        let disk = Self {
            root,
            stage,
            history,
            inspections,
            watcher,
            walker,
            applier,
            bases,
            scrubber,
            signatures,
            deltas,
            partials,
            uploads,
            lists,
            opening,
            timer,
            ended,
        };
        disk.spawn_readers(syncers, syncer, &alive)?;
        disk.spawn_keepers(&events, openings, &alive)?;
        let watcher = Arc::clone(&disk.watcher);
        spawn("unwatched", alive, move || walk_unwatched(&watcher, &events, &timer_ended, unwatched_walk))?;
        Ok(disk)
    }

    /// The threads that see what is in the folder.
    fn spawn_readers(&self, syncers: Vec<Syncer>, syncer: Syncer, alive: &mpsc::Sender<()>) -> io::Result<()> {
        let watcher = Arc::clone(&self.watcher);
        spawn("watch", alive.clone(), move || watcher.run())?;
        for syncer in syncers {
            let inspections = Arc::clone(&self.inspections);
            spawn("look", alive.clone(), move || inspections.run(&syncer))?;
        }
        let inspections = Arc::clone(&self.inspections);
        spawn("sync", alive.clone(), move || inspections.sync(&syncer))?;
        for _ in 0..scan::THREADS {
            let walker = Arc::clone(&self.walker);
            spawn("walk", alive.clone(), move || walker.run())?;
        }
        let scrubber = Arc::clone(&self.scrubber);
        spawn("scrub", alive.clone(), move || scrubber.run())
    }

    /// The threads that install, and see to staging, history and merges.
    fn spawn_keepers(
        &self,
        events: &Events,
        openings: mpsc::Receiver<PartialTask>,
        alive: &mpsc::Sender<()>,
    ) -> io::Result<()> {
        let (partials, lists, to) = (Arc::clone(&self.partials), Arc::clone(&self.lists), events.clone());
        spawn("partials", alive.clone(), move || open_partials(&partials, &lists, &openings, &to))?;
        let bases = Arc::clone(&self.bases);
        spawn("merge", alive.clone(), move || bases.run())?;
        let (history, to) = (Arc::clone(&self.history), events.clone());
        spawn("history", alive.clone(), move || history.run(&to))?;
        let (history, to) = (Arc::clone(&self.history), events.clone());
        spawn("past", alive.clone(), move || history.answer(&to))?;
        // One batch is staged while the one before it is installed.
        let (stager, applier) = (Arc::clone(&self.applier), Arc::clone(&self.applier));
        spawn("stage", alive.clone(), move || stager.stage())?;
        spawn("apply", alive.clone(), move || applier.install())?;
        let applier = Arc::clone(&self.applier);
        spawn("prove", alive.clone(), move || applier.read())
    }

    /// Runs disk actions without blocking; gives back those that are not the disk's.
    pub fn run(&self, actions: impl IntoIterator<Item = Action>) -> Vec<Action> {
        let (mut tasks, mut jobs, mut opening, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Inspect { path, known, was, rehash, body } => {
                    tasks.push(InspectTask::Inspect { path, known, was, rehash, body });
                }
                Action::Walk { walk, below } => self.walker.begin(walk, below),
                Action::CheckRoot => tasks.push(InspectTask::CheckRoot),
                Action::ReadIgnore => tasks.push(InspectTask::ReadIgnore),
                Action::Install(job) => jobs.push(job),
                Action::KeepBase { path, entry, stat } => self.bases.keep(path, entry, stat),
                Action::FindLoser { path, winner, loser } => self.history.find_loser(path, winner, loser),
                Action::Merge { path, ours, kept, theirs, stat } => self.bases.merge(path, ours, kept, theirs, stat),
                Action::Scrub { path, known, pace } => self.scrubber.hash(path, known, pace),
                Action::SetPace(pace) => self.scrubber.set_pace(pace),
                Action::KeepSuspect { path, stat } => self.scrubber.keep(path, stat),
                Action::OpenPartial { fetch, content, size } => {
                    opening.push(PartialTask::Open { fetch, content, size });
                }
                Action::FinishPartial { fetch, content } => opening.push(PartialTask::Finish { fetch, content }),
                Action::ClosePartial { content, keep } => opening.push(PartialTask::Close { content, keep }),
                Action::ListPast { to, id, path, named } => self.history.ask(to, id, path, named),
                Action::FindKept(sought) => self.history.seek(sought),
                Action::LocateKept(sought) => self.history.locate(sought),
                Action::DropKept { kept, was, content, path, stat } => {
                    self.history.drop_spare(kept, was, content, path, stat);
                }
                Action::Discard(staged) => self.stage.discard(staged),
                other => others.push(other),
            }
        }
        // Together, so that a thread is woken once and finds all of them.
        self.inspections.queue(tasks);
        self.applier.queue(jobs);
        for task in opening {
            let _ = self.opening.send(task);
        }
        others
    }

    /// Much that nobody has inspected is to be found: the disk begins to write now what is still to
    /// be written of it.
    pub fn expect_many(&self) {
        self.inspections.expect_many();
    }

    /// Contents that come in chunks.
    pub fn partials(&self) -> Arc<Partials> {
        Arc::clone(&self.partials)
    }

    /// The lists of chunks of what was inspected, and of what came in chunks.
    pub fn lists(&self) -> Arc<ChunkLists> {
        Arc::clone(&self.lists)
    }

    /// What walks do not enter.
    pub fn set_ignore(&self, ignored: Ignored) {
        self.walker.set_ignored(ignored);
    }

    /// What programs send.
    pub fn uploads(&self) -> &Arc<Uploads> {
        &self.uploads
    }

    /// Where the network puts contents.
    pub fn stage(&self) -> Arc<Stage> {
        Arc::clone(&self.stage)
    }

    /// What makes and applies deltas.
    pub fn deltas(&self) -> Arc<Deltas> {
        Arc::clone(&self.deltas)
    }

    /// How much is synced (bytes): decides how many signatures are kept.
    pub fn set_synced(&self, bytes: u64) {
        if let Some(signatures) = &self.signatures {
            signatures.set_synced(bytes);
        }
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// How many folders are watched, and whether all are.
    pub fn watched(&self) -> (usize, bool) {
        (self.watcher.count(), !self.watcher.is_partial())
    }

    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// Finishes the installs under way, drops what is only queued, and waits for the threads: at
    /// most 5 s.
    pub fn shutdown(&self) {
        self.watcher.stop();
        self.walker.stop();
        self.inspections.stop();
        self.applier.stop();
        self.history.stop();
        self.bases.stop();
        self.scrubber.stop();
        let _ = self.opening.send(PartialTask::Stop);
        self.timer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = Instant::now() + SHUTDOWN;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk did not answer within 5 s; stopping without waiting for it");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Hashing what an earlier try left takes its time.
enum PartialTask {
    Open { fetch: FetchId, content: ContentId, size: u64 },
    Finish { fetch: FetchId, content: ContentId },
    Close { content: ContentId, keep: bool },
    Stop,
}

/// The thread: makes place for contents that come in chunks.
fn open_partials(partials: &Partials, lists: &ChunkLists, openings: &mpsc::Receiver<PartialTask>, events: &Events) {
    for opening in openings {
        let event = match opening {
            PartialTask::Open { fetch, content, size } => match partials.open(content, size) {
                Ok(partial) => {
                    let (here, listed) = partial.here();
                    Event::PartialOpened { fetch, here, listed }
                }
                Err(trouble) => Event::FetchFailed { fetch, why: FetchError::Staging(trouble) },
            },
            PartialTask::Finish { fetch, content } => match partials.finish(&content) {
                Ok(staged) => {
                    if let Some(list) = partials.get(&content).and_then(|partial| partial.hashes()) {
                        lists.keep(content, Arc::new(list));
                    }
                    Event::Fetched { fetch, staged, wire_bytes: 0 }
                }
                Err(StageError::BadContent) => Event::FetchFailed { fetch, why: FetchError::Corrupt },
                Err(StageError::Disk(trouble)) => Event::FetchFailed { fetch, why: FetchError::Staging(trouble) },
            },
            PartialTask::Close { content, keep } => {
                partials.close(&content, keep);
                continue;
            }
            PartialTask::Stop => return,
        };
        events.send(event);
    }
}

/// A thread that holds `alive` for as long as it runs.
fn spawn(name: &str, alive: mpsc::Sender<()>, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let body = move || {
        let (_alive, _never) = (alive, Indispensable);
        work();
    };
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

/// While some folder has no watch, everything is walked from time to time.
fn walk_unwatched(watcher: &Watcher, events: &Events, ended: &mpsc::Receiver<()>, every: Duration) {
    while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        if watcher.is_partial() {
            events.send(Event::Overflow);
        }
    }
}
