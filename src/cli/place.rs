//! Which folder is meant, and which path in it.
//!
//! Names are taken as other tools take them: relative to the current directory (or `-C DIR`), or
//! absolute; links in them are not followed, as the thing itself is meant. May import `client` and
//! `model`.

use super::{Failure, when};
use crate::client::{Folder, shown};
use crate::model::{SyncPath, text};
use std::borrow::Cow;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// What `PATH[@TIME]` was taken for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meant {
    /// In its text form; `None`: the whole folder.
    pub path: Option<String>,
    /// Nanoseconds since 1970.
    pub at_ns: Option<u64>,
    /// How the other reading is asked for, if there was another.
    pub hint: Option<String>,
}

pub(super) struct CliPlace {
    pub folder: Folder,
    /// Below the folder.
    start: PathBuf,
}

impl CliPlace {
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
        if name.is_empty() {
            // A variable of a script that was never set.
            return Err(Failure::Usage("an empty name is no path; '.' is the folder where you are".to_owned()));
        }
        let name = &*self.unescaped(name);
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

    /// A name as dirsync prints it, with `\xNN` and `\\\\`, is taken for what it means, unless the
    /// disk has something of that very name. What dirsync would not print so is meant as it is.
    fn unescaped<'a>(&self, name: &'a OsStr) -> Cow<'a, OsStr> {
        if !name.as_bytes().contains(&b'\\') || self.is_here(name) {
            return Cow::Borrowed(name);
        }
        match name.to_str().and_then(text::unescape) {
            Some(bytes) if text::escape(&bytes).as_bytes() == name.as_bytes() => Cow::Owned(OsString::from_vec(bytes)),
            _ => Cow::Borrowed(name),
        }
    }

    fn is_here(&self, name: &OsStr) -> bool {
        self.start.join(name).symlink_metadata().is_ok()
    }

    /// The text form of a path that is not the root.
    pub(super) fn file(&self, name: &OsStr) -> Result<String, Failure> {
        let path = self.path(Some(name))?;
        path.ok_or_else(|| Failure::Usage("name a file, not the whole folder".to_owned()))
    }

    /// `PATH` or `PATH@TIME`. What follows the last '@' is a time if it reads as one and nothing of
    /// the whole name is here: what is to be restored is often deleted, so that its name alone must
    /// tell.
    pub(super) fn path_and_time(&self, name: &OsStr) -> Result<Meant, Failure> {
        let bytes = name.as_bytes();
        let whole = |hint| Ok(Meant { path: self.path(Some(name))?, at_ns: None, hint });
        let at = bytes.iter().rposition(|&b| b == b'@').filter(|&at| !bytes[at..].contains(&b'/'));
        let is_here = self.is_here(name) || self.is_here(&self.unescaped(name));
        let Some(at) = at.filter(|_| !is_here) else { return whole(None) };
        match when::parse(&String::from_utf8_lossy(&bytes[at + 1..]), &jiff::Zoned::now()) {
            Err(no_time) => whole(Some(no_time)),
            Ok(time) => {
                let hint = format!("a file of that whole name is meant by '{}@TIME'", text::escape(bytes));
                let path = self.path(Some(OsStr::from_bytes(&bytes[..at])))?;
                Ok(Meant { path, at_ns: Some(time), hint: Some(hint) })
            }
        }
    }
}

impl CliPlace {
    /// Whether a folder is meant: one that is there, or is called so.
    pub(super) fn is_folder(&self, name: &OsStr, path: Option<&str>) -> bool {
        name.as_bytes().ends_with(b"/") || path.is_none_or(|path| self.on_disk(path).is_some_and(|at| at.is_dir()))
    }

    /// Where a path is on this disk.
    pub(super) fn on_disk(&self, path: &str) -> Option<PathBuf> {
        let path = SyncPath::from_text(path).ok()?;
        Some(self.folder.path.join(OsStr::from_bytes(path.as_bytes())))
    }
}

/// The path of a name in a folder of the synced one.
pub(super) fn below(dir: Option<&str>, name: &[u8]) -> Result<String, Failure> {
    let bad =
        |why: &dyn Display| Failure::Usage(format!("'{}' cannot be in the synced folder: {why}", text::escape(name)));
    let dir = dir.map(SyncPath::from_text).transpose().map_err(|why| bad(&why))?;
    SyncPath::join(dir.as_ref(), name).map(|path| path.to_text()).map_err(|why| bad(&why))
}

