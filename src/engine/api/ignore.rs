//! What is not synced: `.dirsyncignore` in the root, in gitignore's syntax.

use crate::model::SyncPath;
use crate::model::path::IGNORE_FILE;
use ::ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The patterns in force; cheap to clone.
#[derive(Clone)]
pub struct Ignore(Arc<Gitignore>, Arc<Vec<String>>);

/// The pattern that covers a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covering {
    /// In the patterns' file, from 1.
    pub line: u64,
    pub pattern: String,
    /// What it matches: the path itself, or a folder that it is in.
    pub matched: SyncPath,
}

impl Default for Ignore {
    fn default() -> Self {
        Self(Arc::new(Gitignore::empty()), Arc::default())
    }
}

impl Ignore {
    /// Reads the patterns; with them, the lines that are no patterns (1-based) and why.
    pub fn parse(text: &[u8]) -> (Self, Vec<(usize, String)>) {
        // Some editors begin a file with it; git skips it, too.
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut builder = GitignoreBuilder::new("");
        let mut bad = Vec::new();
        let lines: Vec<String> = String::from_utf8_lossy(text).lines().map(ToOwned::to_owned).collect();
        for (number, line) in lines.iter().enumerate() {
            if let Err(error) = builder.add_line(None, line) {
                bad.push((number + 1, error.to_string()));
            }
        }
        let matcher = builder.build().unwrap_or_else(|error| {
            bad.push((0, error.to_string()));
            Gitignore::empty()
        });
        (Self(Arc::new(matcher), Arc::new(lines)), bad)
    }

    /// Whether the path, or a folder that it is in, is covered by a pattern. The patterns' own file
    /// never is.
    pub fn ignores(&self, path: &SyncPath, is_dir: bool) -> bool {
        if self.0.is_empty() || path.as_bytes() == IGNORE_FILE.as_bytes() {
            return false;
        }
        let bytes = path.as_bytes();
        let is_ignored = |bytes, is_dir| self.0.matched(Path::new(OsStr::from_bytes(bytes)), is_dir).is_ignore();
        // From the root down: nothing below a covered folder can be taken back, as it is never
        // entered.
        let mut folders = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &bytes[..at]);
        folders.any(|folder| is_ignored(folder, true)) || is_ignored(bytes, is_dir)
    }

    /// The pattern that covers the path, for a person who asks.
    pub fn covering(&self, path: &SyncPath, is_dir: bool) -> Option<Covering> {
        if !self.ignores(path, is_dir) {
            return None;
        }
        let mut folders: Vec<_> = path.ancestors().map(|folder| (folder, true)).collect();
        folders.reverse();
        folders.push((path.clone(), is_dir));
        folders.into_iter().find_map(|(matched, is_dir)| {
            let name = Path::new(OsStr::from_bytes(matched.as_bytes()));
            let pattern = match self.0.matched(name, is_dir) {
                ::ignore::Match::Ignore(glob) => glob.original().to_owned(),
                _ => return None,
            };
            // Of two lines that say the same, the later one decides.
            let line = self.1.iter().rposition(|line| line.trim_end() == pattern.trim_end())?;
            Some(Covering { line: line as u64 + 1, pattern, matched })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::by_name_anywhere("*.o", "src/a.o", false, true)]
    #[case::anchored("/build", "build/x", false, true)]
    #[case::anchored_elsewhere("/build", "src/build", false, false)]
    #[case::folder_only("tmp/", "tmp", false, false)]
    #[case::below_a_folder("tmp/", "a/tmp/b/c", false, true)]
    #[case::taken_back("*.log\n!keep.log", "keep.log", false, false)]
    #[case::taken_back_in_a_covered_folder("keep/\n!keep/a", "keep/a", false, true)]
    #[case::taken_back_in_a_folder_whose_children_are_covered("keep/*\n!keep/a", "keep/a", false, false)]
    #[case::taken_back_folder("*\n!d/\n!d/*", "d/f", false, false)]
    #[case::a_comment("# *", "a", false, false)]
    #[case::behind_a_byte_order_mark("\u{feff}*.tmp\n*.bak", "a.tmp", false, true)]
    #[case::a_byte_order_mark_in_the_midst_is_text("*.bak\n\u{feff}*.tmp", "a.tmp", false, false)]
    #[case::never_itself("*", ".dirsyncignore", false, false)]
    fn patterns_are_gitignores(#[case] text: &str, #[case] path: &str, #[case] is_dir: bool, #[case] ignored: bool) {
        let (ignore, bad) = Ignore::parse(text.as_bytes());
        assert_eq!(bad, []);
        assert_eq!(ignore.ignores(&SyncPath::new(path).unwrap(), is_dir), ignored);
    }

    #[rstest]
    #[case::by_name_anywhere("# objects\n*.o\n", "src/a.o", 2, "*.o", "src/a.o")]
    #[case::by_its_folder("a\ntmp/  \n", "d/tmp/b/c", 2, "tmp/", "d/tmp")]
    #[case::the_last_that_matches("*.o\n!a.o\na.*", "a.o", 3, "a.*", "a.o")]
    #[case::of_two_alike_the_later("*.o\n*.o", "a.o", 2, "*.o", "a.o")]
    fn the_pattern_that_covers_a_path_is_named(
        #[case] text: &str,
        #[case] path: &str,
        #[case] line: u64,
        #[case] pattern: &str,
        #[case] matched: &str,
    ) {
        let (ignore, _) = Ignore::parse(text.as_bytes());
        let matched = SyncPath::new(matched).unwrap();
        let expected = Covering { line, pattern: pattern.to_owned(), matched };
        assert_eq!(ignore.covering(&SyncPath::new(path).unwrap(), false), Some(expected));
        assert_eq!(ignore.covering(&SyncPath::new("other").unwrap(), false), None);
    }

    #[test]
    fn names_that_are_no_text_can_be_matched() {
        let (ignore, _) = Ignore::parse(b"*.bak");
        assert!(ignore.ignores(&SyncPath::new(b"\xff.bak").unwrap(), false));
    }
}
