//! The API over TCP (`--http`): the same routes for who has a token, over HTTP or HTTPS.
//!
//! It has a thread of its own. A request is whole before it is asked, but for a content that is
//! sent (`content/upload.rs`), and while its answer is sent it has no turn and no lock: a slow
//! client holds nothing that `dirsync` waits for. One with a token that asks much does, as all
//! share the loop and the turns at asking linked machines. A client has bounds of time and size for
//! all that it sends, and hyper answers what breaks those of a head. The group's socket has the
//! same bounds. Deliberately not here: who may ask what (`http/gate.rs`), and when it is tried
//! again to listen (`daemon/http.rs`).

mod connections;
mod gate;
mod page;
mod taken;

use super::Api;
use super::answer::{BODY_BYTES, Refusal};
use super::content;
use crate::io::net::tls::{DeviceKey, KeyError, web_config};
use crate::io::store::api_tokens::{ApiTokens, TokenError};
use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use connections::{ConnectionPlace, Connections};
#[cfg(test)]
pub(super) use gate::FREE;
use gate::{Caller, Gatekeeper, HttpGate};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use taken::TakenWithin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A handshake, and the head of a request from the moment that one may come, take no longer. So
/// long a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The body of a request takes no longer.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// What was answered is taken off within this time, or the connection ends.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Of a head, and of what is read ahead (bytes; headers).
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;

/// Why the API is not answered over TCP.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("--http {address}: {why}; give another port or an address of this machine, or leave it out")]
    Bind { address: SocketAddr, why: io::Error },
    #[error("--http {address}: {why}")]
    Token { address: SocketAddr, why: TokenError },
}

/// Where the API is answered over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpFacts {
    pub address: SocketAddr,
    /// With TLS: SHA-256 of the certificate.
    pub fingerprint: Option<String>,
}

impl HttpFacts {
    /// How a browser on this machine is led there.
    pub fn url(&self) -> String {
        let scheme = if self.fingerprint.is_some() { "https" } else { "http" };
        let mut address = self.address;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        format!("{scheme}://{address}/")
    }
}

/// How `--http` stands, for whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HttpStanding {
    #[default]
    NotWanted,
    Answers(HttpFacts),
    /// Why it does not now.
    Fails(String),
}

/// How it stands, shared with the thread that tries.
#[derive(Debug, Clone, Default)]
pub struct HttpState(Arc<Mutex<HttpStanding>>);

impl HttpState {
    pub fn now(&self) -> HttpStanding {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, standing: HttpStanding) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}

/// What `--http` wants, whether or not it can be had now.
pub struct HttpServer {
    address: SocketAddr,
    /// With the certificate's fingerprint.
    tls: Option<(TlsAcceptor, String)>,
    state_dir: PathBuf,
    state: HttpState,
}

/// A listener, before it is served.
pub struct HttpListener {
    listener: StdListener,
    tokens: ApiTokens,
}

impl HttpServer {
    /// `key`: for TLS.
    pub fn new(address: SocketAddr, key: Option<&DeviceKey>, state_dir: &Path) -> Result<Self, KeyError> {
        let tls = match key {
            Some(key) => Some((TlsAcceptor::from(web_config(key)?), key.fingerprint())),
            None => None,
        };
        Ok(Self { address, tls, state_dir: state_dir.to_owned(), state: HttpState::default() })
    }

    pub fn state(&self) -> HttpState {
        self.state.clone()
    }

    /// Listens, and keeps in mind what came of it.
    pub fn listen(&self) -> Result<(HttpListener, HttpFacts), HttpError> {
        let listening = self.try_listen();
        self.state.set(match &listening {
            Ok((_, facts)) => HttpStanding::Answers(facts.clone()),
            Err(why) => HttpStanding::Fails(why.to_string()),
        });
        listening
    }

