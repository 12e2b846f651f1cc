//! Which boot of the machine and which mount of the folder this process runs on: after an unclean
//! stop, another one of either says that more than the process ended.
//!
//! Deliberately not here: what follows from that (`daemon::last_run`).

use crate::engine::Boot;
use crate::io::clock::wall_ns;
use crate::io::fs::root::Root;
use rustix::fs::{AtFlags, StatxFlags};
use std::fs;

/// `STATX_MNT_ID_UNIQUE`, since Linux 6.8: a number that no other mount of this boot had. Older
/// kernels give theirs.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// File systems whose `page_mkwrite` sets the times of a file that is stored to through a mapping:
/// ext2 to ext4, XFS, Btrfs, F2FS. On tmpfs, and on some that are not a disk's, such a store leaves
/// the stat alone.
const MARK_STORES: [u32; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];

/// Where a run happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootPlace {
    boot: String,
    /// Mount numbers compare only within one mount namespace, and a service may get a new one at
    /// each start.
    namespace: String,
    mount: u64,
}

impl BootPlace {
    pub fn of(root: &Root) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/mnt").unwrap_or_default().to_string_lossy().into_owned();
        let wanted = StatxFlags::MNT_ID | StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
        let mount = rustix::fs::statx(root.dir(), "", AtFlags::EMPTY_PATH, wanted).map_or(0, |s| s.stx_mnt_id);
        Self { boot, namespace, mount }
    }

    pub fn to_text(&self) -> String {
        format!("{} {} {}", self.boot, self.namespace, self.mount)
    }

    pub fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        let (boot, namespace) = (words.next()?, words.next()?);
        let mount = words.next()?.parse().ok()?;
        Some(Self { boot, namespace, mount })
    }

    /// Whether what a run at `self` had not made durable may be gone at `now`.
    pub fn was_left(&self, now: &Self) -> bool {
        self.boot != now.boot || (self.namespace == now.namespace && self.mount != now.mount)
    }

    /// Nothing that was lost with the power was written later than this (ns since 1970): the boot,
    /// if there was one since.
    pub fn left_before(&self, now: &Self, now_ns: u64) -> u64 {
        if self.boot == now.boot { now_ns } else { now_ns.saturating_sub(since_boot_ns()) }
    }
}

/// This boot, for the engine to say who may have written a file.
pub fn this_boot(root: &Root) -> Boot {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or_default();
    let file_system = rustix::fs::fstatfs(root.dir()).map_or(0, |facts| facts.f_type);
    // Without a boot's number nothing can be said of it.
    let marks_stores = id != 0 && MARK_STORES.iter().any(|kind| u64::from(*kind) == file_system.cast_unsigned());
    Boot { id, began: wall_ns().saturating_sub(since_boot_ns()), marks_stores }
}

fn since_boot_ns() -> u64 {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    since_boot.tv_sec as u64 * 1_000_000_000 + since_boot.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_boot_or_mount_says_that_more_than_the_process_ended() {
        let place =
            |boot: &str, namespace: &str, mount| BootPlace { boot: boot.into(), namespace: namespace.into(), mount };
        let then = place("b1", "mnt:[1]", 7);
        let table = [
            ("the same", place("b1", "mnt:[1]", 7), false),
            ("another boot", place("b2", "mnt:[1]", 7), true),
            ("mounted anew", place("b1", "mnt:[1]", 8), true),
            ("a service with a namespace of its own", place("b1", "mnt:[2]", 9), false),
        ];
        for (case, now, expected) in table {
            assert_eq!(then.was_left(&now), expected, "{case}");
        }
        assert_eq!(BootPlace::from_text(&then.to_text()), Some(then));
        assert_eq!(BootPlace::from_text("b1"), None);
    }

    #[test]
    fn this_process_runs_somewhere() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let place = BootPlace::of(&root);
        assert!(place.boot.len() == 36 && place.namespace.starts_with("mnt:") && place.mount > 0, "{place:?}");
        assert_eq!(place, BootPlace::of(&root));
    }
}
