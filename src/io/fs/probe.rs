//! What the folder's file system keeps of what it is given, found out with things of our own in
//! `.dirsync/staging`.
//!
//! What cannot be tried, as on a full disk, is taken for kept: the first install that finds
//! otherwise says so. May import `engine`'s values. Deliberately not here: what follows from it
//! (`engine/keeps.rs`).

use crate::engine::{Keeps, Names};
use crate::io::fs::beneath;
use crate::model::Mode;
use crate::model::path::PRIVATE_DIR;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode as Bits, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::fs;
use std::fs::File;

const FILE: &str = "probe-a";
const LINK: &str = "probe-link";
/// Made, and looked up as: in another case, and in the other Unicode form of the same letter.
const ALIASES: [(&str, &str); 2] = [("Probe-Case", "pROBE-cASE"), ("probe-\u{e9}", "probe-e\u{301}")];
/// Steps in which file systems keep mtimes (ns): NTFS 100, FAT 2 s, exFAT 10 ms.
const STEPS: [u32; 9] = [1, 100, 1000, 1_000_000, 10_000_000, 20_000_000, 100_000_000, 1_000_000_000, 2_000_000_000];
/// An odd second, and a fraction that each step cuts.
const TRIED: (i64, u32) = (1_600_000_001, 987_654_321);

/// FUSE, 9P, Ceph, NFS, SMB and AFS by their `f_type`: others may change what is behind them.
const FUSE: u64 = 0x6573_5546;
const REMOTE: [u64; 7] = [0x0102_1997, 0x00c3_6400, 0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x5346_414f];

/// Whether an error says that the file system has no such attribute.
pub fn is_not_kept(e: Errno) -> bool {
    matches!(e, Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)
}

/// What makes replacing and copying cheap and whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Two names in one step.
    pub exchange: bool,
    /// Files without a name (`O_TMPFILE`).
    pub nameless: bool,
    /// Equal blocks are kept once (`FICLONE`).
    pub reflink: bool,
}

/// Tried beside a daemon, with names of their own.
pub fn abilities(staging: &OwnedFd) -> rustix::io::Result<Abilities> {
    let names = [format!("doctor-{}-a", std::process::id()), format!("doctor-{}-b", std::process::id())];
    let clear = || {
        for name in &names {
            let _ = rustix::fs::unlinkat(staging, name, AtFlags::empty());
        }
    };
    clear();
    let tried = (|| {
        let [one, other] = [beneath::create(staging, &names[0])?, beneath::create(staging, &names[1])?];
        rustix::io::write(&one, b"dirsync")?;
        let exchanged = rustix::fs::renameat_with(staging, &names[0], staging, &names[1], RenameFlags::EXCHANGE);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let nameless = rustix::fs::openat(staging, ".", flags, Bits::RUSR);
        let reflink = rustix::fs::ioctl_ficlone(&other, &one);
        Ok(Abilities { exchange: exchanged.is_ok(), nameless: nameless.is_ok(), reflink: reflink.is_ok() })
    })();
    clear();
    tried
}

pub(super) fn probe(dir: &OwnedFd, staging: &OwnedFd) -> Keeps {
    let mut keeps = Keeps { remote_events: !is_remote(dir), ..Keeps::default() };
    clear(staging);
    if let Ok(file) = beneath::create(staging, FILE) {
        keeps.modes = keeps_modes(&file);
        keeps.mtime_step_ns = mtime_step(&file).unwrap_or(1);
    }
    keeps.names = names(dir, staging);
    keeps.symlinks = !matches!(rustix::fs::symlinkat(FILE, staging, LINK), Err(e) if is_not_kept(e));
    clear(staging);
    keeps
}

