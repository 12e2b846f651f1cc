//! The connections over TCP: few, and those without a token give way to newer ones (P9).
//!
//! So who keeps connections open and says nothing, or says it slowly, keeps nobody out.
//! Deliberately not here: what a token is (`gate.rs`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// So many that have shown no token, the oldest of which make room.
const UNKNOWN: usize = 64;
/// So many that have; more are refused.
const KNOWN: usize = 128;

#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<OpenConnections>>);

#[derive(Default)]
struct OpenConnections {
    next: u64,
    /// Oldest first.
    unknown: VecDeque<(u64, AbortHandle)>,
    known: usize,
}

/// The place of one connection, given up when it ends.
pub(super) struct ConnectionPlace {
    connections: Connections,
    number: u64,
    is_known: Mutex<bool>,
}

impl Connections {
    /// Runs a connection, which is ended when newer ones need its place and it has shown no token.
    pub(super) fn admit<F, A>(&self, connection: F)
    where
        F: FnOnce(ConnectionPlace) -> A,
        A: Future<Output = ()> + Send + 'static,
    {
        let mut open = lock(&self.0);
        while open.unknown.len() >= UNKNOWN {
            if let Some((_, task)) = open.unknown.pop_front() {
                task.abort();
            }
        }
        open.next += 1;
        let number = open.next;
        let place = ConnectionPlace { connections: self.clone(), number, is_known: Mutex::default() };
        let task = tokio::spawn(connection(place));
        open.unknown.push_back((number, task.abort_handle()));
    }
}

impl ConnectionPlace {
    /// A token was shown. `false`: too many have shown one.
    pub(super) fn know(&self) -> bool {
        let mut is_known = lock(&self.is_known);
        let mut open = lock(&self.connections.0);
        if !*is_known && open.known < KNOWN {
            open.unknown.retain(|(number, _)| *number != self.number);
            open.known += 1;
            *is_known = true;
        }
        *is_known
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let is_known = *lock(&self.is_known);
        let mut open = lock(&self.connections.0);
        if is_known {
            open.known -= 1;
        } else {
            open.unknown.retain(|(number, _)| *number != self.number);
        }
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::sync::mpsc;

    fn counts(connections: &Connections) -> (usize, usize) {
        let open = lock(&connections.0);
        (open.unknown.len(), open.known)
    }

    #[tokio::test]
    async fn the_oldest_without_a_token_makes_room_and_one_with_a_token_does_not() {
        let connections = Connections::default();
        let (sender, mut places) = mpsc::unbounded_channel();
        let stay = |number: usize| {
            let sender = sender.clone();
            connections.admit(move |place| async move {
                let place = Arc::new(place);
                sender.send((number, Arc::downgrade(&place))).unwrap();
                pending::<()>().await;
                drop(place);
            });
        };
        stay(0);
        let (_, first) = places.recv().await.unwrap();
        assert!(first.upgrade().unwrap().know());
        let mut others = Vec::new();
        for number in 1..=UNKNOWN + 3 {
            stay(number);
            others.push(places.recv().await.unwrap());
        }
        tokio::task::yield_now().await;
        let gone: Vec<_> = others.iter().filter(|(_, place)| place.strong_count() == 0).map(|(n, _)| *n).collect();
        assert_eq!(gone, [1, 2, 3]);
        assert_eq!(first.strong_count(), 1);
        assert_eq!(counts(&connections), (UNKNOWN, 1));
    }

    #[tokio::test]
    async fn more_than_so_many_with_a_token_are_refused_until_one_ends() {
        let connections = Connections::default();
        let (sender, mut places) = mpsc::unbounded_channel();
        let mut next = async || {
            let sender = sender.clone();
            connections.admit(move |place| async move { drop(sender.send(place)) });
            places.recv().await.unwrap()
        };
        let mut known = Vec::new();
        for _ in 0..KNOWN {
            let place = next().await;
            assert!(place.know() && place.know(), "once it is known, it stays so");
            known.push(place);
        }
        let last = next().await;
        assert!(!last.know());
        known.pop();
        assert!(last.know());
        drop((known, last));
        assert_eq!(counts(&connections), (0, 0));
    }
}
