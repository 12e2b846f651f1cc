//! The world: disk, watcher, sockets, database. It acts and decides nothing: a rule about what should happen belongs
//! in `engine/`.
//!
//! May import `engine`, `wire` and `model`.

pub mod apply;
pub mod beneath;
pub mod boot;
pub mod control;
pub mod dial;
pub mod disk;
pub mod fail;
pub mod greet;
pub mod history;
pub mod index;
pub mod journal;
pub mod link;
pub mod look;
pub mod metered;
pub mod net;
pub mod outbox;
pub mod presence;
pub mod root;
pub mod scan;
pub mod secret;
pub mod stage;
pub mod state;
pub mod strangers;
pub mod tls;
pub mod transfer;
pub mod trouble;
pub mod watch;
pub mod words;

use crate::engine::Event;
use std::sync::mpsc::{self, RecvError, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where everything in `io/` sends what happened; the daemon's loop reads the other end.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Event>,
    listed: Arc<Listed>,
}

/// The end that is read from.
pub struct Inbox {
    receiver: mpsc::Receiver<Event>,
    listed: Arc<Listed>,
}

impl Events {
    pub fn channel() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel();
        let listed = Arc::<Listed>::default();
        (Self { sender, listed: Arc::clone(&listed) }, Inbox { receiver, listed })
    }

    /// Never blocks. When the loop has ended, nobody is left to care.
    pub fn send(&self, event: Event) {
        self.listed.sent(&event);
        let _ = self.sender.send(event);
    }

    /// Waits until fewer than `count` paths are listed and not yet taken, or for ever no more once `stop_waiting` was
    /// called: a walk is faster than what follows from it (P9).
    pub fn wait_listed_below(&self, count: usize) {
        let is_full = |waiting: &mut Waiting| waiting.paths >= count && !waiting.is_over;
        drop(self.listed.taken.wait_while(self.listed.lock(), is_full));
    }

    pub fn stop_waiting(&self) {
        self.listed.end();
    }
}

impl Inbox {
    pub fn recv(&self) -> Result<Event, RecvError> {
        self.receiver.recv().inspect(|event| self.listed.took(event))
    }

    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).inspect(|event| self.listed.took(event))
    }

    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.receiver.try_recv().inspect(|event| self.listed.took(event))
    }

    pub fn iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.recv().ok())
    }

    pub fn try_iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.try_recv().ok())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.listed.end();
    }
}

/// Paths that a walk has listed and the loop has not taken.
#[derive(Default)]
struct Listed {
    waiting: Mutex<Waiting>,
    taken: Condvar,
}

#[derive(Default)]
struct Waiting {
    paths: usize,
    is_over: bool,
}

impl Listed {
    fn sent(&self, event: &Event) {
        if let Event::Listed { found, .. } = event {
            self.lock().paths += found.len();
        }
    }

    fn took(&self, event: &Event) {
        if let Event::Listed { found, .. } = event {
            self.lock().paths -= found.len();
            self.taken.notify_all();
        }
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.taken.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Stat, StatKind, WalkId};
    use crate::model::{FileTime, Mode, SyncPath};

    fn listed(count: usize) -> Event {
        let time = FileTime { secs: 0, nanos: 0 };
        let stat = Stat { kind: StatKind::File, size: 0, mtime: time, ctime: time, ino: 1, mode: Mode(0o644) };
        let found = (0..count).map(|n| (SyncPath::new(n.to_string()).unwrap(), stat)).collect();
        Event::Listed { walk: WalkId(1), found }
    }

    #[test]
    fn a_walk_waits_until_what_it_listed_is_taken_or_nobody_takes_any_more() {
        let (events, inbox) = Events::channel();
        events.send(listed(2));
        events.wait_listed_below(3);
        events.send(listed(1));
        events.send(Event::Overflow);
        let waits = |events: &Events| {
            let events = events.clone();
            std::thread::spawn(move || events.wait_listed_below(3))
        };
        let waiting = waits(&events);
        assert!(matches!(inbox.recv(), Ok(Event::Listed { .. })));
        waiting.join().unwrap();
        events.send(listed(5));
        let waiting = waits(&events);
        assert!(!waiting.is_finished());
        drop(inbox);
        waiting.join().unwrap();
    }
}
