//! The device's key and the chain of its former ones, in the index.
//!
//! Both are written in the caller's transaction, so that no commit holds one without the other.
//! May use `io/store`. Deliberately not here: what the chain says (`succession.rs`), and when a new
//! key is needed.

use crate::engine::api::index::Index;
use crate::io::net::succession;
use crate::io::net::tls::{DeviceKey, KeyError};
use crate::io::store::index::SqliteIndex;

/// The device key is minted with the index: a lost index is a new device.
pub const META_DEVICE_KEY: &str = "daemon.device_key";
/// Missing where this device had no other id before.
pub const META_FORMER_KEYS: &str = "daemon.former_keys";

/// `None` in a new index.
pub fn stored(index: &SqliteIndex) -> Result<Option<DeviceKey>, KeyError> {
    index.meta(META_DEVICE_KEY).map(|bytes| DeviceKey::from_bytes(&bytes)).transpose()
}

/// Makes it the key of this index, with no other before it.
pub fn keep(index: &mut SqliteIndex, key: &DeviceKey) {
    index.set_meta(META_DEVICE_KEY, &key.to_bytes());
}

/// A new key takes the place of the one that is stored, which signs it.
pub fn renew(index: &mut SqliteIndex) -> Result<(), KeyError> {
    let key = DeviceKey::generate()?;
    if let Some(old) = stored(index)? {
        let chain = succession::extended(index.meta(META_FORMER_KEYS).as_deref(), &old, key.device()?)?;
        index.set_meta(META_FORMER_KEYS, &chain);
    }
    keep(index, &key);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::net::succession::former_ids;
    use tempfile::TempDir;

    #[test]
    fn a_renewed_key_comes_with_the_signature_of_the_one_before_it_also_after_a_restart() {
        let home = TempDir::new().unwrap();
        let path = home.path().join("index");
        let mut index = SqliteIndex::open(&path).unwrap().index;
        assert!(stored(&index).unwrap().is_none());
        renew(&mut index).unwrap();
        assert_eq!(index.meta(META_FORMER_KEYS), None, "there was none before");
        let mut devices = vec![stored(&index).unwrap().unwrap().device().unwrap()];
        for _ in 0..2 {
            renew(&mut index).unwrap();
            index.close().unwrap();
            index = SqliteIndex::open(&path).unwrap().index;
            let device = stored(&index).unwrap().unwrap().device().unwrap();
            assert_eq!(former_ids(&index.meta(META_FORMER_KEYS).unwrap(), device), devices);
            devices.insert(0, device);
        }
    }
}
