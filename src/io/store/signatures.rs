//! The signature directory: what the blocks of files are, kept by content, so that a change is told
//! by what differs from a version that is not here any more.
//!
//! A cache: whatever is missing, damaged or deleted while we run costs a larger transfer and
//! nothing else, so nothing in it is made durable. Names appear whole (written beside, then
//! renamed), contents carry a checksum, and two daemons may share one directory. Bounded: above 1 %
//! of the synced size, but at least 64 MiB, what was not used for longest goes (P9). Deliberately
//! not here: what a signature is (`delta`), and when one is made.

use crate::delta::signature::{Signature, file_bytes};
use crate::model::{ContentId, text};
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Room that is there even for a small folder.
const FLOOR_BYTES: u64 = 64 << 20;
const SHARE_OF_SYNCED: u64 = 100;
/// Another daemon may fill the same directory: after so many of our own, it is counted anew.
const COUNT_AGAIN: u32 = 1000;
/// What a writer left that was killed.
const UNFINISHED: &str = ".new-";
const UNFINISHED_FOR: Duration = Duration::from_hours(1);
/// A use is noted this often.
const USED_STEP: Duration = Duration::from_mins(1);

/// Kept signatures, by content.
#[derive(Debug)]
pub struct Signatures {
    dir: PathBuf,
    limit: AtomicU64,
    used: Mutex<Used>,
    has_complained: AtomicBool,
}

/// What the directory holds, as far as we know.
#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    /// Puts until it is counted; 0: it was never counted.
    puts_left: u32,
}

struct CachedSignature {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl Signatures {
    /// Nothing is touched before the first use.
    pub fn new(dir: PathBuf) -> Arc<Self> {
        let (limit, has_complained) = (AtomicU64::new(FLOOR_BYTES), AtomicBool::new(false));
        Arc::new(Self { dir, limit, used: Mutex::default(), has_complained })
    }

    /// How much is synced (bytes): decides how much is kept.
    pub fn set_synced(&self, bytes: u64) {
        self.limit.store((bytes / SHARE_OF_SYNCED).max(FLOOR_BYTES), Ordering::Relaxed);
    }

    /// The signature of a content of `size` bytes. What is damaged goes.
    pub fn get(&self, content: &ContentId, size: u64) -> Option<Signature> {
        let path = self.path(content);
        let bytes = match self.read(content, size) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return None,
            Err(why) => {
                self.complain("read", &why);
                return None;
            }
        };
        match Signature::from_bytes(content, size, &bytes) {
            Ok(signature) => Some(signature),
            Err(why) => {
                tracing::debug!(
                    "{why}: '{}' is made anew when it is needed",
                    text::escape(path.as_os_str().as_bytes())
                );
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Whether it is kept, most likely.
    pub fn has(&self, content: &ContentId) -> bool {
        fs::symlink_metadata(self.path(content)).is_ok_and(|facts| facts.is_file())
    }

    /// Keeps a signature, as far as that is possible.
    pub fn put(&self, content: &ContentId, signature: &Signature) {
        if self.has(content) {
            return;
        }
        let bytes = signature.to_bytes(content);
        let stored = self.store(content, &bytes).or_else(|_| {
            // Someone may just have deleted it.
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            self.store(content, &bytes)
        });
        match stored {
            Ok(()) => self.stored(bytes.len() as u64),
            Err(why) => self.complain("write", &why),
        }
    }

    fn path(&self, content: &ContentId) -> PathBuf {
        self.dir.join(content.to_string())
    }

    /// One byte too many is enough to see that it is not one.
    fn read(&self, content: &ContentId, size: u64) -> io::Result<Vec<u8>> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(self.path(content))?;
        let mut bytes = Vec::with_capacity(file_bytes(size) + 1);
        (&file).take(file_bytes(size) as u64 + 1).read_to_end(&mut bytes)?;
        note_use(&file);
        Ok(bytes)
    }

    fn store(&self, content: &ContentId, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.dir)?;
        file.write_all(bytes)?;
        file.persist(self.path(content))?;
        Ok(())
    }

    fn stored(&self, bytes: u64) {
        let mut used = self.used();
        used.bytes += bytes;
        let is_counted = used.puts_left > 0;
        used.puts_left = used.puts_left.saturating_sub(1);
        if is_counted && used.bytes <= self.limit.load(Ordering::Relaxed) {
            return;
        }
        match self.make_room() {
            Ok(bytes) => *used = Used { bytes, puts_left: COUNT_AGAIN },
            Err(why) => self.complain("list", &why),
        }
    }

    /// What was not used for longest goes, until an eighth is free; what is left (bytes).
    fn make_room(&self) -> io::Result<u64> {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut kept = self.list()?;
        let mut left: u64 = kept.iter().map(|kept| kept.bytes).sum();
        if left <= limit {
            return Ok(left);
        }
        kept.sort_unstable_by_key(|kept| kept.used);
        for old in kept {
            if left <= limit - limit / 8 {
                break;
            }
            if fs::remove_file(&old.path).is_ok() {
                left -= old.bytes;
            }
        }
        Ok(left)
    }

