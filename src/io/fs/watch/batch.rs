//! Which events come together: `notify` gives them one by one.
//!
//! Deliberately not here: what an event means.

use crate::model::SyncPath;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// An event this soon after the last one was done with waited already, so the thread did not sleep
/// between them. Reading the next ones from the kernel takes a few microseconds.
const TOGETHER: Duration = Duration::from_micros(10);
/// No batch is longer: what is inspected meanwhile may change again.
const LONGEST: Duration = Duration::from_millis(1);
/// So many batches of a few events, each this soon after the one before, are a flood. More events
/// are gathered then: to be woken for each event costs whoever makes it more than the event.
const FLOOD_BATCHES: u32 = 16;
const FLOOD_FEW: u32 = 128;
const FLOOD_GAP: Duration = Duration::from_millis(2);
const FLOOD_PAUSE: Duration = Duration::from_millis(1);

/// The events that waited when the thread woke, so far.
#[derive(Default)]
pub struct EventBatch {
    /// When the last event was done with.
    last: Option<Instant>,
    began: Option<Instant>,
    count: u32,
    changed: HashSet<SyncPath>,
}

impl EventBatch {
    /// An event is here. If it begins a batch: how many events the one before had.
    pub fn begins(&mut self, now: Instant) -> Option<u32> {
        let is_longer =
            |since: Option<Instant>, than| since.is_none_or(|since| now.saturating_duration_since(since) > than);
        let slept = is_longer(self.last, TOGETHER);
        if slept || is_longer(self.began, LONGEST) {
            self.began = Some(now);
            self.changed.clear();
        }
        let count = slept.then(|| std::mem::take(&mut self.count));
        self.count = self.count.saturating_add(1);
        count
    }

    /// The event is done with.
    pub fn ended(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Whether it is the first change of that path in this batch.
    pub fn is_first_change(&mut self, path: &SyncPath) -> bool {
        self.changed.insert(path.clone())
    }

    /// Something else became of the path: a change after this is news again.
    pub fn forget_change(&mut self, path: &SyncPath) {
        self.changed.remove(path);
    }
}

/// Batches that follow each other, of all instances.
pub struct Flood {
    began: Instant,
    last: Option<Instant>,
    quick: u32,
}

impl Flood {
    pub fn new(now: Instant) -> Self {
        Self { began: now, last: None, quick: 0 }
    }

    /// A batch begins, after one of `count` events. How long to wait until it is taken: all
    /// instances wait for the same moments, so that what they say comes together.
    pub fn pause(&mut self, now: Instant, count: u32) -> Option<Duration> {
        let last = self.last.replace(now);
        let is_soon = last.is_some_and(|last| now.saturating_duration_since(last) < FLOOD_GAP);
        // Where many waited already there is no time to lose: the kernel's queue has an end.
        let is_quick = is_soon && count <= FLOOD_FEW;
        self.quick = if is_quick { self.quick.saturating_add(1) } else { 0 };
        let into = now.saturating_duration_since(self.began).as_nanos() % FLOOD_PAUSE.as_nanos();
        (self.quick >= FLOOD_BATCHES).then(|| FLOOD_PAUSE.saturating_sub(Duration::from_nanos(into as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_edit_is_heard_at_once_and_a_flood_is_gathered() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        let mut pause = |us, count| flood.pause(start + Duration::from_micros(us), count);
        assert!((0..8).all(|n| pause(n * 50, 2).is_none()), "what one edit says");
        assert_eq!((8..40).filter(|n| pause(n * 50, 2).is_some()).count(), 24);
        assert_eq!(pause(2300, 2), Some(Duration::from_micros(700)), "to the same moment as others");
        assert!((0..8).all(|n| pause(10_000 + n * 50, 2).is_none()), "the next edit");
        assert!((8..20).any(|n| pause(10_000 + n * 50, 2).is_some()));
        assert_eq!(pause(11_050, FLOOD_FEW + 1), None, "the queue fills up");
    }

    #[test]
    fn a_change_is_news_once_a_batch_and_again_when_the_batch_is_long() {
        let (mut batch, start) = (EventBatch::default(), Instant::now());
        let path = SyncPath::new("f").unwrap();
        let mut first = |us| {
            let at = start + Duration::from_micros(us);
            let count = batch.begins(at);
            batch.ended(at);
            (count, batch.is_first_change(&path))
        };
        assert_eq!([0, 5, 9].map(&mut first), [(Some(0), true), (None, false), (None, false)]);
        assert_eq!(first(100), (Some(3), true), "the thread slept meanwhile");
        let news: Vec<_> = (101..3000).filter(|us| first(*us).1).collect();
        assert_eq!(news, [1101, 2102]);
    }
}
