//! The routes by which a machine is removed from the group, and the group gets another secret.
//!
//! Deliberately not here: what follows from that (`engine/peers/membership.rs`).

use super::answer::{Answer, ApiState, Ordered, Refusal};
use super::{About, Request, SecretPlace};
use crate::engine::{DeviceStatus, Event, FreshSecret, Status};
use crate::model::{DeviceId, text};
use crate::views::membership::RotatedView;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
pub(super) struct RemoveQuery {
    /// Its name, or the first digits of its id.
    device: String,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct RotateQuery {
    #[serde(default)]
    dry_run: bool,
}

/// Answers once it is durable here; the daemon then begins anew.
pub(super) async fn remove(State(shared): State<ApiState>, query: Ordered<RemoveQuery>) -> Answer<RotatedView> {
    let Json(RemoveQuery { device: named, dry_run }) = query?;
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    let chosen = choose(&status, &named).map_err(Refusal::unknown)?.clone();
    rotated(&shared, &status, Some(&chosen), dry_run).await
}

/// The same without removing anyone.
pub(super) async fn rotate(State(shared): State<ApiState>, query: Ordered<RotateQuery>) -> Answer<RotatedView> {
    let Json(RotateQuery { dry_run }) = query?;
    if shared.about.secret == SecretPlace::Open {
        return Err(Refusal::malformed("with --open everyone is in the group: there is no secret to replace"));
    }
    let status = shared.handle.ask(Request::Status).await.ok_or_else(Refusal::busy)?;
    rotated(&shared, &status, None, dry_run).await
}

async fn rotated(
    shared: &ApiState,
    status: &Status,
    removed: Option<&DeviceStatus>,
    dry_run: bool,
) -> Answer<RotatedView> {
    if let Some(why) = refusal(&shared.about) {
        return Err(Refusal::malformed(why));
    }
    let rotates = shared.about.secret != SecretPlace::Open;
    if let Some(known) = removed.filter(|known| known.linked && !rotates) {
        return Err(Refusal::malformed(format!(
            "with --open everyone is in the group, so that {} can only be forgotten, and it is linked now: stop it \
             first",
            shown(known)
        )));
    }
    let stays = |known: &&DeviceStatus| removed.is_none_or(|removed| removed.device != known.device);
    let machines = status.devices.iter().filter(|known| known.member.is_some()).filter(stays);
    let (follow, behind): (Vec<_>, Vec<_>) = machines.partition(|known| known.follows_rotations);
    let view = RotatedView {
        dry_run,
        device: removed.map(|known| known.device),
        name: removed.map(shown),
        rotates,
        machines: follow.into_iter().filter(|_| rotates).map(shown).collect(),
        left_behind: behind.into_iter().filter(|_| rotates).map(shown).collect(),
    };
    if !dry_run {
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|why| Refusal::failed(format!("no random numbers: {why}")))?;
        let remove = removed.map(|known| known.device);
        let event = Event::Rotate { remove, fresh: FreshSecret(fresh) };
        shared.handle.ask(|answer| Request::Do { event, answer }).await.ok_or_else(Refusal::busy)?;
    }
    Ok(Json(view))
}

fn shown(known: &DeviceStatus) -> String {
    text::escape(known.name.as_bytes())
}

fn refusal(about: &About) -> Option<&'static str> {
    (!about.capability.writes())
        .then_some("this machine may only read, and what it says is taken by nobody: do it on a machine that may write")
}

/// Those of that name; where none is called so, those whose id begins so.
pub(super) fn called<'a, T>(all: &'a [T], named: &str, names: impl Fn(&T) -> (&str, DeviceId)) -> Vec<&'a T> {
    let chosen: Vec<_> = all.iter().filter(|one| names(one).0 == named).collect();
    if !chosen.is_empty() {
        return chosen;
    }
    let begins = |one: &&T| named.len() >= 4 && names(one).1.to_string().starts_with(named);
    all.iter().filter(begins).collect()
}

/// The one machine of that name, or whose id begins so.
fn choose<'a>(status: &'a Status, named: &str) -> Result<&'a DeviceStatus, String> {
    let chosen = called(&status.devices, named, |known| (&known.name, known.device));
    let is_this = status.name == named || (named.len() >= 4 && status.device.to_string().starts_with(named));
    match chosen[..] {
        [] if is_this => Err("that is this machine: to take it out of the group, run 'dirsync leave'".to_owned()),
        [] => Err(format!("no machine '{}' is on the list; 'dirsync peers' shows it", text::escape(named.as_bytes()))),
        [one] => Ok(one),
        _ => Err("several machines are called so; give the first digits of the id, as 'dirsync peers' shows it".into()),
    }
}
