//! What is on disk here: from hints and walks to inspections, and what they say of a path.
//!
//! Deliberately not here: which version wins (`reconcile`), and whether what is gone is believed
//! to be deleted (`safety`).

pub(in crate::engine) mod alias;
pub(in crate::engine) mod arrivals;
pub(in crate::engine) mod attention;
pub mod ignore;
pub(in crate::engine) mod inspect;
pub(in crate::engine) mod keeps;
pub(in crate::engine) mod missing;
pub(in crate::engine) mod problems;
pub(in crate::engine) mod rehash;
pub(in crate::engine) mod scan;
pub(in crate::engine) mod settle;
pub(in crate::engine) mod special;
pub mod torn;
pub(in crate::engine) mod walk;
