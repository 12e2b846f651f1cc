//! The local API: HTTP over the Unix socket `.dirsync/control`, for `dirsync` and for scripts of
//! this user.
//!
//! Where the folder's file system keeps no sockets, the socket is in the state directory, and
//! `.dirsync/control-at` says so. Only this uid and root are heard. What needs the engine is a
//! [`Request`] to the daemon's loop with a place for the answer; the rest is asked of the
//! [`World`]. May import `engine` and `model`. Deliberately not here: anything that the engine
//! decides, and TCP (`control/http.rs`).

mod answer;
pub mod by_inode;
mod conflicts;
mod content;
mod elsewhere;
mod etag;
mod events;
pub mod group_socket;
pub mod http;
mod identity;
mod ignores;
mod invite;
mod leave;
mod membership;
mod metrics;
mod need;
mod orders;
mod past;
mod roles;
mod routes;
mod side;
mod status;
mod table;
mod traffic;
mod undo;
pub mod verified;
mod verify;
pub mod view;
pub mod why;

use crate::engine::api::index::{Conflict, ConflictFilter, Row};
use crate::engine::{
    DifferingPaths, Event, FetchError, HeldByMachine, HeldPaths, MachinePasts, NeededPage, Problem, ServedFile,
    StageId, Stat, StatKind, Status, Undone, Verification, Why,
};
use crate::io::Events;
use crate::io::clock::wall_ns;
use crate::io::feed::EventFeed;
use crate::io::fs::beneath;
use crate::io::fs::install::{PutContent, RestoreError};
use crate::io::fs::probe;
use crate::io::fs::uploads::{IncomingUpload, UploadError, UploadKey};
use crate::io::journal::ReportCounts;
use crate::io::net::link::Upload;
use crate::io::net::members::Unreached;
use crate::io::net::traffic::Traffic;
use crate::io::store::index::{JournalLine, WantedLines};
use crate::model::{Capability, ContentId, DeviceId, InvitationCode, SyncPath, text};
use answer::ApiState;
use by_inode::FolderInode;
use http::HttpState;
pub(crate) use identity::EXPORT;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::future::IntoFuture;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream, unix};
use tokio::sync::oneshot;

