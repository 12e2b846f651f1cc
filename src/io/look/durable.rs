//! What one `syncfs` makes durable, for all that wait for one, and what the last one has made so already.
//!
//! Whoever has seen the stat of something asks for a `syncfs` that begins after that, and goes on: it hashes that, and then the
//! next, while the disk writes. Hashed things wait here until theirs has ended. May import nothing of `engine`. Deliberately
//! not here: the call itself, and who is told.

use super::Fresh;
use crate::io::clock::wall_ns;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The kernel stamps changes with a clock that ticks at least this often (ns).
pub(super) const TICK_NS: i128 = 20_000_000;
/// Some file systems keep whole seconds, or every second one (ns).
pub(super) const COARSE_TICK_NS: i128 = 2_000_000_000;
/// So many that are hashed may wait; who hashes waits then, too.
const WAITING: usize = 4096;

/// Both clocks at once (ns): how far apart they are tells whether someone set the one that stamps files.
#[derive(Clone, Copy)]
struct Moment {
    wall: i128,
    mono: Instant,
}

impl Moment {
    fn now() -> Self {
        Self { wall: i128::from(wall_ns()), mono: Instant::now() }
    }

    fn is_of_the_same_clock(&self, later: &Self) -> bool {
        let mono = later.mono.duration_since(self.mono).as_nanos() as i128;
        (later.wall - self.wall - mono).abs() < TICK_NS / 2
    }
}

/// A batch's turn, in the order in which batches were taken.
#[derive(Clone, Copy)]
pub(super) struct Ticket(u64);

/// Which `syncfs` something waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SyncNumber(u64);

/// What was hashed together (`T` each), and waits for the same `syncfs`.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub asked: SyncNumber,
    pub items: Vec<T>,
    pub has_folder: bool,
}

/// A batch whose `syncfs` has ended.
#[derive(Debug)]
pub(super) struct Ended<T> {
    pub items: Vec<T>,
    pub has_folder: bool,
    pub synced: rustix::io::Result<()>,
}

/// A file in a folder that was renamed in has no new ctime of its own, but its folder has: so a batch is judged by what
/// the last `syncfs` has made durable only after those taken before it, and not at all while a new folder of theirs or of its
/// own is still to be made durable.
pub(super) struct Durable<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// When the last successful one began.
    began: Option<Moment>,
    next: u64,
    unsorted: BTreeSet<u64>,
    batches_with_folders: usize,
    /// Each `syncfs` has a number, from 1: the last one that is wanted, that has begun, that has ended.
    asked: u64,
    begun: u64,
    ended: u64,
    /// The first one that failed: what it lost looks clean to later ones.
    failed: Option<(u64, Errno)>,
    waiting: Vec<Batch<T>>,
    is_stopping: bool,
}

impl<T> Default for Durable<T> {
    fn default() -> Self {
        let state = State {
            began: None,
            next: 0,
            unsorted: BTreeSet::new(),
            batches_with_folders: 0,
            asked: 0,
            begun: 0,
            ended: 0,
            failed: None,
            waiting: Vec::new(),
            is_stopping: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Durable<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called in the order of the batches.
    pub fn ticket(&self) -> Ticket {
        let mut state = self.lock();
        state.next += 1;
        let ticket = state.next;
        state.unsorted.insert(ticket);
        Ticket(ticket)
    }

    /// Those that are durable, and those that are still to be made so.
    pub fn sort(&self, ticket: Ticket, fresh: Vec<Fresh>) -> (Vec<Fresh>, Vec<Fresh>) {
        let mut state = self.lock();
        while state.unsorted.first().is_some_and(|first| *first < ticket.0) {
            state = self.wait(state);
        }
        let now = Moment::now();
        let began = state.began.filter(|began| began.is_of_the_same_clock(&now)).map(|began| began.wall);
        let is_durable = |found: &Fresh| began.is_some_and(|began| found.changed_ns().is_some_and(|at| at < began));
        let (mut durable, mut rest): (Vec<_>, Vec<_>) = fresh.into_iter().partition(is_durable);
        if state.batches_with_folders > 0 || rest.iter().any(Fresh::is_folder) {
            rest.append(&mut durable);
        }
        state.batches_with_folders += usize::from(rest.iter().any(Fresh::is_folder));
        state.unsorted.remove(&ticket.0);
        self.changed.notify_all();
        (durable, rest)
    }

    /// A batch with a folder was told.
    pub fn folders_told(&self) {
        self.lock().batches_with_folders -= 1;
    }

    /// `false` since a `syncfs` has failed: no later one proves anything.
    pub fn is_trusted(&self) -> bool {
        self.lock().failed.is_none()
    }

    /// A `syncfs` that begins after now.
    pub fn ask(&self) -> SyncNumber {
        let mut state = self.lock();
        state.asked = state.begun + 1;
        self.changed.notify_all();
        SyncNumber(state.asked)
    }

    /// Keeps what is hashed until its `syncfs` has ended. Gives it back, and whether it was made durable, if that is so already.
    pub fn keep(&self, batch: Batch<T>) -> Option<Ended<T>> {
        let mut state = self.lock();
        if state.ended >= batch.asked.0 {
            return Some(state.ended(batch));
        }
        state.waiting.push(batch);
        None
    }

    /// Waits while much waits here.
    pub fn wait_for_room(&self) {
        let mut state = self.lock();
        while !state.is_stopping && state.waiting.iter().map(|batch| batch.items.len()).sum::<usize>() >= WAITING {
            state = self.wait(state);
        }
    }

    /// For the thread that syncs: makes the calls that are asked for, one after the other, and gives what has waited for
    /// each to `tell`. Returns at the stop.
    pub fn run(&self, sync: impl Fn() -> rustix::io::Result<()>, tell: impl Fn(Ended<T>)) {
        while let Some(began) = self.begin() {
            let synced = sync();
            self.end(began, synced).into_iter().for_each(&tell);
        }
    }

    /// Waits until one is wanted.
    fn begin(&self) -> Option<Moment> {
        let mut state = self.lock();
        while !state.is_stopping && state.asked <= state.begun {
            state = self.wait(state);
        }
        state.begun += 1;
        (!state.is_stopping).then(Moment::now)
    }

    fn end(&self, began: Moment, synced: rustix::io::Result<()>) -> Vec<Ended<T>> {
        let mut state = self.lock();
        state.ended = state.begun;
        if let (Err(e), None) = (synced, state.failed) {
            state.failed = Some((state.ended, e));
        }
        state.began = state.failed.is_none().then_some(began);
        self.changed.notify_all();
        let (ended, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|batch| batch.asked.0 <= state.ended);
        state.waiting = waiting;
        ended.into_iter().map(|batch| state.ended(batch)).collect()
    }

    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
    }
}

impl<T> State<T> {
    /// Of a batch whose `syncfs` has ended.
    fn ended(&self, batch: Batch<T>) -> Ended<T> {
        let failed = self.failed.filter(|(failed, _)| batch.asked.0 >= *failed);
        Ended { items: batch.items, has_folder: batch.has_folder, synced: failed.map_or(Ok(()), |(_, e)| Err(e)) }
    }
}
