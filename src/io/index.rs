//! The index in SQLite.
