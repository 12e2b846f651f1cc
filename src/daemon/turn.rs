//! The loop: await events, ask the engine, commit, then run its actions.
//!
//! One thread. The changes of a batch are durable before any of its actions runs (P5). May import
//! everything below. Deliberately not here: starting and stopping (`mod.rs`), decisions
//! (`engine/`).

use super::{RunEnd, limit, naming};
use crate::engine::api::ignore::Ignore;
use crate::engine::api::index::Index;
use crate::engine::{Action, Engine, Event, Now, Status};
use crate::io::Inbox;
use crate::io::clock::wall_ns;
use crate::io::control::Request;
use crate::io::fail::{self, Point};
use crate::io::journal::Journal;
use crate::io::store::index::{IndexError, SqliteIndex};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A batch ends after so many events, or so much time: what comes later gets a commit of its own.
/// Each commit writes every page that its rows touch and waits for the disk: many small ones cost
/// more than they hurry.
const BATCH_EVENTS: usize = 4096;
const BATCH_TIME: Duration = Duration::from_millis(60);

/// What runs the engine's actions; never blocks.
pub(super) trait Hands {
    fn run(&mut self, actions: Vec<Action>);
    /// The patterns have changed.
    fn set_ignore(&mut self, ignore: Ignore);
}

/// Both clocks.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: wall_ns(), mono: self.0.elapsed().as_nanos() as u64 }
    }
}

pub(super) struct Loop<H> {
    pub engine: Engine<SqliteIndex>,
    pub journal: Journal,
    pub hands: H,
    pub clock: Clock,
    pub events: Inbox,
    pub requests: Receiver<Request>,
    /// This run is to end, and a new one to begin: as a new device, or with a new name.
    pub ends: Option<RunEnd>,
    /// Who wants to hear that this machine may leave its group.
    pub leaves: Option<oneshot::Sender<Result<(), String>>>,
}

