//! Who is dialled, and when: members heard by presence, and the addresses given by `--peer`.
//!
//! One task a target. It dials, waits while there is a link, and tries again with a jittered back-off, or at once
//! when the member is heard. Of two devices that hear each other the lesser dials; the greater waits a moment first.

use super::greet::GreetError;
use super::link::Times;
use super::net::Hub;
use super::presence::{Heard, jittered};
use crate::model::DeviceId;
use crate::wire::packet::PROTOCOL;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A member not heard for this long is not dialled any more.
const FORGET_AFTER: Duration = Duration::from_mins(1);
const MAX_MEMBERS: usize = 1024;

/// Where a member takes links, and when it said so last.
type Address = (SocketAddr, Instant);

/// The members heard, each with the task that dials it.
#[derive(Default)]
pub struct Members {
    heard: Mutex<HashMap<DeviceId, watch::Sender<Address>>>,
}

impl Members {
    /// A member was heard: its task is told, or begun; also for one that says that it has our own id, to see its proof.
    pub fn hear(&self, hub: &Arc<Hub>, member: &Heard) {
        if member.protocol != PROTOCOL {
            return hub.complain(member.address, &GreetError::OtherProtocol(member.protocol));
        }
        let address = (member.address, Instant::now());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let room = heard.len() < MAX_MEMBERS;
        match heard.entry(member.device) {
            Entry::Occupied(task) => {
                task.get().send_replace(address);
            }
            Entry::Vacant(free) if room => {
                let (sender, receiver) = watch::channel(address);
                free.insert(sender);
                tokio::spawn(keep_member(Arc::clone(hub), member.device, receiver));
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Forgets a member not heard for long; `false`: it was heard just now.
    fn forget(&self, device: DeviceId) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = heard.get(&device).is_none_or(|task| task.borrow().1.elapsed() >= FORGET_AFTER);
        if is_old {
            heard.remove(&device);
        }
        is_old
    }
}

/// Grows from try to try, up to a limit.
struct Backoff<'a> {
    times: &'a Times,
    next: Duration,
}

impl<'a> Backoff<'a> {
    fn new(times: &'a Times) -> Self {
        Self { times, next: times.retry_min }
    }

    fn reset(&mut self) {
        self.next = self.times.retry_min;
    }

    fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.times.retry_max);
        jittered(now)
    }
}

async fn keep_member(hub: Arc<Hub>, device: DeviceId, mut address: watch::Receiver<Address>) {
    let mut backoff = Backoff::new(hub.times());
    let gives_precedence = hub.device() > device;
    loop {
        if gives_precedence && !hub.is_linked(device) {
            let _ = tokio::time::timeout(hub.times().precedence, hub.until_linked(device)).await;
        }
        if hub.is_linked(device) {
            hub.until_unlinked(device).await;
            backoff.reset();
            continue;
        }
        let (to, heard) = *address.borrow_and_update();
        if heard.elapsed() >= FORGET_AFTER && hub.members.forget(device) {
            return;
        }
        match hub.dial(to).await {
            Ok(()) => backoff.reset(),
            Err(error) => hub.complain(to, &error),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            Ok(()) = address.changed() => {}
        }
    }
}

/// Keeps a link to an address that a person named, for as long as the daemon runs.
pub async fn keep_peer(hub: Arc<Hub>, peer: String) {
    let mut backoff = Backoff::new(hub.times());
    loop {
        match dial_name(&hub, &peer).await {
            Ok(()) => backoff.reset(),
            Err(GreetError::NotNeeded(device)) => {
                hub.until_unlinked(device).await;
                backoff.reset();
            }
            Err(error) => hub.complain_of_peer(&peer, &error),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Tries each address of the name; the last one's trouble is told.
async fn dial_name(hub: &Arc<Hub>, peer: &str) -> Result<(), GreetError> {
    let addresses = tokio::net::lookup_host(peer).await.map_err(GreetError::Unreachable)?;
    let mut trouble = GreetError::Unreachable(std::io::ErrorKind::NotFound.into());
    for address in addresses {
        match hub.dial(address).await {
            Err(error @ (GreetError::Unreachable(_) | GreetError::Lost(_))) => trouble = error,
            other => return other,
        }
    }
    Err(trouble)
}
