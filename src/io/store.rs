//! What the daemon keeps for itself, in `.dirsync` and in its state directory.
//!
//! May use no other room of `io/`.

pub mod api_tokens;
pub mod chunk_lists;
pub mod index;
pub mod keys;
pub mod leaving;
pub mod secret;
pub mod signatures;
pub mod state_folder;
pub mod writer_key;
