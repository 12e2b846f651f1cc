//! Until when the folder was surely watched: what is new and was changed later than that counts
//! from its own ctime, what is older was moved in with a folder, and counts from when it was found.
//!
//! A daemon that was suspended wakes to changes which were made meanwhile; dated by its waking, the
//! earlier of two edits would win. Deliberately not here: what a ctime is worth otherwise
//! (`merge.rs`).

use crate::engine::api::event::Now;
use crate::engine::limits::{CATCH_UP_NS, LAG_NS, SLEPT_NS};

/// See the top of this file.
#[derive(Debug, Default)]
pub struct Attention {
    /// Nanoseconds since 1970.
    until: u64,
    /// By `Now::mono`.
    catches_up_until: u64,
}

impl Attention {
    /// An event comes after the one of `before`.
    pub fn event(&mut self, before: Now, now: Now) {
        if now.mono.saturating_sub(before.mono) >= SLEPT_NS {
            if now.mono >= self.catches_up_until {
                self.until = before.wall;
            }
            self.catches_up_until = now.mono + CATCH_UP_NS;
        } else if now.mono >= self.catches_up_until {
            self.until = before.wall.saturating_sub(LAG_NS);
        }
    }

    /// Everything before that was seen (ns since 1970), but for what was elsewhere then.
    pub fn until(&self) -> u64 {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::SECOND;

    fn at(seconds: u64) -> Now {
        Now { wall: (1000 + seconds) * SECOND, mono: seconds * SECOND }
    }

    #[test]
    fn what_happened_in_its_sleep_is_unseen_until_it_has_caught_up() {
        let mut attention = Attention::default();
        let mut last = at(1);
        let mut event = |seconds| {
            attention.event(last, at(seconds));
            last = at(seconds);
            attention.until() / SECOND
        };
        assert_eq!([event(2), event(7)], [999, 1000]);
        let catching_up = [107, 108, 115, 122, 129, 136, 143, 150, 157, 164].map(&mut event);
        assert_eq!(catching_up, [1007; 10], "asleep from 7 to 107");
        assert_eq!(event(170), 1162);
    }
}
