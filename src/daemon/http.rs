//! `--http`: listens where the options say, says so, and tries again where that fails.
//!
//! The folder is what the daemon is for: a port that another program holds, or an address that this
//! machine has not got yet, keeps nothing from syncing. Deliberately not here: what is answered,
//! and to whom (`io/control/http.rs`).

use crate::io::control::Api;
use crate::io::control::http::{HttpFacts, HttpListener, HttpServer, HttpState};
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::options::{HttpPlace, Options};
use std::io;
use std::time::Duration;

const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// `--http` of this run.
pub(super) struct OverTcp {
    server: HttpServer,
    place: HttpPlace,
    /// Why it failed last; each reason is said once.
    said: String,
}

impl OverTcp {
    pub(super) fn wanted(options: &Options, key: &DeviceKey) -> Result<Option<Self>, KeyError> {
        let Some(place) = options.http else { return Ok(None) };
        let server = HttpServer::new(place.address, place.tls.then_some(key), &options.state_dir)?;
        Ok(Some(Self { server, place, said: String::new() }))
    }

    pub(super) fn state(&self) -> HttpState {
        self.server.state()
    }

    /// Tries once, so that whoever asks after it knows; then a thread of its own goes on.
    pub(super) fn start(mut self, api: Api) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let first = self.listen();
        let work = move || runtime.block_on(self.go_on(first, &api));
        std::thread::Builder::new().name("http".to_owned()).spawn(work)?;
        Ok(())
    }

    async fn go_on(mut self, mut listener: Option<HttpListener>, api: &Api) {
        loop {
            if let Some(listener) = listener {
                let Err(why) = self.server.serve(listener, api).await;
                tracing::warn!("--http has failed: {why}; it is tried again in {} s", AGAIN_AFTER.as_secs());
            }
            tokio::time::sleep(AGAIN_AFTER).await;
            listener = self.listen();
        }
    }

    fn listen(&mut self) -> Option<HttpListener> {
        match self.server.listen() {
            Ok((listener, facts)) => {
                self.said.clear();
                introduce(self.place, &facts);
                Some(listener)
            }
            Err(why) => {
                let why = why.to_string();
                if self.said != why {
                    tracing::warn!(
                        "{why}. Syncing goes on without it, and it is tried again every {} s",
                        AGAIN_AFTER.as_secs()
                    );
                    self.said = why;
                }
                None
            }
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
