//! A synced folder inside a synced folder: two daemons would fight over one tree, unless the outer
//! one ignores the inner.
//!
//! What lies below a folder is searched before its first start alone: after that, whoever starts
//! below it is refused. Only a `.dirsync` of this user's or root's counts: anyone may make one
//! above us, in /tmp, say. Deliberately not here: what patterns mean (`engine::ignore`).

use crate::engine::api::ignore::Ignore;
use crate::engine::limits::IGNORE_FILE_BYTES;
use crate::model::path::{IGNORE_FILE, PRIVATE_DIR};
use crate::model::{SyncPath, text};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which two folders.
#[derive(Debug, thiserror::Error)]
pub enum NestedError {
    #[error(
        "'{inner}' lies inside the synced folder '{outer}', and both would sync it; name another \
         folder, or have the outer one ignore it: add the line '/{below}/' to \
         {outer}/.dirsyncignore"
    )]
    Nested { inner: String, outer: String, below: String },
    #[error(
        "the synced folder '{inner}' lies inside '{outer}', and both would sync it; name another \
         folder, or ignore it here: add the line '/{below}/' to {outer}/.dirsyncignore; if \
         nothing syncs it any more, remove its .dirsync"
    )]
    Around { inner: String, outer: String, below: String },
}

/// Refuses a folder that lies inside another synced folder and is not ignored there, and one with a
/// synced folder inside that it does not ignore.
pub fn refuse(directory: &Path) -> Result<(), NestedError> {
    refuse_inside(directory)?;
    if is_synced(directory) { Ok(()) } else { refuse_around(directory) }
}

/// Whether this folder is synced, or was and may be again.
pub fn is_synced(folder: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let private = folder.join(PRIVATE_DIR);
    let is_ours = fs::symlink_metadata(&private).is_ok_and(|facts| [0, ours].contains(&facts.uid()));
    is_ours && private.join("marker").is_file()
}

/// What is mounted inside the folder is none of it.
fn refuse_around(outer: &Path) -> Result<(), NestedError> {
    let Ok(facts) = fs::metadata(outer) else { return Ok(()) };
    let (device, ignore) = (facts.dev(), patterns(outer));
    let mut left = vec![outer.to_owned()];
    while let Some(folder) = left.pop() {
        // What cannot be listed is not synced either.
        let Ok(children) = fs::read_dir(&folder) else { continue };
        for child in children.flatten().filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
            let inner = child.path();
            let below = inner.strip_prefix(outer).ok().map(|below| below.as_os_str().as_bytes());
            let Some(below) = below.and_then(|below| SyncPath::new(below).ok()) else { continue };
            let is_mounted = child.metadata().is_ok_and(|facts| facts.dev() != device);
            if is_mounted || ignore.ignores(&below, true) {
                continue;
            }
            if is_synced(&inner) {
                return Err(NestedError::Around { inner: shown(&inner), outer: shown(outer), below: below.to_text() });
            }
            left.push(inner);
        }
    }
    Ok(())
}

fn refuse_inside(directory: &Path) -> Result<(), NestedError> {
    for outer in directory.ancestors().skip(1) {
        if !is_synced(outer) {
            continue;
        }
        let below = directory.strip_prefix(outer).ok().map(|below| below.as_os_str().as_bytes());
        let Some(below) = below.and_then(|below| SyncPath::new(below).ok()) else { continue };
        if !patterns(outer).ignores(&below, true) {
            return Err(NestedError::Nested { inner: shown(directory), outer: shown(outer), below: below.to_text() });
        }
    }
    Ok(())
}

fn patterns(outer: &Path) -> Ignore {
    let file = outer.join(IGNORE_FILE);
    let is_file = file.symlink_metadata().is_ok_and(|facts| facts.is_file());
    let mut patterns = Vec::new();
    if is_file && let Ok(opened) = File::open(&file) {
        let _ = opened.take(IGNORE_FILE_BYTES).read_to_end(&mut patterns);
    }
    Ignore::parse(&patterns).0
}

fn shown(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn a_folder_inside_a_synced_one_is_refused_unless_it_is_ignored_there() {
        let home = TempDir::new().unwrap();
        let (outer, inner) = (home.path().join("outer"), home.path().join("outer/a/inner"));
        fs::create_dir_all(&inner).unwrap();
        refuse(&inner).unwrap();
        fs::create_dir(outer.join(PRIVATE_DIR)).unwrap();
        refuse(&inner).unwrap();
        fs::write(outer.join(PRIVATE_DIR).join("marker"), "m").unwrap();
        let why = refuse(&inner).unwrap_err().to_string();
        assert!(why.contains("'/a/inner/'") && why.contains("outer/.dirsyncignore"), "{why}");
        refuse(&outer).unwrap();
        fs::write(outer.join(IGNORE_FILE), "/a/*\n").unwrap();
        refuse(&inner).unwrap();
    }

    #[test]
    fn a_folder_around_a_synced_one_is_refused_before_its_first_start_unless_it_ignores_that() {
        let home = TempDir::new().unwrap();
        let (outer, inner) = (home.path().join("outer"), home.path().join("outer/a/inner"));
        let make = |folder: &Path| {
            fs::create_dir_all(folder.join(PRIVATE_DIR)).unwrap();
            fs::write(folder.join(PRIVATE_DIR).join("marker"), "m").unwrap();
        };
        make(&inner);
        let why = refuse(&outer).unwrap_err().to_string();
        assert!(why.contains("'/a/inner/'") && why.contains("outer/.dirsyncignore"), "{why}");
        fs::write(outer.join(IGNORE_FILE), "/a/inner/\n").unwrap();
        refuse(&outer).unwrap();
        fs::remove_file(outer.join(IGNORE_FILE)).unwrap();
        std::os::unix::fs::symlink(&inner, home.path().join("link")).unwrap();
        fs::create_dir(home.path().join("beside")).unwrap();
        std::os::unix::fs::symlink(&inner, home.path().join("beside/link")).unwrap();
        refuse(&home.path().join("beside")).unwrap();
        make(&outer);
        refuse(&outer).unwrap();
    }
}
