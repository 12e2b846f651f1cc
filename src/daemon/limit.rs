//! What a machine sends a second: as `--limit` says, else as a person set it last.
//!
//! Deliberately not here: how it is held to (`io::net::rate_limit`).

use crate::engine::api::index::Index;
use crate::io::store::index::SqliteIndex;

const META_LIMIT: &str = "limit";

/// Bytes a second; `None`: no limit.
pub(super) fn kept(index: &SqliteIndex) -> Option<u64> {
    let bytes = index.meta(META_LIMIT)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes)).filter(|rate| *rate > 0)
}

/// From the next start on.
pub(super) fn keep(index: &mut SqliteIndex, rate: Option<u64>) {
    index.set_meta(META_LIMIT, &rate.unwrap_or(0).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_limit_is_kept_until_another_is_or_none() {
        let home = TempDir::new().unwrap();
        let mut index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        assert_eq!(kept(&index), None);
        keep(&mut index, Some(1 << 20));
        assert_eq!(kept(&index), Some(1 << 20));
        keep(&mut index, None);
        assert_eq!(kept(&index), None);
        index.set_meta(META_LIMIT, b"not a number");
        assert_eq!(kept(&index), None);
    }
}
