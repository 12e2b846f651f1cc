//! What would happen if this folder met the group's: a plain function of what is here, what the
//! group has, and the rules that merge them.
//!
//! Everything here counts as found by a first scan. Deliberately not here: how either side is found
//! out, and how the answer is shown.

use crate::engine::limits::PREVIEW_EXAMPLES;
use crate::engine::merge::{ObservationSource, stamp};
use crate::engine::{Stat, StatKind};
use crate::model::{ContentId, Entry, Kind, SyncPath};
use std::collections::BTreeMap;

/// Something in this folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundHere {
    pub stat: Stat,
    /// Of a symbolic link.
    pub target: Option<Vec<u8>>,
}

/// How many files and links, how large, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviewTally {
    pub files: u64,
    pub bytes: u64,
    pub examples: Vec<SyncPath>,
}

impl PreviewTally {
    fn add(&mut self, path: &SyncPath, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
        if self.examples.len() < PREVIEW_EXAMPLES {
            self.examples.push(path.clone());
        }
    }
}

/// What joining would do, by what becomes of each path that is no folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// Only the group has it: it comes here.
    pub comes: PreviewTally,
    /// Only this machine has it: it goes to the group.
    pub goes: PreviewTally,
    /// Both have one and the same.
    pub same: PreviewTally,
    /// They differ and the group's is newer: this machine's is kept in history. Bytes are of what
    /// comes.
    pub replaced_here: PreviewTally,
    /// They differ and this machine's is newer: the group's is kept in history there.
    pub replaced_there: PreviewTally,
    /// The group has deleted it since: it is kept in history here.
    pub deleted_here: PreviewTally,
}

impl Preview {
    pub fn conflicts(&self) -> u64 {
        self.replaced_here.files + self.replaced_there.files
    }
}

/// The files whose contents must be known: of the size that the group's has.
pub fn to_be_hashed(here: &BTreeMap<SyncPath, FoundHere>, group: &BTreeMap<SyncPath, Entry>) -> Vec<SyncPath> {
    let is_alike = |path: &SyncPath, found: &FoundHere| {
        let theirs = group.get(path).and_then(Entry::file);
        found.stat.kind == StatKind::File && theirs.is_some_and(|(_, size)| size == found.stat.size)
    };
    here.iter().filter(|(path, found)| is_alike(path, found)).map(|(path, _)| path.clone()).collect()
}

/// `contents`: of the files that were to be hashed; one that is missing differs. `now`: nanoseconds
/// since 1970.
pub fn preview(
    here: &BTreeMap<SyncPath, FoundHere>,
    contents: &BTreeMap<SyncPath, ContentId>,
    group: &BTreeMap<SyncPath, Entry>,
    now: u64,
) -> Preview {
    let mut preview = Preview::default();
    for (path, theirs) in group {
        let size = theirs.file().map_or(0, |(_, size)| size);
        match here.get(path) {
            None if theirs.is_live() && theirs.kind != Kind::Directory => preview.comes.add(path, size),
            None => {}
            Some(found) => {
                let is_full = |is: StatKind| is == StatKind::Directory;
                let filled = Filled {
                    here: is_full(found.stat.kind) && below(here, path).next().is_some(),
                    there: theirs.kind == Kind::Directory && below(group, path).any(|(_, entry)| entry.is_live()),
                };
                preview.both(path, (found, contents.get(path)), theirs, filled, now);
            }
        }
    }
    let is_new = |(path, found): &(&SyncPath, &FoundHere)| !group.contains_key(*path) && is_synced(found);
    for (path, found) in here.iter().filter(is_new) {
        preview.goes.add(path, found.stat.size);
    }
    preview
}