    fn try_listen(&self) -> Result<(HttpListener, HttpFacts), HttpError> {
        let address = self.address;
        let tokens = ApiTokens::read_or_make(&self.state_dir).map_err(|why| HttpError::Token { address, why })?;
        let bound = StdListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = bound.map_err(|why| HttpError::Bind { address, why })?;
        let fingerprint = self.tls.as_ref().map(|(_, fingerprint)| fingerprint.clone());
        Ok((HttpListener { listener, tokens }, HttpFacts { address, fingerprint }))
    }

    /// Serves until the runtime ends. To be called within one.
    pub async fn serve(&self, listener: HttpListener, api: &Api) -> io::Result<Infallible> {
        let HttpListener { listener, tokens } = listener;
        let listener = TcpListener::from_std(listener)?;
        let tls = self.tls.as_ref().map(|(tls, _)| tls.clone());
        let gate = Gatekeeper::Tokens(HttpGate { tokens, tls: tls.is_some() });
        let door = Arc::new(Door { gate, router: TowerToHyperService::new(api.everyone.clone()), tls });
        let connections = Connections::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => connections.admit(|place| Arc::clone(&door).open(stream, place)),
                Err(why) => cannot_accept("--http", &why).await,
            }
        }
    }
}

/// A socket that lets in only who may read, with the same bounds.
pub(super) async fn serve_readers(listener: UnixListener, api: &Api) -> io::Result<Infallible> {
    let router = TowerToHyperService::new(api.everyone.clone());
    let door = Arc::new(Door { gate: Gatekeeper::Readers, router, tls: None });
    let connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.admit(|place| {
                let talk = Arc::clone(&door).talk(stream, None, place);
                async move { say_ended("--socket-group", talk.await) }
            }),
            Err(why) => cannot_accept("--socket-group", &why).await,
        }
    }
}

