//! The machines at the other ends of links: what they are told, asked and believed.
//!
//! Deliberately not here: contents (`transfer`), and bytes on the wire (`wire`).

pub(in crate::engine) mod compare;
pub(in crate::engine) mod condition;
pub(in crate::engine) mod costs;
pub(in crate::engine) mod delivery;
pub(in crate::engine) mod devices;
pub(in crate::engine) mod holding;
pub(in crate::engine) mod identity;
pub(in crate::engine) mod live;
pub(in crate::engine) mod past;
pub(in crate::engine) mod refuse;
pub(in crate::engine) mod session;
pub(in crate::engine) mod state;
pub(in crate::engine) mod survey;
