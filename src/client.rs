//! The client of the local API: finds the daemon of a folder, or all there are, and asks.
//!
//! May import `io::control` for the socket, the views, `options` and `service` for what is kept and
//! installed, and `model`. Deliberately not here: arguments and output (`cli/`).

pub mod absent;
pub mod content;
pub mod doctor;
pub mod events;
pub mod identity;
pub mod survey;
pub mod web;

use crate::io::control::{self, by_inode::FolderInode};
use crate::model::path::PRIVATE_DIR;
use crate::model::text;
use crate::views::status::ErrorView;
use absent::{Absence, AbsenceKind};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Why the daemon was not asked, or did not do it: one sentence with what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("'{start}' is not in a synced folder (no .dirsync here or above); {way_out}")]
    NoFolder { start: String, way_out: String },
    /// None runs, or it does not listen yet.
    #[error("{0}")]
    NoDaemon(Absence),
    #[error("the daemon of '{0}' belongs to another user; ask as that user, or as root")]
    NotOurs(String),
    #[error(
        "what answers for '{folder}' belongs to another user (uid {uid}) and is not asked; name \
         your own folder with -C DIR"
    )]
    Stranger { folder: String, uid: u32 },
    #[error("the daemon of '{folder}' cannot be asked: {why}")]
    Broken { folder: String, why: String },
    /// With the status of the answer.
    #[error("{text}")]
    Refused { code: u16, text: String },
}

/// More is not read of an answer (bytes): what listens may be anyone's.
const ANSWER_BYTES: usize = 256 << 20;

/// A folder with a `.dirsync/` in it, or one that has lost it under a daemon.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    dir: OwnedFd,
    private: Option<OwnedFd>,
}

impl Folder {
    /// The nearest one from `start` upwards.
    pub fn find(start: &Path) -> Result<Self, ClientError> {
        let way_out = "change into one, or name it with -C DIR".to_owned();
        let none = ClientError::NoFolder { start: shown(start), way_out };
        let Ok(real) = start.canonicalize() else { return Err(none) };
        for path in real.ancestors() {
            match Self::open(path) {
                Err(Errno::ACCESS) => return Err(ClientError::NotOurs(shown(path))),
                Err(_) => {}
                Ok(folder) if folder.private.is_some() || folder.is_held() => return Ok(folder),
                Ok(_) => {}
            }
        }
        Err(none)
    }

    /// The folder at this path and no other, whether it is synced or not. `ACCESS`: its
    /// `.dirsync/` is another user's.
    fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|_| Errno::NOENT)?;
        let private = match rustix::fs::openat(&dir, PRIVATE_DIR, flags, Mode::empty()) {
            Ok(private) => Some(private),
            Err(Errno::ACCESS) => return Err(Errno::ACCESS),
            Err(_) => None,
        };
        Ok(Self { path: path.to_owned(), dir, private })
    }

    /// Whether a daemon runs for the folder at this path, or is starting or stopping.
    pub fn has_daemon(path: &Path) -> bool {
        let Ok(folder) = Self::open(path) else { return false };
        let is_absent = || matches!(Absence::of(path, folder.private.as_ref()).kind, AbsenceKind::NotRunning { .. });
        folder.is_held() || !is_absent()
    }

    fn is_held(&self) -> bool {
        FolderInode::of(&self.dir).is_ok_and(FolderInode::is_held)
    }

    pub async fn connect(&self) -> Result<Client, ClientError> {
        let stream = self.dial().await.map_err(|why| self.explain(&why))?;
        let uid = stream.peer_cred().map_err(|why| self.explain(&why))?.uid();
        let owner = rustix::fs::fstat(&self.dir).map_err(|why| self.explain(&why.into()))?.st_uid;
        if !is_trusted(uid, rustix::process::geteuid().as_raw(), owner) {
            return Err(ClientError::Stranger { folder: shown(&self.path), uid });
        }
        Client::over(stream, shown(&self.path)).await
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        let by_inode = || FolderInode::of(&self.dir).and_then(FolderInode::dial);
        let Some(private) = &self.private else { return by_inode() };
        match control::dial(private).await {
            // Someone made a new `.dirsync/`, or removed the socket.
            Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                by_inode().map_err(|_| why)
            }
            dialled => dialled,
        }
    }

    fn explain(&self, why: &io::Error) -> ClientError {
        match why.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(Absence::of(&self.path, self.private.as_ref()))
            }
            ErrorKind::PermissionDenied => ClientError::NotOurs(shown(&self.path)),
            _ => self.broken(why),
        }
    }

    fn broken(&self, why: &dyn Display) -> ClientError {
        ClientError::Broken { folder: shown(&self.path), why: why.to_string() }
    }
}

