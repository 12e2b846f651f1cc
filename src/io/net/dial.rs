//! Who is dialled, and when: members heard by presence, and the addresses given by `--peer`.
//!
//! One task a member dials those of its addresses that are due, side by side (`members`). Of two
//! devices that hear each other the lesser dials; the greater waits a moment first.

use crate::io::net::challenge::FoundMember;
use crate::io::net::greeting::GreetError;
use crate::io::net::hub::Hub;
use crate::io::net::members::{FORGET_AFTER, Unreached};
use crate::io::net::presence::jittered;
use crate::model::DeviceId;
use crate::wire::packet::PROTOCOL;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Addresses of one name that are dialled.
const MAX_NAMED: usize = 16;

/// A member was heard: its task is told, or begun; also for one that says that it has our own
/// id, to see its proof.
pub fn hear(hub: &Arc<Hub>, member: &FoundMember) {
    if member.protocol != PROTOCOL {
        return hub.complain_of(member.address, &member.name, &GreetError::OtherProtocol(member.protocol));
    }
    if let Some(tag) = member.former {
        hub.note_announced(member.address, tag);
    }
    if let Some(changed) = hub.members.hear(member, hub.times()) {
        tokio::spawn(keep_member(Arc::clone(hub), member.device, changed));
    }
}

async fn keep_member(hub: Arc<Hub>, device: DeviceId, changed: Arc<Notify>) {
    let gives_precedence = hub.device() > device;
    loop {
        if gives_precedence && !hub.is_linked(device) {
            let _ = tokio::time::timeout(hub.times().precedence, hub.until_linked(device)).await;
        }
        if hub.is_linked(device) {
            hub.until_unlinked(device).await;
            hub.members.left(device, hub.times());
            continue;
        }
        let Some((due, next)) = hub.members.due(device) else { return };
        for at in due {
            tokio::spawn(dial_member(Arc::clone(&hub), device, at));
        }
        let rest = next.map_or(FORGET_AFTER, |next| next.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = changed.notified() => {}
            () = hub.until_linked(device) => {}
        }
    }
}

async fn dial_member(hub: Arc<Hub>, device: DeviceId, at: SocketAddr) {
    let opened = hub.open(at).await;
    let led_to_it = match &opened {
        Ok((link, _)) => link.device == device,
        Err(GreetError::NotNeeded(linked)) => *linked == device,
        Err(error) => {
            hub.complain(at, error);
            false
        }
    };
    let (now, times) = (Instant::now(), hub.times());
    hub.members.with(
        device,
        at,
        |address| if led_to_it { address.proved(now, times) } else { address.failed(now, times) },
    );
    if let Ok((link, ends)) = opened {
        hub.live(&link, ends).await;
    }
}

/// Keeps a link to an address that a person named, for as long as the daemon runs.
pub async fn keep_peer(hub: Arc<Hub>, peer: String) {
    let mut pause = hub.times().retry_min;
    loop {
        match dial_name(&hub, &peer).await {
            Ok(device) => {
                hub.unreached.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
                hub.until_unlinked(device).await;
                pause = hub.times().retry_min;
            }
            Err(error) => {
                hub.complain_of_peer(&peer, &error);
                let unreached = Unreached { address: peer.clone(), reason: error.reason(), text: error.to_string() };
                hub.unreached.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.clone(), unreached);
            }
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(hub.times().retry_max);
    }
}

/// Dials all addresses of the name side by side. Of what went wrong, that is said which says most:
/// a machine that answers and is no member before an address that does not answer.
async fn dial_name(hub: &Arc<Hub>, peer: &str) -> Result<DeviceId, GreetError> {
    let addresses = addresses_of(peer).await.map_err(GreetError::NoName)?;
    let mut dials = JoinSet::new();
    for at in addresses {
        let hub = Arc::clone(hub);
        dials.spawn(async move { hub.open(at).await });
    }
    let (mut linked, mut trouble) = (None, GreetError::Unreachable(std::io::ErrorKind::NotFound.into()));
    while let Some(dialled) = dials.join_next().await {
        match dialled {
            Ok(Ok((link, ends))) => {
                linked = Some(link.device);
                let hub = Arc::clone(hub);
                tokio::spawn(async move { hub.live(&link, ends).await });
            }
            Ok(Err(GreetError::NotNeeded(device))) => linked = linked.or(Some(device)),
            Ok(Err(error)) if trouble.is_ordinary() || !error.is_ordinary() => trouble = error,
            _ => {}
        }
    }
    linked.ok_or(trouble)
}

/// Each address once. A zone (`[fe80::1%eth0]:6000`) is the resolver's to understand.
pub(super) async fn addresses_of(peer: &str) -> std::io::Result<Vec<SocketAddr>> {
    let (host, port) = peer.rsplit_once(':').ok_or(std::io::ErrorKind::InvalidInput)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port: u16 = port.parse().map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let mut addresses = Vec::new();
    for address in tokio::net::lookup_host((host, port)).await? {
        if addresses.len() < MAX_NAMED && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_in_brackets_with_a_zone_is_resolved() {
        assert_eq!(addresses_of("[::1]:6000").await.unwrap(), ["[::1]:6000".parse().unwrap()]);
        assert_eq!(addresses_of("127.0.0.1:6000").await.unwrap(), ["127.0.0.1:6000".parse().unwrap()]);
        let SocketAddr::V6(zoned) = addresses_of("[fe80::1%lo]:6000").await.unwrap()[0] else { panic!("not IPv6") };
        assert_eq!((zoned.scope_id(), zoned.port()), (1, 6000), "loopback is interface 1");
    }
}