impl<H: Hands> Loop<H> {
    /// One batch: waits for an event, at the longest until `due` (by `Now::mono`), and does all
    /// that follows.
    pub(super) fn turn(&mut self, due: u64) -> Result<(), IndexError> {
        let mut actions = Vec::new();
        self.take_events(due, &mut actions);
        if self.engine.wake_at().is_some_and(|at| at <= self.clock.now().mono) {
            actions.extend(self.engine.handle(self.clock.now(), Event::Tick));
        }
        let mut questions = Vec::new();
        let mut done = Vec::new();
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Do { event, answer } => {
                    actions.extend(self.engine.handle(self.clock.now(), event));
                    done.push(answer);
                }
                Request::Rename { name, answer } => {
                    naming::keep(self.engine.index_mut(), &name);
                    let _: &mut RunEnd = self.ends.get_or_insert(RunEnd::Renamed);
                    done.push(answer);
                }
                Request::KeepLimit { rate, answer } => {
                    limit::keep(self.engine.index_mut(), rate);
                    done.push(answer);
                }
                Request::Leave(answer) => self.leaves = Some(answer),
                question => questions.push(question),
            }
        }
        self.events.set_installing(self.engine.installing_bytes());
        self.conclude(actions)?;
        let reads = |question: &Request| matches!(question, Request::Log { wanted, .. } if wanted.after == 0);
        if questions.iter().any(reads) {
            self.journal.settle(self.clock.now());
            self.conclude(Vec::new())?;
        }
        for answer in done {
            let _: Result<(), ()> = oneshot::Sender::send(answer, ());
        }
        for question in questions {
            self.answer(question);
        }
        Ok(())
    }

    /// Makes the batch durable, then acts on it.
    pub(super) fn conclude(&mut self, actions: Vec<Action>) -> Result<(), IndexError> {
        let now = self.clock.now();
        // One event may have a hundred thousand actions: what is left of them stays where it is.
        let mut rest = actions;
        rest.retain(|action| {
            match action {
                Action::Report(report) => self.journal.report(now, report),
                Action::NewDevice => self.ends = Some(RunEnd::Renewed),
                // The next start finds it in the index.
                Action::Rekey => drop(self.ends.get_or_insert(RunEnd::Rekeyed)),
                _ => return true,
            }
            false
        });
        self.journal.tick(now);
        self.journal.store(self.engine.index_mut());
        self.engine.index_mut().commit()?;
        self.journal.show(now, self.engine.index_mut().take_changes());
        if self.ends == Some(RunEnd::Rekeyed) {
            fail::after(Point::RotateDurable);
        }
        self.hands.run(rest);
        self.journal.say();
        Ok(())
    }

    fn take_events(&mut self, due: u64, actions: &mut Vec<Action>) {
        let due = [Some(due), self.engine.wake_at(), self.journal.wake_at()].into_iter().flatten().min().unwrap_or(due);
        let wait = Duration::from_nanos(due.saturating_sub(self.clock.now().mono));
        let mut next = self.events.recv_timeout(wait).ok();
        let began = Instant::now();
        let mut taken = 0;
        while let Some(event) = next {
            self.handle(event, actions);
            taken += 1;
            let full = taken == BATCH_EVENTS || began.elapsed() >= BATCH_TIME;
            next = if full { None } else { self.events.try_recv().ok() };
        }
    }

    fn handle(&mut self, event: Event, actions: &mut Vec<Action>) {
        let now = self.clock.now();
        match &event {
            Event::LinkUp { link, device, name, .. } => self.journal.link_up(now, *link, *device, name),
            Event::LinkDown { link } => self.journal.link_down(now, *link),
            // A machine that joins over two of its addresses is handed the secret twice.
            Event::Invited { device, name, .. } if !self.engine.lists(device) => self.journal.invited(now, name),
            _ => {}
        }
        let ignore_read = matches!(event, Event::IgnoreRead(_) | Event::IgnoreUnread(_));
        actions.extend(self.engine.handle(now, event));
        if ignore_read {
            // Before the walk that follows from it.
            self.hands.set_ignore(self.engine.ignore().clone());
        }
    }

    /// Whoever asked may have left; that is no error.
    fn answer(&mut self, question: Request) {
        match question {
            Request::Status(answer) => {
                let open_conflicts = self.engine.index().open_conflicts();
                drop(answer.send(Status { open_conflicts, ..self.engine.status() }));
            }
            Request::Counted(answer) => drop(answer.send(self.journal.counts().clone())),
            Request::Held { after, limit, answer } => drop(answer.send(self.engine.held_after(after.as_ref(), limit))),
            Request::Differing { paths, answer } => drop(answer.send(self.engine.differing(&paths))),
            Request::Holding { ticket, answer } => drop(answer.send(self.engine.take_holding(ticket))),
            Request::Undone { ticket, answer } => drop(answer.send(self.engine.take_undone(ticket))),
            Request::Verification(answer) => drop(answer.send(self.engine.verification())),
            Request::Row { path, answer } => drop(answer.send(self.engine.index().get(&path))),
            Request::RowsAt { paths, answer } => {
                drop(answer.send(paths.iter().map(|path| self.engine.index().get(path)).collect()));
            }
            Request::Needed { after, rows, answer } => drop(answer.send(self.engine.needed(after.as_ref(), rows))),
            Request::Problems { after, limit, answer } => {
                drop(answer.send(self.engine.problems(after.as_ref(), limit)));
            }
            Request::Why { path, is_dir, answer } => drop(answer.send(self.engine.why(&path, is_dir))),
            Request::Rows { dir, children, after, limit, answer } => {
                let read = if children { SqliteIndex::children } else { SqliteIndex::below };
                drop(answer.send(read(self.engine.index(), dir.as_ref(), after.as_ref(), limit)));
            }
            Request::Log { wanted, answer } => drop(answer.send(self.engine.index().journal(&wanted))),
            Request::Conflicts { wanted, answer } => drop(answer.send(self.engine.conflicts(&wanted))),
            Request::Pasts { ticket, answer } => drop(answer.send(self.engine.take_pasts(ticket))),
            Request::Fetched { ticket, answer } => drop(answer.send(self.engine.take_fetched(ticket))),
            Request::Meta { keys, answer } => {
                let value = |key: &&str| self.engine.index().meta(key);
                drop(answer.send(keys.iter().map(value).collect()));
            }
            Request::Rename { answer, .. } | Request::KeepLimit { answer, .. } | Request::Do { answer, .. } => {
                drop(answer);
            }
            Request::Leave(answer) => drop(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Config, OnConflict, RootState, Trust};
    use crate::io::Events;
    use crate::io::store::index::WantedLines;
    use crate::model::{Capability, DeviceId};
    use std::sync::mpsc;
    use tempfile::TempDir;

    #[derive(Default)]
    struct Recorder {
        actions: Vec<Action>,
        ignores: usize,
    }

    impl Hands for Recorder {
        fn run(&mut self, actions: Vec<Action>) {
            self.actions.extend(actions);
        }

        fn set_ignore(&mut self, _: Ignore) {
            self.ignores += 1;
        }
    }

    struct Bench {
        _home: TempDir,
        events: Events,
        requests: mpsc::Sender<Request>,
        turns: Loop<Recorder>,
    }

    fn bench() -> Bench {
        let home = TempDir::new().unwrap();
        let index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let config = Config { device: DeviceId([1; 32]), name: "alpha".into(), on_conflict: OnConflict::Newest };
        let (events, received) = Events::channel();
        let (requests, asked) = mpsc::channel();
        let turns = Loop {
            engine: Engine::new(config, index),
            journal: Journal::new(),
            hands: Recorder::default(),
            clock: Clock::start(),
            events: received,
            requests: asked,
            ends: None,
            leaves: None,
        };
        Bench { _home: home, events, requests, turns }
    }

    #[test]
    fn patterns_reach_the_walker_before_the_walk() {
        let mut bench = bench();
        let started = bench.turns.engine.start(bench.turns.clock.now(), Trust::Known);
        bench.turns.conclude(started).unwrap();
        assert!(bench.turns.hands.actions.contains(&Action::ReadIgnore));
        bench.events.send(Event::IgnoreRead(Some(b"*.tmp".to_vec())));
        bench.turns.turn(u64::MAX).unwrap();
        assert_eq!(bench.turns.hands.ignores, 1);
        assert!(bench.turns.hands.actions.iter().any(|action| matches!(action, Action::Walk { below: None, .. })));
    }

    #[test]
    fn what_is_reported_is_in_the_journal_and_orders_are_answered_after_their_commit() {
        let mut bench = bench();
        bench.events.send(Event::Root(RootState::Wrong("it is gone".into())));
        let (answer, mut answered) = oneshot::channel();
        bench.requests.send(Request::Do { event: Event::Pause(true), answer }).unwrap();
        let (ask, mut status) = oneshot::channel();
        bench.requests.send(Request::Status(ask)).unwrap();
        bench.turns.turn(u64::MAX).unwrap();
        answered.try_recv().unwrap();
        let status = status.try_recv().unwrap();
        assert!(status.paused && status.halted.is_some());
        let lines = bench.turns.engine.index().journal(&WantedLines::last(9));
        assert!(lines.iter().any(|line| line.kind == "halted" && line.text.contains("it is gone")), "{lines:?}");
        assert!(!bench.turns.engine.index().is_dirty());
        assert_eq!(bench.turns.journal.counts().halts, 1);
    }

    #[test]
    fn a_machine_that_is_let_in_over_two_addresses_joins_once() {
        let mut bench = bench();
        for _ in 0..2 {
            let device = DeviceId([2; 32]);
            bench.events.send(Event::Invited { device, name: "beta".into(), capability: Capability::Write });
        }
        bench.turns.turn(u64::MAX).unwrap();
        let lines = bench.turns.engine.index().journal(&WantedLines::last(9));
        assert_eq!(lines.iter().filter(|line| line.kind == "joined").count(), 1, "{lines:?}");
    }

    #[test]
    fn a_turn_without_events_ends_when_it_is_due() {
        let mut bench = bench();
        let due = bench.turns.clock.now().mono + 1_000_000;
        bench.turns.turn(due).unwrap();
        assert!(bench.turns.clock.now().mono >= due || !bench.turns.hands.actions.is_empty());
    }
}
