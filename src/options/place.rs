//! Which state directory belongs to a folder: by what the folder is, not by how it is called. And
//! which are kept.
//!
//! Reads and changes nothing. Deliberately not here: where a daemon has its own (`options.rs`), and
//! making them.

use super::{OptionError, resolve, shown, state_name};
use crate::model::folder::{FolderId, FolderRecord};
use crate::model::path::PRIVATE_DIR;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The record's name in a state directory.
const RECORD: &str = "folder";
/// Where the machine's units have their state.
pub const SYSTEM_STATES: &str = "/var/lib/dirsyncd";
/// Far above any record.
const RECORD_BYTES: u64 = 64 << 10;

/// The one below `home` whose folder this was, by inode, file system and marker, also under another
/// name. Else the one of this name, unless that belongs to a folder which is elsewhere now.
/// `moved_from`: a person says that this is the folder which was there.
pub fn state_dir(home: &Path, directory: &Path, moved_from: Option<&Path>) -> Result<PathBuf, OptionError> {
    let of_name = home.join(state_name(directory));
    let id = id_of(directory).ok();
    let marker = small_text(&directory.join(PRIVATE_DIR).join("marker"));
    let marker = marker.as_deref().map(str::trim_end);
    if let Some(old) = moved_from {
        return moved(home, directory, old);
    }
    let is_of = |record: &FolderRecord| id.is_some_and(|id| record.is_of(&id, marker));
    if record(&of_name).is_some_and(|record| is_of(&record)) {
        return Ok(of_name);
    }
    if let Some((found, _)) = all(home).into_iter().find(|(_, record)| is_of(record)) {
        return Ok(found);
    }
    let is_anothers = |dir: &Path| record(dir).is_some_and(|record| record.path != directory.as_os_str().as_bytes());
    let numbered = (2..).map(|n| {
        let mut name = of_name.clone().into_os_string();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    });
    let free = std::iter::once(of_name.clone()).chain(numbered).find(|dir| !is_anothers(dir));
    Ok(free.unwrap_or(of_name))
}

fn moved(home: &Path, directory: &Path, old: &Path) -> Result<PathBuf, OptionError> {
    let old = resolve(old)?;
    if old == directory {
        return Err(OptionError::MovedFrom { old: shown(&old), why: "that is the folder itself" });
    }
    if old.symlink_metadata().is_ok() {
        let why = "it is still there, so this is a copy; without --moved-from it becomes a machine of its own";
        return Err(OptionError::MovedFrom { old: shown(&old), why });
    }
    // Where the name was given through a link that is gone with it, the record still has the real
    // one.
    let found = all(home).into_iter().find(|(_, record)| record.path == old.as_os_str().as_bytes());
    let found = found.map(|(dir, _)| dir).or_else(|| Some(home.join(state_name(&old))).filter(|dir| dir.is_dir()));
    let why = "no state is kept of a folder there; name the path under which it was synced last";
    found.ok_or(OptionError::MovedFrom { old: shown(&old), why })
}

/// A state directory that is kept, and what it remembers of its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptState {
    pub dir: PathBuf,
    /// Where the folder was at the last start.
    pub folder: PathBuf,
    record: FolderRecord,
}

impl KeptState {
    /// Whether the folder at this path is the one that the state belongs to.
    pub fn is_of(&self, folder: &Path) -> bool {
        let marker = small_text(&folder.join(PRIVATE_DIR).join("marker"));
        id_of(folder).is_ok_and(|id| self.record.is_of(&id, marker.as_deref().map(str::trim_end)))
    }
}

/// Those below these folders that this user can read.
pub fn kept_states(homes: &[PathBuf]) -> Vec<KeptState> {
    let states = homes.iter().flat_map(|home| all(home));
    let kept = states.map(|(dir, record)| {
        let folder = PathBuf::from(OsStr::from_bytes(&record.path));
        KeptState { dir, folder, record }
    });
    kept.collect()
}

/// Where state directories of this user and of the machine's units are: of daemons that were run by
/// hand, of the user's units (below systemd 254 in the second), and of the machine's.
pub fn state_homes(environment: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let home = |name: &str, below: &str| {
        let below_home = || environment("HOME").map(|home| Path::new(&home).join(below));
        environment(name).map(PathBuf::from).or_else(below_home).map(|home| home.join("dirsyncd"))
    };
    let own = [home("XDG_STATE_HOME", ".local/state"), home("XDG_CONFIG_HOME", ".config")];
    own.into_iter().flatten().chain([PathBuf::from(SYSTEM_STATES)]).collect()
}

fn all(home: &Path) -> Vec<(PathBuf, FolderRecord)> {
    let Ok(list) = fs::read_dir(home) else { return Vec::new() };
    let mut dirs: Vec<_> = list.flatten().map(|child| child.path()).collect();
    dirs.sort();
    dirs.into_iter().filter_map(|dir| Some((record(&dir)?, dir))).map(|(record, dir)| (dir, record)).collect()
}

fn record(dir: &Path) -> Option<FolderRecord> {
    FolderRecord::from_text(&small_text(&dir.join(RECORD))?)
}

