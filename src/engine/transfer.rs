//! Contents on their way: what is wanted, from where it comes, and its install.
//!
//! Deliberately not here: which version is wanted (`reconcile`), and reading or writing (`io`).

pub(in crate::engine) mod advance;
pub(in crate::engine) mod chunks;
pub(in crate::engine) mod fetch;
pub(in crate::engine) mod install;
pub(in crate::engine) mod kept;
pub(in crate::engine) mod silence;
pub(in crate::engine) mod swarm;
pub(in crate::engine) mod wants;
