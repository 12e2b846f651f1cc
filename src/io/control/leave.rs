//! The route by which this machine leaves its group. Deliberately not here: how it leaves
//! (`daemon/leaving.rs`).

use super::answer::{Answer, ApiState, Ordered, Refusal};
use super::view::state;
use super::{About, Request, SecretPlace};
use crate::engine::{PeerStatus, Status};
use crate::humanize::listed;
use crate::model::text;
use crate::views::condition;
use crate::views::leave::LeaveView;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
pub(super) struct LeaveQuery {
    #[serde(default)]
    dry_run: bool,
}

/// Answers once it is decided durably; the daemon then ends.
pub(super) async fn leave(State(shared): State<ApiState>, query: Ordered<LeaveQuery>) -> Answer<LeaveView> {
    let Json(LeaveQuery { dry_run }) = query?;
    if let Some(why) = refusal(&shared.about) {
        return Err(Refusal::malformed(why));
    }
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let mut machines: Vec<_> = status.devices.iter().map(|known| text::escape(known.name.as_bytes())).collect();
    machines.sort();
    let view = LeaveView { directory: shown(&shared.about.directory), machines, undone: undone(&status), dry_run };
    if !dry_run {
        shared.handle.ask(Request::Leave).await.ok_or_else(Refusal::busy)?.map_err(Refusal::failed)?;
    }
    Ok(Json(view))
}

/// A secret that is not this machine's own cannot be forgotten by it.
fn refusal(about: &About) -> Option<String> {
    let what = match &about.secret {
        SecretPlace::Own => return None,
        SecretPlace::Named(file) => {
            format!(
                "its secret is the file '{}', and not this machine's to forget: leave out --secret-file",
                shown(file)
            )
        }
        SecretPlace::Open => {
            "with --open everyone is in the group, and nothing is there to forget: leave out --open".to_owned()
        }
    };
    let state = shown(&about.state_dir);
    Some(format!(
        "{what} where the daemon is started, stop it, and move its state directory '{state}' \
         away; the files stay"
    ))
}

/// What is under way, waits for a person, or is perhaps on no other machine.
fn undone(status: &Status) -> Vec<String> {
    let mut undone: Vec<_> =
        status.halted.iter().map(|why| format!("this machine has stopped syncing: {why}")).collect();
    undone.extend(condition::words(&status.condition).into_iter().map(|word| format!("this machine: {word}")));
    if status.condition.local + status.condition.not_installed > 0 {
        undone.extend(condition::apart(&status.condition).map(|apart| format!("this machine: {apart}")));
    }
    if undone.is_empty() && !status.idle {
        undone.push("this machine is busy".to_owned());
    }
    let holds_all = |peer: &PeerStatus| peer.equal && peer.pending == 0;
    if status.peers.iter().any(holds_all) {
        return undone;
    }
    let late =
        |peer: &PeerStatus| format!("{} ({})", text::escape(peer.name.as_bytes()), state(peer, &status.condition));
    match &status.peers[..] {
        [] if status.devices.is_empty() => {}
        [] => undone.push("no other machine is linked now: perhaps none holds all that is here".to_owned()),
        peers => {
            let peers: Vec<_> = peers.iter().map(late).collect();
            undone.push(format!("no linked machine is known to hold all that is here: {}", listed(&peers)));
        }
    }
    undone
}

fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::map_index::MapIndex;
    use crate::engine::{Config, DeviceStatus, Engine, OnConflict};
    use crate::model::DeviceId;
    use crate::wire::condition::Condition;

    fn status() -> Status {
        let config = Config { device: DeviceId([9; 32]), name: "a".into(), on_conflict: OnConflict::Newest };
        let known = DeviceStatus {
            device: DeviceId([1; 32]),
            name: "nas".into(),
            linked: false,
            seen_ns: None,
            equal_ns: None,
            member: None,
            follows_rotations: true,
        };
        Status {
            idle: true,
            condition: Condition::default(),
            devices: vec![known],
            ..Engine::new(config, MapIndex::new()).status()
        }
    }

    fn nas(equal: bool, pending: u64) -> PeerStatus {
        PeerStatus {
            device: DeviceId([1; 32]),
            name: "nas".into(),
            in_sync: false,
            equal,
            condition: Some(Condition::default()),
            pending,
            clock_ahead_ns: None,
            invalid: None,
        }
    }

    #[test]
    fn what_is_perhaps_on_no_other_machine_is_named_before_this_one_leaves() {
        let alone = status();
        assert_eq!(undone(&alone), ["no other machine is linked now: perhaps none holds all that is here"]);
        assert_eq!(undone(&Status { devices: Vec::new(), ..alone }), [""; 0], "it was never linked");
        let late = Status { peers: vec![nas(true, 2)], ..status() };
        assert_eq!(undone(&late), ["no linked machine is known to hold all that is here: nas (2 paths to come)"]);
        let one_holds_all = Status { peers: vec![nas(false, 0), nas(true, 0)], ..status() };
        assert_eq!(undone(&one_holds_all), [""; 0]);
        let condition = Condition { held_deletions: 3, missing: 3, ..Condition::default() };
        let holds = Status { peers: vec![nas(true, 0)], condition, idle: false, ..status() };
        assert_eq!(undone(&holds), ["this machine: holds 3 deletions"]);
        let condition = Condition { local: 2, ..Condition::default() };
        let apart = Status { peers: vec![nas(true, 0)], condition, ..status() };
        assert_eq!(undone(&apart), ["this machine: 2 local"], "they were announced to nobody");
        let busy = Status { peers: vec![nas(true, 0)], idle: false, ..status() };
        assert_eq!(undone(&busy), ["this machine is busy"]);
    }
}
