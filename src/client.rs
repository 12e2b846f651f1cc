//! The client of the local API: finds the daemon of a folder, and asks it.
//!
//! May import `io::control` for the socket and the views, and `model`. Deliberately not here:
//! arguments and output (`cli/`).

mod absent;

use crate::io::control;
use crate::model::path::PRIVATE_DIR;
use crate::model::text;
use crate::views::status::ErrorView;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
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
    #[error("'{0}' is not in a synced folder (no .dirsync here or above); change into one, or name it with -C DIR")]
    NoFolder(String),
    /// None runs, or it does not listen yet.
    #[error("{0}")]
    NoDaemon(String),
    #[error("the daemon of '{0}' belongs to another user; ask as that user, or as root")]
    NotOurs(String),
    #[error(
        "what answers for '{folder}' belongs to another user (uid {uid}) and is not asked; name your own folder with -C DIR"
    )]
    Stranger { folder: String, uid: u32 },
    #[error("the daemon of '{folder}' cannot be asked: {why}")]
    Broken { folder: String, why: String },
    #[error("{0}")]
    Refused(String),
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
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let real = start.canonicalize().map_err(|_| ClientError::NoFolder(shown(start)))?;
        for path in real.ancestors() {
            let Ok(dir) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { continue };
            let path = path.to_owned();
            match rustix::fs::openat(&dir, PRIVATE_DIR, flags, Mode::empty()) {
                Ok(private) => return Ok(Self { path, dir, private: Some(private) }),
                Err(rustix::io::Errno::ACCESS) => return Err(ClientError::NotOurs(shown(&path))),
                Err(_) if control::is_held(&dir) => return Ok(Self { path, dir, private: None }),
                Err(_) => {}
            }
        }
        Err(ClientError::NoFolder(shown(start)))
    }

    pub async fn connect(&self) -> Result<Client, ClientError> {
        let stream = self.dial().await.map_err(|why| self.explain(&why))?;
        let uid = stream.peer_cred().map_err(|why| self.explain(&why))?.uid();
        let owner = rustix::fs::fstat(&self.dir).map_err(|why| self.explain(&why.into()))?.st_uid;
        if !is_trusted(uid, rustix::process::geteuid().as_raw(), owner) {
            return Err(ClientError::Stranger { folder: shown(&self.path), uid });
        }
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|why| self.broken(&why))?;
        tokio::spawn(connection);
        Ok(Client { sender, folder: shown(&self.path) })
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        let Some(private) = &self.private else { return control::dial_by_inode(&self.dir) };
        match control::dial(private).await {
            // Someone made a new `.dirsync/`, or removed the socket.
            Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                control::dial_by_inode(&self.dir).map_err(|_| why)
            }
            dialled => dialled,
        }
    }

    fn explain(&self, why: &io::Error) -> ClientError {
        match why.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(absent::explain(&self.path, self.private.as_ref()))
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

/// One connection to a daemon.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    folder: String,
}

impl Client {
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str, query: &[(&str, String)]) -> Result<T, ClientError> {
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let request = Request::get(format!("{path}?{}", query.join("&"))).body(Full::default());
        self.ask(request.expect("the path is ours and the query is encoded")).await
    }

    pub async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|why| self.broken(&why))?;
        let request = Request::post(path).header("content-type", "application/json").body(Full::from(body));
        self.ask(request.expect("the path is ours")).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, mut request: Request<Full<Bytes>>) -> Result<T, ClientError> {
        request.headers_mut().insert("host", hyper::header::HeaderValue::from_static("dirsyncd"));
        let answer = self.sender.send_request(request).await.map_err(|why| self.broken(&why))?;
        let done = answer.status().is_success();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|why| self.broken(&why))?.to_bytes();
        if done {
            return serde_json::from_slice(&body).map_err(|why| self.broken(&why));
        }
        match serde_json::from_slice::<ErrorView>(&body) {
            Ok(view) => Err(ClientError::Refused(view.error)),
            Err(why) => Err(self.broken(&why)),
        }
    }

    fn broken(&self, why: &dyn Display) -> ClientError {
        ClientError::Broken { folder: self.folder.clone(), why: why.to_string() }
    }
}

fn percent(value: &str) -> String {
    value.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push_str(&text::hex(&[b]));
        }
        out
    })
}

pub(crate) fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