/// Without `.` and `..`, by name alone.
pub(super) fn plain(path: &Path) -> PathBuf {
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
        let place = CliPlace::find(Some(root.join("d"))).unwrap();
        let path = |name: &str| place.path(Some(OsStr::new(name))).map_err(|why| why.to_string());
        assert_eq!(place.path(None).unwrap().as_deref(), Some("d"));
        assert_eq!(path("f\n").unwrap().as_deref(), Some("d/f\\x0a"));
        assert_eq!(path("../x").unwrap().as_deref(), Some("x"));
        assert_eq!(path("..").unwrap(), None);
        assert_eq!(path(root.join("y").to_str().unwrap()).unwrap().as_deref(), Some("y"));
        assert!(path("").unwrap_err().contains("empty") && place.path_and_time(OsStr::new("@2h")).is_err());
        assert!(path("../../x").unwrap_err().contains("not in the synced folder"));
        assert!(path("../.dirsync/x").unwrap_err().contains(".dirsync"));
        assert!(place.file(OsStr::new("..")).unwrap_err().to_string().contains("name a file"));
    }

    #[test]
    fn a_name_can_be_given_as_it_was_printed() {
        let home = tempfile::TempDir::new().unwrap();
        let root = home.path().canonicalize().unwrap();
        fs::create_dir_all(root.join(".dirsync")).unwrap();
        fs::write(root.join(OsStr::from_bytes(b"latin-\xe9.txt")), "").unwrap();
        fs::write(root.join(r"here\x41"), "").unwrap();
        let place = CliPlace::find(Some(root)).unwrap();
        let path = |name: &str| place.path(Some(OsStr::new(name))).unwrap().unwrap();
        for (given, printed) in [
            (r"latin-\xe9.txt", r"latin-\xe9.txt"),
            (r"gone\x0a\\b", r"gone\x0a\\b"),
            // It stands there under this very name.
            (r"here\x41", r"here\\x41"),
            // No escape of ours: it is printed as it is.
            (r"gone\x41", r"gone\\x41"),
            (r"a\b", r"a\\b"),
        ] {
            assert_eq!(path(given), printed, "{given}");
        }
        let meant = place.path_and_time(OsStr::new(r"latin-\xe9.txt@1970-01-02T00:00:00Z")).unwrap();
        assert_eq!((meant.path.as_deref(), meant.at_ns), (Some(r"latin-\xe9.txt"), Some(86_400_000_000_000)));
    }

    #[test]
    fn what_follows_an_at_is_a_time_only_if_it_reads_as_one_and_no_such_name_is_here() {
        let home = tempfile::TempDir::new().unwrap();
        let root = home.path().canonicalize().unwrap();
        fs::create_dir_all(root.join(".dirsync")).unwrap();
        fs::write(root.join("backup@3d"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("link@3d")).unwrap();
        let place = CliPlace::find(Some(root)).unwrap();
        let day = Some(86_400_000_000_000);
        for (name, path, at_ns, hint) in [
            ("f", Some("f"), None, ""),
            ("f@1970-01-02T00:00:00Z", Some("f"), day, "'f@1970-01-02T00:00:00Z@TIME'"),
            (".@1970-01-02T00:00:00Z", None, day, "@TIME"),
            // Names that were deleted.
            ("photo@2x.png", Some("photo@2x.png"), None, "'2x.png' is no time"),
            ("photo@2x.png@1970-01-02T00:00:00Z", Some("photo@2x.png"), day, "@TIME"),
            ("f@noon", Some("f@noon"), None, "'noon' is no time"),
            ("me@2h/f", Some("me@2h/f"), None, ""),
            // Names that are here.
            ("backup@3d", Some("backup@3d"), None, ""),
            ("link@3d", Some("link@3d"), None, ""),
        ] {
            let meant = place.path_and_time(OsStr::new(name)).unwrap();
            assert_eq!((meant.path.as_deref(), meant.at_ns), (path, at_ns), "{name}");
            let said = meant.hint.unwrap_or_default();
            assert!(said.contains(hint) && said.is_empty() == hint.is_empty(), "{name}: {said}");
        }
    }
}
