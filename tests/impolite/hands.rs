//! A user's hands at one machine: the plain ways of writing, moving and deleting. Whatever is done
//! away with is inspected first.
//!
//! A daemon may change any path at any moment, so every step here works on what it holds: a
//! descriptor, or a file that it renamed out of the folder. Deliberately not here: editors
//! (`editors`) and programs (`tools`).

use crate::common::disk::{chmod, exchange, place, set_mtime};
use crate::common::{Machine, noise};
use crate::ledger::{Ledger, Taken};
use crate::script::{Act, Way};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The daemon promises to keep what is written into a replaced file within 5 s; whoever held it for
/// less is owed that.
const HELD: Duration = Duration::from_secs(4);

pub struct Hands {
    pub who: String,
    pub folder: PathBuf,
    pub scratch: PathBuf,
    held: VecDeque<Held>,
}

struct Held {
    file: File,
    path: String,
    since: Instant,
}

impl Hands {
    pub fn new(machine: &Machine) -> Self {
        let scratch = machine.home.join("scratch");
        fs::create_dir_all(&scratch).expect("a folder beside the synced one");
        Self { who: machine.name.clone(), folder: machine.dir.clone(), scratch, held: VecDeque::new() }
    }

    pub fn act(&mut self, act: &Act, ledger: &mut Ledger) {
        let bytes = value(act);
        match act.way {
            Way::Swap => self.swap(&act.path, &bytes, ledger),
            Way::Delete => self.delete(&act.path, ledger),
            Way::InPlace => self.in_place(&act.path, &bytes, ledger),
            Way::Append => self.append(&act.path, &bytes, ledger),
            Way::Hold => self.hold(&act.path),
            Way::Release => self.release(&bytes, ledger),
            Way::Vim => self.vim(&act.path, &bytes, ledger),
            Way::Emacs => self.emacs(&act.path, &bytes, act.id, ledger),
            Way::Office => self.office(&act.path, &bytes, act.id, ledger),
            Way::Move => self.move_file(&act.path, &format!("d{}/f{}", act.id % 3, act.id % 4), ledger),
            Way::MoveFolder => self.move_folder(folder_of(&act.path), &format!("moved-{}", act.id), ledger),
            Way::MoveIn => self.move_in(&format!("in-{}", act.id), &bytes, ledger),
            Way::RemoveFolder => self.remove_folder(folder_of(&act.path), ledger),
            Way::Touch => {
                self.change(&act.path, ledger, |path| set_mtime(path, 1_000_000_000 + act.id as i64, 7));
            }
            Way::Chmod => {
                self.change(&act.path, ledger, |path| chmod(path, [0o600, 0o640, 0o755][act.id as usize % 3]));
            }
            Way::Link => drop(std::os::unix::fs::symlink("f0", self.at(&format!("link-{}", act.id)))),
            Way::Rsync => self.rsync(&bytes, ledger),
            Way::Tar => self.tar(&bytes, ledger),
            Way::Git => self.git(&bytes),
        }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub fn make_parent(&self, path: &str) {
        let _ = fs::create_dir_all(self.at(path).parent().expect("it is below the folder"));
    }

    /// Puts `bytes` at a path, and looks at what was there.
    pub fn swap(&mut self, path: &str, bytes: &[u8], ledger: &mut Ledger) {
        let next = self.scratch.join("next");
        fs::write(&next, bytes).expect("our own scratch");
        self.put(&next, path, bytes, ledger);
    }

    /// The path may come and go under our hands: whichever succeeds of exchanging and placing.
    pub fn put(&self, next: &Path, path: &str, bytes: &[u8], ledger: &mut Ledger) {
        for _ in 0..100 {
            self.make_parent(path);
            if exchange(next, self.at(path)).is_ok() {
                look_and_drop(next, path, Taken::Replaced, ledger);
                return ledger.wrote(bytes, path, &self.who);
            }
            if place(next, self.at(path)).is_ok() {
                return ledger.wrote(bytes, path, &self.who);
            }
        }
        panic!("{path} at {} can neither be replaced nor made", self.who);
    }

    /// Moves it out of the folder first, so that what goes is what was checked.
    pub fn delete(&self, path: &str, ledger: &mut Ledger) {
        let out = self.scratch.join("deleted");
        if fs::rename(self.at(path), &out).is_ok() {
            look_and_drop(&out, path, Taken::Removed, ledger);
        }
    }

    pub fn in_place(&mut self, path: &str, bytes: &[u8], ledger: &mut Ledger) {
        self.make_parent(path);
        // A folder that another machine removes at this moment is a user's bad luck.
        let Ok(file) = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.at(path))
        else {
            return;
        };
        self.rewrite(Held { file, path: path.to_owned(), since: Instant::now() }, bytes, ledger);
    }

