//! The values that everything else speaks of: paths, contents, versions, entries.
//!
//! Plain data, no I/O, no clock. Imports nothing of this crate. Whatever can come from a peer
//! validates itself when it is made, so that a value that exists is a value that is allowed.

pub mod capability;
pub mod chunks;
pub mod content;
pub mod device;
pub mod entry;
pub mod folder;
pub mod invitation;
pub mod keyring;
pub mod path;
pub mod retain;
pub mod role;
pub mod text;
pub mod version;

pub use capability::Capability;
pub use chunks::{ChunkHash, ChunkSet, Chunks};
pub use content::ContentId;
pub use device::DeviceId;
pub use entry::{Entry, FileTime, Kind, Mode};
pub use invitation::InvitationCode;
pub use keyring::{Keyring, SecretBytes};
pub use path::SyncPath;
pub use retain::RetainReason;
pub use role::SyncRole;
pub use version::{Version, VersionVector};
