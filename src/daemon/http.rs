//! `--http` and `--socket-group`: listens where the options say, says so, and tries again where
//! that fails.
//!
//! The folder is what the daemon is for: a port that another program holds, an address that this
//! machine has not got yet, or a group that is not known keeps nothing from syncing. Deliberately
//! not here: what is answered, and to whom (`io/control/http.rs`).

use crate::io::control::Api;
use crate::io::control::group_socket::GroupSocket;
use crate::io::control::http::{HttpFacts, HttpListener, HttpServer, HttpState};
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::options::{HttpPlace, Options};
use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener;
use std::time::Duration;

const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Where this run is to be answered beside the owner's socket.
pub(super) struct OtherWays {
    tcp: Option<OverTcp>,
    group: Option<GroupSocket>,
}

impl OtherWays {
    pub(super) fn wanted(options: &Options, key: &DeviceKey) -> Result<Self, KeyError> {
        let tcp = |place: HttpPlace| {
            let server = HttpServer::new(place.address, place.tls.then_some(key), &options.state_dir)?;
            Ok::<_, KeyError>(OverTcp { server, place })
        };
        let group = options.socket_group.as_ref();
        Ok(Self {
            tcp: options.http.map(tcp).transpose()?,
            group: group.map(|wanted| GroupSocket::new(&wanted.group, wanted.runtime_dir.as_deref())),
        })
    }

    pub(super) fn http(&self) -> HttpState {
        self.tcp.as_ref().map(|tcp| tcp.server.state()).unwrap_or_default()
    }

    pub(super) fn start(self, api: &Api) -> io::Result<()> {
        self.tcp.map_or(Ok(()), |tcp| start(tcp, api.clone()))?;
        self.group.map_or(Ok(()), |group| start(group, api.clone()))
    }
}

struct OverTcp {
    server: HttpServer,
    place: HttpPlace,
}

/// What may fail without harm, and is tried again.
trait OtherWay: Send + 'static {
    type Listener: Send + 'static;
    const OPTION: &'static str;
    const THREAD: &'static str;

    /// Says it in the log, if it can be had.
    fn listen(&self) -> Result<Self::Listener, String>;
    async fn serve(&self, listener: Self::Listener, api: &Api) -> io::Result<Infallible>;
}

impl OtherWay for OverTcp {
    type Listener = HttpListener;
    const OPTION: &'static str = "--http";
    const THREAD: &'static str = "http";

    fn listen(&self) -> Result<HttpListener, String> {
        let (listener, facts) = self.server.listen().map_err(|why| why.to_string())?;
        introduce(self.place, &facts);
        Ok(listener)
    }

    async fn serve(&self, listener: HttpListener, api: &Api) -> io::Result<Infallible> {
        self.server.serve(listener, api).await
    }
}

impl OtherWay for GroupSocket {
    type Listener = UnixListener;
    const OPTION: &'static str = "--socket-group";
    const THREAD: &'static str = "group";

    fn listen(&self) -> Result<UnixListener, String> {
        let listener = self.listen().map_err(|why| why.to_string())?;
        tracing::info!("the API also answers what reads at '{}', to a group", self.path());
        Ok(listener)
    }

    async fn serve(&self, listener: UnixListener, api: &Api) -> io::Result<Infallible> {
        self.serve(listener, api).await
    }
}

/// Tries once, so that whoever asks after it knows; then a thread of its own goes on.
fn start<W: OtherWay>(way: W, api: Api) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut said = String::new();
    let first = listen(&way, &mut said);
    let work = move || runtime.block_on(go_on(way, first, said, &api));
    std::thread::Builder::new().name(W::THREAD.to_owned()).spawn(work)?;
    Ok(())
}

async fn go_on<W: OtherWay>(way: W, mut listener: Option<W::Listener>, mut said: String, api: &Api) {
    loop {
        if let Some(listener) = listener {
            let Err(why) = way.serve(listener, api).await;
            tracing::warn!("{} has failed: {why}; it is tried again in {} s", W::OPTION, AGAIN_AFTER.as_secs());
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        listener = listen(&way, &mut said);
    }
}

/// `said`: why it failed last; each reason is said once.
fn listen<W: OtherWay>(way: &W, said: &mut String) -> Option<W::Listener> {
    match way.listen() {
        Ok(listener) => {
            said.clear();
            Some(listener)
        }
        Err(why) => {
            if *said != why {
                let again = AGAIN_AFTER.as_secs();
                tracing::warn!("{why}. Syncing goes on without it, and it is tried again every {again} s");
                *said = why;
            }
            None
        }
    }
}

fn introduce(place: HttpPlace, facts: &HttpFacts) {
    let certificate = facts.fingerprint.as_ref().map(|print| format!(", with the certificate of SHA-256 {print}"));
    tracing::info!(
        "the API also answers at {}{}; 'dirsync web' shows the token",
        facts.url(),
        certificate.unwrap_or_default()
    );
    if place.is_open_to_read() {
        tracing::warn!(
            "--http {} can be reached from other machines, and whoever is on the way reads tokens and answers; add \
             --http-tls, or give the port alone",
            facts.address
        );
    }
}