    /// Through the descriptor: wherever the file is by now.
    fn rewrite(&self, held: Held, bytes: &[u8], ledger: &mut Ledger) {
        let Held { mut file, path, since } = held;
        let path = self.path_now(&file).unwrap_or(path);
        let mut old = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut old)).expect("an open file");
        file.seek(SeekFrom::Start(0)).and_then(|_| file.set_len(0)).expect("an open file");
        let half = bytes.len() / 2;
        ledger.passed(&bytes[..half]);
        ledger.passed(b"");
        file.write_all(&bytes[..half]).and_then(|()| file.write_all(&bytes[half..])).expect("an open file");
        ledger.did_away(&old, &path, Taken::Replaced);
        // A file that has no name any more is nobody's.
        if since.elapsed() < HELD && file.metadata().expect("an open file").nlink() > 0 {
            ledger.wrote(bytes, &path, &self.who);
        } else {
            ledger.wrote_late(bytes, &path);
        }
    }

    /// Where an open file is, if it is in the folder still: its user may have moved it while
    /// holding it.
    fn path_now(&self, file: &File) -> Option<String> {
        let at = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let path = at.strip_prefix(&self.folder).ok()?.to_str()?;
        (!path.starts_with(".dirsync/") && self.at(path).exists()).then(|| path.to_owned())
    }

    fn append(&mut self, path: &str, bytes: &[u8], ledger: &mut Ledger) {
        self.make_parent(path);
        let Ok(mut file) = OpenOptions::new().read(true).append(true).create(true).open(self.at(path)) else { return };
        let mut old = Vec::new();
        file.read_to_end(&mut old).expect("an open file");
        file.write_all(bytes).expect("an open file");
        ledger.did_away(&old, path, Taken::Replaced);
        ledger.passed(b"");
        let all = [&old, bytes].concat();
        ledger.wrote(&all, path, &self.who);
    }

    fn hold(&mut self, path: &str) {
        if let Ok(file) = OpenOptions::new().read(true).write(true).open(self.at(path)) {
            self.held.push_back(Held { file, path: path.to_owned(), since: Instant::now() });
        }
    }

    fn release(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        if let Some(held) = self.held.pop_front() {
            self.rewrite(held, bytes, ledger);
        }
    }

    pub fn move_file(&self, from: &str, to: &str, ledger: &mut Ledger) {
        self.make_parent(to);
        let Ok(mut file) = File::open(self.at(from)) else { return };
        let before = file.metadata().expect("an open file").ino();
        if place(self.at(from), self.at(to)).is_err() {
            return;
        }
        let after = fs::symlink_metadata(self.at(to)).map(|meta| meta.ino());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("an open file");
        if after.is_ok_and(|after| after == before) {
            return ledger.moved(&bytes, from, to);
        }
        // The daemon changed one of the two in between: what was moved is what is there, or it is
        // in history.
        if let Ok(bytes) = fs::read(self.at(to)) {
            ledger.moved(&bytes, from, to);
        }
    }

    fn move_folder(&self, from: &str, to: &str, ledger: &mut Ledger) {
        if place(self.at(from), self.at(to)).is_ok() {
            look_below(&self.at(to), from, &mut |bytes, path| {
                ledger.moved(bytes, path, &path.replacen(from, to, 1));
            });
        }
    }

    fn move_in(&self, name: &str, bytes: &[u8], ledger: &mut Ledger) {
        let made = self.scratch.join("made");
        for n in 0..6 {
            let (path, bytes) = (format!("deep/{n}/f"), numbered(bytes, n));
            fs::create_dir_all(made.join(&path).parent().expect("it has one")).expect("our own scratch");
            fs::write(made.join(&path), &bytes).expect("our own scratch");
            ledger.wrote(&bytes, &format!("{name}/{path}"), &self.who);
        }
        place(&made, self.at(name)).expect("a name of our own");
    }

    fn remove_folder(&self, folder: &str, ledger: &mut Ledger) {
        let out = self.scratch.join("removed");
        if fs::rename(self.at(folder), &out).is_ok() {
            look_and_drop(&out, folder, Taken::Removed, ledger);
        }
    }

    /// Changes what the stat of a file says, if it is there.
    fn change(&self, path: &str, ledger: &mut Ledger, change: impl FnOnce(&Path)) {
        let Ok(mut file) = File::open(self.at(path)) else { return };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("an open file");
        // By the descriptor: the name may go at this moment.
        change(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())));
        ledger.touched(&bytes, path);
    }
}

/// What came out of the folder.
fn look_and_drop(out: &Path, path: &str, how: Taken, ledger: &mut Ledger) {
    let meta = fs::symlink_metadata(out).expect("it came out");
    if meta.is_dir() {
        look_below(out, path, &mut |bytes, path| ledger.did_away(bytes, path, how));
        fs::remove_dir_all(out).expect("our own scratch");
    } else {
        if meta.is_file() {
            ledger.did_away(&fs::read(out).expect("what came out"), path, how);
        }
        fs::remove_file(out).expect("our own scratch");
    }
}

/// Every file below a folder, with what its path is (or was) below the synced one.
fn look_below(folder: &Path, path: &str, see: &mut dyn FnMut(&[u8], &str)) {
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = format!("{path}/{}", child.file_name().to_string_lossy());
        let Ok(kind) = child.file_type() else { continue };
        if kind.is_dir() {
            look_below(&child.path(), &path, see);
        } else if let (true, Ok(bytes)) = (kind.is_file(), fs::read(child.path())) {
            see(&bytes, &path);
        }
    }
}

/// Unique by the step's number.
fn value(act: &Act) -> Vec<u8> {
    let mut bytes = format!("{} {}\n", act.id, act.len).into_bytes();
    bytes.extend(noise(act.id, act.len));
    bytes
}

/// One of several values that one step writes.
pub fn numbered(bytes: &[u8], n: u64) -> Vec<u8> {
    [format!("{n} of ").as_bytes(), bytes].concat()
}

fn folder_of(path: &str) -> &str {
    path.split('/').next().expect("a path has a first name")
}
