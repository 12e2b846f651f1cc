//! A file that is fetched: under a temporary name beside its goal until it is whole.
//!
//! The name follows from the goal and the content, so that a later try finds what is there of it.
//! Its bytes are hashed anew then, as nobody knows who wrote them. Deliberately not here: where the
//! bytes come from.

use super::Failure;
use crate::client::shown;
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const PREFIX: &str = ".dirsync-get-";
/// Hashed at once (bytes).
const PART_BYTES: usize = 1 << 20;

/// Where bytes go, and what they hash to.
pub(super) struct ContentSink {
    pub out: Box<dyn Write>,
    pub at: u64,
    pub hasher: blake3::Hasher,
}

impl ContentSink {
    pub(super) fn new(out: Box<dyn Write>) -> Self {
        Self { out, at: 0, hasher: blake3::Hasher::new() }
    }

    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.out.write_all(part)?;
        self.hasher.update(part);
        self.at += part.len() as u64;
        Ok(())
    }
}

pub(super) struct PartFile {
    file: File,
    path: PathBuf,
    goal: PathBuf,
}

impl PartFile {
    /// The size of what is at the goal, if that is this content already; refused, if it is not and
    /// may not be replaced.
    pub(super) fn is_there(goal: &Path, content: &str, may_replace: bool) -> Result<Option<u64>, Failure> {
        let Ok(facts) = goal.symlink_metadata() else { return Ok(None) };
        if facts.is_file() {
            let mut hasher = blake3::Hasher::new();
            let hashed = File::open(goal).and_then(|mut file| hash(&mut file, &mut hasher));
            if hashed.is_ok_and(|size| size == facts.len()) && hasher.finalize().to_string() == content {
                return Ok(Some(facts.len()));
            }
        }
        match (may_replace, facts.is_dir()) {
            (true, false) => Ok(None),
            (_, true) => Err(Failure::Partly(format!("a folder is at '{}'", shown(goal)))),
            (false, false) => {
                Err(Failure::Partly(format!("'{}' is there with another content; --force replaces it", shown(goal))))
            }
        }
    }

    /// What is there of it from an earlier try, and a sink that goes on behind that.
    pub(super) fn open(goal: &Path, content: &str) -> Result<(Self, ContentSink), Failure> {
        let dir = goal.parent().unwrap_or(Path::new("."));
        let name = blake3::hash(goal.file_name().unwrap_or_default().as_bytes()).to_hex();
        let of_goal = format!("{PREFIX}{}-", &name[..16]);
        let path = dir.join(format!("{of_goal}{}", &blake3::hash(content.as_bytes()).to_hex()[..16]));
        let failed = |why: io::Error| Failure::Partly(format!("'{}': {why}", shown(&path)));
        fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.bits() as i32);
        let mut file = options.open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Failure::Partly("it is being fetched already".to_owned())),
            Err(why) => return Err(failed(why.into())),
        }
        check_own(&file, &path).map_err(failed)?;
        remove_others(dir, &of_goal, &path);
        let mut sink = ContentSink::new(Box::new(file.try_clone().map_err(failed)?));
        sink.at = hash(&mut file, &mut sink.hasher).map_err(failed)?;
        Ok((Self { file, path, goal: goal.to_owned() }, sink))
    }

    /// Gives it its name, once it is durable.
    pub(super) fn place(self, may_replace: bool) -> io::Result<()> {
        self.file.sync_all()?;
        if may_replace {
            return fs::rename(&self.path, &self.goal);
        }
        match rustix::fs::renameat_with(CWD, &self.path, CWD, &self.goal, RenameFlags::NOREPLACE) {
            // A file system that does not know that, as NFS: a second name replaces nothing either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(&self.path, &self.goal)?;
                fs::remove_file(&self.path)
            }
            done => Ok(done?),
        }
    }

    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What is left of other contents of this goal, which nobody goes on with.
fn remove_others(dir: &Path, of_goal: &str, own: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == own || !entry.file_name().as_bytes().starts_with(of_goal.as_bytes()) {
            continue;
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&path) else { continue };
        let is_free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_free && check_own(&file, &path).is_ok() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Another user's file, one with a second name, or one whose name means another by now could be
/// written by others after it was verified.
fn check_own(file: &File, path: &Path) -> io::Result<()> {
    let (opened, named) = (file.metadata()?, path.symlink_metadata()?);
    let is_own = opened.uid() == rustix::process::geteuid().as_raw();
    let is_it = (opened.dev(), opened.ino()) == (named.dev(), named.ino());
    if opened.is_file() && opened.nlink() == 1 && is_own && is_it {
        return Ok(());
    }
    Err(io::Error::other("it is not a part that this user has fetched; remove it, or fetch to another folder"))
}

/// How many bytes that were, to the end.
fn hash(file: &mut File, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let (mut part, mut size) = (vec![0; PART_BYTES], 0);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(size),
            length => {
                hasher.update(&part[..length]);
                size += length as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the part of `goal` lies.
    fn part_of(goal: &Path) -> PathBuf {
        let (part, _) = PartFile::open(goal, "content").unwrap();
        let path = part.path.clone();
        part.discard();
        path
    }

    #[test]
    fn a_part_that_is_no_plain_file_of_ours_is_refused_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let goal = home.path().join("goal");
        let path = part_of(&goal);
        let refused = || matches!(PartFile::open(&goal, "content"), Err(Failure::Partly(_)));
        let other = home.path().join("other");
        fs::write(&other, "theirs").unwrap();
        fs::hard_link(&other, &path).unwrap();
        assert!(refused(), "a second name of another file");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(refused(), "a link");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(refused(), "a fifo");
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        fs::remove_file(&path).unwrap();
        assert!(!refused());
    }

    #[test]
    fn what_came_to_the_goal_meanwhile_is_replaced_only_where_that_is_meant() {
        let home = tempfile::tempdir().unwrap();
        let goal = home.path().join("goal");
        for (may_replace, due) in [(false, "theirs"), (true, "ours")] {
            let (part, mut sink) = PartFile::open(&goal, "content").unwrap();
            sink.write(&b"ours"[sink.at as usize..]).unwrap();
            fs::write(&goal, "theirs").unwrap();
            assert_eq!(part.place(may_replace).is_ok(), may_replace);
            assert_eq!(fs::read_to_string(&goal).unwrap(), due);
        }
    }

    #[test]
    fn what_is_left_of_an_older_content_goes_unless_somebody_fetches_it() {
        let home = tempfile::tempdir().unwrap();
        let (goal, other) = (home.path().join("goal"), home.path().join("other"));
        let left = PartFile::open(&goal, "older").unwrap().0.path;
        let (of_other, _) = PartFile::open(&other, "older").unwrap();
        let (busy, _) = PartFile::open(&goal, "busy").unwrap();
        assert!(!left.exists(), "the lock went with its file");
        PartFile::open(&goal, "newer").unwrap();
        assert!(busy.path.exists() && of_other.path.exists());
    }
}
