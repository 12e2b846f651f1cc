//! A disk that does not answer says nothing by itself: whoever waits for it to make something
//! durable is counted here.
//!
//! A hung disk looks like an idle daemon. So the log says so, and the status; nothing is given up,
//! for what was asked may still come. May import nothing of ours. Deliberately not here: reading,
//! which goes on for as long as a file is long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From then on it is said. A disk that spins up takes 10 s; a full write-back cache, some more.
const LONG: Duration = Duration::from_secs(30);
/// How often that is checked.
const EVERY: Duration = Duration::from_secs(5);

/// Those who wait for one file system.
#[derive(Debug, Default)]
pub struct Waits(Mutex<OpenWaits>);

#[derive(Debug, Default)]
struct OpenWaits {
    last: u64,
    since: BTreeMap<u64, Instant>,
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, OpenWaits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what may take as long as the disk likes.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let id = {
            let mut waiting = self.lock();
            waiting.last += 1;
            let id = waiting.last;
            waiting.since.insert(id, Instant::now());
            id
        };
        let _ended = WaitGuard(self, id);
        work()
    }

    /// For how long the first of them has waited, once that is worth a word.
    pub fn stalled(&self) -> Option<Duration> {
        let since = self.lock().since.values().next().copied()?;
        Some(since.elapsed()).filter(|waited| *waited >= LONG)
    }
}

/// Also when what was done panics.
struct WaitGuard<'a>(&'a Waits, u64);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().since.remove(&self.1);
    }
}

/// What was said last of a disk.
#[derive(Debug, Default)]
struct ReportedStall(Option<Duration>);

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Stalled(Duration),
    Answers(Duration),
}

impl ReportedStall {
    /// Once when it begins, and once when it is over.
    fn next(&mut self, stalled: Option<Duration>) -> Option<Word> {
        match (self.0, stalled) {
            (None, Some(waited)) => {
                self.0 = Some(waited);
                Some(Word::Stalled(waited))
            }
            (Some(_), Some(waited)) => {
                self.0 = Some(waited);
                None
            }
            (Some(waited), None) => {
                self.0 = None;
                Some(Word::Answers(waited))
            }
            (None, None) => None,
        }
    }
}

/// Says it in the log, from a thread of its own, which ends with those who wait. `disk`: what is on
/// it, as a person knows it.
pub fn watch(waits: &Arc<Waits>, disk: String) -> std::io::Result<()> {
    let waits = Arc::downgrade(waits);
    let work = move || {
        let mut said = ReportedStall::default();
        while let Some(waits) = waits.upgrade() {
            match said.next(waits.stalled()) {
                Some(Word::Stalled(waited)) => tracing::warn!(
                    "the disk with '{disk}' was told to make something durable {} s ago and has not answered; it has much to write, or \
                     hangs (dmesg may say why): what waits for it goes on by itself",
                    waited.as_secs()
                ),
                Some(Word::Answers(waited)) => {
                    tracing::info!("the disk with '{disk}' has answered, after more than {} s", waited.as_secs());
                }
                None => {}
            }
            drop(waits);
            std::thread::sleep(EVERY);
        }
    };
    std::thread::Builder::new().name("stall".to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_when_it_begins_and_once_when_it_is_over() {
        let mut said = ReportedStall::default();
        let (some, more) = (Duration::from_secs(31), Duration::from_secs(40));
        assert_eq!(said.next(None), None);
        assert_eq!(said.next(Some(some)), Some(Word::Stalled(some)));
        assert_eq!(said.next(Some(more)), None);
        assert_eq!(said.next(None), Some(Word::Answers(more)));
        assert_eq!(said.next(None), None);
    }

    #[test]
    fn who_waits_no_more_is_not_counted_also_after_a_panic() {
        let waits = Waits::default();
        waits.during(|| assert_eq!(waits.lock().since.len(), 1));
        let panics = std::panic::AssertUnwindSafe(|| waits.during(|| panic!("as a disk thread may")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(waits.lock().since.is_empty() && waits.stalled().is_none());
    }
}