    /// Ours alone: by their names. What a killed writer left is removed by the way.
    fn list(&self) -> io::Result<Vec<CachedSignature>> {
        let mut kept = Vec::new();
        for item in fs::read_dir(&self.dir)? {
            let item = item?;
            let (name, Ok(facts)) = (item.file_name(), item.metadata()) else { continue };
            let used = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let name = name.as_bytes();
            if name.starts_with(UNFINISHED.as_bytes()) {
                if used.elapsed().is_ok_and(|age| age > UNFINISHED_FOR) {
                    let _ = fs::remove_file(item.path());
                }
            } else if name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit) && facts.is_file() {
                kept.push(CachedSignature { path: item.path(), used, bytes: facts.len() });
            }
        }
        Ok(kept)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once: what is missing is made up for.
    fn complain(&self, doing: &str, why: &io::Error) {
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            let dir = text::escape(self.dir.as_os_str().as_bytes());
            tracing::warn!(
                "cannot {doing} signatures in '{dir}': {why}; more travels of changed files than need be, until \
                 --signature-dir is a folder that this user may write and its disk has room"
            );
        }
    }
}

fn note_use(file: &File) {
    let now = SystemTime::now();
    let is_recent = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < USED_STEP);
    if !file.metadata().and_then(|facts| facts.modified()).is_ok_and(is_recent) {
        let _ = file.set_times(FileTimes::new().set_modified(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::signature::of_bytes;

    fn version(number: u64) -> (ContentId, Signature, u64) {
        let mut bytes = vec![0; 64 * 1024];
        blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut bytes);
        let (content, signature) = of_bytes(&bytes);
        (content, signature.unwrap(), bytes.len() as u64)
    }

    fn names(dir: &std::path::Path) -> usize {
        fs::read_dir(dir).map_or(0, Iterator::count)
    }

    #[test]
    fn what_is_put_is_found_also_by_another_daemon_and_after_the_folder_was_deleted() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/signatures");
        let (ours, theirs) = (Signatures::new(dir.clone()), Signatures::new(dir.clone()));
        let (content, signature, size) = version(1);
        assert_eq!(ours.get(&content, size), None);
        ours.put(&content, &signature);
        assert_eq!(theirs.get(&content, size), Some(signature.clone()));
        theirs.put(&content, &signature);
        assert_eq!(names(&dir), 1);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(ours.get(&content, size), None);
        ours.put(&content, &signature);
        assert_eq!(ours.get(&content, size), Some(signature));
    }

    #[test]
    fn what_is_damaged_or_no_file_is_not_believed() {
        let temp = tempfile::tempdir().unwrap();
        let kept = Signatures::new(temp.path().to_owned());
        let (content, signature, size) = version(1);
        let path = kept.path(&content);
        kept.put(&content, &signature);
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for bad in [vec![], flipped, good[1..].to_vec(), [&good[..], &[0]].concat(), vec![0; 40_000_000]] {
            fs::write(&path, bad).unwrap();
            assert_eq!(kept.get(&content, size), None);
            assert!(!path.exists());
        }
        kept.put(&content, &signature);
        assert_eq!(kept.get(&content, size + 1), None);
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(kept.get(&content, size), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(kept.get(&content, size), None);
    }

    #[test]
    fn above_the_limit_what_was_not_used_for_longest_goes_and_nothing_of_others() {
        let temp = tempfile::tempdir().unwrap();
        let kept = Signatures::new(temp.path().to_owned());
        let each = file_bytes(64 * 1024) as u64;
        kept.limit.store(16 * each, Ordering::Relaxed);
        fs::write(temp.path().join("somebody-else-s"), vec![0; 100_000]).unwrap();
        let versions: Vec<_> = (0..16).map(version).collect();
        for (age, (content, signature, _)) in versions.iter().enumerate() {
            kept.put(content, signature);
            let file = File::options().write(true).open(kept.path(content)).unwrap();
            let used = SystemTime::now() - Duration::from_secs(10_000 - age as u64);
            file.set_times(FileTimes::new().set_modified(used)).unwrap();
        }
        assert!(versions.iter().all(|(content, ..)| kept.has(content)));
        // The first is used again.
        assert!(kept.get(&versions[0].0, versions[0].2).is_some());
        let (content, signature, _) = version(99);
        kept.put(&content, &signature);
        let left: Vec<usize> = (0..16).filter(|n| kept.has(&versions[*n].0)).collect();
        assert_eq!(left, [&[0][..], &(4..16).collect::<Vec<_>>()].concat());
        assert!(kept.has(&content));
        assert!(temp.path().join("somebody-else-s").exists());
    }

    #[test]
    fn one_percent_of_what_is_synced_is_kept_but_never_less_than_64_mib() {
        let kept = Signatures::new("/nowhere".into());
        kept.set_synced(1 << 40);
        assert_eq!(kept.limit.load(Ordering::Relaxed), (1 << 40) / 100);
        kept.set_synced(0);
        assert_eq!(kept.limit.load(Ordering::Relaxed), FLOOR_BYTES);
    }
}
