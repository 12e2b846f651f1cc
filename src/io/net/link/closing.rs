//! Why a link ended, and its last words.
//!
//! Deliberately not here: what a link does until then (`link.rs`).

use crate::model::text;
use crate::wire::frame::FrameError;
use crate::wire::packet::Packet;
use std::io;
use std::time::Duration;

/// A second link to one device, as the side that closes it says in its `Bye`.
const DUPLICATE: &str = "a second link";

/// Why a link ended; each a sentence's end after the peer's name.
#[derive(Debug, thiserror::Error)]
pub enum Closing {
    #[error("it closed the connection")]
    Eof,
    #[error("the connection failed: {0}")]
    Io(io::Error),
    #[error("it said goodbye: {}", text::escape(.0.as_bytes()))]
    Bye(String),
    #[error("it was silent for {} s", .0.as_secs_f32())]
    Silence(Duration),
    #[error("it sent garbage: {0}")]
    Garbage(FrameError),
    #[error("it broke the protocol: {0}")]
    Broke(String),
    #[error("it does not keep up: over 64 MiB of messages wait for it")]
    Slow,
    #[error("another link to it stays")]
    Duplicate,
    #[error("there are too many links from its address")]
    Crowded,
    #[error("this machine stops")]
    Shutdown,
}

impl Closing {
    /// Whether a person should look at that machine.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Garbage(_) | Self::Broke(_) | Self::Slow)
    }

    /// Whether it is only the settling of two links for one device.
    pub fn is_settling(&self) -> bool {
        matches!(self, Self::Duplicate) || matches!(self, Self::Bye(reason) if reason == DUPLICATE)
    }

    /// The last words to a peer that may still be listening.
    pub fn farewell(&self) -> Option<Packet> {
        let reason = match self {
            Self::Eof | Self::Io(_) | Self::Bye(_) => return None,
            Self::Duplicate => DUPLICATE.to_owned(),
            Self::Shutdown => "it stops".to_owned(),
            other => {
                let mut reason = other.to_string();
                reason.truncate(reason.floor_char_boundary(255));
                reason
            }
        };
        Some(Packet::Bye { reason })
    }
}