/// The socket's name below `.dirsync/`, or in the state directory.
pub const SOCKET: &str = "control";
/// Below `.dirsync/`: names the state directory that holds the socket.
const SOCKET_AT: &str = "control-at";
const PATH_BYTES: u64 = 4096;
/// A loop that does not answer for so long is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What only the loop can answer; it does so between two batches of events.
#[derive(Debug)]
pub enum Request {
    Status(oneshot::Sender<Status>),
    /// What was reported since the start.
    Counted(oneshot::Sender<ReportCounts>),
    Verification(oneshot::Sender<Verification>),
    /// What is held, named up to a limit.
    Held {
        after: Option<SyncPath>,
        limit: usize,
        answer: oneshot::Sender<HeldPaths>,
    },
    /// What differs here from the group by this machine's role, at these paths and below them; with
    /// no paths, everywhere.
    Differing {
        paths: Vec<SyncPath>,
        answer: oneshot::Sender<DifferingPaths>,
    },
    /// What linked machines hold, once they have answered.
    Holding {
        ticket: u64,
        answer: oneshot::Sender<Option<Vec<HeldByMachine>>>,
    },
    /// What came of an undo, once it was carried out.
    Undone {
        ticket: u64,
        answer: oneshot::Sender<Option<Undone>>,
    },
    /// The row at `path`, if there is one.
    Row {
        path: SyncPath,
        answer: oneshot::Sender<Option<Row>>,
    },
    /// Those at these paths.
    RowsAt {
        paths: Vec<SyncPath>,
        answer: oneshot::Sender<Vec<Option<Row>>>,
    },
    /// What is to come to this disk after a path: of so many rows.
    Needed {
        after: Option<SyncPath>,
        rows: usize,
        answer: oneshot::Sender<NeededPage>,
    },
    /// What needs attention, at paths after this one.
    Problems {
        after: Option<SyncPath>,
        limit: usize,
        answer: oneshot::Sender<Vec<(SyncPath, Problem)>>,
    },
    /// Rows strictly below `dir`, after `after`; with `children`, those directly in it alone.
    Rows {
        dir: Option<SyncPath>,
        children: bool,
        after: Option<SyncPath>,
        limit: usize,
        answer: oneshot::Sender<Vec<(SyncPath, Row)>>,
    },
    /// How a path stands. `is_dir`: the disk has a folder there.
    Why {
        path: SyncPath,
        is_dir: bool,
        answer: oneshot::Sender<Why>,
    },
    /// Lines of the journal, oldest first.
    Log {
        wanted: WantedLines,
        answer: oneshot::Sender<Vec<JournalLine>>,
    },
    /// Conflicts, and this machine's device, for its side of them.
    Conflicts {
        wanted: ConflictFilter,
        answer: oneshot::Sender<(DeviceId, Vec<Conflict>)>,
    },
    /// What linked machines answered about their histories, once they have.
    Pasts {
        ticket: u64,
        answer: oneshot::Sender<Option<Vec<MachinePasts>>>,
    },
    /// What came of a fetch from a history, once it has ended.
    Fetched {
        ticket: u64,
        answer: oneshot::Sender<Option<Result<StageId, FetchError>>>,
    },
    /// What the index has under these keys.
    Meta {
        keys: &'static [&'static str],
        answer: oneshot::Sender<Vec<Option<Vec<u8>>>>,
    },
    /// This machine is to be called so: the run ends, and the next one knows it. Answered once that
    /// is durable.
    Rename {
        name: String,
        answer: oneshot::Sender<()>,
    },
    /// So much is sent a second, from the next start on as well. Answered once that is durable.
    KeepLimit {
        rate: Option<u64>,
        answer: oneshot::Sender<()>,
    },
    /// This machine is to leave its group, for good: the run ends. Answered once that is decided
    /// durably, or why it cannot be.
    Leave(oneshot::Sender<Result<(), String>>),
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
    feed: EventFeed,
}

impl Handle {
    pub fn new(events: Events) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel();
        (Self { requests, events, feed: EventFeed::new(wall_ns()) }, receiver)
    }

    /// What happens, for who follows along.
    pub fn feed(&self) -> &EventFeed {
        &self.feed
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
#[derive(Debug, Clone, PartialEq)]
pub struct LinkFacts {
    pub device: DeviceId,
    pub name: String,
    pub address: String,
    /// As its proof has shown.
    pub capability: Capability,
    /// On the wire, since it came up.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub uploads: Vec<Upload>,
    /// What it says that it runs, safe to print.
    pub software: String,
    /// Not known before the first ping was answered.
    pub round_trip_ms: Option<f64>,
}

/// Something kept in history, here or on linked machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFacts {
    /// Its name in history; empty if it is not kept here.
    pub name: String,
    pub path: SyncPath,
    /// When it was replaced or deleted, nanoseconds since 1970.
    pub time: u64,
    /// `replaced`, `deleted`, `conflict`, or `suspect`: what a scrub found, perhaps rotten. Only a
    /// person who names that very copy gets it back.
    pub reason: &'static str,
    pub size: u64,
    /// Its own, nanoseconds since 1970.
    pub mtime: u64,
    pub mode: crate::model::Mode,
    /// The other machines that keep it.
    pub elsewhere: Vec<HistoryHolder>,
}

/// A machine that keeps something in its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryHolder {
    pub device: DeviceId,
    /// Its name, safe to print.
    pub machine: String,
    /// When that machine put it there, by its clock.
    pub time: u64,
}

