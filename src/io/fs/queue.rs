//! A queue that threads wait at until it is stopped. May import nothing. Deliberately not here:
//! what is in it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<QueueState<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct QueueState<T> {
    items: VecDeque<T>,
    /// So many are still to come.
    announced: usize,
    is_stopped: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = QueueState { items: VecDeque::new(), announced: 0, is_stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    pub fn extend(&self, items: Vec<T>) {
        if !items.is_empty() {
            let mut state = self.lock();
            state.announced = state.announced.saturating_sub(items.len());
            state.items.extend(items);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Says that so many are being made for it.
    pub fn announce(&self, count: usize) {
        self.lock().announced += count;
    }

    /// Gives the waiting items to `change`, which may add some or take some.
    pub fn with<R>(&self, change: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        let result = change(&mut self.lock().items);
        self.changed.notify_all();
        result
    }

    /// Waits until something is there, and gives it to `take`. `None` once the queue is stopped;
    /// what is still in it is dropped with it.
    pub fn wait<R>(&self, take: impl FnOnce(&mut VecDeque<T>) -> R) -> Option<R> {
        let mut state = self.lock();
        while state.items.is_empty() && !state.is_stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_stopped {
            return None;
        }
        let taken = take(&mut state.items);
        self.changed.notify_all();
        Some(taken)
    }

    /// Waits until there are fewer than `count`, or the end.
    pub fn wait_below(&self, count: usize) {
        let mut state = self.lock();
        while state.items.len() >= count && !state.is_stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn waiting(&self) -> usize {
        self.lock().items.len()
    }

    /// How many are there or announced: `wait` gives some of them without anything else happening.
    pub fn to_come(&self) -> usize {
        let state = self.lock();
        state.items.len() + state.announced
    }

    pub fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_gets_what_comes_and_then_the_end() {
        let queue = Queue::default();
        let next = || queue.wait(VecDeque::pop_front).flatten();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(next);
            queue.extend(vec![7, 8]);
            assert_eq!(waiter.join().unwrap(), Some(7));
            queue.with(|items| items.push_front(6));
            assert_eq!((next(), next()), (Some(6), Some(8)));
            let waiter = scope.spawn(next);
            queue.stop();
            assert_eq!(waiter.join().unwrap(), None);
        });
        queue.extend(vec![9]);
        assert_eq!((next(), queue.waiting()), (None, 1));
    }

    #[test]
    fn what_was_announced_is_to_come_until_it_is_taken() {
        let queue = Queue::default();
        queue.announce(2);
        assert_eq!((queue.to_come(), queue.waiting()), (2, 0));
        queue.extend(vec![1, 2]);
        assert_eq!(queue.to_come(), 2);
        queue.wait(VecDeque::pop_front);
        queue.announce(1);
        queue.wait(VecDeque::pop_front);
        assert_eq!(queue.to_come(), 1, "only what is not made yet");
        queue.extend(vec![3]);
        queue.wait(VecDeque::pop_front);
        assert_eq!(queue.to_come(), 0, "who waits now would wait for ever");
    }

    #[test]
    fn who_waits_for_room_gets_it_or_the_end() {
        let queue = Queue::default();
        queue.extend(vec![1, 2]);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.wait_below(2));
            queue.wait(VecDeque::pop_front);
            waiter.join().unwrap();
            let waiter = scope.spawn(|| queue.wait_below(1));
            queue.stop();
            waiter.join().unwrap();
        });
    }
}
