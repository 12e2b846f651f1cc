//! The local API: HTTP over the Unix socket `.dirsync/control`, for `dirsync` and for scripts of this user.
//!
//! Only this uid and root are heard. What needs the engine is a [`Request`] to the daemon's loop with a place for the answer;
//! the rest is asked of the [`World`]. May import `engine` and `model`. Deliberately not here: anything that the
//! engine decides, and any address but this socket.

mod conflicts;
mod past;
mod routes;
pub mod verified;
mod verify;
pub mod view;

use super::Events;
use super::index::{Conflict, JournalLine, Wanted};
use crate::engine::index::Row;
use crate::engine::{Event, Status, Verification};
use crate::model::{ContentId, DeviceId, SyncPath};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};
use tokio::sync::oneshot;

/// The socket's name below `.dirsync/`.
pub const SOCKET: &str = "control";
/// A loop that does not answer for so long is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What only the loop can answer; it does so between two batches of events.
#[derive(Debug)]
pub enum Request {
    Status(oneshot::Sender<Status>),
    Verification(oneshot::Sender<Verification>),
    /// The row at `path`, if there is one.
    Row {
        path: SyncPath,
        answer: oneshot::Sender<Option<Row>>,
    },
    /// Rows strictly below `dir`, after `after`.
    Rows {
        dir: Option<SyncPath>,
        after: Option<SyncPath>,
        limit: usize,
        answer: oneshot::Sender<Vec<(SyncPath, Row)>>,
    },
    /// The last lines of the journal, oldest first.
    Log {
        limit: usize,
        answer: oneshot::Sender<Vec<JournalLine>>,
    },
    Conflicts {
        wanted: Wanted,
        answer: oneshot::Sender<Vec<Conflict>>,
    },
    /// Conflicts of a path up to `last` are decided; answered once that is durable.
    Settle {
        path: SyncPath,
        last: i64,
        how: String,
        answer: oneshot::Sender<()>,
    },
    /// Answered once the event is handled and committed.
    Do {
        event: Event,
        answer: oneshot::Sender<()>,
    },
}

/// The way to the loop: a request, and a nudge so that it is seen at once.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    events: Events,
}

impl Handle {
    pub fn new(events: Events) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel();
        (Self { requests, events }, receiver)
    }

    /// `None`: the daemon is stopping, or its loop is stuck.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).ok()?;
        self.events.send(Event::Tick);
        tokio::time::timeout(ANSWER_WITHIN, answered).await.ok()?.ok()
    }
}

/// A link as the network sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    pub device: DeviceId,
    pub name: String,
    pub address: String,
    /// On the wire, since it came up.
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// Something kept in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFacts {
    /// Its name in history.
    pub name: String,
    pub path: SyncPath,
    /// When it was replaced or deleted, nanoseconds since 1970.
    pub time: u64,
    /// `replaced`, `deleted`, `conflict`, or `suspect`: what a scrub found, perhaps rotten. Only a person who names that very copy gets it back.
    pub reason: &'static str,
    pub size: u64,
    /// Its own, nanoseconds since 1970.
    pub mtime: u64,
}

/// What is asked of the disk and the network; the calls may block.
pub trait World: Send + Sync {
    fn links(&self) -> Vec<LinkFacts>;
    /// What is kept, newest first; of one path and what is below it, or of all.
    fn history(&self, path: Option<&SyncPath>) -> io::Result<Vec<KeptFacts>>;
    /// Puts a kept file back to where it was, as a new version; what is there goes to history.
    fn restore(&self, kept: &KeptFacts) -> io::Result<()>;
    /// The content of something kept; `None` if it is no file or gone.
    fn content_of_kept(&self, name: &str) -> io::Result<Option<ContentId>>;
    /// The first `limit` bytes of something kept; `None` if it is no file or gone.
    fn kept_bytes(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// The first `limit` bytes of what is at a path now; `None` if that is no file.
    fn bytes_at(&self, path: &SyncPath, limit: u64) -> io::Result<Option<Vec<u8>>>;
    fn is_there(&self, path: &SyncPath) -> bool;
    /// For how long the folder's disk has not answered, if that is long.
    fn disk_stalled(&self) -> Option<Duration> {
        None
    }
}

/// What never changes while the daemon runs.
#[derive(Debug, Clone)]
pub struct About {
    pub directory: PathBuf,
    pub state_dir: PathBuf,
    pub listen_port: u16,
    pub broadcast_port: u16,
}

/// A listening socket, before it is served.
pub struct Control(std::os::unix::net::UnixListener);

impl Control {
    /// Listens in `private` (`.dirsync/`, which is locked: a socket that is there already is a dead daemon's).
    pub fn bind(private: BorrowedFd<'_>) -> io::Result<Self> {
        match rustix::fs::unlinkat(private, SOCKET, AtFlags::empty()) {
            Err(why) if why != rustix::io::Errno::NOENT => return Err(why.into()),
            _ => {}
        }
        let socket = std::os::unix::net::UnixListener::bind(socket_path(private))?;
        rustix::fs::chmodat(private, SOCKET, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Serves until the runtime ends. To be called within one.
    pub async fn serve(self, handle: Handle, world: Arc<dyn World>, about: About) -> io::Result<()> {
        let listener = OursOnly(UnixListener::from_std(self.0)?);
        axum::serve(listener, routes::router(handle, world, about)).await
    }
}

/// Dials the daemon whose `.dirsync/` this is.
pub async fn dial(private: impl AsFd) -> io::Result<UnixStream> {
    UnixStream::connect(socket_path(private.as_fd())).await
}

/// Through the descriptor: no limit of 108 bytes, and no other folder swapped in under the name (P7).
fn socket_path(private: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", private.as_raw_fd()))
}

/// Accepts only connections of this uid and of root.
struct OursOnly(UnixListener);

impl axum::serve::Listener for OursOnly {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) if is_ours(&stream) => return (stream, address),
                Ok(_) => tracing::warn!("another user tried the control socket and was turned away"),
                Err(why) => {
                    tracing::warn!("the control socket cannot accept: {why}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}
