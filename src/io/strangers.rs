//! Connections that have proved nothing yet: at most 64, and 4 an address; the oldest makes room (P9).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

const MAX_IN_ALL: usize = 64;
const MAX_AN_ADDRESS: usize = 4;

#[derive(Default)]
pub struct Strangers {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// Oldest first.
    list: VecDeque<(u64, IpAddr, AbortHandle)>,
}

/// A stranger's place; given up when it has proved itself or is gone.
pub struct Pass {
    waiting: Arc<Mutex<Waiting>>,
    number: u64,
}

impl Drop for Pass {
    fn drop(&mut self) {
        lock(&self.waiting).list.retain(|(number, ..)| *number != self.number);
    }
}

impl Strangers {
    /// Runs the greeting of a connection, which is ended when newer ones need its place.
    pub fn admit<F, G>(&self, address: IpAddr, greeting: F)
    where
        F: FnOnce(Pass) -> G,
        G: Future<Output = ()> + Send + 'static,
    {
        let mut waiting = lock(&self.waiting);
        while let Some(oldest) = waiting.to_drop(address) {
            if let Some((_, address, task)) = waiting.list.remove(oldest) {
                task.abort();
                tracing::debug!("{address} has not proved itself yet and gave way to a newer connection");
            }
        }
        waiting.next += 1;
        let number = waiting.next;
        let pass = Pass { waiting: Arc::clone(&self.waiting), number };
        let task = tokio::spawn(greeting(pass));
        waiting.list.push_back((number, address, task.abort_handle()));
    }
}

impl Waiting {
    fn to_drop(&self, address: IpAddr) -> Option<usize> {
        let same = || self.list.iter().enumerate().filter(|(_, (_, other, _))| *other == address);
        if same().count() >= MAX_AN_ADDRESS {
            return same().next().map(|(at, _)| at);
        }
        (self.list.len() >= MAX_IN_ALL).then_some(0)
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(strangers: &Strangers) -> Vec<(u64, IpAddr)> {
        lock(&strangers.waiting).list.iter().map(|(number, address, _)| (*number, *address)).collect()
    }

    async fn wait_for_ever(pass: Pass) {
        std::future::pending::<()>().await;
        drop(pass);
    }

    #[tokio::test]
    async fn the_oldest_of_an_address_gives_way() {
        let strangers = Strangers::default();
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for address in [here, there, here, here, here, here] {
            strangers.admit(address, wait_for_ever);
        }
        assert_eq!(places(&strangers), [(2, there), (3, here), (4, here), (5, here), (6, here)]);
    }

    #[tokio::test]
    async fn there_are_never_more_than_64() {
        let strangers = Strangers::default();
        for n in 0..200_u8 {
            strangers.admit(IpAddr::from([10, 0, 0, n]), wait_for_ever);
        }
        assert_eq!(places(&strangers).len(), MAX_IN_ALL);
        assert_eq!(places(&strangers)[0].1, IpAddr::from([10, 0, 0, 136]));
    }

    #[tokio::test]
    async fn a_place_is_given_back() {
        let strangers = Strangers::default();
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        strangers.admit(IpAddr::from([127, 0, 0, 1]), |pass| async move {
            drop(pass);
            let _ = done.send(());
        });
        wait.await.unwrap();
        assert!(places(&strangers).is_empty());
    }
}
