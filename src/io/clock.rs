//! The clock on the wall. May import nothing. Deliberately not here: what follows from a clock that
//! is set (`engine::devices`).

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970; 0 before.
pub fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
