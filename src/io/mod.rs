//! The world: disk, watcher, sockets, database. It acts and decides nothing: a rule about what
//! should happen belongs in `engine/`.
//!
//! May import `engine`, `delta`, `wire` and `model`.

pub mod clock;
pub mod control;
pub mod fail;
pub mod feed;
pub mod fs;
pub mod identity;
pub mod journal;
pub mod merge3;
pub mod net;
pub mod store;

use crate::engine::Event;
use crate::wire::split;
use std::sync::mpsc::{self, RecvError, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Messages of peers that wait for the loop and contents that wait to be installed, in all (P9).
const BACKLOG_BYTES: usize = 32 << 20;

/// Where everything in `io/` sends what happened; the daemon's loop reads the other end.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Event>,
    backlog: Arc<Backlog>,
}

/// The end that is read from.
pub struct Inbox {
    receiver: mpsc::Receiver<Event>,
    backlog: Arc<Backlog>,
}

impl Events {
    pub fn channel() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel();
        let backlog = Arc::<Backlog>::default();
        (Self { sender, backlog: Arc::clone(&backlog) }, Inbox { receiver, backlog })
    }

    /// Never blocks. When the loop has ended, nobody is left to care.
    pub fn send(&self, event: Event) {
        self.backlog.sent(&event);
        let _ = self.sender.send(event);
    }

    /// Waits until fewer than `count` paths are listed and not yet taken, or for ever no more once
    /// `stop_waiting` was called: a walk is faster than what follows from it (P9).
    pub fn wait_listed_below(&self, count: usize) {
        let is_full = |waiting: &mut QueuedEvents| waiting.paths >= count && !waiting.is_over;
        drop(self.backlog.taken.wait_while(self.backlog.lock(), is_full));
    }

    /// Waits while too much that peers said is not yet taken, or taken and not yet installed: a
    /// peer may be faster than this machine's disk (P9).
    pub async fn wait_for_room(&self) {
        loop {
            let room = self.backlog.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let has_room = {
                let waiting = self.backlog.lock();
                waiting.is_over || !waiting.is_full()
            };
            if has_room {
                return;
            }
            room.await;
        }
    }

    pub fn stop_waiting(&self) {
        self.backlog.end();
    }
}

impl Inbox {
    pub fn recv(&self) -> Result<Event, RecvError> {
        self.receiver.recv().inspect(|event| self.backlog.took(event))
    }

    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).inspect(|event| self.backlog.took(event))
    }

    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.receiver.try_recv().inspect(|event| self.backlog.took(event))
    }

    /// How much of what was taken waits to be installed now (bytes).
    pub fn set_installing(&self, bytes: u64) {
        self.backlog.change(|waiting| waiting.installing_bytes = bytes as usize);
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
        self.backlog.end();
    }
}

/// What was sent and the loop has not taken: paths that a walk has listed, and messages of peers.
#[derive(Default)]
struct Backlog {
    waiting: Mutex<QueuedEvents>,
    taken: Condvar,
    room: Notify,
}

#[derive(Default)]
struct QueuedEvents {
    paths: usize,
    message_bytes: usize,
    installing_bytes: usize,
    is_over: bool,
}

impl QueuedEvents {
    fn is_full(&self) -> bool {
        self.message_bytes + self.installing_bytes >= BACKLOG_BYTES
    }
}

impl Backlog {
    fn sent(&self, event: &Event) {
        match event {
            Event::Listed { found, .. } => self.lock().paths += found.len(),
            Event::Message { message, .. } => self.lock().message_bytes += split::bytes_of(message),
            _ => {}
        }
    }

    fn took(&self, event: &Event) {
        match event {
            Event::Listed { found, .. } => {
                self.lock().paths -= found.len();
                self.taken.notify_all();
            }
            Event::Message { message, .. } => {
                self.change(|waiting| waiting.message_bytes -= split::bytes_of(message));
            }
            _ => {}
        }
    }

    /// Lets the links go on when there is room again.
    fn change(&self, change: impl FnOnce(&mut QueuedEvents)) {
        let mut waiting = self.lock();
        let was_full = waiting.is_full();
        change(&mut waiting);
        if was_full && !waiting.is_full() {
            self.room.notify_waiters();
        }
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.taken.notify_all();
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, QueuedEvents> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{LinkId, Stat, StatKind, WalkId};
    use crate::model::{FileTime, Mode, SyncPath};
    use crate::wire::message::Message;

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

    #[tokio::test]
    async fn a_link_waits_while_too_much_of_what_peers_said_is_not_taken() {
        let (events, inbox) = Events::channel();
        let contents = vec![(1, Some(vec![0; BACKLOG_BYTES].into()))];
        let message = Message::Contents { contents };
        events.wait_for_room().await;
        events.send(Event::Message { link: LinkId(1), message, wire_bytes: 1 });
        let waiting = tokio::spawn({
            let events = events.clone();
            async move { events.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(inbox.recv().is_ok());
        waiting.await.unwrap();
    }
}
