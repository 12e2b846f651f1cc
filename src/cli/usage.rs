//! `dirsync du`: how much is in a folder and in those below it, as the group has them.
//!
//! Deliberately not here: what it takes on the disk, where a file may have holes and a block is
//! used up by a byte.

use super::{Failure, list, say, show};
use crate::client::Client;
use crate::humanize::{bytes, count, counted};
use crate::views::status::EntryView;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What is in one folder, at any depth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct FolderSize {
    path: String,
    bytes: u64,
    files: u64,
}

#[derive(Serialize)]
struct FolderSizes {
    /// Null: of all.
    path: Option<String>,
    bytes: u64,
    files: u64,
    folders: u64,
    /// Of that, not on this disk.
    to_come_bytes: u64,
    to_come_files: u64,
    below: Vec<FolderSize>,
}

pub(super) async fn usage(client: &mut Client, json: bool, path: Option<String>, depth: usize) -> Result<(), Failure> {
    let mut sizes = FolderSizes {
        path: path.clone(),
        bytes: 0,
        files: 0,
        folders: 0,
        to_come_bytes: 0,
        to_come_files: 0,
        below: Vec::new(),
    };
    let mut below = BTreeMap::new();
    let mut is_any = path.is_none();
    list::each(client, path.as_deref(), |entry| {
        is_any = true;
        sizes.add(&entry);
        for folder in folders_of(&entry, path.as_deref(), depth) {
            let one: &mut FolderSize = below.entry(folder.to_owned()).or_default();
            one.bytes += if entry.kind == "file" { entry.size } else { 0 };
            one.files += u64::from(entry.kind == "file");
        }
    })
    .await?;
    if !is_any {
        let path = path.unwrap_or_default();
        return Err(Failure::Nothing(format!("there is no '{path}'; 'dirsync why' may know more of it")));
    }
    sizes.below = below.into_iter().map(|(path, size)| FolderSize { path, ..size }).collect();
    sizes.below.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    say(json, &sizes, text)
}

impl FolderSizes {
    fn add(&mut self, entry: &EntryView) {
        let is_itself = self.path.as_deref() == Some(&*entry.path);
        match entry.kind.as_str() {
            "file" => {
                self.bytes += entry.size;
                self.files += 1;
                self.to_come_bytes += if entry.here { 0 } else { entry.size };
                self.to_come_files += u64::from(!entry.here);
            }
            "directory" if !is_itself => self.folders += 1,
            _ => {}
        }
    }
}

/// The folders below `path` that an entry is or lies in, down to `depth`.
fn folders_of<'a>(entry: &'a EntryView, path: Option<&str>, depth: usize) -> impl Iterator<Item = &'a str> {
    let start = path.map_or(0, |path| path.len() + 1).min(entry.path.len());
    let whole = entry.path.as_str();
    let ends = whole[start..].match_indices('/').map(move |(at, _)| start + at);
    let own = (entry.kind == "directory" && start < whole.len()).then_some(whole.len());
    ends.chain(own).take(depth).map(move |end| &whole[..end])
}

fn text(sizes: &FolderSizes) -> String {
    let row = |size: u64, files: u64, path: &str| {
        vec![format!("{:>10}", bytes(size)), format!("{:>9}", count(files)), path.to_owned()]
    };
    let mut rows: Vec<_> = sizes.below.iter().map(|one| row(one.bytes, one.files, &format!("{}/", one.path))).collect();
    rows.push(row(sizes.bytes, sizes.files, sizes.path.as_deref().unwrap_or(".")));
    let mut out = show::table(&rows);
    if sizes.to_come_files > 0 {
        let files = counted(sizes.to_come_files, "file is", "files are");
        let _ = writeln!(out, "of that, {files} not on this disk ({})", bytes(sizes.to_come_bytes));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    #[test]
    fn an_entry_counts_for_the_folders_it_lies_in() {
        let entry = |path: &str, kind: &str| EntryView {
            path: path.to_owned(),
            kind: kind.to_owned(),
            size: 1,
            mode: String::new(),
            mtime_ns: String::new(),
            stamp_ns: String::new(),
            author: DeviceId([0; 32]),
            content: None,
            target: None,
            here: true,
            local: false,
            not_installed: false,
        };
        let of = |path: &str, kind: &str, below: Option<&str>, depth| {
            folders_of(&entry(path, kind), below, depth).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("f", "file", None, 1), "");
        assert_eq!(of("a/b/f", "file", None, 1), "a");
        assert_eq!(of("a/b/f", "file", None, 5), "a a/b");
        assert_eq!(of("a/b", "directory", None, 5), "a a/b");
        assert_eq!(of("a/b/c/f", "file", Some("a/b"), 1), "a/b/c");
        assert_eq!(of("a/b", "directory", Some("a/b"), 1), "", "itself");
        assert_eq!(of("a/b", "file", Some("a/b"), 1), "");
    }
}
