//! How the last run ended: as asked, by a death of the process alone, or with the power (P5).
//!
//! Deliberately not here: what is done about it (`engine::torn`, and the check of the index in
//! `io::store::index`).

use crate::engine::api::index::Index;
use crate::engine::observe::torn::Cut;
use crate::io::clock;
use crate::io::fs::boot::BootPlace;
use crate::io::store::index::{IndexError, SqliteIndex};

const META_PLACE: &str = "daemon.place";
const META_CUT: &str = "daemon.cut";
/// Older changes than this before the last commit had reached the disk, by the kernel's own doing
/// (ns).
const WRITTEN_BACK_NS: u64 = 60 * 1_000_000_000;

/// Notes where this run happens, durably, and says whether the last one was cut off there.
pub(super) fn judge(index: &mut SqliteIndex, was_clean: bool, place: &BootPlace) -> Result<Option<Cut>, IndexError> {
    let last = index.meta(META_PLACE).and_then(|text| BootPlace::from_text(&String::from_utf8_lossy(&text)));
    let cut = last.filter(|last| !was_clean && last.was_left(place)).map(|last| Cut {
        since: index.last_commit().saturating_sub(WRITTEN_BACK_NS),
        until: last.left_before(place, clock::wall_ns()),
    });
    let cut = [cut, pending(index)].into_iter().flatten().reduce(Cut::with);
    if let Some(cut) = cut {
        index.set_meta(META_CUT, &[cut.since.to_be_bytes(), cut.until.to_be_bytes()].concat());
    }
    index.set_meta(META_PLACE, place.to_text().as_bytes());
    index.commit()?;
    Ok(cut)
}

/// Everything that a cut may have torn was inspected.
pub(super) fn is_over(index: &mut SqliteIndex) {
    if pending(index).is_some() {
        index.set_meta(META_CUT, &[]);
    }
}

/// A cut whose traces were not all inspected yet: the run after it may have ended early, too.
fn pending(index: &SqliteIndex) -> Option<Cut> {
    let stored = index.meta(META_CUT)?;
    let (since, until) = stored.split_first_chunk::<8>()?;
    Some(Cut { since: u64::from_be_bytes(*since), until: u64::from_be_bytes(until.try_into().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fs::root::Root;
    use tempfile::TempDir;

    #[test]
    fn a_cut_is_remembered_until_its_traces_were_looked_at() {
        let home = TempDir::new().unwrap();
        let mut index = SqliteIndex::open(&home.path().join("index")).unwrap().index;
        let here = BootPlace::of(&Root::open(home.path()).unwrap());
        assert_eq!(judge(&mut index, true, &here).unwrap(), None, "a first start");
        assert_eq!(judge(&mut index, false, &here).unwrap(), None, "the process alone was killed");
        let before = BootPlace::from_text("another-boot mnt:[1] 1").unwrap();
        judge(&mut index, true, &before).unwrap();
        let cut = judge(&mut index, false, &here).unwrap().expect("the boot is another one");
        assert!(cut.until < clock::wall_ns());
        assert_eq!(judge(&mut index, false, &here).unwrap(), Some(cut), "killed before all was looked at");
        is_over(&mut index);
        assert_eq!(judge(&mut index, false, &here).unwrap(), None);
    }
}
