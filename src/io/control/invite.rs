//! The routes of invitations. Deliberately not here: who is let in (`io/net/invitations.rs`).

use super::answer::{Answer, ApiState, Ordered, Refusal};
use crate::io::net::challenge::addresses_for_others;
use crate::io::net::invitations::{MAX_LIFETIME, MAX_USES};
use crate::model::{Capability, InvitationCode};
use crate::views::invite::{InvitationsView, InviteView, OpenInvitationView};
use axum::Json;
use axum::extract::State;
use qrcodegen::{QrCode, QrCodeEcc};
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
    let command = command(&code, shared.about.broadcast_port);
    Ok(Json(InviteView {
        qr: qr_rows(&command),
        command,
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

/// Empty where the text is too long for a code.
fn qr_rows(text: &str) -> Vec<String> {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Medium) else { return Vec::new() };
    let row = |y| (0..code.size()).map(|x| if code.get_module(x, y) { '#' } else { '.' }).collect();
    (0..code.size()).map(row).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of version 2 (25 modules) and up; the pattern of three corners, the lines of alternating
    /// modules between them, and the one module that is always dark (ISO/IEC 18004).
    #[test]
    fn the_command_is_a_qr_code_with_the_patterns_that_a_camera_looks_for() {
        let rows = qr_rows("dirsyncd DIR --broadcast-port 65535 --join 0000-0000-0000-0000-0000");
        let size = rows.len();
        assert!(size >= 25 && (size - 17).is_multiple_of(4), "{size}");
        assert!(rows.iter().all(|row| row.len() == size && row.chars().all(|module| "#.".contains(module))));
        let finder = ["#######.", "#.....#.", "#.###.#.", "#.###.#.", "#.###.#.", "#.....#.", "#######.", "........"];
        let dark = |x: usize, y: usize| rows[y].as_bytes()[x] == b'#';
        for (y, line) in finder.iter().enumerate() {
            for (x, module) in line.chars().enumerate() {
                for (x, y) in [(x, y), (size - 1 - x, y), (x, size - 1 - y)] {
                    assert_eq!(dark(x, y), module == '#', "{x} {y}");
                }
            }
        }
        assert!((8..size - 8).all(|at| dark(at, 6) == (at % 2 == 0) && dark(6, at) == (at % 2 == 0)));
        assert!(dark(8, size - 8));
        assert_ne!(qr_rows("another"), qr_rows("one"));
        assert_eq!(qr_rows(&"x".repeat(5000)), [""; 0], "too long for any");
    }
}
