//! Which folder is meant, and which path in it.
//!
//! Names are taken as other tools take them: relative to the current directory (or `-C DIR`), or absolute; links in them
//! are not followed, as the thing itself is meant. May import `client` and `model`.

use super::{Failure, when};
use crate::client::{Folder, shown};
use crate::model::{SyncPath, text};
use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

pub(super) struct Place {
    pub folder: Folder,
    /// Below the folder.
    start: PathBuf,
}

impl Place {
    pub(super) fn find(directory: Option<PathBuf>) -> Result<Self, Failure> {
        let usage = |why: std::io::Error| Failure::Usage(format!("the current directory cannot be used: {why}"));
        let start = match directory {
            Some(directory) => directory
                .canonicalize()
                .map_err(|why| Failure::Usage(format!("-C '{}' cannot be used: {why}", shown(&directory))))?,
            None => env::current_dir().map_err(usage)?,
        };
        Ok(Self { folder: Folder::find(&start)?, start })
    }

    /// The text form of a path; `None` is the root. Nothing given: where we are.
    pub(super) fn path(&self, name: Option<&OsStr>) -> Result<Option<String>, Failure> {
        let name = name.unwrap_or(OsStr::new("."));
        let full = plain(&self.start.join(name));
        let Ok(below) = full.strip_prefix(&self.folder.path) else {
            let (name, folder) = (text::escape(name.as_bytes()), shown(&self.folder.path));
            return Err(Failure::Usage(format!("'{name}' is not in the synced folder '{folder}'")));
        };
        if below.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = SyncPath::new(below.as_os_str().as_bytes());
        path.map(|path| Some(path.to_text())).map_err(|why| Failure::Usage(format!("'{}': {why}", shown(below))))
    }

    /// The text form of a path that is not the root.
    pub(super) fn file(&self, name: &OsStr) -> Result<String, Failure> {
        let path = self.path(Some(name))?;
        path.ok_or_else(|| Failure::Usage("name a file, not the whole folder".to_owned()))
    }

    /// `PATH` or `PATH@TIME`, in nanoseconds; an '@' in a name is no time. No path is the root.
    pub(super) fn path_and_time(&self, name: &OsStr) -> Result<(Option<String>, Option<u64>), Failure> {
        let bytes = name.as_bytes();
        let (path, time) = match bytes.iter().rposition(|&b| b == b'@') {
            Some(at) if !self.start.join(name).exists() => (&bytes[..at], Some(&bytes[at + 1..])),
            _ => (bytes, None),
        };
        let time = time.map(|time| when::parse(&String::from_utf8_lossy(time), &jiff::Zoned::now()));
        let path = self.path(Some(OsStr::from_bytes(path)))?;
        Ok((path, time.transpose().map_err(Failure::Usage)?))
    }
}

/// Without `.` and `..`, by name alone.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut out, component| {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_are_taken_from_where_one_stands() {
        let home = tempfile::TempDir::new().unwrap();
        let root = home.path().canonicalize().unwrap();
        fs::create_dir_all(root.join(".dirsync")).unwrap();
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/me@home"), "").unwrap();
        let place = Place::find(Some(root.join("d"))).unwrap();
        let path = |name: &str| place.path(Some(OsStr::new(name))).map_err(|why| why.to_string());
        assert_eq!(place.path(None).unwrap().as_deref(), Some("d"));
        assert_eq!(path("f\n").unwrap().as_deref(), Some("d/f\\x0a"));
        assert_eq!(path("../x").unwrap().as_deref(), Some("x"));
        assert_eq!(path("..").unwrap(), None);
        assert_eq!(path(root.join("y").to_str().unwrap()).unwrap().as_deref(), Some("y"));
        assert!(path("../../x").unwrap_err().contains("not in the synced folder"));
        assert!(path("../.dirsync/x").unwrap_err().contains(".dirsync"));
        let timed = |name: &str| place.path_and_time(OsStr::new(name)).map_err(|why| why.to_string());
        assert_eq!(timed("me@home").unwrap(), (Some("d/me@home".to_owned()), None));
        assert_eq!(timed("f@1970-01-02T00:00:00Z").unwrap(), (Some("d/f".to_owned()), Some(86_400_000_000_000)));
        assert!(timed("f@noon").unwrap_err().contains("noon"));
        assert_eq!(timed("..@1970-01-02T00:00:00Z").unwrap(), (None, Some(86_400_000_000_000)));
        assert!(place.file(OsStr::new("..")).unwrap_err().to_string().contains("name a file"));
    }
}
