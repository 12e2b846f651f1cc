//! The keys that follow from a group's secret, one a purpose.
//!
//! A writer has the secret. A reader has what is derived from it one way: enough to find the others
//! and to be let in, and the public half of the key by which writers show that they are such.
//! Deliberately not here: files (`secret.rs`), and proofs (`net/greeting.rs`).

use crate::io::store::writer_key::WriterKey;
use crate::model::Capability;

/// One key a purpose, so that what one shows says nothing of another.
#[derive(Clone)]
pub struct ChannelKeys {
    /// Tells groups apart in presence datagrams.
    pub group_tag: [u8; 16],
    pub presence: [u8; 32],
    pub link: [u8; 32],
}

impl ChannelKeys {
    pub fn derive(from: &[u8; 32]) -> Self {
        let tag = blake3::derive_key("dirsyncd 2026 group tag v1", from);
        Self {
            group_tag: std::array::from_fn(|at| tag[at]),
            presence: blake3::derive_key("dirsyncd 2026 presence datagram v1", from),
            link: blake3::derive_key("dirsyncd 2026 link proof v1", from),
        }
    }
}

/// What a member works with.
#[derive(Clone)]
pub struct SecretKeys {
    /// Those that only writers have.
    pub writers: Option<WritersKeys>,
    /// Those that every member has.
    pub members: ChannelKeys,
    /// By which a writer's signature is checked.
    pub writers_public: [u8; 32],
}

#[derive(Clone)]
pub struct WritersKeys {
    /// As the first form of protocol 1 has them.
    pub channel: ChannelKeys,
    pub signature: WriterKey,
}

impl SecretKeys {
    pub fn of_writer(secret: &[u8; 32]) -> Self {
        let seed = blake3::derive_key("dirsyncd 2026 writer signature v1", secret);
        let signature = WriterKey::new(&seed).expect("the library has Ed25519");
        let writers_public = signature.public();
        let channel = ChannelKeys::derive(secret);
        let members = ChannelKeys::derive(&reader_secret(secret));
        Self { writers: Some(WritersKeys { channel, signature }), members, writers_public }
    }

    pub fn of_reader(secret: &[u8; 32], writers_public: [u8; 32]) -> Self {
        Self { writers: None, members: ChannelKeys::derive(secret), writers_public }
    }

    pub fn capability(&self) -> Capability {
        if self.writers.is_some() { Capability::Write } else { Capability::ReadOnly }
    }
}

/// What a reader gets in place of the secret.
pub fn reader_secret(secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("dirsyncd 2026 reader secret v1", secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_has_the_members_keys_and_none_of_the_writers() {
        let writer = SecretKeys::of_writer(&[1; 32]);
        let reader = SecretKeys::of_reader(&reader_secret(&[1; 32]), writer.writers_public);
        assert_eq!((writer.capability(), reader.capability()), (Capability::Write, Capability::ReadOnly));
        let all = |keys: &ChannelKeys| (keys.group_tag, keys.presence, keys.link);
        assert_eq!(all(&writer.members), all(&reader.members));
        let writers = writer.writers.unwrap().channel;
        assert_ne!(writers.link, reader.members.link);
        assert_ne!(writers.presence, reader.members.presence);
        assert_ne!(writers.group_tag, reader.members.group_tag);
        assert_ne!(SecretKeys::of_writer(&[2; 32]).members.link, reader.members.link);
    }
}
