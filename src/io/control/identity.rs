//! The one request that hands out what makes this machine a member, for `dirsync identity export`.
//!
//! It is answered on the Unix socket alone, to this machine's owner and root, and must be on no
//! other listener: so it is no row of the table, not below the API's prefixes, and in no
//! description. Its answer holds the secret and the device key, and nothing may log it.
//! Deliberately not here: the form (`io/identity.rs`), and its encryption, which `dirsync` does.

use super::answer::{Answer, ApiState, Refusal, blocking};
use super::{Request, SecretPlace};
use crate::io::identity::{EXPORTED_META, ExportText, ExportedMember};
use crate::io::store::secret::{Secret, credentials};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;

/// Where it is found.
pub(crate) const EXPORT: &str = "/internal/identity/export";

pub(super) fn routes() -> Router<ApiState> {
    Router::new().route(EXPORT, post(export))
}

async fn export(State(shared): State<ApiState>) -> Answer<ExportText> {
    let file = match &shared.about.secret {
        SecretPlace::Own => shared.about.state_dir.join("secret"),
        SecretPlace::Named(file) => file.clone(),
        SecretPlace::Open => {
            return Err(Refusal::malformed(
                "with --open everyone is in the group, and there is no membership to export",
            ));
        }
    };
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let ask = |answer| Request::Meta { keys: &EXPORTED_META, answer };
    let values = shared.handle.ask(ask).await.ok_or_else(Refusal::busy)?;
    // As it is now: another one may have been handed over since the start.
    let read = move || Secret::read(&file, credentials().as_deref()).map_err(io::Error::other);
    let secret = blocking(read).await?;
    let known: BTreeMap<_, _> = EXPORTED_META.into_iter().zip(values).collect();
    let meta = |key: &str| Ok::<_, Infallible>(known.get(key).cloned().flatten());
    let member = ExportedMember::gather(secret, meta, Some(status.name));
    Ok(Json(member.map_err(|why| Refusal::failed(format!("the membership cannot be exported: {why}")))?.to_text()))
}
