//! `--http`: binds where the options say, and says so.
//!
//! Deliberately not here: what is answered, and to whom (`io/control/http.rs`).

use crate::io::control::HttpFacts;
use crate::io::control::http::{HttpError, HttpServer};
use crate::io::net::tls::DeviceKey;
use crate::options::{HttpPlace, Options};

pub(super) fn bind(options: &Options, key: &DeviceKey) -> Result<Option<HttpServer>, HttpError> {
    let Some(HttpPlace { address, tls }) = options.http else { return Ok(None) };
    HttpServer::bind(address, tls.then_some(key), &options.state_dir).map(Some)
}

/// Says it in the log.
pub(super) fn introduce(options: &Options, facts: Option<&HttpFacts>) {
    let (Some(place), Some(facts)) = (options.http, facts) else { return };
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
