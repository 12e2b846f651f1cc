//! What a state directory remembers of the folder that it belongs to, so that the folder is found
//! again after a move.
//!
//! Values and their text form. Deliberately not here: reading and writing it.

use super::text;

/// A folder by what a rename leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderId {
    pub inode: u64,
    /// `st_dev`: may be another one after a restart of the machine.
    pub device: u64,
    /// `f_fsid`: may be 0.
    pub file_system: u64,
}

impl FolderId {
    /// The same inode on the same file system.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_id = self.file_system != 0 && self.file_system == other.file_system;
        self.inode == other.inode && (self.device == other.device || same_id)
    }
}

/// The folder as it was at the last start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRecord {
    /// Absolute.
    pub path: Vec<u8>,
    pub id: FolderId,
    /// The nonces that its marker may hold.
    pub markers: Vec<String>,
}

impl FolderRecord {
    pub fn to_text(&self) -> String {
        let FolderRecord { path, id, markers } = self;
        let FolderId { inode, device, file_system } = id;
        format!("{}\n{inode} {device} {file_system}\n{}\n", text::escape(path), markers.join(" "))
    }

    /// `None`: no such text.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let path = text::unescape(lines.next()?)?;
        let numbers: Vec<u64> = lines.next()?.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [inode, device, file_system] = numbers[..] else { return None };
        let markers = lines.next()?.split(' ').filter(|nonce| !nonce.is_empty()).map(ToOwned::to_owned).collect();
        Some(Self { path, id: FolderId { inode, device, file_system }, markers })
    }

    /// Whether a folder of this id and marker is the one, whatever its name is now.
    pub fn is_of(&self, id: &FolderId, marker: Option<&str>) -> bool {
        self.id.is_same(id) && marker.is_some_and(|marker| self.markers.iter().any(|nonce| nonce == marker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FolderId = FolderId { inode: 7, device: 8, file_system: 9 };

    #[test]
    fn a_record_round_trips_and_what_is_none_is_refused() {
        let record =
            FolderRecord { path: b"/srv/a\nb\xff".to_vec(), id: ID, markers: vec!["new".into(), "old".into()] };
        assert_eq!(FolderRecord::from_text(&record.to_text()), Some(record.clone()));
        let bare = FolderRecord { markers: Vec::new(), ..record };
        assert_eq!(FolderRecord::from_text(&bare.to_text()), Some(bare));
        for bad in ["", "/srv", "/srv\n1 2\nx\n", "/srv\n1 2 x\n\n", "\\\n1 2 3\n\n"] {
            assert_eq!(FolderRecord::from_text(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_folder_is_known_by_its_inode_its_file_system_and_its_marker() {
        let record = FolderRecord { path: b"/srv".to_vec(), id: ID, markers: vec!["new".into(), "old".into()] };
        for (case, id, marker, expected) in [
            ("renamed", ID, Some("new"), true),
            ("after a restart", FolderId { device: 1, ..ID }, Some("old"), true),
            ("a file system without an id", FolderId { file_system: 0, ..ID }, Some("new"), true),
            ("a copy on the same disk", FolderId { inode: 70, ..ID }, Some("new"), false),
            ("another disk", FolderId { device: 1, file_system: 2, ..ID }, Some("new"), false),
            ("an inode that was used again", ID, Some("other"), false),
            ("no marker", ID, None, false),
        ] {
            assert_eq!(record.is_of(&id, marker), expected, "{case}");
        }
    }
}
