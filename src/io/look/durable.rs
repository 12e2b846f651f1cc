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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn batch(asked: SyncNumber, item: u32) -> Batch<u32> {
        Batch { asked, items: vec![item], has_folder: false }
    }

    /// The calls end when the test says so, and how; what is told comes back, with whether it is durable.
    fn with_disk(
        test: impl FnOnce(&Durable<u32>, &mpsc::Receiver<()>, &mpsc::Sender<bool>, &mpsc::Receiver<(u32, bool)>),
    ) {
        let durable = Durable::default();
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let durable = &durable;
            scope.spawn(move || {
                let sync = || {
                    begun.send(()).unwrap();
                    if ends.recv().unwrap_or(true) { Ok(()) } else { Err(Errno::IO) }
                };
                durable.run(sync, |ended| tell.send((ended.items[0], ended.synced.is_ok())).unwrap());
            });
            test(durable, &begins, &end, &told);
            durable.stop();
        });
    }

    #[test]
    fn what_is_seen_during_a_sync_waits_for_the_next_one() {
        with_disk(|durable, begins, end, told| {
            let first = durable.ask();
            begins.recv().unwrap();
            let second = durable.ask();
            assert!(first < second);
            assert!(durable.keep(batch(second, 2)).is_none() && durable.keep(batch(first, 1)).is_none());
            end.send(true).unwrap();
            assert_eq!(told.recv(), Ok((1, true)));
            begins.recv().unwrap();
            assert!(told.try_recv().is_err(), "the second has only begun");
            end.send(true).unwrap();
            assert_eq!(told.recv(), Ok((2, true)));
            let late = durable.keep(batch(second, 3)).expect("its sync has ended");
            assert_eq!((late.items, late.synced), (vec![3], Ok(())));
        });
    }

    /// What was lost is called clean by every later one.
    #[test]
    fn after_a_failure_no_sync_makes_anything_durable() {
        with_disk(|durable, begins, end, told| {
            let sync = |is_well: bool, item: u32| {
                let asked = durable.ask();
                begins.recv().unwrap();
                assert!(durable.keep(batch(asked, item)).is_none());
                end.send(is_well).unwrap();
                (asked, told.recv().unwrap())
            };
            let (well, first) = sync(true, 1);
            assert_eq!((first, durable.is_trusted()), ((1, true), true));
            assert_eq!(sync(false, 2).1, (2, false));
            assert!(!durable.is_trusted());
            assert_eq!(sync(true, 3).1, (3, false));
            assert_eq!(durable.keep(batch(well, 4)).unwrap().synced, Ok(()), "that was before");
        });
    }

    #[test]
    fn who_finds_too_much_waits_for_the_disk_or_the_end() {
        let durable = Durable::default();
        let asked = durable.ask();
        durable.keep(Batch { asked, items: vec![0; WAITING], has_folder: false });
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| durable.wait_for_room());
            let began = durable.begin().unwrap();
            assert!(!waiter.is_finished());
            assert_eq!(durable.end(began, Ok(())).len(), 1);
            waiter.join().unwrap();
            durable.keep(Batch { asked: durable.ask(), items: vec![0; WAITING], has_folder: false });
            let waiter = scope.spawn(|| durable.wait_for_room());
            durable.stop();
            waiter.join().unwrap();
        });
    }
}
