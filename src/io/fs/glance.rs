//! A folder as it is, read and never written: for a preview, before anything of it is synced.
//!
//! Through the folder's descriptor as everything else (P7). Deliberately not here: what it means.

use crate::engine::StatKind;
use crate::engine::api::ignore::Ignore;
use crate::engine::merge::{ObservationSource, stamp};
use crate::engine::preview::FoundHere;
use crate::io::clock::wall_ns;
use crate::io::fs::beneath;
use crate::model::path::{IGNORE_FILE, PRIVATE_DIR};
use crate::model::{ContentId, SyncPath};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::path::Path;

const LIST_BYTES: usize = 64 * 1024;
/// As the daemon reads it.
const PATTERNS_BYTES: u64 = 1 << 20;

/// A folder that is only looked at.
pub struct Glance {
    dir: OwnedFd,
    device: (u32, u32),
}

impl Glance {
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let device = beneath::facts(&dir)?.place().0;
        Ok(Self { dir, device })
    }

    /// `.dirsyncignore`, if there is one that can be read.
    pub fn patterns(&self) -> Option<Vec<u8>> {
        let (file, facts) = beneath::regular(&self.dir, IGNORE_FILE.as_bytes()).ok()??;
        let mut text = Vec::new();
        file.take(PATTERNS_BYTES).read_to_end(&mut text).ok()?;
        (facts.stat.size <= PATTERNS_BYTES).then_some(text)
    }

    /// When that file was changed (ns since 1970); of the future, as a first scan dates it.
    pub fn patterns_stamp(&self) -> Option<u64> {
        let facts = beneath::facts_at(&self.dir, IGNORE_FILE.as_bytes()).ok()??;
        Some(stamp(ObservationSource::First, wall_ns(), 0, &facts.stat, None))
    }

    /// All that would be synced, and how much could not be read.
    pub fn tree(&self, ignore: &Ignore) -> io::Result<(BTreeMap<SyncPath, FoundHere>, u64)> {
        let (mut found, mut unread) = (BTreeMap::new(), 0);
        let mut folders = vec![None];
        while let Some(folder) = folders.pop() {
            match self.list(folder.as_ref(), ignore, &mut found) {
                Ok(below) => folders.extend(below.into_iter().map(Some)),
                // The folder itself cannot be read: there is nothing to preview.
                Err(why) if folder.is_none() => return Err(why.into()),
                Err(_) => unread += 1,
            }
        }
        Ok((found, unread))
    }

    fn list(
        &self,
        folder: Option<&SyncPath>,
        ignore: &Ignore,
        found: &mut BTreeMap<SyncPath, FoundHere>,
    ) -> rustix::io::Result<Vec<SyncPath>> {
        let dir = beneath::readable_folder(&self.dir, folder)?;
        let (mut buffer, mut below) = (vec![MaybeUninit::uninit(); LIST_BYTES], Vec::new());
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || (folder.is_none() && name == PRIVATE_DIR.as_bytes()) {
                continue;
            }
            let Ok(path) = SyncPath::join(folder, name) else { continue };
            // Gone meanwhile, or not to be read: the others are.
            let Ok(Some(facts)) = beneath::facts_at(&dir, name) else { continue };
            let is_folder = facts.stat.kind == StatKind::Directory;
            if facts.device != self.device || facts.mount || ignore.ignores(&path, is_folder) {
                continue;
            }
            let target = match facts.stat.kind {
                StatKind::Symlink => {
                    rustix::fs::readlinkat(&dir, name, Vec::new()).ok().map(std::ffi::CString::into_bytes)
                }
                _ => None,
            };
            if is_folder {
                below.push(path.clone());
            }
            found.insert(path, FoundHere { stat: facts.stat, target });
        }
        Ok(below)
    }

    /// What a file holds; `None` if it cannot be read, or is none any more.
    pub fn content(&self, path: &SyncPath) -> Option<ContentId> {
        let parent = beneath::folder(&self.dir, path.parent().as_ref()).ok()?;
        let (file, _) = beneath::regular(&parent, path.name()).ok()??;
        beneath::content_of(&file).ok().map(|(content, _)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_is_read_as_it_would_be_synced_and_left_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        fs::create_dir_all(dir.join("d/e")).unwrap();
        fs::create_dir_all(dir.join(".dirsync/history")).unwrap();
        fs::create_dir_all(dir.join("node_modules/x")).unwrap();
        for name in ["a", "d/e/f", ".dirsync/marker", "node_modules/x/y"] {
            fs::write(dir.join(name), name).unwrap();
        }
        fs::write(dir.join(IGNORE_FILE), "node_modules/\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("d/out")).unwrap();
        let glance = Glance::open(dir).unwrap();
        let (ignore, _) = Ignore::parse(&glance.patterns().unwrap());
        let (found, unread) = glance.tree(&ignore).unwrap();
        let names: Vec<_> = found.keys().map(SyncPath::to_text).collect();
        assert_eq!(names, [".dirsyncignore", "a", "d", "d/e", "d/e/f", "d/out", "link"]);
        assert_eq!(unread, 0);
        let path = |name: &str| SyncPath::new(name).unwrap();
        assert_eq!(found[&path("link")].target.as_deref(), Some(&b"/etc/passwd"[..]));
        assert_eq!(glance.content(&path("d/e/f")), Some(ContentId::of(b"d/e/f")));
        assert_eq!((glance.content(&path("link")), glance.content(&path("d/out/passwd"))), (None, None));
        assert_eq!(fs::read_dir(dir.join(".dirsync")).unwrap().count(), 2, "nothing was made there");
    }
}