/// What is asked of the disk and the network; the calls may block.
pub trait World: Send + Sync {
    fn links(&self) -> Vec<LinkFacts>;
    /// Bytes on the wire since the start, also of links that have ended.
    fn traffic(&self) -> BTreeMap<DeviceId, Traffic> {
        BTreeMap::new()
    }
    /// The addresses that a person named and that lead to no member now.
    fn unreached(&self) -> Vec<Unreached> {
        Vec::new()
    }
    /// A code for another machine to join with; or why there is none.
    fn invite(&self, _uses: u32, _lifetime: Duration, _capability: Capability) -> Result<InvitationCode, String> {
        Err("there is no network".to_owned())
    }
    /// How many may still join by each invitation, and for how long.
    fn invitations(&self) -> Vec<(u32, Duration)> {
        Vec::new()
    }
    fn cancel_invitations(&self) {}
    /// Bytes a second that are sent to each peer, and in all; `None`: no limit.
    fn limit(&self) -> Option<u64> {
        None
    }
    fn set_limit(&self, _rate: Option<u64>) {}
    /// What is kept, newest first; of one path and what is below it, or of all.
    fn history(&self, path: Option<&SyncPath>) -> io::Result<Vec<KeptFacts>>;
    /// Puts a kept file back to where it was, as a new version; what is there goes to history.
    fn restore(&self, kept: &KeptFacts) -> io::Result<()>;
    /// Puts a verified content where another machine's history had it, as a new version. It is
    /// staged no more.
    fn restore_staged(&self, staged: StageId, path: &SyncPath, mode: crate::model::Mode) -> io::Result<()>;
    /// The same of a symbolic link.
    fn restore_link(&self, target: &[u8], path: &SyncPath) -> io::Result<()>;
    /// The content of something kept; `None` if it is no file or gone.
    fn content_of_kept(&self, name: &str) -> io::Result<Option<ContentId>>;
    /// The first `limit` bytes of something kept; `None` if it is no file or gone.
    fn kept_bytes(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// The first `limit` bytes of what is at a path now; `None` if that is no file.
    fn bytes_at(&self, path: &SyncPath, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// What is at a path now.
    fn stat_at(&self, path: &SyncPath) -> io::Result<Option<Stat>>;
    /// Deletes what is at a path, if it is that; it goes to history.
    fn delete(&self, path: &SyncPath, expect: &Stat) -> Result<(), RestoreError>;
    /// Moves it to where nothing is.
    fn move_path(&self, from: &SyncPath, to: &SyncPath, expect: &Stat) -> Result<(), RestoreError>;
    /// Begins an upload, or goes on with it.
    fn begin_upload(&self, _key: UploadKey) -> Result<IncomingUpload, UploadError> {
        Err(UploadError::Busy)
    }
    /// Puts a verified content at a path. On failure it is still staged.
    fn put(&self, _staged: StageId, put: &PutContent) -> Result<(), RestoreError> {
        Err(RestoreError::Busy(put.path.clone()))
    }
    /// A file of the folder, open for reading; `None` if its stat is not that any more.
    fn open_served(&self, _file: &ServedFile) -> io::Result<Option<File>> {
        Err(ErrorKind::Unsupported.into())
    }
    /// Something kept, open for reading; `None` if it is no file or gone.
    fn open_kept(&self, _name: &str) -> io::Result<Option<File>> {
        Err(ErrorKind::Unsupported.into())
    }
    /// A verified content, open for reading. It is staged no more.
    fn open_staged(&self, _staged: StageId) -> io::Result<File> {
        Err(ErrorKind::Unsupported.into())
    }
    fn is_there(&self, path: &SyncPath) -> bool;
    /// What history takes on the disk, and what it may take (bytes).
    fn history_load(&self) -> (u64, Option<u64>) {
        (0, None)
    }
    /// How many folders are watched, and whether all are.
    fn watched(&self) -> (usize, bool) {
        (0, true)
    }
    /// What the disk has at a path now, if anything can be seen there.
    fn kind_at(&self, path: &SyncPath) -> Option<StatKind>;
    /// For how long the folder's disk has not answered, if that is long.
    fn disk_stalled(&self) -> Option<Duration> {
        None
    }
}

/// The routes with all that they need, for each socket that answers.
#[derive(Clone)]
pub struct Api {
    everyone: axum::Router,
    /// Also what no socket but the owner's own may answer.
    owner: axum::Router,
    state: ApiState,
}

impl Api {
    pub fn new(handle: Handle, world: Arc<dyn World>, about: About) -> Self {
        let state = ApiState::new(handle, world, about);
        Self { everyone: routes::router(state.clone()), owner: routes::router_of_owner(state.clone()), state }
    }
}

/// What never changes while the daemon runs.
#[derive(Debug, Clone)]
pub struct About {
    pub directory: PathBuf,
    pub state_dir: PathBuf,
    pub listen_port: u16,
    pub broadcast_port: u16,
    /// The one thing that does.
    pub http: HttpState,
    /// The options say how this machine is called.
    pub name_is_given: bool,
    pub secret: SecretPlace,
    /// Of this machine.
    pub capability: Capability,
}

/// Whose the group's secret is to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// Ours: it is in the state directory.
    Own,
    /// A person's: its file was named where this machine is started.
    Named(PathBuf),
    /// Everyone knows it (`--open`).
    Open,
}

/// Listening sockets, before they are served.
#[derive(Debug)]
pub struct Control {
    socket: StdListener,
    is_elsewhere: bool,
    by_inode: Option<StdListener>,
}

/// Why nobody can ask the daemon.
#[derive(Debug, thiserror::Error)]
#[error(
    "the control socket can be made neither in '.dirsync' ({private}) nor in the state directory \
     '{state}' ({why}); give --state-dir a folder whose file system keeps sockets"
)]
pub struct NoSocket {
    private: io::Error,
    state: String,
    why: io::Error,
}

