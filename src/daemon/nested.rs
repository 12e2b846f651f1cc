//! A synced folder inside a synced folder: two daemons would fight over one tree, unless the outer one ignores the inner.
//!
//! Only a `.dirsync` of this user's or root's counts: anyone may make one above us, in /tmp, say. Deliberately not here: what
//! patterns mean (`engine::ignore`).

use super::{DaemonError, shown};
use crate::engine::ignore::{IGNORE_FILE_BYTES, Ignore};
use crate::model::SyncPath;
use crate::model::path::{IGNORE_FILE, PRIVATE_DIR};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Refuses a folder that lies inside another synced folder and is not ignored there.
pub(super) fn refuse(directory: &Path) -> Result<(), DaemonError> {
    let ours = rustix::process::geteuid().as_raw();
    for outer in directory.ancestors().skip(1) {
        let is_ours = |path: &Path| fs::symlink_metadata(path).is_ok_and(|facts| [0, ours].contains(&facts.uid()));
        let private = outer.join(PRIVATE_DIR);
        if !is_ours(&private) || !private.join("marker").is_file() {
            continue;
        }
        let below = directory.strip_prefix(outer).ok().map(|below| below.as_os_str().as_bytes());
        let Some(below) = below.and_then(|below| SyncPath::new(below).ok()) else { continue };
        if !patterns(outer).covers(&below, true) {
            return Err(DaemonError::Nested { inner: shown(directory), outer: shown(outer), below: below.to_text() });
        }
    }
    Ok(())
}

fn patterns(outer: &Path) -> Ignore {
    let file = outer.join(IGNORE_FILE);
    let is_file = file.symlink_metadata().is_ok_and(|facts| facts.is_file());
    let mut text = Vec::new();
    if is_file && let Ok(opened) = File::open(&file) {
        let _ = opened.take(IGNORE_FILE_BYTES).read_to_end(&mut text);
    }
    Ignore::parse(&text).0
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
}
