//! Hashing files once more, slowly, from the disk itself; and copying to history what was found
//! suspect.
//!
//! One thread of low priority. What is cached of a file is dropped before it is read: else the
//! memory would be verified and not the disk; and after it, so that a scrub pushes nobody's files
//! out of memory. May import `engine`'s values and `model`. Deliberately not here: what to read
//! when, and what a difference means (`engine::scrub`).

use crate::engine::{Event, Pace, RetainReason, Scrubbed, Stat};
use crate::io::Events;
use crate::io::fs::beneath;
use crate::io::fs::history::History;
use crate::io::fs::inspect::InspectQueue;
use crate::io::fs::root::Root;
use crate::io::fs::staging;
use crate::io::fs::trouble::{errno, trouble};
use crate::model::{ContentId, SyncPath};
use rustix::fs::{Advice, AtFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Read, and paid for, at a time.
const BUFFER_BYTES: usize = 256 * 1024;
/// How often it is seen whether other work is over.
const YIELD: Duration = Duration::from_millis(100);
/// What was not read in a second is not made good for later.
const BURST: Duration = Duration::from_secs(1);
const NICENESS: i32 = 15;

enum ScrubTask {
    Hash { path: SyncPath, known: Stat, pace: Pace },
    Retain { path: SyncPath, stat: Stat },
}

/// The queue, and the thread's work.
pub struct Scrubber {
    root: Arc<Root>,
    inspections: Arc<InspectQueue>,
    history: Arc<History>,
    events: Events,
    queue: Mutex<ScrubQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct ScrubQueue {
    tasks: VecDeque<ScrubTask>,
    /// Of the file that is being read, since that began.
    new_pace: Option<Pace>,
    is_stopping: bool,
}

/// Why a file was not hashed.
enum NotHashed {
    Moved,
    Error(Errno),
    Stopping,
}

impl From<Errno> for NotHashed {
    fn from(e: Errno) -> Self {
        if beneath::is_no_parent(e) { Self::Moved } else { Self::Error(e) }
    }
}

impl Scrubber {
    pub fn new(root: Arc<Root>, inspections: Arc<InspectQueue>, history: Arc<History>, events: Events) -> Self {
        Self { root, inspections, history, events, queue: Mutex::default(), changed: Condvar::new() }
    }

    pub fn hash(&self, path: SyncPath, known: Stat, pace: Pace) {
        self.push(ScrubTask::Hash { path, known, pace });
    }

    /// Also of the file that is being read.
    pub fn set_pace(&self, pace: Pace) {
        let mut queue = self.lock();
        for task in &mut queue.tasks {
            if let ScrubTask::Hash { pace: old, .. } = task {
                *old = pace;
            }
        }
        queue.new_pace = Some(pace);
        self.changed.notify_all();
    }

    pub fn keep(&self, path: SyncPath, stat: Stat) {
        self.push(ScrubTask::Retain { path, stat });
    }

    fn push(&self, task: ScrubTask) {
        self.lock().tasks.push_back(task);
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ScrubQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: works until it is stopped.
    pub fn run(&self) {
        // A thread's own, on Linux. Without it, it is no slower than the rest.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut paid_until = Instant::now();
        while let Some(task) = self.next() {
            match task {
                ScrubTask::Hash { path, known, pace } => {
                    let outcome = match self.read(&path, &known, pace, &mut paid_until, &mut buffer) {
                        Ok(content) => Scrubbed::Read(content),
                        Err(NotHashed::Moved) => Scrubbed::Moved,
                        Err(NotHashed::Error(Errno::IO)) => {
                            Scrubbed::Unreadable(trouble("read", Some(&path), Errno::IO))
                        }
                        Err(NotHashed::Error(e)) => Scrubbed::Failed(trouble("read", Some(&path), e)),
                        Err(NotHashed::Stopping) => return,
                    };
                    self.events.send(Event::Scrubbed { path, stat: known, outcome });
                }
                ScrubTask::Retain { path, stat } => {
                    if let Err(e) = self.copy_to_history(&path, &stat) {
                        tracing::warn!("'{path}' is suspect, and could not be copied to history: {e}");
                    }
                }
            }
        }
    }

    fn next(&self) -> Option<ScrubTask> {
        let mut queue = self.lock();
        loop {
            if queue.is_stopping {
                return None;
            }
            if let Some(task) = queue.tasks.pop_front() {
                queue.new_pace = None;
                return Some(task);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read(
        &self,
        path: &SyncPath,
        known: &Stat,
        mut pace: Pace,
        paid_until: &mut Instant,
        buffer: &mut [u8],
    ) -> Result<ContentId, NotHashed> {
        let (mut file, facts) = self.open(path)?.ok_or(NotHashed::Moved)?;
        if facts.stat != *known {
            return Err(NotHashed::Moved);
        }
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = known.size;
        // Opening a file is work, too.
        self.pay(4096, &mut pace, paid_until)?;
        while left > 0 {
            let part = (buffer.len() as u64).min(left) as usize;
            let read = file.read(&mut buffer[..part]).map_err(|e| NotHashed::Error(errno(&e)));
            let read = match read {
                Err(NotHashed::Error(Errno::INTR)) => continue,
                read => read?,
            };
            if read == 0 {
                return Err(NotHashed::Moved);
            }
            hasher.update(&buffer[..read]);
            left -= read as u64;
            self.pay(read as u64, &mut pace, paid_until)?;
        }
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        if beneath::facts(&file)?.stat != *known || self.root.facts(path)?.is_none_or(|facts| facts.stat != *known) {
            return Err(NotHashed::Moved);
        }
        Ok(ContentId(*hasher.finalize().as_bytes()))
    }

    fn open(&self, path: &SyncPath) -> rustix::io::Result<Option<(File, beneath::Facts)>> {
        let parent = beneath::folder(self.root.dir(), path.parent().as_ref())?;
        beneath::regular(&parent, path.name())
    }

    /// So many bytes were read: waits until they are paid for, and while there is other work, if it
    /// is to yield to that.
    fn pay(&self, bytes: u64, pace: &mut Pace, paid_until: &mut Instant) -> Result<(), NotHashed> {
        let cost = Duration::from_secs_f64(bytes as f64 / pace.bytes_a_second.max(1) as f64);
        let earliest = Instant::now().checked_sub(BURST).unwrap_or(*paid_until);
        *paid_until = (*paid_until).max(earliest) + cost;
        let mut queue = self.lock();
        loop {
            if queue.is_stopping {
                return Err(NotHashed::Stopping);
            }
            if let Some(new) = queue.new_pace.take() {
                (*pace, *paid_until) = (new, Instant::now());
            }
            let mut wait = paid_until.saturating_duration_since(Instant::now());
            if pace.yields && (!self.inspections.is_idle() || self.history.stage().is_bulk_under_way()) {
                wait = wait.max(YIELD);
            }
            if wait.is_zero() {
                return Ok(());
            }
            queue = self.changed.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// With its own mtime, so that it does not count as written after it came.
    fn copy_to_history(&self, path: &SyncPath, stat: &Stat) -> Result<(), String> {
        let stage = self.history.stage();
        stage.check_room().map_err(|trouble| trouble.text)?;
        let failed = |e: Errno| e.to_string();
        let Some((mut file, facts)) = self.open(path).map_err(failed)? else { return Ok(()) };
        if facts.stat != *stat {
            return Ok(());
        }
        let (id, mut copy) = stage.create_file().map_err(failed)?;
        let copied = std::io::copy(&mut file, &mut copy).map_err(|e| errno(&e)).and_then(|_| {
            let time = Timespec { tv_sec: stat.mtime.secs, tv_nsec: i64::from(stat.mtime.nanos) };
            rustix::fs::futimens(&copy, &Timestamps { last_access: time, last_modification: time })?;
            rustix::fs::fsync(&copy)?;
            let (kept, _) = self.history.reserve(RetainReason::Suspect, path, None)?;
            rustix::fs::renameat(self.root.staging(), staging::name(id), self.root.history(), kept.as_str())
                .inspect_err(|_| self.history.release(&kept))?;
            let used = beneath::facts(&copy).map_or(stat.size, |facts| facts.used_bytes);
            self.history.came_in(&kept, used);
            rustix::fs::fsync(self.root.history())
        });
        copied.map_err(|e| {
            let _ = rustix::fs::unlinkat(self.root.staging(), staging::name(id), AtFlags::empty());
            failed(e)
        })
    }
}
