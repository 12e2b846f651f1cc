//! What users do to files, each with its subject in the panic.
//!
//! Deliberately not here: anything that looks below `.dirsync`, but for reading history.

use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Writes in place: truncate, write, close.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).unwrap_or_else(|e| panic!("mkdir {}: {e}", dir.display()));
    }
    fs::write(path, bytes).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// Saves as careful editors do: a new file beside it, then a rename over it.
pub fn swap_in(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    let mut beside = path.as_os_str().to_owned();
    beside.push(".swap-in");
    write(Path::new(&beside), bytes);
    rename(Path::new(&beside), path);
}

pub fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// What a file holds now, for polling: `None` when it is not there.
pub fn peek(path: impl AsRef<Path>) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    fs::rename(from, to).unwrap_or_else(|e| panic!("mv {} {}: {e}", from.display(), to.display()));
}

/// A file, a link, or a folder with all that is in it.
pub fn remove(path: impl AsRef<Path>) {
    let path = path.as_ref();
    let kind = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
    let done = if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    done.unwrap_or_else(|e| panic!("rm {}: {e}", path.display()));
}

/// `RENAME_EXCHANGE`: each takes the other's place at one instant.
pub fn exchange(a: impl AsRef<Path>, b: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, a.as_ref(), CWD, b.as_ref(), RenameFlags::EXCHANGE)?)
}

/// `RENAME_NOREPLACE`: fails where something is already there.
pub fn place(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from.as_ref(), CWD, to.as_ref(), RenameFlags::NOREPLACE)?)
}

/// Sets the mtime of a file, in seconds since 1970 and nanoseconds.
pub fn set_mtime(path: impl AsRef<Path>, secs: i64, nanos: u32) {
    let path = path.as_ref();
    let time = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|e| panic!("utimensat {}: {e}", path.display()));
}

/// Seconds since 1970.
pub fn now_secs() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    now.as_secs() as i64
}

pub fn chmod(path: impl AsRef<Path>, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let path = path.as_ref();
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
}

/// `chown -R`.
pub fn give_to(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
    if path.is_dir() && !path.is_symlink() {
        for child in fs::read_dir(path).expect("a folder that we own") {
            give_to(&child.expect("an entry").path(), uid, gid);
        }
    }
}

/// `cp -a`.
pub fn copy_tree(from: &Path, to: &Path) {
    run("cp", &["-a", "--", path_text(from), path_text(to)]);
}

/// Runs a command that must succeed; its output is in the panic if it does not.
/// By a process of its own: a child that this one starts meanwhile would hold the copy open for
/// writing, and nobody could run it.
pub fn copy_program(from: &Path, to: &Path) {
    run("cp", &[path_text(from), path_text(to)]);
}

pub fn run(program: &str, args: &[&str]) -> String {
    let out = std::process::Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {}{}", text, String::from_utf8_lossy(&out.stderr));
    text
}

/// The harness's own paths are plain text.
pub fn path_text(path: &Path) -> &str {
    path.to_str().unwrap_or_else(|| panic!("not UTF-8: {:?}", path.as_os_str().as_bytes()))
}