impl Preview {
    fn both(
        &mut self,
        path: &SyncPath,
        (found, content): (&FoundHere, Option<&ContentId>),
        theirs: &Entry,
        filled: Filled,
        now: u64,
    ) {
        let is_folder_there = theirs.kind == Kind::Directory;
        if !is_synced(found) && (is_folder_there || !theirs.is_live()) {
            return;
        }
        let size = theirs.file().map_or(0, |(_, size)| size);
        let ours = stamp(ObservationSource::First, now, 0, &found.stat, None);
        if is_same(found, content, theirs) {
            self.same.add(path, size);
        } else if filled.there {
            // A folder with something in it stays, and the file is kept.
            self.replaced_here.add(path, size);
        } else if filled.here {
            self.replaced_there.add(path, size);
        } else if !theirs.is_live() {
            let tally = if ours > theirs.version.stamp { &mut self.goes } else { &mut self.deleted_here };
            tally.add(path, found.stat.size);
        } else if ours > theirs.version.stamp {
            self.replaced_there.add(path, found.stat.size);
        } else {
            self.replaced_here.add(path, size);
        }
    }
}

/// Which side has a folder there with something in it.
#[derive(Clone, Copy)]
struct Filled {
    here: bool,
    there: bool,
}

/// What a folder holds.
fn below<'a, T>(tree: &'a BTreeMap<SyncPath, T>, folder: &'a SyncPath) -> impl Iterator<Item = (&'a SyncPath, &'a T)> {
    // `/` is less than any byte that may follow a name in a path below it, but not than all that
    // may follow the folder's own name.
    let after = tree.range(folder.clone()..).skip(1);
    after
        .take_while(|(path, _)| path.as_bytes().starts_with(folder.as_bytes()))
        .filter(|(path, _)| path.is_below(folder))
}

/// Folders are made on the way, and are not counted; special files are left alone.
fn is_synced(found: &FoundHere) -> bool {
    matches!(found.stat.kind, StatKind::File | StatKind::Symlink)
}