/// Anyone may put a `.dirsync` above where we stand, in /tmp, say. Root asks a user's daemon in
/// that user's own folder.
fn is_trusted(listener: u32, ours: u32, owner: u32) -> bool {
    listener == ours || listener == 0 || (ours == 0 && listener == owner)
}

/// What a request brings along.
type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

fn whole(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// One connection to a daemon.
pub struct Client {
    sender: SendRequest<RequestBody>,
    folder: String,
    /// The process that listens, where it can be seen from here.
    pub pid: Option<i32>,
    pub uid: u32,
    /// More is not read of an answer (bytes).
    answer_bytes: usize,
}

impl Client {
    /// `folder`: how it is called in messages, safe to print.
    async fn over(stream: UnixStream, folder: String) -> Result<Self, ClientError> {
        let broken = |why: &dyn Display| ClientError::Broken { folder: folder.clone(), why: why.to_string() };
        let listener = stream.peer_cred().map_err(|why| broken(&why))?;
        let (pid, uid) = (listener.pid().filter(|&pid| pid > 0), listener.uid());
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|why| broken(&why))?;
        tokio::spawn(connection);
        Ok(Self { sender, folder, pid, uid, answer_bytes: ANSWER_BYTES })
    }

    pub async fn get<T: DeserializeOwned>(&mut self, path: &str, query: &[(&str, String)]) -> Result<T, ClientError> {
        let request = Request::get(with_query(path, query)).body(whole(Bytes::new()));
        self.ask(request.expect("the path is ours and the query is encoded")).await
    }

    pub async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|why| self.broken(&why))?;
        let request = Request::post(path).header("content-type", "application/json").body(whole(body));
        self.ask(request.expect("the path is ours")).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, request: Request<RequestBody>) -> Result<T, ClientError> {
        let answer = self.send(request).await?;
        let body = self.all_of(answer).await?;
        serde_json::from_slice(&body).map_err(|why| self.broken(&why))
    }

    /// An answer that is no refusal: what comes after its head is still to be read.
    async fn send(&mut self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, ClientError> {
        request.headers_mut().insert(HOST, HeaderValue::from_static("dirsyncd"));
        let answer = self.sender.send_request(request).await.map_err(|why| self.broken(&why))?;
        let code = answer.status();
        if code.is_success() || code.is_redirection() {
            return Ok(answer);
        }
        let body = self.all_of(answer).await?;
        match serde_json::from_slice::<ErrorView>(&body) {
            Ok(view) => Err(ClientError::Refused { code: code.as_u16(), text: view.error }),
            Err(why) => Err(self.broken(&why)),
        }
    }

    async fn all_of(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(answer.into_body(), self.answer_bytes).collect().await;
        Ok(body.map_err(|why| self.broken(&why))?.to_bytes())
    }

    fn broken(&self, why: &dyn Display) -> ClientError {
        ClientError::Broken { folder: self.folder.clone(), why: why.to_string() }
    }
}

/// A request's address; its values may be anything.
fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let query = query.iter().map(|(name, value)| format!("{name}={}", text::percent(value.as_bytes())));
    format!("{path}?{}", query.collect::<Vec<_>>().join("&"))
}

pub(crate) fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
