//! The last hour's traffic: what went over all links in each half minute.
//!
//! Deliberately not here: the sums themselves (`net/traffic.rs`).

use super::World;
use crate::io::net::traffic::Traffic;
use crate::views::traffic::TrafficView;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A step, and how many are kept: an hour.
const STEP: Duration = Duration::from_secs(30);
const STEPS: usize = 120;

/// What went over all links in each step, the latest last.
#[derive(Default)]
pub(super) struct TrafficHour {
    steps: Mutex<TrafficSteps>,
}

#[derive(Default)]
struct TrafficSteps {
    /// All since the start.
    total: Traffic,
    each: VecDeque<Traffic>,
}

impl TrafficHour {
    /// A step is over. `now`: all since the start.
    fn end_step(&self, now: Traffic) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut steps.total, now);
        steps.each.push_back(Traffic {
            sent_bytes: now.sent_bytes.saturating_sub(before.sent_bytes),
            received_bytes: now.received_bytes.saturating_sub(before.received_bytes),
        });
        while steps.each.len() > STEPS {
            steps.each.pop_front();
        }
    }

    pub(super) fn view(&self) -> TrafficView {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        TrafficView {
            step_s: STEP.as_secs(),
            sent: steps.each.iter().map(|step| step.sent_bytes).collect(),
            received: steps.each.iter().map(|step| step.received_bytes).collect(),
        }
    }
}

/// Ends a step every half minute, for ever.
pub(super) async fn keep(hour: Arc<TrafficHour>, world: Arc<dyn World>) {
    loop {
        tokio::time::sleep(STEP).await;
        let mut now = Traffic::default();
        for of_device in world.traffic().values() {
            now.sent_bytes += of_device.sent_bytes;
            now.received_bytes += of_device.received_bytes;
        }
        hour.end_step(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_what_went_in_it_and_an_hour_is_kept() {
        let hour = TrafficHour::default();
        let total = |sent_bytes, received_bytes| Traffic { sent_bytes, received_bytes };
        hour.end_step(total(10, 1));
        hour.end_step(total(10, 5));
        hour.end_step(total(4, 6));
        let view = hour.view();
        assert_eq!((view.sent, view.received), (vec![10, 0, 0], vec![1, 4, 1]), "a sum that shrank is none");
        for n in 0..STEPS as u64 {
            hour.end_step(total(100 + n, 6));
        }
        let view = hour.view();
        assert_eq!((view.sent.len(), view.received.len(), view.step_s), (STEPS, STEPS, 30));
        assert_eq!((view.sent[0], view.sent[1]), (96, 1), "the oldest went");
    }
}
