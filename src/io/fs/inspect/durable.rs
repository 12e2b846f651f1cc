//! What one `syncfs` makes durable, for all that wait for one, and what the last one has made so
//! already.
//!
//! Whoever has seen the stat of something asks for a `syncfs` that begins after that, and goes on:
//! it hashes that, and then the next, while the disk writes. Hashed things wait here until theirs
//! has ended. May import nothing of `engine`. Deliberately not here: the call itself, and who is
//! told.

use super::Fresh;
use crate::io::clock::wall_ns;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The kernel stamps changes with a clock that ticks at least this often (ns).
pub(super) const TICK_NS: i128 = 20_000_000;
/// Some file systems keep whole seconds, or every second one (ns).
pub(super) const COARSE_TICK_NS: i128 = 2_000_000_000;
/// When so many that are hashed wait, no more are taken but a few at a time.
const WAITING: usize = 16_384;

/// Both clocks at once (ns): how far apart they are tells whether someone set the one that stamps
/// files.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What is to be done with a batch.
pub(super) struct Sorted {
    /// It is durable.
    pub durable: Vec<Fresh>,
    pub rest: Vec<Fresh>,
    /// Which `syncfs` the rest waits for; `None`: each is to be made durable by itself.
    pub asked: Option<SyncNumber>,
    /// Folders that were taken before are not told yet, and wait for this.
    pub behind: Option<SyncNumber>,
}

/// Which `syncfs` something waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SyncNumber(u64);

impl SyncNumber {
    /// What waits for none: it is durable already.
    pub const NONE: Self = Self(0);
}

/// What was hashed together (`T` each), and waits for the same `syncfs`. Nothing of it is told
/// before the folders that were taken before it, or with it: what is in a folder that nobody has
/// heard of would make one, with permissions that nobody chose.
#[derive(Debug)]
pub(super) struct WaitingBatch<T> {
    pub ticket: Ticket,
    pub asked: SyncNumber,
    pub items: Vec<T>,
    pub are_folders: bool,
}

/// What waited, and now may be told.
#[derive(Debug)]
pub(super) struct SyncedBatch<T> {
    pub ticket: Ticket,
    pub items: Vec<T>,
    pub are_folders: bool,
    pub synced: rustix::io::Result<()>,
}

/// A file in a folder that was renamed in has no new ctime of its own, but its folder has: so a
/// batch is judged by what the last `syncfs` has made durable only after those taken before it, and
/// not at all while a new folder of theirs or of its own is still to be made durable.
pub(super) struct Durable<T> {
    state: Mutex<SyncState<T>>,
    changed: Condvar,
}

struct SyncState<T> {
    /// When the last successful one began.
    began: Option<Moment>,
    next: u64,
    unsorted: BTreeSet<u64>,
    /// Batches with folders that are not told yet, and what they wait for.
    folders: BTreeMap<u64, SyncNumber>,
    /// When the one under way began.
    running: Option<Moment>,
    /// Each `syncfs` has a number, from 1: the last one that is wanted, that has begun, that has
    /// ended.
    asked: u64,
    begun: u64,
    ended: u64,
    /// The first one that failed: what it lost looks clean to later ones.
    failed: Option<(u64, Errno)>,
    waiting: Vec<WaitingBatch<T>>,
    is_stopping: bool,
}

