//! How an answer is printed: as JSON, or as text that commands no terminal.
//!
//! Deliberately not here: how an answer reads (`show.rs`).

use super::Failure;
use crate::humanize::{count, counted};
use serde::Serialize;
use std::io::{self, Write};

/// There was nothing to be done: programs get the answer all the same.
pub(super) fn say_nothing<T: Serialize>(json: bool, value: &T, why: String) -> Result<(), Failure> {
    say(json, value, |_| String::new())?;
    Err(Failure::Nothing(why))
}

pub(super) fn say<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    put(json, value, |value| printable(&text(value)))
}

/// The last defence, as the daemon escapes what is foreign: whoever answers commands no terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// Text as it is: whatever is foreign in it must be printable.
pub(super) fn put<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(text(value).as_bytes())?;
    }
    Ok(out.flush()?)
}

/// Exit code 1 where something was not.
pub(super) fn all_done(done: usize, failed: usize, what: &str) -> Result<(), Failure> {
    if failed == 0 {
        return Ok(());
    }
    let all = counted((done + failed) as u64, "path", "paths");
    Err(Failure::Partly(format!("{} of {all} not {what}", count(failed as u64))))
}
