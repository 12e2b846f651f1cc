//! The routes of invitations. Deliberately not here: who is let in (`io/net/invitations.rs`).

use super::answer::{Answer, ApiState, Ordered, Refusal};
use crate::io::net::challenge::addresses_for_others;
use crate::io::net::invitations::{MAX_LIFETIME, MAX_USES};
use crate::model::{Capability, InvitationCode};
use crate::views::invite::{InvitationsView, InviteView, OpenInvitationView};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;
use utoipa::ToSchema;

const DEFAULT_SECONDS: u64 = 600;
/// What a daemon listens on for presence if nobody says otherwise.
const USUAL_BROADCAST_PORT: u16 = 5000;

#[derive(Deserialize, ToSchema)]
pub(super) struct InviteQuery {
    uses: Option<u32>,
    seconds: Option<u64>,
    /// Those who join may only read.
    read_only: Option<bool>,
}

pub(super) async fn invite(State(shared): State<ApiState>, query: Ordered<InviteQuery>) -> Answer<InviteView> {
    let Json(InviteQuery { uses, seconds, read_only }) = query?;
    let capability = if read_only.unwrap_or(false) { Capability::ReadOnly } else { Capability::Write };
    let (uses, seconds) = (uses.unwrap_or(1), seconds.unwrap_or(DEFAULT_SECONDS));
    if !(1..=MAX_USES).contains(&uses) {
        return Err(Refusal::malformed(format!("an invitation is for 1 to {MAX_USES} machines, not {uses}")));
    }
    if !(1..=MAX_LIFETIME.as_secs()).contains(&seconds) {
        return Err(Refusal::malformed("an invitation is open for at most 24 hours"));
    }
    let code = shared.world.invite(uses, Duration::from_secs(seconds), capability).map_err(Refusal::failed)?;
    let port = shared.about.listen_port;
    Ok(Json(InviteView {
        command: command(&code, shared.about.broadcast_port),
        code: code.to_string(),
        uses,
        read_only: !capability.writes(),
        seconds_left: seconds,
        addresses: addresses_for_others().into_iter().map(|ip| SocketAddr::new(ip, port).to_string()).collect(),
    }))
}

fn command(code: &InvitationCode, broadcast_port: u16) -> String {
    match broadcast_port {
        USUAL_BROADCAST_PORT => format!("dirsyncd DIR --join {code}"),
        other => format!("dirsyncd DIR --broadcast-port {other} --join {code}"),
    }
}

pub(super) async fn list(State(shared): State<ApiState>) -> Answer<InvitationsView> {
    Ok(Json(open(&shared)))
}

/// Answers with what was open.
pub(super) async fn cancel(State(shared): State<ApiState>) -> Answer<InvitationsView> {
    let open = open(&shared);
    shared.world.cancel_invitations();
    Ok(Json(open))
}

fn open(shared: &ApiState) -> InvitationsView {
    let view =
        |(uses_left, ends_in): (u32, Duration)| OpenInvitationView { uses_left, seconds_left: ends_in.as_secs() };
    InvitationsView { invitations: shared.world.invitations().into_iter().map(view).collect() }
}
