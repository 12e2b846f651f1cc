//! systemd units for folders: how they are named, and which are installed.
//!
//! May import `model`. Deliberately not here: arguments and output (`cli/`), and what a daemon makes
//! of its options.

pub mod installed;
pub mod name;