/// Of a regular file; a fifo in its place blocks nobody.
fn small_text(path: &Path) -> Option<String> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(RECORD_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn id_of(directory: &Path) -> io::Result<FolderId> {
    let facts = fs::metadata(directory)?;
    let file_system = rustix::fs::statvfs(directory)?.f_fsid;
    Ok(FolderId { inode: facts.ino(), device: facts.dev(), file_system })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Bench {
        home: TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let home = TempDir::new().unwrap();
            fs::create_dir(home.path().join("states")).unwrap();
            Self { home }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.home.path().canonicalize().unwrap().join(name)
        }

        /// A folder that a daemon has synced, and its state directory.
        fn synced(&self, name: &str, marker: &str) -> PathBuf {
            let folder = self.path(name);
            fs::create_dir_all(folder.join(PRIVATE_DIR)).unwrap();
            fs::write(folder.join(PRIVATE_DIR).join("marker"), marker).unwrap();
            let state = self.found(name);
            fs::create_dir_all(&state).unwrap();
            self.remember(name, &state, marker);
            state
        }

        fn remember(&self, name: &str, state: &Path, marker: &str) {
            let path = self.path(name);
            let id = id_of(&path).unwrap();
            let record = FolderRecord { path: path.as_os_str().as_bytes().to_vec(), id, markers: vec![marker.into()] };
            fs::write(state.join(RECORD), record.to_text()).unwrap();
        }

        fn found(&self, name: &str) -> PathBuf {
            state_dir(&self.path("states"), &self.path(name), None).unwrap()
        }

        fn moved(&self, name: &str, old: &str) -> Result<PathBuf, OptionError> {
            state_dir(&self.path("states"), &self.path(name), Some(&self.path(old)))
        }
    }

    #[test]
    fn a_renamed_folder_keeps_its_state_and_its_old_name_is_free() {
        let bench = Bench::new();
        let state = bench.synced("data", "m1");
        assert_eq!(bench.found("data"), state);
        fs::rename(bench.path("data"), bench.path("moved")).unwrap();
        assert_eq!(bench.found("moved"), state, "it is found by what it is");
        bench.remember("moved", &state, "m1");
        fs::create_dir(bench.path("data")).unwrap();
        let second = bench.found("data");
        assert!(second != state && second.to_str().unwrap().ends_with("-2"), "{second:?}");
        fs::create_dir(&second).unwrap();
        bench.remember("data", &second, "m2");
        fs::create_dir(bench.path("data").join(PRIVATE_DIR)).unwrap();
        fs::write(bench.path("data").join(PRIVATE_DIR).join("marker"), "m2\n").unwrap();
        assert_eq!(bench.found("data"), second, "and stays with that");
    }

    #[test]
    fn states_that_are_kept_name_their_folders() {
        let bench = Bench::new();
        let state = bench.synced("data", "m1");
        fs::create_dir(bench.path("states").join("nothing-in-it")).unwrap();
        let kept = kept_states(&[bench.path("none"), bench.path("states")]);
        assert_eq!(
            kept.iter().map(|kept| (&kept.dir, &kept.folder)).collect::<Vec<_>>(),
            [(&state, &bench.path("data"))]
        );
        assert!(kept[0].is_of(&bench.path("data")));
        fs::rename(bench.path("data"), bench.path("moved")).unwrap();
        fs::create_dir(bench.path("data")).unwrap();
        assert!(kept[0].is_of(&bench.path("moved")) && !kept[0].is_of(&bench.path("data")));
    }

    #[test]
    fn states_are_looked_for_where_daemons_and_units_have_them() {
        let homes = |set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
            let homes = state_homes(found).into_iter().map(|home| home.to_str().unwrap().to_owned());
            homes.collect::<Vec<_>>()
        };
        assert_eq!(homes(&[]), ["/var/lib/dirsyncd"]);
        let of_home = ["/h/.local/state/dirsyncd", "/h/.config/dirsyncd", "/var/lib/dirsyncd"];
        assert_eq!(homes(&[("HOME", "/h")]), of_home);
        let named = [("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")];
        assert_eq!(homes(&named), ["/s/dirsyncd", "/c/dirsyncd", "/var/lib/dirsyncd"]);
    }

    #[test]
    fn a_copy_has_a_state_of_its_own() {
        let bench = Bench::new();
        let state = bench.synced("data", "m1");
        fs::create_dir_all(bench.path("copy").join(PRIVATE_DIR)).unwrap();
        fs::write(bench.path("copy").join(PRIVATE_DIR).join("marker"), "m1").unwrap();
        assert_ne!(bench.found("copy"), state);
        assert!(bench.moved("copy", "data").unwrap_err().to_string().contains("still there"));
        fs::remove_dir_all(bench.path("data")).unwrap();
        assert_ne!(bench.found("copy"), state, "not by itself: it may be a copy of long ago");
        assert_eq!(bench.moved("copy", "data").unwrap(), state, "a person knows that it was moved");
        assert!(bench.moved("copy", "never").unwrap_err().to_string().contains("no state is kept"));
        assert!(bench.moved("copy", "copy").unwrap_err().to_string().contains("the folder itself"));
    }

    #[test]
    fn a_folder_at_the_old_place_that_is_another_one_still_gets_the_state_of_its_name() {
        // Its disk is not mounted, perhaps: the daemon that finds no marker there stops and deletes
        // nothing (P8).
        let bench = Bench::new();
        let state = bench.synced("data", "m1");
        fs::rename(bench.path("data"), bench.path("away")).unwrap();
        fs::create_dir(bench.path("data")).unwrap();
        assert_eq!(bench.found("data"), state);
    }
}