impl Control {
    /// Listens in `private` (`.dirsync/`), else in the state directory. Both are locked: a socket
    /// that is there already is a dead daemon's.
    pub fn bind(private: BorrowedFd<'_>, state_dir: &Path) -> Result<Self, NoSocket> {
        let refused = match listen(private) {
            Ok(socket) => {
                // Of an earlier run, on another file system.
                let _ = rustix::fs::unlinkat(private, SOCKET_AT, AtFlags::empty());
                return Ok(Self { socket, is_elsewhere: false, by_inode: None });
            }
            Err(refused) => refused,
        };
        // Some make a file of it before they refuse, and a socket that nobody has would be dialled.
        let _ = rustix::fs::unlinkat(private, SOCKET, AtFlags::empty());
        match listen_elsewhere(private, state_dir) {
            Ok(socket) => Ok(Self { socket, is_elsewhere: true, by_inode: None }),
            Err(why) => {
                let state = text::escape(state_dir.as_os_str().as_bytes());
                Err(NoSocket { private: refused, state, why })
            }
        }
    }

    /// Whether it is in the state directory.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Listens by the folder's inode too, so that a client finds the daemon of a folder that has
    /// lost its `.dirsync/`. Where that name is taken, by whomever, there is only the other socket.
    #[must_use]
    pub fn also_by_inode(self, folder: BorrowedFd<'_>) -> Self {
        let listen = FolderInode::of(folder).and_then(FolderInode::listen);
        let by_inode = listen.inspect_err(|why| tracing::debug!("no control socket without a file: {why}")).ok();
        Self { by_inode, ..self }
    }

    /// Serves until the runtime ends, also what is for this machine's owner alone. To be called
    /// within one.
    pub async fn serve(self, Api { owner: router, state, .. }: Api) -> io::Result<()> {
        tokio::spawn(traffic::keep(state.hour, state.world));
        if let Some(socket) = self.by_inode {
            let listener = OursOnly::new(UnixListener::from_std(socket)?);
            tokio::spawn(axum::serve(listener, router.clone()).into_future());
        }
        axum::serve(OursOnly::new(UnixListener::from_std(self.socket)?), router).await
    }
}