impl<T> Default for Durable<T> {
    fn default() -> Self {
        let state = SyncState {
            began: None,
            next: 0,
            unsorted: BTreeSet::new(),
            folders: BTreeMap::new(),
            running: None,
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
    fn lock(&self) -> MutexGuard<'_, SyncState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, SyncState<T>>) -> MutexGuard<'a, SyncState<T>> {
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

    /// Tells what is durable from what is still to be made so: up to `few` by themselves, more by
    /// one `syncfs`.
    pub fn sort(&self, ticket: Ticket, fresh: Vec<Fresh>, few: usize) -> Sorted {
        let mut state = self.lock();
        while state.unsorted.first().is_some_and(|first| *first < ticket.0) {
            state = self.wait(state);
        }
        let now = Moment::now();
        let is_before = |began: Option<Moment>| {
            let began = began.filter(|began| began.is_of_the_same_clock(&now)).map(|began| began.wall);
            move |found: &Fresh| began.is_some_and(|began| found.changed_ns().is_some_and(|at| at < began))
        };
        let (mut durable, mut rest): (Vec<_>, Vec<_>) = fresh.into_iter().partition(is_before(state.began));
        let behind = state.folders.values().max().copied();
        if behind.is_some() || rest.iter().any(Fresh::is_folder) {
            rest.append(&mut durable);
        }
        let is_many = rest.len() > few && state.failed.is_none();
        // What waits for a folder's anyway.
        let waits = state.failed.is_none() && behind.is_some_and(|behind| behind > SyncNumber::NONE);
        let asked = if (is_many || waits) && rest.iter().all(is_before(state.running)) {
            // Nothing has changed since the one under way began.
            Some(SyncNumber(state.begun))
        } else {
            is_many.then(|| state.ask())
        };
        let asked = asked.map(|asked| asked.max(behind.unwrap_or(SyncNumber::NONE)));
        if rest.iter().chain(&durable).any(Fresh::is_folder) {
            state.folders.insert(ticket.0, asked.or(behind).unwrap_or(SyncNumber::NONE));
        }
        // Of what is told one by one, folders come first: there is nothing to hash about them.
        for fresh in [&mut durable, &mut rest] {
            fresh.sort_by_key(|found| !found.is_folder());
        }
        state.unsorted.remove(&ticket.0);
        self.changed.notify_all();
        Sorted { durable, rest, asked, behind }
    }

    /// The folders of a batch were told: gives what waited for that alone.
    pub fn folders_reported(&self, ticket: Ticket) -> Vec<SyncedBatch<T>> {
        let mut state = self.lock();
        state.folders.remove(&ticket.0);
        self.take_ended(&mut state)
    }

    /// A `syncfs` that begins after now.
    pub fn ask(&self) -> SyncNumber {
        let asked = self.lock().ask();
        self.changed.notify_all();
        asked
    }

    /// Keeps what is hashed until it may be told. Gives what may be told now.
    pub fn keep(&self, waiting: WaitingBatch<T>) -> Vec<SyncedBatch<T>> {
        let mut state = self.lock();
        state.waiting.push(waiting);
        self.take_ended(&mut state)
    }

    /// Whether more may wait here.
    pub fn has_room(&self) -> bool {
        self.lock().waiting.iter().map(|waiting| waiting.items.len()).sum::<usize>() < WAITING
    }

    fn take_ended(&self, state: &mut SyncState<T>) -> Vec<SyncedBatch<T>> {
        let may_be_reported = |waiting: &WaitingBatch<T>| {
            let before = if waiting.are_folders { waiting.ticket.0 } else { waiting.ticket.0 + 1 };
            waiting.asked.0 <= state.ended && state.folders.range(..before).next().is_none()
        };
        let (reported, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(may_be_reported);
        state.waiting = waiting;
        self.changed.notify_all();
        reported.into_iter().map(|reported| state.ended(reported)).collect()
    }

    /// For the thread that syncs: makes the calls that are asked for, one after the other, and
    /// gives what has waited for each to `tell`. Returns at the stop.
    pub fn run(&self, sync: impl Fn() -> rustix::io::Result<()>, report: impl Fn(SyncedBatch<T>)) {
        while let Some(began) = self.begin() {
            let synced = sync();
            self.end(began, synced).into_iter().for_each(&report);
        }
    }

    /// Waits until one is wanted.
    fn begin(&self) -> Option<Moment> {
        let mut state = self.lock();
        while !state.is_stopping && state.asked <= state.begun {
            state = self.wait(state);
        }
        state.begun += 1;
        state.running = (!state.is_stopping).then(Moment::now);
        state.running
    }

    fn end(&self, began: Moment, synced: rustix::io::Result<()>) -> Vec<SyncedBatch<T>> {
        let mut state = self.lock();
        state.ended = state.begun;
        state.running = None;
        if let (Err(e), None) = (synced, state.failed) {
            state.failed = Some((state.ended, e));
        }
        state.began = state.failed.is_none().then_some(began);
        self.take_ended(&mut state)
    }

    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
    }
}

impl<T> SyncState<T> {
    fn ask(&mut self) -> SyncNumber {
        self.asked = self.begun + 1;
        SyncNumber(self.asked)
    }

    /// Of what waited for a `syncfs` that has ended.
    fn ended(&self, waiting: WaitingBatch<T>) -> SyncedBatch<T> {
        let WaitingBatch { ticket, asked, items, are_folders } = waiting;
        let failed = self.failed.filter(|(failed, _)| asked.0 >= *failed);
        SyncedBatch { ticket, items, are_folders, synced: failed.map_or(Ok(()), |(_, e)| Err(e)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Stat, StatKind};
    use crate::io::fs::beneath::Facts;
    use crate::model::{FileTime, Mode, SyncPath};
    use std::sync::mpsc;

    fn waiting(asked: SyncNumber, item: u32) -> WaitingBatch<u32> {
        WaitingBatch { ticket: Ticket(1), asked, items: vec![item], are_folders: false }
    }

    fn items(ended: &[SyncedBatch<u32>]) -> Vec<u32> {
        ended.iter().flat_map(|ended| ended.items.clone()).collect()
    }

    /// The calls end when the test says so, and how; what is told comes back, with whether it is
    /// durable.
    fn with_disk(
        test: impl FnOnce(&Durable<u32>, &mpsc::Receiver<()>, &mpsc::Sender<bool>, &mpsc::Receiver<(u32, bool)>),
    ) {
        let durable = Durable::default();
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let (report, reported) = mpsc::channel();
        std::thread::scope(|scope| {
            let durable = &durable;
            scope.spawn(move || {
                let sync = || {
                    begun.send(()).unwrap();
                    if ends.recv().unwrap_or(true) { Ok(()) } else { Err(Errno::IO) }
                };
                durable.run(sync, |ended| report.send((ended.items[0], ended.synced.is_ok())).unwrap());
            });
            test(durable, &begins, &end, &reported);
            durable.stop();
        });
    }

    #[test]
    fn what_is_seen_during_a_sync_waits_for_the_next_one() {
        with_disk(|durable, begins, end, reported| {
            let first = durable.ask();
            begins.recv().unwrap();
            let second = durable.ask();
            assert!(first < second);
            assert!(durable.keep(waiting(second, 2)).is_empty() && durable.keep(waiting(first, 1)).is_empty());
            end.send(true).unwrap();
            assert_eq!(reported.recv(), Ok((1, true)));
            begins.recv().unwrap();
            assert!(reported.try_recv().is_err(), "the second has only begun");
            end.send(true).unwrap();
            assert_eq!(reported.recv(), Ok((2, true)));
            assert_eq!(items(&durable.keep(waiting(second, 3))), [3], "its sync has ended");
        });
    }

    /// What was lost is called clean by every later one.
    #[test]
    fn after_a_failure_no_sync_makes_anything_durable() {
        with_disk(|durable, begins, end, reported| {
            let sync = |is_well: bool, item: u32| {
                let asked = durable.ask();
                begins.recv().unwrap();
                assert!(durable.keep(waiting(asked, item)).is_empty());
                end.send(is_well).unwrap();
                (asked, reported.recv().unwrap())
            };
            let (well, first) = sync(true, 1);
            assert_eq!(first, (1, true));
            assert_eq!(sync(false, 2).1, (2, false));
            let sorted = durable.sort(durable.ticket(), vec![fresh("f", StatKind::File, LATER)], 0);
            assert_eq!(sorted.asked, None, "each by itself");
            assert_eq!(sync(true, 3).1, (3, false));
            assert_eq!(durable.keep(waiting(well, 4))[0].synced, Ok(()), "that was before");
        });
    }

    /// Else the folder would be made by whoever hears of what is in it, with permissions that
    /// nobody chose.
    #[test]
    fn nothing_is_told_before_a_folder_that_was_taken_before_it() {
        let durable: Durable<u32> = Durable::default();
        let [first, second] = [durable.ticket(), durable.ticket()];
        durable.lock().folders.extend([first.0, second.0].map(|ticket| (ticket, SyncNumber::NONE)));
        let asked = durable.ask();
        let keep = |ticket, item, are_folders| {
            items(&durable.keep(WaitingBatch { ticket, asked, items: vec![item], are_folders }))
        };
        let began = durable.begin().unwrap();
        let none: [u32; 0] = [];
        assert_eq!(keep(second, 4, false), none);
        assert_eq!(items(&durable.end(began, Ok(()))), none, "the folders are still being looked at");
        assert_eq!(keep(second, 3, true), none);
        assert_eq!(keep(first, 2, false), none, "they are in the folders of their own batch");
        assert_eq!(keep(first, 1, true), [1]);
        assert_eq!(items(&durable.folders_reported(first)), [3, 2]);
        assert_eq!(items(&durable.folders_reported(second)), [4]);
    }

    const EARLY: FileTime = FileTime { secs: 1, nanos: 1 };
    const LATER: FileTime = FileTime { secs: i64::MAX / (2 << 30), nanos: 1 };

    fn fresh(name: &str, kind: StatKind, changed: FileTime) -> Fresh {
        let stat = Stat { kind, size: 0, mtime: changed, ctime: changed, ino: 1, mode: Mode(0o700) };
        let facts = Facts { stat, uid: 0, gid: 0, links: 1, device: (0, 0), mount: false, raw_mode: 0, used_bytes: 0 };
        let path = SyncPath::new(name).unwrap();
        Fresh {
            path,
            facts: Some(facts),
            folder_changed: Some(changed),
            known: None,
            was: None,
            body: false,
            file: None,
        }
    }

    #[test]
    fn a_folder_that_counts_as_durable_is_first_and_holds_what_comes_after_it_while_it_waits_for_another() {
        let durable: Durable<u32> = Durable::default();
        let (old, now) = (EARLY, LATER);
        let tickets = [(); 5].map(|()| durable.ticket());
        durable.ask();
        let began = durable.begin().unwrap();
        durable.end(began, Ok(()));
        let sorted =
            durable.sort(tickets[0], vec![fresh("f", StatKind::File, old), fresh("d", StatKind::Directory, old)], 2);
        assert_eq!((sorted.durable[0].path.to_text(), sorted.rest.len()), ("d".to_owned(), 0));
        let sorted = durable.sort(tickets[1], vec![fresh("d/f", StatKind::File, old)], 2);
        assert_eq!((sorted.durable.len(), sorted.behind), (0, Some(SyncNumber::NONE)), "'d' is not told yet");
        assert!(durable.folders_reported(tickets[0]).is_empty());
        durable.sort(tickets[2], vec![fresh("new", StatKind::Directory, now)], 2);
        let sorted = durable.sort(tickets[3], vec![fresh("old", StatKind::Directory, old)], 2);
        assert_eq!((sorted.durable.len(), sorted.behind), (0, Some(SyncNumber::NONE)));
        assert!(durable.folders_reported(tickets[2]).is_empty());
        let sorted = durable.sort(tickets[4], vec![fresh("old/f", StatKind::File, old)], 2);
        assert!(sorted.behind.is_some() && sorted.durable.is_empty(), "'old' is not told yet");
    }

    /// On XFS exchanging two names changes no file's ctime.
    #[test]
    fn a_file_whose_folder_has_changed_since_is_not_durable_by_its_own_age() {
        let durable: Durable<u32> = Durable::default();
        let (old, now) = (EARLY, LATER);
        durable.ask();
        let began = durable.begin().unwrap();
        durable.end(began, Ok(()));
        let exchanged = Fresh { folder_changed: Some(now), ..fresh("f", StatKind::File, old) };
        let unknown = Fresh { folder_changed: None, ..fresh("g", StatKind::File, old) };
        let sorted = durable.sort(durable.ticket(), vec![exchanged, unknown, fresh("h", StatKind::File, old)], 2);
        assert_eq!((sorted.durable.len(), sorted.rest.len()), (1, 2));
    }

    #[test]
    fn what_has_not_changed_since_a_sync_began_waits_for_that_one_and_never_for_less_than_its_folder() {
        let durable: Durable<u32> = Durable::default();
        let tickets = [(); 5].map(|()| durable.ticket());
        let file = |name, changed| fresh(name, StatKind::File, changed);
        let many = |changed| vec![file("f", changed), file("g", changed), file("h", changed)];
        durable.ask();
        let began = durable.begin().unwrap();
        assert_eq!(durable.sort(tickets[0], many(EARLY), 2).asked, Some(SyncNumber(1)), "it is under way");
        assert_eq!(durable.sort(tickets[1], vec![file("f", EARLY)], 2).asked, None, "a few wait for no other's bytes");
        let folder = durable.sort(
            tickets[2],
            vec![fresh("d", StatKind::Directory, LATER), file("f", LATER), file("g", EARLY)],
            2,
        );
        assert_eq!(folder.asked, Some(SyncNumber(2)), "they changed since");
        let inside = durable.sort(tickets[3], many(EARLY), 2);
        assert_eq!(
            (inside.asked, inside.behind),
            (Some(SyncNumber(2)), Some(SyncNumber(2))),
            "its folder is moved in, maybe"
        );
        assert_eq!(durable.sort(tickets[4], vec![file("f", EARLY)], 2).asked, Some(SyncNumber(2)));
        durable.end(began, Ok(()));
        durable.begin().unwrap();
    }

    #[test]
    fn there_is_an_end_of_what_may_wait() {
        let durable = Durable::default();
        let asked = durable.ask();
        assert!(durable.has_room());
        durable.keep(WaitingBatch { items: vec![0; WAITING], ..waiting(asked, 0) });
        assert!(!durable.has_room());
        let began = durable.begin().unwrap();
        assert_eq!(durable.end(began, Ok(())).len(), 1);
        assert!(durable.has_room());
    }
}
