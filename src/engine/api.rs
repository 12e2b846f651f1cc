//! What the shell and the simulator see of the engine: events in, actions and reports out, the
//! index behind a trait, and answers about its state.
//!
//! Deliberately not here: what an event does (the other rooms).

pub(in crate::engine) mod action;
pub mod digest;
pub(in crate::engine) mod event;
pub(in crate::engine) mod file_system;
pub mod ignore;
pub mod index;
pub mod map_index;
pub(in crate::engine) mod status;
pub(in crate::engine) mod why;
