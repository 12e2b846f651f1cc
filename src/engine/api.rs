//! What the shell and the simulator see of the engine: events in, actions and reports out, the
//! index behind a trait, and answers about its state.
//!
//! Deliberately not here: what an event does (the other rooms).

pub(super) mod action;
pub mod digest;
pub(super) mod event;
pub(super) mod file_system;
pub(super) mod group;
pub mod ignore;
pub mod index;
pub(super) mod local;
pub mod map_index;
pub(super) mod problem;
pub(super) mod status;
pub(super) mod why;