/// By a file that is found by another spelling of its name, and how it is listed; or by our own
/// folder, as on a full disk.
fn names(dir: &OwnedFd, staging: &OwnedFd) -> Names {
    let is_there = |dir, name: &str| matches!(beneath::facts_at(dir, name.as_bytes()), Ok(Some(_)));
    let folds = ALIASES.into_iter().any(|(made, other)| {
        let is_made = beneath::create(staging, made).is_ok();
        is_made && is_there(staging, other)
    });
    let spelled = |name: &str| beneath::is_spelled(staging, name.as_bytes()).unwrap_or(true);
    let is_respelled = ALIASES.into_iter().any(|(made, _)| is_there(staging, made) && !spelled(made));
    let is_ours = |name: &str| {
        let place = |name: &str| beneath::facts_at(dir, name.as_bytes()).ok().flatten().map(|facts| facts.place());
        place(name).is_some_and(|found| Some(found) == place(PRIVATE_DIR))
    };
    match (folds || is_ours(".DIRSYNC"), is_respelled) {
        (_, true) => Names::Respelled,
        (true, false) => Names::Folded,
        (false, false) => Names::Exact,
    }
}

fn clear(staging: &OwnedFd) {
    for name in [FILE, LINK].into_iter().chain(ALIASES.into_iter().map(|(made, _)| made)) {
        let _ = rustix::fs::unlinkat(staging, name, AtFlags::empty());
    }
}

/// An error other than that it cannot be done proves nothing.
fn keeps_modes(file: &File) -> bool {
    [Mode(0o640), Mode(0o751)].into_iter().all(|mode| {
        match rustix::fs::fchmod(file, Bits::from_raw_mode(u32::from(mode.0))) {
            Ok(()) => beneath::facts(file).map_or(true, |now| now.stat.mode == mode),
            Err(e) => !is_not_kept(e),
        }
    })
}

fn mtime_step(file: &File) -> Option<u32> {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let tried = Timespec { tv_sec: TRIED.0, tv_nsec: i64::from(TRIED.1) };
    rustix::fs::futimens(file, &Timestamps { last_access: omit, last_modification: tried }).ok()?;
    let kept = beneath::facts(file).ok()?.stat.mtime;
    step_of(i128::from(kept.secs) * 1_000_000_000 + i128::from(kept.nanos))
}

/// The finest step that makes this of what was tried; some round up.
fn step_of(kept: i128) -> Option<u32> {
    let tried = i128::from(TRIED.0) * 1_000_000_000 + i128::from(TRIED.1);
    STEPS.into_iter().find(|step| {
        let step = i128::from(*step);
        let down = tried / step * step;
        kept == down || kept == down + step
    })
}

/// Of FUSE, what lies on a block device is this machine's alone.
fn is_remote(dir: &OwnedFd) -> bool {
    let Ok(facts) = rustix::fs::fstatfs(dir) else { return false };
    let kind = facts.f_type as u64 & 0xffff_ffff;
    REMOTE.contains(&kind) || (kind == FUSE && !is_on_block_device(dir))
}

/// By the mount's own line in `/proc/self/mountinfo`: `fuseblk` is how ntfs-3g and exfat-fuse
/// mount.
fn is_on_block_device(dir: &OwnedFd) -> bool {
    let Ok(facts) = beneath::facts(dir) else { return false };
    let device = format!("{}:{}", facts.device.0, facts.device.1);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| {
        let is_it = line.split(' ').nth(2) == Some(&device);
        is_it && line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("fuseblk"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::ext4(1_600_000_001_987_654_321, Some(1))]
    #[case::ntfs(1_600_000_001_987_654_300, Some(100))]
    #[case::exfat(1_600_000_001_980_000_000, Some(10_000_000))]
    #[case::whole_seconds(1_600_000_001_000_000_000, Some(1_000_000_000))]
    #[case::fat(1_600_000_000_000_000_000, Some(2_000_000_000))]
    #[case::something_else(1_500_000_000_000_000_000, None)]
    fn the_step_of_mtimes_is_told_from_one_that_was_set(#[case] kept: i128, #[case] step: Option<u32>) {
        assert_eq!(step_of(kept), step);
    }

    #[test]
    fn a_temporary_folder_keeps_what_linux_file_systems_keep() {
        let temp = tempfile::tempdir().unwrap();
        let dir: OwnedFd = File::open(temp.path()).unwrap().into();
        let keeps = probe(&dir, &dir);
        assert!(keeps.modes && keeps.symlinks, "{keeps:?}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "nothing of ours stays");
    }
}
