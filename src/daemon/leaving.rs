//! How this machine leaves its group: decided durably, said to the others, then carried out at the
//! end of the run, or before the next one.
//!
//! Deliberately not here: what belongs to a membership (`io/store/leaving.rs`).

use super::turn::{Hands, Loop};
use super::{DaemonError, RunEnd};
use crate::engine::Event;
use crate::io::identity::import::BegunError;
use crate::io::store::index::IndexError;
use crate::io::store::leaving;
use crate::io::store::state_folder::StateDir;

/// Answers who asked for it. Where the decision cannot be made durable, the run goes on.
pub(super) fn decide<H: Hands>(turns: &mut Loop<H>, state: &StateDir) -> Result<(), IndexError> {
    let Some(asked) = turns.leaves.take() else { return Ok(()) };
    let decided = leaving::decide(state).map_err(|why| format!("what is decided cannot be written down: {why}"));
    if decided.is_ok() {
        tracing::info!(kind = "leaving", "this machine leaves its group; its files stay");
        let actions = turns.engine.handle(turns.clock.now(), Event::Leave);
        turns.conclude(actions)?;
        turns.ends = Some(RunEnd::Left);
    }
    // Whoever asked may be gone; what is decided holds.
    drop(asked.send(decided));
    Ok(())
}

/// Carries it out, if it was decided. The index must not be open.
pub(super) fn finish(state: &StateDir) -> Result<(), DaemonError> {
    leaving::finish(state).map_err(|why| BegunError::Leaving(why).into())
}

/// Whether the run before this one left a group; said once.
pub(super) fn has_left(state: &StateDir) -> bool {
    leaving::take_note(state)
}
