//! Everything that a link carries: the engines' messages, and the link's own affairs beside them.
//!
//! Which side may send what, and when, is the link's business and not checked here.

use super::features::Features;
use super::members::HandOver;
use super::message::Message;
pub use super::names::{clean_name, is_clean_name};
use crate::model::{ContentId, SyncPath};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The protocol's version; both ends must speak the same.
pub const PROTOCOL: u32 = 1;
/// Large contents travel in pieces of this many bytes; only the last is shorter.
pub const PIECE_BYTES: usize = 128 * 1024;
/// What a stream may send before any `Credit`.
pub const FIRST_CREDIT_BYTES: u64 = 4 * 1024 * 1024;

/// One frame's meaning. A stream's number is chosen by the side that fetches; `Fetch`, `Delta`,
/// `Signature`, `Credit` and `Cancel` travel from it, `Sign`, `Piece` and `End` to it, so that the
/// two sides' numbers never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Message(Message),
    /// The first after both proofs. `boot`: drawn at each start of the daemon; `started`: when that
    /// was, by its clock (ns since 1970). `features`: what the sender understands beyond protocol
    /// 1.
    Hello {
        protocol: u32,
        name: String,
        software: String,
        boot: u64,
        started: u64,
        features: Features,
    },
    /// That the sender knows the group's secret, or what a reader has of it, for this connection
    /// alone. `mac` is all that the first form of protocol 1 has, and shows a writer to a writer;
    /// `member` shows a member, and `writer` a writer to a reader. `current`: the group tag of the
    /// secret in force at the sender; `with`: of the former one that this proof is made with, if it
    /// is.
    Proof {
        mac: [u8; 32],
        member: Option<[u8; 32]>,
        writer: Option<[u8; 64]>,
        current: Option<[u8; 16]>,
        with: Option<[u8; 16]>,
    },
    /// After proofs with a former secret: which devices the sender was before, signed by their
    /// keys.
    Former {
        chain: Bytes,
    },
    /// The answer: what the receiver gets of the secrets in force here; `None`: nothing.
    HandOver(Option<HandOver>),
    /// Instead of a proof: the sender knows an invitation code.
    Join {
        mac: [u8; 32],
        name: String,
    },
    /// The answer: this end knows it as well, so that the joiner may take its secret.
    Invited {
        mac: [u8; 32],
        name: String,
    },
    /// The joiner has checked that. `preview`: it only looks, and does not become a member.
    Accept {
        preview: bool,
    },
    /// To a machine that proved an invitation code.
    Secret {
        secret: HandedSecret,
    },
    /// The joiner has stored the secret.
    Joined,
    /// Answered by a `Pong` of the same `at`, a time that only the asker reads.
    Ping {
        at: u64,
    },
    /// `wall`: the clock of who answers (ns since 1970).
    Pong {
        at: u64,
        wall: u64,
    },
    /// Asks for a large content; the first pieces may come without further credit.
    Fetch {
        stream: u32,
        path: SyncPath,
        content: ContentId,
        size: u64,
        part: Part,
    },
    /// Asks for a large content by what differs from a `base` that the asker has. Its answer is
    /// pieces of a delta.
    Delta {
        stream: u32,
        path: SyncPath,
        content: ContentId,
        size: u64,
        base: ContentId,
        base_size: u64,
    },
    /// To whom asked for a delta: its base is not known here, send its signature.
    Sign {
        stream: u32,
    },
    /// The next bytes of that signature.
    Signature {
        stream: u32,
        bytes: Bytes,
    },
    /// `offset`: of the first byte in the content (or in its list); pieces come in order.
    Piece {
        stream: u32,
        offset: u64,
        bytes: Bytes,
    },
    /// A piece of nothing but zeros, of any length, that needs no credit: a hole in a sparse file.
    Zeros {
        stream: u32,
        offset: u64,
        count: u64,
    },
    /// The asker has room for this many more bytes.
    Credit {
        stream: u32,
        bytes: u64,
    },
    /// Nothing more comes on this stream.
    End {
        stream: u32,
        how: Ending,
    },
    /// The asker wants nothing more of this stream.
    Cancel {
        stream: u32,
    },
    /// The sender closes the link; `reason` is foreign text.
    Bye {
        reason: String,
    },
}

impl Packet {
    /// Its kind, for the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::Hello { .. } => "hello",
            Self::Proof { .. } => "proof",
            Self::Former { .. } => "former",
            Self::HandOver(_) => "hand-over",
            Self::Join { .. } => "join",
            Self::Invited { .. } => "invited",
            Self::Accept { .. } => "accept",
            Self::Secret { .. } => "secret",
            Self::Joined => "joined",
            Self::Ping { .. } => "ping",
            Self::Pong { .. } => "pong",
            Self::Fetch { .. } => "fetch",
            Self::Delta { .. } => "delta",
            Self::Sign { .. } => "sign",
            Self::Signature { .. } => "signature",
            Self::Piece { .. } => "piece",
            Self::Zeros { .. } => "zeros",
            Self::Credit { .. } => "credit",
            Self::End { .. } => "end",
            Self::Cancel { .. } => "cancel",
            Self::Bye { .. } => "bye",
        }
    }
}

/// What a machine that was invited gets. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum HandedSecret {
    /// The group's secret.
    Writer([u8; 32]),
    /// What is derived from it, and the public key of writers.
    Reader { secret: [u8; 32], writers_public: [u8; 32] },
}

impl fmt::Debug for HandedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandedSecret(hidden)")
    }
}

/// What of a content is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    #[default]
    Whole,
    /// The hashes of its chunks, 32 bytes each, in pieces as if they were a content.
    List,
    /// So many chunks from the first one.
    Chunks { first: u32, count: u32 },
}

impl Part {
    pub(super) fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All bytes were sent, and the file did not change meanwhile.
    Whole,
    /// It is not here, or not any more.
    NotHere,
    /// The file changed while it was sent.
    Changed,
    /// It could not be read.
    Unreadable,
    /// No delta is worth it, or none can be made: it is to be fetched whole.
    NoDelta,
}