fn is_same(found: &FoundHere, content: Option<&ContentId>, theirs: &Entry) -> bool {
    match &theirs.kind {
        Kind::File { content: known, .. } => found.stat.kind == StatKind::File && content == Some(known),
        Kind::Symlink { target } => found.target.as_ref() == Some(target),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, FileTime, Mode, Version, VersionVector};

    const NOW: u64 = 1_000_000_000_000;

    fn path(name: &str) -> SyncPath {
        SyncPath::new(name).unwrap()
    }

    fn found(kind: StatKind, size: u64, secs: i64) -> FoundHere {
        let mtime = FileTime { secs, nanos: 0 };
        FoundHere { stat: Stat { kind, size, mtime, ctime: mtime, ino: 1, mode: Mode::of(0o644) }, target: None }
    }

    fn entry(kind: Kind, secs: u64) -> Entry {
        let version =
            Version { stamp: secs * 1_000_000_000, author: DeviceId([1; 32]), seen: VersionVector::default() };
        Entry { kind, mode: Mode::NONE, mtime: FileTime::default(), version }
    }

    fn file(text: &str, secs: u64) -> Entry {
        entry(Kind::File { size: text.len() as u64, content: ContentId::of(text.as_bytes()) }, secs)
    }

    /// A path that has this here, with this content, and that in the group.
    fn one(here: Option<FoundHere>, content: Option<&str>, group: Option<Entry>) -> Preview {
        let here = here.map(|found| (path("f"), found)).into_iter().collect();
        let contents = content.map(|text| (path("f"), ContentId::of(text.as_bytes()))).into_iter().collect();
        preview(&here, &contents, &group.map(|entry| (path("f"), entry)).into_iter().collect(), NOW)
    }

    fn tally(bytes: u64) -> PreviewTally {
        PreviewTally { files: 1, bytes, examples: vec![path("f")] }
    }

    #[test]
    fn what_becomes_of_a_path_follows_from_both_sides() {
        let here = |size, secs| Some(found(StatKind::File, size, secs));
        let none = Preview::default();
        let cases = [
            ("only there", one(None, None, Some(file("abc", 5))), Preview { comes: tally(3), ..none.clone() }),
            ("only here", one(here(7, 5), None, None), Preview { goes: tally(7), ..none.clone() }),
            (
                "the same",
                one(here(3, 9), Some("abc"), Some(file("abc", 5))),
                Preview { same: tally(3), ..none.clone() },
            ),
            (
                "theirs is newer",
                one(here(3, 4), Some("xyz"), Some(file("abc", 5))),
                Preview { replaced_here: tally(3), ..none.clone() },
            ),
            (
                "ours is newer",
                one(here(9, 6), None, Some(file("abc", 5))),
                Preview { replaced_there: tally(9), ..none.clone() },
            ),
            (
                "ours is from the future",
                one(here(9, 5_000), None, Some(file("abc", 5))),
                Preview { replaced_here: tally(3), ..none.clone() },
            ),
            (
                "they deleted it since",
                one(here(9, 4), None, Some(entry(Kind::Deleted { at: 5 }, 5))),
                Preview { deleted_here: tally(9), ..none.clone() },
            ),
            (
                "it was edited after they deleted it",
                one(here(9, 6), None, Some(entry(Kind::Deleted { at: 5 }, 5))),
                Preview { goes: tally(9), ..none.clone() },
            ),
            ("deleted and not here", one(None, None, Some(entry(Kind::Deleted { at: 5 }, 5))), none.clone()),
            (
                "a folder on both sides",
                one(Some(found(StatKind::Directory, 0, 4)), None, Some(entry(Kind::Directory, 5))),
                none.clone(),
            ),
            ("a special file", one(Some(found(StatKind::Other, 0, 4)), None, None), none.clone()),
            (
                "a newer file where they have an empty folder",
                one(here(9, 6), None, Some(entry(Kind::Directory, 5))),
                Preview { replaced_there: tally(9), ..none.clone() },
            ),
        ];
        for (case, is, should) in cases {
            assert_eq!(is, should, "{case}");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_stays_whatever_is_newer() {
        let file_here = BTreeMap::from([(path("f"), found(StatKind::File, 9, 9))]);
        let theirs = BTreeMap::from([
            (path("f"), entry(Kind::Directory, 5)),
            (path("f-other"), file("abc", 5)),
            (path("f/in"), file("abc", 5)),
        ]);
        let is = preview(&file_here, &BTreeMap::new(), &theirs, NOW);
        assert_eq!((is.replaced_here.files, is.replaced_there.files, is.comes.files), (1, 0, 2));
        let here = BTreeMap::from([
            (path("f"), found(StatKind::Directory, 0, 1)),
            (path("f.txt"), found(StatKind::File, 1, 1)),
            (path("f/in"), found(StatKind::File, 1, 1)),
        ]);
        let is = preview(&here, &BTreeMap::new(), &BTreeMap::from([(path("f"), file("abc", 5))]), NOW);
        assert_eq!((is.replaced_here.files, is.replaced_there.files, is.goes.files), (0, 1, 2));
    }

    #[test]
    fn links_are_the_same_with_one_target() {
        let link = |target: &[u8]| FoundHere { target: Some(target.to_vec()), ..found(StatKind::Symlink, 1, 4) };
        let theirs = || Some(entry(Kind::Symlink { target: b"a".to_vec() }, 5));
        assert_eq!(one(Some(link(b"a")), None, theirs()).same.files, 1);
        assert_eq!(one(Some(link(b"b")), None, theirs()).replaced_here.files, 1);
    }

    #[test]
    fn only_files_of_one_size_are_hashed_and_few_are_named() {
        let here: BTreeMap<_, _> =
            (0..9).map(|n| (path(&format!("{n}")), found(StatKind::File, n % 2 + 3, 4))).collect();
        let group: BTreeMap<_, _> = here.keys().map(|path| (path.clone(), file("abc", 5))).collect();
        assert_eq!(to_be_hashed(&here, &group).len(), 5);
        let preview = preview(&here, &BTreeMap::new(), &group, NOW);
        assert_eq!((preview.replaced_here.files, preview.replaced_here.examples.len()), (9, PREVIEW_EXAMPLES));
        assert_eq!(preview.conflicts(), 9);
    }
}