fn listen(dir: BorrowedFd<'_>) -> io::Result<StdListener> {
    match rustix::fs::unlinkat(dir, SOCKET, AtFlags::empty()) {
        Err(why) if why != Errno::NOENT => return Err(why.into()),
        _ => {}
    }
    let socket = StdListener::bind(socket_path(dir))?;
    let closed = rustix::fs::chmodat(dir, SOCKET, Mode::RUSR | Mode::WUSR, AtFlags::empty());
    // Where no mode is kept, each connection is still asked whose it is.
    match closed {
        Err(why) if !probe::is_not_kept(why) => return Err(why.into()),
        _ => {}
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// In the state directory, to which `.dirsync/control-at` then leads.
fn listen_elsewhere(private: BorrowedFd<'_>, state_dir: &Path) -> io::Result<StdListener> {
    let state_dir = std::path::absolute(state_dir)?;
    let dir = open_folder(&state_dir)?;
    let socket = listen(dir.as_fd())?;
    match rustix::fs::unlinkat(private, SOCKET_AT, AtFlags::empty()) {
        Err(why) if why != Errno::NOENT => return Err(why.into()),
        _ => {}
    }
    beneath::create(private, SOCKET_AT)?.write_all(state_dir.as_os_str().as_bytes())?;
    Ok(socket)
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Dials the daemon whose `.dirsync/` this is.
pub async fn dial(private: impl AsFd) -> io::Result<UnixStream> {
    match UnixStream::connect(socket_path(private.as_fd())).await {
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            match elsewhere(private.as_fd()) {
                Some(dir) => UnixStream::connect(socket_path(dir.as_fd())).await,
                None => Err(why),
            }
        }
        dialled => dialled,
    }
}

/// The state directory to which `.dirsync/control-at` leads. Whoever may write there could name any
/// folder: only one that its owner alone may enter is a state directory, and the owner must be the
/// caller or root, or the caller root.
fn elsewhere(private: BorrowedFd<'_>) -> Option<OwnedFd> {
    let (file, _) = beneath::regular(private, SOCKET_AT.as_bytes()).ok()??;
    let mut path = Vec::new();
    file.take(PATH_BYTES).read_to_end(&mut path).ok()?;
    let path = Path::new(OsStr::from_bytes(&path));
    let dir = path.is_absolute().then(|| open_folder(path).ok()).flatten()?;
    let facts = beneath::facts(&dir).ok()?;
    let us = rustix::process::geteuid().as_raw();
    let is_trusted = facts.uid == us || facts.uid == 0 || us == 0;
    (is_trusted && facts.stat.mode.0.trailing_zeros() >= 6).then_some(dir)
}

/// Through the descriptor: no limit of 108 bytes, and no other folder swapped in under the name
/// (P7).
fn socket_path(private: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", private.as_raw_fd()))
}

/// Of so many other users is said that they tried; of each once, as `dirsync folders` tries all.
const NAMED_USERS: usize = 64;

/// Accepts only connections of this uid and of root.
struct OursOnly {
    listener: UnixListener,
    /// Users that were turned away.
    named: BTreeSet<u32>,
}

impl OursOnly {
    fn new(listener: UnixListener) -> Self {
        Self { listener, named: BTreeSet::new() }
    }

    fn turn_away(&mut self, stream: &UnixStream) {
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { return };
        if self.named.len() < NAMED_USERS && self.named.insert(uid) {
            tracing::warn!("another user (uid {uid}) tried the control socket and was turned away");
        }
    }
}

impl axum::serve::Listener for OursOnly {
    type Io = UnixStream;
    type Addr = unix::SocketAddr;

    async fn accept(&mut self) -> (UnixStream, unix::SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) if is_ours(&stream) => return (stream, address),
                Ok((stream, _)) => self.turn_away(&stream),
                Err(why) => {
                    tracing::warn!("the control socket cannot accept: {why}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<unix::SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}