async fn cannot_accept(option: &str, why: &io::Error) {
    tracing::warn!("{option} cannot accept: {why}");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn say_ended(option: &str, ended: hyper::Result<()>) {
    if let Err(why) = ended {
        tracing::debug!("a connection to {option} ended: {why}");
    }
}

/// What all connections share.
struct Door {
    gate: Gatekeeper,
    router: TowerToHyperService<Router>,
    tls: Option<TlsAcceptor>,
}

impl Door {
    /// One connection, to its end.
    async fn open(self: Arc<Self>, stream: TcpStream, place: ConnectionPlace) {
        let Ok(local) = stream.local_addr() else { return };
        let _ = stream.set_nodelay(true);
        // What the kernel took of an answer would be kept for as long as the client likes.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(TAKEN_WITHIN));
        let ended = match self.tls.clone() {
            None => self.talk(stream, Some(local), place).await,
            Some(tls) => match timeout(HEAD_WITHIN, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.talk(stream, Some(local), place).await,
                Ok(Err(why)) => return tracing::debug!("a TLS handshake with --http failed: {why}"),
                Err(_) => return,
            },
        };
        say_ended("--http", ended);
    }

    async fn talk<S>(self: Arc<Self>, stream: S, local: Option<SocketAddr>, place: ConnectionPlace) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = Arc::new(place);
        let service = service_fn(move |request: Request<Incoming>| {
            let (door, place) = (Arc::clone(&self), Arc::clone(&place));
            async move { Ok::<_, Infallible>(door.answer(request, local, &place).await) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
        server.max_buf_size(HEAD_BYTES).max_headers(HEADERS);
        let stream = TakenWithin::new(stream, TAKEN_WITHIN);
        server.serve_connection(TokioIo::new(stream), service).await
    }

    async fn answer(&self, request: Request<Incoming>, local: Option<SocketAddr>, place: &ConnectionPlace) -> Response {
        let mut response = self.ask(request, local, place).await.unwrap_or_else(IntoResponse::into_response);
        gate::dress(response.status(), response.headers_mut());
        response
    }

    async fn ask(
        &self,
        request: Request<Incoming>,
        local: Option<SocketAddr>,
        place: &ConnectionPlace,
    ) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let body = match self.gate.check(&parts, local)? {
            Caller::Anyone => match page::page(parts.uri.path()) {
                Some(page) => return Ok(page),
                None => Body::empty(),
            },
            Caller::Known if !place.know() => {
                return Ok(last(Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many connections are open; close some",
                )));
            }
            Caller::Known if gate::reads(&parts.method) => Body::empty(),
            Caller::Known if content::comes_in_parts(&parts) => Body::new(body),
            Caller::Known => whole(body).await?,
        };
        let answered = self.router.call(Request::from_parts(parts, body)).await;
        Ok(answered.unwrap_or_else(|never| match never {}))
    }
}

/// The body of a request, once it is here: no more of it than the bound is ever kept (P9).
async fn whole<B>(mut body: B) -> Result<Body, Refusal>
where
    B: hyper::body::Body<Data = Bytes, Error: Display> + Unpin,
{
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(Refusal::too_large());
    }
    let read = async {
        // One buffer: a chunk may be a single byte that keeps far more than itself.
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|why| Refusal::malformed(format!("the body cannot be read: {why}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > BODY_BYTES - bytes.len() {
                return Err(Refusal::too_large());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Body::from(bytes.freeze()))
    };
    let too_late = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time; send it again");
    timeout(BODY_WITHIN, read).await.unwrap_or_else(|_| Err(too_late()))
}

/// The connection ends with it.
fn last(refusal: Refusal) -> Response {
    let mut response = refusal.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use hyper::body::{Frame, SizeHint};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    /// A byte that keeps more than itself, as a chunk of what was read does.
    struct Piece(Arc<AtomicUsize>, Vec<u8>);

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }

    impl Drop for Piece {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[derive(Default)]
    struct Pieces {
        left: usize,
        each: usize,
        declared: Option<u64>,
        taken: usize,
        kept: Arc<AtomicUsize>,
        most_kept: usize,
    }

    impl hyper::body::Body for &mut Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let pieces = &mut **self.get_mut();
            if pieces.left == 0 {
                return Poll::Ready(None);
            }
            pieces.left -= 1;
            pieces.taken += 1;
            pieces.most_kept = pieces.most_kept.max(pieces.kept.fetch_add(1, Ordering::Relaxed) + 1);
            let piece = Piece(Arc::clone(&pieces.kept), vec![b'x'; pieces.each]);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
        }

        fn size_hint(&self) -> SizeHint {
            self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    #[tokio::test]
    async fn a_body_is_read_into_one_buffer_and_no_chunk_is_kept() {
        let mut pieces = Pieces { left: 5000, each: 1, ..Pieces::default() };
        let body = whole(&mut pieces).await.unwrap_or_else(|refusal| panic!("{}", refusal.text()));
        assert_eq!(to_bytes(body, usize::MAX).await.unwrap(), [b'x'; 5000][..]);
        assert_eq!((pieces.most_kept, pieces.taken), (1, 5000));
        let mut full = Pieces { left: 2, each: BODY_BYTES / 2, declared: Some(BODY_BYTES as u64), ..Pieces::default() };
        assert!(whole(&mut full).await.is_ok(), "as much as is allowed");
    }

    #[tokio::test]
    async fn a_body_over_the_bound_is_refused_before_it_is_read_or_at_the_byte_that_breaks_it() {
        let code = |read: Result<Body, Refusal>| read.map_or_else(|refusal| refusal.status().as_u16(), |_| 200);
        let mut declared = Pieces { left: 9, each: 1, declared: Some(BODY_BYTES as u64 + 1), ..Pieces::default() };
        assert_eq!((code(whole(&mut declared).await), declared.taken), (413, 0));
        let mut endless = Pieces { left: usize::MAX, each: BODY_BYTES / 4, ..Pieces::default() };
        assert_eq!((code(whole(&mut endless).await), endless.taken), (413, 5));
    }
}
