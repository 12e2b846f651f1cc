//! The bytes of the protocol: what peers say to each other, and the frames it travels in.
//!
//! May import `model` only. No sockets here: `io/net/link.rs` moves the bytes.

mod body;
pub mod condition;
pub mod confirmation;
pub mod conflict;
pub mod digest;
mod error;
pub mod features;
pub mod frame;
mod hex;
pub mod members;
pub mod message;
mod names;
pub mod packet;
pub mod split;
mod zlib;
