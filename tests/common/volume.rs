//! A disk of one's own: a file system in a file, mounted by a loop device, whose power can be cut.
//! Needs root.
//!
//! The cut is the file system's own (`XFS_IOC_GOINGDOWN`, which ext4 knows as `EXT4_IOC_SHUTDOWN`),
//! without flushing its log: from that instant nothing reaches the image, and what had not reached
//! it is gone. Deliberately not here: a disk's volatile cache, whose loss needs a device that
//! reorders.

use super::disk::{path_text, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::{NamedTempFile, TempDir};

/// Where images go: memory, where there is some, for their syncs cost nothing there.
const IN_MEMORY: &str = "/dev/shm";

pub struct Volume {
    kind: String,
    image: NamedTempFile,
    mount: TempDir,
}

impl Volume {
    /// A fresh file system of this kind (`ext4`, `xfs` or `btrfs`), mounted.
    pub fn new(kind: &str, mebibytes: u64) -> Self {
        let place = if Path::new(IN_MEMORY).is_dir() { PathBuf::from(IN_MEMORY) } else { std::env::temp_dir() };
        let image = tempfile::Builder::new().prefix("dirsync-disk-").tempfile_in(place).expect("an image file");
        image.as_file().set_len(mebibytes << 20).expect("a sparse file");
        let force = if kind == "ext4" { "-F" } else { "-f" };
        run(&format!("mkfs.{kind}"), &["-q", force, path_text(image.path())]);
        let mount = tempfile::Builder::new().prefix("dirsync-mount-").tempdir().expect("a temporary folder");
        let volume = Self { kind: kind.to_owned(), image, mount };
        volume.mount(&[]);
        volume
    }

    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// A folder on it, made if it is missing.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        fs::create_dir_all(&folder).expect("a folder on the volume");
        folder
    }

    /// The power goes.
    pub fn cut(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", path_text(self.path())]);
    }

    /// The power is back: the log is replayed. All who had files open must be dead.
    pub fn remount(&self) {
        run("umount", &[path_text(self.path())]);
        self.mount(&[]);
    }

    /// Bytes of the image change, from `old` to `new` of the same length: the disk rots below the
    /// file system, which does not know it. `old` must be in the image once.
    pub fn rot(&self, old: &[u8], new: &[u8]) {
        use std::os::unix::fs::FileExt;
        assert_eq!(old.len(), new.len());
        run("sync", &["-f", path_text(self.path())]);
        let image = fs::read(self.image.path()).expect("the image");
        let first = old[0];
        let starts = image.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(at, _)| at);
        let found: Vec<_> = starts.filter(|at| image[*at..].starts_with(old)).collect();
        assert_eq!(found.len(), 1, "these bytes are in the image at {found:?}");
        self.image.as_file().write_all_at(new, found[0] as u64).expect("write the image");
    }

    /// The file (its path below the mount) was changed last in 2020, as far as its inode says. Only
    /// on ext4; nothing may be open on it.
    pub fn age(&self, files: &[&str]) {
        run("umount", &[path_text(self.path())]);
        for file in files {
            for field in ["ctime", "mtime"] {
                let set = format!("set_inode_field /{file} {field} 20200101000000");
                run("debugfs", &["-w", "-R", &set, path_text(self.image.path())]);
            }
        }
        self.mount(&[]);
    }

    /// `mount -o remount,...`
    pub fn set(&self, option: &str) {
        run("mount", &["-o", &format!("remount,{option}"), path_text(self.path())]);
    }

    fn mount(&self, more: &[&str]) {
        let own = ["-t", &self.kind, "-o", "loop", path_text(self.image.path()), path_text(self.path())];
        run("mount", &[more, &own].concat());
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// A small disk in memory, mounted over a folder; it can be made larger.
pub struct Small(PathBuf);

impl Small {
    pub fn new(over: &Path, kibibytes: u64) -> Self {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={kibibytes}k,mode=0700"), "none", path_text(over)]);
        Self(over.to_owned())
    }

    pub fn resize(&self, kibibytes: u64) {
        run("mount", &["-o", &format!("remount,size={kibibytes}k"), path_text(&self.0)]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A disk whose file system keeps less than Linux's own do, mounted by FUSE from a file.
pub struct Lesser {
    device: String,
    mount: TempDir,
    _image: NamedTempFile,
}

impl Lesser {
    /// NTFS, which is mounted without a map of users: everything may be done by everyone.
    pub fn ntfs() -> Self {
        Self::new(&["mkntfs", "-qF"], &["ntfs-3g"])
    }

    /// exFAT: no permissions, no sockets, no links, and no two names that differ in case.
    pub fn exfat() -> Self {
        Self::new(&["mkfs.exfat"], &["mount.exfat-fuse"])
    }

    fn new(make: &[&str], mount_by: &[&str]) -> Self {
        let place = if Path::new(IN_MEMORY).is_dir() { PathBuf::from(IN_MEMORY) } else { std::env::temp_dir() };
        let image = tempfile::Builder::new().prefix("dirsync-disk-").tempfile_in(place).expect("an image file");
        image.as_file().set_len(64 << 20).expect("a sparse file");
        let attached = Command::new("losetup").args(["-f", "--show"]).arg(image.path()).output().expect("losetup");
        assert!(attached.status.success(), "losetup: {attached:?}");
        let device = String::from_utf8_lossy(&attached.stdout).trim().to_owned();
        run(make[0], &[&make[1..], &[&device]].concat());
        let mount = tempfile::Builder::new().prefix("dirsync-mount-").tempdir().expect("a temporary folder");
        run(mount_by[0], &[&mount_by[1..], &[&device, path_text(mount.path())]].concat());
        Self { device, mount, _image: image }
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.mount.path().join(name);
        fs::create_dir_all(&folder).expect("a folder on the disk");
        folder
    }
}

impl Drop for Lesser {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mount.path()).output();
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}
