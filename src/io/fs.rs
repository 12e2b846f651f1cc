//! The folder: everything that reads, watches or changes it, always through its descriptor.
//!
//! May use `io/store`.

pub mod beneath;
pub mod boot;
pub mod delta;
pub mod direct;
pub mod disk;
pub mod glance;
pub mod history;
pub(in crate::io) mod history_name;
mod indispensable;
pub mod inspect;
pub mod install;
pub mod kept_parts;
pub mod merge_bases;
pub mod nested;
pub mod part_log;
pub mod partial;
pub mod probe;
pub mod queue;
pub mod rlimits;
pub mod root;
pub mod scan;
pub mod scrub;
pub mod sparse;
pub mod stage;
pub mod staging;
pub mod stall;
pub mod trouble;
pub mod uploads;
pub mod watch;
