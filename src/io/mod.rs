//! The world: disk, watcher, sockets, database. It acts and decides nothing: a rule about what should happen belongs
//! in `engine/`.
//!
//! May import `engine`, `wire` and `model`.

pub mod apply;
pub mod beneath;
pub mod control;
pub mod dial;
pub mod disk;
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
use std::sync::mpsc;

/// Where everything in `io/` sends what happened; the daemon's loop reads the other end.
#[derive(Clone)]
pub struct Events(mpsc::Sender<Event>);

impl Events {
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// Never blocks. When the loop has ended, nobody is left to care.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }
}
