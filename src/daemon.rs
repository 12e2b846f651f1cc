//! The loop: await an event, ask the engine, commit, run its actions.
