//! The network: finding peers, proving the secret, links, and contents on their way.
//!
//! May use `io/fs` and `io/store`.

pub mod alone;
pub mod challenge;
pub mod complaints;
pub mod device_key;
pub mod dial;
pub mod foreign;
pub mod greeting;
pub mod hand_over;
pub mod hub;
pub mod invitations;
pub mod invite;
pub mod join;
pub mod known_group;
pub mod link;
pub mod members;
pub mod mesh;
pub mod metered;
pub mod outbox;
pub mod pending_handshakes;
pub mod presence;
pub mod preview;
pub mod rate;
pub mod rate_limit;
pub mod seal;
pub mod succession;
pub mod tls;
pub mod traffic;
pub mod transfer;
